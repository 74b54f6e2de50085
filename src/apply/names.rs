//! What numbers in frames mean: events and partitions, as of a place in the log.
//!
//! Frames name events by id and partitions by slot. What those are, a segment's head says for where
//! it begins, and the frames behind it say what changed; so whoever reads the log from any segment on
//! knows the names of that time, also those that are gone by now. The engine writes the heads
//! ([`Names::head`]), readers of the log carry the names along with what they read.

use super::codec::{decode, decode_skipped, events_of, row_counts_of};
use crate::pipeline::Registry;
use crate::row::EventId;
use crate::state::Content;
use crate::wal::{Frame, FrameKind};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use streamgauge_api::control::{LogPosition, LogRows};
use streamgauge_api::{PartitionKey, Slot, StoredPosition};

/// See the module's head.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Names {
    registry: Arc<Registry>,
    /// By slot.
    partitions: Vec<PartitionKey>,
}

#[derive(Serialize, Deserialize)]
struct HeadText {
    registry: String,
    partitions: Vec<PartitionKey>,
}

impl Names {
    /// The text of a head that says these; read back by [`Names::of_head`].
    pub(crate) fn head(registry: &Registry, partitions: &[StoredPosition]) -> Vec<u8> {
        let partitions = partitions.iter().map(|stored| stored.key.clone()).collect();
        let text = HeadText { registry: registry.to_json(), partitions };
        let Ok(json) = serde_json::to_vec(&text) else { unreachable!("texts and numbers always serialise") };
        json
    }

    /// What a head says. One without text stands where nothing was declared.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub(crate) fn of_head(text: &[u8]) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let HeadText { registry, partitions } = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let registry = Registry::from_json(&registry, crate::operators::OPERATORS).map_err(|error| error.to_string())?;
        Ok(Self { registry: Arc::new(registry), partitions })
    }

    /// Takes what a frame says of names. One that cannot be read is a start's to refuse; here it only
    /// leaves a name unknown.
    pub(crate) fn pass(&mut self, frame: &Frame<'_>) {
        match frame.kind {
            FrameKind::DEFINITION | FrameKind::PARTITION | FrameKind::MOVED | FrameKind::RESET => {}
            _ => return,
        }
        match decode(frame) {
            Ok(Content::Definition { registry, .. }) => self.registry = registry,
            Ok(Content::Reset) => self.registry = Arc::new(self.registry.reset()),
            Ok(Content::Partition(stored)) => self.partitions.push(stored.key),
            Ok(Content::Moved { slot, stored, .. }) => {
                if let Some(key) = self.partitions.get_mut(slot.0 as usize) {
                    *key = stored.key;
                }
            }
            _ => {}
        }
    }

    /// Whether a content changes what these are.
    pub(crate) fn are_changed_by(content: &Content) -> bool {
        matches!(content, Content::Definition { .. } | Content::Partition(_) | Content::Moved { .. } | Content::Reset)
    }

    /// The declarations.
    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    fn event(&self, event: EventId) -> String {
        self.registry.event_by_id(event).map_or_else(|| format!("event {}", event.0), |event| event.schema.name.to_string())
    }

    /// The partition of a slot.
    pub(crate) fn partition(&self, slot: Slot) -> Option<&PartitionKey> {
        self.partitions.get(slot.0 as usize)
    }

    /// The rows of a frame by event; how many is not known of rows that cannot be read.
    pub(crate) fn rows(&self, frame: &Frame<'_>) -> Vec<LogRows> {
        let row = |event, rows| LogRows { event: self.event(event), rows };
        match row_counts_of(frame) {
            Some(counts) => counts.into_iter().map(|(event, rows)| row(event, Some(rows))).collect(),
            None => events_of(frame).into_iter().map(|event| row(event, None)).collect(),
        }
    }

    /// How far a frame brings partitions.
    pub(crate) fn positions(&self, frame: &Frame<'_>) -> Vec<LogPosition> {
        if frame.kind != FrameKind::ROWS {
            return Vec::new();
        }
        // Whether it has a meaning is for a start to say.
        let Ok(Content::Skipped { positions, .. }) = decode_skipped(frame) else { return Vec::new() };
        let position = |(slot, position): (Slot, streamgauge_api::Position)| {
            let PartitionKey { event, topic, partition, .. } = self.partition(slot)?.clone();
            Some(LogPosition { event, topic, partition, next_offset: position.offset })
        };
        positions.into_iter().filter_map(position).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::apply::codec::{Encoded, encode, kind_of};
    use streamgauge_api::Position;

    #[test]
    fn a_head_and_the_frames_behind_it_say_the_names_of_any_place() {
        let key = |partition| PartitionKey {
            event: "Payment".into(),
            cluster: "c".into(),
            topic_id: streamgauge_api::TopicId([7; 16]),
            topic: "payments".into(),
            partition,
        };
        let stored = |partition| StoredPosition { key: key(partition), position: Position::FORGOTTEN };
        let head = Names::head(&Registry::default(), &[stored(0), stored(1)]);
        let mut names = Names::of_head(&head).unwrap();
        assert_eq!((names.partition(Slot(1)), names.partition(Slot(2))), (Some(&key(1)), None));
        let mut pass = |content: &Content| {
            let mut encoded = Encoded::default();
            encode(content, &mut encoded);
            let body = [&encoded.head[..], &encoded.tail[..]].concat();
            let (kind, positions) = (kind_of(content), &encoded.positions[..]);
            assert!(Names::are_changed_by(content));
            let (first_lsn, row_count, now_us, durable_lsn, flags) = (9, 0, 1, 8, 0);
            names.pass(&Frame { kind, flags, first_lsn, row_count, now_us, durable_lsn, positions, body: &body });
        };
        pass(&Content::Partition(stored(2)));
        pass(&Content::Moved { slot: Slot(0), stored: stored(9), reached: None, gap: None });
        let registry = Arc::new(Registry { version: 3, ..Registry::default() });
        pass(&Content::Definition { registry, effects: Vec::new() });
        assert_eq!((names.partition(Slot(2)), names.partition(Slot(0))), (Some(&key(2)), Some(&key(9))));
        assert_eq!(names.registry.version, 3);
        // What the next head says is the same again.
        let again = Names::head(&names.registry, &[stored(9), stored(1), stored(2)]);
        assert_eq!(Names::of_head(&again).unwrap(), names);
        assert_eq!(Names::of_head(&[]).unwrap(), Names::default());
        assert!(Names::of_head(b"{").is_err());
        assert_eq!(names.event(EventId(7)), "event 7");
    }
}
