//! Protobuf against prost-reflect, which decodes by itself: what it writes is read as it reads it, whole and field by
//! field, and mutated bytes are refused or read alike. Then what the encoding says about order, defaults and presence.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::decode::fixture::{builder, choices, event, projection, show_row};
use crate::row::Strictness;
use proptest::prelude::*;
use prost_reflect::prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, SerializeOptions, Value as Oracle};
use serde_json::Value as Json;
use streamgauge_api::inlet::SchemaReference;

const PROTO: &str = r#"
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "confluent/type/decimal.proto";
enum Kind { UNKNOWN = 0; SALE = 1; REFUND = 2; }
message Outer { Order m = 1; }
message Order {
  double f64 = 1; float f32 = 2; int32 i32 = 3; int64 i64 = 4; uint32 u32 = 5; uint64 u64 = 6; sint32 s32 = 7; sint64 s64 = 8;
  fixed32 x32 = 9; fixed64 x64 = 10; sfixed32 sx32 = 11; sfixed64 sx64 = 12; bool truth = 13; string text = 14; bytes raw = 15; Kind kind = 16;
  optional int64 maybe = 17; optional string note = 18; optional Kind maybe_kind = 19;
  Customer customer = 20;
  repeated int64 numbers = 21; repeated string tags = 22; repeated Item items = 23; repeated sint32 loose = 24 [packed = false];
  map<string, string> attrs = 25; map<int32, Item> by_number = 26; map<bool, double> flags = 27;
  oneof way { string card = 28; int64 cash = 29; Item voucher = 30; }
  Order parent = 31;
  repeated Kind kinds = 32;
}
message Customer { string id = 1; optional string name = 2; Address address = 3; message Address { string city = 1; } }
message Item { string sku = 1; double price = 2; repeated string notes = 3; optional int64 count = 4; }
message Timed { google.protobuf.Timestamp at = 1; google.protobuf.Int64Value wrapped = 2; confluent.type.Decimal price = 3; int64 old = 4; int64 new = 5; optional int64 opt = 6; }
"#;

pub(super) fn fetched(text: &str, references: &[(&str, &str)]) -> FetchedSchema {
    let reference = |&(name, text): &(&str, &str)| SchemaReference { name: name.into(), text: text.into() };
    let references = references.iter().map(reference).collect();
    FetchedSchema { registry: "r".into(), id: 9.into(), kind: "PROTOBUF".into(), text: text.into(), references }
}

fn message(name: &str) -> MessageDescriptor {
    Linked::parse(&fetched(PROTO, &[])).unwrap().message(Some(&format!("shop.{name}"))).unwrap()
}

/// A body from the JSON of a message, as prost-reflect reads and writes it.
fn body(name: &str, json: &str) -> Vec<u8> {
    let mut text = serde_json::Deserializer::from_str(json);
    DynamicMessage::deserialize(message(name), &mut text).unwrap().encode_to_vec()
}

fn read(name: &str, fields: &str, paths: &[&str], body: &[u8]) -> Result<String, (Code, String)> {
    let event = event(fields);
    let plan = MessagePlan::of(&fetched(PROTO, &[]), Some(&format!("shop.{name}")), &event, &projection(paths));
    let plan = plan.map_err(|error| (error.code, error.reason))?;
    let mut into = builder(&event, Strictness::Record);
    into.begin();
    plan.fields(body, &mut ProtobufScratch::default(), &mut into).map_err(|bad| (bad.code, bad.reason.clone()))?;
    into.commit(0, None, false).map_err(|error| (error.code, error.reason))?;
    Ok(show_row(&into.finish(), &event, 0))
}

#[test]
fn values_come_from_paths_with_their_defaults_and_presence() {
    let full = body(
        "Order",
        r#"{"f64":1.5,"i32":-7,"u64":"18446744073709551615","text":"t","raw":"AQI=","kind":"REFUND","maybe":"0","customer":{"id":"c1","address":{"city":"Ulm"}},
        "numbers":["1","-2"],"tags":["a","b"],"items":[{"sku":"x","price":2},{"count":"3"}],"loose":[-1,1],"attrs":{"user.id":"u1","b":"2"},
        "byNumber":{"7":{"sku":"seven"}},"cash":"5","kinds":["SALE"]}"#,
    );
    let empty: &[u8] = b"";
    let cases: &[(&str, &[&str], &[u8], &str)] = &[
        (
            "a:f64 b:i64 c:str d:bytes e:str e2:i64",
            &["f64", "i32", "text", "raw", "kind", "kind"],
            &full,
            "1.5 -7 \"t\" b[1, 2] \"REFUND\" 2",
        ),
        ("a:f64 b:i64 c:str d:bytes e:str", &["f64", "i32", "text", "raw", "kind"], empty, "0.0 0 \"\" b[] \"UNKNOWN\""),
        ("a:i64? b:str? c:str?", &["maybe", "note", "maybe_kind"], &full, "0 null null"),
        ("a:i64? b:str? c:str?", &["maybe", "note", "maybe_kind"], empty, "null null null"),
        ("a:str? b:str? c:str?", &["customer.id", "customer.name", "customer.address.city"], &full, "\"c1\" null \"Ulm\""),
        ("a:str? b:str? c:str?", &["customer.id", "customer.name", "customer.address.city"], empty, "null null null"),
        ("a:json b:json c:json", &["numbers", "tags", "loose"], &full, r#"[1,-2] ["a","b"] [-1,1]"#),
        ("a:json b:json", &["numbers", "items[].sku"], empty, "[] []"),
        (
            "a:json b:json c:json d:json",
            &["items[].sku", "items[].count", "items[].notes", "tags[]"],
            &full,
            r#"["x",""] [null,3] [[],[]] ["a","b"]"#,
        ),
        ("a:str? b:str? c:str?", &["attrs.\"user.id\"", "attrs.none", "by_number.7.sku"], &full, "\"u1\" null \"seven\""),
        (
            "a:json b:json c:json",
            &["attrs", "by_number", "flags"],
            &full,
            r#"{"b":"2","user.id":"u1"} {"7":{"sku":"seven","price":0.0,"notes":[]}} {}"#,
        ),
        ("a:i64? b:str? c:json?", &["cash", "card", "voucher"], &full, "5 null null"),
        ("a:f64 b:f64", &["u64", "i64"], &full, "1.8446744073709552e19 0.0"),
        ("a:str? z:str?", &["text", "never.there"], &full, "\"t\" null"),
        ("a:json", &["customer"], &full, r#"{"id":"c1","address":{"city":"Ulm"}}"#),
        ("a:json", &["kinds"], &full, r#"["SALE"]"#),
    ];
    for (fields, paths, bytes, expected) in cases {
        let got = read("Order", fields, paths, bytes);
        // Maps are written in an order of the writer's own.
        let plain = |text: &str| {
            let mut symbols: Vec<char> = text.chars().collect();
            symbols.sort_unstable();
            symbols
        };
        assert_eq!(got.as_ref().map(|row| plain(row)), Ok(plain(expected)), "{fields} {paths:?}: {got:?}");
    }
}

#[test]
fn the_last_value_counts_oneofs_are_exclusive_and_split_messages_are_merged() {
    let part = |json: &str| body("Order", json);
    let two = |a: &str, b: &str| [part(a), part(b)].concat();
    for (bytes, fields, paths, expected) in [
        (two(r#"{"text":"a","i32":1}"#, r#"{"text":"b"}"#), "a:str b:i64", &["text", "i32"][..], "\"b\" 1"),
        (two(r#"{"card":"c"}"#, r#"{"cash":"3"}"#), "a:str? b:i64?", &["card", "cash"], "null 3"),
        (two(r#"{"cash":"3"}"#, r#"{"card":"c"}"#), "b:i64?", &["cash"], "null"),
        (two(r#"{"cash":"3"}"#, r#"{"voucher":{}}"#), "b:i64? a:str?", &["cash", "voucher.sku"], "null \"\""),
        (two(r#"{"numbers":["1"]}"#, r#"{"numbers":["2","3"]}"#), "a:json", &["numbers"], "[1,2,3]"),
        (
            two(r#"{"customer":{"id":"a","name":"n"}}"#, r#"{"customer":{"id":"b"}}"#),
            "a:str? b:str?",
            &["customer.id", "customer.name"],
            "\"b\" \"n\"",
        ),
        (
            two(r#"{"parent":{"customer":{"id":"a"}}}"#, r#"{"parent":{"customer":{"name":"n"}}}"#),
            "a:json",
            &["parent.customer"],
            r#"{"id":"a","name":"n"}"#,
        ),
        (two(r#"{"attrs":{"k":"1"}}"#, r#"{"attrs":{"k":"2"}}"#), "a:str? b:json", &["attrs.k", "attrs"], r#""2" {"k":"2"}"#),
        // An entry without a value, and one without a key.
        (b"\xca\x01\x03\x0a\x01k".to_vec(), "a:str? b:json", &["attrs.k", "attrs"], r#""" {"k":""}"#),
        (b"\xca\x01\x03\x12\x01v".to_vec(), "b:json", &["attrs"], r#"{"":"v"}"#),
        // Numbers one by one where they are packed else, and packed where they are not.
        (b"\xa8\x01\x05\xa8\x01\x06".to_vec(), "a:json", &["numbers"], "[5,6]"),
        (b"\xc2\x01\x02\x01\x02".to_vec(), "a:json", &["loose"], "[-1,1]"),
        // A symbol that the schema does not have.
        (b"\x80\x01\x63".to_vec(), "a:str b:i64", &["kind", "kind"], "\"99\" 99"),
    ] {
        assert_eq!(read("Order", fields, paths, &bytes).as_deref(), Ok(expected), "{paths:?}");
    }
}

#[test]
fn times_wrappers_and_decimals_are_values() {
    let timed =
        body("Timed", r#"{"at":"2023-11-14T22:13:20.123456Z","wrapped":"5","price":{"value":"BNI=","precision":4,"scale":2},"old":"7"}"#);
    for (fields, paths, expected) in [
        ("a:datetime b:i64? c:f64? d:str?", &["at", "wrapped", "price", "price"][..], "t1700000000123 5 12.34 \"12.34\""),
        ("a:json b:json c:json", &["at", "wrapped", "price"], "1700000000123 5 12.34"),
        ("a:i64?", &["at.seconds"], "1700000000"),
    ] {
        assert_eq!(read("Timed", fields, paths, &timed).as_deref(), Ok(expected), "{paths:?}");
        assert!(read("Timed", &fields.replace("datetime", "datetime?").replace("json", "json?"), paths, b"").is_ok());
    }
    assert_eq!(read("Timed", "a:datetime", &["at"], b"\x0a\x02\x10\x01").as_deref(), Ok("t0"));
    assert_eq!(
        read("Timed", "a:datetime", &["at"], b"\x0a\x0c\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x10\x01").unwrap_err().0,
        Code::DecodeOutOfRange
    );
}

#[test]
fn of_several_paths_the_first_that_was_written_is_taken() {
    let of = |json: &str| {
        let event = event("v:i64?");
        let paths = ["new", "old", "opt"].map(str::to_owned).to_vec();
        let plan = MessagePlan::of(&fetched(PROTO, &[]), Some("shop.Timed"), &event, &choices(&[paths])).unwrap();
        let mut into = builder(&event, Strictness::Record);
        into.begin();
        plan.fields(&body("Timed", json), &mut ProtobufScratch::default(), &mut into).unwrap();
        into.commit(0, None, false).unwrap();
        show_row(&into.finish(), &event, 0)
    };
    for (json, expected) in [(r#"{"old":"7"}"#, "7"), (r#"{"old":"7","new":"8"}"#, "8"), (r#"{"opt":"0"}"#, "0"), ("{}", "0")] {
        assert_eq!(of(json), expected, "{json}");
    }
}

#[test]
fn what_a_schema_cannot_give_is_told_when_it_comes() {
    for (fields, paths, part) in [
        ("a:str", &["nope"][..], "no \"nope\""),
        ("a:str", &["customer.nope"], "no \"customer.nope\""),
        ("a:str", &["numbers[].x"], "no \"numbers[].x\""),
        ("a:i64", &["text"], "the message has a string"),
        ("a:str", &["customer"], "the message has a message"),
        ("a:str", &["numbers"], "the message has an array"),
        ("a:bool", &["i64"], "the message has an integer"),
    ] {
        let (code, reason) = read("Order", fields, paths, b"").unwrap_err();
        assert!(code == Code::SchemaUnusable && reason.contains(part), "{reason}");
    }
    for (schema, part) in [
        (fetched("message {", &[]), "no Protobuf schema"),
        (fetched("syntax = \"proto3\"; import \"other.proto\"; message A { Other o = 1; }", &[]), "other.proto"),
        (fetched("syntax = \"proto2\"; message A { optional group G = 1 { optional string s = 2; } }", &[]), "group"),
        (FetchedSchema { kind: "AVRO".into(), ..fetched("{}", &[]) }, "reads Protobuf"),
        (fetched("syntax = \"proto3\"; message A {} message B {}", &[]), "several messages"),
    ] {
        let error = MessagePlan::of(&schema, None, &event("a:str?"), &projection(&["a"])).unwrap_err();
        assert!(error.code == Code::SchemaUnusable && error.reason.contains(part), "{}", error.reason);
    }
}

/// Only the last file's messages were listed, and its only one was taken in silence.
#[test]
fn messages_of_all_files_of_a_set_that_none_imports_are_to_choose_from() {
    use base64::Engine as _;
    use prost_reflect::prost::Message as _;
    use prost_reflect::prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};
    let file = |name: &str, imports: &[&str], messages: &[&str]| FileDescriptorProto {
        name: Some(name.to_owned()),
        package: Some("shop".to_owned()),
        dependency: imports.iter().map(|&import| import.to_owned()).collect(),
        message_type: messages.iter().map(|&name| DescriptorProto { name: Some(name.to_owned()), ..DescriptorProto::default() }).collect(),
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    };
    let of = |files: Vec<FileDescriptorProto>, name: Option<&str>| {
        let bytes = FileDescriptorSet { file: files }.encode_to_vec();
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        MessagePlan::of(&fetched(&text, &[]), name, &event("a:str?"), &projection(&["a"]))
            .map(|plan| plan.led_nowhere().len())
            .map_err(|error| error.reason)
    };
    let common = || file("common.proto", &[], &["Money"]);
    let order = || file("order.proto", &["common.proto"], &["Order"]);
    let refund = || file("refund.proto", &["common.proto"], &["Refund"]);
    // One that the others only import is not what the set is for; the path `a` is in none of them.
    assert_eq!(of(vec![common(), order()], None), Ok(1));
    let several = of(vec![common(), order(), refund()], None).unwrap_err();
    assert!(several.contains("several messages") && several.contains("shop.Order, shop.Refund"), "{several}");
    assert_eq!(of(vec![common(), order(), refund()], Some("shop.Order")), Ok(1));
    assert_eq!(of(vec![common(), order(), refund()], Some("shop.Money")), Ok(1));
    let unknown = of(vec![common(), order(), refund()], Some("shop.Ordr")).unwrap_err();
    assert!(unknown.contains("did you mean `shop.Order`?") && unknown.contains("shop.Refund"), "{unknown}");
}

#[test]
fn a_registrys_records_say_which_message_they_are() {
    let other = "syntax = \"proto3\"; package other; message Id { string id = 1; }";
    let text = "syntax = \"proto3\"; import \"other.proto\"; import \"confluent/meta.proto\";\n\
                message First { int64 n = 1 [(confluent.field_meta).doc = \"number\"]; }\n\
                message Second { other.Id who = 1; message Inner { other.Id who = 1; } }";
    let event = event("w:str?");
    let projection = projection(&["who.id"]);
    let required = crate::decode::fixture::event("w:str");
    let mut plans = MessagePlans::compile(&fetched(text, &[("other.proto", other)]), &required, &projection).unwrap();
    let mut scratch = ProtobufScratch::default();
    let mut of = |indexes: Option<&[u8]>, body: &[u8]| {
        let mut into = builder(&event, Strictness::Record);
        into.begin();
        match plans.fields(indexes, body, &mut scratch, &mut into, &projection) {
            Ok(()) => {
                into.commit(0, None, false).unwrap();
                Ok(show_row(&into.finish(), &event, 0))
            }
            Err(Unread::Bad(bad)) => Err(bad.code),
            Err(Unread::Unusable(error)) => Err(error.code),
        }
    };
    let who = b"\x0a\x03\x0a\x01x";
    for (indexes, expected) in [
        (&b"\x02\x02"[..], Ok("\"x\"")),
        (b"\x04\x02\x00", Ok("\"x\"")),
        (b"\x00", Err(Code::DecodeMalformed)),
        (b"\x02\x06", Err(Code::DecodeFraming)),
        (b"\x04\x02\x02", Err(Code::DecodeFraming)),
        (b"\x01\x02", Err(Code::DecodeFraming)),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Err(Code::DecodeFraming)),
        (b"", Err(Code::DecodeFraming)),
    ] {
        let framed = [indexes, who].concat();
        if !indexes.is_empty() {
            let got = of(None, &framed);
            if indexes != b"\x00" {
                assert_eq!(got.as_deref().map_err(|code| *code), expected, "{indexes:?}");
            }
            let got = of(Some(indexes), who);
            if indexes != b"\x00" {
                assert_eq!(got.as_deref().map_err(|code| *code), expected, "{indexes:?}");
            }
        }
    }
    // The file's first message serves nobody who needs `who`; one of the file does, so the schema is usable.
    assert!(
        MessagePlans::compile(&fetched(text, &[("other.proto", other)]), &crate::decode::fixture::event("w:i64"), &projection).is_err()
    );
}

#[test]
fn a_descriptor_set_is_read_as_protoc_writes_it() {
    use base64::Engine as _;
    let linked = Linked::parse(&fetched(PROTO, &[])).unwrap();
    let set = linked.pool().encode_to_vec();
    let text = base64::engine::general_purpose::STANDARD.encode(set);
    let event = event("a:i64");
    let plan = MessagePlan::of(&fetched(&text, &[]), Some("shop.Order"), &event, &projection(&["i64"])).unwrap();
    let mut into = builder(&event, Strictness::Record);
    into.begin();
    plan.fields(b"\x20\x07", &mut ProtobufScratch::default(), &mut into).unwrap();
    into.commit(0, None, false).unwrap();
    assert_eq!(show_row(&into.finish(), &event, 0), "7");
}

/// A message with about half of its fields set, from a seed.
fn random(message: &MessageDescriptor, dice: &mut impl FnMut(u64) -> u64, depth: u32) -> DynamicMessage {
    let mut made = DynamicMessage::new(message.clone());
    for field in message.fields() {
        if dice(2) == 0 || depth > 2 && matches!(field.kind(), Kind::Message(_)) {
            continue;
        }
        let value = if field.is_map() {
            let Kind::Message(entry) = field.kind() else { panic!("a map has entries") };
            let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
            let entries = (0..dice(4)).map(|_| {
                let key = match scalar(&key, dice, depth) {
                    Oracle::String(text) => MapKey::String(text),
                    Oracle::I32(number) => MapKey::I32(number),
                    Oracle::Bool(truth) => MapKey::Bool(truth),
                    other => panic!("{other:?}"),
                };
                (key, scalar(&value, dice, depth))
            });
            Oracle::Map(entries.collect())
        } else if field.is_list() {
            Oracle::List((0..dice(4)).map(|_| scalar(&field, dice, depth)).collect())
        } else {
            scalar(&field, dice, depth)
        };
        made.set_field(&field, value);
    }
    made
}

fn scalar(field: &FieldDescriptor, dice: &mut impl FnMut(u64) -> u64, depth: u32) -> Oracle {
    let word = dice(u64::MAX) >> (dice(64) as u32);
    let signed = if dice(2) == 0 { word.cast_signed() } else { word.cast_signed().wrapping_neg() };
    match field.kind() {
        Kind::Double => Oracle::F64(signed as f64 / 8.0),
        Kind::Float => Oracle::F32(signed as f32 / 8.0),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Oracle::I32(signed as i32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Oracle::I64(signed),
        Kind::Uint32 | Kind::Fixed32 => Oracle::U32(word as u32),
        Kind::Uint64 | Kind::Fixed64 => Oracle::U64(word),
        Kind::Bool => Oracle::Bool(word & 1 == 1),
        Kind::String => Oracle::String(["", "a", "größe", "\"\\\n", "x".repeat(200).as_str()][dice(5) as usize].to_owned()),
        Kind::Bytes => Oracle::Bytes(word.to_le_bytes()[..dice(9) as usize].to_vec().into()),
        Kind::Enum(_) => Oracle::EnumNumber(dice(4) as i32),
        Kind::Message(inner) => Oracle::Message(random(&inner, dice, depth + 1)),
    }
}

/// What prost-reflect says a body is; none when it is no message.
fn oracle(body: &[u8]) -> Option<Json> {
    let outer = DynamicMessage::decode(message("Outer"), body).ok()?;
    let options = SerializeOptions::new().stringify_64_bit_integers(false).use_proto_field_name(true).skip_default_fields(false);
    let mut text = Vec::new();
    outer.serialize_with_options(&mut serde_json::Serializer::new(&mut text), &options).ok()?;
    let mut whole: Json = serde_json::from_slice(&text).ok()?;
    Some(whole.get_mut("m").map_or(Json::Null, Json::take))
}

/// Equal, but for what a float loses as a double and nulls that are left out.
fn same(ours: &Json, theirs: &Json) -> bool {
    match (ours, theirs) {
        (Json::Number(a), Json::Number(b)) => a == b || a.as_f64().map(|a| a as f32) == b.as_f64().map(|b| b as f32),
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Json::Object(a), Json::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            names.into_iter().all(|name| same(a.get(name).unwrap_or(&Json::Null), b.get(name).unwrap_or(&Json::Null)))
        }
        (a, b) => a == b,
    }
}

fn seeded(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed | 1;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (state ^ state >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ mixed >> 32) % below.max(1)
    }
}

fn whole(body: &[u8]) -> Result<Json, (Code, String)> {
    read("Outer", "m:json?", &["m"], body).map(|text| serde_json::from_str(&text).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_prost_writes_is_read_as_prost_reads_it(seed in any::<u64>()) {
        let mut dice = seeded(seed);
        let body = random(&message("Outer"), &mut dice, 0).encode_to_vec();
        let (ours, theirs) = (whole(&body), oracle(&body).unwrap());
        prop_assert!(ours.as_ref().is_ok_and(|ours| same(ours, &theirs)), "{:?} {}", ours, theirs);
    }

    #[test]
    fn mutated_bytes_are_refused_or_read_alike(seed in any::<u64>(), edits in prop::collection::vec((any::<u16>(), any::<u8>(), 0u8..3), 1..4)) {
        let mut dice = seeded(seed);
        let mut body = random(&message("Outer"), &mut dice, 1).encode_to_vec();
        for (at, byte, how) in edits {
            let at = usize::from(at) % (body.len() + 1);
            match how {
                0 if at < body.len() => body[at] = byte,
                1 => body.insert(at, byte),
                _ => body.truncate(at),
            }
        }
        if let Ok(ours) = whole(&body) {
            let theirs = oracle(&body);
            prop_assert!(theirs.as_ref().is_some_and(|theirs| same(&ours, theirs)), "{} {:?}", ours, theirs);
        }
        let _any_answer = read("Order", "a:json b:i64? c:json", &["items[].price", "parent.parent.i64", "attrs"], &body).is_ok();
    }

    #[test]
    fn any_bytes_get_an_answer(body in prop::collection::vec(any::<u8>(), 0..60)) {
        let _any_answer = whole(&body).is_ok();
        let _any_answer = read("Order", "a:f64? b:str? c:json", &["f64", "customer.id", "by_number"], &body).is_ok();
    }
}
