//! The questions before every assign, and the decision that follows from their answers.
//!
//! librdkafka tells *that* something is wrong with a position; only these questions, in this order, decide *what*: topic gone, no leader, another topic id,
//! log start behind us, log end before us. [`examine`] asks (on the control thread), [`decide`] is pure. An answer that does not come is "cannot go
//! on now", never "fine". What they cannot see, a log cut and refilled beyond our position, the client itself validates before its first
//! record, because it is given the pair (offset, leader epoch) of one record ([`crate::ext::Client::assign`]).

use crate::cluster::Cluster;
use crate::ext::{ClientError, Isolation, OffsetSpec, TopicDescription, code};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use streamgauge_api::inlet::ReadBefore;
use streamgauge_api::{PartitionKey, Position, TopicId};

/// Kafka's code for a partition without a leader.
const LEADER_NOT_AVAILABLE: i32 = 5;
/// Kafka's code for a broker that does not lead the partition (any more, or yet).
const NOT_LEADER_OR_FOLLOWER: i32 = 6;

/// A partition that wants to be assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The asker's number for it.
    pub track: usize,
    /// Topic name.
    pub topic: String,
    /// Topic id of the position; [`TopicId::NONE`]: not to be compared.
    pub topic_id: TopicId,
    /// Partition number.
    pub partition: i32,
    /// Where we stand.
    pub position: Position,
    /// The first offset that the log has to have still: the position, or behind it what waits for room or was never read.
    pub needed: i64,
    /// How far the log was read; beyond the position while what waits is read again.
    pub reached: Position,
}

impl Question {
    /// What to ask about a partition that stands here, of which this was read before.
    pub fn new(track: usize, key: &PartitionKey, position: Position, before: Option<&ReadBefore>) -> Self {
        let reached = before.map(|before| before.reached).filter(|reached| reached.offset > position.offset).unwrap_or(position);
        let needed = before.and_then(|before| before.first_from(position.offset)).unwrap_or(reached.offset);
        assert!(position.offset <= needed && needed <= reached.offset, "{position:?} needs {needed} and was read to {reached:?}");
        Self { track, topic: key.topic.clone(), topic_id: key.topic_id, partition: key.partition, position, needed, reached }
    }
}

/// What may be done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Assign at this pair.
    Assign {
        /// First offset to fetch.
        offset: i64,
        /// Leader epoch of the record before it, -1 for no check.
        epoch: i32,
        /// Log start.
        low: i64,
        /// Log end, read uncommitted.
        end: i64,
    },
    /// The topic does not exist, or may not be seen.
    TopicMissing(String),
    /// Nobody leads the partition.
    NoLeader(String),
    /// We may not read it.
    Forbidden(String),
    /// Something did not answer.
    Unknown(String),
    /// The name belongs to another topic.
    Recreated {
        /// Its id; [`TopicId::NONE`] when only a missing partition tells.
        now: TopicId,
    },
    /// Retention overtook us.
    SourceGap {
        /// Log start.
        low: i64,
        /// Log end.
        end: i64,
    },
    /// The log ends before our position, and no leader change explains it.
    Regressed {
        /// Log start.
        low: i64,
        /// Log end.
        end: i64,
        /// End of what it has in common with the log that was read: the log end, as far as these questions know.
        to: i64,
        /// Leader epoch of the log end.
        epoch: i32,
    },
    /// The log ends before our position under a later leader.
    Truncated {
        /// Log start.
        low: i64,
        /// Our position.
        from: i64,
        /// End of what the log has in common with the one that was read. These questions know the log end alone,
        /// which others may have moved on since: the client asks where our leader epoch ends ([`Verdict::ends_early_from`]).
        to: i64,
        /// Leader epoch of the log end.
        epoch: i32,
    },
}

impl Verdict {
    /// The log's start, where the log ends in front of what was read of it.
    pub fn ends_early_from(&self) -> Option<i64> {
        match self {
            Self::Regressed { low, .. } | Self::Truncated { low, .. } => Some(*low),
            _ => None,
        }
    }
}

/// What the brokers said about one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The topic, or why nobody told.
    pub topic: Result<&'a TopicDescription, ClientError>,
    /// Log start and epoch.
    pub low: Result<(i64, i32), ClientError>,
    /// Log end, read uncommitted, and epoch.
    pub end: Result<(i64, i32), ClientError>,
}

/// Asks for all partitions at once: one DescribeTopics and two ListOffsets, together bounded by `limit`.
pub fn examine(cluster: &mut dyn Cluster, questions: &[Question], limit: Duration) -> Vec<(usize, Verdict)> {
    let deadline = Instant::now() + limit;
    let mut names: Vec<&str> = questions.iter().map(|question| question.topic.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let described = match cluster.describe(&names, limit) {
        Ok(described) => described,
        Err(error) => return questions.iter().map(|question| (question.track, Verdict::Unknown(error.to_string()))).collect(),
    };
    let topics: HashMap<&str, &TopicDescription> = described.iter().map(|topic| (topic.name.as_str(), topic)).collect();
    // Only partitions with a leader can answer for their log; one without would hold the answers of all others back.
    let led: Vec<&Question> = questions
        .iter()
        .filter(|question| topics.get(question.topic.as_str()).is_some_and(|topic| leader(topic, question).is_some()))
        .collect();
    let lows = ends_of(cluster, &led, OffsetSpec::Earliest, deadline);
    let ends = ends_of(cluster, &led, OffsetSpec::Latest, deadline);
    let unasked = || Err(ClientError { code: LEADER_NOT_AVAILABLE, text: "the partition has no leader".to_owned() });
    questions
        .iter()
        .map(|question| {
            let place = (question.topic.as_str(), question.partition);
            let missing = || ClientError { code: code::UNKNOWN_TOPIC_OR_PART, text: "the topic is not described".to_owned() };
            let facts = Facts {
                topic: topics.get(place.0).copied().ok_or_else(missing),
                low: find(&lows, place).unwrap_or_else(unasked),
                end: find(&ends, place).unwrap_or_else(unasked),
            };
            (question.track, decide(question, &facts))
        })
        .collect()
}

type Ends = Result<HashMap<(String, i32), Result<(i64, i32), ClientError>>, ClientError>;

fn ends_of(cluster: &mut dyn Cluster, questions: &[&Question], spec: OffsetSpec, deadline: Instant) -> Ends {
    let asked: Vec<_> = questions.iter().map(|question| (question.topic.as_str(), question.partition, spec)).collect();
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let answers = cluster.offsets(&asked, Isolation::ReadUncommitted, left)?;
    Ok(answers.into_iter().map(|answer| ((answer.topic, answer.partition), answer.result)).collect())
}

fn find(ends: &Ends, (topic, partition): (&str, i32)) -> Option<Result<(i64, i32), ClientError>> {
    match ends {
        Ok(answers) => answers.get(&(topic.to_owned(), partition)).cloned(),
        Err(error) => Some(Err(error.clone())),
    }
}

fn leader(topic: &TopicDescription, question: &Question) -> Option<i32> {
    topic.partitions.iter().find(|(partition, _)| *partition == question.partition).and_then(|(_, leader)| *leader)
}

/// The decision. The order of the questions matters: a recreated topic also has another start and end.
pub fn decide(question: &Question, facts: &Facts<'_>) -> Verdict {
    let topic = match &facts.topic {
        Ok(topic) => *topic,
        Err(error) => return refusal(error),
    };
    if let Some(error) = &topic.error {
        return refusal(error);
    }
    if question.topic_id.is_known() && topic.id.is_known() && topic.id != question.topic_id {
        return Verdict::Recreated { now: topic.id };
    }
    match topic.partitions.iter().find(|(partition, _)| *partition == question.partition) {
        // A partition count only shrinks when the topic is made anew.
        None => return Verdict::Recreated { now: topic.id },
        Some((_, None)) => return Verdict::NoLeader(format!("partition {} has no leader", question.partition)),
        Some((_, Some(_))) => {}
    }
    let (low, end) = match (&facts.low, &facts.end) {
        (Ok(low), Ok(end)) => (low.0, *end),
        (Err(error), _) | (_, Err(error)) => return refusal(error),
    };
    let Question { position, needed, reached, .. } = question;
    if *needed < low {
        return Verdict::SourceGap { low, end: end.0 };
    }
    if reached.offset > end.0 {
        return match end.1 > reached.epoch && reached.epoch >= 0 {
            true => Verdict::Truncated { low, from: reached.offset, to: end.0, epoch: end.1 },
            false => Verdict::Regressed { low, end: end.0, to: end.0, epoch: end.1 },
        };
    }
    let (offset, epoch) = pair(position, low);
    Verdict::Assign { offset, epoch, low, end: end.0 }
}

/// The pair to assign with. Nothing deliverable lies between `after` and `offset`, so going back to `after` repeats nothing and lets the client validate the
/// epoch; a position without a record, or one whose record was trimmed, has no epoch.
fn pair(position: &Position, low: i64) -> (i64, i32) {
    if position.after < 0 || position.epoch < 0 {
        // Records in front of the log's start are in the tables, or it would be a gap.
        return (position.offset.max(low), -1);
    }
    if position.after < low { (low, -1) } else { (position.after, position.epoch) }
}

fn refusal(error: &ClientError) -> Verdict {
    let text = error.to_string();
    match error.code {
        code::UNKNOWN_TOPIC_OR_PART => Verdict::TopicMissing(text),
        code::TOPIC_AUTHORIZATION_FAILED | code::AUTHENTICATION | code::SSL => Verdict::Forbidden(text),
        LEADER_NOT_AVAILABLE | NOT_LEADER_OR_FOLLOWER => Verdict::NoLeader(text),
        _ => Verdict::Unknown(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TopicId = TopicId([1; 16]);

    fn question(offset: i64, after: i64, epoch: i32) -> Question {
        let position = Position { after, epoch, ..Position::start(offset) };
        Question { track: 0, topic: "t".into(), topic_id: ID, partition: 0, position, needed: offset, reached: position }
    }

    fn topic(id: TopicId, partitions: &[(i32, Option<i32>)]) -> TopicDescription {
        TopicDescription { name: "t".into(), id, partitions: partitions.to_vec(), error: None }
    }

    #[test]
    fn each_way_a_log_can_have_moved_has_its_own_verdict() {
        let good = topic(ID, &[(0, Some(1))]);
        let assign = |offset, epoch, low, end| Verdict::Assign { offset, epoch, low, end };
        for (name, question, described, low, end, expected) in [
            ("inside", question(10, 10, 2), &good, 0, (20, 2), assign(10, 2, 0, 20)),
            ("exactly the end", question(20, 20, 2), &good, 0, (20, 2), assign(20, 2, 0, 20)),
            ("past markers: back to the record's pair", question(11, 5, 0), &good, 0, (11, 1), assign(5, 0, 0, 11)),
            ("only markers were trimmed", question(11, 5, 0), &good, 8, (11, 1), assign(8, -1, 8, 11)),
            ("no record yet", question(7, -1, -1), &good, 0, (20, 0), assign(7, -1, 0, 20)),
            ("epoch unknown", question(7, 6, -1), &good, 0, (20, 0), assign(7, -1, 0, 20)),
            ("retention", question(10, 10, 0), &good, 15, (20, 0), Verdict::SourceGap { low: 15, end: 20 }),
            ("past the end", question(99, 99, 0), &good, 0, (60, 0), Verdict::Regressed { low: 0, end: 60, to: 60, epoch: 0 }),
            ("past the end, no epoch", question(99, 99, -1), &good, 0, (60, 3), Verdict::Regressed { low: 0, end: 60, to: 60, epoch: 3 }),
            ("a later leader", question(99, 99, 0), &good, 0, (60, 1), Verdict::Truncated { low: 0, from: 99, to: 60, epoch: 1 }),
        ] {
            let facts = Facts { topic: Ok(described), low: Ok((low, -1)), end: Ok(end) };
            assert_eq!(decide(&question, &facts), expected, "{name}");
        }
    }

    /// After a restart the position stands in front of what waits: what the log lost of it mattered nowhere, or was not seen.
    #[test]
    fn what_waits_and_what_was_read_before_are_what_the_log_has_to_have() {
        let described = topic(ID, &[(0, Some(1))]);
        let key = PartitionKey { event: "E".into(), cluster: "c".into(), topic: "t".into(), topic_id: ID, partition: 0 };
        let at = |offset| Position { after: offset, epoch: 3, ..Position::start(offset) };
        let before = ReadBefore { reached: at(100), waits: vec![(20, 22), (60, 61)] };
        for (offset, low, end, end_epoch, expected) in [
            (10, 0, 100, 3, "Assign { offset: 10, epoch: 3,"),
            // Only what is in the tables is gone.
            (10, 20, 100, 3, "Assign { offset: 20, epoch: -1,"),
            (10, 21, 100, 3, "SourceGap { low: 21,"),
            (30, 60, 100, 3, "Assign { offset: 60, epoch: -1,"),
            (30, 61, 100, 3, "SourceGap { low: 61,"),
            (70, 100, 100, 3, "Assign { offset: 100, epoch: -1,"),
            (70, 101, 120, 3, "SourceGap { low: 101,"),
            // The end lies behind the position, and in front of what was read.
            (10, 0, 50, 4, "Truncated { low: 0, from: 100, to: 50,"),
            (10, 0, 99, 3, "Regressed { low: 0, end: 99,"),
            (110, 0, 105, 4, "Truncated { low: 0, from: 110, to: 105,"),
        ] {
            let question = Question::new(0, &key, at(offset), Some(&before));
            let facts = Facts { topic: Ok(&described), low: Ok((low, 0)), end: Ok((end, end_epoch)) };
            let verdict = format!("{:?}", decide(&question, &facts));
            assert!(verdict.starts_with(expected), "at {offset} in a log of {low} to {end}: {verdict}");
        }
    }

    #[test]
    fn another_id_or_a_lost_partition_is_a_recreated_topic_whatever_its_offsets() {
        let other = TopicId([2; 16]);
        for (described, now) in [(topic(other, &[(0, Some(1))]), other), (topic(ID, &[(1, Some(1))]), ID)] {
            let facts = Facts { topic: Ok(&described), low: Ok((0, 0)), end: Ok((5, 0)) };
            assert_eq!(decide(&question(10, 10, 0), &facts), Verdict::Recreated { now });
        }
        // A broker that gives no ids is not a recreated topic.
        let without = topic(TopicId::NONE, &[(0, Some(1))]);
        let facts = Facts { topic: Ok(&without), low: Ok((0, 0)), end: Ok((50, 0)) };
        assert!(matches!(decide(&question(10, 10, 0), &facts), Verdict::Assign { .. }));
    }

    #[test]
    fn silence_is_never_fine() {
        let described = topic(ID, &[(0, Some(1))]);
        let leaderless = topic(ID, &[(0, None)]);
        let error = |code| ClientError { code, text: "x".into() };
        for (facts, expected) in [
            (Facts { topic: Err(error(code::TIMED_OUT)), low: Ok((0, 0)), end: Ok((9, 0)) }, "Unknown"),
            (Facts { topic: Ok(&described), low: Ok((0, 0)), end: Err(error(code::TIMED_OUT)) }, "Unknown"),
            (Facts { topic: Ok(&described), low: Err(error(NOT_LEADER_OR_FOLLOWER)), end: Ok((9, 0)) }, "NoLeader"),
            (Facts { topic: Ok(&leaderless), low: Ok((0, 0)), end: Ok((9, 0)) }, "NoLeader"),
            (Facts { topic: Err(error(code::UNKNOWN_TOPIC_OR_PART)), low: Ok((0, 0)), end: Ok((9, 0)) }, "TopicMissing"),
            (Facts { topic: Ok(&described), low: Err(error(code::TOPIC_AUTHORIZATION_FAILED)), end: Ok((9, 0)) }, "Forbidden"),
        ] {
            let verdict = format!("{:?}", decide(&question(5, 5, 0), &facts));
            assert!(verdict.starts_with(expected), "{verdict} is not {expected}");
        }
    }
}
