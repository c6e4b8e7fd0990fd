//! What is believed of one neighbour, and what was asked of it (RFC 8967, §3.2 and §4.3).

use mesh_base::time::Moment;

use super::limits::{CHALLENGE_STEP, NONCE_AGE_MAX};
use super::window::Window;

/// The number of a challenge of ours.
pub type Nonce = [u8; 16];

/// One sender whose packets carry a MAC of ours.
#[derive(Debug)]
pub struct Neighbour {
    proven: Option<Proven>,
    asked: Option<Asked>,
    /// When a challenge of it was answered last.
    answered: Option<Moment>,
    /// When a packet of it was taken last, or its first one came.
    pub heard: Moment,
}

/// What a neighbour showed to be of now.
#[derive(Debug)]
struct Proven {
    index: Vec<u8>,
    multicast: Window,
    unicast: Window,
}

/// A challenge that is not answered yet.
#[derive(Debug)]
struct Asked {
    nonce: Nonce,
    drawn: Moment,
    last: Moment,
}

/// How a packet came; each way has its own window (RFC 9467, §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the group of all.
    Multicast,
    /// To us.
    Unicast,
}

/// What a counter under an index means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It was never seen.
    Fresh,
    /// It was seen, or is too old to tell.
    Old,
    /// The index was never proven.
    Unproven,
}

impl Neighbour {
    /// Begins with somebody of whom nothing is believed.
    pub fn new(now: Moment) -> Self {
        Self {
            proven: None,
            asked: None,
            answered: None,
            heard: now,
        }
    }

    /// Returns whether it ever answered a challenge.
    pub fn is_proven(&self) -> bool {
        self.proven.is_some()
    }

    /// Returns the number of the challenge that may still be answered.
    pub fn nonce(&self, now: Moment) -> Option<Nonce> {
        let asked = self.asked.as_ref()?;
        (now.since(asked.drawn) < NONCE_AGE_MAX).then_some(asked.nonce)
    }

    /// Notes that a challenge was answered by a packet with this counter and index.
    pub fn prove(&mut self, counter: u32, index: &[u8]) {
        self.asked = None;
        self.proven = Some(Proven {
            index: index.to_vec(),
            multicast: Window::from_here(counter),
            unicast: Window::from_here(counter),
        });
    }

    /// Notes a counter under an index.
    pub fn take(&mut self, counter: u32, index: &[u8], way: Way) -> Freshness {
        let proven = self.proven.as_mut().filter(|proven| proven.index == index);
        let Some(proven) = proven else {
            return Freshness::Unproven;
        };
        let window = match way {
            Way::Multicast => &mut proven.multicast,
            Way::Unicast => &mut proven.unicast,
        };
        if window.take(counter) {
            return Freshness::Fresh;
        }
        Freshness::Old
    }

    /// Returns the number to challenge it with now; none if it was asked just before.
    ///
    /// A number that may still be answered is sent again: drawing a new one would forget the answer
    /// that is under way on a slow link.
    pub fn challenge(&mut self, now: Moment, draw: impl FnOnce() -> Nonce) -> Option<Nonce> {
        let current = self.nonce(now);
        if let (Some(nonce), Some(asked)) = (current, self.asked.as_mut()) {
            if now.since(asked.last) < CHALLENGE_STEP {
                return None;
            }
            asked.last = now;
            return Some(nonce);
        }
        let nonce = draw();
        self.asked = Some(Asked {
            nonce,
            drawn: now,
            last: now,
        });
        Some(nonce)
    }

    /// Returns whether a challenge of it is answered now, or came too soon after the one before.
    pub fn may_answer(&mut self, now: Moment) -> bool {
        let soon = |last: Moment| now.since(last) < CHALLENGE_STEP;
        if self.answered.is_some_and(soon) {
            return false;
        }
        self.answered = Some(now);
        true
    }
}
