//! Subscriptions: rows of events as they become durable, transaction by transaction.
//!
//! The control plane asks the engine's side for one and carries its messages to a client; it knows neither rows nor the
//! log. Ids are LSNs, so that a client goes on where it was, over restarts of either side.

use crate::ApiError;
use std::time::Duration;

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With what becomes durable from now on.
    Live,
    /// With the first row that the log still has.
    Earliest,
    /// With this LSN.
    Lsn(u64),
    /// With the first frame at or after this time, microseconds since the Unix epoch.
    Time(i64),
}

/// What a client wants to see.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscribeRequest {
    /// Names of events; at least one.
    pub events: Vec<String>,
    /// Where it begins.
    pub from: From,
    /// The log that `from` is an LSN of, if the client knows.
    pub log_id: Option<String>,
    /// Which rows: an expression over the event's fields, as in a table's `where`.
    pub filter: Option<String>,
    /// Which fields of them; all when absent.
    pub fields: Option<Vec<String>>,
}

/// What a subscriber is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Rows of one transaction, or a part of them: JSON. The last part has the LSN of the transaction's last row.
    Rows {
        /// Its id; none for a part that others follow.
        lsn: Option<u64>,
        /// The text.
        json: String,
    },
    /// Everything up to here was looked at.
    Position(u64),
    /// Rows from here on are of another version of an event: JSON.
    Schema(String),
}

/// One subscription. Dropping it ends it.
pub trait Subscription: Send {
    /// What is said first, JSON: which log, what of it is there, where the subscription begins.
    fn hello(&self) -> String;

    /// The next message; none when there is none for that long. Blocks.
    ///
    /// # Errors
    /// Why the subscription ends; `last_lsn` among its members says from where another one goes on.
    fn next(&mut self, wait: Duration) -> Result<Option<Message>, ApiError>;
}
