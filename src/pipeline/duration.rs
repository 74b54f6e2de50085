//! Durations as the wire and the config write them: digits and one of `ms s m h d`.

/// Longest duration of anything: 3650 days.
pub const DURATION_US_MAX: i64 = 3650 * 86_400_000_000;

/// Units, longest first.
const UNITS: &[(&str, i64)] = &[("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000)];

/// Why text is no duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not digits and a unit.
    #[error("is not digits and one of ms, s, m, h, d")]
    Form,
    /// Zero.
    #[error("is zero")]
    Zero,
    /// More than [`DURATION_US_MAX`].
    #[error("is longer than 3650d")]
    TooLong,
}

/// Microseconds of a duration of at least 1 ms and at most 3650 days.
///
/// # Errors
/// When the text has another form or the duration is out of range.
pub fn parse_duration(text: &str) -> Result<i64, DurationError> {
    let digits = text.len() - text.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else { return Err(DurationError::Form) };
    if number.is_empty() {
        return Err(DurationError::Form);
    }
    // Digits only, so it fails to parse only when it is far beyond the bound.
    let us = number.parse::<i64>().ok().and_then(|number| number.checked_mul(*scale)).ok_or(DurationError::TooLong)?;
    match us {
        0 => Err(DurationError::Zero),
        us if us > DURATION_US_MAX => Err(DurationError::TooLong),
        us => Ok(us),
    }
}

/// The shortest text that [`parse_duration`] reads back, in the longest unit that divides it.
pub fn format_duration(us: i64) -> String {
    let (unit, scale) = UNITS.iter().find(|(_, scale)| us % scale == 0).copied().unwrap_or(("ms", 1_000));
    format!("{}{unit}", us / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_form_and_a_bound() {
        for (text, expected) in [
            ("1ms", Ok(1_000)),
            ("90s", Ok(90_000_000)),
            ("3650d", Ok(DURATION_US_MAX)),
            ("3651d", Err(DurationError::TooLong)),
            ("18446744073709551615ms", Err(DurationError::TooLong)),
            ("9223372036854775807d", Err(DurationError::TooLong)),
            ("0s", Err(DurationError::Zero)),
            ("", Err(DurationError::Form)),
            ("s", Err(DurationError::Form)),
            ("1", Err(DurationError::Form)),
            ("1 s", Err(DurationError::Form)),
            ("-1s", Err(DurationError::Form)),
            ("1w", Err(DurationError::Form)),
            ("forever", Err(DurationError::Form)),
        ] {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn formatting_names_the_longest_unit_that_divides() {
        for (text, formatted) in [("60s", "1m"), ("90s", "90s"), ("24h", "1d"), ("1500ms", "1500ms"), ("3600000ms", "1h")] {
            assert_eq!(parse_duration(text).map(format_duration), Ok(formatted.to_owned()));
        }
    }
}
