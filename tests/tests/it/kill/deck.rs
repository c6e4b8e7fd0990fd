//! Which kills there will be: drawn from a seed over the system calls that a life was seen to make.

use std::collections::BTreeMap;

use mesh_tests::chance::Chance;
use mesh_tests::hunt::Part;
use nix::libc;

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
    /// Shims twice, for they are there in half of the steps only.
    const DRAWN: [Self; 6] = [
        Self::Customer,
        Self::Provider,
        Self::Shim,
        Self::Shim,
        Self::Both,
        Self::Both,
    ];

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
    /// At which system call.
    pub call: libc::c_long,
    /// At the how-manieth stop at that call: each is a stop before and one after it.
    pub stops: u64,
}

/// Stops that were seen, by who, by step and by system call.
pub type Seen = BTreeMap<(Part, usize, libc::c_long), u64>;

/// Calls in which threads wait or do their own housekeeping: a kill there is one between calls, and
/// they would outnumber all others.
const WAITS: [libc::c_long; 12] = [
    libc::SYS_futex,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    libc::SYS_restart_syscall,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_sched_yield,
    libc::SYS_madvise,
    libc::SYS_mprotect,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_gettid,
];

/// The same where older calls are still used.
#[cfg(target_arch = "x86_64")]
const OLD_WAITS: [libc::c_long; 2] = [libc::SYS_epoll_wait, libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const OLD_WAITS: [libc::c_long; 0] = [];

/// Draws `count` kills, each step as often as the others.
pub fn draw(count: usize, seen: &Seen, chance: &mut Chance) -> Vec<Card> {
    let steps = Step::ALL.iter().cycle().take(count);
    steps
        .filter_map(|step| draw_one(*step, seen, chance))
        .collect()
}

/// Draws a kill in one step: somebody, one of the calls that they make in it, rare ones as likely
/// as frequent ones, and a stop at that call. None if nobody does anything.
pub fn draw_one(step: Step, seen: &Seen, chance: &mut Chance) -> Option<Card> {
    let calls_of = |parts: &[Part]| {
        let mut calls: BTreeMap<libc::c_long, u64> = BTreeMap::new();
        for ((part, number, call), stops) in seen {
            let waits = WAITS.contains(call) || OLD_WAITS.contains(call);
            if *number == step.number() && parts.contains(part) && !waits {
                *calls.entry(*call).or_default() += stops;
            }
        }
        calls
    };
    let possible = |target: &Target| {
        let has_shim = !calls_of(&[Part::Shim]).is_empty();
        let needs_shim = target.parts().contains(&Part::Shim);
        !calls_of(&target.parts()).is_empty() && (has_shim || !needs_shim)
    };
    let possible: Vec<Target> = Target::DRAWN.into_iter().filter(possible).collect();
    let target = chance.one(&possible)?;
    let calls: Vec<(libc::c_long, u64)> = calls_of(&target.parts()).into_iter().collect();
    let (call, range) = chance.one(&calls)?;
    Some(Card {
        step,
        target,
        call,
        stops: 1 + chance.below(range),
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
