//! What a table's keys will cost, before there are any.

use super::Config;
use crate::pipeline::TableDef;

/// The price of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePrice {
    /// The table.
    pub table: Box<str>,
    /// Bytes of a key that was seen a few times.
    pub small_bytes: usize,
    /// Bytes of a key whose sketches and windows are full.
    pub grown_bytes: usize,
    /// Small keys that fit into `limits.memory` when this table has it for itself.
    pub small_keys_max: u64,
    /// Grown keys that fit.
    pub grown_keys_max: u64,
}

impl Config {
    /// Prices every table; `bytes_per_key` is the state's word on a small and on a grown key.
    pub fn prices(&self, bytes_per_key: impl Fn(&TableDef) -> (usize, usize)) -> Vec<TablePrice> {
        let fit = |bytes: usize| self.limits.memory_bytes / (bytes as u64).max(1);
        let price = |table: &TableDef| {
            let (small_bytes, grown_bytes) = bytes_per_key(table);
            TablePrice {
                table: table.name.clone(),
                small_bytes,
                grown_bytes,
                small_keys_max: fit(small_bytes),
                grown_keys_max: fit(grown_bytes),
            }
        };
        self.registry().tables.values().map(|table| price(table)).collect()
    }
}
