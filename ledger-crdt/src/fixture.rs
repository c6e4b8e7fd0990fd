//! Keys, documents and bodies for the tests of this crate.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_base::digest::Digest;
use mesh_base::identity::{NodeId, OrgId, PublicKey, SecretKey, ServiceId};
use mesh_base::money::Price;
use mesh_base::time::{Moment, Now, Wall};

use crate::charter::Capacity;
use crate::document::{DocId, DocKind};
use crate::gate::{Authority, AuthorityError};
use crate::grant::{ItemState, Progress};
use crate::order::Order;
use crate::record::{Body, RecordId};
use crate::usage::{Usage, Why};

/// 2026-11-23T06:00:00Z.
pub const START: Wall = Wall(1_795_413_600_000);
pub const HOUR: u64 = 3_600_000;

pub fn key(byte: u8) -> SecretKey {
    SecretKey::from_seed([byte; 32])
}

pub fn org(byte: u8) -> OrgId {
    OrgId(key(byte).public())
}

pub fn node(byte: u8) -> NodeId {
    NodeId(key(byte).public())
}

pub fn record_id(byte: u8) -> RecordId {
    RecordId(Digest::of(&[byte]))
}

pub fn now(seconds: u64) -> Now {
    Now {
        mono: Moment(seconds * 1_000_000),
        wall: START + Duration::from_secs(seconds),
    }
}

/// Organisation 1 with node 11 grants to organisation 2 with node 21.
pub fn grants_doc() -> DocId {
    DocId::between(DocKind::Grants, org(1), key(11).public(), org(2), 0)
}

pub fn progress(number: u32) -> Body {
    let state = ItemState::Failed(format!("step {number}"));
    Body::Progress(Progress {
        order: record_id(1),
        state,
    })
}

pub fn order(name: &str) -> Order {
    Order {
        name: name.parse().unwrap(),
        recipe: "postgres".to_owned(),
        recipe_digest: None,
        service: ServiceId(key(99).public()),
        parameters: Digest::of(b"parameters"),
        parameters_key: "k1".to_owned(),
        memory_mib: 256,
        cpu_millis: 500,
        disk_mib: 1024,
        price_cap: None,
        nonce: [7; 16],
        guests: BTreeSet::new(),
    }
}

pub fn capacity(slots: u32) -> Capacity {
    Capacity {
        slots,
        memory_mib: 256 * slots,
        cpu_millis: 500 * slots,
        disk_mib: 1024 * slots,
        recipes: BTreeMap::new(),
        attributes: BTreeMap::new(),
    }
}

pub fn price(text: &str) -> Price {
    text.parse().unwrap()
}

/// One full hour of statement `sequence`, at 0.12 EUR a month.
pub fn usage(order: RecordId, sequence: u64) -> Usage {
    let from = START + Duration::from_millis(HOUR * (sequence - 1));
    Usage {
        order,
        item: order.0,
        sequence,
        from,
        to: from + Duration::from_millis(HOUR),
        running_ms: HOUR - 1,
        reserved_ms: HOUR,
        cpu_ms: 1000,
        memory_mib_s: 3600,
        disk_mib_s: 7200,
        received_bytes: 10,
        sent_bytes: 20,
        price: price("0.12EUR/month"),
        agreement: None,
        why: Why::Hour,
    }
}

/// Trusts every writer but one, in one term, and reads for one organisation.
pub struct Rule {
    pub reader: OrgId,
    pub banned: Option<PublicKey>,
    pub term_max: u64,
}

impl Rule {
    pub fn reader(byte: u8) -> Self {
        Self {
            reader: org(byte),
            banned: None,
            term_max: u64::MAX,
        }
    }
}

impl Authority for Rule {
    fn writer_allowed(&self, doc: &DocId, term: u64) -> Result<(), AuthorityError> {
        if self.banned == Some(doc.writer) {
            return Err(AuthorityError::Revoked(doc.writer));
        }
        if self.term_max < term {
            return Err(AuthorityError::Term {
                shown: term,
                valid: self.term_max,
            });
        }
        Ok(())
    }

    fn reads(&self, doc: &DocId) -> bool {
        doc.may_read(&self.reader)
    }
}
