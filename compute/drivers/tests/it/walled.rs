//! Instances on a machine that gives no namespaces.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mesh_compute::recipe::Recipe;
use mesh_compute::step::{Event, InstanceSpec, Isolation, ItemId, Step, Verdict};
use mesh_drivers::drivers::no_walls;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::hostile;
use crate::life::{check_holds, check_nothing_left};
use crate::world::{World, postgres, software_dir};

fn world(recipe: Recipe) -> World {
    let exe = std::env::current_exe().unwrap();
    assert_eq!(no_walls(&exe), None);
    World::with(recipe, Isolation::Process)
}

/// Asks the database where it really listens.
fn query(world: &World, spec: &InstanceSpec, sql: &str) -> String {
    let (doors, ports) = world.ear.doors_of(spec.item).unwrap();
    assert_eq!(ports, [5432]);
    let [way, _] = doors.ways_in(5432);
    let drivers = world.drivers.as_ref().unwrap();
    let tree = drivers.software_ready(&spec.recipe).unwrap();
    let root = software_dir().join(tree.to_string()).join("root");
    let host = way.ip().to_string();
    let url = world.recipe.publish(&host, &spec.values).unwrap()["url"].clone();
    let mut psql = Command::new(root.join("lib64/ld-linux-x86-64.so.2"));
    psql.arg("--library-path")
        .arg(root.join("usr/lib/x86_64-linux-gnu"));
    psql.arg(root.join("usr/lib/postgresql/15/bin/psql"));
    let asked = psql.args(["-XAtqc", sql, &url]).output().unwrap();
    assert!(asked.status.success(), "{url}: {asked:?}");
    String::from_utf8(asked.stdout).unwrap().trim().to_owned()
}

/// Nothing works in the instance's folder any more, and the folder of its run is gone.
#[track_caller]
fn check_silent(world: &World, item: ItemId) {
    let folder = world.folder(item);
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let works = |process: &Path| {
            let cwd = std::fs::read_link(process.join("cwd"));
            cwd.is_ok_and(|cwd| cwd.starts_with(&folder))
        };
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let left: Vec<_> = processes
            .map(|entry| entry.path())
            .filter(|path| works(path))
            .collect();
        if left.is_empty() {
            break;
        }
        assert!(Instant::now() < until, "left: {left:?}");
        std::thread::yield_now();
    }
}

pub fn whole_life() {
    let world = world(postgres());
    let spec = world.bring_up("crm-a");
    let item = spec.item;
    check_holds(&world, item);
    let answer = query(&world, &spec, "select current_user || current_database()");
    assert_eq!(answer, "crmcrm");
    let event = world.ask(Step::Meter { item });
    let Event::Metered { meters, .. } = event else {
        panic!("{event:?}")
    };
    assert!(0 < meters.cpu_ms && 0 < meters.memory_mib, "{meters:?}");
    // A second one has the same ports, and neither knows.
    let other = world.bring_up("crm-b");
    assert_eq!(query(&world, &other, "select 1"), "1");
    query(&world, &spec, "create table kept as select 7 as seven");
    let how = "exit 0".to_owned();
    assert_eq!(world.ask(Step::Stop { item }), Event::Stopped { item, how });
    assert_eq!(world.ear.doors_of(item), None);
    check_silent(&world, item);
    assert_eq!(world.ask(Step::Start { item }), Event::Started { item });
    assert_eq!(query(&world, &spec, "select seven from kept"), "7");
    for item in [item, other.item] {
        world.run(Step::Destroy { item });
        check_silent(&world, item);
        check_nothing_left(&world, item);
    }
}

pub fn survives_its_daemon() {
    let mut world = world(postgres());
    let spec = world.bring_up("crm-db");
    let item = spec.item;
    let first = world.first_inside(item);
    // Those who still make spares end first.
    world.drivers = None;
    world.open();
    let up = |event: &Event| *event == Event::Started { item };
    world.ear.wait(up);
    assert_eq!(world.first_inside(item), first);
    assert_eq!(query(&world, &spec, "select 1"), "1");
    world.run(Step::Destroy { item });
    check_silent(&world, item);
    check_nothing_left(&world, item);
}

/// Whoever of those above the service is killed, nothing goes on without them.
pub fn killed_above() {
    let world = world(postgres());
    for who in ["shim", "guardian", "inside", "all"] {
        let spec = world.bring_up(&format!("crm-{who}"));
        let item = spec.item;
        let shim = world.first_inside(item);
        let guardian = child_of(shim);
        let inside = child_of(guardian);
        let victims = match who {
            "shim" => vec![shim],
            "guardian" => vec![guardian],
            "inside" => vec![inside],
            _ => vec![shim, guardian, inside],
        };
        for victim in victims {
            // Those below may have ended with the one before.
            let _ = kill(Pid::from_raw(victim), Signal::SIGKILL);
        }
        let stopped =
            |event: &Event| matches!(event, Event::Stopped { item: of, .. } if *of == item);
        world.ear.wait(stopped);
        if who != "all" {
            check_silent(&world, item);
        }
        // What is left then is ended before its data is touched again.
        assert_eq!(world.ask(Step::Start { item }), Event::Started { item });
        check_holds(&world, item);
        world.run(Step::Destroy { item });
        check_silent(&world, item);
        check_nothing_left(&world, item);
    }
}

fn child_of(pid: i32) -> i32 {
    let children = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(children).unwrap();
    children.trim().parse().unwrap()
}

/// A service that does all it can against the machine and its user achieves nothing.
pub fn hostile_service() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    std::fs::write(&secret, "the user's own").unwrap();
    let socket = outside.path().join("door");
    let local = UnixListener::bind(&socket).unwrap();
    let lan = TcpListener::bind("127.0.0.1:0").unwrap();
    lan.set_nonblocking(true).unwrap();
    local.set_nonblocking(true).unwrap();
    let mut victim = Command::new("/bin/sleep");
    let quiet = victim.arg("60").stdout(Stdio::null()).stderr(Stdio::null());
    let mut victim = quiet.spawn().unwrap();
    let aims = [
        secret.display().to_string(),
        socket.display().to_string(),
        lan.local_addr().unwrap().port().to_string(),
        victim.id().to_string(),
    ];
    let promise = "\n[promises.hostile]\nkind = \"anomaly\"\n\
                   argv = [\"/data/hostile\", \"hostile\"]\n\
                   period_ms = 10000\ntimeout_ms = 60000\nfails = 2\nwindow = 3\n";
    let text = include_str!("../../../../catalog/postgres.toml");
    let world = world(Recipe::parse(&format!("{text}{promise}")).unwrap());
    let spec = world.bring_up("crm-db");
    let item = spec.item;
    let program = world.folder(item).join("data/hostile");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(world.folder(item).join("data/aims"), aims.join(" ")).unwrap();
    let shim = world.first_inside(item);
    let watching = [shim, child_of(shim), child_of(child_of(shim))];
    let watching = watching.map(|pid| pid.to_string()).join(" ");
    std::fs::write(world.folder(item).join("data/watching"), watching).unwrap();
    let promise = "hostile".to_owned();
    let event = world.ask(Step::Probe { item, promise });
    let Event::Probed { verdict, .. } = event else {
        panic!("{event:?}")
    };
    let said = std::fs::read_to_string(world.folder(item).join("data/said")).unwrap_or_default();
    assert_eq!(verdict, Verdict::Holds, "{said}");
    assert_eq!(said.lines().count(), hostile::COUNT, "{said}");
    assert!(local.accept().is_err() && lan.accept().is_err());
    assert!(victim.try_wait().unwrap().is_none(), "the victim is dead");
    assert_eq!(std::fs::read(&secret).unwrap(), b"the user's own");
    // What it opened is its own, and nothing of the machine's.
    let (doors, _) = world.ear.doors_of(item).unwrap();
    assert!(!doors.ways_in(hostile::PORT).is_empty());
    assert!(TcpStream::connect(("127.0.0.1", hostile::PORT)).is_err());
    assert_eq!(query(&world, &spec, "select 1"), "1");
    victim.kill().unwrap();
    victim.wait().unwrap();
    world.run(Step::Destroy { item });
    check_silent(&world, item);
    check_nothing_left(&world, item);
}
