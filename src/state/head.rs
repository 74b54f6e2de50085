//! The first word of a list and of a ring: how many entries it has, whether it lost any, and the key's edge.
//!
//! ```text
//! bits  0..12   entries or buckets
//! bit   12      something that it once could have held is gone or was refused
//! bits 13..64   edge, ms since the Unix epoch, signed
//! ```
//! The *edge* of a key is the largest `time - ahead` of its rows: how far the key has come in time, whatever a fast
//! clock says. Lateness and eviction go by it alone. It is kept in whole milliseconds, rounded down, so that rows
//! leave a fraction of a millisecond later than they might. A word of zeroes is the head of what has no rows yet.

const COUNT_BITS: u32 = 12;
const DROPPED: u64 = 1 << COUNT_BITS;
const EDGE_SHIFT: u32 = COUNT_BITS + 1;
/// Edges are kept within 35,000 years of the epoch.
const EDGE_MS_MAX: i64 = (1 << (63 - EDGE_SHIFT)) - 1;

/// Entries or buckets that a head can count.
pub(crate) const COUNT_MAX: usize = (1 << COUNT_BITS) - 1;

/// See the module's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head(u64);

impl Head {
    /// The head of a list or ring; of none, that of an empty one.
    #[inline]
    pub(crate) fn of(object: &[u64]) -> Self {
        Self(object.first().copied().unwrap_or(0))
    }

    /// The word to write.
    #[inline]
    pub(crate) fn word(self) -> u64 {
        self.0
    }

    /// Entries or buckets.
    #[inline]
    pub(crate) fn count(self) -> usize {
        (self.0 & (DROPPED - 1)) as usize
    }

    /// The edge, microseconds; `i64::MIN` before the first row.
    #[inline]
    pub(crate) fn edge_us(self) -> i64 {
        if self.0 == 0 { i64::MIN } else { (self.0.cast_signed() >> EDGE_SHIFT).saturating_mul(1000) }
    }

    /// Whether something that it once could have held is gone or was refused.
    #[inline]
    pub(crate) fn dropped(self) -> bool {
        self.0 & DROPPED != 0
    }

    /// With this many entries.
    #[inline]
    pub(crate) fn with_count(self, count: usize) -> Self {
        debug_assert!(count <= COUNT_MAX, "{count} entries are more than a head counts");
        Self(self.0 & !(DROPPED - 1) | count as u64)
    }

    /// Having lost something.
    #[inline]
    pub(crate) fn with_dropped(self, dropped: bool) -> Self {
        Self(self.0 | if dropped { DROPPED } else { 0 })
    }

    /// With an edge that is at least this.
    #[inline]
    pub(crate) fn with_edge(self, edge_us: i64) -> Self {
        // Zero stands for "no rows yet": the first millisecond of the epoch is kept as the last one before it.
        let edge_ms = match edge_us.div_euclid(1000) {
            0 => -1,
            edge_ms => edge_ms.clamp(-EDGE_MS_MAX, EDGE_MS_MAX),
        };
        let known = self.0.cast_signed() >> EDGE_SHIFT;
        if self.0 != 0 && known >= edge_ms {
            return self;
        }
        Self(edge_ms.cast_unsigned() << EDGE_SHIFT | self.0 & ((1 << EDGE_SHIFT) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_keeps_its_three_parts_apart() {
        for edge_ms in [1, -1, 1_767_225_600_123, -62_135_596_800_000, EDGE_MS_MAX, -EDGE_MS_MAX] {
            for count in [1, 64, COUNT_MAX] {
                for dropped in [false, true] {
                    let head = Head::of(&[]).with_edge(edge_ms * 1000).with_count(count).with_dropped(dropped);
                    assert_eq!((head.count(), head.dropped(), head.edge_us()), (count, dropped, edge_ms * 1000));
                }
            }
        }
    }

    #[test]
    fn an_edge_moves_forward_only_and_is_bounded() {
        let head = Head::of(&[]).with_edge(5_999).with_count(1);
        assert_eq!(head.edge_us(), 5_000);
        assert_eq!(head.with_edge(4_000), head);
        assert_eq!(head.with_edge(6_000).edge_us(), 6_000);
        assert_eq!(Head::of(&[]).edge_us(), i64::MIN);
        assert_eq!(Head::of(&[]).with_edge(0).edge_us(), -1_000, "a row at zero is a row");
        for extreme in [i64::MIN, i64::MAX] {
            assert_eq!(Head::of(&[]).with_edge(extreme).with_count(1).edge_us().signum(), extreme.signum());
        }
    }
}
