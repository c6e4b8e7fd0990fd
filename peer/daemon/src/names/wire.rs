//! A query as bytes in, an answer as bytes out (RFC 1035, 6891), by the node's table of names.
//!
//! hickory-proto reads and writes the messages; what is answered is the table's. Answers hold one
//! record at most, so they always fit, and nobody gains by pretending to be somebody else. Never
//! answers an answer. Invariant: whatever the bytes are, there is an answer or none, and no panic.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{AAAA, NS, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use mesh_peer::names::{Answer, Kind, Names, TTL_S};

/// Longest query that is looked at: a name, a question and some options fit several times, and so
/// does what any resolver sends by UDP (RFC 9715).
pub const QUERY_LEN_MAX: usize = 1232;
/// The fixed part of a message.
const HEADER_LEN: usize = 12;

/// Returns the answer to a query; none if it deserves none.
pub fn answer(query: &[u8], names: &Names) -> Option<Vec<u8>> {
    let &[id1, id0, flags, _, count1, count0, ..] = query.get(..HEADER_LEN)? else {
        return None;
    };
    let id = u16::from_be_bytes([id1, id0]);
    let op_code = OpCode::from_u8(flags >> 3 & 0x0f);
    if flags & 0x80 != 0 {
        return None;
    }
    let refuse = |code| Message::error_msg(id, op_code, code).to_vec().ok();
    if op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    // One question, as everywhere (RFC 9619): many would be much work for few bytes.
    if [count1, count0] != [0, 1] || QUERY_LEN_MAX < query.len() {
        return refuse(ResponseCode::FormErr);
    }
    let Ok(message) = Message::from_vec(query) else {
        return refuse(ResponseCode::FormErr);
    };
    let Some(question) = message.queries.first() else {
        return refuse(ResponseCode::FormErr);
    };
    respond(&message, question, names).to_vec().ok()
}

fn respond(query: &Message, question: &Query, names: &Names) -> Message {
    let mut response = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.checking_disabled = query.metadata.checking_disabled;
    response.add_query(question.clone());
    if let Some(edns) = &query.edns {
        let mut own = Edns::new();
        own.set_max_payload(u16::try_from(QUERY_LEN_MAX).unwrap_or(512));
        if 0 < edns.version() {
            response.metadata.response_code = ResponseCode::BADVERS;
            own.set_rcode_high(ResponseCode::BADVERS.high());
            response.set_edns(own);
            return response;
        }
        response.set_edns(own);
    }
    if question.query_class() != DNSClass::IN {
        response.metadata.response_code = ResponseCode::Refused;
        return response;
    }
    let kind = kind(question.query_type());
    fill(
        &mut response,
        question,
        names.answer(question.name().iter(), kind),
    );
    response
}

fn kind(kind: RecordType) -> Kind {
    match kind {
        RecordType::AAAA => Kind::Address,
        RecordType::PTR => Kind::Pointer,
        RecordType::SOA => Kind::Origin,
        RecordType::NS => Kind::Server,
        // One record of what there is (RFC 8482, 4.1).
        RecordType::ANY => Kind::Any,
        _ => Kind::Other,
    }
}

fn fill(response: &mut Message, question: &Query, answer: Answer) {
    response.metadata.authoritative = answer != Answer::Refused;
    // As it was asked: some resolvers choose the case by chance and look whether it comes back.
    let owner = question.name();
    match answer {
        Answer::Address(address) => says(response, owner, RData::AAAA(AAAA(address))),
        Answer::Pointer(name) => match Name::from_ascii(format!("{name}.")) {
            Ok(name) => says(response, owner, RData::PTR(PTR(name))),
            Err(_) => response.metadata.response_code = ResponseCode::ServFail,
        },
        Answer::Origin(zone) => says(response, owner, origin(zone)),
        Answer::Server(zone) => says(response, owner, RData::NS(NS(top(zone)))),
        Answer::Empty(zone) => denies(response, zone),
        Answer::Unknown(zone) => {
            response.metadata.response_code = ResponseCode::NXDomain;
            denies(response, zone);
        }
        Answer::Refused => response.metadata.response_code = ResponseCode::Refused,
    }
}

fn says(response: &mut Message, owner: &Name, data: RData) {
    response.add_answer(Record::from_rdata(owner.clone(), TTL_S, data));
}

/// The origin in the authority section says how long a denial may be kept (RFC 2308, 3).
fn denies(response: &mut Message, zone: &str) {
    response.add_authority(Record::from_rdata(top(zone), TTL_S, origin(zone)));
}

/// As of a zone that every machine serves for itself (RFC 6303, 3): nobody transfers it, so its
/// serial never changes.
fn origin(zone: &str) -> RData {
    let nobody = Name::from_ascii("nobody.invalid.").unwrap_or_default();
    let (retry, expire) = (1200, 604_800);
    RData::SOA(SOA::new(top(zone), nobody, 1, 3600, retry, expire, TTL_S))
}

fn top(zone: &str) -> Name {
    Name::from_ascii(format!("{zone}.")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use mesh_base::identity::{NodeId, OrgId, SecretKey};
    use mesh_peer::names::{Bearer, Entry};

    use super::*;

    fn names() -> Names {
        let key = SecretKey::from_seed([1; 32]).public();
        let (org, mut names) = (OrgId(key), Names::default());
        names.add_org(org, &"bakery".parse().unwrap(), org);
        let entry = Entry {
            address: "fd73::7".parse().unwrap(),
            node: NodeId(key),
            bearer: Bearer::Service,
        };
        names.add(org, &"crm-db".parse().unwrap(), entry);
        names
    }

    fn query(name: &str, kind: RecordType) -> Message {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message
    }

    fn ask(message: &Message) -> Message {
        let bytes = answer(&message.to_vec().unwrap(), &names()).unwrap();
        let said = Message::from_vec(&bytes).unwrap();
        assert_eq!(said.metadata.id, message.metadata.id);
        assert_eq!(said.metadata.message_type, MessageType::Response);
        said
    }

    #[track_caller]
    fn check(name: &str, kind: RecordType, code: ResponseCode, answers: usize, denials: usize) {
        let said = ask(&query(name, kind));
        let counts = (said.answers.len(), said.authorities.len());
        assert_eq!(
            (said.metadata.response_code, counts),
            (code, (answers, denials)),
            "{said}"
        );
        let is_ours = code != ResponseCode::Refused;
        assert_eq!(said.metadata.authoritative, is_ours);
        assert!(!said.metadata.recursion_available);
        let ttls = said
            .answers
            .iter()
            .chain(&said.authorities)
            .map(|record| record.ttl);
        assert!(ttls.into_iter().all(|ttl| ttl == TTL_S));
    }

    #[test]
    fn every_kind_of_answer_has_its_form() {
        let name = "Crm-DB.bakery.mesh.internal.";
        check(name, RecordType::AAAA, ResponseCode::NoError, 1, 0);
        check(name, RecordType::ANY, ResponseCode::NoError, 1, 0);
        check(name, RecordType::A, ResponseCode::NoError, 0, 1);
        check(name, RecordType::MX, ResponseCode::NoError, 0, 1);
        check(
            "x.bakery.mesh.internal.",
            RecordType::AAAA,
            ResponseCode::NXDomain,
            0,
            1,
        );
        check(
            "mesh.internal.",
            RecordType::SOA,
            ResponseCode::NoError,
            1,
            0,
        );
        check(
            "mesh.internal.",
            RecordType::NS,
            ResponseCode::NoError,
            1,
            0,
        );
        check(
            "example.com.",
            RecordType::AAAA,
            ResponseCode::Refused,
            0,
            0,
        );
        check(".", RecordType::NS, ResponseCode::Refused, 0, 0);
        let back = format!("7.{}3.7.d.f.ip6.arpa.", "0.".repeat(27));
        check(&back, RecordType::PTR, ResponseCode::NoError, 1, 0);
    }

    #[test]
    fn address_comes_back_under_the_name_as_it_was_asked() {
        let said = ask(&query("cRm-dB.BAKERY.mesh.internal.", RecordType::AAAA));
        let record = said.answers.first().unwrap();
        assert!(
            record
                .name
                .eq_case(&Name::from_ascii("cRm-dB.BAKERY.mesh.internal.").unwrap())
        );
        assert_eq!(record.data, RData::AAAA(AAAA("fd73::7".parse().unwrap())));
    }

    #[test]
    fn options_are_answered_by_options() {
        let mut message = query("mesh.internal.", RecordType::SOA);
        message.set_edns(Edns::new());
        let edns = ask(&message).edns.unwrap();
        assert_eq!(usize::from(edns.max_payload()), QUERY_LEN_MAX);
        let mut newer = Edns::new();
        newer.set_version(1);
        message.set_edns(newer);
        let said = ask(&message);
        // 16 is BADSIG too, depending on who reads it.
        assert_eq!(u16::from(said.metadata.response_code), 16);
        assert!(said.answers.is_empty());
    }

    #[test]
    fn what_is_no_query_gets_an_error_or_nothing() {
        let lawful = query("mesh.internal.", RecordType::SOA).to_vec().unwrap();
        let change = |at: usize, to: u8| {
            let mut bytes = lawful.clone();
            bytes[at] = to;
            let code = |bytes: Vec<u8>| Message::from_vec(&bytes).unwrap().metadata.response_code;
            answer(&bytes, &names()).map(code)
        };
        assert_eq!(change(2, 0x81), None);
        assert_eq!(change(2, 0x21), Some(ResponseCode::NotImp));
        assert_eq!(change(5, 2), Some(ResponseCode::FormErr));
        assert_eq!(change(5, 0), Some(ResponseCode::FormErr));
        assert_eq!(change(12, 0x3f), Some(ResponseCode::FormErr));
        // Another class than IN.
        assert_eq!(change(lawful.len() - 1, 3), Some(ResponseCode::Refused));
        assert_eq!(answer(&lawful[..11], &names()), None);
        let long = [lawful.clone(), vec![0; QUERY_LEN_MAX]].concat();
        let said = Message::from_vec(&answer(&long, &names()).unwrap()).unwrap();
        assert_eq!(said.metadata.response_code, ResponseCode::FormErr);
    }

    /// A small generator: what matters is that the bytes differ and are the same in each run.
    struct Chance(u64);

    impl Chance {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        fn below(&mut self, limit: usize) -> usize {
            usize::try_from(self.next() % limit as u64).unwrap()
        }
    }

    #[test]
    fn two_hundred_thousand_random_queries_are_survived_and_answers_stay_small() {
        let (names, mut chance) = (names(), Chance(0x5eed));
        let mut with_options = query("crm-db.bakery.mesh.internal.", RecordType::ANY);
        with_options.set_edns(Edns::new());
        let seeds = [
            query("crm-db.bakery.mesh.internal.", RecordType::AAAA)
                .to_vec()
                .unwrap(),
            query("mesh.internal.", RecordType::SOA).to_vec().unwrap(),
            with_options.to_vec().unwrap(),
        ];
        let mut answered = 0;
        for round in 0..200_000 {
            let mut bytes = seeds[round % seeds.len()].clone();
            if round % 2 == 0 {
                let len = HEADER_LEN + chance.below(120);
                bytes = (0..len).map(|_| chance.next().to_be_bytes()[0]).collect();
                // A query with one question, or nearly all would end at the first look.
                bytes[2] &= 1;
                bytes[4..6].copy_from_slice(&[0, 1]);
            }
            for _ in 0..chance.below(4) {
                let at = chance.below(bytes.len());
                bytes[at] = chance.next().to_be_bytes()[0];
            }
            bytes.truncate(bytes.len() - chance.below(3));
            if let Some(said) = answer(&bytes, &names) {
                answered += 1;
                // The question, one record, options.
                assert!(said.len() <= bytes.len() + 120, "{bytes:x?}");
                assert!(Message::from_vec(&said).is_ok(), "{bytes:x?}");
            }
        }
        assert!(100_000 < answered, "{answered}");
    }
}
