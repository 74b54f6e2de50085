//! `histogram`: how many numbers fell between given edges.

use super::signature;
use crate::operators::cells::Cells;
use crate::operators::{Accuracy, Compiled, FeatureParams, FieldRule, Operator, Output, Param, ParamKind, ParamValue, Reads, Signature};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::{Code, Value};

/// The operator.
pub(in crate::operators) struct Histogram;

static SIGNATURE: Signature = Signature {
    params: &[Param {
        name: "buckets",
        aliases: &[],
        kind: ParamKind::Edges { max: 256 },
        code: Code::AggregationInvalidParam,
        help: "edges: a cell below the first, one between each and the next, one from the last on",
    }],
    lifetime_bound: Some("buckets"),
    ..signature(
        "histogram",
        "how numbers fall between edges",
        "How many of the field's numbers fell between each of the edges and the next, as a map of labels (`<10`, `10-20`, `>=20`) and counts; a \
         number on an edge belongs above it. Exact; 16 bytes and 8 for each cell. Empty: every cell 0.",
        FieldRule::Required,
        Reads::Numbers,
        Output::Is(FieldType::Json),
    )
};

impl Operator for Histogram {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let edges: Arc<[f64]> = match feature.params.0.get("buckets") {
            Some(ParamValue::Edges(edges)) => edges.clone().into(),
            _ => Arc::new([]),
        };
        let labels = labels(&edges);
        let cells = Cells::Edges(edges);
        let value = {
            let cells = cells.clone();
            move |slot: &crate::operators::Slot<'_>| {
                let mut entries: Vec<(Box<str>, Value)> = labels.iter().cloned().zip(cells.counts(slot.core)).collect();
                entries.sort_by(|left, right| left.0.cmp(&right.0));
                Value::Map(entries)
            }
        };
        Compiled::of_one(Arc::new(cells), value, |_| Accuracy::Exact)
    }
}

/// What each cell is called.
fn labels(edges: &[f64]) -> Vec<Box<str>> {
    let (Some(first), Some(last)) = (edges.first(), edges.last()) else { return vec!["all".into()] };
    let between = edges.windows(2).map(|pair| format!("{}-{}", pair[0], pair[1]).into());
    std::iter::once(format!("<{first}").into()).chain(between).chain([format!(">={last}").into()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::laws::{Datum, reading, rows};

    #[test]
    fn cells_have_the_labels_of_the_wire_contract() {
        let labels = |edges: &[f64]| super::labels(edges).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(labels(&[]), ["all"]);
        assert_eq!(labels(&[10.0]), ["<10", ">=10"]);
        assert_eq!(labels(&[-1.0, 5.5, 20.0]), ["<-1", "-1-5.5", "5.5-20", ">=20"]);
        let data = rows([Datum::I64(3), Datum::F64(10.0), Datum::Null, Datum::I64(12)]);
        let reading = reading(&Histogram, FieldType::F64, &[("buckets", ParamValue::Edges(vec![10.0]))], &data);
        assert_eq!(reading.value, Value::Map(vec![("<10".into(), Value::I64(1)), (">=10".into(), Value::I64(2))]));
    }
}
