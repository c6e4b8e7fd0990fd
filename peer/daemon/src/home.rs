//! Where one node keeps its things: a folder named by `--home`, by `MESHSTEAD_HOME` or by custom.
//!
//! ```text
//! HOME/config.toml      settings (optional)      HOME/journal/         the only copy of the truth
//! HOME/keys/node.key    0600                     HOME/index/           may be deleted at any time
//! HOME/keys/org-root.key  0600, only after init  HOME/instances/       slots of running services
//! HOME/ports.toml       ports that were chosen   HOME/software/        unpacked software
//! HOME/meshnode.sock    local API, 0600          HOME/meshnode.log     of a detached daemon
//! HOME/meshnode.lock    held while it runs; holds its process id
//! ```
//! Invariant: the folder and everything that is made here is closed to other users.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mesh_api::Request;
use mesh_api::paths::{SOCKET, Surroundings};
use nix::fcntl::{Flock, FlockArg};

use crate::ask::ask;

/// Name of the lock file.
const LOCK: &str = "meshnode.lock";

/// How long a daemon that does not answer any more may take to end.
const ENDING_WAIT: Duration = Duration::from_secs(4);
/// How often the lock is looked at meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// A node's folder.
#[derive(Debug, Clone)]
pub struct Home(PathBuf);

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// A folder could not be made.
    #[error("cannot make the folder {path}")]
    Make {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The lock file could not be opened or written.
    #[error("cannot use the lock file {path}")]
    Lock {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another daemon runs on this folder.
    #[error("a daemon already runs on {home} (process {pid})")]
    Busy {
        /// The folder.
        home: PathBuf,
        /// Its process, zero if it has not said so yet.
        pid: i32,
    },
}

impl Home {
    /// Finds the folder: what the user said, else the system's for root, else the user's own.
    pub fn locate(said: Option<PathBuf>) -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let surroundings = Surroundings {
            named: said,
            xdg_data: variable("XDG_DATA_HOME").map(PathBuf::from),
            user_home: variable("HOME").map(PathBuf::from),
            root: nix::unistd::geteuid().is_root(),
        };
        let path = surroundings.home();
        // An absolute path stays right for the detached daemon, whatever its working folder.
        Self(std::path::absolute(&path).unwrap_or(path))
    }

    /// Makes the folder and those inside it that a daemon needs.
    pub fn prepare(&self) -> Result<(), HomeError> {
        for path in [self.path(), &self.keys(), &self.instances()] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(|source| HomeError::Make {
                    path: path.to_owned(),
                    source,
                })?;
        }
        Ok(())
    }

    /// Returns the folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the settings file.
    pub fn config(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    /// Returns the folder of keys.
    pub fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    /// Returns the file of the node's secret key.
    pub fn node_key(&self) -> PathBuf {
        self.0.join("keys/node.key")
    }

    /// Returns the file of the organisation's secret root key.
    pub fn org_root_key(&self) -> PathBuf {
        self.0.join("keys/org-root.key")
    }

    /// Returns the journal's folder.
    pub fn journal(&self) -> PathBuf {
        self.0.join("journal")
    }

    /// Returns the index's folder.
    pub fn index(&self) -> PathBuf {
        self.0.join("index")
    }

    /// Returns the folder of instances.
    pub fn instances(&self) -> PathBuf {
        self.0.join("instances")
    }

    /// Returns the folder in which the traffic of instances is remembered.
    pub fn traffic(&self) -> PathBuf {
        self.0.join("traffic")
    }

    /// Returns the folder of recipes that the owner added.
    pub fn recipes(&self) -> PathBuf {
        self.0.join("recipes")
    }

    /// Returns the file that remembers chosen ports.
    pub fn ports(&self) -> PathBuf {
        self.0.join("ports.toml")
    }

    /// Returns the file that remembers loopback ports of services.
    pub fn forwards(&self) -> PathBuf {
        self.0.join("forwards.json")
    }

    /// Returns the file that tells programs in the namespace whom to ask for names.
    pub fn resolver(&self) -> PathBuf {
        self.0.join("resolv.conf")
    }

    /// Returns the local API's socket.
    pub fn socket(&self) -> PathBuf {
        self.0.join(SOCKET)
    }

    /// Returns the log of a detached daemon.
    pub fn log(&self) -> PathBuf {
        self.0.join("meshnode.log")
    }

    /// Returns the process of the daemon that runs on this folder; none if no daemon does.
    pub fn holder(&self) -> Result<Option<i32>, HomeError> {
        if !self.0.join(LOCK).exists() {
            return Ok(None);
        }
        match self.lock_file()? {
            (_, Ok(_)) => Ok(None),
            (_, Err(pid)) => Ok(Some(pid)),
        }
    }

    /// Takes the lock that keeps a second daemon away; it lasts as long as the returned value.
    pub fn lock(&self) -> Result<Lock, HomeError> {
        let deadline = Instant::now() + ENDING_WAIT;
        // A daemon that was killed holds the lock, and even its socket, until the kernel has put
        // everything away; one that lives answers there.
        let (path, held) = loop {
            let (path, held) = self.lock_file()?;
            if held.is_ok() || deadline < Instant::now() || self.is_answered() {
                break (path, held);
            }
            std::thread::sleep(LOOK_INTERVAL);
        };
        let mut held = held.map_err(|pid| HomeError::Busy {
            home: self.0.clone(),
            pid,
        })?;
        let failed = |source| HomeError::Lock {
            path: path.clone(),
            source,
        };
        held.set_len(0).map_err(failed)?;
        held.rewind().map_err(failed)?;
        writeln!(held, "{}", std::process::id()).map_err(failed)?;
        Ok(Lock { _held: held })
    }

    /// Waits a moment for a daemon that is ending; returns the process of one that is not.
    pub fn holder_settled(&self) -> Result<Option<i32>, HomeError> {
        match self.lock() {
            Ok(_) => Ok(None),
            Err(HomeError::Busy { pid, .. }) => Ok(Some(pid)),
            Err(error) => Err(error),
        }
    }

    fn is_answered(&self) -> bool {
        ask(&self.socket(), &Request::Status).is_ok()
    }

    /// Tries the lock: the locked file, or the process that holds it.
    fn lock_file(&self) -> Result<(PathBuf, Result<Flock<File>, i32>), HomeError> {
        let path = self.0.join(LOCK);
        let failed = |source| HomeError::Lock {
            path: path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => Ok((path, Ok(held))),
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                Ok((path, Err(text.trim().parse().unwrap_or(0))))
            }
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }
}

/// The right to run the daemon of a home; given back when dropped or when the process ends.
#[derive(Debug)]
pub struct Lock {
    _held: Flock<File>,
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn second_lock_is_refused_and_names_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::locate(Some(folder.path().to_owned()));
        home.prepare().unwrap();
        assert_eq!(home.holder().unwrap(), None);
        let held = home.lock().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let refused = home.lock().unwrap_err();
        assert!(
            matches!(refused, HomeError::Busy { pid, .. } if pid == own),
            "{refused}"
        );
        assert_eq!(home.holder().unwrap(), Some(own));
        drop(held);
        home.lock().unwrap();
    }

    #[test]
    fn dying_daemon_whose_socket_is_open_still_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::locate(Some(folder.path().to_owned()));
        home.prepare().unwrap();
        let held = home.lock().unwrap();
        let socket = UnixListener::bind(home.socket()).unwrap();
        std::thread::scope(|scope| {
            let starting = scope.spawn(|| home.lock().map(drop));
            // Whoever waits has asked; nobody answers, and then all of it goes.
            let (asked, _) = socket.accept().unwrap();
            drop((socket, asked, held));
            starting.join().unwrap().unwrap();
        });
    }
}
