//! The listener's life: bound, running, stopped; each its own type.
//!
//! `startup` binds early (the address is printed before recovery ends), starts once there is a [`Control`], and stops last, so that probes see the draining.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use socket2::SockRef;
use streamgauge_api::metrics::{Gauge, Metrics};
use streamgauge_api::subscribe::SUBSCRIPTIONS_MAX;
use streamgauge_api::{Control, Cors};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::calls::{BLOCKING_THREADS_MAX, Calls};
use crate::connection;
use crate::handlers::Admin;
use crate::request::{self, Requests};
use crate::routes;

/// What the kernel holds of answers that a client has not taken; it takes twice as much memory.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Open connections; beyond them the kernel's backlog waits. With as many subscribers as there may be, probes and scrapes
/// have places left.
const CONNECTIONS_MAX: usize = SUBSCRIPTIONS_MAX + 256;
/// Pause after a failed accept (out of descriptors): others may close some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the server is told once.
#[derive(Clone)]
pub struct AdminOptions {
    /// Version on `/` and in `/openapi.json`.
    pub version: String,
    /// Where requests and connections are counted.
    pub metrics: Arc<Metrics>,
    /// Pages of other sites that may read answers and act.
    pub cors: Cors,
}

/// A bound admin port that nobody answers on yet: clients may connect and wait.
#[derive(Debug)]
pub struct AdminServer {
    listener: TcpListener,
    address: SocketAddr,
}

impl AdminServer {
    /// Binds the port; 0 means any.
    ///
    /// # Errors
    /// The operating system's, for example that the address is in use.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The bound address, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts answering, on a thread named `admin` and at most 40 threads named `admin-call` for calls into `control`.
    ///
    /// # Errors
    /// The operating system refuses a thread or the runtime's descriptors.
    pub fn start(self, control: Arc<dyn Control>, options: AdminOptions) -> io::Result<RunningAdmin> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("admin-call")
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(self.listener)?
        };
        let (stop, stopping) = watch::channel(None);
        let connections = options.metrics.connections("admin");
        let router = router(control, options);
        let thread = std::thread::Builder::new().name("admin".into()).spawn(move || {
            runtime.block_on(accept(listener, router, connections, stopping));
            // A call into a stalled engine may never return; its thread ends with the process.
            runtime.shutdown_background();
        })?;
        Ok(RunningAdmin { address: self.address, stop, thread: Some(thread) })
    }
}

fn router(control: Arc<dyn Control>, options: AdminOptions) -> Router {
    let requests = Arc::new(Requests::new(&options.metrics, options.cors));
    let admin = Admin { calls: Calls::new(control), sockets: Arc::new(Semaphore::new(SUBSCRIPTIONS_MAX)), version: options.version.into() };
    routes::router(admin).layer(from_fn_with_state(requests, request::around))
}

/// A running admin server. Dropping it stops it without waiting for requests in flight.
pub struct RunningAdmin {
    address: SocketAddr,
    /// `Some(grace)` once it shall stop.
    stop: watch::Sender<Option<Duration>>,
    thread: Option<JoinHandle<()>>,
}

impl RunningAdmin {
    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no further connections, answers the requests in flight for at most `grace`, and ends the thread.
    pub fn stop(mut self, grace: Duration) {
        self.end(grace);
    }

    fn end(&mut self, grace: Duration) {
        self.stop.send_replace(Some(grace));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(target: "admin", "the admin thread panicked");
        }
    }
}

impl Drop for RunningAdmin {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

/// Accepts until told to stop, then waits for the connections.
async fn accept(listener: tokio::net::TcpListener, router: Router, open: Gauge, mut stop: watch::Receiver<Option<Duration>>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (closing, closing_seen) = watch::channel(false);
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            _ = stop.wait_for(Option::is_some) => break,
        };
        let Ok(place) = place else { break };
        match accepted {
            Ok((stream, _)) => {
                let (router, closing_seen, open) = (router.clone(), closing_seen.clone(), open.clone());
                // Answers are small and a scraper waits for them: no Nagle delay. A socket without the option still works.
                let _ = stream.set_nodelay(true);
                // A client that reads slowly is one that takes nothing for as long as a full buffer is large.
                let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES);
                connections.spawn(async move {
                    open.inc();
                    let _counted = Counted(open);
                    connection::serve(stream, router, closing_seen).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(target: "admin", %error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    closing.send_replace(true);
    let grace = (*stop.borrow()).unwrap_or_default();
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, drained).await.is_err() {
        tracing::warn!(target: "admin", left = connections.len(), "stopped before all requests were answered");
    }
}

/// Takes a connection off the gauge even when its task is aborted.
struct Counted(Gauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
