//! What a mesh leaves on a machine: processes, network namespaces, mounts, cgroups, files.
//!
//! Taken before the nodes are raised and compared when all that was ordered is gone and the daemons
//! are stopped. Looks only.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use crate::home::Home;
use crate::processes;

/// A look at the machine.
#[derive(Debug, Clone, Default)]
pub struct Footprint {
    processes: BTreeSet<Pid>,
    networks: BTreeSet<PathBuf>,
    mounts: BTreeSet<String>,
}

/// Spare data folders that a node may keep for each recipe.
const SPARES_MAX: usize = 3;

/// Endings of names that nothing lasting has.
const UNFINISHED: [&str; 5] = ["new", "partial", "fresh", "gone", "sock"];

impl Footprint {
    /// Looks at what runs and what is mounted.
    pub fn look() -> Self {
        let processes = processes::all();
        let network = |pid: &Pid| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self {
            networks: processes.iter().filter_map(network).collect(),
            processes,
            mounts: mounts.lines().map(str::to_owned).collect(),
        }
    }

    /// Says what is here now and was not before, one line each.
    pub fn grown_to(&self, now: &Self) -> Vec<String> {
        let new = now.processes.difference(&self.processes);
        let processes = new.map(|pid| {
            let words = processes::command_line(*pid).join(" ");
            format!("process {pid} {} {words}", processes::name(*pid))
        });
        let new = now.networks.difference(&self.networks);
        let networks = new.map(|network| format!("network namespace {}", network.display()));
        let new = now.mounts.difference(&self.mounts);
        let mounts = new.map(|mount| format!("mount {mount}"));
        processes.chain(networks).chain(mounts).collect()
    }
}

/// Finds cgroups whose names end with one of these, in every hierarchy.
pub fn cgroups(endings: &[String]) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let roots = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (root, kind) = (words.nth(1)?, words.next()?);
        kind.starts_with("cgroup").then(|| PathBuf::from(root))
    });
    let mut waiting: Vec<PathBuf> = roots.collect();
    let mut found = Vec::new();
    while let Some(folder) = waiting.pop() {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        for path in entries
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
        {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            if endings.iter().any(|ending| name.ends_with(ending.as_str())) {
                found.push(format!("cgroup {}", path.display()));
            }
            waiting.push(path);
        }
    }
    found
}

/// Finds what a stopped node that holds nothing should not have in its folder.
pub fn files(home: &Home) -> Vec<String> {
    let name = |path: &Path| format!("file {}", path.display());
    let mut found = Vec::new();
    for folder in ["instances", "traffic"] {
        found.extend(
            list(&home.folder.join(folder))
                .iter()
                .map(|path| name(path)),
        );
    }
    for recipe in list(&home.folder.join("spares")) {
        let spares = list(&recipe);
        found.extend(spares.iter().skip(SPARES_MAX).map(|path| name(path)));
        found.extend(
            spares
                .iter()
                .filter(|path| is_unfinished(path))
                .map(|path| name(path)),
        );
    }
    let own = list(&home.folder);
    found.extend(
        own.iter()
            .filter(|path| is_unfinished(path))
            .map(|path| name(path)),
    );
    found
}

fn is_unfinished(path: &Path) -> bool {
    let ending = path.extension().and_then(OsStr::to_str);
    ending.is_some_and(|ending| UNFINISHED.contains(&ending))
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort_unstable();
    paths
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::until::until;

    #[test]
    fn new_process_is_noticed() {
        let before = Footprint::look();
        let mut sleeper = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .unwrap();
        // For a moment it is there and has no command line yet.
        let noticed = until("the process is noticed", Duration::from_secs(10), || {
            let grown = before.grown_to(&Footprint::look());
            let found = grown.iter().any(|line| line.contains("sleep 100"));
            Ok(found.then_some(()))
        });
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        noticed.unwrap();
    }

    #[test]
    fn half_made_files_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new("a", folder.path().to_owned(), Path::new("/bin"));
        fs::create_dir_all(folder.path().join("spares/recipe/1.partial")).unwrap();
        fs::create_dir_all(folder.path().join("spares/recipe/2")).unwrap();
        fs::create_dir_all(folder.path().join("instances/item")).unwrap();
        fs::write(folder.path().join("ports.toml"), "").unwrap();
        let found = files(&home);
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
