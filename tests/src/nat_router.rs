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

use anyhow::{Context as _, ensure};
use nix::unistd::Pid;

use crate::inside::shell;
use crate::lab::{Holder, Kind};
use crate::nat::{Ports, Traits};
use crate::nat_rules::rules;

/// Most homes on one Internet: each has a number of 8 bits.
pub(crate) const HOMES_MAX: u8 = 250;

/// The address that a machine has at home behind any box.
pub const AT_HOME: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);

/// The last part of the first public address; [`mod@crate::line`] takes the one behind it.
const FIRST: u8 = 2;

/// The boxes of one home.
#[derive(Debug)]
pub struct Router {
    number: u8,
    /// The last part of the public address.
    host: u8,
    traits: Vec<Traits>,
    boxes: Vec<Holder>,
    /// How many machines are at home.
    machines: u8,
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
            host: FIRST,
            traits: boxes.to_vec(),
            boxes: Vec::new(),
            machines: 1,
            outermost: home,
        };
        for (depth, traits) in boxes.iter().enumerate() {
            let holder = Holder::start(Kind::Network)?;
            let pid = holder.pid;
            shell(
                Some(pid),
                &format!("{SETTINGS}\n{}", lan(router.net(depth))),
            )?;
            set_lifetime(pid, traits)?;
            let inner = router.outermost();
            cable(inner, (Some(pid), "port1"))?;
            shell(Some(pid), "ip link set port1 master lan")?;
            settle(inner, router.net(depth), FIRST)?;
            router.boxes.push(holder);
            router.outermost = pid;
            let outside = Ipv4Addr::from(with_host(router.net(depth + 1), FIRST));
            load_rules(pid, traits, outside)?;
        }
        let (inner, street) = (router.outermost(), router.street());
        cable(inner, (None, &street))?;
        let gateway = router.gateway();
        shell(None, &format!("ip address add {gateway}/24 dev {street}"))?;
        settle(inner, router.net(boxes.len()), FIRST)?;
        Ok(router)
    }

    /// Puts another machine, a process in its network, into the home.
    ///
    /// # Errors
    /// There is no home, only a machine in the open.
    pub fn admit(&mut self, machine: Pid) -> anyhow::Result<()> {
        let innermost = self
            .boxes
            .first()
            .context("nobody is at home in the open")?;
        self.machines += 1;
        let port = format!("port{}", self.machines);
        cable((machine, "eth0"), (Some(innermost.pid), &port))?;
        let join = format!("ip link set {port} master lan");
        shell(Some(innermost.pid), &join)?;
        let host = FIRST + self.machines - 1;
        settle((machine, "eth0"), self.net(0), host)
    }

    /// Gives the home another public address, as providers do at night: all mappings are gone.
    ///
    /// # Errors
    /// The address cannot be changed.
    pub fn renumber(&mut self) -> anyhow::Result<Ipv4Addr> {
        // Never one that it had.
        self.host = self.host.checked_add(10).context("too many addresses")?;
        let (pid, device) = self.outermost();
        shell(Some(pid), &format!("ip address flush dev {device}"))?;
        settle((pid, device), self.net(self.boxes.len()), self.host)?;
        if let Some(traits) = self.traits.last() {
            load_rules(pid, traits, self.address())?;
        }
        Ok(self.address())
    }

    /// Returns the address that the Internet knows.
    pub fn address(&self) -> Ipv4Addr {
        with_host(self.net(self.traits.len()), self.host).into()
    }

    /// Returns the address of the Internet's end of the last cable: public, and the test's own.
    pub fn gateway(&self) -> Ipv4Addr {
        with_host(self.net(self.traits.len()), 1).into()
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

    /// Returns the network before a box, or before the Internet behind the last one.
    fn net(&self, depth: usize) -> [u8; 3] {
        match (depth, self.traits.get(depth)) {
            (_, None) => [11, 77, self.number],
            (0, _) => [192, 168, 1],
            (_, Some(traits)) if traits.ports == Ports::Changed => [100, 64, self.number],
            _ => [192, 168, 0],
        }
    }
}

/// Completes an address.
fn with_host([a, b, c]: [u8; 3], host: u8) -> [u8; 4] {
    [a, b, c, host]
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

/// The lines that make a box's inside: a bridge with a port for each machine. What machines say to
/// each other is none of the rules' business; a kernel may think otherwise.
fn lan([a, b, c]: [u8; 3]) -> String {
    format!(
        "ip link add lan type bridge
        nosy=/proc/sys/net/bridge/bridge-nf-call-iptables
        if [ -e $nosy ]; then echo 0 > $nosy; fi
        ip address add {a}.{b}.{c}.1/24 dev lan
        ip link set lan up"
    )
}

/// Loads the rules of a box, in place of those that it has.
fn load_rules(pid: Pid, traits: &Traits, outside: Ipv4Addr) -> anyhow::Result<()> {
    let text = rules(traits, outside);
    // A table must be there to be deleted.
    let lines = format!("nft -f - <<'END'\ntable ip box\ndelete table ip box\n{text}END");
    shell(Some(pid), &lines)
}

/// Lays a cable between two new interfaces.
fn cable(inner: (Pid, &str), outer: (Option<Pid>, &str)) -> anyhow::Result<()> {
    let (near, far) = (inner.1, outer.1);
    let holder = outer.0.unwrap_or_else(Pid::this);
    shell(
        Some(inner.0),
        &format!(
            "ip link set lo up
            ip link add {near} type veth peer name {far} netns {holder}
            ip link set {near} up"
        ),
    )?;
    shell(outer.0, &format!("ip link set {far} up"))
}

/// Gives an interface its address, and leads everything to number 1 of its network.
fn settle((pid, device): (Pid, &str), net: [u8; 3], host: u8) -> anyhow::Result<()> {
    let [own, gateway] = [host, 1].map(|host| Ipv4Addr::from(with_host(net, host)));
    shell(
        Some(pid),
        &format!(
            "ip address add {own}/24 dev {device}
            ip route replace default via {gateway} dev {device}"
        ),
    )
}
