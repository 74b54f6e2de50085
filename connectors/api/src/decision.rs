//! What an operator decides about partitions that an incident stopped, on its way to the thread
//! that reads them.
//!
//! ```text
//! command line -> admin -> Control::decide -> SourceBoard -> the source's ingest thread -> Inlet::go_on (a WAL frame)
//! ```
//! No action on a moved log is ever automatic. A decision is looked at first (`dry_run`), against the
//! brokers' answers of that moment, and its effect says what is skipped and what is counted twice.
//! A decision that nobody has taken by its deadline is dropped, so that what was answered with a
//! time-out never happens later.

use crate::error::{ApiError, Code};
use crate::position::Position;
use crate::source::IncidentKind;
use serde::{Deserialize, Serialize};
use std::sync::mpsc::SyncSender;
use std::time::Instant;

/// Where to begin anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeginAt {
    /// At the log start.
    Earliest,
    /// Behind everything that can be read now.
    Latest,
    /// At the first record whose Kafka timestamp is at or after this time.
    Timestamp {
        /// Milliseconds since the Unix epoch.
        ms: i64,
    },
}

impl BeginAt {
    /// Parses `earliest`, `latest`, or a time in RFC 3339 (`2026-11-20T03:41:00Z`).
    ///
    /// # Errors
    /// `invalid_request` for anything else.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        match (text, text.parse::<jiff::Timestamp>()) {
            ("earliest", _) => Ok(Self::Earliest),
            ("latest", _) => Ok(Self::Latest),
            (_, Ok(time)) if time.as_millisecond() >= 0 => Ok(Self::Timestamp { ms: time.as_millisecond() }),
            _ => Err(ApiError::new(Code::InvalidRequest, format!("\"{text}\" says not where to begin"))
                .at("at")
                .hint("earliest, latest, or a time such as 2026-11-20T03:41:00Z")),
        }
    }
}

/// What is to become of a stopped partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Go on with the first record that was not read and still can be. For `SourceGap`, `Truncated`
    /// and `Regressed`, and for `Recreated` where the topic is the one that was read again: tables
    /// keep what they have.
    AcceptGap,
    /// Begin anew in the log that the name has now. For those and `Recreated`: tables keep what they
    /// have, and records that are in them and in that log count twice.
    Begin(BeginAt),
    /// Give the position up: for a partition that no longer exists.
    Forget,
}

impl Decision {
    /// The name of each on the command line and in routes, and what it does.
    pub const NAMES: [(&'static str, &'static str); 3] = [
        ("accept-gap", "Go on with the first record that was not read and still is there"),
        ("begin", "Begin anew in the log that is there now; tables keep what they have"),
        ("forget", "Give up the position of a partition that no longer exists"),
    ];

    /// The decision of this name; `at` says where `begin` begins.
    ///
    /// # Errors
    /// `invalid_request` for another name, `begin` without a place, or a place with another decision.
    pub fn parse(name: &str, at: Option<&str>) -> Result<Self, ApiError> {
        let refuse = |reason: &str, hint: &str| Err(ApiError::new(Code::InvalidRequest, reason).hint(hint));
        match (name, at) {
            ("begin", Some(at)) => BeginAt::parse(at).map(Self::Begin),
            ("begin", None) => refuse("begin needs to know where", "at=earliest, at=latest, or at=2026-11-20T03:41:00Z"),
            ("accept-gap" | "forget", Some(_)) => refuse(&format!("{name} begins nowhere: `at` belongs to begin"), "leave `at` out"),
            ("accept-gap", None) => Ok(Self::AcceptGap),
            ("forget", None) => Ok(Self::Forget),
            _ => refuse(&format!("there is no decision \"{name}\""), "accept-gap, begin or forget"),
        }
    }

    /// The name on the command line and in routes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AcceptGap => "accept-gap",
            Self::Begin(_) => "begin",
            Self::Forget => "forget",
        }
    }
}

/// Which partitions: all stopped ones of a source, or one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Name of the `[sources.x]` section.
    pub source: String,
    /// Topic, where the source reads several.
    pub topic: Option<String>,
    /// Partition number.
    pub partition: Option<i32>,
}

impl Place {
    /// Parses `SOURCE`, `SOURCE/PARTITION` or `SOURCE/TOPIC/PARTITION`.
    ///
    /// # Errors
    /// `invalid_request` for anything else.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let wrong = || {
            let reason = format!("\"{text}\" names no partition: write SOURCE, SOURCE/PARTITION or SOURCE/TOPIC/PARTITION");
            ApiError::new(Code::InvalidRequest, reason).hint("`streamgauge incident` lists what is open")
        };
        let parts: Vec<&str> = text.split('/').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(wrong());
        }
        let number = |part: &str| part.parse::<i32>().ok().filter(|number| *number >= 0).ok_or_else(wrong);
        match parts[..] {
            [source] => Ok(Self { source: source.into(), topic: None, partition: None }),
            [source, partition] => Ok(Self { source: source.into(), topic: None, partition: Some(number(partition)?) }),
            [source, topic, partition] => {
                Ok(Self { source: source.into(), topic: Some(topic.into()), partition: Some(number(partition)?) })
            }
            _ => Err(wrong()),
        }
    }

    /// Whether a partition of the source is meant.
    pub fn selects(&self, topic: &str, partition: i32) -> bool {
        self.topic.as_deref().is_none_or(|name| name == topic) && self.partition.is_none_or(|number| number == partition)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.source)?;
        for part in self.topic.iter().cloned().chain(self.partition.map(|number| number.to_string())) {
            write!(out, "/{part}")?;
        }
        Ok(())
    }
}

/// What a decision does to one partition, or did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// `SOURCE/TOPIC/PARTITION`.
    pub id: String,
    /// The incident that it ends.
    pub incident: String,
    /// Next offset wanted before; `None` for a partition that was not read before, because its topic has it since it was recreated.
    pub from_offset: Option<i64>,
    /// Next offset wanted after; `None` when the partition is forgotten.
    pub to_offset: Option<i64>,
    /// Records between that and the end of the log, at most; `None` when nothing is read.
    pub to_read: Option<i64>,
    /// What no table will have, in words with numbers; "nothing" when nothing.
    pub lost: String,
    /// What is in the tables already and will be counted again; "nothing" when nothing.
    pub counted_again: String,
}

/// A decision on its way to an ingest thread.
#[derive(Debug, Clone)]
pub struct DecisionRequest {
    /// Whom it is about.
    pub place: Place,
    /// What is decided.
    pub decision: Decision,
    /// Whether only the effect is asked for.
    pub dry_run: bool,
    /// From when on nobody waits for it any longer: it must not happen then.
    pub deadline: Instant,
    /// Where the effects go, one per partition.
    pub reply: SyncSender<Result<Vec<Effect>, ApiError>>,
}

/// Where a partition goes on, by an operator's decision; what [`crate::Inlet::go_on`] writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoOn {
    /// The partition as it is named from here on: with another topic id or cluster when the topic was recreated.
    pub key: crate::position::PartitionKey,
    /// Where it goes on; `None` forgets the partition.
    pub position: Option<Position>,
    /// How far the log was read before, where records between that and `position` wait and are read again; `None` where
    /// nothing that was read before counts.
    pub reached: Option<Position>,
    /// What was decided about.
    pub incident: IncidentKind,
    /// What no table has from here on, in words; `None` when nothing.
    pub lost: Option<String>,
}

/// Rows of a partition that no table has, by an operator's decision. Part of the state: reads of
/// tables that were there before say so for as long as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Name of the `[sources.x]` section that read the partition then.
    #[serde(default)]
    pub source: String,
    /// Event that the partition's records become.
    pub event: String,
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// The incident that was decided about.
    pub incident: IncidentKind,
    /// What is lost, in words with numbers.
    pub lost: String,
    /// LSN of the decision's frame.
    pub lsn: u64,
    /// When it was decided, microseconds since the Unix epoch.
    pub since_us: i64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn places_are_a_source_a_partition_or_a_partition_of_a_topic() {
        for (text, source, topic, partition) in
            [("clicks", "clicks", None, None), ("clicks/0", "clicks", None, Some(0)), ("c/t.x-1/12", "c", Some("t.x-1"), Some(12))]
        {
            let place = Place::parse(text).unwrap();
            assert_eq!((place.source.as_str(), place.topic.as_deref(), place.partition), (source, topic, partition), "{text}");
            assert_eq!(place.to_string(), text);
        }
        for text in ["", "/", "clicks/", "clicks/x", "clicks/-1", "a/b/c/0", "a/b/c", "a//0"] {
            assert_eq!(Place::parse(text).map_err(|error| error.code), Err(Code::InvalidRequest), "{text}");
        }
        let place = Place::parse("clicks/0").unwrap();
        assert!(place.selects("any", 0) && !place.selects("any", 1));
    }
}
