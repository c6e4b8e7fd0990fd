//! `meshnode`: this machine's daemon and the commands about it.
//!
//! One shell around the pure `Node` of `mesh_peer`: it waits, hands inputs in, does what comes out.
//! Every decision about the mesh is made in the pure crates; here live sockets, files, clocks,
//! threads and processes.
//!
//! | room | idea |
//! |---|---|
//! | `command` | the command line, one file a command |
//! | `runtime` | the running daemon: start, loop, end |
//! | `names` | the names of the mesh, for programs of this machine |
//! | `proxy` | SOCKS and HTTP proxies, for programs of this machine |
//! | `reach` | ports of the home's router that lead here |
//! | `swarm` | the control network: gate, lanes, join door |
//! | `journal`, `index` | the only copy of the truth on disk; what may be deleted beside it |
//! | `api`, `ask` | the local API's two sides |
//! | `home`, `keys`, `config`, `ports`, `catalog`, `remember` | what stands in a node's folder |
//! | `machine`, `underlay`, `clock`, `memory` | what the machine is and has |
//! | `logging`, `notify`, `failure` | talking to people and to systemd |
//!
//! A library, so that a test can link the swarm and be a node that misbehaves; the program is
//! `main`.

use std::process::ExitCode;

use mesh_dataplane::netns::HELPER_ARGUMENT;
use mesh_drivers::shim::SHIM;

mod api;
mod ask;
mod catalog;
mod clock;
mod command;
mod config;
mod failure;
mod home;
mod index;
mod journal;
pub mod keys;
mod logging;
mod machine;
mod memory;
mod names;
mod notify;
mod ports;
mod proxy;
mod qr;
mod reach;
mod remember;
mod runtime;
pub mod swarm;
mod underlay;

/// Runs the program: a helper process of ours, or a command of its user's.
pub fn main() -> ExitCode {
    // The helpers unshare namespaces, which only a process with one thread may: before anything
    // else.
    let first = std::env::args_os().nth(1);
    match first.as_ref().and_then(|first| first.to_str()) {
        Some(HELPER_ARGUMENT) => mesh_dataplane::netns::helper_main(),
        Some(SHIM) => mesh_drivers::shim::shim_main(std::env::args_os().skip(2).collect()),
        _ => {
            memory::give_back();
            command::run()
        }
    }
}
