//! Guests: whom an order lets in besides our own organisation, as people write them.
//!
//! Invariant: what is written reads back as the same guest; a key is longer than any name.

use std::fmt;
use std::str::FromStr;

use mesh_base::identity::OrgId;
use mesh_base::name::Name;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Somebody who may reach a service besides the organisation that ordered it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guest {
    /// An organisation by the name that it has here: `org:library`.
    Named(Name),
    /// An organisation by its key: `org:` and 52 letters.
    Org(OrgId),
    /// Every organisation that the provider admits: `mesh`.
    Mesh,
}

/// Why a text names no guest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is nobody who can be let in: write org:NAME, org:KEY or mesh")]
pub struct NotAGuest(pub String);

impl FromStr for Guest {
    type Err = NotAGuest;

    fn from_str(text: &str) -> Result<Self, NotAGuest> {
        let wrong = || NotAGuest(text.chars().take(60).collect());
        if text == "mesh" {
            return Ok(Self::Mesh);
        }
        let org = text.strip_prefix("org:").ok_or_else(wrong)?;
        let named = org.parse().map(Self::Named);
        named
            .or_else(|_| org.parse().map(Self::Org))
            .map_err(|_| wrong())
    }
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => write!(f, "org:{name}"),
            Self::Org(org) => write!(f, "org:{org}"),
            Self::Mesh => f.write_str("mesh"),
        }
    }
}

impl Serialize for Guest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Guest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use mesh_base::identity::SecretKey;

    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Guest) {
        assert_eq!(text.parse(), Ok(expect.clone()));
        assert_eq!(expect.to_string(), text);
    }

    #[test]
    fn guest_is_read_as_it_is_written() {
        check("mesh", Guest::Mesh);
        check("org:mesh", Guest::Named("mesh".parse().unwrap()));
        check("org:library", Guest::Named("library".parse().unwrap()));
        let org = OrgId(SecretKey::from_seed([3; 32]).public());
        check(&format!("org:{org}"), Guest::Org(org));
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "library",
            "org:",
            "org:A",
            "user:ann",
            "public",
            "org:mesh ",
        ] {
            assert_eq!(text.parse::<Guest>(), Err(NotAGuest(text.to_owned())));
        }
    }
}
