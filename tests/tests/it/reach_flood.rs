//! Bar reach.flood: a stranger throws handshakes at a node; those who know it notice little.
//!
//! ```text
//!   bakery-2 ═══ TCP, through the overlay ═══► bakery-1 ◄── 50,000 initiations/s ── stranger-1
//!        100 Mbit/s, by a token bucket             ▲                                 (core 1)
//!                                       bakery-4 joins meanwhile
//! ```
//! The shaper stands at the honest sender's end and in no other place. Junk at this rate is 76
//! Mbit/s by itself: with a shaper of 100 Mbit/s before the receiver there would be no room for
//! 70 %, whatever a node did, so the bar can only mean its processor and its queues. Sender,
//! receiver and flooder share the machine's cores; only the flooder is bound to one. Half of the
//! junk is right in every field and half has a wrong mac1; half comes from one address, half from
//! 128 networks.

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use mesh_tests::figures::Figure;
use mesh_tests::home::{Home, see_each_other};
use mesh_tests::inside::inside;
use mesh_tests::lab::Lab;
use mesh_tests::processes::{self, Cost};
use mesh_tests::runner::Place;
use mesh_tests::said::Asked;
use mesh_tests::transcript::{found_org, join};
use mesh_tests::until::{rest, until};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn6, bind, connect, setsockopt, socket, sockopt,
};

const NAMES: [&str; 5] = ["bakery-1", "bakery-2", "bakery-3", "bakery-4", "stranger-1"];

/// The bar's limits.
const GOODPUT_MIN: f64 = 0.7;
const JOIN_MAX: Duration = Duration::from_secs(2);
const GROWTH_MIB_MAX: f64 = 64.0;
const RATE: f64 = 50_000.0;

/// A flooder that falls behind by more did not do what the bar asks for; nor did one whose junk the
/// node has not seen. What the kernel drops for want of room is not seen.
const RATE_SHARE_MIN: f64 = 0.95;
const ARRIVED_SHARE_MIN: f64 = 0.25;

const SHAPER: &str = "qdisc add dev eth0 root tbf rate 100mbit burst 64kb latency 50ms";
/// Networks that lead to the stranger, so that what is answered goes somewhere.
const ELSEWHERE: &str = "10.99.0.0/16";

/// How long a mesh may take to find itself.
const SOON: Duration = Duration::from_secs(30);
/// TCP has found its pace after this, and is measured for that long.
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(8);
/// More than what is measured while it lasts.
const FLOOD_SECONDS: &str = "30";

/// The one port of a machine that the overlay lets others open a connection to, and where it is led
/// here, for it is taken.
const OPEN_PORT: u16 = 6787;
const SINK_PORT: u16 = 5001;

/// Measures without and with the flood.
pub fn flood_of_handshakes_is_survived(place: &Place) -> anyhow::Result<()> {
    let lab = Lab::new(&NAMES, &place.folder, &place.programs)?;
    let [flooded, sender, third, fourth, stranger] = NAMES.map(|name| lab.home(name));
    let (flooded, sender, stranger) = (flooded?, sender?, stranger?);
    found_org("bakery", flooded)?;
    join(flooded, sender)?;
    see_each_other(&[flooded, sender], SOON)?;
    let calm_join = timed_join(flooded, third?)?;
    sender
        .run("tc", &SHAPER.split(' ').collect::<Vec<_>>())?
        .ok()?;
    let transfer = Transfer::default();
    let (calm, flood, rss, join, after) = thread::scope(|scope| {
        let _over = OnDrop(&transfer.over);
        transfer.begin(scope, &lab)?;
        let work = Work::of(flooded)?;
        let calm = transfer.rate()?;
        let idle = Work::of(flooded)?.since(&work);
        let before = cost(flooded)?.rss_mib;
        let flood = begin_flood(place, &lab, flooded, stranger)?;
        let work = Work::of(flooded)?;
        let during = transfer.rate()?;
        let work = Work::of(flooded)?.since(&work);
        let join = timed_join(flooded, fourth?)?;
        let rss = cost(flooded)?.rss_mib - before;
        let rate = told(flood)?;
        let (busy, arrived) = work;
        println!(
            "measured: while flooded, the node took {:.0} % of a core ({:.0} % before) and threw \
             {arrived:.0} datagrams away each second",
            100.0 * busy,
            100.0 * idle.0
        );
        ensure!(
            ARRIVED_SHARE_MIN * rate <= arrived,
            "{arrived:.0} of {rate:.0} came in"
        );
        anyhow::Ok((calm, (during, rate), rss, join, transfer.rate()?))
    })?;
    let (during, rate) = flood;
    ensure!(
        RATE_SHARE_MIN * RATE <= rate,
        "only {rate:.0} of {RATE} came each second"
    );
    let ratio = during / calm;
    let holds = GOODPUT_MIN <= ratio && join <= JOIN_MAX && rss <= GROWTH_MIB_MAX;
    let text = format!(
        "{rate:.0} initiations/s: goodput {during:.1} of {calm:.1} Mbit/s ({:.0} %; {after:.1} \
         after it), a join {:.2} s ({:.2} s without a flood), RSS {rss:+.1} MiB",
        100.0 * ratio,
        join.as_secs_f64(),
        calm_join.as_secs_f64(),
    );
    let figure = Figure {
        bar: "reach.flood".to_owned(),
        text,
        holds,
    };
    figure.hold()
}

/// Returns how long it takes from the command with which a machine joins to the first answer that
/// it gets through the overlay.
fn timed_join(first: &Home, home: &Home) -> anyhow::Result<Duration> {
    let address = first.overlay_address()?;
    let invite = first
        .meshctl(&["member", "invite", "--role", "node"])?
        .value()?;
    let start = Instant::now();
    home.meshnode(&["join", &invite, "--name", &home.name, "--yes"])?
        .ok()?;
    let joined = start.elapsed();
    home.start()?;
    let started = start.elapsed();
    let ping = ["-n", "-q", "-c1", "-i0.02", "-w2", &address];
    until("a new member is answered", SOON, || {
        Ok((home.run("ping", &ping)?.code == 0).then_some(()))
    })?;
    let answered = start.elapsed();
    println!(
        "measured: {} has joined after {joined:.2?}, runs after {started:.2?}, is answered after \
         {answered:.2?}",
        home.name
    );
    Ok(answered)
}

fn begin_flood(place: &Place, lab: &Lab, flooded: &Home, stranger: &Home) -> anyhow::Result<Asked> {
    let via = lab.address(&stranger.name)?;
    flooded.ip(&format!("route add {ELSEWHERE} via {via}"))?;
    stranger.ip(&format!("route add local {ELSEWHERE} dev lo"))?;
    let to = format!(
        "{}:{}",
        lab.address(&flooded.name)?,
        flooded.port("wireguard")?
    );
    let status = flooded.quietly().status()?;
    let node = status.get("node_id").and_then(serde_json::Value::as_str);
    let program = place.programs.join("flood").to_string_lossy().into_owned();
    let rate = format!("{RATE:.0}");
    let words = [
        ["-c", "1", &program, node.context("a node has a key")?],
        [&to, &rate, FLOOD_SECONDS, "10.99.0.0"],
    ];
    let mut flood = stranger.begin("taskset", words.as_flattened())?;
    until("the flood begins", SOON, || {
        Ok(flood.so_far()?.contains("flooding").then_some(()))
    })?;
    Ok(flood)
}

/// Waits for the end of the flood and returns how many datagrams left each second.
fn told(flood: Asked) -> anyhow::Result<f64> {
    let said = flood.answer(SOON + SOON)?.ok()?.stdout;
    let line = said.lines().find_map(|line| line.strip_prefix("sent "));
    let read = |line: &str| {
        let (count, time) = line.split_once(" in ")?;
        let seconds: f64 = time.strip_suffix(" s")?.parse().ok()?;
        Some(count.parse::<f64>().ok()? / seconds)
    };
    line.and_then(read)
        .with_context(|| format!("no count: {said}"))
}

/// Returns what a node's daemon costs.
fn cost(home: &Home) -> anyhow::Result<Cost> {
    processes::cost(home.daemon()?).context("the daemon is gone")
}

/// What a node's daemon has done so far.
struct Work {
    at: Instant,
    cpu: Duration,
    dropped: u64,
}

impl Work {
    fn of(home: &Home) -> anyhow::Result<Self> {
        let Cost { cpu, .. } = cost(home)?;
        let status = home.quietly().status()?;
        let counts = status.get("dropped").and_then(serde_json::Value::as_object);
        let counts = counts.context("no counts")?.values();
        Ok(Self {
            at: Instant::now(),
            cpu,
            dropped: counts.filter_map(serde_json::Value::as_u64).sum(),
        })
    }

    /// Returns its share of a core since then, and how many packets went nowhere each second.
    fn since(&self, before: &Self) -> (f64, f64) {
        let seconds = (self.at - before.at).as_secs_f64();
        let cpu = self.cpu.saturating_sub(before.cpu).as_secs_f64();
        let dropped = self.dropped.saturating_sub(before.dropped) as f64;
        (cpu / seconds, dropped / seconds)
    }
}

/// Ends the transfer whatever comes.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A TCP connection from one home to another that is always full.
#[derive(Debug, Default)]
struct Transfer {
    over: AtomicBool,
    received: AtomicU64,
}

impl Transfer {
    fn begin<'scope>(
        &'scope self,
        scope: &'scope thread::Scope<'scope, '_>,
        lab: &Lab,
    ) -> anyhow::Result<()> {
        let (from, to) = (lab.home("bakery-2")?, lab.home("bakery-1")?);
        let [source, address] = [from, to]
            .map(|home| -> anyhow::Result<Ipv6Addr> { Ok(home.overlay_address()?.parse()?) });
        let (source, address) = (source?, address?);
        // A node's own address takes connections to one port only: what comes from the sender's
        // chosen port is led past the node's own listener there.
        let rules = format!(
            "table ip6 sink {{\nchain in {{ type nat hook prerouting priority dstnat; \
             tcp sport {SINK_PORT} tcp dport {OPEN_PORT} redirect to :{SINK_PORT}; }}\n}}"
        );
        to.run("nft", &[&rules])?.ok()?;
        let listener = inside(lab.holder(&to.name)?, || {
            Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, SINK_PORT))?)
        })?;
        let mut out = inside(lab.holder(&from.name)?, || connect_from(source, address))?;
        let (mut sink, _) = listener.accept()?;
        sink.set_read_timeout(Some(SOON))?;
        scope.spawn(move || {
            let block = [0; 64 << 10];
            while !self.over.load(Ordering::Relaxed) {
                if out.write_all(&block).is_err() {
                    return;
                }
            }
        });
        scope.spawn(move || {
            let mut block = vec![0; 1 << 20];
            while let Ok(len @ 1..) = sink.read(&mut block) {
                self.received.fetch_add(len as u64, Ordering::Relaxed);
            }
        });
        Ok(())
    }

    /// Returns how many Mbit arrive each second, from soon on and for a while.
    fn rate(&self) -> anyhow::Result<f64> {
        rest(WARM_UP)?;
        let (start, before) = (Instant::now(), self.received.load(Ordering::Relaxed));
        rest(MEASURED)?;
        let count = self.received.load(Ordering::Relaxed) - before;
        Ok(8e-6 * count as f64 / start.elapsed().as_secs_f64())
    }
}

fn connect_from(source: Ipv6Addr, to: Ipv6Addr) -> anyhow::Result<TcpStream> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Inet6, SockType::Stream, flags, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    let own = SocketAddrV6::new(source, SINK_PORT, 0, 0);
    bind(fd.as_raw_fd(), &SockaddrIn6::from(own))?;
    let there = SocketAddrV6::new(to, OPEN_PORT, 0, 0);
    connect(fd.as_raw_fd(), &SockaddrIn6::from(there))
        .with_context(|| format!("cannot connect to {}", SocketAddr::from(there)))?;
    Ok(TcpStream::from(fd))
}
