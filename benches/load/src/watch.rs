//! When does a record become visible? Polls one integer feature of one key, and notes when each new value was first seen.
//!
//! Times are of the system's real-time clock, which the producer on the same machine reads too. Between polls it sleeps, so that the watch itself does not
//! take a core from what it watches; the pause and a loopback round trip are part of the latencies that it reports.

use clap::Args;
use serde_json::{Value as Json, json};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use streamgauge_testing::{Frame, Outcome, Raw};

const GET: u16 = 0x0020;
/// Between two polls.
const PAUSE: Duration = Duration::from_micros(200);

/// What to watch.
#[derive(Debug, Args)]
pub struct Options {
    /// Address of the framed TCP data plane.
    #[arg(long)]
    addr: String,
    /// Table.
    #[arg(long)]
    table: String,
    /// Key.
    #[arg(long)]
    key: String,
    /// Integer feature that only grows.
    #[arg(long)]
    feature: String,
    /// Ends when this value is seen.
    #[arg(long)]
    last: i64,
    /// Longest watch, seconds.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
}

/// Runs the watch; the answer is `{"seen":[[value, nanoseconds since the epoch], ...]}`.
///
/// # Errors
/// The last value was not seen in time, or the server refused.
pub fn run(options: &Options) -> Outcome<Json> {
    let mut raw = Raw::connect(&options.addr)?;
    let body = json!({ "table": options.table, "key": options.key, "features": [options.feature] }).to_string();
    let request = Frame::json(GET, &body).bytes();
    let (begun, mut newest, mut seen) = (Instant::now(), i64::MIN, Vec::new());
    while newest < options.last {
        if begun.elapsed() > Duration::from_secs(options.seconds) {
            return Err(format!("value {} was not seen within {} s; the newest is {newest}", options.last, options.seconds));
        }
        std::thread::sleep(PAUSE);
        raw.send(&request)?;
        let answer = raw.frame()?;
        let row: Json = serde_json::from_slice(&answer.payload).map_err(|error| error.to_string())?;
        #[expect(clippy::cast_possible_truncation, reason = "an integer feature")]
        if let Some(value) = row[&options.feature].as_f64().map(|value| value as i64).filter(|value| *value > newest) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
            newest = value;
            seen.push(json!([value, now.as_nanos().to_string()]));
        }
    }
    Ok(json!({ "seen": seen }))
}
