//! The reads that a client may ask for, on the engine.

use super::engine::Engine;
use crate::read::{UnknownFeature, find_table};
use crate::state::Table;
use std::collections::BTreeMap;
use streamgauge_api::port::{Freshness, KeyText, MemberRead, Read, ReadOptions, Row};
use streamgauge_api::{ApiError, Code, Reply, Value};

/// Cells of one `mget` or `get_multi`.
const CELLS_MAX: usize = 10_000;

/// A promise of freshness is kept, or it is refused: also where nobody knows.
fn fresh_enough(table: &str, freshness: &Freshness, most_ms: i64) -> Result<(), ApiError> {
    let reason = match freshness.lag_ms {
        _ if freshness.lag_unknown => format!("how far table \"{table}\" is behind is not known yet, at most {most_ms} ms were asked for"),
        Some(lag) if lag > most_ms => format!("table \"{table}\" is {lag} ms behind, at most {most_ms} ms were asked for"),
        _ => return Ok(()),
    };
    Err(ApiError::new(Code::Stale, reason).with("lag_ms", freshness.lag_ms.into()))
}

impl Engine {
    /// One keyed read with its options.
    ///
    /// # Errors
    /// `unknown_table`, `key_parse_failure`, an unknown feature, `min_lsn_not_reached`, `stale`.
    pub(crate) fn get(&mut self, read: &Read, unknown: UnknownFeature) -> Result<(Row, Freshness), ApiError> {
        let clock = ReadClock::now(self.read_clock_us());
        self.get_at(read, unknown, &clock)
    }

    /// The same, with windows that end where this clock says when the read names no time.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub(super) fn get_at(&mut self, read: &Read, unknown: UnknownFeature, clock: &ReadClock) -> Result<(Row, Freshness), ApiError> {
        self.read_at(read, unknown, clock).map_err(|error| self.with_progress(error))
    }

    /// A table that is being filled says how far that is.
    pub(super) fn with_progress(&self, error: ApiError) -> ApiError {
        if error.code != Code::TableFilling {
            return error;
        }
        let fill = error.more.get("backfill").and_then(serde_json::Value::as_u64);
        let Some(shown) = fill.and_then(|fill| self.facts.fills.of(fill)) else { return error };
        let (done, of) = shown.done_of();
        let progress = serde_json::json!({ "state": shown.state, "cause": shown.cause, "records": done, "of": of, "eta_s": shown.eta_s() });
        error.with("progress", progress)
    }

    fn read_at(&mut self, read: &Read, unknown: UnknownFeature, clock: &ReadClock) -> Result<(Row, Freshness), ApiError> {
        if let Some(wanted) = read.options.min_lsn
            && wanted > self.state.lsn()
        {
            let applied = self.state.lsn();
            return Err(ApiError::new(Code::MinLsnNotReached, format!("LSN {wanted} is asked for, {applied} is applied"))
                .with("applied_lsn", applied.into()));
        }
        let as_of_us = match (read.options.as_of_ms, read.options.as_of_latest) {
            (Some(ms), _) => ms.saturating_mul(1000),
            (None, true) => clock.newest_us(find_table(&self.state, &read.table)?),
            (None, false) => clock.now_us,
        };
        // Rounded up to what a reply can name, so that the time it names can be asked for again.
        let as_of_us = whole_ms_up(as_of_us);
        let mut freshness = self.freshness_of(&[&read.table]);
        freshness.as_of_ms = as_of_us.div_euclid(1000);
        if let Some(most) = read.options.max_staleness_ms {
            fresh_enough(&read.table, &freshness, most)?;
        }
        let (reader, state) = self.reader();
        let row = reader.row(state, &read.table, &read.key, &read.options, as_of_us, unknown)?;
        freshness.complete_since_ms = reader.complete_since_ms();
        Ok((row, freshness))
    }

    /// `GET /get/{feature}/{key}`: a feature by its name alone, `T.f`, or a table's row.
    ///
    /// # Errors
    /// `feature_not_found` (also when the name is ambiguous), `key_not_found`, `key_parse_failure`.
    pub(crate) fn get_feature(&mut self, name: &str, key: KeyText) -> Result<Reply, ApiError> {
        let holders = self.tables_with(name);
        let not_found = |key: &KeyText| ApiError::new(Code::KeyNotFound, format!("no row for key {key:?}"));
        match holders.as_slice() {
            [(table, feature)] => {
                let options = ReadOptions { features: Some(vec![feature.clone()]), ..ReadOptions::default() };
                let read = Read { table: table.clone(), key, options };
                let (row, freshness) = self.get(&read, UnknownFeature::AsNotFound)?;
                let value = row.values.into_iter().next().filter(|_| row.present).ok_or_else(|| not_found(&read.key))?;
                Ok(Reply::Feature(value, freshness))
            }
            [] if self.state.registry().table(name).is_some() => {
                let read = Read { table: name.to_owned(), key, options: ReadOptions::default() };
                let (row, freshness) = self.get(&read, UnknownFeature::AsNotFound)?;
                if row.present { Ok(Reply::Row(row, freshness)) } else { Err(not_found(&read.key)) }
            }
            [] => Err(ApiError::new(Code::FeatureNotFound, format!("no table has a feature \"{name}\""))),
            several => {
                let tables: Vec<&str> = several.iter().map(|(table, _)| table.as_str()).collect();
                let reason = format!("feature \"{name}\" is in several tables: {}; write TABLE.{name}", tables.join(", "));
                Err(ApiError::new(Code::FeatureNotFound, reason))
            }
        }
    }

    /// Which of some values a feature has had.
    ///
    /// # Errors
    /// `unknown_table`, `key_parse_failure`, `feature_not_found`, `invalid_request` for a feature that keeps no set and a
    /// value that its field cannot have.
    pub(super) fn member(&mut self, read: &MemberRead) -> Result<Reply, ApiError> {
        let mut freshness = self.freshness_of(&[&read.table]);
        let now_us = whole_ms_up(self.read_clock_us());
        freshness.as_of_ms = now_us.div_euclid(1000);
        let (reader, state) = self.reader();
        let (found, false_positives) = reader.members(state, read, now_us)?;
        Ok(Reply::Members { found, false_positives, freshness })
    }

    /// Tables that have a feature of this name, or the one that `T.f` names.
    fn tables_with(&self, name: &str) -> Vec<(String, String)> {
        let registry = self.state.registry();
        if let Some((table, feature)) = name.split_once('.') {
            let found = registry.table(table).filter(|def| def.feature(feature).is_some());
            return found.map(|def| (def.name.to_string(), feature.to_owned())).into_iter().collect();
        }
        registry.tables.values().filter(|def| def.feature(name).is_some()).map(|def| (def.name.to_string(), name.to_owned())).collect()
    }

    /// Where the features of a matrix read stand.
    ///
    /// # Errors
    /// `internal_error` for an unknown or ambiguous feature, and beyond the cell limit.
    pub(super) fn holders(&self, features: &[String], keys: usize) -> Result<Holders, ApiError> {
        let cells = features.len().saturating_mul(keys);
        if cells > CELLS_MAX {
            return Err(ApiError::new(Code::InternalError, format!("batch_too_large: cells={cells} cap={CELLS_MAX}")));
        }
        let holder = |asked: &String| match self.tables_with(asked).as_slice() {
            [(table, feature)] => Ok(Holder { table: table.clone(), feature: feature.clone(), asked: asked.clone() }),
            [] => Err(ApiError::new(Code::InternalError, format!("feature_not_found: missing=[{asked:?}]"))),
            _ => Err(ApiError::new(Code::InternalError, format!("feature_not_found: \"{asked}\" is in several tables"))),
        };
        features.iter().map(holder).collect()
    }

    /// A feature of one key of a matrix read; none when its table does not have the key.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub(super) fn get_cell(&mut self, holder: &Holder, key: &KeyText, clock: &ReadClock) -> Result<Option<Value>, ApiError> {
        let Holder { table, feature, .. } = holder;
        let options = ReadOptions { features: Some(vec![feature.clone()]), ..ReadOptions::default() };
        let read = Read { table: table.clone(), key: key.clone(), options };
        let (row, _) = self.get_at(&read, UnknownFeature::AsNotFound, clock)?;
        Ok(row.values.into_iter().next().filter(|_| row.present))
    }
}

/// A feature of a matrix read, and where it stands.
pub(super) struct Holder {
    pub(super) table: String,
    feature: String,
    /// As the client named it.
    pub(super) asked: String,
}

/// All features of a matrix read.
pub(super) type Holders = Vec<Holder>;

/// A found key as written, with its features.
type MatrixRow = (String, Vec<(String, Value)>);

/// The found keys of a matrix read, in the order in which they were asked for.
#[derive(Default)]
pub(super) struct Matrix {
    rows: Vec<MatrixRow>,
    /// Which of the keys the last row is of.
    last: Option<usize>,
}

impl Matrix {
    /// Adds a feature of the key at this place; keys come in their order.
    pub(super) fn add(&mut self, place: usize, key: &KeyText, asked: &str, value: Value) {
        assert!(self.last.is_none_or(|last| last <= place), "keys come in their order");
        if self.last != Some(place) {
            self.last = Some(place);
            self.rows.push((written(key), Vec::new()));
        }
        let Some((_, values)) = self.rows.last_mut() else { unreachable!("the key has a row") };
        values.push((asked.to_owned(), value));
    }

    pub(super) fn into_rows(self) -> Vec<MatrixRow> {
        self.rows
    }
}

/// Where windows end that name no time of their own.
pub(super) struct ReadClock {
    now_us: i64,
    /// The newest rows of tables, where they are to stay what they were.
    newest: BTreeMap<u32, i64>,
}

impl ReadClock {
    /// A clock for one read.
    fn now(now_us: i64) -> Self {
        Self { now_us, newest: BTreeMap::new() }
    }

    /// A clock that stands still for these tables, also where rows come in.
    pub(super) fn fixed<'a>(now_us: i64, tables: impl Iterator<Item = &'a Table>) -> Self {
        Self { now_us, newest: tables.map(|table| (table.def().id, table.newest_us().unwrap_or(0))).collect() }
    }

    fn newest_us(&self, table: &Table) -> i64 {
        self.newest.get(&table.def().id).copied().unwrap_or_else(|| table.newest_us().unwrap_or(0))
    }
}

/// The first whole millisecond that is not before this time.
fn whole_ms_up(time_us: i64) -> i64 {
    time_us.saturating_add(999).div_euclid(1000).saturating_mul(1000)
}

/// A key as the member name it becomes in replies.
fn written(key: &KeyText) -> String {
    match key {
        KeyText::None => String::new(),
        KeyText::Text(text) => text.clone(),
        KeyText::Int(number) => number.to_string(),
        KeyText::Float(number) => number.to_string(),
        KeyText::Bool(truth) => truth.to_string(),
        KeyText::Parts(parts) => parts.iter().map(written).collect::<Vec<_>>().join("|"),
        KeyText::Segments(parts) => parts.join("|"),
    }
}
