//! Pushes over a few connections, each with many requests in flight that are refilled as replies come: one thread per connection, one write for all the room
//! there is, one read for whatever has come. With `--rate` the refill is throttled, so that reads can be measured beside a steady ingest.

use crate::frames::{Belt, Form, Keys, Pipeline};
use clap::Args;
use serde_json::{Value as Json, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::{Duration, Instant};
use streamgauge_testing::Outcome;
use streamgauge_testing::sidecar::cpu_seconds;

/// Distinct requests encoded before the clock starts; longer runs cycle through them.
const DISTINCT: u64 = 1_000_000;

/// Longest wait for a reply.
const REPLY_WITHIN: Duration = Duration::from_secs(60);

/// What to push.
#[derive(Debug, Args)]
pub struct Options {
    /// Address of the data plane, HTTP or TCP as the form needs.
    #[arg(long)]
    addr: String,
    /// Pid of the server, for its CPU time.
    #[arg(long)]
    pid: u32,
    /// Events of this pipeline; it must be registered.
    #[arg(long, value_enum, default_value = "small")]
    pipeline: Pipeline,
    /// How they are written.
    #[arg(long, value_enum, default_value = "msgpack")]
    form: Form,
    /// Connections, one thread each.
    #[arg(long, default_value_t = 4)]
    connections: u64,
    /// Unanswered requests per connection.
    #[arg(long, default_value_t = 512)]
    in_flight: usize,
    /// Events in all.
    #[arg(long, default_value_t = 2_000_000)]
    events: u64,
    /// Keys of the zipf law.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Each event has a key of its own instead.
    #[arg(long)]
    each_key_once: bool,
    /// Events per second in all; 0 = as fast as replies come.
    #[arg(long, default_value_t = 0)]
    rate: u64,
}

/// Runs the load.
///
/// # Errors
/// The server refused an event, closed, or stopped answering.
pub fn run(options: &Options) -> Outcome<Json> {
    let connections = options.connections.max(1);
    let each = options.events.div_ceil(connections);
    let keys = if options.each_key_once { Keys::Each } else { Keys::zipf(options.keys) };
    let distinct = if options.each_key_once { each } else { each.min(DISTINCT.div_ceil(connections)) };
    let belts = (0..connections)
        .map(|c| Belt::encode(options.pipeline, options.form, &keys, c * distinct, distinct))
        .collect::<Outcome<Vec<_>>>()?;
    let barrier = Barrier::new(belts.len() + 1);
    let (cpu, seconds) = std::thread::scope(|scope| -> Outcome<(f64, f64)> {
        let workers: Vec<_> = belts.iter().map(|belt| scope.spawn(|| drive(options, belt, each, &barrier))).collect();
        barrier.wait();
        let (cpu, begun) = (cpu_seconds(options.pid)?, Instant::now());
        for worker in workers {
            worker.join().map_err(|_| "a connection's thread panicked")??;
        }
        Ok((cpu_seconds(options.pid)? - cpu, begun.elapsed().as_secs_f64()))
    })?;
    #[expect(clippy::cast_precision_loss, reason = "far fewer events than 2^53")]
    let events = (each * connections) as f64;
    Ok(json!({
        "events": events, "seconds": seconds, "events_per_second": (events / seconds).round(),
        "server_cpu_seconds": cpu, "cpu_us_per_event": cpu / events * 1e6,
    }))
}

fn drive(options: &Options, belt: &Belt, events: u64, barrier: &Barrier) -> Outcome<()> {
    let connected = TcpStream::connect(&options.addr).and_then(|stream| {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_WITHIN))?;
        stream.set_write_timeout(Some(REPLY_WITHIN))?;
        Ok(stream)
    });
    // Everybody meets at the barrier, also those who could not connect.
    barrier.wait();
    let mut stream = connected.map_err(|error| format!("{}: {error}", options.addr))?;
    let mut replies = Replies { form: options.form, buffer: vec![0; 1 << 18], filled: 0 };
    let events = usize::try_from(events).map_err(|error| error.to_string())?;
    let (begun, share) = (Instant::now(), options.rate.checked_div(options.connections.max(1)).unwrap_or_default());
    let (mut sent, mut answered) = (0, 0);
    while answered < events {
        let mut room = (options.in_flight - (sent - answered)).min(events - sent);
        if share > 0 {
            let due = share_due(share, begun.elapsed());
            room = room.min(due.saturating_sub(sent));
            if room == 0 && sent == answered {
                std::thread::sleep(Duration::from_micros(200));
                continue;
            }
        }
        while room > 0 {
            let from = sent % belt.len();
            let to = (from + room).min(belt.len());
            stream.write_all(belt.slice(from, to)).map_err(|error| format!("after {sent} events: {error}"))?;
            sent += to - from;
            room -= to - from;
        }
        answered += replies.take(&mut stream).map_err(|reason| format!("after {answered} replies: {reason}"))?;
    }
    Ok(())
}

fn share_due(share: u64, elapsed: Duration) -> usize {
    let due = u128::from(share) * elapsed.as_micros() / 1_000_000;
    usize::try_from(due).unwrap_or(usize::MAX)
}

/// Counts whole replies in what has come, and refuses an error among them.
struct Replies {
    form: Form,
    buffer: Vec<u8>,
    filled: usize,
}

impl Replies {
    fn take(&mut self, stream: &mut TcpStream) -> Outcome<usize> {
        let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
        match stream.read(room) {
            Ok(0) => return Err("the server closed".to_owned()),
            Ok(read) => self.filled += read,
            Err(error) => return Err(error.to_string()),
        }
        let (mut at, mut count) = (0, 0);
        while let Some(len) = self.whole(self.buffer.get(at..self.filled).unwrap_or_default())? {
            at += len;
            count += 1;
        }
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(count)
    }

    /// Length of the first reply, once it is whole.
    fn whole(&self, bytes: &[u8]) -> Outcome<Option<usize>> {
        if self.form != Form::Http {
            let Some((head, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
            let len = u32::from_be_bytes(*head) as usize;
            if rest.starts_with(&[0xFF, 0xFF]) && rest.len() >= len {
                return Err(format!("refused: {}", String::from_utf8_lossy(rest.get(3..len).unwrap_or_default())));
            }
            return Ok((rest.len() >= len).then_some(4 + len));
        }
        let Some(head_len) = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4) else { return Ok(None) };
        let head = String::from_utf8_lossy(bytes.get(..head_len).unwrap_or_default()).to_ascii_lowercase();
        let body_len: usize = head
            .split("content-length:")
            .nth(1)
            .and_then(|text| text.lines().next())
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0);
        if bytes.len() < head_len + body_len {
            return Ok(None);
        }
        if !head.starts_with("http/1.1 200") {
            return Err(format!("refused: {}", String::from_utf8_lossy(bytes.get(..head_len + body_len).unwrap_or_default())));
        }
        Ok(Some(head_len + body_len))
    }
}
