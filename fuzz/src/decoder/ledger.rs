//! Bytes that want into a ledger: records, changes, proofs against a writer, agreements.
//!
//! A writer that lies can sign whatever it likes, so the gate is tried with a verifier that
//! believes every signature, and changes that do not lead to their head are given the head that
//! they lead to. What has passed the gate must stand every question of the house.

use mesh_base::codec;
use mesh_base::identity::{Context, KeyError, PublicKey, Signature};
use mesh_ledger::agreement::SignedAgreement;
use mesh_ledger::books;
use mesh_ledger::check::verify_all;
use mesh_ledger::document::{DocId, Frontier};
use mesh_ledger::gate::{Authority, AuthorityError, Equivocation, Verifier};
use mesh_ledger::history::{Link, actor};
use mesh_ledger::ledger::{Admitted, Delta, Ledger};
use mesh_ledger::record::{RECORD_LEN_MAX, SignedRecord};
use mesh_peer::message::MESSAGE_LEN_MAX;

use crate::Outcome;
use crate::lawful;

/// Believes every signature.
struct Believing;

impl Verifier for Believing {
    fn verify(
        &mut self,
        _: &PublicKey,
        _: Context,
        _: &[u8],
        _: &Signature,
    ) -> Result<(), KeyError> {
        Ok(())
    }
}

/// Lets everybody write and reads everything.
struct Anybody;

impl Authority for Anybody {
    fn writer_allowed(&self, _: &DocId, _: u64) -> Result<(), AuthorityError> {
        Ok(())
    }

    fn reads(&self, _: &DocId) -> bool {
        true
    }
}

/// Reads one record and checks all but its signature.
pub fn record(data: &[u8]) -> Outcome {
    let Ok(signed) = SignedRecord::from_bytes(data) else {
        return Outcome::Refused;
    };
    assert!(data.len() <= RECORD_LEN_MAX, "a record keeps its limit");
    assert_eq!(signed.to_bytes(), data, "a record has one form");
    let _ = (
        signed.id(),
        signed.record.body.word(),
        signed.record.body.order(),
    );
    Outcome::of(signed.check())
}

/// Reads changes and lets them into an empty ledger.
pub fn delta(data: &[u8]) -> Outcome {
    let Ok(mut delta) = codec::decode::<Delta>(data, MESSAGE_LEN_MAX) else {
        return Outcome::Refused;
    };
    let mut ledger = Ledger::with_verifier(Box::new(Believing));
    let mut admitted = ledger.admit(&delta, &Anybody, lawful::NOW);
    if admitted.is_err() {
        let actor = actor(&delta.doc);
        let start = Link {
            frontier: Frontier {
                seq: delta.from_seq,
                head: delta.previous,
            },
            record_count: delta.record_count,
        };
        let end = delta
            .changes
            .iter()
            .fold(start, |link, change| link.then(&actor, change));
        delta.head = end.frontier.head;
        admitted = ledger.admit(&delta, &Anybody, lawful::NOW);
    }
    match admitted {
        Ok(admitted) => {
            question(&mut ledger, &delta, &admitted);
            Outcome::Read
        }
        Err(error) => {
            assert!(
                ledger.is_empty(),
                "what was refused leaves nothing: {error}"
            );
            Outcome::Refused
        }
    }
}

fn question(ledger: &mut Ledger, delta: &Delta, admitted: &Admitted) {
    let again = ledger.admit(delta, &Anybody, lawful::NOW);
    assert_eq!(
        again.map(|again| again.new),
        Ok(Vec::new()),
        "a change enters once"
    );
    let whole = ledger.since(&delta.doc, 0, usize::MAX);
    assert!(whole.is_some(), "what has entered can be sent on");
    let _ = (
        verify_all(ledger),
        books::movements(ledger),
        ledger.digest(),
    );
    if let Some(buyer) = delta.doc.counterparty {
        let _ =
            books::exposure(ledger, delta.doc.org, buyer).owed(lawful::price().per_month.currency);
    }
    for id in &admitted.new {
        assert!(ledger.entry(id).is_some(), "a new record can be found");
    }
}

/// Reads a proof that a writer has signed two histories, and freezes its document.
pub fn proof(data: &[u8]) -> Outcome {
    let Ok(proof) = codec::decode::<Equivocation>(data, MESSAGE_LEN_MAX) else {
        return Outcome::Refused;
    };
    let mut ledger = Ledger::with_verifier(Box::new(Believing));
    let frozen = ledger.freeze(&proof);
    assert_eq!(
        frozen.is_ok(),
        ledger.proofs().next().is_some(),
        "only a proof freezes"
    );
    Outcome::of(frozen)
}

/// Reads an agreement and proves its signatures.
pub fn agreement(data: &[u8]) -> Outcome {
    let Ok(agreement) = codec::decode::<SignedAgreement>(data, RECORD_LEN_MAX) else {
        return Outcome::Refused;
    };
    Outcome::of(agreement.verify(lawful::NOW.wall))
}
