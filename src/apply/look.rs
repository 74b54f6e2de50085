//! What becomes of rows that may not fit beside what tables hold: looked at in slices, before anything is written.
//!
//! ```text
//! fit by their numbers ------------------------------------> go
//! weighed by the heads of lists and rings: fit ------------> go
//! weighed with copies of keys: fit ------------------------> go
//! looked at one by one: those that lack room wait, or their pushes are refused; the others are looked at again
//! the worst had to be assumed of some, and nothing would go: the first half of them, by itself
//! ```
//! Invariants: while a look is under way nothing is written or applied, so that what was found holds; reads have their
//! turns between its slices, as between those of a turn. A slice ends by time, and after [`ROWS_PER_SLICE_MAX`] rows.
//! Nobody is refused because of a guess: a push that is refused was weighed, with copies of all its keys, and did not fit.
//!
//! Called by whoever holds the seat: near the memory limit only.

use super::engine::Engine;
use super::limit::refuse_all;
use super::port::Outbox;
use super::split::Split;
use super::turn::{Frame, SLICE, Then};
use super::waiting::{Pass, Stall};
use super::work::{Ack, Packet, Round, Step};
use crate::row::Rows;
use crate::state::{Lacking, Look, Numbers, RowsContent, State, Weighing};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// Rows of tables that one slice looks at, those that copies are fed with included.
const ROWS_PER_SLICE_MAX: usize = 4096;
/// Rows between two looks at the clock.
const ROWS_PER_STEP: usize = 64;
/// Looks at a packet until all behind the first row that waits do; nearly always the second finds nothing.
const ROUNDS_MAX: usize = 6;
/// How often pushes of a frame are refused by what a look found, until half of them is looked at by itself.
const LOOKS_MAX: usize = 4;
/// Rows that copies of keys are fed with, at most, where keys have so many rows that copies are made again for each.
const FEEDS_MAX: usize = 1 << 16;

/// Whose rows they are.
pub(super) enum Whom {
    /// A packet, and what waits of its inlet.
    Packet { packet: Packet, stall: Option<Stall> },
    /// The next part of a pass over what waits.
    Part { stall: Stall, pass: Pass },
    /// A frame of pushes.
    Pushes { outbox: Arc<Outbox>, content: RowsContent, acks: Vec<Ack> },
}

/// A look under way.
pub(super) struct Looking {
    whom: Whom,
    stage: Stage,
    /// What was decided of Kafka rows; made when a row waits in front of them or lacks room.
    split: Option<Split>,
    /// Rows that are looked at, the first ones.
    first: usize,
    rounds: usize,
    /// The worst was assumed of some of these rows.
    guessed: bool,
    /// Rows that lacked room in the last look that found any.
    lacking: Vec<Lacking>,
    /// Pushes that are looked at when those here are done.
    later: VecDeque<Step>,
}

enum Stage {
    Bound(Weighing),
    Exact(Weighing),
    Rows(Box<Look>),
}

impl Whom {
    fn batches(&self) -> &[Rows] {
        match self {
            Self::Packet { packet, .. } => &packet.content.batches,
            Self::Part { stall, pass } => stall.batches_at(pass),
            Self::Pushes { content, .. } => &content.batches,
        }
    }

    /// Keys of rows that wait in front of these.
    fn front(&self) -> Option<&HashSet<u64>> {
        match self {
            Self::Packet { stall, .. } => stall.as_ref().map(|stall| &stall.keys),
            Self::Part { pass, .. } => Some(&pass.front),
            Self::Pushes { .. } => None,
        }
    }
}

impl Looking {
    /// Pushes that are looked at.
    pub(super) fn pushes(&self) -> Option<(&Arc<Outbox>, impl Iterator<Item = streamgauge_api::Tag> + '_)> {
        let Whom::Pushes { outbox, acks, .. } = &self.whom else { return None };
        let later = self.later.iter().flat_map(Step::tags);
        Some((outbox, acks.iter().map(|ack| ack.tag).chain(later)))
    }

    /// Goes on for so much effort; true when this stage is over.
    fn go_on(&mut self, state: &State, effort: &mut usize) -> bool {
        let (batches, left_out) = (self.whom.batches(), self.split.as_ref().map_or(&[][..], |split| &split.left_out));
        match &mut self.stage {
            Stage::Bound(weighing) | Stage::Exact(weighing) => weighing.go_on(state, batches, left_out, effort),
            Stage::Rows(look) => look.go_on(state, batches, left_out, effort),
        }
    }
}

impl Engine {
    /// Decides what becomes of rows and does it, now or when a look has found it out. Gives pushes that have their turn
    /// behind these, when that is now.
    pub(super) fn decide(&mut self, whom: Whom) -> Option<Round> {
        assert!(!self.is_mid_turn(), "what is decided of rows holds until they are written");
        let fit = self.fit_surely(&Numbers::of(whom.batches()));
        let split = whom.front().filter(|front| !front.is_empty()).map(|front| {
            let mut split = self.undecided(whom.batches());
            split.follow(front);
            split
        });
        if fit {
            return self.decided(Looking::of(&self.state, whom, split));
        }
        #[cfg(test)]
        {
            self.weighed_rows += whom.batches().iter().map(Rows::len).sum::<usize>();
        }
        self.turn.look = Some(Box::new(Looking::of(&self.state, whom, split)));
        self.look_on()
    }

    /// Rows of Kafka of which nothing is decided: a packet's, so that finding their keys is no long step. A push is taken
    /// whole, or not at all.
    fn undecided(&self, batches: &[Rows]) -> Split {
        Split::of(batches, batches.iter().map(|batch| self.state.touched_keys(batch)).collect())
    }

    /// Goes on with a look for the time of a slice, and does what it found when it is over. As [`Engine::decide`].
    pub(super) fn look_on(&mut self) -> Option<Round> {
        let Some(mut look) = self.turn.look.take() else { unreachable!("a look that goes on was begun") };
        let (begun, mut left) = (Instant::now(), ROWS_PER_SLICE_MAX);
        loop {
            let mut effort = ROWS_PER_STEP.min(left);
            let given = effort;
            let is_over = look.go_on(&self.state, &mut effort);
            left -= given - effort;
            if is_over && self.is_decided(&mut look) {
                let later = self.decided(*look);
                if !self.is_mid_turn() {
                    // Nothing was written: nobody else says that the turn is over.
                    self.busy.clear();
                }
                return later;
            }
            if left == 0 || begun.elapsed() >= SLICE {
                self.turn.look = Some(look);
                return None;
            }
        }
    }

    /// Judges by what a stage found; false when there is another one.
    fn is_decided(&mut self, look: &mut Looking) -> bool {
        match &look.stage {
            Stage::Bound(weighing) if !self.have_room(weighing) => {
                look.stage = Stage::Exact(self.state.weigh(look.whom.batches(), true));
                false
            }
            Stage::Exact(weighing) if !self.have_room(weighing) => {
                if look.split.is_none() && !matches!(look.whom, Whom::Pushes { .. }) {
                    look.split = Some(self.undecided(look.whom.batches()));
                }
                self.look_at_rows(look);
                false
            }
            Stage::Bound(_) | Stage::Exact(_) => true,
            Stage::Rows(_) => {
                let again = Stage::Exact(self.state.weigh(&[], true));
                let Stage::Rows(rows) = std::mem::replace(&mut look.stage, again) else { unreachable!("rows were looked at") };
                let lacking = rows.lacking();
                match look.whom {
                    Whom::Pushes { .. } => self.judge_pushes(look, lacking),
                    _ => self.judge_rows(look, lacking),
                }
            }
        }
    }

    fn have_room(&self, weighing: &Weighing) -> bool {
        let reserve = if weighing.makes_keys() { self.reserve() } else { 0 };
        weighing.bytes() <= self.room().saturating_sub(reserve)
    }

    fn look_at_rows(&mut self, look: &mut Looking) {
        let batches = look.whom.batches();
        #[cfg(test)]
        {
            self.looked_rows += batches.iter().map(Rows::len).sum::<usize>();
        }
        look.stage = Stage::Rows(Box::new(self.state.look(batches, self.room(), self.reserve(), FEEDS_MAX)));
    }

    /// Leaves Kafka rows out until nothing is lacking. Where the worst was assumed of some, so that nothing would go, the
    /// first half of the rows is weighed alone, and so on: the rest waits for the next try, which comes at once.
    fn judge_rows(&mut self, look: &mut Looking, lacking: Vec<Lacking>) -> bool {
        let nothing = HashSet::new();
        let front = look.whom.front().unwrap_or(&nothing);
        let Some(split) = &mut look.split else { unreachable!("rows that are looked at are told apart") };
        if !lacking.is_empty() {
            look.guessed |= lacking.iter().any(|lacking| lacking.is_guess);
            // Nobody is refused for good because of a guess.
            split.take(&lacking, !self.options.pause_on_memory && !look.guessed);
            split.follow(front);
            look.lacking = lacking;
            look.rounds += 1;
            if look.rounds < ROUNDS_MAX {
                self.look_at_rows(look);
                return false;
            }
            split.cut();
        }
        if !look.guessed {
            return true;
        }
        split.is_first_part = true;
        if split.moves() || look.first <= 1 {
            return true;
        }
        (look.first, look.guessed, look.rounds) = (look.first / 2, false, 0);
        split.reset();
        split.leave_from(look.first);
        split.follow(front);
        look.stage = Stage::Exact(self.state.weigh(look.whom.batches(), true));
        false
    }

    /// Refuses pushes of which a row lacks room, until the others fit; a push is taken whole or not at all.
    fn judge_pushes(&mut self, look: &mut Looking, lacking: Vec<Lacking>) -> bool {
        let Whom::Pushes { outbox, content, acks } = &mut look.whom else { unreachable!("pushes are judged") };
        if lacking.is_empty() {
            return true;
        }
        // The rows are others from here on, and so is what is decided of them.
        look.split = None;
        if acks.len() > 1 && (look.rounds >= LOOKS_MAX || lacking.iter().any(|lacking| lacking.is_guess)) {
            let (behind, behind_acks) = self.halve(content, acks);
            look.later.push_front(Step::Rows { content: behind, acks: behind_acks });
            look.rounds = 0;
        } else if acks.len() > 1 {
            self.keeps_out(&lacking, true);
            self.take_out(content, acks, outbox, &lacking);
            look.rounds += 1;
        } else {
            self.keeps_out(&lacking, true);
            lacking.iter().for_each(|lacking| self.count_refused(&lacking.table, lacking.known.len() + lacking.new.len()));
            self.count_pushes(content, false);
            refuse_all(outbox, &std::mem::take(acks), &self.exceeded(), self.state.registry().version);
        }
        if acks.is_empty() {
            return true;
        }
        look.stage = Stage::Exact(self.state.weigh(&content.batches, true));
        false
    }

    /// Does what was decided.
    fn decided(&mut self, look: Looking) -> Option<Round> {
        let Looking { whom, split, lacking, later, .. } = look;
        let waits = |split: &Split| lacking.iter().any(|lacking| !lacking.is_guess) || !split.moves();
        let keeps_out = !lacking.is_empty() && split.as_ref().is_some_and(waits);
        let split = split.filter(Split::leaves_out);
        let refuses = split.as_ref().is_some_and(|split| split.refused_by_table().next().is_some());
        match whom {
            Whom::Packet { packet, stall } => self.finish_packet(stall, packet, split.as_ref()),
            Whom::Part { stall, pass } => self.finish_part(stall, pass, split.as_ref()),
            Whom::Pushes { outbox, content, acks } => {
                if !acks.is_empty() {
                    let frame = Frame::new(content, Then::Answer { outbox: Arc::clone(&outbox), acks });
                    self.push(&outbox, VecDeque::from([frame]));
                }
                outbox.ready();
                return (!later.is_empty()).then(|| Round::new(outbox, later));
            }
        }
        // Said when it is done: what is left out for good is counted then.
        if keeps_out {
            self.keeps_out(&lacking, refuses);
        }
        None
    }
}

impl Looking {
    fn of(state: &State, whom: Whom, split: Option<Split>) -> Self {
        let stage = Stage::Bound(state.weigh(whom.batches(), false));
        let first = whom.batches().iter().map(Rows::len).sum();
        Self { whom, stage, split, first, rounds: 0, guessed: false, lacking: Vec::new(), later: VecDeque::new() }
    }
}
