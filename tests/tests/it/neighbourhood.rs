//! The street of the access tests: five homes, a provider of the Internet, somebody who listens in
//! every corner, and ways into the networks of nodes and instances.
//!
//! ```text
//!   bakery-1  bakery-2  library-1  library-2  mill-1        isp: 198.51.100.1, 2001:db8::1
//!      └─────────┴──────────┴─────────┴─────────┴────────────┘      the default route of library-1
//! ```

use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use mesh_tests::home::{Home, sees};
use mesh_tests::lab::Lab;
use mesh_tests::processes::{self, children, command_line};
use mesh_tests::runner::Place;
use mesh_tests::said::Asked;
use mesh_tests::transcript::{Cast, TERMS, agree, found_org, raise_mesh};
use mesh_tests::until::until;
use nix::unistd::Pid;

/// How long a node may take to hear or to count something.
pub const SOON: Duration = Duration::from_secs(30);

/// Where everybody listens who does; 53 is where names are asked for.
pub const PORTS: [&str; 2] = ["7001", "53"];

/// What stands for the Internet, in both families.
pub const INTERNET: [&str; 2] = ["198.51.100.1", "2001:db8::1"];

const NAMES: [&str; 6] = [
    "bakery-1",
    "bakery-2",
    "library-1",
    "library-2",
    "mill-1",
    "isp",
];

/// Whether the nodes have rights on their machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// They run as root.
    Root,
    /// They run as an ordinary user.
    None,
}

/// The street with its mesh.
pub struct Neighbourhood {
    /// The homes' network; through it a home is used with all rights.
    pub lab: Lab,
    /// The bakery and the library, used as their nodes are.
    pub cast: Cast,
    /// Another organisation's node.
    pub mill: Home,
    /// The test binary.
    program: String,
    /// Who listens, with where.
    listeners: Vec<(String, Asked)>,
}

impl Neighbourhood {
    /// Builds it and raises the mesh: the bakery and the mill buy from the library, and know each
    /// other.
    pub fn raise(place: &Place, rights: Rights) -> anyhow::Result<Self> {
        let lab = Lab::new(&NAMES, &place.folder, &place.programs)?;
        let lived_in = |name: &str| {
            let home = lab.home(name)?;
            let ordinary = home.without_rights();
            anyhow::Ok(match rights {
                Rights::Root => home.clone(),
                Rights::None => ordinary,
            })
        };
        let cast = Cast::of(lived_in)?;
        let mill = lived_in("mill-1")?;
        cast.library.configure("capacity.slots", 4)?;
        mill.configure("capacity.slots", 0)?;
        // The listeners of this test want port 53 on every address.
        for home in cast.all().into_iter().chain([&mill]) {
            home.configure("names.listen", "off")?;
        }
        for name in NAMES {
            let own = format!("{}/64", lan_v6(&lab, name)?);
            lab.home(name)?
                .ip(&format!("address add {own} dev eth0 nodad"))?;
        }
        for address in INTERNET {
            lab.home("isp")?
                .ip(&format!("address add {address} dev lo"))?;
        }
        let (v4, v6) = (lab.address("isp")?, lan_v6(&lab, "isp")?);
        lab.home("library-1")?
            .ip(&format!("route add default via {v4}"))?;
        lab.home("library-1")?
            .ip(&format!("route add default via {v6}"))?;

        raise_mesh(&cast)?;
        found_org("mill", &mill)?;
        agree(&cast.library, &mill, &TERMS)?;
        agree(&mill, &cast.bakery, &TERMS)?;
        sees(&mill, &["library-1", "bakery-1"], SOON)?;
        let program = place.programs.join("it").to_string_lossy().into_owned();
        let mut all = Self {
            lab,
            cast,
            mill,
            program,
            listeners: Vec::new(),
        };
        for name in ["library-1", "library-2", "isp"] {
            all.listen(all.lab.home(name)?.clone(), name)?;
        }
        let (provider, customer) = (all.cast.library.clone(), all.cast.bakery.clone());
        for home in [provider, customer] {
            // As root the node's network is the machine's, where library-1 listens already.
            let place = all.overlay(&home)?;
            if rights == Rights::None || home.name != "library-1" {
                all.listen(place, &format!("overlay of {}", home.name))?;
            }
        }
        Ok(all)
    }

    /// Lets somebody listen on every address of a network.
    fn listen(&mut self, place: Home, name: &str) -> anyhow::Result<()> {
        let own = abstract_name(name);
        let arguments = [&["--listen", own.as_str()], &PORTS[..]].concat();
        let mut listener = place.begin(&self.program, &arguments)?;
        until(&format!("{name} listens"), SOON, || {
            Ok(listener.so_far()?.contains("listening").then_some(()))
        })?;
        self.listeners.push((name.to_owned(), listener));
        Ok(())
    }

    /// Returns what came to those who listen: anybody, by whatever way.
    pub fn visits(&mut self) -> anyhow::Result<Vec<String>> {
        let mut visits = Vec::new();
        for (name, listener) in &mut self.listeners {
            let said = listener.so_far()?;
            let lines = said.lines().filter(|line| line.starts_with("visit"));
            visits.extend(lines.map(|line| format!("{name}: {line}")));
        }
        Ok(visits)
    }

    /// Knocks from a network, and returns those knocks that were answered.
    pub fn answered(&self, from: &Home, knocks: &[String]) -> anyhow::Result<Vec<String>> {
        let words: Vec<&str> = knocks.iter().map(String::as_str).collect();
        let said = from.run(&self.program, &[&["--probe"], &words[..]].concat())?;
        let said = said.ok()?;
        let lines = said.stdout.lines();
        let mut yes: Vec<String> = lines
            .clone()
            .filter_map(|line| line.strip_prefix("yes ").map(str::to_owned))
            .collect();
        let no = lines.filter(|line| line.starts_with("no ")).count();
        ensure!(
            yes.len() + no == knocks.len(),
            "not every knock was tried:\n{said}"
        );
        yes.sort();
        Ok(yes)
    }

    /// Checks that every knock is answered, so that a refusal elsewhere means something.
    pub fn reaches(&self, who: &str, from: &Home, knocks: &[String]) -> anyhow::Result<()> {
        // On a busy machine an answer may come too late: whoever can be reached is reached soon.
        let mut missed = knocks.to_vec();
        let what = format!("{who} reaches {missed:?}");
        until(&what, SOON, || {
            let answered = self.answered(from, &missed)?;
            missed.retain(|knock| !answered.contains(knock));
            Ok(missed.is_empty().then_some(()))
        })
    }

    /// Checks that no knock is answered. Returns how many there were.
    pub fn reaches_nothing(
        &self,
        who: &str,
        from: &Home,
        knocks: &[String],
    ) -> anyhow::Result<usize> {
        let answered = self.answered(from, knocks)?;
        ensure!(answered.is_empty(), "{who} reaches {answered:?}");
        Ok(knocks.len())
    }

    /// Checks that a knock is refused at once and with these words, not by waiting in vain.
    pub fn is_told(&self, from: &Home, knock: &str, words: &str) -> anyhow::Result<()> {
        let said = from.run(&self.program, &["--probe", knock])?.ok()?;
        ensure!(
            said.stdout.starts_with("no ") && said.stdout.contains(words),
            "not told `{words}`:\n{said}"
        );
        Ok(())
    }

    /// Returns a home whose commands run where programs reach the overlay: the machine's network,
    /// or the node's own.
    pub fn overlay(&self, home: &Home) -> anyhow::Result<Home> {
        let machine = self.lab.home(&home.name)?;
        let status = home.quietly().status()?;
        if status.get("reach").and_then(|reach| reach.as_str()) == Some("address") {
            return Ok(machine.clone());
        }
        let is_helper = |pid: &Pid| command_line(*pid).last().map(String::as_str) == Some("netns");
        let helper = children(home.daemon()?).into_iter().find(is_helper);
        let helper = helper.with_context(|| format!("{} has no network of its own", home.name))?;
        Ok(machine.in_network_of(helper))
    }

    /// Returns what runs in the instance that has this address.
    pub fn instance(&self, address: Ipv6Addr) -> anyhow::Result<Instance> {
        let hex: String = address.octets().map(|byte| format!("{byte:02x}")).concat();
        let is_inside = |pid: &Pid| {
            let has = fs::read_to_string(format!("/proc/{pid}/net/if_inet6")).unwrap_or_default();
            has.contains(&hex)
        };
        let process = processes::all().into_iter().find(is_inside);
        let process = process.with_context(|| format!("nobody has the address {address}"))?;
        Ok(Instance {
            process,
            network: self.lab.home("library-1")?.in_network_of(process),
        })
    }
}

/// A running instance, seen from the machine's root.
pub struct Instance {
    process: Pid,
    /// Its network: a home whose commands run there, with more rights than anything inside has.
    pub network: Home,
}

impl Instance {
    /// Returns how many packets came to it.
    pub fn received(&self) -> anyhow::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/net/snmp6", self.process))?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("Ip6InReceives"));
        Ok(line.context("no counter of packets")?.trim().parse()?)
    }

    /// Lets its PostgreSQL run a command line, as whoever has broken into it could. Returns whether
    /// it succeeded.
    pub fn shell(&self, line: &str) -> anyhow::Result<bool> {
        let pid = self.process.to_string();
        let enter = ["nsenter", "-t", &pid, "-m", "--"].map(str::to_owned);
        let inside = self.network.clone().entered_by(enter.to_vec());
        // What is copied is read first, or the server complains of a pipe without a reader.
        let line = format!("read x; {line}").replace('\'', "''");
        let copy = format!("copy (select 1) to program '{line}'");
        let arguments = [
            "-h",
            "/run",
            "-U",
            "mesh_admin",
            "-d",
            "template1",
            "-Xqc",
            &copy,
        ];
        let said = inside.run(PSQL_INSIDE, &arguments)?;
        ensure!(
            said.code == 0 || said.stderr.contains("child process exited"),
            "PostgreSQL does not run it:\n{said}"
        );
        Ok(said.code == 0)
    }
}

/// PostgreSQL's client in the tree of the instance.
pub const PSQL_INSIDE: &str = "/usr/lib/postgresql/15/bin/psql";

/// Returns every way to knock at an address.
pub fn knocks_at(address: impl Into<IpAddr>) -> Vec<String> {
    let address = address.into();
    let mut knocks: Vec<String> = PORTS
        .iter()
        .flat_map(|port| ["tcp", "udp"].map(|kind| format!("{kind}/{address}/{port}")))
        .collect();
    // A ping of one's own loopback says nothing about others.
    if !address.is_loopback() {
        knocks.push(format!("ping/{address}"));
    }
    knocks
}

/// Returns the name of a listener's abstract socket.
pub fn abstract_name(listener: &str) -> String {
    format!("meshstead-{}", listener.replace(' ', "-"))
}

/// Returns a home's IPv6 address on the street.
pub fn lan_v6(lab: &Lab, name: &str) -> anyhow::Result<Ipv6Addr> {
    let [.., number] = lab.address(name)?.octets();
    Ok(Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, number.into()))
}
