//! Hears every frame on every interface of a home, and looks in them for what must not be seen.
//!
//! A packet socket (AF_PACKET) in the home's network namespace, before any firewall and beside
//! every program. Decides nothing about what may be seen. Invariant: a [`Capture`] that exists is
//! whole: it has as many frames of each interface as the kernel counted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::errno::Errno;
use nix::net::if_::if_indextoname;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};
use nix::unistd::Pid;

use crate::inside::inside;
use crate::lab::Lab;

/// Room for frames between two looks: tens of thousands of full ones.
const BUFFER_LEN: usize = 64 << 20;

/// How long the tap waits for a frame before it looks whether it is wanted still, in milliseconds.
const LOOK_INTERVAL_MS: u16 = 20;

/// How long a frame that the kernel has counted may take to come to the tap.
const LAST_FRAME_MAX: Duration = Duration::from_secs(10);

/// The kernel's words for what an interface is made of (ARPHRD_*): Ethernet and loopback have a
/// header of 14 bytes before the packet, a TUN has none.
const ETHERNET: u16 = 1;
const LOOPBACK: u16 = 772;
const ETHERNET_LEN: usize = 14;

/// One frame.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Where it was heard.
    pub interface: String,
    /// All of it.
    pub bytes: Vec<u8>,
    header_len: usize,
}

impl Frame {
    /// Returns the packet in it.
    pub fn packet(&self) -> &[u8] {
        self.bytes.get(self.header_len..).unwrap_or_default()
    }

    /// Returns source and destination if it carries IPv6.
    pub fn ends(&self) -> Option<(Ipv6Addr, Ipv6Addr)> {
        let packet = self.packet();
        let is_six = packet.first().is_some_and(|first| first >> 4 == 6);
        let at = |from: usize| -> Option<Ipv6Addr> {
            let octets = packet.get(from..)?.first_chunk::<16>()?;
            Some(Ipv6Addr::from(*octets))
        };
        let ends = at(8).zip(at(24));
        ends.filter(|_| is_six)
    }

    /// Returns source, destination and body if it carries UDP over IPv4 in one piece.
    pub fn udp4(&self) -> Option<([u8; 4], [u8; 4], &[u8])> {
        let packet = self.packet();
        let (header, _) = packet.split_first_chunk::<20>()?;
        let &[first, .., a, b, c, d, e, f, g, h] = header;
        if first != 0x45 || header.get(9) != Some(&17) {
            return None;
        }
        Some(([a, b, c, d], [e, f, g, h], packet.get(28..)?))
    }
}

/// What was heard.
#[derive(Debug, Clone)]
pub struct Capture {
    /// In the order of time.
    pub frames: Vec<Frame>,
}

impl Capture {
    /// Returns what was heard on one interface.
    pub fn on(&self, interface: &str) -> impl Iterator<Item = &Frame> {
        let frames = self.frames.iter();
        frames.filter(move |frame| frame.interface == interface)
    }
}

/// How many frames each interface has had, or still has to be heard.
type Counts = BTreeMap<String, u64>;

/// A listening tap.
#[derive(Debug)]
pub struct Tap {
    holder: Pid,
    /// How many frames the kernel had counted when the tap was there.
    before: Counts,
    /// How many frames the tap must have heard before it ends, once it is told to.
    wanted: Arc<OnceLock<Counts>>,
    thread: JoinHandle<anyhow::Result<Vec<Frame>>>,
}

impl Tap {
    /// Listens at a home from now on.
    ///
    /// # Errors
    /// There is no such home, or no such right.
    pub fn open(lab: &Lab, home: &str) -> anyhow::Result<Self> {
        let holder = lab.holder(home)?;
        let wanted = Arc::new(OnceLock::new());
        let (ready, is_ready) = std::sync::mpsc::channel();
        let until = Arc::clone(&wanted);
        let thread = std::thread::spawn(move || {
            inside(holder, move || {
                let socket = open_socket()?;
                // The one who waits for it is the one who holds this thread.
                let _ = ready.send(());
                listen(&socket, &until)
            })
        });
        if is_ready.recv().is_err() {
            let ended = thread.join();
            let why = ended.map_err(|_| anyhow::anyhow!("the tap panicked"))?;
            why.context("cannot listen")?;
            anyhow::bail!("the tap ended before it began");
        }
        Ok(Self {
            holder,
            before: counted(holder)?,
            wanted,
            thread,
        })
    }

    /// Returns everything that was heard since it was opened.
    ///
    /// # Errors
    /// Frames were missed.
    pub fn close(self) -> anyhow::Result<Capture> {
        let mut wanted = counted(self.holder)?;
        for (interface, count) in &mut wanted {
            let before = self.before.get(interface).copied().unwrap_or(0);
            *count = count.saturating_sub(before);
        }
        // Nobody else sets it.
        let wanted = self.wanted.get_or_init(|| wanted);
        let frames = self.thread.join();
        let frames = frames.map_err(|_| anyhow::anyhow!("the tap panicked"))??;
        let capture = Capture { frames };
        for (interface, wanted) in wanted {
            let heard = capture.on(interface).count() as u64;
            ensure!(
                *wanted <= heard,
                "the tap missed frames on {interface}: {heard} of {wanted}"
            );
        }
        Ok(capture)
    }
}

/// Begins to listen on all interfaces of this thread's network.
fn open_socket() -> anyhow::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        flags,
        SockProtocol::EthAll,
    )
    .context("cannot listen to frames")?;
    if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_LEN).is_err() {
        // Not root of the machine: what there is; that nothing was missed is checked in the end.
        setsockopt(&socket, sockopt::RcvBuf, &BUFFER_LEN)?;
    }
    Ok(socket)
}

/// Takes frames until as many as wanted are heard, or those that are missing do not come.
///
/// It waits for counts and not for silence: a busy network is never silent.
fn listen(socket: &OwnedFd, wanted: &OnceLock<Counts>) -> anyhow::Result<Vec<Frame>> {
    let mut frames: Vec<Frame> = Vec::new();
    let mut heard = Counts::new();
    let mut told: Option<Instant> = None;
    let mut names: HashMap<usize, String> = HashMap::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        // What does not wait is found by the reading below.
        let _ = poll(
            &mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)],
            LOOK_INTERVAL_MS,
        );
        loop {
            let (len, from) = match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) {
                Ok(received) => received,
                Err(Errno::EAGAIN) => break,
                // An interface that went down says so once.
                Err(Errno::ENETDOWN) => continue,
                Err(error) => return Err(error).context("cannot hear"),
            };
            let from = from.context("a frame comes from an interface")?;
            let index = from.ifindex();
            let name = names.entry(index).or_insert_with(|| name_of(index)).clone();
            *heard.entry(name.clone()).or_default() += 1;
            frames.push(Frame {
                interface: name,
                bytes: buffer.get(..len).unwrap_or_default().to_vec(),
                header_len: match from.hatype() {
                    ETHERNET | LOOPBACK => ETHERNET_LEN,
                    _ => 0,
                },
            });
        }
        if let Some(wanted) = wanted.get() {
            let of = |name: &str| heard.get(name).copied().unwrap_or(0);
            let is_whole = wanted.iter().all(|(name, count)| *count <= of(name));
            if is_whole || LAST_FRAME_MAX <= told.get_or_insert_with(Instant::now).elapsed() {
                return Ok(frames);
            }
        }
    }
}

fn name_of(index: usize) -> String {
    let name = u32::try_from(index)
        .ok()
        .and_then(|index| if_indextoname(index).ok());
    name.map_or_else(
        || format!("#{index}"),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Returns how many frames came and went on each interface of a process's network.
fn counted(holder: Pid) -> anyhow::Result<Counts> {
    let text = fs::read_to_string(format!("/proc/{holder}/net/dev")).context("no counters")?;
    let rows = text.lines().filter_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        // Bytes and packets in; six columns later bytes and packets out.
        let mut numbers = numbers.split_whitespace();
        let received: u64 = numbers.nth(1)?.parse().ok()?;
        let sent: u64 = numbers.nth(7)?.parse().ok()?;
        Some((name.trim().to_owned(), received + sent))
    });
    Ok(rows.collect())
}

/// How many bytes in a row are no accident: ciphertext has them once in 2^64 places.
const WINDOW_LEN: usize = 8;

/// How many different bytes a window must have: zeros and counters stand everywhere.
const VARIETY_MIN: usize = 5;

/// What must not be seen: every eight bytes in a row of it.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    windows: HashMap<[u8; WINDOW_LEN], &'static str>,
}

impl Secrets {
    /// Adds bytes under a word for people; what is there already keeps its word.
    pub fn add(&mut self, word: &'static str, bytes: &[u8]) {
        for window in windows(bytes) {
            let mut sorted = window;
            sorted.sort_unstable();
            let steps = sorted.windows(2).filter(|two| two.first() != two.last());
            if VARIETY_MIN <= 1 + steps.count() {
                self.windows.entry(window).or_insert(word);
            }
        }
    }

    /// Adds an address, as bytes and as text.
    pub fn add_address(&mut self, word: &'static str, address: Ipv6Addr) {
        self.add(word, &address.octets());
        self.add(word, address.to_string().as_bytes());
    }

    /// Returns how many windows there are.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Returns whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Returns the word of the first secret in some bytes, and where it stands.
    pub fn first_in(&self, bytes: &[u8]) -> Option<(&'static str, usize)> {
        let mut found = windows(bytes).enumerate();
        found.find_map(|(at, window)| Some((*self.windows.get(&window)?, at)))
    }

    /// Returns how many windows of each word stand in some frames.
    pub fn count_in<'a>(&self, frames: impl Iterator<Item = &'a Frame>) -> Found {
        let mut seen = HashSet::new();
        let mut found = BTreeMap::new();
        for window in frames.flat_map(|frame| windows(&frame.bytes)) {
            if let Some(word) = self.windows.get(&window)
                && seen.insert(window)
            {
                *found.entry(*word).or_default() += 1;
            }
        }
        Found(found)
    }
}

/// How much of what was looked for is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found(BTreeMap<&'static str, usize>);

impl Found {
    /// Returns how many different windows of a word are there.
    pub fn of(&self, word: &str) -> usize {
        self.0.get(word).copied().unwrap_or(0)
    }
}

fn windows(bytes: &[u8]) -> impl Iterator<Item = [u8; WINDOW_LEN]> {
    let all = bytes.windows(WINDOW_LEN);
    all.filter_map(|window| window.first_chunk().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(header_len: usize, bytes: &[u8]) -> Frame {
        Frame {
            interface: "c1".to_owned(),
            bytes: bytes.to_vec(),
            header_len,
        }
    }

    #[test]
    fn eight_bytes_of_a_secret_are_found_anywhere_and_seven_are_not() {
        let mut secrets = Secrets::default();
        secrets.add("recipe", b"flour, water, salt");
        assert_eq!(secrets.first_in(b"...., water, ...."), Some(("recipe", 4)));
        assert_eq!(secrets.first_in(b"....water, ...."), None);
        let frames = [frame(0, b"xflour, wx"), frame(0, b"yflour, wy")];
        let found = secrets.count_in(frames.iter());
        assert_eq!((found.of("recipe"), found.of("other")), (1, 0));
    }

    #[test]
    fn what_stands_everywhere_is_no_secret() {
        let mut secrets = Secrets::default();
        secrets.add("zeros", &[0; 64]);
        secrets.add("few", &[1, 2, 3, 4, 4, 3, 2, 1]);
        assert!(secrets.is_empty());
        secrets.add("enough", &[1, 2, 3, 4, 5, 3, 2, 1]);
        assert_eq!(secrets.len(), 1);
    }

    #[test]
    fn address_is_found_as_bytes_and_as_text() {
        let address: Ipv6Addr = "fd73:1234:5678:9abc:def0:1122:3344:5566".parse().unwrap();
        let mut secrets = Secrets::default();
        secrets.add_address("service", address);
        let half = &address.octets()[8..];
        assert!(secrets.first_in(&[&[7; 3][..], half].concat()).is_some());
        assert!(secrets.first_in(b"open [fd73:1234:5678::1]").is_some());
        assert!(secrets.first_in(b"open [fd73:]").is_none());
    }

    #[test]
    fn ends_and_bodies_are_read_behind_the_link_header() {
        let (from, to): (Ipv6Addr, Ipv6Addr) =
            ("fd6d::1".parse().unwrap(), "fd6d::2".parse().unwrap());
        let mut bytes = vec![0x60, 0, 0, 0, 0, 0, 17, 64];
        bytes.extend_from_slice(&from.octets());
        bytes.extend_from_slice(&to.octets());
        assert_eq!(frame(0, &bytes).ends(), Some((from, to)));
        assert_eq!(frame(14, &bytes).ends(), None);
        let mut bytes = vec![0xee; 14];
        bytes.extend_from_slice(&[0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0]);
        bytes.extend_from_slice(&[10, 77, 0, 1, 10, 77, 0, 2, 0, 1, 0, 2, 0, 12, 0, 0]);
        bytes.extend_from_slice(b"body");
        let whole = frame(14, &bytes);
        let expect = ([10, 77, 0, 1], [10, 77, 0, 2], &b"body"[..]);
        assert_eq!(whole.udp4(), Some(expect));
        assert_eq!(whole.ends(), None);
    }
}
