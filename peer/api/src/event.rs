//! What happens while a request is being worked on: for people who wait, never a fact to build on.

use serde::{Deserialize, Serialize};

/// One thing that happened before the reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// An order, or another long request, got this far.
    Step {
        /// What is done now.
        step: Stage,
        /// More words about it, or nothing: `library-1 (0.12 EUR/month, 3 ms)`.
        detail: String,
        /// Milliseconds since the request came in.
        elapsed_ms: u64,
    },
    /// Something that the user should know and that does not stop the request.
    Note {
        /// One sentence.
        text: String,
    },
    /// A piece of a log. Bytes that are not UTF-8 are replaced.
    Log {
        /// The text; may start and end inside a line.
        text: String,
    },
}

/// How far an order got; also used by what the daemon does for a stop or a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// A node was chosen.
    Planned,
    /// The node holds the capacity for us.
    Reserved,
    /// The order is the node's.
    Awarded,
    /// The node confirmed it: the capacity is granted.
    Granted,
    /// Software and prepared data are on the node.
    SoftwareReady,
    /// The slot exists.
    Created,
    /// Processes run.
    Started,
    /// Every promise was measured and holds.
    PromisesHold,
    /// A node refused or let it lapse; another attempt begins.
    Refused,
    /// Processes ended as asked.
    Stopped,
    /// Nothing is left on the node.
    Destroyed,
    /// A usage statement came.
    UsageStated,
}

impl Stage {
    /// Returns the words that people see.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Reserved => "reserved",
            Self::Awarded => "awarded",
            Self::Granted => "granted",
            Self::SoftwareReady => "software ready",
            Self::Created => "created",
            Self::Started => "started",
            Self::PromisesHold => "promises hold",
            Self::Refused => "refused",
            Self::Stopped => "stopped",
            Self::Destroyed => "destroyed",
            Self::UsageStated => "usage stated",
        }
    }

    /// Returns whether this is a step forward.
    pub const fn is_progress(self) -> bool {
        !matches!(self, Self::Refused)
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.words())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_is_plain_json() {
        let event = Event::Step {
            step: Stage::PromisesHold,
            detail: String::new(),
            elapsed_ms: 1400,
        };
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"kind":"step","step":"promises_hold","detail":"","elapsed_ms":1400}"#
        );
    }
}
