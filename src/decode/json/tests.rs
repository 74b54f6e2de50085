//! Rules of JSON bodies as tables; serde_json as the oracle of what is JSON at all and of what its values are.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::decode::fixture::{builder, commit_and_show, event, projection, show_row};
use crate::decode::push::PushDecoder;
use crate::row::{Cell, FieldType};
use proptest::prelude::*;
use serde_json::Value;

/// Decodes one text by record paths: the row as text, or the code.
fn record(fields: &str, paths: &[&str], text: &str) -> Result<String, (Code, String)> {
    let schema = event(fields);
    let mut into = builder(&schema, Strictness::Record);
    let mut decoder = JsonDecoder::new(projection(paths), JsonRules::RECORD);
    into.begin();
    match decoder.fields(text.as_bytes(), &mut into) {
        Ok(()) => Ok(commit_and_show(&mut into)),
        Err(bad) => {
            into.rollback();
            Err((bad.code, bad.path.clone()))
        }
    }
}

fn push(fields: &str, text: &str) -> Result<String, (Code, String)> {
    let schema = event(fields);
    let mut into = builder(&schema, Strictness::Push);
    match PushDecoder::new(&schema, true).push_json(text.as_bytes(), &mut into, 5) {
        Ok(()) => Ok(show_row(&into.finish(), &schema, 0)),
        Err(bad) => {
            assert!(into.is_empty() && !bad.reason.is_empty());
            Err((bad.code, bad.path.clone()))
        }
    }
}

#[test]
fn fields_are_found_in_any_order_and_others_are_skipped() {
    let cases = [
        (r#"{"a":1,"b":"x"}"#, r#"1 "x""#),
        (r#"{"b":"x","a":1}"#, r#"1 "x""#),
        (r#" { "z" : [ {"a":[1,{}]} , null ] , "b" : "x" , "y":{} , "a" : 1 , "w":[] } "#, r#"1 "x""#),
        (r#"{"b":null}"#, "- null"),
        (r"{}", "- -"),
        (r#"{"\u0061":7,"b":"\u00e9\n\ud83d\ude00\\\"\/"}"#, "7 \"é\\n😀\\\\\\\"/\""),
        (r#"{"a":-0,"b":"é😀 with more than eight bytes"}"#, "0 \"é😀 with more than eight bytes\""),
        (r#"{"a":3.0}"#, "3 -"),
        (r#"{"a":1e3}"#, "1000 -"),
        (r#"{"a":-9223372036854775808}"#, "-9223372036854775808 -"),
    ];
    for (text, expected) in cases {
        assert_eq!(record("a:i64? b:str?", &["a", "b"], text).unwrap(), expected, "{text}");
    }
}

#[test]
fn every_type_takes_what_it_documents() {
    let cases = [
        ("f64", "3", "3.0"),
        ("f64", "-0.0", "-0.0"),
        ("f64", "0.1", "0.1"),
        ("f64", "123456789012345678901234567890", "1.2345678901234568e29"),
        ("f64", "1.7976931348623157e308", "1.7976931348623157e308"),
        ("f64", "4.9e-324", "5e-324"),
        ("bool", "true", "true"),
        ("bool", "false", "false"),
        ("datetime", "1700000000000", "t1700000000000"),
        ("datetime", "\"2023-11-14T22:13:20Z\"", "t1700000000000"),
        ("json", "{\"k\": [1, \"\\u00e9\"]}", "{\"k\": [1, \"\\u00e9\"]}"),
        ("json", "[ ]", "[ ]"),
        ("json", "\"text\"", "\"text\""),
        ("json", "12", "12"),
        ("json", "1.5", "1.5"),
        ("json", "true", "true"),
        ("json", "null", "null"),
        ("bytes", "\"text\"", "\"text\""),
    ];
    for (kind, value, expected) in cases {
        let got = record(&format!("a:{kind}?"), &["a"], &format!("{{\"a\":{value}}}")).unwrap();
        assert_eq!(got, expected, "{kind} {value}");
    }
    for (kind, value, code) in [
        ("i64", "1.5", Code::DecodeOutOfRange),
        ("i64", "9223372036854775808", Code::DecodeOutOfRange),
        ("i64", "\"1\"", Code::DecodeTypeMismatch),
        ("f64", "1e999", Code::DecodeOutOfRange),
        ("json", "[1e999]", Code::DecodeOutOfRange),
        ("str", "1", Code::DecodeTypeMismatch),
        ("str", "{}", Code::DecodeTypeMismatch),
        ("bool", "0", Code::DecodeTypeMismatch),
        ("datetime", "\"yesterday\"", Code::DecodeTypeMismatch),
    ] {
        let got = record(&format!("a:{kind}?"), &["a"], &format!("{{\"a\":{value}}}"));
        assert_eq!(got.unwrap_err().0, code, "{kind} {value}");
    }
}

#[test]
fn paths_reach_into_objects_and_gather_lists() {
    let cases: &[(&[&str], &str, &str)] = &[
        (&["customer.id"], r#"{"customer":{"name":"x","id":7}}"#, "7"),
        (&["customer.id"], r#"{"customer":null}"#, "null"),
        (&["customer.id"], r#"{"customer":{}}"#, "-"),
        (&["a.b.c"], r#"{"a":{"b":{"c":[1]}}}"#, "[1]"),
        (&["items[].price"], r#"{"items":[{"price":1.50},{"n":1},{"price":null},null,{"price":"x"}]}"#, r#"[1.50,null,null,null,"x"]"#),
        (&["items[].price"], r#"{"items":[]}"#, "[]"),
        (&["items[].price"], r#"{"items":null}"#, "null"),
        (&["items[].price"], r"{}", "-"),
        (&["items[].a.b"], r#"{"items":[{"a":{"b":1}},{"a":null},{}]}"#, "[1,null,null]"),
        (&["o[].i[].p"], r#"{"o":[{"i":[{"p":1},{"p":2}]},{"i":[]},{},{"i":[{"p":3}]}]}"#, "[1,2,3]"),
        (&["m[][]"], r#"{"m":[[1,2],[],[{"k":3}]]}"#, "[1,2,{\"k\":3}]"),
        (&["tags[]"], r#"{"tags":["a", {"b":[]}]}"#, r#"["a",{"b":[]}]"#),
    ];
    for (paths, text, expected) in cases {
        assert_eq!(record("a:json?", paths, text).unwrap(), *expected, "{paths:?} {text}");
    }
    let both = record(
        "whole:json? id:i64? p:json? n:json?",
        &["c", "c.id", "c.items[].p", "c.items[].n"],
        r#"{"c":{"id":1,"items":[{"p":2},{"n":3,"p":4}]}}"#,
    );
    assert_eq!(both.unwrap(), r#"{"id":1,"items":[{"p":2},{"n":3,"p":4}]} 1 [2,4] [null,3]"#);
    for (paths, text) in [(["a.b"], r#"{"a":5}"#), (["a[].b"], r#"{"a":{}}"#), (["a[].b"], r#"{"a":[5]}"#), (["a.b"], r#"{"a":[{}]}"#)] {
        assert_eq!(record("a:json?", &paths, text).unwrap_err().0, Code::DecodeTypeMismatch, "{text}");
    }
}

#[test]
fn what_is_no_record_is_refused_with_its_code() {
    let nested = |depth: usize| format!("{{\"z\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
    let cases: &[(&str, Code)] = &[
        ("", Code::DecodeMalformed),
        ("[]", Code::DecodeMalformed),
        ("7", Code::DecodeMalformed),
        ("{", Code::DecodeMalformed),
        ("{\"a\"", Code::DecodeMalformed),
        ("{\"a\":", Code::DecodeMalformed),
        ("{\"a\":}", Code::DecodeMalformed),
        ("{\"a\":1", Code::DecodeMalformed),
        ("{\"a\":1,}", Code::DecodeMalformed),
        ("{,}", Code::DecodeMalformed),
        ("{\"a\" 1}", Code::DecodeMalformed),
        ("{\"a\":01}", Code::DecodeMalformed),
        ("{\"z\":01}", Code::DecodeMalformed),
        ("{\"z\":1.}", Code::DecodeMalformed),
        ("{\"z\":-}", Code::DecodeMalformed),
        ("{\"z\":+1}", Code::DecodeMalformed),
        ("{\"z\":NaN}", Code::DecodeMalformed),
        ("{\"z\":Infinity}", Code::DecodeMalformed),
        ("{\"z\":tru}", Code::DecodeMalformed),
        ("{\"z\":[1,]}", Code::DecodeMalformed),
        ("{\"z\":[1}}", Code::DecodeMalformed),
        ("{\"z\":{\"k\":1]}", Code::DecodeMalformed),
        ("{\"z\":\"\n\"}", Code::DecodeMalformed),
        ("{\"z\":\"\\x\"}", Code::DecodeMalformed),
        ("{\"z\":\"\\ud800\"}", Code::DecodeMalformed),
        ("{\"z\":\"\\udc00\"}", Code::DecodeMalformed),
        ("{\"z\":\"\\u12\"}", Code::DecodeMalformed),
        ("{\"a\":1} x", Code::DecodeTrailingBytes),
        ("{\"a\":1}{}", Code::DecodeTrailingBytes),
        ("{\"a\":1,\"a\":1}", Code::DecodeMalformed),
        (&nested(63), Code::InternalError),
        (&nested(64), Code::DecodeMalformed),
        (&nested(100_000), Code::DecodeMalformed),
        (&"[".repeat(100_000), Code::DecodeMalformed),
        (&"{\"a\":".repeat(100_000), Code::DecodeMalformed),
    ];
    for (text, code) in cases {
        let got = record("a:i64?", &["a"], text);
        if *code == Code::InternalError {
            assert!(got.is_ok());
        } else {
            assert_eq!(got.map_err(|(code, _)| code), Err(*code), "{}", &text[..text.len().min(40)]);
        }
    }
    let schema = event("a:i64?");
    let mut into = builder(&schema, Strictness::Record);
    into.begin();
    let bad = JsonDecoder::new(projection(&["a"]), JsonRules::RECORD).fields(b"{\"z\":\"\xff\"}", &mut into).unwrap_err();
    assert_eq!(bad.code, Code::DecodeMalformed);
}

#[test]
fn pushes_refuse_by_their_own_codes() {
    let nested = |depth: usize| format!("{{\"j\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
    let fields = "u:str n:i64? j:json?";
    let ok = [
        (r#"{"u":"a","n":1.5}"#, r#""a" 1.5 -"#),
        (r#"{"u":"a","n":9223372036854775808}"#, r#""a" 9.223372036854776e18 -"#),
        (r#"{"j":{"deep":[true]},"u":""}"#, r#""" - {"deep":[true]}"#),
        (r#"{"u":"a","n":null}"#, r#""a" null -"#),
    ];
    for (text, expected) in ok {
        assert_eq!(push(fields, text).unwrap(), expected, "{text}");
    }
    assert!(push(fields, &nested(127).replace("{\"j", "{\"u\":\"a\",\"j")).is_ok());
    let bad = [
        (r#"{"n":1}"#.to_owned(), Code::InvalidEvent, "u"),
        (r#"{"u":null}"#.to_owned(), Code::InvalidEvent, "u"),
        (r#"{"u":1}"#.to_owned(), Code::InvalidEvent, "u"),
        (r#"{"u":"a","n":"1"}"#.to_owned(), Code::InvalidEvent, "n"),
        (r#"{"u":"a","x":1}"#.to_owned(), Code::UnknownFieldV0, "x"),
        (r#"{"u":"a","event_time":1}"#.to_owned(), Code::UnknownFieldEventTimeV0, "event_time"),
        (r#"{"u":"a","event_time_ms":1}"#.to_owned(), Code::UnknownFieldEventTimeV0, "event_time_ms"),
        (r#"{"u":"a","u":"b"}"#.to_owned(), Code::InvalidEvent, "u"),
        (r#"{"u":"a\n"}"#.to_owned(), Code::ControlCharacterInString, ""),
        ("{\"u\":\"a\u{85}\"}".to_owned(), Code::ControlCharacterInString, ""),
        ("{\"u\":\"a\u{7f}\"}".to_owned(), Code::ControlCharacterInString, ""),
        (r#"{"u":"a","j":{"k":["\u0007"]}}"#.to_owned(), Code::ControlCharacterInString, ""),
        (r#"{"u":"a","j":{"k\t":1}}"#.to_owned(), Code::ControlCharacterInString, ""),
        (r#"{"u":"a","j":[1e999]}"#.to_owned(), Code::InvalidJsonBody, ""),
        (r#"{"u":"a"} x"#.to_owned(), Code::InvalidJsonBody, ""),
        (r#"["#.to_owned(), Code::InvalidJsonBody, ""),
        (r#"[]"#.to_owned(), Code::InvalidEvent, ""),
        (r#""u""#.to_owned(), Code::InvalidEvent, ""),
        (nested(128), Code::InvalidEvent, ""),
        (nested(100_000), Code::InvalidEvent, ""),
        ("[".repeat(100_000), Code::InvalidEvent, ""),
    ];
    for (text, code, path) in bad {
        assert_eq!(push(fields, &text), Err((code, path.to_owned())), "{}", &text[..text.len().min(40)]);
    }
    let schema = event("u:str");
    let mut into = builder(&schema, Strictness::Push);
    assert!(PushDecoder::new(&schema, false).push_json(br#"{"u":"a\n"}"#, &mut into, 0).is_ok());
}

/// Random JSON, with the names that the event takes.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1000i64..1000).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::from),
        (-1e6..1e6f64).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[a-z\"\\\\\n\u{0}é]{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(prop_oneof!["[a-d]", any::<String>()], inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    prop::collection::btree_map(prop_oneof!["[a-f]", any::<String>()], json_value(), 0..8)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

/// Whether a text is a JSON object by our scanner, whatever its members are.
fn accepts(bytes: &[u8]) -> Result<(), Code> {
    let schema = event("nothing:json?");
    let mut into = builder(&schema, Strictness::Record);
    into.begin();
    JsonDecoder::new(projection(&["\u{1}nothing"]), JsonRules { depth_max: 128, ..JsonRules::RECORD })
        .fields(bytes, &mut into)
        .map_err(|bad| bad.code)
}

/// Whether serde_json takes the text as an object.
fn oracle_accepts(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Value>(bytes).is_ok_and(|value| value.is_object())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn values_equal_those_of_serde_json(value in object(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let schema = event("a:json? b:json? c:json? d:json?");
        let mut into = builder(&schema, Strictness::Push);
        let mut decoder = JsonDecoder::new(projection(&["a", "b", "c", "d"]), JsonRules::RECORD);
        into.begin();
        decoder.fields(text.as_bytes(), &mut into).unwrap();
        into.commit(0, None, false).unwrap();
        let rows = into.finish();
        // serde_json may read a double one bit off what it wrote, so nested ones are compared after one more reading.
        let reread: Value = serde_json::from_str(&text).unwrap();
        for (index, name) in ["a", "b", "c", "d"].iter().enumerate() {
            let expected = value.get(name);
            match rows.cell(index, FieldType::Json, 0) {
                Cell::Absent => prop_assert!(expected.is_none()),
                Cell::Null => prop_assert_eq!(expected, Some(&Value::Null)),
                Cell::Bool(truth) => prop_assert_eq!(expected, Some(&Value::from(truth))),
                Cell::I64(number) => prop_assert_eq!(expected.and_then(Value::as_i64), Some(number)),
                Cell::F64(number) => prop_assert_eq!(expected.and_then(Value::as_f64).map(f64::to_bits), Some(number.to_bits())),
                Cell::Str(text) => prop_assert_eq!(expected.and_then(Value::as_str).map(str::as_bytes), Some(text)),
                Cell::Json(text) => prop_assert_eq!(serde_json::from_slice::<Value>(text).ok(), reread.get(name).cloned()),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn damaged_texts_are_judged_as_serde_json_does(value in object(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = serde_json::to_vec(&value).unwrap();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        let ours = accepts(&bytes);
        if oracle_accepts(&bytes) {
            prop_assert_eq!(ours, Ok(()));
        } else if ours.is_ok() {
            // Skipped numbers are checked for grammar, not for range.
            let kept = String::from_utf8(bytes).unwrap();
            prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&kept).is_ok(), "{}", kept);
        }
    }

    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..64), text in "[\\[\\]{}\",:\\\\a0-9eE.+-u tfn]{0,60}") {
        let _ = accepts(&bytes);
        prop_assert_eq!(accepts(text.as_bytes()).is_ok(), serde_json::from_str::<Value>(&text).is_ok_and(|value| value.is_object()));
    }

    #[test]
    fn numbers_read_like_the_standard_library(text in "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?") {
        let expected: f64 = text.parse().unwrap();
        match Scan::new(&text, 64, false).number() {
            Ok(Number::Int(number)) => prop_assert_eq!(text.parse::<i64>().ok(), Some(number)),
            Ok(Number::Float(number) | Number::Big(number, _)) => prop_assert_eq!(number.to_bits(), expected.to_bits()),
            Err(fault) => {
                prop_assert_eq!(fault, Fault::Range);
                prop_assert!(expected.is_infinite());
            }
        }
    }
}
