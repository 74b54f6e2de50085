//! Promises of HTTP: each route's shape, status and headers, and what stays usable after an error.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::atomic::Ordering;
use streamgauge_api::port::{KeyText, Request};
use support::{Client, plane};

const JSON: &str = "application/json";

/// Each row is one request on one and the same connection.
#[test]
fn every_route_answers_in_its_shape() {
    let plane = plane(|config| config.test_mode = true);
    let mut client = Client::connect(plane.http);
    let batch = r#"{"results":[{"avg":18.0,"n":2},{},{"n":2}]}"#;
    for (method, target, body, status, expected) in [
        ("POST", "/push", r#"{"event":"E","data":{"a":1}}"#, 200, r#"{"ack_lsn":1,"idempotent_replay":false,"registry_version":3}"#),
        ("POST", "/push/E", r#"{"a":2}"#, 200, r#"{"ack_lsn":2,"idempotent_replay":false,"registry_version":3}"#),
        ("POST", "/push-sync", r#"{"event":"E"}"#, 200, r#"{"ack_lsn":3,"idempotent_replay":false,"registry_version":3,"durable_lsn":3}"#),
        ("POST", "/push-sync/E", "{}", 200, r#"{"ack_lsn":4,"idempotent_replay":false,"registry_version":3,"durable_lsn":4}"#),
        ("POST", "/push-batch/E", "{}", 200, r#"{"ack_lsn":5,"idempotent_replay":false,"registry_version":3}"#),
        ("POST", "/push-batch/E", "[{},{}]", 200, r#"{"ack_lsn":7,"first_lsn":6,"count":2,"replayed":[],"registry_version":3}"#),
        (
            "POST",
            "/push-batch?sync=1",
            r#"{"events":[{"event":"E","data":{}},{"event":"F"}]}"#,
            200,
            r#"{"ack_lsn":9,"first_lsn":8,"count":2,"replayed":[],"registry_version":3,"durable_lsn":9}"#,
        ),
        ("POST", "/get", r#"{"table":"T","key":"k"}"#, 200, r#"{"avg":18.0,"n":2}"#),
        ("POST", "/get", r#"{"table":"T","key":"k","features":["n"]}"#, 200, r#"{"n":2}"#),
        ("POST", "/get", r#"{"table":"T","key":"k","features":[]}"#, 200, "{}"),
        ("POST", "/get", r#"{"table":"T","key":"absent"}"#, 200, "{}"),
        ("GET", "/get/f/k", "", 200, r#"{"value":18.0}"#),
        ("GET", "/get/T/k", "", 200, r#"{"avg":18.0,"n":2}"#),
        ("GET", "/tables/T/k", "", 200, r#"{"avg":18.0,"n":2}"#),
        ("GET", "/tables/T/k/?features=n,avg", "", 200, r#"{"n":2,"avg":18.0}"#),
        ("GET", "/tables/T/k?features=n&features=avg", "", 200, r#"{"n":2,"avg":18.0}"#),
        (
            "POST",
            "/batch_get",
            r#"{"requests":[{"table":"T","key":"k"},{"table":"T","key":"absent"},{"table":"T","entity_id":1,"features":["n"]}]}"#,
            200,
            batch,
        ),
        ("POST", "/batch_get", r#"{"requests":[]}"#, 200, r#"{"results":[]}"#),
        ("POST", "/register", r#"{"nodes":[]}"#, 200, r#"{"nodes":[]}"#),
        ("POST", "/ping", "anything", 200, r#"{"pong":true,"registry_version":3}"#),
        ("GET", "/ping", "", 200, r#"{"pong":true,"registry_version":3}"#),
        ("GET", "/health", "", 200, r#"{"status":"ok"}"#),
        ("GET", "/ready", "", 200, r#"{"status":"ready"}"#),
        ("POST", "/reset", "", 200, r#"{"registry_version":4,"reset":true}"#),
    ] {
        let response = client.ask(method, target, JSON, body);
        assert_eq!((response.status, response.body.as_str()), (status, expected), "{method} {target} {body}");
        assert_eq!(response.header("Content-Type"), Some(JSON), "{target}");
        assert!(response.header("X-Runtime").is_some() && response.header("Connection") == Some("keep-alive"), "{target}");
    }
}

#[test]
fn every_error_has_its_code_and_leaves_the_connection_usable() {
    let plane = plane(|_| {});
    let mut client = Client::connect(plane.http);
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let deep_push = format!(r#"{{"event":"E","data":{{"a":{deep}}}}}"#);
    let deep_get = format!(r#"{{"table":"T","key":{deep}}}"#);
    for (method, target, body, status, code) in [
        ("POST", "/push", "nope", 400, "invalid_json_body"),
        ("POST", "/push", "", 400, "invalid_json_body"),
        ("POST", "/push", r#"{"data":{}}"#, 400, "missing_event_name_in_body"),
        ("POST", "/push", r#"{"event":"missing"}"#, 404, "event_not_found"),
        ("POST", "/push", r#"{"event":"E","data":[]}"#, 400, "invalid_event"),
        ("POST", "/push", &deep_push, 400, "invalid_event"),
        ("POST", "/push/E", &deep, 400, "invalid_event"),
        ("POST", "/push/E", "[{}]", 400, "invalid_event"),
        ("POST", "/push-batch/E", &deep, 400, "invalid_event"),
        ("POST", "/push-batch/E", "[]", 400, "invalid_request"),
        ("POST", "/push-batch/E", "[{}", 400, "invalid_json_body"),
        ("POST", "/push/%ff", "{}", 400, "invalid_request"),
        ("POST", "/get", "nope", 400, "invalid_request"),
        ("POST", "/get", &deep_get, 400, "invalid_request"),
        ("POST", "/get", r#"{"keys":[],"features":[]}"#, 400, "unsupported_request_shape"),
        ("POST", "/get", r#"{"feature":"f","key":"k"}"#, 400, "unsupported_request_shape"),
        ("POST", "/get", r#"{"table":"unknown"}"#, 404, "unknown_table"),
        ("POST", "/get", r#"{"table":"T","features":["nope"]}"#, 500, "internal_error"),
        ("GET", "/tables/T/k?features=nope", "", 404, "feature_not_found"),
        ("GET", "/tables/T/absent", "", 404, "key_not_found"),
        ("GET", "/tables/unknown/k", "", 404, "unknown_table"),
        ("GET", "/tables/T/k?min_lsn=x", "", 400, "invalid_request"),
        ("GET", "/get/nope/k", "", 404, "feature_not_found"),
        ("GET", "/get/T/absent", "", 404, "key_not_found"),
        ("POST", "/batch_get", "{}", 400, "invalid_request"),
        ("POST", "/reset", "", 403, "reset_disabled_in_production"),
        ("GET", "/registry", "", 404, "not_found"),
        ("GET", "/nowhere", "", 404, "not_found"),
        ("GET", "/push", "", 405, "method_not_allowed"),
        ("DELETE", "/tables/T/k", "", 405, "method_not_allowed"),
        ("OPTIONS", "/nowhere", "", 404, "not_found"),
        ("GET", "/tables/T/k?max_stalenes=2s", "", 400, "unknown_member"),
        ("GET", "/tables/T/k?explain=yes", "", 400, "invalid_request"),
        ("GET", "/tables/T/k?min_lsn=1&min_lsn=2", "", 400, "invalid_request"),
        ("GET", "/get/f/k?max_staleness=2s", "", 400, "unknown_member"),
        ("POST", "/push/E?sync=1", "{}", 400, "unknown_member"),
        ("POST", "/push-batch/E?sink=1", "[{}]", 400, "unknown_member"),
        ("POST", "/push-batch/E?sync=yes", "[{}]", 400, "invalid_request"),
        ("GET", "/health?x=1", "", 400, "unknown_member"),
        ("POST", "/get", r#"{"table":"T","key":"k","max_stalenes":"2s"}"#, 400, "unknown_member"),
        ("POST", "/batch_get", r#"{"requests":[{"table":"T","kye":"k"}]}"#, 400, "unknown_member"),
        ("POST", "/push", r#"{"event":"E","body":{"a":1}}"#, 400, "unknown_member"),
        ("POST", "/push-batch", r#"{"events":[{"event":"E","dta":{}}]}"#, 400, "unknown_member"),
    ] {
        let response = client.ask(method, target, JSON, body);
        let shown = &body[..body.len().min(80)];
        assert_eq!((response.status, response.code().as_str()), (status, code), "{method} {target} {shown}");
        let body: serde_json::Value = serde_json::from_str(&response.body).unwrap();
        assert!(body["error"]["reason"].is_string() && body["error"]["hint"].is_string() && body["error"]["retry"].is_boolean(), "{body}");
    }
    assert!(plane.engine.pushed.lock().unwrap().is_empty(), "nothing was applied");
    let unknown = client.ask("POST", "/get", JSON, r#"{"table":"T","features":["nope"]}"#);
    assert!(unknown.body.contains(r#"feature_not_found: missing=[\"nope\"] table=T"#), "{}", unknown.body);
    assert_eq!(client.ask("GET", "/push", JSON, "").header("Allow"), Some("POST, OPTIONS"));
}

#[test]
fn push_and_register_errors_show_the_registry_version() {
    let plane = plane(|_| {});
    let mut client = Client::connect(plane.http);
    let version = |body: &str| serde_json::from_str::<serde_json::Value>(body).unwrap()["registry_version"].as_u64();
    assert_eq!(version(&client.ask("POST", "/push", JSON, r#"{"event":"missing"}"#).body), Some(3));
    assert_eq!(version(&client.ask("POST", "/push", JSON, "nope").body), Some(3), "as the engine told last");
    assert_eq!(version(&client.ask("POST", "/get", JSON, "nope").body), None);
    let media = client.ask("POST", "/register", "text/plain", "{}");
    assert_eq!((media.status, media.code().as_str(), version(&media.body)), (415, "unsupported_media_type", Some(0)));
    assert_eq!(client.ask("POST", "/register", "Application/JSON; charset=utf-8", "{}").status, 200);
}

#[test]
fn entries_of_a_batch_fail_alone() {
    let plane = plane(|_| {});
    let body = r#"{"requests":[{"table":"unknown","key":"k"},{"table":"T","key":"k","features":["nope"]},{"table":"T","key":"k"}]}"#;
    let response = Client::connect(plane.http).ask("POST", "/batch_get", JSON, body);
    let results: serde_json::Value = serde_json::from_str(&response.body).unwrap();
    let results = &results["results"];
    assert_eq!(results[0]["error"]["code"], "unknown_table");
    assert_eq!(results[0]["error"]["message"], "no table unknown");
    assert_eq!(results[1]["error"]["code"], "feature_not_found");
    assert_eq!(results[2]["n"], 2);
}

#[test]
fn reads_say_how_fresh_they_are() {
    let plane = plane(|_| {});
    let mut client = Client::connect(plane.http);
    for (method, target, body) in [
        ("POST", "/get", r#"{"table":"T"}"#),
        ("GET", "/get/f/k", ""),
        ("GET", "/tables/T/k", ""),
        ("GET", "/tables/T/absent", ""),
        ("POST", "/batch_get", r#"{"requests":[]}"#),
    ] {
        let response = client.ask(method, target, JSON, body);
        assert_eq!(response.header("X-Streamgauge-As-Of"), Some("1970-01-01T00:00:01.500Z"), "{target}");
        assert_eq!(response.header("X-Streamgauge-Lag-Ms"), Some("20"), "{target}");
        assert_eq!(response.header("X-Streamgauge-Lsn"), Some("7"), "{target}");
        assert_eq!(response.header("X-Streamgauge-Incident"), Some("position_lost"), "{target}");
        assert_eq!(response.header("X-Streamgauge-Complete-Since"), Some("1970-01-01T00:00:02.000Z"), "{target}");
        assert_eq!(response.header("X-Streamgauge-Gap-Since"), Some("1970-01-01T00:00:01.000Z"), "{target}");
    }
    assert_eq!(client.ask("POST", "/push", JSON, r#"{"event":"E"}"#).header("X-Streamgauge-Lsn"), None);
}

#[test]
fn paths_are_decoded_after_splitting() {
    let plane = plane(|_| {});
    let mut client = Client::connect(plane.http);
    client.ask("GET", "/tables/T/a%2Fb/c%7Cd", JSON, "");
    client.ask("GET", "/get/T/a%2Fb", JSON, "");
    let called = plane.engine.called.lock().unwrap();
    assert!(matches!(&called[0], Request::Get(read) if read.key == KeyText::Segments(vec!["a/b".into(), "c|d".into()])));
    assert!(matches!(&called[1], Request::GetFeature { key: KeyText::Text(key), .. } if key == "a/b"));
}

#[test]
fn batches_come_as_arrays_lines_and_msgpack() {
    let plane = plane(|_| {});
    let mut client = Client::connect(plane.http);
    for (target, media_type, body) in [
        ("/push-batch/E", "application/x-ndjson", &b"{\"a\":1}\n{\"a\":2}\n"[..]),
        ("/push-batch", "application/x-ndjson; charset=utf-8", b"{\"event\":\"E\",\"data\":{}}\n{\"event\":\"F\"}"),
        ("/push-batch/E", "application/msgpack", b"\x92\x80\x81\xa1a\x01"),
        ("/push-batch", "application/msgpack", b"\x81\xa6events\x92\x81\xa5event\xa1E\x82\xa5event\xa1F\xa4data\x80"),
    ] {
        let response = client.ask("POST", target, media_type, body);
        assert!(response.status == 200 && response.body.contains(r#""count":2"#), "{target} {media_type}: {}", response.body);
    }
}

#[test]
fn health_and_readiness_answer_during_recovery() {
    let plane = plane(|_| {});
    plane.engine.recovering.store(true, Ordering::SeqCst);
    let mut client = Client::connect(plane.http);
    assert_eq!(client.ask("GET", "/health", JSON, "").status, 200);
    let ready = client.ask("GET", "/ready", JSON, "");
    assert_eq!((ready.status, ready.body.as_str()), (503, r#"{"status":"recovering"}"#));
    let push = client.ask("POST", "/push", JSON, r#"{"event":"E"}"#);
    assert_eq!((push.status, push.code().as_str(), push.header("Retry-After")), (503, "recovering", Some("1")));
}

/// HEAD is GET without its body; OPTIONS says what a path takes. Neither leaves the connection out of step.
#[test]
fn every_get_route_answers_head_and_options() {
    let plane = plane(|_| {});
    for target in ["/health", "/ready", "/ping", "/tables/T/k", "/tables/T", "/get/f/k", "/tables/T/absent", "/tables/T/k?nope=1"] {
        let whole = Client::connect(plane.http).ask("GET", target, JSON, "");
        let mut client = Client::connect(plane.http);
        client.send(format!("HEAD {target} HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n"));
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"{\"status\":\"ok\"}") {
            let mut space = [0; 4096];
            let count = std::io::Read::read(&mut client.stream, &mut space).unwrap();
            assert!(count > 0, "{target}: closed early");
            bytes.extend_from_slice(&space[..count]);
        }
        let text = String::from_utf8(bytes).unwrap();
        let (first, second) = text.split_once("\r\n\r\n").unwrap();
        assert!(first.starts_with(&format!("HTTP/1.1 {} ", whole.status)) && second.starts_with("HTTP/1.1 200 "), "{target}: {text}");
        assert!(first.contains(&format!("Content-Length: {}", whole.body.len())), "{target}: {first}");
    }
    for (target, allow) in [
        ("/health", "GET, HEAD, OPTIONS"),
        ("/tables/T/k", "GET, HEAD, OPTIONS"),
        ("/get/f/k", "GET, HEAD, OPTIONS"),
        ("/ping", "POST, GET, HEAD, OPTIONS"),
        ("/push/E", "POST, OPTIONS"),
        ("/batch_get", "POST, OPTIONS"),
    ] {
        let mut client = Client::connect(plane.http);
        client.send(format!("OPTIONS {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
        let mut text = String::new();
        std::io::Read::read_to_string(&mut client.stream, &mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 204 ") && text.contains(&format!("Allow: {allow}\r\n")), "{target}: {text}");
        assert!(text.ends_with("\r\n\r\n") && !text.contains("Access-Control"), "{target}: {text}");
    }
}

/// What a browser is told: nothing unless the config names its page's origin.
#[test]
fn only_pages_of_the_named_origins_may_read() {
    let head = |plane: &support::Plane, method: &str, target: &str, origin: &str| {
        let mut client = Client::connect(plane.http);
        let preflight = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type";
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\n{preflight}\r\nConnection: close\r\n\r\n"));
        let mut text = String::new();
        std::io::Read::read_to_string(&mut client.stream, &mut text).unwrap();
        text.split_once("\r\n\r\n").unwrap().0.to_owned()
    };
    let ours = "https://app.example";
    let plane = plane(|config| config.cors = streamgauge_api::Cors::new(vec![ours.into()]));
    for (method, target) in
        [("GET", "/tables/T/k"), ("GET", "/health"), ("GET", "/tables/T/absent"), ("GET", "/nowhere"), ("OPTIONS", "/batch_get")]
    {
        let mine = head(&plane, method, target, ours);
        assert!(mine.contains("Access-Control-Allow-Origin: https://app.example") && mine.contains("Vary: Origin"), "{target}: {mine}");
        assert!(mine.contains("Access-Control-Expose-Headers: X-Streamgauge-As-Of"), "{target}: {mine}");
        assert_eq!(mine.contains("Access-Control-Allow-Methods: POST, OPTIONS"), method == "OPTIONS", "{target}: {mine}");
        assert_eq!(mine.contains("Access-Control-Allow-Headers: Content-Type"), method == "OPTIONS", "{target}: {mine}");
        let other = head(&plane, method, target, "https://other.example");
        assert!(!other.contains("Access-Control") && other.contains("Vary: Origin"), "{target}: {other}");
    }
    let all = support::plane(|config| config.cors = streamgauge_api::Cors::new(vec!["*".into()]));
    assert!(head(&all, "GET", "/health", "https://other.example").contains("Access-Control-Allow-Origin: *"));
}

/// A browser sends a plain POST to any loopback port without asking first.
#[test]
fn a_page_of_another_site_changes_nothing() {
    let plane = plane(|_| {});
    for (target, origin, status) in [
        ("/push/E", "https://evil.example", "403"),
        ("/push-batch/E", "null", "403"),
        ("/register", "http://localhost:3000", "403"),
        ("/reset", "https://evil.example", "403"),
        ("/push/E", "http://127.0.0.1", "200"),
        ("/ping", "https://evil.example", "200"),
    ] {
        let mut client = Client::connect(plane.http);
        let head = format!("POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: {origin}\r\nContent-Type: text/plain\r\n");
        client.send(format!("{head}Content-Length: 2\r\nConnection: close\r\n\r\n{{}}"));
        let mut text = String::new();
        std::io::Read::read_to_string(&mut client.stream, &mut text).unwrap();
        let found = text.split(' ').nth(1).unwrap();
        assert_eq!(found, status, "{target} of {origin}: {text}");
        assert_eq!(text.contains("forbidden"), status == "403", "{text}");
    }
}

#[test]
fn compressed_bodies_are_taken_within_the_body_limit() {
    use std::io::Write;
    let gzip = |plain: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |plain: &[u8]| zstd::stream::encode_all(plain, 3).unwrap();
    let plane = plane(|config| config.body_max = 1000);
    let mut client = Client::connect(plane.http);
    let mut ask = |target: &str, coding: &str, body: &[u8]| {
        let mut wire = format!(
            "POST {target} HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        client.send(std::mem::take(&mut wire));
        client.send(body);
        let response = client.response();
        (response.status, if response.status == 200 { response.body } else { response.code() })
    };
    let push = br#"{"event":"E","data":{"a":1}}"#;
    assert_eq!(ask("/push", "gzip", &gzip(push)).0, 200);
    assert_eq!(ask("/push", "zstd", &zstd(push)).0, 200);
    assert_eq!(ask("/push-batch/E", "gzip", &gzip(b"[{},{}]")).0, 200);
    assert_eq!(ask("/register", "zstd", &zstd(br#"{"nodes":[]}"#)), (200, r#"{"nodes":[]}"#.into()));
    assert_eq!(ask("/get", "gzip", &gzip(br#"{"table":"T","key":"k","features":["n"]}"#)), (200, r#"{"n":2}"#.into()));
    let rows = plane.engine.pushed.lock().unwrap().iter().map(|(_, row, _)| row.clone()).collect::<Vec<_>>();
    assert_eq!(rows, [&br#"{"a":1}"#[..], br#"{"a":1}"#, b"{}", b"{}"], "rows are what was sent before it was compressed");
    // Each is refused alone: the connection goes on.
    assert_eq!(ask("/push/E", "gzip", &gzip(&[b' '; 1001])), (413, "payload_too_large".into()));
    assert_eq!(ask("/push/E", "zstd", &zstd(&vec![b' '; 500_000][..])), (413, "payload_too_large".into()));
    assert_eq!(ask("/push", "gzip", push), (400, "invalid_request".into()));
    assert_eq!(ask("/push", "br", push), (415, "unsupported_media_type".into()));
    assert_eq!(ask("/push", "gzip, gzip", push), (415, "unsupported_media_type".into()));
    assert_eq!(ask("/push", "identity", push).0, 200);
}
