//! What a home's router answers: PCP, NAT-PMP, SSDP, descriptions and SOAP.

use std::net::{Ipv4Addr, SocketAddrV4};

use mesh_routing::portmap::ssdp::{Place, place_of_answer};
use mesh_routing::portmap::{natpmp, pcp, soap};

use crate::Outcome;

/// The router whose answers are read.
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

/// Reads an answer of PCP.
pub fn pcp(data: &[u8]) -> Outcome {
    let Some(answer) = pcp::Answer::of_bytes(data) else {
        return Outcome::Refused;
    };
    let again = pcp::Answer::of_bytes(&answer.to_bytes());
    assert_eq!(again, Some(answer), "an answer survives");
    Outcome::Read
}

/// Reads an answer of NAT-PMP.
pub fn nat_pmp(data: &[u8]) -> Outcome {
    let Some(answer) = natpmp::Answer::of_bytes(data) else {
        return Outcome::Refused;
    };
    let again = natpmp::Answer::of_bytes(&answer.to_bytes());
    assert_eq!(again, Some(answer), "an answer survives");
    Outcome::Read
}

/// Reads an answer to a search.
pub fn ssdp(data: &[u8]) -> Outcome {
    let Some(place) = place_of_answer(data, ROUTER) else {
        return Outcome::Refused;
    };
    assert_on_router(&place);
    Outcome::Read
}

/// Reads a description, and the same as the answer to an action.
pub fn igd(data: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(data);
    let from = Place {
        at: SocketAddrV4::new(ROUTER, 5_000),
        path: "/".to_owned(),
    };
    let control = soap::control_of_description(&text, &from);
    if let Some(control) = &control {
        assert_on_router(&control.place);
        let post = control.post(soap::Ask::Address);
        assert!(post.action.is_ascii(), "a header takes it");
    }
    let said = soap::said(&text);
    if control.is_none() && said.is_none() {
        return Outcome::Refused;
    }
    Outcome::Read
}

#[track_caller]
fn assert_on_router(place: &Place) {
    assert_eq!(*place.at.ip(), ROUTER, "nobody else is asked");
    let is_word = |byte: u8| byte.is_ascii_graphic();
    assert!(place.path.bytes().all(is_word), "one line takes it");
}
