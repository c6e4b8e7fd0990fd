//! The commands: one file each; their doc comments are their help.

mod agreement;
mod completions;
mod invoice;
mod ledger;
mod logs;
mod man;
mod member;
mod offer;
mod order;
mod org;
mod ps;
mod recipe;
mod show;
mod state;
mod status;
mod usage;
mod version;

use clap::Subcommand;

use crate::failure::Failure;
use crate::session::Session;

/// What to do. A command without a line here carries its help on its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    Order(order::OrderArguments),
    /// Show where an order would go and what it would cost, and do nothing.
    ///
    /// Examples:
    ///   meshctl plan postgres --name crm-db
    ///   meshctl plan postgres --detailed-exitcode --json
    #[command(verbatim_doc_comment)]
    Plan(order::OrderArguments),
    #[command(visible_alias = "ls")]
    Ps(ps::PsArguments),
    Show(show::ShowArguments),
    /// Stop a service; its data, address and price stay.
    ///
    /// Examples:
    ///   meshctl stop crm-db
    #[command(verbatim_doc_comment)]
    Stop(state::StateArguments),
    /// Start a stopped service.
    ///
    /// Examples:
    ///   meshctl start crm-db
    #[command(verbatim_doc_comment)]
    Start(state::StateArguments),
    /// Destroy a service and all its data.
    ///
    /// Asks for the name on a terminal; elsewhere --yes must be given.
    ///
    /// Examples:
    ///   meshctl destroy crm-db
    ///   meshctl destroy crm-db --yes
    #[command(verbatim_doc_comment)]
    Destroy(state::StateArguments),
    Logs(logs::LogsArguments),
    /// Invite, list and revoke members of our organisation.
    #[command(subcommand, verbatim_doc_comment)]
    Member(member::MemberCommand),
    /// Agree with other organisations on who may order what.
    #[command(subcommand, verbatim_doc_comment)]
    Org(org::OrgCommand),
    /// List agreements: who may order what, prices, credit.
    #[command(subcommand, verbatim_doc_comment)]
    Agreement(agreement::AgreementCommand),
    /// List who sells what, at which price, with what room.
    #[command(subcommand, verbatim_doc_comment)]
    Offer(offer::OfferCommand),
    /// List what can be ordered.
    #[command(subcommand, verbatim_doc_comment)]
    Recipe(recipe::RecipeCommand),
    Usage(usage::UsageArguments),
    /// List, show and recompute invoices.
    #[command(subcommand, verbatim_doc_comment)]
    Invoice(invoice::InvoiceCommand),
    /// Look at the ledger documents held here.
    #[command(subcommand, verbatim_doc_comment)]
    Ledger(ledger::LedgerCommand),
    Status(status::StatusArguments),
    Completions(completions::CompletionsArguments),
    #[command(hide = true)]
    Man(man::ManArguments),
    Version(version::VersionArguments),
}

impl Command {
    /// Does what the command says.
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        use mesh_api::request::DesiredState;
        match self {
            Self::Order(arguments) => arguments.order(session),
            Self::Plan(arguments) => arguments.plan(session),
            Self::Ps(arguments) => arguments.run(session),
            Self::Show(arguments) => arguments.run(session),
            Self::Stop(arguments) => arguments.run(session, DesiredState::Stopped),
            Self::Start(arguments) => arguments.run(session, DesiredState::Running),
            Self::Destroy(arguments) => arguments.run(session, DesiredState::Destroyed),
            Self::Logs(arguments) => arguments.run(session),
            Self::Member(command) => command.run(session),
            Self::Org(command) => command.run(session),
            Self::Agreement(command) => command.run(session),
            Self::Offer(command) => command.run(session),
            Self::Recipe(command) => command.run(session),
            Self::Usage(arguments) => arguments.run(session),
            Self::Invoice(command) => command.run(session),
            Self::Ledger(command) => command.run(session),
            Self::Status(arguments) => arguments.run(session),
            Self::Completions(arguments) => arguments.run(),
            Self::Man(arguments) => arguments.run(),
            Self::Version(arguments) => arguments.run(session),
        }
    }
}
