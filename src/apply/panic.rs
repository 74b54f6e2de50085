//! A panic ends the process: at once, whoever panicked, and with nothing written from a state that may
//! be changed by half.
//!
//! A panic is a broken belief, and no thread of ours can go on without the others: the seat may hold
//! half of a frame, an I/O thread's port would be dead, a source would stand still in silence. So the
//! hook of [`end_process_on_panic`] says what happened, leaves it in `DATA/panic.json` and aborts,
//! before anything unwinds; no `catch_unwind` of a runtime can hide it, no lock opens, no snapshot
//! and no reply is written. The log has every frame that was acknowledged, and the next start rebuilds
//! from it.
//!
//! The note names the LSNs of the frame that the panicking thread was applying ([`applying`]), if it
//! was, so that a start can see that one frame ends every process. [`EndOnUnwind`] is the second lock
//! on the same door, for programs without the hook (tests, tools): who unwinds while holding the seat
//! never gives it back.
//!
//! Not here: what a start does about the note of the process before it.

use super::codec::shortened;
use crate::storage::{Disk, IoError, Storage, StorageFile};
use serde::{Deserialize, Serialize};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::time::Duration;
use streamgauge_api::{Clock, SystemClock};

/// How the process ends, as a shell shows it: 128 + SIGABRT.
pub const PANIC_EXIT: u8 = 134;
/// Longest message and backtrace of a note,
const MESSAGE_BYTES_MAX: usize = 4 << 10;
const BACKTRACE_BYTES_MAX: usize = 16 << 10;
/// and longest note, whatever has to be escaped in it.
const NOTE_BYTES_MAX: usize = 256 << 10;

/// How long a process that panicked may take to say so.
const LAST_WORDS: Duration = Duration::from_secs(5);

thread_local! {
    /// First and last LSN of the frame that this thread is applying; 0 = none.
    static APPLYING: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// What a process that panicked left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PanicNote {
    /// When, microseconds since the Unix epoch.
    pub at_us: i64,
    /// Version of the program.
    pub version: String,
    /// Name of the thread.
    pub thread: String,
    /// File, line and column.
    pub place: String,
    /// What it said.
    pub message: String,
    /// First and last LSN of the frame that the thread was applying, if it was.
    pub lsns: Option<(u64, u64)>,
    /// Where it came from, when `RUST_BACKTRACE` is set: finding the names of a trace takes seconds, in which the process
    /// would live on.
    pub backtrace: Option<String>,
}

impl PanicNote {
    fn path(data: &Path) -> PathBuf {
        data.join("panic.json")
    }

    fn of(info: &PanicHookInfo<'_>) -> Self {
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = text.or_else(|| payload.downcast_ref::<String>().cloned());
        let (first, last) = APPLYING.try_with(Cell::get).unwrap_or_default();
        let trace = Backtrace::capture();
        let message = message.unwrap_or_else(|| "a panic without words".to_owned());
        Self {
            at_us: SystemClock.now_us(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            thread: std::thread::current().name().unwrap_or("unnamed").to_owned(),
            place: info.location().map(ToString::to_string).unwrap_or_default(),
            message: shortened(message, MESSAGE_BYTES_MAX),
            lsns: (first > 0).then_some((first, last)),
            backtrace: (trace.status() == BacktraceStatus::Captured).then(|| shortened(trace.to_string(), BACKTRACE_BYTES_MAX)),
        }
    }

    /// One line for people.
    fn line(&self) -> String {
        let Self { thread, place, message, .. } = self;
        let during = match self.lsns {
            Some((first, last)) => format!(" while the frame of LSN {first} to {last} was applied"),
            None => String::new(),
        };
        format!(
            "thread {thread} panicked at {place}{during}: {message}; ending with {PANIC_EXIT}, nothing was acknowledged or written since"
        )
    }

    /// Writes it in place of an older one. Nothing is synced, neither file nor folder: it has to outlive the
    /// process, not the power, and a sync that hangs would keep the process.
    fn write<S: Storage>(&self, storage: &S, data: &Path) -> Result<(), IoError> {
        let Ok(mut bytes) = serde_json::to_vec(self) else { unreachable!("texts and numbers become JSON") };
        bytes.push(b'\n');
        storage.overwrite_unsynced(&Self::path(data), &bytes)
    }

    /// The note of the last process that panicked in this data folder; none when there is none, or none that
    /// can be understood.
    ///
    /// # Errors
    /// When there is one and it cannot be read.
    pub fn read(data: &Path) -> Result<Option<Self>, IoError> {
        let file = match Disk.open_read(&Self::path(data)) {
            Ok(file) => file,
            Err(error) if error.missing() => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = vec![0; NOTE_BYTES_MAX];
        let mut length = 0;
        while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, length as u64)? {
                0 => break,
                read => length += read,
            }
        }
        bytes.truncate(length);
        Ok(serde_json::from_slice(&bytes).ok())
    }

    /// Removes the note, once somebody has acted on it.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(data: &Path) -> Result<(), IoError> {
        match Disk.remove(&Self::path(data)) {
            Err(error) if !error.missing() => Err(error),
            _ => Ok(()),
        }
    }
}

/// From here on a panic in any thread ends the process with [`PANIC_EXIT`]; the note goes into the data folder, when
/// there is one.
pub fn end_process_on_panic(data: Option<PathBuf>) {
    std::panic::set_hook(Box::new(move |info| {
        // Whatever the log or the file hangs on, the process ends. Where there is no thread to be had, it ends
        // when they are done.
        let _started = std::thread::Builder::new().spawn(|| {
            std::thread::sleep(LAST_WORDS);
            std::process::abort();
        });
        let note = PanicNote::of(info);
        tracing::error!(
            kind = "panic",
            thread = note.thread,
            place = note.place,
            first_lsn = note.lsns.map(|(first, _)| first),
            last_lsn = note.lsns.map(|(_, last)| last),
            "{}",
            note.line()
        );
        let written = data.as_ref().map(|data| note.write(&Disk, data));
        if let Some(Err(error)) = written {
            tracing::error!(kind = "panic", %error, "no note of it could be left in the data folder");
        }
        std::process::abort();
    }));
}

/// Runs what applies the frame of these LSNs, so that a panic in it names them.
pub(crate) fn applying<T>(first_lsn: u64, last_lsn: u64, apply: impl FnOnce() -> T) -> T {
    assert!(first_lsn > 0 && first_lsn <= last_lsn, "LSNs {first_lsn} to {last_lsn} are no frame");
    APPLYING.set((first_lsn, last_lsn));
    let done = apply();
    APPLYING.set((0, 0));
    done
}

/// Ends the process when a panic unwinds through it.
pub(crate) struct EndOnUnwind {
    /// The thread was unwinding for another reason already.
    before: bool,
}

impl EndOnUnwind {
    /// From here until it is dropped.
    pub(crate) fn new() -> Self {
        Self { before: std::thread::panicking() }
    }
}

impl Drop for EndOnUnwind {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.before {
            tracing::error!(kind = "panic", "a thread unwinds while it holds the seat; ending with {PANIC_EXIT}");
            std::process::abort();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::storage::{Faults, SimulatedDisk};

    #[test]
    fn a_note_is_left_without_a_sync() {
        let disk = SimulatedDisk::new();
        let note = |message: &str| PanicNote {
            at_us: 1,
            version: "0".into(),
            thread: "apply".into(),
            place: "x.rs:1".into(),
            message: message.into(),
            lsns: None,
            backtrace: None,
        };
        // The first sync fails, as one that hangs would never return.
        disk.set_faults(Faults { fail_sync_at: Some(0), ..Faults::default() });
        let folder = Path::new("data");
        for message in ["a long message that the next one is to replace whole", "short"] {
            note(message).write(&disk, folder).unwrap();
            let bytes = disk.bytes(&PanicNote::path(folder)).unwrap();
            assert_eq!(serde_json::from_slice::<PanicNote>(&bytes).unwrap().message, message);
        }
        assert_eq!(disk.syncs(), 0);
    }
}
