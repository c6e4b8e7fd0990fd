//! What will happen, in order of virtual time: the one queue that drives a run.
//!
//! Invariant: time never goes back, and two events of the same moment come in the order in which
//! they were put in.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_base::time::Moment;

/// A queue of events by moment.
#[derive(Debug)]
pub struct Agenda<E> {
    events: BTreeMap<(Moment, u64), E>,
    sequence: u64,
    now: Moment,
}

impl<E> Agenda<E> {
    /// Returns an empty agenda at moment zero.
    pub fn new() -> Self {
        Self {
            events: BTreeMap::new(),
            sequence: 0,
            now: Moment(0),
        }
    }

    /// Puts an event `rest` from now.
    pub fn after(&mut self, rest: Duration, event: E) {
        self.at(self.now + rest, event);
    }

    /// Puts an event at a moment; one that has passed means now.
    pub fn at(&mut self, moment: Moment, event: E) {
        self.sequence += 1;
        self.events
            .insert((moment.max(self.now), self.sequence), event);
    }

    /// Takes the next event, and moves time to it.
    pub fn pop(&mut self) -> Option<(Moment, E)> {
        let ((moment, _), event) = self.events.pop_first()?;
        self.now = moment;
        Some((moment, event))
    }

    /// Returns when the next event comes.
    pub fn next_at(&self) -> Option<Moment> {
        let ((moment, _), _) = self.events.first_key_value()?;
        Some(*moment)
    }

    /// Moves time to a moment before which nothing happens; never past the next event.
    pub fn pass(&mut self, moment: Moment) {
        let next = self.next_at().unwrap_or(moment);
        self.now = self.now.max(moment.min(next));
    }

    /// Returns the present moment of the run.
    pub fn now(&self) -> Moment {
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_moment_then_by_entry() {
        let mut agenda = Agenda::new();
        agenda.after(Duration::from_micros(5), "b");
        agenda.after(Duration::from_micros(5), "c");
        agenda.after(Duration::from_micros(1), "a");
        let order: Vec<_> = std::iter::from_fn(|| agenda.pop()).collect();
        assert_eq!(
            order,
            [(Moment(1), "a"), (Moment(5), "b"), (Moment(5), "c")]
        );
    }

    #[test]
    fn past_moment_means_now() {
        let mut agenda = Agenda::new();
        agenda.after(Duration::from_micros(9), 1);
        agenda.pop();
        agenda.at(Moment(2), 2);
        assert_eq!(agenda.pop(), Some((Moment(9), 2)));
    }
}
