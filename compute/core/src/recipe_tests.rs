//! Facts about recipes: what is refused, on which line, and what the shipped ones publish.

use super::*;
use crate::template::TemplateError;

const SMALL: &str = r#"name = "echo"
title = "Echo"
version = "1"
description = "Says it again."
runbook = "Nothing to do."
data = "/data"
run = ["/usr/bin/echo", "{word}"]

[source]
kind = "debian"
suite = "bookworm"
packages = ["coreutils"]

[user]
uid = 100
gid = 100

[stop]
signal = "SIGTERM"
grace_ms = 1000

[limits]
memory_mib = 64
cpu_millis = 500
pids = 16

[ports]
main = 7

[parameters.word]
title = "Word"
kind = "string"
default = "{name_stem}"

[publishes]
url = "echo://{host}:{port}/{word}"
"#;

#[track_caller]
fn check(from: &str, to: &str, expect: &str) {
    assert!(
        SMALL.contains(from),
        "the test replaces something that is there"
    );
    let error = Recipe::parse(&SMALL.replacen(from, to, 1)).unwrap_err();
    assert_eq!(error.to_string(), expect);
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn unknown_key_is_refused_with_its_line() {
    let error = Recipe::parse(&SMALL.replacen("[ports]", "[port]", 1)).unwrap_err();
    let RecipeError::Syntax { line, message } = error else {
        panic!("{error}")
    };
    assert_eq!(line, 27);
    assert!(message.contains("unknown field `port`"), "{message}");
}

#[test]
fn unknown_inner_key_is_refused_with_its_line() {
    let error = Recipe::parse(&SMALL.replacen("pids = 16", "pids = 16\npid = 1", 1)).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("line 26: unknown field `pid`"),
        "{error}"
    );
}

#[test]
fn hole_without_a_value_is_refused_with_the_nearest_name() {
    check(
        "{word}\"]",
        "{wrd}\"]",
        "line 7: \"wrd\" has no value here; did you mean \"word\"?",
    );
    check(
        "://{host}",
        "://{address}",
        "line 36: \"address\" has no value here",
    );
}

#[test]
fn open_brace_is_refused_with_its_line() {
    let source = TemplateError::Brace;
    check("{word}\"]", "{word\"]", &format!("line 7: {source}"));
}

#[test]
fn values_outside_their_range_are_refused() {
    check(
        "uid = 100",
        "uid = 0",
        "line 15: uid must be from 1 to 65533",
    );
    check("pids = 16", "pids = 0", "line 25: pids must be more than 0");
    check(
        "main = 7",
        "main = 0",
        "line 28: a port must be from 1 to 65535",
    );
    check(
        "\"/data\"",
        "\"/a/../b\"",
        "line 6: data must be an absolute path without . and .. parts",
    );
    check(
        "\"/usr/bin/echo\"",
        "\"echo\"",
        "line 7: the program must be an absolute path",
    );
}

#[test]
fn package_cannot_look_like_an_option() {
    check(
        "\"coreutils\"",
        "\"-oAPT::x\"",
        "line 12: a package must be lower-case letters, digits, plus, minus and dots",
    );
    check(
        "\"coreutils\"",
        "\"core*\"",
        "line 12: a package must be one name, without *",
    );
}

#[test]
fn parameter_cannot_hide_a_supplied_name() {
    let error = Recipe::parse(&SMALL.replace("parameters.word", "parameters.host")).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("line 30: a parameter's name must be"),
        "{error}"
    );
}

#[test]
fn long_text_is_refused_before_it_is_read() {
    let text = "#".repeat(RECIPE_LEN_MAX + 1);
    let expect = RecipeError::Long {
        len: text.len(),
        max: RECIPE_LEN_MAX,
    };
    assert_eq!(Recipe::parse(&text), Err(expect));
}

#[test]
fn line_endings_do_not_change_the_digest() {
    let unix = Recipe::parse(SMALL).unwrap();
    let dos = Recipe::parse(&SMALL.replace('\n', "\r\n")).unwrap();
    assert_eq!(unix.digest(), dos.digest());
    assert_ne!(
        unix.digest(),
        Recipe::parse(&format!("{SMALL}#")).unwrap().digest()
    );
}

#[test]
fn unknown_parameter_names_the_nearest() {
    let recipe = Recipe::parse(SMALL).unwrap();
    let name = "crm".parse().unwrap();
    let error = recipe
        .check_parameters(&name, &texts(&[("wort", "x")]))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"echo\" has no parameter \"wort\"; did you mean \"word\"?"
    );
}

fn postgres() -> Recipe {
    Recipe::parse(include_str!("../../../catalog/postgres.toml")).unwrap()
}

#[test]
fn text_of_hardly_anything_but_marks_is_refused_before_it_is_read() {
    let tables = format!("a = [{}]", "{b=1},".repeat(200));
    let expect = RecipeError::Dense {
        len: tables.len(),
        pieces: 1207,
    };
    assert_eq!(Recipe::parse(&tables), Err(expect));
}

#[test]
fn recipe_may_have_many_parameters() {
    let mut text = SMALL.to_owned();
    for number in 0..40 {
        text += &format!("\n[parameters.option_{number}]\ntitle = \"Option {number}\"\n");
        text += "kind = \"integer\"\nmin = 1\nmax = 64\ndefault = \"8\"\n";
    }
    assert!(Recipe::parse(&text).is_ok());
}

#[test]
fn postgres_without_parameters_takes_its_names_from_the_service() {
    let recipe = postgres();
    let name = "crm-db".parse().unwrap();
    let values = recipe
        .complete_parameters(&name, &BTreeMap::new(), |bytes| bytes.fill(7))
        .unwrap();
    let password = "H".repeat(24);
    assert_eq!(
        values,
        texts(&[
            ("database", "crm"),
            ("password", &password),
            ("user", "crm")
        ])
    );
    let published = recipe
        .publish("crm-db.bakery.mesh.internal", &values)
        .unwrap();
    assert_eq!(
        published["url"],
        format!("postgresql://crm:{password}@crm-db.bakery.mesh.internal:5432/crm")
    );
}

#[test]
fn postgres_keeps_its_own_roles_to_itself() {
    let name = "crm-db".parse().unwrap();
    for user in ["mesh_admin", "pg_monitor"] {
        let error = postgres()
            .check_parameters(&name, &texts(&[("user", user)]))
            .unwrap_err();
        assert!(matches!(error, ParameterError::Kept { .. }), "{error}");
    }
}

#[test]
fn postgres_needs_its_password_only_once() {
    assert!(!postgres().lasting_names().contains("password"));
}
