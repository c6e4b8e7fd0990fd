//! A link's own underlay: the UDP address or the stream, as the link's carriage says.
//!
//! Decides nothing: when UDP is given up and taken again is [`mesh_routing::carriage`]. Here its
//! questions become datagrams, and what was heard becomes its evidence. Invariant: a handshake
//! initiation goes by UDP or by the stream and never both ways: its answer goes back the way the
//! first copy came, and that way may lead nowhere.

use std::net::SocketAddr;
use std::time::Instant;

use mesh_routing::carriage::{Carrier, Carry};
use mesh_routing::plan::Role;
use mesh_routing::probe;
use mesh_routing::table::DropReason;

use super::{Link, Peer};
use crate::exit::{Exit, Way};
use crate::sys::lock;

impl Peer {
    /// Sends a packet of this engine the way that one came.
    pub fn reply(
        &self,
        packet: &[u8],
        came: Way,
        exit: &mut Exit<'_>,
        out: &mut [u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        lock(&self.link).seal(packet, came, exit, out, now)
    }

    /// Takes the answer to a question of the link's carriage or about a straight way, if it came by
    /// UDP.
    pub fn take_answer(&self, number: u64, came: Way, now: Instant) {
        if let Way::Direct(from) = came {
            let mut link = lock(&self.link);
            let moment = link.moment(now);
            link.carriage.handle_answer(number, moment);
            link.take_width(number, from, now);
        }
    }
}

impl Link {
    /// Returns how a packet of this length travels over the link's own underlay.
    pub(super) fn own_way(&mut self, len: usize, now: Instant) -> Option<Way> {
        let now = self.moment(now);
        match self.carriage.carry(len, now) {
            Carry::Stream => Some(Way::Stream(self.node)),
            Carry::Udp | Carry::Both => self.endpoint.map(Way::Direct),
        }
    }

    /// Takes note of where something authenticated came from. Returns whether that was the link's
    /// own underlay.
    pub(super) fn hear_way(&mut self, came: Way, now: Instant) -> bool {
        let now = self.moment(now);
        match came {
            Way::Direct(from) => {
                let moved = self.endpoint != Some(from);
                if moved {
                    tracing::debug!(peer = %self.node.key().short(), "link has a new endpoint");
                    self.endpoint = Some(from);
                }
                self.carriage.handle_udp(moved, now);
                true
            }
            Way::Stream(_) => {
                self.carriage.handle_streamed(now);
                true
            }
            Way::Mesh => false,
        }
    }

    /// Lets time pass for the carriage: looks for a stream, asks what it wants to know.
    pub(super) fn drive_carriage(&mut self, exit: &mut Exit<'_>, out: &mut [u8], now: Instant) {
        let moment = self.moment(now);
        let has = self.role == Role::Neighbour && exit.has_stream(self.node);
        self.carriage.handle_stream(has, moment);
        if !self.session.ready() {
            self.carriage.handle_sessionless(moment);
        }
        self.carriage.handle_time(moment);
        while self.session.ready()
            && let Some(ask) = self.carriage.poll_ask(moment)
        {
            let question = probe::try_length(ask.number, ask.len, exit.own(), self.address);
            if ask.by_stream {
                // What finds no room is not answered, as if it were lost.
                let _ = self.seal(&question, Way::Stream(self.node), exit, out, now);
            } else {
                self.ask_by_udp(&question, ask.is_short(), exit, out);
            }
        }
        let carrier = self.carriage.carrier();
        if carrier != self.carrier_told {
            self.carrier_told = carrier;
            tracing::info!(peer = %self.node.key().short(), ?carrier, "a link is carried anew");
            if let Carrier::Stream(_) = carrier {
                self.next_attempt = now;
                self.is_stream_next = true;
            }
        }
    }

    /// Sends a question to wherever the peer's UDP socket could be: where it was heard last, and a
    /// short one while the stream carries also to every guess, for whoever is really there must not
    /// be flooded. The session takes one copy.
    fn ask_by_udp(&mut self, question: &[u8], short: bool, exit: &mut Exit<'_>, out: &mut [u8]) {
        let Ok(len) = self.session.seal(question, out) else {
            return;
        };
        let Some(datagram) = out.get(..len) else {
            return;
        };
        let guesses = match self.carriage.carrier() {
            Carrier::Stream(_) if short => &self.candidates[..],
            Carrier::Stream(_) | Carrier::Udp | Carrier::UdpNarrow => &[],
        };
        let known = self.endpoint.iter();
        let others = guesses.iter().filter(|it| self.endpoint != Some(**it));
        for to in known.chain(others).copied().collect::<Vec<SocketAddr>>() {
            // What the socket refuses is not answered, as if it were lost.
            let _ = exit.send(datagram, Way::Direct(to), self.address);
        }
    }

    /// Returns the stream if the next handshake is to go by it: always with a session, by turns
    /// without one, for nobody may listen there.
    pub(super) fn handshake_stream(&mut self) -> Option<Way> {
        let Carrier::Stream(_) = self.carriage.carrier() else {
            return None;
        };
        let is_stream = self.is_stream_next || self.session.ready();
        self.is_stream_next = !is_stream;
        is_stream.then_some(Way::Stream(self.node))
    }
}
