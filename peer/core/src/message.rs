//! What nodes say to each other: small framed messages over an admitted connection.
//!
//! A message may be lost, repeated or late; nothing here is a promise. What must last is a record
//! in the ledger, and [`Message::Changes`] carries it. Each message has a version; unknown ones are
//! refused by the decoder and counted, so that old and new nodes can mix.

use std::net::SocketAddr;

use mesh_base::certificate::Chain;
use mesh_base::codec::{self, DecodeError};
use mesh_base::digest::Digest;
use mesh_base::identity::{Context, NodeId, OrgId, SecretKey, Signature};
use mesh_base::time::Wall;
use mesh_ledger::agreement::SignedAgreement;
use mesh_ledger::document::{DocId, Frontier};
use mesh_ledger::gate::Equivocation;
use mesh_ledger::ledger::Delta;
use mesh_ledger::record::SignedRecord;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// Longest message on the wire. A delta is cut to fit (see `ledger`).
pub const MESSAGE_LEN_MAX: usize = 1024 * 1024;

/// Which stream carries a message: bulk must not delay control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Small and urgent.
    Control,
    /// Ledger deltas.
    Ledger,
}

/// Where a node can be reached, said and signed by itself; the newest `sequence` counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// The node.
    pub node: NodeId,
    /// Its certificates, so that whoever trusts its organisation can admit it.
    pub chain: Chain,
    /// Grows with every change; starts at the wall time of its first start.
    pub sequence: u64,
    /// TCP addresses of its libp2p listener, most local first.
    pub control: Vec<SocketAddr>,
    /// UDP addresses of its WireGuard socket.
    pub wireguard: Vec<SocketAddr>,
    /// Whether it carries nobody else's packets: it chooses its uplinks, and nobody chooses it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaf: bool,
}

/// A [`Contact`] under its node's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedContact {
    /// What is said.
    pub contact: Contact,
    /// The node's signature over the canonical bytes of the contact.
    pub signature: Signature,
}

impl SignedContact {
    /// Signs a contact with its node's key.
    pub fn sign(contact: Contact, secret: &SecretKey) -> Self {
        let signature = secret.sign(Context::Contact, &codec::encode(&contact));
        Self { contact, signature }
    }

    /// Returns whether the node itself said so, within the limits.
    pub fn is_authentic(&self) -> bool {
        let contact = &self.contact;
        contact.control.len() <= CONTACT_ADDRESSES_MAX
            && contact.wireguard.len() <= CONTACT_ADDRESSES_MAX
            && contact
                .node
                .key()
                .verify(Context::Contact, &codec::encode(contact), &self.signature)
                .is_ok()
    }
}

/// Most addresses of one kind in a contact.
pub const CONTACT_ADDRESSES_MAX: usize = 8;
/// Most contacts in one message.
pub const CONTACTS_MAX: usize = 64;
/// Most frontiers in one message: at 200 bytes each they fill four fifths of it.
pub const FRONTIERS_MAX: usize = 4096;

/// Longest encoded verdict: a sentence.
pub const VERDICT_LEN_MAX: usize = 512;
/// Longest request at the join door: an agreement, a charter and 64 contacts.
pub const JOIN_REQUEST_LEN_MAX: usize = 256 * 1024;
/// Longest answer of a join door: some hundred charters and contacts.
pub const JOIN_REPLY_LEN_MAX: usize = 1024 * 1024;

/// What both sides of a gate say after they saw the other's chain, before any message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Messages may follow.
    Admitted,
    /// The connection ends; the sentence says why.
    Refused(String),
}

/// One message between two admitted nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Where nodes that both sides may know can be reached.
    Contacts(Vec<SignedContact>),
    /// How far the sender's durable replicas reach, among the documents that both may read. Serves
    /// as acknowledgement and as request: who has more sends what is missing.
    Frontiers {
        /// Set if the list names every such document: what it leaves out, the sender lacks.
        complete: bool,
        /// Set if the sender wants a complete list back.
        reply: bool,
        /// Documents with the last change that is on the sender's disk.
        list: Vec<(DocId, Frontier)>,
    },
    /// Digest over the complete list, to find out cheaply that nothing is missing.
    Summary {
        /// See `replication::summary`.
        digest: Digest,
    },
    /// New changes of one document.
    Changes(Box<Delta>),
    /// Asks the node to reserve capacity: the order and its ask (also in the outbox), and the
    /// parameters, sealed to this node.
    Reserve {
        /// The order record.
        order: Box<SignedRecord>,
        /// The ask record.
        ask: Box<SignedRecord>,
        /// HPKE box to the provider's key.
        sealed: ByteBuf,
    },
    /// A step towards readiness, for people who wait; never a fact.
    Step {
        /// The order record's id.
        order: Digest,
        /// What is happening now.
        step: String,
    },
    /// Reads the last lines of an instance's log.
    LogRead {
        /// Matches the reply.
        request: u64,
        /// The order record's id.
        order: Digest,
        /// Byte offset to read from; `u64::MAX` means the last 64 KiB.
        offset: u64,
    },
    /// A piece of log, sealed transport only.
    LogPiece {
        /// As in the request.
        request: u64,
        /// Where the piece starts.
        offset: u64,
        /// At most 64 KiB.
        bytes: ByteBuf,
        /// Set if it could not be read.
        refused: Option<String>,
    },
    /// Asks for, or reports, a fresh usage statement of an order.
    UsageNow {
        /// The order record's id.
        order: Digest,
    },
    /// Two histories that one writer has signed: a proof that anybody can check.
    Proof(Box<Equivocation>),
    /// Measures the round trip on the control lane.
    Ping {
        /// Comes back in the pong.
        token: u64,
    },
    /// Answers a ping.
    Pong {
        /// The ping's token.
        token: u64,
    },
    /// A readable reason why the sender did not act on a message.
    Refused {
        /// Which message, in words.
        what: String,
        /// Why.
        reason: String,
    },
    /// Names the sender's run since its last start; one key on two machines is noticed by it.
    Hello {
        /// Drawn by chance at each start.
        run: u64,
    },
    /// What the sender wants of the overlay link between the two; repeated while it holds.
    Link(LinkWish),
}

/// What a node wants of the link with the one that it tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkWish {
    /// It chose the other as a neighbour.
    Wanted,
    /// It does not need the link any more.
    Unwanted,
    /// It has no room for the other's choice; these may have some.
    Redirect(Vec<NodeId>),
}

impl Message {
    /// Returns the canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a message from the wire.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, MESSAGE_LEN_MAX)
    }

    /// Returns the lane that carries this message.
    pub fn lane(&self) -> Lane {
        match self {
            Self::Changes(_)
            | Self::Frontiers { .. }
            | Self::Summary { .. }
            | Self::Proof(_)
            | Self::LogPiece { .. } => Lane::Ledger,
            _ => Lane::Control,
        }
    }
}

/// What somebody who holds an invite or an agreement offer says at the join door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinRequest {
    /// "Make me a member": the invite's secret and my key.
    Member {
        /// The secret of the invite.
        #[serde(with = "serde_bytes")]
        secret: [u8; 16],
        /// The joining node's key (also its Noise identity: checked by the shell).
        node: NodeId,
        /// The name that it would like.
        name: Option<String>,
    },
    /// "We sign your agreement": the countersigned agreement and where our nodes are.
    Agreement {
        /// The secret of the offer.
        #[serde(with = "serde_bytes")]
        secret: [u8; 16],
        /// Signed by both.
        agreement: Box<SignedAgreement>,
        /// Contacts of the buyer's nodes.
        contacts: Vec<SignedContact>,
    },
}

/// What the join door answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinReply {
    /// Welcome as a member.
    Member {
        /// The new node's certificates.
        chain: Chain,
        /// The organisation.
        org: OrgId,
        /// Where to find the others.
        contacts: Vec<SignedContact>,
        /// The inviting side's clock, to warn about skew.
        wall: Wall,
    },
    /// The agreement is in force.
    Agreement {
        /// Contacts of the seller's nodes.
        contacts: Vec<SignedContact>,
    },
    /// No, and why.
    Refused {
        /// One sentence for people.
        reason: String,
    },
}
