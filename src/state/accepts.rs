//! Whether what a file brings may be applied: [`State::accepts`] for a frame, [`State::contradiction`] for the part
//! of an image that is not words.
//!
//! Apply relies on what it is given: live content is made from the state itself. A frame that was read back has a
//! checksum, which says that somebody wrote it, not that it was this program. So recovery asks here first, and
//! refuses with the frame's LSN what names things that are not there or contradicts itself. Nothing is looked at row
//! by row but what stands beside the rows: runs of offsets and rows ahead of their clock.
//!
//! Effects are judged by playing them through: which slabs a table would have after each, and whether the words
//! that stay mean the same under the declaration that comes.

use super::content::Content;
use super::dedupe::is_ids;
use super::plan::SlabPlan;
use super::skip::{SKIPS_MAX, Skip};
use super::state::{GAPS_PER_EVENT_MAX, State};
use crate::operators::FeatureParams;
use crate::pipeline::{FeatureDef, Registry, TableDef, TableEffect};
use crate::row::EventId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use streamgauge_api::decision::Gap;
use streamgauge_api::source::Incident;
use streamgauge_api::{PartitionKey, Position, StoredPosition};

/// LSNs have room for more than can ever be written, and for the bits that an accumulator keeps beside one.
pub(crate) const LSN_MAX: u64 = 1 << 60;
/// Rows of one event, as everything else that counts rows has room for.
const ROWS_MAX: u64 = 1 << 53;
/// The end of the year 9999, microseconds.
const TIME_US_MAX: i64 = 253_402_300_799_999_999;

/// The features of each slab of a table.
type Slabs = Vec<Vec<Arc<FeatureDef>>>;

impl State {
    /// Whether a frame that was read from a file can be applied; live frames are made from this state and always can.
    ///
    /// # Errors
    /// Says what it names that is not there, or what contradicts itself.
    pub fn accepts(&self, content: &Content, first_lsn: u64, now_us: i64) -> Result<(), String> {
        if first_lsn != self.lsn + 1 || first_lsn.saturating_add(content.lsns()) > LSN_MAX {
            return Err(format!("it has {} LSNs from {first_lsn} on, the state stands at {}", content.lsns(), self.lsn));
        }
        in_time(now_us)?;
        let partitions = self.partitions.len();
        match content {
            Content::Rows(rows) => {
                positions(&rows.positions, partitions)?;
                self.knows_waiting(&rows.positions, &rows.waiting)?;
                rows.batches.iter().try_for_each(|batch| batch.verify(rows.positions.len()))?;
                let counted = |id| self.applied.get(&id).map_or(0, |applied| applied.rows);
                match rows.batches.iter().find(|batch| counted(batch.event()) >= ROWS_MAX - (1 << 32)) {
                    Some(batch) => Err(format!("{} rows of event {} were applied before it", counted(batch.event()), batch.event().0)),
                    None => Ok(()),
                }
            }
            Content::Skipped { positions: moved, waiting, .. } => {
                positions(moved, partitions)?;
                self.knows_waiting(moved, waiting)
            }
            Content::Incident { slot, .. } if slot.0 as usize >= partitions => {
                Err(format!("it is of the partition of slot {}, {partitions} partitions are known", slot.0))
            }
            Content::Moved { slot, stored, reached, gap } => self.accepts_move(slot.0, stored, *reached, gap.as_deref(), first_lsn),
            Content::Incident { incident, .. } => incident.as_ref().map_or(Ok(()), of_incident),
            Content::Clock { now_us, .. } => in_time(*now_us),
            Content::Partition(stored) => match self.slot_of(&stored.key) {
                Some(slot) => Err(format!("the partition is known already, as slot {slot}")),
                None => of_position(&stored.position),
            },
            Content::Definition { registry, effects } => self.accepts_definition(registry, effects),
            Content::Fill(step) => self.accepts_fill_step(step, first_lsn),
            Content::Sweep(sweep) if self.registry.table_by_id(sweep.table).is_none() && !is_ids(sweep.table) => {
                Err(format!("it sweeps table {}, which is not defined", sweep.table))
            }
            Content::Schema(_) | Content::Readable { .. } | Content::Sweep(_) | Content::Reset | Content::Nothing => Ok(()),
        }
    }

    /// What the state that an image describes says against itself, tables left aside.
    pub(super) fn contradiction(&self) -> Result<(), String> {
        if self.lsn >= LSN_MAX {
            return Err(format!("it stands at LSN {}", self.lsn));
        }
        in_time(self.frame_us)?;
        let events: BTreeSet<EventId> = self.registry.events.values().map(|event| event.schema.id).collect();
        if events != self.applied.keys().copied().collect() {
            return Err("rows are counted for other events than are defined".into());
        }
        if self.applied.values().any(|applied| applied.rows > ROWS_MAX) {
            return Err("more rows were applied than there are".into());
        }
        if self.applied.values().any(|applied| applied.reached.newest_us > applied.reached.latest_us) {
            return Err("rows came further than the latest of them".into());
        }
        // The key of a forgotten partition is nobody's: another slot may have it since.
        let mut keys: Vec<_> = self.partitions.iter().filter(|stored| !stored.is_forgotten()).map(|stored| &stored.key).collect();
        keys.sort_unstable();
        if let Some(twice) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("partition {}/{} of {} has two slots", twice[0].topic, twice[0].partition, twice[0].event));
        }
        let known = self.partitions.iter().filter(|stored| !stored.is_forgotten());
        known.clone().try_for_each(|StoredPosition { position, .. }| of_position(position))?;
        let in_state = |gap: &Gap| (1..=self.lsn).contains(&gap.lsn) && in_time(gap.since_us).is_ok();
        let mut gaps: BTreeMap<&str, usize> = BTreeMap::new();
        self.gaps.iter().for_each(|gap| *gaps.entry(&gap.event).or_default() += 1);
        let ascend = self.gaps.windows(2).all(|pair| pair[0].lsn < pair[1].lsn);
        if !ascend || gaps.values().any(|count| *count > GAPS_PER_EVENT_MAX) || !self.gaps.iter().all(in_state) {
            return Err("decisions were made that it does not have".into());
        }
        if let Some(slot) = self.incidents.keys().chain(self.skipped.keys()).find(|&&slot| slot as usize >= self.partitions.len()) {
            return Err(format!("an incident is of slot {slot}, {} partitions are known", self.partitions.len()));
        }
        self.incidents.values().chain(self.skipped.values()).try_for_each(of_incident)?;
        let sound = |skip: &Skip| skip.first_lsn >= 1 && skip.first_lsn < LSN_MAX && skip.last_lsn() <= self.lsn;
        if self.skips.len() > SKIPS_MAX || !self.skips.iter().all(sound) {
            return Err("frames were left out that it does not have".into());
        }
        Ok(())
    }

    /// Whether every table of the definitions is there, and no other.
    pub(super) fn has_tables_of_its_registry(&self) -> Result<(), String> {
        let filling: BTreeSet<u32> = self.fills.open.values().map(|fill| fill.table).collect();
        if filling.len() != self.fills.open.len() || filling.iter().any(|id| self.tables.contains_key(id)) {
            return Err(format!("tables {filling:?} are being filled, and are there or filled twice"));
        }
        same_tables(self.tables.keys().copied().chain(filling), &self.registry)
    }

    /// The slot of a partition that is not forgotten.
    pub(crate) fn slot_of(&self, key: &PartitionKey) -> Option<usize> {
        self.partitions.iter().position(|known| !known.is_forgotten() && known.key == *key)
    }

    fn accepts_move(
        &self,
        slot: u32,
        stored: &StoredPosition,
        reached: Option<Position>,
        gap: Option<&Gap>,
        lsn: u64,
    ) -> Result<(), String> {
        let partitions = self.partitions.len();
        if slot as usize >= partitions {
            return Err(format!("it moves the partition of slot {slot}, {partitions} partitions are known"));
        }
        if let Some(other) = self.slot_of(&stored.key).filter(|other| *other != slot as usize && !stored.is_forgotten()) {
            return Err(format!("it moves slot {slot} to the partition of slot {other}"));
        }
        if let Some(reached) = reached {
            of_position(&reached)?;
            let waits = self.waiting.contains_key(&slot) && !stored.is_forgotten();
            if !waits || reached.offset < stored.position.offset {
                return Err(format!(
                    "it moves slot {slot} to {} in front of {}, of which nothing waits",
                    stored.position.offset, reached.offset
                ));
            }
        }
        if let Some(gap) = gap {
            in_time(gap.since_us)?;
            if gap.lsn != lsn {
                return Err(format!("it is of LSN {lsn} and decides at {}", gap.lsn));
            }
        }
        if stored.is_forgotten() { Ok(()) } else { of_position(&stored.position) }
    }

    fn accepts_definition(&self, registry: &Registry, effects: &[TableEffect]) -> Result<(), String> {
        let mut tables: BTreeMap<u32, Slabs> = BTreeMap::new();
        for (id, table) in self.tables.iter().filter(|(id, _)| !is_ids(**id)) {
            let features = |plan: &SlabPlan| plan.features.iter().map(|feature| Arc::clone(&feature.def)).collect();
            // When keys' rows last came is nobody's declaration.
            let declared = table.slabs.iter().filter(|slab| !slab.plan.is_life());
            tables.insert(*id, declared.map(|slab| features(&slab.plan)).collect());
        }
        let definition = |id: u32| registry.table_by_id(id).ok_or_else(|| format!("an effect names table {id}, which is not defined"));
        let mut filling: BTreeSet<u32> = self.fills.open.values().map(|fill| fill.table).collect();
        for effect in effects {
            match effect {
                TableEffect::Fill { table, .. } => {
                    definition(*table)?;
                    if tables.contains_key(table) || !filling.insert(*table) {
                        return Err(format!("table {table} is filled and is there"));
                    }
                }
                TableEffect::Drop { table } | TableEffect::Extend { table, .. } | TableEffect::Retire { table, .. }
                    if filling.contains(table) =>
                {
                    if matches!(effect, TableEffect::Drop { .. }) {
                        filling.remove(table);
                    }
                }
                TableEffect::Create { table } => {
                    let def = definition(*table)?;
                    if tables.insert(*table, vec![def.features.clone()]).is_some() {
                        return Err(format!("table {table} is created and is there"));
                    }
                }
                TableEffect::Drop { table } => {
                    tables.remove(table).ok_or_else(|| format!("table {table} is dropped and is not there"))?;
                }
                TableEffect::Extend { table, features } => {
                    let (def, slabs) = (definition(*table)?, changed(&mut tables, *table)?);
                    adopt(slabs, def)?;
                    let named = features.iter().map(|name| def.feature(name).cloned().ok_or_else(|| missing(def, name)));
                    slabs.push(named.collect::<Result<_, _>>()?);
                }
                TableEffect::Retire { table, features } => {
                    let (def, slabs) = (definition(*table)?, changed(&mut tables, *table)?);
                    let names: BTreeSet<&str> = slabs.iter().flatten().map(|feature| &*feature.name).collect();
                    if let Some(name) = features.iter().find(|name| !names.contains(name.as_str())) {
                        return Err(missing(def, name));
                    }
                    slabs.iter_mut().for_each(|slab| slab.retain(|feature| !features.iter().any(|gone| **gone == *feature.name)));
                    slabs.retain(|slab| !slab.is_empty());
                    if let Some(feature) = slabs.iter().flatten().find(|feature| def.feature(&feature.name).is_none()) {
                        return Err(missing(def, &feature.name));
                    }
                    adopt(slabs, def)?;
                }
            }
        }
        same_tables(tables.keys().copied().chain(filling), registry)?;
        for (id, slabs) in &mut tables {
            let def = definition(*id)?;
            adopt(slabs, def)?;
            let mut names: Vec<&str> = slabs.iter().flatten().map(|feature| &*feature.name).collect();
            names.sort_unstable();
            let mut declared: Vec<&str> = def.features.iter().map(|feature| &*feature.name).collect();
            declared.sort_unstable();
            if names != declared {
                return Err(format!("table {} would hold {names:?} and declares {declared:?}", def.name));
            }
            let kinds = |def: &TableDef| def.keys.iter().map(|key| key.kind).collect::<Vec<_>>();
            let stays = !effects.iter().any(|effect| matches!(effect, TableEffect::Create { table } if table == id));
            if stays && self.tables.get(id).is_some_and(|table| kinds(&table.def) != kinds(def)) {
                return Err(format!("table {} keeps its keys and declares others", def.name));
            }
        }
        Ok(())
    }
}

fn changed(tables: &mut BTreeMap<u32, Slabs>, id: u32) -> Result<&mut Slabs, String> {
    tables.get_mut(&id).ok_or_else(|| format!("an effect changes table {id}, which is not there"))
}

fn missing(def: &TableDef, name: &str) -> String {
    format!("an effect on table {} needs a feature \"{name}\", which is not there", def.name)
}

fn same_tables(there: impl Iterator<Item = u32>, registry: &Registry) -> Result<(), String> {
    // Tables of ids come with their events.
    let (there, declared) =
        (there.filter(|id| !is_ids(*id)).collect::<BTreeSet<_>>(), registry.tables.values().map(|table| table.id).collect::<BTreeSet<_>>());
    if there == declared { Ok(()) } else { Err(format!("tables {there:?} are there, {declared:?} are defined")) }
}

/// Gives the slabs the declaration's features, where they compute the same.
fn adopt(slabs: &mut Slabs, def: &TableDef) -> Result<(), String> {
    for slab in slabs {
        let now: Vec<_> = slab.iter().map(|feature| def.feature(&feature.name).unwrap_or(feature).clone()).collect();
        if let Some((_, changed)) = slab.iter().zip(&now).find(|(before, now)| !computes_alike(before, now)) {
            return Err(format!("feature {}.{} changes what it computes and keeps its state", def.name, changed.name));
        }
        let differs = slab.iter().zip(&now).any(|(before, now)| **before != **now);
        if differs && !SlabPlan::compile(&now).has_layout_of(&SlabPlan::compile(slab)) {
            return Err(format!("features of {} would read their words in another layout", def.name));
        }
        *slab = now;
    }
    Ok(())
}

/// Whether a feature's words mean the same under both declarations.
fn computes_alike(before: &FeatureDef, now: &FeatureDef) -> bool {
    let needs = |def: &FeatureDef| {
        let params = FeatureParams { field_kind: def.field_kind, params: &def.params, window_us: def.window_us };
        let needs = def.op.compile(&params).needs;
        needs.iter().map(|need| (need.accumulator.identity(), need.rows, need.fields)).collect::<Vec<_>>()
    };
    let shape = |def: &FeatureDef| {
        let named: Vec<&str> = def.more_fields.iter().map(|(param, _)| *param).collect();
        (def.window_us, def.resolution, def.field.is_some(), named, def.filter.is_some())
    };
    shape(before) == shape(now) && needs(before) == needs(now)
}

fn positions(moved: &[(streamgauge_api::Slot, Position)], known: usize) -> Result<(), String> {
    for (slot, position) in moved {
        if slot.0 as usize >= known {
            return Err(format!("it names the partition of slot {}, {known} partitions are known", slot.0));
        }
        of_position(position)?;
    }
    Ok(())
}

fn of_position(position: &Position) -> Result<(), String> {
    if position.offset >= 0 && position.after >= -1 { Ok(()) } else { Err(format!("a position at offset {}", position.offset)) }
}

fn of_incident(incident: &Incident) -> Result<(), String> {
    in_time(incident.opened_us)
}

/// Frames are written in the years 1970 to 9999.
fn in_time(us: i64) -> Result<(), String> {
    if (0..=TIME_US_MAX).contains(&us) { Ok(()) } else { Err(format!("{us} us is no time of a frame")) }
}
