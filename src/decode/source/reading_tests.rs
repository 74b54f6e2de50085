//! What a source may say of how values are written, value by value, in every format that has them.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::tests::{RECORD, avro, decode_with, format, with};
use super::*;
use crate::decode::fixture::event;
use crate::row::{TimeUnit, Written};
use proptest::prelude::*;

fn reading(written: Written) -> Reading {
    Reading { written, ..Reading::default() }
}

fn number(scale: Option<i32>) -> Reading {
    Reading { scale, ..reading(Written::Base64) }
}

fn unit(unit: TimeUnit) -> Reading {
    Reading { unit: Some(unit), ..Reading::default() }
}

fn zone(name: &str) -> Reading {
    Reading { zone: Some(jiff::tz::TimeZone::get(name).unwrap()), ..Reading::default() }
}

/// The one field `v` of a record, or why there is none.
fn read_as(kind: &str, reading: &Reading, base: SourceFormat, value: &[u8]) -> Result<String, (Code, String)> {
    let base = SourceFormat { readings: vec![("v".into(), reading.clone())], ..base };
    let mut decoder = Decoder::new(event(&format!("v:{kind}")), &base).unwrap();
    match decode_with(&mut decoder, &RawRecord { value: Some(value), ..RECORD }) {
        Ok((_, shown, _)) => Ok(shown),
        Err(DecodeError::Bad(bad)) => {
            assert_eq!(bad.path, "v", "{}", bad.reason);
            Err((bad.code, bad.reason.clone()))
        }
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn json_values_are_read_as_declared_and_else_refused_with_their_kind() {
    use Written::{Any, Number, Text};
    let json = || format(Format::Json, Framing::None);
    type Case<'c> = (&'c str, Reading, &'c str, Result<&'c str, &'c str>);
    let cases: &[Case<'_>] = &[
        ("f64", reading(Text), r#""12.50""#, Ok("12.5")),
        ("f64", reading(Any), r#""12.50""#, Ok("12.5")),
        ("f64", reading(Any), "12.5", Ok("12.5")),
        ("f64", reading(Any), r#""-1e3""#, Ok("-1000.0")),
        ("f64", reading(Text), "12.5", Err("a number where from = \"text\"")),
        ("f64", reading(Number), r#""12.50""#, Err("text where from = \"number\"")),
        ("f64", reading(Any), r#""nan""#, Err("text that is no number")),
        ("f64", reading(Any), r#""inf""#, Err("text that is no number")),
        ("f64", reading(Any), r#""1e999""#, Err("out of range")),
        ("f64", reading(Any), r#""12,50""#, Err("text that is no number")),
        ("f64", reading(Any), r#""""#, Err("text that is no number")),
        ("f64", reading(Any), "{}", Err("an object")),
        ("f64", Reading::default(), r#""12.50""#, Err("is text, declared f64")),
        ("i64", reading(Text), r#""9007199254740993""#, Ok("9007199254740993")),
        ("i64", reading(Any), r#""12.00""#, Ok("12")),
        ("i64", reading(Any), r#""1e3""#, Ok("1000")),
        ("i64", reading(Any), r#""12.5""#, Err("the fraction 12.5")),
        ("i64", reading(Any), r#""9223372036854775808""#, Err("out of range")),
        ("i64", reading(Any), r#"" 12""#, Err("text that is no number")),
        ("str", reading(Number), "4711", Ok("\"4711\"")),
        ("str", reading(Any), "4711", Ok("\"4711\"")),
        ("str", reading(Any), r#""4711""#, Ok("\"4711\"")),
        ("str", reading(Any), "12.5", Ok("\"12.5\"")),
        ("str", reading(Any), "18446744073709551615", Ok("\"18446744073709551615\"")),
        ("str", reading(Any), "true", Err("a boolean")),
        ("str", reading(Any), "1.10", Ok("\"1.10\"")),
        ("str", reading(Number), "0.12345678901234567890", Ok("\"0.12345678901234567890\"")),
        ("str", reading(Number), "12345678901234567890.5", Ok("\"12345678901234567890.5\"")),
        ("str", reading(Number), "-12345678901234567890", Ok("\"-12345678901234567890\"")),
        ("str", reading(Number), "1e3", Ok("\"1e3\"")),
        ("i64", reading(Number), "9007199254740993.0", Ok("9007199254740993")),
        ("i64", reading(Number), "1e18", Ok("1000000000000000000")),
        ("f64", reading(Number), "1.10", Ok("1.1")),
        ("str", reading(Number), r#""4711""#, Err("text where from = \"number\"")),
        ("bool", reading(Any), r#""true""#, Ok("true")),
        ("bool", reading(Any), "0", Ok("false")),
        ("bool", reading(Any), "2", Err("is a number, declared bool")),
        ("bool", reading(Text), r#""yes""#, Err("neither true nor false")),
        ("i64?", reading(Any), "null", Ok("null")),
        ("f64", number(Some(2)), r#""BNI=""#, Ok("12.34")),
        ("f64", number(Some(2)), r#""BNI""#, Ok("12.34")),
        ("str", number(Some(2)), r#""+y4=""#, Ok("\"-12.34\"")),
        ("i64", number(Some(0)), r#""BNI=""#, Ok("1234")),
        ("i64", number(Some(2)), r#""BNI=""#, Err("the fraction 12.34")),
        ("f64", number(None), r#"{"scale":2,"value":"BNI="}"#, Ok("12.34")),
        ("f64", number(None), r#"{"scale":-2,"value":"BQ=="}"#, Ok("500.0")),
        ("str", number(None), r#"{"scale":-2,"value":"+w=="}"#, Ok("\"-500\"")),
        ("i64", number(Some(-3)), r#""BQ==""#, Ok("5000")),
        ("f64", number(None), r#"{"scale":-2000,"value":"BQ=="}"#, Err("out of range")),
        ("f64", number(None), r#""BNI=""#, Err("whose scale the config does not say")),
        ("f64", number(Some(2)), r#""?""#, Err("text that is no base64")),
        ("f64", number(Some(2)), "12.34", Err("a number where from = \"base64\"")),
        ("bytes", number(None), r#""BNI=""#, Ok("b[4, 210]")),
        ("datetime", unit(TimeUnit::Seconds), "1700000000", Ok("t1700000000000")),
        ("datetime", unit(TimeUnit::Seconds), "1700000000.25", Ok("t1700000000250")),
        ("datetime", unit(TimeUnit::Micros), r#""1700000000123456""#, Ok("t1700000000123")),
        ("datetime", unit(TimeUnit::Days), "19675", Ok("t1699920000000")),
        ("datetime", unit(TimeUnit::Seconds), r#""2023-11-14T22:13:20Z""#, Ok("t1700000000000")),
        ("datetime", unit(TimeUnit::Seconds), "1e300", Err("no time of the years")),
        ("datetime", zone("Europe/Berlin"), r#""2023-11-14T23:13:20""#, Ok("t1700000000000")),
        ("datetime", zone("Europe/Berlin"), r#""2023-07-14 00:00:00""#, Ok("t1689285600000")),
        ("datetime", zone("Europe/Berlin"), r#""2023-11-14""#, Ok("t1699916400000")),
        ("datetime", zone("Europe/Berlin"), r#""2023-11-14T22:13:20Z""#, Ok("t1700000000000")),
        ("datetime", zone("Europe/Berlin"), r#""yesterday""#, Err("no RFC 3339")),
        ("datetime", Reading::default(), r#""2023-11-14T23:13:20""#, Err("without zone")),
        // A plain datetime field is judged as the row's time is.
        ("datetime", Reading::default(), "1700000000", Err("looks like seconds")),
        ("datetime", unit(TimeUnit::Millis), "1700000000", Ok("t1700000000")),
    ];
    for (kind, reading, text, expected) in cases {
        let got = read_as(kind, reading, json(), format!("{{\"v\":{text}}}").as_bytes());
        match (got, expected) {
            (Ok(shown), Ok(expected)) => assert_eq!(shown, *expected, "{kind} {reading:?} {text}"),
            (Err((code, reason)), Err(part)) => {
                assert!(reason.contains(part) && reason.contains("\"v\" of E"), "{kind} {text}: {reason}");
                assert!(matches!(code, Code::DecodeTypeMismatch | Code::DecodeOutOfRange | Code::TimeUnit), "{code:?}");
            }
            (got, expected) => panic!("{kind} {reading:?} {text}: {got:?}, not {expected:?}"),
        }
        if !kind.ends_with('?') && expected.is_err() {
            let lenient = Reading { null_if_bad: true, ..reading.clone() };
            assert_eq!(read_as(&format!("{kind}?"), &lenient, json(), format!("{{\"v\":{text}}}").as_bytes()).as_deref(), Ok("null"));
        }
    }
}

#[test]
fn avro_values_are_read_as_declared() {
    use Written::{Any, Number};
    let of = |kind: &str| SourceFormat {
        schema: Some(avro(&format!(r#"{{"type":"record","name":"R","fields":[{{"name":"v","type":{kind}}}]}}"#))),
        ..format(Format::Avro, Framing::None)
    };
    let decimal = |scale: u8| format!(r#"{{"type":"bytes","logicalType":"decimal","precision":9,"scale":{scale}}}"#);
    type Case<'c> = (&'c str, Reading, String, &'c [u8], Result<&'c str, Code>);
    let cases: &[Case<'_>] = &[
        ("str", reading(Number), r#""long""#.into(), b"\xce\x49", Ok("\"4711\"")),
        ("i64", reading(Number), decimal(0), b"\x04\x04\xd2", Ok("1234")),
        ("i64", reading(Any), decimal(2), b"\x04\x04\xb0", Ok("12")),
        ("i64", reading(Any), decimal(2), b"\x04\x04\xd2", Err(Code::DecodeOutOfRange)),
        ("f64", reading(Any), decimal(2), b"\x04\x04\xd2", Ok("12.34")),
        ("str", reading(Any), decimal(2), b"\x04\x04\xd2", Ok("\"12.34\"")),
        ("f64", reading(Any), r#""string""#.into(), b"\x0812.5", Ok("12.5")),
        ("f64", reading(Any), r#"["null","string"]"#.into(), b"\x02\x0812.5", Ok("12.5")),
        ("f64", number(Some(2)), r#""bytes""#.into(), b"\x04\x04\xd2", Ok("12.34")),
        (
            "f64",
            number(None),
            r#"{"type":"record","name":"V","fields":[{"name":"scale","type":"int"},{"name":"value","type":"bytes"}]}"#.into(),
            b"\x04\x04\x04\xd2",
            Ok("12.34"),
        ),
        ("datetime", unit(TimeUnit::Days), r#""int""#.into(), b"\xb6\xb3\x02", Ok("t1699920000000")),
        ("datetime", unit(TimeUnit::Micros), r#""long""#.into(), b"\x80\x80\xf2\x81\x83\x89\x85\x06", Ok("t1700000000000")),
        ("bool", reading(Any), r#""int""#.into(), b"\x02", Ok("true")),
        ("bool", reading(Any), r#""double""#.into(), &[0; 8], Err(Code::DecodeTypeMismatch)),
    ];
    for (kind, reading, writer, value, expected) in cases {
        let got = read_as(kind, reading, of(writer), value).map_err(|(code, _)| code);
        assert_eq!(got.as_deref().map_err(|code| *code), *expected, "{kind} {reading:?} {writer}");
    }
}

#[test]
fn keys_and_headers_are_read_as_declared_too() {
    let base = with("k:f64", &[FieldSource::Key], format(Format::Json, Framing::None));
    let strict = SourceFormat { readings: vec![("k".into(), reading(Written::Text))], ..base };
    let record = RawRecord { key: Some(b"12.50"), ..RECORD };
    let mut decoder = Decoder::new(event("k:f64"), &strict).unwrap();
    assert_eq!(decode_with(&mut decoder, &record).unwrap().1, "12.5");
    let base = with("p:str", &[FieldSource::Partition], format(Format::Json, Framing::None));
    let asked = SourceFormat { readings: vec![("p".into(), reading(Written::Number))], ..base };
    let mut decoder = Decoder::new(event("p:str"), &asked).unwrap();
    assert_eq!(decode_with(&mut decoder, &RECORD).unwrap().1, "\"7\"");
}

#[test]
fn what_cannot_be_meant_is_refused_at_the_start() {
    for (kind, reading, part) in [
        ("i64", unit(TimeUnit::Seconds), "datetime"),
        ("str", zone("UTC"), "datetime"),
        ("f64", Reading { scale: Some(2), ..reading(Written::Text) }, "base64"),
        ("json", reading(Written::Any), "no effect"),
        ("f64", Reading { null_if_bad: true, ..reading(Written::Any) }, "f64?"),
    ] {
        let base = SourceFormat { readings: vec![("v".into(), reading)], ..format(Format::Json, Framing::None) };
        let error = Decoder::new(event(&format!("v:{kind}")), &base).unwrap_err();
        assert!((error.code, error.path.as_str()) == (Code::InvalidConfigValue, "v") && error.reason.contains(part), "{}", error.reason);
    }
}

proptest! {
    /// A number that is written as text is the number, or is refused; whatever else the text holds.
    #[test]
    fn any_text_gets_an_answer_and_numbers_are_exact(number in any::<i64>(), float in any::<f64>(), text in "[-+.0-9eE]{0,12}|\\PC{0,6}") {
        let json = || format(Format::Json, Framing::None);
        let of = |kind: &str, text: &str| read_as(kind, &reading(Written::Any), json(), serde_json::json!({ "v": text }).to_string().as_bytes());
        prop_assert_eq!(of("i64", &number.to_string()), Ok(number.to_string()));
        if float.is_finite() {
            prop_assert_eq!(of("f64", &float.to_string()), Ok(format!("{float:?}")));
        }
        for kind in ["i64", "f64", "bool", "datetime"] {
            let _any_answer = of(kind, &text).is_ok();
        }
    }
}
