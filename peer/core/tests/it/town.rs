//! A small perfect world for whole nodes: no loss, no delay, drivers that always succeed.
//!
//! The simulator has the weather; this shows that the machines fit together when nothing goes
//! wrong.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use mesh_api::{ApiError, Event as ApiEvent, Reply, Request};
use mesh_base::digest::Digest;
use mesh_base::identity::{NodeId, SecretKey};
use mesh_base::time::{Moment, Now, Wall};
use mesh_compute::recipe::Recipe;
use mesh_compute::step::{Event, Isolation, ItemId, Meters, Step, Verdict};
use mesh_federation::capacity::Amount;
use mesh_ledger::gate::Direct;
use mesh_peer::genesis;
use mesh_peer::message::{JoinReply, JoinRequest, Message};
use mesh_peer::node::{Node, NodeConfig, Setup};
use mesh_peer::port::{CallId, Effect, Input, LinkSeen, Position, VisitId};
use mesh_routing::plan::{PeerPlan, Plan, Role};

/// One machine: its node and its disk.
pub struct Machine {
    pub node: Node,
    pub secret: SecretKey,
    pub journal: Vec<Vec<u8>>,
    pub slots: u32,
    pub steps: Vec<Step>,
    /// What runs on it, whatever its node remembers.
    pub running: std::collections::BTreeSet<ItemId>,
    /// How many entries its disk still takes; the power fails at the next one.
    pub room: Option<usize>,
    /// Its catalog is empty after the next restart.
    pub bare: bool,
    /// Says nothing that others hear; it hears everything.
    pub silent: bool,
    pub dead: bool,
    /// What its data plane was last told to do.
    pub plan: Option<Plan>,
    /// Keys of clients by their addresses, as last told.
    pub clients: BTreeMap<Ipv6Addr, [u8; 32]>,
}

/// How drivers do their work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drivers {
    /// Everything works at once.
    Well,
    /// Nothing can be created.
    Failing,
    /// They never answer.
    Silent,
}

/// Everything that happens, in order.
pub struct Town {
    /// How everybody's drivers work.
    pub drivers: Drivers,
    /// Whether those who knock at a door are let in to be answered.
    pub doors_answer: bool,
    pub machines: Vec<Machine>,
    now: Now,
    inbox: VecDeque<(usize, Input)>,
    links: std::collections::BTreeSet<(usize, usize)>,
    visits: BTreeMap<VisitId, (usize, CallId)>,
    joining: BTreeMap<VisitId, JoinReply>,
    pub replies: BTreeMap<CallId, Result<Reply, ApiError>>,
    pub events: Vec<(CallId, ApiEvent)>,
    calls: u64,
    /// Messages that were sent.
    pub sent: u64,
}

/// A recipe that nobody sells and whose order must say a word.
const BOTTLE: &str = r#"name = "bottle"
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

[publishes]
url = "bottle://{host}:{port}/{word}"
"#;

pub fn recipes() -> Vec<Recipe> {
    // Cargo starts tests in their package's folder, whichever checkout compiled them.
    let text = std::fs::read_to_string("../../catalog/postgres.toml");
    let postgres = text.expect("the shipped recipe is there");
    let parse = |text: &str| Recipe::parse(text).expect("it is lawful");
    vec![parse(&postgres), parse(BOTTLE)]
}

fn key(number: u8) -> SecretKey {
    SecretKey::from_seed([number; 32])
}

/// Returns the root key of the organisation that the n-th machine founded.
pub fn root_of(index: usize) -> SecretKey {
    key(u8::try_from(index + 1).unwrap() + 100)
}

impl Town {
    pub fn new() -> Self {
        Self {
            drivers: Drivers::Well,
            doors_answer: true,
            machines: Vec::new(),
            now: Now {
                mono: Moment(1_000_000),
                wall: Wall(1_795_413_600_000),
            },
            inbox: VecDeque::new(),
            links: std::collections::BTreeSet::new(),
            visits: BTreeMap::new(),
            joining: BTreeMap::new(),
            replies: BTreeMap::new(),
            events: Vec::new(),
            calls: 0,
            sent: 0,
        }
    }

    pub fn found(&mut self, org: &str, slots: u32) -> usize {
        let number = u8::try_from(self.machines.len() + 1).unwrap();
        let (secret, root) = (key(number), key(number + 100));
        let name = format!("{org}-1").parse().unwrap();
        let journal =
            genesis::found(&secret, &root, &org.parse().unwrap(), &name, self.now).unwrap();
        self.add(secret, journal, slots)
    }

    pub fn join(&mut self, host: usize, slots: u32) -> usize {
        let number = u8::try_from(self.machines.len() + 1).unwrap();
        let secret = key(number);
        let reply = self.knock(host, &secret);
        let journal = genesis::joined(&reply).unwrap_or_else(|| panic!("refused: {reply:?}"));
        self.add(secret, journal, slots)
    }

    /// Invites a key and lets it knock at the door.
    pub fn knock(&mut self, host: usize, secret: &SecretKey) -> JoinReply {
        let call = self.ask(
            host,
            Request::MemberInvite {
                role: mesh_base::certificate::Role::Node,
                valid_s: 600,
            },
        );
        let Ok(Reply::MemberInvite { invite, .. }) = self.answer(call) else {
            panic!("no invite")
        };
        let invite = mesh_federation::invite::Invite::from_text(&invite, self.now.wall).unwrap();
        let visit = VisitId(1000 + self.calls);
        let node = NodeId(secret.public());
        let request = JoinRequest::Member {
            secret: invite.secret,
            node,
            name: None,
        };
        self.inbox.push_back((
            host,
            Input::Visit {
                visit,
                visitor: node,
                request,
            },
        ));
        self.run();
        self.joining.remove(&visit).expect("the door answers")
    }

    fn add(&mut self, secret: SecretKey, journal: Vec<Vec<u8>>, slots: u32) -> usize {
        let index = self.machines.len();
        let node = make(&secret, &journal, slots, recipes(), self.now);
        self.machines.push(Machine {
            node,
            secret,
            journal,
            slots,
            steps: Vec::new(),
            running: std::collections::BTreeSet::new(),
            room: None,
            bare: false,
            silent: false,
            dead: false,
            plan: None,
            clients: BTreeMap::new(),
        });
        self.greet(index);
        self.run();
        index
    }

    fn greet(&mut self, index: usize) {
        let port = u16::try_from(9000 + index).unwrap();
        let at: SocketAddr = ([127, 0, 0, 1], port).into();
        let input = Input::Underlay {
            control: vec![at],
            wireguard: vec![at],
            door: vec![at],
        };
        self.inbox.push_back((index, input));
        self.inbox
            .push_back((index, Input::Reach(mesh_peer::port::Reach::Address)));
        self.drain(index);
    }

    /// Loses everything but the disk, and starts again.
    pub fn restart(&mut self, index: usize) {
        for (a, b) in self.links.clone() {
            if a == index || b == index {
                self.cut(a, b);
            }
        }
        let machine = &mut self.machines[index];
        (machine.dead, machine.room) = (false, None);
        let known = if machine.bare { Vec::new() } else { recipes() };
        let (secret, journal) = (&machine.secret, &machine.journal);
        machine.node = make(secret, journal, machine.slots, known, self.now);
        // The drivers find again what runs.
        for item in machine.running.clone() {
            self.inbox
                .push_back((index, Input::Compute(Event::Started { item })));
        }
        self.greet(index);
        self.run();
    }

    /// Nobody is connected with it any more.
    pub fn leave(&mut self, index: usize) {
        for (a, b) in self.links.clone() {
            if a == index || b == index {
                self.cut(a, b);
            }
        }
        self.machines[index].dead = true;
        self.run();
    }

    fn cut(&mut self, a: usize, b: usize) {
        self.links.remove(&(a, b));
        let (left, right) = (self.machines[a].node.id(), self.machines[b].node.id());
        self.inbox
            .push_back((a, Input::Disconnected { peer: right }));
        self.inbox
            .push_back((b, Input::Disconnected { peer: left }));
    }

    pub fn ask(&mut self, index: usize, request: Request) -> CallId {
        self.calls += 1;
        let call = CallId(self.calls);
        self.inbox.push_back((index, Input::Api { call, request }));
        self.run();
        call
    }

    pub fn answer(&mut self, call: CallId) -> Result<Reply, ApiError> {
        for _ in 0..200 {
            if let Some(reply) = self.replies.remove(&call) {
                return reply;
            }
            self.pass(Duration::from_millis(250));
        }
        for machine in &self.machines {
            let orders: Vec<_> = machine
                .node
                .view()
                .orders
                .values()
                .map(|v| (v.order.name.to_string(), v.attempts.clone(), v.desire))
                .collect();
            eprintln!(
                "{} {orders:#?} steps {:?}",
                machine.node.chain().leaf().unwrap().name,
                machine.steps.len()
            );
        }
        panic!("call {call:?} was never answered: {:?}", self.events);
    }

    /// Waits a while for an answer that may never come: its node can die.
    pub fn maybe_answer(&mut self, call: CallId, waits: usize) -> Option<Result<Reply, ApiError>> {
        for _ in 0..waits {
            if let Some(reply) = self.replies.remove(&call) {
                return Some(reply);
            }
            self.pass(Duration::from_millis(250));
        }
        None
    }

    /// Returns what a machine's data plane was told about another machine.
    pub fn peer_plan(&self, index: usize, other: usize) -> Option<&PeerPlan> {
        let plan = self.machines[index].plan.as_ref()?;
        plan.peers.get(&self.machines[other].node.id())
    }

    /// Whether a machine keeps a link with another.
    pub fn is_neighbour(&self, index: usize, other: usize) -> bool {
        self.peer_plan(index, other)
            .is_some_and(|peer| peer.role == Role::Neighbour)
    }

    /// Tells every machine what its data plane sees: a link works if both keep it and neither is
    /// `off`.
    pub fn see_links(&mut self, off: &[usize]) {
        for index in 0..self.machines.len() {
            let others = (0..self.machines.len()).filter(|other| *other != index);
            let seen = others.map(|other| {
                let kept = self.is_neighbour(index, other) && self.is_neighbour(other, index);
                let up = kept && !off.contains(&index) && !off.contains(&other);
                let silent = Some(if up { 100 } else { 60_000 });
                LinkSeen {
                    peer: self.machines[other].node.id(),
                    endpoint: None,
                    carrier: mesh_routing::carriage::Carrier::Udp,
                    silent_ms: silent,
                    link_silent_ms: silent,
                    received_bytes: 0,
                    sent_bytes: 0,
                    routed_count: u32::from(up),
                }
            });
            let seen = seen.collect();
            self.inbox.push_back((index, Input::Links(seen)));
        }
        self.run();
    }

    /// Says something to a machine as if it came from its connection with another.
    pub fn say(&mut self, to: usize, from: usize, message: Message) {
        let from = self.machines[from].node.id();
        self.inbox.push_back((to, Input::Message { from, message }));
        self.run();
    }

    /// Hands an input to a machine as its shell would.
    pub fn feed(&mut self, index: usize, input: Input) {
        self.inbox.push_back((index, input));
        self.run();
    }

    /// The present.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Whether two machines are connected.
    pub fn linked(&self, a: usize, b: usize) -> bool {
        self.links.contains(&(a.min(b), a.max(b)))
    }

    /// How a machine is by its own account.
    pub fn status(&mut self, index: usize) -> mesh_api::status::StatusReply {
        let call = self.ask(index, Request::Status);
        match self.answer(call) {
            Ok(Reply::Status(status)) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// Lets time pass for everybody.
    pub fn pass(&mut self, time: Duration) {
        self.now.mono = self.now.mono + time;
        self.now.wall = self.now.wall + time;
        for index in 0..self.machines.len() {
            self.inbox.push_back((index, Input::Tick));
        }
        self.run();
    }

    fn run(&mut self) {
        for _ in 0..1_000_000 {
            let Some((index, input)) = self.inbox.pop_front() else {
                return;
            };
            if self.machines[index].dead {
                continue;
            }
            self.machines[index].node.handle(input, self.now);
            self.drain(index);
        }
        panic!("the town never comes to rest");
    }

    fn drain(&mut self, index: usize) {
        let mut last = None;
        while let Some(output) = self.machines[index].node.poll() {
            // The disk is at once: what waits for it may happen now, unless the power fails before.
            let machine = &mut self.machines[index];
            let full = machine.room == Some(machine.journal.len());
            machine.dead |= full && matches!(output.effect, Effect::Append { .. });
            let written = machine.journal.len() as u64;
            let done = output.after.is_some_and(|after| after.0 <= written);
            if !machine.dead || done {
                self.effect(index, output.effect, &mut last);
            }
        }
        if self.machines[index].dead {
            for (a, b) in self.links.clone() {
                if a == index || b == index {
                    self.cut(a, b);
                }
            }
            return;
        }
        if let Some(position) = last {
            self.inbox.push_back((index, Input::Persisted(position)));
        }
    }

    fn effect(&mut self, index: usize, effect: Effect, last: &mut Option<Position>) {
        let me = self.machines[index].node.id();
        match effect {
            Effect::Append { position, entry } => {
                self.machines[index].journal.push(entry);
                assert_eq!(position.0 as usize, self.machines[index].journal.len());
                *last = Some(position);
            }
            Effect::Send { to, message } => {
                let Some(target) = self.find(&to) else { return };
                self.sent += 1;
                if self.machines[index].silent {
                    return;
                }
                if self.links.contains(&(index.min(target), index.max(target))) {
                    let message = Message::from_bytes(&message.to_bytes()).expect("canonical");
                    self.inbox
                        .push_back((target, Input::Message { from: me, message }));
                }
            }
            Effect::Dial { peer, .. } => self.connect(index, peer),
            Effect::Answer { visit, reply } => match self.visits.remove(&visit) {
                Some((asker, call)) => {
                    self.inbox.push_back((
                        asker,
                        Input::Knocked {
                            call,
                            reply: Ok(*reply),
                        },
                    ));
                }
                None => {
                    self.joining.insert(visit, *reply);
                }
            },
            Effect::Knock {
                call,
                host,
                request,
                ..
            } if self.doors_answer => {
                let host = self.find(&host).expect("the host is in town");
                let visit = VisitId(call.0);
                self.visits.insert(visit, (index, call));
                let request = *request;
                self.inbox.push_back((
                    host,
                    Input::Visit {
                        visit,
                        visitor: me,
                        request,
                    },
                ));
            }
            Effect::ApiReply { call, reply } => {
                self.replies.insert(call, *reply);
            }
            Effect::ApiEvent { call, event } => self.events.push((call, *event)),
            Effect::Compute(step) => self.compute(index, step),
            Effect::Hangup { peer } => {
                if let Some(other) = self.find(&peer) {
                    let link = (index.min(other), index.max(other));
                    if self.links.contains(&link) {
                        self.cut(link.0, link.1);
                    }
                }
            }
            Effect::Knock { .. }
            | Effect::Explain { .. }
            | Effect::Trust { .. }
            | Effect::Door { .. }
            | Effect::ReadLog { .. }
            | Effect::Names(_) => {}
            Effect::Clients(clients) => self.machines[index].clients = clients,
            Effect::Overlay(plan) => self.machines[index].plan = Some(*plan),
        }
    }

    fn connect(&mut self, index: usize, peer: NodeId) {
        let Some(other) = self.find(&peer) else {
            return;
        };
        let (me, my_org) = {
            let node = &self.machines[index].node;
            (node.id(), node.trusted())
        };
        let trusts = |town: &Self, a: usize, b: usize| {
            let chain = town.machines[b].node.chain();
            chain
                .leaf()
                .is_some_and(|body| town.machines[a].node.trusted().contains(&body.org))
        };
        let _ = my_org;
        if !trusts(self, index, other) || !trusts(self, other, index) {
            return;
        }
        if self.machines[other].dead || self.machines[index].dead {
            return;
        }
        if !self.links.insert((index.min(other), index.max(other))) {
            return;
        }
        for (here, there, id) in [(index, other, peer), (other, index, me)] {
            let chain = self.machines[there].node.chain().clone();
            self.inbox.push_back((
                here,
                Input::Connected {
                    peer: id,
                    chain,
                    seen: None,
                },
            ));
        }
    }

    fn compute(&mut self, index: usize, step: Step) {
        let machine = &mut self.machines[index];
        machine.steps.push(step.clone());
        if self.drivers == Drivers::Silent {
            return;
        }
        if let (Drivers::Failing, Step::Create(spec)) = (self.drivers, &step) {
            let (item, reason) = (spec.item, "the disk is full".to_owned());
            let failed = Event::Failed { item, reason };
            self.inbox.push_back((index, Input::Compute(failed)));
            return;
        }
        match &step {
            Step::Start { item } => machine.running.insert(*item),
            Step::Stop { item } | Step::Destroy { item } => machine.running.remove(item),
            _ => false,
        };
        let event = match step {
            Step::Software { recipe } => Event::SoftwareReady {
                recipe,
                tree: Digest::of(b"tree"),
            },
            Step::Create(spec) => Event::Created { item: spec.item },
            Step::Start { item } => Event::Started { item },
            Step::Probe { item, promise } => Event::Probed {
                item,
                promise,
                verdict: Verdict::Holds,
            },
            Step::Stop { item } => Event::Stopped {
                item,
                how: "exit 0".to_owned(),
            },
            Step::Meter { item } => {
                let meters = Meters {
                    memory_mib: 30,
                    disk_mib: 20,
                    ..Meters::default()
                };
                Event::Metered { item, meters }
            }
            Step::Destroy { item } => Event::Destroyed { item },
        };
        self.inbox.push_back((index, Input::Compute(event)));
    }

    fn find(&self, node: &NodeId) -> Option<usize> {
        self.machines
            .iter()
            .position(|machine| machine.node.id() == *node)
    }
}

fn make(
    secret: &SecretKey,
    journal: &[Vec<u8>],
    slots: u32,
    recipes: Vec<Recipe>,
    now: Now,
) -> Node {
    let capacity = Amount {
        slots,
        memory_mib: 1024 * slots,
        cpu_millis: 4000 * slots,
        disk_mib: 4096 * slots,
    };
    let config = NodeConfig {
        isolation: Some(Isolation::Namespaces),
        metering_period: Duration::from_secs(3600),
        capacity,
        station: mesh_routing::neighbours::Station::Core,
        inbound_max: mesh_routing::neighbours::limits::INBOUND_MAX,
        version: "test".to_owned(),
    };
    let setup = Setup {
        secret: secret.clone(),
        config,
        recipes,
        seed: *secret.public().as_bytes(),
        verifier: Box::new(Direct),
    };
    Node::new(setup, journal, now).expect("the journal is whole")
}
