//! The node's own thread: wait → input → `handle` → drain `poll` → hand effects on.
//!
//! ```text
//!   inputs (bounded) ─┐
//!   durable position ─┼─► Node ─► after ≤ durable? ─ yes ─► hands
//!   time ─────────────┘                └─ no ─► held until the journal is there
//! ```
//! It waits for nothing but the journal's queue. Decides nothing: order and meaning are the node's.
//! Invariant: an output that carries a position is performed only when the journal is durable up to
//! it.

use std::time::Duration;

use mesh_base::time::Moment;
use mesh_peer::held::Held;
use mesh_peer::node::Node;
use mesh_peer::port::{Effect, Input, Output, Position, Room};
use tokio::sync::{mpsc, watch};

use crate::clock;
use crate::journal::Writer;
use crate::runtime::hands::Hands;

/// Longest time between two ticks.
const TICK_MAX: Duration = Duration::from_secs(1);
/// Shortest time between two ticks, so that a deadline that stays in the past keeps no input
/// waiting.
const TICK_MIN: Duration = Duration::from_millis(1);

/// Why the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// We were asked to stop.
    Asked,
    /// The journal promises nothing any more.
    Journal,
}

/// Everything that the loop works with.
pub struct Turn {
    node: Node,
    inputs: mpsc::Receiver<Input>,
    journal: Writer,
    durable: watch::Receiver<u64>,
    room: watch::Receiver<Room>,
    hands: Hands,
    stop: watch::Receiver<bool>,
    held: Held<Effect>,
    ticked: Moment,
}

impl Turn {
    /// Puts the loop together; `stop` becomes true when the daemon shall end.
    pub fn new(
        node: Node,
        inputs: mpsc::Receiver<Input>,
        journal: Writer,
        hands: Hands,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let mut durable = journal.durable();
        let room = journal.room();
        let held = Held::durable(Position(*durable.borrow_and_update()));
        Self {
            node,
            inputs,
            journal,
            durable,
            room,
            hands,
            stop,
            held,
            ticked: clock::now().mono,
        }
    }

    /// Runs until asked to stop or until the journal fails; what was written is on disk afterwards.
    pub async fn run(mut self) -> Ended {
        let mut done = self.drain();
        loop {
            match done {
                Ok(()) => done = self.once().await,
                // Dropping the journal writes and syncs what waits.
                Err(ended) => return ended,
            }
        }
    }

    async fn once(&mut self) -> Result<(), Ended> {
        let now = clock::now();
        let due = self.due();
        if due <= now.mono {
            self.ticked = now.mono;
            self.node.handle(Input::Tick, now);
            return self.drain();
        }
        let Self {
            stop,
            durable,
            room,
            inputs,
            ..
        } = self;
        let woken = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return Err(Ended::Asked),
            changed = durable.changed() => changed.map(|()| None).map_err(|_| Ended::Journal)?,
            changed = room.changed() => {
                changed.map_err(|_| Ended::Journal)?;
                Some(Input::Room(*room.borrow_and_update()))
            }
            input = inputs.recv() => Some(input.ok_or(Ended::Asked)?),
            () = tokio::time::sleep(due.since(now.mono)) => return Ok(()),
        };
        match woken {
            Some(input) => self.node.handle(input, clock::now()),
            None => self.persisted(),
        }
        self.drain()
    }

    fn persisted(&mut self) {
        let position = Position(*self.durable.borrow_and_update());
        self.node.handle(Input::Persisted(position), clock::now());
        for effect in self.held.release(position) {
            self.hands.perform(effect);
        }
    }

    fn due(&self) -> Moment {
        let latest = self.ticked + TICK_MAX;
        let wanted = self
            .node
            .next_deadline()
            .map_or(latest, |wanted| wanted.min(latest));
        wanted.max(self.ticked + TICK_MIN)
    }

    fn drain(&mut self) -> Result<(), Ended> {
        while let Some(Output { after, effect }) = self.node.poll() {
            if let Effect::Append { entry, .. } = effect {
                if !self.journal.append(entry) {
                    return Err(Ended::Journal);
                }
            } else if let Some(effect) = self.held.admit(after, effect) {
                self.hands.perform(effect);
            }
        }
        Ok(())
    }
}
