//! Copies of prepared data, made and synced before anyone orders: an order only renames one.
//!
//! A spare already belongs to the user that its instance will have, so nothing is left to do but to
//! give it its name.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use mesh_compute::recipe::Recipe;

use crate::error::{At, DriverError};
use crate::files;
use crate::remote::lock;
use crate::slot;
use crate::software::Software;

/// So many wait per recipe: a few orders in a row are common, and each costs the size of an empty
/// service.
const SPARES: usize = 3;
/// How often an order looks for the spare that is being made.
const LOOK_PERIOD: Duration = Duration::from_millis(5);
const PARTIAL: &str = ".partial";

/// The spares of one daemon.
#[derive(Debug, Clone)]
pub struct Spares {
    folder: PathBuf,
    /// Held by the one who fills: two would make too many.
    filling: Arc<Mutex<()>>,
}

impl Spares {
    /// Names the folder; it must lie on the file system of the instances.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            filling: Arc::default(),
        }
    }

    /// Removes what an earlier daemon began and did not finish.
    pub fn clear_partial(&self) -> Result<(), DriverError> {
        for recipe in list(&self.folder) {
            for spare in list(&recipe) {
                if spare.to_string_lossy().ends_with(PARTIAL) {
                    files::remove(&spare)?;
                }
            }
        }
        Ok(())
    }

    /// Gives a folder with fresh data and a mount point the name `target`.
    pub fn take(
        &self,
        recipe: &Recipe,
        software: &Software,
        target: &Path,
    ) -> Result<(), DriverError> {
        loop {
            for spare in self.ready(recipe) {
                // Another order may take the same one first.
                if fs::rename(&spare, target).is_ok() {
                    return Ok(());
                }
            }
            // A spare that is being made is done sooner than a copy that competes with it.
            let filling = match self.filling.try_lock() {
                Err(TryLockError::WouldBlock) => None,
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Ok(filling) => Some(filling),
            };
            if let Some(_filling) = filling {
                make(software, target)?;
                return files::sync_all_under(target);
            }
            std::thread::sleep(LOOK_PERIOD);
        }
    }

    /// Makes spares until enough wait, or until `go_on` says no.
    pub fn fill(
        &self,
        recipe: &Recipe,
        software: &Software,
        go_on: impl Fn() -> bool,
    ) -> Result<(), DriverError> {
        let _filling = lock(&self.filling);
        let home = self.home(recipe);
        files::make_private(&home)?;
        while go_on() && self.ready(recipe).len() < SPARES {
            let number = u64::from_le_bytes(slot::random()?);
            let partial = home.join(format!("{number:016x}{PARTIAL}"));
            make(software, &partial)?;
            files::sync_all_under(&partial)?;
            let ready = home.join(format!("{number:016x}"));
            fs::rename(&partial, &ready).at("name", &ready)?;
        }
        Ok(())
    }

    /// Waits until nobody fills.
    pub fn settle(&self) {
        drop(lock(&self.filling));
    }

    fn home(&self, recipe: &Recipe) -> PathBuf {
        self.folder.join(recipe.digest().to_string())
    }

    fn ready(&self, recipe: &Recipe) -> Vec<PathBuf> {
        let mut all = list(&self.home(recipe));
        all.retain(|spare| !spare.to_string_lossy().ends_with(PARTIAL));
        all
    }
}

/// Makes a folder with a copy of the prepared data, for a user of its own.
fn make(software: &Software, target: &Path) -> Result<(), DriverError> {
    files::make_private(target)?;
    let owner = slot::draw_outer(software.isolation)?.change();
    files::copy_private(&software.prepared, &target.join("data"), owner)?;
    files::make_private(&target.join("root"))
}

fn list(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect()
}
