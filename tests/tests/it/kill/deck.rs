//! Which kills there will be: drawn from a seed over the system calls that a life was seen to make.

use std::collections::BTreeMap;

use mesh_tests::chance::Chance;
use mesh_tests::hunt::Part;

use super::step::Step;

/// Whom a kill is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The customer's daemon.
    Customer,
    /// The provider's daemon.
    Provider,
    /// The shim.
    Shim,
    /// The provider's daemon and the shim at once.
    Both,
}

impl Target {
    const ALL: [Self; 4] = [Self::Customer, Self::Provider, Self::Shim, Self::Both];

    /// Returns who dies.
    pub fn parts(self) -> Vec<Part> {
        match self {
            Self::Customer => vec![Part::Customer],
            Self::Provider => vec![Part::Provider],
            Self::Shim => vec![Part::Shim],
            Self::Both => vec![Part::Provider, Part::Shim],
        }
    }

    /// Returns the word for people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Provider => "provider",
            Self::Shim => "shim",
            Self::Both => "provider+shim",
        }
    }
}

/// A kill that is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Card {
    /// In which step.
    pub step: Step,
    /// Who.
    pub target: Target,
    /// After how many stops at system calls.
    pub stops: u64,
}

/// Stops that were seen, by who and by step.
pub type Seen = BTreeMap<(Part, usize), u64>;

/// Draws `count` kills, each step as often as the others.
pub fn draw(count: usize, seen: &Seen, chance: &mut Chance) -> Vec<Card> {
    let steps = Step::ALL.iter().cycle().take(count);
    steps
        .filter_map(|step| draw_one(*step, seen, chance))
        .collect()
}

/// Draws a kill in one step; none if nobody does anything in it.
pub fn draw_one(step: Step, seen: &Seen, chance: &mut Chance) -> Option<Card> {
    let of = |part| seen.get(&(part, step.number())).copied().unwrap_or(0);
    let has_shim = 0 < of(Part::Shim);
    let possible = |target: &Target| match target {
        Target::Customer => 0 < of(Part::Customer),
        Target::Provider => 0 < of(Part::Provider),
        Target::Shim | Target::Both => has_shim && 0 < of(Part::Provider),
    };
    let possible: Vec<Target> = Target::ALL.into_iter().filter(possible).collect();
    let target = chance.one(&possible)?;
    let range: u64 = target.parts().into_iter().map(of).sum();
    let stops = 1 + chance.below(range);
    Some(Card {
        step,
        target,
        stops,
    })
}

/// Deals kills to lives: one in the order itself, at most one in each later step.
pub fn deal(mut cards: Vec<Card>, chance: &mut Chance) -> Vec<Vec<Card>> {
    chance.shuffle(&mut cards);
    let (of_order, later): (Vec<Card>, Vec<Card>) =
        cards.into_iter().partition(|card| card.step.is_of_order());
    let mut lives: Vec<Vec<Card>> = of_order.into_iter().map(|card| vec![card]).collect();
    for card in later {
        let has = |life: &&mut Vec<Card>| life.iter().all(|held| held.step != card.step);
        let poorest = lives.iter_mut().filter(has).min_by_key(|life| life.len());
        match poorest {
            Some(life) => life.push(card),
            None => lives.push(vec![card]),
        }
    }
    lives
}
