//! One neighbour: what is heard of it, what it hears of us, what the way to it costs.
//!
//! ```text
//!             hello            IHU             hello missed, IHU expired or of infinity
//!   (unknown) ─────► heard ───────────► usable ─────────────────────────────────────────► heard
//!                      │                   │
//!                      ├───────────────────┴── none of sixteen hellos ──────────────► (unknown)
//!                      └── tunnel: silent for 1.25 s, four probes unanswered ───────► (unknown)
//! ```
//! Usable means that both directions work: a finite cost. Routes of a neighbour that is merely
//! heard are kept, so that they are there when it becomes usable.

use std::net::Ipv6Addr;
use std::time::Duration;

use mesh_base::time::Moment;

use crate::babel::cost::{self, Heard, Quality};
use crate::babel::limits::{EXPIRY_HALVES, RTT_PATIENCE_MAX, RTT_UNKNOWN, TABLE_TRIES};
use crate::babel::link::{LinkConfig, LinkId};
use crate::babel::mail::Mail;
use crate::babel::pace::{self, Bucket};
use crate::babel::rtt::Rtt;
use crate::babel::wire::tlv::Stamp;
use crate::babel::words::{Metric, Seqno};

/// Names a neighbour; never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NeighbourId(pub u32);

/// How much a neighbour may make us do.
#[derive(Debug, Clone, Copy)]
pub struct Buckets {
    /// Requests about one prefix.
    pub requests: Bucket,
    /// Requests for the whole table.
    pub tables: Bucket,
    /// Updates that change something.
    pub changes: Bucket,
}

/// A neighbour of whom a hello was heard.
#[derive(Debug, Clone)]
pub struct Neighbour {
    /// Where it is.
    pub link: LinkId,
    /// Its link-local address.
    pub address: Ipv6Addr,
    /// Its hellos.
    pub heard: Heard,
    /// Whether its tunnel loses much.
    pub quality: Quality,
    /// What it says that receiving from us costs, and until when that holds (RFC 8966, §3.4.2).
    pub txcost: Option<(Metric, Moment)>,
    /// The round trip.
    pub rtt: Rtt,
    /// Its last stamped hello, and when that came.
    pub stamp: Option<(Stamp, Moment)>,
    /// What it was last told about how it is heard.
    pub told_rxcost: Metric,
    /// What the way to it costs; kept in step by the speaker.
    pub cost: Metric,
    /// When something authentic of it came last.
    pub alive_at: Moment,
    /// Probes sent since.
    pub probes: u8,
    /// Of the next hello to it alone.
    pub hello_seqno: Seqno,
    /// Whether a hello to it alone is due.
    pub hello: bool,
    /// What waits for it alone.
    pub mail: Mail,
    /// How much it may make us do.
    pub buckets: Buckets,
    /// When it is asked for its table, and how often still; none once it has told of it.
    pub table_at: Option<Moment>,
    /// How often it was asked.
    pub table_tries: u8,
    /// Whether it has asked for our table since it was found, or is told by everybody's updates:
    /// from then on it gets what changes.
    pub greeted: bool,
}

impl Neighbour {
    /// Returns a neighbour of whom nothing is known but where it is.
    pub fn new(link: LinkId, address: Ipv6Addr, hello_seqno: Seqno, now: Moment) -> Self {
        Self {
            link,
            address,
            heard: Heard::default(),
            quality: Quality::default(),
            txcost: None,
            rtt: Rtt::default(),
            stamp: None,
            told_rxcost: Metric::INFINITY,
            cost: Metric::INFINITY,
            alive_at: now,
            probes: 0,
            hello_seqno,
            hello: false,
            mail: Mail::default(),
            buckets: Buckets {
                requests: Bucket::new(pace::REQUESTS, now),
                tables: Bucket::new(pace::TABLES, now),
                changes: Bucket::new(pace::CHANGES, now),
            },
            table_at: None,
            table_tries: TABLE_TRIES,
            greeted: false,
        }
    }

    /// Notes what it says that receiving from us costs; `interval` is until it says so again.
    pub fn handle_ihu(&mut self, rxcost: Metric, interval: Duration, now: Moment) {
        self.txcost = Some((rxcost, now + interval * EXPIRY_HALVES / 2));
    }

    /// Notes a sign of life.
    pub fn handle_life(&mut self, now: Moment) {
        self.alive_at = self.alive_at.max(now);
        self.probes = 0;
        self.mail.probe = false;
    }

    /// Returns when time has something to do here; what waits to be written is apart, and silence,
    /// which only some links mind.
    pub fn deadlines(&self) -> impl Iterator<Item = Moment> {
        let txcost = self.txcost.map(|(_, until)| until);
        let heard = [self.heard.multicast.due(), self.heard.unicast.due()];
        let dues = heard.into_iter().chain([txcost, self.table_at]);
        dues.flatten()
    }

    /// Forgets what is too old. Returns whether anything was.
    pub fn handle_timeout(&mut self, now: Moment) -> bool {
        let missed = self.heard.multicast.handle_timeout(now);
        let missed = self.heard.unicast.handle_timeout(now) || missed;
        let expired = self.txcost.is_some_and(|(_, until)| until <= now);
        if expired {
            self.txcost = None;
        }
        missed || expired
    }

    /// Returns what receiving from it costs.
    pub fn rxcost(&self, config: &LinkConfig) -> Metric {
        let heard = self
            .heard
            .rxcost(config.kind, config.base_cost, self.quality);
        heard.plus(config.drain_cost())
    }

    /// Returns what the way to it costs, from both directions and the round trip.
    pub fn measure(&self, config: &LinkConfig) -> Metric {
        let txcost = self.txcost.map_or(Metric::INFINITY, |(cost, _)| cost);
        let more = self.rtt.penalty().plus(config.drain_cost());
        cost::cost(config.kind, self.rxcost(config), txcost, more)
    }

    /// Returns whether both directions work.
    pub fn is_usable(&self) -> bool {
        self.cost.is_finite()
    }

    /// Returns a round trip to wait for its answers.
    pub fn patience(&self) -> Duration {
        let trip = self.rtt.smoothed().unwrap_or(RTT_UNKNOWN);
        trip.min(RTT_PATIENCE_MAX)
    }
}
