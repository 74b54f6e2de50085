//! The words of incidents: what happened, what is lost, what still holds, the evidence, what to do.
//!
//! Pure: from what was seen to an [`Incident`]. Opening and closing is the ingest loop's; nothing here acts, because no
//! action on a moved log is ever automatic: the ways on are commands that an operator types (`decide`).

use crate::track::Track;
use streamgauge_api::inlet::ReadBefore;
use streamgauge_api::source::{Incident, IncidentKind};
use streamgauge_api::{Position, TopicId};

/// Why a partition is `Stalled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// An open transaction holds the last stable offset.
    Lso,
    /// Nobody leads the partition, or no broker answers.
    NoLeader,
    /// The topic does not exist or may not be seen.
    TopicMissing,
    /// A source has not reached any of its brokers.
    BrokerUnreachable,
    /// Login or permission refused.
    Auth,
    /// The schema registry does not answer.
    Registry,
    /// A writer schema cannot serve the event.
    Schema,
    /// A bad record and `on_bad_record = "stop"`.
    BadRecord,
    /// None of these.
    Unknown,
}

impl Cause {
    /// The name in incidents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lso => "lso",
            Self::NoLeader => "no_leader",
            Self::TopicMissing => "topic_missing",
            Self::BrokerUnreachable => "broker_unreachable",
            Self::Auth => "auth",
            Self::Registry => "registry",
            Self::Schema => "schema",
            Self::BadRecord => "bad_record",
            Self::Unknown => "unknown",
        }
    }

    /// The cause of this name.
    pub fn parse(text: &str) -> Self {
        const ALL: [Cause; 8] = [
            Cause::Lso,
            Cause::NoLeader,
            Cause::TopicMissing,
            Cause::BrokerUnreachable,
            Cause::Auth,
            Cause::Registry,
            Cause::Schema,
            Cause::BadRecord,
        ];
        ALL.into_iter().find(|cause| cause.as_str() == text).unwrap_or(Self::Unknown)
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Lso => "find the transaction with Kafka's own tools (kafka-transactions.sh find-hanging) and abort it there",
            Self::NoLeader => "look at the brokers; reading goes on by itself when the partition has a leader",
            Self::TopicMissing => "create the topic, or correct its name or the DESCRIBE permission; reading goes on by itself",
            Self::BrokerUnreachable => "correct `brokers`, or look at the brokers and the network; reading begins by itself",
            Self::Auth => "correct the login or the READ permission; reading goes on by itself",
            Self::Registry => "look at the registry's address, credentials and health; reading goes on by itself",
            Self::Schema => "compare the writer schema with the event's fields, correct the config and restart",
            Self::BadRecord => "look at the record; to go on without it set on_bad_record = \"dlq\" and restart",
            Self::Unknown => "look at the log of the client and of the brokers; the partition is asked about and read again by itself",
        }
    }
}

const HOLDS: &str = "all rows applied so far; tables stay readable and flagged, other partitions go on";

/// Cannot go on now; nothing is lost yet.
pub fn stalled(track: &Track, cause: Cause, evidence: &str, now_us: i64) -> Incident {
    let mut incident = source_stalled(cause, &format!("{}: {evidence}", place(track, None)), now_us);
    if cause == Cause::TopicMissing {
        // It was there, so a topic that is created now is another one.
        incident.actions = vec![
            "correct the DESCRIBE permission, or `brokers`; reading goes on by itself".to_owned(),
            "a topic that is created anew is another one: it stops the partition as Recreated, and `begin` leads on".to_owned(),
            format!("where it is gone for good: {}", command(track, "forget")),
        ];
    }
    incident
}

/// The topic is not there, in another cluster than its own.
pub fn missing_elsewhere(incident: &mut Incident) {
    assert_eq!(incident.cause, Cause::TopicMissing.as_str(), "only what is not there may be elsewhere");
    incident.actions = vec!["`brokers` names another cluster: correct it and restart; reading goes on where it stood".to_owned()];
}

/// A whole source cannot go on: it has no partition that could say so.
pub fn source_stalled(cause: Cause, evidence: &str, now_us: i64) -> Incident {
    Incident {
        kind: IncidentKind::Stalled,
        cause: cause.as_str().to_owned(),
        opened_us: now_us,
        lost: "nothing".to_owned(),
        holds: HOLDS.to_owned(),
        evidence: evidence.to_owned(),
        actions: vec![cause.advice().to_owned()],
        resume_offset: None,
    }
}

/// What is not in the tables of the offsets that the log lost: those that were never read, and those that wait.
fn gap(track: &Track, before: Option<&ReadBefore>, low: i64) -> String {
    let unread = read_to(track, before);
    let unread =
        (unread < low).then(|| format!("offsets {unread} to {} ({} offsets), deleted before they were read", low - 1, low - unread));
    let waited = before.map_or(0, |before| before.waiting(track.position.offset..low));
    let waited = (waited > 0).then(|| format!("{waited} records in front of offset {low} that waited for room"));
    unread.into_iter().chain(waited).collect::<Vec<_>>().join("; ")
}

/// The first offset that was never read.
pub fn read_to(track: &Track, before: Option<&ReadBefore>) -> i64 {
    before.map_or(track.position.offset, |before| before.reached.offset.max(track.position.offset))
}

/// Retention overtook us.
pub fn source_gap(track: &Track, before: Option<&ReadBefore>, low: i64, end: i64, now_us: i64) -> Incident {
    Incident {
        kind: IncidentKind::SourceGap,
        cause: String::new(),
        opened_us: now_us,
        lost: gap(track, before, low),
        holds: HOLDS.to_owned(),
        evidence: format!("{}; the log now goes from {low} to {end}", place(track, before)),
        actions: vec![
            format!("restore a data folder whose position lies between {low} and {end}, if there is one"),
            format!("to go on without them: {}", command(track, "accept-gap")),
            "lengthen the topic's retention so that it outlasts an outage".to_owned(),
        ],
        resume_offset: Some(low),
    }
}

/// The log ends before our position.
pub fn regressed(track: &Track, before: Option<&ReadBefore>, (end, to): (i64, i64), epoch: i32, now_us: i64) -> Incident {
    let waited = waited_behind(track, before, to);
    let common = if to < end { format!(", and is another one from {to} on") } else { String::new() };
    Incident {
        kind: IncidentKind::Regressed,
        cause: String::new(),
        opened_us: now_us,
        lost: format!("unknown: the log no longer reaches our position{waited}"),
        holds: HOLDS.to_owned(),
        evidence: format!("{}; the log ends at {end} under leader epoch {epoch}{common}", place(track, before)),
        actions: vec![
            "check first that `brokers` names the right cluster".to_owned(),
            format!("restore a data folder whose position is at most {to}, if there is one"),
            format!("to go on with what is written from {to} on: {}", command(track, "accept-gap")),
            format!("to read the log anew, into tables that keep what they have: {}", command(track, "begin --at earliest")),
        ],
        resume_offset: Some(to),
    }
}

/// Records that we applied are gone.
pub fn truncated(track: &Track, before: Option<&ReadBefore>, from: i64, to: i64, evidence: &str, now_us: i64) -> Incident {
    let (from, waited) = (from.max(read_to(track, before)), waited_behind(track, before, to));
    Incident {
        kind: IncidentKind::Truncated,
        cause: String::new(),
        opened_us: now_us,
        lost: format!("offsets {to} to {} are applied but no longer in the log{waited}", from - 1),
        holds: "all rows applied so far, the vanished ones included; tables stay readable and flagged, other partitions go on".to_owned(),
        evidence: format!("{}; {evidence}", place(track, before)),
        actions: vec![
            format!("restore a data folder whose position is at most {to}; the records behind it are read again"),
            format!("to keep the vanished records in the tables and go on at {to}: {}", command(track, "accept-gap")),
        ],
        resume_offset: Some(to),
    }
}

/// The name belongs to another topic now.
pub fn recreated(track: &Track, before: Option<&ReadBefore>, now: TopicId, evidence: &str, now_us: i64) -> Incident {
    let (position, read) = (read_to(track, before), track.position.offset);
    let waited = waited_behind(track, before, read);
    let suspect = match track.proved {
        Some(proved) if proved < read => format!("; rows of offsets {proved} to {} may be of the new topic", read - 1),
        _ => String::new(),
    };
    Incident {
        kind: IncidentKind::Recreated,
        cause: String::new(),
        opened_us: now_us,
        lost: format!("what was left in the old topic behind offset {position}{suspect}{waited}"),
        holds: HOLDS.to_owned(),
        evidence: format!("{}; topic id was {}, is {now}; {evidence}", place(track, before), track.key.topic_id),
        actions: vec![
            "check that `brokers` names the right cluster and that the topic was recreated on purpose".to_owned(),
            format!("to keep the tables and read the new topic: {}", command(track, "begin --at earliest")),
            "to begin anew with empty tables, start with an empty data folder".to_owned(),
        ],
        resume_offset: None,
    }
}

/// Nothing of the other topic was read: should the partition's own topic come back, it goes on where it stood.
pub fn may_be_undone(incident: &mut Incident, position: i64) {
    assert_eq!(incident.kind, IncidentKind::Recreated, "only another topic goes away again");
    incident.resume_offset = Some(position);
    "if `brokers` named another cluster: correct it and restart; reading goes on where it stood".clone_into(&mut incident.actions[0]);
}

/// More partitions than before.
pub fn partitions_grew(track: &Track, before: usize, after: usize, now_us: i64) -> Incident {
    Incident {
        kind: IncidentKind::PartitionsGrew,
        cause: String::new(),
        opened_us: now_us,
        lost: "nothing; the order of one key's records over the change is not known".to_owned(),
        holds: "everything; the new partition is read from its first record".to_owned(),
        evidence: format!("{}; the topic had {before} partitions and has {after}", place(track, None)),
        actions: vec!["nothing: it closes when the new partition's end is reached".to_owned()],
        resume_offset: None,
    }
}

/// The command line of a decision about this partition, its effect first.
fn command(track: &Track, action: &str) -> String {
    let source = track.gauge.as_ref().map_or("SOURCE", |gauge| gauge.source.as_str());
    format!("streamgauge incident {source}/{}/{} {action} --dry-run", track.key.topic, track.key.partition)
}

/// Records at or behind this offset that wait for room and are no more in the log.
fn waited_behind(track: &Track, before: Option<&ReadBefore>, offset: i64) -> String {
    let waited = before.map_or(0, |before| before.waiting(offset.max(track.position.offset)..before.reached.offset));
    if waited > 0 { format!("; {waited} of the records that wait for room are no more in the log") } else { String::new() }
}

fn place(track: &Track, before: Option<&ReadBefore>) -> String {
    let Position { offset, after, epoch, .. } = track.position;
    let last = if after > 0 { format!("last record {}, leader epoch {epoch}", after - 1) } else { "no record read yet".to_owned() };
    let reached = before.map(|before| {
        let waiting = before.waiting(offset..before.reached.offset);
        format!("; read to {} before, of which {waiting} records wait for room", before.reached.offset)
    });
    format!("{}/{} at offset {offset} ({last}{})", track.key.topic, track.key.partition, reached.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamgauge_api::{PartitionKey, Slot};

    /// What was read before a restart is of the old topic: only what was read since the last proof may not be.
    #[test]
    fn a_recreated_topic_suspects_what_was_read_since_the_last_proof() {
        let key = PartitionKey { event: "E".into(), cluster: "c".into(), topic: "t".into(), topic_id: TopicId([1; 16]), partition: 0 };
        let mut track = Track::new(key, Slot(0), None, Position::start(10), std::time::Instant::now());
        let before = ReadBefore { reached: Position::start(50), waits: vec![(12, 14), (30, 31)] };
        for (read, proved, lost) in [
            (10, Some(10), "behind offset 50; 3 of the records that wait for room are no more in the log"),
            (13, Some(13), "behind offset 50; 2 of the records that wait for room are no more in the log"),
            (60, Some(55), "behind offset 60; rows of offsets 55 to 59 may be of the new topic"),
            (60, None, "behind offset 60"),
        ] {
            track.position.offset = read;
            track.proved = proved;
            let told = recreated(&track, Some(&before), TopicId([2; 16]), "", 0).lost;
            assert_eq!(told, format!("what was left in the old topic {lost}"), "read to {read}, proved to {proved:?}");
        }
    }
}
