//! The door for requests: the native data plane.
//!
//! A [`Port`] belongs to one I/O thread. The thread parses what its sockets hold, gives each request with a [`Tag`] of its own choosing, then calls
//! [`Port::turn`] once per readiness round; replies come back with their tags, in any order. Pushed rows are decoded inside [`Port::push`], on the I/O thread.

use crate::error::ApiError;
use crate::value::{Names, Value};
use std::sync::Arc;

/// Reads of more entries than this are served in slices, beside other requests; see [`Port::call`].
pub const SLICED_ABOVE: usize = 16;

/// Most values that one request asks a feature's set for.
pub const MEMBER_VALUES_MAX: usize = 1_024;

/// Largest reply in bytes, as its text. A connection may be bounded further.
pub const REPLY_BYTES_MAX: usize = 32 << 20;

/// The caller's name for a request, handed back with the reply: a connection in the upper 48 bits, the
/// request's number on it in the lower 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag(pub u64);

impl Tag {
    /// The connection that the request came over: requests of one take effect in the order in which
    /// they were given.
    pub fn connection(self) -> u64 {
        self.0 >> 16
    }
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// JSON text.
    Json,
    /// MessagePack.
    MsgPack,
}

/// When a push is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// At the configured level (`written` by default).
    Default,
    /// After the fsync that covers it.
    Synced,
}

/// A key as a client wrote it; the table's key columns decide what it means.
#[derive(Debug, Clone, PartialEq)]
pub enum KeyText {
    /// Null or absent.
    None,
    /// A string.
    Text(String),
    /// An integer.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// An array, one element per key column.
    Parts(Vec<KeyText>),
    /// Percent-decoded path segments, one per key column.
    Segments(Vec<String>),
}

/// What a read may ask for besides the row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReadOptions {
    /// Only these features, in this order; `None` = all, alphabetical.
    pub features: Option<Vec<String>>,
    /// The clock for windows instead of max(wall clock, last frame), ms since the epoch.
    pub as_of_ms: Option<i64>,
    /// `as_of=latest`: the clock is the table's newest row.
    pub as_of_latest: bool,
    /// Answer an `as_of` also where rows that it would have seen are gone or later ones are in.
    pub approximate: bool,
    /// Answer only when this LSN is applied.
    pub min_lsn: Option<u64>,
    /// How long to wait for `min_lsn`, ms (at most 30,000).
    pub wait_ms: u64,
    /// Refuse with `stale` when the table lags more than this, ms.
    pub max_staleness_ms: Option<i64>,
    /// Say per feature whether the value is exact.
    pub explain: bool,
    /// Answer only when every asked feature has all rows that it should have.
    pub complete: bool,
}

/// One keyed read.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// Table name.
    pub table: String,
    /// Key as written.
    pub key: KeyText,
    /// Options.
    pub options: ReadOptions,
}

/// Which of some values a feature has had: asked of features that keep a set.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberRead {
    /// Table name.
    pub table: String,
    /// Key as written.
    pub key: KeyText,
    /// Feature name.
    pub feature: String,
    /// Values as written; the field's type decides what they mean.
    pub values: Vec<Value>,
}

/// Everything but pushes.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// One row; an unknown key is a row that is not present.
    Get(Read),
    /// One feature by its name alone (`GET /get/{feature}/{key}`); a name that is no feature but a table gives the whole row.
    GetFeature {
        /// Feature or table name.
        name: String,
        /// Key as written.
        key: KeyText,
    },
    /// Many rows, answered in order.
    BatchGet(Vec<Read>),
    /// One feature of many keys (TCP mget), or some features of many keys across tables (get_multi).
    GetMany {
        /// Feature names.
        features: Vec<String>,
        /// Keys as written.
        keys: Vec<KeyText>,
    },
    /// Which of some values a feature has had.
    Member(MemberRead),
    /// Register JSON, verbatim.
    Register(String),
    /// Registry version and watermarks.
    Ping,
    /// Empties everything (test mode only).
    Reset,
}

impl Request {
    /// Whether it changes nothing.
    pub fn is_read(&self) -> bool {
        !matches!(self, Self::Register(_) | Self::Reset)
    }

    /// Whether the caller must wait for the reply before it gives another request of that connection:
    /// rows behind a declaration are decoded with it, and a read that is served in slices, or waits for an
    /// LSN, must not see what was asked for behind it. [`Port::is_fence`] knows which LSNs are applied.
    pub fn is_fence(&self) -> bool {
        match self {
            Self::Register(_) | Self::Reset => true,
            Self::BatchGet(reads) => reads.len() > SLICED_ABOVE,
            Self::GetMany { features, keys } => features.len().saturating_mul(keys.len()) > SLICED_ABOVE,
            Self::Get(read) => read.options.min_lsn.is_some() && read.options.wait_ms > 0,
            Self::GetFeature { .. } | Self::Member(_) | Self::Ping => false,
        }
    }
}

/// What a read found.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Whether the key exists. An absent key has no features.
    pub present: bool,
    /// Names of all features in alphabetical order; `selected` picks from it.
    pub names: Names,
    /// Indices into `names`, in the order asked for; `None` = all in order.
    pub selected: Option<Vec<u16>>,
    /// Values, one per selected name.
    pub values: Vec<Value>,
}

/// Freshness of a read, for the headers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Freshness {
    /// The clock that windows were evaluated at, ms.
    pub as_of_ms: i64,
    /// How far the table's sources are behind, ms; `None` when it has none or nothing is known.
    pub lag_ms: Option<i64>,
    /// Whether a source feeds it of which nobody can say how far behind it is.
    pub lag_unknown: bool,
    /// Last applied LSN.
    pub lsn: u64,
    /// Kind of the first open incident of a source that feeds the table.
    pub incident: Option<Arc<str>>,
    /// From which row time on every asked feature has all rows, ms; `None` when they have all since the event's first, or
    /// when nobody asked for features.
    pub complete_since_ms: Option<i64>,
    /// Since when the table lacks rows by an operator's decision, ms; `None` when it lacks none.
    pub gap_since_ms: Option<i64>,
}

/// Answers.
#[derive(Debug)]
pub enum Reply {
    /// Rows were taken.
    Pushed {
        /// LSN of the last row.
        ack_lsn: u64,
        /// LSN of the first row.
        first_lsn: u64,
        /// Number of rows.
        count: u32,
        /// Those that came before, by their places: they changed nothing. A single one has the LSN of the first.
        replayed: Vec<u32>,
        /// Set when the push waited for the fsync.
        durable_lsn: Option<u64>,
        /// Registry version.
        registry_version: u64,
    },
    /// Answer to `Get`.
    Row(Row, Freshness),
    /// Answer to `GetFeature` with a feature name.
    Feature(Value, Freshness),
    /// Answer to `BatchGet`.
    Rows(Vec<Result<Row, ApiError>>, Freshness),
    /// Answer to `GetMany`: found keys as written, each with its features.
    Many(Vec<(String, Vec<(String, Value)>)>),
    /// Answer to `Member`.
    Members {
        /// Whether each value came, in the order asked for.
        found: Vec<bool>,
        /// How often a value is found that never came, at most.
        false_positives: f64,
        /// Freshness.
        freshness: Freshness,
    },
    /// Answer to `Register`: the JSON body of a 200.
    Registered(String),
    /// Answer to `Ping`.
    Pong {
        /// Registry version.
        registry_version: u64,
        /// Last applied LSN.
        applied_lsn: u64,
        /// Last synced LSN.
        durable_lsn: u64,
    },
    /// Answer to `Reset`.
    WasReset {
        /// Registry version.
        registry_version: u64,
    },
    /// Refused; nothing was changed. Carries the registry version that push and register errors show.
    Refused(Box<ApiError>, u64),
}

/// One pushed row as it stood in the request.
#[derive(Debug, Clone, Copy)]
pub struct PushRow<'a> {
    /// Event name.
    pub event: &'a str,
    /// The row object, verbatim. The connector has found where it begins and does not always walk it: the engine takes exactly one object from it and refuses
    /// bytes behind the object and nesting beyond the bound.
    pub body: &'a [u8],
}

/// The engine's side of one I/O thread. No call blocks on another thread.
pub trait Port: Send {
    /// Decodes and queues one row. A row that cannot be taken is answered through [`Port::turn`] like everything else.
    fn push(&mut self, tag: Tag, encoding: Encoding, row: PushRow<'_>, wait: Wait);

    /// Decodes and queues several rows as one transaction: all or none.
    fn push_batch(&mut self, tag: Tag, encoding: Encoding, rows: &[PushRow<'_>], wait: Wait);

    /// Queues a request. Behind one that [`Port::is_fence`] the caller gives no further request of that
    /// connection until the reply is there; other connections are not concerned.
    fn call(&mut self, tag: Tag, request: Request);

    /// Whether this request is a fence on its connection, as things stand before it is given.
    fn is_fence(&self, request: &Request) -> bool {
        request.is_fence()
    }

    /// A connection is closed that was owed replies ([`Tag::connection`]): reads that go on for it, or wait,
    /// end. What it pushed stays.
    fn gone(&mut self, connection: u64);

    /// Runs everything queued (or hands it to the thread that is applying) and appends the replies that are ready, old ones included.
    fn turn(&mut self, replies: &mut Vec<(Tag, Reply)>);

    /// False when the queue is full: read no further requests until a later `turn` made room.
    fn has_room(&self) -> bool;

    /// Called once: wakes the I/O thread when replies become ready outside of its own `turn`.
    fn on_ready(&mut self, wake: Arc<dyn Fn() + Send + Sync>);

    /// Whether recovery has finished; until then requests are refused with `recovering`, by the engine.
    fn recovered(&self) -> bool;
}
