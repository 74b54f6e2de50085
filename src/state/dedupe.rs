//! Rows that came before: an event with a `dedupe` key takes each id once within its window.
//!
//! Whether a row is a repetition is decided where it is applied, by the state and the row alone: its id came before, and
//! the row is less than the window behind the first row with that id (the window does not slide). So live apply, replay and recovery say the same,
//! the log keeps what was pushed, and rows of Kafka are judged like pushes. A repetition reaches no table; who pushed it
//! is told the LSN of the first ([`State::repeated`]). A row without an id is none.
//!
//! The ids stand in a table of their own that nobody declares, keyed by the field: two words for each, the first row's LSN
//! and time. So snapshots, accounts, moves of keys and limits need not know of it. Ids behind their window
//! go with sweeps, as cold keys do (`cold.rs`), and are taken anew where they come again before that.

use super::accumulator::{Accumulator, Input, Need};
use super::arena::Arena;
use super::plan::SlabRow;
use super::state::State;
use super::table::{Scratch, Table, key_of};
use crate::operators::{
    AccumulatorNeed, Accuracy, Compiled, Family, FeatureParams, FieldRule, Fields, Operator, Output, Reads, RowsTaken, Signature,
    WindowRule,
};
use crate::pipeline::{Chain, Column, FeatureDef, KeyColumn, KeyKind, Origin, Registry, RowEnv, TableDef};
use crate::row::{EventId, EventSchema, FieldType, Rows};
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use streamgauge_api::Value;

/// Numbers of tables of ids: those of events, above every number that registration gives.
const IDS: u32 = 1 << 31;

/// Whether a table is one of ids.
pub(super) fn is_ids(table: u32) -> bool {
    table & IDS != 0
}

/// The number of an event's table of ids.
fn ids_of(event: EventId) -> u32 {
    assert_eq!(event.0 & IDS, 0, "events are numbered from 1");
    event.0 | IDS
}

/// The table of ids of this number, if its event wants one.
pub(super) fn ids_def(registry: &Registry, table: u32) -> Option<Arc<TableDef>> {
    is_ids(table).then(|| registry.event_by_id(EventId(table & !IDS)))?.and_then(|event| declared(&event.schema)).map(Arc::new)
}

fn declared(schema: &EventSchema) -> Option<TableDef> {
    let dedupe = schema.dedupe?;
    let field = schema.fields.get(usize::from(dedupe.field.0))?;
    let kind = KeyKind::of(field.kind)?;
    Some(TableDef {
        id: ids_of(schema.id),
        name: format!("{} ids", schema.name).into(),
        event: schema.id,
        event_name: schema.name.clone(),
        chain: Chain::default(),
        chain_steps: 0,
        computed: Vec::new(),
        keys: vec![KeyColumn { name: field.name.clone(), column: Column::Field(dedupe.field), kind }],
        features: vec![Arc::new(FeatureDef::plain(FIRST_ROW.name, &FirstRow))],
        owner: Box::default(),
        origin: Origin::Config,
        node: Json::Null,
    })
}

/// What is kept of an id; no user can name it.
#[derive(Debug, Clone, Copy)]
struct FirstRow;

static FIRST_ROW: Signature = Signature {
    name: "first row",
    aliases: &[],
    family: Family::Recency,
    asks: "",
    help: "",
    field: FieldRule::None,
    reads: Reads::Any,
    window: WindowRule::Span,
    params: &[],
    lifetime_bound: None,
    grown: "",
    output: Output::Is(FieldType::I64),
};

impl Operator for FirstRow {
    fn signature(&self) -> &'static Signature {
        &FIRST_ROW
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        Compiled {
            needs: vec![AccumulatorNeed { accumulator: Arc::new(Self), rows: RowsTaken::All, fields: Fields::Field }],
            value: Box::new(|_, _| Value::Null),
            accuracy: Box::new(|_, _| Accuracy::Exact),
        }
    }
}

/// Slot: `[LSN of the first row that was applied] [its time, us]`.
impl Accumulator for FirstRow {
    fn identity(&self) -> String {
        "first row".into()
    }

    fn words(&self) -> usize {
        2
    }

    fn need(&self) -> Need {
        Need::Nothing
    }

    fn update(&self, slot: &mut [u64], _arena: &mut Arena, input: &Input<'_>) {
        if slot[0] == 0 {
            slot.copy_from_slice(&[input.lsn, input.time_us.cast_unsigned()]);
        }
    }

    fn merge(&self, _slot: &mut [u64], _arena: &mut Arena, _other: &[u64], _from: &Arena) {
        unreachable!("only buckets of windows are merged")
    }

    fn verify(&self, slot: &[u64], _arena: &Arena) -> Result<(), &'static str> {
        if slot[0] == 0 && slot[1] != 0 { Err("an id has a time and no row") } else { Ok(()) }
    }
}

/// A row, and the one before it with its id, by their LSNs.
pub type Repeated = (u64, u64);

impl Table {
    /// The first row of an id: its LSN and time. None where the window has passed by then.
    fn first_row(&self, number: u32, now_us: i64) -> Option<(u64, i64)> {
        let words = self.slabs.iter().find_map(|slab| slab.settled(number))?;
        let &[lsn, first_us] = words else { unreachable!("an id has two words") };
        let first_us = first_us.cast_signed();
        let window_us = self.ids_us.unwrap_or(i64::MAX);
        (lsn != 0 && now_us.saturating_sub(first_us) < window_us).then_some((lsn, first_us))
    }

    /// Whether the id of this row number is behind its window.
    pub(super) fn is_behind(&self, number: u32, now_us: i64) -> bool {
        self.first_row(number, now_us).is_none()
    }

    /// Takes the ids of some rows of a batch; gives those runs of them that are no repetitions.
    pub(super) fn take_ids(
        &mut self,
        rows: &Rows,
        range: Range<usize>,
        schema: &EventSchema,
        lsn: u64,
        scratch: &mut Scratch,
        repeated: &mut Vec<Repeated>,
    ) -> smallvec::SmallVec<[Range<usize>; 4]> {
        let (mut runs, mut from) = (smallvec::SmallVec::new(), range.start);
        for row in range.clone() {
            let env = RowEnv { rows, row, schema, derived: &scratch.derived };
            if rows.is_delete(row) || !key_of(&self.def.keys, &env, &mut scratch.key) {
                continue;
            }
            self.funnel.received += 1;
            let edge_us = rows.edge_us(row);
            let number = self.keys.resolve(&self.keys.probe(&scratch.key), &scratch.key);
            if let Some((first, _)) = self.first_row(number, edge_us) {
                repeated.push((lsn + row as u64, first));
                self.funnel.repeated += 1;
                if from < row {
                    runs.push(from..row);
                }
                from = row + 1;
                continue;
            }
            self.newest_us = self.newest_us.max(edge_us);
            self.funnel.applied += 1;
            let bare = Input::bare(edge_us, lsn + row as u64);
            let taken = SlabRow { inputs: &[], matches: &[], bare: &bare, edge_us };
            for slab in &mut self.slabs {
                slab.clear(number);
                slab.update(number, taken);
            }
        }
        if from < range.end {
            runs.push(from..range.end);
        }
        runs
    }
}

impl State {
    /// Has a table of ids for every event that wants one, and for no other.
    pub(super) fn have_ids(&mut self, registry: &Registry, lsn: u64, now_us: i64) {
        let wanted = registry.events.values().filter_map(|event| Some((declared(&event.schema)?, event.schema.dedupe?.window_us)));
        let wanted: Vec<(TableDef, i64)> = wanted.collect();
        let numbers: BTreeSet<u32> = wanted.iter().map(|(def, _)| def.id).collect();
        let is_of_old = |table: &Table| {
            let def = wanted.iter().find(|(def, _)| def.id == table.def.id);
            is_ids(table.def.id) && def.is_none_or(|(def, _)| def.keys != table.def.keys)
        };
        let gone: Vec<u32> = self.tables.values().filter(|table| is_of_old(table)).map(|table| table.def.id).collect();
        for id in gone {
            let Some(table) = self.tables.remove(&id) else { unreachable!("it was there") };
            table.leave(&mut self.leaving, now_us);
        }
        for (def, window_us) in wanted {
            let (id, seed) = (def.id, self.hash_seed);
            let account = &self.account;
            let table = self.tables.entry(id).or_insert_with(|| Table::empty(Arc::new(def), seed, (lsn, now_us), account));
            table.ids_us = Some(window_us);
        }
        debug_assert!(self.tables.keys().filter(|id| is_ids(**id)).all(|id| numbers.contains(id)), "no event wants other ids");
    }

    /// Of rows that were applied last and came before: their LSNs, and those of the first rows with their ids.
    pub fn repeated(&self, lsns: std::ops::RangeInclusive<u64>) -> impl Iterator<Item = Repeated> + '_ {
        let from = self.repeated.partition_point(|(lsn, _)| lsn < lsns.start());
        self.repeated[from..].iter().copied().take_while(move |(lsn, _)| lsn <= lsns.end())
    }

    /// The table of ids of an event.
    pub(super) fn ids_table(&self, event: EventId) -> Option<u32> {
        let id = ids_of(event);
        self.tables.contains_key(&id).then_some(id)
    }
}
