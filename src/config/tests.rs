//! The config as a user meets it: samples that load, problems with their places.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

/// The example of the user guide without what is not available.
pub(super) const SAMPLE: &str = r#"#:schema ./streamgauge.schema.json
config_version = 1
[server]
data_dir = "/var/lib/streamgauge"
http  = "127.0.0.1:8080"
tcp   = "127.0.0.1:8081"
admin = "127.0.0.1:8090"
[limits]
memory = "4GiB"
on_memory_limit = "pause"
body = "4MiB"
connections = 10_000
[durability]
push = "written"
group_commit = "2ms"
snapshot = { every = "5m", keep = 2 }

[events.Payment]
time   = { field = "ts" }
on_bad_record = "dlq"
fields = { id = "str", card = "str", amount = "f64", ts = "datetime", country = "str?" }

[events.Click]
fields = { user = "str", region = "str?", at = "datetime?" }

[sources.payments]
event  = "Payment"
format = "json"
[sources.payments.kafka]
brokers = ["k1:9093"]
topic   = "payments"
start   = "earliest"
sasl    = { mechanism = "SCRAM-SHA-512", user = "streamgauge", password = { env = "KAFKA_PASSWORD" } }
tls     = { ca = "/etc/streamgauge/ca.pem" }

[sources.clicks]
event   = "Click"
format  = "avro"
framing = "confluent"
fields  = { user = "customer.id", region = "header:region", at = "timestamp" }
[sources.clicks.kafka]
brokers = ["k1:9093"]
topics  = ["clicks", "clicks-eu"]
start   = "latest"
client  = { "fetch.max.bytes" = 8388608 }
[sources.clicks.registry]
url  = ["http://registry:8081"]
auth = { user = "reader", password = { env = "REGISTRY_PASSWORD" } }

[tables.card_stats]
from  = "Payment"
key   = ["card"]
where = "amount > 0"
[tables.card_stats.features]
n_1h      = { op = "count", window = "1h" }
sum_24h   = { op = "sum", field = "amount", window = "24h" }
p95_1h    = { op = "quantile", field = "amount", q = 0.95, window = "1h" }
countries = { op = "n_unique", field = "country", window = "7d" }
"#;

/// An environment in which all secrets of the sample are set.
pub(super) fn env(name: &str) -> Option<String> {
    matches!(name, "KAFKA_PASSWORD" | "REGISTRY_PASSWORD").then(|| "hunter2".to_owned())
}

pub(super) fn parse(text: &str) -> Result<Config, ConfigProblems> {
    let outside = Outside { env: &env, client: ClientRules::NONE };
    Config::parse(text, Some(Path::new("streamgauge.toml")), &Flags::default(), &outside)
}

#[test]
fn the_sample_of_the_user_guide_loads() {
    let config = parse(SAMPLE).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.limits.memory_bytes, 4 << 30);
    assert_eq!(config.sources.len(), 2);
    assert_eq!(config.kafka.len(), 2);
    let table = config.registry().table("card_stats").unwrap();
    assert_eq!(table.features.len(), 4);
    assert!(!format!("{config:?}").contains("hunter2"));
}
