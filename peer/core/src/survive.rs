//! Which entries of a journal still say something: the rest may go when segments become a snapshot.
//!
//! Of what a later entry replaces, the last is kept: a contact, a meter, an instance's memory. What
//! the ledger has admitted is kept, all of it, for others build on it. Decides nothing about when.
//! Invariant: a node that is made from what is left is the node that is made from all.

use std::collections::BTreeMap;

use mesh_base::digest::Digest;
use mesh_base::identity::NodeId;
use mesh_base::name::Name;

use crate::entry::Entry;

/// What an entry replaces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Chain,
    Contact(NodeId),
    Secret(Digest),
    Meter(Digest),
    Item(Digest),
    Placed(Digest),
    Client(Name),
}

/// Returns the entries that are left, in their order. What cannot be read, because a newer program
/// wrote it, is left.
pub fn survivors(entries: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut last: BTreeMap<Subject, usize> = BTreeMap::new();
    let mut left: Vec<Option<Vec<u8>>> = Vec::new();
    for bytes in entries {
        let Ok(entry) = Entry::from_bytes(&bytes) else {
            left.push(Some(bytes));
            continue;
        };
        match entry {
            // All or none of a snapshot is there anyway.
            Entry::Together(parts) => {
                for part in flat(parts) {
                    let bytes = part.to_bytes();
                    add(&mut left, &mut last, &part, bytes);
                }
            }
            entry => add(&mut left, &mut last, &entry, bytes),
        }
    }
    left.into_iter().flatten().collect()
}

/// Returns the parts of entries that are there together, however deep.
fn flat(parts: Vec<Entry>) -> Vec<Entry> {
    let each = parts.into_iter().map(|part| match part {
        Entry::Together(deeper) => flat(deeper),
        part => vec![part],
    });
    each.flatten().collect()
}

/// Adds an entry, and takes away the one that it replaces.
fn add(
    left: &mut Vec<Option<Vec<u8>>>,
    last: &mut BTreeMap<Subject, usize>,
    entry: &Entry,
    bytes: Vec<u8>,
) {
    let subject = subject(entry);
    let before = match &subject {
        Some(subject) => last.insert(subject.clone(), left.len()),
        None => None,
    };
    if let Some(replaced) = before.and_then(|at| left.get_mut(at)) {
        *replaced = None;
    }
    // Who is let in no longer leaves nothing behind.
    let is_end = matches!(entry, Entry::ClientGone { .. });
    left.push((!is_end).then_some(bytes));
}

fn subject(entry: &Entry) -> Option<Subject> {
    match entry {
        Entry::Chain(_) => Some(Subject::Chain),
        Entry::Contact(contact) => Some(Subject::Contact(contact.contact.node)),
        Entry::Secret { order, .. } => Some(Subject::Secret(*order)),
        Entry::Meter { order, .. } => Some(Subject::Meter(*order)),
        Entry::Item { order, .. } => Some(Subject::Item(*order)),
        Entry::Placed { order, .. } => Some(Subject::Placed(*order)),
        Entry::Client { name, .. } | Entry::ClientGone { name } => {
            Some(Subject::Client(name.clone()))
        }
        // An invitation's first entry counts, and each use.
        Entry::Delta(_) | Entry::Invite(_) | Entry::Proof(_) | Entry::Together(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use mesh_base::time::Wall;
    use serde_bytes::ByteBuf;

    use super::*;

    fn order(byte: u8) -> Digest {
        Digest::from_bytes([byte; 32])
    }

    fn secret(of: u8, value: u8) -> Entry {
        Entry::Secret {
            order: order(of),
            sealed: ByteBuf::from(vec![value]),
        }
    }

    fn placed(of: u8, value: u8) -> Entry {
        Entry::Placed {
            order: order(of),
            sealed: ByteBuf::from(vec![value]),
        }
    }

    fn client(name: &str) -> Entry {
        Entry::Client {
            name: name.parse().unwrap(),
            key: [1; 32],
            since: Wall(1),
        }
    }

    fn gone(name: &str) -> Entry {
        Entry::ClientGone {
            name: name.parse().unwrap(),
        }
    }

    #[track_caller]
    fn check(entries: &[Entry], expect: &[Entry]) {
        let bytes =
            |entries: &[Entry]| -> Vec<Vec<u8>> { entries.iter().map(Entry::to_bytes).collect() };
        let left = survivors(bytes(entries));
        assert_eq!(left, bytes(expect));
        assert_eq!(
            survivors(left.clone()),
            left,
            "a second time changes nothing"
        );
    }

    #[test]
    fn last_of_each_subject_is_left_in_its_place() {
        check(
            &[secret(1, 1), placed(1, 2), secret(2, 3), secret(1, 4)],
            &[placed(1, 2), secret(2, 3), secret(1, 4)],
        );
    }

    #[test]
    fn what_was_on_disk_together_is_left_apart() {
        let deep = Entry::Together(vec![secret(2, 5)]);
        check(
            &[
                secret(1, 1),
                Entry::Together(vec![placed(1, 2), secret(1, 3), deep]),
            ],
            &[placed(1, 2), secret(1, 3), secret(2, 5)],
        );
    }

    #[test]
    fn client_that_is_gone_leaves_nothing_unless_it_came_back() {
        check(&[client("phone"), gone("phone")], &[]);
        check(
            &[client("phone"), gone("phone"), client("phone")],
            &[client("phone")],
        );
        check(&[client("phone"), gone("tablet")], &[client("phone")]);
    }

    #[test]
    fn what_cannot_be_read_is_left() {
        let newer = vec![0xff, 1, 2, 3];
        assert!(Entry::from_bytes(&newer).is_err());
        assert_eq!(survivors(vec![newer.clone()]), [newer]);
    }
}
