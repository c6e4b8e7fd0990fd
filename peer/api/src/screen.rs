//! Plain text for people: tables, times, sizes, and the status screen, without colours.
//!
//! Pure, so that both programs show the same thing. What comes from other nodes is made harmless
//! here: control characters never reach a terminal. Invariant: no line ends with a space.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use comfy_table::{ContentArrangement, presets};
use mesh_base::time::Wall;

use crate::service::{Safety, ServiceHeld, ServiceOrdered};
use crate::status::{Carrier, Health, Link, MappedPort, PeerRow, Reach, StatusReply};

/// What stands for nothing in a table.
pub const NONE: &str = "-";

/// Returns rows in aligned columns under headings; empty text if there is no row.
pub fn table(heads: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut lines = vec![heads.iter().map(|head| (*head).to_owned()).collect()];
    lines.extend(rows);
    columns(lines, "")
}

/// Returns rows in aligned columns without headings, each line after `indent`.
pub fn columns(rows: Vec<Vec<String>>, indent: &str) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = comfy_table::Table::new();
    // Lines are never broken: a broken URL cannot be copied.
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    for row in rows {
        table.add_row(row.iter().map(|cell| plain(cell)).collect::<Vec<String>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = table
        .lines()
        .map(|line| format!("{}\n", format!("{indent}{line}").trim_end()));
    lines.collect()
}

/// Replaces what could move a terminal's cursor, ring, colour, or turn the direction of reading.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() || turns(c) {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// Whether a character makes what follows read in another direction (Unicode UAX #9).
const fn turns(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// As [`plain`], but keeps line feeds and tabs: for pieces of logs.
pub fn plain_lines(text: &str) -> String {
    let keep = |c: char| c == '\n' || c == '\t' || !c.is_control();
    text.replace("\r\n", "\n")
        .chars()
        .map(|c| if keep(c) { c } else { '\u{fffd}' })
        .collect()
}

/// Hides the password of a URL: `postgresql://crm:…@host/crm`.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let authority_len = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some((authority, path)) = rest.split_at_checked(authority_len) else {
        return url.to_owned();
    };
    let Some((user, host)) = authority.rsplit_once('@') else {
        return url.to_owned();
    };
    let Some((user, _)) = user.split_once(':') else {
        return url.to_owned();
    };
    format!("{scheme}://{user}:…@{host}{path}")
}

/// Returns a span in the unit that fits: `850 ms`, `1.4 s`, `12 min`, `5 h`, `3 d`.
pub fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

/// Returns a round trip: `0.3 ms`, `3 ms`.
pub fn rtt(us: Option<u64>) -> String {
    match us {
        None => NONE.to_owned(),
        Some(us @ 0..2_000) => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        Some(us) => format!("{} ms", us / 1_000),
    }
}

/// Returns a count of bytes: `900 B`, `12 KiB`, `3.5 MiB`.
pub fn bytes(count: u64) -> String {
    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;
    const GIB: u64 = 1024 * MIB;
    let tenths = |unit: u64| format!("{}.{}", count / unit, count % unit * 10 / unit);
    match count {
        0..KIB => format!("{count} B"),
        KIB..MIB => format!("{} KiB", tenths(KIB)),
        MIB..GIB => format!("{} MiB", tenths(MIB)),
        _ => format!("{} GiB", tenths(GIB)),
    }
}

/// Returns mebibytes: `512 MiB`, `6 GiB`.
pub fn mebibytes(count: u64) -> String {
    match count {
        1024.. if count.is_multiple_of(1024) => format!("{} GiB", count / 1024),
        10_240.. => format!("{}.{} GiB", count / 1024, count % 1024 * 10 / 1024),
        _ => format!("{count} MiB"),
    }
}

/// Returns a time to the second, in UTC.
pub fn time(wall: Wall) -> String {
    wall.to_string()
}

/// Returns a value or the sign for nothing.
pub fn or_none(value: Option<impl std::fmt::Display>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| value.to_string())
}

/// Returns `yes` or `no`.
pub const fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// Returns how safe an order is: `safe: 3 copies`.
pub fn safety(safety: &Safety) -> String {
    let copies = if safety.copies == 1 { "copy" } else { "copies" };
    if safety.safe {
        return format!("safe: {} {copies}", safety.copies);
    }
    format!(
        "not safe yet: {} {copies}, {} needed",
        safety.copies, safety.copies_needed
    )
}

/// Returns the services that our organisation ordered.
pub fn services_ordered(services: &[ServiceOrdered]) -> String {
    let rows = services.iter().map(|service| {
        vec![
            service.name.clone(),
            service.recipe.clone(),
            service.state.to_string(),
            or_none(service.node.as_ref()),
            or_none(service.org.as_ref()),
            or_none(service.price.as_ref()),
            or_none(service.dns_name.as_ref()),
            or_none(service.url.as_deref().map(without_password)),
        ]
    });
    let heads = [
        "NAME", "RECIPE", "STATE", "NODE", "ORG", "PRICE", "DNS NAME", "URL",
    ];
    table(&heads, rows.collect())
}

/// Returns the services that run on this node.
pub fn services_held(services: &[ServiceHeld]) -> String {
    let rows = services.iter().map(|service| {
        vec![
            service.name.clone(),
            service.recipe.clone(),
            service.state.to_string(),
            service.customer.clone(),
            mebibytes(u64::from(service.memory_mib)),
            service.restarts.to_string(),
            time(service.granted_at),
            service.address.to_string(),
        ]
    });
    let heads = [
        "NAME", "RECIPE", "STATE", "CUSTOMER", "MEMORY", "RESTARTS", "SINCE", "ADDRESS",
    ];
    table(&heads, rows.collect())
}

/// Returns the other nodes.
pub fn peers(peers: &[PeerRow]) -> String {
    let rows = peers.iter().map(|peer| {
        vec![
            peer.name.clone(),
            peer.org.clone(),
            yes(peer.connected).to_owned(),
            link(peer.link).to_owned(),
            peer.carrier.map_or(NONE, carrier).to_owned(),
            rtt(peer.rtt_us),
            or_none(peer.silent_ms.map(span)),
            or_none(peer.endpoint),
            peer.address.to_string(),
        ]
    });
    let heads = [
        "NAME",
        "ORG",
        "CONNECTED",
        "LINK",
        "BY",
        "RTT",
        "SILENT",
        "ENDPOINT",
        "ADDRESS",
    ];
    table(&heads, rows.collect())
}

/// Says what carries a link.
pub(crate) const fn carrier(carrier: Carrier) -> &'static str {
    match carrier {
        Carrier::Udp => "udp",
        Carrier::UdpAndStream => "udp, stream",
        Carrier::StreamUdpSilent => "stream: no udp",
        Carrier::StreamUdpNarrow => "stream: narrow udp",
    }
}

const fn link(link: Link) -> &'static str {
    match link {
        Link::Up => "up",
        Link::Down => "down",
        Link::Unknown => "unknown",
    }
}

/// Returns the whole status screen: network first, health last.
pub fn status(status: &StatusReply) -> String {
    let mut screen = columns(facts(status), "");
    let mut part = |title: &str, text: String| {
        if !text.is_empty() {
            screen.push_str(&format!("\n{title}\n"));
            text.lines()
                .for_each(|line| screen.push_str(&format!("  {line}\n")));
        }
    };
    part("peers", peers(&status.peers));
    part("services ordered", services_ordered(&status.ordered));
    part("services here", services_held(&status.held));
    part("refused", counts(&status.refusals));
    part("packets dropped", counts(&status.dropped));
    part("health", health(status));
    screen
}

fn counts(counts: &BTreeMap<String, u64>) -> String {
    let rows = counts.iter();
    let rows = rows.map(|(why, count)| vec![count.to_string(), why.clone()]);
    columns(rows.collect(), "")
}

fn facts(status: &StatusReply) -> Vec<Vec<String>> {
    let role = match status.role {
        mesh_base::certificate::Role::Node => "node",
        mesh_base::certificate::Role::Master => "master",
    };
    let leader = match &status.voting.leader {
        Some(leader) => format!("{leader} (term {})", status.voting.term),
        None => format!("none (term {})", status.voting.term),
    };
    let votes = if status.voting.voter {
        "; this node votes"
    } else {
        ""
    };
    let reach = match status.reach {
        Reach::Address => "by overlay address",
        Reach::Loopback => "by ports of 127.0.0.1",
    };
    let records: u64 = status.heads.iter().map(|head| head.records).sum();
    let fact = |name: &str, text: String| vec![name.to_owned(), text];
    vec![
        fact("network", status.network.clone()),
        fact("node", format!("{} ({}, {role})", status.node, status.org)),
        fact("address", status.address.to_string()),
        fact("key", status.node_id.to_string()),
        fact(
            "up",
            format!(
                "{}, version {}",
                span(status.uptime_s.saturating_mul(1000)),
                status.version
            ),
        ),
        fact("leader", format!("{leader}{votes}")),
        fact("services", format!("reached {reach}{}", entrances(status))),
        fact("names", names(status)),
        fact("router", port_mapping(status)),
        fact(
            "ledger",
            format!(
                "{} documents, {records} records, journal at {}",
                status.heads.len(),
                status.journal_position
            ),
        ),
    ]
}

fn entrances(status: &StatusReply) -> String {
    let Some(entrances) = &status.entrances else {
        return String::new();
    };
    let proxy = |kind: &str, at: Option<SocketAddr>| at.map(|at| format!(", {kind} proxy {at}"));
    let shell = entrances.namespace.map(|_| ", `meshnode shell`".to_owned());
    let ways = [
        proxy("SOCKS", entrances.socks),
        proxy("HTTP", entrances.http),
        shell,
    ];
    ways.into_iter().flatten().collect()
}

fn port_mapping(status: &StatusReply) -> String {
    let Some(mapping) = &status.port_mapping else {
        return NONE.to_owned();
    };
    let ports = mapping.ports.iter().map(|mapped| {
        let MappedPort {
            transport,
            port,
            external,
        } = mapped;
        format!("{transport} {external} leads to {port} here; ")
    });
    format!("{}{}", ports.collect::<String>(), mapping.sentence)
}

fn names(status: &StatusReply) -> String {
    let Some(names) = &status.names else {
        return NONE.to_owned();
    };
    if names.listen.is_empty() {
        return names.sentence.clone();
    }
    let at: Vec<String> = names.listen.iter().map(ToString::to_string).collect();
    let left_out = match names.left_out {
        0 => String::new(),
        count => format!(" ({count} more have no room)"),
    };
    format!(
        "{}{left_out} answered at {}; {}",
        names.names,
        at.join(", "),
        names.sentence
    )
}

fn health(status: &StatusReply) -> String {
    let mut rows = Vec::new();
    for row in &status.health {
        let verdict = match row.verdict {
            Health::Ok => "ok",
            Health::Unknown => "unknown",
            Health::Warn => "warn",
            Health::Fail => "fail",
        };
        rows.push(vec![
            verdict.to_owned(),
            row.check.clone(),
            row.sentence.clone(),
        ]);
        if !row.hint.is_empty() {
            rows.push(vec![
                String::new(),
                String::new(),
                format!("hint: {}", row.hint),
            ]);
        }
    }
    columns(rows, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_without_spaces() {
        let rows = vec![
            vec!["a".into(), "é".into()],
            vec!["long".into(), String::new()],
        ];
        assert_eq!(table(&["X", "Y"], rows), "X     Y\na     é\nlong\n");
        assert_eq!(table(&["X"], vec![]), "");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        assert_eq!(
            table(&["X"], vec![vec!["a\u{1b}[31m\nb".into()]]),
            "X\na\u{fffd}[31m\u{fffd}b\n"
        );
        assert_eq!(plain_lines("a\tb\r\nc\u{1b}"), "a\tb\nc\u{fffd}");
    }

    #[test]
    fn password_is_hidden_and_nothing_else() {
        let check = |url: &str, expect: &str| assert_eq!(without_password(url), expect);
        check(
            "postgresql://crm:s%40c@[fd73::1]:5432/crm",
            "postgresql://crm:…@[fd73::1]:5432/crm",
        );
        check("postgresql://crm:a@b@h/x", "postgresql://crm:…@h/x");
        check("https://h/a:b@c", "https://h/a:b@c");
        check("https://user@h", "https://user@h");
        check("no url", "no url");
    }

    #[test]
    fn spans_and_sizes_take_the_unit_that_fits() {
        assert_eq!(
            [0, 999, 1_449, 59_999, 60_000, 7_200_000, 172_800_000].map(span),
            ["0 ms", "999 ms", "1.4 s", "59.9 s", "1 min", "2 h", "2 d"]
        );
        assert_eq!(
            [Some(340), Some(3_900), None].map(rtt),
            ["0.3 ms", "3 ms", "-"]
        );
        assert_eq!(
            [900, 1536, 3_670_016].map(bytes),
            ["900 B", "1.5 KiB", "3.5 MiB"]
        );
        assert_eq!(
            [512, 6144, 10_752].map(mebibytes),
            ["512 MiB", "6 GiB", "10.5 GiB"]
        );
    }
}
