//! The package as its user meets it: installed by apt, started as the unit starts it, used,
//! rebooted under a running service, removed, purged.
//!
//! systemd is not needed: what the unit says of command line, user and capabilities is read from
//! the installed unit and done here, what it says of sandboxes is judged by its score. What removal
//! may leave is a list; anything else left behind is an error.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use mesh_tests::ground::software_cache;
use mesh_tests::until::until;

use super::succeed;
use super::tree::{Machine, Network, Tree};
use crate::unit;

/// How long an installed node may take until it tells that it is ready.
const READY_WAIT: Duration = Duration::from_secs(60);
/// How long a stopped or started node may take to have done it.
const SOON: Duration = Duration::from_secs(30);

/// Where the tree's node tells that it is ready.
const NOTIFY: &str = "/run/meshnode-told";
/// Where the installed unit lies.
const UNIT: &str = "lib/systemd/system/meshnode.service";

/// What makes systemd start it at boot.
const ENABLED: &str = "etc/systemd/system/multi-user.target.wants/meshnode.service";

/// What removal and purge may leave: the node's folder, its user, and what apt and dpkg write down.
const MAY_STAY: [&str; 9] = [
    "/var/lib/meshstead",
    "/var/lib/dpkg/",
    "/var/lib/apt/",
    "/var/cache/",
    "/var/log/",
    "/etc/passwd",
    "/etc/group",
    "/etc/shadow",
    "/etc/gshadow",
];

/// What was seen of a package.
#[derive(Debug)]
pub struct Seen {
    /// From the unit's command line to its word that it is ready.
    ready: Duration,
    /// From a machine without power to the same service answering; none if there was no software to
    /// order.
    back: Option<Duration>,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ready = self.ready.as_millis();
        write!(f, "installed, ready {ready} ms after the unit's line")?;
        match self.back {
            Some(back) => {
                let back = back.as_secs_f64();
                write!(f, ", service back {back:.1} s after a reboot")?;
            }
            None => write!(f, ", nothing ordered: no software in the cache")?,
        }
        write!(f, ", nothing left after purge")
    }
}

/// Tries a package out in a tree.
pub fn run(package: &Path, tree: &Tree) -> anyhow::Result<Seen> {
    let before = install(package, tree)?;
    let service = Service::of(tree)?;

    let machine = Machine::boot(tree, Network::Own)?;
    service.found(&machine)?;
    let ready = service.start(&machine, tree)?;
    let status = machine.run(&["meshnode", "status"])?;
    ensure!(
        status.contains("bakery"),
        "not the status of a node:\n{status}"
    );
    machine.run(&["meshctl", "status"])?;
    let back = match take_software(&software_cache(), &service.software(tree))? {
        Software::Nowhere => {
            machine.pull();
            None
        }
        Software::Taken => Some(service.survives_reboot(machine, tree)?),
    };
    remove(tree, &before)?;
    Ok(Seen { ready, back })
}

/// Installs the package, twice: the second time is an upgrade. Returns the files that were there
/// before it, but after what it depends on.
fn install(package: &Path, tree: &Tree) -> anyhow::Result<BTreeSet<String>> {
    let machine = Machine::boot(tree, Network::Host)?;
    fs::copy(package, tree.path.join("root/meshnode.deb")).context("cannot copy the package")?;
    machine.run(&["sh", "-ec", DEPENDENCIES])?;
    let before = tree.files()?.into_iter().collect();
    machine.run(&["sh", "-ec", INSTALL])?;
    ensure!(
        tree.path.join(ENABLED).is_symlink(),
        "the unit is not started at boot"
    );
    Ok(before)
}

const DEPENDENCIES: &str = "
    wanted=$(dpkg-deb -f /root/meshnode.deb Depends | sed 's/([^)]*)//g; s/,/ /g; s/|.*//')
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends $wanted";

const INSTALL: &str = "
    apt-get install -y -qq --no-install-recommends /root/meshnode.deb
    dpkg -i /root/meshnode.deb";

/// Removes and purges the package, and looks for what it left.
fn remove(tree: &Tree, before: &BTreeSet<String>) -> anyhow::Result<()> {
    let machine = Machine::boot(tree, Network::Own)?;
    machine.run(&["dpkg", "--remove", "meshnode"])?;
    ensure!(
        !tree.path.join("usr/bin/meshnode").exists(),
        "the program is still there"
    );
    machine.run(&["dpkg", "--purge", "meshnode"])?;
    let is_lawful = |file: &str| MAY_STAY.iter().any(|stays| file.starts_with(stays));
    let left: Vec<String> = tree
        .files()?
        .into_iter()
        .filter(|file| !before.contains(file) && !is_lawful(file))
        .collect();
    ensure!(left.is_empty(), "purge leaves {}", left.join(", "));
    ensure!(
        tree.path.join("var/lib/meshstead/keys/node.key").exists(),
        "purge took the node's keys"
    );
    Ok(())
}

/// The service that the installed unit describes.
#[derive(Debug)]
struct Service {
    line: String,
    user: String,
    home: String,
    bounding: String,
    ambient: String,
}

impl Service {
    /// Reads the installed unit.
    fn of(tree: &Tree) -> anyhow::Result<Self> {
        let text = fs::read_to_string(tree.path.join(UNIT)).context("the package has no unit")?;
        let value = |name: &str| {
            let value = unit::value(&text, name).map(str::to_owned);
            value.with_context(|| format!("the unit does not say {name}"))
        };
        let home = value("Environment")?;
        let home = home.strip_prefix("MESHSTEAD_HOME=");
        Ok(Self {
            line: value("ExecStart")?,
            user: value("User")?,
            home: home.context("the unit names no home")?.to_owned(),
            bounding: capabilities(&value("CapabilityBoundingSet")?),
            ambient: capabilities(&value("AmbientCapabilities")?),
        })
    }

    /// Founds an organisation as root does, and hands the folder over as StateDirectory does.
    fn found(&self, machine: &Machine) -> anyhow::Result<()> {
        machine.run(&["meshnode", "init", "--org", "bakery"])?;
        let owner = format!("{0}:{0}", self.user);
        machine.run(&["chown", "-R", &owner, &self.home])?;
        Ok(())
    }

    /// Starts the node by the unit's own line, as its user, with its capabilities. Returns how long
    /// it took to say that it is ready.
    fn start(&self, machine: &Machine, tree: &Tree) -> anyhow::Result<Duration> {
        // The machine's own /run, as the node sees it; from here it is behind process 1.
        let socket = machine.path(NOTIFY);
        let told = UnixDatagram::bind(&socket).context("cannot listen for the node's word")?;
        told.set_nonblocking(true)?;
        machine.run(&["chmod", "0666", NOTIFY])?;
        let log = tree.path.join("root/meshnode.log");
        let output = fs::File::create(&log).context("cannot make a log")?;
        let mut command = machine.command(&["setpriv"]);
        command
            .arg(format!("--reuid={}", self.user))
            .arg(format!("--regid={}", self.user))
            .arg("--clear-groups")
            .arg(format!("--inh-caps=-all{}", self.ambient))
            .arg(format!("--ambient-caps=-all{}", self.ambient))
            .arg(format!("--bounding-set=-all{}", self.bounding))
            .args(["--no-new-privs", "--"])
            .args(self.line.split(' '))
            .env("MESHSTEAD_HOME", &self.home)
            .env("NOTIFY_SOCKET", NOTIFY)
            .stdout(output.try_clone()?)
            .stderr(output);
        let start = Instant::now();
        let mut node = command.spawn().context("cannot start the node")?;
        let ready = until("the node is ready", READY_WAIT, || {
            let mut word = [0; 256];
            let said = told.recv(&mut word).ok().and_then(|len| word.get(..len));
            if let Some(status) = node.try_wait()? {
                bail!("it ended: {status}");
            }
            Ok(said.filter(|said| said.starts_with(b"READY=1")).map(drop))
        });
        let took = start.elapsed();
        fs::remove_file(&socket).context("cannot stop listening")?;
        ready.with_context(|| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            format!("`{}` in the tree says\n{said}", self.line)
        })?;
        fs::remove_file(&log).context("cannot remove the log")?;
        Ok(took)
    }

    /// Where the node in the tree has its software.
    fn software(&self, tree: &Tree) -> PathBuf {
        let home = tree.path.join(self.home.trim_start_matches('/'));
        home.join("software")
    }

    /// Orders a database, pulls the plug, starts the machine again by the unit's line, and asks the
    /// database. Returns how long it was from the start of the machine to the answer.
    fn survives_reboot(&self, machine: Machine, tree: &Tree) -> anyhow::Result<Duration> {
        let owner = format!("{0}:{0}", self.user);
        machine.run(&["chown", "-R", &owner, &self.home])?;
        machine.run(&["meshctl", "order", "postgres", "--name", "crm-db"])?;
        let url = machine.run(&["meshctl", "show", "crm-db", "--field", "url"])?;
        ask(&machine, url.trim(), "create table t as select 7 as i")?;
        machine.pull();

        let start = Instant::now();
        let machine = Machine::boot(tree, Network::Own)?;
        self.start(&machine, tree)?;
        let seven = until("the database answers after a reboot", SOON, || {
            Ok(ask(&machine, url.trim(), "select i from t").ok())
        })?;
        let took = start.elapsed();
        ensure!(seven.trim() == "7", "the database lost its row: {seven}");
        machine.run(&["meshctl", "destroy", "crm-db", "--yes"])?;
        Ok(took)
    }
}

/// Whether there is something to order.
#[derive(Debug, PartialEq, Eq)]
enum Software {
    /// It is in the tree.
    Taken,
    /// This machine has none either: fetching it is the business of other tests.
    Nowhere,
}

/// Brings this machine's software into the tree. What is there must arrive: a trial without it has
/// seen less.
fn take_software(cache: &Path, target: &Path) -> anyhow::Result<Software> {
    if !cache.try_exists().context("no look at the software")? {
        return Ok(Software::Nowhere);
    }
    let mut copy = Command::new("cp");
    copy.args(["--archive", "--reflink=auto", "--no-target-directory"]);
    succeed(copy.args([cache, target]))?;
    Ok(Software::Taken)
}

/// Asks the database with the client of the host, which is in the machine's network for it.
fn ask(machine: &Machine, url: &str, question: &str) -> anyhow::Result<String> {
    let words = [
        "psql",
        "-X",
        "-At",
        "-v",
        "ON_ERROR_STOP=1",
        url,
        "-c",
        question,
    ];
    machine.beside(&words)
}

/// Returns a unit's capabilities as setpriv wants them: `CAP_NET_ADMIN` as `,+net_admin`.
fn capabilities(of_unit: &str) -> String {
    of_unit
        .split_whitespace()
        .map(|name| {
            let name = name.strip_prefix("CAP_").unwrap_or(name);
            format!(",+{}", name.to_lowercase())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_of_a_unit_are_those_of_setpriv() {
        assert_eq!(
            capabilities("CAP_NET_ADMIN CAP_SETUID"),
            ",+net_admin,+setuid"
        );
        assert_eq!(capabilities(""), "");
    }

    #[test]
    fn software_that_is_there_must_arrive() {
        let top = tempfile::tempdir().unwrap();
        let [cache, target] = ["cache", "target"].map(|name| top.path().join(name));
        let taken = take_software(&cache, &target).unwrap();
        assert_eq!(taken, Software::Nowhere);
        fs::create_dir(&cache).unwrap();
        fs::write(cache.join("card"), "7").unwrap();
        let taken = take_software(&cache, &target).unwrap();
        assert_eq!(taken, Software::Taken);
        assert_eq!(fs::read(target.join("card")).unwrap(), b"7");
        // As on a full disk.
        take_software(&cache, &top.path().join("no/target")).unwrap_err();
    }
}
