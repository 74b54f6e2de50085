//! Numbers that the apply side publishes and anybody may read without asking it: watermarks, phase, the registry in force.

use super::fill_board::FillBoard;
use super::floods::Floods;
use super::incidents::Incidents;
use crate::pipeline::Registry;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use streamgauge_api::ApiError;

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Opening files.
    Starting = 0,
    /// Reading snapshot and WAL.
    Recovering = 1,
    /// Serving, but the sources have not reached their ends yet and the config waits for that.
    CatchingUp = 2,
    /// Serving.
    Ready = 3,
    /// Stopping.
    Draining = 4,
    /// The WAL failed for good.
    Failed = 5,
}

impl Phase {
    /// The name in probes and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Recovering => "recovering",
            Self::CatchingUp => "catching_up",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Failed => "failed",
        }
    }
}

/// The published numbers.
#[derive(Debug, Default)]
pub struct Facts {
    phase: AtomicU8,
    /// Last applied LSN.
    pub applied_lsn: AtomicU64,
    /// Last synced LSN.
    pub durable_lsn: AtomicU64,
    /// LSN of the newest verified snapshot, 0 = none.
    pub snapshot_lsn: AtomicU64,
    /// LSN of the oldest snapshot that is kept; 0 while unknown.
    pub snapshot_oldest_lsn: AtomicU64,
    /// When the newest verified snapshot was taken, microseconds; 0 = none.
    pub snapshot_us: AtomicI64,
    /// Its size in bytes.
    pub snapshot_bytes: AtomicU64,
    /// Version of the registry in force.
    pub registry_version: AtomicU64,
    registry: RwLock<Arc<Registry>>,
    /// Rows that wait for the seat.
    pub queued_rows: AtomicU64,
    /// Their bytes.
    pub queued_bytes: AtomicU64,
    /// When the apply thread last stepped or found nothing to do, microseconds of boot time; 0 = not yet.
    pub heartbeat_us: AtomicI64,
    /// The disk took no more frames when it was last tried.
    pub disk_full: AtomicBool,
    /// The log had no room yet for what the config changes: the definitions are as they were, and sources wait.
    pub undeclared: AtomicBool,
    /// The last rows came so near to the memory limit that new keys wait or are refused.
    pub memory_full: AtomicBool,
    /// Rows wait for memory, or some were refused for it and there is no room since.
    pub kept_out: AtomicBool,
    /// Bytes of all tables.
    pub table_bytes: AtomicU64,
    /// Replay: bytes read and bytes in all.
    pub replay_done: AtomicU64,
    /// Bytes that replay has to read.
    pub replay_total: AtomicU64,
    /// Rows replayed at this start.
    pub replayed_rows: AtomicU64,
    /// Snapshots that were tried and not taken.
    pub snapshots_failed: AtomicU64,
    snapshot_failure: Mutex<Option<ApiError>>,
    bad_rows: Mutex<BTreeMap<String, u64>>,
    /// Open incidents of tables, sources and the server.
    pub incidents: Incidents,
    /// Sources of which most records are bad.
    pub floods: Floods,
    /// How far tables are that are being filled.
    pub fills: FillBoard,
}

impl Facts {
    /// Remembers why a snapshot was not taken.
    pub(crate) fn snapshot_failed(&self, error: ApiError) {
        *self.snapshot_failure.lock() = Some(error);
        self.snapshots_failed.fetch_add(1, Ordering::AcqRel);
    }

    /// Why the last snapshot that failed was not taken.
    pub(crate) fn snapshot_failure(&self) -> Option<ApiError> {
        self.snapshot_failure.lock().clone()
    }

    /// The phase.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Recovering,
            2 => Phase::CatchingUp,
            3 => Phase::Ready,
            4 => Phase::Draining,
            _ => Phase::Failed,
        }
    }

    /// Moves to another phase.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Whether requests are served.
    pub fn recovered(&self) -> bool {
        !matches!(self.phase(), Phase::Starting | Phase::Recovering)
    }

    /// A record of this event could not become a row.
    pub(crate) fn count_bad(&self, event: &str) {
        let mut bad = self.bad_rows.lock();
        match bad.get_mut(event) {
            Some(count) => *count += 1,
            None => {
                bad.insert(event.to_owned(), 1);
            }
        }
    }

    /// Bad records by event, since this process started.
    pub(crate) fn bad_rows(&self) -> BTreeMap<String, u64> {
        self.bad_rows.lock().clone()
    }

    /// Whether nothing more will become durable: the server is stopping, or failed.
    pub fn is_stopping(&self) -> bool {
        matches!(self.phase(), Phase::Draining | Phase::Failed)
    }

    /// The registry in force.
    pub fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry.read())
    }

    /// Publishes another registry.
    pub(crate) fn set_registry(&self, registry: &Arc<Registry>) {
        self.incidents.keep_tables(|name| registry.tables.contains_key(name));
        *self.registry.write() = Arc::clone(registry);
        self.registry_version.store(registry.version, Ordering::Release);
    }
}
