//! Routers of a local network in network namespaces of their own, joined by cables.
//!
//! ```text
//!   here (the test's own namespace)     plot 1 ── cable ── plot 2 ── cable ── plot 3
//! ```
//! Unlike in [`crate::lab`], whatever runs on a plot is started by hand. Plot N has
//! `2001:db8:N::1` for itself and `fe80::N` on each cable, here is number 99. Namespaces end with
//! their last process, so a yard needs no cleaning up.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::unistd::Pid;

use crate::home::Home;
use crate::inside;
use crate::lab::{Holder, Kind};
use crate::runner::Place;
use crate::until::until;

/// The name of the test's own namespace.
pub const HERE: &str = "here";

/// What is set before there are interfaces: packets pass through, and an address can be used at
/// once, for nobody else is on these cables.
const SETTINGS: &str = "ip link set lo up
    cd /proc/sys/net/ipv6/conf
    echo 1 > all/forwarding; echo 0 > default/accept_dad; echo 0 > all/accept_dad";

/// Some plots.
#[derive(Debug)]
pub struct Yard {
    names: Vec<String>,
    /// Processes that hold the namespaces open.
    holders: Vec<Holder>,
    folder: PathBuf,
    programs: PathBuf,
}

impl Yard {
    /// Builds plots with these names, numbered from one.
    ///
    /// # Errors
    /// A namespace cannot be made.
    pub fn new(place: &Place, names: &[&str]) -> anyhow::Result<Self> {
        let mut yard = Self {
            names: Vec::new(),
            holders: Vec::new(),
            folder: place.folder.clone(),
            programs: place.programs.clone(),
        };
        yard.shell(HERE, SETTINGS)?;
        for name in names {
            yard.build(name)?;
        }
        Ok(yard)
    }

    /// Returns a file of this yard.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Returns a program of ours.
    pub fn program(&self, name: &str) -> String {
        self.programs.join(name).to_string_lossy().into_owned()
    }

    /// Returns a home on a plot; its folder comes to lie in the yard's.
    ///
    /// # Errors
    /// There is no such plot.
    pub fn home(&self, plot: &str) -> anyhow::Result<Home> {
        let holder = self.holder(plot)?.to_string();
        let entry = ["nsenter", "-t", &holder, "-n", "--"].map(str::to_owned);
        let home = Home::new(plot, self.file(plot), &self.programs);
        Ok(home.entered_by(entry.to_vec()))
    }

    /// Returns a plot's number.
    ///
    /// # Errors
    /// There is no such plot.
    pub fn number(&self, plot: &str) -> anyhow::Result<usize> {
        if plot == HERE {
            return Ok(99);
        }
        let at = self.names.iter().position(|name| name == plot);
        Ok(at.with_context(|| format!("no plot {plot}"))? + 1)
    }

    /// Returns a plot's own address.
    ///
    /// # Errors
    /// There is no such plot.
    pub fn address(&self, plot: &str) -> anyhow::Result<String> {
        Ok(format!("2001:db8:{}::1", self.number(plot)?))
    }

    /// Lays a cable between two interfaces, each a plot and a name that is new there.
    ///
    /// # Errors
    /// An interface cannot be made.
    pub fn cable(&self, near: (&str, &str), far: (&str, &str)) -> anyhow::Result<()> {
        let (a, b) = (near.1, far.1);
        let holder = self.network(far.0)?.unwrap_or_else(Pid::this);
        self.shell(
            near.0,
            &format!("ip link add name {a} type veth peer name {b} netns {holder}"),
        )?;
        self.raise(near)?;
        self.raise(far)
    }

    /// Takes a cable out at one end: both ends lose their carrier.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn pull(&self, (plot, interface): (&str, &str)) -> anyhow::Result<()> {
        self.shell(plot, &format!("ip link set dev {interface} down"))
    }

    /// Switches an interface on, with the only link-local address that it is to have.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn raise(&self, (plot, interface): (&str, &str)) -> anyhow::Result<()> {
        let number = self.number(plot)?;
        self.shell(
            plot,
            &format!(
                "ip link set dev {interface} addrgenmode none
                ip link set dev {interface} up
                ip address replace fe80::{number}/64 dev {interface} nodad"
            ),
        )
    }

    /// Runs lines of a shell on a plot.
    ///
    /// # Errors
    /// One of them fails.
    pub fn shell(&self, plot: &str, lines: &str) -> anyhow::Result<()> {
        self.ask(plot, lines).map(drop)
    }

    /// Runs lines of a shell on a plot and returns what they print.
    ///
    /// # Errors
    /// One of them fails.
    pub fn ask(&self, plot: &str, lines: &str) -> anyhow::Result<String> {
        inside::ask(self.network(plot)?, lines).with_context(|| format!("on {plot}"))
    }

    /// Starts a program on a plot; what it prints besides its standard output goes to a log.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, plot: &str, program: &str, words: &[String]) -> anyhow::Result<Child> {
        let name = program.rsplit('/').next().unwrap_or(program);
        let path = self.file(&format!("{plot}-{name}.log"));
        let log = File::options().create(true).append(true).open(path)?;
        let mut command = inside::command(self.network(plot)?, program);
        command.args(words).stderr(log);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command
            .spawn()
            .with_context(|| format!("cannot run {name}"))
    }

    /// Returns whether a plot's own address reaches another's.
    ///
    /// # Errors
    /// `ping` cannot be run.
    pub fn reaches(&self, from: &str, to: &str) -> anyhow::Result<bool> {
        let (from_address, to_address) = (self.address(from)?, self.address(to)?);
        let output = inside::command(self.network(from)?, "ping")
            .args(["-n", "-c1", "-W1", "-I", &from_address, &to_address])
            .output()
            .context("cannot run ping")?;
        Ok(output.status.success())
    }

    /// Waits until both of two plots reach each other.
    ///
    /// # Errors
    /// They do not in time.
    pub fn meet(&self, a: &str, b: &str, limit: Duration) -> anyhow::Result<()> {
        for (from, to) in [(a, b), (b, a)] {
            let what = format!("{from} reaches {to}");
            until(&what, limit, || Ok(self.reaches(from, to)?.then_some(())))?;
        }
        Ok(())
    }

    /// Returns how many routes of Babel and BIRD are in a plot's kernel; inside a prefix, if named.
    ///
    /// # Errors
    /// `ip` cannot be run.
    pub fn route_count(&self, plot: &str, within: Option<&str>) -> anyhow::Result<usize> {
        let root = within.map_or(String::new(), |prefix| format!("root {prefix}"));
        let said = self.ask(plot, &format!("ip -6 route show {root}"))?;
        let is_learned = |line: &&str| {
            let is_of = |word: &str| line.contains(word);
            (is_of(" proto babel") || is_of(" proto bird")) && !line.starts_with("unreachable")
        };
        Ok(said.lines().filter(is_learned).count())
    }

    /// Returns a process in a plot's network; none for the test's own.
    fn network(&self, plot: &str) -> anyhow::Result<Option<Pid>> {
        match plot {
            HERE => Ok(None),
            plot => self.holder(plot).map(Some),
        }
    }

    fn holder(&self, plot: &str) -> anyhow::Result<Pid> {
        let holder = self.holders.get(self.number(plot)? - 1);
        Ok(holder.context("a plot has a holder")?.pid)
    }

    fn build(&mut self, name: &str) -> anyhow::Result<()> {
        self.holders.push(Holder::start(Kind::Network)?);
        self.names.push(name.to_owned());
        let own = self.address(name)?;
        let number = self.number(name)?;
        ensure!(number < 99, "a yard has at most 98 plots");
        self.shell(name, SETTINGS)?;
        self.shell(name, &format!("ip address add {own}/128 dev lo"))
    }
}
