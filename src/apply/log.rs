//! The log as operators see it: which frames there are from an LSN on, and what each is about.
//!
//! A page is read through a tail reader of its own ([`crate::wal::TailReader`]), so that it begins
//! anywhere, ends at what is durable, and may wait there for the next frame. Rows are counted by
//! event and not shown. Names are those of the frame's time ([`super::names`]): the first page of a
//! reader reads its segment from the head; the names that it ended with are kept for the next one.
//! Everything happens on the caller's thread; the seat is not asked.

use super::names::Names;
use super::operator::EngineControl;
use crate::storage::{Disk, Storage};
use crate::wal::WalHandle;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use streamgauge_api::control::{LogFrame, LogPage};
use streamgauge_api::{ApiError, Code};

/// Whose cursor it is in `/status`.
const READER: &str = "admin";
/// Positions of one page: the page ends with the frame that passes this.
const POSITIONS_MAX: usize = 10_000;
/// Readers whose names are kept between two pages.
const KEPT_MAX: usize = 8;

/// Names as of the LSNs where pages ended.
#[derive(Debug, Default)]
pub(super) struct KeptNames(Mutex<BTreeMap<u64, Names>>);

impl KeptNames {
    /// The names as of `lsn`, from the head of its segment on if no page ended there.
    fn take(&self, wal: &WalHandle<Disk>, lsn: u64) -> Result<Names, ApiError> {
        if let Some(names) = self.0.lock().remove(&lsn) {
            return Ok(names);
        }
        names_at(wal, lsn)
    }

    fn keep(&self, lsn: u64, names: Names) {
        let mut kept = self.0.lock();
        kept.insert(lsn, names);
        while kept.len() > KEPT_MAX {
            kept.pop_first();
        }
    }
}

/// The names as of `lsn`: what the head of its segment says, and the frames in front of it.
///
/// # Errors
/// As a reader of the log from there on.
pub(crate) fn names_at<S: Storage>(wal: &WalHandle<S>, lsn: u64) -> Result<Names, ApiError> {
    let head = wal.head_before(lsn)?;
    let unreadable = |reason| ApiError::new(Code::WalDamaged, format!("the head of the segment at LSN {}: {reason}", head.first_lsn));
    let mut names = Names::of_head(&head.text).map_err(unreadable)?;
    let mut reader = wal.tail_behind(READER, head.first_lsn)?;
    while reader.next_lsn() < lsn
        && let Some(shared) = reader.next()?
    {
        let frame = shared.frame();
        // The frame that holds it is passed when it is shown.
        if frame.last_lsn() < lsn {
            names.pass(&frame);
        }
    }
    Ok(names)
}

impl EngineControl {
    /// See [`streamgauge_api::Control::log`].
    pub(super) fn log_page(&self, from_lsn: Option<u64>, limit: usize, wait: Duration) -> Result<LogPage, ApiError> {
        let recovering = || ApiError::new(Code::Recovering, "state is being rebuilt from snapshot and WAL");
        let wal = self.wal.get().ok_or_else(recovering)?;
        let from_lsn = from_lsn.unwrap_or_else(|| wal.durable_lsn() + 1);
        let mut reader = wal.tail(READER, from_lsn)?;
        let mut names = self.names.take(wal, from_lsn)?;
        let deadline = Instant::now() + wait;
        let (mut frames, mut positions) = (Vec::new(), 0);
        while frames.len() < limit && positions < POSITIONS_MAX {
            let Some(shared) = reader.next()? else {
                if frames.is_empty() && reader.wait(deadline.saturating_duration_since(Instant::now()))? {
                    continue;
                }
                break;
            };
            let frame = shared.frame();
            let shown = LogFrame {
                first_lsn: frame.first_lsn,
                last_lsn: frame.last_lsn(),
                kind: frame.kind.name().to_owned(),
                at_us: frame.now_us,
                bytes: shared.bytes() as u64,
                rows: names.rows(&frame),
                positions: names.positions(&frame),
            };
            names.pass(&frame);
            positions += shown.positions.len();
            frames.push(shown);
        }
        let next_lsn = reader.next_lsn();
        self.names.keep(next_lsn, names);
        Ok(LogPage {
            log_id: format!("{:032x}", wal.log_id().unwrap_or_default()),
            earliest_lsn: wal.earliest_lsn(),
            durable_lsn: wal.durable_lsn(),
            frames,
            next_lsn,
        })
    }
}
