//! Rules of MessagePack pushes as tables; the rmp crate writes what is decoded.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::fixture::{builder, event, show_row};
use super::push::PushDecoder;
use crate::row::Strictness;
use proptest::prelude::*;
use rmp::encode as write;
use streamgauge_api::Code;

fn push(fields: &str, body: &[u8]) -> Result<String, (Code, String)> {
    let schema = event(fields);
    let mut into = builder(&schema, Strictness::Push);
    match PushDecoder::new(&schema, true).push_msgpack(body, &mut into, 5) {
        Ok(()) => Ok(show_row(&into.finish(), &schema, 0)),
        Err(bad) => {
            assert!(into.is_empty() && !bad.reason.is_empty());
            Err((bad.code, bad.path.clone()))
        }
    }
}

/// A map of one member `a` with this encoded value.
fn one(value: &[u8]) -> Vec<u8> {
    [&[0x81, 0xA1, b'a'][..], value].concat()
}

#[test]
fn every_encoding_of_a_value_is_read() {
    let cases: &[(&str, &[u8], &str)] = &[
        ("i64", &[0x05], "5"),
        ("i64", &[0xFF], "-1"),
        ("i64", &[0xCC, 0xFF], "255"),
        ("i64", &[0xCD, 0x01, 0x00], "256"),
        ("i64", &[0xCE, 0xFF, 0xFF, 0xFF, 0xFF], "4294967295"),
        ("i64", &[0xCF, 0, 0, 0, 0, 0, 0, 1, 0], "256"),
        ("i64", &[0xCF, 0x80, 0, 0, 0, 0, 0, 0, 0], "9.223372036854776e18"),
        ("i64", &[0xD0, 0x80], "-128"),
        ("i64", &[0xD1, 0xFF, 0x00], "-256"),
        ("i64", &[0xD2, 0x80, 0, 0, 0], "-2147483648"),
        ("i64", &[0xD3, 0x80, 0, 0, 0, 0, 0, 0, 0], "-9223372036854775808"),
        ("i64", &[0xCB, 0x3F, 0xF8, 0, 0, 0, 0, 0, 0], "1.5"),
        ("f64", &[0xCA, 0x3F, 0xC0, 0, 0], "1.5"),
        ("f64", &[0x03], "3.0"),
        ("bool", &[0xC2], "false"),
        ("bool", &[0xC3], "true"),
        ("str", &[0xC0], "null"),
        ("str", b"\xA2hi", "\"hi\""),
        ("str", b"\xD9\x02hi", "\"hi\""),
        ("str", b"\xDA\x00\x02hi", "\"hi\""),
        ("str", b"\xDB\x00\x00\x00\x02hi", "\"hi\""),
        ("bytes", b"\xC4\x02\xff\x00", "b[255, 0]"),
        ("bytes", b"\xC5\x00\x01\xff", "b[255]"),
        ("bytes", b"\xA1x", "\"x\""),
        ("datetime", &[0x05], "t5"),
        // Timestamps of 32, 64 and 96 bits: seconds; 30 bits of nanoseconds and 34 of seconds; both.
        ("datetime", &[0xD6, 0xFF, 0, 0, 0, 7], "t7000"),
        ("datetime", &[0xD7, 0xFF, 0x77, 0x35, 0x94, 0x00, 0, 0, 0, 1], "t1500"),
        ("datetime", &[0xC7, 12, 0xFF, 0x1D, 0xCD, 0x65, 0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], "t-500"),
        ("json", &[0x91, 0xD6, 0xFF, 0, 0, 0, 7], "[7000]"),
        // Keys that are no text.
        ("json", b"\x85\x01\xC0\xC4\x01k\xC0\xC3\x02\xC0\x03\x91\x01\x04", r#"{"1":null,"k":null,"true":2,"null":3,"[1]":4}"#),
        ("json", b"\x92\x01\x82\xA1k\xC0\xA1b\xC4\x01\xff", r#"[1,{"k":null,"b":"/w=="}]"#),
        ("json", b"\xDC\x00\x01\xCB\x3F\xF8\x00\x00\x00\x00\x00\x00", "[1.5]"),
        ("json", b"\xDE\x00\x01\xA1\"\xC2", r#"{"\"":false}"#),
    ];
    for (kind, value, expected) in cases {
        assert_eq!(push(&format!("a:{kind}?"), &one(value)).as_deref(), Ok(*expected), "{kind} {value:?}");
    }
}

#[test]
fn what_is_no_row_is_refused() {
    let nan = [&[0xCB][..], &f64::NAN.to_be_bytes()].concat();
    let nested = |depth: usize| [vec![0x91; depth], vec![0x01]].concat();
    let cases: &[(Vec<u8>, Code, &str)] = &[
        (vec![], Code::InvalidEvent, ""),
        (vec![0x91, 0x01], Code::InvalidEvent, ""),
        (vec![0x81, 0x01, 0x01], Code::UnknownFieldV0, "1"),
        (vec![0x81, 0xC0, 0x01], Code::InvalidEvent, ""),
        (one(&[]), Code::InvalidEvent, ""),
        (one(&[0x01, 0x01]), Code::InvalidEvent, ""),
        (one(&[0xC1]), Code::InvalidEvent, ""),
        (one(&[0xD4, 0x01, 0x01]), Code::InvalidEvent, "a"),
        (one(&[0x91, 0xD4, 0x01, 0x01]), Code::InvalidEvent, ""),
        (one(&[0xC7, 0x05, 0xFF, 0, 0, 0, 0, 0]), Code::InvalidEvent, ""),
        (one(&[0xD7, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]), Code::InvalidEvent, ""),
        (one(&nan), Code::InvalidEvent, "a"),
        (one(&[&[0x91][..], &nan].concat()), Code::InvalidEvent, ""),
        (one(&[0xDD, 0xFF, 0xFF, 0xFF, 0xFF]), Code::InvalidEvent, ""),
        (one(&[0xDB, 0xFF, 0xFF, 0xFF, 0xFF]), Code::InvalidEvent, ""),
        (one(b"\xA1\xff"), Code::InvalidEvent, ""),
        (one(b"\xA1\n"), Code::ControlCharacterInString, ""),
        (one(&nested(128)), Code::InvalidEvent, ""),
        (one(&nested(100_000)), Code::InvalidEvent, ""),
        (b"\x82\xA1a\x01\xA1a\x01".to_vec(), Code::InvalidEvent, "a"),
        (b"\x81\xA1x\x01".to_vec(), Code::UnknownFieldV0, "x"),
        (b"\x81\xAAevent_time\x01".to_vec(), Code::UnknownFieldEventTimeV0, "event_time"),
        (b"\xDF\xFF\xFF\xFF\xFF".to_vec(), Code::InvalidEvent, ""),
    ];
    for (body, code, path) in cases {
        assert_eq!(push("a:json?", body), Err((*code, (*path).to_owned())), "{:?}", &body[..body.len().min(16)]);
    }
    assert!(push("a:json?", &one(&nested(127))).is_ok());
    assert_eq!(push("a:json?", &[0x80]).unwrap(), "-");
    assert_eq!(push("a:str", &[0x80]), Err((Code::InvalidEvent, "a".into())));
}

proptest! {
    #[test]
    fn what_rmp_writes_is_read_back(int in any::<i64>(), float in -1e300..1e300f64, text in "[a-zé😀]{0,300}", bytes in prop::collection::vec(any::<u8>(), 0..300), truth in any::<bool>()) {
        let mut body = Vec::new();
        write::write_map_len(&mut body, 5).unwrap();
        write::write_str(&mut body, "t").unwrap();
        write::write_bool(&mut body, truth).unwrap();
        write::write_str(&mut body, "i").unwrap();
        write::write_sint(&mut body, int).unwrap();
        write::write_str(&mut body, "f").unwrap();
        write::write_f64(&mut body, float).unwrap();
        write::write_str(&mut body, "s").unwrap();
        write::write_str(&mut body, &text).unwrap();
        write::write_str(&mut body, "b").unwrap();
        write::write_bin(&mut body, &bytes).unwrap();
        let expected = format!("{int} {float:?} {text:?} b{bytes:?} {truth}");
        prop_assert_eq!(push("i:i64 f:f64 s:str b:bytes t:bool", &body).unwrap(), expected);
        for cut in 0..body.len() {
            prop_assert!(push("i:i64 f:f64 s:str b:bytes t:bool", &body[..cut]).is_err());
        }
    }

    #[test]
    fn any_bytes_get_an_answer(body in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = push("a:json?", &one(&body));
        let _ = push("a:json?", &body);
    }
}
