//! The answers a table must give, as an independent loop computed them from the input, and their comparison with what the sidecar says.
//!
//! Invariant: every key is asked for and every named feature is compared for equality, never within a tolerance: the input is made so that sums are exact.

use crate::{Outcome, Sidecar};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Keys per read; the limit of the interface is 65,536.
const KEYS_PER_READ: usize = 1000;

/// Differences told before the rest is only counted.
const DIFFERENCES_TOLD: usize = 10;

/// Rows by key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Oracle {
    /// Features by key.
    pub table: BTreeMap<String, Map<String, Json>>,
    /// Records by the header `region`.
    pub regions: BTreeMap<String, i64>,
}

impl Oracle {
    /// Reads what `produce.py` wrote.
    ///
    /// # Errors
    /// The file is missing or of another shape.
    pub fn read(path: &Path) -> Outcome<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read the oracle {}: {error}", path.display()))?;
        let json: Json = serde_json::from_str(&text).map_err(|error| format!("the oracle {} is not JSON: {error}", path.display()))?;
        let rows = json["table"].as_object().ok_or("the oracle has no table")?;
        let table = rows.iter().filter_map(|(key, row)| Some((key.clone(), row.as_object()?.clone()))).collect();
        let regions = json["regions"].as_object().into_iter().flatten().filter_map(|(name, n)| Some((name.clone(), n.as_i64()?))).collect();
        Ok(Self { table, regions })
    }

    /// Records in all rows.
    pub fn records(&self) -> i64 {
        self.table.values().filter_map(|row| row.get("n")?.as_i64()).sum()
    }

    /// Adds the rows of another part of the stream. Only `features` that are sums can be added.
    pub fn add_counts(&mut self, other: &Oracle, features: &[&str]) {
        for (key, row) in &other.table {
            let mine = self.table.entry(key.clone()).or_default();
            for feature in features {
                let sum = number(mine.get(*feature)) + number(row.get(*feature));
                mine.insert((*feature).to_owned(), json!(sum));
            }
        }
    }

    /// Compares these features of every key with the sidecar's table.
    ///
    /// # Errors
    /// The first differences with both values and the number of all of them; or the sidecar did not answer.
    pub fn compare(&self, sidecar: &Sidecar, table: &str, features: &[&str]) -> Outcome<()> {
        let mut told = Vec::new();
        let mut count = 0;
        let rows: Vec<_> = self.table.iter().collect();
        for chunk in rows.chunks(KEYS_PER_READ) {
            let keys: Vec<&str> = chunk.iter().map(|(key, _)| key.as_str()).collect();
            for ((key, expected), found) in chunk.iter().zip(sidecar.batch_get(table, &keys)?) {
                for feature in features {
                    let (want, have) = (expected.get(*feature).unwrap_or(&Json::Null), &found[*feature]);
                    if !same(want, have) {
                        count += 1;
                        if told.len() < DIFFERENCES_TOLD {
                            told.push(format!("{table}[{key}].{feature}: oracle {want}, sidecar {have}"));
                        }
                    }
                }
            }
        }
        if count == 0 {
            Ok(())
        } else {
            Err(format!("{count} differences over {} keys, among them:\n{}", self.table.len(), told.join("\n")))
        }
    }
}

fn number(value: Option<&Json>) -> f64 {
    value.and_then(Json::as_f64).unwrap_or_default()
}

/// Equal values; numbers by value, so that 3 and 3.0 are the same.
fn same(want: &Json, have: &Json) -> bool {
    #[expect(clippy::float_cmp, reason = "the input is made so that every sum is exact")]
    match (want.as_f64(), have.as_f64()) {
        (Some(want), Some(have)) => want == have,
        _ => want == have,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_by_value_and_everything_else_as_it_is() {
        for (want, have, equal) in [
            (json!(3), json!(3.0), true),
            (json!(3), json!(3.25), false),
            (json!("a"), json!("a"), true),
            (json!("3"), json!(3), false),
            (Json::Null, Json::Null, true),
            (Json::Null, json!(0), false),
        ] {
            assert_eq!(same(&want, &have), equal, "{want} {have}");
        }
    }
}
