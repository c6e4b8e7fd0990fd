//! The recipes of this machine: those that we ship, then those in `HOME/recipes`, which may replace
//! them.

use std::collections::BTreeMap;

use mesh_compute::recipe::{RECIPE_LEN_MAX, Recipe};

use crate::home::Home;

/// Texts of the shipped recipes.
const SHIPPED: [&str; 1] = [include_str!("../../../catalog/postgres.toml")];

/// Reads every recipe. One that cannot be read is logged and left out: the others must still work.
pub fn recipes(home: &Home) -> Vec<Recipe> {
    let mut found = BTreeMap::new();
    for text in SHIPPED {
        add(&mut found, "shipped", text);
    }
    let files = std::fs::read_dir(home.recipes())
        .into_iter()
        .flatten()
        .flatten();
    let mut paths: Vec<_> = files.map(|file| file.path()).collect();
    paths.sort();
    for path in paths
        .iter()
        .filter(|path| path.extension().is_some_and(|kind| kind == "toml"))
    {
        let small = path
            .metadata()
            .is_ok_and(|file| file.len() <= RECIPE_LEN_MAX as u64);
        match std::fs::read_to_string(path) {
            Ok(text) if small => add(&mut found, &path.display().to_string(), &text),
            _ => tracing::warn!(recipe = %path.display(), "a recipe cannot be read"),
        }
    }
    found.into_values().collect()
}

fn add(found: &mut BTreeMap<String, Recipe>, place: &str, text: &str) {
    match Recipe::parse(text) {
        Ok(recipe) => {
            found.insert(recipe.name.to_string(), recipe);
        }
        Err(error) => tracing::warn!(recipe = place, %error, "a recipe cannot be used"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_recipes_are_lawful_and_own_ones_are_added() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::locate(Some(folder.path().to_owned()));
        std::fs::create_dir(home.recipes()).unwrap();
        std::fs::write(home.recipes().join("bad.toml"), "= no").unwrap();
        let names: Vec<String> = recipes(&home)
            .iter()
            .map(|recipe| recipe.name.to_string())
            .collect();
        assert_eq!(names, ["postgres"]);
    }
}
