//! What every command needs: the node to ask, how to write, whom to ask for a yes.

use std::time::Duration;

use mesh_api::error::{ApiError, ErrorKind};
use mesh_api::event::Event;
use mesh_api::reply::Reply;
use mesh_api::request::Request;
use mesh_base::name::Name;

use crate::client::Client;
use crate::failure::Failure;
use crate::options::Everywhere;
use crate::output::{self, Format};
use crate::progress::Progress;
use crate::suggest;

/// Longest wait for an answer that the node has at hand.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest wait for work on other nodes: a cold download of software over a slow line.
const PATIENCE_WORK: Duration = Duration::from_secs(900);

/// One run of the program.
#[derive(Debug)]
pub struct Session {
    /// How results are written.
    pub format: Format,
    /// Whether dangerous things are done without a question.
    pub yes: bool,
    quiet: bool,
    limit: Option<Duration>,
    client: Client,
}

impl Session {
    /// Prepares a run from the options that every command has.
    pub fn new(everywhere: &Everywhere) -> Self {
        Self {
            format: everywhere.format(),
            yes: everywhere.yes,
            quiet: everywhere.quiet,
            limit: everywhere.timeout,
            client: Client::new(everywhere.home.clone()),
        }
    }

    /// Asks for something that the node has at hand.
    pub fn ask(&self, request: &Request) -> Result<Reply, Failure> {
        let limit = self.limit.unwrap_or(PATIENCE);
        self.client.ask(request, Some(limit), &mut |_| Ok(()))
    }

    /// Asks for work, and shows how it goes on; the caller ends the line of ticks.
    pub fn work(&self, request: &Request) -> Result<(Reply, Progress), Failure> {
        let mut progress = Progress::new(self.quiet);
        let limit = self.limit.unwrap_or(PATIENCE_WORK);
        let answer = self.client.ask(request, Some(limit), &mut |event| {
            progress.handle(&event);
            Ok(())
        });
        match answer {
            Ok(reply) => Ok((reply, progress)),
            Err(failure) => {
                progress.give_up();
                Err(failure)
            }
        }
    }

    /// Asks for a stream of events that ends when the node ends it; no limit unless one was given.
    pub fn follow(
        &self,
        request: &Request,
        on_event: &mut dyn FnMut(Event) -> Result<(), Failure>,
    ) -> Result<Reply, Failure> {
        self.client.ask(request, self.limit, on_event)
    }

    /// Writes a reply in the wanted format; `screen` is what people see.
    pub fn show(&self, reply: &Reply, screen: impl FnOnce() -> String) -> Result<(), Failure> {
        output::reply(self.format, reply, screen)
    }

    /// Says something to people, unless they want quiet.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            output::talk(text);
        }
    }

    /// Names the nearest service if the failure is that there is none of this name.
    pub fn suggest_service(&self, failure: Failure, name: &Name) -> Failure {
        let Failure::Error(error) = &failure else {
            return failure;
        };
        if error.kind != ErrorKind::NotFound {
            return failure;
        }
        let Ok(Reply::Services { ordered, .. }) = self.ask(&Request::Ps) else {
            return failure;
        };
        let known = ordered.iter().map(|service| service.name.as_str());
        match suggest::nearest(name.as_str(), known) {
            Some(near) => ApiError {
                hint: format!("did you mean \"{near}\"? `meshctl ps` lists all"),
                ..error.clone()
            }
            .into(),
            None => failure,
        }
    }
}

/// Returns the failure of a node that answers something else than was asked.
pub fn unexpected(reply: &Reply) -> Failure {
    Failure::new(
        ErrorKind::Failure,
        format!(
            "the node answered with {}, which was not asked for",
            reply.schema()
        ),
        "use the same version of meshctl and meshnode: \
         compare `meshctl version` with `meshctl status`",
    )
}
