//! What can be ordered and what an instance is: recipes, supervision, promises, meters. Pure.
//!
//! | room | idea |
//! |---|---|
//! | [`instance`] | from what is desired to steps: start, supervise, repair, stop, destroy |
//! | [`doors`] | where an instance without a network of its own listens |
//! | [`meter`] | from what the meters show to the quantities of a usage statement |
//! | [`parameter`] | what an order may say to a recipe, and which characters it may use |
//! | [`promise`] | what must hold for an instance, and when a broken promise counts |
//! | [`recipe`] | software that knows how it should be administered |
//! | [`step`] | the vocabulary between the machines here and the drivers |
//! | [`template`] | text with holes, filled strictly |
//! | [`settings`] | the text of a settings file, by key |
//! | [`words`] | what daemon, shim and the first process inside say to each other |

#![forbid(unsafe_code)]

pub mod doors;
pub mod instance;
pub mod meter;
pub mod parameter;
pub mod promise;
pub mod recipe;
pub mod settings;
mod sparing;
pub mod step;
pub mod template;
mod wire;
pub mod words;
