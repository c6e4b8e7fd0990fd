//! Power cuts of a node, drawn from what its programs did to their disk: bar ledger.power.
//!
//! ```text
//!   meshnode under the shim ──► log of calls, with every question and yes in its place
//!   the log, played up to a drawn call ──► what a cut there may leave ──► the real daemon opens it
//! ```
//! Whatever was said yes to before the call must be there, and nothing that nobody asked for. The
//! log itself is proven first: played to its end it must be what is really on the disk. Cuts while
//! the node is founded promise one thing only: that it can be founded again.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use anyhow::{Context as _, anyhow, bail, ensure};
use mesh_tests::calls::Call;
use mesh_tests::chance::Chance;
use mesh_tests::figures::Figure;
use mesh_tests::home::Home;
use mesh_tests::lab::Lab;
use mesh_tests::local_api::LocalApi;
use mesh_tests::plate::{Image, Plate, Temper};
use mesh_tests::runner::Place;
use serde_json::{Value, json};

use super::again::Again;
use super::beside;
use super::daemon::{Daemon, last_lines};
use super::promises::{Book, Desk, verify};

/// What the bar asks for.
const WANTED: usize = 300;
/// Cuts after which everything must be there; half of them right after a yes.
const IMAGES: usize = 500;
/// Cuts while the node is founded.
const IMAGES_BEFORE: usize = 40;
/// Cuts of a disk that lies as soon as the node is founded: some of these must be found bad.
const IMAGES_OF_A_LIAR: usize = 20;
/// Of so many images one is written through and cut again.
const AGAIN: usize = 12;
/// So many bad images are enough to know that something is broken.
const BAD_MAX: usize = 20;

/// Programs that write at once, besides one that offers prices.
pub const WRITERS: usize = 12;
/// Yeses in each of the lives of the watched daemon.
const YESES: usize = 400;
/// Lives of the watched daemon: the second one opens what the first one wrote.
const LIVES: usize = 3;
/// Prices that are offered in each life: each start checks every record's signature.
const SIGNED: u64 = 12;

/// Places where images are opened at once: each has a network of its own, so the same ports.
const LANES: usize = 3;

/// Cuts, and looks at what is left.
pub fn power_cuts_lose_nothing(place: &Place) -> anyhow::Result<()> {
    let seed = Chance::seed_of("MESHSTEAD_POWER_SEED")?;
    println!("MESHSTEAD_POWER_SEED={seed}");
    let names: Vec<String> = (1..=LANES).map(|lane| format!("lane-{lane}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let lab = Lab::new(&names, &place.folder, &place.programs)?;
    let homes: anyhow::Result<Vec<&Home>> = names.iter().map(|name| lab.home(name)).collect();
    let homes = homes?;
    let shim = place.programs.join("libpowercut.so");
    let first = homes.first().context("there are lanes")?;
    let watched = Watched::live(first, &shim, &place.folder)?;
    let mut chance = Chance::new(seed);
    let again = Again {
        folder: place.folder.clone(),
        shim: shim.clone(),
    };
    let mut open_all = |cuts, temper| {
        let cutter = Cutter {
            watched: &watched,
            cuts,
            temper,
            chance: &mut chance,
        };
        open_all(&homes, cutter, &again)
    };
    let opened = open_all([IMAGES, IMAGES_BEFORE], Temper::Strict)?;
    if let Some(first) = opened.bad.into_iter().next() {
        return Err(first.context("a power cut breaks a promise"));
    }
    let liar = open_all([IMAGES_OF_A_LIAR, 0], Temper::Lies)?;
    let sled = beside::cut(place, &shim, &mut chance)?;
    let kept = opened.kept;
    tell(seed, &watched, kept, liar.bad.len(), &sled)
}

fn tell(
    seed: u64,
    watched: &Watched,
    kept: usize,
    bad_of_liar: usize,
    sled: &beside::Lost,
) -> anyhow::Result<()> {
    let holds = WANTED <= kept && 0 < bad_of_liar && sled.is_shown();
    let synced = watched.count(|call| matches!(call, Call::Synced { .. }));
    let twice = kept.saturating_sub(IMAGES);
    let text = format!(
        "{kept} images of the real daemon ({twice} of them cut a second time), seed {seed}, cut \
         from {} calls ({synced} of them \
         syncs) under {} yeses: 0 lost, 0 invented, 0 refused to open; {IMAGES_BEFORE} more of a \
         node that is being founded: founded again; on a disk that lies {bad_of_liar} of \
         {IMAGES_OF_A_LIAR} are found bad; {sled}",
        watched.calls.len(),
        watched.count(is_yes),
    );
    Figure {
        bar: "ledger.power".to_owned(),
        text,
        holds,
    }
    .hold()
}

/// What a node did to its disk while it was written through.
struct Watched {
    calls: Vec<Call>,
    /// How many calls there were when `init` had said yes.
    founded: usize,
    /// The disk before the first call.
    empty: Plate,
}

impl Watched {
    /// Founds a node under the shim, writes through it, kills it, starts it again and so on.
    fn live(home: &Home, shim: &Path, folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("calls");
        let home = &beside_folder(home, folder.join("watched"));
        // Its number is that of the folder that is watched.
        fs::create_dir(&home.folder)?;
        let empty = Plate::of(&home.folder)?;
        let shim = watch(shim, home, &path);
        found(home, &shim)?;
        let log = OpenOptions::new().append(true).create(true).open(&path)?;
        say(&log, &json!("founded"))?;
        let mut desks = Desk::all(WRITERS);
        for _ in 0..LIVES {
            let mut daemon = Daemon::start(home, &folder.join("daemon.log"), &shim)?;
            daemon.answers()?;
            write_through(&mut desks, YESES, &home.folder, &log)?;
            daemon.kill_between_calls(&path)?;
        }
        let calls = all_calls(&path, empty.clone(), home)?;
        let is_founded = |call: &Call| word(call) == Some(json!("founded"));
        let founded = calls.iter().position(is_founded).context("never founded")?;
        Ok(Self {
            calls,
            founded,
            empty,
        })
    }

    fn count(&self, what: impl Fn(&Call) -> bool) -> usize {
        self.calls.iter().filter(|call| what(call)).count()
    }

    /// Draws so many cuts after the foundation, half of them right after a yes, and so many before:
    /// by how many calls were made, how many images.
    fn draw(
        &self,
        [images, before]: [usize; 2],
        chance: &mut Chance,
    ) -> anyhow::Result<BTreeMap<usize, usize>> {
        let yeses: Vec<usize> = (1..)
            .zip(&self.calls)
            .filter_map(|(count, call)| is_yes(call).then_some(count))
            .collect();
        let mut cuts: BTreeMap<usize, usize> = BTreeMap::new();
        let mut add = |count: usize| *cuts.entry(count).or_default() += 1;
        let later = (self.calls.len() - self.founded) as u64;
        for number in 0..images {
            match number % 2 {
                0 => add(chance.one(&yeses).context("nothing was said yes to")?),
                _ => add(self.founded + 1 + usize::try_from(chance.below(later))?),
            }
        }
        for _ in 0..before {
            add(usize::try_from(chance.below(self.founded as u64))?);
        }
        Ok(cuts)
    }
}

/// Returns the settings under which the shim watches a home.
pub fn watch<'a>(shim: &'a Path, home: &'a Home, log: &'a Path) -> [(&'static str, &'a Path); 3] {
    [
        ("LD_PRELOAD", shim),
        ("MESHSTEAD_POWERCUT_FOLDER", &home.folder),
        ("MESHSTEAD_POWERCUT_LOG", log),
    ]
}

/// Reads a log, and proves that it has everything that was done since `plate`.
pub fn all_calls(log: &Path, mut plate: Plate, home: &Home) -> anyhow::Result<Vec<Call>> {
    let calls = Call::read_all(&fs::read(log)?)?;
    for call in &calls {
        plate.play(call)?;
    }
    match Image::of(&home.folder)?.difference(&plate.now()) {
        Some(path) => bail!("the shim has not heard everything: {path} is not what was written"),
        None => Ok(calls),
    }
}

/// Founds an organisation under the shim.
fn found(home: &Home, shim: &[(&str, &Path)]) -> anyhow::Result<()> {
    let mut command = home.unstarted("meshnode", &["init", "--org", "bakery"]);
    command.envs(shim.iter().copied());
    let output = command.output().context("cannot run meshnode")?;
    let said = last_lines(&output.stderr);
    // An interrupted foundation that was finished but never told is one too.
    let is_there = said.contains("there is a node in");
    ensure!(output.status.success() || is_there, "not founded:\n{said}");
    Ok(())
}

/// Lets all ask at once until so much was said yes to.
pub fn write_through(
    desks: &mut [Desk],
    yeses: usize,
    home: &Path,
    log: &File,
) -> anyhow::Result<()> {
    let given = AtomicUsize::new(0);
    let write = |desk: &mut Desk| -> anyhow::Result<()> {
        let mut api = LocalApi::connect(home)?;
        let first = desk.told;
        let note = |word: Value| say(log, &word);
        while given.fetch_add(1, Ordering::Relaxed) < yeses {
            if desk.is_signed() && first + SIGNED <= desk.told {
                break;
            }
            desk.ask(&mut api, &note)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let writing: Vec<_> = desks
            .iter_mut()
            .map(|desk| scope.spawn(|| write(desk)))
            .collect();
        for ended in writing {
            match ended.join() {
                Ok(ended) => ended?,
                Err(_) => bail!("one who writes fell"),
            }
        }
        Ok(())
    })
}

pub fn say(log: &File, word: &Value) -> anyhow::Result<()> {
    let words = word.to_string().into_bytes();
    Call::Said { words }.append(log)
}

pub fn word(call: &Call) -> Option<Value> {
    match call {
        Call::Said { words } => serde_json::from_slice(words).ok(),
        _ => None,
    }
}

pub fn is_yes(call: &Call) -> bool {
    word(call).is_some_and(|word| word.get("told").is_some())
}

/// Returns the same home with another folder: the same machine after another disk was put in.
pub fn beside_folder(home: &Home, folder: PathBuf) -> Home {
    let mut other = home.clone();
    other.folder = folder;
    other
}

/// What is left, and what must be found in it.
struct Left {
    number: usize,
    /// How many calls there were.
    calls: usize,
    image: Image,
    /// None if the node was not founded yet.
    book: Option<Book>,
    /// A seed, if the power goes a second time.
    again: Option<u64>,
}

/// What became of the images.
#[derive(Debug, Default)]
struct Opened {
    /// Images of a founded node that hold all that was said yes to.
    kept: usize,
    /// What is wrong with the others.
    bad: Vec<anyhow::Error>,
}

/// Opens all images, several at once.
fn open_all(homes: &[&Home], cutter: Cutter<'_>, again: &Again) -> anyhow::Result<Opened> {
    let (images, waiting) = mpsc::sync_channel::<Left>(LANES);
    let waiting = Mutex::new(waiting);
    let opened = Mutex::new(Opened::default());
    let next = || locked(&waiting).recv();
    let open = |home: &Home| {
        while let Ok(left) = next() {
            if BAD_MAX <= locked(&opened).bad.len() {
                // Whoever cuts waits for somebody who takes.
                continue;
            }
            let found = open_one(home, &left, again);
            let mut opened = locked(&opened);
            match found {
                Ok(kept) => opened.kept += kept,
                Err(error) => {
                    let Left { number, calls, .. } = left;
                    let which = format!("image {number}, cut after {calls} calls");
                    opened.bad.push(error.context(which));
                }
            }
        }
    };
    thread::scope(|scope| {
        for home in homes {
            scope.spawn(|| open(home));
        }
        cutter.cut(images)
    })?;
    opened
        .into_inner()
        .map_err(|_| anyhow!("one who opens images fell"))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Plays what a node did and cuts.
struct Cutter<'a> {
    watched: &'a Watched,
    /// How many images after the foundation and before it.
    cuts: [usize; 2],
    /// What the disk turns into once the node is founded.
    temper: Temper,
    chance: &'a mut Chance,
}

impl Cutter<'_> {
    fn cut(self, images: mpsc::SyncSender<Left>) -> anyhow::Result<()> {
        let Self {
            watched, chance, ..
        } = self;
        let mut cuts = watched.draw(self.cuts, chance)?;
        let mut plate = watched.empty.clone();
        let (mut book, mut number) = (Book::default(), 0);
        for calls in 0..=watched.calls.len() {
            if calls == watched.founded {
                plate.turns(self.temper);
            }
            for _ in 0..cuts.remove(&calls).unwrap_or(0) {
                number += 1;
                let left = Left {
                    number,
                    calls,
                    image: plate.cut(chance),
                    book: (watched.founded < calls).then(|| book.clone()),
                    again: (number % AGAIN == 0).then(|| chance.number()),
                };
                images.send(left).ok().context("nobody opens images")?;
            }
            let Some(call) = watched.calls.get(calls) else {
                break;
            };
            plate.play(call)?;
            match word(call) {
                Some(word) if word.is_object() => book.note(&word)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Opens an image and looks for everything; maybe writes through it and cuts again. Returns how
/// many images held all.
fn open_one(home: &Home, left: &Left, again: &Again) -> anyhow::Result<usize> {
    let home = &beside_folder(home, again.folder.join(format!("image-{}", left.number)));
    let Some(book) = &left.book else {
        left.image.write(&home.folder)?;
        found(home, &[])?;
        open(home, None)?;
        return Ok(0);
    };
    let more = match left.again {
        Some(seed) => again.cut(home, &left.image, book, &mut Chance::new(seed))?,
        None => 0,
    };
    left.image.write(&home.folder)?;
    open(home, Some(book.clone()))?;
    Ok(1 + more)
}

/// Opens a folder with the real daemon, looks for everything, and removes it.
pub fn open(home: &Home, book: Option<Book>) -> anyhow::Result<()> {
    let log = home.folder.with_extension("log");
    let mut daemon = Daemon::start(home, &log, &[])?;
    let mut api = daemon.answers()?;
    if let Some(mut book) = book {
        book.check(&mut api, &mut [])?;
        verify(&mut api)?;
    }
    daemon.kill()?;
    fs::remove_dir_all(&home.folder)?;
    // What is bad stays, for whoever reads the log of a failed test.
    fs::remove_file(log).context("cannot remove an image")
}
