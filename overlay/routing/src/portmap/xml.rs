//! As much of XML as a UPnP gateway's answers need: elements in order, and their text.
//!
//! No tree is made and nothing is kept, so depth costs nothing. Namespaces, attributes, comments
//! and processing instructions are passed over; a document type is not expanded. What is not
//! well-formed ends the reading. Decides nothing about what the elements mean.

/// Longest text of one element: UPnP's longest is a path.
pub const TEXT_LEN_MAX: usize = 512;

/// A step through a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<'a> {
    /// An element begins; its name without a namespace, and the text up to the next mark.
    Open {
        /// The local name.
        name: &'a str,
        /// Its text, with entities replaced; empty if it is too long or has none.
        text: String,
    },
    /// An element ends.
    Close(&'a str),
}

/// Returns the steps through a document, up to its end or its first fault.
pub fn steps(document: &str) -> impl Iterator<Item = Step<'_>> {
    let mut rest = document;
    let mut closing: Option<&str> = None;
    std::iter::from_fn(move || {
        if let Some(name) = closing.take() {
            return Some(Step::Close(name));
        }
        loop {
            let (_, after) = rest.split_once('<')?;
            if let Some(skipped) = skip(after) {
                rest = skipped?;
                continue;
            }
            let (mark, after) = after.split_once('>')?;
            rest = after;
            if let Some(name) = mark.strip_prefix('/') {
                return Some(Step::Close(local(name.trim())?));
            }
            let whole = mark.strip_suffix('/');
            let name = local(whole.unwrap_or(mark).split_ascii_whitespace().next()?)?;
            if whole.is_some() {
                closing = Some(name);
            }
            let text = match whole {
                Some(_) => "",
                None => rest.split('<').next().unwrap_or_default(),
            };
            return Some(Step::Open {
                name,
                text: plain(text.trim()),
            });
        }
    })
}

/// Passes over what is no element: the outer answer is whether it is such, the inner what follows.
fn skip(after: &str) -> Option<Option<&str>> {
    for (start, end) in [("!--", "-->"), ("![CDATA[", "]]>"), ("?", "?>"), ("!", ">")] {
        if let Some(inside) = after.strip_prefix(start) {
            return Some(inside.split_once(end).map(|(_, rest)| rest));
        }
    }
    None
}

/// Returns a name without its namespace; none if it is no name.
fn local(name: &str) -> Option<&str> {
    let name = name.rsplit(':').next()?;
    (!name.is_empty() && name.len() <= TEXT_LEN_MAX).then_some(name)
}

fn plain(text: &str) -> String {
    if TEXT_LEN_MAX < text.len() {
        return String::new();
    }
    let mut plain = text.to_owned();
    // The ampersand last, or `&amp;lt;` would become a mark.
    for (entity, letter) in [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&amp;", "&"),
    ] {
        plain = plain.replace(entity, letter);
    }
    plain
}

/// Returns text as it can stand in an element.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(document: &str, expect: &[(&str, Option<&str>)]) {
        let steps: Vec<_> = steps(document).collect();
        let expect: Vec<_> = expect
            .iter()
            .map(|(name, text)| match text {
                Some(text) => Step::Open {
                    name,
                    text: (*text).to_owned(),
                },
                None => Step::Close(name),
            })
            .collect();
        assert_eq!(steps, expect);
    }

    #[test]
    fn elements_come_in_order_with_their_text() {
        check(
            "<?xml version=\"1.0\"?><a x=\"1\"><s:b> 7 &lt;&amp;lt; </s:b><c/></a>",
            &[
                ("a", Some("")),
                ("b", Some("7 <&lt;")),
                ("b", None),
                ("c", Some("")),
                ("c", None),
                ("a", None),
            ],
        );
    }

    #[test]
    fn what_is_no_element_is_passed_over() {
        check(
            "<!DOCTYPE a><!-- <b> --><a><![CDATA[<c>]]></a>",
            &[("a", Some("")), ("a", None)],
        );
    }

    #[test]
    fn fault_ends_the_reading() {
        check("<a><b", &[("a", Some(""))]);
        check("<a>< ></a>", &[("a", Some(""))]);
        check("<a><!-- for ever", &[("a", Some(""))]);
        check("nothing", &[]);
    }

    #[test]
    fn text_that_is_too_long_is_left_out() {
        let document = format!("<a>{}</a>", "x".repeat(TEXT_LEN_MAX + 1));
        check(&document, &[("a", Some("")), ("a", None)]);
    }

    #[test]
    fn escaped_text_is_read_back() {
        let document = format!("<a>{}</a>", escaped("a&b<c>&amp;"));
        check(&document, &[("a", Some("a&b<c>&amp;")), ("a", None)]);
    }
}
