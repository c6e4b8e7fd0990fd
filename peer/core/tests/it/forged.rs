//! Agreements and invites that somebody made by hand: each is refused with the sentence that says
//! what is wrong with it.

use std::time::Duration;

use mesh_api::request::{OrderRequest, Sale};
use mesh_api::{ErrorKind, Reply, Request};
use mesh_base::certificate::{Chain, Role};
use mesh_base::digest::Digest;
use mesh_base::identity::{NodeId, OrgId, SecretKey};
use mesh_base::time::Wall;
use mesh_federation::invite::{Invite, Kind};
use mesh_ledger::agreement::{SignedTerms, Terms};
use mesh_peer::genesis::{Subject, certify};

use crate::screens::Screens;
use crate::town::{Town, root_of};

/// Two organisations that have not agreed yet, and an offer of the library's.
struct Offered {
    town: Town,
    bakery: usize,
    library: usize,
    text: String,
}

fn sale(price: &str) -> Sale {
    Sale {
        recipe: "postgres".parse().unwrap(),
        price: price.parse().unwrap(),
    }
}

fn org_invite(sell: Vec<Sale>, credit: &str) -> Request {
    Request::OrgInvite {
        sell,
        credit: credit.parse().unwrap(),
        valid_s: 600,
        settlement_days: 14,
    }
}

fn accept(text: &str) -> Request {
    let agreement = text.to_owned();
    Request::OrgAccept { agreement }
}

fn offered() -> Offered {
    let mut town = Town::new();
    let (bakery, library) = (town.found("bakery", 0), town.found("library", 1));
    let call = town.ask(library, org_invite(vec![sale("1EUR/month")], "1EUR"));
    let Ok(Reply::OrgInvite {
        agreement: text, ..
    }) = town.answer(call)
    else {
        panic!("no offer")
    };
    Offered {
        town,
        bakery,
        library,
        text,
    }
}

impl Offered {
    /// Returns the invite, changed.
    fn with(&self, change: impl FnOnce(&mut Invite)) -> String {
        let mut invite = Invite::from_text(&self.text, self.town.now().wall).unwrap();
        change(&mut invite);
        invite.to_text()
    }

    /// Returns the offer with terms that were changed and signed again by a key with a chain.
    fn signed(
        &self,
        change: impl FnOnce(&mut Terms),
        issuer: Option<Chain>,
        key: &SecretKey,
    ) -> String {
        self.with(|invite| {
            let Kind::Agreement(signed) = &mut invite.kind else {
                panic!("an offer was expected")
            };
            let mut terms = signed.terms.clone();
            change(&mut terms);
            **signed = SignedTerms::sign(terms, issuer, key);
        })
    }

    #[track_caller]
    fn refuses(&mut self, screens: &mut Screens, text: &str, cause: &str) {
        let at = self.bakery;
        screens.meet(&mut self.town, at, accept(text), ErrorKind::Usage, cause);
    }
}

/// Certificates of a key for an organisation, by its root.
fn chain(role: Role, key: &SecretKey, root: &SecretKey, now: Wall) -> Chain {
    let subject = Subject {
        node: NodeId(key.public()),
        name: "forger-1".parse().unwrap(),
        role,
        org: OrgId(root.public()),
        org_name: "forger".parse().unwrap(),
    };
    Chain(vec![certify(&subject, root, now)])
}

/// Terms that do not bind.
fn terms(screens: &mut Screens) {
    let mut offered = offered();
    let (now, key) = (offered.town.now().wall, SecretKey::from_seed([90; 32]));
    let root = root_of(offered.library);
    let foreign = chain(Role::Master, &key, &SecretKey::from_seed([91; 32]), now);
    let text = offered.signed(|_| {}, Some(foreign), &key);
    let cause = "the signer does not belong to the organisation named";
    offered.refuses(screens, &text, cause);
    let servant = chain(Role::Node, &key, &root, now);
    let text = offered.signed(|_| {}, Some(servant), &key);
    let cause = "only a master or the root key may sign for an organisation";
    offered.refuses(screens, &text, cause);
    let text = offered.with(|invite| {
        if let Kind::Agreement(signed) = &mut invite.kind {
            signed.terms.settlement_days += 1;
        }
    });
    let cause = "the signature under the terms does not match";
    offered.refuses(screens, &text, cause);
    let text = offered.signed(|terms| terms.valid_until = now, None, &root);
    offered.refuses(screens, &text, "the terms ended at");
    let other = OrgId(key.public());
    let text = offered.signed(|terms| terms.buyer = Some(other), None, &root);
    let cause = "the offer is for another organisation";
    offered.refuses(screens, &text, cause);
    let own = (offered.text.clone(), offered.library);
    offered.bakery = own.1;
    let cause = "an organisation cannot agree with itself";
    offered.refuses(screens, &own.0, cause);
}

/// Writes bytes as an invite's letters.
fn letters(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut text = "mesh1".to_owned();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in bytes.iter().chain(&[0]) {
        (bits, count) = (bits << 8 | u32::from(*byte), count + 8);
        while 5 <= count {
            count -= 5;
            text.push(char::from(ALPHABET[(bits >> count & 31) as usize]));
        }
    }
    // What the byte of padding added but for the bits that it filled up.
    let len = (bytes.len() * 8).div_ceil(5);
    text.truncate("mesh1".len() + len);
    text
}

/// Texts that no node wrote.
fn texts(screens: &mut Screens) {
    let mut offered = offered();
    offered.refuses(screens, &letters(&[2; 11]), "the invite has format 2");
    let mut body = vec![1, 0, 1, 5];
    let sum = *Digest::of(&body).as_bytes();
    body.extend_from_slice(&sum[..4]);
    offered.refuses(screens, &letters(&body), "the invite cannot be read");
}

/// Secrets that do not open the seller's door.
fn secrets(screens: &mut Screens) {
    let mut refused = |offered: &mut Offered, text: &str, cause: &str| {
        let (at, kind) = (offered.bakery, ErrorKind::NotAuthorised);
        screens.meet(&mut offered.town, at, accept(text), kind, cause);
    };
    let mut offered = offered();
    let unknown = offered.with(|invite| invite.secret = [7; 16]);
    refused(&mut offered, &unknown, "this invite is not known here");
    let text = offered.text.clone();
    let call = offered.town.ask(offered.bakery, accept(&text));
    assert!(offered.town.answer(call).is_ok());
    let school = offered.town.found("school", 0);
    offered.bakery = school;
    refused(&mut offered, &text, "this invite was used already");
    let mut offered = self::offered();
    // Altered so that only the seller knows when it ended.
    let later = offered.with(|invite| invite.expires = invite.expires + Duration::from_secs(900));
    offered.town.pass(Duration::from_secs(700));
    refused(&mut offered, &later, "this invite expired at");
}

/// Offers that cannot be made.
fn offers(screens: &mut Screens) {
    let mut offered = offered();
    let at = offered.library;
    let town = &mut offered.town;
    let mut refused = |sell: Vec<Sale>, credit: &str, cause: &str| {
        let request = org_invite(sell, credit);
        screens.meet(town, at, request, ErrorKind::Usage, cause);
    };
    let one = sale("1EUR/month");
    refused(vec![one.clone(), one.clone()], "1EUR", "has two prices");
    refused(vec![one.clone(); 257], "1EUR", "at most 256 prices");
    refused(vec![one], "-1EUR", "cannot be below zero");
    for _ in 0..63 {
        let call = town.ask(at, org_invite(Vec::new(), "1EUR"));
        assert!(town.answer(call).is_ok());
    }
    let cause = "64 invites are open";
    let full = org_invite(Vec::new(), "1EUR");
    screens.meet(town, at, full, ErrorKind::Usage, cause);
}

/// Orders for what is not sold, not offered, out of reach or not complete.
fn orders(screens: &mut Screens) {
    let mut town = crate::mesh();
    let bottle = |word: &str| {
        let mut order = OrderRequest::of("bottle".parse().unwrap());
        if !word.is_empty() {
            order.parameters.insert("word".to_owned(), word.to_owned());
        }
        Request::Order(Box::new(order))
    };
    let cause = "parameter \"word\" has no default and must be given";
    screens.meet(&mut town, 0, bottle(""), ErrorKind::Usage, cause);
    let kind = ErrorKind::CannotPlace;
    let cause = "the agreement with its organisation does not sell bottle";
    screens.meet(&mut town, 0, bottle("hello"), kind, cause);
    for library in [1, 3] {
        town.leave(library);
    }
    let cause = "it cannot be reached now";
    screens.meet(&mut town, 0, crate::order("a"), kind, cause);
    for library in [1, 3] {
        town.machines[library].bare = true;
        town.restart(library);
    }
    town.pass(Duration::from_secs(30));
    let cause = "it does not offer postgres";
    screens.meet(&mut town, 0, crate::order("b"), kind, cause);
}

/// Meets them all.
pub fn all(screens: &mut Screens) {
    terms(screens);
    texts(screens);
    secrets(screens);
    offers(screens);
    orders(screens);
}
