//! A few threads that run jobs; jobs with one key run one after the other, in order.
//!
//! Steps of one instance must not overtake each other, steps of different ones should not wait for
//! each other. Decides only that order. Invariant: a key is in `ready` or with a worker exactly if
//! it has jobs, and never in both places.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

type Job = Box<dyn FnOnce() + Send>;

struct State<K> {
    jobs: BTreeMap<K, VecDeque<Job>>,
    ready: VecDeque<K>,
    closed: bool,
}

struct Shared<K> {
    state: Mutex<State<K>>,
    changed: Condvar,
}

impl<K> Shared<K> {
    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The threads. Dropping it lets them finish the job at hand and forgets the rest.
pub struct Workers<K: Ord + Clone + Send + 'static> {
    shared: Arc<Shared<K>>,
}

impl<K: Ord + Clone + Send + 'static> Workers<K> {
    /// Starts `count` threads, each of which does `before` first; jobs wait until then.
    pub fn start(
        name: &str,
        count: usize,
        before: impl Fn() + Clone + Send + 'static,
    ) -> std::io::Result<Self> {
        let state = State {
            jobs: BTreeMap::new(),
            ready: VecDeque::new(),
            closed: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let workers = Self { shared };
        for number in 0..count {
            let (shared, before) = (Arc::clone(&workers.shared), before.clone());
            std::thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || {
                    before();
                    work(&shared);
                })?;
        }
        Ok(workers)
    }

    /// Queues a job behind the others of its key. The node bounds them: it has few steps of each
    /// instance under way, and few instances.
    pub fn run(&self, key: K, job: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.state();
        if let Some(waiting) = state.jobs.get_mut(&key) {
            waiting.push_back(Box::new(job));
            return;
        }
        state
            .jobs
            .insert(key.clone(), VecDeque::from([Box::new(job) as Job]));
        state.ready.push_back(key);
        self.shared.changed.notify_one();
    }
}

impl<K: Ord + Clone + Send + 'static> Drop for Workers<K> {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_all();
    }
}

fn work<K: Ord + Clone>(shared: &Shared<K>) {
    loop {
        let mut state = shared.state();
        let (key, job) = loop {
            if state.closed {
                return;
            }
            if let Some(key) = state.ready.pop_front() {
                let job = state.jobs.get_mut(&key).and_then(VecDeque::pop_front);
                break (key, job);
            }
            state = shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        if let Some(job) = job
            && catch_unwind(AssertUnwindSafe(job)).is_err()
        {
            // The panic hook has said where; the node asks for the step again.
            tracing::error!("a step ended by a fault of ours");
        }
        let mut state = shared.state();
        if state
            .jobs
            .get(&key)
            .is_some_and(|waiting| !waiting.is_empty())
        {
            state.ready.push_back(key);
            shared.changed.notify_one();
        } else {
            state.jobs.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn jobs_of_one_key_keep_their_order() {
        let workers = Workers::start("test", 4, || {}).unwrap();
        let (done, results) = mpsc::channel();
        for number in 0..200 {
            let done = done.clone();
            workers.run(number % 3, move || done.send(number).unwrap());
        }
        let got: Vec<i32> = results.iter().take(200).collect();
        for key in 0..3 {
            let of_key: Vec<i32> = got
                .iter()
                .copied()
                .filter(|number| number % 3 == key)
                .collect();
            assert!(of_key.is_sorted(), "{of_key:?}");
        }
    }

    #[test]
    fn other_keys_do_not_wait_and_a_fault_ends_one_job_only() {
        let workers = Workers::start("test", 2, || {}).unwrap();
        let (release, held) = mpsc::channel::<()>();
        let (done, results) = mpsc::channel();
        workers.run("a", move || held.recv().unwrap());
        let last = done.clone();
        workers.run("a", move || last.send("a").unwrap());
        workers.run("b", || panic!("a fault"));
        workers.run("b", move || done.send("b").unwrap());
        assert_eq!(results.recv(), Ok("b"));
        release.send(()).unwrap();
        assert_eq!(results.recv(), Ok("a"));
    }
}
