//! The power goes a second time: soon after a node was started from what the first cut had left.
//!
//! What the first cut has torn is mended while the node starts, and the mend itself is cut. From
//! its first answer on a node must keep also what it had found and nobody was told of.

use std::fs::OpenOptions;
use std::path::PathBuf;

use anyhow::Context as _;
use mesh_tests::calls::Call;
use mesh_tests::chance::Chance;
use mesh_tests::home::Home;
use mesh_tests::plate::{Image, Plate};
use serde_json::json;

use super::daemon::Daemon;
use super::power::say;
use super::power::{WRITERS, all_calls, beside_folder, is_yes, open, watch, word, write_through};
use super::promises::{Book, Desk};

/// Yeses before the second cut.
const YESES: usize = 40;
/// Second cuts while the node starts, and after a yes.
const CUTS: [usize; 2] = [2, 2];

/// Where the second lives are lived.
pub struct Again {
    /// A folder for everything.
    pub folder: PathBuf,
    /// The library that watches.
    pub shim: PathBuf,
}

impl Again {
    /// Starts a node from an image, writes through it, and cuts again. Returns how many images held
    /// all that was said yes to.
    ///
    /// # Errors
    /// One did not.
    pub fn cut(
        &self,
        home: &Home,
        image: &Image,
        book: &Book,
        chance: &mut Chance,
    ) -> anyhow::Result<usize> {
        let name = home.folder.file_name().context("a home has a name")?;
        let name = name.to_string_lossy();
        let home = &beside_folder(home, self.folder.join(format!("{name}-again")));
        image.write(&home.folder)?;
        let plate = Plate::of(&home.folder)?;
        let (path, said) = (
            home.folder.with_extension("calls"),
            home.folder.with_extension("log"),
        );
        let mut daemon = Daemon::start(home, &said, &watch(&self.shim, home, &path))?;
        let mut api = daemon.answers()?;
        let (mut found, mut desks) = (book.clone(), Desk::all(WRITERS));
        found.check(&mut api, &mut desks)?;
        let log = OpenOptions::new().append(true).create(true).open(&path)?;
        say(&log, &json!("looked"))?;
        write_through(&mut desks, YESES, &home.folder, &log)?;
        daemon.kill_between_calls(&path)?;
        let calls = all_calls(&path, plate.clone(), home)?;
        let second = Second {
            calls,
            book: book.clone(),
            found,
        };
        second.open_all(home, plate, chance)
    }
}

/// What a node did after the first cut.
struct Second {
    calls: Vec<Call>,
    /// What had been said before it.
    book: Book,
    /// What it has found.
    found: Book,
}

impl Second {
    fn open_all(
        mut self,
        home: &Home,
        mut plate: Plate,
        chance: &mut Chance,
    ) -> anyhow::Result<usize> {
        let (mut cuts, mut kept) = (self.draw(chance)?, 0);
        for (calls, call) in (1..).zip(&self.calls) {
            plate.play(call)?;
            match word(call) {
                Some(word) if word.is_object() => self.book.note(&word)?,
                // Whoever looked has been told.
                Some(_) => self.book.clone_from(&self.found),
                None => {}
            }
            while cuts.pop_if(|cut| *cut == calls).is_some() {
                let place = home.folder.with_extension(format!("{kept}"));
                let home = beside_folder(home, place);
                plate.cut(chance).write(&home.folder)?;
                open(&home, Some(self.book.clone()))
                    .with_context(|| format!("and cut again after {calls} calls"))?;
                kept += 1;
            }
        }
        Ok(kept)
    }

    /// Draws cuts, the last first.
    fn draw(&self, chance: &mut Chance) -> anyhow::Result<Vec<usize>> {
        let numbered = || (1..).zip(&self.calls);
        let looked = numbered().find(|(_, call)| word(call) == Some(json!("looked")));
        let (looked, _) = looked.context("nobody has looked")?;
        let yeses: Vec<usize> = numbered()
            .filter_map(|(calls, call)| is_yes(call).then_some(calls))
            .collect();
        let [early, late] = CUTS;
        let mut cuts = Vec::new();
        for _ in 0..early {
            cuts.push(1 + usize::try_from(chance.below(looked as u64))?);
        }
        for _ in 0..late {
            cuts.push(chance.one(&yeses).context("nothing was said yes to")?);
        }
        cuts.sort_unstable();
        cuts.reverse();
        Ok(cuts)
    }
}
