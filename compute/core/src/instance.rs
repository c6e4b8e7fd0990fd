//! One instance on its provider: from what is desired and what the driver reports to the next step.
//!
//! Decides which step comes next, when to try again, when an instance is ready, degraded or given
//! up; how a step is done is the driver's business, what it costs the ledger's. The machine knows
//! three facts about the slot (software here, slot made, processes run) and always takes the next
//! step towards the desire:
//!
//! ```text
//!  running:    Software ─► Create ─► Start ─► Probe until all promises hold ─► Ready ─► Probe …
//!                  ▲          ▲        ▲  crash or fallen promise: rest 1 s … 60 s │
//!                  └── rest ──┴─ rest ─┴─────────────── Stop ◄─────────────────────┘
//!  stopped:    Stop ─► Stopped                 destroyed:  Stop ─► Meter ─► Destroy ─► Destroyed
//! ```
//! An instance that was never ready is given up ([`State::Failed`]) after [`ATTEMPTS_MAX`]
//! failures, so that its order can be told. One that was ready once holds data, so it is never
//! given up: it is degraded and tried again for ever after a crash; a fallen promise is repaired
//! [`REPAIRS_MAX`] times by a restart.
//!
//! Invariants: at most one of Software, Create, Start, Stop and Destroy is unanswered (a fetch may
//! be left to finish by itself); Start is only asked while running is desired; ready means that
//! every promise but the senses held since the last start; destroyed is for ever.
//!
//! The caller drains [`Instance::poll_step`] and [`Instance::poll_fact`] after each `handle_*`.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use mesh_base::digest::Digest;
use mesh_base::time::{Moment, Now};

use crate::instance::check::{Check, Heard};
use crate::instance::state::{Desire, Fact, Memory, Plan, State, Trouble, sentence};
use crate::promise::{Kind, Standing};
use crate::step::{Event, ItemId, Meters, Step, Verdict};

mod check;
pub mod state;
#[cfg(test)]
mod tests;

/// Failures in a row after which an instance that was never ready is given up.
pub const ATTEMPTS_MAX: u32 = 5;
/// Restarts that are tried for a fallen promise before it is left to people.
pub const REPAIRS_MAX: u32 = 3;
/// Shortest rest before something is tried again.
pub const REST_MIN: Duration = Duration::from_secs(1);
/// Longest rest before something is tried again.
pub const REST_MAX: Duration = Duration::from_secs(60);
/// Health that makes earlier failures forgotten.
pub const HEALTH: Duration = Duration::from_secs(60);
/// How long a driver may say nothing about a step before it is asked again; steps are idempotent.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// How long a fetch may take before it is asked again; a driver that still fetches goes on.
pub const FETCH_PATIENCE: Duration = Duration::from_secs(600);
/// How long to wait after a restart of the daemon for the driver to say what runs.
pub const ADOPTION: Duration = Duration::from_secs(3);
/// How long to wait for the final meter before an instance is destroyed without it.
pub const FINAL_METER: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Adopting,
    Fetching,
    Creating,
    Starting,
    Probing,
    Up,
    Resting,
    Stopping,
    Stopped,
    FinalMeter,
    Destroying,
    Destroyed,
    Failed,
}

/// The supervision of one instance.
pub struct Instance {
    plan: Plan,
    desire: Desire,
    phase: Phase,
    /// When the phase must be looked at again; what it means depends on the phase.
    wake: Option<Moment>,
    software: bool,
    created: bool,
    /// Whether processes may run; true from the moment a start is asked.
    running: bool,
    /// A running instance is to be stopped although running is desired, to be started again.
    recycle: bool,
    ever_ready: bool,
    gave_up: bool,
    final_metered: bool,
    trouble: Option<Trouble>,
    failures: u32,
    repairs: u32,
    healthy_since: Option<Moment>,
    checks: Vec<Check>,
    meter_due: Option<Moment>,
    told: State,
    steps: VecDeque<Step>,
    facts: VecDeque<Fact>,
}

impl Instance {
    /// Begins a new instance that should run.
    pub fn new(plan: Plan, now: Now) -> Self {
        let memory = Memory {
            desire: Desire::Running,
            state: State::Fetching,
            created: false,
            ever_ready: false,
        };
        let mut instance = Self::with_memory(plan, memory);
        instance.facts.push_back(Fact::State(State::Fetching));
        instance.advance(now.mono);
        instance.tell();
        instance
    }

    /// Goes on after a restart of the daemon.
    ///
    /// If the slot was made, the driver's adoption is awaited for [`ADOPTION`]: its `Started`,
    /// `Stopped` or `Created` says what runs. If it says nothing, the steps are taken from the
    /// beginning, for they are idempotent.
    pub fn restore(plan: Plan, memory: Memory, now: Now) -> Self {
        let mut instance = Self::with_memory(plan, memory);
        match instance.told {
            State::Destroyed => instance.phase = Phase::Destroyed,
            _ if instance.created => {
                instance.running = true;
                instance.phase = Phase::Adopting;
                instance.wake = Some(now.mono + ADOPTION);
                instance.meter_due = instance.wake;
            }
            _ => instance.advance(now.mono),
        }
        instance.tell();
        instance
    }

    fn with_memory(plan: Plan, memory: Memory) -> Self {
        let checks = plan.promises.iter().cloned().map(Check::new).collect();
        let trouble = match &memory.state {
            State::Degraded(trouble) | State::Failed(trouble) => Some(trouble.clone()),
            _ => None,
        };
        Self {
            plan,
            desire: memory.desire,
            phase: Phase::Resting,
            wake: None,
            software: false,
            created: memory.created,
            running: false,
            recycle: false,
            ever_ready: memory.ever_ready,
            gave_up: matches!(memory.state, State::Failed(_)),
            final_metered: false,
            trouble,
            failures: 0,
            repairs: 0,
            healthy_since: None,
            checks,
            meter_due: None,
            told: memory.state,
            steps: VecDeque::new(),
            facts: VecDeque::new(),
        }
    }

    /// Takes a report of the driver; reports about other items and recipes change nothing.
    pub fn handle_event(&mut self, event: &Event, now: Now) {
        let (item, recipe, mono) = (self.plan.spec.item, self.plan.spec.recipe, now.mono);
        match event {
            Event::SoftwareReady { recipe: of, tree } if *of == recipe => {
                self.on_software(*tree, mono);
            }
            Event::SoftwareFailed { recipe: of, reason } if *of == recipe => {
                self.on_software_failed(reason, mono);
            }
            Event::Created { item: of } if *of == item => self.on_created(mono),
            Event::Started { item: of } if *of == item => self.on_started(mono),
            Event::Probed {
                item: of,
                promise,
                verdict,
            } if *of == item => {
                self.on_probed(promise, verdict, mono);
            }
            Event::Stopped { item: of, how } if *of == item => self.on_stopped(how, mono),
            Event::Metered { item: of, meters } if *of == item => self.on_metered(*meters, mono),
            Event::Destroyed { item: of } if *of == item => self.on_destroyed(),
            Event::Failed { item: of, reason } if *of == item => self.on_failed(reason, mono),
            _ => {}
        }
        self.tell();
    }

    /// Takes what the customer wants from now on. Destroyed is for ever.
    ///
    /// Wanting a given-up instance to run once more tries it again.
    pub fn handle_desire(&mut self, desire: Desire, now: Now) {
        let again = desire == Desire::Running && self.gave_up;
        if self.desire == Desire::Destroyed || (self.desire == desire && !again) {
            return;
        }
        self.desire = desire;
        self.gave_up = false;
        self.failures = 0;
        self.repairs = 0;
        if desire != Desire::Running {
            self.trouble = None;
            self.healthy_since = None;
        }
        // An unanswered step is awaited first, except a fetch, which nobody needs any more. An
        // instance that runs and should run again after all is simply looked at again.
        match self.phase {
            Phase::Adopting | Phase::Creating | Phase::Starting | Phase::Stopping => {}
            Phase::Destroying | Phase::Destroyed | Phase::FinalMeter => {}
            _ => self.advance(now.mono),
        }
        self.tell();
    }

    /// Does what is due.
    pub fn handle_timer(&mut self, now: Now) {
        let now = now.mono;
        if self.wake.is_some_and(|wake| wake <= now) {
            self.wake = None;
            self.on_wake(now);
        }
        if self.meter_due.is_some_and(|due| due <= now) {
            self.meter_due = Some(now + self.plan.meter_period);
            self.steps.push_back(Step::Meter {
                item: self.plan.spec.item,
            });
        }
        self.probe(now);
        self.tell();
    }

    /// Asks for a reading of the meters now. Returns false if there is no slot to meter.
    pub fn meter_now(&mut self) -> bool {
        let there = self.created && self.phase != Phase::Destroying;
        if there {
            self.steps.push_back(Step::Meter {
                item: self.plan.spec.item,
            });
        }
        there
    }

    /// Takes the next step for the driver.
    pub fn poll_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// Takes the next fact.
    pub fn poll_fact(&mut self) -> Option<Fact> {
        self.facts.pop_front()
    }

    /// Returns when [`Instance::handle_timer`] has something to do.
    pub fn next_deadline(&self) -> Option<Moment> {
        let checks = self
            .checks
            .iter()
            .filter_map(|check| check.deadline(self.stage()));
        checks.chain(self.wake).chain(self.meter_due).min()
    }

    /// Returns what people see.
    pub fn state(&self) -> &State {
        &self.told
    }

    /// Returns what is desired.
    pub fn desire(&self) -> Desire {
        self.desire
    }

    /// Returns the plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Returns whether processes are known or suspected to run.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// Returns what must survive a restart of the daemon.
    pub fn memory(&self) -> Memory {
        Memory {
            desire: self.desire,
            state: self.told.clone(),
            created: self.created,
            ever_ready: self.ever_ready,
        }
    }

    /// Takes the next step towards what is desired; nothing is unanswered.
    fn advance(&mut self, now: Moment) {
        self.wake = None;
        let item = self.plan.spec.item;
        let stop = self.running && (self.desire != Desire::Running || self.recycle || self.gave_up);
        let (phase, step) = match self.desire {
            _ if stop => (Phase::Stopping, Some(Step::Stop { item })),
            Desire::Running if self.gave_up => (Phase::Failed, None),
            Desire::Running if !self.software => (
                Phase::Fetching,
                Some(Step::Software {
                    recipe: self.plan.spec.recipe,
                }),
            ),
            Desire::Running if !self.created => (
                Phase::Creating,
                Some(Step::Create(Box::new(self.plan.spec.clone()))),
            ),
            Desire::Running if !self.running => (Phase::Starting, Some(Step::Start { item })),
            Desire::Running => return self.begin_probing(now),
            Desire::Stopped => (Phase::Stopped, None),
            Desire::Destroyed if self.created && !self.final_metered => {
                (Phase::FinalMeter, Some(Step::Meter { item }))
            }
            Desire::Destroyed => (Phase::Destroying, Some(Step::Destroy { item })),
        };
        self.phase = phase;
        self.running |= phase == Phase::Starting;
        if phase == Phase::Destroying {
            self.meter_due = None;
        }
        self.wake = match phase {
            Phase::Creating | Phase::Starting | Phase::Stopping | Phase::Destroying => {
                Some(now + PATIENCE)
            }
            Phase::FinalMeter => Some(now + FINAL_METER),
            Phase::Fetching => Some(now + FETCH_PATIENCE),
            _ => None,
        };
        self.steps.extend(step);
    }

    fn on_wake(&mut self, now: Moment) {
        match self.phase {
            Phase::Fetching | Phase::Creating => self.advance(now),
            Phase::Resting | Phase::Stopping | Phase::Destroying => self.advance(now),
            Phase::Adopting | Phase::Starting => {
                // Asked again rather than believed: a driver reports what runs already.
                self.running = self.desire != Desire::Running;
                self.advance(now);
            }
            Phase::FinalMeter => {
                self.final_metered = true;
                self.advance(now);
            }
            Phase::Probing => {
                let (promise, said) = self
                    .checks
                    .iter()
                    .find(|check| check.is_awaited())
                    .map(|check| (check.plan.name.clone(), check.said.clone()))
                    .unwrap_or_default();
                self.recycle = true;
                self.fail(Trouble::NotReady { promise, said }, now);
            }
            Phase::Up => {
                self.repairs += 1;
                self.recycle = true;
                self.advance(now);
            }
            _ => {}
        }
    }

    fn on_software(&mut self, tree: Digest, now: Moment) {
        let news = !self.software;
        self.software = true;
        if news {
            self.facts.push_back(Fact::Software { tree });
        }
        if self.phase == Phase::Fetching {
            self.advance(now);
        }
    }

    fn on_software_failed(&mut self, reason: &str, now: Moment) {
        if self.phase == Phase::Fetching {
            self.fail(
                Trouble::Software {
                    said: sentence(reason),
                },
                now,
            );
        }
    }

    fn on_created(&mut self, now: Moment) {
        if self.phase == Phase::Adopting {
            // There is a slot, and nothing was ever started in it.
            self.running = false;
            return self.advance(now);
        }
        if self.phase != Phase::Creating {
            return;
        }
        self.created = true;
        self.meter_due = Some(now + self.plan.meter_period);
        self.facts.push_back(Fact::Created);
        self.advance(now);
    }

    fn on_started(&mut self, now: Moment) {
        match self.phase {
            Phase::Starting | Phase::Resting => {}
            Phase::Adopting => self.software = true,
            // Adopted later than we waited; the software's answer leads on.
            Phase::Fetching if self.created => {
                self.running = true;
                return;
            }
            // Somebody started what should not run: stop it.
            Phase::Stopped | Phase::Failed => {
                self.running = true;
                return self.advance(now);
            }
            _ => return,
        }
        if !self.created {
            return;
        }
        let adopted = self.phase == Phase::Adopting && matches!(self.told, State::Ready);
        self.running = true;
        self.recycle = false;
        self.facts.push_back(Fact::Started);
        self.checks
            .iter_mut()
            .for_each(|check| check.handle_start(now));
        if adopted && self.desire == Desire::Running {
            self.go_up(now);
            return self.probe(now);
        }
        self.advance(now);
    }

    fn on_stopped(&mut self, how: &str, now: Moment) {
        let phase = self.phase;
        let was_running = self.running;
        match phase {
            // What runs is not asked of these; a repeated report says nothing new.
            Phase::Stopped | Phase::Failed | Phase::FinalMeter | Phase::Destroying => return,
            Phase::Destroyed | Phase::Creating | Phase::Fetching | Phase::Resting => {
                self.running = false;
                return;
            }
            _ => {}
        }
        self.running = false;
        self.recycle = false;
        if was_running {
            self.facts.push_back(Fact::Ended { how: sentence(how) });
        }
        match phase {
            Phase::Stopping
                if self.failures != 0 && !self.gave_up && self.desire == Desire::Running =>
            {
                self.rest(now);
            }
            Phase::Stopping | Phase::Adopting => self.advance(now),
            _ if self.desire == Desire::Running => {
                self.fail(Trouble::Ended { how: sentence(how) }, now);
            }
            _ => self.advance(now),
        }
    }

    fn on_probed(&mut self, promise: &str, verdict: &Verdict, now: Moment) {
        let stage = self.stage();
        let Some(check) = self
            .checks
            .iter_mut()
            .find(|check| check.plan.name == promise)
        else {
            return;
        };
        if check.handle_verdict(verdict, stage, now) == Heard::Counts {
            self.judge(now);
        }
        self.probe(now);
    }

    fn on_metered(&mut self, meters: Meters, now: Moment) {
        self.facts.push_back(Fact::Metered(meters));
        if self.phase == Phase::FinalMeter {
            self.final_metered = true;
            self.advance(now);
        }
    }

    fn on_destroyed(&mut self) {
        if self.phase != Phase::Destroying {
            return;
        }
        self.phase = Phase::Destroyed;
        self.wake = None;
        self.created = false;
    }

    /// A step failed. The driver does not say which, so it is the unanswered one, if there is any.
    fn on_failed(&mut self, reason: &str, now: Moment) {
        let trouble = Trouble::Step {
            said: sentence(reason),
        };
        match self.phase {
            Phase::Starting => {
                self.running = false;
                self.fail(trouble, now);
            }
            Phase::Creating => self.fail(trouble, now),
            Phase::FinalMeter => {
                self.final_metered = true;
                self.advance(now);
            }
            Phase::Stopping | Phase::Destroying => {
                // These cannot be given up: they are tried again until they succeed.
                self.failures = self.failures.saturating_add(1);
                self.facts.push_back(Fact::Trouble(trouble));
                self.wake = Some(now + rest_of(self.failures));
            }
            _ => self.facts.push_back(Fact::Trouble(trouble)),
        }
    }

    /// Notes a failure while running is or was desired, and what follows from it.
    fn fail(&mut self, trouble: Trouble, now: Moment) {
        self.facts.push_back(Fact::Trouble(trouble.clone()));
        if self.desire != Desire::Running {
            return self.advance(now);
        }
        self.forgive(now);
        self.failures = self.failures.saturating_add(1);
        self.trouble = Some(trouble);
        self.gave_up = !self.ever_ready && ATTEMPTS_MAX <= self.failures;
        if self.gave_up || (self.running && self.recycle) {
            return self.advance(now);
        }
        self.rest(now);
    }

    fn rest(&mut self, now: Moment) {
        self.phase = Phase::Resting;
        self.wake = Some(now + rest_of(self.failures));
    }

    /// Forgets earlier failures if the instance was healthy long enough.
    fn forgive(&mut self, now: Moment) {
        if self
            .healthy_since
            .take()
            .is_some_and(|since| HEALTH <= now.since(since))
        {
            self.failures = 0;
            self.repairs = 0;
        }
    }

    fn begin_probing(&mut self, now: Moment) {
        self.phase = Phase::Probing;
        self.wake = Some(now + self.plan.ready_within);
        self.judge(now);
        self.probe(now);
    }

    /// Looks at the checks as a whole after one of them changed.
    fn judge(&mut self, now: Moment) {
        match self.phase {
            Phase::Probing if self.checks.iter().all(|check| !check.is_awaited()) => {
                self.go_up(now);
            }
            Phase::Up => self.judge_up(now),
            _ => {}
        }
    }

    fn go_up(&mut self, now: Moment) {
        self.phase = Phase::Up;
        self.wake = None;
        self.ever_ready = true;
        self.trouble = None;
        self.healthy_since = Some(now);
    }

    fn judge_up(&mut self, now: Moment) {
        let fallen = self.checks.iter().find(|check| {
            check.plan.kind == Kind::Anomaly && check.window.standing() == Standing::Fallen
        });
        let Some(fallen) = fallen else {
            if self.trouble.take().is_some() {
                self.wake = None;
                self.healthy_since = Some(now);
            }
            return;
        };
        let (promise, said) = (fallen.plan.name.clone(), fallen.said.clone());
        let first = self.trouble.is_none();
        self.trouble = Some(Trouble::Broken { promise, said });
        if !first {
            return;
        }
        self.facts.extend(self.trouble.clone().map(Fact::Trouble));
        self.forgive(now);
        if self.repairs < REPAIRS_MAX {
            self.wake = Some(now + rest_of(self.repairs + 1));
        }
    }

    /// Asks for the measurements that are due.
    fn probe(&mut self, now: Moment) {
        let (stage, item) = (self.stage(), self.plan.spec.item);
        let mut silent = false;
        for check in &mut self.checks {
            silent |= check.handle_timer(stage, now);
            if check.is_due(stage, now) {
                check.handle_asked(now);
                self.steps.push_back(Step::Probe {
                    item,
                    promise: check.plan.name.clone(),
                });
            }
        }
        if silent {
            self.judge(now);
        }
    }

    fn stage(&self) -> Stage {
        match self.phase {
            Phase::Probing => Stage::Proving,
            Phase::Up => Stage::Watching,
            _ => Stage::Off,
        }
    }

    /// Tells the public state if it changed.
    fn tell(&mut self) {
        let state = self.public();
        if !state.is_like(&self.told) {
            self.facts.push_back(Fact::State(state.clone()));
        }
        self.told = state;
    }

    fn public(&self) -> State {
        match (self.desire, self.phase) {
            (_, Phase::Destroyed) => State::Destroyed,
            (Desire::Destroyed, _) => State::Destroying,
            (Desire::Stopped, Phase::Stopped) => State::Stopped,
            // What was told before the daemon ended stands until the driver knows better.
            (Desire::Stopped, Phase::Adopting) if self.told == State::Stopped => State::Stopped,
            (Desire::Running, Phase::Adopting) if self.told.is_of_running() => self.told.clone(),
            (Desire::Stopped, _) => State::Stopping,
            (Desire::Running, phase) => self.public_running(phase),
        }
    }

    fn public_running(&self, phase: Phase) -> State {
        match (phase, &self.trouble) {
            (Phase::Failed, Some(trouble)) => State::Failed(trouble.clone()),
            (_, Some(trouble)) if self.ever_ready => State::Degraded(trouble.clone()),
            (Phase::Up, _) => State::Ready,
            _ if self.created => State::Starting,
            _ if self.software => State::Creating,
            _ => State::Fetching,
        }
    }
}

/// What the checks are for at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is measured.
    Off,
    /// After a start: everything that is awaited is measured until it holds.
    Proving,
    /// While up: what is periodic is measured.
    Watching,
}

/// Returns how long to rest after so many failures in a row: 1 s, 2 s, 4 s … 60 s.
fn rest_of(failures: u32) -> Duration {
    let doubled = REST_MIN.saturating_mul(1 << failures.saturating_sub(1).min(10));
    doubled.min(REST_MAX)
}

/// Names an instance in log lines.
impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The plan holds secrets and is left out.
        let item: ItemId = self.plan.spec.item;
        write!(
            f,
            "Instance({} {:?} {:?})",
            item.0.short(),
            self.desire,
            self.phase
        )
    }
}
