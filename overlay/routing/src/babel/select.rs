//! Which route of a prefix to use (RFC 8966, §3.6 and appendix A.3): the shortest that is feasible,
//! without swinging between two that are nearly alike.
//!
//! ```text
//!   no route in use, or it is no longer feasible ─► the best one, at once
//!   another is shorter by a quarter or more      ─► that one, at once
//!   another is shorter                           ─► that one, if something is shorter for 1.5 s
//! ```
//! Invariant: what is chosen is feasible, has a finite metric, and its origin's distance can be
//! kept.

use mesh_base::time::Moment;

use crate::babel::limits::BETTER_FOR;
use crate::babel::neighbour::NeighbourId;
use crate::babel::route::{Entry, Route, Selected};
use crate::babel::words::{Metric, RouterId, Seqno};

/// What selection decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The way to use.
    pub selected: Selected,
    /// When to look again, because something is better.
    pub challenged: Option<Moment>,
}

/// Chooses; `cost` tells what the way to a neighbour costs.
pub fn choose(entry: &Entry, cost: impl Fn(NeighbourId) -> Metric, now: Moment) -> Choice {
    let metric = |route: &Route| route.claimed.metric.plus(cost(route.neighbour));
    let fit = entry.routes.iter().filter(|route| {
        metric(route).is_finite()
            && entry.is_feasible(route)
            && entry.sources.admits(route.router_id)
    });
    let best = fit.map(|route| (metric(route), route.neighbour)).min();
    let Some((best_metric, best)) = best else {
        return Choice {
            selected: Selected::None,
            challenged: None,
        };
    };
    let settled = |neighbour| Choice {
        selected: Selected::Via(neighbour),
        challenged: None,
    };
    let current = entry
        .selected_route()
        .filter(|route| entry.is_feasible(route) && metric(route).is_finite());
    let Some(current) = current else {
        return settled(best);
    };
    let current_metric = metric(current);
    if current_metric <= best_metric {
        return settled(current.neighbour);
    }
    let quarter_better = u32::from(best_metric.0) * 4 <= u32::from(current_metric.0) * 3;
    let due = entry.challenged.unwrap_or(now + BETTER_FOR);
    if quarter_better || due <= now {
        return settled(best);
    }
    Choice {
        selected: Selected::Via(current.neighbour),
        challenged: Some(due),
    }
}

/// Whom to ask for which number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// The neighbour with the route.
    pub neighbour: NeighbourId,
    /// The origin.
    pub router_id: RouterId,
    /// What would make the route feasible.
    pub seqno: Seqno,
}

/// Returns the route that would be worth a request although something is selected: one that is
/// shorter but not feasible, or the selected one itself if it lives on an old proof (§3.8.2.2).
pub fn wish(entry: &Entry, cost: impl Fn(NeighbourId) -> Metric) -> Option<Wish> {
    let current = entry.selected_route()?;
    let wish = |route: &Route| {
        Some(Wish {
            neighbour: route.neighbour,
            router_id: route.router_id,
            seqno: entry
                .sources
                .needed(route.router_id, route.claimed.metric)?,
        })
    };
    if current.is_stale() {
        return wish(current);
    }
    let metric = |route: &Route| route.claimed.metric.plus(cost(route.neighbour));
    let current_metric = metric(current);
    let unfeasible = entry
        .routes
        .iter()
        .filter(|route| !entry.is_feasible(route));
    let best = unfeasible.min_by_key(|route| metric(route))?;
    let best_metric = metric(best);
    let worth = is_significant(current_metric, best_metric) && best_metric < current_metric;
    worth.then(|| wish(best)).flatten()
}

/// Returns whether a change is worth telling: ten percent and sixteen.
pub fn is_significant(old: Metric, new: Metric) -> bool {
    let change = old.0.abs_diff(new.0);
    16 <= change && old.0 / 10 <= change
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::babel::source::Distance;

    fn id() -> RouterId {
        RouterId::from_bytes([1; 8]).unwrap()
    }

    fn far(seqno: u16, metric: u16) -> Distance {
        Distance {
            seqno: Seqno(seqno),
            metric: Metric(metric),
        }
    }

    /// An entry whose neighbours 0, 1, ... have these metrics with number 1.
    fn entry(metrics: &[u16], selected: Selected) -> Entry {
        let routes = (0..).zip(metrics).map(|(at, metric)| Route {
            neighbour: NeighbourId(at),
            router_id: id(),
            distance: far(1, *metric),
            claimed: far(1, *metric),
            next_hop: None,
            expires: Moment(0),
        });
        Entry {
            routes: routes.collect(),
            selected,
            ..Entry::default()
        }
    }

    fn via(number: u32) -> Selected {
        Selected::Via(NeighbourId(number))
    }

    #[track_caller]
    fn check(entry: &Entry, expect: Selected, challenged: Option<u64>) {
        let choice = choose(entry, |_| Metric(100), Moment(1000));
        assert_eq!(choice.selected, expect);
        assert_eq!(choice.challenged, challenged.map(Moment));
    }

    #[test]
    fn shortest_feasible_route_is_chosen() {
        check(&entry(&[], Selected::None), Selected::None, None);
        check(&entry(&[300, 200, 400], Selected::None), via(1), None);
        let mut lowered = entry(&[300, 200, 400], Selected::None);
        lowered.sources.note(id(), far(1, 150), Moment(0));
        check(&lowered, Selected::None, None);
        let infinite = entry(&[0xfff0], Selected::None);
        check(&infinite, Selected::None, None);
    }

    #[test]
    fn route_in_use_stays_until_another_is_much_or_lastingly_better() {
        check(&entry(&[300, 300], via(1)), via(1), None);
        check(&entry(&[300, 280], via(0)), via(0), Some(1_501_000));
        check(&entry(&[300, 200], via(0)), via(1), None);
        let mut lasting = entry(&[300, 280], via(0));
        lasting.challenged = Some(Moment(1000));
        check(&lasting, via(1), None);
        let mut over = entry(&[300, 300], via(0));
        over.challenged = Some(Moment(5000));
        check(&over, via(0), None);
    }

    #[test]
    fn unfeasible_route_in_use_is_left_at_once() {
        let mut entry = entry(&[300, 200], via(0));
        entry.sources.note(id(), far(1, 250), Moment(0));
        check(&entry, via(1), None);
        entry.sources.note(id(), far(1, 200), Moment(0));
        check(&entry, Selected::None, None);
    }

    #[test]
    fn shorter_unfeasible_route_is_worth_a_request() {
        let mut entry = entry(&[100, 500], via(1));
        entry.routes[1].distance = far(2, 500);
        entry.routes[1].claimed = far(2, 500);
        assert_eq!(wish(&entry, |_| Metric(100)), None);
        entry.sources.note(id(), far(2, 600), Moment(0));
        let expect = Wish {
            neighbour: NeighbourId(0),
            router_id: id(),
            seqno: Seqno(2),
        };
        assert_eq!(wish(&entry, |_| Metric(100)), Some(expect));
        entry.routes[0].claimed = far(1, 490);
        assert_eq!(wish(&entry, |_| Metric(100)), None);
    }

    #[test]
    fn route_on_an_old_proof_wants_a_newer_number() {
        let mut entry = entry(&[100], via(0));
        entry.sources.note(id(), far(1, 200), Moment(0));
        entry.routes[0].claimed = far(1, 900);
        let wish = wish(&entry, |_| Metric(100)).unwrap();
        assert_eq!((wish.neighbour, wish.seqno), (NeighbourId(0), Seqno(2)));
    }

    #[test]
    fn small_changes_are_not_worth_telling() {
        for (old, new, expect) in [
            (100, 115, false),
            (100, 116, true),
            (1000, 1099, false),
            (1000, 900, true),
        ] {
            assert_eq!(is_significant(Metric(old), Metric(new)), expect);
        }
    }
}
