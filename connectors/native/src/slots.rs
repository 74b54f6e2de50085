//! Replies in request order: the ring of a connection's unanswered requests.
//!
//! Each request takes a slot when it is read. The engine answers in any order; a reply for the oldest slot is written straight into the
//! connection's output, any other waits in its slot as bytes. Sequence numbers are 16 bits and wrap; a connection has far fewer slots.
//! One connection's, on one I/O thread.

use crate::shape::Shape;
use std::collections::VecDeque;

/// One request that is not answered, or answered before its turn.
#[derive(Debug)]
struct Slot {
    shape: Shape,
    cost: u32,
    /// The round in which it was parsed.
    parsed_us: u32,
    /// A read that is served in slices, or waits: it ends with its connection.
    long_read: bool,
    ready: Option<Vec<u8>>,
}

/// The ring.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    ring: VecDeque<Slot>,
    /// Sequence number of the ring's front.
    first: u16,
    /// Sum of the costs in the ring.
    cost: u32,
}

impl Slots {
    /// Takes the next slot and gives its sequence number.
    pub(crate) fn take(&mut self, shape: Shape, cost: u32, parsed_us: u32) -> u16 {
        debug_assert!(self.ring.len() < usize::from(u16::MAX), "a connection's requests are bounded far below the sequence space");
        let sequence = self.first.wrapping_add(self.ring.len() as u16);
        self.ring.push_back(Slot { shape, cost, parsed_us, long_read: false, ready: None });
        self.cost += cost;
        sequence
    }

    /// The request that came last is a long read. Being a fence it is the last until it is answered.
    pub(crate) fn mark_long_read(&mut self) {
        let Some(slot) = self.ring.back_mut() else { unreachable!("a request takes its slot first") };
        slot.long_read = true;
    }

    /// Whether a long read is not answered.
    pub(crate) fn has_long_read(&self) -> bool {
        self.ring.back().is_some_and(|slot| slot.long_read && slot.ready.is_none())
    }

    /// Whether every request is answered.
    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Cost of what is unanswered.
    pub(crate) fn cost(&self) -> u32 {
        self.cost
    }

    /// Puts an answer that needs no engine behind all others.
    pub(crate) fn answer(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        if self.ring.is_empty() {
            write(out);
            return;
        }
        let mut bytes = Vec::new();
        write(&mut bytes);
        self.cost += 1;
        self.ring.push_back(Slot { shape: Shape::default(), cost: 1, parsed_us: 0, long_read: false, ready: Some(bytes) });
    }

    /// Fills the slot `sequence`; `write` appends the encoded reply. Returns what the request left behind, when it was parsed, and what `write` said. A
    /// sequence without an open slot is ignored.
    pub(crate) fn fill<T>(
        &mut self,
        sequence: u16,
        out: &mut Vec<u8>,
        write: impl FnOnce(Shape, &mut Vec<u8>) -> T,
    ) -> Option<(Shape, u32, T)> {
        let index = usize::from(sequence.wrapping_sub(self.first));
        let Some(slot) = self.ring.get_mut(index).filter(|slot| slot.ready.is_none()) else {
            tracing::debug!(sequence, "a reply came for a request that is not open");
            return None;
        };
        let (shape, parsed_us) = (slot.shape, slot.parsed_us);
        if index > 0 {
            let mut bytes = Vec::new();
            let said = write(shape, &mut bytes);
            slot.ready = Some(bytes);
            return Some((shape, parsed_us, said));
        }
        let said = write(shape, out);
        self.drop_front();
        while let Some(bytes) = self.ring.front_mut().and_then(|slot| slot.ready.take()) {
            out.extend_from_slice(&bytes);
            self.drop_front();
        }
        Some((shape, parsed_us, said))
    }

    fn drop_front(&mut self) {
        if let Some(slot) = self.ring.pop_front() {
            self.cost -= slot.cost;
            self.first = self.first.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the order of answers, the output is in request order and nothing stays behind.
        #[test]
        fn replies_leave_in_request_order(count in 1usize..300, start in any::<u16>(), seed in any::<u64>()) {
            let mut slots = Slots { first: start, ..Slots::default() };
            let mut out = Vec::new();
            let mut open: Vec<(u16, u16)> = (0..count).map(|index| (slots.take(Shape::default(), 1, 0), index as u16)).collect();
            let mut state = seed;
            while !open.is_empty() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let (sequence, index) = open.swap_remove((state >> 33) as usize % open.len());
                slots.fill(sequence, &mut out, |_, bytes| bytes.extend_from_slice(&index.to_be_bytes()));
                slots.fill(sequence, &mut out, |_, bytes| bytes.push(0xEE));
            }
            let expected: Vec<u8> = (0..count).flat_map(|index| (index as u16).to_be_bytes()).collect();
            prop_assert_eq!(out, expected);
            prop_assert!(slots.is_empty() && slots.cost() == 0);
        }
    }

    #[test]
    fn a_local_answer_waits_for_the_ones_before_it() {
        let (mut slots, mut out) = (Slots::default(), Vec::new());
        let first = slots.take(Shape::default(), 1, 0);
        slots.answer(&mut out, |bytes| bytes.push(b'2'));
        assert!(out.is_empty());
        slots.fill(first, &mut out, |_, bytes| bytes.push(b'1'));
        slots.answer(&mut out, |bytes| bytes.push(b'3'));
        assert_eq!(out, b"123");
    }
}
