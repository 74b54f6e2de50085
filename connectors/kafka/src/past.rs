//! A source read a second time, bounded: history for tables that are being filled.
//!
//! A client of its own, named `..-history` so that brokers can give it a quota, with a tenth of the memory for Kafka. Each
//! partition has a queue of its own: the caller drains those that it wants records of, and one that is ahead stops
//! fetching by itself when its queue is full; nothing is paused, nothing unassigned. Ends come through the same queues, as
//! offsets, so that control records and aborted tails in front of an end need no further record to be passed.
//!
//! Questions (topic ids, log starts, offsets by time) go to a control client. What is wrong is told as what the caller
//! can do about it: wait, begin anew, or accept a gap. Called on the history thread alone.

use crate::cluster::{Brokers, Cluster};
use crate::config::KafkaSource;
use crate::ext::{Assignment, Batch, Client, ClientError, Inbox, Isolation, OffsetSpec, PartitionQueue, code};
use crate::ingest::read::raw;
use crate::registry::{Http, RegistryError, fetch};
use crate::settings::{self, Budget};
use crate::start::Options;
use std::sync::Arc;
use std::time::Duration;
use streamgauge_api::inlet::FetchedSchema;
use streamgauge_api::past::{Past, PastFrom, PastRange, PastRead, PastReader, PastTrouble};
use streamgauge_api::{PartitionKey, RawRecord, SchemaId, Slot};

/// One question to the brokers.
const ASK_LIMIT: Duration = Duration::from_secs(5);
/// Records per call of `take`.
const CHUNK_RECORDS: usize = 512;
/// The client's part of the memory for Kafka.
const MEMORY_SHARE: u64 = 10;

/// The sources of a server.
pub struct KafkaPast {
    sources: Vec<KafkaSource>,
    options: Options,
}

impl KafkaPast {
    /// Over these sources.
    pub fn new(sources: Vec<KafkaSource>, options: Options) -> Self {
        Self { sources, options }
    }

    fn source(&self, name: &str) -> Result<&KafkaSource, PastTrouble> {
        self.sources
            .iter()
            .find(|source| source.name == name)
            .ok_or_else(|| PastTrouble::Moved(format!("no source \"{name}\" is configured any more")))
    }
}

impl Past for KafkaPast {
    fn sources_of(&self, event: &str) -> Vec<String> {
        self.sources.iter().filter(|source| source.event == event).map(|source| source.name.clone()).collect()
    }

    fn selects(&self, source: &str, topic: &str) -> bool {
        self.source(source).is_ok_and(|source| source.topics.selects(topic))
    }

    fn open(&self, source: &str, partitions: &[PartitionKey]) -> Result<Box<dyn PastReader>, PastTrouble> {
        let source = self.source(source)?;
        let budget = Budget::share(self.options.memory_bytes / MEMORY_SHARE, 1, source.brokers.len());
        let mut reader = settings::reader(source, &self.options.instance, budget);
        let share = partitions.len().max(1) as u64;
        for (name, value) in &mut reader {
            let bounded = |least: u64, all: u64| (all / share).max(least).to_string();
            match name.as_str() {
                "client.id" => value.push_str("-history"),
                // Limits of queues hold for each partition's own.
                "queued.max.messages.kbytes" => *value = bounded(256, budget.queued_kbytes),
                "queued.min.messages" => *value = bounded(500, budget.queued_records),
                "fetch.message.max.bytes" => *value = (budget.queued_kbytes * 1024 / share).clamp(64 << 10, 1 << 20).to_string(),
                _ => {}
            }
        }
        let away = |error: ClientError| PastTrouble::Away(error.to_string());
        let control = settings::control(source, &self.options.instance).into_iter().map(|(name, value)| {
            let value = if name == "client.id" { format!("{value}-history") } else { value };
            (name, value)
        });
        let brokers = Brokers::new(&control.collect::<Vec<_>>(), source.topic_ids).map_err(away)?;
        Ok(Box::new(Reader {
            settings: reader,
            registry: source.registry.clone(),
            http: None,
            brokers,
            parts: partitions.iter().map(|key| Part { key: key.clone(), queue: None, batch: Batch::new(), at: 0, next: 0 }).collect(),
            client: None,
        }))
    }
}

/// A partition that is read.
struct Part {
    key: PartitionKey,
    queue: Option<PartitionQueue>,
    batch: Batch,
    /// The first message of the batch that was not dealt with.
    at: usize,
    /// Everything below was given.
    next: i64,
}

/// See the module's head. Queues and batches go before the client.
struct Reader {
    parts: Vec<Part>,
    client: Option<Client>,
    settings: Vec<(String, String)>,
    registry: Option<crate::config::RegistryConfig>,
    http: Option<Http>,
    brokers: Brokers,
}

impl Reader {
    fn places(&self) -> impl Iterator<Item = (&str, i32)> {
        self.parts.iter().map(|part| (part.key.topic.as_str(), part.key.partition))
    }

    /// Whether each topic is the one that the positions are of.
    fn same_topics(&mut self) -> Result<(), PastTrouble> {
        let away = |error: ClientError| PastTrouble::Away(error.to_string());
        let mut names: Vec<String> = self.places().map(|(topic, _)| topic.to_owned()).collect();
        names.sort_unstable();
        names.dedup();
        let cluster = self.brokers.id(ASK_LIMIT).map_err(away)?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let topics = self.brokers.describe(&names, ASK_LIMIT).map_err(away)?;
        for part in &self.parts {
            let PartitionKey { topic, topic_id, cluster: known, .. } = &part.key;
            let Some(found) = topics.iter().find(|found| found.name == *topic) else {
                return Err(PastTrouble::Away(format!("no answer about topic {topic}")));
            };
            match &found.error {
                Some(error) if error.code == code::UNKNOWN_TOPIC_OR_PART => {
                    return Err(PastTrouble::Moved(format!("topic {topic} is not there")));
                }
                Some(error) => return Err(PastTrouble::Away(format!("topic {topic}: {error}"))),
                None => {}
            }
            let is_same = !topic_id.is_known() || !found.id.is_known() || found.id == *topic_id;
            if !is_same || (!known.is_empty() && *known != cluster) {
                return Err(PastTrouble::Moved(format!("topic {topic} was made anew, or is another cluster's")));
            }
        }
        Ok(())
    }

    fn offsets(&mut self, spec: OffsetSpec, isolation: Isolation) -> Result<Vec<i64>, PastTrouble> {
        let away = |error: ClientError| PastTrouble::Away(error.to_string());
        let asked: Vec<(String, i32)> = self.places().map(|(topic, partition)| (topic.to_owned(), partition)).collect();
        let asked: Vec<(&str, i32, OffsetSpec)> = asked.iter().map(|(topic, partition)| (topic.as_str(), *partition, spec)).collect();
        let answers = self.brokers.offsets(&asked, isolation, ASK_LIMIT).map_err(away)?;
        let of = |(topic, partition, _): &(&str, i32, OffsetSpec)| {
            let answer = answers.iter().find(|answer| answer.topic == **topic && answer.partition == *partition);
            let answer = answer.ok_or_else(|| PastTrouble::Away(format!("no answer about the log of {topic}/{partition}")))?;
            answer.result.clone().map(|(offset, _)| offset).map_err(|error| PastTrouble::Away(format!("{topic}/{partition}: {error}")))
        };
        asked.iter().map(of).collect()
    }
}

impl PastReader for Reader {
    fn ranges(&mut self, from: PastFrom) -> Result<Vec<PastRange>, PastTrouble> {
        self.same_topics()?;
        let lows = self.offsets(OffsetSpec::Earliest, Isolation::ReadUncommitted)?;
        let ends = self.offsets(OffsetSpec::Latest, Isolation::ReadCommitted)?;
        let starts = match from {
            PastFrom::LogStart => lows.clone(),
            PastFrom::Time(ms) => {
                let found = self.offsets(OffsetSpec::Timestamp(ms), Isolation::ReadUncommitted)?;
                // -1: no record is so young, and whatever comes is.
                found.into_iter().zip(&ends).map(|(found, end)| if found < 0 { *end } else { found }).collect()
            }
        };
        let range = |((low, start), end): ((i64, i64), i64)| PastRange { low, start: start.max(low), end: end.max(low) };
        Ok(lows.into_iter().zip(starts).zip(ends).map(range).collect())
    }

    fn begin(&mut self, starts: &[i64]) -> Result<(), PastTrouble> {
        assert_eq!(starts.len(), self.parts.len(), "each partition has its start");
        let away = |error: ClientError| PastTrouble::Away(error.to_string());
        for part in &mut self.parts {
            part.batch.clear();
            part.queue = None;
        }
        self.client = None;
        let client = Client::new(&self.settings, Arc::new(Inbox::default())).map_err(away)?;
        client.greet(ASK_LIMIT).map_err(away)?;
        let mut assignments = Vec::with_capacity(starts.len());
        for (part, &start) in self.parts.iter_mut().zip(starts) {
            part.queue = Some(client.partition_queue(&part.key.topic, part.key.partition).map_err(away)?);
            (part.at, part.next) = (0, start);
            assignments.push(Assignment { topic: &part.key.topic, partition: part.key.partition, offset: start, epoch: -1 });
        }
        client.assign(&assignments).map_err(away)?;
        self.client = Some(client);
        Ok(())
    }

    fn read(
        &mut self,
        partition: usize,
        until: i64,
        wait: Duration,
        take: &mut dyn FnMut(&[RawRecord<'_>]) -> usize,
    ) -> Result<PastRead, PastTrouble> {
        let Some(client) = &self.client else { unreachable!("reading was begun") };
        for change in client.inbox().take_changes() {
            // A client that had no id learns the one that the positions are of.
            let is_other = |part: &Part| part.key.topic == change.topic && part.key.topic_id.is_known() && part.key.topic_id != change.to;
            if change.to.is_known() && self.parts.iter().any(is_other) {
                return Err(PastTrouble::Moved(format!("topic {} was made anew", change.topic)));
            }
        }
        let Some(part) = self.parts.get_mut(partition) else { unreachable!("partition {partition} was opened") };
        if part.next >= until {
            return Ok(PastRead::Complete);
        }
        if part.at == part.batch.len() {
            let Some(queue) = &part.queue else { unreachable!("reading was begun") };
            queue.drain(&mut part.batch, wait);
            part.at = 0;
            if part.batch.is_empty() {
                // The client's own news come through its queue: errors and statistics.
                client.drain(&mut Batch::new(), Duration::ZERO);
                return match client.inbox().take_errors().into_iter().next() {
                    Some(error) => Err(PastTrouble::Away(error.to_string())),
                    None => Ok(PastRead::More),
                };
            }
        }
        let place = format_args!("{}/{}", part.key.topic, part.key.partition).to_string();
        let mut chunk: Vec<RawRecord<'_>> = Vec::with_capacity(CHUNK_RECORDS.min(part.batch.len() - part.at));
        let (mut end, mut event) = (part.at, None);
        for message in part.batch.messages(part.at) {
            if message.code() != 0 || chunk.len() == CHUNK_RECORDS || message.offset() >= until {
                event = Some(message);
                break;
            }
            end += 1;
            if message.offset() >= part.next {
                chunk.push(raw(Slot(0), message));
            }
        }
        let mut next = part.next;
        if !chunk.is_empty() {
            let taken = take(&chunk).min(chunk.len());
            if let Some(last) = chunk[..taken].last() {
                next = last.offset + 1;
            }
            if taken < chunk.len() {
                // What was not taken comes again: records in front of it are left out by their offsets.
                part.next = next;
                return Ok(PastRead::More);
            }
        }
        (part.at, part.next) = (end, next);
        let Some(message) = event.filter(|message| message.code() != 0 || message.offset() >= until) else { return Ok(PastRead::More) };
        match message.code() {
            // A record at or beyond the end: what lies before it was given.
            0 => part.next = until,
            code::PARTITION_EOF => {
                part.next = part.next.max(message.offset());
                part.at += 1;
            }
            code::AUTO_OFFSET_RESET => return Err(PastTrouble::Gap(format!("{place}: {}", message.error_text()))),
            code::UNKNOWN_TOPIC_OR_PART => return Err(PastTrouble::Moved(format!("{place}: {}", message.error_text()))),
            _ => {
                let text = format!("{place}: {}", message.error_text());
                part.at += 1;
                return Err(PastTrouble::Away(text));
            }
        }
        Ok(if part.next >= until { PastRead::Complete } else { PastRead::More })
    }

    fn schema(&mut self, id: SchemaId) -> Result<Option<FetchedSchema>, PastTrouble> {
        let Some(config) = &self.registry else { return Ok(None) };
        let away = |error: RegistryError| PastTrouble::Away(error.to_string());
        let http = match self.http.take() {
            Some(http) => http,
            None => Http::new(config).map_err(away)?,
        };
        match fetch::schema(self.http.insert(http), id) {
            Ok(schema) => Ok(Some(schema)),
            Err(RegistryError::Missing(_)) => Ok(None),
            Err(error) => Err(away(error)),
        }
    }
}
