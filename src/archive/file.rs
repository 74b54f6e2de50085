//! One file of the archive: written aside, synced, then given its name.

use super::columns::{Columns, From, Place, RowWriter};
use super::error::ArchiveError;
use super::ids::Origin;
use super::manifest::FileEntry;
use super::pass::{FileKey, FileRows};
use super::place;
use crate::eventstore::{Envelope, Store};
use crate::row::Rows;
use crate::storage::{IoError, Storage, StorageFile};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::cmp::Ordering;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use streamgauge_parquet::{FileError, FileOptions, FileWriter, ReadAt, Written};

/// Rows that are turned into columns at a time.
const CHUNK_ROWS: usize = 8_192;

/// Ending of what is not finished.
pub(super) const UNFINISHED: &str = ".tmp";

/// What all files of a pass have in common.
pub(super) struct Common<'a> {
    pub(super) store: &'a Store,
    pub(super) log_id: u128,
    pub(super) epoch: u64,
    pub(super) batches: &'a [Rows],
    pub(super) froms: &'a [From],
}

/// Bytes on their way into a file, with their hash.
struct Sink<F: StorageFile> {
    file: F,
    at: u64,
    hash: Sha256,
    /// What the disk said, since it has to pass through those who know of no disk.
    failed: Arc<Mutex<Option<IoError>>>,
}

impl<F: StorageFile> Write for Sink<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.file.write_all_at(bytes, self.at) {
            Ok(()) => {
                self.at += bytes.len() as u64;
                self.hash.update(bytes);
                Ok(bytes.len())
            }
            Err(error) => {
                let told = io::Error::new(error.kind, error.to_string());
                *self.failed.lock() = Some(error);
                Err(told)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the rows of one file and gives it its name. The file counts once a manifest lists it.
///
/// # Errors
/// What the disk says; what was begun is swept later.
pub(super) fn write<S: Storage>(storage: &S, common: &Common<'_>, key: &FileKey, rows: &mut FileRows) -> Result<FileEntry, ArchiveError> {
    let store = common.store;
    let (Some(first), Some(last)) = (rows.places.first().map(|place| place.lsn), rows.places.last().map(|place| place.lsn)) else {
        unreachable!("a file has rows");
    };
    assert!(rows.places.is_sorted_by_key(|place| place.lsn), "rows come in the order of the log");
    let writer = &format!("{:032x}", common.log_id)[..8];
    let relative = place::path(store, key.dt, &rows.schema.name, writer, first, 0);
    let path = store.path.join(&relative);
    let Some(folder) = path.parent() else { unreachable!("a file stands below the root") };
    let aside = aside(&path);
    storage.create_folder(folder)?;
    match storage.remove(&aside) {
        Err(error) if error.missing() => {}
        removed => removed?,
    }
    sort(store, common.batches, &mut rows.places);
    let failed = Arc::new(Mutex::new(None));
    let mut sink = Sink { file: storage.create(&aside)?, at: 0, hash: Sha256::new(), failed: Arc::clone(&failed) };
    let written = encode(&mut sink, common, rows).map_err(|error| match failed.lock().take() {
        Some(io) => ArchiveError::Io(io),
        None => ArchiveError::File { path: path.clone(), reason: error.to_string() },
    })?;
    assert_eq!((written.rows, written.bytes), (rows.places.len() as u64, sink.at), "a file has the rows and bytes that went into it");
    sink.file.sync()?;
    drop(sink.file);
    storage.rename(&aside, &path)?;
    let sha256 = hex(&sink.hash.finalize());
    let times = |of: &dyn Fn(&Place) -> i64| {
        let bounds = rows.places.iter().map(of).fold((i64::MAX, i64::MIN), |(least, most), us| (least.min(us), most.max(us)));
        [bounds.0, bounds.1]
    };
    Ok(FileEntry {
        path: relative,
        event: rows.schema.name.to_string(),
        event_id: key.event.0,
        schema: key.version,
        level: 0,
        lsn: [first, last],
        rows: written.rows,
        bytes: written.bytes,
        sha256,
        occurred_us: times(&|place| common.batches[place.batch as usize].time_us(place.row as usize)),
        ingested_us: times(&|place| place.ingested_us),
    })
}

/// The name of a file until it is finished.
pub(super) fn aside(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    name.into()
}

fn encode<F: StorageFile>(sink: &mut Sink<F>, common: &Common<'_>, rows: &FileRows) -> Result<Written, FileError> {
    let (store, schema) = (common.store, &*rows.schema);
    let columns = Columns::of(store, schema, rows.fields);
    let mut cells = columns.cells();
    let options = FileOptions { sorting: sorting(store, &columns), metadata: said(common, rows), ..options(store, columns) };
    let mut writer = FileWriter::new(sink, &options)?;
    let mut row_writer = RowWriter::new(schema, rows.fields, common.froms, Origin::pushes(common.log_id));
    for chunk in rows.places.chunks(CHUNK_ROWS) {
        for place in chunk {
            row_writer.push(&common.batches[place.batch as usize], place, &mut cells)?;
        }
        writer.write(&mut cells)?;
    }
    writer.finish()
}

fn options(store: &Store, columns: Columns) -> FileOptions {
    FileOptions {
        columns: columns.columns,
        codec: store.codec,
        group_rows: store.group_rows,
        group_bytes: store.group_bytes,
        sorting: Vec::new(),
        metadata: Vec::new(),
    }
}

/// What a file says of itself.
fn said(common: &Common<'_>, rows: &FileRows) -> Vec<(String, String)> {
    let bounds = rows.places.iter().fold((u64::MAX, 0), |(least, most), place| (place.lsn.min(least), place.lsn.max(most)));
    let mut schema = (*rows.schema).clone();
    schema.fields.truncate(rows.fields);
    let Some(version) = rows.places.first().and_then(|place| common.batches.get(place.batch as usize)).map(Rows::schema_version) else {
        unreachable!("a file has rows");
    };
    schema.version = version;
    let Ok(schema_text) = serde_json::to_string(&schema) else { unreachable!("our own plain data always serialises") };
    [
        ("streamgauge.log_id", format!("{:032x}", common.log_id)),
        ("streamgauge.writer_epoch", common.epoch.to_string()),
        ("streamgauge.first_lsn", bounds.0.to_string()),
        ("streamgauge.last_lsn", bounds.1.to_string()),
        ("streamgauge.event", schema.name.to_string()),
        ("streamgauge.event_id", schema.id.0.to_string()),
        ("streamgauge.event_version", version.to_string()),
        ("streamgauge.schema", schema_text),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// A row's value in a column that rows are ordered by. What all rows of a file share orders nothing.
fn order_value(column: &str, batches: &[Rows], place: &Place) -> i128 {
    let rows = &batches[place.batch as usize];
    match column {
        "seq" | "lsn" => place.lsn.into(),
        "txn_lsn" => place.txn_lsn.into(),
        "occurred_at" => rows.time_us(place.row as usize).into(),
        "ingested_at" => place.ingested_us.into(),
        "offset" => place.offset.into(),
        "partition" => place.from.map_or(-1, i128::from),
        _ => 0,
    }
}

fn sort(store: &Store, batches: &[Rows], places: &mut [Place]) {
    let compare = |one: &Place, other: &Place| {
        let mut order = Ordering::Equal;
        for column in &store.sort_by {
            order = order.then_with(|| order_value(column, batches, one).cmp(&order_value(column, batches, other)));
        }
        let order = order.then(one.lsn.cmp(&other.lsn));
        if store.descending { order.reverse() } else { order }
    };
    // Mostly they are in order already.
    if !places.is_sorted_by(|one, other| compare(one, other) != Ordering::Greater) {
        places.sort_unstable_by(compare);
    }
}

/// The order as the file says it: by columns of the envelope, and `lsn` last.
fn sorting(store: &Store, columns: &Columns) -> Vec<(usize, bool)> {
    let standard = |index: usize| Envelope::NAMES.get(index).copied().unwrap_or(columns.columns[index].name.as_str());
    let index = |name: &str| (0..columns.columns.len()).find(|index| standard(*index) == name);
    let mut sorting: Vec<(usize, bool)> = store.sort_by.iter().filter_map(|name| index(name)).map(|at| (at, store.descending)).collect();
    if let Some(lsn) = index("lsn").filter(|lsn| !sorting.iter().any(|(column, _)| column == lsn)) {
        sorting.push((lsn, store.descending));
    }
    sorting
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _written = write!(text, "{byte:02x}");
        text
    })
}

/// Length and SHA-256 of a file.
pub(super) fn digest<S: Storage>(storage: &S, path: &Path) -> Result<(u64, String), IoError> {
    let file = storage.open_read(path)?;
    let (mut hash, mut at, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let got = file.read_at(&mut buffer, at)?;
        if got == 0 {
            return Ok((at, hex(&hash.finalize())));
        }
        hash.update(&buffer[..got]);
        at += got as u64;
    }
}

/// A file as a reader of columns wants it.
#[derive(Debug)]
struct Bytes<F: StorageFile> {
    file: F,
    size_bytes: u64,
}

impl<F: StorageFile> ReadAt for Bytes<F> {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset).map_err(|error| io::Error::new(error.kind, error.to_string()))
    }
}

/// Opens a file for reading.
pub(super) fn open<S: Storage>(storage: &S, path: &Path) -> Result<Arc<dyn ReadAt>, IoError> {
    let file = storage.open_read(path)?;
    let size_bytes = file.size_bytes()?;
    Ok(Arc::new(Bytes { file, size_bytes }))
}
