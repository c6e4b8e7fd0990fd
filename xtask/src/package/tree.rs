//! A bare Debian tree, and machines that run in it.
//!
//! A machine is what namespaces make of a tree: files, processes and mounts of its own, on demand a
//! network of its own. It ends as a machine does whose plug is pulled: all processes at once, its
//! mounts and interfaces with them; the disk, which is the tree, stays. Nothing here knows the
//! product.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use mesh_tests::ground::user_cache;
use mesh_tests::until::until;

use super::succeed;

/// The release that the package is made for.
const RELEASE: &str = "bookworm";

/// How long a machine may take to have its namespaces and mounts.
const BOOT_WAIT: Duration = Duration::from_secs(10);

/// A Debian tree.
#[derive(Debug)]
pub struct Tree {
    /// Its top.
    pub path: PathBuf,
    /// Removed with the tree if it is ours.
    _own: Option<tempfile::TempDir>,
}

impl Tree {
    /// Takes the caller's tree.
    pub fn at(path: &Path) -> anyhow::Result<Self> {
        ensure!(
            path.join("var/lib/dpkg").is_dir(),
            "{} is not a Debian tree; make one: debootstrap --variant=minbase {RELEASE} TREE",
            path.display()
        );
        Ok(Self {
            path: path.to_owned(),
            _own: None,
        })
    }

    /// Copies the bare tree of the cache, which is made if it is not there.
    pub fn fresh() -> anyhow::Result<Self> {
        let folder = user_cache().join("meshstead/debian");
        let bare = folder.join(RELEASE);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        sweep(&folder, SystemTime::now())?;
        if !bare.is_dir() {
            make(&folder, &bare)?;
        }
        let own = own_folder(&folder)?;
        let path = own.path().join("tree");
        succeed(
            Command::new("cp")
                .args(["--archive", "--reflink=auto"])
                .args([&bare, &path]),
        )?;
        Ok(Self {
            path,
            _own: Some(own),
        })
    }

    /// Lists every file of the tree.
    pub fn files(&self) -> anyhow::Result<Vec<String>> {
        let output = Command::new("find")
            .arg(&self.path)
            .args(["-xdev", "-printf", "/%P\\n"])
            .output()
            .context("cannot run find")?;
        ensure!(output.status.success(), "cannot list the tree");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().map(str::to_owned).collect())
    }
}

/// What folders of one run are called.
const OWN: &str = "trial-";
/// After so long the run that made a folder is over, or it would have removed it.
const OWN_AGE_MAX: Duration = Duration::from_hours(24);

/// Makes a folder for one run, which removes it unless it is killed.
fn own_folder(folder: &Path) -> anyhow::Result<tempfile::TempDir> {
    let mut named = tempfile::Builder::new();
    named.prefix(OWN);
    named.tempdir_in(folder).context("no folder for a tree")
}

/// Removes what runs have left that were killed.
fn sweep(folder: &Path, now: SystemTime) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).context("cannot list the trees")? {
        let entry = entry.context("cannot list the trees")?;
        if !entry.file_name().to_string_lossy().starts_with(OWN) {
            continue;
        }
        // Another run may remove its own, or sweep too.
        let made = entry.metadata().and_then(|found| found.modified());
        let age = made.map(|made| now.duration_since(made).unwrap_or_default());
        if age.is_ok_and(|age| OWN_AGE_MAX < age)
            && let Err(error) = fs::remove_dir_all(entry.path())
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error).with_context(|| format!("cannot remove {}", entry.path().display()));
        }
    }
    Ok(())
}

/// Makes the bare tree under another name, so that what has its name is whole.
fn make(folder: &Path, bare: &Path) -> anyhow::Result<()> {
    println!("making a bare Debian tree, once, in {}", bare.display());
    let own = own_folder(folder)?;
    let partial = own.path().join("tree");
    fs::create_dir(&partial).context("cannot make the tree's folder")?;
    // In a container the folder may be mounted without devices, which debootstrap refuses.
    succeed(
        Command::new("unshare")
            .args(["--mount", "--", "sh", "-c", MAKE, "sh", RELEASE])
            .arg(&partial)
            .stdout(Stdio::null()),
    )?;
    name(&partial, bare)
}

/// Gives a tree its name, unless another run was first: then that one is as good.
fn name(tree: &Path, bare: &Path) -> anyhow::Result<()> {
    match fs::rename(tree, bare) {
        Err(_) if bare.is_dir() => Ok(()),
        named => named.context("cannot name the tree"),
    }
}

const MAKE: &str = "set -e
    mount --bind \"$2\" \"$2\"
    mount -o remount,bind,dev,suid,exec \"$2\"
    debootstrap --variant=minbase \"$1\" \"$2\"
    rm -rf \"$2\"/var/cache/apt/archives/*.deb";

/// Which network a machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// This machine's, to fetch packages.
    Host,
    /// One of its own: what it listens on, nobody else sees.
    Own,
}

/// A running machine; pulled from its plug when dropped.
#[derive(Debug)]
pub struct Machine {
    holder: Child,
    /// Its process 1, as seen from here.
    first: String,
}

impl Machine {
    /// Boots a machine from a tree: process 1 and nothing else.
    pub fn boot(tree: &Tree, network: Network) -> anyhow::Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child"]);
        let boot = match network {
            Network::Host => BOOT.to_owned(),
            Network::Own => {
                command.arg("--net");
                format!("ip link set lo up\n{BOOT}")
            }
        };
        let holder = command
            .args(["--", "sh", "-ec", &boot, "sh"])
            .arg(&tree.path)
            .stdin(Stdio::null())
            // It has words for its end too, which is ours; only those of a failed boot are shown.
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run unshare")?;
        let children = format!("/proc/{0}/task/{0}/children", holder.id());
        let mut machine = Self {
            holder,
            first: String::new(),
        };
        let booted = until("the machine has booted", BOOT_WAIT, || {
            if let Some(status) = machine.holder.try_wait()? {
                bail!("it ended: {status}");
            }
            let first = fs::read_to_string(&children).unwrap_or_default();
            let first = first.trim().to_owned();
            // Its last word, in a folder that only this machine has.
            let booted = Path::new("/proc").join(&first).join("root/run/booted");
            Ok((!first.is_empty() && booted.exists()).then_some(first))
        });
        match booted {
            Ok(first) => machine.first = first,
            Err(error) => return Err(error.context(machine.last_words())),
        }
        Ok(machine)
    }

    /// Returns a command that runs on this machine, with a bare environment.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.first, "-m", "-p", "-n", "--"])
            .args(words)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null());
        command
    }

    /// Returns how a path of this machine is reached from here.
    pub fn path(&self, inside: &str) -> PathBuf {
        let root = Path::new("/proc").join(&self.first).join("root");
        root.join(inside.trim_start_matches('/'))
    }

    /// Runs a command on this machine and returns what it printed.
    ///
    /// # Errors
    /// It fails; the error shows what it said.
    pub fn run(&self, words: &[&str]) -> anyhow::Result<String> {
        said(self.command(words))
    }

    /// Runs a program of the host's in the machine's network.
    ///
    /// # Errors
    /// It fails; the error shows what it said.
    pub fn beside(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.first, "-n", "--"]).args(words);
        command.stdin(Stdio::null());
        said(command)
    }

    fn last_words(&mut self) -> String {
        let _ = self.holder.kill();
        let mut words = String::new();
        if let Some(stderr) = &mut self.holder.stderr {
            let _ = stderr.read_to_string(&mut words);
        }
        words.trim().to_owned()
    }

    /// Pulls the plug.
    pub fn pull(self) {}
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have gone already; then there is nothing left to do. Its process 1 goes with it,
        // and the kernel ends the rest before `wait` returns for process 1's parent.
        if let Ok(first) = self.first.parse() {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(first),
                nix::sys::signal::Signal::SIGKILL,
            );
        } else {
            let _ = self.holder.kill();
        }
        let _ = self.holder.wait();
    }
}

/// Mounts what a machine has besides its files, makes the tree the root, and stays as process 1,
/// which buries orphans. A changed root alone will not do: Linux makes no user namespaces there.
const BOOT: &str = "tree=$1
    mount --bind \"$tree\" \"$tree\"
    mount -o remount,bind,dev,suid,exec \"$tree\"
    [ ! -e /etc/resolv.conf ] || cp /etc/resolv.conf \"$tree/etc/\"
    [ ! -e /etc/hosts ] || cp /etc/hosts \"$tree/etc/\"
    mount -t proc proc \"$tree/proc\"
    mount -t tmpfs -o mode=755 tmpfs \"$tree/run\"
    mount --rbind /dev \"$tree/dev\"
    cd \"$tree\"
    pivot_root . .
    umount -l .
    : > /run/booted
    sleep infinity & wait";

fn said(mut command: Command) -> anyhow::Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "failed: {command:?}\n{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_folders_of_killed_runs_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let bare = folder.path().join(RELEASE);
        fs::create_dir(&bare).unwrap();
        let own = own_folder(folder.path()).unwrap();
        fs::create_dir(own.path().join("tree")).unwrap();
        let now = SystemTime::now();
        sweep(folder.path(), now).unwrap();
        assert!(own.path().exists());
        sweep(folder.path(), now + 2 * OWN_AGE_MAX).unwrap();
        assert!(!own.path().exists());
        assert!(bare.exists());
    }

    #[test]
    fn second_of_two_that_make_the_bare_tree_takes_that_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let bare = folder.path().join(RELEASE);
        for number in ["first", "second"] {
            let own = own_folder(folder.path()).unwrap();
            let tree = own.path().join("tree");
            fs::create_dir(&tree).unwrap();
            fs::write(tree.join("file"), number).unwrap();
            name(&tree, &bare).unwrap();
        }
        assert_eq!(fs::read(bare.join("file")).unwrap(), b"first");
        name(&folder.path().join("none"), &folder.path().join("new")).unwrap_err();
    }
}
