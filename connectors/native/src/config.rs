//! Bounds and deadlines of the data plane: what two users may want to set differently is a field, the rest is a named constant.
//!
//! Read once at start-up and passed on; nothing here reads a file or the environment.

use std::net::SocketAddr;
use std::time::Duration;
use streamgauge_api::Cors;

/// Longest request head in bytes, request line included.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Most header lines in one request.
pub const HEADERS_MAX: usize = 64;

/// Unanswered HTTP requests of one connection; beyond it the connection is not read.
pub const HTTP_UNANSWERED_MAX: u32 = 64;

/// Unanswered frames of one TCP connection; beyond it the connection is not read.
pub const FRAMES_UNANSWERED_MAX: u32 = 1024;

/// A read of many rows takes a quarter of a connection's unanswered requests, so that few large replies are in memory at once.
pub const BULK_SHARE: u32 = 4;

/// Rows, entries or keys in one request.
pub const ENTRIES_MAX: usize = 65_536;

/// Keys times features of one TCP matrix read.
pub const CELLS_MAX: usize = 10_000;

/// Nesting of JSON and MessagePack.
pub const NESTING_MAX: usize = 128;

/// Largest HTTP reply body in bytes; a TCP reply is bounded by `frame_max`.
pub const RESPONSE_BYTES_MAX: usize = streamgauge_api::port::REPLY_BYTES_MAX;

/// Body or frame bytes from which on a request is bulk: what it takes to parse, decode and answer it would keep other
/// connections waiting, so that the bulk thread does it.
pub const BULK_BYTES: usize = 16 * 1024;

/// Bytes of unsent replies at which a connection is not read any further.
pub const UNSENT_BYTES_HIGH: usize = 256 * 1024;

/// Longest wait for `min_lsn`, ms.
pub const WAIT_MS_MAX: u64 = 30_000;

/// Slowest body that is waited for, bytes per second.
pub const BODY_BYTES_PER_SECOND_MIN: usize = 1024;

/// How the data plane listens and what it bears.
#[derive(Debug, Clone)]
pub struct NativeConfig {
    /// Where HTTP listens; `None` = not at all. Port 0 = any.
    pub http: Option<SocketAddr>,
    /// Where framed TCP listens; `None` = not at all. Port 0 = any.
    pub tcp: Option<SocketAddr>,
    /// Number of I/O threads beside the one for bulk requests; each of all has a [`Port`](streamgauge_api::Port).
    pub io_threads: usize,
    /// Pages of other sites that may read answers.
    pub cors: Cors,
    /// Largest HTTP body in bytes, chunked or not, before and after it is decompressed.
    pub body_max: usize,
    /// Largest frame payload in bytes, both ways.
    pub frame_max: usize,
    /// Open connections of both listeners together; an I/O thread holds at most 65,536.
    pub connections_max: usize,
    /// Open connections of one peer address.
    pub connections_per_peer_max: usize,
    /// From the first byte of a request head to its last.
    pub head_timeout: Duration,
    /// From the end of a head (or the first byte of a frame) to the last byte of the body; it must also come with at least 1 KiB/s.
    pub body_timeout: Duration,
    /// How long a quiet HTTP connection is kept.
    pub idle_timeout: Duration,
    /// How long a quiet TCP connection is kept. Long, because clients of the framed protocol do not reconnect.
    pub tcp_idle_timeout: Duration,
    /// How long a peer may leave replies unread.
    pub write_timeout: Duration,
    /// Whether `reset` is allowed.
    pub test_mode: bool,
    /// The level at which a push is acknowledged that asks for none: one of [`DURABILITIES`](streamgauge_api::metrics::DURABILITIES).
    pub durability: &'static str,
}

impl NativeConfig {
    /// Threads, and ports: those for what is light, then the one for bulk.
    pub fn threads(&self) -> usize {
        self.io_threads + 1
    }
}

impl Default for NativeConfig {
    fn default() -> Self {
        Self {
            http: None,
            tcp: None,
            io_threads: 1,
            cors: Cors::default(),
            body_max: 4 * 1024 * 1024,
            frame_max: 4_194_304,
            connections_max: 10_000,
            connections_per_peer_max: 4_096,
            head_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            tcp_idle_timeout: Duration::from_secs(24 * 60 * 60),
            write_timeout: Duration::from_secs(10),
            test_mode: false,
            durability: "written",
        }
    }
}
