//! Real PostgreSQL through the drivers: fetched, created, started, asked, metered, adopted,
//! destroyed.
//!
//! Has a main of its own because the program must be able to act as a shim. The unpacked software
//! is kept in a cache folder; one test fetches it anew and needs the package archive.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod client;
mod hostile;
mod life;
mod walled;
mod world;

use std::process::ExitCode;

/// One test: its name and what it does.
type Test = (&'static str, fn());

const TESTS: [Test; 13] = [
    ("postgres_lives_without_namespaces", walled::whole_life),
    (
        "instance_without_namespaces_survives_its_daemon",
        walled::survives_its_daemon,
    ),
    (
        "nothing_goes_on_without_those_who_keep_it_apart",
        walled::killed_above,
    ),
    (
        "hostile_service_without_namespaces_achieves_nothing",
        walled::hostile_service,
    ),
    (
        "postgres_lives_from_creation_to_nothing_left",
        life::whole_life,
    ),
    ("instance_survives_its_daemon", life::survives_its_daemon),
    ("killed_shim_takes_everything_with_it", life::killed_shim),
    (
        "instance_that_was_half_destroyed_is_destroyed",
        life::killed_while_destroying,
    ),
    (
        "adopted_instance_forgets_the_secrets_of_its_first_start",
        life::secrets_after_adoption,
    ),
    (
        "killed_server_is_reported_and_starts_again",
        life::killed_server,
    ),
    ("start_that_fails_says_why", life::failing_start),
    (
        "machine_without_namespaces_or_network_devices_is_found_out",
        life::no_sandbox_is_found_out,
    ),
    ("unpacking_again_gives_the_same_digest", life::same_digest),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some("shim".as_ref()) {
        mesh_drivers::shim::shim_main(arguments.collect());
    }
    if first.as_deref() == Some("client".as_ref()) {
        return client::main(arguments.collect());
    }
    if first.as_deref() == Some("hostile".as_ref()) {
        return hostile::main();
    }
    let filters: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    if std::env::args().any(|word| word == "--list") {
        for (name, _) in TESTS {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, test) in TESTS {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        let began = std::time::Instant::now();
        let outcome = std::panic::catch_unwind(test);
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!(
            "test {name} ... {word} ({} ms)",
            began.elapsed().as_millis()
        );
        failed += usize::from(outcome.is_err());
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
