//! Protobuf, MessagePack, CSV and raw values as a source has them: frames, headers, columns, and bad input.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::tests::{RECORD, decode_with, format, with};
use super::*;
use crate::decode::fixture::event;
use proptest::prelude::*;
use streamgauge_api::inlet::Headers;

const PROTO: &str = "syntax = \"proto3\"; message A { string card = 1; } message Payment { string card = 1; double amount = 2; }";

fn protobuf() -> FetchedSchema {
    FetchedSchema { registry: "r".into(), id: 5.into(), kind: "PROTOBUF".into(), text: PROTO.into(), references: Vec::new() }
}

struct Named(Vec<u8>);

impl Headers for Named {
    fn last(&self, name: &str) -> Option<Option<&[u8]>> {
        (name == "__value_schema_id").then_some(Some(&self.0))
    }

    fn visit(&self, _each: &mut dyn FnMut(&str, Option<&[u8]>)) {}
}

fn shown(decoder: &mut Decoder, value: &[u8]) -> Result<String, Code> {
    match decode_with(decoder, &RawRecord { value: Some(value), ..RECORD }) {
        Ok((_, shown, _)) => Ok(shown),
        Err(DecodeError::Bad(bad)) => Err(bad.code),
        Err(DecodeError::SchemaUnusable(error)) => Err(error.code),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn protobuf_of_a_registry_is_read_by_id_and_message() {
    let mut decoder = Decoder::new(event("card:str amount:f64"), &format(Format::Protobuf, Framing::Confluent)).unwrap();
    assert!(decoder.needs_schemas());
    // Id 5, one index: 1, then card "c1" and amount 1.5.
    let body = [0x0A, 2, b'c', b'1', 0x11, 0, 0, 0, 0, 0, 0, 0xF8, 0x3F];
    let framed = |indexes: &[u8]| [&[0, 0, 0, 0, 5][..], indexes, &body].concat();
    let record = RawRecord { value: Some(&framed(&[2, 2])), ..RECORD };
    assert_eq!(decode_with(&mut decoder, &record), Err(DecodeError::NeedSchema(5.into())));
    decoder.add_schema(5.into(), &protobuf()).unwrap();
    assert_eq!(shown(&mut decoder, &framed(&[2, 2])).as_deref(), Ok("\"c1\" 1.5"));
    // The first message serves not: its records are bad, the others go on.
    assert_eq!(shown(&mut decoder, &framed(&[0])), Err(Code::SchemaUnusable));
    assert_eq!(shown(&mut decoder, &framed(&[2, 4])), Err(Code::DecodeFraming));
    assert_eq!(shown(&mut decoder, &framed(&[2, 2])[..12]), Err(Code::DecodeMalformed));
    assert_eq!(shown(&mut decoder, &body), Err(Code::DecodeFraming));
    // In a header the indexes stand behind the id.
    let header = Named(vec![0, 0, 0, 0, 5, 2, 2]);
    let record = RawRecord { headers: Some(&header), value: Some(&body), ..RECORD };
    assert_eq!(decode_with(&mut decoder, &record).unwrap().1, "\"c1\" 1.5");
    assert_eq!(decoder.schema_id_of(&record), Some(5.into()));
    let avro = FetchedSchema { kind: "AVRO".into(), text: "\"string\"".into(), ..protobuf() };
    assert_eq!(decoder.add_schema(6.into(), &avro).unwrap_err().code, Code::SchemaUnusable);

    let bare = |message: Option<&str>| SourceFormat {
        schema: Some(protobuf()),
        message: message.map(Into::into),
        ..format(Format::Protobuf, Framing::None)
    };
    let mut decoder = Decoder::new(event("card:str amount:f64"), &bare(Some("Payment"))).unwrap();
    assert_eq!(shown(&mut decoder, &body).as_deref(), Ok("\"c1\" 1.5"));
    for (message, part) in [(None, "several messages"), (Some("Nope"), "A, Payment"), (Some("A"), "amount")] {
        let error = Decoder::new(event("card:str amount:f64"), &bare(message)).unwrap_err();
        assert!(error.code == Code::SchemaUnusable && error.reason.contains(part), "{}", error.reason);
    }
}

#[test]
fn msgpack_maps_are_read_as_json_objects_are() {
    let mut decoder = Decoder::new(event("card:str n:i64 t:json?"), &format(Format::Msgpack, Framing::None)).unwrap();
    assert_eq!(shown(&mut decoder, b"\x83\xa4card\xa2c1\xa1n\x07\xa5other\x90").as_deref(), Ok("\"c1\" 7 -"));
    assert_eq!(shown(&mut decoder, b"\x83\xa4card\xa2c1\xa1n\x07\xa1t\x92\xc0\xc4\x01\x00").as_deref(), Ok("\"c1\" 7 [null,\"AA==\"]"));
    for (bytes, code) in [
        (&b"\x82\xa4card\xa2c1\xa1n\xa1x"[..], Code::DecodeTypeMismatch),
        (b"\x82\xa4card\xa2c1\xa1n", Code::DecodeMalformed),
        (b"\x82\xa4card\xa2c1\xa1n\x07\x00", Code::DecodeTrailingBytes),
        (b"{\"card\":1}", Code::DecodeMalformed),
        (b"\xd4\x01\x02", Code::DecodeMalformed),
        (b"", Code::DecodeMalformed),
    ] {
        assert_eq!(shown(&mut decoder, bytes), Err(code), "{bytes:?}");
    }
}

fn csv(columns: &[&str], base: SourceFormat) -> SourceFormat {
    SourceFormat { csv: CsvLines { columns: columns.iter().map(|name| (*name).into()).collect(), ..CsvLines::default() }, ..base }
}

#[test]
fn csv_lines_are_rows_of_named_columns() {
    let base = csv(
        &["id", "name", "paid at", "amount"],
        with(
            "id:i64 name:str at:datetime",
            &[FieldSource::path("id"), FieldSource::path("name"), FieldSource::path("paid at")],
            format(Format::Csv, Framing::None),
        ),
    );
    let mut decoder = Decoder::new(event("id:i64 name:str? at:datetime? amount:f64?"), &base).unwrap();
    for (line, expected) in [
        ("7,\"Doe, Jane\",2023-11-14T22:13:20Z,1.50", Ok("7 \"Doe, Jane\" t1700000000000 1.5")),
        ("7,\"she said \"\"no\"\"\",,\n", Ok("7 \"she said \\\"no\\\"\" null null")),
        ("7,\"\",\"\n\",1\r\n", Err(Code::DecodeTypeMismatch)),
        ("7,\"\",,1\r\n", Ok("7 \"\" null 1.0")),
        ("7,\"two\nlines\",,", Ok("7 \"two\\nlines\" null null")),
        ("\u{FEFF}7,\u{FEFF}a,,", Ok("7 \"\\u{feff}a\" null null")),
        ("\u{FEFF}\"7\",a,,", Ok("7 \"a\" null null")),
        ("7,größe,1700000000000,-1e3", Ok("7 \"größe\" t1700000000000 -1000.0")),
        ("7,a", Err(Code::DecodeMalformed)),
        ("7,a,,,", Err(Code::DecodeMalformed)),
        ("7,a\"b,,", Err(Code::DecodeMalformed)),
        ("7,\"a\"b,,", Err(Code::DecodeMalformed)),
        ("7,\"a,,", Err(Code::DecodeMalformed)),
        ("7,a,,\n8,b,,", Err(Code::DecodeMalformed)),
        ("x,a,,", Err(Code::DecodeTypeMismatch)),
        (",a,,", Err(Code::DecodeMissingField)),
        ("7.5,a,,", Err(Code::DecodeOutOfRange)),
        ("", Err(Code::DecodeMalformed)),
    ] {
        assert_eq!(shown(&mut decoder, line.as_bytes()).as_deref().map_err(|code| *code), expected, "{line}");
    }
    assert_eq!(shown(&mut decoder, b"7,\xff,,"), Err(Code::DecodeMalformed));
    // Of several columns the first that has a value; a reading says more.
    let list = FieldSource::Path { path: "b".into(), aliases: vec!["a".into()] };
    let base = csv(&["a", "b"], with("v:f64", &[list], format(Format::Csv, Framing::None)));
    let lenient = Reading { null_if_bad: true, ..Reading::default() };
    let semicolons = SourceFormat { readings: vec![("v".into(), lenient)], csv: CsvLines { delimiter: b';', ..base.csv.clone() }, ..base };
    let mut decoder = Decoder::new(event("v:f64?"), &semicolons).unwrap();
    for (line, expected) in [("1;2", "2.0"), ("1;", "1.0"), (";", "null"), ("1;x", "null")] {
        assert_eq!(shown(&mut decoder, line.as_bytes()).as_deref(), Ok(expected), "{line}");
    }
    for (base, code) in [
        (format(Format::Csv, Framing::None), Code::MissingConfigKey),
        (csv(&["idd"], format(Format::Csv, Framing::None)), Code::InvalidConfigValue),
    ] {
        assert_eq!(Decoder::new(event("id:i64"), &base).unwrap_err().code, code);
    }
}

#[test]
fn a_raw_value_is_one_field() {
    let base = with("v:bytes k:str", &[FieldSource::path("value"), FieldSource::Key], format(Format::Raw, Framing::None));
    let mut decoder = Decoder::new(event("v:bytes k:str"), &base).unwrap();
    assert_eq!(shown(&mut decoder, b"\x00\xff").as_deref(), Ok("b[0, 255] \"k1\""));
    for (kind, value, expected) in [
        ("str", &b"text"[..], Ok("\"text\"")),
        ("str", b"\xff", Err(Code::DecodeTypeMismatch)),
        ("i64", b"12", Ok("12")),
        ("i64", b"x", Err(Code::DecodeTypeMismatch)),
    ] {
        let mut decoder = Decoder::new(event(&format!("value:{kind}")), &format(Format::Raw, Framing::None)).unwrap();
        assert_eq!(shown(&mut decoder, value).as_deref().map_err(|code| *code), expected, "{kind}");
    }
    let error = Decoder::new(event("v:str"), &format(Format::Raw, Framing::None)).unwrap_err();
    assert_eq!((error.code, error.path.as_str()), (Code::InvalidConfigValue, "v"));
}

proptest! {
    /// What Python's and everybody's writers put into a line comes out of it.
    #[test]
    fn csv_values_come_back_and_any_line_gets_an_answer(
        values in prop::collection::vec("[a\",\\n\\r ]{0,6}|\\PC{0,4}", 3),
        line in "[a\",\\n1]{0,20}",
    ) {
        let base = csv(&["a", "b", "c"], format(Format::Csv, Framing::None));
        let mut decoder = Decoder::new(event("a:str b:str c:str"), &base).unwrap();
        let quoted: Vec<String> = values.iter().map(|value| format!("\"{}\"", value.replace('"', "\"\""))).collect();
        let expected: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
        let shown_row = shown(&mut decoder, quoted.join(",").as_bytes());
        prop_assert_eq!(shown_row, Ok(expected.join(" ")));
        let _any_answer = shown(&mut decoder, line.as_bytes()).is_ok();
    }

    #[test]
    fn any_msgpack_gets_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut decoder = Decoder::new(event("a:str? b:i64?"), &format(Format::Msgpack, Framing::None)).unwrap();
        let _any_answer = shown(&mut decoder, &bytes).is_ok();
    }
}

/// One key that was an integer made the whole record bad.
#[test]
fn keys_of_messagepack_that_are_no_text_are_members_of_their_text_or_passed_over() {
    let fields = "a:str b:str? t:datetime?";
    let places = [FieldSource::path("a"), FieldSource::path(r#"m."1""#), FieldSource::path("m.t")];
    let mut decoder = Decoder::new(event(fields), &with(fields, &places, format(Format::Msgpack, Framing::None))).unwrap();
    // {"a": "x", 2: [1], nil: {3: 4}, ext 5: 1, "m": {1: "y", "t": timestamp 7 s, 1.5: "z"}}
    let body = b"\x85\xA1a\xA1x\x02\x91\x01\xC0\x81\x03\x04\xD4\x05\x00\x01\xA1m\x83\x01\xA1y\xA1t\xD6\xFF\x00\x00\x00\x07\xCA\x3F\xC0\x00\x00\xA1z";
    assert_eq!(shown(&mut decoder, body).as_deref(), Ok("\"x\" \"y\" t7000"));
    // An extension of another kind is bad where a field takes it, and there alone.
    assert_eq!(shown(&mut decoder, b"\x82\xA1a\xA1x\xA1z\xD4\x05\x00").as_deref(), Ok("\"x\" - -"));
    assert_eq!(shown(&mut decoder, b"\x81\xA1a\xD4\x05\x00"), Err(Code::DecodeTypeMismatch));
}
