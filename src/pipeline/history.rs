//! `backfill`: where the history of a new table begins, and which events have a history at all.
//!
//! The word is used once, when a table is created, like a source's `start`: it is no part of what the table is, so
//! that changing it later changes nothing. Which records it means is found out when the history is read; here it is
//! only a wish. An event has a history when a Kafka source feeds it: what was only pushed cannot be read again.
//!
//! Pure; read by register calls and the config file alike, and kept in the state while a table is being filled.

use super::duration::{DurationError, parse_duration};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a table's history begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum HistoryFrom {
    /// At the log start of each partition.
    Earliest,
    /// As far back as the longest window reaches; at the log start where a feature has none.
    Auto,
    /// This long before it was declared, microseconds.
    Ago {
        /// Microseconds.
        us: i64,
    },
    /// At the first record at or after this time.
    At {
        /// Milliseconds since the Unix epoch.
        ms: i64,
    },
}

/// Events that Kafka sources feed, and whether all of these read their topics from the log start.
pub type Histories = BTreeMap<Box<str>, bool>;

/// The words there are, for messages.
const WANTED: &str = "\"earliest\", \"auto\", a duration such as \"7d\", or a time such as \"2026-01-31T00:00:00Z\"";

impl HistoryFrom {
    /// Reads the word.
    ///
    /// # Errors
    /// Says what is wanted, and the nearest word.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => return Ok(Self::Earliest),
            "auto" => return Ok(Self::Auto),
            _ => {}
        }
        match parse_duration(text) {
            Ok(us) => return Ok(Self::Ago { us }),
            Err(error @ (DurationError::Zero | DurationError::TooLong)) => return Err(format!("{text:?} {error}; {WANTED} is wanted")),
            Err(DurationError::Form) => {}
        }
        if let Ok(time) = text.parse::<jiff::Timestamp>() {
            return Self::at(time.as_millisecond());
        }
        let near = streamgauge_api::nearest(text, ["earliest", "auto"].iter());
        let near = near.map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"));
        Err(format!("{text:?} is no start of a history: {WANTED} is wanted{near}"))
    }

    /// A time in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// When it is before the epoch.
    pub fn at(ms: i64) -> Result<Self, String> {
        if ms < 0 { Err(format!("{ms} is before 1970")) } else { Ok(Self::At { ms }) }
    }
}

impl std::fmt::Display for HistoryFrom {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Earliest => out.write_str("earliest"),
            Self::Auto => out.write_str("auto"),
            Self::Ago { us } => out.write_str(&super::duration::format_duration(*us)),
            Self::At { ms } => match jiff::Timestamp::from_millisecond(*ms) {
                Ok(time) => write!(out, "{time}"),
                Err(_) => write!(out, "{ms} ms"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_of_history_is_a_word_a_duration_or_a_time() {
        for (text, expected) in [
            ("earliest", Ok(HistoryFrom::Earliest)),
            ("auto", Ok(HistoryFrom::Auto)),
            ("7d", Ok(HistoryFrom::Ago { us: 7 * 86_400_000_000 })),
            ("2026-01-31T00:00:00Z", Ok(HistoryFrom::At { ms: 1_769_817_600_000 })),
            ("erliest", Err("did you mean \"earliest\"?")),
            ("0s", Err("is zero")),
            ("3651d", Err("longer than 3650d")),
            ("1960-01-01T00:00:00Z", Err("before 1970")),
            ("", Err("is wanted")),
        ] {
            match (HistoryFrom::parse(text), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
                (Err(told), Err(expected)) => assert!(told.contains(expected), "{text}: {told}"),
                (found, expected) => panic!("{text}: {found:?}, {expected:?}"),
            }
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["earliest", "auto", "7d", "90s", "2026-01-31T00:00:00Z"] {
            assert_eq!(HistoryFrom::parse(text).map(|from| from.to_string()), Ok(text.to_owned()));
        }
    }
}
