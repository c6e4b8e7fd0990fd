//! The folders that an instance without namespaces is given, and what a path leads to among them.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Its path inside, without a slash at the end.
    pub inside: PathBuf,
    /// Where that is.
    pub outside: PathBuf,
}

/// In whose words a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The instance's.
    Inside,
    /// The machine's.
    Outside,
}

/// Finds the folder in which an absolute path lies, the deepest of them, and what is left of the
/// path; `..` is followed by name.
pub fn place<'a>(folders: &'a [Folder], path: &Path, side: Side) -> Option<(&'a Path, PathBuf)> {
    let mut names: Vec<&OsStr> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::ParentDir => drop(names.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    let path: PathBuf = Path::new("/").join(names.iter().collect::<PathBuf>());
    let found = folders.iter().filter_map(|folder| {
        let start = match side {
            Side::Inside => &folder.inside,
            Side::Outside => &folder.outside,
        };
        let rest = path.strip_prefix(start).ok()?;
        let rest = if rest.as_os_str().is_empty() {
            Path::new(".")
        } else {
            rest
        };
        let depth = start.as_os_str().len();
        Some((depth, folder.outside.as_path(), rest.to_owned()))
    });
    let (_, outside, rest) = found.max_by_key(|(depth, ..)| *depth)?;
    Some((outside, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders() -> Vec<Folder> {
        let pair = |inside: &str, outside: &str| Folder {
            inside: inside.into(),
            outside: outside.into(),
        };
        vec![pair("/data", "/host/data"), pair("/data/tmp", "/host/tmp")]
    }

    #[test]
    fn path_is_found_in_the_folder_that_holds_it() {
        let folders = folders();
        let placed = |path: &str| {
            let found = place(&folders, Path::new(path), Side::Inside);
            found.map(|(base, rest)| (base.to_owned(), rest))
        };
        let at = |base: &str, rest: &str| Some((PathBuf::from(base), PathBuf::from(rest)));
        assert_eq!(placed("/data/a/b"), at("/host/data", "a/b"));
        assert_eq!(placed("/data/tmp/s"), at("/host/tmp", "s"));
        assert_eq!(placed("/data"), at("/host/data", "."));
        assert_eq!(placed("/data/../data/./s"), at("/host/data", "s"));
        for outside in [
            "/",
            "/etc/passwd",
            "/data/../run/s",
            "/database/s",
            "/../../x",
        ] {
            assert_eq!(placed(outside), None, "{outside}");
        }
        let known = place(&folders, Path::new("/host/tmp/../data/s"), Side::Outside);
        assert_eq!(known, Some((Path::new("/host/data"), "s".into())));
        assert_eq!(place(&folders, Path::new("/host/s"), Side::Outside), None);
    }
}
