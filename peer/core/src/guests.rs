//! Guests: who may reach a service besides its customer's organisation, and how they learn where it
//! is.
//!
//! ```text
//!   order with guests ─► the provider's door lets their nodes in        (decides: the provider)
//!   award, end        ─► holder record into a document for each guest   (tells: the customer)
//!   guest             ─► address → node, so that its packets find the way
//! ```
//! A guest who is not told reaches nothing, and whoever is told but not let in reaches nothing
//! either: only the door decides. Invariant: a partner's records take a bounded part of our table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use mesh_api::guest::Guest as AllowWord;
use mesh_api::{ApiError, ErrorKind};
use mesh_base::identity::{NodeId, OrgId, ServiceId};
use mesh_base::name::Name;
use mesh_ledger::document::DocKind;
use mesh_ledger::order::{DesiredState, GUESTS_MAX, Guest, Holder, SignedHolder};
use mesh_ledger::record::Body;

use crate::limits::{GUEST_SERVICES_MAX, HOLDER_VALID};
use crate::node::Node;

/// Where a guest should find a service: at these nodes, by this epoch.
struct Due {
    guest: OrgId,
    nonce: [u8; 16],
    holder: Holder,
}

impl Node {
    /// Returns the organisation of this name.
    pub(crate) fn org_named(&self, name: &Name) -> Result<OrgId, ApiError> {
        let org = self.roster.org_named(name);
        org.ok_or_else(|| no_such_org(name.as_str()))
    }

    /// Whom an order lets in besides our organisation, which needs no invitation.
    pub(crate) fn guests(&self, allow: &BTreeSet<AllowWord>) -> Result<BTreeSet<Guest>, ApiError> {
        let count = allow.len();
        if GUESTS_MAX < count {
            return Err(ApiError::new(
                ErrorKind::Usage,
                format!("an order lets in at most {GUESTS_MAX} others, not {count}"),
                "let in every organisation: --allow mesh",
            ));
        }
        let mut guests = BTreeSet::new();
        for word in allow {
            let org = match word {
                AllowWord::Mesh => {
                    guests.insert(Guest::Mesh);
                    continue;
                }
                AllowWord::Named(name) => self.org_named(name)?,
                AllowWord::Org(org) if self.roster.orgs().contains_key(org) => *org,
                AllowWord::Org(org) => return Err(no_such_org(&org.to_string())),
            };
            if org != self.body.org {
                guests.insert(Guest::Org(org));
            }
        }
        Ok(guests)
    }

    /// Returns the node addresses that may reach a service which is held here.
    pub(crate) fn let_in(&self, customer: OrgId, guests: &BTreeSet<Guest>) -> BTreeSet<Ipv6Addr> {
        let lets_in = |org: OrgId| {
            org == customer || guests.contains(&Guest::Mesh) || guests.contains(&Guest::Org(org))
        };
        let members = self.roster.members();
        let welcome = members.filter(|(_, member)| lets_in(member.body.org));
        let mut allow: BTreeSet<Ipv6Addr> = welcome.map(|(_, member)| member.address.0).collect();
        if lets_in(self.body.org) {
            allow.insert(self.address);
        }
        allow
    }

    /// Tells guests of our orders where their services are, whoever has not been told yet.
    pub(crate) fn tell_guests(&mut self) {
        for due in self.guests_due() {
            let holder = SignedHolder::sign(due.holder, &self.service_key(&due.nonce));
            self.must_write(
                DocKind::Holders,
                Some(due.guest),
                vec![Body::Holder(holder)],
            );
        }
    }

    fn guests_due(&self) -> Vec<Due> {
        let own = self.body.org;
        let mut due = Vec::new();
        for view in self.view.orders.values() {
            if view.customer != self.id || view.order.guests.is_empty() {
                continue;
            }
            let Some((attempt, awarded)) = view.awarded() else {
                continue;
            };
            // What is destroyed gets no further attempt, so the next epoch is free for its end.
            let gone = view.desired() == DesiredState::Destroyed;
            let epoch = u64::from(attempt) + u64::from(gone);
            let provider = self.org_of(&awarded.node);
            let service = view.order.service;
            for guest in self.guest_orgs(&view.order.guests) {
                let told = self.view.told.get(&(own, guest, service)).copied();
                // The provider's organisation has the award itself.
                if Some(guest) == provider || Some(epoch) <= told || gone && told.is_none() {
                    continue;
                }
                let holders = if gone { Vec::new() } else { vec![awarded.node] };
                let not_after = self.now.wall + HOLDER_VALID;
                due.push(Due {
                    guest,
                    nonce: view.order.nonce,
                    holder: Holder {
                        service,
                        holders,
                        epoch,
                        not_after,
                    },
                });
            }
        }
        due
    }

    /// Organisations that guests stand for, as far as they are trusted here.
    fn guest_orgs(&self, guests: &BTreeSet<Guest>) -> Vec<OrgId> {
        let mesh = guests.contains(&Guest::Mesh);
        let orgs = self.roster.orgs().keys().copied();
        orgs.filter(|org| *org != self.body.org)
            .filter(|org| mesh || guests.contains(&Guest::Org(*org)))
            .collect()
    }

    /// Returns the services that we are guests of, with the nodes that hold them.
    pub(crate) fn visited_services(&self) -> Vec<(ServiceId, NodeId)> {
        let (own, now) = (self.body.org, self.now.wall);
        // Of these we know more than we were told.
        let ours: BTreeSet<ServiceId> = self
            .view
            .orders
            .values()
            .map(|view| view.order.service)
            .collect();
        let mut taken: BTreeMap<OrgId, usize> = BTreeMap::new();
        let mut found = Vec::new();
        for (teller, reader, service) in self.view.told.keys() {
            let is_told = *reader == own && *teller != own && !ours.contains(service);
            if !is_told || !self.roster.orgs().contains_key(teller) {
                continue;
            }
            let Some(signed) = self.view.holders.get(service) else {
                continue;
            };
            let Some(node) = signed.holder.holders.first() else {
                continue;
            };
            let count = taken.entry(*teller).or_default();
            if signed.holder.not_after <= now || GUEST_SERVICES_MAX <= *count {
                continue;
            }
            *count += 1;
            found.push((*service, *node));
        }
        found
    }

    /// Returns who may reach a service, for people: its customer first.
    pub(crate) fn allowed_words(&self, customer: &OrgId, guests: &BTreeSet<Guest>) -> Vec<String> {
        let word = |guest: &Guest| match guest {
            Guest::Org(org) => self.org_name(org),
            Guest::Mesh => "mesh".to_owned(),
        };
        let customer = std::iter::once(self.org_name(customer));
        customer.chain(guests.iter().map(word)).collect()
    }
}

fn no_such_org(org: &str) -> ApiError {
    ApiError::new(
        ErrorKind::NotFound,
        format!("there is no organisation \"{org}\" here"),
        "list them: meshctl org ls",
    )
}
