//! A schema registry with one schema, for the demo: the three endpoints that a reader needs, on a loopback port, one request per connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const SCHEMA_ID: u32 = 1;
/// A client that does not finish its request is dropped after this long.
const PATIENCE: Duration = Duration::from_secs(2);

/// The running registry; stops when dropped.
pub(super) struct DemoRegistry {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl DemoRegistry {
    /// Starts it.
    pub(super) fn start(schema: &'static str) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("demo-registry".into()).spawn(move || {
            for stream in listener.incoming() {
                if stopping.load(Ordering::Acquire) {
                    return;
                }
                // A client that went away is its own business.
                let _answered = stream.and_then(|stream| answer(stream, schema)).is_ok();
            }
        })?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Its base URL.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Id of its schema.
    pub(super) fn schema_id(&self) -> u32 {
        SCHEMA_ID
    }
}

impl Drop for DemoRegistry {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // The accept that is waiting must see the flag.
        drop(TcpStream::connect_timeout(&self.address, PATIENCE));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn answer(mut stream: TcpStream, schema: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.try_clone()?.take(16 << 10)).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (status, body) = if path.starts_with(&format!("/schemas/ids/{SCHEMA_ID}")) {
        ("200 OK", serde_json::json!({"schema": schema}))
    } else if path.starts_with("/subjects/payments-value/versions/") {
        ("200 OK", serde_json::json!({"subject": "payments-value", "version": 1, "id": SCHEMA_ID, "schema": schema}))
    } else if path == "/subjects" {
        ("200 OK", serde_json::json!(["payments-value"]))
    } else {
        ("404 Not Found", serde_json::json!({"error_code": 40403, "message": "Schema not found"}))
    };
    let body = body.to_string();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/vnd.schemaregistry.v1+json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
