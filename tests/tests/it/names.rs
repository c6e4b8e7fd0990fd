//! Names of nodes and services, asked with Debian's own tools: dig, getent, psql.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use mesh_tests::home::Home;
use mesh_tests::runner::Place;
use mesh_tests::said::Said;
use mesh_tests::transcript::found_org;
use mesh_tests::until::until;

use crate::street::Street;

/// Where a node on the host answers.
const HERE: &str = "127.0.0.153";

/// How long a name may take to follow the ledger.
const SOON: Duration = Duration::from_secs(30);

/// What `getent` and `psql` do with a resolver of their own; the words after are the file, the
/// name, and a connection string.
const BY_NAME: &str = "mount --bind \"$1\" /etc/resolv.conf && getent ahostsv6 \"$2\" >&2 && \
                       exec /usr/bin/psql -X -At \"$3\" -c 'select 40 + 2'";

/// Follows names through an order and its end, at everybody who may know them and who may not.
pub fn names_mean_what_the_ledger_says(place: &Place) -> anyhow::Result<()> {
    let street = Street::raise(place, |_| Ok(()))?;
    let (bakery, library) = (&street.cast.bakery, &street.cast.library);
    let (address, name) = (bakery.overlay_address()?, "crm-db.bakery.mesh.internal");

    // Nodes, in any case, both ways, over UDP and TCP; nobody else's names.
    for home in street.cast.all() {
        until("a node's name is known", SOON, || {
            Ok((aaaa(home, "Bakery-1.BAKERY.mesh.internal")? == address).then_some(()))
        })?;
    }
    let back = dig(library, HERE, &["+short", "-x", &address])?.value()?;
    ensure!(
        back == "bakery-1.bakery.mesh.internal.",
        "the way back is {back}"
    );
    let tcp = ["+tcp", "+short", "library-1.library.mesh.internal", "AAAA"];
    let tcp = dig(bakery, HERE, &tcp)?.value()?;
    ensure!(tcp == library.overlay_address()?, "over TCP: {tcp}");
    is(bakery, "bakery-1.bakery.mesh.internal", "A", "NOERROR", 0)?;
    is(bakery, "bakery.mesh.internal", "AAAA", "NOERROR", 0)?;
    is(bakery, "mesh.internal", "SOA", "NOERROR", 1)?;
    is(bakery, "nobody.bakery.mesh.internal", "AAAA", "NXDOMAIN", 0)?;
    is(
        bakery,
        "florist-1.florist.mesh.internal",
        "AAAA",
        "NXDOMAIN",
        0,
    )?;
    is(bakery, "example.com", "AAAA", "REFUSED", 0)?;

    // A service: not before it is ordered, then for customer and provider.
    is(bakery, name, "AAAA", "NXDOMAIN", 0)?;
    let order = [
        "order",
        "postgres",
        "--name",
        "crm-db",
        "--node",
        "library-1",
    ];
    bakery.meshctl(&order)?.ok()?;
    let service = bakery
        .meshctl(&["show", "crm-db", "--field", "address"])?
        .value()?;
    let shown = bakery
        .meshctl(&["show", "crm-db", "--field", "dns_name"])?
        .value()?;
    ensure!(shown == name, "show says {shown}");
    for home in street.cast.all() {
        if home.name == "library-2" {
            continue;
        }
        until("the service's name is known", SOON, || {
            Ok((aaaa(home, name)? == service).then_some(()))
        })?;
    }
    is(bakery, name, "MX", "NOERROR", 0)?;
    let resolved = bakery.meshnode(&["resolve", "crm-db"])?.ok()?;
    for word in [name, service.as_str(), "library-1 (library)"] {
        ensure!(resolved.stdout.contains(word), "no {word}:\n{resolved}");
    }
    bakery
        .meshnode(&["resolve", "nothing"])?
        .refused(5, "nothing")?;
    // The library's own service is nobody's business.
    let order = [
        "order",
        "postgres",
        "--name",
        "diary",
        "--node",
        "library-2",
    ];
    library.meshctl(&order)?.ok()?;
    let diary = "diary.library.mesh.internal";
    ensure!(
        !aaaa(library, diary)?.is_empty(),
        "the library knows its diary"
    );
    is(bakery, diary, "AAAA", "NXDOMAIN", 0)?;

    ask_by_name(bakery, &service)?;

    // Peers are not served: they have a resolver of their own.
    let port = port_of(bakery, &address)?;
    let asked = ["-p", &port, "+short", name, "AAAA"];
    let own = dig(bakery, &address, &asked)?.value()?;
    ensure!(own == service, "at its own address: {own}");
    let foreign = dig(library, &address, &asked)?;
    ensure!(foreign.code != 0, "a peer was answered:\n{foreign}");

    bakery.meshctl(&["destroy", "crm-db", "--yes"])?.ok()?;
    for home in [bakery, library] {
        until("the service's name is gone", SOON, || {
            Ok(is(home, name, "AAAA", "NXDOMAIN", 0).is_ok().then_some(()))
        })?;
    }
    Ok(())
}

/// Uses a service by name inside the namespace of a node that is not root.
pub fn names_resolve_inside_the_namespace_of_a_user(place: &Place) -> anyhow::Result<()> {
    let home = Home::new("attic-1", place.folder.join("attic-1"), &place.programs);
    found_org("attic", &home)?;
    home.meshctl(&["order", "postgres", "--name", "crm-db"])?
        .ok()?;
    let (address, name) = (home.overlay_address()?, "crm-db.attic.mesh.internal");
    let service = home
        .meshctl(&["show", "crm-db", "--field", "address"])?
        .value()?;
    let pid = until("the node says where it answers", SOON, || helper(&home))?;
    let enter: Vec<String> = ["-t", &pid, "-U", "-n", "--preserve-credentials", "--"]
        .map(str::to_owned)
        .into();
    let inside = |words: &[&str]| {
        let entry: Vec<&str> = enter.iter().map(String::as_str).collect();
        home.run("nsenter", &[&entry, words].concat())
    };
    let at = format!("@{address}");
    let asked = ["dig", &at, "+time=5", "+tries=1", "+short", name, "AAAA"];
    let answer = inside(&asked)?.value()?;
    ensure!(answer == service, "inside, {name} is {answer}");

    let url = named_url(&home, &service, name)?;
    let file = resolv_conf(&home, &address)?;
    let words = [
        "unshare", "--mount", "--", "sh", "-c", BY_NAME, "sh", &file, name, &url,
    ];
    let answer = inside(&words)?.value()?;
    ensure!(answer == "42", "the database answers {answer}");
    home.meshctl(&["destroy", "crm-db", "--yes"])?.ok()?;
    home.stop()
}

/// Asks with Debian's dig, once.
fn dig(home: &Home, at: &str, words: &[&str]) -> anyhow::Result<Said> {
    let at = format!("@{at}");
    let first = [at.as_str(), "+time=5", "+tries=1"];
    home.quietly().run("dig", &[&first, words].concat())
}

/// Returns the address that a name has at a home; empty if none.
fn aaaa(home: &Home, name: &str) -> anyhow::Result<String> {
    dig(home, HERE, &["+short", name, "AAAA"])?.value()
}

/// Checks the code of an answer, its records, and that a denial carries its zone's origin.
fn is(home: &Home, name: &str, kind: &str, code: &str, answers: usize) -> anyhow::Result<()> {
    let said = dig(home, HERE, &[name, kind])?.ok()?;
    let denials = usize::from(answers == 0 && code != "REFUSED");
    let counts = format!("ANSWER: {answers}, AUTHORITY: {denials}");
    for expect in [format!("status: {code},"), counts] {
        ensure!(said.stdout.contains(&expect), "no `{expect}`:\n{said}");
    }
    Ok(())
}

/// Returns the port at which a node answers for names at its overlay address.
fn port_of(home: &Home, address: &str) -> anyhow::Result<String> {
    let status = home.quietly().status()?;
    let listen = status.pointer("/names/listen").and_then(|at| at.as_array());
    let start = format!("[{address}]:");
    let mut places = listen.into_iter().flatten().filter_map(|at| at.as_str());
    let port = places.find_map(|at| at.strip_prefix(&start));
    port.map(str::to_owned)
        .context("it answers at its own address")
}

/// Returns the process whose namespace a node answers in, once it says so.
fn helper(home: &Home) -> anyhow::Result<Option<String>> {
    let status = home.quietly().status()?;
    let sentence = status
        .pointer("/names/sentence")
        .and_then(serde_json::Value::as_str);
    let pid = sentence.and_then(|sentence| sentence.rsplit_once("process "));
    Ok(pid.map(|(_, pid)| pid.to_owned()))
}

/// Asks crm-db a question with the host's own tools, by its name.
pub fn ask_by_name(bakery: &Home, service: &str) -> anyhow::Result<()> {
    let name = "crm-db.bakery.mesh.internal";
    let url = named_url(bakery, service, name)?;
    let mut words = vec!["--mount", "--", "sh", "-c", BY_NAME, "sh"];
    let file = resolv_conf(bakery, HERE)?;
    words.extend([file.as_str(), name, &url]);
    let answer = bakery.run("unshare", &words)?.value()?;
    ensure!(answer == "42", "the database answers {answer}");
    Ok(())
}

/// Returns a service's connection string with its name in the place of its address.
fn named_url(home: &Home, service: &str, name: &str) -> anyhow::Result<String> {
    let field = ["show", "crm-db", "--field", "overlay_url"];
    let url = home.quietly().meshctl(&field)?.value()?;
    let named = url.replace(&format!("[{service}]"), name);
    ensure!(named != url, "{url} has another address than {service}");
    Ok(named)
}

/// Writes what names a resolver.
fn resolv_conf(home: &Home, at: &str) -> anyhow::Result<String> {
    let file = home.folder.join("resolv.conf");
    std::fs::write(&file, format!("nameserver {at}\n")).context("cannot write resolv.conf")?;
    Ok(file.to_string_lossy().into_owned())
}
