//! Values that every decoder must read: what the corpus is made of, and what targets refer to.
//!
//! Two organisations with a master and a node each; everything follows from fixed seeds, so that
//! the same program makes the same bytes.

use std::sync::LazyLock;
use std::time::Duration;

use mesh_base::certificate::{Chain, Role};
use mesh_base::digest::Digest;
use mesh_base::identity::{NodeId, OrgId, SecretKey};
use mesh_base::money::Price;
use mesh_base::name::Name;
use mesh_base::time::{Moment, Now, Wall};
use mesh_peer::genesis::{Subject, certify};

pub mod babel;
pub mod disk;
pub mod ledger;
pub mod local;
pub mod packet;
pub mod portmap;
pub mod proxy;
pub mod text;
pub mod wire;

/// 2026-11-23T06:00:00Z, the only time there is here.
pub const NOW: Now = Now {
    mono: Moment(1_000_000),
    wall: Wall(1_795_413_600_000),
};

static NODE: LazyLock<SecretKey> = LazyLock::new(|| key(11));
static ORG: LazyLock<OrgId> = LazyLock::new(|| org(1));
static PEER: LazyLock<NodeId> = LazyLock::new(|| node(21));
static CHAIN: LazyLock<Chain> = LazyLock::new(|| chain(1, 10, 11));

/// Returns the key pair of a number: 1 and 2 are roots, 10 and 20 masters, 11 and 21 nodes.
pub fn key(number: u8) -> SecretKey {
    SecretKey::from_seed([number; 32])
}

/// Returns the organisation of a root.
pub fn org(number: u8) -> OrgId {
    OrgId(key(number).public())
}

/// Returns the node of a number.
pub fn node(number: u8) -> NodeId {
    NodeId(key(number).public())
}

/// Returns the first organisation's node's key, computed once.
pub fn node_key() -> &'static SecretKey {
    &NODE
}

/// Returns the first organisation, computed once.
pub fn own_org() -> OrgId {
    *ORG
}

/// Returns the second organisation's node, computed once.
pub fn peer() -> NodeId {
    *PEER
}

/// Returns a digest of a number.
pub fn digest(number: u8) -> Digest {
    Digest::of(&[number])
}

/// Returns a name. Only for texts that are names.
pub fn name(text: &str) -> Name {
    // Proof: callers are this crate's, and each of its texts is read by a test.
    text.parse().expect("the text is a name")
}

/// Returns the price that everything has.
pub fn price() -> Price {
    // Proof: a constant that a test reads.
    "0.12EUR/month".parse().expect("the text is a price")
}

/// Returns a time so many hours later.
pub fn hours_later(hours: u64) -> Wall {
    NOW.wall + Duration::from_secs(hours * 3600)
}

/// Returns the certificates of the first organisation's node, computed once.
pub fn own_chain() -> Chain {
    CHAIN.clone()
}

/// Returns the certificates of a node that a master of an organisation admitted.
pub fn chain(root: u8, master: u8, member: u8) -> Chain {
    let subject = |number, role, text: &str| Subject {
        node: node(number),
        name: name(text),
        role,
        org: org(root),
        org_name: name("bakery"),
    };
    let leaf = certify(
        &subject(member, Role::Node, "bakery-2"),
        &key(master),
        NOW.wall,
    );
    let issuer = certify(
        &subject(master, Role::Master, "bakery-1"),
        &key(root),
        NOW.wall,
    );
    Chain(vec![leaf, issuer])
}

/// Returns the certificate of an organisation's master.
pub fn master_chain(root: u8, master: u8) -> Chain {
    Chain(
        chain(root, master, master + 1)
            .0
            .into_iter()
            .skip(1)
            .collect(),
    )
}
