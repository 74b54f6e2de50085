//! A local Apache Kafka (KRaft, one node) that a test may stop, kill and start again on the same ports and data.
//!
//! Invariant: [`LocalKafka::start`] returns only when a record has gone in and come out again, judged by a client that is not ours. Its folder is removed with it.
//!
//! Used by [`crate::broker`] as one of three choices, and by name in tests that need to hurt a broker.

use crate::process::{Folder, Guarded, free_port, log_file, run, run_reading, tail};
use crate::{Outcome, fetch, wait_for};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// A start on two busy cores takes 5 s; after kill -9 the old session (3 s) must run out first.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(90);

/// SIGTERM is answered within about 3 s.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// How often a start is tried when somebody else took the port meanwhile.
const STARTS_MAX: usize = 3;

/// A broker process of ours.
#[derive(Debug)]
pub struct LocalKafka {
    bootstrap: String,
    secured: Option<String>,
    // Before the folder, so that the broker is gone when its folder goes.
    process: Option<Guarded>,
    folder: Folder,
}

/// The user that a secured broker knows.
pub const USER: &str = "reader";

/// The user's password.
pub const PASSWORD: &str = "open sesame";

impl LocalKafka {
    /// Formats a data folder and starts a broker on free ports.
    ///
    /// # Errors
    /// No Java, no jars, or not ready in time, with the end of the broker's log.
    pub fn start() -> Outcome<Self> {
        Self::start_as(false)
    }

    /// The same with a second listener, [`LocalKafka::secured`]: TLS, SASL PLAIN for [`USER`], and access control, under which that user may do nothing yet.
    /// Who comes over the first listener may do everything.
    ///
    /// # Errors
    /// As [`LocalKafka::start`].
    pub fn start_secured() -> Outcome<Self> {
        Self::start_as(true)
    }

    fn start_as(secured: bool) -> Outcome<Self> {
        let mut reason = String::new();
        for _ in 0..STARTS_MAX {
            match Self::start_once(secured) {
                Ok(kafka) => return Ok(kafka),
                Err(error) if error.contains("Address already in use") => reason = error,
                Err(error) => return Err(error),
            }
        }
        Err(reason)
    }

    fn start_once(secured: bool) -> Outcome<Self> {
        let folder = Folder::new("streamgauge-kafka-")?;
        let (client, controller) = (free_port()?, free_port()?);
        let mut settings = properties(client, controller, &folder.path().join("data"));
        let secured = if secured { Some(free_port()?) } else { None };
        if let Some(port) = secured {
            settings = with_security(&settings, port, &certificate(folder.path())?);
        }
        format_folder(folder.path(), &settings, &new_cluster_id(folder.path())?, "--standalone")?;
        let secured = secured.map(|port| format!("127.0.0.1:{port}"));
        let mut kafka = Self { bootstrap: format!("127.0.0.1:{client}"), secured, process: None, folder };
        kafka.go()?;
        Ok(kafka)
    }

    /// Address for clients.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Address of the listener with TLS and SASL, when it has one.
    pub fn secured(&self) -> Option<&str> {
        self.secured.as_deref()
    }

    /// The certificate (PEM) that a client of the secured listener must trust.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The folder of a partition's log.
    pub fn partition_folder(&self, topic: &str, partition: i32) -> PathBuf {
        self.folder.path().join("data").join(format!("{topic}-{partition}"))
    }

    /// SIGKILL: connections break, nothing is flushed.
    pub fn kill9(&mut self) {
        self.process = None;
    }

    /// SIGTERM and a clean end.
    ///
    /// # Errors
    /// It did not end in time; it is then killed.
    pub fn stop(&mut self) -> Outcome<()> {
        self.process.take().map_or(Ok(()), |mut process| process.terminate(STOP_WITHIN).map(|_| ()))
    }

    /// Starts it again on the same ports and data.
    ///
    /// # Errors
    /// Not ready in time, with the end of the broker's log.
    pub fn go(&mut self) -> Outcome<()> {
        let log = log_of(self.folder.path());
        let mut process = launch(self.folder.path())?;
        let ready = wait_until_ready(&self.bootstrap, || process.ended().map(|status| format!("the broker ended with {status}")));
        ready.map_err(|reason| format!("{reason}\n{}", tail(&log, 20)))?;
        self.process = Some(process);
        Ok(())
    }

    /// Pid of the running broker.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Guarded::pid)
    }
}

/// A command for one of Kafka's own console tools (`org.apache.kafka.tools.ConsoleProducer` and its like).
///
/// # Errors
/// No Java or no jars.
pub fn tool(class: &str) -> Outcome<std::process::Command> {
    let mut command = fetch::java()?;
    command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]).arg(class_path()?).arg(class);
    Ok(command)
}

/// Writes lines into a topic with Kafka's own console producer.
///
/// # Errors
/// What the tool said.
pub fn console_produce(bootstrap: &str, topic: &str, lines: &str) -> Outcome<()> {
    produce(bootstrap, topic, lines, &[])
}

/// Writes a tombstone for each of these keys.
///
/// # Errors
/// What the tool said.
pub fn console_tombstones(bootstrap: &str, topic: &str, keys: impl Iterator<Item = String>) -> Outcome<()> {
    let lines: String = keys.map(|key| format!("{key}\tNULL\n")).collect();
    produce(bootstrap, topic, &lines, &["parse.key=true", "key.separator=\t", "null.marker=NULL"])
}

/// The same with keys: each line is `KEY|VALUE`, and the value `NULL` is a tombstone.
///
/// # Errors
/// As [`console_produce`].
pub fn console_produce_keyed(bootstrap: &str, topic: &str, lines: &str) -> Outcome<()> {
    produce(bootstrap, topic, lines, &["parse.key=true", "key.separator=|", "null.marker=NULL"])
}

fn produce(bootstrap: &str, topic: &str, lines: &str, properties: &[&str]) -> Outcome<()> {
    let folder = Folder::new("streamgauge-console-")?;
    let input = folder.path().join("lines");
    write(&input, lines)?;
    let mut command = tool("org.apache.kafka.tools.ConsoleProducer")?;
    command.args(["--bootstrap-server", bootstrap, "--topic", topic]);
    properties.iter().for_each(|property| {
        command.args(["--reader-property", property]);
    });
    run_reading("ConsoleProducer", &mut command, Some(&input), READY_WITHIN).map(|_| ())
}

/// Waits until metadata and one round trip succeed. `ended` says early when there is nothing to wait for.
///
/// # Errors
/// Not ready in time, or ended.
pub fn wait_until_ready(bootstrap: &str, mut ended: impl FnMut() -> Option<String>) -> Outcome<()> {
    let address = bootstrap.split(',').next().unwrap_or(bootstrap);
    let mut dead = None;
    wait_for(&format!("a listener at {address}"), READY_WITHIN, || {
        dead = ended();
        if dead.is_some() { Ok(()) } else { std::net::TcpStream::connect(address).map(|_| ()).map_err(|error| error.to_string()) }
    })?;
    if let Some(reason) = dead {
        return Err(reason);
    }
    let mut round_trip = fetch::python("kafka_admin.py")?;
    round_trip.args([bootstrap, "ready", "--within", &READY_WITHIN.as_secs().to_string()]);
    run("kafka_admin.py ready", &mut round_trip, READY_WITHIN * 2).map(|_| ())
}

fn class_path() -> Outcome<String> {
    Ok(format!("{}/*", fetch::kafka_jars()?.display()))
}

/// An id for a new cluster.
pub(crate) fn new_cluster_id(folder: &Path) -> Outcome<String> {
    let id = run("StorageTool random-uuid", java(folder)?.args(["kafka.tools.StorageTool", "random-uuid"]), STOP_WITHIN)?;
    Ok(id.trim().to_owned())
}

/// Writes a node's settings into its folder and formats its data; `how` says which part it has in the controller quorum.
pub(crate) fn format_folder(folder: &Path, settings: &str, cluster: &str, how: &str) -> Outcome<()> {
    let file = folder.join("server.properties");
    write(&file, settings)?;
    write(&folder.join("log4j2.properties"), LOG4J)?;
    let mut format = java(folder)?;
    format.args(["kafka.tools.StorageTool", "format", how, "-t", cluster, "-c"]).arg(file);
    run("StorageTool format", &mut format, READY_WITHIN).map(|_| ())
}

/// Starts the node of a formatted folder; it writes to [`log_of`] the folder.
pub(crate) fn launch(folder: &Path) -> Outcome<Guarded> {
    let log = log_of(folder);
    let mut command = java(folder)?;
    command.arg("kafka.Kafka").arg(folder.join("server.properties"));
    command.stdin(Stdio::null()).stdout(log_file(&log)?).stderr(log_file(&log)?);
    Guarded::spawn("kafka", &mut command)
}

/// Where a node's log is.
pub(crate) fn log_of(folder: &Path) -> PathBuf {
    folder.join("kafka.log")
}

fn java(folder: &Path) -> Outcome<std::process::Command> {
    let mut command = fetch::java()?;
    let logging = format!("-Dlog4j2.configurationFile={}", folder.join("log4j2.properties").display());
    command.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", &logging, "-cp"]).arg(class_path()?);
    Ok(command)
}

fn write(path: &Path, text: &str) -> Outcome<()> {
    std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn properties(client: u16, controller: u16, data: &Path) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{client}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
inter.broker.listener.name=PLAINTEXT
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
auto.create.topics.enable=false
log.cleaner.backoff.ms=500
log.dirs={}
",
        data.display()
    )
}

/// Makes a key with a self-signed certificate for 127.0.0.1, as `keys.p12` and `ca.pem`; gives the key store's path.
fn certificate(folder: &Path) -> Outcome<PathBuf> {
    let store = folder.join("keys.p12");
    let keytool = |arguments: &[&str]| {
        let mut command = std::process::Command::new("keytool");
        command.args(arguments).arg("-keystore").arg(&store).args(["-storepass", STORE_PASSWORD, "-alias", "broker"]);
        run("keytool", &mut command, STOP_WITHIN)
    };
    let subject = ["-dname", "CN=127.0.0.1", "-ext", "san=ip:127.0.0.1", "-ext", "bc:c", "-validity", "30", "-storetype", "PKCS12"];
    keytool(&[&["-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1"], &subject[..]].concat())?;
    write(&folder.join("ca.pem"), &keytool(&["-exportcert", "-rfc"])?)?;
    Ok(store)
}

const STORE_PASSWORD: &str = "changeit";

fn with_security(settings: &str, port: u16, store: &Path) -> String {
    let listeners = settings.replacen(",CONTROLLER://", &format!(",SECURED://127.0.0.1:{port},CONTROLLER://"), 1).replacen(
        "map=PLAINTEXT:PLAINTEXT,",
        "map=PLAINTEXT:PLAINTEXT,SECURED:SASL_SSL,",
        1,
    );
    let advertised = listeners.lines().map(|line| match line.starts_with("advertised.listeners=") {
        true => format!("{line},SECURED://127.0.0.1:{port}\n"),
        false => format!("{line}\n"),
    });
    format!(
        "{}listener.name.secured.ssl.keystore.type=PKCS12
listener.name.secured.ssl.keystore.location={}
listener.name.secured.ssl.keystore.password={STORE_PASSWORD}
listener.name.secured.ssl.key.password={STORE_PASSWORD}
listener.name.secured.sasl.enabled.mechanisms=PLAIN
listener.name.secured.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
",
        advertised.collect::<String>(),
        store.display()
    )
}

/// Without a configuration Kafka's log is silently empty.
const LOG4J: &str = "status=error
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %m (%c)%n
rootLogger.level=INFO
rootLogger.appenderRefs=console
rootLogger.appenderRef.console.ref=console
";
