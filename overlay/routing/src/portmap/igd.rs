//! The conversation with a UPnP gateway: one request at a time.
//!
//! ```text
//!   search ──► description ──► outer address ──► for each claim: look ─┬─ nobody's, ours ─► add
//!     ▲                                                          ▲     └─ another's ─► draw ──┐
//!     └── a request fails: the gateway may have moved ───────────┴────────────────────────────┘
//! ```
//! It looks before it adds, because some gateways let the last one win; and looks again once a
//! minute, because they do not say when they have forgotten. Leaves to the mapper whether this way
//! is gone at all. Invariant: at most one request is under way.

use std::net::Ipv4Addr;
use std::time::Duration;

use mesh_base::time::Moment;

use super::claim::Claim;
use super::mapper::{Action, GLANCE};
use super::soap::{Ask, CONFLICT, Control, NO_SUCH_ENTRY, ONLY_PERMANENT, Said};
use super::soap::{control_of_description, said};
use super::ssdp::{Place, place_of_answer, searches};
use super::{Gateway, is_usable};

/// How often a gateway is searched for before this way is given up.
const SEARCHES_MAX: u32 = 3;
/// A gateway answers within the second that the search allows (MX), or half a second later.
const SEARCH_WAIT: Duration = Duration::from_millis(1_500);
/// How many rounds of searches may be in vain before what a gateway maps without an end is lost.
const VAIN_ROUNDS_MAX: u32 = 3;
/// Longest wait for an answer to one request; slow routers take a second or two.
pub const FETCH_WAIT: Duration = Duration::from_secs(6);

/// How far it is.
#[derive(Debug, Clone)]
enum Stage {
    Searching { tries: u32, due: Moment },
    Describing(Place),
    Ready(Control),
}

/// What is being fetched.
#[derive(Debug, Clone, Copy)]
enum Job {
    Describe,
    Address,
    /// For the claim at an index.
    Claim(usize, Ask),
}

/// Whether mappings are made or taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// Made and kept.
    Keep,
    /// Taken back.
    Leave,
}

/// What became of the way after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Open,
    /// No gateway of this kind is there.
    Silent,
}

/// The conversation.
#[derive(Debug)]
pub struct Igd {
    gateway: Gateway,
    lease: Duration,
    stage: Stage,
    job: Option<(u32, Job, Moment)>,
    ticket: u32,
    address_due: Moment,
    /// The outer address, as last said.
    pub address: Option<Ipv4Addr>,
    /// Claims whose entry is known to be missing, by index.
    missing: Vec<usize>,
    is_permanent: bool,
    /// How many rounds of searches in a row found nothing that works.
    vain_rounds: u32,
    /// How many requests in a row have failed since then.
    failures: u32,
}

impl Igd {
    /// Begins with a search. `ticket` is where requests are counted from.
    pub fn new(gateway: Gateway, lease: Duration, ticket: u32, now: Moment) -> Self {
        Self {
            gateway,
            lease,
            stage: Stage::Searching { tries: 0, due: now },
            job: None,
            ticket,
            address_due: now,
            address: None,
            missing: Vec::new(),
            is_permanent: false,
            vain_rounds: 0,
            failures: 0,
        }
    }

    /// Takes an answer to a search.
    pub fn handle_found(&mut self, bytes: &[u8]) {
        // After so many failures it is not believed before a round is over.
        let is_vain = SEARCHES_MAX <= self.failures;
        if is_vain || !matches!(self.stage, Stage::Searching { .. }) {
            return;
        }
        if let Some(place) = place_of_answer(bytes, self.gateway.router) {
            self.stage = Stage::Describing(place);
        }
    }

    /// Takes the answer to a request; none if it failed.
    pub fn handle_fetched(
        &mut self,
        ticket: u32,
        body: Option<&str>,
        claims: &mut [Claim],
        now: Moment,
    ) {
        let Some((_, job, _)) = self.job.take_if(|(awaited, _, _)| *awaited == ticket) else {
            return;
        };
        let is_answer = !matches!(job, Job::Describe);
        let is_done = match job {
            Job::Describe => self.described(body, claims, now),
            Job::Address => body.and_then(said).is_some_and(|said| {
                self.address = said.address.filter(|ip| is_usable(*ip));
                true
            }),
            Job::Claim(index, ask) => {
                let claim = claims.get_mut(index);
                let said = body.and_then(said);
                said.zip(claim).is_some_and(|(said, claim)| {
                    self.answered(index, claim, ask, said, now);
                    true
                })
            }
        };
        if !is_done {
            self.search_again(now);
        } else if is_answer {
            // A description that is there says nothing of who answers behind it.
            (self.vain_rounds, self.failures) = (0, 0);
        }
    }

    /// Gone, restarted at another port, or no gateway: it is looked for again, at once at first.
    /// One that answers searches and nothing else is as good as silent.
    fn search_again(&mut self, now: Moment) {
        let due = match self.failures {
            0 => now,
            _ => now + SEARCH_WAIT,
        };
        self.failures += 1;
        let tries = self.failures.min(SEARCHES_MAX);
        self.stage = Stage::Searching { tries, due };
    }

    /// Does what is due.
    pub fn handle_time(
        &mut self,
        claims: &mut [Claim],
        aim: Aim,
        now: Moment,
        out: &mut impl FnMut(Action),
    ) -> Verdict {
        if aim == Aim::Leave {
            self.leave(claims, now);
        }
        if let Some((ticket, _, end)) = self.job {
            if now < end {
                return Verdict::Open;
            }
            self.handle_fetched(ticket, None, claims, now);
        }
        for claim in claims.iter_mut() {
            if claim.until.is_some_and(|until| until <= now) {
                claim.until = None;
            }
        }
        match &mut self.stage {
            Stage::Searching { tries, due } => {
                if now < *due {
                    return Verdict::Open;
                }
                if SEARCHES_MAX <= *tries {
                    let is_held = claims.iter().any(Claim::is_held);
                    (*tries, *due) = (0, now + GLANCE);
                    self.vain_rounds += 1;
                    self.failures = 0;
                    if is_held && aim == Aim::Keep && self.vain_rounds < VAIN_ROUNDS_MAX {
                        return Verdict::Open;
                    }
                    claims.iter_mut().for_each(Claim::give_up);
                    return Verdict::Silent;
                }
                (*tries, *due) = (*tries + 1, now + SEARCH_WAIT);
                for search in searches() {
                    out(Action::Search(search));
                }
            }
            Stage::Describing(place) => {
                let place = place.clone();
                self.fetch(Job::Describe, place, None, now, out);
            }
            Stage::Ready(control) => {
                let control = control.clone();
                if let Some(job) = self.next_job(claims, aim, now) {
                    let ask = match job {
                        Job::Claim(_, ask) => ask,
                        Job::Address | Job::Describe => Ask::Address,
                    };
                    let post = control.post(ask);
                    self.fetch(job, control.place, Some(post), now, out);
                }
            }
        }
        Verdict::Open
    }

    /// Returns when something is due.
    pub fn next_deadline(&self, claims: &[Claim]) -> Option<Moment> {
        if let Some((_, _, end)) = self.job {
            return Some(end);
        }
        match self.stage {
            Stage::Searching { due, .. } => Some(due),
            Stage::Describing(_) => Some(Moment(0)),
            Stage::Ready(_) => {
                let dues = claims.iter().filter_map(|claim| claim.due);
                dues.chain([self.address_due]).min()
            }
        }
    }

    /// Returns the number of the last request.
    pub fn ticket(&self) -> u32 {
        self.ticket
    }

    /// Returns whether the gateway itself has answered.
    pub fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready(_))
    }

    /// Takes back what is held, and what is being added if it is granted.
    fn leave(&self, claims: &mut [Claim], now: Moment) {
        for (index, claim) in claims.iter_mut().enumerate() {
            let is_added = matches!(
                self.job,
                Some((_, Job::Claim(at, Ask::Add { .. }), _)) if at == index
            );
            if claim.is_held() {
                claim.ask_at(now);
            } else if !is_added {
                // Its outer port may be another's.
                claim.give_up();
            }
        }
    }

    fn fetch(
        &mut self,
        job: Job,
        place: Place,
        post: Option<super::soap::Post>,
        now: Moment,
        out: &mut impl FnMut(Action),
    ) {
        self.ticket = self.ticket.wrapping_add(1);
        self.job = Some((self.ticket, job, now + FETCH_WAIT));
        out(Action::Fetch {
            ticket: self.ticket,
            place,
            post,
        });
    }

    fn described(&mut self, body: Option<&str>, claims: &mut [Claim], now: Moment) -> bool {
        let Stage::Describing(place) = &self.stage else {
            return false;
        };
        let Some(control) = body.and_then(|body| control_of_description(body, place)) else {
            return false;
        };
        self.stage = Stage::Ready(control);
        self.address_due = now;
        self.missing.clear();
        // A gateway that had to be found again may have forgotten.
        claims.iter_mut().for_each(|claim| claim.ask_at(now));
        true
    }

    fn next_job(&mut self, claims: &[Claim], aim: Aim, now: Moment) -> Option<Job> {
        let is_due = |claim: &Claim| claim.due.is_some_and(|due| due <= now);
        if aim == Aim::Leave {
            let (index, claim) = (claims.iter().enumerate()).find(|(_, claim)| is_due(claim))?;
            let ask = Ask::Delete {
                transport: claim.wish.transport,
                external_port: claim.external_port,
            };
            return Some(Job::Claim(index, ask));
        }
        if self.address_due <= now {
            self.address_due = now + GLANCE;
            return Some(Job::Address);
        }
        let (index, claim) = (claims.iter().enumerate()).find(|(_, claim)| is_due(claim))?;
        if !self.missing.contains(&index) {
            let ask = Ask::Look {
                transport: claim.wish.transport,
                external_port: claim.external_port,
            };
            return Some(Job::Claim(index, ask));
        }
        let lease_s = if self.is_permanent {
            0
        } else {
            u32::try_from(self.lease.as_secs()).unwrap_or(u32::MAX)
        };
        let ask = Ask::Add {
            wish: claim.wish,
            own: self.gateway.own,
            external_port: claim.external_port,
            lease_s,
        };
        Some(Job::Claim(index, ask))
    }

    fn answered(&mut self, index: usize, claim: &mut Claim, ask: Ask, said: Said, now: Moment) {
        match ask {
            Ask::Address => {}
            Ask::Look { .. } => self.looked(index, claim, said, now),
            Ask::Add { lease_s, .. } => self.added(index, claim, lease_s, said, now),
            // Whatever it says, nothing more can be done.
            Ask::Delete { .. } => claim.give_up(),
        }
    }

    fn looked(&mut self, index: usize, claim: &mut Claim, said: Said, now: Moment) {
        let is_ours = said.client == Some(self.gateway.own) && said.port == Some(claim.wish.port);
        let is_anothers = said.error.is_none() && said.client.is_some() && !is_ours;
        if is_anothers {
            self.draw(index, claim, now);
            return;
        }
        if is_ours && claim.is_held() && now < claim.renew {
            claim.ask_at(claim.renew.min(now + GLANCE));
            return;
        }
        if said.error == Some(NO_SUCH_ENTRY) {
            claim.until = None;
        }
        self.missing.push(index);
        claim.ask_at(now);
    }

    fn added(&mut self, index: usize, claim: &mut Claim, lease_s: u32, said: Said, now: Moment) {
        match said.error {
            None => {
                self.missing.retain(|missing| *missing != index);
                claim.hold((lease_s != 0).then_some(self.lease), now);
                claim.due = Some(claim.renew.min(now + GLANCE));
            }
            Some(CONFLICT) => self.draw(index, claim, now),
            Some(ONLY_PERMANENT) if !self.is_permanent => {
                self.is_permanent = true;
                claim.ask_at(now);
            }
            Some(_) => {
                self.missing.retain(|missing| *missing != index);
                claim.give_up();
            }
        }
    }

    fn draw(&mut self, index: usize, claim: &mut Claim, now: Moment) {
        self.missing.retain(|missing| *missing != index);
        if claim.draw() {
            claim.ask_at(now);
        } else {
            claim.give_up();
        }
    }
}
