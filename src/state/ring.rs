//! A ring of time buckets: one per (entity, window), shared by all features of that window.
//!
//! ```text
//! word 0     head: number of buckets, edge (`head.rs`)
//! word 1, 2  earliest and newest time of rows that were refused for being too far ahead, us; both 0 = none
//! bucket     time of its newest row, us | slot words of each accumulator        sorted by time, sparse
//! ```
//! The bucket of a row begins at `floor(time / bucket) * bucket`, aligned to the Unix epoch. A ring
//! reaches back one window and one bucket from its edge and [`BUCKETS_AHEAD`] buckets beyond it: an
//! older row is late, a row further ahead is refused and counted. Buckets that the edge has left
//! behind leave when room is needed.
//!
//! A window at a time T is `(T - window, T]`. A read merges the buckets that are wholly inside and
//! hands the cut ones over as they are ([`Cut`]): the one that holds the old edge and a row after
//! it, and the one that holds T and a row after T.

use super::arena::{Arena, Handle};
use super::head::Head;
use super::plan::{AccumulatorPlan, SlabRow, WindowPlan};
use std::ops::Range;

/// Words in front of the first bucket.
pub(crate) const HEAD_WORDS: usize = 3;

/// Of these, the times of rows that were refused.
const REFUSED: Range<usize> = 1..3;

/// Buckets that are looked at one after the other for that of a row: nearly all rows are new.
const NEWEST: usize = 8;

/// Buckets beyond the edge that rows ahead of it may stand in.
pub(crate) const BUCKETS_AHEAD: usize = 64;

/// Most buckets of a ring whose window is cut into this many: those of the window and one more, one
/// that the window's old edge cuts, one for the edge itself, and those ahead.
pub(crate) const fn buckets_max(resolution: usize) -> usize {
    resolution + 2 + BUCKETS_AHEAD
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is in its bucket, and in the window of who reads at the edge.
    Taken,
    /// It is too old for the window. It may be in its bucket all the same: a ring reaches a bucket
    /// further back.
    Late,
    /// It is too far ahead of the key's edge.
    Ahead,
}

pub(crate) fn len(object: &[u64]) -> usize {
    Head::of(object).count()
}

/// Earliest and newest time of rows that were refused for being too far ahead; none when there were
/// none.
fn refused_us(object: &[u64]) -> Option<(i64, i64)> {
    match object[REFUSED] {
        [0, 0] => None,
        [earliest, newest] => Some((earliest.cast_signed(), newest.cast_signed())),
        _ => unreachable!("two words"),
    }
}

/// Whether the times of refused rows are in order, as [`refuse`] writes them.
pub(crate) fn refused_in_order(object: &[u64]) -> bool {
    refused_us(object).is_none_or(|(earliest, newest)| earliest <= newest)
}

/// The words of a bucket.
pub(crate) fn bucket_words(plan: &WindowPlan, index: usize) -> Range<usize> {
    let start = HEAD_WORDS + index * plan.stride;
    start..start + plan.stride
}

/// Time of the newest row of a bucket.
pub(crate) fn newest_at(plan: &WindowPlan, object: &[u64], index: usize) -> i64 {
    object[HEAD_WORDS + index * plan.stride].cast_signed()
}

/// Time of the newest row that is in the ring, or was refused for being too far ahead.
pub(crate) fn newest_us(plan: &WindowPlan, object: &[u64]) -> Option<i64> {
    let taken = len(object).checked_sub(1).map(|last| newest_at(plan, object, last));
    let refused = if object.is_empty() { None } else { refused_us(object).map(|(_, newest)| newest) };
    taken.max(refused)
}

/// The objects of its buckets.
pub(crate) fn leaves<'a>(plan: &'a WindowPlan, object: &'a [u64]) -> impl Iterator<Item = Handle> + 'a {
    let buckets = (0..len(object)).map(|index| &object[bucket_words(plan, index)]);
    buckets.flat_map(|bucket| {
        let handles = |plan: &'a AccumulatorPlan| plan.accumulator.handles().iter().map(|word| bucket[plan.at + word]);
        plan.accumulators.iter().flat_map(handles)
    })
}

/// Notes a row that is too far ahead.
#[cold]
fn refuse(object: &mut [u64], time_us: i64) {
    let (earliest, newest) = refused_us(object).unwrap_or((time_us, time_us));
    let times = [earliest.min(time_us), newest.max(time_us)].map(i64::cast_unsigned);
    object[REFUSED].copy_from_slice(&times);
}

/// First microsecond of the bucket that holds `time_us`.
pub(crate) fn epoch_of(plan: &WindowPlan, time_us: i64) -> i64 {
    time_us.div_euclid(plan.bucket_us).saturating_mul(plan.bucket_us)
}

/// Whether a bucket is too far beyond the edge to be kept.
pub(crate) fn is_ahead(plan: &WindowPlan, epoch: i64, edge_us: i64) -> bool {
    epoch.saturating_sub(epoch_of(plan, edge_us)) > plan.bucket_us.saturating_mul(BUCKETS_AHEAD as i64)
}

/// An empty ring of a key that has come this far. It knows from the first whether the key lost rows
/// before.
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
    let ahead = is_ahead(plan, epoch, head.edge_us());
    debug_assert!(!(gone && ahead), "a row is behind the edge or beyond it");
    if gone || ahead {
        if *handle == 0 {
            *handle = open(arena, head);
        }
        let object = arena.get_mut(*handle);
        if ahead {
            refuse(object, time_us);
        }
        object[0] = head.with_dropped(gone || head.dropped()).word();
        if plan.follows {
            overtake(plan, object, epoch, row);
        }
        return if gone { Kept::Late } else { Kept::Ahead };
    }
    let kept = if age_us >= plan.window_us { Kept::Late } else { Kept::Taken };
    let at = bucket(plan, arena, handle, (epoch, time_us), &mut head);
    let object = arena.get_mut(*handle);
    object[0] = head.word();
    if plan.follows {
        overtake(plan, object, epoch, row);
    }
    object[at] = object[at].cast_signed().max(time_us).cast_unsigned();
    if !plan.has_leaves {
        let mut nowhere = Arena::default();
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
    arena.get_mut(*handle)[at..at + plan.stride].copy_from_slice(&bucket);
    kept
}

/// The bucket that begins at `epoch`, or where it belongs. The newest are looked at first, one after the other.
#[inline]
pub(crate) fn find(plan: &WindowPlan, object: &[u64], count: usize, epoch: i64) -> Result<usize, usize> {
    let mut at = count;
    while at > 0 {
        let known = newest_at(plan, object, at - 1);
        if known < epoch {
            break;
        }
        if known.saturating_sub(plan.bucket_us) < epoch {
            return Ok(at - 1);
        }
        at -= 1;
        if count - at == NEWEST {
            return find_older(plan, object, at, epoch);
        }
    }
    Err(at)
}

/// The same among the first `count` buckets: a late row of a ring of a thousand buckets looks at ten of them.
#[cold]
fn find_older(plan: &WindowPlan, object: &[u64], count: usize, epoch: i64) -> Result<usize, usize> {
    let at = partition(count, |index| newest_at(plan, object, index) < epoch);
    let is_there = at < count && newest_at(plan, object, at).saturating_sub(plan.bucket_us) < epoch;
    if is_there { Ok(at) } else { Err(at) }
}

/// First word of the bucket of a row that begins at `epoch`, made when it is new.
fn bucket(plan: &WindowPlan, arena: &mut Arena, handle: &mut Handle, (epoch, time_us): (i64, i64), head: &mut Head) -> usize {
    let object = arena.get(*handle);
    let mut count = head.count();
    let mut at = match find(plan, object, count, epoch) {
        Ok(known) => return HEAD_WORDS + known * plan.stride,
        Err(at) => at,
    };
    let room = room(plan, Arena::capacity(*handle));
    // Expired buckets stay until the object is full, so that a busy ring does not move for each new one.
    if count >= room {
        let left = drop_expired(plan, arena, *handle, head);
        at -= (count - left).min(at);
        count = left;
        if count >= room {
            assert!(count < plan.buckets, "{count} live buckets in a ring for {}", plan.buckets);
            *handle = arena.grow(*handle, grown_words(plan, count));
        }
    }
    let object = arena.get_mut(*handle);
    let (start, end) = (HEAD_WORDS + at * plan.stride, HEAD_WORDS + count * plan.stride);
    object.copy_within(start..end, start + plan.stride);
    object[start..start + plan.stride].fill(0);
    object[start] = time_us.cast_unsigned();
    *head = head.with_count(count + 1);
    if plan.follows {
        // The window before a late bucket may have left already.
        follow(plan, object, at, at < count && head.dropped());
    }
    start
}

/// The first bucket of a window that begins with this epoch: a row of the bucket that begins one
/// window later is measured by it.
fn measured_from(plan: &WindowPlan, object: &[u64], count: usize, epoch: i64) -> usize {
    partition(count, |index| epoch_of(plan, newest_at(plan, object, index)) < epoch)
}

/// Tells a new bucket what those of one window before it hold.
fn follow(plan: &WindowPlan, object: &mut [u64], index: usize, lacks_some: bool) {
    let epoch = epoch_of(plan, newest_at(plan, object, index));
    let from = measured_from(plan, object, index, epoch.saturating_sub(plan.window_us));
    let (earlier, bucket) = object.split_at_mut(HEAD_WORDS + index * plan.stride);
    for accumulator in &plan.accumulators {
        let Some(follows) = accumulator.accumulator.follows() else { continue };
        let words = accumulator.at..accumulator.at + accumulator.words;
        for index in from..index {
            follows.follow(&mut bucket[words.clone()], &earlier[bucket_words(plan, index)][words.clone()]);
        }
        if lacks_some {
            follows.lacks(&mut bucket[words]);
        }
    }
}

/// A row stands in front of buckets that have measured their rows without it.
fn overtake(plan: &WindowPlan, object: &mut [u64], epoch: i64, row: SlabRow<'_, '_>) {
    let mut index = Head::of(object).count();
    while index > 0 {
        index -= 1;
        let later = epoch_of(plan, newest_at(plan, object, index));
        if later <= epoch {
            return;
        }
        if later.saturating_sub(plan.window_us) > epoch {
            continue;
        }
        let start = HEAD_WORDS + index * plan.stride;
        for accumulator in &plan.accumulators {
            let Some(follows) = accumulator.accumulator.follows() else { continue };
            let slot = &mut object[start + accumulator.at..start + accumulator.at + accumulator.words];
            accumulator.with_input(row, |input| follows.overtaken(slot, input));
        }
    }
}

/// Buckets that an object of this many words has room for.
pub(crate) fn room(plan: &WindowPlan, capacity: usize) -> usize {
    capacity.saturating_sub(HEAD_WORDS) / plan.stride
}

/// Words of the object that a full ring of `count` buckets moves into for one more.
pub(crate) fn grown_words(plan: &WindowPlan, count: usize) -> usize {
    let buckets = if count < 4 { count + 1 } else { (count * 3 / 2).min(plan.buckets) };
    HEAD_WORDS + buckets * plan.stride
}

/// Copies a ring with what its accumulators keep into another arena and returns its handle there.
pub(crate) fn lift(plan: &WindowPlan, arena: &Arena, handle: Handle, into: &mut Arena) -> Handle {
    if handle == 0 {
        return 0;
    }
    let object = arena.get(handle);
    let moved = into.alloc(object.len());
    into.get_mut(moved)[..object.len()].copy_from_slice(object);
    for accumulator in plan.accumulators.iter().filter(|_| plan.has_leaves) {
        for (index, &word) in (0..len(object)).flat_map(|index| accumulator.accumulator.handles().iter().map(move |word| (index, word))) {
            let at = bucket_words(plan, index).start + accumulator.at + word;
            let leaf = arena.get(object[at]);
            if leaf.is_empty() {
                continue;
            }
            let copy = into.alloc(leaf.len());
            into.get_mut(copy)[..leaf.len()].copy_from_slice(leaf);
            into.get_mut(moved)[at] = copy;
        }
    }
    moved
}

/// Removes buckets that no read can reach from the edge; returns how many are left.
fn drop_expired(plan: &WindowPlan, arena: &mut Arena, handle: Handle, head: &mut Head) -> usize {
    let object = arena.get(handle);
    let count = head.count();
    let from_us = head.edge_us().saturating_sub(plan.keep_us);
    let expired = (0..count).take_while(|&index| newest_at(plan, object, index) <= from_us).count();
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

/// How a window cuts a ring at the time of a read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cut {
    /// The bucket at the old edge, and its share by time inside the window.
    pub(crate) before: Option<(usize, f64)>,
    /// Buckets that are wholly inside.
    pub(crate) core: Range<usize>,
    /// The bucket that holds the time of the read, when rows of it may be later.
    pub(crate) after: Option<(usize, f64)>,
    /// Whether rows that were refused may be inside.
    pub(crate) lacks_rows: bool,
    /// The same, or before it where those decide what is counted.
    pub(crate) lacks_behind: bool,
}

/// Where the window that ends at `now_us` cuts the ring.
pub(crate) fn cut(plan: &WindowPlan, object: &[u64], now_us: i64) -> Cut {
    if object.is_empty() {
        return Cut { before: None, core: 0..0, after: None, lacks_rows: false, lacks_behind: false };
    }
    let (count, from_us) = (len(object), now_us.saturating_sub(plan.window_us));
    // Last microseconds of the buckets that hold the two edges.
    let [old_us, new_us] = [from_us, now_us].map(|us| epoch_of(plan, us).saturating_add(plan.bucket_us - 1));
    let newest_us = |index| newest_at(plan, object, index);
    let mut core = partition(count, |index| newest_us(index) <= from_us)..partition(count, |index| newest_us(index) <= new_us);
    let (mut before, mut after) = (None, None);
    if !core.is_empty() && newest_us(core.start) <= old_us {
        before = Some((core.start, share(old_us.saturating_sub(from_us), plan.bucket_us)));
        core.start += 1;
    }
    if !core.is_empty() && newest_us(core.end - 1) > now_us {
        core.end -= 1;
        after = Some((core.end, share_after(plan, now_us, Head::of(object).edge_us())));
    }
    debug_assert!(core.start <= core.end && core.end <= count, "{core:?} of {count} buckets");
    let lacks = |from_us| refused_us(object).is_some_and(|(earliest, newest)| earliest <= now_us && newest > from_us);
    let (lacks_rows, lacks_behind) = (lacks(from_us), lacks(from_us.saturating_sub(plan.behind_us())));
    Cut { before, core, after, lacks_rows, lacks_behind }
}

/// The share of the bucket that holds `now_us`. Rows fill it up to the key's edge: of what stands
/// beyond, rows of fast clocks, there is little.
fn share_after(plan: &WindowPlan, now_us: i64, edge_us: i64) -> f64 {
    let epoch = epoch_of(plan, now_us);
    let filled_us = edge_us.max(now_us).saturating_sub(epoch).saturating_add(1);
    share(now_us.saturating_sub(epoch).saturating_add(1), filled_us.min(plan.bucket_us))
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no last digit")]
fn share(inside_us: i64, of_us: i64) -> f64 {
    debug_assert!(0 < inside_us && inside_us <= of_us, "{inside_us} us of {of_us}");
    inside_us as f64 / of_us as f64
}

/// How many of `count` things in order have a property that only the first ones have.
fn partition(count: usize, first: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if first(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// Merges one accumulator's slots of some buckets into `slot`.
pub(crate) fn merge(
    plan: &WindowPlan,
    accumulator: usize,
    arena: &Arena,
    object: &[u64],
    buckets: Range<usize>,
    slot: &mut [u64],
    scratch: &mut Arena,
) {
    for index in buckets {
        plan.accumulators[accumulator].accumulator.merge(slot, scratch, self::slot(plan, accumulator, object, index), arena);
    }
}

/// One accumulator's slot in a bucket.
pub(crate) fn slot<'r>(plan: &WindowPlan, accumulator: usize, object: &'r [u64], index: usize) -> &'r [u64] {
    let (bucket, wanted) = (&object[bucket_words(plan, index)], &plan.accumulators[accumulator]);
    &bucket[wanted.at..wanted.at + wanted.words]
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
pub(crate) fn digest_slot(plan: &AccumulatorPlan, slot: &[u64], arena: &Arena, feed: &mut dyn FnMut(&[u64])) {
    let handles = plan.accumulator.handles();
    for (word, value) in slot.iter().enumerate() {
        if handles.contains(&word) { feed(arena.get(*value)) } else { feed(&[*value]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW_US: i64 = 64_000;

    /// A ring of one word a bucket, with buckets of a millisecond.
    fn plan() -> WindowPlan {
        WindowPlan {
            window_us: WINDOW_US,
            bucket_us: 1_000,
            resolution: 64,
            buckets: buckets_max(64),
            keep_us: WINDOW_US + 1_000,
            at: 0,
            accumulators: Vec::new(),
            stride: 1,
            has_leaves: false,
            follows: false,
        }
    }

    /// Buckets by the times of their newest rows.
    fn object(edge_us: i64, refused: [i64; 2], newest_us: &[i64]) -> Vec<u64> {
        let head = Head::of(&[]).with_edge(edge_us).with_count(newest_us.len());
        let times = refused.iter().chain(newest_us).map(|us| us.cast_unsigned());
        std::iter::once(head.word()).chain(times).collect()
    }

    #[test]
    fn the_bucket_of_a_late_row_is_found_among_many_as_one_after_the_other() {
        for count in 0..40 {
            let newest_us: Vec<i64> = (0..count).map(|index| (index * index % 3 + 2 * index) * 1_000 + index * 7 % 1_000).collect();
            let object = object(100_000, [0, 0], &newest_us);
            for epoch in (-1..90).map(|epoch| epoch * 1_000) {
                let known = newest_us.iter().position(|&newest| epoch_of(&plan(), newest) == epoch);
                let expected = known.ok_or(newest_us.iter().filter(|newest| **newest < epoch).count());
                assert_eq!(find(&plan(), &object, newest_us.len(), epoch), expected, "{newest_us:?} {epoch}");
            }
        }
    }

    fn check(now_us: i64, newest_us: &[i64], before: Option<(usize, f64)>, core: Range<usize>, after: Option<(usize, f64)>) {
        let cut = cut(&plan(), &object(100_000, [0, 0], newest_us), now_us);
        assert_eq!(cut, Cut { before, core, after, lacks_rows: false, lacks_behind: false }, "{newest_us:?} at {now_us}");
    }

    /// Where nothing is cut off, or no row is on the window's side of the edge, nothing is open.
    #[test]
    fn a_bucket_is_cut_only_where_it_has_a_row_after_the_edge() {
        // At 100,000 the window begins right after 36,000, the first microsecond of a bucket.
        check(100_000, &[], None, 0..0, None);
        check(100_000, &[36_000, 50_000, 100_000], None, 1..3, None);
        check(100_000, &[36_001, 50_000, 100_000], Some((0, 0.999)), 1..3, None);
        check(100_000, &[35_999, 37_000], None, 1..2, None);
        // At 99,999 it begins with a bucket: all of that is inside.
        check(99_999, &[35_999, 36_000, 99_999], None, 1..3, None);
        check(100_500, &[36_500, 100_500], None, 1..2, None);
        check(100_500, &[36_501, 100_500], Some((0, 0.499)), 1..2, None);
        // Rows after the read in its own bucket, and in a later one.
        check(100_499, &[50_000, 100_500], None, 0..1, Some((1, 1.0)));
        check(100_499, &[50_000, 100_499, 101_000], None, 0..2, None);
        check(100_499, &[36_900, 101_000], Some((0, 0.5)), 1..1, None);
        check(36_000, &[35_000, 36_000], None, 0..2, None);
    }

    #[test]
    fn rows_fill_the_bucket_of_a_read_of_the_past_up_to_the_edge_or_to_its_end() {
        let share = |now_us, edge_us| cut(&plan(), &object(edge_us, [0, 0], &[100_999]), now_us).after.map(|(_, share)| share);
        assert_eq!(share(100_249, 300_000), Some(0.25));
        assert_eq!(share(100_000, 101_000), Some(0.001));
        // Beyond the edge only rows of fast clocks stand.
        assert_eq!(share(100_249, 100_000), Some(1.0));
        assert_eq!(share(100_999, 100_000), None);
    }

    #[test]
    fn rows_that_were_refused_are_missing_while_a_window_may_hold_them() {
        let lacks = |now_us| cut(&plan(), &object(100_000, [200_000, 300_000], &[100_000]), now_us).lacks_rows;
        for (now_us, expected) in [(199_999, false), (200_000, true), (299_999 + WINDOW_US, true), (300_000 + WINDOW_US, false)] {
            assert_eq!(lacks(now_us), expected, "{now_us}");
        }
    }
}
