//! A Kafka broker in a container, where Docker answers. The tag is pinned to the version that the local choice runs.
//!
//! Invariant: the container is removed when the test process ends, however it ends: a watchdog removes it by its id, since statics are not dropped.

use crate::process::{Watchdog, free_port};
use crate::{Failure, Outcome};
use std::time::Duration;
use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::SyncRunner;
use testcontainers::{Container as Running, GenericImage, ImageExt};

const IMAGE: &str = "apache/kafka";
const TAG: &str = "4.3.1";
const CLIENT_PORT: u16 = 9092;

/// Pulling the image on a slow line.
const START_WITHIN: Duration = Duration::from_secs(600);

/// A running container.
pub struct Container {
    /// Address for clients on this machine.
    pub address: String,
    _running: Running<GenericImage>,
    _watchdog: Watchdog,
}

impl std::fmt::Debug for Container {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Container").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Starts a broker.
///
/// # Errors
/// Docker does not answer, or the container did not start in time.
pub fn kafka() -> Outcome<Container> {
    // The advertised address must be known before the start, so the outer port is picked by us.
    let port = free_port()?;
    let image = GenericImage::new(IMAGE, TAG).with_wait_for(WaitFor::message_on_stdout("Kafka Server started"));
    let mut request = image.with_mapped_port(port, CLIENT_PORT.tcp()).with_startup_timeout(START_WITHIN);
    for (name, value) in settings(port) {
        request = request.with_env_var(name, value);
    }
    let running = request.start().map_err(|error| -> Failure { format!("Docker: {error}") })?;
    let watchdog = Watchdog::new("docker rm -f \"$1\"", running.id())?;
    Ok(Container { address: format!("127.0.0.1:{port}"), _running: running, _watchdog: watchdog })
}

/// The image takes its whole configuration from these once any of them is given.
fn settings(port: u16) -> Vec<(&'static str, String)> {
    [
        ("KAFKA_PROCESS_ROLES", "broker,controller".to_owned()),
        ("KAFKA_NODE_ID", "1".to_owned()),
        ("KAFKA_LISTENERS", format!("PLAINTEXT://:{CLIENT_PORT},CONTROLLER://:9093")),
        ("KAFKA_ADVERTISED_LISTENERS", format!("PLAINTEXT://127.0.0.1:{port}")),
        ("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER".to_owned()),
        ("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned()),
        ("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:9093".to_owned()),
        ("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1".to_owned()),
        ("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1".to_owned()),
        ("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1".to_owned()),
        ("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0".to_owned()),
        ("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false".to_owned()),
    ]
    .into()
}
