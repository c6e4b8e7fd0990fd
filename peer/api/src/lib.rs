//! The API of a node: what programs on the same machine may ask, and what they are told.
//!
//! Decides the words of the API ([`Request`], [`Reply`], [`Event`], [`ApiError`]), their JSON form,
//! their HTTP form ([`http`]) and where the socket of a home is looked for ([`paths`]). Leaves to
//! others: what a request does (`peer/core`), who serves it (`peer/daemon`), how it looks (`cli`).
//!
//! One exchange is one HTTP request; its response is a list of JSON lines ([`line::Line`]): any
//! number of events, then exactly one reply or error. Invariant: every [`Request`] has one method
//! and path, and reading what was written gives the same request.
#![forbid(unsafe_code)]

pub mod chart;
pub mod client;
pub mod document;
pub mod error;
pub mod event;
pub mod guest;
pub mod http;
pub mod line;
pub mod names;
pub mod netcheck;
pub mod paths;
pub mod reply;
pub mod request;
pub mod route;
pub mod screen;
pub mod service;
pub mod status;
pub mod trade;
pub mod usage;

pub use error::{ApiError, ErrorKind};
pub use event::Event;
pub use reply::Reply;
pub use request::Request;
