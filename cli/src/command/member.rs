//! `meshctl member`.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use mesh_api::reply::Reply;
use mesh_api::request::Request;
use mesh_api::screen;
use mesh_base::certificate::Role;
use mesh_base::name::Name;

use crate::amount;
use crate::confirm;
use crate::failure::Failure;
use crate::session::{Session, unexpected};

/// Invite, list and revoke members of our organisation.
#[derive(Debug, Subcommand)]
pub enum MemberCommand {
    /// Make a one-time invite for a new member.
    ///
    /// The invite is a secret until it is used: whoever has it becomes a member.
    ///
    /// Examples:
    ///   meshctl member invite --role node
    ///   meshctl member invite --role master --valid 30m
    #[command(verbatim_doc_comment)]
    Invite {
        /// What the member will be.
        #[arg(long, value_enum, default_value = "node")]
        role: RoleName,
        /// How long the invite opens the door, for example 30m or 7d.
        #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = amount::span)]
        valid: Duration,
    },
    /// List the members.
    #[command(verbatim_doc_comment)]
    Ls,
    /// Revoke a member: its key is never admitted again, here or at our partners.
    ///
    /// Asks for the name on a terminal; elsewhere --yes must be given. The machine can be invited
    /// again with a new key only.
    ///
    /// Examples:
    ///   meshctl member revoke bakery-2 --reason 'sold with its disk'
    #[command(verbatim_doc_comment)]
    Revoke {
        /// The member.
        #[arg(value_name = "NAME")]
        name: Name,
        /// Why, for everybody who is told.
        #[arg(
            long,
            value_name = "SENTENCE",
            default_value = "it left the organisation"
        )]
        reason: String,
    },
}

/// A role, as people type it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleName {
    /// Routes, keeps copies, sells its own capacity.
    Node,
    /// Acts for the organisation too: signs members, agreements, invoices.
    Master,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Node => Self::Node,
            RoleName::Master => Self::Master,
        }
    }
}

impl MemberCommand {
    /// Invites or lists.
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Invite { role, valid } => invite(session, role.into(), valid),
            Self::Ls => list(session),
            Self::Revoke { name, reason } => revoke(session, name, reason),
        }
    }
}

fn invite(session: &Session, role: Role, valid: Duration) -> Result<(), Failure> {
    let reply = session.ask(&Request::MemberInvite {
        role,
        valid_s: valid.as_secs(),
    })?;
    let Reply::MemberInvite {
        invite, expires_at, ..
    } = &reply
    else {
        return Err(unexpected(&reply));
    };
    session.show(&reply, || format!("{}\n", screen::plain(invite)))?;
    session.say(&format!(
        "hint: on the new machine: meshnode join INVITE && meshnode start   (once, until {})\n",
        screen::time(*expires_at)
    ));
    Ok(())
}

fn revoke(session: &Session, name: Name, reason: String) -> Result<(), Failure> {
    let loss = format!("the key of {name} will never be admitted again");
    let command = format!("meshctl member revoke {name}");
    confirm::by_name(session, name.as_str(), &loss, &command)?;
    let reply = session.ask(&Request::MemberRevoke { name, reason })?;
    let Reply::MemberRevoked { name, from, .. } = &reply else {
        return Err(unexpected(&reply));
    };
    session.show(&reply, || {
        format!(
            "revoked {} at {}\n",
            screen::plain(name),
            screen::time(*from)
        )
    })?;
    session.say("hint: what runs there goes on there; order it anew elsewhere: meshctl ps\n");
    Ok(())
}

fn list(session: &Session) -> Result<(), Failure> {
    let reply = session.ask(&Request::MemberLs)?;
    let Reply::Members {
        members,
        invites_open,
    } = &reply
    else {
        return Err(unexpected(&reply));
    };
    session.show(&reply, || {
        let rows = members.iter().map(|member| {
            vec![
                member.name.clone(),
                role_word(member.role).to_owned(),
                screen::yes(member.connected).to_owned(),
                screen::time(member.valid_until),
                member.node.to_string(),
            ]
        });
        screen::table(
            &["NAME", "ROLE", "CONNECTED", "VALID UNTIL", "KEY"],
            rows.collect(),
        )
    })?;
    if *invites_open != 0 {
        session.say(&format!("invites open: {invites_open}\n"));
    }
    Ok(())
}

const fn role_word(role: Role) -> &'static str {
    match role {
        Role::Node => "node",
        Role::Master => "master",
    }
}
