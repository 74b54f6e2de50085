//! Operators whose rows fade: averages, variances and totals in which a row weighs half as much
//! after each half life, and the average over time.
//!
//! The rules are those of exponential smoothing with irregular steps: what was there is multiplied
//! by `2^(-dt / half_life)`, where `dt` is the row time between two rows. Over a lifetime a slot holds
//! the running figures only; in a window every bucket keeps besides what a merge asks for: its first
//! row, and how much of what came before it is left after its last one. So a bucket is one affine
//! step, and buckets merge in order of time like rows.
//!
//! - `half_life`: the parameter, and the weights that come of it;
//! - `smoothed_moments`: mean and variance behind `ewvar` and `ew_zscore`;
//! - `decayed_total`: the totals behind `decayed_sum` and `decayed_count`, in any order of rows;
//! - one file for each operator.

mod decayed_count;
mod decayed_sum;
mod decayed_total;
mod ew_zscore;
mod ewma;
mod ewvar;
mod half_life;
mod smoothed_moments;
mod twa;

pub(super) use decayed_count::DecayedCount;
pub(super) use decayed_sum::DecayedSum;
pub(super) use ew_zscore::EwZscore;
pub(super) use ewma::Ewma;
pub(super) use ewvar::Ewvar;
pub(super) use twa::Twa;
