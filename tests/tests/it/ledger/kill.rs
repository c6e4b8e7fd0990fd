//! `kill -9` of a daemon that many programs write through: bar ledger.kill.
//!
//! Each life of the daemon ends at a drawn moment: mostly under load, some while it starts. The
//! next one is asked for everything that any before it has said yes to.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mesh_tests::chance::Chance;
use mesh_tests::figures::{Durations, Figure};
use mesh_tests::home::Home;
use mesh_tests::lab::Lab;
use mesh_tests::local_api::{LocalApi, Refused};
use mesh_tests::runner::Place;
use mesh_tests::until::{rest, until};

use super::daemon::Daemon;
use super::promises::{Book, CLIENTS, Desk, OnTheWay, verify};

/// What the bar asks for.
const KILLS: usize = 200;
const OPERATIONS: u64 = 50_000;

/// Yeses in a life under load: the fewest, and how many more are drawn at most.
const YESES: [u64; 2] = [240, 110];
/// One in so many kills hits a daemon that starts.
const EARLY: u64 = 8;
/// Longest time after which a starting daemon is killed; most answer sooner.
const EARLY_MAX: Duration = Duration::from_millis(150);
/// Records that one life may sign: each start checks all there are.
const SIGNED: u64 = 2;

/// Longest time that a life under load may take.
const LIFE_MAX: Duration = Duration::from_secs(30);

/// Kills and looks.
pub fn kills_under_load_lose_nothing(place: &Place) -> anyhow::Result<()> {
    let seed = Chance::seed_of("MESHSTEAD_KILL_SEED")?;
    println!("MESHSTEAD_KILL_SEED={seed}");
    let lab = Lab::new(&["bakery-1"], &place.folder, &place.programs)?;
    let home = lab.home("bakery-1")?;
    home.meshnode(&["init", "--org", "bakery"])?.ok()?;
    let mut lives = Lives {
        home,
        log: &place.folder.join("daemon.log"),
        chance: Chance::new(seed),
        book: Book::default(),
        desks: Desk::all(CLIENTS),
        kills: 0,
        early: 0,
        yeses: 0,
        starts: Durations::default(),
        on_the_way: OnTheWay::default(),
    };
    while lives.kills < KILLS || lives.yeses < OPERATIONS {
        let number = lives.kills + 1;
        lives
            .live()
            .with_context(|| format!("before kill {number}"))?;
    }
    let last = lives.look().context("after the last kill")?;
    verify(&mut LocalApi::connect(&home.folder)?)?;
    home.stop()?;
    drop(last);
    lives.tell(seed)
}

/// A daemon's many lives.
struct Lives<'a> {
    home: &'a Home,
    log: &'a Path,
    chance: Chance,
    book: Book,
    desks: Vec<Desk>,
    kills: usize,
    early: usize,
    yeses: u64,
    starts: Durations,
    on_the_way: OnTheWay,
}

impl Lives<'_> {
    /// One life, from its start to its kill.
    fn live(&mut self) -> anyhow::Result<()> {
        if self.chance.below(EARLY) == 0 {
            let mut daemon = Daemon::start(self.home, self.log, &[])?;
            let most = EARLY_MAX.as_micros() as u64;
            rest(Duration::from_micros(self.chance.below(most)))?;
            self.early += 1;
            self.kills += 1;
            return daemon.kill();
        }
        let mut daemon = self.look()?;
        let [fewest, more] = YESES;
        let wanted = fewest + self.chance.below(more);
        let (given, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        let folder = self.home.folder.as_path();
        let killed = thread::scope(|scope| {
            let asking: Vec<_> = self
                .desks
                .iter_mut()
                .map(|desk| {
                    scope.spawn(|| {
                        let ended = ask_until_the_end(desk, folder, &given);
                        is_over.fetch_or(ended.is_err(), Ordering::Relaxed);
                        ended
                    })
                })
                .collect();
            let enough = until("enough yeses", LIFE_MAX, || {
                let is_enough = wanted <= given.load(Ordering::Relaxed);
                Ok((is_enough || is_over.load(Ordering::Relaxed)).then_some(()))
            });
            let killed = daemon.kill();
            for ended in asking {
                match ended.join() {
                    Ok(ended) => ended?,
                    Err(_) => bail!("one who asks fell"),
                }
            }
            enough.and(killed)
        });
        self.book.note_desks(&self.desks);
        self.kills += 1;
        self.yeses += given.into_inner();
        killed
    }

    /// Starts the daemon and asks it for everything that was said.
    fn look(&mut self) -> anyhow::Result<Daemon> {
        let start = Instant::now();
        let mut daemon = Daemon::start(self.home, self.log, &[])?;
        let mut api = daemon.answers()?;
        self.starts.add(start.elapsed());
        let on_the_way = self.book.check(&mut api, &mut self.desks)?;
        self.on_the_way.all += on_the_way.all;
        self.on_the_way.arrived += on_the_way.arrived;
        Ok(daemon)
    }

    fn tell(&self, seed: u64) -> anyhow::Result<()> {
        let OnTheWay { all, arrived } = self.on_the_way;
        // Kills that met nobody, or that always came too late or too early, would prove little.
        let is_hard = 0 < arrived && arrived < all && 0 < self.early;
        let holds = KILLS <= self.kills && OPERATIONS <= self.yeses && is_hard;
        let text = format!(
            "{} kills, seed {seed}, {} of them of a daemon that started: 0 of {} operations that \
             were said yes to lost, 0 invented; {all} were on their way when a kill came, \
             {arrived} of them had arrived; starts {}",
            self.kills,
            self.early,
            self.yeses,
            self.starts.summary(),
        );
        Figure {
            bar: "ledger.kill".to_owned(),
            text,
            holds,
        }
        .hold()
    }
}

/// Asks for one thing after the other until nobody answers any more.
fn ask_until_the_end(desk: &mut Desk, home: &Path, given: &AtomicU64) -> anyhow::Result<()> {
    let first = desk.told;
    // The others may have enough yeses before this one has begun.
    let Ok(mut api) = LocalApi::connect(home) else {
        return Ok(());
    };
    while !(desk.is_signed() && first + SIGNED <= desk.told) {
        match desk.ask(&mut api, &|_| Ok(())) {
            Ok(()) => given.fetch_add(1, Ordering::Relaxed),
            Err(error) if error.is::<Refused>() => return Err(error),
            Err(_) => break,
        };
    }
    Ok(())
}
