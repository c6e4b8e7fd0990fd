//! Messages and records: what comes from peers, through the gate, into the ledger, and who reacts
//! to it.
//!
//! Leaves to `replication` what to send when; here the node carries it out. A change enters the
//! journal before anybody is told that we have it.

use std::net::SocketAddr;

use mesh_base::certificate::Chain;
use mesh_base::codec;
use mesh_base::identity::{NodeId, OrgId};
use mesh_base::time::Wall;
use mesh_federation::leader::{LeadError, Leadership};
use mesh_federation::members::{AdmitError, Roster};
use mesh_ledger::document::{DocId, DocKind};
use mesh_ledger::gate::{Authority, AuthorityError, Equivocation, Rejection};
use mesh_ledger::ledger::Delta;
use mesh_ledger::record::{Body, RecordId, SignedRecord};

use crate::entry::Entry;
use crate::limits::{CHANGES_LEN_MAX_FULL, PROOFS_PER_WRITER_MAX};
use crate::message::{CONTACTS_MAX, Message, SignedContact};
use crate::node::{Node, leader_writes};
use crate::peers::ContactVerdict;
use crate::port::{Effect, Room};
use crate::refusal::{Reason, sentence};

/// Who may write what, by what the roster proves now.
pub(crate) struct Gatekeeper<'a> {
    pub roster: &'a Roster,
    pub own: OrgId,
}

impl Authority for Gatekeeper<'_> {
    fn writer_allowed(&self, doc: &DocId, term: u64) -> Result<(), AuthorityError> {
        if !self.roster.orgs().contains_key(&doc.org) {
            return Err(AuthorityError::UnknownOrg(doc.org));
        }
        let writer = NodeId(doc.writer);
        if doc.kind == DocKind::Charter {
            // The document's own form says that its writer is the root key.
            return Ok(());
        }
        if leader_writes(doc.kind) {
            return self.leader_allowed(doc, &writer, term);
        }
        if term != 0 {
            return Err(AuthorityError::Term {
                shown: term,
                valid: 0,
            });
        }
        let member = self.roster.member(&writer);
        let member = member.filter(|member| member.body.org == doc.org);
        let valid = match (member, self.roster.revocation(&doc.org, &writer)) {
            (Some(member), _) => member.body.incarnation,
            // What a revoked key wrote in its time still counts: see `time_allowed`.
            (None, Some(revoked)) => revoked
                .past
                .as_ref()
                .map_or(doc.incarnation, |(_, incarnation)| *incarnation),
            (None, None) => return Err(AuthorityError::UnknownWriter(doc.writer)),
        };
        if valid != doc.incarnation {
            return Err(AuthorityError::Incarnation {
                shown: doc.incarnation,
                valid,
            });
        }
        Ok(())
    }

    /// History that was admitted before stays; what is new must claim a time at which its writer
    /// was lawful. The claim is the writer's own: a revoked key can date back, but only members
    /// would carry it here.
    fn time_allowed(&self, doc: &DocId, wall: Wall) -> Result<(), AuthorityError> {
        let writer = NodeId(doc.writer);
        if let Some(revoked) = self.roster.revocation(&doc.org, &writer)
            && revoked.from <= wall
        {
            return Err(AuthorityError::Revoked(doc.writer));
        }
        if doc.kind == DocKind::Charter || leader_writes(doc.kind) {
            // The charter says who leads, for as long as it does.
            return Ok(());
        }
        let member = self.roster.member(&writer);
        match member.and_then(|member| member.chain.valid_until()) {
            Some(end) if end <= wall => Err(AuthorityError::Expired(end)),
            _ => Ok(()),
        }
    }

    fn reads(&self, doc: &DocId) -> bool {
        doc.may_read(&self.own)
    }
}

impl Gatekeeper<'_> {
    fn leader_allowed(
        &self,
        doc: &DocId,
        writer: &NodeId,
        term: u64,
    ) -> Result<(), AuthorityError> {
        let role = AuthorityError::Role(doc.writer);
        let charter = self.roster.charter_of(&doc.org).ok_or(role.clone())?;
        let leadership = Leadership::of(charter).map_err(|_| role.clone())?;
        leadership
            .may_write(writer, term)
            .map_err(|error| match error {
                LeadError::Term { given, current } => AuthorityError::Term {
                    shown: given,
                    valid: current,
                },
                _ => role,
            })
    }
}

/// Whether a refusal may turn into admission once more is known: not worth telling the sender.
fn is_temporary(rejection: &Rejection) -> bool {
    matches!(
        rejection,
        Rejection::Authority(
            AuthorityError::UnknownOrg(_)
                | AuthorityError::UnknownWriter(_)
                | AuthorityError::Role(_)
                | AuthorityError::Expired(_)
        )
    )
}

impl Node {
    pub(crate) fn connected(&mut self, peer: NodeId, chain: &Chain, seen: Option<SocketAddr>) {
        let now = self.now;
        let org = match self.roster.admit(&peer, chain, now.wall) {
            Ok(member) => member.body.org,
            Err(error) => {
                if let AdmitError::OldIncarnation { .. } = error {
                    self.cloned(peer, &error.to_string());
                } else {
                    self.refuse(Reason::from(&error), &peer, &error.to_string());
                }
                self.out.now(Effect::Hangup { peer });
                return;
            }
        };
        if !self.peers.handle_connected(peer, org, seen, now.mono) {
            self.refuse(Reason::Limit, &peer, "too many peers");
            self.out.now(Effect::Hangup { peer });
            return;
        }
        let contacts: Vec<SignedContact> = self
            .peers
            .contacts()
            .filter(|contact| self.concerns(contact, org))
            .cloned()
            .collect();
        self.changed = true;
        for part in contacts.chunks(CONTACTS_MAX) {
            self.out
                .send_durable(peer, Message::Contacts(part.to_vec()));
        }
        for message in self
            .replication
            .handle_connected(peer, org, &self.ledger, now.mono)
        {
            self.out.send_durable(peer, message);
        }
        let run = self.standing.run;
        self.out.send(peer, Message::Hello { run });
        self.greet_neighbour(peer);
        self.customer_reconnected(peer);
    }

    /// Whether a peer of `org` may learn of a contact: our own nodes and its own.
    fn concerns(&self, contact: &SignedContact, org: OrgId) -> bool {
        let about = contact.contact.chain.leaf().map(|body| body.org);
        about == Some(self.body.org) || about == Some(org) || org == self.body.org
    }

    pub(crate) fn disconnected(&mut self, peer: NodeId) {
        self.peers.handle_disconnected(&peer, self.now.mono);
        self.replication.handle_disconnected(&peer);
    }

    pub(crate) fn garbled_by(&mut self, from: NodeId) {
        self.garbled = self.garbled.saturating_add(1);
        self.note_refusal(Reason::Unreadable);
        tracing::debug!(peer = %from.key().short(), "a message could not be read");
    }

    pub(crate) fn message(&mut self, from: NodeId, message: Message) {
        // A message of a peer that is not connected any more is late; what matters is repeated.
        let Some(peer_org) = self.peers.peer(&from).map(|peer| peer.org) else {
            return;
        };
        let now = self.now.mono;
        match message {
            Message::Contacts(contacts) => {
                for contact in contacts.into_iter().take(CONTACTS_MAX) {
                    self.contact(contact, Some(from));
                }
            }
            Message::Frontiers {
                complete,
                reply,
                list,
            } => {
                let answers = self.replication.handle_frontiers(
                    &from,
                    complete,
                    reply,
                    &list,
                    &self.ledger,
                    now,
                );
                for answer in answers {
                    self.out.send_durable(from, answer);
                }
            }
            Message::Summary { digest } => {
                let answers = self
                    .replication
                    .handle_summary(&from, digest, &self.ledger, now);
                for answer in answers {
                    self.out.send_durable(from, answer);
                }
            }
            Message::Changes(delta) => self.changes(from, &delta),
            Message::Reserve { order, ask, sealed } => {
                self.reserve_request(from, &order, &ask, sealed);
            }
            Message::Step { order, step } => self.remote_step(from, RecordId(order), &step),
            Message::LogRead {
                request,
                order,
                offset,
            } => {
                self.remote_log_read(from, peer_org, request, RecordId(order), offset);
            }
            Message::LogPiece {
                request,
                offset,
                bytes,
                refused,
            } => {
                self.calls_log_piece(from, request, offset, &bytes, refused);
            }
            Message::UsageNow { order } => self.remote_usage_now(from, peer_org, RecordId(order)),
            Message::Proof(proof) => self.proof(from, &proof),
            Message::Hello { run } => self.hello(from, run),
            Message::Link(wish) => self.link_wish(from, wish),
            Message::Ping { token } => self.out.send(from, Message::Pong { token }),
            Message::Pong { token } => self.peers.handle_pong(&from, token, now),
            Message::Refused { what, reason } => {
                let (what, reason) = (shorten(&what), shorten(&reason));
                tracing::info!(peer = %from.key().short(), what, reason, "a peer refused");
            }
        }
    }

    /// Takes in changes of a document: gate, journal, acknowledgement, reaction.
    fn changes(&mut self, from: NodeId, delta: &Delta) {
        // What is left belongs to what runs here, and to the word that it shall end. Nobody is told
        // that more has arrived, so it comes again.
        if self.room == Room::Full && CHANGES_LEN_MAX_FULL < codec::encode(delta).len() {
            return;
        }
        let gatekeeper = Gatekeeper {
            roster: &self.roster,
            own: self.body.org,
        };
        let before = self.ledger.frontier(&delta.doc).unwrap_or_default().seq;
        match self.ledger.admit(delta, &gatekeeper, self.now) {
            Ok(admitted) => {
                // A change may repeat a record and bring nothing new; the next one builds on it all
                // the same.
                if before < admitted.frontier.seq {
                    // Only what is new: else one more change would cost the journal a whole
                    // history.
                    let news = self.ledger.since(&delta.doc, before, usize::MAX);
                    let news = news.filter(|news| news.frontier() == delta.frontier());
                    let entry = Entry::Delta(news.unwrap_or_else(|| delta.clone()));
                    self.out.append(&entry);
                    for id in admitted.new {
                        self.absorb(id);
                        self.fresh.push_back(id);
                    }
                }
                self.acknowledge(from, delta.doc);
            }
            Err(Rejection::Gap { doc, .. }) => self.acknowledge(from, *doc),
            // The sender gets the proof when it next compares lists with us.
            Err(Rejection::Frozen) => {}
            Err(Rejection::Equivocation(proof)) => {
                // The gate has frozen the document already; here the proof is kept and spread.
                self.note_refusal(Reason::TwoHistories);
                self.spread(None, &proof);
            }
            Err(refusal) => {
                let what = format!("changes of {}", delta.doc);
                let reason = sentence(&refusal);
                tracing::debug!(peer = %from.key().short(), what, reason, "changes refused");
                // A writer that we do not know yet will be repeated; anything else is told.
                if is_temporary(&refusal) {
                    self.note_refusal(Reason::NotYet);
                } else {
                    self.refuse(Reason::from(&refusal), &from, &reason);
                    self.out.send(from, Message::Refused { what, reason });
                }
            }
        }
    }

    /// Keeps a proof of two histories and passes it on, once, to everybody who may read the
    /// document.
    fn proof(&mut self, from: NodeId, proof: &Equivocation) {
        let doc = proof.one.doc;
        let of_writer = || {
            let proofs = self.ledger.proofs();
            proofs.filter(|old| old.one.doc.writer == doc.writer)
        };
        let known = of_writer().any(|old| old.one.doc == doc);
        let many = PROOFS_PER_WRITER_MAX <= of_writer().count();
        if known || many || !doc.may_read(&self.body.org) {
            return;
        }
        // Anybody can make a key and contradict himself with it: only members' documents matter.
        let gatekeeper = Gatekeeper {
            roster: &self.roster,
            own: self.body.org,
        };
        let term = proof.one.changes.last().map_or(0, |change| change.term);
        if self.ledger.document(&doc).is_none()
            && let Err(error) = gatekeeper.writer_allowed(&doc, term)
        {
            self.refuse(Reason::WrongAuthor, &from, &error.to_string());
            return;
        }
        if let Err(error) = self.ledger.freeze(proof) {
            self.refuse(Reason::from(&error), &from, &sentence(&error));
            return;
        }
        self.spread(Some(from), proof);
    }

    fn spread(&mut self, from: Option<NodeId>, proof: &Equivocation) {
        let doc = proof.one.doc;
        tracing::warn!(%doc, "its writer has signed two histories and is not believed any more");
        self.out.append(&Entry::Proof(Box::new(proof.clone())));
        let to: Vec<NodeId> = self
            .peers
            .connected()
            .filter(|(peer, state)| Some(**peer) != from && doc.may_read(&state.org))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in to {
            self.out
                .send_durable(peer, Message::Proof(Box::new(proof.clone())));
        }
    }

    fn acknowledge(&mut self, to: NodeId, doc: DocId) {
        let frontier = self.ledger.frontier(&doc).unwrap_or_default();
        let list = vec![(doc, frontier)];
        self.out.send_durable(
            to,
            Message::Frontiers {
                complete: false,
                reply: false,
                list,
            },
        );
    }

    /// Takes in a contact; passes a newer one on to those whom it concerns.
    pub(crate) fn contact(&mut self, contact: SignedContact, from: Option<NodeId>) {
        self.contact_by(contact, from, self.is_own(from));
    }

    /// Takes in a contact; `is_ours` says whether our own organisation passed it on.
    fn contact_by(&mut self, contact: SignedContact, from: Option<NodeId>, is_ours: bool) {
        let node = contact.contact.node;
        // What is known already costs no signature: peers repeat their contacts at every
        // connection.
        let newest = self.peers.contact(&node).map(|old| old.contact.sequence);
        let repeated = newest.is_some_and(|newest| contact.contact.sequence <= newest)
            && self.roster.member(&node).is_some();
        if node == self.id {
            return self.own_contact(&contact);
        }
        if repeated || !contact.is_authentic() {
            return;
        }
        if !self.peers.may_move(&node, self.now.mono) {
            self.note_refusal(Reason::Limit);
            return;
        }
        if let Err(error) = self
            .roster
            .admit(&node, &contact.contact.chain, self.now.wall)
        {
            let reason = Reason::from(&error);
            // An own node passes on whom it trusts; the agreement is on its way to us, and nobody
            // will say this again.
            if reason == Reason::ForeignOrg && is_ours {
                self.peers.keep_early(contact);
                return;
            }
            return self.refuse(reason, &node, &error.to_string());
        }
        self.changed = true;
        if self.peers.handle_contact(contact.clone(), self.now.mono) != ContactVerdict::Newer {
            return;
        }
        self.out.append(&Entry::Contact(contact.clone()));
        let to: Vec<NodeId> = self
            .peers
            .connected()
            .filter(|(peer, state)| Some(**peer) != from && self.concerns(&contact, state.org))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in to {
            self.out
                .send_durable(peer, Message::Contacts(vec![contact.clone()]));
        }
    }

    /// Whether somebody is a connected node of our own organisation.
    fn is_own(&self, peer: Option<NodeId>) -> bool {
        let peer = peer.and_then(|peer| self.peers.peer(&peer));
        peer.is_some_and(|peer| peer.org == self.body.org)
    }

    /// Somebody shows us a contact of our own key: a later one than ours is not from this machine.
    fn own_contact(&mut self, shown: &SignedContact) {
        let ours = self.peers.contact(&self.id);
        let is_foreign = ours.is_some_and(|ours| {
            let (ours, shown) = (&ours.contact, &shown.contact);
            ours.sequence < shown.sequence || (ours.sequence == shown.sequence && ours != shown)
        });
        if is_foreign && shown.is_authentic() {
            self.cloned(self.id, "a contact of our own key that we did not sign");
        }
    }

    /// Takes a contact back from the journal; organisations that are not trusted yet come later in
    /// it, so admission is tried again when trust grows.
    pub(crate) fn restore_contact(&mut self, contact: SignedContact) {
        let node = contact.contact.node;
        // Certificates are proven again: the wall clock may have passed their end.
        if node != self.id {
            let _ = self
                .roster
                .admit(&node, &contact.contact.chain, self.now.wall);
        }
        self.peers.handle_contact(contact, self.now.mono);
    }

    /// Learns members, charters and partners from records, as soon as they are in the ledger.
    pub(crate) fn absorb_membership(&mut self, signed: &SignedRecord) {
        let record = &signed.record;
        match &record.body {
            // A root key speaks of its own organisation only.
            Body::OrgCharter(charter) if charter.org != record.doc.org => {
                self.note_refusal(Reason::WrongAuthor);
            }
            Body::OrgCharter(charter) => {
                if let Err(error) = self.roster.set_charter(charter.clone()) {
                    let author = NodeId(record.author);
                    self.refuse(Reason::from(&error), &author, &error.to_string());
                }
            }
            Body::Member(member) => {
                if let Some(node) = member.chain.leaf().map(|body| body.node)
                    && let Err(error) = self.roster.admit(&node, &member.chain, self.now.wall)
                {
                    self.refuse(Reason::from(&error), &node, &error.to_string());
                }
            }
            Body::Revocation(revocation) => self.revoked(record.doc.org, revocation),
            // Only our own leader's word makes a partner; the partner's mirror of it does not.
            Body::Agreement(agreement) if record.doc.org == self.body.org => {
                let terms = agreement.terms();
                let partner = if terms.seller == self.body.org {
                    (agreement.buyer, agreement.buyer_name.clone())
                } else {
                    (terms.seller, terms.seller_name.clone())
                };
                match self.roster.trust(partner.0, partner.1) {
                    Ok(()) => self.readmit_contacts(),
                    Err(error) => {
                        let author = NodeId(record.author);
                        self.refuse(Reason::from(&error), &author, &error.to_string());
                    }
                }
            }
            _ => {}
        }
    }

    /// Tries again to admit everybody whose contact is known: trust has grown.
    fn readmit_contacts(&mut self) {
        // Trust has grown by one organisation: contacts of others wait for theirs.
        for contact in self.peers.take_early().into_values() {
            self.contact_by(contact, None, true);
        }
        let contacts: Vec<(NodeId, Chain)> = self
            .peers
            .contacts()
            .map(|contact| (contact.contact.node, contact.contact.chain.clone()))
            .collect();
        for (node, chain) in contacts {
            if node != self.id && self.roster.admit(&node, &chain, self.now.wall).is_ok() {
                self.peers.want(node, self.now.mono);
            }
        }
    }

    /// Reacts once to a record that is new in the ledger, whoever wrote it.
    pub(crate) fn react(&mut self, id: RecordId) {
        let Some(entry) = self.ledger.entry(&id) else {
            return;
        };
        let signed = entry.signed.clone();
        let order = signed.record.body.order();
        match (&signed.record.body, order) {
            (Body::Ask(_) | Body::Award(_) | Body::Desire(_), Some(order)) => {
                self.consider(order);
                self.customer_check(order);
                self.usage_stated_before(order);
            }
            (Body::Grant(grant), _) => {
                self.customer_check(grant.order);
                self.usage_stated_before(grant.order);
            }
            (
                Body::Order(_)
                | Body::Reservation(_)
                | Body::Refusal(_)
                | Body::Progress(_)
                | Body::Ready(_)
                | Body::Release(_),
                order,
            ) => self.customer_check(order.unwrap_or(id)),
            (Body::Usage(usage), _) => self.usage_stated(&signed.record.doc, usage.period()),
            _ => {}
        }
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}
