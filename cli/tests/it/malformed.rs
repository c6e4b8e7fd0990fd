//! Command lines that nobody can read: each ends with its cause, the next step and exit code 2, and
//! none with a panic.
//!
//! With those of `meshnode` they are more than a hundred.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::node::{Ran, meshctl};

/// Each is split at spaces; `''` stands for an argument without a letter in it.
const LINES: &[&str] = &[
    "",
    "''",
    "-",
    "--",
    "---",
    "-Z",
    "--colour",
    "--json",
    "--home",
    "--home= ps --nonsense",
    "--output",
    "--output= ps",
    "-o xml ps",
    "-o json,csv ps",
    "-ojson ordre",
    "--json ordre",
    "--timeout ps",
    "--timeout 5y ps",
    "--timeout -1s ps",
    "--timeout 1e9s ps",
    "--timeout 99999999999999999999s ps",
    "--timeout 1x ps",
    "--quiet=maybe ps",
    "ordre",
    "ORDER postgres",
    "order",
    "order ''",
    "order Postgres",
    "order -postgres",
    "order post_gres",
    "order postgres extra",
    "order postgres --name",
    "order postgres --name ''",
    "order postgres --name Crm",
    "order postgres --name crm-",
    "order postgres --name a.b",
    "order postgres --name abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
    "order postgres --name a --name b",
    "order postgres --set",
    "order postgres --set novalue",
    "order postgres --set =x",
    "order postgres --set-file novalue",
    "order postgres --set-file a=/nonexistent/file",
    "order postgres --set a=1 --set a=2",
    "order postgres --node Not_A_Name",
    "order postgres --org 9lives",
    "order postgres --memory",
    "order postgres --memory lots",
    "order postgres --memory -1M",
    "order postgres --memory 1Q",
    "order postgres --memory 99999999999999T",
    "order postgres --cpu many",
    "order postgres --cpu -1",
    "order postgres --cpu 1e99",
    "order postgres --cpu 0.0001",
    "order postgres --disk ''",
    "order postgres --disk 5%",
    "order postgres --max-price 1",
    "order postgres --max-price EUR",
    "order postgres --max-price 1EUR/year",
    "order postgres --max-price 99999999999999999999EUR/month",
    "order postgres --plan --plan-token x",
    "order postgres --paln",
    "plan",
    "plan postgres --name 1",
    "ps extra",
    "ps --all",
    "show",
    "show crm-db extra",
    "show CRM",
    "show crm-db --field",
    "show ../etc/passwd",
    "stop",
    "stop a b",
    "start",
    "start A",
    "destroy",
    "destroy crm-db --force",
    "logs",
    "logs crm-db --bytes -1",
    "logs crm-db --bytes much",
    "logs crm-db -f -f",
    "logs crm-db -o csv",
    "logs crm-db --follow --json",
    "member",
    "member --json",
    "member invte",
    "member invite --role king",
    "member invite --valid tomorrow",
    "member invite extra",
    "member ls extra",
    "org",
    "org invite --sell postgres",
    "org invite --sell postgres=free",
    "org invite --sell =1EUR/month",
    "org invite --sell postgres=1EUR/month --credit 1CHF",
    "org invite --credit lots",
    "org invite --settlement-days -3",
    "org invite --settlement-days 1.5",
    "org accept",
    "org accept a b",
    "agreement",
    "agreement show",
    "offer",
    "offer ls ls",
    "recipe",
    "recipe show postgres",
    "usage A",
    "usage --later",
    "invoice",
    "invoice show a b",
    "invoice verify --month",
    "ledger",
    "ledger drop",
    "status --chekc",
    "completions",
    "completions cmd",
    "man",
    "man a b",
    "version extra",
    "help",
];

fn run(words: impl IntoIterator<Item = OsString>) -> Ran {
    let mut command = meshctl("");
    command.args(words);
    Ran::of(command)
}

fn words(line: &str) -> Vec<OsString> {
    let words = line.split(' ').filter(|word| !word.is_empty());
    words
        .map(|word| if word == "''" { "" } else { word }.into())
        .collect()
}

/// The last two lines on stderr are cause and next step; nothing of the program's inside is told.
#[track_caller]
fn check(what: &str, ran: &Ran) {
    let told = format!("meshctl {what}\n{}{}", ran.stdout, ran.stderr);
    assert_eq!(ran.code, 2, "{told}");
    let mut last = ran.stderr.lines().rev();
    let hint = last.next().and_then(|line| line.strip_prefix("hint: "));
    let cause = last.next().and_then(|line| line.strip_prefix("error: "));
    assert!(hint.is_some_and(|hint| 3 < hint.len()), "{told}");
    assert!(cause.is_some_and(|cause| 3 < cause.len()), "{told}");
    for word in ["panicked", "backtrace", "src/", "Error {"] {
        assert!(!ran.stderr.contains(word), "{told}");
    }
    if !ran.stdout.is_empty() {
        let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(document["exit_code"], 2, "{told}");
        assert!(hint.is_some_and(|hint| document["hint"] == hint), "{told}");
    }
}

#[test]
fn every_malformed_line_has_cause_hint_and_exit_code() {
    for line in LINES {
        check(line, &run(words(line)));
    }
    crate::screens_told(
        "meshctl-lines",
        &format!("{} lines of meshctl", LINES.len()),
    );
}

#[test]
fn arguments_that_are_no_text_or_too_much_of_it_are_refused() {
    let order = |value: OsString| run(["order".into(), value]);
    check("not UTF-8", &order(OsString::from_vec(vec![0xff, 0xfe])));
    check("control characters", &order("\u{1b}[2J\u{7}".into()));
    check("lines", &order("a\n\n  tip: b\nUsage: c".into()));
    check("an empty line first", &order("\n\nx".into()));
    check("right to left", &order("\u{202e}evil".into()));
    check(
        "a hundred thousand letters",
        &order("x".repeat(100_000).into()),
    );
    let many = (0..2_000).map(|_| OsString::from("--set=a=b"));
    check(
        "many options",
        &run([OsString::from("order"), "postgres".into()]
            .into_iter()
            .chain(many)),
    );
}

#[test]
fn control_characters_of_an_argument_do_not_reach_the_terminal() {
    let ran = run(["order".into(), OsString::from("\u{1b}[2J\u{7}\u{9b}31m")]);
    let bare = |c: char| c.is_control() && c != '\n';
    assert!(!ran.stderr.contains(bare), "{:?}", ran.stderr);
}
