//! Real parts for tests: a Kafka broker, a schema registry, independent producers, and the `streamgauge` binary as users run it.
//!
//! Invariants: a part that cannot be had **fails** the test with the reason of each attempt, it is never skipped and never replaced by a mock; everything
//! listens on 127.0.0.1 and a port the system picked; everything started here dies with the test process, however that ends ([`process`]); every wait has a
//! bound and says what it waited for.
//!
//! Called by integration tests of the root crate and of `connectors/kafka`, on their threads. Deliberately absent: any code of the product. What goes in
//! comes from an independent client (`tests/python`), what comes out is read over the ports a user has.

pub mod broker;
pub mod cluster;
pub mod dice;
pub mod fetch;
pub mod kafka;
pub mod mixture;
pub mod oracle;
pub mod payments;
pub mod process;
pub mod producer;
pub mod registry;
pub mod sidecar;
pub mod small_disk;
pub mod wire;

#[cfg(feature = "docker-tests")]
mod container;

pub use broker::{Admin, Broker, broker, unique};
pub use cluster::LocalCluster;
pub use dice::Dice;
pub use kafka::{LocalKafka, PASSWORD, USER};
pub use mixture::Mixture;
pub use oracle::Oracle;
pub use producer::{Producer, Production};
pub use registry::{LocalRegistry, Registry, registry};
pub use sidecar::{Setup, Sidecar};
pub use small_disk::SmallDisk;
pub use wire::{Frame, Raw};

use std::time::{Duration, Instant};

/// Why a part could not be had or a wait ran out: one sentence with names and numbers.
pub type Failure = String;

/// The outcome of everything that can go wrong outside of the test.
pub type Outcome<T> = Result<T, Failure>;

/// Whether the long form of the tests was asked for (`STREAMGAUGE_LONG=1`, `./test --long`).
pub fn long() -> bool {
    std::env::var("STREAMGAUGE_LONG").is_ok_and(|value| value == "1")
}

/// Repeats `attempt` every 20 ms until it gives something, at most for `within`.
///
/// # Errors
/// The last reason that `attempt` gave, with what was waited for.
pub fn wait_for<T>(what: &str, within: Duration, mut attempt: impl FnMut() -> Outcome<T>) -> Outcome<T> {
    let deadline = Instant::now() + within;
    loop {
        match attempt() {
            Ok(found) => return Ok(found),
            Err(reason) if Instant::now() >= deadline => return Err(format!("{what}: not within {:.1} s: {reason}", within.as_secs_f64())),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
