//! What the journal holds: everything that a restarted node must know, and nothing that it can
//! compute.
//!
//! Ledger changes, contacts and invitations are kept as they came; parameters and passwords are
//! sealed to the node's own key even on its own disk, so that a copied journal gives nothing away
//! without the key.

use mesh_base::certificate::Chain;
use mesh_base::codec::{self, DecodeError};
use mesh_base::digest::Digest;
use mesh_base::name::Name;
use mesh_base::time::Wall;
use mesh_compute::instance::state::Memory;
use mesh_compute::meter::Meter;
use mesh_federation::invite::BookEntry;
use mesh_ledger::gate::Equivocation;
use mesh_ledger::ledger::Delta;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::message::{MESSAGE_LEN_MAX, SignedContact};

/// Longest entry: two histories of the largest size that contradict each other, and their frame. An
/// entry that could be written but not read would keep the node from ever starting again.
pub const ENTRY_LEN_MAX: usize = 2 * MESSAGE_LEN_MAX;

/// One entry of the journal. Variants are only ever added at the end: old journals stay readable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A change of a document, our own or admitted.
    Delta(Delta),
    /// Our own certificates.
    Chain(Chain),
    /// Where another node can be reached.
    Contact(SignedContact),
    /// An invitation was issued or used.
    Invite(BookEntry),
    /// Parameters or credentials of an order, sealed to this node's own key.
    Secret {
        /// The order's id.
        order: Digest,
        /// The HPKE box.
        sealed: ByteBuf,
    },
    /// The state of an instance's meter after a usage statement or a sample.
    Meter {
        /// The order's id.
        order: Digest,
        /// The state.
        meter: Meter,
    },
    /// What an instance machine must remember.
    Item {
        /// The order's id.
        order: Digest,
        /// The memory.
        memory: Memory,
    },
    /// What an ordering node keeps about an order of its own, sealed to itself.
    Placed {
        /// The order's id.
        order: Digest,
        /// The HPKE box of a `customer::Kept`.
        sealed: ByteBuf,
    },
    /// Two histories of one document: its writer is not believed any more.
    Proof(Box<Equivocation>),
    /// Entries that are on disk all or none.
    Together(Vec<Entry>),
    /// A stock WireGuard device was let in.
    Client {
        /// What the owner calls it.
        name: Name,
        /// Its public key.
        #[serde(with = "serde_bytes")]
        key: [u8; 32],
        /// When.
        since: Wall,
    },
    /// It is let in no longer.
    ClientGone {
        /// What the owner called it.
        name: Name,
    },
}

impl Entry {
    /// Returns the canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads an entry that this or an older program wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, ENTRY_LEN_MAX)
    }
}
