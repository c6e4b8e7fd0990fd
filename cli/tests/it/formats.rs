//! What programs read: JSON, JSON lines, comma-separated values; and no colours in a pipe.

use std::io::{BufRead, BufReader};

use serde_json::Value;

use crate::node::{Answer, Node, Ran, meshctl};
use crate::words;

const COMMANDS: [&str; 23] = [
    "order postgres",
    "plan postgres",
    "ps",
    "show crm-db",
    "stop crm-db",
    "start crm-db",
    "destroy crm-db -y",
    "logs crm-db",
    "member invite",
    "member ls",
    "org invite",
    "org accept a",
    "org ls",
    "agreement ls",
    "offer ls",
    "recipe ls",
    "usage",
    "invoice ls",
    "invoice show",
    "invoice verify",
    "ledger heads",
    "ledger verify",
    "status",
];

#[test]
fn every_command_writes_one_json_document_with_a_schema() {
    let node = Node::playing(words::well);
    for command in COMMANDS {
        let ran = node.run(&format!("{command} --json"));
        let document: Value = serde_json::from_str(&ran.stdout).expect(command);
        let schema = document["schema"].as_str().expect(command);
        assert!(
            schema.starts_with("meshstead.") && schema.ends_with("/1"),
            "{command}: {schema}"
        );
        assert_eq!(ran.code, 0, "{command}");
    }
}

#[test]
fn every_line_of_json_lines_is_an_object_with_a_schema() {
    let node = Node::playing(words::well);
    for command in COMMANDS {
        let ran = node.run(&format!("{command} -o jsonl"));
        assert!(!ran.stdout.is_empty(), "{command}");
        for line in ran.stdout.lines() {
            let row: Value = serde_json::from_str(line).expect(command);
            assert!(row["schema"].is_string(), "{command}");
        }
    }
}

#[test]
fn nothing_is_coloured_in_a_pipe() {
    let node = Node::playing(words::well);
    for command in COMMANDS {
        let ran = node.run(command);
        assert!(
            !ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'),
            "{command}"
        );
        assert!(
            ran.stdout.lines().all(|line| !line.ends_with(' ')),
            "{command}"
        );
    }
}

#[test]
fn json_of_services_is_the_reply() {
    let ran = Node::playing(words::well).run("ps -o jsonl");
    let first = ran.stdout.lines().next().unwrap();
    assert_eq!(
        first,
        "{\"schema\":\"meshstead.services/1\",\"list\":\"ordered\",\"name\":\"crm-db\",\
         \"recipe\":\"postgres\",\"state\":\"ready\",\"node\":\"library-1\",\"org\":\"library\",\
         \"price\":{\"per_month\":{\"micros\":120000,\"currency\":\"EUR\"}},\
         \"url\":\"postgresql://crm:s3cret@[fd73::7]:5432/crm\",\
         \"dns_name\":\"crm-db.bakery.mesh.internal\",\"ordered_at\":1795413600000}"
    );
    assert_eq!(ran.stdout.lines().count(), 2);
}

#[test]
fn lists_are_comma_separated_under_the_names_of_the_fields() {
    let ran = Node::playing(words::well).run("invoice ls -o csv");
    assert_eq!(
        ran.stdout,
        "number,provider,customer,month,state,total.micros,total.currency,line_count\n\
         library-2026-11,library,bakery,2026-11,draft,167,EUR,1\n"
    );
}

#[test]
fn reader_that_has_had_enough_ends_the_program_quietly() {
    let node = Node::playing(|_| Answer::Endless);
    let mut child = node.command("logs -f crm-db").spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "still here\n");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn version_and_completions_need_no_node() {
    let ran = Ran::of(meshctl("version"));
    assert_eq!(
        ran.stdout,
        format!("meshctl {}\n", env!("CARGO_PKG_VERSION"))
    );
    for shell in ["bash", "zsh", "fish"] {
        let ran = Ran::of(meshctl(&format!("completions {shell}")));
        assert!(ran.stdout.contains("meshctl"), "{shell}");
        assert_eq!(ran.code, 0);
    }
}

/// Returns the commands that a help screen lists.
fn listed(help: &str) -> Vec<String> {
    let commands = help.split("Commands:\n").nth(1).unwrap_or_default();
    let commands = commands.split("\n\n").next().unwrap_or_default();
    let words = commands.lines().filter_map(|line| {
        // A sentence that goes on is further in than a command.
        let line = line
            .strip_prefix("  ")
            .filter(|line| !line.starts_with(' '))?;
        line.split_whitespace().next()
    });
    words
        .filter(|word| *word != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_has_its_manual_page_and_is_completed() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = meshctl("man");
    command.arg(folder.path());
    assert_eq!(Ran::of(command).code, 0);
    let scripts = ["bash", "zsh", "fish"].map(|shell| {
        let ran = Ran::of(meshctl(&format!("completions {shell}")));
        (shell, ran.stdout)
    });
    let mut open: Vec<Vec<String>> = vec![Vec::new()];
    let mut pages = std::collections::BTreeSet::new();
    while let Some(words) = open.pop() {
        let line = words.join(" ");
        let help = Ran::of(meshctl(&format!("{line} --help"))).stdout;
        let name = format!(
            "meshctl{}.1",
            words.iter().map(|w| format!("-{w}")).collect::<String>()
        );
        let page = std::fs::read_to_string(folder.path().join(&name)).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{name}");
        for option in help
            .split_whitespace()
            .filter(|word| word.starts_with("--"))
        {
            let option = option.trim_matches(|letter: char| !letter.is_ascii_lowercase());
            let escaped = option.replace('-', "\\-");
            assert!(page.contains(&escaped), "{name} lacks --{option}");
        }
        pages.insert(name);
        if let Some(word) = words.last() {
            for (shell, script) in &scripts {
                assert!(script.contains(word.as_str()), "{shell} lacks {line}");
            }
        }
        for command in listed(&help) {
            let mut words = words.clone();
            words.push(command);
            open.push(words);
        }
    }
    let written = std::fs::read_dir(folder.path()).unwrap();
    let written = written.map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(written.collect::<std::collections::BTreeSet<_>>(), pages);
    assert!(20 < pages.len(), "{pages:?}");
}

#[test]
fn help_of_every_command_has_examples_or_is_a_group() {
    let groups = [
        "member",
        "org",
        "agreement",
        "offer",
        "recipe",
        "invoice",
        "ledger",
        "version",
    ];
    let help = Ran::of(meshctl("--help")).stdout;
    let commands = help
        .split("Commands:\n")
        .nth(1)
        .unwrap()
        .split("\n\n")
        .next()
        .unwrap();
    for line in commands.lines() {
        let command = line.split_whitespace().next().unwrap();
        let help = Ran::of(meshctl(&format!("{command} --help"))).stdout;
        assert!(
            help.contains("Examples:") || groups.contains(&command),
            "{command}"
        );
    }
}
