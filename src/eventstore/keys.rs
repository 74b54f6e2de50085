//! The 84 keys: type, range, default, how each may be changed, what it does, and which of its values this build does.
//!
//! [`Served`] is the honest part: a value that is valid and that nothing here would act on is
//! refused when a server is to run with it. What stands in [`KEYS`] is said nowhere else;
//! docs/EVENTSTORE.md is made from it.

use super::schedule::Schedule;
use super::store::{Envelope, PartitionColumn};
use streamgauge_api::Code;

/// A value as it is written.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// Text.
    Text(String),
    /// Whole number.
    Int(i64),
    /// Number with a point.
    Float(f64),
    /// Boolean.
    Flag(bool),
    /// A list of the others.
    List(Vec<Literal>),
}

impl Literal {
    /// As a statement writes it.
    pub fn statement(&self) -> String {
        match self {
            Self::Text(text) => format!("'{}'", text.replace('\'', "''")),
            Self::Int(number) => number.to_string(),
            Self::Float(number) => format!("{number:?}"),
            Self::Flag(flag) => flag.to_string(),
            Self::List(items) => format!("({})", items.iter().map(Self::statement).collect::<Vec<_>>().join(",")),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number with a point",
            Self::Flag(_) => "a boolean",
            Self::List(_) => "a list",
        }
    }
}

/// Type of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Text.
    Text,
    /// Boolean.
    Flag,
    /// Whole number.
    Int,
    /// Number.
    Float,
    /// List of texts; one text is a list of one.
    List,
}

impl Type {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Flag => "boolean",
            Self::Int => "whole number",
            Self::Float => "number",
            Self::List => "list of texts",
        }
    }
}

/// Which values of the type are valid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Allowed {
    /// All.
    Any,
    /// A letter, then letters, digits and underscores.
    Ident,
    /// These.
    Words(&'static [&'static str]),
    /// Numbers between both, both included.
    Range {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// More than 0 and less than 1.
    Fraction,
    /// Columns of the envelope and `lsn`.
    Columns,
    /// Columns that make folders.
    Partitions,
    /// `size_mb`, `time`.
    Triggers,
    /// Some of these.
    Members(&'static [&'static str]),
    /// A path or an URL of a store.
    Place,
    /// A pattern with `{file_seq}`.
    Pattern,
    /// A pattern with `{segment}`.
    SegmentPattern,
    /// Five fields of cron.
    Cron,
}

/// How a value may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Not at all once the archive has a file.
    Fixed,
    /// With a restart.
    Restart,
    /// While it runs.
    Live,
}

impl Change {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Restart => "restart",
            Self::Live => "live",
        }
    }
}

/// Which values this build does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// All valid ones.
    All,
    /// These, as a statement writes them.
    Only(&'static [&'static str]),
    /// Lists without this member.
    Without(&'static str),
    /// Paths of this machine.
    Local,
    /// None.
    None,
}

/// One key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
    /// Which values are valid.
    pub allowed: Allowed,
    /// The default as a statement writes it; empty for none.
    pub default: &'static str,
    /// How it may be changed.
    pub change: Change,
    /// Which values this build does.
    pub served: Served,
    /// What it does.
    pub does: &'static str,
}

const fn key(
    name: &'static str,
    kind: Type,
    allowed: Allowed,
    default: &'static str,
    change: Change,
    served: Served,
    does: &'static str,
) -> Key {
    Key { name, kind, allowed, default, change, served, does }
}

/// Every key, in the order in which the documentation shows them.
pub const KEYS: &[Key] = &[
    key(
        "envelope.event_id_key",
        Type::Text,
        Allowed::Ident,
        "'event_id'",
        Change::Fixed,
        Served::All,
        "Name of the column that has the row's id.",
    ),
    key(
        "envelope.stream_type_key",
        Type::Text,
        Allowed::Ident,
        "'stream_type'",
        Change::Fixed,
        Served::All,
        "Name of the column that has the event's name.",
    ),
    key(
        "envelope.stream_id_key",
        Type::Text,
        Allowed::Ident,
        "'stream_id'",
        Change::Fixed,
        Served::All,
        "Name of the column that has the key of the stream; null, since no event can name its stream yet.",
    ),
    key(
        "envelope.seq_key",
        Type::Text,
        Allowed::Ident,
        "'seq'",
        Change::Fixed,
        Served::All,
        "Name of the column that has the number of the row in its stream; the LSN, since no event can name its stream yet.",
    ),
    key(
        "envelope.event_type_key",
        Type::Text,
        Allowed::Ident,
        "'event_type'",
        Change::Fixed,
        Served::All,
        "Name of the column that has the type of the row: the event's name.",
    ),
    key(
        "envelope.event_version_key",
        Type::Text,
        Allowed::Ident,
        "'event_version'",
        Change::Fixed,
        Served::All,
        "Name of the column that has the version of the event's declaration.",
    ),
    key(
        "envelope.occurred_at_key",
        Type::Text,
        Allowed::Ident,
        "'occurred_at'",
        Change::Fixed,
        Served::All,
        "Name of the column that has the row's time.",
    ),
    key(
        "envelope.ingested_at_key",
        Type::Text,
        Allowed::Ident,
        "'ingested_at'",
        Change::Fixed,
        Served::All,
        "Name of the column that has the time of arrival.",
    ),
    key(
        "envelope.payload_key",
        Type::Text,
        Allowed::Ident,
        "'data'",
        Change::Fixed,
        Served::All,
        "Name of the column that has values that are not of their field's type, as JSON.",
    ),
    key(
        "envelope.metadata_key",
        Type::Text,
        Allowed::Ident,
        "'metadata'",
        Change::Fixed,
        Served::All,
        "Name of the column that has headers and free metadata; null, since none are kept yet.",
    ),
    key(
        "envelope.command_id_key",
        Type::Text,
        Allowed::Ident,
        "'command_id'",
        Change::Fixed,
        Served::All,
        "Name of the column that has the idempotency id; null, since none are taken yet.",
    ),
    key(
        "envelope.correlation_id_key",
        Type::Text,
        Allowed::Ident,
        "'correlation_id'",
        Change::Fixed,
        Served::All,
        "Name of the column that has the trace id; null, since none are taken yet.",
    ),
    key(
        "envelope.causation_id_key",
        Type::Text,
        Allowed::Ident,
        "'causation_id'",
        Change::Fixed,
        Served::All,
        "Name of the column that has the parent event; null, since none are taken yet.",
    ),
    key(
        "envelope.tenant_id_key",
        Type::Text,
        Allowed::Ident,
        "'tenant_id'",
        Change::Fixed,
        Served::All,
        "Name of the column that has the tenant; null, since none are taken yet.",
    ),
    key(
        "id.event_id.format",
        Type::Text,
        Allowed::Words(&["uuidv7", "uuidv4", "ulid", "external"]),
        "'uuidv7'",
        Change::Fixed,
        Served::Only(&["'uuidv7'"]),
        "How the id of a row is made: the layout of UUIDv7 over a hash of where the row comes from, so that the same row always has the same id.",
    ),
    key(
        "id.command_id.required",
        Type::Flag,
        Allowed::Any,
        "false",
        Change::Live,
        Served::Only(&["false"]),
        "Whether a push must carry a command id.",
    ),
    key(
        "id.command_id.unique_scope",
        Type::Text,
        Allowed::Words(&["none", "stream", "stream_type", "store"]),
        "'stream'",
        Change::Restart,
        Served::Only(&["'none'"]),
        "Where a repeated command id is a duplicate.",
    ),
    key(
        "id.correlation_id.optional",
        Type::Flag,
        Allowed::Any,
        "true",
        Change::Live,
        Served::Only(&["true"]),
        "Whether the correlation id may be absent.",
    ),
    key(
        "ordering.per_stream",
        Type::Text,
        Allowed::Words(&["seq", "lsn"]),
        "'seq'",
        Change::Fixed,
        Served::Only(&["'seq'"]),
        "Order inside of a stream.",
    ),
    key(
        "ordering.global",
        Type::List,
        Allowed::Columns,
        "('lsn')",
        Change::Restart,
        Served::Only(&["('lsn')"]),
        "Total order across streams: that of the log.",
    ),
    key("durable.type", Type::Text, Allowed::Words(&["parquet"]), "", Change::Fixed, Served::All, "Format of the archive. Required."),
    key("durable.path", Type::Text, Allowed::Place, "", Change::Fixed, Served::Local, "Root of the archive: a path or file://. Required."),
    key(
        "durable.file_pattern",
        Type::Text,
        Allowed::Pattern,
        "'dt={dt}/stream_type={stream_type}/part-{writer}-{file_seq}.parquet'",
        Change::Fixed,
        Served::All,
        "Names of files below the root, of {file_seq} (the least LSN of the file), {writer} (eight digits of the log's id) and the columns of partition.by.",
    ),
    key(
        "durable.commit.protocol",
        Type::Text,
        Allowed::Words(&["atomic_rename", "conditional_put"]),
        "'atomic_rename'",
        Change::Restart,
        Served::Only(&["'atomic_rename'"]),
        "How files become visible: a name that one writer gets.",
    ),
    key(
        "durable.commit.manifest_path",
        Type::Text,
        Allowed::Place,
        "",
        Change::Fixed,
        Served::Local,
        "Folder of the manifests; _manifests below the root when absent.",
    ),
    key(
        "durable.compression",
        Type::Text,
        Allowed::Words(&["zstd", "snappy", "lz4", "none"]),
        "'zstd'",
        Change::Restart,
        Served::All,
        "Compression of pages.",
    ),
    key(
        "durable.compression.level",
        Type::Int,
        Allowed::Range { min: 1, max: 22 },
        "3",
        Change::Restart,
        Served::All,
        "Level of zstd; an error with another codec.",
    ),
    key(
        "durable.dictionary.enabled",
        Type::Flag,
        Allowed::Any,
        "true",
        Change::Restart,
        Served::All,
        "Whether text and numbers with repeats are packed by dictionaries.",
    ),
    key(
        "partition.by",
        Type::List,
        Allowed::Partitions,
        "('dt','stream_type')",
        Change::Fixed,
        Served::Without("tenant_id"),
        "Columns that make folders, outermost first.",
    ),
    key(
        "partition.dt.expr",
        Type::Text,
        Allowed::Words(&["DATE(occurred_at)", "DATE(ingested_at)"]),
        "'DATE(occurred_at)'",
        Change::Fixed,
        Served::All,
        "Which time dt is of, in UTC.",
    ),
    key(
        "partition.dt.granularity",
        Type::Text,
        Allowed::Words(&["hour", "day", "month"]),
        "'day'",
        Change::Fixed,
        Served::All,
        "How wide a dt is: 2026-03-01T05, 2026-03-01 or 2026-03.",
    ),
    key(
        "partition.stream_type.expr",
        Type::Text,
        Allowed::Words(&["stream_type"]),
        "'stream_type'",
        Change::Fixed,
        Served::All,
        "What the folder stream_type is of: the event.",
    ),
    key(
        "partition.tenant_id.expr",
        Type::Text,
        Allowed::Words(&["tenant_id"]),
        "'tenant_id'",
        Change::Fixed,
        Served::None,
        "What the folder tenant_id is of.",
    ),
    key(
        "partition.enforce",
        Type::Flag,
        Allowed::Any,
        "true",
        Change::Live,
        Served::Only(&["false"]),
        "Whether a row without a valid partition value is refused. false: it goes to the folder __HIVE_DEFAULT_PARTITION__.",
    ),
    key(
        "row_group.target_mb",
        Type::Int,
        Allowed::Range { min: 1, max: 1_024 },
        "128",
        Change::Restart,
        Served::All,
        "Encoded size in MiB at which a row group is closed.",
    ),
    key(
        "row_group.max_rows",
        Type::Int,
        Allowed::Range { min: 1_000, max: 10_000_000 },
        "1_000_000",
        Change::Restart,
        Served::All,
        "Rows at which a row group is closed.",
    ),
    key(
        "row_group.sort_by",
        Type::List,
        Allowed::Columns,
        "('stream_id','seq')",
        Change::Restart,
        Served::All,
        "Order of rows inside of a file, lsn last.",
    ),
    key("row_group.sort_order", Type::Text, Allowed::Words(&["asc", "desc"]), "'asc'", Change::Restart, Served::All, "Its direction."),
    key(
        "stats.enabled",
        Type::Flag,
        Allowed::Any,
        "true",
        Change::Restart,
        Served::All,
        "Whether least and greatest value of each page stand in the file.",
    ),
    key(
        "stats.columns",
        Type::List,
        Allowed::Columns,
        "('stream_id','seq','event_type','occurred_at')",
        Change::Restart,
        Served::All,
        "Of which columns; lsn, txn_lsn and offset always.",
    ),
    key("bloom.enabled", Type::Flag, Allowed::Any, "true", Change::Restart, Served::All, "Whether there are bloom filters."),
    key("bloom.columns", Type::List, Allowed::Columns, "('stream_id','event_id')", Change::Restart, Served::All, "Of which columns."),
    key("bloom.fpp", Type::Float, Allowed::Fraction, "0.01", Change::Restart, Served::All, "Their share of false positives."),
    key("inmemory.enabled", Type::Flag, Allowed::Any, "true", Change::Restart, Served::None, "The hot ring."),
    key("inmemory.max_mb", Type::Int, Allowed::Range { min: 1, max: 65_536 }, "64", Change::Live, Served::None, "Bound of the hot ring."),
    key(
        "inmemory.ttl_seconds",
        Type::Int,
        Allowed::Range { min: 1, max: 86_400 },
        "60",
        Change::Live,
        Served::None,
        "Age bound of the hot ring.",
    ),
    key(
        "inmemory.index_by",
        Type::List,
        Allowed::Columns,
        "('stream_type','stream_id')",
        Change::Restart,
        Served::None,
        "Index of the hot ring.",
    ),
    key(
        "wal.enabled",
        Type::Flag,
        Allowed::Any,
        "true",
        Change::Restart,
        Served::Only(&["true"]),
        "Whether there is a log; exactly-once needs it.",
    ),
    key("wal.path", Type::Text, Allowed::Place, "", Change::Restart, Served::None, "Folder of the log; it stands in the data folder."),
    key(
        "wal.segment_pattern",
        Type::Text,
        Allowed::SegmentPattern,
        "'{segment}.wal'",
        Change::Restart,
        Served::None,
        "Names of the log's files.",
    ),
    key(
        "wal.rollover",
        Type::Text,
        Allowed::Words(&["size", "time", "size_or_time"]),
        "'size'",
        Change::Live,
        Served::Only(&["'size'"]),
        "When a segment of the log is sealed.",
    ),
    key(
        "wal.rollover_mb",
        Type::Int,
        Allowed::Range { min: 64, max: 1_024 },
        "64",
        Change::Restart,
        Served::All,
        "Size of a segment of the log, as durability.wal.segment.",
    ),
    key(
        "wal.fsync",
        Type::Flag,
        Allowed::Any,
        "",
        Change::Restart,
        Served::Only(&["true"]),
        "true: a push is acknowledged once it is synced, as durability.push = \"synced\".",
    ),
    key(
        "wal.checksum",
        Type::Text,
        Allowed::Words(&["crc32", "crc32c"]),
        "'crc32'",
        Change::Fixed,
        Served::Only(&["'crc32'"]),
        "Checksum of the log's frames.",
    ),
    key(
        "wal.retention_hours",
        Type::Int,
        Allowed::Range { min: 0, max: 8_760 },
        "24",
        Change::Live,
        Served::Only(&["0"]),
        "How long sealed segments of the log are kept at least.",
    ),
    key(
        "compaction.enabled",
        Type::Flag,
        Allowed::Any,
        "true",
        Change::Restart,
        Served::All,
        "Whether rows go into the archive by themselves; without it only when asked for, and the log grows.",
    ),
    key(
        "compaction.trigger",
        Type::List,
        Allowed::Triggers,
        "('size_mb','time')",
        Change::Restart,
        Served::All,
        "What starts a run: so much that is sealed and not archived, the schedule, or either.",
    ),
    key(
        "compaction.min_segment_mb",
        Type::Int,
        Allowed::Range { min: 1, max: 65_536 },
        "64",
        Change::Restart,
        Served::All,
        "Sealed MiB of the log that start a run.",
    ),
    key(
        "compaction.max_file_mb",
        Type::Int,
        Allowed::Range { min: 1, max: 65_536 },
        "512",
        Change::Live,
        Served::None,
        "Upper bound of a file.",
    ),
    key(
        "compaction.target_file_mb",
        Type::Int,
        Allowed::Range { min: 1, max: 65_536 },
        "256",
        Change::Live,
        Served::None,
        "Size of a file that is aimed at.",
    ),
    key(
        "compaction.max_open_files",
        Type::Int,
        Allowed::Range { min: 1, max: 4_096 },
        "32",
        Change::Live,
        Served::None,
        "Files that are written at a time.",
    ),
    key(
        "compaction.schedule",
        Type::Text,
        Allowed::Cron,
        "'*/5 * * * *'",
        Change::Restart,
        Served::All,
        "When a run is due: minute hour day month weekday, in UTC.",
    ),
    key(
        "read.tiers",
        Type::List,
        Allowed::Members(&["inmemory", "wal", "durable"]),
        "('inmemory','wal','durable')",
        Change::Live,
        Served::None,
        "Which tiers a read merges.",
    ),
    key(
        "read.merge.strategy",
        Type::Text,
        Allowed::Words(&["union_dedupe_sort"]),
        "'union_dedupe_sort'",
        Change::Live,
        Served::None,
        "How tiers are merged.",
    ),
    key(
        "read.dedupe.key",
        Type::List,
        Allowed::Columns,
        "('stream_type','stream_id','seq')",
        Change::Live,
        Served::None,
        "What makes two rows the same.",
    ),
    key(
        "read.require_monotonic_seq",
        Type::Flag,
        Allowed::Any,
        "true",
        Change::Live,
        Served::None,
        "Whether a seq that does not grow is an error.",
    ),
    key(
        "read.missing_seq.policy",
        Type::Text,
        Allowed::Words(&["error", "warn", "ignore"]),
        "'error'",
        Change::Live,
        Served::None,
        "What a gap is.",
    ),
    key("read.default_order", Type::List, Allowed::Columns, "('stream_id','seq')", Change::Live, Served::None, "Order of answers."),
    key("retention.enabled", Type::Flag, Allowed::Any, "true", Change::Live, Served::Only(&["false"]), "Whether old files go."),
    key(
        "retention.inmemory_seconds",
        Type::Int,
        Allowed::Range { min: 1, max: 86_400 },
        "60",
        Change::Live,
        Served::None,
        "The same as inmemory.ttl_seconds.",
    ),
    key(
        "retention.wal_hours",
        Type::Int,
        Allowed::Range { min: 0, max: 8_760 },
        "24",
        Change::Live,
        Served::Only(&["0"]),
        "The same as wal.retention_hours.",
    ),
    key(
        "retention.durable_days",
        Type::Int,
        Allowed::Range { min: 0, max: 36_500 },
        "3650",
        Change::Live,
        Served::Only(&["0"]),
        "How old rows of the archive become; 0 is for ever.",
    ),
    key(
        "retention.delete_mode",
        Type::Text,
        Allowed::Words(&["tombstone", "purge"]),
        "'tombstone'",
        Change::Live,
        Served::None,
        "How old files go.",
    ),
    key(
        "security.encrypt.at_rest",
        Type::Flag,
        Allowed::Any,
        "false",
        Change::Restart,
        Served::Only(&["false"]),
        "Whether files are encrypted.",
    ),
    key(
        "security.encrypt.in_transit",
        Type::Flag,
        Allowed::Any,
        "false",
        Change::Restart,
        Served::Only(&["false"]),
        "Whether every connection is.",
    ),
    key(
        "security.kms.provider",
        Type::Text,
        Allowed::Words(&["file", "env", "exec", "aws_kms"]),
        "'file'",
        Change::Restart,
        Served::None,
        "Who has the master key.",
    ),
    key("security.kms.key_id", Type::Text, Allowed::Any, "", Change::Live, Served::None, "The master key."),
    key(
        "projection.mode",
        Type::Text,
        Allowed::Words(&["async", "sync"]),
        "'async'",
        Change::Restart,
        Served::None,
        "When notices of tables are made.",
    ),
    key("projection.notify_on_commit", Type::Flag, Allowed::Any, "true", Change::Live, Served::None, "Whether changes of tables are told."),
    key("projection.notify_on_inspect", Type::Flag, Allowed::Any, "false", Change::Live, Served::None, "Whether dry runs are told."),
    key(
        "strict.immutable_events",
        Type::Flag,
        Allowed::Any,
        "true",
        Change::Fixed,
        Served::Only(&["true"]),
        "Rows are never changed: there is no verb for it.",
    ),
    key(
        "strict.stream_type_enforced",
        Type::Flag,
        Allowed::Any,
        "true",
        Change::Live,
        Served::Only(&["true"]),
        "Only declared events are taken.",
    ),
    key(
        "strict.event_version_required",
        Type::Flag,
        Allowed::Any,
        "false",
        Change::Live,
        Served::Only(&["false"]),
        "Whether a row must name its version.",
    ),
    key(
        "strict.tenant_required",
        Type::Flag,
        Allowed::Any,
        "false",
        Change::Live,
        Served::Only(&["false"]),
        "Whether a row must name its tenant.",
    ),
];

/// Keys that mean the same.
pub(super) const ALIASES: &[(&str, &str)] =
    &[("wal.retention_hours", "retention.wal_hours"), ("inmemory.ttl_seconds", "retention.inmemory_seconds")];

/// Schemes of stores that this build cannot reach.
const REMOTE: &[&str] = &["s3://", "gs://", "az://"];

/// A refusal of a value: its code, and what is wanted.
pub(super) type Refusal = (Code, String);

impl Key {
    /// The key of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The value in the key's own type, when it is valid.
    pub(super) fn check(&self, value: &Literal) -> Result<Literal, Refusal> {
        let value = match (self.kind, value) {
            (Type::List, Literal::Text(_)) => Literal::List(vec![value.clone()]),
            #[expect(clippy::cast_precision_loss, reason = "a share is far below 2^53")]
            (Type::Float, Literal::Int(number)) => Literal::Float(*number as f64),
            _ => value.clone(),
        };
        let fits = match (self.kind, &value) {
            (Type::Text, Literal::Text(_)) | (Type::Flag, Literal::Flag(_)) => true,
            (Type::Int, Literal::Int(_)) | (Type::Float, Literal::Float(_)) => true,
            (Type::List, Literal::List(items)) => items.iter().all(|item| matches!(item, Literal::Text(_))),
            _ => false,
        };
        if !fits {
            return Err((Code::EventstoreType, format!("{} is wanted, found {}", a(self.kind.name()), value.kind())));
        }
        match self.out_of_range(&value) {
            Some(wanted) => Err((Code::EventstoreRange, wanted)),
            None => Ok(value),
        }
    }

    /// What is wanted instead, when a value of the right type is not valid.
    fn out_of_range(&self, value: &Literal) -> Option<String> {
        let one_of = |words: &[&str]| format!("one of {} is wanted", words.join(", "));
        match (self.allowed, value) {
            (Allowed::Ident, Literal::Text(text)) => {
                let plain = text.starts_with(|letter: char| letter.is_ascii_alphabetic())
                    && text.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
                (!plain).then(|| "a letter, then letters, digits and underscores are wanted".to_owned())
            }
            (Allowed::Words(words), Literal::Text(text)) => (!words.contains(&text.as_str())).then(|| one_of(words)),
            (Allowed::Range { min, max }, Literal::Int(number)) => {
                (!(min..=max).contains(number)).then(|| format!("{min} to {max} is wanted"))
            }
            (Allowed::Fraction, Literal::Float(number)) => {
                (!(*number > 0.0 && *number < 1.0)).then(|| "more than 0 and less than 1 is wanted".to_owned())
            }
            (Allowed::Columns, Literal::List(items)) => {
                let columns: Vec<&str> = Envelope::NAMES.into_iter().chain(["lsn"]).collect();
                strangers(items, &columns).map(|name| format!("`{name}` is no column of the envelope; {}", one_of(&columns)))
            }
            (Allowed::Partitions, Literal::List(items)) => {
                let columns = [PartitionColumn::Dt, PartitionColumn::StreamType, PartitionColumn::TenantId].map(PartitionColumn::name);
                strangers(items, &columns).map(|name| format!("`{name}` makes no folder; {}", one_of(&columns)))
            }
            (Allowed::Triggers, Literal::List(items)) => {
                let words = ["size_mb", "time"];
                strangers(items, &words).map(|name| format!("`{name}` starts nothing; {}", one_of(&words)))
            }
            (Allowed::Members(words), Literal::List(items)) => {
                strangers(items, words).map(|name| format!("`{name}` is not known here; {}", one_of(words)))
            }
            (Allowed::Place, Literal::Text(text)) => place_problem(self.name, text),
            (Allowed::Pattern, Literal::Text(text)) => pattern_problem(text),
            (Allowed::SegmentPattern, Literal::Text(text)) => {
                (!text.contains("{segment}")).then(|| "a pattern with {segment} is wanted".to_owned())
            }
            (Allowed::Cron, Literal::Text(text)) => Schedule::parse(text).err(),
            _ => None,
        }
    }

    /// What of a valid value this build does not do; none when it does all of it.
    pub(super) fn lacks(&self, value: &Literal) -> Option<String> {
        match (self.served, value) {
            (Served::All, _) => None,
            (Served::None, _) => Some("nothing acts on it yet".to_owned()),
            (Served::Only(values), value) => {
                let text = value.statement();
                (!values.contains(&text.as_str())).then(|| format!("{text} is not served yet; what is: {}", values.join(", ")))
            }
            (Served::Without(member), Literal::List(items)) => {
                let there = items.iter().any(|item| matches!(item, Literal::Text(text) if text == member));
                there.then(|| format!("'{member}' is not served yet"))
            }
            (Served::Local, Literal::Text(text)) => {
                REMOTE.iter().find(|scheme| text.starts_with(**scheme)).map(|scheme| format!("{scheme} is not served yet; a path is"))
            }
            (Served::Without(_) | Served::Local, _) => unreachable!("the type was looked at"),
        }
    }

    /// The default in the key's own type.
    pub(super) fn default_value(&self) -> Option<Literal> {
        if self.default.is_empty() {
            return None;
        }
        let statement = format!("CREATE EVENTSTORE x WITH (a = {})", self.default);
        let Ok(mut parsed) = super::statement::parse(&statement) else { unreachable!("defaults are values: {}", self.default) };
        let Some(pair) = parsed.pairs.pop() else { unreachable!("it has a pair") };
        let Ok(value) = self.check(&pair.value) else { unreachable!("defaults are valid: {}", self.name) };
        Some(value)
    }
}

fn a(name: &str) -> String {
    format!("a {name}")
}

/// The first member that is none of `known`.
fn strangers<'i>(items: &'i [Literal], known: &[&str]) -> Option<&'i str> {
    items.iter().find_map(|item| match item {
        Literal::Text(text) if !known.contains(&text.as_str()) => Some(text.as_str()),
        _ => None,
    })
}

fn place_problem(key: &str, text: &str) -> Option<String> {
    let path = text.strip_prefix("file://").unwrap_or(text);
    let remote = REMOTE.iter().any(|scheme| text.starts_with(scheme));
    if key == "wal.path" && remote {
        return Some("the log stands on this machine: a path or file:// is wanted".to_owned());
    }
    if remote {
        return None;
    }
    if path.contains("://") {
        return Some(format!("a path, file://, {} is wanted", REMOTE.join(" or ")));
    }
    (path.is_empty()).then(|| "a path is wanted".to_owned())
}

fn pattern_problem(text: &str) -> Option<String> {
    if !text.contains("{file_seq}") {
        return Some("a pattern with {file_seq} is wanted".to_owned());
    }
    if text.starts_with('/') || text.split('/').any(|part| part == ".." || part.is_empty() || part.starts_with('.')) {
        return Some("a pattern of folders below the root is wanted".to_owned());
    }
    if !text.ends_with(".parquet") {
        return Some("a pattern that ends in .parquet is wanted".to_owned());
    }
    None
}
