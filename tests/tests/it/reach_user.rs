//! People without any right on their machine, behind routers that map each way anew: they order
//! from a root's node elsewhere, and it orders from them.
//!
//! ```text
//!   bakery-2 ── symmetric NAT ── Internet ── CGNAT ── library-2    order from each other
//!   (a user)                      │    │              (root)
//!                          bakery-1    library-1                   found and invite: who does
//!                                                                  must be dialled
//! ```
//! Neither can dial the other, so their control network crosses the overlay too.
//! With user namespaces, and on a machine that has none for anybody.
//! Every protocol of the catalogue, which is PostgreSQL's so far, by every way into the overlay
//! that a machine without root has: forward, SOCKS, HTTP, and a shell inside.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use mesh_tests::figures::Figure;
use mesh_tests::home::{Home, see_each_other};
use mesh_tests::lab::Lab;
use mesh_tests::nat::NatKind;
use mesh_tests::relay::{self, Proxy};
use mesh_tests::runner::Place;
use mesh_tests::transcript::{TERMS, agree, found_org, join};
use mesh_tests::until::until;

/// How long a service may take to be reached once it is ready.
const SOON: Duration = Duration::from_secs(30);
/// What both of them say in a shell of theirs.
const QUESTION: &str = "select 6*7";
/// curl's code for a proxy that refuses.
const REFUSED_BY_PROXY: i32 = 97;

/// Who plays.
struct Cast {
    lab: Lab,
    /// Root elsewhere.
    library: Home,
    founders: [Home; 2],
    /// The user, however little he may do.
    user: Home,
}

/// A user with namespaces: orders, is ordered from, and works inside.
pub fn user_behind_a_symmetric_nat_orders_and_sells(place: &Place) -> anyhow::Result<()> {
    let cast = raise(place, Home::without_rights)?;
    let user = &cast.user;
    let url = order(user, "crm-db", "library")?;
    let mut ways = by_forward_and_proxies(&cast, &url)?;
    ways.push(by_shell(user, &url)?);
    ways.push(sell(&cast)?);
    Figure {
        bar: "reach.user@namespaces".to_owned(),
        text: format!("with user namespaces: {}", ways.join(", ")),
        holds: true,
    }
    .tell();
    cast.part()
}

/// A user without them: the same, by the daemon's own TCP, but for the shell; what is sold is kept
/// apart by other walls.
pub fn user_without_namespaces_orders_and_sells(place: &Place) -> anyhow::Result<()> {
    let cast = raise(place, Home::without_namespaces)?;
    let Cast { user, library, .. } = &cast;
    let refused = user.run("unshare", &["--user", "true"])?;
    ensure!(refused.code != 0, "namespaces are not off:\n{refused}");
    ensure!(
        user.log().contains("speaking TCP without the kernel"),
        "the daemon found a namespace:\n{}",
        user.log()
    );
    let url = order(user, "crm-db", "library")?;
    let mut ways = by_forward_and_proxies(&cast, &url)?;
    let to = user.overlay_address()?;
    until("the user's node answers echo requests", SOON, || {
        let ping = library.quietly().run("ping", &["-c1", "-W1", &to])?;
        Ok((ping.code == 0).then_some(()))
    })?;
    let status = user.meshnode(&["status"])?.ok()?;
    ensure!(
        status.stdout.contains("kept apart without namespaces"),
        "nobody says how services are kept apart:\n{status}"
    );
    ways.push(sell(&cast)?);
    // Its folder of the run lies outside the lab's.
    let destroy = ["destroy", "lib-db", "--yes"];
    library.meshctl(&destroy)?.ok()?;
    until("what was sold is gone", SOON, || {
        let held = std::fs::read_dir(user.folder.join("instances"))?;
        Ok((held.count() == 0).then_some(()))
    })?;
    let shell = user.meshnode(&["shell", "--", "true"])?;
    shell.refused(CONFLICT, "there is no namespace to enter")?;
    Figure {
        bar: "reach.user@without".to_owned(),
        text: format!("without: {}", ways.join(", ")),
        holds: true,
    }
    .tell();
    cast.part()
}

impl Cast {
    fn part(self) -> anyhow::Result<()> {
        self.user.stop()?;
        self.library.stop()?;
        self.founders.iter().try_for_each(Home::stop)
    }
}

/// The exit code of what the state of things forbids.
const CONFLICT: i32 = 6;

/// Two organisations that sell to each other; what is ordered from the bakery goes to the user.
fn raise(place: &Place, rights: impl Fn(&Home) -> Home) -> anyhow::Result<Cast> {
    let homes = [
        ("library-1", NatKind::Open),
        ("library-2", NatKind::Cgnat),
        ("bakery-1", NatKind::Open),
        ("bakery-2", NatKind::Symmetric),
    ];
    let lab = Lab::behind(&homes, &place.folder, &place.programs)?;
    let home = |name: &str| lab.home(name).cloned();
    let founders = [home("library-1")?, home("bakery-1")?];
    let (library, user) = (home("library-2")?, rights(&home("bakery-2")?));
    let [of_library, of_bakery] = &founders;
    for (org, founder, member) in [
        ("library", of_library, &library),
        ("bakery", of_bakery, &user),
    ] {
        founder.configure("capacity.slots", 0)?;
        found_org(org, founder)?;
        join(founder, member)?;
    }
    agree(of_library, of_bakery, &TERMS)?;
    agree(of_bakery, of_library, &TERMS)?;
    see_each_other(&[of_library, of_bakery, &library, &user], SOON)?;
    Ok(Cast {
        lab,
        library,
        founders,
        user,
    })
}

/// Root orders from the user, and reaches what it ordered.
fn sell(cast: &Cast) -> anyhow::Result<String> {
    let url = order(&cast.library, "lib-db", "bakery")?;
    let shown = cast
        .library
        .meshctl(&["show", "lib-db", "--json"])?
        .json()?;
    let node = shown.get("node").and_then(serde_json::Value::as_str);
    ensure!(
        node == Some("bakery-2"),
        "lib-db is not on the user's node: {shown}"
    );
    answers(&cast.library, "sold", &url)
}

/// Orders a database from an organisation's nodes; returns its connection string.
fn order(home: &Home, name: &str, from: &str) -> anyhow::Result<String> {
    let words = ["order", "postgres", "--name", name, "--org", from];
    until(&format!("{name} is ordered"), SOON, || {
        // What the other sells has to arrive first.
        let said = home.meshctl(&words)?;
        Ok((said.code == 0).then_some(()))
    })?;
    home.url(name)
}

/// Asks the database, and how long that took, for people.
fn answers(home: &Home, way: &str, url: &str) -> anyhow::Result<String> {
    let start = Instant::now();
    let answer = until(&format!("an answer by {way}"), SOON, || {
        let said = home.psql(url, QUESTION)?;
        Ok((said.code == 0).then_some(said))
    })?;
    ensure!(
        answer.clone().value()? == "42",
        "by {way} the database answered {answer}"
    );
    // One that has megabytes to say.
    let much = home.psql(
        url,
        "select length(repeat('x', 5000000)), repeat('y', 5000000)",
    )?;
    let much = much.value()?;
    ensure!(
        much.len() == 5_000_008,
        "by {way} {} bytes came",
        much.len()
    );
    Ok(format!("{way} {} ms", start.elapsed().as_millis()))
}

fn by_forward_and_proxies(cast: &Cast, url: &str) -> anyhow::Result<Vec<String>> {
    let home = &cast.user;
    ensure!(url.contains("@127.0.0.1:"), "not a forward: {url}");
    let mut ways = vec![answers(home, "forward", url)?];
    let status = home.quietly().status()?;
    let at = |proxy: &str| -> anyhow::Result<SocketAddr> {
        let at = status.pointer(&format!("/entrances/{proxy}"));
        let at = at.and_then(serde_json::Value::as_str);
        Ok(at
            .with_context(|| format!("no {proxy} proxy: {status}"))?
            .parse()?)
    };
    let (socks, http) = (at("socks")?, at("http")?);
    let machine = cast.lab.holder(&home.name)?;
    for (way, proxy) in [("SOCKS", Proxy::Socks(socks)), ("HTTP", Proxy::Http(http))] {
        let port = relay::open(machine, proxy, NAME, POSTGRES)?;
        ways.push(answers(
            home,
            way,
            &led_to(url, &format!("127.0.0.1:{port}"))?,
        )?);
    }
    only_the_overlay(home, socks, http)?;
    Ok(ways)
}

/// The whole name of what the user orders.
const NAME: &str = "crm-db.bakery.mesh.internal";
/// The port of the catalogue's databases.
const POSTGRES: u16 = 5432;

/// curl, which speaks to proxies of both kinds, gets to a node by its name and nowhere outside.
fn only_the_overlay(home: &Home, socks: SocketAddr, http: SocketAddr) -> anyhow::Result<()> {
    let curl = |words: &[&str]| home.run("curl", &[&["-sS", "-m", "20"], words].concat());
    let (socks, http) = (socks.to_string(), http.to_string());
    for outside in ["http://127.0.0.1:1/", "http://example.org/"] {
        let said = curl(&["--socks5-hostname", &socks, outside])?;
        ensure!(
            said.code == REFUSED_BY_PROXY,
            "SOCKS leads outside:\n{said}"
        );
        ensure!(said.stderr.contains("(2)"), "not for that reason:\n{said}");
        let said = curl(&[
            "-x",
            &http,
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            outside,
        ])?;
        ensure!(said.stdout.trim() == "403", "HTTP leads outside:\n{said}");
    }
    Ok(())
}

/// In a shell of its own every program uses names and addresses; its end is told.
fn by_shell(home: &Home, url: &str) -> anyhow::Result<String> {
    let home = home.beside_daemon()?;
    let url = led_to(url, &format!("{NAME}:{POSTGRES}"))?;
    let start = Instant::now();
    let psql = ["shell", "--", "psql", "-X", "-At", &url, "-c", QUESTION];
    let answer = home.meshnode(&psql)?;
    ensure!(
        answer.clone().value()? == "42",
        "in a shell the database answered {answer}"
    );
    let took = start.elapsed().as_millis();
    let far = "library-2.library.mesh.internal";
    home.meshnode(&["shell", "--", "ping", "-c1", "-W5", far])?
        .ok()?;
    let who = home.meshnode(&["shell", "sh", "-c", "id -u; exit 7"])?;
    ensure!(
        (who.code, who.stdout.trim()) == (7, "1000"),
        "not who it was, or not its own end:\n{who}"
    );
    Ok(format!("shell {took} ms"))
}

/// Puts another place into a connection string.
fn led_to(url: &str, place: &str) -> anyhow::Result<String> {
    let (login, rest) = url.rsplit_once('@').context("no place in the string")?;
    let (_, database) = rest.split_once('/').context("no database in the string")?;
    Ok(format!("{login}@{place}/{database}"))
}
