//! What the compute machines ask of a driver, and what drivers report back.
//!
//! Every step is idempotent: a driver that is asked again for what is already so reports it again.
//! A driver rebuilds what it knows from the operating system after a restart, never from past
//! events.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use mesh_base::digest::Digest;
use serde::{Deserialize, Serialize};

/// Names an instance: the digest of the order that it fulfils.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ItemId(pub Digest);

/// What keeps instances apart on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Namespaces of their own: files, processes, network.
    Namespaces,
    /// Landlock and a supervisor, among the processes of the user.
    Process,
}

/// What a driver needs to know to make an instance; derived from recipe, order and grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// The instance.
    pub item: ItemId,
    /// The name that the customer chose, for log lines and the host name inside.
    pub name: String,
    /// Digest of the recipe's canonical text.
    pub recipe: Digest,
    /// The service address that the instance's own TUN gets.
    pub address: Ipv6Addr,
    /// Parameters and generated secrets by name; substituted as `{name}` in the recipe's commands,
    /// files and environment. Never logged, never in the ledger.
    pub values: BTreeMap<String, String>,
    /// Most memory, in MiB.
    pub memory_mib: u32,
    /// Most processor time, in thousandths of a core.
    pub cpu_millis: u32,
    /// Most processes and threads.
    pub pids: u32,
}

/// What the machine wants a driver to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Fetch or build the recipe's software and its prepared data, if they are not there.
    Software {
        /// The recipe's digest.
        recipe: Digest,
    },
    /// Make the slot: folders, data from the prepared copy, secrets.
    Create(Box<InstanceSpec>),
    /// Start the processes of a created instance; if they run already, report so.
    Start {
        /// The instance.
        item: ItemId,
    },
    /// Run one promise.
    Probe {
        /// The instance.
        item: ItemId,
        /// The promise's name in the recipe.
        promise: String,
    },
    /// Stop cleanly within the recipe's grace time, then kill.
    Stop {
        /// The instance.
        item: ItemId,
    },
    /// Read the meters.
    Meter {
        /// The instance.
        item: ItemId,
    },
    /// Remove everything of a stopped instance.
    Destroy {
        /// The instance.
        item: ItemId,
    },
}

/// Cumulative meters of one instance since it was created; they never go down while it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Meters {
    /// Processor time, in milliseconds.
    pub cpu_ms: u64,
    /// Memory now, in MiB.
    pub memory_mib: u64,
    /// Data folder now, in MiB, rounded up.
    pub disk_mib: u64,
    /// Bytes that reached the instance.
    pub received_bytes: u64,
    /// Bytes that left the instance.
    pub sent_bytes: u64,
}

/// What a driver reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Software and prepared data are on this node.
    SoftwareReady {
        /// The recipe's digest.
        recipe: Digest,
        /// Digest of the unpacked tree.
        tree: Digest,
    },
    /// Software could not be had; the sentence says what to do.
    SoftwareFailed {
        /// The recipe's digest.
        recipe: Digest,
        /// One sentence for people.
        reason: String,
    },
    /// The slot exists.
    Created {
        /// The instance.
        item: ItemId,
    },
    /// Processes run.
    Started {
        /// The instance.
        item: ItemId,
    },
    /// A promise was measured.
    Probed {
        /// The instance.
        item: ItemId,
        /// The promise's name.
        promise: String,
        /// Whether it holds.
        verdict: Verdict,
    },
    /// Processes ended, asked for or not.
    Stopped {
        /// The instance.
        item: ItemId,
        /// How the main process ended, in words: `exit 0`, `signal 9`, `reboot`.
        how: String,
    },
    /// Meters were read.
    Metered {
        /// The instance.
        item: ItemId,
        /// What they show.
        meters: Meters,
    },
    /// Nothing of the instance is left.
    Destroyed {
        /// The instance.
        item: ItemId,
    },
    /// A step could not be done; the sentence says what to do.
    Failed {
        /// The instance.
        item: ItemId,
        /// One sentence for people.
        reason: String,
    },
}

/// Whether a promise holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It does not; the sentence is what the check said.
    Broken(String),
}
