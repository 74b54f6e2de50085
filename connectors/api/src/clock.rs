//! Wall-clock time as an argument: the engine never asks the operating system itself.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where microseconds since the Unix epoch come from.
pub trait Clock: Send + Sync {
    /// Microseconds since 1970-01-01T00:00:00Z. The host's clock may go backwards and jump when it is set; the engine's,
    /// which connectors are given, does neither.
    fn now_us(&self) -> i64;

    /// Microseconds of a clock that nobody can set and that counts a suspended machine; where it begins means nothing.
    fn boot_us(&self) -> i64;
}

/// The host's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_us(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
        }
    }

    fn boot_us(&self) -> i64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1000)
    }
}

/// A clock that tests set by hand.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall_us: AtomicI64,
    boot_us: AtomicI64,
}

impl ManualClock {
    /// A clock that stands at `now_us`.
    pub fn at(now_us: i64) -> Self {
        Self { wall_us: AtomicI64::new(now_us), boot_us: AtomicI64::new(0) }
    }

    /// Moves the clock to `now_us`. Forwards that much time passes; backwards it is set.
    pub fn set(&self, now_us: i64) {
        let before_us = self.wall_us.swap(now_us, Ordering::SeqCst);
        self.boot_us.fetch_add(now_us.saturating_sub(before_us).max(0), Ordering::SeqCst);
    }

    /// Somebody sets the wall clock by this much; no time passes.
    pub fn jump(&self, by_us: i64) {
        self.wall_us.fetch_add(by_us, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_us(&self) -> i64 {
        self.wall_us.load(Ordering::SeqCst)
    }

    fn boot_us(&self) -> i64 {
        self.boot_us.load(Ordering::SeqCst)
    }
}
