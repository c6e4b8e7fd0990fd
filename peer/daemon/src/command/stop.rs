//! `meshnode stop`: ends the daemon of a home; running services stay.

use std::time::{Duration, Instant};

use clap::Args;
use mesh_api::ErrorKind;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::failure::Failure;
use crate::home::Home;

/// Longest wait for the daemon to bring its journal to disk and end.
const STOP_WAIT: Duration = Duration::from_secs(30);
/// How often the lock is looked at meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// End the daemon; services that run on this machine go on running
#[derive(Debug, Args)]
pub struct Stop {}

impl Stop {
    /// Asks the daemon to end and waits until it has.
    pub fn run(self, home: &Home) -> Result<(), Failure> {
        let failed = |error| Failure::caused("cannot stop the node", &error);
        let Some(pid) = home.holder().map_err(failed)?.filter(|pid| 1 < *pid) else {
            eprintln!("no daemon runs on {}", home.path().display());
            return Ok(());
        };
        match kill(Pid::from_raw(pid), Signal::SIGTERM) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(Errno::EPERM) => {
                return Err(
                    Failure::new(format!("process {pid} belongs to another user"))
                        .hint("stop the node as the user who started it")
                        .kind(ErrorKind::NotAuthorised),
                );
            }
            Err(errno) => {
                return Err(Failure::caused(
                    format!("cannot signal process {pid}"),
                    &errno,
                ));
            }
        }
        let deadline = Instant::now() + STOP_WAIT;
        while home.holder().map_err(failed)?.is_some() {
            if deadline < Instant::now() {
                let waited = STOP_WAIT.as_secs();
                return Err(
                    Failure::new(format!("process {pid} has not ended within {waited} s"))
                        .hint(format!("look at the end of {}", home.log().display()))
                        .kind(ErrorKind::Timeout),
                );
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        eprintln!("stopped; services on this machine go on running");
        Ok(())
    }
}
