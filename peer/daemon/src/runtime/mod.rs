//! The running daemon: starts every part in order, keeps them together, ends them in order.
//!
//! ```text
//!   settings → lock → keys → journal → Node → data plane → instances → swarms → API (last)
//! ```
//! The API comes last, so whoever gets an answer finds everything there. It ends the other way
//! round; the instances stay, for their shims are processes of their own. Decides the order and
//! nothing else.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mesh_api::ErrorKind;
use mesh_api::status::Entrances;
use mesh_base::address::NodeAddress;
use mesh_base::identity::{NodeId, SecretKey};
use mesh_compute::recipe::Recipe;
use mesh_compute::step::Isolation;
use mesh_drivers::drivers;
use mesh_federation::capacity::Amount;
use mesh_ledger::gate::Direct;
use mesh_ledger::journal::JournalError;
use mesh_peer::node::{Node, NodeConfig, NodeError, Setup};
use mesh_peer::port::{Input, Reach};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::api::{self, Calls};
use crate::command::start::unusable;
use crate::config::Config;
use crate::failure::Failure;
use crate::home::Home;
use crate::index::{self, Source};
use crate::journal::{self, Writer};
use crate::ports::Ports;
use crate::runtime::compute::Compute;
use crate::runtime::entrances::Proxies;
use crate::runtime::hands::Hands;
use crate::runtime::ordinary::Ordinary;
use crate::runtime::overlay::{Overlay, OverlayError};
use crate::runtime::routing::Loss;
use crate::runtime::shared::Shared;
use crate::runtime::turn::{Ended, Turn};
use crate::swarm::across::Sockets;
use crate::swarm::door::Door;
use crate::swarm::network::{Incoming, Network};
use crate::swarm::tunnels::Tunnels;
use crate::swarm::underlay_tcp::Threshold;
use crate::{catalog, clock, keys, names, notify, reach};

pub mod compute;
pub mod doors;
pub mod entrances;
pub mod explain;
pub mod hands;
pub mod ordinary;
pub mod overlay;
pub mod places;
pub mod pumps;
pub mod routing;
pub mod shared;
pub mod traffic;
pub mod turn;
pub mod ways;
pub mod workers;

/// Inputs that wait for the node; then their senders wait.
const INPUTS_MAX: usize = 1024;
/// Losses that wait for the control network: as many as there can be neighbours, and more.
const LOST_MAX: usize = 64;
/// Longest wait for tasks that still run when everything else has ended.
const TASKS_WAIT: Duration = Duration::from_secs(2);
/// Threads of the asynchronous parts: they mostly wait.
const WORKERS: usize = 2;

/// Runs the daemon of `home` until it is asked to stop.
pub fn run(home: &Home, config: &Config) -> Result<(), Failure> {
    home.prepare().map_err(|error| unusable(&error))?;
    let lock = home.lock().map_err(|error| unusable(&error))?;
    let secret = keys::read(&home.node_key()).map_err(|error| {
        Failure::caused("cannot start", &error)
            .hint("the key belongs to this node only: restore it from where you keep a copy")
    })?;
    let tasks = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("meshnode")
        .enable_all()
        .build()
        .map_err(|error| Failure::caused("cannot start", &error))?;
    let ended = start(home, config, &secret, &tasks).and_then(|daemon| daemon.wait(&tasks));
    notify::send("STOPPING=1");
    tasks.shutdown_timeout(TASKS_WAIT);
    // It ends with the process. A thread that is still ending may have the TUN, and whoever starts
    // before that is gone takes it for another daemon's.
    std::mem::forget(lock);
    ended
}

/// What runs.
struct Daemon {
    stop: watch::Sender<bool>,
    node: oneshot::Receiver<Ended>,
    thread: std::thread::JoinHandle<()>,
    api: tokio::task::JoinHandle<std::io::Result<()>>,
    resolver: tokio::task::JoinHandle<()>,
    mapping: tokio::task::JoinHandle<()>,
    socket: PathBuf,
}

fn start(
    home: &Home,
    config: &Config,
    secret: &SecretKey,
    tasks: &Runtime,
) -> Result<Daemon, Failure> {
    let _entered = tasks.enter();
    let mut ports = choose_ports(home, config)?;
    let recipes = catalog::recipes(home);
    let isolation = isolation(config);
    let (journal, node) = open_node(home, config, secret, recipes.clone(), isolation)?;
    let (lost, losses) = mpsc::channel(LOST_MAX);
    let overlay = start_overlay(home, config, secret, &ports, lost)?;
    let (inputs, queue) = mpsc::channel(INPUTS_MAX);
    let (stop, stopping) = watch::channel(false);
    let reach = overlay.reach();
    let (across, tunnels) = (overlay.sockets(), overlay.tunnels());
    let overlay = Shared::new(overlay);
    let software = config.software.clone();
    let apart = (
        isolation.unwrap_or(Isolation::Namespaces),
        tasks.handle().clone(),
    );
    let compute = Compute::start(home, software, recipes, &overlay, inputs.clone(), apart)
        .map_err(|error| Failure::caused("cannot run instances", &error))?;
    let (mapped, mapping) = reach::start(config, ports, secret, stopping.clone(), inputs.clone());
    let proxies = Proxies::listen(config, &mut ports, &home.ports(), &across.1)?;
    let (teller, resolver) = start_names(home, config, ports, &across, stopping.clone(), &inputs)?;
    let (network, incoming, door, visits) =
        start_swarms(config, secret, &ports, across.clone(), tunnels)?;
    let calls = Calls::new(inputs.clone());
    let entrances = proxies.serve(across.1.clone(), &teller);
    tell_first(config, &ports, (reach, entrances), &inputs);
    tasks.spawn(pumps::network(incoming, inputs.clone()));
    let changed = Arc::new(Notify::new());
    tasks.spawn(pumps::lost(losses, network.clone(), Arc::clone(&changed)));
    tasks.spawn(pumps::door(visits, inputs.clone()));
    tasks.spawn(pumps::links(overlay.clone(), inputs.clone()));
    let places = (overlay.clone(), changed);
    let underlay = pumps::underlay(config.clone(), ports, mapped, places, inputs.clone());
    tasks.spawn(underlay);
    let hands = Hands {
        network,
        door,
        calls: calls.clone(),
        compute,
        overlay,
        names: teller,
        inputs,
        tasks: tasks.handle().clone(),
        secret: secret.clone(),
    };
    let turn = Turn::new(node, queue, journal, hands, stopping.clone());
    let (thread, node) = start_turn(turn, tasks)?;
    let socket = home.socket();
    let listener = api::bind(&socket).map_err(|error| no_socket(&socket, &error))?;
    let api = tasks.spawn(api::serve(listener, calls, stopping));
    notify::send("READY=1");
    tracing::info!(home = %home.path().display(), control = ports.control,
        wireguard = ports.wireguard, ?reach, "the node runs");
    Ok(Daemon {
        stop,
        node,
        thread,
        api,
        resolver,
        mapping,
        socket,
    })
}

/// Tells the node what it needs before anybody else speaks to it.
fn tell_first(
    config: &Config,
    ports: &Ports,
    (reach, entrances): (Reach, Entrances),
    inputs: &mpsc::Sender<Input>,
) {
    let addresses = crate::underlay::addresses(&config.advertise);
    for input in [
        Input::Reach(reach),
        Input::Entrances(entrances),
        pumps::underlay_input(config, ports, &addresses, &[]),
    ] {
        // The queue is new and empty.
        let _ = inputs.try_send(input);
    }
}

fn start_names(
    home: &Home,
    config: &Config,
    ports: Ports,
    across: &(Ipv6Addr, Sockets),
    stopping: watch::Receiver<bool>,
    inputs: &mpsc::Sender<Input>,
) -> Result<(names::Teller, tokio::task::JoinHandle<()>), Failure> {
    let sockets = names::Places::open(config, ports, &home.ports(), across).map_err(|error| {
        Failure::caused("cannot answer for names", &error)
            .hint("choose another place: see names.listen in `meshnode config show`")
            .kind(ErrorKind::Conflict)
    })?;
    Ok(names::start(
        sockets,
        config.resolved,
        across.0,
        stopping,
        inputs.clone(),
    ))
}

type Running = (std::thread::JoinHandle<()>, oneshot::Receiver<Ended>);

fn start_turn(turn: Turn, tasks: &Runtime) -> Result<Running, Failure> {
    let (ended, node) = oneshot::channel();
    let handle = tasks.handle().clone();
    let thread = std::thread::Builder::new()
        .name("node".to_owned())
        .spawn(move || {
            // A panic drops `ended`, and the daemon stops.
            let _ = ended.send(handle.block_on(turn.run()));
        });
    let thread = thread.map_err(|error| Failure::caused("cannot start the node", &error))?;
    Ok((thread, node))
}

impl Daemon {
    /// Waits for a signal or the end of a part, then ends the rest.
    fn wait(self, tasks: &Runtime) -> Result<(), Failure> {
        let Self {
            stop,
            mut node,
            thread,
            mut api,
            resolver,
            mapping,
            socket,
        } = self;
        let ended = tasks.block_on(async {
            let mut terminate = signal(SignalKind::terminate())
                .map_err(|error| Failure::caused("cannot listen for signals", &error))?;
            let mut interrupt = signal(SignalKind::interrupt())
                .map_err(|error| Failure::caused("cannot listen for signals", &error))?;
            tokio::select! {
                _ = terminate.recv() => Ok(None),
                _ = interrupt.recv() => Ok(None),
                ended = &mut node => Ok(Some(ended)),
                served = &mut api => Err(api_failure(&socket, served)),
            }
        });
        tracing::info!("the node stops");
        stop.send_replace(true);
        let joined = thread.join();
        // What was changed outside is undone before the end.
        let undone = async { tokio::join!(resolver, mapping) };
        let _ = tasks.block_on(async { tokio::time::timeout(TASKS_WAIT, undone).await });
        let _ = std::fs::remove_file(&socket);
        match ended? {
            None if joined.is_ok() => Ok(()),
            Some(Ok(Ended::Journal)) => Err(Failure::new(
                "the disk refused the journal; nothing more can be promised",
            )
            .hint("free space or replace the disk, then `meshnode start`")),
            Some(Ok(Ended::Asked)) => Ok(()),
            _ => Err(Failure::new("the node failed by a fault of its own")
                .hint("start it again, and report the end of its log")),
        }
    }
}

fn api_failure(
    socket: &Path,
    served: Result<std::io::Result<()>, tokio::task::JoinError>,
) -> Failure {
    match served {
        Ok(Err(error)) => no_socket(socket, &error),
        _ => Failure::new(format!("nobody serves {} any more", socket.display()))
            .hint("start it again, and report the end of its log"),
    }
}

fn no_socket(socket: &Path, error: &std::io::Error) -> Failure {
    Failure::caused(format!("cannot serve {}", socket.display()), error)
        .hint("a socket's path has at most 107 bytes: choose a shorter --home DIR")
}

fn open_node(
    home: &Home,
    config: &Config,
    secret: &SecretKey,
    recipes: Vec<Recipe>,
    isolation: Option<Isolation>,
) -> Result<(Writer, Node), Failure> {
    let entropy = keys::entropy().and_then(|seed| Ok((seed, keys::salt()?)));
    let (seed, salt) = entropy.map_err(|error| Failure::caused("cannot start", &error))?;
    let (journal, entries) = journal::open(&home.journal(), salt).map_err(|error| {
        let failure = Failure::caused("cannot open the journal", &error);
        match error {
            JournalError::Damaged { .. } | JournalError::Missing { .. } => {
                failure.hint("the disk has lost what was on it: restore this home from a backup")
            }
            _ => failure.hint("look at the disk and the rights of the journal's folder"),
        }
    })?;
    let setup = Setup {
        secret: secret.clone(),
        config: NodeConfig {
            isolation,
            metering_period: config.metering_period,
            capacity: Amount {
                slots: config.slots,
                memory_mib: config.memory_mib,
                cpu_millis: config.cpu_millis,
                disk_mib: config.disk_mib,
            },
            station: config.station,
            inbound_max: config.inbound_max,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        recipes,
        seed,
        verifier: Box::new(Direct),
    };
    let node = Node::new(setup, &entries, clock::now()).map_err(|error| {
        let failure = Failure::caused("cannot start", &error);
        match error {
            NodeError::NoChain => failure
                .hint(
                    "found an organisation: `meshnode init --org NAME`, or join one: \
                       `meshnode join INVITE`",
                )
                .kind(ErrorKind::NotFound),
            _ => {
                failure.hint("use the version of meshnode that wrote this journal, or a newer one")
            }
        }
    })?;
    let source = Source {
        generation: journal.generation(),
        entries,
    };
    let index = index::follow(home.index(), source);
    let journal = Writer::start(journal, index)
        .map_err(|error| Failure::caused("cannot start the journal", &error))?;
    Ok((journal, node))
}

fn choose_ports(home: &Home, config: &Config) -> Result<Ports, Failure> {
    Ports::choose(config, &home.ports()).map_err(|error| {
        Failure::caused("cannot start", &error)
            .hint("choose other ports: `meshnode config show` names the settings")
            .kind(ErrorKind::Conflict)
    })
}

/// Finds out what can keep instances apart, and says why it is less than it could be.
fn isolation(config: &Config) -> Option<Isolation> {
    let program = Path::new(compute::PROGRAM);
    if config.slots == 0 {
        return Some(Isolation::Namespaces);
    }
    let Some(why) = drivers::no_sandbox(program) else {
        return Some(Isolation::Namespaces);
    };
    // Files of root have no owner but the one whom an instance would be.
    let also = match nix::unistd::geteuid().is_root() {
        true => Some("root needs namespaces to keep them apart".to_owned()),
        false => drivers::no_walls(program),
    };
    match also {
        None => {
            tracing::warn!(
                why,
                "instances are kept apart by Landlock and a supervisor only"
            );
            Some(Isolation::Process)
        }
        Some(also) => {
            tracing::warn!(why, also, "no instance is run here");
            None
        }
    }
}

fn start_overlay(
    home: &Home,
    config: &Config,
    secret: &SecretKey,
    ports: &Ports,
    lost: mpsc::Sender<Loss>,
) -> Result<Overlay, Failure> {
    let own = NodeAddress::of(&NodeId(secret.public())).0;
    let ordinary = Ordinary::of(config).map_err(|error| {
        Failure::caused("cannot read the keys of Babel", &error)
            .hint("each line is hmac-sha256:HEX or blake2s128:HEX; see babel.mac_key_file")
            .kind(ErrorKind::Usage)
    })?;
    let (tun, port) = (config.tun, ports.wireguard);
    let started = Overlay::start(home, secret, own, tun, port, ordinary, lost);
    started.map_err(|error| {
        let failure = Failure::caused("cannot start the overlay", &error);
        match error {
            OverlayError::Plane(_) => {
                failure.hint("another program may use the UDP port: see network.wireguard_port")
            }
            _ => failure.hint(
                "allow /dev/net/tun and user namespaces, or run as root; \
                               network.tun says where the interface is made",
            ),
        }
    })
}

type Swarms = (
    Network,
    Incoming,
    Door,
    mpsc::Receiver<crate::swarm::door::Visit>,
);

fn start_swarms(
    config: &Config,
    secret: &SecretKey,
    ports: &Ports,
    across: (Ipv6Addr, Sockets),
    tunnels: Tunnels,
) -> Result<Swarms, Failure> {
    let mut listen = config.listen.clone();
    for address in listen.iter_mut().filter(|address| address.port() == 0) {
        address.set_port(ports.control);
    }
    let across = Some(across);
    let (threshold, over) = Threshold::new();
    let carried = (tunnels, threshold.clone());
    let network = Network::start(secret, &listen, across, config.nearby, carried, clock::wall);
    let (network, incoming) = network.map_err(|error| {
        Failure::caused("cannot start the control network", &error)
            .hint("choose other addresses: see network.listen in `meshnode config show`")
    })?;
    let (door, visits) = Door::new(secret, ports.door, (threshold, over))
        .map_err(|error| Failure::caused("cannot make the join door", &error))?;
    Ok((network, incoming, door, visits))
}
