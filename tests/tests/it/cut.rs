//! A home is cut off and joined again: its services are back without anybody's help.

use std::time::Duration;

use anyhow::ensure;
use mesh_tests::runner::Place;
use mesh_tests::until::until;

use crate::street::Street;

/// Cuts the provider off while its database is in use.
pub fn service_is_back_after_a_cut(place: &Place) -> anyhow::Result<()> {
    let street = Street::raise(place, |_| Ok(()))?;
    let (customer, provider) = (&street.cast.bakery, &street.cast.library);
    let order = [
        "order",
        "postgres",
        "--name",
        "crm-db",
        "--node",
        &provider.name,
    ];
    customer.meshctl(&order)?.ok()?;
    let url = customer.url("crm-db")?;
    customer.psql(&url, "create table t(i int)")?.ok()?;

    street.lab.cut(&provider.name)?;
    let cut_off = customer.psql(&url, "select 1")?;
    ensure!(
        cut_off.code != 0,
        "a database that is cut off answers:\n{cut_off}"
    );
    street.lab.heal(&provider.name)?;

    until(
        "the database answers again",
        Duration::from_secs(60),
        || {
            let said = customer.psql(&url, "select count(*) from t")?;
            Ok((said.code == 0).then_some(()))
        },
    )
}
