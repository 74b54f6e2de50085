//! Count, mean and centred second moment of numbers: what `var` and `std` read.
//!
//! Updated by Welford's rule (1962), merged by Chan, Golub and LeVeque's (1979). Nothing is squared before it is centred, so numbers around 1e12 keep the variance of
//! their last digits. Relative error of the variance about `n * 2^-53` times its condition number. What is no number is passed over.

use super::Slot;
use crate::state::{Accumulator, Arena, Input, Need, f64_of};

/// Slot: `[numbers] [mean] [m2]`, m2 = sum of squared distances from the mean. Merge is associative within rounding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moments;

impl Moments {
    /// Sample variance, m2 / (n - 1); `None` for fewer than two numbers.
    #[expect(clippy::cast_precision_loss, reason = "row counts stay below 2^53")]
    pub(super) fn variance(slot: &Slot<'_>) -> Option<f64> {
        match slot.words {
            [numbers, _, m2, ..] if *numbers >= 2 => Some(f64_of(*m2).max(0.0) / (numbers - 1) as f64),
            _ => None,
        }
    }
}

impl Accumulator for Moments {
    fn identity(&self) -> String {
        "moments".into()
    }

    fn words(&self) -> usize {
        3
    }

    fn need(&self) -> Need {
        Need::Value
    }

    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "row counts stay below 2^53")]
    fn update(&self, slot: &mut [u64], _arena: &mut Arena, input: &Input<'_>) {
        let Some(number) = input.cell.number() else { return };
        let numbers = slot[0] + 1;
        let before = number - f64_of(slot[1]);
        let mean = f64_of(slot[1]) + before / numbers as f64;
        slot[2] = (f64_of(slot[2]) + before * (number - mean)).to_bits();
        slot[1] = mean.to_bits();
        slot[0] = numbers;
    }

    #[expect(clippy::cast_precision_loss, reason = "row counts stay below 2^53")]
    fn merge(&self, slot: &mut [u64], _arena: &mut Arena, other: &[u64], _from: &Arena) {
        if slot[0] == 0 || other[0] == 0 {
            if slot[0] == 0 {
                slot.copy_from_slice(other);
            }
            return;
        }
        let (here, there) = (slot[0] as f64, other[0] as f64);
        let both = here + there;
        let apart = f64_of(other[1]) - f64_of(slot[1]);
        slot[1] = (f64_of(slot[1]) + apart * (there / both)).to_bits();
        slot[2] = (f64_of(slot[2]) + f64_of(other[2]) + apart * apart * (here * there / both)).to_bits();
        slot[0] += other[0];
    }
}
