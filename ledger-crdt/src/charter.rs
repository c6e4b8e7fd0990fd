//! Bodies with which an organisation shows itself: charter, members, catalog and capacity.
//!
//! Everybody may read these. Whether a key may say so is decided by the reader's authority.

use std::collections::BTreeMap;

use mesh_base::certificate::Chain;
use mesh_base::digest::Digest;
use mesh_base::identity::{NodeId, OrgId};
use mesh_base::money::Price;
use mesh_base::name::Name;
use mesh_base::time::Wall;
use serde::{Deserialize, Serialize};

use crate::record::{BodyError, list_fits, sentence_fits, text_fits};

/// Most masters or voters of one organisation.
pub const MASTERS_MAX: usize = 64;
/// Most recipes or attributes of one node.
pub const CAPACITY_ENTRIES_MAX: usize = 256;

/// An organisation's constitution, signed by its root key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrgCharter {
    /// The organisation; also the only lawful author.
    pub org: OrgId,
    /// What it calls itself.
    pub name: Name,
    /// When it was founded.
    pub founded: Wall,
    /// Nodes that may act for it.
    pub masters: Vec<NodeId>,
    /// Nodes that vote for its leader.
    pub voters: Vec<NodeId>,
}

impl OrgCharter {
    pub(crate) fn check(&self) -> Result<(), BodyError> {
        list_fits("masters", self.masters.len(), MASTERS_MAX)?;
        list_fits("voters", self.voters.len(), MASTERS_MAX)
    }
}

/// Says that a node belongs to the organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node's certificates.
    pub chain: Chain,
}

impl Member {
    pub(crate) fn check(&self) -> Result<(), BodyError> {
        list_fits("certificates", self.chain.0.len(), 2)
    }
}

/// Says that a node does not belong to the organisation any more, and never will with this key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The node.
    pub node: NodeId,
    /// Why, in a sentence for people.
    pub reason: String,
    /// What the node wrote before this time by its own clock still counts; nothing after it does.
    pub from: Wall,
}

impl Revocation {
    pub(crate) fn check(&self) -> Result<(), BodyError> {
        sentence_fits("reason", &self.reason)
    }
}

/// A price-list entry; a later revision replaces an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Name of the recipe in the catalog.
    pub recipe: String,
    /// What a month costs.
    pub price: Price,
    /// Grows by one with each change of this recipe's price, from 1.
    pub revision: u32,
}

impl Offer {
    pub(crate) fn check(&self) -> Result<(), BodyError> {
        text_fits("recipe", &self.recipe)
    }
}

/// What a node has to give, in total; a later record replaces an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Instances at the same time.
    pub slots: u32,
    /// Memory for instances.
    pub memory_mib: u32,
    /// Processor time, in thousandths of a core.
    pub cpu_millis: u32,
    /// Disk for instances.
    pub disk_mib: u32,
    /// Recipes that it can run: name to digest.
    pub recipes: BTreeMap<String, Digest>,
    /// What orders may ask for: place, kind of machine, and so on.
    pub attributes: BTreeMap<String, String>,
}

impl Capacity {
    pub(crate) fn check(&self) -> Result<(), BodyError> {
        list_fits("recipes", self.recipes.len(), CAPACITY_ENTRIES_MAX)?;
        list_fits("attributes", self.attributes.len(), CAPACITY_ENTRIES_MAX)?;
        self.recipes
            .keys()
            .try_for_each(|name| text_fits("recipe", name))?;
        self.attributes.iter().try_for_each(|(name, value)| {
            text_fits("attribute", name)?;
            text_fits("attribute", value)
        })
    }
}
