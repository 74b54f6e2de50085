//! The newest records of a source, read once and beside everything: no position is kept, no group is joined, nothing is
//! committed. For `sample` and `check --sample`, which show what would become of them before anything runs.
//!
//! Each partition is read from a little before its end as it stood at the beginning, so that this ends on a topic that
//! moves too. A transaction that is open hides what is behind it, and a compacted log has fewer records than offsets:
//! then there are fewer than were asked for.

use crate::cluster::{Brokers, Cluster};
use crate::config::{KafkaSource, Topics};
use crate::ext::{Assignment, Batch, Client, Inbox, Isolation, OffsetSpec, code};
use crate::ingest::read::raw;
use crate::registry::{Http, RegistryError, fetch};
use crate::settings::{self, Budget};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use streamgauge_api::inlet::FetchedSchema;
use streamgauge_api::{ApiError, Code, RawRecord, SchemaId, Slot};

/// Bytes that the client may hold of what it fetched.
const MEMORY_BYTES: u64 = 32 << 20;
/// Longest wait for one batch.
const DRAIN_WAIT: Duration = Duration::from_millis(100);

/// Where a partition's sample begins and ends.
#[derive(Debug)]
struct Part {
    topic: String,
    partition: i32,
    from: i64,
    end: i64,
    /// The next offset.
    at: i64,
}

impl Part {
    fn is_done(&self) -> bool {
        self.at >= self.end
    }
}

/// Shows up to `count` of the newest records, as they come, with topic and partition. `limit` bounds the whole.
///
/// # Errors
/// No broker answers, a topic is not there or may not be read, or what `each` says.
pub fn sample(
    source: &KafkaSource,
    count: usize,
    limit: Duration,
    each: &mut dyn FnMut(&RawRecord<'_>, &str, i32) -> Result<(), ApiError>,
) -> Result<usize, ApiError> {
    let deadline = Instant::now() + limit;
    let mut parts = parts(source, count, limit)?;
    parts.retain(|part| !part.is_done());
    if parts.is_empty() {
        return Ok(0);
    }
    let unreachable = |text: String| ApiError::new(Code::BrokerUnreachable, text).at(format!("sources.{}.kafka", source.name));
    let settings = settings::reader(source, "sample", Budget::share(MEMORY_BYTES, 1, source.brokers.len()));
    let client = Client::new(&settings, Arc::new(Inbox::default())).map_err(|error| unreachable(error.text))?;
    let starts: Vec<Assignment<'_>> =
        parts.iter().map(|part| Assignment { topic: &part.topic, partition: part.partition, offset: part.from, epoch: -1 }).collect();
    client.assign(&starts).map_err(|error| unreachable(error.text))?;
    let mut batch = Batch::new();
    let mut taken = 0;
    while taken < count && parts.iter().any(|part| !part.is_done()) {
        if Instant::now() >= deadline {
            let words: Vec<String> = client.inbox().take_errors().into_iter().map(|error| error.text).take(3).collect();
            let why = if words.is_empty() { String::new() } else { format!(": {}", words.join("; ")) };
            return Err(unreachable(format!("{taken} records came within {} s{why}", limit.as_secs())));
        }
        client.drain(&mut batch, DRAIN_WAIT);
        for message in batch.messages(0) {
            let Some(part) = parts.iter_mut().find(|part| part.partition == message.partition() && part.topic == message.topic()) else {
                continue;
            };
            match message.code() {
                0 if message.offset() >= part.at && !part.is_done() && taken < count => {
                    part.at = message.offset() + 1;
                    taken += 1;
                    each(&raw(Slot(0), message), &part.topic, part.partition)?;
                }
                0 => {}
                code::PARTITION_EOF => part.at = part.end,
                _ => return Err(unreachable(format!("{}/{}: {}", part.topic, part.partition, message.error_text()))),
            }
        }
    }
    Ok(taken)
}

/// The last offsets of each partition, shared out so that they add up to `count` where there are so many.
fn parts(source: &KafkaSource, count: usize, limit: Duration) -> Result<Vec<Part>, ApiError> {
    let path = format!("sources.{}.kafka", source.name);
    let unreachable = |text: String| ApiError::new(Code::BrokerUnreachable, text).at(path.clone());
    let mut brokers = Brokers::new(&settings::control(source, "sample"), source.topic_ids).map_err(|error| unreachable(error.text))?;
    let names = match &source.topics {
        Topics::Named(names) => names.clone(),
        Topics::Matching(pattern) => {
            let all = brokers.topics(limit).map_err(|error| unreachable(error.text))?;
            all.into_iter().filter(|topic| pattern.matches(topic)).collect()
        }
    };
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    let topics = brokers.describe(&asked, limit).map_err(|error| unreachable(error.text))?;
    let mut partitions = Vec::new();
    for topic in &topics {
        if let Some(error) = &topic.error {
            return Err(ApiError::new(Code::TopicNotFound, format!("topic {}: {}", topic.name, error.text)).at(path));
        }
        partitions.extend(topic.partitions.iter().map(|(partition, _)| (topic.name.as_str(), *partition)));
    }
    let mut ends = BTreeMap::new();
    for (spec, first) in [(OffsetSpec::Earliest, true), (OffsetSpec::Latest, false)] {
        let asked: Vec<(&str, i32, OffsetSpec)> = partitions.iter().map(|(topic, partition)| (*topic, *partition, spec)).collect();
        for answer in brokers.offsets(&asked, Isolation::ReadCommitted, limit).map_err(|error| unreachable(error.text))? {
            let (offset, _) =
                answer.result.map_err(|error| unreachable(format!("{}/{}: {}", answer.topic, answer.partition, error.text)))?;
            let known: &mut (i64, i64) = ends.entry((answer.topic, answer.partition)).or_default();
            if first { known.0 = offset } else { known.1 = offset }
        }
    }
    // The fewest first, so that what they lack is taken of the others.
    let mut ends: Vec<((String, i32), (i64, i64))> = ends.into_iter().collect();
    ends.sort_by_key(|(_, (low, end))| end - low);
    let (mut left, mut parts) = (i64::try_from(count).unwrap_or(i64::MAX), Vec::with_capacity(ends.len()));
    let all = ends.len();
    for (index, ((topic, partition), (low, end))) in ends.into_iter().enumerate() {
        let others = i64::try_from(all - index).unwrap_or(i64::MAX);
        let share = ((left + others - 1) / others).min(end - low).max(0);
        left -= share;
        parts.push(Part { topic, partition, from: end - share, end, at: end - share });
    }
    parts.sort_by(|one, other| (&one.topic, one.partition).cmp(&(&other.topic, other.partition)));
    Ok(parts)
}

/// Schemas of a source's registry, asked for one by one.
pub struct Schemas {
    http: Option<Http>,
    path: String,
}

impl std::fmt::Debug for Schemas {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Schemas").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Schemas {
    /// Of the registry that the source has, if it has one.
    ///
    /// # Errors
    /// Its certificates cannot be read.
    pub fn new(source: &KafkaSource) -> Result<Self, ApiError> {
        let path = format!("sources.{}.registry", source.name);
        let http = source.registry.as_ref().map(Http::new).transpose();
        let http = http.map_err(|error| ApiError::new(Code::RegistryUnreachable, error.to_string()).at(path.clone()))?;
        Ok(Self { http, path })
    }

    /// The schema of an id; `Err(Ok(why))` where the registry says that there is none.
    ///
    /// # Errors
    /// It is not there, or the registry does not answer.
    pub fn get(&self, id: SchemaId) -> Result<FetchedSchema, Result<String, ApiError>> {
        let Some(http) = &self.http else { return Err(Ok("no registry is configured".to_owned())) };
        fetch::schema(http, id).map_err(|error| match error {
            RegistryError::Missing(why) => Ok(why),
            RegistryError::Down(text) => Err(ApiError::new(Code::RegistryUnreachable, text).at(self.path.clone())),
        })
    }
}
