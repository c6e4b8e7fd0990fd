//! The virtual driver of one machine: slots and processes that outlive the daemon, as shims do.
//!
//! A step takes a drawn time and then has its effect. If the daemon is killed meanwhile, the effect
//! is there or it is not, and nobody reports it; if the machine loses power, slots stay and
//! processes end. Steps of one item happen one after the other. Invariant: only a created item has
//! processes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_base::digest::Digest;
use mesh_base::time::Moment;
use mesh_compute::step::{Event, ItemId, Meters, Step, Verdict};

use crate::chance::Chance;
use crate::tally::{Fault, Tally};
use crate::weather::Weather;

/// Names a step under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkId(pub u64);

/// What the world outside can see changing on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A slot was made.
    Made(ItemId),
    /// Nothing of the item is left.
    Unmade(ItemId),
    /// Processes that had ended run again.
    Again(ItemId),
}

#[derive(Debug, Clone)]
struct Work {
    step: Step,
    fails: bool,
}

#[derive(Debug, Clone, Default)]
struct Slot {
    ran: Duration,
    running_since: Option<Moment>,
}

/// Slots, processes and steps under way of one machine.
#[derive(Debug, Default)]
pub struct Driver {
    software: BTreeSet<Digest>,
    slots: BTreeMap<ItemId, Slot>,
    under_way: BTreeMap<WorkId, Work>,
    busy_until: BTreeMap<ItemId, Moment>,
    works: u64,
}

impl Driver {
    /// Takes a step in; returns its name and when it will be done.
    pub fn begin(
        &mut self,
        step: Step,
        now: Moment,
        weather: &Weather,
        chance: &mut Chance,
        tally: &mut Tally,
    ) -> (WorkId, Moment) {
        let fails = chance.permille(weather.step_fail_permille);
        if fails {
            tally.fault(Fault::StepFailed);
        }
        let ms = Duration::from_millis;
        let span = match &step {
            Step::Software { recipe } if self.software.contains(recipe) => (ms(0), ms(2)),
            Step::Software { .. } => (ms(100), ms(3000)),
            Step::Create(_) | Step::Destroy { .. } => (ms(5), ms(300)),
            Step::Start { .. } | Step::Stop { .. } => (ms(5), ms(500)),
            Step::Probe { .. } => (ms(1), ms(100)),
            Step::Meter { .. } => (ms(0), ms(5)),
        };
        let mut done = now + chance.span(span.0, span.1);
        if let Some(item) = item(&step) {
            let busy = self.busy_until.entry(item).or_default();
            done = done.max(*busy);
            *busy = done;
        }
        self.works += 1;
        let id = WorkId(self.works);
        self.under_way.insert(id, Work { step, fails });
        (id, done)
    }

    /// Ends a step; returns what the driver reports and what changed. Nothing if it was
    /// interrupted.
    pub fn finish(&mut self, id: WorkId, now: Moment) -> Option<(Event, Option<Change>)> {
        let work = self.under_way.remove(&id)?;
        Some(self.perform(work, now))
    }

    /// The daemon was killed: each step under way has had its effect or not.
    pub fn interrupt(&mut self, now: Moment, chance: &mut Chance) -> Vec<Change> {
        let works = std::mem::take(&mut self.under_way);
        let happened = works.into_values().filter(|_| chance.permille(500));
        let works: Vec<Work> = happened.collect();
        works
            .into_iter()
            .filter_map(|work| self.perform(work, now).1)
            .collect()
    }

    /// The machine lost power: processes end, slots stay.
    pub fn lose_power(&mut self, now: Moment, chance: &mut Chance) -> Vec<Change> {
        let changes = self.interrupt(now, chance);
        self.slots.values_mut().for_each(|slot| stop(slot, now));
        changes
    }

    /// Ends one running instance, if there is one; returns what the driver reports.
    pub fn kill_one(&mut self, now: Moment, chance: &mut Chance) -> Option<Event> {
        let running: Vec<ItemId> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.running_since.is_some())
            .map(|(item, _)| *item)
            .collect();
        let item = *chance.pick(&running)?;
        stop(self.slots.get_mut(&item)?, now);
        Some(Event::Stopped {
            item,
            how: "signal 9".to_owned(),
        })
    }

    /// Returns every item that has a slot, and whether it has processes.
    pub fn items(&self) -> impl Iterator<Item = (ItemId, bool)> {
        self.slots
            .iter()
            .map(|(item, slot)| (*item, slot.running_since.is_some()))
    }

    fn perform(&mut self, work: Work, now: Moment) -> (Event, Option<Change>) {
        let reason = "the disk of this machine hesitates; try again".to_owned();
        if work.fails {
            let event = match work.step {
                Step::Software { recipe } => Event::SoftwareFailed { recipe, reason },
                Step::Probe { item, promise } => Event::Probed {
                    item,
                    promise,
                    verdict: Verdict::Broken(reason),
                },
                step => item(&step).map_or_else(
                    || Event::SoftwareFailed {
                        recipe: Digest::default(),
                        reason: reason.clone(),
                    },
                    |item| Event::Failed {
                        item,
                        reason: reason.clone(),
                    },
                ),
            };
            return (event, None);
        }
        match work.step {
            Step::Software { recipe } => {
                self.software.insert(recipe);
                let tree = Digest::of_parts(&[b"tree", recipe.as_bytes()]);
                (Event::SoftwareReady { recipe, tree }, None)
            }
            Step::Create(spec) => {
                let new = !self.slots.contains_key(&spec.item);
                self.slots.entry(spec.item).or_default();
                (
                    Event::Created { item: spec.item },
                    new.then_some(Change::Made(spec.item)),
                )
            }
            Step::Destroy { item } => {
                self.busy_until.remove(&item);
                let old = self.slots.remove(&item).is_some();
                (
                    Event::Destroyed { item },
                    old.then_some(Change::Unmade(item)),
                )
            }
            Step::Start { item } => {
                let again = self
                    .slots
                    .get(&item)
                    .is_some_and(|slot| slot.running_since.is_none() && slot.ran != Duration::ZERO);
                let event = self.touch(Step::Start { item }, now);
                (event, again.then_some(Change::Again(item)))
            }
            step => (self.touch(step, now), None),
        }
    }

    /// Performs a step that needs a slot and keeps it.
    fn touch(&mut self, step: Step, now: Moment) -> Event {
        let id = item(&step).unwrap_or(ItemId(Digest::default()));
        let Some(slot) = self.slots.get_mut(&id) else {
            return match step {
                Step::Stop { item } => Event::Stopped {
                    item,
                    how: "was not there".to_owned(),
                },
                Step::Probe { item, promise } => {
                    let verdict = Verdict::Broken("there is no such instance".to_owned());
                    Event::Probed {
                        item,
                        promise,
                        verdict,
                    }
                }
                _ => Event::Failed {
                    item: id,
                    reason: "there is no such instance".to_owned(),
                },
            };
        };
        match step {
            Step::Start { item } => {
                slot.running_since.get_or_insert(now);
                Event::Started { item }
            }
            Step::Stop { item } => {
                stop(slot, now);
                Event::Stopped {
                    item,
                    how: "exit 0".to_owned(),
                }
            }
            Step::Probe { item, promise } => {
                let verdict = match slot.running_since {
                    Some(_) => Verdict::Holds,
                    None => Verdict::Broken("connection refused".to_owned()),
                };
                Event::Probed {
                    item,
                    promise,
                    verdict,
                }
            }
            _ => Event::Metered {
                item: id,
                meters: meters(slot, now),
            },
        }
    }
}

fn stop(slot: &mut Slot, now: Moment) {
    if let Some(since) = slot.running_since.take() {
        slot.ran += now.since(since);
    }
}

fn meters(slot: &Slot, now: Moment) -> Meters {
    let ran = slot.ran
        + slot
            .running_since
            .map_or(Duration::ZERO, |since| now.since(since));
    let ran_ms = u64::try_from(ran.as_millis()).unwrap_or(u64::MAX);
    Meters {
        cpu_ms: ran_ms / 16,
        memory_mib: if slot.running_since.is_some() { 48 } else { 0 },
        disk_mib: 40 + ran_ms / 60_000,
        received_bytes: ran_ms * 3,
        sent_bytes: ran_ms * 7,
    }
}

fn item(step: &Step) -> Option<ItemId> {
    match step {
        Step::Software { .. } => None,
        Step::Create(spec) => Some(spec.item),
        Step::Start { item }
        | Step::Probe { item, .. }
        | Step::Stop { item }
        | Step::Meter { item }
        | Step::Destroy { item } => Some(*item),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_compute::step::InstanceSpec;

    const NOW: Moment = Moment(1_000_000);

    fn spec(byte: u8) -> Box<InstanceSpec> {
        Box::new(InstanceSpec {
            item: ItemId(Digest::of(&[byte])),
            name: "crm-db".to_owned(),
            recipe: Digest::of(b"recipe"),
            address: "fd73::1".parse().unwrap(),
            values: BTreeMap::new(),
            memory_mib: 64,
            cpu_millis: 100,
            pids: 10,
        })
    }

    /// Performs steps one after the other in fair weather and hands over the reports.
    fn run(driver: &mut Driver, steps: Vec<Step>) -> Vec<Event> {
        let (weather, mut chance) = (Weather::fair(), Chance::new(1, "driver"));
        let mut tally = Tally::default();
        let mut step = |step| {
            let (id, done) = driver.begin(step, NOW, &weather, &mut chance, &mut tally);
            driver.finish(id, done).unwrap().0
        };
        steps.into_iter().map(&mut step).collect()
    }

    #[test]
    fn slot_survives_the_daemon_and_processes_do_not_survive_the_power() {
        let (mut driver, item) = (Driver::default(), spec(1).item);
        run(
            &mut driver,
            vec![Step::Create(spec(1)), Step::Start { item }],
        );
        driver.interrupt(NOW, &mut Chance::new(1, "k"));
        assert_eq!(driver.items().collect::<Vec<_>>(), [(item, true)]);
        driver.lose_power(NOW, &mut Chance::new(1, "k"));
        assert_eq!(driver.items().collect::<Vec<_>>(), [(item, false)]);
    }

    #[test]
    fn repeated_step_is_reported_again_and_changes_nothing() {
        let (mut driver, item) = (Driver::default(), spec(1).item);
        let steps = vec![
            Step::Create(spec(1)),
            Step::Create(spec(1)),
            Step::Destroy { item },
        ];
        let events = run(&mut driver, steps);
        let expect = [
            Event::Created { item },
            Event::Created { item },
            Event::Destroyed { item },
        ];
        assert_eq!(events, expect);
        assert_eq!(driver.items().count(), 0);
    }

    #[test]
    fn steps_of_one_item_do_not_overtake() {
        let (weather, mut chance) = (Weather::fair(), Chance::new(1, "driver"));
        let (mut driver, mut tally) = (Driver::default(), Tally::default());
        let mut last = NOW;
        for _ in 0..50 {
            let step = Step::Create(spec(1));
            let (_, done) = driver.begin(step, NOW, &weather, &mut chance, &mut tally);
            assert!(last <= done);
            last = done;
        }
    }

    #[test]
    fn stopped_instance_breaks_its_promise() {
        let (mut driver, item) = (Driver::default(), spec(1).item);
        let probe = Step::Probe {
            item,
            promise: "answers".to_owned(),
        };
        let events = run(&mut driver, vec![Step::Create(spec(1)), probe]);
        assert!(matches!(
            events.last(),
            Some(Event::Probed {
                verdict: Verdict::Broken(_),
                ..
            })
        ));
    }
}
