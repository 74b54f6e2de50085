//! The reader client, and when another one takes its place.
//!
//! librdkafka remembers of each topic the highest leader epoch that it has seen, and ignores metadata with a smaller one as
//! out of date. A topic that is made anew under the same name begins with epoch 0, so that a client which has read the old
//! one never reads the new one. Nothing makes it forget: so the source's reader is made anew, and only then. Other sources
//! have readers of their own; the source's other partitions are asked about and read on from their positions.
//!
//! The control client needs none of this: its questions go to leaders that each answer names.

use super::{GREET_LIMIT, Ingest};
use crate::ext::{Client, ClientError, Inbox};
use crate::track::Phase;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use streamgauge_api::{PartitionKey, TopicId};

/// The least time between two readers that are made for a partition of which nothing is heard.
const RENEW_EVERY: Duration = Duration::from_secs(60);
/// It doubles with each that was in vain, up to this: the source's other partitions pay for it.
const RENEW_SELDOM: Duration = Duration::from_secs(3600);

/// What is known of the reader.
pub(super) struct Reader {
    settings: Vec<(String, String)>,
    /// Topics that it was given, by name, with the cluster and the id that they had; none where that may be another by now.
    topics: HashMap<String, Option<(String, TopicId)>>,
    /// Topics that it or a reader before it was given.
    ever: HashSet<String>,
    /// Connections of the readers before it.
    connects: u64,
    renewed: Option<Instant>,
}

impl Reader {
    pub(super) fn new(settings: Vec<(String, String)>) -> Self {
        Self { settings, topics: HashMap::new(), ever: HashSet::new(), connects: 0, renewed: None }
    }

    /// It reads a partition of this key. An id that is known stays: of one topic, positions may have it or not.
    fn reads(&mut self, key: &PartitionKey) {
        if !self.ever.contains(&key.topic) {
            self.ever.insert(key.topic.clone());
        }
        let known = self.topics.entry(key.topic.clone()).or_default();
        match known {
            Some((cluster, id)) if *cluster == key.cluster && id.is_known() && !key.topic_id.is_known() => {}
            _ => *known = Some((key.cluster.clone(), key.topic_id)),
        }
    }

    /// Whether it knows the topic of this name as another one. An unknown id says nothing.
    fn knows_as_another(&self, key: &PartitionKey) -> bool {
        match self.topics.get(&key.topic) {
            None => false,
            Some(None) => true,
            Some(Some((cluster, id))) => *cluster != key.cluster || (id.is_known() && key.topic_id.is_known() && *id != key.topic_id),
        }
    }

    /// Whether another reader may be made for a partition for which this was in vain so often.
    fn may_renew(&self, vain: u32, now: Instant) -> bool {
        let wait = RENEW_EVERY.saturating_mul(2u32.saturating_pow(vain)).min(RENEW_SELDOM);
        self.renewed.is_none_or(|renewed| now.duration_since(renewed) >= wait)
    }
}

impl Ingest {
    /// Whether a reader was ever given a partition of this topic.
    pub(super) fn has_read(&self, topic: &str) -> bool {
        self.reader.ever.contains(topic)
    }

    /// The reader was given this partition.
    pub(super) fn read_as(&mut self, index: usize) {
        self.reader.reads(&self.tracks[index].key);
    }

    /// What the reader remembers of the partition's topic may be of another one.
    pub(super) fn distrust_client(&mut self, index: usize) {
        if let Some(known) = self.reader.topics.get_mut(&self.tracks[index].key.topic) {
            *known = None;
        }
    }

    /// Makes the reader anew when it knows the topic of one of these partitions as another one.
    pub(super) fn fit_client(&mut self, indexes: impl Iterator<Item = usize>) {
        if indexes.into_iter().any(|index| self.reader.knows_as_another(&self.tracks[index].key)) {
            self.renew_client("a topic was made anew");
        }
    }

    /// Nothing was heard of an assigned partition though its brokers answer: it is asked about again, and when that is in
    /// vain, with another reader.
    pub(super) fn hear_again(&mut self, index: usize, now: Instant) {
        let track = &mut self.tracks[index];
        track.moved = now;
        track.deaf += 1;
        if track.deaf > 1 && self.reader.may_renew(track.renewals, now) {
            track.renewals += 1;
            self.renew_client("nothing is heard of a partition that it was given");
        }
        self.ask(&[index]);
    }

    fn renew_client(&mut self, why: &str) {
        let fresh = match Client::new(&self.reader.settings, Arc::new(Inbox::default())) {
            Ok(fresh) => fresh,
            Err(ClientError { text, .. }) => {
                tracing::error!(source = %self.source.name, "no other client can be made: {text}");
                return;
            }
        };
        tracing::info!(source = %self.source.name, why, "another client reads from here on");
        // Messages are the old client's: what was not taken of them is read again.
        let Some(batch) = &mut self.batch else { unreachable!("clients change between two drains") };
        batch.clear();
        self.cursor = 0;
        let held: Vec<usize> = self.indexes(|phase| matches!(phase, Phase::Reading | Phase::Probing { .. }));
        for track in &mut self.tracks {
            (track.assigned, track.client_id, track.next) = (false, None, track.position.offset);
            if let Some(gauge) = &track.gauge {
                gauge.reading.store(false, Ordering::Relaxed);
            }
        }
        self.reader.connects += self.client.inbox().connects();
        drop(std::mem::replace(&mut self.client, fresh));
        self.reader.topics.clear();
        self.reader.renewed = Some(Instant::now());
        if let Err(error) = self.client.greet(GREET_LIMIT) {
            tracing::debug!(source = %self.source.name, "not connected yet: {error}");
        }
        self.ask(&held);
    }

    /// Connections that were made since the start.
    pub(super) fn connects(&self) -> u64 {
        self.reader.connects + self.client.inbox().connects()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(cluster: &str, id: u8) -> PartitionKey {
        PartitionKey { event: "E".into(), cluster: cluster.into(), topic: "t".into(), topic_id: TopicId([id; 16]), partition: 0 }
    }

    /// Positions of one topic with and without its id took turns in making another reader, for ever.
    #[test]
    fn positions_with_and_without_an_id_share_a_reader() {
        for order in [[0, 1], [1, 0]] {
            let mut reader = Reader::new(Vec::new());
            for id in order.into_iter().chain(order) {
                assert!(!reader.knows_as_another(&key("c", id)), "id {id} of {order:?}");
                reader.reads(&key("c", id));
            }
            assert!(reader.knows_as_another(&key("c", 2)), "a known id is not forgotten: {order:?}");
            assert!(reader.knows_as_another(&key("d", 0)) && reader.knows_as_another(&key("d", 1)), "{order:?}");
        }
    }

    #[test]
    fn readers_that_are_made_in_vain_come_ever_more_seldom() {
        let made = Instant::now();
        let mut reader = Reader::new(Vec::new());
        assert!(reader.may_renew(9, made), "the first comes at once");
        reader.renewed = Some(made);
        for (vain, seconds) in [(0, 60), (1, 120), (2, 240), (5, 1920), (6, 3600), (40, 3600), (u32::MAX, 3600)] {
            assert!(!reader.may_renew(vain, made + Duration::from_secs(seconds - 1)), "{vain}");
            assert!(reader.may_renew(vain, made + Duration::from_secs(seconds)), "{vain}");
        }
    }
}
