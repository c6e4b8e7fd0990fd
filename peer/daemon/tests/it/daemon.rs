//! One daemon's life: founded, started, asked, killed, started again, stopped.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::node::Node;

#[test]
fn founded_node_starts_answers_and_stops() {
    let node = Node::founded("bakery");
    node.start();
    let status = node.status();
    let text = status.to_string();
    assert!(
        text.contains("\"bakery-1\"") && text.contains("\"address\":\"fd6d:"),
        "{text}"
    );
    let plain = node.run(&["status"]);
    plain.check(0);
    assert!(plain.out.starts_with("network"), "{}", plain.out);
    node.run(&["stop"]).check(0);
    assert!(!node.path("meshnode.sock").exists());
    node.run(&["status"])
        .check_failure(3, "no node answers", "meshnode start");
    // Twice is as good as once.
    node.run(&["stop"]).check(0);
}

#[test]
fn second_daemon_on_one_home_is_refused() {
    let node = Node::founded("bakery");
    node.start();
    node.run(&["start"])
        .check_failure(6, "already runs", "meshnode stop");
    node.run(&["start", "--foreground"])
        .check_failure(6, "already runs", "meshnode stop");
    assert!(node.status().is_object());
}

#[test]
fn killed_daemon_comes_back_as_the_same_node() {
    let node = Node::founded("bakery");
    node.start();
    let facts = |node: &Node| {
        let text = std::fs::read_to_string(node.path("ports.toml")).unwrap();
        let said = node.run(&["status"]);
        let lines = said.out.lines().filter(|line| {
            ["node", "address", "key", "leader"]
                .iter()
                .any(|start| line.starts_with(start))
        });
        (text, lines.map(str::to_owned).collect::<Vec<_>>())
    };
    let before = facts(&node);
    assert_eq!(before.1.len(), 4, "{before:?}");
    let kill = std::process::Command::new("kill")
        .args(["-9", &node.pid()])
        .status()
        .unwrap();
    assert!(kill.success());
    wait_until(|| node.run(&["status"]).code == 3);
    node.start();
    assert_eq!(facts(&node), before);
}

#[test]
fn torn_journal_tail_does_not_stop_a_node() {
    let node = Node::founded("bakery");
    let file = node.path("journal/00000001.seg");
    std::fs::OpenOptions::new()
        .append(true)
        .open(file)
        .unwrap()
        .write_all(b"torn")
        .unwrap();
    node.start();
    assert!(node.status().is_object());
}

#[test]
fn damaged_journal_is_an_error_with_a_next_step() {
    let node = Node::founded("bakery");
    let file = node.path("journal/00000001.seg");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    node.run(&["start"])
        .check_failure(1, "damaged", "restore this home from a backup");
}

#[test]
fn deleted_index_is_built_again() {
    let node = Node::founded("bakery");
    node.start();
    node.run(&["stop"]).check(0);
    std::fs::remove_dir_all(node.path("index")).unwrap();
    node.start();
    wait_until(|| node.path("index/db").exists());
    assert!(node.status().is_object());
}

#[test]
fn keys_and_socket_are_closed_to_others() {
    let node = Node::founded("bakery");
    node.start();
    for name in [
        "keys/node.key",
        "keys/org-root.key",
        "meshnode.sock",
        "journal/00000001.seg",
    ] {
        let mode = std::fs::symlink_metadata(node.path(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
}

#[test]
fn home_too_deep_for_a_socket_says_so() {
    let node = Node::deep();
    node.run(&["init", "--org", "bakery"]).check(0);
    let said = node.run(&["start", "--set", "network.tun=namespace"]);
    said.check_failure(1, "cannot serve", "shorter --home DIR");
}

#[test]
fn home_without_a_node_says_how_to_make_one() {
    let node = Node::new();
    node.run(&["start"])
        .check_failure(5, "there is no node", "meshnode init");
    node.run(&["join", "hello", "--yes"])
        .check_failure(2, "not an invite", "member invite");
}

#[test]
fn second_founding_in_one_home_is_refused() {
    let node = Node::founded("bakery");
    node.run(&["init", "--org", "library"])
        .check_failure(6, "there is a node", "--home");
}

#[test]
fn settings_show_where_they_come_from_and_unknown_ones_are_refused() {
    let node = Node::founded("bakery");
    std::fs::write(node.path("config.toml"), "[metering]\nperiod = \"5s\"\n").unwrap();
    let said = node.run(&["config", "show"]);
    said.check(0);
    assert!(
        said.out.contains("metering.period = \"5s\"  (config.toml)"),
        "{}",
        said.out
    );
    std::fs::write(node.path("config.toml"), "[metering]\nperod = \"5s\"\n").unwrap();
    node.run(&["start"])
        .check_failure(2, "metering.perod", "\"metering.period\"");
}

/// Waits for a condition, with a deadline far beyond what it takes.
#[track_caller]
fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "it did not come true");
        std::thread::yield_now();
    }
}
