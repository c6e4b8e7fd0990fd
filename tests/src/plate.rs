//! A disk that can lose power: what is on the plate, what was only written, and what a cut leaves.
//!
//! ```text
//!   file     synced bytes + writes since its last fsync     (each sector: any of its versions)
//!   folder   synced names + changes since its last fsync    (any first part of them)
//! ```
//! It plays the log of [`crate::calls`] and draws folders that a power cut could have left. Harder
//! than most file systems: an fsync of a file says nothing about its name, and sync_file_range says
//! nothing at all. Kinder than a lying disk: what was synced is there. Permissions change never,
//! and the names of one folder change in order. Invariant: [`Plate::now`] is what the program sees.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};

use crate::calls::Call;
use crate::chance::Chance;

/// Bytes that a disk writes at once or not at all.
const SECTOR_LEN: usize = 512;

/// A disk with one folder.
#[derive(Debug, Clone)]
pub struct Plate {
    things: Vec<Thing>,
    by_number: BTreeMap<u64, usize>,
    temper: Temper,
}

/// How well a disk keeps its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temper {
    /// What was synced is there, and nothing else is sure.
    Strict,
    /// Every name is there too.
    KeepsNames,
    /// Every name, and what sync_file_range was called for.
    KeepsHurried,
    /// It says that it has synced, and has not.
    Lies,
}

/// The folder itself is the first thing.
const TOP: usize = 0;

#[derive(Debug, Clone)]
enum Thing {
    File(FileOnPlate),
    Folder(FolderOnPlate),
}

#[derive(Debug, Clone, Default)]
struct FileOnPlate {
    mode: u32,
    synced: Vec<u8>,
    since: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Bytes { at: usize, bytes: Vec<u8> },
    Len(usize),
}

type Names = BTreeMap<Vec<u8>, usize>;

#[derive(Debug, Clone, Default)]
struct FolderOnPlate {
    mode: u32,
    synced: Names,
    since: Vec<Naming>,
}

#[derive(Debug, Clone)]
enum Naming {
    New(Vec<u8>, usize),
    Gone(Vec<u8>),
    /// One step: a crash sees the old name or the new one.
    Moved(Vec<u8>, Vec<u8>),
}

/// What a power cut leaves: files and folders by path, folders before what is in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image(BTreeMap<Vec<u8>, Left>);

/// A thing that is left.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Left {
    Folder { mode: u32 },
    File { mode: u32, bytes: Vec<u8> },
}

impl Plate {
    /// Begins with a folder that is on the plate as it is.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn of(folder: &Path) -> anyhow::Result<Self> {
        let mut plate = Self {
            things: Vec::new(),
            by_number: BTreeMap::new(),
            temper: Temper::Strict,
        };
        plate.adopt(folder)?;
        Ok(plate)
    }

    /// Takes over what stands at a path, and all that is in it. Returns where it stands now.
    fn adopt(&mut self, path: &Path) -> anyhow::Result<usize> {
        let about = path.symlink_metadata().context("nothing to watch")?;
        let (at, mode) = (self.things.len(), about.mode() & 0o7777);
        self.by_number.insert(about.ino(), at);
        if !about.is_dir() {
            self.things.push(Thing::File(FileOnPlate {
                mode,
                synced: fs::read(path).context("cannot read what is to be watched")?,
                since: Vec::new(),
            }));
            return Ok(at);
        }
        self.things.push(Thing::Folder(FolderOnPlate::default()));
        let mut synced = Names::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let thing = self.adopt(&entry.path())?;
            synced.insert(entry.file_name().as_bytes().to_vec(), thing);
        }
        let since = Vec::new();
        if let Some(Thing::Folder(folder)) = self.things.get_mut(at) {
            *folder = FolderOnPlate {
                mode,
                synced,
                since,
            };
        }
        Ok(at)
    }

    /// Makes it another disk from now on.
    pub fn turns(&mut self, temper: Temper) {
        self.temper = temper;
    }

    /// Plays one call.
    ///
    /// # Errors
    /// It does not fit what was there, or cannot be played.
    pub fn play(&mut self, call: &Call) -> anyhow::Result<()> {
        match call {
            Call::Made { number, mode, path } => {
                let file = FileOnPlate {
                    mode: *mode,
                    ..FileOnPlate::default()
                };
                self.make(*number, path, Thing::File(file))
            }
            Call::Folder { number, mode, path } => {
                let folder = FolderOnPlate {
                    mode: *mode,
                    ..FolderOnPlate::default()
                };
                self.make(*number, path, Thing::Folder(folder))
            }
            Call::Wrote { number, at, bytes } => self.change(*number, || {
                let (at, bytes) = (usize::try_from(*at)?, bytes.clone());
                Ok(Change::Bytes { at, bytes })
            }),
            Call::Sized { number, len } => {
                self.change(*number, || Ok(Change::Len(usize::try_from(*len)?)))
            }
            Call::Synced { number } if self.temper != Temper::Lies => self.sync(*number),
            Call::Renamed { from, to } => self.rename(from, to),
            Call::Removed { path } => self.remove(path),
            Call::Strange { call } => bail!("cannot play {}", String::from_utf8_lossy(call)),
            Call::Hurried { number } if self.temper == Temper::KeepsHurried => self.sync(*number),
            Call::Synced { .. } | Call::Hurried { .. } | Call::Said { .. } => Ok(()),
        }
    }

    fn make(&mut self, number: u64, path: &[u8], thing: Thing) -> anyhow::Result<()> {
        let at = self.things.len();
        self.things.push(thing);
        // A number that was used before has a new owner now.
        self.by_number.insert(number, at);
        let (folder, name) = self.place(path)?;
        folder.since.push(Naming::New(name, at));
        Ok(())
    }

    fn change(
        &mut self,
        number: u64,
        change: impl FnOnce() -> anyhow::Result<Change>,
    ) -> anyhow::Result<()> {
        match self.numbered(number)? {
            Thing::File(file) => file.since.push(change()?),
            Thing::Folder(_) => bail!("a folder was written into"),
        }
        Ok(())
    }

    fn sync(&mut self, number: u64) -> anyhow::Result<()> {
        match self.numbered(number)? {
            Thing::File(file) => {
                for change in std::mem::take(&mut file.since) {
                    change.apply(&mut file.synced);
                }
            }
            Thing::Folder(folder) => {
                for naming in std::mem::take(&mut folder.since) {
                    naming.apply(&mut folder.synced);
                }
            }
        }
        Ok(())
    }

    fn rename(&mut self, from: &[u8], to: &[u8]) -> anyhow::Result<()> {
        let ((old_place, old), (place, new)) = (split(from), split(to));
        ensure!(old_place == place, "a rename between folders");
        let (folder, _) = self.place(from)?;
        if folder.now().contains_key(old) {
            folder.since.push(Naming::Moved(old.to_vec(), new.to_vec()));
        } else if folder.now().contains_key(new) {
            // A socket or the like took its place, and those are not kept.
            folder.since.push(Naming::Gone(new.to_vec()));
        }
        Ok(())
    }

    fn remove(&mut self, path: &[u8]) -> anyhow::Result<()> {
        let (folder, name) = self.place(path)?;
        if folder.now().contains_key(&name) {
            folder.since.push(Naming::Gone(name));
        }
        Ok(())
    }

    fn numbered(&mut self, number: u64) -> anyhow::Result<&mut Thing> {
        let at = self.by_number.get(&number);
        let thing = at.and_then(|at| self.things.get_mut(*at));
        thing.with_context(|| format!("nobody has made file {number}"))
    }

    /// Returns the folder that a path lies in as the program sees it, and the last name.
    fn place(&mut self, path: &[u8]) -> anyhow::Result<(&mut FolderOnPlate, Vec<u8>)> {
        let shown = String::from_utf8_lossy(path).into_owned();
        let (folder, name) = split(path);
        let mut at = TOP;
        for part in folder
            .split(|byte| *byte == b'/')
            .filter(|part| !part.is_empty())
        {
            let next = match self.things.get(at) {
                Some(Thing::Folder(folder)) => folder.now().get(part).copied(),
                _ => None,
            };
            at = next.with_context(|| format!("no folder for {shown}"))?;
        }
        match self.things.get_mut(at) {
            Some(Thing::Folder(folder)) => Ok((folder, name.to_vec())),
            _ => bail!("no folder for {shown}"),
        }
    }

    /// Returns what the program sees.
    pub fn now(&self) -> Image {
        self.image(&mut |_| Keep::All)
    }

    /// Draws what a power cut leaves: of everything that was not synced nothing, all, or a part.
    pub fn cut(&self, chance: &mut Chance) -> Image {
        let mood = chance.below(8);
        self.image(&mut |count| match mood {
            0 => Keep::Nothing,
            1 => Keep::All,
            _ => Keep::draw(count, chance),
        })
    }

    fn image(&self, keep: &mut dyn FnMut(usize) -> Keep) -> Image {
        let mut image = Image::default();
        let mut open = vec![(Vec::new(), TOP)];
        while let Some((path, at)) = open.pop() {
            match self.things.get(at) {
                Some(Thing::File(file)) => {
                    let bytes = file.after(keep(file.since.len()));
                    let mode = file.mode;
                    image.0.insert(path, Left::File { mode, bytes });
                }
                Some(Thing::Folder(folder)) => {
                    let names = match self.temper {
                        Temper::Strict | Temper::Lies => folder.after(keep(folder.since.len())),
                        Temper::KeepsNames | Temper::KeepsHurried => folder.now(),
                    };
                    for (name, thing) in names {
                        let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
                        open.push(([path.as_slice(), separator, &name].concat(), thing));
                    }
                    let mode = folder.mode;
                    image.0.insert(path, Left::Folder { mode });
                }
                None => {}
            }
        }
        image
    }
}

/// Splits a path before its last name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (
            path.get(..at).unwrap_or_default(),
            path.get(at + 1..).unwrap_or_default(),
        ),
        None => (&[], path),
    }
}

/// How much of what was not synced arrives.
enum Keep {
    Nothing,
    All,
    /// The first so many changes, and so many bytes of the next.
    First(usize, usize),
    /// Each sector for itself, drawn from this seed.
    Sectors(u64),
}

impl Keep {
    fn draw(count: usize, chance: &mut Chance) -> Self {
        match chance.below(8) {
            0 => Self::Nothing,
            1 => Self::All,
            2..5 => {
                let whole = usize::try_from(chance.below(count as u64 + 1)).unwrap_or(0);
                // Half of them short: most writes are.
                let most = if chance.below(2) == 0 { 200 } else { 8000 };
                Self::First(whole, usize::try_from(chance.below(most)).unwrap_or(0))
            }
            _ => Self::Sectors(chance.number()),
        }
    }

    /// Returns how many changes arrive whole.
    fn whole(&self, count: usize) -> usize {
        match self {
            Self::Nothing => 0,
            Self::All => count,
            Self::First(whole, _) => (*whole).min(count),
            Self::Sectors(seed) => {
                usize::try_from(Chance::new(*seed).below(count as u64 + 1)).unwrap_or(0)
            }
        }
    }
}

impl FileOnPlate {
    fn after(&self, keep: Keep) -> Vec<u8> {
        if let Keep::Sectors(seed) = keep {
            return self.mixed(&mut Chance::new(seed));
        }
        let mut bytes = self.synced.clone();
        let whole = keep.whole(self.since.len());
        for change in self.since.iter().take(whole) {
            change.apply(&mut bytes);
        }
        if let (Keep::First(_, part), Some(next)) = (keep, self.since.get(whole)) {
            next.apply_part(part, &mut bytes);
        }
        bytes
    }

    /// Every sector as it was after some of the changes, and so the length.
    fn mixed(&self, chance: &mut Chance) -> Vec<u8> {
        let count = self.since.len() as u64;
        // The ends more often than what lies between: nothing arrived, or everything.
        let mut version = || match chance.below(4) {
            0 => 0,
            1 => count,
            _ => chance.below(count + 1),
        };
        let mut len = self.synced.len();
        for change in self
            .since
            .iter()
            .take(usize::try_from(version()).unwrap_or(0))
        {
            len = change.len_after(len);
        }
        let mut bytes = self.synced.clone();
        bytes.resize(len, 0);
        for (number, sector) in bytes.chunks_mut(SECTOR_LEN).enumerate() {
            let first = number * SECTOR_LEN;
            let touches = |change: &&Change| change.touches(first);
            if !self.since.iter().any(|change| touches(&change)) {
                continue;
            }
            let kept = usize::try_from(version()).unwrap_or(0);
            for change in self.since.iter().take(kept).filter(touches) {
                change.apply_to_sector(first, sector);
            }
        }
        bytes
    }
}

impl Change {
    fn len_after(&self, len: usize) -> usize {
        match self {
            Self::Bytes { at, bytes } => len.max(at + bytes.len()),
            Self::Len(len) => *len,
        }
    }

    fn apply(&self, to: &mut Vec<u8>) {
        self.apply_part(usize::MAX, to);
    }

    /// Applies the first so many bytes.
    fn apply_part(&self, part: usize, to: &mut Vec<u8>) {
        match self {
            Self::Len(len) if 0 < part => to.resize(*len, 0),
            Self::Len(_) => {}
            Self::Bytes { at, bytes } => {
                let bytes = bytes.get(..part.min(bytes.len())).unwrap_or_default();
                if to.len() < at + bytes.len() {
                    to.resize(at + bytes.len(), 0);
                }
                if let Some(place) = to.get_mut(*at..at + bytes.len()) {
                    place.copy_from_slice(bytes);
                }
            }
        }
    }

    /// Whether it may change the sector that begins there.
    fn touches(&self, first: usize) -> bool {
        match self {
            Self::Len(len) => *len < first + SECTOR_LEN,
            Self::Bytes { at, bytes } => *at < first + SECTOR_LEN && first < at + bytes.len(),
        }
    }

    fn apply_to_sector(&self, first: usize, sector: &mut [u8]) {
        let places = (first..).zip(sector);
        match self {
            // What was cut off reads as zeros if the file grows again.
            Self::Len(len) => {
                let cut = places.filter(|(place, _)| len <= place);
                cut.for_each(|(_, byte)| *byte = 0);
            }
            Self::Bytes { at, bytes } => {
                for (place, byte) in places {
                    let new = place.checked_sub(*at).and_then(|place| bytes.get(place));
                    *byte = new.copied().unwrap_or(*byte);
                }
            }
        }
    }
}

impl FolderOnPlate {
    fn now(&self) -> Names {
        self.after(Keep::All)
    }

    fn after(&self, keep: Keep) -> Names {
        let mut names = self.synced.clone();
        for naming in self.since.iter().take(keep.whole(self.since.len())) {
            naming.apply(&mut names);
        }
        names
    }
}

impl Naming {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::New(name, thing) => {
                names.insert(name.clone(), *thing);
            }
            Self::Gone(name) => {
                names.remove(name);
            }
            Self::Moved(from, to) => {
                if let Some(thing) = names.remove(from) {
                    names.insert(to.clone(), thing);
                }
            }
        }
    }
}

impl Image {
    /// Looks at a real folder; sockets and the like are left out.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(folder: &Path) -> anyhow::Result<Self> {
        let mut image = Self::default();
        let mut open = vec![folder.to_path_buf()];
        while let Some(path) = open.pop() {
            let about = path.symlink_metadata()?;
            let mode = about.mode() & 0o7777;
            let name = path.strip_prefix(folder)?.as_os_str().as_bytes().to_vec();
            if about.is_dir() {
                for entry in fs::read_dir(&path)? {
                    open.push(entry?.path());
                }
                image.0.insert(name, Left::Folder { mode });
            } else if about.is_file() {
                let bytes = fs::read(&path)?;
                image.0.insert(name, Left::File { mode, bytes });
            }
        }
        Ok(image)
    }

    /// Puts the image into a new folder.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        for (name, left) in &self.0 {
            let path = match name.is_empty() {
                true => folder.to_path_buf(),
                false => folder.join(std::ffi::OsStr::from_bytes(name)),
            };
            match left {
                Left::Folder { mode } => DirBuilder::new().mode(*mode).create(&path)?,
                Left::File { mode, bytes } => {
                    let mut open = OpenOptions::new();
                    open.write(true).create_new(true).mode(*mode);
                    open.open(&path)?.write_all(bytes)?;
                }
            }
        }
        Ok(())
    }

    /// Returns the first path at which two images differ, for people.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let paths = self.0.keys().chain(other.0.keys());
        let differs = |path: &&Vec<u8>| self.0.get(*path) != other.0.get(*path);
        let first = paths.filter(differs).min()?;
        Some(String::from_utf8_lossy(first).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: u64 = 1_000_001;

    fn plate() -> (Plate, u64, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().metadata().unwrap().ino();
        (Plate::of(folder.path()).unwrap(), top, folder)
    }

    fn play(plate: &mut Plate, calls: &[Call]) {
        for call in calls {
            plate.play(call).unwrap();
        }
    }

    fn made(path: &str) -> Call {
        Call::Made {
            number: FILE,
            mode: 0o600,
            path: path.into(),
        }
    }

    fn wrote(at: u64, bytes: &[u8]) -> Call {
        Call::Wrote {
            number: FILE,
            at,
            bytes: bytes.to_vec(),
        }
    }

    fn file<'a>(image: &'a Image, path: &str) -> Option<&'a [u8]> {
        match image.0.get(path.as_bytes())? {
            Left::File { bytes, .. } => Some(bytes),
            Left::Folder { .. } => None,
        }
    }

    /// Every picture that many cuts leave of one file.
    fn pictures(plate: &Plate, path: &str) -> Vec<Option<Vec<u8>>> {
        let cut = |seed| {
            let image = plate.cut(&mut Chance::new(seed));
            file(&image, path).map(<[u8]>::to_vec)
        };
        let mut all: Vec<_> = (0..2000).map(cut).collect();
        all.sort();
        all.dedup();
        all
    }

    #[test]
    fn what_is_synced_is_there_and_nothing_else_must_be() {
        let (mut plate, top, _folder) = plate();
        let (synced, named) = (Call::Synced { number: FILE }, Call::Synced { number: top });
        play(&mut plate, &[made("a"), wrote(0, b"old"), synced]);
        let all = pictures(&plate, "a");
        assert_eq!(all, [None, Some(b"old".to_vec())], "the name may be lost");
        play(&mut plate, &[named, wrote(1, b"new")]);
        let all = pictures(&plate, "a");
        for expect in ["old", "ond", "one", "onew"] {
            assert!(all.contains(&Some(expect.into())), "{expect} never came");
        }
        assert!(!all.contains(&None));
        assert_eq!(file(&plate.now(), "a"), Some(b"onew".as_slice()));
    }

    #[test]
    fn sectors_arrive_each_for_itself_and_lost_ones_are_zeros() {
        let (mut plate, top, _folder) = plate();
        let (synced, named) = (Call::Synced { number: FILE }, Call::Synced { number: top });
        play(
            &mut plate,
            &[made("a"), synced, named, wrote(0, &[1; 1024])],
        );
        let is_late = |bytes: &Vec<u8>| bytes.get(..513) == Some(&[vec![0; 512], vec![1]].concat());
        let all = pictures(&plate, "a");
        assert!(all.iter().flatten().any(is_late));
    }

    #[test]
    fn rename_is_seen_whole_or_not_at_all() {
        let (mut plate, top, _folder) = plate();
        let moved = Call::Renamed {
            from: b"a".to_vec(),
            to: b"b".to_vec(),
        };
        let named = Call::Synced { number: top };
        play(&mut plate, &[made("a"), named.clone(), moved]);
        let seen = |plate: &Plate| {
            let cut = |seed| plate.cut(&mut Chance::new(seed));
            let both = |image: Image| (file(&image, "a").is_some(), file(&image, "b").is_some());
            let mut all: Vec<_> = (0..200).map(cut).map(both).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        assert_eq!(seen(&plate), [(false, true), (true, false)]);
        plate.play(&named).unwrap();
        assert_eq!(seen(&plate), [(false, true)]);
    }

    #[test]
    fn kinder_disks_keep_more_and_a_liar_keeps_nothing() {
        let (empty, _, _folder) = plate();
        let look = |temper| {
            let mut plate = empty.clone();
            plate.turns(temper);
            let synced = Call::Synced { number: FILE };
            play(&mut plate, &[made("a"), wrote(0, b"x"), synced]);
            play(
                &mut plate,
                &[wrote(1, b"y"), Call::Hurried { number: FILE }],
            );
            let all = pictures(&plate, "a");
            all.first().cloned().unwrap()
        };
        assert_eq!(look(Temper::Strict), None);
        assert_eq!(look(Temper::KeepsNames), Some(b"x".to_vec()));
        assert_eq!(look(Temper::KeepsHurried), Some(b"xy".to_vec()));
        let mut plate = empty.clone();
        play(&mut plate, &[made("a"), wrote(0, b"x")]);
        plate.turns(Temper::Lies);
        plate.play(&Call::Synced { number: FILE }).unwrap();
        assert!(pictures(&plate, "a").contains(&Some(Vec::new())));
    }

    #[test]
    fn image_is_written_and_found_again() {
        let (mut plate, _, _folder) = plate();
        let keys = Call::Folder {
            number: FILE + 1,
            mode: 0o700,
            path: b"keys".to_vec(),
        };
        play(&mut plate, &[keys, made("keys/a"), wrote(0, b"x")]);
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("image");
        plate.now().write(&place).unwrap();
        assert_eq!(Image::of(&place).unwrap().difference(&plate.now()), None);
        let again = Plate::of(&place).unwrap();
        assert_eq!(again.cut(&mut Chance::new(1)), plate.now());
        fs::write(place.join("keys/b"), "").unwrap();
        let difference = Image::of(&place).unwrap().difference(&plate.now());
        assert_eq!(difference.as_deref(), Some("keys/b"));
    }

    #[test]
    fn what_cannot_be_played_is_refused() {
        let (mut plate, _, _folder) = plate();
        let call = b"link".to_vec();
        assert!(plate.play(&Call::Strange { call }).is_err());
        assert!(plate.play(&wrote(0, b"x")).is_err());
        assert!(plate.play(&made("no/folder")).is_err());
    }
}
