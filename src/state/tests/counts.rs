//! Counts that stand in an image: none makes a start reserve more than the bytes that say it could fill, and what
//! is sparse in memory is read as it was written.

use super::Driven;
use super::crafted::{Owned, driven, restore};
use super::pipeline::{payload, tables};
use super::replay::{sections, through_a_snapshot};
use super::rows::{Datum, FIELDS, Row, START_US};
use serde_json::{Value as Json, json};

fn words_of(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks_exact(8).map(|eight| u64::from_le_bytes(eight.try_into().unwrap())).collect()
}

/// One chunk that said to be number 67,108,864 of its list once reserved 512 MiB, and a feature that stood
/// twice in a slab ended the start.
#[test]
fn no_count_in_an_image_reserves_more_than_its_bytes_could_fill() {
    let (driven, _) = driven();
    let (sections, lsn) = (sections(&driven.state), driven.state.lsn());
    let group_of = |section: &Owned| {
        let words = words_of(&section.2);
        (section.0 == 2).then_some(words)
    };
    let first = |what: u64| sections.iter().position(|section| group_of(section).is_some_and(|words| words[1] == what && words.len() > 4));
    let (keys, slab, class) = (first(1).unwrap(), first(3).unwrap(), first(4).unwrap());
    let with = |at: usize, change: &dyn Fn(&mut Owned)| {
        let mut changed = sections.clone();
        change(&mut changed[at]);
        changed
    };
    let bits = |at: usize, bits: &[u64]| {
        let head: Vec<u64> = group_of(&sections[at]).unwrap()[..4].iter().chain(bits).copied().collect();
        with(at, &|section| section.2 = bytemuck::cast_slice(&head).to_vec())
    };
    let described = |change: &dyn Fn(&mut Json)| {
        with(0, &|section| {
            let mut meta: Json = serde_json::from_slice(&section.2).unwrap();
            change(&mut meta);
            section.2 = serde_json::to_vec(&meta).unwrap();
        })
    };
    let far = vec![0; 4_000].into_iter().chain([1]).collect::<Vec<u64>>();
    let mut without = sections.clone();
    without.remove(keys + 1);
    for (what, changed, reason) in [
        ("the number of a chunk", with(keys + 1, &|section| section.1 = 1 << 26), "was announced"),
        ("the number of a chunk of an arena", with(class + 1, &|section| section.1 = 1 << 26), "was announced"),
        ("a chunk that is not there", without, "is missing"),
        ("more places than there can be", bits(class, &vec![1; (1 << 20) + 1]), "places of chunks, at most"),
        ("places that end in nothing", bits(class, &[1, 0]), "end in a word without one"),
        ("key words with a gap", bits(keys, &[0, 1]), "was announced"),
        ("words of rows without keys", bits(slab, &far), "and key words of"),
        ("a class beyond all", with(class, &|section| section.2[24..32].copy_from_slice(&(1_u64 << 40).to_le_bytes())), "beyond all"),
        ("a slab beyond all", with(slab, &|section| section.2[16..24].copy_from_slice(&(1_u64 << 40).to_le_bytes())), "have no owner"),
        ("rows", described(&|meta| meta["tables"][0]["rows"] = json!(u32::MAX)), "row numbers were handed out"),
        ("free rows", described(&|meta| meta["tables"][0]["free"]["count"] = json!(u32::MAX)), "are said to be free"),
        (
            "a feature a thousand times",
            described(&|meta| {
                let features = meta["tables"][0]["slabs"][0]["features"].as_array_mut().unwrap();
                *features = features.iter().cycle().take(features.len() * 1_000).cloned().collect();
            }),
            "has slabs of",
        ),
    ] {
        let refused = restore(&changed, lsn).map(|state| state.lsn()).unwrap_err();
        assert!(refused.contains(reason), "{what}: {}", &refused[..refused.len().min(300)]);
    }
}

/// A description longer than a section is in parts: a state that has one could never be written once.
#[test]
fn a_long_description_is_read_from_its_parts() {
    let (driven, _) = driven();
    let (sections, lsn) = (sections(&driven.state), driven.state.lsn());
    let (first, rest) = sections.split_first().unwrap();
    let parts = |lengths: &[usize], numbers: &[u32]| -> Vec<Owned> {
        let mut left = &first.2[..];
        let mut parts = Vec::new();
        for (&length, &number) in lengths.iter().zip(numbers) {
            let (part, behind) = left.split_at(length.min(left.len()));
            parts.push((1, number, part.to_vec()));
            left = behind;
        }
        parts.into_iter().chain(rest.iter().cloned()).collect()
    };
    let all = first.2.len();
    for lengths in [vec![all], vec![1, all], vec![100, 0, 3, all]] {
        let numbers: Vec<u32> = (0..).take(lengths.len()).collect();
        assert_eq!(restore(&parts(&lengths, &numbers), lsn).unwrap().fingerprint(), driven.fingerprint(), "{lengths:?}");
    }
    for numbers in [[0, 0], [1, 0], [0, 2]] {
        assert!(restore(&parts(&[100, all], &numbers), lsn).is_err(), "{numbers:?}");
    }
    assert!(restore(&parts(&[100], &[0]), lsn).is_err(), "half of a description");
    let behind: Vec<Owned> = rest.iter().chain([first]).cloned().collect();
    assert!(restore(&behind, lsn).is_err(), "a description behind the tables");
}

/// An arena keeps the numbers of its chunks: with most of them gone it is written and read as it is.
#[test]
fn a_sparse_state_is_read_as_it_was_written() {
    let mut driven = Driven::with(&payload(&tables()));
    let user = |n: i64| Datum::Str(format!("a user with a name beyond fifteen bytes {n}"));
    let row = |n: i64, delete: bool| Row {
        time_us: START_US + n,
        ahead_us: 0,
        delete,
        data: FIELDS.iter().map(|(name, _)| if *name == "user" { user(n) } else { Datum::Absent }).collect(),
    };
    let all: Vec<Row> = (0..3_000).map(|n| row(n, false)).collect();
    driven.feed(&all, &[500, 1_000, 1_500, 2_000, 2_500]);
    let gone: Vec<Row> = (0..2_990).map(|n| row(n, true)).collect();
    driven.feed(&gone, &[500, 1_000, 1_500, 2_000, 2_500]);
    let sparse = sections(&driven.state).iter().filter(|section| section.0 == 2).any(|group| {
        let words = words_of(&group.2);
        let places = words.len() * 64 - words.last().map_or(0, |last| last.leading_zeros() as usize);
        words.len() > 4 && words[4..].iter().map(|bits| bits.count_ones() as usize).sum::<usize>() + 4 * 64 < places
    });
    assert!(sparse, "some chunks are gone");
    assert_eq!(through_a_snapshot(&driven.state).fingerprint(), driven.fingerprint());
}
