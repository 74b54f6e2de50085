//! Change events as Debezium's documentation shows them, in JSON and Avro, with and without their wrapper.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::tests::{RECORD, avro, decode_with, format, with};
use super::*;
use crate::decode::fixture::event;
use DebeziumMode::{Changes, Latest};
use proptest::prelude::*;

const FIELDS: &str = "id:i64 v:str? op:str? at:i64?";

fn source(kind: Format, mode: DebeziumMode) -> SourceFormat {
    let places = ["id", "v", "op", "source.ts_ms"].map(FieldSource::path);
    let framing = if kind == Format::DebeziumAvro { Framing::Confluent } else { Framing::None };
    SourceFormat { mode, tombstone: Tombstone::Ignore, ..with(FIELDS, &places, format(kind, framing)) }
}

type Told = Result<(Decoded, String), Code>;

fn json(mode: DebeziumMode, text: &str) -> Told {
    let mut decoder = Decoder::new(event(FIELDS), &source(Format::Debezium, mode)).unwrap();
    told(decode_with(&mut decoder, &RawRecord { value: Some(text.as_bytes()), ..RECORD }))
}

fn told(got: Result<(Decoded, String, i64), DecodeError>) -> Told {
    match got {
        Ok((decoded, shown, _)) => Ok((decoded, shown)),
        Err(DecodeError::Bad(bad)) => Err(bad.code),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_change_is_the_row_of_its_image_and_a_delete_is_one_or_forgets() {
    use Decoded::{Delete, Ignored, Row};
    let row = |shown: &str| Ok((Row, shown.to_owned()));
    let update = r#"{"before":{"id":1,"v":"a"},"after":{"id":1,"v":"b"},"source":{"ts_ms":7},"op":"u","ts_ms":9}"#;
    let nulled = r#"{"before":{"id":1,"v":"a"},"after":{"id":1,"v":null},"source":{"ts_ms":7},"op":"u"}"#;
    let delete = r#"{"op":"d","source":{"ts_ms":7},"after":null,"before":{"id":1,"v":"a"}}"#;
    let snapshot = r#"{"before":null,"after":{"id":1,"v":"b"},"source":{"ts_ms":7},"op":"r"}"#;
    let keyless = r#"{"op":"d","source":{"ts_ms":7},"after":null,"before":null}"#;
    let nothing = Ok((Ignored, String::new()));
    let cases: Vec<(&str, Told, Told)> = vec![
        (update, row("1 \"b\" \"u\" 7"), row("1 \"b\" \"u\" 7")),
        // What an update sets to null is null, and not what it was.
        (nulled, row("1 null \"u\" 7"), row("1 null \"u\" 7")),
        (snapshot, row("1 \"b\" \"r\" 7"), row("1 \"b\" \"r\" 7")),
        (delete, row("1 \"a\" \"d\" 7"), Ok((Delete, "1 \"a\" \"d\" 7".to_owned()))),
        (keyless, Err(Code::DecodeMissingField), Ok((Delete, "null null \"d\" 7".to_owned()))),
        (r#"{"op":"t","source":{"ts_ms":7}}"#, nothing.clone(), Err(Code::TombstoneUnexpected)),
        (r#"{"op":"m","message":{},"source":{}}"#, nothing.clone(), nothing.clone()),
        (r#"{"op":"x","after":{"id":1}}"#, Err(Code::DecodeMalformed), Err(Code::DecodeMalformed)),
        // Beside changes: heartbeats, and a transaction's begin and end.
        (r#"{"ts_ms":12}"#, nothing.clone(), nothing.clone()),
        (r#"{"status":"BEGIN","id":"5:1","event_count":null,"data_collections":null,"ts_ms":1}"#, nothing.clone(), nothing.clone()),
        // Flattened to the row.
        (r#"{"id":1,"v":"b","__op":"u","__source_ts_ms":7}"#, row("1 \"b\" \"u\" 7"), row("1 \"b\" \"u\" 7")),
        (r#"{"id":1,"v":"b","__deleted":"false"}"#, row("1 \"b\" - -"), row("1 \"b\" - -")),
        (r#"{"id":1,"v":"b","__deleted":"true"}"#, row("1 \"b\" - -"), Ok((Delete, "1 \"b\" - -".to_owned()))),
        (r#"{"v":"b"}"#, Err(Code::DecodeMissingField), Err(Code::DecodeMissingField)),
        (r#"{"op":"u","after":{"id":"x"}}"#, Err(Code::DecodeTypeMismatch), Err(Code::DecodeTypeMismatch)),
        (r#"{"op":"u","after":{"id":1}"#, Err(Code::DecodeMalformed), Err(Code::DecodeMalformed)),
        ("", Err(Code::DecodeMalformed), Err(Code::DecodeMalformed)),
    ];
    for (text, changes, latest) in cases {
        assert_eq!(json(Changes, text), changes, "{text}");
        assert_eq!(json(Latest, text), latest, "{text}");
        if text.starts_with('{') && text.ends_with('}') {
            let wrapped = format!(r#"{{"schema":{{"type":"struct","fields":[]}},"payload":{text}}}"#);
            assert_eq!(json(Changes, &wrapped), changes, "{wrapped}");
            assert_eq!(json(Latest, &wrapped), latest, "{wrapped}");
        }
    }
    // The tombstone behind a delete is nothing.
    let mut decoder = Decoder::new(event(FIELDS), &source(Format::Debezium, Latest)).unwrap();
    assert_eq!(told(decode_with(&mut decoder, &RawRecord { value: None, ..RECORD })), nothing);
}

#[test]
fn avro_changes_have_a_plan_an_image() {
    let value =
        r#"{"type":"record","name":"Value","fields":[{"name":"id","type":"long"},{"name":"v","type":["null","string"],"default":null}]}"#;
    let envelope = format!(
        r#"{{"type":"record","name":"Envelope","fields":[{{"name":"before","type":["null",{value}],"default":null}},{{"name":"after","type":["null","Value"],"default":null}},{{"name":"source","type":{{"type":"record","name":"Source","fields":[{{"name":"ts_ms","type":"long"}}]}}}},{{"name":"op","type":"string"}}]}}"#
    );
    let flat = r#"{"type":"record","name":"Value","fields":[{"name":"id","type":"long"},{"name":"v","type":["null","string"]},{"name":"__deleted","type":["null","string"]}]}"#;
    let heartbeat = r#"{"type":"record","name":"Heartbeat","fields":[{"name":"ts_ms","type":"long"}]}"#;
    for mode in [Changes, Latest] {
        let mut decoder = Decoder::new(event(FIELDS), &source(Format::DebeziumAvro, mode)).unwrap();
        decoder.add_schema(1.into(), &avro(&envelope)).unwrap();
        decoder.add_schema(2.into(), &avro(flat)).unwrap();
        decoder.add_schema(3.into(), &avro(heartbeat)).unwrap();
        let mut of = |id: u8, body: &[u8]| {
            let framed = [&[0, 0, 0, 0, id], body].concat();
            told(decode_with(&mut decoder, &RawRecord { value: Some(&framed), ..RECORD }))
        };
        // before null, after {1, "b"}, ts 7, "u"; then before {1, "a"}, after null, ts 7, "d".
        assert_eq!(of(1, b"\x00\x02\x02\x02\x02b\x0e\x02u"), Ok((Decoded::Row, "1 \"b\" \"u\" 7".to_owned())));
        let deleted = if mode == Latest { Decoded::Delete } else { Decoded::Row };
        assert_eq!(of(1, b"\x02\x02\x02\x02a\x00\x0e\x02d"), Ok((deleted, "1 \"a\" \"d\" 7".to_owned())));
        assert_eq!(of(1, b"\x00\x00\x0e\x02m"), Ok((Decoded::Ignored, String::new())));
        assert_eq!(of(1, b"\x00\x02\x02\x02\x02b\x0e"), Err(Code::DecodeMalformed));
        assert_eq!(of(2, b"\x02\x02\x02b\x02\x08true"), Ok((deleted, "1 \"b\" null null".to_owned())));
        assert_eq!(of(3, b"\x02"), Ok((Decoded::Ignored, String::new())));
    }
    let unfit = envelope.replace(r#""name":"id","type":"long""#, r#""name":"other","type":"long""#);
    let mut decoder = Decoder::new(event(FIELDS), &source(Format::DebeziumAvro, Changes)).unwrap();
    assert_eq!(decoder.add_schema(1.into(), &avro(&unfit)).unwrap_err().code, Code::SchemaUnusable);
}

#[test]
fn a_lists_paths_and_readings_are_of_the_image_too() {
    let list = FieldSource::Path { path: "customer_id".into(), aliases: vec!["client_id".into()] };
    let base = with("c:str p:f64", &[list, FieldSource::path("price")], format(Format::Debezium, Framing::None));
    let price = Reading { written: crate::row::Written::Base64, scale: Some(2), ..Reading::default() };
    let base = SourceFormat { readings: vec![("p".into(), price)], ..base };
    let mut decoder = Decoder::new(event("c:str p:f64"), &base).unwrap();
    let record = br#"{"op":"c","before":null,"after":{"client_id":"x","price":"BNI="}}"#;
    assert_eq!(told(decode_with(&mut decoder, &RawRecord { value: Some(record), ..RECORD })).unwrap().1, "\"x\" 12.34");
}

proptest! {
    #[test]
    fn mutated_changes_get_an_answer(edits in prop::collection::vec((any::<u16>(), any::<u8>(), 0u8..3), 1..5), wrapped in any::<bool>()) {
        let change = r#"{"before":{"id":1,"v":"a"},"after":{"id":1,"v":"b"},"source":{"ts_ms":7},"op":"u","ts_ms":9}"#;
        let text = if wrapped { format!(r#"{{"schema":{{}},"payload":{change}}}"#) } else { change.to_owned() };
        let mut body = text.into_bytes();
        for (at, byte, how) in edits {
            let at = usize::from(at) % (body.len() + 1);
            match how {
                0 if at < body.len() => body[at] = byte,
                1 => body.insert(at, byte),
                _ => body.truncate(at),
            }
        }
        for mode in [Changes, Latest] {
            let mut decoder = Decoder::new(event(FIELDS), &source(Format::Debezium, mode)).unwrap();
            let _any_answer = told(decode_with(&mut decoder, &RawRecord { value: Some(&body), ..RECORD })).is_ok();
        }
    }
}

/// JsonConverter wraps keys as it wraps values: a delete reached no row, untold.
#[test]
fn a_key_that_is_wrapped_as_values_are_is_read_through_its_wrapper() {
    let fields = "id:i64 v:str?";
    let places = [FieldSource::KeyPath("id".into()), FieldSource::path("v")];
    let base = SourceFormat { key_format: KeyFormat::Json, ..format(Format::Debezium, Framing::None) };
    let source = SourceFormat { mode: Latest, tombstone: Tombstone::Ignore, ..with(fields, &places, base) };
    let mut decoder = Decoder::new(event(fields), &source).unwrap();
    let delete = br#"{"op":"d","source":{},"before":{"id":11},"after":null}"#;
    for key in [r#"{"id":11}"#, r#"{"schema":{"type":"struct"},"payload":{"id":11}}"#] {
        let record = RawRecord { key: Some(key.as_bytes()), value: Some(delete), ..RECORD };
        assert_eq!(told(decode_with(&mut decoder, &record)), Ok((Decoded::Delete, "11 -".to_owned())), "{key}");
    }
}
