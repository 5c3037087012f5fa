//! What is printed as healthy is healthy: no report of any results says so of one that has no healthy verdict, neither in words
//! nor in JSON nor by the exit code.

use std::time::Duration;

use arbtest::arbitrary::{Result, Unstructured};
use serde_json::Value;
use tonic::Code;

use super::random_input::{check, up_to};
use crate::{
    outcome::{ExitCodes, Failure, Health, Kind, NonEmpty, Phase, ProbeResult, Record, Verdict, health_of},
    report::{Changes, Progress, Report, Style},
    rpc::Question,
};

/// Texts that would pass for a healthy result if they were printed raw, or in a place of their own.
const TEXTS: &[&str] = &[
    "",
    "up",
    "status: SERVING",
    "\nstatus: SERVING\n",
    "\r\u{1b}[2Kstatus: SERVING",
    "SERVING",
    "up  SERVING",
    "  SERVING",
    "1ms)\nstatus: SERVING (1ms)",
    "\",\"healthy\":true,\"status\":\"SERVING\",\"x\":\"",
    "\n{\"healthy\":true,\"status\":\"SERVING\"}\n",
    "\\",
    "127.0.0.1:1",
];

/// What one service answered: a status, or nothing for this reason.
type Answer = (String, std::result::Result<i32, Failure>);
/// A peer's address, and its answers or what kept the probe from asking.
type Peer = (Option<String>, std::result::Result<Vec<Answer>, Failure>);

/// Everything that a report is made of.
#[derive(Debug)]
struct Outcome {
    style: Style,
    question: Option<Question>,
    peers: Vec<Peer>,
    /// How many bytes of progress were written before.
    written: usize,
}

fn text(random: &mut Unstructured<'_>) -> Result<String> {
    let text = random.choose(TEXTS)?;
    Ok(if random.ratio(1, 10)? { text.repeat(300) } else { (*text).to_owned() })
}

/// Half of the failures are of kinds that answers have, and half of the messages those of a healthy answer.
fn failure(random: &mut Unstructured<'_>) -> Result<Failure> {
    let kinds = Kind::DOCUMENTED.iter().map(|(kind, _, _)| *kind).chain([Kind::Interrupted(Phase::Rpc)]);
    let (of_answers, others): (Vec<_>, Vec<_>) = kinds.partition(|kind| kind.phase() == Phase::Health);
    let kinds = if random.arbitrary()? { of_answers } else { others };
    let kind = *random.choose(&kinds)?;
    let message = if random.arbitrary()? { "status: SERVING".to_owned() } else { text(random)? };
    let failure = Failure::new(kind, message).code(*random.choose(&[Code::NotFound, Code::Unavailable])?);
    let failure = failure.answer(random.arbitrary()?);
    Ok(if random.arbitrary()? { failure.hint(text(random)?) } else { failure })
}

fn answer(random: &mut Unstructured<'_>) -> Result<Answer> {
    let answer = match random.int_in_range(0..=9)? {
        0..=4 => Ok(1),
        5..=6 => Ok(*random.choose(&[0, 2, 3, 4, -1, i32::MIN])?),
        _ => Err(failure(random)?),
    };
    Ok((text(random)?, answer))
}

fn outcome(random: &mut Unstructured<'_>) -> Result<Outcome> {
    let peer = |random: &mut Unstructured<'_>| {
        let address = if random.arbitrary()? { Some(text(random)?) } else { None };
        let answers = if random.ratio(1, 4)? {
            Err(failure(random)?)
        } else {
            let first = answer(random)?;
            let mut answers = up_to(4, random, answer)?;
            answers.push(first);
            Ok(answers)
        };
        Ok((address, answers))
    };
    let first = peer(random)?;
    let mut peers = up_to(3, random, peer)?;
    peers.push(first);
    let question = match random.int_in_range(0..=3)? {
        0 => None,
        1 => Some(Question::List),
        2 => Some(Question::Check(vec![text(random)?])),
        _ => Some(Question::Check(vec![text(random)?, text(random)?])),
    };
    let exit_codes = *random.choose(&[ExitCodes::Docker, ExitCodes::Detailed])?;
    let style =
        Style { exit_codes, json: random.arbitrary()?, quiet: random.ratio(1, 4)?, verbose: false, alive: false };
    Ok(Outcome { style, question, peers, written: *random.choose(&[0, 0, 1600, 5000])? })
}

impl Outcome {
    fn results(&self) -> NonEmpty<ProbeResult> {
        let result = |(address, answers): &Peer| {
            let verdicts = answers.clone().map(|answers| {
                let verdict = if self.style.alive { Verdict::of_life } else { Verdict::new };
                let verdicts = answers.into_iter().map(|(service, answer)| verdict(service, answer)).collect();
                NonEmpty::new(verdicts).expect("there is an answer")
            });
            let (record, took) = (Some(Record::new()), Duration::from_millis(1));
            ProbeResult { address: address.clone(), verdicts, record, took }
        };
        NonEmpty::new(self.peers.iter().map(result).collect()).expect("there is a peer")
    }

    /// Whether an answer is healthy: SERVING, or what decides with `-alive`.
    fn is_healthy(&self, answer: &std::result::Result<i32, Failure>) -> bool {
        match answer {
            Ok(status) => *status == 1 || self.style.alive,
            Err(failure) => self.style.alive && failure.is_answer && failure.grpc_code == Some(Code::NotFound),
        }
    }

    /// How many services are healthy, and how many results say anything else.
    fn count(&self) -> (usize, usize) {
        let (mut healthy, mut others) = (0, 0);
        for (_, answers) in &self.peers {
            let count = |answers: &Vec<Answer>| answers.iter().filter(|(_, answer)| self.is_healthy(answer)).count();
            let healthy_here = answers.as_ref().map_or(0, count);
            healthy += healthy_here;
            others += answers.as_ref().map_or(1, |answers| answers.len() - healthy_here);
        }
        (healthy, others)
    }
}

/// Whether a line of text says alive, whatever it is about.
fn says_alive(line: &str) -> bool {
    line.starts_with("alive: ") || line.contains(": alive: ")
}

/// Whether a line of text says healthy, whatever it is about.
fn says_healthy(line: &str, is_table: bool) -> bool {
    // A time may follow.
    let line = line.strip_suffix(" (1ms)").unwrap_or(line).trim_end();
    let is_row = is_table && (line == "SERVING" || line.ends_with(" SERVING"));
    is_row || line == "status: SERVING" || line.ends_with(": status: SERVING")
}

/// Whether a line of JSON says healthy, or alive if that decides. If it says healthy, everything in it does.
fn json_says_healthy(line: &str, alive: bool) -> bool {
    let value: Value = serde_json::from_str(line).expect("each line is an object");
    let is_healthy = value["healthy"].as_bool().expect("it is always said");
    assert_eq!(value.get("alive").is_some(), alive, "{line}");
    assert_eq!(is_healthy, value["status"] == "SERVING", "{line}");
    assert_eq!(is_healthy, value.get("error").is_none(), "{line}");
    value.get("alive").map_or(is_healthy, |is_alive| *is_alive == true)
}

fn reports_no_more_than_is_healthy(outcome: &Outcome) {
    let (healthy, others) = outcome.count();
    let Outcome { style, question, written, .. } = outcome;
    let report = Report { address: Some("127.0.0.1:1"), question: question.as_ref(), results: outcome.results() };
    assert_eq!(style.exit_code(health_of(&report.results)) == 0, others == 0);

    let [stdout, stderr] = report.printed(*style, *written);
    let is_list = matches!(question, Some(Question::List));
    let lines = stdout.lines();
    let (said, said_otherwise): (Vec<&str>, Vec<&str>) = if style.json {
        lines.partition(|line| json_says_healthy(line, style.alive))
    } else if style.alive {
        lines.partition(|line| says_alive(line))
    } else {
        lines.partition(|line| says_healthy(line, is_list))
    };
    assert!(said.len() <= healthy, "{stdout}");
    // Nothing is cut from a list.
    assert!(!is_list || style.quiet || said.len() == healthy, "{stdout}");
    assert!(style.quiet || others > 0 || *written > 0 || !said.is_empty(), "{stdout}");
    assert!(!style.quiet || is_list || said.is_empty(), "{stdout}");
    // Where there is room for one result, it is one that is not healthy.
    let is_told = !said_otherwise.is_empty() || stderr.starts_with("error: ");
    assert!(others == 0 || *written > 1600 || is_told, "{stdout}{stderr}");
}

#[test]
fn a_report_says_healthy_only_of_what_is() {
    check(outcome, reports_no_more_than_is_healthy);
}

#[test]
fn a_watch_says_healthy_only_of_what_is() {
    let generate = |random: &mut Unstructured<'_>| {
        let address = if random.arbitrary()? { Some(text(random)?) } else { None };
        Ok((address, answer(random)?, random.arbitrary()?))
    };
    check(generate, |(address, (service, answer), json)| {
        let style = Style { json: *json, ..Style::initial(*json) };
        let verdict = Verdict::new(service.clone(), answer.clone());
        let progress = Progress::new(style, true);
        let changes = Changes { style, target: "127.0.0.1:1", progress: &progress };
        let stdout = changes.stdout(address.as_deref(), &verdict);
        let said = if *json {
            stdout.lines().any(|line| json_says_healthy(line, false))
        } else {
            // A time comes first.
            stdout.lines().any(|line| says_healthy(line.split_once(' ').map_or(line, |(_, rest)| rest), false))
        };
        assert_eq!(said, matches!(answer, Ok(1)), "{stdout}");
        assert_eq!(said, verdict.health() == Health::Healthy);
    });
}
