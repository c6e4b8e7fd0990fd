//! A file of Rust as the rules need it: code without comments and literals, comments without code,
//! where functions begin and end, which lines are test code.
//!
//! No parser: a scanner that knows comments, strings and characters, and counts braces. Invariant:
//! `code` and `comments` have the same lines as the text.

/// A function and the lines that it covers.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// First line, counted from one.
    pub start: usize,
    /// Lines from its `fn` to its closing brace.
    pub len: usize,
}

/// A scanned file.
#[derive(Debug)]
pub struct Source {
    /// Lines with comments and the insides of literals blanked.
    pub code: Vec<String>,
    /// Lines with everything but comments blanked.
    pub comments: Vec<String>,
    /// For each line, whether it belongs to test code.
    pub in_test: Vec<bool>,
    /// All functions with a body.
    pub functions: Vec<Function>,
}

impl Source {
    /// Scans a file.
    pub fn scan(text: &str) -> Self {
        let (code, comments) = split(text);
        let in_test = test_lines(&code);
        let functions = functions(&code);
        let lines = |text: &str| text.lines().map(str::to_owned).collect();
        Self {
            code: lines(&code),
            comments: lines(&comments),
            in_test,
            functions,
        }
    }

    /// Tells whether a line, counted from one, belongs to test code.
    pub fn is_test(&self, line: usize) -> bool {
        self.in_test
            .get(line.saturating_sub(1))
            .copied()
            .unwrap_or(false)
    }
}

/// Tells whether `word` stands in `line` with no identifier going on at either end.
pub fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|head| head.chars().next_back());
        let after = line
            .get(at + word.len()..)
            .and_then(|tail| tail.chars().next());
        let open = word.starts_with(part) && before.is_some_and(part);
        let close = word.ends_with(part) && after.is_some_and(part);
        !open && !close
    })
}

/// What the scanner is inside of.
#[derive(Debug, Clone, Copy)]
enum Inside {
    Code,
    LineComment,
    /// With the depth of nesting.
    BlockComment(usize),
    /// With the number of hashes of a raw string; `None` if backslashes escape.
    Text(Option<usize>),
}

/// Splits a text into its code and its comments, each with the lines of the whole.
fn split(text: &str) -> (String, String) {
    let mut scanner = Scanner {
        chars: text.chars().collect(),
        at: 0,
        inside: Inside::Code,
        code: String::with_capacity(text.len()),
        comments: String::new(),
    };
    while scanner.at < scanner.chars.len() {
        match scanner.inside {
            Inside::Code => scanner.code(),
            Inside::LineComment => scanner.line_comment(),
            Inside::BlockComment(depth) => scanner.block_comment(depth),
            Inside::Text(hashes) => scanner.text(hashes),
        }
    }
    (scanner.code, scanner.comments)
}

struct Scanner {
    chars: Vec<char>,
    at: usize,
    inside: Inside,
    code: String,
    comments: String,
}

impl Scanner {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    /// Takes `count` characters into the code, the comments, or neither.
    fn take(&mut self, count: usize, to_code: bool, to_comments: bool) {
        for _ in 0..count {
            let c = self.peek(0);
            let blank = if c == '\n' { '\n' } else { ' ' };
            self.code.push(if to_code { c } else { blank });
            self.comments.push(if to_comments { c } else { blank });
            self.at += 1;
        }
    }

    fn code(&mut self) {
        match (self.peek(0), self.peek(1)) {
            ('/', '/') => self.inside = Inside::LineComment,
            ('/', '*') => {
                self.inside = Inside::BlockComment(1);
                self.take(2, false, true);
            }
            ('"', _) => {
                self.inside = Inside::Text(self.raw_hashes());
                self.take(1, true, false);
            }
            ('\'', '\\') => {
                // An escaped character: over the escape, then up to its closing quote.
                self.take(3, false, false);
                while self.at < self.chars.len() && self.peek(0) != '\'' {
                    self.take(1, false, false);
                }
                self.take(1, false, false);
            }
            ('\'', _) if self.peek(2) == '\'' => self.take(3, false, false),
            _ => self.take(1, true, false),
        }
    }

    /// Counts the hashes of the raw string whose quote comes next; `None` if it is not raw.
    fn raw_hashes(&self) -> Option<usize> {
        let before = self.chars.get(..self.at).unwrap_or_default();
        let hashes = before.iter().rev().take_while(|c| **c == '#').count();
        let prefix: Vec<char> = before.iter().rev().skip(hashes).take(3).copied().collect();
        let word = |c: &char| c.is_alphanumeric() || *c == '_';
        match prefix.as_slice() {
            ['r'] => Some(hashes),
            ['r', before, ..] if !word(before) => Some(hashes),
            ['r', 'b' | 'c'] => Some(hashes),
            ['r', 'b' | 'c', before] if !word(before) => Some(hashes),
            _ => None,
        }
    }

    fn line_comment(&mut self) {
        if self.peek(0) == '\n' {
            self.inside = Inside::Code;
        }
        self.take(1, false, true);
    }

    fn block_comment(&mut self, depth: usize) {
        match (self.peek(0), self.peek(1)) {
            ('/', '*') => {
                self.inside = Inside::BlockComment(depth + 1);
                self.take(2, false, true);
            }
            ('*', '/') => {
                self.inside = match depth {
                    0 | 1 => Inside::Code,
                    _ => Inside::BlockComment(depth - 1),
                };
                self.take(2, false, true);
            }
            _ => self.take(1, false, true),
        }
    }

    fn text(&mut self, raw: Option<usize>) {
        match (self.peek(0), raw) {
            ('\\', None) => self.take(2, false, false),
            ('"', None) => {
                self.inside = Inside::Code;
                self.take(1, true, false);
            }
            ('"', Some(hashes)) => {
                if (1..=hashes).all(|ahead| self.peek(ahead) == '#') {
                    self.inside = Inside::Code;
                }
                self.take(1, true, false);
            }
            _ => self.take(1, false, false),
        }
    }
}

/// A character of code with its line, counted from zero.
fn with_lines(code: &str) -> Vec<(char, usize)> {
    let mut line = 0;
    code.chars()
        .map(|c| {
            let here = line;
            line += usize::from(c == '\n');
            (c, here)
        })
        .collect()
}

/// Returns the last line of the item that begins at `start`: its closing brace, or its semicolon.
fn item_end(chars: &[(char, usize)], start: usize) -> Option<(usize, bool)> {
    let (mut braces, mut others) = (0_usize, 0_usize);
    for (c, line) in chars.iter().skip(start) {
        match c {
            '(' | '[' => others += 1,
            ')' | ']' => others = others.saturating_sub(1),
            '{' => braces += 1,
            '}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return Some((*line, true));
                }
            }
            ';' if braces == 0 && others == 0 => return Some((*line, false)),
            _ => {}
        }
    }
    None
}

fn test_lines(code: &str) -> Vec<bool> {
    let chars = with_lines(code);
    let count = code.lines().count();
    let mut in_test = vec![false; count];
    let mut offset = 0;
    for (number, line) in code.split_inclusive('\n').enumerate() {
        let opens = ["#[cfg(test)]", "#[test]", "#[cfg(any(test"];
        let is_inner = line.trim_start().starts_with("#![cfg(test)]");
        let is_marked = in_test.get(number).copied().unwrap_or(false);
        if is_inner {
            in_test.fill(true);
        } else if !is_marked && opens.iter().any(|open| line.contains(open)) {
            let end = item_end(&chars, offset + attribute_len(line));
            let last = end.map_or(count, |(last, _)| last);
            for mark in in_test.iter_mut().take(last + 1).skip(number) {
                *mark = true;
            }
        }
        offset += line.chars().count();
    }
    in_test
}

/// Returns how many characters of the line come before the end of its attribute.
fn attribute_len(line: &str) -> usize {
    line.rfind(']')
        .and_then(|at| line.get(..=at))
        .map_or(0, |head| head.chars().count())
}

fn functions(code: &str) -> Vec<Function> {
    let chars = with_lines(code);
    let text: Vec<char> = chars.iter().map(|(c, _)| *c).collect();
    let mut found = Vec::new();
    for at in 0..text.len() {
        let before = at.checked_sub(1).and_then(|at| text.get(at));
        let starts_word = before.is_none_or(|c| !c.is_alphanumeric() && *c != '_');
        if !starts_word || text.get(at..at + 3) != Some(&['f', 'n', ' ']) {
            continue;
        }
        let rest = text.get(at + 3..).unwrap_or_default();
        let name: String = rest
            .iter()
            .take_while(|c| c.is_alphanumeric() || **c == '_')
            .collect();
        let start = chars.get(at).map_or(0, |(_, line)| *line);
        if let (false, Some((end, true))) = (name.is_empty(), item_end(&chars, at)) {
            found.push(Function {
                name,
                start: start + 1,
                len: end - start + 1,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_code(text: &str, code: &str) {
        assert_eq!(Source::scan(text).code.join("\n"), code);
    }

    #[test]
    fn comments_and_literals_are_blanked() {
        check_code("let a = \"tokio\"; // tokio", "let a = \"     \";         ");
        check_code("let a = r#\"a\"b\"#;", "let a = r#\" \" \"#;");
        check_code("/* a /* b */ c */ x", "                  x");
        check_code("f('{', '\\n', b'\\'')", "f(   ,     , b    )");
    }

    #[test]
    fn lifetimes_are_no_characters() {
        check_code("fn a<'a>(x: &'a str) {}", "fn a<'a>(x: &'a str) {}");
    }

    #[test]
    fn escaped_quote_does_not_end_a_string() {
        check_code(r#"a("x\"y{", 1)"#, "a(\"     \", 1)");
    }

    #[test]
    fn test_module_is_test_code_and_what_follows_is_not() {
        let source = Source::scan("fn a() {}\n#[cfg(test)]\nmod tests {\n    x\n}\nfn b() {}\n");
        assert_eq!(source.in_test, [false, true, true, true, true, false]);
    }

    #[test]
    fn declared_test_module_ends_at_its_semicolon() {
        let source = Source::scan("#[cfg(test)]\nmod tests;\nfn b() {}\n");
        assert_eq!(source.in_test, [true, true, false]);
    }

    #[test]
    fn function_is_measured_from_its_name_to_its_brace() {
        let source = Source::scan("pub fn long(\n    a: [u8; 4],\n) {\n    if a {\n    }\n}\n");
        let expect = Function {
            name: "long".into(),
            start: 1,
            len: 6,
        };
        assert_eq!(source.functions, [expect]);
    }

    #[test]
    fn declared_function_and_function_type_are_not_measured() {
        let source = Source::scan("trait A { fn a(&self); }\ntype B = fn (u8) -> u8;\n");
        assert!(source.functions.is_empty());
    }

    #[test]
    fn word_is_found_whole() {
        assert!(has_word("use std::fs;", "std::fs"));
        assert!(!has_word("use std::fsync;", "std::fs"));
        assert!(!has_word("my_HashMap", "HashMap"));
        assert!(has_word("eprintln!(", "eprintln!"));
    }
}
