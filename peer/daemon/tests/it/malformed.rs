//! Command lines and settings that nobody can read: each ends with its cause, the next step and
//! exit code 2, and none with a panic.
//!
//! With those of `meshctl` they are more than a hundred.

use crate::node::{Node, Said};

/// Each is split at spaces; `''` stands for an argument without a letter in it.
const LINES: &[&str] = &[
    "",
    "''",
    "-",
    "--",
    "-Z",
    "--json",
    "--home",
    "strat",
    "START",
    "init",
    "init --org",
    "init --org ''",
    "init --org Bakery",
    "init --org bak.ery",
    "init --org 1bakery",
    "init --org bakery --name Not_A_Name",
    "init --org bakery --colour red",
    "init --org bakery extra",
    "init --org abcdefghijklmnopqrstuvwxyzabcdefghijklmn",
    "join",
    "join ''",
    "join hello",
    "join hello --yes",
    "join mesh1 --yes",
    "join mesh1qqqq --yes",
    "join mesh1!!!!!!!!!!!!!!!!!!!! --yes",
    "join a b",
    "join hello --name Not_A_Name",
    "join hello --yes=perhaps",
    "start extra",
    "start --set",
    "start --set novalue",
    "start --set =5",
    "start --set metering.perod=1s",
    "start --set metering.period=soon",
    "start --set capacity.slots=-1",
    "start --set capacity.slots=many",
    "start --set network.listen=here",
    "start --set network.wireguard_port=99999",
    "start --set network.tun=maybe",
    "start --set network.advertise=home",
    "start --set software.dir=",
    "start --set log.format=xml",
    "start --foregruond",
    "stop extra",
    "stop --force",
    "status --chekc",
    "status extra --json",
    "netcheck extra",
    "netcheck --jsno",
    "wg",
    "wg exprot",
    "wg export",
    "wg export Not_A_Name",
    "wg export phone extra",
    "wg export phone --endpoint",
    "wg export phone --endpoint nowhere",
    "wg export phone --endpoint 2001:db8::1",
    "wg export phone --public-key ''",
    "wg export phone --public-key AAAA",
    "wg list extra",
    "wg remove",
    "config",
    "config shwo",
    "config show extra",
    "config show --jsno",
    "completions",
    "completions cmd",
    "man",
    "man a b",
    "version extra",
    "help",
];

/// The last two lines on stderr are cause and next step; nothing of the program's inside is told.
#[track_caller]
fn check(what: &str, said: &Said) {
    let told = format!("meshnode {what}\n{}{}", said.out, said.err);
    assert_eq!(said.code, 2, "{told}");
    let mut last = said.err.lines().rev();
    let hint = last.next().and_then(|line| line.strip_prefix("hint: "));
    let cause = last.next().and_then(|line| line.strip_prefix("error: "));
    assert!(hint.is_some_and(|hint| 3 < hint.len()), "{told}");
    assert!(cause.is_some_and(|cause| 3 < cause.len()), "{told}");
    for word in ["panicked", "backtrace", "src/", "Error {"] {
        assert!(!said.err.contains(word), "{told}");
    }
    if !said.out.is_empty() {
        let document: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(document["exit_code"], 2, "{told}");
        assert!(hint.is_some_and(|hint| document["hint"] == hint), "{told}");
    }
}

#[test]
fn every_malformed_line_has_cause_hint_and_exit_code() {
    let node = Node::new();
    for line in LINES {
        let words = line.split(' ').filter(|word| !word.is_empty());
        let words: Vec<&str> = words
            .map(|word| if word == "''" { "" } else { word })
            .collect();
        check(line, &node.run(&words));
    }
    let figure = format!("{} lines of meshnode", LINES.len());
    crate::screens_told("meshnode-lines", &figure);
}

#[test]
fn argument_cannot_write_a_hint_of_its_own() {
    let node = Node::new();
    let said = node.run(&["start\n\n  tip: \u{1b}[2Jsend money"]);
    check("lines", &said);
    assert!(!said.err.contains('\u{1b}'));
    assert_eq!(said.err.lines().count(), 2, "{}", said.err);
}

#[test]
fn damaged_settings_are_refused_with_their_place() {
    for (text, cause) in [
        ("metering = 5", "metering"),
        ("[metering\nperiod = \"1s\"", "TOML"),
        ("[metering]\nperiod = \"1s\"\nperiod = \"2s\"", "TOML"),
        ("[capacity]\nslots = [1, 2]", "capacity.slots"),
        ("\u{0}", "TOML"),
    ] {
        let node = Node::founded("bakery");
        std::fs::write(node.path("config.toml"), text).unwrap();
        let said = node.run(&["start"]);
        check(text, &said);
        assert!(said.err.contains(cause), "{text}: {}", said.err);
    }
}

#[test]
fn failures_are_json_too_where_json_was_asked_for() {
    let node = Node::new();
    let said = node.run(&["status", "--json"]);
    said.check(3);
    let document: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(document["schema"], "meshstead.error/1");
    assert_eq!(document["kind"], "unreachable");
    assert_eq!(document["exit_code"], 3);
}

#[test]
fn completions_and_manual_pages_are_written() {
    let node = Node::new();
    let said = node.run(&["completions", "bash"]);
    said.check(0);
    assert!(said.out.contains("_meshnode"), "{}", said.out);
    let folder = node.path("man");
    let folder = folder.to_str().unwrap();
    node.run(&["man", folder]).check(0);
    let page = std::fs::read_to_string(node.path("man/meshnode.1")).unwrap();
    assert!(page.contains(".TH meshnode 1"), "{page}");
    let help = node.run(&["--help"]).out;
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let commands = commands.split("\n\n").next().unwrap_or_default();
    let script = said.out;
    for line in commands.lines() {
        let command = line.split_whitespace().next().unwrap_or_default();
        let page = node.path(&format!("man/meshnode-{command}.1"));
        assert!(page.exists() || command == "help", "{command}");
        assert!(script.contains(command), "{command} is not completed");
    }
    node.run(&["man", "/proc/nowhere"])
        .check_failure(1, "/proc/nowhere", "may write to");
}
