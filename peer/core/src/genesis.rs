//! The first journal entries of a node: founded with a new organisation, or joined by invitation.
//!
//! Both are plain entries like any later ones, so that a node has one way to start: replay.

use std::time::Duration;

use mesh_base::address::NodeAddress;
use mesh_base::certificate::{
    Body as CertificateBody, CERTIFICATE_VERSION, Certificate, Chain, Role,
};
use mesh_base::identity::{NodeId, OrgId, SecretKey};
use mesh_base::name::Name;
use mesh_base::time::{Now, Wall};
use mesh_ledger::charter::OrgCharter;
use mesh_ledger::document::{DocId, DocKind};
use mesh_ledger::ledger::{Ledger, LedgerError};
use mesh_ledger::record::Body;

use crate::entry::Entry;
use crate::message::JoinReply;

/// How long a node's certificate is valid. The leader renews it when a third is left, so a leader
/// may be away for a month without anybody noticing, and a machine that was sold is out in three.
pub const NODE_VALID: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long a master's certificate is valid. Only the root key renews it, and somebody has to fetch
/// that from its drawer: once a year can be asked, once a quarter would make people leave it on the
/// machine.
pub const MASTER_VALID: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long before its issue a certificate is valid already: clocks of homes differ by hours.
pub const CLOCK_SLACK_MS: i64 = 24 * 3600 * 1000;

/// Who a certificate is for.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: Name,
    /// What it may do.
    pub role: Role,
    /// Its organisation.
    pub org: OrgId,
    /// Its organisation's name.
    pub org_name: Name,
}

/// Returns how long a certificate of this role is valid.
pub const fn valid_for(role: Role) -> Duration {
    match role {
        Role::Node => NODE_VALID,
        Role::Master => MASTER_VALID,
    }
}

/// Signs a node's certificate again from now on; all but time and issuer stays as it was.
pub fn recertify(old: &CertificateBody, issuer: &SecretKey, now: Wall) -> Certificate {
    let body = CertificateBody {
        version: CERTIFICATE_VERSION,
        not_before: Wall(now.0.saturating_sub(CLOCK_SLACK_MS)),
        not_after: now + valid_for(old.role),
        issuer: issuer.public(),
        ..old.clone()
    };
    Certificate::issue(body, issuer)
}

/// Signs a certificate for a node; computes its prefix (about 5 ms).
pub fn certify(subject: &Subject, issuer: &SecretKey, now: Wall) -> Certificate {
    let body = CertificateBody {
        version: CERTIFICATE_VERSION,
        node: subject.node,
        prefix: NodeAddress::of(&subject.node).prefix(),
        org: subject.org,
        org_name: subject.org_name.clone(),
        name: subject.name.clone(),
        role: subject.role,
        incarnation: 0,
        not_before: Wall(now.0.saturating_sub(CLOCK_SLACK_MS)),
        not_after: now + valid_for(subject.role),
        issuer: issuer.public(),
    };
    Certificate::issue(body, issuer)
}

/// Founds an organisation with its first node, which is its master and only voter.
pub fn found(
    node: &SecretKey,
    root: &SecretKey,
    org_name: &Name,
    node_name: &Name,
    now: Now,
) -> Result<Vec<Vec<u8>>, LedgerError> {
    let org = OrgId(root.public());
    let id = NodeId(node.public());
    let subject = Subject {
        node: id,
        name: node_name.clone(),
        role: Role::Master,
        org,
        org_name: org_name.clone(),
    };
    let chain = Chain(vec![certify(&subject, root, now.wall)]);
    let charter = OrgCharter {
        org,
        name: org_name.clone(),
        founded: now.wall,
        masters: vec![id],
        voters: vec![id],
    };
    let doc = DocId::public(DocKind::Charter, org, root.public(), 0);
    let appended = Ledger::new().append(doc, vec![Body::OrgCharter(charter)], root, 0, now.wall)?;
    Ok(vec![
        Entry::Chain(chain).to_bytes(),
        Entry::Delta(appended.delta).to_bytes(),
    ])
}

/// Takes what an inviting node answered; none if it was refused.
pub fn joined(reply: &JoinReply) -> Option<Vec<Vec<u8>>> {
    let JoinReply::Member {
        chain, contacts, ..
    } = reply
    else {
        return None;
    };
    let mut entries = vec![Entry::Chain(chain.clone()).to_bytes()];
    entries.extend(
        contacts
            .iter()
            .map(|contact| Entry::Contact(contact.clone()).to_bytes()),
    );
    Some(entries)
}
