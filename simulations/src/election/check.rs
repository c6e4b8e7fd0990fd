//! What must hold, known from the promise and not from the code.
//!
//! One winner a term; one lease at a time while clocks are as good as stated; nothing safe is
//! lost; an executor obeys no past term, however wrong clocks are.

use std::collections::BTreeMap;

use mesh_federation::election::words::Term;

use crate::check::Violation;

/// A term has one winner, once.
pub const ONE_WINNER: &str = "a term is won once, and after every term before it";
/// Leases exclude each other.
pub const ONE_LEASE: &str = "no two leases are valid at once";
/// Safe records stay.
pub const SURVIVES: &str = "every later leader begins with every record that was safe";
/// Executors refuse the past.
pub const FENCED: &str = "an executor obeys no lower term than the highest that it has seen";
/// After the storm.
pub const LED: &str = "a healed group has a leader within twenty seconds";

/// A record's place: its term, and its number in it.
pub type Place = (Term, u64);

/// What has been seen of a group.
#[derive(Debug, Default)]
pub struct Check {
    winners: BTreeMap<Term, usize>,
    /// What each term's leader began with, for terms that have records.
    begun_with: BTreeMap<Term, Option<Place>>,
    safe: BTreeMap<Term, u64>,
    obeyed: Term,
    /// What was broken first.
    pub broken: Option<Violation>,
}

impl Check {
    /// Somebody won a term and begins with this newest record.
    pub fn won(&mut self, term: Term, winner: usize, newest: Option<Place>) {
        if let Some(known) = self.winners.insert(term, winner) {
            let seen = format!("voter {known} won {term:?}, and voter {winner} again");
            self.fail(ONE_WINNER, seen);
        }
        if let Some((later, _)) = newest.filter(|(at, _)| term <= *at) {
            let seen = format!("{term:?} begins with a record of {later:?}");
            self.fail(ONE_WINNER, seen);
        }
        // What follows walks back from term to term, which ends because they get lower.
        let newest = newest.filter(|(at, _)| *at < term);
        self.begun_with.insert(term, newest);
        self.survive(term);
    }

    /// A record is safe, says its leader.
    pub fn is_safe(&mut self, (term, sequence): Place) -> bool {
        let known = self.safe.entry(term).or_default();
        if sequence <= *known {
            return false;
        }
        *known = sequence;
        let later: Vec<Term> = self
            .begun_with
            .range(term.next()..)
            .map(|(term, _)| *term)
            .collect();
        for later in later {
            self.survive(later);
        }
        true
    }

    /// An executor did what a leader of this term wanted.
    pub fn obey(&mut self, term: Term) {
        if term < self.obeyed {
            let seen = self.obeyed;
            self.fail(FENCED, format!("obeyed {term:?} after {seen:?}"));
        }
        self.obeyed = self.obeyed.max(term);
    }

    /// Two voters may act at once.
    pub fn overlap(&mut self, one: usize, other: usize) {
        self.fail(ONE_LEASE, format!("voters {one} and {other} have one"));
    }

    /// Notes the first broken promise.
    pub fn fail(&mut self, promise: &'static str, seen: String) {
        if self.broken.is_none() {
            let mut violation = Violation::new(promise, seen);
            violation.checker = "election";
            self.broken = Some(violation);
        }
    }

    /// Walks from what a term began with back through what each of those began with.
    fn survive(&mut self, term: Term) {
        let mut place = self.begun_with.get(&term).copied().flatten();
        let mut wanted = self
            .safe
            .range(..term)
            .rev()
            .map(|(term, number)| (*term, *number));
        let mut next = wanted.next();
        while let Some(want) = next {
            while place.is_some_and(|(at, _)| want.0 < at) {
                place = place.and_then(|(at, _)| self.begun_with.get(&at).copied().flatten());
            }
            if place.is_none_or(|(at, number)| at != want.0 || number < want.1) {
                let seen = format!("{term:?} began without record {} of {:?}", want.1, want.0);
                return self.fail(SURVIVES, seen);
            }
            next = wanted.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safe_record_may_stand_behind_a_later_term() {
        let mut check = Check::default();
        check.won(Term(1), 0, None);
        assert!(check.is_safe((Term(1), 4)));
        check.won(Term(3), 1, Some((Term(1), 5)));
        check.won(Term(4), 1, Some((Term(3), 1)));
        assert!(check.broken.is_none());
    }

    #[test]
    fn each_broken_promise_is_seen() {
        let promise = |check: Check| check.broken.map(|broken| broken.promise);
        let mut check = Check::default();
        check.won(Term(1), 0, None);
        check.won(Term(1), 1, None);
        assert_eq!(promise(check), Some(ONE_WINNER));
        let mut check = Check::default();
        check.won(Term(1), 0, None);
        check.is_safe((Term(1), 4));
        check.won(Term(2), 1, Some((Term(1), 3)));
        assert_eq!(promise(check), Some(SURVIVES));
        let mut check = Check::default();
        check.won(Term(2), 1, None);
        check.is_safe((Term(1), 1));
        assert_eq!(promise(check), Some(SURVIVES));
        let mut check = Check::default();
        check.obey(Term(2));
        check.obey(Term(1));
        assert_eq!(promise(check), Some(FENCED));
    }
}
