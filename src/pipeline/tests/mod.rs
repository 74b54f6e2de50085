//! The register call as clients meet it: payload texts in, replies, codes, paths and effects out.
#![allow(clippy::unwrap_used, reason = "tests")]

mod evolution;
mod fields;
mod operators;
mod refusals;
mod rename;
mod resolution;
mod rows;

use super::*;
use serde_json::{Value as Json, json};
use std::sync::Arc;

fn options() -> RegisterOptions<'static> {
    RegisterOptions { operators: operators::ALL, ..RegisterOptions::default() }
}

/// A registry that payloads are sent to, one after the other.
#[derive(Default)]
struct Server {
    registry: Arc<Registry>,
}

impl Server {
    fn with(payloads: &[Json]) -> Self {
        let mut server = Self::default();
        for payload in payloads {
            server.register(payload);
        }
        server
    }

    /// Registers, checks that the registry reads back equal, and gives the outcome.
    fn register(&mut self, payload: &Json) -> RegisterOutcome {
        self.try_register(payload).unwrap_or_else(|error| panic!("{}", error.to_json()))
    }

    fn try_register(&mut self, payload: &Json) -> Result<RegisterOutcome, RegisterError> {
        let outcome = self.registry.apply_register(&payload.to_string(), &options())?;
        if let Some(next) = &outcome.next {
            self.registry = next.clone();
            let again = Registry::from_json(&next.to_json(), operators::ALL).unwrap();
            assert_eq!(again, **next, "a registry reads back as it was written");
            assert_eq!(again.to_json(), next.to_json());
        }
        Ok(outcome)
    }

    fn table(&self, name: &str) -> Arc<TableDef> {
        self.registry.table(name).unwrap().clone()
    }
}

/// The event of most tests.
fn tx() -> Json {
    json!({ "kind": "event", "name": "Tx", "schema": { "fields": {
        "user_id": "str", "amount": "f64", "n": "i64", "ok": "bool", "at": "datetime", "country": "str", "raw": "bytes", "extra": "json",
        "lat": "f64", "lon": "f64" }, "optional_fields": [] } })
}

/// A table as the SDK sends it.
fn table(name: &str, ops: Json, keys: &[&str], agg: Json) -> Json {
    let mut steps = ops.as_array().unwrap().clone();
    steps.push(json!({ "op": "group_by", "keys": keys, "agg": agg }));
    json!({ "kind": "derivation", "name": name, "output_kind": "table", "upstreams": ["Tx"], "ops": steps,
        "schema": { "fields": { "user_id": "str", "guess": "str" }, "optional_fields": [] }, "table_primary_key": keys })
}

fn by_user(agg: Json) -> Json {
    table("ByUser", json!([]), &["user_id"], agg)
}

fn nodes(nodes: &[Json]) -> Json {
    json!({ "nodes": nodes })
}

fn forced(nodes: &[Json]) -> Json {
    json!({ "nodes": nodes, "force": true })
}
