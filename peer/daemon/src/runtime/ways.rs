//! Ways that are judged from end to end: between what programs send, questions, and the speaker.
//!
//! ```text
//!   data plane ── uses, once a second ──┐                  ┌──► questions over one neighbour
//!              ── answers ──► Proofs ───┼──► Paths (pure) ─┼──► penalties to the speaker
//!                               time ───┘                  └──► log, status
//! ```
//! Lives on the routing thread and costs it nothing while nothing is sent around. Answers are kept
//! until the thread wakes for something else: none wakes it, so nobody can flood it with them.
//! Decides nothing about ways: that is `mesh_routing::paths`. Invariant: a penalty of `Paths` is
//! the speaker's as long as it has that neighbour.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_base::identity::NodeId;
use mesh_base::time::Moment;
use mesh_dataplane::plane::Dataplane;
use mesh_dataplane::probe::Heard;
use mesh_routing::babel::link::LinkId;
use mesh_routing::babel::speaker::Speaker;
use mesh_routing::babel::words::{Metric, Prefix};
use mesh_routing::paths::{Event, Lost, Paths, QUESTIONS_MAX};
use mesh_routing::probe::Probe;

/// How often the data plane is asked what is in use.
const USES_INTERVAL: Duration = Duration::from_secs(1);
/// Answers of one node that are kept until the thread wakes: it is asked twice a second over each
/// of a few ways.
const PROOFS_MAX: usize = 16;

/// Answers to questions about ways; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Proofs(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Number of the newest question.
    newest: AtomicU64,
    heard: Mutex<BTreeMap<NodeId, BTreeSet<u64>>>,
}

impl Proofs {
    /// Takes what was heard; called from the thread that carries packets.
    pub fn hear(&self, heard: &Heard) {
        let Probe::Answer { nonce, .. } = heard.said else {
            return;
        };
        // Others than ours are random, or made up.
        let age = self.0.newest.load(Ordering::Relaxed).checked_sub(nonce);
        if age.is_none_or(|age| QUESTIONS_MAX as u64 <= age) {
            return;
        }
        let mut all = self.0.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let of = all.entry(heard.from).or_default();
        if of.len() < PROOFS_MAX {
            of.insert(nonce);
        }
    }

    fn take(&self) -> BTreeMap<NodeId, BTreeSet<u64>> {
        let mut heard = self.0.heard.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *heard)
    }
}

/// What stands for a question without a session: a handshake, which goes where the forwarding table
/// leads and nowhere else. Once there is a session, one has gone that way and come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knock {
    /// Handshakes went over this neighbour only; with the number of the newest question.
    Over(NodeId, u64),
    /// Another was asked over too: nobody can tell which way a handshake took.
    Unclear,
}

/// The path records of this node.
#[derive(Debug)]
pub struct Ways {
    paths: Paths,
    proofs: Proofs,
    /// By destination, what could not be asked because there was no session.
    knocks: BTreeMap<NodeId, Knock>,
    uses_next: Moment,
}

impl Ways {
    /// Makes records that hear answers from `proofs`.
    pub fn new(proofs: Proofs) -> Self {
        Self {
            paths: Paths::default(),
            proofs,
            knocks: BTreeMap::new(),
            uses_next: Moment::default(),
        }
    }

    /// Takes what happened since the last call, and lets time pass.
    pub fn turn(
        &mut self,
        plane: &Dataplane,
        links: &BTreeMap<NodeId, LinkId>,
        speaker: &mut Speaker,
        now: Moment,
    ) {
        for (node, numbers) in self.proofs.take() {
            for number in numbers {
                self.paths.handle_heard(node, number, now);
            }
        }
        self.knocks.retain(|node, knock| {
            let made = plane.has_session(*node);
            if let (true, Knock::Over(_, number)) = (made, *knock) {
                self.paths.handle_heard(*node, number, now);
            }
            !made && plane.address_of(*node).is_some()
        });
        if self.uses_next <= now {
            self.uses_next = now + USES_INTERVAL;
            for (destination, via, len) in plane.take_uses() {
                self.paths.handle_used(destination, via, len, now);
            }
        }
        if self.paths.poll_timeout().is_some_and(|due| due <= now) {
            self.paths.handle_timeout(now);
        }
        while let Some(event) = self.paths.poll() {
            self.act(event, plane, links, speaker, now);
        }
    }

    fn act(
        &mut self,
        event: Event,
        plane: &Dataplane,
        links: &BTreeMap<NodeId, LinkId>,
        speaker: &mut Speaker,
        now: Moment,
    ) {
        match event {
            Event::Ask {
                number,
                destination,
                via,
                len,
            } => {
                self.proofs.0.newest.store(number, Ordering::Relaxed);
                let asked = plane.ask_over(destination, via, number, len);
                // What could not be sent for another reason has no answer either.
                if asked.is_err() && !plane.has_session(destination) {
                    let leads = plane.next_hop(destination) == Some(via);
                    self.knock(destination, (via, number), leads);
                }
            }
            Event::Penalty {
                destination,
                via,
                metric,
            } => {
                let peer = destination.key().short();
                let over = via.key().short();
                tracing::info!(peer, over, metric = metric.0, "a way has a new penalty");
                if let Some(link) = links.get(&via) {
                    penalise(plane, *link, (destination, metric), speaker, now);
                }
            }
            Event::Alarm { destination, via } => {
                let peer = destination.key().short();
                let over = via.key().short();
                tracing::warn!(peer, over, "packets are lost over this neighbour");
            }
        }
    }

    /// Notes a question that only a handshake can answer; `leads` tells whether that goes this way.
    fn knock(&mut self, destination: NodeId, (via, number): (NodeId, u64), leads: bool) {
        match self.knocks.get(&destination) {
            Some(Knock::Over(over, _)) if *over == via && leads => {}
            Some(_) => {
                self.knocks.insert(destination, Knock::Unclear);
                return;
            }
            None if leads => {}
            None => return,
        }
        self.knocks.insert(destination, Knock::Over(via, number));
    }

    /// Tells the speaker again what it forgot with a neighbour.
    pub fn handle_up(
        &self,
        plane: &Dataplane,
        (via, link): (NodeId, LinkId),
        speaker: &mut Speaker,
        now: Moment,
    ) {
        for penalty in self.paths.penalties_over(&via) {
            penalise(plane, link, penalty, speaker, now);
        }
    }

    /// Forgets who is no neighbour any more.
    pub fn handle_unlinked(&mut self, via: &NodeId) {
        self.paths.handle_unlinked(via);
    }

    /// Returns when [`Ways::turn`] is due; none if nothing is in use.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.paths.poll_timeout()
    }

    /// Returns the ways that are proven to lose packets.
    pub fn lost(&self) -> Vec<Lost> {
        self.paths.lost()
    }

    /// Adds what is watched to the counts of routing.
    pub fn count(&self, counts: &mut BTreeMap<&'static str, u64>) {
        let tally = self.paths.tally();
        let standings = [
            ("ways-watched", tally.watched),
            ("ways-suspected", tally.suspected),
            ("ways-lost", tally.proven),
        ];
        counts.extend(standings.map(|(word, count)| (word, count as u64)));
        counts.insert("questions-asked", tally.asked);
        counts.insert("questions-answered", tally.answered);
    }
}

fn penalise(
    plane: &Dataplane,
    link: LinkId,
    (destination, metric): (NodeId, Metric),
    speaker: &mut Speaker,
    now: Moment,
) {
    let address = plane.address_of(destination);
    let prefix = address.and_then(|address| Prefix::new(address, 64));
    let (Some(prefix), Some(neighbour)) = (prefix, speaker.neighbour_over(link)) else {
        return;
    };
    if !speaker.set_penalty(prefix, neighbour, metric, now) {
        tracing::warn!("there are too many penalties");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::os::fd::OwnedFd;
    use std::time::Instant;

    use mesh_base::identity::SecretKey;
    use mesh_dataplane::plane::{Config, HostAccess};
    use mesh_routing::babel::speaker;
    use mesh_routing::babel::words::{RouterId, Seqno};
    use mesh_routing::packet::build;
    use mesh_routing::paths::{ASK_AGAIN, SILENCE_MAX, Standing};
    use mesh_routing::plan::{PeerPlan, Plan, Role};
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    fn secret(number: u8) -> SecretKey {
        SecretKey::from_seed([number; 32])
    }

    fn node(number: u8) -> NodeId {
        NodeId(secret(number).public())
    }

    fn heard(from: u8, nonce: u64) -> Heard {
        Heard {
            from: node(from),
            said: Probe::Answer { nonce, hops: 2 },
            hops: 2,
            at: Instant::now(),
        }
    }

    #[test]
    fn only_answers_to_recent_questions_are_kept_and_few_of_each_node() {
        let proofs = Proofs::default();
        proofs.0.newest.store(10_000, Ordering::Relaxed);
        for nonce in [10_001, u64::MAX, 10_000 - QUESTIONS_MAX as u64] {
            proofs.hear(&heard(1, nonce));
        }
        assert!(proofs.take().is_empty());
        for nonce in 9_000..10_001 {
            proofs.hear(&heard(1, nonce));
        }
        proofs.hear(&heard(2, 10_000));
        let counts: Vec<usize> = proofs.take().values().map(BTreeSet::len).collect();
        assert_eq!(counts.iter().sum::<usize>(), PROOFS_MAX + 1);
        assert!(proofs.take().is_empty());
    }

    fn address(number: u8) -> Ipv6Addr {
        let number = u16::from(number);
        Ipv6Addr::new(0xfd6d, 0, 0, number, 0, 0, 0, number)
    }

    /// Returns a data plane that sends what is for node 4 over node 2, and its host's end. Nobody
    /// else is there.
    fn alone() -> (Dataplane, OwnedFd) {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (host, host_tun) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        let plane = Dataplane::start(Config {
            secret_x25519: secret(1).to_x25519(),
            udp_bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            host_tun,
            host_access: HostAccess::Open,
            listener: None,
            streams: None,
        })
        .unwrap();
        let peer = |number, role| {
            let plan = PeerPlan {
                role,
                drains: false,
                leaf: false,
                address: address(number),
                x25519: secret(number).public().to_x25519(),
                endpoints: Vec::new(),
            };
            (node(number), plan)
        };
        plane.apply(&Plan {
            own: address(1),
            leaf: false,
            peers: [peer(2, Role::Neighbour), peer(4, Role::Far)].into(),
            services: BTreeMap::new(),
            instances: BTreeMap::new(),
            forwards: BTreeSet::new(),
        });
        let far = [0xfd, 0x6d, 0, 0, 0, 0, 0, 4];
        assert_eq!(plane.set_routes(&[(far, Some(node(2)))]), 0);
        (plane, host)
    }

    #[test]
    fn handshake_answers_for_the_way_that_it_took_and_for_none_if_that_is_unclear() {
        let (plane, _host) = alone();
        let mut ways = Ways::new(Proofs::default());
        let now = Moment(5_000_000);
        let config = speaker::Config {
            router_id: RouterId::from_bytes([0xfd, 0x6d, 0, 0, 0, 0, 0, 1]).unwrap(),
            seqno: Seqno(1),
            seed: 1,
        };
        let mut speaker = Speaker::new(config, now);
        let mut ask = |ways: &mut Ways, via, number| {
            let event = Event::Ask {
                number,
                destination: node(4),
                via: node(via),
                len: 100,
            };
            ways.act(event, &plane, &BTreeMap::new(), &mut speaker, now);
            ways.knocks.get(&node(4)).copied()
        };
        assert_eq!(ask(&mut ways, 3, 1), None, "no handshake goes there");
        for number in 2..4 {
            let knock = ask(&mut ways, 2, number);
            assert_eq!(knock, Some(Knock::Over(node(2), number)));
        }
        assert_eq!(ask(&mut ways, 3, 4), Some(Knock::Unclear));
        assert_eq!(ask(&mut ways, 2, 5), Some(Knock::Unclear), "an older one");
    }

    #[test]
    fn handshakes_without_an_answer_make_a_way_suspect() {
        let (plane, host) = alone();
        let mut ways = Ways::new(Proofs::default());
        let mut now = Moment(5_000_000);
        let config = speaker::Config {
            router_id: RouterId::from_bytes([0xfd, 0x6d, 0, 0, 0, 0, 0, 1]).unwrap(),
            seqno: Seqno(1),
            seed: 1,
        };
        let mut speaker = Speaker::new(config, now);
        let mut turn = |ways: &mut Ways, now| {
            ways.turn(&plane, &BTreeMap::new(), &mut speaker, now);
        };
        let packet = build::udp((address(1), 7), (address(4), 7), b"hello");
        nix::unistd::write(&host, &packet).unwrap();
        let start = Instant::now();
        while ways.knocks.is_empty() {
            assert!(start.elapsed() < Duration::from_secs(20), "the use is seen");
            now = now + USES_INTERVAL;
            turn(&mut ways, now);
            std::thread::yield_now();
        }
        assert_eq!(ways.knocks.keys().collect::<Vec<_>>(), [&node(4)]);
        let standing = |ways: &Ways| ways.paths.standing(&node(4), &node(2));
        assert_eq!(standing(&ways), Some(Standing::Trusted));
        let until = now + SILENCE_MAX + ASK_AGAIN;
        while now < until {
            now = now + ASK_AGAIN;
            turn(&mut ways, now);
        }
        assert_eq!(standing(&ways), Some(Standing::Suspected));
        let mut counts = BTreeMap::new();
        ways.count(&mut counts);
        assert_eq!((counts["ways-suspected"], counts["ways-lost"]), (1, 0));
        assert_eq!(ways.lost(), [], "there is no other way that would prove it");
    }
}
