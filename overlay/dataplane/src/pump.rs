//! The three threads: datagrams in, packets in, time.
//!
//! Each has [`Hands`] of its own that carry what came to where it goes, so there is no queue
//! between the threads. A full socket or TUN drops the packet and counts it: both have queues of
//! their own behind them, and a third one would only add delay.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Instant;

use mesh_routing::ecn::Ecn;
use mesh_routing::table::Origin;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::hands::Hands;
use crate::limits::{BURST_COUNT_MAX, OUTER_LEN_MAX, PACKET_LEN_MAX, TICK, TICK_CALM};
use crate::plane::{Live, Shared};
use crate::porch::Tray;
use crate::tun::Device;

/// Receives datagrams until the data plane stops: packets first, then some initiations.
pub fn receive(shared: &Shared) {
    let [waker, _, _] = &shared.wakers;
    let mut datagram = vec![0; OUTER_LEN_MAX];
    let mut tray = Tray::default();
    let mut hands = Hands::new(shared);
    let mut fds = vec![readable(waker), readable(&shared.wire)];
    fds.extend(shared.wire.porch().map(readable));
    while !shared.stopping.load(Ordering::Relaxed) {
        let _ = poll(&mut fds, PollTimeout::NONE);
        waker.clear();
        for _ in 0..BURST_COUNT_MAX {
            let Some((len, from, mark)) = shared.wire.receive(&mut datagram) else {
                break;
            };
            let Some(bytes) = datagram.get(..len) else {
                break;
            };
            hands.renew();
            hands.take_datagram(bytes, (from, mark), Instant::now());
        }
        if fds.last().and_then(PollFd::any) == Some(true) {
            shared.wire.receive_initiations(&mut tray);
            hands.renew();
            let now = Instant::now();
            for (bytes, from) in tray.datagrams() {
                hands.take_datagram(bytes, (from, Ecn::NotEct), now);
            }
        }
    }
}

/// Reads packets from the TUNs until the data plane stops.
pub fn read(shared: &Shared) {
    let [_, waker, _] = &shared.wakers;
    let mut buffer = vec![0; PACKET_LEN_MAX];
    let mut hands = Hands::new(shared);
    while !shared.stopping.load(Ordering::Relaxed) {
        waker.clear();
        let known = shared.live();
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
                drain(&mut hands, *origin, device, &mut buffer);
            }
            let woken = fds.last().and_then(PollFd::any) == Some(true);
            if woken || devices.iter().any(|(_, device)| device.is_gone()) {
                break;
            }
        }
    }
}

/// Lets time pass for every link until the data plane stops; in long steps while all is calm.
pub fn tick(shared: &Shared) {
    let [_, _, waker] = &shared.wakers;
    let mut hands = Hands::new(shared);
    let step = |step| PollTimeout::try_from(step).unwrap_or(PollTimeout::ZERO);
    while !shared.stopping.load(Ordering::Relaxed) {
        hands.renew();
        // Said first: who begins to wait while we look wakes us.
        shared.restless.store(false, Ordering::SeqCst);
        let restless = hands.drive(Instant::now());
        if restless {
            shared.restless.store(true, Ordering::SeqCst);
        }
        let _ = poll(
            &mut [readable(waker)],
            step(if restless { TICK } else { TICK_CALM }),
        );
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

fn drain(hands: &mut Hands<'_>, origin: Origin, device: &Device, buffer: &mut [u8]) {
    for _ in 0..BURST_COUNT_MAX {
        let Some(packet) = device.read(buffer) else {
            return;
        };
        hands.renew();
        hands.route(origin, packet, Instant::now());
    }
}
