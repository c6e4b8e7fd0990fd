//! Settings of a node: each key with its default, unit and sentence, and where its value came from.
//!
//! A value is looked for in this order: `--set KEY=VALUE`, the variable `MESHSTEAD_KEY` (dots
//! become underscores), `HOME/config.toml`, the default. A node runs without any settings. An
//! unknown key is an error that names the nearest known one. Decides nothing about what the values
//! are used for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_compute::settings::{self, SettingsError};
use mesh_routing::babel::limits::LINKS_MAX;
use mesh_routing::babel::words::Prefix;
use mesh_routing::neighbours::{Station, limits};
use mesh_routing::portmap::Way;

use crate::machine;
use crate::proxy::ProxyPlace;
use crate::swarm::nearby::Nearby;

/// Most interfaces with Babel: a router has a few, and the speaker's links are mostly for nodes.
const INTERFACES_MAX: usize = 8;
/// Most links that others may be let choose: with 16 of our own choice and those interfaces, all
/// that the speaker has room for.
const INBOUND_MAX: usize = LINKS_MAX - limits::OURS_MAX - INTERFACES_MAX;
const _: () = assert!(
    INBOUND_MAX == 40,
    "the unit of overlay.inbound_max names it"
);
/// Leases of a port: a router counts in seconds, and by no standard do they last for more than a
/// day.
const LEASE_MIN: Duration = Duration::from_secs(2);
const LEASE_MAX: Duration = Duration::from_secs(86_400);

/// One known key.
#[derive(Debug)]
pub struct Key {
    /// Its dotted name.
    pub name: &'static str,
    /// What a value looks like.
    pub unit: &'static str,
    /// One sentence for people.
    pub sentence: &'static str,
}

/// Every key there is, in the order of the reference.
pub const KEYS: &[Key] = &[
    Key {
        name: "metering.period",
        unit: "duration (90s, 30m, 1h)",
        sentence: "How often the usage of each instance is signed.",
    },
    Key {
        name: "capacity.slots",
        unit: "count",
        sentence: "Most instances at the same time.",
    },
    Key {
        name: "capacity.memory_mib",
        unit: "MiB",
        sentence: "Memory that instances may be granted together.",
    },
    Key {
        name: "capacity.cpu_millis",
        unit: "thousandths of a core",
        sentence: "Processor time that instances may be granted together.",
    },
    Key {
        name: "capacity.disk_mib",
        unit: "MiB",
        sentence: "Disk space that instances may be granted together.",
    },
    Key {
        name: "network.listen",
        unit: "ADDRESS:PORT, separated by commas",
        sentence: "Where other nodes connect over TCP; port 0 picks one and remembers it.",
    },
    Key {
        name: "network.wireguard_port",
        unit: "UDP port",
        sentence: "Where tunnels arrive; 0 picks one and remembers it.",
    },
    Key {
        name: "network.door_port",
        unit: "TCP port",
        sentence: "Where people with an invite knock; 0 picks one and remembers it.",
    },
    Key {
        name: "network.tun",
        unit: "auto, host, namespace or userspace",
        sentence: "Whether overlay addresses work in every program (host) or through 127.0.0.1.",
    },
    Key {
        name: "network.advertise",
        unit: "IP addresses, separated by commas",
        sentence: "Addresses under which this machine is reachable besides its own interfaces'.",
    },
    Key {
        name: "network.mdns",
        unit: "on or off",
        sentence: "Whether the local network is told of this node and asked for its mesh's others.",
    },
    Key {
        name: "reach.port_mapping",
        unit: "auto, off, or pcp, nat-pmp, upnp, separated by commas",
        sentence: "How the home's router is asked to lead ports here; auto tries all three.",
    },
    Key {
        name: "reach.lease",
        unit: "duration (90s, 30m, 1h)",
        sentence: "How long the router keeps such a port when this node is gone.",
    },
    Key {
        name: "names.listen",
        unit: "auto, off, or loopback ADDRESS:PORT, separated by commas",
        sentence: "Where programs of this machine ask for names of the mesh.",
    },
    Key {
        name: "names.resolved",
        unit: "auto or off",
        sentence: "Whether systemd-resolved, if it runs, is told to ask here for mesh.internal.",
    },
    Key {
        name: "proxy.socks",
        unit: "auto, off, or loopback ADDRESS:PORT",
        sentence: "Where programs get into the overlay by SOCKS; auto unless it is on the host.",
    },
    Key {
        name: "proxy.http",
        unit: "auto, off, or loopback ADDRESS:PORT",
        sentence: "The same for an HTTP proxy.",
    },
    Key {
        name: "overlay.role",
        unit: "peer or leaf",
        sentence: "Whether others' packets pass through (peer), or it has a few uplinks (leaf).",
    },
    Key {
        name: "overlay.inbound_max",
        unit: "count, at most 40",
        sentence: "Most links that others choose; who comes then is sent to others.",
    },
    Key {
        name: "babel.interfaces",
        unit: "names of interfaces, separated by commas",
        sentence: "Local networks whose Babel routers (babeld, BIRD) learn the way to the overlay.",
    },
    Key {
        name: "babel.import",
        unit: "IPv6 prefixes, separated by commas",
        sentence: "What is believed of those routers, with everything inside; nothing by default.",
    },
    Key {
        name: "babel.mac_key_file",
        unit: "file with lines hmac-sha256:HEX or blake2s128:HEX",
        sentence: "Keys that authenticate Babel there; without, nothing is authenticated.",
    },
    Key {
        name: "software.dir",
        unit: "folder",
        sentence: "Where unpacked software is kept; several homes may share one.",
    },
    Key {
        name: "log.level",
        unit: "error, warn, info, debug or trace, or module=level pairs",
        sentence: "How much is logged.",
    },
    Key {
        name: "log.format",
        unit: "text or json",
        sentence: "How log lines are written.",
    },
];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `--set` on the command line.
    Flag,
    /// An environment variable.
    Variable(String),
    /// The settings file.
    File,
    /// Nobody said anything.
    Default,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Variable(name) => write!(f, "{name}"),
            Self::File => f.write_str("config.toml"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its text.
    pub value: String,
    /// Where it came from.
    pub source: Source,
}

/// Where the overlay's network interface lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunPlace {
    /// On the host if we may and nobody else claims the prefix there, else in a namespace, else
    /// nowhere.
    Auto,
    /// In the host's network namespace.
    Host,
    /// In a network namespace of our own.
    Namespace,
    /// Nowhere: the daemon speaks TCP itself, as it does where there are no namespaces.
    Userspace,
}

/// Where names are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamesPlace {
    /// At port 53 of 127.0.0.153, or of the overlay address if that is in a namespace.
    Auto,
    /// Nowhere.
    Off,
    /// At these and nowhere else.
    At(Vec<SocketAddr>),
}

/// All settings, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How often usage is signed.
    pub metering_period: Duration,
    /// Most instances.
    pub slots: u32,
    /// Memory for instances.
    pub memory_mib: u32,
    /// Processor time for instances.
    pub cpu_millis: u32,
    /// Disk for instances.
    pub disk_mib: u32,
    /// TCP listen addresses.
    pub listen: Vec<SocketAddr>,
    /// UDP port of tunnels.
    pub wireguard_port: u16,
    /// TCP port of the join door.
    pub door_port: u16,
    /// Where the TUN lives.
    pub tun: TunPlace,
    /// Extra addresses to tell others.
    pub advertise: Vec<std::net::IpAddr>,
    /// Whether the local network is told of us and asked for others.
    pub nearby: Nearby,
    /// How a router is asked for ports, in order; not at all if there is none.
    pub port_mapping: Vec<Way>,
    /// How long it is to keep them.
    pub lease: Duration,
    /// Where names are answered.
    pub names: NamesPlace,
    /// Whether systemd-resolved is told.
    pub resolved: bool,
    /// Where the SOCKS proxy listens.
    pub socks: ProxyPlace,
    /// Where the HTTP proxy listens.
    pub http: ProxyPlace,
    /// Whether other nodes' packets pass through.
    pub station: Station,
    /// Most links that others choose.
    pub inbound_max: usize,
    /// Interfaces with Babel routers of a local network.
    pub babel_interfaces: Vec<String>,
    /// What is believed of those.
    pub babel_import: Vec<Prefix>,
    /// Keys that authenticate them.
    pub babel_mac_key_file: Option<PathBuf>,
    /// Unpacked software.
    pub software: PathBuf,
    /// Log filter.
    pub log_level: String,
    /// Whether log lines are JSON.
    pub log_json: bool,
    /// Every value in force, by key.
    pub settings: BTreeMap<&'static str, Setting>,
}

/// Why settings are not in force.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path} is not TOML")]
    Toml {
        /// Which.
        path: PathBuf,
        /// Where and why.
        source: SettingsError,
    },
    /// There is no such key.
    #[error("there is no setting \"{key}\" (from {place})")]
    Unknown {
        /// What was written.
        key: String,
        /// Where it was written.
        place: String,
        /// The nearest known key.
        nearest: &'static str,
    },
    /// The value is not of its key's kind.
    #[error("{key} is \"{value}\" (from {place}), but must be: {unit}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was written.
        value: String,
        /// What would be right.
        unit: &'static str,
        /// Where it came from.
        place: String,
    },
    /// `--set` without `=`.
    #[error("\"{0}\" is not KEY=VALUE")]
    Pair(String),
}

impl ConfigError {
    /// Returns the next step for a person.
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown { nearest, .. } => {
                format!("did you mean \"{nearest}\"? `meshnode config show` lists all settings")
            }
            _ => "`meshnode config show` lists all settings with their units".to_owned(),
        }
    }
}

impl Config {
    /// Reads all settings of a home.
    pub fn load(home: &Path, flags: &[String]) -> Result<Self, ConfigError> {
        let path = home.join("config.toml");
        let file = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        Self::resolve(home, flags, |name| std::env::var(name).ok(), &file)
    }

    /// Settles every key from flags, variables, the file's text and defaults, and checks the
    /// values.
    pub fn resolve(
        home: &Path,
        flags: &[String],
        variable: impl Fn(&str) -> Option<String>,
        file: &str,
    ) -> Result<Self, ConfigError> {
        let mut said_by_flag = BTreeMap::new();
        for pair in flags {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| ConfigError::Pair(pair.clone()))?;
            said_by_flag.insert(known(key.trim(), "--set")?, value.trim().to_owned());
        }
        let path = home.join("config.toml");
        let values = settings::read(file).map_err(|source| ConfigError::Toml { path, source })?;
        let mut said_by_file = BTreeMap::new();
        for (key, value) in values {
            said_by_file.insert(known(&key, "config.toml")?, value);
        }
        let mut settings = BTreeMap::new();
        for key in KEYS {
            let name = format!(
                "MESHSTEAD_{}",
                key.name.to_ascii_uppercase().replace('.', "_")
            );
            let setting = if let Some(value) = said_by_flag.remove(key.name) {
                Setting {
                    value,
                    source: Source::Flag,
                }
            } else if let Some(value) = variable(&name) {
                Setting {
                    value,
                    source: Source::Variable(name),
                }
            } else if let Some(value) = said_by_file.remove(key.name) {
                Setting {
                    value,
                    source: Source::File,
                }
            } else {
                Setting {
                    value: default(key.name, home),
                    source: Source::Default,
                }
            };
            settings.insert(key.name, setting);
        }
        Self::check(home, settings)
    }

    fn check(home: &Path, settings: BTreeMap<&'static str, Setting>) -> Result<Self, ConfigError> {
        Ok(Self {
            metering_period: read(&settings, "metering.period", duration)?,
            slots: read(&settings, "capacity.slots", |text| text.parse().ok())?,
            memory_mib: read(&settings, "capacity.memory_mib", |text| text.parse().ok())?,
            cpu_millis: read(&settings, "capacity.cpu_millis", |text| text.parse().ok())?,
            disk_mib: read(&settings, "capacity.disk_mib", |text| text.parse().ok())?,
            listen: read(&settings, "network.listen", |text| {
                list(text).filter(|all: &Vec<SocketAddr>| !all.is_empty())
            })?,
            wireguard_port: read(&settings, "network.wireguard_port", |text| {
                text.parse().ok()
            })?,
            door_port: read(&settings, "network.door_port", |text| text.parse().ok())?,
            tun: read(&settings, "network.tun", |text| match text {
                "auto" => Some(TunPlace::Auto),
                "host" => Some(TunPlace::Host),
                "namespace" => Some(TunPlace::Namespace),
                "userspace" => Some(TunPlace::Userspace),
                _ => None,
            })?,
            advertise: read(&settings, "network.advertise", list)?,
            nearby: read(&settings, "network.mdns", |text| match text {
                "on" => Some(Nearby::Asked),
                "off" => Some(Nearby::Ignored),
                _ => None,
            })?,
            port_mapping: read(&settings, "reach.port_mapping", ways)?,
            lease: read(&settings, "reach.lease", |text| {
                duration(text).filter(|lease| (LEASE_MIN..=LEASE_MAX).contains(lease))
            })?,
            names: read(&settings, "names.listen", names_place)?,
            resolved: read(&settings, "names.resolved", |text| match text {
                "auto" => Some(true),
                "off" => Some(false),
                _ => None,
            })?,
            socks: read(&settings, "proxy.socks", ProxyPlace::read)?,
            http: read(&settings, "proxy.http", ProxyPlace::read)?,
            station: read(&settings, "overlay.role", |text| match text {
                "peer" => Some(Station::Core),
                "leaf" => Some(Station::Leaf),
                _ => None,
            })?,
            inbound_max: read(&settings, "overlay.inbound_max", |text| {
                text.parse().ok().filter(|count| *count <= INBOUND_MAX)
            })?,
            babel_interfaces: read(&settings, "babel.interfaces", interfaces)?,
            babel_import: read(&settings, "babel.import", prefixes)?,
            babel_mac_key_file: read(&settings, "babel.mac_key_file", |text| {
                Some((!text.is_empty()).then(|| home.join(text)))
            })?,
            software: read(&settings, "software.dir", |text| {
                // Relative to the home, so that a home can be moved.
                (!text.is_empty()).then(|| home.join(text))
            })?,
            log_level: read(&settings, "log.level", |text| {
                text.parse::<tracing_subscriber::EnvFilter>()
                    .ok()
                    .map(|_| text.to_owned())
            })?,
            log_json: read(&settings, "log.format", |text| match text {
                "text" => Some(false),
                "json" => Some(true),
                _ => None,
            })?,
            settings,
        })
    }
}

fn default(key: &str, home: &Path) -> String {
    match key {
        "metering.period" => "1h".to_owned(),
        "capacity.slots" => machine::slots().to_string(),
        "capacity.memory_mib" => machine::memory_mib().to_string(),
        "capacity.cpu_millis" => machine::cpu_millis().to_string(),
        "capacity.disk_mib" => machine::disk_mib(home).to_string(),
        "network.listen" => "[::]:0,0.0.0.0:0".to_owned(),
        "network.wireguard_port" | "network.door_port" => "0".to_owned(),
        "network.tun" | "names.listen" | "names.resolved" | "reach.port_mapping"
        | "proxy.socks" | "proxy.http" => "auto".to_owned(),
        "network.mdns" => "on".to_owned(),
        "overlay.role" => "peer".to_owned(),
        "overlay.inbound_max" => limits::INBOUND_MAX.to_string(),
        "reach.lease" => "2h".to_owned(),
        "software.dir" => "software".to_owned(),
        "log.level" => "info".to_owned(),
        "log.format" => "text".to_owned(),
        _ => String::new(),
    }
}

/// Reads one setting with `parse`; every key of [`KEYS`] has been settled before.
fn read<T>(
    settings: &BTreeMap<&'static str, Setting>,
    key: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, ConfigError> {
    let setting = settings.get(key);
    let value = setting.map_or("", |setting| setting.value.as_str());
    parse(value).ok_or_else(|| ConfigError::Value {
        key,
        value: value.to_owned(),
        unit: KEYS
            .iter()
            .find(|known| known.name == key)
            .map_or("", |known| known.unit),
        place: setting.map_or_else(String::new, |setting| setting.source.to_string()),
    })
}

fn known(written: &str, place: &str) -> Result<&'static str, ConfigError> {
    if let Some(key) = KEYS.iter().find(|key| key.name == written) {
        return Ok(key.name);
    }
    let nearest = KEYS.iter().min_by_key(|key| distance(key.name, written));
    Err(ConfigError::Unknown {
        key: written.chars().take(60).collect(),
        place: place.to_owned(),
        nearest: nearest.map_or("", |key| key.name),
    })
}

/// Counts the letters that must be put in, left out or changed (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(60).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, letter) in left.chars().enumerate() {
        let mut next = vec![index + 1];
        for (&other, (&diagonal, &above)) in right.iter().zip(row.iter().zip(row.iter().skip(1))) {
            let beside = next.last().copied().unwrap_or(0);
            let changed = diagonal + usize::from(letter != other);
            next.push(changed.min(above + 1).min(beside + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

fn names_place(text: &str) -> Option<NamesPlace> {
    match text {
        "auto" => Some(NamesPlace::Auto),
        "off" => Some(NamesPlace::Off),
        // Names are for programs of this machine only.
        _ => list(text)
            .filter(|all: &Vec<SocketAddr>| {
                !all.is_empty() && all.iter().all(|at| at.ip().is_loopback() && at.port() != 0)
            })
            .map(NamesPlace::At),
    }
}

/// Reads ways of asking a router, each once.
fn ways(text: &str) -> Option<Vec<Way>> {
    match text {
        "auto" => return Some(Way::ALL.to_vec()),
        "off" => return Some(Vec::new()),
        _ => {}
    }
    let way = |word: &String| Way::ALL.into_iter().find(|way| way.word() == word);
    let words: Vec<String> = list(text)?;
    let ways: Vec<Way> = words.iter().map(way).collect::<Option<_>>()?;
    (!ways.is_empty() && each_once(&ways)).then_some(ways)
}

fn each_once<T: Ord>(all: &[T]) -> bool {
    let different: BTreeSet<&T> = all.iter().collect();
    different.len() == all.len()
}

fn list<T: std::str::FromStr>(text: &str) -> Option<Vec<T>> {
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    parts.map(|part| part.parse().ok()).collect()
}

/// Reads names as the kernel allows them (IFNAMSIZ), each once.
fn interfaces(text: &str) -> Option<Vec<String>> {
    let names: Vec<String> = list(text)?;
    let is_name = |name: &String| name.len() < 16 && !name.contains(['/', ' ']);
    let lawful = names.iter().all(is_name) && each_once(&names);
    (lawful && names.len() <= INTERFACES_MAX).then_some(names)
}

/// Reads IPv6 prefixes; those of the overlay are never imported.
fn prefixes(text: &str) -> Option<Vec<Prefix>> {
    let prefix = |part: String| {
        let (address, bits) = part.split_once('/')?;
        let prefix = Prefix::new(address.parse().ok()?, bits.parse().ok()?)?;
        let is_overlay = Prefix::NODES.covers(prefix) || Prefix::SERVICES.covers(prefix);
        (!is_overlay).then_some(prefix)
    };
    list(text)?.into_iter().map(prefix).collect()
}

fn duration(text: &str) -> Option<Duration> {
    let end = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let millis = number.checked_mul(millis)?;
    // Below 100 ms a node would do nothing but meter.
    (100 <= millis).then(|| Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(
        flags: &[&str],
        variable: Option<(&str, &str)>,
        file: &str,
    ) -> Result<Config, ConfigError> {
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let lookup = |name: &str| {
            variable
                .filter(|(known, _)| *known == name)
                .map(|(_, value)| value.to_owned())
        };
        Config::resolve(Path::new("/home"), &flags, lookup, file)
    }

    #[track_caller]
    fn check(
        flags: &[&str],
        variable: Option<(&str, &str)>,
        file: &str,
        expect: (Duration, Source),
    ) {
        let config = resolve(flags, variable, file).unwrap();
        let source = config
            .settings
            .get("metering.period")
            .unwrap()
            .source
            .clone();
        assert_eq!((config.metering_period, source), expect);
    }

    #[test]
    fn flag_beats_variable_beats_file_beats_default() {
        let file = "[metering]\nperiod = \"3s\"\n";
        let name = "MESHSTEAD_METERING_PERIOD";
        let second = Duration::from_secs;
        check(&[], None, "", (second(3600), Source::Default));
        check(&[], None, file, (second(3), Source::File));
        check(
            &[],
            Some((name, "2m")),
            file,
            (second(120), Source::Variable(name.to_owned())),
        );
        check(
            &["metering.period=1s"],
            Some((name, "2m")),
            file,
            (second(1), Source::Flag),
        );
    }

    #[test]
    fn unknown_key_names_the_nearest() {
        let error = resolve(&[], None, "[network]\nwireguard_prot = 1\n").unwrap_err();
        assert!(
            error.hint().contains("\"network.wireguard_port\""),
            "{}",
            error.hint()
        );
        let error = resolve(&["metring.period=1s"], None, "").unwrap_err();
        assert!(
            error.hint().contains("\"metering.period\""),
            "{}",
            error.hint()
        );
    }

    #[test]
    fn wrong_values_say_what_would_be_right() {
        for pair in [
            "metering.period=soon",
            "metering.period=1ms",
            "capacity.slots=-1",
            "network.listen=",
            "network.listen=here",
            "network.tun=maybe",
            "log.format=xml",
            "network.wireguard_port=70000",
            "overlay.role=auto",
            "overlay.inbound_max=41",
            "overlay.inbound_max=-1",
            "reach.port_mapping=yes",
            "reach.port_mapping=pcp,pcp",
            "reach.port_mapping=",
            "reach.lease=1s",
            "reach.lease=25h",
            "babel.interfaces=a-name-that-is-too-long",
            "babel.interfaces=eth0,eth0",
            "babel.import=2001:db8::",
            "babel.import=2001:db8::/129",
            "babel.import=fd6d:1::/32",
        ] {
            let error = resolve(&[pair], None, "").unwrap_err();
            assert!(
                matches!(error, ConfigError::Value { .. }),
                "{pair}: {error}"
            );
        }
        assert!(matches!(
            resolve(&["x"], None, ""),
            Err(ConfigError::Pair(_))
        ));
        assert!(matches!(
            resolve(&[], None, "= 1"),
            Err(ConfigError::Toml { .. })
        ));
    }

    #[test]
    fn numbers_and_lists_may_be_written_as_toml_has_them() {
        let file = "[network]\nlisten = [\"127.0.0.1:0\"]\ndoor_port = 7000\n";
        let config = resolve(&[], None, file).unwrap();
        assert_eq!(config.listen, vec!["127.0.0.1:0".parse().unwrap()]);
        assert_eq!(config.door_port, 7000);
    }

    #[test]
    fn ways_of_port_mapping_are_taken_in_the_order_of_the_setting() {
        let ways = |value: &str| {
            let flag = format!("reach.port_mapping={value}");
            resolve(&[&flag], None, "").unwrap().port_mapping
        };
        assert_eq!(ways("auto"), Way::ALL);
        assert_eq!(ways("off"), []);
        assert_eq!(ways("upnp, pcp"), [Way::Upnp, Way::Pcp]);
    }

    #[test]
    fn names_are_answered_on_loopback_only() {
        let names = |value: &str| {
            let flag = format!("names.listen={value}");
            resolve(&[&flag], None, "").map(|config| config.names)
        };
        assert_eq!(names("auto").unwrap(), NamesPlace::Auto);
        assert_eq!(names("off").unwrap(), NamesPlace::Off);
        let two = NamesPlace::At(vec![
            "127.0.0.1:5300".parse().unwrap(),
            "[::1]:53".parse().unwrap(),
        ]);
        assert_eq!(names("127.0.0.1:5300, [::1]:53").unwrap(), two);
        for refused in [
            "0.0.0.0:53",
            "192.0.2.1:53",
            "127.0.0.1:0",
            "127.0.0.1",
            "",
            "on",
        ] {
            assert!(names(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn every_key_has_a_lawful_default() {
        let config = resolve(&[], None, "").unwrap();
        assert_eq!(config.settings.len(), KEYS.len());
        assert_eq!(config.software, Path::new("/home/software"));
    }
}
