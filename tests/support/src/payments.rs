//! The `streamgauge.toml` that goes with `produce.py`: one event, one source, tables whose answers the oracle knows.

use std::fmt::Write;

/// Table by card; every feature of it is in the oracle.
pub const CARDS: &str = "cards";

/// Table by the header `region`.
pub const REGIONS: &str = "regions";

/// Features of [`CARDS`] that the oracle knows.
pub const FEATURES: &[&str] = &["n", "total", "smallest", "largest", "items", "large", "first_country", "last_id"];

/// Those of [`FEATURES`] that are sums, so that oracles of two parts of a stream can be added.
pub const SUMS: &[&str] = &["n", "total", "items", "large"];

/// Where the payments come from.
#[derive(Debug, Clone, Copy)]
pub enum Topics<'a> {
    /// One topic.
    One(&'a str),
    /// Every topic that matches.
    Regex(&'a str),
}

/// A config that reads payments; Avro with a registry, JSON without.
pub fn config(bootstrap: &str, topics: Topics<'_>, registry: Option<&str>) -> String {
    let (format, topics) = (
        if registry.is_some() { "avro" } else { "json" },
        match topics {
            Topics::One(topic) => format!("topic = '{topic}'"),
            Topics::Regex(regex) => format!("topic_regex = '{regex}'"),
        },
    );
    let mut text = format!(
        r#"config_version = 1
[events.Payment]
time = {{ field = "ts" }}
fields = {{ id = "i64", card = "str", amount = "f64", items = "i64", ts = "datetime", country = "str?", merchant = "str?", region = "str?" }}
[sources.payments]
event = "Payment"
format = "{format}"
fields = {{ region = "header:region" }}
[sources.payments.kafka]
brokers = ["{bootstrap}"]
{topics}
start = "earliest"
[tables.{CARDS}]
from = "Payment"
key = ["card"]
[tables.{CARDS}.features]
n             = {{ op = "count" }}
total         = {{ op = "sum", field = "amount" }}
smallest      = {{ op = "min", field = "amount" }}
largest       = {{ op = "max", field = "amount" }}
items         = {{ op = "sum", field = "items" }}
large         = {{ op = "count", where = "amount > 500" }}
first_country = {{ op = "first", field = "country" }}
last_id       = {{ op = "last", field = "id" }}
[tables.{REGIONS}]
from = "Payment"
key = ["region"]
[tables.{REGIONS}.features]
n = {{ op = "count" }}
"#
    );
    if let Some(url) = registry {
        // Writing to a String cannot fail.
        write!(text, "[sources.payments.registry]\nurl = [\"{url}\"]\n").ok();
    }
    text
}
