//! `meshnode join`: makes this machine a member of an organisation, with an invite.
//!
//! Shows what will be trusted and asks first. The invite names the host's key, so the answer can
//! come from nobody else; the certificate in it must lead to the organisation of the invite.

use std::io::{BufRead, IsTerminal, Write};

use clap::Args;
use clap::builder::FalseyValueParser;
use mesh_api::ErrorKind;
use mesh_base::address::NodeAddress;
use mesh_base::identity::{NodeId, SecretKey};
use mesh_base::name::Name;
use mesh_federation::invite::{Invite, Kind};
use mesh_peer::genesis;
use mesh_peer::message::{JoinReply, JoinRequest};

use crate::clock;
use crate::command::init::{key, refuse_second, write_journal, write_settings};
use crate::command::start::unusable;
use crate::command::{home_flag, print};
use crate::failure::Failure;
use crate::home::Home;
use crate::runtime::hands::knock;

/// A clock that differs by more is worth a word: certificates and leases depend on it.
const SKEW_MS_MAX: i64 = 30_000;

/// Join an organisation with an invite from one of its members
#[derive(Debug, Args)]
pub struct Join {
    /// The invite: the text that begins with mesh1
    #[arg(value_name = "INVITE")]
    invite: String,
    /// Name that this node would like to have
    #[arg(long, value_name = "NODE")]
    name: Option<Name>,
    /// Do not ask
    #[arg(long, short, env = "MESHSTEAD_YES", value_parser = FalseyValueParser::new())]
    yes: bool,
}

impl Join {
    /// Knocks at the host's door and becomes a member.
    pub fn run(self, home: &Home) -> Result<(), Failure> {
        let invite = self.read()?;
        self.confirm(&invite)?;
        home.prepare().map_err(|error| unusable(&error))?;
        let _lock = home.lock().map_err(|error| unusable(&error))?;
        refuse_second(home)?;
        let secret = key(&home.node_key())?;
        let node = NodeId(secret.public());
        let name = self.name.as_ref().map(ToString::to_string);
        let request = JoinRequest::Member {
            secret: invite.secret,
            node,
            name,
        };
        let reply = ask(&secret, &invite, &request)?;
        let body = accept(&reply, &node, &invite)?;
        let entries = genesis::joined(&reply)
            .ok_or_else(|| Failure::new("the answer is not a membership"))?;
        write_settings(home)?;
        write_journal(home, &entries)?;
        let address = NodeAddress::of(&node).0;
        print(&format!(
            "organisation  {}  {}\nnode          {}  {address}\nhome          {}\n",
            body.org_name,
            body.org,
            body.name,
            home.path().display(),
        ))?;
        eprintln!("\nNext:\n  meshnode{} start", home_flag(home));
        Ok(())
    }

    fn read(&self) -> Result<Invite, Failure> {
        let invite = Invite::from_text(&self.invite, clock::wall()).map_err(|error| {
            Failure::caused("cannot use the invite", &error)
                .hint("a member makes one: `meshctl member invite`")
                .kind(ErrorKind::Usage)
        })?;
        if let Kind::Agreement(_) = invite.kind {
            return Err(
                Failure::new("this invite is for an organisation, not for a machine")
                    .hint("on a node of your organisation: `meshctl org accept INVITE`")
                    .kind(ErrorKind::Usage),
            );
        }
        Ok(invite)
    }

    fn confirm(&self, invite: &Invite) -> Result<(), Failure> {
        eprintln!(
            "This machine will become a member of {}.\n  \
             organisation key  {}\n  host key          {}",
            invite.org_name, invite.org, invite.host,
        );
        eprintln!(
            "It will trust that organisation's members, and route for them. The invite is valid \
             until {}.",
            invite.expires
        );
        if self.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(Failure::new("nobody is here to confirm")
                .hint("repeat the command with --yes")
                .kind(ErrorKind::Usage));
        }
        eprint!("Join? [y/N] ");
        let _ = std::io::stderr().flush();
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
        Err(Failure::new("not joined").hint("the invite stays good until it expires"))
    }
}

fn ask(secret: &SecretKey, invite: &Invite, request: &JoinRequest) -> Result<JoinReply, Failure> {
    let tasks = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::caused("cannot knock", &error))?;
    tasks
        .block_on(knock(secret, &invite.host, &invite.doors, request))
        .map_err(|reason| {
            Failure::new(format!("cannot reach the inviting node: {reason}"))
                .hint(
                    "is its daemon running, and the invite still open? `meshctl member invite` \
                   makes a new one",
                )
                .kind(ErrorKind::Unreachable)
        })
}

/// Checks that the answer makes us what the invite promised.
fn accept<'a>(
    reply: &'a JoinReply,
    node: &NodeId,
    invite: &Invite,
) -> Result<&'a mesh_base::certificate::Body, Failure> {
    match reply {
        JoinReply::Member { chain, wall, .. } => {
            let now = clock::wall();
            if SKEW_MS_MAX < (*wall - now).abs() {
                eprintln!("warning: the host's clock says {wall}, ours {now}; set them right");
            }
            chain
                .verify(node, now, |org| *org == invite.org)
                .map_err(|error| {
                    Failure::caused("the host's certificate for us is not good", &error)
                        .hint("ask for a new invite")
                })
        }
        JoinReply::Refused { reason } => Err(Failure::new(format!("not admitted: {reason}"))
            .hint("ask for a new invite: `meshctl member invite`")
            .kind(ErrorKind::NotAuthorised)),
        JoinReply::Agreement { .. } => Err(Failure::new("the host answered another question")
            .hint("use the same version of meshnode on both sides")),
    }
}
