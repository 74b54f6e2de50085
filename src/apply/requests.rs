//! The reads that a client may ask for, on the engine.

use super::engine::Engine;
use crate::read::{UnknownFeature, find_table};
use streamgauge_api::port::{Freshness, KeyText, Read, ReadOptions, Row};
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
        if let Some(wanted) = read.options.min_lsn
            && wanted > self.state.lsn()
        {
            let applied = self.state.lsn();
            return Err(ApiError::new(Code::MinLsnNotReached, format!("LSN {wanted} is asked for, {applied} is applied"))
                .with("applied_lsn", applied.into()));
        }
        let as_of_us = match (read.options.as_of_ms, read.options.as_of_latest) {
            (Some(ms), _) => ms.saturating_mul(1000),
            (None, true) => find_table(&self.state, &read.table)?.newest_us().unwrap_or(0),
            (None, false) => self.read_clock_us(),
        };
        let mut freshness = self.freshness_of(&[&read.table]);
        freshness.as_of_ms = as_of_us.div_euclid(1000);
        if let Some(most) = read.options.max_staleness_ms {
            fresh_enough(&read.table, &freshness, most)?;
        }
        let (reader, state) = self.reader();
        let row = reader.row(state, &read.table, &read.key, &read.options, as_of_us, unknown)?;
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
            [] if self.state.table(name).is_some() => {
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

    /// Tables that have a feature of this name, or the one that `T.f` names.
    fn tables_with(&self, name: &str) -> Vec<(String, String)> {
        let registry = self.state.registry();
        if let Some((table, feature)) = name.split_once('.') {
            let found = registry.table(table).filter(|def| def.feature(feature).is_some());
            return found.map(|def| (def.name.to_string(), feature.to_owned())).into_iter().collect();
        }
        registry.tables.values().filter(|def| def.feature(name).is_some()).map(|def| (def.name.to_string(), name.to_owned())).collect()
    }

    /// Some features of many keys, across tables; keys without any are left out.
    ///
    /// # Errors
    /// `internal_error` for an unknown or ambiguous feature, and beyond the cell limit.
    #[expect(clippy::type_complexity, reason = "the shape of the reply")]
    pub(crate) fn get_many(&mut self, features: &[String], keys: &[KeyText]) -> Result<Vec<(String, Vec<(String, Value)>)>, ApiError> {
        let cells = features.len() * keys.len();
        if cells > CELLS_MAX {
            return Err(ApiError::new(Code::InternalError, format!("batch_too_large: cells={cells} cap={CELLS_MAX}")));
        }
        let mut holders = Vec::with_capacity(features.len());
        for feature in features {
            match self.tables_with(feature).as_slice() {
                [(table, name)] => holders.push((table.clone(), name.clone(), feature.clone())),
                [] => return Err(ApiError::new(Code::InternalError, format!("feature_not_found: missing=[{feature:?}]"))),
                _ => return Err(ApiError::new(Code::InternalError, format!("feature_not_found: \"{feature}\" is in several tables"))),
            }
        }
        let mut found = Vec::new();
        for key in keys {
            let mut values = Vec::new();
            for (table, name, asked) in &holders {
                let options = ReadOptions { features: Some(vec![name.clone()]), ..ReadOptions::default() };
                let read = Read { table: table.clone(), key: key.clone(), options };
                let (row, _) = self.get(&read, UnknownFeature::AsNotFound)?;
                if row.present {
                    values.extend(row.values.into_iter().map(|value| (asked.clone(), value)));
                }
            }
            if !values.is_empty() {
                found.push((written(key), values));
            }
        }
        Ok(found)
    }
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
