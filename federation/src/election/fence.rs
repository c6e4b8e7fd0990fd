//! Who executes refuses the past: the one rule that keeps a group safe when every clock is wrong.
//!
//! Leases only make two leaders rare; this makes the older one harmless. Invariant: once a term was
//! admitted, no lower one is. The caller keeps the highest term with what it executes, on disk.

use super::words::Term;

/// An action of a leader that another has followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("term {given:?} has passed; term {seen:?} was seen")]
pub struct Past {
    /// The action's.
    pub given: Term,
    /// The highest seen.
    pub seen: Term,
}

/// The highest term that an executor has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fence(Term);

impl Fence {
    /// Returns the fence of an executor that has seen this term.
    pub fn at(seen: Term) -> Self {
        Self(seen)
    }

    /// Admits what is of the highest term or a later one.
    pub fn admit(&mut self, given: Term) -> Result<(), Past> {
        if given < self.0 {
            return Err(Past {
                given,
                seen: self.0,
            });
        }
        self.0 = given;
        Ok(())
    }

    /// Returns the highest term seen.
    pub fn seen(&self) -> Term {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_term_is_refused_once_a_higher_was_seen() {
        let mut fence = Fence::default();
        assert_eq!(fence.admit(Term(2)), Ok(()));
        assert_eq!(fence.admit(Term(2)), Ok(()));
        let past = Past {
            given: Term(1),
            seen: Term(2),
        };
        assert_eq!(fence.admit(Term(1)), Err(past));
    }
}
