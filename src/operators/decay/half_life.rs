//! Weights that halve in equal times.
//!
//! A row of the past weighs `2^(-age / half_life)`. A step of smoothing gives the old side that
//! weight for the time that has passed, and the rest to the new one. Weights of short steps are
//! differences of nearly equal numbers, so they come from `expm1`; those of long ones do not cancel.
//! Powers come from `libm`, which is the same code everywhere: state must not hang on the C library
//! of a build. Called by apply, row by row, and at merges; pure.

use crate::operators::{Param, ParamKind, ParamValues};
use libm::{exp2, expm1};
use std::f64::consts::LN_2;
use streamgauge_api::Code;

/// The parameter of all operators that fade.
pub(super) const HALF_LIFE: Param = Param {
    name: "half_life",
    aliases: &[],
    kind: ParamKind::Duration { required: true },
    code: Code::InvalidRegistration,
    help: "time after which a row weighs half as much",
};

/// How fast rows lose their weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HalfLife {
    us: i64,
}

impl HalfLife {
    /// The feature's half life.
    pub(super) fn of(params: &ParamValues) -> Self {
        Self::from_us(params.duration_us(HALF_LIFE.name))
    }

    pub(super) const fn from_us(us: i64) -> Self {
        assert!(us > 0, "a half life lasts");
        Self { us }
    }

    /// Its length in microseconds, for identities.
    pub(super) fn us(self) -> i64 {
        self.us
    }

    /// What a weight of 1 is after this time; what it was before, for a negative one.
    #[inline]
    pub(super) fn left(self, after_us: i64) -> f64 {
        exp2(-self.lives(after_us))
    }

    /// The step to a row, or a slot, this long after the last one.
    #[inline]
    pub(super) fn step(self, after_us: i64) -> Shares {
        debug_assert!(after_us > 0, "a step of {after_us} us");
        let lives = self.lives(after_us);
        if lives < 1.0 {
            let new = -expm1(-lives * LN_2);
            Shares { old: 1.0 - new, new }
        } else {
            let old = exp2(-lives);
            Shares { old, new: 1.0 - old }
        }
    }

    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "a weight needs no last digit")]
    fn lives(self, us: i64) -> f64 {
        us as f64 / self.us as f64
    }
}

/// Weights of the two sides of a mean, which add up to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shares {
    pub(super) old: f64,
    pub(super) new: f64,
}

impl Shares {
    /// Half of each.
    pub(super) const EVEN: Self = Self { old: 0.5, new: 0.5 };

    /// All of the old side.
    pub(super) const OLD: Self = Self { old: 1.0, new: 0.0 };

    /// The sides' shares of these weights, of which one at least is above 0.
    #[inline]
    pub(super) fn of(old: f64, new: f64) -> Self {
        let both = old + new;
        debug_assert!(both > 0.0, "{old} and {new} weigh nothing");
        Self { old: old / both, new: new / both }
    }

    /// The mean of two numbers: never beyond them, so that it leaves no range that they are within,
    /// and a number stays what it is among its equals.
    #[inline]
    pub(super) fn mean(self, old: f64, new: f64) -> f64 {
        (self.old * old + self.new * new).max(old.min(new)).min(old.max(new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_halve_and_shares_add_up() {
        let hour = HalfLife::from_us(3_600_000_000);
        for (us, left) in [(0, 1.0), (3_600_000_000, 0.5), (-3_600_000_000, 2.0), (36_000_000_000, 1.0 / 1024.0)] {
            assert_eq!(hour.left(us), left);
        }
        for us in [1, 1_000, 3_599_999_999, 3_600_000_000, 7_200_000_000, i64::MAX] {
            let Shares { old, new } = hour.step(us);
            assert!(old + new == 1.0 && new > 0.0 && (old - hour.left(us)).abs() <= 1e-15, "{us}: {old} {new}");
        }
        // The first digits of a short step's share are there: ln(2) / 3.6e9.
        assert!((hour.step(1).new / 1.925_408_834_888_736_5e-10 - 1.0).abs() < 1e-9);
        assert_eq!(HalfLife::from_us(1_000).step(i64::MAX), Shares { old: 0.0, new: 1.0 });
    }

    #[test]
    fn a_mean_is_never_beyond_its_sides() {
        for old in [0.1, -0.1, f64::MAX, f64::MIN, 1e16, 0.0] {
            for new in [0.1, 1.0, f64::MAX, -1e308, old] {
                for shares in [Shares::EVEN, Shares::of(1.0, 2.0), Shares { old: 0.9, new: 0.1 }, Shares { old: 0.0, new: 1.0 }] {
                    let mean = shares.mean(old, new);
                    assert!((old.min(new)..=old.max(new)).contains(&mean), "{old} {new}: {mean}");
                }
            }
        }
        assert_eq!(Shares { old: 0.0, new: 1.0 }.mean(1e16, 1.0), 1.0);
    }
}
