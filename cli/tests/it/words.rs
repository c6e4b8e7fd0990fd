//! What the played node says: one lawful example of every reply.

use std::collections::BTreeMap;

use mesh_api::event::{Event, Stage};
use mesh_api::line::Line;
use mesh_api::names::{Answering, Bearer, Resolved};
use mesh_api::reply::{MemberRow, OrgRow, Relation, Verdict, VerdictLine};
use mesh_api::request::{DesiredState, Request, Sale};
use mesh_api::service::{
    AttemptRow, Candidate, OrderReply, PlanReply, RefusedNode, Safety, ServiceHeld, ServiceOrdered,
    ServiceState, ShowReply,
};
use mesh_api::status::{
    Carrier, Entrances, HeadRow, Health, HealthRow, Link, MappedPort, PeerRow, PortMapping, Reach,
    StatusReply, Voting,
};
use mesh_api::trade::{
    AgreementRow, Invoice, InvoiceLine, InvoiceRow, InvoiceState, OfferRow, ParameterRow,
    RecipeRow, UsageRow,
};
use mesh_api::{ApiError, ErrorKind, Reply};
use mesh_base::certificate::Role;
use mesh_base::digest::Digest;
use mesh_base::identity::{NodeId, OrgId, SecretKey};
use mesh_base::money::{Money, Price};
use mesh_base::time::Wall;

use crate::node::Answer;

pub const URL: &str = "postgresql://crm:s3cret@[fd73::7]:5432/crm";

/// Answers every request with its example.
pub fn well(request: &Request) -> Answer {
    match request {
        Request::Status => status().into(),
        Request::Peers => Reply::Peers {
            peers: vec![peer()],
        }
        .into(),
        Request::Routes { .. } => Reply::Routes { routes: vec![] }.into(),
        Request::Links => Reply::Links { links: vec![] }.into(),
        // `meshnode` asks these.
        Request::Ping { .. } | Request::Trace { .. } => ApiError::new(
            ErrorKind::Unreachable,
            "there is no route to library-1.library",
            "see what this node reaches: meshnode routes",
        )
        .into(),
        Request::Netcheck
        | Request::ClientLs
        | Request::ClientAdd { .. }
        | Request::ClientRemove { .. } => ApiError::new(
            ErrorKind::NotFound,
            "there is no client \"phone\" here",
            "list them: meshnode wg list",
        )
        .into(),
        Request::MemberInvite { role, .. } => Reply::MemberInvite {
            invite: "mesh-invite-abc".into(),
            role: *role,
            expires_at: day(),
        }
        .into(),
        Request::MemberLs => members().into(),
        Request::MemberRevoke { name, .. } => Reply::MemberRevoked {
            name: name.to_string(),
            node: mesh_base::identity::NodeId(
                mesh_base::identity::SecretKey::from_seed([2; 32]).public(),
            ),
            from: day(),
        }
        .into(),
        Request::OrgInvite { .. } => Reply::OrgInvite {
            agreement: "mesh-agreement-abc".into(),
            expires_at: day(),
        }
        .into(),
        Request::OrgAccept { .. } => Reply::OrgAccept(Box::new(agreement())).into(),
        Request::OrgLs => orgs().into(),
        Request::AgreementLs => Reply::Agreements {
            agreements: vec![agreement()],
        }
        .into(),
        Request::OfferLs => Reply::Offers {
            offers: vec![offer()],
        }
        .into(),
        Request::RecipeLs => Reply::Recipes {
            recipes: vec![recipe()],
        }
        .into(),
        Request::Order(order) if order.plan_only => plan().into(),
        Request::Order(_) => ordered(),
        Request::Ps => Reply::Services {
            ordered: vec![service()],
            held: vec![held()],
        }
        .into(),
        Request::Show { name } if name.as_str() == "crm-db" => show().into(),
        Request::SetState { name, state } if name.as_str() == "crm-db" => changed(*state),
        Request::Logs { name, .. } if name.as_str() == "crm-db" => logged(),
        Request::Show { name } | Request::SetState { name, .. } | Request::Logs { name, .. } => {
            ApiError::new(
                ErrorKind::NotFound,
                format!("there is no service \"{name}\""),
                "`meshctl ps` lists the services",
            )
            .into()
        }
        Request::UsageLs { .. } | Request::UsageNow { .. } => Reply::Usage {
            usage: vec![usage()],
        }
        .into(),
        Request::InvoiceLs => Reply::Invoices {
            invoices: vec![invoice_row()],
        }
        .into(),
        Request::InvoiceShow { .. } => invoice().into(),
        Request::InvoiceVerify { .. } => verdict("library-2026-11", true).into(),
        Request::LedgerHeads => Reply::Heads {
            heads: vec![head()],
        }
        .into(),
        Request::LedgerVerify => verdict("ledger", true).into(),
        Request::Resolve { .. } => resolved().into(),
    }
}

pub fn day() -> Wall {
    Wall(1_795_413_600_000)
}

fn price() -> Price {
    "0.12EUR/month".parse().unwrap()
}

fn euro(text: &str) -> Money {
    text.parse().unwrap()
}

fn node_id(byte: u8) -> NodeId {
    NodeId(SecretKey::from_seed([byte; 32]).public())
}

fn digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

fn safety() -> Safety {
    Safety {
        safe: true,
        copies: 3,
        copies_needed: 2,
        holders: vec!["bakery-1".into(), "bakery-2".into(), "library-1".into()],
    }
}

fn peer() -> PeerRow {
    PeerRow {
        name: "library-1".into(),
        org: "library".into(),
        node: node_id(2),
        address: "fd6d::2".parse().unwrap(),
        connected: true,
        endpoint: Some("192.0.2.7:51820".parse().unwrap()),
        rtt_us: Some(3_100),
        carrier: Some(Carrier::StreamUdpSilent),
        silent_ms: Some(850),
        link: Link::Up,
    }
}

fn head() -> HeadRow {
    HeadRow {
        document: "outbox bakery-1 → library".into(),
        seq: 7,
        head: "0123456789ab".into(),
        records: 4,
    }
}

fn resolved() -> Reply {
    Reply::Resolved(Box::new(Resolved {
        name: "crm-db.bakery.mesh.internal".into(),
        address: "fd73::7".parse().unwrap(),
        bearer: Bearer::Service,
        owner: "bakery".into(),
        node: "library-1".into(),
        org: "library".into(),
        ttl_s: 5,
    }))
}

pub fn status() -> Reply {
    let health = |check: &str, verdict, sentence: &str, hint: &str| HealthRow {
        check: check.into(),
        verdict,
        sentence: sentence.into(),
        hint: hint.into(),
    };
    Reply::Status(Box::new(StatusReply {
        network: "bakery".into(),
        org: "bakery".into(),
        node: "bakery-1".into(),
        node_id: node_id(1),
        address: "fd6d::1".parse().unwrap(),
        role: Role::Master,
        uptime_s: 185,
        version: "0.1.0".into(),
        voting: Voting {
            voter: true,
            leader: Some("bakery-1".into()),
            term: 1,
        },
        reach: Reach::Address,
        names: Some(Answering {
            listen: vec!["127.0.0.153:53".parse().unwrap()],
            sentence: "at the usual port".into(),
            names: 3,
            left_out: 0,
        }),
        entrances: Some(Entrances {
            socks: Some("127.0.0.1:1080".parse().unwrap()),
            http: None,
            namespace: Some(7),
        }),
        port_mapping: Some(PortMapping {
            router: Some("192.168.1.1".parse().unwrap()),
            way: Some("pcp".into()),
            ports: vec![MappedPort {
                transport: "UDP".into(),
                port: 41_641,
                external: "203.0.113.7:41641".parse().unwrap(),
            }],
            sentence: "mapped by 192.168.1.1 (pcp)".into(),
        }),
        peers: vec![peer()],
        refusals: BTreeMap::from([("foreign-org".into(), 2)]),
        dropped: BTreeMap::from([("denied".into(), 7)]),
        routing: BTreeMap::from([("routes".into(), 2)]),
        lost_ways: Vec::new(),
        heads: vec![head()],
        journal_position: 42,
        held: vec![],
        ordered: vec![service()],
        health: vec![
            health("clock", Health::Ok, "within 1 s of every peer", ""),
            health(
                "root key",
                Health::Warn,
                "it lies on this machine",
                "move it offline",
            ),
        ],
    }))
}

fn members() -> Reply {
    let member = |name: &str, role, byte| MemberRow {
        name: name.into(),
        node: node_id(byte),
        role,
        connected: true,
        valid_until: day(),
    };
    Reply::Members {
        members: vec![
            member("bakery-1", Role::Master, 1),
            member("bakery-2", Role::Node, 3),
        ],
        invites_open: 1,
    }
}

fn orgs() -> Reply {
    let org = |name: &str, byte, relation| OrgRow {
        name: name.into(),
        org: OrgId(node_id(byte).0),
        relation,
        nodes: 2,
    };
    Reply::Orgs {
        orgs: vec![
            org("bakery", 1, Relation::Own),
            org("library", 2, Relation::Seller),
        ],
    }
}

fn agreement() -> AgreementRow {
    AgreementRow {
        id: digest(9),
        seller: "library".into(),
        buyer: "bakery".into(),
        sells: vec![Sale {
            recipe: "postgres".parse().unwrap(),
            price: price(),
        }],
        credit: euro("10EUR"),
        owed: euro("0.000046EUR"),
        settlement_days: 14,
        since: day(),
    }
}

fn offer() -> OfferRow {
    OfferRow {
        recipe: "postgres".into(),
        node: "library-1".into(),
        org: "library".into(),
        price: Some(price()),
        memory_free_mib: 6144,
        cpu_free_millis: 3500,
        disk_free_mib: 20_000,
        connected: true,
    }
}

fn recipe() -> RecipeRow {
    let parameter = |name: &str, default: Option<&str>, required| ParameterRow {
        name: name.into(),
        summary: "what it means".into(),
        default: default.map(str::to_owned),
        required,
    };
    RecipeRow {
        name: "postgres".into(),
        summary: "PostgreSQL 15, a relational database".into(),
        digest: digest(8),
        memory_mib: 256,
        cpu_millis: 500,
        disk_mib: 1024,
        parameters: vec![
            parameter("database", Some("app"), false),
            parameter("password", None, false),
            parameter("owner", None, true),
        ],
        cached: true,
    }
}

fn plan() -> Reply {
    Reply::Plan(Box::new(PlanReply {
        token: "p-7".into(),
        recipe: "postgres".into(),
        name: "crm-db".into(),
        candidates: vec![Candidate {
            node: "library-1".into(),
            org: "library".into(),
            price: price(),
            rtt_us: Some(3_100),
            reason: "cheapest".into(),
        }],
        refused: vec![RefusedNode {
            node: "attic".into(),
            reason: "128 MiB free".into(),
        }],
    }))
}

fn ordered() -> Answer {
    let step = |step, detail: &str, elapsed_ms| {
        Line::Event(Event::Step {
            step,
            detail: detail.into(),
            elapsed_ms,
        })
    };
    Answer::Lines(vec![
        step(Stage::Planned, "library-1 (0.12 EUR/month, 3 ms)", 3),
        step(Stage::Reserved, "", 20),
        step(Stage::Awarded, "", 40),
        step(Stage::Granted, "", 50),
        step(Stage::SoftwareReady, "", 60),
        step(Stage::Created, "", 70),
        step(Stage::Started, "", 900),
        step(Stage::PromisesHold, "", 1_400),
        Line::last(Ok(Reply::Order(Box::new(OrderReply {
            order: digest(7),
            name: "crm-db".into(),
            recipe: "postgres".into(),
            node: "library-1".into(),
            org: "library".into(),
            price: price(),
            rtt_us: Some(3_100),
            url: Some(URL.into()),
            overlay_url: Some(URL.into()),
            address: "fd73::7".parse().unwrap(),
            port: Some(5432),
            elapsed_ms: 1_421,
            safety: safety(),
        })))),
    ])
}

pub fn service() -> ServiceOrdered {
    ServiceOrdered {
        name: "crm-db".into(),
        recipe: "postgres".into(),
        state: ServiceState::Ready,
        node: Some("library-1".into()),
        org: Some("library".into()),
        price: Some(price()),
        url: Some(URL.into()),
        dns_name: Some("crm-db.bakery.mesh.internal".into()),
        ordered_at: day(),
    }
}

fn held() -> ServiceHeld {
    ServiceHeld {
        name: "wiki".into(),
        recipe: "wiki".into(),
        state: ServiceState::Stopped,
        customer: "library".into(),
        address: "fd73::8".parse().unwrap(),
        memory_mib: 512,
        granted_at: day(),
        restarts: 0,
    }
}

fn show() -> Reply {
    let fields = [
        ("url", URL),
        ("overlay_url", URL),
        ("host", "fd73::7"),
        ("port", "5432"),
        ("user", "crm"),
        ("password", "s3cret"),
    ];
    let attempt = |attempt, node: &str, outcome: &str| AttemptRow {
        attempt,
        node: node.into(),
        at: day(),
        outcome: outcome.into(),
    };
    Reply::Show(Box::new(ShowReply {
        name: "crm-db".into(),
        order: digest(7),
        recipe: "postgres".into(),
        state: ServiceState::Ready,
        sentence: "every promise holds".into(),
        node: Some("library-1".into()),
        org: Some("library".into()),
        address: "fd73::7".parse().unwrap(),
        allowed: vec!["bakery".into(), "library".into()],
        dns_name: Some("crm-db.bakery.mesh.internal".into()),
        fields: fields
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        price: Some(price()),
        cost: Some(euro("0.000046EUR")),
        ordered_at: day(),
        ready_at: Some(day()),
        attempts: vec![
            attempt(1, "attic", "refused: memory is full"),
            attempt(2, "library-1", "granted"),
        ],
        safety: safety(),
    }))
}

fn changed(state: DesiredState) -> Answer {
    let step = match state {
        DesiredState::Running => Stage::Started,
        DesiredState::Stopped => Stage::Stopped,
        DesiredState::Destroyed => Stage::Destroyed,
    };
    Answer::Lines(vec![
        Line::Event(Event::Step {
            step,
            detail: String::new(),
            elapsed_ms: 300,
        }),
        Line::last(Ok(Reply::State {
            name: "crm-db".into(),
            state,
            elapsed_ms: 312,
        })),
    ])
}

fn logged() -> Answer {
    let log = |text: &str| Line::Event(Event::Log { text: text.into() });
    Answer::Lines(vec![
        log("starting\nlisten"),
        log("ing\n"),
        Line::last(Ok(Reply::Logs {
            name: "crm-db".into(),
            bytes: 19,
        })),
    ])
}

fn usage() -> UsageRow {
    UsageRow {
        name: "crm-db".into(),
        item: digest(7),
        node: "library-1".into(),
        provider: "library".into(),
        customer: "bakery".into(),
        seq: 3,
        from: day(),
        until: Wall(day().0 + 3_600_000),
        cpu_ms: 1_200,
        memory_mib: 48,
        disk_mib: 60,
        received_bytes: 2_048,
        sent_bytes: 900,
        cost: euro("0.000167EUR"),
    }
}

pub fn invoice_row() -> InvoiceRow {
    InvoiceRow {
        number: "library-2026-11".into(),
        provider: "library".into(),
        customer: "bakery".into(),
        month: "2026-11".into(),
        state: InvoiceState::Draft,
        total: euro("0.000167EUR"),
        line_count: 1,
    }
}

fn invoice() -> Reply {
    Reply::Invoice(Box::new(Invoice {
        number: "library-2026-11".into(),
        revision: 2,
        provider: "library".into(),
        customer: "bakery".into(),
        month: "2026-11".into(),
        state: InvoiceState::Draft,
        digest: digest(6),
        issued_at: day(),
        lines: vec![InvoiceLine {
            name: "crm-db".into(),
            recipe: "postgres".into(),
            item: digest(7),
            node: "library-1".into(),
            seq_first: 1,
            seq_last: 3,
            from: day(),
            until: Wall(day().0 + 3_600_000),
            price: price(),
            amount: euro("0.000167EUR"),
        }],
        total: euro("0.000167EUR"),
    }))
}

pub fn verdict(subject: &str, holds: bool) -> Reply {
    let line = |check: &str, holds, sentence: &str| VerdictLine {
        check: check.into(),
        holds,
        sentence: sentence.into(),
    };
    Reply::Verdict(Verdict {
        subject: subject.into(),
        holds,
        lines: vec![
            line("signatures", true, "4 of 4 match"),
            line("total", holds, "0.000167 EUR from 3 statements"),
        ],
    })
}
