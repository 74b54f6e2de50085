//! `max_streak`: the most rows in a row that ever matched.

use super::{Signature, compiled, runs::Runs, signature};
use crate::operators::{Compiled, FeatureParams, Operator};

/// The operator.
pub(in crate::operators) struct MaxStreak;

static SIGNATURE: Signature = signature(
    "max_streak",
    "the longest run ever",
    "The most matching rows in a row, over the key's whole life. A `field` that is true/false or 0/1 stands for `where`. Exact where a key's rows come in order of time; a row that comes after a later one is taken as the latest, and `explain` says so from then on. 48 bytes, shared by the three streaks of one `where`. Empty: 0.",
);

impl Operator for MaxStreak {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        compiled(Runs::longest)
    }
}
