//! Waits for conditions, and for a time alone only where that is what is measured. The only place
//! of the tests that sleeps.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

/// Shortest and longest pause between two looks.
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// A pause is this part of the time that has passed, so that a measured time is off by as little.
const PAUSE_PART: u32 = 20;

/// Looks again and again until `look` finds something, and returns it.
///
/// # Errors
/// Names `what` was waited for if the limit passes first, or passes on the error of a look.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        let passed = start.elapsed();
        if limit <= passed {
            bail!("waited {:.1} s in vain: {what}", limit.as_secs_f64());
        }
        thread::sleep((passed / PAUSE_PART).clamp(PAUSE_MIN, PAUSE_MAX));
    }
}

/// Lets time pass, where what happens meanwhile is measured.
///
/// # Errors
/// None; it is one of the waits.
pub fn rest(time: Duration) -> anyhow::Result<()> {
    let start = Instant::now();
    until("time has passed", 2 * time, || {
        Ok((time <= start.elapsed()).then_some(()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_is_as_long_as_asked_for() {
        let start = Instant::now();
        rest(Duration::from_millis(20)).unwrap();
        assert!(Duration::from_millis(20) <= start.elapsed());
    }

    #[test]
    fn condition_that_comes_true_is_returned() {
        let mut looks = 0;
        let found = until("three looks", Duration::from_secs(10), || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(found.unwrap(), 3);
    }

    #[test]
    fn condition_that_stays_false_is_named() {
        let never = until::<()>("the moon", Duration::ZERO, || Ok(None));
        assert!(
            never
                .unwrap_err()
                .to_string()
                .ends_with("in vain: the moon")
        );
    }
}
