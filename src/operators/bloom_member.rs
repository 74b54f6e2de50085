//! `bloom_member`: which values a field had, as a set that can be asked for any value.

use super::bloom::Bloom;
use super::{
    Accuracy, Compiled, Family, FeatureParams, FieldRule, Membership, Operator, Output, Param, ParamKind, ParamValues, Reads, Signature,
    Slot, WindowRule,
};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::{Code, Value};

/// The most bytes that one key's filter may take.
const FILTER_BYTES_MAX: usize = 1 << 20;

/// The operator.
pub(super) struct BloomMember;

static SIGNATURE: Signature = Signature {
    name: "bloom_member",
    aliases: &[],
    family: Family::Sketch,
    asks: "whether a value came before",
    help: "Which values the field had: `POST /member` asks for any of them, a plain read says whether there was one at all. A value that came is always \
           found. One that did not is found with probability `target_fpr` while at most `expected_n` different ones came (Bloom filter, 1970; its places by \
           Kirsch and Mitzenmacher, 2006), and never while there are so few that a list of their 64-bit hashes (XXH3) is no larger than the \
           filter. 16 bytes for one value, then 8 each up to the filter's -expected_n * ln(target_fpr) / ln(2)^2 bits, 1.2 KB by default, at most 1 MiB. \
           Bytes and json are passed over. Empty: false.",
    field: FieldRule::Optional,
    reads: Reads::Scalars,
    window: WindowRule::Refused(Code::WindowNotSupported),
    params: &[
        Param {
            name: "expected_n",
            aliases: &["capacity"],
            kind: ParamKind::Int { min: 1, max: 1_000_000, default: Some(1024) },
            code: Code::AggregationInvalidParam,
            help: "different values that are expected for a key",
        },
        Param {
            name: "target_fpr",
            aliases: &["fpr"],
            kind: ParamKind::Float { above: 0.999_999e-6, below: 0.500_000_1, default: Some(0.01) },
            code: Code::InvalidBloomFpr,
            help: "how often a value may be found that never came, 0.000001 to 0.5",
        },
    ],
    lifetime_bound: None,
    grown: "",
    output: Output::Is(FieldType::Bool),
};

fn filter(params: &ParamValues) -> Bloom {
    Bloom::new(params.count("expected_n"), params.float("target_fpr"))
}

impl Operator for BloomMember {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        Compiled::of_one(Arc::new(filter(feature.params)), |slot| Value::Bool(Bloom::holds_any(slot.core)), |_| Accuracy::Exact)
    }

    fn membership(&self, params: &ParamValues) -> Option<Membership> {
        let bloom = filter(params);
        let holds = move |slot: &Slot<'_>, hash| bloom.holds(slot.core, hash);
        Some(Membership { false_positives: params.float("target_fpr"), holds: Box::new(holds) })
    }

    fn refuses(&self, params: &ParamValues) -> Option<(&'static str, String)> {
        let bytes = filter(params).bytes();
        let (expected, false_positives) = (params.count("expected_n"), params.float("target_fpr"));
        (bytes > FILTER_BYTES_MAX).then(|| {
            let reason = format!(
                "bloom_member: a filter for {expected} values of which {false_positives} are found wrongly takes {bytes} bytes for each key; \
                 at most {FILTER_BYTES_MAX} are allowed"
            );
            ("expected_n", reason)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::laws::{Datum, State, compiled, exactly, params, reading, rows};
    use super::super::{Operator, ParamValue};
    use super::*;
    use crate::state::hash_cell;

    #[test]
    fn a_read_says_whether_there_is_any_value_and_membership_which() {
        assert_eq!(reading(&BloomMember, FieldType::I64, &[], &rows([Datum::Null])), exactly(Value::Bool(false)));
        let fed = rows([Datum::I64(7), Datum::I64(9)]);
        assert_eq!(reading(&BloomMember, FieldType::I64, &[], &fed), exactly(Value::Bool(true)));
        let state = State::fed(&*compiled(&BloomMember, FieldType::I64, &[]).needs[0].accumulator, &fed);
        let membership = BloomMember.membership(&params(&BloomMember, &[])).unwrap();
        let holds = |number| (membership.holds)(&state.slot(), hash_cell(Datum::I64(number).cell()));
        assert_eq!((holds(7), holds(9), holds(8), membership.false_positives), (true, true, false, 0.01));
    }

    #[test]
    fn a_filter_beyond_a_megabyte_is_refused_by_name() {
        for (expected, false_positives, refused) in
            [(1024, 0.01, false), (500_000, 0.01, false), (1_000_000, 0.02, false), (1_000_000, 0.01, true), (700_000, 1e-6, true)]
        {
            let given = [("expected_n", ParamValue::Int(expected)), ("target_fpr", ParamValue::Float(false_positives))];
            assert_eq!(
                BloomMember.refuses(&params(&BloomMember, &given)).map(|(param, _)| param),
                refused.then_some("expected_n"),
                "{expected}"
            );
        }
    }
}
