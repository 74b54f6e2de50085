//! librdkafka behind owner types: the only file of the workspace with `unsafe`.
//!
//! What the `rdkafka` crate does not offer, or not in the form that exactly-once reading needs: a consumer on our own `rd_kafka_conf`, the two-step
//! batch drain, assignment with (offset, leader epoch) as one pair, DescribeTopics with topic ids, ListOffsets with an isolation level, group commits
//! with metadata and epoch, and the log line that is librdkafka's only word about a topic recreated under us.
//!
//! Invariants: every C object has one Rust owner whose `Drop` frees it; no pointer leaves this file; error codes cross the border as plain `i32`, because
//! in the bindings they are a Rust enum and a code unknown to it would be undefined behaviour (hence the own declarations below). Callbacks never
//! panic: they only store into an [`Inbox`].
//!
//! Threads: a [`Client`] belongs to one thread at a time. The stats and error callbacks run inside [`Client::drain`]; the log callback runs on
//! librdkafka's own threads, before the first fetch that follows the event it tells of; the connect callback on the thread of the broker it is for.
//!
//! Deliberately absent: `subscribe`, pause, seek, `rd_kafka_position`. Positions are computed from records by our caller.

use crate::fold::Fold;
use crate::gate::Gate;
use rdkafka_sys as sys;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use streamgauge_api::TopicId;
use streamgauge_api::inlet::Headers;

/// Records that one drain takes at most.
pub const BATCH_RECORDS_MAX: usize = 4096;

/// Error and statistics texts kept for a caller that does not look, at most.
const INBOX_ENTRIES_MAX: usize = 1024;

const ERROR_TEXT_BYTES: usize = 512;

/// How long an assign waits for its partitions to begin, which takes the client's own thread a moment,
const VALIDATE_LIMIT: Duration = Duration::from_secs(2);
/// and how often it looks.
const VALIDATE_STEP: Duration = Duration::from_millis(2);

/// How the text of `ECANCELED` reads: what an attempt fails with that the gate did not let through.
const HELD_BACK: &str = "Operation canceled";

/// The level of syslog.
const LOG_DEBUG: u8 = 7;

/// librdkafka's `RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE`: the consumer is closed by [`Client::drop`] itself, with a time limit.
const DESTROY_WITHOUT_CLOSE: c_int = 0x8;

/// Codes that our callers tell apart. Negative ones are librdkafka's own, positive ones Kafka's.
pub mod code {
    /// End of partition: an offset, not an error.
    pub const PARTITION_EOF: i32 = -191;
    /// The partition stands still until it is unassigned and assigned again.
    pub const AUTO_OFFSET_RESET: i32 = -140;
    /// A batch whose checksum does not fit.
    pub const BAD_MSG: i32 = -199;
    /// A batch that cannot be decompressed, or takes more room than it may.
    pub const BAD_COMPRESSION: i32 = -198;
    /// A codec or feature that this build lacks.
    pub const NOT_IMPLEMENTED: i32 = -170;
    /// Login refused.
    pub const AUTHENTICATION: i32 = -169;
    /// TLS refused.
    pub const SSL: i32 = -181;
    /// A connection broke.
    pub const TRANSPORT: i32 = -195;
    /// No broker is connected.
    pub const ALL_BROKERS_DOWN: i32 = -187;
    /// The client does not know the partition (yet).
    pub const UNKNOWN_PARTITION: i32 = -190;
    /// Not now: the partition is not being read (yet).
    pub const STATE: i32 = -172;
    /// What was asked for before has not ended.
    pub const PREV_IN_PROGRESS: i32 = -177;
    /// Unknown topic or partition.
    pub const UNKNOWN_TOPIC_OR_PART: i32 = 3;
    /// The topic may not be read.
    pub const TOPIC_AUTHORIZATION_FAILED: i32 = 29;
    /// The group may not be used.
    pub const GROUP_AUTHORIZATION_FAILED: i32 = 30;
    /// A call did not answer in its time.
    pub const TIMED_OUT: i32 = -185;
    /// Local failure without a code of its own.
    pub const FAIL: i32 = -196;
}

/// Why a call to the client failed: librdkafka's or Kafka's code and text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text} (code {code})")]
pub struct ClientError {
    /// The code, see [`code`].
    pub code: i32,
    /// The client's text.
    pub text: String,
}

impl ClientError {
    fn local(text: impl Into<String>) -> Self {
        Self { code: code::FAIL, text: text.into() }
    }

    fn of_code(code: i32) -> Self {
        Self { code, text: code_text(code) }
    }
}

// The same functions as in `rdkafka_sys`, with `i32` in place of its enum of error codes.
unsafe extern "C" {
    fn rd_kafka_err2str(err: i32) -> *const c_char;
    fn rd_kafka_error_code(error: *const sys::rd_kafka_error_t) -> i32;
    fn rd_kafka_poll_set_consumer(rk: *mut sys::rd_kafka_t) -> i32;
    fn rd_kafka_consume_batch_queue(queue: *mut sys::rd_kafka_queue_t, timeout_ms: c_int, out: *mut *mut Message, size: usize) -> isize;
    fn rd_kafka_message_destroy(message: *mut Message);
    fn rd_kafka_message_errstr(message: *const Message) -> *const c_char;
    fn rd_kafka_message_timestamp(message: *const Message, kind: *mut u32) -> i64;
    fn rd_kafka_message_leader_epoch(message: *const Message) -> i32;
    fn rd_kafka_message_headers(message: *const Message, out: *mut *mut sys::rd_kafka_headers_t) -> i32;
    fn rd_kafka_header_get_last(
        headers: *const sys::rd_kafka_headers_t,
        name: *const c_char,
        value: *mut *const c_void,
        size: *mut usize,
    ) -> i32;
    fn rd_kafka_header_get_all(
        headers: *const sys::rd_kafka_headers_t,
        index: usize,
        name: *mut *const c_char,
        value: *mut *const c_void,
        size: *mut usize,
    ) -> i32;
    fn rd_kafka_metadata(
        rk: *mut sys::rd_kafka_t,
        all_topics: c_int,
        only: *mut sys::rd_kafka_topic_t,
        out: *mut *const MetadataC,
        timeout_ms: c_int,
    ) -> i32;
    fn rd_kafka_metadata_destroy(metadata: *const MetadataC);
    fn rd_kafka_event_error(event: *mut sys::rd_kafka_event_t) -> i32;
    fn rd_kafka_AdminOptions_set_request_timeout(
        options: *mut sys::rd_kafka_AdminOptions_t,
        timeout_ms: c_int,
        text: *mut c_char,
        text_size: usize,
    ) -> i32;
    fn rd_kafka_topic_partition_list_add(list: *mut PartitionListC, topic: *const c_char, partition: i32) -> *mut PartitionC;
    fn rd_kafka_topic_partition_list_new(size: c_int) -> *mut PartitionListC;
    fn rd_kafka_topic_partition_list_destroy(list: *mut PartitionListC);
    fn rd_kafka_topic_partition_set_leader_epoch(partition: *mut PartitionC, epoch: i32);
    fn rd_kafka_topic_partition_get_leader_epoch(partition: *const PartitionC) -> i32;
    fn rd_kafka_incremental_assign(rk: *mut sys::rd_kafka_t, list: *const PartitionListC) -> *mut sys::rd_kafka_error_t;
    fn rd_kafka_incremental_unassign(rk: *mut sys::rd_kafka_t, list: *const PartitionListC) -> *mut sys::rd_kafka_error_t;
    fn rd_kafka_seek_partitions(rk: *mut sys::rd_kafka_t, list: *mut PartitionListC, timeout_ms: c_int) -> *mut sys::rd_kafka_error_t;
    fn rd_kafka_ListOffsets(
        rk: *mut sys::rd_kafka_t,
        list: *mut PartitionListC,
        options: *const sys::rd_kafka_AdminOptions_t,
        queue: *mut sys::rd_kafka_queue_t,
    );
    fn rd_kafka_ListOffsetsResultInfo_topic_partition(info: *const sys::rd_kafka_ListOffsetsResultInfo_t) -> *const PartitionC;
    fn rd_kafka_commit_queue(
        rk: *mut sys::rd_kafka_t,
        list: *const PartitionListC,
        queue: *mut sys::rd_kafka_queue_t,
        callback: Option<unsafe extern "C" fn(*mut sys::rd_kafka_t, i32, *mut PartitionListC, *mut c_void)>,
        opaque: *mut c_void,
    ) -> i32;
    fn strdup(text: *const c_char) -> *mut c_char;
}

/// One message of a drained batch: `rd_kafka_message_t`, read in place.
#[repr(C)]
pub struct Message {
    err: i32,
    topic: *mut sys::rd_kafka_topic_t,
    partition: i32,
    payload: *mut c_void,
    len: usize,
    key: *mut c_void,
    key_len: usize,
    offset: i64,
    private: *mut c_void,
}

#[repr(C)]
struct PartitionC {
    topic: *mut c_char,
    partition: i32,
    offset: i64,
    metadata: *mut c_void,
    metadata_size: usize,
    opaque: *mut c_void,
    err: i32,
    private: *mut c_void,
}

#[repr(C)]
struct PartitionListC {
    count: c_int,
    size: c_int,
    elements: *mut PartitionC,
}

#[repr(C)]
struct MetadataPartitionC {
    id: i32,
    err: i32,
    leader: i32,
    replica_count: c_int,
    replicas: *mut i32,
    isr_count: c_int,
    isrs: *mut i32,
}

#[repr(C)]
struct MetadataTopicC {
    topic: *mut c_char,
    partition_count: c_int,
    partitions: *mut MetadataPartitionC,
    err: i32,
}

#[repr(C)]
struct MetadataC {
    broker_count: c_int,
    brokers: *mut c_void,
    topic_count: c_int,
    topics: *mut MetadataTopicC,
    orig_broker_id: i32,
    orig_broker_name: *mut c_char,
}

// The mirrored layouts must be those of the bindings.
const _: () = {
    assert!(size_of::<Message>() == size_of::<sys::rd_kafka_message_t>());
    assert!(size_of::<PartitionC>() == size_of::<sys::rd_kafka_topic_partition_t>());
    assert!(size_of::<PartitionListC>() == size_of::<sys::rd_kafka_topic_partition_list_t>());
    assert!(size_of::<MetadataC>() == size_of::<sys::rd_kafka_metadata>());
    assert!(size_of::<MetadataTopicC>() == size_of::<sys::rd_kafka_metadata_topic>());
    assert!(size_of::<MetadataPartitionC>() == size_of::<sys::rd_kafka_metadata_partition>());
};

/// The version of the librdkafka that is linked in.
pub fn client_version() -> String {
    // SAFETY: returns a static string.
    text_of(unsafe { sys::rd_kafka_version_str() })
}

/// librdkafka's text for a code, of whichever side.
pub fn code_text(code: i32) -> String {
    // SAFETY: takes any number and returns a static (or thread-local, for unknown codes) string that is copied at once.
    text_of(unsafe { rd_kafka_err2str(code) })
}

/// Copies a C string; null becomes empty, bytes that are not UTF-8 are replaced.
fn text_of(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: all callers pass strings that librdkafka terminates with a zero and keeps alive during the call.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn c_string(text: &str) -> Result<CString, ClientError> {
    CString::new(text).map_err(|_zero| ClientError::local(format!("a zero byte in {text:?}")))
}

fn millis(limit: Duration) -> c_int {
    c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX)
}

/// Takes ownership of an `rd_kafka_error_t`.
fn take_error(error: *mut sys::rd_kafka_error_t) -> Result<(), ClientError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: a non-null error from librdkafka is ours; it is read, then destroyed exactly once.
    unsafe {
        let taken = ClientError { code: rd_kafka_error_code(error), text: text_of(sys::rd_kafka_error_string(error)) };
        sys::rd_kafka_error_destroy(error);
        Err(taken)
    }
}

/// The line "Topic T changed id from A to B" of librdkafka's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdChange {
    /// Topic name.
    pub topic: String,
    /// Id before, all zero when the client had none.
    pub from: TopicId,
    /// Id now.
    pub to: TopicId,
}

/// What librdkafka said outside of messages. Filled by callbacks, emptied by the owner of the client.
#[derive(Debug, Default)]
pub struct Inbox {
    fenced: AtomicBool,
    changes: Mutex<Vec<IdChange>>,
    errors: Mutex<Vec<ClientError>>,
    statistics: Mutex<Option<String>>,
    connects: AtomicU64,
    /// Lines that were told lately.
    fold: Mutex<Fold>,
}

impl Inbox {
    /// Connections that were opened or tried.
    pub fn connects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed)
    }

    /// Topic id changes that the client noticed; one atomic load when there are none. To be asked after every drain, before its records are used.
    pub fn take_changes(&self) -> Vec<IdChange> {
        if !self.fenced.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut *self.changes.lock())
    }

    /// Errors without a partition, oldest first.
    pub fn take_errors(&self) -> Vec<ClientError> {
        std::mem::take(&mut *self.errors.lock())
    }

    /// The newest statistics document (JSON).
    pub fn take_statistics(&self) -> Option<String> {
        self.statistics.lock().take()
    }

    fn log(&self, level: c_int, facility: &str, line: &str) {
        // What the gate held back is no news: the attempt before it was told.
        let level = if held_back(line) { c_int::from(LOG_DEBUG) } else { level };
        if let Some(change) = id_change(line) {
            let mut changes = self.changes.lock();
            if changes.len() < INBOX_ENTRIES_MAX {
                changes.push(change);
            }
            drop(changes);
            self.fenced.store(true, Ordering::Release);
        }
        match level {
            0..=3 => match self.fold.lock().tells(facility, line, Instant::now()) {
                Some(0) => tracing::warn!(target: "librdkafka", facility, "{line}"),
                Some(folded) => tracing::warn!(target: "librdkafka", facility, folded, "{line} (and {folded} like it)"),
                None => tracing::trace!(target: "librdkafka", facility, "{line}"),
            },
            4..=6 => tracing::debug!(target: "librdkafka", facility, "{line}"),
            _ => tracing::trace!(target: "librdkafka", facility, "{line}"),
        }
    }
}

/// Reads the fence line. The text is pinned by the exact version of `rdkafka-sys` and by a test on a real broker.
fn id_change(line: &str) -> Option<IdChange> {
    let (before, ids) = line.rsplit_once(" changed id from ")?;
    let topic = before.rsplit_once("Topic ")?.1;
    let (from, to) = ids.split_once(" to ")?;
    Some(IdChange { topic: topic.to_owned(), from: topic_id(from)?, to: topic_id(to.trim_end())? })
}

/// An id as librdkafka prints it: base64 without padding.
fn topic_id(text: &str) -> Option<TopicId> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD_NO_PAD.decode(text).ok()?;
    Some(TopicId(bytes.try_into().ok()?))
}

unsafe extern "C" fn on_log(rk: *const sys::rd_kafka_t, level: c_int, facility: *const c_char, line: *const c_char) {
    // SAFETY: the opaque is the `Inbox` of this client's `Arc`, set before the client existed and released after its destruction.
    let inbox = unsafe { sys::rd_kafka_opaque(rk).cast::<Inbox>().as_ref() };
    if let Some(inbox) = inbox {
        inbox.log(level, &text_of(facility), &text_of(line));
    }
}

unsafe extern "C" fn on_error(_rk: *mut sys::rd_kafka_t, code: c_int, reason: *const c_char, opaque: *mut c_void) {
    // SAFETY: as in `on_log`.
    if let Some(inbox) = unsafe { opaque.cast::<Inbox>().as_ref() } {
        let text = text_of(reason);
        let mut errors = inbox.errors.lock();
        if errors.len() < INBOX_ENTRIES_MAX && !held_back(&text) {
            errors.push(ClientError { code, text });
        }
    }
}

/// Whether a text of the client is about an attempt that the gate did not let through.
fn held_back(text: &str) -> bool {
    text.contains(HELD_BACK)
}

thread_local! {
    /// Of the broker thread: each has its own addresses.
    static GATE: RefCell<Gate> = RefCell::default();
}

unsafe extern "C" fn on_connect(
    socket: c_int,
    address: *const libc::sockaddr,
    len: c_int,
    _broker: *const c_char,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: the client gives an address of this length, which lives for the call.
    let bytes = unsafe { slice_of(address.cast::<u8>(), len) };
    if !GATE.with_borrow_mut(|gate| gate.admits(bytes, Instant::now())) {
        return libc::ECANCELED;
    }
    // SAFETY: as in `on_log`.
    if let Some(inbox) = unsafe { opaque.cast::<Inbox>().as_ref() } {
        inbox.connects.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the socket is the client's own and open, the address as above; what librdkafka does itself without this callback.
    if unsafe { libc::connect(socket, address, libc::socklen_t::try_from(len).unwrap_or(0)) } == 0 {
        return 0;
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::EINPROGRESS) => 0,
        other => other.unwrap_or(libc::EIO),
    }
}

/// Now by the clock of librdkafka's statistics, microseconds.
pub fn monotonic_us() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec that is ours.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    assert!(failed == 0, "every system has a monotonic clock");
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

unsafe extern "C" fn on_statistics(_rk: *mut sys::rd_kafka_t, json: *mut c_char, _len: usize, opaque: *mut c_void) -> c_int {
    // SAFETY: as in `on_log`.
    if let Some(inbox) = unsafe { opaque.cast::<Inbox>().as_ref() } {
        *inbox.statistics.lock() = Some(text_of(json));
    }
    // Zero: librdkafka frees the document.
    0
}

impl Message {
    /// The code: 0 for a record, [`code::PARTITION_EOF`] for an end of partition, anything else is bad news.
    pub fn code(&self) -> i32 {
        self.err
    }

    /// Topic name; empty for an error without a topic.
    pub fn topic(&self) -> &str {
        if self.topic.is_null() {
            return "";
        }
        // SAFETY: the message holds a reference to its topic object, which owns the name.
        unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(self.topic)) }.to_str().unwrap_or("")
    }

    /// A number that is equal for messages of one topic within one batch.
    pub fn topic_mark(&self) -> usize {
        self.topic.addr()
    }

    /// Partition number.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Offset; -1001 where an error has none.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Value bytes; `None` is a tombstone.
    pub fn value(&self) -> Option<&[u8]> {
        // SAFETY: payload and len describe one buffer that lives as long as the message.
        unsafe { bytes_of(self.payload, self.len) }
    }

    /// Key bytes.
    pub fn key(&self) -> Option<&[u8]> {
        // SAFETY: as for the value.
        unsafe { bytes_of(self.key, self.key_len) }
    }

    /// Kafka timestamp in ms, -1 when there is none.
    pub fn timestamp_ms(&self) -> i64 {
        let mut kind = 0u32;
        // SAFETY: the message is valid; the kind is written to a local (a C enum, read as its integer).
        let time = unsafe { rd_kafka_message_timestamp(self, &mut kind) };
        if kind == sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE as u32 { -1 } else { time }
    }

    /// Leader epoch of the record's batch, -1 when unknown.
    pub fn epoch(&self) -> i32 {
        // SAFETY: the message is valid.
        unsafe { rd_kafka_message_leader_epoch(self) }
    }

    /// The client's text of an error message.
    pub fn error_text(&self) -> String {
        // SAFETY: the message is valid; the text is copied.
        text_of(unsafe { rd_kafka_message_errstr(self) })
    }

    fn header_list(&self) -> Option<NonNull<sys::rd_kafka_headers_t>> {
        let mut list = ptr::null_mut();
        // SAFETY: the message is valid. The list, parsed on the first call, belongs to it; a message never leaves its thread, so nobody parses beside us.
        let code = unsafe { rd_kafka_message_headers(self, &mut list) };
        if code == 0 { NonNull::new(list) } else { None }
    }
}

impl Headers for Message {
    fn last(&self, name: &str) -> Option<Option<&[u8]>> {
        let list = self.header_list()?;
        let name = CString::new(name).ok()?;
        let (mut value, mut size) = (ptr::null(), 0usize);
        // SAFETY: list and name are valid; the value lies in the message and lives as long as it.
        unsafe {
            let code = rd_kafka_header_get_last(list.as_ptr(), name.as_ptr(), &mut value, &mut size);
            (code == 0).then(|| bytes_of(value, size))
        }
    }

    fn visit(&self, each: &mut dyn FnMut(&str, Option<&[u8]>)) {
        let Some(list) = self.header_list() else { return };
        for index in 0.. {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0usize);
            // SAFETY: as in `last`; an index past the end answers a code and leaves the outputs alone.
            let (name, value) = unsafe {
                if rd_kafka_header_get_all(list.as_ptr(), index, &mut name, &mut value, &mut size) != 0 {
                    return;
                }
                (CStr::from_ptr(name), bytes_of(value, size))
            };
            if let Ok(name) = name.to_str() {
                each(name, value);
            }
        }
    }
}

/// # Safety
/// `start` is null or the start of `len` readable bytes that live for `'a`.
unsafe fn bytes_of<'a>(start: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: promised by the caller.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast::<u8>(), len) })
}

/// Messages of one drain. They pin the client's fetch buffers until the batch is drained into again, cleared or dropped.
pub struct Batch {
    messages: Vec<*mut Message>,
    /// Messages are bound to the thread that drained them (header parsing is lazy).
    bound: PhantomData<*mut Message>,
}

impl Batch {
    /// An empty batch with room for [`BATCH_RECORDS_MAX`] messages.
    pub fn new() -> Self {
        Self { messages: Vec::with_capacity(BATCH_RECORDS_MAX), bound: PhantomData }
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The messages from `first` on, in the order of the client's queue.
    pub fn messages(&self, first: usize) -> impl Iterator<Item = &Message> {
        // SAFETY: all pointers are non-null messages that we own until `clear`.
        self.messages.iter().skip(first).map(|message| unsafe { &**message })
    }

    /// Frees all messages.
    pub fn clear(&mut self) {
        for message in self.messages.drain(..) {
            // SAFETY: ours, removed from the list, destroyed once.
            unsafe { rd_kafka_message_destroy(message) };
        }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A partition to assign, with the pair that says where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Partition.
    pub partition: i32,
    /// First offset to fetch.
    pub offset: i64,
    /// Leader epoch of the record before `offset`, -1 for no check.
    pub epoch: i32,
}

/// A commit to the consumer group, for lag tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupCommit {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Next offset.
    pub offset: i64,
    /// Leader epoch of the last applied record, -1 when unknown.
    pub epoch: i32,
    /// Free text beside the offset.
    pub metadata: String,
}

/// A topic as the brokers describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Name.
    pub name: String,
    /// Id; [`TopicId::NONE`] from a call that does not tell.
    pub id: TopicId,
    /// Number and leader (`None`: no leader now) of each partition.
    pub partitions: Vec<(i32, Option<i32>)>,
    /// Why it could not be described.
    pub error: Option<ClientError>,
}

/// Which end of a log is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// Log start.
    Earliest,
    /// Log end (or last stable offset, by isolation).
    Latest,
    /// First record at or after this time, ms.
    Timestamp(i64),
}

/// Answer for one partition: offset (-1: no such record) and leader epoch (-1: unknown).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetAnswer {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset and epoch, or why not.
    pub result: Result<(i64, i32), ClientError>,
}

/// What transactions hide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// The true log end.
    ReadUncommitted,
    /// The last stable offset.
    ReadCommitted,
}

/// Owner of a partition list.
struct PartitionList(NonNull<PartitionListC>);

impl PartitionList {
    fn new(capacity: usize) -> Result<Self, ClientError> {
        // SAFETY: allocates; the size is only a hint.
        let list = unsafe { rd_kafka_topic_partition_list_new(c_int::try_from(capacity).unwrap_or(0)) };
        NonNull::new(list).map(Self).ok_or_else(|| ClientError::local("no memory for a partition list"))
    }

    /// Adds an entry and lets `fill` set its fields.
    fn add(&mut self, topic: &str, partition: i32, fill: impl FnOnce(&mut PartitionC)) -> Result<(), ClientError> {
        let topic = c_string(topic)?;
        // SAFETY: the list is ours; it copies the name and returns a pointer that is valid until the next change of the list.
        let entry = unsafe { rd_kafka_topic_partition_list_add(self.0.as_ptr(), topic.as_ptr(), partition).as_mut() };
        fill(entry.ok_or_else(|| ClientError::local("no memory for a partition"))?);
        Ok(())
    }

    /// The error that a call wrote into the entry of a partition; of none, that the partition is unknown.
    fn error_of(&self, topic: &str, partition: i32) -> i32 {
        // SAFETY: the list is ours and valid.
        let list = unsafe { self.0.as_ref() };
        let count = usize::try_from(list.count).unwrap_or(0);
        let entries = if count == 0 {
            &[][..]
        } else {
            // SAFETY: a list holds `count` entries, and nobody else has it.
            unsafe { std::slice::from_raw_parts(list.elements, count) }
        };
        let entry = entries.iter().find(|entry| entry.partition == partition && text_of(entry.topic) == topic);
        entry.map_or(code::UNKNOWN_PARTITION, |entry| entry.err)
    }

    fn as_ptr(&self) -> *mut PartitionListC {
        self.0.as_ptr()
    }
}

impl Drop for PartitionList {
    fn drop(&mut self) {
        // SAFETY: ours, destroyed once; entries and their metadata go with it.
        unsafe { rd_kafka_topic_partition_list_destroy(self.0.as_ptr()) };
    }
}

fn list_of<'a>(partitions: impl ExactSizeIterator<Item = &'a Assignment<'a>>) -> Result<PartitionList, ClientError> {
    let mut list = PartitionList::new(partitions.len())?;
    for partition in partitions {
        list.add(partition.topic, partition.partition, |entry| {
            entry.offset = partition.offset;
            set_epoch(entry, partition.epoch);
        })?;
    }
    Ok(list)
}

fn set_epoch(entry: &mut PartitionC, epoch: i32) {
    if epoch >= 0 {
        // SAFETY: the entry is a valid element of a list.
        unsafe { rd_kafka_topic_partition_set_leader_epoch(entry, epoch) };
    }
}

/// Owner of a queue.
struct Queue(NonNull<sys::rd_kafka_queue_t>);

impl Queue {
    fn as_ptr(&self) -> *mut sys::rd_kafka_queue_t {
        self.0.as_ptr()
    }

    /// See [`Client::drain`].
    fn drain(&self, batch: &mut Batch, wait: Duration) {
        batch.clear();
        let first = batch.messages.as_mut_ptr();
        // SAFETY: the vector has room for BATCH_RECORDS_MAX pointers; each call writes as many as it returns, and the length covers exactly those.
        unsafe {
            if rd_kafka_consume_batch_queue(self.as_ptr(), millis(wait), first, 1) != 1 {
                return;
            }
            batch.messages.set_len(1);
            let more = rd_kafka_consume_batch_queue(self.as_ptr(), 0, first.add(1), BATCH_RECORDS_MAX - 1);
            batch.messages.set_len(1 + usize::try_from(more).unwrap_or(0).min(BATCH_RECORDS_MAX - 1));
        }
    }

    fn poll(&self, limit: Duration) -> Option<Event> {
        // SAFETY: the queue is ours; a returned event is owned by the caller.
        NonNull::new(unsafe { sys::rd_kafka_queue_poll(self.as_ptr(), millis(limit)) }).map(Event)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: our reference, given back once, before the client is destroyed.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) };
    }
}

/// The queue of one partition, see [`Client::partition_queue`]. Dropped before its client.
pub struct PartitionQueue(Queue);

impl PartitionQueue {
    /// As [`Client::drain`], of this partition alone.
    pub fn drain(&self, batch: &mut Batch, wait: Duration) {
        self.0.drain(batch, wait);
    }
}

/// Owner of an event.
struct Event(NonNull<sys::rd_kafka_event_t>);

impl Event {
    fn check(&self) -> Result<(), ClientError> {
        // SAFETY: the event is ours; the text is copied.
        unsafe {
            match rd_kafka_event_error(self.0.as_ptr()) {
                0 => Ok(()),
                code => Err(ClientError { code, text: text_of(sys::rd_kafka_event_error_string(self.0.as_ptr())) }),
            }
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: ours, destroyed once; results read from it are copied before.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) };
    }
}

/// Owner of admin options.
struct AdminOptions(NonNull<sys::rd_kafka_AdminOptions_t>);

impl Drop for AdminOptions {
    fn drop(&mut self) {
        // SAFETY: ours, destroyed once.
        unsafe { sys::rd_kafka_AdminOptions_destroy(self.0.as_ptr()) };
    }
}

/// Owner of a configuration that no client has taken yet.
struct Conf(NonNull<sys::rd_kafka_conf_t>);

impl Conf {
    fn new() -> Result<Self, ClientError> {
        // SAFETY: allocates.
        NonNull::new(unsafe { sys::rd_kafka_conf_new() }).map(Self).ok_or_else(|| ClientError::local("no memory for a configuration"))
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), ClientError> {
        let (c_name, c_value) =
            (c_string(name)?, CString::new(value).map_err(|_zero| ClientError::local(format!("a zero byte in {name}")))?);
        let mut text = [0 as c_char; ERROR_TEXT_BYTES];
        // SAFETY: all strings are terminated, the text buffer has the stated size and is terminated by the call.
        unsafe {
            match sys::rd_kafka_conf_set(self.0.as_ptr(), c_name.as_ptr(), c_value.as_ptr(), text.as_mut_ptr(), text.len()) {
                sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => Ok(()),
                _ => Err(ClientError::local(text_of(text.as_ptr()))),
            }
        }
    }
}

impl Drop for Conf {
    fn drop(&mut self) {
        // SAFETY: ours unless a client took it; then it was forgotten.
        unsafe { sys::rd_kafka_conf_destroy(self.0.as_ptr()) };
    }
}

/// A consumer client without a group subscription.
pub struct Client {
    /// Declared before `rk`'s destruction in `Drop`; `None` only while dropping.
    queue: Option<Queue>,
    rk: NonNull<sys::rd_kafka_t>,
    inbox: Arc<Inbox>,
    close_limit: Duration,
}

// SAFETY: librdkafka's handles may be used from any thread; the type is not `Sync`, so from one at a time.
unsafe impl Send for Client {}

impl Client {
    /// Creates the client; connects in the background.
    ///
    /// # Errors
    /// A setting that librdkafka refuses, with its text.
    pub fn new(settings: &[(String, String)], inbox: Arc<Inbox>) -> Result<Self, ClientError> {
        let mut conf = Conf::new()?;
        for (name, value) in settings {
            conf.set(name, value)?;
        }
        // The log callback must run on the thread that logs, before the fetch that follows: rule of the fence.
        conf.set("log.queue", "false")?;
        let mut text = [0 as c_char; ERROR_TEXT_BYTES];
        let opaque: *const Inbox = Arc::as_ptr(&inbox);
        // SAFETY: the opaque lives as long as `inbox` in the returned client, which drops after `rd_kafka_destroy`. `rd_kafka_new` takes the conf only
        // when it succeeds; then our owner is forgotten.
        let rk = unsafe {
            sys::rd_kafka_conf_set_opaque(conf.0.as_ptr(), opaque.cast_mut().cast());
            sys::rd_kafka_conf_set_log_cb(conf.0.as_ptr(), Some(on_log));
            sys::rd_kafka_conf_set_error_cb(conf.0.as_ptr(), Some(on_error));
            sys::rd_kafka_conf_set_stats_cb(conf.0.as_ptr(), Some(on_statistics));
            sys::rd_kafka_conf_set_connect_cb(conf.0.as_ptr(), Some(on_connect));
            sys::rd_kafka_new(sys::rd_kafka_type_t::RD_KAFKA_CONSUMER, conf.0.as_ptr(), text.as_mut_ptr(), text.len())
        };
        let Some(rk) = NonNull::new(rk) else { return Err(ClientError::local(text_of(text.as_ptr()))) };
        std::mem::forget(conf);
        let mut client = Self { queue: None, rk, inbox, close_limit: Duration::from_secs(3) };
        // SAFETY: a fresh consumer. The queue is null only without a group.id.
        unsafe {
            match rd_kafka_poll_set_consumer(client.rk.as_ptr()) {
                0 => {}
                code => return Err(ClientError::of_code(code)),
            }
            client.queue = NonNull::new(sys::rd_kafka_queue_get_consumer(client.rk.as_ptr())).map(Queue);
        }
        if client.queue.is_none() {
            return Err(ClientError::local("no consumer queue: group.id is not set"));
        }
        Ok(client)
    }

    /// What callbacks stored.
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Waits for a first message at most `wait`, then takes what else is queued without waiting; serves callbacks meanwhile. Frees the batch's
    /// messages first. One call with a full array would sit out its whole time limit, hence two.
    pub fn drain(&self, batch: &mut Batch, wait: Duration) {
        let Some(queue) = &self.queue else { return batch.clear() };
        queue.drain(batch, wait);
    }

    /// A queue of a partition's own, from before it is assigned on: its records and its end come there and nowhere else,
    /// and the client's limits of queues hold for it alone, so that a partition which nobody drains stops fetching.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn partition_queue(&self, topic: &str, partition: i32) -> Result<PartitionQueue, ClientError> {
        let topic = c_string(topic)?;
        // SAFETY: the client is alive, the name is terminated and copied; the queue is ours. Forwarding to nowhere ends
        // that to the consumer's queue, and an assign leaves alone what the application said.
        unsafe {
            let queue = NonNull::new(sys::rd_kafka_queue_get_partition(self.rk.as_ptr(), topic.as_ptr(), partition));
            let queue = queue.map(Queue).ok_or_else(|| ClientError::local("no memory for a queue"))?;
            sys::rd_kafka_queue_forward(queue.as_ptr(), ptr::null_mut());
            Ok(PartitionQueue(queue))
        }
    }

    /// Starts reading partitions at their pairs; the client asks OffsetForLeaderEpoch before the first record where an epoch is given.
    ///
    /// # Errors
    /// `_CONFLICT` when one is assigned already. Otherwise none of them is assigned.
    pub fn assign(&self, partitions: &[Assignment<'_>]) -> Result<(), ClientError> {
        self.assign_at(partitions, partitions)
    }

    /// Only compares pairs, though they lie behind their logs' ends, with the brokers' history of epochs: assigns at the logs'
    /// starts, so that no fetch is refused before the answer is there (that would end the assignment), and asks from there.
    ///
    /// # Errors
    /// As [`Client::assign`].
    pub fn probe(&self, partitions: &[Assignment<'_>], starts: &[i64]) -> Result<(), ClientError> {
        assert_eq!(partitions.len(), starts.len(), "each log has its start");
        let mut at_starts = partitions.to_vec();
        for (partition, start) in at_starts.iter_mut().zip(starts) {
            (partition.offset, partition.epoch) = (*start, -1);
        }
        self.assign_at(&at_starts, partitions)
    }

    fn assign_at(&self, starts: &[Assignment<'_>], partitions: &[Assignment<'_>]) -> Result<(), ClientError> {
        let list = list_of(starts.iter())?;
        // SAFETY: the list is valid and copied by the call.
        take_error(unsafe { rd_kafka_incremental_assign(self.rk.as_ptr(), list.as_ptr()) })?;
        let validated = self.validate(partitions);
        if validated.is_err() {
            let places: Vec<(&str, i32)> = partitions.iter().map(|partition| (partition.topic, partition.partition)).collect();
            self.unassign(&places)?;
        }
        validated
    }

    /// Has the client compare pairs with the brokers' history of epochs before it fetches. An assign alone does so only when
    /// the client learns the leader's epoch after it; a seek always does, and discards whatever was fetched before.
    fn validate(&self, partitions: &[Assignment<'_>]) -> Result<(), ClientError> {
        let deadline = Instant::now() + VALIDATE_LIMIT;
        let mut left: Vec<&Assignment<'_>> = partitions.iter().filter(|partition| partition.epoch >= 0 && partition.offset > 0).collect();
        while !left.is_empty() {
            let list = list_of(left.iter().copied())?;
            let limit = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            // SAFETY: the list is valid; the call writes each entry's error into it before it returns.
            take_error(unsafe { rd_kafka_seek_partitions(self.rk.as_ptr(), list.as_ptr(), millis(limit)) })?;
            let mut refused = None;
            let mut again = Vec::new();
            for partition in left {
                match list.error_of(partition.topic, partition.partition) {
                    0 => {}
                    // The assignment of a moment ago has not begun, or the one before it has not ended.
                    code::STATE | code::PREV_IN_PROGRESS | code::UNKNOWN_PARTITION => again.push(partition),
                    error => refused = refused.or(Some(error)),
                }
            }
            if let Some(error) = refused {
                return Err(ClientError { code: error, text: format!("seek: {}", code_text(error)) });
            }
            if !again.is_empty() {
                if Instant::now() >= deadline {
                    return Err(ClientError { code: code::TIMED_OUT, text: "an assigned partition did not begin".to_owned() });
                }
                std::thread::sleep(VALIDATE_STEP);
            }
            left = again;
        }
        Ok(())
    }

    /// Stops reading partitions; their queued records are discarded.
    ///
    /// # Errors
    /// When one is not assigned.
    pub fn unassign(&self, partitions: &[(&str, i32)]) -> Result<(), ClientError> {
        let mut list = PartitionList::new(partitions.len())?;
        for (topic, partition) in partitions {
            list.add(topic, *partition, |_entry| {})?;
        }
        // SAFETY: as in `assign`.
        take_error(unsafe { rd_kafka_incremental_unassign(self.rk.as_ptr(), list.as_ptr()) })
    }

    /// Connects now. A client connects on its first need, and a need that meets no connection waits for a timer of a second.
    ///
    /// # Errors
    /// No broker answered in time; the client goes on connecting.
    pub fn greet(&self, limit: Duration) -> Result<(), ClientError> {
        let mut metadata: *const MetadataC = ptr::null();
        // SAFETY: on success the document is ours and destroyed unread.
        unsafe {
            match rd_kafka_metadata(self.rk.as_ptr(), 0, ptr::null_mut(), &mut metadata, millis(limit)) {
                0 => rd_kafka_metadata_destroy(metadata),
                code => return Err(ClientError::of_code(code)),
            }
        }
        Ok(())
    }

    /// The cluster's id; `None` when no broker answered in time.
    pub fn cluster_id(&self, limit: Duration) -> Option<String> {
        // SAFETY: the returned string is ours and freed by librdkafka's allocator.
        unsafe {
            let id = NonNull::new(sys::rd_kafka_clusterid(self.rk.as_ptr(), millis(limit)))?;
            let text = text_of(id.as_ptr());
            sys::rd_kafka_mem_free(self.rk.as_ptr(), id.as_ptr().cast());
            Some(text)
        }
    }

    /// All topics that the cluster shows us, without ids.
    ///
    /// # Errors
    /// No broker answered in time.
    pub fn topics(&self, limit: Duration) -> Result<Vec<TopicDescription>, ClientError> {
        let mut metadata: *const MetadataC = ptr::null();
        // SAFETY: on success the document is ours until destroyed; its arrays have the lengths that stand beside them.
        unsafe {
            let code = rd_kafka_metadata(self.rk.as_ptr(), 1, ptr::null_mut(), &mut metadata, millis(limit));
            if code != 0 {
                return Err(ClientError::of_code(code));
            }
            let topics = slice_of((*metadata).topics, (*metadata).topic_count).iter().map(|topic| TopicDescription {
                name: text_of(topic.topic),
                id: TopicId::NONE,
                partitions: slice_of(topic.partitions, topic.partition_count)
                    .iter()
                    .map(|partition| (partition.id, (partition.leader >= 0).then_some(partition.leader)))
                    .collect(),
                error: (topic.err != 0).then(|| ClientError::of_code(topic.err)),
            });
            let topics = topics.collect();
            rd_kafka_metadata_destroy(metadata);
            Ok(topics)
        }
    }

    /// Ids and partitions of the named topics. A missing topic has the zero id and an error.
    ///
    /// # Errors
    /// No broker answered in time.
    pub fn describe(&self, names: &[&str], limit: Duration) -> Result<Vec<TopicDescription>, ClientError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let names = names.iter().map(|name| c_string(name)).collect::<Result<Vec<_>, _>>()?;
        let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        let options = self.admin_options(sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, limit)?;
        let queue = self.reply_queue()?;
        // SAFETY: names outlive the collection, which copies them; the collection is destroyed after the call that copies it.
        unsafe {
            let collection = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            sys::rd_kafka_DescribeTopics(self.rk.as_ptr(), collection, options.0.as_ptr(), queue.as_ptr());
            sys::rd_kafka_TopicCollection_destroy(collection);
        }
        let event = self.answer(&queue, limit)?;
        // SAFETY: results belong to the event, which outlives this block; everything is copied out.
        unsafe {
            let result = sys::rd_kafka_event_DescribeTopics_result(event.0.as_ptr());
            if result.is_null() {
                return Err(ClientError::local("an answer of another kind"));
            }
            let mut count = 0usize;
            let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
            Ok(std::slice::from_raw_parts(non_null(topics), count).iter().map(|topic| description(*topic)).collect())
        }
    }

    /// One end of the log of each partition.
    ///
    /// # Errors
    /// No broker answered in time; errors of single partitions stand in their answers.
    pub fn offsets(
        &self,
        asked: &[(&str, i32, OffsetSpec)],
        isolation: Isolation,
        limit: Duration,
    ) -> Result<Vec<OffsetAnswer>, ClientError> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let mut list = PartitionList::new(asked.len())?;
        for (topic, partition, spec) in asked {
            let offset = match spec {
                OffsetSpec::Earliest => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST as i64,
                OffsetSpec::Latest => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST as i64,
                OffsetSpec::Timestamp(ms) => (*ms).max(0),
            };
            list.add(topic, *partition, |entry| entry.offset = offset)?;
        }
        let options = self.admin_options(sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS, limit)?;
        let level = match isolation {
            Isolation::ReadUncommitted => sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED,
            Isolation::ReadCommitted => sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
        };
        // SAFETY: the options are ours; an error is owned by `take_error`.
        take_error(unsafe { sys::rd_kafka_AdminOptions_set_isolation_level(options.0.as_ptr(), level) })?;
        let queue = self.reply_queue()?;
        // SAFETY: the list is copied by the call.
        unsafe { rd_kafka_ListOffsets(self.rk.as_ptr(), list.as_ptr(), options.0.as_ptr(), queue.as_ptr()) };
        let event = self.answer(&queue, limit)?;
        // SAFETY: as in `describe`.
        unsafe {
            let result = sys::rd_kafka_event_ListOffsets_result(event.0.as_ptr());
            if result.is_null() {
                return Err(ClientError::local("an answer of another kind"));
            }
            let mut count = 0usize;
            let infos = sys::rd_kafka_ListOffsets_result_infos(result, &mut count);
            Ok(std::slice::from_raw_parts(non_null(infos), count)
                .iter()
                .map(|info| {
                    let entry = &*rd_kafka_ListOffsetsResultInfo_topic_partition(*info);
                    let result = match entry.err {
                        0 => Ok((entry.offset, rd_kafka_topic_partition_get_leader_epoch(entry))),
                        code => Err(ClientError::of_code(code)),
                    };
                    OffsetAnswer { topic: text_of(entry.topic), partition: entry.partition, result }
                })
                .collect())
        }
    }

    /// Commits offsets to the client's group. The call's code tells; codes of single partitions do not.
    ///
    /// # Errors
    /// The coordinator refused or did not answer in time.
    pub fn commit(&self, commits: &[GroupCommit], limit: Duration) -> Result<(), ClientError> {
        if commits.is_empty() {
            return Ok(());
        }
        let mut list = PartitionList::new(commits.len())?;
        for commit in commits {
            let metadata = c_string(&commit.metadata)?;
            list.add(&commit.topic, commit.partition, |entry| {
                entry.offset = commit.offset;
                set_epoch(entry, commit.epoch);
                // SAFETY: the list frees the metadata with C's `free`, so it is allocated by C; a null from `strdup` gets size 0.
                entry.metadata = unsafe { strdup(metadata.as_ptr()) }.cast();
                entry.metadata_size = if entry.metadata.is_null() { 0 } else { metadata.as_bytes().len() };
            })?;
        }
        let queue = self.reply_queue()?;
        // SAFETY: the list is copied; without a callback the answer becomes an event on our queue.
        let code = unsafe { rd_kafka_commit_queue(self.rk.as_ptr(), list.as_ptr(), queue.as_ptr(), None, ptr::null_mut()) };
        if code != 0 {
            return Err(ClientError::of_code(code));
        }
        self.answer(&queue, limit).map(|_event| ())
    }

    /// How long `Drop` waits for the consumer to close.
    pub fn set_close_limit(&mut self, limit: Duration) {
        self.close_limit = limit;
    }

    fn reply_queue(&self) -> Result<Queue, ClientError> {
        // SAFETY: the client is alive; the new queue is ours.
        NonNull::new(unsafe { sys::rd_kafka_queue_new(self.rk.as_ptr()) })
            .map(Queue)
            .ok_or_else(|| ClientError::local("no memory for a queue"))
    }

    /// Waits for one answer. librdkafka keeps the time limit itself; ours only guards against an answer that never comes.
    fn answer(&self, queue: &Queue, limit: Duration) -> Result<Event, ClientError> {
        let event = queue.poll(limit + Duration::from_millis(500)).ok_or_else(|| ClientError::of_code(code::TIMED_OUT))?;
        event.check()?;
        Ok(event)
    }

    fn admin_options(&self, operation: sys::rd_kafka_admin_op_t, limit: Duration) -> Result<AdminOptions, ClientError> {
        let mut text = [0 as c_char; ERROR_TEXT_BYTES];
        // SAFETY: the client is alive; the options are ours from here on.
        unsafe {
            let options = NonNull::new(sys::rd_kafka_AdminOptions_new(self.rk.as_ptr(), operation))
                .map(AdminOptions)
                .ok_or_else(|| ClientError::local("no memory for options"))?;
            match rd_kafka_AdminOptions_set_request_timeout(options.0.as_ptr(), millis(limit).max(1), text.as_mut_ptr(), text.len()) {
                0 => Ok(options),
                code => Err(ClientError { code, text: text_of(text.as_ptr()) }),
            }
        }
    }

    fn close(&self) {
        let Some(queue) = &self.queue else { return };
        // SAFETY: the client is alive; closing serves its queue until it says that it is closed. Messages that come out are freed by the batch.
        if take_error(unsafe { sys::rd_kafka_consumer_close_queue(self.rk.as_ptr(), queue.as_ptr()) }).is_err() {
            return;
        }
        let deadline = Instant::now() + self.close_limit;
        let mut batch = Batch::new();
        // SAFETY: as above.
        while unsafe { sys::rd_kafka_consumer_closed(self.rk.as_ptr()) } == 0 && Instant::now() < deadline {
            self.drain(&mut batch, Duration::from_millis(20));
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
        self.queue = None;
        // SAFETY: all objects made from the client are gone (queues, lists and events are dropped before it by their scopes); destroyed once. The
        // inbox, which callbacks use until this returns, drops after it.
        unsafe { sys::rd_kafka_destroy_flags(self.rk.as_ptr(), DESTROY_WITHOUT_CLOSE) };
    }
}

/// # Safety
/// `start` points to `count` elements, or `count` is 0.
unsafe fn slice_of<'a, T>(start: *const T, count: c_int) -> &'a [T] {
    match usize::try_from(count) {
        // SAFETY: promised by the caller.
        Ok(count) if count > 0 && !start.is_null() => unsafe { std::slice::from_raw_parts(start, count) },
        _ => &[],
    }
}

/// An empty array may come as null, which a slice must not be made of.
fn non_null<T>(start: *mut *const T) -> *const *const T {
    if start.is_null() { NonNull::dangling().as_ptr() } else { start }
}

/// # Safety
/// `topic` is an element of a DescribeTopics result that is alive.
unsafe fn description(topic: *const sys::rd_kafka_TopicDescription_t) -> TopicDescription {
    // SAFETY: promised by the caller; all parts belong to the result and are copied.
    unsafe {
        let mut count = 0usize;
        let partitions = sys::rd_kafka_TopicDescription_partitions(topic, &mut count);
        let partitions = std::slice::from_raw_parts(non_null(partitions), count)
            .iter()
            .map(|partition| {
                let leader = sys::rd_kafka_TopicPartitionInfo_leader(*partition);
                let leader = (!leader.is_null()).then(|| sys::rd_kafka_Node_id(leader)).filter(|id| *id >= 0);
                (sys::rd_kafka_TopicPartitionInfo_partition(*partition), leader)
            })
            .collect();
        let error = sys::rd_kafka_TopicDescription_error(topic);
        let error = if error.is_null() || rd_kafka_error_code(error) == 0 {
            None
        } else {
            Some(ClientError { code: rd_kafka_error_code(error), text: text_of(sys::rd_kafka_error_string(error)) })
        };
        TopicDescription {
            name: text_of(sys::rd_kafka_TopicDescription_name(topic)),
            id: uuid(sys::rd_kafka_TopicDescription_topic_id(topic)),
            partitions,
            error,
        }
    }
}

/// # Safety
/// `id` is null or valid.
unsafe fn uuid(id: *const sys::rd_kafka_Uuid_t) -> TopicId {
    if id.is_null() {
        return TopicId::NONE;
    }
    let mut bytes = [0u8; 16];
    // SAFETY: promised by the caller.
    let (high, low) = unsafe { (sys::rd_kafka_Uuid_most_significant_bits(id), sys::rd_kafka_Uuid_least_significant_bits(id)) };
    bytes[..8].copy_from_slice(&high.to_be_bytes());
    bytes[8..].copy_from_slice(&low.to_be_bytes());
    TopicId(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fence_line_is_read_and_other_lines_are_not() {
        let zero = "AAAAAAAAAAAAAAAAAAAAAA";
        let one = "AAAAAAAAAAAAAAAAAAAAAQ";
        let cases = [
            (format!("[thrd:main]: Topic orders changed id from {zero} to {one}"), Some(("orders", 0u8, 1u8))),
            (format!("Topic a changed id from b changed id from {one} to {zero}"), Some(("a changed id from b", 1, 0))),
            ("Topic orders changed id from short to shorter".to_owned(), None),
            ("Topic orders partition count changed from 1 to 2".to_owned(), None),
        ];
        for (line, expected) in cases {
            let seen = id_change(&line);
            let seen = seen.as_ref().map(|change| (change.topic.as_str(), change.from.0[15], change.to.0[15]));
            assert_eq!(seen, expected, "{line}");
        }
    }

    #[test]
    fn a_refused_setting_is_an_error_with_the_clients_text() {
        let settings = [("no.such.setting".to_owned(), "1".to_owned())];
        let error = Client::new(&settings, Arc::new(Inbox::default())).err().map(|error| error.text).unwrap_or_default();
        assert!(error.contains("no.such.setting"), "{error}");
    }
}
