//! `meshnode shell`: a program that sees the overlay, where it is in a namespace of the daemon's.
//!
//! This process enters the namespace and becomes the program, so that its terminal, its signals and
//! its exit code are the program's own.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use clap::Args;
use mesh_api::status::{Reach, StatusReply};
use mesh_api::{ErrorKind, Reply, Request};
use mesh_dataplane::enter;

use crate::ask::ask;
use crate::command::{other_answer, say};
use crate::failure::Failure;
use crate::home::Home;
use crate::remember;

/// The port at which names are answered inside.
const NAMES_PORT: u16 = 53;
/// What is run where nobody says which shell is wanted.
const SHELL: &str = "/bin/sh";
/// The exit codes for a program that is not there, or that cannot be run, as shells have them.
const NO_PROGRAM: i32 = 127;
const NOT_RUN: i32 = 126;

/// Run a program with the overlay around it
///
/// In it overlay addresses and names of the mesh work in any program; the Internet does not.
#[derive(Debug, Args)]
pub struct Shell {
    /// The program and its arguments; your shell if there is none
    #[arg(
        value_name = "CMD",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    program: Vec<OsString>,
}

impl Shell {
    /// Becomes the program; returns only what went wrong.
    pub fn run(self, home: &Home) -> Result<(), Failure> {
        let Reply::Status(status) = ask(&home.socket(), &Request::Status)? else {
            return Err(other_answer("its status"));
        };
        if status.reach != Reach::Address {
            enter(home, &status)?;
        }
        let mut words = self.program.into_iter();
        let shell = || std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
        let program = words.next().or_else(shell).unwrap_or_else(|| SHELL.into());
        let error = Command::new(&program).args(words).exec();
        let what = format!("cannot run {}", program.to_string_lossy());
        let failure = Failure::caused(what, &error).hint("name a program that is in your PATH");
        let _ = failure.report(false);
        std::process::exit(match error.kind() {
            std::io::ErrorKind::NotFound => NO_PROGRAM,
            _ => NOT_RUN,
        })
    }
}

fn enter(home: &Home, status: &StatusReply) -> Result<(), Failure> {
    let entrances = status.entrances.as_ref();
    let Some(pid) = entrances.and_then(|entrances| entrances.namespace) else {
        let socks = entrances.and_then(|entrances| entrances.socks);
        let instead = socks.map_or_else(
            || "use the loopback ports that `meshctl ls` shows".to_owned(),
            |at| format!("use the SOCKS proxy {at}, or the ports that `meshctl ls` shows"),
        );
        return Err(
            Failure::new("there is no namespace to enter: the daemon was given none")
                .hint(instead)
                .kind(ErrorKind::Conflict),
        );
    };
    // Before: inside, the home may be somebody else's.
    let resolver = resolver(home, status);
    enter::enter(pid).map_err(|error| {
        Failure::caused("cannot enter the overlay", &error)
            .hint("run it as the user who runs the daemon")
    })?;
    match resolver {
        Ok(None) => say("names of the mesh are not answered in here (names.listen)\n"),
        Ok(Some(file)) => {
            if let Err(error) = enter::ask_names_of(&file) {
                say(&format!(
                    "names of the mesh are not known in here: {error}\n"
                ));
            }
        }
        Err(error) => say(&format!(
            "names of the mesh are not known in here: {error}\n"
        )),
    }
    Ok(())
}

/// Writes down whom programs inside ask for names; none if nobody answers there.
fn resolver(home: &Home, status: &StatusReply) -> std::io::Result<Option<std::path::PathBuf>> {
    let at = std::net::SocketAddr::from((status.address, NAMES_PORT));
    let names = status.names.as_ref();
    if !names.is_some_and(|names| names.listen.contains(&at)) {
        return Ok(None);
    }
    let file = home.resolver();
    let text = format!(
        "nameserver {}\noptions timeout:2 attempts:2\n",
        status.address
    );
    if !std::fs::read(&file).is_ok_and(|old| old == text.as_bytes()) {
        remember::replace(&file, text.as_bytes())?;
    }
    readable(&file)?;
    Ok(Some(file))
}

/// A program may become another user inside.
fn readable(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    const READABLE: u32 = 0o644;
    // Whoever may not change it need not, if it is so already.
    if std::fs::metadata(file)?.permissions().mode() & 0o777 == READABLE {
        return Ok(());
    }
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(READABLE))
}
