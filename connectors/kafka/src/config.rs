//! What the config parser fills in: plain data with secrets already resolved.
//!
//! Invariant: a secret never shows in `Debug`, `Display`, logs or incidents; only [`Secret::reveal`] gives it out, and only the client settings and the
//! registry's request headers call that. Nothing here reads files, the environment or a clock. Event, format and tombstone policy are the engine's.

use regex::Regex;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A resolved secret. Prints as `***`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret's text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the client only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

/// Which topics a source reads.
#[derive(Debug, Clone)]
pub enum Topics {
    /// These, by name. Only so can an internal topic (`__...`) be read.
    Named(Vec<String>),
    /// All whose whole name matches, also those created later.
    Matching(TopicPattern),
}

impl Topics {
    /// A selector by regular expression.
    ///
    /// # Errors
    /// The expression does not parse.
    pub fn matching(pattern: &str) -> Result<Self, regex::Error> {
        TopicPattern::new(pattern).map(Self::Matching)
    }

    /// Whether a topic of this name is read.
    pub fn selects(&self, topic: &str) -> bool {
        match self {
            Self::Named(names) => names.iter().any(|name| name == topic),
            Self::Matching(pattern) => pattern.matches(topic),
        }
    }
}

impl std::fmt::Display for Topics {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Named(names) => out.write_str(&names.join(", ")),
            Self::Matching(pattern) => out.write_str(&pattern.text),
        }
    }
}

/// A regular expression over whole topic names.
#[derive(Debug, Clone)]
pub struct TopicPattern {
    text: String,
    whole: Regex,
}

impl TopicPattern {
    /// Compiles; anchors at both ends are implied.
    ///
    /// # Errors
    /// The expression does not parse.
    pub fn new(text: &str) -> Result<Self, regex::Error> {
        // Compiled alone first, so that an error speaks of the user's text and `a)(b` is refused.
        Regex::new(text)?;
        Ok(Self { text: text.to_owned(), whole: Regex::new(&format!("^(?:{text})$"))? })
    }

    /// The expression as the user wrote it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the whole name matches; internal topics never do.
    pub fn matches(&self, topic: &str) -> bool {
        !topic.starts_with("__") && self.whole.is_match(topic)
    }
}

/// Where a partition starts that the state has never seen. Resolved to a number at once, which is written to the WAL before the first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// At the log start.
    #[default]
    Earliest,
    /// Behind everything that can be read now (the last stable offset: records of a transaction that is open now will count).
    Latest,
    /// At the first record whose Kafka timestamp is at or after this time.
    Timestamp {
        /// Milliseconds since the Unix epoch.
        ms: i64,
    },
}

/// TLS towards the brokers; present means TLS is on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// CA bundle; `None` uses the system's.
    pub ca: Option<PathBuf>,
    /// Client certificate chain (PEM file).
    pub cert: Option<PathBuf>,
    /// Client key (PEM text).
    pub key: Option<Secret>,
}

/// SASL login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sasl {
    /// `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`.
    pub mechanism: String,
    /// User.
    pub user: String,
    /// Password.
    pub password: Secret,
}

/// TLS and login towards the brokers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// Encryption.
    pub tls: Option<Tls>,
    /// Login.
    pub sasl: Option<Sasl>,
}

/// Credentials for a registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RegistryAuth {
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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegistryConfig {
    /// Base URLs in the order in which they are tried; paths in them are kept.
    pub urls: Vec<String>,
    /// Credentials.
    pub auth: Option<RegistryAuth>,
    /// CA bundle (PEM file); `None` uses built-in roots.
    pub ca: Option<PathBuf>,
    /// Client certificate chain (PEM file) for mTLS.
    pub cert: Option<PathBuf>,
    /// Client key (PEM text) for mTLS.
    pub key: Option<Secret>,
    /// How long an id that the registry says it does not have is asked for again before its records are bad: registries replicate late.
    pub schema_missing_grace: Duration,
}

impl RegistryConfig {
    /// How long a missing id is waited for when nothing else is configured.
    pub const SCHEMA_MISSING_GRACE: Duration = Duration::from_secs(60);

    /// A registry without credentials.
    pub fn plain(urls: Vec<String>) -> Self {
        Self { urls, auth: None, ca: None, cert: None, key: None, schema_missing_grace: Self::SCHEMA_MISSING_GRACE }
    }
}

/// One `[sources.x]` section that reads Kafka.
#[derive(Clone)]
pub struct KafkaSource {
    /// Name of the section.
    pub name: String,
    /// Event that its records become.
    pub event: String,
    /// Bootstrap addresses, `host:port`.
    pub brokers: Vec<String>,
    /// Topics.
    pub topics: Topics,
    /// Start policy for partitions that the state does not know.
    pub start: Start,
    /// TLS and login.
    pub security: Security,
    /// Further client settings by librdkafka's names; checked by [`crate::settings::check_client_settings`].
    pub client: BTreeMap<String, String>,
    /// Consumer group that positions are committed to for lag tools; `None`: `streamgauge-<instance>`.
    pub group_id: Option<String>,
    /// Whether the brokers give topics ids. All real ones since Kafka 2.8 do; the in-process mock does not. Declared, never guessed from a time-out.
    pub topic_ids: bool,
    /// The registry that schema ids of this source belong to.
    pub registry: Option<RegistryConfig>,
}

// By hand: values of `client` may be secrets.
impl fmt::Debug for KafkaSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("KafkaSource")
            .field("name", &self.name)
            .field("event", &self.event)
            .field("brokers", &self.brokers)
            .field("topics", &self.topics)
            .field("start", &self.start)
            .field("security", &self.security)
            .field("client", &self.client.keys().collect::<Vec<_>>())
            .field("group_id", &self.group_id)
            .field("topic_ids", &self.topic_ids)
            .field("registry", &self.registry)
            .finish()
    }
}

impl KafkaSource {
    /// A source with defaults: plain text, from the log start, brokers with topic ids, no registry.
    pub fn new(name: &str, event: &str, brokers: Vec<String>, topics: Topics) -> Self {
        Self {
            name: name.to_owned(),
            event: event.to_owned(),
            brokers,
            topics,
            start: Start::default(),
            security: Security::default(),
            client: BTreeMap::new(),
            group_id: None,
            topic_ids: true,
            registry: None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn patterns_match_whole_names_and_never_internal_topics() {
        for (pattern, topic, expected) in [
            ("clicks(-[a-z]+)?", "clicks", true),
            ("clicks(-[a-z]+)?", "clicks-eu", true),
            ("clicks(-[a-z]+)?", "my-clicks", false),
            ("^clicks$", "clicks", true),
            ("a|b", "ab", false),
            ("a|b", "b", true),
            (".*", "__consumer_offsets", false),
            (".*", "_schemas", true),
        ] {
            assert_eq!(Topics::matching(pattern).unwrap().selects(topic), expected, "{pattern} on {topic}");
        }
        assert!(Topics::Named(vec!["__consumer_offsets".into()]).selects("__consumer_offsets"));
        assert!(Topics::matching("a)(b").is_err());
    }

    #[test]
    fn secrets_never_print() {
        let auth = RegistryAuth::Basic { user: "reader".into(), password: Secret::new("hunter2") };
        assert!(!format!("{auth:?}").contains("hunter2"));
        let mut source = KafkaSource::new("s", "E", vec![], Topics::Named(vec![]));
        source.client.insert("sasl.password".into(), "hunter2".into());
        assert!(!format!("{source:?}").contains("hunter2"));
    }
}
