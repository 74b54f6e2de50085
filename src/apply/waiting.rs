//! Rows of Kafka sources that wait for room, and the packets behind them.
//!
//! A packet at the memory limit is split: rows that there is room for are applied, the others stay here with their inlet,
//! in order, as [`Part`]s. Later packets go past them, but for rows of the same keys. The frame that carries a packet says
//! which of its records wait, and the frame of a row that waited says that it does so no more, so that each is counted once
//! however often the process ends in between; after a restart what waits is read again from its topic.
//!
//! What waits of an inlet is bounded by [`WAITING_ROWS_MAX`] and [`Engine::waiting_bytes_max`]; the next packet with rows
//! to wait is then held as a whole, and with it the later ones of its inlet. The same happens to a packet that the log
//! does not take.
//!
//! What waits is tried again in order, part by part, in **passes**: each half second, when something gave memory back, and
//! when the pass before wrote anything. A step of a pass is one event of the seat and writes one frame at most. A source
//! with anything here has an incident (`WriteStall`) until it has not.

use super::engine::Engine;
use super::incidents::{IncidentText, Subject};
use super::look::Whom;
use super::split::Split;
use super::turn::{Frame, Then};
use super::work::{InletId, Packet};
use crate::row::Rows;
use crate::state::{RowsContent, WaitingRun};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use streamgauge_api::source::IncidentKind;
use streamgauge_api::{ApiError, Code, Slot};

/// How often what waits is tried again, at the least.
pub(super) const RETRY_US: i64 = 500_000;
/// How often a wait that lasts is logged.
const TELL_EVERY_US: i64 = 60_000_000;
/// Rows of one inlet that may wait,
pub(super) const WAITING_ROWS_MAX: usize = 65_536;
/// bytes of them with their keys,
const WAITING_BYTES_MAX: usize = 16 << 20;
/// and at most this part of the memory limit. One packet may wait in any case: held whole it would take as much.
const WAITING_PART: u64 = 16;
/// Bytes of the hash of a key in a set.
const KEY_BYTES: usize = 16;

/// Rows of one packet that wait.
pub(super) struct Part {
    /// By the positions that runs of the batches name.
    slots: Vec<Slot>,
    batches: Vec<Rows>,
    oldest_ms: i64,
    rows: usize,
    bytes: usize,
}

/// What waits of one inlet, and why.
pub(super) struct Stall {
    pub(super) inlet: InletId,
    source: Arc<str>,
    parts: VecDeque<Part>,
    rows: usize,
    bytes: usize,
    /// Keys of the rows that wait, and maybe of some that did.
    pub(super) keys: HashSet<u64>,
    /// Whether these are their keys by the definitions in force: until a pass has found them, no packet goes past.
    keys_known: bool,
    pass: Option<Pass>,
    /// Another pass is to begin.
    pub(super) due: bool,
    /// What had given memory back when the last pass began.
    freed: u64,
    /// A packet that is held as a whole, behind the rows that wait.
    packet: Option<Packet>,
    /// Why rows were not taken when they were last tried.
    error: ApiError,
    since_us: i64,
    next_us: i64,
    told_us: i64,
    tries: u64,
    /// Records that went past rows that wait.
    went_past: u64,
}

/// One go over everything that waits.
#[derive(Default)]
pub(super) struct Pass {
    /// The next part.
    at: usize,
    /// Keys of the rows in front of it that wait still.
    pub(super) front: HashSet<u64>,
    wrote: bool,
}

impl Part {
    /// Whether a row here is of this partition: others of the packet may be in its positions alone.
    fn has_rows_of(&self, slot: Slot) -> bool {
        let mut runs = self.batches.iter().flat_map(Rows::runs);
        runs.any(|run| self.slots.get(run.position as usize) == Some(&slot))
    }

    /// The rows of a packet that wait.
    pub(super) fn of(engine: &Engine, packet: &Packet, split: &Split) -> Option<Self> {
        let slots = packet.content.positions.iter().map(|(slot, _)| *slot).collect();
        Self::new(engine, slots, &packet.content.batches, packet.oldest_ms, split)
    }

    fn new(engine: &Engine, slots: Vec<Slot>, batches: &[Rows], oldest_ms: i64, split: &Split) -> Option<Self> {
        let waits = |number: usize, batch: &Rows| (0..batch.len()).any(|row| split.waits(number, row));
        let waiting = batches.iter().enumerate().filter(|(number, batch)| waits(*number, batch));
        let batches: Vec<Rows> = waiting.map(|(number, batch)| engine.part_of(batch, |row| split.waits(number, row))).collect();
        let rows = batches.iter().map(Rows::len).sum();
        let bytes = batches.iter().map(|batch| batch.words().len() * 8).sum::<usize>() + split.waiting_keys().count() * KEY_BYTES;
        (rows > 0).then_some(Self { slots, batches, oldest_ms, rows, bytes })
    }
}

impl Stall {
    pub(super) fn new(inlet: InletId, source: Arc<str>, error: ApiError, passed_us: i64, freed: u64) -> Self {
        Self {
            inlet,
            source,
            parts: VecDeque::new(),
            rows: 0,
            bytes: 0,
            keys: HashSet::new(),
            keys_known: true,
            pass: None,
            due: false,
            freed,
            packet: None,
            error,
            since_us: passed_us,
            next_us: passed_us,
            told_us: passed_us,
            tries: 0,
            went_past: 0,
        }
    }

    /// The rows of the part that a pass has come to.
    pub(super) fn batches_at(&self, pass: &Pass) -> &[Rows] {
        match self.parts.get(pass.at) {
            Some(part) => &part.batches,
            None => unreachable!("a pass goes over parts that are there"),
        }
    }

    /// Whether a row that waits is of this partition, or the packet that is held moves it.
    pub(super) fn holds(&self, slot: Slot) -> bool {
        self.packet.as_ref().is_some_and(|packet| packet.names(slot)) || self.parts.iter().any(|part| part.has_rows_of(slot))
    }

    /// Whether anything here names it: frames of rows that wait say of every partition of their packet where it stands.
    pub(super) fn names(&self, slot: Slot) -> bool {
        self.holds(slot) || self.parts.iter().any(|part| part.slots.contains(&slot))
    }

    /// Whether the inlet's next packet may come.
    pub(super) fn takes_packets(&self) -> bool {
        self.packet.is_none() && self.keys_known
    }

    fn is_due(&self, freed: u64) -> bool {
        self.pass.is_some() || self.due || self.freed != freed
    }

    /// Whether nothing waits any more.
    pub(super) fn is_over(&self) -> bool {
        let over = self.parts.is_empty() && self.packet.is_none();
        assert!(!over || (self.rows == 0 && self.bytes == 0), "{} rows and {} bytes are counted and not there", self.rows, self.bytes);
        over
    }

    /// Whether these rows may wait too.
    pub(super) fn has_room(&self, part: &Part, bytes_max: usize) -> bool {
        self.parts.is_empty() || (self.rows + part.rows <= WAITING_ROWS_MAX && self.bytes + part.bytes <= bytes_max)
    }

    /// Takes rows that wait behind all others.
    pub(super) fn push(&mut self, part: Part, split: &Split) {
        self.rows += part.rows;
        self.bytes += part.bytes;
        self.keys.extend(split.waiting_keys());
        self.parts.push_back(part);
    }

    /// Records went past what waits.
    pub(super) fn passed_by(&mut self, records: u64) {
        self.went_past += records;
    }

    /// Holds a packet whole, with all later ones of its inlet.
    pub(super) fn hold(&mut self, packet: Packet, error: ApiError) {
        assert!(self.packet.is_none(), "an inlet has one packet that is held");
        self.packet = Some(packet);
        self.error = error;
    }

    /// Puts what is left of a part in its place.
    fn replace(&mut self, at: usize, left: Option<Part>) {
        let Some(part) = self.parts.get_mut(at) else { unreachable!("part {at} was tried") };
        let (rows, bytes) = left.as_ref().map_or((0, 0), |left| (left.rows, left.bytes));
        assert!(rows < part.rows && bytes <= part.bytes, "what is left of a part is less than it was");
        self.rows -= part.rows - rows;
        self.bytes -= part.bytes - bytes;
        match left {
            Some(left) => *part = left,
            None => drop(self.parts.remove(at)),
        }
    }
}

/// Offsets of the records whose rows are chosen, by position, ascending.
pub(super) fn offsets_of(batches: &[Rows], positions: usize, chosen: impl Fn(usize, usize) -> bool) -> Vec<Vec<i64>> {
    let mut offsets = vec![Vec::new(); positions];
    for (number, batch) in batches.iter().enumerate() {
        for (_, (position, offset)) in batch.origins().enumerate().filter(|(row, _)| chosen(number, *row)) {
            match offsets.get_mut(position as usize) {
                Some(offsets) => offsets.push(offset),
                None => unreachable!("runs name positions of their packet"),
            }
        }
    }
    for offsets in &mut offsets {
        offsets.sort_unstable();
        offsets.dedup();
    }
    offsets
}

/// Ascending offsets of one position as runs.
pub(super) fn runs_of(position: usize, waits: bool, offsets: impl Iterator<Item = i64>) -> Vec<WaitingRun> {
    let Ok(position) = u32::try_from(position) else { unreachable!("positions are counted in 32 bits") };
    let mut runs: Vec<WaitingRun> = Vec::new();
    for offset in offsets {
        match runs.last_mut() {
            Some(last) if last.to == offset => last.to = offset + 1,
            last => {
                debug_assert!(last.is_none_or(|last| last.to < offset), "offsets ascend");
                runs.push(WaitingRun { position, waits, from: offset, to: offset + 1 });
            }
        }
    }
    runs
}

impl Engine {
    /// Bytes of rows that may wait, of one inlet. They are in no table and count in none.
    pub(super) fn waiting_bytes_max(&self) -> usize {
        let part = usize::try_from(self.options.memory_max_bytes / WAITING_PART).unwrap_or(usize::MAX);
        part.min(WAITING_BYTES_MAX)
    }

    /// Bytes of rows that may wait of an inlet whose stall is taken out, beside those of all others: however many sources
    /// there are, what waits of all is one part of the memory limit, but for a first packet of each.
    pub(super) fn waiting_room(&self) -> usize {
        let all = usize::try_from(self.options.memory_max_bytes / WAITING_PART).unwrap_or(usize::MAX);
        let others = self.stalls.iter().map(|stall| stall.bytes).sum();
        self.waiting_bytes_max().min(all.saturating_sub(others))
    }

    /// Whether what waits is to be tried now.
    pub(crate) fn has_waiting_due(&self) -> bool {
        !self.is_mid_turn() && self.writer.is_some() && self.failure().is_none() && self.stalls.iter().any(|stall| stall.is_due(self.freed))
    }

    /// Whether rows wait because tables have no room for them.
    pub(super) fn waits_for_room(&self) -> bool {
        self.stalls.iter().any(|stall| stall.error.code == Code::TableMemoryExceeded)
    }

    /// Something gave memory back, or may have: what waits is tried at once.
    pub(super) fn gave_back(&mut self) {
        self.freed += 1;
    }

    /// Other definitions are in force: rows that wait may be of other keys, of tables that their pass has not met.
    pub(super) fn forget_keys(&mut self) {
        assert!(!self.is_mid_turn(), "definitions change between turns");
        for stall in &mut self.stalls {
            (stall.pass, stall.keys_known, stall.due) = (None, false, true);
        }
        self.gave_back();
    }

    /// The disk has room again: what the log did not take is tried at once.
    pub(super) fn retry_refused(&mut self) {
        self.stalls.iter_mut().filter(|stall| stall.error.code == Code::StorageFull).for_each(|stall| stall.due = true);
    }

    /// The log has come nearer to its syncs: what it did not take is tried at once.
    pub(super) fn retry_unsynced(&mut self) {
        self.stalls.iter_mut().filter(|stall| stall.error.code == Code::Overloaded).for_each(|stall| stall.due = true);
    }

    /// What waits for long enough is tried again.
    pub(super) fn time_waiting(&mut self, passed_us: i64) {
        self.stalls.iter_mut().filter(|stall| stall.next_us <= passed_us).for_each(|stall| stall.due = true);
    }

    /// One step over what waits of one inlet, the one that waited longest for it.
    pub(crate) fn retry_waiting(&mut self) {
        assert!(!self.is_mid_turn(), "what waits is written between turns");
        let Some(at) = self.stalls.iter().position(|stall| stall.is_due(self.freed)) else { return };
        let stall = self.stalls.remove(at);
        self.pass_on(stall);
    }

    /// Keeps what waits of an inlet, and shows it; or says that nothing does any more.
    pub(super) fn keep(&mut self, stall: Option<Stall>) {
        let Some(mut stall) = stall else { return };
        let passed_us = self.passed_us();
        assert!(passed_us >= stall.since_us, "time only passes");
        if stall.is_over() {
            let (waited_s, tries) = ((passed_us - stall.since_us) / 1_000_000, stall.tries);
            tracing::info!(kind = "source.goes_on", source = %stall.source, tries, waited_s, "rows that waited are written");
            self.facts.incidents.over(IncidentKind::WriteStall, &Subject::source(&stall.source), self.clock.now_us());
            self.off_limit(self.clock.now_us(), passed_us);
            return;
        }
        if stall.tries == 0 {
            self.tried(&mut stall, passed_us);
        }
        self.show_stall(&mut stall, passed_us);
        assert!(self.stalls.iter().all(|other| other.inlet != stall.inlet), "what waits of an inlet is in one place");
        self.stalls.push(stall);
    }

    fn tried(&mut self, stall: &mut Stall, passed_us: i64) {
        stall.tries += 1;
        stall.next_us = passed_us.saturating_add(RETRY_US);
        self.metrics.source_retries(&stall.source, stall.error.code).inc();
    }

    fn show_stall(&mut self, stall: &mut Stall, passed_us: i64) {
        let waited_s = (passed_us - stall.since_us) / 1_000_000;
        let held = stall.packet.as_ref().map_or(0, |packet| packet.content.rows());
        let Stall { source, error, rows, tries, went_past, packet, .. } = &*stall;
        let text = || IncidentText {
            cause: error.code.as_str().to_owned(),
            lost: match packet {
                None => "nothing: rows wait, and later ones of their keys; others go past them".to_owned(),
                Some(_) => "nothing: the rows wait, and their partitions with them".to_owned(),
            },
            holds: "everything applied so far is read; other sources go on where the same cause does not hold them".to_owned(),
            evidence: format!(
                "{} rows wait, {went_past} records went past them, tried {tries} times in {waited_s} s: {error}",
                rows + held
            ),
            actions: vec![error.code.advice().to_owned()],
        };
        self.facts.incidents.open(IncidentKind::WriteStall, &Subject::source(source), self.clock.now_us(), text);
        if passed_us.saturating_sub(stall.told_us) >= TELL_EVERY_US {
            stall.told_us = passed_us;
            let (source, error, tries) = (&stall.source, &stall.error, stall.tries);
            let (rows, went_past) = (stall.rows + held, stall.went_past);
            tracing::warn!(kind = "source.waits", %source, rows, went_past, tries, waited_s, %error, "rows of a source wait still");
        }
    }

    /// The next step of a pass: a part, or the packet behind all parts, which ends it.
    fn pass_on(&mut self, mut stall: Stall) {
        let passed_us = self.passed_us();
        if stall.pass.is_none() {
            (stall.due, stall.freed) = (false, self.freed);
            stall.pass = Some(Pass::default());
            self.tried(&mut stall, passed_us);
        }
        let Some(pass) = stall.pass.take() else { unreachable!("a pass began") };
        if pass.at < stall.parts.len() {
            self.decide(Whom::Part { stall, pass });
            return;
        }
        // Every row that waits was looked at: these are their keys, and no others.
        (stall.keys, stall.keys_known) = (pass.front, true);
        stall.due |= pass.wrote;
        match stall.packet.take() {
            Some(packet) => drop(self.decide(Whom::Packet { packet, stall: Some(stall) })),
            None => self.keep(Some(stall)),
        }
    }

    /// Writes the rows of a part that there is room for now.
    pub(super) fn finish_part(&mut self, mut stall: Stall, mut pass: Pass, split: Option<&Split>) {
        match self.retry_part(&mut stall, &mut pass, split) {
            Ok(()) => stall.pass = Some(pass),
            // The log takes nothing now: the next parts have to wait as well.
            Err(error) => stall.error = error,
        }
        self.keep(Some(stall));
    }

    fn retry_part(&mut self, stall: &mut Stall, pass: &mut Pass, split: Option<&Split>) -> Result<(), ApiError> {
        let Some(part) = stall.parts.get(pass.at) else { unreachable!("a pass goes over parts that are there") };
        if split.is_some_and(|split| !split.moves()) {
            pass.front.extend(split.into_iter().flat_map(Split::waiting_keys));
            pass.at += 1;
            stall.error = self.exceeded();
            return Ok(());
        }
        let moves = |batch: usize, row: usize| split.is_none_or(|split| !split.waits(batch, row));
        let offsets = offsets_of(&part.batches, part.slots.len(), moves);
        let read = |slot: &Slot| match self.state.reached(*slot) {
            Some(reached) => (*slot, reached),
            None => unreachable!("rows that wait are of partitions that are known"),
        };
        let positions: Vec<_> = part.slots.iter().map(read).collect();
        let records = part.slots.iter().zip(&offsets).map(|(slot, offsets)| (slot.0, offsets.len() as u64)).collect();
        let waiting = offsets.iter().enumerate().flat_map(|(at, offsets)| runs_of(at, false, offsets.iter().copied())).collect();
        let (batches, rejects) = self.going(&part.batches, &positions, split);
        let left = split.and_then(|split| Part::new(self, part.slots.clone(), &part.batches, part.oldest_ms, split));
        let (inlet, oldest_ms) = (stall.inlet, part.oldest_ms);
        let content = RowsContent { positions, waiting, batches, rejects, retried: Vec::new() };
        self.assert_fits(&content);
        let frame = Frame::new(content, Then::Show { inlet, records, oldest_ms, bytes: 0 });
        if let Err(refused) = self.write_turn(VecDeque::from([frame])) {
            return Err(refused.1);
        }
        self.count_left_out(split);
        pass.wrote = true;
        pass.front.extend(split.into_iter().flat_map(Split::waiting_keys));
        let is_left = left.is_some();
        stall.replace(pass.at, left);
        pass.at += usize::from(is_left);
        self.slice();
        Ok(())
    }

    /// The rows that are written now, and what is said of those that are refused.
    pub(super) fn going(
        &mut self,
        batches: &[Rows],
        positions: &[(Slot, streamgauge_api::Position)],
        split: Option<&Split>,
    ) -> (Vec<Rows>, Vec<streamgauge_api::control::Reject>) {
        let Some(split) = split else { return (batches.to_vec(), Vec::new()) };
        let part = |(number, batch): (usize, &Rows)| match (0..batch.len()).all(|row| split.goes(number, row)) {
            true => batch.clone(),
            false => self.part_of(batch, |row| split.goes(number, row)),
        };
        let going = batches.iter().enumerate().map(part).filter(|batch| !batch.is_empty()).collect();
        let now_us = self.clock.now_us();
        (going, self.reject_rows(batches, positions, split, now_us))
    }

    /// What is written of waiting records fits what the state knows of them: else a replay would refuse it.
    pub(super) fn assert_fits(&self, content: &RowsContent) {
        let fits = self.state.knows_waiting(&content.positions, &content.waiting);
        assert!(fits.is_ok(), "{fits:?}");
    }
}
