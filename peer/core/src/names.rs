//! Which name means which address, as one node sees it: a table, and how a question is answered
//! from it.
//!
//! ```text
//!   crm-db . bakery . mesh . internal      AAAA fd73:…   a service, where its holder record says
//!   bakery-1 . bakery . mesh . internal    AAAA fd6d:…   a node
//!   crm-db . (52 letters of a key) . mesh . internal    the same, whatever orgs are called
//!   (32 nibbles) . d.6.d.f . ip6 . arpa    PTR           back again; 3.7.d.f for services
//! ```
//! Decides names, kinds of answers and their life; leaves the wire and the sockets to the shell and
//! what belongs into the table to the node. Invariant: a name has at most one address, and every
//! address leads back to a name that leads to it.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use mesh_base::identity::{NodeId, OrgId};
use mesh_base::name::Name;

use crate::limits::NAMES_MAX;

/// The zone of all names. `.internal` is reserved for private use.
pub const ZONE: &str = "mesh.internal";
/// The zone of the way back from a node's address.
pub const NODES_ZONE: &str = "d.6.d.f.ip6.arpa";
/// The zone of the way back from a service's address.
pub const SERVICES_ZONE: &str = "3.7.d.f.ip6.arpa";
/// How long an answer, a denial included, may be kept: services move, and a second holder must not
/// wait for old answers.
pub const TTL_S: u32 = 5;

/// Returns the name and what stands in its organisation's place in what somebody typed: whole or
/// without the zone, in any case.
pub(crate) fn parts(text: &str) -> (String, Option<String>) {
    let text = text.trim_end_matches('.').to_ascii_lowercase();
    let inside = text.strip_suffix(&format!(".{ZONE}")).unwrap_or(&text);
    match inside.split_once('.') {
        Some((name, org)) => (name.to_owned(), Some(org.to_owned())),
        None => (inside.to_owned(), None),
    }
}

/// What is asked about a name (RFC 1035, 3.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// AAAA.
    Address,
    /// PTR.
    Pointer,
    /// SOA.
    Origin,
    /// NS.
    Server,
    /// ANY.
    Any,
    /// Everything else: A, MX, TXT, …
    Other,
}

/// What is answered. Except for [`Answer::Refused`] the zone's SOA says how long nothing counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The address.
    Address(Ipv6Addr),
    /// The name of an address.
    Pointer(String),
    /// The zone's SOA.
    Origin(&'static str),
    /// The zone's own server: the zone itself, as RFC 6303 has it.
    Server(&'static str),
    /// The name exists, but has nothing of this kind (NODATA, RFC 2308).
    Empty(&'static str),
    /// There is no such name, and nothing below it (NXDOMAIN, RFC 8020).
    Unknown(&'static str),
    /// No name of ours: whoever asks should ask somebody else.
    Refused,
}

/// What bears a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bearer {
    /// A node.
    Node,
    /// A service.
    Service,
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The address.
    pub address: Ipv6Addr,
    /// The node itself, or the one that holds the service now.
    pub node: NodeId,
    /// What it is.
    pub bearer: Bearer,
}

/// The table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Organisations by what may stand in their place in a name; two that share a name have none.
    orgs: BTreeMap<String, Vec<OrgId>>,
    entries: BTreeMap<(OrgId, Name), Entry>,
    back: BTreeMap<Ipv6Addr, (OrgId, Name)>,
    left_out: u64,
}

impl Names {
    /// Lets an organisation be called by its key, and by its name if nobody else is. `own` keeps
    /// its name against everybody: a newcomer must not take names away from those who have them.
    pub fn add_org(&mut self, org: OrgId, name: &Name, own: OrgId) {
        self.orgs.insert(org.to_string(), vec![org]);
        let called = self.orgs.entry(name.to_string()).or_default();
        if org == own {
            *called = vec![org];
        } else if !called.contains(&own) && !called.contains(&org) {
            called.push(org);
        }
    }

    /// Adds a node or a service of an organisation. Who comes first keeps the name; the table is
    /// full at [`NAMES_MAX`].
    pub fn add(&mut self, org: OrgId, name: &Name, entry: Entry) {
        let key = (org, name.clone());
        if self.entries.contains_key(&key) {
            return;
        }
        if NAMES_MAX <= self.entries.len() {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        self.back.entry(entry.address).or_insert(key.clone());
        self.entries.insert(key, entry);
    }

    /// Answers a question about a name, given as its labels from left to right, in any case.
    pub fn answer<'a>(&self, labels: impl Iterator<Item = &'a [u8]>, kind: Kind) -> Answer {
        let labels: Vec<String> = labels
            .map(|label| String::from_utf8_lossy(label).to_ascii_lowercase())
            .collect();
        let mut outermost: Vec<&str> = labels.iter().map(String::as_str).rev().collect();
        // What remains are the labels inside the zone, the outermost first.
        for zone in [ZONE, NODES_ZONE, SERVICES_ZONE] {
            let depth = zone.split('.').count();
            let is_inside = outermost.len() >= depth
                && zone
                    .rsplit('.')
                    .zip(&outermost)
                    .all(|(ours, asked)| ours == *asked);
            if is_inside {
                let inside = outermost.split_off(depth);
                return match (inside.as_slice(), zone) {
                    ([], _) => at_top(zone, kind),
                    (inside, ZONE) => self.forward(inside, kind),
                    (inside, _) => self.backward(inside, zone, kind),
                };
            }
        }
        Answer::Refused
    }

    fn forward(&self, inside: &[&str], kind: Kind) -> Answer {
        match inside {
            [org] if self.orgs.contains_key(*org) => Answer::Empty(ZONE),
            [org, name] => match (self.entry(org, name), kind) {
                (Some((_, entry)), Kind::Address | Kind::Any) => Answer::Address(entry.address),
                (Some(_), _) => Answer::Empty(ZONE),
                (None, _) => Answer::Unknown(ZONE),
            },
            _ => Answer::Unknown(ZONE),
        }
    }

    fn backward(&self, inside: &[&str], zone: &'static str, kind: Kind) -> Answer {
        let prefix = if zone == NODES_ZONE { 0xfd6d } else { 0xfd73 };
        let mut bits: u128 = prefix;
        for label in inside {
            let nibble = label
                .parse::<char>()
                .ok()
                .and_then(|nibble| nibble.to_digit(16));
            let Some(nibble) = nibble.filter(|_| bits >> 124 == 0) else {
                return Answer::Unknown(zone);
            };
            bits = bits << 4 | u128::from(nibble);
        }
        // The prefix begins with ones: the highest nibble is set when all 32 are there.
        let missing = bits.leading_zeros();
        let first = Ipv6Addr::from_bits(bits << missing);
        if missing == 0 {
            return match (self.name_of(&first), kind) {
                (Some(name), Kind::Pointer | Kind::Any) => Answer::Pointer(name),
                (Some(_), _) => Answer::Empty(zone),
                (None, _) => Answer::Unknown(zone),
            };
        }
        // A part of an address exists if an address begins with it.
        let last = Ipv6Addr::from_bits(first.to_bits() | !(u128::MAX << missing));
        match self.back.range(first..=last).next() {
            Some(_) => Answer::Empty(zone),
            None => Answer::Unknown(zone),
        }
    }

    /// Returns what a name in an organisation's place and a name below it mean together.
    pub fn entry(&self, org: &str, name: &str) -> Option<(OrgId, &Entry)> {
        let [org] = self.orgs.get(org)?.as_slice() else {
            return None;
        };
        let entry = self.entries.get(&(*org, name.parse().ok()?))?;
        Some((*org, entry))
    }

    /// Returns the organisations that share what stands in an organisation's place; one if it is
    /// clear, none if it is nobody's.
    pub fn called(&self, org: &str) -> &[OrgId] {
        self.orgs.get(org).map_or(&[], Vec::as_slice)
    }

    /// Returns the whole name of an address: with the organisation's name if that is clear, else
    /// with its key.
    pub fn name_of(&self, address: &Ipv6Addr) -> Option<String> {
        let (org, name) = self.back.get(address)?;
        let plain = self
            .orgs
            .iter()
            .find(|(text, called)| called.as_slice() == [*org] && **text != org.to_string());
        let place = plain.map_or_else(|| org.to_string(), |(text, _)| text.clone());
        Some(format!("{name}.{place}.{ZONE}"))
    }

    /// Returns how many names there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns how many names had no room.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

fn at_top(zone: &'static str, kind: Kind) -> Answer {
    match kind {
        Kind::Origin | Kind::Any => Answer::Origin(zone),
        Kind::Server => Answer::Server(zone),
        _ => Answer::Empty(zone),
    }
}

#[cfg(test)]
mod tests {
    use mesh_base::identity::SecretKey;
    use proptest::prelude::*;

    use super::*;

    fn org(byte: u8) -> OrgId {
        OrgId(SecretKey::from_seed([byte; 32]).public())
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn entry(address: &str) -> Entry {
        let address: Ipv6Addr = address.parse().unwrap();
        let is_node = address.segments()[0] == 0xfd6d;
        Entry {
            address,
            node: NodeId(SecretKey::from_seed([9; 32]).public()),
            bearer: if is_node {
                Bearer::Node
            } else {
                Bearer::Service
            },
        }
    }

    /// The bakery's own view: a library with a node, and two strangers who share a name.
    fn table() -> Names {
        let mut names = Names::default();
        for (byte, called) in [(1, "bakery"), (2, "library"), (3, "twin"), (4, "twin")] {
            names.add_org(org(byte), &name(called), org(1));
        }
        names.add(org(1), &name("bakery-1"), entry("fd6d::1"));
        names.add(org(1), &name("crm-db"), entry("fd73::7"));
        names.add(org(2), &name("library-1"), entry("fd6d::2"));
        names.add(org(3), &name("shop"), entry("fd73::8"));
        names
    }

    #[track_caller]
    fn check(question: &str, kind: Kind, expect: Answer) {
        let labels = question.split('.').map(str::as_bytes);
        assert_eq!(table().answer(labels, kind), expect, "{question} {kind:?}");
    }

    fn address(text: &str) -> Answer {
        Answer::Address(text.parse().unwrap())
    }

    #[test]
    fn name_is_the_same_with_the_zone_and_without_in_any_case() {
        let whole = ("oven".to_owned(), Some("bakery".to_owned()));
        for text in ["oven.bakery", "Oven.BAKERY.Mesh.Internal."] {
            assert_eq!(parts(text), whole, "{text}");
        }
        for text in ["oven", "OVEN.", "oven.mesh.internal"] {
            assert_eq!(parts(text), ("oven".to_owned(), None), "{text}");
        }
        // No organisation's name has a dot, so nobody is meant.
        assert_eq!(parts("a.b.c"), ("a".to_owned(), Some("b.c".to_owned())));
        assert_eq!(parts(""), (String::new(), None));
    }

    #[test]
    fn names_of_nodes_and_services_have_addresses_in_any_case() {
        check(
            "crm-db.bakery.mesh.internal",
            Kind::Address,
            address("fd73::7"),
        );
        check(
            "CRM-db.Bakery.MESH.internal",
            Kind::Address,
            address("fd73::7"),
        );
        check(
            "bakery-1.bakery.mesh.internal",
            Kind::Address,
            address("fd6d::1"),
        );
        check(
            "library-1.library.mesh.internal",
            Kind::Any,
            address("fd6d::2"),
        );
    }

    #[test]
    fn existing_name_without_the_kind_is_empty_and_others_are_unknown() {
        for kind in [Kind::Other, Kind::Pointer, Kind::Origin, Kind::Server] {
            check("crm-db.bakery.mesh.internal", kind, Answer::Empty(ZONE));
        }
        check("bakery.mesh.internal", Kind::Address, Answer::Empty(ZONE));
        for unknown in [
            "crm-db.library.mesh.internal",
            "nothing.bakery.mesh.internal",
            "a.crm-db.bakery.mesh.internal",
            "nobody.mesh.internal",
            "crm-db.nobody.mesh.internal",
            "Not A Name.bakery.mesh.internal",
        ] {
            check(unknown, Kind::Address, Answer::Unknown(ZONE));
            check(unknown, Kind::Other, Answer::Unknown(ZONE));
        }
    }

    #[test]
    fn top_of_a_zone_has_its_origin_and_its_server() {
        check("mesh.internal", Kind::Origin, Answer::Origin(ZONE));
        check("mesh.internal", Kind::Server, Answer::Server(ZONE));
        check("mesh.internal", Kind::Any, Answer::Origin(ZONE));
        check("mesh.internal", Kind::Address, Answer::Empty(ZONE));
        check(NODES_ZONE, Kind::Origin, Answer::Origin(NODES_ZONE));
    }

    #[test]
    fn names_of_others_are_refused() {
        for other in ["example.com", "internal", "com", "", "mesh.internal.com"] {
            check(other, Kind::Address, Answer::Refused);
        }
        check("8.b.d.0.1.0.0.2.ip6.arpa", Kind::Pointer, Answer::Refused);
    }

    #[test]
    fn shared_name_of_strangers_is_nobodys_and_the_key_is_always_right() {
        check(
            "shop.twin.mesh.internal",
            Kind::Address,
            Answer::Unknown(ZONE),
        );
        let by_key = format!("shop.{}.mesh.internal", org(3));
        check(&by_key, Kind::Address, address("fd73::8"));
        let back = table().name_of(&"fd73::8".parse().unwrap());
        assert_eq!(back.unwrap(), by_key);
        assert_eq!(table().called("twin").len(), 2);
    }

    #[test]
    fn own_name_cannot_be_taken_away() {
        let mut names = table();
        names.add_org(org(5), &name("bakery"), org(1));
        assert_eq!(names.called("bakery"), [org(1)]);
        let mut late = Names::default();
        late.add_org(org(5), &name("bakery"), org(1));
        late.add_org(org(1), &name("bakery"), org(1));
        assert_eq!(late.called("bakery"), [org(1)]);
    }

    #[test]
    fn node_keeps_its_name_against_a_service() {
        let mut names = table();
        names.add(org(1), &name("bakery-1"), entry("fd73::9"));
        let (_, kept) = names.entry("bakery", "bakery-1").unwrap();
        assert_eq!(kept.address, "fd6d::1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(names.name_of(&"fd73::9".parse().unwrap()), None);
    }

    #[test]
    fn addresses_lead_back() {
        let nibbles = |text: &str| {
            let bits = text.parse::<Ipv6Addr>().unwrap().to_bits();
            let nibble = |at: u32| format!("{:x}.", bits >> (4 * at) & 15);
            format!("{}ip6.arpa", (0..32).map(nibble).collect::<String>())
        };
        let back = Answer::Pointer("crm-db.bakery.mesh.internal".into());
        check(&nibbles("fd73::7"), Kind::Pointer, back);
        check(
            &nibbles("fd73::7"),
            Kind::Address,
            Answer::Empty(SERVICES_ZONE),
        );
        check(
            &nibbles("fd6d::7"),
            Kind::Pointer,
            Answer::Unknown(NODES_ZONE),
        );
        check(
            "0.0.d.6.d.f.ip6.arpa",
            Kind::Pointer,
            Answer::Empty(NODES_ZONE),
        );
        check(
            "1.0.d.6.d.f.ip6.arpa",
            Kind::Pointer,
            Answer::Unknown(NODES_ZONE),
        );
        check(
            "x.d.6.d.f.ip6.arpa",
            Kind::Pointer,
            Answer::Unknown(NODES_ZONE),
        );
        let below = format!("0.{}", nibbles("fd73::7"));
        check(&below, Kind::Pointer, Answer::Unknown(SERVICES_ZONE));
    }

    #[test]
    fn table_is_full_at_its_limit() {
        let mut names = table();
        let before = names.len();
        for number in before..NAMES_MAX + 3 {
            names.add(org(1), &name(&format!("n{number}")), entry("fd6d::1"));
        }
        assert_eq!((names.len(), names.left_out()), (NAMES_MAX, 3));
        let (_, first) = names.entry("bakery", "crm-db").unwrap();
        assert_eq!(first.bearer, Bearer::Service);
    }

    proptest! {
        #[test]
        fn any_labels_are_answered(
            mut labels in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..64), 0..40),
            zone in 0..4usize,
        ) {
            let zone = [ZONE, NODES_ZONE, SERVICES_ZONE, "example"][zone];
            labels.extend(zone.split('.').map(|label| label.as_bytes().to_vec()));
            let answer = table().answer(labels.iter().map(Vec::as_slice), Kind::Any);
            prop_assert_eq!(answer == Answer::Refused, zone == "example");
        }
    }
}
