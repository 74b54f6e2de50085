//! The admin port over a real socket, with an engine that answers what it is told.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use streamgauge_admin::{AdminOptions, AdminServer, RunningAdmin};
use streamgauge_api::control::{Action, Control, KeysPage, LogPage, PartitionStatus, Readiness, Reject, Retried, RetryRequest};
use streamgauge_api::decision::{Decision, Effect, Place};
use streamgauge_api::metrics::Metrics;
use streamgauge_api::port::{Freshness, Read, Row};
use streamgauge_api::source::SourceNote;
use streamgauge_api::{ApiError, Code, Cors};

const WAIT: Duration = Duration::from_secs(20);

struct Engine {
    alive: AtomicBool,
    readiness: Mutex<Readiness>,
    metrics: Arc<Metrics>,
    /// While set, `status` does not return.
    hanging: Arc<AtomicBool>,
    entered: Arc<AtomicBool>,
}

impl Engine {
    fn new() -> Arc<Self> {
        let ready = Readiness { ready: true, phase: "ready".into(), reasons: Vec::new(), warnings: Vec::new(), progress: 1.0, eta_s: None };
        Arc::new(Self {
            alive: AtomicBool::new(true),
            readiness: Mutex::new(ready),
            metrics: Arc::new(Metrics::new("0.1.0", "test")),
            hanging: Arc::default(),
            entered: Arc::default(),
        })
    }

    fn is(&self, phase: &str, reasons: &[&str]) {
        let reasons: Vec<String> = reasons.iter().map(|reason| (*reason).to_owned()).collect();
        let ready = reasons.is_empty();
        *self.readiness.lock().unwrap() =
            Readiness { ready, phase: phase.into(), reasons, warnings: Vec::new(), progress: 0.63, eta_s: Some(7.2) };
    }
}

impl Control for Engine {
    fn subscribe(
        &self,
        request: &streamgauge_api::subscribe::SubscribeRequest,
        queue: Arc<streamgauge_api::subscribe::SubscriberQueue>,
    ) -> Result<Json, ApiError> {
        let error = ApiError::new(Code::ServerStopping, "the server is stopping").with("last_lsn", 7.into());
        queue.put(streamgauge_api::subscribe::Message::Closed(Arc::new(error)));
        Ok(json!({"events": request.events}))
    }
    fn alive(&self) -> bool {
        self.alive.load(Ordering::SeqCst)
    }
    fn readiness(&self) -> Readiness {
        self.readiness.lock().unwrap().clone()
    }
    fn status(&self) -> Json {
        self.entered.store(true, Ordering::SeqCst);
        let started = Instant::now();
        while self.hanging.load(Ordering::SeqCst) && started.elapsed() < WAIT {
            std::thread::sleep(Duration::from_millis(2));
        }
        json!({"version": "0.1.0"})
    }
    fn registry(&self) -> Json {
        json!({"node_count": 3, "version": 2, "events": {}, "tables": {}, "sources": {}})
    }
    fn sources(&self) -> Vec<PartitionStatus> {
        Vec::new()
    }
    fn source_notes(&self) -> Vec<SourceNote> {
        vec![SourceNote { source: "payments".into(), state: "connecting".into(), detail: "no broker answers".into() }]
    }
    fn keys(&self, table: &str, after: Option<&str>, limit: usize) -> Result<KeysPage, ApiError> {
        if table == "panics" {
            panic!("a bug in the engine");
        }
        if table != "card/stats" {
            return Err(ApiError::new(Code::UnknownTable, format!("no table '{table}'")).hint("did you mean 'card_stats'?"));
        }
        Ok(KeysPage { table: table.into(), keys: vec![json!(after), json!(limit)], next: Some("n".into()), total: 2 })
    }
    fn get(&self, _: &Read) -> Result<(Row, Freshness), ApiError> {
        Err(ApiError::new(Code::NotAvailable, "not asked for"))
    }
    fn log(&self, from_lsn: Option<u64>, limit: usize, wait: Duration) -> Result<LogPage, ApiError> {
        match from_lsn {
            Some(lsn @ ..10) => Err(ApiError::new(Code::PositionExpired, format!("LSN {lsn} is gone")).with("earliest_lsn", 10.into())),
            from => Ok(LogPage {
                log_id: "00".into(),
                earliest_lsn: 10,
                durable_lsn: limit as u64,
                frames: Vec::new(),
                next_lsn: from.unwrap_or(wait.as_millis() as u64),
            }),
        }
    }

    fn eventstore(&self) -> Result<Json, ApiError> {
        Ok(json!({"declared": false}))
    }
    fn rejects_gone(&self) -> u64 {
        7
    }

    fn rejects(&self, _: u64, _: usize) -> Vec<Reject> {
        Vec::new()
    }
    fn retry_rejects(&self, _: &RetryRequest) -> Result<Retried, ApiError> {
        Ok(Retried::default())
    }
    fn metrics(&self) -> String {
        self.metrics.text()
    }
    fn limits(&self) -> Json {
        json!({"limits": []})
    }
    fn fingerprint(&self) -> Result<(u64, String), ApiError> {
        Ok((42, "00ff".into()))
    }
    fn backfills(&self) -> Json {
        json!([{"id": 7, "table": "cards", "state": "reading"}])
    }
    fn incidents(&self) -> Json {
        json!({"incidents": [], "gaps": []})
    }
    fn decide(&self, place: Place, decision: Decision, dry_run: bool) -> Result<Vec<Effect>, ApiError> {
        if place.source != "clicks" {
            return Err(ApiError::new(Code::UnknownReference, format!("no source \"{}\" runs; running: clicks", place.source)));
        }
        let told = format!("{} dry_run={dry_run}", decision.as_str());
        Ok(vec![Effect {
            id: place.to_string(),
            incident: "SourceGap".into(),
            from_offset: Some(1),
            to_offset: Some(3),
            to_read: Some(4),
            lost: told,
            counted_again: "nothing".into(),
        }])
    }
    fn act(&self, action: Action) -> Result<Json, ApiError> {
        match action {
            Action::Snapshot => Ok(json!({"lsn": 42})),
            Action::Archive => Ok(json!({"declared": true, "archive": {"archived_lsn": 9}})),
            Action::AcceptClock => Ok(json!({"lsn": 43, "moved_s": 0, "now_us": 2, "was_us": 1})),
            Action::PauseBackfill(_) | Action::ResumeBackfill(_) | Action::CancelBackfill(_) => Ok(json!({"lsn": 44})),
        }
    }
}

fn start(engine: &Arc<Engine>) -> RunningAdmin {
    start_with(engine, Cors::default())
}

fn start_with(engine: &Arc<Engine>, cors: Cors) -> RunningAdmin {
    let server = AdminServer::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    assert_ne!(server.address().port(), 0);
    let options = AdminOptions { version: "0.1.0".into(), metrics: Arc::clone(&engine.metrics), cors };
    server.start(Arc::clone(engine) as Arc<dyn Control>, options).unwrap()
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().filter_map(|line| line.split_once(": ")).find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.set_write_timeout(Some(WAIT)).unwrap();
    stream
}

fn send(address: SocketAddr, request: &str) -> Answer {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.into(), body: body.into() }
}

fn call(address: SocketAddr, method: &str, target: &str) -> Answer {
    send(address, &format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

fn get(address: SocketAddr, target: &str) -> Answer {
    call(address, "GET", target)
}

#[test]
fn every_documented_route_answers_as_it_is_documented() {
    let engine = Engine::new();
    let server = start(&engine);
    let document = get(server.address(), "/openapi.json").json();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let target = path.replace("/backfills/{id}", "/backfills/7").replace("{action}", "pause");
            let target = target.replace("{table}", "card%2Fstats").replace("{id}", "clicks%2F0").replace("{decision}", "forget");
            let answer = call(server.address(), &method.to_uppercase(), &target);
            assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body);
            assert_eq!(answer.header("x-runtime"), Some("tokio"), "{path}");
            assert!(answer.header("x-request-id").is_some(), "{path}");
            let documented = operation["responses"]["200"]["content"].as_object().unwrap();
            assert!(documented.contains_key(answer.header("content-type").unwrap()), "{path}: {}", answer.head);
            let wrong = call(server.address(), if method == "get" { "DELETE" } else { "GET" }, &target);
            assert_eq!((wrong.status, wrong.json()["code"].as_str()), (405, Some("method_not_allowed")), "{path}");
            assert!(wrong.header("allow").unwrap().contains(&method.to_uppercase()), "{path}");
        }
    }
    server.stop(WAIT);
}

#[test]
fn the_openapi_document_is_the_golden_file() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let document = format!("{}\n", serde_json::to_string_pretty(&streamgauge_admin::openapi("0")).unwrap());
    if std::env::var_os("STREAMGAUGE_WRITE_GOLDEN").is_some() {
        std::fs::write(&golden, &document).unwrap();
    }
    let kept = std::fs::read_to_string(&golden).unwrap();
    assert!(kept == document, "the interface changed: look at it, then run this test with STREAMGAUGE_WRITE_GOLDEN=1");
}

#[test]
fn answers_carry_what_the_engine_says() {
    let engine = Engine::new();
    let server = start(&engine);
    let at = server.address();
    for (target, expected) in [
        ("/health", json!({"status": "ok"})),
        ("/livez", json!({"status": "ok"})),
        ("/ready", json!({"status": "ready"})),
        ("/registry", json!({"node_count": 3, "version": 2, "events": {}, "tables": {}, "sources": {}})),
        ("/sources", json!({"sources": [{"source": "payments", "state": "connecting", "detail": "no broker answers"}], "partitions": []})),
        ("/status", json!({"version": "0.1.0"})),
        ("/limits", json!({"limits": []})),
        ("/rejects", json!({"rejects": [], "next": null, "gone": 7})),
        ("/fingerprint", json!({"lsn": 42, "fingerprint": "00ff"})),
        ("/tables/card%2Fstats/keys", json!({"table": "card/stats", "keys": [null, 100], "next": "n", "total": 2})),
        ("/tables/card%2Fstats/keys?after=%C3%A4%26&limit=7", json!({"table": "card/stats", "keys": ["ä&", 7], "next": "n", "total": 2})),
    ] {
        assert_eq!(get(at, target).json(), expected, "{target}");
    }
    assert_eq!(call(at, "POST", "/snapshots").json(), json!({"lsn": 42}));
    for (query, told) in
        [("", "accept-gap dry_run=false"), ("?dry_run=true", "accept-gap dry_run=true"), ("?dry_run", "accept-gap dry_run=true")]
    {
        let answer = call(at, "POST", &format!("/incidents/clicks%2F0/accept-gap{query}")).json();
        assert_eq!((&answer["partitions"][0]["lost"], &answer["partitions"][0]["id"]), (&json!(told), &json!("clicks/0")), "{answer}");
    }
    let metrics = get(at, "/metrics");
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4"));
    assert!(metrics.body.contains("# TYPE streamgauge_build_info gauge\n"));
    assert!(metrics.body.contains("streamgauge_http_requests_total{route=\"/tables/{table}/keys\",status=\"200\"} 2\n"));
    assert!(metrics.body.contains("streamgauge_connections{listener=\"admin\"} 1\n"));
    assert!(get(at, "/").body.contains("<a href=\"/metrics\">"));
    server.stop(WAIT);
}

#[test]
fn refusals_are_problems_with_stable_codes() {
    let engine = Engine::new();
    let server = start(&engine);
    let at = server.address();
    for (method, target, status, code) in [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/tables/none/keys", 404, "unknown_table"),
        ("GET", "/tables/panics/keys", 500, "internal_error"),
        ("GET", "/tables/card%2Fstats/keys?limit=0", 400, "invalid_request"),
        ("GET", "/tables/card%2Fstats/keys?limit=1001", 400, "invalid_request"),
        ("GET", "/tables/card%2Fstats/keys?limit=x", 400, "invalid_request"),
        ("GET", "/tables/%FF/keys", 400, "invalid_request"),
        ("GET", "/rejects?after=yesterday", 400, "invalid_request"),
        ("GET", "/rejects?limit=201", 400, "invalid_request"),
        ("POST", "/incidents/clicks%2Fx/forget", 400, "invalid_request"),
        ("POST", "/incidents/clicks/explode", 400, "invalid_request"),
        ("POST", "/incidents/clicks/begin", 400, "invalid_request"),
        ("POST", "/incidents/clicks/begin?at=yesterday", 400, "invalid_request"),
        ("POST", "/incidents/clicks/forget?at=latest", 400, "invalid_request"),
        ("POST", "/incidents/clicks/forget?dryrun=true", 400, "unknown_member"),
        ("POST", "/incidents/clicks/forget?dry_run=perhaps", 400, "invalid_request"),
        ("POST", "/incidents/others/forget", 400, "unknown_reference"),
        ("PUT", "/status", 405, "method_not_allowed"),
        ("GET", "/snapshots", 405, "method_not_allowed"),
    ] {
        let answer = call(at, method, target);
        let problem = answer.json();
        assert_eq!((answer.status, problem["code"].as_str()), (status, Some(code)), "{method} {target}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{target}");
        assert_eq!(answer.header("x-runtime"), Some("tokio"), "{target}");
        assert_eq!(problem["request_id"].as_str(), answer.header("x-request-id"), "{target}");
        assert_eq!(problem["type"], format!("/errors/{code}"));
        assert_eq!(problem["status"], status);
        assert_eq!(problem["instance"].as_str(), target.split('?').next());
        for member in ["title", "detail", "hint", "retry"] {
            assert!(!problem[member].as_str().unwrap().is_empty(), "{target}: {member}");
        }
    }
    assert_eq!(get(at, "/tables/none/keys").json()["hint"], "did you mean 'card_stats'?");
    server.stop(WAIT);
}

#[test]
fn probes_say_what_stands_against_the_server() {
    let engine = Engine::new();
    let server = start(&engine);
    let at = server.address();
    for (phase, reasons, ready, started, code) in [
        ("starting", &["recovering"][..], 503, 503, "recovering"),
        ("recovering", &["recovering"], 503, 503, "recovering"),
        ("catching_up", &["catching_up"], 503, 200, "recovering"),
        ("ready", &["stale", "disk_full"], 503, 200, "stale"),
        ("ready", &["disk_full"], 503, 200, "storage_full"),
        ("ready", &[], 200, 200, ""),
        ("draining", &["draining"], 503, 200, "draining"),
        ("failed", &["wal_poisoned"], 503, 503, "wal_unavailable"),
    ] {
        engine.is(phase, reasons);
        for route in ["/ready", "/readyz", "/readyz?verbose"] {
            let answer = get(at, route);
            assert_eq!(answer.status, ready, "{phase} {route}");
            if ready == 503 {
                let body = answer.json();
                assert_eq!(body["reasons"], json!(reasons));
                assert_eq!((body["code"].as_str(), body["progress"].as_f64(), body["eta_s"].as_f64()), (Some(code), Some(0.63), Some(7.2)));
                assert_eq!(answer.header("retry-after"), Some("8"));
            }
        }
        assert_eq!(get(at, "/startupz").status, started, "{phase}");
        assert_eq!(get(at, "/livez").status, 200, "liveness looks at the apply thread only");
    }
    engine.alive.store(false, Ordering::SeqCst);
    let dead = get(at, "/livez");
    assert_eq!((dead.status, dead.json()["status"].as_str()), (503, Some("stalled")));
    server.stop(WAIT);
}

#[test]
fn a_stalled_engine_fills_its_lane_and_probes_still_answer() {
    let engine = Engine::new();
    let server = start(&engine);
    let at = server.address();
    engine.hanging.store(true, Ordering::SeqCst);
    let waiting: Vec<_> = (0..40).map(|_| std::thread::spawn(move || get(at, "/status"))).collect();
    let refused = loop {
        let answer = get(at, "/registry");
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("overloaded")));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(get(at, "/livez").status, 200);
    engine.hanging.store(false, Ordering::SeqCst);
    let statuses: Vec<u16> = waiting.into_iter().map(|thread| thread.join().unwrap().status).collect();
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    assert!(statuses.contains(&200));
    server.stop(WAIT);
}

#[test]
fn hostile_input_is_answered_or_closed_and_the_server_goes_on() {
    let engine = Engine::new();
    let server = start(&engine);
    let at = server.address();
    let large_head = format!("GET /health HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(100_000));
    let large_body =
        format!("POST /snapshots HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n{}", "a".repeat(100_000));
    for (what, bytes, status) in [
        ("not http", "\u{1}\u{2}garbage\r\n\r\n".to_owned(), Some(400)),
        ("a large head", large_head, Some(431)),
        ("a large body", large_body, Some(413)),
        ("two lengths", "GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(), Some(400)),
    ] {
        let mut stream = connect(at);
        // The server may close before it read everything.
        let _ = stream.write_all(bytes.as_bytes());
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        if let Some(status) = status {
            assert!(reply.starts_with(format!("HTTP/1.1 {status}").as_bytes()), "{what}: {}", String::from_utf8_lossy(&reply));
        }
        assert_eq!(get(at, "/health").status, 200, "after {what}");
    }
    server.stop(WAIT);
}

#[test]
fn a_head_that_never_ends_is_cut_off() {
    let engine = Engine::new();
    let server = start(&engine);
    let mut stream = connect(server.address());
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n").unwrap();
    let started = Instant::now();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    assert!((Duration::from_secs(4)..Duration::from_secs(15)).contains(&started.elapsed()), "{:?}", started.elapsed());
    server.stop(WAIT);
}

#[test]
fn pages_of_other_sites_may_not_act() {
    let engine = Engine::new();
    let server = start(&engine);
    let at = server.address();
    let post =
        |origin: &str| send(at, &format!("POST /snapshots HTTP/1.1\r\nHost: {at}\r\nOrigin: {origin}\r\nConnection: close\r\n\r\n")).status;
    assert_eq!(post("http://evil.example"), 403);
    assert_eq!(post("null"), 403);
    assert_eq!(post(&format!("http://{at}")), 200);
    server.stop(WAIT);
}

#[test]
fn pages_that_the_config_names_may_read_and_act() {
    let engine = Engine::new();
    let admin = start_with(&engine, Cors::new(vec!["https://app.example".into()]));
    let ask = |method: &str, target: &str, origin: &str| {
        send(
            admin.address(),
            &format!("{method} {target} HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        )
    };
    for (method, target, status) in
        [("GET", "/status", 200), ("GET", "/nowhere", 404), ("POST", "/snapshots", 200), ("OPTIONS", "/snapshots", 204)]
    {
        let ours = ask(method, target, "https://app.example");
        assert_eq!((ours.status, ours.header("access-control-allow-origin")), (status, Some("https://app.example")), "{method} {target}");
        assert_eq!(ours.header("access-control-allow-methods").is_some(), method == "OPTIONS", "{method} {target}");
        let other = ask(method, target, "https://other.example");
        assert_eq!(other.header("access-control-allow-origin"), None, "{method} {target}");
        assert_eq!(other.status, if method == "POST" { 403 } else { status }, "{method} {target}");
    }
}

#[test]
fn every_route_answers_head_and_options() {
    let engine = Engine::new();
    let admin = start(&engine);
    for target in [
        "/",
        "/health",
        "/livez",
        "/ready",
        "/readyz?verbose",
        "/startupz",
        "/metrics",
        "/registry",
        "/sources",
        "/status",
        "/limits",
        "/rejects?limit=1",
    ] {
        let head = call(admin.address(), "HEAD", target);
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{target}");
        let options = call(admin.address(), "OPTIONS", target);
        assert_eq!((options.status, options.header("allow"), options.body.as_str()), (204, Some("GET, HEAD, OPTIONS"), ""), "{target}");
    }
    assert_eq!(call(admin.address(), "OPTIONS", "/clock/accept").header("allow"), Some("POST, OPTIONS"));
    assert_eq!(call(admin.address(), "GET", "/clock/accept").header("allow"), Some("POST, OPTIONS"));
    assert_eq!(call(admin.address(), "OPTIONS", "/nowhere").status, 404);
}

#[test]
fn parameters_that_a_route_does_not_take_are_refused_with_the_nearest_name() {
    let engine = Engine::new();
    let admin = start(&engine);
    for (target, code, hint) in [
        ("/rejects?limti=5", "unknown_member", "did you mean `limit`?"),
        ("/rejects?limit=5&limit=6", "invalid_request", ""),
        ("/status?verbose", "unknown_member", "/status takes no query parameter"),
        ("/readyz?verbos", "unknown_member", "did you mean `verbose`?"),
        ("/readyz?verbose=yes", "invalid_request", ""),
        ("/health?%7A=1", "unknown_member", "/health takes no query parameter"),
    ] {
        let answer = get(admin.address(), target);
        let body: Json = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, body["code"].as_str()), (400, Some(code)), "{target}: {body}");
        assert!(body["hint"].as_str().unwrap().contains(hint), "{target}: {body}");
    }
}

#[test]
fn stopping_answers_what_is_in_flight_and_refuses_what_comes_later() {
    let engine = Engine::new();
    let server = start(&engine);
    let at = server.address();
    engine.hanging.store(true, Ordering::SeqCst);
    let in_flight = std::thread::spawn(move || get(at, "/status").status);
    while !engine.entered.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    let idle = connect(at);
    let stopped = std::thread::spawn(move || server.stop(WAIT));
    let started = Instant::now();
    while TcpStream::connect(at).is_ok() && started.elapsed() < WAIT {
        std::thread::yield_now();
    }
    engine.hanging.store(false, Ordering::SeqCst);
    assert_eq!(in_flight.join().unwrap(), 200);
    stopped.join().unwrap();
    assert!(started.elapsed() < WAIT, "an idle connection does not hold the stop up");
    drop(idle);
}

#[test]
fn a_port_in_use_is_an_error_not_a_panic() {
    let first = AdminServer::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    assert!(AdminServer::bind(first.address()).is_err());
}

/// A `dry_run` in a body was ignored, and the decision carried out.
#[test]
fn a_body_that_says_something_is_refused_before_anything_is_done() {
    let engine = Engine::new();
    let admin = start(&engine);
    let at = admin.address();
    let post = |target: &str, body: &str| {
        let length = body.len();
        send(at, &format!("POST {target} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"))
    };
    for target in ["/incidents/clicks/accept-gap", "/snapshots", "/clock/accept"] {
        for body in [r#"{"dry_run": true}"#, "x", "[]", "{"] {
            let refused = post(target, body);
            assert_eq!((refused.status, refused.json()["code"].as_str()), (400, Some("invalid_request")), "{target}: {body}");
        }
        for body in ["", "{}", " {}\n"] {
            assert_eq!(post(target, body).status, 200, "{target}: {body:?}");
        }
    }
}
