//! The disk refuses the n-th call about the journal, for each n and several reasons: the node says
//! no more yes, says what to do, and is whole again once the disk is.
//!
//! strace(1) lets the call fail inside the real daemon. What was answered before is what must be
//! there after.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use mesh_tests::figures::Figure;
use mesh_tests::home::Home;
use mesh_tests::lab::Lab;
use mesh_tests::runner::Place;
use mesh_tests::said::Asked;
use mesh_tests::transcript::found_org;
use mesh_tests::until::until;

/// Each of the first so many calls fails once for each reason.
const CALLS: u32 = 60;
const REASONS: [&str; 3] = ["EIO", "ENOSPC", "EINTR"];

/// Calls by which the daemon reads, makes and writes the journal.
const NAMES: &str = "openat,read,getdents64,write,fdatasync,fsync,fallocate,ftruncate";

/// What is written beyond the call that fails: each costs a write and a sync.
const WRITES_BEYOND: u32 = 4;

/// The exit code of a program that finds no daemon.
const UNREACHABLE: i32 = 3;

/// How long a daemon may take to answer or to end.
const SOON: Duration = Duration::from_secs(60);

/// So many nodes are tried at the same time.
const AT_ONCE: usize = 3;

/// What was seen of all attempts.
#[derive(Debug, Default)]
struct Seen {
    /// How often the daemon did not begin, ended, or went on, for each reason.
    by_reason: BTreeMap<&'static str, [u32; 3]>,
    acknowledged: u64,
}

/// Lets each call fail on some nodes at the same time.
pub fn refused_calls_lose_nothing(place: &Place) -> anyhow::Result<()> {
    let names: Vec<String> = (1..=AT_ONCE)
        .map(|number| format!("node-{number}"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let lab = Lab::new(&names, &place.folder, &place.programs)?;
    let next = AtomicU32::new(0);
    let mut all = Seen::default();
    thread::scope(|scope| -> anyhow::Result<()> {
        let threads: Vec<_> = names
            .iter()
            .map(|name| scope.spawn(|| work(lab.home(name)?, &place.programs, &next)))
            .collect();
        for thread in threads {
            let seen = thread.join().map_err(|_| anyhow::anyhow!("a panic"))??;
            all.acknowledged += seen.acknowledged;
            for (reason, counts) in seen.by_reason {
                let known = all.by_reason.entry(reason).or_default();
                for (known, count) in known.iter_mut().zip(counts) {
                    *known += count;
                }
            }
        }
        Ok(())
    })?;
    let parts = all
        .by_reason
        .iter()
        .map(|(reason, [unbegun, ended, went_on])| {
            format!("{reason}: {unbegun} did not start, {ended} ended, {went_on} went on")
        });
    let parts: Vec<String> = parts.collect();
    for (reason, [unbegun, ended, _]) in &all.by_reason {
        ensure!(0 < unbegun + ended, "no call was refused with {reason}");
    }
    Figure {
        bar: "ledger.io-errors@calls".to_owned(),
        text: format!(
            "each of {CALLS} calls refused; {}; 0 of {} acknowledged entries lost",
            parts.join("; "),
            all.acknowledged
        ),
        holds: true,
    }
    .tell();
    Ok(())
}

fn work(home: &Home, programs: &Path, next: &AtomicU32) -> anyhow::Result<Seen> {
    let home = home.quietly();
    found_org("bakery", &home)?;
    home.stop()?;
    let mut seen = Seen::default();
    let count = CALLS * REASONS.len() as u32;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let reason = REASONS.get((number % 3) as usize).context("a reason")?;
        if count <= number {
            return Ok(seen);
        }
        let call = 1 + number / 3;
        let attempt = Attempt {
            home: &home,
            programs,
            reason,
            call,
        };
        let (outcome, acknowledged) = attempt
            .run()
            .with_context(|| format!("call {call} refused with {reason}"))?;
        seen.acknowledged += acknowledged;
        let counts = seen.by_reason.entry(reason).or_default();
        if let Some(count) = counts.get_mut(outcome as usize) {
            *count += 1;
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Outcome {
    NeverBegan,
    Ended,
    WentOn,
}

struct Attempt<'a> {
    home: &'a Home,
    programs: &'a Path,
    reason: &'static str,
    call: u32,
}

impl Attempt<'_> {
    /// Starts a daemon one of whose calls will fail, writes through it, and looks whether all of it
    /// is there when it runs without failures. Returns how many writes were acknowledged.
    fn run(&self) -> anyhow::Result<(Outcome, u64)> {
        let before = self.whole()?;
        let mut daemon = self.begin()?;
        let mut position = before;
        let outcome = match self.comes_up(&mut daemon)? {
            true => self.write(&mut position)?,
            false => Outcome::NeverBegan,
        };
        match outcome {
            Outcome::WentOn => self.home.stop()?,
            Outcome::NeverBegan | Outcome::Ended => {}
        }
        let said = daemon.answer(SOON)?;
        let told = format!("{}{}", said.stdout, said.stderr);
        ensure!(!told.contains("panicked"), "a panic:\n{told}");
        if !matches!(outcome, Outcome::WentOn) {
            ensure!(said.code != 0, "it ended as if all were well:\n{told}");
            let line = |start: &str| told.lines().any(|line| line.starts_with(start));
            ensure!(
                line("error: ") && line("hint: "),
                "no cause and next step:\n{told}"
            );
        }
        let after = self.whole()?;
        ensure!(
            position <= after,
            "{position} entries were on disk, {after} are"
        );
        Ok((outcome, position - before))
    }

    /// Starts the node without failures, looks how much is in its journal, and stops it.
    fn whole(&self) -> anyhow::Result<u64> {
        self.home.start()?;
        let position = self.home.journal_position()?;
        self.home.stop()?;
        Ok(position)
    }

    fn begin(&self) -> anyhow::Result<Asked> {
        let journal = self.home.folder.join("journal");
        let mut words = vec!["-f".to_owned(), "-qqq".to_owned(), "-o".to_owned()];
        words.push(self.home.folder.join("calls").display().to_string());
        words.extend(["-P".to_owned(), journal.display().to_string()]);
        for file in fs::read_dir(&journal).context("no journal")? {
            words.extend(["-P".to_owned(), file?.path().display().to_string()]);
        }
        let fault = format!("inject={NAMES}:error={}:when={}", self.reason, self.call);
        words.extend(["-e".to_owned(), fault]);
        words.push(self.programs.join("meshnode").display().to_string());
        words.extend(["start", "--foreground"].map(str::to_owned));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.home.begin("strace", &words)
    }

    /// Waits until the daemon answers. Returns false if it ended instead.
    fn comes_up(&self, daemon: &mut Asked) -> anyhow::Result<bool> {
        until("the daemon answers or ends", SOON, || {
            if self.home.quietly().status().is_ok() {
                return Ok(Some(true));
            }
            Ok(daemon.has_ended()?.then_some(false))
        })
    }

    /// Writes through the daemon until a call fails or all is written; `position` is how much was
    /// last said to be on disk.
    fn write(&self, position: &mut u64) -> anyhow::Result<Outcome> {
        for number in 0..self.call + WRITES_BEYOND {
            // A name of its own: what an attempt before let in may be there still.
            let reason = self.reason.to_lowercase();
            let name = format!("{reason}-{}-{}", self.call, number / 2);
            let word = if number % 2 == 0 { "export" } else { "remove" };
            // A disk that had no room once has some again a second later.
            let said = until("it is written or refused", SOON, || {
                let said = self.home.meshnode(&["wg", word, &name])?;
                Ok((!said.stderr.contains("disk is full")).then_some(said))
            })?;
            if said.code != 0 {
                ensure!(said.stderr.contains("hint: "), "no next step:\n{said}");
                ensure!(
                    said.code == UNREACHABLE,
                    "it was refused and the node goes on:\n{said}"
                );
                return Ok(Outcome::Ended);
            }
            // What was said with a yes is counted even if the daemon ends right after it.
            *position += 1;
            match self.home.journal_position() {
                Ok(now) => *position = now,
                Err(_) => return Ok(Outcome::Ended),
            }
        }
        Ok(Outcome::WentOn)
    }
}
