//! "Did you mean": the nearest known word to one that is not known.

/// Returns the known word that is nearest, if it is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters may be wrong; more is another word.
    let far = (word.chars().count() / 3).max(1);
    let measured = known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate));
    measured
        .filter(|(steps, _)| *steps <= far)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Counts the letters to insert, remove or replace on the way from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in from.chars().enumerate() {
        let mut left = row + 1;
        let mut line = vec![left];
        for (pair, other) in above.windows(2).zip(&to) {
            let &[diagonal, over] = pair else { continue };
            left = (diagonal + usize::from(letter != *other))
                .min(left + 1)
                .min(over + 1);
            line.push(left);
        }
        above = line;
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_word_is_found_and_far_ones_are_not() {
        let known = ["crm-db", "wiki", "url"];
        let check = |word: &str, expect: Option<&str>| assert_eq!(nearest(word, known), expect);
        check("crm-bd", Some("crm-db"));
        check("wik", Some("wiki"));
        check("ulr", None);
        check("ur", Some("url"));
        check("something", None);
        check("", None);
    }

    #[test]
    fn distance_counts_letters() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("é", "e"), 1);
    }
}
