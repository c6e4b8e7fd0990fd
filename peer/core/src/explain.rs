//! Explains routes: whom a question is about, and what the shell found, in words and names.
//!
//! ```text
//!   Request ── names become keys ──► Effect::Explain ──► routing thread, data plane
//!   Reply  ◄── keys become names ─── Input::Explained ◄── what they see
//! ```
//! Decides words only. Names are those of the roster; who is not in it stands by its address or the
//! beginning of its key.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddr};

use mesh_api::route::{
    DistanceRow, HopRow, LinkRow, NeighbourRow, PingReply, RouteRow, RouteState, TraceReply, Way,
    WayRow,
};
use mesh_api::status::{self, Health, HealthRow, LostWayRow};
use mesh_api::{ApiError, ErrorKind, Reply, Request};
use mesh_base::identity::NodeId;
use mesh_base::time::Wall;
use mesh_routing::babel::explain::{NeighbourView, RouteView, WayView};
use mesh_routing::babel::route::Selected;
use mesh_routing::babel::source::Distance;
use mesh_routing::babel::words::{Metric, Prefix};
use mesh_routing::carriage::{Carrier, Why};
use mesh_routing::paths::PENALTY_MIN;

use crate::calls::Waiting;
use crate::limits::EXPLAIN_WAIT;
use crate::names::parts;
use crate::netcheck::NetSeen;
use crate::node::Node;
use crate::port::{CallId, Effect};
use crate::report::health_row;

/// What the shell is to find out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Every route, or everything about the one that leads to an address.
    Routes {
        /// The address.
        to: Option<Ipv6Addr>,
    },
    /// Every link and session.
    Links,
    /// Every session of a client.
    Clients,
    /// What the network lets through.
    Netcheck,
    /// Whether a node answers in its session.
    Ping {
        /// The node.
        to: NodeId,
        /// Whether to find out who is on the way.
        path: bool,
    },
    /// Who is on the way to a node.
    Trace {
        /// The node.
        to: NodeId,
    },
}

/// What the shell found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Explained {
    /// To `Routes`.
    Routes(Vec<RouteSeen>),
    /// To `Links`.
    Links(Vec<SessionSeen>),
    /// To `Clients`.
    Clients(Vec<ClientSeen>),
    /// To `Netcheck`.
    Netcheck(Box<NetSeen>),
    /// To `Ping` and `Trace`.
    Way(WaySeen),
    /// There was no room to ask.
    Busy,
}

/// A prefix as the routing thread sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSeen {
    /// What the speaker says.
    pub view: RouteView,
    /// The nodes at the other ends, in the order of its ways; none if that is no node.
    pub via: Vec<Option<NodeId>>,
    /// Links that the last parcel from there crossed.
    pub hops: Option<u8>,
    /// Since packets go this way.
    pub age_ms: Option<u64>,
}

/// A session as the data plane and the routing thread see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSeen {
    /// With whom.
    pub peer: NodeId,
    /// Where its datagrams come from by UDP.
    pub endpoint: Option<SocketAddr>,
    /// What carries packets to it over the link's own underlay.
    pub carrier: Carrier,
    /// Since its last authenticated datagram.
    pub silent_ms: Option<u64>,
    /// Bytes of packets from it.
    pub received_bytes: u64,
    /// Bytes of packets to it.
    pub sent_bytes: u64,
    /// Bytes of other nodes' parcels handed to it.
    pub relayed_bytes: u64,
    /// Links that its last parcel crossed.
    pub hops: Option<u8>,
    /// Through whom packets to it go.
    pub next_hop: Option<NodeId>,
    /// What the speaker says, if it is a neighbour.
    pub neighbour: Option<NeighbourView>,
    /// Since both directions work.
    pub up_ms: Option<u64>,
}

/// A client's session as the data plane sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSeen {
    /// The client's address.
    pub address: Ipv6Addr,
    /// Where its datagrams come from.
    pub endpoint: Option<SocketAddr>,
    /// Since its last authenticated datagram.
    pub silent_ms: Option<u64>,
    /// Bytes of packets from it.
    pub received_bytes: u64,
    /// Bytes of packets to it.
    pub sent_bytes: u64,
}

/// A way over which packets are lost, as the routing thread knows from questions and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostWay {
    /// Where they were to go.
    pub destination: NodeId,
    /// Over whom.
    pub via: NodeId,
    /// For how long nothing has come back.
    pub ago_ms: u64,
    /// Through whom packets go instead.
    pub now: Option<NodeId>,
}

/// Says for people what carries a link.
pub(crate) fn carried(carrier: Carrier) -> status::Carrier {
    match carrier {
        Carrier::Udp => status::Carrier::Udp,
        Carrier::UdpNarrow => status::Carrier::UdpAndStream,
        Carrier::Stream(Why::Silent) => status::Carrier::StreamUdpSilent,
        Carrier::Stream(Why::Narrow) => status::Carrier::StreamUdpNarrow,
    }
}

/// What routing tells about itself, all of it from one look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoutingKnown {
    /// What it knows and counts, by word: a fixed set of words.
    pub counts: BTreeMap<&'static str, u64>,
    /// The ways over which packets are lost.
    pub lost: Vec<LostWay>,
}

/// What came of questions to a node and to those on the way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WaySeen {
    /// Through whom its packets go.
    pub next_hop: Option<NodeId>,
    /// Its answer.
    pub echo: Option<Echo>,
    /// Who answered at each place before it, with the shortest round trip in microseconds.
    pub places: Vec<Option<(NodeId, u64)>>,
}

/// A node's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    /// How long it took.
    pub rtt_us: u64,
    /// Links that the question crossed.
    pub hops_there: u8,
    /// Links that the answer crossed.
    pub hops_back: u8,
}

impl Node {
    /// Asks the shell, and lets the call wait for it.
    pub(crate) fn explain(&mut self, call: CallId, request: &Request) {
        let question = match self.question(request) {
            Ok(question) => question,
            Err(error) => return self.reply(call, Err(error)),
        };
        self.wait(call, Waiting::Explain(question.clone()), EXPLAIN_WAIT);
        self.out.now(Effect::Explain { call, question });
    }

    fn question(&self, request: &Request) -> Result<Question, ApiError> {
        Ok(match request {
            Request::Routes { to: Some(to) } => Question::Routes {
                to: Some(self.address_of(to)?),
            },
            Request::Ping { to, path } => Question::Ping {
                to: self.other(to)?,
                path: *path,
            },
            Request::Trace { to } => Question::Trace {
                to: self.other(to)?,
            },
            Request::Links => Question::Links,
            Request::ClientLs => Question::Clients,
            Request::Netcheck => Question::Netcheck,
            // The caller hands over these six kinds only.
            _ => Question::Routes { to: None },
        })
    }

    /// Takes what the shell found.
    pub(crate) fn explained(&mut self, call: CallId, found: Explained) {
        let Some(waiting) = self.calls.take(call) else {
            return;
        };
        let Waiting::Explain(question) = waiting.waiting else {
            return;
        };
        let reply = match found {
            Explained::Routes(seen) => self.routes_reply(&seen, &question),
            Explained::Links(seen) => Ok(Reply::Links {
                links: seen.iter().filter_map(|it| self.link_row(it)).collect(),
            }),
            Explained::Netcheck(seen) => Ok(Reply::Netcheck(Box::new(self.netcheck(&seen)))),
            Explained::Clients(seen) => Ok(self.client_rows(&seen)),
            Explained::Way(seen) => match question {
                Question::Ping { to, path } => self.ping_reply(&to, path, &seen),
                Question::Trace { to } => self.trace_reply(&to, &seen),
                // Of another kind than was asked.
                _ => return,
            },
            Explained::Busy => Err(ApiError::new(
                ErrorKind::Unreachable,
                "this node has too much to do to explain its routes now",
                "try again in a second",
            )),
        };
        self.reply(call, reply);
    }

    /// Returns the node that is meant: by name, by `name.org`, or by an address of its own or of a
    /// service that it holds.
    pub(crate) fn named(&self, text: &str) -> Result<NodeId, ApiError> {
        let missing = || {
            ApiError::new(
                ErrorKind::NotFound,
                format!("there is no node \"{text}\" here"),
                "list them: meshctl status",
            )
        };
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return self.node_at(&address).ok_or_else(missing);
        }
        let (name, org) = parts(text);
        let own = [(self.id, &self.body)].into_iter();
        let own = own.filter(|(_, body)| body.name.as_str() == name);
        let members = self.roster.members();
        // If two keys have had the name, the one certified last has it, as everywhere.
        let newest = members.filter(|(node, member)| {
            let body = &member.body;
            body.name.as_str() == name && self.roster.named(&body.org, &body.name) == Some(**node)
        });
        let all = own.chain(newest.map(|(node, member)| (*node, &member.body)));
        let is_meant = |of| org.as_ref().is_none_or(|org| self.org_name(of) == *org);
        let fit: BTreeSet<(bool, NodeId)> = all
            .filter(|(_, body)| is_meant(&body.org))
            .map(|(node, body)| (body.org != self.body.org, node))
            .collect();
        // One of our own organisation is meant before others of the same name.
        let mut fit = fit.into_iter();
        match (fit.next(), fit.next()) {
            (None, _) => Err(missing()),
            (Some((foreign, _)), Some((other, _))) if foreign == other => Err(ApiError::new(
                ErrorKind::Usage,
                format!("more than one node is called \"{text}\""),
                format!("say which by its organisation, {name}.ORG, or by its address"),
            )),
            (Some((_, node)), _) => Ok(node),
        }
    }

    fn other(&self, text: &str) -> Result<NodeId, ApiError> {
        let node = self.named(text)?;
        if node == self.id {
            let name = self.full_name(&node);
            return Err(ApiError::new(
                ErrorKind::Usage,
                format!("{name} is this node itself"),
                "name another one: meshnode peers",
            ));
        }
        Ok(node)
    }

    /// An address that is no node's may still have a route: that of a network behind a router.
    fn address_of(&self, text: &str) -> Result<Ipv6Addr, ApiError> {
        let address = text.parse::<Ipv6Addr>().ok();
        let node = match address.map(|it| self.node_at(&it)) {
            Some(Some(node)) => Some(node),
            Some(None) => None,
            None => Some(self.named(text)?),
        };
        let of_node = node.and_then(|node| self.overlay_address(&node));
        Ok(of_node.or(address).unwrap_or(self.address))
    }

    fn node_at(&self, address: &Ipv6Addr) -> Option<NodeId> {
        let half = |address: &Ipv6Addr| address.octets().first_chunk::<8>().copied();
        if half(address) == half(&self.address) {
            return Some(self.id);
        }
        let mut members = self.roster.members();
        let member = members.find(|(_, member)| half(&member.address.0) == half(address));
        let holder = || self.last_plan.as_ref()?.services.get(address).copied();
        member.map(|(node, _)| *node).or_else(holder)
    }

    pub(crate) fn overlay_address(&self, node: &NodeId) -> Option<Ipv6Addr> {
        if *node == self.id {
            return Some(self.address);
        }
        self.roster.member(node).map(|member| member.address.0)
    }

    /// Returns `name.org`, or the beginning of the key.
    pub(crate) fn full_name(&self, node: &NodeId) -> String {
        let name = self.node_name(node);
        self.org_of(node).map_or(name.clone(), |org| {
            format!("{name}.{}", self.org_name(&org))
        })
    }

    fn routes_reply(&self, seen: &[RouteSeen], question: &Question) -> Result<Reply, ApiError> {
        let mut rows: Vec<RouteRow> = seen.iter().map(|it| self.route_row(it)).collect();
        match question {
            Question::Routes { to: Some(to) } => {
                if rows.is_empty() {
                    let node = self.node_at(to).map(|node| self.full_name(&node));
                    return Err(no_route(&node.unwrap_or_else(|| to.to_string())));
                }
            }
            _ => {
                let known: BTreeSet<&str> = rows.iter().map(|row| row.prefix.as_str()).collect();
                // A leaf finds everybody else where its uplinks are.
                let default = seen.iter().any(|it| {
                    it.view.prefix == Prefix::NODES && it.view.selected != Selected::None
                });
                let lost = self.planned().filter_map(|(node, address)| {
                    let prefix = prefix_of(&address);
                    let there = default || known.contains(prefix.as_str());
                    (!there).then(|| self.lost_row(&node, prefix))
                });
                let lost: Vec<RouteRow> = lost.collect();
                rows.extend(lost);
                rows.iter_mut().for_each(|row| row.ways.clear());
                rows.sort_by(|a, b| (&a.node, &a.prefix).cmp(&(&b.node, &b.prefix)));
            }
        }
        Ok(Reply::Routes { routes: rows })
    }

    fn planned(&self) -> impl Iterator<Item = (NodeId, Ipv6Addr)> {
        let plan = self.last_plan.iter();
        plan.flat_map(|plan| plan.peers.iter().map(|(node, peer)| (*node, peer.address)))
    }

    fn lost_row(&self, node: &NodeId, prefix: String) -> RouteRow {
        RouteRow {
            node: Some(self.full_name(node)),
            prefix,
            state: RouteState::Unreachable,
            next_hop: None,
            metric: None,
            behind: None,
            link_cost: None,
            rtt_cost: None,
            penalty: None,
            hops: None,
            feasibility: None,
            age_ms: None,
            why: "no neighbour announces it".to_owned(),
            ways: Vec::new(),
        }
    }

    fn route_row(&self, seen: &RouteSeen) -> RouteRow {
        let view = &seen.view;
        let node = match view.prefix.bits() {
            64 => self.node_at(&view.prefix.address()),
            _ => None,
        };
        let selected = view.ways.iter().position(|way| way.selected);
        let way = selected.and_then(|at| view.ways.get(at));
        let router = way.or_else(|| view.ways.first()).map(|way| way.router_id);
        let distance = view
            .feasibility
            .iter()
            .find(|(id, _)| router.is_none_or(|router| router == *id));
        let via = |at: usize| self.via(seen, at);
        let next_hop = selected.map(via);
        let direct = seen.via.get(selected.unwrap_or(usize::MAX)) == Some(&node);
        RouteRow {
            state: match view.selected {
                Selected::Own => RouteState::Own,
                Selected::Via(_) => RouteState::Selected,
                Selected::None if view.held_until.is_some() => RouteState::Held,
                Selected::None => RouteState::Unreachable,
            },
            metric: way.and_then(|way| finite(way.metric)),
            behind: way.map(|way| way.claimed.metric.0),
            link_cost: way.map(|way| way.link_cost.0),
            rtt_cost: way.map(|way| way.rtt_penalty.0),
            penalty: way.map(|way| way.penalty.0),
            hops: way.and_then(|_| {
                if direct && node.is_some() {
                    Some(1)
                } else {
                    seen.hops
                }
            }),
            feasibility: distance.map(|(_, distance)| distance_row(*distance)),
            age_ms: seen.age_ms,
            why: why_selected(view, next_hop.as_deref()),
            ways: (0..)
                .zip(&view.ways)
                .map(|(at, way)| way_row(view, way, via(at)))
                .collect(),
            node: node.map(|node| self.full_name(&node)),
            prefix: view.prefix.to_string(),
            next_hop,
        }
    }

    /// Returns who is at the other end of a way: a node, or a router of an ordinary network.
    fn via(&self, seen: &RouteSeen, at: usize) -> String {
        let node = seen.via.get(at).copied().flatten();
        let address = seen.view.ways.get(at).map(|way| way.next_hop.to_string());
        let name = node.map(|node| self.full_name(&node));
        name.or(address).unwrap_or_default()
    }

    /// Returns how packets go to the other end of a session.
    pub(crate) fn way_to(&self, seen: &SessionSeen) -> Way {
        match seen.next_hop {
            Some(next) if next == seen.peer => Way::Direct,
            Some(next) => Way::Around {
                via: self.full_name(&next),
                hops: seen.hops,
            },
            None => Way::None,
        }
    }

    fn link_row(&self, seen: &SessionSeen) -> Option<LinkRow> {
        let way = self.way_to(seen);
        let chosen = self.neighbours.explain(&seen.peer, self.now.mono);
        Some(LinkRow {
            place: chosen.place.map(|place| place.word().to_owned()),
            leaf: self.leaves.contains(&seen.peer),
            why: chosen.to_string(),
            name: self.full_name(&seen.peer),
            node: seen.peer,
            address: self.overlay_address(&seen.peer)?,
            way,
            endpoint: seen.endpoint,
            carrier: carried(seen.carrier),
            silent_ms: seen.silent_ms,
            received_bytes: seen.received_bytes,
            sent_bytes: seen.sent_bytes,
            relayed_bytes: seen.relayed_bytes,
            neighbour: seen.neighbour.as_ref().map(|view| NeighbourRow {
                rtt_us: view
                    .rtt
                    .map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
                rxcost: view.rxcost.0,
                txcost: finite(view.txcost),
                cost: finite(view.cost),
                hellos: format!("{:016b}", view.hellos),
                unicast_hellos: format!("{:016b}", view.unicast_hellos),
                up_ms: seen.up_ms,
                routes: view.selected_count as u64,
            }),
        })
    }

    /// Returns the ways over which packets are lost, in names.
    pub(crate) fn lost_way_rows(&self) -> Vec<LostWayRow> {
        let rows = self.routing.lost.iter().map(|lost| LostWayRow {
            to: self.full_name(&lost.destination),
            via: self.full_name(&lost.via),
            since: Wall(self.now.wall.0.saturating_sub_unsigned(lost.ago_ms)),
            now: lost.now.map(|node| self.full_name(&node)),
        });
        rows.collect()
    }

    /// Whether what is sent through others arrives.
    pub(crate) fn ways_health(&self) -> HealthRow {
        let rows = self.lost_way_rows();
        let Some(first) = rows.first() else {
            let sentence = "no way is known to lose packets".to_owned();
            return health_row("ways", Health::Ok, sentence, "");
        };
        let (to, via) = (&first.to, &first.via);
        let mut sentence = format!("packets for {to} are lost over {via} since {}", first.since);
        match &first.now {
            Some(now) if now != via => sentence.push_str(&format!("; they go over {now}")),
            _ => {}
        }
        if 1 < rows.len() {
            sentence.push_str(&format!("; and {} more", rows.len() - 1));
        }
        let hint =
            format!("compare: meshnode routes {to}; then look at {via} and what lies behind");
        health_row("ways", Health::Warn, sentence, &hint)
    }

    fn ping_reply(&self, to: &NodeId, path: bool, seen: &WaySeen) -> Result<Reply, ApiError> {
        let name = self.full_name(to);
        let Some(echo) = seen.echo else {
            return Err(match seen.next_hop {
                Some(_) => silent(&name),
                None => no_route(&name),
            });
        };
        let path = if path {
            self.hop_rows(to, seen)
        } else {
            Vec::new()
        };
        Ok(Reply::Ping(Box::new(PingReply {
            address: self.overlay_address(to).unwrap_or(Ipv6Addr::UNSPECIFIED),
            name,
            rtt_us: echo.rtt_us,
            hops_there: echo.hops_there,
            hops_back: echo.hops_back,
            path,
        })))
    }

    fn trace_reply(&self, to: &NodeId, seen: &WaySeen) -> Result<Reply, ApiError> {
        let name = self.full_name(to);
        if seen.echo.is_none() && seen.next_hop.is_none() {
            return Err(no_route(&name));
        }
        Ok(Reply::Trace(Box::new(TraceReply {
            address: self.overlay_address(to).unwrap_or(Ipv6Addr::UNSPECIFIED),
            name,
            reached: seen.echo.is_some(),
            hops: self.hop_rows(to, seen),
        })))
    }

    fn hop_rows(&self, to: &NodeId, seen: &WaySeen) -> Vec<HopRow> {
        let last = seen.echo.map(|echo| Some((*to, echo.rtt_us)));
        let places = seen.places.iter().copied().chain(last);
        (1..)
            .zip(places)
            .map(|(hop, place)| HopRow {
                hop,
                node: place.map(|(node, _)| self.full_name(&node)),
                rtt_us: place.map(|(_, rtt_us)| rtt_us),
            })
            .collect()
    }
}

fn no_route(name: &str) -> ApiError {
    ApiError::new(
        ErrorKind::Unreachable,
        format!("there is no route to {name}"),
        "see what this node reaches: meshnode routes",
    )
}

fn silent(name: &str) -> ApiError {
    ApiError::new(
        ErrorKind::Timeout,
        format!("{name} does not answer"),
        format!("see how far packets come: meshnode trace {name}"),
    )
}

fn prefix_of(address: &Ipv6Addr) -> String {
    let [a, b, c, d, ..] = address.segments();
    format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
}

fn finite(metric: Metric) -> Option<u16> {
    metric.is_finite().then_some(metric.0)
}

fn distance_row(distance: Distance) -> DistanceRow {
    DistanceRow {
        seqno: distance.seqno.0,
        metric: distance.metric.0,
    }
}

fn way_row(view: &RouteView, way: &WayView, via: String) -> WayRow {
    WayRow {
        via,
        claimed: distance_row(way.claimed),
        link_cost: way.link_cost.0,
        rtt_cost: way.rtt_penalty.0,
        penalty: way.penalty.0,
        metric: finite(way.metric),
        feasible: way.feasible,
        selected: way.selected,
        expires_ms: u64::try_from(way.expires_in.as_millis()).unwrap_or(u64::MAX),
        why: why_way(view, way),
    }
}

/// Whether packets sent this way do not arrive, as their ends say.
fn is_lost(way: &WayView) -> bool {
    PENALTY_MIN <= way.penalty
}

/// Says in one sentence why the way in use is in use.
fn why_selected(view: &RouteView, next_hop: Option<&str>) -> String {
    let (Some(next_hop), Some(way)) = (next_hop, view.ways.iter().find(|way| way.selected)) else {
        return match view.selected {
            Selected::Own => "it is announced by this node".to_owned(),
            _ if view.held_until.is_some() => {
                "the last way was lost; packets are dropped until everybody knows".to_owned()
            }
            _ if view.ways.is_empty() => "no neighbour announces it".to_owned(),
            _ => "no way to it is known to make no loop; a newer word was asked for".to_owned(),
        };
    };
    let usable = |it: &&WayView| it.feasible && it.metric.is_finite() && !it.selected;
    let rivals: Vec<&WayView> = view.ways.iter().filter(usable).collect();
    let shorter = rivals.iter().any(|it| it.metric < way.metric);
    let barred = view.ways.iter();
    let barred = barred.filter(|it| !it.feasible && it.metric < way.metric);
    let mut text = match (rivals.len(), shorter) {
        (0, _) => format!("the way through {next_hop} is the only one that may be used"),
        (_, false) => format!("the way through {next_hop} is the shortest that may be used"),
        (_, true) => format!("the way through {next_hop} is kept until a shorter one has lasted"),
    };
    if 0 < barred.count() {
        text.push_str("; a shorter one is not known to make no loop");
    }
    if is_lost(way) {
        text.push_str("; nothing comes back over it");
    } else if view.ways.iter().any(is_lost) {
        text.push_str("; packets were lost on another");
    }
    text
}

/// Says in one sentence why a way is in use or not.
fn why_way(view: &RouteView, way: &WayView) -> String {
    let in_use = view.ways.iter().find(|it| it.selected);
    let text = if way.selected {
        if is_lost(way) {
            "in use, though nothing comes back: there is no better one"
        } else if way.proven == way.claimed {
            "in use"
        } else {
            "in use on an older word; a newer one was asked for"
        }
    } else if !way.claimed.metric.is_finite() {
        "its neighbour has lost it"
    } else if !way.metric.is_finite() {
        "its neighbour cannot be used now"
    } else if is_lost(way) {
        "packets sent this way were lost; it is asked until they arrive again"
    } else if !way.feasible {
        "it could lead back here: it is no better than what was announced from here"
    } else if in_use.is_some_and(|it| way.metric < it.metric) {
        "shorter; used when that has lasted"
    } else if in_use.is_some_and(|it| way.metric == it.metric) {
        "as long as the one in use"
    } else {
        "longer; ready if the one in use is lost"
    };
    text.to_owned()
}
