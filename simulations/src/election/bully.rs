//! A comparator: the highest voter that is reached leads (Garcia-Molina 1982, as it is deployed).
//!
//! Everybody says ten times a second that it is alive; who has heard nobody higher for a second or
//! a bit more leads. No quorum, no term, no disk: quick, and split whenever the network is.

use std::time::Duration;

use mesh_base::time::Moment;

use crate::chance::Chance;

/// As often as our beats.
const ALIVE_EVERY: Duration = Duration::from_millis(100);

/// One bully.
#[derive(Debug)]
pub struct Bully {
    me: usize,
    heard: Vec<Option<Moment>>,
    patience: Duration,
    speak_at: Moment,
    since: Moment,
}

impl Bully {
    /// Begins; waits as long as it would for a silent leader.
    pub fn new(me: usize, count: usize, chance: &mut Chance, now: Moment) -> Self {
        Self {
            me,
            heard: vec![None; count],
            // The same draw as our voters' patience.
            patience: chance.span(Duration::from_millis(1000), Duration::from_millis(1500)),
            speak_at: now,
            since: now,
        }
    }

    /// Notes that somebody is alive.
    pub fn handle_alive(&mut self, from: usize, now: Moment) {
        if let Some(heard) = self.heard.get_mut(from) {
            *heard = Some(now);
        }
    }

    /// Returns whether it is time to say so itself.
    pub fn handle_time(&mut self, now: Moment) -> bool {
        if now < self.speak_at {
            return false;
        }
        self.speak_at = now + ALIVE_EVERY;
        true
    }

    /// Returns when time has to pass next.
    pub fn due(&self) -> Moment {
        self.speak_at
    }

    /// Returns whether it believes that it leads.
    pub fn leads(&self, now: Moment) -> bool {
        let higher = self.heard.iter().skip(self.me + 1);
        let last = higher.flatten().max().copied().unwrap_or(self.since);
        self.me + 1 == self.heard.len() || last + self.patience <= now
    }
}
