//! Of a list of paths a record gives the first that has a value: Avro against the oracle of `decode::choices`.
//!
//! The writer's fields stand in any order, its values are null, of one branch or of another.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::{AvroPlan, AvroScratch};
use crate::decode::choices::{kind, naive, told};
use crate::decode::fixture::{builder, choices, event, show};
use crate::row::{FieldType, Strictness};
use apache_avro::Schema;
use apache_avro::types::Value as Avro;
use proptest::prelude::*;
use serde_json::{Value, json};
use streamgauge_api::Code;
use streamgauge_api::inlet::FetchedSchema;

/// A record with both images of a row, as changes of a database are told.
const IMAGE: &str = r#"{"type":"record","name":"Row","fields":[
    {"name":"v","type":["null","long","string"]},
    {"name":"tags","type":{"type":"array","items":["null","long"]}},
    {"name":"items","type":["null",{"type":"array","items":{"type":"record","name":"Item","fields":[{"name":"p","type":["null","long"]}]}}]},
    {"name":"m","type":{"type":"map","values":["null","long"]}}]}"#;
const TOP: [(&str, &str); 4] =
    [("before", r#"["null","Row"]"#), ("after", r#"["null","Row"]"#), ("old", r#"["null","Row","string"]"#), ("v", r#"["null","long"]"#)];
const AVRO_PATHS: [&str; 12] = [
    "before.v",
    "after.v",
    "old.v",
    "v",
    "before.tags",
    "after.tags[]",
    "after.items[].p",
    "before.items",
    "after.m.k",
    "before.m.k",
    "old",
    "nowhere.v",
];

fn maybe_long(number: Option<i64>) -> Avro {
    match number {
        None => Avro::Union(0, Box::new(Avro::Null)),
        Some(number) => Avro::Union(1, Box::new(Avro::Long(number))),
    }
}

/// A row image as Avro and as the JSON that it stands for.
fn image() -> impl Strategy<Value = (Avro, Value)> {
    let maybe = || prop::option::of(-9i64..1_000_000);
    let v = prop_oneof![
        maybe().prop_map(|number| (maybe_long(number), json!(number))),
        "[a-z]{0,3}".prop_map(|text| { (Avro::Union(2, Box::new(Avro::String(text.clone()))), json!(text)) })
    ];
    let lists = prop::collection::vec(maybe(), 0..3);
    (v, lists.clone(), prop::option::of(lists), prop::option::of(maybe())).prop_map(|((v, v_json), tags, items, key)| {
        let item = |p: &Option<i64>| Avro::Record(vec![("p".into(), maybe_long(*p))]);
        let items_avro = match &items {
            None => Avro::Union(0, Box::new(Avro::Null)),
            Some(items) => Avro::Union(1, Box::new(Avro::Array(items.iter().map(item).collect()))),
        };
        let avro = Avro::Record(vec![
            ("v".into(), v),
            ("tags".into(), Avro::Array(tags.iter().map(|tag| maybe_long(*tag)).collect())),
            ("items".into(), items_avro),
            ("m".into(), Avro::Map(key.iter().map(|value| ("k".to_owned(), maybe_long(*value))).collect())),
        ]);
        let items = items.map(|items| items.iter().map(|p| json!({ "p": p })).collect::<Vec<_>>());
        let map: serde_json::Map<String, Value> = key.iter().map(|value| ("k".to_owned(), json!(value))).collect();
        (avro, json!({ "v": v_json, "tags": tags, "items": items, "m": map }))
    })
}

/// A top-level value: null, an image, or (for `old`) text.
fn nullable() -> impl Strategy<Value = (Avro, Value)> {
    prop_oneof![
        Just((Avro::Union(0, Box::new(Avro::Null)), Value::Null)),
        image().prop_map(|(avro, json)| (Avro::Union(1, Box::new(avro)), json)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn avro_chooses_as_a_naive_resolver_does(
        (before, after, old, v) in (nullable(), nullable(), nullable(), prop::option::of(0i64..100)),
        text in prop::option::of("[a-z]{0,3}"),
        order in Just(vec![0usize, 1, 2, 3]).prop_shuffle(),
        lists in prop::collection::vec((prop::collection::vec(prop::sample::select(&AVRO_PATHS[..]), 1..4), kind()), 1..4),
    ) {
        let old = match text {
            Some(text) => (Avro::Union(2, Box::new(Avro::String(text.clone()))), json!(text)),
            None => old,
        };
        let values = [before, after, old, (maybe_long(v), json!(v))];
        let fields: Vec<String> = order.iter().map(|&at| format!(r#"{{"name":"{}","type":{}}}"#, TOP[at].0, TOP[at].1)).collect();
        // The type is defined where it is named first.
        let schema_text = format!(r#"{{"type":"record","name":"Change","fields":[{}]}}"#, fields.join(",").replacen("\"Row\"", IMAGE, 1));
        let schema = Schema::parse_str(&schema_text).unwrap();
        let datum = Avro::Record(order.iter().map(|&at| (TOP[at].0.to_owned(), values[at].0.clone())).collect());
        let writer = apache_avro::writer::datum::GenericDatumWriter::builder(&schema).build().unwrap();
        let body = writer.write_value_to_vec(datum).unwrap();
        let value: Value = Value::Object(TOP.iter().zip(&values).map(|((name, _), (_, json))| ((*name).to_owned(), json.clone())).collect());
        let lists: Vec<(Vec<String>, FieldType)> =
            lists.into_iter().map(|(paths, kind)| (paths.into_iter().map(str::to_owned).collect(), kind)).collect();
        let schema = event(&lists.iter().enumerate().map(|(at, (_, kind))| format!("f{at}:{}?", kind.as_str())).collect::<Vec<_>>().join(" "));
        let fetched = FetchedSchema { registry: "r".into(), id: 1.into(), kind: "AVRO".into(), text: schema_text.clone(), references: Vec::new() };
        let projection = choices(&lists.iter().map(|(paths, _)| paths.clone()).collect::<Vec<_>>());
        // A path that stands alone and can never fit refuses the schema, which is another promise.
        let Ok(plan) = AvroPlan::compile(&fetched, &schema, &projection) else { return Ok(()) };
        let mut into = builder(&schema, Strictness::Record);
        into.begin();
        let got = plan.fields(&body, &mut AvroScratch::default(), &mut into).map_err(|bad| bad.code).and_then(|()| {
            into.commit(0, None, false).unwrap();
            let rows = into.finish();
            lists.iter().enumerate().map(|(at, (_, kind))| told(Ok(show(rows.cell(at, *kind, 0))))).collect::<Result<Vec<_>, _>>()
        });
        let expected: Result<Vec<String>, Code> = lists.iter().map(|(paths, kind)| naive(&value, paths, *kind)).collect();
        prop_assert_eq!(&got, &expected, "{} {} {:?}", schema_text, value, lists);
    }
}
