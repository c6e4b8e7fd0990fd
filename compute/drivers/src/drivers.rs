//! The door of this crate: runs steps, adopts what lives, hands over network descriptors.
//!
//! Calls block; the caller has threads of its own. Steps of one instance run one after the other,
//! those of different instances side by side. Every step is idempotent and reports through the
//! [`Listener`], as does whatever happens without being asked for.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mesh_base::digest::Digest;
use mesh_compute::doors::Doors;
use mesh_compute::recipe::{Limits, Recipe};
use mesh_compute::step::{Event, InstanceSpec, Isolation, ItemId, Meters, Step, Verdict};

use crate::cgroup::{self, Groups};
use crate::error::{At, DriverError, StartFault, sentence};
use crate::remote::{Network, Progress, Remote, lock};
use crate::slot::{self, Slot};
use crate::software::{self, Software, Store};
use crate::spare::Spares;
use crate::{files, log, process, remains, shim};

/// Where things lie and what can be run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Instances and spares; for this daemon alone.
    pub state_dir: PathBuf,
    /// Unpacked software; may be shared by the daemons of a machine.
    pub software_dir: PathBuf,
    /// The program that calls [`crate::shim::shim_main`] when its first argument is `shim`; in a
    /// daemon `/proc/self/exe`.
    pub exe: PathBuf,
    /// What can be run here.
    pub catalog: Vec<Recipe>,
    /// What keeps instances apart here; see [`no_sandbox`] and [`no_walls`].
    pub isolation: Isolation,
}

/// Hears what happens. Called from many threads; must not block for long.
pub trait Listener: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event);
    /// The TUN of an instance; handed over at each start and at each adoption.
    fn tun(&self, item: ItemId, tun: OwnedFd);
    /// An instance without a network of its own, which listens behind these doors, is to be reached
    /// at an address, on these ports; said at each start and at each adoption.
    fn doors(&self, item: ItemId, address: Ipv6Addr, doors: Doors, ports: Vec<u16>);
    /// The TUN or the doors of an instance are of no use any more.
    fn gone(&self, item: ItemId);
}

/// Runs instances. Dropping it leaves them running.
pub struct Drivers {
    inner: Arc<Inner>,
}

struct Inner {
    instances: PathBuf,
    store: Store,
    spares: Spares,
    exe: PathBuf,
    catalog: BTreeMap<Digest, Recipe>,
    listener: Arc<dyn Listener>,
    remotes: Mutex<BTreeMap<ItemId, Arc<Remote>>>,
    turns: Mutex<BTreeMap<ItemId, Arc<Mutex<()>>>>,
    closing: AtomicBool,
    /// How long the shim of a start may take beside the times that the recipe allows.
    shim_patience: Duration,
}

/// When new spares are made and secrets forgotten after a start: no order should wait for that.
const CHORES_AFTER: Duration = Duration::from_millis(500);
/// How often the door of a shim is tried that holds its slot and does not answer.
const FIND_PERIOD: Duration = Duration::from_millis(2);
/// How long a shim may take beside the times that a recipe allows.
const SHIM_PATIENCE: Duration = Duration::from_secs(10);

/// Returns why `exe`, which is as [`Config::exe`], can make no sandbox of namespaces on this
/// machine; none if it can.
pub fn no_sandbox(exe: &Path) -> Option<String> {
    refusal(exe, shim::TRY)
}

/// Returns why it can keep no instance apart without namespaces either; none if it can.
pub fn no_walls(exe: &Path) -> Option<String> {
    refusal(exe, shim::TRY_PROCESS)
}

fn refusal(exe: &Path, trial: &str) -> Option<String> {
    let tried = Command::new(exe)
        .args([shim::SHIM, trial])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    match tried {
        Ok(tried) if tried.status.success() => None,
        Ok(tried) => Some(String::from_utf8_lossy(&tried.stderr).trim().to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

impl Drivers {
    /// Opens the state folder. Call [`Drivers::adopt`] before the first step.
    pub fn new(config: Config, listener: Arc<dyn Listener>) -> Result<Self, DriverError> {
        Self::with_patience(config, listener, SHIM_PATIENCE)
    }

    fn with_patience(
        config: Config,
        listener: Arc<dyn Listener>,
        shim_patience: Duration,
    ) -> Result<Self, DriverError> {
        let instances = config.state_dir.join("instances");
        files::make_private(&instances)?;
        let by_digest = config
            .catalog
            .into_iter()
            .map(|recipe| (recipe.digest(), recipe));
        let inner = Inner {
            instances,
            store: Store::new(config.software_dir, config.exe.clone(), config.isolation),
            spares: Spares::new(config.state_dir.join("spares")),
            exe: config.exe,
            catalog: by_digest.collect(),
            listener,
            remotes: Mutex::default(),
            turns: Mutex::default(),
            closing: AtomicBool::new(false),
            shim_patience,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Finds every instance of an earlier daemon. Reports each as started, stopped or created,
    /// hands over the TUNs of those that run, and removes what was half made or half removed.
    pub fn adopt(&self) -> Result<(), DriverError> {
        self.inner.spares.clear_partial()?;
        self.inner.sweep()?;
        for item in Slot::list(&self.inner.instances)? {
            self.inner.adopt(item);
        }
        Ok(())
    }

    /// Does one step and reports how it went.
    pub fn run(&self, step: Step) {
        self.inner.run(step);
    }

    /// Returns the digest of the tree if a recipe's software is here.
    pub fn software_ready(&self, recipe: &Digest) -> Option<Digest> {
        let recipe = self.inner.catalog.get(recipe)?;
        self.inner.store.find(recipe).map(|software| software.tree)
    }

    /// Reads at most `max` bytes of what an instance printed, from `offset` of its whole log on.
    /// Returns them with the offset that follows.
    pub fn read_log(
        &self,
        item: ItemId,
        offset: u64,
        max: usize,
    ) -> Result<(Vec<u8>, u64), DriverError> {
        let slot = Slot::of(&self.inner.instances, item);
        if !slot.exists() {
            return Err(DriverError::NoInstance(item));
        }
        log::read(&slot.folder, offset, max).at("read the log in", &slot.folder)
    }

    /// Says what this machine cannot do for instances, one sentence each.
    pub fn shortcomings(&self) -> Vec<String> {
        let limits = Limits {
            memory_mib: 64,
            cpu_millis: 1000,
            pids: 16,
        };
        let label = format!("meshstead-probe-{}", std::process::id());
        let mut all = Groups::make(&label, limits).notes.clone();
        let tun = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun");
        if let Err(error) = tun {
            all.push(format!(
                "instances get no network: /dev/net/tun cannot be opened ({error})"
            ));
        }
        all
    }
}

impl Drop for Drivers {
    fn drop(&mut self) {
        self.inner.closing.store(true, Ordering::SeqCst);
        for remote in lock(&self.inner.remotes).values() {
            remote.leave();
        }
        self.inner.spares.settle();
    }
}

impl Inner {
    fn run(self: &Arc<Self>, step: Step) {
        let (item, result) = match step {
            Step::Software { recipe } => return self.make_software(recipe),
            Step::Create(spec) => (spec.item, self.in_turn(spec.item, || self.create(&spec))),
            Step::Start { item } => (item, self.in_turn(item, || self.start(item))),
            Step::Probe { item, promise } => {
                (item, self.in_turn(item, || self.probe(item, &promise)))
            }
            Step::Stop { item } => (item, self.in_turn(item, || self.stop(item))),
            Step::Meter { item } => (item, self.in_turn(item, || self.meter(item))),
            Step::Destroy { item } => (item, self.in_turn(item, || self.destroy(item))),
        };
        if let Err(error) = result {
            self.listener.event(Event::Failed {
                item,
                reason: sentence(&error),
            });
        }
    }

    fn in_turn<T>(&self, item: ItemId, work: impl FnOnce() -> T) -> T {
        let turn = Arc::clone(lock(&self.turns).entry(item).or_default());
        let result = {
            let _mine = lock(&turn);
            work()
        };
        let mut turns = lock(&self.turns);
        // Two: the map's and ours; so nobody else waits.
        if Arc::strong_count(&turn) == 2 {
            turns.remove(&item);
        }
        result
    }

    fn make_software(self: &Arc<Self>, digest: Digest) {
        let made = self
            .recipe(&digest)
            .and_then(|recipe| self.store.make(recipe));
        match made {
            Ok(software) => {
                let tree = software.tree;
                self.listener.event(Event::SoftwareReady {
                    recipe: digest,
                    tree,
                });
                self.do_later("spares", Duration::ZERO, move |inner| {
                    inner.fill_spares(&digest)
                });
            }
            Err(error) => {
                let reason = sentence(&error);
                self.listener.event(Event::SoftwareFailed {
                    recipe: digest,
                    reason,
                });
            }
        }
    }

    fn recipe(&self, digest: &Digest) -> Result<&Recipe, DriverError> {
        self.catalog
            .get(digest)
            .ok_or(DriverError::NoRecipe(*digest))
    }

    fn slot(&self, item: ItemId) -> Result<Slot, DriverError> {
        let slot = Slot::of(&self.instances, item);
        if !slot.exists() {
            return Err(DriverError::NoInstance(item));
        }
        Ok(slot)
    }

    fn software(&self, recipe: &Recipe) -> Result<Software, DriverError> {
        let software = self.store.find(recipe);
        software.ok_or_else(|| DriverError::NoSoftware(recipe.name.to_string()))
    }

    fn remote(&self, item: ItemId) -> Option<Arc<Remote>> {
        lock(&self.remotes).get(&item).cloned()
    }

    fn create(self: &Arc<Self>, spec: &InstanceSpec) -> Result<(), DriverError> {
        let slot = Slot::of(&self.instances, spec.item);
        if !slot.exists() {
            let recipe = self.recipe(&spec.recipe)?;
            let software = self.software(recipe)?;
            let partial = Slot {
                folder: slot.folder.with_extension(PARTIAL),
            };
            files::remove(&partial.folder)?;
            self.spares.take(recipe, &software, &partial.folder)?;
            partial.write_files(recipe, spec)?;
            partial.write_spec(spec)?;
            std::fs::rename(&partial.folder, &slot.folder).at("name", &slot.folder)?;
            files::sync_parent(&slot.folder)?;
        }
        self.listener.event(Event::Created { item: spec.item });
        Ok(())
    }

    fn start(self: &Arc<Self>, item: ItemId) -> Result<(), DriverError> {
        let slot = self.slot(item)?;
        // Also one that was started by a daemon that was killed before it could say so.
        let mut known = self.remote(item).or_else(|| self.find(item, &slot));
        loop {
            let is_known = known.is_some();
            let remote = match known.take() {
                Some(remote) => remote,
                None => self.begin(item, &slot)?,
            };
            let patience = self.patience(&slot);
            let up =
                |progress: &Progress| !matches!(progress, Progress::Unknown | Progress::Starting);
            let fault = match remote.wait(patience, up) {
                // Not over: whoever began another one would have to end it first.
                Progress::Unknown | Progress::Starting => StartFault::Silent {
                    seconds: patience.as_secs(),
                },
                Progress::Running if is_known => {
                    self.listener.event(Event::Started { item });
                    return Ok(());
                }
                Progress::Lost | Progress::Failed(_) | Progress::Ended(_) if is_known => continue,
                Progress::Lost => StartFault::Gone,
                Progress::Failed(said) => StartFault::Said { said },
                Progress::Running | Progress::Ended(_) => {
                    self.clean_up_later(item, slot.spec()?.recipe);
                    return Ok(());
                }
            };
            return Err(DriverError::Start(fault));
        }
    }

    /// Runs a new shim, after the end of whatever is left of the last one.
    fn begin(self: &Arc<Self>, item: ItemId, slot: &Slot) -> Result<Arc<Remote>, DriverError> {
        let spec = slot.spec()?;
        let recipe = self.recipe(&spec.recipe)?;
        let software = self.software(recipe)?;
        remains::end(slot, self.store.isolation())?;
        let status = slot.status();
        if status.as_ref().is_some_and(|status| !status.initialised) {
            self.renew_data(slot, recipe, &spec, &software)?;
        }
        // After that: new data has an owner of its own.
        let walls = self.store.walls(&slot::label(item), || slot.doors())?;
        let plan = slot.plan(recipe, &spec, &software, walls)?;
        software::run_shim(&self.exe, "run", &plan)?;
        self.watch(item, slot)
    }

    /// Returns how long the shim of a slot may take until its instance is up. A recipe that is in
    /// the catalogue no more allows no time of its own.
    fn patience(&self, slot: &Slot) -> Duration {
        let recipe = slot.spec().and_then(|spec| self.recipe(&spec.recipe));
        let allowed = recipe.map_or(0, |recipe| {
            let ready = recipe.ready.as_ref().map(|ready| ready.timeout_ms);
            let status = slot.status();
            let is_first = !status.is_some_and(|status| status.initialised);
            let init = recipe.init.iter().filter(|_| is_first);
            let all = init.map(|command| command.timeout_ms).chain(ready);
            all.map(u64::from).sum()
        });
        self.shim_patience + Duration::from_millis(allowed)
    }

    /// Forgets what only the first start needed, and makes a new spare.
    fn clean_up_later(self: &Arc<Self>, item: ItemId, recipe: Digest) {
        self.do_later("chores", CHORES_AFTER, move |inner| {
            inner.in_turn(item, || inner.forget_secrets(item))?;
            inner.fill_spares(&recipe)
        });
    }

    /// Replaces data on which the first start did not succeed: nobody was given it yet.
    fn renew_data(
        &self,
        slot: &Slot,
        recipe: &Recipe,
        spec: &InstanceSpec,
        software: &Software,
    ) -> Result<(), DriverError> {
        let fresh = slot.folder.with_extension(FRESH);
        files::remove(&fresh)?;
        self.spares.take(recipe, software, &fresh)?;
        files::remove(&slot.data())?;
        std::fs::rename(fresh.join("data"), slot.data()).at("replace", &slot.data())?;
        files::remove(&fresh)?;
        slot.write_files(recipe, spec)
    }

    /// Connects to the shim of a slot and reads from it on a thread of its own.
    fn watch(self: &Arc<Self>, item: ItemId, slot: &Slot) -> Result<Arc<Remote>, DriverError> {
        let remote = Remote::connect(&slot.folder).at("reach the shim in", &slot.folder)?;
        lock(&self.remotes).insert(item, Arc::clone(&remote));
        let (inner, reader) = (Arc::clone(self), Arc::clone(&remote));
        let name = format!("shim-{}", item.0.short());
        let started = std::thread::Builder::new()
            .name(name)
            .spawn(move || inner.read(item, &reader));
        started.doing("start a thread")?;
        Ok(remote)
    }

    /// Says where an instance without a network of its own is.
    fn open_doors(&self, item: ItemId, doors: Doors) {
        let slot = Slot::of(&self.instances, item);
        let known = slot.spec().and_then(|spec| {
            let ports = self.recipe(&spec.recipe)?.ports.values().copied();
            Ok((spec.address, ports.collect()))
        });
        match known {
            Ok((address, ports)) => self.listener.doors(item, address, doors, ports),
            Err(error) => tracing::error!(error = sentence(&error), "an instance has no network"),
        }
    }

    fn read(&self, item: ItemId, remote: &Arc<Remote>) {
        let (mut was_up, mut has_tun) = (false, false);
        remote.read(
            |network| {
                has_tun = true;
                match network {
                    Network::Tun(tun) => self.listener.tun(item, tun),
                    Network::Doors(doors) => self.open_doors(item, doors),
                }
            },
            |progress| match progress {
                Progress::Running => {
                    was_up = true;
                    self.listener.event(Event::Started { item });
                }
                Progress::Failed(_) | Progress::Ended(_) | Progress::Lost => {
                    let closing = self.closing.load(Ordering::SeqCst);
                    self.forget(item, remote);
                    if was_up && !closing {
                        let how = match progress {
                            Progress::Ended(how) => how.clone(),
                            _ => "its shim was killed".to_owned(),
                        };
                        self.listener.gone(item);
                        self.listener.event(Event::Stopped { item, how });
                    }
                }
                Progress::Unknown | Progress::Starting => {}
            },
        );
        if has_tun && !was_up && !self.closing.load(Ordering::SeqCst) {
            self.listener.gone(item);
        }
    }

    fn forget(&self, item: ItemId, remote: &Arc<Remote>) {
        let mut remotes = lock(&self.remotes);
        if remotes
            .get(&item)
            .is_some_and(|known| Arc::ptr_eq(known, remote))
        {
            remotes.remove(&item);
        }
    }

    fn probe(&self, item: ItemId, promise: &str) -> Result<(), DriverError> {
        let slot = self.slot(item)?;
        let spec = slot.spec()?;
        let recipe = self.recipe(&spec.recipe)?;
        let known = recipe.promises.get(promise);
        let known = known.ok_or_else(|| DriverError::NoPromise(promise.to_owned()))?;
        let run = slot::render(&known.command, &slot::values_inside(recipe, &spec))?;
        let verdict = match self.remote(item).map(|remote| remote.run(run)) {
            None => Verdict::Broken("it is not running".to_owned()),
            Some(None) => Verdict::Broken("the check was not answered".to_owned()),
            Some(Some(outcome)) if outcome.is_success() => Verdict::Holds,
            Some(Some(outcome)) => Verdict::Broken(outcome.sentence()),
        };
        let promise = promise.to_owned();
        self.listener.event(Event::Probed {
            item,
            promise,
            verdict,
        });
        Ok(())
    }

    fn stop(self: &Arc<Self>, item: ItemId) -> Result<(), DriverError> {
        // Without a slot nothing runs: it was being removed when the daemon before us was killed.
        let slot = Slot::of(&self.instances, item);
        if !self.end(item, &slot)? {
            self.listener.event(Event::Stopped {
                item,
                how: slot.last_words(),
            });
        }
        Ok(())
    }

    /// Ends a running instance and returns whether that was reported.
    fn end(self: &Arc<Self>, item: ItemId, slot: &Slot) -> Result<bool, DriverError> {
        let Some(remote) = self.remote(item).or_else(|| self.find(item, slot)) else {
            remains::end(slot, self.store.isolation())?;
            return Ok(false);
        };
        let was_up = remote.progress() == Progress::Running;
        let grace = slot
            .spec()
            .and_then(|spec| Ok(self.recipe(&spec.recipe)?.stop.grace_ms))
            .unwrap_or_default();
        let over = |progress: &Progress| {
            matches!(
                progress,
                Progress::Ended(_) | Progress::Failed(_) | Progress::Lost
            )
        };
        if remote.stop().is_ok() {
            remote.wait(SHIM_PATIENCE + Duration::from_millis(grace.into()), over);
        }
        // The shim ends last; what it started cannot outlive it.
        remains::end(slot, self.store.isolation())?;
        Ok(was_up)
    }

    fn meter(&self, item: ItemId) -> Result<(), DriverError> {
        let slot = self.slot(item)?;
        let running = self.remote(item).and_then(|remote| remote.meter());
        let stopped = || (slot.status().map_or(0, |status| status.cpu_ms), 0);
        let (cpu_ms, memory_mib) = running.unwrap_or_else(stopped);
        let meters = Meters {
            cpu_ms,
            memory_mib,
            disk_mib: files::occupied_mib(&slot.data()),
            ..Meters::default()
        };
        self.listener.event(Event::Metered { item, meters });
        Ok(())
    }

    fn destroy(self: &Arc<Self>, item: ItemId) -> Result<(), DriverError> {
        let slot = Slot::of(&self.instances, item);
        if slot.folder.exists() {
            self.end(item, &slot)?;
            let gone = slot.folder.with_extension(GONE);
            files::remove(&gone)?;
            std::fs::rename(&slot.folder, &gone).at("retire", &slot.folder)?;
            files::sync_parent(&gone)?;
            files::remove(&gone)?;
            // Those of a shim that was killed before it could write down that it had made them.
            cgroup::remove(&cgroup::of_label(&slot::label(item)));
            files::remove(&process::run_folder(&slot::label(item)))?;
        }
        self.listener.event(Event::Destroyed { item });
        Ok(())
    }

    /// Connects to a shim that we did not start, if one holds the slot, and hears its first word.
    fn find(self: &Arc<Self>, item: ItemId, slot: &Slot) -> Option<Arc<Remote>> {
        let until = Instant::now() + SHIM_PATIENCE;
        while shim::is_held(&slot.folder) {
            if let Ok(remote) = self.watch(item, slot) {
                remote.wait(SHIM_PATIENCE, |progress| *progress != Progress::Unknown);
                return Some(remote);
            }
            if until <= Instant::now() {
                break;
            }
            // It has not opened its door yet, or is on its way out.
            std::thread::sleep(FIND_PERIOD);
        }
        None
    }

    fn adopt(self: &Arc<Self>, item: ItemId) {
        let slot = Slot::of(&self.instances, item);
        let found = self.find(item, &slot).map(|remote| remote.progress());
        if matches!(found, Some(Progress::Running | Progress::Starting)) {
            // The daemon that started it may have been killed before it came to this.
            if let Ok(spec) = slot.spec() {
                self.clean_up_later(item, spec.recipe);
            }
            return;
        }
        let event = match slot.status() {
            None => Event::Created { item },
            Some(_) => Event::Stopped {
                item,
                how: slot.last_words(),
            },
        };
        self.listener.event(event);
    }

    /// Removes what was half made or half removed.
    fn sweep(&self) -> Result<(), DriverError> {
        for entry in std::fs::read_dir(&self.instances).at("list", &self.instances)? {
            let path = entry.at("list", &self.instances)?.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if matches!(extension, Some(PARTIAL | FRESH | GONE))
                && let Err(error) = files::remove(&path)
            {
                // It must not keep the living from being found.
                tracing::warn!(error = sentence(&error), "a folder is not removed");
            }
        }
        Ok(())
    }

    /// Does something on a thread of its own that nobody waits for.
    fn do_later(
        self: &Arc<Self>,
        name: &str,
        after: Duration,
        work: impl FnOnce(&Self) -> Result<(), DriverError> + Send + 'static,
    ) {
        let inner = Arc::downgrade(self);
        let later = move || {
            std::thread::sleep(after);
            let Some(inner) = inner
                .upgrade()
                .filter(|inner| !inner.closing.load(Ordering::SeqCst))
            else {
                return;
            };
            if let Err(error) = work(&inner) {
                tracing::warn!(error = sentence(&error), "chores were not done");
            }
        };
        let started = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(later);
        if let Err(error) = started {
            tracing::warn!(%error, "no thread for chores");
        }
    }

    fn fill_spares(&self, recipe: &Digest) -> Result<(), DriverError> {
        let recipe = self.recipe(recipe)?;
        let software = self.software(recipe)?;
        self.spares
            .fill(recipe, &software, || !self.closing.load(Ordering::SeqCst))
    }

    fn forget_secrets(&self, item: ItemId) -> Result<(), DriverError> {
        let slot = Slot::of(&self.instances, item);
        if !slot.exists() || !slot.status().is_some_and(|status| status.initialised) {
            return Ok(());
        }
        let mut spec = slot.spec()?;
        let recipe = self.recipe(&spec.recipe)?;
        let lasting = recipe.lasting_names();
        let count = spec.values.len();
        spec.values
            .retain(|name, _| lasting.contains(name.as_str()));
        if spec.values.len() == count {
            return Ok(());
        }
        slot.write_spec(&spec)
    }
}

const PARTIAL: &str = "partial";
const FRESH: &str = "fresh";
const GONE: &str = "gone";

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use mesh_compute::words::{FromShim, SOCKET, STATUS, State, Status};
    use nix::fcntl::{Flock, FlockArg};

    use super::*;
    use crate::link::Listener as Door;
    use crate::usage;

    /// Keeps what it hears.
    #[derive(Default)]
    struct Ear(Mutex<Vec<Event>>);

    impl Listener for Ear {
        fn event(&self, event: Event) {
            lock(&self.0).push(event);
        }
        fn tun(&self, _: ItemId, _: OwnedFd) {}
        fn doors(&self, _item: ItemId, _address: Ipv6Addr, _doors: Doors, _ports: Vec<u16>) {}

        fn gone(&self, _: ItemId) {}
    }

    /// Software that is there, but holds nothing.
    fn make_software(folder: &std::path::Path, recipe: &Recipe) {
        let tree = Digest::of(b"nothing");
        let home = folder.join(format!("recipe-{}", recipe.digest()));
        std::fs::create_dir_all(home.join("prepared")).unwrap();
        std::fs::create_dir_all(folder.join(tree.to_string()).join("root")).unwrap();
        let card = serde_json::json!({"tree": tree, "packages": []});
        std::fs::write(home.join("software.json"), card.to_string()).unwrap();
    }

    /// The slot of an instance in its first start, with data.
    fn make_slot(slot: &Slot, spec: &InstanceSpec, first: &Child) {
        std::fs::create_dir_all(slot.data()).unwrap();
        std::fs::write(slot.data().join("kept"), "7").unwrap();
        slot.write_spec(spec).unwrap();
        let pid = i32::try_from(first.id()).unwrap();
        let status = Status {
            boot: shim::boot_id(),
            state: State::Starting,
            how: String::new(),
            initialised: false,
            cpu_ms: 0,
            notes: Vec::new(),
            first: Some((pid, usage::start_of(pid).unwrap())),
            groups: Vec::new(),
        };
        let bytes = serde_json::to_vec(&status).unwrap();
        std::fs::write(slot.folder.join(STATUS), bytes).unwrap();
    }

    #[test]
    fn instance_that_takes_long_to_start_is_neither_ended_nor_emptied() {
        let text = include_str!("../../../catalog/postgres.toml")
            .replace("timeout_ms = 60000", "timeout_ms = 1")
            .replace("[[init]]", "[[init]]\ntimeout_ms = 1");
        let recipe = Recipe::parse(&text).unwrap();
        let home = tempfile::tempdir().unwrap();
        let config = Config {
            state_dir: home.path().to_owned(),
            software_dir: home.path().join("software"),
            exe: "/bin/false".into(),
            catalog: vec![recipe.clone()],
            isolation: Isolation::Namespaces,
        };
        make_software(&config.software_dir, &recipe);
        let spec = InstanceSpec {
            item: ItemId(Digest::of(b"crm-db")),
            name: "crm-db".to_owned(),
            recipe: recipe.digest(),
            address: "fd73::5".parse().unwrap(),
            values: BTreeMap::new(),
            memory_mib: 64,
            cpu_millis: 1000,
            pids: 16,
        };
        // Lives until its standard input is closed.
        let mut first = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let slot = Slot::of(&home.path().join("instances"), spec.item);
        make_slot(&slot, &spec, &first);
        let held = std::fs::File::open(&slot.folder).unwrap();
        let held = Flock::lock(held, FlockArg::LockExclusiveNonblock).unwrap();
        let door = Door::bind(&slot.folder, SOCKET).unwrap();
        let shim = std::thread::spawn(move || {
            let link = door.accept().unwrap();
            let hello = FromShim::Hello {
                state: State::Starting,
                notes: Vec::new(),
                doors: None,
            };
            link.send(&hello, None).unwrap();
            link
        });

        let ear = Arc::new(Ear::default());
        let listener = Arc::clone(&ear) as Arc<dyn Listener>;
        let drivers = Drivers::with_patience(config, listener, Duration::ZERO).unwrap();
        drivers.run(Step::Start { item: spec.item });
        let heard = lock(&ear.0).clone();
        let reason = sentence(&DriverError::Start(StartFault::Silent { seconds: 0 }));
        let item = spec.item;
        let lives = first.try_wait().unwrap().is_none();
        drop(first.stdin.take());
        first.wait().unwrap();
        drop((drivers, shim.join().unwrap(), held));
        assert!(lives, "its first process was ended: {heard:?}");
        assert!(slot.data().join("kept").exists(), "its data is gone");
        assert_eq!(heard, [Event::Failed { item, reason }]);
    }
}
