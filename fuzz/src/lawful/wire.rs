//! Chains, one message of each kind, and both sides of the join door.

use mesh_base::certificate::Chain;
use mesh_base::codec;
use mesh_ledger::document::Frontier;
use mesh_peer::message::{Contact, JoinReply, JoinRequest, Message, SignedContact, Verdict};
use serde_bytes::ByteBuf;

use super::{NOW, digest, ledger, master_chain, name, node, node_key, org, own_chain};

/// Returns a node's chain and a master's.
pub fn chains() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("node", codec::encode::<Chain>(&own_chain())),
        ("master", codec::encode::<Chain>(&master_chain(1, 10))),
    ]
}

/// Returns both verdicts of a gate.
pub fn verdicts() -> Vec<(&'static str, Vec<u8>)> {
    let reason = "the certificate was revoked at 2026-11-23T10:11:08Z: sold with its disk";
    vec![
        ("admitted", codec::encode(&Verdict::Admitted)),
        (
            "refused",
            codec::encode(&Verdict::Refused(reason.to_owned())),
        ),
    ]
}

/// Returns where the first organisation's node can be reached.
pub fn contact() -> SignedContact {
    let contact = Contact {
        node: node(11),
        chain: own_chain(),
        sequence: 7,
        control: vec![([192, 0, 2, 1], 7654).into()],
        wireguard: vec![
            ([192, 0, 2, 1], 7655).into(),
            ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 7655).into(),
        ],
        leaf: true,
    };
    SignedContact::sign(contact, node_key())
}

/// Returns a message of each kind.
pub fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let order = ledger::order();
    let frontier = Frontier {
        seq: 3,
        head: digest(3),
    };
    let messages = [
        ("contacts", Message::Contacts(vec![contact()])),
        (
            "frontiers",
            Message::Frontiers {
                complete: true,
                reply: false,
                list: vec![(ledger::outbox(), frontier), (ledger::grants(), frontier)],
            },
        ),
        ("summary", Message::Summary { digest: digest(1) }),
        ("changes", Message::Changes(Box::new(ledger::delta()))),
        (
            "reserve",
            Message::Reserve {
                ask: Box::new(ledger::ask(&order)),
                order: Box::new(order),
                sealed: ByteBuf::from(vec![7; 64]),
            },
        ),
        (
            "step",
            Message::Step {
                order: digest(1),
                step: "software".to_owned(),
            },
        ),
        (
            "log-read",
            Message::LogRead {
                request: 1,
                order: digest(1),
                offset: u64::MAX,
            },
        ),
        (
            "log-piece",
            Message::LogPiece {
                request: 1,
                offset: 0,
                bytes: ByteBuf::from(b"ready to accept connections\n".to_vec()),
                refused: Some("it is over".to_owned()),
            },
        ),
        ("usage-now", Message::UsageNow { order: digest(1) }),
        ("proof", Message::Proof(Box::new(ledger::proof()))),
        ("ping", Message::Ping { token: 24 }),
        ("pong", Message::Pong { token: u64::MAX }),
        (
            "refused",
            Message::Refused {
                what: "a message".to_owned(),
                reason: "it is not known here".to_owned(),
            },
        ),
    ];
    let bytes = messages
        .into_iter()
        .map(|(name, message)| (name, message.to_bytes()));
    bytes.collect()
}

/// Returns what visitors say.
pub fn join_requests() -> Vec<(&'static str, Vec<u8>)> {
    let member = JoinRequest::Member {
        secret: [5; 16],
        node: node(12),
        name: Some("bakery-3".to_owned()),
    };
    let agreement = JoinRequest::Agreement {
        secret: [6; 16],
        agreement: Box::new(ledger::agreement()),
        contacts: vec![contact()],
    };
    vec![
        ("member", codec::encode(&member)),
        ("agreement", codec::encode(&agreement)),
    ]
}

/// Returns what a door answers.
pub fn join_replies() -> Vec<(&'static str, Vec<u8>)> {
    let member = JoinReply::Member {
        chain: own_chain(),
        org: org(1),
        contacts: vec![contact()],
        wall: NOW.wall,
    };
    let agreement = JoinReply::Agreement {
        contacts: vec![contact()],
    };
    let refused = JoinReply::Refused {
        reason: name("no").to_string(),
    };
    vec![
        ("member", codec::encode(&member)),
        ("agreement", codec::encode(&agreement)),
        ("refused", codec::encode(&refused)),
    ]
}
