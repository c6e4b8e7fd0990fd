//! What a link's datagrams travel in: UDP, or, where UDP does not pass, a stream.
//!
//! ```text
//!          heard by UDP                 silent for DOUBT
//!   New ──────────────────► Udp ──────────────────────────► Doubt: by both
//!    │ silent for PATIENCE   ▲ ▲          short answered       │
//!    │ heard by the stream   │ └───────────────────────────────┤
//!    ▼                       │ long answered                   │ nothing answered
//!   Stream ◄─────────────────┴─────────────────────────────────┘
//!      └ tried again after AGAIN_MIN, twice that, … AGAIN_MAX
//! ```
//! A trial asks by UDP, first with short questions, then with ones as long as anything that the
//! link carries; each answer comes back by UDP and is as long. So both directions are proven
//! together, and both ends come to the same verdict. Where only datagrams without a second layer
//! pass, parcels that are longer go by the stream and all else by UDP. While a link is in doubt
//! everything goes both ways: the session takes each datagram once, whichever comes first, so a
//! link whose UDP dies does not go down. Who came back too early waits twice as long the next time.
//! A connection may be dead without a word, so a trial of length that goes badly also asks by the
//! stream: what UDP does carry is not given up for a stream over which nothing is heard.
//!
//! Decides nothing about sockets and sessions, and nothing without a stream: then there is nothing
//! to choose, and nothing is asked. Invariant: what is asked is bounded: at most
//! [`QUESTIONS_MAX`] questions in a trial, and no two trials begin within [`HINT_GAP`] but when a
//! link falls silent.

use std::time::Duration;

use mesh_base::time::Moment;

use crate::limits::MTU;
use crate::transit;

/// How long UDP may take to answer on a new link before the stream carries it: the first handshake
/// and its two quick repetitions. Who is farther away is found by the trials that follow.
pub const PATIENCE: Duration = Duration::from_millis(600);

/// Silence by UDP after which a link is in doubt: longer than between two hellos, and early enough
/// that the speaker's last questions go by the stream too.
pub const DOUBT: Duration = Duration::from_millis(1300);

/// How often a short question is asked: at 30 % loss of questions and answers, five are lost once
/// in forty times, and then a link goes by the stream for a few seconds.
pub const SHORT_COUNT: u8 = 5;

/// How many questions a trial of length has: the longest at once, then by turns the longest packet
/// of a program and the longest of all.
pub const LONG_COUNT: u8 = 11;

/// Pause between two questions, or two pairs of them; doubled after the last of a kind.
pub const STEP: Duration = Duration::from_millis(200);

/// Questions of a trial by UDP without an answer after which the stream is asked too.
const STREAM_AFTER: u8 = 3;

/// Most questions of a trial, the stream's included.
pub const QUESTIONS_MAX: u8 = SHORT_COUNT + LONG_COUNT + 2;

/// How long a stream that was dead when it was needed is not asked again.
pub const DISTRUST: Duration = Duration::from_secs(10);

/// First pause before UDP is tried again while the stream carries.
pub const AGAIN_MIN: Duration = Duration::from_secs(2);

/// Longest such pause.
pub const AGAIN_MAX: Duration = Duration::from_secs(60);

/// UDP that worked for so long has worked: its next failure is a first one.
pub const STEADY: Duration = Duration::from_secs(60);

/// How often it is tried whether long datagrams still pass, while some are sent.
pub const CHECK: Duration = Duration::from_secs(3);

/// Least time from a trial to one that the other end's behaviour makes useful.
pub const HINT_GAP: Duration = Duration::from_secs(5);

/// Length of the shortest question.
const SHORT: u16 = 64;

/// Length of the longest packet of a program.
const OWN: u16 = MTU as u16;

/// Length of the longest packet in a link's session: a parcel with the longest datagram of a
/// session in it, which is a packet and WireGuard's 32 bytes.
pub const LONG: u16 = OWN + 32 + transit::OVERHEAD as u16;

/// Why the stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Nothing is answered by UDP.
    Silent,
    /// Short datagrams are, long ones are not.
    Narrow,
}

/// What carries a link, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carrier {
    /// UDP.
    Udp,
    /// UDP, but for what is too long for it.
    UdpNarrow,
    /// A stream.
    Stream(Why),
}

/// How a packet is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carry {
    /// By UDP.
    Udp,
    /// By UDP and by the stream.
    Both,
    /// By the stream.
    Stream,
}

/// A question. By UDP a short one goes to wherever the peer may be, a long one only to where it was
/// heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Comes back in the answer.
    pub number: u64,
    /// How long the packet is to be, and its answer.
    pub len: u16,
    /// Whether it goes by the stream: is that alive?
    pub by_stream: bool,
}

impl Ask {
    /// Returns whether it asks if anything passes at all.
    pub fn is_short(&self) -> bool {
        self.len == SHORT
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing came by UDP yet.
    New,
    /// Packets up to this length go by UDP.
    Udp {
        since: Moment,
        fits: u16,
    },
    /// It was like this, and is silent.
    Doubt {
        since: Moment,
        fits: u16,
    },
    Stream(Why),
}

/// What a trial is after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    /// Whether anything passes.
    Short,
    /// How much does; `own` says that the longest packet of a program did.
    Long { own: bool },
}

const LONG_AIM: Aim = Aim::Long { own: false };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trial {
    aim: Aim,
    /// Number of its first question.
    first: u64,
    begun: Moment,
    asked: u8,
    /// Whether the stream was asked too.
    asked_stream: bool,
    next: Moment,
}

impl Trial {
    const fn count(&self) -> u8 {
        match self.aim {
            Aim::Short => SHORT_COUNT,
            Aim::Long { .. } => LONG_COUNT,
        }
    }

    /// Returns how long a question is, by its place.
    const fn len(&self, at: u64) -> u16 {
        match self.aim {
            Aim::Short => SHORT,
            Aim::Long { .. } if at % 2 == 1 => OWN,
            Aim::Long { .. } => LONG,
        }
    }
}

/// The choice for one link. Call [`Carriage::handle_time`], then
/// [`Carriage::poll_ask`], whenever time may have passed.
#[derive(Debug)]
pub struct Carriage {
    state: State,
    /// Since when UDP could have been heard.
    begun: Moment,
    udp_heard: Option<Moment>,
    stream_heard: Option<Moment>,
    /// Until when the stream is not thought of again, for it was found dead.
    distrusted: Moment,
    has_stream: bool,
    trial: Option<Trial>,
    /// When the last trial ended.
    tried: Option<Moment>,
    /// Number of the next trial's first question.
    number: u64,
    /// Pause before the next trial while the stream carries, and when that is.
    wait: Duration,
    again: Moment,
    /// Whether something long went by UDP since the last trial.
    sent_long: bool,
}

impl Carriage {
    /// Makes the choice of a link that begins now.
    pub fn new(now: Moment) -> Self {
        Self {
            state: State::New,
            begun: now,
            udp_heard: None,
            stream_heard: None,
            distrusted: now,
            has_stream: false,
            trial: None,
            tried: None,
            number: 0,
            wait: AGAIN_MIN,
            again: now,
            sent_long: false,
        }
    }

    /// Takes note of whether there is a stream.
    pub fn handle_stream(&mut self, has: bool, now: Moment) {
        if self.has_stream == has {
            return;
        }
        self.has_stream = has;
        self.trial = None;
        self.distrusted = now;
        match self.state {
            State::Udp { .. } if has => self.begin(LONG_AIM, now),
            State::Doubt { since, fits } => self.state = State::Udp { since, fits },
            // Whatever else the link is now, it is to be found by UDP.
            State::Stream(_) => {
                self.state = State::New;
                self.begun = now;
            }
            State::New | State::Udp { .. } => {}
        }
    }

    /// There is no session to ask with. What was to be tried waits for one, and UDP that was not
    /// heard for [`PATIENCE`] is given up, so that handshakes go by the stream too.
    pub fn handle_sessionless(&mut self, now: Moment) {
        self.trial = None;
        let silent = PATIENCE <= now.since(self.udp_heard.unwrap_or(self.begun));
        let carries = matches!(self.state, State::Stream(_));
        if self.has_stream && silent && !carries {
            self.enter_stream(Why::Silent, now);
        }
    }

    /// Takes note of an authenticated datagram that came by UDP; `moved` says that it came from
    /// elsewhere than before.
    pub fn handle_udp(&mut self, moved: bool, now: Moment) {
        self.udp_heard = Some(now);
        match self.state {
            State::New => {
                self.enter_udp(LONG, now);
                self.begin(LONG_AIM, now);
            }
            State::Doubt { since, fits } => self.state = State::Udp { since, fits },
            State::Udp { .. } if moved => self.begin(LONG_AIM, now),
            State::Udp { .. } => {}
            State::Stream(_) => self.hint(now),
        }
    }

    /// Takes note of an authenticated datagram that came by the stream: the other end had a reason.
    pub fn handle_streamed(&mut self, now: Moment) {
        self.stream_heard = Some(now);
        match self.state {
            State::New if self.has_stream => {
                self.enter_stream(Why::Silent, now);
                self.again = now;
            }
            State::Udp { .. } => self.hint(now),
            State::New | State::Doubt { .. } | State::Stream(_) => {}
        }
    }

    /// Takes an answer that came by UDP.
    pub fn handle_answer(&mut self, number: u64, now: Moment) {
        let Some(trial) = self.trial else {
            return;
        };
        let at = number.wrapping_sub(trial.first);
        if u64::from(trial.asked) <= at {
            return;
        }
        match trial.len(at) {
            SHORT => self.begin(LONG_AIM, now),
            OWN => {
                if let Some(trial) = &mut self.trial {
                    trial.aim = Aim::Long { own: true };
                }
            }
            _ => {
                self.end(now);
                self.enter_udp(LONG, now);
            }
        }
    }

    /// Lets time pass.
    pub fn handle_time(&mut self, now: Moment) {
        if !self.has_stream {
            return;
        }
        match self.state {
            State::New if PATIENCE <= now.since(self.begun) => {
                self.enter_stream(Why::Silent, now);
                // Its handshakes have been tried until now.
                self.again = now + self.wait;
            }
            State::Udp { since, fits } if self.is_silent(now) => {
                self.state = State::Doubt { since, fits };
                self.begin(Aim::Short, now);
            }
            State::Udp { fits, .. } if self.trial.is_none() => {
                let narrow = fits < LONG && self.again <= now;
                let unsure = self.sent_long && self.rested(CHECK, now) && self.distrusted <= now;
                if narrow || unsure {
                    self.begin(LONG_AIM, now);
                }
            }
            State::Stream(_) if self.trial.is_none() && self.again <= now => {
                self.begin(Aim::Short, now);
            }
            State::New | State::Udp { .. } | State::Doubt { .. } | State::Stream(_) => {}
        }
    }

    /// Says how a packet of this length is to go that leaves now.
    pub fn carry(&mut self, len: usize, now: Moment) -> Carry {
        if !self.has_stream {
            return Carry::Udp;
        }
        if let State::Udp { since, fits } = self.state
            && self.is_silent(now)
        {
            self.state = State::Doubt { since, fits };
            self.begin(Aim::Short, now);
        }
        match self.state {
            State::New => Carry::Udp,
            State::Stream(_) => Carry::Stream,
            State::Udp { fits, .. } | State::Doubt { fits, .. } if usize::from(fits) < len => {
                Carry::Stream
            }
            State::Udp { .. } => {
                // Between the two it is not known what passes until it is tried.
                self.sent_long |= usize::from(SHORT) * 8 < len;
                Carry::Udp
            }
            State::Doubt { .. } => Carry::Both,
        }
    }

    /// Returns a question that is to go now. Whoever cannot send one need not ask: then the
    /// trial waits.
    pub fn poll_ask(&mut self, now: Moment) -> Option<Ask> {
        let trial = self.trial.as_mut()?;
        if now < trial.next {
            return None;
        }
        if trial.count() <= trial.asked {
            self.fail(now);
            return None;
        }
        let number = trial.first + u64::from(trial.asked);
        if STREAM_AFTER <= trial.asked && !trial.asked_stream {
            trial.asked_stream = true;
            let (len, by_stream) = (SHORT, true);
            return Some(Ask {
                number,
                len,
                by_stream,
            });
        }
        let ask = Ask {
            number,
            len: trial.len(trial.asked.into()),
            by_stream: false,
        };
        trial.asked += 1;
        if trial.asked == trial.count() {
            trial.next = now + 2 * STEP;
        } else if ask.len != OWN {
            trial.next = now + STEP;
        }
        Some(ask)
    }

    /// Returns whether time should pass in short steps.
    pub fn is_busy(&self) -> bool {
        self.trial.is_some()
    }

    /// Returns whether everything goes both ways.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self.state, State::Doubt { .. })
    }

    /// Returns what carries the link.
    pub fn carrier(&self) -> Carrier {
        match self.state {
            State::Stream(why) => Carrier::Stream(why),
            State::Udp { fits, .. } | State::Doubt { fits, .. } if fits < LONG => {
                Carrier::UdpNarrow
            }
            State::New | State::Udp { .. } | State::Doubt { .. } => Carrier::Udp,
        }
    }

    /// Returns whether nothing comes by UDP, and nothing is being done about it. A trial of length
    /// is not disturbed: its end says as much, and all that is lost may be what is long.
    fn is_silent(&self, now: Moment) -> bool {
        let is_measured = self
            .trial
            .is_some_and(|trial| matches!(trial.aim, Aim::Long { .. }));
        !is_measured && DOUBT <= now.since(self.udp_heard.unwrap_or(self.begun))
    }

    fn rested(&self, least: Duration, now: Moment) -> bool {
        self.tried.is_none_or(|tried| least <= now.since(tried))
    }

    /// Tries UDP soon, for the other end does what it does for a reason.
    fn hint(&mut self, now: Moment) {
        if self.has_stream && self.trial.is_none() && self.rested(HINT_GAP, now) {
            self.begin(Aim::Short, now);
        }
    }

    fn begin(&mut self, aim: Aim, now: Moment) {
        if !self.has_stream {
            return;
        }
        self.sent_long = false;
        let trial = Trial {
            aim,
            first: self.number,
            begun: now,
            asked: 0,
            asked_stream: false,
            next: now,
        };
        // Answers to the questions of earlier trials are none to these.
        self.number += u64::from(trial.count());
        self.trial = Some(trial);
    }

    fn end(&mut self, now: Moment) {
        self.trial = None;
        self.tried = Some(now);
    }

    /// What was to pass has not been answered.
    fn fail(&mut self, now: Moment) {
        let Some(trial) = self.trial else {
            return;
        };
        self.end(now);
        let is_alive = self.stream_heard.is_some_and(|heard| trial.begun <= heard);
        match trial.aim {
            Aim::Long { .. } if !is_alive => {
                self.distrusted = now + DISTRUST;
                self.enter_udp(LONG, now);
            }
            Aim::Short => self.enter_stream(Why::Silent, now),
            Aim::Long { own: true } => self.enter_udp(OWN, now),
            Aim::Long { own: false } => self.enter_stream(Why::Narrow, now),
        }
    }

    fn enter_udp(&mut self, fits: u16, now: Moment) {
        let since = match self.state {
            State::Udp { since, .. } | State::Doubt { since, .. } => since,
            State::New | State::Stream(_) => now,
        };
        self.state = State::Udp { since, fits };
        if fits < LONG {
            self.put_off(now);
        }
    }

    fn enter_stream(&mut self, why: Why, now: Moment) {
        if let State::Udp { since, .. } | State::Doubt { since, .. } = self.state
            && STEADY <= now.since(since)
        {
            self.wait = AGAIN_MIN;
        }
        self.state = State::Stream(why);
        self.put_off(now);
    }

    fn put_off(&mut self, now: Moment) {
        self.again = now + self.wait;
        self.wait = (2 * self.wait).min(AGAIN_MAX);
    }
}

#[cfg(test)]
mod tests;
