//! How a command of `meshnode` ends badly: one line for the cause, one for the next step, an exit
//! code.
//!
//! Inside the daemon errors are enums of their rooms; they become a [`Failure`] only here, at the
//! edge where a person reads them. Decides no policy; the codes are those of every Meshstead
//! program.

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

use mesh_api::screen::plain;
use mesh_api::{ApiError, ErrorKind, document};

/// The next step where nothing better is known: the machine itself refused something.
const LAST_RESORT: &str = "try again; if it stays so, see the end of meshnode.log in the home";

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

    /// Tells people on stderr and, if wanted, programs on stdout; returns the code for the shell.
    pub fn report(self, json: bool) -> ExitCode {
        let error = ApiError::from(self);
        if json {
            let document = document::of_error(&error);
            // The exit code says it too.
            let _ = writeln!(std::io::stdout(), "{document}");
        }
        let (cause, hint) = (plain(&error.cause), plain(&error.hint));
        let _ = write!(std::io::stderr(), "error: {cause}\nhint: {hint}\n");
        ExitCode::from(error.kind.exit_code())
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let hint = failure.hint.unwrap_or_else(|| LAST_RESORT.to_owned());
        Self::new(failure.kind, failure.error, hint)
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

    #[test]
    fn failure_without_a_hint_of_its_own_has_one_too() {
        let error = ApiError::from(Failure::new("it rains"));
        assert_eq!(error.kind, ErrorKind::Failure);
        assert_eq!(error.hint, LAST_RESORT);
    }
}
