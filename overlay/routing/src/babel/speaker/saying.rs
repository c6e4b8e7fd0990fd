//! What is true of a prefix over a link, and what saying it binds us to.
//!
//! Values are taken when the packet is written, and the feasibility distance is noted before its
//! bytes leave (RFC 8966, §3.7.3).

use mesh_base::time::Moment;

use super::page::Page;
use super::{Speaker, cost_to};
use crate::babel::filter::{Provenance, Telling};
use crate::babel::limits::STRANDED_METRIC;
use crate::babel::link::{Link, LinkId, centis};
use crate::babel::mail::Said;
use crate::babel::route::{Entry, Selected};
use crate::babel::source::Distance;
use crate::babel::wire::tlv::Tlv;
use crate::babel::wire::writer::Pushed;
use crate::babel::words::{Metric, Prefix, RouterId};

/// What is to be said of a prefix over a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Saying {
    Update {
        router_id: RouterId,
        distance: Distance,
    },
    Retraction,
    Nothing,
}

impl Speaker {
    /// Returns what is true of a prefix over a link now.
    pub(super) fn saying(&self, id: LinkId, prefix: Prefix, forced: bool) -> Saying {
        let Some(link) = self.links.get(&id) else {
            return Saying::Nothing;
        };
        let ours = |metric| Saying::Update {
            router_id: self.router_id,
            distance: Distance {
                seqno: self.seqno,
                metric,
            },
        };
        if link.config.filter.tells_aggregate(prefix) {
            let last = self.stranded && link.config.filter.is_native();
            return ours(if last { STRANDED_METRIC } else { Metric::ZERO });
        }
        let entry = self.table.get(prefix);
        let told = entry.is_some_and(|entry| entry.told & link.bit() != 0);
        let silent = if told || forced {
            Saying::Retraction
        } else {
            Saying::Nothing
        };
        let Some(entry) = entry else {
            return silent;
        };
        let Some(way) = self.way(id, link, prefix, entry) else {
            return silent;
        };
        let telling = link.config.filter.telling(prefix, way.from);
        match telling {
            _ if !way.distance.metric.is_finite() => silent,
            Telling::Silent => silent,
            Telling::AsOurs => ours(way.distance.metric),
            Telling::AsIs => Saying::Update {
                router_id: way.router_id,
                distance: way.distance,
            },
        }
    }

    /// Returns the selected way to a prefix, if it may be told over a link.
    fn way(&self, id: LinkId, link: &Link, prefix: Prefix, entry: &Entry) -> Option<Way> {
        match entry.selected {
            Selected::None => None,
            Selected::Own => Some(Way {
                from: Provenance::Own,
                router_id: self.router_id,
                distance: Distance {
                    seqno: self.seqno,
                    metric: *self.own.get(&prefix)?,
                },
            }),
            Selected::Via(neighbour) => {
                let route = entry.selected_route()?;
                let over = self.neighbours.get(&neighbour)?.link;
                if over == id && link.config.split_horizon {
                    return None;
                }
                let cost = cost_to(&self.neighbours, &self.penalties, prefix, neighbour);
                Some(Way {
                    from: self.links.get(&over)?.config.filter.provenance(),
                    router_id: route.router_id,
                    distance: Distance {
                        seqno: route.distance.seqno,
                        metric: route.claimed.metric.plus(cost),
                    },
                })
            }
        }
    }

    /// Writes a saying, and notes what it binds us to.
    pub(super) fn write_saying(
        &mut self,
        id: LinkId,
        page: &mut Page,
        prefix: Prefix,
        saying: Saying,
        now: Moment,
    ) -> Pushed {
        let Some(link) = self.links.get(&id) else {
            return Pushed::Refused;
        };
        let (router_id, distance) = match saying {
            Saying::Nothing => return Pushed::Refused,
            Saying::Retraction => {
                let distance = Distance {
                    seqno: self.seqno,
                    metric: Metric::INFINITY,
                };
                (None, distance)
            }
            Saying::Update {
                router_id,
                distance,
            } => (Some(router_id), distance),
        };
        let pushed = page.push(&Tlv::Update {
            prefix: Some(prefix),
            router_id,
            next_hop: link.config.address,
            interval: centis(link.config.update_interval),
            seqno: distance.seqno,
            metric: distance.metric,
        });
        let entry = self.table.get_mut(prefix);
        if let (Pushed::Written, Some(entry)) = (pushed, entry) {
            match router_id {
                Some(router_id) => {
                    entry.told |= link.bit();
                    if router_id != self.router_id {
                        entry.sources.note(router_id, distance, now);
                    }
                }
                None => {
                    // Where acknowledgements are asked for, one ends what was told.
                    if !link.config.acked {
                        entry.told &= !link.bit();
                    }
                    entry.sources.handle_retraction(now);
                }
            }
        }
        pushed
    }

    pub(super) fn note_said(&self, prefix: Prefix, saying: Saying, tries: u8) -> Said {
        let version = self.table.get(prefix).map(|entry| entry.version);
        Said {
            prefix,
            version: version.unwrap_or_default(),
            retraction: saying == Saying::Retraction,
            tries,
            doubtful: false,
        }
    }
}

/// A selected way, before a link's filter.
struct Way {
    from: Provenance,
    router_id: RouterId,
    distance: Distance,
}
