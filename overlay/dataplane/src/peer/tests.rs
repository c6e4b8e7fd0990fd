//! A link with a session that is ready when told so, and time that passes in steps.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mesh_base::identity::SecretKey;
use nix::poll::{PollFd, PollFlags, poll};

use super::*;
use crate::limits::KEEPALIVE;
use crate::session::{COOKIE, PAYLOAD, RESPONSE, SessionError};
use crate::wire::Wire;

/// A session that is ready when told so. Each message is its type byte and nothing else.
#[derive(Clone, Default)]
struct Fake {
    ready: Arc<AtomicBool>,
    old: Arc<AtomicBool>,
}

impl Session for Fake {
    fn seal(&mut self, _: &[u8], out: &mut [u8]) -> Result<usize, SessionError> {
        out[0] = PAYLOAD;
        if self.ready() {
            Ok(1)
        } else {
            Err(SessionError::NotReady)
        }
    }

    fn open(&mut self, datagram: &[u8], _: &mut [u8]) -> Result<Opened, SessionError> {
        if datagram == [COOKIE] {
            return Ok(Opened::Cookie);
        }
        self.ready.store(true, Ordering::Relaxed);
        Ok(Opened::Nothing)
    }

    fn tick(&mut self, _: &mut [u8]) -> Option<usize> {
        None
    }

    fn initiate(&mut self, out: &mut [u8]) -> Option<usize> {
        out[0] = INITIATION;
        Some(1)
    }

    fn ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    fn age(&self) -> Option<Duration> {
        let age = if self.old.load(Ordering::Relaxed) {
            REKEY_AGE
        } else {
            Duration::ZERO
        };
        self.ready().then_some(age)
    }
}

const FAR: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0, 0, 0, 0, 0, 0, 1);

struct World {
    peer: Peer,
    session: Fake,
    wire: Wire,
    /// Where the peer would be.
    far: UdpSocket,
    start: Instant,
}

impl World {
    fn new(turn: Turn) -> Self {
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (start, session) = (Instant::now(), Fake::default());
        let node = NodeId(SecretKey::from_seed([1; 32]).public());
        let who = Who {
            node,
            address: FAR,
            key: [0; 32],
        };
        let peer = Peer::new(who, 7, turn, Box::new(session.clone()), 1, start);
        let far = UdpSocket::bind(here).unwrap();
        peer.set_candidates(&[address(&far)], start);
        Self {
            peer,
            session,
            wire: Wire::bind(here).unwrap(),
            far,
            start,
        }
    }

    /// Lets time pass in steps as the timer thread does, then returns the types of what was
    /// sent.
    fn run(&self, from: Duration, to: Duration) -> Vec<u8> {
        let mut at = from;
        while at < to {
            let mut exit = Exit::new(&self.wire);
            let now = self.start + at;
            self.peer
                .drive(|| Route::Unknown, &mut exit, &mut [0; 256], now);
            at += crate::limits::TICK;
        }
        self.sent()
    }

    fn sent(&self) -> Vec<u8> {
        let mut types = Vec::new();
        let mut buffer = [0; 256];
        // Loopback delivers before `send` returns, but only this side may rely on poll's word.
        while poll(&mut [PollFd::new(self.far.as_fd(), PollFlags::POLLIN)], 0u8) == Ok(1) {
            self.far.recv(&mut buffer).unwrap();
            types.push(buffer[0]);
        }
        types
    }

    fn hear(&self, at: Duration) {
        let from = address(&self.far);
        self.hear_on(Way::Direct(from), at);
    }

    fn hear_on(&self, came: Way, at: Duration) -> Exit<'_> {
        self.hear_kind(RESPONSE, came, at)
    }

    fn hear_kind(&self, kind: u8, came: Way, at: Duration) -> Exit<'_> {
        let (mut exit, now) = (Exit::new(&self.wire), self.start + at);
        let out = &mut [0; 256];
        let got = self
            .peer
            .receive(&[kind], came, || Route::Unknown, &mut exit, out, now);
        assert_eq!(got.packet_len, None);
        exit
    }

    fn send(&self, route: Route) -> (Result<(), DropReason>, Exit<'_>) {
        let mut exit = Exit::new(&self.wire);
        let sent = self
            .peer
            .send(b"packet", route, &mut exit, &mut [0; 256], self.start);
        (sent, exit)
    }
}

fn address(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().unwrap()
}

#[test]
fn cookie_is_heeded_at_once_and_many_are_heeded_once() {
    let world = World::new(Turn::Lead);
    assert_eq!(world.run(ms(0), ms(100)), [INITIATION]);
    let came = Way::Direct(address(&world.far));
    world.hear_kind(COOKIE, came, ms(20));
    assert_eq!(world.sent(), [INITIATION], "with the cookie");
    for _ in 0..100 {
        world.hear_kind(COOKIE, came, ms(30));
    }
    assert_eq!(world.sent(), [0u8; 0], "nobody makes us flood others");
    assert!(!world.peer.is_ready(), "a cookie proves nothing");
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn leader_begins_at_once_and_follower_after_a_while() {
    assert_eq!(World::new(Turn::Lead).run(ms(0), ms(100)), [INITIATION]);
    let follower = World::new(Turn::Follow);
    assert_eq!(follower.run(ms(0), GRACE), []);
    assert_eq!(follower.run(GRACE, GRACE + ms(100)), [INITIATION]);
}

#[test]
fn follower_with_payload_begins_at_once() {
    let world = World::new(Turn::Follow);
    assert_eq!(world.send(Route::Unknown).0, Ok(()));
    assert_eq!(world.sent(), [INITIATION]);
}

#[test]
fn retries_become_rarer() {
    // Pauses of ¼, ¼, 1, 2, 4, 8 and 8 s, each up to a quarter longer.
    let world = World::new(Turn::Lead);
    assert_eq!(world.run(ms(0), ms(240)).len(), 1);
    assert_eq!(world.run(ms(240), ms(900)).len(), 2);
    assert_eq!(world.run(ms(900), ms(4900)).len(), 2);
    assert_eq!(world.run(ms(4900), ms(60_000)).len(), 1 + 5);
}

#[test]
fn what_waits_is_bounded_and_sent_when_there_are_keys() {
    let world = World::new(Turn::Lead);
    let send = || world.send(Route::Unknown).0;
    for _ in 0..WAITING_COUNT_MAX {
        assert_eq!(send(), Ok(()));
    }
    assert_eq!(send(), Err(DropReason::NoSession));
    world.hear(ms(10));
    let sent = world.sent();
    assert_eq!(
        sent.iter().filter(|kind| **kind == PAYLOAD).count(),
        WAITING_COUNT_MAX
    );
    assert_eq!(
        world.peer.stats(world.start).sent_bytes,
        6 * WAITING_COUNT_MAX as u64
    );
}

#[test]
fn idle_link_is_kept_alive() {
    let world = World::new(Turn::Follow);
    world.hear(ms(0));
    assert_eq!(world.run(ms(0), KEEPALIVE), []);
    assert_eq!(world.run(KEEPALIVE, KEEPALIVE * 2), [PAYLOAD]);
}

#[test]
fn silent_link_is_made_anew_by_the_leader_first() {
    for (turn, silence) in [
        (Turn::Lead, SILENCE_MAX),
        (Turn::Follow, SILENCE_MAX + GRACE),
    ] {
        let world = World::new(turn);
        world.hear(ms(0));
        assert!(!world.run(ms(0), silence).contains(&INITIATION));
        assert!(world.run(silence, silence + ms(100)).contains(&INITIATION));
    }
}

#[test]
fn only_the_leader_renews_old_keys() {
    for (turn, expect) in [(Turn::Lead, true), (Turn::Follow, false)] {
        let world = World::new(turn);
        world.hear(ms(0));
        world.session.old.store(true, Ordering::Relaxed);
        assert_eq!(world.run(ms(0), ms(100)).contains(&INITIATION), expect);
    }
}

#[test]
fn candidates_over_the_limit_are_left_out() {
    let world = World::new(Turn::Lead);
    let mut many: Vec<_> = vec!["127.0.0.1:9".parse().unwrap(); CANDIDATES_MAX];
    many.push(address(&world.far));
    world.peer.set_candidates(&many, world.start);
    assert_eq!(world.run(ms(0), ms(100)), []);
}

#[test]
fn new_candidate_is_tried_without_waiting_for_the_next_retry() {
    let world = World::new(Turn::Lead);
    world.peer.set_candidates(&[], world.start);
    assert_eq!(world.run(ms(0), ms(30_000)), []);
    world
        .peer
        .set_candidates(&[address(&world.far)], world.start + ms(30_000));
    assert_eq!(world.run(ms(30_000), ms(30_100)), [INITIATION]);
}

/// Returns the types of the messages in the parcels that wait.
fn parcels(mut exit: Exit<'_>) -> Vec<u8> {
    std::iter::from_fn(|| exit.take())
        .map(|(_, parcel)| parcel[mesh_routing::transit::OVERHEAD])
        .collect()
}

#[test]
fn payload_goes_the_way_that_routing_says() {
    let world = World::new(Turn::Lead);
    world.hear(ms(0));
    for (route, direct, around) in [
        (Route::Unknown, &[PAYLOAD][..], &[][..]),
        (Route::Straight, &[PAYLOAD], &[]),
        (Route::Around, &[], &[PAYLOAD]),
    ] {
        let (sent, exit) = world.send(route);
        assert_eq!(sent, Ok(()));
        assert_eq!((&world.sent()[..], &parcels(exit)[..]), (direct, around));
    }
}

#[test]
fn parcels_say_nothing_about_the_link() {
    let world = World::new(Turn::Lead);
    world.hear_on(Way::Mesh, ms(0));
    let stats = world.peer.stats(world.start);
    assert_eq!((stats.silent_ms, stats.link_silent_ms), (Some(0), None));
    assert_eq!(stats.endpoint, None);
    let talk = world.peer.say(
        b"hello",
        &mut Exit::new(&world.wire),
        &mut [0; 256],
        world.start,
    );
    assert_eq!(talk, Err(DropReason::NoSession));
    assert!(
        world
            .run(SILENCE_MAX, SILENCE_MAX + ms(100))
            .contains(&INITIATION)
    );
}

#[test]
fn far_peer_is_left_alone_until_there_is_payload() {
    let world = World::new(Turn::Lead);
    world.peer.set_role(Role::Far);
    assert_eq!(world.run(ms(0), ms(30_000)), []);
    let (sent, exit) = world.send(Route::Around);
    assert_eq!((sent, parcels(exit)), (Ok(()), vec![INITIATION]));
    assert_eq!(world.sent(), [], "its underlay is nobody's guess");
    let exit = world.hear_on(Way::Mesh, ms(0));
    assert_eq!(parcels(exit), [], "no way is known any more");
    assert_eq!(world.run(KEEPALIVE, KEEPALIVE * 9), [], "no keepalive");
}
