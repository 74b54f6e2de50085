//! A frozen state: what snapshots and fingerprints read while apply goes on, and what gives way when tables need the room.
//!
//! It shares every chunk with the tables that it was frozen of; apply copies a chunk on its first write, and the account
//! counts both. Invariants: it stays as it was to the last look; who looks holds its lock for a few microseconds (one
//! chunk, some rows) and never does I/O meanwhile, because the apply thread takes the tables away under the same lock when
//! the memory limit leaves no room ([`Frozen::let_go`]); whoever looks after that is told how much was lacking.
//!
//! Read on the snapshot thread, and on an admin thread for fingerprints; let go on the apply thread, through the
//! [account](super::account).

use super::account::Charge;
use super::chunk::{Chunk, touch};
use super::state::State;
use super::table::Table;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// Tables leave this part of the memory limit to frozen states, one in so many bytes: so that a state of tables at rest can
/// always be frozen, and for what a reader still holds of one that was let go.
pub const FROZEN_SHARE: usize = 64;

/// Rows whose hashes are taken in one look.
const ROWS_PER_LOOK: u32 = 32;

/// Tables by number.
pub(super) type Tables = BTreeMap<u32, Table>;

/// See the module's head.
#[derive(Debug)]
pub struct Frozen {
    /// Everything but the tables.
    pub(super) rest: State,
    tables: Mutex<Option<Tables>>,
    gone: OnceLock<NoRoom>,
    key_count: u64,
    /// Bytes of the tables then.
    bytes: usize,
    /// Where readers copy the largest chunk.
    _copy: Charge,
}

/// There was no room for a frozen state beside the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no room beside the tables for a frozen state: they hold {tables_bytes} bytes of {limit_bytes}, and copies of what is \
     written meanwhile had {copied_bytes}; with {lacking_bytes} bytes more it fits whatever is written"
)]
pub struct NoRoom {
    /// What tables hold themselves.
    pub tables_bytes: usize,
    /// The limit.
    pub limit_bytes: usize,
    /// What only the frozen state held.
    pub copied_bytes: usize,
    /// What was lacking for copies of everything.
    pub lacking_bytes: usize,
}

impl State {
    /// A copy that shares every chunk and stays as it is while apply goes on.
    ///
    /// # Errors
    /// When there is not even room for its lists of chunks.
    pub fn freeze(&self) -> Result<Arc<Frozen>, NoRoom> {
        assert!(!self.is_mid_frame(), "a state is frozen between frames, not while one is open");
        let chunks = || self.tables.values().flat_map(Table::chunks);
        let copy_bytes = chunks().map(|chunk| size_of_val(chunk.words())).max().unwrap_or(0);
        let lists_bytes = chunks().count() * size_of::<Chunk>();
        let (bytes, limit) = (self.bytes(), self.account.limit());
        if bytes.saturating_add(lists_bytes + copy_bytes) > limit {
            return Err(self.no_room(self.live_bytes()));
        }
        let tables: Tables = self.tables.iter().map(|(id, table)| (*id, table.freeze())).collect();
        let copy = self.account.charge(copy_bytes);
        if copy_bytes <= limit / FROZEN_SHARE {
            // A larger one is not given back with the tables: they do without it while somebody reads.
            copy.leave();
        }
        let frozen = Arc::new(Frozen {
            rest: self.without_tables(),
            tables: Mutex::new(Some(tables)),
            gone: OnceLock::new(),
            key_count: self.key_count(),
            bytes: self.live_bytes(),
            _copy: copy,
        });
        self.account.gives_way(&frozen);
        Ok(frozen)
    }

    fn no_room(&self, shared_bytes: usize) -> NoRoom {
        let (tables_bytes, limit_bytes) = (self.live_bytes(), self.account.limit());
        NoRoom {
            tables_bytes,
            limit_bytes,
            copied_bytes: self.account.left_bytes(),
            lacking_bytes: tables_bytes.saturating_add(shared_bytes).saturating_sub(limit_bytes),
        }
    }
}

impl Frozen {
    /// Last LSN in it.
    pub fn lsn(&self) -> u64 {
        self.rest.lsn()
    }

    /// Number of keys of all tables.
    pub fn key_count(&self) -> u64 {
        self.key_count
    }

    /// Bytes charged for copies of its readers.
    #[cfg(test)]
    pub(super) fn copy_bytes(&self) -> usize {
        self._copy.bytes()
    }

    /// Gives its memory back; whoever reads it is told at the next look.
    pub(super) fn let_go(&self) {
        let tables = {
            let mut held = self.tables.lock();
            if held.is_some() {
                let first = self.gone.set(self.rest.no_room(self.bytes));
                assert_eq!(first, Ok(()), "a frozen state is let go once");
            }
            held.take()
        };
        tables.iter().flatten().for_each(|(_, table)| touch(table.chunks()));
        drop(tables);
    }

    /// Looks at the tables for a moment.
    ///
    /// # Errors
    /// When they were let go.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Tables) -> T) -> Result<T, NoRoom> {
        match (&*self.tables.lock(), self.gone.get()) {
            (Some(tables), _) => Ok(look(tables)),
            (None, Some(gone)) => Err(*gone),
            (None, None) => unreachable!("who lets a frozen state go says why"),
        }
    }

    /// As [`State::fingerprint`] of the state that it was frozen of.
    ///
    /// # Errors
    /// When it was let go meanwhile.
    pub fn fingerprint(&self) -> Result<u128, NoRoom> {
        let rows = self.look(|tables| tables.iter().map(|(id, table)| (*id, table.keys.rows())).collect::<Vec<_>>())?;
        let mut sum = self.rest.fingerprint();
        for (id, rows) in rows {
            for from in (0..rows).step_by(ROWS_PER_LOOK as usize) {
                let of_table = |tables: &Tables| match tables.get(&id) {
                    Some(table) => table.fingerprint(from..rows.min(from.saturating_add(ROWS_PER_LOOK))),
                    None => unreachable!("a frozen state stays as it was"),
                };
                sum = sum.wrapping_add(self.look(of_table)?);
            }
        }
        Ok(sum)
    }
}
