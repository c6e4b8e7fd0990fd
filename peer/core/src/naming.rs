//! Fills the table of names from roster, holder records and agreements, tells the shell when it
//! changed, and answers programs that ask for a name.
//!
//! A node names every node it admits, its own organisation's services, and those of its partners
//! that it knows from their orders. What is asked about is [`crate::names`]'.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::sync::Arc;

use mesh_api::names::{Bearer as BearerWord, Resolved};
use mesh_api::{ApiError, ErrorKind, Reply};
use mesh_base::identity::OrgId;

use crate::names::{Bearer, Entry, Names, TTL_S, ZONE, parts};
use crate::node::Node;
use crate::overlay::Live;
use crate::port::Effect;

impl Node {
    /// Tells the shell which names there are, if that changed. What they come from is in the
    /// roster, the data plane's plan and the agreements, so nothing is done while these are as they
    /// were.
    pub(crate) fn publish_names(&mut self, roster_or_plan_changed: bool) {
        let agreements = self.view.agreements.len();
        let told = self.names.as_ref();
        let is_same = told.is_some_and(|(_, known)| *known == agreements);
        if is_same && !roster_or_plan_changed {
            return;
        }
        let table = self.name_table();
        let told = self.names.as_ref().map(|(table, _)| table);
        let table = match told.filter(|told| ***told == table) {
            Some(told) => Arc::clone(told),
            None => {
                let table = Arc::new(table);
                self.out.now(Effect::Names(Arc::clone(&table)));
                table
            }
        };
        self.names = Some((table, agreements));
    }

    fn name_table(&mut self) -> Names {
        let (own, mut names) = (self.body.org, Names::default());
        for (org, known) in self.roster.orgs() {
            names.add_org(*org, &known.name, own);
        }
        names.add_org(own, &self.body.org_name, own);
        let mut node = |org: OrgId, name, address, node| {
            let bearer = Bearer::Node;
            names.add(
                org,
                name,
                Entry {
                    address,
                    node,
                    bearer,
                },
            );
        };
        node(own, &self.body.name, self.address, self.id);
        for ((org, name), (id, member)) in self.roster.newest() {
            if self.in_standing(id) {
                node(org, name, member.address.0, *id);
            }
        }
        let partners = self.partners();
        let mut live = self.live_services();
        live.retain(|one| one.org == own || partners.contains(&one.org));
        // If two nodes have chosen one name, each means its own service by it, as in commands.
        live.sort_by_key(|one| {
            let of_others = one.org != own;
            let by_others = one.customer != self.id;
            (of_others, by_others, Reverse((one.wall, one.order)))
        });
        for Live {
            org,
            name,
            service,
            node,
            ..
        } in live
        {
            let address = self.service_address(&service);
            let bearer = Bearer::Service;
            names.add(
                org,
                &name,
                Entry {
                    address,
                    node,
                    bearer,
                },
            );
        }
        names
    }

    /// Returns the organisations that have an agreement with ours.
    fn partners(&self) -> BTreeSet<OrgId> {
        let own = self.body.org;
        let agreements = self.view.agreements.values();
        agreements
            .filter_map(
                |(_, _, signed)| match (signed.terms().seller, signed.buyer) {
                    (seller, buyer) if seller == own => Some(buyer),
                    (seller, buyer) if buyer == own => Some(seller),
                    _ => None,
                },
            )
            .collect()
    }

    /// Returns the whole name of an address.
    pub(crate) fn name_of(&self, address: &Ipv6Addr) -> Option<String> {
        let (names, _) = self.names.as_ref()?;
        names.name_of(address)
    }

    /// Answers what a name means here; accepts it whole, without the zone, as a single word of our
    /// own organisation, or as an address.
    pub(crate) fn resolve(&self, asked: &str) -> Result<Reply, ApiError> {
        let names = self.names.as_ref().map(|(names, _)| Arc::clone(names));
        let names = names.unwrap_or_default();
        let (name, org) = match asked.trim_end_matches('.').parse() {
            Ok(address) => parts(&names.name_of(&address).ok_or_else(|| unknown(asked))?),
            Err(_) => parts(asked),
        };
        let org = org.unwrap_or_else(|| self.body.org.to_string());
        let Some((owner, entry)) = names.entry(&org, &name) else {
            return Err(match names.called(&org) {
                called @ [_, _, ..] => shared(&name, &org, called),
                _ => unknown(asked),
            });
        };
        let whole = names.name_of(&entry.address);
        Ok(Reply::Resolved(Box::new(Resolved {
            name: whole.unwrap_or_else(|| format!("{name}.{org}.{ZONE}")),
            address: entry.address,
            bearer: match entry.bearer {
                Bearer::Node => BearerWord::Node,
                Bearer::Service => BearerWord::Service,
            },
            owner: self.org_name(&owner),
            node: self.node_name(&entry.node),
            org: self
                .org_of(&entry.node)
                .map_or_else(|| self.org_name(&owner), |org| self.org_name(&org)),
            ttl_s: TTL_S,
        })))
    }
}

fn unknown(asked: &str) -> ApiError {
    let asked: String = asked.chars().take(100).collect();
    ApiError::new(
        ErrorKind::NotFound,
        format!("no name \"{asked}\" is known here"),
        format!("names are SERVICE.ORG.{ZONE} and NODE.ORG.{ZONE}: `meshctl ps`, `meshctl status`"),
    )
}

fn shared(name: &str, org: &str, called: &[OrgId]) -> ApiError {
    let keys: Vec<String> = called
        .iter()
        .map(|key| format!("{name}.{key}.{ZONE}"))
        .collect();
    ApiError::new(
        ErrorKind::Conflict,
        format!("{} organisations call themselves \"{org}\"", called.len()),
        format!("say which by its key: {}", keys.join(" or ")),
    )
}
