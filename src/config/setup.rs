//! What a `[sources.x]` section comes to: a struct for the engine, which decodes its records, and one for the connector, which fetches them.
//!
//! Two plain structs per source, so that neither side learns the other's words; startup hands each to its side. Client settings are judged by functions that
//! startup brings along, because this module does not know the connector. Secrets in here are resolved and print as `***`.

use super::definitions::OnBadRecord;
use super::secret::Secret;
use crate::decode::{CsvLines, DebeziumMode, FieldSource, Format, Framing, KeyFormat, SourceFormat, Tombstone};
use crate::row::Reading;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use streamgauge_api::inlet::FetchedSchema;

/// Something wrong with a key of `client = { .. }`, as the connector sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientProblem {
    /// The key as written.
    pub key: String,
    /// Why it is refused.
    pub reason: String,
    /// The nearest name that would be accepted.
    pub nearest: Option<String>,
    /// Whether the client has such a setting; false for a name nobody knows.
    pub known: bool,
}

/// What the connector says about client settings.
#[derive(Debug, Clone, Copy)]
pub struct ClientRules {
    /// Everything wrong with the keys.
    pub check: fn(&BTreeMap<String, String>) -> Vec<ClientProblem>,
    /// Whether the value of this key is a secret.
    pub is_secret: fn(&str) -> bool,
}

impl ClientRules {
    /// Accepts everything: for programs without a connector.
    pub const NONE: Self = Self { check: |_| Vec::new(), is_secret: |_| false };
}

/// The engine's half of a source.
#[derive(Debug, Clone)]
pub struct SourceSetup {
    /// Name of the section.
    pub name: String,
    /// Event that its records become.
    pub event: String,
    /// Format of the body.
    pub format: Format,
    /// What stands before the body.
    pub framing: Framing,
    /// Where fields come from, by field name.
    pub fields: Vec<(String, FieldSource)>,
    /// How the values of fields are read, by field name, where more is said than their place.
    pub readings: Vec<(String, Reading)>,
    /// What a record without a value means.
    pub tombstone: Tombstone,
    /// Format of the key.
    pub key_format: KeyFormat,
    /// The writer schema of Avro or Protobuf bodies without framing.
    pub schema: Option<FetchedSchema>,
    /// The message of Protobuf bodies without framing.
    pub message: Option<String>,
    /// How lines of CSV are read.
    pub csv: CsvLines,
    /// What a change event of Debezium is.
    pub mode: DebeziumMode,
    /// What happens to a record that is no row.
    pub on_bad_record: OnBadRecord,
    /// Registry addresses, for messages; empty without a registry.
    pub registry_urls: Vec<String>,
}

impl SourceSetup {
    /// For a decoder of the event's rows.
    pub fn format(&self) -> SourceFormat {
        SourceFormat {
            format: self.format,
            framing: self.framing,
            fields: self.fields.iter().map(|(name, from)| (name.as_str().into(), from.clone())).collect(),
            readings: self.readings.iter().map(|(name, reading)| (name.as_str().into(), reading.clone())).collect(),
            tombstone: self.tombstone,
            key_format: self.key_format,
            schema: self.schema.clone(),
            message: self.message.as_deref().map(Into::into),
            csv: self.csv.clone(),
            mode: self.mode,
        }
    }
}

/// Which topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicsSetup {
    /// These.
    Named(Vec<String>),
    /// All whose whole name matches; a regular expression that has been checked.
    Matching(String),
}

impl TopicsSetup {
    /// Whether a topic is one of them.
    pub fn has(&self, topic: &str) -> bool {
        match self {
            Self::Named(names) => names.iter().any(|name| name == topic),
            Self::Matching(pattern) => match regex::Regex::new(&format!("^(?:{pattern})$")) {
                Ok(whole) => whole.is_match(topic),
                Err(error) => unreachable!("the pattern was checked: {error}"),
            },
        }
    }
}

/// Where a partition begins that has no position yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartSetup {
    /// At the log start.
    Earliest,
    /// At the end.
    Latest,
    /// At the first record from this time on, milliseconds since the Unix epoch.
    Timestamp {
        /// Milliseconds.
        ms: i64,
    },
}

/// TLS files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsSetup {
    /// CA bundle.
    pub ca: Option<PathBuf>,
    /// Client certificate chain.
    pub cert: Option<PathBuf>,
    /// Client key, PEM text.
    pub key: Option<Secret>,
}

/// SASL login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaslSetup {
    /// `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`.
    pub mechanism: String,
    /// User.
    pub user: String,
    /// Password.
    pub password: Secret,
}

/// Credentials for a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryLogin {
    /// HTTP basic.
    Basic {
        /// User.
        user: String,
        /// Password.
        password: Secret,
    },
    /// `Authorization: Bearer`.
    Bearer(Secret),
}

/// A schema registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrySetup {
    /// Base URLs in the order in which they are tried.
    pub urls: Vec<String>,
    /// Credentials.
    pub auth: Option<RegistryLogin>,
    /// TLS files; default: built-in roots.
    pub tls: TlsSetup,
    /// How long a missing id is asked for.
    pub schema_missing_grace: Duration,
}

/// The connector's half of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaSetup {
    /// Name of the section.
    pub name: String,
    /// Event that its records become.
    pub event: String,
    /// Bootstrap addresses.
    pub brokers: Vec<String>,
    /// Topics.
    pub topics: TopicsSetup,
    /// Start policy.
    pub start: StartSetup,
    /// Encryption; none for plain text.
    pub tls: Option<TlsSetup>,
    /// Login.
    pub sasl: Option<SaslSetup>,
    /// Further client settings. Values of secret keys are resolved secrets.
    pub client: BTreeMap<String, Secret>,
    /// Consumer group for lag tools; none for the default.
    pub group_id: Option<String>,
    /// Whether the brokers give topics ids.
    pub topic_ids: bool,
    /// Schema registry.
    pub registry: Option<RegistrySetup>,
}
