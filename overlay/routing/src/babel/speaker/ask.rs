//! Route and seqno requests: answering, passing on, asking (RFC 8966, §3.8).
//!
//! ```text
//!   the last feasible route is lost ─► those with a route are asked, then everybody
//!   a better route is not feasible  ─► its neighbour is asked
//!   asked for a number ─┬─ ours: it grows by one, told at once
//!                       ├─ selected and new enough, or of another origin: told at once
//!                       └─ else passed on towards the origin, and the answer back
//! ```

use std::collections::BTreeSet;

use mesh_base::time::Moment;

use super::{Speaker, cost_to};
use crate::babel::count::Count;
use crate::babel::limits::{BETTER_AGAIN, BLIND_TRIES, UPDATES_WAITING_MAX};
use crate::babel::link::Link;
use crate::babel::mail::{Asking, Put, Waiting};
use crate::babel::neighbour::NeighbourId;
use crate::babel::pace;
use crate::babel::request::{Begun, Need};
use crate::babel::route::{Announced, Selected};
use crate::babel::select;
use crate::babel::words::{Prefix, RouterId, Seqno};

impl Speaker {
    /// Answers a question about a prefix, or about all (§3.8.1.1).
    pub(super) fn handle_route_request(
        &mut self,
        from: NeighbourId,
        prefix: Option<Prefix>,
        now: Moment,
    ) {
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return;
        };
        let buckets = &mut neighbour.buckets;
        match prefix {
            Some(prefix) if buckets.requests.take(1, now) => self.answer(from, prefix, now),
            None if buckets.tables.take(pace::TABLE, now) => {
                neighbour.greeted = true;
                self.begin_dump(from, now);
            }
            Some(_) => self.count(Count::TooManyRequests),
            None => {
                // The question was acknowledged and will not come again: answered, but later.
                neighbour.greeted = true;
                self.count(Count::TooManyRequests);
                self.begin_dump(from, now + pace::TABLE_PAUSE);
            }
        }
    }

    /// Answers a seqno request or passes it on (§3.8.1.2).
    pub(super) fn handle_seqno_request(
        &mut self,
        from: NeighbourId,
        about: (Prefix, RouterId),
        seqno: Seqno,
        hop_count: u8,
        now: Moment,
    ) {
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return;
        };
        if !neighbour.buckets.requests.take(1, now) {
            self.count(Count::TooManyRequests);
            return;
        }
        let (prefix, router_id) = about;
        let Some(entry) = self.table.get(prefix) else {
            self.count(Count::RequestDied);
            return;
        };
        let selected = entry.selected;
        let enough = match selected {
            Selected::None => false,
            Selected::Own => router_id != self.router_id || !self.seqno.is_before(seqno),
            Selected::Via(_) => entry.selected_route().is_some_and(|route| {
                router_id != self.router_id
                    && (route.router_id != router_id || !route.distance.seqno.is_before(seqno))
            }),
        };
        if enough {
            self.answer(from, prefix, now);
            return;
        }
        if router_id == self.router_id {
            // Ours, or imported and told as ours.
            if selected != Selected::None {
                self.grow(seqno, now);
                self.answer(from, prefix, now);
            }
            return;
        }
        if hop_count < 2 {
            self.count(Count::RequestDied);
            return;
        }
        match self.requests.forward(about, seqno, hop_count - 1, from) {
            Begun::Send => self.send_request(about, now),
            Begun::Redundant => self.pass_on_too(about, now),
            Begun::Full => self.count(Count::RequestsFull),
        }
    }

    /// Takes a request that joins one under way. That one went past our next hop if the next hop
    /// itself waited for it, for others; it may have an answer by now, and is asked for who joins.
    fn pass_on_too(&mut self, about: (Prefix, RouterId), now: Moment) {
        let selected = self.table.get(about.0).map(|entry| entry.selected);
        let next = self.requests.get(about).and_then(|request| {
            let Some(Selected::Via(next)) = selected else {
                return None;
            };
            let unasked = !request.asked.contains(&next) && request.is_for_others(next);
            (request.need != Need::Lost && unasked).then_some(next)
        });
        match next {
            Some(next) => {
                self.requests.handle_copied(about, next);
                self.mail_request(about, next, now);
            }
            None => self.count(Count::RequestRedundant),
        }
    }

    /// Lets our own number grow by one because somebody lacks a feasible route.
    fn grow(&mut self, wanted: Seqno, now: Moment) {
        if !self.seqno.is_before(wanted) {
            return;
        }
        // Nobody can want more than the next number, unless we lost ours: §3.8.1.2 allows steps of
        // one only, which would take until that one is forgotten.
        let lost = self.seqno.next().is_before(wanted);
        if lost && self.recover(wanted, now) {
            return;
        }
        if !self.growth.take(1, now) {
            self.count(Count::TooManyRequests);
            return;
        }
        self.seqno = self.seqno.next();
        self.count(Count::SeqnoGrew);
    }

    /// Tells one neighbour what is true of a prefix, at once.
    pub(super) fn answer(&mut self, to: NeighbourId, prefix: Prefix, now: Moment) {
        let waiting = Waiting {
            tries: 0,
            forced: true,
        };
        let put = self
            .mail_of(to)
            .map(|mail| mail.update(prefix, waiting, now));
        if put.is_some_and(|put| put != Put::Kept) {
            self.count(Count::AnswersFull);
        }
    }

    /// Asks for what would make a route to a prefix usable, or a better one.
    pub(super) fn ask_for(&mut self, prefix: Prefix, lost: Option<Announced>, now: Moment) {
        let Some(entry) = self.table.get(prefix) else {
            return;
        };
        if entry.selected == Selected::Own {
            return;
        }
        if entry.selected != Selected::None {
            let cost = |neighbour| cost_to(&self.neighbours, &self.penalties, prefix, neighbour);
            let Some(wish) = select::wish(entry, cost) else {
                return;
            };
            if now < entry.ask_again {
                self.wishes.insert((entry.ask_again, prefix));
                return;
            }
            let again = now + BETTER_AGAIN;
            if let Some(entry) = self.table.get_mut(prefix) {
                entry.ask_again = again;
            }
            self.wishes.insert((again, prefix));
            let need = Need::Better(wish.neighbour);
            self.ask((prefix, wish.router_id), wish.seqno, need, now);
            return;
        }
        let unfeasible = entry.routes.iter().map(|route| route.router_id);
        let origins: BTreeSet<_> = unfeasible.chain(lost.map(|lost| lost.router_id)).collect();
        // Who told nobody of it needs no newer number, but somebody who has a route still.
        let had = |origin| {
            let had = lost.filter(|lost| lost.router_id == origin);
            had.map(|lost| lost.distance.seqno)
        };
        let wanted: Vec<_> = origins
            .into_iter()
            .filter(|origin| *origin != self.router_id)
            .filter_map(|origin| {
                let seqno = entry.sources.wanted(origin).or_else(|| had(origin));
                Some((origin, seqno?))
            })
            .collect();
        for (origin, seqno) in wanted {
            self.ask((prefix, origin), seqno, Need::Lost, now);
        }
    }

    /// Sends a request that is under way also to a neighbour that told of a route only now: the
    /// pause until it is sent again may be long.
    pub(super) fn ask_also(&mut self, to: NeighbourId, about: (Prefix, RouterId), now: Moment) {
        let entry = self.table.get(about.0);
        let starved = entry.is_some_and(|entry| entry.selected == Selected::None);
        let request = self.requests.get(about).filter(|request| {
            starved && request.need == Need::Lost && !request.waiting.contains(&to)
        });
        if request.is_some() {
            self.requests.hasten(about, to, now);
            self.mail_request(about, to, now);
        }
    }

    fn ask(&mut self, about: (Prefix, RouterId), seqno: Seqno, need: Need, now: Moment) {
        match self.requests.begin(about, seqno, need) {
            Begun::Send => self.send_request(about, now),
            Begun::Redundant => {}
            Begun::Full => self.count(Count::RequestsFull),
        }
    }

    /// Sends a request to whom it should go now.
    pub(super) fn send_request(&mut self, about: (Prefix, RouterId), now: Moment) {
        let Some(request) = self.requests.get(about) else {
            return;
        };
        let need = request.need;
        let to = match need {
            Need::Better(neighbour) => vec![neighbour],
            Need::Lost => self.whom_to_ask(about, request.tries),
            Need::None => self.whom_to_pass_on(about).into_iter().collect(),
        };
        self.requests.handle_sent(about, &to, now);
        if to.is_empty() {
            self.count(Count::RequestDied);
        }
        for neighbour in to {
            if need != Need::Lost {
                self.requests.handle_asked(about, neighbour);
            }
            self.mail_request(about, neighbour, now);
        }
    }

    fn mail_request(&mut self, about: (Prefix, RouterId), to: NeighbourId, now: Moment) {
        let Some(request) = self.requests.get(about) else {
            return;
        };
        let asking = Asking {
            seqno: request.seqno,
            hop_count: request.hop_count,
        };
        let need = request.need;
        let put = self
            .mail_of(to)
            .map(|mail| mail.request(about, asking, now));
        self.count(match put {
            Some(Put::Refused) => Count::AnswersFull,
            _ if need == Need::None => Count::RequestForwarded,
            _ => Count::RequestSent,
        });
    }

    /// Returns the neighbours that may have a route, or know somebody: first those who told of one,
    /// then everybody, then those who told of one again. Who has none and whose updates are
    /// acknowledged tells us as soon as that changes; asking it more often finds nobody.
    fn whom_to_ask(&self, (prefix, _): (Prefix, RouterId), tries: u8) -> Vec<NeighbourId> {
        let routes = self.table.get(prefix).map(|entry| entry.routes.as_slice());
        let mut with_route: Vec<_> = routes
            .unwrap_or_default()
            .iter()
            .map(|route| route.neighbour)
            .filter(|id| self.neighbours.get(id).is_some_and(|n| n.is_usable()))
            .collect();
        if tries == 0 && !with_route.is_empty() {
            return with_route;
        }
        let tells_all = |link| {
            self.links
                .get(link)
                .is_some_and(|it: &Link| it.config.acked)
        };
        let usable = self.neighbours.iter().filter(|(_, n)| n.is_usable());
        let others = usable.filter(|(_, n)| tries < BLIND_TRIES || !tells_all(&n.link));
        for (id, _) in others {
            if !with_route.contains(id) {
                with_route.push(*id);
            }
        }
        with_route
    }

    /// Returns the neighbour to pass a request on to: the next hop of a feasible route, else of
    /// any, but not back to the only one who asks (§3.8.1.2). Another one each time it is sent
    /// again; those who wait for it themselves come last.
    fn whom_to_pass_on(&self, about: (Prefix, RouterId)) -> Option<NeighbourId> {
        let request = self.requests.get(about)?;
        let entry = self.table.get(about.0)?;
        let ways = entry.routes.iter().filter_map(|route| {
            let neighbour = route.neighbour;
            let cost = self.cost_to(about.0, neighbour);
            let fit = cost.is_finite() && request.is_for_others(neighbour);
            fit.then(|| {
                (
                    request.asked.contains(&neighbour),
                    request.waiting.contains(&neighbour),
                    Selected::Via(neighbour) != entry.selected,
                    !entry.is_feasible(route),
                    route.claimed.metric.plus(cost),
                    neighbour,
                )
            })
        });
        ways.min().map(|(.., neighbour)| neighbour)
    }

    /// Ends requests that are answered and tells whoever waits.
    pub(super) fn settle_requests(&mut self, prefix: Prefix, now: Moment) {
        if self.requests.is_empty() {
            return;
        }
        let Some(entry) = self.table.get(prefix) else {
            return;
        };
        let selected = match entry.selected {
            Selected::None => None,
            Selected::Own => Some((self.router_id, self.seqno)),
            Selected::Via(_) => entry
                .selected_route()
                .map(|route| (route.router_id, route.distance.seqno)),
        };
        let has = |origin, seqno| {
            entry
                .routes
                .iter()
                .any(|route| route.router_id == origin && !route.distance.seqno.is_before(seqno))
        };
        let answered = self.requests.settle(prefix, selected, has);
        self.counters
            .add_many(Count::RequestAnswered, answered.ours);
        for neighbour in answered.waiting {
            self.answer(neighbour, prefix, now);
        }
        for about in answered.onward {
            self.send_request(about, now);
        }
    }

    /// Asks all native neighbours for prefixes that were refused and are lawful now.
    pub(super) fn ask_for_missed(&mut self, now: Moment) {
        // A prefix need not tell its origin: an aggregate is that of whoever announces it.
        let members = &self.lawful.members;
        let is_lawful = |(_, origin): &(Prefix, RouterId)| members.contains(origin);
        let full = UPDATES_WAITING_MAX <= self.missed.len();
        let (asked, missed): (BTreeSet<_>, BTreeSet<_>) =
            self.missed.iter().copied().partition(is_lawful);
        if asked.is_empty() {
            return;
        }
        self.missed = missed;
        let asked: BTreeSet<Prefix> = asked.into_iter().map(|(prefix, _)| prefix).collect();
        for neighbour in self.neighbours.values_mut().filter(|n| n.is_usable()) {
            for prefix in &asked {
                neighbour.mail.table_request |=
                    full || neighbour.mail.route_request(*prefix, now) == Put::Refused;
            }
            neighbour.mail.hurry(now);
        }
    }
}
