//! The same cuts under a program that trusts stock sled, so that it is known that they find
//! something: `examples/stock_sled` says yes when sled's `flush` has returned.
//!
//! Two disks: one that has on its plate only what fsync put there, and a kinder one where
//! sync_file_range suffices. Names are kept on both, for sled never syncs a folder.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use mesh_tests::calls::Call;
use mesh_tests::chance::Chance;
use mesh_tests::plate::{Image, Plate, Temper};
use mesh_tests::runner::Place;

/// Batches that are written.
const BATCHES: u64 = 250;
/// Cuts, on each of both disks; half of them right after a yes.
const IMAGES: usize = 30;

/// The disks, the harder first.
const DISKS: [Temper; 2] = [Temper::KeepsNames, Temper::KeepsHurried];

/// What became of the images.
#[derive(Debug, Default)]
pub struct Lost {
    /// By disk.
    disks: [Count; 2],
}

#[derive(Debug, Default)]
struct Count {
    images: usize,
    /// Batches are missing that were said yes to.
    lost: usize,
    /// What is there was never so.
    wrong: usize,
    /// It cannot be opened, or panics.
    shut: usize,
}

impl Count {
    fn bad(&self) -> usize {
        self.lost + self.wrong + self.shut
    }
}

impl Lost {
    /// Tells whether the cuts have found what is known to be there.
    pub fn is_shown(&self) -> bool {
        self.disks.iter().all(|disk| 0 < disk.bad())
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [hard, kind] = &self.disks;
        write!(
            f,
            "stock sled as acknowledgement: {} of {} images bad ({} lost a yes, {} wrong, {} do \
             not open), {} of {} even where sync_file_range suffices",
            hard.bad(),
            hard.images,
            hard.lost,
            hard.wrong,
            hard.shut,
            kind.bad(),
            kind.images,
        )
    }
}

/// Lets sled write, cuts, and looks at what is left.
pub fn cut(place: &Place, shim: &Path, chance: &mut Chance) -> anyhow::Result<Lost> {
    let (folder, log) = (place.folder.join("sled"), place.folder.join("sled-calls"));
    fs::create_dir(&folder)?;
    let empty = Plate::of(&folder)?;
    let program = place.programs.join("stock_sled");
    let output = Command::new(&program)
        .arg("write")
        .args([&folder.join("db"), &log])
        .arg(BATCHES.to_string())
        .env("LD_PRELOAD", shim)
        .env("MESHSTEAD_POWERCUT_FOLDER", &folder)
        .env("MESHSTEAD_POWERCUT_LOG", &log)
        .output()
        .context("cannot run stock_sled")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "stock_sled cannot write:\n{said}");
    let calls = Call::read_all(&fs::read(&log)?)?;
    let mut lost = Lost::default();
    for (count, temper) in lost.disks.iter_mut().zip(DISKS) {
        let mut plate = empty.clone();
        plate.turns(temper);
        let mut cuts = draw(&calls, chance)?;
        let mut yes = 0;
        for (number, call) in (1..).zip(&calls) {
            plate.play(call)?;
            if let Call::Said { words } = call {
                yes = u64::from_le_bytes(words.as_slice().try_into()?);
            }
            while cuts.pop_if(|cut| *cut == number).is_some() {
                look(&program, place, &plate.cut(chance), yes, count)?;
            }
        }
        let now = Image::of(&folder)?;
        ensure!(now.difference(&plate.now()).is_none(), "not all was heard");
    }
    Ok(lost)
}

/// Draws cuts, the last first.
fn draw(calls: &[Call], chance: &mut Chance) -> anyhow::Result<Vec<usize>> {
    let is_yes = |(number, call): (usize, &Call)| match call {
        Call::Said { .. } => Some(number),
        _ => None,
    };
    let yeses: Vec<usize> = (1..).zip(calls).filter_map(is_yes).collect();
    let first = *yeses.first().context("sled never said yes")?;
    let later = (calls.len() - first) as u64;
    let mut cuts = Vec::new();
    for number in 0..IMAGES {
        match number % 2 {
            0 => cuts.push(chance.one(&yeses).context("sled never said yes")?),
            _ => cuts.push(first + usize::try_from(chance.below(later))?),
        }
    }
    cuts.sort_unstable();
    cuts.reverse();
    Ok(cuts)
}

fn look(
    program: &Path,
    place: &Place,
    image: &Image,
    yes: u64,
    count: &mut Count,
) -> anyhow::Result<()> {
    let folder = place.folder.join("sled-image");
    image.write(&folder)?;
    let output = Command::new(program)
        .arg("look")
        .arg(folder.join("db"))
        .output()
        .context("cannot run stock_sled")?;
    count.images += 1;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        let found: u64 = said.trim().parse().context("not a number of a batch")?;
        count.lost += usize::from(found < yes);
    } else if why.contains("not what was there") {
        count.wrong += 1;
    } else {
        count.shut += 1;
    }
    fs::remove_dir_all(&folder).context("cannot remove an image")
}
