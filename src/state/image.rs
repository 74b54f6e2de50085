//! A state as sections of a snapshot, and back. Chunks are written as they are; what they mean is in one JSON section before them.
//!
//! ```text
//! 1 META      JSON, cut into parts where it is long; the section's index is the part's number: registry, partitions, waiting offsets, what is lost by decisions, schemas and the sources that read by them, incidents, rejects, rows applied by event and how far they came, and per table its rows and of each slab the features and their layout
//! 2 GROUP     words: table id, what (1 key words, 2 a class of long keys, 3 words of a slab, 4 a class of a slab's
//!             arena), slab, class; 0 for what does not apply; then a bit for each place of a chunk, set where there
//!             is one, up to the last
//! 3 CHUNK     words of one chunk; the section's index is the chunk's number in its group: the next bit that is set
//! ```
//! No number in a file makes a reader reserve more than the bytes that say it could fill: lists of chunks have as
//! many places as bits are there, key words have no gaps, and a slab has no more chunks than there are key words.

use super::account::Account;
use super::arena::Arena;
use super::chunk::{CHUNK_WORDS, Chunk};
use super::cold::{LIFE, life};
use super::dedupe::ids_def;
use super::fills::Fills;
use super::frozen::{Frozen, NoRoom, Tables};
use super::keys::{Free, KEY_WORDS, Keys};
use super::layout::Layout;
use super::places::{Places, bits_of};
use super::plan::SlabPlan;
use super::skip::Skip;
use super::slab::{Missed, Slab};
use super::state::{State, text_of};
use super::table::Table;
use super::unseen::{Applied, Unseen};
use super::verify;
use super::waiting::WaitingOffsets;
use super::words::Words;
use crate::operators::OPERATORS;
use crate::pipeline::{FeatureDef, Registry, TableDef};
use crate::row::EventId;
use crate::snapshot::{SECTION_BYTES_MAX, Section, SnapshotError, SnapshotWriter};
use crate::storage::Storage;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use streamgauge_api::StoredPosition;
use streamgauge_api::control::Reject;
use streamgauge_api::decision::Gap;
use streamgauge_api::inlet::FetchedSchema;
use streamgauge_api::source::Incident;

const META: u32 = 1;
const GROUP: u32 = 2;
const CHUNK: u32 = 3;

const KEYS: u64 = 1;
const KEYS_CLASS: u64 = 2;
const SLAB: u64 = 3;
const SLAB_CLASS: u64 = 4;

/// Bytes of a part of the description: far below the longest section.
const PART_BYTES: usize = 16 << 20;
const _: () = assert!(PART_BYTES <= SECTION_BYTES_MAX);
/// More classes than an arena has.
const CLASSES_MAX: usize = 255;

/// Layout of the sections and of the words in them.
pub(super) const IMAGE_FORMAT: u32 = 8;

#[derive(Serialize, Deserialize)]
struct Meta {
    format: u32,
    registry: String,
    frame_us: i64,
    clock_held: bool,
    skips: Vec<Skip>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    skipped: BTreeMap<u32, Incident>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gaps: Vec<Gap>,
    #[serde(default, skip_serializing_if = "Fills::is_empty")]
    fills: Fills,
    partitions: Vec<StoredPosition>,
    waiting: BTreeMap<u32, WaitingOffsets>,
    schemas: Vec<FetchedSchema>,
    #[serde(default)]
    readable: BTreeSet<Box<str>>,
    incidents: BTreeMap<u32, Incident>,
    rejects: Vec<Reject>,
    #[serde(default)]
    rejects_gone: u64,
    /// Rejects that are rows now.
    #[serde(default)]
    rejects_retried: u64,
    applied: BTreeMap<u32, Applied>,
    tables: Vec<TableMeta>,
}

#[derive(Serialize, Deserialize)]
struct TableMeta {
    id: u32,
    rows: u32,
    free: Free,
    newest_us: i64,
    since: (u64, i64),
    slabs: Vec<SlabMeta>,
}

#[derive(Serialize, Deserialize)]
struct SlabMeta {
    /// Names and declarations.
    features: Vec<(String, serde_json::Value)>,
    layout: Layout,
    unseen: Option<Unseen>,
}

/// Why sections are no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// They do not fit together.
    #[error("the snapshot's content is not a state: {0}")]
    Wrong(String),
    /// Words of the state mean something else to this program than to the one that wrote them.
    #[error("the snapshot's content is laid out by another program: {0}")]
    Layout(String),
    /// Another program wrote them: they may be sound, and this one cannot say.
    #[error("the snapshot's content is of format {found}; this program reads {known}")]
    Format {
        /// Its format.
        found: u32,
        /// The format that this build reads.
        known: u32,
    },
}

/// The one member of the description that every format has.
#[derive(Deserialize)]
struct Described {
    format: u32,
}

/// Why a frozen state was not written.
#[derive(Debug, thiserror::Error)]
pub enum Unwritten {
    /// The file could not be written.
    #[error(transparent)]
    File(#[from] SnapshotError),
    /// It was let go meanwhile.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

impl State {
    /// Number of keys of all tables.
    pub fn key_count(&self) -> u64 {
        self.tables.values().map(|table| table.keys.held() as u64).sum()
    }
}

impl Frozen {
    /// Writes it, one chunk after the other: each is copied while the tables are looked at and written after that, so that
    /// no disk holds up whoever lets them go.
    ///
    /// # Errors
    /// What the file layer says, or that it was let go.
    pub fn write_image<S: Storage>(&self, writer: &mut SnapshotWriter<S>) -> Result<(), Unwritten> {
        let (tables, groups) = self.look(|tables| {
            let groups: Vec<(Group, Vec<u64>)> = tables.values().flat_map(groups_of).collect();
            (tables.values().map(TableMeta::of).collect(), groups)
        })?;
        let state = &self.rest;
        let meta = Meta {
            format: IMAGE_FORMAT,
            registry: state.registry.to_json(),
            frame_us: state.frame_us,
            clock_held: state.clock_held,
            skips: state.skips.clone(),
            skipped: state.skipped.clone(),
            gaps: state.gaps.clone(),
            fills: state.fills.clone(),
            partitions: state.partitions.clone(),
            waiting: state.waiting.clone(),
            schemas: state.schemas.clone(),
            readable: state.readable.clone(),
            incidents: state.incidents.clone(),
            rejects: state.rejects().cloned().collect(),
            rejects_gone: state.rejects_gone(),
            rejects_retried: state.rejects_retried(),
            applied: state.applied.iter().map(|(event, applied)| (event.0, *applied)).collect(),
            tables,
        };
        for (index, part) in (0..).zip(text_of(&meta).chunks(PART_BYTES)) {
            writer.bytes(META, index, part)?;
        }
        let mut words = Vec::new();
        for (group, bits) in groups {
            let head = [group.table, group.what, group.slab, group.class];
            writer.section(GROUP, 0, &[&head, &*bits].concat())?;
            let Ok(mut places) = Places::read(&bits) else { unreachable!("bits are written in the form in which they are read") };
            while let Some(number) = places.next() {
                let Ok(index) = u32::try_from(number) else { unreachable!("a list has fewer chunks than 32 bits count") };
                self.look(|tables| group.copy(tables, number, &mut words))?;
                writer.section(CHUNK, index, &words)?;
            }
        }
        Ok(())
    }
}

impl TableMeta {
    fn of(table: &Table) -> Self {
        Self {
            id: table.def.id,
            rows: table.keys.rows(),
            free: table.keys.free(),
            newest_us: table.newest_us,
            since: table.since,
            slabs: table.slabs.iter().map(SlabMeta::of).collect(),
        }
    }
}

impl SlabMeta {
    fn of(slab: &Slab) -> Self {
        let described = |def: &FeatureDef| (def.name.to_string(), def.node.clone());
        let features = slab.plan.features.iter().map(|feature| described(&feature.def)).collect();
        Self { features, layout: Layout::of(&slab.plan), unseen: slab.unseen }
    }
}

/// The groups of a table, with the places of their chunks.
fn groups_of(table: &Table) -> Vec<(Group, Vec<u64>)> {
    let id = u64::from(table.def.id);
    let group = |what, slab, class| Group { table: id, what, slab, class };
    let of_arena = |what, slab, arena: &Arena| -> Vec<(Group, Vec<u64>)> {
        let classes = (0u64..).zip(arena.classes()).filter(|(_, chunks)| chunks.iter().any(Option::is_some));
        classes.map(|(class, chunks)| (group(what, slab, class), bits_of(chunks))).collect()
    };
    let mut groups = vec![(group(KEYS, 0, 0), bits_of(table.keys.words().chunks()))];
    groups.extend(of_arena(KEYS_CLASS, 0, table.keys.long()));
    for (number, slab) in (0u64..).zip(&table.slabs) {
        assert!(!slab.is_shedding(), "a state is written when all that left its tables is gone");
        groups.push((group(SLAB, number, 0), bits_of(slab.words.chunks())));
        groups.extend(of_arena(SLAB_CLASS, number, &slab.arena));
    }
    groups
}

impl Group {
    /// Copies the words of one of its chunks.
    fn copy(&self, tables: &Tables, number: usize, words: &mut Vec<u64>) {
        let chunk = self.chunks(tables).and_then(|chunks| chunks.get(number)?.as_ref());
        let Some(chunk) = chunk else { unreachable!("chunk {number} of {self:?} was there when the state was frozen") };
        words.clear();
        words.extend_from_slice(chunk.words());
    }

    fn chunks<'t>(&self, tables: &'t Tables) -> Option<&'t [Option<Chunk>]> {
        let (slab, class) = (usize::try_from(self.slab).ok()?, usize::try_from(self.class).ok()?);
        let table = tables.get(&u32::try_from(self.table).ok()?)?;
        match self.what {
            KEYS => Some(table.keys.words().chunks()),
            KEYS_CLASS => table.keys.long().classes().nth(class),
            SLAB => Some(table.slabs.get(slab)?.words.chunks()),
            SLAB_CLASS => table.slabs.get(slab)?.arena.classes().nth(class),
            _ => None,
        }
    }
}

/// Collects the sections of a snapshot into a state.
pub struct ImageReader {
    /// Parts of the description that came, and how many, until the first section behind them.
    description: Vec<u8>,
    described: u32,
    meta: Option<Meta>,
    tables: BTreeMap<u64, TableParts>,
    at: Option<(Group, Places)>,
    /// What the chunks are charged to, table by table.
    account: Account,
    /// Tables are left out.
    bare: bool,
}

impl Default for ImageReader {
    fn default() -> Self {
        let (description, described, meta) = (Vec::new(), 0, None);
        Self { description, described, meta, tables: BTreeMap::new(), at: None, account: Account::open(), bare: false }
    }
}

/// What the next chunks belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Group {
    table: u64,
    what: u64,
    slab: u64,
    class: u64,
}

struct TableParts {
    account: Account,
    keys: Vec<Option<Chunk>>,
    long: Classes,
    slabs: BTreeMap<u64, SlabParts>,
}

#[derive(Default)]
struct SlabParts {
    words: Vec<Option<Chunk>>,
    classes: Classes,
}

type Classes = BTreeMap<u64, Vec<Option<Chunk>>>;

impl TableParts {
    fn new(above: &Account) -> Self {
        Self { account: above.below(), keys: Vec::new(), long: Classes::new(), slabs: BTreeMap::new() }
    }

    /// The chunks that a group names.
    fn chunks(&mut self, at: Group) -> Option<&mut Vec<Option<Chunk>>> {
        match at.what {
            KEYS => Some(&mut self.keys),
            KEYS_CLASS => Some(self.long.entry(at.class).or_default()),
            SLAB => Some(&mut self.slabs.entry(at.slab).or_default().words),
            SLAB_CLASS => Some(self.slabs.entry(at.slab).or_default().classes.entry(at.class).or_default()),
            _ => None,
        }
    }
}

/// The description of a state, if it is of the format that this build reads: what else is in another one is not looked at.
fn read_meta(bytes: &[u8]) -> Result<Meta, ImageError> {
    let wrong = |error: serde_json::Error| ImageError::Wrong(error.to_string());
    let Described { format } = serde_json::from_slice(bytes).map_err(wrong)?;
    if format != IMAGE_FORMAT {
        return Err(ImageError::Format { found: format, known: IMAGE_FORMAT });
    }
    serde_json::from_slice(bytes).map_err(wrong)
}

impl ImageReader {
    /// Takes the next section.
    ///
    /// # Errors
    /// When it does not belong where it stands.
    pub fn take(&mut self, section: &Section<'_>) -> Result<(), ImageError> {
        if section.id != META {
            self.read_description()?;
        }
        match section.id {
            META if self.meta.is_none() && section.index == self.described => {
                self.description.extend_from_slice(section.bytes);
                self.described += 1;
            }
            GROUP => self.group(section.words)?,
            CHUNK => self.chunk(section.index as usize, section.words)?,
            other => return Err(ImageError::Wrong(format!("section {other} is unknown"))),
        }
        Ok(())
    }

    /// Whether a section is a part of the description.
    pub fn is_description(section: &Section<'_>) -> bool {
        section.id == META
    }

    /// The description is whole when something else comes. What another format has behind it is not looked at.
    fn read_description(&mut self) -> Result<(), ImageError> {
        if self.meta.is_none() && self.described > 0 {
            self.meta = Some(read_meta(&std::mem::take(&mut self.description))?);
        }
        Ok(())
    }

    fn group(&mut self, words: &[u64]) -> Result<(), ImageError> {
        self.all_came()?;
        if self.meta.is_none() {
            return Err(ImageError::Wrong("tables before their description".into()));
        }
        let Some((&[table, what, slab, class], bits)) = words.split_first_chunk() else {
            return Err(ImageError::Wrong("a group of another size".into()));
        };
        let at = Group { table, what, slab, class };
        let wrong = |reason: String| ImageError::Wrong(format!("{at:?}: {reason}"));
        let places = Places::read(bits).map_err(wrong)?;
        let parts = self.tables.entry(table).or_insert_with(|| TableParts::new(&self.account));
        // Each chunk of a slab has a row at least, and a row has key words.
        let rows = parts.keys.len() * (CHUNK_WORDS / KEY_WORDS);
        if what == SLAB && places.count() > rows {
            return Err(wrong(format!("{} chunks of words, and key words of {rows} rows", places.count())));
        }
        match parts.chunks(at) {
            Some(chunks) if chunks.is_empty() => self.at = Some((at, places)),
            Some(_) => return Err(wrong("it is there twice".into())),
            None => return Err(wrong("it is of a kind that is unknown".into())),
        }
        Ok(())
    }

    /// Whether every chunk came that the current group announced.
    fn all_came(&mut self) -> Result<(), ImageError> {
        match self.at.take() {
            Some((at, mut places)) => match places.next() {
                Some(number) => Err(ImageError::Wrong(format!("chunk {number} of {at:?} is missing"))),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }

    fn chunk(&mut self, index: usize, words: &[u64]) -> Result<(), ImageError> {
        let Some((at, places)) = &mut self.at else { return Err(ImageError::Wrong("content before its group".into())) };
        let announced = places.next();
        if announced != Some(index) {
            return Err(ImageError::Wrong(format!("chunk {index} of {at:?} where {announced:?} was announced")));
        }
        let Some(parts) = self.tables.get_mut(&at.table) else { unreachable!("a group makes its table's parts") };
        let chunk = Chunk::from_words(&parts.account, words);
        let Some(chunks) = parts.chunks(*at) else { unreachable!("a group of this kind was taken") };
        if at.what == KEYS && index != chunks.len() {
            return Err(ImageError::Wrong(format!("chunk {} of {at:?} is missing", chunks.len())));
        }
        assert!(chunks.len() <= index && index < places.count(), "chunk {index} comes behind {} of {}", chunks.len(), places.count());
        chunks.resize_with(index, || None);
        chunks.push(Some(chunk));
        Ok(())
    }

    /// The same, charged below another state's account, which its tables are to come into.
    #[must_use]
    pub(crate) fn charged_to(mut self, state: &State) -> Self {
        self.account = state.account().clone();
        self
    }

    /// The same without tables: what is declared and counted, for whoever asks for no more.
    #[must_use]
    pub fn without_tables(mut self) -> Self {
        self.bare = true;
        self
    }

    /// The state, with its indexes rebuilt.
    ///
    /// # Errors
    /// When sections are missing or contradict the definitions.
    pub fn finish(mut self, hash_seed: u64, lsn: u64) -> Result<State, ImageError> {
        self.all_came()?;
        self.read_description()?;
        let meta = self.meta.take().ok_or_else(|| ImageError::Wrong("there is no description".into()))?;
        let registry = Registry::from_json(&meta.registry, OPERATORS).map_err(|error| ImageError::Wrong(error.to_string()))?;
        let mut state = State::new(hash_seed);
        state.account = self.account.clone();
        state.lsn = lsn;
        state.frame_us = meta.frame_us;
        state.clock_held = meta.clock_held;
        state.skips = meta.skips;
        state.skipped = meta.skipped;
        state.gaps = meta.gaps;
        state.fills = meta.fills;
        state.partitions = meta.partitions;
        state.restore_waiting(meta.waiting).map_err(ImageError::Wrong)?;
        state.schemas = meta.schemas;
        state.readable = meta.readable;
        state.incidents = meta.incidents;
        state.restore_rejects(meta.rejects, meta.rejects_gone, meta.rejects_retried);
        state.applied = meta.applied.into_iter().map(|(event, applied)| (EventId(event), applied)).collect();
        for table in meta.tables.into_iter().filter(|_| !self.bare) {
            let id = table.id;
            let parts = self.tables.remove(&u64::from(id)).unwrap_or_else(|| TableParts::new(&self.account));
            let restored = restore_table(&registry, table, parts, hash_seed)?;
            if state.tables.insert(id, restored).is_some() {
                return Err(ImageError::Wrong(format!("table {id} is there twice")));
            }
        }
        if let Some(id) = self.tables.keys().next() {
            return Err(ImageError::Wrong(format!("there are words of table {id}, which is not described")));
        }
        if !self.bare {
            state.have_ids(&registry, lsn, meta.frame_us);
        }
        for table in state.tables.values_mut() {
            let cold_us = registry.cold_after_us(&table.def);
            table.live_for(cold_us);
        }
        state.registry = Arc::new(registry);
        state.contradiction().map_err(ImageError::Wrong)?;
        if !self.bare {
            state.has_tables_of_its_registry().map_err(ImageError::Wrong)?;
        }
        state.route();
        Ok(if self.bare { state.bare() } else { state })
    }
}

fn restore_table(registry: &Registry, meta: TableMeta, parts: TableParts, hash_seed: u64) -> Result<Table, ImageError> {
    let def = registry
        .table_by_id(meta.id)
        .cloned()
        .or_else(|| ids_def(registry, meta.id))
        .ok_or_else(|| ImageError::Wrong(format!("table {} is not defined", meta.id)))?;
    let wrong = |reason: String| ImageError::Wrong(format!("keys of table {}: {reason}", def.name));
    let keys = Keys::new(hash_seed, &parts.account);
    let words = Words::from_chunks(KEY_WORDS, &parts.account, parts.keys).map_err(wrong)?;
    let long = restore_arena(&parts.account, parts.long).map_err(wrong)?;
    let keys = keys.restored(words, long, meta.rows, meta.free).map_err(wrong)?;
    let mut table = Table::new(Arc::clone(&def), keys, meta.since, parts.account);
    table.newest_us = meta.newest_us;
    table.slabs.clear();
    let mut slabs = parts.slabs;
    has_each_feature_once(&def, &meta.slabs)?;
    for (number, described) in (0u64..).zip(meta.slabs) {
        let mut features = Vec::with_capacity(described.features.len());
        for (name, node) in described.features {
            let declared = if name == LIFE { Some(life()) } else { def.feature(&name).cloned() };
            let feature = declared.filter(|feature| feature.node == node);
            features.push(feature.ok_or_else(|| {
                ImageError::Wrong(format!("slab {number} of table {} holds \"{name}\", which is not declared so", def.name))
            })?);
        }
        let plan = SlabPlan::compile(&features);
        assert!(plan.oversized_ring().is_none(), "a registry with a ring beyond the largest object is not read");
        if let Some(difference) = described.layout.difference(&plan) {
            return Err(ImageError::Layout(format!("in table {} {difference}", def.name)));
        }
        let wrong = |reason: String| ImageError::Wrong(format!("slab {number} of table {}: {reason}", def.name));
        let parts = slabs.remove(&number).unwrap_or_default();
        let words = Words::from_chunks(plan.stride, &table.account, parts.words).map_err(wrong)?;
        let arena = restore_arena(&table.account, parts.classes).map_err(wrong)?;
        let missed = vec![Missed::default(); plan.windows.len()];
        let unseen = described.unseen;
        let slab = Slab { plan: Arc::new(plan), words, arena, unseen, missed, worked: 0, older: None };
        verify::slab(&slab, &table.keys).map_err(wrong)?;
        table.slabs.push(slab);
    }
    if let Some(number) = slabs.keys().next() {
        return Err(ImageError::Wrong(format!("table {} has no slab {number}", def.name)));
    }
    Ok(table)
}

/// Whether the slabs hold what is declared, each feature once: a plan is compiled from them.
fn has_each_feature_once(def: &TableDef, slabs: &[SlabMeta]) -> Result<(), ImageError> {
    let mut names: Vec<&str> = slabs.iter().flat_map(|slab| &slab.features).map(|(name, _)| &**name).collect();
    // When keys' rows last came is kept by a slab of its own.
    if slabs.iter().filter(|slab| matches!(&slab.features[..], [(name, _)] if name == LIFE)).count() == 1 {
        names.retain(|name| *name != LIFE);
    }
    names.sort_unstable();
    // They are declared in this order.
    let declared: Vec<&str> = def.features.iter().map(|feature| &*feature.name).collect();
    if names == declared {
        return Ok(());
    }
    Err(ImageError::Wrong(format!("table {} has slabs of {names:?} and declares {declared:?}", def.name)))
}

fn restore_arena(account: &Account, parts: Classes) -> Result<Arena, String> {
    let mut classes = Vec::new();
    for (number, chunks) in parts {
        let number = usize::try_from(number).ok().filter(|&number| number <= CLASSES_MAX);
        classes.resize_with(number.ok_or("an arena class beyond all")?, Vec::new);
        classes.push(chunks);
    }
    Arena::from_classes(account, classes)
}
