//! The data plane as `startup` sees it: bind, start with one port per I/O thread, stop.
//!
//! Binding is apart from starting so that addresses are known, and clients can queue, before anything else is ready. The engine is met only
//! through [`Port`]s.

use crate::census::Census;
use crate::config::NativeConfig;
use crate::protocol::Lane;
use crate::tally::Tally;
use crate::worker::{Door, Mailbox, Speech, Worker, shared};
use mio::Poll;
use mio::net::TcpListener;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use streamgauge_api::metrics::Metrics;
use streamgauge_api::port::Port;

/// Answers `GET /ready` on an I/O thread: whether the service is ready, and the JSON body that says so or why not. Must not block.
pub type Readiness = Arc<dyn Fn() -> (bool, String) + Send + Sync>;

/// Bound listeners, not served yet.
pub struct Server {
    config: NativeConfig,
    doors: Vec<Door>,
    http: Option<SocketAddr>,
    tcp: Option<SocketAddr>,
}

impl Server {
    /// Binds the listeners that the configuration names. Clients that connect wait in the backlog.
    ///
    /// # Errors
    /// The operating system's, with the address that it is about.
    pub fn bind(config: NativeConfig) -> io::Result<Self> {
        let mut doors = Vec::new();
        let mut bind = |address: Option<SocketAddr>, speech| -> io::Result<Option<SocketAddr>> {
            let Some(address) = address else { return Ok(None) };
            let listener =
                TcpListener::bind(address).map_err(|error| io::Error::new(error.kind(), format!("{speech} {address}: {error}")))?;
            let bound = listener.local_addr()?;
            doors.push(Door { listener, speech });
            Ok(Some(bound))
        };
        let http = bind(config.http, Speech::Http)?;
        let tcp = bind(config.tcp, Speech::Framed)?;
        Ok(Self { config, doors, http, tcp })
    }

    /// Where HTTP listens.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Where framed TCP listens.
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.tcp
    }

    /// Starts one I/O thread per port, of which [`NativeConfig::threads`] says how many; the last is for bulk requests.
    pub fn start(self, ports: Vec<Box<dyn Port>>, readiness: Readiness, metrics: &Arc<Metrics>) -> io::Result<Running> {
        if self.config.io_threads == 0 || ports.len() != self.config.threads() {
            let text = format!("{} ports for {} I/O threads and the one for bulk", ports.len(), self.config.io_threads);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let config = Arc::new(self.config);
        let light = config.io_threads;
        let census = Census::new(config.connections_max, config.connections_per_peer_max);
        let polls = ports.iter().map(|_| Poll::new()).collect::<io::Result<Vec<_>>>()?;
        let mailboxes = polls.iter().map(Mailbox::new).collect::<io::Result<Vec<_>>>()?;
        let mut running = Running { mailboxes: mailboxes.clone(), threads: Vec::new() };
        let mut doors = Some(self.doors);
        for (index, (poll, port)) in polls.into_iter().zip(ports).enumerate() {
            let (config, readiness) = (Arc::clone(&config), Arc::clone(&readiness));
            let tally = Tally::new(Arc::clone(metrics), config.durability);
            let lane = if index < light { Lane::Light } else { Lane::Bulk };
            let shared = shared(lane, config, readiness, tally);
            let mut worker = Worker::new(poll, port, shared, Arc::clone(&census), mailboxes.clone(), index);
            if let Some(doors) = doors.take() {
                worker.open_doors(doors)?;
            }
            let name = if lane == Lane::Light { format!("native-io-{index}") } else { "native-bulk".to_owned() };
            let thread = std::thread::Builder::new().name(name).spawn(move || worker.run())?;
            running.threads.push(thread);
        }
        Ok(running)
    }
}

/// The data plane while it serves. Dropping it asks the threads to stop without waiting for them.
pub struct Running {
    mailboxes: Vec<Arc<Mailbox>>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// Closes the listeners and every quiet connection, and takes no further request; what was taken is still answered. Returns at once.
    pub fn drain(&self) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.stop(None));
    }

    /// Drains, and waits until everything is answered or `timeout` has passed; then the rest is closed unanswered.
    pub fn stop(mut self, timeout: Duration) {
        let by = Instant::now() + timeout;
        self.mailboxes.iter().for_each(|mailbox| mailbox.stop(Some(by)));
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("an I/O thread had panicked");
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.drain();
    }
}
