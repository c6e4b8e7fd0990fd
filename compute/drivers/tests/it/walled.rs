//! Instances on a machine that gives no namespaces.

use std::process::Command;

use mesh_compute::step::{Event, InstanceSpec, Isolation, Step};
use mesh_drivers::drivers::no_walls;

use crate::life::{check_holds, check_nothing_left};
use crate::world::{World, postgres, software_dir};

/// Asks the database where it really listens.
fn query(world: &World, spec: &InstanceSpec, sql: &str) -> String {
    let (doors, ports) = world.ear.doors_of(spec.item).unwrap();
    assert_eq!(ports, [5432]);
    let [way, _] = doors.ways_in(5432);
    let drivers = world.drivers.as_ref().unwrap();
    let tree = drivers.software_ready(&spec.recipe).unwrap();
    let root = software_dir().join(tree.to_string()).join("root");
    let at = format!("{}:{}", way.ip(), way.port());
    let url = world.recipe.publish(&at, &spec.values).unwrap()["url"].replace(":5432:", ":");
    let url = url.replace(&format!("{at}:5432"), &at);
    let mut psql = Command::new(root.join("lib64/ld-linux-x86-64.so.2"));
    psql.arg("--library-path")
        .arg(root.join("usr/lib/x86_64-linux-gnu"));
    psql.arg(root.join("usr/lib/postgresql/15/bin/psql"));
    let asked = psql.args(["-XAtqc", sql, &url]).output().unwrap();
    assert!(asked.status.success(), "{url}: {asked:?}");
    String::from_utf8(asked.stdout).unwrap().trim().to_owned()
}

pub fn whole_life() {
    let exe = std::env::current_exe().unwrap();
    assert_eq!(no_walls(&exe), None);
    let world = World::with(postgres(), Isolation::Process);
    let log_of = |item| {
        let log = world.drivers.as_ref().unwrap().read_log(item, 0, 1 << 16);
        println!("{}", String::from_utf8_lossy(&log.unwrap().0));
    };
    {
        let spec = world.spec("x");
        world.ask(Step::Create(Box::new(spec.clone())));
        world.ask(Step::Start { item: spec.item });
        log_of(spec.item);
    }
    let spec = world.bring_up("crm-a");
    let item = spec.item;
    check_holds(&world, item);
    let answer = query(&world, &spec, "select current_user || current_database()");
    assert_eq!(answer, "crmcrm");
    let log = world.drivers.as_ref().unwrap().read_log(item, 0, 1 << 16);
    println!("{}", String::from_utf8_lossy(&log.unwrap().0));
    let Event::Metered { meters, .. } = world.ask(Step::Meter { item }) else {
        panic!("no meters")
    };
    println!("{meters:?}");
    assert!(0 < meters.cpu_ms && 0 < meters.memory_mib);
    let how = "exit 0".to_owned();
    assert_eq!(world.ask(Step::Stop { item }), Event::Stopped { item, how });
    assert_eq!(world.ear.doors_of(item), None);
    assert_eq!(world.ask(Step::Start { item }), Event::Started { item });
    query(&world, &spec, "select 1");
    assert_eq!(world.ask(Step::Destroy { item }), Event::Destroyed { item });
    check_nothing_left(&world, item);
}
