//! `negative_streak`: how many rows in a row do not match, up to now.

use super::{Signature, compiled, runs::Runs, signature};
use crate::operators::{Compiled, FeatureParams, Operator};

/// The operator.
pub(in crate::operators) struct NegativeStreak;

static SIGNATURE: Signature = signature(
    "negative_streak",
    "how many since the last match",
    "Rows since the last one that matched; without `where` always 0. A `field` that is true/false or 0/1 stands for `where`. Exact where a key's rows come in order of time; a row that comes after a later one is taken as the latest, and `explain` says so from then on. 48 bytes, shared by the three streaks of one `where`. Empty: 0.",
);

impl Operator for NegativeStreak {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        compiled(Runs::current_of_others)
    }
}
