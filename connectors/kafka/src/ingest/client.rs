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
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use streamgauge_api::TopicId;

/// The least time between two readers that are made for a partition of which nothing is heard.
const RENEW_EVERY: Duration = Duration::from_secs(60);

/// What is known of the reader.
pub(super) struct Reader {
    settings: Vec<(String, String)>,
    /// Topics that it was given, by name, with the cluster and the id that they had; none where that may be another by now.
    topics: HashMap<String, Option<(String, TopicId)>>,
    /// Connections of the readers before it.
    connects: u64,
    renewed: Option<Instant>,
}

impl Reader {
    pub(super) fn new(settings: Vec<(String, String)>) -> Self {
        Self { settings, topics: HashMap::new(), connects: 0, renewed: None }
    }
}

impl Ingest {
    /// Whether the reader was ever given a partition of this topic.
    pub(super) fn has_read(&self, topic: &str) -> bool {
        self.reader.topics.contains_key(topic)
    }

    /// The reader was given this partition.
    pub(super) fn read_as(&mut self, index: usize) {
        let key = &self.tracks[index].key;
        self.reader.topics.insert(key.topic.clone(), Some((key.cluster.clone(), key.topic_id)));
    }

    /// What the reader remembers of the partition's topic may be of another one.
    pub(super) fn distrust_client(&mut self, index: usize) {
        if let Some(known) = self.reader.topics.get_mut(&self.tracks[index].key.topic) {
            *known = None;
        }
    }

    /// Makes the reader anew when it knows the topic of one of these partitions as another one.
    pub(super) fn fit_client(&mut self, indexes: impl Iterator<Item = usize>) {
        let is_another = |index: usize| {
            let key = &self.tracks[index].key;
            let known = self.reader.topics.get(&key.topic);
            known.is_some_and(|known| known.as_ref() != Some(&(key.cluster.clone(), key.topic_id)))
        };
        if indexes.into_iter().any(is_another) {
            self.renew_client("a topic was made anew");
        }
    }

    /// Nothing was heard of an assigned partition though its brokers answer: it is asked about again, and when that is in
    /// vain, with another reader.
    pub(super) fn hear_again(&mut self, index: usize, now: Instant) {
        let track = &mut self.tracks[index];
        track.moved = now;
        track.deaf += 1;
        let is_due = self.reader.renewed.is_none_or(|renewed| now.duration_since(renewed) >= RENEW_EVERY);
        if track.deaf > 1 && is_due {
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
