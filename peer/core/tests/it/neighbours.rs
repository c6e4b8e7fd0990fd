//! Whom whole nodes keep links with, as their data planes are told.

use std::time::Duration;

use mesh_peer::message::{Contact, LinkWish, Message, SignedContact};

use crate::town::Town;

fn town(count: usize) -> Town {
    let mut town = Town::new();
    let first = town.found("bakery", 0);
    for _ in 1..count {
        town.join(first, 0);
    }
    pass(&mut town, 10, &[]);
    town
}

/// Lets seconds pass while the data planes look at their links.
fn pass(town: &mut Town, seconds: u64, off: &[usize]) {
    for _ in 0..seconds {
        town.pass(Duration::from_secs(1));
        town.see_links(off);
    }
}

fn neighbours(town: &Town, index: usize) -> Vec<usize> {
    let others = 0..town.machines.len();
    others
        .filter(|other| town.is_neighbour(index, *other))
        .collect()
}

#[test]
fn mesh_of_eleven_is_full_and_silence_changes_nothing() {
    let mut town = town(11);
    pass(&mut town, 60, &[3]);
    for index in 0..11 {
        assert_eq!(neighbours(&town, index).len(), 10, "node {index}");
    }
}

#[test]
fn larger_mesh_has_fewer_links_and_both_ends_agree_on_them() {
    let mut town = town(26);
    pass(&mut town, 90, &[]);
    let mut total = 0;
    for index in 0..26 {
        let count = neighbours(&town, index).len();
        assert!(10 <= count, "node {index} has {count}");
        total += count;
        for other in 0..index {
            let plan = town
                .peer_plan(index, other)
                .expect("everybody has a session");
            assert!(!plan.endpoints.is_empty());
            assert_eq!(
                town.is_neighbour(index, other),
                town.is_neighbour(other, index),
                "{index} and {other}"
            );
        }
    }
    assert!(total < 26 * 25, "not everybody with everybody: {total}");
}

#[test]
fn chosen_neighbour_that_is_off_is_replaced() {
    let mut town = town(26);
    pass(&mut town, 30, &[]);
    let victim = neighbours(&town, 0)[0];
    pass(&mut town, 120, &[victim]);
    let held = (0..26).filter(|index| town.is_neighbour(*index, victim));
    // The control network still reaches it here, so its own choices may stand.
    let theirs = neighbours(&town, victim).len();
    assert!(held.count() <= theirs);
    for index in (0..26).filter(|index| *index != victim) {
        let alive = neighbours(&town, index);
        let alive = alive.iter().filter(|other| **other != victim);
        assert!(9 <= alive.count(), "node {index}");
    }
}

/// Returns two nodes without a link, the first with room for one.
fn strangers(town: &Town) -> (usize, usize) {
    let fewest = (0..town.machines.len()).min_by_key(|index| neighbours(town, *index).len());
    let one = fewest.expect("a town has nodes");
    let others = 0..town.machines.len();
    let mut others = others.filter(|other| *other != one && !town.is_neighbour(one, *other));
    (one, others.next().expect("nobody is everybody's neighbour"))
}

#[test]
fn wishes_of_others_make_a_link_and_end_it() {
    let mut town = town(26);
    pass(&mut town, 30, &[]);
    let (one, other) = strangers(&town);
    town.say(one, other, Message::Link(LinkWish::Wanted));
    assert!(town.is_neighbour(one, other));
    town.say(one, other, Message::Link(LinkWish::Unwanted));
    assert!(!town.is_neighbour(one, other));
}

#[test]
fn redirect_is_obeyed_only_by_who_asked() {
    let mut town = town(26);
    pass(&mut town, 30, &[]);
    let (one, other) = strangers(&town);
    let before = neighbours(&town, one);
    let ids: Vec<_> = town.machines.iter().map(|m| m.node.id()).collect();
    town.say(one, other, Message::Link(LinkWish::Redirect(ids)));
    assert_eq!(neighbours(&town, one), before);
}

#[test]
fn leaf_is_a_neighbour_only_if_it_wants_to() {
    let mut town = town(4);
    assert!(town.is_neighbour(0, 1));
    let machine = &town.machines[1];
    let (secret, chain) = (machine.secret.clone(), machine.node.chain().clone());
    let contact = Contact {
        node: machine.node.id(),
        chain,
        sequence: u64::MAX / 2,
        control: vec!["10.0.0.9:9".parse().unwrap()],
        wireguard: Vec::new(),
        leaf: true,
    };
    let signed = SignedContact::sign(contact, &secret);
    town.say(0, 2, Message::Contacts(vec![signed]));
    assert!(!town.is_neighbour(0, 1), "nobody chooses a leaf");
    assert!(town.peer_plan(0, 1).unwrap().leaf, "and it stays reachable");
    town.say(0, 1, Message::Link(LinkWish::Wanted));
    assert!(town.is_neighbour(0, 1));
    assert!(town.is_neighbour(0, 2) && !town.peer_plan(0, 2).unwrap().leaf);
    town.say(0, 1, Message::Link(LinkWish::Unwanted));
    assert!(!town.is_neighbour(0, 1));
}

#[test]
fn wish_that_was_not_understood_is_repeated_within_seconds() {
    let mut town = town(26);
    pass(&mut town, 31, &[]);
    // Pairs in which only the first wants the link: it stays gone if the first does not ask again.
    let mut forgotten = Vec::new();
    for one in 0..26 {
        for other in neighbours(&town, one) {
            town.say(other, one, Message::Link(LinkWish::Unwanted));
            if !town.is_neighbour(other, one) {
                forgotten.push((one, other));
            }
        }
    }
    assert!(10 < forgotten.len(), "{}", forgotten.len());
    pass(&mut town, 5, &[]);
    let back = |(one, other): &&(usize, usize)| town.is_neighbour(*other, *one);
    let count = forgotten.iter().filter(back).count();
    assert!(
        forgotten.len() * 3 / 4 <= count,
        "{count} of {}",
        forgotten.len()
    );
}
