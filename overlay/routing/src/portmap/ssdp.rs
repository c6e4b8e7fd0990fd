//! Finding a UPnP gateway: SSDP's search and its answers (UPnP Device Architecture 1.1, 1.3).
//!
//! Only what the default route's own router says about itself is taken: a description at another
//! address is refused, so that nobody on the network can send our requests elsewhere. Decides
//! nothing else.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Where searches are heard, besides the gateway itself.
pub const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 250), 1900);
/// Longest answer: it fits a datagram of an Ethernet.
pub const ANSWER_LEN_MAX: usize = 1_500;
/// Longest path: as long as one text of XML.
const PATH_LEN_MAX: usize = super::xml::TEXT_LEN_MAX;

/// What both versions of the gateway device answer to.
const TARGETS: [&str; 2] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
];

/// A place on a gateway's own web server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The server.
    pub at: SocketAddrV4,
    /// The path with its question, beginning with a slash.
    pub path: String,
}

/// Writes the searches, one datagram each.
pub fn searches() -> Vec<Vec<u8>> {
    let search = |target: &&str| {
        format!(
            "M-SEARCH * HTTP/1.1\r\nHOST: {GROUP}\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
             ST: {target}\r\n\r\n"
        )
        .into_bytes()
    };
    TARGETS.iter().map(search).collect()
}

/// Reads where the gateway `router` describes itself; none if it is no gateway's answer.
pub fn place_of_answer(bytes: &[u8], router: Ipv4Addr) -> Option<Place> {
    if ANSWER_LEN_MAX < bytes.len() {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.lines();
    let first = lines.next()?;
    if !first.starts_with("HTTP/1.") || first.split_ascii_whitespace().nth(1) != Some("200") {
        return None;
    }
    let value = |wanted: &str| {
        lines.clone().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim()
                .eq_ignore_ascii_case(wanted)
                .then(|| value.trim())
        })
    };
    let target = value("ST")?;
    if !TARGETS.contains(&target) {
        return None;
    }
    place(value("LOCATION")?, router)
}

/// Reads an `http` URL on the gateway itself.
pub fn place(url: &str, router: Ipv4Addr) -> Option<Place> {
    let rest = url.strip_prefix("http://")?;
    let path_at = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(path_at)?;
    let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
    let at = SocketAddrV4::new(host.parse().ok()?, port.parse().ok()?);
    let path = if path.is_empty() { "/" } else { path };
    (*at.ip() == router && at.port() != 0 && is_path(path)).then(|| Place {
        at,
        path: path.to_owned(),
    })
}

/// Returns whether a request's first line can hold it.
pub fn is_path(path: &str) -> bool {
    path.starts_with('/')
        && path.len() <= PATH_LEN_MAX
        && path.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

    fn answer(target: &str, location: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\nST: {target}\r\nlocation:  {location}\r\n\r\n").into_bytes()
    }

    #[track_caller]
    fn check(location: &str, expect: Option<(&str, &str)>) {
        let found = place_of_answer(&answer(TARGETS[0], location), ROUTER);
        let expect = expect.map(|(at, path)| Place {
            at: at.parse().unwrap(),
            path: path.to_owned(),
        });
        assert_eq!(found, expect);
    }

    #[test]
    fn gateway_says_where_it_describes_itself() {
        let at = "192.168.1.1:5000";
        check(
            "http://192.168.1.1:5000/d.xml?a=b",
            Some((at, "/d.xml?a=b")),
        );
        check("http://192.168.1.1", Some(("192.168.1.1:80", "/")));
    }

    #[test]
    fn place_elsewhere_is_refused() {
        for location in [
            "http://192.168.1.9:5000/d.xml",
            "http://127.0.0.1:5000/d.xml",
            "http://router.lan/d.xml",
            "http://192.168.1.1@192.168.1.9/",
            "http://[::1]:80/",
            "https://192.168.1.1/",
            "http://192.168.1.1:0/",
            "http://192.168.1.1:70000/",
            "http://192.168.1.1/a b",
            "",
        ] {
            check(location, None);
        }
    }

    #[test]
    fn what_is_no_gateways_answer_is_refused() {
        let good = "http://192.168.1.1/";
        let printer = answer("urn:schemas-upnp-org:device:Printer:1", good);
        assert_eq!(place_of_answer(&printer, ROUTER), None);
        let mut wrong = answer(TARGETS[1], good);
        wrong[9] = b'4';
        assert_eq!(place_of_answer(&wrong, ROUTER), None);
        let mut long = answer(TARGETS[1], good);
        long.resize(ANSWER_LEN_MAX + 1, b' ');
        assert_eq!(place_of_answer(&long, ROUTER), None);
    }

    #[test]
    fn searches_are_for_both_versions() {
        let searches = searches();
        assert_eq!(searches.len(), 2);
        for search in searches {
            let text = String::from_utf8(search).unwrap();
            assert!(text.starts_with("M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n"));
            assert!(text.ends_with("\r\n\r\n"));
        }
    }
}
