//! A local Apache Kafka of several brokers behind a controller of their own, for what one broker cannot show: a log that loses its end.
//!
//! Brokers are numbered from 0; the controller is never killed. Leaders may be elected uncleanly, and a replica that falls silent leaves the in-sync set within seconds.

use crate::kafka::{READY_WITHIN, format_folder, launch, log_of, new_cluster_id, wait_until_ready};
use crate::process::{Folder, Guarded, free_port, tail};
use crate::{Outcome, wait_for};

/// Node id of the controller.
const CONTROLLER_ID: usize = 1;

/// A controller and its brokers.
#[derive(Debug)]
pub struct LocalCluster {
    brokers: Vec<Node>,
    // Brokers go first.
    _controller: Node,
}

/// One process with its folder.
#[derive(Debug)]
struct Node {
    port: u16,
    // Before the folder, so that the process is gone when its folder goes.
    process: Option<Guarded>,
    folder: Folder,
}

impl LocalCluster {
    /// Starts a controller and this many brokers.
    ///
    /// # Errors
    /// No Java, no jars, or not ready in time, with the end of a log.
    pub fn start(brokers: usize) -> Outcome<Self> {
        let folder = Folder::new("streamgauge-kafka-")?;
        let cluster = new_cluster_id(folder.path())?;
        let port = free_port()?;
        let mut controller = Node { port, process: None, folder };
        let listener = format!("process.roles=controller\nlisteners=CONTROLLER://127.0.0.1:{port}\n");
        controller.format(CONTROLLER_ID, port, &listener, &cluster, "--standalone")?;
        controller.go()?;
        let mut all = Vec::new();
        for number in 0..brokers {
            let mut broker = Node { port: free_port()?, process: None, folder: Folder::new("streamgauge-kafka-")? };
            let at = format!("PLAINTEXT://127.0.0.1:{}", broker.port);
            let listener =
                format!("process.roles=broker\nlisteners={at}\nadvertised.listeners={at}\ninter.broker.listener.name=PLAINTEXT\n");
            broker.format(Self::id(number), port, &listener, &cluster, "--no-initial-controllers")?;
            broker.go()?;
            all.push(broker);
        }
        let cluster = Self { brokers: all, _controller: controller };
        wait_until_ready(&cluster.bootstrap(), || None)?;
        Ok(cluster)
    }

    /// Node id of a broker, as replica assignments name it.
    pub fn id(broker: usize) -> usize {
        CONTROLLER_ID + 1 + broker
    }

    /// Addresses of all brokers.
    pub fn bootstrap(&self) -> String {
        self.brokers.iter().map(|broker| format!("127.0.0.1:{}", broker.port)).collect::<Vec<_>>().join(",")
    }

    /// Address of one broker.
    pub fn address(&self, broker: usize) -> String {
        format!("127.0.0.1:{}", self.brokers[broker].port)
    }

    /// SIGKILL.
    pub fn kill9(&mut self, broker: usize) {
        self.brokers[broker].process = None;
    }

    /// Starts a broker again on its port and data, and waits until it listens.
    ///
    /// # Errors
    /// Not in time, with the end of its log.
    pub fn go(&mut self, broker: usize) -> Outcome<()> {
        self.brokers[broker].go()
    }
}

impl Node {
    fn format(&self, id: usize, controller: u16, listener: &str, cluster: &str, how: &str) -> Outcome<()> {
        let settings = format!(
            "{listener}node.id={id}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
unclean.leader.election.enable=true
replica.lag.time.max.ms=3000
broker.session.timeout.ms=3000
auto.create.topics.enable=false
log.dirs={}
",
            self.folder.path().join("data").display()
        );
        format_folder(self.folder.path(), &settings, cluster, how)
    }

    fn go(&mut self) -> Outcome<()> {
        self.process = Some(launch(self.folder.path())?);
        let address = format!("127.0.0.1:{}", self.port);
        wait_for(&format!("a listener at {address}"), READY_WITHIN, || {
            std::net::TcpStream::connect(&address).map(|_| ()).map_err(|error| error.to_string())
        })
        .map_err(|reason| format!("{reason}\n{}", tail(&log_of(self.folder.path()), 20)))
    }
}
