//! A certified member that misbehaves on a link of its own: WireGuard as it should be, and inside
//! whatever no node sends.
//!
//! ```text
//!   shakes hands ─► says hello ─► is greeted ─► acts, each three times ─► an honest ping ─► stays
//! ```
//! Prints a line for each act: in which list of `meshnode status --json` it must be counted, by
//! which word, how often, and what it was. When the honest ping is answered, everything before it
//! has been judged; then it says so, and is a good neighbour for a while, so that nothing changes
//! at the node while somebody looks.

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use mesh_base::address::NodeAddress;
use mesh_base::identity::{NodeId, SecretKey};
use mesh_dataplane::session::{Local, Opened, Session as _, WireGuard};
use mesh_routing::answer::checksum;
use mesh_routing::packet::{Packet, Transport, build};
use mesh_routing::talk::{self, BABEL_GROUP, Talk, link_local};
use mesh_routing::transit;

/// How often each act is done.
const TIMES: usize = 3;

/// How long the node may take for anything.
const PATIENCE: Duration = Duration::from_secs(15);

/// Between two hellos, and between two knocks.
const PAUSE: Duration = Duration::from_millis(200);

/// How long the rogue listens at a time.
const GLANCE: Duration = Duration::from_millis(10);

/// How long it stays when all is done, unless somebody ends it.
const STAY: Duration = Duration::from_secs(60);

/// Room for a datagram and what a session adds.
const BUFFER_LEN: usize = 4096;

/// Stands in everything that must not arrive.
const MARK: &[u8] = b"read me if you can, for I am not meant for you";

/// Whom the rogue meets.
pub struct Meeting<'a> {
    /// As whom.
    pub secret: &'a SecretKey,
    /// The node that it is a neighbour of.
    pub host: NodeId,
    /// Where that one's tunnels end.
    pub tunnels: SocketAddr,
    /// Two honest nodes behind it.
    pub honest: [Ipv6Addr; 2],
}

/// Lists in `meshnode status --json`.
const DROPPED: &str = "dropped";
const ROUTING: &str = "routing";

/// Something that no node does.
struct Act {
    list: &'static str,
    word: &'static str,
    name: &'static str,
    packet: Vec<u8>,
}

impl Act {
    /// A packet that the node counts as dropped.
    fn dropped(word: &'static str, name: &'static str, packet: Vec<u8>) -> Self {
        Self {
            list: DROPPED,
            word,
            name,
            packet,
        }
    }
}

/// Plays the bad neighbour; returns what went wrong, if the node does not do its part.
pub fn play(meeting: &Meeting<'_>) -> Result<(), String> {
    let mut link = Link::new(meeting).map_err(|error| format!("cannot listen: {error}"))?;
    link.wait_for("a session", |link, _| {
        if !link.session.ready() {
            link.knock();
        }
        link.session.ready()
    })?;
    let mut greeted = false;
    link.wait_for("to be greeted", |link, packet| {
        link.hello();
        // What it tells us of its table comes after it has greeted us.
        greeted |= packet.is_some_and(|packet| tells_of_routes(&packet));
        greeted
    })?;
    link.ping(b"before it")?;
    for act in words(meeting).into_iter().chain(packets(meeting)) {
        link.act(&act)?;
    }
    for act in enclosed(meeting) {
        link.act_enclosed(&act)?;
    }
    strangers_knock(meeting).map_err(|error| format!("cannot knock: {error}"))?;
    link.ping(b"after it")?;
    println!("all was tried");
    let start = Instant::now();
    while start.elapsed() < STAY {
        let _ = link.receive();
        link.hello();
    }
    Ok(())
}

/// Our own addresses and the node's.
fn addresses(meeting: &Meeting<'_>) -> (Ipv6Addr, Ipv6Addr) {
    let own = NodeAddress::of(&NodeId(meeting.secret.public())).0;
    (own, NodeAddress::of(&meeting.host).0)
}

/// Updates of what is not ours.
fn words(meeting: &Meeting<'_>) -> Vec<Act> {
    let (own, host) = addresses(meeting);
    let [near, far] = meeting.honest;
    let nobody = Ipv6Addr::new(0xfd6d, 9, 9, 9, 9, 9, 9, 9);
    let nodes = Ipv6Addr::new(0xfd6d, 0, 0, 0, 0, 0, 0, 0);
    let services = Ipv6Addr::new(0xfd73, 0, 0, 0, 0, 0, 0, 0);
    let outside = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0);
    let say = |word, name, of: Ipv6Addr, prefix: Ipv6Addr, bits| Act {
        list: ROUTING,
        word,
        name,
        packet: talk_of(own, &[router_id(of), update(prefix, bits)].concat()),
    };
    vec![
        say("forged", "another's prefix as ours", own, near, 64),
        say("forged", "another's prefix as a third one's", far, near, 64),
        say("second-claimant", "the node's own prefix", own, host, 64),
        say(
            "uncertified",
            "a node that nobody certified",
            nobody,
            nobody,
            64,
        ),
        say("filtered", "half of another's prefix", near, near, 65),
        say("filtered", "all nodes", own, nodes, 16),
        say("filtered", "all services", own, services, 16),
        say(
            "filtered",
            "one service",
            own,
            Ipv6Addr::new(0xfd73, 1, 2, 3, 4, 5, 6, 7),
            128,
        ),
        say("filtered", "somebody's network", own, outside, 32),
        say("filtered", "everything", own, Ipv6Addr::UNSPECIFIED, 0),
    ]
}

/// Packets that are not ours to send.
fn packets(meeting: &Meeting<'_>) -> Vec<Act> {
    let (own, host) = addresses(meeting);
    let [near, far] = meeting.honest;
    let nobody = Ipv6Addr::new(0xfd6d, 9, 9, 9, 9, 9, 9, 9);
    let service = Ipv6Addr::new(0xfd73, 1, 2, 3, 4, 5, 6, 7);
    let outside = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let clear = |from, to| build::udp((from, 4321), (to, 5432), MARK);
    let echo = |from, to| build::icmp(from, to, 128, 7, MARK);
    let sealed = &[4, 0, 0, 0, 9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0][..];
    let parcel = |from, to| wrapped(sealed, from, to);
    let mut last_hop = parcel(own, near);
    transit::set_hops(&mut last_hop, 1);
    vec![
        Act::dropped("transit", "clear text for another", clear(own, near)),
        Act::dropped("transit", "a clear ping for another", echo(own, far)),
        Act::dropped("unreachable", "clear text for nobody", clear(own, nobody)),
        Act::dropped("source", "clear text as another", clear(near, host)),
        Act::dropped("source", "a ping as another", echo(far, host)),
        Act::dropped("source", "a ping as a service", echo(service, host)),
        Act::dropped("source", "clear text as the node itself", clear(host, near)),
        Act::dropped("foreign", "a ping from elsewhere", echo(outside, host)),
        Act::dropped("foreign", "a ping to elsewhere", echo(own, outside)),
        Act::dropped("source", "a parcel of nobody", parcel(nobody, near)),
        Act::dropped("source", "a parcel of a service", parcel(service, near)),
        Act::dropped("source", "a parcel of the node itself", parcel(host, near)),
        Act::dropped(
            "malformed",
            "clear text as a parcel",
            wrapped(MARK, own, near),
        ),
        Act::dropped("unreachable", "a parcel to nobody", parcel(own, nobody)),
        Act::dropped("loop", "a parcel that comes back", parcel(near, own)),
        Act::dropped("hop_limit", "a parcel at its last hop", last_hop),
        Act::dropped(
            "source",
            "talk as another",
            talk_from(link_local(near), &[]),
        ),
    ]
}

/// Packets that are sealed in our session with the node and come to it in a parcel.
fn enclosed(meeting: &Meeting<'_>) -> Vec<Act> {
    let (own, _) = addresses(meeting);
    let [near, _] = meeting.honest;
    let hello = [4, 6, 0, 0, 0, 1, 0, 100];
    let parcel = wrapped(&[4, 0, 0, 0], own, near);
    vec![
        Act::dropped("relayed", "talk in a parcel", talk_of(own, &hello)),
        Act::dropped("transit", "a parcel in a parcel", parcel),
    ]
}

/// Somebody without a certificate knocks, and says something without having been answered.
fn strangers_knock(meeting: &Meeting<'_>) -> std::io::Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    let local = Local::new(SecretKey::from_seed([177; 32]).to_x25519());
    let mut session = WireGuard::new(&local, meeting.host.key().to_x25519(), 1);
    let mut out = [0; BUFFER_LEN];
    for _ in 0..TIMES {
        if let Some(knock) = session.initiate(&mut out).and_then(|len| out.get(..len)) {
            socket.send_to(knock, meeting.tunnels)?;
        }
        let said = [&[4, 0, 0, 0, 1, 1, 1, 1], MARK].concat();
        socket.send_to(&said, meeting.tunnels)?;
    }
    tell(DROPPED, "stranger", 2 * TIMES, "no certificate");
    Ok(())
}

fn tell(list: &str, word: &str, times: usize, name: &str) {
    println!("{list}\t{word}\t{times}\t{name}");
}

fn wrapped(message: &[u8], from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    let mut out = vec![0; message.len() + transit::OVERHEAD];
    // The buffer fits; what is not written would be refused as well, by another word.
    let _ = transit::wrap(message, from, to, &mut out);
    out
}

fn talk_of(own: Ipv6Addr, tlvs: &[u8]) -> Vec<u8> {
    talk_from(link_local(own), tlvs)
}

/// Returns a Babel packet (RFC 8966, §4.2) as it travels inside a link.
fn talk_from(source: Ipv6Addr, tlvs: &[u8]) -> Vec<u8> {
    let len = u16::try_from(tlvs.len()).unwrap_or(u16::MAX).to_be_bytes();
    let payload = [&[42, 2][..], &len, tlvs].concat();
    let said = talk::write(Talk {
        source,
        destination: BABEL_GROUP,
        payload: &payload,
    });
    said.unwrap_or_default()
}

/// Says whose the update behind it is (§4.6.7).
fn router_id(of: Ipv6Addr) -> Vec<u8> {
    let [upper @ .., _, _, _, _, _, _, _, _] = of.octets();
    [&[6, 10, 0, 0][..], &upper].concat()
}

/// Says that a prefix is reached at once (§4.6.9), for a minute.
fn update(prefix: Ipv6Addr, bits: u8) -> Vec<u8> {
    let len = bits.div_ceil(8);
    let octets = prefix.octets();
    let bytes = octets.get(..usize::from(len)).unwrap_or_default();
    [
        &[8, 10 + len, 2, 0, bits, 0, 0x17, 0x70, 0, 1, 0, 0][..],
        bytes,
    ]
    .concat()
}

/// Returns whether a packet of the node is talk with an update in it.
fn tells_of_routes(packet: &[u8]) -> bool {
    let packet = Packet::parse(packet).ok();
    let talk = packet.as_ref().and_then(talk::read);
    let mut tlvs = talk
        .and_then(|talk| talk.payload.get(4..))
        .unwrap_or_default();
    while let [kind, len, rest @ ..] = tlvs {
        if *kind == 8 {
            return true;
        }
        tlvs = rest.get(usize::from(*len)..).unwrap_or_default();
    }
    false
}

/// The link to the node.
struct Link {
    socket: UdpSocket,
    to: SocketAddr,
    session: WireGuard,
    own: Ipv6Addr,
    host: Ipv6Addr,
    seqno: u16,
    spoke: Option<Instant>,
}

impl Link {
    fn new(meeting: &Meeting<'_>) -> std::io::Result<Self> {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        socket.set_read_timeout(Some(GLANCE))?;
        let local = Local::new(meeting.secret.to_x25519());
        let (own, host) = addresses(meeting);
        Ok(Self {
            socket,
            to: meeting.tunnels,
            session: WireGuard::new(&local, meeting.host.key().to_x25519(), 7),
            own,
            host,
            seqno: 0,
            spoke: None,
        })
    }

    /// Looks at one packet after the other, and at none, until there is what we wait for.
    fn wait_for(
        &mut self,
        what: &str,
        mut found: impl FnMut(&mut Self, Option<Vec<u8>>) -> bool,
    ) -> Result<(), String> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let packet = self.receive();
            if found(self, packet) {
                return Ok(());
            }
        }
        Err(format!("waited in vain for {what}"))
    }

    fn is_time(&mut self) -> bool {
        let is_time = self.spoke.is_none_or(|spoke| PAUSE <= spoke.elapsed());
        if is_time {
            self.spoke = Some(Instant::now());
        }
        is_time
    }

    fn knock(&mut self) {
        let mut out = [0; BUFFER_LEN];
        if self.is_time()
            && let Some(len) = self.session.initiate(&mut out)
        {
            self.throw(out.get(..len).unwrap_or_default());
        }
    }

    /// Says hello, that we hear the node, that we want its table, and what is ours.
    fn hello(&mut self) {
        if !self.is_time() {
            return;
        }
        self.seqno += 1;
        let [high, low] = self.seqno.to_be_bytes();
        let mut tlvs = vec![4, 6, 0, 0, high, low, 0, 100, 5, 14, 3, 0, 0, 96, 1, 44];
        let [.., a, b, c, d, e, f, g, h] = link_local(self.host).octets();
        tlvs.extend_from_slice(&[a, b, c, d, e, f, g, h]);
        tlvs.extend_from_slice(&[9, 2, 0, 0]);
        tlvs.extend(router_id(self.own));
        tlvs.extend(update(self.own, 64));
        let packet = talk_of(self.own, &tlvs);
        // Without a session there is nobody to say it to.
        let _ = self.send(&packet);
    }

    fn receive(&mut self) -> Option<Vec<u8>> {
        let (mut datagram, mut out) = ([0; BUFFER_LEN], [0; BUFFER_LEN]);
        if let Some(len) = self.session.tick(&mut out) {
            self.throw(out.get(..len)?);
        }
        let (len, _) = self.socket.recv_from(&mut datagram).ok()?;
        match self.session.open(datagram.get(..len)?, &mut out).ok()? {
            Opened::Packet(len) => Some(out.get(..len)?.to_vec()),
            Opened::Reply(len) => {
                self.throw(out.get(..len)?);
                None
            }
            Opened::Nothing | Opened::Cookie => None,
        }
    }

    fn throw(&self, bytes: &[u8]) {
        // What is lost is said again, or missed by who waits for it.
        let _ = self.socket.send_to(bytes, self.to);
    }

    fn seal(&mut self, packet: &[u8]) -> Result<Vec<u8>, String> {
        let mut out = vec![0; BUFFER_LEN];
        let len = self.session.seal(packet, &mut out);
        out.truncate(len.map_err(|error| format!("cannot seal: {error}"))?);
        Ok(out)
    }

    fn send(&mut self, packet: &[u8]) -> Result<(), String> {
        let sealed = self.seal(packet)?;
        self.throw(&sealed);
        Ok(())
    }

    fn act(&mut self, act: &Act) -> Result<(), String> {
        for _ in 0..TIMES {
            self.send(&act.packet)?;
        }
        tell(act.list, act.word, TIMES, act.name);
        // So that no queue is full because of us.
        self.ping(b"between")
    }

    fn act_enclosed(&mut self, act: &Act) -> Result<(), String> {
        for _ in 0..TIMES {
            let sealed = self.seal(&act.packet)?;
            self.send(&wrapped(&sealed, self.own, self.host))?;
        }
        tell(act.list, act.word, TIMES, act.name);
        self.ping(b"between")
    }

    /// Pings the node as everybody may, until it answers.
    fn ping(&mut self, words: &[u8]) -> Result<(), String> {
        self.seqno += 1;
        let (own, host, number) = (self.own, self.host, self.seqno);
        let ping = checked_echo(own, host, number, words);
        self.wait_for("an answer to a ping", |link, packet| {
            let answered = packet.is_some_and(|packet| {
                Packet::parse(&packet).is_ok_and(|packet| {
                    packet.transport() == Transport::EchoReply { identifier: number }
                })
            });
            if !answered {
                link.hello();
                let _ = link.send(&ping);
            }
            answered
        })
    }
}

/// Returns an echo request that a kernel answers: with its checksum (RFC 8200, §8.1).
fn checked_echo(from: Ipv6Addr, to: Ipv6Addr, identifier: u16, words: &[u8]) -> Vec<u8> {
    let mut packet = build::icmp(from, to, 128, identifier, words);
    let sum = checksum(from, to, packet.get(40..).unwrap_or_default());
    packet.splice(42..44, sum.to_be_bytes());
    packet
}
