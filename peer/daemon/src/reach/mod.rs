//! Ports of the home's router that lead here: the sockets of [`mesh_routing::portmap`].
//!
//! ```text
//!   default route, datagrams, answers, time ─► Mapper ─► what is sent
//!                                                 │
//!                 status of the node ◄── report ──┴─► mappings ─► the node's contact
//! ```
//! A task of its own, beside everything that carries packets. Decides nothing: which way is taken
//! and when is the mapper's. Ends when what it had mapped is taken back.

use std::net::SocketAddr;
use std::time::Duration;

use mesh_base::digest::Digest;
use mesh_base::identity::SecretKey;
use mesh_base::time::Moment;
use mesh_peer::port::Input;
use mesh_routing::portmap::mapper::{Action, Event, Mapper, Settings};
use mesh_routing::portmap::{Gateway, Mapping, Report, Transport, Wish};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use crate::clock;
use crate::config::Config;
use crate::ports::Ports;
use crate::reach::sockets::{Announcements, Heard, Sockets};

mod fetch;
mod sockets;

/// How often the default route is looked at, as the machine's addresses are.
const GATEWAY_INTERVAL: Duration = Duration::from_secs(5);
/// How many reports may follow each other at once; one more each time that the route is looked at.
/// Each becomes a contact that every peer is told: a router that changes its mind all the time must
/// not make us loud.
const REPORTS_SPARE_MAX: u32 = 8;
/// What keys are derived for.
const PURPOSE: &[u8] = b"nonces of port mappings";

/// Starts asking the router. What is mapped can be read from the first; the task ends soon after
/// `stopping` says so.
pub fn start(
    config: &Config,
    ports: Ports,
    secret: &SecretKey,
    stopping: watch::Receiver<bool>,
    inputs: mpsc::Sender<Input>,
) -> (watch::Receiver<Vec<Mapping>>, JoinHandle<()>) {
    let settings = Settings {
        ways: config.port_mapping.clone(),
        lease: config.lease,
        key: *Digest::of_parts(&[PURPOSE, &secret.derive(PURPOSE).to_seed()]).as_bytes(),
    };
    let (told, mapped) = watch::channel(Vec::new());
    let task = Reach {
        is_on: !settings.ways.is_empty(),
        mapper: Mapper::new(settings, &wishes(&config.listen, ports)),
        sockets: None,
        fetches: JoinSet::new(),
        last: None,
        spare: REPORTS_SPARE_MAX,
        told,
        inputs,
    };
    (mapped, tokio::spawn(task.run(stopping)))
}

/// What we want from outside: tunnels, and the control network if it listens there.
fn wishes(listen: &[SocketAddr], ports: Ports) -> Vec<Wish> {
    // Routers map IPv4; nobody behind `[::]` answers that, for libp2p makes it speak IPv6 only.
    let is_open = |at: &SocketAddr| at.is_ipv4() && !at.ip().is_loopback();
    let mut wishes = vec![Wish {
        transport: Transport::Udp,
        port: ports.wireguard,
    }];
    if listen.iter().any(is_open) {
        wishes.push(Wish {
            transport: Transport::Tcp,
            port: ports.control,
        });
    }
    wishes
}

struct Reach {
    is_on: bool,
    mapper: Mapper,
    /// To the gateway that there is.
    sockets: Option<(Gateway, Sockets)>,
    fetches: JoinSet<(u32, Option<String>)>,
    last: Option<Report>,
    /// How many reports may be told now; the newest is told later.
    spare: u32,
    told: watch::Sender<Vec<Mapping>>,
    inputs: mpsc::Sender<Input>,
}

/// What woke us.
enum Woken {
    Stop,
    Beat,
    Heard(Heard),
    Announced(std::net::Ipv4Addr),
    Fetched(u32, Option<String>),
    Tick,
}

impl Reach {
    async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        if !self.report().await || !self.is_on {
            return;
        }
        let announcements = Announcements::open();
        let mut beat = interval(GATEWAY_INTERVAL);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_stopping = false;
        while !self.mapper.is_finished(now()) {
            let deadline = self.mapper.next_deadline();
            let woken = tokio::select! {
                // A sender that is gone is a daemon that ends.
                _ = stopping.wait_for(|stop| *stop), if !is_stopping => Woken::Stop,
                _ = beat.tick() => Woken::Beat,
                heard = Sockets::hear(self.sockets.as_ref()) => Woken::Heard(heard),
                from = announcements.hear() => Woken::Announced(from),
                Some(Ok((ticket, body))) = self.fetches.join_next() => {
                    Woken::Fetched(ticket, body)
                }
                () = sleep(deadline) => Woken::Tick,
            };
            is_stopping |= matches!(woken, Woken::Stop);
            self.handle(woken);
            self.act().await;
            if !self.report().await && !is_stopping {
                return;
            }
        }
    }

    fn handle(&mut self, woken: Woken) {
        let now = now();
        match woken {
            Woken::Stop => self.mapper.handle(Event::Stop, now),
            Woken::Beat => {
                self.spare = (self.spare + 1).min(REPORTS_SPARE_MAX);
                let gateway = self.look();
                self.mapper.handle(Event::Gateway(gateway), now);
            }
            Woken::Heard(Heard::Datagram(bytes)) => {
                self.mapper.handle(Event::Datagram(&bytes), now);
            }
            Woken::Heard(Heard::Found(bytes)) => self.mapper.handle(Event::Found(&bytes), now),
            Woken::Heard(Heard::Closed) => self.mapper.handle(Event::Closed, now),
            Woken::Heard(Heard::Nothing) => {}
            Woken::Announced(from) => self.mapper.handle(Event::Announced(from), now),
            Woken::Fetched(ticket, body) => {
                let event = Event::Fetched(ticket, body.as_deref());
                self.mapper.handle(event, now);
            }
            Woken::Tick => self.mapper.handle(Event::Tick, now),
        }
    }

    /// Looks where the default route leads, and connects sockets to a new gateway.
    fn look(&mut self) -> Option<Gateway> {
        // Without an answer of the kernel there is no way to send either.
        let gateway = mesh_dataplane::gateway::default_route().ok().flatten();
        let is_same = self.sockets.as_ref().map(|(known, _)| *known) == gateway;
        if !is_same {
            let opened = gateway.and_then(|gateway| {
                let opened = Sockets::open(gateway);
                let opened = opened.inspect_err(|error| {
                    tracing::warn!(%error, "the router cannot be asked for ports");
                });
                Some((gateway, opened.ok()?))
            });
            self.sockets = opened;
        }
        self.sockets.as_ref().map(|(gateway, _)| *gateway)
    }

    async fn act(&mut self) {
        while let Some(action) = self.mapper.poll() {
            match action {
                Action::Fetch {
                    ticket,
                    place,
                    post,
                } => {
                    self.fetches
                        .spawn(async move { (ticket, fetch::fetch(place, post).await) });
                }
                Action::Send(bytes) => {
                    if let Some((_, sockets)) = &self.sockets {
                        let heard = sockets.send(&bytes).await;
                        self.handle(Woken::Heard(heard));
                    }
                }
                Action::Search(bytes) => {
                    if let Some((gateway, sockets)) = &self.sockets {
                        sockets.search(&bytes, gateway.router).await;
                    }
                }
            }
        }
    }

    /// Tells what is new; returns false if nobody listens any more.
    async fn report(&mut self) -> bool {
        let report = self.mapper.report();
        if self.last.as_ref() == Some(&report) || self.spare == 0 {
            return true;
        }
        self.spare -= 1;
        tracing::info!(standing = ?report.standing, mapped = report.mappings.len(),
            "ports of the home's router");
        self.told.send_replace(report.mappings.clone());
        self.last = Some(report.clone());
        self.inputs.send(Input::Mapped(report)).await.is_ok()
    }
}

fn now() -> Moment {
    clock::now().mono
}

/// Sleeps until a moment; for ever if there is none.
async fn sleep(until: Option<Moment>) {
    match until {
        Some(until) => tokio::time::sleep(until.since(now())).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_port_is_wanted_from_outside_only_where_it_listens_on_ipv4() {
        let ports = Ports {
            control: 41640,
            wireguard: 41641,
            door: 41642,
            names: 0,
            ..Ports::default()
        };
        let is_wanted = |listen: &[&str]| {
            let listen: Vec<SocketAddr> = listen.iter().map(|at| at.parse().unwrap()).collect();
            let wishes = wishes(&listen, ports);
            assert!(wishes.iter().any(|wish| wish.port == ports.wireguard));
            wishes.iter().any(|wish| wish.port == ports.control)
        };
        assert!(is_wanted(&["0.0.0.0:41640"]));
        assert!(is_wanted(&["[::]:41640", "192.168.1.7:41640"]));
        assert!(!is_wanted(&["[::]:41640"]));
        assert!(!is_wanted(&["127.0.0.1:41640", "[::1]:41640"]));
        assert!(!is_wanted(&[]));
    }
}
