//! What the home's gateway maps, in words for the status.
//!
//! Decides nothing about mappings: [`mesh_routing::portmap`] does.

use std::net::SocketAddr;

use mesh_api::status::{MappedPort, PortMapping};
use mesh_routing::portmap::{Report, Standing, Way};

/// Says how it stands.
pub(crate) fn port_mapping(report: &Report) -> PortMapping {
    let way = match report.standing {
        Standing::Mapped(way) | Standing::Inside(way) => Some(way),
        _ => None,
    };
    let ports = report.mappings.iter().map(|mapping| MappedPort {
        transport: mapping.wish.transport.word().to_owned(),
        port: mapping.wish.port,
        external: SocketAddr::V4(mapping.external),
    });
    PortMapping {
        router: report.gateway,
        way: way.map(|way| way.word().to_owned()),
        ports: ports.collect(),
        sentence: sentence(report),
    }
}

fn sentence(report: &Report) -> String {
    let router = report
        .gateway
        .map_or_else(|| "the router".to_owned(), |router| router.to_string());
    let by = |way: Way| format!("mapped by {router} ({})", way.word());
    match report.standing {
        Standing::Off => "not asked for ports: reach.port_mapping is off".to_owned(),
        Standing::NoGateway => "no IPv4 router on the default route".to_owned(),
        Standing::Asking => format!("{router} is being asked for ports"),
        Standing::Mapped(way) => by(way),
        Standing::Inside(way) => format!(
            "{}, which is behind another router: only that network comes in",
            by(way)
        ),
        Standing::Refused(way) => format!("{router} refuses to map ports ({})", way.word()),
        Standing::Silent => format!("{router} maps no ports"),
    }
}

#[cfg(test)]
mod tests {
    use mesh_routing::portmap::{Mapping, Transport, Wish};

    use super::*;

    #[track_caller]
    fn check(standing: Standing, expect: &str) {
        let report = Report {
            standing,
            gateway: Some("192.168.1.1".parse().unwrap()),
            mappings: Vec::new(),
        };
        assert_eq!(port_mapping(&report).sentence, expect);
    }

    #[test]
    fn every_standing_has_its_sentence() {
        check(Standing::Mapped(Way::Pcp), "mapped by 192.168.1.1 (pcp)");
        check(
            Standing::Inside(Way::NatPmp),
            "mapped by 192.168.1.1 (nat-pmp), which is behind another router: only that network \
             comes in",
        );
        check(
            Standing::Refused(Way::Upnp),
            "192.168.1.1 refuses to map ports (upnp)",
        );
        check(Standing::Silent, "192.168.1.1 maps no ports");
        check(Standing::Asking, "192.168.1.1 is being asked for ports");
        check(Standing::NoGateway, "no IPv4 router on the default route");
        check(
            Standing::Off,
            "not asked for ports: reach.port_mapping is off",
        );
    }

    #[test]
    fn mapped_ports_are_listed() {
        let report = Report {
            standing: Standing::Mapped(Way::Upnp),
            gateway: None,
            mappings: vec![Mapping {
                wish: Wish {
                    transport: Transport::Udp,
                    port: 7,
                },
                external: "11.0.0.1:9".parse().unwrap(),
            }],
        };
        let said = port_mapping(&report);
        assert_eq!(said.way.as_deref(), Some("upnp"));
        let [port] = said.ports.as_slice() else {
            panic!("one port")
        };
        assert_eq!(
            (port.transport.as_str(), port.port, port.external),
            ("UDP", 7, "11.0.0.1:9".parse().unwrap())
        );
    }
}
