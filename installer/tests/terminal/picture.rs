//! Draws what a terminal showed as an SVG picture, for pages such as the README.

use maud::{Markup, html};

use super::Span;

/// Width of a letter at a font size of 14.
const WIDTH: f64 = 8.43;
const HEIGHT: u32 = 19;
/// The margin around the text.
const MARGIN: u32 = 16;

/// Colours on a dark background, each with a contrast of at least 4.5 to 1.
const COLOURS: [(&str, &str); 5] = [
    ("red", "#ff7b72"),
    ("green", "#7ee787"),
    ("yellow", "#e3b341"),
    ("cyan", "#76e3ea"),
    ("dim", "#9da7b3"),
];

/// A command that was typed, and its output.
pub struct Command {
    pub typed: &'static str,
    pub rows: Vec<Vec<Span>>,
}

/// The commands one after the other, as SVG.
pub fn svg(title: &str, commands: &[Command], columns: u16) -> String {
    let mut lines: Vec<Vec<Span>> = Vec::new();
    for Command { typed, rows } in commands {
        let plain = |style: &str, text: String| Span {
            style: style.into(),
            text,
        };
        if !lines.is_empty() {
            lines.push(Vec::new());
        }
        lines.push(vec![
            plain("dim", "$ ".into()),
            plain("bold", (*typed).into()),
        ]);
        let is_blank = |row: &[Span]| row.iter().all(|s| s.text.trim().is_empty());
        let end = rows.iter().rposition(|row| !is_blank(row));
        lines.extend(rows[..end.map_or(0, |n| n + 1)].iter().cloned());
    }
    let width = (f64::from(columns) * WIDTH).ceil() + f64::from(2 * MARGIN);
    let baselines = (0..).map(|n| MARGIN + n * HEIGHT + 14);
    let height = lines.iter().map(|_| HEIGHT).sum::<u32>() + 2 * MARGIN;
    let markup = html! {
        svg xmlns="http://www.w3.org/2000/svg" role="img" width=(width) height=(height)
            viewBox=(format!("0 0 {width} {height}"))
            font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="14" {
            title { (title) }
            rect width="100%" height="100%" rx="8" fill="#0d1117" {}
            g fill="#e6edf3" {
                @for (line, baseline) in lines.iter().zip(baselines) {
                    (row(line, baseline))
                }
            }
        }
    };
    markup.into_string() + "\n"
}

/// Places each text at its column, because fonts are not equally wide everywhere.
fn row(spans: &[Span], y: u32) -> Markup {
    let wide = |text: &str| text.chars().map(|_| WIDTH).sum::<f64>();
    let mut x = f64::from(MARGIN);
    let mut placed = Vec::new();
    for span in spans {
        let text = span.text.trim();
        if !text.is_empty() {
            let indent = span.text.len() - span.text.trim_start().len();
            placed.push((
                x + wide(&span.text[..indent]),
                wide(text),
                text,
                &span.style,
            ));
        }
        x += wide(&span.text);
    }
    html! {
        @for (x, length, text, style) in placed {
            text x=(format!("{x:.1}")) y=(y) textLength=(format!("{length:.1}"))
                fill=[colour(style)]
                font-weight=[style.contains("bold").then_some("bold")]
                xml:space="preserve" { (text) }
        }
    }
}

fn colour(style: &str) -> Option<&'static str> {
    let named = |(name, _): &&(&str, &str)| style.split(' ').any(|word| word == *name);
    COLOURS.iter().find(named).map(|(_, colour)| *colour)
}
