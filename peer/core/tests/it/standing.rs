//! Certificates that end and are renewed, members that are revoked, keys that run twice, false
//! authors.

use std::time::Duration;

use mesh_api::status::{Health, StatusReply};
use mesh_api::{ErrorKind, Reply, Request};
use mesh_base::identity::SecretKey;
use mesh_base::time::Wall;
use mesh_ledger::document::DocKind;
use mesh_ledger::ledger::{Delta, Ledger};
use mesh_ledger::record::{RECORD_VERSION, Record, SignedRecord};
use mesh_peer::message::{Contact, JoinReply, Message, SignedContact};

use crate::mesh;
use crate::town::Town;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn count(status: &StatusReply, word: &str) -> u64 {
    status.refusals.get(word).copied().unwrap_or(0)
}

fn health(status: &StatusReply, check: &str) -> Health {
    let mut rows = status.health.iter();
    rows.find(|row| row.check == check).unwrap().verdict
}

fn valid_until(town: &Town, index: usize) -> Wall {
    town.machines[index].node.chain().valid_until().unwrap()
}

/// Lets days pass in steps in which everybody can react.
fn pass_days(town: &mut Town, days: u32) {
    for _ in 0..days {
        town.pass(DAY);
        town.pass(Duration::from_secs(2));
    }
}

fn revoke(town: &mut Town, index: usize, name: &str) -> Result<Reply, mesh_api::ApiError> {
    let request = Request::MemberRevoke {
        name: name.parse().unwrap(),
        reason: "sold with its disk".to_owned(),
    };
    let call = town.ask(index, request);
    town.answer(call)
}

#[test]
fn leader_renews_its_members_when_a_third_of_the_time_is_left() {
    let mut town = mesh();
    let first = valid_until(&town, 2);
    pass_days(&mut town, 59);
    assert_eq!(valid_until(&town, 2), first);
    pass_days(&mut town, 3);
    let renewed = valid_until(&town, 2);
    assert!(first < renewed, "{first} {renewed}");
    // Everybody shows the new one, and it is still there after a restart.
    town.restart(2);
    assert_eq!(valid_until(&town, 2), renewed);
    pass_days(&mut town, 30);
    assert!(town.linked(0, 2) && town.linked(1, 2));
    let status = town.status(2);
    assert_eq!(health(&status, "certificate"), Health::Ok);
    // One record for each renewal, not one for each look.
    let members = town.machines[0].node.ledger().all_entries();
    let of_kind = |kind: DocKind| {
        move |entry: &&mesh_ledger::history::Entry| entry.signed.record.doc.kind == kind
    };
    let bakery = town.machines[0].node.chain().leaf().unwrap().org;
    let written = members
        .filter(of_kind(DocKind::Members))
        .filter(|entry| entry.signed.record.doc.org == bakery);
    assert_eq!(written.count(), 2);
}

#[test]
fn certificate_of_a_master_is_spoken_of_and_then_ends_every_connection() {
    let mut town = mesh();
    pass_days(&mut town, 340);
    let status = town.status(0);
    assert_eq!(
        health(&status, "certificate"),
        Health::Warn,
        "{:?}",
        status.health
    );
    assert!(town.linked(0, 1));
    pass_days(&mut town, 26);
    assert!(!town.linked(0, 1) && !town.linked(0, 2) && !town.linked(2, 3));
    let status = town.status(0);
    assert_eq!(health(&status, "certificate"), Health::Fail);
    let row = status.health.iter().find(|row| row.check == "certificate");
    assert!(row.unwrap().hint.contains("meshnode keys renew"));
    assert!(0 < count(&status, "expired"), "{:?}", status.refusals);
}

#[test]
fn revoked_member_is_out_everywhere_and_does_not_come_back() {
    let mut town = mesh();
    assert!(town.linked(0, 2) && town.linked(1, 2) && town.linked(3, 2));
    let gone = town.machines[2].node.id();
    let reply = revoke(&mut town, 0, "bakery-2");
    assert!(
        matches!(reply, Ok(Reply::MemberRevoked { .. })),
        "{reply:?}"
    );
    for _ in 0..60 {
        town.pass(Duration::from_secs(1));
    }
    for index in [0, 1, 3] {
        assert!(!town.linked(index, 2), "{index}");
        let status = town.status(index);
        assert!(status.peers.iter().all(|peer| peer.node != gone), "{index}");
        assert!(
            0 < count(&status, "revoked"),
            "{index} {:?}",
            status.refusals
        );
    }
    // Its key is refused at the door, and the invite stays good for another.
    let secret = SecretKey::from_seed([3; 32]);
    let JoinReply::Refused { reason } = town.knock(0, &secret) else {
        panic!("a revoked key is welcome")
    };
    assert!(reason.contains("join with a new one"), "{reason}");
    town.join(0, 0);
    // A restart forgets nothing of it.
    town.restart(0);
    let status = town.status(0);
    assert!(status.peers.iter().all(|peer| peer.node != gone));
    assert!(!town.linked(0, 2));
}

#[test]
fn only_the_leader_revokes_and_not_itself() {
    let mut town = mesh();
    let kind = |reply: Result<Reply, mesh_api::ApiError>| reply.unwrap_err().kind;
    let refused = revoke(&mut town, 2, "bakery-1");
    assert_eq!(kind(refused), ErrorKind::NotAuthorised);
    let refused = revoke(&mut town, 0, "bakery-1");
    assert_eq!(kind(refused), ErrorKind::Conflict);
    let refused = revoke(&mut town, 0, "library-2");
    assert_eq!(kind(refused), ErrorKind::NotFound);
}

/// What a machine's capacity document says, as its own node wrote it.
fn capacity(town: &Town, index: usize) -> SignedRecord {
    let node = &town.machines[index].node;
    let own = *node.id().key();
    let mut entries = node.ledger().all_entries();
    let entry = entries.find(|entry| {
        let doc = entry.signed.record.doc;
        doc.kind == DocKind::Capacity && doc.writer == own
    });
    entry.unwrap().signed.clone()
}

/// A change of the document of `record`, as somebody who holds `secret` can make it.
fn change(town: &Town, record: &Record, secret: &SecretKey, wall: Wall) -> Delta {
    let known = town.machines[0].node.ledger();
    let mut ledger = Ledger::new();
    if let Some(before) = known.since(&record.doc, 0, 256 * 1024) {
        ledger.replay(&before).unwrap();
    }
    let bodies = vec![record.body.clone()];
    let appended = ledger.append(record.doc, bodies, secret, 0, wall);
    appended.unwrap().delta
}

/// Says changes to the bakery's leader as its member bakery-2; returns what was counted since.
fn say(town: &mut Town, delta: Delta, word: &str) -> u64 {
    let before = count(&town.status(0), word);
    let heads = town.machines[0].node.ledger().digest();
    town.say(0, 2, Message::Changes(Box::new(delta)));
    assert_eq!(town.machines[0].node.ledger().digest(), heads);
    count(&town.status(0), word) - before
}

#[test]
fn false_authors_are_refused_and_counted_and_nothing_changes() {
    let mut town = mesh();
    let (own, other) = (capacity(&town, 2).record, capacity(&town, 1).record);
    let secret = SecretKey::from_seed([3; 32]);
    let wall = town.now().wall;
    // Another's document, under another's name but its own signature.
    let forged = change(&town, &own, &secret, wall);
    let foreign = Delta {
        doc: other.doc,
        ..forged.clone()
    };
    assert_eq!(say(&mut town, foreign, "wrong-author"), 1);
    // Its own document, with a record that names another as its author.
    let mut inside = forged;
    let record = Record {
        version: RECORD_VERSION,
        author: other.author,
        wall,
        ..own.clone()
    };
    let signed = SignedRecord::sign(record, &secret);
    for change in &mut inside.changes {
        for bytes in &mut change.records {
            *bytes = signed.to_bytes().into();
        }
    }
    assert_eq!(say(&mut town, inside, "bad-change"), 1);
}

#[test]
fn what_a_revoked_or_ended_writer_writes_afterwards_is_refused() {
    let mut town = mesh();
    let record = capacity(&town, 2).record;
    let secret = SecretKey::from_seed([3; 32]);
    let end = valid_until(&town, 2);
    // A member's word counts until its certificate ends; then it may become lawful by renewal.
    let late = change(&town, &record, &secret, end);
    town.pass(Duration::from_secs(1));
    revoke(&mut town, 0, "bakery-2").unwrap();
    let before = town.now().wall;
    for _ in 0..20 {
        town.pass(Duration::from_secs(1));
    }
    let after = change(&town, &record, &secret, town.now().wall);
    let heads = town.machines[1].node.ledger().digest();
    let counted = count(&town.status(1), "revoked");
    // Somebody who is still a member carries it.
    for delta in [after, late] {
        town.say(1, 3, Message::Changes(Box::new(delta)));
    }
    assert_eq!(town.machines[1].node.ledger().digest(), heads);
    assert_eq!(count(&town.status(1), "revoked"), counted + 2);
    // What it wrote in its time still comes in.
    let earlier = Wall(before.0 - 60_000);
    let lawful = change(&town, &record, &secret, earlier);
    town.say(1, 3, Message::Changes(Box::new(lawful)));
    assert_ne!(town.machines[1].node.ledger().digest(), heads);
}

#[test]
fn key_on_two_machines_raises_an_alarm() {
    let mut town = mesh();
    for run in [7, 8] {
        town.say(0, 1, Message::Hello { run });
    }
    let status = town.status(0);
    assert_eq!(health(&status, "identity"), Health::Ok);
    town.say(0, 1, Message::Hello { run: 7 });
    let status = town.status(0);
    assert_eq!(health(&status, "identity"), Health::Fail);
    assert_eq!(count(&status, "clone"), 1);
    let row = status
        .health
        .iter()
        .find(|row| row.check == "identity")
        .unwrap();
    assert!(row.sentence.contains("library-1"), "{row:?}");
    assert!(row.hint.contains("member revoke"), "{row:?}");
}

#[test]
fn contact_of_our_own_key_from_elsewhere_raises_an_alarm() {
    let mut town = mesh();
    let secret = SecretKey::from_seed([1; 32]);
    let chain = town.machines[0].node.chain().clone();
    let contact = |sequence| {
        let contact = Contact {
            node: town.machines[0].node.id(),
            chain: chain.clone(),
            sequence,
            control: vec!["10.9.9.9:1".parse().unwrap()],
            wireguard: Vec::new(),
            leaf: false,
        };
        SignedContact::sign(contact, &secret)
    };
    // One of ours from before comes back from others; a later one than ours does not.
    let (old, new) = (contact(1), contact(u64::MAX));
    town.say(0, 1, Message::Contacts(vec![old]));
    assert_eq!(count(&town.status(0), "clone"), 0);
    town.say(0, 1, Message::Contacts(vec![new]));
    let status = town.status(0);
    assert_eq!(count(&status, "clone"), 1);
    assert_eq!(health(&status, "identity"), Health::Fail);
}
