//! One promise of one running instance: when it is measured next, and what the last measurement
//! said.
//!
//! Decides when to ask and which answers count; what follows from them is the instance's business.
//! Invariant: at most one measurement of a promise is unanswered; an answer to a question from
//! before the last start does not count.

use std::time::Duration;

use mesh_base::time::Moment;

use crate::instance::Stage;
use crate::instance::state::sentence;
use crate::promise::{Kind, PromisePlan, Window};
use crate::step::Verdict;

/// First pause after a promise that does not hold yet; doubled each time.
const RETRY_MIN: Duration = Duration::from_millis(20);
/// Longest pause between two measurements while an instance starts.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// What a driver gets on top of a promise's own timeout before silence counts as broken.
const GRACE: Duration = Duration::from_secs(1);
/// Shortest period: a recipe cannot make this machine busy.
const PERIOD_MIN: Duration = Duration::from_millis(200);

/// Whether an answer changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is a measurement of the instance as it runs now.
    Counts,
    /// It came unasked, or is about an earlier run.
    Stale,
}

/// The state of one promise.
#[derive(Debug, Clone)]
pub(super) struct Check {
    pub(super) plan: PromisePlan,
    pub(super) window: Window,
    /// What the last bad measurement said.
    pub(super) said: String,
    asked: Option<Moment>,
    stale: bool,
    due: Moment,
    retry: Duration,
    held: bool,
}

impl Check {
    pub(super) fn new(plan: PromisePlan) -> Self {
        let window = Window::new(plan.fails, plan.window);
        let said = "it was not measured yet".to_owned();
        let due = Moment::default();
        Self {
            plan,
            window,
            said,
            asked: None,
            stale: false,
            due,
            retry: RETRY_MIN,
            held: false,
        }
    }

    /// The instance was started: everything must be proven anew.
    pub(super) fn handle_start(&mut self, now: Moment) {
        self.stale = self.asked.is_some();
        self.held = false;
        self.window.clear();
        self.due = now;
        self.retry = RETRY_MIN;
    }

    pub(super) fn handle_asked(&mut self, now: Moment) {
        self.asked = Some(now);
        self.stale = false;
    }

    pub(super) fn handle_verdict(&mut self, verdict: &Verdict, stage: Stage, now: Moment) -> Heard {
        if self.asked.take().is_none() || std::mem::take(&mut self.stale) || stage == Stage::Off {
            return Heard::Stale;
        }
        let holds = match verdict {
            Verdict::Holds => true,
            Verdict::Broken(said) => {
                self.said = sentence(said);
                false
            }
        };
        self.note(holds, stage, now);
        Heard::Counts
    }

    /// Counts silence past the timeout as broken; returns whether it did.
    pub(super) fn handle_timer(&mut self, stage: Stage, now: Moment) -> bool {
        if self.silence_ends().is_none_or(|end| now < end) {
            return false;
        }
        self.asked = None;
        let counts = !std::mem::take(&mut self.stale) && stage != Stage::Off;
        if counts {
            self.said = format!("no answer within {} ms", self.plan.timeout.as_millis());
            self.note(false, stage, now);
        }
        counts
    }

    /// Returns whether readiness waits for this promise.
    pub(super) fn is_awaited(&self) -> bool {
        self.plan.kind != Kind::Sense && !self.held
    }

    pub(super) fn is_due(&self, stage: Stage, now: Moment) -> bool {
        self.asked.is_none() && self.is_measured(stage) && self.due <= now
    }

    pub(super) fn deadline(&self, stage: Stage) -> Option<Moment> {
        match self.silence_ends() {
            Some(end) => Some(end),
            None if self.is_measured(stage) => Some(self.due),
            None => None,
        }
    }

    fn is_measured(&self, stage: Stage) -> bool {
        match stage {
            Stage::Off => false,
            Stage::Proving => self.is_awaited(),
            Stage::Watching => self.plan.kind != Kind::Test,
        }
    }

    fn silence_ends(&self) -> Option<Moment> {
        self.asked.map(|asked| asked + self.plan.timeout + GRACE)
    }

    fn note(&mut self, holds: bool, stage: Stage, now: Moment) {
        self.held |= holds;
        if stage == Stage::Proving && !holds {
            self.due = now + self.retry;
            self.retry = (self.retry * 2).min(RETRY_MAX);
            return;
        }
        if stage == Stage::Watching {
            self.window.handle_verdict(holds);
        }
        self.due = now + self.plan.period.max(PERIOD_MIN);
    }
}
