//! Bad requests over HTTP and TCP: each has its stable code and status, the connection is usable afterwards or closed after the answer, and nothing has changed.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value as Json, json};
use streamgauge_testing::{Frame, Raw, Setup, Sidecar};

const CONFIG: &str = r#"config_version = 1
[events.Tx]
fields = { user = "str", amount = "f64", n = "i64?", note = "json?" }
[tables.users]
from = "Tx"
key = ["user"]
[tables.users.features]
n = { op = "count" }
total = { op = "sum", field = "amount" }
[tables.numbers]
from = "Tx"
key = ["n"]
[tables.numbers.features]
rows = { op = "count" }
"#;

const DEPTH: usize = 100_000;
const BODY_TOO_LARGE: usize = 5 * 1024 * 1024;
const FRAME_BYTES_MAX: u32 = 4 * 1024 * 1024 + 3;
const BATCH_TOO_LARGE: usize = 65_537;
const ERROR: u16 = 0xFFFF;
const PUSH: u16 = 0x0010;

/// What becomes of the connection.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Then {
    Usable,
    Closed,
}
use Then::{Closed, Usable};

fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    let kind = "Content-Type: application/json\r\n";
    format!("{method} {path} HTTP/1.1\r\nHost: gauge\r\n{kind}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn head(lines: &str) -> Vec<u8> {
    format!("POST /push/Tx HTTP/1.1\r\nHost: gauge\r\n{lines}\r\n").into_bytes()
}

fn nested() -> String {
    format!("{}{}", "[".repeat(DEPTH), "]".repeat(DEPTH))
}

/// The rows that a bad request must leave alone, as a client sees them.
fn rows(sidecar: &Sidecar) -> Json {
    json!([sidecar.get("users", "a").unwrap(), sidecar.get("users", "b").unwrap(), sidecar.get("numbers", "1").unwrap()])
}

fn started() -> (Setup, Sidecar, Json) {
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), CONFIG).unwrap();
    let sidecar = setup.start().unwrap();
    let pushed = sidecar.data_post("/push/Tx", &json!({ "user": "a", "amount": 2.5, "n": 1 })).unwrap();
    assert_eq!(pushed.status, 200, "{}", pushed.text);
    let before = rows(&sidecar);
    assert_eq!(before[0]["n"], json!(1));
    (setup, sidecar, before)
}

#[test]
fn bad_http_requests_are_answered_with_their_code_and_change_nothing() {
    let (_setup, sidecar, before) = started();
    let push = |body: &str| request("POST", "/push/Tx", body);
    let many = json!({ "requests": vec![json!({ "table": "users", "key": "a" }); BATCH_TOO_LARGE] }).to_string();
    let crowd: String = (0..100).map(|i| format!("X-{i}: 1\r\n")).collect();
    let cases: Vec<(&str, Vec<u8>, u16, &str, Then)> = vec![
        ("unknown table", request("GET", "/tables/nobody/a", ""), 404, "unknown_table", Usable),
        ("unknown key", request("GET", "/tables/users/nobody", ""), 404, "key_not_found", Usable),
        ("key of another type", request("GET", "/tables/numbers/one", ""), 404, "key_parse_failure", Usable),
        ("too many key parts", request("GET", "/tables/users/a/b", ""), 404, "key_parse_failure", Usable),
        ("unknown feature", request("GET", "/tables/users/a?features=n,zz", ""), 404, "feature_not_found", Usable),
        (
            "unknown feature, old route",
            request("POST", "/get", r#"{"table":"users","key":"a","features":["zz"]}"#),
            500,
            "internal_error",
            Usable,
        ),
        ("unknown table, old route", request("POST", "/get", r#"{"table":"nobody","key":"a"}"#), 404, "unknown_table", Usable),
        ("get of no JSON", request("POST", "/get", "{\"table\":"), 400, "invalid_request", Usable),
        ("batch_get of no JSON", request("POST", "/batch_get", "[]"), 400, "invalid_request", Usable),
        ("a misspelt guard", request("POST", "/get", r#"{"table":"users","key":"a","max_stalenes":"2s"}"#), 400, "unknown_member", Usable),
        ("a misspelt parameter", request("GET", "/tables/users/a?max_stalenes=2s", ""), 400, "unknown_member", Usable),
        ("a member beside a push", request("POST", "/push", r#"{"event":"Tx","dta":{}}"#), 400, "unknown_member", Usable),
        ("a misspelt member of register", request("POST", "/register", r#"{"nodes":[],"dryrun":true}"#), 400, "unknown_member", Usable),
        (
            "a coding nobody knows",
            b"POST /push/Tx HTTP/1.1\r\nHost: g\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\n{}".to_vec(),
            415,
            "unsupported_media_type",
            Usable,
        ),
        ("too large a batch", request("POST", "/batch_get", &many), 413, "batch_too_large", Usable),
        ("unknown path", request("GET", "/nowhere", ""), 404, "not_found", Usable),
        ("wrong method", request("DELETE", "/push/Tx", ""), 405, "method_not_allowed", Usable),
        ("wrong method on a table", request("POST", "/tables/users/a", "{}"), 405, "method_not_allowed", Usable),
        ("unknown event", request("POST", "/push/Nobody", "{}"), 404, "event_not_found", Usable),
        ("no event", request("POST", "/push", r#"{"data":{}}"#), 400, "missing_event_name_in_body", Usable),
        ("no JSON", request("POST", "/push", "{"), 400, "invalid_json_body", Usable),
        ("an array", push("[1,2]"), 400, "invalid_event", Usable),
        ("a missing field", push(r#"{"user":"b"}"#), 400, "invalid_event", Usable),
        ("a null field", push(r#"{"user":"b","amount":null}"#), 400, "invalid_event", Usable),
        ("a field of another type", push(r#"{"user":"b","amount":"3"}"#), 400, "invalid_event", Usable),
        ("an unknown field", push(r#"{"user":"b","amount":3,"extra":1}"#), 400, "unknown_field_v0", Usable),
        ("a field twice", push(r#"{"user":"b","amount":3,"amount":4}"#), 400, "invalid_event", Usable),
        ("a key of 5 KB", push(&format!(r#"{{"user":"{}","amount":3}}"#, "b".repeat(5000))), 400, "invalid_event", Usable),
        ("a control character", push(r#"{"user":"b\n","amount":3}"#), 400, "control_character_in_string", Usable),
        ("deep nesting", push(&format!(r#"{{"user":"b","amount":3,"note":{}}}"#, nested())), 400, "invalid_event", Usable),
        (
            "register as text",
            b"POST /register HTTP/1.1\r\nHost: g\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}".to_vec(),
            415,
            "unsupported_media_type",
            Usable,
        ),
        ("register of no nodes", request("POST", "/register", "{}"), 400, "invalid_registration", Usable),
        ("deeply nested register", request("POST", "/register", &nested()), 400, "invalid_registration", Usable),
        ("reset outside of test mode", request("POST", "/reset", ""), 403, "reset_disabled_in_production", Usable),
        ("too large a body", head(&format!("Content-Length: {BODY_TOO_LARGE}\r\n")), 413, "payload_too_large", Closed),
        ("too large a chunk", [head("Transfer-Encoding: chunked\r\n"), b"500000\r\n".to_vec()].concat(), 413, "payload_too_large", Closed),
        (
            "an overflowing chunk",
            [head("Transfer-Encoding: chunked\r\n"), b"ffffffffffffffff\r\n".to_vec()].concat(),
            400,
            "http_protocol_error",
            Closed,
        ),
        ("both framings", head("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n"), 400, "http_protocol_error", Closed),
        ("two lengths", head("Content-Length: 2\r\nContent-Length: 3\r\n"), 400, "http_protocol_error", Closed),
        ("a signed length", head("Content-Length: +2\r\n"), 400, "http_protocol_error", Closed),
        ("too many headers", head(&crowd), 431, "headers_too_large", Closed),
        ("a long header", head(&format!("X: {}\r\n", "y".repeat(9000))), 431, "headers_too_large", Closed),
        ("garbage", b"\x00\x01\x02 garbage\r\n\r\n".to_vec(), 400, "http_protocol_error", Closed),
        ("another protocol", b"GET / SIP/2.0\r\n\r\n".to_vec(), 400, "http_protocol_error", Closed),
    ];
    for (name, bytes, status, code, then) in cases {
        let mut raw = Raw::connect(&sidecar.http).unwrap();
        raw.send(&bytes).unwrap();
        let answer = raw.answer().unwrap_or_else(|reason| panic!("{name}: {reason}"));
        assert_eq!((answer.status, answer.code()), (status, code), "{name}: {}", answer.text);
        assert!(!answer.body["error"]["reason"].as_str().unwrap_or_default().is_empty(), "{name} gives no reason: {}", answer.text);
        match then {
            Usable => {
                raw.send(&request("POST", "/ping", "")).unwrap();
                assert_eq!(raw.answer().unwrap().body["pong"], json!(true), "{name}");
            }
            Closed => assert!(raw.closed(), "{name} leaves the connection open"),
        }
        assert_eq!(rows(&sidecar), before, "{name} changed something");
    }
}

#[test]
fn bad_frames_are_answered_with_their_code_and_change_nothing() {
    let (_setup, sidecar, before) = started();
    let push = |data: &str| Frame::json(PUSH, &format!(r#"{{"event":"Tx","body":{data}}}"#)).bytes();
    let packed = |payload: &[u8]| Frame { op: PUSH, content_type: 2, payload: payload.to_vec() }.bytes();
    // {"event":"Tx","body":{"user":"b","amount": <what follows>}} in MessagePack.
    let packed_amount = |amount: &[u8]| packed(&[b"\x82\xa5event\xa2Tx\xa4body\x82\xa4user\xa1b\xa6amount".as_slice(), amount].concat());
    let cases: Vec<(&str, Vec<u8>, &str, Then)> = vec![
        ("an opcode of the past", Frame::json(0x0030, "{}").bytes(), "unknown_op", Usable),
        ("an unknown opcode", Frame::json(0x7777, "{}").bytes(), "unknown_op", Usable),
        ("an unknown event", Frame::json(PUSH, r#"{"event":"Nobody","body":{}}"#).bytes(), "event_not_found", Usable),
        ("a missing field", push(r#"{"user":"b"}"#), "invalid_event", Usable),
        ("an unknown field", push(r#"{"user":"b","amount":3,"extra":1}"#), "unknown_field_v0", Usable),
        ("a member beside a push", Frame::json(PUSH, r#"{"event":"Tx","data":{}}"#).bytes(), "unknown_member", Usable),
        ("a misspelt guard", Frame::json(0x0020, r#"{"table":"users","key":"a","min_lns":1}"#).bytes(), "unknown_member", Usable),
        ("deep nesting", push(&format!(r#"{{"user":"b","amount":3,"note":{}}}"#, nested())), "invalid_event", Usable),
        ("deep nesting in msgpack", packed_amount(&vec![0x91; DEPTH]), "invalid_event", Usable),
        ("not a number in msgpack", packed_amount(&[0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0]), "invalid_event", Usable),
        ("infinity in msgpack", packed_amount(&[0xcb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0]), "invalid_event", Usable),
        ("register in msgpack", Frame { op: 1, content_type: 2, payload: vec![0x80] }.bytes(), "unsupported_content_type", Usable),
        ("get of an unknown table", Frame::json(0x0020, r#"{"table":"nobody","key":"a"}"#).bytes(), "unknown_table", Usable),
        ("reset outside of test mode", Frame::json(0x0040, "{}").bytes(), "reset_disabled_in_production", Usable),
        ("too short a frame", vec![0, 0, 0, 2, 0, 0], "frame_error", Closed),
        ("too large a frame", [&(FRAME_BYTES_MAX + 1).to_be_bytes(), [0, 16, 1].as_slice()].concat(), "frame_too_large", Closed),
        ("garbage", b"GET / HTTP/1.1\r\n\r\n".to_vec(), "frame_too_large", Closed),
    ];
    for (name, bytes, code, then) in cases {
        let mut raw = Raw::connect(&sidecar.tcp).unwrap();
        raw.send(&bytes).unwrap();
        let answer = raw.frame().unwrap_or_else(|reason| panic!("{name}: {reason}"));
        assert_eq!((answer.op, answer.code().as_str()), (ERROR, code), "{name}: {}", String::from_utf8_lossy(&answer.payload));
        match then {
            Usable => {
                raw.send(&Frame::json(0, "").bytes()).unwrap();
                assert_eq!(raw.frame().unwrap().op, 0, "{name}");
            }
            Closed => assert!(raw.closed(), "{name} leaves the connection open"),
        }
        assert_eq!(rows(&sidecar), before, "{name} changed something");
    }
}

#[test]
fn half_a_request_and_a_vanished_client_harm_nobody() {
    let (_setup, sidecar, before) = started();
    for address in [&sidecar.http, &sidecar.tcp] {
        for bytes in [b"".as_slice(), b"P", b"POST /push/Tx HTTP/1.1\r\nContent-Length: 100\r\n\r\n{", b"\x00\x00\x00\x50\x00\x10\x01{"] {
            Raw::connect(address).unwrap().send(bytes).unwrap();
        }
    }
    assert_eq!(rows(&sidecar), before);
}
