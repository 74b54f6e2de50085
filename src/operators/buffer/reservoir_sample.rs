//! `reservoir_sample`: values of a random sample of rows.

use super::{LIST, compiled, signature};
use crate::operators::kept::Keep;
use crate::operators::{Compiled, FeatureParams, FieldRule, Operator, Param, ParamKind, Reads, Signature};
use streamgauge_api::Code;

/// The operator.
pub(in crate::operators) struct ReservoirSample;

static SIGNATURE: Signature = Signature {
    params: &[Param {
        name: "samples",
        aliases: &["k"],
        kind: ParamKind::Int { min: 1, max: 4096, default: Some(10) },
        code: Code::AggregationInvalidParam,
        help: "how many values",
    }],
    lifetime_bound: Some("samples"),
    ..signature(
        "reservoir_sample",
        "a fair sample of values",
        "The field's values in a random sample of the matching rows that have one, in no order: the rows whose hash (XXH3 of row time, LSN and value) is least \
         (bottom-k sampling, E. Cohen and H. Kaplan 2007), so that each has the same chance and a restart changes nothing. A text, bytes or json beyond 1 MiB divided by `samples` is passed over. 8 bytes, then 24 for each \
         value and the bytes of texts. Empty: [].",
        FieldRule::Required,
        Reads::Any,
        LIST,
    )
};

impl Operator for ReservoirSample {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        compiled(feature, Keep::Sample, feature.params.count("samples"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::ParamValue;
    use crate::operators::laws::{Datum, reading, rows};
    use crate::row::FieldType;
    use streamgauge_api::Value;

    #[test]
    fn every_value_has_the_same_chance() {
        let read = |data: Vec<crate::operators::laws::Row>, samples| {
            let given = [("samples", ParamValue::Int(samples))];
            let Value::List(values) = reading(&ReservoirSample, FieldType::I64, &given, &data).value else { panic!("a list") };
            values.iter().map(|value| if let Value::I64(number) = value { *number } else { -1 }).collect::<Vec<_>>()
        };
        assert_eq!(read(rows([]), 3), [0i64; 0]);
        assert_eq!(read(rows((0..2).map(Datum::I64)), 3).len(), 2);
        let sample = read(rows((0..40_000).map(Datum::I64)), 4096);
        assert_eq!(sample.len(), 4096);
        // Of 4,096 drawn evenly from ten parts each has 410 give or take five standard deviations.
        let mut parts = [0; 10];
        sample.iter().for_each(|number| parts[usize::try_from(number / 4_000).unwrap_or(0)] += 1);
        assert!(parts.iter().all(|part| (310..510).contains(part)), "{parts:?}");
    }
}
