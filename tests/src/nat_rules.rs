//! What a box does, as rules for nftables.
//!
//! The kernel's connection tracking is a port-restricted NAT if source ports are kept and a
//! symmetric one if they are drawn anew for each flow. The kinder ones remember on the way out
//! which inside address and port stand behind an outside port (`back`) and whom it has sent to
//! (`asked`), and turn on the way in by these. What nobody inside has asked for is dropped without
//! a word and leaves no trace in the table of connections; if it did, it would take the place of
//! the mapping that a simultaneous packet from inside is about to make.
//!
//! Interfaces are `lan` and `wan`. TCP is only ever opened from inside.

use std::net::Ipv4Addr;

use crate::nat::{Filtering, Mapping, Passage, Ports, Traits};

/// Returns the rules of a box whose own address is `outside`.
pub fn rules(traits: &Traits, outside: Ipv4Addr) -> String {
    let seconds = traits.lifetime.as_secs();
    let (back, learn, turn) = (memory(traits, seconds), learn(traits), turn(traits));
    let (out, passage) = (out(traits, outside), passage(traits.passage));
    format!(
        "table ip box {{
    {back}
    chain turn {{
        type nat hook prerouting priority dstnat;
        {turn}
    }}
    chain pass {{
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        ct status dnat accept
        iifname lan oifname wan {passage} accept
    }}
    chain own {{
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iifname {{ lan, lo }} accept
    }}
    chain out {{
        type nat hook postrouting priority srcnat;
        {out}
    }}
    chain learn {{
        type filter hook postrouting priority srcnat + 50;
        {learn}
    }}
}}
"
    )
}

/// Whether somebody else than the one who was sent to may send back.
fn is_kind(traits: &Traits) -> bool {
    traits.filtering != Filtering::AddressAndPortDependent
}

fn memory(traits: &Traits, seconds: u64) -> String {
    if !is_kind(traits) {
        return String::new();
    }
    let flags = format!("flags dynamic,timeout; timeout {seconds}s;");
    format!(
        "map back {{ type inet_service : ipv4_addr . inet_service; {flags} }}
    set asked {{ type inet_service . ipv4_addr; {flags} }}"
    )
}

/// The outside port is known only behind the translation, the inside one by the flow's first
/// packet, whichever side it came from.
fn learn(traits: &Traits) -> String {
    if !is_kind(traits) {
        return String::new();
    }
    let line = |way: &str, of: &str| {
        format!(
            "{way} ct direction {of} \
             update @back {{ udp sport : ct {of} ip saddr . ct {of} proto-src }}\n        "
        )
    };
    let mut lines = String::new();
    for way in ways(traits) {
        lines += &line(way, "original");
        lines += &line(way, "reply");
        lines += &format!("{way} update @asked {{ udp sport . ip daddr }}\n        ");
    }
    lines
}

/// Where packets leave with an outside port: to the outside, and turned back.
const OUT: &str = "oifname wan";
const TURNED: &str = "iifname lan oifname lan ct status dnat";

/// Returns those of a box.
fn ways(traits: &Traits) -> &'static [&'static str] {
    if traits.hairpin {
        &[OUT, TURNED]
    } else {
        &[OUT]
    }
}

fn turn(traits: &Traits) -> String {
    let may = match traits.filtering {
        Filtering::EndpointIndependent => "",
        Filtering::AddressDependent => "udp dport . ip saddr @asked",
        Filtering::AddressAndPortDependent => return String::new(),
    };
    let dnat = format!("{may} dnat ip to udp dport map @back");
    let mut lines = format!("iifname wan fib daddr type local {dnat}");
    if traits.hairpin {
        // The router's own address at home stays the router's.
        let outside = "fib daddr type local fib daddr . iif type != local";
        lines += &format!("\n        iifname lan {outside} {dnat}");
    }
    lines
}

/// Flows that go out by `masquerade` end with the address that they had. What is turned back to the
/// inside has the outside address too (RFC 4787, REQ-9), as if it had been outside.
fn out(traits: &Traits, outside: Ipv4Addr) -> String {
    let mut lines = String::new();
    for way in ways(traits) {
        let (change, port) = if *way == OUT {
            ("masquerade".to_owned(), " to :")
        } else {
            (format!("snat to {outside}"), ":")
        };
        let ports = match (traits.mapping, traits.ports) {
            (Mapping::EndpointIndependent, Ports::Kept) => change,
            // A number that depends on the inside alone; two that fall together are told apart by
            // the kernel.
            (Mapping::EndpointIndependent, Ports::Changed) => format!(
                "meta l4proto udp {change}{port}jhash ip saddr . udp sport mod 30000 \
                 seed {SEED} offset 20000\n        {way} {change}"
            ),
            (Mapping::AddressAndPortDependent, _) => format!("{change} fully-random"),
        };
        lines += &format!("{way} {ports}\n        ");
    }
    lines
}

/// Any number will do, as long as ports are not kept by chance.
const SEED: &str = "0x6d657368";

fn passage(passage: Passage) -> String {
    match passage {
        Passage::All => String::new(),
        Passage::Tcp => "meta l4proto tcp".to_owned(),
        Passage::TcpTo(port) => format!("tcp dport {port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::NatKind;

    #[test]
    fn only_kind_boxes_remember_and_turn() {
        for kind in NatKind::ALL {
            for traits in kind.boxes() {
                let text = rules(&traits, Ipv4Addr::new(11, 77, 1, 2));
                let is_kind = traits.filtering != Filtering::AddressAndPortDependent;
                assert_eq!(text.contains("map back"), is_kind, "{kind}:\n{text}");
                assert_eq!(text.contains("dnat ip to"), is_kind, "{kind}:\n{text}");
                assert_eq!(
                    text.contains("oifname lan"),
                    traits.hairpin,
                    "{kind}:\n{text}"
                );
            }
        }
    }
}
