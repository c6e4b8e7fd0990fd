//! `meshctl status`.

use clap::Args;
use mesh_api::error::{ApiError, ErrorKind};
use mesh_api::reply::Reply;
use mesh_api::request::Request;
use mesh_api::screen;
use mesh_api::status::Health;

use crate::failure::Failure;
use crate::session::{Session, unexpected};

/// Show the node: network, peers, ledger, services, health last.
///
/// Examples:
///   meshctl status
///   meshctl status --check -q || echo look at it
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct StatusArguments {
    /// Exit code 8 if a check warns or fails.
    #[arg(long)]
    check: bool,
}

impl StatusArguments {
    /// Shows the status.
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let reply = session.ask(&Request::Status)?;
        let Reply::Status(status) = &reply else {
            return Err(unexpected(&reply));
        };
        session.show(&reply, || screen::status(status))?;
        let ill = status
            .health
            .iter()
            .filter(|row| Health::Warn <= row.verdict);
        let ill: Vec<_> = ill.collect();
        match ill.as_slice() {
            [first, ..] if self.check => Err(Failure::Verdict(ApiError::new(
                ErrorKind::Degraded,
                format!(
                    "{} of {} checks do not pass",
                    ill.len(),
                    status.health.len()
                ),
                if first.hint.is_empty() {
                    &first.sentence
                } else {
                    &first.hint
                },
            ))),
            _ => Ok(()),
        }
    }
}
