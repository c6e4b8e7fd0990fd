//! One simulated machine: its clocks, its disk, its driver and, while it runs, its daemon.
//!
//! The daemon holds the very same [`Node`] that `meshnode` drives; this room only keeps what
//! belongs to one machine together. Invariant: outputs that wait for the disk leave in the order in
//! which they came.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_base::certificate::Chain;
use mesh_base::identity::NodeId;
use mesh_base::time::Moment;
use mesh_federation::members::Roster;
use mesh_peer::held::Held;
use mesh_peer::node::Node;
use mesh_peer::port::{CallId, Effect, Input, Position};

use crate::clock::Clock;
use crate::disk::Disk;
use crate::driver::Driver;
use crate::founding::Identity;
use crate::network::HostId;
use crate::storm::Crash;

/// A running daemon.
pub struct Daemon {
    /// The core.
    pub node: Node,
    /// Effects that wait for the disk.
    pub held: Held<Effect>,
    /// By what the gate judges who comes.
    pub roster: Option<Arc<Roster>>,
    /// What the gate shows.
    pub chain: Option<Chain>,
    /// Whether visitors may come.
    pub door_open: bool,
    /// API calls that wait for their last word.
    pub calls: BTreeSet<CallId>,
    /// When the next tick is due.
    pub tick_at: Moment,
}

impl Daemon {
    /// Wraps a core that has just read its journal of `entries` entries.
    pub fn new(node: Node, entries: u64) -> Self {
        Self {
            node,
            held: Held::durable(Position(entries)),
            roster: None,
            chain: None,
            door_open: false,
            calls: BTreeSet::new(),
            tick_at: Moment(u64::MAX),
        }
    }
}

/// One machine.
pub struct Host {
    /// Its place in the run.
    pub id: HostId,
    /// Keys, names, what it has to give.
    pub identity: Identity,
    /// Where it is reached.
    pub address: SocketAddr,
    /// Its clocks.
    pub clock: Clock,
    /// Its disk.
    pub disk: Disk,
    /// Its instances.
    pub driver: Driver,
    /// Counts daemons.
    pub life: u64,
    /// Counts boots.
    pub boot: u64,
    /// The running daemon.
    pub daemon: Option<Daemon>,
    /// What waits while the daemon stands still.
    pub paused: Option<Vec<Input>>,
    /// How it will crash at its next sync, and for how long.
    pub doom: Option<(Crash, Duration)>,
    /// Peers that it was connected with at least once.
    pub met: BTreeMap<NodeId, u64>,
}

impl Host {
    /// Returns whether a daemon runs and moves.
    pub fn is_awake(&self) -> bool {
        self.daemon.is_some() && self.paused.is_none()
    }

    /// Returns its key.
    pub fn key(&self) -> NodeId {
        self.identity.node()
    }
}
