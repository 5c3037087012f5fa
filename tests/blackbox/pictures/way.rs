//! The way of a probe: its steps, what bounds each, what fails in each, and the exit code.

use std::{fmt::Write, fs};

use super::svg::{escaped, picture};

/// A step: its phase in `docs/failures.md`, what happens in it, and failures of that phase.
struct Step {
    phase: &'static str,
    happens: [&'static str; 2],
    fails: [&'static str; 3],
}

const STEPS: [Step; 6] = [
    Step {
        phase: "Resolve",
        happens: ["/etc/hosts,", "then DNS"],
        fails: ["name-not-found", "resolve-failed", "resolve-timeout"],
    },
    Step {
        phase: "Connect",
        happens: ["TCP, or a", "unix socket"],
        fails: ["connection-refused", "connect-timeout", "socket-missing"],
    },
    Step {
        phase: "TLS",
        happens: ["with -tls, -spiffe", "or -alts"],
        fails: ["tls-certificate-expired", "tls-certificate-wrong-name", "tls-plaintext-server"],
    },
    Step {
        phase: "HTTP/2",
        happens: ["until the server's", "SETTINGS arrive"],
        fails: ["server-speaks-tls", "server-speaks-http1", "server-silent"],
    },
    Step {
        phase: "RPC",
        happens: ["Health/Check", "for each service"],
        fails: ["rpc-timeout", "unimplemented", "unauthenticated"],
    },
    Step {
        phase: "Health",
        happens: ["the status in", "the answer"],
        fails: ["not-serving", "status-unknown", "service-unknown-status"],
    },
];

const MARGIN: usize = 16;
const WIDTH: usize = 172;
const GAP: usize = 14;
const HEIGHT: usize = 62;
const BOXES: usize = 76;

/// Draws the steps from left to right.
pub fn draw() -> String {
    let failures = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/failures.md")).expect("it is there");
    let mut shapes = String::new();
    for (flag, first, last, y) in
        [("-timeout bounds all", 0, 5, 22), ("-connect-timeout", 0, 3, 48), ("-rpc-timeout", 4, 4, 48)]
    {
        let (left, right) = (x(first), x(last) + WIDTH);
        let _ = writeln!(shapes, "<path class=\"bound\" d=\"M{left} {} v-6 H{right} v6\"/>", y + 14);
        shapes += &text(left.midpoint(right), y, "flag", flag);
    }
    for (index, step) in STEPS.iter().enumerate() {
        let (left, middle) = (x(index), x(index) + WIDTH / 2);
        let code = code_of(&failures, step);
        let class = if step.phase == "TLS" { "step optional" } else { "step" };
        let _ = writeln!(
            shapes,
            "<rect class=\"{class}\" x=\"{left}\" y=\"{BOXES}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\"/>"
        );
        shapes += &text(middle, BOXES + 20, "title", step.phase);
        for (line, happens) in step.happens.iter().enumerate() {
            shapes += &text(middle, BOXES + 38 + 15 * line, "happens", happens);
        }
        if index > 0 {
            let (from, y) = (left - GAP, BOXES + HEIGHT / 2);
            let _ = writeln!(shapes, "<path class=\"way\" d=\"M{from} {y} h{} m-4 -4 l4 4 l-4 4\"/>", GAP - 1);
        }
        let bottom = BOXES + HEIGHT;
        let _ = writeln!(shapes, "<path class=\"fails\" d=\"M{middle} {} v18 m-4 -4 l4 4 l4 -4\"/>", bottom + 2);
        for (line, kind) in step.fails.iter().enumerate() {
            shapes += &text(middle, bottom + 36 + 16 * line, "kind", kind);
        }
        shapes += &text(middle, bottom + 90, "title", &format!("exit 1 (detailed: {code})"));
    }
    let width = x(5) + WIDTH + MARGIN;
    let bottom = BOXES + HEIGHT + 118;
    shapes += &text(width / 2, bottom, "healthy", "Every service asked about is SERVING: exit 0");
    let style = "text { font: 12px sans-serif; fill: #1f2933; text-anchor: middle } .title { font-weight: bold; font-size: 13px } \
                 .kind { font: 11px monospace; fill: #9b2c1f } \
                 .flag { fill: #52606d } .healthy { font-weight: bold; font-size: 14px; fill: #0b7a5c } \
                 .step { fill: #e6f4ef; stroke: #0b7a5c } .optional { stroke-dasharray: 4 3 } \
                 path { fill: none; stroke: #52606d } .fails { stroke: #9b2c1f }";
    let label = "The steps of a probe, the time-out that bounds each, failures in each, and the exit codes";
    picture(label, width, bottom + MARGIN, "#ffffff", style, &shapes)
}

/// The left edge of a step.
fn x(step: usize) -> usize {
    MARGIN + step * (WIDTH + GAP)
}

fn text(x: usize, y: usize, class: &str, text: &str) -> String {
    format!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{}</text>\n", escaped(text))
}

/// The exit code of a step's failures with `-exit-codes=detailed`, from the list of failures, which also must have the kinds.
fn code_of(failures: &str, step: &Step) -> String {
    let section = failures.split("\n## ").find(|section| section.starts_with(step.phase)).expect("the phase is listed");
    for kind in step.fails {
        assert!(section.contains(&format!("\n### {kind}\n")), "{kind} is no failure of the phase {}", step.phase);
    }
    let heading = section.lines().next().unwrap_or_default();
    let code = heading.rsplit_once('(').map_or("", |(_, code)| code.trim_end_matches(')'));
    assert!(code.parse::<u8>().is_ok(), "the heading ends with the exit code: {heading}");
    code.to_owned()
}
