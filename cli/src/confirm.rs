//! Asking before something is gone: the name must be typed, or `--yes` given.

use std::io::{BufRead, IsTerminal};

use mesh_api::error::ErrorKind;

use crate::failure::Failure;
use crate::output;
use crate::session::Session;

/// Goes on only if the user types `name`, or said yes beforehand. `loss` says what will be gone.
pub fn by_name(session: &Session, name: &str, loss: &str, command: &str) -> Result<(), Failure> {
    if session.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            ErrorKind::Usage,
            format!("{loss}, and nobody can be asked here"),
            format!("to do it without a question: {command} --yes"),
        ));
    }
    output::talk(&format!("{loss}.\nType {name} to go on: "));
    let mut typed = String::new();
    let read = std::io::stdin().lock().read_line(&mut typed);
    if read.is_err() || typed.trim() != name {
        return Err(Failure::new(
            ErrorKind::Failure,
            "the name was not typed: nothing was changed",
            format!("to do it, run `{command}` again and type {name}"),
        ));
    }
    Ok(())
}
