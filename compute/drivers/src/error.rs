//! Why a driver could not do something, in words that can be shown to people.

use std::path::{Path, PathBuf};

use mesh_base::digest::Digest;
use mesh_compute::step::ItemId;
use mesh_compute::template::TemplateError;

/// Why something could not be done on this machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// A file or folder.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something of the system that is not a file.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program ended badly.
    #[error("{program} failed ({how}): {said}")]
    Program {
        /// Which one.
        program: String,
        /// Its exit status.
        how: String,
        /// The lines that matter of what it said.
        said: String,
    },
    /// The catalogue has no such recipe.
    #[error("this node has no recipe {}", .0.short())]
    NoRecipe(Digest),
    /// The recipe's software is not there yet.
    #[error("the software of \"{0}\" is not on this node yet")]
    NoSoftware(String),
    /// The machine's package sources do not have the release that the recipe is made of.
    #[error(
        "this machine's package sources do not list Debian's {suite}; add it below \
         /etc/apt/sources.list.d and run apt-get update"
    )]
    NoSuite {
        /// The release.
        suite: String,
    },
    /// There is no such instance here.
    #[error("there is no instance {} here", .0.0.short())]
    NoInstance(ItemId),
    /// The recipe has no such promise.
    #[error("the recipe has no promise \"{0}\"")]
    NoPromise(String),
    /// A value that the recipe needs was not given.
    #[error("the recipe needs a value")]
    Value(#[from] TemplateError),
    /// A file that we wrote cannot be read back.
    #[error("{path} is damaged")]
    Damaged {
        /// Which one.
        path: PathBuf,
        /// What the reader said.
        source: serde_json::Error,
    },
    /// The instance did not start; the sentence comes from its shim.
    #[error("{0}")]
    Start(StartFault),
}

/// Why an instance did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartFault {
    /// The sandbox could not be made, or a command of the recipe failed.
    #[error("{said}")]
    Said {
        /// What the shim reported.
        said: String,
    },
    /// The shim is silent.
    #[error("the shim did not answer within {seconds} s")]
    Silent {
        /// How long was waited.
        seconds: u64,
    },
    /// The shim is gone.
    #[error("the shim ended before the instance was started; see the instance's log")]
    Gone,
}

/// Adds what was tried, and where, to an error of the system.
pub(crate) trait At<T> {
    /// Says which file.
    fn at(self, what: &'static str, path: &Path) -> Result<T, DriverError>;
    /// Says what, if it is no file.
    fn doing(self, what: &'static str) -> Result<T, DriverError>;
}

impl<T, E: Into<std::io::Error>> At<T> for Result<T, E> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, DriverError> {
        self.map_err(|error| DriverError::File {
            what,
            path: path.to_owned(),
            source: error.into(),
        })
    }

    fn doing(self, what: &'static str) -> Result<T, DriverError> {
        self.map_err(|error| DriverError::System {
            what,
            source: error.into(),
        })
    }
}

/// Returns an error with its causes as one sentence.
pub fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
