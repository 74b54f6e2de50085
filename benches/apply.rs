//! What applying costs per row: packed batches in, tables changed; no log, no decoding.
//!
//! `cargo bench --bench apply`. One iteration applies 2,000,000 rows, in packets of 1,024 as the Kafka source makes them, to an empty state; the figure is the time
//! of one row (`thrpt` in elements per second). `at the limit`: each packet is looked at row by row before it is applied, as near
//! the memory limit. 200,000 users by a zipf law, four events a millisecond, two in a hundred up to 5 s late: what `benches/kafka_load.py` sends.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark stops at its first fault")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use std::sync::Arc;
use streamgauge::pipeline::{RegisterOptions, Registry};
use streamgauge::row::{FieldIndex, RowsBuilder, Strictness};
use streamgauge::state::{Content, RowsContent, State};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: usize = 2_000_000;
const ROWS_PER_PACKET: usize = 1024;
const USERS: usize = 200_000;
const START_US: i64 = 1_800_000_000_000_000;
const ROWS_PER_MS: usize = 4;

/// Knuth's generator of 64 bits; its high half is used.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(self.0) * limit as u128) >> 64) as usize
    }
}

fn features(fraud: bool) -> Vec<serde_json::Value> {
    let mut nodes = Vec::new();
    if fraud {
        for window in ["1m", "1h", "24h"] {
            nodes.push(json!({"name": format!("n_{window}"), "op": "count", "window": window}));
            nodes.push(json!({"name": format!("sum_{window}"), "op": "sum", "field": "amount", "window": window}));
            nodes.push(json!({"name": format!("max_{window}"), "op": "max", "field": "amount", "window": window}));
        }
        nodes.push(json!({"name": "merchants", "op": "n_unique", "field": "merchant", "window": "24h"}));
        nodes.push(json!({"name": "last_country", "op": "last", "field": "country"}));
    } else {
        nodes.push(json!({"name": "n", "op": "count"}));
    }
    nodes
}

fn registry(fraud: bool) -> (Arc<Registry>, Content) {
    let features: serde_json::Map<String, serde_json::Value> = features(fraud)
        .into_iter()
        .map(|node| {
            let mut params = node.as_object().unwrap().clone();
            let (name, op) = (params.remove("name").unwrap(), params.remove("op").unwrap());
            (name.as_str().unwrap().to_owned(), json!({"op": op, "params": params}))
        })
        .collect();
    let payload = json!({"nodes": [
        {"kind": "event", "name": "Txn", "schema": {"fields": {"user": "str", "amount": "f64", "merchant": "str", "country": "str"}, "optional_fields": []}, "event_time_field": null},
        {"kind": "derivation", "name": "users", "output_kind": "table", "upstreams": ["Txn"], "ops": [{"op": "group_by", "keys": ["user"], "agg": features}],
         "schema": {"fields": {"user": "str"}, "optional_fields": []}, "table_primary_key": ["user"]}
    ]});
    let outcome = State::new(1)
        .registry()
        .apply_register(&payload.to_string(), &RegisterOptions::default())
        .unwrap_or_else(|error| panic!("{}", error.to_json()));
    let registry = outcome.next.unwrap();
    (Arc::clone(&registry), Content::Definition { registry, effects: outcome.effects })
}

fn packets(registry: &Registry) -> Vec<Content> {
    let weights: Vec<f64> = (1..=USERS)
        .scan(0.0, |sum, rank| {
            *sum += (rank as f64).powf(-0.99);
            Some(*sum)
        })
        .collect();
    let mut dice = Dice(1);
    let mut builder = RowsBuilder::new(Arc::clone(&registry.event("Txn").unwrap().schema), Strictness::Record);
    let field = |name: &str| FieldIndex(builder.schema().fields.iter().position(|field| &*field.name == name).unwrap() as u16);
    let [user, amount, merchant, country] = ["user", "amount", "merchant", "country"].map(field);
    let mut packets = Vec::new();
    for row in 0..ROWS {
        let draw = dice.below(1 << 53) as f64 / (1u64 << 53) as f64 * weights[USERS - 1];
        let rank = weights.partition_point(|sum| *sum < draw);
        let late_us = if dice.below(50) == 0 { dice.below(5_000_000) as i64 } else { 0 };
        builder.begin();
        builder.str(user, &format!("u{rank:06}")).unwrap();
        builder.float(amount, dice.below(100_000) as f64 / 100.0).unwrap();
        builder.str(merchant, &format!("merchant-{:04}", dice.below(2000))).unwrap();
        builder.str(country, ["de", "fr", "es", "it", "pl"][dice.below(5)]).unwrap();
        builder.commit(START_US + (row / ROWS_PER_MS) as i64 * 1000 - late_us, None, false).unwrap();
        if builder.len() == ROWS_PER_PACKET || row + 1 == ROWS {
            packets.push(Content::Rows(RowsContent { batches: vec![builder.finish()], ..RowsContent::default() }));
        }
    }
    packets
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, fraud) in [("count", false), ("fraud-10", true)] {
        let (registry, definition) = registry(fraud);
        let packets = packets(&registry);
        let fresh = || {
            let mut state = State::new(1);
            state.apply(&definition, 1, START_US);
            state
        };
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                fresh,
                |mut state| {
                    for packet in &packets {
                        state.apply(packet, state.lsn() + 1, START_US);
                    }
                    state
                },
                BatchSize::PerIteration,
            );
        });
        group.bench_function(format!("{name} at the limit"), |bencher| {
            bencher.iter_batched(
                fresh,
                |mut state| {
                    for packet in &packets {
                        let Content::Rows(rows) = packet else { unreachable!("packets are rows") };
                        assert!(state.lacking(&rows.batches, &[], 1 << 31, 1 << 26).is_empty());
                        state.apply(packet, state.lsn() + 1, START_US);
                    }
                    state
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(std::time::Duration::from_millis(300)).measurement_time(std::time::Duration::from_secs(5)).sample_size(10);
    targets = apply
}
criterion_main!(benches);
