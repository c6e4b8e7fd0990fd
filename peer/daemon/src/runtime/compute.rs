//! Instances as this daemon runs them: steps to the drivers, their words to the node, their TUNs to
//! the data plane.
//!
//! Steps of one instance keep their order, those of others run beside them. Before the first step
//! every instance of an earlier daemon is adopted. Decides nothing.

use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::sync::{Arc, Once};

use mesh_base::digest::Digest;
use mesh_compute::doors::Doors;
use mesh_compute::recipe::Recipe;
use mesh_compute::step::{Event, Isolation, ItemId, Step};
use mesh_drivers::drivers::{Config, Drivers, Listener};
use mesh_drivers::error::DriverError;
use mesh_peer::port::Input;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::home::Home;
use crate::runtime::doors::Ways;
use crate::runtime::overlay::Overlay;
use crate::runtime::shared::Shared;
use crate::runtime::traffic::Traffic;
use crate::runtime::workers::Workers;

/// The running program, even if its file was replaced by an update.
pub const PROGRAM: &str = "/proc/self/exe";
/// Threads for steps: they mostly wait for processes and disks.
const STEP_WORKERS: usize = 6;
/// Threads for reading logs.
const LOG_WORKERS: usize = 2;
/// Largest piece of a log that is read at once.
const LOG_PIECE_MAX: usize = 64 * 1024;

/// Why instances cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComputeError {
    /// The drivers do not start.
    #[error("cannot prepare the folder of instances")]
    Drivers(#[from] DriverError),
    /// No threads.
    #[error("cannot start the threads that run steps")]
    Threads(#[from] std::io::Error),
}

/// Whose turn a step waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Item(ItemId),
    Software(Digest),
}

/// The instances of this machine.
pub struct Compute {
    drivers: Arc<Drivers>,
    steps: Workers<Key>,
    logs: Workers<ItemId>,
    inputs: mpsc::Sender<Input>,
}

impl Compute {
    /// Starts the drivers; adoption happens on the threads that then run steps.
    pub fn start(
        home: &Home,
        software: PathBuf,
        catalog: Vec<Recipe>,
        overlay: &Shared<Overlay>,
        inputs: mpsc::Sender<Input>,
        (isolation, tasks): (Isolation, Handle),
    ) -> Result<Self, ComputeError> {
        let ear = Ear {
            overlay: overlay.clone(),
            traffic: Shared::new(Traffic::new(home.traffic())),
            ways: Shared::new(Ways::new(tasks)),
            inputs: inputs.clone(),
        };
        let config = Config {
            state_dir: home.path().to_owned(),
            software_dir: software,
            exe: PathBuf::from(PROGRAM),
            catalog,
            isolation,
        };
        let drivers = Arc::new(Drivers::new(config, Arc::new(ear))?);
        let (adopting, once) = (Arc::clone(&drivers), Arc::new(Once::new()));
        let adopt = move || {
            once.call_once(|| {
                if let Err(error) = adopting.adopt() {
                    tracing::error!(%error, "earlier instances cannot be adopted");
                }
            });
        };
        for sentence in drivers.shortcomings() {
            tracing::warn!("{sentence}");
        }
        Ok(Self {
            steps: Workers::start("step", STEP_WORKERS, adopt)?,
            logs: Workers::start("log", LOG_WORKERS, || {})?,
            drivers,
            inputs,
        })
    }

    /// Runs a step after the others of its instance.
    pub fn step(&self, step: Step) {
        let drivers = Arc::clone(&self.drivers);
        self.steps.run(key(&step), move || drivers.run(step));
    }

    /// Reads a piece of an instance's log.
    pub fn read_log(&self, ticket: u64, item: ItemId, offset: u64) {
        let (drivers, inputs) = (Arc::clone(&self.drivers), self.inputs.clone());
        self.logs.run(item, move || {
            let read = match offset {
                u64::MAX => tail(&drivers, item),
                _ => drivers.read_log(item, offset, LOG_PIECE_MAX),
            };
            let input = match read {
                Ok((bytes, next)) => {
                    let offset = next.saturating_sub(bytes.len() as u64);
                    Input::LogRead {
                        ticket,
                        offset,
                        bytes,
                        refused: None,
                    }
                }
                Err(error) => {
                    let refused = Some(error.to_string());
                    Input::LogRead {
                        ticket,
                        offset,
                        bytes: Vec::new(),
                        refused,
                    }
                }
            };
            // The node is gone only when the daemon stops.
            let _ = inputs.blocking_send(input);
        });
    }
}

/// Reads the last piece of a log, with the offset of its end. Logs are bounded, so reading through
/// is too.
fn tail(drivers: &Drivers, item: ItemId) -> Result<(Vec<u8>, u64), DriverError> {
    let (mut bytes, mut end) = drivers.read_log(item, 0, LOG_PIECE_MAX)?;
    loop {
        let (more, next) = drivers.read_log(item, end, LOG_PIECE_MAX)?;
        if more.is_empty() {
            return Ok((bytes, end));
        }
        bytes.extend_from_slice(&more);
        bytes.drain(..bytes.len().saturating_sub(LOG_PIECE_MAX));
        end = next;
    }
}

fn key(step: &Step) -> Key {
    match step {
        Step::Software { recipe } => Key::Software(*recipe),
        Step::Create(spec) => Key::Item(spec.item),
        Step::Start { item }
        | Step::Probe { item, .. }
        | Step::Stop { item }
        | Step::Meter { item }
        | Step::Destroy { item } => Key::Item(*item),
    }
}

/// Hears what the drivers say.
struct Ear {
    overlay: Shared<Overlay>,
    traffic: Shared<Traffic>,
    ways: Shared<Ways>,
    inputs: mpsc::Sender<Input>,
}

impl Listener for Ear {
    fn event(&self, mut event: Event) {
        match &mut event {
            Event::Metered { item, meters } => {
                let seen = self.overlay.with(|overlay| overlay.plane().traffic(item.0));
                let whole = self.traffic.with(|traffic| traffic.note(*item, seen));
                (meters.received_bytes, meters.sent_bytes) = whole;
            }
            Event::Destroyed { item } => self.traffic.with(|traffic| traffic.forget(*item)),
            _ => {}
        }
        let _ = self.inputs.blocking_send(Input::Compute(event));
    }

    fn tun(&self, item: ItemId, tun: std::os::fd::OwnedFd) {
        if let Err(error) = self
            .overlay
            .with(|overlay| overlay.plane().attach(item.0, tun))
        {
            tracing::error!(item = %item.0.short(), %error, "an instance has no network");
        }
    }

    fn doors(&self, item: ItemId, address: Ipv6Addr, doors: Doors, ports: Vec<u16>) {
        let opened = self
            .ways
            .with(|ways| ways.open(item, address, doors, &ports));
        match opened {
            Ok(tun) => self.tun(item, tun),
            Err(error) => {
                tracing::error!(item = %item.0.short(), %error, "an instance has no network");
            }
        }
    }

    fn gone(&self, item: ItemId) {
        self.ways.with(|ways| ways.close(item));
        self.overlay.with(|overlay| overlay.plane().detach(item.0));
    }
}
