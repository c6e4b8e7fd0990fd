//! How organisations and nodes act together: members, agreements, capacity, placement, orders on
//! the way.
//!
//! Pure machines over what the ledger knows. Nothing here signs by itself, sends or waits: the
//! caller turns answers into records, records into calls.
//!
//! | room | idea |
//! |---|---|
//! | [`members`] | who belongs to which organisation, and who is refused |
//! | [`invite`] | texts that let a stranger in once, and the book that knows which were used |
//! | [`agreement`] | what one organisation sells another, under which price and credit |
//! | [`planner`] | which node should get an order, with reasons |
//! | [`capacity`] | what a node has reserved and granted; never more than it has |
//! | [`attempt`] | an order's trip from node to node until one runs it; never two |
//! | [`leader`] | who may write for an organisation |
//! | [`election`] | who acts for a group of voters, and until when |

#![forbid(unsafe_code)]

pub mod agreement;
pub mod attempt;
pub mod capacity;
pub mod election;
pub mod invite;
pub mod leader;
pub mod members;
pub mod planner;
