//! The rules for one file, as data: banned names, sizes, openings.
//!
//! Leaves scanning to [`super::source`] and the graph of crates to [`super::arrows`].

use std::path::Path;

use super::Finding;
use super::source::{Source, has_word};

/// Folders of the pure crates.
pub const PURE: &[&str] = &[
    "base",
    "overlay/routing",
    "ledger-crdt",
    "federation",
    "compute/core",
    "backup/core",
    "peer/core",
    "peer/api",
    "fuzz",
];

/// The one file that may wait in tests: it polls a condition until a deadline.
const WAITING_ROOM: &str = "tests/src/until.rs";

const LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;

/// Where a ban holds.
#[derive(Debug, Clone, Copy)]
enum Where {
    /// In pure crates, outside their tests.
    Pure,
    /// In every file.
    Everywhere,
    /// In test code.
    Tests,
}

/// A name that must not be written.
struct Ban {
    words: &'static [&'static str],
    place: Where,
    why: &'static str,
    mend: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        words: &["Instant", "SystemTime", "std::time::UNIX_EPOCH"],
        place: Where::Pure,
        why: "a pure crate has no clock, so that simulated years pass in minutes",
        mend: "take `now: mesh_base::time::Now` as an argument",
    },
    Ban {
        words: &[
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "UnixStream",
            "UnixListener",
        ],
        place: Where::Pure,
        why: "a pure crate has no socket",
        mend: "return an output and let a shell send it",
    },
    Ban {
        words: &[
            "std::fs",
            "std::io::stdin",
            "std::io::stdout",
            "std::process",
            "std::os",
        ],
        place: Where::Pure,
        why: "a pure crate touches no file and no process",
        mend: "return an output and let a shell do it",
    },
    Ban {
        words: &[
            "std::thread",
            "thread::spawn",
            "tokio",
            "async_std",
            "libp2p",
        ],
        place: Where::Pure,
        why: "a pure crate has no thread and no task: it is driven by its caller",
        mend: "make it a machine with `handle_*` and `poll_*`",
    },
    Ban {
        words: &["std::env", "env::var"],
        place: Where::Pure,
        why: "a pure crate reads no environment",
        mend: "take the value as an argument",
    },
    Ban {
        words: &["HashMap", "HashSet", "RandomState"],
        place: Where::Pure,
        why: "their order differs from run to run, and so would our bytes",
        mend: "use BTreeMap or BTreeSet",
    },
    Ban {
        words: &["println!", "print!", "eprintln!", "eprint!", "dbg!"],
        place: Where::Pure,
        why: "a pure crate does not speak",
        mend: "return an event and let a shell print it",
    },
    Ban {
        words: &[
            "getrandom",
            "rand::rng",
            "thread_rng",
            "OsRng",
            "SysRng",
            "from_os_rng",
        ],
        place: Where::Pure,
        why: "hidden randomness cannot be run again from a seed",
        mend: "take the random bytes or the generator as an argument",
    },
    Ban {
        words: &[
            "cfg(sim)",
            "cfg(not(sim))",
            "cfg(any(sim",
            "cfg(all(sim",
            "cfg!(sim)",
            "cfg_attr(sim",
        ],
        place: Where::Everywhere,
        why: "the simulator must run the code that users run",
        mend: "put the difference into a shell",
    },
    Ban {
        words: &["debug_assertions"],
        place: Where::Pure,
        why: "the simulator's profile has them on, the users' has not",
        mend: "assert in both, or in neither",
    },
    Ban {
        words: &["#[ignore", "#![ignore"],
        place: Where::Everywhere,
        why: "a test that does not run proves nothing",
        mend: "make it run, or take it out",
    },
    Ban {
        words: &["todo!", "unimplemented!"],
        place: Where::Everywhere,
        why: "a stub that is called done is a defect",
        mend: "finish it",
    },
    Ban {
        words: &[
            "thread::sleep",
            "time::sleep",
            "sleep_until",
            "time::sleep_until",
        ],
        place: Where::Tests,
        why: "a test that sleeps is slow, and fails on a slower day",
        mend: "wait for the condition with a deadline",
    },
];

/// Parts of `std` that may not come in through a braced import of a pure crate.
const STD_PARTS: &[&str] = &["fs", "thread", "env", "process", "os"];

/// Judges any file of text.
pub fn check_text(file: &Path, text: &str, root: &Path) -> Vec<Finding> {
    let here = root.to_string_lossy();
    let mut findings = Vec::new();
    // A checkout at a folder with a short, common name would find itself everywhere.
    if 1 < root.components().count().saturating_sub(1) {
        for line in lines_with(text, |line| has_word(line, &here)) {
            findings.push(finding(
                file,
                line,
                "the place of this checkout is written down".to_owned(),
                "it is another one on every machine",
                "use a path relative to the file or to the top",
            ));
        }
    }
    findings
}

/// Judges one file of Rust.
pub fn check_source(file: &Path, text: &str) -> Vec<Finding> {
    let source = Source::scan(text);
    let mut findings = check_opening(file, text);
    findings.extend(check_sizes(file, text, &source));
    findings.extend(check_bans(file, &source));
    findings.extend(check_comments(file, &source));
    findings
}

fn finding(
    file: &Path,
    line: usize,
    what: String,
    why: &'static str,
    mend: &'static str,
) -> Finding {
    Finding {
        file: file.to_path_buf(),
        line,
        what,
        why,
        mend,
    }
}

/// Returns the numbers of the lines, counted from one, for which the predicate holds.
fn lines_with(text: &str, holds: impl Fn(&str) -> bool) -> Vec<usize> {
    (1..)
        .zip(text.lines())
        .filter(|(_, line)| holds(line))
        .map(|(number, _)| number)
        .collect()
}

fn check_opening(file: &Path, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !text.starts_with("//!") {
        findings.push(finding(
            file,
            1,
            "the file does not open with `//!`".to_owned(),
            "a reader needs to know first what it decides and what it leaves to others",
            "open it with a module document",
        ));
    }
    let is_front = file.ends_with("src/lib.rs") && is_pure(file);
    if is_front && !text.contains("#![forbid(unsafe_code)]") {
        findings.push(finding(
            file,
            1,
            "a pure crate without `#![forbid(unsafe_code)]`".to_owned(),
            "memory safety of pure code is proven by the compiler",
            "add the attribute below the module document",
        ));
    }
    findings
}

fn check_sizes(file: &Path, text: &str, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if LINES_MAX < lines {
        findings.push(finding(
            file,
            lines,
            format!("{lines} lines, {LINES_MAX} are allowed"),
            "one file holds one idea",
            "split it by idea",
        ));
    }
    for line in lines_with(text, |line| COLUMNS_MAX < line.chars().count()) {
        findings.push(finding(
            file,
            line,
            format!("the line is longer than {COLUMNS_MAX} columns"),
            "two files side by side must fit a screen",
            "break it",
        ));
    }
    for function in &source.functions {
        let is_test = is_test_file(file) || source.is_test(function.start);
        if FUNCTION_LINES_MAX < function.len && !is_test {
            findings.push(finding(
                file,
                function.start,
                format!("`{}` has {} lines", function.name, function.len),
                "a function of more than 70 lines does more than one thing",
                "branch in the parent, move the work into leaves",
            ));
        }
    }
    findings
}

fn check_bans(file: &Path, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_pure = is_pure(file);
    let is_waiting_room = file == Path::new(WAITING_ROOM);
    for (number, line) in (1..).zip(&source.code) {
        let is_test = is_test_file(file) || source.is_test(number);
        for ban in BANS {
            let holds = match ban.place {
                Where::Everywhere => true,
                Where::Pure => is_pure && !is_test,
                Where::Tests => is_test && !is_waiting_room,
            };
            let word = ban.words.iter().find(|word| has_word(line, word));
            if let (true, Some(word)) = (holds, word) {
                findings.push(finding(
                    file,
                    number,
                    format!("`{word}`"),
                    ban.why,
                    ban.mend,
                ));
            }
        }
        if is_pure && !is_test {
            findings.extend(check_std_import(file, number, line));
        }
    }
    findings
}

fn check_std_import(file: &Path, number: usize, line: &str) -> Option<Finding> {
    let (_, parts) = line.split_once("use std::{")?;
    let part = parts.split(',').find_map(|part| {
        let name = part.split([':', '}', ';']).next()?.trim();
        STD_PARTS.iter().find(|banned| **banned == name)
    })?;
    Some(finding(
        file,
        number,
        format!("`std::{part}`"),
        "a pure crate decides and does not touch",
        "return an output and let a shell do it",
    ))
}

fn check_comments(file: &Path, source: &Source) -> Vec<Finding> {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    (1..)
        .zip(&source.comments)
        .filter_map(|(number, line)| {
            let mark = marks.iter().find(|mark| has_word(line, mark))?;
            Some(finding(
                file,
                number,
                format!("`{mark}` in a comment"),
                "what is not done belongs into an issue",
                "do it, or take the mark out",
            ))
        })
        .collect()
}

fn is_pure(file: &Path) -> bool {
    PURE.iter().any(|folder| file.starts_with(folder))
}

/// Tells whether all of a file is test code: the black-box tests, and test modules in own files.
fn is_test_file(file: &Path) -> bool {
    let is_named_so = |part: std::path::Component<'_>| {
        let name = part.as_os_str();
        name == "tests" || name == "tests.rs"
    };
    file.components().any(is_named_so)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks what is found in a file, by the words that open each finding.
    #[track_caller]
    fn check(file: &str, text: &str, expect: &[&str]) {
        let text = format!("//! A room.\n{text}");
        let found = check_source(Path::new(file), &text);
        let found: Vec<_> = found.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn clock_is_banned_in_pure_crates_only() {
        check(
            "federation/src/a.rs",
            "use std::time::Instant;\n",
            &["`Instant`"],
        );
        check("peer/daemon/src/a.rs", "use std::time::Instant;\n", &[]);
    }

    #[test]
    fn pure_crates_may_touch_in_their_tests() {
        check(
            "base/src/a.rs",
            "#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n",
            &[],
        );
        check("base/src/tests.rs", "use std::collections::HashMap;\n", &[]);
    }

    #[test]
    fn braced_import_does_not_hide_a_file() {
        check("base/src/a.rs", "use std::{fmt, fs};\n", &["`std::fs`"]);
        check(
            "base/src/a.rs",
            "use std::{collections::BTreeMap, fmt};\n",
            &[],
        );
    }

    #[test]
    fn name_in_a_comment_or_a_string_is_no_use_of_it() {
        check(
            "base/src/a.rs",
            "// HashMap\nconst A: &str = \"HashMap\";\n",
            &[],
        );
    }

    #[test]
    fn sleep_is_banned_in_tests_and_allowed_in_shells() {
        let nap = "fn a() {\n    std::thread::sleep(b);\n}\n";
        check("tests/tests/it/a.rs", nap, &["`thread::sleep`"]);
        check("peer/daemon/src/a.rs", nap, &[]);
        check("tests/src/until.rs", nap, &[]);
        let in_test = format!("#[cfg(test)]\nmod tests {{\n{nap}}}\n");
        check("peer/daemon/src/a.rs", &in_test, &["`thread::sleep`"]);
    }

    #[test]
    fn ignored_tests_and_stubs_are_found_everywhere() {
        check("cli/src/a.rs", "#[ignore]\nfn a() {}\n", &["`#[ignore`"]);
        check("cli/src/a.rs", "fn a() { todo!() }\n", &["`todo!`"]);
        check("cli/src/a.rs", "#[cfg(sim)]\nfn a() {}\n", &["`cfg(sim)`"]);
        check("base/src/a.rs", "if cfg!(sim) {}\n", &["`cfg!(sim)`"]);
        check(
            "base/src/a.rs",
            "#[cfg(debug_assertions)]\nfn a() {}\n",
            &["`debug_assertions`"],
        );
    }

    #[test]
    fn long_function_is_found_outside_tests() {
        let long = format!("fn a() {{\n{}}}\n", "    b();\n".repeat(69));
        check("cli/src/a.rs", &long, &["`a` has 71 lines"]);
        check("tests/src/a.rs", &long, &[]);
        let short = format!("fn a() {{\n{}}}\n", "    b();\n".repeat(68));
        check("cli/src/a.rs", &short, &[]);
    }

    #[test]
    fn long_line_and_long_file_are_found() {
        let line = format!("// {}\n", "a".repeat(98));
        check(
            "cli/src/a.rs",
            &line,
            &["the line is longer than 100 columns"],
        );
        let file = "\n".repeat(800);
        check("cli/src/a.rs", &file, &["801 lines, 800 are allowed"]);
    }

    #[test]
    fn file_without_a_document_is_found() {
        let found = check_source(Path::new("cli/src/a.rs"), "fn a() {}\n");
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn pure_crate_must_forbid_unsafe_code() {
        check(
            "base/src/lib.rs",
            "",
            &["a pure crate without `#![forbid(unsafe_code)]`"],
        );
        check("base/src/lib.rs", "#![forbid(unsafe_code)]\n", &[]);
        check("overlay/dataplane/src/lib.rs", "", &[]);
    }

    #[test]
    fn unfinished_mark_in_a_comment_is_found() {
        let text = concat!("// TO", "DO: later\n");
        check("cli/src/a.rs", text, &[concat!("`TO", "DO` in a comment")]);
    }

    #[test]
    fn place_of_the_checkout_is_found_in_any_text() {
        let root = Path::new("/somewhere/checkout");
        let found = check_text(Path::new("a.md"), "see\n/somewhere/checkout/a\n", root);
        assert_eq!(
            found.iter().map(|finding| finding.line).collect::<Vec<_>>(),
            [2]
        );
        assert!(check_text(Path::new("a.md"), "see /elsewhere", root).is_empty());
    }

    #[test]
    fn finding_reads_as_one_line() {
        let finding = finding(Path::new("a.rs"), 3, "x".to_owned(), "why", "mend");
        assert_eq!(finding.to_string(), "a.rs:3: x; why; mend");
    }
}
