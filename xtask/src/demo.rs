//! Plays the first order on this machine, as a user would type it.
//!
//! Four nodes of two organisations, each in a folder of its own, a real PostgreSQL, Debian's
//! `psql`. Whatever happens, nothing is left behind: the folders are temporary, and every process
//! that was started ends, also those that detached themselves.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use mesh_tests::ground::software_cache;
use mesh_tests::home::{Home, Voice};
use mesh_tests::transcript::{Cast, play};
use mesh_tests::until::until;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::workspace;

/// How long killed processes may take to end.
const GRACE: Duration = Duration::from_secs(20);

/// Plays it. Returns true if every step did what the README says.
pub fn run() -> anyhow::Result<bool> {
    eprintln!("building meshnode and meshctl …");
    let programs = workspace::build_programs()?;
    // Detached daemons become our children, so that we can end them.
    nix::sys::prctl::set_child_subreaper(true).context("cannot adopt orphans")?;
    let folder = tempfile::Builder::new()
        .prefix("mesh-")
        .tempdir()
        .context("no folder")?;
    let software = software_cache();
    fs::create_dir_all(&software).context("cannot make the cache of software")?;
    println!("Four nodes on this machine, each with a folder of its own (MESHSTEAD_HOME).");
    println!("The first order fetches PostgreSQL from Debian; later ones find it in the cache.\n");
    let home = |name: &str| -> anyhow::Result<Home> {
        let home = Home::new(name, folder.path().join(name), &programs).heard(Voice::Aloud);
        home.configure("metering.period", "1s")?;
        // Four nodes for a minute are nothing that the home's router or network must know of.
        home.configure("reach.port_mapping", "off")?;
        home.configure("network.mdns", "off")?;
        home.configure("software.dir", software.to_string_lossy().into_owned())?;
        Ok(home)
    };
    let cast = Cast::of(home)?;
    let outcome = play(&cast);
    if outcome.is_err() {
        for home in cast.all() {
            eprintln!("── log of {}\n{}", home.name, home.log());
        }
    }
    end_children()?;
    let timings = outcome?;
    println!(
        "\nThe mesh stood after {:.1} s, the first answer came {:.1} s after the order, \
         all of it took {:.1} s. Nothing is left behind but the cache of software.",
        timings.mesh.as_secs_f64(),
        timings.order.as_secs_f64(),
        timings.whole.as_secs_f64(),
    );
    Ok(true)
}

/// Ends every process that the play has left behind, and the children that those leave to us.
fn end_children() -> anyhow::Result<()> {
    until("every process has ended", GRACE, || {
        for child in children()? {
            // It may have gone by itself in the meantime.
            let _ = kill(child, Signal::SIGKILL);
        }
        bury()
    })
}

/// Buries ended children. Returns something when there is no child left.
fn bury() -> anyhow::Result<Option<()>> {
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return Ok(None),
            Err(Errno::ECHILD) => return Ok(Some(())),
            Ok(_) => {}
            Err(error) => return Err(error).context("cannot wait for children"),
        }
    }
}

/// Returns our children, adopted ones too.
fn children() -> anyhow::Result<Vec<Pid>> {
    let own = std::process::id();
    let path = format!("/proc/{own}/task/{own}/children");
    let text = fs::read_to_string(path).context("cannot list children")?;
    Ok(text
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .map(Pid::from_raw)
        .collect())
}
