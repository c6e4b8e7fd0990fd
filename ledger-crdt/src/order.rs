//! Bodies of the ordering side: what is wanted, who is asked, who got it, where the service lives.
//!
//! ```text
//! Order ─► Ask(1, a) ─► refused or lapsed ─► Ask(2, b) ─► reserved ─► Award(2, b) ─► Holder
//! ```
//! Invariant: one award per order and attempt; the next attempt begins only after the awarded node
//! has signed a refusal or a release.

use std::collections::BTreeSet;

use mesh_base::codec;
use mesh_base::digest::Digest;
use mesh_base::identity::{Context, KeyError, NodeId, OrgId, SecretKey, ServiceId, Signature};
use mesh_base::money::Price;
use mesh_base::name::Name;
use mesh_base::time::Wall;
use serde::{Deserialize, Serialize};

use crate::record::{Body, BodyError, RecordId, SignedRecord, list_fits, text_fits};

/// Most nodes that hold one service at the same time.
pub const HOLDERS_MAX: usize = 16;

/// Most guests of one order: whoever lets in more partners than this means the whole mesh.
pub const GUESTS_MAX: usize = 16;

/// Whom an order lets in besides its customer's organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Guest {
    /// The nodes of one organisation.
    Org(OrgId),
    /// Every node that the provider admits to the mesh.
    Mesh,
}

/// What a customer wants. Its record id is the order's name everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// What the customer calls the service.
    pub name: Name,
    /// Recipe by name.
    pub recipe: String,
    /// The exact recipe, if the customer insists.
    pub recipe_digest: Option<Digest>,
    /// Key of the service to be.
    pub service: ServiceId,
    /// Digest of the plaintext parameters with the nonce; the parameters travel sealed, never here.
    pub parameters: Digest,
    /// Short name of the key that can open the stored parameters.
    pub parameters_key: String,
    /// Memory wanted.
    pub memory_mib: u32,
    /// Processor time wanted, in thousandths of a core.
    pub cpu_millis: u32,
    /// Disk wanted.
    pub disk_mib: u32,
    /// The most that a month may cost.
    pub price_cap: Option<Price>,
    /// Makes two equal orders two, and the parameters' digest unguessable.
    #[serde(with = "serde_bytes")]
    pub nonce: [u8; 16],
    /// Who may reach the service besides the customer's organisation. Not written if there is
    /// nobody: such an order has the bytes that it had before there were guests.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub guests: BTreeSet<Guest>,
}

impl Order {
    pub(crate) fn check(&self) -> Result<(), BodyError> {
        text_fits("recipe", &self.recipe)?;
        text_fits("parameters_key", &self.parameters_key)?;
        list_fits("guests", self.guests.len(), GUESTS_MAX)
    }
}

/// Asks one node to reserve capacity for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The order, whole, since the provider may not read the document that holds it.
    pub order: Box<SignedRecord>,
    /// Counts the tries, from 1.
    pub attempt: u32,
    /// Who is asked.
    pub node: NodeId,
    /// The price per month that the customer takes as agreed.
    pub price: Price,
    /// The agreement under which it is asked; none inside one organisation.
    pub agreement: Option<RecordId>,
}

impl Ask {
    /// Returns the order inside, unverified.
    pub fn order(&self) -> Option<&Order> {
        match &self.order.record.body {
            Body::Order(order) => Some(order),
            _ => None,
        }
    }

    pub(crate) fn check(&self) -> Result<(), BodyError> {
        // Only an order may be inside: this also ends the nesting of records in records.
        self.order().ok_or(BodyError::NotAnOrder)?.check()
    }
}

/// Gives the order to a node that has reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Award {
    /// The order.
    pub order: RecordId,
    /// The try that succeeded.
    pub attempt: u32,
    /// Who got it.
    pub node: NodeId,
}

/// What the customer wants an item to be from now on; the highest revision counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desire {
    /// The order.
    pub order: RecordId,
    /// The state wanted.
    pub state: DesiredState,
    /// Grows by one with each change, from 1.
    pub revision: u32,
}

/// What a customer can want of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DesiredState {
    /// Processes run.
    Running,
    /// Kept and reserved, but no process runs.
    Stopped,
    /// Gone for ever.
    Destroyed,
}

/// Who answers for a service's address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The service.
    pub service: ServiceId,
    /// The nodes, the preferred one first; empty when the service is gone.
    pub holders: Vec<NodeId>,
    /// A higher epoch replaces a lower one.
    pub epoch: u64,
    /// Not to be believed after this time.
    pub not_after: Wall,
}

/// A [`Holder`] under the service's own key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHolder {
    /// What is said.
    pub holder: Holder,
    /// The service key's signature over the canonical bytes.
    pub signature: Signature,
}

impl SignedHolder {
    /// Signs with the service's key.
    pub fn sign(holder: Holder, service: &SecretKey) -> Self {
        let signature = service.sign(Context::Holder, &codec::encode(&holder));
        Self { holder, signature }
    }

    /// Checks that the service's key said so; not whether it is still valid.
    pub fn verify(&self) -> Result<(), KeyError> {
        let bytes = codec::encode(&self.holder);
        self.holder
            .service
            .key()
            .verify(Context::Holder, &bytes, &self.signature)
    }

    pub(crate) fn check(&self) -> Result<(), BodyError> {
        list_fits("holders", self.holder.holders.len(), HOLDERS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{order, org};

    /// An order as it was written before there were guests.
    #[derive(Serialize, Deserialize)]
    struct Before {
        name: Name,
        recipe: String,
        recipe_digest: Option<Digest>,
        service: ServiceId,
        parameters: Digest,
        parameters_key: String,
        memory_mib: u32,
        cpu_millis: u32,
        disk_mib: u32,
        price_cap: Option<Price>,
        #[serde(with = "serde_bytes")]
        nonce: [u8; 16],
    }

    #[test]
    fn order_without_guests_has_the_bytes_that_it_always_had() {
        let bytes = codec::encode(&order("crm-db"));
        let before: Before = codec::decode(&bytes, 4096).unwrap();
        assert_eq!(codec::encode(&before), bytes);
        assert_eq!(codec::decode(&bytes, 4096), Ok(order("crm-db")));
    }

    #[test]
    fn guests_are_part_of_what_is_signed() {
        let mut with = order("crm-db");
        with.guests = BTreeSet::from([Guest::Org(org(3)), Guest::Mesh]);
        let bytes = codec::encode(&with);
        assert_ne!(bytes, codec::encode(&order("crm-db")));
        assert_eq!(codec::decode(&bytes, 4096), Ok(with));
    }

    #[test]
    fn guests_have_a_limit() {
        let mut many = order("crm-db");
        let orgs = (1..=16).map(|byte| Guest::Org(org(byte)));
        many.guests = orgs.collect();
        assert_eq!(many.check(), Ok(()));
        many.guests.insert(Guest::Mesh);
        let (field, len, max) = ("guests", 17, 16);
        assert_eq!(many.check(), Err(BodyError::List { field, len, max }));
    }
}
