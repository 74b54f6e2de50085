//! Times and durations as clients write them: `as_of`, `max_staleness`, `wait_ms`; and the one time that replies show.

use jiff::Timestamp;

/// Milliseconds since the epoch from a decimal number or an RFC 3339 text.
pub(crate) fn parse_time_ms(text: &str) -> Option<i64> {
    if let Ok(ms) = text.parse::<i64>() {
        return Some(ms);
    }
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// Milliseconds from `250ms`, `2s`, `5m`, `1h`, `1d`, or a bare number of milliseconds.
pub(crate) fn parse_duration_ms(text: &str) -> Option<i64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let scale = match unit {
        "" | "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(scale)
}

/// RFC 3339 in UTC with milliseconds; empty when `ms` is outside of the calendar.
pub(crate) fn write_time(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map(|time| format!("{time:.3}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_durations_have_their_forms() {
        for (text, ms) in [
            ("0", Some(0)),
            ("-5", Some(-5)),
            ("1970-01-01T00:00:01.5Z", Some(1_500)),
            ("2026-11-20T04:41:07+01:00", Some(1_795_146_067_000)),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(parse_time_ms(text), ms, "{text}");
        }
        for (text, ms) in [
            ("250", Some(250)),
            ("250ms", Some(250)),
            ("2s", Some(2_000)),
            ("1d", Some(86_400_000)),
            ("s", None),
            ("", None),
            ("1w", None),
            ("-1s", None),
            ("9223372036854775807d", None),
        ] {
            assert_eq!(parse_duration_ms(text), ms, "{text}");
        }
        assert_eq!(write_time(1_795_146_067_120), "2026-11-20T03:41:07.120Z");
        assert_eq!(write_time(i64::MAX), "");
    }
}
