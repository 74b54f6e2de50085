//! The registry may be down, slow, forbidden, late or lying: the partition waits, says so, and goes on by itself.

use super::House;
use crate::config::{RegistryAuth, RegistryConfig, Secret};
use crate::registry::{Outcome, Registry, Reply};
use crossbeam_channel::unbounded;
use parking_lot::Mutex;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use streamgauge_api::SchemaId;
use streamgauge_api::source::IncidentKind;

/// What the fake registry answers to a path: status, body. Asked anew for each request.
type Script = Arc<Mutex<Box<dyn FnMut(&Request) -> (u16, Vec<u8>) + Send>>>;

struct Request {
    path: String,
    headers: String,
}

/// A registry on a loopback port, serving one request per connection.
struct FakeRegistry {
    url: String,
    script: Script,
    requests: Arc<Mutex<Vec<String>>>,
}

impl FakeRegistry {
    fn start(answer: impl FnMut(&Request) -> (u16, Vec<u8>) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/base", listener.local_addr().unwrap());
        let script: Script = Arc::new(Mutex::new(Box::new(answer)));
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (served, log) = (script.clone(), requests.clone());
        // Ends with the process: nobody connects after the test.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, &served, &log);
            }
        });
        Self { url, script, requests }
    }

    fn answer(&self, answer: impl FnMut(&Request) -> (u16, Vec<u8>) + Send + 'static) {
        *self.script.lock() = Box::new(answer);
    }

    fn config(&self) -> RegistryConfig {
        RegistryConfig::plain(vec![self.url.clone()])
    }
}

fn serve(mut stream: TcpStream, script: &Script, log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    log.lock().push(path.clone());
    let (status, body) = (script.lock())(&Request { path, headers: headers.join("\n").to_lowercase() });
    let head =
        format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _client_left = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).is_err();
}

fn good(text: &str) -> (u16, Vec<u8>) {
    (200, serde_json::json!({ "schema": text }).to_string().into_bytes())
}

fn not_found() -> (u16, Vec<u8>) {
    (404, br#"{"error_code":40403,"message":"Schema not found"}"#.to_vec())
}

fn next(replies: &crossbeam_channel::Receiver<Reply>) -> Outcome {
    replies.recv_timeout(Duration::from_secs(15)).unwrap().outcome
}

#[test]
fn a_schema_is_fetched_once_with_its_references_dependencies_first() {
    let registry = FakeRegistry::start(|request| match request.path.as_str() {
        "/base/schemas/ids/7" => {
            let references =
                serde_json::json!([{ "name": "A", "subject": "a/ä", "version": 2 }, { "name": "B", "subject": "b", "version": 1 }]);
            (200, serde_json::json!({ "schema": "root", "schemaType": "AVRO", "references": references }).to_string().into_bytes())
        }
        "/base/subjects/a%2F%C3%A4/versions/2" => {
            let references = serde_json::json!([{ "name": "B", "subject": "b", "version": 1 }]);
            (200, serde_json::json!({ "schema": "a", "references": references }).to_string().into_bytes())
        }
        "/base/subjects/b/versions/1" => good("b"),
        _ => (500, vec![]),
    });
    let (handle, _thread) = Registry::start(&registry.config()).unwrap();
    let (reply, replies) = unbounded();
    for _ in 0..3 {
        handle.want(7.into(), None, &reply);
    }
    let Outcome::Ready(schema) = next(&replies) else { panic!("not ready") };
    assert_eq!((schema.text.as_str(), schema.kind.as_str(), schema.id), ("root", "AVRO", SchemaId::Number(7)));
    let named: Vec<(&str, &str)> = schema.references.iter().map(|found| (&*found.name, &*found.text)).collect();
    assert_eq!(named, [("B", "b"), ("A", "a")]);
    assert_eq!(schema.registry, registry.url);
    handle.want(7.into(), None, &reply);
    assert!(matches!(next(&replies), Outcome::Ready(_)));
    assert_eq!(registry.requests.lock().len(), 3, "cached for ever, each reference once");
}

#[test]
fn a_schema_is_fetched_by_its_guid() {
    let guid = SchemaId::from_guid("89791762-2336-4186-9674-299b90a802e2").unwrap();
    let registry = FakeRegistry::start(|request| match request.path.as_str() {
        "/base/schemas/guids/89791762-2336-4186-9674-299b90a802e2" => good("root"),
        _ => (500, vec![]),
    });
    let (handle, _thread) = Registry::start(&registry.config()).unwrap();
    let (reply, replies) = unbounded();
    handle.want(guid, None, &reply);
    let Outcome::Ready(schema) = next(&replies) else { panic!("not ready") };
    assert_eq!((schema.text.as_str(), schema.id), ("root", guid));
}

#[test]
fn references_in_a_circle_are_refused() {
    let registry = FakeRegistry::start(|_request| {
        let references = serde_json::json!([{ "name": "A", "subject": "a", "version": 1 }]);
        (200, serde_json::json!({ "schema": "x", "references": references }).to_string().into_bytes())
    });
    let (handle, _thread) = Registry::start(&registry.config()).unwrap();
    let (reply, replies) = unbounded();
    handle.want(1.into(), None, &reply);
    let Outcome::Down(text) = next(&replies) else { panic!("accepted") };
    assert!(text.contains("cycle"), "{text}");
}

#[test]
fn everything_but_the_registrys_own_not_found_is_down_and_heals() {
    let cases: Vec<(&str, u16, &'static [u8])> = vec![
        ("500", 500, b"oops"),
        ("401", 401, b""),
        ("403", 403, br#"{"error_code":40301}"#),
        ("a wrong base path", 404, b"<html>"),
        ("a subject's not found", 404, br#"{"error_code":40401}"#),
        ("not JSON", 200, b"\x1f\x8b\x08gzip unasked"),
        ("no schema", 200, b"{}"),
    ];
    for (name, status, body) in cases {
        let registry = FakeRegistry::start(move |_request| (status, body.to_vec()));
        let (handle, _thread) = Registry::start(&registry.config()).unwrap();
        let (reply, replies) = unbounded();
        handle.want(1.into(), None, &reply);
        assert!(matches!(next(&replies), Outcome::Down(_)), "{name}");
        registry.answer(|_request| good("s"));
        assert!(matches!(next(&replies), Outcome::Ready(_)), "{name}");
    }
}

#[test]
fn a_slow_registry_is_down_after_its_limit_and_the_next_url_serves() {
    let slow = FakeRegistry::start(|_request| {
        std::thread::sleep(Duration::from_secs(6));
        good("slow")
    });
    let quick = FakeRegistry::start(|_request| good("quick"));
    let mut config = slow.config();
    config.urls.push(quick.url.clone());
    let (handle, _thread) = Registry::start(&config).unwrap();
    let (reply, replies) = unbounded();
    let asked = Instant::now();
    handle.want(1.into(), None, &reply);
    let Outcome::Ready(schema) = next(&replies) else { panic!("not ready") };
    assert_eq!(schema.text, "quick");
    assert!(asked.elapsed() < Duration::from_millis(5800), "{:?}", asked.elapsed());
}

#[test]
fn a_missing_id_is_asked_again_over_the_grace_time_before_it_counts() {
    let registry = FakeRegistry::start(|_request| not_found());
    let mut config = registry.config();
    config.schema_missing_grace = Duration::from_millis(1500);
    let (handle, _thread) = Registry::start(&config).unwrap();
    let (reply, replies) = unbounded();
    let asked = Instant::now();
    handle.want(9.into(), None, &reply);
    loop {
        match next(&replies) {
            Outcome::Down(_) => {}
            Outcome::Missing(text) => {
                assert!(text.contains("40403"), "{text}");
                break;
            }
            Outcome::Ready(_) => panic!("ready"),
        }
    }
    assert!(asked.elapsed() >= config.schema_missing_grace);
    let before = registry.requests.lock().len();
    handle.want(9.into(), None, &reply);
    assert!(matches!(next(&replies), Outcome::Missing(_)));
    assert_eq!(registry.requests.lock().len(), before, "remembered as missing");
}

/// Each of a thousand garbage ids once waited its own grace, one behind the other: a partition stood for days.
#[test]
fn a_flood_of_missing_ids_waits_one_grace_and_a_late_schema_still_gets_its_own() {
    let registry = FakeRegistry::start(|_request| not_found());
    let mut config = registry.config();
    config.schema_missing_grace = Duration::from_millis(1500);
    let (handle, _thread) = Registry::start(&config).unwrap();
    let (reply, replies) = unbounded();
    // Asks for one id after the other, as a partition does, and gives how often it was told to wait.
    let waits = |id: u32, age: Option<Duration>| {
        handle.want(id.into(), age, &reply);
        let mut waits = 0;
        loop {
            match next(&replies) {
                Outcome::Down(_) => waits += 1,
                Outcome::Missing(_) => return waits,
                Outcome::Ready(_) => panic!("ready"),
            }
        }
    };
    let old = Some(Duration::from_secs(3600));
    assert!(waits(1, old) > 0, "the first waits for the whole grace");
    for id in 2..50 {
        assert_eq!(waits(id, if id % 2 == 0 { old } else { None }), 0, "id {id} of the same flood");
    }
    assert!(waits(50, Some(Duration::ZERO)) > 0, "a record that was made just now may name a schema that comes yet");
    // What comes late after all is no flood: others may be late as well.
    handle.want(60.into(), Some(Duration::ZERO), &reply);
    assert!(matches!(next(&replies), Outcome::Down(_)));
    registry.answer(|_request| good("s"));
    assert!(matches!(next(&replies), Outcome::Ready(_)));
    registry.answer(|_request| not_found());
    assert!(waits(61, old) > 0, "a new flood");
}

/// A partition once stood for ever behind a schema one of whose references had been deleted.
#[test]
fn a_schema_that_is_not_whole_is_missing_after_the_grace() {
    let cases: Vec<(&str, u16, &'static str)> = vec![
        ("no subject", 404, r#"{"error_code":40401}"#),
        ("no version", 404, r#"{"error_code":40402}"#),
        ("a circle", 200, r#"{"schema":"x","references":[{"name":"A","subject":"a","version":1}]}"#),
        ("no place", 200, r#"{"schema":"x","references":[{"name":"A"}]}"#),
    ];
    for (name, status, body) in cases {
        let registry = FakeRegistry::start(move |request| match request.path.as_str() {
            "/base/schemas/ids/1" => (200, br#"{"schema":"x","references":[{"name":"A","subject":"a","version":1}]}"#.to_vec()),
            _ => (status, body.as_bytes().to_vec()),
        });
        let mut config = registry.config();
        config.schema_missing_grace = Duration::from_millis(1);
        let (handle, _thread) = Registry::start(&config).unwrap();
        let (reply, replies) = unbounded();
        handle.want(1.into(), None, &reply);
        assert!(matches!(next(&replies), Outcome::Down(_)), "{name}");
        assert!(matches!(next(&replies), Outcome::Missing(_)), "{name}");
    }
}

#[test]
fn credentials_are_sent_and_never_shown() {
    for (auth, expected) in [
        (RegistryAuth::Basic { user: "reader".into(), password: Secret::new("pw") }, "authorization: basic cmvhzgvyonb3"),
        (RegistryAuth::Bearer(Secret::new("tok")), "authorization: bearer tok"),
    ] {
        let registry = FakeRegistry::start(move |request| match request.headers.contains(expected) {
            true => good("s"),
            false => (401, vec![]),
        });
        let config = RegistryConfig { auth: Some(auth), ..registry.config() };
        assert!(!format!("{config:?}").contains("pw") && !format!("{config:?}").contains("tok"));
        let (handle, _thread) = Registry::start(&config).unwrap();
        let (reply, replies) = unbounded();
        handle.want(1.into(), None, &reply);
        assert!(matches!(next(&replies), Outcome::Ready(_)));
    }
}

#[test]
fn an_outage_stops_only_the_partition_that_needs_the_schema_and_ends_by_itself() {
    let registry = FakeRegistry::start(|_request| (503, vec![]));
    let mut house = House::new(&[("t", 2)]);
    house.source.registry = Some(registry.config());
    house.engine.lock().framed = true;
    let mut producer = crate::Producer::new(house.mock.bootstrap(), &[]).unwrap();
    for number in 0..50u8 {
        producer.send("t", Some(0), None, Some(&[0, 0, 0, 0, 7, number]), None, &[]).unwrap();
    }
    producer.flush(super::LIMIT).unwrap();
    house.produce("t", 1, 0..20);
    house.start();
    house.until("the neighbour", |engine| engine.seen.len() == 20);
    house.until("the incident", |_engine| house.open_incident().is_some());
    let incident = house.open_incident().unwrap();
    assert_eq!((incident.kind, incident.cause.as_str()), (IncidentKind::Stalled, "registry"));
    assert!(incident.evidence.contains("503"), "{incident:?}");
    let note = || house.board.notes().into_iter().next().map(|note| (note.state, note.detail)).unwrap_or_default();
    house.until("the source says it", |_engine| note() == ("waiting".into(), "1 of 2 partitions stand still, t/0 for registry".into()));
    house.produce("t", 1, 20..30);
    house.until("the neighbour goes on", |engine| engine.seen.len() == 30);
    registry.answer(|_request| good("s"));
    house.until("all", |engine| engine.seen.len() == 80);
    house.until("the incident closes", |_engine| house.open_incident().is_none());
    house.until("the source reads", |_engine| note().0 == "reading");
    house.stop();
    assert_eq!(house.offsets("t", 0), (0..50).collect::<Vec<_>>());
}

#[test]
fn an_id_that_never_comes_makes_its_record_bad_and_the_partition_goes_on() {
    let registry = FakeRegistry::start(|_request| not_found());
    let mut house = House::new(&[("t", 1)]);
    let mut config = registry.config();
    config.schema_missing_grace = Duration::from_millis(300);
    house.source.registry = Some(config);
    house.engine.lock().framed = true;
    let mut producer = crate::Producer::new(house.mock.bootstrap(), &[]).unwrap();
    producer.send("t", Some(0), None, Some(&[0, 9, 9, 9, 9, 1]), None, &[]).unwrap();
    producer.send("t", Some(0), None, Some(b"plain"), None, &[]).unwrap();
    producer.flush(super::LIMIT).unwrap();
    house.start();
    house.until("both", |engine| engine.seen.len() == 2);
    assert!(house.engine.lock().schemas.values().all(Result::is_err));
    house.stop();
}
