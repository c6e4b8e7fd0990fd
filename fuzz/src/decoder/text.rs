//! Texts that people hand over or write: invites, recipes, settings, amounts, names, keys, digests.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use mesh_api::guest::Guest;
use mesh_base::digest::Digest;
use mesh_base::identity::PublicKey;
use mesh_base::money::{Money, Price};
use mesh_base::name::Name;
use mesh_compute::recipe::Recipe;
use mesh_federation::invite::Invite;

use crate::Outcome;
use crate::lawful;

/// Reads an invite.
pub fn invite(data: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(data) else {
        return Outcome::Refused;
    };
    let Ok(invite) = Invite::from_text(text, lawful::NOW.wall) else {
        return Outcome::Refused;
    };
    let again = Invite::from_text(&invite.to_text(), lawful::NOW.wall);
    assert_eq!(again.as_ref(), Ok(&invite), "an invite survives");
    Outcome::Read
}

/// Reads a recipe and asks what the node asks of it.
pub fn recipe(data: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(data) else {
        return Outcome::Refused;
    };
    let Ok(recipe) = Recipe::parse(text) else {
        return Outcome::Refused;
    };
    let _ = (
        recipe.digest(),
        recipe.promise_plans(),
        recipe.port_values(),
    );
    let mut byte = 0_u8;
    let fill = |bytes: &mut [u8]| {
        for place in bytes {
            byte = byte.wrapping_mul(5).wrapping_add(89);
            *place = byte;
        }
    };
    let service = lawful::name("crm-db");
    if let Ok(values) = recipe.complete_parameters(&service, &BTreeMap::new(), fill) {
        let _ = recipe.publish("[fd73::1]", &values);
    }
    let _ = recipe.lasting_names();
    Outcome::Read
}

/// Reads a settings file.
pub fn settings(data: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(data) else {
        return Outcome::Refused;
    };
    Outcome::of(mesh_compute::settings::read(text))
}

/// Reads an amount of money or a price, and computes with it.
pub fn amount(data: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(data) else {
        return Outcome::Refused;
    };
    if let Ok(money) = survives::<Money>(text) {
        let _ = (money.negated(), money.plus(money));
        return Outcome::Read;
    }
    let Ok(price) = survives::<Price>(text) else {
        return Outcome::Refused;
    };
    for (span_ms, carry) in [(0, 0), (1, -1), (u64::MAX, i64::MAX), (u64::MAX, i64::MIN)] {
        let _ = price.charge(span_ms, carry);
    }
    Outcome::Read
}

/// Reads a name, a key, a digest or whom an order lets in.
pub fn word(data: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(data) else {
        return Outcome::Refused;
    };
    let read = [
        survives::<Name>(text).is_ok(),
        survives::<PublicKey>(text).is_ok(),
        survives::<Digest>(text).is_ok(),
        survives::<Guest>(text).is_ok(),
    ];
    if read.contains(&true) {
        Outcome::Read
    } else {
        Outcome::Refused
    }
}

/// Reads a text, writes it and reads it again.
fn survives<T>(text: &str) -> Result<T, T::Err>
where
    T: FromStr + Display + PartialEq,
{
    let value: T = text.parse()?;
    let again = value.to_string().parse::<T>();
    assert!(
        again.is_ok_and(|again| again == value),
        "a text is read as it is written"
    );
    Ok(value)
}
