//! A bounded memory of answers that are dear to compute and can never differ.
//!
//! Kept by thread, so that no answer waits for another. Only functions of bytes may use it:
//! forgetting changes how long an answer takes, never the answer.

use std::cell::RefCell;
use std::collections::BTreeMap;

/// Most answers that are remembered; when they are used up the memory begins anew.
const REMEMBERED_MAX: usize = 16 * 1024;

/// Answers by 32-byte question.
pub(crate) type Memo<V> = RefCell<BTreeMap<[u8; 32], V>>;

/// Returns the remembered answer, or computes and remembers it. Failures are not remembered.
pub(crate) fn remembered<V: Copy, E>(
    memo: &Memo<V>,
    question: &[u8; 32],
    compute: impl FnOnce() -> Result<V, E>,
) -> Result<V, E> {
    if let Some(answer) = memo.borrow().get(question) {
        return Ok(*answer);
    }
    let answer = compute()?;
    let mut known = memo.borrow_mut();
    if REMEMBERED_MAX <= known.len() {
        known.clear();
    }
    known.insert(*question, answer);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_never_grows_beyond_its_limit() {
        let memo = Memo::default();
        for index in 0..=REMEMBERED_MAX {
            let mut question = [0; 32];
            question[..8].copy_from_slice(&index.to_be_bytes());
            assert_eq!(
                remembered(&memo, &question, || Ok::<_, ()>(index)),
                Ok(index)
            );
        }
        assert_eq!(memo.borrow().len(), 1);
    }

    #[test]
    fn failure_is_asked_again() {
        let memo = Memo::default();
        assert_eq!(
            remembered(&memo, &[0; 32], || Err::<u8, _>("no")),
            Err("no")
        );
        assert_eq!(remembered(&memo, &[0; 32], || Ok::<_, &str>(1)), Ok(1));
        assert_eq!(remembered(&memo, &[0; 32], || Err("never asked")), Ok(1));
    }
}
