//! One voter of one group: what it hears, what it is asked, what it wants done.
//!
//! Decides who leads, and for how long; leaves records to the ledger, disks and datagrams to the
//! shell. Invariants: a term is won by at most one voter; a voter's term never decreases; no answer
//! that rests on a ballot leaves before the ballot is on disk.

use std::collections::VecDeque;

use mesh_base::bounded::Queue;
use mesh_base::chance::Chance;
use mesh_base::digest::Digest;
use mesh_base::identity::NodeId;
use mesh_base::time::Moment;

use super::ballot::Ballot;
use super::campaign::Campaign;
use super::reign::Reign;
use super::timing::{CAMPAIGN, COURTESY, Draw, LEASE, PATIENCE, PROMISE};
use super::voters::{Part, VOTERS_MAX, Voters};
use super::wire::{Body, Message};
use super::words::{Group, Head, HeadError, Heads, Term, Version, Voter};

/// Most effects that wait for the caller: five turns to every voter of two sets. One turn speaks to
/// each of them at most twice. When it is full the new one is dropped: a datagram may be lost, and
/// what an event says stays in the getters.
pub const EFFECTS_MAX: usize = 5 * 2 * VOTERS_MAX;

/// Furthest that one message may move a term: a billion elections, so that no message can use up
/// all terms that there are.
pub const TERMS_AHEAD_MAX: u64 = 1_000_000_000;

/// A place in the order of ballots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position(pub u64);

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Only when the ballot of this position is on disk; at once without.
    pub after: Option<Position>,
    /// What.
    pub effect: Effect,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write the ballot over the last one, then say [`Election::handle_persisted`]. Nothing is
    /// lost if an older one is never written.
    Persist(Position, Ballot),
    /// Send a datagram to a voter.
    Send(Voter, Message),
    /// Something that the caller wants to know.
    Tell(Event),
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// This voter won a term: its first record covers [`Election::inheritance`].
    Won(Term),
    /// This voter leads no more.
    Ended(Term),
    /// Somebody else leads.
    Follows(Voter, Term),
    /// A voter counts by a later charter, which should be fetched.
    Behind(Version),
}

/// Why a message changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is another group's.
    #[error("the message belongs to another group")]
    Group,
    /// The sender is no voter, or this node is none.
    #[error("the sender or the receiver is no voter of the charter")]
    Stranger,
    /// The sender counts by another charter.
    #[error("the sender counts by another version of the charter")]
    Version,
    /// The sender may not lead.
    #[error("the sender is a witness and cannot lead")]
    Witness,
    /// This voter has promised to help nobody yet.
    #[error("this voter promised to help nobody until its leader's lease is over")]
    Promised,
    /// The term is zero, or further ahead than [`TERMS_AHEAD_MAX`].
    #[error("the message's term is no term that an election can have reached")]
    Term,
    /// The message is of a term that has passed, or of a round or campaign that is not running.
    #[error("the message answers nothing that is asked now")]
    Late,
}

/// Why a leader's command was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Only a leader with a lease may do that.
    #[error("this node does not lead now")]
    NotLeading,
    /// The one named cannot lead.
    #[error("the node that should lead is no other voter that may")]
    NotAble,
}

/// Who begins, with what it remembers.
#[derive(Debug, Clone)]
pub struct Start {
    /// The group.
    pub group: Group,
    /// This voter.
    pub me: Voter,
    /// The charter's voters.
    pub voters: Voters,
    /// The last ballot on disk; the default one on a new disk, which needs a new incarnation.
    pub ballot: Ballot,
    /// What is on disk of the group's documents.
    pub heads: Heads,
    /// For the draws.
    pub seed: u64,
}

/// The right to act as leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Goes with everything that is done.
    pub term: Term,
    /// By this node's clock; the last moment is not part of it.
    pub until: Moment,
}

/// One voter of one group. Drain [`Self::poll_output`] after each `handle_*` and command, and call
/// [`Self::handle_time`] at [`Self::poll_time`].
///
/// Invariant: `persisted <= asked`, and outputs wait for `asked` while they differ.
#[derive(Debug)]
pub struct Election {
    pub(super) group: Group,
    pub(super) me: Voter,
    pub(super) voters: Voters,
    pub(super) ballot: Ballot,
    pub(super) asked: Position,
    pub(super) persisted: Position,
    pub(super) heads: Heads,
    pub(super) office: Office,
    /// Until then this voter helps nobody to be elected.
    pub(super) promised_until: Moment,
    /// The round of the leader that it follows.
    pub(super) round: u64,
    /// When a follower sounds the others.
    pub(super) rise_at: Moment,
    chance: Chance,
    unsaved: bool,
    effects: Queue<Output>,
}

/// What a voter is at the moment.
#[derive(Debug)]
pub(super) enum Office {
    /// Waits for beats.
    Following(Option<Voter>),
    /// Asks whether it would be elected; its ballot is as before.
    Sounding(Campaign),
    /// Voted for itself.
    Standing(Campaign, Position),
    /// Won its term.
    Leading(Box<Reign>),
}

impl Election {
    /// Begins, or begins again after a stop of any kind.
    ///
    /// What it promised before it stopped is not known, so it helps nobody for as long as a promise
    /// lasts; unless it never answered anybody, or won its term alone.
    pub fn new(start: Start, now: Moment) -> Self {
        let mut chance = Chance::new(start.seed);
        let alone_in = Some(start.voters.version());
        let is_alone = start.voters.is_alone(&start.me);
        let won_alone = is_alone && start.ballot.alone == alone_in;
        let is_new = start.ballot == Ballot::default();
        let promised_until = if won_alone || is_new {
            now
        } else {
            now + PROMISE
        };
        let mut election = Self {
            group: start.group,
            me: start.me,
            voters: start.voters,
            ballot: start.ballot,
            asked: Position(0),
            persisted: Position(0),
            heads: start.heads,
            office: Office::Following(None),
            promised_until,
            round: 0,
            rise_at: now + PATIENCE.draw(&mut chance),
            chance,
            unsaved: false,
            effects: Queue::new(EFFECTS_MAX),
        };
        if won_alone {
            election.win(Campaign::default(), now);
        }
        election.begin_if_alone(now);
        election
    }

    /// Takes what another node said; the session proves that it is `from`.
    pub fn handle_message(
        &mut self,
        from: NodeId,
        message: &Message,
        now: Moment,
    ) -> Result<(), Refusal> {
        self.end_if_silent(now);
        if message.group != self.group {
            return Err(Refusal::Group);
        }
        let sender = Voter {
            node: from,
            incarnation: message.incarnation,
        };
        let is_voter = |voter: &Voter| self.voters.part_of(voter).is_some();
        if sender == self.me || !is_voter(&sender) || !is_voter(&self.me) {
            return Err(Refusal::Stranger);
        }
        if message.version != self.voters.version() {
            if self.voters.version() < message.version {
                self.tell(Event::Behind(message.version));
            }
            return Err(Refusal::Version);
        }
        let term_max = self.ballot.term.0.saturating_add(TERMS_AHEAD_MAX);
        if message.term.0 == 0 || term_max < message.term.0 {
            return Err(Refusal::Term);
        }
        let leads = matches!(
            message.body,
            Body::Sound | Body::Ask | Body::Beat { .. } | Body::HandOver { .. }
        );
        if leads && !self.voters.may_lead(&sender) {
            return Err(Refusal::Witness);
        }
        self.hear(sender, message, now)
    }

    /// Takes note that ballots up to a position are on disk.
    pub fn handle_persisted(&mut self, position: Position, now: Moment) {
        self.persisted = self.persisted.max(position.min(self.asked));
        self.win_if_elected(now);
    }

    /// Lets time pass.
    pub fn handle_time(&mut self, now: Moment) {
        self.end_if_silent(now);
        if self.poll_time().is_none_or(|due| now < due) {
            return;
        }
        match &self.office {
            Office::Following(_) => self.sound(now),
            Office::Sounding(_) | Office::Standing(..) => self.campaign_on(now),
            Office::Leading(_) => self.beat(now),
        }
    }

    /// Takes a later charter. A leader stays one if no other quorum can have elected somebody
    /// between its charter and this one.
    pub fn handle_charter(&mut self, voters: Voters, now: Moment) {
        if voters.version() <= self.voters.version() {
            return;
        }
        let stays = self.voters.leads_to(&voters) && voters.may_lead(&self.me);
        self.voters = voters;
        match &mut self.office {
            Office::Leading(reign) if stays => reign.keep(&self.voters),
            Office::Leading(_) => self.follow(None, now),
            Office::Sounding(_) | Office::Standing(..) => self.follow(None, now),
            Office::Following(_) => {}
        }
        self.begin_if_alone(now);
    }

    /// Takes note that a record is on this node's disk. A record of a term before the one that this
    /// voter has answered is refused, and must not be kept as if it counted.
    pub fn hold(&mut self, document: Digest, head: Head, now: Moment) -> Result<(), HeadError> {
        if head.term < self.ballot.term {
            return Err(HeadError::Stale {
                given: head.term,
                current: self.ballot.term,
            });
        }
        self.heads.set(document, head)?;
        if self.ballot.term < head.term {
            self.enter(head.term, None);
            self.follow(None, now);
        }
        if let Office::Following(Some(leader)) = self.office {
            self.say_heard(leader, true);
        }
        Ok(())
    }

    /// Forgets the head of a document that another one covers.
    pub fn forget(&mut self, document: &Digest) {
        self.heads.forget(document);
    }

    /// Ends this leader's lease and lets another voter begin at once.
    pub fn hand_over(&mut self, to: Voter, now: Moment) -> Result<(), CommandError> {
        if self.lease(now).is_none() {
            return Err(CommandError::NotLeading);
        }
        if to == self.me || !self.voters.may_lead(&to) {
            return Err(CommandError::NotAble);
        }
        let term = self.ballot.term;
        self.follow(None, now);
        self.send_all(term, |_| Body::HandOver { to });
        Ok(())
    }

    /// Takes the next thing to be done.
    pub fn poll_output(&mut self) -> Option<Output> {
        if std::mem::take(&mut self.unsaved) {
            return Some(Output {
                after: None,
                effect: Effect::Persist(self.asked, self.ballot),
            });
        }
        self.effects.pop()
    }

    /// Returns when time has to pass next; none for a witness, and for who leads alone.
    pub fn poll_time(&self) -> Option<Moment> {
        if self.voters.is_alone(&self.me) && matches!(self.office, Office::Leading(_)) {
            return None;
        }
        match &self.office {
            Office::Following(_) => {
                let rises = self.voters.may_lead(&self.me);
                rises.then(|| self.rise_at.max(self.promised_until))
            }
            Office::Sounding(campaign) | Office::Standing(campaign, _) => Some(campaign.due()),
            Office::Leading(reign) => Some(reign.beat_at()),
        }
    }

    /// Returns the right to act now, if this voter has it. Ask anew before each action.
    pub fn lease(&self, now: Moment) -> Option<Lease> {
        let Office::Leading(reign) = &self.office else {
            return None;
        };
        let until = reign.answered(&self.voters, &self.me, now)? + LEASE;
        let term = self.ballot.term;
        (now < until).then_some(Lease { term, until })
    }

    /// Returns what the leader's first record must cover: the heads of a majority when it won.
    pub fn inheritance(&self) -> Option<&Heads> {
        match &self.office {
            Office::Leading(reign) => Some(&reign.inheritance),
            _ => None,
        }
    }

    /// Returns up to which sequence this leader's own records of a document are on the disks of a
    /// majority, witnesses included. Records of earlier terms are as safe as the first of this one.
    pub fn safe(&self, document: &Digest) -> Option<u64> {
        let Office::Leading(reign) = &self.office else {
            return None;
        };
        self.voters.reached(|voter| {
            let heads = if *voter == self.me {
                Some(&self.heads)
            } else {
                reign.held(voter)
            };
            let head = heads?.of(document)?;
            (head.term == self.ballot.term).then_some(head.sequence)
        })
    }

    /// Returns whether majorities of both sets have a record of this leader's term by this charter,
    /// so that a charter with the new set alone may follow a joint one.
    pub fn is_settled(&self, document: &Digest, now: Moment) -> bool {
        self.lease(now).is_some() && self.safe(document).is_some()
    }

    /// Returns the leader that this voter follows, or itself.
    pub fn leader(&self) -> Option<Voter> {
        match self.office {
            Office::Following(leader) => leader,
            Office::Leading(_) => Some(self.me),
            Office::Sounding(_) | Office::Standing(..) => None,
        }
    }

    /// Returns the term that this voter has answered.
    pub fn term(&self) -> Term {
        self.ballot.term
    }

    /// Returns what is to be on disk.
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// Returns what this voter holds.
    pub fn heads(&self) -> &Heads {
        &self.heads
    }

    /// Returns the charter's voters.
    pub fn voters(&self) -> &Voters {
        &self.voters
    }

    /// Returns what this voter may become; none if the charter does not name it.
    pub fn part(&self) -> Option<Part> {
        self.voters.part_of(&self.me)
    }

    /// Answers a term, and has that written before anything else leaves.
    pub(super) fn enter(&mut self, term: Term, vote: Option<Voter>) {
        let is_alone = self.voters.is_alone(&self.me);
        let next = Ballot {
            term,
            vote,
            alone: (is_alone && vote == Some(self.me)).then(|| self.voters.version()),
        };
        assert!(self.ballot.allows(&next), "a voter never takes back a vote");
        self.ballot = next;
        self.asked = Position(self.asked.0.saturating_add(1));
        self.unsaved = true;
    }

    /// Waits for beats, of a leader that is known or of whoever comes.
    pub(super) fn follow(&mut self, leader: Option<Voter>, now: Moment) {
        if let Office::Leading(reign) = &self.office {
            self.tell(Event::Ended(reign.term));
        }
        self.office = Office::Following(leader);
        self.rise_at = now + self.draw(PATIENCE);
    }

    /// Leaves the field to another for a moment.
    pub(super) fn yield_to_another(&mut self, now: Moment) {
        let courtesy = now + self.draw(COURTESY);
        self.office = Office::Following(None);
        self.rise_at = self.rise_at.max(courtesy);
    }

    /// Returns whether this voter must help nobody.
    pub(super) fn is_promised(&self, now: Moment) -> bool {
        now < self.promised_until || self.lease(now).is_some()
    }

    pub(super) fn draw(&mut self, from: Draw) -> std::time::Duration {
        from.draw(&mut self.chance)
    }

    pub(super) fn draw_campaign(&mut self, now: Moment) -> Moment {
        now + self.draw(CAMPAIGN)
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.put(Effect::Tell(event), None);
    }

    /// Sends to one voter, after the ballot that it rests on.
    pub(super) fn send(&mut self, to: Voter, term: Term, body: Body) {
        let after = (self.persisted < self.asked).then_some(self.asked);
        let message = Message {
            group: self.group,
            term,
            version: self.voters.version(),
            incarnation: self.me.incarnation,
            body,
        };
        self.put(Effect::Send(to, message), after);
    }

    /// Sends to every other voter.
    pub(super) fn send_all(&mut self, term: Term, body: impl Fn(&Voter) -> Body) {
        let others: VecDeque<Voter> = self.voters.iter().filter(|one| *one != self.me).collect();
        for voter in others {
            self.send(voter, term, body(&voter));
        }
    }

    fn put(&mut self, effect: Effect, after: Option<Position>) {
        // A full queue drops the new, see `EFFECTS_MAX`.
        let _ = self.effects.push(Output { after, effect });
    }
}
