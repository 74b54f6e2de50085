//! The control thread of a source: asks the brokers, so that the ingest thread never waits for anything but records and room.
//!
//! Jobs come in and answers go out over channels; both are few (the ingest thread has at most one job of a kind under way), so the channels need no
//! further bound. Every job is bounded in time. The thread ends when the ingest thread drops its end. No state is kept here: also the cluster's id is asked for
//! each time, because another cluster may stand behind the same addresses.

use crate::cluster::Cluster;
use crate::config::{Start, Topics};
use crate::examine::{Question, Verdict, examine};
use crate::ext::{ClientError, GroupCommit, Isolation, OffsetSpec, TopicDescription, code};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::collections::HashMap;
use std::time::Duration;
use streamgauge_api::{PartitionKey, TopicId};

/// Time that all questions of one job share.
pub const ASK_LIMIT: Duration = Duration::from_secs(10);

/// Commits are for lag tools: they must not hold questions up.
pub const COMMIT_LIMIT: Duration = Duration::from_secs(3);

/// How often callbacks of the idle control client are served.
const IDLE: Duration = Duration::from_millis(500);

/// Where a partition that the state has never seen starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// As the source's start policy says.
    Policy(Start),
    /// At offset 0, or the log start when that was trimmed: it did not exist when the policy was used.
    LogStart,
}

/// What the ingest thread wants to know.
#[derive(Debug)]
pub enum Job {
    /// The topics of the source with their partitions.
    Discover,
    /// A number for each start.
    Resolve(Vec<(String, i32, StartAt)>),
    /// The questions before an assign; the number comes back with the answer.
    Examine(u64, Vec<Question>),
    /// Ids of topics that are being read; the number comes back with the answer.
    Ids(u64, Vec<String>),
    /// Log ends (start, end) of partitions that are not being read.
    Ends(Vec<(String, i32)>),
    /// What an operator's decision needs to know of partitions; the number comes back with the answer.
    Locate(u64, Vec<(String, i32)>, StartAt),
    /// Commit to the group.
    Commit(Vec<GroupCommit>),
}

/// A partition as the brokers know it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Id of the topic.
    pub topic_id: TopicId,
    /// Log start.
    pub low: i64,
    /// Log end.
    pub end: i64,
    /// The start that was asked for.
    pub start: i64,
}

/// What the brokers know of some partitions now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocatedAll {
    /// The cluster's id.
    pub cluster: String,
    /// By topic and number: each that was asked for, none where it does not exist; and the others of their topics, as far as
    /// their leaders answer.
    pub places: HashMap<(String, i32), Option<Located>>,
    /// Numbers of all partitions of these topics.
    pub partitions: HashMap<String, Vec<i32>>,
}

/// A cluster as seen by one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    /// Cluster id.
    pub cluster: String,
    /// Topics that exist.
    pub topics: Vec<TopicDescription>,
    /// Named topics that could not be described, with the brokers' word.
    pub missing: Vec<(String, ClientError)>,
}

impl Discovered {
    /// Whether a partition of this key is there, in its own topic.
    pub fn is_own(&self, key: &PartitionKey) -> bool {
        let is_there =
            |topic: &&TopicDescription| topic.name == key.topic && topic.partitions.iter().any(|(number, _)| *number == key.partition);
        let own = self.topics.iter().find(is_there).is_some_and(|topic| topic.id == key.topic_id || !key.topic_id.is_known());
        own && self.cluster == key.cluster
    }
}

/// A partition with its resolved start.
pub type Resolved = (String, i32, Result<i64, ClientError>);

/// What came of a job.
#[derive(Debug)]
pub enum Answer {
    /// To [`Job::Discover`].
    Discovered(Result<Discovered, ClientError>),
    /// To [`Job::Resolve`].
    Resolved(Vec<Resolved>),
    /// To [`Job::Examine`].
    Examined(u64, Vec<(usize, Verdict)>),
    /// To [`Job::Ids`]; an error says nothing about the topics.
    Ids(u64, Result<Vec<TopicDescription>, ClientError>),
    /// To [`Job::Ends`]: log start and log end where they are known.
    Ends(Vec<(String, i32, i64, i64)>),
    /// To [`Job::Locate`]. An error says nothing about any of the partitions.
    Located(u64, Result<LocatedAll, ClientError>),
    /// To [`Job::Commit`].
    Committed(Result<(), ClientError>),
    /// Errors of the control client's connections.
    Troubles(Vec<ClientError>),
}

/// Runs until the other side is gone.
pub fn run(mut cluster: Box<dyn Cluster>, topics: &Topics, jobs: &Receiver<Job>, answers: &Sender<Answer>) {
    loop {
        let answer = match jobs.recv_timeout(IDLE) {
            Ok(Job::Discover) => Answer::Discovered(discover(cluster.as_mut(), topics)),
            Ok(Job::Resolve(starts)) => Answer::Resolved(resolve(cluster.as_mut(), &starts)),
            Ok(Job::Examine(round, questions)) => Answer::Examined(round, examine(cluster.as_mut(), &questions, ASK_LIMIT)),
            Ok(Job::Ids(round, names)) => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                Answer::Ids(round, cluster.describe(&names, ASK_LIMIT))
            }
            Ok(Job::Ends(partitions)) => Answer::Ends(ends(cluster.as_mut(), &partitions)),
            Ok(Job::Locate(round, places, at)) => Answer::Located(round, locate(cluster.as_mut(), &places, at)),
            Ok(Job::Commit(commits)) => Answer::Committed(cluster.commit(&commits, COMMIT_LIMIT)),
            Err(RecvTimeoutError::Timeout) => match cluster.errors() {
                none if none.is_empty() => continue,
                errors => Answer::Troubles(errors),
            },
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if answers.send(answer).is_err() {
            return;
        }
    }
}

fn discover(cluster: &mut dyn Cluster, topics: &Topics) -> Result<Discovered, ClientError> {
    let id = cluster.id(ASK_LIMIT)?;
    let names: Vec<String> = match topics {
        Topics::Named(names) => names.clone(),
        Topics::Matching(pattern) => cluster.topics(ASK_LIMIT)?.into_iter().filter(|name| pattern.matches(name)).collect(),
    };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut found = Discovered { cluster: id, topics: Vec::new(), missing: Vec::new() };
    for topic in cluster.describe(&names, ASK_LIMIT)? {
        match topic.error {
            None => found.topics.push(topic),
            Some(error) => found.missing.push((topic.name, error)),
        }
    }
    Ok(found)
}

/// Resolves starts to numbers, per kind of start one or two questions.
fn resolve(cluster: &mut dyn Cluster, starts: &[(String, i32, StartAt)]) -> Vec<Resolved> {
    let mut resolved = Vec::with_capacity(starts.len());
    let mut ask = |spec: OffsetSpec, isolation, of: &dyn Fn(&StartAt) -> bool| {
        let asked: Vec<_> =
            starts.iter().filter(|(.., at)| of(at)).map(|(topic, partition, _)| (topic.as_str(), *partition, spec)).collect();
        match cluster.offsets(&asked, isolation, ASK_LIMIT) {
            Ok(answers) => {
                answers.into_iter().map(|answer| (answer.topic, answer.partition, answer.result.map(|(offset, _)| offset))).collect()
            }
            Err(error) => {
                asked.iter().map(|(topic, partition, _)| ((*topic).to_owned(), *partition, Err(error.clone()))).collect::<Vec<_>>()
            }
        }
    };
    resolved.extend(ask(OffsetSpec::Earliest, Isolation::ReadUncommitted, &|at| {
        matches!(at, StartAt::LogStart | StartAt::Policy(Start::Earliest))
    }));
    resolved.extend(ask(OffsetSpec::Latest, Isolation::ReadCommitted, &|at| matches!(at, StartAt::Policy(Start::Latest))));
    let time = starts.iter().find_map(|(.., at)| match at {
        StartAt::Policy(Start::Timestamp { ms }) => Some(*ms),
        _ => None,
    });
    if let Some(ms) = time {
        let at_time = |at: &StartAt| matches!(at, StartAt::Policy(Start::Timestamp { .. }));
        let found = ask(OffsetSpec::Timestamp(ms), Isolation::ReadUncommitted, &at_time);
        // -1: no record at or after that time, so everything that comes is: start behind the last readable one.
        let ends = match found.iter().any(|(.., offset)| *offset == Ok(-1)) {
            true => ask(OffsetSpec::Latest, Isolation::ReadCommitted, &at_time),
            false => Vec::new(),
        };
        resolved.extend(found.into_iter().map(|(topic, partition, offset)| match offset {
            Ok(-1) => {
                let end = ends.iter().find(|(name, number, _)| *name == topic && *number == partition).map(|(.., end)| end.clone());
                let silent = || Err(ClientError { code: code::TIMED_OUT, text: "no answer about the log end".to_owned() });
                (topic, partition, end.unwrap_or_else(silent))
            }
            offset => (topic, partition, offset),
        }));
    }
    resolved
}

/// Asks for ids, ends and starts. A partition is missing only where the brokers say so; one that they cannot speak for now
/// is an error.
fn locate(cluster: &mut dyn Cluster, places: &[(String, i32)], at: StartAt) -> Result<LocatedAll, ClientError> {
    let mut names: Vec<&str> = places.iter().map(|(topic, _)| topic.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut located = LocatedAll { cluster: cluster.id(ASK_LIMIT)?, ..LocatedAll::default() };
    let topics = cluster.describe(&names, ASK_LIMIT)?;
    let mut there = Vec::new();
    for (name, number) in places {
        let Some(topic) = topics.iter().find(|topic| topic.name == *name) else {
            return Err(ClientError { code: code::FAIL, text: format!("no answer about topic {name}") });
        };
        match &topic.error {
            Some(error) if error.code == code::UNKNOWN_TOPIC_OR_PART => {}
            Some(error) => return Err(error.clone()),
            None if topic.partitions.iter().any(|(partition, _)| partition == number) => {
                there.push((name.clone(), *number, topic.id));
                continue;
            }
            None => {}
        }
        located.places.insert((name.clone(), *number), None);
    }
    for (place, found) in locate_each(cluster, there, at) {
        located.places.insert(place, Some(found?));
    }
    // The others by themselves: one that nobody leads leaves a question unanswered for all that are asked about with it.
    let mut others = Vec::new();
    for topic in topics.iter().filter(|topic| topic.error.is_none()) {
        let led = topic.partitions.iter().filter(|(_, leader)| leader.is_some()).map(|(number, _)| (topic.name.clone(), *number, topic.id));
        others.extend(led.filter(|other| !places.iter().any(|(name, number)| (name, *number) == (&other.0, other.1))));
        located.partitions.insert(topic.name.clone(), topic.partitions.iter().map(|(number, _)| *number).collect());
    }
    let found = locate_each(cluster, others, at).into_iter().filter_map(|(place, found)| Some((place, Some(found.ok()?))));
    located.places.extend(found);
    Ok(located)
}

/// Asks for ends and starts of partitions that exist.
fn locate_each(
    cluster: &mut dyn Cluster,
    there: Vec<(String, i32, TopicId)>,
    at: StartAt,
) -> Vec<((String, i32), Result<Located, ClientError>)> {
    if there.is_empty() {
        return Vec::new();
    }
    let asked: Vec<(String, i32)> = there.iter().map(|(name, number, _)| (name.clone(), *number)).collect();
    let ends = ends(cluster, &asked);
    let starts = resolve(cluster, &asked.into_iter().map(|(name, number)| (name, number, at)).collect::<Vec<_>>());
    let locate = |(name, number, topic_id): (String, i32, TopicId)| {
        let silent = || ClientError { code: code::TIMED_OUT, text: format!("no answer about the log of {name}/{number}") };
        let found = || {
            let (.., low, end) = ends.iter().find(|end| (&end.0, end.1) == (&name, number)).ok_or_else(silent)?;
            let (.., start) = starts.iter().find(|start| (&start.0, start.1) == (&name, number)).ok_or_else(silent)?;
            Ok(Located { topic_id, low: *low, end: *end, start: start.clone()? })
        };
        let found = found();
        ((name, number), found)
    };
    there.into_iter().map(locate).collect()
}

fn ends(cluster: &mut dyn Cluster, partitions: &[(String, i32)]) -> Vec<(String, i32, i64, i64)> {
    let mut ask = |spec| {
        let asked: Vec<_> = partitions.iter().map(|(topic, partition)| (topic.as_str(), *partition, spec)).collect();
        cluster.offsets(&asked, Isolation::ReadUncommitted, COMMIT_LIMIT).unwrap_or_default()
    };
    let (lows, highs) = (ask(OffsetSpec::Earliest), ask(OffsetSpec::Latest));
    lows.into_iter()
        .filter_map(|low| {
            let high = highs.iter().find(|high| high.topic == low.topic && high.partition == low.partition)?;
            match (&low.result, &high.result) {
                (Ok((start, _)), Ok((end, _))) => Some((low.topic, low.partition, *start, *end)),
                _ => None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::ext::OffsetAnswer;

    /// One topic `t`; a question about a partition without a leader is answered for none of those that it names.
    struct Leaders(Vec<(i32, Option<i32>)>);

    impl Cluster for Leaders {
        fn id(&mut self, _limit: Duration) -> Result<String, ClientError> {
            Ok("c".to_owned())
        }

        fn topics(&mut self, _limit: Duration) -> Result<Vec<String>, ClientError> {
            Ok(vec!["t".to_owned()])
        }

        fn describe(&mut self, names: &[&str], _limit: Duration) -> Result<Vec<TopicDescription>, ClientError> {
            assert_eq!(names, ["t"]);
            Ok(vec![TopicDescription { name: "t".to_owned(), id: TopicId([1; 16]), partitions: self.0.clone(), error: None }])
        }

        fn offsets(
            &mut self,
            asked: &[(&str, i32, OffsetSpec)],
            _isolation: Isolation,
            _limit: Duration,
        ) -> Result<Vec<OffsetAnswer>, ClientError> {
            let is_led = |number: i32| self.0.iter().any(|(other, leader)| *other == number && leader.is_some());
            if !asked.iter().all(|(_, number, _)| is_led(*number)) {
                return Err(ClientError { code: code::TIMED_OUT, text: "timed out".to_owned() });
            }
            let answer = |(topic, number, _): &(&str, i32, OffsetSpec)| OffsetAnswer {
                topic: (*topic).to_owned(),
                partition: *number,
                result: Ok((i64::from(*number), 0)),
            };
            Ok(asked.iter().map(answer).collect())
        }

        fn commit(&mut self, _commits: &[GroupCommit], _limit: Duration) -> Result<(), ClientError> {
            Ok(())
        }

        fn errors(&mut self) -> Vec<ClientError> {
            Vec::new()
        }
    }

    #[test]
    fn a_partition_that_nobody_leads_keeps_no_other_one_from_being_located() {
        let mut cluster = Leaders(vec![(0, Some(1)), (1, None), (2, Some(1))]);
        let found = locate(&mut cluster, &[("t".to_owned(), 0)], StartAt::LogStart).unwrap();
        assert_eq!(found.partitions["t"], [0, 1, 2]);
        let mut places: Vec<_> = found.places.into_iter().map(|((_, number), located)| (number, located.map(|at| at.low))).collect();
        places.sort_unstable();
        assert_eq!(places, [(0, Some(0)), (2, Some(2))]);
        assert_eq!(locate(&mut cluster, &[("t".to_owned(), 1)], StartAt::LogStart).unwrap_err().code, code::TIMED_OUT);
    }
}
