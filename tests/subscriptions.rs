//! Subscribers see each row of an event once, in the transaction that brought it, and go on where they were: over restarts, kills and
//! changes of the event, from any LSN that the log has.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value as Json, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use streamgauge_testing::{Setup, Sidecar};

const BINARY: &str = env!("CARGO_BIN_EXE_streamgauge");
const WITHIN: Duration = Duration::from_secs(30);
const CONFIG: &str = r#"config_version = 1
[durability.sync]
every = "10ms"
[events.Payment]
fields = { card = "str", amount = "f64", lsn = "i64?", note = "str?" }
[events.Login]
fields = { user = "str" }
[tables.cards]
from = "Payment"
key = ["card"]
[tables.cards.features]
n = { op = "count" }
"#;

/// A message as it came.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    id: Option<u64>,
    name: String,
    data: Json,
}

/// A client that is not ours: a socket and the lines of server-sent events.
struct Stream(BufReader<TcpStream>);

impl Stream {
    /// The stream, or the refusal.
    fn open(sidecar: &Sidecar, target: &str, headers: &str) -> Result<Self, (u16, Json)> {
        let mut socket = TcpStream::connect(&sidecar.admin).unwrap();
        socket.set_read_timeout(Some(WITHIN)).unwrap();
        write!(socket, "GET {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").unwrap();
        let mut lines = BufReader::new(socket);
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let status: u16 = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut length = 0;
        loop {
            line.clear();
            lines.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        if status == 200 {
            return Ok(Self(lines));
        }
        let mut body = vec![0; length];
        lines.read_exact(&mut body).unwrap();
        Err((status, serde_json::from_slice(&body).unwrap()))
    }

    /// The next message; sizes of chunks and comments are passed over.
    fn next(&mut self) -> Told {
        let mut told = Told { id: None, name: String::new(), data: Json::Null };
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream ended after {told:?}");
            match line.trim_end().split_once(": ") {
                Some(("id", id)) => told.id = Some(id.parse().unwrap()),
                Some(("event", name)) => name.clone_into(&mut told.name),
                Some(("data", data)) => told.data = serde_json::from_str(data).unwrap(),
                _ if line == "\n" && !told.name.is_empty() => return told,
                _ => {}
            }
        }
    }

    /// The next message of this name; how far was looked may be said at any time.
    fn named(&mut self, name: &str) -> Told {
        let mut told = self.next();
        while told.name == "position" && name != "position" {
            told = self.next();
        }
        assert_eq!(told.name, name, "{told:?}");
        told
    }

    /// Amounts of the rows that come, until there are so many, and the ids of their transactions.
    fn amounts(&mut self, count: usize) -> (Vec<f64>, Vec<u64>) {
        let (mut amounts, mut ids) = (Vec::new(), Vec::new());
        while amounts.len() < count {
            let told = self.next();
            assert!(["txn", "position", "schema"].contains(&&*told.name), "{told:?}");
            ids.extend(told.id);
            let rows = told.data["rows"]["Payment"]["rows"].as_array().cloned().unwrap_or_default();
            amounts.extend(rows.iter().map(|row| row["amount"].as_f64().unwrap()));
        }
        assert!(ids.is_sorted_by(|one, other| one < other), "{ids:?}");
        (amounts, ids)
    }
}

fn push(sidecar: &Sidecar, event: &str, rows: &[Json]) {
    let answer = sidecar.data_post(&format!("/push-batch/{event}"), &json!(rows)).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
}

fn payments(amounts: std::ops::Range<u32>) -> Vec<Json> {
    amounts.map(|amount| json!({"card": format!("c{}", amount % 3), "amount": amount})).collect()
}

fn floats(amounts: std::ops::Range<u32>) -> Vec<f64> {
    amounts.map(f64::from).collect()
}

#[test]
fn a_live_subscriber_sees_each_transaction_whole_and_nothing_of_before() {
    let setup = Setup::new(BINARY, CONFIG).unwrap();
    let sidecar = setup.start().unwrap();
    push(&sidecar, "Payment", &payments(0..10));
    let mut live = Stream::open(&sidecar, "/subscribe/Payment", "").unwrap_or_else(|refused| panic!("{refused:?}"));
    let hello = live.named("hello").data;
    assert_eq!((&hello["events"]["Payment"]["schema"], hello["log_id"].as_str().unwrap().len()), (&json!(1), 32));
    let mut both = Stream::open(&sidecar, "/subscribe/Login,Payment?fields=user,card", "").unwrap_or_else(|refused| panic!("{refused:?}"));
    both.named("hello");
    push(&sidecar, "Payment", &payments(10..110));
    let told = live.named("txn");
    let rows = told.data["rows"]["Payment"]["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &told.data["n"]), (100, &json!(100)), "{}", told.data["lsn"]);
    assert_eq!(told.id, told.data["lsn"][1].as_u64());
    // The event has a field of this name itself, which these rows leave out.
    let first = told.data["lsn"][0].as_u64().unwrap();
    assert_eq!(rows[0], json!({"_lsn": first, "card": "c1", "amount": 10.0}));
    assert_eq!(both.named("txn").data["rows"]["Payment"]["rows"][0], json!({"_lsn": first, "card": "c1"}));
    push(&sidecar, "Login", &[json!({"user": "u"})]);
    assert_eq!(both.named("txn").data["rows"], json!({"Login": {"schema": 1, "rows": [{"lsn": first + 100, "user": "u"}]}}));
    // A refused batch leaves no trace: the next message is of what came after it.
    let refused = sidecar.data_post("/push-batch/Payment", &json!([{"card": "c", "amount": 1.0}, {"card": "c", "amount": "x"}])).unwrap();
    assert_eq!(refused.status, 400, "{}", refused.text);
    push(&sidecar, "Payment", &payments(110..111));
    assert_eq!(live.named("txn").data["rows"]["Payment"]["rows"][0]["amount"], json!(110.0));
}

#[test]
fn whoever_comes_back_goes_on_after_its_last_id_over_kills_without_gap_or_repeat() {
    let setup = Setup::new(BINARY, CONFIG).unwrap();
    let (mut seen, mut last, mut pushed) = (Vec::new(), None, 0);
    for round in 0..4 {
        let sidecar = setup.start().unwrap();
        // What was pushed while nobody listened is there.
        push(&sidecar, "Payment", &payments(pushed..pushed + 7));
        let (target, header) = match last {
            None => ("/subscribe/Payment?from=earliest", String::new()),
            Some(last) => ("/subscribe/Payment?from=live", format!("Last-Event-ID: {last}\r\n")),
        };
        let mut stream = Stream::open(&sidecar, target, &header).unwrap_or_else(|refused| panic!("{refused:?}"));
        stream.named("hello");
        for amount in pushed + 7..pushed + 20 {
            push(&sidecar, "Payment", &payments(amount..amount + 1));
        }
        pushed += 20;
        // A stop in the middle of what is there.
        let (amounts, ids) = stream.amounts(if round == 3 { 80 - seen.len() } else { 12 });
        last = ids.last().copied();
        seen.extend(amounts);
        match round % 2 {
            0 => sidecar.kill9(),
            _ => drop(sidecar.terminate(WITHIN).unwrap()),
        }
    }
    assert_eq!(seen, floats(0..80));
    // From any LSN on: exactly the rows from there.
    let sidecar = setup.start().unwrap();
    let mut all = Stream::open(&sidecar, "/subscribe/Payment?from=earliest", "").unwrap_or_else(|refused| panic!("{refused:?}"));
    all.named("hello");
    let rows: Vec<(u64, f64)> = std::iter::from_fn(|| Some(all.next()))
        .filter(|told| told.name == "txn")
        .take(10)
        .flat_map(|told| {
            let rows = told.data["rows"]["Payment"]["rows"].as_array().unwrap().clone();
            rows.into_iter().map(|row| (row["_lsn"].as_u64().unwrap(), row["amount"].as_f64().unwrap()))
        })
        .collect();
    for (lsn, amount) in rows {
        let mut stream =
            Stream::open(&sidecar, &format!("/subscribe/Payment?from={lsn}"), "").unwrap_or_else(|refused| panic!("{refused:?}"));
        assert_eq!(stream.named("hello").data["from"], json!(lsn));
        assert_eq!(stream.amounts(1).0[0], amount, "from {lsn}");
    }
}

#[test]
fn a_filter_chooses_rows_says_how_far_it_looked_and_follows_the_event() {
    let setup = Setup::new(BINARY, CONFIG).unwrap();
    let sidecar = setup.start().unwrap();
    let target = "/subscribe/Payment?where=amount%20%3E%20100%20and%20card%20%3D%3D%20'c2'&fields=amount";
    let mut stream = Stream::open(&sidecar, target, "").unwrap_or_else(|refused| panic!("{refused:?}"));
    let from = stream.named("hello").data["from"].as_u64().unwrap();
    push(&sidecar, "Payment", &payments(0..50));
    // Where it began, and then, though nothing matched, how far was looked.
    assert_eq!(stream.named("position").id, Some(from - 1));
    while stream.named("position").id < Some(from + 49) {}
    push(&sidecar, "Payment", &payments(98..108));
    let told = stream.named("txn").data;
    let amounts: Vec<f64> = told["rows"]["Payment"]["rows"].as_array().unwrap().iter().map(|row| row["amount"].as_f64().unwrap()).collect();
    assert_eq!((amounts, &told["n"]), (vec![101.0, 104.0, 107.0], &json!(3)));
    let declare = |fields: Json, optional: &[&str]| {
        let event = json!({"kind": "event", "name": "Visit", "schema": {"fields": fields, "optional_fields": optional}});
        let declared = sidecar.data_post("/register", &json!({"nodes": [event]})).unwrap();
        assert_eq!(declared.status, 200, "{}", declared.text);
    };
    declare(json!({"user": "str"}), &[]);
    let mut visits =
        Stream::open(&sidecar, "/subscribe/Visit?where=user%20%3D%3D%20'a'", "").unwrap_or_else(|refused| panic!("{refused:?}"));
    visits.named("hello");
    declare(json!({"user": "str", "ip": "str"}), &["ip"]);
    push(&sidecar, "Visit", &[json!({"user": "b"}), json!({"user": "a", "ip": "1.2.3.4"})]);
    assert_eq!(visits.named("schema").data, json!({"events": {"Visit": {"schema": 2}}}));
    assert_eq!(visits.named("txn").data["rows"]["Visit"]["rows"][0]["ip"], json!("1.2.3.4"));
    // What a producer wrote over several lines is one message still.
    let notes = json!({"nodes": [{"kind": "event", "name": "Note", "schema": {"fields": {"meta": "json"}, "optional_fields": []}}]});
    assert_eq!(sidecar.data_post("/register", &notes).unwrap().status, 200);
    let mut notes = Stream::open(&sidecar, "/subscribe/Note", "").unwrap_or_else(|refused| panic!("{refused:?}"));
    notes.named("hello");
    let body = "{\"meta\":{\"a\":\r\n\n1}}";
    let mut socket = TcpStream::connect(&sidecar.http).unwrap();
    let head = "POST /push/Note HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close";
    write!(socket, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(notes.named("txn").data["rows"]["Note"]["rows"][0]["meta"], json!({"a": 1}));
}

#[test]
fn what_cannot_be_subscribed_to_is_refused_by_name() {
    let setup = Setup::new(BINARY, CONFIG).unwrap();
    let sidecar = setup.start().unwrap();
    push(&sidecar, "Payment", &payments(0..5));
    for (target, status, code) in [
        ("/subscribe/*", 400, "subscribe_all_excludes_events"),
        ("/subscribe/Paiment", 404, "event_not_found"),
        ("/subscribe/cards", 404, "event_not_found"),
        ("/subscribe/Payment?where=amont%20%3E%201", 400, "invalid_expression"),
        ("/subscribe/Payment?where=amount%20%3E", 400, "invalid_expression"),
        ("/subscribe/Payment?where=card%20%3E%201", 400, "expression_type_mismatch"),
        ("/subscribe/Payment?where=amount", 400, "expression_type_mismatch"),
        ("/subscribe/Payment?fields=amont", 400, "invalid_request"),
        ("/subscribe/Payment?from=99999", 409, "position_ahead"),
        ("/subscribe/Payment?from=yesterday", 400, "invalid_request"),
        ("/subscribe/Payment?from=1&log=00000000000000000000000000000000", 409, "log_changed"),
        ("/subscribe/Payment?form=live", 400, "unknown_member"),
    ] {
        let refused = Stream::open(&sidecar, target, "").err().unwrap_or_else(|| panic!("{target} is served"));
        assert_eq!((refused.0, refused.1["code"].as_str()), (status, Some(code)), "{target}: {}", refused.1);
    }
    assert_eq!(Stream::open(&sidecar, "/subscribe/Payment", "Last-Event-ID: x\r\n").err().unwrap().0, 400);
    // The server is asked to stop: its subscribers are told, and do not hold it.
    let mut stream = Stream::open(&sidecar, "/subscribe/Payment", "").unwrap_or_else(|refused| panic!("{refused:?}"));
    stream.named("hello");
    assert!(sidecar.terminate(WITHIN).unwrap().success());
    let closed = stream.named("close").data;
    assert_eq!((closed["code"].as_str(), closed["retry"].as_bool()), (Some("server_stopping"), Some(true)), "{closed}");
}

/// A mebibyte of payments.
fn bulk(amounts: std::ops::Range<u32>) -> Vec<Json> {
    amounts.map(|amount| json!({"card": "c", "amount": amount, "note": "x".repeat(10_000)})).collect()
}

#[test]
fn a_client_that_stops_reading_holds_nobody_up_and_goes_on_from_where_it_was_cut() {
    let setup = Setup::new(BINARY, CONFIG).unwrap();
    let sidecar = setup.start().unwrap();
    let open = |target: &str| {
        let mut stream = Stream::open(&sidecar, target, "").unwrap_or_else(|refused| panic!("{refused:?}"));
        stream.named("hello");
        stream
    };
    let (mut reads, mut stops, mut patient) =
        (open("/subscribe/Payment?fields=amount"), open("/subscribe/Payment"), open("/subscribe/Payment?on_slow=catch_up"));
    for batch in 0..14 {
        push(&sidecar, "Payment", &bulk(batch * 100..batch * 100 + 100));
    }
    // Who takes nothing for ten seconds is cut off altogether, so that all of them read on now.
    let patient = std::thread::spawn(move || (patient.amounts(1_400).0, patient));
    let reads = std::thread::spawn(move || (reads.amounts(1_400).0, reads));
    // Cut at its bound: what was in its queue it still gets, and then the place to come back to.
    let (mut seen, mut told) = (Vec::new(), stops.next());
    while told.name != "close" {
        let rows = told.data["rows"]["Payment"]["rows"].as_array().cloned().unwrap_or_default();
        seen.extend(rows.iter().map(|row| row["amount"].as_f64().unwrap()));
        told = stops.next();
    }
    assert_eq!((told.data["code"].as_str(), told.data["retry"].as_bool()), (Some("slow_consumer"), Some(true)), "{}", told.data);
    assert!(seen.len() >= 300 && seen.len() < 1_400, "{} rows", seen.len());
    let mut again = open(&format!("/subscribe/Payment?after={}", told.data["last_lsn"]));
    let left = 1_400 - seen.len();
    seen.extend(again.amounts(left).0);
    assert_eq!(seen, floats(0..1_400));
    let (seen, mut reads) = reads.join().unwrap();
    assert_eq!(seen, floats(0..1_400));
    // At its own pace, on one connection, and live again behind it.
    let (seen, mut patient) = patient.join().unwrap();
    assert_eq!(seen, floats(0..1_400));
    push(&sidecar, "Payment", &payments(1_400..1_403));
    for stream in [&mut reads, &mut again, &mut patient] {
        assert_eq!(stream.amounts(3).0, floats(1_400..1_403));
    }
}

#[test]
fn an_lsn_within_a_transaction_is_a_place_to_begin_while_others_are_live() {
    let setup = Setup::new(BINARY, CONFIG).unwrap();
    let sidecar = setup.start().unwrap();
    let mut live = Stream::open(&sidecar, "/subscribe/Payment", "").unwrap_or_else(|refused| panic!("{refused:?}"));
    let from = live.named("hello").data["from"].as_u64().unwrap();
    for batch in 0..30u32 {
        push(&sidecar, "Payment", &payments(batch * 50..batch * 50 + 50));
        let wanted = from + u64::from(batch) * 50 + 25;
        let open = || Stream::open(&sidecar, &format!("/subscribe/Payment?from={wanted}&on_slow=catch_up"), "");
        // It is applied, and not durable yet, for some ten milliseconds.
        let mut stream = std::iter::repeat_with(open).find_map(Result::ok).unwrap();
        stream.named("hello");
        assert_eq!(stream.amounts(25).0, floats(batch * 50 + 25..batch * 50 + 50));
    }
    assert_eq!(live.amounts(1_500).0, floats(0..1_500));
}

#[test]
fn many_subscribers_with_filters_and_fields_of_their_own_each_see_theirs() {
    let setup = Setup::new(BINARY, CONFIG).unwrap();
    let sidecar = setup.start().unwrap();
    push(&sidecar, "Payment", &payments(0..50));
    let mut streams: Vec<(u32, bool, Stream)> = (0..60)
        .map(|number| {
            let (rest, from) = (number % 3, if number % 2 == 0 { "live" } else { "earliest" });
            let fields = if number % 4 < 2 { "&fields=amount" } else { "" };
            let target = format!("/subscribe/Payment?where=card%20%3D%3D%20'c{rest}'&from={from}{fields}");
            let mut stream = Stream::open(&sidecar, &target, "").unwrap_or_else(|refused| panic!("{refused:?}"));
            stream.named("hello");
            (rest, from == "live", stream)
        })
        .collect();
    for batch in 0..40 {
        push(&sidecar, "Payment", &payments(50 + batch * 5..55 + batch * 5));
    }
    for (rest, is_live, stream) in &mut streams {
        let begin = if *is_live { 50 } else { 0 };
        let wanted: Vec<f64> = (begin..250).filter(|amount| amount % 3 == *rest).map(f64::from).collect();
        assert_eq!(stream.amounts(wanted.len()).0, wanted, "{rest}, live {is_live}");
    }
    let status: Json = serde_json::from_str(&sidecar.admin_get("/status").unwrap().text).unwrap();
    let cursors = status["wal"]["kept_for"].as_array().unwrap();
    let readers = cursors.iter().filter(|cursor| cursor["reader"] == "subscriber").count();
    assert!(readers <= 1, "those who have caught up share a reader: {cursors:?}");
}

/// Passes connections on to where the server is by now.
fn relay(to: &Arc<Mutex<String>>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (address, to) = (listener.local_addr().unwrap().to_string(), Arc::clone(to));
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(to.lock().unwrap().as_str()) else { continue };
            for (mut from, mut into) in [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)] {
                std::thread::spawn(move || {
                    let _copied = std::io::copy(&mut from, &mut into).is_ok();
                    let _closed = into.shutdown(std::net::Shutdown::Both).is_ok();
                });
            }
        }
    });
    address
}

#[test]
fn the_tap_prints_each_row_once_over_kills_of_the_server() {
    let setup = Setup::new(BINARY, CONFIG).unwrap();
    let at = Arc::new(Mutex::new(String::new()));
    let address = relay(&at);
    let mut sidecar = setup.start().unwrap();
    sidecar.admin.clone_into(&mut at.lock().unwrap());
    let mut tap = setup.command("tap");
    tap.args(["Payment", "--from", "earliest", "--where", "amount >= 5", "-n", "95", "--admin", &address]);
    push(&sidecar, "Payment", &payments(0..10));
    let mut tap = tap.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tap.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    // It listens: a server that is not there at first is a mistake to be told.
    let mut printed = vec![lines.next().unwrap()];
    push(&sidecar, "Payment", &payments(10..20));
    for round in 1..5 {
        sidecar.kill9();
        sidecar = setup.start().unwrap();
        sidecar.admin.clone_into(&mut at.lock().unwrap());
        for amount in (round * 20..round * 20 + 20).step_by(4) {
            push(&sidecar, "Payment", &payments(amount..amount + 4));
        }
    }
    printed.extend(lines);
    let output = tap.wait_with_output().unwrap();
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {talk}", output.status);
    let lines: Vec<Json> = printed.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let amounts: Vec<f64> = lines.iter().map(|line| line["amount"].as_f64().unwrap()).collect();
    assert_eq!(amounts, floats(5..100), "{talk}");
    assert!(lines.iter().all(|line| line["event"] == "Payment" && line["_lsn"].is_u64()));
}
