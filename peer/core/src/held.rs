//! What a core has promised, kept until the journal holds what the promise rests on.
//!
//! An output names the position of the entry that has to be on disk before anybody may hear of it.
//! Decides only the order: what waits leaves by position, and by its turn within one. Who writes
//! and who performs is the shell's.

use std::collections::BTreeMap;

use crate::port::Position;

/// Effects that wait for the journal, in order.
#[derive(Debug)]
pub struct Held<T> {
    /// How far the journal is on disk.
    durable: Position,
    waiting: BTreeMap<Position, Vec<T>>,
}

impl<T> Held<T> {
    /// Waits for what comes after a position that is on disk.
    #[must_use]
    pub const fn durable(durable: Position) -> Self {
        Self {
            durable,
            waiting: BTreeMap::new(),
        }
    }

    /// Gives the effect back if it may happen now; keeps it otherwise.
    pub fn admit(&mut self, after: Option<Position>, effect: T) -> Option<T> {
        match after {
            Some(after) if self.durable < after => {
                self.waiting.entry(after).or_default().push(effect);
                None
            }
            _ => Some(effect),
        }
    }

    /// Notes how far the journal is on disk; returns what may happen now.
    pub fn release(&mut self, durable: Position) -> impl Iterator<Item = T> + use<T> {
        self.durable = durable;
        let later = self
            .waiting
            .split_off(&Position(durable.0.saturating_add(1)));
        std::mem::replace(&mut self.waiting, later)
            .into_values()
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_wait_for_their_position_and_come_in_order() {
        let mut held = Held::durable(Position(3));
        assert_eq!(held.admit(None, "free"), Some("free"));
        assert_eq!(held.admit(Some(Position(3)), "old"), Some("old"));
        assert_eq!(held.admit(Some(Position(5)), "b"), None);
        assert_eq!(held.admit(Some(Position(4)), "a"), None);
        assert_eq!(held.admit(Some(Position(5)), "c"), None);
        assert_eq!(held.admit(Some(Position(6)), "d"), None);
        assert_eq!(
            held.release(Position(5)).collect::<Vec<_>>(),
            ["a", "b", "c"]
        );
        assert_eq!(held.release(Position(5)).count(), 0);
        assert_eq!(held.release(Position(9)).collect::<Vec<_>>(), ["d"]);
    }
}
