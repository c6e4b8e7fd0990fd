//! Drawings of a few lines each, as SVG that any browser shows.
//!
//! Decides scale and ink; leaves what is drawn to the report.

use std::fmt::Write as _;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 45.0;
const TOP: f64 = 30.0;
const RIGHT: f64 = 20.0;
/// Blue and orange, which people of every kind of eyes tell apart.
const INKS: [&str; 2] = ["#0060a0", "#d06000"];

/// A line of points.
#[derive(Debug)]
pub struct Curve {
    pub name: &'static str,
    pub points: Vec<(f64, f64)>,
}

/// A drawing: both axes start at zero.
#[derive(Debug)]
pub struct Plot {
    pub title: &'static str,
    pub across: &'static str,
    pub up: &'static str,
    pub across_max: f64,
    pub up_max: f64,
    pub curves: Vec<Curve>,
}

impl Plot {
    /// Returns the file.
    pub fn to_svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        text(&mut svg, (WIDTH / 2.0, 18.0), "middle", self.title);
        let foot = (WIDTH / 2.0, HEIGHT - 8.0);
        text(&mut svg, foot, "middle", self.across);
        text(&mut svg, (4.0, 18.0), "start", self.up);
        for step in 0..=5 {
            let share = f64::from(step) / 5.0;
            let (x, y) = (self.x(share * self.across_max), self.y(share * self.up_max));
            let (right, low) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT:.1} {y:.1}H{right:.1}M{x:.1} {TOP:.1}V{low:.1}\" \
                 stroke=\"#ddd\"/>"
            );
            let mark = format!("{:.2}", share * self.up_max);
            text(&mut svg, (LEFT - 6.0, y + 4.0), "end", &mark);
            let mark = format!("{:.1}", share * self.across_max);
            text(&mut svg, (x, low + 16.0), "middle", &mark);
        }
        for ((curve, ink), line) in self.curves.iter().zip(INKS).zip(0_u8..) {
            let points: Vec<String> = curve
                .points
                .iter()
                .map(|(x, y)| format!("{:.1},{:.1}", self.x(*x), self.y(*y)))
                .collect();
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{ink}\" stroke-width=\"2\"/>",
                points.join(" ")
            );
            let y = TOP + 20.0 + 16.0 * f64::from(line);
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"end\" fill=\"{ink}\">{}</text>",
                WIDTH - RIGHT - 8.0,
                curve.name
            );
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (value / self.across_max).clamp(0.0, 1.0)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (value / self.up_max).clamp(0.0, 1.0)
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, words: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn point_beyond_the_axis_is_drawn_at_its_end() {
        let plot = Plot {
            title: "t",
            across: "a",
            up: "u",
            across_max: 1.0,
            up_max: 1.0,
            curves: vec![Curve {
                name: "c",
                points: vec![(0.0, 0.0), (2.0, 2.0)],
            }],
        };
        assert!(plot.to_svg().contains("points=\"60.0,275.0 620.0,30.0\""));
    }
}
