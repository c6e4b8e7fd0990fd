//! Runs instances on this machine: software as unpacked trees, shims, sandboxes, meters, logs.
//!
//! Touches the operating system and decides nothing about orders. What is to be done comes as
//! [`mesh_compute::step::Step`]; what happened goes back as [`mesh_compute::step::Event`]. What is
//! known after a restart is read from the instance folders and the living shims, never remembered.
//!
//! | room | idea |
//! |---|---|
//! | [`drivers`] | the door: runs steps, adopts what lives, hands over network descriptors |
//! | [`software`] | a recipe's tree and prepared data, made once and kept by digest |
//! | [`shim`] | the small process that owns one instance and outlives the daemon |
//! | [`tun`] | the network interface inside |
//! | [`error`] | why something could not be done |
//! | `apt` | Debian packages by extraction, with folders of our own |
//! | `tree` | lawful modes, digest of a tree |
//! | `files` | copying, removing, measuring folders; writing a file whole |
//! | `slot` | the folder of one instance |
//! | `spare` | copies of prepared data made beforehand |
//! | `remains` | what is left of a run whose keepers were killed |
//! | `remote` | a living shim as the daemon sees it |
//! | `link` | sockets that carry those words and descriptors |
//! | `sandbox` | namespaces, mounts, identity, no way back |
//! | `inside` | the first process inside: starts, reaps, checks |
//! | `cgroup` | limits, where the system lets us set them |
//! | `usage` | processor time and memory of everything inside |
//! | `log` | what the instance printed, bounded |
//! | `process` | the walls of an instance without namespaces |
//! | `folders` | what a path of such an instance leads to |
//! | `warden` | sockets and signals of such an instance, by its shim |
//! | `heap` | keeps proot from making memory maps out of brk(2) |
//! | `kin` | who descends from whom, and the end of all of them |
//! | `wall` | no file but those below the instance's root, whoever its user is outside |
//! | `seccomp` | system calls that no service needs |
//! | `sys` | the few system calls that need `unsafe` |

pub mod drivers;
pub mod error;
pub mod shim;
pub mod software;
pub mod tun;

mod apt;
mod cgroup;
mod files;
mod folders;
mod heap;
mod inside;
mod kin;
mod link;
mod log;
mod process;
mod remains;
mod remote;
mod sandbox;
mod seccomp;
mod slot;
mod spare;
mod sys;
mod tree;
mod usage;
mod wall;
mod warden;
