//! Every place where bytes of somebody else become values, as functions that a fuzzer can call.
//!
//! ```text
//!   corpus/NAME/*  ─► mutator ─► TARGETS[NAME].run ─► Read, or Refused     a panic is a defect
//!        ▲                              ▲
//!   lawful values, inputs that failed   └── fuzz_targets/NAME.rs (libFuzzer, by cargo-fuzz)
//! ```
//! Decides what each decoder is called with and what must hold for what it has read: that it is
//! written the same way again, that it can be asked what the house asks it. Leaves running,
//! counting of memory and keeping of failures to `tests/it`.
//! Invariant: a target is a function of its bytes alone.
//!
//! | room | idea |
//! |---|---|
//! | [`decoder`] | one function for each decoder |
//! | [`lawful`] | values that are read, from which the corpus is made |
//! | [`mutator`] | from lawful inputs to nearly lawful ones |

#![forbid(unsafe_code)]

pub mod decoder;
pub mod lawful;
pub mod mutator;

use decoder::{babel, disk, ledger, local, packet, portmap, proxy, text, wire};

/// What became of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was lawful.
    Read,
    /// It was not.
    Refused,
}

impl Outcome {
    /// Returns what a decoder's verdict is.
    pub fn of<T, E>(result: Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Read,
            Err(_) => Self::Refused,
        }
    }
}

/// One decoder and how it is called.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: also of its corpus folder and its libFuzzer program.
    pub name: &'static str,
    /// The call.
    pub run: fn(&[u8]) -> Outcome,
    /// Lawful inputs by name.
    pub lawful: fn() -> Vec<(&'static str, Vec<u8>)>,
}

macro_rules! targets {
    ($($name:ident: $run:path, $lawful:path;)*) => {
        &[$(Target { name: stringify!($name), run: $run, lawful: $lawful }),*]
    };
}

/// Every target, those that take longest first.
pub const TARGETS: &[Target] = targets![
    delta: ledger::delta, lawful::ledger::deltas;
    sealed: disk::sealed, lawful::disk::sealed;
    verdict: wire::verdict, lawful::wire::verdicts;
    settings: text::settings, lawful::text::settings;
    shim: disk::shim, lawful::disk::shims;
    chain: wire::chain, lawful::wire::chains;
    agreement: ledger::agreement, lawful::ledger::agreements;
    proof: ledger::proof, lawful::ledger::proofs;
    message: wire::message, lawful::wire::messages;
    join_request: wire::join_request, lawful::wire::join_requests;
    join_reply: wire::join_reply, lawful::wire::join_replies;
    recipe: text::recipe, lawful::text::recipes;
    record: ledger::record, lawful::ledger::records;
    entry: disk::entry, lawful::disk::entries;
    invite: text::invite, lawful::text::invites;
    journal: disk::journal, lawful::disk::journals;
    spec: disk::spec, lawful::disk::specs;
    api_request: local::api_request, lawful::local::api_requests;
    api_line: local::api_line, lawful::local::api_lines;
    babel_mac: babel::babel_mac, lawful::babel::authenticated;
    babel: babel::babel, lawful::babel::packets;
    babel_tlv: babel::babel_tlv, lawful::babel::bodies;
    packet: packet::packet, lawful::packet::packets;
    igd: portmap::igd, lawful::portmap::igd;
    http: proxy::http, lawful::proxy::heads;
    socks: proxy::socks, lawful::proxy::socks;
    ssdp: portmap::ssdp, lawful::portmap::ssdp;
    pcp: portmap::pcp, lawful::portmap::pcp;
    nat_pmp: portmap::nat_pmp, lawful::portmap::nat_pmp;
    amount: text::amount, lawful::text::amounts;
    word: text::word, lawful::text::words;
];

/// Returns the target of that name.
pub fn target_named(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_lawful_input_is_read() {
        for target in TARGETS {
            for (name, bytes) in (target.lawful)() {
                assert_eq!(
                    (target.run)(&bytes),
                    Outcome::Read,
                    "{}/{name}",
                    target.name
                );
            }
        }
    }

    #[test]
    fn nothing_is_not_read() {
        for target in TARGETS {
            // An empty journal is a new one, and a node runs without settings.
            if !["journal", "settings"].contains(&target.name) {
                assert_eq!((target.run)(b""), Outcome::Refused, "{}", target.name);
            }
        }
    }

    #[test]
    fn names_of_targets_and_of_their_inputs_are_their_own() {
        let names: BTreeSet<_> = TARGETS.iter().map(|target| target.name).collect();
        assert_eq!(names.len(), TARGETS.len());
        for target in TARGETS {
            let inputs = (target.lawful)();
            let names: BTreeSet<_> = inputs.iter().map(|(name, _)| name).collect();
            assert_eq!(names.len(), inputs.len(), "{}", target.name);
            assert!(target_named(target.name).is_some());
        }
    }
}
