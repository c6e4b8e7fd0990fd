//! From a run that broke a promise to the smallest one near it that breaks the same promise.
//!
//! Tries halves of the orders, then each kind of weather, and keeps what still fails; a report of
//! one order on a calm day can be read. Decides nothing about a run: it only calls one.
//! Invariant: what is returned breaks the promise that was given.

use std::ops::Range;

use crate::trim::{Part, Trim};

/// Returns the smallest trim found for which `breaks` still holds; each try is one run.
pub fn shrink(orders: u64, mut breaks: impl FnMut(&Trim) -> bool) -> Trim {
    let mut trim = Trim::default();
    // Weather and orders hide each other, so the orders are tried again on the calmer day.
    for _ in 0..2 {
        trim = fewer_orders(&trim, orders, &mut breaks);
        for part in Part::ALL {
            let mut calmer = trim.clone();
            if calmer.without.insert(*part) && breaks(&calmer) {
                trim = calmer;
            }
        }
    }
    trim
}

fn fewer_orders(trim: &Trim, orders: u64, breaks: &mut impl FnMut(&Trim) -> bool) -> Trim {
    let mut trim = trim.clone();
    while let Some(smaller) = halves(trim.orders.clone().unwrap_or(0..orders))
        .into_iter()
        .map(|orders| Trim {
            orders: Some(orders),
            ..trim.clone()
        })
        .find(|smaller| breaks(smaller))
    {
        trim = smaller;
    }
    trim
}

/// Returns what is tried instead of a range, smallest first.
fn halves(range: Range<u64>) -> Vec<Range<u64>> {
    let len = range.end.saturating_sub(range.start);
    if len == 0 {
        return Vec::new();
    }
    let middle = range.start + len / 2;
    let quarter = len / 4;
    let mut tried = vec![
        range.start..range.start,
        middle..range.end,
        range.start..middle,
    ];
    if quarter != 0 {
        tried.push(range.start + quarter..range.end);
        tried.push(range.start..range.end - quarter);
    }
    // A half that is all of it would be tried for ever.
    tried.retain(|part| part.end - part.start < len);
    tried
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_guilty_order_and_one_guilty_weather_are_left() {
        let mut tries = 0;
        let trim = shrink(200, |trim| {
            tries += 1;
            trim.places(137) && !trim.without.contains(&Part::Crashes)
        });
        assert_eq!(trim.orders, Some(137..138));
        assert_eq!(trim.without.len(), Part::ALL.len() - 1);
        assert!(tries < 60, "{tries}");
    }

    #[test]
    fn two_guilty_orders_stay_together() {
        let trim = shrink(200, |trim| trim.places(90) && trim.places(110));
        let orders = trim.orders.unwrap();
        assert!(orders.contains(&90) && orders.contains(&110));
        assert!(orders.end - orders.start < 60, "{orders:?}");
    }

    #[test]
    fn what_breaks_without_any_order_needs_none() {
        assert_eq!(shrink(200, |_| true).orders, Some(0..0));
    }
}
