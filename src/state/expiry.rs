//! A key whose rows have all expired gives its list or its rings back.
//!
//! All rows of a key that ever came are older than every window once its edge is [`SlabPlan::keep_us`], the longest
//! window and its bucket (and what decides their rows before them), beyond the newest of them. For a list that is its last
//! entry. For rings the longest ring tells for all: a row that any ring was fed was taken there, refused there (and its
//! time noted), or older than that already; where its window is measured by the one before it, it takes all rows of the list that
//! it grows from, and so it has the newest. Nothing stays behind but the key's edge in its row ([`Form::Expired`]); the next row begins a list.
//!
//! Two occasions, one rule. An *update* whose row moves the edge far enough does it before it takes the row, so that live
//! and replay agree however frames are cut. A *sweep* does it early, by the time of its frame, while memory is short;
//! it is a frame of the log, so that replay does the same. A sweep moves the edge no further than it must: to the first
//! time at which the rows have expired, which is not after the frame's. So no reader at or after that time sees a
//! difference, also in rows that come late, and a read of the past that would have seen the rows is refused by
//! `earliest_us` as after any eviction ([`docs/decisions/giving-back.md`](../../docs/decisions/giving-back.md)).
//!
//! Cost in the row loop: one comparison with the head that the update reads next anyway.

use super::arena::Arena;
use super::form::Form;
use super::head::Head;
use super::list;
use super::plan::SlabPlan;
use super::ring;

/// What an object costs when it is given back, in words that are zeroed meanwhile.
const OBJECT_WORDS: usize = 32;

/// The head of what a key has: of its list, of its longest ring, or what is left of them.
#[inline]
pub(super) fn head(plan: &SlabPlan, arena: &Arena, words: &[u64]) -> Head {
    match Form::of(words[0]) {
        Form::List(handle) => Head::of(arena.get(handle)),
        Form::Rings => Head::of(arena.get(words[plan.windows[plan.longest].at])),
        Form::Expired(head) => head,
    }
}

/// Whether a row with this edge brings its key's edge so far that everything in the key may have expired. A key's newest
/// row is never older than the edge that an update left.
#[inline]
pub(super) fn may_expire(plan: &SlabPlan, arena: &Arena, words: &[u64], edge_us: i64) -> bool {
    words[0] != 0 && edge_us.saturating_sub(head(plan, arena, words).edge_us()) >= plan.keep_us
}

/// What is left of a key at this edge when everything that it has is older than every window; none when something is
/// not, or when it has nothing.
pub(super) fn expired(plan: &SlabPlan, arena: &Arena, words: &[u64], edge_us: i64) -> Option<Form> {
    let (head, newest_us) = match Form::of(words[0]) {
        Form::List(0) | Form::Expired(_) => return None,
        Form::List(handle) => {
            let object = arena.get(handle);
            (Head::of(object), list::newest_us(plan, object))
        }
        Form::Rings => {
            let window = &plan.windows[plan.longest];
            let object = arena.get(words[window.at]);
            (Head::of(object), ring::newest_us(window, object))
        }
    };
    if head.word() == 0 {
        return Some(Form::List(0));
    }
    let Some(newest_us) = newest_us else { return Some(Form::Expired(head.with_count(0).with_dropped(true))) };
    if head.with_edge(edge_us).edge_us().saturating_sub(newest_us) < plan.keep_us {
        return None;
    }
    let least_us = newest_us.saturating_add(plan.keep_us).saturating_add(999);
    // Edges are whole milliseconds, rounded down, and none is the first millisecond of the epoch.
    let least_us = if (0..1000).contains(&least_us) { 1000 } else { least_us };
    let left = head.with_count(0).with_dropped(true).with_edge(least_us);
    assert!(left.edge_us() <= head.with_edge(edge_us).edge_us(), "an edge moves no further than it must");
    Some(Form::Expired(left))
}

/// Gives back what a key has if all of it has expired at this edge; how much work that was, in words.
pub(super) fn give_back(plan: &SlabPlan, arena: &mut Arena, words: &mut [u64], edge_us: i64) -> usize {
    let Some(left) = expired(plan, arena, words, edge_us) else { return 0 };
    let weight = weight(plan, arena, words);
    release(plan, arena, words);
    words[0] = left.word();
    weight
}

/// Gives back the list or the rings of a key, whatever is in them; it has no rows then.
pub(super) fn release(plan: &SlabPlan, arena: &mut Arena, words: &mut [u64]) {
    match Form::of(words[0]) {
        Form::List(handle) => list::release(plan, arena, handle),
        Form::Rings => {
            for window in &plan.windows {
                ring::release(window, arena, std::mem::take(&mut words[window.at]));
            }
        }
        Form::Expired(_) => {}
    }
    words[0] = 0;
    debug_assert!(plan.windows.iter().all(|window| words[window.at] == 0), "only a key with rings has a ring");
}

/// About how much work it is to give back what a key has, in words.
pub(super) fn weight(plan: &SlabPlan, arena: &Arena, words: &[u64]) -> usize {
    let objects = |objects: &mut dyn Iterator<Item = u64>| {
        objects.filter(|&handle| handle != 0).map(|handle| Arena::capacity(handle) + OBJECT_WORDS).sum::<usize>()
    };
    match Form::of(words[0]) {
        Form::List(handle) => objects(&mut std::iter::once(handle).chain(list::texts(plan, arena.get(handle)))),
        Form::Rings => {
            let rings = plan.windows.iter().map(|window| (window, words[window.at]));
            objects(&mut rings.flat_map(|(window, ring)| std::iter::once(ring).chain(ring::leaves(window, arena.get(ring)))))
        }
        Form::Expired(_) => 0,
    }
}
