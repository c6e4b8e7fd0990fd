//! Peers that lie, forge and flood.
