//! The Debian package: built from the programs as users run them, judged by lintian, and tried out
//! in a bare Debian tree.
//!
//! ```text
//!   programs ─► manual pages, completions, notices ─► cargo-deb ─► lintian
//!                                                          └─► bare tree: install, start, order,
//!                                                              reboot, remove, purge (`trial`)
//! ```
//! The programs are those of the gate's profile, which is release. The gate packages the very ones
//! that the namespaces have tested: a build of its own would choose other features and make other
//! bytes. Nothing is installed on this machine. Decides which of the judgements make the bar;
//! `trial` decides what a trial is.

mod notices;
mod tree;
mod trial;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use mesh_tests::figures::Figure;

use crate::{unit, workspace};
use tree::Tree;

/// The bar that is measured here.
const BAR: &str = "first.package";

/// Where the package is tried out.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// Nowhere: built and judged only.
    Nowhere,
    /// In this bare Debian tree, which is changed.
    In(&'a Path),
    /// In a tree of our own, made for this and removed.
    Fresh,
}

/// Is the gate's step: everything that this user may do, with the programs as its step `programs`
/// has built them. Returns true if all of it holds.
pub fn gate() -> anyhow::Result<bool> {
    let programs = workspace::programs();
    ensure!(
        ["meshnode", "meshctl"]
            .iter()
            .all(|name| programs.join(name).is_file()),
        "no programs in {}: the gate's step `programs` builds them",
        programs.display()
    );
    if nix::unistd::geteuid().is_root() {
        return judge(&programs, Place::Fresh);
    }
    // An ordinary user can neither make a Debian tree nor give its files to several users.
    println!("built and judged only: to install it in a bare tree needs root");
    judge(&programs, Place::Nowhere)
}

/// Builds the programs and their package and judges it; tries it out if there is a place. Returns
/// true if what was asked for holds.
pub fn run(place: Place<'_>) -> anyhow::Result<bool> {
    judge(&workspace::build_programs()?, place)
}

fn judge(programs: &Path, place: Place<'_>) -> anyhow::Result<bool> {
    write_generated(programs)?;
    let package = build(programs)?;
    println!("{}", package.display());
    let judged = lintian(&package)?;
    let score = unit::score()?;
    let mut text = format!(
        "lintian {}, unit {}",
        if judged {
            "without errors"
        } else {
            "finds errors"
        },
        score.map_or("not scored".to_owned(), |score| format!("{score:.1}")),
    );
    let is_lawful = judged && score.is_some_and(unit::is_low);
    let tried = match place {
        Place::Nowhere => None,
        Place::In(path) => Some(trial::run(&package, &Tree::at(path)?)),
        Place::Fresh => Some(Tree::fresh().and_then(|tree| trial::run(&package, &tree))),
    };
    text.push_str(&match &tried {
        None => ", not installed anywhere".to_owned(),
        Some(Ok(seen)) => format!(", in a bare tree: {seen}"),
        Some(Err(error)) => format!(", in a bare tree: {error:#}"),
    });
    let holds = is_lawful && matches!(tried, Some(Ok(_)));
    println!("{BAR}  {text}");
    let bar = BAR.to_owned();
    Figure { bar, text, holds }.write(&workspace::figures())?;
    Ok(is_lawful && !matches!(tried, Some(Err(_))))
}

/// Lets the programs write their manual pages and completions, and adds the notices of what they
/// contain.
fn write_generated(programs: &Path) -> anyhow::Result<()> {
    let folder = programs.join("package");
    if folder.exists() {
        fs::remove_dir_all(&folder).context("cannot empty the folder of generated files")?;
    }
    let man = folder.join("man");
    for name in ["meshnode", "meshctl"] {
        let program = programs.join(name);
        succeed(Command::new(&program).arg("man").arg(&man))?;
        for (shell, file) in [
            ("bash", name.to_owned()),
            ("fish", format!("{name}.fish")),
            ("zsh", format!("_{name}")),
        ] {
            let output = Command::new(&program)
                .args(["completions", shell])
                .output()
                .with_context(|| format!("cannot run {}", program.display()))?;
            ensure!(output.status.success(), "{name} completions {shell} failed");
            write(&folder.join(shell), &file, &output.stdout)?;
        }
    }
    let notices = notices::of_programs()?;
    write(&folder.join("doc"), "third-party", notices.as_bytes())?;
    // Debian wants manual pages packed, and cargo-deb packs no file that was built. Without name
    // and time in it the same page gives the same bytes.
    for folder in [man, folder.join("doc")] {
        let mut pack = Command::new("gzip");
        pack.arg("-9n");
        for entry in fs::read_dir(&folder).context("cannot list what was generated")? {
            pack.arg(entry.context("cannot list what was generated")?.path());
        }
        succeed(&mut pack)?;
    }
    Ok(())
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    fs::create_dir_all(folder).context("cannot make a folder")?;
    let path = folder.join(name);
    fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn build(programs: &Path) -> anyhow::Result<PathBuf> {
    let package = programs.join("package").join("meshnode.deb");
    let mut command = Command::new(workspace::tool("cargo-deb"));
    command
        .args(["--no-build", "--locked", "--quiet", "--profile"])
        .arg(workspace::PROGRAMS_PROFILE)
        .args(["-p", "meshnode", "--output"])
        .arg(&package)
        .current_dir(workspace::root())
        // It prints where the package is, as we do.
        .stdout(Stdio::null());
    succeed(&mut command)?;
    Ok(package)
}

fn lintian(package: &Path) -> anyhow::Result<bool> {
    let status = Command::new("lintian")
        .args([
            "--fail-on",
            "error",
            "--allow-root",
            "--tag-display-limit",
            "0",
        ])
        .arg(package)
        .status()
        .context("cannot run lintian; as root: apt-get install lintian")?;
    Ok(status.success())
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        bail!("failed: {command:?}");
    }
    Ok(())
}
