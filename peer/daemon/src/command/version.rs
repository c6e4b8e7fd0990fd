//! `meshnode version`: which program this is.

use clap::Args;

use crate::command::print;
use crate::failure::Failure;

/// Show the version of this program
#[derive(Debug, Args)]
pub struct Version {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Version {
    /// Prints it.
    pub fn run(self) -> Result<(), Failure> {
        let version = env!("CARGO_PKG_VERSION");
        if self.json {
            return print(&format!(
                "{{\"name\":\"meshnode\",\"version\":\"{version}\"}}\n"
            ));
        }
        print(&format!("meshnode {version}\n"))
    }
}
