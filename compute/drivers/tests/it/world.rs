//! A state folder, drivers on it, and what they reported.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use mesh_base::digest::Digest;
use mesh_compute::doors::Doors;
use mesh_compute::recipe::Recipe;
use mesh_compute::step::{Event, InstanceSpec, Isolation, ItemId, Step};
use mesh_drivers::drivers::{Config, Drivers, Listener};

/// Hears everything and lets tests wait for it.
#[derive(Default)]
pub struct Ear {
    heard: Mutex<Vec<Event>>,
    tuns: Mutex<BTreeMap<ItemId, OwnedFd>>,
    doors: Mutex<BTreeMap<ItemId, (Doors, Vec<u16>)>>,
    changed: Condvar,
}

impl Listener for Ear {
    fn event(&self, event: Event) {
        self.heard.lock().unwrap().push(event);
        self.changed.notify_all();
    }

    fn tun(&self, item: ItemId, tun: OwnedFd) {
        self.tuns.lock().unwrap().insert(item, tun);
        self.changed.notify_all();
    }

    fn doors(&self, item: ItemId, address: Ipv6Addr, doors: Doors, ports: Vec<u16>) {
        assert_eq!(address, "fd73::5".parse::<Ipv6Addr>().unwrap());
        self.doors.lock().unwrap().insert(item, (doors, ports));
    }

    fn gone(&self, item: ItemId) {
        self.doors.lock().unwrap().remove(&item);
        self.tuns.lock().unwrap().remove(&item);
    }
}

impl Ear {
    /// Waits for an event, forgetting those before it.
    #[track_caller]
    pub fn wait(&self, wanted: impl Fn(&Event) -> bool) -> Event {
        let until = Instant::now() + Duration::from_secs(60);
        let mut heard = self.heard.lock().unwrap();
        loop {
            if let Some(at) = heard.iter().position(&wanted) {
                return heard.drain(..=at).next_back().unwrap();
            }
            let rest = until.saturating_duration_since(Instant::now());
            assert!(!rest.is_zero(), "not heard; heard {heard:?}");
            heard = self.changed.wait_timeout(heard, rest).unwrap().0;
        }
    }

    /// Returns a second handle to the TUN of an instance.
    pub fn tun_of(&self, item: ItemId) -> OwnedFd {
        self.tuns.lock().unwrap()[&item].try_clone().unwrap()
    }

    /// Returns whether a TUN is held for an instance.
    pub fn has_tun(&self, item: ItemId) -> bool {
        self.tuns.lock().unwrap().contains_key(&item)
    }
}

impl Ear {
    /// Returns where an instance without a network of its own listens, and its ports.
    pub fn doors_of(&self, item: ItemId) -> Option<(Doors, Vec<u16>)> {
        self.doors.lock().unwrap().get(&item).cloned()
    }
}

/// A state folder with drivers on it. The drivers go first: they may still make spares there.
pub struct World {
    pub drivers: Option<Drivers>,
    pub home: tempfile::TempDir,
    pub ear: Arc<Ear>,
    pub recipe: Recipe,
    isolation: Isolation,
}

impl World {
    /// Makes drivers for a recipe and its software.
    pub fn new(recipe: Recipe) -> Self {
        Self::with(recipe, Isolation::Namespaces)
    }

    /// The same where instances are kept apart so.
    pub fn with(recipe: Recipe, isolation: Isolation) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut world = Self {
            home,
            drivers: None,
            ear: Arc::default(),
            recipe,
            isolation,
        };
        world.open();
        world.make_software();
        world
    }

    /// Starts what a daemon holds.
    pub fn open(&mut self) {
        self.ear = Arc::default();
        let config = Config {
            state_dir: self.home.path().to_owned(),
            software_dir: software_dir(),
            exe: std::env::current_exe().unwrap(),
            catalog: vec![self.recipe.clone()],
            isolation: self.isolation,
        };
        let drivers = Drivers::new(config, Arc::clone(&self.ear) as Arc<dyn Listener>).unwrap();
        drivers.adopt().unwrap();
        self.drivers = Some(drivers);
    }

    fn make_software(&self) {
        self.run(Step::Software {
            recipe: self.recipe.digest(),
        });
        let event = self.ear.wait(|event| {
            matches!(
                event,
                Event::SoftwareReady { .. } | Event::SoftwareFailed { .. }
            )
        });
        assert!(matches!(event, Event::SoftwareReady { .. }), "{event:?}");
    }

    pub fn run(&self, step: Step) {
        self.drivers.as_ref().unwrap().run(step);
    }

    /// Runs a step and returns its event.
    #[track_caller]
    pub fn ask(&self, step: Step) -> Event {
        let before = self.ear.heard.lock().unwrap().len();
        self.run(step);
        let heard = self.ear.heard.lock().unwrap();
        heard
            .get(before)
            .cloned()
            .unwrap_or_else(|| panic!("a step without a report"))
    }

    /// Returns what an order of the name would make.
    pub fn spec(&self, name: &str) -> InstanceSpec {
        let service = name.parse().unwrap();
        let values = self
            .recipe
            .complete_parameters(&service, &BTreeMap::new(), |bytes| bytes.fill(7))
            .unwrap();
        InstanceSpec {
            item: ItemId(Digest::of(name.as_bytes())),
            name: name.to_owned(),
            recipe: self.recipe.digest(),
            address: "fd73::5".parse().unwrap(),
            values,
            memory_mib: self.recipe.limits.memory_mib,
            cpu_millis: self.recipe.limits.cpu_millis,
            pids: self.recipe.limits.pids,
        }
    }

    /// Creates and starts an instance.
    #[track_caller]
    pub fn bring_up(&self, name: &str) -> InstanceSpec {
        let spec = self.spec(name);
        let item = spec.item;
        assert_eq!(
            self.ask(Step::Create(Box::new(spec.clone()))),
            Event::Created { item }
        );
        assert_eq!(self.ask(Step::Start { item }), Event::Started { item });
        spec
    }

    /// Returns the instance's folder.
    pub fn folder(&self, item: ItemId) -> PathBuf {
        self.home.path().join("instances").join(item.0.to_string())
    }

    /// Returns the ids of all processes whose command line names this world's instance.
    pub fn first_inside(&self, item: ItemId) -> i32 {
        let status = std::fs::read(self.folder(item).join("status.json")).unwrap();
        let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
        i32::try_from(status["first"][0].as_i64().unwrap()).unwrap()
    }
}

impl Drop for World {
    /// Leaves nothing, also when a test fails half-way.
    fn drop(&mut self) {
        let Some(drivers) = &self.drivers else { return };
        let instances = std::fs::read_dir(self.home.path().join("instances"))
            .unwrap()
            .flatten();
        for entry in instances {
            if let Ok(digest) = entry.file_name().to_str().unwrap().parse() {
                drivers.run(Step::Destroy {
                    item: ItemId(digest),
                });
            }
        }
    }
}

/// The cache of unpacked software.
pub fn software_dir() -> PathBuf {
    if let Some(cache) = std::env::var_os("MESHSTEAD_CACHE") {
        return PathBuf::from(cache).join("software");
    }
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
    cache.join("meshstead/software")
}

/// The shipped recipe.
pub fn postgres() -> Recipe {
    Recipe::parse(include_str!("../../../../catalog/postgres.toml")).unwrap()
}
