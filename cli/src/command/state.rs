//! `meshctl stop`, `meshctl start`, `meshctl destroy`.

use clap::Args;
use mesh_api::reply::Reply;
use mesh_api::request::{DesiredState, Request};
use mesh_api::screen;
use mesh_base::name::Name;

use crate::confirm;
use crate::failure::Failure;
use crate::session::{Session, unexpected};

/// Names the service whose state shall change.
#[derive(Debug, Args)]
pub struct StateArguments {
    /// The service.
    name: Name,
}

impl StateArguments {
    /// Asks if something would be gone, then asks the node and waits.
    pub fn run(self, session: &Session, state: DesiredState) -> Result<(), Failure> {
        let suggest = |failure| session.suggest_service(failure, &self.name);
        if state == DesiredState::Destroyed && !session.yes {
            let loss = self.loss(session).map_err(suggest)?;
            let command = format!("meshctl destroy {}", self.name);
            confirm::by_name(session, self.name.as_str(), &loss, &command)?;
        }
        let request = Request::SetState {
            name: self.name.clone(),
            state,
        };
        let (reply, mut progress) = session.work(&request).map_err(suggest)?;
        let Reply::State {
            name,
            state,
            elapsed_ms,
        } = &reply
        else {
            return Err(unexpected(&reply));
        };
        progress.finish(&screen::span(*elapsed_ms));
        let (name, state) = (screen::plain(name), *state);
        session.show(&reply, || format!("{name} is {state}\n"))?;
        match state {
            DesiredState::Stopped => {
                session.say(&format!("hint: to undo it: meshctl start {name}\n"));
            }
            DesiredState::Running | DesiredState::Destroyed => {}
        }
        Ok(())
    }

    /// Says what will be gone; fails if there is no such service.
    fn loss(&self, session: &Session) -> Result<String, Failure> {
        let reply = session.ask(&Request::Show {
            name: self.name.clone(),
        })?;
        let Reply::Show(service) = &reply else {
            return Err(unexpected(&reply));
        };
        let place = match &service.node {
            Some(node) => format!(" on {node}"),
            None => String::new(),
        };
        Ok(screen::plain(&format!(
            "{} ({}{place}, {}) and all its data will be gone",
            service.name, service.recipe, service.state
        )))
    }
}
