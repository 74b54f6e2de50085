//! Subscriptions to events: rows in the transaction that brought them, from any LSN of the log on.
//!
//! ```text
//! log -> TailReader (ring or file, durable frames only) -> names of that place -> filter -> rows as JSON -> one message
//! ```
//! A subscriber tails the log on a thread of its own and never meets the seat: apply neither waits for it nor knows of
//! it. A frame of the log is a transaction: a push, a batch, or a slice of a Kafka poll, and pushes that came together.
//! Events keep nothing: what a subscriber sees was folded into tables once and is in the log, nowhere else.
//!
//! A slow subscriber is not waited for: its reader falls back from the ring to the files and comes back by itself; when
//! the log is given back behind it, it is told (`position_expired`). Its memory is a frame as it was read, decoded, and the
//! buffer that it was read through.
//!
//! `rows` turns rows into text.

mod rows;
#[cfg(test)]
mod tests;

use crate::apply::names::Names;
use crate::apply::{Facts, codec, names_at};
use crate::state::Content;
use crate::storage::Storage;
use crate::wal::{FrameKind, TailReader, WalError, WalHandle};
use rows::{Cut, Views};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use streamgauge_api::subscribe::{From, Message, SubscribeRequest, Subscription};
use streamgauge_api::{ApiError, Code};

/// Whose cursor it is in `/status`.
const READER: &str = "subscriber";
/// A subscriber whose filter passes nothing hears so often how far it was looked.
const POSITION_EVERY: Duration = Duration::from_secs(5);
/// How long a live subscriber waits for a sync before it begins.
const SYNCED_WITHIN: Duration = Duration::from_secs(5);
/// How long a wait lasts until a stop of the server is seen.
const STEP: Duration = Duration::from_millis(250);

/// See the module's head.
pub struct EventSubscription<S: Storage> {
    reader: TailReader<S>,
    facts: Arc<Facts>,
    log_id: String,
    earliest_lsn: u64,
    durable_lsn: u64,
    from_lsn: u64,
    names: Names,
    views: Views,
    /// Rows of a frame that are told part by part.
    cut: Option<Cut>,
    /// The last LSN that was looked at, and the last that was told.
    passed_lsn: u64,
    told_lsn: u64,
    /// None before the first.
    told: Option<Instant>,
    /// First LSNs of frames that are left out, ascending.
    skipped: Arc<[u64]>,
}

impl<S: Storage> EventSubscription<S> {
    /// Begins one. Frames at `skipped` LSNs were left out of the tables by an operator, and are of this too.
    ///
    /// # Errors
    /// `subscribe_all_excludes_events`, `event_not_found`, `invalid_expression`, `log_changed`, `position_expired`, `position_ahead`,
    /// `overloaded` when the log is not synced in time, `not_available` at level `memory`.
    pub fn begin(wal: &WalHandle<S>, facts: &Arc<Facts>, skipped: &Arc<[u64]>, request: &SubscribeRequest) -> Result<Self, ApiError> {
        let log_id = format!("{:032x}", wal.log_id().unwrap_or_default());
        if let Some(known) = request.log_id.as_ref().filter(|known| **known != log_id) {
            let reason = format!("the server writes log {log_id}, and the LSN is of log {known}");
            return Err(ApiError::new(Code::LogChanged, reason));
        }
        // Names as they are now: what is asked for has to be there.
        Views::compile(request, &facts.registry())?;
        let from_lsn = match request.from {
            From::Live => live(wal, facts)?,
            From::Earliest => wal.earliest_lsn(),
            From::Lsn(lsn) => lsn,
            From::Time(us) => first_at(wal, facts, us)?,
        };
        let reader = wal.tail(READER, from_lsn)?;
        let names = names_at(wal, from_lsn)?;
        // An event that was not declared yet there has no rows until it is.
        let views = Views::of(request, names.registry());
        Ok(Self {
            reader,
            facts: Arc::clone(facts),
            log_id,
            earliest_lsn: wal.earliest_lsn(),
            durable_lsn: wal.durable_lsn(),
            from_lsn,
            names,
            views,
            cut: None,
            passed_lsn: from_lsn - 1,
            // Should nothing come, a live subscriber that comes back goes on here.
            told_lsn: from_lsn.saturating_sub(if request.from == From::Live { 2 } else { 1 }),
            skipped: Arc::clone(skipped),
            told: None,
        })
    }

    /// Looks at the next frame; false when there is none.
    fn look(&mut self) -> Result<bool, ApiError> {
        let Some(shared) = self.reader.next()? else { return Ok(false) };
        let frame = shared.frame();
        assert!(frame.last_lsn() > self.passed_lsn, "frames come in the order of their LSNs");
        if frame.kind == FrameKind::ROWS && self.skipped.binary_search(&frame.first_lsn).is_ok() {
            tracing::debug!(lsn = frame.first_lsn, "a frame that an operator left out is left out here");
        } else if frame.kind == FrameKind::ROWS {
            let lost =
                |error: &dyn std::fmt::Display| ApiError::new(Code::WalDamaged, format!("the frame at LSN {}: {error}", frame.first_lsn));
            let Content::Rows(content) = codec::decode(&frame).map_err(|error| lost(&error))? else {
                unreachable!("a frame of rows holds rows")
            };
            self.cut = self.views.cut(content.batches, frame.first_lsn, self.from_lsn);
        } else {
            let before = Arc::clone(self.names.registry());
            self.names.pass(&frame);
            if !Arc::ptr_eq(&before, self.names.registry()) {
                self.views.follow(self.names.registry())?;
            }
        }
        self.passed_lsn = frame.last_lsn();
        Ok(true)
    }

    fn say(&mut self, message: Message) -> Message {
        if let Message::Position(lsn) | Message::Rows { lsn: Some(lsn), .. } = message {
            assert!(lsn > self.told_lsn, "ids ascend: {lsn} after {}", self.told_lsn);
            self.told_lsn = lsn;
        }
        self.told = Some(Instant::now());
        message
    }

    fn go_on(&mut self, wait: Duration) -> Result<Option<Message>, ApiError> {
        let until = Instant::now() + wait;
        loop {
            if let Some(schema) = self.views.take_change() {
                return Ok(Some(self.say(Message::Schema(schema))));
            }
            if let Some(cut) = &mut self.cut {
                let (json, is_last) = cut.next_part(&self.views);
                if is_last {
                    self.cut = None;
                }
                let lsn = is_last.then_some(self.passed_lsn);
                return Ok(Some(self.say(Message::Rows { lsn, json })));
            }
            if self.facts.is_stopping() {
                return Err(ApiError::new(Code::ServerStopping, "the server is stopping"));
            }
            if self.passed_lsn > self.told_lsn && self.passed_lsn > 0 && self.told.is_none_or(|told| told.elapsed() >= POSITION_EVERY) {
                return Ok(Some(self.say(Message::Position(self.passed_lsn))));
            }
            if self.look()? {
                continue;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.reader.wait(left.min(STEP)).map_err(|_: WalError| ApiError::new(Code::WalUnavailable, "the write-ahead log failed"))?;
        }
    }
}

impl<S: Storage + 'static> Subscription for EventSubscription<S> {
    fn hello(&self) -> String {
        let Self { log_id, earliest_lsn, durable_lsn, from_lsn, .. } = self;
        json!({
            "log_id": log_id, "earliest_lsn": earliest_lsn, "durable_lsn": durable_lsn, "from": from_lsn, "events": self.views.versions()
        })
        .to_string()
    }

    fn next(&mut self, wait: Duration) -> Result<Option<Message>, ApiError> {
        self.go_on(wait).map_err(|error| error.with("last_lsn", self.told_lsn.into()))
    }
}

/// Where live begins: behind all that is applied. What was acknowledged before is not live, and nothing is told that a crash
/// may take back, so that the log is synced up to there first.
fn live<S: Storage>(wal: &WalHandle<S>, facts: &Facts) -> Result<u64, ApiError> {
    let applied_lsn = facts.applied_lsn.load(Ordering::Acquire);
    let failed = |_: WalError| ApiError::new(Code::WalUnavailable, "the write-ahead log failed");
    if !wal.wait_durable(applied_lsn, SYNCED_WITHIN).map_err(failed)? {
        let reason = format!("the log was not synced up to LSN {applied_lsn} within {} s", SYNCED_WITHIN.as_secs());
        return Err(ApiError::new(Code::Overloaded, reason));
    }
    Ok(wal.durable_lsn().max(applied_lsn) + 1)
}

/// The first LSN of a frame that was written at or after this time.
fn first_at<S: Storage>(wal: &WalHandle<S>, facts: &Facts, us: i64) -> Result<u64, ApiError> {
    let mut reader = wal.tail(READER, wal.earliest_lsn())?;
    while let Some(shared) = reader.next()? {
        let frame = shared.frame();
        if frame.now_us >= us {
            return Ok(frame.first_lsn);
        }
        if facts.is_stopping() {
            return Err(ApiError::new(Code::ServerStopping, "the server is stopping"));
        }
    }
    Ok(reader.next_lsn())
}
