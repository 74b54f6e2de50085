//! Words in a file are read as what they are, or refused by name.

use super::crafted::{driven, restore, varied_rows};
use super::pipeline::{payload, tables};
use super::replay::sections;
use super::{Driven, Json};
use crate::state::layout::Layout;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The same state, its description changed.
fn with_description(change: impl Fn(&mut Json)) -> Result<(), String> {
    let (driven, _) = driven();
    let mut sections = sections(&driven.state);
    let (_, _, description) = sections.iter_mut().find(|(id, ..)| *id == 1).unwrap();
    let mut meta: Json = serde_json::from_slice(description).unwrap();
    change(&mut meta);
    *description = serde_json::to_vec(&meta).unwrap();
    restore(&sections, driven.state.lsn()).map(drop)
}

#[test]
fn a_state_that_another_build_laid_out_otherwise_is_refused_by_the_name_of_what_differs() {
    let accumulator = |meta: &mut Json, list: &str| {
        let slot = match list {
            "lifetime" => &mut meta["tables"][0]["slabs"][0]["layout"]["lifetime"][0],
            _ => &mut meta["tables"][0]["slabs"][0]["layout"]["rings"][0]["slots"][0],
        };
        slot["words"] = 7.into();
        slot["accumulator"] = "of old".into();
    };
    type Change<'c> = &'c dyn Fn(&mut Json);
    let cases: [(&str, Change<'_>); 6] = [
        ("in table ByUser feature cnt has \"of old\" in 7 words there, and \"rows\" in 1 words here", &|meta| {
            accumulator(meta, "lifetime")
        }),
        ("in table ByUser feature cnt_2s has \"of old\" in 7 words there, and", &|meta| accumulator(meta, "rings")),
        ("are cut into at most 9 buckets of", &|meta| meta["tables"][0]["slabs"][0]["layout"]["rings"][1]["buckets"] = 9.into()),
        ("in table ByUser lists have entries of 3 words", &|meta| {
            meta["tables"][0]["slabs"][0]["layout"]["list"]["entry_words"] = 3.into()
        }),
        ("in table ByUser lists have no entries there", &|meta| meta["tables"][0]["slabs"][0]["layout"]["list"] = Json::Null),
        ("in table ByUser rows have 3 words there", &|meta| meta["tables"][0]["slabs"][0]["layout"]["row_words"] = 3.into()),
    ];
    assert_eq!(with_description(|_| {}), Ok(()));
    for (told, change) in cases {
        let error = with_description(change).unwrap_err();
        assert!(error.starts_with("the snapshot's content is laid out by another program: ") && error.contains(told), "{error}");
    }
}

/// What a feature's words are under one identity.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    layout: Layout,
    /// Fingerprints of keys that have lists and rings, fed with the same rows.
    list: String,
    rings: String,
}

#[test]
fn who_changes_the_words_of_an_accumulator_changes_its_identity() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/layouts.json");
    let mut now: BTreeMap<String, Known> = BTreeMap::new();
    let rows = varied_rows(150);
    for mut table in tables() {
        let name = table.name;
        for feature in std::mem::take(&mut table.features) {
            let of = format!("{name}.{} ({})", feature.name, feature.op);
            table.features = vec![feature];
            let alone = payload(std::slice::from_ref(&table));
            let mut driven = Driven::with(&alone);
            driven.feed(&rows, &[70]);
            let fingerprint = |driven: &Driven| {
                let table = driven.state.table(name).unwrap();
                format!("{:032x}", table.fingerprint(0..table.keys.rows()))
            };
            let list = fingerprint(&driven);
            driven.grow(name, |_| true);
            let layout = Layout::of(&driven.state.table(name).unwrap().slabs[0].plan);
            now.insert(of, Known { layout, list, rings: fingerprint(&driven) });
        }
    }
    if std::env::var_os("STREAMGAUGE_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&now).unwrap() + "\n").unwrap();
    }
    let known: BTreeMap<String, Known> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (of, now) in &now {
        let Some(known) = known.get(of) else { panic!("{of} is new: STREAMGAUGE_WRITE_GOLDEN=1 takes it up") };
        if known.layout == now.layout {
            assert_eq!(known, now, "{of} writes other words under the same layout and identity: give its accumulator another one");
        }
        assert_eq!(
            known.layout, now.layout,
            "{of} is laid out anew, which refuses the snapshots of before: STREAMGAUGE_WRITE_GOLDEN=1 if it has to be"
        );
    }
    assert_eq!(known.len(), now.len(), "a feature is gone: STREAMGAUGE_WRITE_GOLDEN=1");
}
