//! A link whose UDP passes what it is told to, in virtual time.

use super::*;

const TICK: Duration = Duration::from_millis(100);
const START: Moment = Moment(5_000_000);

/// A link with a stream; every packet is heard at once.
struct World {
    link: Carriage,
    now: Moment,
    /// The longest question that UDP carries and answers.
    passes: u16,
    /// Whether the other end says nothing by UDP but answers.
    is_mute: bool,
    /// Whether the connection is dead and nobody has noticed.
    is_stream_dead: bool,
    asked: usize,
}

impl World {
    fn new(passes: u16) -> Self {
        let mut link = Carriage::new(START);
        link.handle_stream(true, START);
        Self {
            link,
            now: START,
            passes,
            is_mute: false,
            is_stream_dead: false,
            asked: 0,
        }
    }

    /// Lets time pass; the other end says something by UDP each second, if that passes.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + TICK;
            if 0 < self.passes && !self.is_mute && self.now.0.is_multiple_of(1_000_000) {
                self.link.handle_udp(false, self.now);
            }
            self.link.handle_time(self.now);
            while let Some(ask) = self.link.poll_ask(self.now) {
                if ask.by_stream {
                    if !self.is_stream_dead {
                        self.link.handle_streamed(self.now);
                    }
                    continue;
                }
                self.asked += 1;
                if ask.len <= self.passes {
                    self.link.handle_udp(false, self.now);
                    self.link.handle_answer(ask.number, self.now);
                }
            }
        }
    }

    /// Returns how long it takes until this carries the link.
    fn until(&mut self, carrier: Carrier) -> Duration {
        let start = self.now;
        while self.link.carrier() != carrier {
            assert!(
                self.now.since(start) < Duration::from_secs(200),
                "{carrier:?}"
            );
            self.run(TICK);
        }
        self.now.since(start)
    }

    fn carry(&mut self, len: usize) -> Carry {
        self.link.carry(len, self.now)
    }
}

#[test]
fn link_without_a_stream_goes_by_udp_and_asks_nothing() {
    let mut link = Carriage::new(START);
    for second in 0..100 {
        let now = START + Duration::from_secs(second);
        link.handle_time(now);
        assert_eq!(link.poll_ask(now), None);
        assert_eq!(link.carry(1360, now), Carry::Udp);
    }
}

#[test]
fn link_that_udp_does_not_answer_takes_the_stream_in_time() {
    let mut world = World::new(0);
    assert_eq!(world.carry(100), Carry::Udp);
    let took = world.until(Carrier::Stream(Why::Silent));
    assert!((PATIENCE..=PATIENCE + TICK).contains(&took), "{took:?}");
    assert_eq!(world.carry(100), Carry::Stream);
}

#[test]
fn wide_udp_is_kept_and_asked_about_only_while_it_is_used() {
    let mut world = World::new(LONG);
    world.run(Duration::from_secs(60));
    // The first hello here is later than UDP is waited for, so that its short trial comes first.
    assert_eq!((world.link.carrier(), world.asked), (Carrier::Udp, 2));
    for _ in 0..60 {
        assert_eq!(world.carry(1300), Carry::Udp);
        world.run(Duration::from_secs(1));
    }
    let asked = world.asked - 2;
    assert!((14..=20).contains(&asked), "{asked}");
}

#[test]
fn udp_that_carries_no_second_layer_is_left_by_long_parcels_only() {
    let mut world = World::new(1300);
    let took = world.until(Carrier::UdpNarrow);
    assert!(took <= Duration::from_secs(3), "{took:?}");
    assert_eq!(world.carry(1280), Carry::Udp);
    assert_eq!(world.carry(1281), Carry::Stream);
    world.passes = LONG;
    world.until(Carrier::Udp);
    assert_eq!(world.carry(1360), Carry::Udp);
}

#[test]
fn udp_that_swallows_what_is_long_is_left() {
    let mut world = World::new(1200);
    let took = world.until(Carrier::Stream(Why::Narrow));
    assert!(took <= Duration::from_secs(3), "{took:?}");
    world.run(Duration::from_secs(300));
    assert_eq!(world.link.carrier(), Carrier::Stream(Why::Narrow));
}

#[test]
fn udp_of_which_only_short_answers_are_heard_is_left() {
    let mut world = World::new(1300);
    world.until(Carrier::UdpNarrow);
    // The other end has found out and speaks by the stream.
    (world.passes, world.is_mute) = (1200, true);
    let start = world.now;
    while world.link.carrier() == Carrier::UdpNarrow {
        assert!(world.now.since(start) < Duration::from_secs(10));
        world.link.handle_streamed(world.now);
        world.run(TICK);
    }
    assert_eq!(world.link.carrier(), Carrier::Stream(Why::Narrow));
}

#[test]
fn udp_that_becomes_narrow_under_load_is_left_soon() {
    let mut world = World::new(LONG);
    world.run(Duration::from_secs(20));
    world.passes = 1200;
    let start = world.now;
    while world.link.carrier() == Carrier::Udp {
        world.carry(1300);
        world.run(TICK);
    }
    let took = world.now.since(start);
    assert!(took <= CHECK + Duration::from_secs(2), "{took:?}");
}

#[test]
fn link_that_falls_silent_goes_both_ways_at_once_and_then_by_the_stream() {
    let mut world = World::new(LONG);
    world.run(Duration::from_secs(10));
    world.passes = 0;
    world.run(DOUBT - TICK);
    assert_eq!(world.carry(100), Carry::Udp);
    world.run(TICK);
    assert_eq!(world.carry(100), Carry::Both);
    let took = world.until(Carrier::Stream(Why::Silent));
    assert!(took <= Duration::from_millis(1500), "{took:?}");
}

#[test]
fn silence_by_chance_ends_with_the_next_datagram() {
    let mut world = World::new(LONG);
    world.run(Duration::from_secs(10));
    world.now = world.now + DOUBT;
    assert_eq!(world.carry(100), Carry::Both);
    world.run(TICK);
    assert_eq!(world.carry(100), Carry::Udp);
}

#[test]
fn udp_is_tried_on_ever_more_rarely_and_taken_when_it_answers() {
    let mut world = World::new(0);
    world.until(Carrier::Stream(Why::Silent));
    world.run(Duration::from_secs(600));
    let before = world.asked;
    world.run(Duration::from_secs(600));
    let each = usize::from(SHORT_COUNT);
    let trials = (world.asked - before) / each;
    assert!((8..=11).contains(&trials), "{trials} trials in ten minutes");
    world.passes = LONG;
    let took = world.until(Carrier::Udp);
    assert!(took <= AGAIN_MAX + Duration::from_secs(1), "{took:?}");
}

#[test]
fn datagram_by_udp_brings_the_trial_forward() {
    let mut world = World::new(0);
    world.until(Carrier::Stream(Why::Silent));
    world.run(Duration::from_secs(600));
    world.run(HINT_GAP);
    world.passes = LONG;
    world.link.handle_udp(false, world.now);
    let took = world.until(Carrier::Udp);
    assert!(took <= HINT_GAP + 2 * TICK, "{took:?}");
}

#[test]
fn one_way_udp_never_carries_and_does_not_flap() {
    // We hear the other end, and it does not hear us: no answer ever.
    let mut world = World::new(0);
    world.until(Carrier::Stream(Why::Silent));
    for _ in 0..3000 {
        world.link.handle_udp(false, world.now);
        world.run(TICK);
        assert_eq!(world.carry(100), Carry::Stream);
    }
    let seconds = 300 / HINT_GAP.as_secs() as usize;
    let most = (seconds + 10) * usize::from(SHORT_COUNT);
    assert!(world.asked <= most, "{} questions", world.asked);
}

#[test]
fn other_end_that_turns_to_the_stream_makes_us_ask_and_follow() {
    let mut world = World::new(LONG);
    world.run(Duration::from_secs(10));
    world.passes = 0;
    for _ in 0..30 {
        // It is heard by UDP still, which is one way only.
        world.link.handle_udp(false, world.now);
        world.link.handle_streamed(world.now);
        world.run(TICK);
    }
    assert_eq!(world.link.carrier(), Carrier::Stream(Why::Silent));
}

#[test]
fn first_word_by_the_stream_is_answered_there() {
    let mut world = World::new(0);
    world.link.handle_streamed(world.now);
    assert_eq!(world.carry(100), Carry::Stream);
}

#[test]
fn udp_that_fails_again_and_again_is_returned_to_ever_more_rarely() {
    let mut world = World::new(LONG);
    let mut returns = Vec::new();
    for _ in 0..6 {
        returns.push(world.until(Carrier::Udp));
        world.run(Duration::from_secs(3));
        world.passes = 0;
        world.until(Carrier::Stream(Why::Silent));
        world.passes = LONG;
        // Not a word but answers: hints would bring the trial forward.
        world.link.tried = Some(world.now + Duration::from_secs(1000));
    }
    let last = returns.last().unwrap();
    assert!(Duration::from_secs(25) <= *last, "{returns:?}");
}

#[test]
fn link_that_loses_its_stream_looks_for_udp_again() {
    let mut world = World::new(0);
    world.until(Carrier::Stream(Why::Silent));
    world.link.handle_stream(false, world.now);
    assert_eq!(world.carry(100), Carry::Udp);
    world.link.handle_udp(false, world.now);
    assert_eq!(world.link.carrier(), Carrier::Udp);
}

#[test]
fn answers_to_questions_that_were_not_asked_count_for_nothing() {
    let mut world = World::new(0);
    world.until(Carrier::Stream(Why::Silent));
    for number in 0..1000 {
        world.link.handle_answer(number, world.now);
    }
    assert_eq!(world.link.carrier(), Carrier::Stream(Why::Silent));
}

#[test]
fn link_that_lost_its_session_does_not_wait_for_answers_to_what_it_cannot_ask() {
    let mut world = World::new(LONG);
    world.run(Duration::from_secs(3));
    // The stream breaks with everything else, and is the first to come back; the session is gone.
    world.link.handle_stream(false, world.now);
    world.now = world.now + Duration::from_secs(200);
    world.link.handle_stream(true, world.now);
    for _ in 0..20 {
        world.now = world.now + TICK;
        world.link.handle_sessionless(world.now);
        world.link.handle_time(world.now);
    }
    assert_eq!(world.link.carrier(), Carrier::Stream(Why::Silent));
    // With a session again it finds back to UDP by itself.
    world.until(Carrier::Udp);
}

#[test]
fn udp_that_is_narrow_is_not_given_up_for_a_stream_that_is_dead() {
    let mut world = World::new(1200);
    world.is_stream_dead = true;
    // The first hello here is later than UDP is waited for.
    world.until(Carrier::Stream(Why::Silent));
    world.until(Carrier::Udp);
    for _ in 0..600 {
        world.run(TICK);
        assert_eq!(world.carry(1360), Carry::Udp);
    }
    assert!(world.asked <= 100, "{}", world.asked);
    world.is_stream_dead = false;
    for _ in 0..150 {
        world.carry(1360);
        world.run(TICK);
    }
    assert_eq!(world.link.carrier(), Carrier::Stream(Why::Narrow));
}
