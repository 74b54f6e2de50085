//! Promises of framed TCP: each opcode's reply, the bounds of a frame, order, and what survives an error.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::atomic::Ordering;
use streamgauge_api::port::{Encoding, KeyText, Request};
use support::{Client, code, frame, plane};

const ERROR: u16 = 0xFFFF;
const FRAME_MAX: usize = 4_194_304;

#[test]
fn every_opcode_answers_in_its_shape() {
    let plane = plane(|config| config.test_mode = true);
    let mut client = Client::connect(plane.tcp);
    let ping = concat!(
        r#"{"registry_version":3,"server_version":""#,
        env!("CARGO_PKG_VERSION"),
        r#"","product":"streamgauge","applied_lsn":9,"durable_lsn":8}"#
    );
    let pushed = |lsn: u64| format!(r#"{{"ack_lsn":{lsn},"idempotent_replay":false,"registry_version":3}}"#);
    let synced = |lsn: u64| format!(r#"{{"ack_lsn":{lsn},"idempotent_replay":false,"registry_version":3,"durable_lsn":{lsn}}}"#);
    let row = br#"{"avg":18.0,"n":2}"#.to_vec();
    let packed_row = b"\x82\xa3avg\xcb\x40\x32\0\0\0\0\0\0\xa1n\x02".to_vec();
    let many = |first: u64, last: u64, durable: &str| {
        format!(r#"{{"ack_lsn":{last},"first_lsn":{first},"count":2,"replayed":[],"registry_version":3{durable}}}"#).into_bytes()
    };
    for (opcode, content_type, payload, reply_opcode, reply_type, expected) in [
        (0x0000, 1, &b""[..], 0x0000, 1, ping.as_bytes().to_vec()),
        (0x0000, 9, b"ignored", 0x0000, 1, ping.as_bytes().to_vec()),
        (0x0001, 1, br#"{"nodes":[]}"#, 0x0001, 1, br#"{"nodes":[]}"#.to_vec()),
        (0x0010, 1, br#"{"event":"E","body":{"a":1}}"#, 0x0010, 1, pushed(1).into_bytes()),
        (0x0010, 1, br#"{"body":{},"event":"E"}"#, 0x0010, 1, pushed(2).into_bytes()),
        (0x0010, 2, b"\x82\xa5event\xa1E\xa4body\x81\xa1a\x01", 0x0010, 1, pushed(3).into_bytes()),
        (0x0010, 2, b"\xde\x00\x02\xa4body\x80\xa5event\xa1E", 0x0010, 1, pushed(4).into_bytes()),
        (0x0011, 1, br#"{"event":"E","body":{}}"#, 0x0011, 1, synced(5).into_bytes()),
        (0x0011, 2, b"\x82\xa5event\xa1E\xa4body\x80", 0x0011, 1, synced(6).into_bytes()),
        (0x0012, 1, br#"{"event":"E","rows":[{},{}]}"#, 0x0012, 1, many(7, 8, "")),
        (0x0012, 1, br#"{"events":[{"event":"E","body":{}},{"event":"F"}],"sync":true}"#, 0x0012, 1, many(9, 10, r#","durable_lsn":10"#)),
        (0x0012, 2, b"\x83\xa5event\xa1E\xa4rows\x92\x80\x80\xa4sync\xc2", 0x0012, 1, many(11, 12, "")),
        (0x0020, 1, br#"{"table":"T","key":"k"}"#, 0x0023, 1, row.clone()),
        (0x0020, 2, b"\x82\xa5table\xa1T\xa3key\xa1k", 0x0023, 2, packed_row),
        (0x0020, 1, br#"{"table":"T","key":"absent"}"#, 0x0023, 1, b"{}".to_vec()),
        (0x0020, 2, b"\x82\xa5table\xa1T\xa3key\xa6absent", 0x0023, 2, vec![0x80]),
        (0x0020, 1, br#"{"feature":"f","key":"k"}"#, 0x0023, 1, br#"{"value":18.0}"#.to_vec()),
        (0x0021, 1, br#"{"feature":"f","keys":[1]}"#, 0x0023, 1, br#"{"Int(1)":{"f":1}}"#.to_vec()),
        (0x0021, 2, b"\x82\xa7feature\xa1f\xa4keys\x91\x01", 0x0023, 2, b"\x81\xa6Int(1)\x81\xa1f\x01".to_vec()),
        (0x0022, 1, br#"{"keys":[1,2],"features":["f","g"]}"#, 0x0023, 1, br#"{"Int(1)":{"f":1,"g":1},"Int(2)":{"f":1,"g":1}}"#.to_vec()),
        (0x0024, 1, br#"{"requests":[{"table":"T","key":"k"}]}"#, 0x0023, 1, [&b"{\"results\":["[..], &row, b"]}"].concat()),
        (
            0x0025,
            1,
            br#"{"table":"T","key":"k","feature":"seen","values":["a",1]}"#,
            0x0023,
            1,
            b"{\"results\":[true,true],\"fpr\":0.01}".to_vec(),
        ),
        (0x0024, 2, b"\x81\xa8requests\x91\x81\xa5table\xa1T", 0x0023, 1, [&b"{\"results\":["[..], &row, b"]}"].concat()),
        (0x0040, 1, b"{}", 0x0023, 1, br#"{"registry_version":4,"reset":true}"#.to_vec()),
    ] {
        let reply = client.ask_frame(opcode, content_type, payload);
        let shown = String::from_utf8_lossy(&reply.2).into_owned();
        assert_eq!(reply, (reply_opcode, reply_type, expected), "{opcode:#06x} {}: {shown}", String::from_utf8_lossy(payload));
    }
    let pushed = plane.engine.pushed.lock().unwrap();
    assert_eq!(pushed[0], ("E".to_owned(), br#"{"a":1}"#.to_vec(), Encoding::Json));
    assert_eq!(pushed[2], ("E".to_owned(), b"\x81\xa1a\x01".to_vec(), Encoding::MsgPack));
    let called = plane.engine.called.lock().unwrap();
    assert!(called.iter().any(|request| matches!(request, Request::GetFeature { name, key: KeyText::Text(_) } if name == "f")));
}

#[test]
fn every_error_is_wrapped_and_leaves_the_connection_usable() {
    let plane = plane(|_| {});
    let mut client = Client::connect(plane.tcp);
    let deep_json = format!(r#"{{"event":"E","body":{{"a":{}"#, "[".repeat(1_000_000));
    let deep_msgpack = [&b"\x82\xa5event\xa1E\xa4body"[..], &[0x91; 1_000_000], b"\x00"].concat();
    let deep_later = [&b"\x82\xa4body"[..], &[0x91; 1_000_000], b"\x00\xa5event\xa1E"].concat();
    for (opcode, content_type, payload, expected) in [
        (0x0010, 1, &b"nope"[..], "invalid_json_body"),
        (0x0010, 1, br#"{"body":{}}"#, "missing_event_name_in_body"),
        (0x0010, 1, br#"{"event":"missing","body":{}}"#, "event_not_found"),
        (0x0010, 1, deep_json.as_bytes(), "invalid_event"),
        (0x0010, 2, &deep_msgpack, "invalid_event"),
        (0x0010, 2, &deep_later, "invalid_event"),
        (0x0010, 2, b"\xc1", "invalid_request"),
        (0x0010, 2, b"\x80", "missing_event_name_in_body"),
        (0x0010, 7, b"{}", "unsupported_content_type"),
        (0x0001, 2, b"\x80", "unsupported_content_type"),
        (0x0012, 1, br#"{"event":"E","rows":[]}"#, "invalid_request"),
        (0x0012, 1, br#"{"event":"E","rows":[7]}"#, "invalid_event"),
        (0x0020, 1, br#"{"table":"unknown"}"#, "unknown_table"),
        (0x0020, 1, br#"{"table":"T","features":["nope"]}"#, "internal_error"),
        (0x0020, 1, br#"{"keys":[],"features":[]}"#, "unsupported_request_shape"),
        (0x0020, 2, b"\xc1", "invalid_request"),
        (0x0022, 1, br#"{"keys":[]}"#, "invalid_request"),
        (0x0024, 1, b"[]", "invalid_request"),
        (0x0023, 1, b"{}", "unknown_op"),
        (0x0030, 1, b"{}", "unknown_op"),
        (0x0031, 1, b"{}", "unknown_op"),
        (0x7777, 1, b"{}", "unknown_op"),
        (0x0040, 1, b"{}", "reset_disabled_in_production"),
    ] {
        let (reply, content_type, body) = client.ask_frame(opcode, content_type, payload);
        assert_eq!((reply, content_type, code(&body).as_str()), (ERROR, 1, expected), "{opcode:#06x}");
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body.get("registry_version").is_some(), matches!(opcode, 0x0001 | 0x0010 | 0x0012), "{opcode:#06x}");
        if expected == "unknown_op" {
            assert_eq!(body["error"]["op"], opcode);
        }
    }
    assert!(plane.engine.pushed.lock().unwrap().is_empty(), "nothing was applied");
}

#[test]
fn matrix_reads_have_a_cap() {
    let plane = plane(|_| {});
    let keys = vec!["1"; 10_001].join(",");
    let (_, _, body) = Client::connect(plane.tcp).ask_frame(0x0021, 1, format!(r#"{{"feature":"f","keys":[{keys}]}}"#));
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["error"]["code"], "internal_error");
    assert_eq!(body["error"]["reason"], "batch_too_large: cells=10001 cap=10000");
}

#[test]
fn a_frame_of_exactly_the_bound_is_accepted_and_one_more_byte_is_not() {
    let plane = plane(|_| {});
    let mut client = Client::connect(plane.tcp);
    let empty = r#"{"event":"E","body":{"a":""}}"#;
    let exact = empty.replace("\"\"", &format!("\"{}\"", "x".repeat(FRAME_MAX - empty.len())));
    assert_eq!(exact.len(), FRAME_MAX);
    assert_eq!(client.ask_frame(0x0010, 1, &exact).0, 0x0010);
    client.send(&frame(0x0010, 1, vec![b' '; FRAME_MAX + 1])[..100]);
    let (opcode, _, body) = client.read_frame();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(opcode, ERROR);
    assert_eq!(body["error"]["code"], "frame_too_large");
    assert_eq!(body["error"]["limit"], 4_194_307);
    assert_eq!(body["error"]["declared"], 4_194_308);
    assert!(client.is_closed());
}

#[test]
fn a_frame_without_opcode_ends_the_connection() {
    let plane = plane(|_| {});
    for length in 0u32..3 {
        let mut client = Client::connect(plane.tcp);
        client.send([&length.to_be_bytes()[..], &[0; 8]].concat());
        let (opcode, _, body) = client.read_frame();
        assert_eq!((opcode, code(&body).as_str()), (ERROR, "frame_error"));
        assert!(client.is_closed());
    }
}

#[test]
fn a_reply_beyond_the_frame_bound_is_refused() {
    let plane = plane(|_| {});
    let mut client = Client::connect(plane.tcp);
    for (opcode, payload) in [(0x0020, r#"{"table":"huge"}"#), (0x0024, r#"{"requests":[{"table":"huge"}]}"#)] {
        let (reply, _, body) = client.ask_frame(opcode, 1, payload);
        assert_eq!((reply, code(&body).as_str()), (ERROR, "response_too_large"));
    }
    assert_eq!(client.ask_frame(0x0000, 1, "").0, 0x0000);
}

#[test]
fn ten_thousand_entries_are_answered_in_one_reply() {
    let plane = plane(|_| {});
    let entries = vec![r#"{"table":"T","key":"k"}"#; 10_000].join(",");
    let body = format!(r#"{{"requests":[{entries}]}}"#);
    let count = |body: &[u8]| serde_json::from_slice::<serde_json::Value>(body).unwrap()["results"].as_array().map(Vec::len);
    let (opcode, _, reply) = Client::connect(plane.tcp).ask_frame(0x0024, 1, &body);
    assert_eq!((opcode, count(&reply)), (0x0023, Some(10_000)));
    let response = Client::connect(plane.http).ask("POST", "/batch_get", "application/json", &body);
    assert_eq!((response.status, count(response.body.as_bytes())), (200, Some(10_000)));
}

#[test]
fn replies_leave_in_request_order_whatever_the_engine_does() {
    let plane = plane(|_| {});
    let mut client = Client::connect(plane.tcp);
    let push = |event: &str| frame(0x0010, 1, format!(r#"{{"event":"{event}","body":{{}}}}"#));
    let frames = [push("hold"), push("E"), push("hold"), frame(0x0030, 1, ""), push("release"), push("E")].concat();
    client.send(frames);
    let lsns: Vec<Option<u64>> =
        (0..6).map(|_| serde_json::from_slice::<serde_json::Value>(&client.read_frame().2).unwrap()["ack_lsn"].as_u64()).collect();
    assert_eq!(lsns, [Some(1), Some(2), Some(3), None, Some(4), Some(5)]);
}

/// Far more frames than may be unanswered, sent in pieces of every size: each is answered, in order.
#[test]
fn long_pipelines_are_answered_in_order() {
    let plane = plane(|_| {});
    let count = 20_000u64;
    let one = frame(0x0010, 2, b"\x82\xa5event\xa1E\xa4body\x81\xa1a\x01");
    let bytes = one.repeat(count as usize);
    let mut client = Client::connect(plane.tcp);
    let mut sender = client.twin();
    let writer = std::thread::spawn(move || {
        let mut rest = bytes.as_slice();
        for size in (1..).step_by(97) {
            let (now, later) = rest.split_at(size.min(rest.len()));
            sender.send(now);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
    });
    for lsn in 1..=count {
        let (opcode, _, body) = client.read_frame();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((opcode, body["ack_lsn"].as_u64()), (0x0010, Some(lsn)));
    }
    writer.join().unwrap();
}

#[test]
fn a_full_engine_pauses_reading_and_loses_nothing() {
    let plane = plane(|_| {});
    plane.engine.full.store(true, Ordering::SeqCst);
    let mut client = Client::connect(plane.tcp);
    let mut other = Client::connect(plane.http);
    client.send(frame(0x0010, 1, br#"{"event":"E","body":{}}"#).repeat(100));
    other.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(plane.engine.pushed.lock().unwrap().is_empty());
    plane.engine.full.store(false, Ordering::SeqCst);
    plane.engine.wake();
    (0..100).for_each(|_| assert_eq!(client.read_frame().0, 0x0010));
    assert_eq!(other.response().status, 200);
}

#[test]
fn several_io_threads_share_the_connections() {
    let plane = plane(|config| config.io_threads = 3);
    let mut clients: Vec<Client> = (0..9).map(|_| Client::connect(plane.tcp)).collect();
    for client in &mut clients {
        client.send_frame(0x0000, 1, "");
    }
    for client in &mut clients {
        assert_eq!(client.read_frame().0, 0x0000);
    }
}
