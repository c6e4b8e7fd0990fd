//! `meshnode ping`: whether a node answers in its session, how fast, and over whom.
//!
//! The daemons ask and answer each other, so it works without a right, and with an overlay that
//! lives in a namespace.

use std::time::{Duration, Instant};

use clap::Args;
use mesh_api::{ErrorKind, Reply, Request, chart, document};

use crate::ask::ask;
use crate::command::{other_answer, print, say};
use crate::failure::Failure;
use crate::home::Home;

/// Time between two questions.
const INTERVAL: Duration = Duration::from_secs(1);

/// Ask a node whether it is there, through the overlay
#[derive(Debug, Args)]
pub struct Ping {
    /// The node: its name, NAME.ORG or its address
    #[arg(value_name = "NODE")]
    to: String,
    /// Show who is on the way
    #[arg(long)]
    path: bool,
    /// How often to ask, once a second
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    /// Print one JSON document for each question, also for errors
    #[arg(long)]
    json: bool,
}

impl Ping {
    /// Asks the daemon as often as wanted; fails if nothing was answered at all.
    pub fn run(self, home: &Home) -> Result<(), Failure> {
        let (mut answered, mut silence) = (false, None);
        let mut next = Instant::now();
        for _ in 0..self.count {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            next = Instant::now() + INTERVAL;
            // What was a silence before the last is told as it comes.
            if let Some(Failure { error, .. }) = silence.take() {
                say(&format!("{error}\n"));
            }
            match self.once(home) {
                Ok(()) => answered = true,
                Err(failure) if may_end(failure.kind) => silence = Some(failure),
                // A wrong name will not become a right one.
                Err(failure) => return Err(failure),
            }
        }
        match silence {
            Some(failure) if !answered => Err(failure),
            Some(failure) => {
                say(&format!("{}\n", failure.error));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn once(&self, home: &Home) -> Result<(), Failure> {
        let request = Request::Ping {
            to: self.to.clone(),
            path: self.path,
        };
        let reply = ask(&home.socket(), &request)?;
        if self.json {
            return print(&format!("{}\n", document::of_reply(&reply)));
        }
        match reply {
            Reply::Ping(ping) => print(&chart::ping(&ping)),
            _ => Err(other_answer("a ping")),
        }
    }
}

/// Whether another question may have an answer.
const fn may_end(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Timeout | ErrorKind::Unreachable)
}
