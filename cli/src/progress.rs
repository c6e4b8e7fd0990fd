//! The line of ticks that grows while an order is under way.
//!
//! ```text
//!   ✔ planned: library-1 (0.12 EUR/month, 3 ms)   ✔ reserved     1.4 s   (safe: 3 copies)
//! ```
//! A refused attempt ends the line with its reason, and the next attempt begins a new one.

use std::collections::BTreeSet;

use mesh_api::event::{Event, Stage};
use mesh_api::screen::plain;

use crate::output;

/// What is on the screen so far.
#[derive(Debug)]
pub struct Progress {
    quiet: bool,
    colour: bool,
    line_open: bool,
    shown: BTreeSet<Stage>,
}

impl Progress {
    /// Starts with nothing on the screen.
    pub fn new(quiet: bool) -> Self {
        Self {
            quiet,
            colour: output::talk_in_colour(),
            line_open: false,
            shown: BTreeSet::new(),
        }
    }

    /// Shows what happened.
    pub fn handle(&mut self, event: &Event) {
        if !self.quiet {
            let text = self.text_of(event);
            output::talk(&text);
        }
    }

    /// Ends the line with a last word.
    pub fn finish(&mut self, last: &str) {
        if self.quiet {
            return;
        }
        let indent = if self.line_open { "     " } else { "  " };
        self.line_open = false;
        output::talk(&format!("{indent}{}\n", plain(last)));
    }

    /// Ends the line, if there is one, so that an error starts at the margin.
    pub fn give_up(&mut self) {
        if self.line_open && !self.quiet {
            output::talk("\n");
        }
        self.line_open = false;
    }

    fn text_of(&mut self, event: &Event) -> String {
        match event {
            Event::Step {
                step: Stage::Refused,
                detail,
                ..
            } => {
                self.shown.clear();
                let cross = self.paint("✗", "31");
                self.alone(&format!("  {cross} refused: {}", plain(detail)))
            }
            // The line names what a person waits for; these two are inner steps of "started".
            Event::Step {
                step: Stage::Granted | Stage::Created,
                ..
            } => String::new(),
            Event::Step { step, detail, .. } => {
                if !self.shown.insert(*step) {
                    return String::new();
                }
                let gap = if self.line_open { "   " } else { "  " };
                self.line_open = true;
                let colon = if detail.is_empty() { "" } else { ": " };
                format!(
                    "{gap}{} {step}{colon}{}",
                    self.paint("✔", "32"),
                    plain(detail)
                )
            }
            Event::Note { text } => self.alone(&format!("  note: {}", plain(text))),
            Event::Log { .. } => String::new(),
        }
    }

    fn alone(&mut self, text: &str) -> String {
        let end = if self.line_open { "\n" } else { "" };
        self.line_open = false;
        format!("{end}{text}\n")
    }

    fn paint(&self, sign: &str, colour: &str) -> String {
        if self.colour {
            return format!("\u{1b}[{colour}m{sign}\u{1b}[0m");
        }
        sign.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: Stage, detail: &str) -> Event {
        Event::Step {
            step,
            detail: detail.into(),
            elapsed_ms: 1,
        }
    }

    #[track_caller]
    fn check(events: &[Event], expect: &str) {
        let mut progress = Progress {
            quiet: false,
            colour: false,
            line_open: false,
            shown: BTreeSet::new(),
        };
        let text: String = events.iter().map(|event| progress.text_of(event)).collect();
        assert_eq!(text, expect);
    }

    #[test]
    fn steps_grow_one_line_and_repeats_are_left_out() {
        check(
            &[
                step(Stage::Planned, "library-1 (0.12 EUR/month, 3 ms)"),
                step(Stage::Reserved, ""),
                step(Stage::Reserved, ""),
                step(Stage::Granted, ""),
                step(Stage::Awarded, ""),
            ],
            "  ✔ planned: library-1 (0.12 EUR/month, 3 ms)   ✔ reserved   ✔ awarded",
        );
    }

    #[test]
    fn refusal_ends_the_line_and_the_next_attempt_begins_one() {
        check(
            &[
                step(Stage::Planned, "a"),
                step(Stage::Refused, "a: memory is full"),
                step(Stage::Planned, "b"),
                Event::Note {
                    text: "b is slow\u{1b}".into(),
                },
            ],
            "  ✔ planned: a\n  ✗ refused: a: memory is full\n  ✔ planned: b\n  \
             note: b is slow\u{fffd}\n",
        );
    }
}
