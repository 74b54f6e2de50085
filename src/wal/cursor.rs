//! Cursors: who still needs the log, by name, and from which LSN on.
//!
//! ```text
//! gone | sealed | sealed | sealed | ... being written
//!      ^ floor  ^ snapshot         ^ a reader
//!      released up to here: the least of all cursors, in whole segments
//! ```
//! A segment goes when no cursor needs an LSN of it ([`super::WalHandle::release`]). There are two
//! kinds. A *firm* one holds what it needs whatever that costs: without it a start would be refused
//! (snapshots). One that *gives way* belongs to a reader who can be told that it came too late: what
//! it alone holds is bounded, and nothing of it is held once the disk is short. So no reader fills
//! the disk, and whoever makes the log long is named in `/status`.
//!
//! A log without a firm cursor keeps everything: nobody has said what may go. Cursors are opened,
//! moved and dropped on any thread; one lock guards them, held for as long as a few numbers are
//! compared. Files are touched elsewhere.

use super::shared::Shared;
use crate::storage::Storage;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of segments that one cursor which gives way may hold alone.
pub const CURSOR_BYTES_MAX: u64 = 1 << 30;

/// What a cursor does when it holds too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It stays.
    Firm,
    /// It is passed beyond [`CURSOR_BYTES_MAX`], and on a disk without room.
    GivesWay,
}

/// A cursor as `/status` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorStatus {
    /// Whose it is.
    pub name: String,
    /// The first LSN that it still needs.
    pub needs_lsn: u64,
    /// What it does when it holds too much.
    pub hold: Hold,
    /// Bytes of sealed segments that would be kept for it if there were no other.
    pub bytes: u64,
}

#[derive(Debug)]
struct Needs {
    name: String,
    lsn: u64,
    hold: Hold,
}

/// All cursors of a log.
#[derive(Debug)]
pub(super) struct Cursors {
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// Up to here segments are gone, or are going.
    floor: u64,
    next: u64,
    needs: BTreeMap<u64, Needs>,
    /// Those that gave way and whose owners have not gone yet.
    passed: BTreeMap<u64, String>,
}

impl Known {
    /// The least LSN that a firm cursor needs; none when there is no such cursor.
    fn firm(&self) -> Option<u64> {
        self.needs.values().filter(|needs| needs.hold == Hold::Firm).map(|needs| needs.lsn).min()
    }
}

impl Cursors {
    /// Those of a log that begins at this LSN: none.
    pub(super) fn new(first_lsn: u64) -> Self {
        assert!(first_lsn > 0, "the first LSN ever is 1");
        let (needs, passed) = (BTreeMap::new(), BTreeMap::new());
        Self { known: Mutex::new(Known { floor: first_lsn - 1, next: 0, needs, passed }) }
    }

    /// The first LSN that is there for sure.
    pub(super) fn earliest(&self) -> u64 {
        self.known.lock().floor + 1
    }

    /// Takes a place from `lsn` on; the first LSN that is left, when that one is gone.
    fn open(&self, name: &str, lsn: u64, hold: Hold) -> Result<u64, u64> {
        let mut known = self.known.lock();
        if lsn <= known.floor {
            return Err(known.floor + 1);
        }
        let id = known.next;
        known.next += 1;
        let before = known.needs.insert(id, Needs { name: name.to_owned(), lsn, hold });
        assert!(before.is_none(), "numbers of cursors are used once");
        Ok(id)
    }

    fn advance(&self, id: u64, lsn: u64) {
        let mut known = self.known.lock();
        let Some(needs) = known.needs.get_mut(&id) else { return };
        assert!(needs.lsn <= lsn, "a cursor goes ahead only: {} to {lsn} of {}", needs.lsn, needs.name);
        needs.lsn = lsn;
    }

    fn is_passed(&self, id: u64) -> bool {
        self.known.lock().passed.contains_key(&id)
    }

    fn close(&self, id: u64) {
        let mut known = self.known.lock();
        let (held, passed) = (known.needs.remove(&id).is_some(), known.passed.remove(&id).is_some());
        assert!(held != passed, "a cursor is held or was passed");
    }

    /// Whether the oldest segment, which ends at `last_lsn`, may go. If so it is gone from here on:
    /// no cursor is opened in it any more. `alone` says how many bytes stand in segments before an
    /// LSN: with that of the firm cursors, what is kept for those that give way alone. When that is
    /// too much, or the disk is `short`, those that hold this segment are passed and named in the
    /// second part of the answer.
    pub(super) fn let_go(&self, last_lsn: u64, short: bool, alone: impl FnOnce(u64) -> u64) -> (bool, Vec<String>) {
        let mut known = self.known.lock();
        if last_lsn <= known.floor {
            // It was let go before, and its file could not be removed.
            return (true, Vec::new());
        }
        let Some(firm) = known.firm().filter(|firm| *firm > last_lsn) else { return (false, Vec::new()) };
        let holding: Vec<u64> = known.needs.iter().filter(|(_, needs)| needs.lsn <= last_lsn).map(|(id, _)| *id).collect();
        if !holding.is_empty() && !short && alone(firm) <= CURSOR_BYTES_MAX {
            return (false, Vec::new());
        }
        let mut names = Vec::new();
        for id in holding {
            let Some(needs) = known.needs.remove(&id) else { unreachable!("it was listed under this lock") };
            assert_eq!(needs.hold, Hold::GivesWay, "{} needs {} and holds firmly", needs.name, needs.lsn);
            names.push(needs.name.clone());
            known.passed.insert(id, needs.name);
        }
        known.floor = last_lsn;
        (true, names)
    }

    /// All of them, the one that holds most first. `bytes_from` says how many bytes of sealed
    /// segments are kept from an LSN on.
    pub(super) fn status(&self, bytes_from: impl Fn(u64) -> u64) -> Vec<CursorStatus> {
        let known = self.known.lock();
        let shown = |needs: &Needs| (needs.name.clone(), needs.lsn, needs.hold);
        let all: Vec<_> = known.needs.values().map(shown).collect();
        drop(known);
        let shown = |(name, needs_lsn, hold)| CursorStatus { name, needs_lsn, hold, bytes: bytes_from(needs_lsn) };
        let mut all: Vec<CursorStatus> = all.into_iter().map(shown).collect();
        all.sort_by(|one, other| (one.needs_lsn, &one.name).cmp(&(other.needs_lsn, &other.name)));
        all
    }
}

/// A place in the log that is kept; dropping it lets go.
#[derive(Debug)]
pub struct Cursor<S: Storage> {
    shared: Arc<Shared<S>>,
    id: u64,
    needs_lsn: u64,
}

impl<S: Storage> Cursor<S> {
    /// Takes a place; the first LSN that is left, when `lsn` is gone.
    pub(super) fn open(shared: &Arc<Shared<S>>, name: &str, lsn: u64, hold: Hold) -> Result<Self, u64> {
        let id = shared.cursors.open(name, lsn, hold)?;
        Ok(Self { shared: Arc::clone(shared), id, needs_lsn: lsn })
    }

    /// The first LSN that is still needed.
    pub fn needs_lsn(&self) -> u64 {
        self.needs_lsn
    }

    /// Everything before `lsn` is needed no more. What is let go has to be durable; going back is
    /// ignored.
    pub fn advance(&mut self, lsn: u64) {
        if lsn <= self.needs_lsn {
            return;
        }
        let durable_lsn = self.shared.durable_lsn();
        assert!(lsn <= durable_lsn + 1, "what is let go is on the disk: {lsn}, durable {durable_lsn}");
        self.needs_lsn = lsn;
        self.shared.cursors.advance(self.id, lsn);
    }

    /// Whether it had to give way.
    pub fn is_passed(&self) -> bool {
        self.shared.cursors.is_passed(self.id)
    }
}

impl<S: Storage> Drop for Cursor<S> {
    fn drop(&mut self) {
        self.shared.cursors.close(self.id);
    }
}
