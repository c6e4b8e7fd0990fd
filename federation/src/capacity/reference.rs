//! The allocator against a naive reference: a list of everything that ever happened.

use mesh_base::digest::Digest;

use super::*;
use crate::attempt::tests::Dice;

const TOTAL_MIB: u32 = 1_000;

/// Every answer for good, searched from the start each time.
#[derive(Default)]
struct Naive {
    past: Vec<(u64, u32, Did)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Did {
    Reserved { memory_mib: u32, until: Moment },
    Granted { memory_mib: u32 },
    Closed,
}

impl Naive {
    fn last(&self, number: u64) -> Option<(u32, Did)> {
        let past = self.past.iter().rev().filter(|(of, _, _)| *of == number);
        past.map(|(_, attempt, did)| (*attempt, *did)).next()
    }

    fn is_closed(&self, number: u64, attempt: u32) -> bool {
        let closed = |(of, closed, did): &(u64, u32, Did)| {
            *of == number && attempt <= *closed && *did == Did::Closed
        };
        self.past.iter().any(closed)
    }

    fn held(&self, number: u64, now: Moment) -> u32 {
        match self.last(number) {
            Some((_, Did::Reserved { memory_mib, until })) if now < until => memory_mib,
            Some((_, Did::Granted { memory_mib })) => memory_mib,
            _ => 0,
        }
    }

    fn used(&self, now: Moment) -> u32 {
        (0..8).map(|number| self.held(number, now)).sum()
    }

    fn reserve(
        &mut self,
        number: u64,
        attempt: u32,
        wanted: u32,
        now: Moment,
    ) -> Result<Kept, NoRoom> {
        let last = self.last(number);
        if let Some((of, Did::Granted { .. })) = last {
            return Err(NoRoom::Granted(of));
        }
        if self.is_closed(number, attempt) {
            return Err(NoRoom::Closed(attempt));
        }
        match last {
            Some((of, Did::Reserved { until, .. })) if now < until && attempt == of => {
                return Ok(Kept::Before(until));
            }
            Some((of, Did::Reserved { until, .. })) if now < until && attempt < of => {
                return Err(NoRoom::Superseded(of));
            }
            _ => {}
        }
        let free = TOTAL_MIB - (self.used(now) - self.held(number, now));
        if free < wanted {
            self.past.push((number, attempt, Did::Closed));
            return Err(NoRoom::Short {
                what: Shortage::Memory,
                free,
                wanted,
            });
        }
        let until = now + RESERVATION;
        self.past.push((
            number,
            attempt,
            Did::Reserved {
                memory_mib: wanted,
                until,
            },
        ));
        Ok(Kept::New(until))
    }

    fn confirm(&mut self, number: u64, attempt: u32, now: Moment) -> bool {
        let last = self.last(number);
        let closed = self.is_closed(number, attempt);
        match last {
            Some((of, Did::Granted { .. })) if of == attempt => return true,
            Some((of, Did::Reserved { memory_mib, until }))
                if of == attempt && now < until && !closed =>
            {
                self.past
                    .push((number, attempt, Did::Granted { memory_mib }));
                return true;
            }
            _ if closed => return false,
            _ => {}
        }
        // A lapsed award closes its attempt and earlier ones, but leaves what later ones have.
        match last {
            Some((of, Did::Reserved { .. })) if of <= attempt => {
                self.past.push((number, attempt, Did::Closed));
            }
            _ => self.past.insert(0, (number, attempt, Did::Closed)),
        }
        false
    }
}

#[test]
fn random_commands_agree_with_the_naive_reference() {
    let mut dice = Dice::new(42);
    let total = Amount {
        slots: 99,
        memory_mib: TOTAL_MIB,
        cpu_millis: 9_999,
        disk_mib: 9_999,
    };
    let (mut node, mut naive) = (Allocator::new(total), Naive::default());
    let mut now = Moment::default();
    for step in 0..40_000 {
        now = now + Duration::from_millis(dice.roll(1_500));
        let (number, attempt) = (dice.roll(8), 1 + dice.roll(2) as u32 + step / 3_000);
        let order = RecordId(Digest::of(&number.to_be_bytes()));
        match dice.roll(8) {
            0..4 => {
                let memory_mib = dice.roll(500) as u32;
                let wanted = Amount {
                    slots: 1,
                    memory_mib,
                    cpu_millis: 1,
                    disk_mib: 1,
                };
                let got = node.reserve(order, attempt, wanted, now);
                assert_eq!(
                    got,
                    naive.reserve(number, attempt, memory_mib, now),
                    "step {step}"
                );
            }
            4..6 => {
                let got = node.confirm(order, attempt, now).is_ok();
                assert_eq!(got, naive.confirm(number, attempt, now), "step {step}");
            }
            6 => {
                if let Some((of, Did::Granted { .. })) = naive.last(number) {
                    assert!(node.release(order, of).is_some());
                    naive.past.push((number, of, Did::Closed));
                }
            }
            _ => node.expire(now),
        }
        node.expire(now);
        assert_eq!(
            node.free().memory_mib,
            TOTAL_MIB - naive.used(now),
            "step {step}"
        );
    }
}
