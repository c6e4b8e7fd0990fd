//! `kill -9` of daemons and shims at random system calls of an order's life: bar first.kill.
//!
//! A first life is only watched: how many system calls does who make in which step? Over these the
//! kills are drawn, each step as often as the others, rare calls as likely as frequent ones. Then
//! lives are lived on a few lanes at once, with kills in them; after each one everything that
//! anybody was told must still hold.

mod book;
mod deck;
mod lane;
mod life;
mod step;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use mesh_tests::chance::Chance;
use mesh_tests::figures::Figure;
use mesh_tests::footprint::{self, Footprint};
use mesh_tests::hunt::{Part, Shot};
use mesh_tests::lab::Lab;
use mesh_tests::runner::Place;
use mesh_tests::until::until;

use self::deck::{Card, Seen, deal, draw, draw_one};
use self::lane::{Lane, SOON};
use self::life::Life;
use self::step::Step;

/// How many kills the bar asks for.
const KILLS: usize = 60;

/// How many meshes stand at once: waiting costs nothing, and kills make nodes wait.
const LANES: usize = 3;

/// How often more kills are drawn for steps that were missed.
const MORE_ROUNDS_MAX: usize = 10;

/// A kill that happened, and what it was meant to be.
type Kill = (Card, Shot);

/// Kills and looks.
pub fn kills_lose_nothing(place: &Place) -> anyhow::Result<()> {
    let seed = Chance::seed_of("MESHSTEAD_KILL_SEED")?;
    println!("MESHSTEAD_KILL_SEED={seed}");
    let mut chance = Chance::new(seed);
    let names = Lane::names(LANES);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let lab = Lab::new(&names, &place.folder, &place.programs)?;
    let before = Footprint::look();
    let mut lanes = raise(&lab)?;
    let start = Instant::now();
    let first = lanes.first_mut().context("there are lanes")?;
    let seen = Life::new(first, "crm-watched".to_owned(), Vec::new()).watched()?;
    println!("watched in {:.1} s", start.elapsed().as_secs_f64());
    show_seen(&seen);
    let lives = deal(draw(KILLS, &seen, &mut chance), &mut chance);
    let mut kills = live_all(&mut lanes, 0, lives)?;
    fill_up(&mut lanes, &seen, &mut kills, &mut chance)?;
    println!("lived in {:.1} s", start.elapsed().as_secs_f64());
    for lane in &mut lanes {
        lane.close()
            .with_context(|| format!("lane {}", lane.number))?;
    }
    nothing_is_left(&lanes, &before)?;
    tell(seed, &kills)
}

fn raise(lab: &Lab) -> anyhow::Result<Vec<Lane>> {
    let raised: Vec<anyhow::Result<Lane>> = thread::scope(|scope| {
        let raising: Vec<_> = (0..LANES)
            .map(|number| scope.spawn(move || Lane::raise(number, lab)))
            .collect();
        let ended = raising.into_iter().map(|thread| match thread.join() {
            Ok(lane) => lane,
            Err(_) => bail!("a lane fell"),
        });
        ended.collect()
    });
    raised.into_iter().collect()
}

/// Lives all lives, each lane one after the other.
fn live_all(lanes: &mut [Lane], round: usize, lives: Vec<Vec<Card>>) -> anyhow::Result<Vec<Kill>> {
    let queue = Mutex::new(lives.into_iter().enumerate());
    let kills = Mutex::new(Vec::new());
    let work = |lane: &mut Lane| -> anyhow::Result<()> {
        loop {
            let next = queue.lock().ok().and_then(|mut queue| queue.next());
            let Some((number, cards)) = next else {
                return Ok(());
            };
            let (start, name) = (Instant::now(), format!("crm-{round}-{number}"));
            let mut life = Life::new(lane, name.clone(), cards.clone());
            let lived = life.live();
            let shots = std::mem::take(&mut life.shots);
            if let Ok(mut kills) = kills.lock() {
                kills.extend(shots);
            }
            if lived.is_err()
                && let Ok(mut queue) = queue.lock()
            {
                // One broken promise is enough: the others end their lives.
                queue.by_ref().for_each(drop);
            }
            lived.with_context(|| format!("{name}, with {cards:?}"))?;
            println!("{name} lived {:.1} s", start.elapsed().as_secs_f64());
        }
    };
    thread::scope(|scope| {
        let working: Vec<_> = lanes
            .iter_mut()
            .map(|lane| scope.spawn(|| work(lane)))
            .collect();
        let ended = working.into_iter().map(|thread| match thread.join() {
            Ok(ended) => ended,
            Err(_) => bail!("a life fell"),
        });
        ended.collect::<anyhow::Result<Vec<()>>>()
    })?;
    Ok(kills.into_inner().unwrap_or_default())
}

/// Draws more kills for the steps that none has met, and for those that missed.
fn fill_up(
    lanes: &mut [Lane],
    seen: &Seen,
    kills: &mut Vec<Kill>,
    chance: &mut Chance,
) -> anyhow::Result<()> {
    for round in 1..=MORE_ROUNDS_MAX {
        let by_step = by_step(kills);
        let missed: Vec<Step> = Step::ALL
            .into_iter()
            .filter(|step| !by_step.contains_key(step))
            .collect();
        let lacking = KILLS.saturating_sub(kills.len());
        let mut wanted = missed;
        wanted.extend(Step::ALL.into_iter().cycle().take(lacking));
        if wanted.is_empty() {
            return Ok(());
        }
        let more = wanted
            .into_iter()
            .filter_map(|step| draw_one(step, seen, chance));
        let more = deal(more.collect(), chance);
        kills.extend(live_all(lanes, round, more)?);
    }
    Ok(())
}

fn by_step(kills: &[Kill]) -> BTreeMap<Step, usize> {
    let mut count = BTreeMap::new();
    for step in kills.iter().filter_map(|(_, shot)| Step::of(shot.step)) {
        *count.entry(step).or_default() += 1;
    }
    count
}

/// Stops the daemons and looks at what stays.
fn nothing_is_left(lanes: &[Lane], before: &Footprint) -> anyhow::Result<()> {
    for home in lanes.iter().flat_map(Lane::homes) {
        home.stop()?;
    }
    let grown = || before.grown_to(&Footprint::look());
    let gone = until("everything is gone", SOON, || {
        Ok(grown().is_empty().then_some(()))
    });
    let mut left = if gone.is_ok() { Vec::new() } else { grown() };
    left.extend(
        lanes
            .iter()
            .flat_map(Lane::homes)
            .flat_map(footprint::files),
    );
    let items = lanes.iter().flat_map(|lane| lane.book.orders());
    let endings: Vec<String> = items
        .filter_map(|(_, id)| id.get(..12))
        .map(str::to_owned)
        .collect();
    left.extend(footprint::cgroups(&endings));
    ensure!(
        left.is_empty(),
        "this was left behind:\n{}",
        left.join("\n")
    );
    Ok(())
}

fn show_seen(seen: &Seen) {
    println!("stops at system calls in a life:");
    for step in Step::ALL {
        let mut by_part: BTreeMap<Part, u64> = BTreeMap::new();
        for ((part, number, _), stops) in seen {
            if *number == step.number() {
                *by_part.entry(*part).or_default() += stops;
            }
        }
        println!("  {:<8} {by_part:?}", format!("{step:?}"));
    }
}

/// Tells the figure, with the histograms.
fn tell(seed: u64, kills: &[Kill]) -> anyhow::Result<()> {
    let calls = histogram(kills.iter().map(|(_, shot)| shot.call.clone()));
    let targets = histogram(kills.iter().map(|(card, _)| card.target.word().to_owned()));
    let executed = kills.iter().filter(|(_, shot)| shot.executed).count();
    let steps = by_step(kills);
    let count = |step: &Step| steps.get(step).copied().unwrap_or(0);
    let of_steps: Vec<String> = Step::ALL
        .iter()
        .map(|step| format!("{step:?} {}", count(step)))
        .collect();
    let holds = KILLS <= kills.len() && Step::ALL.iter().all(|step| 0 < count(step));
    let text = format!(
        "{} kills, seed {seed}: 0 acknowledged orders, awards, grants or usage records lost, 0 \
         orders executed twice, instances outlived their daemons, invoices recomputed, nothing \
         left behind | whom: {targets} | in which step: {} | at which system call ({executed} \
         after it, the others before): {calls}",
        kills.len(),
        of_steps.join(", "),
    );
    Figure {
        bar: "first.kill".to_owned(),
        text: text.clone(),
        holds,
    }
    .tell();
    ensure!(holds, "kills were missed: {text}");
    Ok(())
}

/// Counts words, the most frequent first.
fn histogram(words: impl Iterator<Item = String>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for word in words {
        *counts.entry(word).or_default() += 1;
    }
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let words = counts.iter().map(|(word, count)| format!("{word} {count}"));
    words.collect::<Vec<String>>().join(", ")
}
