//! Which namespaces and which user a test runs under, and how it gets there.
//!
//! A test is a process of its own, reached through a chain of util-linux commands. Every chain ends
//! the same way: `init` is process 1 of a process namespace, so whatever the test leaves behind
//! ends with it, even if the runner is killed.
//!
//! ```text
//! started by root:      unshare(mount, net, pid) → init → test                          Root
//!                       unshare(mount, net, pid) → init → setpriv → test                User
//!                       unshare(mount, pid) → init → setpriv → unshare(user, …) → test  Lab
//! started by a user:    unshare(user, mount, net, pid) → init → test                    Root, Lab
//!                       unshare(user, …) → init → unshare(user) → test                  User
//! ```

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, chown};

/// Whom the tests of ordinary users run as when root runs them: a number that nobody has.
const NOBODY_IN_PARTICULAR: u32 = 31_337;

/// Where a test stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ground {
    /// Root in a user namespace of its own, whoever runs the tests: free to build networks.
    Lab,
    /// Root, in a network namespace of its own; real root if root runs the tests.
    Root,
    /// An ordinary user without any right, in a network namespace of its own.
    User,
}

/// Which network a test has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// One of its own, with nothing in it.
    Own,
    /// The machine's, to fetch software.
    Machine,
}

/// What the chain needs to know.
#[derive(Debug, Clone)]
pub struct Stage {
    /// A folder that every user of the tests can enter.
    pub folder: PathBuf,
}

impl Stage {
    /// Returns the folder of the programs.
    pub fn programs(&self) -> PathBuf {
        self.folder.join("bin")
    }

    /// Returns where the cache of unpacked software appears inside.
    pub fn software(&self) -> PathBuf {
        self.folder.join("software")
    }

    fn runner(&self) -> PathBuf {
        self.programs().join("it")
    }
}

impl Ground {
    /// Returns the command that runs `test` of our own binary on this ground.
    pub fn command(self, network: Network, stage: &Stage, test: &str) -> Command {
        let runner = stage.runner().to_string_lossy().into_owned();
        let mut words: Vec<String> = Vec::new();
        let mut add = |text: &str| words.extend(text.split(' ').map(str::to_owned));
        // The chain ends with the runner, however that ends.
        add("setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --mount-proc");
        let is_root = is_real_root();
        let is_apart = network == Network::Own && !(is_root && self == Self::Lab);
        if is_apart {
            add("--net");
        }
        if !is_root {
            add("--user --map-root-user");
        }
        add(&runner);
        add(if is_apart { "--init-apart" } else { "--init" });
        let number = NOBODY_IN_PARTICULAR;
        let drop = format!("setpriv --reuid {number} --regid {number} --clear-groups");
        match (self, is_root) {
            (Self::Root, _) | (Self::Lab, false) => {}
            (Self::User, true) => add(&drop),
            (Self::User, false) => add("unshare --user --map-user=1000 --map-group=1000"),
            (Self::Lab, true) => {
                add(&drop);
                add("unshare --user --map-root-user --mount --net");
            }
        }
        add(&runner);
        add("--inside");
        add(test);
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).stdin(Stdio::null());
        command.env("MESHSTEAD_TEST_STAGE", &stage.folder);
        command.env("MESHSTEAD_TEST_SOFTWARE", self.software_cache());
        command.env("MESHSTEAD_SOFTWARE_DIR", stage.software());
        command.env("LC_ALL", "C.UTF-8");
        if network == Network::Machine {
            // A node that is here to fetch software bothers neither this network nor its router.
            command.env("MESHSTEAD_REACH_PORT_MAPPING", "off");
            command.env("MESHSTEAD_NETWORK_MDNS", "off");
        }
        command
    }

    /// Makes a folder that belongs to whom the test runs as.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make_folder(self, path: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        if is_real_root() && self != Self::Root {
            let (uid, gid) = (
                Uid::from(NOBODY_IN_PARTICULAR),
                Gid::from(NOBODY_IN_PARTICULAR),
            );
            chown(path, Some(uid), Some(gid)).context("cannot give a folder away")?;
        }
        Ok(())
    }

    /// Returns where unpacked software is kept between runs, outside.
    pub fn software_cache(self) -> PathBuf {
        let is_given_away = is_real_root() && self != Self::Root;
        user_cache().join(if is_given_away {
            "meshstead/software-user"
        } else {
            SOFTWARE
        })
    }
}

/// Where this user's unpacked software is kept, in the user's cache.
const SOFTWARE: &str = "meshstead/software";

/// Returns where this user's unpacked software is kept between runs.
pub fn software_cache() -> PathBuf {
    user_cache().join(SOFTWARE)
}

/// Returns this user's folder of caches.
pub fn user_cache() -> PathBuf {
    match (env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
        (Some(cache), _) if !cache.is_empty() => PathBuf::from(cache),
        (_, Some(home)) => PathBuf::from(home).join(".cache"),
        _ => env::temp_dir(),
    }
}

fn is_real_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Is process 1 of a test's namespaces: prepares them, runs the next command of the chain, buries
/// orphans, and ends with the command's code, which ends everything that is left.
///
/// # Errors
/// The namespaces cannot be prepared or the command cannot be run.
pub fn init(is_apart: bool, next: &[OsString]) -> anyhow::Result<i32> {
    if is_apart {
        run("ip", &["link", "set", "lo", "up"].map(OsStr::new))?;
    }
    let variable = |name| env::var_os(name).with_context(|| format!("{name} is not set"));
    let inside = Stage {
        folder: variable("MESHSTEAD_TEST_STAGE")?.into(),
    }
    .software();
    let outside = variable("MESHSTEAD_TEST_SOFTWARE")?;
    // A folder that another user may not reach by its own path is reached by this one.
    run(
        "mount",
        &[OsStr::new("--bind"), &outside, inside.as_os_str()],
    )?;
    let (program, arguments) = next.split_first().context("nothing to run")?;
    let child = Command::new(program)
        .args(arguments)
        .spawn()
        .context("cannot go on")?;
    let child = Pid::from_raw(i32::try_from(child.id()).context("not a process id")?);
    loop {
        match waitpid(None::<Pid>, None).context("cannot wait")? {
            WaitStatus::Exited(pid, code) if pid == child => return Ok(code),
            WaitStatus::Signaled(pid, signal, _) if pid == child => bail!("ended by {signal}"),
            _ => {}
        }
    }
}

fn run(program: &str, arguments: &[&OsStr]) -> anyhow::Result<()> {
    let status = Command::new(program)
        .args(arguments)
        .status()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(status.success(), "{program} {arguments:?} failed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(ground: Ground, network: Network) -> String {
        let stage = Stage {
            folder: "/stage".into(),
        };
        let command = ground.command(network, &stage, "name");
        let words = command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned());
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_chain_ends_inside_the_test() {
        for ground in [Ground::Lab, Ground::Root, Ground::User] {
            for network in [Network::Own, Network::Machine] {
                assert!(words(ground, network).ends_with("/stage/bin/it --inside name"));
            }
        }
    }

    #[test]
    fn nodes_in_the_machines_network_speak_to_nobody_beside_it() {
        let stage = Stage {
            folder: "/stage".into(),
        };
        let is_off = |network: Network, name: &str| {
            let command = Ground::User.command(network, &stage, "name");
            command
                .get_envs()
                .any(|(key, value)| key == name && value.is_some_and(|value| value == "off"))
        };
        for name in ["MESHSTEAD_REACH_PORT_MAPPING", "MESHSTEAD_NETWORK_MDNS"] {
            assert!(is_off(Network::Machine, name), "{name}");
            assert!(!is_off(Network::Own, name), "{name}");
        }
    }

    #[test]
    fn machine_network_is_shared_only_when_asked_for() {
        for ground in [Ground::Root, Ground::User] {
            assert!(words(ground, Network::Own).contains("--net"));
            assert!(!words(ground, Network::Machine).contains("--net"));
        }
    }
}
