//! The node: every machine of the house wired into one, without clock, socket, disk or hidden
//! randomness.
//!
//! ```text
//!            handle(Input, now)                               poll() → Output
//!  peers ──► message ─► admit (gate) ─► journal ─► view ─► react ─► own records ─► journal ─► send
//!  people ─► api ───────────────────────────────────────────┘
//!  drivers ► compute event ─► instance ─► facts ────────────┘
//! ```
//! The ledger is the only source of what happened; a message only hurries it along. The node reacts
//! to each record once, when it enters the ledger, and finds open work again from the view after a
//! restart.
//!
//! Rooms: `replicate` (messages and records), `customer` (orders that we placed), `provider`
//! (orders that we grant), `metering` (usage and invoices), `admission` (invites, agreements),
//! `overlay` (the data plane's plan), `neighbours` (whom we keep links with), `naming` (names),
//! `calls` (programs that wait), `report` (what they see).
//!
//! Invariant: `fresh` is empty and every reaction is written when `handle` returns.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mesh_api::status::Entrances;
use mesh_base::address::{NodeAddress, ServiceAddress};
use mesh_base::certificate::{Body as CertificateBody, Chain, Role};
use mesh_base::identity::{NodeId, OrgId, SecretKey, ServiceId};
use mesh_base::name::Name;
use mesh_base::time::{Moment, Now};
use mesh_compute::recipe::Recipe;
use mesh_compute::step::Isolation;
use mesh_federation::capacity::Amount;
use mesh_federation::members::Roster;
use mesh_ledger::document::{DocId, DocKind};
use mesh_ledger::gate::Verifier;
use mesh_ledger::ledger::{Ledger, LedgerError};
use mesh_ledger::record::{Body, RecordId};
use mesh_routing::access::CONTROL_PORT;
use mesh_routing::neighbours::{Neighbours, Station};
use mesh_routing::table::DropReason;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::admission::Admission;
use crate::calls::Calls;
use crate::clients::Client;
use crate::customer::Customer;
use crate::entry::Entry;
use crate::explain::RoutingKnown;
use crate::limits::PEERS_MAX;
use crate::message::{Contact, Message, SignedContact};
use crate::names::Names;
use crate::outbox::Outbox;
use crate::peers::{Dialled, Peers};
use crate::port::{Effect, Input, LinkSeen, Output, Position, Reach, ResolverSeen, Room};
use crate::provider::Provider;
use crate::refusal::{Reason, Refusals};
use crate::replication::Replication;
use crate::standing::Standing;
use crate::view::View;

/// What an owner decides about the node.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// What keeps instances apart here; where nothing can, none is granted.
    pub isolation: Option<Isolation>,
    /// How often usage is stated.
    pub metering_period: Duration,
    /// What the node sells or uses for its own organisation.
    pub capacity: Amount,
    /// Whether it carries other nodes' packets.
    pub station: Station,
    /// Most overlay links that others choose.
    pub inbound_max: usize,
    /// The program's version, for `status`.
    pub version: String,
}

impl NodeConfig {
    /// Returns what may be granted: nothing where instances cannot be kept apart.
    pub(crate) fn grantable(&self) -> Amount {
        match self.isolation {
            Some(_) => self.capacity,
            None => Amount {
                slots: 0,
                ..self.capacity
            },
        }
    }
}

/// Everything that a node is made of besides its journal.
pub struct Setup {
    /// The node's key.
    pub secret: SecretKey,
    /// What its owner decided.
    pub config: NodeConfig,
    /// The recipes on this machine.
    pub recipes: Vec<Recipe>,
    /// From the machine's entropy; every choice by chance comes from it.
    pub seed: [u8; 32],
    /// Checks signatures of records; `mesh_ledger::gate::Direct` unless a simulator remembers them.
    pub verifier: Box<dyn Verifier + Send>,
}

/// Why a node cannot be made from its journal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// An entry cannot be read.
    #[error("entry {entry} of the journal cannot be read")]
    Entry {
        /// Counts from 1.
        entry: u64,
        /// Why.
        source: mesh_base::codec::DecodeError,
    },
    /// A change in the journal does not fit the ones before it.
    #[error("entry {entry} of the journal does not fit the ones before it")]
    Replay {
        /// Counts from 1.
        entry: u64,
        /// Why.
        source: mesh_ledger::gate::Rejection,
    },
    /// No certificates: the node belongs to nobody.
    #[error("this machine belongs to no organisation")]
    NoChain,
}

/// One node of the mesh. Drain [`Node::poll`] after each [`Node::handle`].
pub struct Node {
    pub(crate) secret: SecretKey,
    pub(crate) id: NodeId,
    pub(crate) address: Ipv6Addr,
    pub(crate) chain: Chain,
    pub(crate) body: CertificateBody,
    pub(crate) config: NodeConfig,
    pub(crate) recipes: BTreeMap<String, Recipe>,
    pub(crate) rng: ChaCha20Rng,
    pub(crate) started: Now,
    pub(crate) now: Now,
    pub(crate) out: Outbox,
    pub(crate) ledger: Ledger,
    pub(crate) view: View,
    pub(crate) roster: Roster,
    pub(crate) peers: Peers,
    pub(crate) replication: Replication,
    pub(crate) customer: Customer,
    pub(crate) provider: Provider,
    pub(crate) admission: Admission,
    pub(crate) calls: Calls,
    /// Stock WireGuard devices that come in through us.
    pub(crate) clients: BTreeMap<Name, Client>,
    pub(crate) fresh: VecDeque<RecordId>,
    /// Set when something that plans, trust or waiting calls rest on may be different.
    pub(crate) changed: bool,
    pub(crate) reach: Option<Reach>,
    pub(crate) forwards: BTreeMap<(Ipv6Addr, u16), u16>,
    pub(crate) underlay: Underlay,
    pub(crate) links: BTreeMap<NodeId, LinkSeen>,
    /// Packets that the data plane dropped, by reason: as many as there are reasons.
    pub(crate) dropped: Vec<(DropReason, u64)>,
    pub(crate) neighbours: Neighbours,
    /// Whom the neighbours may be chosen from, as last told.
    pub(crate) eligible: BTreeSet<NodeId>,
    /// Known nodes that are leaves, likewise.
    pub(crate) leaves: BTreeSet<NodeId>,
    /// When chosen neighbours are told again that they are.
    pub(crate) wish_next: Moment,
    /// When those are whose link is down.
    pub(crate) wish_again: Moment,
    /// What routing told us last.
    pub(crate) routing: RoutingKnown,
    pub(crate) last_plan: Option<mesh_routing::plan::Plan>,
    /// The table of names that was told last, and how many agreements there were then.
    pub(crate) names: Option<(Arc<Names>, usize)>,
    pub(crate) resolver: Option<ResolverSeen>,
    pub(crate) entrances: Option<Entrances>,
    /// What the home's gateway maps, as last told.
    pub(crate) mapped: Option<mesh_routing::portmap::Report>,
    /// Whether anything new may be taken on.
    pub(crate) room: Room,
    pub(crate) last_trust: Option<(u64, Chain)>,
    pub(crate) standing: Standing,
    pub(crate) addresses: BTreeMap<ServiceId, Ipv6Addr>,
    pub(crate) garbled: u64,
    pub(crate) refused: Refusals,
}

/// Where this machine listens.
#[derive(Debug, Default, Clone)]
pub(crate) struct Underlay {
    pub control: Vec<SocketAddr>,
    pub wireguard: Vec<SocketAddr>,
    pub door: Vec<SocketAddr>,
}

/// Reads the entries of a journal, in order.
fn read(journal: &[Vec<u8>]) -> Result<Vec<Entry>, NodeError> {
    let entries = journal.iter().zip(1..).map(|(bytes, entry)| {
        Entry::from_bytes(bytes).map_err(|source| NodeError::Entry { entry, source })
    });
    entries.collect()
}

impl Node {
    /// Makes a node from what its journal holds, in order.
    pub fn new(setup: Setup, journal: &[Vec<u8>], now: Now) -> Result<Self, NodeError> {
        let entries = read(journal)?;
        let chain = entries.iter().rev().find_map(|entry| match entry {
            Entry::Chain(chain) => Some(chain.clone()),
            _ => None,
        });
        let chain = chain.ok_or(NodeError::NoChain)?;
        let body = chain.leaf().ok_or(NodeError::NoChain)?.clone();
        let id = NodeId(setup.secret.public());
        let mut node = Self {
            id,
            address: NodeAddress::of(&id).0,
            rng: ChaCha20Rng::from_seed(setup.seed),
            started: now,
            now,
            out: Outbox::behind(journal.len() as u64),
            ledger: Ledger::with_verifier(setup.verifier),
            view: View::default(),
            roster: Roster::new(body.org, body.org_name.clone()),
            peers: Peers::default(),
            replication: Replication::new(body.org),
            customer: Customer::default(),
            provider: Provider::new(setup.config.grantable()),
            admission: Admission::default(),
            calls: Calls::default(),
            clients: BTreeMap::new(),
            fresh: VecDeque::new(),
            changed: true,
            reach: None,
            forwards: BTreeMap::new(),
            underlay: Underlay::default(),
            links: BTreeMap::new(),
            dropped: Vec::new(),
            neighbours: neighbours_of(id, &setup.config, setup.seed, now.mono),
            eligible: BTreeSet::new(),
            leaves: BTreeSet::new(),
            wish_next: now.mono,
            wish_again: now.mono,
            routing: RoutingKnown::default(),
            last_plan: None,
            names: None,
            resolver: None,
            entrances: None,
            mapped: None,
            room: Room::default(),
            last_trust: None,
            standing: Standing::default(),
            addresses: BTreeMap::new(),
            garbled: 0,
            refused: Refusals::default(),
            recipes: setup
                .recipes
                .into_iter()
                .map(|r| (r.name.to_string(), r))
                .collect(),
            secret: setup.secret,
            config: setup.config,
            chain,
            body,
        };
        node.standing.run = node.rng.next_u64();
        // Our own /64 is taken too. If our certificate has ended, `status` says so.
        let _ = node.roster.admit(&node.id, &node.chain, now.wall);
        node.replay(entries)?;
        // What the journal repeats was counted in its time.
        node.refused.clear();
        node.recover();
        Ok(node)
    }

    /// Takes one input. `now` never goes back in its `mono` part.
    pub fn handle(&mut self, input: Input, now: Now) {
        self.now = now;
        match input {
            Input::Tick => self.timers(),
            Input::Persisted(position) => self.out.handle_persisted(position),
            Input::Room(room) => self.room = room,
            Input::Connected { peer, chain, seen } => self.connected(peer, &chain, seen),
            Input::Disconnected { peer } => self.disconnected(peer),
            Input::Found { peer, addresses } => {
                self.peers.handle_found(&peer, addresses, now.mono);
            }
            Input::GateRefused { reason } => self.note_refusal(reason),
            Input::Message { from, message } => self.message(from, message),
            Input::Garbled { from } => self.garbled_by(from),
            Input::Visit {
                visit,
                visitor,
                request,
            } => self.visit(visit, visitor, request),
            Input::Knocked { call, reply } => self.knocked(call, reply),
            Input::Api { call, request } => self.api(call, request),
            Input::ApiGone { call } => self.calls.forget(call),
            Input::Compute(event) => self.compute_event(&event),
            Input::LogRead {
                ticket,
                offset,
                bytes,
                refused,
            } => {
                self.log_read(ticket, offset, bytes, refused);
            }
            Input::Underlay {
                control,
                wireguard,
                door,
            } => {
                self.underlay = Underlay {
                    control,
                    wireguard,
                    door,
                };
                self.publish_contact();
                self.changed = true;
            }
            Input::Reach(reach) => {
                self.reach = Some(reach);
                self.changed = true;
            }
            Input::Forwarded {
                service,
                port,
                local,
            } => {
                self.forwards.insert((service, port), local);
                self.changed = true;
            }
            Input::Resolver(seen) => self.resolver = Some(seen),
            Input::Entrances(entrances) => self.entrances = Some(entrances),
            Input::Mapped(report) => self.mapped = Some(report),
            Input::Links(links) => {
                self.links = links.into_iter().map(|link| (link.peer, link)).collect();
                self.links_seen();
            }
            Input::Dropped(counts) => self.dropped = counts,
            Input::Routing(known) => self.routing = known,
            Input::Explained { call, found } => self.explained(call, found),
        }
        self.settle();
    }

    /// Takes the next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.poll()
    }

    /// Returns when `Tick` is due at the latest; none if nothing waits.
    pub fn next_deadline(&self) -> Option<Moment> {
        [
            self.peers.next_deadline(),
            self.replication.next_deadline(),
            self.customer.next_deadline(),
            self.provider.next_deadline(),
            self.calls.next_deadline(),
            self.next_draft(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Returns this node's key.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Returns the certificates that this node shows.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Returns the ledger, for checkers and exports.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Returns what the ledger says, for checkers.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Reacts to everything new until nothing is, then tells what has changed.
    fn settle(&mut self) {
        // What an instance says may be a record to react to, and a reaction may give it work: until
        // both are quiet. Each round ends attempts or steps, which are limited.
        loop {
            while let Some(id) = self.fresh.pop_front() {
                self.react(id);
            }
            self.drain_instances();
            if self.fresh.is_empty() {
                break;
            }
        }
        if std::mem::take(&mut self.changed) {
            let trust = self.publish_trust();
            let plan = self.publish_overlay();
            self.publish_names(trust || plan);
            self.progress_calls();
        }
        self.publish_door();
    }

    fn timers(&mut self) {
        let now = self.now.mono;
        for _ in 0..PEERS_MAX {
            let jitter = self.rng.next_u64();
            let Some((peer, mut addresses, before)) = self.peers.poll_dial(jitter, now) else {
                break;
            };
            // Only then: a connection over the underlay outlives the overlay.
            if let (Dialled::InVain, Some(member)) = (before, self.roster.member(&peer)) {
                addresses.push(SocketAddr::from((member.address.0, CONTROL_PORT)));
            }
            if peer != self.id && self.in_standing(&peer) {
                self.out.now(Effect::Dial { peer, addresses });
            }
        }
        while let Some((peer, token)) = self.peers.poll_ping(now) {
            self.out.send(peer, Message::Ping { token });
        }
        for (peer, message) in self.replication.handle_tick(&self.ledger, now) {
            // What is told to a peer rests on the journal: it may acknowledge or hand it on.
            self.out.send_durable(peer, message);
        }
        self.standing_timers();
        self.neighbours_timers();
        self.customer_timers();
        self.provider_timers();
        self.draft_invoices();
        if self.calls.next_deadline().is_some_and(|due| due <= now) {
            self.changed = true;
        }
    }

    fn replay(&mut self, entries: Vec<Entry>) -> Result<(), NodeError> {
        for (index, entry) in entries.into_iter().enumerate() {
            self.replay_entry(index as u64 + 1, entry)?;
        }
        Ok(())
    }

    fn replay_entry(&mut self, number: u64, entry: Entry) -> Result<(), NodeError> {
        match entry {
            Entry::Delta(delta) => {
                let admitted = self
                    .ledger
                    .replay(&delta)
                    .map_err(|source| NodeError::Replay {
                        entry: number,
                        source,
                    })?;
                for id in admitted.new {
                    self.absorb(id);
                }
            }
            Entry::Chain(_) => {}
            Entry::Contact(contact) => self.restore_contact(contact),
            Entry::Invite(entry) => self.admission.book.apply(&entry),
            Entry::Secret { order, sealed } => {
                self.provider.secrets.insert(RecordId(order), sealed);
            }
            Entry::Placed { order, sealed } => {
                self.customer.secrets.insert(RecordId(order), sealed);
            }
            Entry::Meter { order, meter } => {
                self.provider.meters.insert(RecordId(order), meter);
            }
            Entry::Item { order, memory } => {
                self.provider.memories.insert(RecordId(order), memory);
            }
            Entry::Proof(proof) => {
                self.ledger
                    .freeze(&proof)
                    .map_err(|source| NodeError::Replay {
                        entry: number,
                        source,
                    })?;
            }
            Entry::Client { name, key, since } => {
                self.clients.insert(name, Client { key, since });
            }
            Entry::ClientGone { name } => {
                self.clients.remove(&name);
            }
            // Written by this program only one deep; a deeper one would be read the same.
            Entry::Together(entries) => {
                for entry in entries {
                    self.replay_entry(number, entry)?;
                }
            }
        }
        Ok(())
    }

    /// Finds open work again after a restart.
    fn recover(&mut self) {
        self.adopt_certificate();
        self.announce_capacity();
        self.recover_provider();
        self.recover_customer();
        self.recover_drafts();
        if !self.clients.is_empty() {
            self.publish_clients();
        }
        self.settle();
    }

    /// Writes records of our own into one of our documents and reacts to them like to any other.
    pub(crate) fn write(
        &mut self,
        kind: DocKind,
        counterparty: Option<OrgId>,
        bodies: Vec<Body>,
    ) -> Result<Vec<RecordId>, LedgerError> {
        self.write_with(kind, counterparty, bodies, Vec::new())
    }

    /// As [`Node::write`], with entries that are on disk if and only if the records are.
    pub(crate) fn write_with(
        &mut self,
        kind: DocKind,
        counterparty: Option<OrgId>,
        bodies: Vec<Body>,
        mut together: Vec<Entry>,
    ) -> Result<Vec<RecordId>, LedgerError> {
        let (org, writer) = (self.body.org, *self.id.key());
        let incarnation = self.body.incarnation;
        let doc = match counterparty {
            None => DocId::public(kind, org, writer, incarnation),
            Some(other) => DocId::between(kind, org, writer, other, incarnation),
        };
        let term = if leader_writes(kind) { self.term() } else { 0 };
        let wall = self.now.wall;
        let appended = self.ledger.append(doc, bodies, &self.secret, term, wall)?;
        let delta = appended.delta;
        if together.is_empty() {
            self.out.append(&Entry::Delta(delta.clone()));
        } else {
            together.push(Entry::Delta(delta.clone()));
            self.out.append(&Entry::Together(together));
        }
        let seq = delta.frontier().seq;
        for peer in self
            .replication
            .handle_changed(&delta.doc, seq, self.now.mono)
        {
            self.out
                .send_durable(peer, Message::Changes(Box::new(delta.clone())));
        }
        for id in &appended.ids {
            self.absorb(*id);
            self.fresh.push_back(*id);
        }
        Ok(appended.ids)
    }

    /// Writes records whose failure is a fault of ours, not of a caller: it is counted and told.
    pub(crate) fn must_write(&mut self, kind: DocKind, with: Option<OrgId>, bodies: Vec<Body>) {
        self.must_write_with(kind, with, bodies, Vec::new());
    }

    /// As [`Node::must_write`], with entries that are on disk if and only if the records are.
    /// Returns whether they were written.
    pub(crate) fn must_write_with(
        &mut self,
        kind: DocKind,
        with: Option<OrgId>,
        bodies: Vec<Body>,
        together: Vec<Entry>,
    ) -> bool {
        if let Err(error) = self.write_with(kind, with, bodies, together) {
            tracing::error!(%error, %kind, "a record of our own was refused by our own ledger");
            self.note_refusal(Reason::OwnRecord);
            return false;
        }
        true
    }

    pub(crate) fn absorb(&mut self, id: RecordId) {
        let Some(entry) = self.ledger.entry(&id) else {
            return;
        };
        let signed = entry.signed.clone();
        self.changed = true;
        self.view.absorb(id, &signed);
        self.absorb_membership(&signed);
        if let Body::Agreement(agreement) = &signed.record.body {
            let wall = signed.record.wall;
            if let Err(error) = self
                .admission
                .agreements
                .handle_agreement(id, wall, agreement)
            {
                tracing::info!(%error, "an agreement is not taken up");
                self.note_refusal(Reason::BadChange);
            }
        }
    }

    pub(crate) fn note_refusal(&mut self, reason: Reason) {
        self.refused.note(reason);
    }

    /// The term of our organisation's leader; one until elections land.
    pub(crate) fn term(&self) -> u64 {
        1
    }

    /// Whether this node leads its organisation: the only voter of its charter.
    pub(crate) fn leads(&self) -> bool {
        self.body.role == Role::Master && self.roster.voters_of(&self.body.org).contains(&self.id)
    }

    /// Returns the overlay address of a service; the slow hash is done once a service.
    pub(crate) fn service_address(&mut self, service: &ServiceId) -> Ipv6Addr {
        let known = self.addresses.get(service).copied();
        let address = known.unwrap_or_else(|| ServiceAddress::of(service).0);
        self.addresses.insert(*service, address);
        address
    }

    /// Says anew where this node can be reached, if that changed.
    pub(crate) fn publish_contact(&mut self) {
        let own = self.peers.contact(&self.id);
        let unchanged = own.is_some_and(|own| {
            own.contact.control == self.underlay.control
                && own.contact.wireguard == self.underlay.wireguard
                && own.contact.chain == self.chain
                && own.contact.leaf == self.is_leaf()
        });
        if unchanged || self.underlay.control.is_empty() {
            return;
        }
        let newest = own.map_or(0, |own| own.contact.sequence);
        let wall = u64::try_from(self.now.wall.0).unwrap_or(0);
        let contact = Contact {
            node: self.id,
            chain: self.chain.clone(),
            sequence: wall.max(newest.saturating_add(1)),
            control: self.underlay.control.clone(),
            wireguard: self.underlay.wireguard.clone(),
            leaf: self.is_leaf(),
        };
        let signed = SignedContact::sign(contact, &self.secret);
        self.peers.handle_contact(signed.clone(), self.now.mono);
        self.out.append(&Entry::Contact(signed.clone()));
        let peers: Vec<NodeId> = self.peers.connected().map(|(peer, _)| *peer).collect();
        for peer in peers {
            self.out
                .send_durable(peer, Message::Contacts(vec![signed.clone()]));
        }
    }

    /// Tells the gate whom it may let in, if that changed. Returns whether it did.
    fn publish_trust(&mut self) -> bool {
        let told = self.last_trust.as_ref();
        let revision = self.roster.revision();
        if told.is_some_and(|(known, chain)| *known == revision && *chain == self.chain) {
            return false;
        }
        self.last_trust = Some((revision, self.chain.clone()));
        self.out.now(Effect::Trust {
            roster: Arc::new(self.roster.clone()),
            chain: self.chain.clone(),
        });
        true
    }

    /// Returns the position up to which everything said so far is on disk once it is persisted.
    pub fn appended(&self) -> Position {
        self.out.appended()
    }

    /// Returns the organisations whose nodes this node trusts, its own included.
    pub fn trusted(&self) -> BTreeSet<OrgId> {
        self.roster.orgs().keys().copied().collect()
    }
}

fn neighbours_of(id: NodeId, config: &NodeConfig, seed: [u8; 32], now: Moment) -> Neighbours {
    // The choice has a seed of its own: what it draws changes nothing elsewhere.
    let [.., a, b, c, d, e, f, g, h] = seed;
    let mut neighbours = Neighbours::new(id, u64::from_be_bytes([a, b, c, d, e, f, g, h]));
    neighbours.handle_station(config.station, now);
    neighbours.handle_inbound_max(config.inbound_max);
    neighbours
}

/// Whether a kind of document is written by an organisation's leader, under its term.
pub(crate) fn leader_writes(kind: DocKind) -> bool {
    matches!(
        kind,
        DocKind::Members | DocKind::Catalog | DocKind::Books | DocKind::Agreement
    )
}
