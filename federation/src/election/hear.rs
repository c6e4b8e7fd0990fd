//! What a voter makes of each message of another voter.
//!
//! Decides when to promise, to vote and to follow; the sender and its charter were checked before.
//! Invariant: while a promise lasts, nobody but the leader that it was given to changes anything.

use mesh_base::digest::Digest;
use mesh_base::time::Moment;

use super::machine::{Election, Event, Office, Refusal};
use super::timing::PROMISE;
use super::wire::{Body, Message};
use super::words::{Heads, Term, Voter};

impl Election {
    pub(super) fn hear(
        &mut self,
        sender: Voter,
        message: &Message,
        now: Moment,
    ) -> Result<(), Refusal> {
        let term = message.term;
        match &message.body {
            Body::Sound => self.hear_sound(sender, term, now),
            Body::Willing => heard(self.count_willing(sender, term, now)),
            Body::Ask => self.hear_ask(sender, term, now),
            Body::Vote { heads } => {
                heard(term == self.ballot.term && self.count_vote(sender, heads, now))
            }
            Body::Beat { round, known } => self.hear_beat(sender, term, (*round, known), now),
            Body::Heard { round, heads } => {
                heard(term == self.ballot.term && self.note(sender, *round, heads.as_ref()))
            }
            Body::HandOver { to } => self.hear_hand_over(sender, term, *to, now),
            Body::Later => self.hear_later(term, now),
        }
    }

    fn hear_sound(&mut self, sender: Voter, term: Term, now: Moment) -> Result<(), Refusal> {
        if self.is_promised(now) {
            return Err(Refusal::Promised);
        }
        if term <= self.ballot.term {
            self.send(sender, self.ballot.term, Body::Later);
            return Err(Refusal::Late);
        }
        self.send(sender, term, Body::Willing);
        match self.office {
            Office::Following(_) => self.yield_to_another(now),
            // Two that sound at once: the lower one leaves the field to the higher one.
            Office::Sounding(_) if self.me < sender => self.yield_to_another(now),
            _ => {}
        }
        Ok(())
    }

    fn hear_ask(&mut self, sender: Voter, term: Term, now: Moment) -> Result<(), Refusal> {
        if self.is_promised(now) {
            return Err(Refusal::Promised);
        }
        if term < self.ballot.term {
            self.send(sender, self.ballot.term, Body::Later);
            return Err(Refusal::Late);
        }
        let is_free = self.ballot.term < term || self.ballot.vote.is_none();
        if is_free {
            self.enter(term, Some(sender));
            self.follow(None, now);
            self.rise_at = now;
            self.yield_to_another(now);
        }
        if self.ballot.vote != Some(sender) {
            return Err(Refusal::Late);
        }
        let heads = self.heads.clone();
        self.send(sender, term, Body::Vote { heads });
        Ok(())
    }

    fn hear_beat(
        &mut self,
        sender: Voter,
        term: Term,
        (round, known): (u64, &Digest),
        now: Moment,
    ) -> Result<(), Refusal> {
        if term < self.ballot.term {
            self.send(sender, self.ballot.term, Body::Later);
            return Err(Refusal::Late);
        }
        if self.ballot.term < term {
            self.enter(term, None);
            self.follow(None, now);
        }
        match self.office {
            // A term has one leader; whoever else says so is wrong.
            Office::Leading(_) => return Err(Refusal::Late),
            Office::Following(Some(leader)) if leader != sender => return Err(Refusal::Late),
            Office::Following(Some(_)) => self.follow(Some(sender), now),
            _ => {
                self.follow(Some(sender), now);
                self.round = 0;
                self.tell(Event::Follows(sender, term));
            }
        }
        // A late beat is answered as what it is; its promise is counted from now all the same.
        self.round = self.round.max(round);
        self.promised_until = now + PROMISE;
        self.say_heard(sender, *known != self.heads.digest());
        Ok(())
    }

    /// Tells the leader which round was heard, and what is on this disk if it does not know.
    pub(super) fn say_heard(&mut self, leader: Voter, with_heads: bool) {
        let heads = (with_heads && !self.heads.is_empty()).then(|| self.heads.clone());
        let round = self.round;
        self.send(leader, self.ballot.term, Body::Heard { round, heads });
    }

    fn note(&mut self, sender: Voter, round: u64, heads: Option<&Heads>) -> bool {
        match &mut self.office {
            Office::Leading(reign) => reign.note(sender, round, heads),
            _ => false,
        }
    }

    /// Takes back the promise to a leader that says it leads no more.
    fn hear_hand_over(
        &mut self,
        sender: Voter,
        term: Term,
        to: Voter,
        now: Moment,
    ) -> Result<(), Refusal> {
        let is_mine = matches!(self.office, Office::Following(Some(leader)) if leader == sender);
        if term != self.ballot.term || !is_mine {
            return Err(Refusal::Late);
        }
        self.promised_until = now;
        if to == self.me {
            self.stand(now);
            return Ok(());
        }
        self.rise_at = now;
        self.yield_to_another(now);
        Ok(())
    }

    /// Enters a later term, unless a leader has this voter's promise.
    fn hear_later(&mut self, term: Term, now: Moment) -> Result<(), Refusal> {
        if term <= self.ballot.term {
            return Err(Refusal::Late);
        }
        if now < self.promised_until {
            return Err(Refusal::Promised);
        }
        let rise_at = self.rise_at;
        let was_leading = matches!(self.office, Office::Leading(_));
        self.enter(term, None);
        self.follow(None, now);
        if !was_leading {
            self.rise_at = rise_at;
        }
        Ok(())
    }
}

fn heard(is_asked: bool) -> Result<(), Refusal> {
    is_asked.then_some(()).ok_or(Refusal::Late)
}
