//! One run: the history of the tables of one event, from the first record to the flip.
//!
//! What may end it is named by what comes next ([`Ended`]). Whatever ends it early leaves the serving state as it was; a
//! run that is begun again begins at the start of history. The serving state is looked at between frames, for as long
//! as it takes to copy positions.

use super::merge::{Lane, fold_ready};
use super::past::Feed;
use super::seal;
use super::thread::HistoryParts;
use crate::apply::{Engine, FillProgress, PartProgress, Seat, SourceSetup};
use crate::pipeline::{HistoryFrom, Registry, TableDef};
use crate::row::EventSchema;
use crate::snapshot::SnapshotFacts;
use crate::state::{Fill, Filled, Flip, HistoryStart, NoRoom, State, Unseen, Unwritten, same_declarations};
use crate::storage::Disk;
use crate::wal::{Cursor, Hold, TailError, TailReader};
use std::sync::Arc;
use std::time::{Duration, Instant};
use streamgauge_api::past::{PastFrom, PastRange, PastRead, PastReader, PastTrouble};
use streamgauge_api::{Code, PartitionKey, Slot, StoredPosition};

/// The fence is set when no more than this is left to read,
const FENCE_RECORDS: i64 = 10_000;
/// or after so many passes: what comes meanwhile waits in the log.
const PASSES_MAX: usize = 20;
/// How long one partition is waited for at a time.
const WAIT: Duration = Duration::from_millis(20);
/// Rows at hand of all partitions beyond which none is read that need not be.
const ROWS_AT_HAND_MAX: usize = 65_536;
/// Rows behind the serving state that the flip itself may follow on the seat: some milliseconds.
const FLIP_ROWS_MAX: u64 = 512;
/// The log is synced up to a seal within this time.
const SYNC_WAIT: Duration = Duration::from_secs(60);
/// How often what is shown is brought up to date.
const SHOW_EVERY: Duration = Duration::from_millis(200);
/// Part of the memory limit that shadows may have, one in so many bytes,
const MEMORY_SHARE: usize = 4;
/// and the part of it that has to stay free beside them.
const MEMORY_FREE_SHARE: usize = 20;

/// Why a run ended before its tables were in.
#[derive(Debug)]
pub(super) enum Ended {
    /// The server stops.
    Stopping,
    /// Fills or declarations changed: what is open is looked at anew.
    Changed,
    /// It is begun again later.
    Waits(String),
}

impl From<TailError> for Ended {
    fn from(error: TailError) -> Self {
        Self::Waits(error.to_string())
    }
}

impl From<PastTrouble> for Ended {
    fn from(trouble: PastTrouble) -> Self {
        match trouble {
            PastTrouble::Away(text) => Self::Waits(text),
            PastTrouble::Moved(text) => Self::Waits(format!("history_moved: {text}")),
            PastTrouble::Gap(text) => {
                Self::Waits(format!("history_gap: records that were to be read are gone, it begins anew at the log start: {text}"))
            }
        }
    }
}

/// What the serving state is where a run looks at it.
struct Serving {
    lsn: u64,
    frame_us: i64,
    registry: Arc<Registry>,
    partitions: Vec<(Slot, StoredPosition)>,
    waiting: bool,
    pushed: Option<Unseen>,
}

impl Serving {
    fn of(state: &State, schema: &EventSchema) -> Self {
        let mine = |stored: &StoredPosition| *stored.key.event == *schema.name && !stored.is_forgotten();
        let all = (0u32..).map(Slot).zip(state.partitions().iter().cloned());
        let partitions: Vec<_> = all.filter(|(_, stored)| mine(stored)).collect();
        Self {
            lsn: state.lsn(),
            frame_us: state.frame_us(),
            registry: Arc::clone(state.registry()),
            waiting: partitions.iter().any(|(slot, _)| state.waiting_of(*slot).is_some()),
            partitions,
            pushed: state.pushed(schema.id),
        }
    }
}

/// A source's part of a run.
struct Leg {
    feed: Feed,
    reader: Box<dyn PastReader>,
    /// Index of its partitions among those of the run.
    parts: Vec<usize>,
}

/// A partition of the run.
struct Part {
    slot: Slot,
    key: PartitionKey,
    range: PastRange,
    /// Everything below was read.
    next: i64,
    until: i64,
}

/// See the module's head.
pub(super) struct Run<'h> {
    parts: &'h HistoryParts,
    seat: &'h Seat,
    fills: Vec<(u64, Fill)>,
    registry: Arc<Registry>,
    schema: Arc<EventSchema>,
    shadow: State,
    legs: Vec<Leg>,
    lanes: Vec<Lane>,
    all: Vec<Part>,
    /// How far rows had come of partitions that no source reads any more, and of pushes.
    out_of_reach: Option<Unseen>,
    changes: u64,
    rows: u64,
    began: Instant,
    shown: Instant,
    warnings: Vec<String>,
}

/// What a run leaves behind: the log behind its seal is kept while a snapshot may need it.
pub(super) struct Left {
    /// LSN of the flip's frame.
    pub(super) flip_lsn: u64,
    /// What keeps the log.
    pub(super) cursor: Cursor<Disk>,
}

/// The time from which a table's history is wanted.
pub(super) fn wanted(from: HistoryFrom, declared_us: i64, def: &TableDef, schema: &EventSchema) -> PastFrom {
    let back = |us: i64| PastFrom::Time(declared_us.saturating_sub(us).max(0).div_euclid(1000));
    match from {
        HistoryFrom::Earliest => PastFrom::LogStart,
        HistoryFrom::At { ms } => PastFrom::Time(ms),
        HistoryFrom::Ago { us } => back(us),
        HistoryFrom::Auto => {
            let mut longest = 0i64;
            for feature in &def.features {
                let Some(window_us) = feature.rows_window_us() else { return PastFrom::LogStart };
                longest = longest.max(window_us.saturating_add(window_us / i64::from(feature.resolution.max(1))));
            }
            back(longest.saturating_add(schema.max_future_us))
        }
    }
}

impl<'h> Run<'h> {
    /// Begins a run of these fills, which are of one event and begin at one time.
    pub(super) fn begin(parts: &'h HistoryParts, seat: &'h Seat, fills: Vec<(u64, Fill)>, from: PastFrom) -> Result<Self, Ended> {
        let changes = parts.facts.fills.changes();
        let tables: Vec<u32> = fills.iter().map(|(_, fill)| fill.table).collect();
        let looked = seat.with(|engine| {
            let state = engine.state();
            let def = state.registry().table_by_id(*tables.first()?)?;
            let schema = Arc::clone(&state.registry().event_by_id(def.event)?.schema);
            Some((state.shadow(&tables)?, Serving::of(state, &schema), state.schemas().to_vec(), schema))
        });
        let Some((shadow, serving, schemas, schema)) = looked else { return Err(Ended::Changed) };
        // A partition that is not attached yet would be missed: it would come in neither by history nor by the log.
        let begun = parts.board.sources_of(&schema.name);
        let sources = parts.past.sources_of(&schema.name);
        if parts.board.is_awaited(&schema.name) || !sources.iter().all(|source| begun.contains(source)) {
            return Err(Ended::Waits("a source of the event does not know its partitions yet".into()));
        }
        let mut run = Self {
            parts,
            seat,
            fills,
            registry: Arc::clone(&serving.registry),
            schema,
            shadow,
            legs: Vec::new(),
            lanes: Vec::new(),
            all: Vec::new(),
            out_of_reach: None,
            changes,
            rows: 0,
            began: Instant::now(),
            shown: Instant::now(),
            warnings: Vec::new(),
        };
        run.show("reading");
        run.open(&serving, &schemas, from)?;
        Ok(run)
    }

    /// Opens a reader for each source, at the start of its partitions.
    fn open(&mut self, serving: &Serving, schemas: &[streamgauge_api::inlet::FetchedSchema], from: PastFrom) -> Result<(), Ended> {
        let past = &self.parts.past;
        let sources = past.sources_of(&self.schema.name);
        let source_of = |(slot, stored): &(Slot, StoredPosition)| {
            let shown = self.parts.board.get(slot.0).map(|gauge| gauge.source.clone());
            shown.or_else(|| sources.iter().find(|source| past.selects(source, &stored.key.topic)).cloned())
        };
        let owned: Vec<(Option<String>, &(Slot, StoredPosition))> =
            serving.partitions.iter().map(|partition| (source_of(partition), partition)).collect();
        for source in &sources {
            let mine: Vec<&(Slot, StoredPosition)> =
                owned.iter().filter(|(owner, _)| owner.as_ref() == Some(source)).map(|(_, partition)| *partition).collect();
            let Some(setup) = self.parts.setups.iter().find(|setup: &&SourceSetup| setup.name == *source) else { continue };
            if mine.is_empty() {
                continue;
            }
            let keys: Vec<PartitionKey> = mine.iter().map(|(_, stored)| stored.key.clone()).collect();
            let feed = Feed::new(setup, &self.schema, &self.registry, schemas, &keys).map_err(|error| Ended::Waits(error.to_string()))?;
            let mut reader = past.open(source, &keys)?;
            let ranges = reader.ranges(from)?;
            let starts: Vec<i64> =
                ranges.iter().zip(&mine).map(|(range, (_, stored))| range.start.min(stored.position.offset.max(range.low))).collect();
            reader.begin(&starts)?;
            let first = self.all.len();
            for (((slot, stored), range), start) in mine.iter().zip(&ranges).zip(&starts) {
                self.lanes.push(Lane::default());
                let (key, until) = (stored.key.clone(), stored.position.offset);
                self.all.push(Part { slot: *slot, key, range: *range, next: *start, until });
            }
            self.legs.push(Leg { feed, reader, parts: (first..self.all.len()).collect() });
        }
        if owned.iter().any(|(owner, (_, stored))| owner.is_none() && stored.position.offset > 0) {
            self.warnings.push("history_short: a topic that fed the event is no source's any more".into());
            let applied = self.seat.look(|engine| engine.state().event_reached(self.schema.id));
            self.out_of_reach = applied;
        }
        Ok(())
    }

    /// The whole of it.
    pub(super) fn run(mut self) -> Result<Left, Ended> {
        for pass in 0.. {
            let serving = self.look()?;
            self.aim(&serving)?;
            let left: i64 = self.all.iter().map(|part| (part.until - part.next).max(0)).sum();
            if left <= FENCE_RECORDS || pass >= PASSES_MAX {
                break;
            }
            self.pass()?;
        }
        // What is written from here on is kept in memory for whoever reads it; the fence lies behind this LSN.
        let from_lsn = self.parts.handle.durable_lsn() + 1;
        let mut tail = self.parts.handle.tail("history", from_lsn)?;
        let fence = self.fence()?;
        self.aim(&fence)?;
        self.show("fencing");
        self.pass()?;
        assert!(self.lanes.iter().all(|lane| lane.rows() == 0), "every row below the fence is folded");
        assert!(self.all.iter().all(|part| part.next >= part.until), "every partition is read to the fence");
        self.shadow.fence(fence.lsn, fence.frame_us);
        self.follow(&mut tail)?;
        self.show("sealing");
        let (seal, cursor) = self.seal()?;
        let flip = self.flip_of(seal, &fence);
        let flip_lsn = self.flip(flip, tail)?;
        Ok(Left { flip_lsn, cursor })
    }

    /// The serving state, if everything is still as it was when the run began.
    fn look(&mut self) -> Result<Serving, Ended> {
        self.still()?;
        let schema = Arc::clone(&self.schema);
        let serving = self.seat.with(|engine| Serving::of(engine.state(), &schema));
        self.same(&serving).then_some(serving).ok_or(Ended::Changed)
    }

    /// Whether declarations are the same, and partitions: one more was not read from its start.
    fn same(&self, serving: &Serving) -> bool {
        let tables: Vec<u32> = self.fills.iter().map(|(_, fill)| fill.table).collect();
        same_declarations(&self.registry, &serving.registry, &tables)
            && self.all.iter().all(|part| serving.partitions.iter().any(|(slot, stored)| *slot == part.slot && stored.key == part.key))
            && serving.partitions.iter().all(|(slot, stored)| stored.position.offset <= 0 || self.knows(*slot))
    }

    fn knows(&self, slot: Slot) -> bool {
        self.all.iter().any(|part| part.slot == slot) || self.out_of_reach.is_some()
    }

    /// Whether the run may go on.
    fn still(&mut self) -> Result<(), Ended> {
        if self.seat.is_stopping() || self.parts.facts.is_stopping() {
            return Err(Ended::Stopping);
        }
        let changes = self.parts.facts.fills.changes();
        if changes != self.changes {
            self.changes = changes;
            let open = self.seat.look(|engine| engine.state().fills().clone());
            if !self.fills.iter().all(|(id, fill)| open.open.get(id) == Some(fill)) {
                return Err(Ended::Changed);
            }
        }
        let limit = self.shadow.account_limit();
        if self.shadow.bytes_of_tables() > limit / MEMORY_SHARE {
            return Err(Ended::Waits(format!("memory: the tables take more than a quarter of limits.memory ({limit} bytes)")));
        }
        if !self.shadow.account_has_room(limit / MEMORY_FREE_SHARE) {
            return Err(Ended::Waits("memory: live tables are near limits.memory".into()));
        }
        Ok(())
    }

    /// Where partitions are read to.
    fn aim(&mut self, serving: &Serving) -> Result<(), Ended> {
        for part in &mut self.all {
            let Some((_, stored)) = serving.partitions.iter().find(|(slot, _)| *slot == part.slot) else { return Err(Ended::Changed) };
            // A decision may have moved it back: it is then another history.
            if stored.position.offset < part.next && stored.position.offset < part.until {
                return Err(Ended::Changed);
            }
            part.until = stored.position.offset.max(part.next);
        }
        Ok(())
    }

    /// The serving positions at one LSN, with nothing in front of them that is not applied.
    fn fence(&mut self) -> Result<Serving, Ended> {
        loop {
            let serving = self.look()?;
            if !serving.waiting {
                return Ok(serving);
            }
            self.cause("waiting", "rows of the event wait for room: the fence waits for them");
            self.parts.facts.fills.wait(self.changes, SHOW_EVERY);
        }
    }

    /// Reads every partition to where it is to be read, and folds it.
    fn pass(&mut self) -> Result<(), Ended> {
        loop {
            self.still()?;
            let Self { shadow, lanes, all, rows, .. } = self;
            let done: Vec<bool> = all.iter().map(|part| part.next >= part.until).collect();
            let needed = fold_ready(lanes, &done, &mut |batch, range| {
                *rows += range.len() as u64;
                shadow.fold(batch, range);
            });
            self.tell();
            let Some(needed) = needed else {
                assert!(done.iter().all(|done| *done), "a pass ends when nothing is left");
                return Ok(());
            };
            self.read(needed, WAIT)?;
            // Others have records at hand already: they are decoded while there is room.
            let at_hand: usize = self.lanes.iter().map(Lane::rows).sum();
            if at_hand < ROWS_AT_HAND_MAX {
                for other in (0..self.all.len()).filter(|other| *other != needed) {
                    if self.all[other].next < self.all[other].until && self.lanes[other].rows() == 0 {
                        self.read(other, Duration::ZERO)?;
                    }
                }
            }
        }
    }

    /// Reads some records of one partition.
    fn read(&mut self, index: usize, wait: Duration) -> Result<(), Ended> {
        let Self { legs, lanes, all, parts, .. } = self;
        let Some((leg, at)) = legs.iter_mut().find_map(|leg| leg.parts.iter().position(|part| *part == index).map(|at| (leg, at))) else {
            unreachable!("every partition has a source")
        };
        let (part, lane, Leg { feed, reader, .. }) = (&mut all[index], &mut lanes[index], leg);
        let now_us = parts.clock.now_us();
        let mut missing = None;
        let read = reader.read(at, part.until, wait, &mut |records| {
            let (taken, schema) = feed.take(at, records, lane, now_us);
            missing = schema;
            if let Some(last) = records[..taken].last() {
                part.next = part.next.max(last.offset + 1);
            }
            taken
        });
        feed.flush(at, lane);
        if let Some(id) = missing {
            let schema = reader.schema(id)?;
            feed.schema(id, schema.as_ref());
        }
        match read {
            Ok(PastRead::Complete) => part.next = part.next.max(part.until),
            Ok(PastRead::More) => {}
            Err(PastTrouble::Away(text)) => {
                self.cause("waiting", &text);
                self.parts.facts.fills.wait(self.changes, SHOW_EVERY);
            }
            Err(trouble) => return Err(trouble.into()),
        }
        Ok(())
    }

    /// Follows the log to its end.
    fn follow(&mut self, tail: &mut TailReader<Disk>) -> Result<(), Ended> {
        let mut frames = 0u32;
        while let Some(frame) = tail.next_written()? {
            follow_one(&mut self.shadow, &frame.frame())?;
            frames = frames.wrapping_add(1);
            if frames.is_multiple_of(64) {
                self.still()?;
            }
        }
        Ok(())
    }

    /// Writes the shadow as it stands, when the log is durable up to it.
    fn seal(&mut self) -> Result<(crate::state::Seal, Cursor<Disk>), Ended> {
        let HistoryParts { handle, folder, log, clock, .. } = self.parts;
        let lsn = self.shadow.lsn();
        let cursor =
            handle.cursor("history", lsn + 1, Hold::Firm).map_err(|earliest| Ended::Waits(format!("the log begins at {earliest}")))?;
        let waits = |error: &dyn std::fmt::Display| Ended::Waits(format!("the file of the tables could not be written: {error}"));
        let frozen = self.shadow.freeze().map_err(|error: NoRoom| waits(&error))?;
        match handle.wait_durable(lsn, SYNC_WAIT) {
            Ok(true) => {}
            Ok(false) => return Err(Ended::Waits(format!("the WAL was not synced up to LSN {lsn}"))),
            Err(error) => return Err(waits(&error)),
        }
        let Some((fill, _)) = self.fills.first() else { unreachable!("a run has fills") };
        let facts = SnapshotFacts { log: *log, lsn, wall_us: clock.now_us() };
        let writer = seal::begin(&Disk, folder, *fill, facts).map_err(|error| waits(&error))?;
        let info = seal::write(writer, &frozen, handle.durable_lsn()).map_err(|error: Unwritten| waits(&error))?;
        assert_eq!(info.facts.lsn, lsn, "the file is of the shadow that was frozen for it");
        Ok((seal::seal_of(*fill, &info), cursor))
    }

    /// What the flip's frame says.
    fn flip_of(&self, seal: crate::state::Seal, fence: &Serving) -> Flip {
        let mut unseen = self.out_of_reach;
        let mut join = |more: Unseen| {
            unseen = Some(unseen.map_or(more, |known: Unseen| Unseen {
                newest_us: known.newest_us.max(more.newest_us),
                latest_us: known.latest_us.max(more.latest_us),
            }));
        };
        if let Some(pushed) = fence.pushed {
            join(pushed);
        }
        let mut starts = Vec::with_capacity(self.all.len());
        for leg in &self.legs {
            for (at, index) in leg.parts.iter().enumerate() {
                let (part, first_ms) = (&self.all[*index], leg.feed.first_time_ms(at));
                if part.range.start > 0 {
                    // Records before the first one came before it: none is known to be newer.
                    let until_us = first_ms.map_or(fence.frame_us, |ms| ms.saturating_mul(1000));
                    join(Unseen { newest_us: until_us, latest_us: until_us.saturating_add(self.schema.max_future_us) });
                }
                starts.push(HistoryStart {
                    topic: part.key.topic.clone(),
                    partition: part.key.partition,
                    offset: part.range.start,
                    time_ms: first_ms,
                });
            }
        }
        let filled = |(id, fill): &(u64, Fill)| Filled { fill: *id, table: fill.table, unseen, starts: starts.clone() };
        let filled = self.fills.iter().map(filled).collect();
        Flip { seal, fence_lsn: fence.lsn, rows: self.rows, filled }
    }

    /// Brings the tables in: the last frames are followed on the seat, so that nothing comes in between.
    fn flip(&mut self, flip: Flip, mut tail: TailReader<Disk>) -> Result<u64, Ended> {
        loop {
            self.follow(&mut tail)?;
            self.still()?;
            let seat = self.seat;
            match seat.with(|engine| self.flip_now(engine, &flip, &mut tail))? {
                Flipped::At(lsn) => return Ok(lsn),
                Flipped::NotYet => {}
                Flipped::Refused(text) => {
                    self.cause("waiting", &text);
                    self.parts.facts.fills.wait(self.changes, SHOW_EVERY);
                }
            }
        }
    }

    /// On the seat, between frames.
    fn flip_now(&mut self, engine: &mut Engine, flip: &Flip, tail: &mut TailReader<Disk>) -> Result<Flipped, Ended> {
        let state = engine.state();
        let serving = Serving::of(state, &self.schema);
        if !self.same(&serving) || !self.fills.iter().all(|(id, fill)| state.fills().open.get(id) == Some(fill)) {
            return Err(Ended::Changed);
        }
        if serving.lsn - self.shadow.lsn() > FLIP_ROWS_MAX {
            return Ok(Flipped::NotYet);
        }
        while self.shadow.lsn() < serving.lsn {
            let Some(frame) = tail.next_written()? else { return Ok(Flipped::NotYet) };
            follow_one(&mut self.shadow, &frame.frame())?;
        }
        assert_eq!(self.shadow.lsn(), serving.lsn, "what the serving state has applied, and nothing else, is followed");
        let tables = self.shadow.take_tables();
        assert_eq!(tables.len(), flip.filled.len(), "each fill has its table");
        match engine.bring_in(tables, flip.clone()) {
            Ok(lsn) => Ok(Flipped::At(lsn)),
            Err(refused) => {
                let (tables, error) = *refused;
                self.shadow.put_back(tables);
                match error.code {
                    Code::Draining => Err(Ended::Stopping),
                    _ => Ok(Flipped::Refused(error.to_string())),
                }
            }
        }
    }

    /// Shows how far it is, not too often.
    fn tell(&mut self) {
        if self.shown.elapsed() >= SHOW_EVERY {
            self.show("reading");
        }
    }

    fn cause(&mut self, state: &'static str, cause: &str) {
        for (id, _) in &self.fills {
            self.parts.facts.fills.update(*id, |progress| (progress.state, progress.cause) = (state, cause.to_owned()));
        }
    }

    fn show(&mut self, state: &'static str) {
        self.shown = Instant::now();
        let mut progress = FillProgress {
            state,
            rows: self.rows,
            at_ms: self.lanes.iter().map(Lane::clock_ms).max().filter(|ms| *ms > 0),
            bytes: self.shadow.bytes_of_tables() as u64,
            warnings: self.warnings.clone(),
            ..FillProgress::default()
        };
        for leg in &self.legs {
            for (code, count) in leg.feed.bad() {
                *progress.bad.entry(code).or_default() += count;
            }
        }
        let part = |part: &Part| PartProgress {
            place: format!("{}/{}", part.key.topic, part.key.partition),
            from: part.range.start.min(part.next),
            next: part.next,
            until: part.until,
        };
        progress.parts = self.all.iter().map(part).collect();
        let (done, _) = progress.done_of();
        progress.rate = done.checked_div(self.began.elapsed().as_secs().max(1)).unwrap_or(0);
        for (id, _) in &self.fills {
            self.parts.facts.fills.show(*id, progress.clone());
        }
    }
}

/// What became of a try to bring the tables in.
enum Flipped {
    At(u64),
    /// The log is too far ahead.
    NotYet,
    /// The log did not take the frame.
    Refused(String),
}

/// A frame of the log; those in front of the fence were folded from their records.
fn follow_one(shadow: &mut State, frame: &crate::wal::Frame<'_>) -> Result<(), Ended> {
    if frame.last_lsn() <= shadow.lsn() {
        return Ok(());
    }
    assert!(frame.first_lsn > shadow.lsn(), "a fence is set between frames");
    seal::follow(shadow, frame, false).map_err(|error| Ended::Waits(error.to_string()))
}
