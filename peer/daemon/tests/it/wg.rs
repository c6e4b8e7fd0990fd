//! `meshnode wg` and `meshnode netcheck` on one machine: what a person sees.

use crate::node::Node;

#[test]
fn device_is_let_in_once_listed_and_shut_out_and_a_restart_forgets_nobody() {
    let node = Node::founded("bakery");
    node.start();
    assert_eq!(node.run(&["wg", "list"]).out, "");
    let said = node.run(&["wg", "export", "phone", "--endpoint", "home.example:7"]);
    said.check(0);
    let line = |start: &str| {
        let found = said.out.lines().find_map(|line| line.strip_prefix(start));
        found
            .unwrap_or_else(|| panic!("no {start}: {}", said.out))
            .to_owned()
    };
    let (secret, address) = (line("PrivateKey = "), line("Address = "));
    assert_eq!(line("Endpoint = "), "home.example:7");
    assert_eq!(line("AllowedIPs = "), "fd6d::/16, fd73::/16");
    assert!(said.err.contains("whoever has it is phone"), "{}", said.err);
    node.run(&["wg", "export", "phone"]).check_failure(
        6,
        "there is a client \"phone\" already",
        "meshnode wg remove phone",
    );

    node.run(&["stop"]).check(0);
    node.start();
    let listed = node.run(&["wg", "list"]);
    listed.check(0);
    let address = address.trim_end_matches("/128");
    assert!(
        listed.out.contains(&format!("phone  {address}")),
        "{}",
        listed.out
    );
    // The secret was printed and is nowhere else.
    for file in walk(&node.path("")) {
        let bytes = std::fs::read(&file).unwrap_or_default();
        let found = bytes
            .windows(secret.len())
            .any(|it| it == secret.as_bytes());
        assert!(!found, "{} holds the secret", file.display());
    }

    let said = node.run(&["wg", "remove", "phone"]);
    said.check(0);
    assert_eq!(said.out, "phone is let in no longer\n");
    node.run(&["wg", "remove", "phone"]).check_failure(
        5,
        "there is no client \"phone\" here",
        "meshnode wg list",
    );
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files.extend(walk(&entry.path()));
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files
}

#[test]
fn device_that_keeps_its_secret_and_one_that_scans_are_let_in_too() {
    let node = Node::founded("bakery");
    node.start();
    let key = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=";
    let said = node.run(&["wg", "export", "laptop", "--public-key", key]);
    said.check(0);
    assert!(!said.out.contains("\nPrivateKey"), "{}", said.out);
    assert!(
        said.out
            .contains(&format!("# PrivateKey = the one that belongs to {key}"))
    );
    let zero = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    node.run(&["wg", "export", "evil", "--public-key", zero])
        .check_failure(2, "this key has no secret half", "wg genkey");
    node.run(&["wg", "export", "tablet", "--public-key", "phone"])
        .check_failure(2, "a WireGuard key is 44 characters", "meshnode wg");
    let said = node.run(&["wg", "export", "tablet", "--qr"]);
    said.check(0);
    assert!(
        said.out.contains('█') && !said.out.contains("PrivateKey"),
        "{}",
        said.out
    );
    node.run(&["wg", "export", "a", "--qr", "--public-key", key])
        .check(2);
    let listed = node.run(&["wg", "list", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    let names: Vec<_> = listed["clients"].as_array().unwrap().iter().collect();
    assert_eq!(
        (&names[0]["name"], &names[1]["name"]),
        (&"laptop".into(), &"tablet".into())
    );
    assert_eq!(names[0]["key"], key);
}

#[test]
fn lone_node_is_told_what_nobody_could_see() {
    let node = Node::founded("bakery");
    node.run(&["netcheck"])
        .check_failure(3, "no node answers", "meshnode start");
    node.start();
    let said = node.run(&["netcheck"]);
    said.check(0);
    assert!(
        said.out.contains("udp      unknown: no node is connected"),
        "{}",
        said.out
    );
    assert!(!said.out.contains("NODE"), "{}", said.out);
    let said = node.run(&["netcheck", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(told["schema"], "meshstead.netcheck/1");
    assert_eq!(told["paths"].as_array().unwrap().len(), 0);
}

#[test]
fn file_with_a_secret_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let node = Node::founded("bakery");
    node.start();
    let folder = tempfile::tempdir().unwrap();
    // A device that keeps its own secret: there is nothing to hide.
    let key = "HhhzGRAwAnXpUqQLtK4W0aE5cB3x8gq3yJ8m0PqOZ1Q=";
    for (name, words, mode) in [
        ("phone", &["--endpoint", "home.example:7"][..], 0o600),
        ("tablet", &["--endpoint", "home.example:7", "--qr"], 0o600),
        (
            "laptop",
            &["--endpoint", "home.example:7", "--public-key", key],
            0o644,
        ),
    ] {
        let path = folder.path().join(name);
        let file = std::fs::File::create(&path).unwrap();
        file.set_permissions(std::fs::Permissions::from_mode(0o644))
            .unwrap();
        node.run_into(&[&["wg", "export", name], words].concat(), &file);
        let seen = file.metadata().unwrap();
        assert!(0 < seen.len());
        assert_eq!(seen.permissions().mode() & 0o777, mode, "{name}");
    }
    node.run(&["stop"]).check(0);
}
