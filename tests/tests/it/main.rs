//! The black-box tests: the real programs in namespaces, against Debian's own third-party software.
//!
//! `cargo test -p mesh-tests` runs them all, `… -- NAME` those whose name contains NAME. Needs no
//! root; run by root, the tests of ordinary users drop to one.

mod access;
mod behind;
mod cut;
mod full_disk;
mod gate;
mod hostile;
mod idle;
mod interop;
mod kill;
mod last_slot;
mod leaves;
mod ledger;
mod lines;
mod lost_ways;
mod names;
mod nat;
mod neighbourhood;
mod netcheck;
mod order_hot;
mod packets;
mod paths;
mod privacy;
mod reach_blocked;
mod reach_flood;
mod reach_leaf;
mod reach_mtu;
mod reach_nat;
mod reach_roam;
mod reach_shortcut;
mod reach_user;
mod reboot;
mod refused_calls;
mod ring;
mod ring_beside;
mod screens;
mod slow_lines;
mod street;
mod survival;
mod trip;
mod upnp;

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

/// A test among Babel routers; nine of them are a bar.
const AMONG_ROUTERS: Test = Test {
    bar: Some("routing.interop"),
    ..ON_A_STREET
};

/// A test of homes that let no UDP out; all are a bar.
const WITHOUT_UDP: Test = Test {
    bar: Some("reach.blocked"),
    ..ON_A_STREET
};

/// A test of lines that swallow long packets; all are a bar.
const OVER_NARROW_LINES: Test = Test {
    bar: Some("reach.mtu"),
    deadline: minutes(5),
    ..ON_A_STREET
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
        name: "node_and_service_are_back_after_a_reboot",
        run: reboot::node_and_service_are_back_after_a_reboot,
        ..ON_A_STREET
    },
    Test {
        name: "service_is_back_after_a_cut",
        run: cut::service_is_back_after_a_cut,
        ..ON_A_STREET
    },
    Test {
        name: "transcript_along_a_line_of_three",
        bar: Some("routing.demo"),
        run: lines::transcript_along_a_line_of_three,
        ..ON_A_STREET
    },
    Test {
        name: "transcript_along_a_line_of_five",
        bar: Some("routing.demo"),
        run: lines::transcript_along_a_line_of_five,
        ..ON_A_STREET
    },
    Test {
        name: "line_of_nine_is_whole_soon",
        alone: true,
        run: lines::line_of_nine_is_whole_soon,
        ..ON_A_STREET
    },
    Test {
        name: "leaf_lives_on_two_uplinks",
        deadline: minutes(6),
        run: leaves::leaf_lives_on_two_uplinks,
        ..ON_A_STREET
    },
    Test {
        name: "refused_leaf_finds_who_has_room",
        run: leaves::refused_leaf_finds_who_has_room,
        ..ON_A_STREET
    },
    Test {
        name: "uplink_that_is_given_up_drains_first",
        deadline: minutes(6),
        run: leaves::uplink_that_is_given_up_drains_first,
        ..ON_A_STREET
    },
    Test {
        name: "mesh_outlives_the_node_it_was_joined_through",
        run: leaves::mesh_outlives_the_node_it_was_joined_through,
        ..ON_A_STREET
    },
    Test {
        name: "nodes_find_each_other_on_the_local_network",
        run: leaves::nodes_find_each_other_on_the_local_network,
        ..ON_A_STREET
    },
    Test {
        name: "node_on_a_full_disk_takes_nothing_new_on",
        run: full_disk::node_on_a_full_disk_takes_nothing_new_on,
        ..ON_A_STREET
    },
    Test {
        name: "refused_calls_lose_nothing",
        deadline: minutes(8),
        run: refused_calls::refused_calls_lose_nothing,
        ..ON_A_STREET
    },
    Test {
        name: "flood_of_handshakes_is_survived",
        alone: true,
        bar: Some("reach.flood"),
        run: reach_flood::flood_of_handshakes_is_survived,
        ..ON_A_STREET
    },
    Test {
        name: "ways_are_explained",
        run: paths::ways_are_explained,
        ..ON_A_STREET
    },
    Test {
        name: "ring_of_babeld_heals_from_pulled_cables",
        deadline: minutes(5),
        alone: true,
        run: ring_beside::babeld_heals_a_ring,
        ..ON_A_STREET
    },
    Test {
        name: "relay_hears_neither_bytes_nor_ends",
        run: privacy::relay_hears_neither_bytes_nor_ends,
        ..ON_A_STREET
    },
    Test {
        name: "bad_neighbour_is_counted_and_changes_nothing",
        alone: true,
        run: hostile::bad_neighbour_is_counted_and_changes_nothing,
        ..ON_A_STREET
    },
    Test {
        name: "relay_that_loses_packets_is_left_and_told",
        deadline: minutes(6),
        alone: true,
        run: lost_ways::relay_that_loses_packets_is_left_and_told,
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
        name: "names_mean_what_the_ledger_says",
        run: names::names_mean_what_the_ledger_says,
        ..ON_A_STREET
    },
    Test {
        name: "names_resolve_inside_the_namespace_of_a_user",
        ground: Ground::User,
        run: names::names_resolve_inside_the_namespace_of_a_user,
        ..ON_A_STREET
    },
    Test {
        name: "order_leaves_a_home_behind_a_router",
        run: behind::order_leaves_a_home,
        ..ON_A_STREET
    },
    Test {
        name: "order_reaches_a_home_behind_a_router",
        run: behind::order_reaches_a_home,
        ..ON_A_STREET
    },
    Test {
        name: "all_kinds_of_homes_reach_each_other",
        run: behind::all_kinds_reach_each_other,
        ..ON_A_STREET
    },
    Test {
        name: "homes_without_udp_reach_each_other",
        run: reach_blocked::homes_without_udp_reach_each_other,
        ..WITHOUT_UDP
    },
    Test {
        name: "tcp_to_one_port_is_enough",
        run: reach_blocked::tcp_to_one_port_is_enough,
        ..WITHOUT_UDP
    },
    Test {
        name: "udp_that_is_blocked_later_is_left_and_taken_again",
        deadline: minutes(5),
        run: reach_blocked::udp_that_is_blocked_later_is_left_and_taken_again,
        ..WITHOUT_UDP
    },
    Test {
        name: "ten_megabytes_pass_over_ipv4",
        run: reach_mtu::ten_megabytes_pass_over_ipv4,
        ..OVER_NARROW_LINES
    },
    Test {
        name: "ten_megabytes_pass_over_ipv6",
        run: reach_mtu::ten_megabytes_pass_over_ipv6,
        ..OVER_NARROW_LINES
    },
    Test {
        name: "router_that_cuts_datagrams_keeps_udp",
        run: reach_mtu::router_that_cuts_datagrams_keeps_udp,
        ..OVER_NARROW_LINES
    },
    Test {
        name: "nat_routers_are_what_they_say",
        run: nat::routers_are_what_they_say,
        ..ON_A_STREET
    },
    Test {
        name: "nat_homes_meet_where_theory_says",
        run: nat::homes_meet_where_theory_says,
        ..ON_A_STREET
    },
    Test {
        name: "nat_early_packet_is_forgotten",
        run: nat::early_packet_is_forgotten,
        ..ON_A_STREET
    },
    Test {
        name: "nat_mapping_is_forgotten",
        run: nat::mapping_is_forgotten,
        ..ON_A_STREET
    },
    Test {
        name: "nat_homes_move_and_have_neighbours",
        run: nat::homes_move_and_have_neighbours,
        ..ON_A_STREET
    },
    Test {
        name: "reach_two_homes_meet",
        run: reach_nat::two_homes_meet,
        ..ON_A_STREET
    },
    Test {
        name: "reach_all_kinds_of_homes_meet",
        bar: Some("reach.nat"),
        deadline: minutes(5),
        alone: true,
        run: reach_nat::all_kinds_meet,
        ..ON_A_STREET
    },
    Test {
        name: "reach_transfers_survive_other_addresses",
        bar: Some("reach.roam"),
        alone: true,
        run: reach_roam::transfers_survive_other_addresses,
        ..ON_A_STREET
    },
    Test {
        name: "reach_flow_takes_the_straight_way",
        bar: Some("reach.shortcut"),
        alone: true,
        run: reach_shortcut::flow_takes_the_straight_way,
        ..ON_A_STREET
    },
    Test {
        name: "line_is_as_slow_and_lossy_as_asked_for",
        alone: true,
        run: slow_lines::ping_feels_delay_and_loss,
        ..ON_A_STREET
    },
    Test {
        name: "line_that_is_narrow_tells_or_is_silent",
        run: slow_lines::narrow_line_tells_or_is_silent,
        ..ON_A_STREET
    },
    Test {
        name: "line_has_the_rate_asked_for",
        alone: true,
        run: slow_lines::rate_is_what_was_asked_for,
        ..ON_A_STREET
    },
    Test {
        name: "interop_babeld_and_we_reach_each_other",
        run: interop::pairs::babeld_and_we_reach_each_other,
        ..AMONG_ROUTERS
    },
    Test {
        name: "interop_bird_and_we_reach_each_other",
        run: interop::pairs::bird_and_we_reach_each_other,
        ..AMONG_ROUTERS
    },
    Test {
        name: "interop_line_carries_transit_both_ways",
        run: interop::lines::line_carries_transit_both_ways,
        ..AMONG_ROUTERS
    },
    Test {
        name: "interop_diamond_survives_cuts",
        run: interop::lines::diamond_survives_cuts,
        ..AMONG_ROUTERS
    },
    Test {
        name: "interop_ten_thousand_routes_pass",
        run: interop::dump::ten_thousand_routes_pass,
        ..AMONG_ROUTERS
    },
    Test {
        name: "interop_keys_are_honoured",
        run: interop::keys::keys_are_honoured,
        ..AMONG_ROUTERS
    },
    Test {
        name: "interop_round_trips_agree",
        run: interop::trips::round_trips_agree,
        ..AMONG_ROUTERS
    },
    Test {
        name: "interop_unicast_hellos_count",
        run: interop::by_hand::unicast_hellos_count,
        ..AMONG_ROUTERS
    },
    Test {
        name: "interop_unknown_mandatory_sub_tlv_is_skipped",
        run: interop::by_hand::unknown_mandatory_sub_tlv_is_skipped,
        ..AMONG_ROUTERS
    },
    Test {
        name: "stranger_on_the_network_is_not_heard",
        run: interop::by_hand::stranger_is_not_heard,
        ..ON_A_STREET
    },
    Test {
        name: "node_is_a_router_of_its_network",
        run: interop::nodes::node_is_a_router_of_its_network,
        ..ON_A_STREET
    },
    Test {
        name: "ports_are_mapped_by_miniupnpd",
        deadline: minutes(8),
        run: upnp::ports_are_mapped_by_miniupnpd,
        ..ON_A_STREET
    },
    Test {
        name: "netcheck_tells_what_the_network_lets_through",
        run: netcheck::network_is_told,
        ..ON_A_STREET
    },
    Test {
        name: "stock_wireguard_attaches_as_a_leaf",
        bar: Some("reach.leaf"),
        deadline: minutes(5),
        run: reach_leaf::stock_wireguard_attaches,
        ..ON_A_STREET
    },
    Test {
        name: "user_behind_a_symmetric_nat_orders_and_sells",
        run: reach_user::user_behind_a_symmetric_nat_orders_and_sells,
        ..ON_A_STREET
    },
    Test {
        name: "user_without_namespaces_orders_and_sells",
        run: reach_user::user_without_namespaces_orders_and_sells,
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
        name: "kills_lose_nothing",
        // Real root's control groups, if there are any, must not leak either.
        ground: Ground::Root,
        alone: true,
        deadline: minutes(15),
        run: kill::kills_lose_nothing,
        ..ON_A_STREET
    },
    Test {
        name: "power_cuts_lose_nothing",
        deadline: minutes(5),
        run: ledger::power::power_cuts_lose_nothing,
        ..ON_A_STREET
    },
    Test {
        name: "kills_under_load_lose_nothing",
        deadline: minutes(5),
        run: ledger::kill::kills_under_load_lose_nothing,
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
