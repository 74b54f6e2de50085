//! `streak`: how many rows in a row match, up to now.

use super::{Signature, compiled, runs::Runs, signature};
use crate::operators::{Compiled, FeatureParams, Operator};

/// The operator.
pub(in crate::operators) struct Streak;

static SIGNATURE: Signature = signature(
    "streak",
    "how many in a row up to now",
    "Matching rows since the last one that did not match; without `where` all rows. A `field` that is true/false or 0/1 stands for `where`. Exact where a key's rows come in order of time; a row that comes after a later one is taken as the latest, and `explain` says so from then on. 48 bytes, shared by the three streaks of one `where`. Empty: 0.",
);

impl Operator for Streak {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        compiled(Runs::current)
    }
}
