//! Debian packages by extraction: apt with folders of our own, no maintainer scripts, nothing
//! installed.
//!
//! The machine's sources, proxies and trusted keys are honoured and only read; apt checks
//! signatures and hashes. Dependencies are resolved as for a machine on which nothing is installed.
//! A machine whose sources lack the recipe's release is told to add them: no archive is built in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use mesh_compute::recipe::Debian;
use serde::{Deserialize, Serialize};

use crate::error::{At, DriverError};
use crate::files;

/// One package of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its exact version.
    pub version: String,
    /// Name of the archive file.
    pub file: String,
    /// Digest of the archive file, as signed by the distribution.
    pub hash: String,
}

/// Top-level folders that are links in every current release.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Fetches what a recipe wants and unpacks it below `root`, which must not exist yet.
pub fn unpack(debian: &Debian, work: &Path, root: &Path) -> Result<Vec<Package>, DriverError> {
    let apt = Apt::prepare(debian, work)?;
    let packages = apt.resolve(debian)?;
    let archives = work.join("archives");
    files::remove(&archives)?;
    fs::create_dir_all(&archives).at("create", &archives)?;
    let packages = apt.fetch(&packages, &archives)?;
    for top in MERGED {
        let folder = root.join("usr").join(top);
        fs::create_dir_all(&folder).at("create", &folder)?;
        let link = root.join(top);
        std::os::unix::fs::symlink(Path::new("usr").join(top), &link).at("create", &link)?;
    }
    for package in &packages {
        extract(&archives.join(&package.file), root, &debian.drop)?;
    }
    files::remove(&archives)?;
    Ok(packages)
}

struct Apt {
    configuration: PathBuf,
    environment: Vec<(&'static str, &'static str)>,
}

/// A package as the resolver names it.
struct Wanted {
    name: String,
    version: String,
}

impl Apt {
    /// Makes our folders and brings the lists up to date; old lists do if the archive is away.
    fn prepare(debian: &Debian, work: &Path) -> Result<Self, DriverError> {
        for folder in ["state/lists/partial", "cache/archives/partial", "empty"] {
            let folder = work.join(folder);
            fs::create_dir_all(&folder).at("create", &folder)?;
        }
        let status = work.join("state/status");
        fs::write(&status, "").at("write", &status)?;
        let preferences = work.join("preferences");
        fs::write(&preferences, preferences_text(&debian.suite)).at("write", &preferences)?;
        let configuration = work.join("apt.conf");
        let apt = Self {
            configuration,
            environment: vec![("LC_ALL", "C"), ("DEBIAN_FRONTEND", "noninteractive")],
        };
        apt.configure(work)?;
        if !apt.machine_has(&debian.suite) {
            let suite = debian.suite.clone();
            return Err(DriverError::NoSuite { suite });
        }
        if let Err(error) = apt.run(&["-q", "update"], work)
            && !has_lists(&work.join("state/lists"), &debian.suite)
        {
            return Err(error);
        }
        Ok(apt)
    }

    /// Writes the configuration that is read after the machine's own.
    fn configure(&self, work: &Path) -> Result<(), DriverError> {
        let text = configuration_text(work);
        fs::write(&self.configuration, text).at("write", &self.configuration)
    }

    fn machine_has(&self, suite: &str) -> bool {
        let addresses = self
            .run(&["update", "--print-uris"], Path::new("/"))
            .unwrap_or_default();
        addresses.contains(&format!("/dists/{suite}/"))
    }

    fn run(&self, arguments: &[&str], folder: &Path) -> Result<String, DriverError> {
        let mut command = Command::new("apt-get");
        command
            .arg("-c")
            .arg(&self.configuration)
            .args(arguments)
            .current_dir(folder);
        command.envs(self.environment.iter().copied());
        output_of(command, "apt-get")
    }

    /// Returns every package that the wanted ones need on an empty machine, without the excluded.
    fn resolve(&self, debian: &Debian) -> Result<Vec<Wanted>, DriverError> {
        let mut arguments = vec!["-q", "-y", "-s", "--no-install-recommends", "install"];
        arguments.extend(debian.packages.iter().map(String::as_str));
        let plan = self.run(&arguments, Path::new("/"))?;
        let mut wanted: Vec<Wanted> = plan.lines().filter_map(parse_inst).collect();
        wanted.retain(|package| {
            !debian
                .without
                .iter()
                .any(|pattern| covers(pattern, &package.name))
        });
        wanted.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(wanted)
    }

    /// Downloads packages into a folder; apt checks what arrives.
    fn fetch(&self, wanted: &[Wanted], archives: &Path) -> Result<Vec<Package>, DriverError> {
        let pinned: Vec<String> = wanted
            .iter()
            .map(|package| format!("{}={}", package.name, package.version))
            .collect();
        let mut arguments = vec!["-q", "download", "--print-uris"];
        arguments.extend(pinned.iter().map(String::as_str));
        let uris = self.run(&arguments, archives)?;
        arguments.retain(|argument| *argument != "--print-uris");
        self.run(&arguments, archives)?;
        let mut packages = Vec::new();
        for (file, hash) in uris.lines().filter_map(parse_uri) {
            // name_version_architecture.deb, with a colon written as %3a.
            let mut words = file.split('_');
            let name = words.next().unwrap_or_default().to_owned();
            let version = words.next().unwrap_or_default().replace("%3a", ":");
            packages.push(Package {
                name,
                version,
                file: file.to_owned(),
                hash: hash.to_owned(),
            });
        }
        Ok(packages)
    }
}

/// Reads a line `Inst name (version source [architecture])` of a simulated installation.
fn parse_inst(line: &str) -> Option<Wanted> {
    let mut words = line.strip_prefix("Inst ")?.split(' ');
    let name = words.next()?;
    let version = words.find_map(|word| word.strip_prefix('('))?;
    Some(Wanted {
        name: name.to_owned(),
        version: version.to_owned(),
    })
}

/// Reads a line `'address' file size hash`.
fn parse_uri(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.strip_prefix('\'')?.split_once("' ")?;
    let mut words = rest.split(' ');
    Some((words.next()?, words.nth(1)?))
}

fn covers(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

/// Only the distribution's own packages of one release: other archives that the machine knows stay
/// out. The first entry that fits counts, so the refusal of the rest stands last.
fn preferences_text(suite: &str) -> String {
    let mut text = String::new();
    for part in ["", "-updates", "-security"] {
        text +=
            &format!("Package: *\nPin: release o=Debian, n={suite}{part}\nPin-Priority: 990\n\n");
    }
    text + "Package: *\nPin: release o=*\nPin-Priority: -1\n"
}

fn configuration_text(work: &Path) -> String {
    let place = |name: &str| work.join(name).display().to_string();
    let mut text = format!(
        "Dir::State \"{state}\";\nDir::State::Lists \"{lists}\";\n\
         Dir::State::status \"{status}\";\n\
         Dir::Cache \"{cache}\";\nDir::Cache::Archives \"{archives}\";\n\
         Dir::Etc::Preferences \"{preferences}\";\nDir::Etc::PreferencesParts \"{empty}\";\n\
         Debug::NoLocking \"true\";\nAPT::Sandbox::User \"\";\nAcquire::Languages \"none\";\n\
         APT::Install-Recommends \"false\";\nAPT::Get::AllowUnauthenticated \"false\";\n\
         Acquire::AllowInsecureRepositories \"false\";\nDpkg::Use-Pty \"false\";\n\
         #clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n\
         #clear APT::Update::Pre-Invoke;\n#clear DPkg::Post-Invoke;\n#clear DPkg::Pre-Invoke;\n",
        state = place("state"),
        lists = place("state/lists"),
        status = place("state/status"),
        cache = place("cache"),
        archives = place("cache/archives"),
        preferences = place("preferences"),
        empty = place("empty"),
    );
    // Lists that some machines fetch for graphical package browsers; we only need packages.
    for target in [
        "DEP-11",
        "DEP-11-icons",
        "DEP-11-icons-small",
        "DEP-11-icons-hidpi",
        "DEP-11-icons-large",
        "DEP-11-icons-large-hidpi",
        "Contents-deb",
        "Contents-udeb",
        "Contents-deb-legacy",
    ] {
        text += &format!("Acquire::IndexTargets::deb::{target}::DefaultEnabled \"false\";\n");
    }
    text
}

fn has_lists(lists: &Path, suite: &str) -> bool {
    let marks = [
        format!("_dists_{suite}_InRelease"),
        format!("_dists_{suite}_Release"),
    ];
    let names = fs::read_dir(lists)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name());
    names.into_iter().any(|name| {
        name.to_str()
            .is_some_and(|name| marks.iter().any(|mark| name.ends_with(mark)))
    })
}

/// Unpacks the files of one package, and nothing else of it.
fn extract(archive: &Path, root: &Path, drop: &[String]) -> Result<(), DriverError> {
    let mut unpack = Command::new("dpkg-deb");
    unpack
        .arg("--fsys-tarfile")
        .arg(archive)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut unpack = unpack.spawn().doing("start dpkg-deb")?;
    let mut tar = Command::new("tar");
    tar.args([
        "-x",
        "--keep-directory-symlink",
        "--no-same-owner",
        "--no-same-permissions",
    ]);
    tar.args(["--anchored", "--wildcards"]);
    tar.args(drop.iter().map(|path| format!("--exclude=./{path}")));
    tar.arg("-C").arg(root);
    if let Some(stream) = unpack.stdout.take() {
        tar.stdin(stream);
    }
    let unpacked = output_of(tar, "tar");
    let status = unpack.wait().doing("wait for dpkg-deb")?;
    unpacked?;
    if !status.success() {
        let said = archive.display().to_string();
        return Err(DriverError::Program {
            program: "dpkg-deb".to_owned(),
            how: status.to_string(),
            said,
        });
    }
    Ok(())
}

fn output_of(mut command: Command, program: &str) -> Result<String, DriverError> {
    let output =
        command
            .stderr(Stdio::piped())
            .output()
            .map_err(|source| DriverError::Program {
                program: program.to_owned(),
                how: "not started".to_owned(),
                said: source.to_string(),
            })?;
    if !output.status.success() {
        return Err(DriverError::Program {
            program: program.to_owned(),
            how: output.status.to_string(),
            said: complaint(&output),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns apt's error lines, or else the last line that a program printed.
fn complaint(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("E: "))
        .take(3)
        .collect();
    if errors.is_empty() {
        return said
            .lines()
            .last()
            .unwrap_or("it said nothing")
            .trim()
            .to_owned();
    }
    errors.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulated_installation_names_package_and_version() {
        let line = "Inst libc6 (2.36-9+deb12u14 Debian:12.12/oldstable [amd64]) []";
        let wanted = parse_inst(line).unwrap();
        assert_eq!(
            (wanted.name.as_str(), wanted.version.as_str()),
            ("libc6", "2.36-9+deb12u14")
        );
        assert!(parse_inst("Conf libc6 (2.36)").is_none());
    }

    #[test]
    fn address_line_names_file_and_hash() {
        let line = "'http://a/b%3a1_c.deb' p_1%3a1_amd64.deb 27708 SHA256:abc";
        assert_eq!(parse_uri(line), Some(("p_1%3a1_amd64.deb", "SHA256:abc")));
    }

    #[test]
    fn star_covers_any_ending() {
        assert!(covers("perl*", "perl-base"));
        assert!(!covers("perl", "perl-base"));
    }
}
