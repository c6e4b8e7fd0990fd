//! Knocks at doors and answers knocks, in whatever namespace it was started: the test binary as two
//! small programs.
//!
//! ```text
//!   it --listen SOCKET PORT…   answers TCP and UDP on each port, in both families, and at the
//!                              abstract unix socket; prints a line for each visit
//!   it --probe KNOCK…          tries all knocks at once; prints `yes KNOCK` or `no KNOCK: why`
//! ```
//! A knock is one word: `tcp/ADDRESS/PORT`, `udp/ADDRESS/PORT`, `ping/ADDRESS`, `abstract/NAME`.
//! Only who answered was reached. For doors that are not ours: `open/ADDRESS/PORT`, which is
//! content with a connection, and `raw/HEX`, a whole IPv6 packet for which nobody answers.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, SockaddrStorage, recv,
    sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// How long a knock waits for its answer: a lab's network takes microseconds.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What everybody says who was reached.
const GREETING: &[u8] = b"you have reached me";

/// Listens until killed.
///
/// # Errors
/// A socket cannot be had.
pub fn listen(words: &[String]) -> anyhow::Result<()> {
    let (name, ports) = words.split_first().context("no socket's name")?;
    let unix = UnixListener::bind_addr(&UnixAddr::from_abstract_name(name)?)?;
    let name = name.clone();
    thread::spawn(move || {
        for mut visitor in unix.incoming().flatten() {
            said(&format!("visit abstract/{name}"));
            let _ = visitor.write_all(GREETING);
        }
    });
    for port in ports {
        let any = (Ipv6Addr::UNSPECIFIED, port.parse::<u16>()?);
        let (tcp, udp) = (TcpListener::bind(any)?, UdpSocket::bind(any)?);
        let port = any.1;
        thread::spawn(move || {
            for mut visitor in tcp.incoming().flatten() {
                said(&format!("visit tcp/{port} from {:?}", visitor.peer_addr()));
                let _ = visitor.write_all(GREETING);
            }
        });
        thread::spawn(move || {
            let mut bytes = [0; 2048];
            while let Ok((_, from)) = udp.recv_from(&mut bytes) {
                said(&format!("visit udp/{port} from {from}"));
                let _ = udp.send_to(GREETING, from);
            }
        });
    }
    said("listening");
    loop {
        thread::park();
    }
}

fn said(line: &str) {
    // One write for each line, for the reader looks while we write.
    let _ = std::io::stdout().write_all(format!("{line}\n").as_bytes());
}

/// Tries all knocks at once and says what came of each.
pub fn probe(knocks: &[String]) {
    thread::scope(|scope| {
        for knock in knocks {
            scope.spawn(move || match try_knock(knock) {
                Ok(()) => said(&format!("yes {knock}")),
                Err(error) => said(&format!("no {knock}: {error:#}")),
            });
        }
    });
}

fn try_knock(knock: &str) -> anyhow::Result<()> {
    let (kind, rest) = knock.split_once('/').context("no knock")?;
    let place = || -> anyhow::Result<SocketAddr> {
        let (address, port) = rest.split_once('/').context("no port")?;
        Ok(SocketAddr::new(address.parse()?, port.parse()?))
    };
    match kind {
        "tcp" => {
            let mut stream = TcpStream::connect_timeout(&place()?, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            greeted(&mut stream)
        }
        "open" => TcpStream::connect_timeout(&place()?, PATIENCE)
            .map(drop)
            .map_err(Into::into),
        "udp" => udp(place()?),
        "ping" => ping(rest.parse()?),
        "abstract" => {
            let address = UnixAddr::from_abstract_name(rest)?;
            greeted(&mut UnixStream::connect_addr(&address)?)
        }
        "raw" => send_raw(&unhex(rest)?),
        _ => bail!("no such knock"),
    }
}

fn greeted(stream: &mut impl std::io::Read) -> anyhow::Result<()> {
    let mut bytes = [0; GREETING.len()];
    stream.read_exact(&mut bytes)?;
    ensure!(bytes == GREETING, "somebody else answered");
    Ok(())
}

fn udp(to: SocketAddr) -> anyhow::Result<()> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => [0, 0, 0, 0].into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // Not connected: a machine of many addresses may answer from another one.
    socket.send_to(b"knock", to)?;
    let mut bytes = [0; 64];
    let (len, _) = socket.recv_from(&mut bytes)?;
    ensure!(bytes.get(..len) == Some(GREETING), "somebody else answered");
    Ok(())
}

/// Sends an echo request and waits for its reply.
fn ping(to: IpAddr) -> anyhow::Result<()> {
    // Kind of a request, kind of its reply, and how far in what comes a message begins.
    let (family, protocol, request, reply, skip) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8, 0, 20),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128, 129, 0),
    };
    let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    let patience = TimeVal::new(1, 0);
    setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
    let mut message = vec![request, 0, 0, 0, 0x4d, 0x53, 0, 1];
    message.extend_from_slice(GREETING);
    message.push(0);
    if to.is_ipv4() {
        // The kernel computes the checksum of ICMPv6 only.
        let sum = checksum(&message).to_be_bytes();
        message.splice(2..4, sum);
    }
    let address = SockaddrStorage::from(SocketAddr::new(to, 0));
    sendto(socket.as_raw_fd(), &message, &address, MsgFlags::empty())?;
    let start = Instant::now();
    let mut bytes = [0; 2048];
    while start.elapsed() < PATIENCE {
        let len = recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty())?;
        let answer = bytes.get(skip..len).unwrap_or_default();
        let is_ours = answer.windows(GREETING.len()).any(|part| part == GREETING);
        if answer.first() == Some(&reply) && is_ours {
            return Ok(());
        }
    }
    bail!("no reply")
}

/// Returns the checksum of RFC 1071 over bytes whose own field for it is zero.
pub fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while 0xffff < sum {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

/// Sends a whole IPv6 packet to where it says, from whomever it says.
fn send_raw(packet: &[u8]) -> anyhow::Result<()> {
    let destination = packet.get(24..).and_then(|rest| rest.first_chunk::<16>());
    let to = Ipv6Addr::from(*destination.context("no IPv6 packet")?);
    let raw: OwnedFd = socket(
        AddressFamily::Inet6,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Raw,
    )?;
    let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, 0));
    let sent = sendto(raw.as_raw_fd(), packet, &to, MsgFlags::empty())?;
    ensure!(sent == packet.len(), "only {sent} bytes were sent");
    Ok(())
}

/// Writes a packet as a knock.
pub fn raw_knock(packet: &[u8]) -> String {
    let mut word = "raw/".to_owned();
    for byte in packet {
        // Writing to memory cannot fail.
        let _ = write!(word, "{byte:02x}");
    }
    word
}

fn unhex(text: &str) -> anyhow::Result<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_is_read_as_it_was_written() {
        let packet = [0x60, 0, 0xff, 7];
        let word = raw_knock(&packet);
        assert_eq!(word, "raw/6000ff07");
        assert_eq!(unhex(&word[4..]).unwrap(), packet);
        assert!(unhex("6g").is_err());
    }

    #[test]
    fn checksum_is_the_one_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&bytes), !0xddf2);
    }

    #[test]
    fn closed_door_is_told_from_an_open_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let knock = format!("tcp/127.0.0.1/{}", listener.local_addr().unwrap().port());
        let silent = try_knock(&knock);
        assert!(silent.is_err(), "it opened and said nothing");
        let answering = thread::spawn(move || {
            let (_, _) = listener.accept().unwrap();
            let (mut visitor, _) = listener.accept().unwrap();
            visitor.write_all(GREETING).unwrap();
        });
        assert!(try_knock(&knock).is_ok());
        answering.join().unwrap();
        assert!(try_knock(&knock).is_err());
        assert!(try_knock("bell").is_err());
    }
}
