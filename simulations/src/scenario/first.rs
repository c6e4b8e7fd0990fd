//! 20 nodes in 3 organisations place 200 orders through loss, partitions, crashes and skewed
//! clocks.
//!
//! First the mesh forms and the organisations sign agreements in fair weather. Then the weather of
//! the seed comes, and the orders with it: safety is checked at every step. Then everything heals,
//! and within a bound every order must be what its customer was told, every replica equal and every
//! invoice right.

use std::time::Duration;

use mesh_api::request::{DesiredState, Sale};
use mesh_api::{Reply, Request};
use mesh_ledger::grant::RefusalReason;
use mesh_peer::view::AttemptView;

use crate::chance::Chance;
use crate::check::{Violation, Watch, books, replicas};
use crate::driver::Driver;
use crate::founding::{Mesh, recipe_name};
use crate::host::Host;
use crate::network::HostId;
use crate::scenario::play::Play;
use crate::scenario::wishes::{AS_ASKED, Stage, Wish, Wishes};
use crate::scenario::{Case, Outcome};
use crate::tally::Sometimes;
use crate::trim::Trim;
use crate::weather::Weather;
use crate::world::World;

/// Nodes of each organisation.
const ORGS: [(&str, u16); 3] = [("bakery", 8), ("library", 7), ("school", 5)];
/// How many orders are placed.
pub const ORDERS: u64 = 200;
/// How long the weather lasts.
const STORM: Duration = Duration::from_secs(110);
/// Within this after healing every order is settled and every replica equal.
const LIVENESS: Duration = Duration::from_secs(180);

/// Runs one seed.
pub fn run(case: &Case) -> Outcome {
    let seed = case.seed;
    let drawn = Weather::draw(&mut Chance::new(seed, "weather"));
    let weather = case.trim.weather(drawn);
    let mut chance = Chance::new(seed, "first");
    let mesh = Mesh::draw(&ORGS, weather.skew_max, &mut chance);
    let parameters = format!("{weather}\n  {mesh}");
    let mut world = World::new(seed, case.voice, Watch::all());
    world.plant = case.plant;
    let masters = mesh.settle(&mut world);
    let wishes = Wishes::new(recipe_name(), Chance::new(seed, "wishes"));
    let mut play = Play::new(world, wishes);
    let verdict = story(&mut play, &masters, (weather, &case.trim), &mut chance);
    Outcome::of(seed, parameters, &play.world, verdict)
}

fn story(
    play: &mut Play,
    masters: &[HostId],
    (weather, trim): (Weather, &Trim),
    chance: &mut Chance,
) -> Result<(), Violation> {
    agree(play, masters)?;
    place_orders(play, trim, chance);
    play.world.storm(weather);
    play.pass(STORM, Duration::from_secs(5))?;
    play.world.calm();
    play.until(
        "every order is settled after healing",
        LIVENESS,
        |_, wishes| {
            let wish = wishes.open()?;
            let count = wishes.all().iter().filter(|wish| is_open(wish)).count();
            Some(format!(
                "{count} are not, such as {} of {:?} at {:?}",
                wish.name, wish.host, wish.stage
            ))
        },
    )?;
    play.until("replicas are equal after healing", LIVENESS, |world, _| {
        replicas::difference(world.hosts())
    })?;
    play.until(AS_ASKED, LIVENESS, |world, wishes| {
        wishes
            .all()
            .iter()
            .find_map(|wish| wrong(world.hosts(), wish))
    })?;
    census(&mut play.world);
    crate::scenario::accounts::settle(play, masters)?;
    play.world.hosts().iter().try_for_each(books::settled)
}

fn is_open(wish: &Wish) -> bool {
    !matches!(wish.stage, Stage::Done | Stage::Refused)
}

/// Counts the hard branches that only the ledgers show.
fn census(world: &mut World) {
    let mut met = Vec::new();
    for host in world.hosts() {
        let Some(daemon) = &host.daemon else { continue };
        for order in daemon
            .node
            .view()
            .orders
            .values()
            .filter(|o| o.customer == host.key())
        {
            let attempts = order.attempts.values();
            let lapsed = |attempt: &&AttemptView| attempt.refused == Some(RefusalReason::Lapsed);
            let let_go = |attempt: &&AttemptView| attempt.reserved && attempt.award.is_none();
            if attempts
                .clone()
                .any(|attempt| lapsed(&attempt) || let_go(&attempt))
            {
                met.push(Sometimes::ReservationLapsed);
            }
            let Some((number, granted)) = order.granted() else {
                continue;
            };
            if attempts.clone().any(|attempt| attempt.refused.is_some()) && 1 < number {
                met.push(Sometimes::NextCandidate);
            }
            let provider = world
                .hosts()
                .iter()
                .find(|other| other.key() == granted.node);
            if provider.is_some_and(|provider| provider.identity.org() != order.org) {
                met.push(Sometimes::Neighbour);
            }
        }
    }
    met.into_iter().for_each(|branch| world.tally.met(branch));
}

/// Every organisation sells to every other.
pub fn agree(play: &mut Play, masters: &[HostId]) -> Result<(), Violation> {
    play.until(
        "the mesh forms in fair weather",
        Duration::from_secs(60),
        |world, _| {
            world
                .hosts()
                .iter()
                .any(|host| host.daemon.is_none())
                .then(|| "a daemon".to_owned())
        },
    )?;
    for seller in masters {
        for buyer in masters.iter().filter(|buyer| *buyer != seller) {
            let request = Request::OrgInvite {
                sell: vec![Sale {
                    recipe: recipe_name(),
                    price: crate::founding::price(),
                }],
                credit: crate::founding::credit(),
                valid_s: 3600,
                settlement_days: 14,
            };
            let Reply::OrgInvite { agreement, .. } = play.ask_well(*seller, request)? else {
                return Err(Violation::new("an answer fits its question", "OrgInvite"));
            };
            play.ask_well(*buyer, Request::OrgAccept { agreement })?;
        }
    }
    play.until(
        "agreements reach everybody",
        Duration::from_secs(120),
        |world, _| replicas::difference(world.hosts()).or_else(|| strangers(world)),
    )
}

/// Finds two nodes that are not connected.
fn strangers(world: &World) -> Option<String> {
    let hosts = world.hosts();
    let lonely = |a: &Host| {
        hosts
            .iter()
            .find(|b| b.id != a.id && !world.is_connected(a.id, b.id))
            .map(|b| b.id)
    };
    hosts.iter().find_map(|a| {
        let b = lonely(a)?;
        Some(format!("{:?} and {b:?} are not connected", a.id))
    })
}

fn place_orders(play: &mut Play, trim: &Trim, chance: &mut Chance) {
    use DesiredState::{Destroyed, Running, Stopped};
    let hosts: Vec<HostId> = play.world.hosts().iter().map(|host| host.id).collect();
    for index in 0..ORDERS {
        let host = chance.pick(&hosts).copied().unwrap_or(HostId(0));
        let changes = match chance.below(100) {
            0..50 => vec![],
            50..62 => vec![Stopped],
            62..74 => vec![Stopped, Running],
            74..94 => vec![Destroyed],
            _ => vec![Stopped, Running, Destroyed],
        };
        let rest = chance.span(Duration::from_millis(100), STORM.mul_f64(0.85));
        let name = format!("w{index}")
            .parse()
            .expect("a letter and digits are a name");
        if trim.places(index) {
            play.wishes.add(&mut play.world, host, name, changes, rest);
        }
    }
}

/// Says what is wrong on the machines about a settled wish.
pub fn wrong(hosts: &[Host], wish: &Wish) -> Option<String> {
    let order = wish.order?;
    if wish.stage != Stage::Done {
        return None;
    }
    let found: Vec<(HostId, bool)> = hosts
        .iter()
        .flat_map(|host| Driver::items(&host.driver).map(|item| (host.id, item)))
        .filter(|(_, (item, _))| item.0 == order)
        .map(|(id, (_, runs))| (id, runs))
        .collect();
    let right = match wish.desired {
        DesiredState::Running => matches!(found.as_slice(), [(_, true)]),
        DesiredState::Stopped => matches!(found.as_slice(), [(_, false)]),
        DesiredState::Destroyed => found.is_empty(),
    };
    let shall = wish.desired;
    (!right).then(|| format!("{} shall be {shall}, is found so: {found:?}", wish.name))
}
