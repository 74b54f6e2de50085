//! librdkafka's settings: which are fixed and why, which a user may pass through, and what a client is finally created with.
//!
//! Invariant: the settings that keep positions honest (1.2 of the Kafka reference) cannot be overridden; a user's value for one is refused with the
//! reason, and so is a name that librdkafka does not have. Pure functions; called by the config check and by `start`.

use crate::config::KafkaSource;
use std::collections::BTreeMap;

/// Something wrong with a key of `client = { ... }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key as written.
    pub key: String,
    /// Why it is refused.
    pub reason: String,
    /// The nearest name that would be accepted, for a key that librdkafka does not have.
    pub nearest: Option<String>,
}

/// Settings that are ours alone, with the value (where it is a constant) and the reason.
const FIXED: &[(&str, Option<&str>, &str)] = &[
    ("auto.offset.reset", Some("error"), "anything else skips or repeats records without an error when the log has moved"),
    ("enable.auto.commit", Some("false"), "positions are committed from the durable watermark, for lag tools only"),
    ("auto.commit.enable", None, "positions are committed from the durable watermark, for lag tools only"),
    ("auto.commit.interval.ms", None, "positions are committed from the durable watermark, for lag tools only"),
    ("enable.auto.offset.store", Some("false"), "the client's idea of consumed is not the engine's"),
    ("enable.partition.eof", Some("true"), "the end-of-partition offset is the position past transaction markers"),
    ("isolation.level", Some("read_committed"), "aborted records must never reach a table"),
    ("allow.auto.create.topics", Some("false"), "a typo must not create a topic"),
    ("check.crcs", Some("true"), "a damaged batch must not reach a table"),
    ("fetch.queue.backoff.ms", Some("5"), "the client's default of one second halves the throughput"),
    ("queued.max.messages.kbytes", None, "it follows from the Kafka memory budget"),
    ("queued.min.messages", None, "it follows from the Kafka memory budget"),
    ("statistics.interval.ms", Some("500"), "log ends, freshness and liveness are read from the statistics"),
    ("topic.metadata.refresh.interval.ms", Some("30000"), "leader changes must be noticed; growth and recreation are asked for separately"),
    ("partition.assignment.strategy", None, "partitions are assigned by hand; there is no group to balance"),
    ("metadata.recovery.strategy", Some("rebootstrap"), "it survives the replacement of all known brokers"),
    ("offset.store.method", None, "the position inside the state is the truth"),
    ("offset.store.path", None, "the position inside the state is the truth"),
    ("offset.store.sync.interval.ms", None, "the position inside the state is the truth"),
    ("consume.callback.max.messages", None, "records are drained in batches, not through callbacks"),
    ("plugin.library.paths", None, "it loads foreign code into the process"),
    ("ssl.engine.location", None, "it loads foreign code into the process"),
    ("ssl.engine.id", None, "it loads foreign code into the process"),
    ("ssl.providers", None, "it loads foreign code into the process"),
    ("sasl.kerberos.kinit.cmd", None, "it runs a shell command"),
    ("interceptors", None, "it loads foreign code into the process"),
    ("topic.blacklist", None, "the topics of a source are chosen by topic, topics or topic_regex"),
    ("log.queue", Some("false"), "the fence against a recreated topic must run before the next fetch"),
    ("enabled_events", None, "events are served through callbacks"),
    ("opaque", None, "it is a pointer"),
    ("default_topic_conf", None, "it is a pointer"),
    ("ssl_key", None, "it is a pointer; use tls.key"),
    ("ssl_certificate", None, "it is a pointer; use tls.cert"),
    ("ssl_ca", None, "it is a pointer; use tls.ca"),
    ("ssl_engine_callback_data", None, "it is a pointer"),
    ("internal.termination.signal", None, "it concerns C programs"),
    ("builtin.features", None, "it only informs"),
    ("bootstrap.servers", None, "the brokers stand in `brokers`"),
    ("metadata.broker.list", None, "the brokers stand in `brokers`"),
    ("group.protocol", None, "partitions are assigned by hand; there is no group to join"),
    ("group.protocol.type", None, "partitions are assigned by hand; there is no group to join"),
    ("group.instance.id", None, "partitions are assigned by hand; there is no group to join"),
    ("group.remote.assignor", None, "partitions are assigned by hand; there is no group to join"),
    ("session.timeout.ms", None, "partitions are assigned by hand; there is no group to join"),
    ("heartbeat.interval.ms", None, "partitions are assigned by hand; there is no group to join"),
    ("max.poll.interval.ms", None, "partitions are assigned by hand; there is no group to join"),
];

/// Every name that librdkafka takes for a consumer and that is not fixed or a callback (its CONFIGURATION.md).
const OPEN: &[&str] = &[
    "api.version.fallback.ms",
    "api.version.request",
    "api.version.request.timeout.ms",
    "broker.address.family",
    "broker.address.ttl",
    "broker.version.fallback",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "connections.max.idle.ms",
    "coordinator.query.interval.ms",
    "debug",
    "enable.metrics.push",
    "enable.random.seed",
    "enable.sasl.oauthbearer.unsecure.jwt",
    "enable.ssl.certificate.verification",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.wait.max.ms",
    "group.id",
    "https.ca.location",
    "https.ca.pem",
    "log.connection.close",
    "log.thread.name",
    "log_level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "max.partition.fetch.bytes",
    "message.copy.max.bytes",
    "message.max.bytes",
    "metadata.max.age.ms",
    "metadata.recovery.rebootstrap.trigger.ms",
    "receive.message.max.bytes",
    "reconnect.backoff.jitter.ms",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "sasl.kerberos.keytab",
    "sasl.kerberos.min.time.before.relogin",
    "sasl.kerberos.principal",
    "sasl.kerberos.service.name",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.oauthbearer.assertion.algorithm",
    "sasl.oauthbearer.assertion.claim.aud",
    "sasl.oauthbearer.assertion.claim.exp.seconds",
    "sasl.oauthbearer.assertion.claim.iss",
    "sasl.oauthbearer.assertion.claim.jti.include",
    "sasl.oauthbearer.assertion.claim.nbf.seconds",
    "sasl.oauthbearer.assertion.claim.sub",
    "sasl.oauthbearer.assertion.file",
    "sasl.oauthbearer.assertion.jwt.template.file",
    "sasl.oauthbearer.assertion.private.key.file",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.client.credentials.client.id",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.extensions",
    "sasl.oauthbearer.grant.type",
    "sasl.oauthbearer.metadata.authentication.type",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "socket.blocking.max.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.max.fails",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.ca.certificate.stores",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.cipher.suites",
    "ssl.crl.location",
    "ssl.curves.list",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.sigalgs.list",
    "topic.metadata.propagation.max.ms",
    "topic.metadata.refresh.fast.cnt",
    "topic.metadata.refresh.fast.interval.ms",
    "topic.metadata.refresh.sparse",
];

/// Names that only a producer has.
const PRODUCER: &[&str] = &[
    "acks",
    "batch.num.messages",
    "batch.size",
    "compression.codec",
    "compression.level",
    "compression.type",
    "delivery.report.only.error",
    "delivery.timeout.ms",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "linger.ms",
    "message.send.max.retries",
    "message.timeout.ms",
    "partitioner",
    "produce.offset.report",
    "queue.buffering.backpressure.threshold",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "queuing.strategy",
    "request.required.acks",
    "request.timeout.ms",
    "retries",
    "sticky.partitioning.linger.ms",
    "transaction.timeout.ms",
    "transactional.id",
];

/// Bytes of the Kafka budget when the config names none: 256 MiB.
pub const MEMORY_BYTES_DEFAULT: u64 = 256 << 20;

/// What the client needs per queued record beside its payload (measured), plus a guess of a mean record.
const BYTES_PER_QUEUED_RECORD: u64 = 320 + 200;

/// What one answer may bring together: more than this only stands in memory (8 M records of 67 bytes over 12 partitions: the same rate, 60 MB less at the peak).
const FETCH_BYTES_MAX: u64 = 8 << 20;

/// Batches that zstd shrank are unpacked up to this size, which the client takes from `receive.message.max.bytes`; other
/// codecs know no bound. A record larger than a row may be is then rejected like any other that does not fit.
const UNPACKED_BYTES_MAX: u64 = 128 << 20;

/// The largest answer that is taken at all, for a batch that alone is larger than a fetch; librdkafka's own default for fetches.
const RECEIVE_BYTES_MAX: u64 = 50 << 20;

/// Whether a setting's value is a secret, so that it may only come from the environment or a file.
pub fn is_secret(key: &str) -> bool {
    matches!(
        key,
        "sasl.password"
            | "sasl.oauthbearer.config"
            | "sasl.oauthbearer.client.secret"
            | "sasl.oauthbearer.client.credentials.client.secret"
            | "sasl.oauthbearer.assertion.private.key.passphrase"
            | "sasl.oauthbearer.assertion.private.key.pem"
            | "ssl.key.password"
            | "ssl.key.pem"
            | "ssl.keystore.password"
    )
}

/// Everything wrong with the keys of `client = { ... }`, in their order.
pub fn check_client_settings(client: &BTreeMap<String, String>) -> Vec<Problem> {
    client.keys().filter_map(|key| check_key(key)).collect()
}

fn check_key(key: &str) -> Option<Problem> {
    let refuse = |reason: String, nearest| Some(Problem { key: key.to_owned(), reason, nearest });
    if OPEN.contains(&key) {
        return None;
    }
    if let Some((_, value, reason)) = FIXED.iter().find(|(name, ..)| *name == key) {
        let value = value.map(|value| format!(" at {value:?}")).unwrap_or_default();
        return refuse(format!("`{key}` is fixed{value}: {reason}"), None);
    }
    if key.ends_with("_cb") {
        return refuse(format!("`{key}` is a callback of C programs"), None);
    }
    if PRODUCER.contains(&key) {
        return refuse(format!("`{key}` is a producer's setting; a source only reads"), None);
    }
    refuse(format!("librdkafka has no setting `{key}`"), nearest(key))
}

fn nearest(key: &str) -> Option<String> {
    let (score, name) =
        OPEN.iter().map(|name| (strsim::damerau_levenshtein(key, name), *name)).min_by_key(|(distance, name)| (*distance, *name))?;
    (score <= (key.len() / 3).max(2)).then(|| name.to_owned())
}

/// What each client of the process may use, from one number (1.5 of the reference): half for queues, 30 % for fetches in flight, the rest is the inlets'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// `queued.max.messages.kbytes`.
    pub queued_kbytes: u64,
    /// `queued.min.messages`.
    pub queued_records: u64,
    /// `fetch.max.bytes`.
    pub fetch_bytes: u64,
    /// Largest `receive.message.max.bytes` that the budget has room for.
    pub receive_bytes: u64,
}

impl Budget {
    /// The share of one of `clients` clients that talks to `brokers` brokers.
    pub fn share(memory_bytes: u64, clients: usize, brokers: usize) -> Self {
        let (clients, brokers) = (clients.max(1) as u64, brokers.max(1) as u64);
        let queue = memory_bytes / 2 / clients;
        let in_flight = (memory_bytes * 3 / 10 / (clients * brokers)).clamp(1 << 20, RECEIVE_BYTES_MAX);
        Self {
            queued_kbytes: (queue / 1024).clamp(1024, 2_097_151),
            queued_records: (queue / BYTES_PER_QUEUED_RECORD).clamp(1000, 100_000),
            fetch_bytes: in_flight.min(FETCH_BYTES_MAX),
            receive_bytes: in_flight,
        }
    }
}

/// Settings of a source's reader.
pub fn reader(source: &KafkaSource, instance: &str, budget: Budget) -> Vec<(String, String)> {
    let mut all = common(source, instance);
    let mut set = |name: &str, value: String| {
        all.insert(name.to_owned(), value);
    };
    for (name, value, _) in FIXED {
        if let Some(value) = value {
            set(name, (*value).to_owned());
        }
    }
    set("queued.max.messages.kbytes", budget.queued_kbytes.to_string());
    set("queued.min.messages", budget.queued_records.to_string());
    // The fence line is a debug line of this context.
    let debug = match source.client.get("debug") {
        Some(user) if !user.is_empty() => format!("topic,{user}"),
        _ => "topic".to_owned(),
    };
    set("debug", debug);
    let asked = |name: &str| source.client.get(name).and_then(|value| value.parse::<u64>().ok());
    let fetch = asked("fetch.max.bytes").map_or(budget.fetch_bytes, |asked| asked.min(budget.receive_bytes));
    let per_partition = asked("fetch.message.max.bytes").or(asked("max.partition.fetch.bytes")).unwrap_or(1 << 20).min(fetch);
    let message = asked("message.max.bytes").unwrap_or(1_000_000).min(fetch);
    let receive = asked("receive.message.max.bytes").unwrap_or(0).max(budget.receive_bytes + 512).max(UNPACKED_BYTES_MAX);
    set("fetch.max.bytes", fetch.to_string());
    set("fetch.message.max.bytes", per_partition.to_string());
    set("message.max.bytes", message.to_string());
    set("receive.message.max.bytes", receive.min(2_147_483_647).to_string());
    all.remove("max.partition.fetch.bytes");
    all.into_iter().collect()
}

/// Settings of a source's control client: the same connection, no fetching.
pub fn control(source: &KafkaSource, instance: &str) -> Vec<(String, String)> {
    let mut all = common(source, instance);
    for (name, value) in [
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("allow.auto.create.topics", "false"),
        ("metadata.recovery.strategy", "rebootstrap"),
    ] {
        all.insert(name.to_owned(), value.to_owned());
    }
    all.into_iter().collect()
}

fn common(source: &KafkaSource, instance: &str) -> BTreeMap<String, String> {
    let own = format!("streamgauge-{instance}");
    let mut all = BTreeMap::from([
        ("client.id".to_owned(), own.clone()),
        ("fetch.wait.max.ms".to_owned(), "100".to_owned()),
        ("reconnect.backoff.max.ms".to_owned(), "1000".to_owned()),
        ("ssl.ca.location".to_owned(), "probe".to_owned()),
    ]);
    all.extend(source.client.iter().map(|(name, value)| (name.clone(), value.clone())));
    let mut set = |name: &str, value: &str| {
        all.insert(name.to_owned(), value.to_owned());
    };
    set("bootstrap.servers", &source.brokers.join(","));
    let group = source.group_id.as_deref().or(source.client.get("group.id").map(String::as_str)).unwrap_or(&own);
    set("group.id", group);
    let security = &source.security;
    if let Some(tls) = &security.tls {
        if let Some(ca) = &tls.ca {
            set("ssl.ca.location", &ca.to_string_lossy());
        }
        if let Some(cert) = &tls.cert {
            set("ssl.certificate.location", &cert.to_string_lossy());
        }
        if let Some(key) = &tls.key {
            set("ssl.key.pem", key.reveal());
        }
    }
    if let Some(sasl) = &security.sasl {
        set("sasl.mechanism", &sasl.mechanism);
        set("sasl.username", &sasl.user);
        set("sasl.password", sasl.password.reveal());
    }
    let protocol = match (&security.tls, &security.sasl) {
        (Some(_), Some(_)) => Some("sasl_ssl"),
        (Some(_), None) => Some("ssl"),
        (None, Some(_)) => Some("sasl_plaintext"),
        (None, None) => None,
    };
    if let Some(protocol) = protocol {
        set("security.protocol", protocol);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sasl, Secret, Tls, Topics};

    fn source(client: &[(&str, &str)]) -> KafkaSource {
        let mut source = KafkaSource::new("s", "E", vec!["a:1".into(), "b:2".into()], Topics::Named(vec!["t".into()]));
        source.client = client.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        source
    }

    #[test]
    fn fixed_unknown_and_foreign_settings_are_refused_with_the_reason() {
        for (key, word, near) in [
            ("auto.offset.reset", "fixed at \"error\"", None),
            ("isolation.level", "aborted", None),
            ("plugin.library.paths", "foreign code", None),
            ("rebalance_cb", "callback", None),
            ("linger.ms", "producer", None),
            ("session.timeout.ms", "no group to join", None),
            ("fetch.max.byte", "no setting", Some("fetch.max.bytes")),
            ("sasl.mechansim", "no setting", Some("sasl.mechanism")),
            ("completely different thing altogether", "no setting", None),
        ] {
            let problems = check_client_settings(&source(&[(key, "1")]).client);
            let found = problems.first().map(|problem| (problem.reason.contains(word), problem.nearest.as_deref()));
            assert_eq!(found, Some((true, near)), "{key}: {problems:?}");
        }
        assert_eq!(check_client_settings(&source(&[("fetch.max.bytes", "8388608"), ("client.rack", "a"), ("debug", "fetch")]).client), []);
    }

    #[test]
    fn readers_get_the_fixed_values_and_the_fence_whatever_the_user_says() {
        let settings = reader(&source(&[("debug", "fetch"), ("fetch.max.bytes", "999999999")]), "i", Budget::share(64 << 20, 1, 1));
        let settings: BTreeMap<_, _> = settings.into_iter().collect();
        for (name, value) in [
            ("auto.offset.reset", "error"),
            ("isolation.level", "read_committed"),
            ("debug", "topic,fetch"),
            ("group.id", "streamgauge-i"),
            ("bootstrap.servers", "a:1,b:2"),
            ("fetch.max.bytes", "20132659"),
            ("queued.max.messages.kbytes", "32768"),
            ("receive.message.max.bytes", "134217728"),
        ] {
            assert_eq!(settings.get(name).map(String::as_str), Some(value), "{name}");
        }
    }

    #[test]
    fn tls_and_login_choose_the_protocol() {
        let tls = Tls { ca: Some("/ca.pem".into()), ..Tls::default() };
        let sasl = Sasl { mechanism: "SCRAM-SHA-512".into(), user: "u".into(), password: Secret::new("p") };
        for (tls, sasl, protocol) in [
            (None, None, None),
            (Some(tls.clone()), None, Some("ssl")),
            (None, Some(sasl.clone()), Some("sasl_plaintext")),
            (Some(tls), Some(sasl), Some("sasl_ssl")),
        ] {
            let mut source = source(&[]);
            source.security.tls = tls;
            source.security.sasl = sasl;
            let settings: BTreeMap<_, _> = control(&source, "i").into_iter().collect();
            assert_eq!(settings.get("security.protocol").map(String::as_str), protocol);
        }
    }

    #[test]
    fn budgets_stay_inside_their_number() {
        for (memory, clients, brokers) in [(256u64 << 20, 1usize, 1usize), (256 << 20, 4, 3), (64 << 20, 2, 1)] {
            let budget = Budget::share(memory, clients, brokers);
            let used = clients as u64 * (budget.queued_kbytes * 1024 + brokers as u64 * budget.fetch_bytes);
            assert!(used <= memory * 8 / 10 + (1 << 20), "{budget:?}");
        }
    }
}
