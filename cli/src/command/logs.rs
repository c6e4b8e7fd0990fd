//! `meshctl logs`.

use std::io::IsTerminal;

use clap::Args;
use mesh_api::error::ErrorKind;
use mesh_api::event::Event;
use mesh_api::http::LOG_BYTES_DEFAULT;
use mesh_api::reply::Reply;
use mesh_api::request::Request;
use mesh_api::{document, screen};
use mesh_base::name::Name;
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{self, Format};
use crate::session::{Session, unexpected};

/// The schema of a piece of log.
const SCHEMA: &str = "meshstead.log/1";

/// Read a service's log.
///
/// Examples:
///   meshctl logs crm-db
///   meshctl logs -f crm-db
///   meshctl logs crm-db --bytes 1000000 | grep ERROR
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct LogsArguments {
    /// The service.
    name: Name,
    /// Go on with what comes, until you stop it.
    #[arg(long, short)]
    follow: bool,
    /// How many of the last bytes to begin with.
    #[arg(long, value_name = "COUNT", default_value_t = LOG_BYTES_DEFAULT)]
    bytes: u64,
}

/// A piece of log, or all of it, as programs read it.
#[derive(Serialize)]
struct LogText<'a> {
    name: &'a str,
    text: &'a str,
}

impl LogsArguments {
    /// Reads the log piece by piece.
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        if session.format == Format::Csv || (session.format == Format::Json && self.follow) {
            return Err(Failure::new(
                ErrorKind::Usage,
                "a log cannot be written in this format",
                format!("write: meshctl logs {} -o jsonl", self.name),
            ));
        }
        let request = Request::Logs {
            name: self.name.clone(),
            follow: self.follow,
            bytes: self.bytes,
        };
        let terminal = std::io::stdout().is_terminal();
        let mut all = String::new();
        let mut on_event = |event: Event| match event {
            Event::Log { text } => match session.format {
                Format::Json => {
                    all.push_str(&text);
                    Ok(())
                }
                Format::Jsonl => output::data(&format!("{}\n", self.document(&text))),
                Format::Table | Format::Csv if terminal => {
                    output::data(&screen::plain_lines(&text))
                }
                Format::Table | Format::Csv => output::data(&text),
            },
            Event::Note { text } => {
                session.say(&format!("note: {}\n", screen::plain(&text)));
                Ok(())
            }
            Event::Step { .. } => Ok(()),
        };
        let answer = session.follow(&request, &mut on_event);
        let reply = answer.map_err(|failure| session.suggest_service(failure, &self.name))?;
        let Reply::Logs { bytes, .. } = &reply else {
            return Err(unexpected(&reply));
        };
        if session.format == Format::Json {
            return output::data(&format!("{:#}\n", self.document(&all)));
        }
        if *bytes == 0 {
            session.say("the log is empty\n");
        }
        Ok(())
    }

    fn document(&self, text: &str) -> serde_json::Value {
        document::of_struct(
            SCHEMA,
            &LogText {
                name: self.name.as_str(),
                text,
            },
        )
    }
}
