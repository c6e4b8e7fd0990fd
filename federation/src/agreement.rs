//! What one organisation sells another: which agreement holds, at which price, up to which credit.
//!
//! Decides whether an order may be placed and what a node may risk; signing and proving terms is in
//! `mesh_ledger::agreement`. The view is built from agreement records that the ledger admitted.
//!
//! Credit is kept without asking anybody: the limit is divided evenly among the seller's known
//! nodes, and each node refuses beyond its own slice. While two nodes know different lists of
//! members, the slices may add up to more than the limit by the difference; that is the price of
//! deciding alone, and it is bounded. Exposure is what is used and unpaid plus one whole month of
//! each running order, because that is what more a customer can owe before the next invoice shows
//! that it does not pay.
//!
//! Inside one organisation nobody owes anybody: no agreement, the price of its own catalog or zero.

use std::collections::BTreeMap;

use mesh_base::identity::{NodeId, OrgId};
use mesh_base::money::{Currency, Money, MoneyError, Price};
use mesh_base::name::Name;
use mesh_base::time::Wall;
use mesh_ledger::agreement::{AgreementError, PRICES_MAX, SignedAgreement, Terms};
use mesh_ledger::record::{RecordId, TEXT_LEN_MAX};

/// Most agreements that are remembered for one pair of organisations; the oldest goes.
pub const AGREEMENTS_PER_PAIR_MAX: usize = 64;
/// Most pairs of organisations.
pub const PAIRS_MAX: usize = 1_024;

/// Why terms cannot be offered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// Not of the form `recipe=price/month`.
    #[error("\"{0}\" does not say what is sold: write for example postgres=0.12EUR/month")]
    Sell(String),
    /// The price cannot be read.
    #[error("the price of {recipe} cannot be read")]
    Price {
        /// Of which recipe.
        recipe: String,
        /// Why.
        #[source]
        source: MoneyError,
    },
    /// The same recipe twice.
    #[error("{0} has two prices")]
    Twice(String),
    /// Too much is sold at once.
    #[error("terms have at most {PRICES_MAX} prices, these have {0}")]
    Count(usize),
    /// Prices and credit in different currencies.
    #[error("{recipe} is priced in {price} but the credit is in {credit}; use one currency")]
    Currency {
        /// Which recipe.
        recipe: String,
        /// Its currency.
        price: Currency,
        /// The credit's currency.
        credit: Currency,
    },
    /// A price or the credit below zero.
    #[error("an amount cannot be below zero")]
    Negative,
}

/// What a seller offers, before it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offering {
    /// The selling organisation.
    pub seller: OrgId,
    /// What it calls itself.
    pub seller_name: Name,
    /// What is sold at which price.
    pub sells: Vec<(String, Price)>,
    /// How much the buyer may owe.
    pub credit: Money,
    /// Days until an invoice is due.
    pub settlement_days: u32,
    /// The end of offer and agreement.
    pub valid_until: Wall,
    /// Fresh random bytes.
    pub offer_id: [u8; 16],
    /// The only organisation that may accept.
    pub buyer: Option<OrgId>,
}

impl Offering {
    /// Returns lawful terms, ready to be signed.
    pub fn terms(self) -> Result<Terms, OfferError> {
        if PRICES_MAX < self.sells.len() {
            return Err(OfferError::Count(self.sells.len()));
        }
        if self.credit.micros < 0 {
            return Err(OfferError::Negative);
        }
        let mut prices = BTreeMap::new();
        for (recipe, price) in self.sells {
            let (currency, credit) = (price.per_month.currency, self.credit.currency);
            if currency != credit {
                return Err(OfferError::Currency {
                    recipe,
                    price: currency,
                    credit,
                });
            }
            if price.per_month.micros < 0 {
                return Err(OfferError::Negative);
            }
            if prices.insert(recipe.clone(), price).is_some() {
                return Err(OfferError::Twice(recipe));
            }
        }
        Ok(Terms {
            seller: self.seller,
            seller_name: self.seller_name,
            prices,
            credit: self.credit,
            settlement_days: self.settlement_days,
            valid_until: self.valid_until,
            offer_id: self.offer_id,
            buyer: self.buyer,
        })
    }
}

/// Reads `postgres=0.12EUR/month`.
pub fn parse_sell(text: &str) -> Result<(String, Price), OfferError> {
    let wrong = || OfferError::Sell(text.chars().take(60).collect());
    let (recipe, price) = text.split_once('=').ok_or_else(wrong)?;
    let lawful = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if recipe.is_empty() || TEXT_LEN_MAX < recipe.len() || !recipe.chars().all(lawful) {
        return Err(wrong());
    }
    let recipe = recipe.to_owned();
    match price.parse() {
        Ok(price) => Ok((recipe, price)),
        Err(source) => Err(OfferError::Price { recipe, source }),
    }
}

/// The conditions of one order at one seller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deal {
    /// What a month costs.
    pub price: Price,
    /// The agreement; none inside one organisation.
    pub agreement: Option<RecordId>,
    /// What the buyer may owe the seller; none inside one organisation.
    pub credit: Option<Money>,
}

/// Why a seller does not sell to a buyer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoDeal {
    /// Never agreed.
    #[error("there is no agreement with its organisation")]
    NoAgreement,
    /// Agreed once, over now.
    #[error("the agreement with its organisation ended at {0}")]
    Ended(Wall),
    /// Agreed, but not on this recipe.
    #[error("the agreement with its organisation does not sell {0}")]
    NotSold(String),
}

#[derive(Debug, Clone)]
struct Known {
    wall: Wall,
    id: RecordId,
    terms: Terms,
}

/// All agreements that are known here.
#[derive(Debug, Clone, Default)]
pub struct Agreements {
    /// By seller and buyer; the newest last.
    pairs: BTreeMap<(OrgId, OrgId), Vec<Known>>,
}

impl Agreements {
    /// Returns a view without agreements.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes an agreement record that was written at `wall`; proves both signatures as of then.
    ///
    /// The mirror record of the other side may have another id; each agreement is kept once, under
    /// the smaller one, so that both sides and all their nodes name it alike once they know both.
    /// Returns false if nothing changed.
    pub fn handle_agreement(
        &mut self,
        id: RecordId,
        wall: Wall,
        agreement: &SignedAgreement,
    ) -> Result<bool, AgreementError> {
        agreement.verify(wall)?;
        let terms = agreement.terms();
        let pair = (terms.seller, agreement.buyer);
        if PAIRS_MAX <= self.pairs.len() && !self.pairs.contains_key(&pair) {
            return Ok(false);
        }
        let known = self.pairs.entry(pair).or_default();
        if let Some(same) = known.iter_mut().find(|known| known.terms == *terms) {
            let news = id < same.id;
            (same.id, same.wall) = (id.min(same.id), wall.min(same.wall));
            return Ok(news);
        }
        known.push(Known {
            wall,
            id,
            terms: terms.clone(),
        });
        known.sort_by_key(|known| (known.wall, known.id));
        if AGREEMENTS_PER_PAIR_MAX < known.len() {
            known.remove(0);
        }
        Ok(true)
    }

    /// Returns the conditions of one recipe at a seller, from the newest agreement in force that
    /// sells it.
    ///
    /// `own_price` is what the seller's own catalog says; it counts only inside one organisation.
    /// The credit is that of the newest agreement in force: a later agreement replaces the limit of
    /// an earlier.
    pub fn deal(
        &self,
        seller: &OrgId,
        buyer: &OrgId,
        recipe: &str,
        own_price: Option<Price>,
        now: Wall,
    ) -> Result<Deal, NoDeal> {
        if seller == buyer {
            let zero = Price {
                per_month: Money::zero(Currency::EUR),
            };
            let price = own_price.unwrap_or(zero);
            return Ok(Deal {
                price,
                agreement: None,
                credit: None,
            });
        }
        let known = self
            .pairs
            .get(&(*seller, *buyer))
            .map_or(&[][..], Vec::as_slice);
        let in_force = || {
            known
                .iter()
                .rev()
                .filter(|known| now < known.terms.valid_until)
        };
        let Some(newest) = in_force().next() else {
            let ended = known.iter().map(|known| known.terms.valid_until).max();
            return Err(ended.map_or(NoDeal::NoAgreement, NoDeal::Ended));
        };
        in_force()
            .find_map(|known| {
                let price = *known.terms.prices.get(recipe)?;
                let (agreement, credit) = (Some(known.id), Some(newest.terms.credit));
                Some(Deal {
                    price,
                    agreement,
                    credit,
                })
            })
            .ok_or_else(|| NoDeal::NotSold(recipe.to_owned()))
    }

    /// Returns whether the two organisations have any agreement in force, whoever sells.
    pub fn are_partners(&self, a: &OrgId, b: &OrgId, now: Wall) -> bool {
        [(*a, *b), (*b, *a)]
            .iter()
            .filter_map(|pair| self.pairs.get(pair))
            .any(|known| known.iter().any(|known| now < known.terms.valid_until))
    }

    /// Returns every agreement with its record id, by seller and buyer, the newest last.
    pub fn all(&self) -> impl Iterator<Item = (OrgId, OrgId, RecordId, &Terms)> {
        self.pairs.iter().flat_map(|((seller, buyer), known)| {
            known
                .iter()
                .map(|known| (*seller, *buyer, known.id, &known.terms))
        })
    }

    /// Returns whether this offer was accepted already, so that it is used once.
    pub fn is_used(&self, seller: &OrgId, offer_id: &[u8; 16]) -> bool {
        self.all()
            .any(|(of, _, _, terms)| of == *seller && terms.offer_id == *offer_id)
    }
}

/// Why a node does not take more of a customer on credit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreditError {
    /// Beyond the slice.
    #[error("{exposed} of the {slice} that this node may risk are used, {wanted} more do not fit")]
    Exceeded {
        /// What the node may risk.
        slice: Money,
        /// What it risks now.
        exposed: Money,
        /// What the order adds.
        wanted: Money,
    },
    /// Amounts that do not add up.
    #[error("the customer's exposure cannot be computed")]
    Amount(#[from] MoneyError),
}

/// Returns the part of a credit that one of the seller's nodes may risk alone; nothing for
/// strangers.
///
/// Evenly in micro-units; what does not divide goes to the first nodes in the order of their keys,
/// so that all slices together are exactly the credit.
pub fn slice(credit: Money, nodes: &[NodeId], node: &NodeId) -> Money {
    let mut nodes = nodes.to_vec();
    nodes.sort_unstable();
    nodes.dedup();
    let count = i64::try_from(nodes.len()).unwrap_or(i64::MAX);
    let Ok(index) = nodes.binary_search(node) else {
        return Money::zero(credit.currency);
    };
    let index = i64::try_from(index).unwrap_or(i64::MAX);
    let credit_micros = credit.micros.max(0);
    let extra = i64::from(index < credit_micros % count);
    Money {
        micros: credit_micros / count + extra,
        currency: credit.currency,
    }
}

/// What a node risks with one customer organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exposure {
    /// Used and not paid.
    pub unpaid: Money,
    /// One month of each order that is granted or reserved.
    pub running: Money,
}

impl Exposure {
    /// Returns no exposure.
    pub fn none(currency: Currency) -> Self {
        Self {
            unpaid: Money::zero(currency),
            running: Money::zero(currency),
        }
    }

    /// Adds what was used.
    pub fn used(self, amount: Money) -> Result<Self, MoneyError> {
        Ok(Self {
            unpaid: self.unpaid.plus(amount)?,
            ..self
        })
    }

    /// Adds an order that runs or is reserved.
    pub fn ordered(self, price: Price) -> Result<Self, MoneyError> {
        Ok(Self {
            running: self.running.plus(price.per_month)?,
            ..self
        })
    }

    /// Returns whether one more order fits the slice, or why not.
    pub fn admits(&self, price: Price, slice: Money) -> Result<(), CreditError> {
        let exposed = self.unpaid.plus(self.running)?;
        let wanted = price.per_month;
        let after = exposed.plus(wanted)?;
        if after.currency != slice.currency {
            return Err(MoneyError::Currency(after.currency, slice.currency).into());
        }
        // What costs nothing risks nothing.
        if wanted.micros != 0 && slice.micros < after.micros {
            return Err(CreditError::Exceeded {
                slice,
                exposed,
                wanted,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_base::address::NodeAddress;
    use mesh_base::certificate::{Body, CERTIFICATE_VERSION, Certificate, Chain, Role};
    use mesh_base::digest::Digest;
    use mesh_base::identity::SecretKey;
    use mesh_ledger::agreement::SignedTerms;

    const NOW: Wall = Wall(1_000);

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_seed([byte; 32])
    }

    fn org(byte: u8) -> OrgId {
        OrgId(key(byte).public())
    }

    fn node(byte: u8) -> NodeId {
        NodeId(key(byte).public())
    }

    fn id(number: u8) -> RecordId {
        RecordId(Digest::from_bytes([number; 32]))
    }

    fn euro(text: &str) -> Money {
        text.parse().unwrap()
    }

    fn offering(sells: &[&str], credit: &str) -> Offering {
        Offering {
            seller: org(1),
            seller_name: "library".parse().unwrap(),
            sells: sells.iter().map(|text| parse_sell(text).unwrap()).collect(),
            credit: euro(credit),
            settlement_days: 14,
            valid_until: Wall(5_000),
            offer_id: [7; 16],
            buyer: None,
        }
    }

    fn signed(offering: Offering) -> SignedAgreement {
        let body = Body {
            version: CERTIFICATE_VERSION,
            node: node(3),
            prefix: NodeAddress::of(&node(3)).prefix(),
            org: org(2),
            org_name: "bakery".parse().unwrap(),
            name: "bakery-1".parse().unwrap(),
            role: Role::Master,
            incarnation: 0,
            not_before: Wall(0),
            not_after: Wall(100_000),
            issuer: key(2).public(),
        };
        let chain = Chain(vec![Certificate::issue(body, &key(2))]);
        let terms = SignedTerms::sign(offering.terms().unwrap(), None, &key(1));
        SignedAgreement::sign(terms, org(2), "bakery".parse().unwrap(), chain, &key(3))
    }

    fn deal(view: &Agreements, recipe: &str, now: Wall) -> Result<(String, RecordId), NoDeal> {
        let deal = view.deal(&org(1), &org(2), recipe, None, now)?;
        Ok((deal.price.to_string(), deal.agreement.unwrap()))
    }

    #[test]
    fn sale_is_read() {
        let (recipe, price) = parse_sell("postgres=0.12EUR/month").unwrap();
        assert_eq!(
            (recipe.as_str(), price.to_string().as_str()),
            ("postgres", "0.12 EUR/month")
        );
        for wrong in ["postgres", "=1EUR/month", "a b=1EUR/month"] {
            assert_eq!(parse_sell(wrong), Err(OfferError::Sell(wrong.to_owned())));
        }
        assert!(matches!(
            parse_sell("postgres=1EUR"),
            Err(OfferError::Price { .. })
        ));
    }

    #[test]
    fn unlawful_terms_are_not_offered() {
        let terms = |sells: &[&str], credit: &str| offering(sells, credit).terms().unwrap_err();
        assert_eq!(
            terms(&["a=1EUR/month", "a=2EUR/month"], "1EUR"),
            OfferError::Twice("a".to_owned())
        );
        assert!(matches!(
            terms(&["a=1CHF/month"], "1EUR"),
            OfferError::Currency { .. }
        ));
        assert_eq!(terms(&["a=1EUR/month"], "-1EUR"), OfferError::Negative);
        assert_eq!(terms(&["a=-1EUR/month"], "1EUR"), OfferError::Negative);
    }

    #[test]
    fn agreement_in_force_sets_price_and_credit() {
        let mut view = Agreements::new();
        assert_eq!(deal(&view, "postgres", NOW), Err(NoDeal::NoAgreement));
        let agreed = signed(offering(&["postgres=0.12EUR/month"], "10EUR"));
        assert_eq!(view.handle_agreement(id(5), NOW, &agreed), Ok(true));
        assert_eq!(
            deal(&view, "postgres", NOW),
            Ok(("0.12 EUR/month".to_owned(), id(5)))
        );
        assert_eq!(
            deal(&view, "wiki", NOW),
            Err(NoDeal::NotSold("wiki".to_owned()))
        );
        assert_eq!(
            deal(&view, "postgres", Wall(5_000)),
            Err(NoDeal::Ended(Wall(5_000)))
        );
        let backwards = view.deal(&org(2), &org(1), "postgres", None, NOW);
        assert_eq!(backwards, Err(NoDeal::NoAgreement));
        assert!(view.are_partners(&org(2), &org(1), NOW));
        assert!(view.is_used(&org(1), &[7; 16]));
    }

    #[test]
    fn mirror_of_an_agreement_is_the_same_agreement() {
        let mut view = Agreements::new();
        let agreed = signed(offering(&["postgres=0.12EUR/month"], "10EUR"));
        view.handle_agreement(id(5), NOW, &agreed).unwrap();
        assert_eq!(view.handle_agreement(id(6), NOW, &agreed), Ok(false));
        assert_eq!(view.handle_agreement(id(4), NOW, &agreed), Ok(true));
        assert_eq!(deal(&view, "postgres", NOW).unwrap().1, id(4));
        assert_eq!(view.all().count(), 1);
    }

    #[test]
    fn newer_agreement_counts_and_an_older_one_still_sells_the_rest() {
        let mut view = Agreements::new();
        let old = signed(offering(
            &["postgres=2EUR/month", "wiki=1EUR/month"],
            "10EUR",
        ));
        let new = signed(offering(&["postgres=1EUR/month"], "3EUR"));
        view.handle_agreement(id(6), Wall(20), &new).unwrap();
        view.handle_agreement(id(5), Wall(10), &old).unwrap();
        assert_eq!(deal(&view, "postgres", NOW).unwrap().1, id(6));
        let wiki = view.deal(&org(1), &org(2), "wiki", None, NOW).unwrap();
        assert_eq!(
            (wiki.agreement, wiki.credit),
            (Some(id(5)), Some(euro("3EUR")))
        );
    }

    #[test]
    fn forged_agreement_never_counts() {
        let mut view = Agreements::new();
        let mut forged = signed(offering(&["postgres=0.12EUR/month"], "10EUR"));
        forged.terms.terms.credit = euro("1000EUR");
        let refused = view.handle_agreement(id(5), NOW, &forged);
        assert!(matches!(refused, Err(AgreementError::Signature(_))));
    }

    #[test]
    fn own_organisation_needs_no_agreement() {
        let view = Agreements::new();
        let own = view.deal(&org(1), &org(1), "postgres", None, NOW).unwrap();
        assert_eq!(
            (own.price.per_month.micros, own.agreement, own.credit),
            (0, None, None)
        );
        let price: Price = "0.05EUR/month".parse().unwrap();
        let own = view
            .deal(&org(1), &org(1), "postgres", Some(price), NOW)
            .unwrap();
        assert_eq!(own.price, price);
    }

    #[test]
    fn slices_add_up_to_the_credit() {
        for count in 1..8_u8 {
            let nodes: Vec<NodeId> = (10..10 + count).map(node).collect();
            let credit = Money {
                micros: 10_000_003,
                currency: Currency::EUR,
            };
            let slices = nodes.iter().map(|node| slice(credit, &nodes, node).micros);
            assert_eq!(slices.sum::<i64>(), credit.micros);
            assert_eq!(slice(credit, &nodes, &node(99)).micros, 0);
        }
    }

    #[test]
    fn order_beyond_the_slice_is_refused() {
        let price: Price = "4EUR/month".parse().unwrap();
        let none = Exposure::none(Currency::EUR);
        assert_eq!(none.admits(price, euro("4EUR")), Ok(()));
        let exposed = none.used(euro("1EUR")).unwrap().ordered(price).unwrap();
        let refused = CreditError::Exceeded {
            slice: euro("8EUR"),
            exposed: euro("5EUR"),
            wanted: euro("4EUR"),
        };
        assert_eq!(exposed.admits(price, euro("8EUR")), Err(refused));
        assert_eq!(exposed.admits(price, euro("9EUR")), Ok(()));
        let free: Price = "0EUR/month".parse().unwrap();
        assert_eq!(exposed.admits(free, euro("0EUR")), Ok(()));
        assert!(matches!(
            exposed.admits(price, euro("9CHF")),
            Err(CreditError::Amount(_))
        ));
    }
}
