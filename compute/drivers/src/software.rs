//! A recipe's software on this machine: made once, kept by digest, shared by all daemons of a
//! machine.
//!
//! ```text
//! software/lock                   held while something is made
//! software/apt/                   apt's folders
//! software/proot/                 shows a tree as the root, where there are no namespaces
//! software/<tree digest>/root     an unpacked tree; immutable once it has this name
//! software/recipe-<digest>/       software.json (tree, packages), prepared/ (data without secrets)
//! ```
//! Everything is made under another name, synced, and renamed: what has its name is whole.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mesh_base::digest::Digest;
use mesh_compute::doors::Doors;
use mesh_compute::recipe::{Recipe, Source};
use mesh_compute::step::Isolation;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::apt::{self, Package};
use crate::error::{At, DriverError};
use crate::files;
use crate::process;
use crate::shim::SHIM;
use crate::slot;
use crate::tree;
use mesh_compute::words::{Ids, Plan, Run, Walled, Walls};

/// The software folder of a machine.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
    exe: PathBuf,
    isolation: Isolation,
}

/// Software that is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Software {
    /// Digest of the tree.
    pub tree: Digest,
    /// The tree.
    pub root: PathBuf,
    /// The initialised data that each instance starts from.
    pub prepared: PathBuf,
    /// Exactly what it was made of.
    pub packages: Vec<Package>,
    /// What keeps its instances apart.
    pub isolation: Isolation,
}

/// What is written beside the prepared data.
#[derive(Serialize, Deserialize)]
struct Card {
    tree: Digest,
    packages: Vec<Package>,
}

impl Store {
    /// Names the folder; `exe` is the program that can act as a shim.
    pub fn new(folder: PathBuf, exe: PathBuf, isolation: Isolation) -> Self {
        Self {
            folder,
            exe,
            isolation,
        }
    }

    /// Returns the walls of an instance; proot must be there if they need it.
    pub fn walls(
        &self,
        label: &str,
        doors: impl FnOnce() -> Result<Doors, DriverError>,
    ) -> Result<Walls, DriverError> {
        Ok(match self.isolation {
            Isolation::Namespaces => Walls::Namespaces,
            Isolation::Process => Walls::Process(Walled {
                tool: self.tool(),
                doors: doors()?,
                run: process::run_folder(label),
            }),
        })
    }

    /// Returns what keeps instances apart here.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    fn tool(&self) -> PathBuf {
        self.folder.join(PROOT)
    }

    /// Unpacks proot if instances here need it and it is not there. The lock must be held.
    fn make_tool(&self, partial: &Path) -> Result<(), DriverError> {
        let tool = self.tool();
        if self.isolation == Isolation::Namespaces || tool.is_dir() {
            return Ok(());
        }
        let fresh = partial.join(PROOT);
        fs::create_dir_all(&fresh).at("create", &fresh)?;
        apt::unpack(&process::proot(), &self.folder.join("apt"), &fresh)?;
        tree::normalise(&fresh)?;
        process::unpack_loader(&fresh)?;
        files::sync_all_under(&fresh)?;
        fs::rename(&fresh, &tool).at("name", &tool)?;
        files::sync_parent(&tool)
    }

    /// Returns the software of a recipe if it is there, with what runs it.
    pub fn find(&self, recipe: &Recipe) -> Option<Software> {
        if self.isolation == Isolation::Process && !self.tool().is_dir() {
            return None;
        }
        let home = self.home(recipe);
        let card: Card = serde_json::from_slice(&fs::read(home.join(CARD)).ok()?).ok()?;
        let root = self.folder.join(card.tree.to_string()).join("root");
        let prepared = home.join(PREPARED);
        (root.is_dir() && prepared.is_dir()).then_some(Software {
            tree: card.tree,
            root,
            prepared,
            packages: card.packages,
            isolation: self.isolation,
        })
    }

    /// Makes the software of a recipe unless it is there; waits for others who make some.
    pub fn make(&self, recipe: &Recipe) -> Result<Software, DriverError> {
        if let Some(software) = self.find(recipe) {
            return Ok(software);
        }
        fs::create_dir_all(&self.folder).at("create", &self.folder)?;
        let _lock = self.lock()?;
        let partial = self.folder.join("partial");
        files::remove(&partial)?;
        self.make_tool(&partial)?;
        // Another daemon may have made it while we waited, or it lacked but what runs it.
        if let Some(software) = self.find(recipe) {
            return Ok(software);
        }
        let (tree, packages) = self.make_tree(recipe, &partial)?;
        let root = self.folder.join(tree.to_string()).join("root");
        let home = partial.join("recipe");
        fs::create_dir_all(&home).at("create", &home)?;
        self.prepare(recipe, &root, &home)?;
        let card = serde_json::to_vec_pretty(&Card {
            tree,
            packages: packages.clone(),
        })
        .map_err(std::io::Error::from)
        .at("write", &home)?;
        files::write_whole(&home.join(CARD), &card, 0o644)?;
        files::sync_all_under(&home)?;
        let target = self.home(recipe);
        files::remove(&target)?;
        fs::rename(&home, &target).at("name", &target)?;
        files::sync_parent(&target)?;
        files::remove(&partial)?;
        Ok(Software {
            tree,
            root,
            prepared: target.join(PREPARED),
            packages,
            isolation: self.isolation,
        })
    }

    fn home(&self, recipe: &Recipe) -> PathBuf {
        self.folder.join(format!("recipe-{}", recipe.digest()))
    }

    fn lock(&self) -> Result<Flock<File>, DriverError> {
        let path = self.folder.join("lock");
        let mut options = File::options();
        let file = options
            .create(true)
            .append(true)
            .open(&path)
            .at("open", &path)?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, error)| error)
            .at("lock", &path)
    }

    fn make_tree(
        &self,
        recipe: &Recipe,
        partial: &Path,
    ) -> Result<(Digest, Vec<Package>), DriverError> {
        let fresh = partial.join("tree");
        let root = fresh.join("root");
        fs::create_dir_all(&root).at("create", &root)?;
        let Source::Debian(debian) = &recipe.source;
        let packages = apt::unpack(debian, &self.folder.join("apt"), &root)?;
        tree::furnish(&root, &recipe.tree, &recipe.data)?;
        tree::normalise(&root)?;
        let digest = tree::digest(&root)?;
        let target = self.folder.join(digest.to_string());
        if target.is_dir() {
            return Ok((digest, packages));
        }
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).at("open up", &fresh)?;
        files::sync_all_under(&fresh)?;
        fs::rename(&fresh, &target).at("name", &target)?;
        files::sync_parent(&target)?;
        Ok((digest, packages))
    }

    /// Runs the recipe's `prepare` commands in a sandbox; leaves the data folder readable for all
    /// who share the software.
    fn prepare(&self, recipe: &Recipe, root: &Path, home: &Path) -> Result<(), DriverError> {
        let data = home.join(PREPARED);
        let mount_point = home.join("root");
        for folder in [&data, &mount_point] {
            files::make_private(folder)?;
        }
        let inner = Ids {
            uid: recipe.user.uid,
            gid: recipe.user.gid,
        };
        let outer = slot::own_ids_or(slot::PREPARE_ID, self.isolation);
        files::set_owner(&data, outer.change())?;
        let none = std::collections::BTreeMap::new();
        let label = format!("meshstead-prepare-{}", recipe.digest().short());
        let commands = recipe
            .prepare
            .iter()
            .map(|command| slot::render(command, &none));
        let plan = Plan {
            folder: home.to_owned(),
            tree: root.to_owned(),
            root: mount_point.clone(),
            data: data.clone(),
            data_inside: recipe.data.clone(),
            hostname: "prepare".to_owned(),
            label: label.clone(),
            address: None,
            inner,
            outer: outer.ids(),
            env: slot::render_all(&recipe.env, &none)?,
            run: Vec::new(),
            ready: None,
            init: commands.collect::<Result<Vec<Run>, _>>()?,
            stop_signal: 0,
            grace_ms: 0,
            memory_mib: recipe.limits.memory_mib.max(1024),
            cpu_millis: recipe.limits.cpu_millis.max(8000),
            pids: recipe.limits.pids,
            cpu_ms_before: 0,
            walls: self.walls(&label, slot::draw_doors)?,
        };
        run_shim(&self.exe, "prepare", &plan)?;
        fs::remove_dir(&mount_point).at("remove", &mount_point)?;
        open_up(&data)
    }
}

const CARD: &str = "software.json";
const PREPARED: &str = "prepared";
const PROOT: &str = "proot";

/// Starts a shim with a plan and waits until it has detached, or ended if it only prepares.
pub(crate) fn run_shim(exe: &Path, mode: &str, plan: &Plan) -> Result<(), DriverError> {
    let mut command = Command::new(exe);
    command.args([SHIM, mode, &plan.hostname, &plan.label]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().doing("start the shim")?;
    let bytes = serde_json::to_vec(plan)
        .map_err(std::io::Error::from)
        .doing("write the plan")?;
    if let Some(mut stdin) = child.stdin.take() {
        // A shim that ended at once says why on its standard error.
        let _ = stdin.write_all(&bytes);
    }
    let output = child.wait_with_output().doing("wait for the shim")?;
    if output.status.success() {
        return Ok(());
    }
    Err(DriverError::Program {
        program: "shim".to_owned(),
        how: output.status.to_string(),
        said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// Gives a prepared folder to our own user and lets everyone read it.
fn open_up(folder: &Path) -> Result<(), DriverError> {
    let own = slot::Outer::Own.ids();
    let is_root = nix::unistd::geteuid().is_root();
    let mut each = |path: &Path, metadata: &fs::Metadata| {
        if is_root {
            files::set_owner(path, Some(own))?;
        }
        if metadata.is_symlink() {
            return Ok(());
        }
        let mode = metadata.permissions().mode();
        let all = if metadata.is_dir() {
            0o755
        } else {
            0o644 | ((mode & 0o100) / 0o100 * 0o111)
        };
        fs::set_permissions(path, fs::Permissions::from_mode(all)).at("set the mode of", path)
    };
    let metadata = fs::symlink_metadata(folder).at("look at", folder)?;
    each(folder, &metadata)?;
    files::walk(folder, &mut each)
}
