//! Becoming leader: sounding first, then standing.
//!
//! A sounding (pre-vote) changes nobody's term, so a voter that hears badly disturbs nothing;
//! without it a half-broken link changes the leader whenever it heals. Invariant: nobody asks for
//! votes before a majority was willing, nor counts its own vote before it is on disk.

use std::collections::BTreeSet;

use mesh_base::time::Moment;

use super::machine::{Election, Event, Office};
use super::reign::Reign;
use super::timing::AGAIN;
use super::wire::Body;
use super::words::{Heads, Term, Voter};

/// Who said yes to a sounding or a candidacy, and when it is asked again.
#[derive(Debug, Default)]
pub(super) struct Campaign {
    yes: BTreeSet<Voter>,
    /// Everything that those who voted have.
    heads: Heads,
    again_at: Moment,
    ends_at: Moment,
}

impl Campaign {
    /// Returns when something has to be done.
    pub fn due(&self) -> Moment {
        self.again_at.min(self.ends_at)
    }
}

impl Election {
    /// Rises if nobody else could.
    pub(super) fn begin_if_alone(&mut self, now: Moment) {
        let is_able = self.voters.may_lead(&self.me) && self.voters.is_alone(&self.me);
        if is_able && matches!(self.office, Office::Following(_)) {
            self.rise_at = now;
            if self.promised_until <= now {
                self.sound(now);
            }
        }
    }

    /// Asks who would vote for this voter.
    pub(super) fn sound(&mut self, now: Moment) {
        let campaign = self.new_campaign(now);
        self.office = Office::Sounding(campaign);
        self.send_all(self.ballot.term.next(), |_| Body::Sound);
        self.stand_if_willing(now);
    }

    /// Votes for itself and asks the others to.
    pub(super) fn stand(&mut self, now: Moment) {
        let term = self.ballot.term.next();
        // The last term has no next one; nothing is safe in it twice.
        if term == self.ballot.term {
            return self.follow(None, now);
        }
        self.enter(term, Some(self.me));
        let campaign = self.new_campaign(now);
        self.office = Office::Standing(campaign, self.asked);
        self.send_all(term, |_| Body::Ask);
        self.win_if_elected(now);
    }

    /// Asks again, or begins again.
    pub(super) fn campaign_on(&mut self, now: Moment) {
        let me = self.me;
        let (campaign, term, body) = match &mut self.office {
            Office::Sounding(campaign) => (campaign, self.ballot.term.next(), Body::Sound),
            Office::Standing(campaign, _) => (campaign, self.ballot.term, Body::Ask),
            Office::Following(_) | Office::Leading(_) => return,
        };
        if campaign.ends_at <= now {
            return self.sound(now);
        }
        campaign.again_at = now + AGAIN;
        let silent: Vec<Voter> = self
            .voters
            .iter()
            .filter(|voter| *voter != me && !campaign.yes.contains(voter))
            .collect();
        for voter in silent {
            self.send(voter, term, body.clone());
        }
    }

    /// Counts a yes to the sounding that runs.
    pub(super) fn count_willing(&mut self, voter: Voter, term: Term, now: Moment) -> bool {
        let Office::Sounding(campaign) = &mut self.office else {
            return false;
        };
        if term != self.ballot.term.next() {
            return false;
        }
        campaign.yes.insert(voter);
        self.stand_if_willing(now);
        true
    }

    /// Counts a vote for the candidacy that runs.
    pub(super) fn count_vote(&mut self, voter: Voter, heads: &Heads, now: Moment) -> bool {
        let Office::Standing(campaign, _) = &mut self.office else {
            return false;
        };
        // The first answer counts, so that nobody can make the join grow.
        if campaign.yes.insert(voter) {
            campaign.heads.join(heads);
        }
        self.win_if_elected(now);
        true
    }

    fn stand_if_willing(&mut self, now: Moment) {
        let Office::Sounding(campaign) = &self.office else {
            return;
        };
        if self.voters.agree(|voter| campaign.yes.contains(voter)) {
            self.stand(now);
        }
    }

    /// Leads, if a majority voted and this voter's own vote is on disk.
    pub(super) fn win_if_elected(&mut self, now: Moment) {
        let Office::Standing(campaign, position) = &mut self.office else {
            return;
        };
        let is_elected = self.voters.agree(|voter| campaign.yes.contains(voter));
        if self.persisted < *position || !is_elected {
            return;
        }
        let campaign = std::mem::take(campaign);
        self.win(campaign, now);
    }

    /// Begins a reign with everything that a majority has.
    pub(super) fn win(&mut self, campaign: Campaign, now: Moment) {
        let mut inheritance = campaign.heads;
        inheritance.join(&self.heads);
        let term = self.ballot.term;
        self.office = Office::Leading(Box::new(Reign::new(term, inheritance, now)));
        self.tell(Event::Won(term));
        self.beat(now);
    }

    fn new_campaign(&mut self, now: Moment) -> Campaign {
        Campaign {
            yes: BTreeSet::from([self.me]),
            heads: Heads::default(),
            again_at: now + AGAIN,
            ends_at: self.draw_campaign(now),
        }
    }
}
