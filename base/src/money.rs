//! Checked amounts of money in micro-units (1/1,000,000) of an ISO 4217 currency, and prices per
//! month.
//!
//! Never a float, never a bare integer. Arithmetic is checked; rounding happens in one place,
//! [`Price::charge`], half to even, and hands back the exact remainder.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Micro-units in one unit of a currency.
pub const MICRO: i128 = 1_000_000;

/// Milliseconds of a billing month: 30 days of 24 hours, the same for every month, so that a span
/// has one price whatever calendar it falls into.
pub const MONTH_MS: i128 = 30 * 24 * 3600 * 1000;

/// Why an amount could not be read or computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MoneyError {
    /// The text is not an amount.
    #[error("\"{0}\" is not an amount: write for example 0.12EUR, with at most six decimals")]
    Text(String),
    /// Two currencies cannot be added.
    #[error("{0} cannot be added to {1}")]
    Currency(Currency, Currency),
    /// The sum does not fit.
    #[error("the amount is too large")]
    Overflow,
}

/// An ISO 4217 alphabetic code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The euro.
    pub const EUR: Self = Self(*b"EUR");
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let letters: [u8; 3] = text
            .as_bytes()
            .try_into()
            .map_err(|_| MoneyError::Text(text.chars().take(20).collect()))?;
        if !letters.iter().all(u8::is_ascii_uppercase) {
            return Err(MoneyError::Text(text.chars().take(20).collect()));
        }
        Ok(Self(letters))
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// An amount in micro-units. Fits every sum we can meet: 64 bits are 9.2 million million units.
///
/// `i64` on the wire and in records; sums are taken in `i128` and checked back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// Micro-units; negative means owed.
    pub micros: i64,
    /// The currency.
    pub currency: Currency,
}

impl Money {
    /// Returns nothing in `currency`.
    pub const fn zero(currency: Currency) -> Self {
        Self {
            micros: 0,
            currency,
        }
    }

    /// Returns the sum, if the currencies agree and it fits.
    pub fn plus(self, other: Self) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::Currency(self.currency, other.currency));
        }
        let micros = self
            .micros
            .checked_add(other.micros)
            .ok_or(MoneyError::Overflow)?;
        Ok(Self {
            micros,
            currency: self.currency,
        })
    }

    /// Returns the same amount with the other sign.
    pub fn negated(self) -> Result<Self, MoneyError> {
        let micros = self.micros.checked_neg().ok_or(MoneyError::Overflow)?;
        Ok(Self {
            micros,
            currency: self.currency,
        })
    }
}

impl fmt::Display for Money {
    /// At least two and at most six decimals: `0.12 EUR`, `0.000046 EUR`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = i128::from(self.micros).abs();
        let mut decimals = format!("{:06}", magnitude % MICRO);
        while 2 < decimals.len() && decimals.ends_with('0') {
            decimals.pop();
        }
        let sign = if self.micros < 0 { "-" } else { "" };
        write!(
            f,
            "{sign}{}.{decimals} {}",
            magnitude / MICRO,
            self.currency
        )
    }
}

impl FromStr for Money {
    type Err = MoneyError;

    /// Reads `10EUR`, `0.12EUR` or `0.12 EUR`.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let wrong = || MoneyError::Text(text.chars().take(40).collect());
        let split = text
            .find(|c: char| c.is_ascii_uppercase())
            .ok_or_else(wrong)?;
        let (number, currency) = text.split_at_checked(split).ok_or_else(wrong)?;
        let number = number.trim_end();
        let (negative, number) = match number.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, number),
        };
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(decimals) || 6 < decimals.len() {
            return Err(wrong());
        }
        let whole: i64 = whole.parse().map_err(|_| MoneyError::Overflow)?;
        let decimals: i64 = format!("{decimals:0<6}").parse().map_err(|_| wrong())?;
        let micros = whole
            .checked_mul(1_000_000)
            .and_then(|micros| micros.checked_add(decimals))
            .ok_or(MoneyError::Overflow)?;
        let micros = if negative { -micros } else { micros };
        Ok(Self {
            micros,
            currency: currency.parse()?,
        })
    }
}

/// A price for having one item for one billing month of [`MONTH_MS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Price {
    /// What a whole month costs.
    pub per_month: Money,
}

impl Price {
    /// Returns what `span_ms` costs, rounded half to even to a micro-unit, and the remainder left
    /// out.
    ///
    /// `carry` is the remainder of the line before; the returned remainder is in micro-unit × ms of
    /// a month, so that no part is ever lost: charge × MONTH_MS + remainder = price × span + carry.
    pub fn charge(&self, span_ms: u64, carry: i64) -> Result<(Money, i64), MoneyError> {
        let exact = i128::from(self.per_month.micros)
            .checked_mul(i128::from(span_ms))
            .and_then(|exact| exact.checked_add(i128::from(carry)))
            .ok_or(MoneyError::Overflow)?;
        let (floor, rest) = (exact.div_euclid(MONTH_MS), exact.rem_euclid(MONTH_MS));
        let up = MONTH_MS < 2 * rest || (MONTH_MS == 2 * rest && floor % 2 != 0);
        let rounded = if up { floor + 1 } else { floor };
        let remainder = exact - rounded * MONTH_MS;
        let micros = i64::try_from(rounded).map_err(|_| MoneyError::Overflow)?;
        let remainder = i64::try_from(remainder).map_err(|_| MoneyError::Overflow)?;
        Ok((
            Money {
                micros,
                currency: self.per_month.currency,
            },
            remainder,
        ))
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/month", self.per_month)
    }
}

impl FromStr for Price {
    type Err = MoneyError;

    /// Reads `0.12EUR/month`.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let amount = text
            .strip_suffix("/month")
            .ok_or_else(|| MoneyError::Text(text.chars().take(40).collect()))?;
        Ok(Self {
            per_month: amount.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Option<(i64, &str)>) {
        let got = text
            .parse::<Money>()
            .ok()
            .map(|money| (money.micros, money.to_string()));
        assert_eq!(
            got,
            expect.map(|(micros, shown)| (micros, shown.to_owned()))
        );
    }

    #[test]
    fn amounts_are_read_and_shown() {
        check("0.12EUR", Some((120_000, "0.12 EUR")));
        check("10EUR", Some((10_000_000, "10.00 EUR")));
        check("-0.000046 EUR", Some((-46, "-0.000046 EUR")));
        check("1.2345678EUR", None);
        check("EUR", None);
        check("1e3EUR", None);
        check("99999999999999EUR", None);
        check("1eur", None);
    }

    #[test]
    fn currencies_do_not_mix() {
        let (euro, franc): (Money, Money) = ("1EUR".parse().unwrap(), "1CHF".parse().unwrap());
        assert!(matches!(euro.plus(franc), Err(MoneyError::Currency(..))));
    }

    #[test]
    fn sum_that_does_not_fit_is_an_error() {
        let most = Money {
            micros: i64::MAX,
            currency: Currency::EUR,
        };
        assert_eq!(
            most.plus(Money { micros: 1, ..most }),
            Err(MoneyError::Overflow)
        );
        assert_eq!(
            Money {
                micros: i64::MIN,
                ..most
            }
            .negated(),
            Err(MoneyError::Overflow)
        );
    }

    #[test]
    fn charges_of_parts_add_up_to_the_charge_of_the_whole() {
        let price: Price = "0.12EUR/month".parse().unwrap();
        let (whole, _) = price.charge(1_000_000, 0).unwrap();
        let (mut sum, mut carry) = (0, 0);
        for _ in 0..1000 {
            let (part, rest) = price.charge(1000, carry).unwrap();
            (sum, carry) = (sum + part.micros, rest);
        }
        assert_eq!(sum, whole.micros);
    }
}
