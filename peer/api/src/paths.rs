//! Where a node's home and socket are, from what the environment says.
//!
//! Pure: the caller reads the environment and passes it. The order of a flag and `MESHSTEAD_HOME`
//! is the caller's too. Invariant: a home that is named is never left for another.

use std::path::{Path, PathBuf};

/// The socket's file name in a home, and in the run folder of a system-wide node.
pub const SOCKET: &str = "meshnode.sock";

/// Where a system-wide node keeps its state.
pub const HOME_SYSTEM: &str = "/var/lib/meshstead";

/// Where a system-wide node's socket is linked for everyone who may use it.
pub const RUN_SYSTEM: &str = "/run/meshstead";

/// What the environment says about homes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// `--home` or `MESHSTEAD_HOME`.
    pub named: Option<PathBuf>,
    /// `XDG_DATA_HOME`, if it is absolute.
    pub xdg_data: Option<PathBuf>,
    /// `HOME`.
    pub user_home: Option<PathBuf>,
    /// Whether the caller is root.
    pub root: bool,
}

impl Surroundings {
    /// Returns the home of the node that this user runs.
    pub fn home(&self) -> PathBuf {
        if let Some(named) = &self.named {
            return named.clone();
        }
        if self.root {
            return PathBuf::from(HOME_SYSTEM);
        }
        self.user_data()
            .unwrap_or_else(|| PathBuf::from(HOME_SYSTEM))
    }

    /// Returns where to look for a socket, the best place first; never empty.
    pub fn sockets(&self) -> Vec<PathBuf> {
        if let Some(named) = &self.named {
            return vec![named.join(SOCKET)];
        }
        let system = [RUN_SYSTEM, HOME_SYSTEM].map(|folder| Path::new(folder).join(SOCKET));
        let own = self.user_data().map(|home| home.join(SOCKET));
        if self.root {
            return system.into_iter().chain(own).collect();
        }
        own.into_iter().chain(system).collect()
    }

    fn user_data(&self) -> Option<PathBuf> {
        let xdg = self
            .xdg_data
            .as_ref()
            .filter(|folder| folder.is_absolute())
            .cloned();
        let data = xdg.or_else(|| Some(self.user_home.as_ref()?.join(".local/share")))?;
        Some(data.join("meshstead"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(surroundings: &Surroundings, home: &str, first: &str, count: usize) {
        assert_eq!(surroundings.home(), Path::new(home));
        let sockets = surroundings.sockets();
        assert_eq!(sockets.first().unwrap(), Path::new(first));
        assert_eq!(sockets.len(), count);
    }

    #[test]
    fn named_home_is_the_only_one() {
        let surroundings = Surroundings {
            named: Some("/h".into()),
            user_home: Some("/home/u".into()),
            root: true,
            ..Surroundings::default()
        };
        check(&surroundings, "/h", "/h/meshnode.sock", 1);
    }

    #[test]
    fn root_has_the_system_wide_home() {
        let surroundings = Surroundings {
            user_home: Some("/root".into()),
            root: true,
            ..Surroundings::default()
        };
        check(
            &surroundings,
            "/var/lib/meshstead",
            "/run/meshstead/meshnode.sock",
            3,
        );
    }

    #[test]
    fn user_has_a_home_among_their_data() {
        let mut user = Surroundings {
            user_home: Some("/home/u".into()),
            ..Surroundings::default()
        };
        let home = "/home/u/.local/share/meshstead";
        check(&user, home, &format!("{home}/meshnode.sock"), 3);
        user.xdg_data = Some("/data".into());
        check(&user, "/data/meshstead", "/data/meshstead/meshnode.sock", 3);
        user.xdg_data = Some("relative".into());
        check(&user, home, &format!("{home}/meshnode.sock"), 3);
    }

    #[test]
    fn nobody_without_a_home_falls_back_to_the_system() {
        check(
            &Surroundings::default(),
            HOME_SYSTEM,
            "/run/meshstead/meshnode.sock",
            2,
        );
    }
}
