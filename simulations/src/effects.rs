//! Doing what a core wants done: disk, messages, connections, gate, door, drivers, answers.
//!
//! Leaves to [`world`](crate::world) when; here is only what an effect means in this virtual place.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use mesh_base::certificate::Chain;
use mesh_base::digest::Digest;
use mesh_base::identity::NodeId;
use mesh_base::time::Moment;
use mesh_compute::step::{InstanceSpec, ItemId, Step};
use mesh_ledger::record::RecordId;
use mesh_peer::message::{JoinReply, JoinRequest, Message};
use mesh_peer::port::{CallId, Effect, Input, VisitId};
use mesh_peer::refusal::Reason;

use crate::check::Seen;
use crate::host::Host;
use crate::links::{LinkId, Standing};
use crate::network::HostId;
use crate::plant::Plant;
use crate::tally::{Fault, Sometimes};
use crate::world::{Call, Event, Happening, World, word};

/// How long a host hears nothing before it gives up a connection: shortest and longest.
const SILENCE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(25));

impl World {
    /// Does one effect of a host's core.
    pub(crate) fn perform(&mut self, id: HostId, effect: Effect) {
        match effect {
            Effect::Append { position, entry } => {
                let now = self.agenda.now();
                self.trail
                    .note(now, "append", &entry, || format!("{id:?} {position:?}"));
                if let Some(host) = self.host_mut(id) {
                    host.disk.append(position, entry);
                }
                self.begin_sync(id);
            }
            Effect::Send { to, message } => self.send(id, to, &message),
            Effect::Dial { peer, .. } => self.dial(id, peer),
            Effect::Hangup { peer } => self.hangup(id, peer),
            Effect::Trust { roster, chain } => {
                if let Some(daemon) = self.host_mut(id).and_then(|host| host.daemon.as_mut()) {
                    daemon.roster = Some(roster);
                    daemon.chain = Some(chain);
                }
            }
            Effect::Door { open } => {
                if let Some(daemon) = self.host_mut(id).and_then(|host| host.daemon.as_mut()) {
                    daemon.door_open = open;
                }
            }
            Effect::Answer { visit, reply } => self.answer(visit, *reply),
            Effect::Knock {
                call,
                host,
                request,
                ..
            } => self.knock(id, call, host, *request),
            Effect::ApiEvent { call, event } => {
                let now = self.agenda.now();
                self.trail
                    .say(now, "event", || format!("{id:?} {call:?} {event:?}"));
                let daemon = self.host(id).and_then(|host| host.daemon.as_ref());
                let waits = daemon.is_some_and(|daemon| daemon.calls.contains(&call));
                if waits && matches!(*event, mesh_api::Event::Step { .. }) {
                    self.happenings.push_back(Happening::Step { call });
                }
            }
            Effect::ApiReply { call, reply } => self.reply(id, call, reply),
            Effect::Compute(step) => self.drive(id, step),
            Effect::ReadLog { ticket, offset, .. } => {
                let bytes = b"a line of log\n".to_vec();
                let offset = if offset == u64::MAX { 0 } else { offset };
                self.input(
                    id,
                    Input::LogRead {
                        ticket,
                        offset,
                        bytes,
                        refused: None,
                    },
                );
            }
            // Simulated nodes have no routes to explain: such calls time out.
            Effect::Explain { .. } | Effect::Overlay(_) | Effect::Clients(_) | Effect::Names(_) => {
            }
        }
    }

    /// Starts a sync if entries wait and none runs.
    pub(crate) fn begin_sync(&mut self, id: HostId) {
        let longest = self.weather.sync_max;
        let span = self.chances.disk.span(Duration::from_millis(1), longest);
        let Some(host) = self.host_mut(id) else {
            return;
        };
        if !host.disk.begin() {
            return;
        }
        let life = host.life;
        if Duration::from_millis(15) < span {
            self.tally.fault(Fault::SlowSync);
        }
        self.agenda.after(span, Event::Synced { host: id, life });
        self.sync_begins(id, span);
    }

    fn send(&mut self, from: HostId, peer: NodeId, message: &Message) {
        let Some(to) = self.by_key.get(&peer).copied() else {
            return;
        };
        let Some(link) = self.links.between(from, to).last().copied() else {
            return;
        };
        let index = |host: HostId| usize::from(host.0);
        self.see(|hosts| {
            let (from, to) = (hosts.get(index(from))?, hosts.get(index(to))?);
            Some(Seen::Sent { from, to, message })
        });
        if self.plant == Some(Plant::TellEverybody) && matches!(message, Message::Changes(_)) {
            for other in 0..self.hosts.len() {
                self.see(|hosts| {
                    let (from, to) = (hosts.get(index(from))?, hosts.get(other)?);
                    Some(Seen::Sent { from, to, message })
                });
            }
        }
        let now = self.agenda.now();
        let bytes = Rc::new(message.to_bytes());
        let arrivals = self.network.carry(
            (from, to),
            now,
            &self.weather,
            &mut self.chances.network,
            &mut self.tally,
        );
        self.trail.say(now, "send", || {
            format!("{from:?} to {to:?} x{}: {}", arrivals.len(), word(message))
        });
        for moment in arrivals {
            let bytes = Rc::clone(&bytes);
            self.agenda.at(
                moment,
                Event::Arrive {
                    from,
                    to,
                    link,
                    bytes,
                },
            );
        }
    }

    fn dial(&mut self, from: HostId, peer: NodeId) {
        let Some(to) = self.by_key.get(&peer).copied() else {
            return;
        };
        let Some(life) = self.host(from).map(|host| host.life) else {
            return;
        };
        // Three round trips: TCP, Noise, the gate's verdict.
        let way = self
            .chances
            .network
            .span(self.weather.delay_min, self.weather.delay_max);
        self.agenda
            .after(way * 6, Event::Dialled { from, life, to });
    }

    pub(crate) fn on_dialled(&mut self, from: HostId, life: u64, to: HostId) {
        let reachable = !self.network.broken(from, to)
            && self.is_life(from, life)
            && [from, to]
                .iter()
                .all(|id| self.host(*id).is_some_and(Host::is_awake));
        if !reachable {
            return;
        }
        let now = self.agenda.now();
        let refused = [self.judge(to, from, now), self.judge(from, to, now)];
        let refusal = refused.into_iter().flatten().next();
        self.trail
            .note(now, "dialled", &[u8::from(refusal.is_some())], || {
                format!("{from:?} to {to:?} {refusal:?}")
            });
        if let Some(reason) = refusal {
            self.tally.met(Sometimes::GateRefused);
            self.input(from, Input::GateRefused { reason });
            self.input(to, Input::GateRefused { reason });
            return;
        }
        let first = [(from, to), (to, from)].map(|(a, b)| self.links.count(a, b) == 0);
        self.links.open(from, to);
        for ((host, peer), first) in [(from, to), (to, from)].into_iter().zip(first) {
            if first {
                self.connected(host, peer);
            }
        }
    }

    fn connected(&mut self, id: HostId, peer: HostId) {
        let Some(other) = self.host(peer) else { return };
        let (key, seen) = (other.key(), Some(other.address));
        let chain = other
            .daemon
            .as_ref()
            .and_then(|daemon| daemon.chain.clone());
        let Some(chain) = chain else { return };
        let Some(host) = self.host_mut(id) else {
            return;
        };
        let times = host.met.entry(key).or_default();
        *times += 1;
        if 1 < *times {
            self.tally.met(Sometimes::Reconnected);
        }
        self.input(
            id,
            Input::Connected {
                peer: key,
                chain,
                seen,
            },
        );
    }

    /// The gate at `host` judges what `peer` shows; returns the reason of a refusal.
    fn judge(&self, host: HostId, peer: HostId, now: Moment) -> Option<Reason> {
        let guest = self.host(peer)?;
        let Some(chain) = guest.daemon.as_ref()?.chain.clone() else {
            return Some(Reason::NoCertificate);
        };
        self.judge_chain(host, &chain, &guest.key(), now)
    }

    /// The gate at `host` judges a chain; returns the reason of a refusal.
    pub(crate) fn judge_chain(
        &self,
        host: HostId,
        chain: &Chain,
        node: &NodeId,
        now: Moment,
    ) -> Option<Reason> {
        let host = self.host(host)?;
        let guard = host.daemon.as_ref()?;
        let wall = host.clock.read(now).wall;
        let Some(roster) = &guard.roster else {
            return Some(Reason::Starting);
        };
        let verdict = roster.judge(node, chain, wall);
        verdict.err().map(|error| Reason::from(&error))
    }

    fn hangup(&mut self, id: HostId, peer: NodeId) {
        let Some(to) = self.by_key.get(&peer).copied() else {
            return;
        };
        for link in self.links.between(id, to) {
            self.shut(link, id);
            self.tell_other_end(link, id, to);
        }
    }

    /// One end is shut: the other learns of it by a last packet, or by silence.
    pub(crate) fn tell_other_end(&mut self, link: LinkId, shut: HostId, other: HostId) {
        let (soon, latest) = (self.weather.delay_min, self.weather.delay_max);
        let silence = self.chances.network.span(SILENCE.0, SILENCE.1);
        let packet = self.chances.network.span(soon, latest);
        if !self.network.blocked(shut, other) {
            self.agenda
                .after(packet, Event::LinkEnds { link, host: other });
        }
        self.agenda
            .after(silence, Event::LinkSilent { link, host: other });
    }

    /// A way was cut or a host died without a word: both ends will notice the silence, each in its
    /// time.
    pub(crate) fn expect_silence(&mut self, link: LinkId, host: HostId) {
        let silence = self.chances.network.span(SILENCE.0, SILENCE.1);
        self.agenda.after(silence, Event::LinkSilent { link, host });
    }

    pub(crate) fn on_silence(&mut self, link: LinkId, host: HostId) {
        let Some((a, b)) = self.links.ends(link) else {
            return;
        };
        let peer = if a == host { b } else { a };
        let dead = !self.links.between(peer, host).contains(&link);
        let still = self.host(peer).is_none_or(|peer| !peer.is_awake());
        if dead || still || self.network.broken(a, b) {
            self.shut(link, host);
            if !dead {
                self.tell_other_end(link, host, peer);
            }
        }
    }

    /// Shuts one end and tells the daemon there if it was its last connection to the peer.
    pub(crate) fn shut(&mut self, link: LinkId, host: HostId) {
        let Some((a, b)) = self.links.ends(link) else {
            return;
        };
        let peer = if a == host { b } else { a };
        if self.links.shut(link, host) == Standing::Same {
            return;
        }
        let Some(key) = self.host(peer).map(Host::key) else {
            return;
        };
        let now = self.agenda.now();
        self.trail.note(now, "lost", &host.0.to_be_bytes(), || {
            format!("{host:?} lost {peer:?}")
        });
        self.input(host, Input::Disconnected { peer: key });
    }

    fn knock(&mut self, from: HostId, call: CallId, host: NodeId, request: JoinRequest) {
        let Some(life) = self.host(from).map(|host| host.life) else {
            return;
        };
        self.visits_made += 1;
        let visit = VisitId(self.visits_made);
        let Some(to) = self.by_key.get(&host).copied() else {
            return;
        };
        self.visits.insert(
            visit,
            Call {
                from,
                life,
                call,
                to,
                request,
            },
        );
        let way = self
            .chances
            .network
            .span(self.weather.delay_min, self.weather.delay_max);
        self.agenda.after(way * 6, Event::Visit { visit, to });
        let gone = Box::new(Err("the other side does not answer".to_owned()));
        self.agenda.after(
            Duration::from_secs(15),
            Event::Knocked { visit, reply: gone },
        );
    }

    pub(crate) fn on_visit(&mut self, visit: VisitId, to: HostId) {
        let Some(call) = self.visits.get(&visit) else {
            return;
        };
        let (from, request) = (call.from, call.request.clone());
        let open = self
            .host(to)
            .filter(|host| host.is_awake())
            .and_then(|host| host.daemon.as_ref())
            .is_some_and(|daemon| daemon.door_open);
        if !open || self.network.broken(from, to) {
            let reply = Box::new(Err("nobody opens".to_owned()));
            self.agenda
                .after(Duration::from_secs(1), Event::Knocked { visit, reply });
            return;
        }
        let Some(visitor) = self.host(from).map(Host::key) else {
            return;
        };
        self.input(
            to,
            Input::Visit {
                visit,
                visitor,
                request,
            },
        );
    }

    fn answer(&mut self, visit: VisitId, reply: JoinReply) {
        let Some(call) = self.visits.get(&visit) else {
            return;
        };
        if self.network.broken(call.from, call.to) {
            return;
        }
        let way = self
            .chances
            .network
            .span(self.weather.delay_min, self.weather.delay_max);
        self.agenda.after(
            way,
            Event::Knocked {
                visit,
                reply: Box::new(Ok(reply)),
            },
        );
    }

    pub(crate) fn on_knocked(&mut self, visit: VisitId, reply: Result<JoinReply, String>) {
        let Some(call) = self.visits.remove(&visit) else {
            return;
        };
        if self.is_life(call.from, call.life) {
            self.input(
                call.from,
                Input::Knocked {
                    call: call.call,
                    reply,
                },
            );
        }
    }

    fn reply(
        &mut self,
        id: HostId,
        call: CallId,
        reply: Box<Result<mesh_api::Reply, mesh_api::ApiError>>,
    ) {
        let now = self.agenda.now();
        let text = format!("{reply:?}");
        self.trail.note(now, "reply", text.as_bytes(), || {
            format!("{id:?} {call:?} {text}")
        });
        let daemon = self.host_mut(id).and_then(|host| host.daemon.as_mut());
        if daemon.is_some_and(|daemon| daemon.calls.remove(&call)) {
            self.happenings.push_back(Happening::Reply { call, reply });
        }
    }

    fn drive(&mut self, id: HostId, step: Step) {
        let now = self.agenda.now();
        self.trail
            .note(now, "step", format!("{step:?}").as_bytes(), || {
                format!("{id:?} {step:?}")
            });
        self.see(|hosts| {
            Some(Seen::Step {
                host: hosts.get(usize::from(id.0))?,
                step: &step,
            })
        });
        match (&self.plant, &step) {
            (Some(Plant::ForgetToDestroy), Step::Destroy { item }) => {
                let event = mesh_compute::step::Event::Destroyed { item: *item };
                self.input(id, Input::Compute(event));
            }
            (Some(Plant::MakeTwice), Step::Create(_)) => {
                let second = HostId((id.0 + 1) % self.hosts.len() as u16);
                self.begin_step(second, step.clone());
                self.begin_step(id, step);
            }
            _ => self.begin_step(id, step),
        }
    }

    /// A careless daemon makes and starts what it has just reserved: somebody will award it soon.
    pub(crate) fn start_reserved(&mut self, id: HostId, order: RecordId) {
        let Some(host) = self.host(id) else { return };
        let view = host.daemon.as_ref().map(|daemon| daemon.node.view());
        let Some(view) = view.and_then(|view| view.orders.get(&order)) else {
            return;
        };
        let Some((_, attempt)) = view.last() else {
            return;
        };
        if attempt.node != host.key() || !attempt.reserved || attempt.award.is_some() {
            return;
        }
        let item = ItemId(order.0);
        let spec = InstanceSpec {
            item,
            name: view.order.name.to_string(),
            recipe: Digest::default(),
            address: std::net::Ipv6Addr::LOCALHOST,
            values: BTreeMap::new(),
            memory_mib: view.order.memory_mib,
            cpu_millis: view.order.cpu_millis,
            pids: 1,
        };
        self.drive(id, Step::Create(Box::new(spec)));
        self.drive(id, Step::Start { item });
    }

    fn begin_step(&mut self, id: HostId, step: Step) {
        let now = self.agenda.now();
        let Self {
            hosts,
            weather,
            chances,
            tally,
            ..
        } = self;
        let Some(host) = hosts.get_mut(usize::from(id.0)) else {
            return;
        };
        let boot = host.boot;
        let (work, done) = host
            .driver
            .begin(step, now, weather, &mut chances.driver, tally);
        self.agenda.at(
            done,
            Event::Driven {
                host: id,
                boot,
                work,
            },
        );
    }
}
