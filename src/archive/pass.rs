//! A pass: frames of the log, from where the archive ends, as far as memory allows, by file.
//!
//! Rows stay packed as they stood in the frame; of each the pass remembers where it is (48 bytes). A
//! pass is what one commit settles: a range of whole frames without a gap. Memory is bounded by
//! ending the pass, so that the number of partitions, whatever rows say of their time, opens no
//! files and holds no buffers; what is written in small files then is joined later.

use super::columns::{From, Place};
use super::error::ArchiveError;
use super::ids::Origin;
use super::manifest::{Reached, RowCounts};
use super::place::dt_bucket;
use crate::apply::codec::decode;
use crate::apply::names::Names;
use crate::eventstore::{PartitionColumn, Store};
use crate::row::{EventId, EventSchema, Rows};
use crate::state::{Content, RowsContent};
use crate::storage::Storage;
use crate::wal::{Frame, FrameKind, TailReader};
use std::collections::BTreeMap;
use std::sync::Arc;
use streamgauge_api::PartitionKey;

/// What a file is of: partition, event, version of its declaration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileKey {
    pub(super) dt: Option<i64>,
    pub(super) event: EventId,
    pub(super) version: u32,
}

/// Rows of one file.
#[derive(Debug)]
pub(super) struct FileRows {
    pub(super) schema: Arc<EventSchema>,
    pub(super) fields: usize,
    pub(super) places: Vec<Place>,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) first_lsn: u64,
    /// Before the first LSN while there is nothing in it.
    pub(super) last_lsn: u64,
    pub(super) batches: Vec<Rows>,
    pub(super) files: BTreeMap<FileKey, FileRows>,
    pub(super) froms: Vec<From>,
    keys: Vec<PartitionKey>,
    pub(super) counts: RowCounts,
    pub(super) positions: BTreeMap<String, Reached>,
    bytes: u64,
}

impl Pass {
    fn new(first_lsn: u64) -> Self {
        Self {
            first_lsn,
            last_lsn: first_lsn - 1,
            batches: Vec::new(),
            files: BTreeMap::new(),
            froms: Vec::new(),
            keys: Vec::new(),
            counts: RowCounts::default(),
            positions: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// Reads on until nothing more is durable, `to_lsn` is reached, or the pass holds `bytes_max`.
    /// `names` are those of its first LSN, and then of the LSN behind its last.
    ///
    /// # Errors
    /// What cannot be read; the names are spoilt then.
    pub(super) fn collect<S: Storage>(
        reader: &mut TailReader<S>,
        names: &mut Names,
        store: &Store,
        skipped: &[u64],
        to_lsn: u64,
        bytes_max: u64,
    ) -> Result<Self, ArchiveError> {
        let mut pass = Self::new(reader.next_lsn());
        while pass.last_lsn < to_lsn && pass.bytes < bytes_max {
            let Some(shared) = reader.next()? else { break };
            let frame = shared.frame();
            if frame.first_lsn != pass.last_lsn + 1 {
                // A copy of the data folder that went on for itself: its frames are others.
                let reason = format!("the archive ends at LSN {}, within it", pass.last_lsn);
                return Err(ArchiveError::Frame { lsn: frame.first_lsn, reason });
            }
            pass.take(&frame, names, store, skipped)?;
            names.pass(&frame);
            pass.last_lsn = frame.last_lsn();
        }
        let settled = pass.last_lsn + 1 - pass.first_lsn;
        assert_eq!(pass.counts.sum(), settled, "each LSN is archived or known not to be: {:?}", pass.counts);
        Ok(pass)
    }

    fn take(&mut self, frame: &Frame<'_>, names: &Names, store: &Store, skipped: &[u64]) -> Result<(), ArchiveError> {
        let lsns = frame.last_lsn() + 1 - frame.first_lsn;
        if frame.kind != FrameKind::ROWS {
            self.counts.control += lsns;
            return Ok(());
        }
        if skipped.binary_search(&frame.first_lsn).is_ok() {
            self.counts.excluded += lsns;
            return Ok(());
        }
        let unreadable = |reason: String| ArchiveError::Frame { lsn: frame.first_lsn, reason };
        let content = match decode(frame) {
            Ok(Content::Rows(rows)) => rows,
            Ok(_) => return Err(unreadable("a frame of rows without rows".into())),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        let froms = self.froms_of(&content, names);
        if content.rows() == 0 {
            self.counts.control += lsns;
            return Ok(());
        }
        let mut lsn = frame.first_lsn;
        for rows in content.batches {
            let event = names.registry().event_by_id(rows.event());
            let schema = match event {
                Some(event) if event.schema.fields.len() >= rows.fields() => &event.schema,
                Some(_) => return Err(unreadable(format!("rows of event {} have more fields than it", rows.event().0))),
                None => return Err(unreadable(format!("event {} was never declared", rows.event().0))),
            };
            lsn = self.take_rows(rows, schema, lsn, frame, &froms, store);
        }
        assert_eq!(lsn, frame.last_lsn() + 1, "a frame has as many rows as LSNs");
        self.counts.archived += lsns;
        Ok(())
    }

    fn take_rows(
        &mut self,
        rows: Rows,
        schema: &Arc<EventSchema>,
        mut lsn: u64,
        frame: &Frame<'_>,
        froms: &[Option<u32>],
        store: &Store,
    ) -> u64 {
        let batch = u32::try_from(self.batches.len()).unwrap_or(u32::MAX);
        let mut origins = rows.origins();
        let by_date = store.partition_by.contains(&PartitionColumn::Dt);
        // Rows that follow each other mostly go into the same file.
        let mut last: Option<(FileKey, Vec<Place>)> = None;
        for row in 0..rows.len() {
            let (from, offset) = match origins.next() {
                Some((position, offset)) => (froms.get(position as usize).copied().flatten(), offset),
                None => (None, 0),
            };
            let dt = if by_date { dt_bucket(store, rows.time_us(row), frame.now_us) } else { None };
            let Ok(number) = u32::try_from(row) else { unreachable!("rows of a batch are bounded") };
            let place = Place { batch, row: number, lsn, txn_lsn: frame.last_lsn(), ingested_us: frame.now_us, from, offset };
            match &mut last {
                Some((key, places)) if key.dt == dt => places.push(place),
                _ => {
                    if let Some((key, places)) = last.take() {
                        self.put(key, schema, rows.fields(), places);
                    }
                    let key = FileKey { dt, event: rows.event(), version: rows.schema_version() };
                    last = Some((key, vec![place]));
                }
            }
            lsn += 1;
        }
        drop(origins);
        if let Some((key, places)) = last {
            self.put(key, schema, rows.fields(), places);
        }
        self.bytes += (rows.words().len() * 8 + rows.len() * size_of::<Place>()) as u64;
        self.batches.push(rows);
        lsn
    }

    fn put(&mut self, key: FileKey, schema: &Arc<EventSchema>, fields: usize, mut places: Vec<Place>) {
        let file = self.files.entry(key).or_insert_with(|| {
            let schema = Arc::clone(schema);
            FileRows { schema, fields, places: Vec::new() }
        });
        assert_eq!(file.fields, fields, "rows of one version have the same fields");
        file.places.append(&mut places);
    }

    /// The partitions that a frame's positions are of, by their place in the frame; remembers how far they have come.
    fn froms_of(&mut self, content: &RowsContent, names: &Names) -> Vec<Option<u32>> {
        let mut froms = Vec::with_capacity(content.positions.len());
        for (slot, position) in &content.positions {
            let Some(key) = names.partition(*slot) else {
                froms.push(None);
                continue;
            };
            let reached = Reached {
                cluster: key.cluster.clone(),
                topic_id: key.topic_id.to_string(),
                next: position.offset,
                leader_epoch: position.epoch,
            };
            self.positions.insert(format!("{}/{}/{}", key.event, key.topic, key.partition), reached);
            let known = self.keys.iter().position(|known| known == key);
            let index = known.unwrap_or_else(|| {
                let origin = Origin::partition(key);
                self.keys.push(key.clone());
                self.froms.push(From { topic: key.topic.clone(), partition: key.partition, origin });
                self.froms.len() - 1
            });
            froms.push(u32::try_from(index).ok());
        }
        froms
    }

    /// Whether it settles nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.last_lsn < self.first_lsn
    }
}
