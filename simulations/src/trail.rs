//! The fingerprint of a run: a hash over everything that happened, and the last lines for people.
//!
//! Same seed, same trail hash: if two runs of one seed differ, something reads a clock, an address
//! or the order of a hash table. Lines are only made when somebody will see them.

use std::collections::VecDeque;

use mesh_base::digest::Digest;
use mesh_base::time::Moment;

/// Lines kept for the report of a failure.
const LINES_KEPT: usize = 400;
/// Longest line kept.
const LINE_LEN_MAX: usize = 160;

/// Whether lines are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// Only the hash.
    Silent,
    /// Keep the last lines.
    Keep,
    /// Print each line, and keep the last ones.
    Print,
}

/// Hash and last lines of a run.
#[derive(Debug)]
pub struct Trail {
    hash: Digest,
    count: u64,
    voice: Voice,
    lines: VecDeque<String>,
}

impl Trail {
    /// Returns the empty trail.
    pub fn new(voice: Voice) -> Self {
        Self {
            hash: Digest::of(b"meshsim"),
            count: 0,
            voice,
            lines: VecDeque::new(),
        }
    }

    /// Notes an event: `kind` and `bytes` enter the hash, the line is made if somebody will see it.
    pub fn note(&mut self, now: Moment, kind: &str, bytes: &[u8], line: impl FnOnce() -> String) {
        self.count += 1;
        let moment = now.0.to_be_bytes();
        let parts = [
            self.hash.as_bytes().as_slice(),
            &moment,
            kind.as_bytes(),
            bytes,
        ];
        self.hash = Digest::of_parts(&parts);
        self.say(now, kind, line);
    }

    /// Adds a line without touching the hash.
    pub fn say(&mut self, now: Moment, kind: &str, line: impl FnOnce() -> String) {
        if self.voice == Voice::Silent {
            return;
        }
        let seconds = now.0 / 1_000_000;
        let text: String = format!("{seconds:>5}.{:06} {kind:<9} {}", now.0 % 1_000_000, line())
            .chars()
            .take(LINE_LEN_MAX)
            .collect();
        if self.voice == Voice::Print {
            println!("{text}");
        }
        if is_routine(kind, &text) {
            return;
        }
        if self.lines.len() == LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(text);
    }

    /// Returns the hash over everything noted.
    pub fn hash(&self) -> Digest {
        self.hash
    }

    /// Returns how many events were noted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the last lines, oldest first.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}

/// Returns whether a line tells of the talk that goes on when nothing happens.
fn is_routine(kind: &str, line: &str) -> bool {
    const TALK: [&str; 5] = [": Summary", ": Ping", ": Pong", ": Frontiers", ": Contacts"];
    matches!(kind, "send" | "arrive") && TALK.iter().any(|talk| line.contains(talk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_do_not_change_the_hash() {
        let run = |voice| {
            let mut trail = Trail::new(voice);
            trail.note(Moment(1), "send", b"x", || "a message".to_owned());
            (trail.hash(), trail.count())
        };
        assert_eq!(run(Voice::Silent), run(Voice::Keep));
    }

    #[test]
    fn each_part_changes_the_hash() {
        let run = |moment, kind: &str, bytes: &[u8]| {
            let mut trail = Trail::new(Voice::Silent);
            trail.note(Moment(moment), kind, bytes, String::new);
            trail.hash()
        };
        let first = run(1, "a", b"x");
        assert_ne!(first, run(2, "a", b"x"));
        assert_ne!(first, run(1, "b", b"x"));
        assert_ne!(first, run(1, "a", b"y"));
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let mut trail = Trail::new(Voice::Keep);
        for index in 0..LINES_KEPT + 5 {
            trail.say(Moment(0), "n", || index.to_string());
        }
        assert_eq!(trail.lines().count(), LINES_KEPT);
        assert!(trail.lines().next().unwrap().ends_with(" 5"));
    }
}
