//! One order's life: planned, ordered, used, metered, billed, stopped, started, released, with
//! kills in between, after each of which everything that was said must still hold.

use std::io::Read as _;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use mesh_tests::home::Home;
use mesh_tests::hunt::{Aim, Being, Catch, Hunt, Part, Shot, Sign, Stepper, Turn};
use mesh_tests::processes::{self, Running, of_service};
use mesh_tests::until::until;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::book::{rows, text};
use super::deck::{Card, Seen};
use super::lane::{Lane, SOON};
use super::step::Step;

/// How long the chosen system call is awaited after its step is over: a daemon's clock ticks four
/// times a second, a shim may rest.
const LATE: Duration = Duration::from_secs(1);

/// Longest that one step may take with a kill in it.
const STEP_MAX: Duration = Duration::from_secs(60);

/// A life.
pub struct Life<'a> {
    lane: &'a mut Lane,
    name: String,
    cards: Vec<Card>,
    /// Which of the provider's nodes is expected to run it, then does.
    provider: usize,
    url: String,
    /// Rows that the database has said yes to.
    rows: Vec<u32>,
    /// The kills that happened.
    pub shots: Vec<(Card, Shot)>,
    /// Stops that were seen, if nobody is killed.
    pub seen: Option<Seen>,
}

impl<'a> Life<'a> {
    /// Prepares the life of an order with these kills in it.
    pub fn new(lane: &'a mut Lane, name: String, cards: Vec<Card>) -> Self {
        Self {
            lane,
            name,
            cards,
            provider: 0,
            url: String::new(),
            rows: Vec::new(),
            shots: Vec::new(),
            seen: None,
        }
    }

    /// Lives it once under watch without a kill, to see who makes how many system calls.
    pub fn watched(mut self) -> anyhow::Result<Seen> {
        self.seen = Some(Seen::new());
        self.live()?;
        Ok(self.seen.unwrap_or_default())
    }

    /// Lives it.
    ///
    /// # Errors
    /// A promise was broken.
    pub fn live(&mut self) -> anyhow::Result<()> {
        self.plan()?;
        self.order()?;
        self.use_it()?;
        self.usage()?;
        self.invoice()?;
        self.set_state(Step::Stop, "stop", "stopped")?;
        self.set_state(Step::Again, "start", "ready")?;
        self.check_rows()?;
        self.adopt()?;
        self.release()
    }

    fn customer(&self) -> &Home {
        &self.lane.customer
    }

    fn home_of(&self, part: Part) -> anyhow::Result<&Home> {
        match part {
            Part::Customer => Ok(&self.lane.customer),
            Part::Provider | Part::Shim => {
                let home = self.lane.providers.get(self.provider);
                home.context("a lane has two providers")
            }
        }
    }

    fn plan(&mut self) -> anyhow::Result<()> {
        let name = self.name.clone();
        let plan = |home: &Home, _: &Stepper| {
            home.meshctl(&["plan", "postgres", "--name", &name, "--json"])
        };
        let said = self.under(Step::Plan, plan)?;
        let shown = match said.code {
            0 => said.json()?,
            _ => until("a plan", SOON, || {
                let said = plan(self.customer(), &Stepper::default())?;
                Ok((said.code == 0).then_some(said))
            })?
            .json()?,
        };
        let first = rows(&shown, "candidates")?.next();
        let node = text(first.context("nobody can take it")?, "node")?;
        self.provider = self.index_of(&node)?;
        Ok(())
    }

    fn index_of(&self, node: &str) -> anyhow::Result<usize> {
        let at = self
            .lane
            .providers
            .iter()
            .position(|home| home.name == node);
        at.with_context(|| format!("{node} is not on this lane"))
    }

    /// Orders, and orders again until it is ready.
    fn order(&mut self) -> anyhow::Result<()> {
        let name = self.name.clone();
        let ticks = std::sync::Mutex::new(Vec::new());
        let order = |home: &Home, stepper: &Stepper| {
            let read = order(home, &name, stepper)?;
            if let Ok(mut ticks) = ticks.lock() {
                ticks.extend(read);
            }
            Ok(())
        };
        self.under(Step::Order, order)?;
        for tick in ticks.into_inner().unwrap_or_default() {
            self.lane.book.tick(&self.name, &tick);
        }
        if self.lane.book.is_acknowledged(&self.name) {
            let shown = self
                .show()?
                .context("an order that was acknowledged is lost")?;
            self.lane.book.check_order(&self.name, &shown)?;
        }
        self.await_ready()?;
        self.single()?;
        self.url = self.customer().url(&self.name)?;
        Ok(())
    }

    /// Waits until the service is ready; an order that was never acknowledged may have to be
    /// repeated.
    fn await_ready(&mut self) -> anyhow::Result<()> {
        let acknowledged = self.lane.book.is_acknowledged(&self.name);
        let (home, name) = (self.lane.customer.quietly(), self.name.clone());
        let state = |shown: &Option<Value>| {
            let shown = shown.as_ref()?;
            Some(shown.get("state")?.as_str()?.to_owned())
        };
        let shown = until(&format!("{name} is ready"), SOON, || {
            let shown = show(&home, &name)?;
            let state = state(&shown);
            if state.as_deref() == Some("ready") {
                return Ok(shown);
            }
            let gone = matches!(state.as_deref(), None | Some("destroyed" | "destroying"));
            if gone && acknowledged {
                bail!("{name} was acknowledged, and is {state:?} now");
            }
            if gone {
                home.meshctl(&ordering(&name))?;
            }
            Ok(None)
        })?;
        let node = text(&shown, "node")?;
        self.provider = self.index_of(&node)?;
        self.lane.book.check_order(&name, &shown)
    }

    fn show(&self) -> anyhow::Result<Option<Value>> {
        show(&self.customer().quietly(), &self.name)
    }

    fn use_it(&mut self) -> anyhow::Result<()> {
        self.ask("create table t(i int)")?;
        let url = self.url.clone();
        let written = std::sync::Mutex::new(Vec::new());
        let write = |home: &Home, _: &Stepper| {
            for number in 1..=3 {
                let insert = format!("insert into t values ({number})");
                let said = home.psql(&url, &insert)?;
                if let (0, Ok(mut written)) = (said.code, written.lock()) {
                    written.push(number);
                }
                // A line of the log, which the shim has to write.
                home.psql(&url, "select 1/0")?;
            }
            Ok(())
        };
        self.under(Step::Use, write)?;
        self.rows = written.into_inner().unwrap_or_default();
        self.check_rows()
    }

    /// Asks the database until it answers.
    fn ask(&self, question: &str) -> anyhow::Result<String> {
        let said = until(&format!("{} answers", self.name), SOON, || {
            let said = self.customer().psql(&self.url, question)?;
            let again = said.stderr.contains("already exists");
            Ok((said.code == 0 || again).then_some(said))
        })?;
        Ok(said.stdout.trim_end().to_owned())
    }

    /// Checks that everything that the database has said yes to is there.
    fn check_rows(&self) -> anyhow::Result<()> {
        let there = self.ask("select string_agg(distinct i::text, ' ') from t")?;
        for row in &self.rows {
            ensure!(
                there.split(' ').any(|there| there == row.to_string()),
                "row {row} of {} is lost: {there} are there",
                self.name
            );
        }
        Ok(())
    }

    fn usage(&mut self) -> anyhow::Result<()> {
        let ask = |home: &Home, _: &Stepper| home.meshctl(&["usage", "--now", "--json"]);
        let said = self.under(Step::Usage, ask)?;
        let said = match said.code {
            0 => said,
            _ => until("a statement of usage", SOON, || {
                let said = ask(self.customer(), &Stepper::default())?;
                Ok((said.code == 0).then_some(said))
            })?,
        };
        let home = self.lane.customer.clone();
        self.lane.book.note_answer(&home, &said.json()?)
    }

    fn invoice(&mut self) -> anyhow::Result<()> {
        let seller = self.lane.providers[0].clone();
        let look = |home: &Home, _: &Stepper| {
            for home in [home, &seller] {
                home.meshctl(&["invoice", "ls"])?;
            }
            Ok(())
        };
        self.under(Step::Invoice, look)?;
        let verify = || -> anyhow::Result<Option<()>> {
            let list = self
                .customer()
                .meshctl(&["invoice", "ls", "--json"])?
                .json()?;
            let Some(first) = rows(&list, "invoices")?.next() else {
                return Ok(None);
            };
            let number = text(first, "number")?;
            let verified = self.customer().meshctl(&["invoice", "verify", &number])?;
            verified.ok().map(|_| Some(()))
        };
        until("an invoice", SOON, verify)
    }

    fn set_state(&mut self, step: Step, verb: &str, state: &str) -> anyhow::Result<()> {
        let name = self.name.clone();
        let set = |home: &Home, _: &Stepper| home.meshctl(&[verb, &name, "--timeout", PATIENCE]);
        self.under(step, set)?;
        until(&format!("{name} is {state}"), SOON, || {
            let shown = self.show()?.context("an order is lost")?;
            if text(&shown, "state")? == state {
                return Ok(Some(()));
            }
            // What was not acknowledged may have to be said again.
            let said = set(self.customer(), &Stepper::default())?;
            ensure!(said.code != 6, "the order changes its mind:\n{said}");
            Ok(None)
        })?;
        if state == "ready" {
            self.single()?;
        }
        Ok(())
    }

    /// Lets a daemon end and begin again, and kills it while it begins.
    fn adopt(&mut self) -> anyhow::Result<()> {
        let card = self.card(Step::Adopt);
        if card.is_none() && self.seen.is_none() {
            return Ok(());
        }
        self.lane.note()?;
        let before = of_service(&self.name);
        let parts = match card {
            Some(card) => card.target.parts(),
            None => vec![Part::Customer, Part::Provider],
        };
        for part in parts.iter().filter(|part| **part != Part::Shim) {
            self.adopt_under(*part, card)?;
        }
        self.lane.settle()?;
        self.await_ready()?;
        self.survived(&before, &parts, card.is_some())?;
        self.lane.note()?;
        self.check_rows()
    }

    fn adopt_under(&mut self, part: Part, card: Option<Card>) -> anyhow::Result<()> {
        let home = self.home_of(part)?.clone();
        home.stop()?;
        let mut command = home.unstarted_and_stopped("meshnode", &["start"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut launcher = command.spawn().context("cannot start a daemon")?;
        let pid = Pid::from_raw(i32::try_from(launcher.id())?);
        until("the launcher stands", SOON, || {
            Ok((processes::state(pid) == Some('T')).then_some(()))
        })?;
        let mut prey = vec![(pid, Being::Launcher(part))];
        if card.is_some_and(|card| card.target.parts().contains(&Part::Shim)) {
            prey.extend(self.shim_prey());
        }
        let hunt = self.begin(prey, card)?;
        hunt.stepper().enter(Step::Adopt.number());
        kill(pid, Signal::SIGCONT).context("the launcher is gone")?;
        let catch = match card {
            Some(_) => hunt.strike(Duration::from_secs(10))?,
            None => {
                let answers = || Ok((home.meshctl(&["status"])?.code == 0).then_some(()));
                until("the daemon answers", SOON, answers)?;
                hunt.end()?
            }
        };
        launcher.wait().context("cannot wait for the launcher")?;
        self.take(catch, card);
        if card.is_some() {
            home.start()?;
        }
        Ok(())
    }

    fn release(&mut self) -> anyhow::Result<()> {
        let name = self.name.clone();
        let destroy = |home: &Home, _: &Stepper| {
            home.meshctl(&["destroy", &name, "--yes", "--timeout", PATIENCE])
        };
        self.under(Step::Release, destroy)?;
        until(&format!("{name} is gone"), SOON, || {
            let running = of_service(&name) != Running::default();
            for home in &self.lane.providers {
                let status = home.status()?;
                if running || rows(&status, "held")?.next().is_some() {
                    destroy(self.customer(), &Stepper::default())?;
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
    }

    fn card(&self, step: Step) -> Option<Card> {
        let is_of = |card: &&Card| match step {
            Step::Order => card.step.is_of_order(),
            _ => card.step == step,
        };
        self.cards.iter().find(is_of).copied()
    }

    fn begin(&self, prey: Vec<(Pid, Being)>, card: Option<Card>) -> anyhow::Result<Hunt> {
        let aim = card.map(|card| Aim {
            doomed: card.target.parts(),
            step: card.step.number(),
            call: card.call,
            stops: card.stops,
        });
        // What the customer reads comes later than what it tells of.
        let synced = Sign::Executed(Part::Provider, libc::SYS_fdatasync);
        let turn = |from: Step, sign, to: Step| Turn {
            from: from.number(),
            sign,
            to: to.number(),
        };
        let turns = vec![
            turn(Step::Reserve, synced, Step::Award),
            turn(Step::Create, Sign::Birth, Step::Start),
        ];
        Hunt::begin(prey, aim, turns)
    }

    fn shim_prey(&self) -> Vec<(Pid, Being)> {
        let shims = of_service(&self.name).shims;
        shims.iter().map(|life| (life.pid, Being::Shim)).collect()
    }

    fn take(&mut self, catch: Catch, card: Option<Card>) {
        if let Some(seen) = &mut self.seen {
            seen.extend(catch.stops);
        }
        if let (Some(shot), Some(card)) = (catch.shot, card) {
            println!("{}: {:?} {:?} {shot:?}", self.name, card.step, card.target);
            self.shots.push((card, shot));
        }
    }

    /// Does something in a step, and meanwhile watches or kills, starts again who was killed, and
    /// compares what everybody says with what was said before.
    fn under<T: Send>(
        &mut self,
        step: Step,
        act: impl Fn(&Home, &Stepper) -> anyhow::Result<T> + Sync,
    ) -> anyhow::Result<T> {
        let card = self.card(step);
        if card.is_none() && self.seen.is_none() {
            return act(self.customer(), &Stepper::default());
        }
        self.lane.note()?;
        let parts = match card {
            Some(card) => card.target.parts(),
            None => vec![Part::Customer, Part::Provider, Part::Shim],
        };
        let before = of_service(&self.name);
        let hunt = self.begin(self.prey(step, &parts)?, card)?;
        let stepper = hunt.stepper();
        stepper.enter(step.number());
        let customer = self.lane.customer.clone();
        let (acted, catch) = thread::scope(|scope| {
            let acting = scope.spawn(|| act(&customer, &stepper));
            let waited = until("the end of a step", STEP_MAX, || {
                Ok((hunt.is_over() || acting.is_finished()).then_some(()))
            });
            let catch = match card {
                Some(_) => hunt.strike(LATE),
                None => hunt.end(),
            };
            let again = catch.and_then(|catch| {
                self.start_again(&catch)?;
                Ok(catch)
            });
            let acted = acting.join();
            (waited.map(|()| acted), again)
        });
        let (acted, catch) = (acted?, catch?);
        self.take(catch, card);
        let acted = match acted {
            Ok(acted) => acted?,
            Err(_) => bail!("a step fell"),
        };
        if card.is_some() {
            self.lane.settle()?;
            self.lane.note()?;
            if card.is_some_and(|card| card.step.leaves_running()) && step != Step::Order {
                self.await_ready()?;
                self.survived(&before, &parts, true)?;
            }
        }
        Ok(acted)
    }

    /// Returns whom to trace so that these can be counted and killed.
    fn prey(&self, step: Step, parts: &[Part]) -> anyhow::Result<Vec<(Pid, Being)>> {
        let mut prey = Vec::new();
        if parts.contains(&Part::Customer) {
            let daemon = self.home_of(Part::Customer)?.daemon()?;
            prey.push((daemon, Being::Daemon(Part::Customer)));
        }
        // A shim that is not born yet is seen through its parent, and so is what the provider does
        // with an order.
        if parts.iter().any(|part| *part != Part::Customer) || step == Step::Order {
            let daemon = self.home_of(Part::Provider)?.daemon()?;
            prey.push((daemon, Being::Daemon(Part::Provider)));
        }
        if parts.contains(&Part::Shim) {
            prey.extend(self.shim_prey());
        }
        Ok(prey)
    }

    fn start_again(&self, catch: &Catch) -> anyhow::Result<()> {
        let Some(shot) = &catch.shot else {
            return Ok(());
        };
        for (part, pid) in shot.killed.iter().filter(|(part, _)| *part != Part::Shim) {
            let home = self.home_of(*part)?;
            until("the killed daemon is gone", SOON, || {
                Ok(processes::Life::of(*pid).is_none().then_some(()))
            })?;
            home.start()?;
        }
        Ok(())
    }

    /// Checks that an instance went on through the end of its daemon.
    fn survived(&self, before: &Running, parts: &[Part], killed: bool) -> anyhow::Result<()> {
        let after = self.single()?;
        let shim_died = killed && parts.contains(&Part::Shim);
        if !shim_died && !before.mains.is_empty() {
            ensure!(
                after == *before,
                "{} was started anew: {before:?}, then {after:?}",
                self.name
            );
        }
        Ok(())
    }

    /// Waits until the order runs, and checks that it runs once, held by one node.
    fn single(&self) -> anyhow::Result<Running> {
        let name = &self.name;
        // A shim that was killed takes a moment to be missed and started again.
        let running = until(&format!("{name} runs once"), SOON, || {
            let running = of_service(name);
            ensure!(running.mains.len() <= 1, "{name} runs twice: {running:?}");
            let once = running.shims.len() == 1 && running.mains.len() == 1;
            Ok(once.then_some(running))
        })?;
        let mut holders = Vec::new();
        for home in &self.lane.providers {
            let status = home.status()?;
            for held in rows(&status, "held")? {
                ensure!(text(held, "name")? == *name, "{} holds {held}", home.name);
                holders.push(home.name.clone());
            }
        }
        ensure!(holders.len() == 1, "{name} is held by {holders:?}");
        Ok(running)
    }
}

fn show(home: &Home, name: &str) -> anyhow::Result<Option<Value>> {
    let said = home.meshctl(&["show", name, "--json"])?;
    match said.code {
        0 => said.json().map(Some),
        5 => Ok(None),
        _ => bail!("an order cannot be shown:\n{said}"),
    }
}

/// Orders, and says each step as its customer reads it. Returns the ticks that were read.
fn order(home: &Home, name: &str, stepper: &Stepper) -> anyhow::Result<Vec<String>> {
    let mut command = home.unstarted("meshctl", &ordering(name));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot order")?;
    let mut screen = child.stderr.take().context("an order has a screen")?;
    let mut text = String::new();
    let mut ticks: Vec<String> = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let len = screen.read(&mut piece).context("cannot read a screen")?;
        if len == 0 {
            break;
        }
        text.push_str(&String::from_utf8_lossy(
            piece.get(..len).unwrap_or_default(),
        ));
        for tick in TICKS {
            if text.contains(tick) && !ticks.iter().any(|read| read == tick) {
                ticks.push(tick.to_owned());
                if let Some(step) = Step::after(tick) {
                    stepper.enter(step.number());
                }
            }
        }
    }
    end(child)?;
    Ok(ticks)
}

/// Returns the arguments of an order.
const fn ordering(name: &str) -> [&str; 6] {
    ["order", "postgres", "--name", name, "--timeout", PATIENCE]
}

/// How long a command may wait for others.
const PATIENCE: &str = "40s";

/// What a customer reads while ordering.
const TICKS: [&str; 6] = [
    "planned",
    "reserved",
    "awarded",
    "software ready",
    "started",
    "promises hold",
];

/// Waits for the end of a command that has closed its screen.
fn end(mut child: Child) -> anyhow::Result<()> {
    let start = Instant::now();
    until("a command ends", SOON, || Ok(child.try_wait()?))
        .with_context(|| format!("after {:?}", start.elapsed()))
        .map(drop)
}
