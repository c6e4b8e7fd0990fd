//! Texts that let a stranger in once, and the book that knows which of them were used.
//!
//! ```text
//! mesh1 + base32( version, length of body (2 bytes), body (canonical), 4 bytes of its SHA-256 )
//! ```
//! Decides whether a text is a whole invite of a known version that has not expired, and whether a
//! secret is good for this visitor. The length stands in front so that a copy that lost its end is
//! told apart from one that was altered. Who carries the text out of band is trusted with it: an
//! invite is a key.
//!
//! Invariants of [`InviteBook`]: a secret is good for one visitor key; the same visitor may ask
//! again until the invite expires, because the answer may have been lost; secrets are kept as
//! digests only. The caller must have the returned [`BookEntry`] on disk before it answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use data_encoding::BASE32_NOPAD;
use mesh_base::certificate::Role;
use mesh_base::codec::{self, DecodeError};
use mesh_base::digest::Digest;
use mesh_base::identity::{NodeId, OrgId};
use mesh_base::name::Name;
use mesh_base::time::Wall;
use mesh_ledger::agreement::SignedTerms;
use serde::{Deserialize, Serialize};

/// What every invite begins with.
pub const PREFIX: &str = "mesh1";
/// Format version of [`Invite`].
pub const INVITE_VERSION: u8 = 1;
/// Longest body: terms with many prices fit.
pub const INVITE_LEN_MAX: usize = 16 * 1024;
/// Most doors in one invite.
pub const DOORS_MAX: usize = 8;
/// Most invites that may be open at the same time.
pub const OPEN_MAX: usize = 64;
/// How long after its use an invite keeps the door open, for a visitor whose answer was lost.
pub const RETRY: Duration = Duration::from_secs(120);

/// What an invite is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// To become a member.
    Member {
        /// In which role.
        role: Role,
    },
    /// To accept terms.
    Agreement(Box<SignedTerms>),
}

/// An invitation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// What it is for.
    pub kind: Kind,
    /// The inviting organisation.
    pub org: OrgId,
    /// What it calls itself.
    pub org_name: Name,
    /// The node whose join door must be knocked at; it must prove this key.
    pub host: NodeId,
    /// Where the door is, most local first.
    pub doors: Vec<SocketAddr>,
    /// What opens it, once.
    #[serde(with = "serde_bytes")]
    pub secret: [u8; 16],
    /// Until when.
    pub expires: Wall,
    /// The node that wrote the invite; the host, unless somebody invites for it.
    pub issuer: NodeId,
}

/// Why a text is not a usable invite.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InviteTextError {
    /// Something else.
    #[error("this is not an invite; an invite begins with {PREFIX}")]
    NotAnInvite,
    /// The end is missing.
    #[error("the invite is cut off after {have} of {want} letters; copy it again as a whole")]
    CutOff {
        /// Letters that are there.
        have: usize,
        /// Letters that should be.
        want: usize,
    },
    /// Letters were changed or added.
    #[error("the invite was altered on its way; copy it again as a whole")]
    Altered,
    /// Written by another version.
    #[error("the invite has format {0}, which is not known here; update this machine")]
    Version(u8),
    /// Whole, but not what an invite of this version is.
    #[error("the invite cannot be read; ask for a new one")]
    Body(#[source] DecodeError),
    /// Too late.
    #[error("the invite expired at {0}; ask for a new one")]
    Expired(Wall),
}

impl Invite {
    /// Returns the text that is handed to the invited.
    pub fn to_text(&self) -> String {
        let body = codec::encode(self);
        // Proof: doors and terms are bounded where invites are made; a longer body could not be
        // read back.
        let len = u16::try_from(body.len()).unwrap_or(u16::MAX);
        let mut bytes = vec![INVITE_VERSION];
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(&body);
        let [a, b, c, d, ..] = *Digest::of(&bytes).as_bytes();
        bytes.extend_from_slice(&[a, b, c, d]);
        format!(
            "{PREFIX}{}",
            BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()
        )
    }

    /// Reads a text; white space from line breaks is ignored.
    pub fn from_text(text: &str, now: Wall) -> Result<Self, InviteTextError> {
        let letters: String = text
            .chars()
            .filter(|c| !c.is_whitespace())
            .take(2 * INVITE_LEN_MAX)
            .collect();
        let letters = letters.to_ascii_lowercase();
        let letters = letters
            .strip_prefix(PREFIX)
            .ok_or(InviteTextError::NotAnInvite)?;
        let invite = Self::from_letters(&letters.to_ascii_uppercase())?;
        if invite.expires <= now {
            return Err(InviteTextError::Expired(invite.expires));
        }
        Ok(invite)
    }

    fn from_letters(letters: &str) -> Result<Self, InviteTextError> {
        let cut_off = |want| {
            let (have, want) = (PREFIX.len() + letters.len(), PREFIX.len() + want);
            InviteTextError::CutOff { have, want }
        };
        // Five letters carry the version and the length.
        let head = letters.get(..5).ok_or_else(|| cut_off(5))?;
        let version_and_len = decode_loosely(head).ok_or(InviteTextError::Altered)?;
        let &[version, high, low, ..] = version_and_len.as_slice() else {
            return Err(InviteTextError::Altered);
        };
        if version != INVITE_VERSION {
            return Err(InviteTextError::Version(version));
        }
        let len = usize::from(u16::from_be_bytes([high, low]));
        let want = BASE32_NOPAD.encode_len(3 + len + 4);
        if INVITE_LEN_MAX < len {
            return Err(InviteTextError::Altered);
        }
        if letters.len() < want {
            return Err(cut_off(want));
        }
        let bytes = BASE32_NOPAD
            .decode(letters.as_bytes())
            .map_err(|_| InviteTextError::Altered)?;
        let (signed, sum) = bytes
            .split_at_checked(3 + len)
            .ok_or(InviteTextError::Altered)?;
        let digest = Digest::of(signed);
        if sum.len() != 4 || !digest.as_bytes().starts_with(sum) {
            return Err(InviteTextError::Altered);
        }
        let (_, body) = signed.split_at_checked(3).ok_or(InviteTextError::Altered)?;
        let invite: Self = codec::decode(body, INVITE_LEN_MAX).map_err(InviteTextError::Body)?;
        if DOORS_MAX < invite.doors.len() {
            return Err(InviteTextError::Altered);
        }
        Ok(invite)
    }
}

/// Decodes the whole bytes at the start of some letters.
fn decode_loosely(letters: &str) -> Option<Vec<u8>> {
    let mut padded = letters.to_owned();
    while padded.len() < 8 {
        padded.push('A');
    }
    BASE32_NOPAD.decode(padded.as_bytes()).ok()
}

/// What an open invite grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grants {
    /// Membership.
    Member {
        /// In which role.
        role: Role,
    },
    /// An agreement on this offer.
    Agreement {
        /// The offer's id in the terms.
        #[serde(with = "serde_bytes")]
        offer_id: [u8; 16],
    },
}

impl Kind {
    /// Returns what the book keeps about it.
    pub fn grants(&self) -> Grants {
        match self {
            Self::Member { role } => Grants::Member { role: *role },
            Self::Agreement(signed) => Grants::Agreement {
                offer_id: signed.terms.offer_id,
            },
        }
    }
}

/// What must be in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BookEntry {
    /// An invite was made.
    Issued {
        /// Digest of the secret.
        secret: Digest,
        /// What it grants.
        grants: Grants,
        /// Until when.
        expires: Wall,
    },
    /// An invite was used.
    Used {
        /// Digest of the secret.
        secret: Digest,
        /// By whom.
        visitor: NodeId,
        /// When.
        at: Wall,
    },
}

impl BookEntry {
    /// Returns the canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads canonical bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, 1024)
    }
}

/// What a secret got its visitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redeemed {
    /// What is granted.
    pub grants: Grants,
    /// What must be on disk before the answer; none if this visitor's use is there already.
    pub entry: Option<BookEntry>,
}

/// Why a secret does not open the door.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InviteError {
    /// Nobody was invited with it, or it is forgotten.
    #[error("this invite is not known here; ask for a new one")]
    Unknown,
    /// Too late.
    #[error("this invite expired at {0}; ask for a new one")]
    Expired(Wall),
    /// Somebody else was first.
    #[error("this invite was used already; ask for a new one")]
    Used,
    /// No room.
    #[error("{OPEN_MAX} invites are open; wait until one is used or expires")]
    Full,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Open {
    grants: Grants,
    expires: Wall,
    used: Option<(NodeId, Wall)>,
}

/// The invites of one node, by the digest of their secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InviteBook {
    open: BTreeMap<Digest, Open>,
}

impl InviteBook {
    /// Returns an empty book.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens an invite; returns what must be on disk before its text is shown.
    pub fn issue(
        &mut self,
        secret: &[u8; 16],
        grants: Grants,
        expires: Wall,
        now: Wall,
    ) -> Result<BookEntry, InviteError> {
        if expires <= now {
            return Err(InviteError::Expired(expires));
        }
        self.open.retain(|_, open| now < open.expires);
        if OPEN_MAX <= self.open.len() {
            return Err(InviteError::Full);
        }
        let entry = BookEntry::Issued {
            secret: digest_of(secret),
            grants,
            expires,
        };
        self.apply(&entry);
        Ok(entry)
    }

    /// Tries a secret that a visitor shows.
    pub fn redeem(
        &mut self,
        secret: &[u8; 16],
        visitor: &NodeId,
        now: Wall,
    ) -> Result<Redeemed, InviteError> {
        let shown = digest_of(secret);
        // Every digest is compared to its end, so time tells nothing about how much was guessed.
        let found = self.open.iter().fold(None, |found, (digest, open)| {
            if is_equal(digest, &shown) {
                Some(open)
            } else {
                found
            }
        });
        let open = found.ok_or(InviteError::Unknown)?;
        if open.expires <= now {
            return Err(InviteError::Expired(open.expires));
        }
        let grants = open.grants.clone();
        match open.used {
            Some((by, _)) if by == *visitor => Ok(Redeemed {
                grants,
                entry: None,
            }),
            Some(_) => Err(InviteError::Used),
            None => {
                let entry = BookEntry::Used {
                    secret: shown,
                    visitor: *visitor,
                    at: now,
                };
                self.apply(&entry);
                Ok(Redeemed {
                    grants,
                    entry: Some(entry),
                })
            }
        }
    }

    /// Replays an entry from the journal, in the order written.
    pub fn apply(&mut self, entry: &BookEntry) {
        match entry {
            BookEntry::Issued {
                secret,
                grants,
                expires,
            } => {
                let open = Open {
                    grants: grants.clone(),
                    expires: *expires,
                    used: None,
                };
                self.open.entry(*secret).or_insert(open);
            }
            BookEntry::Used {
                secret,
                visitor,
                at,
            } => {
                if let Some(open) = self.open.get_mut(secret) {
                    open.used.get_or_insert((*visitor, *at));
                }
            }
        }
    }

    /// Returns entries that make an equal book, without what has expired.
    pub fn entries(&self, now: Wall) -> Vec<BookEntry> {
        let living = self.open.iter().filter(|(_, open)| now < open.expires);
        living
            .flat_map(|(secret, open)| {
                let (secret, expires) = (*secret, open.expires);
                let issued = BookEntry::Issued {
                    secret,
                    grants: open.grants.clone(),
                    expires,
                };
                let used = open.used.map(|(visitor, at)| BookEntry::Used {
                    secret,
                    visitor,
                    at,
                });
                [Some(issued), used]
            })
            .flatten()
            .collect()
    }

    /// Returns until when the join door must be open; none if nobody is expected.
    pub fn door_open_until(&self, now: Wall) -> Option<Wall> {
        self.open
            .values()
            .map(|open| match open.used {
                Some((_, at)) => open.expires.min(at + RETRY),
                None => open.expires,
            })
            .filter(|until| now < *until)
            .max()
    }

    /// Returns how many invites are neither used nor expired.
    pub fn open_count(&self, now: Wall) -> usize {
        self.open
            .values()
            .filter(|open| now < open.expires && open.used.is_none())
            .count()
    }
}

fn digest_of(secret: &[u8; 16]) -> Digest {
    Digest::of_parts(&[b"meshstead/invite", secret])
}

/// Compares without leaving early.
fn is_equal(a: &Digest, b: &Digest) -> bool {
    let differing = a
        .as_bytes()
        .iter()
        .zip(b.as_bytes())
        .fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_base::identity::SecretKey;

    const NOW: Wall = Wall(1_000);

    fn node(byte: u8) -> NodeId {
        NodeId(SecretKey::from_seed([byte; 32]).public())
    }

    fn invite() -> Invite {
        Invite {
            kind: Kind::Member { role: Role::Node },
            org: OrgId(node(1).0),
            org_name: "bakery".parse().unwrap(),
            host: node(2),
            doors: vec![
                "192.0.2.1:4001".parse().unwrap(),
                "[2001:db8::1]:4001".parse().unwrap(),
            ],
            secret: [7; 16],
            expires: Wall(5_000),
            issuer: node(2),
        }
    }

    #[track_caller]
    fn check(text: &str, now: Wall, expect: InviteTextError) {
        assert_eq!(Invite::from_text(text, now), Err(expect));
    }

    #[test]
    fn text_is_read_back_even_if_it_was_wrapped() {
        let text = invite().to_text();
        assert!(text.starts_with("mesh1") && text.chars().all(|c| c.is_ascii_alphanumeric()));
        assert_eq!(Invite::from_text(&text, NOW), Ok(invite()));
        let wrapped = format!("  {}\n{} \n", &text[..40], &text[40..]).to_uppercase();
        assert_eq!(Invite::from_text(&wrapped, NOW), Ok(invite()));
    }

    #[test]
    fn damaged_texts_say_what_to_do() {
        let text = invite().to_text();
        let want = text.len();
        check("hello", NOW, InviteTextError::NotAnInvite);
        check("", NOW, InviteTextError::NotAnInvite);
        check("mesh1", NOW, InviteTextError::CutOff { have: 5, want: 10 });
        for have in [10, 50, want - 1] {
            check(&text[..have], NOW, InviteTextError::CutOff { have, want });
        }
        check(&format!("{text}aaaaaaaa"), NOW, InviteTextError::Altered);
        check(&format!("{text}!"), NOW, InviteTextError::Altered);
        check(&text, Wall(5_000), InviteTextError::Expired(Wall(5_000)));
    }

    #[test]
    fn every_altered_letter_is_noticed() {
        let text = invite().to_text();
        for at in 5..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
            let altered = String::from_utf8(bytes).unwrap();
            assert!(Invite::from_text(&altered, NOW).is_err(), "letter {at}");
        }
    }

    #[test]
    fn other_version_is_named() {
        let mut bytes = vec![2, 0, 0];
        bytes.extend([0; 8]);
        let text = format!("mesh1{}", BASE32_NOPAD.encode(&bytes));
        check(&text, NOW, InviteTextError::Version(2));
        // A whole text with a body that is something else.
        let mut bytes = vec![1, 0, 1, 5];
        let sum = *Digest::of(&bytes).as_bytes();
        bytes.extend_from_slice(&sum[..4]);
        let text = format!("mesh1{}", BASE32_NOPAD.encode(&bytes));
        check(&text, NOW, InviteTextError::Body(DecodeError::Shape));
    }

    fn member() -> Grants {
        Grants::Member { role: Role::Node }
    }

    fn book() -> InviteBook {
        let mut book = InviteBook::new();
        book.issue(&[7; 16], member(), Wall(5_000), NOW).unwrap();
        book
    }

    #[test]
    fn secret_is_good_once_but_its_visitor_may_ask_again() {
        let mut book = book();
        let first = book.redeem(&[7; 16], &node(3), NOW).unwrap();
        assert!(matches!(first.entry, Some(BookEntry::Used { .. })));
        let again = book.redeem(&[7; 16], &node(3), Wall(2_000)).unwrap();
        assert_eq!(
            again,
            Redeemed {
                grants: member(),
                entry: None
            }
        );
        assert_eq!(book.redeem(&[7; 16], &node(4), NOW), Err(InviteError::Used));
        assert_eq!(
            book.redeem(&[8; 16], &node(4), NOW),
            Err(InviteError::Unknown)
        );
        let late = book.redeem(&[7; 16], &node(3), Wall(5_000));
        assert_eq!(late, Err(InviteError::Expired(Wall(5_000))));
    }

    #[test]
    fn replayed_book_knows_what_was_used() {
        let mut first = book();
        first.redeem(&[7; 16], &node(3), NOW).unwrap();
        let mut second = InviteBook::new();
        for entry in first.entries(NOW) {
            let bytes = entry.to_bytes();
            second.apply(&BookEntry::from_bytes(&bytes).unwrap());
        }
        assert_eq!(second, first);
        assert_eq!(
            second.redeem(&[7; 16], &node(4), NOW),
            Err(InviteError::Used)
        );
        assert!(first.entries(Wall(5_000)).is_empty());
    }

    #[test]
    fn door_is_open_for_whom_we_expect() {
        let mut book = InviteBook::new();
        assert_eq!(book.door_open_until(NOW), None);
        let expires = NOW + Duration::from_secs(3_600);
        book.issue(&[7; 16], member(), expires, NOW).unwrap();
        assert_eq!(
            (book.door_open_until(NOW), book.open_count(NOW)),
            (Some(expires), 1)
        );
        book.redeem(&[7; 16], &node(3), NOW).unwrap();
        assert_eq!(
            (book.door_open_until(NOW), book.open_count(NOW)),
            (Some(NOW + RETRY), 0)
        );
        assert_eq!(book.door_open_until(NOW + RETRY), None);
    }

    #[test]
    fn open_invites_end_at_their_limit() {
        let mut book = InviteBook::new();
        for byte in 0..OPEN_MAX as u8 {
            book.issue(&[byte; 16], member(), Wall(5_000), NOW).unwrap();
        }
        let full = book.issue(&[255; 16], member(), Wall(9_000), NOW);
        assert_eq!(full, Err(InviteError::Full));
        assert!(
            book.issue(&[255; 16], member(), Wall(9_000), Wall(5_000))
                .is_ok()
        );
        let past = book.issue(&[254; 16], member(), NOW, NOW);
        assert_eq!(past, Err(InviteError::Expired(NOW)));
    }
}
