//! The three threads: datagrams in, packets in, time.
//!
//! Each owns its buffers, so no packet costs an allocation, and hands packets over by calling, so
//! there is no queue between them. A full socket or TUN drops the packet and counts it: both have
//! queues of their own behind them, and a third one would only add delay.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet as Message, TunnResult};
use mesh_base::digest::Digest;
use mesh_routing::answer::answer;
use mesh_routing::packet::Packet;
use mesh_routing::table::{DropReason, Origin, Verdict};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::limits::{BURST_COUNT_MAX, DATAGRAM_LEN_MAX, PACKET_LEN_MAX, TICK};
use crate::peer::Peer;
use crate::plane::{Instance, Live, Shared};
use crate::session::{COOKIE, PAYLOAD};
use crate::sys::lock;
use crate::tun::Device;

/// Receives datagrams until the data plane stops.
pub fn receive(shared: &Shared) {
    let [waker, _, _] = &shared.wakers;
    let mut datagram = vec![0; DATAGRAM_LEN_MAX];
    let mut plain = vec![0; DATAGRAM_LEN_MAX];
    let mut sealed = vec![0; DATAGRAM_LEN_MAX];
    while !shared.stopping.load(Ordering::Relaxed) {
        let mut fds = [readable(waker), readable(&shared.wire)];
        let _ = poll(&mut fds, PollTimeout::NONE);
        waker.clear();
        let mut live = shared.live();
        for _ in 0..BURST_COUNT_MAX {
            let Some((len, from)) = shared.wire.receive(&mut datagram) else {
                break;
            };
            let Some(bytes) = datagram.get(..len) else {
                break;
            };
            shared.renew(&mut live);
            let now = Instant::now();
            let Some(peer) = find_peer(shared, &live, bytes, from, &mut plain) else {
                continue;
            };
            let Some(len) = peer.receive(bytes, from, &shared.wire, &mut plain, now) else {
                continue;
            };
            if let Some(packet) = plain.get(..len) {
                let origin = Origin::Peer(peer.node);
                route(shared, &live, origin, packet, &mut sealed, now);
            }
        }
    }
}

/// Reads packets from the TUNs until the data plane stops.
pub fn read(shared: &Shared) {
    let [_, waker, _] = &shared.wakers;
    let mut buffer = vec![0; PACKET_LEN_MAX];
    let mut sealed = vec![0; DATAGRAM_LEN_MAX];
    while !shared.stopping.load(Ordering::Relaxed) {
        waker.clear();
        let known = shared.live();
        let mut live = Arc::clone(&known);
        let devices = devices(shared, &known);
        let mut fds: Vec<_> = devices
            .iter()
            .map(|(_, device)| readable(*device))
            .collect();
        fds.push(readable(waker));
        // Until there is a new plan, or it is over, or a device is gone and must be left out.
        loop {
            let _ = poll(&mut fds, PollTimeout::NONE);
            for (origin, device) in &devices {
                drain(shared, &mut live, *origin, device, &mut buffer, &mut sealed);
            }
            let woken = fds.last().and_then(PollFd::any) == Some(true);
            if woken || devices.iter().any(|(_, device)| device.is_gone()) {
                break;
            }
        }
    }
}

/// Lets time pass for every link until the data plane stops.
pub fn tick(shared: &Shared) {
    let [_, _, waker] = &shared.wakers;
    let mut out = vec![0; DATAGRAM_LEN_MAX];
    let step = PollTimeout::try_from(TICK).unwrap_or(PollTimeout::ZERO);
    while !shared.stopping.load(Ordering::Relaxed) {
        shared.limiter.reset_count();
        for peer in shared.live().peers.values() {
            peer.drive(&shared.wire, &mut out, Instant::now());
        }
        let _ = poll(&mut [readable(waker)], step);
        waker.clear();
    }
}

fn readable(source: &impl AsFd) -> PollFd<'_> {
    PollFd::new(source.as_fd(), PollFlags::POLLIN)
}

fn devices<'a>(shared: &'a Shared, live: &'a Live) -> Vec<(Origin, &'a Device)> {
    let instances = live.instances.iter().filter_map(|(item, instance)| {
        instance
            .device
            .as_deref()
            .map(|device| (Origin::Instance(*item), device))
    });
    let host = std::iter::once((Origin::Host, &shared.host));
    host.chain(instances)
        .filter(|(_, device)| !device.is_gone())
        .collect()
}

fn drain(
    shared: &Shared,
    live: &mut Arc<Live>,
    origin: Origin,
    device: &Device,
    buffer: &mut [u8],
    sealed: &mut [u8],
) {
    for _ in 0..BURST_COUNT_MAX {
        let Some(packet) = device.read(buffer) else {
            return;
        };
        shared.renew(live);
        route(shared, live, origin, packet, sealed, Instant::now());
    }
}

/// Finds whose datagram it is. Answers strangers' handshakes with a cookie when there are too many.
fn find_peer<'a>(
    shared: &Shared,
    live: &'a Live,
    datagram: &[u8],
    from: SocketAddr,
    scratch: &mut [u8],
) -> Option<&'a Arc<Peer>> {
    let (&[kind, 0, 0, 0, a, b, c, d], _) = datagram.split_first_chunk::<8>()? else {
        return None;
    };
    if kind == PAYLOAD || kind == COOKIE {
        return live.by_index.get(&(u32::from_le_bytes([a, b, c, d]) >> 8));
    }
    match shared
        .limiter
        .verify_packet(Some(from.ip()), datagram, scratch)
    {
        Ok(Message::HandshakeInit(initiation)) => {
            let (secret, public) = (shared.local.secret(), shared.local.public());
            let half = parse_handshake_anon(secret, public, &initiation).ok()?;
            live.by_key.get(&half.peer_static_public)
        }
        Ok(Message::HandshakeResponse(response)) => {
            live.by_index.get(&(response.receiver_idx >> 8))
        }
        Err(TunnResult::WriteToNetwork(cookie)) => {
            shared.wire.send(cookie, from);
            None
        }
        _ => None,
    }
}

/// Carries one packet to where the table says, if the doors on its way agree; tells its sender if
/// not.
fn route(
    shared: &Shared,
    live: &Live,
    origin: Origin,
    bytes: &[u8],
    sealed: &mut [u8],
    now: Instant,
) {
    if let Err(reason) = carry(shared, live, origin, bytes, sealed, now) {
        shared.drop_packet(reason);
        tell(shared, live, origin, (bytes, reason), sealed, now);
    }
}

/// Tells a lawful sender why its packet went nowhere, if that may be said. Whoever is denied or
/// meets nobody has shown a source that it may use: the table looks at that first.
fn tell(
    shared: &Shared,
    live: &Live,
    origin: Origin,
    (bytes, reason): (&[u8], DropReason),
    sealed: &mut [u8],
    now: Instant,
) {
    let is_for_us = reason != DropReason::Unreachable;
    let peer = match origin {
        Origin::Host => None,
        Origin::Peer(node) if is_for_us => match live.peers.get(&node) {
            Some(peer) => Some(peer),
            None => return,
        },
        // An instance asks nobody.
        Origin::Peer(_) | Origin::Instance(_) => return,
    };
    let Some(told) = answer(bytes, reason) else {
        return;
    };
    if !lock(&shared.answers).take(shared.moment(now)) {
        return;
    }
    // What cannot be sent is not sent: its sender then waits for its own timeout.
    let _ = match peer {
        Some(peer) => peer.send(&told, &shared.wire, sealed, now),
        None => deliver(&shared.host, &told),
    };
}

fn carry(
    shared: &Shared,
    live: &Live,
    origin: Origin,
    bytes: &[u8],
    sealed: &mut [u8],
    now: Instant,
) -> Result<(), DropReason> {
    let packet = Packet::parse(bytes).map_err(|_| DropReason::Malformed)?;
    let verdict = live.table.classify(&packet, origin);
    if let Verdict::Drop(reason) = verdict {
        return Err(reason);
    }
    leave(shared, live, origin, &packet, now)?;
    match verdict {
        Verdict::ToPeer(node) => {
            let peer = live.peers.get(&node).ok_or(DropReason::Unreachable)?;
            peer.send(bytes, &shared.wire, sealed, now)
        }
        Verdict::ToHost => {
            if let Some(door) = &shared.host_door {
                lock(door).ingress_to_host(&packet, shared.moment(now))?;
            }
            deliver(&shared.host, bytes)
        }
        Verdict::ToInstance(item) => {
            let instance = instance(live, item)?;
            lock(&instance.door).ingress(&packet, shared.moment(now))?;
            let device = instance.device.as_deref().ok_or(DropReason::Detached)?;
            deliver(device, bytes)?;
            instance
                .traffic
                .received
                .fetch_add(bytes.len() as u64, Ordering::Relaxed);
            Ok(())
        }
        Verdict::Drop(reason) => Err(reason),
    }
}

/// Passes the door on the side where the packet comes from.
fn leave(
    shared: &Shared,
    live: &Live,
    origin: Origin,
    packet: &Packet<'_>,
    now: Instant,
) -> Result<(), DropReason> {
    match origin {
        Origin::Peer(_) => Ok(()),
        Origin::Host => match &shared.host_door {
            Some(door) => lock(door).egress_of_host(packet, shared.moment(now)),
            None => Ok(()),
        },
        Origin::Instance(item) => {
            let instance = instance(live, item)?;
            lock(&instance.door).egress(packet, shared.moment(now))?;
            instance
                .traffic
                .sent
                .fetch_add(packet.len() as u64, Ordering::Relaxed);
            Ok(())
        }
    }
}

fn instance(live: &Live, item: Digest) -> Result<&Instance, DropReason> {
    live.instances
        .get(&item)
        .map(Arc::as_ref)
        .ok_or(DropReason::Absent)
}

fn deliver(device: &Device, bytes: &[u8]) -> Result<(), DropReason> {
    if device.write(bytes) {
        Ok(())
    } else {
        Err(DropReason::Congested)
    }
}
