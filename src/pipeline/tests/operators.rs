//! Signatures as the wire contract lists them, so that these tests do not depend on which operators the engine has.

use crate::operators::{
    Accuracy, Compiled, Family, FeatureParams, FieldRule, Operator, Output, Param, ParamKind, Reads, Signature, WindowRule,
};
use crate::row::FieldType;
use streamgauge_api::{Code, Value};

struct Fake(&'static Signature);

impl Operator for Fake {
    fn signature(&self) -> &'static Signature {
        self.0
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        Compiled { needs: Vec::new(), value: Box::new(|_, _| Value::Null), accuracy: Box::new(|_, _| Accuracy::Exact) }
    }
}

const fn param(name: &'static str, aliases: &'static [&'static str], kind: ParamKind, code: Code) -> Param {
    Param { name, aliases, kind, code, help: "" }
}

const fn signature(
    name: &'static str,
    field: FieldRule,
    window: WindowRule,
    params: &'static [Param],
    lifetime_bound: Option<&'static str>,
) -> Signature {
    Signature {
        name,
        aliases: &[],
        family: Family::Core,
        asks: "",
        help: "",
        field,
        reads: Reads::Any,
        window,
        params,
        lifetime_bound,
        grown: "",
        output: Output::Is(FieldType::F64),
    }
}

const NO_WINDOW: WindowRule = WindowRule::Refused(Code::AggregationInvalidWindow);
const BAD: Code = Code::AggregationInvalidParam;
const HALF_LIFE: &[Param] = &[param("half_life", &[], ParamKind::Duration { required: true }, Code::InvalidRegistration)];
const N: &[Param] = &[param("n", &[], ParamKind::Int { min: 1, max: 1024, default: None }, Code::AggregationUnknownField)];

static EWMA: Signature = Signature { aliases: &["ema"], ..signature("ewma", FieldRule::Optional, WindowRule::Allowed, HALF_LIFE, None) };

pub(super) static ALL: &[&dyn Operator] = &[
    &Fake(&signature("count", FieldRule::None, WindowRule::Allowed, &[], None)),
    &Fake(&signature("sum", FieldRule::Optional, WindowRule::Allowed, &[], None)),
    &Fake(&signature("mean", FieldRule::Optional, WindowRule::Allowed, &[], None)),
    &Fake(&signature("first", FieldRule::Required, NO_WINDOW, &[], None)),
    &Fake(&signature("n_unique", FieldRule::Optional, WindowRule::Allowed, &[], None)),
    &Fake(&signature(
        "quantile",
        FieldRule::Optional,
        WindowRule::Allowed,
        &[param("q", &[], ParamKind::Float { above: 0.0, below: 1.0, default: Some(0.5) }, Code::InvalidPercentileQ)],
        None,
    )),
    &Fake(&signature(
        "top_k",
        FieldRule::Optional,
        WindowRule::Allowed,
        &[
            param("k", &[], ParamKind::Int { min: 1, max: 1024, default: Some(10) }, Code::InvalidTopKK),
            param("errors", &[], ParamKind::Bool { default: false }, BAD),
        ],
        None,
    )),
    &Fake(&signature(
        "bloom_member",
        FieldRule::Optional,
        WindowRule::Refused(Code::WindowNotSupported),
        &[
            param("expected_n", &["capacity"], ParamKind::Int { min: 1, max: 1_000_000, default: Some(1024) }, BAD),
            param("target_fpr", &["fpr"], ParamKind::Float { above: 1e-7, below: 0.5, default: Some(0.01) }, Code::InvalidBloomFpr),
        ],
        None,
    )),
    &Fake(&signature("first_n", FieldRule::Required, NO_WINDOW, N, Some("n"))),
    &Fake(&EWMA),
    &Fake(&signature(
        "burst_count",
        FieldRule::None,
        WindowRule::Allowed,
        &[param("sub_window", &[], ParamKind::Duration { required: true }, BAD)],
        None,
    )),
    &Fake(&signature(
        "z_score",
        FieldRule::Optional,
        WindowRule::Allowed,
        &[param("baseline_window", &[], ParamKind::Duration { required: false }, BAD)],
        None,
    )),
    &Fake(&signature(
        "histogram",
        FieldRule::Required,
        NO_WINDOW,
        &[param("buckets", &[], ParamKind::Edges { max: 256 }, BAD)],
        Some("buckets"),
    )),
    &Fake(&signature(
        "event_type_mix",
        FieldRule::Required,
        NO_WINDOW,
        &[param("categories", &[], ParamKind::Texts { max: 1024 }, BAD)],
        None,
    )),
    &Fake(&signature(
        "geo_velocity",
        FieldRule::None,
        NO_WINDOW,
        &[
            param("lat_field", &["lat"], ParamKind::FieldName { default: "lat" }, BAD),
            param("lon_field", &["lon"], ParamKind::FieldName { default: "lon" }, BAD),
        ],
        None,
    )),
    &Fake(&signature("streak", FieldRule::Condition, NO_WINDOW, &[], None)),
    &Fake(&signature("first_seen_in_window", FieldRule::None, WindowRule::Span, &[], None)),
];
