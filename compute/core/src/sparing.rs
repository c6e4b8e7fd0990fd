//! A look at TOML before memory is spent on it.
//!
//! The TOML reader goes on after a fault and keeps what it finds, so it only gets texts without;
//! and a text of hardly anything but marks is refused before. Invariant: what passes costs the
//! reader at most 64 times its bytes, and 64 KiB.

use serde::de::DeserializeOwned;
use toml_parser::lexer::Token;
use toml_parser::parser::{Event, EventKind, RecursionGuard, parse_document};
use toml_parser::{Expected, ParseError};

/// Why a text is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not TOML, or not what is asked for.
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What the reader says.
        message: String,
    },
    /// It would take more memory than its length allows.
    Dense {
        /// How many pieces it has.
        pieces: usize,
    },
}

/// Reads a text that costs no more memory than its length allows.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    check(text)?;
    toml::from_str(text).map_err(|error| Fault::Syntax {
        line: line(text, error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })
}

/// Returns the line of a place in a text, counted from 1.
pub(crate) fn line(text: &str, at: usize) -> usize {
    let before = text.as_bytes().iter().take(at);
    1 + before.filter(|byte| **byte == b'\n').count()
}

/// Reads a text once and keeps nothing of it but its first fault and what a second reading will
/// take.
fn check(text: &str) -> Result<(), Fault> {
    let source = toml_parser::Source::new(text);
    let tokens: Vec<Token> = source.lex().collect();
    let (len, pieces) = (text.len(), tokens.len());
    let mut cost = pieces.saturating_mul(PIECE_COST);
    let mut fault: Option<ParseError> = None;
    let mut nesting = Nesting::default();
    let mut weigh = |event: Event| {
        nesting.note(event.kind());
        cost = cost.saturating_add(match event.kind() {
            EventKind::StdTableOpen
            | EventKind::ArrayTableOpen
            | EventKind::InlineTableOpen
            | EventKind::KeySep => TABLE_COST,
            EventKind::ArrayOpen => LIST_COST,
            EventKind::SimpleKey | EventKind::Scalar => VALUE_COST,
            _ => 0,
        });
    };
    let mut guarded = RecursionGuard::new(&mut weigh, DEPTH_MAX);
    parse_document(&tokens, &mut guarded, &mut fault);
    if let Some(fault) = fault {
        return Err(Fault::Syntax {
            line: line(text, fault.unexpected().map_or(0, |span| span.start())),
            message: message(&fault),
        });
    }
    if DEPTH_MAX < nesting.most || COST_FREE + COST_PER_BYTE_MAX * len < cost {
        return Err(Fault::Dense { pieces });
    }
    Ok(())
}

/// How deep dotted keys nest: the reader bounds one key, but a table under one may have more, and
/// whoever reads a table goes as deep as it does.
#[derive(Debug, Default)]
struct Nesting {
    /// Dots of the keys that lead here.
    dots: u32,
    /// The same, outside of each list or table that is open.
    outside: Vec<u32>,
    most: u32,
}

impl Nesting {
    fn note(&mut self, kind: EventKind) {
        match kind {
            EventKind::KeySep => {
                self.dots = self.dots.saturating_add(1);
                self.most = self.most.max(self.dots);
            }
            EventKind::InlineTableOpen | EventKind::ArrayOpen => self.outside.push(self.dots),
            EventKind::InlineTableClose | EventKind::ArrayClose => {
                self.dots = self.outside.pop().unwrap_or_default();
            }
            EventKind::ValueSep => self.dots = self.outside.last().copied().unwrap_or_default(),
            EventKind::Newline if self.outside.is_empty() => self.dots = 0,
            _ => {}
        }
    }
}

/// Says a fault as the TOML reader would.
fn message(fault: &ParseError) -> String {
    let words = fault.expected().unwrap_or_default().iter();
    let words = words.map(|word| match word {
        Expected::Literal("\n") => "newline".to_owned(),
        Expected::Literal("`") => "'`'".to_owned(),
        Expected::Literal(text) => format!("`{text}`"),
        Expected::Description(text) => (*text).to_owned(),
        _ => "etc".to_owned(),
    });
    let words: Vec<String> = words.collect();
    match (fault.expected(), words.join(", ")) {
        (None, _) => fault.description().to_owned(),
        (Some([]), _) => format!("{}, expected nothing", fault.description()),
        (Some(_), words) => format!("{}, expected {words}", fault.description()),
    }
}

/// Deepest nesting that is read; the same as the TOML reader's.
const DEPTH_MAX: u32 = 80;
/// Memory for any piece of a lawful text: twice as token, while their list grows, once as event.
const PIECE_COST: usize = 72;
/// Memory for a key or a value in a list that grows, and for what is made of it.
const VALUE_COST: usize = 120;
/// Memory for a list: room for four values as soon as it has one.
const LIST_COST: usize = 256;
/// Memory for a table: room for eleven values as soon as it has one.
const TABLE_COST: usize = 1200;
/// Most memory for each byte of text; what a reading may take is 64, and these are estimates.
const COST_PER_BYTE_MAX: usize = 61;
/// What a text of any length may take.
const COST_FREE: usize = 48 * 1024;
