//! What a node has reserved and granted of its own capacity: never more than it has.
//!
//! Decides whether an order fits and which attempt may be confirmed. The node alone owns these
//! facts; the caller writes each answer as a record before it says it. A reservation lives
//! [`RESERVATION`] and lapses with a restart; a grant lives until it is released and is restored
//! from the ledger.
//!
//! ```text
//! reserve ─► reserved ─► confirm ─► granted ─► release ─► closed
//!    └► no room: closed     └► lapsed: closed
//! ```
//! Invariants: reserved + granted ≤ total, unless the total was lowered later; an attempt that was
//! closed is never granted, however late or often its ask and its award arrive. This is what keeps
//! an order from being executed twice: after a signed no, the customer's next attempt may run
//! elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_base::time::Moment;
use mesh_ledger::grant::Shortage;
use mesh_ledger::record::RecordId;
use serde::{Deserialize, Serialize};

/// How long capacity is kept for an order that was not awarded yet.
pub const RESERVATION: Duration = Duration::from_secs(10);
/// Most reservations at the same time: what customers may ask is not what they pay for.
pub const RESERVATIONS_MAX: usize = 1_000;
/// Most closed orders that are remembered. When they are used up no new order is taken, for to
/// forget one could execute it twice; rotation of the grants document makes room.
pub const CLOSED_MAX: usize = 200_000;

/// An amount of everything that is given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Amount {
    /// Instances.
    pub slots: u32,
    /// Memory.
    pub memory_mib: u32,
    /// Processor time, in thousandths of a core.
    pub cpu_millis: u32,
    /// Disk.
    pub disk_mib: u32,
}

impl Amount {
    /// Returns what a node says that it has in total.
    pub fn of(capacity: &mesh_ledger::charter::Capacity) -> Self {
        Self {
            slots: capacity.slots,
            memory_mib: capacity.memory_mib,
            cpu_millis: capacity.cpu_millis,
            disk_mib: capacity.disk_mib,
        }
    }

    /// Returns what one instance of this order takes.
    pub fn wanted(order: &mesh_ledger::order::Order) -> Self {
        let (memory_mib, cpu_millis) = (order.memory_mib, order.cpu_millis);
        Self {
            slots: 1,
            memory_mib,
            cpu_millis,
            disk_mib: order.disk_mib,
        }
    }

    /// Returns the first thing of which `self` has less than `wanted`, with both quantities.
    pub fn shortage(&self, wanted: &Self) -> Option<(Shortage, u32, u32)> {
        [
            (Shortage::Slots, self.slots, wanted.slots),
            (Shortage::Memory, self.memory_mib, wanted.memory_mib),
            (Shortage::Cpu, self.cpu_millis, wanted.cpu_millis),
            (Shortage::Disk, self.disk_mib, wanted.disk_mib),
        ]
        .into_iter()
        .find(|(_, have, want)| have < want)
    }

    /// Returns what is left after taking `other` away, nothing where it is more.
    pub fn minus(self, other: Self) -> Self {
        Self {
            slots: self.slots.saturating_sub(other.slots),
            memory_mib: self.memory_mib.saturating_sub(other.memory_mib),
            cpu_millis: self.cpu_millis.saturating_sub(other.cpu_millis),
            disk_mib: self.disk_mib.saturating_sub(other.disk_mib),
        }
    }

    /// Returns the sum.
    pub fn plus(self, other: Self) -> Self {
        Self {
            slots: self.slots.saturating_add(other.slots),
            memory_mib: self.memory_mib.saturating_add(other.memory_mib),
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            disk_mib: self.disk_mib.saturating_add(other.disk_mib),
        }
    }
}

/// Why nothing was reserved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoRoom {
    /// Something is used up. The attempt is closed: sign a refusal.
    #[error("not enough {} left: {free} free, {wanted} wanted", what.as_str())]
    Short {
        /// What is short.
        what: Shortage,
        /// How much is free.
        free: u32,
        /// How much is wanted.
        wanted: u32,
    },
    /// This or a later attempt was answered for good already; its record says how.
    #[error("attempt {0} was answered already")]
    Closed(u32),
    /// A later attempt of the order is under way here.
    #[error("a later attempt, {0}, is under way")]
    Superseded(u32),
    /// An attempt of the order is granted and not released.
    #[error("attempt {0} of this order is granted already")]
    Granted(u32),
    /// A limit of ours. The attempt is not closed: write nothing, the customer asks somebody else.
    #[error("too many orders are remembered or reserved here")]
    Full,
}

/// What a reservation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Capacity is kept from now until then: sign the reservation.
    New(Moment),
    /// It was kept before, until then; the record exists.
    Before(Moment),
}

/// What a confirmation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// It is granted from now on: sign the grant.
    New(Amount),
    /// It was granted before; the record exists.
    Before(Amount),
}

/// Why an award is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotConfirmed {
    /// The reservation is over, or never was. The attempt is closed: sign a refusal.
    #[error("the reservation had lapsed")]
    Lapsed,
    /// The attempt was closed before; its record exists.
    #[error("the attempt was answered already")]
    Closed,
}

#[derive(Debug, Clone, Copy)]
struct Reserved {
    attempt: u32,
    amount: Amount,
    until: Moment,
}

#[derive(Debug, Clone, Copy)]
struct Granted {
    attempt: u32,
    amount: Amount,
}

/// The books of one node's capacity.
#[derive(Debug, Clone)]
pub struct Allocator {
    total: Amount,
    reserved: BTreeMap<RecordId, Reserved>,
    granted: BTreeMap<RecordId, Granted>,
    /// The highest attempt of each order that was answered for good.
    closed: BTreeMap<RecordId, u32>,
}

impl Allocator {
    /// Returns an allocator with nothing given out.
    pub fn new(total: Amount) -> Self {
        let (reserved, granted, closed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self {
            total,
            reserved,
            granted,
            closed,
        }
    }

    /// Keeps capacity for an attempt. Asked again, the same attempt gets the same answer.
    pub fn reserve(
        &mut self,
        order: RecordId,
        attempt: u32,
        wanted: Amount,
        now: Moment,
    ) -> Result<Kept, NoRoom> {
        self.expire(now);
        if let Some(granted) = self.granted.get(&order) {
            return Err(NoRoom::Granted(granted.attempt));
        }
        if self
            .closed
            .get(&order)
            .is_some_and(|closed| attempt <= *closed)
        {
            return Err(NoRoom::Closed(attempt));
        }
        match self.reserved.get(&order) {
            Some(before) if attempt < before.attempt => {
                return Err(NoRoom::Superseded(before.attempt));
            }
            Some(before) if attempt == before.attempt => return Ok(Kept::Before(before.until)),
            // A later attempt of the same order: the earlier reservation is in nobody's use.
            _ => self.reserved.remove(&order),
        };
        if RESERVATIONS_MAX <= self.reserved.len() || self.cannot_remember(&order) {
            return Err(NoRoom::Full);
        }
        if let Some((what, free, wanted)) = self.free().shortage(&wanted) {
            self.close(order, attempt);
            return Err(NoRoom::Short { what, free, wanted });
        }
        let until = now + RESERVATION;
        self.reserved.insert(
            order,
            Reserved {
                attempt,
                amount: wanted,
                until,
            },
        );
        Ok(Kept::New(until))
    }

    /// Turns a living reservation into a grant; the award was checked by the caller.
    pub fn confirm(
        &mut self,
        order: RecordId,
        attempt: u32,
        now: Moment,
    ) -> Result<Confirmed, NotConfirmed> {
        self.expire(now);
        if let Some(granted) = self.granted.get(&order)
            && granted.attempt == attempt
        {
            return Ok(Confirmed::Before(granted.amount));
        }
        if self
            .closed
            .get(&order)
            .is_some_and(|closed| attempt <= *closed)
        {
            return Err(NotConfirmed::Closed);
        }
        let reserved = self.reserved.get(&order).copied();
        match reserved.filter(|reserved| reserved.attempt == attempt) {
            Some(Reserved { amount, .. }) => {
                self.reserved.remove(&order);
                self.granted.insert(order, Granted { attempt, amount });
                Ok(Confirmed::New(amount))
            }
            // Never reserved, and never will be while the table is full: no need to remember it.
            None if self.cannot_remember(&order) => Err(NotConfirmed::Lapsed),
            None => {
                self.close(order, attempt);
                Err(NotConfirmed::Lapsed)
            }
        }
    }

    /// Closes an attempt that is refused for a reason outside of capacity (price, credit,
    /// parameters).
    ///
    /// A granted attempt is not touched; release it.
    pub fn refuse(&mut self, order: RecordId, attempt: u32) {
        if self
            .granted
            .get(&order)
            .is_some_and(|granted| granted.attempt <= attempt)
        {
            return;
        }
        self.close(order, attempt);
    }

    /// Gives a grant back and closes its attempt; returns what it had, nothing if there was none.
    pub fn release(&mut self, order: RecordId, attempt: u32) -> Option<Amount> {
        let granted = self
            .granted
            .get(&order)
            .filter(|granted| granted.attempt == attempt)?;
        let amount = granted.amount;
        self.granted.remove(&order);
        self.close(order, attempt);
        Some(amount)
    }

    /// Notes a grant of an earlier run, from the ledger.
    pub fn restore_grant(&mut self, order: RecordId, attempt: u32, amount: Amount) {
        self.granted.insert(order, Granted { attempt, amount });
    }

    /// Notes a refusal or release of an earlier run, from the ledger.
    ///
    /// Grants and closings may be replayed in the order in which they were written.
    pub fn restore_closed(&mut self, order: RecordId, attempt: u32) {
        if self
            .granted
            .get(&order)
            .is_some_and(|granted| granted.attempt <= attempt)
        {
            self.granted.remove(&order);
        }
        self.close(order, attempt);
    }

    /// Changes what the node has; what is given out already stays given.
    pub fn set_total(&mut self, total: Amount) {
        self.total = total;
    }

    /// Drops reservations that have lapsed.
    pub fn expire(&mut self, now: Moment) {
        self.reserved.retain(|_, reserved| now < reserved.until);
    }

    /// Returns when the next reservation lapses.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.reserved.values().map(|reserved| reserved.until).min()
    }

    /// Returns what the node has.
    pub fn total(&self) -> Amount {
        self.total
    }

    /// Returns what is given out for good.
    pub fn granted(&self) -> Amount {
        self.granted
            .values()
            .fold(Amount::default(), |sum, granted| sum.plus(granted.amount))
    }

    /// Returns what can still be reserved.
    pub fn free(&self) -> Amount {
        let reserved = self.reserved.values().map(|reserved| reserved.amount);
        self.total
            .minus(reserved.fold(self.granted(), Amount::plus))
    }

    /// Returns the granted attempt of an order.
    pub fn granted_attempt(&self, order: &RecordId) -> Option<u32> {
        self.granted.get(order).map(|granted| granted.attempt)
    }

    /// Returns how many orders are granted.
    pub fn granted_count(&self) -> usize {
        self.granted.len()
    }

    fn cannot_remember(&self, order: &RecordId) -> bool {
        CLOSED_MAX <= self.closed.len()
            && !self.closed.contains_key(order)
            && !self.reserved.contains_key(order)
    }

    fn close(&mut self, order: RecordId, attempt: u32) {
        if self
            .reserved
            .get(&order)
            .is_some_and(|reserved| reserved.attempt <= attempt)
        {
            self.reserved.remove(&order);
        }
        let highest = self.closed.entry(order).or_default();
        *highest = attempt.max(*highest);
    }
}

#[cfg(test)]
mod reference;

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_base::digest::Digest;

    fn order(number: u64) -> RecordId {
        RecordId(Digest::of(&number.to_be_bytes()))
    }

    fn amount(memory_mib: u32) -> Amount {
        Amount {
            slots: 1,
            memory_mib,
            cpu_millis: 100,
            disk_mib: 10,
        }
    }

    fn seconds(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000)
    }

    fn allocator() -> Allocator {
        Allocator::new(Amount {
            slots: 4,
            memory_mib: 1_000,
            cpu_millis: 1_000,
            disk_mib: 100,
        })
    }

    #[test]
    fn reserved_capacity_is_not_free_until_it_lapses() {
        let mut node = allocator();
        assert_eq!(
            node.reserve(order(1), 1, amount(700), seconds(0)),
            Ok(Kept::New(seconds(10)))
        );
        let short = NoRoom::Short {
            what: Shortage::Memory,
            free: 300,
            wanted: 400,
        };
        assert_eq!(
            node.reserve(order(2), 1, amount(400), seconds(1)),
            Err(short)
        );
        assert_eq!(node.next_deadline(), Some(seconds(10)));
        assert_eq!(
            node.reserve(order(3), 1, amount(400), seconds(10)),
            Ok(Kept::New(seconds(20)))
        );
    }

    #[test]
    fn living_reservation_is_confirmed_once() {
        let mut node = allocator();
        node.reserve(order(1), 1, amount(700), seconds(0)).unwrap();
        let confirmed = node.confirm(order(1), 1, seconds(9));
        assert_eq!(confirmed, Ok(Confirmed::New(amount(700))));
        let again = node.confirm(order(1), 1, seconds(60));
        assert_eq!(again, Ok(Confirmed::Before(amount(700))));
        assert_eq!(node.free().memory_mib, 300);
        let refused = node.reserve(order(1), 2, amount(1), seconds(60));
        assert_eq!(refused, Err(NoRoom::Granted(1)));
    }

    #[test]
    fn closed_attempt_is_never_granted_however_late_its_messages_come() {
        let mut node = allocator();
        node.reserve(order(1), 1, amount(700), seconds(0)).unwrap();
        assert_eq!(
            node.confirm(order(1), 1, seconds(10)),
            Err(NotConfirmed::Lapsed)
        );
        let late = node.reserve(order(1), 1, amount(700), seconds(11));
        assert_eq!(late, Err(NoRoom::Closed(1)));
        assert_eq!(
            node.confirm(order(1), 1, seconds(12)),
            Err(NotConfirmed::Closed)
        );
        assert!(node.reserve(order(1), 2, amount(700), seconds(13)).is_ok());
        let earlier = node.reserve(order(1), 1, amount(700), seconds(13));
        assert_eq!(earlier, Err(NoRoom::Closed(1)));
    }

    #[test]
    fn earlier_attempt_is_superseded_by_a_later_one() {
        let mut node = allocator();
        node.reserve(order(1), 5, amount(1), seconds(0)).unwrap();
        let earlier = node.reserve(order(1), 4, amount(1), seconds(0));
        assert_eq!(earlier, Err(NoRoom::Superseded(5)));
    }

    #[test]
    fn restart_keeps_grants_and_closings_and_drops_reservations() {
        let mut node = allocator();
        node.restore_grant(order(1), 1, amount(100));
        node.restore_closed(order(1), 1);
        node.restore_grant(order(1), 2, amount(100));
        node.restore_closed(order(2), 3);
        assert_eq!(node.granted_attempt(&order(1)), Some(2));
        assert_eq!(
            node.confirm(order(2), 3, seconds(0)),
            Err(NotConfirmed::Closed)
        );
        assert_eq!(
            node.confirm(order(3), 1, seconds(0)),
            Err(NotConfirmed::Lapsed)
        );
        assert_eq!(node.release(order(1), 1), None);
        assert_eq!(node.release(order(1), 2), Some(amount(100)));
        assert_eq!(node.free(), node.total());
    }

    #[test]
    fn refused_attempt_frees_its_reservation() {
        let mut node = allocator();
        node.reserve(order(1), 1, amount(700), seconds(0)).unwrap();
        node.refuse(order(1), 1);
        assert_eq!(node.free(), node.total());
        assert_eq!(
            node.confirm(order(1), 1, seconds(1)),
            Err(NotConfirmed::Closed)
        );
    }

    #[test]
    fn reservations_end_at_their_limit() {
        let none = Amount::default();
        let mut node = allocator();
        for number in 0..RESERVATIONS_MAX as u64 {
            node.reserve(order(number), 1, none, seconds(0)).unwrap();
        }
        assert_eq!(
            node.reserve(order(9_999), 1, none, seconds(0)),
            Err(NoRoom::Full)
        );
        assert!(node.reserve(order(9_999), 1, none, seconds(10)).is_ok());
    }

    #[test]
    fn node_that_cannot_remember_more_takes_no_new_orders() {
        let mut node = allocator();
        for number in 0..CLOSED_MAX as u64 {
            node.restore_closed(order(number), 1);
        }
        let never = node.confirm(order(u64::MAX), 1, seconds(0));
        assert_eq!(never, Err(NotConfirmed::Lapsed));
        assert_eq!(node.closed.len(), CLOSED_MAX);
        let fresh = order(u64::MAX);
        assert_eq!(
            node.reserve(fresh, 1, amount(1), seconds(0)),
            Err(NoRoom::Full)
        );
        assert!(node.reserve(order(7), 2, amount(1), seconds(0)).is_ok());
    }
}
