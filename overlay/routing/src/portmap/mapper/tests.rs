//! The mapper beside gateways made by hand: ones that answer, forget, refuse, lie and babble.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng};

use super::*;
use crate::portmap::soap::BODY_LEN_MAX;
use crate::portmap::{LEASE, Transport};

const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const OWN: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 1);
const UDP: Wish = Wish {
    transport: Transport::Udp,
    port: 4_000,
};
const TCP: Wish = Wish {
    transport: Transport::Tcp,
    port: 4_001,
};

/// What a gateway knows; a test changes it as it likes.
#[derive(Debug, Clone)]
struct Router {
    speaks: Vec<Way>,
    outside: Ipv4Addr,
    lease_max_s: u32,
    /// When it was switched on.
    born: Moment,
    /// Outer ports, whose they are, and where they lead.
    table: Vec<(Transport, u16, Ipv4Addr, u16)>,
    only_permanent: bool,
    refuses: bool,
    /// It counts its seconds a thousand times too fast.
    is_hasty: bool,
    /// It answers searches, and nothing behind them.
    is_facade: bool,
}

impl Router {
    fn that_speaks(speaks: &[Way]) -> Self {
        Self {
            speaks: speaks.to_vec(),
            outside: OUTSIDE,
            lease_max_s: u32::MAX,
            born: Moment(0),
            table: Vec::new(),
            only_permanent: false,
            refuses: false,
            is_hasty: false,
            is_facade: false,
        }
    }

    fn restarts(&mut self, now: Moment) {
        self.born = now;
        self.table.clear();
    }

    fn ours(&self) -> Vec<(Transport, u16, u16)> {
        let ours = self.table.iter().filter(|(_, _, client, _)| *client == OWN);
        ours.map(|(transport, outer, _, inner)| (*transport, *outer, *inner))
            .collect()
    }

    /// Maps as PCP and NAT-PMP do: another port if that one is another's.
    fn map(&mut self, wish: Wish, mut outer: u16, lifetime_s: u32) -> u16 {
        let is_it = |entry: &(Transport, u16, Ipv4Addr, u16)| {
            (entry.0, entry.2, entry.3) == (wish.transport, OWN, wish.port)
        };
        if lifetime_s == 0 {
            self.table.retain(|entry| !is_it(entry));
            return 0;
        }
        if let Some(entry) = self.table.iter().find(|entry| is_it(entry)) {
            return entry.1;
        }
        while self.table.iter().any(|entry| entry.1 == outer) {
            outer += 1;
        }
        self.table.push((wish.transport, outer, OWN, wish.port));
        outer
    }

    fn datagram(&mut self, bytes: &[u8], now: Moment) -> Option<Vec<u8>> {
        let age = now.since(self.born);
        let epoch_s = if self.is_hasty {
            age.as_millis() as u32
        } else {
            age.as_secs() as u32
        };
        let wish = |transport, high, low| Wish {
            transport,
            port: u16::from_be_bytes([high, low]),
        };
        match bytes {
            [2, ..] if !self.speaks.contains(&Way::Pcp) => {
                // What NAT-PMP says to another version.
                self.speaks
                    .contains(&Way::NatPmp)
                    .then(|| vec![0, 129, 0, 1, 0, 0, 0, 9])
            }
            [0, ..] if !self.speaks.contains(&Way::NatPmp) => None,
            [2, 0, ..] => Some(
                pcp::Answer {
                    result: 0,
                    lifetime_s: 0,
                    epoch_s,
                    body: pcp::Body::Announce,
                }
                .to_bytes(),
            ),
            [2, 1, ..] => {
                let asked_s = u32::from_be_bytes(bytes[4..8].try_into().unwrap());
                let transport = match bytes[36] {
                    17 => Transport::Udp,
                    _ => Transport::Tcp,
                };
                let wish = wish(transport, bytes[40], bytes[41]);
                let outer = u16::from_be_bytes([bytes[42], bytes[43]]);
                let port = if self.refuses {
                    0
                } else {
                    self.map(wish, outer, asked_s)
                };
                Some(
                    pcp::Answer {
                        result: if self.refuses { 2 } else { 0 },
                        lifetime_s: asked_s.min(self.lease_max_s),
                        epoch_s,
                        body: pcp::Body::Map {
                            nonce: bytes[24..36].try_into().unwrap(),
                            wish,
                            external: SocketAddrV4::new(self.outside, port),
                        },
                    }
                    .to_bytes(),
                )
            }
            [0, 0] => Some(
                natpmp::Answer {
                    result: 0,
                    epoch_s,
                    body: natpmp::Body::Address(self.outside),
                }
                .to_bytes(),
            ),
            [0, opcode, ..] => {
                let transport = match opcode {
                    1 => Transport::Udp,
                    _ => Transport::Tcp,
                };
                let wish = wish(transport, bytes[4], bytes[5]);
                let outer = u16::from_be_bytes([bytes[6], bytes[7]]);
                let asked_s = u32::from_be_bytes(bytes[8..12].try_into().unwrap());
                let external_port = self.map(wish, outer, asked_s);
                Some(
                    natpmp::Answer {
                        result: 0,
                        epoch_s,
                        body: natpmp::Body::Map {
                            wish,
                            external_port,
                            lifetime_s: asked_s.min(self.lease_max_s),
                        },
                    }
                    .to_bytes(),
                )
            }
            _ => None,
        }
    }

    fn search(&self) -> Option<Vec<u8>> {
        self.speaks.contains(&Way::Upnp).then(|| {
            format!(
                "HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\
                 LOCATION: http://{ROUTER}:5000/d.xml\r\n\r\n"
            )
            .into_bytes()
        })
    }

    fn fetch(&mut self, post: Option<&Post>) -> Option<String> {
        if !self.speaks.contains(&Way::Upnp) || self.is_facade {
            return None;
        }
        let Some(post) = post else {
            return Some(
                "<root><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1\
                 </serviceType><controlURL>/c</controlURL></service></root>"
                    .to_owned(),
            );
        };
        let value = |name: &str| {
            let (_, rest) = post.body.split_once(&format!("<{name}>"))?;
            Some(rest.split('<').next()?.to_owned())
        };
        let number = |name: &str| value(name).and_then(|text| text.parse::<u16>().ok());
        let transport = match value("NewProtocol").as_deref() {
            Some("UDP") => Transport::Udp,
            _ => Transport::Tcp,
        };
        let outer = number("NewExternalPort").unwrap_or(0);
        let at = |entry: &(Transport, u16, Ipv4Addr, u16)| (entry.0, entry.1) == (transport, outer);
        let found = self.table.iter().position(at);
        let fault = |code: u16| format!("<s:Fault><errorCode>{code}</errorCode></s:Fault>");
        let said = if post.action.contains("GetExternal") {
            format!(
                "<NewExternalIPAddress>{}</NewExternalIPAddress>",
                self.outside
            )
        } else if post.action.contains("GetSpecific") {
            found.map_or_else(
                || fault(714),
                |index| {
                    let (_, _, client, port) = self.table[index];
                    format!(
                        "<NewInternalPort>{port}</NewInternalPort>\
                         <NewInternalClient>{client}</NewInternalClient>"
                    )
                },
            )
        } else if post.action.contains("Delete") {
            self.table.retain(|entry| !at(entry));
            "<done/>".to_owned()
        } else if self.refuses {
            fault(501)
        } else if self.only_permanent && value("NewLeaseDuration").as_deref() != Some("0") {
            fault(725)
        } else {
            let owner = found.map(|index| self.table.remove(index).2);
            assert!(owner.is_none_or(|owner| owner == OWN), "left to its owner");
            let inner = number("NewInternalPort").unwrap();
            let client = value("NewInternalClient").unwrap().parse().unwrap();
            self.table.push((transport, outer, client, inner));
            "<done/>".to_owned()
        };
        Some(format!("<s:Envelope><s:Body>{said}</s:Body></s:Envelope>"))
    }
}

struct World {
    mapper: Mapper,
    router: Router,
    now: Moment,
    sent_count: usize,
    /// Whether what is sent arrives nowhere.
    is_cut: bool,
    /// Whether each grant is taken back at once, by the same answer as a refusal.
    is_fickle: bool,
}

impl World {
    fn new(router: Router) -> Self {
        Self::of(router, &[UDP], &Way::ALL)
    }

    fn of(router: Router, wishes: &[Wish], ways: &[Way]) -> Self {
        let settings = Settings {
            ways: ways.to_vec(),
            lease: LEASE,
            key: [7; 32],
        };
        let mut world = Self {
            mapper: Mapper::new(settings, wishes),
            router,
            now: Moment(0),
            sent_count: 0,
            is_cut: false,
            is_fickle: false,
        };
        world.hear(Event::Gateway(Some(Gateway {
            router: ROUTER,
            own: OWN,
        })));
        world
    }

    fn hear(&mut self, event: Event<'_>) {
        self.mapper.handle(event, self.now);
        while let Some(action) = self.mapper.poll() {
            self.sent_count += 1;
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        if self.is_cut {
            return;
        }
        match action {
            Action::Send(bytes) => {
                if let Some(mut answer) = self.router.datagram(&bytes, self.now) {
                    self.hear(Event::Datagram(&answer));
                    if self.is_fickle {
                        answer[3] = 2;
                        self.hear(Event::Datagram(&answer));
                    }
                }
            }
            Action::Search(_) => {
                if let Some(answer) = self.router.search() {
                    self.hear(Event::Found(&answer));
                }
            }
            Action::Fetch { ticket, post, .. } => {
                let body = self.router.fetch(post.as_ref());
                self.hear(Event::Fetched(ticket, body.as_deref()));
            }
        }
    }

    /// Lets time pass, from one deadline to the next.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end
            && let Some(next) = self.mapper.next_deadline().filter(|next| *next <= end)
        {
            self.now = next.max(self.now + Duration::from_millis(1));
            self.hear(Event::Tick);
        }
        self.now = self.now.max(end);
    }

    #[track_caller]
    fn check(&self, standing: Standing, mapped: &[(Wish, &str)]) {
        let mapped: Vec<Mapping> = mapped
            .iter()
            .map(|(wish, external)| Mapping {
                wish: *wish,
                external: external.parse().unwrap(),
            })
            .collect();
        let report = self.mapper.report();
        assert_eq!((report.standing, report.mappings), (standing, mapped));
    }
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn gateway_is_asked_in_the_first_way_that_it_speaks() {
    for way in Way::ALL {
        let mut world = World::of(Router::that_speaks(&[way]), &[UDP, TCP], &Way::ALL);
        world.pass(seconds(20));
        let expect = [(UDP, "11.0.0.1:4000"), (TCP, "11.0.0.1:4001")];
        world.check(Standing::Mapped(way), &expect);
        assert_eq!(world.router.ours().len(), 2, "{way:?}");
    }
    let world = World::new(Router::that_speaks(&Way::ALL));
    world.check(Standing::Mapped(Way::Pcp), &[(UDP, "11.0.0.1:4000")]);
}

#[test]
fn only_the_ways_of_the_settings_are_taken() {
    let mut world = World::of(Router::that_speaks(&Way::ALL), &[UDP], &[Way::Upnp]);
    world.pass(seconds(5));
    world.check(Standing::Mapped(Way::Upnp), &[(UDP, "11.0.0.1:4000")]);
    let mut off = World::of(Router::that_speaks(&Way::ALL), &[UDP], &[]);
    off.pass(seconds(5));
    off.check(Standing::Off, &[]);
    assert_eq!(off.sent_count, 0);
    assert_eq!(off.mapper.next_deadline(), None);
}

#[test]
fn lease_is_renewed_and_kept_for_a_day() {
    for way in Way::ALL {
        let mut router = Router::that_speaks(&[way]);
        router.lease_max_s = 120;
        let mut world = World::new(router);
        for _ in 0..48 {
            world.pass(seconds(1_800));
            world.check(Standing::Mapped(way), &[(UDP, "11.0.0.1:4000")]);
        }
    }
}

#[test]
fn gateway_that_forgot_is_asked_again_within_a_minute() {
    for way in Way::ALL {
        let mut world = World::new(Router::that_speaks(&[way]));
        world.pass(seconds(200));
        world.router.restarts(world.now);
        assert_eq!(world.router.ours(), []);
        world.pass(seconds(61));
        assert_eq!(
            world.router.ours(),
            [(Transport::Udp, 4_000, 4_000)],
            "{way:?}"
        );
    }
}

#[test]
fn call_of_a_new_beginning_is_heard_from_the_gateway_only() {
    for way in Way::ALL {
        let mut world = World::new(Router::that_speaks(&[way]));
        world.pass(seconds(10));
        world.router.restarts(world.now);
        world.hear(Event::Announced(Ipv4Addr::new(192, 168, 1, 9)));
        assert_eq!(world.router.ours(), [], "{way:?}");
        world.hear(Event::Announced(ROUTER));
        assert_eq!(world.router.ours().len(), 1, "{way:?}");
    }
}

#[test]
fn flood_of_calls_costs_one_packet_a_second() {
    let mut world = World::new(Router::that_speaks(&[Way::Pcp]));
    world.pass(seconds(10));
    let before = world.sent_count;
    for _ in 0..100 {
        world.pass(Duration::from_millis(10));
        world.hear(Event::Announced(ROUTER));
    }
    assert!(world.sent_count - before <= 2, "{}", world.sent_count);
}

#[test]
fn port_of_another_machine_is_left_to_it() {
    let other = Ipv4Addr::new(192, 168, 1, 3);
    for way in Way::ALL {
        let mut router = Router::that_speaks(&[way]);
        router.table.push((Transport::Udp, 4_000, other, 4_000));
        let mut world = World::new(router);
        world.pass(seconds(20));
        let ours = world.router.ours();
        assert_eq!(ours.len(), 1, "{way:?}");
        assert_ne!(ours[0].1, 4_000, "{way:?}");
        let external = format!("11.0.0.1:{}", ours[0].1);
        world.check(Standing::Mapped(way), &[(UDP, &external)]);
        assert_eq!(world.router.table[0].2, other);
    }
}

#[test]
fn stop_takes_back_what_is_held() {
    for way in Way::ALL {
        let mut world = World::of(Router::that_speaks(&[way]), &[UDP, TCP], &Way::ALL);
        world.pass(seconds(20));
        assert_eq!(world.router.ours().len(), 2);
        assert!(!world.mapper.is_finished(world.now));
        world.hear(Event::Stop);
        assert_eq!(world.router.ours(), [], "{way:?}");
        assert!(world.mapper.is_finished(world.now), "{way:?}");
    }
}

#[test]
fn stop_waits_for_a_silent_gateway_only_so_long() {
    for way in Way::ALL {
        let mut world = World::new(Router::that_speaks(&[way]));
        world.pass(seconds(20));
        world.is_cut = true;
        world.hear(Event::Stop);
        assert!(!world.mapper.is_finished(world.now), "{way:?}");
        world.pass(LEAVE_WAIT);
        assert!(world.mapper.is_finished(world.now), "{way:?}");
    }
    let mut idle = World::new(Router::that_speaks(&[]));
    idle.pass(seconds(30));
    idle.hear(Event::Stop);
    assert!(
        idle.mapper.is_finished(idle.now),
        "nothing is to be taken back"
    );
}

#[test]
fn silent_gateway_is_left_alone_for_longer_and_longer() {
    let mut world = World::new(Router::that_speaks(&[]));
    world.pass(seconds(30));
    world.check(Standing::Silent, &[]);
    world.pass(seconds(24 * 3_600));
    // 8 packets of two ways and 6 searches, each round.
    assert!(world.sent_count < 35 * 16, "{}", world.sent_count);
    world.router.speaks = vec![Way::Pcp];
    world.pass(seconds(3_600));
    world.check(Standing::Mapped(Way::Pcp), &[(UDP, "11.0.0.1:4000")]);
}

#[test]
fn gateway_that_answers_only_searches_is_as_good_as_silent() {
    let mut world = World::new(Router::that_speaks(&[Way::Upnp]));
    world.router.is_facade = true;
    world.pass(seconds(60));
    world.check(Standing::Silent, &[]);
    world.pass(seconds(24 * 3_600));
    // 8 packets of two ways; 3 requests, and before each at most 6 searches.
    assert!(world.sent_count < 35 * 29, "{}", world.sent_count);
    world.router.is_facade = false;
    world.pass(seconds(3_600));
    world.check(Standing::Mapped(Way::Upnp), &[(UDP, "11.0.0.1:4000")]);
}

#[test]
fn gateway_that_answers_no_more_behind_its_description_is_left() {
    let mut world = World::of(Router::that_speaks(&[Way::Upnp]), &[UDP], &[Way::Upnp]);
    world.pass(seconds(10));
    world.check(Standing::Mapped(Way::Upnp), &[(UDP, "11.0.0.1:4000")]);
    world.router.is_facade = true;
    let before = world.sent_count;
    world.pass(seconds(2 * 3_600));
    world.check(Standing::Silent, &[]);
    assert!(world.sent_count - before < 300, "{}", world.sent_count);
}

#[test]
fn searches_answered_a_thousand_times_cost_three_requests() {
    let mut world = World::of(Router::that_speaks(&[Way::Upnp]), &[UDP], &[Way::Upnp]);
    world.router.is_facade = true;
    let answer = world.router.search().unwrap();
    for ticket in 0..1_000 {
        world.hear(Event::Found(&answer));
        world.hear(Event::Fetched(ticket, None));
    }
    // And two searches of two packets each.
    assert!(world.sent_count < 16, "{}", world.sent_count);
}

#[test]
fn gateway_that_grants_and_refuses_by_turns_is_asked_little() {
    for way in [Way::Pcp, Way::NatPmp] {
        let mut world = World::of(Router::that_speaks(&[way]), &[UDP], &[way]);
        world.is_fickle = true;
        world.pass(seconds(100));
        assert!(world.sent_count < 40, "{way:?} {}", world.sent_count);
    }
}

#[test]
fn gateway_whose_clock_jumps_is_asked_once_a_second() {
    for way in [Way::Pcp, Way::NatPmp] {
        let mut world = World::new(Router::that_speaks(&[way]));
        world.router.is_hasty = true;
        world.pass(seconds(100));
        let before = world.sent_count;
        world.pass(seconds(100));
        assert!(
            world.sent_count - before < 310,
            "{way:?} {}",
            world.sent_count
        );
        world.check(Standing::Mapped(way), &[(UDP, "11.0.0.1:4000")]);
    }
}

#[test]
fn closed_port_leads_to_the_next_way_at_once() {
    let mut world = World::new(Router::that_speaks(&[Way::Upnp]));
    world.hear(Event::Closed);
    world.check(Standing::Mapped(Way::Upnp), &[(UDP, "11.0.0.1:4000")]);
}

#[test]
fn refusal_is_told() {
    for way in [Way::Pcp, Way::Upnp] {
        let mut router = Router::that_speaks(&[way]);
        router.refuses = true;
        let mut world = World::new(router);
        world.pass(seconds(30));
        world.check(Standing::Refused(way), &[]);
    }
}

#[test]
fn outside_that_is_inside_another_network_is_told() {
    for (outside, way) in [("100.64.0.9", Way::Pcp), ("192.168.0.9", Way::Upnp)] {
        let mut router = Router::that_speaks(&[way]);
        router.outside = outside.parse().unwrap();
        let mut world = World::new(router);
        world.pass(seconds(20));
        let external = format!("{outside}:4000");
        world.check(Standing::Inside(way), &[(UDP, &external)]);
    }
}

#[test]
fn outside_that_cannot_be_one_is_not_believed() {
    for way in Way::ALL {
        let mut router = Router::that_speaks(&[way]);
        router.outside = Ipv4Addr::LOCALHOST;
        let mut world = World::new(router);
        world.pass(seconds(20));
        assert_eq!(world.mapper.report().mappings, [], "{way:?}");
    }
}

#[test]
fn outside_that_changes_is_told_within_a_minute() {
    for way in [Way::NatPmp, Way::Upnp] {
        let mut world = World::new(Router::that_speaks(&[way]));
        world.pass(seconds(20));
        world.router.outside = Ipv4Addr::new(11, 0, 0, 2);
        world.pass(seconds(61));
        world.check(Standing::Mapped(way), &[(UDP, "11.0.0.2:4000")]);
    }
}

#[test]
fn mapping_of_a_gateway_that_is_gone_is_lost_at_the_end_of_its_lease() {
    for way in Way::ALL {
        let mut world = World::new(Router::that_speaks(&[way]));
        world.pass(seconds(20));
        world.is_cut = true;
        world.pass(LEASE + seconds(60));
        assert_eq!(world.mapper.report().mappings, [], "{way:?}");
        world.is_cut = false;
        world.pass(seconds(3_600));
        world.check(Standing::Mapped(way), &[(UDP, "11.0.0.1:4000")]);
    }
}

#[test]
fn mapping_without_an_end_is_made_where_there_is_no_other_and_lost_with_its_gateway() {
    let mut router = Router::that_speaks(&[Way::Upnp]);
    router.only_permanent = true;
    let mut world = World::new(router);
    world.pass(seconds(20));
    world.check(Standing::Mapped(Way::Upnp), &[(UDP, "11.0.0.1:4000")]);
    world.is_cut = true;
    world.pass(seconds(600));
    assert_eq!(world.mapper.report().mappings, []);
}

#[test]
fn other_address_of_ours_is_mapped_anew() {
    let mut world = World::new(Router::that_speaks(&[Way::Pcp]));
    let before = world.sent_count;
    let gateway = Gateway {
        router: ROUTER,
        own: Ipv4Addr::new(192, 168, 1, 7),
    };
    world.hear(Event::Gateway(Some(gateway)));
    assert_eq!(world.sent_count, before + 1);
    world.hear(Event::Gateway(Some(gateway)));
    assert_eq!(world.sent_count, before + 1, "the same is no news");
    world.hear(Event::Gateway(None));
    world.check(Standing::NoGateway, &[]);
    assert_eq!(world.mapper.next_deadline(), None);
}

#[test]
fn answer_with_another_nonce_is_not_ours() {
    let mut world = World::new(Router::that_speaks(&[]));
    let forged = pcp::Answer {
        result: 0,
        lifetime_s: 3_600,
        epoch_s: 1,
        body: pcp::Body::Map {
            nonce: [0; 12],
            wish: UDP,
            external: "11.6.6.6:666".parse().unwrap(),
        },
    };
    world.hear(Event::Datagram(&forged.to_bytes()));
    assert_eq!(world.mapper.report().mappings, []);
}

#[test]
fn more_wishes_than_the_limit_are_left_out() {
    let wishes: Vec<Wish> = (1..20).map(|port| Wish { port, ..UDP }).collect();
    let world = World::of(Router::that_speaks(&[Way::Pcp]), &wishes, &Way::ALL);
    assert_eq!(world.router.ours().len(), WISHES_MAX);
}

/// Whatever comes, nothing panics, little is sent and nothing is kept.
#[test]
fn babbling_gateway_costs_little() {
    for seed in 0..60 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut world = World::new(Router::that_speaks(&Way::ALL[seed as usize % 3..]));
        world.is_cut = seed % 2 == 0;
        let begin = world.now;
        for _ in 0..2_000 {
            let mut bytes = vec![0; rng.next_u32() as usize % 80];
            rng.fill_bytes(&mut bytes);
            // Half of them look like answers.
            if let [first, second, _, result, ..] = bytes.as_mut_slice()
                && rng.next_u32() % 2 == 0
            {
                *first = (rng.next_u32() % 2 * 2) as u8;
                *second = 128 + (rng.next_u32() % 3) as u8;
                *result = (rng.next_u32() % 3) as u8;
            }
            let text = "<a>".repeat(rng.next_u32() as usize % 50);
            let ticket = rng.next_u32() % 4;
            world.hear(match rng.next_u32() % 6 {
                0 => Event::Closed,
                1 => Event::Announced(ROUTER),
                2 => Event::Found(&bytes),
                3 => Event::Fetched(ticket, Some(&text)),
                4 => Event::Fetched(ticket, None),
                _ => Event::Datagram(&bytes),
            });
            world.pass(Duration::from_millis(u64::from(rng.next_u32() % 2_000)));
        }
        let passed_s = world.now.since(begin).as_secs() as usize;
        // An epoch that never stands still asks for the wish and the address each time.
        assert!(
            world.sent_count < 8_000 + 4 * passed_s,
            "{}",
            world.sent_count
        );
    }
}

#[test]
fn long_description_is_read_in_no_time() {
    let mut world = World::of(Router::that_speaks(&[]), &[UDP], &[Way::Upnp]);
    let answer = Router::that_speaks(&[Way::Upnp]).search().unwrap();
    world.hear(Event::Found(&answer));
    let deep = "<service>".repeat(BODY_LEN_MAX / 9);
    world.hear(Event::Fetched(1, Some(&deep)));
    world.check(Standing::Asking, &[]);
}
