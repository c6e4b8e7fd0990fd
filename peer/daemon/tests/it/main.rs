//! The real `meshnode` on real folders: what a person sees of one machine's daemon.
//!
//! Needs no root. Where the system gives no network interface (no /dev/net/tun, no user namespaces)
//! a daemon cannot start, and the tests fail saying so.

mod daemon;
mod node;
