//! The hand that leads a run: waits for conditions in virtual time, asks and waits for answers,
//! looks.

use std::time::Duration;

use mesh_api::{ApiError, Reply, Request};
use mesh_peer::port::CallId;

use crate::check::Violation;
use crate::network::HostId;
use crate::scenario::wishes::{TAG_FIRST, Wishes};
use crate::world::{Happening, World};

/// The last word on a call.
pub type Answer = Result<Reply, ApiError>;

/// A world and the customers in it.
pub struct Play {
    /// The world.
    pub world: World,
    /// The customers.
    pub wishes: Wishes,
    tags: u64,
}

impl Play {
    /// Begins.
    pub fn new(world: World, wishes: Wishes) -> Self {
        Self {
            world,
            wishes,
            tags: 0,
        }
    }

    /// Lets time pass, and looks at every ledger every `every`.
    pub fn pass(&mut self, span: Duration, every: Duration) -> Result<(), Violation> {
        let end = self.world.now() + span;
        while self.world.now() < end {
            let rest = end.since(self.world.now()).min(every);
            self.wait_alarm(rest)?;
            self.world.look();
            if let Some(violation) = self.world.take_violation() {
                return Err(violation);
            }
        }
        Ok(())
    }

    /// Waits until `missing` finds nothing missing; a broken promise if it still does after
    /// `bound`.
    pub fn until(
        &mut self,
        promise: &'static str,
        bound: Duration,
        mut missing: impl FnMut(&World, &Wishes) -> Option<String>,
    ) -> Result<(), Violation> {
        let end = self.world.now() + bound;
        loop {
            let Some(what) = missing(&self.world, &self.wishes) else {
                return Ok(());
            };
            if end <= self.world.now() {
                return Err(Violation::new(promise, what));
            }
            self.pass(Duration::from_secs(1), Duration::from_secs(1))?;
        }
    }

    /// Asks a daemon and waits for its last word.
    pub fn ask(&mut self, host: HostId, request: Request) -> Result<Answer, Violation> {
        let question = format!("{request:?}");
        let none = || Violation::new("a daemon answers", format!("{host:?}: {question}"));
        let asked = self.world.ask(host, request).ok_or_else(none)?;
        self.tags += 1;
        let tag = self.tags;
        self.world.alarm(Duration::from_secs(60), tag);
        loop {
            match self.world.next()? {
                None => return Err(none()),
                Some(Happening::Alarm(rung)) if rung == tag => return Err(none()),
                Some(Happening::Reply { call, reply }) if call == asked => return Ok(*reply),
                Some(other) => self.wishes.handle(&mut self.world, other)?,
            }
        }
    }

    /// Asks a daemon; whatever else than a good answer breaks a promise.
    pub fn ask_well(&mut self, host: HostId, request: Request) -> Result<Reply, Violation> {
        let question = format!("{request:?}");
        self.ask(host, request)?.map_err(|error| {
            Violation::new(
                "a lawful request is answered",
                format!("{question}: {error:?}"),
            )
        })
    }

    /// Waits for the answers of several calls at once.
    pub fn answers(
        &mut self,
        calls: &[CallId],
        bound: Duration,
    ) -> Result<Vec<(CallId, Answer)>, Violation> {
        self.tags += 1;
        let tag = self.tags;
        self.world.alarm(bound, tag);
        let mut answers = Vec::new();
        while answers.len() < calls.len() {
            match self.world.next()? {
                Some(Happening::Reply { call, reply }) if calls.contains(&call) => {
                    answers.push((call, *reply));
                }
                Some(Happening::Alarm(rung)) if rung == tag => break,
                Some(other) => self.wishes.handle(&mut self.world, other)?,
                None => break,
            }
        }
        Ok(answers)
    }

    fn wait_alarm(&mut self, rest: Duration) -> Result<(), Violation> {
        self.tags += 1;
        let tag = self.tags;
        debug_assert!(tag < TAG_FIRST, "tags of plays and wishes never meet");
        self.world.alarm(rest, tag);
        loop {
            match self.world.next()? {
                Some(Happening::Alarm(rung)) if rung == tag => return Ok(()),
                Some(other) => self.wishes.handle(&mut self.world, other)?,
                None => return Ok(()),
            }
        }
    }
}
