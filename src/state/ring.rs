//! A ring of time buckets: one per (entity, window), shared by all features of that window.
//!
//! ```text
//! word 0     head: number of buckets, edge (`head.rs`)
//! word 1     newest time of the rows that were refused for being too far ahead, us; 0 = none
//! bucket     epoch us | slot words of each accumulator        sorted by epoch, sparse
//! ```
//! The bucket of a row is `floor(time / bucket) * bucket`, aligned to the Unix epoch. A ring reaches back one window
//! and one bucket from its edge and [`BUCKETS_AHEAD`] buckets beyond it: an older row is late, a row further ahead is
//! refused and counted. Buckets that the edge has left behind leave when room is needed. A read merges buckets with
//! `0 <= now - epoch < window`.

use super::arena::{Arena, Handle};
use super::head::Head;
use super::plan::{SlabRow, WindowPlan};

/// Words in front of the first bucket.
pub(crate) const HEAD_WORDS: usize = 2;

/// Buckets beyond the edge that rows ahead of it may stand in.
pub(crate) const BUCKETS_AHEAD: usize = 64;

/// Most buckets of a ring whose window is cut into this many: those of the window and one more, one that the
/// window's old edge cuts, one for the edge itself, and those ahead.
pub(crate) const fn buckets_max(resolution: usize) -> usize {
    resolution + 2 + BUCKETS_AHEAD
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is in its bucket, and in the window of who reads at the edge.
    Taken,
    /// It is too old for the window. It may be in its bucket all the same: a ring reaches a bucket further back.
    Late,
    /// It is too far ahead of the key's edge.
    Ahead,
}

pub(crate) fn len(object: &[u64]) -> usize {
    Head::of(object).count()
}

/// Newest time of rows that were refused for being too far ahead; none when there were none.
pub(crate) fn refused_until_us(object: &[u64]) -> Option<i64> {
    object.get(1).filter(|&&word| word != 0).map(|word| word.cast_signed())
}

/// The words of a bucket.
pub(crate) fn bucket_words(plan: &WindowPlan, index: usize) -> std::ops::Range<usize> {
    let start = HEAD_WORDS + index * plan.stride;
    start..start + plan.stride
}

fn epoch_at(plan: &WindowPlan, object: &[u64], index: usize) -> i64 {
    object[HEAD_WORDS + index * plan.stride].cast_signed()
}

/// First microsecond of the bucket that holds `time_us`.
pub(crate) fn epoch_of(plan: &WindowPlan, time_us: i64) -> i64 {
    time_us.div_euclid(plan.bucket_us).saturating_mul(plan.bucket_us)
}

/// An empty ring of a key that has come this far. It knows from the first whether the key lost rows before.
pub(crate) fn open(arena: &mut Arena, head: Head) -> Handle {
    let handle = arena.alloc(HEAD_WORDS);
    arena.get_mut(handle)[0] = head.with_count(0).word();
    handle
}

/// Feeds one row.
pub(crate) fn update(plan: &WindowPlan, arena: &mut Arena, handle: &mut Handle, row: SlabRow<'_, '_>) -> Kept {
    let time_us = row.bare.time_us;
    let mut head = Head::of(arena.get(*handle)).with_edge(row.edge_us);
    let epoch = epoch_of(plan, time_us);
    let age_us = head.edge_us().saturating_sub(time_us);
    let gone = age_us >= plan.keep_us;
    let ahead_us = plan.bucket_us.saturating_mul(BUCKETS_AHEAD as i64);
    let ahead = epoch.saturating_sub(epoch_of(plan, head.edge_us())) > ahead_us;
    debug_assert!(!(gone && ahead), "a row is behind the edge or beyond it");
    if gone || ahead {
        if *handle == 0 {
            *handle = open(arena, head);
        }
        let object = arena.get_mut(*handle);
        if ahead && refused_until_us(object).is_none_or(|known| known < time_us) {
            object[1] = time_us.cast_unsigned();
        }
        object[0] = head.with_dropped(gone || head.dropped()).word();
        return if gone { Kept::Late } else { Kept::Ahead };
    }
    let kept = if age_us >= plan.window_us { Kept::Late } else { Kept::Taken };
    let at = bucket(plan, arena, handle, epoch, &mut head);
    if !plan.has_leaves {
        let mut nowhere = Arena::default();
        let object = arena.get_mut(*handle);
        object[0] = head.word();
        let bucket = &mut object[at..at + plan.stride];
        for accumulator in &plan.accumulators {
            accumulator.update(&mut bucket[accumulator.at..accumulator.at + accumulator.words], &mut nowhere, row);
        }
        debug_assert_eq!(nowhere.used_bytes(), 0, "an accumulator without handles has no objects");
        return kept;
    }
    // The bucket is worked on outside of the arena, since its accumulators may grow objects there.
    let mut bucket: smallvec::SmallVec<[u64; 24]> = smallvec::SmallVec::from_slice(&arena.get(*handle)[at..at + plan.stride]);
    for accumulator in &plan.accumulators {
        accumulator.update(&mut bucket[accumulator.at..accumulator.at + accumulator.words], arena, row);
    }
    let object = arena.get_mut(*handle);
    object[0] = head.word();
    object[at..at + plan.stride].copy_from_slice(&bucket);
    kept
}

/// First word of the bucket of this epoch, made when it is new.
fn bucket(plan: &WindowPlan, arena: &mut Arena, handle: &mut Handle, epoch: i64, head: &mut Head) -> usize {
    let object = arena.get(*handle);
    let mut count = head.count();
    let mut at = count;
    while at > 0 {
        let known = epoch_at(plan, object, at - 1);
        if known == epoch {
            return HEAD_WORDS + (at - 1) * plan.stride;
        }
        if known < epoch {
            break;
        }
        at -= 1;
    }
    let room = Arena::capacity(*handle).saturating_sub(HEAD_WORDS) / plan.stride;
    // Expired buckets stay until the object is full, so that a busy ring does not move for each new one.
    if count >= room {
        let left = drop_expired(plan, arena, *handle, head);
        at -= (count - left).min(at);
        count = left;
        if count >= room {
            assert!(count < plan.buckets, "{count} live buckets in a ring for {}", plan.buckets);
            let buckets = if count < 4 { count + 1 } else { (count * 3 / 2).min(plan.buckets) };
            *handle = arena.grow(*handle, HEAD_WORDS + buckets * plan.stride);
        }
    }
    let object = arena.get_mut(*handle);
    let (start, end) = (HEAD_WORDS + at * plan.stride, HEAD_WORDS + count * plan.stride);
    object.copy_within(start..end, start + plan.stride);
    object[start..start + plan.stride].fill(0);
    object[start] = epoch.cast_unsigned();
    *head = head.with_count(count + 1);
    start
}

/// Removes buckets that no read can reach from the edge; returns how many are left.
fn drop_expired(plan: &WindowPlan, arena: &mut Arena, handle: Handle, head: &mut Head) -> usize {
    let object = arena.get(handle);
    let count = head.count();
    let from_us = head.edge_us().saturating_sub(plan.keep_us);
    let expired = (0..count).take_while(|&index| epoch_at(plan, object, index).saturating_add(plan.bucket_us) <= from_us).count();
    if expired == 0 {
        return count;
    }
    for index in 0..expired {
        release_bucket(plan, arena, handle, index);
    }
    let object = arena.get_mut(handle);
    let (from, to) = (HEAD_WORDS + expired * plan.stride, HEAD_WORDS + count * plan.stride);
    object.copy_within(from..to, HEAD_WORDS);
    object[HEAD_WORDS + (count - expired) * plan.stride..to].fill(0);
    *head = head.with_count(count - expired).with_dropped(true);
    count - expired
}

fn release_bucket(plan: &WindowPlan, arena: &mut Arena, handle: Handle, index: usize) {
    for accumulator in &plan.accumulators {
        for &word in accumulator.accumulator.handles() {
            let leaf = arena.get(handle)[HEAD_WORDS + index * plan.stride + accumulator.at + word];
            arena.free(leaf);
        }
    }
}

/// Gives the ring and its leaf objects back.
pub(crate) fn release(plan: &WindowPlan, arena: &mut Arena, handle: Handle) {
    for index in 0..len(arena.get(handle)) {
        release_bucket(plan, arena, handle, index);
    }
    arena.free(handle);
}

/// Merges one accumulator's live buckets at `now_us` into `slot`.
pub(crate) fn merge(
    plan: &WindowPlan,
    accumulator: usize,
    arena: &Arena,
    handle: Handle,
    now_us: i64,
    slot: &mut [u64],
    scratch: &mut Arena,
) {
    let object = arena.get(handle);
    let wanted = &plan.accumulators[accumulator];
    for index in 0..len(object) {
        let bucket = &object[bucket_words(plan, index)];
        let age = now_us.saturating_sub(bucket[0].cast_signed());
        if age >= 0 && age < plan.window_us {
            wanted.accumulator.merge(slot, scratch, &bucket[wanted.at..wanted.at + wanted.words], arena);
        }
    }
}

/// Feeds every byte that matters into a hash.
pub(crate) fn digest(plan: &WindowPlan, arena: &Arena, handle: Handle, feed: &mut dyn FnMut(&[u64])) {
    let object = arena.get(handle);
    feed(&object[..HEAD_WORDS.min(object.len())]);
    for index in 0..len(object) {
        let bucket = &object[bucket_words(plan, index)];
        feed(&bucket[..1]);
        for accumulator in &plan.accumulators {
            digest_slot(accumulator, &bucket[accumulator.at..accumulator.at + accumulator.words], arena, feed);
        }
    }
}

/// Feeds one slot, handles followed.
pub(crate) fn digest_slot(plan: &super::plan::AccumulatorPlan, slot: &[u64], arena: &Arena, feed: &mut dyn FnMut(&[u64])) {
    let handles = plan.accumulator.handles();
    for (word, value) in slot.iter().enumerate() {
        if handles.contains(&word) { feed(arena.get(*value)) } else { feed(&[*value]) }
    }
}
