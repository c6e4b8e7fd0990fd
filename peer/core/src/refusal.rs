//! What refusals are counted by: a closed list of words, so that a stranger cannot write into
//! `status`.
//!
//! Decides only the word. The sentence that says more stands in the log and goes to the other side.

use std::collections::BTreeMap;

use mesh_federation::invite::InviteError;
use mesh_federation::members::{AdmitError, RefusedBy, TrustError};
use mesh_ledger::gate::{AuthorityError, Rejection};
use mesh_ledger::record::BodyError;

/// Why somebody or something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Nothing was shown at the gate.
    NoCertificate,
    /// Certificates that cannot be read, or of a version unknown here.
    BadCertificate,
    /// A certificate of another key than the one proven.
    OtherKey,
    /// An organisation that is not trusted here.
    ForeignOrg,
    /// Issuer or signature of a certificate do not fit.
    Forged,
    /// The wall clock is outside the time of validity.
    Expired,
    /// The organisation has revoked the key.
    Revoked,
    /// A /64 that belongs to another key.
    SecondKey,
    /// One key on two machines, or an old copy of one.
    Clone,
    /// A limit of ours: members, partners, peers, requests.
    Limit,
    /// Our node is not ready to judge yet.
    Starting,
    /// The other side's gate refused us.
    RefusedUs,
    /// An invite that somebody else has used.
    InviteUsed,
    /// An invite that nobody here has made, or that was forgotten.
    InviteUnknown,
    /// An invite after its time.
    InviteExpired,
    /// A visitor at the join door who may not have what it asks for.
    Join,
    /// A document's change by somebody who is not its author, or may not write it.
    WrongAuthor,
    /// A change whose writer is not known here yet; it is repeated until it is.
    NotYet,
    /// A change that is altered, oversized, misplaced or otherwise unlawful.
    BadChange,
    /// Two histories under one signature.
    TwoHistories,
    /// A message that cannot be read.
    Unreadable,
    /// A request that its sender may not make.
    NotEntitled,
    /// A record of our own that our own ledger refused: a fault of ours.
    OwnRecord,
}

impl Reason {
    /// Returns the word that `status` shows.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoCertificate => "no-certificate",
            Self::BadCertificate => "bad-certificate",
            Self::OtherKey => "other-key",
            Self::ForeignOrg => "foreign-org",
            Self::Forged => "forged",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::SecondKey => "second-key",
            Self::Clone => "clone",
            Self::Limit => "limit",
            Self::Starting => "starting",
            Self::RefusedUs => "refused-us",
            Self::InviteUsed => "invite-used",
            Self::InviteUnknown => "invite-unknown",
            Self::InviteExpired => "invite-expired",
            Self::Join => "join",
            Self::WrongAuthor => "wrong-author",
            Self::NotYet => "not-yet",
            Self::BadChange => "bad-change",
            Self::TwoHistories => "two-histories",
            Self::Unreadable => "unreadable",
            Self::NotEntitled => "not-entitled",
            Self::OwnRecord => "own-record",
        }
    }
}

impl From<&AdmitError> for Reason {
    fn from(error: &AdmitError) -> Self {
        match error.counted_by() {
            RefusedBy::NoCertificate => Self::NoCertificate,
            RefusedBy::Form => Self::BadCertificate,
            RefusedBy::OtherKey => Self::OtherKey,
            RefusedBy::Untrusted => Self::ForeignOrg,
            RefusedBy::Forged => Self::Forged,
            RefusedBy::Expired => Self::Expired,
            RefusedBy::Revoked => Self::Revoked,
            RefusedBy::Prefix => Self::SecondKey,
            RefusedBy::Incarnation => Self::Clone,
            RefusedBy::Full => Self::Limit,
        }
    }
}

impl From<&TrustError> for Reason {
    fn from(error: &TrustError) -> Self {
        match error {
            TrustError::Untrusted(_) => Self::ForeignOrg,
            _ => Self::Limit,
        }
    }
}

impl From<&InviteError> for Reason {
    fn from(error: &InviteError) -> Self {
        match error {
            InviteError::Used => Self::InviteUsed,
            InviteError::Unknown => Self::InviteUnknown,
            InviteError::Expired(_) => Self::InviteExpired,
            _ => Self::Limit,
        }
    }
}

impl From<&Rejection> for Reason {
    fn from(rejection: &Rejection) -> Self {
        match rejection {
            Rejection::Authority(AuthorityError::Revoked(_)) => Self::Revoked,
            Rejection::Authority(AuthorityError::Expired(_)) => Self::Expired,
            Rejection::Authority(AuthorityError::Incarnation { .. }) => Self::Clone,
            Rejection::Authority(AuthorityError::UnknownOrg(_)) => Self::ForeignOrg,
            Rejection::Authority(_) | Rejection::HeadSignature(_) | Rejection::Foreign { .. } => {
                Self::WrongAuthor
            }
            Rejection::Record {
                source: BodyError::Author | BodyError::Signature(_),
                ..
            } => Self::WrongAuthor,
            Rejection::Equivocation(_) | Rejection::Frozen => Self::TwoHistories,
            Rejection::Quota => Self::Limit,
            _ => Self::BadChange,
        }
    }
}

/// How often what was refused since the start. As many numbers as there are words, never more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusals(BTreeMap<Reason, u64>);

impl Refusals {
    /// Counts one more.
    pub fn note(&mut self, refusal: Reason) {
        let count = self.0.entry(refusal).or_default();
        *count = count.saturating_add(1);
    }

    /// Forgets everything counted: what a journal repeats was counted in its time.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns how often something was refused for one reason.
    pub fn count(&self, refusal: Reason) -> u64 {
        self.0.get(&refusal).copied().unwrap_or(0)
    }

    /// Returns the counts by their words.
    pub fn words(&self) -> BTreeMap<String, u64> {
        let words = self.0.iter();
        words
            .map(|(refusal, count)| (refusal.as_str().to_owned(), *count))
            .collect()
    }
}

/// Returns an error with everything that caused it, in one line for a person on the other side.
pub fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use mesh_base::identity::SecretKey;

    use super::*;

    #[test]
    fn words_are_counted_and_a_journals_repeats_are_not() {
        let mut refusals = Refusals::default();
        refusals.note(Reason::from(&InviteError::Used));
        refusals.note(Reason::InviteUsed);
        refusals.note(Reason::from(&AdmitError::NoCertificate));
        let words = refusals.words();
        assert_eq!(words.get("invite-used"), Some(&2));
        assert_eq!(words.get("no-certificate"), Some(&1));
        refusals.clear();
        assert_eq!(refusals.count(Reason::InviteUsed), 0);
    }

    #[test]
    fn sentence_names_the_cause_behind_the_refusal() {
        let key = SecretKey::from_seed([1; 32]).public();
        let rejection = Rejection::Authority(AuthorityError::Revoked(key));
        assert_eq!(Reason::from(&rejection), Reason::Revoked);
        let text = sentence(&rejection);
        assert!(
            text.contains("may not write") && text.contains("revoked"),
            "{text}"
        );
    }
}
