//! What one direction of a line does to packets: delay, jitter, loss, rate, a bounded queue, an
//! MTU.
//!
//! A pure machine: [`Link::handle_packet`] decides at once what becomes of a packet,
//! [`Link::poll_packet`] lets it go when its time has come. Time is the time since any start. The
//! bytes go through [`mod@crate::line`].
//!
//! A packet waits until those before it are sent at the line's rate, is then on its way for the
//! delay and a drawn part of the jitter, and may be lost there. Packets keep their order unless
//! disorder is asked for. Invariant: what waits or is on its way is at most [`HELD_MAX`] bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::chance::Chance;

/// Most bytes that a link holds, whatever its traits say.
pub const HELD_MAX: usize = 64 << 20;

/// Chances are of a million.
pub const MILLION: u32 = 1_000_000;

/// What a link does to packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Habits {
    /// How long every packet is on its way.
    pub delay: Duration,
    /// How much longer it is at most.
    pub jitter: Duration,
    /// Whether jitter lets packets overtake each other.
    pub disorder: bool,
    /// How many of a million packets are lost on their way.
    pub loss: u32,
    /// Bits a second; none for as many as come.
    pub rate: Option<u64>,
    /// How many bytes may wait for their turn.
    pub queue: usize,
    /// The largest packet that fits.
    pub mtu: usize,
    /// What happens to larger ones.
    pub too_big: TooBig,
}

/// What happens to packets that do not fit. Nobody fragments on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooBig {
    /// They vanish; their sender is told, as RFC 1191 and RFC 8201 want it.
    Told,
    /// They vanish: somebody filters what the sender would be told.
    Silent,
}

impl Habits {
    /// A line that changes nothing.
    pub const CLEAR: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        disorder: false,
        loss: 0,
        rate: None,
        queue: 256 << 10,
        mtu: 1500,
        too_big: TooBig::Told,
    };
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives at this time.
    Arrives(Duration),
    /// It is lost on its way.
    Lost,
    /// Too many wait already.
    Full,
    /// It does not fit; tell the sender if the link is to.
    TooBig,
}

/// How many packets had which fate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fates {
    /// Arrive or have arrived.
    pub arrived: u64,
    /// Were lost on their way.
    pub lost: u64,
    /// Found no room.
    pub full: u64,
    /// Did not fit.
    pub too_big: u64,
}

/// One direction of a line.
#[derive(Debug)]
pub struct Link {
    habits: Habits,
    chance: Chance,
    /// When all that wait are sent.
    free_at: Duration,
    /// When the last one arrives.
    last_at: Duration,
    /// By time of arrival, then by number.
    held: BTreeMap<(Duration, u64), Vec<u8>>,
    held_bytes: usize,
    count: u64,
    fates: Fates,
}

impl Link {
    /// Makes a link; the seed decides what is lost and how late the rest is.
    pub const fn new(habits: Habits, seed: u64) -> Self {
        Self {
            habits,
            chance: Chance::new(seed),
            free_at: Duration::ZERO,
            last_at: Duration::ZERO,
            held: BTreeMap::new(),
            held_bytes: 0,
            count: 0,
            fates: Fates {
                arrived: 0,
                lost: 0,
                full: 0,
                too_big: 0,
            },
        }
    }

    /// Takes a packet and says what becomes of it.
    pub fn handle_packet(&mut self, packet: Vec<u8>, now: Duration) -> Fate {
        let fate = self.decide(packet.len(), now);
        match fate {
            Fate::Arrives(at) => {
                self.count += 1;
                self.held_bytes += packet.len();
                self.held.insert((at, self.count), packet);
                self.fates.arrived += 1;
            }
            Fate::Lost => self.fates.lost += 1,
            Fate::Full => self.fates.full += 1,
            Fate::TooBig => self.fates.too_big += 1,
        }
        fate
    }

    /// Changes what the link does to packets that come from now on.
    pub fn set(&mut self, habits: Habits) {
        self.habits = habits;
    }

    /// Returns a packet that has arrived by now.
    pub fn poll_packet(&mut self, now: Duration) -> Option<Vec<u8>> {
        let first = self.held.first_entry()?;
        if now < first.key().0 {
            return None;
        }
        let packet = first.remove();
        self.held_bytes -= packet.len();
        Some(packet)
    }

    /// Returns when the next packet arrives.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.held.first_key_value().map(|((at, _), _)| *at)
    }

    /// Returns what the link does to packets.
    pub const fn habits(&self) -> Habits {
        self.habits
    }

    /// Returns what became of all packets so far.
    pub const fn fates(&self) -> Fates {
        self.fates
    }

    fn decide(&mut self, len: usize, now: Duration) -> Fate {
        if self.habits.mtu < len {
            return Fate::TooBig;
        }
        let begins = self.free_at.max(now);
        if !self.has_room(len, begins.saturating_sub(now)) {
            return Fate::Full;
        }
        // What is lost later was sent all the same.
        self.free_at = begins + self.time_of(len);
        // Both are always drawn, so that a change of one does not change the draws of the other.
        let (luck, late) = (self.chance.below(MILLION.into()), self.chance.number());
        if luck < u64::from(self.habits.loss) {
            return Fate::Lost;
        }
        let mut at = self.free_at + self.habits.delay + part(self.habits.jitter, late);
        if !self.habits.disorder {
            at = at.max(self.last_at);
            self.last_at = at;
        }
        Fate::Arrives(at)
    }

    /// Whether a packet may wait behind those that are not yet sent, for which `wait` is needed.
    fn has_room(&self, len: usize, wait: Duration) -> bool {
        if HELD_MAX < self.held_bytes + len {
            return false;
        }
        let waiting = self.habits.rate.map_or(0, |rate| {
            let bits = wait.as_nanos() * u128::from(rate) / 1_000_000_000;
            usize::try_from(bits / 8).unwrap_or(usize::MAX)
        });
        waiting.saturating_add(len) <= self.habits.queue
    }

    fn time_of(&self, len: usize) -> Duration {
        let Some(rate) = self.habits.rate else {
            return Duration::ZERO;
        };
        let nanos = len as u128 * 8 * 1_000_000_000 / u128::from(rate.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Returns a drawn part of a time.
fn part(whole: Duration, drawn: u64) -> Duration {
    let nanos = (whole.as_nanos() * u128::from(drawn)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Sends packets of `len` bytes every `every` and returns when each arrives, if it does.
    fn arrivals(habits: Habits, count: u32, len: usize, every: Duration) -> Vec<Option<Duration>> {
        let mut link = Link::new(habits, 7);
        let fates = (0..count).map(|n| match link.handle_packet(vec![0; len], every * n) {
            Fate::Arrives(at) => Some(at),
            _ => None,
        });
        fates.collect()
    }

    fn lateness(habits: Habits) -> Vec<Duration> {
        let all = (0..).zip(arrivals(habits, 20_000, 100, MS));
        all.filter_map(|(n, at)| Some(at? - MS * n)).collect()
    }

    #[test]
    fn clear_line_changes_nothing() {
        let late = lateness(Habits::CLEAR);
        assert_eq!(late, vec![Duration::ZERO; 20_000]);
    }

    #[test]
    fn delay_and_jitter_are_what_was_asked_for() {
        let habits = Habits {
            delay: 40 * MS,
            jitter: 10 * MS,
            disorder: true,
            ..Habits::CLEAR
        };
        let late = lateness(habits);
        let (least, most) = (late.iter().min().unwrap(), late.iter().max().unwrap());
        assert!(40 * MS <= *least && *least < 40 * MS + MS / 10, "{least:?}");
        assert!(50 * MS - MS / 10 < *most && *most < 50 * MS, "{most:?}");
        let mean = late.iter().sum::<Duration>() / 20_000;
        assert!(mean.abs_diff(45 * MS) < MS / 10, "{mean:?}");
    }

    #[test]
    fn order_is_kept_unless_disorder_is_asked_for() {
        let habits = |disorder| Habits {
            jitter: 10 * MS,
            disorder,
            ..Habits::CLEAR
        };
        let overtaken = |disorder| {
            let all = arrivals(habits(disorder), 1000, 100, MS);
            all.windows(2).filter(|pair| pair[1] < pair[0]).count()
        };
        assert_eq!(overtaken(false), 0);
        assert!(100 < overtaken(true));
    }

    #[test]
    fn packets_of_one_moment_leave_in_their_order() {
        let mut link = Link::new(Habits::CLEAR, 1);
        for n in 0..10 {
            link.handle_packet(vec![n], MS);
        }
        assert_eq!(link.poll_packet(Duration::ZERO), None);
        assert_eq!(link.poll_timeout(), Some(MS));
        for n in 0..10 {
            assert_eq!(link.poll_packet(MS), Some(vec![n]));
        }
        assert_eq!((link.poll_packet(MS), link.poll_timeout()), (None, None));
        assert_eq!(link.held_bytes, 0);
    }

    #[test]
    fn loss_is_what_was_asked_for() {
        for loss in [0, 10_000, 300_000, MILLION] {
            let habits = Habits {
                loss,
                ..Habits::CLEAR
            };
            let all = arrivals(habits, 100_000, 100, MS);
            let lost = all.iter().filter(|at| at.is_none()).count();
            // Four standard deviations of a million draws at a half are 2,000 in a million.
            let expected = f64::from(loss) / 10.0;
            let deviation = (expected * (1.0 - f64::from(loss) / 1e6)).sqrt();
            let off = (lost as f64 - expected).abs();
            assert!(off <= 4.0 * deviation, "{lost} of 100000 at {loss}");
        }
    }

    #[test]
    fn rate_spaces_packets_and_the_queue_is_bounded() {
        let habits = Habits {
            // A kilobyte a millisecond.
            rate: Some(8_000_000),
            queue: 10_000,
            ..Habits::CLEAR
        };
        let all = arrivals(habits, 20, 1000, Duration::ZERO);
        let wanted: Vec<_> = (1..=20).map(|n| (n <= 10).then_some(MS * n)).collect();
        assert_eq!(all, wanted);
        // Half a kilobyte a millisecond never waits.
        let all = arrivals(habits, 100, 500, MS);
        let wanted: Vec<_> = (0..100).map(|n| Some(MS * n + MS / 2)).collect();
        assert_eq!(all, wanted);
    }

    #[test]
    fn what_does_not_fit_is_told_apart() {
        let habits = Habits {
            mtu: 1280,
            ..Habits::CLEAR
        };
        let mut link = Link::new(habits, 1);
        assert_eq!(link.handle_packet(vec![0; 1281], MS), Fate::TooBig);
        assert_eq!(link.handle_packet(vec![0; 1280], MS), Fate::Arrives(MS));
        let fates = Fates {
            arrived: 1,
            too_big: 1,
            ..Fates::default()
        };
        assert_eq!(link.fates(), fates);
    }

    #[test]
    fn line_without_a_rate_is_bounded_too() {
        let habits = Habits {
            delay: 1000 * MS,
            queue: usize::MAX,
            mtu: usize::MAX,
            ..Habits::CLEAR
        };
        let mut link = Link::new(habits, 1);
        let big = || vec![0; HELD_MAX / 4];
        for _ in 0..4 {
            assert_eq!(link.handle_packet(big(), MS), Fate::Arrives(1001 * MS));
        }
        assert_eq!(link.handle_packet(vec![0], MS), Fate::Full);
        assert!(link.poll_packet(1001 * MS).is_some());
        assert_eq!(link.handle_packet(vec![0], MS), Fate::Arrives(1001 * MS));
    }

    #[test]
    fn same_seed_has_the_same_fates() {
        let habits = Habits {
            loss: 100_000,
            jitter: 5 * MS,
            ..Habits::CLEAR
        };
        let run = || arrivals(habits, 1000, 100, MS);
        assert_eq!(run(), run());
    }
}
