//! Picks, starts, bounds and reports tests.
//!
//! Each test is a process on its own ground ([`crate::ground`]) with a deadline. Tests that measure
//! run alone, the others two at a time. The closing line is the one that `cargo test` prints, so
//! that whoever counts tests counts these too.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::figures::Figure;
use crate::ground::{Ground, Network, Stage, init};
use crate::probe;
use crate::until::until;

/// How many tests run at once: what two cores carry without missing deadlines.
const AT_ONCE: usize = 2;

/// How much of a failed test's log is shown, from its end.
const LOG_LINES_SHOWN: usize = 80;

/// How a line begins that is shown even if the test passes: what was measured and is no bar.
const NOTE: &str = "measured: ";

/// The step that fetches software before the tests; it has a name as the tests have.
const WARM_UP: &str = "software";

/// One test.
#[derive(Debug)]
pub struct Test {
    /// A sentence of fact.
    pub name: &'static str,
    /// Where it stands.
    pub ground: Ground,
    /// When it has failed.
    pub deadline: Duration,
    /// Whether it measures, and wants the machine for itself.
    pub alone: bool,
    /// The bar that is reached when all tests that name it pass.
    pub bar: Option<&'static str>,
    /// What it does.
    pub run: fn(&Place) -> anyhow::Result<()>,
}

/// What a test is given.
#[derive(Debug)]
pub struct Place {
    /// An empty folder of its own.
    pub folder: PathBuf,
    /// The folder of the programs.
    pub programs: PathBuf,
}

/// What became of a test.
#[derive(Debug)]
struct Verdict {
    name: &'static str,
    bar: Option<&'static str>,
    passed: bool,
    took: Duration,
    said: String,
}

/// Is the `main` of the test binary. `warm_up` fetches the software that the tests use.
pub fn main(tests: &[Test], warm_up: fn(&Place) -> anyhow::Result<()>) -> ExitCode {
    let words: Vec<OsString> = env::args_os().skip(1).collect();
    let outcome = match words.first().and_then(|word| word.to_str()) {
        Some("--init") => init(false, words.get(1..).unwrap_or_default()).map(|code| code == 0),
        Some("--init-apart") => {
            init(true, words.get(1..).unwrap_or_default()).map(|code| code == 0)
        }
        Some("--listen") => probe::listen(&rest(&words)).map(|()| true),
        Some("--probe") => {
            probe::probe(&rest(&words));
            Ok(true)
        }
        Some("--inside") => inside(tests, warm_up, words.get(1)),
        _ => outside(tests, &words),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the words behind the first.
fn rest(words: &[OsString]) -> Vec<String> {
    let rest = words.iter().skip(1);
    rest.map(|word| word.to_string_lossy().into_owned())
        .collect()
}

/// Runs one test, in its own process.
fn inside(
    tests: &[Test],
    warm_up: fn(&Place) -> anyhow::Result<()>,
    name: Option<&OsString>,
) -> anyhow::Result<bool> {
    let name = name.and_then(|name| name.to_str()).context("which test?")?;
    let (name, place) = name.split_once('@').context("where?")?;
    let stage = env::var_os("MESHSTEAD_TEST_STAGE").context("MESHSTEAD_TEST_STAGE is not set")?;
    let stage = Stage {
        folder: stage.into(),
    };
    let place = Place {
        folder: stage.folder.join(place),
        programs: stage.programs(),
    };
    let run = match tests.iter().find(|test| test.name == name) {
        Some(test) => test.run,
        None => warm_up,
    };
    let outcome = run(&place);
    if let Err(error) = &outcome {
        println!("error: {error:#}");
        show_logs(&place.folder);
    }
    Ok(outcome.is_ok())
}

/// Shows the end of every log below a folder.
fn show_logs(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        if path.is_dir() && !path.is_symlink() {
            show_logs(&path);
        } else if let (true, Ok(text)) = (is_log, fs::read(&path)) {
            let text = String::from_utf8_lossy(&text);
            let skipped = text.lines().count().saturating_sub(LOG_LINES_SHOWN);
            println!("── {}, {skipped} lines above", path.display());
            text.lines()
                .skip(skipped)
                .for_each(|line| println!("{line}"));
        }
    }
}

/// Runs the wanted tests and reports.
fn outside(tests: &[Test], words: &[OsString]) -> anyhow::Result<bool> {
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    let filters: Vec<&&str> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let is_exact = words.contains(&"--exact");
    let is_wanted = |test: &&Test| {
        let fits = |filter: &str| test.name == filter || !is_exact && test.name.contains(filter);
        filters.is_empty() || filters.iter().any(|filter| fits(filter))
    };
    let wanted: Vec<&Test> = tests.iter().filter(is_wanted).collect();
    if words.contains(&"--list") {
        wanted
            .iter()
            .for_each(|test| println!("{}: test", test.name));
        return Ok(true);
    }
    println!("\nrunning {} tests", wanted.len());
    let start = Instant::now();
    let folder = tempfile::Builder::new()
        .prefix("mesh-")
        .tempdir()
        .context("no folder")?;
    let stage = set_up(folder.path())?;
    let mut verdicts = fetch_software(&wanted, &stage)?;
    if verdicts.is_empty() {
        verdicts = run_all(&wanted, &stage);
    }
    report(&verdicts, tests, wanted.len(), start)
}

/// The programs that the tests use, below the folder of built programs, and how each is built. Two
/// misbehave, a node and a stranger; the last two are what a power cut is made of.
const PROGRAMS: [(&str, &str); 7] = [
    ("meshnode", "-p meshnode"),
    ("meshctl", "-p meshctl"),
    ("mesh-babel", "-p mesh-dataplane --bins"),
    ("examples/rogue", "-p meshnode --example rogue"),
    ("examples/flood", "-p mesh-dataplane --example flood"),
    (
        "examples/libpowercut.so",
        "-p mesh-tests --example powercut",
    ),
    ("examples/stock_sled", "-p mesh-tests --example stock_sled"),
];

/// Puts the programs where every user of the tests can run them.
fn set_up(folder: &Path) -> anyhow::Result<Stage> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    let stage = Stage {
        folder: folder.to_path_buf(),
    };
    fs::create_dir_all(stage.programs()).context("cannot make a folder")?;
    fs::create_dir_all(stage.software()).context("cannot make a folder")?;
    let own = env::current_exe().context("cannot find the test binary")?;
    let built = match env::var_os("MESHSTEAD_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        // Cargo puts test binaries into `deps`, beside the programs.
        None => own
            .ancestors()
            .nth(2)
            .context("no folder of programs")?
            .to_path_buf(),
    };
    fs::copy(&own, stage.programs().join("it")).context("cannot copy the test binary")?;
    for (program, how) in PROGRAMS {
        let (from, name) = (built.join(program), Path::new(program).file_name());
        let to = stage.programs().join(name.context("a program has a name")?);
        fs::copy(&from, to).with_context(|| {
            format!("no program {}; build it: cargo build {how}", from.display())
        })?;
    }
    Ok(stage)
}

/// Fetches the software that the tests use, once for each user. Returns what failed.
fn fetch_software(wanted: &[&Test], stage: &Stage) -> anyhow::Result<Vec<Verdict>> {
    let mut grounds: Vec<Ground> = wanted.iter().map(|test| test.ground).collect();
    // What is fetched for the user serves the lab too: it is the same user outside.
    grounds
        .iter_mut()
        .filter(|ground| **ground == Ground::Lab)
        .for_each(|one| *one = Ground::User);
    grounds.sort_unstable();
    grounds.dedup();
    let mut failed = Vec::new();
    for ground in grounds {
        ground.make_folder(&ground.software_cache())?;
        let test = Test {
            name: WARM_UP,
            ground,
            deadline: Duration::from_secs(600),
            alone: true,
            bar: None,
            run: |_| Ok(()),
        };
        let place = format!("w{}", ground as u8);
        let verdict = run_one(&test, Network::Machine, &place, stage);
        println!("software {ground:?} ... {}", sentence(&verdict));
        if !verdict.passed {
            println!("{}", verdict.said);
            failed.push(verdict);
        }
    }
    Ok(failed)
}

/// Runs tests two at a time, then those that measure one by one.
fn run_all(wanted: &[&Test], stage: &Stage) -> Vec<Verdict> {
    let verdicts = Mutex::new(Vec::new());
    for alone in [false, true] {
        let queue = Mutex::new((0..).zip(wanted).filter(|(_, test)| test.alone == alone));
        let next = || queue.lock().ok()?.next();
        let work = || {
            while let Some((number, test)) = next() {
                let place = format!("{}{number}", if alone { 'a' } else { 't' });
                let verdict = run_one(test, Network::Own, &place, stage);
                println!("test {} ... {}", test.name, sentence(&verdict));
                let notes = verdict.said.lines().filter(|line| line.starts_with(NOTE));
                notes.for_each(|note| println!("  {note}"));
                // Nothing is lost if the terminal has gone.
                let _ = std::io::stdout().flush();
                if let Ok(mut verdicts) = verdicts.lock() {
                    verdicts.push(verdict);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..if alone { 1 } else { AT_ONCE } {
                scope.spawn(work);
            }
        });
    }
    verdicts.into_inner().unwrap_or_default()
}

fn sentence(verdict: &Verdict) -> String {
    let word = if verdict.passed { "ok" } else { "FAILED" };
    format!("{word} ({:.1} s)", verdict.took.as_secs_f64())
}

/// Runs one test to its end or its deadline.
fn run_one(test: &Test, network: Network, place: &str, stage: &Stage) -> Verdict {
    let start = Instant::now();
    let (passed, said) = try_one(test, network, place, stage)
        .unwrap_or_else(|error| (false, format!("cannot run the test: {error:#}")));
    Verdict {
        name: test.name,
        bar: test.bar,
        passed,
        took: start.elapsed(),
        said,
    }
}

fn try_one(
    test: &Test,
    network: Network,
    place: &str,
    stage: &Stage,
) -> anyhow::Result<(bool, String)> {
    let folder = stage.folder.join(place);
    test.ground.make_folder(&folder)?;
    let mut output = tempfile::tempfile().context("cannot make a file for output")?;
    let mut command = test
        .ground
        .command(network, stage, &format!("{}@{place}", test.name));
    command
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?);
    command
        .env("HOME", &folder)
        .env("TMPDIR", &folder)
        .current_dir(&folder);
    let mut child = command.spawn().context("cannot start it")?;
    let status = until(test.name, test.deadline, || Ok(child.try_wait()?));
    let mut said = String::new();
    if let Err(error) = &status {
        // The namespaces end with their first process, and that one with this.
        child.kill().context("cannot end it")?;
        child.wait().context("cannot end it")?;
        said = format!("{error}\n");
        show_logs(&folder);
    }
    output.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes)?;
    said.push_str(&String::from_utf8_lossy(&bytes));
    Ok((status.is_ok_and(|status| status.success()), said))
}

/// Prints what failed and the closing line, and tells figures to the scoreboard.
fn report(
    verdicts: &[Verdict],
    tests: &[Test],
    wanted: usize,
    start: Instant,
) -> anyhow::Result<bool> {
    let passed = verdicts.iter().filter(|verdict| verdict.passed).count();
    for verdict in verdicts.iter().filter(|verdict| !verdict.passed) {
        println!("\n──── {}\n{}", verdict.name, verdict.said);
    }
    let mut figures: Vec<Figure> = verdicts
        .iter()
        .flat_map(|one| one.said.lines().filter_map(Figure::of_line))
        .collect();
    figures.extend(bars_of(verdicts, tests));
    let folder = env::var_os("MESHSTEAD_BARS_DIR").map(PathBuf::from);
    for figure in &figures {
        println!("{}  {}", figure.bar, figure.text);
        if let Some(folder) = &folder {
            figure.write(folder)?;
        }
    }
    ensure!(passed <= wanted, "more tests passed than were wanted");
    let failed = wanted - passed;
    println!(
        "\ntest result: {}. {passed} passed; {failed} failed; finished in {:.1} s\n",
        if failed == 0 { "ok" } else { "FAILED" },
        start.elapsed().as_secs_f64(),
    );
    Ok(failed == 0)
}

/// Returns the figures of bars that are a matter of passing, for which all tests were run.
fn bars_of(verdicts: &[Verdict], tests: &[Test]) -> Vec<Figure> {
    let mut bars: Vec<&str> = tests.iter().filter_map(|test| test.bar).collect();
    bars.sort_unstable();
    bars.dedup();
    let figure = |bar: &str| {
        let run: Vec<_> = verdicts
            .iter()
            .filter(|verdict| verdict.bar == Some(bar))
            .collect();
        let count = tests.iter().filter(|test| test.bar == Some(bar)).count();
        let texts: Vec<_> = run
            .iter()
            .map(|test| format!("{} {}", test.name, sentence(test)))
            .collect();
        let passed = run.iter().filter(|test| test.passed).count();
        let holds = passed == count;
        let figure = Figure {
            bar: bar.to_owned(),
            text: format!("{passed} of {count}: {}", texts.join(", ")),
            holds,
        };
        (run.len() == count).then_some(figure)
    };
    bars.into_iter().filter_map(figure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(name: &'static str) -> Test {
        let bar = Some("first.user");
        let deadline = Duration::ZERO;
        Test {
            name,
            ground: Ground::User,
            deadline,
            alone: false,
            bar,
            run: |_| Ok(()),
        }
    }

    #[track_caller]
    fn check(passed: &[bool], expect: Option<bool>) {
        let verdict = |passed: &bool| Verdict {
            name: "a",
            bar: Some("first.user"),
            passed: *passed,
            took: Duration::ZERO,
            said: String::new(),
        };
        let verdicts: Vec<_> = passed.iter().map(verdict).collect();
        let bars = bars_of(&verdicts, &[test("a"), test("b")]);
        assert_eq!(bars.first().map(|bar| bar.holds), expect);
    }

    #[test]
    fn bar_of_several_tests_needs_all_of_them() {
        check(&[true, true], Some(true));
        check(&[true, false], Some(false));
        check(&[true], None);
    }

    #[test]
    fn names_of_tests_fit_the_command_line() {
        assert!(!WARM_UP.contains(['@', ' ']));
    }
}
