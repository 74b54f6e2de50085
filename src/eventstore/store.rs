//! What a declaration comes to: plain values for who archives.

use super::schedule::Schedule;
use std::path::PathBuf;
use streamgauge_parquet::Codec;

/// Where `dt` of a row comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtOf {
    /// The row's own time.
    Occurred,
    /// When it arrived.
    Ingested,
}

/// How wide a `dt` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A month.
    Month,
}

/// A column that makes folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionColumn {
    /// The date.
    Dt,
    /// The event.
    StreamType,
    /// The tenant.
    TenantId,
}

impl PartitionColumn {
    /// Its name in declarations and paths.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dt => "dt",
            Self::StreamType => "stream_type",
            Self::TenantId => "tenant_id",
        }
    }

    /// The column of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Dt, Self::StreamType, Self::TenantId].into_iter().find(|column| column.name() == name)
    }
}

/// Names of the envelope's columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// In the order of [`Envelope::NAMES`].
    pub names: [String; 14],
}

impl Envelope {
    /// As they are called in declarations, and in files where nobody says otherwise.
    pub const NAMES: [&'static str; 14] = [
        "event_id",
        "stream_type",
        "stream_id",
        "seq",
        "event_type",
        "event_version",
        "occurred_at",
        "ingested_at",
        "data",
        "metadata",
        "command_id",
        "correlation_id",
        "causation_id",
        "tenant_id",
    ];
}

/// An event store, decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    /// Its name.
    pub name: String,
    /// The archive's root.
    pub path: PathBuf,
    /// Where manifests stand.
    pub manifests: PathBuf,
    /// Names of columns.
    pub envelope: Envelope,
    /// File names below the root.
    pub file_pattern: String,
    /// Columns that make folders, outermost first.
    pub partition_by: Vec<PartitionColumn>,
    /// Where `dt` comes from.
    pub dt_of: DtOf,
    /// How wide it is.
    pub granularity: Granularity,
    /// Compression of pages.
    pub codec: Codec,
    /// Whether text is packed by dictionaries.
    pub dictionary: bool,
    /// Bytes, encoded, after which a row group is closed.
    pub group_bytes: usize,
    /// Rows after which one is closed.
    pub group_rows: usize,
    /// Order of rows inside of a file; `lsn` follows as the last.
    pub sort_by: Vec<String>,
    /// Whether it descends.
    pub descending: bool,
    /// Columns with statistics; none for no statistics at all.
    pub statistics: Vec<String>,
    /// Columns with bloom filters.
    pub bloom: Vec<String>,
    /// Their share of false positives.
    pub bloom_fpp: f64,
    /// Sealed bytes of the log that start a run.
    pub run_at_bytes: Option<u64>,
    /// When a run is due.
    pub schedule: Option<Schedule>,
    /// Whether there are runs at all.
    pub archives: bool,
    /// Bytes of rows that a run takes at a time.
    pub memory_bytes: u64,
    /// Size of a segment of the log, where it is declared here.
    pub segment_bytes: Option<u64>,
    /// Whether pushes are acknowledged once they are synced.
    pub synced: bool,
    /// The declaration, as a statement.
    pub statement: String,
}

impl Store {
    /// A store of nothing but defaults, for tests and as the base of declarations.
    pub fn at(path: PathBuf) -> Self {
        Self {
            name: "store".into(),
            manifests: path.join("_manifests"),
            path,
            envelope: Envelope { names: Envelope::NAMES.map(str::to_owned) },
            file_pattern: "dt={dt}/stream_type={stream_type}/part-{writer}-{file_seq}.parquet".into(),
            partition_by: vec![PartitionColumn::Dt, PartitionColumn::StreamType],
            dt_of: DtOf::Occurred,
            granularity: Granularity::Day,
            codec: Codec::Zstd(3),
            dictionary: true,
            group_bytes: 128 << 20,
            group_rows: 1_000_000,
            sort_by: vec!["stream_id".into(), "seq".into()],
            descending: false,
            statistics: ["stream_id", "seq", "event_type", "occurred_at"].map(str::to_owned).into(),
            bloom: ["stream_id", "event_id"].map(str::to_owned).into(),
            bloom_fpp: 0.01,
            run_at_bytes: Some(64 << 20),
            schedule: Schedule::parse("*/5 * * * *").ok(),
            archives: true,
            memory_bytes: 256 << 20,
            segment_bytes: None,
            synced: false,
            statement: String::new(),
        }
    }
}

/// Year, month and day of a number of days since 1970-01-01 (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
pub(crate) fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}
