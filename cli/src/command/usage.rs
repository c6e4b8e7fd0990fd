//! `meshctl usage`.

use clap::{Args, Subcommand};
use mesh_api::reply::Reply;
use mesh_api::request::Request;
use mesh_api::screen;
use mesh_api::trade::UsageRow;
use mesh_base::name::Name;

use crate::failure::Failure;
use crate::session::{Session, unexpected};

/// List signed usage statements: what services used and what they cost so far.
///
/// Examples:
///   meshctl usage
///   meshctl usage --now crm-db      asks the provider for a statement first
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, args_conflicts_with_subcommands = true)]
pub struct UsageArguments {
    #[command(subcommand)]
    command: Option<UsageCommand>,
    #[command(flatten)]
    what: UsageWhat,
}

/// The list under its own name, as for everything else that can be listed.
#[derive(Debug, Subcommand)]
enum UsageCommand {
    /// List signed usage statements.
    #[command(verbatim_doc_comment)]
    Ls(UsageWhat),
}

/// Which statements.
#[derive(Debug, Args)]
struct UsageWhat {
    /// Of this service only.
    name: Option<Name>,
    /// Ask the providers for a statement now, and wait for it.
    #[arg(long)]
    now: bool,
}

impl UsageArguments {
    /// Lists usage, fresh if asked.
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let UsageWhat { name, now } = match self.command {
            Some(UsageCommand::Ls(what)) => what,
            None => self.what,
        };
        let reply = if now {
            let (reply, mut progress) = session.work(&Request::UsageNow { name })?;
            progress.give_up();
            reply
        } else {
            session.ask(&Request::UsageLs { name })?
        };
        let Reply::Usage { usage } = &reply else {
            return Err(unexpected(&reply));
        };
        session.show(&reply, || usage_screen(usage))?;
        if usage.is_empty() {
            session.say("no usage yet: `meshctl usage --now` asks for statements\n");
        }
        Ok(())
    }
}

fn usage_screen(usage: &[UsageRow]) -> String {
    let rows = usage.iter().map(|row| {
        vec![
            row.name.clone(),
            row.provider.clone(),
            row.customer.clone(),
            row.node.clone(),
            row.seq.to_string(),
            screen::time(row.until),
            screen::span(u64::try_from(row.until - row.from).unwrap_or(0)),
            screen::span(row.cpu_ms),
            screen::mebibytes(row.memory_mib),
            screen::mebibytes(row.disk_mib),
            screen::bytes(row.received_bytes),
            screen::bytes(row.sent_bytes),
            row.cost.to_string(),
        ]
    });
    let heads = [
        "NAME", "PROVIDER", "CUSTOMER", "NODE", "SEQ", "UNTIL", "SPAN", "CPU", "MEMORY", "DISK",
        "IN", "OUT", "COST",
    ];
    screen::table(&heads, rows.collect())
}
