//! The doors of the [`Node`](crate::node::Node): everything that comes in, everything that goes
//! out.
//!
//! Both are closed enums, so that a shell which forgets a case does not compile. The shell drains
//! `poll` after each `handle`. An [`Output`] with `after: Some(position)` may take effect only when
//! the journal is on disk up to that position (fdatasync returned), because it promises something.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use mesh_api::status::Entrances;
use mesh_api::{ApiError, Event as ApiEvent, Reply, Request};
use mesh_base::certificate::Chain;
use mesh_base::identity::NodeId;
use mesh_compute::step;
use mesh_federation::members::Roster;
use mesh_routing::carriage::Carrier;
use mesh_routing::portmap;
use mesh_routing::table::DropReason;

use crate::explain::{Explained, Question, RoutingKnown};
use crate::message::{JoinReply, JoinRequest, Message};
use crate::names::Names;
use crate::refusal::Reason;

/// A place in the journal: how many entries stand before and including this one. Grows by one each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Position(pub u64);

/// Matches an API call with its replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Matches a visitor at the join door with the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VisitId(pub u64);

/// Something happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// Time passed; sent at least every 250 ms, and at [`Node::next_deadline`](crate::node::Node).
    Tick,
    /// The journal is on disk up to here.
    Persisted(Position),
    /// Whether the journal's disk has room for what is still to come has changed.
    Room(Room),
    /// The gate admitted a peer and the connection stands; comes again if messages to it may have
    /// been lost since. `chain` is verified.
    Connected {
        /// The peer.
        peer: NodeId,
        /// Its verified certificates.
        chain: Chain,
        /// The address we see it at.
        seen: Option<SocketAddr>,
    },
    /// The last connection to the peer ended.
    Disconnected {
        /// The peer.
        peer: NodeId,
    },
    /// Somebody on the local network says that a peer can be reached there; nothing proves it.
    Found {
        /// The peer.
        peer: NodeId,
        /// Where.
        addresses: Vec<SocketAddr>,
    },
    /// The gate refused somebody, or was refused.
    GateRefused {
        /// Why.
        reason: Reason,
    },
    /// A decoded message of an admitted peer.
    Message {
        /// Who sent it.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// A decoding error in a frame of an admitted peer.
    Garbled {
        /// Who sent it.
        from: NodeId,
    },
    /// Somebody with an invite stands at the join door; Noise proved the key.
    Visit {
        /// For the answer.
        visit: VisitId,
        /// The visitor's proven key.
        visitor: NodeId,
        /// What it wants.
        request: JoinRequest,
    },
    /// The answer to a [`Effect::Knock`] of ours.
    Knocked {
        /// For which call.
        call: CallId,
        /// What the other side said, or why it could not be reached.
        reply: Result<JoinReply, String>,
    },
    /// A program asks something over the local API.
    Api {
        /// For the answer.
        call: CallId,
        /// What it wants.
        request: Request,
    },
    /// The program hung up; its waiting reply is not needed any more.
    ApiGone {
        /// The call.
        call: CallId,
    },
    /// A driver reports.
    Compute(step::Event),
    /// A driver read a piece of an instance's log.
    LogRead {
        /// As in [`Effect::ReadLog`].
        ticket: u64,
        /// Where the piece starts.
        offset: u64,
        /// At most 64 KiB.
        bytes: Vec<u8>,
        /// Set if it could not be read.
        refused: Option<String>,
    },
    /// The machine's own underlay addresses and ports, when they are known or change.
    Underlay {
        /// Addresses of the libp2p listener.
        control: Vec<SocketAddr>,
        /// Addresses of the WireGuard socket.
        wireguard: Vec<SocketAddr>,
        /// Addresses of the join door, as visitors should dial them.
        door: Vec<SocketAddr>,
    },
    /// How services of others can be reached from programs on this machine.
    Reach(Reach),
    /// Loopback port of a forward that [`Effect::Overlay`] asked for.
    Forwarded {
        /// The service address.
        service: Ipv6Addr,
        /// Its port there.
        port: u16,
        /// The loopback port here.
        local: u16,
    },
    /// Where the node answers for names, when that is known or changes.
    Resolver(ResolverSeen),
    /// By which ways besides loopback ports programs come into the overlay.
    Entrances(Entrances),
    /// What became of the ports that the home's gateway is asked for, when that changes.
    Mapped(portmap::Report),
    /// What the data plane sees, about once a second.
    Links(Vec<LinkSeen>),
    /// How many packets went nowhere since the start, by reason, when that changes.
    Dropped(Vec<(DropReason, u64)>),
    /// What routing knows and counts, about once a second.
    Routing(RoutingKnown),
    /// What the shell found for [`Effect::Explain`].
    Explained {
        /// For which call.
        call: CallId,
        /// The answer.
        found: Explained,
    },
}

/// Whether the journal's disk has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Room {
    /// As far as anybody can tell.
    #[default]
    Enough,
    /// Only what was set aside for what must go on: nothing new is taken on.
    Full,
}

/// How programs on this machine reach the overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The TUN is in the host's namespace: overlay addresses work in every program.
    Address,
    /// The TUN is in a namespace of our own: services are forwarded from 127.0.0.1.
    Loopback,
}

/// Where this machine's programs can ask for names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverSeen {
    /// The sockets that answer; none if nobody does.
    pub listen: Vec<SocketAddr>,
    /// Who asks there, or what is in the way, in one sentence.
    pub sentence: String,
}

/// State of one WireGuard session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSeen {
    /// The peer.
    pub peer: NodeId,
    /// Where its packets come from.
    pub endpoint: Option<SocketAddr>,
    /// What carries packets to it over the link's own underlay.
    pub carrier: Carrier,
    /// Milliseconds since its last authenticated packet; none if never.
    pub silent_ms: Option<u64>,
    /// Milliseconds since one came over the underlay, not over other nodes; none if never.
    pub link_silent_ms: Option<u64>,
    /// Bytes of payload from it.
    pub received_bytes: u64,
    /// Bytes of payload to it.
    pub sent_bytes: u64,
    /// Nodes that are reached through it; what a leaf has no entry for counts as one, and nothing
    /// else does.
    pub routed_count: u32,
}

/// What the node wants done.
#[derive(Debug, Clone)]
pub struct Output {
    /// The journal must be on disk up to here before the effect may happen.
    pub after: Option<Position>,
    /// What to do.
    pub effect: Effect,
}

/// The closed list of effects.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Append an entry to the journal. Positions come without gaps, in order.
    Append {
        /// Where it stands.
        position: Position,
        /// Its bytes.
        entry: Vec<u8>,
    },
    /// Send to a connected peer; dropped silently if it is not connected.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Box<Message>,
    },
    /// Connect to a peer at one of these addresses.
    Dial {
        /// Whom; its key must be the Noise identity.
        peer: NodeId,
        /// Where, most local first.
        addresses: Vec<SocketAddr>,
    },
    /// Close every connection to a peer.
    Hangup {
        /// Whom.
        peer: NodeId,
    },
    /// By what the gate judges who comes, and what it shows, from now on.
    Trust {
        /// Trusted organisations, their members, and whom they have revoked: a copy of the node's
        /// own.
        roster: Arc<Roster>,
        /// What we show.
        chain: Chain,
    },
    /// Keep the join door open (an invite is open) or closed.
    Door {
        /// Whether visitors may come.
        open: bool,
    },
    /// Answer a visitor.
    Answer {
        /// Which.
        visit: VisitId,
        /// What.
        reply: Box<JoinReply>,
    },
    /// Knock at somebody's join door for an API call.
    Knock {
        /// Comes back in [`Input::Knocked`].
        call: CallId,
        /// The key that must answer.
        host: NodeId,
        /// Where, in order.
        addresses: Vec<SocketAddr>,
        /// What to say.
        request: Box<JoinRequest>,
    },
    /// An intermediate event of an API call (one NDJSON line).
    ApiEvent {
        /// The call.
        call: CallId,
        /// What happened.
        event: Box<ApiEvent>,
    },
    /// The last word on an API call.
    ApiReply {
        /// The call.
        call: CallId,
        /// The answer.
        reply: Box<Result<Reply, ApiError>>,
    },
    /// A step for the drivers.
    Compute(step::Step),
    /// Read a piece of an instance's log.
    ReadLog {
        /// Comes back in [`Input::LogRead`].
        ticket: u64,
        /// The instance.
        item: step::ItemId,
        /// From where; `u64::MAX` means the last 64 KiB.
        offset: u64,
    },
    /// Find out something about routes for a call.
    Explain {
        /// Comes back in [`Input::Explained`].
        call: CallId,
        /// What.
        question: Question,
    },
    /// The whole state that the data plane should have, replacing the one before.
    Overlay(Box<mesh_routing::plan::Plan>),
    /// Every client that may come in, keys by addresses, replacing those before.
    Clients(BTreeMap<Ipv6Addr, [u8; 32]>),
    /// The whole table of names, replacing the one before.
    Names(Arc<Names>),
}
