//! Homes in network namespaces of their own, joined by a street.
//!
//! ```text
//!      street (a bridge in the test's own namespace, 10.77.0.0/24)
//!    ┌────┴─────┬───────────┬───────────┐
//!   v1         v2          v3          v4      the street's ends: pulled down to cut a home off
//!    │          │           │           │
//!  eth0       eth0        eth0        eth0     10.77.0.1 … 10.77.0.N
//!  home 1     home 2      home 3      home 4
//! ```
//! Or homes behind routers of all kinds, joined by an Internet: see [`crate::nat_router`].
//!
//! A home is a network of its own, or a whole machine that can be pulled from its plug: processes
//! and mounts of its own too, all gone at once, while its disk stays. The test is root in a user
//! namespace of its own, and needs no more: see [`crate::ground`]. Namespaces end with their last
//! process, so a lab needs no cleaning up.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::home::Home;
use crate::nat::{NatKind, Traits};
use crate::nat_router::{self, Router, make_internet};
use crate::processes;
use crate::until::until;

/// Most homes on a street: what its /24 can number.
const HOMES_MAX: usize = 250;

/// How long a namespace may take to come or to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a home has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A network.
    Network,
    /// A network, processes and mounts.
    Machine,
}

/// A street of homes.
#[derive(Debug)]
pub struct Lab {
    kind: Kind,
    homes: Vec<Home>,
    /// Processes that hold the homes' namespaces open.
    holders: Vec<Holder>,
    /// What leads homes to the Internet, and which of them leads each; none on a street.
    routers: Vec<Router>,
    behind: Vec<usize>,
}

impl Lab {
    /// Builds a street of homes with these names; their folders come to lie in `folder`.
    ///
    /// # Errors
    /// A namespace or a link cannot be made.
    pub fn new(names: &[&str], folder: &Path, programs: &Path) -> anyhow::Result<Self> {
        Self::of(Kind::Network, names, folder, programs)
    }

    /// Builds a street of homes that can be pulled from their plugs.
    ///
    /// # Errors
    /// A namespace or a link cannot be made.
    pub fn of_machines(names: &[&str], folder: &Path, programs: &Path) -> anyhow::Result<Self> {
        Self::of(Kind::Machine, names, folder, programs)
    }

    fn of(kind: Kind, names: &[&str], folder: &Path, programs: &Path) -> anyhow::Result<Self> {
        ensure!(
            names.len() <= HOMES_MAX,
            "a street has at most {HOMES_MAX} homes"
        );
        ip("link set lo up")?;
        ip("link add street type bridge")?;
        ip("link set street up")?;
        let mut lab = Self {
            kind,
            homes: Vec::new(),
            holders: Vec::new(),
            routers: Vec::new(),
            behind: Vec::new(),
        };
        for (number, name) in (1..).zip(names) {
            lab.build(name, folder.join(name), programs)?;
            wire(number, lab.holder(name)?, lab.home(name)?)?;
        }
        Ok(lab)
    }

    /// Builds homes, each behind a router of its kind, on an Internet instead of a street.
    ///
    /// # Errors
    /// A namespace, a link or a rule cannot be made.
    pub fn behind(
        homes: &[(&str, NatKind)],
        folder: &Path,
        programs: &Path,
    ) -> anyhow::Result<Self> {
        let boxes: Vec<_> = homes
            .iter()
            .map(|(name, kind)| (*name, kind.boxes()))
            .collect();
        Self::behind_boxes(&boxes, folder, programs)
    }

    /// Builds homes, each behind these boxes, from the home outwards.
    ///
    /// # Errors
    /// A namespace, a link or a rule cannot be made.
    pub fn behind_boxes(
        homes: &[(&str, Vec<Traits>)],
        folder: &Path,
        programs: &Path,
    ) -> anyhow::Result<Self> {
        let most = usize::from(nat_router::HOMES_MAX);
        ensure!(homes.len() <= most, "an Internet has at most {most} homes");
        make_internet()?;
        let mut lab = Self {
            kind: Kind::Network,
            homes: Vec::new(),
            holders: Vec::new(),
            routers: Vec::new(),
            behind: Vec::new(),
        };
        for (number, (name, boxes)) in (1..).zip(homes) {
            lab.build(name, folder.join(name), programs)?;
            let router = Router::new(boxes, number, lab.holder(name)?);
            lab.behind.push(lab.routers.len());
            lab.routers
                .push(router.with_context(|| format!("cannot lead {name} out"))?);
        }
        Ok(lab)
    }

    /// Returns what leads a home to the Internet.
    ///
    /// # Errors
    /// There is no such home, or it stands on a street.
    pub fn router(&self, name: &str) -> anyhow::Result<&Router> {
        let at = self.behind.get(self.number(name)? - 1);
        let router = at.and_then(|at| self.routers.get(*at));
        router.with_context(|| format!("{name} stands on a street"))
    }

    /// Puts another machine beside `name`, behind the same router.
    ///
    /// # Errors
    /// `name` stands on a street or in the open.
    pub fn add_beside(
        &mut self,
        name: &str,
        new: &str,
        folder: &Path,
        programs: &Path,
    ) -> anyhow::Result<()> {
        let at = self.behind.get(self.number(name)? - 1).copied();
        let at = at.with_context(|| format!("{name} stands on a street"))?;
        self.build(new, folder.join(new), programs)?;
        self.behind.push(at);
        let machine = self.holder(new)?;
        let router = self.routers.get_mut(at).context("a home has a router")?;
        router.admit(machine)
    }

    /// Gives the home of `name` another public address. Returns it.
    ///
    /// # Errors
    /// It stands on a street.
    pub fn renumber(&mut self, name: &str) -> anyhow::Result<Ipv4Addr> {
        let at = self.behind.get(self.number(name)? - 1);
        let router = at.and_then(|at| self.routers.get_mut(*at));
        let router = router.with_context(|| format!("{name} stands on a street"))?;
        router.renumber()
    }

    /// Returns a home by its name.
    ///
    /// # Errors
    /// There is no such home.
    pub fn home(&self, name: &str) -> anyhow::Result<&Home> {
        let home = self.homes.iter().find(|home| home.name == name);
        home.with_context(|| format!("{name} is not on this street"))
    }

    /// Cuts a home off; behind a router, with all that are beside it.
    ///
    /// # Errors
    /// Its link cannot be changed.
    pub fn cut(&self, name: &str) -> anyhow::Result<()> {
        ip(&format!("link set {} down", self.end_of(name)?))
    }

    /// Joins a home again.
    ///
    /// # Errors
    /// Its link cannot be changed.
    pub fn heal(&self, name: &str) -> anyhow::Result<()> {
        ip(&format!("link set {} up", self.end_of(name)?))
    }

    /// Returns a home's address on the street, or the one that the Internet knows.
    ///
    /// # Errors
    /// There is no such home.
    pub fn address(&self, name: &str) -> anyhow::Result<Ipv4Addr> {
        if let Ok(router) = self.router(name) {
            return Ok(router.address());
        }
        let number = u8::try_from(self.number(name)?).context("a street has few homes")?;
        Ok(Ipv4Addr::new(10, 77, 0, number))
    }

    /// Returns the process that holds a home's namespace open.
    ///
    /// # Errors
    /// There is no such home.
    pub fn holder(&self, name: &str) -> anyhow::Result<Pid> {
        let holder = self.holders.get(self.number(name)? - 1);
        Ok(holder.context("a home has a holder")?.pid)
    }

    /// Pulls a machine from its plug: every process ends at once, its mounts and interfaces go.
    ///
    /// # Errors
    /// There is no such machine, or it does not go.
    pub fn pull(&mut self, name: &str) -> anyhow::Result<()> {
        let number = self.number(name)?;
        ensure!(self.kind == Kind::Machine, "{name} is no machine");
        let holder = self.holders.get_mut(number - 1);
        holder.context("a machine has a holder")?.pull()?;
        // Its end of the cable goes with its network, which the kernel clears a little later.
        until("the machine's network is gone", PATIENCE, || {
            Ok(ip(&format!("link show v{number}")).is_err().then_some(()))
        })
    }

    /// Boots a machine that was pulled: no process of a node runs there yet.
    ///
    /// # Errors
    /// A namespace or a link cannot be made.
    pub fn boot(&mut self, name: &str) -> anyhow::Result<()> {
        let number = self.number(name)?;
        let home = self.home(name)?.clone();
        let holder = Holder::start(self.kind)?;
        holder.lead_to(&home.folder)?;
        wire(number, holder.pid, &home)?;
        let place = self.holders.get_mut(number - 1);
        *place.context("a machine has a holder")? = holder;
        Ok(())
    }

    /// The street's or the Internet's end of a home's cable.
    fn end_of(&self, name: &str) -> anyhow::Result<String> {
        let number = self.number(name)?;
        Ok(self
            .router(name)
            .map_or_else(|_| format!("v{number}"), Router::street))
    }

    fn number(&self, name: &str) -> anyhow::Result<usize> {
        let at = self.homes.iter().position(|home| home.name == name);
        Ok(at.with_context(|| format!("{name} is not on this street"))? + 1)
    }

    fn build(&mut self, name: &str, folder: PathBuf, programs: &Path) -> anyhow::Result<()> {
        let holder = Holder::start(self.kind)?;
        holder.lead_to(&folder)?;
        let way = |space: &str| format!("{}/{space}", way_into(&folder).display());
        let mut entry = vec!["nsenter".to_owned(), format!("--net={}", way("net"))];
        if self.kind == Kind::Machine {
            entry.push(format!("--pid={}", way("pid")));
            entry.push(format!("--mount={}", way("mnt")));
        }
        entry.push("--".to_owned());
        self.homes
            .push(Home::new(name, folder, programs).entered_by(entry));
        self.holders.push(holder);
        Ok(())
    }
}

/// A process that holds namespaces open; it ends with its lab or yard.
#[derive(Debug)]
pub(crate) struct Holder {
    child: Child,
    /// A process inside, as seen by the test; of a machine its process 1.
    pub(crate) pid: Pid,
}

impl Holder {
    /// Makes the namespaces; they are there when this returns.
    pub(crate) fn start(kind: Kind) -> anyhow::Result<Self> {
        let mut command = Command::new("unshare");
        command.arg("--net");
        match kind {
            Kind::Network => command.args(["--", "sleep", "infinity"]),
            Kind::Machine => command
                .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
                // Process 1 buries orphans.
                .args(["--", "sh", "-c", "sleep infinity & wait"]),
        };
        let child = command
            .stdin(Stdio::null())
            // It has words for its end too, which is ours.
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run unshare")?;
        let mut holder = Self {
            pid: Pid::from_raw(child.id().cast_signed()),
            child,
        };
        let own = |space: &str| fs::read_link(format!("/proc/self/ns/{space}"));
        let (net, mnt) = (own("net")?, own("mnt")?);
        holder.pid = until("a home of its own", PATIENCE, || {
            let pid = match kind {
                Kind::Network => Some(holder.pid),
                Kind::Machine => processes::children(holder.pid).first().copied(),
            };
            let Some(pid) = pid else { return Ok(None) };
            let of = |space: &str| fs::read_link(format!("/proc/{pid}/ns/{space}"));
            let has_net = of("net").is_ok_and(|of| of != net);
            // The last that `unshare` does before it becomes the command is to mount /proc.
            let is_whole = kind == Kind::Network
                || of("mnt").is_ok_and(|of| of != mnt) && processes::name(pid) == "sh";
            Ok((has_net && is_whole).then_some(pid))
        })?;
        Ok(holder)
    }

    /// Leads the way into a home to these namespaces.
    fn lead_to(&self, folder: &Path) -> anyhow::Result<()> {
        let way = way_into(folder);
        if way.is_symlink() {
            fs::remove_file(&way).context("cannot turn the way into a home")?;
        }
        let target = format!("/proc/{}/ns", self.pid);
        std::os::unix::fs::symlink(target, way).context("cannot make a way into a home")
    }

    fn pull(&mut self) -> anyhow::Result<()> {
        kill(self.pid, Signal::SIGKILL).context("cannot pull the plug")?;
        // Its parent learns of process 1's end when all others of the machine are dead.
        self.child.wait().context("cannot wait for the end")?;
        Ok(())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It may have gone already; then there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the way into a home lies: beside its folder, which is its node's.
fn way_into(folder: &Path) -> PathBuf {
    folder.with_extension("way")
}

/// Lays the cable between a home and the street.
fn wire(number: usize, pid: Pid, home: &Home) -> anyhow::Result<()> {
    ip(&format!(
        "link add v{number} type veth peer name eth0 netns {pid}"
    ))?;
    ip(&format!("link set v{number} master street up"))?;
    home.ip("link set lo up")?;
    home.ip(&format!("address add 10.77.0.{number}/24 dev eth0"))?;
    home.ip("link set eth0 up")
}

/// Runs `ip` with words separated by spaces.
fn ip(words: &str) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(words.split(' '))
        .stdin(Stdio::null())
        .output()
        .context("cannot run ip")?;
    if !output.status.success() {
        bail!(
            "ip {words}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
