//! Bytes of other nodes: certificates at the gate, messages behind it, what is said at the join
//! door.

use mesh_base::certificate::{CHAIN_LEN_MAX, Chain};
use mesh_base::codec;
use mesh_peer::message::{
    JOIN_REPLY_LEN_MAX, JOIN_REQUEST_LEN_MAX, JoinReply, JoinRequest, Message, SignedContact,
    VERDICT_LEN_MAX, Verdict,
};

use crate::Outcome;
use crate::lawful;

/// How many signatures an input may cost here; what a decoder reads does not depend on them.
const CONTACTS_CHECKED_MAX: usize = 2;

/// Reads a chain as the gate does and judges it, with one organisation trusted.
pub fn chain(data: &[u8]) -> Outcome {
    let Ok(chain) = codec::decode::<Chain>(data, CHAIN_LEN_MAX) else {
        return Outcome::Refused;
    };
    let Some(node) = chain.leaf().map(|body| body.node) else {
        return Outcome::Refused;
    };
    let trusted = lawful::own_org();
    Outcome::of(chain.verify(&node, lawful::NOW.wall, |org| *org == trusted))
}

/// Reads what the other side of a gate says about our chain.
pub fn verdict(data: &[u8]) -> Outcome {
    Outcome::of(codec::decode::<Verdict>(data, VERDICT_LEN_MAX))
}

/// Reads a message between two admitted nodes.
pub fn message(data: &[u8]) -> Outcome {
    let Ok(message) = Message::from_bytes(data) else {
        return Outcome::Refused;
    };
    let _ = message.lane();
    if let Message::Contacts(contacts) = &message {
        judge(contacts);
    }
    assert_eq!(message.to_bytes(), data, "a message has one form");
    Outcome::Read
}

/// Reads what a stranger says at the join door.
pub fn join_request(data: &[u8]) -> Outcome {
    let Ok(request) = codec::decode::<JoinRequest>(data, JOIN_REQUEST_LEN_MAX) else {
        return Outcome::Refused;
    };
    if let JoinRequest::Agreement { contacts, .. } = &request {
        judge(contacts);
    }
    Outcome::Read
}

/// Reads what a join door answers.
pub fn join_reply(data: &[u8]) -> Outcome {
    let Ok(reply) = codec::decode::<JoinReply>(data, JOIN_REPLY_LEN_MAX) else {
        return Outcome::Refused;
    };
    match &reply {
        JoinReply::Member { contacts, .. } | JoinReply::Agreement { contacts } => judge(contacts),
        JoinReply::Refused { .. } => {}
    }
    Outcome::Read
}

fn judge(contacts: &[SignedContact]) {
    for contact in contacts.iter().take(CONTACTS_CHECKED_MAX) {
        let _ = contact.is_authentic();
    }
}
