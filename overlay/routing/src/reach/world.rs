//! Two sides of a pair behind modelled routers, joined by a relay.
