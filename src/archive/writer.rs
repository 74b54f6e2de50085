//! The archive as its one writer has it: opened, fenced, swept, and brought forward run by run.

use super::error::ArchiveError;
use super::file::{self, Common};
use super::manifest::{self, FileEntry, Live, Op, RowCounts};
use super::pass::Pass;
use super::sweep;
use crate::apply::names::Names;
use crate::apply::names_at;
use crate::eventstore::{Problem, Store, parse};
use crate::storage::Storage;
use crate::wal::{Cursor, Hold, WalHandle};
use std::sync::Arc;
use streamgauge_api::Clock;

/// Whose cursor it is in `/status`.
pub(super) const READER: &str = "archive";

/// The declaration as the archive was last opened with it, beside the manifests.
const DECLARATION: &str = "eventstore.sql";

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ran {
    /// Commits.
    pub commits: u64,
    /// Files.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Rows in them.
    pub rows: u64,
}

/// See the module's head.
pub struct Archive<S: Storage> {
    storage: S,
    store: Store,
    wal: WalHandle<S>,
    log_id: u128,
    /// Held whatever happens to files, so that the log keeps what is not archived.
    cursor: Cursor<S>,
    /// First LSNs of frames that are left out, ascending.
    skipped: Arc<[u64]>,
    clock: Arc<dyn Clock>,
    /// None before it was opened, and behind a failure.
    open: Option<Open>,
    /// The newest version that this process has seen.
    seen_version: u64,
}

struct Open {
    epoch: u64,
    live: Live,
    /// As of the LSN behind the last one that is archived.
    names: Option<Names>,
}

impl<S: Storage> Archive<S> {
    /// An archive that is not open yet; from here on the log keeps what it may need. Frames at
    /// `skipped` LSNs were left out of the tables by an operator, and are of this too.
    ///
    /// # Errors
    /// When no log is kept.
    pub fn new(storage: S, store: Store, wal: WalHandle<S>, skipped: Arc<[u64]>, clock: Arc<dyn Clock>) -> Result<Self, ArchiveError> {
        let Some(log_id) = wal.log_id() else { return Err(crate::wal::TailError::NoLog.into()) };
        let mut lsn = wal.earliest_lsn();
        let cursor = loop {
            match wal.cursor(READER, lsn, Hold::Firm) {
                Ok(cursor) => break cursor,
                Err(earliest_lsn) => lsn = earliest_lsn,
            }
        };
        Ok(Self { storage, store, wal, log_id, cursor, skipped, clock, open: None, seen_version: 0 })
    }

    /// Opens it for writing: whoever did so before writes no more. Files that nobody committed are removed.
    ///
    /// # Errors
    /// An archive of another log, or one that has more than this log; damaged manifests; files.
    pub fn open(&mut self) -> Result<&Live, ArchiveError> {
        let (storage, store) = (&self.storage, &self.store);
        let own = format!("{:032x}", self.log_id);
        storage.create_folder(&store.path)?;
        storage.create_folder(&store.manifests)?;
        let found = manifest::load(storage, &store.manifests)?;
        let version = found.as_ref().map_or(0, |live| live.version);
        if version < self.seen_version {
            // A volume that went away leaves an empty folder: nothing begins anew there.
            let reason = format!("version {} was here and is gone, the newest is {version}", self.seen_version);
            return Err(ArchiveError::File { path: store.manifests.clone(), reason });
        }
        if let Some(foreign) = found.as_ref().filter(|live| live.log_id != own) {
            return Err(ArchiveError::ForeignLog { found: foreign.log_id.clone(), own });
        }
        let written_lsn = self.wal.status().written_lsn;
        if let Some(ahead) = found.as_ref().filter(|live| live.archived_lsn > written_lsn) {
            return Err(ArchiveError::AheadOfLog { archived_lsn: ahead.archived_lsn, durable_lsn: written_lsn });
        }
        self.settle_declaration(found.as_ref())?;
        let held_lsn = self.cursor.needs_lsn();
        let mut live = found.unwrap_or_else(|| Live::empty(own, held_lsn));
        let epoch = live.writer_epoch + 1;
        let opened = live.next(epoch, self.clock.now_us(), Op::Open);
        manifest::commit(storage, &store.manifests, &mut live, &opened)?;
        if held_lsn > live.archived_lsn + 1 {
            let range = [live.archived_lsn + 1, held_lsn - 1];
            let rows = RowCounts { excluded: range[1] - range[0] + 1, ..RowCounts::default() };
            let gap = manifest::Manifest { lsn_range: Some(range), rows, ..live.next(epoch, self.clock.now_us(), Op::Gap) };
            manifest::commit(storage, &store.manifests, &mut live, &gap)?;
            tracing::warn!(
                kind = "archive.gap",
                first_lsn = range[0],
                last_lsn = range[1],
                "the log gave these LSNs back while no archive was kept: they are in no file"
            );
        }
        let swept = sweep::orphans(storage, store, &live)?;
        if swept > 0 {
            tracing::info!(kind = "archive.swept", files = swept, "files that no manifest lists are removed");
        }
        self.cursor.advance((live.archived_lsn + 1).min(self.wal.durable_lsn() + 1));
        self.seen_version = live.version;
        Ok(&self.open.insert(Open { epoch, live, names: None }).live)
    }

    /// Keeps the declaration beside the manifests; what is fixed in it may not have changed once there is a file.
    fn settle_declaration(&self, found: Option<&Live>) -> Result<(), ArchiveError> {
        let path = self.store.manifests.join(DECLARATION);
        let statement = &self.store.statement;
        let before = match manifest::read_text(&self.storage, &path)? {
            Some(before) if before == *statement => return Ok(()),
            before => before,
        };
        let began = found.is_some_and(|live| live.rows.archived > 0);
        if let (true, Some(before), Ok(now)) = (began, before, parse(statement)) {
            let unreadable = |problem: Problem| ArchiveError::Manifest { path: path.clone(), reason: problem.message };
            let before = parse(&before).map_err(unreadable)?;
            if let Err(problems) = now.fixed_since(&before) {
                let all: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
                let Some(first) = problems.first() else { unreachable!("a refusal has a problem") };
                let mut error = first.told(&path.display().to_string(), statement);
                error.reason = all.join("; ");
                return Err(ArchiveError::Fixed(error));
            }
        }
        manifest::write_text(&self.storage, &path, statement)
    }

    /// Archives what is durable now. Unless `always`, a range without rows is left for later, so that
    /// a log at rest makes no manifests. `after` is told of each commit.
    ///
    /// # Errors
    /// [`ArchiveError`]; what was committed before stays, and the archive is opened anew.
    pub fn run(&mut self, always: bool, mut after: impl FnMut(&Live, &Ran)) -> Result<Ran, ArchiveError> {
        let Some(mut open) = self.open.take() else { unreachable!("it was opened") };
        let ran = self.run_open(&mut open, always, &mut after);
        self.seen_version = open.live.version;
        if ran.is_ok() {
            self.open = Some(open);
        }
        ran
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    fn run_open(&mut self, open: &mut Open, always: bool, after: &mut dyn FnMut(&Live, &Ran)) -> Result<Ran, ArchiveError> {
        let target_lsn = self.wal.durable_lsn();
        let mut ran = Ran::default();
        if open.live.archived_lsn >= target_lsn {
            return Ok(ran);
        }
        let from_lsn = open.live.archived_lsn + 1;
        let mut names = match open.names.take() {
            Some(names) => names,
            None => names_at(&self.wal, from_lsn).map_err(ArchiveError::Names)?,
        };
        let mut reader = self.wal.tail_behind("archive.run", from_lsn)?;
        while open.live.archived_lsn < target_lsn {
            // Rows wait packed, and a file is built beside them.
            let bytes_max = self.store.memory_bytes / 2;
            let mut pass = Pass::collect(&mut reader, &mut names, &self.store, &self.skipped, target_lsn, bytes_max)?;
            let nothing = pass.counts.archived + pass.counts.excluded == 0;
            if pass.is_empty() || (nothing && !always && pass.last_lsn >= target_lsn) {
                return Ok(ran);
            }
            let one = self.settle(open, &mut pass)?;
            ran = Ran { commits: ran.commits + 1, files: ran.files + one.files, bytes: ran.bytes + one.bytes, rows: ran.rows + one.rows };
            after(&open.live, &one);
        }
        open.names = Some(names);
        Ok(ran)
    }

    /// Writes the files of a pass and commits them.
    fn settle(&mut self, open: &mut Open, pass: &mut Pass) -> Result<Ran, ArchiveError> {
        assert_eq!(pass.first_lsn, open.live.archived_lsn + 1, "a pass begins where the archive ends");
        assert!(pass.last_lsn <= self.wal.durable_lsn(), "only what is durable is archived");
        let mut add: Vec<FileEntry> = Vec::with_capacity(pass.files.len());
        let files = std::mem::take(&mut pass.files);
        let common = Common { store: &self.store, log_id: self.log_id, epoch: open.epoch, batches: &pass.batches, froms: &pass.froms };
        for (key, mut rows) in files {
            add.push(file::write(&self.storage, &common, &key, &mut rows)?);
        }
        let ran = Ran {
            commits: 1,
            files: add.len() as u64,
            bytes: add.iter().map(|file| file.bytes).sum(),
            rows: add.iter().map(|file| file.rows).sum(),
        };
        let version = manifest::Manifest {
            lsn_range: Some([pass.first_lsn, pass.last_lsn]),
            rows: pass.counts,
            add,
            positions: std::mem::take(&mut pass.positions),
            ..open.live.next(open.epoch, self.clock.now_us(), Op::Archive)
        };
        manifest::commit(&self.storage, &self.store.manifests, &mut open.live, &version)?;
        self.cursor.advance(open.live.archived_lsn + 1);
        Ok(ran)
    }
}
