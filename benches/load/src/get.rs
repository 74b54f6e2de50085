//! Reads at depth 1: one connection, one request, its answer, the next. Closed loop, so a stall shows as one long sample and not as many.

use crate::frames::Keys;
use crate::latency::summary;
use clap::{Args, ValueEnum};
use serde_json::{Value as Json, json};
use std::time::{Duration, Instant};
use streamgauge_testing::sidecar::cpu_seconds;
use streamgauge_testing::{Dice, Frame, Outcome, Raw};

const GET: u16 = 0x0020;
const GET_RESPONSE: u16 = 0x0023;

/// Which door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Door {
    /// `POST /get`.
    Http,
    /// Framed TCP, JSON.
    Tcp,
}

/// What to read.
#[derive(Debug, Args)]
pub struct Options {
    /// Address of the data plane.
    #[arg(long)]
    addr: String,
    /// Pid of the server, for its CPU time.
    #[arg(long)]
    pid: u32,
    /// Which door the address is.
    #[arg(long, value_enum, default_value = "tcp")]
    door: Door,
    /// Table.
    #[arg(long, default_value = "TxnAgg")]
    table: String,
    /// Keys of the zipf law.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Reads.
    #[arg(long, default_value_t = 20_000)]
    reads: u64,
    /// Ends after this many seconds, whatever was read; 0 = after the reads.
    #[arg(long, default_value_t = 0.0)]
    seconds: f64,
}

/// Runs the reads.
///
/// # Errors
/// The server refused a read, closed, or stopped answering.
pub fn run(options: &Options) -> Outcome<Json> {
    let (keys, mut dice, mut raw) = (Keys::zipf(options.keys), Dice::seeded(42), Raw::connect(&options.addr)?);
    let mut samples = Vec::new();
    let (cpu, begun) = (cpu_seconds(options.pid)?, Instant::now());
    let over = |read: u64| if options.seconds > 0.0 { begun.elapsed().as_secs_f64() >= options.seconds } else { read >= options.reads };
    let mut read = 0;
    while !over(read) {
        let body = json!({ "table": options.table, "key": format!("k{:08}", keys.pick(read, &mut dice)) }).to_string();
        samples.push(once(options.door, &mut raw, &body)?);
        read += 1;
    }
    let mut told = summary(&mut samples);
    #[expect(clippy::cast_precision_loss, reason = "far fewer reads than 2^53")]
    let reads = read.max(1) as f64;
    told["cpu_us_per_read"] = json!((cpu_seconds(options.pid)? - cpu) / reads * 1e6);
    Ok(told)
}

fn once(door: Door, raw: &mut Raw, body: &str) -> Outcome<Duration> {
    match door {
        Door::Tcp => {
            let request = Frame::json(GET, body).bytes();
            let begun = Instant::now();
            raw.send(&request)?;
            let answer = raw.frame()?;
            let took = begun.elapsed();
            if answer.op == GET_RESPONSE { Ok(took) } else { Err(format!("refused: {}", String::from_utf8_lossy(&answer.payload))) }
        }
        Door::Http => {
            let request = format!(
                "POST /get HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let begun = Instant::now();
            raw.send(request.as_bytes())?;
            let answer = raw.answer()?;
            let took = begun.elapsed();
            if answer.status == 200 { Ok(took) } else { Err(format!("refused: {} {}", answer.status, answer.text)) }
        }
    }
}
