//! One row of a table as a reply: values in alphabetical order of features, or those that were asked for.

use super::key::parse_key;
use crate::pipeline::Registry;
use crate::state::{ReadScratch, State, Table};
use std::collections::HashMap;
use std::sync::Arc;
use streamgauge_api::port::{KeyText, ReadOptions, Row};
use streamgauge_api::value::Names;
use streamgauge_api::{ApiError, Code, Value};

/// How a table's features are found, computed once per registry version.
#[derive(Debug)]
pub struct TablePlan {
    names: Names,
    places: Vec<(usize, usize)>,
}

/// Reused parts of reads: plans by table, and the arena that windows are merged in.
#[derive(Debug, Default)]
pub struct Reader {
    version: Option<u64>,
    plans: HashMap<u32, Arc<TablePlan>>,
    scratch: ReadScratch,
}

/// How an unknown feature is told: `/get` keeps the odd 0.0.6 form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownFeature {
    /// 500 `internal_error` with `feature_not_found: missing=[...] table=T`.
    AsInternalError,
    /// 404 `feature_not_found`.
    AsNotFound,
}

impl Reader {
    fn plan(&mut self, registry: &Registry, table: &Table) -> Arc<TablePlan> {
        if self.version != Some(registry.version) {
            self.version = Some(registry.version);
            self.plans.clear();
        }
        let plan = self.plans.entry(table.def().id).or_insert_with(|| {
            let names: Vec<Box<str>> = table.def().features.iter().map(|feature| feature.name.clone()).collect();
            Arc::new(TablePlan { names: names.into(), places: table.feature_places() })
        });
        Arc::clone(plan)
    }

    /// Reads one row at a time. An absent key is a row that is not present.
    ///
    /// # Errors
    /// `unknown_table`, `event_not_readable` as a detail of it, `key_parse_failure`, an unknown feature,
    /// `as_of_out_of_reach`.
    pub fn row(
        &mut self,
        state: &State,
        table: &str,
        key: &KeyText,
        options: &ReadOptions,
        now_us: i64,
        unknown: UnknownFeature,
    ) -> Result<Row, ApiError> {
        let table = find_table(state, table)?;
        let plan = self.plan(state.registry(), table);
        let selected = options.features.as_ref().map(|features| select(&plan.names, features, table, unknown)).transpose()?;
        let key = parse_key(&table.def().keys, key).map_err(|refused| ApiError::new(Code::KeyParseFailure, refused.to_string()))?;
        let Some(number) = table.find(&key) else {
            return Ok(Row { present: false, names: Arc::clone(&plan.names), selected, values: Vec::new() });
        };
        let picked: Vec<(usize, usize)>;
        let places = match &selected {
            None => &plan.places,
            Some(selected) => {
                picked = selected.iter().filter_map(|&at| plan.places.get(usize::from(at)).copied()).collect();
                &picked
            }
        };
        if options.as_of_ms.is_some()
            && !options.approximate
            && let Some(earliest_us) = table.earliest_us(number, places).filter(|&earliest_us| now_us < earliest_us)
        {
            return Err(out_of_reach(table, now_us, earliest_us));
        }
        let readings = table.read(number, places, now_us, &mut self.scratch);
        let values = readings
            .into_iter()
            .map(|reading| {
                if !options.explain {
                    return reading.value;
                }
                let mut entries: Vec<(Box<str>, Value)> = Vec::with_capacity(3);
                if let Some(error) = reading.error {
                    entries.push(("error".into(), Value::F64(error)));
                }
                entries.push(("exact".into(), Value::Bool(reading.error.is_none())));
                entries.push(("value".into(), reading.value));
                Value::Map(entries)
            })
            .collect();
        Ok(Row { present: true, names: Arc::clone(&plan.names), selected, values })
    }
}

/// The refusal of an `as_of` whose rows are gone.
#[cold]
fn out_of_reach(table: &Table, as_of_us: i64, earliest_us: i64) -> ApiError {
    let earliest_ms = earliest_us.saturating_add(999).div_euclid(1000);
    let as_of_ms = as_of_us.div_euclid(1000);
    let reason = format!(
        "table \"{}\" cannot say what this key was at {as_of_ms}: the earliest time that all asked features can answer \
         truly is {earliest_ms}",
        table.def().name
    );
    ApiError::new(Code::AsOfOutOfReach, reason).with("earliest_ms", earliest_ms.into())
}

/// The table of this name.
///
/// # Errors
/// `unknown_table`; its hint says when the name is an event.
pub fn find_table<'a>(state: &'a State, name: &str) -> Result<&'a Table, ApiError> {
    state.table(name).ok_or_else(|| {
        let registry = state.registry();
        let error = ApiError::new(Code::UnknownTable, format!("no table \"{name}\" is registered"));
        if registry.event(name).is_some() {
            return error
                .hint(format!("\"{name}\" is an event: events are not readable by key, read a table that aggregates it"))
                .with("detail", Code::EventNotReadable.as_str().into());
        }
        match crate::pipeline::nearest(name, registry.tables.keys()) {
            Some(near) => error.hint(format!("did you mean \"{near}\"?")),
            None => error,
        }
    })
}

fn select(names: &Names, features: &[String], table: &Table, unknown: UnknownFeature) -> Result<Vec<u16>, ApiError> {
    let mut missing = Vec::new();
    let mut selected = Vec::with_capacity(features.len());
    for feature in features {
        match names.binary_search_by(|name| (**name).cmp(feature.as_str())) {
            Ok(at) => selected.push(u16::try_from(at).unwrap_or(u16::MAX)),
            Err(_) => missing.push(feature.as_str()),
        }
    }
    if missing.is_empty() {
        return Ok(selected);
    }
    let table_name = &table.def().name;
    let code = if unknown == UnknownFeature::AsInternalError { Code::InternalError } else { Code::FeatureNotFound };
    let error = ApiError::new(code, format!("feature_not_found: missing={missing:?} table={table_name}"));
    Err(match crate::pipeline::nearest(missing[0], names.iter()) {
        Some(near) => error.hint(format!("did you mean \"{near}\"?")),
        None => error,
    })
}
