//! Bulk requests are another thread's: nobody waits for them but who sent them, and each connection keeps its order.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::Write;
use streamgauge_native::config::BULK_BYTES;
use support::{Client, Plane, plane};

/// An array of so many bytes at least, whose first row says a number.
fn rows(number: usize, bytes: usize) -> String {
    format!("[{{\"n\":{number}}}{}]", ",{\"a\":1}".repeat(bytes / 8 + 1))
}

fn post(target: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// The numbers that the rows of one event said, in the order in which the engine had them.
fn numbers(plane: &Plane, event: &str) -> Vec<usize> {
    let pushed = plane.engine.pushed.lock().unwrap();
    let of_event = pushed.iter().filter(|(name, ..)| name == event);
    let texts = of_event.map(|(_, row, _)| String::from_utf8(row.clone()).unwrap());
    texts.filter_map(|text| text.strip_prefix("{\"n\":")?.strip_suffix('}')?.parse().ok()).collect()
}

/// One thread read, decoded and answered for all: a read of one row waited for a batch of megabytes.
#[test]
fn who_sends_light_requests_does_not_wait_for_bulk() {
    let plane = plane(|_| {});
    let gate = plane.engine.gate.lock().unwrap();
    let mut bulk = Client::connect(plane.http);
    bulk.send(post("/push-batch/gated", &rows(0, BULK_BYTES)));
    let (mut reader, mut framed) = (Client::connect(plane.http), Client::connect(plane.tcp));
    for _ in 0..20 {
        assert_eq!(reader.ask("GET", "/tables/T/k", "", "").status, 200);
        framed.send_frame(0x0000, 1, "");
        assert_eq!(framed.read_frame().0, 0x0000);
    }
    drop(gate);
    assert_eq!(bulk.response().status, 200);
    // It comes back for what is light.
    let gate = plane.engine.gate.lock().unwrap();
    let mut other = Client::connect(plane.http);
    other.send(post("/push-batch/gated", &rows(1, BULK_BYTES)));
    while plane.engine.at_gate.load(std::sync::atomic::Ordering::SeqCst) < 2 {
        std::thread::yield_now();
    }
    for _ in 0..3 {
        assert_eq!(bulk.ask("GET", "/tables/T/k", "", "").status, 200);
    }
    drop(gate);
    assert_eq!(other.response().status, 200);
}

#[test]
fn a_connection_keeps_the_order_of_its_requests_whatever_their_size() {
    let plane = plane(|config| config.io_threads = 2);
    std::thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            let plane = &plane;
            scope.spawn(move || {
                let mut client = Client::connect(plane.http);
                let mut writer = client.twin();
                let sizes = |number: usize| [0, BULK_BYTES - 200, BULK_BYTES + 1, 5 * BULK_BYTES, 0, 0, 2 * BULK_BYTES][number % 7];
                let sending = scope.spawn(move || {
                    for number in 0..70 {
                        let wire = post(&format!("/push-batch/{name}"), &rows(number, sizes(number)));
                        // In pieces, so that a move finds half of a request too.
                        wire.as_bytes().chunks(7_001).for_each(|piece| writer.stream.write_all(piece).unwrap());
                    }
                });
                for number in 0..70 {
                    let reply = client.response();
                    let count = sizes(number) / 8 + 2;
                    assert!(reply.status == 200 && reply.body.contains(&format!("\"count\":{count},")), "{number}: {reply:?}");
                }
                sending.join().unwrap();
                assert_eq!(numbers(plane, name), (0..70).collect::<Vec<_>>());
            });
        }
    });
}

#[test]
fn frames_and_bodies_whose_length_is_not_told_move_too() {
    let plane = plane(|_| {});
    let mut framed = Client::connect(plane.tcp);
    for number in 0..6 {
        let bytes = if number % 2 == 0 { BULK_BYTES } else { 0 };
        framed.send_frame(0x0012, 1, format!("{{\"event\":\"F\",\"rows\":{}}}", rows(number, bytes)));
    }
    (0..6).for_each(|_| assert_eq!(framed.read_frame().0, 0x0012));
    assert_eq!(numbers(&plane, "F"), (0..6).collect::<Vec<_>>());

    let mut chunked = Client::connect(plane.http);
    let body = rows(0, 4 * BULK_BYTES);
    chunked.send("POST /push-batch/C HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in body.as_bytes().chunks(9_000) {
        chunked.send(format!("{:x}\r\n", piece.len())).send(piece).send("\r\n");
        std::thread::yield_now();
    }
    chunked.send("0\r\n\r\n").send(post("/push-batch/C", &rows(1, 0)));
    assert_eq!((chunked.response().status, chunked.response().status), (200, 200));
    assert_eq!(numbers(&plane, "C"), [0, 1]);

    // The client waits for the word to go on, which the thread of bulk gives.
    let mut asking = Client::connect(plane.http);
    let body = rows(0, BULK_BYTES);
    let length = body.len();
    asking.send(format!(
        "POST /push-batch/E HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
    ));
    assert_eq!(asking.response().status, 100);
    asking.send(body);
    assert_eq!(asking.response().status, 200);
}

#[test]
fn a_stop_answers_what_bulk_was_taken_and_leaves_nobody() {
    let mut plane = plane(|_| {});
    let gate = plane.engine.gate.lock().unwrap();
    let mut bulk = Client::connect(plane.http);
    bulk.send(post("/push-batch/gated", &rows(0, BULK_BYTES)));
    let mut reader = Client::connect(plane.http);
    assert_eq!(reader.ask("GET", "/tables/T/k", "", "").status, 200);
    while plane.engine.at_gate.load(std::sync::atomic::Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    let running = plane.running.take().unwrap();
    running.drain();
    drop(gate);
    assert_eq!(bulk.response().status, 200);
    running.stop(std::time::Duration::from_secs(20));
}
