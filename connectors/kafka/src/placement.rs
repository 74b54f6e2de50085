//! Which partitions a source reads and where each begins: decided from what the state knows and what the cluster shows.
//!
//! Invariants: the start policy is used once, for partitions of topics that existed when the source first ran; whatever appears later starts at offset 0. A
//! topic whose name is known under another id or cluster is never begun anew by itself. Pure; called on the ingest thread after each discovery.

use crate::config::{Start, Topics};
use crate::control::{Discovered, StartAt};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use streamgauge_api::{PartitionKey, StoredPosition, TopicId};

/// What a source knows before it looks at the cluster.
#[derive(Debug)]
pub struct Known<'a> {
    /// Event of the source.
    pub event: &'a str,
    /// Its topics.
    pub topics: &'a Topics,
    /// Its start policy.
    pub start: Start,
    /// All positions of the state, by slot.
    pub stored: &'a [StoredPosition],
    /// Topics, with their clusters, of which an operator gave partitions up: should one come back, it is read from its start.
    pub forgotten: &'a BTreeSet<(String, String)>,
    /// Whether another source with other brokers may feed the same event from a topic of this name; then a stored position of another cluster is its own.
    pub rivals: bool,
    /// Partitions attached in this run.
    pub attached: &'a [PartitionKey],
    /// Whether a discovery has succeeded in this run.
    pub looked_before: bool,
}

/// What to do with one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// The state has a position: attach, ask, read on.
    Resume(StoredPosition),
    /// The name belongs to another topic than the stored one: attach the stored one, stopped.
    Recreated {
        /// What the state has.
        stored: StoredPosition,
        /// Id that the name has now.
        now: TopicId,
    },
    /// Never seen: resolve a start, attach, ask, read.
    Begin {
        /// The partition.
        key: PartitionKey,
        /// Where.
        at: StartAt,
        /// Partitions of this topic known before, when it is an old topic that grew; else 0.
        grew_from: usize,
    },
}

/// Decides for every partition that is not attached yet.
pub fn place(known: &Known<'_>, found: &Discovered) -> Vec<Placement> {
    let mut placements = Vec::new();
    let ours = |stored: &&StoredPosition| {
        stored.key.event == known.event && known.topics.selects(&stored.key.topic) && (stored.key.cluster == found.cluster || !known.rivals)
    };
    let was_given_up = |topic: &str| {
        let is_it = |(cluster, name): &(String, String)| name == topic && (*cluster == found.cluster || !known.rivals);
        known.forgotten.iter().any(is_it)
    };
    let gave_up = known.forgotten.iter().any(|(_, topic)| was_given_up(topic));
    let first_run = !known.looked_before && !gave_up && !known.stored.iter().any(|stored| ours(&stored));
    for topic in &found.topics {
        let same = |key: &PartitionKey| {
            key.topic == topic.name
                && key.cluster == found.cluster
                && (key.topic_id == topic.id || !key.topic_id.is_known() || !topic.id.is_known())
        };
        let of_name: Vec<&StoredPosition> = known.stored.iter().filter(ours).filter(|stored| stored.key.topic == topic.name).collect();
        let attached: HashSet<i32> = known.attached.iter().filter(|key| key.topic == topic.name).map(|key| key.partition).collect();
        // A topic that is stopped as recreated, or about to be, takes no new partitions in.
        if known.attached.iter().any(|key| key.topic == topic.name && !same(key)) {
            continue;
        }
        let (here, foreign): (Vec<&StoredPosition>, Vec<&StoredPosition>) = of_name.into_iter().partition(|stored| same(&stored.key));
        // A number that several slots have is the last one's: a decision gives each slot a key of its own. One that was
        // decided about is read, whatever becomes of the others.
        let undecided: BTreeMap<i32, &StoredPosition> = foreign
            .into_iter()
            .filter(|stored| !attached.contains(&stored.key.partition))
            .filter(|stored| !here.iter().any(|decided| decided.key.partition == stored.key.partition))
            .map(|stored| (stored.key.partition, stored))
            .collect();
        placements.extend(undecided.values().map(|stored| Placement::Recreated { stored: (*stored).clone(), now: topic.id }));
        if here.is_empty() && !undecided.is_empty() {
            continue;
        }
        let known_partitions: HashSet<i32> = here.iter().map(|stored| stored.key.partition).chain(attached.iter().copied()).collect();
        let at = match known.topics {
            _ if !known_partitions.is_empty() || known.looked_before || was_given_up(&topic.name) => StartAt::LogStart,
            Topics::Matching(_) if !first_run => StartAt::LogStart,
            _ => StartAt::Policy(known.start),
        };
        for (partition, _leader) in &topic.partitions {
            if attached.contains(partition) || undecided.contains_key(partition) {
                continue;
            }
            placements.push(match here.iter().find(|stored| stored.key.partition == *partition) {
                Some(stored) => Placement::Resume((*stored).clone()),
                None => Placement::Begin {
                    key: PartitionKey {
                        event: known.event.to_owned(),
                        cluster: found.cluster.clone(),
                        topic: topic.name.clone(),
                        topic_id: topic.id,
                        partition: *partition,
                    },
                    at,
                    grew_from: known_partitions.len(),
                },
            });
        }
    }
    // A topic that is gone is asked about by its name.
    let is_there = |stored: &&StoredPosition| found.topics.iter().any(|topic| topic.name == stored.key.topic);
    let is_attached = |stored: &&StoredPosition| {
        known.attached.iter().any(|key| (&key.topic, key.partition) == (&stored.key.topic, stored.key.partition))
    };
    let gone = known.stored.iter().filter(ours).filter(|stored| stored.key.cluster == found.cluster);
    placements.extend(gone.filter(|stored| !is_there(stored) && !is_attached(stored)).map(|stored| Placement::Resume(stored.clone())));
    placements
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::ext::TopicDescription;
    use streamgauge_api::Position;

    fn found(topics: &[(&str, u8, i32)]) -> Discovered {
        let topics = topics.iter().map(|(name, id, partitions)| TopicDescription {
            name: (*name).to_owned(),
            id: TopicId([*id; 16]),
            partitions: (0..*partitions).map(|partition| (partition, Some(1))).collect(),
            error: None,
        });
        Discovered { cluster: "c".into(), topics: topics.collect(), missing: Vec::new() }
    }

    fn key(cluster: &str, topic: &str, id: u8, partition: i32) -> PartitionKey {
        PartitionKey { event: "E".into(), cluster: cluster.into(), topic: topic.into(), topic_id: TopicId([id; 16]), partition }
    }

    fn stored(cluster: &str, topic: &str, id: u8, partition: i32) -> StoredPosition {
        StoredPosition { key: key(cluster, topic, id, partition), position: Position { offset: 9, ..Position::default() } }
    }

    fn check(
        name: &str,
        topics: &Topics,
        state: &[StoredPosition],
        attached: &[PartitionKey],
        looked: bool,
        rivals: bool,
        expected: &[&str],
    ) {
        let forgotten = BTreeSet::new();
        let known = Known {
            event: "E",
            topics,
            start: Start::Latest,
            stored: state,
            forgotten: &forgotten,
            rivals,
            attached,
            looked_before: looked,
        };
        let placed: Vec<String> = place(&known, &found(&[("a", 1, 2), ("b", 2, 1)]))
            .into_iter()
            .filter(|placement| !matches!(placement, Placement::Begin { key, .. } if !topics.selects(&key.topic)))
            .map(|placement| match placement {
                Placement::Resume(stored) => format!("resume {}/{}", stored.key.topic, stored.key.partition),
                Placement::Recreated { stored, now } => format!("recreated {}/{} {}", stored.key.topic, stored.key.partition, now.0[0]),
                Placement::Begin { key, at: StartAt::LogStart, grew_from } => format!("zero {}/{} {grew_from}", key.topic, key.partition),
                Placement::Begin { key, at: StartAt::Policy(_), .. } => format!("policy {}/{}", key.topic, key.partition),
            })
            .collect();
        assert_eq!(placed, expected, "{name}");
    }

    #[test]
    fn the_start_policy_is_used_once_and_known_names_are_never_begun_anew() {
        let regex = Topics::matching("[ab]").unwrap();
        let named = Topics::Named(vec!["a".into(), "b".into()]);
        check("first run", &regex, &[], &[], false, false, &["policy a/0", "policy a/1", "policy b/0"]);
        check("restart", &regex, &[stored("c", "a", 1, 0)], &[], false, false, &["resume a/0", "zero a/1 1", "zero b/0 0"]);
        check(
            "a name added to the list",
            &named,
            &[stored("c", "a", 1, 0)],
            &[],
            false,
            false,
            &["resume a/0", "zero a/1 1", "policy b/0"],
        );
        check("grew while running", &regex, &[], &[key("c", "a", 1, 0)], true, false, &["zero a/1 1", "zero b/0 0"]);
        check("recreated while down", &regex, &[stored("c", "a", 7, 0)], &[], false, false, &["recreated a/0 1", "zero b/0 0"]);
        check("another cluster", &named, &[stored("x", "b", 2, 0)], &[], false, false, &["policy a/0", "policy a/1", "recreated b/0 2"]);
        check("a second cluster", &named, &[stored("x", "b", 2, 0)], &[], false, true, &["policy a/0", "policy a/1", "policy b/0"]);
        let half = [stored("c", "a", 7, 0), stored("c", "a", 1, 1)];
        check("one was decided about, then a restart", &named, &half, &[], false, true, &["recreated a/0 1", "resume a/1", "policy b/0"]);
        check(
            "gone while down",
            &Topics::matching("ab?").unwrap(),
            &[stored("c", "ab", 3, 0)],
            &[],
            false,
            true,
            &["zero a/0 0", "zero a/1 0", "resume ab/0"],
        );
        check("recreated while running", &regex, &[], &[key("c", "a", 7, 0)], true, false, &["zero b/0 0"]);
    }

    /// With all partitions of a topic given up it was one that nobody had read, and began where the source does at first.
    #[test]
    fn a_topic_that_was_given_up_and_comes_back_is_read_from_its_start() {
        for topics in [Topics::Named(vec!["a".into(), "b".into()]), Topics::matching("[ab]").unwrap()] {
            for (cluster, rivals, from_start) in [("c", false, true), ("c", true, true), ("x", false, true), ("x", true, false)] {
                let forgotten = BTreeSet::from([(cluster.to_owned(), "a".to_owned())]);
                let known = Known {
                    event: "E",
                    topics: &topics,
                    start: Start::Latest,
                    stored: &[],
                    forgotten: &forgotten,
                    rivals,
                    attached: &[],
                    looked_before: false,
                };
                let starts = place(&known, &found(&[("a", 1, 2)]));
                let of_log = starts.iter().filter(|begin| matches!(begin, Placement::Begin { at: StartAt::LogStart, .. })).count();
                assert_eq!(
                    (starts.len(), of_log),
                    (2, if from_start { 2 } else { 0 }),
                    "of cluster {cluster}, rivals {rivals}: {starts:?}"
                );
            }
        }
    }

    /// Both became partitions of one number, and one decision gave both the same key.
    #[test]
    fn a_number_that_two_slots_have_is_recreated_once_as_the_last_one() {
        let topics = Topics::Named(vec!["a".into()]);
        let state = [stored("c", "a", 7, 1), stored("c", "a", 7, 0), stored("x", "a", 8, 0)];
        let forgotten = BTreeSet::new();
        let known = Known {
            event: "E",
            topics: &topics,
            start: Start::Latest,
            stored: &state,
            forgotten: &forgotten,
            rivals: false,
            attached: &[],
            looked_before: false,
        };
        let recreated = |at: usize| Placement::Recreated { stored: state[at].clone(), now: TopicId([1; 16]) };
        assert_eq!(place(&known, &found(&[("a", 1, 2)])), [recreated(2), recreated(0)]);
    }
}
