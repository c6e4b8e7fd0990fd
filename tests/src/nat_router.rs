//! The boxes between one home and the Internet, each in a network namespace of its own.
//!
//! ```text
//!   home           box 1                  box 2                     Internet
//!   eth0 ──────── lan │ wan ──────────── lan │ wan ──────────────── v1
//!   192.168.1.2     .1 │ 192.168.0.2        .1 │ 11.77.1.2          11.77.1.1    double
//!   192.168.1.2     .1 │ 100.64.1.2         .1 │ 11.77.1.2          11.77.1.1    cgnat
//!   11.77.1.2 ─────────────────────────────────────────────────────  11.77.1.1    open
//! ```
//! Every home has the same address at home, as homes have: who takes another home's for its own
//! talks to itself. The Internet is the test's own namespace, which passes packets between the
//! homes' public networks and knows no private one. Its numbers look like any; nothing leaves the
//! namespace: they are in no range that programs know as private or as nobody's, for those would
//! take it for no Internet. No IPv6 but link-local.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use nix::unistd::Pid;

use crate::lab::{Holder, Kind};
use crate::nat::{Ports, Traits};
use crate::nat_rules::rules;

/// Most homes on one Internet: each has a number of 8 bits.
pub(crate) const HOMES_MAX: u8 = 250;

/// The address that a machine has at home behind any box.
pub const AT_HOME: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);

/// The boxes of one home.
#[derive(Debug)]
pub struct Router {
    number: u8,
    boxes: Vec<Holder>,
    /// A process in the namespace that has the public address.
    outermost: Pid,
}

impl Router {
    /// Builds these boxes, from the home outwards, between the network of `home`, a process, and
    /// the test's own.
    ///
    /// # Errors
    /// A namespace, a cable or a rule cannot be made.
    pub fn new(boxes: &[Traits], number: u8, home: Pid) -> anyhow::Result<Self> {
        ensure!((1..=HOMES_MAX).contains(&number), "no home {number}");
        let mut router = Self {
            number,
            boxes: Vec::new(),
            outermost: home,
        };
        let mut port = "eth0";
        let street = [11, 77, number];
        for (depth, traits) in boxes.iter().enumerate() {
            let holder = Holder::start(Kind::Network)?;
            let outer = holder.pid;
            cable(
                (router.outermost, port),
                (Some(outer), "lan"),
                net(depth, traits, number),
            )?;
            let next = boxes.get(depth + 1);
            let [a, b, c] = next.map_or(street, |traits| net(depth + 1, traits, number));
            let text = rules(traits, Ipv4Addr::new(a, b, c, 2));
            shell(
                Some(outer),
                &format!("{SETTINGS}\nnft -f - <<'END'\n{text}END"),
            )?;
            set_lifetime(outer, traits)?;
            router.boxes.push(holder);
            router.outermost = outer;
            port = "wan";
        }
        cable((router.outermost, port), (None, &router.street()), street)?;
        Ok(router)
    }

    /// Returns the address that the Internet knows.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(11, 77, self.number, 2)
    }

    /// Returns the address of the Internet's end of the last cable: public, and the test's own.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(11, 77, self.number, 1)
    }

    /// Returns the name of the Internet's end of the last cable.
    pub fn street(&self) -> String {
        format!("v{}", self.number)
    }

    /// Returns who has the public address: a process of its namespace, and the interface there.
    pub fn outermost(&self) -> (Pid, &'static str) {
        let name = if self.boxes.is_empty() { "eth0" } else { "wan" };
        (self.outermost, name)
    }

    /// Returns a process of each box, from the home outwards: for whoever adds rules, or a daemon
    /// that maps ports.
    pub fn boxes(&self) -> impl Iterator<Item = Pid> {
        self.boxes.iter().map(|holder| holder.pid)
    }
}

/// Returns the network inside a box.
fn net(depth: usize, traits: &Traits, number: u8) -> [u8; 3] {
    match depth {
        0 => [192, 168, 1],
        _ if traits.ports == Ports::Changed => [100, 64, number],
        _ => [192, 168, 0],
    }
}

/// Two more addresses of the test's own on the Internet.
pub const WITNESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(11, 77, 0, 1), Ipv4Addr::new(11, 77, 0, 2)];

/// Makes the test's own namespace the Internet.
///
/// # Errors
/// It is not the test's own.
pub(crate) fn make_internet() -> anyhow::Result<()> {
    let [one, two] = WITNESSES;
    let add = |address| format!("ip address add {address}/32 dev lo");
    shell(None, &[SETTINGS, &add(one), &add(two)].join("\n"))
}

/// What a namespace needs that passes packets on; homes' routers speak IPv4 only.
const SETTINGS: &str = "ip link set lo up
    echo 1 > /proc/sys/net/ipv4/ip_forward";

/// The kernel has a time for flows without an answer and one for others; a mapping has one.
fn set_lifetime(router: Pid, traits: &Traits) -> anyhow::Result<()> {
    let seconds = traits.lifetime.as_secs();
    shell(
        Some(router),
        &format!(
            "cd /proc/sys/net/netfilter
            echo {seconds} > nf_conntrack_udp_timeout
            echo {seconds} > nf_conntrack_udp_timeout_stream"
        ),
    )
}

/// Lays a cable: the inner end gets number 2 of a /24 and leads everything there, the outer end
/// number 1.
fn cable(inner: (Pid, &str), outer: (Option<Pid>, &str), net: [u8; 3]) -> anyhow::Result<()> {
    let [a, b, c] = net;
    let (near, far) = (inner.1, outer.1);
    let holder = outer.0.unwrap_or_else(Pid::this);
    shell(
        Some(inner.0),
        &format!(
            "ip link set lo up
            ip link add {near} type veth peer name {far} netns {holder}
            ip address add {a}.{b}.{c}.2/24 dev {near}
            ip link set {near} up"
        ),
    )?;
    shell(
        outer.0,
        &format!("ip address add {a}.{b}.{c}.1/24 dev {far}; ip link set {far} up"),
    )?;
    shell(
        Some(inner.0),
        &format!("ip route add default via {a}.{b}.{c}.1"),
    )
}

/// Runs lines of a shell in the network of a process, or in the test's own.
pub(crate) fn shell(pid: Option<Pid>, lines: &str) -> anyhow::Result<()> {
    let mut command = match pid {
        Some(pid) => {
            let mut command = Command::new("nsenter");
            command.args(["-t", &pid.to_string(), "-n", "--", "sh"]);
            command
        }
        None => Command::new("sh"),
    };
    let output = command
        .args(["-ec", lines])
        .stdin(Stdio::null())
        .output()
        .context("cannot run sh")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{lines}: {}", said.trim());
    Ok(())
}
