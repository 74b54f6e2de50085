//! `tests/python/mixture.py` as a running process: good, bad, late, fast and deleted records by a client
//! that is not ours, and the comparison of every key of every table with what it then says.
//!
//! Invariant: a command's answer is waited for within a bound, and a mixture that ends by itself fails the
//! test with what it said. A value that is one number must be equal; `[low, high, recounted]` is a window
//! whose edges are buckets: the value must lie within, and what `explain=1` promises must hold for the recount.

use crate::process::{Folder, Guarded, log_file, tail};
use crate::{Outcome, Sidecar, fetch};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Longest command: it may wait for a broker that comes back, or recompute all tables.
const ANSWERED_WITHIN: Duration = Duration::from_secs(200);

/// Keys per read.
const KEYS_PER_READ: usize = 500;

/// Differences told before the rest is only counted.
const DIFFERENCES_TOLD: usize = 20;

/// Log ends by topic and partition.
pub type Ends = BTreeMap<String, BTreeMap<i32, i64>>;

/// Where a bad record lies: topic, partition, offset.
pub type Place = (String, i64, i64);

/// A running `mixture.py`.
#[derive(Debug)]
pub struct Mixture {
    process: Guarded,
    lines: Receiver<String>,
    log: PathBuf,
    folder: Folder,
}

/// What everything must say as of a moment.
#[derive(Debug)]
pub struct Answers {
    /// The moment, ms.
    pub as_of_ms: i64,
    /// Every bad record and the code that says why it is bad.
    pub bad: BTreeMap<Place, String>,
    tables: Json,
}

impl Mixture {
    /// Starts a stream of `rate` records per second into the first of these topics (name, partitions).
    ///
    /// # Errors
    /// The script could not be started.
    pub fn start(bootstrap: &str, topics: &[(&str, u32)], rate: u64, seed: u64) -> Outcome<Self> {
        let folder = Folder::new("streamgauge-mixture-")?;
        let log = folder.path().join("stderr");
        let (stream, _) = topics.first().ok_or("no topic")?;
        let mut command = fetch::python("mixture.py")?;
        command.args(["--bootstrap", bootstrap, "--stream", stream, "--rate", &rate.to_string(), "--seed", &seed.to_string(), "--topics"]);
        command.args(topics.iter().map(|(topic, partitions)| format!("{topic}:{partitions}")));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log_file(&log)?);
        let mut process = Guarded::spawn("mixture.py", &mut command)?;
        let stdout = process.child().stdout.take().ok_or("stdout is not a pipe")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self { process, lines, log, folder })
    }

    fn ask(&mut self, command: &Json) -> Outcome<Json> {
        self.tell(command)?;
        let line = self.lines.recv_timeout(ANSWERED_WITHIN);
        let line = line.map_err(|error| format!("no answer to {command} ({error}): {}", tail(&self.log, 12)))?;
        serde_json::from_str(&line).map_err(|error| format!("mixture.py said {line:?}: {error}"))
    }

    fn tell(&mut self, command: &Json) -> Outcome<()> {
        let stdin = self.process.child().stdin.as_mut().ok_or("stdin is not a pipe")?;
        let told = writeln!(stdin, "{command}").and_then(|()| stdin.flush());
        told.map_err(|error| format!("mixture.py does not listen ({error}): {}", tail(&self.log, 12)))
    }

    /// One row for each of `count` cards that nobody else uses.
    ///
    /// # Errors
    /// The script ended.
    pub fn fill(&mut self, topic: &str, tag: &str, count: u64) -> Outcome<()> {
        self.ask(&json!({ "act": "fill", "topic": topic, "tag": tag, "count": count })).map(|_| ())
    }

    /// A record without a value for each of those cards.
    ///
    /// # Errors
    /// The script ended.
    pub fn erase(&mut self, topic: &str, tag: &str, count: u64) -> Outcome<()> {
        self.ask(&json!({ "act": "erase", "topic": topic, "tag": tag, "count": count })).map(|_| ())
    }

    /// So many bad records in a row, then good ones.
    ///
    /// # Errors
    /// The script ended.
    pub fn flood(&mut self, topic: &str, count: u64) -> Outcome<()> {
        self.ask(&json!({ "act": "flood", "topic": topic, "count": count })).map(|_| ())
    }

    /// Log ends once everything that was written so far is delivered; the stream goes on.
    ///
    /// # Errors
    /// A record was not delivered.
    pub fn ends(&mut self) -> Outcome<Ends> {
        self.ask(&json!({ "act": "ends" })).map(|answer| ends_of(&answer))
    }

    /// Ends the stream: log ends, and how many records of each sort there were.
    ///
    /// # Errors
    /// A record was not delivered.
    pub fn enough(&mut self) -> Outcome<(Ends, Json)> {
        let answer = self.ask(&json!({ "act": "enough" }))?;
        Ok((ends_of(&answer), answer["written"].clone()))
    }

    /// What everything must say now.
    ///
    /// # Errors
    /// The script ended, or wrote something else.
    pub fn answers(&mut self) -> Outcome<Answers> {
        let path = self.folder.path().join("answers.json");
        let as_of = self.ask(&json!({ "act": "oracle", "path": path.display().to_string() }))?;
        let text = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut json: Json = serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let place = |row: &Json| Some(((row[0].as_str()?.to_owned(), row[1].as_i64()?, row[2].as_i64()?), row[3].as_str()?.to_owned()));
        let bad = json["bad"].as_array().into_iter().flatten().filter_map(place).collect();
        let as_of_ms = as_of["as_of"].as_i64().ok_or("the answers have no moment")?;
        Ok(Answers { as_of_ms, bad, tables: json["tables"].take() })
    }
}

fn ends_of(answer: &Json) -> Ends {
    let partitions = |ends: &Json| {
        let ends = ends.as_object().into_iter().flatten();
        ends.filter_map(|(partition, end)| Some((partition.parse().ok()?, end.as_i64()?))).collect()
    };
    answer["ends"].as_object().into_iter().flatten().map(|(topic, ends)| (topic.clone(), partitions(ends))).collect()
}

impl Answers {
    /// Names of the tables.
    pub fn tables(&self) -> impl Iterator<Item = &str> {
        self.tables.as_object().into_iter().flatten().map(|(name, _)| name.as_str())
    }

    /// How many keys a table must have.
    pub fn keys(&self, table: &str) -> usize {
        self.tables[table].as_array().map_or(0, Vec::len)
    }

    /// What `explain=1` says of a key.
    fn explained(&self, sidecar: &Sidecar, table: &str, key: &Json) -> Outcome<Json> {
        let parts = key.as_array().into_iter().flatten().filter_map(Json::as_str);
        let path = parts.fold(format!("/tables/{table}"), |path, part| format!("{path}/{part}"));
        let answer = sidecar.data_get(&format!("{path}?as_of={}&explain=1", self.as_of_ms))?;
        if answer.status == 200 { Ok(answer.body) } else { Err(format!("{path}: {} {:.500}", answer.status, answer.text)) }
    }

    /// Compares every feature of every key of every table.
    ///
    /// # Errors
    /// The first differences and the number of all of them; or the sidecar did not answer.
    pub fn compare(&self, sidecar: &Sidecar) -> Outcome<usize> {
        let (mut compared, mut wrong, mut told) = (0, 0, Vec::new());
        for (table, keys) in self.tables.as_object().into_iter().flatten() {
            for chunk in keys.as_array().map(Vec::as_slice).unwrap_or_default().chunks(KEYS_PER_READ) {
                let entry = |row: &Json| match row[0].as_array().map(Vec::len) {
                    Some(0) => json!({ "table": table }),
                    _ => json!({ "table": table, "key": row[0] }),
                };
                let requests: Vec<Json> = chunk.iter().map(entry).collect();
                let answer = sidecar.data_post("/batch_get", &json!({ "as_of": self.as_of_ms, "requests": requests }))?;
                let found = answer.body["results"].as_array().filter(|found| answer.status == 200 && found.len() == chunk.len());
                let found = found.ok_or_else(|| format!("batch_get of {table}: {} {:.500}", answer.status, answer.text))?;
                for (row, found) in chunk.iter().zip(found) {
                    let wanted = || row[1].as_object().into_iter().flatten();
                    let is_grown = wanted().any(|(_, want)| want.is_array());
                    let explained = if is_grown { self.explained(sidecar, table, &row[0])? } else { Json::Null };
                    for (feature, want) in wanted() {
                        compared += 1;
                        if !agrees(want, &found[feature]) || (want.is_array() && !holds(&want[2], &explained[feature])) {
                            wrong += 1;
                            let have = (&found[feature], &explained[feature]);
                            told.push(format!("{table}{}.{feature}: oracle {want}, sidecar {} {}", row[0], have.0, have.1));
                            told.truncate(DIFFERENCES_TOLD);
                        }
                    }
                }
            }
        }
        if wrong == 0 { Ok(compared) } else { Err(format!("{wrong} of {compared} values differ, among them:\n{}", told.join("\n"))) }
    }
}

/// Whether what `explain=1` says of a value holds for the recount of all rows.
fn holds(recounted: &Json, told: &Json) -> bool {
    if told["exact"] == true {
        return recounted.as_f64() == told["value"].as_f64();
    }
    let Some([least, most]) = told["bound"].as_array().map(Vec::as_slice) else { return told["bound"].is_null() };
    match recounted.as_f64() {
        None => told["nullable"] == true,
        Some(value) => least.as_f64().is_none_or(|least| least <= value) && most.as_f64().is_none_or(|most| value <= most),
    }
}

/// Equal, or within `[low, high]`, where null is the empty window's 0.
fn agrees(want: &Json, have: &Json) -> bool {
    #[expect(clippy::float_cmp, reason = "the input is made so that every sum is exact")]
    match (want.as_array().map(Vec::as_slice), want.as_f64(), have.as_f64()) {
        (Some([low, high, _]), _, have) => {
            let have = have.unwrap_or_default();
            low.as_f64().is_some_and(|low| low <= have) && high.as_f64().is_some_and(|high| have <= high)
        }
        (_, Some(want), Some(have)) => want == have,
        _ => want == have,
    }
}
