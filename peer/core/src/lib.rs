//! The node's core: every machine of the house wired into one, driven by `meshnode` and by
//! `meshsim`.
//!
//! | room | idea |
//! |---|---|
//! | [`node`] | the machine itself: inputs in, outputs out, the ledger in the middle |
//! | [`port`] | the closed lists of inputs and outputs |
//! | [`held`] | what waits for the journal |
//! | [`message`] | what nodes say to each other and at the join door |
//! | [`genesis`] | the first entries of a new node's journal |
//! | [`entry`] | what the journal holds |
//! | [`view`] | what the ledger says, ready to be asked |
//! | [`peers`], [`replication`] | who is connected, who has what |
//! | `replicate` | messages and records: gate, journal, reactions |
//! | `customer`, `planning` | orders that we place |
//! | `provider`, `holding`, `metering` | orders that we grant, their instances, usage, invoices |
//! | `admission` | invites, members, agreements |
//! | `standing` | certificates, revocations, keys that run twice |
//! | [`refusal`] | what refusals are counted by |
//! | `overlay`, `guests` | the data plane's plan; who may reach a service |
//! | `neighbours` | whom we keep links with |
//! | `clients` | stock WireGuard devices that come in through us |
//! | [`names`], `naming` | names and their addresses |
//! | `api`, `calls`, `services`, `report` | programs that ask and wait, and what they see |
//! | `mapped` | what the home's router maps, in words |
//! | [`netcheck`] | what this machine's network lets through |
//! | [`places`] | from where an address of the underlay is reached |
//! | [`proxy`] | what programs ask a proxy for, and whether it is in the overlay |
//! | [`limits`] | every limit with its reason |

#![forbid(unsafe_code)]

mod admission;
mod api;
mod calls;
mod clients;
mod customer;
pub mod entry;
pub mod explain;
pub mod genesis;
mod guests;
pub mod held;
mod holding;
pub mod limits;
mod mapped;
pub mod message;
mod metering;
pub mod names;
mod naming;
mod neighbours;
pub mod netcheck;
pub mod node;
mod outbox;
mod overlay;
pub mod peers;
pub mod places;
mod planning;
pub mod port;
mod provider;
pub mod proxy;
pub mod refusal;
mod replicate;
pub mod replication;
mod report;
mod services;
mod standing;
pub mod survive;
pub mod view;
