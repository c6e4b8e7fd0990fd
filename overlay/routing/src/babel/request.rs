//! Seqno requests under way: ours, and those that we passed on (RFC 8966, §3.2.6 and §3.8).
//!
//! ```text
//!   last feasible route lost ──┐            sent ──100 ms──► sent ──200 ms──► ... ──► given up
//!   a better one unfeasible ───┼─► Request ──┤
//!   a neighbour asks ──────────┘            └─ the number comes ─► whoever waits is told at once
//! ```
//! One request for a prefix and origin is enough: another that asks for no more waits for the same
//! answer, until the last try was made. Invariant: a request that is here has something to wait for
//! and a time when it is over.

use std::collections::{BTreeMap, BTreeSet};

use mesh_base::time::Moment;

use crate::babel::limits::{
    FORWARD_TRIES, HOP_COUNT, REQUEST_PAUSE_MAX, REQUEST_RESEND, REQUEST_TRIES, REQUESTS_MAX,
    WAITING_MAX,
};
use crate::babel::neighbour::NeighbourId;
use crate::babel::words::{Prefix, RouterId, Seqno};

/// Why we ask ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// We do not; a neighbour does.
    None,
    /// There is no route.
    Lost,
    /// The route of this neighbour would be better.
    Better(NeighbourId),
}

/// A request under way.
#[derive(Debug, Clone)]
pub struct Request {
    /// The number wanted, at least.
    pub seqno: Seqno,
    /// Hops that it may travel.
    pub hop_count: u8,
    /// Why we ask.
    pub need: Need,
    /// Who asked us.
    pub waiting: BTreeSet<NeighbourId>,
    /// To whom it was passed on; begins anew when it went to everybody.
    pub asked: BTreeSet<NeighbourId>,
    /// How often it was sent.
    pub tries: u8,
    /// When it is sent again, or given up.
    pub due: Moment,
    /// To whom it went last.
    pub sent_to: BTreeSet<NeighbourId>,
}

impl Request {
    /// Returns whether it is sent no more.
    pub fn is_over(&self) -> bool {
        let most = match self.need {
            Need::Lost => REQUEST_TRIES,
            Need::None | Need::Better(_) => FORWARD_TRIES,
        };
        most <= self.tries
    }

    /// Returns whether somebody else than a neighbour waits for the answer.
    pub fn is_for_others(&self, neighbour: NeighbourId) -> bool {
        self.waiting.iter().any(|asker| *asker != neighbour)
    }

    fn begin_anew(&mut self) {
        self.tries = 0;
        self.asked.clear();
    }

    /// Notes that it is sent.
    pub fn handle_sent(&mut self, now: Moment) {
        let pause = REQUEST_RESEND * 2_u32.pow(u32::from(self.tries.min(6)));
        self.due = now + pause.min(REQUEST_PAUSE_MAX);
        self.tries = self.tries.saturating_add(1);
    }
}

/// What became of a new request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It is to be sent.
    Send,
    /// One that asks for as much is under way.
    Redundant,
    /// Too many are under way.
    Full,
}

/// What [`Requests::settle`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answered {
    /// How many of ours are answered.
    pub ours: u64,
    /// Who is to be told the answer.
    pub waiting: BTreeSet<NeighbourId>,
    /// What is ours no more but neighbours still wait for, to be passed on now: it was sent to ask
    /// for any route, and may be due long after.
    pub onward: Vec<(Prefix, RouterId)>,
}

/// All requests under way.
#[derive(Debug, Clone, Default)]
pub struct Requests {
    all: BTreeMap<(Prefix, RouterId), Request>,
    /// No request is due before this.
    quiet_until: Option<Moment>,
}

impl Requests {
    /// Begins a request of ours or joins the one under way.
    pub fn begin(&mut self, about: (Prefix, RouterId), seqno: Seqno, need: Need) -> Begun {
        self.join(about, seqno, HOP_COUNT, need, None)
    }

    /// Begins a neighbour's request or joins the one under way.
    pub fn forward(
        &mut self,
        about: (Prefix, RouterId),
        seqno: Seqno,
        hop_count: u8,
        asker: NeighbourId,
    ) -> Begun {
        self.join(about, seqno, hop_count, Need::None, Some(asker))
    }

    fn join(
        &mut self,
        about: (Prefix, RouterId),
        seqno: Seqno,
        hop_count: u8,
        need: Need,
        asker: Option<NeighbourId>,
    ) -> Begun {
        if !self.all.contains_key(&about) && self.all.len() == REQUESTS_MAX {
            return Begun::Full;
        }
        let request = self.all.entry(about).or_insert(Request {
            seqno,
            hop_count,
            need,
            waiting: BTreeSet::new(),
            asked: BTreeSet::new(),
            tries: 0,
            due: Moment(0),
            sent_to: BTreeSet::new(),
        });
        if request.waiting.len() < WAITING_MAX {
            request.waiting.extend(asker);
        }
        // What could wait was sent to few, and may be due long after.
        let raised = request.need != Need::Lost && need == Need::Lost;
        if need == Need::Lost || request.need == Need::None {
            request.need = need;
        }
        request.hop_count = request.hop_count.max(hop_count);
        // Who asks again after the last try has no answer: it is begun anew, not waited out.
        let spent = request.need == Need::None && request.is_over();
        if request.tries != 0 && !request.seqno.is_before(seqno) && !raised && !spent {
            return Begun::Redundant;
        }
        if request.seqno.is_before(seqno) {
            request.seqno = seqno;
        }
        request.begin_anew();
        Begun::Send
    }

    /// Returns a request.
    pub fn get(&self, about: (Prefix, RouterId)) -> Option<&Request> {
        self.all.get(&about)
    }

    /// Notes that a request is sent.
    pub fn handle_sent(&mut self, about: (Prefix, RouterId), to: &[NeighbourId], now: Moment) {
        if let Some(request) = self.all.get_mut(&about) {
            request.handle_sent(now);
            request.sent_to = to.iter().copied().collect();
            let due = request.due;
            self.quiet_until = Some(self.quiet_until.map_or(due, |quiet| quiet.min(due)));
        }
    }

    /// Notes to whom a request is passed on.
    pub fn handle_asked(&mut self, about: (Prefix, RouterId), neighbour: NeighbourId) {
        if let Some(request) = self.all.get_mut(&about)
            && !request.asked.insert(neighbour)
        {
            request.asked = BTreeSet::from([neighbour]);
        }
    }

    /// Notes that a copy went to one more neighbour, for who joined: pauses and tries go on.
    pub fn handle_copied(&mut self, about: (Prefix, RouterId), to: NeighbourId) {
        self.handle_asked(about, to);
        if let Some(request) = self.all.get_mut(&about) {
            request.sent_to.insert(to);
        }
    }

    /// Notes that somebody new may answer: pauses begin anew.
    pub fn hasten(&mut self, about: (Prefix, RouterId), to: NeighbourId, now: Moment) {
        if let Some(request) = self.all.get_mut(&about) {
            request.tries = 0;
            let sent_to: Vec<_> = request.sent_to.iter().copied().chain([to]).collect();
            self.handle_sent(about, &sent_to, now);
        }
    }

    /// Returns what is due.
    pub fn due(&self, now: Moment) -> Vec<(Prefix, RouterId)> {
        if self.quiet_until.is_none_or(|quiet| now < quiet) {
            return Vec::new();
        }
        let due = self.all.iter().filter(|(_, request)| request.due <= now);
        due.map(|(about, _)| *about).collect()
    }

    /// Looks again when something will be due; to be called after what is due was handled.
    pub fn handle_done(&mut self, now: Moment) {
        // What was answered meanwhile may leave a time here that means nothing any more.
        if self.quiet_until.is_some_and(|quiet| quiet <= now) {
            self.quiet_until = self.all.values().map(|request| request.due).min();
        }
    }

    /// Returns when something is due at the earliest.
    pub fn quiet_until(&self) -> Option<Moment> {
        self.quiet_until
    }

    /// Takes a request out.
    pub fn remove(&mut self, about: (Prefix, RouterId)) -> Option<Request> {
        self.all.remove(&about)
    }

    /// Looks which requests about a prefix are answered by what is selected now (§3.8.1.2); `has`
    /// tells whether there is a route of an origin with at least a number.
    pub fn settle(
        &mut self,
        prefix: Prefix,
        selected: Option<(RouterId, Seqno)>,
        has: impl Fn(RouterId, Seqno) -> bool,
    ) -> Answered {
        let mut answered = Answered::default();
        let about = (prefix, RouterId::LEAST)..=(prefix, RouterId::MOST);
        let mut over = Vec::new();
        for (about, request) in self.all.range_mut(about) {
            let done = match request.need {
                Need::None => false,
                Need::Lost => selected.is_some(),
                Need::Better(_) => has(about.1, request.seqno),
            };
            if done {
                request.need = Need::None;
                answered.ours += 1;
            }
            let told = selected
                .is_some_and(|(id, seqno)| id != about.1 || !seqno.is_before(request.seqno));
            if told {
                answered.waiting.append(&mut request.waiting);
            }
            if done && !request.waiting.is_empty() {
                request.begin_anew();
                answered.onward.push(*about);
            }
            if request.need == Need::None && request.waiting.is_empty() {
                over.push(*about);
            }
        }
        for about in over {
            self.all.remove(&about);
        }
        answered
    }

    /// Forgets a neighbour that waits no more and answers no more. Returns what nobody else was
    /// asked, to be sent anew.
    pub fn forget(&mut self, neighbour: NeighbourId) -> Vec<(Prefix, RouterId)> {
        let mut orphans = Vec::new();
        self.all.retain(|about, request| {
            request.waiting.remove(&neighbour);
            request.asked.remove(&neighbour);
            if request.need == Need::Better(neighbour) {
                request.need = Need::None;
            }
            let kept = request.need != Need::None || !request.waiting.is_empty();
            if request.sent_to.remove(&neighbour) && request.sent_to.is_empty() && kept {
                request.tries = 0;
                orphans.push(*about);
            }
            kept
        });
        orphans
    }

    /// Returns how many are under way.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns whether none is under way.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(last: u16) -> (Prefix, RouterId) {
        let id = RouterId::from_bytes([1; 8]).unwrap();
        let address = std::net::Ipv6Addr::new(0xfd6d, last, 0, 0, 0, 0, 0, 0);
        (Prefix::new(address, 64).unwrap(), id)
    }

    #[test]
    fn request_for_no_more_joins_the_one_under_way() {
        let mut requests = Requests::default();
        let lost = requests.begin(about(1), Seqno(5), Need::Lost);
        assert_eq!(lost, Begun::Send);
        requests.handle_sent(about(1), &[], Moment(0));
        let asker = NeighbourId(3);
        let same = requests.forward(about(1), Seqno(5), 60, asker);
        assert_eq!(same, Begun::Redundant);
        let more = requests.forward(about(1), Seqno(6), 60, asker);
        assert_eq!(more, Begun::Send);
        let request = requests.get(about(1)).unwrap();
        assert_eq!((request.seqno, request.need), (Seqno(6), Need::Lost));
        assert!(request.waiting.contains(&asker));
    }

    #[test]
    fn request_that_could_wait_is_sent_at_once_when_the_route_is_lost() {
        let mut requests = Requests::default();
        let better = Need::Better(NeighbourId(1));
        assert_eq!(requests.begin(about(1), Seqno(5), better), Begun::Send);
        requests.handle_sent(about(1), &[NeighbourId(1)], Moment(0));
        let again = requests.begin(about(1), Seqno(5), better);
        assert_eq!(again, Begun::Redundant);
        let lost = requests.begin(about(1), Seqno(5), Need::Lost);
        assert_eq!(lost, Begun::Send);
    }

    #[test]
    fn request_that_only_a_lost_neighbour_was_asked_is_an_orphan() {
        let mut requests = Requests::default();
        let (one, other) = (NeighbourId(1), NeighbourId(2));
        for number in 1..=2 {
            requests.begin(about(number), Seqno(5), Need::Lost);
        }
        requests.handle_sent(about(1), &[one], Moment(0));
        requests.handle_sent(about(2), &[one, other], Moment(0));
        assert_eq!(requests.forget(one), [about(1)]);
        assert_eq!(requests.forget(other), [about(2)]);
    }

    #[test]
    fn pauses_double_and_end() {
        let mut requests = Requests::default();
        requests.begin(about(1), Seqno(5), Need::Lost);
        let mut now = Moment(0);
        let mut pauses = Vec::new();
        while !requests.get(about(1)).unwrap().is_over() {
            requests.handle_sent(about(1), &[], now);
            requests.handle_done(now);
            let due = requests.quiet_until().unwrap();
            pauses.push(due.since(now).as_millis());
            assert!(requests.due(Moment(due.0 - 1)).is_empty());
            assert_eq!(requests.due(due), [about(1)]);
            now = due;
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000, 2000, 2000]);
    }

    #[test]
    fn requests_are_bounded() {
        let mut requests = Requests::default();
        for number in 0..4096 {
            requests.begin(about(number), Seqno(0), Need::Lost);
        }
        assert_eq!(requests.len(), REQUESTS_MAX);
        let full = requests.begin(about(5000), Seqno(0), Need::Lost);
        assert_eq!(full, Begun::Full);
        let known = requests.begin(about(7), Seqno(1), Need::Lost);
        assert_eq!(known, Begun::Send);
    }

    #[test]
    fn answered_requests_tell_who_waits() {
        let id = about(1).1;
        let mut requests = Requests::default();
        requests.forward(about(1), Seqno(5), 9, NeighbourId(1));
        requests.forward(about(2), Seqno(5), 9, NeighbourId(2));
        let older = requests.settle(about(1).0, Some((id, Seqno(4))), |_, _| false);
        assert_eq!(older, Answered::default());
        let newer = requests.settle(about(1).0, Some((id, Seqno(5))), |_, _| false);
        assert_eq!(newer.waiting, BTreeSet::from([NeighbourId(1)]));
        assert_eq!(requests.len(), 1);
    }

    #[test]
    fn own_need_ends_and_neighbours_go_on_waiting() {
        let id = about(1).1;
        let mut requests = Requests::default();
        requests.begin(about(1), Seqno(5), Need::Lost);
        requests.forward(about(1), Seqno(5), 9, NeighbourId(1));
        let older = requests.settle(about(1).0, Some((id, Seqno(4))), |_, _| false);
        assert_eq!((older.ours, older.waiting.len()), (1, 0));
        assert_eq!(older.onward, [about(1)]);
        assert_eq!(requests.get(about(1)).unwrap().need, Need::None);
        requests.forget(NeighbourId(1));
        assert!(requests.is_empty());
    }
}
