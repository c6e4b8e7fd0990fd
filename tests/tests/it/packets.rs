//! Packets that no honest program sends, whole and with right checksums: if one got through, it
//! would be answered.

use std::net::Ipv6Addr;

use mesh_tests::probe::checksum;

const TCP: u8 = 6;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// Where a packet claims to come from and where it goes.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// The source.
    pub from: Ipv6Addr,
    /// The destination.
    pub to: Ipv6Addr,
    /// The destination's port.
    pub port: u16,
}

/// Returns a segment that asks for a connection.
pub fn syn(way: Way) -> Vec<u8> {
    ipv6(way, TCP, &syn_segment(way))
}

/// Returns such a segment behind an extension header that hides it.
pub fn syn_behind_options(way: Way) -> Vec<u8> {
    // Next header, length 0, and a padding option over the six bytes that are left.
    let header = [TCP, 0, 1, 4, 0, 0, 0, 0];
    ipv6(
        way,
        DESTINATION_OPTIONS,
        &[&header[..], &syn_segment(way)].concat(),
    )
}

/// Returns such a segment as the only fragment of a packet.
pub fn syn_in_a_fragment(way: Way) -> Vec<u8> {
    let header = [TCP, 0, 0, 0, 0, 0, 0, 7];
    ipv6(way, FRAGMENT, &[&header[..], &syn_segment(way)].concat())
}

/// Returns a datagram.
pub fn datagram(way: Way) -> Vec<u8> {
    let body = b"knock";
    let mut bytes = [4321_u16.to_be_bytes(), way.port.to_be_bytes()].concat();
    bytes.extend_from_slice(&(8 + body.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(body);
    let sum = pseudo_checksum(way, UDP, &bytes);
    bytes.splice(6..8, sum);
    ipv6(way, UDP, &bytes)
}

fn syn_segment(way: Way) -> Vec<u8> {
    let mut bytes = [4321_u16.to_be_bytes(), way.port.to_be_bytes()].concat();
    bytes.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0]);
    // Five words of header, SYN, a window.
    bytes.extend_from_slice(&[0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    let sum = pseudo_checksum(way, TCP, &bytes);
    bytes.splice(16..18, sum);
    bytes
}

fn ipv6(way: Way, next_header: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend_from_slice(&(body.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[next_header, 64]);
    bytes.extend_from_slice(&way.from.octets());
    bytes.extend_from_slice(&way.to.octets());
    bytes.extend_from_slice(body);
    bytes
}

/// RFC 8200, 8.1.
fn pseudo_checksum(way: Way, next_header: u8, body: &[u8]) -> [u8; 2] {
    let length = (body.len() as u32).to_be_bytes();
    let tail = [&length[..], &[0, 0, 0, next_header], body].concat();
    let all = [&way.from.octets()[..], &way.to.octets()[..], &tail].concat();
    checksum(&all).to_be_bytes()
}
