//! The router that the default route leads to: asked of the kernel.
//!
//! Asked is the way to an address that is nobody's (RFC 5737), so that only a default route leads
//! there; one answer, however large the table is. Decides nothing.

use std::io;
use std::net::Ipv4Addr;

use mesh_routing::portmap::Gateway;

use crate::netlink::route::{GATEWAY, NEW_ROUTE, ROUTE_LEN, SOURCE, ask_way};
use crate::netlink::{attribute, open};

/// TEST-NET-3.
const FAR_AWAY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// Asks for the default route over IPv4; none if there is none, or none through a router.
pub fn default_route() -> io::Result<Option<Gateway>> {
    let socket = open(0)?;
    let mut buffer = [0; 4096];
    // "Unreachable" comes as an error message: there is no such route.
    let Some((NEW_ROUTE, body)) = ask_way(&socket, FAR_AWAY.into(), &mut buffer)? else {
        return Ok(None);
    };
    let address = |kind| {
        let bytes = attribute(body, ROUTE_LEN, kind)?;
        Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))
    };
    let found = address(GATEWAY).zip(address(SOURCE));
    Ok(found.map(|(router, own)| Gateway { router, own }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::alone::{alone, ip};

    #[test]
    fn router_of_the_default_route_is_found() {
        alone(|| {
            assert_eq!(default_route().unwrap(), None);
            ip("link add near type veth peer name far");
            ip("address add 192.168.7.2/24 dev near");
            ip("link set near up");
            assert_eq!(default_route().unwrap(), None, "a network is no router");
            ip("route add default via 192.168.7.1");
            let expect = Gateway {
                router: Ipv4Addr::new(192, 168, 7, 1),
                own: Ipv4Addr::new(192, 168, 7, 2),
            };
            assert_eq!(default_route().unwrap(), Some(expect));
            ip("route del default");
            ip("route add default dev near");
            assert_eq!(default_route().unwrap(), None, "a cable is no router");
        });
    }
}
