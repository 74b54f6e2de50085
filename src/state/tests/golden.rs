//! Bytes written once can be read for ever: a state in `tests/golden/`, written by the helper below where there is
//! none, or anew with `STREAMGAUGE_WRITE_GOLDEN=1`. Who changes the words of a state raises the format of images,
//! and its number is in the folder's name.

use super::pipeline::{event, node};
use super::rows::{Datum, FIELDS, Row, START_US};
use super::{Driven, HASH_SEED};
use crate::operators::Accuracy;
use crate::row::Key;
use crate::snapshot::{SnapshotFacts, SnapshotReader, SnapshotWriter};
use crate::state::ImageReader;
use crate::state::image::IMAGE_FORMAT;
use crate::storage::{Disk, Storage};
use crate::wal::LogIdentity;
use serde_json::json;
use std::path::{Path, PathBuf};
use streamgauge_api::Value;

/// A row of a user, a second after the one before.
fn row(user: &str, n: i64) -> Row {
    let datum = |name: &str| match name {
        "user" => Datum::Str(user.into()),
        "n" => Datum::I64(n),
        "label" => Datum::Str(format!("label {}", n % 7)),
        _ => Datum::Absent,
    };
    let data = FIELDS.iter().map(|(name, _)| datum(name)).collect();
    Row { time_us: START_US + n * 1_000_000, ahead_us: 0, delete: false, data }
}

/// A list, a ring, a long key, a freed one, and objects of several kinds.
fn driven() -> Driven {
    let agg = json!({
        "cnt": { "op": "count", "params": {} },
        "sum_1h": { "op": "sum", "params": { "field": "n", "window": "1h" } },
        "last": { "op": "last", "params": { "field": "label" } },
        "top": { "op": "top_k", "params": { "field": "label", "k": 2 } },
        "uniq": { "op": "n_unique", "params": { "field": "n" } },
    });
    let mut driven = Driven::with(&json!({ "nodes": [event(), node("T", &[], &["user"], &agg)] }));
    let rows: Vec<Row> =
        (0..40).map(|n| row("grown", n)).chain((40..42).map(|n| row("a key that is longer than fifteen bytes", n))).collect();
    driven.feed(&rows, &[12]);
    driven.grow("T", |number| number == 0);
    driven.feed(&[row("gone", 43), Row { delete: true, ..row("gone", 44) }], &[]);
    driven
}

fn fixture() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/state-{IMAGE_FORMAT}"));
    let state = driven().state.freeze().unwrap();
    let path = folder.join(format!("{:020}.snap", state.lsn()));
    if !path.exists() || std::env::var_os("STREAMGAUGE_WRITE_GOLDEN").is_some() {
        let log = LogIdentity { log_id: 1, hash_seed: HASH_SEED };
        let mut writer = SnapshotWriter::begin(Disk, &folder, SnapshotFacts { log, lsn: state.lsn(), wall_us: 7 }).unwrap();
        state.write_image(&mut writer).unwrap();
        writer.finish(state.key_count(), state.fingerprint().unwrap(), state.lsn()).unwrap();
    }
    path
}

#[test]
fn a_state_written_by_the_first_build_opens_and_goes_on() {
    let path = fixture();
    let mut reader = SnapshotReader::open(&Disk, &path).unwrap();
    let facts = *reader.facts();
    let mut image = ImageReader::default();
    while let Some(section) = reader.next().unwrap() {
        image.take(&section).unwrap();
    }
    let state = image.finish(facts.log.hash_seed, facts.lsn).unwrap();
    let info = reader.info().unwrap();
    assert_eq!((state.fingerprint(), state.key_count()), (info.fingerprint, info.key_count));
    let mut restored = Driven { next_lsn: state.lsn() + 1, state, log: Vec::new() };
    restored.feed(&[row("grown", 45)], &[]);
    let read = |feature: &str| {
        let reading = restored.read("T", &Key::from_slice(b"grown"), feature, START_US + 45_000_000).unwrap();
        assert_eq!(reading.accuracy, Accuracy::Exact, "{feature}");
        reading.value
    };
    assert_eq!(read("cnt"), Value::I64(41));
    assert_eq!(read("sum_1h"), Value::F64((39 * 40 / 2 + 45) as f64));
    assert_eq!(read("last"), Value::Str("label 3".into()));
    assert_eq!(read("uniq"), Value::I64(41));
    assert_eq!(Disk.list(path.parent().unwrap()).unwrap().len(), 1);
}
