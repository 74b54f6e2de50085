//! The engine: state, log and clock, run by whoever holds the seat.
//!
//! A change is encoded, staged, written with one `pwrite` per turn, and only then applied; so a write that the log refuses has changed nothing. Reads are answered between
//! frames. Replies that wait for a sync are parked here and sent by the syncer's news.

use super::ahead::RowsAhead;
use super::codec::{Encoded, encode, kind_of};
use super::facts::{Facts, Phase};
use super::freshness::Freshnesses;
use super::limit::refuse_all;
use super::panic::applying;
use super::port::Outbox;
use super::work::{Ack, News, Packet, PortWork, Step, Unsynced};
use crate::pipeline::{Origin, RegisterOptions};
use crate::read::Reader;
use crate::state::{Content, State};
use crate::storage::Disk;
use crate::wal::{FrameParts, WalError, WalHandle, WalWriter};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use streamgauge_api::metrics::{EventSeries, Metrics};
use streamgauge_api::port::{Read, Request, Wait};
use streamgauge_api::source::SourceBoard;
use streamgauge_api::{ApiError, Clock, Code, PartitionKey, Position, Reply, Slot, StoredPosition, Tag};

/// Longest sleep of the apply thread: its heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often a full disk is tried again.
const FULL_RETRY_US: i64 = 500_000;
/// How often a snapshot is tried on a full disk, since one lets segments of the log go.
const FULL_SNAPSHOT_US: i64 = 10_000_000;
/// Positions for group commits are remembered this often.
const COMMIT_EVERY_US: i64 = 1_000_000;
/// A log at rest for this long says in a mark frame what of it is durable.
const MARK_AFTER_US: i64 = 200_000;

/// What an operator decided about bounds and promises.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Tables may hold this many bytes.
    pub memory_max_bytes: u64,
    /// At the memory limit, Kafka sources pause (nothing is lost); false = rows that would make keys are left out, counted and told in the reject log.
    pub pause_on_memory: bool,
    /// A push is acknowledged only when it is synced.
    pub push_synced: bool,
    /// Reset is allowed.
    pub test_mode: bool,
    /// Time between snapshots; zero = never.
    pub snapshot_every: Duration,
    /// Refuse lifetime features whose state has no bound.
    pub lifetime_bound: bool,
    /// Drop the windows of decay and velocity operators.
    pub ignore_velocity_windows: bool,
}

impl EngineOptions {
    /// The rules of register calls.
    fn register(&self) -> RegisterOptions<'static> {
        RegisterOptions {
            origin: Origin::Api,
            lifetime_bound: self.lifetime_bound,
            ignore_velocity_windows: self.ignore_velocity_windows,
            ..RegisterOptions::default()
        }
    }
}

/// See the module's head.
pub struct Engine {
    pub(crate) state: State,
    writer: Option<WalWriter<Disk>>,
    handle: WalHandle<Disk>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) facts: Arc<Facts>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) board: Arc<SourceBoard>,
    pub(super) options: EngineOptions,
    encoded: Encoded,
    reader: Reader,
    pub(super) freshness: Freshnesses,
    unsynced: VecDeque<Unsynced>,
    waiting: Vec<WaitingRead>,
    /// Counters of pushes by event.
    pub(super) series: BTreeMap<u32, EventSeries>,
    /// A packet that the log did not take: applied first when it does again.
    stuck: Option<(Packet, i64)>,
    commits: VecDeque<(u64, Vec<Position>)>,
    commits_us: i64,
    committed_us: i64,
    full_retry_us: i64,
    durable_positions: Vec<Position>,
    last_snapshot_us: i64,
    snapshot_running: bool,
    snapshots: Option<crossbeam_channel::Sender<State>>,
    failure: Option<WalError>,
    rows_ahead: RowsAhead,
}

/// A read that waits for an LSN.
struct WaitingRead {
    outbox: Arc<Outbox>,
    tag: Tag,
    read: Read,
    until_us: i64,
}

/// What an engine is made of.
pub struct Parts {
    /// The recovered state.
    pub state: State,
    /// The log to write.
    pub writer: WalWriter<Disk>,
    /// The same log as others see it.
    pub handle: WalHandle<Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Published numbers.
    pub facts: Arc<Facts>,
    /// Series.
    pub metrics: Arc<Metrics>,
    /// Partitions.
    pub board: Arc<SourceBoard>,
    /// Bounds.
    pub options: EngineOptions,
    /// Where frozen states go to become snapshots.
    pub snapshots: Option<crossbeam_channel::Sender<State>>,
}

impl Engine {
    /// An engine over a recovered state.
    pub fn new(parts: Parts) -> Self {
        let now_us = parts.clock.now_us();
        parts.facts.set_registry(parts.state.registry());
        parts.facts.applied_lsn.store(parts.state.lsn(), Ordering::Release);
        let durable_positions = parts.state.partitions().iter().map(|stored| stored.position).collect();
        Self {
            state: parts.state,
            writer: Some(parts.writer),
            handle: parts.handle,
            clock: parts.clock,
            facts: parts.facts,
            metrics: parts.metrics,
            board: parts.board,
            options: parts.options,
            encoded: Encoded::default(),
            reader: Reader::default(),
            freshness: Freshnesses::default(),
            unsynced: VecDeque::new(),
            waiting: Vec::new(),
            series: BTreeMap::new(),
            stuck: None,
            commits: VecDeque::new(),
            commits_us: 0,
            committed_us: 0,
            full_retry_us: 0,
            durable_positions,
            last_snapshot_us: now_us,
            snapshot_running: false,
            snapshots: parts.snapshots,
            failure: None,
            rows_ahead: RowsAhead::default(),
        }
    }

    /// The state, for looking.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The failure that ended the log, if one did.
    pub fn failure(&self) -> Option<&WalError> {
        self.failure.as_ref()
    }

    /// The clock of reads: never behind the last frame.
    pub(crate) fn read_clock_us(&self) -> i64 {
        self.clock.now_us().max(self.state.frame_us())
    }

    /// Writes contents as one turn and applies them. Gives the first LSN of each.
    ///
    /// # Errors
    /// `storage_full`, `wal_unavailable`; nothing has changed then.
    pub(crate) fn commit(&mut self, contents: &[&Content]) -> Result<Vec<u64>, ApiError> {
        let now_us = self.clock.now_us();
        let Some(writer) = self.writer.as_mut() else { return Err(ApiError::new(Code::Draining, "the server is stopping")) };
        let mut firsts = Vec::with_capacity(contents.len());
        for content in contents {
            match stage(writer, &mut self.encoded, content, now_us) {
                Ok(first) => firsts.push(first),
                Err(error) => return Err(self.refused(error)),
            }
        }
        if let Err(error) = writer.write() {
            return Err(self.refused(error));
        }
        self.facts.disk_full.store(false, Ordering::Relaxed);
        self.committed_us = now_us;
        for (content, first) in contents.iter().zip(&firsts) {
            applying(*first, first + content.lsns() - 1, || self.state.apply(content, *first, now_us));
        }
        assert_eq!(self.state.lsn() + 1, writer.next_lsn(), "what a turn wrote is applied, and nothing else");
        self.facts.applied_lsn.store(self.state.lsn(), Ordering::Release);
        Ok(firsts)
    }

    fn refused(&mut self, error: WalError) -> ApiError {
        let told = ApiError::from(error.clone());
        match told.code {
            Code::StorageFull => self.facts.disk_full.store(true, Ordering::Relaxed),
            _ if matches!(error, WalError::Poisoned { .. }) => self.failed(error),
            _ => {}
        }
        told
    }

    /// The log is gone for good: nothing is acknowledged any more; the process stops.
    pub fn failed(&mut self, error: WalError) {
        tracing::error!(kind = "wal.failed", %error, "the write-ahead log failed; stopping without acknowledging anything more");
        self.metrics.wal_fsync_errors.inc();
        self.facts.set_phase(Phase::Failed);
        for parked in self.unsynced.drain(..) {
            let error = ApiError::new(Code::WalUnavailable, "the sync that was to cover this push failed");
            parked.outbox.send(parked.tag, Reply::Refused(Box::new(error), self.state.registry().version));
        }
        self.failure.get_or_insert(error);
    }

    /// Everything up to `lsn` is durable: releases replies and remembers positions for group commits.
    pub fn synced(&mut self, lsn: u64) {
        self.facts.durable_lsn.store(lsn, Ordering::Release);
        while self.unsynced.front().is_some_and(|parked| parked.lsn <= lsn) {
            let Some(Unsynced { outbox, tag, mut reply, .. }) = self.unsynced.pop_front() else { break };
            if let Reply::Pushed { durable_lsn, .. } = &mut reply {
                *durable_lsn = Some(lsn);
            }
            outbox.send(tag, reply);
        }
        while self.commits.front().is_some_and(|(covered, _)| *covered <= lsn) {
            if let Some((_, positions)) = self.commits.pop_front() {
                self.durable_positions = positions;
            }
        }
    }

    /// Positions covered by a completed sync.
    pub(crate) fn durable_positions(&self) -> Vec<(Slot, Position)> {
        (0u32..).map(Slot).zip(self.durable_positions.iter().copied()).collect()
    }

    /// Deadlines and housekeeping; gives how long the apply thread may sleep.
    pub(crate) fn tick(&mut self) -> Duration {
        let now_us = self.clock.now_us();
        self.facts.heartbeat_us.store(now_us, Ordering::Relaxed);
        self.retry_stuck(now_us);
        self.answer_waiting(now_us);
        self.remember_positions(now_us);
        self.try_full_disk(now_us);
        self.mark(now_us);
        self.rows_ahead.look(&self.state, &self.facts.incidents, now_us);
        let bytes = self.state.bytes() as u64;
        self.facts.table_bytes.store(bytes, Ordering::Relaxed);
        self.off_limit(now_us);
        let every_us = i64::try_from(self.options.snapshot_every.as_micros()).unwrap_or(i64::MAX);
        if every_us > 0
            && now_us.saturating_sub(self.last_snapshot_us) >= every_us
            && self.state.lsn() > self.facts.snapshot_lsn.load(Ordering::Relaxed)
        {
            self.snapshot();
        }
        let deadline_us = self.waiting.iter().map(|waiting| waiting.until_us).min().unwrap_or(i64::MAX);
        let until_us = deadline_us.saturating_sub(now_us).max(1000);
        HEARTBEAT.min(Duration::from_micros(until_us.unsigned_abs()))
    }

    fn mark(&mut self, now_us: i64) {
        let Some(writer) = &self.writer else { return };
        let rests = now_us.saturating_sub(self.committed_us) >= MARK_AFTER_US;
        if rests && writer.needs_mark() && !self.facts.disk_full.load(Ordering::Relaxed) {
            self.append_mark(now_us);
        }
    }

    fn append_mark(&mut self, now_us: i64) {
        let Some(writer) = self.writer.as_mut() else { return };
        match writer.append_mark(now_us) {
            Ok(lsn) => {
                self.state.apply(&Content::Nothing, lsn, now_us);
                self.facts.applied_lsn.store(lsn, Ordering::Release);
                self.facts.disk_full.store(false, Ordering::Relaxed);
            }
            Err(error) => {
                let _told = self.refused(error);
            }
        }
    }

    /// A full disk is found to have room again though nobody pushes, and is helped to it by a snapshot.
    fn try_full_disk(&mut self, now_us: i64) {
        if !self.facts.disk_full.load(Ordering::Relaxed) || now_us < self.full_retry_us {
            return;
        }
        self.full_retry_us = now_us.saturating_add(FULL_RETRY_US);
        self.append_mark(now_us);
        if self.facts.disk_full.load(Ordering::Relaxed) && now_us.saturating_sub(self.last_snapshot_us) >= FULL_SNAPSHOT_US {
            self.snapshot();
        }
    }

    /// Freezes the state for the snapshot thread; false when one is running or there is no such thread.
    pub(crate) fn snapshot(&mut self) -> bool {
        let Some(snapshots) = &self.snapshots else { return false };
        if self.snapshot_running {
            return false;
        }
        self.last_snapshot_us = self.clock.now_us();
        self.snapshot_running = snapshots.try_send(self.state.freeze()).is_ok();
        self.snapshot_running
    }

    /// No further snapshots are asked for: the snapshot thread ends after the one it is writing.
    pub fn end_snapshots(&mut self) {
        self.snapshots = None;
    }

    /// Hears what another thread has to tell.
    pub(crate) fn hear(&mut self, news: News) {
        match news {
            News::Durable(lsn) => self.synced(lsn),
            News::LogFailed(error) => self.failed(error),
            News::SnapshotDone => self.snapshot_running = false,
        }
    }

    /// Whether packets may be taken off the queue now.
    pub(crate) fn takes_packets(&self) -> bool {
        self.stuck.is_none() && self.writer.is_some() && self.failure.is_none()
    }

    /// Applies Kafka rows; what the log or the memory limit does not take now is kept and tried again.
    pub(crate) fn take_packet(&mut self, packet: Packet) {
        let now_us = self.clock.now_us();
        let Packet { mut content, records, oldest_ms, bytes } = packet;
        if let Some(new) = self.over_limit(&content) {
            if self.options.pause_on_memory {
                self.stuck = Some((Packet { content, records, oldest_ms, bytes }, now_us + FULL_RETRY_US));
                return;
            }
            self.refuse_rows(&mut content, &new, now_us);
        }
        let content = Content::Rows(content);
        let committed = self.commit(&[&content]);
        let Content::Rows(content) = content else { return };
        if committed.is_err() {
            self.stuck = Some((Packet { content, records, oldest_ms, bytes }, now_us + FULL_RETRY_US));
            return;
        }
        for (slot, position) in &content.positions {
            if let Some(gauge) = self.freshness.gauge(&self.board, slot.0) {
                gauge.applied_to(position.offset, position.record_time_ms);
            }
        }
        for (slot, count) in records {
            if let Some(gauge) = self.freshness.gauge(&self.board, slot) {
                gauge.applied_records.fetch_add(count, Ordering::Relaxed);
            }
        }
        if oldest_ms >= 0 {
            self.freshness.visible(&self.metrics, &self.board, &content, self.clock.now_us(), oldest_ms);
        }
    }

    /// The slot of a partition and where it stands; a partition that was not known is written to the log with its start first.
    ///
    /// # Errors
    /// As [`Engine::commit`].
    pub(crate) fn attach(&mut self, key: &PartitionKey, start: Position) -> Result<(Slot, Position), ApiError> {
        let same = |stored: &StoredPosition| {
            let known = &stored.key;
            (&known.event, &known.cluster, &known.topic, known.topic_id, known.partition)
                == (&key.event, &key.cluster, &key.topic, key.topic_id, key.partition)
        };
        if let Some(slot) = self.state.partitions().iter().position(same) {
            let position = self.state.partitions().get(slot).map_or(start, |stored| stored.position);
            return Ok((Slot(u32::try_from(slot).unwrap_or(u32::MAX)), position));
        }
        let slot = Slot(u32::try_from(self.state.partitions().len()).unwrap_or(u32::MAX));
        self.commit(&[&Content::Partition(StoredPosition { key: key.clone(), position: start })])?;
        Ok((slot, start))
    }

    fn retry_stuck(&mut self, now_us: i64) {
        if self.stuck.as_ref().is_some_and(|(_, at)| *at <= now_us)
            && let Some((packet, _)) = self.stuck.take()
        {
            self.take_packet(packet);
        }
    }

    fn remember_positions(&mut self, now_us: i64) {
        if now_us.saturating_sub(self.commits_us) < COMMIT_EVERY_US || self.state.partitions().is_empty() {
            return;
        }
        self.commits_us = now_us;
        let lsn = self.state.lsn();
        if self.commits.back().is_some_and(|(covered, _)| *covered == lsn) {
            return;
        }
        let positions = self.state.partitions().iter().map(|stored| stored.position).collect();
        self.commits.push_back((lsn, positions));
        let durable = self.handle.durable_lsn();
        self.synced(durable);
    }

    /// Runs one round of a port's requests in their order; frames that follow each other are written together.
    pub(crate) fn serve_port(&mut self, work: PortWork) {
        let PortWork { outbox, steps, .. } = work;
        let mut frames: Vec<(Content, Vec<Ack>)> = Vec::new();
        for step in steps {
            match step {
                Step::Rows { content, acks } => frames.push((Content::Rows(content), acks)),
                Step::Call(tag, request) => {
                    self.push_frames(&outbox, &mut frames);
                    self.call(&outbox, tag, request);
                }
            }
        }
        self.push_frames(&outbox, &mut frames);
        outbox.ready();
        if !self.waiting.is_empty() {
            let now_us = self.clock.now_us();
            self.answer_waiting(now_us);
        }
    }

    fn push_frames(&mut self, outbox: &Arc<Outbox>, frames: &mut Vec<(Content, Vec<Ack>)>) {
        if frames.is_empty() {
            return;
        }
        let version = self.state.registry().version;
        frames.retain_mut(|(content, acks)| match content {
            Content::Rows(rows) => self.admit(rows, acks, outbox),
            _ => true,
        });
        let contents: Vec<&Content> = frames.iter().map(|(content, _)| content).collect();
        let committed = self.commit(&contents);
        for (content, _) in frames.iter() {
            if let Content::Rows(rows) = content {
                self.count_pushes(rows, committed.is_ok());
            }
        }
        match committed {
            Err(error) => {
                for (_, acks) in frames.iter() {
                    refuse_all(outbox, acks, &error, version);
                }
            }
            Ok(firsts) => {
                let mut wanted = 0;
                for ((_, acks), first_lsn) in frames.iter().zip(firsts) {
                    for ack in acks {
                        let first = first_lsn + u64::from(ack.first_row);
                        let last = first + u64::from(ack.count.max(1)) - 1;
                        let reply = Reply::Pushed {
                            ack_lsn: last,
                            first_lsn: first,
                            count: ack.count,
                            durable_lsn: None,
                            registry_version: version,
                        };
                        if ack.wait == Wait::Synced || self.options.push_synced {
                            wanted = last;
                            self.unsynced.push_back(Unsynced { lsn: last, outbox: Arc::clone(outbox), tag: ack.tag, reply });
                        } else {
                            outbox.add(ack.tag, reply);
                        }
                    }
                }
                if wanted > 0 {
                    self.handle.request_sync(wanted);
                }
            }
        }
        frames.clear();
    }

    fn call(&mut self, outbox: &Arc<Outbox>, tag: Tag, request: Request) {
        if let Request::Get(read) = &request
            && let Some(lsn) = read.options.min_lsn
            && lsn > self.state.lsn()
            && read.options.wait_ms > 0
        {
            let wait_us = i64::try_from(read.options.wait_ms.min(30_000) * 1000).unwrap_or(0);
            let until_us = self.clock.now_us().saturating_add(wait_us);
            self.waiting.push(WaitingRead { outbox: Arc::clone(outbox), tag, read: read.clone(), until_us });
            return;
        }
        match self.answer(request) {
            Answer::Now(reply) => outbox.add(tag, reply),
            Answer::WhenSynced(lsn, reply) => {
                self.unsynced.push_back(Unsynced { lsn, outbox: Arc::clone(outbox), tag, reply });
                self.handle.request_sync(lsn);
            }
        }
    }

    fn answer_waiting(&mut self, now_us: i64) {
        let lsn = self.state.lsn();
        let due = |waiting: &WaitingRead| waiting.until_us <= now_us || waiting.read.options.min_lsn.is_none_or(|wanted| wanted <= lsn);
        let (answered, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(due);
        self.waiting = waiting;
        for WaitingRead { outbox, tag, read, .. } in answered {
            if let Answer::Now(reply) = self.answer(Request::Get(read)) {
                outbox.send(tag, reply);
            }
        }
    }

    fn refusal(&self, error: ApiError) -> Answer {
        Answer::Now(Reply::Refused(Box::new(error), self.state.registry().version))
    }

    /// Answers anything but pushes.
    pub(crate) fn answer(&mut self, request: Request) -> Answer {
        match request {
            Request::Get(read) => match self.get(&read, crate::read::UnknownFeature::AsInternalError) {
                Ok((row, freshness)) => Answer::Now(Reply::Row(row, freshness)),
                Err(error) => self.refusal(error),
            },
            Request::GetFeature { name, key } => match self.get_feature(&name, key) {
                Ok(reply) => Answer::Now(reply),
                Err(error) => self.refusal(error),
            },
            Request::BatchGet(reads) => {
                let rows = reads.iter().map(|read| self.get(read, crate::read::UnknownFeature::AsNotFound).map(|(row, _)| row)).collect();
                let tables: Vec<&str> = reads.iter().map(|read| read.table.as_str()).collect();
                let freshness = self.freshness_of(&tables);
                Answer::Now(Reply::Rows(rows, freshness))
            }
            Request::GetMany { features, keys } => match self.get_many(&features, &keys) {
                Ok(found) => Answer::Now(Reply::Many(found)),
                Err(error) => self.refusal(error),
            },
            Request::Register(payload) => self.register(&payload),
            Request::Ping => Answer::Now(Reply::Pong {
                registry_version: self.state.registry().version,
                applied_lsn: self.state.lsn(),
                durable_lsn: self.handle.durable_lsn(),
            }),
            Request::Reset => self.reset(),
        }
    }

    fn register(&mut self, payload: &str) -> Answer {
        let outcome = match self.state.registry().apply_register(payload, &self.options.register()) {
            Ok(outcome) => outcome,
            Err(refused) => return self.refusal(*refused.error),
        };
        let reply = Reply::Registered(outcome.reply.to_string());
        let Some(registry) = outcome.next else { return Answer::Now(reply) };
        match self.define(registry, outcome.effects) {
            Ok(lsn) => Answer::WhenSynced(lsn, reply),
            Err(error) => self.refusal(error),
        }
    }

    /// Puts another registry in force.
    ///
    /// # Errors
    /// As [`Engine::commit`].
    pub fn define(
        &mut self,
        registry: Arc<crate::pipeline::Registry>,
        effects: Vec<crate::pipeline::TableEffect>,
    ) -> Result<u64, ApiError> {
        let content = Content::Definition { registry, effects };
        let firsts = self.commit(&[&content])?;
        self.facts.set_registry(self.state.registry());
        Ok(firsts.first().copied().unwrap_or(0))
    }

    fn reset(&mut self) -> Answer {
        if !self.options.test_mode {
            return self
                .refusal(ApiError::new(Code::ResetDisabledInProduction, "reset works in test mode only (--test-mode, BEAVA_TEST_MODE=1)"));
        }
        match self.commit(&[&Content::Reset]) {
            Ok(firsts) => {
                self.facts.set_registry(self.state.registry());
                let reply = Reply::WasReset { registry_version: self.state.registry().version };
                Answer::WhenSynced(firsts.first().copied().unwrap_or(0), reply)
            }
            Err(error) => self.refusal(error),
        }
    }

    pub(crate) fn reader(&mut self) -> (&mut Reader, &State) {
        (&mut self.reader, &self.state)
    }

    pub(crate) fn freshness_of(&mut self, tables: &[&str]) -> streamgauge_api::port::Freshness {
        let as_of_us = self.read_clock_us();
        self.freshness.of(&self.state, &self.board, &self.facts.incidents, tables, self.clock.now_us(), as_of_us)
    }

    /// Makes what is applied durable, so that sources can commit their last positions; at most for `limit`.
    pub fn settle(&mut self, limit: Duration) {
        self.commits_us = 0;
        self.remember_positions(self.clock.now_us());
        match self.handle.wait_durable(self.state.lsn(), limit) {
            Ok(_) => self.synced(self.handle.durable_lsn()),
            Err(error) => self.failed(error),
        }
    }

    /// Clean stop: a close frame, a sync, a sealed segment. Everything written is durable when this returns.
    ///
    /// # Errors
    /// The log's failure.
    pub fn close(&mut self) -> Result<u64, WalError> {
        match self.writer.take() {
            Some(writer) => writer.close(self.clock.now_us()),
            None => Ok(self.state.lsn()),
        }
    }
}

/// A reply, now or after the sync that covers an LSN.
pub(crate) enum Answer {
    Now(Reply),
    WhenSynced(u64, Reply),
}

fn stage(writer: &mut WalWriter<Disk>, encoded: &mut Encoded, content: &Content, now_us: i64) -> Result<u64, WalError> {
    encode(content, encoded);
    let mut body: smallvec::SmallVec<[&[u64]; 6]> = smallvec::smallvec![&encoded.head[..]];
    let mut row_count = 0;
    if let Content::Rows(rows) = content {
        row_count = u32::try_from(rows.rows()).unwrap_or(u32::MAX);
        body.extend(rows.batches.iter().map(|batch| batch.words()));
    }
    body.push(&encoded.tail);
    writer.stage(&FrameParts { kind: kind_of(content), flags: 0, row_count, now_us, positions: &encoded.positions, body: &body })
}
