//! What goes wrong: cause, next step, exit code, and nothing done that was not confirmed.

use std::io::Write;
use std::process::Stdio;

use mesh_api::reply::Reply;
use mesh_api::service::PlanReply;
use mesh_api::{ApiError, ErrorKind, Request};
use serde_json::Value;

use crate::node::{Answer, Node, Ran, meshctl};
use crate::words;

#[track_caller]
fn check(ran: &Ran, code: i32, stderr: &str) {
    assert_eq!(ran.stderr, stderr);
    assert_eq!((ran.code, ran.stdout.as_str()), (code, ""));
}

#[test]
fn every_kind_of_failure_has_its_exit_code_and_json() {
    for kind in ErrorKind::ALL.iter().copied() {
        let node = Node::playing(move |_| ApiError::new(kind, "it rains", "wait").into());
        check(
            &node.run("ps"),
            i32::from(kind.exit_code()),
            "error: it rains\nhint: wait\n",
        );
        let ran = node.run("ps --json");
        let document: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(document["schema"], "meshstead.error/1");
        assert_eq!(document["cause"], "it rains");
        assert_eq!(document["hint"], "wait");
        assert_eq!(document["exit_code"], i32::from(kind.exit_code()));
        assert_eq!(ran.code, i32::from(kind.exit_code()));
    }
    let figure = format!("{} kinds with exit code and JSON", ErrorKind::ALL.len());
    crate::screens_told("kinds", &figure);
}

#[test]
fn no_daemon_says_how_to_start_one() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().display();
    let mut command = meshctl("ps");
    command.env("MESHSTEAD_HOME", home.path());
    let expect = format!(
        "error: no daemon answers at {path}/meshnode.sock\n\
         hint: start it with: meshnode start --home {path}\n"
    );
    check(&Ran::of(command), 3, &expect);
}

#[test]
fn no_home_says_how_to_make_one() {
    let ran = Ran::of(meshctl("ps --home /nonexistent/home"));
    assert_eq!(ran.code, 3);
    assert!(
        ran.stderr
            .contains("meshnode init --home /nonexistent/home --org NAME")
    );
    assert!(
        ran.stderr
            .contains("meshnode join --home /nonexistent/home INVITE")
    );
}

#[test]
fn silent_node_is_a_timeout() {
    let node = Node::playing(|_| Answer::Silence);
    check(
        &node.run("order postgres --name crm-db --timeout 1s"),
        7,
        "error: no answer within 1 s\nhint: the order goes on: see `meshctl show crm-db`\n",
    );
}

#[test]
fn node_that_hangs_up_is_unreachable() {
    let ran = Node::playing(|_| Answer::Lines(vec![])).run("ps");
    assert_eq!(ran.code, 3);
    assert!(
        ran.stderr
            .starts_with("error: the daemon hung up before it answered")
    );
}

#[test]
fn node_that_speaks_otherwise_is_a_failure() {
    let ran = Node::playing(|_| Answer::Text("<html>\n")).run("ps");
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("hint: use the same version"));
    let ran = Node::playing(|_| words::status().into()).run("ps");
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr
            .starts_with("error: the node answered with meshstead.status/1")
    );
}

#[test]
fn refusal_while_ordering_starts_at_the_margin() {
    let node = Node::playing(|_| {
        let step = mesh_api::Event::Step {
            step: mesh_api::event::Stage::Planned,
            detail: String::new(),
            elapsed_ms: 1,
        };
        let error = ApiError::new(ErrorKind::CannotPlace, "no node is free", "ask for less");
        Answer::Lines(vec![
            mesh_api::line::Line::Event(step),
            mesh_api::line::Line::last(Err(error)),
        ])
    });
    check(
        &node.run("order postgres"),
        9,
        "  ✔ planned\nerror: no node is free\nhint: ask for less\n",
    );
}

#[test]
fn near_names_are_suggested() {
    let node = Node::playing(words::well);
    let expect = "error: there is no service \"crm-bd\"\n\
                  hint: did you mean \"crm-db\"? `meshctl ps` lists all\n";
    check(&node.run("show crm-bd"), 5, expect);
    check(&node.run("stop crm-bd"), 5, expect);
    check(&node.run("logs crm-bd"), 5, expect);
    check(
        &node.run("show something"),
        5,
        "error: there is no service \"something\"\nhint: `meshctl ps` lists the services\n",
    );
    check(
        &node.run("show crm-db --field ur"),
        5,
        "error: crm-db has no field \"ur\"\nhint: did you mean \"url\"?\n",
    );
    let ran = node.run("show crm-db --field colour");
    assert!(
        ran.stderr
            .contains("hint: it has: address, allowed, cost, dns_name,")
    );
}

#[test]
fn command_line_that_cannot_be_read_is_usage() {
    check(
        &Ran::of(meshctl("ordre")),
        2,
        "error: unrecognized subcommand 'ordre'\nhint: a similar subcommand exists: 'order'\n",
    );
    check(
        &Ran::of(meshctl("order")),
        2,
        "error: the following required arguments were not provided: <RECIPE>\n\
         hint: write: meshctl order <RECIPE>\n",
    );
    check(
        &Ran::of(meshctl("order postgres --cpu none")),
        2,
        "error: invalid value 'none' for '--cpu <CORES>': \
         write processor cores, for example 0.5, 2 or 500m\n\
         hint: see `meshctl order --help`\n",
    );
    check(
        &Ran::of(meshctl("order postgres --allow library")),
        2,
        "error: invalid value 'library' for '--allow <WHO>': \"library\" is nobody who can be let \
         in: write org:NAME, org:KEY or mesh\n\
         hint: see `meshctl order --help`\n",
    );
    let ran = Ran::of(meshctl("ordre --json"));
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &document["kind"]), (2, &Value::from("usage")));
}

#[test]
fn currencies_of_an_agreement_do_not_mix() {
    let node = Node::playing(words::well);
    let ran = node.run("org invite --sell postgres=1EUR/month --credit 1CHF");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.starts_with("error: postgres is priced in EUR"));
    assert_eq!(node.asked(), []);
}

#[test]
fn parameter_given_twice_is_usage() {
    let node = Node::playing(words::well);
    assert_eq!(node.run("order postgres -s a=1 -s a=2").code, 2);
    assert_eq!(node.run("order postgres --set-file a=/nonexistent").code, 2);
    assert_eq!(node.asked(), []);
}

fn destroyed(node: &Node) -> bool {
    node.asked()
        .iter()
        .any(|request| matches!(request, Request::SetState { .. }))
}

#[test]
fn nothing_is_destroyed_where_nobody_can_be_asked() {
    let node = Node::playing(words::well);
    check(
        &node.run("destroy crm-db"),
        2,
        "error: crm-db (postgres on library-1, ready) and all its data will be gone, \
         and nobody can be asked here\n\
         hint: to do it without a question: meshctl destroy crm-db --yes\n",
    );
    assert!(!destroyed(&node));
    let mut command = node.command("destroy crm-db");
    command.env("MESHSTEAD_YES", "1");
    assert_eq!(Ran::of(command).code, 0);
    assert!(destroyed(&node));
}

/// Types a line on a terminal that `destroy crm-db` reads; returns the exit code.
fn type_on_terminal(node: &Node, typed: &str) -> i32 {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut command = node.command("destroy crm-db");
    command.stdin(Stdio::from(terminal.slave));
    let mut master = std::fs::File::from(terminal.master);
    master.write_all(typed.as_bytes()).unwrap();
    Ran::of(command).code
}

#[test]
fn name_typed_on_a_terminal_destroys_and_another_does_not() {
    let node = Node::playing(words::well);
    assert_eq!(type_on_terminal(&node, "crm\n"), 1);
    assert!(!destroyed(&node));
    assert_eq!(type_on_terminal(&node, "crm-db\n"), 0);
    assert!(destroyed(&node));
}

#[test]
fn verdict_that_does_not_hold_is_a_failure_after_it_is_shown() {
    let node = Node::playing(|request| match request {
        Request::InvoiceVerify { .. } => words::verdict("library-2026-11", false).into(),
        _ => words::well(request),
    });
    let ran = node.run("invoice verify library-2026-11");
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains("  ✗  total  "));
    assert_eq!(
        ran.stderr,
        "error: library-2026-11 does not hold: 1 of 2 checks\n\
         hint: compare it with the usage: meshctl invoice show library-2026-11\n"
    );
    let ran = node.run("invoice verify --json");
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &document["holds"]), (1, &Value::from(false)));
}

#[test]
fn invoice_must_be_named_if_there_are_several() {
    let node = Node::playing(|_| {
        Reply::Invoices {
            invoices: vec![words::invoice_row(), words::invoice_row()],
        }
        .into()
    });
    check(
        &node.run("invoice show"),
        2,
        "error: there are 2 invoices\n\
         hint: name one, for example: meshctl invoice show library-2026-11\n",
    );
    let node = Node::playing(|_| Reply::Invoices { invoices: vec![] }.into());
    assert_eq!(node.run("invoice show").code, 5);
}

#[test]
fn plan_tells_by_its_exit_code_on_request() {
    let ran = Node::playing(words::well).run("plan postgres --detailed-exitcode");
    assert_eq!(ran.code, 10);
    let node = Node::playing(|_| {
        Reply::Plan(Box::new(PlanReply {
            token: "p".into(),
            recipe: "postgres".into(),
            name: "a".into(),
            candidates: vec![],
            refused: vec![],
        }))
        .into()
    });
    check(
        &node.run("plan postgres"),
        9,
        "error: no node can take postgres\n\
         hint: ask for less, or see who sells what: meshctl offer ls\n",
    );
}

#[test]
fn status_tells_by_its_exit_code_on_request() {
    let node = Node::playing(words::well);
    assert_eq!(node.run("status").code, 0);
    let ran = node.run("status --check");
    assert_eq!(ran.code, 8);
    assert_eq!(
        ran.stderr,
        "error: 1 of 2 checks do not pass\nhint: move it offline\n"
    );
}

#[test]
fn empty_lists_say_what_to_do() {
    let node = Node::playing(|_| {
        Reply::Services {
            ordered: vec![],
            held: vec![],
        }
        .into()
    });
    check(
        &node.run("ps"),
        0,
        "no services yet: `meshctl recipe ls` lists what can be ordered\n",
    );
}

#[test]
fn nobody_is_revoked_where_nobody_can_be_asked() {
    let node = Node::playing(words::well);
    let revoked = |node: &Node| {
        let asked = node.asked();
        asked
            .iter()
            .any(|request| matches!(request, Request::MemberRevoke { .. }))
    };
    let ran = node.run("member revoke bakery-2");
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("will never be admitted again"),
        "{}",
        ran.stderr
    );
    assert!(!revoked(&node));
    let ran = node.run("member revoke bakery-2 --yes");
    assert!(ran.stdout.starts_with("revoked bakery-2"), "{}", ran.stderr);
    assert!(revoked(&node));
}
