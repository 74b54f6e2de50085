//! The `streamgauge` binary as users run it: a config file, three ports, signals, HTTP.
//!
//! A [`Setup`] owns the config and the data folder and outlives any number of [`Sidecar`]s started over them, which is how restarts are tested. Every wait is
//! bounded; a failure carries the end of the process's log.

use crate::process::{Folder, Guarded, free_port, log_file, tail};
use crate::{Outcome, wait_for};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

/// The two bind lines are promised within 5 s; a busy machine gets twice that.
const BOUND_WITHIN: Duration = Duration::from_secs(10);

/// Recovery of the states that tests make.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Longest single request.
const REQUEST_WITHIN: Duration = Duration::from_secs(30);

/// How often a start is tried when somebody else took the admin port meanwhile.
const STARTS_MAX: usize = 3;

/// A config and a data folder.
#[derive(Debug)]
pub struct Setup {
    binary: PathBuf,
    folder: Arc<Folder>,
    arguments: Vec<String>,
}

/// One running process over a [`Setup`].
#[derive(Debug)]
pub struct Sidecar {
    /// Address of the HTTP data plane, `127.0.0.1:PORT`.
    pub http: String,
    /// Address of the framed TCP data plane.
    pub tcp: String,
    /// Address of the admin port.
    pub admin: String,
    process: Guarded,
    log: PathBuf,
    agent: ureq::Agent,
}

/// One partition as `/sources` shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Partition {
    /// Topic.
    pub topic: String,
    /// Number.
    pub partition: i32,
    /// Next offset wanted.
    pub position: i64,
    /// Kind of the open incident.
    pub incident: Option<String>,
    /// Its cause, for `Stalled`.
    pub cause: String,
}

/// An answer of either HTTP port.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Body; null when it is not JSON.
    pub body: Json,
    /// Body as text.
    pub text: String,
    /// Headers in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Answer {
    /// The stable code of an error, empty when there is none.
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().or_else(|| self.body["code"].as_str()).unwrap_or_default()
    }
}

impl Setup {
    /// With this binary (`env!("CARGO_BIN_EXE_streamgauge")`) and this `streamgauge.toml`. Addresses and data folder are given as flags.
    ///
    /// # Errors
    /// The temporary folder cannot be written.
    pub fn new(binary: &str, config: &str) -> Outcome<Self> {
        let setup = Self { binary: PathBuf::from(binary), folder: Arc::new(Folder::new("streamgauge-sidecar-")?), arguments: Vec::new() };
        setup.write_config(config)?;
        Ok(setup)
    }

    /// The same with more arguments to `run`.
    #[must_use]
    pub fn with(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// The same config and data folder, started through a shell script that ends in `exec "$BINARY" "$@"`.
    ///
    /// # Errors
    /// The script cannot be written.
    pub fn through(&self, name: &str, script: &str) -> Outcome<Self> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.folder.path().join(name);
        let text = script.replace("$BINARY", &self.binary.display().to_string());
        let written = std::fs::write(&path, text).and_then(|()| std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)));
        written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(Self { binary: path, folder: Arc::clone(&self.folder), arguments: self.arguments.clone() })
    }

    /// Replaces the config; the next start reads it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_config(&self, config: &str) -> Outcome<()> {
        std::fs::write(self.config(), config).map_err(|error| format!("cannot write {}: {error}", self.config().display()))
    }

    /// The config file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("streamgauge.toml")
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A command with the binary and a verb, for the other verbs of the command line.
    pub fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg(verb);
        command
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// Not bound or not ready in time, or ended, with the end of its log.
    pub fn start(&self) -> Outcome<Sidecar> {
        let sidecar = self.start_bound()?;
        sidecar.wait_ready(READY_WITHIN)?;
        Ok(sidecar)
    }

    /// Starts it and waits for its bind lines only: recovery may still run.
    ///
    /// # Errors
    /// Not bound in time, or ended, with the end of its log.
    pub fn start_bound(&self) -> Outcome<Sidecar> {
        let mut reason = String::new();
        for _ in 0..STARTS_MAX {
            match self.start_once() {
                Err(error) if error.contains("in use") => reason = error,
                outcome => return outcome,
            }
        }
        Err(reason)
    }

    fn start_once(&self) -> Outcome<Sidecar> {
        let log = self.folder.path().join("streamgauge.log");
        let admin = format!("127.0.0.1:{}", free_port()?);
        let mut command = self.command("run");
        command.arg("-c").arg(self.config()).arg("--data-dir").arg(self.data());
        command.args(["--http-addr", "127.0.0.1:0", "--tcp-addr", "127.0.0.1:0", "--admin-addr", &admin]).args(&self.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_file(&log)?);
        let mut process = Guarded::spawn("streamgauge", &mut command)?;
        let stdout = process.child().stdout.take().ok_or("stdout is not a pipe")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let bound = |kind: &str| -> Outcome<String> {
            let line = lines
                .recv_timeout(BOUND_WITHIN)
                .map_err(|error| format!("no {kind} line ({error}); its log ends in:\n{}", tail(&log, 30)))?;
            let json: Json = serde_json::from_str(&line).map_err(|error| format!("stdout carries {line:?}: {error}"))?;
            let address = json["addr"].as_str().filter(|_| json["kind"] == kind);
            address.map(str::to_owned).ok_or_else(|| format!("stdout carries {line:?} where a {kind} line was promised"))
        };
        let (http, tcp) = (bound("server.http_bound")?, bound("server.tcp_bound")?);
        Ok(Sidecar { http, tcp, admin, process, log, agent: agent() })
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(REQUEST_WITHIN)).http_status_as_error(false).build().into()
}

impl Sidecar {
    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The most memory that it held at one time, bytes.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn peak_memory_bytes(&self) -> Outcome<u64> {
        let path = format!("/proc/{}/status", self.pid());
        let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().map_err(|error| format!("{line}: {error}"))?;
        Ok(kilobytes * 1024)
    }

    /// SIGKILL.
    pub fn kill9(mut self) {
        self.process.kill9();
    }

    /// SIGTERM and a clean end.
    ///
    /// # Errors
    /// It did not end in time; it is then killed.
    pub fn terminate(mut self, within: Duration) -> Outcome<ExitStatus> {
        self.process.terminate(within).map_err(|reason| self.blame(&reason))
    }

    /// Waits until it ends by itself, for refusals to start.
    ///
    /// # Errors
    /// It did not end in time; it is then killed.
    pub fn wait(mut self, within: Duration) -> Outcome<ExitStatus> {
        self.process.wait(within)
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        tail(&self.log, 200)
    }

    /// `GET` of a path on the data plane.
    ///
    /// # Errors
    /// No answer.
    pub fn data_get(&self, path: &str) -> Outcome<Answer> {
        self.answer(self.agent.get(format!("http://{}{path}", self.http)).call(), path)
    }

    /// `POST` of a JSON body to a path on the data plane.
    ///
    /// # Errors
    /// No answer.
    pub fn data_post(&self, path: &str, body: &Json) -> Outcome<Answer> {
        let request = self.agent.post(format!("http://{}{path}", self.http)).header("Content-Type", "application/json");
        self.answer(request.send(body.to_string().as_bytes()), path)
    }

    /// `GET` of a path on the admin port.
    ///
    /// # Errors
    /// No answer.
    pub fn admin_get(&self, path: &str) -> Outcome<Answer> {
        self.answer(self.agent.get(format!("http://{}{path}", self.admin)).call(), path)
    }

    /// `POST` of a path on the admin port, without a body.
    ///
    /// # Errors
    /// No answer.
    pub fn admin_post(&self, path: &str) -> Outcome<Answer> {
        let request = self.agent.post(format!("http://{}{path}", self.admin)).header("Content-Type", "application/json");
        self.answer(request.send(b"{}"), path)
    }

    /// No file of the process may grow or be written beyond this many bytes; `None` = as before. Writes fail then as on a full disk.
    ///
    /// # Errors
    /// The system refuses.
    pub fn limit_files(&self, bytes: Option<u64>) -> Outcome<()> {
        use rustix::process::{Pid, Resource, Rlimit, prlimit};
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).ok_or("no pid")?;
        let maximum = rustix::process::getrlimit(Resource::Fsize).maximum;
        prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).map(|_| ()).map_err(|error| error.to_string())
    }

    fn answer(&self, outcome: Result<ureq::http::Response<ureq::Body>, ureq::Error>, path: &str) -> Outcome<Answer> {
        let mut response = outcome.map_err(|error| self.blame(&format!("no answer to {path}: {error}")))?;
        let text = response.body_mut().read_to_string().map_err(|error| format!("no body of {path}: {error}"))?;
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        Ok(Answer {
            status: response.status().as_u16(),
            body: serde_json::from_str(&text).unwrap_or_default(),
            headers: headers.collect(),
            text,
        })
    }

    /// One row; `None` when the table has no such key.
    ///
    /// # Errors
    /// Anything but 200 and `key_not_found`.
    pub fn get(&self, table: &str, key: &str) -> Outcome<Option<Json>> {
        let answer = self.data_get(&format!("/tables/{table}/{key}"))?;
        match (answer.status, answer.code()) {
            (200, _) => Ok(Some(answer.body)),
            (404, "key_not_found") => Ok(None),
            (status, _) => Err(self.blame(&format!("GET /tables/{table}/{key}: {status} {}", answer.text))),
        }
    }

    /// Rows of these keys in order; `{}` for a key that the table lacks.
    ///
    /// # Errors
    /// Not 200, or another number of results.
    pub fn batch_get(&self, table: &str, keys: &[&str]) -> Outcome<Vec<Json>> {
        let requests: Vec<Json> = keys.iter().map(|key| json!({ "table": table, "key": key })).collect();
        let answer = self.data_post("/batch_get", &json!({ "requests": requests }))?;
        let results = answer.body["results"].as_array().filter(|rows| answer.status == 200 && rows.len() == keys.len());
        results
            .cloned()
            .ok_or_else(|| self.blame(&format!("batch_get of {} keys of {table}: {} {:.300}", keys.len(), answer.status, answer.text)))
    }

    /// All partitions of all sources.
    ///
    /// # Errors
    /// No answer, or one of another shape.
    pub fn partitions(&self) -> Outcome<Vec<Partition>> {
        let answer = self.admin_get("/sources")?;
        let rows = answer.body["partitions"].as_array().or_else(|| answer.body.as_array());
        let rows = rows.ok_or_else(|| format!("/sources has no partitions: {} {:.300}", answer.status, answer.text))?;
        let partition = |row: &Json| -> Option<Partition> {
            Some(Partition {
                topic: row["topic"].as_str()?.to_owned(),
                partition: i32::try_from(row["partition"].as_i64()?).ok()?,
                position: row["position"].as_i64()?,
                incident: row["incident"]["kind"].as_str().map(str::to_owned),
                cause: row["incident"]["cause"].as_str().unwrap_or_default().to_owned(),
            })
        };
        rows.iter().map(|row| partition(row).ok_or_else(|| format!("/sources has an odd partition: {row}"))).collect()
    }

    /// Positions of a topic by partition.
    ///
    /// # Errors
    /// As [`Sidecar::partitions`].
    pub fn positions(&self, topic: &str) -> Outcome<BTreeMap<i32, i64>> {
        Ok(self.partitions()?.into_iter().filter(|p| p.topic == topic).map(|p| (p.partition, p.position)).collect())
    }

    /// Records of a topic applied so far, by the sum of its positions; 0 until the source is attached.
    ///
    /// # Errors
    /// As [`Sidecar::partitions`].
    pub fn consumed(&self, topic: &str) -> Outcome<i64> {
        Ok(self.positions(topic)?.values().sum())
    }

    /// Waits until every partition stands at these log ends, which an independent client asked the broker for.
    ///
    /// # Errors
    /// Not in time, with the partitions as they stand.
    pub fn wait_positions(&self, topic: &str, ends: &BTreeMap<i32, i64>, within: Duration) -> Outcome<()> {
        let waited = wait_for(&format!("positions of {topic} at the log's end"), within, || {
            let positions = self.positions(topic)?;
            let behind: Vec<_> = ends.iter().filter(|(partition, end)| positions.get(partition).is_none_or(|at| at < end)).collect();
            if behind.is_empty() { Ok(()) } else { Err(format!("wanted {behind:?}, stand at {positions:?}")) }
        });
        waited.map_err(|reason| self.blame(&reason))
    }

    /// Waits until a partition of the topic shows an incident of this kind, and gives it.
    ///
    /// # Errors
    /// Not in time, with the partitions as they stand.
    pub fn wait_incident(&self, topic: &str, kind: &str, within: Duration) -> Outcome<Partition> {
        let waited = wait_for(&format!("incident {kind} of {topic}"), within, || {
            let partitions = self.partitions()?;
            let found = partitions.iter().find(|p| p.topic == topic && p.incident.as_deref() == Some(kind)).cloned();
            found.ok_or_else(|| format!("{partitions:?}"))
        });
        waited.map_err(|reason| self.blame(&reason))
    }

    /// Waits until `/ready` says 200.
    ///
    /// # Errors
    /// Not in time, with the end of its log.
    pub fn wait_ready(&self, within: Duration) -> Outcome<()> {
        wait_for("readiness", within, || {
            let answer = self.admin_get("/ready")?;
            if answer.status == 200 { Ok(()) } else { Err(format!("{} {}", answer.status, answer.text)) }
        })
        .map_err(|reason| self.blame(&reason))
    }

    /// State fingerprint and its LSN, where `/status` shows it.
    ///
    /// # Errors
    /// No answer.
    pub fn status(&self) -> Outcome<Json> {
        self.admin_get("/status").map(|answer| answer.body)
    }

    fn blame(&self, reason: &str) -> String {
        format!("{reason}\n  streamgauge's log ends in:\n{}", tail(&self.log, 15))
    }
}

/// CPU seconds a process has used, user and system, from `/proc`.
///
/// # Errors
/// The process is gone.
pub fn cpu_seconds(pid: u32) -> Outcome<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(Path::new(&path)).map_err(|error| format!("{path}: {error}"))?;
    // The command's name stands in parentheses and may hold anything; fields 14 and 15 are counted from behind it.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = fields.get(11..13).unwrap_or_default().iter().filter_map(|field| field.parse::<f64>().ok()).sum();
    let per_second = rustix::param::clock_ticks_per_second();
    #[expect(clippy::cast_precision_loss, reason = "100 on every Linux")]
    Ok(ticks / per_second as f64)
}
