//! Invitations and agreements: how a machine becomes a member, how two organisations become
//! partners.
//!
//! Only the leader invites. An invite's use is on disk before the visitor is answered, and a
//! visitor whose answer was lost gets the same one again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_api::request::Sale;
use mesh_api::trade::AgreementRow;
use mesh_api::{ApiError, ErrorKind, Reply};
use mesh_base::certificate::{Chain, Role};
use mesh_base::identity::{NodeId, OrgId};
use mesh_base::money::Money;
use mesh_base::name::Name;
use mesh_base::time::Moment;
use mesh_federation::agreement::{Agreements, Offering};
use mesh_federation::invite::{Grants, Invite, InviteBook, InviteError, Kind};
use mesh_ledger::agreement::{SignedAgreement, SignedTerms};
use mesh_ledger::charter::{Member, Offer};
use mesh_ledger::document::DocKind;
use mesh_ledger::invoice::Period;
use mesh_ledger::record::Body;
use rand_chacha::rand_core::Rng;

use crate::calls::Waiting;
use crate::entry::Entry;
use crate::genesis::{Subject, certify};
use crate::limits::REMOTE_WAIT;
use crate::message::{CONTACTS_MAX, JoinReply, JoinRequest, SignedContact};
use crate::node::Node;
use crate::port::{CallId, Effect, VisitId};
use crate::refusal::Reason;

/// How long an agreement holds unless it is replaced.
const AGREEMENT_VALID: Duration = Duration::from_secs(5 * 365 * 24 * 3600);
/// How long the other side of an agreement may take: it writes two records and answers.
const ACCEPT_WAIT: Duration = Duration::from_secs(30);
/// How long an accepted agreement waits for the seller's nodes before it is told.
const PARTNER_WAIT: Duration = Duration::from_secs(3);
/// Longest time that an invite may stay open.
const INVITE_VALID_S_MAX: u64 = 30 * 24 * 3600;

/// Why a visitor gets nothing.
struct TurnedAway {
    /// What it counts as.
    reason: Reason,
    /// What the visitor is told.
    sentence: String,
}

impl From<&str> for TurnedAway {
    fn from(sentence: &str) -> Self {
        Self::from(sentence.to_owned())
    }
}

impl From<String> for TurnedAway {
    fn from(sentence: String) -> Self {
        Self {
            reason: Reason::Join,
            sentence,
        }
    }
}

impl From<InviteError> for TurnedAway {
    fn from(error: InviteError) -> Self {
        Self {
            reason: Reason::from(&error),
            sentence: error.to_string(),
        }
    }
}

/// Invites, agreements, and small state of the leader.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    pub book: InviteBook,
    pub agreements: Agreements,
    /// Buyers and months whose drafts are behind their usage.
    pub drafts: BTreeSet<(OrgId, Period)>,
    /// When each buyer's draft was last written.
    pub drafted: BTreeMap<OrgId, Moment>,
    /// Log pieces that other nodes asked for: ticket → (peer, its request).
    pub log_tickets: BTreeMap<u64, (NodeId, u64)>,
    pub log_ticket: u64,
    door: bool,
}

impl Node {
    /// Makes a one-time invite for a new member.
    pub(crate) fn member_invite(&mut self, call: CallId, role: Role, valid_s: u64) {
        let made = self
            .must_lead("invite members")
            .and_then(|()| self.issue(Kind::Member { role }, valid_s));
        match made {
            Ok(invite) => self.wait(
                call,
                Waiting::Invite {
                    invite: Box::new(invite),
                },
                REMOTE_WAIT,
            ),
            Err(error) => self.reply(call, Err(error)),
        }
    }

    fn issue(&mut self, kind: Kind, valid_s: u64) -> Result<Invite, ApiError> {
        let usage = |cause: String, hint: &str| ApiError::new(ErrorKind::Usage, cause, hint);
        if valid_s == 0 || INVITE_VALID_S_MAX < valid_s {
            let cause = format!("an invite can be valid for 1 second to 30 days, not {valid_s} s");
            return Err(usage(cause, "choose another --valid"));
        }
        let mut secret = [0; 16];
        self.rng.fill_bytes(&mut secret);
        let now = self.now.wall;
        let expires = now + Duration::from_secs(valid_s);
        let entry = self
            .admission
            .book
            .issue(&secret, kind.grants(), expires, now)
            .map_err(|error| usage(error.to_string(), "list what is open: meshctl member ls"))?;
        self.out.append(&Entry::Invite(entry));
        Ok(Invite {
            kind,
            org: self.body.org,
            org_name: self.body.org_name.clone(),
            host: self.id,
            doors: Vec::new(),
            secret,
            expires,
            issuer: self.id,
        })
    }

    /// Completes an invite once the join door listens.
    pub(crate) fn progress_invite(&mut self, invite: &Invite) -> Option<Result<Reply, ApiError>> {
        if self.underlay.door.is_empty() {
            return None;
        }
        let mut invite = invite.clone();
        invite.doors = self.underlay.door.iter().copied().take(8).collect();
        let (text, expires_at) = (invite.to_text(), invite.expires);
        Some(Ok(match invite.kind {
            Kind::Member { role } => Reply::MemberInvite {
                invite: text,
                role,
                expires_at,
            },
            Kind::Agreement(_) => Reply::OrgInvite {
                agreement: text,
                expires_at,
            },
        }))
    }

    /// Offers an agreement: prices go into our catalog, terms are signed, the door opens.
    pub(crate) fn org_invite(
        &mut self,
        call: CallId,
        sell: &[Sale],
        credit: Money,
        valid_s: u64,
        settlement_days: u32,
    ) {
        let made = self
            .must_lead("make agreements")
            .and_then(|()| self.offer_terms(sell, credit, settlement_days))
            .and_then(|terms| self.issue(Kind::Agreement(Box::new(terms)), valid_s));
        match made {
            Ok(invite) => self.wait(
                call,
                Waiting::Invite {
                    invite: Box::new(invite),
                },
                REMOTE_WAIT,
            ),
            Err(error) => self.reply(call, Err(error)),
        }
    }

    fn offer_terms(
        &mut self,
        sell: &[Sale],
        credit: Money,
        settlement_days: u32,
    ) -> Result<SignedTerms, ApiError> {
        for sale in sell {
            self.recipe(&sale.recipe)?;
        }
        let mut offer_id = [0; 16];
        self.rng.fill_bytes(&mut offer_id);
        let offering = Offering {
            seller: self.body.org,
            seller_name: self.body.org_name.clone(),
            sells: sell
                .iter()
                .map(|sale| (sale.recipe.to_string(), sale.price))
                .collect(),
            credit,
            settlement_days,
            valid_until: self.now.wall + AGREEMENT_VALID,
            offer_id,
            buyer: None,
        };
        let terms = offering.terms().map_err(|error| {
            let hint = "write for example: --sell postgres=0.12EUR/month --credit 10EUR";
            ApiError::new(ErrorKind::Usage, error.to_string(), hint)
        })?;
        for (recipe, price) in &terms.prices {
            let key = (self.body.org, recipe.clone());
            let old = self.view.offers.get(&key).copied();
            if old.is_none_or(|(_, old)| old != *price) {
                let revision = old.map_or(1, |(revision, _)| revision.saturating_add(1));
                let offer = Offer {
                    recipe: recipe.clone(),
                    price: *price,
                    revision,
                };
                self.must_write(DocKind::Catalog, None, vec![Body::Offer(offer)]);
            }
        }
        Ok(SignedTerms::sign(
            terms,
            Some(self.chain.clone()),
            &self.secret,
        ))
    }

    /// Countersigns an offer and knocks at the seller's door.
    pub(crate) fn org_accept(&mut self, call: CallId, text: &str) {
        match self.countersign(text) {
            Ok((invite, agreement)) => {
                let request = JoinRequest::Agreement {
                    secret: invite.secret,
                    agreement: Box::new(agreement.clone()),
                    contacts: self.own_contacts(),
                };
                let host = invite.host;
                self.out.durable(Effect::Knock {
                    call,
                    host,
                    addresses: invite.doors,
                    request: Box::new(request),
                });
                let waiting = Waiting::Accept {
                    agreement: Box::new(agreement),
                };
                self.wait(call, waiting, ACCEPT_WAIT);
            }
            Err(error) => self.reply(call, Err(error)),
        }
    }

    fn countersign(&self, text: &str) -> Result<(Invite, SignedAgreement), ApiError> {
        self.must_lead("sign agreements")?;
        let usage = |cause: String| {
            ApiError::new(
                ErrorKind::Usage,
                cause,
                "ask the seller for a new one: meshctl org invite",
            )
        };
        let invite = Invite::from_text(text, self.now.wall).map_err(|e| usage(e.to_string()))?;
        let Kind::Agreement(terms) = &invite.kind else {
            return Err(ApiError::new(
                ErrorKind::Usage,
                "this is an invite for a new member, not an agreement",
                "use it on the new machine: meshnode join INVITE",
            ));
        };
        let agreement = SignedAgreement::sign(
            terms.as_ref().clone(),
            self.body.org,
            self.body.org_name.clone(),
            self.chain.clone(),
            &self.secret,
        );
        agreement
            .verify(self.now.wall)
            .map_err(|error| usage(error.to_string()))?;
        Ok((invite, agreement))
    }

    fn own_contacts(&self) -> Vec<SignedContact> {
        let own = self.body.org;
        let of_own = |contact: &&SignedContact| {
            contact
                .contact
                .chain
                .leaf()
                .is_some_and(|body| body.org == own)
        };
        self.peers
            .contacts()
            .filter(of_own)
            .take(CONTACTS_MAX)
            .cloned()
            .collect()
    }

    /// Somebody stands at the join door.
    pub(crate) fn visit(&mut self, visit: VisitId, visitor: NodeId, request: JoinRequest) {
        let reply = match request {
            JoinRequest::Member { secret, node, name } if node == visitor => {
                self.welcome_member(&secret, visitor, name)
            }
            JoinRequest::Member { .. } => {
                Err(TurnedAway::from("the key shown is not the key proven"))
            }
            JoinRequest::Agreement {
                secret,
                agreement,
                contacts,
            } => self.welcome_partner(&secret, visitor, &agreement, contacts),
        };
        let reply = reply.unwrap_or_else(|TurnedAway { reason, sentence }| {
            self.refuse(reason, &visitor, &sentence);
            JoinReply::Refused { reason: sentence }
        });
        self.out.durable(Effect::Answer {
            visit,
            reply: Box::new(reply),
        });
    }

    fn welcome_member(
        &mut self,
        secret: &[u8; 16],
        visitor: NodeId,
        name: Option<String>,
    ) -> Result<JoinReply, TurnedAway> {
        let now = self.now.wall;
        if let Some(revoked) = self.roster.revocation(&self.body.org, &visitor) {
            // Before the invite is used up: it is good for the same machine with another key.
            let (from, why) = (revoked.from, &revoked.reason);
            return Err(TurnedAway {
                reason: Reason::Revoked,
                sentence: format!("this key was revoked at {from} ({why}); join with a new one"),
            });
        }
        let redeemed = self.admission.book.redeem(secret, &visitor, now)?;
        let Grants::Member { role } = redeemed.grants else {
            return Err("this is an agreement, not an invite for a member".into());
        };
        if let Some(entry) = redeemed.entry {
            self.out.append(&Entry::Invite(entry));
        }
        let known = self
            .roster
            .member(&visitor)
            .filter(|member| member.body.org == self.body.org);
        let chain = match known {
            // The answer was lost: the same one again.
            Some(member) => member.chain.clone(),
            None => self.certify_member(visitor, role, name)?,
        };
        let contacts = self.peers.contacts().take(CONTACTS_MAX).cloned().collect();
        Ok(JoinReply::Member {
            chain,
            org: self.body.org,
            contacts,
            wall: now,
        })
    }

    fn certify_member(
        &mut self,
        node: NodeId,
        role: Role,
        name: Option<String>,
    ) -> Result<Chain, TurnedAway> {
        let name = self.member_name(name)?;
        let subject = Subject {
            node,
            name,
            role,
            org: self.body.org,
            org_name: self.body.org_name.clone(),
        };
        let leaf = certify(&subject, &self.secret, self.now.wall);
        let Some(own) = self.chain.0.first().cloned() else {
            return Err("this node has no certificate".into());
        };
        let chain = Chain(vec![leaf, own]);
        self.roster
            .admit(&node, &chain, self.now.wall)
            .map_err(|error| error.to_string())?;
        let member = Body::Member(Member {
            chain: chain.clone(),
        });
        self.write(DocKind::Members, None, vec![member])
            .map_err(|error| error.to_string())?;
        Ok(chain)
    }

    /// The name asked for if it is free, else the organisation's name with the next free number.
    fn member_name(&self, wanted: Option<String>) -> Result<Name, String> {
        let org = self.body.org;
        let free = |name: &Name| *name != self.body.name && self.roster.named(&org, name).is_none();
        if let Some(wanted) = wanted {
            let name: Name = wanted.parse().map_err(|error| format!("{error}"))?;
            if free(&name) {
                return Ok(name);
            }
            return Err(format!(
                "{} has a node \"{name}\" already",
                self.body.org_name
            ));
        }
        let numbered = (2..100_000u32).find_map(|number| {
            let name: Name = format!("{}-{number}", self.body.org_name).parse().ok()?;
            free(&name).then_some(name)
        });
        numbered.ok_or_else(|| "no free name was found; choose one with --name".to_owned())
    }

    fn welcome_partner(
        &mut self,
        secret: &[u8; 16],
        visitor: NodeId,
        agreement: &SignedAgreement,
        contacts: Vec<SignedContact>,
    ) -> Result<JoinReply, TurnedAway> {
        let now = self.now.wall;
        agreement.verify(now).map_err(|error| error.to_string())?;
        let terms = agreement.terms();
        let signer = agreement.buyer_chain.leaf().map(|body| body.node);
        if terms.seller != self.body.org || signer != Some(visitor) {
            return Err("the agreement is not between us and the one who brings it".into());
        }
        let redeemed = self.admission.book.redeem(secret, &visitor, now)?;
        if redeemed.grants
            != (Grants::Agreement {
                offer_id: terms.offer_id,
            })
        {
            return Err("the secret belongs to another offer".into());
        }
        if !self
            .admission
            .agreements
            .is_used(&terms.seller, &terms.offer_id)
        {
            let used = redeemed.entry.map(Entry::Invite).into_iter().collect();
            let body = Body::Agreement(agreement.clone());
            self.write_with(DocKind::Agreement, Some(agreement.buyer), vec![body], used)
                .map_err(|error| error.to_string())?;
        }
        for contact in contacts.into_iter().take(CONTACTS_MAX) {
            self.contact(contact, None);
        }
        Ok(JoinReply::Agreement {
            contacts: self.own_contacts(),
        })
    }

    /// The seller's door answered, or could not be reached.
    pub(crate) fn knocked(&mut self, call: CallId, reply: Result<JoinReply, String>) {
        let Some(waiting) = self.calls.take(call) else {
            return;
        };
        let Waiting::Accept { agreement } = waiting.waiting else {
            return;
        };
        let answer = match reply {
            Ok(JoinReply::Agreement { contacts }) => match self.agreed(&agreement, contacts) {
                Ok(row) => {
                    let (row, seller) = (Box::new(row), agreement.terms().seller);
                    return self.wait(call, Waiting::Partner { row, seller }, PARTNER_WAIT);
                }
                Err(error) => Err(error),
            },
            Ok(JoinReply::Refused { reason }) => Err(ApiError::new(
                ErrorKind::NotAuthorised,
                format!(
                    "the seller refused: {}",
                    reason.chars().take(200).collect::<String>()
                ),
                "ask the seller for a new one: meshctl org invite",
            )),
            Ok(JoinReply::Member { .. }) => Err(ApiError::new(
                ErrorKind::Failure,
                "the seller answered something else than was asked",
                "ask the seller to update its machine",
            )),
            Err(reason) => Err(ApiError::new(
                ErrorKind::Unreachable,
                format!("the seller cannot be reached: {reason}"),
                "check that its node runs and that its join door's port is open, then try again",
            )),
        };
        self.reply(call, answer);
    }

    fn agreed(
        &mut self,
        agreement: &SignedAgreement,
        contacts: Vec<SignedContact>,
    ) -> Result<AgreementRow, ApiError> {
        let seller = agreement.terms().seller;
        let offer = agreement.terms().offer_id;
        // The seller's own record may be here already, by replication; ours is the mirror of it.
        let mut agreements = self.view.agreements.values();
        let mirrored = agreements.any(|(writer, _, signed)| {
            *writer == self.body.org && signed.terms().offer_id == offer
        });
        if !mirrored {
            let body = Body::Agreement(agreement.clone());
            self.write(DocKind::Agreement, Some(seller), vec![body])
                .map_err(|error| {
                    ApiError::new(
                        ErrorKind::Failure,
                        format!("the agreement could not be written: {error}"),
                        "check the ledger: meshctl ledger verify",
                    )
                })?;
        }
        for contact in contacts.into_iter().take(CONTACTS_MAX) {
            self.contact(contact, None);
        }
        let written = self
            .view
            .agreements
            .iter()
            .find(|(_, (writer, _, signed))| {
                *writer == self.body.org && signed.terms().offer_id == offer
            });
        let id = written.map(|(id, _)| *id);
        let row = id.and_then(|id| self.agreement_row(&id));
        row.ok_or_else(|| {
            ApiError::new(
                ErrorKind::Failure,
                "the agreement is not in the ledger",
                "check the ledger: meshctl ledger verify",
            )
        })
    }

    /// Opens or closes the join door as invites come and go.
    pub(crate) fn publish_door(&mut self) {
        let open = self.admission.book.door_open_until(self.now.wall).is_some();
        if open != self.admission.door {
            self.admission.door = open;
            self.out.now(Effect::Door { open });
        }
    }

    /// A node asks for a piece of the log of an instance that we hold for its organisation.
    pub(crate) fn remote_log_read(
        &mut self,
        from: NodeId,
        org: OrgId,
        request: u64,
        order: mesh_ledger::record::RecordId,
        offset: u64,
    ) {
        let entitled = self
            .view
            .orders
            .get(&order)
            .is_some_and(|view| view.org == org)
            && self.provider.instances.contains_key(&order);
        if !entitled {
            let refused = Some("the node has no such instance of yours".to_owned());
            let message = crate::message::Message::LogPiece {
                request,
                offset,
                bytes: serde_bytes::ByteBuf::new(),
                refused,
            };
            self.out.send(from, message);
            return;
        }
        if crate::limits::CALLS_MAX <= self.admission.log_tickets.len() {
            // The oldest ticket's answer never came; the newest request matters more to somebody
            // who waits.
            self.admission.log_tickets.pop_last();
        }
        // Tickets of remote readers count down from the top, calls of programs here up from the
        // bottom.
        self.admission.log_ticket = self.admission.log_ticket.wrapping_sub(1);
        let ticket = self.admission.log_ticket;
        self.admission.log_tickets.insert(ticket, (from, request));
        let item = mesh_compute::step::ItemId(crate::view::item_of(&order));
        self.out.now(Effect::ReadLog {
            ticket,
            item,
            offset,
        });
    }
}
