//! A bar chart of CPU times, as SVG.

use crate::compare::{Comparison, Measured};
use crate::table::number;

const WIDTH: u32 = 760;
const MARGIN: u32 = 16;
const TITLE: u32 = 32;
const BAR: u32 = 18;
/// Where bars begin, right of their names.
const AXIS: u32 = 220;
const LONGEST_BAR: u32 = 440;

/// Draws a bar for each program in each scenario.
///
/// It has a background of its own, as who looks at it may have a dark one.
pub fn draw(comparison: &Comparison) -> String {
    let all = comparison.scenarios.iter().flat_map(|(_, measured)| measured);
    let longest = all.map(|measured| measured.runs.cpu()).max().unwrap_or_default();

    let mut shapes = text(MARGIN, MARGIN + 16, "title", "CPU time of one probe, in µs (median; less is better)");
    let mut y = MARGIN + TITLE;
    for (scenario, measured) in &comparison.scenarios {
        shapes += &text(MARGIN, y + 13, "scenario", scenario);
        y += BAR + 4;
        for measured in measured {
            shapes += &bar(y, measured, longest);
            y += BAR + 4;
        }
        y += 10;
    }
    let height = y + MARGIN - 10;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-label=\"CPU time of one probe\">\n\
         <style>text {{ font: 13px sans-serif; fill: #1f2933 }} .title, .scenario {{ font-weight: bold }} \
         .name {{ text-anchor: end }} .ours {{ fill: #0b7a5c }} .other {{ fill: #9fb3c8 }}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" rx=\"8\" fill=\"#ffffff\"/>\n{shapes}</svg>\n"
    )
}

fn bar(y: u32, measured: &Measured, longest: u32) -> String {
    let cpu = measured.runs.cpu();
    // At least a line.
    let length = (LONGEST_BAR * (cpu / 10) / (longest / 10).max(1)).max(1);
    let class = if measured.is_ours { "ours" } else { "other" };
    text(AXIS - 8, y + 13, "name", &measured.program.name)
        + &format!("<rect class=\"{class}\" x=\"{AXIS}\" y=\"{y}\" width=\"{length}\" height=\"{BAR}\"/>\n")
        + &text(AXIS + length + 6, y + 13, "value", &number(cpu))
}

fn text(x: u32, y: u32, class: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{text}</text>\n")
}
