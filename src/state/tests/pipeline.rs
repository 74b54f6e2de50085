//! The pipelines under test, twice: as register payload and as plain functions of a row.

use super::rows::{Datum, FIELDS, Row};
use crate::row::{Key, key};
use serde_json::{Map, Value as Json, json};

/// A feature of the recount.
pub(super) struct Feature {
    pub(super) name: &'static str,
    pub(super) op: &'static str,
    pub(super) field: Option<fn(&Row) -> Datum>,
    /// Name of the field in the payload.
    pub(super) field_name: &'static str,
    pub(super) filter: Option<Filter>,
    pub(super) window: Option<&'static str>,
    pub(super) more: fn() -> Json,
}

impl Feature {
    /// With more parameters.
    pub(super) fn with(self, more: fn() -> Json) -> Self {
        Self { more, ..self }
    }

    /// Of large rows alone.
    pub(super) fn large(self) -> Self {
        filtered(LARGE, self)
    }

    /// Buckets of its window.
    pub(super) fn resolution(&self) -> i64 {
        (self.more)()["resolution"].as_i64().unwrap_or(64)
    }
}

/// Standard deviations of every feature that counts outliers: no fraction of small numbers lies on that edge.
pub(super) const SIGMA: f64 = 1.234_567_8;

/// A row filter: its text and what it means.
#[derive(Clone, Copy)]
pub(super) struct Filter {
    text: &'static str,
    pub(super) passes: fn(&Row) -> bool,
}

/// A table of the recount.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) chain: fn() -> Vec<Json>,
    pub(super) key_columns: &'static [&'static str],
    /// None when the row has no key here; deletes ask for the key alone.
    pub(super) key: fn(&Row) -> Option<Key>,
    pub(super) passes: fn(&Row) -> bool,
    pub(super) features: Vec<Feature>,
}

const LARGE: Filter = Filter { text: "(n > 2)", passes: |row| row.get("n").number().is_some_and(|n| n > 2.0) };
const RED: Filter = Filter {
    text: "(label == 'b' or flag == true)",
    passes: |row| *row.get("label") == Datum::Str("b".into()) || *row.get("flag") == Datum::Bool(true),
};

fn amount(row: &Row) -> Datum {
    row.get("amount").clone()
}

fn n(row: &Row) -> Datum {
    row.get("n").clone()
}

fn label(row: &Row) -> Datum {
    row.get("label").clone()
}

fn at(row: &Row) -> Datum {
    row.get("at").clone()
}

fn extra(row: &Row) -> Datum {
    row.get("extra").clone()
}

fn flag(row: &Row) -> Datum {
    row.get("flag").clone()
}

/// `with_columns double = (n + n)`.
fn double(row: &Row) -> Datum {
    match row.get("n") {
        Datum::I64(number) => Datum::I64(number * 2),
        Datum::F64(number) => Datum::F64(number * 2.0),
        _ => Datum::Null,
    }
}

fn nothing() -> Json {
    json!({})
}

pub(super) fn plain(name: &'static str, op: &'static str, window: Option<&'static str>) -> Feature {
    Feature { name, op, field: None, field_name: "", filter: None, window, more: nothing }
}

pub(super) fn over(
    name: &'static str,
    op: &'static str,
    (field_name, field): (&'static str, fn(&Row) -> Datum),
    window: Option<&'static str>,
) -> Feature {
    Feature { name, op, field: Some(field), field_name, filter: None, window, more: nothing }
}

pub(super) fn filtered(filter: Filter, feature: Feature) -> Feature {
    Feature { filter: Some(filter), ..feature }
}

pub(super) fn fading(feature: Feature) -> Feature {
    Feature { more: || json!({ "half_life": "10m" }), ..feature }
}

/// A feature of places: `n` north, `amount` east.
pub(super) fn placed(name: &'static str, op: &'static str) -> Feature {
    Feature { more: || json!({ "lat": "n", "lon": "amount", "samples": 5 }), ..plain(name, op, None) }
}

fn user_features() -> Vec<Feature> {
    vec![
        plain("cnt", "count", None),
        plain("cnt_2s", "count", Some("2s")),
        filtered(LARGE, plain("cnt_large_1m", "count", Some("1m"))),
        filtered(RED, plain("ratio_1m", "ratio", Some("1m"))),
        filtered(LARGE, plain("ratio_all", "ratio", None)),
        over("sum_1m", "sum", ("amount", amount), Some("1m")),
        over("sum_n_1h", "sum", ("n", n), Some("1h")),
        over("sum_all", "sum", ("n", n), None),
        over("mean_1m", "mean", ("amount", amount), Some("1m")),
        over("min_1h", "min", ("n", n), Some("1h")),
        over("max_1m", "max", ("amount", amount), Some("1m")),
        filtered(RED, over("max_label_1h", "max", ("label", label), Some("1h"))),
        over("min_at_1h", "min", ("at", at), Some("1h")),
        over("var_1m", "var", ("amount", amount), Some("1m")),
        over("std_1h", "std", ("n", n), Some("1h")),
        over("first_label", "first", ("label", label), None),
        filtered(LARGE, over("last_amount", "last", ("amount", amount), None)),
        over("uniq_1h", "n_unique", ("label", label), Some("1h")),
        over("uniq_extra_1m", "n_unique", ("extra", extra), Some("1m")),
        over("uniq_amount", "n_unique", ("amount", amount), None),
        over("max_flag_1m", "max", ("flag", flag), Some("1m")),
        Feature { more: || json!({ "resolution": 16 }), ..over("sum_n_1h_16", "sum", ("n", n), Some("1h")) },
        Feature { more: || json!({ "resolution": 16 }), ..over("sum_1m_16", "sum", ("amount", amount), Some("1m")) },
        Feature { more: || json!({ "resolution": 500 }), ..plain("cnt_2s_500", "count", Some("2s")) },
        Feature { more: || json!({ "k": 3 }), ..over("top_1h", "top_k", ("label", label), Some("1h")) },
        Feature { more: || json!({ "q": 0.5 }), ..over("median_1m", "quantile", ("amount", amount), Some("1m")) },
    ]
}

/// Features that look at the times and at the order of rows.
fn order_features() -> Vec<Feature> {
    vec![
        plain("first_seen", "first_seen", None),
        filtered(LARGE, plain("last_seen", "last_seen", None)),
        plain("age", "age", None),
        filtered(RED, plain("has_seen", "has_seen", None)),
        filtered(RED, plain("since", "time_since", None)),
        Feature { more: || json!({ "window": "1m" }), ..plain("lately", "first_seen_in_window", None) },
        Feature { more: || json!({ "n": 3 }), ..plain("since_3", "time_since_last_n", None) },
        filtered(LARGE, plain("streak", "streak", None)),
        filtered(LARGE, plain("max_streak", "max_streak", None)),
        filtered(LARGE, plain("others", "negative_streak", None)),
        Feature { more: || json!({ "n": 3 }), ..over("first_3", "first_n", ("label", label), None) },
        Feature { more: || json!({ "n": 3 }), ..filtered(LARGE, over("last_3", "last_n", ("extra", extra), None)) },
        Feature { more: || json!({ "n": 2 }), ..over("lag_2", "lag", ("amount", amount), None) },
        Feature { more: || json!({ "n": 10 }), ..over("recent", "most_recent_n", ("n", n), None) },
        Feature { more: || json!({ "buckets": [0, 10.5] }), ..over("cells", "histogram", ("amount", amount), None) },
        plain("hours", "hour_of_day_histogram", None),
        plain("week", "dow_hour_histogram", None),
        over("rate_1m", "rate_of_change", ("amount", amount), Some("1m")),
        over("rate", "rate_of_change", ("n", n), None),
        filtered(LARGE, plain("gap_1h", "inter_arrival_stats", Some("1h"))),
        over("delta_1m", "delta_from_prev", ("amount", amount), Some("1m")),
        over("trend_1h", "trend", ("n", n), Some("1h")),
        over("off_trend_1h", "trend_residual", ("n", n), Some("1h")),
        over("changes_1h", "value_change_count", ("label", label), Some("1h")),
        over("changes", "value_change_count", ("extra", extra), None),
        over("set", "bloom_member", ("label", label), None),
        Feature { more: || json!({ "samples": 1000 }), ..over("sample", "reservoir_sample", ("label", label), None) },
        over("mix", "event_type_mix", ("label", label), None),
        over("entropy_1h", "entropy", ("label", label), Some("1h")),
        over("season", "seasonal_deviation", ("n", n), None),
        Feature { more: || json!({ "sub_window": "2s" }), ..filtered(LARGE, plain("burst_1m", "burst_count", Some("1m"))) },
        Feature { more: || json!({ "sigma": SIGMA }), ..over("outliers", "outlier_count", ("amount", amount), None) },
        Feature { more: || json!({ "sigma": SIGMA }), ..over("outliers_1m", "outlier_count", ("amount", amount), Some("1m")) },
        Feature { more: || json!({ "sigma": SIGMA }), ..filtered(LARGE, over("outliers_1h", "outlier_count", ("n", n), Some("1h"))) },
        Feature { more: || json!({ "sigma": SIGMA, "resolution": 16 }), ..over("outliers_16", "outlier_count", ("n", n), Some("1h")) },
        over("z_1m", "z_score", ("amount", amount), Some("1m")),
        fading(over("ewma", "ewma", ("amount", amount), None)),
        fading(over("ewma_1m", "ewma", ("n", n), Some("1m"))),
        fading(over("ewvar", "ewvar", ("n", n), None)),
        fading(over("ewvar_1h", "ewvar", ("amount", amount), Some("1h"))),
        fading(over("ew_z", "ew_zscore", ("amount", amount), None)),
        fading(over("decayed_sum", "decayed_sum", ("amount", amount), None)),
        fading(filtered(LARGE, over("decayed_sum_1m", "decayed_sum", ("amount", amount), Some("1m")))),
        fading(plain("decayed", "decayed_count", None)),
        fading(filtered(RED, plain("decayed_1h", "decayed_count", Some("1h")))),
        over("twa", "twa", ("n", n), None),
        over("twa_1m", "twa", ("amount", amount), Some("1m")),
        filtered(LARGE, over("twa_1h", "twa", ("n", n), Some("1h"))),
        placed("kmh", "geo_velocity"),
        placed("km", "geo_distance"),
        filtered(RED, placed("spread", "geo_spread")),
        placed("from_home", "distance_from_home"),
    ]
}

/// Every table, all on one event.
pub(super) fn tables() -> Vec<Table> {
    vec![
        Table {
            name: "ByUser",
            chain: Vec::new,
            key_columns: &["user"],
            key: |row| match row.get("user") {
                Datum::Str(user) => Some(Key::from_slice(user.as_bytes())),
                _ => None,
            },
            passes: |_| true,
            features: user_features(),
        },
        Table {
            name: "ByPlace",
            chain: Vec::new,
            key_columns: &["region", "user", "flag", "at"],
            key: |row| {
                let mut key = Key::new();
                for field in ["region", "user", "flag", "at"] {
                    match row.get(field) {
                        Datum::I64(number) | Datum::Datetime(number) => key::push_i64(&mut key, *number),
                        Datum::Str(text) => key::push_text(&mut key, text.as_bytes(), false),
                        Datum::Bool(truth) => key::push_bool(&mut key, *truth),
                        _ => return None,
                    }
                }
                Some(key)
            },
            passes: |_| true,
            features: vec![plain("cnt_1m", "count", Some("1m")), over("sum_1m", "sum", ("n", n), Some("1m"))],
        },
        Table {
            name: "ByDouble",
            chain: || {
                vec![
                    json!({ "op": "filter", "expr": "(amount > 10)" }),
                    json!({ "op": "with_columns", "exprs": { "double": "(n + n)", "tag": "cast(n, str)" } }),
                ]
            },
            key_columns: &["tag"],
            key: |row| match row.get("n") {
                Datum::I64(number) => Some(Key::from_slice(number.to_string().as_bytes())),
                Datum::F64(number) => Some(Key::from_slice(number.to_string().as_bytes())),
                _ => None,
            },
            passes: |row| row.get("amount").number().is_some_and(|amount| amount > 10.0),
            features: vec![
                plain("cnt_1h", "count", Some("1h")),
                over("sum_double_1m", "sum", ("double", double), Some("1m")),
                filtered(RED, over("max_double", "max", ("double", double), None)),
            ],
        },
        Table {
            name: "InOrder",
            chain: Vec::new,
            key_columns: &["user"],
            key: |row| match row.get("user") {
                Datum::Str(user) => Some(Key::from_slice(user.as_bytes())),
                _ => None,
            },
            passes: |_| true,
            features: order_features(),
        },
        Table {
            name: "Everything",
            chain: Vec::new,
            key_columns: &[],
            key: |row| (!row.delete).then(Key::new),
            passes: |_| true,
            features: vec![plain("cnt", "count", None), over("sum_2s", "sum", ("amount", amount), Some("2s"))],
        },
    ]
}

/// The event node.
pub(super) fn event() -> Json {
    let fields: Map<String, Json> = FIELDS.iter().map(|(name, kind)| ((*name).to_owned(), json!(kind))).collect();
    let names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
    json!({ "kind": "event", "name": "Tx", "schema": { "fields": fields, "optional_fields": names } })
}

/// A table's node with any chain and features.
pub(super) fn node(name: &str, chain: &[Json], keys: &[&str], agg: &Json) -> Json {
    let mut ops = chain.to_vec();
    ops.push(json!({ "op": "group_by", "keys": keys, "agg": agg }));
    json!({ "kind": "derivation", "name": name, "output_kind": "table", "upstreams": ["Tx"], "ops": ops, "table_primary_key": keys })
}

/// The payload of event and tables.
pub(super) fn payload(tables: &[Table]) -> Json {
    let mut nodes = vec![event()];
    for table in tables {
        let mut agg = Map::new();
        for feature in &table.features {
            let mut params = (feature.more)();
            if feature.field.is_some() {
                params["field"] = json!(feature.field_name);
            }
            if let Some(window) = feature.window {
                params["window"] = json!(window);
            }
            if let Some(filter) = feature.filter {
                params["where"] = json!(filter.text);
            }
            agg.insert(feature.name.into(), json!({ "op": feature.op, "params": params }));
        }
        nodes.push(node(table.name, &(table.chain)(), table.key_columns, &Json::Object(agg)));
    }
    json!({ "nodes": nodes })
}
