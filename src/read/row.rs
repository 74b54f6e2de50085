//! One row of a table as a reply: values in alphabetical order of features, or those that were asked for.

use super::key::parse_key;
use crate::operators::{Accuracy, Reading};
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

impl TablePlan {
    /// Where the feature of this name stands in its table.
    pub(super) fn place(&self, feature: &str) -> Option<(usize, usize)> {
        let index = self.names.iter().position(|name| **name == *feature)?;
        self.places.get(index).copied()
    }
}

/// Reused parts of reads: plans by table, and the arena that windows are merged in.
#[derive(Debug, Default)]
pub struct Reader {
    version: Option<u64>,
    plans: HashMap<u32, Arc<TablePlan>>,
    scratch: ReadScratch,
    /// Of the row that was read last.
    complete_since_us: Option<i64>,
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
    pub(super) fn scratch(&mut self) -> &mut ReadScratch {
        &mut self.scratch
    }

    /// From which row time on the features of the row that was read last have all rows, ms.
    pub(crate) fn complete_since_ms(&self) -> Option<i64> {
        self.complete_since_us.map(ms_up)
    }

    pub(super) fn plan(&mut self, registry: &Registry, table: &Table) -> Arc<TablePlan> {
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
    /// `unknown_table`, `event_not_readable` as a detail of it, `table_filling`, `key_parse_failure`, an unknown
    /// feature, `incomplete`, `as_of_out_of_reach`.
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
        let picked: Vec<(usize, usize)>;
        let places = match &selected {
            None => &plan.places,
            Some(selected) => {
                picked = selected.iter().filter_map(|&at| plan.places.get(usize::from(at)).copied()).collect();
                &picked
            }
        };
        self.complete_since_us = table.complete_since_us(places);
        if options.complete && table.lacks_earlier_rows(places, now_us) {
            return Err(incomplete(table, self.complete_since_us));
        }
        let key = parse_key(&table.def().keys, key).map_err(|refused| ApiError::new(Code::KeyParseFailure, refused.to_string()))?;
        // A key that has gone cold is not there, whether its memory is or not.
        let Some(number) = table.find(&key).filter(|&number| !table.is_cold(number, now_us)) else {
            return Ok(Row { present: false, names: Arc::clone(&plan.names), selected, values: Vec::new() });
        };
        let earliest_us = match (options.as_of_ms, options.as_of_latest) {
            _ if options.approximate => None,
            (Some(_), _) => table.earliest_us(number, places),
            // The newest row is long ago where a stream rests or is behind: sweeps, which go by the clock, may have passed it.
            (None, true) => table.earliest_us(number, &windowed(table, places, selected.as_deref())),
            (None, false) => None,
        };
        if let Some(earliest_us) = earliest_us.filter(|&earliest_us| now_us < earliest_us) {
            return Err(out_of_reach(table, now_us, earliest_us));
        }
        let values = if options.explain {
            let past = options.as_of_ms.is_some();
            let readings = table.readings(number, places, now_us, past, &mut self.scratch);
            let since = places.iter().map(|place| table.complete_since_us(std::slice::from_ref(place)));
            readings.into_iter().zip(since).map(|(reading, since_us)| explained(reading, since_us)).collect()
        } else {
            table.values(number, places, now_us, &mut self.scratch)
        };
        Ok(Row { present: true, names: Arc::clone(&plan.names), selected, values })
    }
}

/// The places of those features that have a window: what has none answers for now, at the newest row too.
#[cold]
fn windowed(table: &Table, places: &[(usize, usize)], selected: Option<&[u16]>) -> Vec<(usize, usize)> {
    let feature = |at: usize| selected.map_or(Some(at), |selected| selected.get(at).map(|&index| usize::from(index)));
    let has_window =
        |at: usize| feature(at).and_then(|index| table.def().features.get(index)).is_some_and(|def| def.rows_window_us().is_some());
    places.iter().enumerate().filter(|(at, _)| has_window(*at)).map(|(_, place)| *place).collect()
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

/// A key that is not there may have been in rows that the table never saw, so the refusal is not about keys.
#[cold]
fn incomplete(table: &Table, since_us: Option<i64>) -> ApiError {
    let since_ms = since_us.map(ms_up);
    let reason = format!("table \"{}\" never saw rows that what is asked for reaches back to", table.def().name);
    ApiError::new(Code::Incomplete, reason).with("complete_since_ms", since_ms.into())
}

/// The first whole millisecond that is not before this time.
fn ms_up(us: i64) -> i64 {
    us.saturating_add(999).div_euclid(1000)
}

/// A reading as a reply: `{bound, complete_since_ms, confidence, error, exact, nullable, value}`, without what does
/// not apply. A value that is not exact always has `bound` and `error`; each is null where there is
/// none.
fn explained(reading: Reading, since_us: Option<i64>) -> Value {
    let error = reading.error().map_or(Value::Null, Value::F64);
    let exact = reading.accuracy == Accuracy::Exact;
    // Answers of many keys hold many of these: most are exact.
    let mut entries: Vec<(Box<str>, Value)> = Vec::with_capacity(if exact { 2 } else { 6 });
    let mut nullable = false;
    let since = since_us.map(|us| ("complete_since_ms".into(), Value::I64(ms_up(us))));
    if reading.accuracy == Accuracy::Exact {
        entries.extend(since.clone());
    }
    match reading.accuracy {
        Accuracy::Exact => {}
        Accuracy::Unknown => {
            entries.push(("bound".into(), Value::Null));
            entries.extend(since);
            entries.push(("error".into(), error));
        }
        Accuracy::Within(bound) => {
            nullable = bound.nullable;
            entries.push(("bound".into(), Value::List(vec![bound.low, bound.high])));
            entries.extend(since);
            entries.extend(bound.confidence.map(|confidence| ("confidence".into(), Value::F64(confidence))));
            entries.push(("error".into(), error));
        }
    }
    entries.push(("exact".into(), Value::Bool(exact)));
    if nullable {
        entries.push(("nullable".into(), Value::Bool(true)));
    }
    entries.push(("value".into(), reading.value));
    Value::Map(entries)
}

/// The table of this name.
///
/// # Errors
/// `unknown_table`; its hint says when the name is an event. `table_filling` while it is not whole.
pub fn find_table<'a>(state: &'a State, name: &str) -> Result<&'a Table, ApiError> {
    state.table(name).ok_or_else(|| {
        let registry = state.registry();
        if let Some((fill, _)) = registry.table(name).and_then(|def| state.fills().of_table(def.id)) {
            return ApiError::new(Code::TableFilling, format!("table \"{name}\" is being filled from history"))
                .with("backfill", fill.into());
        }
        let error = ApiError::new(Code::UnknownTable, format!("no table \"{name}\" is registered"));
        if registry.event(name).is_some() {
            return error
                .hint(format!("\"{name}\" is an event: events are not readable by key, read a table that aggregates it"))
                .with("detail", Code::EventNotReadable.as_str().into());
        }
        match streamgauge_api::nearest(name, registry.tables.keys()) {
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
    Err(match streamgauge_api::nearest(missing[0], names.iter()) {
        Some(near) => error.hint(format!("did you mean \"{near}\"?")),
        None => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::Bound;

    fn check(value: Value, accuracy: Accuracy, expected: &str) {
        let mut json = Vec::new();
        streamgauge_api::value::write_json(&mut json, &explained(Reading { value, accuracy }, None));
        assert_eq!(String::from_utf8_lossy(&json), expected);
    }

    #[test]
    fn a_reading_says_what_is_known_of_its_value_and_nothing_else() {
        let bound = |low, high| Bound { low, high, nullable: false, confidence: None };
        let (int, double, text) = (Value::I64, Value::F64, |text: &str| Value::Str(text.into()));
        let item = |count| Value::Map(vec![("count".into(), int(count)), ("value".into(), text("a"))]);
        let list = |items: &[Value]| Value::List(items.to_vec());
        check(int(7), Accuracy::Exact, r#"{"exact":true,"value":7}"#);
        check(Value::Null, Accuracy::Exact, r#"{"exact":true,"value":null}"#);
        check(int(100), Accuracy::Within(bound(int(80), int(110))), r#"{"bound":[80,110],"error":0.25,"exact":false,"value":100}"#);
        check(
            double(-2.0),
            Accuracy::Within(Bound { nullable: true, ..bound(double(-4.0), Value::Null) }),
            r#"{"bound":[-4.0,null],"error":null,"exact":false,"nullable":true,"value":-2.0}"#,
        );
        check(
            int(2000),
            Accuracy::Within(Bound { confidence: Some(0.95), ..bound(int(2000), int(2500)) }),
            r#"{"bound":[2000,2500],"confidence":0.95,"error":0.2,"exact":false,"value":2000}"#,
        );
        check(text("b"), Accuracy::Within(bound(text("a"), text("b"))), r#"{"bound":["a","b"],"error":null,"exact":false,"value":"b"}"#);
        check(
            list(&[item(4)]),
            Accuracy::Within(bound(list(&[int(3)]), list(&[int(5)]))),
            r#"{"bound":[[3],[5]],"error":0.3333333333333333,"exact":false,"value":[{"count":4,"value":"a"}]}"#,
        );
        check(text("b"), Accuracy::Unknown, r#"{"bound":null,"error":null,"exact":false,"value":"b"}"#);
    }
}
