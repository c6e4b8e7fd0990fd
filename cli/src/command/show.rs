//! `meshctl show`.

use std::collections::BTreeMap;

use clap::Args;
use mesh_api::error::ErrorKind;
use mesh_api::reply::Reply;
use mesh_api::request::Request;
use mesh_api::screen;
use mesh_api::service::ShowReply;
use mesh_base::name::Name;

use crate::failure::Failure;
use crate::output;
use crate::session::{Session, unexpected};
use crate::suggest;

/// Show everything about one service.
///
/// Passwords are hidden unless you ask for one field, for JSON, or with --reveal.
///
/// Examples:
///   meshctl show crm-db
///   psql "$(meshctl show crm-db --field url)"
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ShowArguments {
    /// The service.
    name: Name,
    /// Print the value of one field and nothing else.
    #[arg(long, short, value_name = "FIELD")]
    field: Option<String>,
    /// Show passwords too.
    #[arg(long)]
    reveal: bool,
}

impl ShowArguments {
    /// Shows a service, or one field of it.
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let request = Request::Show {
            name: self.name.clone(),
        };
        let answer = session.ask(&request);
        let reply = answer.map_err(|failure| session.suggest_service(failure, &self.name))?;
        let Reply::Show(service) = &reply else {
            return Err(unexpected(&reply));
        };
        match &self.field {
            Some(field) => output::data(&format!("{}\n", value_of(service, field)?)),
            None => session.show(&reply, || show_screen(service, self.reveal)),
        }
    }
}

/// Returns everything that has a name: what the service publishes, then what we know about it.
fn fields(service: &ShowReply) -> BTreeMap<&str, String> {
    let known = [
        ("name", Some(service.name.clone())),
        ("order", Some(service.order.to_string())),
        ("recipe", Some(service.recipe.clone())),
        ("state", Some(service.state.to_string())),
        ("node", service.node.clone()),
        ("org", service.org.clone()),
        ("address", Some(service.address.to_string())),
        ("dns_name", service.dns_name.clone()),
        ("price", service.price.map(|price| price.to_string())),
        ("cost", service.cost.map(|cost| cost.to_string())),
        ("allowed", Some(service.allowed.join(", "))),
    ];
    let mut fields: BTreeMap<&str, String> = known
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    for (name, value) in &service.fields {
        fields.insert(name, value.clone());
    }
    fields
}

fn value_of(service: &ShowReply, field: &str) -> Result<String, Failure> {
    let fields = fields(service);
    if let Some(value) = fields.get(field) {
        return Ok(value.clone());
    }
    let names: Vec<&str> = fields.keys().copied().collect();
    let hint = match suggest::nearest(field, names.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if service.fields.is_empty() => format!(
            "it is {}: fields are published when it is ready; known now: {}",
            service.state,
            names.join(", ")
        ),
        None => format!("it has: {}", names.join(", ")),
    };
    let cause = format!("{} has no field \"{field}\"", service.name);
    Err(Failure::new(ErrorKind::NotFound, cause, hint))
}

fn show_screen(service: &ShowReply, reveal: bool) -> String {
    let node = match (&service.node, &service.org) {
        (Some(node), Some(org)) => format!("{node} ({org})"),
        (Some(node), None) => node.clone(),
        _ => screen::NONE.to_owned(),
    };
    let state = match service.sentence.as_str() {
        "" => service.state.to_string(),
        sentence => format!("{}: {sentence}", service.state),
    };
    let cost = service
        .cost
        .map(|cost| format!(", {cost} so far"))
        .unwrap_or_default();
    let holders = service.safety.holders.join(", ");
    let safety = screen::safety(&service.safety);
    let mut rows = vec![
        ("name", service.name.clone()),
        ("recipe", service.recipe.clone()),
        ("state", state),
        ("node", node),
        ("price", format!("{}{cost}", screen::or_none(service.price))),
        ("ordered", screen::time(service.ordered_at)),
        ("ready", screen::or_none(service.ready_at.map(screen::time))),
        ("order", service.order.to_string()),
        (
            "safety",
            if holders.is_empty() {
                safety
            } else {
                format!("{safety} ({holders})")
            },
        ),
        ("address", service.address.to_string()),
        ("allowed", service.allowed.join(", ")),
        ("dns name", screen::or_none(service.dns_name.as_ref())),
    ];
    for (name, value) in &service.fields {
        rows.push((
            name,
            if reveal {
                value.clone()
            } else {
                hidden(name, value)
            },
        ));
    }
    let rows = rows
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value]);
    let mut text = screen::columns(rows.collect(), "");
    if !service.attempts.is_empty() {
        let rows = service.attempts.iter().map(|attempt| {
            vec![
                attempt.attempt.to_string(),
                attempt.node.clone(),
                screen::time(attempt.at),
                attempt.outcome.clone(),
            ]
        });
        text.push_str(&format!(
            "\nattempts\n{}",
            screen::columns(rows.collect(), "  ")
        ));
    }
    text
}

/// Hides what people looking over a shoulder should not read.
fn hidden(name: &str, value: &str) -> String {
    let secret = ["password", "secret", "token", "private"];
    if secret.iter().any(|word| name.contains(word)) {
        return "…".to_owned();
    }
    screen::without_password(value)
}
