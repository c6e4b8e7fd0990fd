//! Two sides of a pair behind modelled routers, joined by a relay that carries calls.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use mesh_base::time::Moment;

use super::candidate::{Candidate, Source};
use super::word::Call;
use super::{Action, Look, Pair};

/// What a router does, in the words of RFC 4787.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// Whether each destination sees another port.
    pub wanders: bool,
    pub filtering: Filtering,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Filtering {
    None,
    Address,
    Port,
}

/// What arrives, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Datagram {
    Knock(u64),
    Heard(u64),
    /// Any packet of a session.
    Packet,
}

#[derive(Debug, Clone)]
enum Mail {
    Straight(SocketAddr, SocketAddr, Datagram),
    Call(Call),
}

pub(super) struct Side {
    pub pair: Pair,
    kind: Kind,
    outer: Ipv4Addr,
    /// The outside port for each destination; of a steady mapping there is one, for nobody.
    ports: BTreeMap<Option<SocketAddr>, u16>,
    asked: BTreeSet<(u16, SocketAddr)>,
    pub used: Vec<SocketAddr>,
    pub knock_count: usize,
    pub call_count: usize,
}

pub(super) struct World {
    pub sides: [Side; 2],
    pub now: Moment,
    /// With the time when it arrives, and at whom.
    under_way: Vec<(Moment, usize, Mail)>,
    /// Whether the relay carries anything.
    pub relayed: bool,
    pub look: Look,
}

const PUBLIC: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(11, 0, 0, 9)), 7);
const STEP: Duration = Duration::from_millis(50);
/// One way straight, and over the relay.
const STRAIGHT: Duration = Duration::from_millis(20);
const RELAYED: Duration = Duration::from_millis(60);

impl Side {
    fn new(kind: Kind, leads: bool, number: u8) -> Self {
        let mut side = Self {
            pair: Pair::new(leads, 1),
            kind,
            outer: Ipv4Addr::new(11, 0, 0, number),
            ports: BTreeMap::new(),
            asked: BTreeSet::new(),
            used: Vec::new(),
            knock_count: 0,
            call_count: 0,
        };
        side.leave(PUBLIC);
        side
    }

    /// Lets something out; returns where it comes from, as others see it.
    fn leave(&mut self, to: SocketAddr) -> SocketAddr {
        let next = 20_000 + u16::try_from(self.ports.len()).unwrap();
        let key = self.kind.wanders.then_some(to);
        let port = *self.ports.entry(key).or_insert(next);
        self.asked.insert((port, to));
        SocketAddr::from((self.outer, port))
    }

    fn lets_in(&self, at: SocketAddr, from: SocketAddr) -> bool {
        let is_open = self.ports.values().any(|port| *port == at.port());
        let mut asked = self.asked.iter().filter(|(port, _)| *port == at.port());
        is_open
            && match self.kind.filtering {
                Filtering::None => true,
                Filtering::Address => asked.any(|(_, to)| to.ip() == from.ip()),
                Filtering::Port => asked.any(|(_, to)| *to == from),
            }
    }

    /// Where it may be: at home, as everybody, and where the public node sees it.
    fn places(&mut self) -> Vec<Candidate> {
        let home = Candidate {
            at: SocketAddr::from(([192, 168, 1, 2], 41_641)),
            source: Source::Interface,
        };
        let seen = Candidate {
            at: self.leave(PUBLIC),
            source: Source::Seen,
        };
        vec![home, seen]
    }

    /// Gives it another public address; all mappings are gone.
    pub fn renumber(&mut self, number: u8) {
        self.outer = Ipv4Addr::new(11, 0, 0, number);
        self.ports.clear();
        self.asked.clear();
        self.leave(PUBLIC);
    }
}

impl World {
    pub fn new(kinds: [Kind; 2]) -> Self {
        let [a, b] = kinds;
        let mut world = Self {
            sides: [Side::new(a, true, 1), Side::new(b, false, 2)],
            now: Moment(1_000_000),
            under_way: Vec::new(),
            relayed: true,
            look: Look {
                wanted: true,
                used: false,
                relayed: true,
            },
        };
        for side in &mut world.sides {
            side.pair.handle_session(world.now);
        }
        world
    }

    /// Lets time pass; both sides say something each second over the way that they have.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + STEP;
            let due = self.under_way.extract_if(.., |(at, ..)| *at <= self.now);
            let due: Vec<_> = due.collect();
            for (_, to, mail) in due {
                self.deliver(to, mail);
            }
            let look = self.look;
            let hello = self.now.0.is_multiple_of(1_000_000);
            for at in 0..2 {
                self.sides[at].pair.handle_time(look, self.now);
                self.obey(at);
                if let (true, Some(to)) = (hello, self.sides[at].pair.straight()) {
                    self.send(at, to, Datagram::Packet);
                }
            }
        }
    }

    pub fn is_straight(&self) -> bool {
        self.sides.iter().all(|side| side.pair.is_proven())
    }

    fn deliver(&mut self, to: usize, mail: Mail) {
        let (side, now) = (&mut self.sides[to], self.now);
        match mail {
            Mail::Call(call) => side.pair.handle_call(&call, now),
            Mail::Straight(from, at, datagram) => {
                if !side.lets_in(at, from) {
                    return;
                }
                match datagram {
                    Datagram::Knock(nonce) => side.pair.handle_knock(from, nonce, now),
                    Datagram::Heard(nonce) => side.pair.handle_answer(from, nonce, now),
                    Datagram::Packet => side.pair.handle_packet(from, now),
                }
            }
        }
        self.obey(to);
    }

    pub fn obey(&mut self, at: usize) {
        while let Some(action) = self.sides[at].pair.poll() {
            match action {
                Action::Call { number, is_answer } => {
                    self.sides[at].call_count += 1;
                    let places = self.sides[at].places();
                    let call = Call {
                        number,
                        is_answer,
                        places,
                    };
                    if self.relayed {
                        let when = self.now + RELAYED;
                        self.under_way.push((when, 1 - at, Mail::Call(call)));
                    }
                }
                Action::Knock { to, nonce } => {
                    self.sides[at].knock_count += 1;
                    self.send(at, to, Datagram::Knock(nonce));
                }
                Action::Answer { to, nonce } => self.send(at, to, Datagram::Heard(nonce)),
                Action::Use(to) => {
                    self.sides[at].used.push(to);
                    self.send(at, to, Datagram::Packet);
                }
                Action::Leave => {}
            }
        }
    }

    fn send(&mut self, at: usize, to: SocketAddr, datagram: Datagram) {
        let from = self.sides[at].leave(to);
        // Everybody's address at home is one's own.
        if to.ip() == IpAddr::V4(self.sides[1 - at].outer) {
            let when = self.now + STRAIGHT;
            let mail = Mail::Straight(from, to, datagram);
            self.under_way.push((when, 1 - at, mail));
        }
    }
}
