//! The log as operators see it: which frames there are from an LSN on, and what each is about.
//!
//! A page is read through a tail reader of its own ([`crate::wal::TailReader`]), so that it begins
//! anywhere, ends at what is durable, and may wait there for the next frame. Rows are counted by
//! event and not shown. Names are those of the definitions and partitions that are in force now; an
//! event that is gone keeps its number. The seat is asked for names once a page; everything else
//! happens on the caller's thread.

use super::codec::{decode_skipped, events_of, row_counts_of};
use super::operator::EngineControl;
use crate::state::Content;
use crate::wal::{FrameKind, SharedFrame};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use streamgauge_api::control::{LogFrame, LogPage, LogPosition, LogRows};
use streamgauge_api::{ApiError, Code, PartitionKey, Position, Slot};

/// Whose cursor it is in `/status`.
const READER: &str = "admin";
/// Positions of one page: the page ends with the frame that passes this.
const POSITIONS_MAX: usize = 10_000;

/// A frame before anybody has named what it is about.
struct Described {
    frame: SharedFrame,
    events: Vec<(crate::row::EventId, Option<u64>)>,
    positions: Vec<(Slot, Position)>,
}

impl Described {
    fn of(shared: SharedFrame) -> Self {
        let frame = shared.frame();
        let events = match row_counts_of(&frame) {
            Some(counts) => counts.into_iter().map(|(event, rows)| (event, Some(rows))).collect(),
            None => events_of(&frame).into_iter().map(|event| (event, None)).collect(),
        };
        let positions = match frame.kind {
            FrameKind::ROWS => match decode_skipped(&frame) {
                Ok(Content::Skipped { positions, .. }) => positions,
                // Whether it has a meaning is for a start to say.
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        Self { frame: shared, events, positions }
    }
}

impl EngineControl {
    /// See [`streamgauge_api::Control::log`].
    pub(super) fn log_page(&self, from_lsn: Option<u64>, limit: usize, wait: Duration) -> Result<LogPage, ApiError> {
        let recovering = || ApiError::new(Code::Recovering, "state is being rebuilt from snapshot and WAL");
        let wal = self.wal.get().ok_or_else(recovering)?;
        let mut reader = wal.tail(READER, from_lsn.unwrap_or_else(|| wal.durable_lsn() + 1))?;
        let deadline = Instant::now() + wait;
        let (mut described, mut positions) = (Vec::new(), 0);
        while described.len() < limit && positions < POSITIONS_MAX {
            match reader.next()? {
                Some(frame) => {
                    let one = Described::of(frame);
                    positions += one.positions.len();
                    described.push(one);
                }
                None if described.is_empty() && reader.wait(deadline.saturating_duration_since(Instant::now()))? => {}
                None => break,
            }
        }
        let next_lsn = reader.next_lsn();
        drop(reader);
        let mut keys: BTreeMap<u32, PartitionKey> = BTreeMap::new();
        let slots = described.iter().flat_map(|one| one.positions.iter().map(|(slot, _)| slot.0));
        self.look(|engine| {
            let known = engine.state().partitions();
            keys.extend(slots.filter_map(|slot| Some((slot, known.get(slot as usize)?.key.clone()))));
        })?;
        let registry = self.facts.registry();
        let event_name = |event: crate::row::EventId| {
            registry.event_by_id(event).map_or_else(|| format!("event {}", event.0), |event| event.schema.name.to_string())
        };
        let named = |one: &Described| {
            let frame = one.frame.frame();
            let position = |(slot, position): &(Slot, Position)| {
                let key = keys.get(&slot.0)?;
                let (event, topic) = (key.event.clone(), key.topic.clone());
                Some(LogPosition { event, topic, partition: key.partition, next_offset: position.offset })
            };
            LogFrame {
                first_lsn: frame.first_lsn,
                last_lsn: frame.last_lsn(),
                kind: frame.kind.name().to_owned(),
                at_us: frame.now_us,
                bytes: one.frame.bytes() as u64,
                rows: one.events.iter().map(|(event, rows)| LogRows { event: event_name(*event), rows: *rows }).collect(),
                positions: one.positions.iter().filter_map(position).collect(),
            }
        };
        Ok(LogPage {
            log_id: format!("{:032x}", wal.log_id().unwrap_or_default()),
            earliest_lsn: wal.earliest_lsn(),
            durable_lsn: wal.durable_lsn(),
            frames: described.iter().map(named).collect(),
            next_lsn,
        })
    }
}
