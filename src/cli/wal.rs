//! `wal tail`: frames of a running server's log, page by page, from any LSN on.
//!
//! Following, it asks again from where the last page ended, so nothing is left out and nothing comes
//! twice, also over a restart of the server: an LSN says where it was. Another log under the same
//! address ends it.

use std::time::Duration;

use streamgauge_api::control::{LogFrame, LogPage};
use streamgauge_api::{ApiError, Code};

use super::args::WalTailArgs;
use super::client::Client;
use super::layout::grouped;
use super::{Console, Exit, Failure};

/// LSNs that are shown when none is named.
const SHOWN_LSNS: u64 = 100;
/// Positions of one frame that are shown.
const SHOWN_POSITIONS: usize = 4;
/// Between two tries of a server that does not answer.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) fn tail(args: &WalTailArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let client = Client::new(&args.server.admin, "--admin");
    let mut next_lsn = match args.from {
        Some(lsn) => lsn,
        None => {
            let page = page(&client, "/wal?limit=1")?;
            page.durable_lsn.saturating_sub(SHOWN_LSNS - 1).max(page.earliest_lsn)
        }
    };
    let (mut log_id, mut told) = (None, false);
    loop {
        let wait = if args.follow { "&wait_ms=10000" } else { "" };
        let page = match page(&client, &format!("/wal?limit=1000&from={next_lsn}{wait}")) {
            Ok(page) => page,
            Err(error) if args.follow && is_passing(error.code) && log_id.is_some() => {
                if !std::mem::replace(&mut told, true) {
                    console.talk(&format!("{error}; going on from LSN {next_lsn} when it answers"))?;
                }
                std::thread::sleep(PAUSE);
                continue;
            }
            // A log that began anew is mostly shorter than the one that was read.
            Err(error) if error.code == Code::PositionAhead => {
                let known = log_id.as_deref();
                let now = known.and_then(|_| self::page(&client, "/wal?limit=1").ok());
                return Err(known.zip(now).and_then(|(known, now)| other_log(known, &now.log_id)).unwrap_or(error).into());
            }
            Err(error) => return Err(error.into()),
        };
        told = false;
        let known = log_id.get_or_insert_with(|| page.log_id.clone());
        if let Some(error) = other_log(known, &page.log_id) {
            return Err(error.into());
        }
        for frame in &page.frames {
            let line = match console.json {
                true => serde_json::to_string(frame).map_err(|error| ApiError::new(Code::InternalError, error.to_string()))?,
                false => rendered(frame),
            };
            console.line(&line)?;
        }
        next_lsn = page.next_lsn;
        if !args.follow && (page.frames.is_empty() || next_lsn > page.durable_lsn) {
            return Ok(Exit::Ok);
        }
        console.out.flush()?;
    }
}

/// What is said when a server writes another log than the one that was read.
fn other_log(known: &str, now: &str) -> Option<ApiError> {
    (known != now).then(|| ApiError::new(Code::LogChanged, format!("the server writes another log by now: {now}, and {known} was read")))
}

/// Whether a server that says so may answer later.
fn is_passing(code: Code) -> bool {
    matches!(code, Code::ServerUnreachable | Code::Recovering | Code::Draining | Code::Overloaded)
}

fn page(client: &Client, target: &str) -> Result<LogPage, ApiError> {
    let body = client.get(target)?.ok()?.body;
    serde_json::from_value(body).map_err(|error| ApiError::new(Code::InternalError, format!("/wal has another shape: {error}")))
}

fn rendered(frame: &LogFrame) -> String {
    let at = jiff::Timestamp::from_microsecond(frame.at_us).map_or_else(|_| frame.at_us.to_string(), |at| format!("{at:.3}"));
    let lsns =
        if frame.first_lsn == frame.last_lsn { frame.first_lsn.to_string() } else { format!("{}-{}", frame.first_lsn, frame.last_lsn) };
    let mut line = format!("LSN {lsns}  {at}  {}, {} bytes", frame.kind, grouped(i64::try_from(frame.bytes).unwrap_or(i64::MAX)));
    for rows in &frame.rows {
        let count = rows.rows.map_or_else(|| "unreadable".to_owned(), |rows| rows.to_string());
        line.push_str(&format!("  {}: {count}", rows.event));
    }
    for position in frame.positions.iter().take(SHOWN_POSITIONS) {
        line.push_str(&format!("  {}/{} to {}", position.topic, position.partition, position.next_offset));
    }
    if let Some(more) = frame.positions.len().checked_sub(SHOWN_POSITIONS).filter(|more| *more > 0) {
        line.push_str(&format!("  and {more} more"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamgauge_api::control::{LogPosition, LogRows};

    #[test]
    fn a_frame_shows_where_when_and_what() {
        let position = |partition| LogPosition { event: "Payment".into(), topic: "payments".into(), partition, next_offset: 88_124 };
        let frame = LogFrame {
            first_lsn: 918_220,
            last_lsn: 918_222,
            kind: "frame of rows".into(),
            at_us: 1_763_610_062_120_000,
            bytes: 1360,
            rows: vec![LogRows { event: "Payment".into(), rows: Some(3) }, LogRows { event: "event 7".into(), rows: None }],
            positions: vec![position(3)],
        };
        assert_eq!(
            rendered(&frame),
            "LSN 918220-918222  2025-11-20T03:41:02.120Z  frame of rows, 1 360 bytes  Payment: 3  event 7: unreadable  payments/3 to 88124"
        );
        let wide = LogFrame { last_lsn: 918_220, rows: Vec::new(), positions: (0..6).map(position).collect(), ..frame };
        assert!(rendered(&wide).ends_with("payments/3 to 88124  and 2 more"), "{}", rendered(&wide));
    }
}
