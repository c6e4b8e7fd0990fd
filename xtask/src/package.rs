//! The Debian package: built from the programs as users run them, judged by lintian, and tried out
//! in a bare Debian tree.
//!
//! ```text
//!   programs ─► manual pages, completions ─► cargo-deb ─► lintian
//!                                                      └─► dpkg -i in TREE ─► the unit's line
//! ```
//! The tree is the caller's (`debootstrap --variant=minbase bookworm TREE`); it is changed. Nothing
//! is installed on this machine, and systemd is not needed anywhere.

use std::fs;
use std::io::Read as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use mesh_tests::figures::Figure;
use mesh_tests::until::until;

use crate::{unit, workspace};

/// How long an installed node may take until it tells that it is ready.
const READY_WAIT: Duration = Duration::from_secs(60);

/// Where the tree's node keeps its things, and where it tells that it is ready.
const HOME: &str = "/var/lib/meshstead";
const NOTIFY: &str = "/run/notify";

/// Builds the package and judges it; with a tree, installs and starts it there. Returns true if all
/// holds.
pub fn run(tree: Option<&Path>) -> anyhow::Result<bool> {
    let programs = workspace::build_programs()?;
    write_generated(&programs)?;
    let package = build(&programs)?;
    println!("{}", package.display());
    let judged = lintian(&package)?;
    let score = unit::score()?;
    let mut text = format!(
        "lintian {}, unit {}",
        if judged {
            "without errors"
        } else {
            "finds errors"
        },
        score.map_or("not scored".to_owned(), |score| format!("{score:.1}")),
    );
    let mut holds = judged && score.is_some_and(unit::is_low);
    if let Some(tree) = tree {
        try_out(&package, tree)?;
        text.push_str(", installs and starts in a bare tree");
    } else {
        text.push_str(", not installed anywhere");
        holds = false;
    }
    let bar = "first.package".to_owned();
    println!("{bar}  {text}");
    Figure { bar, text, holds }.write(&workspace::figures())?;
    Ok(judged)
}

/// Lets the programs write their manual pages and completions.
fn write_generated(programs: &Path) -> anyhow::Result<()> {
    let folder = programs.join("package");
    if folder.exists() {
        fs::remove_dir_all(&folder).context("cannot empty the folder of generated files")?;
    }
    for name in ["meshnode", "meshctl"] {
        let program = programs.join(name);
        let man = folder.join("man");
        succeed(Command::new(&program).arg("man").arg(&man))?;
        for (shell, file) in [
            ("bash", name.to_owned()),
            ("fish", format!("{name}.fish")),
            ("zsh", format!("_{name}")),
        ] {
            let output = Command::new(&program)
                .args(["completions", shell])
                .output()
                .with_context(|| format!("cannot run {}", program.display()))?;
            ensure!(output.status.success(), "{name} completions {shell} failed");
            let path = folder.join(shell).join(file);
            fs::create_dir_all(folder.join(shell)).context("cannot make a folder")?;
            fs::write(&path, output.stdout)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

fn build(programs: &Path) -> anyhow::Result<PathBuf> {
    let package = programs.join("package").join("meshnode.deb");
    let mut command = Command::new(workspace::tool("cargo-deb"));
    command
        .args(["--no-build", "--locked", "--profile"])
        .arg(workspace::PROGRAMS_PROFILE)
        .args(["-p", "meshnode", "--output"])
        .arg(&package)
        .current_dir(workspace::root());
    succeed(&mut command)?;
    Ok(package)
}

fn lintian(package: &Path) -> anyhow::Result<bool> {
    let status = Command::new("lintian")
        .args([
            "--fail-on",
            "error",
            "--allow-root",
            "--tag-display-limit",
            "0",
        ])
        .arg(package)
        .status()
        .context("cannot run lintian; as root: apt-get install lintian")?;
    Ok(status.success())
}

/// Installs the package in a tree and starts a node there by the unit's own command line.
fn try_out(package: &Path, tree: &Path) -> anyhow::Result<()> {
    ensure!(
        tree.join("var/lib/dpkg").is_dir(),
        "{} is not a Debian tree; make one: debootstrap --variant=minbase bookworm TREE",
        tree.display()
    );
    fs::copy(package, tree.join("tmp/meshnode.deb")).context("cannot copy the package")?;
    // Its dependencies come from the tree's own sources; the package itself by plain dpkg.
    succeed(inside(tree).args(["sh", "-c", INSTALL]))?;
    let line = fs::read_to_string(tree.join("lib/systemd/system/meshnode.service"))
        .context("the package has no unit")?;
    let line = unit::value(&line, "ExecStart").context("the unit starts nothing")?;
    succeed(
        inside(tree)
            .args(["meshnode", "init", "--org", "bakery"])
            .env("MESHSTEAD_HOME", HOME),
    )?;
    // What StateDirectory and RuntimeDirectory do.
    succeed(inside(tree).args(["chown", "-R", "meshstead:meshstead", HOME]))?;
    let socket = tree.join(NOTIFY.trim_start_matches('/'));
    let _ = fs::remove_file(&socket);
    let told = UnixDatagram::bind(&socket).context("cannot listen for the node's word")?;
    succeed(inside(tree).args(["chmod", "0666", NOTIFY]))?;
    told.set_nonblocking(true)?;
    let mut node = apart(tree)
        .args([
            "setpriv",
            "--reuid=meshstead",
            "--regid=meshstead",
            "--clear-groups",
        ])
        .args([
            "--inh-caps=-all,+net_admin",
            "--ambient-caps=-all,+net_admin",
        ])
        .args(["--bounding-set=-all,+net_admin", "--no-new-privs", "--"])
        .args(line.split(' '))
        .env("MESHSTEAD_HOME", HOME)
        .env("NOTIFY_SOCKET", NOTIFY)
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the node")?;
    let ready = until("the node is ready", READY_WAIT, || {
        let mut word = [0; 256];
        let said = told.recv(&mut word).ok().and_then(|len| word.get(..len));
        Ok(said.filter(|said| said.starts_with(b"READY=1")).map(drop))
    });
    let _ = node.kill();
    node.wait().context("cannot end the node")?;
    let mut log = String::new();
    if let Some(mut stderr) = node.stderr.take() {
        stderr.read_to_string(&mut log)?;
    }
    ready.with_context(|| format!("`{line}` in the tree\n{log}"))?;
    succeed(inside(tree).args(["dpkg", "--purge", "meshnode"]))
}

/// Installs what the package depends on, then the package, twice: the second time is an upgrade.
const INSTALL: &str = "export DEBIAN_FRONTEND=noninteractive
    set -e
    wanted=$(dpkg-deb -f /tmp/meshnode.deb Depends | sed 's/([^)]*)//g; s/,/ /g; s/|.*//')
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends $wanted
    dpkg -i /tmp/meshnode.deb
    dpkg -i /tmp/meshnode.deb";

/// A command whose root is the tree, with processes of its own.
fn inside(tree: &Path) -> Command {
    entered(tree, &[])
}

/// As [`inside`], with a network of its own too: what it listens on, nobody else sees.
fn apart(tree: &Path) -> Command {
    entered(tree, &["--net"])
}

fn entered(tree: &Path, more: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--pid", "--fork", "--kill-child"])
        .args(more)
        .arg("--")
        .args(["sh", "-c", ENTER, "sh"])
        .arg(tree);
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// Mounts what a machine has besides its files, makes the tree the root, becomes the command. A
/// changed root will not do: Linux makes no user namespaces there.
const ENTER: &str = "tree=$1; shift; set -e
    mount --bind \"$tree\" \"$tree\"
    cp /etc/resolv.conf /etc/hosts \"$tree/etc/\"
    mount -t proc proc \"$tree/proc\"
    mount --rbind /dev \"$tree/dev\"
    cd \"$tree\"
    pivot_root . .
    umount -l .
    exec \"$@\"";

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        bail!("failed: {command:?}");
    }
    Ok(())
}
