//! A daemon that is started to be killed.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context as _, bail};
use mesh_tests::home::Home;
use mesh_tests::local_api::LocalApi;
use mesh_tests::until::until;
use nix::fcntl::{Flock, FlockArg};

/// Longest time until a daemon answers: the same that `meshnode start` waits.
const START_MAX: Duration = Duration::from_secs(30);

/// Words that start a daemon in the foreground on a machine that sells nothing.
const START: [&str; 4] = ["start", "--foreground", "--set", "capacity.slots=0"];

/// A daemon; dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    home: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts the daemon of a home with further settings of the environment; what it says goes to
    /// the end of `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(home: &Home, log: &Path, shim: &[(&str, &Path)]) -> anyhow::Result<Self> {
        let mut command = home.unstarted("meshnode", &START);
        command.envs(shim.iter().copied());
        let child = spawn(&mut command, log)?;
        Ok(Self {
            child,
            home: home.folder.clone(),
            log: log.to_path_buf(),
        })
    }

    /// Waits until the daemon answers.
    ///
    /// # Errors
    /// It does not, or has ended.
    pub fn answers(&mut self) -> anyhow::Result<LocalApi> {
        until("the daemon answers", START_MAX, || {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read(&self.log).unwrap_or_default();
                bail!("the daemon ended, {status}:\n{}", last_lines(&log));
            }
            let asked = LocalApi::connect(&self.home);
            Ok(asked
                .ok()
                .and_then(|mut api| api.get("/v1/status").ok().map(|_| api)))
        })
    }

    /// Kills the daemon without a warning, and waits for its end.
    ///
    /// # Errors
    /// It cannot be killed.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().context("cannot kill the daemon")?;
        self.child.wait().context("cannot bury the daemon")?;
        Ok(())
    }
}

impl Daemon {
    /// Kills the daemon between two calls on its files, so that the log of calls has all that was
    /// done.
    ///
    /// # Errors
    /// It cannot be killed.
    pub fn kill_between_calls(&mut self, log: &Path) -> anyhow::Result<()> {
        let log = OpenOptions::new().append(true).open(log)?;
        let locked = Flock::lock(log, FlockArg::LockExclusive);
        let _locked = locked.map_err(|(_, errno)| errno).context("no turn")?;
        self.kill()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Mostly it was killed before.
        let _ = self.kill();
    }
}

/// Starts a program that speaks to the end of a file.
///
/// # Errors
/// It cannot be started.
pub fn spawn(command: &mut Command, log: &Path) -> anyhow::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    let child = command.stdout(log.try_clone()?).stderr(log).spawn();
    child.with_context(|| format!("cannot start {}", command.get_program().display()))
}

/// Returns the last lines that a program has said.
pub fn last_lines(said: &[u8]) -> String {
    const SHOWN: usize = 12;
    let said = String::from_utf8_lossy(said).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    let skipped = lines.len().saturating_sub(SHOWN);
    lines.get(skipped..).unwrap_or_default().join("\n")
}
