//! Who is connected, where everybody can be reached, whom to dial next, and how far away they are.
//!
//! Leaves admission to the gate and the roster: only contacts of trusted organisations are handed
//! in. Invariant: a peer with a connection is never dialled.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use mesh_base::identity::{NodeId, OrgId};
use mesh_base::time::Moment;

use crate::limits::{
    CONTACTS_KEPT_MAX, DIAL_WAIT_MAX, DIAL_WAIT_MIN, EARLY_CONTACTS_MAX, MOVE_INTERVAL, MOVES_MAX,
    PEERS_MAX, PING_INTERVAL,
};
use crate::message::{CONTACT_ADDRESSES_MAX, SignedContact};

/// A connected peer.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its organisation.
    pub org: OrgId,
    /// Where we see it.
    pub seen: Option<SocketAddr>,
    /// Smoothed round trip on the control lane, in microseconds.
    pub rtt_us: Option<u64>,
    ping: Option<(u64, Moment)>,
    ping_next: Moment,
}

#[derive(Debug, Clone, Copy)]
struct Dial {
    wait: Duration,
    next: Moment,
    /// When it was dialled last, if it was since the last connection or contact.
    last: Option<Moment>,
}

impl Dial {
    /// A first one, at `next`.
    fn at(next: Moment) -> Self {
        let wait = DIAL_WAIT_MIN;
        let last = None;
        Self { wait, next, last }
    }

    /// Is not made later than now, unless there was one just before. The back-off goes on.
    fn bring_forward(&mut self, now: Moment) {
        let earliest = self.last.map_or(now, |last| now.max(last + DIAL_WAIT_MIN));
        self.next = self.next.min(earliest);
    }
}

/// What became of earlier dials of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialled {
    /// There was none since the last connection or contact.
    Never,
    /// There were some, and no connection.
    InVain,
}

/// What became of a contact that was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContactVerdict {
    /// Newer than what was known; keep it on disk and pass it on.
    Newer,
    /// Known already, or older.
    Known,
    /// The table is full and the node is a stranger.
    Full,
}

/// The table of peers and contacts. Drain [`Peers::poll_dial`] and [`Peers::poll_ping`] on each
/// tick.
#[derive(Debug, Default)]
pub struct Peers {
    connected: BTreeMap<NodeId, Peer>,
    contacts: BTreeMap<NodeId, SignedContact>,
    dials: BTreeMap<NodeId, Dial>,
    /// Where the local network says that a node with a contact is.
    found: BTreeMap<NodeId, Vec<SocketAddr>>,
    /// Contacts that our own nodes passed on before we knew of the agreement that they know.
    early: BTreeMap<NodeId, SignedContact>,
    /// How many newer contacts a node may still send, and since when.
    budgets: BTreeMap<NodeId, (u32, Moment)>,
    token: u64,
}

impl Peers {
    /// Notes a connection, also one that is known: what was measured stays. Returns false if the
    /// table is full and the peer is new.
    pub fn handle_connected(
        &mut self,
        peer: NodeId,
        org: OrgId,
        seen: Option<SocketAddr>,
        now: Moment,
    ) -> bool {
        let known = self.connected.get(&peer);
        if known.is_none() && PEERS_MAX <= self.connected.len() {
            return false;
        }
        let entry = Peer {
            org,
            seen,
            rtt_us: known.and_then(|known| known.rtt_us),
            ping: None,
            ping_next: now,
        };
        self.connected.insert(peer, entry);
        self.dials.remove(&peer);
        true
    }

    /// Notes the end of the last connection.
    pub fn handle_disconnected(&mut self, peer: &NodeId, now: Moment) {
        if self.connected.remove(peer).is_some() {
            self.dials.insert(*peer, Dial::at(now + DIAL_WAIT_MIN));
        }
    }

    /// Returns whether a node that moves this often is still listened to: each newer contact costs
    /// the journal and every neighbour something.
    pub fn may_move(&mut self, node: &NodeId, now: Moment) -> bool {
        if !self.contacts.contains_key(node) {
            return true;
        }
        let (left, since) = self.budgets.entry(*node).or_insert((MOVES_MAX, now));
        let grown = now.since(*since).as_micros() / MOVE_INTERVAL.as_micros().max(1);
        if 0 < grown {
            *since = now;
            *left = u32::try_from(grown)
                .map_or(MOVES_MAX, |grown| left.saturating_add(grown).min(MOVES_MAX));
        }
        let may = 0 < *left;
        *left = left.saturating_sub(1);
        may
    }

    /// Forgets a node that is no member any more: connection, contacts, dials.
    pub fn forget(&mut self, node: &NodeId) {
        self.connected.remove(node);
        self.contacts.remove(node);
        self.dials.remove(node);
        self.found.remove(node);
        self.early.remove(node);
        self.budgets.remove(node);
    }

    /// Notes where the local network says that a node is, beside where it said so before: it says
    /// only what is new, and anybody there may say it. The newest come first, and the oldest are
    /// left out if there are too many. Strangers are left out, so that nobody there can send us
    /// anywhere for somebody whom we would not know.
    pub fn handle_found(&mut self, node: &NodeId, addresses: Vec<SocketAddr>, now: Moment) {
        if !self.contacts.contains_key(node) {
            return;
        }
        let known = self.found.entry(*node).or_default();
        let mut merged: Vec<SocketAddr> = Vec::new();
        for address in addresses.into_iter().take(CONTACT_ADDRESSES_MAX) {
            if !known.contains(&address) && !merged.contains(&address) {
                merged.push(address);
            }
        }
        // Who says the same again and again does not make us ask more often.
        if merged.is_empty() {
            return;
        }
        merged.append(known);
        merged.truncate(CONTACT_ADDRESSES_MAX);
        *known = merged;
        if !self.connected.contains_key(node) {
            let dial = self.dials.entry(*node).or_insert(Dial::at(now));
            dial.bring_forward(now);
        }
    }

    /// Keeps a contact until trust has grown, if there is room and no later one is kept.
    pub fn keep_early(&mut self, contact: SignedContact) {
        let node = contact.contact.node;
        let may_stay = match self.early.get(&node) {
            Some(kept) => kept.contact.sequence < contact.contact.sequence,
            None => self.early.len() < EARLY_CONTACTS_MAX,
        };
        if may_stay {
            self.early.insert(node, contact);
        }
    }

    /// Returns all that were kept until trust has grown.
    pub fn take_early(&mut self) -> BTreeMap<NodeId, SignedContact> {
        std::mem::take(&mut self.early)
    }

    /// Takes in a verified contact.
    pub fn handle_contact(&mut self, contact: SignedContact, now: Moment) -> ContactVerdict {
        let node = contact.contact.node;
        match self.contacts.get(&node) {
            Some(old) if contact.contact.sequence <= old.contact.sequence => {
                return ContactVerdict::Known;
            }
            None if CONTACTS_KEPT_MAX <= self.contacts.len() => return ContactVerdict::Full,
            _ => {}
        }
        self.contacts.insert(node, contact);
        // New addresses deserve an immediate try; who is connected needs none, and a deadline that
        // nobody takes up would wake the shell for ever.
        if !self.connected.contains_key(&node) {
            self.dials.insert(node, Dial::at(now));
        }
        ContactVerdict::Newer
    }

    /// Notes a pong.
    pub fn handle_pong(&mut self, peer: &NodeId, token: u64, now: Moment) {
        let Some(peer) = self.connected.get_mut(peer) else {
            return;
        };
        let Some((sent_token, sent)) = peer.ping else {
            return;
        };
        if sent_token != token {
            return;
        }
        peer.ping = None;
        let sample = u64::try_from(now.since(sent).as_micros()).unwrap_or(u64::MAX);
        // RFC 6298's smoothing with alpha 1/8: one slow answer does not move a plan.
        let smoothed = peer.rtt_us.map_or(sample, |old| old - old / 8 + sample / 8);
        peer.rtt_us = Some(smoothed);
    }

    /// Returns a peer to dial now, where, and whether it was dialled in vain before.
    pub fn poll_dial(
        &mut self,
        jitter: u64,
        now: Moment,
    ) -> Option<(NodeId, Vec<SocketAddr>, Dialled)> {
        let connected = &self.connected;
        let contacts = &self.contacts;
        let (node, dial) = self.dials.iter_mut().find(|(node, dial)| {
            dial.next <= now && !connected.contains_key(node) && contacts.contains_key(node)
        })?;
        // Jitter of up to a quarter keeps two homes from dialling each other in step for ever.
        let quarter = u64::try_from(dial.wait.as_micros() / 4).unwrap_or(0).max(1);
        dial.last = Some(now);
        dial.next = now + dial.wait + Duration::from_micros(jitter % quarter);
        let before = if dial.wait <= DIAL_WAIT_MIN {
            Dialled::Never
        } else {
            Dialled::InVain
        };
        dial.wait = (dial.wait * 2).min(DIAL_WAIT_MAX);
        let mut addresses = contacts.get(node)?.contact.control.clone();
        for address in self.found.get(node).into_iter().flatten() {
            if !addresses.contains(address) {
                addresses.push(*address);
            }
        }
        Some((*node, addresses, before))
    }

    /// Returns a peer to ping now and the token to send.
    pub fn poll_ping(&mut self, now: Moment) -> Option<(NodeId, u64)> {
        let (node, peer) = self
            .connected
            .iter_mut()
            .find(|(_, peer)| peer.ping_next <= now)?;
        self.token = self.token.wrapping_add(1);
        peer.ping = Some((self.token, now));
        peer.ping_next = now + PING_INTERVAL;
        Some((*node, self.token))
    }

    /// Starts dialling a node soon; for nodes that were admitted since their contact came.
    pub fn want(&mut self, node: NodeId, now: Moment) {
        if !self.connected.contains_key(&node) {
            self.dials.entry(node).or_insert(Dial::at(now));
        }
    }

    /// Returns when the next dial or ping is due.
    pub fn next_deadline(&self) -> Option<Moment> {
        let dials = self
            .dials
            .iter()
            .filter(|(node, _)| self.contacts.contains_key(node))
            .map(|(_, dial)| dial.next);
        let pings = self.connected.values().map(|peer| peer.ping_next);
        dials.chain(pings).min()
    }

    /// Returns the connected peers.
    pub fn connected(&self) -> impl Iterator<Item = (&NodeId, &Peer)> {
        self.connected.iter()
    }

    /// Returns a connected peer.
    pub fn peer(&self, node: &NodeId) -> Option<&Peer> {
        self.connected.get(node)
    }

    /// Returns every contact known.
    pub fn contacts(&self) -> impl Iterator<Item = &SignedContact> {
        self.contacts.values()
    }

    /// Returns the contact of a node.
    pub fn contact(&self, node: &NodeId) -> Option<&SignedContact> {
        self.contacts.get(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Contact;
    use mesh_base::certificate::Chain;
    use mesh_base::identity::{Context, SecretKey};

    fn node(byte: u8) -> NodeId {
        NodeId(SecretKey::from_seed([byte; 32]).public())
    }

    fn contact(byte: u8, sequence: u64) -> SignedContact {
        let contact = Contact {
            node: node(byte),
            chain: Chain(Vec::new()),
            sequence,
            control: vec!["10.0.0.1:1".parse().unwrap()],
            wireguard: Vec::new(),
            leaf: false,
        };
        let signature = SecretKey::from_seed([byte; 32]).sign(Context::Contact, b"");
        SignedContact { contact, signature }
    }

    #[test]
    fn unreachable_peer_is_dialled_with_growing_waits() {
        let mut peers = Peers::default();
        peers.handle_contact(contact(1, 1), Moment(0));
        assert!(peers.poll_dial(0, Moment(0)).is_some());
        assert!(peers.poll_dial(0, Moment(0)).is_none());
        let second = peers.next_deadline().unwrap();
        assert!(peers.poll_dial(0, second).is_some());
        let third = peers.next_deadline().unwrap();
        assert_eq!(third.since(second), DIAL_WAIT_MIN * 2);
    }

    #[test]
    fn who_is_found_nearby_is_dialled_there_too_and_strangers_are_not() {
        let mut peers = Peers::default();
        let nearby: Vec<SocketAddr> = vec!["10.0.0.9:9".parse().unwrap()];
        peers.handle_contact(contact(1, 1), Moment(0));
        assert!(peers.poll_dial(0, Moment(0)).is_some());
        assert!(peers.poll_dial(0, Moment(0)).is_none());
        let soon = Moment(0) + DIAL_WAIT_MIN;
        assert!(peers.poll_dial(0, soon).is_some());
        let later = soon + DIAL_WAIT_MIN;
        assert!(peers.poll_dial(0, later).is_none(), "it waits longer now");
        peers.handle_found(&node(1), nearby.clone(), later);
        peers.handle_found(&node(2), nearby.clone(), later);
        let (who, addresses, _) = peers.poll_dial(0, later).unwrap();
        assert_eq!(who, node(1));
        assert!(addresses.contains(&nearby[0]) && addresses.len() == 2);
        let last = later + DIAL_WAIT_MIN;
        peers.handle_found(&node(1), nearby, last);
        assert!(peers.poll_dial(0, last).is_none(), "nothing is new");
    }

    /// Where `peers` knows, by what the local network says, that node 1 is.
    fn found(peers: &Peers) -> &[SocketAddr] {
        peers.found.get(&node(1)).map_or(&[], Vec::as_slice)
    }

    #[test]
    fn what_the_local_network_says_erases_nothing_that_it_said_before() {
        let mut peers = Peers::default();
        peers.handle_contact(contact(1, 1), Moment(0));
        let at = |port: u16| SocketAddr::from(([10, 0, 0, 9], port));
        for said in [vec![at(1), at(2), at(1)], vec![at(3)], vec![at(2), at(4)]] {
            peers.handle_found(&node(1), said, Moment(0));
        }
        assert_eq!(found(&peers), [at(4), at(3), at(1), at(2)]);
        for port in 5..100 {
            peers.handle_found(&node(1), vec![at(port)], Moment(0));
        }
        assert_eq!(found(&peers).len(), CONTACT_ADDRESSES_MAX);
        assert_eq!(found(&peers)[0], at(99));
    }

    #[test]
    fn local_network_that_says_ever_new_addresses_makes_no_storm_of_dials() {
        let mut peers = Peers::default();
        peers.handle_contact(contact(1, 1), Moment(0));
        let mut dials = 0;
        // Ten seconds, a hundred announcements in each.
        for step in 0..1000_u16 {
            let now = Moment(u64::from(step) * 10_000);
            let said = SocketAddr::from(([10, 0, 0, 9], 1 + step));
            peers.handle_found(&node(1), vec![said], now);
            dials += u32::from(peers.poll_dial(0, now).is_some());
        }
        assert_eq!(dials, 20, "one for each shortest wait");
        // Two addresses by turns are news only once each.
        let [one, other] = [1, 2].map(|port| SocketAddr::from(([10, 0, 0, 8], port)));
        let mut later = 0;
        for step in 1000..7000_u64 {
            let said = if step % 2 == 0 { one } else { other };
            let now = Moment(step * 10_000);
            peers.handle_found(&node(1), vec![said], now);
            later += u32::from(peers.poll_dial(0, now).is_some());
        }
        assert!(later <= 5, "{later} dials in a minute");
    }

    #[test]
    fn latest_early_contact_is_kept_and_none_of_whom_is_forgotten() {
        let mut peers = Peers::default();
        for sequence in [1, 3, 2] {
            peers.keep_early(contact(1, sequence));
        }
        let early = peers.take_early();
        assert_eq!(early[&node(1)].contact.sequence, 3);
        peers.keep_early(contact(1, 3));
        peers.forget(&node(1));
        assert!(peers.take_early().is_empty());
    }

    #[test]
    fn connected_peer_is_not_dialled() {
        let mut peers = Peers::default();
        peers.handle_contact(contact(1, 1), Moment(0));
        assert!(peers.handle_connected(node(1), OrgId(node(9).0), None, Moment(0)));
        assert!(peers.poll_dial(0, Moment(1_000_000)).is_none());
    }

    #[test]
    fn new_addresses_of_a_connected_peer_give_nothing_to_do() {
        let mut peers = Peers::default();
        assert!(peers.handle_connected(node(1), OrgId(node(9).0), None, Moment(0)));
        assert!(peers.poll_ping(Moment(0)).is_some());
        peers.handle_contact(contact(1, 1), Moment(5));
        peers.want(node(1), Moment(5));
        // A deadline that nothing meets would wake the node for ever.
        assert_eq!(peers.next_deadline(), Some(Moment(0) + PING_INTERVAL));
        peers.handle_disconnected(&node(1), Moment(7));
        assert_eq!(peers.next_deadline(), Some(Moment(7) + DIAL_WAIT_MIN));
    }

    #[test]
    fn older_contact_changes_nothing() {
        let mut peers = Peers::default();
        assert_eq!(
            peers.handle_contact(contact(1, 2), Moment(0)),
            ContactVerdict::Newer
        );
        assert_eq!(
            peers.handle_contact(contact(1, 1), Moment(0)),
            ContactVerdict::Known
        );
    }

    #[test]
    fn full_table_refuses_strangers_and_renews_friends() {
        let mut peers = Peers::default();
        let org = OrgId(node(9).0);
        for index in 0..PEERS_MAX {
            let mut seed = [0; 32];
            seed[..8].copy_from_slice(&(index as u64 + 1).to_be_bytes());
            let id = NodeId(SecretKey::from_seed(seed).public());
            assert!(peers.handle_connected(id, org, None, Moment(0)));
        }
        assert!(!peers.handle_connected(node(1), org, None, Moment(0)));
        let friend = *peers.connected().next().unwrap().0;
        assert!(peers.handle_connected(friend, org, None, Moment(0)));
    }

    #[test]
    fn round_trip_is_measured_by_its_own_pong_only() {
        let mut peers = Peers::default();
        peers.handle_connected(node(1), OrgId(node(9).0), None, Moment(0));
        let (_, token) = peers.poll_ping(Moment(0)).unwrap();
        peers.handle_pong(&node(1), token + 1, Moment(10));
        assert_eq!(peers.peer(&node(1)).unwrap().rtt_us, None);
        peers.handle_pong(&node(1), token, Moment(3000));
        assert_eq!(peers.peer(&node(1)).unwrap().rtt_us, Some(3000));
    }
}
