//! What the node wants done, in order, and the journal position that each effect waits for.
//!
//! Invariant: positions are given out without gaps and each is appended before any output waits for
//! it.

use std::collections::VecDeque;

use mesh_base::identity::NodeId;

use crate::entry::Entry;
use crate::message::Message;
use crate::port::{Effect, Output, Position};

/// The queue between the core and its shell.
#[derive(Debug, Default)]
pub struct Outbox {
    appended: Position,
    persisted: Position,
    queue: VecDeque<Output>,
}

impl Outbox {
    /// Starts behind a journal that already holds `entries` entries, all on disk.
    pub fn behind(entries: u64) -> Self {
        let position = Position(entries);
        Self {
            appended: position,
            persisted: position,
            queue: VecDeque::new(),
        }
    }

    /// Notes how far the journal is on disk.
    pub fn handle_persisted(&mut self, position: Position) {
        self.persisted = self.persisted.max(position.min(self.appended));
    }

    /// Appends an entry to the journal; returns the position that promises about it must wait for.
    pub fn append(&mut self, entry: &Entry) -> Position {
        self.appended = Position(self.appended.0.saturating_add(1));
        let effect = Effect::Append {
            position: self.appended,
            entry: entry.to_bytes(),
        };
        self.queue.push_back(Output {
            after: None,
            effect,
        });
        self.appended
    }

    /// Wants an effect that promises nothing.
    pub fn now(&mut self, effect: Effect) {
        self.queue.push_back(Output {
            after: None,
            effect,
        });
    }

    /// Wants an effect once everything appended so far is on disk.
    pub fn durable(&mut self, effect: Effect) {
        let after = (self.persisted < self.appended).then_some(self.appended);
        self.queue.push_back(Output { after, effect });
    }

    /// Sends a message that rests on nothing new.
    pub fn send(&mut self, to: NodeId, message: Message) {
        self.now(Effect::Send {
            to,
            message: Box::new(message),
        });
    }

    /// Sends a message once everything appended so far is on disk.
    pub fn send_durable(&mut self, to: NodeId, message: Message) {
        self.durable(Effect::Send {
            to,
            message: Box::new(message),
        });
    }

    /// Takes the next output.
    pub fn poll(&mut self) -> Option<Output> {
        self.queue.pop_front()
    }

    /// Returns the last position given out.
    pub fn appended(&self) -> Position {
        self.appended
    }

    /// Returns how far the journal is on disk.
    pub fn persisted(&self) -> Position {
        self.persisted
    }
}
