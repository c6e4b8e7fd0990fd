//! Cables between homes instead of the street: lines, rings and diamonds, and ways to hurt them.
//!
//! ```text
//!   before   street:  1 ─┬─ 2 ─┬─ 3        after   1 ══ c1 ══ 2 ══ c2 ══ 3
//! ```
//! Each home keeps the address that it had on the street, now on its loopback, and has a route to
//! each neighbour's over their cable and to nobody else's: what is known of a home stays true, and
//! who is not at the other end of a cable cannot be reached. Decides nothing about what the nodes
//! do with it.

use anyhow::Context as _;

use crate::lab::Lab;

/// Which packets a hurt cable swallows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// All, both ways.
    Both,
    /// Only those that come in at the first-named home.
    Inwards,
}

/// Cables between the homes of a lab.
#[derive(Debug)]
pub struct Cables<'a> {
    lab: &'a Lab,
    /// Names of both ends, in the order in which the cables were laid.
    laid: Vec<(String, String)>,
}

impl<'a> Cables<'a> {
    /// Takes the street away and lays these cables.
    ///
    /// # Errors
    /// A home is not on the street, or its network cannot be changed.
    pub fn lay(lab: &'a Lab, pairs: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut homes: Vec<&str> = pairs.iter().flat_map(|(a, b)| [*a, *b]).collect();
        homes.sort_unstable();
        homes.dedup();
        for name in &homes {
            let home = lab.home(name)?;
            let address = format!("{}/32", lab.address(name)?);
            home.ip("address flush dev eth0")?;
            home.ip("link set eth0 down")?;
            home.ip(&format!("address add {address} dev lo"))?;
        }
        let mut cables = Self {
            lab,
            laid: Vec::new(),
        };
        for (a, b) in pairs {
            cables.lay_one(a, b)?;
        }
        Ok(cables)
    }

    /// Takes a cable's end out at the first-named home; both sides lose their carrier.
    ///
    /// # Errors
    /// There is no such cable.
    pub fn pull(&self, a: &str, b: &str) -> anyhow::Result<()> {
        self.lab
            .home(a)?
            .ip(&format!("link set {} down", self.name(a, b)?))
    }

    /// Puts it in again, with the routes that the kernel forgot.
    ///
    /// # Errors
    /// There is no such cable.
    pub fn plug(&self, a: &str, b: &str) -> anyhow::Result<()> {
        let name = self.name(a, b)?;
        self.lab.home(a)?.ip(&format!("link set {name} up"))?;
        self.lead(a, b, &name)
    }

    /// Makes the cable swallow packets without a word.
    ///
    /// # Errors
    /// There is no such cable, or nft refuses.
    pub fn silence(&self, a: &str, b: &str, which: Silence) -> anyhow::Result<()> {
        let name = self.name(a, b)?;
        let out = match which {
            Silence::Both => format!("oifname {name} drop"),
            Silence::Inwards => String::new(),
        };
        let rules = format!(
            "table inet {name} {{\n\
             chain in {{ type filter hook input priority -300; iifname {name} drop; }}\n\
             chain out {{ type filter hook output priority -300; {out}\n}}\n}}"
        );
        self.lab.home(a)?.run("nft", &[&rules])?.ok().map(drop)
    }

    /// Lets packets pass again.
    ///
    /// # Errors
    /// The cable was not silent.
    pub fn heal(&self, a: &str, b: &str) -> anyhow::Result<()> {
        let name = self.name(a, b)?;
        let rule = format!("delete table inet {name}");
        self.lab.home(a)?.run("nft", &[&rule])?.ok().map(drop)
    }

    fn lay_one(&mut self, a: &str, b: &str) -> anyhow::Result<()> {
        let name = format!("c{}", self.laid.len() + 1);
        let (near, far) = (self.lab.holder(a)?, self.lab.holder(b)?);
        self.lab
            .home(a)?
            .ip(&format!(
                "link add {name} type veth peer name {name} netns {far}"
            ))
            .with_context(|| format!("cannot lay a cable between {near} and {far}"))?;
        for (end, other) in [(a, b), (b, a)] {
            self.lab.home(end)?.ip(&format!("link set {name} up"))?;
            self.lead(end, other, &name)?;
        }
        self.laid.push((a.to_owned(), b.to_owned()));
        Ok(())
    }

    /// Leads what is for `other` into the cable.
    fn lead(&self, end: &str, other: &str, cable: &str) -> anyhow::Result<()> {
        let (own, other) = (self.lab.address(end)?, self.lab.address(other)?);
        self.lab
            .home(end)?
            .ip(&format!("route replace {other}/32 dev {cable} src {own}"))
    }

    fn name(&self, a: &str, b: &str) -> anyhow::Result<String> {
        let is_it =
            |(one, two): &(String, String)| (one == a && two == b) || (one == b && two == a);
        let at = self.laid.iter().position(is_it);
        let at = at.with_context(|| format!("no cable between {a} and {b}"))?;
        Ok(format!("c{}", at + 1))
    }
}
