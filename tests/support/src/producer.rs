//! Payments into a topic by `tests/python/produce.py`, a client that is not ours, together with their oracle.
//!
//! Invariant: what [`Producer::finish`] gives was acknowledged by the broker, every record of it; a record that was not fails the test.

use crate::process::{Folder, Guarded};
use crate::{Failure, Oracle, Outcome, fetch};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// What to produce. Start from [`Production::default`] and set what differs.
#[derive(Debug, Clone)]
pub struct Production {
    /// Topic; it must exist.
    pub topic: String,
    /// URL of the registry; `None` = JSON instead of Avro.
    pub registry: Option<String>,
    /// Number of records.
    pub records: u64,
    /// Number of the first record.
    pub first: u64,
    /// Distinct keys.
    pub keys: u64,
    /// Partitions written to.
    pub partitions: u32,
    /// Seed of the dice.
    pub seed: u64,
    /// Records per second; `None` = as fast as possible.
    pub rate: Option<u64>,
    /// Committed and aborted transactions mixed, the last one aborted.
    pub transactions: bool,
    /// Leave a transaction open at the end until [`Producer::close`].
    pub open: bool,
    /// A header `region`.
    pub headers: bool,
    /// Time of record 0, ms; `None` = such that the last one is a minute old.
    pub base_ms: Option<u64>,
    /// Write until [`Producer::enough`]; `records` is then the most.
    pub until_enough: bool,
}

impl Default for Production {
    fn default() -> Self {
        Self {
            topic: String::new(),
            registry: None,
            records: 1000,
            first: 0,
            keys: 20_000,
            partitions: 12,
            seed: 1,
            rate: None,
            transactions: false,
            open: false,
            headers: false,
            base_ms: None,
            until_enough: false,
        }
    }
}

/// What was delivered.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// Log end of each partition, read uncommitted.
    pub ends: BTreeMap<i32, i64>,
    /// Seconds it took.
    pub seconds: f64,
    /// The answers a table must give now.
    pub oracle: Oracle,
}

/// A running `produce.py`.
#[derive(Debug)]
pub struct Producer {
    process: Guarded,
    lines: Receiver<String>,
    talk: Option<JoinHandle<String>>,
    folder: Folder,
}

impl Production {
    /// Starts producing to the broker at this address.
    ///
    /// # Errors
    /// The script could not be started.
    pub fn start(&self, bootstrap: &str) -> Outcome<Producer> {
        let folder = Folder::new("streamgauge-producer-")?;
        let mut command = fetch::python("produce.py")?;
        command.env("PYTHONWARNINGS", "ignore").args(["--bootstrap", bootstrap, "--topic", &self.topic]);
        command.arg("--oracle").arg(folder.path().join("oracle.json"));
        let rate = self.rate.unwrap_or_default();
        let numbers = [
            ("--records", self.records),
            ("--first", self.first),
            ("--keys", self.keys),
            ("--partitions", u64::from(self.partitions)),
            ("--seed", self.seed),
            ("--rate", rate),
            ("--base-ms", self.base_ms.unwrap_or_default()),
        ];
        for (name, value) in numbers {
            command.arg(name).arg(value.to_string());
        }
        let switches = [
            ("--transactions", self.transactions),
            ("--open", self.open),
            ("--headers", self.headers),
            ("--until-enough", self.until_enough),
        ];
        for (name, given) in switches {
            if given {
                command.arg(name);
            }
        }
        match &self.registry {
            Some(url) => command.args(["--format", "avro", "--registry", url]),
            None => command.args(["--format", "json"]),
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Guarded::spawn("produce.py", &mut command)?;
        let stdout = process.child().stdout.take().ok_or("stdout is not a pipe")?;
        let mut stderr = process.child().stderr.take().ok_or("stderr is not a pipe")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let talk = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).map(|_| text).unwrap_or_default()
        });
        Ok(Producer { process, lines, talk: Some(talk), folder })
    }

    /// Produces all of it.
    ///
    /// # Errors
    /// As [`Producer::finish`].
    pub fn run(&self, bootstrap: &str, within: Duration) -> Outcome<Delivered> {
        self.start(bootstrap)?.finish(within)
    }
}

impl Producer {
    /// Whether it still writes.
    pub fn running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Waits until everything is delivered. With an open transaction the process stays for [`Producer::close`].
    ///
    /// # Errors
    /// A record was not delivered, or the time ran out; with what the script said.
    pub fn finish(&mut self, within: Duration) -> Outcome<Delivered> {
        let line = match self.lines.recv_timeout(within) {
            Ok(line) => line,
            Err(error) => {
                self.process.kill9();
                let said = self.talk.take().and_then(|talk| talk.join().ok()).unwrap_or_default();
                return Err(format!("produce.py did not deliver within {:.0} s ({error}): {said}", within.as_secs_f64()));
            }
        };
        let json: Json = serde_json::from_str(&line).map_err(|error| -> Failure { format!("produce.py said {line:?}: {error}") })?;
        let ends = json["ends"].as_object().into_iter().flatten().filter_map(|(p, end)| Some((p.parse().ok()?, end.as_i64()?))).collect();
        let seconds = json["seconds"].as_f64().unwrap_or_default();
        Ok(Delivered { ends, seconds, oracle: Oracle::read(&self.folder.path().join("oracle.json"))? })
    }

    /// Closes the open transaction, committed or aborted, and gives what then holds.
    ///
    /// # Errors
    /// As [`Producer::finish`].
    pub fn close(&mut self, commit: bool, within: Duration) -> Outcome<Delivered> {
        self.say(if commit { "commit" } else { "abort" })?;
        self.finish(within)
    }

    /// Tells a production that is `until_enough` to end.
    ///
    /// # Errors
    /// It has ended by itself.
    pub fn enough(&mut self) -> Outcome<()> {
        self.say("enough")
    }

    fn say(&mut self, word: &str) -> Outcome<()> {
        let stdin = self.process.child().stdin.as_mut().ok_or("stdin is not a pipe")?;
        writeln!(stdin, "{word}").and_then(|()| stdin.flush()).map_err(|error| format!("produce.py does not listen: {error}"))
    }
}
