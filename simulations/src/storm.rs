//! The weather acts: partitions, crashes, pauses, clock jumps, dying instances; and the calm after
//! it.
//!
//! Each kind of blow keeps its own pace: after one, the next is drawn. Invariant: after
//! [`World::calm`] nothing more goes wrong, every way is open and every daemon runs or boots soon.

use std::time::Duration;

use crate::chance::Chance;
use crate::check::Violation;
use crate::network::{HostId, Network};
use crate::tally::{Fault, Sometimes};
use crate::weather::{SHAPES, Shape, Weather};
use crate::world::{Event, Happening, World};

/// One kind of thing that the weather does again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// A partition.
    Cut,
    /// A crash.
    Crash,
    /// A pause.
    Pause,
    /// A clock jump.
    Jump,
    /// An instance dies.
    Death,
    /// Somebody without a lawful certificate dials.
    Stranger,
}

/// Every kind.
const BLOWS: [Blow; 6] = [
    Blow::Cut,
    Blow::Crash,
    Blow::Pause,
    Blow::Jump,
    Blow::Death,
    Blow::Stranger,
];

/// How often a stranger comes.
const STRANGER_EVERY: Duration = Duration::from_secs(60);

/// How a daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The daemon alone is killed.
    Kill,
    /// The machine loses power.
    Power,
}

impl World {
    /// Lets the weather loose.
    pub fn storm(&mut self, weather: Weather) {
        self.weather = weather;
        self.stormy = true;
        for blow in BLOWS {
            self.expect(blow);
        }
    }

    /// Heals everything: no more blows, all ways open, paused daemons go on, dead ones boot.
    pub fn calm(&mut self) {
        self.stormy = false;
        self.hosts.iter_mut().for_each(|host| host.doom = None);
        self.weather = Weather::fair();
        self.network.heal_all();
        let now = self.agenda.now();
        self.trail
            .note(now, "calm", b"", || "everything heals".to_owned());
        for (id, life, dead) in self
            .hosts
            .iter()
            .map(|host| (host.id, host.life, host.daemon.is_none()))
            .collect::<Vec<_>>()
        {
            if dead {
                self.agenda
                    .after(Duration::from_millis(500), Event::Boot(id));
            } else {
                self.agenda
                    .after(Duration::from_millis(1), Event::Resume { host: id, life });
            }
        }
    }

    fn pace(&self, blow: Blow) -> Option<Duration> {
        match blow {
            Blow::Cut => self.weather.cut_every,
            Blow::Crash => self.weather.crash_every,
            Blow::Pause => self.weather.pause_every,
            Blow::Jump => self.weather.jump_every,
            Blow::Death => self.weather.death_every,
            Blow::Stranger => Some(STRANGER_EVERY),
        }
    }

    fn expect(&mut self, blow: Blow) {
        if let Some(mean) = self.pace(blow) {
            let rest = self.chances.storm.span(Duration::ZERO, mean * 2);
            self.agenda.after(rest, Event::Blow(blow));
        }
    }

    pub(crate) fn on_blow(&mut self, blow: Blow) {
        if !self.stormy {
            return;
        }
        self.expect(blow);
        match blow {
            Blow::Cut => self.cut_somewhere(),
            Blow::Crash => self.crash_somebody(),
            Blow::Pause => self.pause_somebody(),
            Blow::Jump => self.jump_some_clock(),
            Blow::Death => self.kill_some_instance(),
            Blow::Stranger => self.stranger_dials(),
        }
    }

    fn cut_somewhere(&mut self) {
        let shape = self
            .chances
            .storm
            .pick(&SHAPES)
            .copied()
            .unwrap_or(Shape::Full);
        let longest = self.weather.cut_max;
        let span = self.chances.storm.span(Duration::from_millis(500), longest);
        self.cut(shape, span);
    }

    /// Opens a partition of a shape for a while.
    pub fn cut(&mut self, shape: Shape, span: Duration) {
        let ids: Vec<HostId> = self.hosts.iter().map(|host| host.id).collect();
        let ways = Network::draw_ways(shape, &ids, &mut self.chances.storm);
        self.tally.fault(match shape {
            Shape::Full => Fault::PartitionFull,
            Shape::Partial => Fault::PartitionPartial,
            Shape::OneWay => Fault::PartitionOneWay,
            Shape::Single => Fault::PartitionSingle,
        });
        let now = self.agenda.now();
        let count = ways.len() as u64;
        self.trail.note(now, "cut", &count.to_be_bytes(), || {
            format!("{shape:?} for {span:?}")
        });
        let cut = self.network.cut(ways);
        self.agenda.after(span, Event::CutHeals(cut));
        for id in ids {
            for (link, peer) in self.links.at(id) {
                if self.network.broken(id, peer) {
                    self.expect_silence(link, id);
                }
            }
        }
    }

    fn drawn_host(&mut self) -> Option<HostId> {
        let awake: Vec<HostId> = self
            .hosts
            .iter()
            .filter(|host| host.is_awake())
            .map(|host| host.id)
            .collect();
        self.chances.storm.pick(&awake).copied()
    }

    fn crash_somebody(&mut self) {
        let Some(id) = self.drawn_host() else { return };
        let power = self.chances.storm.permille(self.weather.power_permille);
        let longest = self.weather.down_max;
        let down = self.chances.storm.span(Duration::from_millis(200), longest);
        let crash = if power { Crash::Power } else { Crash::Kill };
        if self.chances.storm.permille(500) {
            self.crash(id, crash, down);
        } else if let Some(host) = self.host_mut(id) {
            // The other half waits for the worst moment: a sync is running.
            host.doom = Some((crash, down));
        }
    }

    /// A sync of `span` begins: who is doomed crashes before it ends.
    pub(crate) fn sync_begins(&mut self, id: HostId, span: Duration) {
        let Some(host) = self.host_mut(id) else {
            return;
        };
        let life = host.life;
        if let Some((crash, down)) = host.doom.take() {
            let rest = self.chances.storm.span(Duration::ZERO, span);
            self.agenda.after(
                rest,
                Event::Doom {
                    host: id,
                    life,
                    crash,
                    down,
                },
            );
        }
    }

    /// Ends a daemon; it boots again after `down`.
    pub fn crash(&mut self, id: HostId, crash: Crash, down: Duration) {
        let now = self.agenda.now();
        let Self {
            hosts,
            chances,
            tally,
            ..
        } = self;
        let Some(host) = hosts.get_mut(usize::from(id.0)) else {
            return;
        };
        let Some(daemon) = host.daemon.take() else {
            return;
        };
        host.paused = None;
        let changes = match crash {
            Crash::Kill => {
                tally.fault(Fault::Kill);
                host.disk.kill(tally);
                host.driver.interrupt(now, &mut chances.driver)
            }
            Crash::Power => {
                tally.fault(Fault::PowerLoss);
                host.disk.lose_power(&mut chances.disk, tally);
                host.boot += 1;
                host.clock.boot(now + down);
                host.driver.lose_power(now, &mut chances.driver)
            }
        };
        self.trail
            .note(now, "crash", &[u8::from(crash == Crash::Power)], || {
                format!("{id:?} {crash:?} for {down:?}")
            });
        for change in changes {
            let index = usize::from(id.0);
            self.see(|hosts| {
                let host = hosts.get(index)?;
                Some(crate::check::Seen::Driver { host, change })
            });
        }
        for call in daemon.calls {
            self.tally.met(Sometimes::CallerCutOff);
            self.happenings.push_back(Happening::CutOff { call });
        }
        for (link, peer) in self.links.at(id) {
            self.links.shut(link, id);
            match crash {
                Crash::Kill => self.tell_other_end(link, id, peer),
                Crash::Power => self.expect_silence(link, peer),
            }
        }
        self.agenda.after(down, Event::Boot(id));
    }

    fn pause_somebody(&mut self) {
        let Some(id) = self.drawn_host() else { return };
        let longest = self.weather.pause_max;
        let span = self.chances.storm.span(Duration::from_millis(100), longest);
        let now = self.agenda.now();
        let Some(host) = self.host_mut(id) else {
            return;
        };
        host.paused = Some(Vec::new());
        let life = host.life;
        self.tally.fault(Fault::Pause);
        self.trail.note(now, "pause", &id.0.to_be_bytes(), || {
            format!("{id:?} for {span:?}")
        });
        self.agenda.after(span, Event::Resume { host: id, life });
        if Duration::from_secs(5) < span {
            for (link, peer) in self.links.at(id) {
                self.expect_silence(link, peer);
            }
        }
    }

    fn jump_some_clock(&mut self) {
        let Some(id) = self.drawn_host() else { return };
        let jump_ms = signed_ms(&mut self.chances.storm, Duration::from_secs(600));
        let now = self.agenda.now();
        self.tally.fault(Fault::Jump);
        self.trail.note(now, "jump", &jump_ms.to_be_bytes(), || {
            format!("{id:?} by {jump_ms} ms")
        });
        if let Some(host) = self.host_mut(id) {
            host.clock.jump(jump_ms);
        }
    }

    fn stranger_dials(&mut self) {
        let Some(id) = self.drawn_host() else { return };
        let chain = crate::founding::strange_chain();
        match self.judge_chain(id, &chain.1, &chain.0, self.agenda.now()) {
            Some(reason) => {
                self.tally.met(Sometimes::GateRefused);
                self.input(id, mesh_peer::port::Input::GateRefused { reason });
            }
            None => {
                let seen = format!("{id:?} admits a stranger");
                self.violation
                    .get_or_insert(Violation::new("strangers are refused", seen));
            }
        }
    }

    fn kill_some_instance(&mut self) {
        let Some(id) = self.drawn_host() else { return };
        let now = self.agenda.now();
        let Self { hosts, chances, .. } = self;
        let Some(host) = hosts.get_mut(usize::from(id.0)) else {
            return;
        };
        if let Some(event) = host.driver.kill_one(now, &mut chances.driver) {
            self.tally.fault(Fault::InstanceDied);
            self.trail.note(now, "death", &id.0.to_be_bytes(), || {
                format!("{id:?} {event:?}")
            });
            self.input(id, mesh_peer::port::Input::Compute(event));
        }
    }
}

/// Draws a number of milliseconds from minus to plus `most`.
pub fn signed_ms(chance: &mut Chance, most: Duration) -> i64 {
    let most = u64::try_from(most.as_millis()).unwrap_or(0);
    let drawn = i64::try_from(chance.between(0, most * 2)).unwrap_or(0);
    drawn - i64::try_from(most).unwrap_or(0)
}
