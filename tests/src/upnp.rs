//! A home behind a router with Debian's miniupnpd, and a friend's machine on the other side.
//!
//! ```text
//!   home ── e0 ──── lan0 ── router ── wan0 ──── e0 ── friend
//!   192.168.7.2      .1   NAT, nftables   11.0.0.1       .9, lets nobody in by UDP whom it has
//!                         miniupnpd                          not written to first
//! ```
//! miniupnpd maps ports only for a router whose outside looks public, so the outside does; nothing
//! leaves these namespaces. It needs no root: its tables are those of the router's namespace.

use std::fs;
use std::process::Child;
use std::time::Duration;

use anyhow::Context as _;

use crate::runner::Place;
use crate::until::until;
use crate::yard::Yard;

/// The router's outside.
pub const OUTSIDE: &str = "11.0.0.1";
/// The home's address on its own network.
pub const INSIDE: &str = "192.168.7.2";

const MINIUPNPD: &str = "/usr/sbin/miniupnpd";
/// How long it may take to start: it looks for what it forgot.
const STARTED: Duration = Duration::from_secs(20);

/// What a home's router does without being asked: hides the home, lets in only answers. The names
/// are those that miniupnpd looks for; it writes no other tables.
const NAT: &str = "echo 1 > /proc/sys/net/ipv4/ip_forward
    nft -f - <<'END'
    table inet filter {
      chain forward {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname lan0 accept
        jump miniupnpd
      }
      chain miniupnpd { }
    }
    table inet nat {
      chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
      chain postrouting {
        type nat hook postrouting priority 100
        jump postrouting_miniupnpd
        oifname wan0 masquerade
      }
      chain prerouting_miniupnpd { }
      chain postrouting_miniupnpd { }
    }
END";

/// What the friend's own wall lets in.
const WALL: &str = "nft -f - <<'END'
    table inet wall {
      chain input {
        type filter hook input priority 0
        iifname e0 meta l4proto udp ct state new drop
      }
    }
END";

/// Counts datagrams of seven bytes that come to the home: no protocol of ours has such.
const WATCH: &str = "nft -f - <<'END'
    table inet watch {
      chain input { type filter hook input priority 0; udp length 15 counter; }
    }
END";

/// By which protocols a router can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// PCP and NAT-PMP.
    PcpAndNatPmp,
    /// UPnP.
    Upnp,
    /// All three.
    All,
}

/// The router's miniupnpd; it ends with this.
#[derive(Debug)]
pub struct Miniupnpd<'a> {
    yard: &'a Yard,
    speaks: Speaks,
    child: Child,
}

/// Builds home, router and friend.
///
/// # Errors
/// A namespace or a cable cannot be made.
pub fn yard(place: &Place) -> anyhow::Result<Yard> {
    let yard = Yard::new(place, &["home", "router", "friend"])?;
    yard.cable(("home", "e0"), ("router", "lan0"))?;
    yard.cable(("router", "wan0"), ("friend", "e0"))?;
    yard.shell(
        "home",
        &format!(
            "ip address add {INSIDE}/24 dev e0; ip route add default via 192.168.7.1\n{WATCH}"
        ),
    )?;
    yard.shell(
        "router",
        &format!(
            "ip address add 192.168.7.1/24 dev lan0; ip address add {OUTSIDE}/24 dev wan0\n{NAT}"
        ),
    )?;
    let friend = format!("ip address add 11.0.0.9/24 dev e0\n{WALL}");
    yard.shell("friend", &friend)?;
    Ok(yard)
}

/// Returns how many marked datagrams have come to the home.
///
/// # Errors
/// They are not counted.
pub fn marked_count(yard: &Yard) -> anyhow::Result<u64> {
    let said = yard.ask("home", "nft list table inet watch")?;
    let (_, count) = said.split_once("packets ").context("no counter")?;
    let count = count.split(' ').next().context("no count")?;
    count.parse().context("not a count")
}

/// Sends a marked datagram from outside, from a port that nobody has written to.
///
/// # Errors
/// It cannot be sent.
pub fn send_marked(yard: &Yard, port: u16) -> anyhow::Result<()> {
    let line = format!("bash -c 'printf outside > /dev/udp/{OUTSIDE}/{port}'");
    yard.shell("friend", &line)
}

impl<'a> Miniupnpd<'a> {
    /// Starts it on the router.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(yard: &'a Yard, speaks: Speaks) -> anyhow::Result<Self> {
        let conf = yard.file("miniupnpd.conf");
        let yes = |is: bool| if is { "yes" } else { "no" };
        let pid = yard.file("miniupnpd.pid");
        let text = format!(
            "ext_ifname=wan0\nlistening_ip=lan0\nipv6_disable=yes\nhttp_port=0\nsecure_mode=yes\n\
             enable_natpmp={}\nenable_upnp={}\nmin_lifetime=2\nmax_lifetime=86400\n\
             upnp_table_name=filter\nupnp_nat_table_name=nat\n\
             uuid=7a9c1f6c-63ab-4c30-8c0f-f3edbdac1c45\n\
             allow 1024-65535 192.168.7.0/24 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n",
            yes(speaks != Speaks::Upnp),
            yes(speaks != Speaks::PcpAndNatPmp),
        );
        fs::write(&conf, text).context("cannot configure miniupnpd")?;
        // What it left when it was killed.
        let _ = fs::remove_file(&pid);
        let words = ["-d", "-f"].map(str::to_owned).to_vec();
        let rest = [&conf, &pid].map(|path| path.to_string_lossy().into_owned());
        let [conf, pid_file] = rest;
        let words = [words, vec![conf, "-P".to_owned(), pid_file]].concat();
        let mut child = yard.start("router", MINIUPNPD, &words)?;
        // It says everything on its standard error.
        drop(child.stdout.take());
        let started = Self {
            yard,
            speaks,
            child,
        };
        until("miniupnpd runs", STARTED, || Ok(pid.exists().then_some(())))?;
        Ok(started)
    }

    /// Restarts it as a router does that lost its power: nothing is mapped any more.
    ///
    /// # Errors
    /// It does not start again.
    pub fn restart(self) -> anyhow::Result<Self> {
        let (yard, speaks) = (self.yard, self.speaks);
        drop(self);
        yard.shell(
            "router",
            "nft flush chain inet nat prerouting_miniupnpd
            nft flush chain inet filter miniupnpd",
        )?;
        Self::start(yard, speaks)
    }

    /// Returns whether the router's table leads a port to the home, and lets it pass.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn maps(&self, port: u16) -> anyhow::Result<bool> {
        let tables = [
            ("inet nat prerouting_miniupnpd", "dnat"),
            ("inet filter miniupnpd", "accept"),
        ];
        for (chain, verdict) in tables {
            let said = self
                .yard
                .ask("router", &format!("nft list chain {chain}"))?;
            let is_it =
                |line: &str| line.contains(&format!("dport {port} ")) && line.contains(verdict);
            if !said.lines().any(is_it) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Drop for Miniupnpd<'_> {
    fn drop(&mut self) {
        // `nsenter` has become it; it may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
