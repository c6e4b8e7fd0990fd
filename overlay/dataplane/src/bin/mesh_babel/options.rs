//! What the command line says.

use std::net::Ipv6Addr;
use std::time::Duration;

use mesh_dataplane::lan::Wanted;
use mesh_routing::babel::filter::{LinkFilter, Rule};
use mesh_routing::babel::link::LinkConfig;
use mesh_routing::babel::mac::key::{Algorithm, Key, Keys};
use mesh_routing::babel::rtt::RttCost;
use mesh_routing::babel::words::{Metric, Prefix, RouterId};

const USAGE: &str = "\
usage: mesh-babel --router-id HEX --interface NAME [--interface NAME …]
  --announce PREFIX        announce a prefix; may be repeated
  --ordinary               filter as a node does on an ordinary interface, with
  --import PREFIX            what is believed, with everything inside
  --export PREFIX            what is told, with everything inside
  --key ALGORITHM:HEX      authenticate: hmac-sha256 or blake2s128; may be repeated
  --hello-ms N             at least one hello in this time (4000)
  --update-ms N            the whole table in this time (16000)
  --cost N                 what a link costs (96)
  --rtt                    let round trips cost, as on a tunnel
  --unicast-hellos         say hello to each neighbour too
  --delay-ms N             hold every packet back, as a long cable would
  --no-kernel              leave the kernel's routing table alone";

/// What to do.
pub struct Options {
    pub router_id: RouterId,
    pub announce: Vec<Prefix>,
    pub delay: Duration,
    pub kernel: bool,
    interfaces: Vec<String>,
    keys: Vec<Key>,
    import: Vec<Rule>,
    export: Vec<Rule>,
    is_ordinary: bool,
    hello: Duration,
    update: Duration,
    cost: Metric,
    has_rtt: bool,
    has_unicast_hellos: bool,
}

/// Why the command line cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum Misread {
    #[error("cannot read {word} {value:?}\n{USAGE}")]
    Value { word: String, value: String },
    #[error("what is {word}?\n{USAGE}")]
    Word { word: String },
    #[error("a router-id and an interface are needed\n{USAGE}")]
    Missing,
}

impl Options {
    pub fn read(mut words: impl Iterator<Item = String>) -> Result<Self, Misread> {
        let mut options = Self {
            router_id: RouterId::LEAST,
            announce: Vec::new(),
            delay: Duration::ZERO,
            kernel: true,
            interfaces: Vec::new(),
            keys: Vec::new(),
            import: Vec::new(),
            export: Vec::new(),
            is_ordinary: false,
            hello: Duration::from_secs(4),
            update: Duration::from_secs(16),
            cost: Metric(96),
            has_rtt: false,
            has_unicast_hellos: false,
        };
        let mut is_named = false;
        while let Some(word) = words.next() {
            match word.as_str() {
                "--ordinary" => options.is_ordinary = true,
                "--rtt" => options.has_rtt = true,
                "--unicast-hellos" => options.has_unicast_hellos = true,
                "--no-kernel" => options.kernel = false,
                _ => {
                    let value = words.next().unwrap_or_default();
                    if !word.starts_with("--") {
                        return Err(Misread::Word { word });
                    }
                    is_named |= word == "--router-id";
                    if options.take(&word, &value).is_none() {
                        return Err(Misread::Value { word, value });
                    }
                }
            }
        }
        if is_named && !options.interfaces.is_empty() {
            Ok(options)
        } else {
            Err(Misread::Missing)
        }
    }

    /// Takes an option with a value; none if one of them is wrong.
    fn take(&mut self, word: &str, value: &str) -> Option<()> {
        let millis = || value.parse().ok().map(Duration::from_millis);
        match word {
            "--router-id" => self.router_id = RouterId::from_bytes(hex(value)?.try_into().ok()?)?,
            "--interface" => self.interfaces.push(value.to_owned()),
            "--announce" => self.announce.push(prefix(value)?),
            "--import" => self.import.push(Rule::inside(prefix(value)?)),
            "--export" => self.export.push(Rule::inside(prefix(value)?)),
            "--key" => self.keys.push(key(value)?),
            "--hello-ms" => self.hello = millis()?,
            "--update-ms" => self.update = millis()?,
            "--delay-ms" => self.delay = millis()?,
            "--cost" => self.cost = Metric(value.parse().ok()?),
            _ => return None,
        }
        Some(())
    }

    /// Returns the interfaces and their keys.
    pub fn wanted(&self) -> Vec<Wanted> {
        let wanted = |name: &String| Wanted {
            name: name.clone(),
            keys: Keys::new(self.keys.clone()).ok(),
        };
        self.interfaces.iter().map(wanted).collect()
    }

    /// Returns what a link is.
    pub fn link(&self, address: Ipv6Addr) -> LinkConfig {
        let filter = if self.is_ordinary {
            LinkFilter::Ordinary {
                import: self.import.clone(),
                export: self.export.clone(),
            }
        } else {
            LinkFilter::Plain
        };
        let rtt = if self.has_rtt {
            RttCost::TUNNEL
        } else {
            RttCost::NONE
        };
        LinkConfig {
            hello_interval: self.hello,
            update_interval: self.update,
            base_cost: self.cost,
            rtt,
            unicast_hellos: self.has_unicast_hellos,
            ..LinkConfig::wired(address, filter)
        }
    }
}

fn prefix(text: &str) -> Option<Prefix> {
    let (address, bits) = text.split_once('/')?;
    Prefix::new(address.parse().ok()?, bits.parse().ok()?)
}

fn key(text: &str) -> Option<Key> {
    let (algorithm, secret) = text.split_once(':')?;
    let algorithm = match algorithm {
        "hmac-sha256" => Algorithm::HmacSha256,
        "blake2s128" => Algorithm::Blake2s128,
        _ => return None,
    };
    Key::new(algorithm, &hex(secret)?).ok()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|it| u8::try_from(it).ok()))
        .collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| high << 4 | low);
    rest.is_empty().then(|| bytes.collect())
}
