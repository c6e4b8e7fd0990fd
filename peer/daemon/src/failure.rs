//! How a command of `meshnode` ends badly: one line for the cause, one for the next step, an exit
//! code.
//!
//! Inside the daemon errors are enums of their rooms; they become a [`Failure`] only here, at the
//! edge where a person reads them. Decides no policy; the codes are those of every Meshstead
//! program.

use std::fmt;
use std::process::ExitCode;

use mesh_api::{ApiError, ErrorKind};

/// The end of a command that did not succeed.
#[derive(Debug)]
pub struct Failure {
    /// What the exit code tells a script.
    pub kind: ErrorKind,
    /// What could not be done, without a full stop.
    pub error: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl Failure {
    /// Returns a failure without a code of its own.
    pub fn new(error: impl fmt::Display) -> Self {
        Self {
            kind: ErrorKind::Failure,
            error: error.to_string(),
            hint: None,
        }
    }

    /// Returns a failure with the sentences of an error and all its causes.
    pub fn caused(what: impl fmt::Display, error: &dyn std::error::Error) -> Self {
        let mut text = format!("{what}: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::new(text)
    }

    /// Sets the next step.
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Sets what the exit code says.
    pub fn kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Prints both lines to stderr and returns the code for the shell.
    pub fn report(&self) -> ExitCode {
        eprintln!("error: {}", self.error);
        if let Some(hint) = &self.hint {
            eprintln!("hint: {hint}");
        }
        ExitCode::from(self.kind.exit_code())
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self {
            kind: error.kind,
            error: error.cause,
            hint: Some(error.hint),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_on_the_line() {
        let inner = std::io::Error::other("disk is gone");
        let failure = Failure::caused("cannot start", &inner).hint("plug it in");
        assert_eq!(failure.error, "cannot start: disk is gone");
        assert_eq!(failure.hint.as_deref(), Some("plug it in"));
    }
}
