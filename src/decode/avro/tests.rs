//! Rules of Avro bodies as tables, and apache-avro as the oracle: over random schemas and data ours gives the same values or is stricter.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::decode::fixture::{builder, commit_and_show, event, projection, show_row};
use crate::row::{Cell, FieldType, Strictness};
use apache_avro::Schema;
use apache_avro::types::Value;
use base64::Engine as _;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

/// Named types by full name.
#[derive(Default)]
struct Names<'s>(std::collections::HashMap<String, &'s Schema>);

impl<'s> Names<'s> {
    fn get(&self, full: &str) -> Option<(&'s Schema, ())> {
        self.0.get(full).map(|schema| (*schema, ()))
    }

    fn collect(&mut self, schema: &'s Schema, namespace: Option<&str>) {
        match schema {
            Schema::Array(array) => self.collect(&array.items, namespace),
            Schema::Map(map) => self.collect(&map.types, namespace),
            Schema::Union(union) => union.variants().iter().for_each(|branch| self.collect(branch, namespace)),
            Schema::Record(record) => {
                let name = record.name.fully_qualified_name(namespace);
                self.0.insert(name.fullname(None), schema);
                record.fields.iter().for_each(|field| self.collect(&field.schema, name.namespace()));
            }
            Schema::Ref { .. } => {}
            named => {
                if let Some(name) = named.name() {
                    self.0.insert(name.fullname(namespace), schema);
                }
            }
        }
    }
}

fn fetched(text: &str, references: &[&str]) -> FetchedSchema {
    FetchedSchema {
        registry: "r".into(),
        id: 9.into(),
        kind: "AVRO".into(),
        text: text.into(),
        references: references
            .iter()
            .map(|&text| streamgauge_api::inlet::SchemaReference { name: String::new(), text: text.into() })
            .collect(),
    }
}

/// Compiles for the event `fields` taken from `paths` and decodes one body: the row as text, or the code.
fn decode(schema: &str, references: &[&str], fields: &str, paths: &[&str], body: &[u8]) -> Result<String, Code> {
    let event = event(fields);
    let plan = AvroPlan::compile(&fetched(schema, references), &event, &projection(paths)).map_err(|error| error.code)?;
    let mut into = builder(&event, Strictness::Record);
    into.begin();
    plan.fields(body, &mut AvroScratch::default(), &mut into).map_err(|bad| bad.code)?;
    into.commit(0, None, false).map_err(|error| error.code)?;
    Ok(show_row(&into.finish(), &event, 0))
}

fn record_of(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"R","namespace":"n","fields":[{fields}]}}"#)
}

/// A record of one field `a`.
fn one(kind: &str) -> String {
    record_of(&format!(r#"{{"name":"a","type":{kind}}}"#))
}

#[test]
fn each_writer_type_lands_in_the_fields_it_fits() {
    let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}"#;
    let fixed_decimal = r#"{"type":{"type":"fixed","name":"F","size":3},"logicalType":"decimal","precision":6,"scale":1}"#;
    let logical = |base: &str, name: &str| format!(r#"{{"type":"{base}","logicalType":"{name}"}}"#);
    let suit = r#"{"type":"enum","name":"Suit","symbols":["hearts","spades"]}"#;
    let cases: &[(&str, &str, &[u8], &str)] = &[
        (r#""int""#, "i64", &[0x09], "-5"),
        (r#""int""#, "f64", &[0x0A], "5.0"),
        (r#""int""#, "datetime", &[0x0A], "t5"),
        (r#""long""#, "i64", &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01], "4611686018427387904"),
        (r#""long""#, "i64", &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], "-9223372036854775808"),
        (r#""long""#, "f64", &[0x0A], "5.0"),
        (r#""float""#, "f64", &[0, 0, 0xC0, 0x3F], "1.5"),
        (r#""double""#, "f64", &[0, 0, 0, 0, 0, 0, 0xF8, 0x3F], "1.5"),
        (r#""boolean""#, "bool", &[1], "true"),
        (r#""boolean""#, "json", &[0], "false"),
        (r#""string""#, "str", b"\x06abc", "\"abc\""),
        (r#""string""#, "bytes", b"\x06abc", "b[97, 98, 99]"),
        (r#""string""#, "datetime", b"\x282023-11-14T22:13:20Z", "t1700000000000"),
        (r#""string""#, "json", b"\x06abc", "\"abc\""),
        (r#""bytes""#, "bytes", b"\x04\xff\x00", "b[255, 0]"),
        (r#""bytes""#, "str", b"\x06abc", "\"abc\""),
        (r#"{"type":"fixed","name":"F","size":2}"#, "bytes", b"ab", "b[97, 98]"),
        (suit, "str", &[2], "\"spades\""),
        (suit, "json", &[0], "\"hearts\""),
        (decimal, "f64", b"\x04\x04\xd2", "12.34"),
        (decimal, "str", b"\x04\xfb\x2e", "\"-12.34\""),
        (decimal, "json", b"\x04\xfb\x2e", "-12.34"),
        (fixed_decimal, "str", b"\x00\x04\xd2", "\"123.4\""),
        (&logical("long", "timestamp-millis"), "datetime", &[0x0A], "t5"),
        (&logical("long", "timestamp-micros"), "datetime", &[0xD0, 0x0F], "t1"),
        (&logical("long", "timestamp-micros"), "datetime", &[0x01], "t-1"),
        (&logical("long", "timestamp-nanos"), "datetime", &[0x80, 0x89, 0x7A], "t1"),
        (&logical("long", "local-timestamp-micros"), "datetime", &[0xD0, 0x0F], "t1"),
        (&logical("long", "timestamp-micros"), "i64", &[0xD0, 0x0F], "1000"),
        (&logical("int", "date"), "datetime", &[0x02], "t86400000"),
        (&logical("int", "date"), "i64", &[0x02], "1"),
        (&logical("int", "time-millis"), "i64", &[0x02], "1"),
        (&logical("long", "time-micros"), "f64", &[0x02], "1.0"),
        (&logical("long", "no-such-type"), "i64", &[0x02], "1"),
        (&logical("string", "uuid"), "str", b"\x48123e4567-e89b-12d3-a456-426614174000", "\"123e4567-e89b-12d3-a456-426614174000\""),
        (r#"{"type":"array","items":"long"}"#, "json", &[0x04, 2, 4, 0], "[1,2]"),
        (r#"{"type":"array","items":"long"}"#, "json", &[0x03, 4, 2, 4, 0], "[1,2]"),
        (r#"{"type":"array","items":"long"}"#, "json", &[0x02, 2, 0x02, 4, 0], "[1,2]"),
        (r#"{"type":"map","values":"string"}"#, "json", b"\x02\x02k\x02\"\x00", r#"{"k":"\""}"#),
        (
            r#"{"type":"record","name":"S","fields":[{"name":"x","type":"int"},{"name":"y","type":["null","double"]}]}"#,
            "json",
            &[2, 0],
            r#"{"x":1,"y":null}"#,
        ),
        (r#"["null","long"]"#, "i64", &[0], "null"),
        (r#"["null","long"]"#, "i64", &[2, 4], "2"),
        (r#"["long","null"]"#, "i64", &[0, 4], "2"),
        (r#"["long","null"]"#, "i64", &[2], "null"),
        (r#"["null","int","long","string"]"#, "i64", &[4, 8], "4"),
        (r#"["string","int"]"#, "json", b"\x00\x02x", "\"x\""),
        (r#"["string","int"]"#, "json", &[2, 2], "1"),
    ];
    for (writer, kind, body, expected) in cases {
        let got = decode(&one(writer), &[], &format!("a:{kind}?"), &["a"], body);
        assert_eq!(got.as_deref(), Ok(*expected), "{writer} into {kind}");
    }
}

#[test]
fn what_can_never_fit_is_refused_before_the_first_record() {
    for (writer, kind) in [
        (r#""double""#, "i64"),
        (r#""string""#, "i64"),
        (r#""long""#, "str"),
        (r#""long""#, "bool"),
        (r#""boolean""#, "f64"),
        (r#"{"type":"int","logicalType":"time-millis"}"#, "datetime"),
        (r#"{"type":"array","items":"long"}"#, "f64"),
    ] {
        assert_eq!(decode(&one(writer), &[], &format!("a:{kind}?"), &["a"], &[]), Err(Code::SchemaUnusable), "{writer} into {kind}");
    }
    for text in ["", "{", r#""long""#, r#"{"type":"record"}"#, &one(r#""no.Such""#)] {
        assert_eq!(decode(text, &[], "a:i64?", &["a"], &[]), Err(Code::SchemaUnusable), "{text}");
    }
    let event = event("a:i64 b:str");
    let error = AvroPlan::compile(&fetched(&one(r#""long""#), &[]), &event, &projection(&["a", "b"])).unwrap_err();
    assert_eq!((error.code, error.path.as_str()), (Code::SchemaUnusable, "b"));
    assert!(error.reason.contains("\"b\""), "{error}");
}

#[test]
fn an_absent_optional_field_is_null_and_aliases_stand_in() {
    assert_eq!(decode(&one(r#""long""#), &[], "a:i64 b:str?", &["a", "b"], &[2]).unwrap(), "1 null");
    let event = event("x:i64");
    let aliases = ["gone".into(), "a".into()];
    let taking = crate::decode::Taking { field: crate::row::FieldIndex(0), path: "x", aliases: &aliases };
    let plan = AvroPlan::compile(&fetched(&one(r#""long""#), &[]), &event, &Projection::of_paths([taking]).unwrap()).unwrap();
    let mut into = builder(&event, Strictness::Record);
    into.begin();
    plan.fields(&[6], &mut AvroScratch::default(), &mut into).unwrap();
    assert_eq!(commit_and_show(&mut into), "3");
}

#[test]
fn a_union_branch_that_does_not_fit_is_refused_when_it_occurs() {
    let writer = one(r#"["null","long","string"]"#);
    assert_eq!(decode(&writer, &[], "a:i64?", &["a"], &[2, 2]).unwrap(), "1");
    assert_eq!(decode(&writer, &[], "a:i64?", &["a"], b"\x04\x02x"), Err(Code::DecodeTypeMismatch));
    assert_eq!(decode(&writer, &[], "a:i64", &["a"], &[0]), Err(Code::DecodeMissingField));
    assert_eq!(decode(&writer, &[], "a:i64?", &["a"], &[6]), Err(Code::DecodeMalformed));
    assert_eq!(decode(&writer, &[], "a:i64?", &["a"], &[1]), Err(Code::DecodeMalformed));
}

#[test]
fn paths_reach_into_records_maps_and_lists() {
    let writer = record_of(
        r#"{"name":"skip","type":{"type":"map","values":"long"}},
           {"name":"customer","type":["null",{"type":"record","name":"Customer","fields":[{"name":"id","type":"string"},{"name":"age","type":"int"}]}]},
           {"name":"items","type":{"type":"array","items":{"type":"record","name":"Item","fields":[
              {"name":"n","type":"int"},{"name":"price","type":["null","double"]},{"name":"maker","type":["null","Customer"]}]}}},
           {"name":"labels","type":{"type":"map","values":["string","long"]}}"#,
    );
    let full = [
        &[0x02, 0x02, b'k', 0x02, 0x00][..],
        b"\x02\x04c1\x3c",
        &[0x04, 0x02, 0x02, 0, 0, 0, 0, 0, 0, 0xF8, 0x3F, 0x00],
        b"\x04\x00\x02\x02m\x02\x00",
        b"\x04\x06env\x00\x08prod\x02z\x02\x02\x00",
    ]
    .concat();
    let cases: &[(&str, &[&str], &str)] = &[
        ("a:str?", &["customer.id"], "\"c1\""),
        ("a:i64? b:str? c:json?", &["customer.age", "customer.id", "customer"], r#"30 "c1" {"id":"c1","age":30}"#),
        ("a:json? b:json?", &["items[].price", "items[].n"], "[1.5,null] [1,2]"),
        (
            "a:json? b:json?",
            &["items", "items[].maker.id"],
            r#"[{"n":1,"price":1.5,"maker":null},{"n":2,"price":null,"maker":{"id":"m","age":1}}] [null,"m"]"#,
        ),
        ("a:json?", &["items[]"], r#"[{"n":1,"price":1.5,"maker":null},{"n":2,"price":null,"maker":{"id":"m","age":1}}]"#),
        ("a:str? b:i64?", &["labels.env", "labels.none"], "\"prod\" -"),
        ("a:str? b:i64?", &["customer.none", "customer.age"], "null 30"),
    ];
    for (fields, paths, expected) in cases {
        assert_eq!(decode(&writer, &[], fields, paths, &full).as_deref(), Ok(*expected), "{paths:?}");
    }
    let null_customer = [&[0x00, 0x00, 0x00][..], &[0x00]].concat();
    assert_eq!(
        decode(&writer, &[], "a:str? b:json? c:json?", &["customer.id", "items[].n", "customer"], &null_customer).unwrap(),
        "null [] null"
    );
    assert_eq!(decode(&writer, &[], "a:str", &["customer.id"], &null_customer), Err(Code::DecodeMissingField));
}

#[test]
fn references_and_namespaces_resolve() {
    let money = r#"{"type":"record","name":"Money","namespace":"lib","fields":[{"name":"units","type":"long"},{"name":"cur","type":{"type":"enum","name":"Cur","symbols":["EUR","USD"]}}]}"#;
    let price =
        r#"{"type":"record","name":"Price","namespace":"lib","fields":[{"name":"net","type":"Money"},{"name":"tax","type":"lib.Money"}]}"#;
    let root =
        r#"{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"p","type":"lib.Price"},{"name":"c","type":"lib.Cur"}]}"#;
    let got =
        decode(root, &[money, price, money], "a:i64? b:str? c:str? d:json?", &["p.tax.units", "p.net.cur", "c", "p"], &[2, 0, 4, 2, 2]);
    assert_eq!(got.unwrap(), r#"2 "EUR" "USD" {"net":{"units":1,"cur":"EUR"},"tax":{"units":2,"cur":"USD"}}"#);
    let inherited = r#"{"type":"record","name":"n.O","fields":[{"name":"a","type":{"type":"record","name":"I","fields":[{"name":"v","type":"int"}]}},{"name":"b","type":"I"}]}"#;
    assert_eq!(decode(inherited, &[], "x:i64? y:json?", &["b.v", "b"], &[2, 4]).unwrap(), r#"2 {"v":2}"#);
}

/// What a writer declared for its own use once made its records unreadable.
#[test]
fn schemas_that_a_reader_can_use_are_used() {
    type Case<'c> = (&'c str, &'c [&'c str], &'c str, &'c [u8], &'c str);
    let cases: &[Case<'_>] = &[
        // Defaults that do not fit, and whatever else only writers look at.
        (r#"{"name":"a","type":{"type":"string","default":null}}"#, &["a"], "str", b"\x02x", "\"x\""),
        (r#"{"name":"a","type":"string","default":null}"#, &["a"], "str", b"\x02x", "\"x\""),
        (
            r#"{"name":"a","type":["null","string"],"default":"none","order":"sideways","doc":7,"aliases":"b"}"#,
            &["a"],
            "str",
            b"\x02\x02x",
            "\"x\"",
        ),
        (r#"{"name":"a","type":{"type":"enum","name":"S","symbols":["X","Y"],"default":"Z"}}"#, &["a"], "str", &[2], "\"Y\""),
        (r#"{"name":"a","type":"int","default":{"a":[1]}}"#, &["a"], "i64", &[2], "1"),
        // Names that are not ASCII letters.
        (r#"{"name":"größe","type":"long"}"#, &["größe"], "i64", &[2], "1"),
        (
            r#"{"name":"a","type":{"type":"record","name":"Straße","namespace":"über.uns","fields":[{"name":"naïve","type":"long"}]}}"#,
            &["a.naïve"],
            "i64",
            &[2],
            "1",
        ),
        (
            r#"{"name":"a","type":{"type":"record","name":"注文","fields":[{"name":"数","type":"long"}]}}"#,
            &["a"],
            "json",
            &[2],
            r#"{"数":1}"#,
        ),
        (r#"{"name":"a","type":{"type":"enum","name":"S","symbols":["schön","a-b","1"]}}"#, &["a"], "str", &[2], "\"a-b\""),
        (r#"{"name":"my-field","type":"long"}"#, &["my-field"], "i64", &[2], "1"),
        (
            r#"{"name":"@t","type":{"type":"record","name":"E-1","namespace":"my-company.events","fields":[{"name":"$v","type":"long"}]}}"#,
            &["@t.$v"],
            "i64",
            &[2],
            "1",
        ),
        (r#"{"name":"x","type":{"type":"fixed","name":"é","size":1}},{"name":"a","type":"é"}"#, &["a"], "bytes", b"ab", "b[98]"),
        // Errors are records.
        (r#"{"name":"a","type":{"type":"error","name":"Oops","fields":[{"name":"code","type":"int"}]}}"#, &["a.code"], "i64", &[6], "3"),
        // Logical types that do not go with their base are their base.
        (r#"{"name":"a","type":{"type":"bytes","logicalType":"decimal","precision":2,"scale":9}}"#, &["a"], "bytes", b"\x02x", "b[120]"),
        (r#"{"name":"a","type":{"type":"bytes","logicalType":"decimal"}}"#, &["a"], "bytes", b"\x02x", "b[120]"),
        (r#"{"name":"a","type":{"type":"string","logicalType":"timestamp-millis"}}"#, &["a"], "str", b"\x02x", "\"x\""),
        (r#"{"name":"a","type":{"type":"fixed","name":"F","size":2,"logicalType":"uuid"}}"#, &["a"], "bytes", b"ab", "b[97, 98]"),
        // A name used before its definition, one of no namespace, one in its own.
        (
            r#"{"name":"a","type":"Later"},{"name":"b","type":{"type":"record","name":"Later","fields":[{"name":"v","type":"long"}]}}"#,
            &["a.v"],
            "i64",
            &[2, 4],
            "1",
        ),
        (r#"{"name":"z","type":{"type":"enum","name":".Top","symbols":["X"]}},{"name":"a","type":"Top"}"#, &["a"], "str", &[0, 0], "\"X\""),
        (
            r#"{"name":"z","type":{"type":"enum","name":"m.Deep","symbols":["X"]}},{"name":"a","type":"m.Deep"}"#,
            &["a"],
            "str",
            &[0, 0],
            "\"X\"",
        ),
        (r#"{"name":"a","type":{"type":{"type":"string","avro.java.string":"String"}}}"#, &["a"], "str", b"\x02x", "\"x\""),
    ];
    for (fields, paths, kind, body, expected) in cases {
        let got = decode(&record_of(fields), &[], &format!("a:{kind}?"), paths, body);
        assert_eq!(got.as_deref(), Ok(*expected), "{fields}");
    }
    let root = r#"{"type":"error","name":"Fehlschlag","fields":[{"name":"a","type":"long"}]}"#;
    assert_eq!(decode(root, &[], "a:i64?", &["a"], &[2]).unwrap(), "1");
    for fields in [
        r#"{"name":"a","type":"nosuch"}"#,
        r#"{"name":"a","type":"long"},{"name":"a","type":"long"}"#,
        r#"{"name":"a"}"#,
        r#"{"type":"long"}"#,
        r#"{"name":"a","type":{"type":"array"}}"#,
        r#"{"name":"a","type":{"type":"fixed","name":"F"}}"#,
        r#"{"name":"a","type":["null",["long"]]}"#,
        r#"{"name":"a","type":7}"#,
    ] {
        assert_eq!(decode(&record_of(fields), &[], "a:i64?", &["a"], &[2]), Err(Code::SchemaUnusable), "{fields}");
    }
}

#[test]
fn recursion_is_taken_to_a_depth_and_skipped_to_any() {
    let list = record_of(r#"{"name":"v","type":"long"},{"name":"next","type":["null","R"]}"#);
    let chain = |length: usize| [[2u8, 2].repeat(length - 1), vec![2, 0]].concat();
    assert_eq!(decode(&list, &[], "a:i64? b:i64?", &["v", "next.next.v"], &chain(3)).unwrap(), "1 1");
    assert_eq!(decode(&list, &[], "a:i64? b:i64?", &["v", "next.next.v"], &chain(2)).unwrap(), "1 null");
    assert!(decode(&list, &[], "a:json?", &["next"], &chain(64)).is_ok());
    assert_eq!(decode(&list, &[], "a:json?", &["next"], &chain(65)), Err(Code::DecodeMalformed));
    // What is not taken is skipped, however deep it is.
    assert_eq!(decode(&list, &[], "a:i64?", &["v"], &chain(65)).unwrap(), "1");
    assert_eq!(decode(&list, &[], "a:i64?", &["v"], &chain(200_000)).unwrap(), "1");
    assert_eq!(decode(&list, &[], "a:i64?", &["v"], &chain(200_000)[..399_000]), Err(Code::DecodeMalformed));
    let tree = record_of(
        r#"{"name":"kids","type":{"type":"array","items":"R"}},{"name":"m","type":{"type":"map","values":"R"}},{"name":"v","type":"long"}"#,
    );
    let nested = |depth: usize, open: &[u8], close: &[u8]| [open.repeat(depth), vec![0, 0, 2], close.repeat(depth)].concat();
    for (depth, taken) in [(10, true), (63, true), (100, true), (30_000, true), (40_000, false)] {
        let by_array = nested(depth, &[2], &[0, 0, 2]);
        assert_eq!(decode(&tree, &[], "a:i64?", &["v"], &by_array).is_ok(), taken, "{depth} arrays");
        let by_map = nested(depth, &[0, 2, 2, b'k'], &[0, 2]);
        assert_eq!(decode(&tree, &[], "a:i64?", &["v"], &by_map).is_ok(), taken, "{depth} maps");
        assert_eq!(
            decode(&tree, &[], "a:i64?", &["v"], &[&by_map[..], &[0]].concat()),
            Err(if taken { Code::DecodeTrailingBytes } else { Code::DecodeMalformed })
        );
    }
    // Nothing of it can ever be written.
    let endless = record_of(
        r#"{"name":"v","type":"long"},{"name":"e","type":{"type":"record","name":"E","fields":[{"name":"e","type":"E"},{"name":"f","type":"E"}]}}"#,
    );
    assert_eq!(decode(&endless, &[], "a:i64?", &["v"], &[2]), Err(Code::DecodeMalformed));
    let endless =
        record_of(r#"{"name":"v","type":"long"},{"name":"e","type":{"type":"record","name":"E","fields":[{"name":"e","type":"E"}]}}"#);
    assert_eq!(decode(&endless, &[], "a:i64?", &["v"], &[2]), Err(Code::DecodeMalformed));
}

#[test]
fn bytes_that_break_a_rule_are_refused() {
    let long = [0x80; 9];
    let cases: &[(&str, &str, &[u8], Code)] = &[
        (r#""long""#, "i64", &[], Code::DecodeMalformed),
        (r#""long""#, "i64", &[0x80], Code::DecodeMalformed),
        (r#""long""#, "i64", &[&long[..], &[0x02]].concat(), Code::DecodeMalformed),
        (r#""long""#, "i64", &[&long[..], &[0x80, 0x00]].concat(), Code::DecodeMalformed),
        (r#""int""#, "i64", &[0x80, 0x80, 0x80, 0x80, 0x10], Code::DecodeMalformed),
        (r#""long""#, "i64", &[2, 0], Code::DecodeTrailingBytes),
        (r#""boolean""#, "bool", &[2], Code::DecodeMalformed),
        (r#""boolean""#, "bool", &[], Code::DecodeMalformed),
        (r#""string""#, "str", b"\x06ab", Code::DecodeMalformed),
        (r#""string""#, "str", b"\x01", Code::DecodeMalformed),
        (r#""string""#, "str", b"\x02\xff", Code::DecodeMalformed),
        (r#""bytes""#, "str", b"\x02\xff", Code::DecodeTypeMismatch),
        (r#""double""#, "f64", &[0, 0, 0, 0, 0, 0, 0xF0, 0x7F], Code::DecodeOutOfRange),
        (r#""double""#, "json", &[0, 0, 0, 0, 0, 0, 0xF8, 0x7F], Code::DecodeOutOfRange),
        (r#"{"type":"enum","name":"S","symbols":["x"]}"#, "str", &[2], Code::DecodeMalformed),
        (r#"{"type":"enum","name":"S","symbols":["x"]}"#, "str", &[1], Code::DecodeMalformed),
        (r#"{"type":"string","logicalType":"uuid"}"#, "str", b"\x02x", Code::DecodeMalformed),
        (r#"{"type":"array","items":"long"}"#, "json", &[0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 2], Code::DecodeMalformed),
        (r#"{"type":"array","items":"long"}"#, "json", &[0x03, 6, 2, 4, 0], Code::DecodeMalformed),
        (
            r#"{"type":"array","items":"null"}"#,
            "json",
            &[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01, 0],
            Code::DecodeMalformed,
        ),
        (
            r#"{"type":"array","items":"null"}"#,
            "json",
            &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01, 0, 0],
            Code::DecodeMalformed,
        ),
    ];
    for (writer, kind, body, code) in cases {
        assert_eq!(decode(&one(writer), &[], &format!("a:{kind}?"), &["a"], body), Err(*code), "{writer} {body:?}");
        let skipped = record_of(&format!(r#"{{"name":"z","type":{writer}}},{{"name":"a","type":"null"}}"#));
        if *code == Code::DecodeMalformed && !body.starts_with(&[0x03]) && !body.starts_with(&[0xFF, 0xFF]) {
            assert_eq!(decode(&skipped, &[], "a:json?", &["a"], body), Err(*code), "skipped {writer} {body:?}");
        }
    }
}

#[test]
fn blocks_with_a_size_are_skipped_unseen() {
    let writer = record_of(r#"{"name":"z","type":{"type":"array","items":"string"}},{"name":"a","type":"long"}"#);
    assert_eq!(decode(&writer, &[], "a:i64?", &["a"], &[0x03, 0x06, 0xFF, 0xFF, 0xFF, 0x00, 0x02]).unwrap(), "1");
    assert_eq!(decode(&writer, &[], "a:i64?", &["a"], &[0x03, 0x0E, 0xFF, 0xFF, 0xFF, 0x00, 0x02]), Err(Code::DecodeMalformed));
}

/// A small generator of schemas and data from one seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn long(&mut self) -> i64 {
        let bits = self.below(64);
        (self.next() >> bits).cast_signed()
    }

    fn text(&mut self) -> String {
        (0..self.below(6)).map(|_| ['a', '"', 'é', '😀', '\n', 'z'][self.below(6) as usize]).collect()
    }

    fn bytes(&mut self, len: u64) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    fn schema(&mut self, depth: u32, names: &mut Vec<String>) -> Json {
        let name = |names: &mut Vec<String>| {
            names.push(format!("N{}", names.len()));
            names.last().unwrap().clone()
        };
        match self.below(if depth == 0 { 16 } else { 24 }) {
            0 => json!("null"),
            1 => json!("boolean"),
            2 => json!("int"),
            3 => json!("long"),
            4 => json!("float"),
            5 => json!("double"),
            6 => json!("bytes"),
            7 => json!("string"),
            8 => {
                let logical = ["timestamp-millis", "timestamp-micros", "timestamp-nanos", "local-timestamp-millis", "time-micros"];
                let logical = logical[self.below(5) as usize];
                json!({"type": "long", "logicalType": logical})
            }
            9 => {
                let logical = ["date", "time-millis"][self.below(2) as usize];
                json!({"type": "int", "logicalType": logical})
            }
            10 => json!({"type": "string", "logicalType": "uuid"}),
            11 => json!({"type": "fixed", "name": name(names), "size": self.below(20)}),
            12 => json!({"type": "enum", "name": name(names), "symbols": ["A", "B", "C"]}),
            13 => json!({"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": self.below(6)}),
            14 => {
                json!({"type": {"type": "fixed", "name": name(names), "size": 1 + self.below(20)}, "logicalType": "decimal", "precision": 2, "scale": self.below(3)})
            }
            15 if !names.is_empty() => json!(names[self.below(names.len() as u64) as usize].clone()),
            15 => json!("string"),
            16 | 17 => json!({"type": "array", "items": self.schema(depth - 1, names)}),
            18 => json!({"type": "map", "values": self.schema(depth - 1, names)}),
            19..=21 => {
                let mut branches = vec![json!("null"), json!("long"), json!("string"), json!("double"), json!("boolean")];
                branches.push(json!({"type": "array", "items": self.schema(depth - 1, names)}));
                branches.push(json!({"type": "enum", "name": name(names), "symbols": ["X", "Y"]}));
                let keep = 1 + self.below(branches.len() as u64);
                while branches.len() as u64 > keep {
                    let index = self.below(branches.len() as u64) as usize;
                    branches.remove(index);
                }
                Json::Array(branches)
            }
            _ => {
                let own = format!("R{}", self.next());
                let mut fields: Vec<Json> =
                    (0..self.below(4)).map(|index| json!({"name": format!("g{index}"), "type": self.schema(depth - 1, names)})).collect();
                if self.below(2) == 0 {
                    fields.push(json!({"name": "next", "type": ["null", own]}));
                }
                names.push(own.clone());
                json!({"type": "record", "name": own, "fields": fields})
            }
        }
    }

    fn datum(&mut self, schema: &Schema, names: &Names<'_>, depth: u32) -> Value {
        match schema {
            Schema::Null => Value::Null,
            Schema::Boolean => Value::Boolean(self.below(2) == 0),
            Schema::Int => Value::Int(self.long() as i32),
            Schema::Long => Value::Long(self.long()),
            Schema::Float => Value::Float(self.long() as f32 / 8.0),
            Schema::Double => Value::Double(self.long() as f64 / 64.0),
            Schema::Bytes => {
                let len = self.below(9);
                Value::Bytes(self.bytes(len))
            }
            Schema::String => Value::String(self.text()),
            Schema::TimestampMillis => Value::TimestampMillis(self.long()),
            Schema::TimestampMicros => Value::TimestampMicros(self.long()),
            Schema::TimestampNanos => Value::TimestampNanos(self.long()),
            Schema::LocalTimestampMillis => Value::LocalTimestampMillis(self.long()),
            Schema::TimeMicros => Value::TimeMicros(self.long()),
            Schema::Date => Value::Date(self.long() as i32),
            Schema::TimeMillis => Value::TimeMillis(self.long() as i32),
            Schema::Uuid(_) => Value::Uuid(apache_avro::Uuid::from_u128(u128::from(self.next()) << 64 | u128::from(self.next()))),
            Schema::Fixed(fixed) => Value::Fixed(fixed.size, self.bytes(fixed.size as u64)),
            Schema::Enum(symbols) => {
                let index = self.below(symbols.symbols.len() as u64) as usize;
                Value::Enum(index as u32, symbols.symbols[index].clone())
            }
            Schema::Decimal(decimal) => {
                let len = match &decimal.inner {
                    apache_avro::schema::InnerDecimalSchema::Fixed(fixed) => fixed.size as u64,
                    apache_avro::schema::InnerDecimalSchema::Bytes => 1 + self.below(20),
                };
                Value::Decimal(apache_avro::Decimal::from(self.bytes(len)))
            }
            Schema::Array(array) => {
                let items = if depth > 5 { 0 } else { self.below(4) };
                Value::Array((0..items).map(|_| self.datum(&array.items, names, depth + 1)).collect())
            }
            Schema::Map(map) => {
                let items = if depth > 5 { 0 } else { self.below(4) };
                Value::Map((0..items).map(|index| (format!("{index}{}", self.text()), self.datum(&map.types, names, depth + 1))).collect())
            }
            Schema::Union(union) => {
                let null = union.variants().iter().position(|variant| matches!(variant, Schema::Null));
                let index = match null {
                    Some(null) if depth > 3 => null,
                    _ => self.below(union.variants().len() as u64) as usize,
                };
                Value::Union(index as u32, Box::new(self.datum(&union.variants()[index], names, depth + 1)))
            }
            Schema::Record(record) => {
                Value::Record(record.fields.iter().map(|field| (field.name.clone(), self.datum(&field.schema, names, depth + 1))).collect())
            }
            Schema::Ref { name } => {
                let (schema, _) = names.get(&name.fullname(None)).unwrap();
                self.datum(schema, names, depth)
            }
            other => panic!("not generated: {other:?}"),
        }
    }
}

/// What ours documents for a value inside of JSON.
fn as_json(value: &Value, schema: &Schema, names: &Names<'_>) -> Json {
    let base64 = |bytes: &[u8]| Json::from(base64::engine::general_purpose::STANDARD.encode(bytes));
    let schema = match schema {
        Schema::Ref { name } => names.get(&name.fullname(None)).unwrap().0,
        schema => schema,
    };
    match (value, schema) {
        (Value::Null, _) => Json::Null,
        (Value::Boolean(truth), _) => json!(truth),
        (Value::Int(number) | Value::Date(number) | Value::TimeMillis(number), _) => json!(number),
        (Value::Long(number) | Value::TimeMicros(number) | Value::TimestampMillis(number) | Value::LocalTimestampMillis(number), _) => {
            json!(number)
        }
        (Value::TimestampMicros(number), _) => json!(number.div_euclid(1000)),
        (Value::TimestampNanos(number), _) => json!(number.div_euclid(1_000_000)),
        (Value::Float(number), _) => json!(f64::from(*number)),
        (Value::Double(number), _) => json!(number),
        (Value::Bytes(bytes) | Value::Fixed(_, bytes), _) => base64(bytes),
        (Value::String(text), _) => json!(text),
        (Value::Enum(_, symbol), _) => json!(symbol),
        (Value::Uuid(uuid), _) => json!(uuid.to_string()),
        (Value::Decimal(decimal), Schema::Decimal(declared)) => {
            let bytes = Vec::<u8>::try_from(decimal).unwrap();
            let mut text = String::new();
            assert!(crate::row::decimal::push_text(&bytes, declared.scale, &mut text));
            serde_json::from_str(&text).unwrap()
        }
        (Value::Array(items), Schema::Array(array)) => items.iter().map(|item| as_json(item, &array.items, names)).collect(),
        (Value::Map(items), Schema::Map(map)) => {
            Json::Object(items.iter().map(|(key, item)| (key.clone(), as_json(item, &map.types, names))).collect())
        }
        (Value::Union(index, inner), Schema::Union(union)) => as_json(inner, &union.variants()[*index as usize], names),
        (Value::Record(values), Schema::Record(record)) => Json::Object(
            values.iter().zip(&record.fields).map(|((name, value), field)| (name.clone(), as_json(value, &field.schema, names))).collect(),
        ),
        other => panic!("not expected: {other:?}"),
    }
}

/// What a json field holds, as JSON again.
fn cell_json(cell: Cell<'_>) -> Json {
    match cell {
        Cell::Absent | Cell::Null => Json::Null,
        Cell::Bool(truth) => json!(truth),
        Cell::I64(number) => json!(number),
        Cell::F64(number) => json!(number),
        Cell::Str(text) => json!(std::str::from_utf8(text).unwrap()),
        Cell::Bytes(bytes) => json!(base64::engine::general_purpose::STANDARD.encode(bytes)),
        Cell::Json(text) => serde_json::from_slice(text).unwrap(),
        Cell::Datetime(millis) => json!(millis),
    }
}

/// Doubles through one more reading: serde_json may be one bit off what it wrote, and so may its reading of our text.
fn nearly(left: &Json, right: &Json) -> bool {
    match (left, right) {
        (Json::Number(left), Json::Number(right)) => {
            left == right || (left.as_f64().unwrap() - right.as_f64().unwrap()).abs() <= right.as_f64().unwrap().abs() * 1e-15
        }
        (Json::Array(left), Json::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| nearly(left, right))
        }
        (Json::Object(left), Json::Object(right)) => {
            left.len() == right.len() && left.iter().all(|(key, left)| right.get(key).is_some_and(|right| nearly(left, right)))
        }
        // The oracle writes a uuid in lower case, ours keeps the writer's.
        (Json::String(left), Json::String(right)) if left.len() == 36 => left.eq_ignore_ascii_case(right),
        _ => left == right,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn random_schemas_and_data_decode_as_apache_avro_decodes_them(seed in any::<u64>(), damage in any::<prop::sample::Index>(), byte in any::<u8>()) {
        apache_avro::util::max_allocation_bytes(1 << 22);
        let mut dice = Dice(seed);
        let mut names = Vec::new();
        let fields: Vec<Json> = (0..1 + dice.below(5)).map(|index| json!({"name": format!("f{index}"), "type": dice.schema(3, &mut names)})).collect();
        let text = json!({"type": "record", "name": "Root", "fields": fields}).to_string();
        let Ok(schema) = Schema::parse_str(&text) else { return Ok(()) };
        let mut names = Names::default();
        names.collect(&schema, None);
        let value = dice.datum(&schema, &names, 0);
        let body = apache_avro::writer::datum::GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(value).unwrap();
        let oracle = |body: &[u8]| apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut &*body);
        // About a third of the fields is skipped.
        let taken: Vec<String> = (0..fields.len()).filter(|_| dice.below(3) > 0).map(|index| format!("f{index}")).collect();
        let event = event(&taken.iter().map(|name| format!("{name}:json?")).collect::<Vec<_>>().join(" "));
        let paths: Vec<&str> = taken.iter().map(String::as_str).collect();
        let plan = AvroPlan::compile(&fetched(&text, &[]), &event, &projection(&paths)).unwrap();
        let mut scratch = AvroScratch::default();
        let mut into = builder(&event, Strictness::Record);
        let mut ours = |body: &[u8]| -> Result<Vec<Json>, Code> {
            into.begin();
            if let Err(bad) = plan.fields(body, &mut scratch, &mut into) {
                into.rollback();
                return Err(bad.code);
            }
            into.commit(0, None, false).unwrap();
            let rows = into.finish();
            Ok((0..taken.len()).map(|index| cell_json(rows.cell(index, FieldType::Json, 0))).collect())
        };
        let expected = |value: &Value| -> Vec<Json> {
            let Json::Object(all) = as_json(value, &schema, &names) else { panic!("a record") };
            taken.iter().map(|name| all[name].clone()).collect()
        };
        let same = |ours: &[Json], theirs: &[Json]| ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| nearly(ours, theirs));
        let theirs = expected(&oracle(&body).unwrap());
        let got = ours(&body);
        prop_assert!(got.as_ref().is_ok_and(|got| same(got, &theirs)), "{}\n{:?}\n{:?}", text, got, theirs);
        let mut longer = body.clone();
        longer.push(0);
        prop_assert!(ours(&longer).is_err());
        // Blocks that name their size are skipped unseen, where the oracle walks them and does not look at the size.
        let has_blocks = text.contains("\"array\"") || text.contains("\"map\"");
        let mut damaged = body.clone();
        if !damaged.is_empty() {
            let at = damage.index(damaged.len());
            damaged[at] = byte;
        }
        let cut = &body[..damage.index(body.len() + 1)];
        for bytes in [&damaged[..], cut] {
            if let Ok(got) = ours(bytes) && !has_blocks {
                let theirs = oracle(bytes);
                prop_assert!(theirs.as_ref().is_ok_and(|theirs| same(&got, &expected(theirs))), "{}\n{:?}\n{:?}\n{:?}", text, bytes, got, theirs);
            }
        }
        prop_assert!(cut.len() == body.len() || ours(cut).is_err());
    }

    #[test]
    fn any_bytes_get_an_answer(body in prop::collection::vec(any::<u8>(), 0..80)) {
        let writer = record_of(
            r#"{"name":"a","type":["null","long","string",{"type":"array","items":["null","R","double"]}]},{"name":"m","type":{"type":"map","values":"R"}},
               {"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},{"name":"b","type":{"type":"bytes","logicalType":"big-decimal"}}"#,
        );
        let _ = decode(&writer, &[], "a:json? b:json? c:json? d:f64? e:str?", &["a", "m", "m.x.a", "d", "b"], &body);
    }
}
