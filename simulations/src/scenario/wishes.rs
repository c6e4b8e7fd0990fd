//! Customers: they order over the API, change their mind, and ask again when a crash cut them off.
//!
//! A wish knows only what its customer was told. Invariant: an order is placed again under its name
//! only after the node itself said that it knows no such order.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_api::request::{DesiredState, OrderRequest};
use mesh_api::service::ServiceState;
use mesh_api::{ApiError, ErrorKind, Reply, Request};
use mesh_base::digest::Digest;
use mesh_base::name::Name;
use mesh_peer::port::CallId;

use crate::chance::Chance;
use crate::check::Violation;
use crate::network::HostId;
use crate::tally::Sometimes;
use crate::world::{Happening, World};

/// What a customer who was told of an order may rely on.
pub const SURVIVES: &str = "every acknowledged order survives";
/// What a customer who was told of a change may rely on.
pub const AS_ASKED: &str = "what runs is what was asked for";

/// Alarm tags from here on belong to wishes.
pub const TAG_FIRST: u64 = 1_000_000;

/// How far a wish is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Not asked yet, or to be asked again.
    Due,
    /// The order is asked; its last word is awaited.
    Ordering,
    /// Cut off or told to wait: the node must be asked what became of it.
    Unsure,
    /// The node is being asked.
    Asking,
    /// It became ready, as its customer was told.
    Ready,
    /// A change is asked.
    Changing,
    /// Nobody took it, as its customer was told.
    Refused,
    /// Everything asked is so, as its customer was told.
    Done,
}

/// One customer's wish.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Where it is asked.
    pub host: HostId,
    /// The service's name.
    pub name: Name,
    /// How far it is.
    pub stage: Stage,
    /// The order, once the customer was told its name.
    pub order: Option<Digest>,
    /// What the service shall be, one after the other.
    pub changes: Vec<DesiredState>,
    /// What the service shall be now.
    pub desired: DesiredState,
    /// Why nobody took it, as its customer was told last.
    pub reason: String,
    /// Order again until somebody takes it or the reason holds these words.
    until_told: Option<String>,
    /// Whether the customer was told that the order is on its way.
    acknowledged: bool,
    /// Whether the caller was cut off since it last knew.
    cut_off: bool,
    /// Whether the customer was ever told that it is ready.
    was_ready: bool,
}

/// All customers of a run.
pub struct Wishes {
    wishes: Vec<Wish>,
    calls: BTreeMap<CallId, usize>,
    recipe: Name,
    chance: Chance,
}

impl Wishes {
    /// Returns nobody yet.
    pub fn new(recipe: Name, chance: Chance) -> Self {
        Self {
            wishes: Vec::new(),
            calls: BTreeMap::new(),
            recipe,
            chance,
        }
    }

    /// Adds a customer that orders after a while.
    pub fn add(
        &mut self,
        world: &mut World,
        host: HostId,
        name: Name,
        changes: Vec<DesiredState>,
        rest: Duration,
    ) {
        world.alarm(rest, TAG_FIRST + self.wishes.len() as u64);
        self.wishes.push(Wish {
            host,
            name,
            stage: Stage::Due,
            order: None,
            changes,
            desired: DesiredState::Running,
            reason: String::new(),
            until_told: None,
            acknowledged: false,
            cut_off: false,
            was_ready: false,
        });
    }

    /// Makes every customer order again until somebody takes it or the last answer holds these
    /// words.
    pub fn insist(&mut self, until_told: &str) {
        for wish in &mut self.wishes {
            wish.until_told = Some(until_told.to_owned());
        }
    }

    /// Returns every wish.
    pub fn all(&self) -> &[Wish] {
        &self.wishes
    }

    /// Returns a wish that is not settled, if there is one.
    pub fn open(&self) -> Option<&Wish> {
        self.wishes
            .iter()
            .find(|wish| !matches!(wish.stage, Stage::Done | Stage::Refused))
    }

    /// Takes in what a customer sees. Returns an error if it may not be.
    pub fn handle(&mut self, world: &mut World, happening: Happening) -> Result<(), Violation> {
        match happening {
            Happening::Alarm(tag) => {
                let index = tag
                    .checked_sub(TAG_FIRST)
                    .and_then(|index| usize::try_from(index).ok());
                if let Some(index) = index {
                    self.act(world, index);
                }
                Ok(())
            }
            Happening::Reply { call, reply } => match self.calls.remove(&call) {
                Some(index) => self.answered(world, index, *reply),
                None => Ok(()),
            },
            Happening::Step { call } => {
                if let Some(wish) = self
                    .calls
                    .get(&call)
                    .and_then(|at| self.wishes.get_mut(*at))
                {
                    wish.acknowledged |= wish.stage == Stage::Ordering;
                }
                Ok(())
            }
            Happening::CutOff { call } => {
                if let Some(index) = self.calls.remove(&call)
                    && let Some(wish) = self.wishes.get_mut(index)
                {
                    wish.stage = Stage::Unsure;
                    wish.cut_off = true;
                    self.again(world, index);
                }
                Ok(())
            }
        }
    }

    /// Comes back to a wish in a while.
    fn again(&mut self, world: &mut World, index: usize) {
        let rest = self
            .chance
            .span(Duration::from_millis(500), Duration::from_secs(6));
        world.alarm(rest, TAG_FIRST + index as u64);
    }

    /// Does what a wish needs next.
    fn act(&mut self, world: &mut World, index: usize) {
        let recipe = self.recipe.clone();
        let Some(wish) = self.wishes.get_mut(index) else {
            return;
        };
        let name = wish.name.clone();
        let (request, stage) = match wish.stage {
            Stage::Due => {
                let order = OrderRequest {
                    name: Some(name),
                    ..OrderRequest::of(recipe)
                };
                (Request::Order(Box::new(order)), Stage::Ordering)
            }
            Stage::Unsure => (Request::Show { name }, Stage::Asking),
            Stage::Ready => match wish.changes.first().copied() {
                Some(state) => {
                    wish.desired = state;
                    (Request::SetState { name, state }, Stage::Changing)
                }
                None => {
                    wish.stage = Stage::Done;
                    return;
                }
            },
            _ => return,
        };
        let before = wish.stage;
        wish.stage = stage;
        let host = wish.host;
        match world.ask(host, request) {
            Some(call) => {
                self.calls.insert(call, index);
            }
            None => {
                if let Some(wish) = self.wishes.get_mut(index) {
                    wish.stage = before;
                }
                self.again(world, index);
            }
        }
    }

    fn answered(
        &mut self,
        world: &mut World,
        index: usize,
        reply: Result<Reply, ApiError>,
    ) -> Result<(), Violation> {
        let Some(wish) = self.wishes.get_mut(index) else {
            return Ok(());
        };
        let next = match (wish.stage, reply) {
            (Stage::Ordering, Ok(Reply::Order(order))) => {
                world.tally.met(Sometimes::Ready);
                wish.order = Some(order.order);
                wish.was_ready = true;
                Stage::Ready
            }
            (Stage::Ordering, Err(error)) => refused_or_unsure(world, &error, wish)?,
            (Stage::Asking, Ok(Reply::Show(show))) => {
                if wish.cut_off {
                    world.tally.met(Sometimes::AskedAgain);
                    wish.cut_off = false;
                }
                wish.order = Some(show.order);
                known(wish, show.state)?
            }
            (Stage::Asking, Err(error)) if error.kind == ErrorKind::NotFound => lost(wish)?,
            (Stage::Changing, Ok(Reply::State { .. })) => changed(world, wish),
            (Stage::Changing | Stage::Asking, Err(error)) => patient(wish, &error)?,
            (stage, Ok(reply)) => {
                let seen = format!("{} at {stage:?} was told {reply:?}", wish.name);
                return Err(Violation::new("an answer fits its question", seen));
            }
            (stage, Err(error)) => {
                let seen = format!("{} at {stage:?} was told {error:?}", wish.name);
                return Err(Violation::new("an answer fits its question", seen));
            }
        };
        wish.stage = next;
        if !matches!(next, Stage::Done | Stage::Refused) {
            self.again(world, index);
        }
        Ok(())
    }
}

/// An order's call ended without readiness: either nobody took it, or it is still on its way.
fn refused_or_unsure(
    world: &mut World,
    error: &ApiError,
    wish: &mut Wish,
) -> Result<Stage, Violation> {
    match error.kind {
        ErrorKind::CannotPlace => {
            wish.reason.clone_from(&error.cause);
            world.tally.met(Sometimes::Full);
            if error.cause.is_empty() || error.hint.is_empty() {
                let seen = format!("{} was refused without a reason", wish.name);
                return Err(Violation::new("a refused order has a reason", seen));
            }
            Ok(called_off(wish))
        }
        ErrorKind::Timeout | ErrorKind::Unreachable | ErrorKind::Failure => Ok(Stage::Unsure),
        kind => {
            let seen = format!("{} was told {kind:?}: {error}", wish.name);
            Err(Violation::new(
                "an order is taken, refused with a reason, or goes on",
                seen,
            ))
        }
    }
}

/// The node knows the order: what does its state mean for the wish?
fn known(wish: &mut Wish, state: ServiceState) -> Result<Stage, Violation> {
    Ok(match (state, wish.desired) {
        (ServiceState::Ready, DesiredState::Running)
        | (ServiceState::Stopped, DesiredState::Stopped)
        | (ServiceState::Destroyed, DesiredState::Destroyed) => {
            wish.was_ready = true;
            if wish.changes.first() == Some(&wish.desired) {
                wish.changes.remove(0);
            }
            if wish.changes.is_empty() {
                Stage::Done
            } else {
                Stage::Ready
            }
        }
        (ServiceState::Failed, DesiredState::Running) => Stage::Refused,
        (ServiceState::Destroyed, DesiredState::Running) if wish.was_ready => {
            let seen = format!("{} is gone, and nobody wanted that", wish.name);
            return Err(Violation::new(SURVIVES, seen));
        }
        // Nobody took it while its caller was cut off, and the node called it off.
        (ServiceState::Destroyed, DesiredState::Running) => called_off(wish),
        // The change may have been lost with the daemon that took it: ask for it again.
        (ServiceState::Ready | ServiceState::Stopped | ServiceState::Failed, _) => Stage::Ready,
        _ => Stage::Unsure,
    })
}

fn called_off(wish: &mut Wish) -> Stage {
    wish.order = None;
    wish.acknowledged = false;
    if wish.is_told() {
        Stage::Refused
    } else {
        Stage::Due
    }
}

impl Wish {
    /// Returns whether its customer was told what ends its patience.
    pub fn is_told(&self) -> bool {
        self.until_told
            .as_ref()
            .is_none_or(|words| self.reason.contains(words))
    }
}

/// The node knows no such order: only right if the customer was never told of it.
fn lost(wish: &mut Wish) -> Result<Stage, Violation> {
    if wish.desired == DesiredState::Destroyed {
        wish.changes.clear();
        return Ok(Stage::Done);
    }
    match wish.order {
        None if !wish.acknowledged => Ok(Stage::Due),
        order => {
            let order = order.map_or_else(|| "on its way".to_owned(), |order| order.short());
            let seen = format!("{} ({order}) is not known any more", wish.name);
            Err(Violation::new(SURVIVES, seen))
        }
    }
}

fn changed(world: &mut World, wish: &mut Wish) -> Stage {
    world.tally.met(match wish.desired {
        DesiredState::Running => Sometimes::CustomerStarted,
        DesiredState::Stopped => Sometimes::CustomerStopped,
        DesiredState::Destroyed => Sometimes::CustomerDestroyed,
    });
    if !wish.changes.is_empty() {
        wish.changes.remove(0);
    }
    if wish.changes.is_empty() {
        Stage::Done
    } else {
        Stage::Ready
    }
}

/// A change or a question met an obstacle that may pass.
fn patient(wish: &Wish, error: &ApiError) -> Result<Stage, Violation> {
    match error.kind {
        ErrorKind::Timeout
        | ErrorKind::Unreachable
        | ErrorKind::Degraded
        | ErrorKind::Failure
        | ErrorKind::Conflict => Ok(Stage::Unsure),
        kind => {
            let seen = format!("{} was told {kind:?}: {error}", wish.name);
            Err(Violation::new(
                "a known service can be asked about and changed",
                seen,
            ))
        }
    }
}
