//! How long an order takes when the software is cached: from the command to the first answer to a
//! third node, through the overlay.

use std::time::{Duration, Instant};

use anyhow::ensure;
use mesh_tests::figures::{Durations, Figure};
use mesh_tests::runner::Place;

use crate::street::Street;

const ORDERS: usize = 20;

/// The bar's limit for 19 of 20 orders.
const LIMIT: Duration = Duration::from_secs(3);

/// Orders again and again and measures.
pub fn order_hot(place: &Place) -> anyhow::Result<()> {
    let street = Street::raise(place, |_| Ok(()))?;
    let (customer, third) = (&street.cast.bakery, &street.cast.bakery_2);
    let mut durations = Durations::default();
    for number in 1..=ORDERS {
        let name = format!("db-{number}");
        let start = Instant::now();
        customer
            .meshctl(&["order", "postgres", "--name", &name, "--org", "library"])?
            .ok()?;
        let answer = third.psql(&customer.url(&name)?, "select 6 * 7")?.value()?;
        durations.add(start.elapsed());
        ensure!(answer == "42", "the database answered {answer}");
        customer.meshctl(&["destroy", &name, "--yes"])?.ok()?;
    }
    let holds = durations.percentile(95) <= LIMIT;
    let text = durations.summary();
    Figure {
        bar: "first.order-hot".to_owned(),
        text: text.clone(),
        holds,
    }
    .tell();
    ensure!(holds, "orders take too long: {text}");
    Ok(())
}
