//! `meshnode config`: what is in force and where each value came from.

use clap::{Args, Subcommand};
use mesh_api::ErrorKind;

use crate::command::print;
use crate::config::{self, KEYS};
use crate::failure::Failure;
use crate::home::Home;

/// Show the settings
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Show every setting, its value and where that came from
    Show(Show),
}

/// What `config show` takes.
#[derive(Debug, Args)]
pub struct Show {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Config {
    /// Prints the settings.
    pub fn run(self, home: &Home) -> Result<(), Failure> {
        let Self::Show(show) = self;
        let config = load(home, &[])?;
        if show.json {
            let rows: Vec<serde_json::Value> = KEYS
                .iter()
                .filter_map(|key| Some((key, config.settings.get(key.name)?)))
                .map(|(key, setting)| {
                    serde_json::json!({
                        "key": key.name,
                        "value": setting.value,
                        "source": setting.source.to_string(),
                        "unit": key.unit,
                        "meaning": key.sentence,
                    })
                })
                .collect();
            let all = serde_json::json!({ "schema": "meshstead.config/1", "settings": rows });
            return print(&format!("{all}\n"));
        }
        for key in KEYS {
            let Some(setting) = config.settings.get(key.name) else {
                continue;
            };
            let source = setting.source.to_string();
            print(&format!(
                "{} = \"{}\"  ({source})\n",
                key.name, setting.value
            ))?;
            print(&format!("    {} Unit: {}.\n", key.sentence, key.unit))?;
        }
        Ok(())
    }
}

/// Loads the settings of a home for any command.
pub fn load(home: &Home, flags: &[String]) -> Result<config::Config, Failure> {
    config::Config::load(home.path(), flags).map_err(|error| {
        let hint = error.hint();
        Failure::caused("cannot read the settings", &error)
            .hint(hint)
            .kind(ErrorKind::Usage)
    })
}
