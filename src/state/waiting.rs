//! Which records of a partition were read and are not in the tables yet, because there was no room for their rows.
//!
//! ```text
//! offset    | position            | marks ...                     | reached
//!  ---------+---------------------+-------------------------------+----------
//!  all done | done, but for runs  | done, but for runs            | not read
//! ```
//! The position of a partition stays a true prefix: everything in front of it is in the tables, and its fields are a pair
//! of one record. What is read and applied beyond it is all that lies between it and `reached`, but for the runs of
//! offsets that wait. So a restart reads from the position again, takes what waits and leaves out what is done.
//!
//! A frame says which offsets wait from it on and which wait no more ([`WaitingRun`]); the position moves to the last
//! mark in front of the first offset that waits. Marks are where the packets with waiting rows began; when there are
//! very many the position moves in longer steps. Live, replay and `wal skip` move partitions through
//! [`State::move_partitions`](super::State) alone. Offsets come from frames and files: they are checked before they are
//! applied, never believed.

use super::state::State;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use streamgauge_api::{Position, Slot};

/// Marks of one partition.
const MARKS_MAX: usize = 1024;

/// Offsets of one partition of a frame that begin to wait, or wait no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingRun {
    /// Index into the positions of the frame.
    pub position: u32,
    /// Whether they wait from this frame on; else they are done.
    pub waits: bool,
    /// The first of them.
    pub from: i64,
    /// Behind the last of them.
    pub to: i64,
}

/// See the module's head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingOffsets {
    /// How far the partition was read.
    reached: Position,
    /// Offsets that wait, `from..to`, ascending; none touches the next.
    runs: Vec<(i64, i64)>,
    /// Positions in front of records that wait; the first is the partition's position.
    marks: Vec<Position>,
}

impl WaitingOffsets {
    fn beyond(position: Position) -> Self {
        Self { reached: position, runs: Vec::new(), marks: vec![position] }
    }

    /// How far the partition was read.
    pub fn reached(&self) -> Position {
        self.reached
    }

    /// The runs of offsets that wait, `from..to`, ascending.
    pub fn runs(&self) -> &[(i64, i64)] {
        &self.runs
    }

    /// Whether the record at this offset waits.
    pub fn waits(&self, offset: i64) -> bool {
        self.runs.get(self.runs.partition_point(|run| run.1 <= offset)).is_some_and(|run| run.0 <= offset)
    }

    /// The parts of `from..to` that wait.
    pub fn within(&self, from: i64, to: i64) -> impl Iterator<Item = (i64, i64)> + '_ {
        let first = self.runs.partition_point(move |run| run.1 <= from);
        let overlap = self.runs[first..].iter().take_while(move |run| run.0 < to);
        overlap.map(move |run| (run.0.max(from), run.1.min(to)))
    }

    /// Where everything in front is done: the last mark that no waiting offset lies before.
    fn prefix(&mut self) -> Position {
        let Some(&(first, _)) = self.runs.first() else { return self.reached };
        let passed = self.marks.partition_point(|mark| mark.offset <= first);
        assert!(passed > 0, "what waits lies behind the position: {first} and {:?}", self.marks.first());
        self.marks.drain(..passed - 1);
        self.marks[0]
    }

    /// Takes a frame's word: reading came to `reached`, these runs wait, those are done.
    fn go_on(&mut self, reached: Position, changes: &[WaitingRun]) {
        let before = self.reached;
        assert!(before.offset <= reached.offset, "reading goes on: from {before:?} to {reached:?}");
        self.reached = reached;
        self.settle(changes);
        let fresh = changes.iter().filter(|change| change.waits);
        for change in fresh.clone() {
            match self.runs.last_mut() {
                Some(last) if last.1 == change.from => last.1 = change.to,
                last => {
                    let end = last.map_or(i64::MIN, |last| last.1);
                    assert!(end < change.from, "offsets wait in order: up to {end} before {change:?}");
                    self.runs.push((change.from, change.to));
                }
            }
        }
        let marked = self.marks.last().is_some_and(|mark| mark.offset >= before.offset);
        if !marked && fresh.count() > 0 && self.marks.len() < MARKS_MAX {
            self.marks.push(before);
        }
    }

    /// Offsets that all wait do so no more. One pass: there may be as many runs as rows wait, and a thousand changes.
    fn settle(&mut self, changes: &[WaitingRun]) {
        let mut done = changes.iter().filter(|change| !change.waits).peekable();
        let Some(first) = done.peek().map(|change| change.from) else { return };
        let at = self.runs.partition_point(|run| run.1 <= first);
        let (mut end, mut left) = (at, Vec::new());
        for &(mut from, to) in &self.runs[at..] {
            if done.peek().is_none() {
                break;
            }
            while let Some(change) = done.next_if(|change| change.to <= to) {
                assert!(from <= change.from, "offsets {change:?} are done, {from} to {to} were waiting");
                if from < change.from {
                    left.push((from, change.from));
                }
                from = change.to;
            }
            if from < to {
                left.push((from, to));
            }
            end += 1;
        }
        assert_eq!(done.next(), None, "offsets that are done now were waiting");
        self.runs.splice(at..end, left);
    }

    /// The log goes from `from` to `reached` now: what waits outside of it never comes.
    fn cut(&mut self, from: Position, reached: Position) {
        assert!(from.offset <= reached.offset, "a log goes from {from:?} to {reached:?}");
        let inside = |(start, end): (i64, i64)| (start.max(from.offset), end.min(reached.offset));
        self.runs = self.runs.iter().copied().map(inside).filter(|(start, end)| start < end).collect();
        self.marks.retain(|mark| from.offset < mark.offset && mark.offset <= reached.offset);
        self.marks.truncate(MARKS_MAX - 1);
        self.marks.insert(0, from);
        self.reached = reached;
    }

    /// Whether a file says what can be.
    fn is_sound(&self, position: Position) -> bool {
        let ascending = self.runs.windows(2).all(|pair| pair[0].1 < pair[1].0);
        let within = |run: &(i64, i64)| position.offset <= run.0 && run.0 < run.1 && run.1 <= self.reached.offset;
        let marks = self.marks.windows(2).all(|pair| pair[0].offset < pair[1].offset);
        let first = self.marks.first() == Some(&position) && self.marks.len() <= MARKS_MAX;
        let last = self.marks.last().is_some_and(|mark| mark.offset <= self.reached.offset);
        !self.runs.is_empty() && ascending && self.runs.iter().all(within) && marks && first && last
    }
}

/// The runs of a frame that speak of one of its positions; runs are in the order of positions.
fn of_position(runs: &[WaitingRun], position: usize) -> &[WaitingRun] {
    let from = runs.partition_point(|run| (run.position as usize) < position);
    let count = runs[from..].partition_point(|run| run.position as usize == position);
    &runs[from..from + count]
}

impl State {
    /// What waits of a partition, if anything does.
    pub fn waiting_of(&self, slot: Slot) -> Option<&WaitingOffsets> {
        self.waiting.get(&slot.0)
    }

    /// How far a known partition was read: its position, or beyond it while records wait.
    pub fn reached(&self, slot: Slot) -> Option<Position> {
        let stored = self.partitions.get(slot.0 as usize)?.position;
        Some(self.waiting.get(&slot.0).map_or(stored, |waiting| waiting.reached))
    }

    /// What a frame of rows says of partitions: how far they were read, and what of that waits.
    pub(super) fn move_partitions(&mut self, positions: &[(Slot, Position)], runs: &[WaitingRun]) {
        for (index, (slot, reached)) in positions.iter().enumerate() {
            let Some(stored) = self.partitions.get_mut(slot.0 as usize) else {
                unreachable!("slots are below the number of partitions since the frame began")
            };
            let changes = of_position(runs, index);
            if changes.is_empty() && !self.waiting.contains_key(&slot.0) {
                stored.position = *reached;
                continue;
            }
            let waiting = self.waiting.entry(slot.0).or_insert_with(|| WaitingOffsets::beyond(stored.position));
            waiting.go_on(*reached, changes);
            stored.position = waiting.prefix();
            if waiting.runs.is_empty() {
                self.waiting.remove(&slot.0);
            }
        }
    }

    /// A partition was moved to where it stands now. What waits behind that, up to where it was `reached` before, still
    /// does; nothing else of it.
    pub(super) fn move_waiting(&mut self, slot: Slot, reached: Option<Position>) {
        let Some(mut waiting) = self.waiting.remove(&slot.0) else { return };
        let (Some(reached), Some(stored)) = (reached, self.partitions.get_mut(slot.0 as usize)) else { return };
        waiting.cut(stored.position, reached);
        stored.position = waiting.prefix();
        if !waiting.runs.is_empty() {
            assert!(waiting.is_sound(stored.position), "what still waits is behind the position: {waiting:?}");
            self.waiting.insert(slot.0, waiting);
        }
    }

    /// Whether what a frame says of waiting records fits what this state knows of them.
    ///
    /// # Errors
    /// Says what does not.
    pub(crate) fn knows_waiting(&self, positions: &[(Slot, Position)], runs: &[WaitingRun]) -> Result<(), String> {
        if runs.windows(2).any(|pair| pair[0].position > pair[1].position) {
            return Err("runs of waiting offsets are not in the order of positions".into());
        }
        let named: BTreeSet<Slot> = positions.iter().map(|(slot, _)| *slot).collect();
        let bare = runs.is_empty() && named.iter().all(|slot| !self.waiting.contains_key(&slot.0));
        if bare {
            return Ok(());
        }
        if named.len() < positions.len() || runs.last().is_some_and(|run| run.position as usize >= positions.len()) {
            return Err("waiting offsets of a partition that is named twice, or not at all".into());
        }
        for (index, (slot, reached)) in positions.iter().enumerate() {
            let Some(before) = self.reached(*slot) else { return Err(format!("slot {} is not known", slot.0)) };
            let changes = of_position(runs, index);
            if reached.offset < before.offset && (self.waiting.contains_key(&slot.0) || !changes.is_empty()) {
                return Err(format!("slot {} goes back from offset {} to {} while records wait", slot.0, before.offset, reached.offset));
            }
            let mut ends = [i64::MIN; 2];
            for run in changes {
                let end = &mut ends[usize::from(run.waits)];
                let in_order = *end <= run.from && run.from < run.to;
                *end = run.to;
                let sound = match run.waits {
                    true => before.offset <= run.from && run.to <= reached.offset,
                    false => self.waiting.get(&slot.0).is_some_and(|known| known.within(run.from, run.to).eq([(run.from, run.to)])),
                };
                if !in_order || !sound {
                    return Err(format!("offsets {} to {} of slot {} cannot change whether they wait", run.from, run.to, slot.0));
                }
            }
        }
        Ok(())
    }

    /// Takes what a snapshot says of waiting records; `partitions` are there already.
    ///
    /// # Errors
    /// Says what does not fit.
    pub(super) fn restore_waiting(&mut self, waiting: BTreeMap<u32, WaitingOffsets>) -> Result<(), String> {
        for (slot, waiting) in &waiting {
            if !self.partitions.get(*slot as usize).is_some_and(|stored| waiting.is_sound(stored.position)) {
                return Err(format!("waiting offsets of slot {slot} do not fit its position"));
            }
        }
        self.waiting = waiting;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> Position {
        Position { offset, after: offset, epoch: 3, record_time_ms: offset * 10, clock_ms: offset * 10 }
    }

    fn run(waits: bool, from: i64, to: i64) -> WaitingRun {
        WaitingRun { position: 0, waits, from, to }
    }

    #[test]
    fn the_position_is_the_last_mark_that_nothing_waits_in_front_of() {
        let mut waiting = WaitingOffsets::beyond(at(10));
        waiting.go_on(at(20), &[run(true, 12, 14), run(true, 19, 20)]);
        waiting.go_on(at(30), &[]);
        waiting.go_on(at(40), &[run(true, 30, 35)]);
        assert_eq!((waiting.prefix(), waiting.reached()), (at(10), at(40)));
        assert_eq!(waiting.runs(), [(12, 14), (19, 20), (30, 35)]);
        assert!(waiting.waits(13) && !waiting.waits(14) && waiting.waits(19) && !waiting.waits(20));
        assert_eq!(waiting.within(13, 32).collect::<Vec<_>>(), [(13, 14), (19, 20), (30, 32)]);
        waiting.go_on(at(40), &[run(false, 12, 14)]);
        assert_eq!(waiting.prefix(), at(10), "a record of the first packet waits still");
        waiting.go_on(at(40), &[run(false, 19, 20), run(false, 31, 33)]);
        assert_eq!((waiting.prefix(), waiting.runs()), (at(30), &[(30, 31), (33, 35)][..]));
        waiting.go_on(at(50), &[run(false, 30, 31), run(false, 33, 35)]);
        assert_eq!(waiting.prefix(), at(50));
    }

    /// One by one took a move of all runs behind for each: with as many as may wait, tens of milliseconds for one frame.
    #[test]
    fn what_is_done_at_once_is_what_is_done_one_by_one() {
        let runs: Vec<(i64, i64)> = (0..200).map(|number| (number * 10, number * 10 + 7)).collect();
        let one_by_one = |changes: &[WaitingRun]| {
            let mut waiting = WaitingOffsets { reached: at(5_000), runs: runs.clone(), marks: vec![at(0)] };
            changes.iter().for_each(|change| waiting.settle(std::slice::from_ref(change)));
            waiting.runs
        };
        let mut seed = 7u64;
        for _ in 0..200 {
            let mut changes = Vec::new();
            for &(from, to) in &runs {
                let mut next = from;
                while next < to {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let pick = i64::try_from(seed >> 60).unwrap_or(0);
                    let end = (next + 1 + pick % 4).min(to);
                    if pick < 9 {
                        changes.push(run(false, next, end));
                    }
                    next = end + i64::from(pick % 2 == 0);
                }
            }
            let mut waiting = WaitingOffsets { reached: at(5_000), runs: runs.clone(), marks: vec![at(0)] };
            waiting.settle(&changes);
            assert_eq!(waiting.runs, one_by_one(&changes));
            let gone = |offset: i64| changes.iter().any(|change| change.from <= offset && offset < change.to);
            assert!((0..2_000).all(|offset| waiting.waits(offset) == (offset % 10 < 7 && !gone(offset))));
        }
    }

    #[test]
    fn what_waits_outside_of_the_log_never_comes() {
        let waiting = WaitingOffsets { reached: at(50), runs: vec![(12, 14), (20, 30), (45, 48)], marks: vec![at(10), at(15), at(44)] };
        for (from, reached, runs, position) in [
            (at(10), at(50), vec![(12, 14), (20, 30), (45, 48)], at(10)),
            // The beginning is gone.
            (at(25), at(50), vec![(25, 30), (45, 48)], at(25)),
            (at(40), at(50), vec![(45, 48)], at(44)),
            // The end is gone.
            (at(10), at(22), vec![(12, 14), (20, 22)], at(10)),
            (at(14), at(50), vec![(20, 30), (45, 48)], at(15)),
            // Nothing is left of it.
            (at(30), at(45), vec![], at(45)),
        ] {
            let mut left = waiting.clone();
            left.cut(from, reached);
            assert_eq!((left.prefix(), &left.runs), (position, &runs), "from {from:?} to {reached:?}");
            assert!(runs.is_empty() || left.is_sound(position), "{left:?}");
        }
    }

    #[test]
    #[should_panic(expected = "were waiting")]
    fn what_does_not_wait_is_not_done() {
        WaitingOffsets { reached: at(50), runs: vec![(10, 20), (30, 40)], marks: vec![at(0)] }
            .settle(&[run(false, 12, 14), run(false, 19, 31)]);
    }

    #[test]
    fn what_a_file_says_is_checked() {
        let sound = WaitingOffsets { reached: at(30), runs: vec![(12, 14), (20, 30)], marks: vec![at(10), at(15)] };
        assert!(sound.is_sound(at(10)) && !sound.is_sound(at(11)));
        for broken in [
            WaitingOffsets { runs: Vec::new(), ..sound.clone() },
            WaitingOffsets { runs: vec![(9, 14)], ..sound.clone() },
            WaitingOffsets { runs: vec![(14, 14)], ..sound.clone() },
            WaitingOffsets { runs: vec![(12, 31)], ..sound.clone() },
            WaitingOffsets { runs: vec![(20, 22), (12, 14)], ..sound.clone() },
            WaitingOffsets { marks: Vec::new(), ..sound.clone() },
            WaitingOffsets { marks: vec![at(10), at(31)], ..sound.clone() },
            WaitingOffsets { marks: vec![at(10), at(10)], ..sound.clone() },
        ] {
            assert!(!broken.is_sound(at(10)), "{broken:?}");
        }
    }
}
