//! Random numbers from a seed that is printed: a failing run is repeated with `STREAMGAUGE_SEED=N`.

use std::time::{SystemTime, UNIX_EPOCH};

/// A xorshift generator (Marsaglia 2003); good enough to pick moments.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Seeded from `STREAMGAUGE_SEED`, else from the clock. The seed is told on stderr, which a failing test shows.
    pub fn thrown() -> Self {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.subsec_nanos()).unwrap_or_default();
        let seed = std::env::var("STREAMGAUGE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(u64::from(clock));
        eprintln!("STREAMGAUGE_SEED={seed}");
        Self::seeded(seed)
    }

    /// With a given seed.
    pub fn seeded(seed: u64) -> Self {
        // Zero is the one state that xorshift never leaves.
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number in `low..high`; `low` when the range is empty.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.bits().checked_rem(high.saturating_sub(low)).unwrap_or_default()
    }
}
