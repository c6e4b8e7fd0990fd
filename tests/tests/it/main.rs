//! The black-box tests: the real programs in namespaces, against Debian's own third-party software.
//!
//! `cargo test -p mesh-tests` runs them all, `… -- NAME` those whose name contains NAME. Needs no
//! root; run by root, the tests of ordinary users drop to one.

mod access;
mod cut;
mod gate;
mod idle;
mod last_slot;
mod lines;
mod neighbourhood;
mod order_hot;
mod packets;
mod paths;
mod ring;
mod screens;
mod street;
mod survival;
mod trip;

use std::process::ExitCode;
use std::time::Duration;

use mesh_tests::ground::Ground;
use mesh_tests::runner::{self, Test};

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

/// A test on a street of homes, beside others.
const ON_A_STREET: Test = Test {
    name: "",
    ground: Ground::Lab,
    deadline: minutes(3),
    alone: false,
    bar: None,
    run: |_| Ok(()),
};

const TESTS: &[Test] = &[
    Test {
        name: "transcript_as_root",
        ground: Ground::Root,
        bar: Some("first.user"),
        run: trip::transcript,
        ..ON_A_STREET
    },
    Test {
        name: "transcript_as_user",
        ground: Ground::User,
        bar: Some("first.user"),
        run: trip::transcript,
        ..ON_A_STREET
    },
    Test {
        name: "screens",
        ground: Ground::User,
        run: screens::screens,
        ..ON_A_STREET
    },
    Test {
        name: "instance_survives_daemon_restart",
        run: survival::instance_survives_daemon_restart,
        ..ON_A_STREET
    },
    Test {
        name: "service_is_back_after_a_cut",
        run: cut::service_is_back_after_a_cut,
        ..ON_A_STREET
    },
    Test {
        name: "service_is_used_along_a_line",
        run: lines::service_is_used_along_a_line,
        ..ON_A_STREET
    },
    Test {
        name: "ways_are_explained",
        run: paths::ways_are_explained,
        ..ON_A_STREET
    },
    Test {
        name: "ring_heals_from_pulled_cables",
        deadline: minutes(8),
        alone: true,
        run: ring::failover_down,
        ..ON_A_STREET
    },
    Test {
        name: "ring_heals_from_silent_cables",
        deadline: minutes(8),
        alone: true,
        run: ring::failover_silent,
        ..ON_A_STREET
    },
    Test {
        name: "stranger_is_refused",
        run: gate::stranger_is_refused,
        ..ON_A_STREET
    },
    Test {
        name: "cloned_home_raises_an_alarm",
        run: gate::cloned_home_raises_an_alarm,
        ..ON_A_STREET
    },
    Test {
        name: "seven_are_refused",
        deadline: minutes(5),
        run: gate::seven_are_refused,
        ..ON_A_STREET
    },
    Test {
        name: "only_lawful_ways_are_open_as_root",
        ground: Ground::Root,
        deadline: minutes(5),
        run: access::only_lawful_ways_are_open_as_root,
        ..ON_A_STREET
    },
    Test {
        name: "only_lawful_ways_are_open_as_user",
        deadline: minutes(5),
        run: access::only_lawful_ways_are_open_as_user,
        ..ON_A_STREET
    },
    Test {
        name: "idle_node_is_cheap",
        alone: true,
        deadline: minutes(4),
        run: idle::idle_node_is_cheap,
        ..ON_A_STREET
    },
    Test {
        name: "order_hot",
        alone: true,
        run: order_hot::order_hot,
        ..ON_A_STREET
    },
    Test {
        name: "last_slot_is_granted_once",
        alone: true,
        deadline: minutes(15),
        run: last_slot::last_slot_is_granted_once,
        ..ON_A_STREET
    },
];

fn main() -> ExitCode {
    runner::main(TESTS, trip::fetch_software)
}
