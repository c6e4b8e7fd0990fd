//! The gate and the ledger together: every rejection is caused once, honest replicas converge.

use mesh_base::identity::{Context, KeyError};
use proptest::prelude::*;

use super::*;
use crate::document::DocKind;
use crate::fixture::{Rule, START, grants_doc, key, node, now, order, org, price, progress};
use crate::gate::AuthorityError;
use crate::order::{Ask, Holder, SignedHolder};

fn writer(changes: u32) -> Ledger {
    let mut ledger = Ledger::new();
    for number in 0..changes {
        ledger
            .append(grants_doc(), vec![progress(number)], &key(11), 1, START)
            .unwrap();
    }
    ledger
}

fn whole(ledger: &Ledger) -> Delta {
    ledger.since(&grants_doc(), 0, usize::MAX).unwrap()
}

/// Spoils a lawful delta of three changes and offers it to an empty replica of organisation 2.
#[track_caller]
fn check(spoil: impl FnOnce(&mut Delta), expect: impl FnOnce(&Rejection) -> bool) {
    let mut delta = whole(&writer(3));
    spoil(&mut delta);
    let mut replica = Ledger::new();
    let rejection = replica
        .admit(&delta, &Rule::reader(2), now(60))
        .unwrap_err();
    assert!(expect(&rejection), "{rejection:?}");
    assert!(
        replica.is_empty() && replica.heads().is_empty(),
        "nothing may have entered"
    );
}

/// Replaces the changes by others and signs again, as a dishonest writer would.
fn resign(delta: &mut Delta, records: Vec<Vec<ByteBuf>>, term: u64) {
    let change = |records| Change {
        term,
        wall: START,
        records,
    };
    delta.changes = records.into_iter().map(change).collect();
    let name = actor(&delta.doc);
    let end = delta
        .changes
        .iter()
        .fold(delta.start(), |link, change| link.then(&name, change));
    delta.head = end.frontier.head;
    delta.signature = end.frontier.sign(&delta.doc, &key(11));
}

fn signed(doc: DocId, body: Body, author: u8) -> ByteBuf {
    let author_key = key(author);
    let record = Record {
        version: RECORD_VERSION,
        doc,
        author: author_key.public(),
        term: 1,
        wall: START,
        body,
    };
    ByteBuf::from(SignedRecord::sign(record, &author_key).to_bytes())
}

/// Offers one change with one record of the dishonest writer's choice.
#[track_caller]
fn check_record(doc: DocId, bytes: ByteBuf, expect: impl FnOnce(&Rejection) -> bool) {
    check(
        |delta| {
            delta.doc = doc;
            resign(delta, vec![vec![bytes]], 1);
        },
        expect,
    );
}

#[test]
fn lawful_delta_enters_whole_and_only_once() {
    let writer = writer(3);
    let mut replica = Ledger::new();
    let rule = Rule::reader(2);
    let admitted = replica.admit(&whole(&writer), &rule, now(60)).unwrap();
    assert_eq!(admitted.new.len(), 3);
    assert_eq!(admitted.frontier, writer.frontier(&grants_doc()).unwrap());
    assert_eq!(replica.digest(), writer.digest());
    let again = replica.admit(&whole(&writer), &rule, now(60)).unwrap();
    assert_eq!((again.new.len(), again.frontier), (0, admitted.frontier));
    let entry = replica.entry(&admitted.new[1]).unwrap();
    assert_eq!((entry.seq, &entry.signed.record.body), (2, &progress(1)));
}

#[test]
fn overlap_is_skipped_and_the_rest_enters() {
    let mut writer = writer(3);
    let mut replica = Ledger::new();
    let rule = Rule::reader(2);
    replica.admit(&whole(&writer), &rule, now(60)).unwrap();
    writer
        .append(grants_doc(), vec![progress(9)], &key(11), 2, START)
        .unwrap();
    let overlapping = writer.since(&grants_doc(), 1, usize::MAX).unwrap();
    let admitted = replica.admit(&overlapping, &rule, now(60)).unwrap();
    assert_eq!(admitted.new.len(), 1);
    assert_eq!(replica.digest(), writer.digest());
}

#[test]
fn unknown_names_and_sizes_are_refused() {
    check(
        |delta| delta.doc.counterparty = None,
        |r| matches!(r, Rejection::Name(_)),
    );
    check(|delta| delta.changes.clear(), |r| *r == Rejection::Size);
    check(|delta| delta.from_seq = u64::MAX, |r| *r == Rejection::Size);
    check(
        |delta| delta.record_count = u64::MAX,
        |r| *r == Rejection::Size,
    );
    check(
        |delta| delta.changes[0].records.clear(),
        |r| *r == Rejection::Size,
    );
    let large = ByteBuf::from(vec![0; DELTA_LEN_MAX]);
    check(
        |delta| delta.changes[0].records[0] = large,
        |r| *r == Rejection::Size,
    );
}

#[test]
fn strangers_may_not_read() {
    let mut replica = Ledger::new();
    let rejection = replica
        .admit(&whole(&writer(1)), &Rule::reader(3), now(60))
        .unwrap_err();
    assert_eq!(rejection, Rejection::Reader(Box::new(grants_doc())));
}

#[test]
fn writer_and_term_are_asked_of_the_authority() {
    let mut replica = Ledger::new();
    let banned = Rule {
        banned: Some(key(11).public()),
        ..Rule::reader(2)
    };
    let expect = AuthorityError::Revoked(key(11).public());
    let got = replica
        .admit(&whole(&writer(1)), &banned, now(60))
        .unwrap_err();
    assert_eq!(got, Rejection::Authority(expect));
    let early = Rule {
        term_max: 0,
        ..Rule::reader(2)
    };
    let got = replica
        .admit(&whole(&writer(1)), &early, now(60))
        .unwrap_err();
    assert_eq!(
        got,
        Rejection::Authority(AuthorityError::Term { shown: 1, valid: 0 })
    );
}

#[test]
fn altered_deltas_are_refused_before_a_record_is_read() {
    let signature = |r: &Rejection| *r == Rejection::HeadSignature(KeyError::Signature);
    check(|delta| delta.signature.0[0] ^= 1, signature);
    check(|delta| delta.head = Digest::of(b"x"), signature);
    check(|delta| delta.doc.incarnation = 1, signature);
    check(
        |delta| delta.doc.part = 1,
        |r| matches!(r, Rejection::HeadSignature(_)),
    );
    check(|delta| drop(delta.changes.pop()), signature);
    check(
        |delta| delta.previous = Digest::of(b"x"),
        |r| *r == Rejection::Altered,
    );
    check(|delta| delta.record_count = 1, |r| *r == Rejection::Altered);
    check(
        |delta| delta.changes.swap(0, 1),
        |r| *r == Rejection::Altered,
    );
    check(
        |delta| delta.changes[1].wall = Wall(START.0 - 1),
        |r| *r == Rejection::Altered,
    );
    check(
        |delta| delta.changes[1].records[0][40] ^= 1,
        |r| *r == Rejection::Altered,
    );
}

#[test]
fn record_from_a_day_ahead_waits() {
    let mut replica = Ledger::new();
    let long_ago = Now {
        wall: Wall(START.0 - AHEAD_MS_MAX - 1),
        ..now(0)
    };
    let delta = whole(&writer(1));
    let got = replica
        .admit(&delta, &Rule::reader(2), long_ago)
        .unwrap_err();
    assert_eq!(got, Rejection::Ahead(START));
    assert!(replica.admit(&delta, &Rule::reader(2), now(0)).is_ok());
}

#[test]
fn missing_changes_are_a_gap_that_says_what_we_have() {
    let writer = writer(3);
    let late = writer.since(&grants_doc(), 2, usize::MAX).unwrap();
    let mut replica = Ledger::new();
    let rule = Rule::reader(2);
    let doc = Box::new(grants_doc());
    let got = replica.admit(&late, &rule, now(60)).unwrap_err();
    assert_eq!(
        got,
        Rejection::Gap {
            doc: doc.clone(),
            have: Frontier::default()
        }
    );
    let first = writer.since(&grants_doc(), 0, 0).unwrap();
    let have = replica.admit(&first, &rule, now(60)).unwrap().frontier;
    assert_eq!(have.seq, 1);
    let got = replica.admit(&late, &rule, now(60)).unwrap_err();
    assert_eq!(got, Rejection::Gap { doc, have });
}

#[test]
fn records_must_be_lawful_and_at_home() {
    let doc = grants_doc();
    let junk = ByteBuf::from(b"junk".to_vec());
    check_record(doc, junk, |r| {
        matches!(
            r,
            Rejection::Decode {
                seq: 1,
                index: 0,
                ..
            }
        )
    });
    let elsewhere = signed(doc.with_part(1), progress(1), 11);
    check_record(doc, elsewhere, |r| {
        *r == Rejection::Foreign { seq: 1, index: 0 }
    });
    let by_other = signed(doc, progress(1), 12);
    let author = |r: &Rejection| {
        matches!(
            r,
            Rejection::Record {
                source: BodyError::Author,
                ..
            }
        )
    };
    check_record(doc, by_other, author);
    let misplaced = signed(doc, Body::Order(order("crm")), 11);
    let wrong = |r: &Rejection| {
        matches!(
            r,
            Rejection::Record {
                source: BodyError::Misplaced(_),
                ..
            }
        )
    };
    check_record(doc, misplaced, wrong);
    let mut forged = SignedRecord::from_bytes(&signed(doc, progress(1), 11)).unwrap();
    forged.signature = key(12).sign(Context::Record, b"other");
    let unsigned = |r: &Rejection| {
        matches!(
            r,
            Rejection::Record {
                source: BodyError::Signature(_),
                ..
            }
        )
    };
    check_record(doc, ByteBuf::from(forged.to_bytes()), unsigned);
    let mut future = SignedRecord::from_bytes(&signed(doc, progress(1), 11)).unwrap();
    future.record.version = 2;
    let version = |r: &Rejection| {
        matches!(
            r,
            Rejection::Record {
                source: BodyError::Version(2),
                ..
            }
        )
    };
    check_record(doc, ByteBuf::from(future.to_bytes()), version);
}

#[test]
fn signatures_inside_records_are_checked() {
    let doc = DocId::between(DocKind::Holders, org(1), key(11).public(), org(2), 0);
    let holder = Holder {
        service: order("x").service,
        holders: vec![node(11)],
        epoch: 1,
        not_after: START,
    };
    let forged = Body::Holder(SignedHolder::sign(holder, &key(98)));
    let inner = |r: &Rejection| {
        matches!(
            r,
            Rejection::Record {
                source: BodyError::Inner(_),
                ..
            }
        )
    };
    check_record(doc, signed(doc, forged, 11), inner);

    let doc = DocId::between(DocKind::Outbox, org(1), key(11).public(), org(2), 0);
    let own = DocId::between(DocKind::Outbox, org(1), key(11).public(), org(1), 0);
    let ask = |bytes: ByteBuf| {
        let order = Box::new(SignedRecord::from_bytes(&bytes).unwrap());
        Body::Ask(Ask {
            order,
            attempt: 1,
            node: node(21),
            price: price("1EUR/month"),
            agreement: None,
        })
    };
    let mut other = SignedRecord::from_bytes(&signed(own, Body::Order(order("crm")), 11)).unwrap();
    other.record.wall = Wall(0);
    let stale = ask(ByteBuf::from(other.to_bytes()));
    let unsigned = |r: &Rejection| {
        matches!(
            r,
            Rejection::Record {
                source: BodyError::Signature(_),
                ..
            }
        )
    };
    check_record(doc, signed(doc, stale, 11), unsigned);
    let no_order = ask(signed(grants_doc(), progress(1), 11));
    let not_an_order = |r: &Rejection| {
        matches!(
            r,
            Rejection::Record {
                source: BodyError::NotAnOrder,
                ..
            }
        )
    };
    check_record(doc, signed(doc, no_order, 11), not_an_order);
    let foreign = DocId::between(DocKind::Outbox, org(1), key(12).public(), org(1), 0);
    let of_another = ask(signed(foreign, Body::Order(order("crm")), 12));
    let author = |r: &Rejection| {
        matches!(
            r,
            Rejection::Record {
                source: BodyError::Author,
                ..
            }
        )
    };
    check_record(doc, signed(doc, of_another, 11), author);
}

#[test]
fn term_never_goes_back() {
    let mut writer = writer(1);
    writer
        .append(grants_doc(), vec![progress(7)], &key(11), 5, START)
        .unwrap();
    let got = writer.append(grants_doc(), vec![progress(8)], &key(11), 4, START);
    assert_eq!(got, Err(LedgerError::TermBack { shown: 4, have: 5 }));
    let mut replica = Ledger::new();
    replica
        .admit(&whole(&writer), &Rule::reader(2), now(60))
        .unwrap();
    let mut delta = whole(&writer);
    let end = writer.document(&grants_doc()).unwrap().end();
    (delta.from_seq, delta.previous) = (end.frontier.seq, end.frontier.head);
    delta.record_count = end.record_count;
    resign(
        &mut delta,
        vec![vec![signed(grants_doc(), progress(8), 11)]],
        1,
    );
    let got = replica
        .admit(&delta, &Rule::reader(2), now(60))
        .unwrap_err();
    assert_eq!(got, Rejection::TermBack { shown: 1, have: 5 });
}

#[test]
fn two_histories_are_a_proof_that_freezes_the_document_everywhere() {
    let honest = writer(4);
    let mut liar = writer(2);
    for number in 0..3 {
        liar.append(
            grants_doc(),
            vec![progress(50 + number)],
            &key(11),
            1,
            START,
        )
        .unwrap();
    }
    let rule = Rule::reader(2);
    let mut replica = Ledger::new();
    replica.admit(&whole(&honest), &rule, now(60)).unwrap();
    // Whole, from the fork on, and from behind the fork: each shows it.
    for from in [0, 2, 3] {
        let mut replica = Ledger::new();
        replica.admit(&whole(&honest), &rule, now(60)).unwrap();
        let delta = liar.since(&grants_doc(), from, usize::MAX).unwrap();
        let got = replica.admit(&delta, &rule, now(60)).unwrap_err();
        assert!(matches!(got, Rejection::Equivocation(_)), "{from}: {got:?}");
        assert_eq!(
            replica.admit(&delta, &rule, now(60)),
            Err(Rejection::Frozen)
        );
        assert_eq!(replica.digest(), honest.digest());
    }
    let delta = whole(&liar);
    let Err(Rejection::Equivocation(proof)) = replica.admit(&delta, &rule, now(60)) else {
        panic!("no proof");
    };
    let mut third = Ledger::new();
    third.freeze(&proof).unwrap();
    assert_eq!(
        third.admit(&whole(&honest), &rule, now(60)),
        Err(Rejection::Frozen)
    );
    assert_eq!(third.proofs().count(), 1);
    let got = liar.freeze(&proof);
    assert_eq!(got, Ok(()));
    let got = liar.append(grants_doc(), vec![progress(1)], &key(11), 1, START);
    assert_eq!(got, Err(LedgerError::Frozen));
}

#[test]
fn no_relay_can_make_an_honest_writer_look_guilty() {
    let honest = writer(4);
    let rule = Rule::reader(2);
    let parts = |from| honest.since(&grants_doc(), from, 0).unwrap();
    let mut replica = Ledger::new();
    replica.admit(&whole(&honest), &rule, now(60)).unwrap();
    for from in 0..4 {
        let mut spoiled = parts(from);
        spoiled.previous = Digest::of(b"x");
        let proof = Equivocation {
            one: parts(from),
            other: spoiled.clone(),
        };
        assert_eq!(replica.freeze(&proof), Err(Rejection::Altered));
        let mut spoiled = parts(from);
        spoiled.record_count += 1;
        let proof = Equivocation {
            one: parts(from),
            other: spoiled,
        };
        assert_eq!(replica.freeze(&proof), Err(Rejection::Altered));
    }
    let proof = Equivocation {
        one: parts(0),
        other: whole(&honest),
    };
    assert_eq!(replica.freeze(&proof), Err(Rejection::NoProof));
    assert_eq!(replica.proofs().count(), 0);
}

#[test]
fn full_part_is_closed_and_the_next_one_begins() {
    let mut ledger = Ledger::new();
    let mut made = 0;
    while ledger.parts(&grants_doc()).count() < 2 {
        let bodies = (0..200).map(|part| progress(made * 200 + part)).collect();
        ledger
            .append(grants_doc(), bodies, &key(11), 1, START)
            .unwrap();
        made += 1;
    }
    let (first, second) = (grants_doc(), grants_doc().with_part(1));
    assert_eq!(ledger.document(&first).unwrap().entries().len(), 10_001);
    assert_eq!(ledger.document(&second).unwrap().entries().len(), 200);
    let rule = Rule::reader(2);
    let mut replica = Ledger::new();
    let early = ledger.since(&second, 0, usize::MAX).unwrap();
    let got = replica.admit(&early, &rule, now(60)).unwrap_err();
    assert_eq!(
        got,
        Rejection::Gap {
            doc: Box::new(first),
            have: Frontier::default()
        }
    );
    loop {
        let have = replica.frontier(&first).unwrap_or_default();
        let Some(delta) = ledger.since(&first, have.seq, DELTA_LEN_MAX) else {
            break;
        };
        replica.replay(&delta).unwrap();
    }
    replica.admit(&early, &rule, now(60)).unwrap();
    assert_eq!(replica.digest(), ledger.digest());
    // Nothing follows a closing record, even if the writer signs it.
    let end = ledger.document(&first).unwrap().end();
    let mut after = Delta {
        doc: first,
        from_seq: end.frontier.seq,
        previous: end.frontier.head,
        record_count: end.record_count,
        ..early
    };
    resign(&mut after, vec![vec![signed(first, progress(1), 11)]], 1);
    assert_eq!(
        replica.admit(&after, &rule, now(60)),
        Err(Rejection::Closed)
    );
}

#[test]
fn append_refuses_what_the_gate_would_refuse() {
    let mut ledger = Ledger::new();
    let mut check = |doc, bodies, by, expect: fn(&LedgerError) -> bool| {
        let error = ledger.append(doc, bodies, &key(by), 1, START).unwrap_err();
        assert!(expect(&error), "{error:?}");
        assert!(ledger.is_empty());
    };
    let doc = grants_doc();
    let mut nameless = doc;
    nameless.counterparty = None;
    check(nameless, vec![progress(1)], 11, |e| {
        matches!(e, LedgerError::Name(_))
    });
    check(doc, vec![progress(1)], 12, |e| *e == LedgerError::Writer);
    check(doc, vec![], 11, |e| {
        matches!(e, LedgerError::Size { count: 0, .. })
    });
    let many = (0..CHANGE_RECORDS_MAX as u32).map(progress).collect();
    check(doc, many, 11, |e| matches!(e, LedgerError::Size { .. }));
    let body = vec![Body::Order(order("crm"))];
    check(doc, body, 11, |e| matches!(e, LedgerError::Body { .. }));
}

#[test]
fn same_content_said_twice_is_one_record() {
    let mut ledger = Ledger::new();
    let once = ledger
        .append(grants_doc(), vec![progress(1)], &key(11), 1, START)
        .unwrap();
    let twice = ledger
        .append(grants_doc(), vec![progress(1)], &key(11), 1, START)
        .unwrap();
    assert_eq!(once.ids, twice.ids);
    assert_eq!(
        (ledger.len(), ledger.frontier(&grants_doc()).unwrap().seq),
        (1, 2)
    );
    let mut replica = Ledger::new();
    let admitted = replica
        .admit(&whole(&ledger), &Rule::reader(2), now(60))
        .unwrap();
    assert_eq!((admitted.new, admitted.frontier.seq), (once.ids, 2));
}

/// A small random world: writers with documents, cut into deltas that travel in any order.
fn world(sizes: &[u8]) -> (Ledger, Vec<Delta>) {
    let mut truth = Ledger::new();
    let mut deltas = Vec::new();
    for (step, size) in sizes.iter().enumerate() {
        let writer = 11 + size % 3;
        let doc = DocId::between(DocKind::Grants, org(1), key(writer).public(), org(2), 0);
        let bodies = (0..=size % 4).map(|part| progress(step as u32 * 10 + u32::from(part)));
        let appended = truth
            .append(doc, bodies.collect(), &key(writer), 1, START)
            .unwrap();
        deltas.push(appended.delta);
        let seq = truth.frontier(&doc).unwrap().seq;
        deltas.extend(truth.since(&doc, u64::from(*size) % seq, usize::from(*size) * 20));
    }
    (truth, deltas)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn replicas_converge_whatever_the_order_of_delivery(
        sizes in prop::collection::vec(any::<u8>(), 1..14),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
    ) {
        let (truth, deltas) = world(&sizes);
        let mut replica = Ledger::new();
        let rule = Rule::reader(2);
        for index in order {
            let delta = index.get(&deltas);
            match replica.admit(delta, &rule, now(60)) {
                Ok(_) | Err(Rejection::Gap { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
            for (doc, frontier) in replica.heads() {
                let link = truth.document(&doc).unwrap().link(frontier.seq).unwrap();
                prop_assert_eq!(link.frontier, frontier);
            }
        }
        // Anti-entropy by frontiers brings the rest.
        for (doc, frontier) in truth.frontiers_for(org(2)) {
            while let Some(delta) = truth.since(
                &doc,
                replica.frontier(&doc).map_or(0, |have| have.seq),
                2000,
            ) {
                replica.admit(&delta, &rule, now(60)).unwrap();
            }
            prop_assert_eq!(replica.frontier(&doc), Some(frontier));
        }
        prop_assert_eq!(replica.digest(), truth.digest());
        let entries: Vec<&Entry> = truth.all_entries().collect();
        prop_assert_eq!(replica.all_entries().collect::<Vec<_>>(), entries);
        // What was journaled comes back.
        let mut replayed = Ledger::new();
        for (doc, _) in truth.heads() {
            replayed.replay(&truth.since(&doc, 0, usize::MAX).unwrap()).unwrap();
        }
        prop_assert_eq!(replayed.digest(), truth.digest());
    }

    #[test]
    fn mutated_deltas_never_enter_and_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..6),
    ) {
        let honest = writer(3);
        let mut bytes = codec::encode(&whole(&honest));
        for (index, flip) in flips {
            let at = index.index(bytes.len());
            bytes[at] ^= flip;
        }
        let mut replica = Ledger::new();
        if let Ok(delta) = codec::decode::<Delta>(&bytes, DELTA_LEN_MAX)
            && delta != whole(&honest)
        {
            prop_assert!(replica.admit(&delta, &Rule::reader(2), now(60)).is_err());
            prop_assert!(replica.is_empty());
        }
    }

    #[test]
    fn random_bytes_are_no_delta_and_no_record(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let _ = codec::decode::<Delta>(&bytes, DELTA_LEN_MAX);
        let _ = SignedRecord::from_bytes(&bytes);
    }

    #[test]
    fn mutated_records_never_verify(
        at in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
    ) {
        let mut bytes = signed(grants_doc(), progress(1), 11).into_vec();
        let index = at.index(bytes.len());
        bytes[index] ^= flip;
        if let Ok(record) = SignedRecord::from_bytes(&bytes) {
            prop_assert!(record.verify().is_err());
        }
    }
}
