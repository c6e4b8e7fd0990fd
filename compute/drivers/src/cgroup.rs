//! Limits of an instance, where the system lets us set them: cgroups v1, v2, or v1 beside an empty
//! v2.
//!
//! Each limit that could not be set is told in a sentence; the shim then watches instead.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mesh_compute::recipe::Limits;

/// The groups of one instance; removed when dropped. Whoever is killed drops nothing: see
/// [`remove`].
#[derive(Debug, Default)]
pub struct Groups {
    /// The groups' folders.
    pub folders: Vec<PathBuf>,
    memory: Option<PathBuf>,
    /// What could not be limited.
    pub notes: Vec<String>,
    /// Whether the system itself limits memory.
    pub limits_memory: bool,
}

/// One mounted hierarchy with our own place in it.
struct Hierarchy {
    mount: PathBuf,
    own: PathBuf,
    is_v2: bool,
    controllers: Vec<String>,
}

impl Groups {
    /// Makes groups of a name with limits.
    pub fn make(label: &str, limits: Limits) -> Self {
        let mut groups = Self::default();
        let all = hierarchies();
        let memory_bytes = u64::from(limits.memory_mib) << 20;
        let quota = u64::from(limits.cpu_millis) * 100;
        let mut set = |controller: &str, v1: &[(&str, String)], v2: &[(&str, String)]| {
            groups.limit(&all, label, controller, v1, v2)
        };
        let memory = set(
            "memory",
            &[("memory.limit_in_bytes", memory_bytes.to_string())],
            &[("memory.max", memory_bytes.to_string())],
        );
        let pids = set(
            "pids",
            &[("pids.max", limits.pids.to_string())],
            &[("pids.max", limits.pids.to_string())],
        );
        let cpu = set(
            "cpu",
            &[
                ("cpu.cfs_period_us", "100000".to_owned()),
                ("cpu.cfs_quota_us", quota.to_string()),
            ],
            &[("cpu.max", format!("{quota} 100000"))],
        );
        groups.limits_memory = memory.is_some();
        groups.memory = memory.and_then(|folder| {
            let names = ["memory.current", "memory.usage_in_bytes"];
            names
                .iter()
                .map(|name| folder.join(name))
                .find(|file| file.exists())
        });
        let missing: Vec<&str> = [
            ("memory", groups.limits_memory),
            ("processor", cpu.is_some()),
            ("processes", pids.is_some()),
        ]
        .iter()
        .filter(|(_, there)| !there)
        .map(|(name, _)| *name)
        .collect();
        if !missing.is_empty() {
            let what = missing.join(", ");
            groups.notes.push(format!(
                "no cgroup may be written here, so these limits are only watched: {what}"
            ));
        }
        groups
    }

    /// Puts a process, and all that it will start, into the groups.
    pub fn add(&self, pid: i32) -> std::io::Result<()> {
        for folder in &self.folders {
            fs::write(folder.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(())
    }

    /// Returns the memory that the groups count, in MiB.
    pub fn memory_mib(&self) -> Option<u64> {
        let text = fs::read_to_string(self.memory.as_ref()?).ok()?;
        Some(text.trim().parse::<u64>().ok()?.div_ceil(1 << 20))
    }

    fn limit(
        &mut self,
        all: &[Hierarchy],
        label: &str,
        controller: &str,
        v1: &[(&str, String)],
        v2: &[(&str, String)],
    ) -> Option<PathBuf> {
        for hierarchy in all.iter().filter(|one| one.may_limit(controller)) {
            let values = if hierarchy.is_v2 { v2 } else { v1 };
            for parent in hierarchy.parents(controller) {
                let folder = parent.join(label);
                if fs::create_dir(&folder).is_err() && !folder.is_dir() {
                    continue;
                }
                let written = values
                    .iter()
                    .all(|(file, value)| fs::write(folder.join(file), value).is_ok());
                let known = self.folders.contains(&folder);
                if written {
                    if !known {
                        self.folders.push(folder.clone());
                    }
                    return Some(folder);
                }
                if !known {
                    let _ = fs::remove_dir(&folder);
                }
            }
        }
        None
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for folder in &self.folders {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// How long a group may count processes that have just ended.
const EMPTY_PATIENCE: Duration = Duration::from_secs(1);
/// How often it is tried meanwhile.
const EMPTY_PERIOD: Duration = Duration::from_millis(2);

/// Removes groups whose processes have ended and whose shim could not remove them. Returns those
/// that are left.
pub fn remove(folders: &[PathBuf]) -> Vec<PathBuf> {
    let until = Instant::now() + EMPTY_PATIENCE;
    let mut busy = folders.to_vec();
    let mut left = Vec::new();
    loop {
        busy.retain(|folder| match fs::remove_dir(folder) {
            Ok(()) => false,
            Err(error) => match error.kind() {
                ErrorKind::ResourceBusy => true,
                ErrorKind::NotFound => false,
                // It will not go by waiting.
                _ => {
                    left.push(folder.clone());
                    false
                }
            },
        });
        if busy.is_empty() || until <= Instant::now() {
            left.append(&mut busy);
            return left;
        }
        std::thread::sleep(EMPTY_PERIOD);
    }
}

/// What groups are made for.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// Returns the groups of a name that are where they would be made here.
pub fn of_label(label: &str) -> Vec<PathBuf> {
    hierarchies()
        .iter()
        .filter(|hierarchy| CONTROLLERS.iter().any(|name| hierarchy.may_limit(name)))
        .flat_map(|hierarchy| hierarchy.places())
        .map(|parent| parent.join(label))
        .filter(|folder| folder.is_dir())
        .collect()
}

impl Hierarchy {
    /// Whether a controller lives here; in v2 it shows when a limit is written.
    fn may_limit(&self, controller: &str) -> bool {
        self.is_v2 || self.controllers.iter().any(|name| name == controller)
    }

    /// Where a group could be made, best first. In v2 a group with processes cannot have limited
    /// children, so there it is made beside our own, or below the top if we are root.
    fn parents(&self, controller: &str) -> Vec<PathBuf> {
        let parents = self.places();
        for parent in parents.iter().filter(|_| self.is_v2) {
            let _ = fs::write(
                parent.join("cgroup.subtree_control"),
                format!("+{controller}"),
            );
        }
        parents
    }

    /// The same places, untouched.
    fn places(&self) -> Vec<PathBuf> {
        if !self.is_v2 {
            return vec![self.own.clone(), self.mount.clone()];
        }
        let beside = self.own.parent().filter(|_| self.own != self.mount);
        let beside = beside.map(Path::to_owned).into_iter();
        beside.chain([self.mount.clone()]).collect()
    }
}

fn hierarchies() -> Vec<Hierarchy> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut all: Vec<Hierarchy> = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (mount, kind, options) = (words.nth(1)?, words.next()?, words.next()?);
            hierarchy(mount, kind, options, &own)
        })
        .collect();
    // v1 first: where both are mounted the controllers live there.
    all.sort_by_key(|hierarchy| hierarchy.is_v2);
    all
}

fn hierarchy(mount: &str, kind: &str, options: &str, own: &str) -> Option<Hierarchy> {
    let is_v2 = match kind {
        "cgroup" => false,
        "cgroup2" => true,
        _ => return None,
    };
    let controllers: Vec<String> = options.split(',').map(str::to_owned).collect();
    // Lines of /proc/self/cgroup: number:controllers:path, without controllers for v2.
    let path = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        let ours = match is_v2 {
            true => names.is_empty(),
            false => names
                .split(',')
                .any(|name| !name.is_empty() && controllers.iter().any(|option| option == name)),
        };
        ours.then(|| path.trim_start_matches('/').to_owned())
    })?;
    let mount = PathBuf::from(mount);
    Some(Hierarchy {
        own: mount.join(path),
        mount,
        is_v2,
        controllers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_place_is_found_in_both_versions() {
        let own = "4:memory:/a/b\n1:name=systemd:/\n0::/c\n";
        let v1 = hierarchy("/sys/fs/cgroup/memory", "cgroup", "rw,memory", own).unwrap();
        assert_eq!(v1.own, Path::new("/sys/fs/cgroup/memory/a/b"));
        let v2 = hierarchy("/sys/fs/cgroup", "cgroup2", "rw", own).unwrap();
        assert_eq!(v2.own, Path::new("/sys/fs/cgroup/c"));
        assert!(hierarchy("/", "ext4", "rw", own).is_none());
    }

    #[test]
    fn what_cannot_be_removed_is_told() {
        let top = tempfile::tempdir().unwrap();
        let [gone, empty, full] = ["gone", "empty", "full"].map(|name| top.path().join(name));
        fs::create_dir(&empty).unwrap();
        fs::create_dir_all(full.join("inner")).unwrap();
        let left = remove(&[gone, empty.clone(), full.clone()]);
        assert_eq!(left, [full]);
        assert!(!empty.exists());
    }

    #[test]
    fn groups_are_limited_where_their_controller_lives() {
        let own = "4:memory:/a\n5:devices:/a\n0::/c\n";
        let v1 = hierarchy("/sys/fs/cgroup/memory", "cgroup", "rw,memory", own).unwrap();
        assert!(v1.may_limit("memory") && !v1.may_limit("pids"));
        let top = Path::new("/sys/fs/cgroup");
        assert_eq!(v1.places(), [top.join("memory/a"), top.join("memory")]);
        let devices = hierarchy("/sys/fs/cgroup/devices", "cgroup", "rw,devices", own).unwrap();
        assert!(!CONTROLLERS.iter().any(|name| devices.may_limit(name)));
        let v2 = hierarchy("/sys/fs/cgroup", "cgroup2", "rw", own).unwrap();
        assert!(v2.may_limit("pids"));
        assert_eq!(v2.places(), [top, top]);
    }
}
