//! The run: one queue of events over all hosts, their network and their disks.
//!
//! Drives the very same core as the daemon does: every input enters through [`World::input`], every
//! output is done in [`effects`](crate::effects). What goes wrong comes from
//! [`storm`](crate::storm). The scenario stands outside: it asks over the API and is told what it
//! would see. Invariant: nothing here depends on anything but the seed and what the scenario asks.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use mesh_api::{ApiError, Reply, Request};
use mesh_base::identity::NodeId;
use mesh_base::time::Moment;
use mesh_ledger::record::RecordId;
use mesh_peer::message::{JoinReply, JoinRequest, Message};
use mesh_peer::port::{CallId, Effect, Input, VisitId};

use crate::agenda::Agenda;
use crate::chance::Chance;
use crate::check::{Seen, Violation, Watch};
use crate::clock::Clock;
use crate::disk::Disk;
use crate::driver::{Change, Driver, WorkId};
use crate::founding::{Identity, address_of};
use crate::host::{Daemon, Host};
use crate::links::{LinkId, Links};
use crate::network::{CutId, HostId, Network};
use crate::plant::Plant;
use crate::storm::{Blow, Crash};
use crate::tally::{Fault, Sometimes, Tally};
use crate::trail::{Trail, Voice};
use crate::weather::Weather;

/// Longest time between two ticks, as the shell promises to the core.
const TICK_MAX: Duration = Duration::from_secs(1);

/// Longest word for a message: a line of a report.
const WORD_LEN_MAX: usize = 100;

/// What may happen next.
#[derive(Debug)]
pub(crate) enum Event {
    /// Time passes for a daemon.
    Tick { host: HostId, life: u64 },
    /// A sync ended.
    Synced { host: HostId, life: u64 },
    /// A message arrives.
    Arrive {
        from: HostId,
        to: HostId,
        link: LinkId,
        bytes: Rc<Vec<u8>>,
    },
    /// A connection attempt arrives.
    Dialled { from: HostId, life: u64, to: HostId },
    /// One end learns that the connection is over.
    LinkEnds { link: LinkId, host: HostId },
    /// One end has heard nothing for long.
    LinkSilent { link: LinkId, host: HostId },
    /// A visitor comes to a join door.
    Visit { visit: VisitId, to: HostId },
    /// A visitor hears the answer.
    Knocked {
        visit: VisitId,
        reply: Box<Result<JoinReply, String>>,
    },
    /// A step of a driver is done.
    Driven {
        host: HostId,
        boot: u64,
        work: WorkId,
    },
    /// A driver tells a new daemon what it found.
    Adopt { host: HostId, life: u64 },
    /// The weather acts.
    Blow(Blow),
    /// A partition ends.
    CutHeals(CutId),
    /// A daemon crashes in the middle of a sync.
    Doom {
        host: HostId,
        life: u64,
        crash: Crash,
        down: Duration,
    },
    /// A paused daemon goes on.
    Resume { host: HostId, life: u64 },
    /// A machine's daemon starts.
    Boot(HostId),
    /// The scenario asked to be woken.
    Alarm(u64),
}

/// A visit on its way.
#[derive(Debug)]
pub(crate) struct Call {
    pub from: HostId,
    pub life: u64,
    pub call: CallId,
    pub to: HostId,
    pub request: JoinRequest,
}

/// What a scenario sees.
#[derive(Debug)]
pub enum Happening {
    /// The alarm that it set.
    Alarm(u64),
    /// The last word on an API call.
    Reply {
        /// Which call.
        call: CallId,
        /// The answer.
        reply: Box<Result<Reply, ApiError>>,
    },
    /// A daemon told its caller how far an order is.
    Step {
        /// Which call.
        call: CallId,
    },
    /// The daemon died before it answered.
    CutOff {
        /// Which call.
        call: CallId,
    },
}

/// Sources of chance, one for each concern.
pub(crate) struct Chances {
    pub network: Chance,
    pub disk: Chance,
    pub driver: Chance,
    pub storm: Chance,
    pub core: Chance,
}

/// A whole run.
pub struct World {
    pub(crate) agenda: Agenda<Event>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) by_key: BTreeMap<NodeId, HostId>,
    pub(crate) network: Network,
    pub(crate) links: Links,
    pub(crate) weather: Weather,
    pub(crate) chances: Chances,
    pub(crate) visits: BTreeMap<VisitId, Call>,
    pub(crate) visits_made: u64,
    pub(crate) calls_made: u64,
    pub(crate) happenings: std::collections::VecDeque<Happening>,
    pub(crate) stormy: bool,
    /// The bug that is planted, if one is.
    pub plant: Option<Plant>,
    /// What happened, as counts.
    pub tally: Tally,
    /// What happened, as a hash.
    pub trail: Trail,
    /// The checkers.
    pub watch: Watch,
    pub(crate) violation: Option<Violation>,
}

impl World {
    /// Returns a world without hosts, in fair weather.
    pub fn new(seed: u64, voice: Voice, watch: Watch) -> Self {
        let chance = |label| Chance::new(seed, label);
        Self {
            agenda: Agenda::new(),
            hosts: Vec::new(),
            by_key: BTreeMap::new(),
            network: Network::default(),
            links: Links::default(),
            weather: Weather::fair(),
            chances: Chances {
                network: chance("network"),
                disk: chance("disk"),
                driver: chance("driver"),
                storm: chance("storm"),
                core: chance("core"),
            },
            visits: BTreeMap::new(),
            visits_made: 0,
            calls_made: 0,
            happenings: std::collections::VecDeque::new(),
            stormy: false,
            plant: None,
            tally: Tally::default(),
            trail: Trail::new(voice),
            watch,
            violation: None,
        }
    }

    /// Adds a machine whose journal holds `entries` already; it boots at once.
    pub fn add_host(&mut self, identity: Identity, entries: &[Vec<u8>], skew_ms: i64) -> HostId {
        if skew_ms != 0 {
            self.tally.fault(Fault::Skew);
        }
        let id = HostId(u16::try_from(self.hosts.len()).unwrap_or(u16::MAX));
        self.by_key.insert(identity.node(), id);
        self.hosts.push(Host {
            id,
            identity,
            address: address_of(usize::from(id.0)),
            clock: Clock::new(skew_ms),
            disk: Disk::new(entries),
            driver: Driver::default(),
            life: 0,
            boot: 0,
            daemon: None,
            paused: None,
            doom: None,
            met: BTreeMap::new(),
        });
        self.agenda
            .after(Duration::from_millis(u64::from(id.0)), Event::Boot(id));
        id
    }

    /// Asks a daemon over its API. Returns none if it does not run.
    pub fn ask(&mut self, host: HostId, request: Request) -> Option<CallId> {
        self.calls_made += 1;
        let call = CallId(self.calls_made);
        let daemon = self.host_mut(host)?.daemon.as_mut()?;
        daemon.calls.insert(call);
        self.trail
            .note(self.agenda.now(), "ask", &call.0.to_be_bytes(), || {
                format!("{host:?} {request:?}")
            });
        self.input(host, Input::Api { call, request });
        Some(call)
    }

    /// Wakes the scenario later.
    pub fn alarm(&mut self, rest: Duration, tag: u64) {
        self.agenda.after(rest, Event::Alarm(tag));
    }

    /// Goes on until the scenario has something to see. None means that nothing will ever happen
    /// again.
    pub fn next(&mut self) -> Result<Option<Happening>, Violation> {
        loop {
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
            if let Some(happening) = self.happenings.pop_front() {
                return Ok(Some(happening));
            }
            let Some((now, event)) = self.agenda.pop() else {
                return Ok(None);
            };
            self.handle(event, now);
        }
    }

    /// Reads every ledger and shows it to the checkers.
    pub fn look(&mut self) {
        for index in 0..self.hosts.len() {
            self.see(|hosts| {
                Some(Seen::Looked {
                    host: hosts.get(index)?,
                })
            });
        }
    }

    /// Takes the broken promise, if there is one.
    pub fn take_violation(&mut self) -> Option<Violation> {
        self.violation.take()
    }

    /// Returns whether one host believes to be connected with another.
    pub fn is_connected(&self, host: HostId, peer: HostId) -> bool {
        self.links.count(host, peer) != 0
    }

    /// Returns the present moment.
    pub fn now(&self) -> Moment {
        self.agenda.now()
    }

    /// Returns every host.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Returns one host.
    pub fn host(&self, id: HostId) -> Option<&Host> {
        self.hosts.get(usize::from(id.0))
    }

    pub(crate) fn host_mut(&mut self, id: HostId) -> Option<&mut Host> {
        self.hosts.get_mut(usize::from(id.0))
    }

    pub(crate) fn is_life(&self, host: HostId, life: u64) -> bool {
        self.host(host)
            .is_some_and(|host| host.life == life && host.daemon.is_some())
    }

    /// Shows something to the checkers.
    pub(crate) fn see<'a>(&'a mut self, make: impl FnOnce(&'a [Host]) -> Option<Seen<'a>>) {
        let Self {
            hosts,
            watch,
            tally,
            violation,
            agenda,
            ..
        } = self;
        let Some(seen) = make(hosts) else { return };
        if let Err(broken) = watch.see(&seen, agenda.now(), tally) {
            violation.get_or_insert(broken);
        }
    }

    fn handle(&mut self, event: Event, now: Moment) {
        match event {
            Event::Tick { host, life } => self.on_tick(host, life, now),
            Event::Synced { host, life } => self.on_synced(host, life),
            Event::Arrive {
                from,
                to,
                link,
                bytes,
            } => self.on_arrival(from, to, link, &bytes),
            Event::Dialled { from, life, to } => self.on_dialled(from, life, to),
            Event::LinkEnds { link, host } => self.shut(link, host),
            Event::LinkSilent { link, host } => self.on_silence(link, host),
            Event::Visit { visit, to } => self.on_visit(visit, to),
            Event::Knocked { visit, reply } => self.on_knocked(visit, *reply),
            Event::Driven { host, boot, work } => self.on_driven(host, boot, work, now),
            Event::Adopt { host, life } => self.on_adopt(host, life),
            Event::Blow(blow) => self.on_blow(blow),
            Event::CutHeals(cut) => {
                self.trail
                    .note(now, "heal", &cut.0.to_be_bytes(), String::new);
                self.network.heal(cut);
            }
            Event::Doom {
                host,
                life,
                crash,
                down,
            } => {
                if self.is_life(host, life) && self.stormy {
                    self.crash(host, crash, down);
                }
            }
            Event::Resume { host, life } => self.on_resume(host, life),
            Event::Boot(host) => self.on_boot(host),
            Event::Alarm(tag) => self.happenings.push_back(Happening::Alarm(tag)),
        }
    }

    /// Gives an input to a daemon and does what it wants done. Nothing happens if none runs.
    pub(crate) fn input(&mut self, id: HostId, input: Input) {
        let now = self.agenda.now();
        let Some(host) = self.host_mut(id) else {
            return;
        };
        if let Some(waiting) = &mut host.paused {
            waiting.push(input);
            return;
        }
        let clocks = host.clock.read(now);
        let Some(daemon) = &mut host.daemon else {
            return;
        };
        let durable = match input {
            Input::Persisted(position) => Some(position),
            _ => None,
        };
        daemon.node.handle(input, clocks);
        // The input first: the core may still cancel what it said.
        let freed: Vec<Effect> =
            durable.map_or_else(Vec::new, |durable| daemon.held.release(durable).collect());
        for effect in freed {
            self.perform(id, effect);
        }
        self.drain(id);
    }

    /// Does every effect that may happen now and keeps the others.
    pub(crate) fn drain(&mut self, id: HostId) {
        let plant = self.plant;
        loop {
            let Some(daemon) = self.host_mut(id).and_then(|host| host.daemon.as_mut()) else {
                return;
            };
            let Some(mut output) = daemon.node.poll() else {
                break;
            };
            if plant.is_some_and(|plant| is_hasty(plant, &output.effect)) {
                output.after = None;
            }
            if let Some(effect) = daemon.held.admit(output.after, output.effect) {
                self.perform(id, effect);
            }
        }
        self.schedule_tick(id);
    }

    fn schedule_tick(&mut self, id: HostId) {
        let now = self.agenda.now();
        let Some(host) = self.host_mut(id) else {
            return;
        };
        let (life, clock) = (host.life, host.clock.clone());
        let Some(daemon) = &mut host.daemon else {
            return;
        };
        // A deadline that has passed is taken up a millisecond later, as a real timer would.
        let soon = now + Duration::from_millis(1);
        let deadline = daemon
            .node
            .next_deadline()
            .map(|mono| clock.moment(mono).max(soon));
        let latest = now + TICK_MAX;
        let due = deadline.map_or(latest, |deadline| deadline.min(latest));
        let stale = daemon.tick_at <= now;
        if stale || due < daemon.tick_at {
            daemon.tick_at = due;
            self.agenda.at(due, Event::Tick { host: id, life });
        }
    }

    fn on_tick(&mut self, host: HostId, life: u64, now: Moment) {
        let due = self
            .host(host)
            .filter(|host| host.life == life)
            .and_then(|host| host.daemon.as_ref())
            .is_some_and(|daemon| daemon.tick_at == now);
        let paused = self.host(host).is_some_and(|host| host.paused.is_some());
        if due && !paused {
            self.input(host, Input::Tick);
        }
    }

    fn on_resume(&mut self, id: HostId, life: u64) {
        if !self.is_life(id, life) {
            return;
        }
        let Some(waiting) = self.host_mut(id).and_then(|host| host.paused.take()) else {
            return;
        };
        self.trail
            .note(self.agenda.now(), "resume", &id.0.to_be_bytes(), || {
                format!("{id:?}")
            });
        for input in waiting {
            self.input(id, input);
        }
        self.input(id, Input::Tick);
    }

    fn on_boot(&mut self, id: HostId) {
        let now = self.agenda.now();
        let Some(index) = self.hosts.iter().position(|host| host.id == id) else {
            return;
        };
        let seed = self.chances.core.bytes();
        let unchecked = self.plant == Some(Plant::GrantWithoutCheck);
        let wait = self
            .chances
            .driver
            .span(Duration::from_millis(10), Duration::from_millis(500));
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        if host.daemon.is_some() {
            return;
        }
        host.life += 1;
        let (life, address) = (host.life, host.address);
        let slots = if unchecked {
            Plant::SLOTS_WITHOUT_CHECK
        } else {
            host.identity.slots()
        };
        let entries = host.disk.open();
        let count = entries.len() as u64;
        self.trail.note(now, "boot", &id.0.to_be_bytes(), || {
            format!("{id:?} life {life}, {count} entries")
        });
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        match host
            .identity
            .start(seed, slots, &entries, host.clock.read(now))
        {
            Ok(node) => host.daemon = Some(Daemon::new(node, count)),
            Err(error) => {
                let violation = Violation::new("a daemon starts from what its disk gives", error);
                self.violation.get_or_insert(violation);
                return;
            }
        }
        self.drain(id);
        let door = std::net::SocketAddr::new(address.ip(), 4002);
        let wireguard = std::net::SocketAddr::new(address.ip(), 51820);
        self.input(
            id,
            Input::Underlay {
                control: vec![address],
                wireguard: vec![wireguard],
                door: vec![door],
            },
        );
        self.input(id, Input::Reach(mesh_peer::port::Reach::Address));
        self.agenda.after(wait, Event::Adopt { host: id, life });
        self.see(|hosts| {
            Some(Seen::Booted {
                host: hosts.get(index)?,
            })
        });
        if self.host(id).is_some_and(has_open_order) && 1 < life {
            self.tally.met(Sometimes::RestartOpenOrder);
        }
    }

    fn on_synced(&mut self, id: HostId, life: u64) {
        if !self.is_life(id, life) {
            return;
        }
        let Some(host) = self.host_mut(id) else {
            return;
        };
        let Some(synced) = host.disk.sync() else {
            return;
        };
        let position = synced.position;
        if 0 < synced.replaced_len {
            self.tally.met(Sometimes::Compacted);
        }
        self.note_position(id, position.0);
        self.input(id, Input::Persisted(position));
        self.begin_sync(id);
    }

    fn note_position(&mut self, id: HostId, position: u64) {
        self.trail
            .note(self.agenda.now(), "synced", &position.to_be_bytes(), || {
                format!("{id:?} to {position}")
            });
    }

    fn on_arrival(&mut self, from: HostId, to: HostId, link: LinkId, bytes: &[u8]) {
        if !self.links.between(to, from).contains(&link) {
            return;
        }
        let Some(sender) = self.host(from).map(Host::key) else {
            return;
        };
        let now = self.agenda.now();
        let message = Message::from_bytes(bytes);
        self.trail.note(now, "arrive", bytes, || {
            let what = message.as_ref().map_or("garbled".to_owned(), word);
            format!("{from:?} to {to:?}: {what}")
        });
        let mut asked = None;
        let input = match message {
            Ok(message) => {
                asked = reserve_of(&message);
                self.count_changes(to, &message);
                Input::Message {
                    from: sender,
                    message,
                }
            }
            Err(_) => Input::Garbled { from: sender },
        };
        self.input(to, input);
        if let (Some(Plant::StartWithoutAward), Some(order)) = (self.plant, asked) {
            self.start_reserved(to, order);
        }
    }

    /// Counts changes that do not follow what the reader has, and those that it has already.
    fn count_changes(&mut self, to: HostId, message: &Message) {
        let Message::Changes(delta) = message else {
            return;
        };
        let Some(daemon) = self.host(to).and_then(|host| host.daemon.as_ref()) else {
            return;
        };
        let has = daemon
            .node
            .ledger()
            .frontier(&delta.doc)
            .unwrap_or_default()
            .seq;
        if has < delta.from_seq {
            self.tally.met(Sometimes::Gap);
        } else if delta.frontier().seq <= has {
            self.tally.met(Sometimes::Repeat);
        }
    }

    fn on_driven(&mut self, id: HostId, boot: u64, work: WorkId, now: Moment) {
        let Some(host) = self.host_mut(id).filter(|host| host.boot == boot) else {
            return;
        };
        let Some((event, change)) = host.driver.finish(work, now) else {
            return;
        };
        self.trail.note(
            now,
            "driven",
            format!("{id:?} {event:?}").as_bytes(),
            || format!("{id:?} {event:?}"),
        );
        if let Some(change) = change {
            if matches!(change, Change::Again(_)) {
                self.tally.met(Sometimes::StartedAgain);
            }
            self.see(|hosts| {
                Some(Seen::Driver {
                    host: hosts.get(usize::from(id.0))?,
                    change,
                })
            });
        }
        self.input(id, Input::Compute(event));
    }

    fn on_adopt(&mut self, id: HostId, life: u64) {
        if !self.is_life(id, life) {
            return;
        }
        let Some(host) = self.host(id) else { return };
        let found: Vec<_> = host.driver.items().collect();
        for (item, runs) in found {
            let event = if runs {
                self.tally.met(Sometimes::Adopted);
                mesh_compute::step::Event::Started { item }
            } else {
                let how = "reboot".to_owned();
                mesh_compute::step::Event::Stopped { item, how }
            };
            self.input(id, Input::Compute(event));
        }
    }
}

/// Returns whether a planted bug does not wait for the disk with an effect.
fn is_hasty(plant: Plant, effect: &Effect) -> bool {
    match plant {
        Plant::AcknowledgeBeforeSync => true,
        Plant::AnswerBeforeSync => {
            matches!(effect, Effect::ApiReply { .. } | Effect::ApiEvent { .. })
        }
        _ => false,
    }
}

/// Returns the order that a message asks to reserve for.
fn reserve_of(message: &Message) -> Option<RecordId> {
    match message {
        Message::Reserve { order, .. } => Some(order.id()),
        _ => None,
    }
}

/// Returns whether a host has placed an order that nobody has taken yet.
fn has_open_order(host: &Host) -> bool {
    let Some(daemon) = &host.daemon else {
        return false;
    };
    let mut orders = daemon.node.view().orders.values();
    orders.any(|order| {
        order.customer == host.key() && order.granted().is_none() && order.desire.is_none()
    })
}

/// Says in a few words what a message is.
pub(crate) fn word(message: &Message) -> String {
    match message {
        Message::Changes(delta) => {
            let to = delta.frontier().seq;
            format!("Changes {} from {} to {to}", delta.doc, delta.from_seq)
        }
        Message::Reserve { order, .. } => format!("Reserve {}", order.id().short()),
        other => format!("{other:?}").chars().take(WORD_LEN_MAX).collect(),
    }
}
