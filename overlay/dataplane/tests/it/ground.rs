//! What the tests stand on: data planes on loopback UDP with socket pairs as TUNs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use mesh_base::digest::Digest;
use mesh_base::identity::{NodeId, SecretKey};
use mesh_dataplane::{Config, Dataplane, HostAccess};
use mesh_routing::plan::{PeerPlan, Plan, Role};
use mesh_routing::table::DropReason;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

pub const PATIENCE: Duration = Duration::from_secs(20);
pub const SERVICE: Ipv6Addr = Ipv6Addr::new(0xfd73, 0, 0, 0, 0, 0, 0, 0x77);
pub const ITEM: Digest = Digest::from_bytes([7; 32]);

/// The outer end of a TUN: what the kernel would be.
pub struct Outside(OwnedFd);

impl Outside {
    pub fn pair() -> (Self, OwnedFd) {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        (Self(ours), theirs)
    }

    pub fn put(&self, packet: &[u8]) {
        assert_eq!(nix::unistd::write(&self.0, packet), Ok(packet.len()));
    }

    /// Takes the next packet, if one comes in time.
    pub fn take_within(&self, time: Duration) -> Option<Vec<u8>> {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let millis = u16::try_from(time.as_millis()).unwrap();
        if poll(&mut fds, millis).unwrap() == 0 {
            return None;
        }
        let mut buffer = vec![0; 4096];
        let len = nix::unistd::read(&self.0, &mut buffer).unwrap();
        buffer.truncate(len);
        Some(buffer)
    }

    #[track_caller]
    pub fn expect(&self, packet: &[u8]) {
        let got = self
            .take_within(PATIENCE)
            .expect("a packet comes out of the TUN");
        assert_eq!(got, packet);
    }
}

pub struct Node {
    pub plane: Dataplane,
    pub host: Outside,
    pub secret: SecretKey,
    pub address: Ipv6Addr,
}

pub fn secret(number: u8) -> SecretKey {
    SecretKey::from_seed([number; 32])
}

pub fn address(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd6d, 0, 0, 0, 0, 0, 0, u16::from(number))
}

pub fn start(number: u8, host_access: HostAccess) -> Node {
    let (host, tun) = Outside::pair();
    let plane = start_with(number, tun, host_access);
    Node {
        plane,
        host,
        secret: secret(number),
        address: address(number),
    }
}

pub fn start_with(number: u8, host_tun: OwnedFd, host_access: HostAccess) -> Dataplane {
    Dataplane::start(Config {
        secret_x25519: secret(number).to_x25519(),
        udp_bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        host_tun,
        host_access,
        listener: None,
        streams: None,
    })
    .unwrap()
}

pub fn id(number: u8) -> NodeId {
    NodeId(secret(number).public())
}

/// A plan for `own` that knows `peers` by number and endpoint.
pub fn plan(own: u8, peers: &[(u8, Option<u16>)]) -> Plan {
    let peers = peers.iter().map(|(number, port)| {
        let endpoints = port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let peer = PeerPlan {
            role: Role::Neighbour,
            drains: false,
            leaf: false,
            address: address(*number),
            x25519: secret(*number).public().to_x25519(),
            endpoints: endpoints.into_iter().collect(),
        };
        (id(*number), peer)
    });
    Plan {
        own: address(own),
        leaf: false,
        peers: peers.collect(),
        services: BTreeMap::new(),
        instances: BTreeMap::new(),
        forwards: BTreeSet::new(),
    }
}

/// Waits until `holds`; panics with `what` when patience ends.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

/// Waits until so many packets were dropped for this reason, and none for another. More of them is
/// no fault: a node says words of its own, in the name that its plan gives it.
#[track_caller]
pub fn expect_drops(plane: &Dataplane, reason: DropReason, least: u64) {
    let start = Instant::now();
    loop {
        let seen = plane.drops();
        if matches!(seen.as_slice(), [(why, count)] if *why == reason && least <= *count) {
            return;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{least} {reason:?}, not {seen:?}"
        );
        std::thread::yield_now();
    }
}

#[track_caller]
pub fn expect_drop(plane: &Dataplane, reason: DropReason) {
    eventually(
        &format!("a packet is dropped as {reason:?}: {:?}", plane.drops()),
        || plane.drops().iter().any(|(seen, _)| *seen == reason),
    );
}
