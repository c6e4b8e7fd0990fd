//! The folder of one instance: what is in it, whose it is, and how a plan comes out of it.
//!
//! ```text
//! instances/<item>/spec.json      what was ordered, with the values still needed (0600)
//! instances/<item>/doors.json     where it listens, if it has no network of its own
//! instances/<item>/data/          the data folder; belongs to the instance's user
//! instances/<item>/root/          mount point, used inside the sandbox only
//! instances/<item>/status.json    written by the shim: how far, how it ended
//! instances/<item>/shim.sock      the shim's door
//! instances/<item>/log.*          what it printed
//! ```
//! A slot is made under another name and renamed: what has its name is whole.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mesh_base::digest::Digest;
use mesh_compute::doors::Doors;
use mesh_compute::recipe::{Command, Recipe, Signal};
use mesh_compute::step::{InstanceSpec, Isolation, ItemId};
use mesh_compute::template::{Template, TemplateError};

use crate::error::{At, DriverError};
use crate::files;
use crate::software::Software;
use mesh_compute::words::{self, Ids, Plan, Ready, Run, STATUS, State, Status, Walls};

/// First of the user ids that instances get when we are root: above what distributions hand out.
const IDS_FIRST: u32 = 2_000_000_000;
/// So many ids are drawn from; two instances of one machine hardly ever meet.
const IDS_COUNT: u32 = 100_000_000;
/// The user that `prepare` commands run as when we are root.
pub const PREPARE_ID: u32 = IDS_FIRST - 1;

const SPEC: &str = "spec.json";
const DOORS: &str = "doors.json";

/// The slot of one instance.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Its folder.
    pub folder: PathBuf,
}

/// Whom an instance is outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outer {
    /// Ourselves: we cannot be anyone else.
    Own,
    /// A user of its own.
    Other(Ids),
}

impl Outer {
    /// Returns the ids.
    pub fn ids(self) -> Ids {
        match self {
            Self::Own => Ids {
                uid: nix::unistd::geteuid().as_raw(),
                gid: nix::unistd::getegid().as_raw(),
            },
            Self::Other(ids) => ids,
        }
    }

    /// Returns whom files have to be given to.
    pub fn change(self) -> Option<Ids> {
        match self {
            Self::Own => None,
            Self::Other(ids) => Some(ids),
        }
    }
}

/// Returns a user of that id if we are root and the id exists here, else ourselves. Without
/// namespaces ourselves: whom the shim supervises must be of its own user.
pub fn own_ids_or(id: u32, isolation: Isolation) -> Outer {
    let mapped = |file: &str| {
        let map = fs::read_to_string(file).unwrap_or_default();
        map.lines().any(|line| {
            let mut words = line
                .split_whitespace()
                .map(|word| word.parse::<u32>().unwrap_or(0));
            let (first, _, count) = (words.next(), words.next(), words.next());
            let (first, count) = (first.unwrap_or(0), count.unwrap_or(0));
            (first..first.saturating_add(count)).contains(&id)
        })
    };
    let root = nix::unistd::geteuid().is_root() && isolation == Isolation::Namespaces;
    if root && mapped("/proc/self/uid_map") && mapped("/proc/self/gid_map") {
        return Outer::Other(Ids { uid: id, gid: id });
    }
    Outer::Own
}

/// Draws the user of a new instance.
pub fn draw_outer(isolation: Isolation) -> Result<Outer, DriverError> {
    let number = u32::from_le_bytes(random()?);
    Ok(own_ids_or(IDS_FIRST + number % IDS_COUNT, isolation))
}

/// Draws the doors of an instance.
pub fn draw_doors() -> Result<Doors, DriverError> {
    Ok(Doors::drawn(u32::from_le_bytes(random()?)))
}

/// Returns random bytes of the system.
pub fn random<const LEN: usize>() -> Result<[u8; LEN], DriverError> {
    let mut bytes = [0; LEN];
    let mut source = fs::File::open("/dev/urandom").doing("open the random source")?;
    source
        .read_exact(&mut bytes)
        .doing("read the random source")?;
    Ok(bytes)
}

impl Slot {
    /// Names the slot of an item.
    pub fn of(instances: &Path, item: ItemId) -> Self {
        Self {
            folder: instances.join(item.0.to_string()),
        }
    }

    /// Lists the items that have a slot.
    pub fn list(instances: &Path) -> Result<Vec<ItemId>, DriverError> {
        let mut items = Vec::new();
        for entry in fs::read_dir(instances).at("list", instances)? {
            let name = entry.at("list", instances)?.file_name();
            items.extend(
                name.to_str()
                    .and_then(|name| name.parse::<Digest>().ok())
                    .map(ItemId),
            );
        }
        items.sort_unstable();
        Ok(items)
    }

    /// Returns whether the slot is there.
    pub fn exists(&self) -> bool {
        self.folder.join(SPEC).is_file()
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Reads what was ordered.
    pub fn spec(&self) -> Result<InstanceSpec, DriverError> {
        let path = self.folder.join(SPEC);
        let bytes = fs::read(&path).at("read", &path)?;
        words::read(&bytes).map_err(|source| DriverError::Damaged { path, source })
    }

    /// Writes what was ordered.
    pub fn write_spec(&self, spec: &InstanceSpec) -> Result<(), DriverError> {
        let path = self.folder.join(SPEC);
        let bytes = serde_json::to_vec(spec)
            .map_err(std::io::Error::from)
            .at("write", &path)?;
        files::write_whole(&path, &bytes, 0o600)
    }

    /// Returns the doors of the instance, drawn when they are first asked for.
    pub fn doors(&self) -> Result<Doors, DriverError> {
        let path = self.folder.join(DOORS);
        let known = fs::read(&path).ok();
        if let Some(doors) = known.and_then(|bytes| words::read(&bytes).ok()) {
            return Ok(doors);
        }
        let doors = draw_doors()?;
        let bytes = serde_json::to_vec(&doors).map_err(std::io::Error::from);
        files::write_whole(&path, &bytes.at("write", &path)?, 0o600)?;
        Ok(doors)
    }

    /// Reads what the shim left; none if it was never started.
    pub fn status(&self) -> Option<Status> {
        words::read(&fs::read(self.folder.join(STATUS)).ok()?).ok()
    }

    /// Returns how the last run ended, as far as it can be known without a living shim.
    pub fn last_words(&self) -> String {
        match self.status() {
            None => "never started".to_owned(),
            Some(status) if status.state == State::Stopped => status.how,
            Some(status) if status.boot != crate::shim::boot_id() => "reboot".to_owned(),
            Some(_) => "its shim was killed".to_owned(),
        }
    }

    /// Returns who owns the data.
    pub fn outer(&self) -> Result<Ids, DriverError> {
        let data = self.data();
        let metadata = fs::metadata(&data).at("look at", &data)?;
        Ok(Ids {
            uid: metadata.uid(),
            gid: metadata.gid(),
        })
    }

    /// Writes the recipe's files into the data folder.
    pub fn write_files(&self, recipe: &Recipe, spec: &InstanceSpec) -> Result<(), DriverError> {
        let owner = Some(self.outer()?).filter(|_| nix::unistd::geteuid().is_root());
        let values = values_inside(recipe, spec);
        for (path, template) in &recipe.files {
            let inside = path
                .strip_prefix(&recipe.data)
                .unwrap_or(path)
                .trim_start_matches('/');
            let target = self.data().join(inside);
            let _ = fs::remove_file(&target);
            files::write_whole(&target, template.fill(&values)?.as_bytes(), 0o600)?;
            files::set_owner(&target, owner)?;
        }
        Ok(())
    }

    /// Returns the plan for a start.
    pub fn plan(
        &self,
        recipe: &Recipe,
        spec: &InstanceSpec,
        software: &Software,
        walls: Walls,
    ) -> Result<Plan, DriverError> {
        let values = values_inside(recipe, spec);
        let status = self.status();
        let initialised = status.as_ref().is_some_and(|status| status.initialised);
        let init = recipe.init.iter().filter(|_| !initialised);
        Ok(Plan {
            folder: self.folder.clone(),
            tree: software.root.clone(),
            root: self.folder.join("root"),
            data: self.data(),
            data_inside: recipe.data.clone(),
            hostname: spec.name.clone(),
            label: label(spec.item),
            address: Some(spec.address),
            inner: Ids {
                uid: recipe.user.uid,
                gid: recipe.user.gid,
            },
            outer: self.outer()?,
            env: render_all(&recipe.env, &values)?,
            run: recipe
                .run
                .iter()
                .map(|word| word.fill(&values))
                .collect::<Result<_, _>>()?,
            ready: recipe.ready.as_ref().map(|ready| Ready {
                path: ready.path.clone(),
                contains: ready.contains.clone(),
                timeout_ms: ready.timeout_ms,
            }),
            init: init
                .map(|command| render(command, &values))
                .collect::<Result<_, _>>()?,
            stop_signal: number_of(recipe.stop.signal),
            grace_ms: recipe.stop.grace_ms,
            memory_mib: spec.memory_mib,
            cpu_millis: spec.cpu_millis,
            pids: spec.pids,
            cpu_ms_before: status.map_or(0, |status| status.cpu_ms),
            walls,
        })
    }
}

/// Names the control groups of an item.
pub fn label(item: ItemId) -> String {
    format!("meshstead-{}", item.0.short())
}

/// Returns everything that a hole inside may name.
pub fn values_inside(recipe: &Recipe, spec: &InstanceSpec) -> BTreeMap<String, String> {
    let mut values = spec.values.clone();
    values.extend(recipe.port_values());
    let stem = spec.name.split('-').next().unwrap_or_default();
    values.insert("name_stem".to_owned(), stem.to_owned());
    values.insert("name".to_owned(), spec.name.clone());
    values.insert("address".to_owned(), spec.address.to_string());
    values.insert("memory_mib".to_owned(), spec.memory_mib.to_string());
    values
}

/// Fills the holes of a command.
pub fn render(command: &Command, values: &BTreeMap<String, String>) -> Result<Run, TemplateError> {
    let stdin = command
        .stdin
        .as_ref()
        .map(|text| text.fill(values))
        .transpose()?;
    Ok(Run {
        argv: command
            .argv
            .iter()
            .map(|word| word.fill(values))
            .collect::<Result<_, _>>()?,
        stdin: stdin.unwrap_or_default(),
        timeout_ms: command.timeout_ms,
    })
}

/// Fills the holes of named texts.
pub fn render_all(
    texts: &BTreeMap<String, Template>,
    values: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, TemplateError> {
    texts
        .iter()
        .map(|(name, text)| Ok((name.clone(), text.fill(values)?)))
        .collect()
}

fn number_of(signal: Signal) -> i32 {
    match signal {
        Signal::Term => libc::SIGTERM,
        Signal::Interrupt => libc::SIGINT,
        Signal::Quit => libc::SIGQUIT,
        Signal::Hangup => libc::SIGHUP,
    }
}
