//! How a command ends when it does not end well.

use std::process::ExitCode;

use mesh_api::document;
use mesh_api::error::{ApiError, ErrorKind};
use mesh_api::screen::plain;

use crate::output::{self, Format};

/// Why a command stops early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It could not be done.
    Error(ApiError),
    /// It was done and shown, and what was shown is a no: only the exit code and the talk say so.
    Verdict(ApiError),
    /// Whoever read our output has had enough.
    Hangup,
}

impl Failure {
    /// Returns a failure of a kind, with its cause and the next step.
    pub fn new(kind: ErrorKind, cause: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Error(ApiError::new(kind, cause, hint))
    }

    /// Tells people on stderr and, in a JSON format, programs on stdout; returns the exit code.
    pub fn report(&self, format: Format) -> ExitCode {
        let error = match self {
            Self::Hangup => return ExitCode::SUCCESS,
            Self::Error(error) => {
                if let Some(text) = as_json(error, format) {
                    // Proof that the result may be dropped: the exit code says it too.
                    drop(output::data(&text));
                }
                error
            }
            Self::Verdict(error) => error,
        };
        output::talk(&format!(
            "error: {}\nhint: {}\n",
            plain(&error.cause),
            plain(&error.hint)
        ));
        ExitCode::from(error.kind.exit_code())
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

fn as_json(error: &ApiError, format: Format) -> Option<String> {
    let document = document::of_error(error);
    match format {
        Format::Json => Some(format!("{document:#}\n")),
        Format::Jsonl => Some(format!("{document}\n")),
        Format::Table | Format::Csv => None,
    }
}
