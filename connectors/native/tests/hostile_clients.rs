//! Promises about clients that are slow, greedy, confused or hostile: they hurt themselves only, and get an answer where one is possible.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use proptest::prelude::*;
use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::{Client, code, frame, plane};

const JSON: &str = "application/json";
const FIVE_MB: usize = 5_000_000;

/// A second request hides in the body of each; it must never be answered.
#[test]
fn smuggling_shapes_are_refused_and_the_connection_closed() {
    let plane = plane(|_| {});
    let hidden = "POST /push HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{\"event\":\"E\"}";
    for head in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: +5",
        "Content-Length: 05",
        "Content-Length: 5,5",
        "Content-Length : 5",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding:\x0bchunked",
        "Host: y",
        "X: y\r\n folded",
        "X: \x01",
    ] {
        let mut client = Client::connect(plane.http);
        client.send(format!("POST /push HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n0\r\n\r\n{hidden}"));
        let response = client.response();
        assert_eq!((response.status, response.code().as_str()), (400, "http_protocol_error"), "{head}");
        assert_eq!(response.header("Connection"), Some("close"), "{head}");
        assert!(client.is_closed(), "{head}");
    }
    assert!(plane.engine.pushed.lock().unwrap().is_empty());
}

#[test]
fn chunk_arithmetic_is_checked() {
    let plane = plane(|_| {});
    for (size, status, expected) in
        [("ffffffffffffffff", 400, "http_protocol_error"), ("-1", 400, "http_protocol_error"), ("fffffff", 413, "payload_too_large")]
    {
        for path in ["/push", "/get", "/nowhere"] {
            let mut client = Client::connect(plane.http);
            client.send(format!("POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\n"));
            let response = client.response();
            assert_eq!((response.status, response.code().as_str()), (status, expected), "{size} {path}");
            assert!(client.is_closed());
        }
    }
}

#[test]
fn bodies_beyond_the_bound_are_refused_in_both_framings() {
    let plane = plane(|_| {});
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let with_length = format!("POST /push/E HTTP/1.1\r\nHost: x\r\nContent-Length: {FIVE_MB}\r\n\r\n{}", "x".repeat(FIVE_MB));
    let chunked =
        format!("POST /push/E HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(FIVE_MB / 0x10000 + 1));
    for request in [with_length, chunked] {
        let mut client = Client::connect(plane.http);
        client.send(request);
        let response = client.response();
        assert_eq!((response.status, response.code().as_str()), (413, "payload_too_large"));
        assert!(client.is_closed());
    }
    let mut client = Client::connect(plane.tcp);
    client.send(frame(0x0010, 1, vec![b'x'; FIVE_MB]));
    assert_eq!(code(&client.read_frame().2), "frame_too_large");
    assert!(client.is_closed());
    assert!(plane.engine.pushed.lock().unwrap().is_empty());
}

#[test]
fn bodies_of_exactly_the_bound_are_accepted_in_both_framings() {
    let plane = plane(|config| config.body_max = 1 << 20);
    let body = format!("{{\"a\":\"{}\"}}", "x".repeat((1 << 20) - 8));
    let mut client = Client::connect(plane.http);
    assert_eq!(client.ask("POST", "/push/E", JSON, &body).status, 200);
    client.send("POST /push/E HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in body.as_bytes().chunks(100_000) {
        client.send(format!("{:x};ext=1\r\n", piece.len())).send(piece).send("\r\n");
    }
    client.send("0\r\nTrailer: skipped\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let pushed = plane.engine.pushed.lock().unwrap();
    assert!(pushed.len() == 2 && pushed[0] == pushed[1] && pushed[0].1 == body.as_bytes());
}

#[test]
fn large_heads_are_refused() {
    let plane = plane(|_| {});
    for filler in [format!("X: {}\r\n", "y".repeat(9_000)), "X: y\r\n".repeat(70)] {
        let mut client = Client::connect(plane.http);
        client.send(format!("GET /health HTTP/1.1\r\nHost: x\r\n{filler}\r\n"));
        let response = client.response();
        assert_eq!((response.status, response.code().as_str()), (431, "headers_too_large"));
        assert!(client.is_closed());
    }
}

#[test]
fn connections_end_when_the_client_asks_and_persist_otherwise() {
    let plane = plane(|_| {});
    for (request, persists) in [
        ("GET /health HTTP/1.1\r\nHost: x\r\n\r\n", true),
        ("GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false),
        ("GET /health HTTP/1.0\r\n\r\n", false),
        ("GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
    ] {
        let mut client = Client::connect(plane.http);
        client.send(request);
        let response = client.response();
        assert_eq!(response.status, 200);
        assert_eq!(response.header("Connection"), Some(if persists { "keep-alive" } else { "close" }), "{request}");
        if persists {
            assert_eq!(client.ask("GET", "/health", JSON, "").status, 200);
        } else {
            assert!(client.is_closed());
        }
    }
}

/// What a client sent before it closed its sending side is answered in full.
#[test]
fn half_closed_connections_get_their_answers() {
    let plane = plane(|_| {});
    let mut client = Client::connect(plane.http);
    client.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n".repeat(3));
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    (0..3).for_each(|_| assert_eq!(client.response().status, 200));
    assert!(client.is_closed());
}

#[test]
fn a_client_that_expects_to_be_told_is_told_to_go_on() {
    let plane = plane(|_| {});
    let mut client = Client::connect(plane.http);
    for framing in ["Content-Length: 2", "Transfer-Encoding: chunked"] {
        client.send(format!("POST /push/E HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n{framing}\r\n\r\n"));
        assert_eq!(client.response().status, 100);
        client.send(if framing.starts_with('C') { "{}" } else { "2\r\n{}\r\n0\r\n\r\n" });
        assert_eq!(client.response().status, 200);
    }
    client.send("POST /push/E HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5000000\r\n\r\n");
    assert_eq!(client.response().status, 413, "refused before the body is sent");
}

#[test]
fn pipelined_requests_are_answered_in_order_even_when_the_engine_is_not() {
    let plane = plane(|_| {});
    let mut client = Client::connect(plane.http);
    let push = |event: &str| format!("POST /push/{event} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}");
    let health = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    client.send([&push("hold"), health, &push("E"), "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", &push("release"), health].concat());
    let bodies: Vec<String> = (0..6).map(|_| client.response().body).collect();
    assert!(
        bodies[0].contains("\"ack_lsn\":1,") && bodies[2].contains("\"ack_lsn\":2,") && bodies[4].contains("\"ack_lsn\":3,"),
        "{bodies:?}"
    );
    assert!(bodies[1].contains("ok") && bodies[3].contains("not_found") && bodies[5].contains("ok"), "{bodies:?}");
}

#[test]
fn slow_heads_are_closed() {
    let plane = plane(|config| config.head_timeout = Duration::from_millis(300));
    let mut slow: Vec<Client> = (0..200).map(|_| Client::connect(plane.http)).collect();
    for client in &mut slow {
        client.send("GET /health HTTP/1.1\r\nHo");
    }
    let start = Instant::now();
    assert_eq!(Client::connect(plane.http).ask("GET", "/health", JSON, "").status, 200, "others are served meanwhile");
    for client in &mut slow {
        let response = client.response();
        assert_eq!((response.status, response.code().as_str()), (408, "request_timeout"));
        assert!(client.is_closed());
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn slow_bodies_and_frames_are_closed() {
    let plane = plane(|config| config.body_timeout = Duration::from_millis(300));
    for start in ["Content-Length: 10\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n5\r\n{"] {
        let mut client = Client::connect(plane.http);
        client.send(format!("POST /push/E HTTP/1.1\r\nHost: x\r\n{start}"));
        assert_eq!(client.response().status, 408);
        assert!(client.is_closed());
    }
    let mut client = Client::connect(plane.tcp);
    client.send(&frame(0x0010, 1, "{}")[..8]);
    assert_eq!(code(&client.read_frame().2), "request_timeout");
    assert!(client.is_closed());
}

#[test]
fn quiet_connections_are_closed_and_waiting_ones_are_not() {
    let plane = plane(|config| config.idle_timeout = Duration::from_millis(200));
    let mut waiting = Client::connect(plane.http);
    waiting.send("POST /push/hold HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}");
    let mut quiet = Client::connect(plane.http);
    assert_eq!(quiet.ask("GET", "/health", JSON, "").status, 200);
    assert!(quiet.is_closed());
    assert_eq!(Client::connect(plane.http).ask("POST", "/push/release", JSON, "{}").status, 200);
    assert_eq!(waiting.response().status, 200);
}

/// A client pipelines tens of thousands of requests and reads nothing: it is paused, then closed; others see no change.
#[test]
fn unread_replies_stop_one_client_only() {
    let plane = plane(|config| config.write_timeout = Duration::from_millis(500));
    let request = "POST /get HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{\"table\":\"T\"}";
    let requests = request.repeat(1_000);
    let greedy = Client::connect(plane.http);
    let frames = Client::connect(plane.tcp);
    let many = frame(0x0020, 1, "{\"table\":\"T\"}").repeat(2_000);
    let writer = |mut client: Client, bytes: Vec<u8>| {
        std::thread::spawn(move || {
            // Ends when the server has closed the connection.
            (0..2_000).take_while(|_| client.stream.write_all(&bytes).is_ok()).count()
        })
    };
    let writers = [writer(greedy.twin(), requests.into_bytes()), writer(frames.twin(), many)];
    let (mut http, mut tcp) = (Client::connect(plane.http), Client::connect(plane.tcp));
    while !writers.iter().all(|writer| writer.is_finished()) {
        let start = Instant::now();
        assert_eq!(http.ask("GET", "/health", JSON, "").status, 200);
        assert_eq!(tcp.ask_frame(0x0020, 1, "{\"table\":\"T\"}").0, 0x0023);
        assert!(start.elapsed() < Duration::from_secs(2));
    }
    for writer in writers {
        assert!(writer.join().unwrap() < 2_000, "reading had stopped");
    }
}

/// With connections open and nothing to do, the thread sleeps: the engine's turns count its rounds.
#[test]
fn idle_is_idle() {
    let plane = plane(|_| {});
    let mut clients = [Client::connect(plane.http), Client::connect(plane.tcp)];
    assert_eq!(clients[0].ask("GET", "/health", JSON, "").status, 200);
    assert_eq!(clients[1].ask_frame(0, 1, "").0, 0);
    let before = plane.engine.turns.load(Ordering::SeqCst);
    clients[0].stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(std::io::Read::read(&mut clients[0].stream, &mut [0]).is_err(), "nothing comes for half a second");
    let rounds = plane.engine.turns.load(Ordering::SeqCst) - before;
    assert!(rounds <= 2, "{rounds} rounds");
}

#[test]
fn connections_beyond_the_caps_are_told_so() {
    let plane = plane(|config| config.connections_per_peer_max = 2);
    let mut first = Client::connect(plane.http);
    let mut second = Client::connect(plane.tcp);
    assert_eq!(first.ask("GET", "/health", JSON, "").status, 200);
    assert_eq!(second.ask_frame(0, 1, "").0, 0);
    let response = Client::connect(plane.http).response();
    assert_eq!((response.status, response.code().as_str(), response.header("Retry-After")), (503, "overloaded", Some("1")));
    assert_eq!(code(&Client::connect(plane.tcp).read_frame().2), "overloaded");
    drop(second);
    // The place is free again as soon as the server has seen the end of the second.
    let freed = (0..1_000).any(|_| {
        let mut client = Client::connect(plane.http);
        client.stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").is_ok()
            && client.try_response() == Some(200)
    });
    assert!(freed);
}

#[test]
fn stopping_answers_what_was_taken_and_closes_the_rest() {
    let mut plane = plane(|_| {});
    let mut quiet = Client::connect(plane.http);
    assert_eq!(quiet.ask("GET", "/health", JSON, "").status, 200);
    let mut waiting = Client::connect(plane.tcp);
    waiting.send_frame(0x0010, 1, r#"{"event":"deaf","body":{}}"#);
    while plane.engine.pushed.lock().unwrap().is_empty() {
        std::thread::yield_now();
    }
    let running = plane.running.take().unwrap();
    running.drain();
    assert!(quiet.is_closed());
    let start = Instant::now();
    running.stop(Duration::from_millis(300));
    assert!((Duration::from_millis(300)..Duration::from_secs(5)).contains(&start.elapsed()), "an open request is waited for, not for ever");
    assert!(waiting.is_closed());
    assert!(std::net::TcpStream::connect(plane.http).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    /// Whatever bytes come, the server goes on serving others.
    #[test]
    fn garbage_harms_nobody(bytes in prop::collection::vec(any::<u8>(), 1..2_000), text in "[ -~\r\n]{0,500}") {
        let plane = plane(|_| {});
        for address in [plane.http, plane.tcp] {
            for garbage in [&bytes[..], text.as_bytes()] {
                let mut client = Client::connect(address);
                // The server may close before everything is sent.
                let _sent = client.stream.write_all(garbage).is_ok();
                client.stream.shutdown(std::net::Shutdown::Write).ok();
                client.drain();
            }
        }
        prop_assert_eq!(Client::connect(plane.http).ask("GET", "/health", JSON, "").status, 200);
    }
}
