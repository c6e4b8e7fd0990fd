//! Bytes that reached and left each instance since it was created, over restarts of the daemon.
//!
//! The data plane counts from zero after every start; what it had counted before is kept in
//! `HOME/traffic/ITEM`, written whenever meters are read. After a crash the bytes since then are
//! missing: a customer may pay too little, never too much. Invariant: what is returned for an item
//! never goes down.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mesh_compute::step::ItemId;

use crate::remember;

/// Received and sent bytes.
type Bytes = (u64, u64);

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    /// Counted by earlier runs of the data plane.
    before: Bytes,
    /// What the data plane said last.
    last: Bytes,
}

/// The counts of all instances.
#[derive(Debug)]
pub struct Traffic {
    folder: PathBuf,
    counts: BTreeMap<ItemId, Count>,
}

impl Traffic {
    /// Keeps counts in `folder`.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            counts: BTreeMap::new(),
        }
    }

    /// Notes what the data plane counts now; returns the whole.
    pub fn note(&mut self, item: ItemId, seen: Bytes) -> Bytes {
        let file = self.folder.join(item.0.to_string());
        let count = self.counts.entry(item).or_insert_with(|| Count {
            before: std::fs::read_to_string(&file)
                .ok()
                .and_then(|text| read(&text))
                .unwrap_or_default(),
            last: (0, 0),
        });
        if seen.0 < count.last.0 || seen.1 < count.last.1 {
            // The data plane had let the instance go and counts anew.
            count.before = add(count.before, count.last);
        }
        count.last = seen;
        let whole = add(count.before, seen);
        let written = std::fs::create_dir_all(&self.folder).and_then(|()| {
            let text = format!("{} {}\n", whole.0, whole.1);
            remember::replace(&file, text.as_bytes())
        });
        if let Err(error) = written {
            tracing::warn!(%error, "traffic is not remembered");
        }
        whole
    }

    /// Forgets an instance that is no more.
    pub fn forget(&mut self, item: ItemId) {
        self.counts.remove(&item);
        remember::forget(&self.folder.join(item.0.to_string()));
    }
}

fn add(left: Bytes, right: Bytes) -> Bytes {
    (
        left.0.saturating_add(right.0),
        left.1.saturating_add(right.1),
    )
}

fn read(text: &str) -> Option<Bytes> {
    let (received, sent) = text.trim().split_once(' ')?;
    Some((received.parse().ok()?, sent.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use mesh_base::digest::Digest;

    use super::*;

    #[test]
    fn counts_grow_over_restarts_and_new_beginnings() {
        let folder = tempfile::tempdir().unwrap();
        let item = ItemId(Digest::of(b"order"));
        let mut traffic = Traffic::new(folder.path().join("traffic"));
        assert_eq!(traffic.note(item, (10, 1)), (10, 1));
        assert_eq!(traffic.note(item, (15, 2)), (15, 2));
        assert_eq!(traffic.note(item, (3, 0)), (18, 2));
        let mut traffic = Traffic::new(folder.path().join("traffic"));
        assert_eq!(traffic.note(item, (1, 1)), (19, 3));
        traffic.forget(item);
        assert_eq!(traffic.note(item, (1, 1)), (1, 1));
    }
}
