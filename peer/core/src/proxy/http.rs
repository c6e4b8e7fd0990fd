//! The head of a request to an HTTP proxy (RFC 9112), and what is passed on of it.
//!
//! ```text
//!   CONNECT crm-db.bakery.mesh.internal:5432 HTTP/1.1   ─► bytes both ways after "200"
//!   GET http://wiki.bakery.mesh.internal/a?b HTTP/1.1   ─► GET /a?b HTTP/1.1, to port 80 there
//! ```
//! One request on each connection: what is passed on says `Connection: close`, and what follows the
//! head is the body, whatever it says. Requests for this very server (origin-form) are refused, so
//! that a page in a browser cannot use it (no page can make a browser write a proxy's request).
//! Decides nothing about destinations.

use crate::proxy::{Destination, NoWay};

/// Longest head; browsers send less than 4 KiB, cookies of careless sites twice that.
pub const HEAD_LEN_MAX: usize = 16 * 1024;
/// The port of `http:` (RFC 9110, 4.2.1).
const PORT: u16 = 80;
/// What the proxy calls itself (RFC 9110, 7.6.3).
const VIA: &str = "Via: 1.1 meshnode\r\n";
/// Fields that are for the next hop only (RFC 9110, 7.6.1), and those that we write ourselves.
const OURS: [&str; 8] = [
    "connection",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// A tunnel.
    Tunnel(Destination),
    /// One request, with the head that is passed on.
    Request(Destination, Vec<u8>),
}

/// What a program is told instead of an answer of the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// Not HTTP, or a request that only a server can answer.
    BadRequest,
    /// Not in the overlay.
    Forbidden,
    /// The head did not come to its end in time.
    TooSlow,
    /// The head is too long.
    TooLong,
    /// Nobody answers there, or the name is nobody's.
    BadGateway,
    /// Too many connections.
    Busy,
    /// Nobody answered in time.
    Expired,
}

/// What a program is told when its tunnel is open.
pub const OPEN: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

impl Problem {
    /// Returns the whole answer.
    pub fn answer(self) -> Vec<u8> {
        let (status, sentence) = match self {
            Self::BadRequest => (
                "400 Bad Request",
                "this is a proxy: ask it for http://… or CONNECT HOST:PORT",
            ),
            Self::Forbidden => (
                "403 Forbidden",
                "only addresses of the overlay and names in mesh.internal are reached here",
            ),
            Self::TooSlow => ("408 Request Timeout", "the request did not come to its end"),
            Self::TooLong => (
                "431 Request Header Fields Too Large",
                "the head of the request is too long",
            ),
            Self::BadGateway => (
                "502 Bad Gateway",
                "nobody of that name or address answers; `meshctl ls` lists services",
            ),
            Self::Busy => ("503 Service Unavailable", "too many connections"),
            Self::Expired => ("504 Gateway Timeout", "nobody answered in time"),
        };
        let text = format!("{sentence}\n");
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            text.len()
        );
        (head + &text).into_bytes()
    }
}

impl From<NoWay> for Problem {
    fn from(no_way: NoWay) -> Self {
        match no_way {
            NoWay::Outside => Self::Forbidden,
            NoWay::Unknown => Self::BadGateway,
        }
    }
}

/// Reads the head of a request; none if more must come. The number is the head's length.
pub fn read_head(bytes: &[u8]) -> Result<Option<(Wish, usize)>, Problem> {
    const END: &[u8] = b"\r\n\r\n";
    let end = bytes.windows(END.len()).position(|window| window == END);
    let Some(len) = end.map(|at| at + END.len()) else {
        return match bytes.len() < HEAD_LEN_MAX {
            true => Ok(None),
            false => Err(Problem::TooLong),
        };
    };
    if HEAD_LEN_MAX < len {
        return Err(Problem::TooLong);
    }
    // A field may hold any byte (obs-text), which is passed on as it is.
    let head = bytes.get(..len - END.len()).unwrap_or_default();
    let wish = wish(head).ok_or(Problem::BadRequest)?;
    Ok(Some((wish, len)))
}

fn wish(head: &[u8]) -> Option<Wish> {
    // A lone CR or LF could end a line for the next reader and not for us.
    let mut lines = Vec::new();
    let mut rest = head;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let (line, after) = rest.split_at_checked(at)?;
        lines.push(line);
        rest = after.get(2..)?;
    }
    lines.push(rest);
    let is_lawful = |line: &&[u8]| !line.iter().any(|byte| b"\r\n\0".contains(byte));
    if !lines.iter().all(is_lawful) {
        return None;
    }
    let (first, fields) = lines.split_first()?;
    let first = std::str::from_utf8(first).ok()?;
    let [method, target, version] = first.split(' ').collect::<Vec<_>>()[..] else {
        return None;
    };
    let is_method = !method.is_empty() && method.bytes().all(is_token);
    if !is_method || !["HTTP/1.1", "HTTP/1.0"].contains(&version) {
        return None;
    }
    if method == "CONNECT" {
        return Destination::of(target, None).map(Wish::Tunnel);
    }
    let (scheme, after) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") {
        return None;
    }
    let end = after.find(['/', '?', '#']).unwrap_or(after.len());
    let (authority, path) = after.split_at_checked(end)?;
    let to = Destination::of(authority, Some(PORT))?;
    let mut passed = origin(method, path, version).into_bytes();
    passed.extend(format!("Host: {authority}\r\n").bytes());
    pass_on(fields, &mut passed)?;
    passed.extend(format!("{VIA}Connection: close\r\n\r\n").bytes());
    Some(Wish::Request(to, passed))
}

/// Writes the first line as the server itself wants it (RFC 9112, 3.2.1 and 3.2.4).
fn origin(method: &str, path: &str, version: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let slash = match path.starts_with('/') {
        true => "",
        // The asterisk is what OPTIONS without a path means.
        false if method == "OPTIONS" && path.is_empty() => "*",
        false => "/",
    };
    format!("{method} {slash}{path} {version}\r\n")
}

/// Copies the fields that are for the other end. None if one is no field.
fn pass_on(fields: &[&[u8]], passed: &mut Vec<u8>) -> Option<()> {
    let mut split = Vec::new();
    for field in fields {
        let colon = field.iter().position(|byte| *byte == b':')?;
        let (name, value) = field.split_at_checked(colon)?;
        // No blank in a name, and no line that goes on with the one before (RFC 9112, 5).
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return None;
        }
        let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
        split.push((name, value.get(1..)?, *field));
    }
    let connection = split.iter().filter(|(name, ..)| name == "connection");
    let named: Vec<String> = connection
        .flat_map(|(_, value, _)| value.split(|byte| *byte == b','))
        .map(|word| String::from_utf8_lossy(word).trim().to_ascii_lowercase())
        // Without these the other end could not tell where the request ends.
        .filter(|word| !["content-length", "transfer-encoding"].contains(&word.as_str()))
        .collect();
    for (name, _, field) in &split {
        if !OURS.contains(&name.as_str()) && !named.contains(name) {
            passed.extend_from_slice(field);
            passed.extend_from_slice(b"\r\n");
        }
    }
    Some(())
}

/// RFC 9110, 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn passes(head: &str, to: &str, passed: &str) {
        let expect = Wish::Request(Destination::of(to, None).unwrap(), passed.into());
        assert_eq!(
            read_head(head.as_bytes()),
            Ok(Some((expect, head.len()))),
            "{head}"
        );
    }

    #[test]
    fn tunnel_is_asked_for_by_name_or_address() {
        let check = |target: &str| {
            let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
            let wish = Wish::Tunnel(Destination::of(target, None).unwrap());
            let longer = format!("{head}first bytes");
            assert_eq!(read_head(longer.as_bytes()), Ok(Some((wish, head.len()))));
            for len in 0..head.len() {
                assert_eq!(read_head(&head.as_bytes()[..len]), Ok(None));
            }
        };
        check("crm-db.bakery.mesh.internal:5432");
        check("[fd73::7]:5432");
    }

    #[test]
    fn request_is_passed_on_without_what_was_for_the_proxy() {
        passes(
            "GET http://wiki.bakery.mesh.internal:8080/a?b#c HTTP/1.1\r\nHost: other\r\n\
             Proxy-Connection: keep-alive\r\nConnection: close, X-Hop\r\nx-hop: 1\r\n\
             Accept: */*\r\nContent-Length: 3\r\n\r\n",
            "wiki.bakery.mesh.internal:8080",
            "GET /a?b HTTP/1.1\r\nHost: wiki.bakery.mesh.internal:8080\r\nAccept: */*\r\n\
             Content-Length: 3\r\nVia: 1.1 meshnode\r\nConnection: close\r\n\r\n",
        );
        passes(
            "POST HTTP://[fd73::7]?q HTTP/1.0\r\n\r\n",
            "[fd73::7]:80",
            "POST /?q HTTP/1.0\r\nHost: [fd73::7]\r\nVia: 1.1 meshnode\r\n\
             Connection: close\r\n\r\n",
        );
        passes(
            "OPTIONS http://a.b HTTP/1.1\r\n\r\n",
            "a.b:80",
            "OPTIONS * HTTP/1.1\r\nHost: a.b\r\nVia: 1.1 meshnode\r\nConnection: close\r\n\r\n",
        );
    }

    #[test]
    fn length_of_a_body_cannot_be_taken_away() {
        passes(
            "PUT http://a.b/ HTTP/1.1\r\nConnection: Content-Length\r\nContent-Length: 3\r\n\r\n",
            "a.b:80",
            "PUT / HTTP/1.1\r\nHost: a.b\r\nContent-Length: 3\r\nVia: 1.1 meshnode\r\n\
             Connection: close\r\n\r\n",
        );
    }

    #[test]
    fn what_is_for_a_server_or_hides_something_is_refused() {
        for head in [
            "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            "GET https://a.b/ HTTP/1.1\r\n\r\n",
            "GET http://user@a.b/ HTTP/1.1\r\n\r\n",
            "GET http:///a HTTP/1.1\r\n\r\n",
            "GET http://a.b/ HTTP/2\r\n\r\n",
            "GET  http://a.b/ HTTP/1.1\r\n\r\n",
            "GET http://a.b/ HTTP/1.1\r\nA: b\nB: c\r\n\r\n",
            "GET http://a.b/ HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            "GET http://a.b/ HTTP/1.1\r\nA : b\r\n\r\n",
            "GET http://a.b/ HTTP/1.1\r\nno field\r\n\r\n",
            "CONNECT a.b HTTP/1.1\r\n\r\n",
            "CONNECT http://a.b:1/ HTTP/1.1\r\n\r\n",
            "\r\n\r\n",
        ] {
            assert_eq!(
                read_head(head.as_bytes()),
                Err(Problem::BadRequest),
                "{head}"
            );
        }
    }

    #[test]
    fn head_has_a_longest_length() {
        let field = |len: usize| format!("GET http://a.b/ HTTP/1.1\r\nA: {}", "b".repeat(len));
        let fits = HEAD_LEN_MAX - field(0).len() - 4;
        let whole = format!("{}\r\n\r\n", field(fits));
        assert_eq!(whole.len(), HEAD_LEN_MAX);
        assert!(read_head(whole.as_bytes()).unwrap().is_some());
        let long = format!("{}\r\n\r\n", field(fits + 1));
        assert_eq!(read_head(long.as_bytes()), Err(Problem::TooLong));
        let endless = "A".repeat(HEAD_LEN_MAX);
        assert_eq!(read_head(endless.as_bytes()), Err(Problem::TooLong));
    }

    #[test]
    fn every_answer_is_whole() {
        for problem in [
            Problem::BadRequest,
            Problem::Forbidden,
            Problem::TooSlow,
            Problem::TooLong,
            Problem::BadGateway,
            Problem::Busy,
            Problem::Expired,
        ] {
            let answer = String::from_utf8(problem.answer()).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let len = format!("Content-Length: {}\r\n", body.len());
            assert!(head.contains(&len), "{answer}");
        }
    }
}
