//! `meshnode start`: the daemon, detached or in the foreground.
//!
//! Detached, this program runs itself again in the foreground in a session of its own and returns
//! when the local API answers, so that the next command finds a node. What goes wrong until then is
//! printed here too, from the daemon's log.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use mesh_api::{ErrorKind, Reply, Request};

use crate::ask::ask;
use crate::command::config;
use crate::failure::Failure;
use crate::home::{Home, HomeError};
use crate::{logging, runtime};

/// Set for the detached daemon: it leaves our terminal's session.
const DETACHED: &str = "MESHSTEAD_DETACHED";
/// Longest wait for the API; a long journal takes its time to read.
const START_WAIT: Duration = Duration::from_secs(120);
/// How often the socket is tried meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// A log longer than this is put aside as `meshnode.log.1` at the next start.
const LOG_LEN_MAX: u64 = 16 * 1024 * 1024;

/// Run the daemon; returns when it answers
#[derive(Debug, Args)]
pub struct Start {
    /// Stay in the foreground and log to stderr
    #[arg(long)]
    foreground: bool,
    /// Override a setting, such as metering.period=1s; see `meshnode config show`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Start {
    /// Starts the daemon, or is it.
    pub fn run(self, home: &Home) -> Result<(), Failure> {
        let config = config::load(home, &self.set)?;
        if !home.node_key().exists() {
            return Err(
                Failure::new(format!("there is no node in {}", home.path().display()))
                    .hint(
                        "found an organisation: `meshnode init --org NAME`, or join one: \
                       `meshnode join INVITE`",
                    )
                    .kind(ErrorKind::NotFound),
            );
        }
        if self.foreground {
            if std::env::var_os(DETACHED).is_some() {
                // Fails only if we lead a session already, which is as good.
                let _ = nix::unistd::setsid();
            }
            logging::start(&config);
            return runtime::run(home, &config);
        }
        if let Some(pid) = home.holder_settled().map_err(|error| unusable(&error))? {
            return Err(unusable(&HomeError::Busy {
                home: home.path().to_owned(),
                pid,
            }));
        }
        self.detach(home)
    }

    fn detach(&self, home: &Home) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::caused("cannot start the daemon", &error);
        let mut log = open_log(home).map_err(failed)?;
        let before = log.seek(SeekFrom::End(0)).map_err(failed)?;
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = std::process::Command::new(program);
        command
            .arg("start")
            .arg("--foreground")
            .arg("--home")
            .arg(home.path());
        for pair in &self.set {
            command.arg("--set").arg(pair);
        }
        let child = command
            .env(DETACHED, "1")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log.try_clone().map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        wait(home, child, &mut log, before)
    }
}

/// Waits until the API answers or the daemon has ended.
fn wait(home: &Home, mut child: Child, log: &mut File, before: u64) -> Result<(), Failure> {
    let deadline = Instant::now() + START_WAIT;
    loop {
        if let Ok(Reply::Status(status)) = ask(&home.socket(), &Request::Status) {
            eprintln!(
                "{} of {} runs at {}",
                status.node, status.org, status.address
            );
            return Ok(());
        }
        let ended = child.try_wait().ok().flatten();
        if let Some(code) = ended {
            let kind = code.code().and_then(ErrorKind::of_exit_code);
            let failure = last_words(log, before).unwrap_or_else(|| {
                Failure::new(format!("the daemon ended at once ({code})"))
                    .hint(format!("look at the end of {}", home.log().display()))
            });
            return Err(failure.kind(kind.unwrap_or(ErrorKind::Failure)));
        }
        if deadline < Instant::now() {
            let waited = START_WAIT.as_secs();
            return Err(
                Failure::new(format!("the daemon does not answer within {waited} s"))
                    .hint(format!(
                        "it goes on starting; look at {}",
                        home.log().display()
                    ))
                    .kind(ErrorKind::Timeout),
            );
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// Says why a home cannot be used, for every command that runs a daemon.
pub fn unusable(error: &HomeError) -> Failure {
    let failure = Failure::caused("cannot start", error);
    match error {
        HomeError::Busy { .. } => failure
            .hint("`meshnode status` shows how it is, `meshnode stop` ends it")
            .kind(ErrorKind::Conflict),
        _ => failure.hint("choose another folder with --home DIR"),
    }
}

fn open_log(home: &Home) -> std::io::Result<File> {
    let path = home.log();
    if path.metadata().is_ok_and(|log| LOG_LEN_MAX < log.len()) {
        std::fs::rename(&path, path.with_extension("log.1"))?;
    }
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// Finds the error and the hint that the daemon printed before it ended.
fn last_words(log: &mut File, before: u64) -> Option<Failure> {
    log.seek(SeekFrom::Start(before)).ok()?;
    let mut text = String::new();
    log.read_to_string(&mut text).ok()?;
    let error = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("error: "))?;
    let hint = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("hint: "));
    let failure = Failure::new(error);
    Some(match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    })
}
