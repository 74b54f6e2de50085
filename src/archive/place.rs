//! Where a file stands below the root: its partition as folders, its LSN in its name.
//!
//! `dt=2026-03-01/stream_type=payments/part-0190ab12-00000000000000184372.parquet`
//!
//! Values are percent-encoded, so that no text of a user makes a folder of its own; a value that is
//! none is `__HIVE_DEFAULT_PARTITION__`, as readers of such trees expect. Names are unique: the
//! number is the least LSN of the file, and each LSN is in one file.

use crate::eventstore::{DtOf, Granularity, PartitionColumn, Store, civil};
use std::fmt::Write as _;

const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// Times before 1970 and after 9999 have no date of their own.
const DATED_US: std::ops::Range<i64> = 0..253_402_300_800_000_000;

/// The bucket of a time: what `dt` says of a row; none for a time that is no date.
pub(super) fn dt_bucket(store: &Store, occurred_us: i64, ingested_us: i64) -> Option<i64> {
    let time_us = match store.dt_of {
        DtOf::Occurred => occurred_us,
        DtOf::Ingested => ingested_us,
    };
    if !DATED_US.contains(&time_us) {
        return None;
    }
    let days = time_us.div_euclid(86_400_000_000);
    Some(match store.granularity {
        Granularity::Hour => time_us.div_euclid(3_600_000_000),
        Granularity::Day => days,
        Granularity::Month => {
            let (year, month, _) = civil(days);
            year * 12 + month - 1
        }
    })
}

/// The text of a bucket: `2026-03-01`, `2026-03-01T05`, `2026-03`.
pub(super) fn dt_text(granularity: Granularity, bucket: Option<i64>) -> String {
    let Some(bucket) = bucket else { return NO_VALUE.to_owned() };
    match granularity {
        Granularity::Hour => {
            let (year, month, day) = civil(bucket.div_euclid(24));
            format!("{year:04}-{month:02}-{day:02}T{:02}", bucket.rem_euclid(24))
        }
        Granularity::Day => {
            let (year, month, day) = civil(bucket);
            format!("{year:04}-{month:02}-{day:02}")
        }
        Granularity::Month => format!("{:04}-{:02}", bucket.div_euclid(12), bucket.rem_euclid(12) + 1),
    }
}

/// A value as part of a path.
fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for (at, letter) in value.chars().enumerate() {
        let plain = letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '+' | ' ' | '@') || (letter == '.' && at > 0);
        if plain || !letter.is_ascii() {
            text.push(letter);
        } else {
            let _written = write!(text, "%{:02X}", letter as u32);
        }
    }
    if text.is_empty() { NO_VALUE.to_owned() } else { text }
}

/// The file's path below the root.
pub(super) fn path(store: &Store, dt: Option<i64>, event: &str, writer: &str, first_lsn: u64, level: u32) -> String {
    let mut path = store.file_pattern.clone();
    for column in &store.partition_by {
        let value = match column {
            PartitionColumn::Dt => dt_text(store.granularity, dt),
            PartitionColumn::StreamType => encoded(event),
            PartitionColumn::TenantId => NO_VALUE.to_owned(),
        };
        path = path.replace(&format!("{{{}}}", column.name()), &value);
    }
    let number = if level == 0 { format!("{first_lsn:020}") } else { format!("{first_lsn:020}-c{level:02}") };
    path.replace("{writer}", writer).replace("{file_seq}", &number)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_are_dates_in_utc_and_what_is_no_date_has_none() {
        let mut store = Store::at("/x".into());
        let at = |store: &Store, us| dt_text(store.granularity, dt_bucket(store, us, 0));
        for (us, text) in [
            (0, "1970-01-01"),
            (86_399_999_999, "1970-01-01"),
            (951_782_400_000_000, "2000-02-29"),
            (253_402_300_799_999_999, "9999-12-31"),
            (253_402_300_800_000_000, NO_VALUE),
            (-1, NO_VALUE),
            (i64::MAX, NO_VALUE),
        ] {
            assert_eq!(at(&store, us), text);
        }
        store.granularity = Granularity::Month;
        assert_eq!(at(&store, 951_782_400_000_000), "2000-02");
        store.granularity = Granularity::Hour;
        assert_eq!(at(&store, 951_782_400_000_000 + 3_600_000_000 * 23), "2000-02-29T23");
    }

    #[test]
    fn no_name_of_an_event_makes_a_folder_of_its_own() {
        let store = Store::at("/x".into());
        let place = |event: &str| path(&store, Some(0), event, "ab", 7, 0);
        assert_eq!(place("pay"), "dt=1970-01-01/stream_type=pay/part-ab-00000000000000000007.parquet");
        assert_eq!(place("../a=b%"), "dt=1970-01-01/stream_type=%2E.%2Fa%3Db%25/part-ab-00000000000000000007.parquet");
        assert_eq!(place(""), format!("dt=1970-01-01/stream_type={NO_VALUE}/part-ab-00000000000000000007.parquet"));
        assert!(path(&store, None, "Zürich", "ab", 7, 2).ends_with("stream_type=Zürich/part-ab-00000000000000000007-c02.parquet"));
    }

    proptest! {
        #[test]
        fn dates_are_those_of_the_calendar(second in 0i64..253_402_300_800) {
            let Ok(time) = jiff::Timestamp::from_second(second) else { return Ok(()) };
            let date = time.to_zoned(jiff::tz::TimeZone::UTC).date();
            let store = Store::at("/x".into());
            prop_assert_eq!(dt_text(store.granularity, dt_bucket(&store, second * 1_000_000, 0)), date.to_string());
        }
    }
}
