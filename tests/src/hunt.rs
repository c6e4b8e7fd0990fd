//! Kills a daemon, a shim or both at a chosen system call, by tracing them with ptrace(2).
//!
//! ```text
//!   seize the threads ─► every entry into and exit from a system call is a stop ─► count
//!        │                         │ the n-th since a step began: SIGKILL to all who are doomed
//!        └── children: threads and shims are followed, everything else is let go at once
//! ```
//! A call that is killed at its entry is not executed, one that is killed at its exit has been: so
//! a draw over stops is a draw over what the world has and has not seen. The one who traces is a
//! thread of its own, because ptrace(2) knows only the thread that seized; it sleeps in waitpid(2),
//! and others wake it by a signal that the traced never see. Decides nothing about when or whom.
//!
//! Invariant: when a hunt is over, nobody is traced any more, and only the doomed were killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::processes::{command_line, process_of};
use crate::syscalls;
use crate::until::until;

/// Who is hunted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The daemon that ordered.
    Customer,
    /// The daemon that runs what was ordered.
    Provider,
    /// The process that owns the instance.
    Shim,
}

/// What a traced process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Being {
    /// A daemon; if it is the provider's, the shims that it starts are followed.
    Daemon(Part),
    /// A command that is about to start a daemon.
    Launcher(Part),
    /// A daemon's child that has not said yet what it is.
    Child(Part),
    /// A shim's first life, before it detaches.
    Starter,
    /// A shim.
    Shim,
}

impl Being {
    /// Returns whose system calls its own are.
    const fn part(self) -> Option<Part> {
        match self {
            Self::Daemon(part) => Some(part),
            Self::Starter | Self::Shim => Some(Part::Shim),
            Self::Launcher(_) | Self::Child(_) => None,
        }
    }

    /// Returns what its child is; none if nobody follows it.
    const fn child(self) -> Option<Self> {
        match self {
            Self::Daemon(Part::Provider) => Some(Self::Child(Part::Provider)),
            Self::Launcher(part) => Some(Self::Launcher(part)),
            Self::Starter => Some(Self::Shim),
            _ => None,
        }
    }
}

/// What somebody traced does, as far as steps turn on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// A shim is born.
    Birth,
    /// A system call of this number was executed.
    Executed(Part, libc::c_long),
}

/// A step that ends and another that begins when the first sign is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The step that ends.
    pub from: usize,
    /// The sign.
    pub sign: Sign,
    /// The step that begins.
    pub to: usize,
}

/// Whom to kill and when.
#[derive(Debug, Clone)]
pub struct Aim {
    /// Who is killed, and whose system calls are counted.
    pub doomed: Vec<Part>,
    /// The step in which counting begins.
    pub step: usize,
    /// At which system call.
    pub call: libc::c_long,
    /// At the how-manieth stop at that call.
    pub stops: u64,
}

/// A kill that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shot {
    /// The step that was under way.
    pub step: usize,
    /// The system call that it happened at.
    pub call: String,
    /// Whether that call was executed.
    pub executed: bool,
    /// Who was killed.
    pub killed: Vec<(Part, Pid)>,
}

/// What a hunt brought home.
#[derive(Debug, Default)]
pub struct Catch {
    /// The kill, if there was one.
    pub shot: Option<Shot>,
    /// Stops counted, by who, by step and by system call.
    pub stops: BTreeMap<(Part, usize, libc::c_long), u64>,
}

/// What both threads see.
#[derive(Debug)]
struct Shared {
    step: AtomicUsize,
    aim: Option<Aim>,
    /// Stops until the kill; far away while it is not armed.
    left: AtomicI64,
    ending: AtomicBool,
    turns: Vec<Turn>,
    /// Processes that can be woken.
    awake: Mutex<Vec<Pid>>,
}

impl Shared {
    fn enter(&self, step: usize) {
        self.step.store(step, Ordering::SeqCst);
        if let Some(aim) = self.aim.as_ref().filter(|aim| aim.step == step) {
            let stops = i64::try_from(aim.stops).unwrap_or(i64::MAX);
            self.left.store(stops, Ordering::SeqCst);
        }
    }

    /// Takes one off what was `left`, unless somebody has set it since: that counts.
    fn count_down(&self, left: i64) {
        let order = Ordering::SeqCst;
        let _ = self.left.compare_exchange(left, left - 1, order, order);
    }
}

/// A running hunt.
#[derive(Debug)]
pub struct Hunt {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<anyhow::Result<Catch>>>,
}

/// Tells a hunt which step is under way.
#[derive(Debug, Clone, Default)]
pub struct Stepper(Option<Arc<Shared>>);

impl Stepper {
    /// Says that a step begins; without a hunt nobody hears it.
    pub fn enter(&self, step: usize) {
        if let Some(shared) = &self.0 {
            shared.enter(step);
        }
    }
}

/// Stops that never come.
const FAR: i64 = i64::MAX;

/// A signal that is ignored by whoever does not wait for it, and that the traced never see.
const WAKE: Signal = Signal::SIGWINCH;

/// How long the traced may take to stop once.
const PATIENCE: Duration = Duration::from_secs(20);

impl Hunt {
    /// Seizes processes and begins to count. `turns` are the steps whose beginning is seen here
    /// sooner than anywhere else.
    ///
    /// # Errors
    /// A process cannot be traced.
    pub fn begin(
        prey: Vec<(Pid, Being)>,
        aim: Option<Aim>,
        turns: Vec<Turn>,
    ) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            step: AtomicUsize::new(usize::MAX),
            aim,
            left: AtomicI64::new(FAR),
            ending: AtomicBool::new(false),
            turns,
            awake: Mutex::default(),
        });
        let (ready, seized) = mpsc::channel();
        let own = Arc::clone(&shared);
        let hunter = move || {
            let mut hunter = Hunter::new(own);
            hunter.seize_all(&prey)?;
            // Whoever began the hunt waits for this; if not, it ends by itself.
            let _ = ready.send(());
            hunter.run()
        };
        let thread = std::thread::Builder::new()
            .name("hunter".to_owned())
            .spawn(hunter)
            .context("cannot start a thread")?;
        let hunt = Self {
            shared,
            thread: Some(thread),
        };
        if seized.recv_timeout(PATIENCE).is_err() {
            return Err(hunt
                .end()
                .err()
                .unwrap_or_else(|| anyhow!("nobody to trace")));
        }
        Ok(hunt)
    }

    /// Returns who says which step is under way.
    pub fn stepper(&self) -> Stepper {
        Stepper(Some(Arc::clone(&self.shared)))
    }

    /// Returns whether it is over: everybody is dead or let go.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the kill; after `patience` it comes wherever the doomed stand.
    ///
    /// # Errors
    /// Tracing failed.
    pub fn strike(self, patience: Duration) -> anyhow::Result<Catch> {
        let waited = until("the kill", patience, || Ok(self.is_over().then_some(())));
        if waited.is_err() {
            self.shared.left.store(0, Ordering::SeqCst);
            self.wake();
        }
        self.finish()
    }

    /// Lets everybody go.
    ///
    /// # Errors
    /// Tracing failed.
    pub fn end(self) -> anyhow::Result<Catch> {
        self.shared.ending.store(true, Ordering::SeqCst);
        self.wake();
        self.finish()
    }

    fn wake(&self) {
        for pid in self.shared.awake.lock().iter().flat_map(|all| all.iter()) {
            // Gone already: then the hunter sees that instead.
            let _ = kill(*pid, WAKE);
        }
    }

    fn finish(mut self) -> anyhow::Result<Catch> {
        let over = until("the hunt is over", PATIENCE, || {
            if self.is_over() {
                return Ok(Some(()));
            }
            self.wake();
            Ok(None)
        });
        over?;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(caught)) => caught,
            _ => bail!("the hunter fell"),
        }
    }
}

/// The thread that traces.
struct Hunter {
    shared: Arc<Shared>,
    /// Process of each traced thread.
    threads: BTreeMap<Pid, Pid>,
    beings: BTreeMap<Pid, Being>,
    /// Stopped newcomers whose parent has not reported them yet.
    waiting: BTreeSet<Pid>,
    /// Reported newcomers, with their parent's process.
    reported: BTreeMap<Pid, Pid>,
    catch: Catch,
    leaving: bool,
}

impl Hunter {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            threads: BTreeMap::new(),
            beings: BTreeMap::new(),
            waiting: BTreeSet::new(),
            reported: BTreeMap::new(),
            catch: Catch::default(),
            leaving: false,
        }
    }

    fn seize_all(&mut self, prey: &[(Pid, Being)]) -> anyhow::Result<()> {
        for (pid, being) in prey {
            self.know(*pid, *being);
            // New threads of traced ones are traced from birth, so this ends.
            while self.seize(*pid)? {}
        }
        Ok(())
    }

    /// Seizes the threads of a process; returns whether there was one that was not traced yet.
    fn seize(&mut self, pid: Pid) -> anyhow::Result<bool> {
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC;
        let mut found = false;
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).context("whom to trace is gone")?;
        for name in tasks.flatten().map(|task| task.file_name()) {
            let number = name.to_str().and_then(|name| name.parse().ok());
            let Some(tid) = number.map(Pid::from_raw) else {
                continue;
            };
            if self.threads.contains_key(&tid) {
                continue;
            }
            match ptrace::seize(tid, options) {
                // It was born traced, or has ended meanwhile.
                Err(Errno::EPERM) if found || !self.threads.is_empty() => continue,
                Err(Errno::ESRCH) => continue,
                seized => seized.with_context(|| format!("cannot trace {tid}"))?,
            }
            self.threads.insert(tid, pid);
            found = true;
            // Gone: then its end is reported.
            let _ = ptrace::interrupt(tid);
        }
        Ok(found)
    }

    fn run(mut self) -> anyhow::Result<Catch> {
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        // Ends when nobody is traced any more, newcomers that nobody has reported included.
        loop {
            let status = match waitpid(None, Some(flags)) {
                Err(Errno::EINTR) => continue,
                Err(Errno::ECHILD) => return Ok(self.catch),
                status => status.context("cannot wait for the traced")?,
            };
            if self.shared.ending.load(Ordering::SeqCst) {
                self.leave();
            }
            self.handle(status);
        }
    }

    fn handle(&mut self, status: WaitStatus) {
        match status {
            WaitStatus::Exited(tid, _) | WaitStatus::Signaled(tid, _, _) => self.bury(tid),
            WaitStatus::PtraceSyscall(tid) => {
                self.count(tid);
                self.go_on(tid, None);
            }
            WaitStatus::PtraceEvent(tid, _, libc::PTRACE_EVENT_STOP) => self.stopped(tid),
            WaitStatus::PtraceEvent(tid, _, event) => self.event(tid, event),
            WaitStatus::Stopped(tid, WAKE) => {
                if self.shared.left.load(Ordering::SeqCst) <= 0 {
                    self.shoot(tid);
                }
                self.go_on(tid, None);
            }
            WaitStatus::Stopped(tid, signal) => self.go_on(tid, Some(signal)),
            _ => {}
        }
    }

    fn bury(&mut self, tid: Pid) {
        self.threads.remove(&tid);
        self.waiting.remove(&tid);
        self.reported.remove(&tid);
    }

    /// A newcomer's first stop, or one that we asked for.
    fn stopped(&mut self, tid: Pid) {
        if self.threads.contains_key(&tid) {
            return self.go_on(tid, None);
        }
        match self.reported.remove(&tid) {
            Some(parent) => self.welcome(tid, parent),
            None if self.leaving => self.let_go(tid, None),
            None => {
                self.waiting.insert(tid);
            }
        }
    }

    fn event(&mut self, tid: Pid, event: libc::c_int) {
        let Some(process) = self.threads.get(&tid).copied() else {
            return self.let_go(tid, None);
        };
        match event {
            libc::PTRACE_EVENT_CLONE | libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK => {
                self.newcomer(tid, process);
            }
            libc::PTRACE_EVENT_EXEC => self.executed(tid, process),
            _ => self.go_on(tid, None),
        }
    }

    /// A traced thread has a child, or a sibling.
    fn newcomer(&mut self, tid: Pid, parent: Pid) {
        let child = ptrace::getevent(tid)
            .ok()
            .and_then(|raw| i32::try_from(raw).ok());
        if let Some(child) = child.map(Pid::from_raw) {
            if self.waiting.remove(&child) {
                self.welcome(child, parent);
            } else {
                self.reported.insert(child, parent);
            }
        }
        self.go_on(tid, None);
    }

    /// Decides whether a stopped newcomer is followed.
    fn welcome(&mut self, tid: Pid, parent: Pid) {
        let process = process_of(tid).unwrap_or(tid);
        if process == parent {
            self.threads.insert(tid, process);
            return self.go_on(tid, None);
        }
        let child = self.beings.get(&parent).and_then(|being| being.child());
        match child.filter(|_| !self.leaving) {
            Some(being) => {
                self.know(process, being);
                self.threads.insert(tid, process);
                self.go_on(tid, None);
            }
            None => self.let_go(tid, None),
        }
    }

    fn know(&mut self, process: Pid, being: Being) {
        self.beings.insert(process, being);
        if let Ok(mut awake) = self.shared.awake.lock() {
            awake.push(process);
        }
    }

    /// A traced process has become another program.
    fn executed(&mut self, tid: Pid, process: Pid) {
        let words = command_line(process);
        let has = |word: &str| words.iter().any(|said| said == word);
        let being = match self.beings.get(&process).copied() {
            Some(Being::Child(_)) if has("shim") && has("run") => Some(Being::Starter),
            Some(Being::Child(_)) => None,
            Some(Being::Launcher(part)) if has("--foreground") => Some(Being::Daemon(part)),
            known => known,
        };
        match being {
            Some(being) => {
                self.beings.insert(process, being);
                self.notice(being);
                self.go_on(tid, None);
            }
            None => self.let_go(tid, None),
        }
    }

    fn notice(&mut self, being: Being) {
        match being {
            Being::Starter => self.turn(Sign::Birth),
            Being::Daemon(_) => {
                // Whoever started it is let go: its work is done.
                let launchers = self
                    .threads
                    .iter()
                    .filter(|(_, of)| matches!(self.beings.get(of), Some(Being::Launcher(_))));
                for tid in launchers.map(|(tid, _)| *tid) {
                    let _ = ptrace::interrupt(tid);
                }
            }
            _ => {}
        }
    }

    /// Goes to the step that a sign leads to.
    fn turn(&self, sign: Sign) {
        let step = self.shared.step.load(Ordering::SeqCst);
        let mut turns = self.shared.turns.iter();
        if let Some(turn) = turns.find(|turn| turn.from == step && turn.sign == sign) {
            self.shared.enter(turn.to);
        }
    }

    /// Counts a stop, and kills if it is the one.
    fn count(&mut self, tid: Pid) {
        let process = self.threads.get(&tid);
        let being = process.and_then(|process| self.beings.get(process));
        let Some(part) = being.and_then(|being| being.part()) else {
            return;
        };
        let (Some(call), executed) = call_of(tid) else {
            return;
        };
        let step = self.shared.step.load(Ordering::SeqCst);
        *self.catch.stops.entry((part, step, call)).or_default() += 1;
        if executed {
            self.turn(Sign::Executed(part, call));
        }
        let aim = self
            .shared
            .aim
            .as_ref()
            .filter(|_| self.catch.shot.is_none());
        let Some(aim) = aim.filter(|aim| aim.doomed.contains(&part)) else {
            return;
        };
        let left = self.shared.left.load(Ordering::SeqCst);
        if left <= 0 || left == 1 && aim.call == call {
            self.shoot(tid);
        } else if left != FAR && aim.call == call {
            self.shared.count_down(left);
        }
    }

    /// Kills everybody who is doomed.
    fn shoot(&mut self, tid: Pid) {
        let Some(aim) = self
            .shared
            .aim
            .clone()
            .filter(|_| self.catch.shot.is_none())
        else {
            return;
        };
        let step = self.shared.step.load(Ordering::SeqCst);
        let (call, executed) = call_of(tid);
        let mut killed = Vec::new();
        for (process, being) in &self.beings {
            let Some(part) = being.part().filter(|part| aim.doomed.contains(part)) else {
                continue;
            };
            let lives = self.threads.values().any(|of| of == process);
            if lives && kill(*process, Signal::SIGKILL).is_ok() {
                killed.push((part, *process));
            }
        }
        self.catch.shot = Some(Shot {
            step,
            call: call.map_or_else(|| "none".to_owned(), syscalls::name),
            executed,
            killed,
        });
        self.leave();
    }

    /// Lets everybody go from now on, as they stop.
    fn leave(&mut self) {
        if self.leaving {
            return;
        }
        self.leaving = true;
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().for_each(|tid| self.let_go(tid, None));
        let all: Vec<Pid> = self.threads.keys().copied().collect();
        all.into_iter().for_each(|tid| {
            // It stands already, or is gone.
            let _ = ptrace::interrupt(tid);
        });
    }

    fn go_on(&mut self, tid: Pid, signal: Option<Signal>) {
        if self.leaving || self.is_done_with(tid) {
            return self.let_go(tid, signal);
        }
        // One that was killed while it stood cannot go on; its end is reported.
        let _ = ptrace::syscall(tid, signal);
    }

    /// Returns whether a thread belongs to a command that has started its daemon.
    fn is_done_with(&self, tid: Pid) -> bool {
        let being = self.threads.get(&tid).and_then(|of| self.beings.get(of));
        let Some(Being::Launcher(part)) = being else {
            return false;
        };
        self.beings
            .values()
            .any(|being| *being == Being::Daemon(*part))
    }

    fn let_go(&mut self, tid: Pid, signal: Option<Signal>) {
        // One that was killed while it stood cannot be let go; its end is reported.
        if ptrace::detach(tid, signal).is_ok() {
            self.bury(tid);
        }
    }
}

/// Returns the system call at which a stopped thread stands, if any, and whether it was executed.
fn call_of(tid: Pid) -> (Option<libc::c_long>, bool) {
    let text = fs::read_to_string(format!("/proc/{tid}/syscall")).unwrap_or_default();
    let number = text.split_whitespace().next();
    let number: Option<libc::c_long> = number.and_then(|number| number.parse().ok());
    let executed = ptrace::syscall_info(tid).is_ok_and(|info| info.op == EXIT);
    (number.filter(|number| 0 <= *number), executed)
}

/// How ptrace(2) marks a stop at the exit from a system call (`PTRACE_SYSCALL_INFO_EXIT`).
const EXIT: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strike_is_not_undone_by_a_stop_that_is_being_counted() {
        let shared = Shared {
            step: AtomicUsize::new(0),
            aim: None,
            left: AtomicI64::new(7),
            ending: AtomicBool::new(false),
            turns: Vec::new(),
            awake: Mutex::default(),
        };
        shared.count_down(7);
        assert_eq!(shared.left.load(Ordering::SeqCst), 6);
        // Read by who counts, then set by who strikes.
        let read = shared.left.swap(0, Ordering::SeqCst);
        shared.count_down(read);
        assert_eq!(shared.left.load(Ordering::SeqCst), 0);
    }
}
