//! What people see of the node: status, peers, members, organisations, heads, usage, invoices.
//!
//! Only reads; what is not known is said to be unknown, never guessed.

use std::collections::BTreeMap;

use mesh_api::names::Answering;
use mesh_api::reply::{MemberRow, OrgRow, Relation, Verdict, VerdictLine};
use mesh_api::status::{
    HeadRow, Health, HealthRow, Link, PeerRow, Reach as ReachWord, StatusReply, Voting,
};
use mesh_api::trade::{AgreementRow, Invoice, InvoiceLine, InvoiceRow, InvoiceState, UsageRow};
use mesh_api::{ApiError, ErrorKind, Reply};
use mesh_base::certificate::Role;
use mesh_base::identity::{NodeId, OrgId};
use mesh_base::money::{Currency, Money};
use mesh_base::name::Name;
use mesh_compute::instance::state::State;
use mesh_compute::step::Isolation;
use mesh_ledger::document::{DocId, Frontier};
use mesh_ledger::invoice as book;
use mesh_ledger::record::RecordId;

use crate::api::DISK_FULL_HINT;
use crate::explain::carried;
use crate::mapped::port_mapping;
use crate::node::Node;
use crate::port::{Reach, Room};

/// Silence after which a link counts as down: keepalives and handshakes come well within it.
const LINK_SILENCE_MS: u64 = 150_000;

impl Node {
    /// Returns a node's name, or the beginning of its key.
    pub(crate) fn node_name(&self, node: &NodeId) -> String {
        if *node == self.id {
            return self.body.name.to_string();
        }
        let member = self.roster.member(node);
        member.map_or_else(|| node.key().short(), |member| member.body.name.to_string())
    }

    /// Returns an organisation's name, or the beginning of its key.
    pub(crate) fn org_name(&self, org: &OrgId) -> String {
        let known = self.roster.orgs().get(org);
        known.map_or_else(|| org.key().short(), |org| org.name.to_string())
    }

    pub(crate) fn status(&self) -> Reply {
        let leader = self.roster.voters_of(&self.body.org).first();
        Reply::Status(Box::new(StatusReply {
            network: self.network_name(),
            org: self.body.org_name.to_string(),
            node: self.body.name.to_string(),
            node_id: self.id,
            address: self.address,
            role: self.body.role,
            uptime_s: self.now.mono.since(self.started.mono).as_secs(),
            version: self.config.version.clone(),
            voting: Voting {
                voter: self.leads(),
                leader: leader.map(|node| self.node_name(node)),
                term: self.term(),
            },
            reach: match self.reach {
                Some(Reach::Loopback) => ReachWord::Loopback,
                _ => ReachWord::Address,
            },
            names: self.resolver.as_ref().map(|seen| Answering {
                listen: seen.listen.clone(),
                sentence: seen.sentence.clone(),
                names: self
                    .names
                    .as_ref()
                    .map_or(0, |(names, _)| names.len() as u64),
                left_out: self.names.as_ref().map_or(0, |(names, _)| names.left_out()),
            }),
            entrances: self.entrances.clone(),
            port_mapping: self.mapped.as_ref().map(port_mapping),
            peers: self.peer_rows(),
            refusals: self.refused.words(),
            dropped: self
                .dropped
                .iter()
                .map(|(reason, count)| (reason.name().to_owned(), *count))
                .collect(),
            routing: self
                .routing
                .counts
                .iter()
                .map(|(word, count)| ((*word).to_owned(), *count))
                .collect(),
            lost_ways: self.lost_way_rows(),
            heads: self.head_rows(),
            journal_position: self.out.persisted().0,
            held: self.held_rows(),
            ordered: self.ordered_rows(),
            health: self.health(),
        }))
    }

    /// The mesh goes by the name of the organisation that was founded first among those known.
    fn network_name(&self) -> String {
        let founded = self
            .roster
            .orgs()
            .values()
            .filter_map(|org| org.charter.as_ref())
            .min_by_key(|charter| (charter.founded, charter.org));
        founded.map_or_else(
            || self.body.org_name.to_string(),
            |charter| charter.name.to_string(),
        )
    }

    pub(crate) fn peer_rows(&self) -> Vec<PeerRow> {
        let others = self.roster.members().filter(|(node, _)| **node != self.id);
        others
            .map(|(node, member)| {
                let peer = self.peers.peer(node);
                let link = self.links.get(node);
                let silent_ms = link.and_then(|link| link.silent_ms);
                PeerRow {
                    name: member.body.name.to_string(),
                    org: self.org_name(&member.body.org),
                    node: *node,
                    address: member.address.0,
                    connected: peer.is_some(),
                    endpoint: link
                        .and_then(|link| link.endpoint)
                        .or_else(|| peer.and_then(|peer| peer.seen)),
                    rtt_us: peer.and_then(|peer| peer.rtt_us),
                    silent_ms,
                    carrier: link
                        .filter(|link| {
                            let silent = link.link_silent_ms;
                            silent.is_some_and(|silent| silent <= LINK_SILENCE_MS)
                        })
                        .map(|link| carried(link.carrier)),
                    link: match silent_ms {
                        Some(silent) if silent <= LINK_SILENCE_MS => Link::Up,
                        Some(_) => Link::Down,
                        None => Link::Unknown,
                    },
                }
            })
            .collect()
    }

    pub(crate) fn head_rows(&self) -> Vec<HeadRow> {
        self.ledger
            .heads()
            .into_iter()
            .map(|(doc, Frontier { seq, head })| HeadRow {
                document: self.document_words(&doc),
                seq,
                head: head.short(),
                records: self.ledger.entries(&doc).count() as u64,
            })
            .collect()
    }

    fn document_words(&self, doc: &DocId) -> String {
        let writer = NodeId(doc.writer);
        let writer = if doc.writer == *doc.org.key() {
            self.org_name(&doc.org)
        } else {
            self.node_name(&writer)
        };
        match doc.counterparty {
            None => format!("{} {writer}", doc.kind),
            Some(other) => format!("{} {writer} → {}", doc.kind, self.org_name(&other)),
        }
    }

    fn health(&self) -> Vec<HealthRow> {
        let lag = self.out.appended().0.saturating_sub(self.out.persisted().0);
        let journal = format!("{lag} entries wait for the disk");
        vec![
            self.peers_health(),
            self.certificate_health(),
            self.identity_health(),
            match self.room {
                Room::Enough => health_row("journal", Health::Ok, journal, ""),
                Room::Full => health_row(
                    "journal",
                    Health::Warn,
                    format!("the disk is full; nothing new is taken on; {journal}"),
                    DISK_FULL_HINT,
                ),
            },
            self.services_health(),
            self.ways_health(),
        ]
    }

    fn peers_health(&self) -> HealthRow {
        let known = self
            .roster
            .members()
            .filter(|(node, _)| **node != self.id)
            .count();
        let connected = self.peers.connected().count();
        let (verdict, sentence, hint) = match (known, connected) {
            (0, _) => (
                Health::Unknown,
                "no other node is known".to_owned(),
                "invite one: meshctl member invite --role node",
            ),
            (known, 0) => (
                Health::Fail,
                format!("none of {known} known nodes is connected"),
                "check this machine's network, and that the others run: meshnode status",
            ),
            (known, connected) if connected < known => (
                Health::Warn,
                format!("{connected} of {known} known nodes are connected"),
                "see which are missing: meshctl status",
            ),
            (known, _) => (
                Health::Ok,
                format!("all {known} known nodes are connected"),
                "",
            ),
        };
        health_row("peers", verdict, sentence, hint)
    }

    fn services_health(&self) -> HealthRow {
        if self.config.isolation.is_none() && self.config.capacity.slots != 0 {
            let sentence = "nothing is run here for anybody: this machine gives us no sandbox";
            let hint = "allow what its log names and restart; or say so: capacity.slots = 0";
            return health_row("services", Health::Warn, sentence.to_owned(), hint);
        }
        let trouble = |state: &State| matches!(state, State::Degraded(_) | State::Failed(_));
        let held = self.provider.instances.values();
        let degraded = held.filter(|instance| trouble(instance.state())).count();
        if degraded == 0 {
            let mut sentence = "every service held here keeps its promises".to_owned();
            if self.config.isolation == Some(Isolation::Process) {
                sentence.push_str("; they are kept apart without namespaces");
            }
            return health_row("services", Health::Ok, sentence, "");
        }
        let sentence = format!("{degraded} services held here are in trouble");
        let hint = "see which: meshctl ps, then meshctl logs NAME";
        health_row("services", Health::Warn, sentence, hint)
    }

    pub(crate) fn members(&self) -> Reply {
        let own = self.body.org;
        let mut members: Vec<MemberRow> = self
            .roster
            .members_of(&own)
            .map(|(node, member)| MemberRow {
                name: member.body.name.to_string(),
                node: *node,
                role: member.body.role,
                connected: *node == self.id || self.peers.peer(node).is_some(),
                valid_until: member.chain.valid_until().unwrap_or_default(),
            })
            .collect();
        if !members.iter().any(|row| row.node == self.id) {
            members.push(MemberRow {
                name: self.body.name.to_string(),
                node: self.id,
                role: self.body.role,
                connected: true,
                valid_until: self.chain.valid_until().unwrap_or_default(),
            });
        }
        members.sort_by(|a, b| a.name.cmp(&b.name));
        let invites_open = self.admission.book.open_count(self.now.wall);
        Reply::Members {
            members,
            invites_open: u32::try_from(invites_open).unwrap_or(u32::MAX),
        }
    }

    pub(crate) fn org_rows(&self) -> Reply {
        let own = self.body.org;
        let mut orgs: Vec<OrgRow> = self
            .roster
            .orgs()
            .iter()
            .map(|(id, org)| OrgRow {
                name: org.name.to_string(),
                org: *id,
                relation: self.relation(id),
                nodes: u32::try_from(self.roster.members_of(id).count()).unwrap_or(u32::MAX),
            })
            .collect();
        orgs.sort_by_key(|row| (row.org != own, row.name.clone()));
        Reply::Orgs { orgs }
    }

    fn relation(&self, org: &OrgId) -> Relation {
        if *org == self.body.org {
            return Relation::Own;
        }
        let agreements = || self.view.agreements.values().map(|(_, _, signed)| signed);
        let sells = agreements().any(|signed| signed.terms().seller == *org);
        let buys = agreements().any(|signed| signed.buyer == *org);
        match (sells, buys) {
            (true, true) => Relation::Both,
            (false, true) => Relation::Buyer,
            _ => Relation::Seller,
        }
    }

    pub(crate) fn agreement_rows(&self) -> Vec<AgreementRow> {
        let own = self.body.org;
        let mine = self
            .view
            .agreements
            .iter()
            .filter(|(_, (writer, ..))| *writer == own);
        mine.filter_map(|(id, _)| self.agreement_row(id)).collect()
    }

    pub(crate) fn agreement_row(&self, id: &RecordId) -> Option<AgreementRow> {
        let (_, since, signed) = self.view.agreements.get(id)?;
        let terms = signed.terms();
        let sells = terms.prices.iter().filter_map(|(recipe, price)| {
            Some(mesh_api::request::Sale {
                recipe: recipe.parse::<Name>().ok()?,
                price: *price,
            })
        });
        Some(AgreementRow {
            id: id.0,
            seller: terms.seller_name.to_string(),
            buyer: signed.buyer_name.to_string(),
            sells: sells.collect(),
            credit: terms.credit,
            owed: self.owed(&terms.seller, &signed.buyer, terms.credit.currency),
            settlement_days: terms.settlement_days,
            since: *since,
        })
    }

    /// What a buyer owes a seller by the statements held here.
    fn owed(&self, seller: &OrgId, buyer: &OrgId, currency: Currency) -> Money {
        let mut sum = Money::zero(currency);
        for view in self.view.orders.values().filter(|view| view.org == *buyer) {
            let statements = self
                .view
                .usages
                .get(&view.id)
                .into_iter()
                .flat_map(|s| s.values());
            for (id, _, usage) in statements {
                let by = self
                    .ledger
                    .entry(id)
                    .map(|entry| entry.signed.record.doc.org);
                if by != Some(*seller) {
                    continue;
                }
                if let Ok((cost, _)) = usage.price.charge(usage.reserved_ms, 0) {
                    sum = sum.plus(cost).unwrap_or(sum);
                }
            }
        }
        sum
    }

    /// Usage so far of the orders given, as this replica has it.
    pub(crate) fn usage_rows(&self, orders: &[RecordId]) -> Vec<UsageRow> {
        orders
            .iter()
            .filter_map(|order| self.usage_row(order))
            .collect()
    }

    fn usage_row(&self, order: &RecordId) -> Option<UsageRow> {
        let view = self.view.orders.get(order)?;
        let statements = self.view.usages.get(order)?;
        let (_, (_, node, last)) = statements.last_key_value()?;
        let (_, (_, _, first)) = statements.first_key_value()?;
        let all = || statements.values().map(|(_, _, usage)| usage);
        let (mut cost, mut carry) = (Money::zero(last.price.per_month.currency), 0);
        for usage in all() {
            let (part, rest) = usage.price.charge(usage.reserved_ms, carry).ok()?;
            (cost, carry) = (cost.plus(part).ok()?, rest);
        }
        let seconds = |ms: u64| ms.div_ceil(1000).max(1);
        let provider = self.org_of(node).map(|org| self.org_name(&org));
        Some(UsageRow {
            name: view.order.name.to_string(),
            item: order.0,
            node: self.node_name(node),
            provider: provider.unwrap_or_else(|| self.body.org_name.to_string()),
            customer: self.org_name(&view.org),
            seq: last.sequence,
            from: first.from,
            until: last.to,
            cpu_ms: all().map(|usage| usage.cpu_ms).sum(),
            memory_mib: all()
                .map(|usage| usage.memory_mib_s / seconds(usage.running_ms))
                .max()
                .unwrap_or(0),
            disk_mib: last.disk_mib_s / seconds(last.reserved_ms),
            received_bytes: all().map(|usage| usage.received_bytes).sum(),
            sent_bytes: all().map(|usage| usage.sent_bytes).sum(),
            cost,
        })
    }

    pub(crate) fn invoice_rows(&self) -> Reply {
        let mut rows: Vec<(mesh_base::time::Wall, InvoiceRow)> = self
            .view
            .invoices
            .values()
            .map(|(_, wall, invoice)| {
                let row = InvoiceRow {
                    number: invoice.number.clone(),
                    provider: self.org_name(&invoice.seller),
                    customer: self.org_name(&invoice.buyer),
                    month: invoice.period.to_string(),
                    state: state_word(invoice.state),
                    total: invoice.total,
                    line_count: u32::try_from(invoice.lines.len()).unwrap_or(u32::MAX),
                };
                (*wall, row)
            })
            .collect();
        rows.sort_by(|(a, _), (b, _)| b.cmp(a));
        Reply::Invoices {
            invoices: rows.into_iter().map(|(_, row)| row).collect(),
        }
    }

    fn find_invoice(
        &self,
        number: &str,
    ) -> Result<&(RecordId, mesh_base::time::Wall, book::Invoice), ApiError> {
        let found = self
            .view
            .invoices
            .values()
            .find(|(_, _, invoice)| invoice.number == number);
        found.ok_or_else(|| {
            let known: Vec<&str> = self
                .view
                .invoices
                .values()
                .map(|(_, _, i)| i.number.as_str())
                .take(3)
                .collect();
            let hint = if known.is_empty() {
                "there is none yet; usage makes one: meshctl usage --now".to_owned()
            } else {
                format!(
                    "known are {}; list them: meshctl invoice ls",
                    known.join(", ")
                )
            };
            ApiError::new(
                ErrorKind::NotFound,
                format!("there is no invoice \"{number}\""),
                hint,
            )
        })
    }

    pub(crate) fn invoice_show(&self, number: &str) -> Result<Reply, ApiError> {
        let (id, wall, invoice) = self.find_invoice(number)?;
        let lines = invoice
            .lines
            .iter()
            .map(|line| self.invoice_line(line))
            .collect();
        Ok(Reply::Invoice(Box::new(Invoice {
            number: invoice.number.clone(),
            revision: u64::from(invoice.revision),
            provider: self.org_name(&invoice.seller),
            customer: self.org_name(&invoice.buyer),
            month: invoice.period.to_string(),
            state: state_word(invoice.state),
            digest: id.0,
            issued_at: *wall,
            lines,
            total: invoice.total,
        })))
    }

    fn invoice_line(&self, line: &book::Line) -> InvoiceLine {
        let view = self.view.orders.get(&line.order);
        let usage = |seq: u64| {
            self.view
                .usages
                .get(&line.order)
                .and_then(|all| all.get(&seq))
        };
        let (first, last) = (usage(line.usage_from), usage(line.usage_to));
        InvoiceLine {
            name: line.name.to_string(),
            recipe: view
                .map(|view| view.order.recipe.clone())
                .unwrap_or_default(),
            item: line.item,
            node: first
                .map(|(_, node, _)| self.node_name(node))
                .unwrap_or_default(),
            seq_first: line.usage_from,
            seq_last: line.usage_to,
            from: first.map(|(_, _, usage)| usage.from).unwrap_or_default(),
            until: last.map(|(_, _, usage)| usage.to).unwrap_or_default(),
            price: line.price,
            amount: line.amount,
        }
    }

    /// Recomputes an invoice from the statements held here.
    pub(crate) fn invoice_verify(&self, number: &str) -> Result<Reply, ApiError> {
        let (id, _, invoice) = self.find_invoice(number)?;
        let signed = self
            .ledger
            .entry(id)
            .is_some_and(|entry| entry.signed.verify().is_ok());
        let recomputed = self.recompute(invoice);
        let line = |check: &str, holds: bool, sentence: String| VerdictLine {
            check: check.to_owned(),
            holds,
            sentence,
        };
        let mut lines = vec![line(
            "signature",
            signed,
            format!(
                "written by {}'s leader in term {}",
                self.org_name(&invoice.seller),
                self.term()
            ),
        )];
        lines.push(match &recomputed {
            Ok(count) => line(
                "lines",
                true,
                format!("{count} signed usage statements give the same lines"),
            ),
            Err(error) => line("lines", false, error.to_string()),
        });
        let agreed = invoice
            .lines
            .iter()
            .find(|line| !self.was_agreed(&line.order, line.price));
        lines.push(line(
            "prices",
            agreed.is_none(),
            agreed.map_or("every price is the one that was ordered".to_owned(), |l| {
                format!("nobody ordered {} at {}", l.name, l.price)
            }),
        ));
        lines.push(line(
            "total",
            recomputed.is_ok(),
            format!("{}", invoice.total),
        ));
        let holds = lines.iter().all(|line| line.holds);
        let subject = invoice.number.clone();
        Ok(Reply::Verdict(Verdict {
            subject,
            holds,
            lines,
        }))
    }

    /// Whether an order was granted at this price by anybody.
    fn was_agreed(&self, order: &RecordId, price: mesh_base::money::Price) -> bool {
        self.view.orders.get(order).is_some_and(|view| {
            let mut attempts = view.attempts.values();
            attempts.any(|attempt| attempt.granted.is_some() && attempt.price == price)
        })
    }

    pub(crate) fn ledger_verify(&self) -> Reply {
        let violations = mesh_ledger::check::verify_all(&self.ledger);
        let signed = self
            .ledger
            .all_entries()
            .filter(|e| e.signed.verify().is_ok())
            .count();
        let all = self.ledger.len();
        let mut lines = vec![VerdictLine {
            check: "signatures".to_owned(),
            holds: signed == all,
            sentence: format!("{signed} of {all} records carry their author's signature"),
        }];
        lines.extend(violations.iter().map(|violation| VerdictLine {
            check: "invariant".to_owned(),
            holds: false,
            sentence: violation.to_string(),
        }));
        if violations.is_empty() {
            lines.push(VerdictLine {
                check: "invariants".to_owned(),
                holds: true,
                sentence: "sums, invoices, usage and grants agree".to_owned(),
            });
        }
        let holds = lines.iter().all(|line| line.holds);
        Reply::Verdict(Verdict {
            subject: "ledger".to_owned(),
            holds,
            lines,
        })
    }

    /// Returns orders of our organisation under a name, or an error that names the nearest.
    pub(crate) fn own_order(&self, name: &Name) -> Result<RecordId, ApiError> {
        if let Some(view) = self.view.order_named(&self.body.org, name, &self.id) {
            return Ok(view.id);
        }
        let names: BTreeMap<String, ()> = self
            .view
            .orders
            .values()
            .filter(|view| view.org == self.body.org)
            .map(|view| (view.order.name.to_string(), ()))
            .collect();
        let near = mesh_compute::parameter::nearest(name.as_str(), names.keys());
        let hint = near.map_or_else(
            || "list them: meshctl ps".to_owned(),
            |near| format!("did you mean \"{near}\"? list them: meshctl ps"),
        );
        Err(ApiError::new(
            ErrorKind::NotFound,
            format!("there is no service \"{name}\""),
            hint,
        ))
    }

    /// Whether this node may act for its organisation, or why not.
    pub(crate) fn must_lead(&self, what: &str) -> Result<(), ApiError> {
        if self.leads() {
            return Ok(());
        }
        let leader = self
            .roster
            .voters_of(&self.body.org)
            .first()
            .map(|node| self.node_name(node));
        let who = leader.unwrap_or_else(|| "its leader".to_owned());
        let role = if self.body.role == Role::Master {
            "a master"
        } else {
            "a node"
        };
        Err(ApiError::new(
            ErrorKind::NotAuthorised,
            format!(
                "this machine is {role} of {}, and only its leader may {what}",
                self.body.org_name
            ),
            format!("run the same command on {who}"),
        ))
    }
}

pub(crate) fn health_row(check: &str, verdict: Health, sentence: String, hint: &str) -> HealthRow {
    HealthRow {
        check: check.to_owned(),
        verdict,
        sentence,
        hint: hint.to_owned(),
    }
}

fn state_word(state: book::InvoiceState) -> InvoiceState {
    match state {
        book::InvoiceState::Draft => InvoiceState::Draft,
        book::InvoiceState::Final => InvoiceState::Closed,
    }
}
