//! Framing, tombstones, outside columns, schema ids and row time of a Kafka source, as tables over hand-made records.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::decode::fixture::{builder, event, show_row};
use crate::row::{Strictness, TimeSource, TimeUnit};
use streamgauge_api::Slot;
use streamgauge_api::inlet::Headers;

struct OneHeader(&'static str, Option<&'static [u8]>);

impl Headers for OneHeader {
    fn last(&self, name: &str) -> Option<Option<&[u8]>> {
        (name == self.0).then_some(self.1)
    }

    fn visit(&self, each: &mut dyn FnMut(&str, Option<&[u8]>)) {
        each(self.0, self.1);
    }
}

pub(super) const RECORD: RawRecord<'static> =
    RawRecord { slot: Slot(0), offset: 42, epoch: 3, timestamp_ms: 1_000, key: Some(b"k1"), value: Some(b"{}"), headers: None };
const NOW_US: i64 = 5_000_000;

pub(super) fn format(format: Format, framing: Framing) -> SourceFormat {
    SourceFormat {
        format,
        framing,
        fields: Vec::new(),
        readings: Vec::new(),
        tombstone: Tombstone::Reject,
        key_format: KeyFormat::Raw,
        schema: None,
        message: None,
        csv: CsvLines::default(),
        mode: DebeziumMode::default(),
    }
}

/// The first fields of an event come from these places.
pub(super) fn with(fields: &str, sources: &[FieldSource], base: SourceFormat) -> SourceFormat {
    let names = fields.split(' ').filter_map(|field| field.split(':').next());
    SourceFormat { fields: names.map(Into::into).zip(sources.iter().cloned()).collect(), ..base }
}

fn run(schema: &Arc<EventSchema>, format: &SourceFormat, record: &RawRecord<'_>) -> Result<(Decoded, String, i64), DecodeError> {
    let mut decoder = Decoder::new(Arc::clone(schema), format).unwrap();
    decode_with(&mut decoder, record)
}

pub(super) fn decode_with(decoder: &mut Decoder, record: &RawRecord<'_>) -> Result<(Decoded, String, i64), DecodeError> {
    let schema = Arc::clone(decoder.schema());
    let mut into = builder(&schema, Strictness::Record).with_readings(decoder.readings().to_vec());
    let decoded = decoder.decode(record, "payments", 7, RowClock::at(NOW_US), &mut into, 2);
    assert_eq!(into.len(), usize::from(matches!(decoded, Ok(Decoded::Row | Decoded::Delete))));
    let decoded = decoded?;
    if decoded == Decoded::Ignored {
        return Ok((decoded, String::new(), 0));
    }
    let rows = into.finish();
    let run = rows.runs().next().unwrap();
    assert_eq!((run.position, run.first_offset, rows.is_delete(0)), (2, record.offset, decoded == Decoded::Delete));
    Ok((decoded, show_row(&rows, &schema, 0), rows.time_us(0)))
}

fn code(got: Result<(Decoded, String, i64), DecodeError>) -> Code {
    match got {
        Err(DecodeError::Bad(bad)) => bad.code,
        other => panic!("{other:?}"),
    }
}

pub(super) fn avro(text: &str) -> FetchedSchema {
    FetchedSchema { registry: "r".into(), id: 258.into(), kind: "AVRO".into(), text: text.into(), references: Vec::new() }
}

const PAYMENT: &str = r#"{"type":"record","name":"Payment","fields":[{"name":"card","type":"string"},{"name":"amount","type":"double"}]}"#;

#[test]
fn confluent_frames_made_by_hand_decode() {
    // Magic 0, schema id 258, then card "c1" (length 2 as zigzag 4) and amount 1.5.
    let framed = [0x00, 0x00, 0x00, 0x01, 0x02, 0x04, b'c', b'1', 0, 0, 0, 0, 0, 0, 0xF8, 0x3F];
    let eight = [&[0u8, 0, 0, 0, 0][..], &framed[1..]].concat();
    for (framing, value) in [(Framing::Confluent, &framed[..]), (Framing::Apicurio8, &eight)] {
        let mut decoder = Decoder::new(event("card:str amount:f64"), &format(Format::Avro, framing)).unwrap();
        assert!(decoder.needs_schemas());
        let record = RawRecord { value: Some(value), ..RECORD };
        assert_eq!(decode_with(&mut decoder, &record), Err(DecodeError::NeedSchema(SchemaId::Number(258))));
        decoder.schema_missing(258.into(), "40403");
        assert_eq!(code(decode_with(&mut decoder, &record)), Code::SchemaMissing);
        decoder.add_schema(258.into(), &avro(PAYMENT)).unwrap();
        assert_eq!(decode_with(&mut decoder, &record).unwrap().1, "\"c1\" 1.5");
        let cut = RawRecord { value: Some(&value[..value.len() - 1]), ..RECORD };
        assert_eq!(code(decode_with(&mut decoder, &cut)), Code::DecodeMalformed);
        for (bad, length) in
            [(&b""[..], 0), (&b"\x00\x00\x00"[..], 3), (&b"{\"card\":1}"[..], 10), (&b"\x01\x00\x00\x01\x02\x00\x00\x00\x00\x00"[..], 10)]
        {
            assert_eq!(bad.len(), length);
            assert_eq!(code(decode_with(&mut decoder, &RawRecord { value: Some(bad), ..RECORD })), Code::DecodeFraming);
        }
    }
    let json = [&[0u8, 0, 0, 0, 9][..], b"{\"card\":\"c\",\"amount\":2}"].concat();
    let got = run(&event("card:str amount:f64"), &format(Format::Json, Framing::Confluent), &RawRecord { value: Some(&json), ..RECORD });
    assert_eq!(got.unwrap().1, "\"c\" 2.0");
    assert_eq!(code(run(&event("card:str"), &format(Format::Json, Framing::Confluent), &RECORD)), Code::DecodeFraming);
}

#[test]
fn unframed_avro_needs_its_schema_at_the_start() {
    let bare = format(Format::Avro, Framing::None);
    assert_eq!(Decoder::new(event("card:str"), &bare).unwrap_err().code, Code::MissingConfigKey);
    let unfit = SourceFormat { schema: Some(avro(PAYMENT)), ..bare.clone() };
    let error = Decoder::new(event("nope:str"), &unfit).unwrap_err();
    assert_eq!((error.code, error.path.as_str()), (Code::SchemaUnusable, "nope"));
    let value = [0x04, b'c', b'1', 0, 0, 0, 0, 0, 0, 0xF8, 0x3F];
    assert_eq!(run(&event("card:str"), &unfit, &RawRecord { value: Some(&value), ..RECORD }).unwrap().1, "\"c1\"");
}

#[test]
fn a_schema_that_cannot_serve_the_event_stops_and_is_no_bad_record() {
    let mut decoder = Decoder::new(event("card:str nope:str"), &format(Format::Avro, Framing::Confluent)).unwrap();
    assert_eq!(decoder.add_schema(258.into(), &avro(PAYMENT)).unwrap_err().code, Code::SchemaUnusable);
    let got = decode_with(&mut decoder, &RawRecord { value: Some(b"\x00\x00\x00\x01\x02"), ..RECORD });
    assert!(matches!(got, Err(DecodeError::SchemaUnusable(error)) if error.path == "nope"));
}

#[test]
fn two_writer_schemas_may_alternate() {
    let reordered = r#"{"type":"record","name":"Other","fields":[{"name":"amount","type":"int"},{"name":"extra","type":"long"},{"name":"card","type":["null","string"]}]}"#;
    let mut decoder = Decoder::new(event("card:str? amount:f64"), &format(Format::Avro, Framing::Confluent)).unwrap();
    decoder.add_schema(2.into(), &avro(PAYMENT)).unwrap();
    decoder.add_schema(1.into(), &avro(reordered)).unwrap();
    for _ in 0..3 {
        let first =
            decode_with(&mut decoder, &RawRecord { value: Some(&[0, 0, 0, 0, 2, 0x02, b'a', 0, 0, 0, 0, 0, 0, 0xF8, 0x3F]), ..RECORD });
        assert_eq!(first.unwrap().1, "\"a\" 1.5");
        let second = decode_with(&mut decoder, &RawRecord { value: Some(&[0, 0, 0, 0, 1, 0x06, 0x01, 0x02, 0x02, b'b']), ..RECORD });
        assert_eq!(second.unwrap().1, "\"b\" 3.0");
    }
}

#[test]
fn garbage_schema_ids_are_remembered_up_to_a_bound() {
    let mut decoder = Decoder::new(event("card:str"), &format(Format::Avro, Framing::Confluent)).unwrap();
    decoder.add_schema(7.into(), &avro(PAYMENT)).unwrap();
    for id in 1_000..20_000 {
        decoder.schema_missing(id.into(), "40403");
    }
    let Body::BySchema(plans) = &decoder.body else { panic!("avro") };
    assert!(plans.len() <= plans::MISSING_MAX + 1);
    assert!(decode_with(&mut decoder, &RawRecord { value: Some(&[0, 0, 0, 0, 7, 2, b'a', 0, 0, 0, 0, 0, 0, 0, 0]), ..RECORD }).is_ok());
}

#[test]
fn columns_come_from_key_headers_and_position() {
    use FieldSource::{Header, Key, Offset, Partition, Timestamp, Topic};
    let header = OneHeader("region", Some(b"eu"));
    let number = OneHeader("region", Some(b"12"));
    let nothing = OneHeader("region", None);
    let record = RawRecord { headers: Some(&header), ..RECORD };
    let region = || Header("region".into());
    let cases: Vec<(&str, Vec<FieldSource>, RawRecord<'_>, &str)> = vec![
        (
            "k:str t:str p:i64 o:i64 at:datetime r:str",
            vec![Key, Topic, Partition, Offset, Timestamp, region()],
            record,
            "\"k1\" \"payments\" 7 42 t1000 \"eu\"",
        ),
        ("k:bytes r:bytes", vec![Key, region()], record, "b[107, 49] b[101, 117]"),
        (
            "r:i64 s:f64 t:str u:datetime",
            vec![region(), region(), region(), region()],
            RawRecord { headers: Some(&number), ..RECORD },
            "12 12.0 \"12\" t12",
        ),
        ("r:str?", vec![region()], RawRecord { headers: Some(&nothing), ..RECORD }, "null"),
        ("r:str? k:str? at:i64?", vec![region(), Key, Timestamp], RawRecord { key: None, timestamp_ms: -1, ..RECORD }, "null null null"),
        ("h:str", vec![Header("region".into())], record, "\"eu\""),
    ];
    for (fields, sources, record, expected) in cases {
        let got = run(&event(fields), &with(fields, &sources, format(Format::Json, Framing::None)), &record);
        assert_eq!(got.unwrap().1, expected, "{fields}");
    }
    let missing = run(&event("h:str"), &with("h", &[Header("none".into())], format(Format::Json, Framing::None)), &record);
    assert_eq!(code(missing), Code::DecodeMissingField);
    let no_text = RawRecord { key: Some(b"\xff"), ..RECORD };
    for kind in ["str", "i64", "json"] {
        let got = run(&event(&format!("k:{kind}")), &with("k", &[Key], format(Format::Json, Framing::None)), &no_text);
        assert_eq!(code(got), Code::DecodeTypeMismatch, "{kind}");
    }
    let integer = SourceFormat { key_format: KeyFormat::Integer, ..with("k", &[Key], format(Format::Json, Framing::None)) };
    for (key, expected) in [(&[0xFFu8, 0xFF, 0xFF, 0xFE][..], "-2"), (&[0, 0, 0, 0, 0, 0, 1, 0], "256")] {
        assert_eq!(run(&event("k:i64"), &integer, &RawRecord { key: Some(key), ..RECORD }).unwrap().1, expected);
    }
    assert_eq!(code(run(&event("k:i64"), &integer, &RECORD)), Code::DecodeTypeMismatch);
    for (fields, source) in [("t:i64", Topic), ("p:str", Partition), ("o:bool", Offset), ("at:str", Timestamp)] {
        let error = Decoder::new(event(fields), &with(fields, &[source], format(Format::Json, Framing::None))).unwrap_err();
        assert_eq!(error.code, Code::InvalidConfigValue, "{fields}");
    }
}

#[test]
fn tombstones_follow_the_policy() {
    let tombstone = RawRecord { value: None, ..RECORD };
    let policy = |tombstone, fields: &[FieldSource]| SourceFormat { tombstone, ..with("k", fields, format(Format::Json, Framing::None)) };
    let keyed = [FieldSource::Key];
    let schema = event("k:str n:i64? required:i64");
    assert_eq!(run(&schema, &policy(Tombstone::Ignore, &keyed), &tombstone).unwrap().0, Decoded::Ignored);
    assert_eq!(code(run(&schema, &policy(Tombstone::Reject, &keyed), &tombstone)), Code::TombstoneUnexpected);
    let delete = run(&schema, &policy(Tombstone::DeleteKey, &keyed), &tombstone).unwrap();
    assert_eq!((delete.0, delete.1.as_str()), (Decoded::Delete, "\"k1\" - -"));
    assert_eq!(code(run(&schema, &policy(Tombstone::DeleteKey, &[]), &tombstone)), Code::TombstoneUnexpected);
    let keyless = RawRecord { key: None, ..tombstone };
    assert_eq!(code(run(&schema, &policy(Tombstone::DeleteKey, &keyed), &keyless)), Code::TombstoneUnexpected);
    assert_eq!(code(run(&schema, &policy(Tombstone::Row, &keyed), &tombstone)), Code::DecodeMissingField);
    assert_eq!(run(&event("k:str n:i64?"), &policy(Tombstone::Row, &keyed), &tombstone).unwrap().1, "\"k1\" null");
}

#[test]
fn names_with_dots_stand_in_quotes_and_rejects_name_path_and_field() {
    let places = |paths: &[&str]| paths.iter().map(|path| FieldSource::path(path)).collect::<Vec<_>>();
    let json = format(Format::Json, Framing::None);
    let record = |value: &'static [u8]| RawRecord { value: Some(value), ..RECORD };
    let mapped = with("u:str n:i64?", &places(&["attrs.\"user.id\"", "\"a.b\".\"c[]\"[].d"]), json.clone());
    let value = record(br#"{"attrs":{"user":{"id":"no"},"user.id":"u1"},"a.b":{"c[]":[{"d":1}]},"a":{"b":1}}"#);
    assert_eq!(run(&event("u:str n:json?"), &mapped, &value).unwrap().1, "\"u1\" [1]");
    // A field's own name is a member's name as it stands.
    assert_eq!(run(&event("user.id:str"), &json, &record(br#"{"user":{"id":"no"},"user.id":"u1"}"#)).unwrap().1, "\"u1\"");
    let map = r#"{"type":"record","name":"E","fields":[{"name":"attrs","type":{"type":"map","values":"string"}}]}"#;
    let unframed = SourceFormat { schema: Some(avro(map)), ..format(Format::Avro, Framing::None) };
    let mapped = with("u:str", &places(&["attrs.\"user.id\""]), unframed);
    let got = run(&event("u:str"), &mapped, &record(b"\x04\x08user\x02x\x0euser.id\x04u1\x00"));
    assert_eq!(got.unwrap().1, "\"u1\"");

    let reason = |fields: &str, sources: &[FieldSource], value: &'static [u8]| match run(
        &event(fields),
        &with(fields, sources, json.clone()),
        &record(value),
    ) {
        Err(DecodeError::Bad(bad)) => (bad.path.clone(), bad.reason.clone()),
        other => panic!("{other:?}"),
    };
    let list = FieldSource::Path { path: "after.id".into(), aliases: vec!["before.id".into()] };
    for (fields, source, value, told) in [
        (
            "u:str",
            FieldSource::path("attrs.\"user.id\""),
            &br#"{"attrs":{"user.id":7}}"#[..],
            "is a number, declared str (from attrs.\"user.id\")",
        ),
        ("u:str", FieldSource::path("attrs.\"user.id\""), br#"{"attrs":{}}"#, "is missing (from attrs.\"user.id\")"),
        (
            "u:str",
            FieldSource::path("attrs.\"user.id\""),
            br#"{"attrs":7}"#,
            "a number where the path wants an object (from attrs.\"user.id\")",
        ),
        ("u:i64", list.clone(), br#"{"after":{"id":"x"}}"#, "is text, declared i64 (from after.id or before.id)"),
        ("u:i64", list, br#"{"after":null}"#, "is null (from after.id or before.id)"),
        ("u:i64", FieldSource::Key, b"{}", "is text, declared i64 (from key)"),
        ("u:i64", FieldSource::Header("h".into()), b"{}", "is null (from header:h)"),
        ("u:i64", FieldSource::path("u"), br#"{"u":"x"}"#, "is text, declared i64"),
    ] {
        let (path, reason) = reason(fields, &[source], value);
        assert_eq!(path, "u");
        assert!(reason.contains("\"u\" of E") && reason.ends_with(told), "{reason} was to end with: {told}");
    }
}

/// A framed key was once taken as text, schema id and all.
#[test]
fn a_framed_key_is_never_text() {
    let framed = RawRecord { key: Some(&[0, 0, 0, 0, 31, 2, b'a']), ..RECORD };
    let of = |key_format| SourceFormat { key_format, ..with("k", &[FieldSource::Key], format(Format::Json, Framing::None)) };
    for (kind, key_format) in
        [("str", KeyFormat::Raw), ("str", KeyFormat::Text), ("i64", KeyFormat::Raw), ("json", KeyFormat::Text), ("bytes", KeyFormat::Text)]
    {
        match run(&event(&format!("k:{kind}")), &of(key_format), &framed) {
            Err(DecodeError::Bad(bad)) => {
                assert_eq!(bad.code, Code::DecodeFraming);
                assert!(bad.reason.contains("schema id 31") && bad.reason.contains("key_format"), "{}", bad.reason);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(run(&event("k:bytes"), &of(KeyFormat::Raw), &framed).unwrap().1, "b[0, 0, 0, 0, 31, 2, 97]");
    assert_eq!(
        run(&event("k:i64"), &of(KeyFormat::Integer), &RawRecord { key: Some(&[0, 0, 0, 0, 0, 0, 1, 0]), ..RECORD }).unwrap().1,
        "256"
    );
    assert_eq!(run(&event("k:str"), &of(KeyFormat::Text), &RECORD).unwrap().1, "\"k1\"");
    for kind in ["str", "bytes"] {
        let no_text = RawRecord { key: Some(b"\xff"), ..RECORD };
        assert_eq!(code(run(&event(&format!("k:{kind}")), &of(KeyFormat::Text), &no_text)), Code::DecodeTypeMismatch);
    }
    let path = with("k", &[FieldSource::KeyPath("id".into())], format(Format::Json, Framing::None));
    assert_eq!(Decoder::new(event("k:str"), &path).unwrap_err().code, Code::InvalidConfigValue);
}

#[test]
fn fields_come_from_inside_of_json_keys() {
    use FieldSource::{Key, KeyPath};
    let path = |path: &str| KeyPath(path.into());
    type Case<'c> = (&'c str, &'c [FieldSource], &'c [u8], Result<&'c str, Code>);
    let cases: &[Case<'_>] = &[
        ("k:str n:i64", &[path("id"), path("shop.n")], br#"{"shop":{"n":3},"id":"a"}"#, Ok("\"a\" 3")),
        ("k:str n:i64", &[path("id"), path("shop.n")], b"\x00\x00\x00\x00\x09{\"shop\":{\"n\":3},\"id\":\"a\"}", Ok("\"a\" 3")),
        ("k:str", &[path("\"a.b\"")], br#"{"a.b":"x"}"#, Ok("\"x\"")),
        ("k:str", &[Key], br#""a\u00e9""#, Ok("\"aé\"")),
        ("k:i64", &[Key], b" 12 ", Ok("12")),
        ("k:json", &[Key], br#"{"a": [1]}"#, Ok(r#"{"a": [1]}"#)),
        ("k:json n:i64?", &[Key, path("a")], br#"{"a":1}"#, Ok(r#"{"a":1} 1"#)),
        ("k:str?", &[path("id")], br#"{"other":1}"#, Ok("-")),
        ("k:str", &[path("id")], br#""a""#, Err(Code::DecodeTypeMismatch)),
        ("k:str", &[path("id")], br#"{"id":7}"#, Err(Code::DecodeTypeMismatch)),
        ("k:str", &[path("id")], b"plain", Err(Code::DecodeMalformed)),
        ("k:str", &[Key], b"", Err(Code::DecodeMalformed)),
        ("k:str", &[Key], br#""a" "b""#, Err(Code::DecodeTrailingBytes)),
        ("k:str", &[Key], b"null", Err(Code::DecodeMissingField)),
    ];
    for (fields, sources, key, expected) in cases {
        let format = SourceFormat { key_format: KeyFormat::Json, ..with(fields, sources, format(Format::Json, Framing::None)) };
        let got = run(&event(fields), &format, &RawRecord { key: Some(key), ..RECORD });
        match expected {
            Ok(shown) => assert_eq!(got.unwrap().1, *shown, "{fields}"),
            Err(expected) => assert_eq!(code(got), *expected, "{fields}"),
        }
    }
    let keyed = with("k", &[path("id")], format(Format::Json, Framing::None));
    let deletes = SourceFormat { key_format: KeyFormat::Json, tombstone: Tombstone::DeleteKey, ..keyed };
    let schema = event("k:str n:i64");
    let got = run(&schema, &deletes, &RawRecord { key: Some(br#"{"id":"a"}"#), value: None, ..RECORD }).unwrap();
    assert_eq!((got.0, got.1.as_str()), (Decoded::Delete, "\"a\" -"));
    assert_eq!(code(run(&schema, &deletes, &RawRecord { key: None, value: None, ..RECORD })), Code::TombstoneUnexpected);
}

#[test]
fn avro_keys_have_schemas_of_their_own() {
    use FieldSource::{Key, KeyPath};
    let key_schema = r#"{"type":"record","name":"K","fields":[{"name":"id","type":"string"},{"name":"n","type":"int"}]}"#;
    let fields = "k:str n:i64 card:str amount:f64";
    let keyed = with(fields, &[KeyPath("id".into()), KeyPath("n".into())], format(Format::Avro, Framing::Confluent));
    let mut decoder = Decoder::new(event(fields), &SourceFormat { key_format: KeyFormat::Avro, ..keyed }).unwrap();
    let value = [&[0u8, 0, 0, 0, 1, 4, b'c', b'1'][..], &[0, 0, 0, 0, 0, 0, 0xF8, 0x3F]].concat();
    let record = RawRecord { key: Some(&[0, 0, 0, 0, 2, 2, b'a', 6]), value: Some(&value), ..RECORD };
    assert_eq!(decode_with(&mut decoder, &record), Err(DecodeError::NeedSchema(SchemaId::Number(1))));
    decoder.add_schema(1.into(), &avro(PAYMENT)).unwrap();
    assert_eq!(decode_with(&mut decoder, &record), Err(DecodeError::NeedSchema(SchemaId::Number(2))));
    decoder.add_schema(2.into(), &avro(key_schema)).unwrap();
    assert_eq!(decode_with(&mut decoder, &record).unwrap().1, "\"a\" 3 \"c1\" 1.5");
    // A key of the value's schema asks for it anew: what serves one need not serve the other.
    let confused = RawRecord { key: Some(&[0, 0, 0, 0, 1, 2, b'a', 6]), ..record };
    assert_eq!(decode_with(&mut decoder, &confused), Err(DecodeError::NeedSchema(SchemaId::Number(1))));
    assert_eq!(decoder.add_schema(1.into(), &avro(PAYMENT)).unwrap_err().code, Code::SchemaUnusable);
    assert!(matches!(decode_with(&mut decoder, &confused), Err(DecodeError::SchemaUnusable(_))));
    assert!(decode_with(&mut decoder, &record).is_ok());
    let bare = RawRecord { key: Some(b"plain"), ..record };
    match decode_with(&mut decoder, &bare) {
        Err(DecodeError::Bad(bad)) => assert!(bad.code == Code::DecodeFraming && bad.reason.contains("key"), "{}", bad.reason),
        other => panic!("{other:?}"),
    }
    let text = SourceFormat { key_format: KeyFormat::Text, ..with("k:str", &[Key], format(Format::Json, Framing::None)) };
    let mut texts = Decoder::new(event("k:str"), &text).unwrap();
    for (key, hint) in [(&9i64.to_be_bytes()[..], "\"integer\""), (&[0, 0, 0, 0, 2, 2, b'a'], "\"avro\" or \"json\"")] {
        match decode_with(&mut texts, &RawRecord { key: Some(key), ..RECORD }) {
            Err(DecodeError::Bad(bad)) => assert!(bad.code == Code::DecodeFraming && bad.reason.contains(hint), "{}", bad.reason),
            other => panic!("{other:?}"),
        }
    }
    // Of two partitions that wait for one id, the second brings what keys have already.
    decoder.add_schema(2.into(), &avro(key_schema)).unwrap();
    // A whole key is of any type; its schema may be asked for without one of the value.
    for (schema, kind, key, expected) in [
        (r#""string""#, "str", &[0u8, 0, 0, 0, 2, 2, b'a'][..], "\"a\""),
        (r#""long""#, "i64", &[0, 0, 0, 0, 2, 8], "4"),
        (
            r#"{"type":"string","logicalType":"uuid"}"#,
            "str",
            b"\x00\x00\x00\x00\x02\x48123e4567-e89b-12d3-a456-426614174000",
            "\"123e4567-e89b-12d3-a456-426614174000\"",
        ),
        (key_schema, "json", &[0, 0, 0, 0, 2, 2, b'a', 6], r#"{"id":"a","n":3}"#),
    ] {
        let fields = format!("k:{kind}");
        let keyed = SourceFormat { key_format: KeyFormat::Avro, ..with(&fields, &[Key], format(Format::Json, Framing::None)) };
        let mut decoder = Decoder::new(event(&fields), &keyed).unwrap();
        assert!(decoder.needs_schemas());
        let record = RawRecord { key: Some(key), ..RECORD };
        assert_eq!(decode_with(&mut decoder, &record), Err(DecodeError::NeedSchema(SchemaId::Number(2))));
        decoder.add_schema(2.into(), &avro(schema)).unwrap();
        assert_eq!(decode_with(&mut decoder, &record).unwrap().1, expected);
        decoder.knows_schema(3.into(), &avro(schema));
    }
}

#[test]
fn a_schema_id_may_stand_in_a_header() {
    let header = OneHeader("__value_schema_id", Some(&[0, 0, 0, 1, 2]));
    let mut decoder = Decoder::new(event("n:i64? card:str?"), &format(Format::Avro, Framing::Confluent)).unwrap();
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"n","type":["null","long"]},{"name":"card","type":["null","string"]},{"name":"a","type":"long"},{"name":"b","type":"long"},{"name":"c","type":"long"}]}"#;
    // Bodies that begin as a frame does, and ones that do not.
    for body in [&[0u8, 0, 0, 0, 2][..], &[2, 2, 2, 2, b'a', 0, 0, 0]] {
        let record = RawRecord { headers: Some(&header), value: Some(body), ..RECORD };
        if body[0] == 0 {
            assert_eq!(decode_with(&mut decoder, &record), Err(DecodeError::NeedSchema(SchemaId::Number(258))));
            decoder.add_schema(258.into(), &avro(schema)).unwrap();
        }
        let shown = if body[0] == 0 { "null null" } else { "1 \"a\"" };
        assert_eq!(decoder.schema_id_of(&record), Some(SchemaId::Number(258)));
        assert_eq!(decode_with(&mut decoder, &record).unwrap().1, shown);
        let prefixed = [&[0u8, 0, 0, 1, 2][..], body].concat();
        assert_eq!(decode_with(&mut decoder, &RawRecord { value: Some(&prefixed), ..RECORD }).unwrap().1, shown);
    }
    // What a header names wins also where the body begins as a frame of a schema that is known.
    decoder.add_schema(2.into(), &avro(r#"{"type":"record","name":"R","fields":[]}"#)).unwrap();
    let framed_alike = RawRecord { headers: Some(&header), value: Some(&[0, 0, 0, 0, 2]), ..RECORD };
    assert_eq!(decode_with(&mut decoder, &framed_alike).unwrap().1, "null null");
    // A GUID names a schema as a number does, and is asked for by itself.
    const GUID: [u8; 16] = [0x89, 0x79, 0x17, 0x62, 0x23, 0x36, 0x41, 0x86, 0x96, 0x74, 0x29, 0x9b, 0x90, 0xa8, 0x02, 0xe2];
    let by_guid = OneHeader("__value_schema_id", Some([&[1][..], &GUID].concat().leak()));
    let record = RawRecord { headers: Some(&by_guid), value: Some(&[2, 2, 2, 2, b'a', 0, 0, 0]), ..RECORD };
    assert_eq!(decode_with(&mut decoder, &record), Err(DecodeError::NeedSchema(SchemaId::Guid(GUID))));
    decoder.add_schema(SchemaId::Guid(GUID), &avro(schema)).unwrap();
    assert_eq!(decode_with(&mut decoder, &record).unwrap().1, "1 \"a\"");
    assert_eq!(decoder.schema_id_of(&record).unwrap().to_string(), "89791762-2336-4186-9674-299b90a802e2");
    for wrong in [&b""[..], b"\x00\x00", b"\x02\x00\x00\x00\x00", &[1; 16], &[0; 17], &[2; 17]] {
        let wrong = wrong.to_vec().leak();
        let header = OneHeader("__value_schema_id", Some(wrong));
        assert_eq!(
            code(decode_with(&mut decoder, &RawRecord { headers: Some(&header), value: Some(&[2, 2]), ..RECORD })),
            Code::DecodeFraming
        );
    }
    let json = RawRecord { headers: Some(&header), value: Some(br#"{"n":1}"#), ..RECORD };
    assert_eq!(run(&event("n:i64"), &format(Format::Json, Framing::Confluent), &json).unwrap().1, "1");
    let header = OneHeader("__key_schema_id", Some(&[0, 0, 0, 1, 2]));
    let keyed = SourceFormat { key_format: KeyFormat::Avro, ..with("k", &[FieldSource::Key], format(Format::Json, Framing::None)) };
    let mut decoder = Decoder::new(event("k:str"), &keyed).unwrap();
    let record = RawRecord { key: Some(&[2, b'a']), headers: Some(&header), ..RECORD };
    assert_eq!(decode_with(&mut decoder, &record), Err(DecodeError::NeedSchema(SchemaId::Number(258))));
    decoder.add_schema(258.into(), &avro(r#""string""#)).unwrap();
    assert_eq!(decode_with(&mut decoder, &record).unwrap().1, "\"a\"");
}

/// A mapping was once by field number, of the config's own declaration: after a field had been retyped, its
/// number in the state's declaration was another one, and it was read from the member of its own name.
#[test]
fn a_mapped_field_is_read_from_its_place_whatever_its_number_has_become() {
    let mut evolved = (*event("k:str n:i64")).clone();
    evolved.fields.swap(0, 1);
    let place = [FieldSource::path("customer.id")];
    let record = RawRecord { value: Some(br#"{"n":1,"k":"wrong","customer":{"id":"c1"}}"#), ..RECORD };
    let mapped = with("k", &place, format(Format::Json, Framing::None));
    assert_eq!(run(&Arc::new(evolved), &mapped, &record).unwrap().1, "1 \"c1\"");
}

#[test]
fn row_time_comes_from_where_the_event_says() {
    let timed = |time| {
        let mut schema = (*event("k:str? ts:datetime?")).clone();
        schema.time = time;
        Arc::new(schema)
    };
    let record = |value: &'static [u8], timestamp_ms| RawRecord { value: Some(value), timestamp_ms, ..RECORD };
    let json = format(Format::Json, Framing::None);
    let time = |source, record: &RawRecord<'_>| run(&timed(source), &json, record).map(|(_, _, time_us)| time_us);
    let field = TimeSource::Field(FieldIndex(1));
    assert_eq!(time(TimeSource::Arrival, &record(b"{}", 1_000)).unwrap(), NOW_US);
    assert_eq!(time(TimeSource::Record, &record(b"{}", 1_000)).unwrap(), 1_000_000);
    assert_eq!(time(TimeSource::Record, &record(b"{}", -1)).unwrap(), NOW_US);
    assert_eq!(time(field, &record(b"{\"ts\":2000}", 1_000)).unwrap(), 2_000_000);
    for (source, record, expected) in [
        (field, record(b"{}", 1_000), Code::DecodeMissingField),
        (field, record(b"{\"ts\":3700000}", 1_000), Code::TimeOutOfRange),
        (TimeSource::Record, record(b"{}", i64::MAX), Code::TimeOutOfRange),
    ] {
        assert_eq!(code(run(&timed(source), &json, &record)), expected);
    }
    let deletes = SourceFormat { tombstone: Tombstone::DeleteKey, ..with("k", &[FieldSource::Key], json.clone()) };
    for (timestamp_ms, expected) in [(1_000, 1_000_000), (-1, NOW_US), (i64::MAX, NOW_US)] {
        let got = run(&timed(field), &deletes, &RawRecord { value: None, timestamp_ms, ..RECORD }).unwrap();
        assert_eq!((got.0, got.2), (Decoded::Delete, expected));
    }
}

/// The commonest mistake of the trade is loud, and a declared unit is believed. The clock is in November 2023.
#[test]
fn times_are_read_in_their_unit_and_a_wrong_one_is_a_bad_record() {
    const NOW_US: i64 = 1_700_000_100_000_000;
    let at = |source, kind: &str, value: &str| {
        let mut schema = (*event(&format!("k:str? ts:{kind}? at:datetime?"))).clone();
        (schema.time, schema.max_future_us) = (source, 3_600_000_000);
        let schema = Arc::new(schema);
        let mut decoder = Decoder::new(Arc::clone(&schema), &format(Format::Json, Framing::None)).unwrap();
        let mut into = builder(&schema, Strictness::Record);
        let text = format!("{{\"ts\":{value}}}");
        let record = RawRecord { value: Some(text.as_bytes()), ..RECORD };
        let done = decoder.decode(&record, "t", 0, RowClock::at(NOW_US), &mut into, 0);
        done.map(|_| {
            let rows = into.finish();
            (rows.time_us(0), show_row(&rows, &schema, 0))
        })
    };
    let field = TimeSource::Field(FieldIndex(1));
    let unit = |unit| TimeSource::FieldIn(FieldIndex(1), unit);
    let at_us = 1_700_000_000_123_456;
    for (source, kind, value, time_us, cell) in [
        (field, "datetime", "1700000000123", at_us / 1000 * 1000, "t1700000000123"),
        (field, "datetime", "1.7e12", 1_700_000_000_000_000, "t1700000000000"),
        (field, "datetime", "1700000000123.456", at_us, "t1700000000123"),
        (field, "datetime", "\"1700000000123\"", at_us / 1000 * 1000, "t1700000000123"),
        (field, "datetime", "\"2023-11-14T22:13:20.123456Z\"", at_us, "t1700000000123"),
        (field, "datetime", "\"2023-11-14\"", 1_699_920_000_000_000, "t1699920000000"),
        (field, "i64", "1700000000123", at_us / 1000 * 1000, "1700000000123"),
        (field, "datetime", "0", 0, "t0"),
        (unit(TimeUnit::Seconds), "datetime", "1700000000", 1_700_000_000_000_000, "t1700000000000"),
        (unit(TimeUnit::Seconds), "datetime", "1700000000.123456", at_us, "t1700000000123"),
        (unit(TimeUnit::Seconds), "datetime", "\"1700000000.123456\"", at_us, "t1700000000123"),
        (unit(TimeUnit::Seconds), "datetime", "\"2023-11-14T22:13:20Z\"", 1_700_000_000_000_000, "t1700000000000"),
        (unit(TimeUnit::Seconds), "i64", "1700000000", 1_700_000_000_000_000, "1700000000"),
        (unit(TimeUnit::Millis), "datetime", "1700000000", 1_700_000_000_000, "t1700000000"),
        (unit(TimeUnit::Micros), "datetime", "1700000000123456", at_us, "t1700000000123"),
        (unit(TimeUnit::Nanos), "datetime", "1700000000123456789", at_us, "t1700000000123"),
        (unit(TimeUnit::Nanos), "datetime", "-1", -1, "t-1"),
    ] {
        let found = at(source, kind, value).unwrap_or_else(|error| panic!("{source:?} {value}: {error:?}"));
        assert_eq!(found, (time_us, format!("- {cell} -")), "{source:?} {kind} {value}");
    }
    for (value, part) in [
        ("1700000000", "looks like seconds"),
        ("\"1700000000\"", "looks like seconds"),
        ("1700000000.25", "looks like seconds"),
        ("1.7e9", "looks like seconds"),
        ("\"1700000000.25\"", "looks like seconds"),
        ("1700000000123456", "looks like microseconds"),
        ("1700000000123456789", "looks like nanoseconds"),
    ] {
        for kind in ["datetime", "i64"] {
            if kind == "i64" && (value.starts_with('"') || value == "1700000000.25") {
                continue;
            }
            let Err(DecodeError::Bad(bad)) = at(field, kind, value) else { panic!("{value} is taken") };
            assert_eq!(bad.code, Code::TimeUnit, "{value}");
            assert!(bad.reason.contains(part) && bad.reason.contains("unit = "), "{}", bad.reason);
        }
    }
    for value in ["1e300", "-1e300", "253402300800000.0"] {
        let Err(DecodeError::Bad(bad)) = at(unit(TimeUnit::Millis), "datetime", value) else { panic!("{value} is taken") };
        assert_eq!(bad.code, Code::DecodeOutOfRange, "{value}");
        assert!(bad.reason.contains("0001 to 9999"), "{}", bad.reason);
    }
    let Err(DecodeError::Bad(bad)) = at(unit(TimeUnit::Seconds), "datetime", "1700000000123") else { panic!("it is taken") };
    assert_eq!(bad.code, Code::TimeOutOfRange);
    let Err(DecodeError::Bad(bad)) = at(field, "datetime", "\"2023-11-14T22:13:20\"") else { panic!("it is taken") };
    assert!(bad.reason.contains("without zone"), "{}", bad.reason);
}

#[test]
fn whole_numbers_are_exact_however_they_are_written() {
    let schema = event("n:i64?");
    let taken = |text: &str| {
        let value = format!("{{\"n\":{text}}}");
        run(&schema, &format(Format::Json, Framing::None), &RawRecord { value: Some(value.as_bytes()), ..RECORD }).map(|row| row.1).ok()
    };
    for (text, number) in [
        ("1e18", Some("1000000000000000000")),
        ("1E+18", Some("1000000000000000000")),
        ("-1.5e18", Some("-1500000000000000000")),
        ("9.223372036854775807e18", Some("9223372036854775807")),
        ("9007199254740993.0", Some("9007199254740993")),
        ("1e19", None),
        ("1e-1", None),
        ("1.5", None),
    ] {
        assert_eq!(taken(text).as_deref(), number, "{text}");
    }
}

#[test]
fn a_bad_record_leaves_the_rows_before_it_as_they_were() {
    let schema = event("a:str n:i64?");
    let mut decoder = Decoder::new(Arc::clone(&schema), &format(Format::Json, Framing::None)).unwrap();
    let mut into = builder(&schema, Strictness::Record);
    for (offset, value) in
        [(0, &b"{\"a\":\"x\"}"[..]), (1, b"{\"a\":\"lost\",\"n\":\"no\"}"), (2, b"{\"n\":1}"), (3, b"{\"a\":\"y\",\"n\":2}")]
    {
        let decoded = decoder.decode(&RawRecord { offset, value: Some(value), ..RECORD }, "t", 0, RowClock::at(NOW_US), &mut into, 0);
        assert_eq!(decoded.is_ok(), offset == 0 || offset == 3);
    }
    let rows = into.finish();
    assert_eq!((0..2).map(|row| show_row(&rows, &schema, row)).collect::<Vec<_>>(), ["\"x\" -", "\"y\" 2"]);
    assert_eq!(rows.runs().map(|run| (run.first_row, run.first_offset)).collect::<Vec<_>>(), [(0, 0), (1, 3)]);
}
