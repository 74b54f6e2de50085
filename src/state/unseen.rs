//! Rows that came before a feature did: how far an event has come, and what a slab never saw of it.
//!
//! A feature that begins while its event has rows already counts from there on. What it answers is then not what a
//! recount of all rows would: of a time before it began it knows nothing (`as_of` is refused), and a window that
//! reaches back to rows it never saw may lack some, so that nothing exact is said of it; a lifetime reaches back for
//! ever. Two times are kept, because a fast clock may have brought a row far ahead of all others: such a row makes a
//! window uncertain for as long as it may be inside, but is no reason to refuse what everybody else's time allows.
//!
//! Kept by the state per event, row times being read once per slice, and by each slab as it stood when the slab
//! began; both are in images.

use crate::row::Rows;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How far rows had come in time, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unseen {
    /// The newest row time, less what the row was ahead of its clock: from here on a read of the past is answered.
    pub(crate) newest_us: i64,
    /// The newest row time of all: a window that begins here or later lacks none of them.
    pub(crate) latest_us: i64,
}

/// What was applied of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Applied {
    pub(crate) rows: u64,
    /// Of these rows; without any, the least times.
    pub(crate) reached: Unseen,
    /// Of those of them that were pushed, which no source has to read again; none without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pushed: Option<Unseen>,
}

impl Default for Applied {
    fn default() -> Self {
        Self { rows: 0, reached: Unseen { newest_us: i64::MIN, latest_us: i64::MIN }, pushed: None }
    }
}

impl Applied {
    /// Counts some rows of a batch.
    pub(crate) fn take(&mut self, batch: &Rows, rows: Range<usize>) {
        let came = rows.len();
        self.rows += came as u64;
        let Unseen { mut newest_us, mut latest_us } = self.reached;
        for row in rows {
            let time_us = batch.time_us(row);
            latest_us = latest_us.max(time_us);
            newest_us = newest_us.max(time_us.saturating_sub(batch.ahead_us(row)));
        }
        debug_assert!(newest_us <= latest_us, "a row is ahead of its clock or is not");
        self.reached = Unseen { newest_us, latest_us };
        // A batch of pushes names no partition; all that came until then is no nearer.
        if came > 0 && batch.runs().next().is_none() {
            self.pushed = Some(self.reached);
        }
    }
}

impl Unseen {
    /// Whether a window that ends at `now_us` may hold rows that came before; a lifetime may always.
    pub(crate) fn may_be_in(self, window_us: Option<i64>, now_us: i64) -> bool {
        window_us.is_none_or(|window_us| now_us.saturating_sub(window_us) < self.latest_us)
    }
}
