//! Standing: certificates that end and are renewed, keys that are revoked, keys that run twice.
//!
//! ```text
//! leader, a third of the time left ─► Member record ─► member adopts it ─► journal, contact, gate
//! leader, `member revoke` ─► Revocation record ─► everybody who reads it: forget, hang up, refuse
//! each node, every 30 s ─► Hello{run} ─► a run that returns after another ─► one key, two machines
//! ```
//! Decides when a certificate is renewed and whom we hang up on; the roster decides who is a
//! member. Masters' own certificates are signed by the root key, which may lie in a drawer:
//! `meshnode keys renew` does that, and here is only said when it is time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_api::status::{Health, HealthRow};
use mesh_api::{ApiError, ErrorKind, Reply};
use mesh_base::certificate::{Chain, Role};
use mesh_base::identity::{NodeId, OrgId};
use mesh_base::name::Name;
use mesh_base::time::{Moment, Wall};
use mesh_ledger::charter::{Member, Revocation};
use mesh_ledger::document::DocKind;
use mesh_ledger::record::Body;

use crate::entry::Entry;
use crate::genesis::{recertify, valid_for};
use crate::limits::{HELLO_INTERVAL, PEERS_MAX};
use crate::message::Message;
use crate::node::Node;
use crate::port::Effect;
use crate::refusal::Reason;
use crate::report::health_row;

/// How often certificates are looked at: they live for weeks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A new certificate must last so much longer than the old one to be worth a record.
const GAIN_MS: i64 = 24 * 3600 * 1000;
/// How long before its end a certificate that only people can renew is spoken of.
const WARN_MS: i64 = 30 * 24 * 3600 * 1000;
/// How long a key that ran twice is spoken of after it was last seen to.
const ALARM_MS: i64 = 24 * 3600 * 1000;
/// Runs of one key that are remembered: a machine that restarts makes a new one each time.
const RUNS_MAX: usize = 8;

/// The runs of one key, newest last.
#[derive(Debug, Default)]
struct Runs(Vec<u64>);

impl Runs {
    /// Notes a run; returns whether it had ended, as it seemed, and is back.
    ///
    /// A restart makes a run that nobody has seen; only two machines at a time return to old ones.
    fn note(&mut self, run: u64) -> bool {
        if self.0.last() == Some(&run) {
            return false;
        }
        let is_back = self.0.contains(&run);
        self.0.retain(|old| *old != run);
        if RUNS_MAX <= self.0.len() {
            self.0.remove(0);
        }
        self.0.push(run);
        is_back
    }
}

/// What a node knows about keys beside who is a member.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Names this run of ours.
    pub run: u64,
    look_next: Moment,
    hello_next: Moment,
    runs: BTreeMap<NodeId, Runs>,
    /// Keys that two machines use, and when that was last seen.
    clones: BTreeMap<NodeId, Wall>,
    /// Members whose certificates had ended when we last looked.
    ended: BTreeSet<NodeId>,
}

impl Node {
    /// Looks after certificates and runs, on each tick.
    pub(crate) fn standing_timers(&mut self) {
        let now = self.now.mono;
        if self.standing.look_next <= now {
            self.standing.look_next = now + LOOK_INTERVAL;
            self.renew_members();
            self.adopt_certificate();
            self.hang_up_on_ended();
            // A guest may have become a partner only now.
            self.tell_guests();
        }
        if self.standing.hello_next <= now {
            self.standing.hello_next = now + HELLO_INTERVAL;
            let run = self.standing.run;
            let peers: Vec<NodeId> = self.peers.connected().map(|(peer, _)| *peer).collect();
            for peer in peers {
                self.out.send(peer, Message::Hello { run });
            }
        }
    }

    /// As leader, certifies anew whose certificate has a third of its time left.
    fn renew_members(&mut self) {
        if !self.leads() {
            return;
        }
        let (now, own_end) = (self.now.wall, self.chain.valid_until());
        let due: Vec<mesh_base::certificate::Body> = self
            .roster
            .members_of(&self.body.org)
            .filter(|(node, member)| {
                let span = valid_for(member.body.role);
                let (end, best) = (member.chain.valid_until(), own_end.min(Some(now + span)));
                let third = i64::try_from(span.as_millis() / 3).unwrap_or(i64::MAX);
                let is_due = end.is_some_and(|end| end - now < third);
                let gains = best
                    .zip(end)
                    .is_some_and(|(best, end)| GAIN_MS < best - end);
                **node != self.id && is_due && gains
            })
            .map(|(_, member)| member.body.clone())
            .collect();
        let Some(own) = self.chain.0.first().cloned() else {
            return;
        };
        for body in due {
            let name = body.name.clone();
            let chain = Chain(vec![recertify(&body, &self.secret, now), own.clone()]);
            tracing::info!(node = %name, "its certificate is renewed");
            self.must_write(DocKind::Members, None, vec![Body::Member(Member { chain })]);
        }
    }

    /// Takes up a newer certificate of our own that the leader has written.
    pub(crate) fn adopt_certificate(&mut self) {
        let Some(member) = self.roster.member(&self.id) else {
            return;
        };
        let newer = self.chain.valid_until() < member.chain.valid_until()
            && self.body.not_before <= member.body.not_before
            && member.body.org == self.body.org;
        if !newer {
            return;
        }
        self.chain = member.chain.clone();
        self.body = member.body.clone();
        self.out.append(&Entry::Chain(self.chain.clone()));
        self.publish_contact();
        self.changed = true;
    }

    /// Hangs up on peers whose certificates have ended; the gate refuses them from then on.
    fn hang_up_on_ended(&mut self) {
        let now = self.now.wall;
        let ended: BTreeSet<NodeId> = self
            .roster
            .members()
            .filter(|(_, member)| member.chain.valid_until() <= Some(now))
            .map(|(node, _)| *node)
            .collect();
        if ended == self.standing.ended {
            return;
        }
        let fresh: Vec<NodeId> = ended.difference(&self.standing.ended).copied().collect();
        self.standing.ended = ended;
        // The data plane's plan leaves them out.
        self.changed = true;
        for node in fresh {
            if self.peers.peer(&node).is_some() {
                self.refuse(Reason::Expired, &node, "its certificate has ended");
                self.out.now(Effect::Hangup { peer: node });
            }
        }
    }

    /// Whether a node's certificate is good now.
    pub(crate) fn in_standing(&self, node: &NodeId) -> bool {
        let member = self.roster.member(node);
        member.is_some_and(|member| Some(self.now.wall) < member.chain.valid_until())
    }

    /// Revokes a member by its name.
    pub(crate) fn member_revoke(&mut self, name: &Name, reason: &str) -> Result<Reply, ApiError> {
        self.must_lead("revoke members")?;
        if *name == self.body.name {
            let cause = format!(
                "{name} leads {}, and cannot revoke itself",
                self.body.org_name
            );
            let hint = "a lost leader is replaced with the organisation's root key";
            return Err(ApiError::new(ErrorKind::Conflict, cause, hint));
        }
        let Some(node) = self.roster.named(&self.body.org, name) else {
            let cause = format!("{} has no member \"{name}\"", self.body.org_name);
            return Err(ApiError::new(
                ErrorKind::NotFound,
                cause,
                "list them: meshctl member ls",
            ));
        };
        let from = self.now.wall;
        let revocation = Revocation {
            node,
            reason: reason.to_owned(),
            from,
        };
        self.write(DocKind::Members, None, vec![Body::Revocation(revocation)])
            .map_err(|error| {
                let cause = format!("the revocation could not be written: {error}");
                ApiError::new(ErrorKind::Usage, cause, "give a reason of 1 to 200 letters")
            })?;
        Ok(Reply::MemberRevoked {
            name: name.to_string(),
            node,
            from,
        })
    }

    /// Learns that an organisation does not want one of its keys any more.
    pub(crate) fn revoked(&mut self, org: OrgId, revocation: &Revocation) {
        let node = revocation.node;
        let lost = self
            .roster
            .revoke(org, node, revocation.from, &revocation.reason);
        let lost = match lost {
            Ok(lost) => lost,
            Err(error) => return self.refuse(Reason::from(&error), &node, &error.to_string()),
        };
        self.changed = true;
        if node == self.id {
            tracing::error!(reason = revocation.reason, "this node's key was revoked");
            return;
        }
        // A key may be a member of another organisation too, which has not revoked it.
        if self.roster.member(&node).is_some() {
            return;
        }
        if let Some(member) = lost {
            tracing::warn!(name = %member.body.name, reason = revocation.reason, "revoked");
        }
        let is_connected = self.peers.peer(&node).is_some();
        self.peers.forget(&node);
        self.replication.handle_disconnected(&node);
        if is_connected {
            self.refuse(Reason::Revoked, &node, &revocation.reason);
            self.out.now(Effect::Hangup { peer: node });
        }
    }

    /// A peer names its run.
    pub(crate) fn hello(&mut self, from: NodeId, run: u64) {
        let runs = &mut self.standing.runs;
        if PEERS_MAX <= runs.len() && !runs.contains_key(&from) {
            // Of somebody else who may be gone: without memory a clone is noticed a little later.
            runs.pop_first();
        }
        if runs.entry(from).or_default().note(run) {
            self.cloned(from, "two machines take turns with it");
        }
    }

    /// Notes that a key is used by two machines.
    pub(crate) fn cloned(&mut self, node: NodeId, evidence: &str) {
        self.refuse(Reason::Clone, &node, evidence);
        if self.standing.clones.len() < PEERS_MAX || self.standing.clones.contains_key(&node) {
            self.standing.clones.insert(node, self.now.wall);
        }
    }

    /// Counts a refusal and says more about it in the log.
    pub(crate) fn refuse(&mut self, refusal: Reason, node: &NodeId, why: &str) {
        let (word, node) = (refusal.as_str(), node.key().short());
        tracing::info!(word, node, why, "refused");
        self.note_refusal(refusal);
    }

    /// How our own certificate and our members' stand.
    pub(crate) fn certificate_health(&self) -> HealthRow {
        let row =
            |verdict, sentence, hint: &str| health_row("certificate", verdict, sentence, hint);
        let now = self.now.wall;
        let Some(end) = self.chain.valid_until() else {
            let sentence = "this node has no certificate".to_owned();
            return row(Health::Fail, sentence, "join again: meshnode join INVITE");
        };
        let by_root = self.chain.0.len() == 1;
        let hint = if by_root {
            "with keys/org-root.key here: meshnode stop && meshnode keys renew && meshnode start"
        } else {
            "its leader renews it: see that the leader runs and is connected: meshctl status"
        };
        if let Some(revoked) = self.roster.revocation(&self.body.org, &self.id) {
            let sentence = format!(
                "this node was revoked at {}: {}",
                revoked.from, revoked.reason
            );
            let hint = "with a new key it can be invited again: ask the leader";
            return row(Health::Fail, sentence, hint);
        }
        if end <= now {
            return row(Health::Fail, format!("it ended at {end}"), hint);
        }
        let overdue = match self.body.role {
            // The leader has had five days to do it.
            Role::Node => WARN_MS - 5 * GAIN_MS,
            Role::Master => WARN_MS,
        };
        if end - now < overdue {
            return row(Health::Warn, format!("it ends at {end}"), hint);
        }
        let own = self.body.org;
        let mut ended = self.standing.ended.iter();
        let ended = ended.find(|node| **node != self.id && self.roster.org_of(node) == Some(own));
        if let Some(node) = ended {
            let sentence = format!("the certificate of {} has ended", self.node_name(node));
            let hint =
                "start it where its leader can reach it, or revoke it: meshctl member revoke";
            return row(Health::Warn, sentence, hint);
        }
        row(Health::Ok, format!("valid until {end}"), "")
    }

    /// Whether each key is on one machine only, as far as we saw.
    pub(crate) fn identity_health(&self) -> HealthRow {
        let recent = |seen: &Wall| self.now.wall - *seen < ALARM_MS;
        let cloned = self.standing.clones.iter().find(|(_, seen)| recent(seen));
        let Some((node, seen)) = cloned else {
            let sentence = "no key was seen on two machines".to_owned();
            return health_row("identity", Health::Ok, sentence, "");
        };
        let name = self.node_name(node);
        let sentence = format!("the key of {name} is used by two machines, last seen {seen}");
        let hint = format!(
            "stop one of them; if the other is not yours: meshctl member revoke {name}, \
             then invite the machine with a new key"
        );
        health_row("identity", Health::Fail, sentence, &hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_make_new_runs_and_only_two_machines_return_to_old_ones() {
        let mut runs = Runs::default();
        for run in [1, 1, 2, 3, 3, 4] {
            assert!(!runs.note(run), "{run}");
        }
        assert!(runs.note(3));
        assert!(runs.note(4));
        assert!((10..100).all(|run| !runs.note(run)));
        assert_eq!(runs.0.len(), RUNS_MAX);
    }
}
