//! `meshctl recipe`.

use clap::Subcommand;
use mesh_api::reply::Reply;
use mesh_api::request::Request;
use mesh_api::screen;
use mesh_api::trade::{ParameterRow, RecipeRow};

use crate::command::offer::cores;
use crate::failure::Failure;
use crate::session::{Session, unexpected};

/// List recipes.
#[derive(Debug, Subcommand)]
pub enum RecipeCommand {
    /// List what can be ordered, with the parameters that an order may set.
    #[command(verbatim_doc_comment)]
    Ls,
}

impl RecipeCommand {
    /// Lists recipes.
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let Self::Ls = self;
        let reply = session.ask(&Request::RecipeLs)?;
        let Reply::Recipes { recipes } = &reply else {
            return Err(unexpected(&reply));
        };
        session.show(&reply, || recipes_screen(recipes))
    }
}

fn recipes_screen(recipes: &[RecipeRow]) -> String {
    let rows = recipes.iter().map(|recipe| {
        let parameters: Vec<String> = recipe.parameters.iter().map(parameter).collect();
        vec![
            recipe.name.clone(),
            screen::mebibytes(u64::from(recipe.memory_mib)),
            cores(u64::from(recipe.cpu_millis)),
            screen::mebibytes(u64::from(recipe.disk_mib)),
            screen::yes(recipe.cached).to_owned(),
            if parameters.is_empty() {
                screen::NONE.to_owned()
            } else {
                parameters.join(" ")
            },
            recipe.summary.clone(),
        ]
    });
    let heads = [
        "NAME",
        "MEMORY",
        "CORES",
        "DISK",
        "CACHED",
        "PARAMETERS",
        "SUMMARY",
    ];
    screen::table(&heads, rows.collect())
}

/// Returns `database=app`, or `database!` if the order must say it.
fn parameter(parameter: &ParameterRow) -> String {
    match &parameter.default {
        Some(default) => format!("{}={default}", parameter.name),
        None if parameter.required => format!("{}!", parameter.name),
        None => parameter.name.clone(),
    }
}
