//! A row's time against the clock it was taken by.
//!
//! A row carries how far its time lies ahead of that clock. The clock of a push is the time of its frame; that of
//! a Kafka record is its partition's, which follows the records' own timestamps, so that a row of last week is
//! judged by last week. Apply needs no clock of its own: a key's *edge* is the largest `time - ahead` of its rows,
//! and lateness and eviction go by the edge alone. One fast clock therefore hides nobody else's rows.

/// What a row's time is measured against, microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowClock {
    /// When the row arrived.
    pub now_us: i64,
    /// What its time is judged by: `now_us` for a push, the partition's clock for a record.
    pub clock_us: i64,
    /// From where `max_future` counts: the clock, or the record's own timestamp when that is later.
    pub latest_us: i64,
}

impl RowClock {
    /// The clock of rows that are judged by their arrival.
    pub fn at(now_us: i64) -> Self {
        Self { now_us, clock_us: now_us, latest_us: now_us }
    }

    /// A row time as this clock sees it.
    #[inline]
    pub fn of(self, time_us: i64) -> RowTime {
        RowTime { time_us, ahead_us: time_us.saturating_sub(self.clock_us).max(0) }
    }
}

/// A row's time, and how far it is ahead of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowTime {
    /// Microseconds since the Unix epoch.
    pub time_us: i64,
    /// Microseconds ahead of the clock; 0 when it is not.
    pub ahead_us: i64,
}

impl From<i64> for RowTime {
    /// A time that is not ahead of its clock.
    #[inline]
    fn from(time_us: i64) -> Self {
        Self { time_us, ahead_us: 0 }
    }
}

/// 2001-01-01 and 2100-01-01, milliseconds since the Unix epoch: between them a time is plausible.
const PLAUSIBLE_MS: std::ops::Range<i64> = 978_307_200_000..4_102_444_800_000;

/// The unit that a number is probably of, where it is hardly a time in milliseconds: that would be before 2001 or after
/// 2100, and in the other unit it is between. Numbers of the first weeks of 1970 are left alone, since tests count from 0.
#[inline]
pub(crate) fn looks_like(number: i64) -> Option<(super::schema::TimeUnit, &'static str)> {
    use super::schema::TimeUnit::{Micros, Nanos, Seconds};
    if PLAUSIBLE_MS.contains(&number) {
        return None;
    }
    if PLAUSIBLE_MS.contains(&number.saturating_mul(1_000)) {
        Some((Seconds, "seconds"))
    } else if PLAUSIBLE_MS.contains(&(number / 1_000)) {
        Some((Micros, "microseconds"))
    } else if PLAUSIBLE_MS.contains(&(number / 1_000_000)) {
        Some((Nanos, "nanoseconds"))
    } else {
        None
    }
}

/// The years 0001 to 9999, in milliseconds since the Unix epoch.
pub(crate) const TIMES_MS: std::ops::RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;

/// A time as text, in microseconds since the Unix epoch: RFC 3339 with `Z` or an offset, up to the end of the year 9999,
/// or a date alone, which is its midnight in UTC. A time without zone is refused: it is another one in each place.
pub(crate) fn parse_time_us(text: &str) -> Result<i64, &'static str> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.as_microsecond());
    }
    const NO_TIME: &str = "text that is no RFC 3339 time";
    // The last day of 9999 is beyond what a timestamp of the library holds, and no date of the calendar is.
    let Ok(pieces) = jiff::fmt::temporal::DateTimeParser::new().parse_pieces(text) else { return Err(NO_TIME) };
    let date = pieces.date();
    let days = days_since_epoch(date.year().into(), date.month().into(), date.day().into());
    let offset_s = match (pieces.time(), pieces.to_numeric_offset(), pieces.offset()) {
        (None, None, None) => 0,
        (Some(_), Some(offset), _) => offset.seconds().into(),
        (Some(_), None, Some(_)) => 0,
        (Some(_), None, None) => return Err("a time without zone: Z or an offset such as +01:00 is wanted"),
        (None, _, _) => return Err(NO_TIME),
    };
    let time = pieces.time().unwrap_or_default();
    let (hour, minute, second) = (i64::from(time.hour()), i64::from(time.minute()), i64::from(time.second()));
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset_s;
    Ok(seconds * 1_000_000 + i64::from(time.subsec_nanosecond()) / 1_000)
}

/// A time or date without zone as text, local in this one, in microseconds since the Unix epoch. Of a time that a clock
/// shows twice it is the first; one that it skips is read by the offset before.
pub(super) fn parse_local_us(text: &str, zone: &jiff::tz::TimeZone) -> Option<i64> {
    let local: jiff::civil::DateTime = text.parse().ok()?;
    Some(zone.to_ambiguous_timestamp(local).compatible().ok()?.as_microsecond())
}

/// Days from 1970-01-01 to a date of the Gregorian calendar (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_that_are_times_are_read_and_others_say_why() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Ok(0)),
            ("2026-11-20T04:41:07.123456789+01:00", Ok(1_795_146_067_123_456)),
            ("2026-11-20 03:41:07Z", Ok(1_795_146_067_000_000)),
            ("1969-12-31T23:59:59.999Z", Ok(-1_000)),
            ("9999-12-31T23:59:59.999999999Z", Ok(253_402_300_799_999_999)),
            ("9999-12-31T23:59:59.5-05:00", Ok(253_402_318_799_500_000)),
            ("0001-01-01T00:00:00Z", Ok(-62_135_596_800_000_000)),
            ("2026-11-20", Ok(1_795_132_800_000_000)),
            ("9999-12-31", Ok(253_402_214_400_000_000)),
            ("2026-11-20T03:41:07", Err("without zone")),
            ("2026-02-30", Err("no RFC 3339")),
            ("yesterday", Err("no RFC 3339")),
            ("", Err("no RFC 3339")),
            ("20:00", Err("no RFC 3339")),
        ] {
            match (parse_time_us(text), expected) {
                (Ok(us), Ok(expected)) => assert_eq!(us, expected, "{text}"),
                (Err(why), Err(part)) => assert!(why.contains(part), "{text}: {why}"),
                (found, expected) => panic!("{text}: {found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn numbers_that_are_hardly_milliseconds_look_like_another_unit() {
        for (number, unit) in [
            (1_700_000_000_000, None),
            (1_700_000_000, Some("seconds")),
            (1_700_000_000_000_000, Some("microseconds")),
            (1_700_000_000_000_000_000, Some("nanoseconds")),
            (0, None),
            (-1, None),
            (86_400_000, None),
            (978_307_199, None),
            (978_307_200, Some("seconds")),
            (i64::MAX, None),
            (i64::MIN, None),
        ] {
            assert_eq!(looks_like(number).map(|(_, word)| word), unit, "{number}");
        }
    }

    proptest! {
        /// Where the library has the time as well, both agree.
        #[test]
        fn days_are_those_of_the_calendar(second in -377_000_000_000i64..253_000_000_000) {
            let Ok(time) = jiff::Timestamp::from_second(second) else { return Ok(()) };
            let date = time.to_zoned(jiff::tz::TimeZone::UTC).date();
            prop_assert_eq!(days_since_epoch(date.year().into(), date.month().into(), date.day().into()), second.div_euclid(86_400));
        }

        #[test]
        fn any_text_gets_an_answer(text in "[-+:.TZ0-9 ]{0,40}|\\PC{0,20}") {
            let _any_answer = parse_time_us(&text).is_ok();
        }
    }
}
