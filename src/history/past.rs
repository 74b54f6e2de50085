//! Records of history into rows: the same decoder as live, with the clocks of the records' own time.
//!
//! A feed is one source's decoder and, for each of its partitions, the rows being packed, the position that the
//! row clock follows (`apply::partition_clock`) and the slices that the merge goes by. An event whose time is its
//! arrival takes the record's timestamp: that is when it arrived, as far as anybody knows now. A bad record is
//! counted by its code and left out: what became of it was decided when it came. Writer schemas that the state knows
//! need no registry; others are asked for, and one that is not there makes bad records.

use super::merge::{Cut, Lane};
use crate::apply::{SourceSetup, partition_clock};
use crate::decode::{DecodeError, Decoded, Decoder};
use crate::pipeline::Registry;
use crate::row::{EventSchema, RowClock, RowsBuilder, Strictness};
use std::collections::BTreeMap;
use std::sync::Arc;
use streamgauge_api::inlet::FetchedSchema;
use streamgauge_api::{ApiError, PartitionKey, Position, RawRecord, SchemaId};

/// Rows of one batch.
const ROWS_PER_BATCH: usize = 1024;
/// Timestamps before 2000-01-01 are no arrival.
const PLAUSIBLE_FROM_MS: i64 = 946_684_800_000;

/// One partition's rows.
struct Packing {
    key: PartitionKey,
    builder: RowsBuilder,
    cuts: Vec<Cut>,
    position: Position,
    first_time_ms: Option<i64>,
}

/// See the module's head.
pub(super) struct Feed {
    decoder: Decoder,
    parts: Vec<Packing>,
    bad: BTreeMap<&'static str, u64>,
}

impl Feed {
    /// Of a source's partitions.
    ///
    /// # Errors
    /// When the event does not fit the source any more.
    pub(super) fn new(
        setup: &SourceSetup,
        schema: &Arc<EventSchema>,
        registry: &Registry,
        known: &[FetchedSchema],
        partitions: &[PartitionKey],
    ) -> Result<Self, ApiError> {
        let mut decoder = Decoder::new(Arc::clone(schema), &setup.format)?;
        let same = |url: &String, schema: &FetchedSchema| url.trim_end_matches('/') == schema.registry.trim_end_matches('/');
        for schema in known.iter().filter(|schema| setup.registry_urls.iter().any(|url| same(url, schema))) {
            decoder.knows_schema(schema.id, schema);
        }
        let packing = |key: &PartitionKey| Packing {
            key: key.clone(),
            builder: RowsBuilder::new(Arc::clone(decoder.schema()), Strictness::Record)
                .with_keys(registry.text_keys(schema.id))
                .with_readings(decoder.readings().to_vec()),
            cuts: Vec::new(),
            position: Position::start(0),
            first_time_ms: None,
        };
        let parts = partitions.iter().map(packing).collect();
        Ok(Self { decoder, parts, bad: BTreeMap::new() })
    }

    /// Takes records of a partition; how many, and the schema that the next one needs, if that is why it ended.
    pub(super) fn take(&mut self, part: usize, records: &[RawRecord<'_>], lane: &mut Lane, now_us: i64) -> (usize, Option<SchemaId>) {
        let Self { decoder, parts, bad } = self;
        let Some(packing) = parts.get_mut(part) else { unreachable!("partition {part} was opened") };
        for (taken, record) in records.iter().enumerate() {
            let (clock_ms, mut clock) = partition_clock::advance(packing.position, record, &records[taken + 1..], now_us);
            if record.timestamp_ms >= PLAUSIBLE_FROM_MS {
                clock = RowClock { now_us: record.timestamp_ms.saturating_mul(1000).min(now_us), ..clock };
            }
            let slice = lane.slice(record.timestamp_ms, now_us.div_euclid(1000));
            let PartitionKey { topic, partition, .. } = &packing.key;
            match decoder.decode(record, topic, *partition, clock, &mut packing.builder, 0) {
                Ok(Decoded::Row | Decoded::Delete) => match packing.cuts.last_mut() {
                    Some((last, rows)) if *last == slice => *rows += 1,
                    last => {
                        let before = last.map_or(0, |cut| cut.1);
                        packing.cuts.push((slice, before + 1));
                    }
                },
                Ok(Decoded::Ignored) => {}
                Err(DecodeError::NeedSchema(id)) => return (taken, Some(id)),
                Err(DecodeError::Bad(row)) => *bad.entry(row.code.as_str()).or_default() += 1,
                Err(DecodeError::SchemaUnusable(error)) => *bad.entry(error.code.as_str()).or_default() += 1,
            }
            let next = record.offset + 1;
            packing.first_time_ms = packing.first_time_ms.or((record.timestamp_ms >= 0).then_some(record.timestamp_ms));
            packing.position = Position { offset: next, after: next, epoch: record.epoch, record_time_ms: record.timestamp_ms, clock_ms };
            let rows = packing.cuts.last().map_or(0, |cut| cut.1);
            if rows >= ROWS_PER_BATCH || packing.builder.is_full() {
                packing.flush(lane);
            }
        }
        (records.len(), None)
    }

    /// What was packed of a partition goes to its lane.
    pub(super) fn flush(&mut self, part: usize, lane: &mut Lane) {
        let Some(packing) = self.parts.get_mut(part) else { unreachable!("partition {part} was opened") };
        packing.flush(lane);
    }

    /// A schema that was asked for; none when there is none.
    pub(super) fn schema(&mut self, id: SchemaId, schema: Option<&FetchedSchema>) {
        match schema {
            // One that cannot serve the event makes bad records, as it did then.
            Some(schema) => drop(self.decoder.add_schema(id, schema)),
            None => self.decoder.schema_missing(id, "the registry does not have it"),
        }
    }

    /// Records that were no rows, by code.
    pub(super) fn bad(&self) -> &BTreeMap<&'static str, u64> {
        &self.bad
    }

    /// Timestamp of a partition's first record, ms.
    pub(super) fn first_time_ms(&self, part: usize) -> Option<i64> {
        self.parts.get(part).and_then(|packing| packing.first_time_ms)
    }
}

impl Packing {
    fn flush(&mut self, lane: &mut Lane) {
        if self.builder.is_empty() {
            return;
        }
        lane.push(self.builder.finish(), std::mem::take(&mut self.cuts));
    }
}
