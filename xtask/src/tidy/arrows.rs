//! Which crate may import which: the table of `docs/ARCHITECTURE.md`, checked against cargo.
//!
//! A new arrow is a new line here and a page in `docs/decisions/`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use super::Finding;
use crate::workspace;

/// What each crate of the workspace may import from the workspace.
const ARROWS: &[(&str, &[&str])] = &[
    ("mesh-base", &[]),
    ("mesh-routing", &["mesh-base"]),
    ("mesh-dataplane", &["mesh-base", "mesh-routing"]),
    ("mesh-ledger", &["mesh-base"]),
    (
        "mesh-federation",
        &["mesh-base", "mesh-routing", "mesh-ledger"],
    ),
    ("mesh-compute", &["mesh-base"]),
    ("mesh-drivers", &["mesh-base", "mesh-compute"]),
    ("mesh-api", &["mesh-base"]),
    (
        "mesh-peer",
        &[
            "mesh-base",
            "mesh-routing",
            "mesh-ledger",
            "mesh-federation",
            "mesh-compute",
            "mesh-api",
        ],
    ),
    (
        "meshnode",
        &[
            "mesh-base",
            "mesh-routing",
            "mesh-dataplane",
            "mesh-ledger",
            "mesh-federation",
            "mesh-compute",
            "mesh-drivers",
            "mesh-api",
            "mesh-peer",
        ],
    ),
    ("meshctl", &["mesh-base", "mesh-api"]),
    (
        "meshsim",
        &[
            "mesh-base",
            "mesh-routing",
            "mesh-ledger",
            "mesh-federation",
            "mesh-compute",
            "mesh-api",
            "mesh-peer",
        ],
    ),
    (
        "mesh-fuzz",
        &[
            "mesh-base",
            "mesh-routing",
            "mesh-ledger",
            "mesh-federation",
            "mesh-compute",
            "mesh-api",
            "mesh-peer",
        ],
    ),
    ("mesh-tests", &[]),
    ("xtask", &["mesh-tests"]),
];

/// What a crate must not reach, by however many steps.
const OUT_OF_REACH: &[(&[&str], &[&str])] = &[
    (
        &["meshsim"],
        &[
            "meshnode",
            "mesh-dataplane",
            "mesh-drivers",
            "tokio",
            "libp2p",
            "mio",
        ],
    ),
    (
        &[
            "mesh-base",
            "mesh-routing",
            "mesh-ledger",
            "mesh-federation",
            "mesh-compute",
            "mesh-api",
            "mesh-peer",
            "mesh-fuzz",
        ],
        &["tokio", "libp2p", "mio", "socket2", "async-io"],
    ),
    (&["meshctl"], &["libp2p"]),
    // Bugs are planted in the simulator's shell; no program that users run may hold them.
    (&["meshnode", "meshctl", "mesh-peer"], &["meshsim"]),
];

/// Crates that only one crate of ours may import: linking the swarm is slow, and its one user.
const ONLY: &[(&str, &str)] = &[("libp2p", "meshnode"), ("libp2p-stream", "meshnode")];

/// One package as the rules see it.
#[derive(Debug, Default)]
pub struct Package {
    /// The manifest, from the top of the checkout; empty for crates of others.
    manifest: PathBuf,
    /// Whether it is a member of the workspace.
    is_ours: bool,
    /// Its switches.
    features: BTreeSet<String>,
    /// What it names in its manifest, tests included.
    names: BTreeSet<String>,
    /// What is built into it: names of packages, tests not included.
    reaches: BTreeSet<String>,
}

/// All packages by name. Two versions of one crate are one package here.
pub type Graph = BTreeMap<String, Package>;

/// Asks cargo for the graph of crates.
pub fn read() -> anyhow::Result<Graph> {
    // Of every platform: an arrow that only another one has is an arrow too.
    let metadata = workspace::metadata(&[])?;
    parse(&metadata).context("cargo metadata has another shape than expected")
}

fn parse(metadata: &Value) -> Option<Graph> {
    let root = Path::new(metadata.get("workspace_root")?.as_str()?);
    let members: BTreeSet<_> = metadata
        .get("workspace_members")?
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let mut graph = Graph::new();
    let mut names = BTreeMap::new();
    for package in metadata.get("packages")?.as_array()? {
        let (id, name) = (package.get("id")?.as_str()?, package.get("name")?.as_str()?);
        names.insert(id, name);
        let entry = graph.entry(name.to_owned()).or_default();
        if members.contains(id) {
            let manifest = Path::new(package.get("manifest_path")?.as_str()?);
            entry.manifest = manifest
                .strip_prefix(root)
                .unwrap_or(manifest)
                .to_path_buf();
            entry.is_ours = true;
            let features = package.get("features").and_then(Value::as_object);
            entry.features = features
                .into_iter()
                .flatten()
                .map(|(name, _)| name.clone())
                .collect();
            let named = package.get("dependencies")?.as_array()?.iter();
            entry.names = named
                .filter_map(|one| Some(one.get("name")?.as_str()?.into()))
                .collect();
        }
    }
    for node in metadata.get("resolve")?.get("nodes")?.as_array()? {
        let name = names.get(node.get("id")?.as_str()?)?;
        let entry = graph.get_mut(*name)?;
        for one in node.get("deps")?.as_array()? {
            let kinds = one.get("dep_kinds")?.as_array()?;
            let is_built_in = kinds
                .iter()
                .any(|kind| kind.get("kind") == Some(&Value::Null));
            if is_built_in {
                entry
                    .reaches
                    .insert((*names.get(one.get("pkg")?.as_str()?)?).to_owned());
            }
        }
    }
    Some(graph)
}

/// Judges the graph.
pub fn check(graph: &Graph) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, package) in graph.iter().filter(|(_, package)| package.is_ours) {
        findings.extend(check_arrows(name, package, graph));
        for feature in &package.features {
            findings.push(finding(
                package,
                format!("`{name}` has the feature `{feature}`"),
                "a switch would let the simulator run other code than users do",
                "make it a crate of its own, or a value that the shell gives",
            ));
        }
        for (banned, owner) in ONLY {
            if name != owner && package.names.contains(*banned) {
                findings.push(finding(
                    package,
                    format!("`{name}` imports {banned}"),
                    "only one crate links the swarm, or every test binary pays for it",
                    "talk to the daemon's own types",
                ));
            }
        }
    }
    for (names, out_of_reach) in OUT_OF_REACH {
        for name in *names {
            findings.extend(check_reach(name, out_of_reach, graph));
        }
    }
    findings
}

fn finding(package: &Package, what: String, why: &'static str, mend: &'static str) -> Finding {
    Finding {
        file: package.manifest.clone(),
        line: 1,
        what,
        why,
        mend,
    }
}

fn check_arrows(name: &str, package: &Package, graph: &Graph) -> Vec<Finding> {
    let is_ours = |name: &str| graph.get(name).is_some_and(|package| package.is_ours);
    let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else {
        return vec![finding(
            package,
            format!("`{name}` has no line in the table of arrows"),
            "every room has its place in the house",
            "add its line to xtask/src/tidy/arrows.rs and to docs/ARCHITECTURE.md",
        )];
    };
    let new = package
        .names
        .iter()
        .filter(|to| is_ours(to) && !allowed.contains(&to.as_str()));
    new.map(|to| {
        finding(
            package,
            format!("new arrow: `{name}` imports `{to}`"),
            "arrows run one way, and a new one is a decision",
            "take it out, or add a page to docs/decisions/ and a line to the table",
        )
    })
    .collect()
}

fn check_reach(name: &str, out_of_reach: &[&str], graph: &Graph) -> Vec<Finding> {
    let Some(package) = graph.get(name) else {
        return Vec::new();
    };
    let ways = ways_from(name, graph);
    let reached = out_of_reach.iter().filter_map(|banned| ways.get(*banned));
    reached
        .map(|way| {
            finding(
                package,
                format!("`{name}` reaches {}", way.join(" → ")),
                "pure code and its simulator must run without clock, socket and disk",
                "cut the way at its first step, or turn a feature off",
            )
        })
        .collect()
}

/// Returns, for every package that is built into `name`, one shortest way to it.
fn ways_from(name: &str, graph: &Graph) -> BTreeMap<String, Vec<String>> {
    let mut ways = BTreeMap::from([(name.to_owned(), Vec::new())]);
    let mut queue = VecDeque::from([name.to_owned()]);
    while let Some(at) = queue.pop_front() {
        let way = ways.get(&at).cloned().unwrap_or_default();
        for next in graph.get(&at).iter().flat_map(|package| &package.reaches) {
            if !ways.contains_key(next) {
                let mut way = way.clone();
                way.push(next.clone());
                ways.insert(next.clone(), way);
                queue.push_back(next.clone());
            }
        }
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(packages: &[(&str, bool, &[&str])]) -> Graph {
        let package = |is_ours, names: &[&str]| {
            let names: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
            Package {
                manifest: "Cargo.toml".into(),
                is_ours,
                features: BTreeSet::new(),
                reaches: names.clone(),
                names,
            }
        };
        packages
            .iter()
            .map(|(name, ours, to)| ((*name).to_owned(), package(*ours, to)))
            .collect()
    }

    #[track_caller]
    fn check_whats(packages: &[(&str, bool, &[&str])], expect: &[&str]) {
        let findings = check(&graph(packages));
        let whats: Vec<_> = findings
            .iter()
            .map(|finding| finding.what.as_str())
            .collect();
        assert_eq!(whats, expect);
    }

    #[test]
    fn arrow_of_the_table_is_lawful() {
        check_whats(
            &[
                ("mesh-base", true, &[]),
                ("mesh-ledger", true, &["mesh-base"]),
            ],
            &[],
        );
    }

    #[test]
    fn arrow_against_the_table_is_found() {
        check_whats(
            &[
                ("mesh-base", true, &["mesh-ledger"]),
                ("mesh-ledger", true, &[]),
            ],
            &["new arrow: `mesh-base` imports `mesh-ledger`"],
        );
    }

    #[test]
    fn crate_without_a_line_is_found() {
        check_whats(
            &[("mesh-attic", true, &[])],
            &["`mesh-attic` has no line in the table of arrows"],
        );
    }

    #[test]
    fn way_to_a_runtime_is_found_with_its_steps() {
        check_whats(
            &[
                ("meshsim", true, &["clever"]),
                ("clever", false, &["tokio"]),
                ("tokio", false, &[]),
            ],
            &["`meshsim` reaches clever → tokio"],
        );
    }

    #[test]
    fn planted_bugs_are_out_of_reach_of_what_users_run() {
        check_whats(
            &[("meshnode", true, &["meshsim"]), ("meshsim", true, &[])],
            &[
                "new arrow: `meshnode` imports `meshsim`",
                "`meshnode` reaches meshsim",
            ],
        );
    }

    #[test]
    fn switch_in_a_crate_of_ours_is_found() {
        let mut graph = graph(&[("mesh-base", true, &[]), ("serde", false, &[])]);
        for package in graph.values_mut() {
            package.features.insert("plant".to_owned());
        }
        let findings = check(&graph);
        let whats: Vec<_> = findings.iter().map(|finding| &finding.what).collect();
        assert_eq!(whats, ["`mesh-base` has the feature `plant`"]);
    }

    #[test]
    fn swarm_has_one_user() {
        check_whats(
            &[("meshctl", true, &["libp2p-stream"])],
            &["`meshctl` imports libp2p-stream"],
        );
    }

    #[test]
    fn metadata_is_read_without_what_only_tests_use() {
        let metadata = serde_json::json!({
            "workspace_root": "/a",
            "workspace_members": ["one"],
            "packages": [
                {"id": "one", "name": "mesh-base", "manifest_path": "/a/base/Cargo.toml",
                 "dependencies": [{"name": "serde"}, {"name": "tokio"}],
                 "features": {"plant": []}},
                {"id": "two", "name": "tokio", "manifest_path": "/b", "dependencies": []},
                {"id": "three", "name": "serde", "manifest_path": "/c", "dependencies": []},
            ],
            "resolve": {"nodes": [
                {"id": "one", "deps": [
                    {"pkg": "two", "dep_kinds": [{"kind": "dev"}]},
                    {"pkg": "three", "dep_kinds": [{"kind": null}]}]},
                {"id": "two", "deps": []},
                {"id": "three", "deps": []},
            ]},
        });
        let graph = parse(&metadata).unwrap();
        let base = &graph["mesh-base"];
        assert_eq!(base.manifest, Path::new("base/Cargo.toml"));
        assert_eq!(base.names.len(), 2);
        assert_eq!(base.features.iter().collect::<Vec<_>>(), ["plant"]);
        assert_eq!(base.reaches.iter().collect::<Vec<_>>(), ["serde"]);
    }
}
