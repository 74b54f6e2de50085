//! The engine: state, log and clock, run by whoever holds the seat.
//!
//! A change is encoded, staged, written with one `pwrite` per turn, and only then applied; so a write that the log refuses has changed nothing. Rows are
//! applied in slices, with reads in between (`turn`), requests are served in rounds (`rounds`), reads of many entries in slices (`long_read`),
//! rows of Kafka that cannot be taken wait (`packets`, `waiting`), and sweeps make room for them (`sweep`). Replies that wait for a sync are parked
//! here and sent by the syncer's news.

use super::ahead::RowsAhead;
use super::clock::EngineClock;
use super::codec::{Encoded, POSITION_BYTES, encode, kind_of};
use super::evacuation::Evacuating;
use super::facts::{Facts, Phase};
use super::floods::Now;
use super::freshness::Freshnesses;
use super::incidents::{IncidentText, Incidents, Subject};
use super::long_read::LongReads;
use super::names::Names;
use super::panic::applying;
use super::port::Outbox;
use super::shedding::Shedding;
use super::snapshots::Snapshots;
use super::sweep::Sweeping;
use super::turn::Turn;
use super::waiting::{RETRY_US, Stall};
use super::waits::Waits;
use super::work::{Connection, InletId, News, Round, Unsynced};
use crate::pipeline::{Histories, Origin, RegisterOptions, TableEffect};
use crate::read::Reader;
use crate::row::Rows;
use crate::state::{Content, FILLS_MAX, FillStep, Flip, Frozen, State, Table};
use crate::storage::Disk;
use crate::wal::{FrameKind, FrameParts, WalError, WalHandle, WalWriter};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use streamgauge_api::decision::{Gap, GoOn};
use streamgauge_api::metrics::{EventSeries, Metrics};
use streamgauge_api::port::Request;
use streamgauge_api::source::{IncidentKind, SourceBoard};
use streamgauge_api::{ApiError, Clock, Code, PartitionKey, Position, Reply, Slot, StoredPosition};

/// Longest sleep of the apply thread: its heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Partitions that can be known: their positions must fit into one frame with rows.
const PARTITIONS_MAX: usize = 1 << 18;
/// Bytes of the positions of all of them in a frame.
pub(super) const POSITIONS_BYTES_MAX: usize = PARTITIONS_MAX * POSITION_BYTES;
/// How often a full disk is tried again.
const FULL_RETRY_US: i64 = 500_000;
/// How often a snapshot is tried on a full disk, since one lets segments of the log go.
const FULL_SNAPSHOT_US: i64 = 10_000_000;
/// Bytes of all definitions: with each quote escaped, and what they do to tables, they fit into a frame.
const DEFINITIONS_BYTES_MAX: usize = 16 << 20;
/// Positions that wait for a sync.
const COMMITS_MAX: usize = 64;
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
    /// Events whose history can be read again, and whether their sources read it from the log start; none at level `memory`,
    /// where nothing is kept that a table could be found in again.
    pub histories: Option<Histories>,
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
    pub(super) writer: Option<WalWriter<Disk>>,
    pub(super) handle: WalHandle<Disk>,
    pub(super) clock: Arc<EngineClock>,
    pub(super) facts: Arc<Facts>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) board: Arc<SourceBoard>,
    pub(super) options: EngineOptions,
    pub(super) encoded: Encoded,
    reader: Reader,
    pub(super) freshness: Freshnesses,
    pub(super) unsynced: VecDeque<Unsynced>,
    /// Reads that wait for an LSN.
    pub(super) waits: Waits,
    /// A read came that waits shorter than the apply thread may be sleeping.
    pub(super) deadline_moved: bool,
    /// Frames that are written and not applied to their end.
    pub(super) turn: Turn,
    /// Requests that wait for the turn's end, and what they count.
    pub(super) backlog: VecDeque<Round>,
    pub(super) backlogged: usize,
    /// Connections with something in the turn or in the backlog; made when somebody asks.
    pub(super) busy: HashSet<Connection>,
    /// Reads of many entries that go on.
    pub(super) long_reads: LongReads,
    /// Whether reads that waited have the next turn of reads, if any are due.
    waits_first: bool,
    /// Housekeeping was due in the middle of a turn: it comes at that turn's end, before the next one begins.
    pub(super) tick_due: bool,
    /// Counters of pushes by event.
    pub(super) series: BTreeMap<u32, EventSeries>,
    /// Rows and packets that the log or the memory limit did not take, by inlet; who was tried last is last.
    pub(super) stalls: Vec<Stall>,
    /// How often something gave memory back.
    pub(super) freed: u64,
    commits: VecDeque<(u64, Vec<Position>)>,
    commits_us: i64,
    committed_us: i64,
    full_retry_us: i64,
    durable_positions: Vec<Position>,
    pub(super) snapshots: Snapshots,
    pub(super) evacuating: Evacuating,
    /// What left the definitions and has memory still.
    pub(super) shedding: Shedding,
    /// When kept memory was last given back.
    pub(super) trimmed_us: i64,
    failure: Option<WalError>,
    /// Events or partitions have changed since the log was told what stands at the heads of segments.
    pub(super) head_is_stale: bool,
    rows_ahead: RowsAhead,
    /// When rows were last kept out by the memory limit, by the time that only passes.
    pub(super) lacking_us: i64,
    /// Rows were refused for lack of memory, and tables have had no room since.
    pub(super) refuses: bool,
    /// Rows of Kafka sources that were left out for good, by table, since the start.
    pub(super) left_out: BTreeMap<u32, u64>,
    /// What is given back meanwhile.
    pub(super) sweeping: Sweeping,
    /// Rows that did not fit by their numbers, and rows that were looked at one by one.
    #[cfg(test)]
    pub(super) weighed_rows: usize,
    #[cfg(test)]
    pub(super) looked_rows: usize,
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
    pub clock: Arc<EngineClock>,
    /// Published numbers.
    pub facts: Arc<Facts>,
    /// Series.
    pub metrics: Arc<Metrics>,
    /// Partitions.
    pub board: Arc<SourceBoard>,
    /// Bounds.
    pub options: EngineOptions,
    /// Where frozen states go to become snapshots.
    pub snapshots: Option<crossbeam_channel::Sender<Arc<Frozen>>>,
}

impl Engine {
    /// An engine over a recovered state.
    pub fn new(parts: Parts) -> Self {
        // From here on nobody's clock is behind the last frame.
        parts.clock.resume(parts.state.frame_us(), parts.state.clock_held());
        let passed_us = parts.clock.boot_us();
        parts.facts.set_registry(parts.state.registry());
        parts.facts.applied_lsn.store(parts.state.lsn(), Ordering::Release);
        let durable_positions = parts.state.partitions().iter().map(|stored| stored.position).collect();
        assert_eq!(parts.writer.next_lsn(), parts.state.lsn() + 1, "the log goes on where the state stands");
        let rows_ahead = RowsAhead::of(&parts.state);
        parts.state.set_memory_limit(usize::try_from(parts.options.memory_max_bytes).unwrap_or(usize::MAX));
        say_skips(&parts.state, &parts.facts.incidents, parts.clock.now_us());
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
            waits: Waits::default(),
            deadline_moved: false,
            turn: Turn::default(),
            backlog: VecDeque::new(),
            backlogged: 0,
            busy: HashSet::new(),
            long_reads: LongReads::default(),
            waits_first: true,
            tick_due: false,
            series: BTreeMap::new(),
            stalls: Vec::new(),
            freed: 0,
            commits: VecDeque::new(),
            commits_us: passed_us,
            committed_us: passed_us,
            full_retry_us: passed_us,
            durable_positions,
            snapshots: Snapshots::new(parts.snapshots, passed_us),
            evacuating: Evacuating::default(),
            shedding: Shedding::default(),
            trimmed_us: passed_us,
            failure: None,
            // The log was opened with what recovery found.
            head_is_stale: false,
            rows_ahead,
            lacking_us: i64::MIN,
            refuses: false,
            left_out: BTreeMap::new(),
            sweeping: Sweeping::default(),
            #[cfg(test)]
            weighed_rows: 0,
            #[cfg(test)]
            looked_rows: 0,
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
        let now_us = self.clock.now_us();
        assert!(now_us >= self.state.frame_us(), "reads at {now_us} are behind the last frame at {}", self.state.frame_us());
        now_us
    }

    /// Writes a content that is no rows as a frame of its own and applies it. Gives its LSN.
    ///
    /// # Errors
    /// `storage_full`, `wal_unavailable`, and `frame_too_large` when it can never be written; nothing has changed then.
    pub(crate) fn commit(&mut self, content: &Content) -> Result<u64, ApiError> {
        assert!(!self.is_mid_turn(), "what changes the state waits for the end of a turn");
        assert_eq!(content.lsns(), 1, "what is no rows takes one LSN");
        let now_us = self.clock.now_us();
        let Some(writer) = self.writer.as_mut() else { return Err(ApiError::new(Code::Draining, "the server is stopping")) };
        encode(content, &mut self.encoded);
        let written = staged(writer, &self.encoded, kind_of(content), &[], now_us).and_then(|lsn| {
            tell_head(writer, &self.state, &mut self.head_is_stale);
            writer.write().map(|_| lsn)
        });
        let lsn = match written {
            Ok(lsn) => lsn,
            Err(error) => {
                debug_assert!(!matches!(error, WalError::FrameTooLarge { .. }), "whoever makes a content bounds it: {error}");
                return Err(self.refused(error));
            }
        };
        self.wrote();
        applying(lsn, lsn, || self.state.apply(content, lsn, now_us));
        self.head_is_stale |= Names::are_changed_by(content);
        let next = self.writer.as_ref().map(WalWriter::next_lsn);
        assert_eq!(next, Some(self.state.lsn() + 1), "what was written is applied, and nothing else");
        self.facts.applied_lsn.store(lsn, Ordering::Release);
        Ok(lsn)
    }

    /// The log took something of a turn.
    pub(super) fn wrote(&mut self) {
        self.log_has_room();
        self.committed_us = self.passed_us();
    }

    /// The disk took what it was given.
    fn log_has_room(&mut self) {
        if self.facts.disk_full.load(Ordering::Relaxed) {
            self.facts.disk_full.store(false, Ordering::Relaxed);
            self.facts.incidents.over(IncidentKind::WriteStall, &Subject::Server, self.clock.now_us());
            self.retry_refused();
        }
    }

    /// The disk has no room: pushes are refused and sources wait until it has.
    fn log_is_full(&self, error: &WalError) {
        self.facts.disk_full.store(true, Ordering::Relaxed);
        let lost = match self.facts.undeclared.load(Ordering::Relaxed) {
            false => "nothing that was acknowledged: pushes are refused, rows of sources wait",
            true => "nothing that was acknowledged: what the config changes is not in force, pushes are refused, sources have not begun",
        };
        let text = || IncidentText {
            cause: Code::StorageFull.as_str().to_owned(),
            lost: lost.to_owned(),
            holds: "everything applied so far is read; the disk is tried again twice a second".to_owned(),
            evidence: format!("{error}; {}", self.kept()),
            actions: vec![Code::StorageFull.advice().to_owned()],
        };
        self.facts.incidents.open(IncidentKind::WriteStall, &Subject::Server, self.clock.now_us(), text);
    }

    /// For whom the log keeps what it has: what a person wants to know when the disk is full.
    fn kept(&self) -> String {
        let kept = self
            .handle
            .cursors()
            .into_iter()
            .map(|cursor| format!("{} bytes for {} from LSN {} on", cursor.bytes, cursor.name, cursor.needs_lsn));
        let kept: Vec<String> = kept.collect();
        if kept.is_empty() { "no reader keeps any of the log".to_owned() } else { format!("the log keeps {}", kept.join(", ")) }
    }

    pub(super) fn refused(&mut self, error: WalError) -> ApiError {
        let told = ApiError::from(error.clone());
        match told.code {
            Code::StorageFull => self.log_is_full(&error),
            _ if matches!(error, WalError::Poisoned { .. }) => self.failed(error),
            _ => {}
        }
        told
    }

    /// The log is gone for good: nothing is acknowledged any more; the process stops.
    pub fn failed(&mut self, error: WalError) {
        // Who comes afterwards hears of the same failure.
        if self.failure.is_none() {
            tracing::error!(kind = "wal.failed", %error, "the write-ahead log failed; stopping without acknowledging anything more");
            self.metrics.wal_fsync_errors.inc();
        }
        self.facts.set_phase(Phase::Failed);
        for parked in self.unsynced.drain(..) {
            let error = ApiError::new(Code::WalUnavailable, "the sync that was to cover this push failed");
            parked.outbox.send(parked.tag, Reply::Refused(Box::new(error), self.state.registry().version));
        }
        self.failure.get_or_insert(error);
    }

    /// Everything up to `lsn` is durable: releases replies and remembers positions for group commits.
    pub fn synced(&mut self, lsn: u64) {
        let written = self.writer.as_ref().map(WalWriter::next_lsn);
        assert!(written.is_none_or(|next| lsn < next), "LSN {lsn} is durable before it is written ({written:?})");
        self.facts.durable_lsn.store(lsn, Ordering::Release);
        // Thousands of replies may be released: each port is woken once for those of it that follow each other.
        let mut woken: Option<Arc<Outbox>> = None;
        while self.unsynced.front().is_some_and(|parked| parked.lsn <= lsn) {
            let Some(Unsynced { outbox, tag, mut reply, lsn: parked }) = self.unsynced.pop_front() else {
                unreachable!("the front was there")
            };
            assert!(parked <= self.state.lsn(), "a reply that waits for a sync is of rows that are applied");
            if let Reply::Pushed { durable_lsn, .. } = &mut reply {
                *durable_lsn = Some(lsn);
            }
            outbox.add(tag, reply);
            if let Some(before) = woken.filter(|before| !Arc::ptr_eq(before, &outbox)) {
                before.ready();
            }
            woken = Some(outbox);
        }
        woken.inspect(|outbox| outbox.ready());
        while self.commits.front().is_some_and(|(covered, _)| *covered <= lsn) {
            if let Some((_, positions)) = self.commits.pop_front() {
                assert!(self.durable_positions.len() <= positions.len(), "a partition that has a slot keeps it");
                self.durable_positions = positions;
            }
        }
        self.retry_unsynced();
    }

    /// Positions covered by a completed sync.
    pub(crate) fn durable_positions(&self) -> Vec<(Slot, Position)> {
        (0u32..).map(Slot).zip(self.durable_positions.iter().copied()).collect()
    }

    /// Time that only passes, for deadlines and intervals: the time of frames may be set back by an operator.
    pub(super) fn passed_us(&self) -> i64 {
        self.clock.boot_us()
    }

    /// Deadlines and housekeeping; gives how long the apply thread may sleep.
    pub(crate) fn tick(&mut self) -> Duration {
        let (now_us, passed_us) = (self.clock.now_us(), self.passed_us());
        self.facts.heartbeat_us.store(passed_us, Ordering::Relaxed);
        self.waits.look(passed_us);
        self.answer_waits(Instant::now());
        self.rows_ahead.look(&self.state, &self.facts.incidents, now_us, passed_us);
        let bytes = self.state.bytes() as u64;
        self.facts.table_bytes.store(bytes, Ordering::Relaxed);
        self.off_limit(now_us, passed_us);
        self.facts.floods.look(&self.facts.incidents, Now { wall_us: now_us, passed_us });
        self.facts.incidents.close_calm(now_us);
        self.trim_kept(passed_us);
        self.time_waiting(passed_us);
        self.begin_sweep(passed_us);
        self.tick_due = self.is_mid_turn();
        if !self.tick_due {
            self.keep_house(now_us, passed_us);
        }
        let retry_us = if self.stalls.is_empty() { i64::MAX } else { passed_us.saturating_add(RETRY_US) };
        let deadline_us = self.waits.next_deadline_us().unwrap_or(i64::MAX).min(retry_us);
        let until_us = deadline_us.saturating_sub(passed_us).max(1000);
        HEARTBEAT.min(Duration::from_micros(until_us.unsigned_abs()))
    }

    /// What is done between two turns only.
    fn keep_house(&mut self, now_us: i64, passed_us: i64) {
        self.watch_clock(now_us);
        self.remember_positions(passed_us);
        self.try_full_disk(now_us, passed_us);
        self.mark(now_us, passed_us);
        self.snapshot_when_due(passed_us);
        self.evacuate_when_full(passed_us);
    }

    fn mark(&mut self, now_us: i64, passed_us: i64) {
        let Some(writer) = &self.writer else { return };
        let rests = passed_us.saturating_sub(self.committed_us) >= MARK_AFTER_US;
        if rests && writer.needs_mark() && !self.facts.disk_full.load(Ordering::Relaxed) {
            self.append_mark(now_us);
        }
    }

    /// The log hears what is declared before it writes by itself.
    fn freshen_head(&mut self) {
        if let Some(writer) = self.writer.as_mut().filter(|_| std::mem::take(&mut self.head_is_stale)) {
            writer.set_head(&Names::head(self.state.registry(), self.state.partitions()));
        }
    }

    fn append_mark(&mut self, now_us: i64) {
        self.freshen_head();
        let Some(writer) = self.writer.as_mut() else { return };
        match writer.append_mark(now_us) {
            Ok(lsn) => {
                applying(lsn, lsn, || self.state.apply(&Content::Nothing, lsn, now_us));
                let next = self.writer.as_ref().map(WalWriter::next_lsn);
                assert_eq!(next, Some(self.state.lsn() + 1), "a mark that was written is applied, and nothing else");
                self.facts.applied_lsn.store(lsn, Ordering::Release);
                self.log_has_room();
            }
            Err(error) => {
                let _told = self.refused(error);
            }
        }
    }

    /// A full disk is found to have room again though nobody pushes, and is helped to it by a snapshot.
    fn try_full_disk(&mut self, now_us: i64, passed_us: i64) {
        if !self.facts.disk_full.load(Ordering::Relaxed) || passed_us < self.full_retry_us {
            return;
        }
        self.full_retry_us = passed_us.saturating_add(FULL_RETRY_US);
        self.append_mark(now_us);
        if self.facts.disk_full.load(Ordering::Relaxed) && self.snapshots.since_us(passed_us) >= FULL_SNAPSHOT_US {
            let _told = self.snapshot();
        }
    }

    /// Hears what another thread has to tell.
    pub(crate) fn hear(&mut self, news: News) {
        match news {
            News::Durable(lsn) => self.synced(lsn),
            News::LogFailed(error) => self.failed(error),
            News::SnapshotDone(outcome) => {
                self.snapshot_done(outcome);
                // What only the frozen state held is free.
                self.gave_back();
            }
        }
    }

    /// Whether something was begun that a holder of the seat has to go on with.
    pub(crate) fn has_unfinished(&self) -> bool {
        self.is_mid_turn()
            || self.has_backlog()
            || self.has_reads()
            || self.owes_tick()
            || self.evacuates()
            || self.sheds()
            || self.can_sweep()
            || self.has_waiting_due()
    }

    /// Whether housekeeping waited for the end of a turn, and that has come.
    pub(crate) fn owes_tick(&self) -> bool {
        self.tick_due && !self.is_mid_turn()
    }

    /// Whether reads go on, or are to be answered that waited.
    pub(crate) fn has_reads(&self) -> bool {
        self.has_long_reads() || self.has_due_waits()
    }

    /// Goes on with reads: those that waited and the long ones by turns.
    pub(crate) fn read_on_turn(&mut self) {
        let waits = self.has_due_waits() && (self.waits_first || !self.has_long_reads());
        self.waits_first = !waits;
        if waits { self.answer_waits(Instant::now()) } else { self.read_slice() }
    }

    /// Whether requests wait for the end of a turn, or did.
    pub(crate) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Whether a read of many entries goes on.
    pub(crate) fn has_long_reads(&self) -> bool {
        !self.long_reads.is_empty()
    }

    /// What the requests count that are in the engine: in the backlog, waiting for an LSN, and registrations that are parked.
    pub(crate) fn requests_in_work(&self) -> usize {
        self.backlogged + self.waits.len() + self.parked()
    }

    /// Whether the apply thread may sleep longer than it should; asked once.
    pub(crate) fn take_deadline_moved(&mut self) -> bool {
        std::mem::take(&mut self.deadline_moved)
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
        let live = self.state.partitions().iter().position(|stored| same(stored) && !stored.is_forgotten());
        if let Some(slot) = live {
            return Ok((slot_of(slot), self.state.partitions()[slot].position));
        }
        if let Some(slot) = self.state.partitions().iter().position(same) {
            let stored = StoredPosition { key: key.clone(), position: start };
            self.commit(&Content::Moved { slot: slot_of(slot), stored, reached: None, gap: None })?;
            return Ok((slot_of(slot), start));
        }
        let known = self.state.partitions().len();
        if known >= PARTITIONS_MAX {
            let reason = format!("{known} partitions are known, and no more than {PARTITIONS_MAX} can be");
            return Err(ApiError::new(Code::Overloaded, reason));
        }
        self.commit(&Content::Partition(StoredPosition { key: key.clone(), position: start }))?;
        assert_eq!(self.state.partitions().len(), known + 1, "a partition that is written gets the next slot");
        Ok((slot_of(known), start))
    }

    /// Carries out an operator's decision about a partition of this inlet; nothing of the inlet may be on its way.
    ///
    /// # Errors
    /// `overloaded` while rows of the partition wait for room in memory; what the log refuses with.
    pub(crate) fn move_partition(&mut self, inlet: InletId, slot: Slot, decided: &GoOn) -> Result<(), ApiError> {
        let moved = self.moved(inlet, slot, decided)?;
        self.commit(&moved)?;
        // What was remembered to be committed is of the log as it was.
        self.commits.clear();
        self.freshness.forget(slot.0);
        Ok(())
    }

    /// What a decision writes.
    ///
    /// # Errors
    /// `overloaded` while rows of the partition wait for room, and what does not fit what is there.
    pub(crate) fn moved(&self, inlet: InletId, slot: Slot, decided: &GoOn) -> Result<Content, ApiError> {
        // One that is forgotten stands nowhere.
        let is_held = |stall: &Stall| if decided.position.is_none() { stall.names(slot) } else { stall.holds(slot) };
        if self.stalls.iter().any(|stall| stall.inlet == inlet && is_held(stall)) {
            let hint = "give them room (tombstones, fewer features, free disk space) and decide again; or restart with a larger \
                        limits.memory: what waits is read again then, and the effect of a decision says what the log has no more";
            return Err(ApiError::new(Code::Overloaded, "rows of the partition that were read before wait for room").hint(hint));
        }
        let GoOn { key, position, reached, incident, lost } = decided;
        if reached.is_some() && self.state.waiting_of(slot).is_none() {
            let reason = "what waited of the partition when the decision was made does so no more";
            return Err(ApiError::new(Code::Overloaded, reason).hint("look at the effect again, and decide again"));
        }
        let source = self.board.get(slot.0).map(|shown| shown.source.clone()).unwrap_or_default();
        let gap = lost.as_ref().map(|lost| {
            Box::new(Gap {
                source,
                event: key.event.clone(),
                topic: key.topic.clone(),
                partition: key.partition,
                incident: *incident,
                lost: lost.clone(),
                lsn: self.state.lsn() + 1,
                since_us: self.clock.now_us(),
            })
        });
        let stored = StoredPosition { key: key.clone(), position: position.unwrap_or(Position::FORGOTTEN) };
        let moved = Content::Moved { slot, stored, reached: *reached, gap };
        // What is decided outside may not fit what is there since: no later start would read past such a frame.
        if let Err(reason) = self.state.accepts(&moved, self.state.lsn() + 1, self.clock.now_us()) {
            return Err(ApiError::new(Code::DecisionRefused, format!("the decision does not fit the other partitions: {reason}")));
        }
        Ok(moved)
    }

    fn remember_positions(&mut self, passed_us: i64) {
        if passed_us.saturating_sub(self.commits_us) < COMMIT_EVERY_US || self.state.partitions().is_empty() {
            return;
        }
        self.commits_us = passed_us;
        assert!(!self.is_mid_turn(), "positions are those of whole frames");
        let lsn = self.state.lsn();
        if self.commits.back().is_some_and(|(covered, _)| *covered == lsn) {
            return;
        }
        assert!(self.commits.back().is_none_or(|(covered, _)| *covered < lsn), "positions are remembered in the order of the log");
        // While nothing becomes durable the newest replace each other.
        if self.commits.len() >= COMMITS_MAX {
            self.commits.pop_back();
        }
        let positions = self.state.partitions().iter().map(|stored| stored.position).collect();
        self.commits.push_back((lsn, positions));
        let durable = self.handle.durable_lsn();
        self.synced(durable);
    }

    fn refusal(&self, error: ApiError) -> Answer {
        Answer::Now(Reply::Refused(Box::new(error), self.state.registry().version))
    }

    /// Answers anything but pushes and reads of many entries.
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
            Request::Member(read) => match self.member(&read) {
                Ok(reply) => Answer::Now(reply),
                Err(error) => self.refusal(error),
            },
            Request::BatchGet(_) | Request::GetMany { .. } => unreachable!("reads of many entries are served in slices"),
            Request::Register(_) => unreachable!("a registration may have to wait"),
            Request::Ping => Answer::Now(Reply::Pong {
                registry_version: self.state.registry().version,
                applied_lsn: self.state.lsn(),
                durable_lsn: self.handle.durable_lsn(),
            }),
            Request::Reset => self.reset(),
        }
    }

    /// Registers; none when that has to wait.
    pub(super) fn register(&mut self, payload: &str) -> Option<Answer> {
        let unfed = self.state.unfed();
        let none = Histories::new();
        let histories = self.histories().unwrap_or(none);
        let options = RegisterOptions { unfed: &unfed, histories: &histories, ..self.options.register() };
        let outcome = match self.state.registry().apply_register(payload, &options) {
            Ok(outcome) => outcome,
            Err(refused) => return Some(self.refusal(*refused.error)),
        };
        if self.waits_for_shedding(&outcome.effects) {
            return None;
        }
        let reply = Reply::Registered(outcome.reply.to_string());
        let Some(registry) = outcome.next else { return Some(Answer::Now(reply)) };
        Some(match self.define(registry, outcome.effects) {
            Ok(lsn) => Answer::WhenSynced(lsn, reply),
            Err(error) => self.refusal(error),
        })
    }

    /// Events that have a history, and whether every record of them is still to come where nothing was applied.
    fn histories(&self) -> Option<Histories> {
        let mut histories = self.options.histories.clone()?;
        for (event, is_whole) in &mut histories {
            let id = self.state.registry().event(event).map(|event| event.schema.id);
            *is_whole &= id.is_none_or(|id| self.state.is_untouched(id));
        }
        Some(histories)
    }

    /// Whether so many tables more may be filled from history.
    ///
    /// # Errors
    /// `not_available` at level `memory`, `overloaded` beyond the bound.
    fn may_fill(&self, more: usize) -> Result<(), ApiError> {
        if more > 0 && self.options.histories.is_none() {
            let hint = "leave `backfill` out, or keep a data folder: durability.push = \"written\"";
            return Err(ApiError::new(Code::NotAvailable, "at level memory no table is filled from history").hint(hint));
        }
        let open = self.state.fills().open.len();
        if more > 0 && open + more > FILLS_MAX {
            let reason = format!("{open} tables are being filled from history, and no more than {FILLS_MAX} can be at a time");
            return Err(ApiError::new(Code::Overloaded, reason));
        }
        Ok(())
    }

    /// Writes what becomes of fills, and does it.
    ///
    /// # Errors
    /// `backfill_not_found` for one that is not open, and as [`Engine::commit`].
    pub(crate) fn step_fill(&mut self, step: FillStep) -> Result<u64, ApiError> {
        let content = Content::Fill(step);
        if let Err(reason) = self.state.accepts(&content, self.state.lsn() + 1, self.clock.now_us()) {
            return Err(ApiError::new(Code::BackfillNotFound, reason));
        }
        let lsn = self.commit(&content)?;
        self.facts.fills.ring();
        self.forget_keys();
        Ok(lsn)
    }

    /// Brings tables in that were filled from history, with one frame.
    ///
    /// # Errors
    /// As [`Engine::commit`], with the tables: nothing has changed.
    pub(crate) fn bring_in(&mut self, tables: Vec<Table>, flip: Flip) -> Result<u64, Box<(Vec<Table>, ApiError)>> {
        self.state.hand_in(tables);
        self.step_fill(FillStep::Flip(flip)).map_err(|error| Box::new((self.state.hand_back(), error)))
    }

    /// Puts another registry in force.
    ///
    /// # Errors
    /// As [`Engine::commit`].
    pub fn define(&mut self, registry: Arc<crate::pipeline::Registry>, effects: Vec<TableEffect>) -> Result<u64, ApiError> {
        let fills = effects.iter().filter(|effect| matches!(effect, TableEffect::Fill { .. })).count();
        self.may_fill(fills)?;
        let bytes = registry.to_json().len();
        if bytes > DEFINITIONS_BYTES_MAX {
            let reason = format!("the definitions together take {bytes} bytes, at most {DEFINITIONS_BYTES_MAX}");
            return Err(ApiError::new(Code::InvalidRegistration, reason));
        }
        let lsn = self.commit(&Content::Definition { registry, effects })?;
        self.facts.fills.ring();
        // Features and tables may be gone, and rows that waited for them; others have come, which rows that wait are for.
        self.forget_keys();
        self.facts.set_registry(self.state.registry());
        Ok(lsn)
    }

    fn reset(&mut self) -> Answer {
        if !self.options.test_mode {
            return self
                .refusal(ApiError::new(Code::ResetDisabledInProduction, "reset works in test mode only (--test-mode, BEAVA_TEST_MODE=1)"));
        }
        match self.commit(&Content::Reset) {
            Ok(lsn) => {
                self.facts.fills.ring();
                self.forget_keys();
                self.facts.set_registry(self.state.registry());
                let reply = Reply::WasReset { registry_version: self.state.registry().version };
                Answer::WhenSynced(lsn, reply)
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

    /// Remembers where sources stand now, and gives what has to be durable before they may commit it.
    pub fn remember_all(&mut self) -> (WalHandle<Disk>, u64) {
        let passed_us = self.passed_us();
        self.commits_us = passed_us.saturating_sub(COMMIT_EVERY_US);
        self.remember_positions(passed_us);
        (self.handle.clone(), self.state.lsn())
    }

    /// Clean stop: a close frame, a sync, a sealed segment. Everything written is durable when this returns.
    ///
    /// # Errors
    /// The log's failure.
    pub fn close(&mut self) -> Result<u64, WalError> {
        assert!(
            !self.is_mid_turn() && self.state.lsn() + 1 == self.writer.as_ref().map_or(self.state.lsn() + 1, WalWriter::next_lsn),
            "what is written is applied when the log closes"
        );
        self.freshen_head();
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

fn slot_of(index: usize) -> Slot {
    match u32::try_from(index) {
        Ok(slot) => Slot(slot),
        Err(_) => unreachable!("partitions are bounded by PARTITIONS_MAX"),
    }
}

/// Where the log is about to begin a segment, its head says what is declared by now.
pub(super) fn tell_head(writer: &mut WalWriter<Disk>, state: &State, is_stale: &mut bool) {
    if *is_stale && writer.will_roll() {
        writer.set_head(&Names::head(state.registry(), state.partitions()));
        *is_stale = false;
    }
}

/// Puts an encoded content into the log's turn and gives its first LSN.
pub(super) fn staged(
    writer: &mut WalWriter<Disk>,
    encoded: &Encoded,
    kind: FrameKind,
    batches: &[Rows],
    now_us: i64,
) -> Result<u64, WalError> {
    let mut body: smallvec::SmallVec<[&[u64]; 6]> = smallvec::smallvec![&encoded.head[..]];
    body.extend(batches.iter().map(Rows::words));
    body.push(&encoded.tail);
    let rows: usize = batches.iter().map(Rows::len).sum();
    let Ok(row_count) = u32::try_from(rows) else { unreachable!("a frame of {rows} rows is far above its bound in bytes") };
    writer.stage(&FrameParts { kind, flags: 0, row_count, now_us, positions: &encoded.positions, body: &body })
}

/// Frames that an operator left out are missing in the tables for as long as the state lives.
fn say_skips(state: &State, incidents: &Incidents, now_us: i64) {
    let (Some(first), Some(last)) = (state.skips().first(), state.skips().last()) else { return };
    let rows = state.skips().iter().map(|skip| u64::from(skip.rows)).sum::<u64>();
    incidents.open(IncidentKind::FrameSkipped, &Subject::Server, now_us, || IncidentText {
        lost: format!("{rows} rows are in no table: an operator left their frames out of the replay (`wal skip`)"),
        holds: "everything before and behind them; sources go on".into(),
        evidence: format!("{} frames between LSN {} and {}", state.skips().len(), first.first_lsn, last.last_lsn()),
        actions: vec!["nothing, or start with a new data folder, which reads the topics again from their `start`".into()],
        ..IncidentText::default()
    });
}
