//! Parses and formats durations as Go does (`time.ParseDuration`): `300ms`, `1.5s`, `1m30s`.

use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

use crate::text::excerpt;

/// Go's units and their lengths in nanoseconds. Both micro signs of Unicode count.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Parses a duration with the grammar of Go's `time.ParseDuration`, into nanoseconds.
///
/// A duration is an optional sign and one or more decimal numbers, each with an optional fraction and a unit; a bare
/// `0` needs no unit. More than 63 bits of nanoseconds (about 292 years) are out of range.
///
/// # Errors
/// The text does not match the grammar, or is out of range. The message does not repeat it.
pub(crate) fn parse_duration(text: &str) -> Result<i64> {
    const LIMIT: u64 = 1 << 63;
    let out_of_range = || anyhow!("out of range (at most 2562047h)");

    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned == "0" {
        return Ok(0);
    }
    ensure!(!unsigned.is_empty(), "not a duration (as in 300ms, 1.5s or 1m30s)");
    let mut total: u64 = 0;
    let mut rest = unsigned;
    while !rest.is_empty() {
        let (whole, after_whole) = split_at_non_digit(rest);
        let (fraction, after_number) = match after_whole.strip_prefix('.') {
            Some(after_point) => split_at_non_digit(after_point),
            None => ("", after_whole),
        };
        ensure!(!whole.is_empty() || !fraction.is_empty(), "not a duration (as in 300ms, 1.5s or 1m30s)");
        let unit_end = after_number.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after_number.len());
        let (unit, after_unit) = after_number.split_at(unit_end);
        ensure!(!unit.is_empty(), "a unit is missing (as in 10s or 500ms)");
        let &(_, length) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| anyhow!("unknown unit \"{}\" (ns, us, ms, s, m or h)", excerpt(unit)))?;

        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| out_of_range())? };
        total = whole
            .checked_mul(length)
            .and_then(|part| part.checked_add(fraction_of(fraction, length)))
            .and_then(|part| part.checked_add(total))
            .filter(|&sum| sum <= LIMIT)
            .ok_or_else(out_of_range)?;
        rest = after_unit;
    }
    if text.starts_with('-') {
        return Ok(0i64.wrapping_sub_unsigned(total));
    }
    i64::try_from(total).map_err(|_| out_of_range())
}

/// The nanoseconds of a decimal fraction of a unit, rounded as Go rounds: in floating point, digits past 63 bits
/// dropped.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn fraction_of(digits: &str, unit: u64) -> u64 {
    let mut value: u64 = 0;
    let mut scale = 1.0;
    for digit in digits.bytes() {
        let Some(longer) = value.checked_mul(10).and_then(|value| value.checked_add(u64::from(digit - b'0'))) else {
            break;
        };
        if longer > 1 << 63 {
            break;
        }
        value = longer;
        scale *= 10.0;
    }
    (value as f64 * (unit as f64 / scale)) as u64
}

fn split_at_non_digit(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Formats a duration as Go does: `1m30s`, `1.5s`, `300ms`, `0s`.
pub(crate) fn format_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let (unit, length) = match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => ("ns", 1),
        1_000..1_000_000 => ("µs", 1_000),
        1_000_000..1_000_000_000 => ("ms", 1_000_000),
        _ => ("s", 1_000_000_000),
    };
    let minutes = duration.as_secs() / 60;
    let below_a_minute = if minutes > 0 { nanos % 60_000_000_000 } else { nanos };
    let seconds = decimal(below_a_minute, length) + unit;
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

/// `nanos` in units of `length`, without trailing zeros.
fn decimal(nanos: u128, length: u128) -> String {
    let digits = length.ilog10() as usize;
    let text = format!("{}.{:0digits$}", nanos / length, nanos % length);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Rounds down to whole microseconds: more digits would only look precise.
pub(crate) fn to_microseconds(duration: Duration) -> Duration {
    Duration::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const MINUTE: i64 = 60 * SECOND;
    const HOUR: i64 = 60 * MINUTE;

    #[test]
    fn durations_of_go_are_parsed() {
        let table: &[(&str, i64)] = &[
            ("0", 0),
            ("5s", 5 * SECOND),
            ("30s", 30 * SECOND),
            ("1478s", 1478 * SECOND),
            ("-5s", -5 * SECOND),
            ("+5s", 5 * SECOND),
            ("-0", 0),
            ("+0", 0),
            ("5.0s", 5 * SECOND),
            ("5.6s", 5_600_000_000),
            ("5.s", 5 * SECOND),
            (".5s", 500_000_000),
            ("1.0s", SECOND),
            ("1.00s", SECOND),
            ("1.004s", 1_004_000_000),
            ("1.0040s", 1_004_000_000),
            ("100.00100s", 100_001_000_000),
            ("10ns", 10),
            ("11us", 11_000),
            ("12µs", 12_000),
            ("12μs", 12_000),
            ("13ms", 13_000_000),
            ("14s", 14 * SECOND),
            ("15m", 15 * MINUTE),
            ("16h", 16 * HOUR),
            ("3h30m", 3 * HOUR + 30 * MINUTE),
            ("10.5s4m", 4 * MINUTE + 10_500_000_000),
            ("-2m3.4s", -(2 * MINUTE + 3_400_000_000)),
            ("1h2m3s4ms5us6ns", HOUR + 2 * MINUTE + 3 * SECOND + 4_005_006),
            ("39h9m14.425s", 39 * HOUR + 9 * MINUTE + 14_425_000_000),
            ("52763797000ns", 52_763_797_000),
            ("0.3333333333333333333h", 20 * MINUTE),
            ("9007199254740993ns", 9_007_199_254_740_993),
            ("9223372036854775807ns", i64::MAX),
            ("9223372036854775.807us", i64::MAX),
            ("9223372036s854ms775us807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("-9223372036854775.808us", i64::MIN),
            ("-9223372036s854ms775us808ns", i64::MIN),
            ("-9223372036854775807ns", -i64::MAX),
            ("0.100000000000000000000h", 6 * MINUTE),
            ("0.830103483285477580700h", 49 * MINUTE + 48 * SECOND + 372_539_827),
            ("1.5h30m", 2 * HOUR),
            ("2562047h", 2_562_047 * HOUR),
        ];
        for (text, nanos) in table {
            assert_eq!(parse_duration(text).ok(), Some(*nanos), "{text:?}");
        }
    }

    #[test]
    fn invalid_durations_are_refused_with_a_cause() {
        let table = [
            "",
            "3",
            "-",
            "s",
            ".",
            "-.",
            ".s",
            "+.s",
            "1d",
            "1 s",
            " 1s",
            "1s ",
            "1S",
            "--1s",
            "1s-1s",
            "1e3s",
            "١s",
            "3000000h",
            "9223372036854775808ns",
            "9223372036854775.808us",
            "9223372036854ms775us808ns",
            "-9223372036854775809ns",
            "99999999999999999999s",
            "\u{85}\u{85}",
            "\u{ffff}",
            "hello \u{ffff} world",
            "00",
        ];
        for text in table {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations_are_formatted_as_in_go() {
        let table: &[(u64, &str)] = &[
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (1_000_000_000, "1s"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (480_000_000_001, "8m0.000000001s"),
            (9_223_372_036_854_775_807, "2562047h47m16.854775807s"),
        ];
        for (nanos, text) in table {
            assert_eq!(format_duration(Duration::from_nanos(*nanos)), *text);
        }
    }
}
