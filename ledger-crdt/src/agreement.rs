//! Terms between two organisations: what the seller offers, and the buyer's signature under it.
//!
//! Whether the keys may speak for their organisations is proven by the chains inside, each ending
//! at the root key that the terms name. Whether those organisations are wanted is the reader's
//! decision.

use std::collections::BTreeMap;

use mesh_base::certificate::{Chain, ChainError, Role};
use mesh_base::codec;
use mesh_base::identity::{Context, KeyError, NodeId, OrgId, PublicKey, SecretKey, Signature};
use mesh_base::money::{Money, Price};
use mesh_base::name::Name;
use mesh_base::time::Wall;
use serde::{Deserialize, Serialize};

use crate::record::{BodyError, list_fits, text_fits};

/// Most prices in one agreement.
pub const PRICES_MAX: usize = 256;

/// What a seller offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The selling organisation.
    pub seller: OrgId,
    /// What it calls itself.
    pub seller_name: Name,
    /// Price per month of each recipe.
    pub prices: BTreeMap<String, Price>,
    /// How much the buyer may owe before orders are refused.
    pub credit: Money,
    /// Days after the month's end until an invoice is due.
    pub settlement_days: u32,
    /// The end of the offer, and of the agreement made from it.
    pub valid_until: Wall,
    /// Names the offer, so that it is used once.
    #[serde(with = "serde_bytes")]
    pub offer_id: [u8; 16],
    /// The only organisation that may accept, if there is one.
    pub buyer: Option<OrgId>,
}

/// [`Terms`] under the seller's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedTerms {
    /// What is offered.
    pub terms: Terms,
    /// The certificates of the master that signed; none if the root key itself did.
    pub issuer: Option<Chain>,
    /// The signature.
    pub signature: Signature,
}

/// Terms that a buyer has accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedAgreement {
    /// What the seller offered.
    pub terms: SignedTerms,
    /// The accepting organisation.
    pub buyer: OrgId,
    /// What it calls itself.
    pub buyer_name: Name,
    /// The certificates of the master that accepted.
    pub buyer_chain: Chain,
    /// That master's signature.
    pub signature: Signature,
}

/// Why terms or an agreement do not bind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AgreementError {
    /// The chain does not lead to the organisation named.
    #[error("the signer does not belong to the organisation named")]
    Chain(#[source] ChainError),
    /// The signer is not a master.
    #[error("only a master or the root key may sign for an organisation")]
    NotMaster,
    /// The signature does not fit.
    #[error("the signature under the terms does not match")]
    Signature(#[source] KeyError),
    /// The terms are over.
    #[error("the terms ended at {0}")]
    Expired(Wall),
    /// The offer is for somebody else.
    #[error("the offer is for another organisation")]
    OtherBuyer,
    /// Buyer and seller are the same.
    #[error("an organisation cannot agree with itself")]
    Same,
}

impl SignedTerms {
    /// Signs terms with the root key (no issuer) or a master's key and its chain.
    pub fn sign(terms: Terms, issuer: Option<Chain>, key: &SecretKey) -> Self {
        let signature = key.sign(Context::Terms, &terms_bytes(&terms));
        Self {
            terms,
            issuer,
            signature,
        }
    }

    /// Proves that the seller offers this at `now`.
    pub fn verify(&self, now: Wall) -> Result<(), AgreementError> {
        if self.terms.valid_until <= now {
            return Err(AgreementError::Expired(self.terms.valid_until));
        }
        let signer = match &self.issuer {
            None => *self.terms.seller.key(),
            Some(chain) => master(chain, &self.terms.seller, now)?,
        };
        signer
            .verify(Context::Terms, &terms_bytes(&self.terms), &self.signature)
            .map_err(AgreementError::Signature)
    }

    pub(crate) fn check(&self) -> Result<(), BodyError> {
        list_fits("prices", self.terms.prices.len(), PRICES_MAX)?;
        list_fits(
            "certificates",
            self.issuer.as_ref().map_or(0, |chain| chain.0.len()),
            2,
        )?;
        self.terms
            .prices
            .keys()
            .try_for_each(|recipe| text_fits("recipe", recipe))
    }
}

impl SignedAgreement {
    /// Accepts terms for an organisation with a master's key and its chain.
    pub fn sign(
        terms: SignedTerms,
        buyer: OrgId,
        buyer_name: Name,
        buyer_chain: Chain,
        key: &SecretKey,
    ) -> Self {
        let signature = key.sign(Context::Terms, &accepted_bytes(&terms, &buyer, &buyer_name));
        Self {
            terms,
            buyer,
            buyer_name,
            buyer_chain,
            signature,
        }
    }

    /// Proves that both sides have signed and that the terms hold at `now`.
    pub fn verify(&self, now: Wall) -> Result<(), AgreementError> {
        if self.buyer == self.terms.terms.seller {
            return Err(AgreementError::Same);
        }
        if self
            .terms
            .terms
            .buyer
            .is_some_and(|only| only != self.buyer)
        {
            return Err(AgreementError::OtherBuyer);
        }
        self.terms.verify(now)?;
        let bytes = accepted_bytes(&self.terms, &self.buyer, &self.buyer_name);
        master(&self.buyer_chain, &self.buyer, now)?
            .verify(Context::Terms, &bytes, &self.signature)
            .map_err(AgreementError::Signature)
    }

    /// Returns the terms themselves.
    pub fn terms(&self) -> &Terms {
        &self.terms.terms
    }

    pub(crate) fn check(&self) -> Result<(), BodyError> {
        list_fits("certificates", self.buyer_chain.0.len(), 2)?;
        self.terms.check()
    }
}

fn terms_bytes(terms: &Terms) -> Vec<u8> {
    codec::encode(&("offered", terms))
}

fn accepted_bytes(terms: &SignedTerms, buyer: &OrgId, buyer_name: &Name) -> Vec<u8> {
    codec::encode(&("accepted", terms, buyer, buyer_name))
}

fn master(chain: &Chain, org: &OrgId, now: Wall) -> Result<PublicKey, AgreementError> {
    let node: NodeId = chain
        .leaf()
        .map(|body| body.node)
        .ok_or(AgreementError::Chain(ChainError::Length(0)))?;
    // The slow prefix is left out: it binds an address, and none is used here.
    let body = chain
        .verify_signatures(&node, now, |candidate| candidate == org)
        .map_err(AgreementError::Chain)?;
    match body.role {
        Role::Master => Ok(*node.key()),
        Role::Node => Err(AgreementError::NotMaster),
    }
}

#[cfg(test)]
mod tests {
    use mesh_base::address::NodeAddress;
    use mesh_base::certificate::{Body, CERTIFICATE_VERSION, Certificate};

    use super::*;
    use crate::fixture::{START, key, node, org, price};

    const END: Wall = Wall(START.0 + 1_000_000);

    fn chain(root: u8, member: u8, role: Role) -> Chain {
        let body = Body {
            version: CERTIFICATE_VERSION,
            node: node(member),
            prefix: NodeAddress::of(&node(member)).prefix(),
            org: org(root),
            org_name: "bakery".parse().unwrap(),
            name: "bakery-1".parse().unwrap(),
            role,
            incarnation: 0,
            not_before: Wall(0),
            not_after: Wall(i64::MAX),
            issuer: key(root).public(),
        };
        Chain(vec![Certificate::issue(body, &key(root))])
    }

    fn terms(buyer: Option<OrgId>) -> Terms {
        Terms {
            seller: org(1),
            seller_name: "bakery".parse().unwrap(),
            prices: BTreeMap::from([("postgres".to_owned(), price("0.12EUR/month"))]),
            credit: "10EUR".parse().unwrap(),
            settlement_days: 30,
            valid_until: END,
            offer_id: [1; 16],
            buyer,
        }
    }

    fn accept(terms: SignedTerms, buyer: u8, member: u8, role: Role) -> SignedAgreement {
        let name = "garage".parse().unwrap();
        SignedAgreement::sign(
            terms,
            org(buyer),
            name,
            chain(buyer, member, role),
            &key(member),
        )
    }

    fn offered() -> SignedTerms {
        SignedTerms::sign(terms(None), Some(chain(1, 11, Role::Master)), &key(11))
    }

    #[track_caller]
    fn check(agreement: &SignedAgreement, now: Wall, expect: Result<(), AgreementError>) {
        assert_eq!(agreement.verify(now), expect);
    }

    #[test]
    fn agreement_of_two_masters_binds_until_its_end() {
        let agreement = accept(offered(), 2, 21, Role::Master);
        check(&agreement, START, Ok(()));
        check(&agreement, END, Err(AgreementError::Expired(END)));
        let by_root = SignedTerms::sign(terms(Some(org(2))), None, &key(1));
        check(&accept(by_root, 2, 21, Role::Master), START, Ok(()));
    }

    #[test]
    fn only_masters_of_the_named_organisations_may_sign() {
        check(
            &accept(offered(), 2, 21, Role::Node),
            START,
            Err(AgreementError::NotMaster),
        );
        let by_node = SignedTerms::sign(terms(None), Some(chain(1, 11, Role::Node)), &key(11));
        check(
            &accept(by_node, 2, 21, Role::Master),
            START,
            Err(AgreementError::NotMaster),
        );
        let by_other = SignedTerms::sign(terms(None), Some(chain(3, 31, Role::Master)), &key(31));
        let untrusted = AgreementError::Chain(ChainError::Untrusted(org(3)));
        check(
            &accept(by_other, 2, 21, Role::Master),
            START,
            Err(untrusted),
        );
    }

    #[test]
    fn offers_bind_whom_they_name() {
        let named = SignedTerms::sign(terms(Some(org(3))), None, &key(1));
        check(
            &accept(named, 2, 21, Role::Master),
            START,
            Err(AgreementError::OtherBuyer),
        );
        check(
            &accept(offered(), 1, 11, Role::Master),
            START,
            Err(AgreementError::Same),
        );
    }

    #[test]
    fn changed_terms_do_not_bind() {
        let mut agreement = accept(offered(), 2, 21, Role::Master);
        let signature = Err(AgreementError::Signature(KeyError::Signature));
        agreement.buyer_name = "other".parse().unwrap();
        check(&agreement, START, signature.clone());
        let mut agreement = accept(offered(), 2, 21, Role::Master);
        agreement.terms.terms.credit.micros += 1;
        check(&agreement, START, signature);
    }
}
