//! Two customers of two organisations want the last slot of a third's at the same time.
//!
//! The weather of the seed lies between them. A customer who is told anything else than "no room"
//! orders again. In the end exactly one has the slot, and the other was told that there is no room.

use std::time::Duration;

use mesh_api::request::DesiredState;

use crate::chance::Chance;
use crate::check::{Violation, Watch};
use crate::founding::{Mesh, recipe_name};
use crate::network::HostId;
use crate::scenario::first::{agree, wrong};
use crate::scenario::play::Play;
use crate::scenario::wishes::{AS_ASKED, Stage, Wish, Wishes};
use crate::scenario::{Case, Outcome};
use crate::weather::Weather;
use crate::world::World;

/// Nodes of each organisation; only the library has a slot, and its first node has it.
const ORGS: [(&str, u16); 3] = [("library", 2), ("bakery", 2), ("school", 2)];
/// How long the weather lasts.
const STORM: Duration = Duration::from_secs(60);
/// Within this after healing both customers know.
const LIVENESS: Duration = Duration::from_secs(120);

/// What the other customer is told.
const NO_ROOM: &str = "library-1: not enough slots";

const PROMISE: &str = "the last slot is granted exactly once, and the other is told why";

/// Runs one seed.
pub fn run(case: &Case) -> Outcome {
    let seed = case.seed;
    let drawn = Weather::draw(&mut Chance::new(seed, "weather"));
    let weather = case.trim.weather(drawn);
    let mut chance = Chance::new(seed, "last-slot");
    let mut mesh = Mesh::draw(&ORGS, weather.skew_max, &mut chance);
    mesh.leave_one_slot();
    let parameters = format!("{weather}\n  {mesh}");
    let mut world = World::new(seed, case.voice, Watch::all());
    world.plant = case.plant;
    let masters = mesh.settle(&mut world);
    let wishes = Wishes::new(recipe_name(), Chance::new(seed, "wishes"));
    let mut play = Play::new(world, wishes);
    let verdict = story(&mut play, &masters, weather, &mut chance);
    Outcome::of(seed, parameters, &play.world, verdict)
}

fn story(
    play: &mut Play,
    masters: &[HostId],
    weather: Weather,
    chance: &mut Chance,
) -> Result<(), Violation> {
    agree(play, masters)?;
    play.world.storm(weather);
    play.pass(
        chance.span(Duration::from_millis(1), Duration::from_secs(20)),
        STORM,
    )?;
    for (customer, name) in [(HostId(3), "crm"), (HostId(5), "wiki")] {
        let rest = chance.span(Duration::from_millis(1), Duration::from_millis(400));
        let name = name.parse().expect("letters are a name");
        play.wishes.add(
            &mut play.world,
            customer,
            name,
            Vec::<DesiredState>::new(),
            rest,
        );
    }
    play.wishes.insist(NO_ROOM);
    play.pass(STORM, Duration::from_secs(5))?;
    play.world.calm();
    play.until(
        "both customers know after healing",
        LIVENESS,
        |_, wishes| {
            let wish = wishes.open()?;
            Some(format!(
                "{} of {:?} is at {:?}",
                wish.name, wish.host, wish.stage
            ))
        },
    )?;
    play.until(AS_ASKED, LIVENESS, |world, wishes| {
        wishes
            .all()
            .iter()
            .find_map(|wish| wrong(world.hosts(), wish))
    })?;
    let all = play.wishes.all();
    let has = |wish: &&Wish| wish.stage == Stage::Done;
    let told = |wish: &&Wish| wish.stage == Stage::Refused && wish.is_told();
    if all.iter().filter(has).count() == 1 && all.iter().filter(told).count() == 1 {
        return Ok(());
    }
    let words: Vec<String> = all
        .iter()
        .map(|wish| format!("{}: {:?} {}", wish.name, wish.stage, wish.reason))
        .collect();
    Err(Violation::new(PROMISE, words.join("; ")))
}
