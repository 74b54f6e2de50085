//! A declaration: its pairs, checked one by one and together, and the store that they come to.

use super::keys::{ALIASES, Change, KEYS, Key, Literal, Served};
use super::problem::Problem;
use super::schedule::Schedule;
use super::store::{DtOf, Envelope, Granularity, PartitionColumn, Store};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use streamgauge_api::{Code, nearest};
use streamgauge_parquet::Codec;

/// A key and its value, with their places in the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The key as written.
    pub key: String,
    /// The value as written.
    pub value: Literal,
    /// Where the key stands.
    pub key_span: Range<usize>,
    /// Where the value stands.
    pub value_span: Range<usize>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The declaration.
    Declared(Range<usize>),
    /// The key that means the same.
    Alias(&'static str),
    /// Nobody said anything.
    Default,
}

/// A declaration as it was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Declaration {
    /// The store's name.
    pub name: Option<String>,
    /// Its pairs, in their order.
    pub pairs: Vec<Pair>,
}

/// Values by key, each valid and of its key's type.
type Values = BTreeMap<&'static str, (Literal, Origin)>;

impl Declaration {
    /// Whether it is valid.
    ///
    /// # Errors
    /// All problems at once, in the order of the text.
    pub fn check(&self) -> Result<(), Vec<Problem>> {
        self.values().map(|_values| ())
    }

    /// What it comes to, with everything that this build would not do.
    ///
    /// # Errors
    /// What is not valid; then what is not served, key by key (`eventstore_feature_missing`).
    pub fn store(&self) -> Result<Store, Vec<Problem>> {
        let values = self.values()?;
        let missing: Vec<Problem> = self.pairs.iter().filter_map(lacking).collect();
        if missing.is_empty() { Ok(self.decide(&values)) } else { Err(missing) }
    }

    /// Every key with its value, where that comes from, and what holds.
    pub fn keys_json(&self, place: &dyn Fn(&Range<usize>) -> String) -> Json {
        let values = self.values().unwrap_or_default();
        let one = |key: &Key| {
            let (value, origin) = match values.get(key.name) {
                Some((value, origin)) => (Some(value.clone()), origin.clone()),
                None => (None, Origin::Default),
            };
            let lacks = value.as_ref().and_then(|value| key.lacks(value));
            let effective = match (&value, key.served) {
                (Some(value), _) if lacks.is_none() => json!(value.statement()),
                // A default that nothing acts on: what holds is the value that something does, if there is one.
                (_, Served::Only(served)) if served.len() == 1 => json!(served[0]),
                _ => Json::Null,
            };
            json!({
                "key": key.name,
                "type": key.kind.name(),
                "value": value.as_ref().map(Literal::statement),
                "origin": match &origin {
                    Origin::Declared(span) => place(span),
                    Origin::Alias(other) => format!("alias of {other}"),
                    Origin::Default => "default".to_owned(),
                },
                "effective": effective,
                "served": value.is_none() && key.served != Served::None || value.is_some() && lacks.is_none(),
                "change": key.change.name(),
                "does": key.does,
            })
        };
        KEYS.iter().map(one).collect()
    }

    fn values(&self) -> Result<Values, Vec<Problem>> {
        let (mut values, mut problems) = (Values::new(), Vec::new());
        for pair in &self.pairs {
            let Some(key) = Key::find(&pair.key) else {
                let problem = Problem::new(Code::EventstoreUnknownKey, format!("unknown key `{}`", pair.key), pair.key_span.clone());
                let near = nearest(&pair.key, KEYS.iter().map(|key| key.name));
                problems
                    .push(near.into_iter().fold(problem.of(&pair.key), |problem, near| problem.help(format!("did you mean `{near}`?"))));
                continue;
            };
            if values.contains_key(key.name) {
                let message = format!("`{}` is declared twice", key.name);
                problems.push(Problem::new(Code::EventstoreDuplicateKey, message, pair.key_span.clone()).of(key.name));
                continue;
            }
            match key.check(&pair.value) {
                Ok(value) => {
                    values.insert(key.name, (value, Origin::Declared(pair.value_span.clone())));
                }
                Err((code, wanted)) => {
                    problems.push(Problem::new(code, format!("`{}`: {wanted}", key.name), pair.value_span.clone()).of(key.name));
                }
            }
        }
        self.aliases(&mut values, &mut problems);
        for required in ["durable.type", "durable.path"] {
            if !self.pairs.iter().any(|pair| pair.key == required) {
                let problem = Problem::new(Code::EventstoreDurableRequired, format!("`{required}` is missing"), 0..0);
                problems.push(problem.of(required));
            }
        }
        for key in KEYS.iter().filter(|key| !self.pairs.iter().any(|pair| pair.key == key.name)) {
            if let Some(value) = key.default_value()
                && !values.contains_key(key.name)
            {
                values.insert(key.name, (value, Origin::Default));
            }
        }
        if problems.is_empty() {
            together(&values, &mut problems);
        }
        problems.sort_by_key(|problem| problem.span.start);
        if problems.is_empty() { Ok(values) } else { Err(problems) }
    }

    fn aliases(&self, values: &mut Values, problems: &mut Vec<Problem>) {
        for &(one, other) in ALIASES {
            match (values.get(one).cloned(), values.get(other).cloned()) {
                (Some((first, _)), Some((second, Origin::Declared(span)))) if first != second => {
                    let message = format!("`{other}` is {} and `{one}` is {}; both mean the same", second.statement(), first.statement());
                    problems.push(Problem::new(Code::EventstoreAliasConflict, message, span).of(other));
                }
                (Some((value, _)), None) => {
                    values.insert(other, (value, Origin::Alias(one)));
                }
                (None, Some((value, _))) => {
                    values.insert(one, (value, Origin::Alias(other)));
                }
                _ => {}
            }
        }
    }

    fn decide(&self, values: &Values) -> Store {
        let text = |key: &str| match values.get(key) {
            Some((Literal::Text(text), _)) => text.clone(),
            _ => String::new(),
        };
        let flag = |key: &str| matches!(values.get(key), Some((Literal::Flag(true), _)));
        let list = |key: &str| match values.get(key) {
            Some((Literal::List(items), _)) => items.iter().filter_map(as_text).collect::<Vec<String>>(),
            _ => Vec::new(),
        };
        let number = |key: &str| match values.get(key) {
            Some((Literal::Int(number), _)) => u64::try_from(*number).unwrap_or(0),
            _ => 0,
        };
        let count = |key: &str| usize::try_from(number(key)).unwrap_or(usize::MAX);
        let path = |key: &str| PathBuf::from(text(key).trim_start_matches("file://"));
        let root = path("durable.path");
        let manifests = path("durable.commit.manifest_path");
        let trigger = list("compaction.trigger");
        let names = [
            "event_id",
            "stream_type",
            "stream_id",
            "seq",
            "event_type",
            "event_version",
            "occurred_at",
            "ingested_at",
            "payload",
            "metadata",
            "command_id",
            "correlation_id",
            "causation_id",
            "tenant_id",
        ];
        Store {
            name: self.name.clone().unwrap_or_else(|| "eventstore".to_owned()),
            manifests: if manifests.as_os_str().is_empty() { root.join("_manifests") } else { manifests },
            envelope: Envelope { names: names.map(|name| text(&format!("envelope.{name}_key"))) },
            file_pattern: text("durable.file_pattern"),
            partition_by: list("partition.by").iter().filter_map(|name| PartitionColumn::parse(name)).collect(),
            dt_of: if text("partition.dt.expr") == "DATE(ingested_at)" { DtOf::Ingested } else { DtOf::Occurred },
            granularity: match text("partition.dt.granularity").as_str() {
                "hour" => Granularity::Hour,
                "month" => Granularity::Month,
                _ => Granularity::Day,
            },
            codec: match text("durable.compression").as_str() {
                "snappy" => Codec::Snappy,
                "lz4" => Codec::Lz4,
                "none" => Codec::None,
                _ => Codec::Zstd(u8::try_from(number("durable.compression.level")).unwrap_or(3)),
            },
            dictionary: flag("durable.dictionary.enabled"),
            group_bytes: count("row_group.target_mb") << 20,
            group_rows: count("row_group.max_rows"),
            sort_by: list("row_group.sort_by"),
            descending: text("row_group.sort_order") == "desc",
            statistics: if flag("stats.enabled") { list("stats.columns") } else { Vec::new() },
            bloom: if flag("bloom.enabled") { list("bloom.columns") } else { Vec::new() },
            bloom_fpp: match values.get("bloom.fpp") {
                Some((Literal::Float(share), _)) => *share,
                _ => 0.01,
            },
            run_at_bytes: trigger.iter().any(|name| name == "size_mb").then(|| number("compaction.min_segment_mb") << 20),
            schedule: trigger.iter().any(|name| name == "time").then(|| Schedule::parse(&text("compaction.schedule")).ok()).flatten(),
            archives: flag("compaction.enabled"),
            segment_bytes: self.said(values, "wal.rollover_mb").then(|| number("wal.rollover_mb") << 20),
            synced: flag("wal.fsync"),
            statement: self.statement(),
            path: root,
            ..Store::at(PathBuf::new())
        }
    }

    /// Whether somebody declared it.
    fn said(&self, values: &Values, key: &str) -> bool {
        values.get(key).is_some_and(|(_, origin)| *origin != Origin::Default)
    }

    /// Keys that may not differ from `before` once the archive has a file.
    ///
    /// # Errors
    /// `eventstore_key_fixed`, one for each.
    pub fn fixed_since(&self, before: &Self) -> Result<(), Vec<Problem>> {
        let (Ok(now), Ok(then)) = (self.values(), before.values()) else { return Ok(()) };
        let differs = |key: &&Key| now.get(key.name).map(|(value, _)| value) != then.get(key.name).map(|(value, _)| value);
        let told = |key: &Key| {
            let shown = |values: &Values| values.get(key.name).map_or_else(String::new, |(value, _)| value.statement());
            let message = format!("`{}` is {} and the archive was begun with {}", key.name, shown(&now), shown(&then));
            let span = match now.get(key.name) {
                Some((_, Origin::Declared(span))) => span.clone(),
                _ => 0..0,
            };
            Problem::new(Code::EventstoreKeyFixed, message, span).of(key.name).help("put it back, or begin another archive at another path")
        };
        let problems: Vec<Problem> = KEYS.iter().filter(|key| key.change == Change::Fixed).filter(differs).map(told).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// The declaration as a statement, in the order of its pairs.
    pub fn statement(&self) -> String {
        let pairs: Vec<String> = self.pairs.iter().map(|pair| format!("  {} = {}", pair.key, pair.value.statement())).collect();
        format!("CREATE EVENTSTORE {} WITH (\n{}\n);\n", self.name.as_deref().unwrap_or("eventstore"), pairs.join(",\n"))
    }
}

fn as_text(literal: &Literal) -> Option<String> {
    match literal {
        Literal::Text(text) => Some(text.clone()),
        _ => None,
    }
}

fn lacking(pair: &Pair) -> Option<Problem> {
    let key = Key::find(&pair.key)?;
    let value = key.check(&pair.value).ok()?;
    let lacks = key.lacks(&value)?;
    let problem = Problem::new(Code::EventstoreFeatureMissing, format!("`{}`: {lacks}", key.name), pair.value_span.clone());
    Some(problem.of(key.name).help("leave the key out; GET /eventstore and docs/EVENTSTORE.md say what each key does"))
}

/// Rules over several keys.
fn together(values: &Values, problems: &mut Vec<Problem>) {
    let span = |key: &str| match values.get(key) {
        Some((_, Origin::Declared(span))) => span.clone(),
        _ => 0..0,
    };
    let number = |key: &str| match values.get(key) {
        Some((Literal::Int(number), _)) => *number,
        _ => 0,
    };
    let text = |key: &str| match values.get(key) {
        Some((Literal::Text(text), _)) => text.as_str(),
        _ => "",
    };
    let mut wrong = |key: &str, message: String| problems.push(Problem::new(Code::EventstoreRange, message, span(key)).of(key));
    let [least, target, most] = ["min_segment_mb", "target_file_mb", "max_file_mb"].map(|name| number(&format!("compaction.{name}")));
    if !(least <= target && target <= most) {
        let message = format!("min_segment_mb <= target_file_mb <= max_file_mb is wanted, found {least}, {target}, {most}");
        wrong("compaction.target_file_mb", message);
    }
    let level = values.get("durable.compression.level").is_some_and(|(_, origin)| *origin != Origin::Default);
    if level && text("durable.compression") != "zstd" {
        wrong("durable.compression.level", format!("{} has no levels", text("durable.compression")));
    }
    if let Some((Literal::List(items), _)) = values.get("partition.by") {
        for name in items.iter().filter_map(as_text) {
            if !text("durable.file_pattern").contains(&format!("{{{name}}}")) {
                wrong("durable.file_pattern", format!("{{{name}}} of partition.by is missing in the pattern"));
            }
        }
        let places: Vec<Option<usize>> =
            items.iter().filter_map(as_text).map(|name| text("durable.file_pattern").find(&format!("{{{name}}}"))).collect();
        if !places.is_sorted() {
            wrong("durable.file_pattern", "the pattern names the columns of partition.by in another order".to_owned());
        }
        let known: Vec<String> = items.iter().filter_map(as_text).chain(["writer", "file_seq"].map(str::to_owned)).collect();
        for part in text("durable.file_pattern").split('{').skip(1) {
            let name = part.split('}').next().unwrap_or_default();
            if !known.iter().any(|known| known == name) {
                wrong("durable.file_pattern", format!("{{{name}}} is neither a column of partition.by nor writer nor file_seq"));
            }
        }
    }
    let names: Vec<(&str, &str)> =
        KEYS.iter().filter(|key| key.name.starts_with("envelope.")).map(|key| (key.name, text(key.name))).collect();
    for (at, (key, name)) in names.iter().enumerate() {
        let reserved = ["lsn", "txn_lsn", "topic", "partition", "offset", "dt"].contains(name);
        if reserved || names[..at].iter().any(|(_, other)| other == name) {
            wrong(key, format!("`{name}` is the name of another column"));
        }
    }
    if matches!(values.get("security.encrypt.at_rest"), Some((Literal::Flag(true), _))) && text("security.kms.key_id").is_empty() {
        wrong("security.encrypt.at_rest", "encryption needs security.kms.provider and security.kms.key_id".to_owned());
    }
}
