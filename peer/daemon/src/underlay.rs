//! Where this machine can be reached without the overlay: its own addresses, most local first.
//!
//! Left out are link-local addresses (they need an interface's name), everything in the overlay's
//! two prefixes, and every interface that carries such an address: what carries the overlay must
//! not be looked for inside it. Loopback comes last, so that several nodes on one machine find each
//! other. Decides nothing about which address works: whoever dials tries them all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use mesh_base::address::is_overlay;
use mesh_peer::message::CONTACT_ADDRESSES_MAX;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// Nobody's, for documents (RFC 3849): only a default route leads there.
const FAR_AWAY: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// Addresses of this machine and those that its owner added, at most as many as a contact holds.
pub fn addresses(advertised: &[IpAddr]) -> Vec<IpAddr> {
    let mut seen = Vec::new();
    // Without the list there is still the loopback and what the owner said.
    if let Ok(interfaces) = getifaddrs() {
        for interface in interfaces {
            let up = interface.flags.contains(InterfaceFlags::IFF_UP);
            let Some(address) = interface.address.filter(|_| up) else {
                continue;
            };
            let v4 = address.as_sockaddr_in().map(|at| IpAddr::V4(at.ip()));
            let v6 = address.as_sockaddr_in6().map(|at| IpAddr::V6(at.ip()));
            if let Some(ip) = v4.or(v6) {
                seen.push((interface.interface_name, ip));
            }
        }
    }
    choose(&seen, advertised)
}

/// Returns the address from which the Internet would be reached over IPv6; none without a way.
/// Nothing is sent.
pub fn ipv6_source() -> Option<Ipv6Addr> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((FAR_AWAY, 9)).ok()?;
    match socket.local_addr().ok()? {
        SocketAddr::V6(source) if !is_overlay(source.ip()) => Some(*source.ip()),
        _ => None,
    }
}

/// Puts a port to each address; those of a family on which we do not listen are left out.
pub fn with_port(addresses: &[IpAddr], listen: &[SocketAddr], port: u16) -> Vec<SocketAddr> {
    let heard = |ip: &IpAddr| {
        listen
            .iter()
            .any(|at| at.ip() == *ip || (at.ip().is_unspecified() && at.is_ipv4() == ip.is_ipv4()))
    };
    addresses
        .iter()
        .filter(|ip| heard(ip))
        .map(|ip| SocketAddr::new(*ip, port))
        .collect()
}

/// Puts in where the home's router lets the world in: behind this machine's own addresses, before
/// loopback. At the limit the last of our own gives way to it.
pub fn with_mapped(mut places: Vec<SocketAddr>, mapped: Option<SocketAddr>) -> Vec<SocketAddr> {
    let Some(mapped) = mapped.filter(|mapped| !places.contains(mapped)) else {
        return places;
    };
    let is_loopback = |place: &SocketAddr| place.ip().is_loopback();
    let own_count = places
        .iter()
        .take_while(|place| !is_loopback(place))
        .count();
    let at = if CONTACT_ADDRESSES_MAX <= places.len() {
        let last = own_count.saturating_sub(1);
        places.remove(last);
        last
    } else {
        own_count
    };
    places.insert(at, mapped);
    places
}

fn choose(seen: &[(String, IpAddr)], advertised: &[IpAddr]) -> Vec<IpAddr> {
    let overlay: Vec<&str> = seen
        .iter()
        .filter(|(_, ip)| matches!(ip, IpAddr::V6(ip) if is_overlay(ip)))
        .map(|(name, _)| name.as_str())
        .collect();
    let mut chosen: Vec<IpAddr> = seen
        .iter()
        .filter(|(name, _)| !overlay.contains(&name.as_str()))
        .map(|(_, ip)| *ip)
        .filter(|ip| !ip.is_loopback() && !ip.is_unspecified() && !is_link_local(ip))
        .collect();
    chosen.sort_by_key(|ip| (locality(ip), *ip));
    chosen.dedup();
    let mut extra: Vec<IpAddr> = advertised
        .iter()
        .copied()
        .filter(|ip| !chosen.contains(ip))
        .collect();
    // What the owner says matters more than the eighth address of a machine with many, and loopback
    // must fit too.
    chosen.truncate(CONTACT_ADDRESSES_MAX.saturating_sub(extra.len() + 1));
    chosen.append(&mut extra);
    chosen.truncate(CONTACT_ADDRESSES_MAX - 1);
    chosen.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
    chosen
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Zero for private addresses, one for others.
fn locality(ip: &IpAddr) -> u8 {
    match ip {
        IpAddr::V4(ip) => u8::from(!ip.is_private()),
        IpAddr::V6(ip) => u8::from(!ip.is_unique_local()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seen: &[(&str, &str)], advertised: &[&str], expect: &[&str]) {
        let parse = |text: &&str| text.parse::<IpAddr>().unwrap();
        let seen: Vec<(String, IpAddr)> = seen
            .iter()
            .map(|(name, ip)| ((*name).to_owned(), parse(ip)))
            .collect();
        let advertised: Vec<IpAddr> = advertised.iter().map(parse).collect();
        let expect: Vec<IpAddr> = expect.iter().map(parse).collect();
        assert_eq!(choose(&seen, &advertised), expect);
    }

    #[test]
    fn private_comes_first_and_loopback_last() {
        check(
            &[
                ("lo", "127.0.0.1"),
                ("lo", "::1"),
                ("eth0", "203.0.113.9"),
                ("eth0", "10.0.0.2"),
            ],
            &[],
            &["10.0.0.2", "203.0.113.9", "127.0.0.1"],
        );
    }

    #[test]
    fn overlay_and_link_local_are_left_out() {
        check(
            &[
                ("mesh0", "fd6d::1"),
                ("mesh0", "192.0.2.7"),
                ("eth0", "fe80::1"),
                ("eth0", "169.254.3.4"),
                ("eth0", "fd00::5"),
            ],
            &[],
            &["fd00::5", "127.0.0.1"],
        );
    }

    #[test]
    fn many_addresses_leave_room_for_what_the_owner_says() {
        let many: Vec<(String, IpAddr)> = (1..20)
            .map(|last| ("eth0".to_owned(), IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))))
            .collect();
        let advertised: IpAddr = "203.0.113.9".parse().unwrap();
        let chosen = choose(&many, &[advertised]);
        assert_eq!(chosen.len(), CONTACT_ADDRESSES_MAX);
        assert!(chosen.contains(&advertised));
    }

    #[test]
    fn mapped_place_stands_before_loopback_whatever_there_is() {
        let place = |text: &str| text.parse::<SocketAddr>().unwrap();
        let mapped = place("203.0.113.9:7");
        let few = vec![place("10.0.0.2:9"), place("127.0.0.1:9")];
        assert_eq!(with_mapped(few.clone(), None), few);
        let expect = vec![few[0], mapped, few[1]];
        assert_eq!(with_mapped(few, Some(mapped)), expect);
        assert_eq!(with_mapped(expect.clone(), Some(mapped)), expect);
        let mut many: Vec<SocketAddr> = (1..CONTACT_ADDRESSES_MAX)
            .map(|last| place(&format!("10.0.0.{last}:9")))
            .collect();
        many.push(place("127.0.0.1:9"));
        let chosen = with_mapped(many, Some(mapped));
        assert_eq!(chosen.len(), CONTACT_ADDRESSES_MAX);
        assert_eq!(chosen[CONTACT_ADDRESSES_MAX - 2], mapped);
        assert_eq!(with_mapped(Vec::new(), Some(mapped)), [mapped]);
    }

    #[test]
    fn addresses_of_unheard_families_are_left_out() {
        let all: Vec<IpAddr> = vec!["10.0.0.2".parse().unwrap(), "fd00::5".parse().unwrap()];
        let listen = ["0.0.0.0:9".parse().unwrap()];
        assert_eq!(
            with_port(&all, &listen, 9),
            vec!["10.0.0.2:9".parse().unwrap()]
        );
    }
}
