//! Finds out what the node asks about routes: from the routing thread, the data plane, other nodes.
//!
//! ```text
//!   node ── Question ──► Guide ─┬─ Look, a page at a time ──► routing thread
//!                               ├─ links ───────────────────► data plane
//!                               └─ Ask, decoys ─────────────► other engines
//!                        Guide ◄── Waiting ◄── Ear ◄────────── their answers
//! ```
//! A look at the table is answered in pages, so that no hello waits for a long list; a full queue
//! is answered with "busy". At most [`WAITING_MAX`] probes are under way; an answer is matched by
//! the node whose session it came from and by the number or the bytes that it repeats. Decides how
//! often is asked and how long is waited, nothing about routes.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use mesh_base::identity::NodeId;
use mesh_base::time::Moment;
use mesh_dataplane::peer::LinkStats;
use mesh_dataplane::plane::Dataplane;
use mesh_dataplane::probe::Heard;
use mesh_peer::explain::{
    ClientSeen, Echo, Explained, LostWay, Question, RouteSeen, RoutingKnown, SessionSeen, WaySeen,
};
use mesh_peer::netcheck::NetSeen;
use mesh_routing::babel::event::{Event, Reach};
use mesh_routing::babel::explain::{NeighbourView, RouteView};
use mesh_routing::babel::link::LinkId;
use mesh_routing::babel::neighbour::NeighbourId;
use mesh_routing::babel::speaker::Speaker;
use mesh_routing::babel::words::Prefix;
use mesh_routing::limits::ROUTES_MAX;
use mesh_routing::paths::Lost;
use mesh_routing::probe::{CHANCE_LEN, Decoy, Probe};
use mesh_routing::transit::HOP_LIMIT;
use tokio::sync::oneshot;

use crate::keys;
use crate::runtime::places::upper_half;
use crate::runtime::routing::Input;
use crate::runtime::ways::Ways;
use crate::underlay;

/// Prefixes explained at once: twenty ways each are some milliseconds.
const PAGE: usize = 256;
/// Probes under way: four traces of the longest way.
const WAITING_MAX: usize = 256;
/// Longest wait for an answer to a question; the first one may have to make a session.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// Longest wait for the places on a way; each is asked in this many rounds.
const PLACE_WAIT: Duration = Duration::from_millis(700);
const ROUNDS: usize = 2;
/// Places that are asked when the end of a way does not answer: four times the mean way among
/// 10,000 nodes.
const BLIND_HOPS: u8 = 16;

/// A question to the routing thread.
#[derive(Debug)]
pub struct Look {
    what: Glance,
    tell: oneshot::Sender<View>,
}

#[derive(Debug, Clone, Copy)]
enum Glance {
    After(Option<Prefix>),
    To(Ipv6Addr),
    Neighbours,
    Counts,
}

#[derive(Debug, Clone, Default)]
struct View {
    routes: Vec<(RouteView, Vec<Option<NodeId>>, Option<u64>)>,
    neighbours: Vec<(NodeId, NeighbourView, Option<u64>)>,
    counts: BTreeMap<&'static str, u64>,
    /// Each with the milliseconds since it is so.
    lost: Vec<(Lost, u64)>,
}

/// What the routing thread knows beside its speaker.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// Whose forwarding table should agree with the speaker.
    pub plane: &'a Dataplane,
    /// Who is at the other end of each link.
    pub by_link: &'a BTreeMap<LinkId, NodeId>,
    /// Since when things are as they are.
    pub ages: &'a Ages,
    /// Whether what is sent arrives.
    pub ways: &'a Ways,
}

/// Since when things are as they are: what the speaker itself need not know.
#[derive(Debug, Default)]
pub struct Ages {
    routes: BTreeMap<Prefix, (Option<NeighbourId>, Moment)>,
    neighbours: BTreeMap<NeighbourId, Moment>,
}

impl Ages {
    /// Takes note of what the speaker tells.
    pub fn note(&mut self, event: &Event, now: Moment) {
        match event {
            Event::RouteChanged {
                prefix,
                reach: Reach::Gone,
            } => {
                self.routes.remove(prefix);
            }
            // The table is as long as this at most, so only what was lost meanwhile is left out.
            Event::RouteChanged { .. } if ROUTES_MAX <= self.routes.len() => {}
            Event::RouteChanged { prefix, reach } => {
                let via = match reach {
                    Reach::Via(hop) => Some(hop.neighbour),
                    Reach::Held | Reach::Gone => None,
                };
                let known = self.routes.entry(*prefix).or_insert((via, now));
                if known.0 != via {
                    *known = (via, now);
                }
            }
            Event::NeighbourUp { neighbour, .. } => {
                self.neighbours.entry(*neighbour).or_insert(now);
            }
            Event::NeighbourDown { neighbour, .. } => {
                self.neighbours.remove(neighbour);
            }
            Event::Alarm(_) => {}
        }
    }
}

impl Look {
    /// Answers, in the routing thread.
    pub fn answer(self, speaker: Option<&Speaker>, seen: &Seen<'_>, now: Moment) {
        let view = speaker.map(|speaker| self.what.view(speaker, seen, now));
        // Whoever asked may have given up.
        let _ = self.tell.send(view.unwrap_or_default());
    }
}

impl Glance {
    fn view(self, speaker: &Speaker, seen: &Seen<'_>, now: Moment) -> View {
        let Seen { by_link, ages, .. } = seen;
        let since = |since: &Moment| u64::try_from(now.since(*since).as_millis()).ok();
        let mut view = View::default();
        let routes = match self {
            Self::After(after) => speaker.routes_after(after, PAGE, now),
            Self::To(address) => speaker.route_to(address, now).into_iter().collect(),
            Self::Neighbours | Self::Counts => Vec::new(),
        };
        view.routes = routes
            .into_iter()
            .map(|route| {
                let ways = route.ways.iter();
                let via = ways.map(|way| by_link.get(&way.link).copied()).collect();
                let age = ages.routes.get(&route.prefix);
                (route, via, age.and_then(|(_, at)| since(at)))
            })
            .collect();
        match self {
            Self::Neighbours => {
                let all = speaker.neighbours(now).into_iter();
                view.neighbours = all
                    .filter_map(|neighbour| {
                        let node = by_link.get(&neighbour.link)?;
                        let up = ages.neighbours.get(&neighbour.neighbour).and_then(since);
                        Some((*node, neighbour, up))
                    })
                    .collect();
            }
            Self::Counts => {
                view.counts = count(speaker, seen);
                let lost = seen.ways.lost().into_iter();
                let aged = lost.filter_map(|lost| Some((lost, since(&lost.since)?)));
                view.lost = aged.collect();
            }
            Self::After(_) | Self::To(_) => {}
        }
        view
    }
}

/// Counts what the speaker did and holds, and whether the forwarding table says the same.
fn count(speaker: &Speaker, seen: &Seen<'_>) -> BTreeMap<&'static str, u64> {
    let mut counts = speaker.counters().words();
    let table = speaker.table_counts();
    let forwarding = seen.plane.forwarding();
    let differs = |(prefix, link): &(Prefix, LinkId)| {
        let wanted = seen.by_link.get(link).copied();
        prefix.bits() == 64 && forwarding.next_hop(prefix.address()) != wanted
    };
    let nodes = |(prefix, _): &(Prefix, LinkId)| Prefix::NODES.covers(*prefix);
    let differing = speaker.ways_in_use().filter(nodes).filter(differs);
    for (word, count) in [
        ("routes", table.reached),
        ("held", table.held),
        ("ways-feasible", table.feasible),
        ("ways-unfeasible", table.unfeasible),
        ("sources", table.sources),
        ("requests-waiting", table.requests),
        ("penalties", table.penalties),
        ("neighbours", seen.ages.neighbours.len()),
        ("forwarding", forwarding.len()),
        ("forwarding-differs", differing.count()),
    ] {
        counts.insert(word, count as u64);
    }
    seen.ways.count(&mut counts);
    counts
}

/// Probes that wait for their answers; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Waiting(Arc<Mutex<Vec<Pending>>>);

#[derive(Debug)]
struct Pending {
    key: Key,
    sent: Instant,
    tell: oneshot::Sender<(Heard, Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    /// Only this node may answer.
    Answer(NodeId, u64),
    /// Whoever saw it.
    Place(Decoy),
}

type Told = oneshot::Receiver<(Heard, Instant)>;

impl Waiting {
    /// Takes what was heard; called from the thread that carries packets.
    pub fn hear(&self, heard: Heard) {
        let key = match heard.said {
            Probe::Answer { nonce, .. } => Key::Answer(heard.from, nonce),
            Probe::Exceeded { decoy } => Key::Place(decoy),
            Probe::Ask { .. } | Probe::Try { .. } | Probe::Tried { .. } => return,
        };
        let mut pending = self.lock();
        if let Some(at) = pending.iter().position(|it| it.key == key) {
            let it = pending.swap_remove(at);
            let _ = it.tell.send((heard, it.sent));
        }
    }

    /// Notes a probe, then sends it; what cannot be sent is not waited for.
    fn send(&self, key: Key, send: impl FnOnce() -> bool) -> Option<Told> {
        let mut pending = self.lock();
        pending.retain(|it| !it.tell.is_closed());
        if WAITING_MAX <= pending.len() {
            return None;
        }
        let (tell, told) = oneshot::channel();
        let sent = Instant::now();
        // Before it is sent: the answer may be here before `send` returns. Not while it is sent:
        // who hears answers must not wait for a full socket.
        pending.push(Pending { key, sent, tell });
        drop(pending);
        if !send() {
            self.lock().retain(|it| it.key != key);
            return None;
        }
        Some(told)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Pending>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who finds things out; clones share everything.
#[derive(Clone)]
pub struct Guide {
    plane: Weak<Dataplane>,
    inputs: SyncSender<Input>,
    waiting: Waiting,
}

impl Guide {
    /// Makes a guide that asks the routing thread through `inputs`.
    pub fn new(plane: Weak<Dataplane>, inputs: SyncSender<Input>, waiting: Waiting) -> Self {
        Self {
            plane,
            inputs,
            waiting,
        }
    }

    /// Answers a question of the node.
    pub async fn find(&self, question: Question) -> Explained {
        let found = match question {
            Question::Routes { to: None } => self.routes().await.map(Explained::Routes),
            Question::Routes { to: Some(to) } => {
                let view = self.look(Glance::To(to)).await;
                let links = self.links_by_prefix();
                view.map(|view| Explained::Routes(seen(view, &links)))
            }
            Question::Links => self.links().await.map(Explained::Links),
            Question::Netcheck => {
                let found = self.network().await;
                found.map(|found| Explained::Netcheck(Box::new(found)))
            }
            Question::Clients => self.clients().map(Explained::Clients),
            Question::Ping { to, path } => Some(Explained::Way(self.way(to, path, false).await)),
            Question::Trace { to } => Some(Explained::Way(self.way(to, true, true).await)),
        };
        found.unwrap_or(Explained::Busy)
    }

    /// Returns what routing knows and counts, and the ways over which packets are lost; none if it
    /// has no time now.
    pub async fn counts(&self) -> Option<RoutingKnown> {
        let View {
            mut counts, lost, ..
        } = self.look(Glance::Counts).await?;
        let plane = self.plane.upgrade()?;
        counts.insert("unreachable-members", plane.unreachable_count() as u64);
        let lost = lost.into_iter().map(|(lost, ago_ms)| LostWay {
            destination: lost.destination,
            via: lost.via,
            ago_ms,
            now: plane.next_hop(lost.destination),
        });
        Some(RoutingKnown {
            counts,
            lost: lost.collect(),
        })
    }

    async fn look(&self, what: Glance) -> Option<View> {
        let (tell, told) = oneshot::channel();
        match self.inputs.try_send(Input::Look(Look { what, tell })) {
            Ok(()) => told.await.ok(),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => None,
        }
    }

    async fn routes(&self) -> Option<Vec<RouteSeen>> {
        let mut all = Vec::new();
        let mut after = None;
        let links = self.links_by_prefix();
        loop {
            let page = self.look(Glance::After(after)).await?;
            let Some((last, _, _)) = page.routes.last() else {
                return Some(all);
            };
            after = Some(last.prefix);
            all.extend(seen(page, &links));
        }
    }

    fn links_by_prefix(&self) -> BTreeMap<[u8; 8], LinkStats> {
        let plane = self.plane.upgrade();
        plane.map_or_else(BTreeMap::new, |plane| plane.links_by_prefix())
    }

    async fn links(&self) -> Option<Vec<SessionSeen>> {
        let neighbours = self.look(Glance::Neighbours).await?.neighbours;
        let plane = self.plane.upgrade()?;
        let links = plane.links().into_iter().map(|link| {
            let seen = neighbours.iter().find(|(node, _, _)| *node == link.peer);
            SessionSeen {
                peer: link.peer,
                endpoint: link.endpoint,
                carrier: link.carrier,
                silent_ms: link.silent_ms,
                received_bytes: link.received_bytes,
                sent_bytes: link.sent_bytes,
                relayed_bytes: link.relayed_bytes,
                hops: link.hops,
                next_hop: plane.next_hop(link.peer),
                neighbour: seen.map(|(_, view, _)| view.clone()),
                up_ms: seen.and_then(|(_, _, up)| *up),
            }
        });
        Some(links.collect())
    }

    async fn network(&self) -> Option<NetSeen> {
        let (sessions, routes) = (self.links().await?, self.routes().await?);
        let outside = self.plane.upgrade()?.seen();
        Some(NetSeen {
            sessions,
            routes,
            seen: outside.places,
            mapping: outside.mapping,
            ipv6: underlay::ipv6_source(),
        })
    }

    fn clients(&self) -> Option<Vec<ClientSeen>> {
        let clients = self.plane.upgrade()?.clients().into_iter();
        let seen = clients.map(|client| ClientSeen {
            address: client.address,
            endpoint: client.endpoint,
            silent_ms: client.silent_ms,
            received_bytes: client.received_bytes,
            sent_bytes: client.sent_bytes,
        });
        Some(seen.collect())
    }

    /// Asks a node, and those on the way to it if that is wanted; `blind` asks for them also if the
    /// node itself does not answer.
    async fn way(&self, to: NodeId, path: bool, blind: bool) -> WaySeen {
        let mut seen = WaySeen {
            next_hop: self.plane.upgrade().and_then(|plane| plane.next_hop(to)),
            echo: self.ask(to).await,
            places: Vec::new(),
        };
        let before = match seen.echo {
            // A claim: no honest parcel crosses more.
            Some(echo) => echo.hops_there.min(HOP_LIMIT).saturating_sub(1),
            None if blind && seen.next_hop.is_some() => BLIND_HOPS,
            None => 0,
        };
        if path && 0 < before {
            seen.places = self.places(to, before).await;
        }
        if seen.echo.is_none() {
            // Behind the last that answered nothing is known, not even a place.
            let known = seen.places.iter().rposition(Option::is_some);
            seen.places.truncate(known.map_or(0, |last| last + 1));
            seen.places.push(None);
        }
        seen
    }

    async fn ask(&self, to: NodeId) -> Option<Echo> {
        let plane = self.plane.upgrade()?;
        let nonce = u64::from_be_bytes(*chance()?.first_chunk()?);
        let key = Key::Answer(to, nonce);
        let told = self.waiting.send(key, || plane.ask(to, nonce).is_ok())?;
        drop(plane);
        let (heard, sent) = tokio::time::timeout(ANSWER_WAIT, told).await.ok()?.ok()?;
        let Probe::Answer { hops, .. } = heard.said else {
            return None;
        };
        Some(Echo {
            rtt_us: micros(heard.at.saturating_duration_since(sent)),
            hops_there: hops,
            hops_back: heard.hops,
        })
    }

    /// Asks who stands at each place up to `last`, in rounds; the first answer may have to wait for
    /// a session to be made, so the shortest counts.
    async fn places(&self, to: NodeId, last: u8) -> Vec<Option<(NodeId, u64)>> {
        let mut places = vec![None; usize::from(last)];
        for _ in 0..ROUNDS {
            let asked: Vec<Option<Told>> = (1..=last).map(|hop| self.decoy(to, hop)).collect();
            let until = tokio::time::Instant::now() + PLACE_WAIT;
            for (place, told) in places.iter_mut().zip(asked) {
                let Some(told) = told else { continue };
                let Ok(Ok((heard, sent))) = tokio::time::timeout_at(until, told).await else {
                    continue;
                };
                let rtt_us = micros(heard.at.saturating_duration_since(sent));
                // Another node than before: the way has changed, and the newer word is right.
                *place = match *place {
                    Some((node, before)) if node == heard.from && before < rtt_us => *place,
                    _ => Some((heard.from, rtt_us)),
                };
            }
        }
        places
    }

    fn decoy(&self, to: NodeId, hop: u8) -> Option<Told> {
        let plane = self.plane.upgrade()?;
        let decoy = Decoy::new(chance()?);
        let send = || plane.send_decoy(to, &decoy, hop).is_ok();
        self.waiting.send(Key::Place(decoy), send)
    }
}

/// Adds what the data plane knows about each route's destination.
fn seen(view: View, links: &BTreeMap<[u8; 8], LinkStats>) -> Vec<RouteSeen> {
    let routes = view.routes.into_iter();
    routes
        .map(|(view, via, age_ms)| {
            let link = links.get(&upper_half(view.prefix.address()));
            RouteSeen {
                hops: link.and_then(|link| link.hops),
                view,
                via,
                age_ms,
            }
        })
        .collect()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Returns bytes that nobody can guess.
fn chance() -> Option<[u8; CHANCE_LEN]> {
    keys::entropy().ok()?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use mesh_base::identity::SecretKey;

    use super::*;

    fn node(seed: u8) -> NodeId {
        NodeId(SecretKey::from_seed([seed; 32]).public())
    }

    fn heard(from: u8, said: Probe) -> Heard {
        Heard {
            from: node(from),
            said,
            hops: 2,
            at: Instant::now(),
        }
    }

    #[test]
    fn only_the_node_that_was_asked_answers() {
        let waiting = Waiting::default();
        let mut told = waiting.send(Key::Answer(node(1), 7), || true).unwrap();
        for (from, nonce) in [(2, 7), (1, 8)] {
            waiting.hear(heard(from, Probe::Answer { nonce, hops: 3 }));
            assert!(told.try_recv().is_err(), "{from} {nonce}");
        }
        let right = heard(1, Probe::Answer { nonce: 7, hops: 3 });
        waiting.hear(right);
        assert_eq!(told.try_recv().unwrap().0, right);
        waiting.hear(right);
        assert!(waiting.lock().is_empty(), "an answer counts once");
    }

    #[test]
    fn place_is_known_by_the_bytes_of_its_decoy() {
        let waiting = Waiting::default();
        let (mine, other) = (Decoy::new([1; CHANCE_LEN]), Decoy::new([2; CHANCE_LEN]));
        let mut told = waiting.send(Key::Place(mine), || true).unwrap();
        waiting.hear(heard(3, Probe::Exceeded { decoy: other }));
        assert!(told.try_recv().is_err());
        waiting.hear(heard(3, Probe::Exceeded { decoy: mine }));
        assert_eq!(told.try_recv().unwrap().0.from, node(3));
    }

    #[test]
    fn probes_under_way_have_a_limit_and_make_room_when_given_up() {
        let waiting = Waiting::default();
        let send = |nonce| waiting.send(Key::Answer(node(1), nonce), || true);
        let mut open: Vec<Told> = (0..).map_while(send).collect();
        assert_eq!(open.len(), WAITING_MAX);
        open.pop();
        assert!(send(1).is_some());
        assert!(waiting.send(Key::Answer(node(1), 2), || false).is_none());
    }
}
