//! How long ago, how often, whether ever: what the times of a key's rows say.
//!
//! All but one read one accumulator, [`Seen`], so that any number of them takes 24 bytes of a key
//! for each `where`. Times are row times; a row that is ahead of the read is `0 ms` ago.

mod age;
mod first_seen;
mod first_seen_in_window;
mod has_seen;
mod last_seen;
mod newest_times;
mod time_since;
mod time_since_last_n;

pub(super) use age::Age;
pub(super) use first_seen::FirstSeen;
pub(super) use first_seen_in_window::FirstSeenInWindow;
pub(super) use has_seen::HasSeen;
pub(super) use last_seen::LastSeen;
pub(super) use time_since::TimeSince;
pub(super) use time_since_last_n::TimeSinceLastN;

use super::seen::{Seen, Times};
use super::{Accuracy, Compiled, Family, FieldRule, Output, Reads, Signature, Slot, WindowRule};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::{Code, Value};

/// A signature of the family: no field, no window.
const fn signature(name: &'static str, asks: &'static str, help: &'static str, output: FieldType) -> Signature {
    Signature {
        name,
        aliases: &[],
        family: Family::Recency,
        asks,
        help,
        field: FieldRule::None,
        reads: Reads::Any,
        window: WindowRule::Refused(Code::AggregationInvalidWindow),
        params: &[],
        lifetime_bound: None,
        grown: "",
        output: Output::Is(output),
    }
}

/// A feature that reads [`Seen`] at a time.
fn compiled(value: impl Fn(Seen, i64) -> Value + Send + Sync + 'static) -> Compiled {
    let read = move |slots: &[Slot<'_>], now_us: i64| value(Seen::of(super::only(slots).core), now_us);
    let [mut compiled] = [Compiled::of_one(Arc::new(Times), |_| Value::Null, |_| Accuracy::Exact)];
    compiled.value = Box::new(read);
    compiled
}

/// Milliseconds from one time to another, both in microseconds; never below 0.
fn ms_between(from_us: i64, to_us: i64) -> Value {
    Value::I64(to_us.div_euclid(1000).saturating_sub(from_us.div_euclid(1000)).max(0))
}

/// A row time as readers see it: milliseconds.
fn datetime(time_us: i64) -> Value {
    Value::Datetime(time_us.div_euclid(1000))
}
