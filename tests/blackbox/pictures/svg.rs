//! SVG: texts in a terminal, and the text of a picture.

use std::fmt::Write;

/// A part of a line, with the class that gives it its colour.
pub struct Span(pub &'static str, pub String);

const LINE: usize = 18;
const MARGIN: usize = 16;
/// The width of a character at 13 px, rounded up: fonts differ.
const CHARACTER: f64 = 8.2;

/// Draws lines of text as a terminal shows them. It has a background of its own, whatever the page's.
pub fn terminal(label: &str, lines: &[Vec<Span>]) -> String {
    let columns = lines.iter().map(|line| line.iter().map(|span| span.1.chars().count()).sum::<usize>()).max();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small")]
    let width = 2 * MARGIN + (columns.unwrap_or_default() as f64 * CHARACTER).ceil() as usize;
    let mut shapes = String::new();
    for (index, line) in lines.iter().enumerate() {
        let mut spans = String::new();
        for Span(class, text) in line {
            let _ = write!(spans, "<tspan class=\"{class}\">{}</tspan>", escaped(text));
        }
        let y = MARGIN + LINE * (index + 1) - 5;
        let _ = writeln!(shapes, "<text x=\"{MARGIN}\" y=\"{y}\" xml:space=\"preserve\">{spans}</text>");
    }
    let style = "text { font: 13px monospace; white-space: pre; \
                 fill: #d5dbe3 } .command, .title { font-weight: bold; fill: #ffffff } .bad { fill: #ff9a8d } \
                 .good { fill: #8fdc9d } .dim { fill: #8b97a6 }";
    picture(label, width, 2 * MARGIN + LINE * lines.len(), "#1b222c", style, &shapes)
}

/// A picture of these shapes on a background.
pub fn picture(label: &str, width: usize, height: usize, background: &str, style: &str, shapes: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" aria-label=\"{}\">\n<style>{style}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"{background}\"/>\n{shapes}</svg>\n",
        escaped(label)
    )
}

/// Text as XML has it.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The text of a picture: a line for each `text` element.
pub fn text_of(svg: &str) -> String {
    let mut lines = String::new();
    for element in svg.split("<text ").skip(1) {
        let element = element.split("</text>").next().unwrap_or_default();
        let inside = element.split_once('>').map_or("", |(_, inside)| inside);
        for part in inside.split('<') {
            // After the first `<`, a part begins with what is left of a tag.
            lines += part.split_once('>').map_or(part, |(_, text)| text);
        }
        lines.push('\n');
    }
    lines.replace("&quot;", "\"").replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&")
}
