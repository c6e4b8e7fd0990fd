//! How a simulated mesh begins: organisations, their nodes, what each has to give, and the one
//! recipe.
//!
//! Keys are the same in every run, so that the slow address hash is done once a process; everything
//! else is drawn. Each node's journal begins as `meshnode init` and `meshnode join` would have
//! begun it.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use mesh_base::certificate::{Chain, Role};
use mesh_base::digest::Digest;
use mesh_base::identity::{NodeId, OrgId, SecretKey};
use mesh_base::money::{Money, Price};
use mesh_base::name::Name;
use mesh_base::time::{Moment, Now};
use mesh_compute::recipe::Recipe;
use mesh_compute::step::Isolation;
use mesh_peer::genesis::{Subject, certify, found, joined};
use mesh_peer::message::{Contact, JoinReply, SignedContact};
use mesh_peer::node::{Node, NodeConfig, Setup};

use crate::chance::Chance;
use crate::clock::Clock;
use crate::network::HostId;
use crate::notary::Notary;
use crate::storm::signed_ms;
use crate::world::World;

/// What everybody orders: small, with one promise, one parameter and one secret.
const RECIPE: &str = r#"name = "bottle"
title = "Bottle"
version = "1"
description = "Keeps a message."
runbook = "Nothing to do."
data = "/data"
run = ["/usr/bin/bottle", "{word}"]

[source]
kind = "debian"
suite = "bookworm"
packages = ["coreutils"]

[user]
uid = 100
gid = 100

[stop]
signal = "SIGTERM"
grace_ms = 1000

[limits]
memory_mib = 64
cpu_millis = 500
pids = 16

[ports]
main = 7

[parameters.word]
title = "Word"
kind = "string"
default = "{name_stem}"

[publishes]
url = "bottle://{host}:{port}/{word}"
"#;

/// Returns the recipe's name.
pub fn recipe_name() -> Name {
    "bottle".parse().expect("the constant is a name")
}

/// Returns what a bottle costs.
pub fn price() -> Price {
    "0.12EUR/month".parse().expect("the constant is a price")
}

/// Returns how much each organisation trusts each other: enough for every order.
pub fn credit() -> Money {
    "1000EUR".parse().expect("the constant is an amount")
}

/// A machine's key, names and size.
#[derive(Clone)]
pub struct Identity {
    secret: SecretKey,
    org: OrgId,
    name: Name,
    slots: u32,
    notary: Notary,
}

impl Identity {
    /// Returns the node's key.
    pub fn node(&self) -> NodeId {
        NodeId(self.secret.public())
    }

    /// Returns its organisation.
    pub fn org(&self) -> OrgId {
        self.org
    }

    /// Returns its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Returns how many instances its owner lets it hold.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Makes the core from what the disk gives.
    ///
    /// `slots` is what the daemon believes to have.
    pub fn start(
        &self,
        seed: [u8; 32],
        slots: u32,
        entries: &[Vec<u8>],
        now: Now,
    ) -> Result<Node, String> {
        let setup = Setup {
            secret: self.secret.clone(),
            config: NodeConfig {
                isolation: Some(Isolation::Namespaces),
                metering_period: Duration::from_secs(120),
                capacity: mesh_federation::capacity::Amount {
                    slots,
                    memory_mib: slots * 64,
                    cpu_millis: slots * 500,
                    disk_mib: slots * 1024,
                },
                station: mesh_routing::neighbours::Station::Core,
                inbound_max: mesh_routing::neighbours::limits::INBOUND_MAX,
                version: "sim".to_owned(),
            },
            recipes: vec![Recipe::parse(RECIPE).map_err(|error| error.to_string())?],
            seed,
            verifier: Box::new(self.notary.clone()),
        };
        Node::new(setup, entries, now).map_err(|error| error.to_string())
    }
}

/// One organisation of the plan.
#[derive(Debug)]
struct Org {
    name: Name,
    /// Slots and wall clock error of each node; the first is the master.
    nodes: Vec<(u32, i64)>,
}

/// The plan of a whole mesh.
#[derive(Debug)]
pub struct Mesh {
    orgs: Vec<Org>,
}

impl Mesh {
    /// Draws sizes and clocks for organisations with so many nodes.
    pub fn draw(orgs: &[(&str, u16)], skew_max: Duration, chance: &mut Chance) -> Self {
        // Few slots in some runs, so that orders are refused; many in others.
        let most = chance.between(4, 14);
        let org = |(name, count): &(&str, u16)| Org {
            name: name.parse().expect("organisations have lawful names"),
            nodes: (0..*count)
                .map(|_| {
                    let slots = u32::try_from(chance.between(1, most)).unwrap_or(1);
                    (slots, signed_ms(chance, skew_max))
                })
                .collect(),
        };
        Self {
            orgs: orgs.iter().map(org).collect(),
        }
    }

    /// Leaves one slot to the first node and none to all others.
    pub fn leave_one_slot(&mut self) {
        let all = self.orgs.iter_mut().flat_map(|org| org.nodes.iter_mut());
        for (index, (slots, _)) in all.enumerate() {
            *slots = u32::from(index == 0);
        }
    }

    /// Founds everything in a world; returns the masters.
    pub fn settle(&self, world: &mut World) -> Vec<HostId> {
        let (notary, mut masters) = (Notary::default(), Vec::new());
        for org in &self.orgs {
            let first = world.hosts().len();
            let members = org.members(first, &notary);
            for (index, (identity, entries, skew_ms)) in members.into_iter().enumerate() {
                let host = world.add_host(identity, &entries, skew_ms);
                if index == 0 {
                    masters.push(host);
                }
            }
        }
        masters
    }
}

/// A machine to be: who it is, how its journal begins, how wrong its wall clock is.
type Member = (Identity, Vec<Vec<u8>>, i64);

impl Org {
    /// Makes every member; the machines will be hosts from `first` on.
    fn members(&self, first: usize, notary: &Notary) -> Vec<Member> {
        let now = Clock::new(0).read(Moment(0));
        let root = key(&[self.name.as_str(), "root"], 0);
        let master = key(&[self.name.as_str(), "node"], 0);
        let org = OrgId(root.public());
        let subject = |index: usize, role| Subject {
            node: NodeId(key(&[self.name.as_str(), "node"], index).public()),
            name: self.node_name(index),
            role,
            org,
            org_name: self.name.clone(),
        };
        let master_certificate = certify(&subject(0, Role::Master), &root, now.wall);
        let contact = Contact {
            node: NodeId(master.public()),
            chain: Chain(vec![master_certificate.clone()]),
            sequence: 1,
            control: vec![address_of(first)],
            wireguard: Vec::new(),
            leaf: false,
        };
        let contact = SignedContact::sign(contact, &master);
        let member = |(index, (slots, skew_ms)): (usize, &(u32, i64))| {
            let secret = key(&[self.name.as_str(), "node"], index);
            let entries = if index == 0 {
                found(&master, &root, &self.name, &self.node_name(0), now)
                    .expect("a charter fits into an empty ledger")
            } else {
                let own = certify(&subject(index, Role::Node), &master, now.wall);
                let reply = JoinReply::Member {
                    chain: Chain(vec![own, master_certificate.clone()]),
                    org,
                    contacts: vec![contact.clone()],
                    wall: now.wall,
                };
                joined(&reply).expect("a welcome is no refusal")
            };
            let name = self.node_name(index);
            let identity = Identity {
                secret,
                org,
                name,
                slots: *slots,
                notary: notary.clone(),
            };
            (identity, entries, *skew_ms)
        };
        self.nodes.iter().enumerate().map(member).collect()
    }

    fn node_name(&self, index: usize) -> Name {
        format!("{}-{}", self.name, index + 1)
            .parse()
            .expect("a name and a number are a name")
    }
}

/// Returns where the n-th host of a world is reached.
pub fn address_of(host: usize) -> SocketAddr {
    let [.., high, low] = host.to_be_bytes();
    SocketAddr::from(([10, 77, high, low], 4001))
}

impl fmt::Display for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for org in &self.orgs {
            let slots: Vec<u32> = org.nodes.iter().map(|(slots, _)| *slots).collect();
            write!(f, "{} {slots:?} slots; ", org.name)?;
        }
        Ok(())
    }
}

/// Returns a node that calls itself a member of an organisation that nobody knows, and its
/// certificates.
pub fn strange_chain() -> (NodeId, Chain) {
    let (root, node) = (key(&["stranger", "root"], 0), key(&["stranger", "node"], 0));
    let name: Name = "stranger".parse().expect("the constant is a name");
    let subject = Subject {
        node: NodeId(node.public()),
        name: name.clone(),
        role: Role::Master,
        org: OrgId(root.public()),
        org_name: name,
    };
    let now = Clock::new(0).read(Moment(0));
    (
        subject.node,
        Chain(vec![certify(&subject, &root, now.wall)]),
    )
}

fn key(parts: &[&str], index: usize) -> SecretKey {
    let text = parts.join("/");
    let digest = Digest::of_parts(&[b"meshsim", text.as_bytes(), &index.to_be_bytes()]);
    SecretKey::from_seed(*digest.as_bytes())
}
