//! The archive on a simulated disk: whatever dies when, each LSN is in one file; who may write; what cannot be is refused.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::error::ArchiveError;
use super::manifest::{self, Live};
use super::writer::Archive;
use crate::apply::codec::{Encoded, encode, kind_of};
use crate::apply::names::Names;
use crate::eventstore::Store;
use crate::pipeline::{RegisterOptions, Registry};
use crate::row::{Rows, RowsBuilder, Run, Strictness};
use crate::state::{Content, RowsContent};
use crate::storage::{Faults, SimulatedDisk, Storage};
use crate::wal::{FrameKind, FrameParts, LogIdentity, Start, WalHandle, WalOptions, WalWriter};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use streamgauge_api::{Clock, PartitionKey, Position, Slot, StoredPosition, TopicId};
use streamgauge_parquet::{FileReader, Value};

const LOG: LogIdentity = LogIdentity { log_id: 0x5354_5245_414D_4741_5547_4500_0000_0001, hash_seed: 0xFEED };
const NOW_US: i64 = 1_700_000_000_000_000;
const DAY_US: i64 = 86_400_000_000;

#[derive(Debug, Default)]
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now_us(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn boot_us(&self) -> i64 {
        0
    }
}

/// A log with declarations and rows.
struct House {
    writer: WalWriter<SimulatedDisk>,
    wal: WalHandle<SimulatedDisk>,
    registry: Arc<Registry>,
    partitions: Vec<StoredPosition>,
    /// Rows of `lived_in` are numbered from 0 to here.
    numbers: i64,
}

impl House {
    fn new() -> Self {
        let options = WalOptions { segment_bytes: 16_384, ..WalOptions::default() };
        let (writer, wal) = WalWriter::start(SimulatedDisk::new(), Path::new("data/wal"), Start::Fresh { log: LOG }, options, 1).unwrap();
        Self { writer, wal, registry: Arc::default(), partitions: Vec::new(), numbers: 0 }
    }

    fn append(&mut self, content: &Content) {
        let mut encoded = Encoded::default();
        encode(content, &mut encoded);
        let mut body: Vec<&[u64]> = vec![&encoded.head];
        let mut rows = 0;
        if let Content::Rows(content) = content {
            body.extend(content.batches.iter().map(Rows::words));
            rows = content.rows();
        }
        body.push(&encoded.tail);
        let (kind, row_count) = (kind_of(content), u32::try_from(rows).unwrap());
        let parts = FrameParts { kind, flags: 0, row_count, now_us: NOW_US, positions: &encoded.positions, body: &body };
        self.writer.append([parts]).unwrap();
        self.wal.sync_now().unwrap();
        self.wal.prepare().unwrap();
    }

    fn declare(&mut self, name: &str, fields: &Json) {
        let optional: Vec<&String> = fields.as_object().unwrap().keys().collect();
        let event = json!({"kind": "event", "name": name, "schema": {"fields": fields, "optional_fields": optional}});
        let options = RegisterOptions::default();
        let outcome = self.registry.apply_register(&json!({"nodes": [event], "force": true}).to_string(), &options);
        self.registry = outcome.unwrap_or_else(|error| panic!("{}", error.to_json())).next.unwrap();
        self.append(&Content::Definition { registry: Arc::clone(&self.registry), effects: Vec::new() });
        self.writer.set_head(&Names::head(&self.registry, &self.partitions));
    }

    fn partition(&mut self, partition: i32) -> Slot {
        let key = PartitionKey { event: "Tx".into(), cluster: "c".into(), topic_id: TopicId([7; 16]), topic: "payments".into(), partition };
        let stored = StoredPosition { key, position: Position::FORGOTTEN };
        self.partitions.push(stored.clone());
        self.append(&Content::Partition(stored));
        self.writer.set_head(&Names::head(&self.registry, &self.partitions));
        Slot(u32::try_from(self.partitions.len() - 1).unwrap())
    }

    fn batch(&self, name: &str, bodies: &[(Json, i64)]) -> RowsBuilder {
        let schema = Arc::clone(&self.registry.event(name).unwrap().schema);
        let mut decoder = crate::decode::PushDecoder::new(&schema, true);
        let mut builder = RowsBuilder::new(schema, Strictness::Push);
        for (body, time_us) in bodies {
            decoder.push_json(body.to_string().as_bytes(), &mut builder, *time_us).unwrap();
        }
        builder
    }

    fn push(&mut self, name: &str, bodies: &[(Json, i64)]) {
        let batches = vec![self.batch(name, bodies).finish()];
        self.append(&Content::Rows(RowsContent { batches, ..RowsContent::default() }));
    }

    /// A few transactions over three days, with frames between them that have no rows.
    fn lived_in() -> Self {
        Self::lived_in_for(40)
    }

    fn lived_in_for(transactions: i64) -> Self {
        let mut house = Self::new();
        house.declare("Tx", &json!({"n": "i64", "text": "str"}));
        for n in 0..transactions {
            let rows: Vec<_> =
                (0..25).map(|row| (json!({"n": n * 25 + row, "text": format!("t{row}")}), NOW_US + row % 3 * DAY_US)).collect();
            house.push("Tx", &rows);
            house.numbers += 25;
            if n % 7 == 0 {
                house.append(&Content::Nothing);
            }
        }
        house
    }
}

fn store() -> Store {
    Store { memory_bytes: 16 << 10, ..Store::at("arch".into()) }
}

fn archive(disk: &SimulatedDisk, house: &House, store: Store) -> Archive<SimulatedDisk> {
    Archive::new(disk.clone(), store, house.wal.clone(), Arc::default(), Arc::new(Hand::default())).unwrap()
}

/// Opens and runs.
fn run(archive: &mut Archive<SimulatedDisk>) -> Result<u64, ArchiveError> {
    if !archive.is_open() {
        archive.open()?;
    }
    Ok(archive.run(true, |_, _| {})?.rows)
}

fn live(disk: &SimulatedDisk) -> Live {
    manifest::load(disk, Path::new("arch/_manifests")).unwrap().unwrap()
}

fn file(disk: &SimulatedDisk, path: &str) -> FileReader {
    FileReader::open(super::file::open(disk, &Path::new("arch").join(path)).unwrap(), None).unwrap()
}

/// Every row of every file that counts, by LSN: a column each. Each LSN comes once.
fn rows_of(disk: &SimulatedDisk) -> BTreeMap<u64, BTreeMap<String, Json>> {
    let mut rows = BTreeMap::new();
    for entry in live(disk).files.values() {
        let mut reader = file(disk, &entry.path);
        let names: Vec<String> = reader.shape().columns.iter().map(|(name, _)| name.clone()).collect();
        let mut seen = 0;
        loop {
            let count = reader.advance().unwrap();
            if count == 0 {
                break;
            }
            seen += count as u64;
            for row in 0..count {
                let shown = |value: Value<'_>| match value {
                    Value::Null => Json::Null,
                    Value::Text(text) => text.into(),
                    Value::Bytes(bytes) => bytes.to_vec().into(),
                    Value::Int(number) => number.into(),
                    Value::F64(number) => number.into(),
                    Value::Bool(truth) => truth.into(),
                };
                let cells: BTreeMap<String, Json> =
                    names.iter().map(|name| (name.clone(), shown(reader.cell(reader.column(name).unwrap(), row)))).collect();
                let lsn = cells["lsn"].as_u64().unwrap();
                assert!((entry.lsn[0]..=entry.lsn[1]).contains(&lsn), "{entry:?} has {lsn}");
                assert_eq!(rows.insert(lsn, cells), None, "LSN {lsn} twice");
            }
        }
        assert_eq!(seen, entry.rows, "{entry:?}");
    }
    rows
}

/// All numbers of `lived_in`, in the order of LSNs.
fn assert_whole(disk: &SimulatedDisk, house: &House) {
    let live = live(disk);
    assert_eq!((live.archived_lsn, live.fault()), (house.wal.durable_lsn(), None));
    let rows = rows_of(disk);
    let numbers: Vec<i64> = rows.values().map(|row| row["n"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (0..house.numbers).collect::<Vec<_>>());
}

#[test]
fn rows_are_archived_once_by_partition_in_passes_that_memory_bounds() {
    let (disk, house) = (SimulatedDisk::new(), House::lived_in());
    let mut archive = archive(&disk, &house, store());
    assert_eq!(run(&mut archive).unwrap(), 1_000);
    assert_whole(&disk, &house);
    assert_eq!(run(&mut archive).unwrap(), 0);
    let live = live(&disk);
    let days: std::collections::BTreeSet<&str> = live.files.keys().map(|path| path.split('/').next().unwrap()).collect();
    assert_eq!(days.into_iter().collect::<Vec<_>>(), ["dt=2023-11-14", "dt=2023-11-15", "dt=2023-11-16"]);
    assert!(live.version > 3, "passes are bounded: {} versions", live.version);
    let row = &rows_of(&disk)[&2];
    assert_eq!((&row["stream_type"], &row["seq"], &row["txn_lsn"], &row["topic"]), (&json!("Tx"), &json!(2), &json!(26), &Json::Null));
}

/// Every operation on the disk is a place to die: the process is killed, or the power goes.
#[test]
fn whatever_operation_is_the_last_one_each_lsn_is_in_one_file() {
    let (disk, house) = (SimulatedDisk::new(), House::lived_in_for(6));
    disk.set_faults(Faults::default());
    let store = || Store { memory_bytes: 4 << 10, ..store() };
    run(&mut archive(&disk, &house, store())).unwrap();
    let operations = disk.operations();
    assert!(operations > 100 && live(&disk).version > 3, "{operations} operations, {} versions", live(&disk).version);
    for stop_at in 0..operations {
        for power in [false, true] {
            let disk = SimulatedDisk::new();
            let mut archive = archive(&disk, &house, store());
            disk.set_faults(Faults { stop_at: Some(stop_at), ..Faults::default() });
            let died = run(&mut archive).is_err();
            assert!(died || stop_at + 1 >= operations, "operation {stop_at} of {operations} did not fail");
            if power {
                disk.crash(stop_at)
            } else {
                disk.kill()
            }
            // Another process: nothing but the disk is left.
            drop(archive);
            let mut archive = self::archive(&disk, &house, store());
            run(&mut archive).unwrap_or_else(|error| panic!("behind operation {stop_at}, power {power}: {error}"));
            assert_whole(&disk, &house);
            let left: Vec<String> = leftovers(&disk);
            assert_eq!(left, Vec::<String>::new(), "behind operation {stop_at}, power {power}");
        }
    }
}

/// Files below the root that no manifest lists.
fn leftovers(disk: &SimulatedDisk) -> Vec<String> {
    let live = live(disk);
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let at = Path::new("arch").join(&folder);
        for inner in disk.folders(&at).unwrap().into_iter().filter(|inner| inner != "_manifests") {
            folders.push(if folder.is_empty() { inner } else { format!("{folder}/{inner}") });
        }
        let join = |name: String| if folder.is_empty() { name } else { format!("{folder}/{name}") };
        found.extend(disk.list(&at).unwrap().into_iter().map(|entry| join(entry.name)).filter(|path| !live.files.contains_key(path)));
    }
    found
}

#[test]
fn a_failure_in_the_middle_is_gone_on_from_by_the_same_process() {
    let house = House::lived_in();
    for fail_write_at in 0..20 {
        let disk = SimulatedDisk::new();
        let mut archive = archive(&disk, &house, store());
        disk.set_faults(Faults { fail_write_at: Some(fail_write_at), ..Faults::default() });
        let failed = run(&mut archive);
        assert!(matches!(failed, Err(ArchiveError::Io(_))), "write {fail_write_at}: {failed:?}");
        disk.set_faults(Faults::default());
        run(&mut archive).unwrap();
        assert_whole(&disk, &house);
    }
}

#[test]
fn a_full_disk_keeps_what_was_committed_and_the_log_keeps_the_rest() {
    let house = House::lived_in();
    let disk = SimulatedDisk::new();
    let mut archive = archive(&disk, &house, store());
    disk.set_faults(Faults { capacity_bytes: Some(60_000), ..Faults::default() });
    let error = run(&mut archive).unwrap_err();
    assert!(matches!(&error, ArchiveError::Io(io) if io.full()) && error.passes(), "{error}");
    let reached = live(&disk).archived_lsn;
    assert!(reached > 0 && reached < house.wal.durable_lsn(), "{reached}");
    let needs = |house: &House| house.wal.cursors().iter().find(|cursor| cursor.name == "archive").unwrap().needs_lsn;
    assert_eq!(needs(&house), reached + 1);
    disk.set_faults(Faults::default());
    run(&mut archive).unwrap();
    assert_whole(&disk, &house);
    assert_eq!(needs(&house), house.wal.durable_lsn() + 1);
}

#[test]
fn the_log_is_given_back_only_behind_what_is_archived() {
    let mut house = House::lived_in();
    let snapshot = house.wal.cursor("snapshot", house.wal.durable_lsn() + 1, crate::wal::Hold::Firm).unwrap();
    let disk = SimulatedDisk::new();
    let mut archive = archive(&disk, &house, store());
    assert_eq!(house.wal.release().unwrap().segments, 0, "nothing is archived");
    run(&mut archive).unwrap();
    assert!(house.wal.release().unwrap().segments > 0);
    assert!(house.wal.earliest_lsn() > 1);
    // A store that is declared late begins where the log does.
    let late = SimulatedDisk::new();
    let mut other = self::archive(&late, &house, store());
    house.push("Tx", &[(json!({"n": 1_000}), NOW_US)]);
    run(&mut other).unwrap();
    assert_eq!(live(&late).first_lsn, house.wal.earliest_lsn());
    assert_eq!(live(&late).fault(), None);
    drop(snapshot);
}

#[test]
fn what_the_log_gave_back_without_an_archive_is_a_gap_with_a_name() {
    let mut house = House::lived_in();
    let disk = SimulatedDisk::new();
    let mut first = archive(&disk, &house, store());
    run(&mut first).unwrap();
    let reached = live(&disk).archived_lsn;
    drop(first);
    // Without a store, snapshots alone say what goes.
    for n in 0..60 {
        house.push("Tx", &(0..20).map(|row| (json!({"n": n * 20 + row, "text": "x".repeat(100)}), NOW_US)).collect::<Vec<_>>());
    }
    let _snapshot = house.wal.cursor("snapshot", house.wal.durable_lsn() + 1, crate::wal::Hold::Firm).unwrap();
    assert!(house.wal.release().unwrap().segments > 0);
    let earliest = house.wal.earliest_lsn();
    assert!(earliest > reached + 1);
    let mut archive = archive(&disk, &house, store());
    run(&mut archive).unwrap();
    let live = live(&disk);
    assert_eq!((live.gaps, live.rows.excluded), (vec![[reached + 1, earliest - 1]], earliest - 1 - reached));
}

#[test]
fn of_two_writers_the_one_that_opened_last_goes_on() {
    let mut house = House::lived_in();
    let disk = SimulatedDisk::new();
    let mut old = archive(&disk, &house, store());
    run(&mut old).unwrap();
    let mut new = archive(&disk, &house, store());
    new.open().unwrap();
    house.push("Tx", &[(json!({"n": 1_000}), NOW_US)]);
    assert!(matches!(run(&mut old), Err(ArchiveError::Fenced { .. })));
    assert_eq!(run(&mut new).unwrap(), 1);
    assert_eq!(rows_of(&disk).len(), 1_001);
}

#[test]
fn an_archive_of_another_log_and_an_older_copy_of_the_log_are_refused() {
    let (disk, house) = (SimulatedDisk::new(), House::lived_in());
    let mut first = archive(&disk, &house, store());
    run(&mut first).unwrap();
    let mut copy = House::new();
    copy.declare("Tx", &json!({"n": "i64"}));
    let refused = archive(&disk, &copy, store()).open().err();
    assert!(matches!(refused, Some(ArchiveError::AheadOfLog { .. })), "{refused:?}");
    let options = WalOptions::default();
    let other = LogIdentity { log_id: 9, hash_seed: 9 };
    let (_writer, wal) = WalWriter::start(SimulatedDisk::new(), Path::new("w"), Start::Fresh { log: other }, options, 1).unwrap();
    let mut foreign = Archive::new(disk.clone(), store(), wal, Arc::default(), Arc::new(Hand::default())).unwrap();
    assert!(matches!(foreign.open(), Err(ArchiveError::ForeignLog { .. })));
    assert_whole(&disk, &house);
}

#[test]
fn a_manifest_that_is_missing_or_not_as_it_was_is_refused_by_name() {
    let house = House::lived_in();
    let disk = SimulatedDisk::new();
    run(&mut archive(&disk, &house, store())).unwrap();
    let folder = Path::new("arch/_manifests");
    let path = folder.join(format!("{:020}.json", 3));
    let sound = disk.bytes(&path).unwrap();
    let refused = |disk: &SimulatedDisk| {
        let error = archive(disk, &house, store()).open().err();
        assert!(matches!(&error, Some(ArchiveError::Manifest { path: named, .. }) if *named == path), "{error:?}");
    };
    for damage in [&b"{"[..], &sound[..sound.len() / 2], br#"{"format":1}"#] {
        disk.place(&path, damage.to_vec());
        refused(&disk);
    }
    let text = String::from_utf8(sound.clone()).unwrap();
    let wrong = text.replace("\"archived\":", "\"archived\":1");
    disk.place(&path, wrong.into_bytes());
    refused(&disk);
    disk.remove(&path).unwrap();
    refused(&disk);
    disk.place(&path, sound);
    archive(&disk, &house, store()).open().unwrap();
}

/// Whatever bit of a file turns, and whatever length it is cut to, it is named.
#[test]
fn a_file_that_is_not_as_it_was_is_named() {
    let (disk, house) = (SimulatedDisk::new(), House::lived_in_for(3));
    run_(&disk, &house);
    let look = |disk: &SimulatedDisk| super::verify(disk, Path::new("arch"), Path::new("arch/_manifests")).unwrap().unwrap();
    let sound = look(&disk);
    assert_eq!((sound.rows, sound.findings, sound.orphans), (75, vec![], 0));
    let listed = sound.live.files.keys().next().unwrap().clone();
    let path = Path::new("arch").join(&listed);
    let bytes = disk.bytes(&path).unwrap();
    let named = |disk: &SimulatedDisk, what: &str| {
        let findings = look(disk).findings;
        assert!(findings.len() == 1 && findings[0].starts_with(&listed), "{what}: {findings:?}");
    };
    for at in (0..bytes.len()).step_by(97) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        disk.place(&path, damaged);
        named(&disk, &format!("byte {at}"));
    }
    for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        disk.place(&path, bytes[..length].to_vec());
        named(&disk, &format!("{length} bytes"));
    }
    // Another file of the archive under its name: bytes that are whole, and rows that are not its own.
    let other = sound.live.files.keys().nth(1).unwrap();
    disk.place(&path, disk.bytes(&Path::new("arch").join(other)).unwrap());
    named(&disk, "another file");
    disk.remove(&path).unwrap();
    named(&disk, "no file");
    disk.place(&path, bytes);
    disk.place(Path::new("arch/dt=2023-11-14/part-53545245-00000000000000009999.parquet"), b"x".to_vec());
    assert_eq!((look(&disk).findings, look(&disk).orphans), (vec![], 1));
    assert_eq!(super::verify(&disk, Path::new("none"), Path::new("none/_manifests")).unwrap(), None);
}

/// Once there is a file, names of columns and places of files stay; what only makes other files may change.
#[test]
fn a_declaration_that_would_mix_two_archives_is_refused() {
    let (disk, mut house) = (SimulatedDisk::new(), House::lived_in_for(3));
    let declared = |pairs: &str| {
        let text = format!("CREATE EVENTSTORE x WITH (durable.type = 'parquet', durable.path = 'arch', {pairs})");
        Store { memory_bytes: 16 << 10, ..crate::eventstore::parse(&text).unwrap().store().unwrap() }
    };
    let mut first = archive(&disk, &house, declared("bloom.fpp = 0.1"));
    // Nothing is fixed before there is a file.
    archive(&disk, &house, declared("envelope.seq_key = 'number'")).open().unwrap();
    run(&mut first).unwrap();
    let refused = archive(&disk, &house, declared("envelope.seq_key = 'number'")).open().err();
    assert!(matches!(&refused, Some(ArchiveError::Fixed(error)) if error.reason.contains("envelope.seq_key")), "{refused:?}");
    house.push("Tx", &[(json!({"n": 75}), NOW_US)]);
    let mut other = archive(&disk, &house, declared("bloom.fpp = 0.2, durable.compression = 'snappy'"));
    assert_eq!(run(&mut other).unwrap(), 1);
    assert_eq!(rows_of(&disk).len(), 76);
}

/// Numbers, texts and lists of a manifest may be anything: it is refused or taken, and nothing panics.
#[test]
fn no_manifest_ends_the_process() {
    let mut house = House::new();
    house.declare("Tx", &json!({"n": "i64"}));
    let disk = SimulatedDisk::new();
    let mut archive = archive(&disk, &house, store());
    for n in 0..66 {
        house.push("Tx", &[(json!({"n": n}), NOW_US)]);
        run(&mut archive).unwrap();
    }
    let folder = Path::new("arch/_manifests");
    let (mut refused, mut taken) = (0, 0);
    for name in [format!("{:020}.json", 66), format!("{:020}.full.json", 64)] {
        let path = folder.join(&name);
        let sound = disk.bytes(&path).unwrap();
        let text: Json = serde_json::from_slice(&sound).unwrap();
        for pointer in pointers(&text) {
            for value in [json!(0), json!(u64::MAX), json!(1), json!("x"), json!([]), json!(null), json!(["x", "x"]), json!([u64::MAX, 0])]
            {
                let mut crafted = text.clone();
                *crafted.pointer_mut(&pointer).unwrap() = value.clone();
                disk.place(&path, serde_json::to_vec(&crafted).unwrap());
                let found = super::verify(&disk, Path::new("arch"), folder);
                *if found.is_ok() { &mut taken } else { &mut refused } += 1;
            }
        }
        // The same file removed twice, and one added twice.
        let mut twice = text.clone();
        if twice.get("remove").is_some() {
            let path = text["add"][0]["path"].clone();
            twice["remove"] = json!([path, path]);
            disk.place(&folder.join(&name), serde_json::to_vec(&twice).unwrap());
            assert!(super::verify(&disk, Path::new("arch"), folder).is_err());
        }
        disk.place(&path, sound);
    }
    assert!(refused > 200 && taken > 10, "{refused} refused, {taken} taken");
    assert_eq!(rows_of(&disk).len(), 66);
}

/// Where something stands in a document.
fn pointers(value: &Json) -> Vec<String> {
    let inner: Vec<(String, &Json)> = match value {
        Json::Object(members) => members.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect(),
        Json::Array(items) => items.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    let mut found = vec![String::new()];
    for (key, value) in inner.into_iter().take(20) {
        found.extend(pointers(value).into_iter().map(|rest| format!("/{key}{rest}")));
    }
    found
}

#[test]
fn files_of_others_below_the_root_stay() {
    let house = House::lived_in();
    let disk = SimulatedDisk::new();
    for path in ["arch/notes.txt", "arch/dt=2023-11-14/mine.parquet", "arch/x/part-00000000-00000000000000000001.parquet"] {
        disk.place(Path::new(path), b"hello".to_vec());
    }
    let orphan = Path::new("arch/dt=2023-11-14/stream_type=Tx/part-53545245-00000000000000009999.parquet");
    disk.place(orphan, b"orphan".to_vec());
    run(&mut archive(&disk, &house, store())).unwrap();
    assert_eq!(leftovers(&disk).len(), 3);
    assert_eq!(disk.bytes(orphan), None);
}

/// An event that grew, one that was dropped and declared anew, and fields that have the names of others.
#[test]
fn declarations_that_change_between_rows_keep_each_row_under_its_own_version() {
    let mut house = House::new();
    house.declare("Tx", &json!({"n": "i64"}));
    house.push("Tx", &[(json!({"n": 1}), NOW_US)]);
    house.declare("Tx", &json!({"n": "i64", "lsn": "str", "dt": "f64"}));
    house.push("Tx", &[(json!({"n": 2, "lsn": "a", "dt": 0.5}), NOW_US), (json!({"n": 3}), NOW_US)]);
    house.registry = Arc::new(house.registry.reset());
    house.append(&Content::Reset);
    house.declare("Tx", &json!({"n": "str"}));
    house.push("Tx", &[(json!({"n": "four"}), NOW_US)]);
    let disk = SimulatedDisk::new();
    run(&mut archive(&disk, &house, store())).unwrap();
    let rows: Vec<_> = rows_of(&disk).into_values().collect();
    let numbers: Vec<&Json> = rows.iter().map(|row| &row["n"]).collect();
    assert_eq!(numbers, [&json!(1), &json!(2), &json!(3), &json!("four")]);
    assert_eq!(rows[0].get("field_lsn"), None);
    assert_eq!((&rows[1]["field_lsn"], &rows[1]["field_dt"]), (&json!("a"), &json!(0.5)));
    assert_eq!((&rows[1]["_absent"], &rows[2]["_absent"]), (&Json::Null, &json!("[\"dt\",\"lsn\"]")));
    let files = live(&disk).files;
    let versions: std::collections::BTreeSet<(u32, u32)> = files.values().map(|file| (file.event_id, file.schema)).collect();
    assert_eq!(versions.len(), 3, "{versions:?}");
}

#[test]
fn a_record_says_where_it_comes_from_and_has_its_id_again_when_it_comes_again() {
    let mut ids = Vec::new();
    for other_rows_before in [0, 3] {
        let mut house = House::new();
        house.declare("Tx", &json!({"n": "i64"}));
        let slot = house.partition(3);
        for n in 0..other_rows_before {
            house.push("Tx", &[(json!({"n": n}), NOW_US)]);
        }
        let rows = house.batch("Tx", &[(json!({"n": 7}), NOW_US), (json!({"n": 8}), NOW_US)]).finish();
        let run = Run { first_row: 0, position: 0, first_offset: 100 };
        let words = with_run(&rows, run);
        let batches = vec![Rows::from_words(words).unwrap()];
        let position = Position { epoch: 4, offset: 102, after: 101, record_time_ms: 5, clock_ms: 5 };
        house.append(&Content::Rows(RowsContent { batches, positions: vec![(slot, position)], ..RowsContent::default() }));
        let disk = SimulatedDisk::new();
        run_(&disk, &house);
        let rows: Vec<_> = rows_of(&disk).into_values().filter(|row| !row["topic"].is_null()).collect();
        assert_eq!(rows.len(), 2);
        assert_eq!((&rows[1]["topic"], &rows[1]["partition"], &rows[1]["offset"]), (&json!("payments"), &json!(3), &json!(101)));
        let reached = &live(&disk).positions["Tx/payments/3"];
        assert_eq!((reached.next, reached.leader_epoch), (102, 4));
        ids.push((rows[0]["event_id"].clone(), rows[1]["event_id"].clone()));
    }
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0].0, ids[0].1);
}

fn run_(disk: &SimulatedDisk, house: &House) {
    run(&mut archive(disk, house, store())).unwrap();
}

/// The batch with one run of offsets in it.
fn with_run(rows: &Rows, run: Run) -> Vec<u64> {
    let mut words = rows.words().to_vec();
    words[2] += 1 << 32;
    words.splice(4..4, [u64::from(run.first_row) | u64::from(run.position) << 32, run.first_offset.cast_unsigned()]);
    words
}

#[test]
fn a_log_at_rest_makes_no_manifests_unless_somebody_asks() {
    let mut house = House::lived_in();
    let disk = SimulatedDisk::new();
    let mut archive = archive(&disk, &house, store());
    run(&mut archive).unwrap();
    let version = live(&disk).version;
    house.append(&Content::Nothing);
    assert_eq!(archive.run(false, |_, _| {}).unwrap().commits, 0);
    assert_eq!(live(&disk).version, version);
    assert_eq!(archive.run(true, |_, _| {}).unwrap().commits, 1);
    assert_eq!(live(&disk).archived_lsn, house.wal.durable_lsn());
    assert_eq!(kind_of(&Content::Nothing), FrameKind::MARK);
}

/// More than a hundred versions: a start reads the newest whole list and what follows.
#[test]
fn a_start_reads_the_whole_list_and_what_follows_it() {
    let mut house = House::new();
    house.declare("Tx", &json!({"n": "i64"}));
    let disk = SimulatedDisk::new();
    let mut archive = archive(&disk, &house, store());
    for n in 0..100 {
        house.push("Tx", &[(json!({"n": n}), NOW_US)]);
        run(&mut archive).unwrap();
    }
    let all = live(&disk);
    // What the whole list has is not asked of older versions.
    for version in 1..=64 {
        disk.remove(&Path::new("arch/_manifests").join(format!("{version:020}.json"))).unwrap();
    }
    assert_eq!(live(&disk), all);
    assert_eq!(rows_of(&disk).len(), 100);
}
