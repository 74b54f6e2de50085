//! The history thread: sleeps while nothing is to be filled, else has one run at a time.
//!
//! Fills of one event that begin at one time share a run: one decode for all of them. A fill that an operator holds
//! waits; one whose run ended early is begun again after a while. What keeps the log behind a seal is let go when
//! every snapshot that is kept is past the flip, and the files with it.

use super::run::{Ended, Left, Run, wanted};
use super::seal;
use crate::apply::{Facts, FillProgress, Seat, SourceSetup};
use crate::state::{Fill, Fills, Flipped};
use crate::storage::Disk;
use crate::wal::{Cursor, Hold, LogIdentity, WalHandle};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;
use streamgauge_api::Clock;
use streamgauge_api::past::{Past, PastFrom};
use streamgauge_api::source::SourceBoard;

/// How long a run that could not go on waits before it is begun again; it doubles with each that was in vain,
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// up to this.
const AGAIN_SELDOM: Duration = Duration::from_secs(60);
/// How often what is kept is looked at while something is.
const KEPT_EVERY: Duration = Duration::from_secs(1);
/// Without anything to do it looks this seldom.
const IDLE: Duration = Duration::from_secs(3600);

/// What the thread works with.
pub struct HistoryParts {
    /// Sources read a second time.
    pub past: Arc<dyn Past>,
    /// Their engine side, by the same names.
    pub setups: Vec<SourceSetup>,
    /// The log.
    pub handle: WalHandle<Disk>,
    /// Whose log it is.
    pub log: LogIdentity,
    /// Where sealed files are.
    pub folder: PathBuf,
    /// Published numbers.
    pub facts: Arc<Facts>,
    /// Partitions.
    pub board: Arc<SourceBoard>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// The running thread.
pub struct Historian {
    facts: Arc<Facts>,
    thread: JoinHandle<()>,
}

impl Historian {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the operating system gives none.
    pub fn spawn(parts: HistoryParts, pins: Pins, seat: &Arc<Seat>) -> std::io::Result<Self> {
        let (facts, seat) = (Arc::clone(&parts.facts), Arc::downgrade(seat));
        let thread = std::thread::Builder::new().name("history".into()).spawn(move || work(&parts, &seat, pins.0))?;
        Ok(Self { facts, thread })
    }

    /// Ends it; the server is stopping already. False when it does not end in time.
    pub fn stop(self, limit: Duration) -> bool {
        self.facts.fills.ring();
        let deadline = std::time::Instant::now() + limit;
        while !self.thread.is_finished() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.thread.is_finished() && self.thread.join().is_ok()
    }
}

/// The log behind the seals of flips that a kept snapshot may lie in front of.
pub struct Pins(Vec<Left>);

impl Pins {
    /// Of a state that was recovered, before anybody lets go of the log. Where it is gone already, every snapshot that
    /// is kept is past the flip.
    pub fn of(handle: &WalHandle<Disk>, fills: &Fills) -> Self {
        let held = |lsn: u64| -> Option<Cursor<Disk>> { handle.cursor("history", lsn, Hold::Firm).ok() };
        let pin = |flip: &Flipped| Some(Left { flip_lsn: flip.lsn, cursor: held(flip.seal.through_lsn + 1)? });
        Self(fills.flips.iter().filter_map(pin).collect())
    }
}

fn work(parts: &HistoryParts, seat: &Weak<Seat>, mut kept: Vec<Left>) {
    let mut seen = 0;
    // What a process before left open.
    let mut again = true;
    let (mut vain, mut told) = (0u32, String::new());
    // The fill that was tried last and could not go on.
    let mut passed_over = 0;
    loop {
        let Some(running) = seat.upgrade() else { return };
        if running.is_stopping() || parts.facts.is_stopping() {
            return;
        }
        let changes = parts.facts.fills.changes();
        let fills = running.look(|engine| engine.state().fills().clone());
        let_go(parts, &fills, &mut kept);
        if changes != seen {
            vain = 0;
        }
        let next = if changes != seen || again { choose(parts, &running, &fills, passed_over) } else { None };
        seen = changes;
        again = false;
        if let Some((open, from)) = next {
            let ids: Vec<u64> = open.iter().map(|(id, _)| *id).collect();
            tracing::info!(kind = "backfill.begun", fills = ?ids, "history is read");
            match Run::begin(parts, &running, open, from).and_then(Run::run) {
                Ok(left) => {
                    tracing::info!(kind = "backfill.done", fills = ?ids, lsn = left.flip_lsn, "tables are whole and in force");
                    ids.iter().for_each(|id| parts.facts.fills.forget(*id));
                    kept.push(left);
                    passed_over = 0;
                    // Until a snapshot is past it, a start reads the file and the log behind it again.
                    if let Err(error) = running.with(|engine| engine.snapshot()) {
                        tracing::debug!(%error, "no snapshot is begun behind the flip; the next one that is due will be");
                    }
                    parts.facts.fills.ring();
                    continue;
                }
                Err(Ended::Stopping) => return,
                Err(Ended::Changed) => {
                    ids.iter().for_each(|id| parts.facts.fills.forget(*id));
                    again = true;
                    if parts.facts.fills.changes() != changes {
                        continue;
                    }
                    // Nothing was said of fills: what changed is still so, and is looked at again in a while.
                    vain = vain.saturating_add(1);
                }
                Err(Ended::Waits(cause)) => {
                    // Others have their turn before this one is tried again.
                    passed_over = ids.iter().copied().min().unwrap_or(0);
                    if told != cause {
                        tracing::warn!(kind = "backfill.waits", fills = ?ids, cause, "history cannot be read to its end now; it begins again");
                        told.clone_from(&cause);
                    }
                    vain = vain.saturating_add(1);
                    let waits = || FillProgress { state: "waiting", cause: cause.clone(), ..FillProgress::default() };
                    ids.iter().for_each(|id| parts.facts.fills.show(*id, waits()));
                    again = true;
                }
            }
        }
        let limit = if again {
            AGAIN_AFTER.saturating_mul(2u32.saturating_pow(vain.saturating_sub(1))).min(AGAIN_SELDOM)
        } else if kept.is_empty() {
            IDLE
        } else {
            KEPT_EVERY
        };
        // The seat may go meanwhile.
        drop(running);
        parts.facts.fills.wait(seen, limit);
    }
}

/// The fills of the next run: of the oldest one that is not held, behind the one that was tried in vain, all of its event
/// that begin at the same time.
fn choose(parts: &HistoryParts, seat: &Seat, fills: &Fills, passed_over: u64) -> Option<(Vec<(u64, Fill)>, PastFrom)> {
    let registry = seat.facts.registry();
    let mut chosen: Vec<(u64, Fill)> = Vec::new();
    let mut of: Option<(crate::row::EventId, PastFrom)> = None;
    for (id, fill) in fills.open.range(passed_over + 1..).chain(fills.open.range(..=passed_over)) {
        let Some(def) = registry.table_by_id(fill.table) else { continue };
        let Some(event) = registry.event_by_id(def.event) else { continue };
        let mine = (def.event, wanted(fill.history, fill.since.1, def, &event.schema));
        let state = if fill.paused { "paused" } else { "queued" };
        parts.facts.fills.show(*id, FillProgress { state, ..FillProgress::default() });
        if !fill.paused && *of.get_or_insert(mine) == mine {
            chosen.push((*id, fill.clone()));
        }
    }
    chosen.sort_unstable_by_key(|(id, _)| *id);
    Some((chosen, of?.1))
}

/// Lets go of what no kept snapshot needs any more.
fn let_go(parts: &HistoryParts, fills: &Fills, kept: &mut Vec<Left>) {
    let oldest = parts.facts.snapshot_oldest_lsn.load(Ordering::Acquire);
    kept.retain(|left| left.flip_lsn > oldest);
    debug_assert!(kept.iter().all(|left| left.cursor.needs_lsn() <= left.flip_lsn), "the log behind a seal is in front of its flip");
    if let Err(error) = seal::sweep(&Disk, &parts.folder, fills, oldest) {
        tracing::warn!(%error, "files of history that nobody needs could not be removed");
    }
}
