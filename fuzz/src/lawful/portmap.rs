//! Answers of a home's router.

use std::net::{Ipv4Addr, SocketAddrV4};

use mesh_routing::portmap::{Transport, Wish, natpmp, pcp};

const WISH: Wish = Wish {
    transport: Transport::Udp,
    port: 41_641,
};
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 1);

/// Returns answers of PCP.
pub fn pcp() -> Vec<(&'static str, Vec<u8>)> {
    let answer = |body| pcp::Answer {
        result: 0,
        lifetime_s: 7_200,
        epoch_s: 12,
        body,
    };
    let map = pcp::Body::Map {
        nonce: [7; 12],
        wish: WISH,
        external: SocketAddrV4::new(OUTSIDE, 41_641),
    };
    vec![
        ("announce", answer(pcp::Body::Announce).to_bytes()),
        ("map", answer(map).to_bytes()),
    ]
}

/// Returns answers of NAT-PMP.
pub fn nat_pmp() -> Vec<(&'static str, Vec<u8>)> {
    let answer = |result, body| {
        let answer = natpmp::Answer {
            result,
            epoch_s: 12,
            body,
        };
        answer.to_bytes()
    };
    let map = natpmp::Body::Map {
        wish: WISH,
        external_port: 41_641,
        lifetime_s: 7_200,
    };
    vec![
        ("address", answer(0, natpmp::Body::Address(OUTSIDE))),
        ("map", answer(0, map)),
        ("no-version", answer(1, natpmp::Body::Short)),
    ]
}

/// Returns answers to a search.
pub fn ssdp() -> Vec<(&'static str, Vec<u8>)> {
    let answer = |version: u8| {
        format!(
            "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\n\
             ST: urn:schemas-upnp-org:device:InternetGatewayDevice:{version}\r\nEXT:\r\n\
             LOCATION: http://192.168.1.1:5000/rootDesc.xml\r\n\r\n"
        )
        .into_bytes()
    };
    vec![("first", answer(1)), ("second", answer(2))]
}

/// Returns a description and answers to actions.
pub fn igd() -> Vec<(&'static str, Vec<u8>)> {
    let description = "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\">\
        <device><serviceList><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1\
        </serviceType><controlURL>/ctl?a=1&amp;b=2</controlURL></service></serviceList></device>\
        </root>";
    let answer = |inside: &str| {
        format!("<?xml version=\"1.0\"?><s:Envelope><s:Body>{inside}</s:Body></s:Envelope>")
            .into_bytes()
    };
    vec![
        ("description", description.as_bytes().to_vec()),
        (
            "address",
            answer("<u:r><NewExternalIPAddress>11.0.0.1</NewExternalIPAddress></u:r>"),
        ),
        (
            "entry",
            answer(
                "<NewInternalPort>7</NewInternalPort>\
                 <NewInternalClient>192.168.1.2</NewInternalClient>",
            ),
        ),
        (
            "fault",
            answer("<s:Fault><!-- no --><errorCode>718</errorCode></s:Fault>"),
        ),
    ]
}
