//! `registry()`: a schema registry with Confluent's API, found or started.
//!
//! Order: `SG_TEST_REGISTRY` names one (with its base path); else a local Apicurio from Maven Central. There is no further choice and no mock: without either
//! the test fails. Ready means that the subjects can be listed.

use crate::process::{Folder, Guarded, free_port, log_file, tail};
use crate::{Outcome, fetch, wait_for};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// Confluent's API in Apicurio; clients must keep this base path.
const API: &str = "apis/ccompat/v7";

/// A start takes 3-7 s on a quiet machine.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// How often a start is tried when somebody else took the port meanwhile.
const STARTS_MAX: usize = 3;

/// A registry for the whole test binary.
#[derive(Debug)]
pub struct Registry {
    /// Base URL of Confluent's API.
    pub url: String,
    _local: Option<LocalRegistry>,
}

/// The registry of this test binary. Subjects carry the topic's name, which is unique.
///
/// # Panics
/// When neither the environment nor Maven has one: a missing part fails the test.
pub fn registry() -> &'static Registry {
    static CELL: OnceLock<Outcome<Registry>> = OnceLock::new();
    let chosen = CELL.get_or_init(|| match std::env::var("SG_TEST_REGISTRY") {
        Ok(url) => Ok(Registry { url, _local: None }),
        Err(_) => LocalRegistry::start().map(|local| Registry { url: local.url(), _local: Some(local) }),
    });
    match chosen {
        Ok(registry) => registry,
        Err(reason) => panic!("no schema registry: SG_TEST_REGISTRY is not set, and a local Apicurio did not start: {reason}"),
    }
}

impl Registry {
    /// Registers a schema under a subject; gives its id.
    ///
    /// # Errors
    /// What the registry said.
    pub fn register(&self, subject: &str, kind: &str, schema: &str) -> Outcome<u32> {
        let url = format!("{}/subjects/{subject}/versions", self.url);
        let body = serde_json::json!({ "schemaType": kind, "schema": schema }).to_string();
        let agent: ureq::Agent =
            ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(20))).http_status_as_error(false).build().into();
        let request = agent.post(&url).header("Content-Type", "application/vnd.schemaregistry.v1+json");
        let mut answer = request.send(&body).map_err(|error| format!("{url}: {error}"))?;
        let text = answer.body_mut().read_to_string().map_err(|error| format!("{url}: {error}"))?;
        let id = serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|json| json.get("id")?.as_u64());
        id.and_then(|id| u32::try_from(id).ok()).ok_or_else(|| format!("{url} gave no id: {text}"))
    }
}

/// An Apicurio process of ours, in memory: what was registered is gone after a restart.
#[derive(Debug)]
pub struct LocalRegistry {
    port: u16,
    // Before the folder, so that the registry is gone when its folder goes.
    process: Option<Guarded>,
    folder: Folder,
}

impl LocalRegistry {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// No Java, no jar, or not ready in time, with the end of its log.
    pub fn start() -> Outcome<Self> {
        let mut reason = String::new();
        for _ in 0..STARTS_MAX {
            let folder = Folder::new("streamgauge-registry-")?;
            let mut registry = Self { port: free_port()?, process: None, folder };
            match registry.go() {
                Ok(()) => return Ok(registry),
                Err(error) if error.contains("already") => reason = error,
                Err(error) => return Err(error),
            }
        }
        Err(reason)
    }

    /// Base URL of Confluent's API.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/{API}", self.port)
    }

    /// Makes it answer nothing, with its content kept: SIGSTOP.
    ///
    /// # Errors
    /// It is not running.
    pub fn freeze(&self) -> Outcome<()> {
        self.signal(rustix::process::Signal::STOP)
    }

    /// Goes on after [`LocalRegistry::freeze`].
    ///
    /// # Errors
    /// It is not running.
    pub fn thaw(&self) -> Outcome<()> {
        self.signal(rustix::process::Signal::CONT)
    }

    fn signal(&self, signal: rustix::process::Signal) -> Outcome<()> {
        self.process.as_ref().ok_or_else(|| "the registry is not running".to_owned())?.signal(signal)
    }

    fn go(&mut self) -> Outcome<()> {
        let log = self.folder.path().join("registry.log");
        let mut command: Command = fetch::java()?;
        command
            .env("QUARKUS_HTTP_HOST", "127.0.0.1")
            .env("QUARKUS_HTTP_PORT", self.port.to_string())
            .env("HTTP_PORT", self.port.to_string())
            .args(["-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-jar"])
            .arg(runner_jar()?)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log_file(&log)?)
            .stderr(log_file(&log)?);
        let mut process = Guarded::spawn("registry", &mut command)?;
        let url = format!("{}/subjects", self.url());
        let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).build().into();
        wait_for(&format!("an answer of {url}"), READY_WITHIN, || {
            if let Some(status) = process.ended() {
                return Ok(Err(format!("the registry ended with {status}")));
            }
            agent.get(&url).call().map(|_| Ok(())).map_err(|error| error.to_string())
        })
        .and_then(|ready| ready)
        .map_err(|reason| format!("{reason}\n{}", tail(&log, 20)))?;
        self.process = Some(process);
        Ok(())
    }
}

fn runner_jar() -> Outcome<PathBuf> {
    let folder = fetch::registry_folder()?;
    let entries = std::fs::read_dir(&folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let jar = entries.filter_map(Result::ok).map(|entry| entry.path()).find(|path| path.to_string_lossy().ends_with("-runner.jar"));
    jar.ok_or_else(|| format!("no *-runner.jar in {}", folder.display()))
}
