//! `value_change_count`: how often the field's value changed.

use super::changes::{ChangeCount, Changes};
use super::{accuracy, signature};
use crate::operators::reading::count_value;
use crate::operators::{Accuracy, Compiled, FeatureParams, Operator, Reads, Signature, Slot};
use crate::row::FieldType;
use std::sync::Arc;

/// The operator.
pub(in crate::operators) struct ValueChangeCount;

static SIGNATURE: Signature = signature(
    "value_change_count",
    "how often a value changed",
    "How many of the field's values differ from the one before them; 1 and 1.0 differ where the field holds both. Exact where a key's rows come in \
     order of time; a row that comes after a later one is taken as the latest, and `explain` says so. 48 bytes. Empty: 0.",
    Reads::Any,
    FieldType::I64,
);

impl Operator for ValueChangeCount {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        let of = |slot: &Slot<'_>| slot.nearest().fold(Changes::default(), |all, part| all.then(Changes::of(part.words)));
        let accuracy = move |slot: &Slot<'_>| if of(slot).disordered { Accuracy::Unknown } else { accuracy(slot) };
        Compiled::of_one(Arc::new(ChangeCount), move |slot| count_value(of(slot).changes), accuracy)
    }
}
