//! A living shim as the daemon sees it: questions with answers, progress, the end.
//!
//! One thread per shim reads and reports; askers wait on it. Invariant: an instance that was
//! reported started is reported stopped exactly once, however it ends.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::link::Link;
use mesh_compute::doors::Doors;
use mesh_compute::words::{FromShim, Outcome, Run, SOCKET, State, ToShim};

/// How far a shim is, as far as we heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Connected, nothing heard.
    Unknown,
    /// On its way up.
    Starting,
    /// Ready.
    Running,
    /// Could not be started.
    Failed(String),
    /// Ended; in words.
    Ended(String),
    /// The connection broke without a last word.
    Lost,
}

/// How an instance is reached.
#[derive(Debug)]
pub enum Network {
    /// By packets, on the TUN inside.
    Tun(OwnedFd),
    /// By connections to where it listens.
    Doors(Doors),
}

/// An answer to a question.
pub enum Answer {
    /// A command ended.
    Ran(Outcome),
    /// Processor time and memory.
    Metered(u64, u64),
}

/// A connection to a living shim.
pub struct Remote {
    link: Link,
    asked: Mutex<BTreeMap<u64, Sender<Answer>>>,
    next: AtomicU64,
    progress: Mutex<Progress>,
    changed: Condvar,
}

impl Remote {
    /// Connects to the shim of an instance folder.
    pub fn connect(folder: &Path) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            link: Link::connect(folder, SOCKET)?,
            asked: Mutex::default(),
            next: AtomicU64::new(1),
            progress: Mutex::new(Progress::Unknown),
            changed: Condvar::new(),
        }))
    }

    /// Reads until the shim is gone. `on_network` hears how the instance is reached, once for each
    /// TUN; `on_step` hears each change.
    pub fn read(&self, mut on_network: impl FnMut(Network), mut on_step: impl FnMut(&Progress)) {
        let mut known = None;
        while let Ok(Some(arrived)) = self.link.receive::<FromShim>() {
            if let Some(tun) = arrived.fd {
                on_network(Network::Tun(tun));
            }
            if let FromShim::Hello {
                doors: Some(doors), ..
            } = arrived.message
                && known.replace(doors) != Some(doors)
            {
                on_network(Network::Doors(doors));
            }
            let progress = match arrived.message {
                FromShim::Hello {
                    state: State::Starting,
                    ..
                } => Progress::Starting,
                FromShim::Hello {
                    state: State::Running | State::Stopping,
                    ..
                } => Progress::Running,
                FromShim::Hello {
                    state: State::Stopped,
                    ..
                } => continue,
                FromShim::Started => Progress::Running,
                FromShim::Failed { reason } => Progress::Failed(reason),
                FromShim::Exited { how } => Progress::Ended(how),
                FromShim::Ran { id, outcome } => {
                    self.answer(id, Answer::Ran(outcome));
                    continue;
                }
                FromShim::Metered {
                    id,
                    cpu_ms,
                    memory_mib,
                } => {
                    self.answer(id, Answer::Metered(cpu_ms, memory_mib));
                    continue;
                }
            };
            self.advance(progress, &mut on_step);
        }
        self.advance(Progress::Lost, &mut on_step);
        // Those who still wait see their channel close.
        lock(&self.asked).clear();
    }

    fn answer(&self, id: u64, answer: Answer) {
        if let Some(asker) = lock(&self.asked).remove(&id) {
            // An asker that no longer waits misses nothing.
            let _ = asker.send(answer);
        }
    }

    fn advance(&self, next: Progress, on_step: &mut impl FnMut(&Progress)) {
        // Only the reading thread writes, so what was read stays true below.
        let before = self.progress();
        let is_final = matches!(
            before,
            Progress::Failed(_) | Progress::Ended(_) | Progress::Lost
        );
        // A hello with the TUN may follow an earlier word.
        let is_old = before == Progress::Running && next == Progress::Starting;
        if is_final || is_old || before == next {
            return;
        }
        // Reported before those who wait go on: a step returns after its report.
        on_step(&next);
        *lock(&self.progress) = next;
        self.changed.notify_all();
    }

    /// Returns how far it is.
    pub fn progress(&self) -> Progress {
        lock(&self.progress).clone()
    }

    /// Waits until `done` says so, at most for `patience`; returns how far it is then.
    pub fn wait(&self, patience: Duration, done: impl Fn(&Progress) -> bool) -> Progress {
        let until = Instant::now() + patience;
        let mut progress = lock(&self.progress);
        while !done(&progress) {
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(progress, rest);
            (progress, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        progress.clone()
    }

    /// Asks the main process to end.
    pub fn stop(&self) -> std::io::Result<()> {
        self.link.send(&ToShim::Stop, None)
    }

    /// Runs a command inside; none if the shim did not answer in time.
    pub fn run(&self, run: Run) -> Option<Outcome> {
        let patience = Duration::from_millis(run.timeout_ms.into()) + ANSWER_PATIENCE;
        match self.ask(|id| ToShim::Run { id, run }, patience)? {
            Answer::Ran(outcome) => Some(outcome),
            Answer::Metered(..) => None,
        }
    }

    /// Reads processor time and memory.
    pub fn meter(&self) -> Option<(u64, u64)> {
        match self.ask(|id| ToShim::Meter { id }, ANSWER_PATIENCE)? {
            Answer::Metered(cpu_ms, memory_mib) => Some((cpu_ms, memory_mib)),
            Answer::Ran(_) => None,
        }
    }

    /// Ends the connection; the shim lives on.
    pub fn leave(&self) {
        self.link.shut_down();
    }

    fn ask(&self, question: impl FnOnce(u64) -> ToShim, patience: Duration) -> Option<Answer> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver): (_, Receiver<Answer>) = channel();
        lock(&self.asked).insert(id, sender);
        let sent = self.link.send(&question(id), None);
        let answer = sent
            .ok()
            .and_then(|()| receiver.recv_timeout(patience).ok());
        lock(&self.asked).remove(&id);
        answer
    }
}

/// How long a shim may take beside what a command itself takes.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// Locks, also after a panic elsewhere: every guarded value is whole between statements.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
