//! Drain, offer, back-pressure.
//!
//! A batch is offered in chunks without copying keys or values. Its messages are dealt with in order: records up to the first event (an end of partition, an
//! error) are offered, then the event is handled. When the inlet is full the rest of the batch is held; when it stays full, everything is
//! unassigned and the rest is dropped, because it will be read again from our positions.

use super::{Ingest, STEP};
use crate::ext::{Batch, Message, code};
use crate::incidents::Cause;
use crate::track::{Phase, Suspicion, Wanted};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use streamgauge_api::counters::add;
use streamgauge_api::inlet::Headers;
use streamgauge_api::source::IncidentKind;
use streamgauge_api::{RawRecord, SchemaId, Slot, Stop};

/// Records per offer: small enough that their frames stay in the cache, large enough that the call does not count.
const CHUNK_RECORDS: usize = 512;

/// How long a full inlet is waited for with the batch in hand.
const FULL_LIMIT: Duration = Duration::from_secs(1);

/// Whether a batch was dealt with to its end.
#[derive(Debug, PartialEq, Eq)]
enum Flow {
    Done,
    Full,
}

/// Where an offered record came from.
#[derive(Debug, Clone, Copy)]
struct Mark {
    message: usize,
    track: usize,
}

impl Ingest {
    /// One step of reading.
    pub(super) fn read(&mut self) {
        let Some(mut batch) = self.batch.take() else { return };
        match (self.full_since, self.pressed) {
            (Some(since), _) => {
                self.wait_for_room(&mut batch, since);
                self.busy_at = Instant::now();
            }
            (None, _) => {
                self.client.drain(&mut batch, STEP);
                self.drain += 1;
                self.cursor = 0;
                match batch.is_empty() {
                    true => self.empty_at = Instant::now(),
                    false => self.busy_at = Instant::now(),
                }
                self.hear_client();
                self.deal_with(&mut batch);
            }
        }
        self.batch = Some(batch);
    }

    /// Everything the client told outside of messages. The fence comes first: it must act before a record of this drain is used.
    fn hear_client(&mut self) {
        let changes = self.client.inbox().take_changes();
        if !changes.is_empty() {
            self.fenced(&changes);
        }
        let errors = self.client.inbox().take_errors();
        if !errors.is_empty() {
            self.connection_errors(errors);
        }
        if let Some(json) = self.client.inbox().take_statistics() {
            self.statistics(&json);
        }
    }

    fn deal_with(&mut self, batch: &mut Batch) {
        let saturated = batch.len() == crate::ext::BATCH_RECORDS_MAX;
        let flow = self.offer_all(batch);
        // A quiet stream must be visible at once; in a flood the inlet hands over by itself.
        if flow == Flow::Full || (!saturated && !batch.is_empty() && !self.inlet.flush()) {
            self.full_since.get_or_insert_with(Instant::now);
        } else {
            self.full_since = None;
            batch.clear();
        }
        self.show_read();
    }

    fn wait_for_room(&mut self, batch: &mut Batch, since: Instant) {
        let asked = Instant::now();
        let room = self.inlet.wait_room(STEP);
        add(&self.counters.full_ms, u64::try_from(asked.elapsed().as_millis()).unwrap_or(0));
        if self.pressed {
            self.client.drain(batch, Duration::ZERO);
            self.drain += 1;
            self.cursor = 0;
            self.hear_client();
            batch.clear();
        }
        match (room, self.pressed) {
            (true, false) => self.deal_with(batch),
            (true, true) => self.release(),
            (false, false) if since.elapsed() > FULL_LIMIT => self.press(batch),
            (false, _) => {}
        }
    }

    /// Full for too long: give everything back to the client, so that nothing is pinned and the client's own limits hold.
    fn press(&mut self, batch: &mut Batch) {
        batch.clear();
        self.cursor = 0;
        self.pressed = true;
        add(&self.counters.back_pressures, 1);
        let reading: Vec<usize> = self.indexes(|phase| matches!(phase, Phase::Reading | Phase::Probing { .. }));
        self.unassign(&reading);
        for index in reading {
            self.tracks[index].phase = Phase::Held;
        }
        tracing::debug!(source = %self.source.name, "inlet full: all partitions unassigned");
    }

    fn release(&mut self) {
        // What was collected before the press has to leave first.
        if !self.inlet.flush() {
            return;
        }
        self.pressed = false;
        self.full_since = None;
        let held = self.indexes(|phase| phase == Phase::Held);
        self.ask(&held);
    }

    pub(super) fn indexes(&self, of: impl Fn(Phase) -> bool) -> Vec<usize> {
        (0..self.tracks.len()).filter(|index| of(self.tracks[*index].phase)).collect()
    }

    /// Offers the batch from the cursor on.
    fn offer_all(&mut self, batch: &Batch) -> Flow {
        let mut marks: Vec<Mark> = Vec::with_capacity(CHUNK_RECORDS);
        while self.cursor < batch.len() {
            marks.clear();
            let mut chunk: Vec<RawRecord<'_>> = Vec::with_capacity(CHUNK_RECORDS.min(batch.len() - self.cursor));
            let (end, event) = self.fill(batch, &mut chunk, &mut marks);
            if let Some(rest) = self.offer(&mut chunk, &mut marks) {
                self.cursor = rest;
                return Flow::Full;
            }
            self.cursor = end;
            if let Some(message) = event {
                self.event(message);
                self.cursor += 1;
            }
        }
        Flow::Done
    }

    /// Collects records that are wanted, up to a full chunk or the first event. Returns the first message not looked at, and the event there.
    fn fill<'a>(&mut self, batch: &'a Batch, chunk: &mut Vec<RawRecord<'a>>, marks: &mut Vec<Mark>) -> (usize, Option<&'a Message>) {
        let first = self.cursor;
        // Records come in runs of one partition; the topic's name is looked up once per run.
        let mut run: (usize, i32, Option<usize>) = (0, -1, None);
        for (number, message) in batch.messages(first).enumerate() {
            let number = first + number;
            if message.code() != 0 {
                return (number, Some(message));
            }
            if chunk.len() == CHUNK_RECORDS {
                return (number, None);
            }
            if run.0 != message.topic_mark() || run.1 != message.partition() {
                run = (message.topic_mark(), message.partition(), self.index_of(message.topic(), message.partition()));
            }
            let Some(index) = run.2 else { continue };
            let track = &mut self.tracks[index];
            match track.wants(self.drain, message.offset()) {
                Wanted::Yes { jump } => {
                    if jump {
                        add(&self.counters.offset_jumps, 1);
                    }
                    marks.push(Mark { message: number, track: index });
                    chunk.push(raw(track.slot, message));
                }
                Wanted::Duplicate => add(&self.counters.duplicates, 1),
                Wanted::Stale => {}
            }
        }
        (batch.len(), None)
    }

    /// Offers a chunk. `Some`: the inlet is full, and this is the first message that it did not take.
    fn offer(&mut self, chunk: &mut Vec<RawRecord<'_>>, marks: &mut Vec<Mark>) -> Option<usize> {
        while !chunk.is_empty() {
            let offered = self.inlet.offer(chunk);
            let taken = offered.taken.min(chunk.len());
            for (record, mark) in chunk[..taken].iter().zip(marks.iter()) {
                self.tracks[mark.track].took(record.offset, record.epoch, record.timestamp_ms);
            }
            chunk.drain(..taken);
            marks.drain(..taken);
            let Some(stopped) = marks.first().copied() else { break };
            match offered.stop {
                Some(Stop::NeedSchema { slot, id }) => {
                    let made_ms = chunk.first().map_or(-1, |record| record.timestamp_ms);
                    drop_slot(chunk, marks, slot);
                    self.need_schema(slot, id, made_ms);
                }
                Some(Stop::Stalled { slot, cause, error }) => {
                    drop_slot(chunk, marks, slot);
                    if let Some(index) = self.track_of(slot) {
                        self.unassign(&[index]);
                        self.wait(index, Cause::parse(cause), &error.to_string());
                    }
                }
                Some(Stop::Truncated { slot, from, to, evidence }) => {
                    drop_slot(chunk, marks, slot);
                    if let Some(index) = self.track_of(slot) {
                        self.truncated(index, from, to, &evidence);
                    }
                }
                // Taking less without a reason is a full inlet that did not say so.
                Some(Stop::Full) | None => {
                    for mark in marks.iter() {
                        let track = &mut self.tracks[mark.track];
                        track.next = track.position.offset;
                    }
                    return Some(stopped.message);
                }
            }
        }
        None
    }

    /// `made_ms` is the record's time, -1 when it has none.
    fn need_schema(&mut self, slot: Slot, id: SchemaId, made_ms: i64) {
        let Some(index) = self.track_of(slot) else { return };
        self.unassign(&[index]);
        match &self.registry {
            Some(registry) => {
                let age_ms = u64::try_from(self.now_us() / 1000 - made_ms).unwrap_or(0);
                let age = (made_ms >= 0).then_some(Duration::from_millis(age_ms));
                registry.want(id, age, &self.replies.0);
                self.tracks[index].phase = Phase::AwaitingSchema { id };
            }
            None => self.wait(index, Cause::Schema, &format!("a record names schema id {id}, but the source has no registry")),
        }
    }

    /// An end of partition or bad news.
    fn event(&mut self, message: &Message) {
        let Some(index) = self.index_of(message.topic(), message.partition()) else {
            if message.code() != code::PARTITION_EOF {
                tracing::warn!(source = %self.source.name, code = message.code(), "client: {}", message.error_text());
                add(&self.counters.client_errors, 1);
            }
            return;
        };
        let track = &self.tracks[index];
        if self.drain < track.valid_from {
            return;
        }
        match (track.phase, message.code()) {
            (Phase::Reading, _) => {}
            // The client began to read: everything in front of the pair is as it was read.
            (Phase::Probing { after, .. }, code::PARTITION_EOF) if message.offset() >= after => {
                return self.probed(index, Suspicion::Common { to: after });
            }
            (Phase::Probing { after, low }, code::AUTO_OFFSET_RESET) => {
                let text = message.error_text();
                tracing::debug!(source = %self.source.name, topic = %track.key.topic, partition = track.key.partition, after, "probe: {text}");
                return self.probed(index, suspicion(&text, after).unwrap_or(Suspicion::Unprobed { low }));
            }
            (Phase::Probing { .. }, code::UNKNOWN_TOPIC_OR_PART) => return self.ask(&[index]),
            _ => return,
        }
        match message.code() {
            code::PARTITION_EOF => self.end_reached(index, message.offset()),
            code => {
                add(&self.counters.client_errors, 1);
                self.bad_news(index, code, message.error_text());
            }
        }
    }

    fn end_reached(&mut self, index: usize, offset: i64) {
        if !self.inlet.end_of_partition(self.tracks[index].slot, offset) {
            return self.doubt_end(index, offset);
        }
        let track = &mut self.tracks[index];
        track.reached(offset);
        track.read_end = track.read_end.max(Some(offset));
        if let Some(gauge) = &track.gauge {
            gauge.stable_offset.fetch_max(offset, Ordering::Relaxed);
            gauge.end_offset.fetch_max(offset, Ordering::Relaxed);
        }
        track.alive(Instant::now());
        // An end at the last stable offset says nothing about the transaction that holds it.
        match track.incident {
            Some((IncidentKind::Stalled, cause)) if cause != Cause::Lso => self.close(index),
            Some((IncidentKind::PartitionsGrew, _)) => self.close(index),
            _ => {}
        }
    }

    /// The log seems to end in front of what was read of it before: it was cut, or a broker that leads anew does not know
    /// yet how far it may show it, or a transaction is open there. The questions tell; once for each such end.
    fn doubt_end(&mut self, index: usize, offset: i64) {
        let track = &mut self.tracks[index];
        track.heard = true;
        if track.doubted.replace(offset) != Some(offset) {
            self.ask(&[index]);
        }
    }

    /// A partition's error message. After [`code::AUTO_OFFSET_RESET`] it is dead until assigned again.
    fn bad_news(&mut self, index: usize, code: i32, text: String) {
        let track = &mut self.tracks[index];
        tracing::debug!(source = %self.source.name, topic = %track.key.topic, partition = track.key.partition, code, "client: {text}");
        track.last_error = Some(crate::ext::ClientError { code, text: text.clone() });
        match code {
            code::AUTO_OFFSET_RESET => {
                track.suspicion = suspicion(&text, track.position.after);
                if track.suspicion.is_none() {
                    track.strikes += 1;
                }
                self.ask(&[index]);
            }
            code::TOPIC_AUTHORIZATION_FAILED => self.unassign_and_wait(index, Cause::Auth, &text),
            code::UNKNOWN_TOPIC_OR_PART => self.ask(&[index]),
            // The client goes on behind a batch that it cannot read; we do not, or its records would be missing in silence.
            code::BAD_COMPRESSION => {
                let hint = "if it takes more room than the client gives it, raise kafka.client \"receive.message.max.bytes\"";
                self.unassign_and_wait(index, Cause::Unknown, &format!("{text}; {hint}"));
            }
            code::BAD_MSG => {
                self.unassign_and_wait(index, Cause::Unknown, &format!("{text}; the batch is damaged on its broker or on its way"))
            }
            code::NOT_IMPLEMENTED => {
                let text = format!("{text}; this build of the client lacks the codec (cargo features of rdkafka: zstd, libz, ssl)");
                self.unassign_and_wait(index, Cause::Unknown, &text);
            }
            // Concerns group commits only, which are for lag tools.
            code::GROUP_AUTHORIZATION_FAILED => {}
            _ => {}
        }
    }

    fn unassign_and_wait(&mut self, index: usize, cause: Cause, text: &str) {
        self.unassign(&[index]);
        self.wait(index, cause, text);
    }

    fn show_read(&mut self) {
        for track in &mut self.tracks {
            if track.read > 0 {
                if let Some(gauge) = &track.gauge {
                    gauge.read_records.fetch_add(track.read, Ordering::Relaxed);
                }
                track.read = 0;
            }
        }
    }
}

/// A message as the engine takes it.
pub(crate) fn raw(slot: Slot, message: &Message) -> RawRecord<'_> {
    RawRecord {
        slot,
        offset: message.offset(),
        epoch: message.epoch(),
        timestamp_ms: message.timestamp_ms(),
        key: message.key(),
        value: message.value(),
        // Parsed when one is asked for, not before.
        headers: Some(message as &dyn Headers),
    }
}

/// Removes the records of one slot, keeping the others in order.
fn drop_slot(chunk: &mut Vec<RawRecord<'_>>, marks: &mut Vec<Mark>, slot: Slot) {
    let mut kept = 0;
    for index in 0..chunk.len() {
        if chunk[index].slot != slot {
            chunk.swap(kept, index);
            marks.swap(kept, index);
            kept += 1;
        }
    }
    chunk.truncate(kept);
    marks.truncate(kept);
}

/// What the text of a `_AUTO_OFFSET_RESET` says beyond "out of range". A truncation counts only at exactly our pair: any other offset is the client's own
/// position, which counts ends and prefetched records.
fn suspicion(text: &str, after: i64) -> Option<Suspicion> {
    let number = |marker: &str| -> Option<i64> {
        let rest = text.split_once(marker)?.1.trim_start();
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(rest.len());
        rest.get(..digits)?.parse().ok()
    };
    if text.contains("truncation detected") {
        let (from, to) = (number("at offset ")?, number("broker end offset is ")?);
        return (from == after).then(|| Suspicion::Cut { to, text: text.to_owned() });
    }
    text.contains("No epoch found").then(|| Suspicion::ForeignEpoch { text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncation_counts_only_at_our_own_pair() {
        let cut = "Partition log truncation detected at offset 150 (leader epoch 0): broker end offset is 100 (offset leader epoch 0)";
        for (text, after, expected) in [
            (cut, 150, Some(100)),
            (cut, 149, None),
            ("fetch failed due to requested offset not available on the broker: Broker: Offset out of range", 150, None),
        ] {
            let seen = suspicion(text, after).map(|suspicion| match suspicion {
                Suspicion::Cut { to, .. } => to,
                other => panic!("{other:?}"),
            });
            assert_eq!(seen, expected, "{text} at {after}");
        }
        let foreign = "No epoch found less or equal to offset 10 (leader epoch 4): broker end offset is -1";
        assert!(matches!(suspicion(foreign, 10), Some(Suspicion::ForeignEpoch { .. })));
    }
}
