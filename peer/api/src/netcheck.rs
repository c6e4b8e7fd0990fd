//! The answer to "what does this network let through?", and its screen.
//!
//! Each question is answered with yes, no or unknown, and one sentence that says by what it was
//! judged. What nobody has seen is unknown, never no.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::route::Way;
use crate::screen::{carrier, columns, or_none, plain, rtt, span, table};
use crate::status::{Carrier, PortMapping};

/// Nodes on the screen; the rest stands in the JSON.
const ROWS_MAX: usize = 20;

/// What a machine's network lets through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Netcheck {
    /// What stands between this machine and the Internet.
    pub nat: Nat,
    /// Where this machine's UDP socket is, by its own addresses.
    pub own: Vec<SocketAddr>,
    /// Where other nodes see it.
    pub seen: Vec<SocketAddr>,
    /// Which ports of the home's router lead here; none if that is not known yet.
    pub port_mapping: Option<PortMapping>,
    /// Whether the Internet is reached over IPv6.
    pub ipv6: Finding,
    /// Whether datagrams pass.
    pub udp: Finding,
    /// How each node is reached.
    pub paths: Vec<PathRow>,
    /// What its owner could do, the most useful first; empty if there is nothing.
    pub next: Vec<String>,
}

/// What stands between a machine and the Internet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nat {
    /// Its kind.
    pub kind: NatKind,
    /// How that is known.
    pub sentence: String,
}

/// A kind of address translation (RFC 4787, 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NatKind {
    /// None: others see this machine's own address.
    None,
    /// One outer port for all destinations: others find this machine by it.
    EndpointIndependent,
    /// Another outer port for each destination.
    Symmetric,
    /// Too few have said where they see this machine.
    Unknown,
}

impl NatKind {
    /// Returns the word for people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::EndpointIndependent => "endpoint-independent",
            Self::Symmetric => "symmetric",
            Self::Unknown => "unknown",
        }
    }
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Yes, no or unknown.
    pub answer: Answer,
    /// By what that was judged.
    pub sentence: String,
}

/// Whether something is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was seen.
    Yes,
    /// It was tried, and is not.
    No,
    /// Nobody could tell.
    Unknown,
}

impl Answer {
    /// Returns the word for people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

/// How a node is reached now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathRow {
    /// The node, `name.org`.
    pub name: String,
    /// How packets go to it.
    pub path: Way,
    /// What carries them, if they go directly.
    pub carrier: Option<Carrier>,
    /// Where its datagrams come from, if they come directly by UDP.
    pub endpoint: Option<SocketAddr>,
    /// Milliseconds since packets go this way.
    pub since_ms: Option<u64>,
    /// The round trip, in microseconds: of the link, or else of the control connection.
    pub rtt_us: Option<u64>,
    /// Why it is not direct; none if it is.
    pub why: Option<String>,
}

/// Returns the screen.
pub fn screen(check: &Netcheck) -> String {
    let fact = |name: &str, text: String| vec![name.to_owned(), text];
    let places = |places: &[SocketAddr]| {
        let texts: Vec<String> = places.iter().map(SocketAddr::to_string).collect();
        or_none((!texts.is_empty()).then(|| texts.join(", ")))
    };
    let finding = |it: &Finding| format!("{}: {}", it.answer.word(), it.sentence);
    let mapping = check.port_mapping.as_ref().map(|it| &it.sentence);
    let facts = vec![
        fact(
            "nat",
            format!("{}: {}", check.nat.kind.word(), check.nat.sentence),
        ),
        fact("udp", finding(&check.udp)),
        fact("ipv6", finding(&check.ipv6)),
        fact("router", or_none(mapping)),
        fact("own", places(&check.own)),
        fact("seen at", places(&check.seen)),
    ];
    let mut screen = columns(facts, "");
    let rows = check.paths.iter().take(ROWS_MAX).map(|row| {
        vec![
            row.name.clone(),
            path(row),
            or_none(row.since_ms.map(span)),
            rtt(row.rtt_us),
            or_none(row.why.as_ref()),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    if !rows.is_empty() {
        screen.push('\n');
        screen.push_str(&table(
            &["NODE", "PATH", "SINCE", "RTT", "WHY NOT DIRECT"],
            rows,
        ));
    }
    if ROWS_MAX < check.paths.len() {
        let more = check.paths.len() - ROWS_MAX;
        screen.push_str(&format!("and {more} more: meshnode netcheck --json\n"));
    }
    screen.push('\n');
    for next in &check.next {
        screen.push_str(&format!("next: {}\n", plain(next)));
    }
    if check.next.is_empty() {
        screen.push_str("next: nothing is in the way\n");
    }
    screen
}

fn path(row: &PathRow) -> String {
    match (&row.path, row.endpoint) {
        (Way::Direct, endpoint) => {
            let by = row.carrier.map_or("direct", carrier);
            endpoint.map_or_else(|| by.to_owned(), |at| format!("{by}, {at}"))
        }
        (Way::Around { via, .. }, _) => format!("through {via}"),
        (Way::None, _) => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check() -> Netcheck {
        let finding = |answer, sentence: &str| Finding {
            answer,
            sentence: sentence.into(),
        };
        let path = |name: &str, path, why: Option<&str>| PathRow {
            name: name.into(),
            carrier: (path == Way::Direct).then_some(Carrier::Udp),
            endpoint: (path == Way::Direct).then(|| "192.0.2.7:9".parse().unwrap()),
            path,
            since_ms: Some(5_000),
            rtt_us: Some(1_200),
            why: why.map(str::to_owned),
        };
        let via = Way::Around {
            via: "b.org".into(),
            hops: Some(2),
        };
        Netcheck {
            nat: Nat {
                kind: NatKind::Symmetric,
                sentence: "two saw two ports".into(),
            },
            own: vec!["192.168.1.7:9".parse().unwrap()],
            seen: Vec::new(),
            port_mapping: None,
            ipv6: finding(Answer::No, "no address"),
            udp: finding(Answer::Yes, "one answers"),
            paths: vec![
                path("b.org", Way::Direct, None),
                path("c.org", via, Some("it does not answer")),
            ],
            next: vec!["turn it on".into()],
        }
    }

    #[test]
    fn screen_answers_each_question_in_a_line() {
        assert_eq!(
            screen(&check()),
            "nat      symmetric: two saw two ports\n\
             udp      yes: one answers\n\
             ipv6     no: no address\n\
             router   -\n\
             own      192.168.1.7:9\n\
             seen at  -\n\
             \n\
             NODE   PATH              SINCE  RTT     WHY NOT DIRECT\n\
             b.org  udp, 192.0.2.7:9  5.0 s  1.2 ms  -\n\
             c.org  through b.org     5.0 s  1.2 ms  it does not answer\n\
             \n\
             next: turn it on\n"
        );
    }

    #[test]
    fn link_by_a_stream_tells_why() {
        let mut check = check();
        check.paths[0].carrier = Some(Carrier::StreamUdpSilent);
        check.paths[0].endpoint = None;
        assert!(screen(&check).contains("b.org  stream: no udp  5.0 s"));
    }

    #[test]
    fn one_screen_is_enough_for_any_mesh() {
        let mut many = check();
        let row = many.paths.remove(0);
        many.paths = vec![row; 1000];
        many.next.clear();
        let screen = screen(&many);
        assert!(screen.lines().count() < 32, "{screen}");
        assert!(screen.contains("and 980 more: meshnode netcheck --json\n"));
        assert!(screen.ends_with("next: nothing is in the way\n"));
    }

    #[test]
    fn nobody_known_is_a_screen_too() {
        let mut alone = check();
        alone.paths.clear();
        assert!(!screen(&alone).contains("NODE"));
    }
}
