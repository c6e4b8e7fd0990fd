//! Journals, an entry of each kind, a sealed box, what was ordered.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use mesh_base::seal;
use mesh_compute::doors::Doors;
use mesh_compute::instance::state::{Desire, Memory, State, Trouble};
use mesh_compute::meter::Meter;
use mesh_compute::step::{InstanceSpec, ItemId, Meters};
use mesh_compute::words::{
    self, FromInside, FromShim, Ids, Outcome, Plan, Ready, Run, Status, ToInside, ToShim, Walled,
    Walls,
};
use mesh_federation::invite::{BookEntry, Grants};
use mesh_ledger::journal::memory::MemoryDisk;
use mesh_ledger::journal::{Journal, compact};
use mesh_peer::entry::Entry;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use serde_bytes::ByteBuf;

use super::{NOW, digest, hours_later, ledger, node, node_key, own_chain, wire};

/// The salt of journals here.
pub const SALT: [u8; 16] = [9; 16];
/// The first file of a journal.
pub const SEGMENT: &str = "00000001.seg";
/// What takes its place.
pub const SNAPSHOT: &str = "00000001.snap";
/// What boxes here are sealed for.
pub const BOX_CONTEXT: &[u8] = b"parameters";

/// Returns an entry of each kind.
pub fn entries() -> Vec<(&'static str, Vec<u8>)> {
    let order = digest(1);
    let issued = BookEntry::Issued {
        secret: digest(2),
        grants: Grants::Agreement { offer_id: [3; 16] },
        expires: hours_later(1),
    };
    let used = BookEntry::Used {
        secret: digest(2),
        visitor: node(12),
        at: NOW.wall,
    };
    let secret = Entry::Secret {
        order,
        sealed: ByteBuf::from(vec![1; 70]),
    };
    let placed = Entry::Placed {
        order,
        sealed: ByteBuf::from(vec![2; 70]),
    };
    let together = Entry::Together(vec![secret.clone(), placed.clone()]);
    let mut meter = Meter::new(NOW);
    meter.handle_running(true, NOW);
    meter.handle_sample(
        Meters {
            cpu_ms: 5,
            memory_mib: 40,
            ..Meters::default()
        },
        NOW,
    );
    let said = "the disk is full".to_owned();
    let memory = Memory {
        desire: Desire::Running,
        state: State::Degraded(Trouble::Step { said }),
        created: true,
        ever_ready: true,
    };
    let entries = [
        ("delta", Entry::Delta(ledger::delta())),
        ("chain", Entry::Chain(own_chain())),
        ("contact", Entry::Contact(wire::contact())),
        ("invite-issued", Entry::Invite(issued)),
        ("invite-used", Entry::Invite(used)),
        ("secret", secret),
        ("meter", Entry::Meter { order, meter }),
        ("item", Entry::Item { order, memory }),
        ("placed", placed),
        ("proof", Entry::Proof(Box::new(ledger::proof()))),
        ("together", together),
    ];
    entries.map(|(name, entry)| (name, entry.to_bytes())).into()
}

/// Returns a journal with an end that was never synced, a new one, and a snapshot.
pub fn journals() -> Vec<(&'static str, Vec<u8>)> {
    let entries: [&[u8]; 4] = [b"one", &[0xa5; 60], &[7; 200], b"four"];
    vec![
        ("new_segment", file(written(&[]), SEGMENT)),
        ("four_in_a_segment", file(written(&entries), SEGMENT)),
        ("snapshot", file(compacted(written(&entries)), SNAPSHOT)),
    ]
}

fn written(entries: &[&[u8]]) -> MemoryDisk {
    let disk = MemoryDisk::default();
    // Proof: a disk in memory fails only when it is told to.
    let (mut journal, _) = Journal::open(disk, SALT).expect("memory does not fail");
    for (number, entry) in entries.iter().enumerate() {
        journal.append(entry).expect("memory does not fail");
        if number < 2 {
            journal.sync().expect("memory does not fail");
        }
    }
    journal.into_disk()
}

fn compacted(mut disk: MemoryDisk) -> MemoryDisk {
    // Proof: as above, and the segment is whole.
    compact::run(&mut disk, 1, |entries| entries).expect("memory does not fail");
    disk
}

fn file(disk: MemoryDisk, name: &str) -> Vec<u8> {
    disk.file(name)
        .map(|it| it.bytes().to_vec())
        .unwrap_or_default()
}

/// Returns a box for the first organisation's node.
pub fn sealed() -> Vec<(&'static str, Vec<u8>)> {
    let mut rng = ChaCha20Rng::from_seed([4; 32]);
    let mut sealed = |plain: &[u8]| {
        // Proof: the texts are short and the key is one of ours.
        seal::seal(&node_key().public(), BOX_CONTEXT, plain, &mut rng).expect("it can be sealed")
    };
    vec![
        ("password", sealed(b"correct horse")),
        ("nothing", sealed(b"")),
    ]
}

/// Returns what an instance is made from.
pub fn specs() -> Vec<(&'static str, Vec<u8>)> {
    let spec = InstanceSpec {
        item: ItemId(digest(1)),
        name: "crm-db".to_owned(),
        recipe: digest(9),
        address: Ipv6Addr::new(0xfd73, 0, 0, 0, 0, 0, 0, 1),
        values: BTreeMap::from([("password".to_owned(), "correct \"horse\"".to_owned())]),
        memory_mib: 256,
        cpu_millis: 500,
        pids: 64,
    };
    vec![("postgres", json(&spec))]
}

/// Returns words of daemon, shim and the first process inside, a plan and a state file.
pub fn shims() -> Vec<(&'static str, Vec<u8>)> {
    let run = Run {
        argv: vec![
            "/usr/bin/psql".to_owned(),
            "-c".to_owned(),
            "select 1".to_owned(),
        ],
        stdin: String::new(),
        timeout_ms: 5_000,
    };
    let status = Status {
        boot: "0f6b".to_owned(),
        state: words::State::Running,
        how: String::new(),
        initialised: true,
        cpu_ms: 7,
        notes: vec!["memory is only watched".to_owned()],
        first: Some((17, 4711)),
        groups: vec!["/sys/fs/cgroup/memory/meshstead-1".into()],
    };
    let outcome = Outcome {
        how: "exit 0".to_owned(),
        said: "1\n".to_owned(),
    };
    let hello = FromShim::Hello {
        state: words::State::Starting,
        notes: status.notes.clone(),
        doors: Some(doors()),
    };
    let id = 3;
    vec![
        ("plan", json(&plan(run.clone()))),
        ("status", json(&status)),
        ("stop", json(&ToShim::Stop)),
        (
            "run",
            json(&ToShim::Run {
                id,
                run: run.clone(),
            }),
        ),
        ("hello", json(&hello)),
        ("ran", json(&FromShim::Ran { id, outcome })),
        ("signal", json(&ToInside::Signal(9))),
        ("run-inside", json(&ToInside::Run { id, run })),
        ("note", json(&FromInside::Note("no cgroup".to_owned()))),
    ]
}

/// Returns a plan whose first-start command is this one.
fn plan(run: Run) -> Plan {
    Plan {
        folder: "instances/a".into(),
        tree: "software/b".into(),
        root: "root".into(),
        data: "data".into(),
        data_inside: "/data".to_owned(),
        hostname: "crm-db".to_owned(),
        label: "a".to_owned(),
        address: Some(Ipv6Addr::new(0xfd73, 0, 0, 0, 0, 0, 0, 1)),
        inner: Ids { uid: 100, gid: 100 },
        outer: Ids { uid: 0, gid: 0 },
        env: BTreeMap::from([("LANG".to_owned(), "C.UTF-8".to_owned())]),
        run: vec!["/usr/bin/postgres".to_owned()],
        ready: Some(Ready {
            path: "/data/postmaster.pid".to_owned(),
            contains: "ready".to_owned(),
            timeout_ms: 60_000,
        }),
        init: vec![run],
        stop_signal: 15,
        grace_ms: 10_000,
        memory_mib: 256,
        cpu_millis: 500,
        pids: 64,
        cpu_ms_before: 1,
        walls: Walls::Process(Walled {
            tool: "software/proot".into(),
            doors: doors(),
            run: "run".into(),
        }),
    }
}

fn doors() -> Doors {
    Doors::drawn(7)
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    // Proof: all keys of the maps inside are text.
    serde_json::to_vec(value).expect("words can be written as JSON")
}
