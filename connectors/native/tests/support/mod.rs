//! An engine that is none, and clients that say exactly what a test wants on the wire.
//!
//! The engine answers by names: event `missing` is not found, `hold` is answered only after the next `release`, `deaf` never, table `unknown` is not found, key
//! `absent` is absent, feature `nope` is unknown, table `huge` has a large value. Everything it was given is kept in order.

#![allow(dead_code, clippy::unwrap_used, reason = "test support; each test file uses a part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use streamgauge_api::metrics::Metrics;
use streamgauge_api::port::{Encoding, Freshness, KeyText, Port, PushRow, Read as KeyRead, Reply, Request, Row, Tag, Wait};
use streamgauge_api::{ApiError, Code, Value};
use streamgauge_native::{NativeConfig, Running, Server};

/// What the engine saw and how it behaves.
#[derive(Default)]
pub struct Engine {
    /// Event, row and encoding of each push.
    pub pushed: Mutex<Vec<(String, Vec<u8>, Encoding)>>,
    /// Every other request.
    pub called: Mutex<Vec<Request>>,
    /// Set while the queue plays full.
    pub full: AtomicBool,
    /// Set before recovery ends.
    pub recovering: AtomicBool,
    /// Number of turns.
    pub turns: AtomicU64,
    /// Pushes of event `gated` wait here,
    pub gate: Mutex<()>,
    /// and so many have come.
    pub at_gate: AtomicU64,
    wakes: Mutex<Vec<Arc<dyn Fn() + Send + Sync>>>,
}

impl Engine {
    /// Wakes the I/O threads.
    pub fn wake(&self) {
        self.wakes.lock().unwrap().iter().for_each(|wake| wake());
    }
}

struct FakePort {
    engine: Arc<Engine>,
    ready: Vec<(Tag, Reply)>,
    held: Vec<(Tag, Reply)>,
    lsn: u64,
}

impl FakePort {
    fn refuse(&mut self, tag: Tag, code: Code, reason: &str) {
        self.ready.push((tag, Reply::Refused(Box::new(ApiError::new(code, reason)), 3)));
    }

    fn row(&self, read: &KeyRead) -> Result<Row, ApiError> {
        if read.table == "unknown" {
            return Err(ApiError::new(Code::UnknownTable, "no table unknown"));
        }
        let names: Vec<Box<str>> = vec!["avg".into(), "n".into()];
        let mut values = vec![Value::F64(18.0), Value::I64(2)];
        if read.table == "huge" {
            values = vec![Value::Str("x".repeat(5 << 20).into()), Value::Null];
        }
        let mut selected = None;
        if let Some(features) = &read.options.features {
            let find = |name: &String| names.iter().position(|known| **known == **name);
            if let Some(missing) = features.iter().find(|name| find(name).is_none()) {
                let reason = format!("feature_not_found: missing=[\"{missing}\"] table={}", read.table);
                return Err(ApiError::new(Code::InternalError, reason));
            }
            let picked: Vec<usize> = features.iter().filter_map(find).collect();
            values = picked.iter().map(|index| values[*index].clone()).collect();
            selected = Some(picked.iter().map(|index| *index as u16).collect());
        }
        let absent = matches!(&read.key, KeyText::Text(key) if key == "absent") || read.key == KeyText::Segments(vec!["absent".into()]);
        Ok(Row { present: !absent, names: names.into(), selected, values })
    }
}

fn freshness() -> Freshness {
    Freshness {
        as_of_ms: 1_500,
        lag_ms: Some(20),
        lag_unknown: false,
        lsn: 7,
        incident: Some("position_lost".into()),
        complete_since_ms: Some(2_000),
        gap_since_ms: Some(1_000),
    }
}

impl Port for FakePort {
    fn push(&mut self, tag: Tag, encoding: Encoding, row: PushRow<'_>, wait: Wait) {
        self.push_batch(tag, encoding, &[row], wait);
    }

    fn push_batch(&mut self, tag: Tag, encoding: Encoding, rows: &[PushRow<'_>], wait: Wait) {
        if self.engine.recovering.load(Ordering::SeqCst) {
            return self.refuse(tag, Code::Recovering, "replaying");
        }
        let is_object = |row: &PushRow<'_>| matches!(row.body.first(), Some(b'{' | 0x80..=0x8f | 0xde | 0xdf));
        if rows.iter().any(|row| row.event == "missing") {
            return self.refuse(tag, Code::EventNotFound, "no event missing");
        }
        if !rows.iter().all(is_object) {
            return self.refuse(tag, Code::InvalidEvent, "the row is no object");
        }
        if rows[0].event == "gated" {
            self.engine.at_gate.fetch_add(1, Ordering::SeqCst);
            drop(self.engine.gate.lock());
        }
        let mut pushed = self.engine.pushed.lock().unwrap();
        pushed.extend(rows.iter().map(|row| (row.event.to_owned(), row.body.to_owned(), encoding)));
        drop(pushed);
        let first_lsn = self.lsn + 1;
        self.lsn += rows.len() as u64;
        let durable_lsn = (wait == Wait::Synced).then_some(self.lsn);
        let reply = Reply::Pushed {
            ack_lsn: self.lsn,
            first_lsn,
            count: rows.len() as u32,
            replayed: Vec::new(),
            durable_lsn,
            registry_version: 3,
        };
        match rows[0].event {
            "deaf" => {}
            "hold" => self.held.push((tag, reply)),
            "release" => {
                self.ready.push((tag, reply));
                self.ready.extend(self.held.drain(..).rev());
            }
            _ => self.ready.push((tag, reply)),
        }
    }

    fn gone(&mut self, _: u64) {}

    fn call(&mut self, tag: Tag, request: Request) {
        if self.engine.recovering.load(Ordering::SeqCst) {
            return self.refuse(tag, Code::Recovering, "replaying");
        }
        let reply = match &request {
            Request::Get(read) => self.row(read).map(|row| Reply::Row(row, freshness())),
            Request::GetFeature { name, .. } if name == "nope" => Err(ApiError::new(Code::FeatureNotFound, "no feature nope")),
            Request::GetFeature { name, key } if name == "T" => {
                let read = KeyRead { table: name.clone(), key: key.clone(), options: Default::default() };
                self.row(&read).map(|row| Reply::Row(row, freshness()))
            }
            Request::GetFeature { .. } => Ok(Reply::Feature(Value::F64(18.0), freshness())),
            Request::BatchGet(reads) => Ok(Reply::Rows(reads.iter().map(|read| self.row(read)).collect(), freshness())),
            Request::GetMany { features, keys } => Ok(Reply::Many(
                keys.iter().map(|key| (format!("{key:?}"), features.iter().map(|name| (name.clone(), Value::I64(1))).collect())).collect(),
            )),
            Request::Member(read) => {
                Ok(Reply::Members { found: vec![true; read.values.len()], false_positives: 0.01, freshness: freshness() })
            }
            Request::Register(text) => Ok(Reply::Registered(text.clone())),
            Request::Ping => Ok(Reply::Pong { registry_version: 3, applied_lsn: 9, durable_lsn: 8 }),
            Request::Reset => Ok(Reply::WasReset { registry_version: 4 }),
        };
        self.engine.called.lock().unwrap().push(request);
        match reply {
            Ok(reply) => self.ready.push((tag, reply)),
            Err(error) => self.ready.push((tag, Reply::Refused(Box::new(error), 3))),
        }
    }

    fn turn(&mut self, replies: &mut Vec<(Tag, Reply)>) {
        self.engine.turns.fetch_add(1, Ordering::SeqCst);
        replies.append(&mut self.ready);
    }

    fn has_room(&self) -> bool {
        !self.engine.full.load(Ordering::SeqCst)
    }

    fn on_ready(&mut self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.engine.wakes.lock().unwrap().push(wake);
    }

    fn recovered(&self) -> bool {
        !self.engine.recovering.load(Ordering::SeqCst)
    }
}

/// A server on loopback with the fake engine.
pub struct Plane {
    pub engine: Arc<Engine>,
    pub http: SocketAddr,
    pub tcp: SocketAddr,
    pub running: Option<Running>,
}

/// Starts a server; `change` adjusts the defaults.
pub fn plane(change: impl FnOnce(&mut NativeConfig)) -> Plane {
    let any = Some(([127, 0, 0, 1], 0).into());
    let mut config = NativeConfig { http: any, tcp: any, ..NativeConfig::default() };
    change(&mut config);
    let engine = Arc::new(Engine::default());
    let port = |_| -> Box<dyn Port> { Box::new(FakePort { engine: Arc::clone(&engine), ready: vec![], held: vec![], lsn: 0 }) };
    let ports = (0..config.threads()).map(port).collect();
    let server = Server::bind(config).unwrap();
    let (http, tcp) = (server.http_addr().unwrap(), server.tcp_addr().unwrap());
    let seen = Arc::clone(&engine);
    let readiness = Arc::new(move || match seen.recovering.load(Ordering::SeqCst) {
        true => (false, r#"{"status":"recovering"}"#.to_owned()),
        false => (true, r#"{"status":"ready"}"#.to_owned()),
    });
    let running = Some(server.start(ports, readiness, &Arc::new(Metrics::new("0", "0"))).unwrap());
    Plane { engine, http, tcp, running }
}

/// One reply of HTTP.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{}:", name.to_ascii_lowercase())))?;
        line.split_once(':').map(|(_, value)| value.trim())
    }

    /// The code in the error envelope.
    pub fn code(&self) -> String {
        code(self.body.as_bytes())
    }
}

pub fn code(body: &[u8]) -> String {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap();
    body["error"]["code"].as_str().unwrap_or_default().to_owned()
}

/// A client with a bound on every wait.
pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// A second handle on the same connection, to send while the first one reads.
    pub fn twin(&self) -> Self {
        Self { stream: self.stream.try_clone().unwrap(), buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Sends a request with a body and reads its reply.
    pub fn ask(&mut self, method: &str, target: &str, content_type: &str, body: impl AsRef<[u8]>) -> Response {
        let body = body.as_ref();
        let head =
            format!("{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n", body.len());
        self.send(head).send(body);
        self.response()
    }

    pub fn response(&mut self) -> Response {
        let head_end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.fill(), "closed inside a head: {:?}", String::from_utf8_lossy(&self.buffer));
        };
        let head = String::from_utf8(self.take(head_end)).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut response = Response { status, head, body: String::new() };
        let length: usize = response.header("content-length").map_or(0, |length| length.parse().unwrap());
        self.need(length);
        response.body = String::from_utf8(self.take(length)).unwrap();
        response
    }

    /// The status of the next reply, unless the connection closes first.
    pub fn try_response(&mut self) -> Option<u16> {
        while !self.buffer.ends_with(b"}") {
            if !self.fill() {
                return None;
            }
        }
        Some(self.response().status)
    }

    /// Reads until the server closes.
    pub fn drain(&mut self) {
        while self.fill() {
            self.buffer.clear();
        }
    }

    pub fn send_frame(&mut self, opcode: u16, content_type: u8, payload: impl AsRef<[u8]>) -> &mut Self {
        let frame = frame(opcode, content_type, payload);
        self.send(frame)
    }

    pub fn read_frame(&mut self) -> (u16, u8, Vec<u8>) {
        self.need(7);
        let head = self.take(7);
        let length = u32::from_be_bytes(head[..4].try_into().unwrap()) as usize;
        self.need(length - 3);
        (u16::from_be_bytes([head[4], head[5]]), head[6], self.take(length - 3))
    }

    pub fn ask_frame(&mut self, opcode: u16, content_type: u8, payload: impl AsRef<[u8]>) -> (u16, u8, Vec<u8>) {
        self.send_frame(opcode, content_type, payload).read_frame()
    }

    /// Whether the server closed the connection and nothing is left to read.
    pub fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.fill()
    }

    fn need(&mut self, count: usize) {
        while self.buffer.len() < count {
            assert!(self.fill(), "closed inside a reply");
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        self.buffer.drain(..count).collect()
    }

    fn fill(&mut self) -> bool {
        let mut space = vec![0; 64 * 1024];
        match self.stream.read(&mut space) {
            Ok(count) => {
                self.buffer.extend_from_slice(&space[..count]);
                count > 0
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing to read: {error}"),
        }
    }
}

pub fn frame(opcode: u16, content_type: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = (payload.len() as u32 + 3).to_be_bytes().to_vec();
    bytes.extend_from_slice(&opcode.to_be_bytes());
    bytes.push(content_type);
    bytes.extend_from_slice(payload);
    bytes
}
