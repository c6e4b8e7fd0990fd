//! Which nodes we keep a link with: some near ones, some by chance, and those who chose us.
//!
//! ```text
//!              fill, turn              up, settled, near enough            a nearer one is there
//!   known ───────────────► Trial ────────────────────────────► Near/Random ────────► Draining
//!     ▲                      │ not up in TRIAL_MAX                  ▲  │ down for DOWN_MAX  │
//!     │ avoided for a while  │                                      │  │                    │
//!     └──────────────────────┴──────────────────────────────────────┼──┘  still routed over │
//!     ▲                                                             └────────────────────── ┤
//!     └──────────────────────────────────────────── nothing is routed over it any more ─────┘
//! ```
//! In a mesh of up to [`EVERYBODY_MAX`] others, everybody is a neighbour. In a larger one we choose
//! [`NEAR_COUNT`] of a sample and [`RANDOM_COUNT`] by chance, and take up to [`INBOUND_MAX`] who
//! chose us, unless another limit is set; whoever comes then is told of others. Each
//! [`TURN`](limits::TURN) one place is given to another: the new link is up and routed over before
//! the old one drains, and the old one is given up only when nothing needs it. The last
//! [`RANDOM_KEPT`](limits::RANDOM_KEPT) random links are never given up by choice: near ones may
//! all stand in one city. A neighbour that stays silent is replaced and avoided for a while.
//!
//! Leaves choose three uplinks, in a mesh of any size. Nobody chooses a leaf and none is named to
//! others: it counts as one that chose us, or not at all.
//!
//! Where candidates come from makes no difference: contacts, invites and mDNS are sets of nodes. So
//! a mesh outlives everybody through whom its nodes first joined.
//!
//! Decides with whom; how a link is made is the data plane's matter, which cost it has the
//! speaker's. Invariants: whoever has a link is known; there are at most
//! [`OURS_MAX`](limits::OURS_MAX) links of our own choice, and no more of others' than is allowed;
//! [`Neighbours::poll_timeout`] lies after the last `now`.
//!
//! | room | idea |
//! |---|---|
//! | [`sample`] | everybody we know, some of them by chance, and how far away those are |
//! | [`avoid`] | who is not tried for a while |
//! | `choose` | who gets a place |
//! | `leave` | who gives it up |
//! | [`limits`] | the numbers |

pub mod avoid;
mod choose;
mod leave;
pub mod limits;
pub mod sample;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use mesh_base::identity::NodeId;
use mesh_base::time::Moment;

use self::avoid::Avoided;
use self::limits::{
    DOWN_MAX, DRAIN_MAX, DRAIN_MIN, EVERYBODY_MAX, FULL_AVOIDED, INBOUND_MAX, KNOWN_MAX,
    LEAF_NEAR_COUNT, LEAF_RANDOM_COUNT, LOOK_AGAIN, NEAR_COUNT, RANDOM_COUNT, REDIRECT_COUNT,
    SETTLED, WISH_MAX,
};
use self::sample::Sample;
use mesh_base::chance::Chance;

/// What is to be done about a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Keep a link at its ordinary cost, whether it is new or was draining.
    Link(NodeId),
    /// Keep the link at a cost that sends everything another way.
    Drain(NodeId),
    /// Give it up.
    Unlink(NodeId),
}

/// Why there is a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The mesh is so small that everybody has one.
    Everybody,
    /// It is one of the nearest we know.
    Near,
    /// Chance chose it.
    Random,
    /// It may become one of the two above.
    Trial,
    /// The other side chose us.
    Inbound,
    /// It is going to be given up.
    Draining,
}

impl Place {
    /// Returns it in one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Everybody => "everybody",
            Self::Near => "near",
            Self::Random => "random",
            Self::Trial => "trial",
            Self::Inbound => "inbound",
            Self::Draining => "draining",
        }
    }
}

/// What we answer to a node that chose us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There is a link.
    Accepted,
    /// There is no room; some others that may have some.
    Redirected(Vec<NodeId>),
    /// We do not know that node.
    Stranger,
}

/// What a machine can do for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Station {
    /// It carries other nodes' packets.
    #[default]
    Core,
    /// It is behind a NAT or weak: few uplinks, and nobody links to it.
    Leaf,
}

/// What a link of ours is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    Near,
    Random,
}

/// What we want of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Everybody,
    Placed(Aim),
    Trial { aim: Aim, until: Moment },
    Draining { was: Aim, since: Moment },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Down { since: Moment },
    Up { since: Moment },
}

#[derive(Debug, Clone)]
struct Link {
    /// None if only the other side wants it.
    ours: Option<Slot>,
    /// Until when the other side's wish is believed.
    theirs: Option<Moment>,
    state: State,
    /// Destinations that are routed over it; none if nobody has said.
    routed: Option<u32>,
    /// Since when it has its place.
    placed: Moment,
    /// Until when it is not drained, for it is the only way to something.
    kept: Moment,
}

/// Chooses neighbours. Drain [`Neighbours::poll`] after each `handle_*`; call
/// [`Neighbours::handle_timeout`] when [`Neighbours::poll_timeout`] says.
#[derive(Debug, Clone)]
pub struct Neighbours {
    own: NodeId,
    station: Station,
    inbound_max: usize,
    chance: Chance,
    sample: Sample,
    /// Known nodes that may choose us and are chosen by nobody.
    leaves: BTreeSet<NodeId>,
    avoided: Avoided,
    /// Others that a redirect named, newest last.
    named: Vec<NodeId>,
    /// Redirects since the last link that came up.
    refused_count: u32,
    links: BTreeMap<NodeId, Link>,
    turn_count: u32,
    turn_next: Moment,
    /// Not before this is a place filled again that could not be.
    fill_next: Moment,
    timeout: Option<Moment>,
    actions: VecDeque<Action>,
}

impl Neighbours {
    /// Begins without anybody. Whoever has the same seed and is told the same chooses the same.
    pub fn new(own: NodeId, seed: u64) -> Self {
        Self {
            own,
            station: Station::Core,
            inbound_max: INBOUND_MAX,
            chance: Chance::new(seed),
            sample: Sample::default(),
            leaves: BTreeSet::new(),
            avoided: Avoided::default(),
            named: Vec::new(),
            refused_count: 0,
            links: BTreeMap::new(),
            turn_count: 0,
            turn_next: Moment(0),
            fill_next: Moment(0),
            timeout: None,
            actions: VecDeque::new(),
        }
    }

    /// Replaces everybody whom we may choose, and the leaves that may choose us.
    ///
    /// No node may be both. A link with anybody else ends at once; with who is a leaf now it stays
    /// if that one wants it.
    pub fn handle_known(
        &mut self,
        nodes: &BTreeSet<NodeId>,
        leaves: &BTreeSet<NodeId>,
        now: Moment,
    ) {
        self.sample.handle_known(nodes, self.own, &mut self.chance);
        self.leaves = leaves.iter().take(KNOWN_MAX).copied().collect();
        let sample = &self.sample;
        self.avoided.retain(|node| sample.contains(node));
        self.named.retain(|node| sample.contains(node));
        let others = self.links.keys().filter(|node| !sample.contains(node));
        let others: Vec<NodeId> = others.copied().collect();
        for node in others {
            match self.links.get_mut(&node) {
                // It has become a leaf, or has been one, and wants us.
                Some(link) if leaves.contains(&node) && link.theirs.is_some() => link.ours = None,
                _ => self.unlink(&node),
            }
        }
        self.fill_next = now;
        self.settle(now);
    }

    /// Says how many links of others' choice we take.
    pub fn handle_inbound_max(&mut self, count: usize) {
        self.inbound_max = count;
    }

    /// Says what this machine can do for others.
    pub fn handle_station(&mut self, station: Station, now: Moment) {
        self.station = station;
        self.settle(now);
    }

    /// Notes that a link works.
    pub fn handle_up(&mut self, node: &NodeId, now: Moment) {
        let alone = self.is_alone();
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        if let State::Down { .. } = link.state {
            link.state = State::Up { since: now };
            self.refused_count = 0;
            self.avoided.handle_answer(node);
            // Nobody answered and now somebody does: it was our own line, and nobody's fault.
            if alone {
                self.avoided.clear();
                self.forgive(now);
            }
            self.settle(now);
        }
    }

    /// Notes that a link does not work.
    pub fn handle_down(&mut self, node: &NodeId, now: Moment) {
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        if let State::Up { .. } = link.state {
            link.state = State::Down { since: now };
            self.settle(now);
        }
    }

    /// Notes how far away a node is; that of others than [`Neighbours::sampled`] and
    /// [`Neighbours::wanted`] ones is not kept.
    pub fn handle_rtt(&mut self, node: NodeId, rtt_us: u64, _now: Moment) {
        if self.sample.is_sampled(&node) || self.links.contains_key(&node) {
            self.sample.handle_rtt(node, rtt_us);
        }
    }

    /// Notes over how many destinations' best ways a link is now.
    pub fn handle_routed(&mut self, node: &NodeId, count: u32, now: Moment) {
        if let Some(link) = self.links.get_mut(node)
            && link.routed.replace(count) != Some(count)
        {
            self.settle(now);
        }
    }

    /// Answers a node that wants a link with us, or still wants it.
    pub fn handle_inbound(&mut self, node: NodeId, now: Moment) -> Verdict {
        if !self.sample.contains(&node) && !self.leaves.contains(&node) {
            return Verdict::Stranger;
        }
        let until = now + WISH_MAX;
        let leaf = self.station == Station::Leaf;
        if let Some(link) = self.links.get_mut(&node) {
            // A machine that has become a leaf sends away who chose it before.
            if !leaf || link.ours.is_some() {
                link.theirs = Some(until);
                self.schedule(now);
                return Verdict::Accepted;
            }
            self.unlink(&node);
        }
        if !self.has_room() {
            return Verdict::Redirected(self.others(node, now));
        }
        let link = Link {
            theirs: Some(until),
            ..Link::new(None, now)
        };
        self.links.insert(node, link);
        self.actions.push_back(Action::Link(node));
        self.schedule(now);
        Verdict::Accepted
    }

    /// Notes that a node no longer wants a link with us.
    pub fn handle_inbound_end(&mut self, node: &NodeId, now: Moment) {
        let Some(link) = self.links.get_mut(node) else {
            return;
        };
        link.theirs = None;
        if link.ours.is_none() {
            self.unlink(node);
        }
        self.settle(now);
    }

    /// Notes that a node has no room for us, and whom it named instead.
    pub fn handle_redirect(&mut self, node: NodeId, others: &[NodeId], now: Moment) {
        let Some(link) = self.links.get(&node) else {
            return;
        };
        if link.ours.is_none() || self.is_small() {
            return;
        }
        self.unlink(&node);
        self.avoided.handle_full(node, FULL_AVOIDED, now);
        self.refused_count = self.refused_count.saturating_add(1);
        let named = others.iter().take(REDIRECT_COUNT).copied();
        self.named = named.filter(|other| self.sample.contains(other)).collect();
        self.fill_next = now;
        self.settle(now);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Moment) {
        self.settle(now);
    }

    /// Takes the next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Returns when [`Neighbours::handle_timeout`] is due; none if nothing waits.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.timeout
    }

    /// Returns everybody with whom there is to be a link.
    pub fn wanted(&self) -> impl Iterator<Item = &NodeId> {
        self.links.keys()
    }

    /// Returns those whose distance we would like to know.
    pub fn sampled(&self) -> impl Iterator<Item = &NodeId> {
        self.sample.sampled().iter()
    }

    /// Returns why there is a link with a node; none if there is to be none.
    pub fn role(&self, node: &NodeId) -> Option<Place> {
        self.links.get(node).map(Link::place)
    }

    /// Returns whether the link is of our own choice, and so worth telling the other side.
    pub fn is_ours(&self, node: &NodeId) -> bool {
        self.links
            .get(node)
            .is_some_and(|link| !matches!(link.ours, None | Some(Slot::Draining { .. })))
    }

    /// Returns whether the mesh is so small that everybody but leaves is everybody's neighbour.
    pub fn is_small(&self) -> bool {
        self.station == Station::Core && self.sample.known().len() <= EVERYBODY_MAX
    }

    /// Returns all that the choice about a node rests on.
    pub fn explain(&self, node: &NodeId, now: Moment) -> Explanation {
        let link = self.links.get(node);
        Explanation {
            known: self.sample.contains(node) || self.leaves.contains(node),
            sampled: self.sample.is_sampled(node),
            place: link.map(Link::place),
            chosen_by_them: link.is_some_and(|link| link.theirs.is_some()),
            up: link.is_some_and(Link::is_up),
            rtt_us: self.sample.rtt_us(node),
            routed_count: link.and_then(|link| link.routed),
            kept: link.is_some_and(|link| now < link.kept),
            avoided_until: self.avoided.until(node, now),
        }
    }

    /// Does what is due, in an order that makes a place free before it is filled.
    fn settle(&mut self, now: Moment) {
        if self.is_small() {
            self.link_everybody(now);
            // Leaves choose us in a small mesh too.
            self.end_wishes(now);
            self.leave_silent(now);
            self.schedule(now);
            return;
        }
        self.place_everybody(now);
        self.judge_trials(now);
        self.end_drains(now);
        self.end_wishes(now);
        self.leave_silent(now);
        self.fill(now);
        self.turn(now);
        self.drain_excess(now);
        self.schedule(now);
    }

    fn schedule(&mut self, now: Moment) {
        let small = self.is_small();
        let again = now + LOOK_AGAIN;
        // What is overdue could not be done, and is looked at again.
        let later = |due| if due <= now { again } else { due };
        let links = self.links.values().flat_map(Link::deadlines).map(later);
        let turn = (!small).then_some(self.turn_next);
        let fill = (!small && self.has_gap()).then(|| self.fill_next.max(again));
        self.timeout = links.chain(turn).chain(fill).min();
    }

    /// Gives everybody who is down as long to come up as if it had gone down now.
    fn forgive(&mut self, now: Moment) {
        for link in self.links.values_mut() {
            if let State::Down { since } = &mut link.state {
                *since = now;
            }
        }
    }

    fn unlink(&mut self, node: &NodeId) {
        if self.links.remove(node).is_some() {
            self.sample.forget(node);
            self.actions.push_back(Action::Unlink(*node));
        }
    }

    /// Some who may have room: by chance, not ourselves, none that had no room or did not answer.
    fn others(&mut self, asking: NodeId, now: Moment) -> Vec<NodeId> {
        let mut others = Vec::new();
        for _ in 0..REDIRECT_COUNT {
            let avoided = &self.avoided;
            let other = self.sample.draw(&mut self.chance, |node| {
                *node != asking && !others.contains(node) && avoided.until(node, now).is_none()
            });
            others.extend(other);
        }
        others
    }

    fn has_room(&self) -> bool {
        let inbound = self.links.values().filter(|link| link.ours.is_none());
        self.station == Station::Core && inbound.count() < self.inbound_max
    }

    /// Returns whether nobody answers.
    fn is_alone(&self) -> bool {
        !self.links.values().any(Link::is_up)
    }

    /// How many links of an aim we want.
    fn goal(&self, aim: Aim) -> usize {
        match (self.station, aim) {
            (Station::Core, Aim::Near) => NEAR_COUNT,
            (Station::Core, Aim::Random) => RANDOM_COUNT,
            (Station::Leaf, Aim::Near) => LEAF_NEAR_COUNT,
            (Station::Leaf, Aim::Random) => LEAF_RANDOM_COUNT,
        }
    }

    fn placed(&self, aim: Aim) -> impl Iterator<Item = (&NodeId, &Link)> {
        self.links
            .iter()
            .filter(move |(_, link)| link.ours == Some(Slot::Placed(aim)))
    }

    fn ours_count(&self) -> usize {
        let ours = self.links.values().filter(|link| link.ours.is_some());
        ours.count()
    }

    fn has_gap(&self) -> bool {
        [Aim::Near, Aim::Random]
            .into_iter()
            .any(|aim| self.placed(aim).count() < self.goal(aim))
    }
}

impl Link {
    fn new(ours: Option<Slot>, now: Moment) -> Self {
        Self {
            ours,
            theirs: None,
            state: State::Down { since: now },
            routed: None,
            placed: now,
            kept: Moment(0),
        }
    }

    fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    fn place(&self) -> Place {
        match self.ours {
            None => Place::Inbound,
            Some(Slot::Everybody) => Place::Everybody,
            Some(Slot::Placed(Aim::Near)) => Place::Near,
            Some(Slot::Placed(Aim::Random)) => Place::Random,
            Some(Slot::Trial { .. }) => Place::Trial,
            Some(Slot::Draining { .. }) => Place::Draining,
        }
    }

    /// Returns when something about this link may be due.
    fn deadlines(&self) -> impl Iterator<Item = Moment> {
        let ours = match (self.ours, self.state) {
            (Some(Slot::Trial { until, .. }), State::Up { since }) => {
                Some(until.min(since + SETTLED))
            }
            (Some(Slot::Trial { until, .. }), _) => Some(until),
            (Some(Slot::Draining { since, .. }), _) if self.routed == Some(0) => {
                Some(since + DRAIN_MIN)
            }
            (Some(Slot::Draining { since, .. }), _) => Some(since + DRAIN_MAX),
            (None | Some(Slot::Placed(_)), State::Down { since }) => Some(since + DOWN_MAX),
            _ => None,
        };
        ours.into_iter().chain(self.theirs)
    }
}

/// All that the choice about one node rests on; its words are one line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Whether it may be chosen at all.
    pub known: bool,
    /// Whether it is among those of which the nearest are chosen.
    pub sampled: bool,
    /// Why there is a link; none if there is none.
    pub place: Option<Place>,
    /// Whether the other side wants the link.
    pub chosen_by_them: bool,
    /// Whether the link works.
    pub up: bool,
    /// How far away it is, if that was measured.
    pub rtt_us: Option<u64>,
    /// Destinations that are routed over it, if somebody said so.
    pub routed_count: Option<u32>,
    /// Whether it stays for being the only way to something.
    pub kept: bool,
    /// Until when it is not tried, for it did not answer or had no room.
    pub avoided_until: Option<Moment>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.place {
            Some(Place::Everybody) => "a neighbour as everybody is in a small mesh",
            Some(Place::Near) => "a neighbour for being near",
            Some(Place::Random) => "a neighbour by chance",
            Some(Place::Trial) => "a neighbour on trial",
            Some(Place::Inbound) => "a neighbour by its own choice",
            Some(Place::Draining) => "a neighbour that is being given up",
            None if !self.known => "unknown",
            None if self.avoided_until.is_some() => "left alone for a while",
            None if self.sampled => "watched, and not chosen",
            None => "not chosen",
        };
        f.write_str(why)?;
        if self.place.is_some() && !self.up {
            f.write_str(", down")?;
        }
        if let Some(rtt) = self.rtt_us {
            write!(f, ", {}.{} ms away", rtt / 1000, rtt % 1000 / 100)?;
        }
        if let Some(count) = self.routed_count {
            write!(f, ", the way to {count}")?;
        }
        if self.kept {
            f.write_str(", kept as the only way to something")?;
        }
        Ok(())
    }
}
