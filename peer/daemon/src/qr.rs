//! Draws a text as a QR code (ISO/IEC 18004) in a terminal: two rows of dots to a line of
//! characters.
//!
//! Black on white whatever the terminal's colours are, for many cameras see nothing else. Decides
//! only how it looks; what the dots are is `qrcodegen`'s.

use qrcodegen::{QrCode, QrCodeEcc};

/// White dots around the code: a camera wants four.
const MARGIN: i32 = 4;
/// Black on bright white.
const INK: &str = "\u{1b}[30;107m";
const NO_INK: &str = "\u{1b}[0m";

/// Returns the drawing; none if the text is too long for any QR code.
pub fn draw(text: &str) -> Option<String> {
    let code = QrCode::encode_text(text, QrCodeEcc::Low).ok()?;
    let places = || -MARGIN..code.size() + MARGIN;
    let mut drawing = String::new();
    for y in places().step_by(2) {
        drawing.push_str(INK);
        // Outside of the code every dot is white.
        drawing.extend(places().map(|x| {
            match (code.get_module(x, y), code.get_module(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            }
        }));
        drawing.push_str(NO_INK);
        drawing.push('\n');
    }
    Some(drawing)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the dots of a drawing, line by line.
    fn dots(drawing: &str) -> Vec<Vec<bool>> {
        let mut rows = Vec::new();
        for line in drawing.lines() {
            let line = line
                .strip_prefix(INK)
                .unwrap()
                .strip_suffix(NO_INK)
                .unwrap();
            rows.push(line.chars().map(|c| "█▀".contains(c)).collect());
            rows.push(line.chars().map(|c| "█▄".contains(c)).collect());
        }
        rows
    }

    #[test]
    fn every_dot_is_where_it_belongs_with_a_margin_around() {
        let text = "[Interface]\nPrivateKey = AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=\n";
        let code = QrCode::encode_text(text, QrCodeEcc::Low).unwrap();
        let rows = dots(&draw(text).unwrap());
        let side = usize::try_from(code.size() + 2 * MARGIN).unwrap();
        assert!(side <= rows.len() && rows.len() <= side + 1);
        for (y, row) in (-MARGIN..).zip(&rows) {
            assert_eq!(row.len(), side);
            for (x, dot) in (-MARGIN..).zip(row) {
                assert_eq!(*dot, code.get_module(x, y), "{x} {y}");
            }
        }
        let black: usize = rows.iter().flatten().filter(|dot| **dot).count();
        assert!(side * side / 8 < black, "{black}");
    }

    #[test]
    fn text_that_is_too_long_is_not_drawn() {
        assert_eq!(draw(&"x".repeat(3000)), None);
        assert!(draw(&"x".repeat(600)).is_some());
    }
}
