//! Places on the underlay: from where each can be reached.
//!
//! Decides by the address alone; whether a firewall stands before it is for whoever tries.

use std::net::{IpAddr, SocketAddr};

use mesh_routing::portmap::is_inside;

/// Returns the places that lead to this node, those that lead there from anywhere first; loopback
/// only if there is nothing else.
pub(crate) fn best_first(places: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut sorted = places.to_vec();
    sorted.sort_by_key(|place| rank(&place.ip()));
    let outside = |place: &&SocketAddr| !place.ip().is_loopback();
    let outer: Vec<SocketAddr> = sorted.iter().filter(outside).copied().collect();
    if outer.is_empty() { sorted } else { outer }
}

/// Smaller is reachable from more places; a phone's network has IPv4 more often than IPv6.
fn rank(ip: &IpAddr) -> u8 {
    let wide = is_wide(ip);
    match ip {
        IpAddr::V4(_) if wide => 0,
        IpAddr::V6(_) if wide => 1,
        // Many homes of one provider share it (RFC 6598).
        IpAddr::V4(ip) if is_inside(*ip) && !ip.is_private() => 3,
        _ if ip.is_loopback() => 4,
        _ => 2,
    }
}

/// Returns whether an address means the same machine everywhere.
pub fn is_wide(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let narrow = is_inside(*ip) || ip.is_loopback() || ip.is_link_local();
            !narrow && !ip.is_unspecified()
        }
        // 2000::/3 is what is given out (RFC 4291, 2.4).
        IpAddr::V6(ip) => ip.segments().first().is_some_and(|first| first >> 13 == 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_that_the_world_knows_comes_first_and_loopback_not_at_all() {
        let places = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let given = places(&[
            "192.168.1.7:9",
            "[fd00::5]:9",
            "100.64.0.3:9",
            "[2001:db8::5]:9",
            "203.0.113.9:7",
            "127.0.0.1:9",
        ]);
        let expect = places(&[
            "203.0.113.9:7",
            "[2001:db8::5]:9",
            "192.168.1.7:9",
            "[fd00::5]:9",
            "100.64.0.3:9",
        ]);
        assert_eq!(best_first(&given), expect);
        let alone = places(&["127.0.0.1:9"]);
        assert_eq!(best_first(&alone), alone);
    }
}
