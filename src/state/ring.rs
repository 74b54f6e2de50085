//! A ring of time buckets: one per (entity, window), shared by all features of that window.
//!
//! ```text
//! word 0     number of buckets
//! bucket     epoch us | slot words of each accumulator        sorted by epoch, sparse
//! ```
//! The bucket of a row is `floor(time / bucket) * bucket`, aligned to the Unix epoch. At most 64 buckets are live; expired ones
//! leave when room is needed, and a row older than the live ones is too old for the window. A read merges buckets with `0 <= now - epoch < window`.

use super::arena::{Arena, Handle};
use super::plan::{SlabRow, WindowPlan};

pub(crate) fn len(object: &[u64]) -> usize {
    object.first().map_or(0, |&count| usize::try_from(count).unwrap_or(0))
}

/// First microsecond of the bucket that holds `time_us`.
pub(crate) fn epoch_of(plan: &WindowPlan, time_us: i64) -> i64 {
    time_us.div_euclid(plan.bucket_us).saturating_mul(plan.bucket_us)
}

/// Feeds one row; false when its bucket has left the ring.
pub(crate) fn update(plan: &WindowPlan, arena: &mut Arena, handle: &mut Handle, row: SlabRow<'_, '_>) -> bool {
    let epoch = epoch_of(plan, row.bare.time_us);
    let Some(at) = bucket(plan, arena, handle, epoch) else { return false };
    if !plan.has_leaves {
        let mut nowhere = Arena::default();
        let bucket = &mut arena.get_mut(*handle)[at..at + plan.stride];
        for accumulator in &plan.accumulators {
            accumulator.update(&mut bucket[accumulator.at..accumulator.at + accumulator.words], &mut nowhere, row);
        }
        debug_assert_eq!(nowhere.used_bytes(), 0, "an accumulator without handles has no objects");
        return true;
    }
    // The bucket is worked on outside of the arena, since its accumulators may grow objects there.
    let mut bucket: smallvec::SmallVec<[u64; 24]> = smallvec::SmallVec::from_slice(&arena.get(*handle)[at..at + plan.stride]);
    for accumulator in &plan.accumulators {
        accumulator.update(&mut bucket[accumulator.at..accumulator.at + accumulator.words], arena, row);
    }
    arena.get_mut(*handle)[at..at + plan.stride].copy_from_slice(&bucket);
    true
}

/// First word of the bucket of this epoch, made when it is new; none when it is too old.
fn bucket(plan: &WindowPlan, arena: &mut Arena, handle: &mut Handle, epoch: i64) -> Option<usize> {
    let object = arena.get(*handle);
    let count = len(object);
    let epoch_at = |object: &[u64], index: usize| object[1 + index * plan.stride].cast_signed();
    let mut at = count;
    while at > 0 {
        let known = epoch_at(object, at - 1);
        if known == epoch {
            return Some(1 + (at - 1) * plan.stride);
        }
        if known < epoch {
            break;
        }
        at -= 1;
    }
    let span = plan.bucket_us.saturating_mul(plan.buckets as i64);
    let newest = if count == 0 { epoch } else { epoch_at(object, count - 1).max(epoch) };
    if newest.saturating_sub(epoch) >= span {
        return None;
    }
    let room = Arena::capacity(*handle).saturating_sub(1) / plan.stride;
    let mut count = count;
    // Expired buckets stay until the object is full, so that a busy ring does not move for each new one.
    if count >= room {
        let left = drop_expired(plan, arena, *handle, newest);
        at -= (count - left).min(at);
        count = left;
        if count >= room {
            let buckets = if count < 4 { count + 1 } else { (count * 3 / 2).min(plan.buckets) };
            *handle = arena.grow(*handle, 1 + buckets * plan.stride);
        }
    }
    let object = arena.get_mut(*handle);
    let (start, end) = (1 + at * plan.stride, 1 + count * plan.stride);
    object.copy_within(start..end, start + plan.stride);
    object[start..start + plan.stride].fill(0);
    object[start] = epoch.cast_unsigned();
    object[0] = count as u64 + 1;
    Some(start)
}

/// Removes buckets that no read at or after `newest` can reach; returns how many are left. Distinct epochs are `bucket_us` apart, so a full ring always frees one.
fn drop_expired(plan: &WindowPlan, arena: &mut Arena, handle: Handle, newest: i64) -> usize {
    let object = arena.get(handle);
    let count = len(object);
    let span = plan.bucket_us.saturating_mul(plan.buckets as i64);
    let expired = (0..count).take_while(|&index| newest.saturating_sub(object[1 + index * plan.stride].cast_signed()) >= span).count();
    if expired == 0 {
        return count;
    }
    for index in 0..expired {
        release_bucket(plan, arena, handle, index);
    }
    let object = arena.get_mut(handle);
    let (from, to) = (1 + expired * plan.stride, 1 + count * plan.stride);
    object.copy_within(from..to, 1);
    object[1 + (count - expired) * plan.stride..to].fill(0);
    object[0] = (count - expired) as u64;
    count - expired
}

fn release_bucket(plan: &WindowPlan, arena: &mut Arena, handle: Handle, index: usize) {
    for accumulator in &plan.accumulators {
        for &word in accumulator.accumulator.handles() {
            let leaf = arena.get(handle)[1 + index * plan.stride + accumulator.at + word];
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
        let bucket = &object[1 + index * plan.stride..1 + (index + 1) * plan.stride];
        let age = now_us.saturating_sub(bucket[0].cast_signed());
        if age >= 0 && age < plan.window_us {
            wanted.accumulator.merge(slot, scratch, &bucket[wanted.at..wanted.at + wanted.words], arena);
        }
    }
}

/// Feeds every byte that matters into a hash.
pub(crate) fn digest(plan: &WindowPlan, arena: &Arena, handle: Handle, feed: &mut dyn FnMut(&[u64])) {
    let object = arena.get(handle);
    for index in 0..len(object) {
        let bucket = &object[1 + index * plan.stride..1 + (index + 1) * plan.stride];
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
