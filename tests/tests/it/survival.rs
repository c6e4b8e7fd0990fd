//! Instances outlive their daemon: it is killed, and the database does not notice.

use std::time::Duration;

use anyhow::ensure;
use mesh_tests::home::sees;
use mesh_tests::runner::Place;
use mesh_tests::until::until;

use crate::street::Street;

/// Kills the provider's daemon under a running database.
pub fn instance_survives_daemon_restart(place: &Place) -> anyhow::Result<()> {
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
    let began = "select pg_postmaster_start_time()";
    let before = customer.psql(&url, began)?.value()?;

    provider.kill_daemon()?;
    provider.start()?;
    sees(provider, &[&customer.name], Duration::from_secs(30))?;
    let after = until(
        "the database answers again",
        Duration::from_secs(30),
        || {
            let said = customer.psql(&url, began)?;
            Ok((said.code == 0).then_some(said.stdout))
        },
    )?;
    ensure!(
        after.trim_end() == before,
        "the database was started anew: {before}, then {after}"
    );
    customer.psql(&url, "insert into t values (1)")?.ok()?;

    // What was adopted is still ours to end.
    customer.meshctl(&["destroy", "crm-db", "--yes"])?.ok()?;
    until("the database is gone", Duration::from_secs(30), || {
        Ok((customer.psql(&url, "select 1")?.code != 0).then_some(()))
    })
}
