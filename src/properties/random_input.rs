//! Checks the properties with random input, and with input built from meaningful parts.

use std::{fmt, thread};

use arbtest::{
    arbitrary::{Result, Unstructured},
    arbtest,
};

#[cfg(unix)]
use super::dns;
use super::{CHECK, answer, arguments, can_be_healthy, is_healthy, pem, target};

/// The words of generated arguments.
const WORDS: &[&str] = &[
    "-",
    "--",
    "=",
    "addr",
    "-addr=",
    "tls",
    "-tls",
    "service",
    "rpc-header",
    "a: b",
    ":1",
    "localhost:50051",
    "-v",
    "unix:/x",
    "true",
    "0",
    "1s",
    "1h2m",
    ".5",
    "µs",
    "-connect-timeout",
    "9223372036854775807ns",
    "\u{202e}",
    "\0",
    "x-bin: \u{1}",
    "[::1]:2",
    "exit-codes",
    "detailed",
    "\n",
    "\n",
    "\n",
    "timeout",
    "%",
    "é",
    "dns:///",
    "http://",
    "ipv6:",
    "-q=",
    "tls-server-name=",
    "tls-no-verify",
];

/// The frames of generated answers, some of them invalid.
fn frames() -> Vec<Vec<u8>> {
    let frame = |kind: u8, flags: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).expect("small");
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    };
    let literal = |name: &str, value: &str| {
        let length = |text: &str| u8::try_from(text.len()).expect("short");
        [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
    };
    let head = [&[0x88][..], &literal("content-type", "application/grpc")].concat();
    let ok = literal("grpc-status", "0");
    vec![
        frame(1, 4, &head),
        frame(1, 5, &head),
        frame(1, 4, &[&head[..], &ok].concat()),
        frame(1, 5, &[&head[..], &ok].concat()),
        frame(0, 0, &[0, 0, 0, 0, 2, 8, 1]),
        frame(0, 1, &[0, 0, 0, 0, 2, 8, 1]),
        frame(0, 0, &[0, 0, 0, 0, 2, 8, 2]),
        frame(0, 0, &[0, 0, 0]),
        frame(0, 0, &[0, 2, 8, 1]),
        frame(0, 0, &[1, 0, 0, 0, 2, 8, 1]),
        frame(0, 0, &[]),
        frame(0, 1, &[]),
        frame(1, 5, &ok),
        frame(1, 4, &ok),
        frame(1, 5, &literal("grpc-status", "14")),
        frame(1, 4, &[&head[..], &literal("grpc-status", "14")].concat()),
        frame(1, 5, &[&ok[..], &ok].concat()),
        frame(1, 5, &[&ok[..], &literal("grpc-status-details-bin", "?")].concat()),
        frame(1, 5, &literal("x", "y")),
        frame(3, 0, &[0, 0, 0, 0]),
        frame(3, 0, &[0, 0, 0, 8]),
        vec![0, 0, 0, 4, 0, 0, 0, 0, 0],
        vec![0, 0, 0, 4, 1, 0, 0, 0, 0],
        vec![0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
        vec![0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        vec![0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    ]
}

/// A healthy answer: headers, SERVING, trailers.
fn healthy_answer() -> Vec<u8> {
    let frames = frames();
    [&[0, 0, 0, 4, 0, 0, 0, 0, 0][..], &frames[0], &frames[4], &frames[12]].concat()
}

#[test]
fn a_whole_answer_is_healthy_and_no_part_of_it() {
    let whole = healthy_answer();
    assert!(is_healthy(&whole, CHECK) && can_be_healthy(&whole, true));
    for length in 0..whole.len() {
        assert!(!is_healthy(&whole[..length], CHECK), "cut to {length} bytes");
    }
}

/// The oracle itself: each of these lacks one thing that a healthy answer has.
#[test]
fn nothing_but_a_whole_answer_can_be_healthy() {
    let pieces = frames();
    let ends_with = |value: &str| {
        let status = [&[0, 11][..], b"grpc-status", &[1], value.as_bytes()].concat();
        [&[0, 0, 15, 1, 5, 0, 0, 0, 1][..], &status].concat()
    };
    let settings = &vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
    let (head, serving, ok) = (&pieces[0], &pieces[4], &ends_with("0"));
    let answer =
        |frames: &[&Vec<u8>]| can_be_healthy(&frames.iter().copied().flatten().copied().collect::<Vec<_>>(), true);
    assert!(answer(&[settings, head, serving, ok]));
    let mut on_another_stream = ok.clone();
    on_another_stream[8] = 3;
    for (name, frames) in [
        ("no SETTINGS", &[head, serving, ok][..]),
        ("SETTINGS last", &[head, serving, ok, settings]),
        ("no headers", &[settings, serving, ok]),
        ("headers that end the stream", &[settings, &pieces[1], serving, ok]),
        ("no message", &[settings, head, ok]),
        ("the message after the end", &[settings, head, ok, serving]),
        ("the message first", &[settings, serving, head, ok]),
        ("a message that ends the stream", &[settings, head, &pieces[5], ok]),
        ("NOT_SERVING", &[settings, head, &pieces[6], ok]),
        ("part of a message", &[settings, head, &pieces[7], ok]),
        ("two messages", &[settings, head, serving, serving, ok]),
        ("no end", &[settings, head, serving]),
        ("a status that does not end the stream", &[settings, head, serving, &pieces[13]]),
        ("status 1", &[settings, head, serving, &ends_with("1")]),
        ("no number", &[settings, head, serving, &ends_with("O")]),
        ("a status in the headers alone", &[settings, &pieces[2], serving, &pieces[18]]),
        ("two statuses", &[settings, head, serving, &pieces[16]]),
        ("no status", &[settings, head, serving, &pieces[18]]),
        ("a reset before the end", &[settings, head, serving, &pieces[20], ok]),
        ("the status of another stream", &[settings, head, serving, &on_another_stream]),
    ] {
        assert!(!answer(frames), "{name}");
    }
}

/// Checks a property with at least so many inputs.
const CASES: usize = 256;
/// The number of random bytes per input. No generator below uses more.
const RANDOM: u32 = 1024;

/// Prints the input when a check panics. arbtest prints the seed, and `ARBTEST_SEED` repeats that input.
struct Shown<'a, I: fmt::Debug>(&'a I);

impl<I: fmt::Debug> Drop for Shown<'_, I> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the input was {:?}", self.0);
        }
    }
}

pub(super) fn check<I: fmt::Debug>(generate: impl Fn(&mut Unstructured<'_>) -> Result<I>, property: impl Fn(&I)) {
    let mut cases = 0;
    // arbtest counts time, not cases.
    while cases < CASES {
        arbtest(|random| {
            let input = generate(random)?;
            let _shown = Shown(&input);
            property(&input);
            cases += 1;
            Ok(())
        })
        .size_min(RANDOM)
        .size_max(RANDOM)
        .run();
    }
}

/// Up to so many things, each made anew.
pub(super) fn up_to<T>(
    most: usize,
    random: &mut Unstructured<'_>,
    one: impl Fn(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    (0..random.int_in_range(0..=most)?).map(|_| one(random)).collect()
}

fn words(most: usize, random: &mut Unstructured<'_>) -> Result<String> {
    Ok(up_to(most, random, |random| random.choose(WORDS).copied())?.concat())
}

/// Any characters, half of them ASCII.
fn text(random: &mut Unstructured<'_>) -> Result<String> {
    let character = |random: &mut Unstructured<'_>| {
        if random.arbitrary()? { Ok(char::from(random.int_in_range(0..=0x7f_u8)?)) } else { random.arbitrary() }
    };
    Ok(up_to(80, random, character)?.into_iter().collect())
}

fn bytes(random: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    up_to(200, random, |random| random.int_in_range(0..=u8::MAX))
}

#[test]
fn arguments_made_of_words() {
    check(|random| words(12, random), |words| arguments(words.as_bytes()));
}

#[test]
fn arguments_made_of_anything() {
    check(text, |text| arguments(text.as_bytes()));
}

#[test]
fn targets_made_of_words() {
    check(|random| words(6, random), |words| target(words.as_bytes()));
}

#[test]
fn targets_made_of_anything() {
    check(text, |text| target(text.as_bytes()));
}

#[test]
fn files_made_of_anything() {
    let label = |random: &mut Unstructured<'_>| random.choose(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ ").copied();
    let generate = |random: &mut Unstructured<'_>| {
        let label = up_to(20, random, label)?.into_iter().map(char::from).collect::<String>();
        Ok((bytes(random)?, label))
    };
    check(generate, |(bytes, label)| {
        pem(bytes);
        let body = String::from_utf8_lossy(bytes);
        for label in [label.as_str(), "CERTIFICATE", "PRIVATE KEY", "EC PRIVATE KEY"] {
            pem(format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n").as_bytes());
        }
    });
}

/// The words of generated resolver files.
#[cfg(unix)]
const RESOLVER_WORDS: &[&str] = &[
    "nameserver",
    "search",
    "domain",
    "options",
    "ndots:",
    "ndots:9",
    "timeout:0",
    "rotate",
    "::1",
    "fe80::1%lo",
    "10.0.0.1",
    "%",
    ":",
    ".",
    "#",
    ";",
    "\n",
    "\t",
    "\r",
    "\u{0}",
    "api",
    "a..b",
];

#[cfg(unix)]
#[test]
fn resolver_files_made_of_words() {
    let generate = |random: &mut Unstructured<'_>| {
        let words = up_to(40, random, |random| random.choose(RESOLVER_WORDS).copied())?;
        Ok(words.join(random.choose(&["", " ", "\n"])?))
    };
    check(generate, |text| dns(text.as_bytes()));
}

#[cfg(unix)]
#[test]
fn dns_messages_made_of_anything() {
    check(bytes, |bytes| dns(bytes));
}

/// Records after a header with the ID of the query, so that the parser gets to names, pointers and data.
#[cfg(unix)]
#[test]
fn dns_messages_made_of_records() {
    let record = |random: &mut Unstructured<'_>| {
        let (pointer, rtype) = (*random.choose(&[12, 29, 40, 255])?, *random.choose(&[1, 5, 28, 2])?);
        let length = random.int_in_range(0..=20)?;
        let data = up_to(20, random, |random| random.int_in_range(0..=u8::MAX))?;
        Ok([vec![0xc0, pointer, 0, rtype, 0, 1, 0, 0, 0, 60, 0, length], data].concat())
    };
    let generate = |random: &mut Unstructured<'_>| {
        let (code, records) = (random.int_in_range(0..=15)?, up_to(5, random, record)?);
        let count = u8::try_from(records.len()).expect("a few");
        let head = vec![0x12, 0x34, 0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0];
        Ok([head, records.concat()].concat())
    };
    check(generate, |message| dns(message));
}

/// Frames in any order.
#[test]
fn answers_made_of_frames() {
    let frames = frames();
    let generate = |random: &mut Unstructured<'_>| up_to(8, random, |random| random.choose(&frames).cloned());
    check(generate, |frames| answer(&[&[0, 0, 0, 4, 0, 0, 0, 0, 0][..], &frames.concat()].concat()));
}

/// Every answer that is one frame away from a healthy one.
#[test]
fn answers_with_a_frame_changed() {
    let pieces = frames();
    let whole = [&pieces[0], &pieces[4], &pieces[12]];
    let check = |frames: &[&Vec<u8>]| {
        let frames: Vec<u8> = frames.iter().copied().flatten().copied().collect();
        answer(&[&[0, 0, 0, 4, 0, 0, 0, 0, 0][..], &frames].concat());
    };
    for position in 0..=whole.len() {
        let (before, after) = whole.split_at(position);
        for piece in &pieces {
            check(&[before, &[piece], after].concat());
            check(&[before, &[piece], after.get(1..).unwrap_or_default()].concat());
        }
        check(&[before, after.get(1..).unwrap_or_default()].concat());
    }
}

/// A healthy answer with one byte changed is healthy only by chance that the rules allow.
#[test]
fn answers_with_a_byte_changed() {
    let healthy_answer = healthy_answer();
    let change = |random: &mut Unstructured<'_>| {
        let mut bytes = healthy_answer.clone();
        let position = random.choose_index(bytes.len())?;
        bytes[position] = random.arbitrary()?;
        Ok(bytes)
    };
    check(change, |bytes| answer(bytes));
}

#[test]
fn answers_made_of_anything() {
    check(bytes, |bytes| answer(bytes));
}
