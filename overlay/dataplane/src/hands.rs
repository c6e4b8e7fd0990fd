//! What a thread does with one packet or datagram: find its session, judge it, carry it on.
//!
//! ```text
//!   underlay ─► client's session ─► packet ─► its door ─► … as from a TUN
//!   underlay ─► session ─┬─► routing talk ──────────────► the speaker
//!                        ├─► parcel ─┬─► of others ──────► next hop's session ─► underlay
//!                        │           └─► ours ─► session ─► packet ─┐
//!                        └─► packet ────────────────────────────────┴─► doors ─► TUN
//!   TUN ─► doors ─► session ─┬─► underlay
//!                            └─► parcel ─► next hop's session ─► underlay
//! ```
//! Each thread has hands of its own with its own buffers, so no packet costs an allocation. Decides
//! nothing: verdicts are those of `mesh-routing`. Invariants: a parcel inside a parcel goes
//! nowhere, talk that came in a parcel is not believed, and a client is no engine: its talk,
//! parcels and probes go nowhere.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use boringtun::noise::Packet as Message;
use boringtun::noise::handshake::parse_handshake_anon;
use mesh_base::digest::Digest;
use mesh_base::identity::NodeId;
use mesh_routing::answer::answer;
use mesh_routing::ecn::{Ecn, unwrap_mark};
use mesh_routing::packet::Packet;
use mesh_routing::probe::{self, Probe};
use mesh_routing::reach::word::{self, Word};
use mesh_routing::table::{DropReason, Origin, Verdict};
use mesh_routing::talk;
use mesh_routing::transit::{self, Transit};

use crate::client::Client;
use crate::exit::{Exit, Route, Way};
use crate::guard::Looked;
use crate::limits::OUTER_LEN_MAX;
use crate::peer::Peer;
use crate::plane::{Instance, Live, Shared, Spoken, Whose};
use crate::probe::Heard;
use crate::session::{COOKIE, INITIATION, PAYLOAD, RESPONSE};
use crate::sys::lock;
use crate::tun::Device;

/// The hands of one thread.
pub struct Hands<'a> {
    shared: &'a Shared,
    live: Arc<Live>,
    exit: Exit<'a>,
    /// What a link's session gave.
    plain: Vec<u8>,
    /// What the session of a parcel gave.
    inner: Vec<u8>,
    sealed: Vec<u8>,
    /// Whom the guard was told of last: only the thread that has the socket tells it.
    noted: Option<IpAddr>,
}

impl<'a> Hands<'a> {
    /// Makes hands that see the newest picture.
    pub fn new(shared: &'a Shared) -> Self {
        let live = shared.live();
        let mut exit = shared.exit();
        exit.set_own(live.own);
        let buffer = || vec![0; OUTER_LEN_MAX];
        Self {
            shared,
            live,
            exit,
            plain: buffer(),
            inner: buffer(),
            sealed: buffer(),
            noted: None,
        }
    }

    /// Sees the newest picture. Called after a packet was taken and before it is judged.
    pub fn renew(&mut self) {
        self.shared.renew(&mut self.live);
        self.exit.set_own(self.live.own);
    }

    /// Lets time pass for every link; returns whether one of them waits for something.
    pub fn drive(&mut self, now: Instant) -> bool {
        let live = Arc::clone(&self.live);
        let mut restless = false;
        for peer in live.peers.values() {
            let route = || live.route(peer);
            peer.drive(route, &mut self.exit, &mut self.sealed, now);
            self.hand_on(&live, None, now);
            let own = self.shared.own.view(live.own);
            let (exit, out) = (&mut self.exit, &mut self.sealed);
            let called = peer.seek(&own, live.route(peer), exit, out, now);
            let beside = called.then(|| live.beside(peer, now)).flatten();
            self.hand_on(&live, beside, now);
            restless |= peer.is_restless();
        }
        for client in live.clients.values() {
            client.drive(&mut self.exit, &mut self.sealed, now);
        }
        restless
    }

    /// Does what a peer's search for a straight way wants done; `back` is the neighbour that handed
    /// us its call.
    fn obey(&mut self, live: &Live, peer: &Peer, back: Option<NodeId>, now: Instant) {
        let own = self.shared.own.view(live.own);
        let called = peer.obey(&own, &mut self.exit, &mut self.sealed, now);
        let beside = || called.then(|| live.beside(peer, now)).flatten();
        self.hand_on(live, back.or_else(beside), now);
    }

    /// Takes a datagram from the underlay, with the mark that queues there gave it.
    pub fn take_datagram(
        &mut self,
        datagram: &[u8],
        (from, mark): (SocketAddr, Ecn),
        now: Instant,
    ) {
        self.take(datagram, (Way::Direct(from), from.ip(), mark), now);
    }

    /// Takes a datagram that came by the stream of the link with a node.
    pub fn take_streamed(&mut self, datagram: &[u8], from: NodeId, now: Instant) {
        let Some(peer) = self.live.peers.get(&from) else {
            self.shared.drop_packet(DropReason::Stranger);
            return;
        };
        let ip = IpAddr::V6(peer.address);
        self.take(datagram, (Way::Stream(from), ip, Ecn::NotEct), now);
    }

    fn take(&mut self, datagram: &[u8], (came, ip, mark): (Way, IpAddr, Ecn), now: Instant) {
        let live = Arc::clone(&self.live);
        let mut plain = std::mem::take(&mut self.plain);
        let taken = match self.find(&live, datagram, came, ip, now) {
            Some(Whose::Client(client)) => match came {
                Way::Direct(from) => {
                    let got = client.receive(datagram, from, &mut self.exit, &mut plain, now);
                    let packet = got.and_then(|len| plain.get_mut(..len));
                    packet.map(|packet| self.take_from_client(&live, client, (packet, mark), now))
                }
                // A client has a UDP socket and nothing else.
                Way::Stream(_) | Way::Mesh => Some(Err(DropReason::Stranger)),
            },
            Some(Whose::Node(peer)) => {
                let got = self.open(&live, peer, datagram, (came, None), &mut plain, now);
                let packet = got.and_then(|len| plain.get_mut(..len));
                packet.map(|packet| self.take_from_link(&live, peer, came, (packet, mark), now))
            }
            None => None,
        };
        if let (true, Way::Direct(from)) = (taken.is_some(), came)
            && self.noted.replace(from.ip()) != Some(from.ip())
        {
            // Only who has a session with us can make what came out of one.
            lock(&self.shared.guard).note_peer(from.ip());
        }
        if let Some(Err(reason)) = taken {
            self.shared.drop_packet(reason);
        }
        self.plain = plain;
    }

    /// Carries one packet of this machine or an instance to where the table says, if the doors on
    /// its way agree; tells its sender if not.
    pub fn route(&mut self, origin: Origin, bytes: &[u8], now: Instant) {
        let live = Arc::clone(&self.live);
        let Ok(packet) = Packet::parse(bytes) else {
            self.shared.drop_packet(DropReason::Malformed);
            return;
        };
        // The engines' own ports are not for programs.
        if transit::is_parcel(&packet) || probe::is_probe(&packet) {
            self.shared.drop_packet(DropReason::Protocol);
            return;
        }
        self.judge(&live, origin, &packet, bytes, now);
    }

    fn judge(
        &mut self,
        live: &Live,
        origin: Origin,
        packet: &Packet<'_>,
        bytes: &[u8],
        now: Instant,
    ) {
        if let Err(reason) = self.carry(live, origin, packet, bytes, now) {
            self.shared.drop_packet(reason);
            self.tell(live, origin, (bytes, reason), now);
        }
    }

    /// Tells a lawful sender why its packet went nowhere, if that may be said. Whoever is denied or
    /// meets nobody has shown a source that it may use: the table looks at that first.
    fn tell(
        &mut self,
        live: &Live,
        origin: Origin,
        (bytes, reason): (&[u8], DropReason),
        now: Instant,
    ) {
        let is_for_us = reason != DropReason::Unreachable;
        let peer = match origin {
            Origin::Host => None,
            // It stands where our own programs do.
            Origin::Client(address) => {
                return self.tell_client(live, address, (bytes, reason), now);
            }
            Origin::Peer(node) if is_for_us => match live.peers.get(&node) {
                Some(peer) => Some(peer),
                None => return,
            },
            // An instance asks nobody.
            Origin::Peer(_) | Origin::Instance(_) => return,
        };
        let Some(told) = answer(bytes, reason) else {
            return;
        };
        if !lock(&self.shared.answers).take(self.shared.moment(now)) {
            return;
        }
        // What cannot be sent is not sent: its sender then waits for its own timeout.
        let _ = match peer {
            Some(peer) => self.send(live, peer, &told, now),
            None => deliver(&self.shared.host, &told),
        };
    }

    /// Tells a client why its packet went nowhere.
    fn tell_client(
        &mut self,
        live: &Live,
        address: Ipv6Addr,
        (bytes, reason): (&[u8], DropReason),
        now: Instant,
    ) {
        let Some((client, told)) = live.clients.get(&address).zip(answer(bytes, reason)) else {
            return;
        };
        if lock(&self.shared.answers).take(self.shared.moment(now)) {
            // What cannot be sent is not sent: the device waits for its own timeout.
            let _ = client.send(&told, &mut self.exit, &mut self.sealed, now);
        }
    }

    /// Finds whose session a datagram belongs to; what belongs to nobody is counted.
    fn find<'live>(
        &mut self,
        live: &'live Live,
        datagram: &[u8],
        came: Way,
        from: IpAddr,
        now: Instant,
    ) -> Option<&'live Whose> {
        let found = self.find_session(live, datagram, came, from, now);
        found.unwrap_or_else(|reason| {
            self.shared.drop_packet(reason);
            None
        })
    }

    /// Opens a datagram with the session that it belongs to; returns the length of the packet that
    /// now stands at the start of `out`. An answer to a handshake also goes back to the neighbour
    /// that handed it to us.
    fn open(
        &mut self,
        live: &Live,
        peer: &Peer,
        datagram: &[u8],
        (came, back): (Way, Option<NodeId>),
        out: &mut [u8],
        now: Instant,
    ) -> Option<usize> {
        // Nobody speaks for another in the stream of his own link.
        if matches!(came, Way::Stream(by) if by != peer.node) {
            self.shared.drop_packet(DropReason::Stranger);
            return None;
        }
        let route = || live.route(peer);
        let received = peer.receive(datagram, came, route, &mut self.exit, out, now);
        self.hand_on(live, back.filter(|_| begins(datagram)), now);
        if received.asks {
            self.obey(live, peer, None, now);
        }
        if let (true, Some(listener)) = (received.risen, &self.shared.listener) {
            listener.handle_up(peer.node);
        }
        if peer.is_restless() {
            self.shared.unsettle();
        }
        received.packet_len
    }

    /// Takes what came out of a client's session.
    fn take_from_client(
        &mut self,
        live: &Live,
        client: &Client,
        (bytes, mark): (&mut [u8], Ecn),
        now: Instant,
    ) -> Result<(), DropReason> {
        if !unwrap_mark(bytes, mark) {
            return Err(DropReason::Congested);
        }
        let packet = Packet::parse(bytes).map_err(|_| DropReason::Malformed)?;
        if talk::read(&packet).is_some() || probe::is_probe(&packet) || transit::is_parcel(&packet)
        {
            return Err(DropReason::Protocol);
        }
        self.judge(live, Origin::Client(client.address), &packet, bytes, now);
        Ok(())
    }

    /// Takes what came out of a link's session over the link's own underlay.
    fn take_from_link(
        &mut self,
        live: &Live,
        from: &Peer,
        came: Way,
        (bytes, mark): (&mut [u8], Ecn),
        now: Instant,
    ) -> Result<(), DropReason> {
        if !unwrap_mark(bytes, mark) {
            return Err(DropReason::Congested);
        }
        let mark = Ecn::of(bytes);
        let packet = Packet::parse(bytes).map_err(|_| DropReason::Malformed)?;
        if let Some(talk) = talk::read(&packet) {
            // A link has two ends: nobody speaks there in a third one's name.
            if talk.source != talk::link_local(from.address) {
                return Err(DropReason::Source);
            }
            return self.tell_listener(from.node, talk);
        }
        if probe::is_probe(&packet) {
            return self.take_link_probe(live, from, came, &packet, now);
        }
        if !transit::is_parcel(&packet) {
            self.judge(live, Origin::Peer(from.node), &packet, bytes, now);
            return Ok(());
        }
        let is_member = |address: &Ipv6Addr| live.table.is_peer(address);
        match transit::judge(&packet, from.node, live.own, &live.fib, is_member) {
            Transit::Drop(reason) => {
                if reason == DropReason::HopLimit {
                    self.tell_exceeded(live, (packet.source(), bytes), now);
                }
                Err(reason)
            }
            Transit::Here { source, datagram } => {
                let hops = probe::crossed(packet.hop_limit());
                self.take_parcel(live, from.node, (source, hops, datagram), mark, now)
            }
            Transit::Relay(next) => {
                transit::spend_hop(bytes);
                let peer = live.peers.get(&next).ok_or(DropReason::Unreachable)?;
                peer.relay(bytes, &mut self.exit, &mut self.sealed, now)
            }
        }
    }

    /// Takes a datagram for us that a neighbour handed us in a parcel. A client has a link and
    /// nothing else, so what claims to be its goes nowhere; a cookie for a stranger goes back in a
    /// parcel.
    fn take_parcel(
        &mut self,
        live: &Live,
        from: NodeId,
        (source, hops, datagram): (Ipv6Addr, u8, &[u8]),
        mark: Ecn,
        now: Instant,
    ) -> Result<(), DropReason> {
        let came = (Way::Mesh, Some(from));
        let found = self.find(live, datagram, came.0, IpAddr::V6(source), now);
        let Some(Whose::Node(peer)) = found else {
            self.hand_on(live, came.1.filter(|_| begins(datagram)), now);
            return Ok(());
        };
        let mut inner = std::mem::take(&mut self.inner);
        let opened = self.open(live, peer, datagram, came, &mut inner, now);
        let done = match opened.and_then(|len| inner.get_mut(..len)) {
            Some(packet) => {
                let over = (hops, Some(from));
                self.take_from_afar(live, peer, (packet, mark), over, now)
            }
            None => Ok(()),
        };
        self.inner = inner;
        done
    }

    /// Takes what came out of a session whose datagram was in a parcel.
    fn take_from_afar(
        &mut self,
        live: &Live,
        from: &Peer,
        (bytes, mark): (&mut [u8], Ecn),
        over: (u8, Option<NodeId>),
        now: Instant,
    ) -> Result<(), DropReason> {
        if !unwrap_mark(bytes, mark) {
            return Err(DropReason::Congested);
        }
        from.set_hops(over.0);
        let packet = Packet::parse(bytes).map_err(|_| DropReason::Malformed)?;
        if talk::read(&packet).is_some() {
            return Err(DropReason::Relayed);
        }
        if probe::is_probe(&packet) {
            return self.take_probe(live, from, &packet, over, now);
        }
        if transit::is_parcel(&packet) {
            return Err(DropReason::Transit);
        }
        self.judge(live, Origin::Peer(from.node), &packet, bytes, now);
        Ok(())
    }

    /// Takes what a node asks or says about a way, `hops` links from here. An answer goes the way
    /// of all packets, and also to the neighbour that handed us the question: it is the way of the
    /// question that is judged, not ours.
    fn take_probe(
        &mut self,
        live: &Live,
        from: &Peer,
        packet: &Packet<'_>,
        (hops, back): (u8, Option<NodeId>),
        now: Instant,
    ) -> Result<(), DropReason> {
        if packet.source() != from.address || packet.destination() != live.own {
            return Err(DropReason::Source);
        }
        if let Some(word) = word::read(packet) {
            return self.take_word(live, from, word, (hops, back), now);
        }
        match probe::read(packet).ok_or(DropReason::Malformed)? {
            Probe::Ask { nonce } => {
                if !from.may_be_answered(self.shared.moment(now)) {
                    return Err(DropReason::Congested);
                }
                let told = probe::answer(nonce, hops, live.own, from.address);
                self.send_on(live, from, (live.route(from), back), &told, now)
            }
            said @ (Probe::Answer { .. } | Probe::Exceeded { .. }) => {
                if let Some(listener) = &self.shared.listener {
                    listener.handle_probe(Heard {
                        from: from.node,
                        said,
                        hops,
                        at: now,
                    });
                }
                Ok(())
            }
            // A link is tried over its own underlay only.
            Probe::Try { .. } | Probe::Tried { .. } => Err(DropReason::Relayed),
        }
    }

    /// Takes a probe that came over a link's own underlay. Whether a packet of this length passes
    /// there is answered the way it came, and as long.
    fn take_link_probe(
        &mut self,
        live: &Live,
        from: &Peer,
        came: Way,
        packet: &Packet<'_>,
        now: Instant,
    ) -> Result<(), DropReason> {
        match probe::read(packet) {
            Some(Probe::Try { nonce }) => {
                if !from.may_be_answered(self.shared.moment(now)) {
                    return Err(DropReason::Congested);
                }
                let told = probe::tried(nonce, packet.len(), live.own, from.address);
                from.reply(&told, came, &mut self.exit, &mut self.sealed, now)
            }
            Some(Probe::Tried { nonce }) => {
                from.take_answer(nonce, came, now);
                Ok(())
            }
            _ => self.take_probe(live, from, packet, (1, None), now),
        }
    }

    /// Takes what a node says about straight ways.
    fn take_word(
        &mut self,
        live: &Live,
        from: &Peer,
        word: Word,
        (hops, back): (u8, Option<NodeId>),
        now: Instant,
    ) -> Result<(), DropReason> {
        match word {
            Word::Observed(at) if hops == 1 && back.is_none() => {
                let moment = self.shared.moment(now);
                if self.shared.own.handle_told(from.node, at, moment) {
                    self.shared.hurry();
                }
                Ok(())
            }
            Word::Call(call) => {
                from.handle_call(&call, now);
                self.obey(live, from, back, now);
                self.shared.unsettle();
                Ok(())
            }
            // A knock that came straight was taken before.
            Word::Observed(_) | Word::Knock(_) | Word::Heard(_) => Err(DropReason::Relayed),
        }
    }

    /// Tells the sender of a parcel that it had no hop left here, in our session with it. Whoever
    /// claims to be the sender has no part in that session unless it is.
    fn tell_exceeded(&mut self, live: &Live, (source, parcel): (Ipv6Addr, &[u8]), now: Instant) {
        let node = live.table.peer_at(&source);
        let Some(peer) = node.and_then(|node| live.peers.get(&node)) else {
            return;
        };
        let Some(told) = probe::exceeded(parcel, live.own) else {
            return;
        };
        if lock(&self.shared.probes).take(self.shared.moment(now)) {
            // What cannot be sent is not sent: the asker waits for its own timeout.
            let _ = self.send(live, peer, &told, now);
        }
    }

    /// Sends a packet of this engine to a node, on whatever way.
    pub fn send_to(&mut self, node: NodeId, packet: &[u8], now: Instant) -> Result<(), DropReason> {
        let live = Arc::clone(&self.live);
        let peer = live.peers.get(&node).ok_or(DropReason::Unreachable)?;
        self.send(&live, peer, packet, now)
    }

    fn send(
        &mut self,
        live: &Live,
        peer: &Peer,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        self.send_on(live, peer, (live.route(peer), None), packet, now)
    }

    fn send_on(
        &mut self,
        live: &Live,
        peer: &Peer,
        (route, back): (Route, Option<NodeId>),
        packet: &[u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        let sent = peer.send(packet, route, &mut self.exit, &mut self.sealed, now);
        self.follow_up(live, peer, back, now);
        sent
    }

    /// Hands on what was sent in parcels, and lets the timer know of a peer that waits.
    fn follow_up(&mut self, live: &Live, peer: &Peer, back: Option<NodeId>, now: Instant) {
        self.hand_on(live, back, now);
        if peer.is_restless() {
            self.shared.unsettle();
        }
    }

    /// Sends a packet of this engine to a node over one neighbour, whatever routing says.
    pub fn send_over(
        &mut self,
        node: NodeId,
        via: NodeId,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        let live = Arc::clone(&self.live);
        let peer = live.peers.get(&node).ok_or(DropReason::Unreachable)?;
        let over = live.peers.get(&via).ok_or(DropReason::Unreachable)?;
        let mut sent = peer.pack(packet, &mut self.exit, &mut self.sealed, now);
        while let Some((_, parcel)) = self.exit.take() {
            sent = over.say(&parcel, &mut self.exit, &mut self.sealed, now);
            self.exit.recycle(parcel);
        }
        sent
    }

    fn tell_listener(&self, from: NodeId, talk: talk::Talk<'_>) -> Result<(), DropReason> {
        let listener = self.shared.listener.as_ref().ok_or(DropReason::Foreign)?;
        let spoken = Spoken {
            from,
            source: talk.source,
            destination: talk.destination,
            payload: talk.payload.to_vec(),
        };
        if listener.handle_talk(spoken) {
            Ok(())
        } else {
            Err(DropReason::Congested)
        }
    }

    /// Gives the parcels that were made meanwhile to their next hops, and a copy to `back`: answers
    /// to somebody that routing may lead another way, or not at all, but who can be heard that way.
    /// Each counts once, whichever comes first.
    fn hand_on(&mut self, live: &Live, back: Option<NodeId>, now: Instant) {
        while let Some((to, parcel)) = self.exit.take() {
            let next = live.fib.next_hop(to);
            let ways = [next, back.filter(|back| next != Some(*back))];
            let mut handed = Err(DropReason::Unreachable);
            for way in ways.into_iter().flatten() {
                handed = handed.or(self.hand_over(live, &parcel, way, now));
            }
            if let Err(reason) = handed {
                self.shared.drop_packet(reason);
            }
            self.exit.recycle(parcel);
        }
    }

    fn hand_over(
        &mut self,
        live: &Live,
        parcel: &[u8],
        to: NodeId,
        now: Instant,
    ) -> Result<(), DropReason> {
        let peer = live.peers.get(&to).ok_or(DropReason::Unreachable)?;
        peer.say(parcel, &mut self.exit, &mut self.sealed, now)
    }

    /// Gives a parcel of ours that no session made to its next hop.
    pub fn send_parcel(&mut self, parcel: &[u8], now: Instant) -> Result<(), DropReason> {
        let live = Arc::clone(&self.live);
        let packet = Packet::parse(parcel).map_err(|_| DropReason::Malformed)?;
        let next = live.fib.next_hop(packet.destination());
        self.hand_over(&live, parcel, next.ok_or(DropReason::Unreachable)?, now)
    }

    /// Finds whose datagram it is; nobody's if its sender was asked, with a cookie, to come again:
    /// when there are too many handshakes. All but an initiation must name a session of ours.
    fn find_session<'live>(
        &mut self,
        live: &'live Live,
        datagram: &[u8],
        came: Way,
        from: IpAddr,
        now: Instant,
    ) -> Result<Option<&'live Whose>, DropReason> {
        let nobody = DropReason::Stranger;
        let Some((&[kind, 0, 0, 0, a, b, c, d, e, f, g, h], _)) = datagram.split_first_chunk()
        else {
            return Err(nobody);
        };
        let named = |bytes| live.by_index.get(&(u32::from_le_bytes(bytes) >> 8));
        let answered = match kind {
            PAYLOAD | COOKIE => return named([a, b, c, d]).map(Some).ok_or(nobody),
            RESPONSE => Some(named([e, f, g, h]).ok_or(nobody)?),
            _ => None,
        };
        // Parcels come from members only, and who answers us names what we alone have chosen.
        let is_expected = || {
            let is_client = || live.clients.values().any(|client| client.is_at(from));
            let is_named = came == Way::Mesh || answered.is_some();
            is_named || live.expected.contains(&from) || is_client()
        };
        let moment = self.shared.moment(now);
        // Unlocked before anything is sent: a full socket may make us wait.
        let looked =
            lock(&self.shared.guard).look(datagram, from, is_expected, &mut self.sealed, moment);
        match looked? {
            Looked::Open(Message::HandshakeInit(initiation)) => {
                let local = &self.shared.local;
                let half = parse_handshake_anon(local.secret(), local.public(), &initiation);
                let key = half.map_err(|_| nobody)?.peer_static_public;
                live.by_key.get(&key).map(Some).ok_or(nobody)
            }
            Looked::Open(_) => answered.map(Some).ok_or(nobody),
            Looked::Cookie(cookie) => {
                // Only parcels need it; a datagram on the underlay goes back to where it came from.
                let address = match from {
                    IpAddr::V6(address) => address,
                    IpAddr::V4(_) => Ipv6Addr::UNSPECIFIED,
                };
                let _ = self.exit.send(cookie, came, address);
                Ok(None)
            }
        }
    }

    fn carry(
        &mut self,
        live: &Live,
        origin: Origin,
        packet: &Packet<'_>,
        bytes: &[u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        let shared = self.shared;
        let verdict = live.table.classify(packet, origin);
        if let Verdict::Drop(reason) = verdict {
            return Err(reason);
        }
        leave(shared, live, origin, packet, now)?;
        match verdict {
            Verdict::ToPeer(node) => {
                let peer = live.peers.get(&node).ok_or(DropReason::Unreachable)?;
                let (exit, out) = (&mut self.exit, &mut self.sealed);
                let sent = peer.carry(bytes, live.route(peer), exit, out, now);
                self.follow_up(live, peer, None, now);
                sent
            }
            Verdict::ToHost => {
                if let Some(door) = &shared.host_door {
                    lock(door).ingress_to_host(packet, shared.moment(now))?;
                }
                deliver(&shared.host, bytes)
            }
            Verdict::ToClient(address) => {
                let client = live.clients.get(&address).ok_or(DropReason::Unreachable)?;
                lock(&client.door).ingress_to_client(packet, shared.moment(now))?;
                client.send(bytes, &mut self.exit, &mut self.sealed, now)
            }
            Verdict::ToInstance(item) => {
                let instance = instance(live, item)?;
                let who = live.table.judged_as(origin, packet.source());
                lock(&instance.door).ingress(packet, who, shared.moment(now))?;
                let device = instance.device.as_deref().ok_or(DropReason::Detached)?;
                deliver(device, bytes)?;
                instance
                    .traffic
                    .received
                    .fetch_add(bytes.len() as u64, Ordering::Relaxed);
                Ok(())
            }
            Verdict::Drop(reason) => Err(reason),
        }
    }
}

/// Passes the door on the side where the packet comes from.
fn leave(
    shared: &Shared,
    live: &Live,
    origin: Origin,
    packet: &Packet<'_>,
    now: Instant,
) -> Result<(), DropReason> {
    match origin {
        Origin::Peer(_) => Ok(()),
        Origin::Client(address) => {
            let client = live.clients.get(&address).ok_or(DropReason::Source)?;
            lock(&client.door).egress_of_client(packet, shared.moment(now))
        }
        Origin::Host => match &shared.host_door {
            Some(door) => lock(door).egress_of_host(packet, shared.moment(now)),
            None => Ok(()),
        },
        Origin::Instance(item) => {
            let instance = instance(live, item)?;
            lock(&instance.door).egress(packet, shared.moment(now))?;
            instance
                .traffic
                .sent
                .fetch_add(packet.len() as u64, Ordering::Relaxed);
            Ok(())
        }
    }
}

/// Returns whether a datagram begins a handshake.
fn begins(datagram: &[u8]) -> bool {
    datagram.first() == Some(&INITIATION)
}

fn instance(live: &Live, item: Digest) -> Result<&Instance, DropReason> {
    live.instances
        .get(&item)
        .map(Arc::as_ref)
        .ok_or(DropReason::Absent)
}

fn deliver(device: &Device, bytes: &[u8]) -> Result<(), DropReason> {
    if device.write(bytes) {
        Ok(())
    } else {
        Err(DropReason::Congested)
    }
}
