//! What the command line accepts, checked as far as text alone can be checked.
//!
//! Help shows two examples first and fits into 80 columns. The bare binary with flags means `run`, because an unchanged 0.0.6 client starts it as
//! `BIN --config /dev/null`; called under the name `beava` it answers `--version` as that client expects, and without any argument it runs.

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, PossibleValue, PossibleValuesParser};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use streamgauge_api::decision::Decision;

/// The name under which a 0.0.6 client looks for its server.
const BEAVA: &str = "beava";

const WATCH_MIN: Duration = Duration::from_millis(100);
const WATCH_MAX: Duration = Duration::from_secs(3600);

/// The whole command line: a verb, or the flags of `run` alone.
#[derive(Debug, Parser)]
#[command(
    name = "streamgauge",
    version,
    about = "Live features beside the stream: Kafka in, keyed tables out.",
    before_help = "Examples:\n  streamgauge demo\n  streamgauge run -c streamgauge.toml",
    after_help = "The bare binary with the flags of `run` means `run`.\n\
                  Exit codes: 0 ok, 1 a finding, 2 usage, 65 damaged data, 69 unreachable,\n\
                  70 a frame ends every start, 73 cannot create, 74 I/O, 75 try again, 77 permission, 78 config,\n\
                  134 a bug: see panic.json in the data folder.",
    override_usage = "streamgauge <COMMAND>\n       streamgauge --config <FILE> [FLAGS OF run]",
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    term_width = 80
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

/// A verb with its arguments.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Command {
    /// Run the server
    #[command(
        before_help = "Examples:\n  streamgauge run -c streamgauge.toml\n  streamgauge run --http-addr 127.0.0.1:0 --data-dir /tmp/gauge"
    )]
    Run(RunArgs),
    /// Check a config: all problems at once, with the price of each key
    #[command(before_help = "Examples:\n  streamgauge check -c streamgauge.toml\n  streamgauge check --offline --json")]
    Check(CheckArgs),
    /// Read features by key from a running server
    #[command(before_help = "Examples:\n  streamgauge get card_stats 4711\n  cut -f1 cards.tsv | streamgauge get card_stats - --json")]
    Get(GetArgs),
    /// Print rows of events as they become durable
    #[command(
        before_help = "Examples:\n  streamgauge tap payments --where 'amount > 100' --fields card,amount\n  streamgauge tap payments,logins --from @2026-11-20T03:41:00Z -n 10",
        after_help = "One JSON line per row, with the LSN that it has in the log, in whole\ntransactions. It goes on over restarts of the server, without a gap and without\na repeat."
    )]
    Tap(TapArgs),
    /// Show the newest records of a topic beside what becomes of them
    #[command(
        before_help = "Examples:\n  streamgauge sample payments\n  streamgauge sample payments --brokers 127.0.0.1:9092 --registry http://127.0.0.1:8081",
        after_help = "With a config the topic's source says how records are read. No server is\nneeded, nothing is kept and nothing committed. Exit code 1 when one is bad."
    )]
    Sample(SampleArgs),
    /// Show how far each partition is behind
    #[command(before_help = "Examples:\n  streamgauge lag\n  streamgauge lag --json")]
    Lag(LagArgs),
    /// Show what a running server does
    #[command(before_help = "Examples:\n  streamgauge status\n  streamgauge status --ready")]
    Status(StatusArgs),
    /// Explain an error code, or list all
    #[command(before_help = "Examples:\n  streamgauge errors key_not_found\n  streamgauge errors --json")]
    Errors(ErrorsArgs),
    /// Show live features without Kafka, Docker or a config
    #[command(before_help = "Examples:\n  streamgauge demo\n  streamgauge demo --exit-after-first-read")]
    Demo(DemoArgs),
    /// Look at the records that could not become a row
    #[command(
        subcommand,
        before_help = "Examples:\n  streamgauge rejects list\n  streamgauge rejects list --limit 5 --json",
        disable_help_subcommand = true
    )]
    Rejects(RejectsCommand),
    /// Show open incidents, and decide how a stopped partition goes on
    #[command(
        before_help = "Examples:\n  streamgauge incident\n  streamgauge incident clicks/0 accept-gap --dry-run",
        after_help = "ID is SOURCE (all of its stopped partitions), SOURCE/PARTITION or\nSOURCE/TOPIC/PARTITION.\nAsk with --dry-run first: it says what is lost and what is counted again."
    )]
    Incident(IncidentArgs),
    /// Decide about a wall clock that jumped
    #[command(subcommand, before_help = "Examples:\n  streamgauge status\n  streamgauge clock accept", disable_help_subcommand = true)]
    Clock(ClockCommand),
    /// Look at tables that are being filled from history, and hold one or give it up
    #[command(
        subcommand,
        before_help = "Examples:\n  streamgauge backfill status --watch\n  streamgauge backfill cancel 7",
        disable_help_subcommand = true
    )]
    Backfill(BackfillCommand),
    /// Look at the log, and decide about that of a stopped server
    #[command(
        subcommand,
        before_help = "Examples:\n  streamgauge wal tail --from 918220\n  streamgauge wal skip 918220 --data-dir /var/lib/gauge",
        disable_help_subcommand = true
    )]
    Wal(WalCommand),
    /// Look at the event store of a running server, and archive now
    #[command(
        subcommand,
        before_help = "Examples:\n  streamgauge eventstore status\n  streamgauge eventstore now",
        disable_help_subcommand = true
    )]
    Eventstore(EventstoreCommand),
}

impl Command {
    /// Whether data is to be written as JSON.
    pub fn json(&self) -> bool {
        match self {
            Self::Run(args) => args.json,
            Self::Check(args) => args.json,
            Self::Get(args) => args.json,
            Self::Tap(args) => args.json,
            Self::Lag(args) => args.json,
            Self::Status(args) => args.json,
            Self::Errors(args) => args.json,
            Self::Demo(args) => args.json,
            Self::Sample(args) => args.json,
            Self::Rejects(RejectsCommand::List(args)) => args.json,
            Self::Rejects(RejectsCommand::Retry(args)) => args.json,
            Self::Incident(args) => args.json,
            Self::Clock(ClockCommand::Accept(args)) => args.json,
            Self::Backfill(BackfillCommand::Status(args)) => args.json,
            Self::Backfill(BackfillCommand::Pause(args) | BackfillCommand::Resume(args) | BackfillCommand::Cancel(args)) => args.json,
            Self::Wal(WalCommand::Tail(args)) => args.json,
            Self::Wal(WalCommand::Skip(args)) => args.json,
            Self::Eventstore(EventstoreCommand::Verify(args)) => args.json,
            Self::Eventstore(EventstoreCommand::Status(args) | EventstoreCommand::Now(args)) => args.json,
        }
    }
}

/// Arguments of `incident`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct IncidentArgs {
    /// Which partitions; all open incidents when absent
    #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub id: Option<String>,
    /// What is decided
    #[arg(value_parser = decisions(), value_name = "DECISION", requires = "id")]
    pub decision: Option<String>,
    /// Where `begin` begins: earliest, latest, or a time such as 2026-11-20T03:41:00Z
    #[arg(long, value_name = "PLACE", requires = "decision", required_if_eq("decision", "begin"))]
    pub at: Option<String>,
    /// Show the effect and change nothing
    #[arg(long, requires = "decision")]
    pub dry_run: bool,
    /// Where the server is
    #[command(flatten)]
    pub server: AdminArgs,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

/// What may be decided about a stopped partition.
fn decisions() -> PossibleValuesParser {
    PossibleValuesParser::new(Decision::NAMES.map(|(name, effect)| PossibleValue::new(name).help(effect)))
}

/// Verbs on the clock.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum ClockCommand {
    /// Say that the wall clock is right: the time of frames is set to it
    #[command(before_help = "Examples:\n  streamgauge clock accept\n  streamgauge clock accept --admin http://127.0.0.1:8090 --json")]
    Accept(ClockAcceptArgs),
}

/// Arguments of `clock accept`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct ClockAcceptArgs {
    /// Where the server is
    #[command(flatten)]
    pub server: AdminArgs,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

/// Verbs on the event store.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum EventstoreCommand {
    /// Show how far the archive is, and what each declared key comes to
    #[command(before_help = "Examples:\n  streamgauge eventstore status\n  streamgauge eventstore status --json")]
    Status(EventstoreArgs),
    /// Read all files of an archive, and say what is not as it was written
    #[command(
        before_help = "Examples:\n  streamgauge eventstore verify /var/lib/streamgauge/archive\n  streamgauge eventstore verify archive --manifests manifests --json",
        after_help = "It needs no server and changes nothing. Exit code 1 when something is wrong."
    )]
    Verify(EventstoreVerifyArgs),
    /// Archive everything that is durable, and wait for it
    #[command(before_help = "Examples:\n  streamgauge eventstore now\n  streamgauge eventstore now --json")]
    Now(EventstoreArgs),
}

/// Arguments of `eventstore verify`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct EventstoreVerifyArgs {
    /// Root of the archive: durable.path
    #[arg(value_name = "PATH")]
    pub root: PathBuf,
    /// Folder of the manifests; _manifests below the root when absent
    #[arg(long, value_name = "PATH")]
    pub manifests: Option<PathBuf>,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

/// Arguments of the verbs on the event store.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct EventstoreArgs {
    /// Where the server is
    #[command(flatten)]
    pub server: AdminArgs,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

/// Verbs on tables that are being filled.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum BackfillCommand {
    /// Show how far each is; exit code 1 while one is
    #[command(before_help = "Examples:\n  streamgauge backfill status\n  streamgauge backfill status 7 --watch")]
    Status(BackfillStatusArgs),
    /// Hold one
    #[command(before_help = "Examples:\n  streamgauge backfill pause 7\n  streamgauge backfill pause 7 --json")]
    Pause(BackfillIdArgs),
    /// Let it go on
    #[command(before_help = "Examples:\n  streamgauge backfill resume 7\n  streamgauge backfill resume 7 --json")]
    Resume(BackfillIdArgs),
    /// Give its history up: the table begins empty now
    #[command(before_help = "Examples:\n  streamgauge backfill cancel 7\n  streamgauge backfill cancel 7 --json")]
    Cancel(BackfillIdArgs),
}

/// Arguments of `backfill status`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct BackfillStatusArgs {
    /// Which one; all when absent
    pub id: Option<u64>,
    /// Show it again each second until it is done
    #[arg(long)]
    pub watch: bool,
    /// Where the server is
    #[command(flatten)]
    pub server: AdminArgs,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

/// Arguments of the other verbs.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct BackfillIdArgs {
    /// Its number
    pub id: u64,
    /// Where the server is
    #[command(flatten)]
    pub server: AdminArgs,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

/// Verbs on the log.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum WalCommand {
    /// List frames of a running server's log, from any LSN on
    #[command(
        before_help = "Examples:\n  streamgauge wal tail\n  streamgauge wal tail --from 918220 --follow --json",
        after_help = "What is not synced yet is not shown. With --follow it goes on over restarts of\nthe server, without a gap."
    )]
    Tail(WalTailArgs),
    /// Leave the rows of one frame out of every table, for good
    #[command(
        before_help = "Examples:\n  streamgauge wal skip 918220 --data-dir /var/lib/gauge --dry-run\n  streamgauge wal skip 918220 -c streamgauge.toml --json",
        after_help = "For a stopped server whose start dies in that frame and says so (exit code 70).\nPositions pass the rows, tables lack them; the decision is in the log.\nAsk with --dry-run first: it says which rows, tables and offsets."
    )]
    Skip(WalSkipArgs),
}

/// Arguments of `wal tail`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct WalTailArgs {
    /// First LSN; the last 100 when absent
    #[arg(long, value_name = "LSN", value_parser = clap::value_parser!(u64).range(1..))]
    pub from: Option<u64>,
    /// Go on with what comes, until interrupted
    #[arg(short, long)]
    pub follow: bool,
    /// Where the server is
    #[command(flatten)]
    pub server: AdminArgs,
    /// One JSON object per frame
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `wal skip`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct WalSkipArgs {
    /// An LSN of the frame
    #[arg(value_name = "LSN", value_parser = clap::value_parser!(u64).range(1..))]
    pub lsn: u64,
    /// Folder of WAL and snapshots
    #[arg(long, value_name = "PATH", required_unless_present = "config")]
    pub data_dir: Option<PathBuf>,
    /// Config file that names it
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Say what would be left out and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

/// Verbs on rejected records.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum RejectsCommand {
    /// List rejected records, oldest first
    #[command(before_help = "Examples:\n  streamgauge rejects list\n  streamgauge rejects list --limit 5 --json")]
    List(RejectsListArgs),
    /// Decode them again, after schema or config was mended, and apply those that are rows now
    #[command(
        before_help = "Examples:\n  streamgauge rejects retry --where code=decode_type_mismatch --dry-run\n  streamgauge rejects retry --where source=payments",
        after_help = "Each is applied once, whatever ends the server when; what is still bad stays in\nthe list. Deletes, values that were kept in part, and rejects of sources that\nread headers stay too."
    )]
    Retry(RejectsRetryArgs),
}

/// Arguments of `rejects retry`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct RejectsRetryArgs {
    /// Which: code=.., source=.., event=.. or lsn=..; all of several have to fit, all rejects when absent
    #[arg(long = "where", value_name = "NAME=VALUE", value_parser = condition)]
    pub conditions: Vec<(String, String)>,
    /// Only say what would come of it
    #[arg(long)]
    pub dry_run: bool,
    /// Where the server is.
    #[command(flatten)]
    pub server: AdminArgs,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

fn condition(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name @ ("code" | "source" | "event" | "lsn"), value)) if !value.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("code=.., source=.., event=.. or lsn=.. is wanted".to_owned()),
    }
}

/// Arguments of `run`. Absent ones are decided by environment, config file and defaults, in this order.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
pub struct RunArgs {
    /// Config file; /dev/null is a valid, empty one
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of the HTTP data plane; port 0 means any
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub http_addr: Option<SocketAddr>,
    /// Address of the framed TCP data plane; port 0 means any
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub tcp_addr: Option<SocketAddr>,
    /// Address of the admin port; port 0 means any
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub admin_addr: Option<SocketAddr>,
    /// Folder of WAL and snapshots
    #[arg(long, value_name = "PATH")]
    pub data_dir: Option<PathBuf>,
    /// File with a CREATE EVENTSTORE: rows are archived as it says
    #[arg(long, value_name = "FILE")]
    pub eventstore: Option<PathBuf>,
    /// Keep everything in memory: nothing survives the process
    #[arg(long)]
    pub memory_only: bool,
    /// Allow reset
    #[arg(long)]
    pub test_mode: bool,
    /// Listen beyond loopback without authentication
    #[arg(long)]
    pub insecure_no_auth: bool,
    /// Give up the state of what the config changed, or what a client registered on it: TABLE, TABLE.FEATURE, EVENT or EVENT.FIELD; may be repeated
    #[arg(long, value_name = "NAME[.NAME]")]
    pub rebuild: Vec<Rebuild>,
    /// Format of the log on stderr: text on a terminal and json elsewhere when absent
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Log and errors as JSON; stdout carries the two bind lines either way
    #[arg(long)]
    pub json: bool,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object per line.
    Json,
}

/// State that a config change may drop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuild {
    /// The table.
    pub table: String,
    /// One feature of it; `None` means all.
    pub feature: Option<String>,
}

impl FromStr for Rebuild {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (table, feature) = text.split_once('.').map_or((text, None), |(table, feature)| (table, Some(feature)));
        if table.is_empty() || feature.is_some_and(|feature| feature.is_empty() || feature.contains('.')) {
            return Err("expected TABLE or TABLE.FEATURE".into());
        }
        Ok(Self { table: table.to_owned(), feature: feature.map(str::to_owned) })
    }
}

/// Arguments of `check`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct CheckArgs {
    /// Config file
    #[arg(short, long, value_name = "FILE", default_value = "streamgauge.toml")]
    pub config: PathBuf,
    /// Folder of WAL and snapshots: what the file changes in the state that is there
    #[arg(long, value_name = "PATH")]
    pub data_dir: Option<PathBuf>,
    /// As for run: state that may be given up; may be repeated
    #[arg(long, value_name = "NAME[.NAME]")]
    pub rebuild: Vec<Rebuild>,
    /// File with a CREATE EVENTSTORE
    #[arg(long, value_name = "FILE")]
    pub eventstore: Option<PathBuf>,
    /// Also whether this build does all that the event store asks for
    #[arg(long)]
    pub runnable: bool,
    /// No broker, no registry, no secrets
    #[arg(long)]
    pub offline: bool,
    /// Decode so many of the newest records of each source too
    #[arg(long, value_name = "N", conflicts_with = "offline", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub sample: Option<u32>,
    /// Treat warnings as problems
    #[arg(long)]
    pub deny_warnings: bool,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

/// Where the data plane is.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct HttpArgs {
    /// Data plane of the server
    #[arg(long, value_name = "URL", env = "STREAMGAUGE_HTTP", default_value = "http://127.0.0.1:8080", value_parser = NonEmptyStringValueParser::new())]
    pub http: String,
}

/// Where the admin port is.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct AdminArgs {
    /// Admin port of the server
    #[arg(long, value_name = "URL", env = "STREAMGAUGE_ADMIN", default_value = "http://127.0.0.1:8090", value_parser = NonEmptyStringValueParser::new())]
    pub admin: String,
}

/// Arguments of `tap`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct TapArgs {
    /// Events, separated by commas
    #[arg(value_name = "EVENTS", value_parser = NonEmptyStringValueParser::new())]
    pub events: String,
    /// Where to begin: live, earliest, an LSN, or @ and a time in RFC 3339
    #[arg(long, value_name = "PLACE", default_value = "live", value_parser = NonEmptyStringValueParser::new())]
    pub from: String,
    /// Only rows for which this expression over their fields is true
    #[arg(long = "where", value_name = "EXPRESSION", value_parser = NonEmptyStringValueParser::new())]
    pub filter: Option<String>,
    /// Only these fields
    #[arg(long, value_name = "NAMES", value_parser = NonEmptyStringValueParser::new())]
    pub fields: Option<String>,
    /// End after so many rows
    #[arg(short = 'n', long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Where the server is
    #[command(flatten)]
    pub server: AdminArgs,
    /// Errors as JSON too; rows always are
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `get`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct GetArgs {
    /// Table
    #[arg(value_name = "TABLE", value_parser = NonEmptyStringValueParser::new())]
    pub table: String,
    /// Keys; `-` reads one per line from stdin, a JSON array is a composite
    /// key, none is the row of a table without a key
    #[arg(value_name = "KEY", allow_negative_numbers = true)]
    pub keys: Vec<String>,
    /// Only these features, in this order
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub features: Vec<String>,
    /// Refuse values older than this, e.g. 2s
    #[arg(long, value_name = "DURATION")]
    pub max_staleness: Option<String>,
    /// Read again at this interval, 100ms to 1h, until interrupted
    #[arg(long, value_name = "DURATION", value_parser = watch_interval)]
    pub watch: Option<Duration>,
    /// Where the server is.
    #[command(flatten)]
    pub server: HttpArgs,
    /// One JSON object per key and line
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `lag`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct LagArgs {
    /// Where the server is.
    #[command(flatten)]
    pub server: AdminArgs,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `status`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct StatusArgs {
    /// Only whether it is ready: exit code 0, else 75 or 69
    #[arg(long)]
    pub ready: bool,
    /// Where the server is.
    #[command(flatten)]
    pub server: AdminArgs,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `sample`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct SampleArgs {
    /// A topic, or a source of the config
    #[arg(value_name = "TOPIC", value_parser = NonEmptyStringValueParser::new())]
    pub topic: String,
    /// Config file
    #[arg(short, long, value_name = "FILE", default_value = "streamgauge.toml")]
    pub config: PathBuf,
    /// Without a config: bootstrap addresses, with commas between them
    #[arg(long, value_name = "ADDR", conflicts_with = "config")]
    pub brokers: Option<String>,
    /// Without a config: the registry that has the schemas of Avro records
    #[arg(long, value_name = "URL", requires = "brokers")]
    pub registry: Option<String>,
    /// How many, 1 to 10000
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// One JSON object per record
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `errors`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct ErrorsArgs {
    /// The code to explain; all codes when absent
    #[arg(value_name = "CODE")]
    pub code: Option<String>,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `demo`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct DemoArgs {
    /// End after the first value was read
    #[arg(long)]
    pub exit_after_first_read: bool,
    /// One JSON document per value instead of words
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `rejects list`.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct RejectsListArgs {
    /// How many, 1 to 10000
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Only those after this LSN, or after the `next` of the list before
    #[arg(long, value_name = "LSN")]
    pub after: Option<String>,
    /// Where the server is.
    #[command(flatten)]
    pub server: AdminArgs,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

/// Parses the arguments, `argv[0]` first.
///
/// # Errors
/// clap's: help and version too, which belong on stdout and end with 0.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let beava = arguments.first().and_then(|program| Path::new(program).file_name()).is_some_and(|name| name == BEAVA);
    let matches = definition(beava).try_get_matches_from(arguments)?;
    let parsed = Arguments::from_arg_matches(&matches)?;
    Ok(parsed.command.unwrap_or(Command::Run(parsed.run)))
}

fn definition(beava: bool) -> clap::Command {
    // Whoever asks the bare binary for help may be about to start it as a 0.0.6 client does.
    let command = Arguments::command().mut_args(|argument| match argument.get_id().as_str() {
        "help" | "version" => argument,
        _ => argument.help_heading("Flags of run"),
    });
    let command = command.arg_required_else_help(!beava);
    if beava {
        let usage = "beava [FLAGS OF run]\n       beava <COMMAND>";
        command.name(BEAVA).version(concat!("0.0.6 (streamgauge ", env!("CARGO_PKG_VERSION"), ")")).override_usage(usage)
    } else {
        command
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let found = text.to_socket_addrs().map_err(|error| format!("expected HOST:PORT: {error}"))?.next();
    found.ok_or_else(|| "the host has no address".into())
}

fn watch_interval(text: &str) -> Result<Duration, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("expected a number with ms, s, m or h".into()),
    };
    let interval = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms)).map(Duration::from_millis);
    interval.filter(|interval| (WATCH_MIN..=WATCH_MAX).contains(interval)).ok_or_else(|| "expected 100ms to 1h".into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use clap::error::ErrorKind;

    fn parse_line(line: &str) -> Result<Command, clap::Error> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn clap_finds_no_contradiction() {
        definition(false).debug_assert();
        definition(true).debug_assert();
    }

    #[test]
    fn flags_without_a_verb_mean_run() {
        let run = RunArgs { config: Some("/dev/null".into()), ..RunArgs::default() };
        for line in
            ["streamgauge --config /dev/null", "streamgauge -c /dev/null", "streamgauge run -c /dev/null", "/x/beava --config /dev/null"]
        {
            assert_eq!(parse_line(line).unwrap(), Command::Run(run.clone()), "{line}");
        }
        assert_eq!(parse_line("/usr/bin/beava").unwrap(), Command::Run(RunArgs::default()));
        assert_eq!(parse_line("streamgauge").unwrap_err().kind(), ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand);
    }

    #[test]
    fn every_flag_of_run_is_understood() {
        let line = "streamgauge --http-addr 127.0.0.1:0 --tcp-addr localhost:8081 --admin-addr [::1]:0 --data-dir /d --memory-only --test-mode \
                    --insecure-no-auth --rebuild card_stats --rebuild card_stats.p95 --log-format json";
        let Command::Run(run) = parse_line(line).unwrap() else { panic!("not run") };
        assert_eq!(run.http_addr.unwrap().to_string(), "127.0.0.1:0");
        assert_eq!(run.tcp_addr.unwrap().port(), 8081);
        assert_eq!(run.admin_addr.unwrap().to_string(), "[::1]:0");
        assert_eq!(run.data_dir, Some("/d".into()));
        assert!(run.memory_only && run.test_mode && run.insecure_no_auth && !run.json);
        let rebuild = |table: &str, feature: Option<&str>| Rebuild { table: table.into(), feature: feature.map(Into::into) };
        assert_eq!(run.rebuild, [rebuild("card_stats", None), rebuild("card_stats", Some("p95"))]);
        assert_eq!(run.log_format, Some(LogFormat::Json));
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        for line in [
            "streamgauge --http-addr here",
            "streamgauge --http-addr 127.0.0.1:99999",
            "streamgauge --rebuild .x",
            "streamgauge --rebuild a.b.c",
            "streamgauge --config x get t k",
            "streamgauge get",
            "streamgauge get t k --watch 1",
            "streamgauge get t k --watch 10ms",
            "streamgauge get t k --watch 99999999999999999999h",
            "streamgauge rejects",
            "streamgauge rejects list --limit 0",
            "streamgauge nothing",
        ] {
            let error = parse_line(line).unwrap_err();
            assert!(error.use_stderr() && error.exit_code() == 2, "{line}: {error}");
        }
    }

    #[test]
    fn a_typo_is_answered_with_the_nearest_name() {
        for (line, hint) in [
            ("streamgauge statsu", "'status'"),
            ("streamgauge gett", "'get'"),
            ("streamgauge run --htp-addr 1", "'--http-addr'"),
            ("streamgauge lag --jsno", "'--json'"),
            ("streamgauge run --log-format jsn", "'json'"),
        ] {
            let text = parse_line(line).unwrap_err().to_string();
            assert!(text.contains(hint), "{line}: {text}");
        }
    }

    #[test]
    fn versions_name_the_program_that_was_called() {
        let ours = env!("CARGO_PKG_VERSION");
        for (line, version) in [
            ("streamgauge --version", format!("streamgauge {ours}\n")),
            ("/opt/bin/beava --version", format!("beava 0.0.6 (streamgauge {ours})\n")),
        ] {
            let error = parse_line(line).unwrap_err();
            assert_eq!((error.to_string(), error.use_stderr()), (version, false));
        }
    }

    #[test]
    fn help_starts_with_two_examples_and_fits_into_eighty_columns() {
        let mut root = definition(false);
        root.build();
        let mut pending = vec![root];
        while let Some(mut command) = pending.pop() {
            for help in [command.render_help().to_string(), command.render_long_help().to_string()] {
                let lines: Vec<&str> = help.lines().collect();
                assert_eq!(lines.first(), Some(&"Examples:"), "{help}");
                assert!(lines.iter().take(3).skip(1).all(|line| line.contains("streamgauge ")), "{help}");
                assert!(lines.iter().all(|line| line.chars().count() <= 80), "{help}");
                assert!(!help.contains('\u{1b}'));
                assert!(help.contains("--json") || command.has_subcommands(), "{help}");
            }
            pending.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn negative_and_dashed_keys_are_keys() {
        let Command::Get(get) = parse_line("streamgauge get t -5 - -- --json").unwrap() else { panic!("not get") };
        assert_eq!(get.keys, ["-5", "-", "--json"]);
    }
}
