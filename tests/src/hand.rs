//! A Babel router made by hand: for packets that no daemon sends.
//!
//! Knows the bytes of RFC 8966 and nothing of the product's own reader and writer.

use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::net::if_::if_nametoindex;

const PORT: u16 = 6696;
const EVERYBODY: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 6);

/// Between two words of a hand; promised as half a second, so that one may be lost.
const PAUSE: Duration = Duration::from_millis(200);

/// A sub-TLV that nobody knows, and that must be understood (RFC 8966, §4.4).
pub const MANDATORY: &[u8] = &[0xc7, 2, 1, 2];

/// A sub-TLV that nobody knows, and that may be skipped.
pub const OPTIONAL: &[u8] = &[0x47, 2, 1, 2];

/// A router in the test's own namespace.
#[derive(Debug)]
pub struct Hand {
    socket: UdpSocket,
    interface: u32,
    seqno: u16,
    spoke: Option<Instant>,
}

/// Which hellos it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hello {
    /// To everybody.
    Multicast,
    /// To each neighbour alone.
    Unicast,
}

impl Hand {
    /// Takes an interface whose link-local address is `own`.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn new(interface: &str, own: &str) -> anyhow::Result<Self> {
        Self::from_port(interface, own, PORT)
    }

    /// Takes an interface, and speaks from a port that may not be Babel's.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn from_port(interface: &str, own: &str, port: u16) -> anyhow::Result<Self> {
        let interface = if_nametoindex(interface).context("no interface")?;
        let own = SocketAddrV6::new(own.parse()?, port, 0, interface);
        Ok(Self {
            socket: UdpSocket::bind(own).context("cannot speak")?,
            interface,
            seqno: 1,
            spoke: None,
        })
    }

    /// Says hello, that it hears the neighbours, and `tlvs`, if it is time again.
    ///
    /// # Errors
    /// The interface is gone.
    pub fn speak(
        &mut self,
        hello: Hello,
        neighbours: &[&str],
        tlvs: &[Vec<u8>],
    ) -> anyhow::Result<()> {
        if self.spoke.is_some_and(|at| at.elapsed() < PAUSE) {
            return Ok(());
        }
        self.spoke = Some(Instant::now());
        self.seqno = self.seqno.wrapping_add(1);
        let flag = if hello == Hello::Unicast { 0x80 } else { 0 };
        let [high, low] = self.seqno.to_be_bytes();
        let said_hello = vec![4, 6, flag, 0, high, low, 0, 50];
        for neighbour in neighbours {
            let address: Ipv6Addr = neighbour.parse()?;
            let mut packet = vec![ihu(address, 96)?];
            if hello == Hello::Unicast {
                packet.insert(0, said_hello.clone());
                packet.extend_from_slice(tlvs);
            }
            self.say(address, &packet)?;
        }
        if hello == Hello::Multicast {
            let mut packet = vec![said_hello];
            packet.extend_from_slice(tlvs);
            self.say(EVERYBODY, &packet)?;
        }
        Ok(())
    }

    fn say(&self, to: Ipv6Addr, tlvs: &[Vec<u8>]) -> anyhow::Result<()> {
        let body = tlvs.concat();
        let mut packet = vec![42, 2];
        packet.extend(u16::try_from(body.len())?.to_be_bytes());
        packet.extend(body);
        let to = SocketAddrV6::new(to, PORT, 0, self.interface);
        self.socket.send_to(&packet, to).context("cannot send")?;
        Ok(())
    }
}

/// Returns "I hear you": to a link-local address, for three seconds (RFC 8966, §4.6.6).
///
/// # Errors
/// The address is longer than eight bytes behind `fe80::`.
pub fn ihu(neighbour: Ipv6Addr, cost: u16) -> anyhow::Result<Vec<u8>> {
    let octets = neighbour.octets();
    let lower = octets.get(8..).context("an address has a lower half")?;
    let [high, low] = cost.to_be_bytes();
    let mut tlv = vec![5, 14, 3, 0, high, low, 1, 44];
    tlv.extend_from_slice(lower);
    Ok(tlv)
}

/// Returns whose the updates that follow are (RFC 8966, §4.6.7).
pub fn router_id(id: u64) -> Vec<u8> {
    let mut tlv = vec![6, 10, 0, 0];
    tlv.extend(id.to_be_bytes());
    tlv
}

/// Returns an update for IPv6 that lives for a minute (RFC 8966, §4.6.9): of `bits`, of which the
/// first `omitted` bytes are those of the last one that said so with the flag 0x80.
pub fn update(flags: u8, bits: u8, omitted: u8, prefix: &[u8], metric: u16) -> Vec<u8> {
    let [high, low] = metric.to_be_bytes();
    let mut tlv = vec![8, 0, 2, flags, bits, omitted, 0x17, 0x70, 0, 1, high, low];
    tlv.extend_from_slice(prefix);
    with(tlv, &[])
}

/// Returns a TLV with a sub-TLV at its end.
pub fn with(mut tlv: Vec<u8>, sub_tlv: &[u8]) -> Vec<u8> {
    tlv.extend_from_slice(sub_tlv);
    let len = u8::try_from(tlv.len() - 2).unwrap_or(u8::MAX);
    if let Some(place) = tlv.get_mut(1) {
        *place = len;
    }
    tlv
}
