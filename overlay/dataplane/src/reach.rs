//! Where this node may be reached: its own interfaces and mapped ports, and what others see.
//!
//! Shared by all links; each compares numbers, so that nobody waits for nobody. Decides nothing
//! about links: that is `peer`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use mesh_base::identity::NodeId;
use mesh_base::time::Moment;
use mesh_routing::reach::candidate::{Candidate, Source, is_place};
use mesh_routing::reach::limits::PLACES_MAX;
use mesh_routing::reach::outer::{Mapping, Outer};

use crate::plane::Dataplane;
use crate::sys::lock;

/// Our places as links see them.
#[derive(Debug, Clone)]
pub struct View {
    /// Counts changes.
    pub version: u64,
    /// Counts changes after which our packets come from elsewhere.
    pub moved: u64,
    /// Our address in the overlay.
    pub address: Ipv6Addr,
    /// At most as many as a call holds.
    pub places: Vec<Candidate>,
}

impl Default for View {
    fn default() -> Self {
        Self {
            version: 0,
            moved: 0,
            address: Ipv6Addr::UNSPECIFIED,
            places: Vec::new(),
        }
    }
}

/// What is known about our places.
#[derive(Debug, Default)]
pub(crate) struct Own(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    view: Arc<View>,
    ours: Vec<Candidate>,
    outer: Outer,
}

/// Where others see this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Places, told last first.
    pub places: Vec<SocketAddr>,
    /// What they say about our router.
    pub mapping: Mapping,
}

impl Own {
    /// Returns our places for a node that has this address.
    pub fn view(&self, address: Ipv6Addr) -> Arc<View> {
        let mut known = lock(&self.0);
        if known.view.address != address {
            let view = View::clone(&known.view);
            known.view = Arc::new(View { address, ..view });
        }
        Arc::clone(&known.view)
    }

    /// Takes where a node sees us; returns whether that is news.
    pub fn handle_told(&self, by: NodeId, at: SocketAddr, now: Moment) -> bool {
        let mut known = lock(&self.0);
        let before: Vec<IpAddr> = known.outer.places(now).iter().map(SocketAddr::ip).collect();
        if !known.outer.handle_told(by, at, now) {
            return false;
        }
        let moved = !before.is_empty() && !before.contains(&at.ip());
        known.renew(moved, now)
    }

    fn set(&self, ours: Vec<Candidate>, now: Moment) -> bool {
        let mut known = lock(&self.0);
        let of = |list: &[Candidate]| -> Vec<IpAddr> {
            let own = list.iter().filter(|it| it.source == Source::Interface);
            own.map(|it| it.at.ip()).collect()
        };
        let moved = !known.ours.is_empty() && of(&known.ours) != of(&ours);
        known.ours = ours;
        known.renew(moved, now)
    }

    fn seen(&self, now: Moment) -> Seen {
        let known = lock(&self.0);
        Seen {
            places: known.outer.places(now),
            mapping: known.outer.mapping(now),
        }
    }
}

impl Known {
    /// Makes a new picture if it is another one.
    fn renew(&mut self, moved: bool, now: Moment) -> bool {
        let mut places = self.ours.clone();
        for at in self.outer.places(now) {
            if places.iter().all(|known| known.at != at) {
                places.push(Candidate {
                    at,
                    source: Source::Seen,
                });
            }
        }
        places.retain(|place| is_place(&place.at));
        places.truncate(PLACES_MAX);
        if places == self.view.places {
            return false;
        }
        self.view = Arc::new(View {
            version: self.view.version + 1,
            moved: self.view.moved + u64::from(moved),
            address: self.view.address,
            places,
        });
        true
    }
}

impl Dataplane {
    /// Tells where this machine can be reached from elsewhere: at its own interfaces, and at ports
    /// that its home's router maps to ours.
    pub fn set_places(&self, interfaces: &[SocketAddr], mapped: Option<SocketAddr>) {
        let of = |source| move |at: SocketAddr| Candidate { at, source };
        // Nobody else finds us at our loopback, and whoever is there has our contact.
        let away = interfaces.iter().filter(|at| !at.ip().is_loopback());
        let ours = away.copied().map(of(Source::Interface));
        let ours = ours.chain(mapped.map(of(Source::Mapped))).collect();
        let now = self.shared.moment(std::time::Instant::now());
        if self.shared.own.set(ours, now) {
            self.shared.hurry();
        }
    }

    /// Returns where other nodes see us, and what that says about our router.
    pub fn seen(&self) -> Seen {
        let now = self.shared.moment(std::time::Instant::now());
        self.shared.own.seen(now)
    }
}
