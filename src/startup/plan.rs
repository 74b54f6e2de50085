//! From the config to what a server needs: the one translation between what users write and what connectors and engine take.

use super::server::{Declared, ServerOptions};
use crate::apply::{EngineOptions, OnBadRecord, SourceSetup};
use crate::config::{self, Config, Eventstore, KafkaSetup, OnMemoryLimit, Provenance, PushLevel, RegistryLogin, StartSetup, TopicsSetup};
use crate::decode::Decoder;
use crate::eventstore::Store;
use crate::pipeline::{RegisterOutcome, Reread};
use crate::state::State;
use crate::wal::WalOptions;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use streamgauge_api::inlet::FetchedSchema;
use streamgauge_api::{ApiError, Code, StoredPosition};
use streamgauge_kafka::{self as kafka, KafkaSource, RegistryAuth, RegistryConfig};
use streamgauge_native::NativeConfig;

/// A broker or registry that has not answered by then is told as such.
const REACH_LIMIT: Duration = Duration::from_secs(10);

/// The connector's word on client settings, as the config asks for it.
pub fn client_rules() -> config::ClientRules {
    config::ClientRules {
        check: |settings: &BTreeMap<String, String>| {
            let problems = kafka::check_client_settings(settings);
            problems
                .into_iter()
                .map(|problem| config::ClientProblem {
                    known: !problem.reason.starts_with("librdkafka has no setting"),
                    key: problem.key,
                    reason: problem.reason,
                    nearest: problem.nearest,
                })
                .collect()
        },
        is_secret: kafka::settings::is_secret,
    }
}

/// What a server needs, out of a checked config. `rebuild` names tables and features whose state may go.
///
/// # Errors
/// A source that cannot be put together: a topic pattern that the client side refuses, an event that no registry has.
pub fn server_options(config: &Config, rebuild: Vec<String>) -> Result<ServerOptions, ApiError> {
    let memory = config.durability.push == PushLevel::Memory;
    let level = match config.durability.push {
        PushLevel::Written => "written",
        PushLevel::Synced => "synced",
        PushLevel::Memory => "memory",
    };
    let native = NativeConfig {
        http: Some(config.server.http),
        tcp: config.server.tcp,
        io_threads: config.server.io_threads,
        cors: config.server.cors.clone(),
        body_max: config.limits.body_bytes,
        frame_max: config.limits.frame_bytes,
        connections_max: config.limits.connections,
        test_mode: config.test_mode,
        durability: level,
        ..NativeConfig::default()
    };
    let engine = EngineOptions {
        memory_max_bytes: config.limits.memory_bytes,
        pause_on_memory: config.limits.on_memory_limit == OnMemoryLimit::Pause,
        push_synced: config.durability.push == PushLevel::Synced,
        test_mode: config.test_mode,
        snapshot_every: config.durability.snapshot_every,
        lifetime_bound: config.compat.lifetime_bound,
        ignore_velocity_windows: config.compat.ignore_velocity_windows,
        histories: (!memory).then(|| config.histories()),
    };
    let wal = WalOptions {
        segment_bytes: config.durability.wal_segment_bytes,
        sync_interval: config.durability.sync_every,
        sync_bytes: config.durability.sync_bytes,
        group_commit: config.durability.group_commit,
    };
    let setups = config.sources.iter().map(setup).collect();
    let sources = config.kafka.iter().map(source).collect::<Result<_, _>>()?;
    let store = config
        .eventstore
        .as_ref()
        .map(|declared| {
            Ok::<_, ApiError>((Store { memory_bytes: config.limits.archive_memory_bytes, ..declared.store()? }, declared.clone()))
        })
        .transpose()?;
    if let Some((_, declared)) = store.as_ref().filter(|_| memory) {
        let reason = "an event store needs a log, and durability.push is memory";
        return Err(ApiError::new(Code::EventstoreFeatureMissing, reason).at(declared.file.clone()));
    }
    let (mut engine, mut wal) = (engine, wal);
    if let Some((store, declared)) = &store {
        store_over_durability(config, store, declared, &mut engine, &mut wal)?;
    }
    let declared = config.clone();
    Ok(ServerOptions {
        native,
        admin: Some(config.server.admin),
        data_dir: (!memory).then(|| config.server.data_dir.clone()),
        engine,
        wal,
        snapshots_kept: config.durability.snapshot_keep,
        refuse_control: !config.push.control_characters,
        max_staleness: config.ready.max_staleness,
        wait_for_catch_up: config.ready.wait_for_catch_up,
        sources,
        setups,
        instance: instance(config),
        kafka_memory_bytes: config.limits.kafka_memory_bytes,
        declare: Box::new(move |state| declare(&declared, state, &rebuild)),
        durability: level,
        store,
    })
}

/// Keys of the store that say what keys of durability say: both agree, or one is silent.
fn store_over_durability(
    config: &Config,
    store: &Store,
    declared: &Eventstore,
    engine: &mut EngineOptions,
    wal: &mut WalOptions,
) -> Result<(), ApiError> {
    let said = |key: &str| config.origins.get(key).is_some_and(|origin| origin.from != Provenance::Default);
    let conflict = |ours: &str, other: &str| {
        let reason = format!("`{ours}` of the event store and `{other}` mean the same and have unlike values");
        Err(ApiError::new(Code::EventstoreAliasConflict, reason).at(declared.file.clone()))
    };
    if let Some(bytes) = store.segment_bytes {
        if said("durability.wal.segment") && wal.segment_bytes != bytes {
            return conflict("wal.rollover_mb", "durability.wal.segment");
        }
        wal.segment_bytes = bytes;
    }
    if store.synced {
        if said("durability.push") && !engine.push_synced {
            return conflict("wal.fsync", "durability.push");
        }
        engine.push_synced = true;
    }
    Ok(())
}

/// Instances on one cluster tell their groups apart by the data folder's name.
fn instance(config: &Config) -> String {
    let name = config.server.data_dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain: String = name.chars().filter(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.')).collect();
    if plain.is_empty() { "default".to_owned() } else { plain }
}

fn declare(config: &Config, state: &State, rebuild: &[String]) -> Result<Option<Declared>, ApiError> {
    let stored = state.registry();
    let outcome = config::config_change(stored, &state.unfed(), config, rebuild).map_err(|refused| refused.error)?;
    if outcome.is_none()
        && let Some(unknown) = config::unknown_rebuild(stored, config, rebuild)
    {
        let hint = unknown.hint.as_deref().unwrap_or_default();
        tracing::warn!(kind = "definitions.unknown_rebuild", hint, "{}", unknown.reason);
    }
    // What a first start declares is no change.
    for outcome in outcome.iter().filter(|_| stored.node_count() > 0) {
        outcome.told.iter().for_each(|change| tracing::info!(kind = "definitions.changed", "{change}"));
        let rereads = rereads(config, outcome, state.partitions());
        rereads.iter().for_each(|change| tracing::warn!(kind = "source.reading_changed", "{change}"));
    }
    Ok(outcome.and_then(|outcome| outcome.next.map(|registry| Declared { registry, effects: outcome.effects })))
}

/// Partitions that are named where a source is read otherwise from here on.
const FROM_NAMED_MAX: usize = 16;

/// What sources are read by otherwise, with the offset of each partition that the new reading begins at.
pub(super) fn rereads(config: &Config, outcome: &RegisterOutcome, positions: &[StoredPosition]) -> Vec<String> {
    let from = |event: &str, source: &str| {
        let topics = config.kafka.iter().find(|setup| setup.name == source).map(|setup| &setup.topics);
        let mut known: Vec<&StoredPosition> =
            positions.iter().filter(|stored| !stored.is_forgotten() && stored.key.event == event).collect();
        known.retain(|stored| topics.is_some_and(|topics| topics.has(&stored.key.topic)));
        let named = known.iter().take(FROM_NAMED_MAX);
        let named: Vec<String> =
            named.map(|stored| format!("offset {} of {}/{}", stored.position.offset, stored.key.topic, stored.key.partition)).collect();
        match known.len().checked_sub(FROM_NAMED_MAX) {
            _ if known.is_empty() => "; nothing of it was read before".to_owned(),
            None | Some(0) => format!("; from {} on", named.join(", ")),
            Some(more) => format!("; from {} on, and {more} partitions more", named.join(", ")),
        }
    };
    let told = |reread: &Reread| format!("{}{}", reread.what, from(&reread.event, &reread.source));
    outcome.reread.iter().map(told).collect()
}

fn setup(source: &config::SourceSetup) -> SourceSetup {
    SourceSetup {
        name: source.name.clone(),
        event: source.event.clone(),
        format: source.format(),
        on_bad_record: match source.on_bad_record {
            config::OnBadRecord::Dlq => OnBadRecord::Keep,
            config::OnBadRecord::Skip => OnBadRecord::Skip,
            config::OnBadRecord::Stop => OnBadRecord::Stop,
        },
        registry_urls: source.registry_urls.clone(),
    }
}

pub(super) fn source(setup: &KafkaSetup) -> Result<KafkaSource, ApiError> {
    let topics = match &setup.topics {
        TopicsSetup::Named(names) => kafka::Topics::Named(names.clone()),
        TopicsSetup::Matching(pattern) => kafka::Topics::matching(pattern).map_err(|error| {
            ApiError::new(Code::InvalidConfigValue, error.to_string()).at(format!("sources.{}.kafka.topic_regex", setup.name))
        })?,
    };
    let secret = |secret: &config::Secret| kafka::Secret::new(secret.reveal());
    let mut source = KafkaSource::new(&setup.name, &setup.event, setup.brokers.clone(), topics);
    source.start = match setup.start {
        StartSetup::Earliest => kafka::Start::Earliest,
        StartSetup::Latest => kafka::Start::Latest,
        StartSetup::Timestamp { ms } => kafka::Start::Timestamp { ms },
    };
    source.security.tls =
        setup.tls.as_ref().map(|tls| kafka::Tls { ca: tls.ca.clone(), cert: tls.cert.clone(), key: tls.key.as_ref().map(secret) });
    source.security.sasl = setup.sasl.as_ref().map(|sasl| kafka::Sasl {
        mechanism: sasl.mechanism.clone(),
        user: sasl.user.clone(),
        password: secret(&sasl.password),
    });
    source.client = setup.client.iter().map(|(key, value)| (key.clone(), value.reveal().to_owned())).collect();
    source.group_id = setup.group_id.clone();
    source.topic_ids = setup.topic_ids;
    source.registry = setup.registry.as_ref().map(|registry| RegistryConfig {
        urls: registry.urls.clone(),
        auth: registry.auth.as_ref().map(|auth| match auth {
            RegistryLogin::Basic { user, password } => RegistryAuth::Basic { user: user.clone(), password: secret(password) },
            RegistryLogin::Bearer(token) => RegistryAuth::Bearer(secret(token)),
        }),
        ca: registry.tls.ca.clone(),
        cert: registry.tls.cert.clone(),
        key: registry.tls.key.as_ref().map(secret),
        schema_missing_grace: registry.schema_missing_grace,
    });
    Ok(source)
}

/// What the outside world says of a checked config.
#[derive(Debug, Default)]
pub(super) struct Outside {
    /// Brokers, topics and registries that do not answer, and schemas that cannot serve their event.
    pub(super) problems: Vec<ApiError>,
    /// Writer schemas that are read all the same and that other readers may refuse, each in a sentence.
    pub(super) notes: Vec<String>,
}

/// Asks brokers and registries (`check` without `--offline`).
///
/// # Errors
/// As [`server_options`].
pub(super) fn look_outside(config: &Config) -> Result<Outside, ApiError> {
    let Outside { mut problems, mut notes } = Outside::default();
    for (setup, decoding) in config.kafka.iter().zip(&config.sources) {
        assert_eq!(setup.name, decoding.name, "the halves of the sources are in one order");
        let source = source(setup)?;
        problems.extend(kafka::check_reachable(&source, REACH_LIMIT));
        match kafka::newest_schemas(&source) {
            Ok(newest) => {
                for (topic, schema) in newest {
                    problems.extend(unusable(config, decoding, &topic, &schema));
                    notes.extend(led_nowhere(config, decoding, &topic, &schema));
                    notes.extend(lenient(&topic, &schema));
                }
            }
            // A registry that does not answer is told once.
            Err(error) if problems.iter().any(|told| told.code == error.code && told.path == error.path) => {}
            Err(error) => problems.push(error),
        }
    }
    Ok(Outside { problems, notes })
}

/// Paths of the config that the newest schema of a topic does not have.
fn led_nowhere(config: &Config, decoding: &config::SourceSetup, topic: &str, schema: &FetchedSchema) -> Vec<String> {
    let Some(event) = config.registry().event(&decoding.event) else { return Vec::new() };
    let Ok(mut decoder) = Decoder::new(Arc::clone(&event.schema), &decoding.format()) else { return Vec::new() };
    if decoder.add_schema(schema.id, schema).is_err() {
        return Vec::new();
    }
    let lacking = decoder.led_nowhere_by(schema.id).into_iter();
    let is_written = |field: &str| decoding.fields.iter().any(|(name, _)| name == field);
    let told = |(field, paths): (String, String)| {
        let has = format!("the newest schema of topic {topic} (id {}) has no {paths}", schema.id);
        format!("{has}, so that {field} of {} is null in its records", decoding.event)
    };
    lacking.filter(|(field, _)| is_written(field)).map(told).collect()
}

fn lenient(topic: &str, schema: &FetchedSchema) -> Option<String> {
    let is_avro = schema.kind.is_empty() || schema.kind.eq_ignore_ascii_case("AVRO");
    let departure = crate::decode::avro::departure(schema).filter(|_| is_avro)?;
    Some(format!("the newest schema of topic {topic} (id {}) is read, but other readers may refuse it: {departure}", schema.id))
}

/// What the newest writer schema of a topic cannot give to the event that the topic feeds.
fn unusable(config: &Config, decoding: &config::SourceSetup, topic: &str, schema: &FetchedSchema) -> Option<ApiError> {
    let event = config.registry().event(&decoding.event)?;
    let mut decoder = Decoder::new(Arc::clone(&event.schema), &decoding.format()).ok()?;
    let error = decoder.add_schema(schema.id, schema).err()?;
    let reason = format!("the newest schema of topic {topic} (id {}) cannot serve event {}: {}", schema.id, decoding.event, error.reason);
    let field = if error.path.is_empty() { String::new() } else { format!(".fields.{}", error.path) };
    let path = format!("sources.{}{field}", decoding.name);
    Some(ApiError { reason, path, ..error })
}
