//! What went wrong, for people and for scripts: cause, next step, exit code, HTTP status.

use serde::{Deserialize, Serialize};

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $exit_code:literal, $http_status:literal;)*) => {
        /// The kind of a failure; fixes the exit code of programs and the HTTP status.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorKind { $($(#[$doc])* $variant,)* }

        impl ErrorKind {
            /// Every kind, in the order of the exit codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the exit code of a program that ends with this failure.
            pub const fn exit_code(self) -> u8 {
                match self { $(Self::$variant => $exit_code,)* }
            }

            /// Returns the HTTP status of a response that ends with this failure and had no event
            /// before it.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$variant => $http_status,)* }
            }
        }
    };
}

// One list, so that no kind can lack in [`ErrorKind::ALL`], which the tests of screens go through.
kinds! {
    /// It could not be done, for a reason that has no kind of its own.
    Failure = 1, 500;
    /// The request itself is wrong: a bad name, parameter or combination.
    Usage = 2, 400;
    /// The daemon, or the node that must act, cannot be reached.
    Unreachable = 3, 502;
    /// The caller, or our organisation, may not do this.
    NotAuthorised = 4, 403;
    /// There is no such thing.
    NotFound = 5, 404;
    /// The name is taken, the state forbids it, or the plan that was shown is stale.
    Conflict = 6, 409;
    /// It did not happen in time; it may still happen.
    Timeout = 7, 504;
    /// It works, but worse than promised.
    Degraded = 8, 503;
    /// No node can take the order.
    CannotPlace = 9, 507;
    /// A plan was shown and it would change something.
    PlanHasChanges = 10, 409;
}

impl ErrorKind {
    /// Returns the kind that a program of ours told by its exit code.
    pub fn of_exit_code(code: i32) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|kind| i32::from(kind.exit_code()) == code)
    }
}

/// A failure: what could not be done and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{cause}")]
pub struct ApiError {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// What could not be done and why: one line, no full stop.
    pub cause: String,
    /// The next step: one line, no full stop. Never empty.
    pub hint: String,
}

impl ApiError {
    /// Returns a failure of a kind.
    pub fn new(kind: ErrorKind, cause: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            kind,
            cause: cause.into(),
            hint: hint.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_count_from_one_to_ten() {
        let codes: Vec<u8> = ErrorKind::ALL.iter().map(|kind| kind.exit_code()).collect();
        assert_eq!(codes, (1..=10).collect::<Vec<u8>>());
    }

    #[test]
    fn exit_code_leads_back_to_its_kind() {
        for kind in ErrorKind::ALL.iter().copied() {
            let code = i32::from(kind.exit_code());
            assert_eq!(ErrorKind::of_exit_code(code), Some(kind));
        }
        assert_eq!(ErrorKind::of_exit_code(0), None);
        assert_eq!(ErrorKind::of_exit_code(101), None);
    }

    #[test]
    fn every_status_is_an_error() {
        assert!(
            ErrorKind::ALL
                .iter()
                .all(|kind| (400..600).contains(&kind.http_status()))
        );
    }

    #[test]
    fn error_is_plain_json() {
        let error = ApiError::new(ErrorKind::CannotPlace, "no node is free", "try later");
        let text = serde_json::to_string(&error).unwrap();
        assert_eq!(
            text,
            r#"{"kind":"cannot_place","cause":"no node is free","hint":"try later"}"#
        );
        assert_eq!(serde_json::from_str::<ApiError>(&text).unwrap(), error);
    }
}
