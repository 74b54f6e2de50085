//! Tests of one promise: of a list of paths a record gives the first, in list order, that has a value,
//! in whatever order its members stand and whatever it is written in.
//!
//! The oracle is a resolver over serde_json's values that tries path after path. Random records go
//! through JSON, MessagePack and (in `avro`) Avro; each must give what it gives, or be refused where it finds no way.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::fixture::{builder, choices, event, show};
use super::json::{JsonDecoder, JsonRules};
use super::msgpack::MsgpackDecoder;
use crate::row::{FieldType, Strictness};
use proptest::prelude::*;
use rmp::encode as write;
use serde_json::Value;
use streamgauge_api::Code;

/// What stands at one path.
#[derive(Debug, Clone, PartialEq)]
enum Stands {
    Missing,
    Null,
    Value(Value),
    Misfit,
}

/// A member's name, or `None` for each element of an array.
fn steps(path: &str) -> Vec<Option<&str>> {
    path.split('.')
        .flat_map(|step| {
            let name = step.trim_end_matches("[]");
            std::iter::once(Some(name)).chain(std::iter::repeat_n(None, (step.len() - name.len()) / 2))
        })
        .collect()
}

fn at_path(value: &Value, steps: &[Option<&str>]) -> Stands {
    match (steps, value) {
        (_, Value::Null) => Stands::Null,
        ([], value) => Stands::Value(value.clone()),
        ([Some(name), rest @ ..], Value::Object(members)) => members.get(*name).map_or(Stands::Missing, |value| at_path(value, rest)),
        ([None, rest @ ..], Value::Array(items)) => {
            let mut list = Vec::new();
            match items.iter().all(|item| gathered(item, rest, &mut list)) {
                true => Stands::Value(Value::Array(list)),
                false => Stands::Misfit,
            }
        }
        _ => Stands::Misfit,
    }
}

/// Adds what an element has to the list; false when the path cannot pass through it.
fn gathered(value: &Value, steps: &[Option<&str>], list: &mut Vec<Value>) -> bool {
    match (steps, value) {
        ([], value) => list.push(value.clone()),
        (steps, Value::Null) if !steps.contains(&None) => list.push(Value::Null),
        (_, Value::Null) => {}
        ([Some(name), rest @ ..], Value::Object(members)) => match members.get(*name) {
            Some(value) => return gathered(value, rest, list),
            None if !rest.contains(&None) => list.push(Value::Null),
            None => {}
        },
        ([None, rest @ ..], Value::Array(items)) => return items.iter().all(|item| gathered(item, rest, list)),
        _ => return false,
    }
    true
}

/// The oracle: the cell as text, or that the record is refused.
pub(super) fn naive(record: &Value, paths: &[String], kind: FieldType) -> Result<String, Code> {
    let stand: Vec<Stands> = paths.iter().map(|path| at_path(record, &steps(path))).collect();
    if let Some(Stands::Value(value)) = stand.iter().find(|stands| matches!(stands, Stands::Value(_))) {
        return match (kind, value) {
            (FieldType::Json, Value::Object(_) | Value::Array(_)) => Ok(value.to_string()),
            (FieldType::Json | FieldType::I64, Value::Number(number)) => Ok(number.to_string()),
            (FieldType::Json | FieldType::Str, Value::String(text)) => Ok(format!("{text:?}")),
            (FieldType::Json, Value::Bool(truth)) => Ok(truth.to_string()),
            _ => Err(Code::DecodeTypeMismatch),
        };
    }
    if stand.contains(&Stands::Misfit) { Err(Code::DecodeTypeMismatch) } else { Ok("null".into()) }
}

/// What a decoder made of the record, in the oracle's words: `show` tells null from missing, JSON text may have other spaces.
pub(super) fn told(fields: Result<String, Code>) -> Result<String, Code> {
    fields.map(|text| match text.as_str() {
        "-" => "null".into(),
        text if text.starts_with(['{', '[']) => serde_json::from_str::<Value>(text).unwrap().to_string(),
        text => text.to_owned(),
    })
}

/// JSON whose members stand in any order.
#[derive(Debug, Clone)]
enum Tree {
    Null,
    Truth(bool),
    Number(i64),
    Text(String),
    List(Vec<Tree>),
    Members(Vec<(&'static str, Tree)>),
}

impl Tree {
    fn text(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Truth(truth) => truth.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => format!("\"{text}\""),
            Self::List(items) => format!("[{}]", items.iter().map(Self::text).collect::<Vec<_>>().join(",")),
            Self::Members(members) => {
                let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\": {}", value.text())).collect();
                format!("{{{}}}", members.join(", "))
            }
        }
    }

    fn msgpack(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => write::write_nil(out).unwrap(),
            Self::Truth(truth) => write::write_bool(out, *truth).unwrap(),
            Self::Number(number) => drop(write::write_sint(out, *number).unwrap()),
            Self::Text(text) => write::write_str(out, text).unwrap(),
            Self::List(items) => {
                write::write_array_len(out, u32::try_from(items.len()).unwrap()).unwrap();
                items.iter().for_each(|item| item.msgpack(out));
            }
            Self::Members(members) => {
                write::write_map_len(out, u32::try_from(members.len()).unwrap()).unwrap();
                for (name, value) in members {
                    write::write_str(out, name).unwrap();
                    value.msgpack(out);
                }
            }
        }
    }
}

const NAMES: [&str; 4] = ["a", "b", "v", "z"];

fn members(value: impl Strategy<Value = Tree>) -> impl Strategy<Value = Tree> {
    let order = Just(NAMES.to_vec()).prop_shuffle();
    (order, prop::collection::vec(value, 0..4)).prop_map(|(names, values)| Tree::Members(names.into_iter().zip(values).collect()))
}

fn record() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        3 => Just(Tree::Null),
        1 => any::<bool>().prop_map(Tree::Truth),
        3 => (-9i64..1_000_000).prop_map(Tree::Number),
        2 => "[a-z]{0,3}".prop_map(Tree::Text),
    ];
    let value = leaf.prop_recursive(3, 30, 4, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Tree::List),
            3 => members(inner),
        ]
    });
    members(value)
}

fn path() -> impl Strategy<Value = String> {
    "[abv](\\[\\]){0,1}(\\.[abv](\\[\\]){0,1}){0,2}"
}

pub(super) fn kind() -> impl Strategy<Value = FieldType> {
    prop_oneof![Just(FieldType::Json), Just(FieldType::I64), Just(FieldType::Str)]
}

#[test]
fn the_first_path_with_a_value_is_taken_wherever_it_stands() {
    let paths = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let cases: &[(&[&str], &str, Result<&str, Code>)] = &[
        (&["after.v", "before.v"], r#"{"after":{"v":1},"before":{"v":2}}"#, Ok("1")),
        (&["after.v", "before.v"], r#"{"before":{"v":2},"after":{"v":1}}"#, Ok("1")),
        (&["after.v", "before.v"], r#"{"after":{"v":1},"before":null}"#, Ok("1")),
        (&["after.v", "before.v"], r#"{"before":{"v":2},"after":null}"#, Ok("2")),
        (&["after.v", "before.v"], r#"{"before":{"v":2},"after":{"v":null}}"#, Ok("2")),
        (&["after.v", "before.v"], r#"{"before":{"v":2},"after":{}}"#, Ok("2")),
        (&["after.v", "before.v"], r#"{"before":null}"#, Ok("null")),
        (&["after.v", "before.v"], r"{}", Ok("-")),
        // What stands behind the value that is taken is not looked at.
        (&["after.v", "before.v"], r#"{"before":{"v":"text"},"after":{"v":1}}"#, Ok("1")),
        (&["after.v", "before.v"], r#"{"before":5,"after":{"v":1}}"#, Ok("1")),
        (&["after.v", "before.v"], r#"{"before":{"v":1e999},"after":{"v":1}}"#, Ok("1")),
        // A first value of a wrong type is no reason to take the second.
        (&["after.v", "before.v"], r#"{"before":{"v":2},"after":{"v":"text"}}"#, Err(Code::DecodeTypeMismatch)),
        (&["after.v", "before.v"], r#"{"before":null,"after":7}"#, Err(Code::DecodeTypeMismatch)),
        // A member that was a value once and is an object now.
        (&["customer.id", "customer"], r#"{"customer":{"id":4}}"#, Ok("4")),
        (&["customer.id", "customer"], r#"{"customer":4}"#, Ok("4")),
        (&["a", "b", "c"], r#"{"c":3,"b":null,"a":null}"#, Ok("3")),
        (&["a", "a"], r#"{"a":3}"#, Ok("3")),
        (&["a", "b"], r#"{"a":1,"b":{"unclosed":1}"#, Err(Code::DecodeMalformed)),
        (&["a", "b"], r#"{"a":1,"b":2,"b":3}"#, Err(Code::DecodeMalformed)),
    ];
    for (list, text, expected) in cases {
        let schema = event("v:i64? w:i64?");
        let mut into = builder(&schema, Strictness::Record);
        let projection = choices(&[paths(list), paths(&["a"])]);
        into.begin();
        let got = JsonDecoder::new(projection, JsonRules::RECORD).fields(text.as_bytes(), &mut into).map_err(|bad| bad.code);
        let got = got.map(|()| {
            into.commit(0, None, false).unwrap();
            show(into.finish().cell(0, FieldType::I64, 0))
        });
        assert_eq!(got.as_deref().map_err(|code| *code), *expected, "{list:?} of {text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn json_and_msgpack_choose_as_a_naive_resolver_does(
        record in record(),
        lists in prop::collection::vec((prop::collection::vec(path(), 1..4), kind()), 1..4),
    ) {
        let text = record.text();
        let value: Value = serde_json::from_str(&text).unwrap();
        let schema = event(&lists.iter().enumerate().map(|(at, (_, kind))| format!("f{at}:{}?", kind.as_str())).collect::<Vec<_>>().join(" "));
        let projection = choices(&lists.iter().map(|(paths, _)| paths.clone()).collect::<Vec<_>>());
        let mut body = Vec::new();
        record.msgpack(&mut body);
        let expected: Result<Vec<String>, Code> = lists.iter().map(|(paths, kind)| naive(&value, paths, *kind)).collect();
        let mut json = JsonDecoder::new(projection.clone(), JsonRules::RECORD);
        let mut msgpack = MsgpackDecoder::new(projection, JsonRules::RECORD);
        for format in ["json", "msgpack"] {
            let mut into = builder(&schema, Strictness::Record);
            into.begin();
            let fields = if format == "json" { json.fields(text.as_bytes(), &mut into) } else { msgpack.fields(&body, &mut into) };
            let got = fields.map_err(|bad| bad.code).and_then(|()| {
                into.commit(0, None, false).unwrap();
                let rows = into.finish();
                lists.iter().enumerate().map(|(at, (_, kind))| told(Ok(show(rows.cell(at, *kind, 0))))).collect()
            });
            prop_assert_eq!(&got, &expected, "{} {}", format, text);
        }
    }
}
