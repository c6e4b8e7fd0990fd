//! Ordinary interfaces as links of the node's speaker: a local network whose routers run babeld,
//! BIRD or the like.
//!
//! ```text
//!   kernel ──► thread `lan` ── Must(Up, Down) ──┐
//!   UDP 6696 ►     │        ── May(Heard) ──────┴──► routing thread ──► Links ──► Speaker
//!                Lans ◄───────────────── packets, behind one lock ◄───────┘ └──► Ways (kernel)
//! ```
//! They are told the overlay's two prefixes and believed what `babel.import` allows. Decides
//! nothing about routes. Invariant: without a TUN on the host, the kernel's table is left alone.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_base::time::Moment;
use mesh_dataplane::lan::interface::Usable;
use mesh_dataplane::lan::socket::Heard;
use mesh_dataplane::lan::ways::{Way, Ways};
use mesh_dataplane::lan::{Change, Lans, Wanted};
use mesh_routing::babel::event::{Reach, To};
use mesh_routing::babel::filter::{LinkFilter, Rule};
use mesh_routing::babel::link::{LinkConfig, LinkId};
use mesh_routing::babel::mac::key::{Algorithm, Key, KeyError, Keys};
use mesh_routing::babel::speaker::Speaker;
use mesh_routing::babel::words::Prefix;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::clock;
use crate::config::Config;

/// How often interfaces are looked at without news: one may have been refused for a reason that
/// nobody tells, such as another program on its port.
const LOOK_MS: u16 = 1000;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is not a key.
    #[error("line {line} of {path} is no key")]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from one.
        line: usize,
    },
    /// The keys are not lawful.
    #[error("cannot use the keys of {path}")]
    Keys {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
}

/// What is wanted of ordinary interfaces.
#[derive(Debug, Clone, Default)]
pub struct Ordinary {
    wanted: Vec<Wanted>,
    import: Vec<Rule>,
    /// Whether learned routes go into the kernel's table.
    pub kernel: bool,
}

/// What happens at an interface, named by its place in the list.
#[derive(Debug)]
pub enum Input {
    /// It can be used; so many bytes are added to each packet.
    Up(usize, Usable, usize),
    /// It can no longer.
    Down(usize),
    /// A packet came.
    Heard(usize, Heard),
}

/// Whether news may be lost.
#[derive(Debug)]
pub enum News {
    /// It must not.
    Must(Input),
    /// It may.
    May(Input),
}

impl Ordinary {
    /// Reads what the settings say.
    pub fn of(config: &Config) -> Result<Self, KeyFileError> {
        let keys = match &config.babel_mac_key_file {
            Some(path) => Some(read_keys(path)?),
            None => None,
        };
        let wanted = config.babel_interfaces.iter().map(|name| Wanted {
            name: name.clone(),
            keys: keys.clone(),
        });
        let import = config.babel_import.iter().copied();
        Ok(Self {
            wanted: wanted.collect(),
            import: import.map(Rule::inside).collect(),
            kernel: false,
        })
    }

    /// Begins to listen; `tell` returns whether to go on.
    pub fn listen(self, tell: impl Fn(News) -> bool + Send + 'static) -> io::Result<Links> {
        let mut links = Links {
            lans: None,
            filter: LinkFilter::Ordinary {
                import: self.import,
                export: vec![Rule::only(Prefix::NODES), Rule::only(Prefix::SERVICES)],
            },
            up: BTreeMap::new(),
            ways: None,
        };
        if self.wanted.is_empty() {
            return Ok(links);
        }
        if self.kernel {
            links.ways = Some(Ways::open()?);
        }
        let lans = Arc::new(Mutex::new(Lans::open(self.wanted)?));
        links.lans = Some(Arc::clone(&lans));
        std::thread::Builder::new()
            .name("lan".to_owned())
            .spawn(move || while watch(&lans, &tell) {})?;
        Ok(links)
    }
}

/// Waits for news and tells it; returns whether to go on.
fn watch(lans: &Mutex<Lans>, tell: &impl Fn(News) -> bool) -> bool {
    // Not in the head of the loop: there the lock would be held throughout.
    let changes = lock(lans).refresh();
    for change in changes {
        if !translate(lans, change).is_none_or(|input| tell(News::Must(input))) {
            return false;
        }
    }
    loop {
        // Copies, for the sockets are needed to send meanwhile; gone before interfaces are looked
        // at again, so that a port is free when its socket is closed.
        let fds: Vec<OwnedFd> = lock(lans)
            .descriptors()
            .filter_map(|fd| fd.try_clone_to_owned().ok())
            .collect();
        let mut polled: Vec<PollFd<'_>> = fds
            .iter()
            .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN))
            .collect();
        let came = poll(&mut polled, PollTimeout::from(LOOK_MS));
        let is_told = polled.first().and_then(PollFd::any).unwrap_or(true);
        loop {
            let heard = lock(lans).receive(clock::now());
            let Some((at, heard)) = heard else {
                break;
            };
            if !tell(News::May(Input::Heard(at, heard))) {
                return false;
            }
        }
        // News, nothing for a while, or a signal: look at the interfaces.
        if is_told || came.is_ok_and(|count| count == 0) || came.is_err() {
            return true;
        }
    }
}

/// Turns a change into an input, and says what a person should know.
fn translate(lans: &Mutex<Lans>, change: Change) -> Option<Input> {
    let mut lans = lock(lans);
    match change {
        Change::Up(at, usable) => {
            let overhead = lans.socket(at).map_or(0, |socket| socket.overhead());
            tracing::info!(interface = lans.name(at), address = %usable.address,
                "Babel is spoken on an interface");
            Some(Input::Up(at, usable, overhead))
        }
        Change::Down(at, _) => {
            tracing::info!(interface = lans.name(at), "an interface is down");
            Some(Input::Down(at))
        }
        Change::Missing(at) => {
            tracing::warn!(
                interface = lans.name(at),
                "there is no such interface; Babel begins there when there is (babel.interfaces)"
            );
            None
        }
        Change::Refused(at, error) => {
            tracing::warn!(interface = lans.name(at), %error,
                "cannot speak Babel on an interface; trying again");
            None
        }
    }
}

fn lock(lans: &Mutex<Lans>) -> MutexGuard<'_, Lans> {
    lans.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The interfaces as the routing thread sees them.
pub struct Links {
    lans: Option<Arc<Mutex<Lans>>>,
    filter: LinkFilter,
    /// Those that can be used, by place, with what is added to a packet.
    up: BTreeMap<usize, (Usable, usize)>,
    ways: Option<Ways>,
}

impl Links {
    /// Takes what happened.
    pub fn handle(&mut self, input: Input, speaker: Option<&mut Speaker>, now: Moment) {
        match input {
            Input::Up(at, usable, overhead) => {
                self.up.insert(at, (usable, overhead));
                if let Some(speaker) = speaker {
                    self.raise(at, speaker, now);
                }
            }
            Input::Down(at) => {
                if let (Some((usable, _)), Some(ways)) = (self.up.remove(&at), &mut self.ways) {
                    ways.forget(usable.index);
                }
                if let Some(speaker) = speaker {
                    speaker.handle_link_down(link_of(at), now);
                }
            }
            Input::Heard(at, heard) => {
                if let Some(speaker) = speaker {
                    let link = link_of(at);
                    speaker.handle_packet(link, heard.source, heard.cast, &heard.payload, now);
                }
            }
        }
    }

    /// Gives a new speaker the links that are up.
    pub fn raise_all(&self, speaker: &mut Speaker, now: Moment) {
        for at in self.up.keys() {
            self.raise(*at, speaker, now);
        }
    }

    /// Sends a packet; what does not go is said again by the speaker.
    pub fn send(&self, link: LinkId, to: To, bytes: Vec<u8>) {
        let found = self.up.keys().find(|at| link_of(**at) == link);
        if let (Some(lans), Some(at)) = (&self.lans, found)
            && let Some(socket) = lock(lans).socket(*at)
        {
            let _ = socket.send(to, bytes);
        }
    }

    /// Sets the way to a prefix that is not of the overlay.
    pub fn set_way(&mut self, prefix: Prefix, reach: Reach) {
        let Some(ways) = &mut self.ways else {
            return;
        };
        let way = match reach {
            Reach::Via(hop) => {
                let found = self.up.iter().find(|(at, _)| link_of(**at) == hop.link);
                found.map(|(_, (usable, _))| Way::Via {
                    gateway: hop.address,
                    interface: usable.index,
                })
            }
            Reach::Held => Some(Way::Unreachable),
            Reach::Gone => None,
        };
        if let Err(error) = ways.set(prefix, way) {
            tracing::warn!(%prefix, %error, "the kernel refuses a route");
        }
    }

    fn raise(&self, at: usize, speaker: &mut Speaker, now: Moment) {
        let Some((usable, overhead)) = self.up.get(&at) else {
            return;
        };
        let wired = LinkConfig::wired(usable.address, self.filter.clone());
        let config = LinkConfig {
            payload_max: wired.payload_max.saturating_sub(*overhead),
            ..wired
        };
        if !speaker.handle_link_up(link_of(at), config, now) {
            tracing::warn!("too many links; an interface is not used");
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        if let Some(ways) = &mut self.ways {
            ways.clear();
        }
    }
}

/// Returns the link of a place; counted from the end, for the links of nodes begin at one.
fn link_of(at: usize) -> LinkId {
    LinkId(u32::MAX - u32::try_from(at).unwrap_or_default())
}

fn read_keys(path: &PathBuf) -> Result<Keys, KeyFileError> {
    let text = std::fs::read_to_string(path).map_err(|source| KeyFileError::Read {
        path: path.clone(),
        source,
    })?;
    let mut keys = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let unreadable = || KeyFileError::Line {
            path: path.clone(),
            line,
        };
        let (algorithm, secret) = text.split_once(':').ok_or_else(unreadable)?;
        let algorithm = match algorithm {
            "hmac-sha256" => Algorithm::HmacSha256,
            "blake2s128" => Algorithm::Blake2s128,
            _ => return Err(unreadable()),
        };
        let secret = hex(secret).ok_or_else(unreadable)?;
        let key = Key::new(algorithm, &secret).map_err(|source| KeyFileError::Keys {
            path: path.clone(),
            source,
        })?;
        keys.push(key);
    }
    Keys::new(keys).map_err(|source| KeyFileError::Keys {
        path: path.clone(),
        source,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Result<(), &str>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, text).unwrap();
        let said = read_keys(&path).map(drop).map_err(|error| match error {
            KeyFileError::Read { .. } => "file",
            KeyFileError::Line { .. } => "line",
            KeyFileError::Keys { .. } => "keys",
        });
        assert_eq!(said, expect, "{text}");
    }

    #[test]
    fn key_file_is_read_line_by_line() {
        let secret = "00".repeat(16);
        check(&format!("# ours\n\nblake2s128:{secret}\n"), Ok(()));
        check(
            &format!("hmac-sha256:{secret}\nblake2s128:{secret}"),
            Ok(()),
        );
        check("", Err("keys"));
        check("blake2s128:00", Err("keys"));
        check(&format!("md5:{secret}"), Err("line"));
        check(&format!("blake2s128:{secret}0"), Err("line"));
        check("secret", Err("line"));
    }
}
