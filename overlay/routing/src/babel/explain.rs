//! Why a route is what it is: the table and the neighbours as a person may see them.

use std::net::Ipv6Addr;
use std::time::Duration;

use mesh_base::time::Moment;

use crate::babel::link::LinkId;
use crate::babel::neighbour::NeighbourId;
use crate::babel::route::Selected;
use crate::babel::source::Distance;
use crate::babel::speaker::Speaker;
use crate::babel::words::{Metric, Prefix, RouterId};

/// Everything about one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteView {
    /// Which.
    pub prefix: Prefix,
    /// Which way is used.
    pub selected: Selected,
    /// Until when packets are dropped rather than sent along a covering route.
    pub held_until: Option<Moment>,
    /// The best that we ever announced, by origin.
    pub feasibility: Vec<(RouterId, Distance)>,
    /// Every route, the one in use first, then by metric.
    pub ways: Vec<WayView>,
}

/// One route to a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayView {
    /// Through whom.
    pub neighbour: NeighbourId,
    /// Over which link.
    pub link: LinkId,
    /// Where packets go.
    pub next_hop: Ipv6Addr,
    /// Who originates it.
    pub router_id: RouterId,
    /// What the neighbour says.
    pub claimed: Distance,
    /// What proves that there is no loop; less than what it says while a newer number is awaited.
    pub proven: Distance,
    /// What the way to the neighbour costs, without the parts below.
    pub link_cost: Metric,
    /// The part for the round trip.
    pub rtt_penalty: Metric,
    /// The part for packets that did not arrive.
    pub penalty: Metric,
    /// The sum.
    pub metric: Metric,
    /// Whether it may be used.
    pub feasible: bool,
    /// Whether it is.
    pub selected: bool,
    /// Until it is forgotten.
    pub expires_in: Duration,
}

/// One neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighbourView {
    /// Who.
    pub neighbour: NeighbourId,
    /// Over which link.
    pub link: LinkId,
    /// Its link-local address.
    pub address: Ipv6Addr,
    /// Which of its last sixteen hellos to everybody came, the newest first.
    pub hellos: u16,
    /// Which of its last sixteen hellos to us alone came.
    pub unicast_hellos: u16,
    /// What receiving from it costs.
    pub rxcost: Metric,
    /// What it says that receiving from us costs; infinite if it does not.
    pub txcost: Metric,
    /// The smoothed round trip.
    pub rtt: Option<Duration>,
    /// What that costs.
    pub rtt_penalty: Metric,
    /// What the way to it costs.
    pub cost: Metric,
    /// Since the last sign of life.
    pub silence: Duration,
    /// How many prefixes are reached through it.
    pub selected_count: usize,
}

/// How much of what the table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableCounts {
    /// Prefixes with a way, ours included.
    pub reached: usize,
    /// Prefixes whose packets are dropped until everybody knows that the last way was lost.
    pub held: usize,
    /// Ways that may be used.
    pub feasible: usize,
    /// Ways that are not known to make no loop.
    pub unfeasible: usize,
    /// Feasibility distances.
    pub sources: usize,
    /// Seqno requests that wait for an answer.
    pub requests: usize,
    /// Ways that are longer because packets did not arrive.
    pub penalties: usize,
}

impl Speaker {
    /// Counts what the table holds.
    pub fn table_counts(&self) -> TableCounts {
        let mut counts = TableCounts {
            requests: self.requests_len(),
            penalties: self.penalties_len(),
            ..TableCounts::default()
        };
        for (_, entry) in self.table().after(None) {
            counts.reached += usize::from(entry.selected != Selected::None);
            counts.held += usize::from(entry.hold.is_some());
            counts.sources += entry.sources.iter().count();
            let feasible = entry.routes.iter().filter(|it| entry.is_feasible(it));
            let feasible = feasible.count();
            counts.feasible += feasible;
            counts.unfeasible += entry.routes.len() - feasible;
        }
        counts
    }

    /// Returns every prefix that is reached through a neighbour, with the link to it.
    pub fn ways_in_use(&self) -> impl Iterator<Item = (Prefix, LinkId)> {
        self.table().after(None).filter_map(|(prefix, entry)| {
            let route = entry.selected_route()?;
            Some((prefix, self.neighbour(route.neighbour)?.link))
        })
    }

    /// Explains every prefix.
    pub fn routes(&self, now: Moment) -> Vec<RouteView> {
        self.routes_after(None, usize::MAX, now)
    }

    /// Explains at most `count` prefixes, those behind `after`: a full table takes longer than a
    /// hello may wait.
    pub fn routes_after(&self, after: Option<Prefix>, count: usize, now: Moment) -> Vec<RouteView> {
        let prefixes = self.table().after(after).map(|(prefix, _)| prefix);
        prefixes
            .take(count)
            .filter_map(|prefix| self.route(prefix, now))
            .collect()
    }

    /// Explains the longest prefix that contains an address.
    pub fn route_to(&self, address: Ipv6Addr, now: Moment) -> Option<RouteView> {
        let (prefix, _) = self.table().longest(address, |_| true)?;
        self.route(prefix, now)
    }

    /// Explains one prefix.
    pub fn route(&self, prefix: Prefix, now: Moment) -> Option<RouteView> {
        let entry = self.table().get(prefix)?;
        let mut ways: Vec<_> = entry
            .routes
            .iter()
            .filter_map(|route| {
                let neighbour = self.neighbour(route.neighbour)?;
                let rtt_penalty = neighbour.rtt.penalty();
                let penalty = self.penalty(prefix, route.neighbour);
                let link_cost = match neighbour.cost {
                    Metric::INFINITY => Metric::INFINITY,
                    Metric(cost) => Metric(cost.saturating_sub(rtt_penalty.0)),
                };
                let metric = route.claimed.metric.plus(neighbour.cost).plus(penalty);
                let next_hop = route.next_hop.as_deref().copied();
                Some(WayView {
                    neighbour: route.neighbour,
                    link: neighbour.link,
                    next_hop: next_hop.unwrap_or(neighbour.address),
                    router_id: route.router_id,
                    claimed: route.claimed,
                    proven: route.distance,
                    link_cost,
                    rtt_penalty,
                    penalty,
                    metric,
                    feasible: entry.is_feasible(route),
                    selected: entry.selected == Selected::Via(route.neighbour),
                    expires_in: route.expires.since(now),
                })
            })
            .collect();
        ways.sort_by_key(|way| (!way.selected, way.metric, way.neighbour));
        let sources = entry.sources.iter();
        Some(RouteView {
            prefix,
            selected: entry.selected,
            held_until: entry.hold.map(|hold| hold.until),
            feasibility: sources.map(|s| (s.router_id, s.distance)).collect(),
            ways,
        })
    }

    /// Explains every neighbour.
    pub fn neighbours(&self, now: Moment) -> Vec<NeighbourView> {
        let mut counts = std::collections::BTreeMap::new();
        for (_, entry) in self.table().after(None) {
            if let Selected::Via(neighbour) = entry.selected {
                *counts.entry(neighbour).or_insert(0) += 1;
            }
        }
        self.all_neighbours()
            .map(|(id, neighbour)| NeighbourView {
                neighbour: id,
                link: neighbour.link,
                address: neighbour.address,
                hellos: neighbour.heard.multicast.bits(),
                unicast_hellos: neighbour.heard.unicast.bits(),
                rxcost: neighbour.told_rxcost,
                txcost: neighbour.txcost.map_or(Metric::INFINITY, |(cost, _)| cost),
                rtt: neighbour.rtt.smoothed(),
                rtt_penalty: neighbour.rtt.penalty(),
                cost: neighbour.cost,
                silence: now.since(neighbour.alive_at),
                selected_count: counts.get(&id).copied().unwrap_or_default(),
            })
            .collect()
    }
}
