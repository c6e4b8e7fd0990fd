//! Which node should get an order: facts in, candidates and refusals with reasons out.
//!
//! Synchronous and deterministic: the same facts in any order give the same plan, so a plan can be
//! shown, confirmed and checked. The planner promises nothing; a node may still refuse.
//!
//! Preference, from the strongest: the node that was asked for by name is the only one; another
//! machine before the customer's own; cheaper; closer (in doublings of the round trip, for finer
//! differences are noise); software already there; more memory left over, which spreads load; the
//! smaller key, which only makes it deterministic. The own machine comes last because a service on
//! the machine that orders it shares its power, disk and fate, and because spare machines elsewhere
//! are what this mesh is for; it is taken when nothing else is left or when it is asked for by
//! name.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;

use mesh_base::identity::{NodeId, OrgId};
use mesh_base::money::Price;
use mesh_base::name::Name;
use mesh_ledger::grant::Shortage;

use crate::agreement::{Deal, NoDeal};
use crate::capacity::Amount;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The node that orders.
    pub customer: NodeId,
    /// Recipe by name.
    pub recipe: String,
    /// What an instance takes; one slot is always added.
    pub memory_mib: u32,
    /// Processor time, in thousandths of a core.
    pub cpu_millis: u32,
    /// Disk.
    pub disk_mib: u32,
    /// Only the node of this name.
    pub node: Option<Name>,
    /// Only nodes of this organisation.
    pub org: Option<OrgId>,
    /// The most that a month may cost.
    pub price_cap: Option<Price>,
    /// The longest round trip from here, in microseconds.
    pub rtt_us_max: Option<u32>,
}

/// What is known about a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: Name,
    /// Its organisation.
    pub org: OrgId,
    /// What it says that it has free now.
    pub free: Amount,
    /// Recipes that it offers.
    pub recipes: BTreeSet<String>,
    /// On which conditions it would sell this recipe to this customer.
    pub deal: Result<Deal, NoDeal>,
    /// The round trip, if it was measured.
    pub rtt_us: Option<u32>,
    /// Whether it can be asked now.
    pub reachable: bool,
    /// Whether it has the software already.
    pub cached: bool,
}

/// A node that fulfils everything that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: Name,
    /// Its organisation.
    pub org: OrgId,
    /// The conditions.
    pub deal: Deal,
    /// The round trip, if it was measured.
    pub rtt_us: Option<u32>,
    /// Why it stands before the next one.
    pub reason: Reason,
}

/// What made a candidate stand before the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It was asked for by name.
    Asked,
    /// There is no other.
    Only,
    /// The next one is the customer's own machine.
    Elsewhere,
    /// It costs less.
    Cheaper,
    /// It is closer.
    Closer,
    /// Its software is there already.
    Cached,
    /// It has more left over.
    Roomier,
    /// Nothing tells them apart.
    Equal,
    /// Every other is better.
    Last,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "asked for by name",
            Self::Only => "the only one that fits",
            Self::Elsewhere => "not on the machine that orders",
            Self::Cheaper => "cheaper than the next",
            Self::Closer => "closer than the next",
            Self::Cached => "has the software already",
            Self::Roomier => "has more room than the next",
            Self::Equal => "as good as the next",
            Self::Last => "the last that fits",
        })
    }
}

/// Why a node does not come into question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefusedBecause {
    /// Another node was asked for by name.
    #[error("another node was asked for")]
    NotAskedFor,
    /// Another organisation was asked for.
    #[error("another organisation was asked for")]
    OtherOrg,
    /// It cannot be asked now.
    #[error("it cannot be reached now")]
    Unreachable,
    /// It does not run this.
    #[error("it does not offer {0}")]
    NotOffered(String),
    /// It does not sell to us.
    #[error(transparent)]
    NoDeal(NoDeal),
    /// It costs too much.
    #[error("it costs {price}, more than {cap}")]
    TooDear {
        /// Its price.
        price: Price,
        /// The most wanted.
        cap: Price,
    },
    /// Its price cannot be compared.
    #[error("its price, {price}, is in another currency than {cap}")]
    OtherCurrency {
        /// Its price.
        price: Price,
        /// The most wanted.
        cap: Price,
    },
    /// It is too far away, or it is not known how far.
    #[error("it is not known to be within {} ms", rtt_us_max / 1000)]
    TooFar {
        /// The longest round trip wanted.
        rtt_us_max: u32,
    },
    /// It has too little.
    #[error("not enough {}: {free} free, {wanted} wanted", what.as_str())]
    Short {
        /// Of what.
        what: Shortage,
        /// How much is free.
        free: u32,
        /// How much is wanted.
        wanted: u32,
    },
}

/// A node that does not come into question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: Name,
    /// Its organisation.
    pub org: OrgId,
    /// Why not.
    pub because: RefusedBecause,
}

/// Whom to ask, in this order, and why not the others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The best first.
    pub candidates: Vec<Candidate>,
    /// In the order of their names.
    pub refused: Vec<Refused>,
}

/// Plans one order.
pub fn plan(wanted: &Wanted, facts: &[Facts]) -> Plan {
    let mut fitting = Vec::new();
    let mut refused = Vec::new();
    for fact in facts {
        match judge(wanted, fact) {
            Ok(deal) => fitting.push((fact, deal)),
            Err(because) => {
                let (node, name, org) = (fact.node, fact.name.clone(), fact.org);
                refused.push(Refused {
                    node,
                    name,
                    org,
                    because,
                });
            }
        }
    }
    fitting.sort_by(|(a, a_deal), (b, b_deal)| {
        compare(wanted, (a, a_deal), (b, b_deal))
            .0
            .then_with(|| a.node.cmp(&b.node))
    });
    refused.sort_by(|a, b| (&a.name, a.node).cmp(&(&b.name, b.node)));
    let next = fitting.iter().skip(1).map(Some).chain([None]);
    let candidates = fitting
        .iter()
        .zip(next)
        .map(|((fact, deal), next)| Candidate {
            node: fact.node,
            name: fact.name.clone(),
            org: fact.org,
            deal: *deal,
            rtt_us: fact.rtt_us,
            reason: match next {
                _ if wanted.node.is_some() => Reason::Asked,
                Some((other, other_deal)) => compare(wanted, (fact, deal), (other, other_deal)).1,
                None if fitting.len() == 1 => Reason::Only,
                None => Reason::Last,
            },
        })
        .collect();
    Plan {
        candidates,
        refused,
    }
}

/// Returns the conditions if the node fulfils every constraint, or the first that it does not.
fn judge(wanted: &Wanted, fact: &Facts) -> Result<Deal, RefusedBecause> {
    if wanted.node.as_ref().is_some_and(|name| *name != fact.name) {
        return Err(RefusedBecause::NotAskedFor);
    }
    if wanted.org.is_some_and(|org| org != fact.org) {
        return Err(RefusedBecause::OtherOrg);
    }
    let deal = fact.deal.clone().map_err(RefusedBecause::NoDeal)?;
    if !fact.recipes.contains(&wanted.recipe) {
        return Err(RefusedBecause::NotOffered(wanted.recipe.clone()));
    }
    if let Some(cap) = wanted.price_cap {
        judge_price(deal.price, cap)?;
    }
    if !fact.reachable {
        return Err(RefusedBecause::Unreachable);
    }
    if let Some(rtt_us_max) = wanted.rtt_us_max
        && fact.rtt_us.is_none_or(|rtt_us| rtt_us_max < rtt_us)
    {
        return Err(RefusedBecause::TooFar { rtt_us_max });
    }
    let amount = Amount {
        slots: 1,
        memory_mib: wanted.memory_mib,
        cpu_millis: wanted.cpu_millis,
        disk_mib: wanted.disk_mib,
    };
    match fact.free.shortage(&amount) {
        Some((what, free, wanted)) => Err(RefusedBecause::Short { what, free, wanted }),
        None => Ok(deal),
    }
}

fn judge_price(price: Price, cap: Price) -> Result<(), RefusedBecause> {
    // What costs nothing costs nothing in every currency.
    if price.per_month.micros == 0 {
        return Ok(());
    }
    if price.per_month.currency != cap.per_month.currency {
        return Err(RefusedBecause::OtherCurrency { price, cap });
    }
    if cap.per_month.micros < price.per_month.micros {
        return Err(RefusedBecause::TooDear { price, cap });
    }
    Ok(())
}

/// Compares two fitting nodes; also returns what told them apart.
///
/// Prices in two currencies are ordered by currency: there is no rate here, only determinism.
fn compare(wanted: &Wanted, a: (&Facts, &Deal), b: (&Facts, &Deal)) -> (Ordering, Reason) {
    let own = |fact: &Facts| fact.node == wanted.customer;
    let price = |deal: &Deal| {
        let money = deal.price.per_month;
        let currency = (money.micros != 0).then_some(money.currency);
        (currency, money.micros)
    };
    let ((a, a_deal), (b, b_deal)) = (a, b);
    [
        (own(a).cmp(&own(b)), Reason::Elsewhere),
        (price(a_deal).cmp(&price(b_deal)), Reason::Cheaper),
        (distance(a.rtt_us).cmp(&distance(b.rtt_us)), Reason::Closer),
        (b.cached.cmp(&a.cached), Reason::Cached),
        (b.free.memory_mib.cmp(&a.free.memory_mib), Reason::Roomier),
    ]
    .into_iter()
    .find(|(order, _)| order.is_ne())
    .unwrap_or((Ordering::Equal, Reason::Equal))
}

/// Returns how often a round trip of 1 ms must be doubled to reach this one; unknown is farthest.
fn distance(rtt_us: Option<u32>) -> u32 {
    rtt_us.map_or(u32::MAX, |rtt_us| {
        (rtt_us / 1000).checked_ilog2().map_or(0, |log| log + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::tests::Dice;
    use mesh_base::identity::SecretKey;

    fn node(byte: u8) -> NodeId {
        NodeId(SecretKey::from_seed([byte; 32]).public())
    }

    fn org() -> OrgId {
        OrgId(SecretKey::from_seed([200; 32]).public())
    }

    fn price(text: &str) -> Price {
        text.parse().unwrap()
    }

    fn wanted() -> Wanted {
        Wanted {
            customer: node(0),
            recipe: "postgres".to_owned(),
            memory_mib: 128,
            cpu_millis: 100,
            disk_mib: 100,
            node: None,
            org: None,
            price_cap: None,
            rtt_us_max: None,
        }
    }

    fn facts(byte: u8) -> Facts {
        Facts {
            node: node(byte),
            name: format!("n-{byte}").parse().unwrap(),
            org: org(),
            free: Amount {
                slots: 1,
                memory_mib: 128,
                cpu_millis: 100,
                disk_mib: 100,
            },
            recipes: BTreeSet::from(["postgres".to_owned()]),
            deal: Ok(Deal {
                price: price("1EUR/month"),
                agreement: None,
                credit: None,
            }),
            rtt_us: Some(3_000),
            reachable: true,
            cached: false,
        }
    }

    fn with_price(mut facts: Facts, text: &str) -> Facts {
        facts.deal = Ok(Deal {
            price: price(text),
            agreement: None,
            credit: None,
        });
        facts
    }

    /// Plans over nodes 1 and 2; expects the names in order, each with its reason.
    #[track_caller]
    fn check(wanted: &Wanted, facts: &[Facts], expect: &[(&str, Reason)]) {
        let plan = plan(wanted, facts);
        let got: Vec<_> = plan
            .candidates
            .iter()
            .map(|c| (c.name.as_str(), c.reason))
            .collect();
        assert_eq!(got, expect);
    }

    #[test]
    fn better_node_stands_first_with_its_reason() {
        use Reason::{Cached, Cheaper, Closer, Equal, Last, Only, Roomier};
        check(&wanted(), &[facts(1)], &[("n-1", Only)]);
        let cheap = with_price(facts(2), "0.5EUR/month");
        check(
            &wanted(),
            &[facts(1), cheap],
            &[("n-2", Cheaper), ("n-1", Last)],
        );
        let close = Facts {
            rtt_us: Some(900),
            ..facts(2)
        };
        check(
            &wanted(),
            &[facts(1), close],
            &[("n-2", Closer), ("n-1", Last)],
        );
        let unknown = Facts {
            rtt_us: None,
            ..facts(1)
        };
        check(
            &wanted(),
            &[unknown, facts(2)],
            &[("n-2", Closer), ("n-1", Last)],
        );
        let cached = Facts {
            cached: true,
            ..facts(2)
        };
        check(
            &wanted(),
            &[facts(1), cached],
            &[("n-2", Cached), ("n-1", Last)],
        );
        let mut roomy = facts(2);
        roomy.free.memory_mib = 4096;
        check(
            &wanted(),
            &[facts(1), roomy],
            &[("n-2", Roomier), ("n-1", Last)],
        );
        let plan = plan(&wanted(), &[facts(2), facts(1)]);
        assert_eq!(plan.candidates[0].reason, Equal);
        assert_eq!(plan.candidates[0].node, node(1).min(node(2)));
    }

    #[test]
    fn own_node_is_last_unless_it_is_asked_for() {
        let cheap_own = with_price(facts(0), "0EUR/month");
        let both = [cheap_own, facts(1)];
        check(
            &wanted(),
            &both,
            &[("n-1", Reason::Elsewhere), ("n-0", Reason::Last)],
        );
        let asked = Wanted {
            node: Some("n-0".parse().unwrap()),
            ..wanted()
        };
        check(&asked, &both, &[("n-0", Reason::Asked)]);
        check(&wanted(), &both[..1], &[("n-0", Reason::Only)]);
    }

    /// One node that breaks one constraint is refused with exactly this sentence.
    #[track_caller]
    fn check_refused(wanted: &Wanted, facts: Facts, sentence: &str) {
        let plan = plan(wanted, &[facts]);
        let got: Vec<_> = plan.refused.iter().map(|r| r.because.to_string()).collect();
        assert_eq!((plan.candidates.len(), got), (0, vec![sentence.to_owned()]));
    }

    #[test]
    fn refusals_say_why() {
        let capped = Wanted {
            price_cap: Some(price("0.5EUR/month")),
            ..wanted()
        };
        check_refused(
            &capped,
            facts(1),
            "it costs 1.00 EUR/month, more than 0.50 EUR/month",
        );
        let franc = with_price(facts(1), "1CHF/month");
        let sentence = "its price, 1.00 CHF/month, is in another currency than 0.50 EUR/month";
        check_refused(&capped, franc, sentence);
        let near = Wanted {
            rtt_us_max: Some(2_000),
            ..wanted()
        };
        check_refused(&near, facts(1), "it is not known to be within 2 ms");
        let gone = Facts {
            reachable: false,
            ..facts(1)
        };
        check_refused(&wanted(), gone, "it cannot be reached now");
        let other = Facts {
            recipes: BTreeSet::new(),
            ..facts(1)
        };
        check_refused(&wanted(), other, "it does not offer postgres");
        let stranger = Facts {
            deal: Err(NoDeal::NoAgreement),
            ..facts(1)
        };
        check_refused(
            &wanted(),
            stranger,
            "there is no agreement with its organisation",
        );
        let mut full = facts(1);
        full.free.memory_mib = 64;
        check_refused(&wanted(), full, "not enough memory: 64 free, 128 wanted");
        let asked = Wanted {
            node: Some("n-7".parse().unwrap()),
            ..wanted()
        };
        check_refused(&asked, facts(1), "another node was asked for");
        let asked = Wanted {
            org: Some(OrgId(node(7).0)),
            ..wanted()
        };
        check_refused(&asked, facts(1), "another organisation was asked for");
    }

    fn random_facts(dice: &mut Dice, byte: u8) -> Facts {
        let mut facts = facts(byte);
        let prices = ["0EUR/month", "1EUR/month", "2EUR/month", "1CHF/month"];
        if dice.roll(8) == 0 {
            facts.deal = Err(NoDeal::NoAgreement);
        } else {
            facts = with_price(facts, prices[dice.roll(4) as usize]);
        }
        facts.rtt_us = [None, Some(500), Some(3_000), Some(40_000)][dice.roll(4) as usize];
        facts.free.memory_mib = 64 << dice.roll(3);
        facts.free.slots = dice.roll(3) as u32;
        facts.reachable = dice.roll(5) != 0;
        facts.cached = dice.roll(2) == 0;
        facts
    }

    #[test]
    fn plan_does_not_depend_on_the_order_of_facts_and_breaks_no_constraint() {
        let nodes: Vec<Facts> = (0..8).map(facts).collect();
        assert_eq!(nodes.len(), 8);
        for seed in 0..500 {
            let mut dice = Dice::new(seed);
            let mut all: Vec<Facts> = (0..1 + dice.roll(8) as u8)
                .map(|byte| random_facts(&mut dice, byte))
                .collect();
            let mut wanted = wanted();
            wanted.price_cap = [None, Some(price("1EUR/month"))][dice.roll(2) as usize];
            wanted.rtt_us_max = [None, Some(5_000)][dice.roll(2) as usize];
            let first = plan(&wanted, &all);
            assert_eq!(first.candidates.len() + first.refused.len(), all.len());
            for candidate in &first.candidates {
                let fact = all.iter().find(|fact| fact.node == candidate.node).unwrap();
                assert!(fact.reachable && 128 <= fact.free.memory_mib && 1 <= fact.free.slots);
                let rtt_us_max = wanted.rtt_us_max.unwrap_or(u32::MAX);
                assert!(wanted.rtt_us_max.is_none() || fact.rtt_us.unwrap() <= rtt_us_max);
                let micros = candidate.deal.price.per_month.micros;
                assert!(wanted.price_cap.is_none() || micros <= 1_000_000);
            }
            for index in (1..all.len()).rev() {
                all.swap(index, dice.roll(index as u64 + 1) as usize);
            }
            assert_eq!(plan(&wanted, &all), first, "seed {seed}");
        }
    }
}
