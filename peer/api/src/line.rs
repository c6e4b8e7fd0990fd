//! The lines of a response: `{"event":…}` any number of times, then one `{"reply":…}` or
//! `{"error":…}`.

use serde::{Deserialize, Serialize};

use crate::error::{ApiError, ErrorKind};
use crate::event::Event;
use crate::reply::Reply;

/// Content type of a response.
pub const CONTENT_TYPE: &str = "application/x-ndjson";

/// Longest line that a program accepts; a log piece of 64 KiB, escaped, and every list fit.
pub const LINE_LEN_MAX: usize = 16 * 1024 * 1024;

/// One line of a response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Something happened; more lines follow.
    Event(Event),
    /// The last word, and it went well.
    Reply(Box<Reply>),
    /// The last word, and it did not.
    Error(ApiError),
}

impl Line {
    /// Returns the last line of a response.
    pub fn last(result: Result<Reply, ApiError>) -> Self {
        match result {
            Ok(reply) => Self::Reply(Box::new(reply)),
            Err(error) => Self::Error(error),
        }
    }

    /// Returns the line as JSON with its line feed.
    pub fn to_text(&self) -> String {
        // Proof: no map has keys that are not text, and no field is a float, so JSON can say it
        // all.
        let mut text = serde_json::to_string(self).expect("API types can be written as JSON");
        text.push('\n');
        text
    }

    /// Reads one line, with or without its line feed.
    pub fn from_text(text: &str) -> Result<Self, ApiError> {
        serde_json::from_str(text).map_err(|problem| {
            ApiError::new(
                ErrorKind::Failure,
                format!("cannot read the node's answer: {problem}"),
                "use the same version of meshctl and meshnode: compare `meshctl version` with \
                 `meshctl status`",
            )
        })
    }

    /// Returns whether no line may follow.
    pub const fn is_last(&self) -> bool {
        !matches!(self, Self::Event(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_says_what_it_is() {
        let line = Line::Event(Event::Note {
            text: "a\nb".into(),
        });
        assert_eq!(
            line.to_text(),
            "{\"event\":{\"kind\":\"note\",\"text\":\"a\\nb\"}}\n"
        );
        assert_eq!(Line::from_text(&line.to_text()).unwrap(), line);
        assert!(!line.is_last());
    }

    #[test]
    fn reply_and_error_are_last() {
        let reply = Line::last(Ok(Reply::Logs {
            name: "a".into(),
            bytes: 1,
        }));
        assert!(reply.is_last());
        assert_eq!(
            reply.to_text(),
            "{\"reply\":{\"kind\":\"logs\",\"name\":\"a\",\"bytes\":1}}\n"
        );
        let error = Line::last(Err(ApiError::new(ErrorKind::Timeout, "late", "wait")));
        assert!(error.is_last());
        assert_eq!(Line::from_text(error.to_text().trim()).unwrap(), error);
    }

    #[test]
    fn other_text_is_a_readable_failure() {
        let error = Line::from_text("<html>").unwrap_err();
        assert_eq!(error.kind, ErrorKind::Failure);
        assert!(error.hint.contains("version"));
    }
}
