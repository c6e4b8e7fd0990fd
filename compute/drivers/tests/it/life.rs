//! The facts.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use mesh_compute::recipe::Recipe;
use mesh_compute::step::{Event, InstanceSpec, Isolation, ItemId, Step, Verdict};
use mesh_drivers::drivers::no_sandbox;
use mesh_drivers::software::Store;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::client;
use crate::world::{World, postgres, software_dir};

fn url(world: &World, spec: &InstanceSpec) -> String {
    world.recipe.publish("[fd73::5]", &spec.values).unwrap()["url"].clone()
}

#[track_caller]
fn query(world: &World, spec: &InstanceSpec, sql: &str) -> Result<String, String> {
    let tree = world
        .drivers
        .as_ref()
        .unwrap()
        .software_ready(&spec.recipe)
        .unwrap();
    let root = software_dir().join(tree.to_string()).join("root");
    client::ask(world.ear.tun_of(spec.item), &root, &url(world, spec), sql)
}

#[track_caller]
pub fn check_holds(world: &World, item: ItemId) {
    let promise = "answers".to_owned();
    let event = world.ask(Step::Probe {
        item,
        promise: promise.clone(),
    });
    assert_eq!(
        event,
        Event::Probed {
            item,
            promise,
            verdict: Verdict::Holds
        }
    );
}

/// Nothing of an item is left: no process, no mount, no folder, no group.
#[track_caller]
pub fn check_nothing_left(world: &World, item: ItemId) {
    let label = item.0.short();
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let left = leftovers(world, &label);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "left: {left:?}");
        std::thread::yield_now();
    }
}

fn leftovers(world: &World, label: &str) -> Vec<String> {
    let mut left = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&format!("meshstead-{label}")) {
            left.push(format!("process {}", entry.path().display()));
        }
    }
    let home = world.home.path().to_str().unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    left.extend(
        mounts
            .lines()
            .filter(|line| line.contains(home))
            .map(str::to_owned),
    );
    let instances = std::fs::read_dir(world.home.path().join("instances"))
        .unwrap()
        .flatten();
    left.extend(
        instances
            .map(|entry| entry.file_name().into_string().unwrap())
            .filter(|name| name.starts_with(label)),
    );
    for line in mounts.lines().filter(|line| line.contains(" cgroup")) {
        let mount = line.split(' ').nth(1).unwrap();
        let group = std::path::Path::new(mount).join(format!("meshstead-{label}"));
        left.extend(group.exists().then(|| group.display().to_string()));
    }
    left
}

pub fn whole_life() {
    let world = World::new(postgres());
    println!(
        "  shortcomings: {:?}",
        world.drivers.as_ref().unwrap().shortcomings()
    );
    let mut times = Vec::new();
    for round in 0..5 {
        let began = Instant::now();
        let spec = world.bring_up(&format!("crm-{}", char::from(b'a' + round)));
        let item = spec.item;
        let started = began.elapsed();
        check_holds(&world, item);
        times.push((started.as_millis(), began.elapsed().as_millis()));
        let answer = query(&world, &spec, "select current_user || current_database()");
        assert_eq!(answer, Ok("crmcrm".to_owned()));
        if round == 0 {
            check_details(&world, &spec);
        }
        assert_eq!(
            world.ask(Step::Stop { item }),
            Event::Stopped {
                item,
                how: "exit 0".to_owned()
            }
        );
        assert!(!world.ear.has_tun(item));
        assert_eq!(world.ask(Step::Destroy { item }), Event::Destroyed { item });
        check_nothing_left(&world, item);
    }
    println!("  create to started and to first answer, ms: {times:?}");
}

fn check_details(world: &World, spec: &InstanceSpec) {
    let item = spec.item;
    // Asked again, everything is as it is.
    assert_eq!(
        world.ask(Step::Create(Box::new(spec.clone()))),
        Event::Created { item }
    );
    assert_eq!(world.ask(Step::Start { item }), Event::Started { item });
    assert_eq!(
        query(world, spec, "create table t(i int); select 7"),
        Ok("7".to_owned())
    );
    let mut wrong = spec.clone();
    wrong.values.insert("password".to_owned(), "no".to_owned());
    let refused = query(world, &wrong, "select 1").unwrap_err();
    assert!(
        refused.contains("password authentication failed"),
        "{refused}"
    );

    check_powerless(world.first_inside(item));
    let Event::Metered { meters, .. } = world.ask(Step::Meter { item }) else {
        panic!("no meters")
    };
    println!("  meters: {meters:?}");
    assert!(
        0 < meters.cpu_ms && 0 < meters.memory_mib && 10 < meters.disk_mib,
        "{meters:?}"
    );

    let (log, next) = world
        .drivers
        .as_ref()
        .unwrap()
        .read_log(item, 0, 1 << 20)
        .unwrap();
    let log = String::from_utf8(log).unwrap();
    assert!(
        log.contains("database system is ready to accept connections"),
        "{log}"
    );
    assert_eq!(next, log.len() as u64);
    assert!(!log.contains(&spec.values["password"]));

    // Stopped and started, data is still there and the password still works.
    let how = "exit 0".to_owned();
    assert_eq!(
        world.ask(Step::Stop { item }),
        Event::Stopped {
            item,
            how: how.clone()
        }
    );
    assert_eq!(world.ask(Step::Stop { item }), Event::Stopped { item, how });
    let Event::Metered { meters: later, .. } = world.ask(Step::Meter { item }) else {
        panic!("no meters")
    };
    assert!(meters.cpu_ms <= later.cpu_ms, "{meters:?} {later:?}");
    assert_eq!(world.ask(Step::Start { item }), Event::Started { item });
    assert_eq!(
        query(world, spec, "select count(*) from t"),
        Ok("0".to_owned())
    );
}

/// Processes inside have no capability, cannot gain one, and are filtered.
#[track_caller]
fn check_powerless(first: i32) {
    let children = format!("/proc/{first}/task/{first}/children");
    for pid in std::fs::read_to_string(children)
        .unwrap()
        .split_whitespace()
    {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        for fact in [
            "CapPrm:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            assert!(status.contains(fact), "{fact} not in {status}");
        }
        assert!(
            !status.contains("Uid:\t0\t") || !is_machine_root(),
            "{status}"
        );
    }
}

/// Whether we are root of the machine, so that instances get users of their own.
fn is_machine_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    nix::unistd::geteuid().is_root() && map.contains("4294967295")
}

pub fn survives_its_daemon() {
    let mut world = World::new(postgres());
    let spec = world.bring_up("crm-db");
    let item = spec.item;
    let first = world.first_inside(item);
    world.drivers = None;
    assert!(
        kill(Pid::from_raw(first), None).is_ok(),
        "it lives without a daemon"
    );
    world.open();
    assert_eq!(world.ear.wait(|_| true), Event::Started { item });
    assert_eq!(world.first_inside(item), first);
    check_holds(&world, item);
    assert_eq!(query(&world, &spec, "select 1"), Ok("1".to_owned()));

    // It ends while no daemon listens; the next one is told.
    world.drivers = None;
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    check_no_process(first);
    world.open();
    let Event::Stopped { .. } = world.ear.wait(|_| true) else {
        panic!("not stopped")
    };
    assert_eq!(world.ask(Step::Start { item }), Event::Started { item });
    assert_eq!(query(&world, &spec, "select 1"), Ok("1".to_owned()));
    assert_eq!(
        world.ask(Step::Destroy { item }),
        Event::Stopped {
            item,
            how: "exit 0".to_owned()
        }
    );
    check_nothing_left(&world, item);
}

#[track_caller]
fn check_no_process(pid: i32) {
    let until = Instant::now() + Duration::from_secs(10);
    while kill(Pid::from_raw(pid), None).is_ok() {
        assert!(Instant::now() < until, "process {pid} is still there");
        std::thread::yield_now();
    }
}

/// Kills the shim of an instance that runs.
fn kill_shim(world: &World, item: ItemId) {
    let first = world.first_inside(item);
    let status = std::fs::read_to_string(format!("/proc/{first}/status")).unwrap();
    let shim = status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))
        .unwrap();
    kill(Pid::from_raw(shim.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
}

pub fn killed_shim() {
    let world = World::new(postgres());
    let spec = world.bring_up("crm-db");
    let item = spec.item;
    kill_shim(&world, item);
    let event = world
        .ear
        .wait(|event| matches!(event, Event::Stopped { .. }));
    assert_eq!(
        event,
        Event::Stopped {
            item,
            how: "its shim was killed".to_owned()
        }
    );
    assert_eq!(world.ask(Step::Start { item }), Event::Started { item });
    assert_eq!(query(&world, &spec, "select 1"), Ok("1".to_owned()));
    // The last shim of an instance leaves its groups to whoever destroys it.
    kill_shim(&world, item);
    world
        .ear
        .wait(|event| matches!(event, Event::Stopped { .. }));
    world.run(Step::Destroy { item });
    check_nothing_left(&world, item);
}

pub fn killed_while_destroying() {
    let mut world = World::new(postgres());
    let spec = world.bring_up("crm-db");
    let item = spec.item;
    world.ask(Step::Stop { item });
    // As a daemon leaves it that is killed in the middle.
    world.drivers = None;
    let folder = world.folder(item);
    std::fs::rename(&folder, folder.with_extension("gone")).unwrap();
    world.open();
    assert!(matches!(
        world.ask(Step::Stop { item }),
        Event::Stopped { .. }
    ));
    assert_eq!(world.ask(Step::Destroy { item }), Event::Destroyed { item });
    check_nothing_left(&world, item);
}

pub fn secrets_after_adoption() {
    let mut world = World::new(postgres());
    let spec = world.bring_up("crm-db");
    let item = spec.item;
    // As if killed: before it forgets what only the first start needed.
    world.drivers = None;
    let file = world.folder(item).join("spec.json");
    let password = || {
        let text = std::fs::read_to_string(&file).unwrap();
        text.contains(&spec.values["password"])
    };
    assert!(password(), "forgotten too early for this test");
    world.open();
    let until = Instant::now() + Duration::from_secs(10);
    while password() {
        assert!(Instant::now() < until, "the password is on disk for ever");
        std::thread::yield_now();
    }
    world.run(Step::Destroy { item });
    check_nothing_left(&world, item);
}

pub fn killed_server() {
    let world = World::new(postgres());
    let spec = world.bring_up("crm-db");
    let item = spec.item;
    let first = world.first_inside(item);
    let children = format!("/proc/{first}/task/{first}/children");
    let main = std::fs::read_to_string(children).unwrap();
    let main = main.split_whitespace().next().unwrap().parse().unwrap();
    kill(Pid::from_raw(main), Signal::SIGKILL).unwrap();
    let event = world
        .ear
        .wait(|event| matches!(event, Event::Stopped { .. }));
    assert_eq!(
        event,
        Event::Stopped {
            item,
            how: "signal 9".to_owned()
        }
    );
    assert_eq!(world.ask(Step::Start { item }), Event::Started { item });
    check_holds(&world, item);
    world.run(Step::Destroy { item });
    check_nothing_left(&world, item);
}

pub fn failing_start() {
    let text = include_str!("../../../../catalog/postgres.toml");
    let text = text.replace("ALTER DATABASE mesh_service", "ALTER DATABASE nowhere");
    let world = World::new(Recipe::parse(&text).unwrap());
    let spec = world.spec("crm-db");
    let item = spec.item;
    world.run(Step::Create(Box::new(spec)));
    for _ in 0..2 {
        world.run(Step::Start { item });
        let event = world
            .ear
            .wait(|event| !matches!(event, Event::Created { .. }));
        let Event::Failed { reason, .. } = event else {
            panic!("{event:?}")
        };
        assert!(
            reason.contains("database \"nowhere\" does not exist"),
            "{reason}"
        );
    }
    world.run(Step::Destroy { item });
    check_nothing_left(&world, item);
}

pub fn same_digest() {
    // A second folder, so everything is fetched and unpacked anew.
    let recipe = postgres();
    let exe = std::env::current_exe().unwrap();
    let kept = Store::new(software_dir(), exe.clone(), Isolation::Namespaces)
        .make(&recipe)
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let fresh = Store::new(folder.path().to_owned(), exe, Isolation::Namespaces)
        .make(&recipe)
        .unwrap();
    if kept.packages == fresh.packages {
        assert_eq!(kept.tree, fresh.tree);
    } else {
        println!("  the archive has moved on; nothing to compare");
    }
}

pub fn no_sandbox_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let exe = std::env::current_exe().unwrap();
    assert_eq!(no_sandbox(&exe), None);
    // The same program where one thing is taken away.
    let without = |name: &str, lines: &str| {
        let path = folder.path().join(name);
        let program = exe.display();
        let script = format!(
            "#!/bin/sh\nexec unshare --user --map-root-user --mount --keep-caps sh -ec \
             '{lines}; exec \"$@\"' sh {program} \"$@\"\n"
        );
        std::fs::write(&path, script).unwrap();
        let runs = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, runs).unwrap();
        no_sandbox(&path).unwrap()
    };
    let off = "echo 0 > /proc/sys/user/max_user_namespaces";
    let said = without("namespaces", off);
    assert!(said.contains("allows us no namespaces"), "{said}");
    let said = without("devices", "mount -t tmpfs none /dev/net");
    assert!(said.contains("cannot open /dev/net/tun"), "{said}");
}
