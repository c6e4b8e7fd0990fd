//! What programs of this machine say to the proxies: SOCKS and heads of HTTP.

use mesh_base::address::is_overlay;
use mesh_peer::names::Names;
use mesh_peer::proxy::http::{HEAD_LEN_MAX, Wish, read_head};
use mesh_peer::proxy::socks::{MESSAGE_LEN_MAX, read_greeting, read_request};
use mesh_peer::proxy::{Destination, Host};

use crate::Outcome;

/// Reads a greeting, and the request that follows it.
pub fn socks(data: &[u8]) -> Outcome {
    let Ok(Some(greeted_len)) = read_greeting(data) else {
        return Outcome::Refused;
    };
    let rest = data.get(greeted_len..).expect("a greeting has come whole");
    match read_request(rest) {
        Ok(Some((to, len))) => {
            assert!(
                len <= rest.len() && len <= MESSAGE_LEN_MAX,
                "its own bytes only"
            );
            assert_inside(&to);
            Outcome::Read
        }
        Ok(None) => {
            assert!(rest.len() < MESSAGE_LEN_MAX, "nobody waits for ever");
            Outcome::Refused
        }
        Err(_) => Outcome::Refused,
    }
}

/// Reads the head of a request to the HTTP proxy.
pub fn http(data: &[u8]) -> Outcome {
    match read_head(data) {
        Ok(Some((wish, len))) => {
            assert!(
                len <= data.len() && len <= HEAD_LEN_MAX,
                "its own bytes only"
            );
            match wish {
                Wish::Tunnel(to) => assert_inside(&to),
                Wish::Request(to, head) => {
                    assert_inside(&to);
                    assert_one_head(&head);
                }
            }
            Outcome::Read
        }
        Ok(None) => {
            assert!(data.len() < HEAD_LEN_MAX, "nobody waits for ever");
            Outcome::Refused
        }
        Err(_) => Outcome::Refused,
    }
}

/// Nothing that can be written leads out of the overlay.
fn assert_inside(to: &Destination) {
    if let Ok(place) = to.place(&Names::default()) {
        assert!(is_overlay(place.ip()), "it leads outside");
        assert!(matches!(to.host, Host::Address(_)), "there are no names");
    }
}

/// The other end must see one request where we saw one.
fn assert_one_head(head: &[u8]) {
    let ends = head.windows(4).filter(|four| *four == b"\r\n\r\n").count();
    assert!(ends == 1 && head.ends_with(b"\r\n\r\n"), "one head");
    let text = String::from_utf8_lossy(head);
    let hosts = text
        .lines()
        .filter(|line| line.to_ascii_lowercase().starts_with("host:"));
    assert_eq!(hosts.count(), 1, "one host");
    assert!(
        text.ends_with("\r\nConnection: close\r\n\r\n"),
        "one request"
    );
}
