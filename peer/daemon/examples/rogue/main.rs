//! A machine that misbehaves, for tests: it stands before a node's gate with what it should not
//! have.
//!
//! `rogue CASE ROOT_KEY NODE_KEY ADDRESS` dials the node whose key is in NODE_KEY, as CASE says,
//! and prints what it is told. ROOT_KEY is the root key of the node's organisation: the rogue signs
//! with it what only a traitor with that key could sign. It links the same swarm as `meshnode`;
//! nothing in the product knows of it. Exit code 0 means that it was refused.
//!
//! `rogue neighbour ROOT_KEY NODE_KEY ADDRESS TUNNELS HONEST HONEST` is let in as a member and
//! misbehaves on its link to the node, whose tunnels end at TUNNELS and behind which two honest
//! nodes have these overlay addresses. It prints what it did; exit code 0 means that it did all.

mod neighbour;

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_base::address::NodeAddress;
use mesh_base::certificate::{Body, CERTIFICATE_VERSION, Certificate, Chain, Role};
use mesh_base::identity::{NodeId, OrgId, SecretKey};
use mesh_base::time::Wall;
use mesh_federation::members::Roster;
use mesh_ledger::charter::Capacity;
use mesh_ledger::document::{DocId, DocKind};
use mesh_ledger::ledger::{Delta, Ledger};
use mesh_ledger::record::Body as Record;
use mesh_peer::genesis::valid_for;
use mesh_peer::message::{Contact, Message, SignedContact};
use meshnode::swarm::gate::Trust;
use meshnode::swarm::lanes::Arrival;
use meshnode::swarm::nearby::Nearby;
use meshnode::swarm::network::{Event, Incoming, Network};
use meshnode::swarm::tunnels::Tunnels;
use meshnode::swarm::underlay_tcp::Threshold;

/// How long the node may take to refuse.
const PATIENCE: Duration = Duration::from_secs(15);

/// How often it says where it lives.
const SAY_AGAIN: Duration = Duration::from_secs(1);

/// How the rogue misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    NoCertificate,
    Expired,
    ForeignOrg,
    SecondKey,
    WrongAuthor,
    Neighbour,
}

impl Case {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "no-certificate" => Self::NoCertificate,
            "expired" => Self::Expired,
            "foreign-org" => Self::ForeignOrg,
            "second-key" => Self::SecondKey,
            "wrong-author" => Self::WrongAuthor,
            "neighbour" => Self::Neighbour,
            _ => return None,
        })
    }
}

/// Whom the rogue meets and as whom.
struct Play {
    case: Case,
    secret: SecretKey,
    root: SecretKey,
    host: NodeId,
    address: SocketAddr,
    link: Option<Place>,
}

/// Where the link to it is, and who is behind it.
#[derive(Debug, Clone, Copy)]
struct Place {
    tunnels: SocketAddr,
    honest: [Ipv6Addr; 2],
}

fn main() -> ExitCode {
    // What the gate says to us stands in our log, as it would in meshnode's.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .init();
    let Some(play) = read_arguments() else {
        eprintln!("usage: rogue CASE ROOT_KEY NODE_KEY ADDRESS");
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let told = runtime.map(|runtime| runtime.block_on(misbehave(&play)));
    match told {
        Ok(Some(told)) => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Ok(None) => {
            eprintln!("nobody refused this");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

fn read_arguments() -> Option<Play> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [case, root, node, address, more @ ..] = words.as_slice() else {
        return None;
    };
    let link = match more {
        [] => None,
        [tunnels, one, other] => Some(Place {
            tunnels: tunnels.parse().ok()?,
            honest: [one.parse().ok()?, other.parse().ok()?],
        }),
        _ => return None,
    };
    let case = Case::of(case)?;
    let root = meshnode::keys::read(root.as_ref()).ok()?;
    let node = meshnode::keys::read(node.as_ref()).ok()?;
    // Another key for each case: a node remembers whom it has met.
    let secret = SecretKey::from_seed([100 + case as u8; 32]);
    Some(Play {
        case,
        secret,
        root,
        host: NodeId(node.public()),
        address: address.parse().ok()?,
        link,
    })
}

fn wall() -> Wall {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.unwrap_or_default().as_millis();
    Wall(i64::try_from(millis).unwrap_or(i64::MAX))
}

/// What the rogue shows at the gate.
fn shown(play: &Play) -> Chain {
    let node = NodeId(play.secret.public());
    let day = 24 * 3600 * 1000;
    let stranger = SecretKey::from_seed([99; 32]);
    let mut issuer = &play.root;
    let mut body = Body {
        version: CERTIFICATE_VERSION,
        node,
        prefix: NodeAddress::of(&node).prefix(),
        org: OrgId(play.root.public()),
        org_name: name("bakery"),
        name: name("rogue-1"),
        role: Role::Node,
        incarnation: 0,
        not_before: Wall(wall().0 - 2 * day),
        // As long as a fresh one: a leader renews what ends soon, and the ledger would change.
        not_after: wall() + valid_for(Role::Node),
        issuer: play.root.public(),
    };
    match play.case {
        Case::NoCertificate => return Chain(Vec::new()),
        Case::Expired => body.not_after = Wall(wall().0 - day),
        Case::ForeignOrg => {
            issuer = &stranger;
            (body.org, body.issuer) = (OrgId(stranger.public()), stranger.public());
        }
        Case::SecondKey => body.prefix = NodeAddress::of(&play.host).prefix(),
        Case::WrongAuthor | Case::Neighbour => {}
    }
    Chain(vec![Certificate::issue(body, issuer)])
}

fn name(text: &str) -> mesh_base::name::Name {
    // Proof: only constants of this file come in.
    text.parse().expect("the names here are lawful")
}

/// Dials and returns what we were told, if we were refused.
async fn misbehave(play: &Play) -> Option<String> {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let (network, mut incoming) = Network::start(
        &play.secret,
        &[any],
        None,
        Nearby::Ignored,
        (Tunnels::default(), Threshold::new().0),
        wall,
    )
    .ok()?;
    let own = OrgId(play.root.public());
    network.trust(Trust {
        roster: Arc::new(Roster::new(own, name("bakery"))),
        chain: shown(play),
    });
    network.dial(&play.host, vec![play.address]);
    let patience = if play.case == Case::Neighbour {
        PATIENCE * 8
    } else {
        PATIENCE
    };
    let refused = tokio::time::timeout(patience, answer(play, &network, &mut incoming));
    refused.await.ok().flatten()
}

async fn answer(play: &Play, network: &Network, incoming: &mut Incoming) -> Option<String> {
    loop {
        tokio::select! {
            reason = incoming.refusals.recv() => return Some(reason?.as_str().to_owned()),
            event = incoming.events.recv() => match event? {
                Event::Found { .. } => {}
                Event::Connected { .. } if play.case == Case::WrongAuthor => lie(play, network),
                Event::Connected { .. } if play.case == Case::Neighbour => {
                    return move_in(play, network).await;
                }
                Event::Connected { .. } => return None,
                Event::Disconnected { .. } => return None,
            },
            arrival = incoming.arrivals.recv() => {
                if let Some(Message::Refused { what, reason }) = arrival.and_then(read) {
                    return Some(format!("{what}: {reason}"));
                }
            }
        }
    }
}

/// Says where it lives, as a member does, and misbehaves as a neighbour.
async fn move_in(play: &Play, network: &Network) -> Option<String> {
    let contact = Contact {
        node: NodeId(play.secret.public()),
        chain: shown(play),
        sequence: wall().0.unsigned_abs(),
        control: Vec::new(),
        wireguard: Vec::new(),
        leaf: false,
    };
    let message = Message::Contacts(vec![SignedContact::sign(contact, &play.secret)]);
    let (secret, host, place) = (play.secret.clone(), play.host, play.link?);
    let mut played = tokio::task::spawn_blocking(move || {
        neighbour::play(&neighbour::Meeting {
            secret: &secret,
            host,
            tunnels: place.tunnels,
            honest: place.honest,
        })
    });
    loop {
        // Once more means nothing to who knows it.
        network.send(&play.host, message.lane(), message.to_bytes());
        let Ok(played) = tokio::time::timeout(SAY_AGAIN, &mut played).await else {
            continue;
        };
        return match played {
            Ok(Ok(())) => Some("nobody ended it".to_owned()),
            Ok(Err(error)) => {
                eprintln!("{error}");
                None
            }
            Err(_) => None,
        };
    }
}

fn read(arrival: Arrival) -> Option<Message> {
    match arrival {
        Arrival::Frame { bytes, .. } => Message::from_bytes(&bytes).ok(),
        Arrival::Oversized { .. } => None,
    }
}

/// Writes into the document of the very node that we talk to.
fn lie(play: &Play, network: &Network) {
    let own = DocId::public(
        DocKind::Capacity,
        OrgId(play.root.public()),
        play.secret.public(),
        0,
    );
    let boast = Record::Capacity(Capacity {
        slots: 1000,
        memory_mib: 1,
        cpu_millis: 1,
        disk_mib: 1,
        recipes: BTreeMap::new(),
        attributes: BTreeMap::new(),
    });
    let Ok(appended) = Ledger::new().append(own, vec![boast], &play.secret, 0, wall()) else {
        return;
    };
    let doc = DocId {
        writer: *play.host.key(),
        ..own
    };
    let forged = Message::Changes(Box::new(Delta {
        doc,
        ..appended.delta
    }));
    network.send(&play.host, forged.lane(), forged.to_bytes());
}
