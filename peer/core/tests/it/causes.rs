//! What stands as a cause in the sources: the list against which the screens are held.
//!
//! Texts are found where a kind of failure is followed by one, where a variable named `cause` gets
//! one, and where a closure that takes a cause is called with one. Where neither stands, the cause
//! is another type's own sentence: such places and such types are listed by hand, and a new place
//! fails the test. Knows nothing about what was said.

use std::fs;

use mesh_api::ApiError;

/// Places whose cause is said by another type, and how often each stands in its file.
pub const ELSEWHERE: [(&str, &str, usize); 4] = [
    // What is wrong with an offer.
    ("admission.rs", "error.to_string()", 3),
    // What is wrong with an invite.
    ("admission.rs", "e.to_string()", 1),
    // What the node that has the service says about its log.
    ("calls.rs", "reason", 1),
    // A closure's own argument: its calls are looked at.
    ("calls.rs", "cause", 1),
];

/// Types whose sentences become causes.
pub const TYPES: [(&str, &str); 7] = [
    ("../../ledger-crdt/src/agreement.rs", "AgreementError"),
    ("../../federation/src/invite.rs", "InviteTextError"),
    ("../../federation/src/invite.rs", "InviteError"),
    ("../../federation/src/agreement.rs", "OfferError"),
    ("../../federation/src/agreement.rs", "NoDeal"),
    ("../../federation/src/planner.rs", "RefusedBecause"),
    ("../../compute/core/src/parameter.rs", "ParameterError"),
];

/// Their sentences that no request to one node brings about, and the tests that do.
pub const CAUSED_BELOW: [(&str, &str, &str); 5] = [
    // The command line reads what is sold; requests carry a price.
    (
        "\"{0}\" does not say what is sold: write for example postgres=0.12EUR/month",
        "../../federation/src/agreement.rs",
        "sale_is_read",
    ),
    (
        "the price of {recipe} cannot be read",
        "../../federation/src/agreement.rs",
        "sale_is_read",
    ),
    // After five years.
    (
        "the agreement with its organisation ended at {0}",
        "../../federation/src/agreement.rs",
        "agreement_in_force_sets_price_and_credit",
    ),
    // No request asks for it yet.
    (
        "it is not known to be within {} ms",
        "../../federation/src/planner.rs",
        "refusals_say_why",
    ),
    // A shipped recipe that names what there is not is refused when it is read.
    (
        "parameter \"{name}\" has a default that cannot be filled",
        "../../compute/core/src/parameter.rs",
        "default_that_names_what_there_is_not_cannot_be_filled",
    ),
];

/// Returns the sources of the core, without their tests.
fn sources() -> Vec<(String, String)> {
    let rooms = ["src", "src/proxy"].map(|room| fs::read_dir(room).unwrap());
    let entries = rooms.into_iter().flatten().map(|entry| entry.unwrap());
    let (folders, files): (Vec<_>, Vec<_>) =
        entries.partition(|entry| entry.file_type().unwrap().is_dir());
    assert_eq!(folders.len(), 1, "a room that is not looked at");
    files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(file.path()).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            (file.file_name().into_string().unwrap(), text.to_owned())
        })
        .collect()
}

/// What stands at a place where a cause is expected.
enum Place {
    /// A text, with its places in braces.
    Text(String),
    /// Something else.
    Else(String),
}

fn place(after: &str) -> Place {
    let after = after.trim_start();
    let after = after.strip_prefix("format!(").unwrap_or(after).trim_start();
    match after.strip_prefix('"') {
        Some(literal) => Place::Text(until_quote(literal)),
        None => {
            let end = after.find([',', '\n', ';']).unwrap_or(after.len());
            let word = after[..end].trim_end().trim_end_matches('?');
            // The call's own bracket may end on the same line.
            let open = word.matches('(').count();
            let extra = word.matches(')').count().saturating_sub(open);
            Place::Else(word[..word.len() - extra].to_owned())
        }
    }
}

/// Returns the text up to the quote that ends it.
fn until_quote(literal: &str) -> String {
    let hidden = literal.replace("\\\"", "\u{1}");
    let text = hidden.split('"').next().unwrap_or_default();
    let lines: Vec<&str> = text.split("\\\n").map(str::trim_start).collect();
    lines.concat().replace('\u{1}', "\"")
}

/// Returns every place of a source at which a cause is expected.
fn places(text: &str) -> Vec<Place> {
    let mut places = Vec::new();
    for after in text.split("ErrorKind::").skip(1) {
        let after = after.trim_start_matches(char::is_alphanumeric);
        if let Some(after) = after.strip_prefix(',') {
            places.push(place(after));
        }
    }
    for after in text.split("let cause = ").skip(1) {
        places.push(place(after));
    }
    let closures = text.split(" = |cause").filter_map(|before| {
        let name = before.rsplit(char::is_whitespace).next()?;
        before.ends_with(&format!("let {name}")).then_some(name)
    });
    let mut names: Vec<&str> = closures.collect();
    names.dedup();
    for name in names {
        for call in [format!(" {name}("), format!("({name}(")] {
            places.extend(text.split(call.as_str()).skip(1).map(place));
        }
    }
    places
}

/// Returns the texts that stand as causes in the core's sources.
pub fn texts() -> Vec<String> {
    let places = sources().into_iter().flat_map(|(_, text)| places(&text));
    places
        .filter_map(|place| match place {
            Place::Text(text) => Some(text),
            Place::Else(_) => None,
        })
        .collect()
}

/// Returns the places without a text, with their files.
pub fn elsewhere() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (file, text) in sources() {
        for place in places(&text) {
            // A variable of that name is found where it gets its text.
            if let Place::Else(word) = place
                && (word != "cause" || !text.contains("let cause = "))
            {
                found.push((file.clone(), word));
            }
        }
    }
    found
}

/// Returns the sentences of a type's variants.
pub fn sentences(path: &str, name: &str) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let (_, body) = text.split_once(&format!("pub enum {name} {{")).unwrap();
    let (body, _) = body.split_once("\n}\n").unwrap();
    let sentences = body.split("#[error(\"").skip(1).map(until_quote);
    let sentences: Vec<String> = sentences.collect();
    assert!(1 < sentences.len(), "{name} says nothing");
    sentences
}

/// Whether a cause was said that has all pieces of a text around its places in braces.
pub fn was_said(text: &str, said: &[ApiError]) -> bool {
    let pieces: Vec<&str> = text.split(['{', '}']).step_by(2).collect();
    let has = |cause: &str| {
        let mut rest = cause;
        pieces.iter().all(|piece| match rest.split_once(piece) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    };
    said.iter().any(|error| has(&error.cause))
}

#[test]
fn causes_are_found_wherever_they_stand() {
    let source = r#"
        let usage = |cause: String, hint: &str| ApiError::new(ErrorKind::Usage, cause, hint);
        return Err(usage("in a call".to_owned(), "x"));
        let broken = ApiError::new(
            ErrorKind::Failure,
            format!("in a \"form\" of {name}: {error}"),
            "x");
        let cause = "in a variable";
        Err(usage(error.to_string(), "x"))
    "#;
    let mut texts = Vec::new();
    let mut others = Vec::new();
    for place in places(source) {
        match place {
            Place::Text(text) => texts.push(text),
            Place::Else(word) => others.push(word),
        }
    }
    texts.sort();
    let expect = [
        "in a \"form\" of {name}: {error}",
        "in a call",
        "in a variable",
    ];
    assert_eq!(texts, expect);
    assert_eq!(others, ["cause", "error.to_string()"]);
}
