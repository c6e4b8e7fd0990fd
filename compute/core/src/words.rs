//! What daemon, shim and the first process inside say to each other, and how it is read.
//!
//! JSON on local sockets and pipes only, between builds of one version or neighbours; unknown
//! variants end a connection, they never stop an instance.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::doors::Doors;

/// Name of the control socket in an instance folder.
pub const SOCKET: &str = "shim.sock";
/// Name of the state file in an instance folder.
pub const STATUS: &str = "status.json";

/// Reads one word, a plan or a state file; the senders are programs of ours, on sockets and files
/// that only our user may open.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(bytes)
}

/// Everything a shim needs to run one instance; given on its standard input, never on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// The instance folder.
    pub folder: PathBuf,
    /// Root of the software tree.
    pub tree: PathBuf,
    /// Mount point for the tree.
    pub root: PathBuf,
    /// The data folder.
    pub data: PathBuf,
    /// Where it appears inside.
    pub data_inside: String,
    /// Host name inside.
    pub hostname: String,
    /// Names the cgroup.
    pub label: String,
    /// Address of the TUN inside; none for a sandbox without network.
    pub address: Option<Ipv6Addr>,
    /// User and group inside.
    pub inner: Ids,
    /// User and group that they are outside.
    pub outer: Ids,
    /// Environment of every process.
    pub env: BTreeMap<String, String>,
    /// The main process; empty for a sandbox that only runs `init`.
    pub run: Vec<String>,
    /// When the main process counts as started.
    pub ready: Option<Ready>,
    /// Commands to run once after that; empty if they were run before.
    pub init: Vec<Run>,
    /// Number of the signal that asks the main process to end.
    pub stop_signal: i32,
    /// After so long everything is killed.
    pub grace_ms: u32,
    /// Most memory.
    pub memory_mib: u32,
    /// Most processor time.
    pub cpu_millis: u32,
    /// Most processes.
    pub pids: u32,
    /// Processor time of earlier runs.
    pub cpu_ms_before: u64,
    /// What keeps it apart.
    pub walls: Walls,
}

/// What keeps an instance apart from the machine and from others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Walls {
    /// Namespaces of its own: files, processes, network.
    Namespaces,
    /// The user's own namespaces, for machines that give no others: Landlock around files, a
    /// supervisor for sockets and signals, and proot, which shows the tree as the root.
    Process(Walled),
}

/// What an instance without namespaces needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walled {
    /// Root of the tree that holds proot.
    pub tool: PathBuf,
    /// Where its listening sockets are instead.
    pub doors: Doors,
    /// The folder that holds what lives no longer than a run. A short path: it must leave room for
    /// names in the 108 bytes of a local socket's address.
    pub run: PathBuf,
}

impl Plan {
    /// Returns what an instance without namespaces needs; none for one with.
    pub fn walled(&self) -> Option<&Walled> {
        match &self.walls {
            Walls::Namespaces => None,
            Walls::Process(walled) => Some(walled),
        }
    }
}

/// A user and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// A file whose content tells that the main process is ready.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ready {
    /// Path inside.
    pub path: String,
    /// Text that appears in it.
    pub contains: String,
    /// Patience.
    pub timeout_ms: u32,
}

/// One command to run inside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// What it reads.
    pub stdin: String,
    /// It is killed after so long.
    pub timeout_ms: u32,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// In words: `exit 0`, `signal 9`, `timeout`.
    pub how: String,
    /// The start of what it printed.
    pub said: String,
}

impl Outcome {
    /// Returns whether it succeeded.
    pub fn is_success(&self) -> bool {
        self.how == "exit 0"
    }

    /// Returns what to tell people: the last line it printed and how it ended.
    pub fn sentence(&self) -> String {
        match self
            .said
            .lines()
            .rev()
            .map(str::trim)
            .find(|line| !line.is_empty())
        {
            Some(line) => format!("{line} ({})", self.how),
            None => self.how.clone(),
        }
    }
}

/// From the daemon to a shim.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToShim {
    /// Ask the main process to end; after the grace time, kill.
    Stop,
    /// Run a command inside.
    Run {
        /// Repeated in the answer.
        id: u64,
        /// The command.
        run: Run,
    },
    /// Read the meters.
    Meter {
        /// Repeated in the answer.
        id: u64,
    },
}

/// From a shim to the daemon.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromShim {
    /// First word on each connection; carries the TUN's descriptor if there is one.
    Hello {
        /// How far it is.
        state: State,
        /// What could not be had here, one sentence each.
        notes: Vec<String>,
        /// Where it listens, if it has no network of its own.
        #[serde(default)]
        doors: Option<Doors>,
    },
    /// Main process ready, first-start commands done.
    Started,
    /// It could not be started; the shim ends.
    Failed {
        /// One sentence.
        reason: String,
    },
    /// The main process ended; the shim ends.
    Exited {
        /// In words.
        how: String,
    },
    /// A command ended.
    Ran {
        /// From the request.
        id: u64,
        /// How.
        outcome: Outcome,
    },
    /// The meters.
    Metered {
        /// From the request.
        id: u64,
        /// Processor time since the instance was created.
        cpu_ms: u64,
        /// Memory now.
        memory_mib: u64,
    },
}

/// How far an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// On its way up.
    Starting,
    /// Ready.
    Running,
    /// Asked to end.
    Stopping,
    /// Nothing runs.
    Stopped,
}

/// What a shim leaves on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Which boot of the machine wrote this.
    pub boot: String,
    /// How far it was.
    pub state: State,
    /// How the main process ended.
    pub how: String,
    /// Whether the first-start commands have all succeeded.
    pub initialised: bool,
    /// Processor time since the instance was created.
    pub cpu_ms: u64,
    /// What could not be had here.
    pub notes: Vec<String>,
    /// The first process inside as seen from outside: its id and when it started.
    pub first: Option<(i32, u64)>,
    /// Control groups that whoever ends the remains has to remove if the shim could not.
    #[serde(default)]
    pub groups: Vec<PathBuf>,
}

/// From a shim to the first process inside.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToInside {
    /// User maps and limits are set: make the sandbox.
    Go,
    /// Run a command.
    Run {
        /// Repeated in the answer.
        id: u64,
        /// The command.
        run: Run,
    },
    /// Signal the main process.
    Signal(i32),
}

/// From the first process inside to its shim.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromInside {
    /// Carries the TUN's descriptor.
    Tun,
    /// Carries the descriptor by which system calls are supervised.
    Supervised,
    /// Something could not be had, but we go on.
    Note(String),
    /// The sandbox could not be made.
    Failed(String),
    /// The sandbox stands and the main process, if any, was started.
    Up {
        /// Its id, as the first process inside sees it.
        main: Option<i32>,
    },
    /// The main process counts as started.
    Ready,
    /// It did not in time.
    NotReady,
    /// A command ended.
    Ran {
        /// From the request.
        id: u64,
        /// How.
        outcome: Outcome,
    },
    /// The main process ended.
    Exited(String),
}
