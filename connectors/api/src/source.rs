//! What is known about running sources: shared between the connector that reads, the apply thread that applies, and the doors that show.

use crate::counters::SourceCounters;
use crate::decision::DecisionRequest;
use crate::position::PartitionKey;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Instant;

/// Why something stands still or answers less than it should, as `/status`, `/sources`, `lag` and
/// the read headers name it. A partition's incident is part of the state; one of a table, a source
/// or the server lives as long as its cause is seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// What kind of incident this is.
    pub kind: IncidentKind,
    /// For `Stalled`: `lso`, `no_leader`, `topic_missing`, `broker_unreachable`, `auth`, `registry`,
    /// `schema`, `bad_record` or `unknown`; else empty.
    pub cause: String,
    /// When it was opened, microseconds since the Unix epoch.
    pub opened_us: i64,
    /// What is lost, in words with numbers; "nothing" when nothing is.
    pub lost: String,
    /// What still holds.
    pub holds: String,
    /// What was seen: ids, offsets, epochs, the client's text.
    pub evidence: String,
    /// What to type next.
    pub actions: Vec<String>,
    /// Where reading can go on when what is lost is given up; `None` where that cannot be known. Of `Recreated`: where it
    /// goes on should the partition's own topic come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_offset: Option<i64>,
}

macro_rules! incident_kinds {
    ($($(#[doc = $means:literal])* $kind:ident,)*) => {
        /// The types of incidents.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum IncidentKind { $($(#[doc = $means])* $kind,)* }

        impl IncidentKind {
            /// Every kind.
            pub const ALL: &'static [IncidentKind] = &[$(Self::$kind,)*];

            /// The name in metrics, headers and files.
            pub fn as_str(self) -> &'static str { match self { $(Self::$kind => stringify!($kind),)* } }
        }
    };
}

incident_kinds! {
    /// A partition: retention overtook our position.
    SourceGap,
    /// A partition: the log ends before our position.
    Regressed,
    /// A partition: another topic of the same name.
    Recreated,
    /// A partition: records we applied are no longer in the log.
    Truncated,
    /// A partition: cannot go on now; nothing is lost yet.
    Stalled,
    /// A topic: more partitions than before; informs only.
    PartitionsGrew,
    /// A table or the server: `limits.memory` keeps rows out.
    MemoryLimit,
    /// A table: rows were refused because they are too far ahead of their key's edge.
    RowsAhead,
    /// The server: the wall clock jumped, and the time of frames is held until that is decided.
    ClockJump,
    /// A source or the server: what was taken cannot be written or applied, and is tried again and again.
    WriteStall,
    /// The server: a frame of the log was skipped by an operator; its rows are not in the tables.
    FrameSkipped,
    /// The server: memory had no room for a snapshot beside the tables; it is tried again, and the WAL keeps everything.
    SnapshotAbandoned,
    /// A source: most of its records, or very many, cannot become rows.
    BadRecords,
    /// The server: the archive cannot go on; the log keeps what is not archived.
    ArchiveBlocked,
}

impl IncidentKind {
    /// The reason that an open incident of this kind gives in `/ready`, which is 503 then. `None`:
    /// it only warns there, since reads answer as well as they did.
    pub fn not_ready(self) -> Option<&'static str> {
        match self {
            Self::MemoryLimit => Some("memory_limit"),
            _ => None,
        }
    }

    /// Whether the log is another one than was read: its end says nothing of how far behind the position is.
    pub fn moves_log(self) -> bool {
        matches!(self, Self::Regressed | Self::Recreated | Self::Truncated)
    }

    /// Whether a partition with this incident stands still: records behind its position do not come
    /// while it is open.
    pub fn stops(self) -> bool {
        !matches!(self, Self::PartitionsGrew | Self::FrameSkipped | Self::BadRecords)
    }
}

/// News about an end that is older than the last one by this much is no late answer: the wall clock was set back.
const CLOCK_BACK_US: i64 = 60_000_000;

/// Live numbers of one attached partition. The connector writes what Kafka says, the apply thread what it applied; everybody reads.
#[derive(Debug)]
pub struct PartitionGauge {
    /// Name of the `[sources.x]` section.
    pub source: String,
    /// Which partition.
    pub key: PartitionKey,
    /// Next offset wanted, as applied (apply thread).
    pub applied_offset: AtomicI64,
    /// How far applied records have come in time ([`crate::Position::reached_ms`]), -1 when none (apply thread).
    pub applied_time_ms: AtomicI64,
    /// Records applied since start, rejects included (apply thread).
    pub applied_records: AtomicU64,
    /// Log end, read uncommitted; -1 unknown (connector).
    pub end_offset: AtomicI64,
    /// Last stable offset; -1 unknown (connector).
    pub stable_offset: AtomicI64,
    /// Log start; -1 unknown (connector).
    pub start_offset: AtomicI64,
    /// The moment at which the log ended at `end_offset` at the latest, microseconds since the Unix epoch; 0 never (connector).
    pub end_known_us: AtomicI64,
    /// The last moment of which it is known that everything in the log was applied, microseconds since the Unix epoch; 0 never.
    at_end_us: AtomicI64,
    /// The first end that a broker told of the log that is read, since start; -1 none yet (connector).
    first_end: AtomicI64,
    /// Records taken from Kafka since start (connector).
    pub read_records: AtomicU64,
    /// Whether it is being read: false while unassigned for back-pressure or an incident (connector).
    pub reading: AtomicBool,
    /// The open incident, if any.
    pub incident: RwLock<Option<Incident>>,
}

impl PartitionGauge {
    /// A gauge that stands at `offset` and knows nothing of the log yet.
    pub fn new(source: &str, key: PartitionKey, offset: i64) -> Self {
        Self {
            source: source.to_owned(),
            key,
            applied_offset: AtomicI64::new(offset),
            applied_time_ms: AtomicI64::new(-1),
            applied_records: AtomicU64::new(0),
            end_offset: AtomicI64::new(-1),
            stable_offset: AtomicI64::new(-1),
            start_offset: AtomicI64::new(-1),
            end_known_us: AtomicI64::new(0),
            at_end_us: AtomicI64::new(0),
            first_end: AtomicI64::new(-1),
            read_records: AtomicU64::new(0),
            reading: AtomicBool::new(false),
            incident: RwLock::new(None),
        }
    }

    /// Records between the applied position and the known readable end; `None` while the end is unknown, or that of another log.
    pub fn lag_records(&self) -> Option<i64> {
        if self.incident.read().is_ok_and(|open| open.as_ref().is_some_and(|open| open.kind.moves_log())) {
            return None;
        }
        let end = self.end_offset.load(Ordering::Relaxed);
        (end >= 0).then(|| (end - self.applied_offset.load(Ordering::Relaxed)).max(0))
    }

    /// The log was seen to end at `end` at this moment, by a question or an answer that left the broker no earlier (connector).
    pub fn saw_end(&self, end: i64, at_us: i64) {
        let known_us = self.end_known_us.load(Ordering::Relaxed);
        if at_us < known_us {
            if known_us - at_us < CLOCK_BACK_US {
                return;
            }
            // The wall clock was set back: moments that lie ahead of it would promise freshness for ever.
            self.at_end_us.store(0, Ordering::Release);
        }
        // In this order: who reads the new moment reads an end at least as late.
        self.end_offset.store(end, Ordering::Release);
        self.end_known_us.store(at_us, Ordering::Release);
        self.remember_end();
    }

    /// Everything before `offset` is applied, which has come to this time in ms, -1 when none (apply thread).
    pub fn applied_to(&self, offset: i64, time_ms: i64) {
        self.applied_time_ms.store(time_ms, Ordering::Relaxed);
        self.applied_offset.store(offset, Ordering::Release);
        self.remember_end();
    }

    /// If what is applied reaches the end of a moment, it held everything of that moment. Not while the partition is not read: an end that was asked for
    /// meanwhile may be that of another log.
    fn remember_end(&self) {
        let at_us = self.end_known_us.load(Ordering::Acquire);
        let end = self.end_offset.load(Ordering::Acquire);
        let reached = at_us > 0 && end >= 0 && self.applied_offset.load(Ordering::Acquire) >= end;
        if reached && self.reading.load(Ordering::Relaxed) {
            self.at_end_us.fetch_max(at_us, Ordering::AcqRel);
        }
    }

    /// A broker said that the log that is going to be read ends here. The first such word since start
    /// is what catching up means (connector).
    pub fn begins_before(&self, end: i64) {
        assert!(end >= 0, "a broker names an offset");
        let first = self.first_end.compare_exchange(-1, end, Ordering::AcqRel, Ordering::Acquire);
        debug_assert!(first.map_or_else(|known| known >= 0, |unset| unset == -1), "an end is set once");
    }

    /// Whether everything was applied up to an end that a broker told since start. The age of the last
    /// record says nothing about that, and a partition that an incident stops has not caught up,
    /// wherever it stands. Where a transaction is open, the end is what may be read of the log.
    pub fn caught_up(&self) -> bool {
        let applied = self.applied_offset.load(Ordering::Acquire);
        let reaches = |end: i64| end >= 0 && applied >= end;
        let reached = reaches(self.first_end.load(Ordering::Acquire)) || reaches(self.stable_offset.load(Ordering::Acquire));
        reached && !self.incident().is_some_and(|open| open.kind.stops())
    }

    /// How stale what is applied is at most, ms; `None` while that cannot be told.
    ///
    /// Since the end was last known to be reached, or since the time of the last applied record, whichever is later: a topic where nothing happens is as
    /// fresh as its broker's last word, one that is being caught up with is as old as its records say. A record with a time of the future says nothing.
    pub fn lag_ms(&self, now_us: i64) -> Option<i64> {
        let record_us = self.applied_time_ms.load(Ordering::Relaxed).saturating_mul(1000);
        let past = |moment_us: i64| if moment_us <= now_us { moment_us } else { 0 };
        let fresh_us = past(self.at_end_us.load(Ordering::Acquire)).max(past(record_us));
        (fresh_us > 0).then(|| (now_us - fresh_us) / 1000)
    }

    /// A copy of the open incident.
    pub fn incident(&self) -> Option<Incident> {
        self.incident.read().map(|open| open.clone()).unwrap_or(None)
    }
}

/// All attached partitions by slot, and the sources' own words on what they wait for.
#[derive(Debug, Default)]
pub struct SourceBoard {
    partitions: RwLock<Vec<Option<Arc<PartitionGauge>>>>,
    notes: RwLock<Vec<SourceNote>>,
    counters: RwLock<Vec<(String, Arc<SourceCounters>)>>,
    feeds: RwLock<Vec<Feed>>,
    decisions: Mutex<Vec<DecisionRequest>>,
}

/// A source and the event that it feeds.
#[derive(Debug)]
struct Feed {
    source: String,
    event: String,
    /// Whether each of its topics is there and each of their partitions has a gauge.
    known: bool,
}

/// A statement about a whole source: a broker that does not answer, a regex that matches nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceNote {
    /// Name of the `[sources.x]` section.
    pub source: String,
    /// `connecting`, `reading`, `waiting` or `stopped`.
    pub state: String,
    /// What it waits for, in one sentence; empty when it waits for nothing.
    pub detail: String,
}

impl SourceBoard {
    /// A source feeds this event; until [`SourceBoard::knows`], nobody knows how much there is to read.
    pub fn awaits(&self, source: &str, event: &str) {
        if let Ok(mut feeds) = self.feeds.write() {
            feeds.push(Feed { source: source.to_owned(), event: event.to_owned(), known: false });
        }
    }

    /// Shows the counters of a source.
    pub fn put_counters(&self, source: &str, counters: &Arc<SourceCounters>) {
        if let Ok(mut all) = self.counters.write() {
            all.push((source.to_owned(), Arc::clone(counters)));
        }
    }

    /// Counters by source.
    pub fn counters(&self) -> Vec<(String, Arc<SourceCounters>)> {
        self.counters.read().map(|all| all.clone()).unwrap_or_default()
    }

    /// Whether the source knows what there is to read: its topics are there, and their partitions say
    /// how far behind they are. A topic that vanishes, or that nobody has seen, takes that back.
    pub fn knows(&self, source: &str, known: bool) {
        if let Ok(mut feeds) = self.feeds.write() {
            feeds.iter_mut().filter(|feed| feed.source == source).for_each(|feed| feed.known = known);
        }
    }

    /// Whether a source of this event does not know what there is to read.
    pub fn is_awaited(&self, event: &str) -> bool {
        self.feeds.read().is_ok_and(|feeds| feeds.iter().any(|feed| feed.event == event && !feed.known))
    }

    /// Sources that do not know what there is to read.
    pub fn awaited(&self) -> Vec<String> {
        let names = |feeds: &Vec<Feed>| feeds.iter().filter(|feed| !feed.known).map(|feed| feed.source.clone()).collect();
        self.feeds.read().map(|feeds| names(&feeds)).unwrap_or_default()
    }

    /// Sources that feed this event, whatever they know.
    pub fn sources_of(&self, event: &str) -> Vec<String> {
        let names = |feeds: &Vec<Feed>| feeds.iter().filter(|feed| feed.event == event).map(|feed| feed.source.clone()).collect();
        self.feeds.read().map(|feeds| names(&feeds)).unwrap_or_default()
    }

    /// Puts a partition at its slot.
    pub fn put(&self, slot: u32, gauge: Arc<PartitionGauge>) {
        let Ok(mut partitions) = self.partitions.write() else { return };
        let index = slot as usize;
        if partitions.len() <= index {
            partitions.resize_with(index + 1, || None);
        }
        partitions[index] = Some(gauge);
    }

    /// Takes a partition from its slot: it is no longer shown.
    pub fn take(&self, slot: u32) -> Option<Arc<PartitionGauge>> {
        self.partitions.write().ok()?.get_mut(slot as usize)?.take()
    }

    /// Hands an operator's decision to the source's thread, which takes it within a second.
    pub fn decide(&self, request: DecisionRequest) {
        if let Ok(mut decisions) = self.decisions.lock() {
            decisions.retain(|waiting| waiting.deadline > Instant::now());
            decisions.push(request);
        }
    }

    /// Decisions about a source that somebody still waits for, oldest first.
    pub fn take_decisions(&self, source: &str) -> Vec<DecisionRequest> {
        let Ok(mut decisions) = self.decisions.lock() else { return Vec::new() };
        let now = Instant::now();
        decisions.extract_if(.., |request| request.place.source == source).filter(|request| request.deadline > now).collect()
    }

    /// All attached partitions in the order of their slots.
    pub fn partitions(&self) -> Vec<Arc<PartitionGauge>> {
        self.partitions.read().map(|all| all.iter().flatten().cloned().collect()).unwrap_or_default()
    }

    /// One partition by slot.
    pub fn get(&self, slot: u32) -> Option<Arc<PartitionGauge>> {
        self.partitions.read().ok()?.get(slot as usize)?.clone()
    }

    /// Replaces the note of a source.
    pub fn note(&self, note: SourceNote) {
        let Ok(mut notes) = self.notes.write() else { return };
        match notes.iter_mut().find(|known| known.source == note.source) {
            Some(known) => *known = note,
            None => notes.push(note),
        }
    }

    /// The notes of all sources.
    pub fn notes(&self) -> Vec<SourceNote> {
        self.notes.read().map(|all| all.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::position::TopicId;

    const SECOND_US: i64 = 1_000_000;

    /// A partition that is read from `offset` on.
    fn gauge(offset: i64) -> PartitionGauge {
        let key = PartitionKey { event: "E".into(), cluster: "c".into(), topic: "t".into(), topic_id: TopicId::NONE, partition: 0 };
        let gauge = PartitionGauge::new("s", key, offset);
        gauge.reading.store(true, Ordering::Relaxed);
        gauge
    }

    #[test]
    fn a_quiet_topic_is_as_fresh_as_the_last_word_about_its_end() {
        let gauge = gauge(0);
        assert_eq!(gauge.lag_ms(100 * SECOND_US), None, "nothing is known");
        gauge.applied_to(7, 3_000);
        gauge.saw_end(7, 100 * SECOND_US);
        assert_eq!(gauge.lag_ms(100 * SECOND_US), Some(0));
        // The broker is gone: it counts from there, not from the record's time.
        assert_eq!(gauge.lag_ms(160 * SECOND_US), Some(60_000));
    }

    #[test]
    fn an_end_that_is_reached_later_counts_from_when_it_was_the_end() {
        let gauge = gauge(0);
        gauge.applied_to(5, 40_000);
        gauge.saw_end(7, 100 * SECOND_US);
        assert_eq!(gauge.lag_ms(101 * SECOND_US), Some(61_000), "as old as its last record");
        gauge.applied_to(7, 50_000);
        assert_eq!(gauge.lag_ms(101 * SECOND_US), Some(1_000));
    }

    #[test]
    fn falling_behind_keeps_the_last_moment_at_the_end() {
        let gauge = gauge(0);
        gauge.applied_to(7, 10_000);
        gauge.saw_end(7, 100 * SECOND_US);
        gauge.saw_end(9_000, 101 * SECOND_US);
        assert_eq!(gauge.lag_ms(103 * SECOND_US), Some(3_000));
        // A record of 102 s is applied: everything before it is, too.
        gauge.applied_to(8, 102_000);
        assert_eq!(gauge.lag_ms(103 * SECOND_US), Some(1_000));
    }

    #[test]
    fn a_record_of_the_future_promises_nothing() {
        let gauge = gauge(0);
        gauge.applied_to(7, 900_000);
        assert_eq!(gauge.lag_ms(100 * SECOND_US), None);
        gauge.saw_end(7, 90 * SECOND_US);
        assert_eq!(gauge.lag_ms(100 * SECOND_US), Some(10_000));
    }

    #[test]
    fn an_end_seen_while_the_partition_stands_is_no_end_reached() {
        let gauge = gauge(0);
        gauge.applied_to(150, 10_000);
        gauge.reading.store(false, Ordering::Relaxed);
        // Another topic of the same name, or a log that was cut.
        gauge.saw_end(100, 100 * SECOND_US);
        gauge.applied_to(150, 10_000);
        assert_eq!(gauge.lag_ms(100 * SECOND_US), Some(90_000));
    }

    #[test]
    fn late_news_changes_nothing_and_a_clock_set_back_starts_anew() {
        let gauge = gauge(0);
        gauge.applied_to(7, -1);
        gauge.saw_end(7, 1_000 * SECOND_US);
        gauge.saw_end(6, 999 * SECOND_US);
        assert_eq!(gauge.end_offset.load(Ordering::Relaxed), 7);
        assert_eq!(gauge.lag_ms(500 * SECOND_US), None, "a moment that lies ahead promises nothing");
        gauge.saw_end(9, 500 * SECOND_US);
        assert_eq!(gauge.lag_ms(1_001 * SECOND_US), None);
        gauge.applied_to(9, -1);
        assert_eq!(gauge.lag_ms(501 * SECOND_US), Some(1_000));
    }

    #[test]
    fn an_event_is_awaited_until_each_of_its_sources_knows_its_topics() {
        let board = SourceBoard::default();
        for source in ["a", "b"] {
            board.awaits(source, "E");
        }
        board.knows("a", true);
        assert!(board.is_awaited("E") && !board.is_awaited("F"));
        assert_eq!((board.awaited(), board.sources_of("E")), (vec!["b".to_owned()], vec!["a".to_owned(), "b".to_owned()]));
        board.knows("b", true);
        assert!(!board.is_awaited("E") && board.awaited().is_empty());
        board.knows("a", false);
        assert!(board.is_awaited("E"), "what vanished is not known any more");
    }

    /// Before, a young last record counted as an end that was reached, with half of a new topic unread.
    #[test]
    fn a_partition_has_caught_up_when_it_reaches_an_end_that_a_broker_told_and_nothing_stops_it() {
        let gauge = gauge(0);
        gauge.applied_to(10, 99_999);
        assert!(gauge.lag_ms(100 * SECOND_US).is_some_and(|lag| lag < 2) && !gauge.caught_up(), "no end is known");
        gauge.begins_before(21);
        assert!(!gauge.caught_up());
        // More comes meanwhile: catching up means what was there when it began.
        gauge.saw_end(90, 100 * SECOND_US);
        gauge.begins_before(90);
        gauge.applied_to(21, 99_999);
        assert!(gauge.caught_up());
        for (kind, stops) in [(IncidentKind::Stalled, true), (IncidentKind::Recreated, true), (IncidentKind::PartitionsGrew, false)] {
            let incident = Incident {
                kind,
                cause: String::new(),
                opened_us: 0,
                lost: String::new(),
                holds: String::new(),
                evidence: String::new(),
                actions: vec![],
                resume_offset: None,
            };
            *gauge.incident.write().unwrap() = Some(incident);
            assert_eq!(gauge.caught_up(), !stops, "{kind:?}");
        }
    }

    #[test]
    fn where_a_transaction_is_open_the_end_is_what_may_be_read() {
        let gauge = gauge(0);
        gauge.begins_before(21);
        gauge.stable_offset.store(12, Ordering::Relaxed);
        gauge.applied_to(11, 1);
        assert!(!gauge.caught_up());
        gauge.applied_to(12, 1);
        assert!(gauge.caught_up());
    }
}
