//! Whether the longest packets of programs pass on a straight way that routing does not know of.
//!
//! A knock is short, so it proves nothing of length; a flow that left the mesh for a way that
//! swallows what is long would hang. So such a way is used once a question of full length has been
//! answered there, asked on while it is used, and left when some in a row are not. Decides nothing
//! about links: those have a stream to go to, and [`mesh_routing::carriage`].

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mesh_routing::limits::MTU;
use mesh_routing::probe;
use mesh_routing::reach::drawn;

use super::Link;
use crate::exit::{Exit, Way};

/// Marks questions that are about a straight way and not the carriage's.
const MARK: u64 = 1 << 63;
/// Unanswered questions in a row after which long packets do not pass.
const MISSED_MAX: u32 = 5;
/// Questions that may still be answered: those of three seconds.
const ASKED_MAX: usize = 16;
/// Pause between questions while an answer is missing, while all is well, and when all is lost.
const SOON: Duration = Duration::from_millis(200);
const CHECK: Duration = Duration::from_secs(3);
const LATER: Duration = Duration::from_secs(10);

/// What is known of a straight way.
#[derive(Debug, Default)]
pub(super) struct Width {
    at: Option<SocketAddr>,
    passes: bool,
    /// What numbers are made of, and how many there were.
    secret: u64,
    count: u64,
    /// Numbers of the last questions, such that who is not there cannot answer.
    asked: VecDeque<u64>,
    /// Questions since the last answer.
    missed: u32,
    next: Option<Instant>,
}

impl Width {
    /// Makes what knows nothing yet; nobody may be able to guess `secret`.
    pub(super) fn new(secret: u64) -> Self {
        Self {
            secret,
            ..Self::default()
        }
    }

    /// Returns whether long packets pass to this place.
    pub(super) fn carries(&self, at: SocketAddr) -> bool {
        self.passes && self.at == Some(at)
    }

    /// Returns the number of a question that is to go to this place now.
    fn ask(&mut self, at: SocketAddr, used: bool, now: Instant) -> Option<u64> {
        if self.at != Some(at) {
            *self = Self {
                at: Some(at),
                secret: self.secret,
                count: self.count,
                ..Self::default()
            };
        }
        let sound = self.passes && self.missed == 0;
        if self.next.is_some_and(|next| now < next) || (sound && !used) {
            return None;
        }
        let lost = MISSED_MAX <= self.missed;
        self.passes &= !lost;
        self.next = Some(now + if lost { LATER } else { SOON });
        self.missed = self.missed.saturating_add(1);
        if ASKED_MAX <= self.asked.len() {
            self.asked.pop_front();
        }
        self.count += 1;
        let number = MARK | drawn(self.secret, self.count);
        self.asked.push_back(number);
        Some(number)
    }

    /// Takes an answer from a place.
    fn hear(&mut self, number: u64, from: SocketAddr, now: Instant) {
        if self.asked.contains(&number) && self.at == Some(from) {
            self.passes = true;
            self.missed = 0;
            self.next = Some(now + CHECK);
        }
    }
}

impl Link {
    /// Asks whether long packets pass on the straight way, if that is to be known now.
    pub(super) fn measure(
        &mut self,
        used: bool,
        exit: &mut Exit<'_>,
        out: &mut [u8],
        now: Instant,
    ) {
        let Some(at) = self.proven_straight() else {
            return;
        };
        let Some(number) = self.width.ask(at, used, now) else {
            return;
        };
        let len = u16::try_from(MTU).unwrap_or(u16::MAX);
        let question = probe::try_length(number, len, exit.own(), self.address);
        // What is not sent is not answered, as if it were lost.
        let _ = self.seal(&question, Way::Direct(at), exit, out, now);
    }

    /// Takes the answer to such a question.
    pub(super) fn take_width(&mut self, number: u64, from: SocketAddr, now: Instant) {
        self.width.hear(number, from, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    /// Asks for some time, answers what is answered; returns how often was asked.
    fn run(width: &mut Width, answers: bool, start: Instant, seconds: u64) -> usize {
        let steps = (0..seconds * 10).map(|step| start + Duration::from_millis(100 * step));
        let asked = steps.filter(|now| {
            let number = width.ask(place(1), true, *now);
            if let (Some(number), true) = (number, answers) {
                width.hear(number, place(1), *now);
            }
            number.is_some()
        });
        asked.count()
    }

    #[test]
    fn way_is_used_once_long_packets_pass_and_left_when_they_no_longer_do() {
        let (mut width, start) = (Width::default(), Instant::now());
        assert!(!width.carries(place(1)));
        let asked = run(&mut width, true, start, 30);
        assert!(width.carries(place(1)) && asked <= 11, "{asked}");
        let later = start + Duration::from_secs(30);
        run(&mut width, false, later, 5);
        assert!(!width.carries(place(1)));
        let asked = run(&mut width, false, later + Duration::from_secs(5), 100);
        assert!(asked <= 11, "{asked} questions in vain");
    }

    #[test]
    fn answer_from_elsewhere_or_to_nothing_proves_nothing() {
        let (mut width, now) = (Width::default(), Instant::now());
        let number = width.ask(place(1), true, now).unwrap();
        width.hear(number, place(2), now);
        width.hear(number + 1, place(1), now);
        width.hear(number & !MARK, place(1), now);
        assert!(!width.carries(place(1)));
        width.hear(number, place(1), now);
        assert!(width.carries(place(1)) && !width.carries(place(2)));
        width.ask(place(2), true, now);
        assert!(!width.carries(place(1)), "it moved");
    }
}
