//! `tap`: rows of events as they become durable, one JSON line each, over restarts of the server.
//!
//! What it prints is whole transactions: parts wait for the last one, so that a connection that breaks in between repeats
//! nothing. It goes on after the last id that it printed, and ends where that means nothing any more.

use std::io::{BufRead as _, BufReader};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use streamgauge_api::{ApiError, Code};

use super::args::TapArgs;
use super::client::{Client, encoded};
use super::{Console, Exit, Failure};

/// Between two tries of a server that does not answer.
const PAUSE: Duration = Duration::from_millis(500);
/// Rows of one transaction that wait for its last part.
const WAITING_BYTES_MAX: usize = 512 << 20;

/// Where the tap is.
struct Place {
    log_id: Option<String>,
    /// The last LSN that was printed, or looked at.
    after: Option<u64>,
}

/// How a connection ended.
enum Ended {
    /// Enough was printed.
    Done,
    /// It broke, or the server is going.
    Broken(ApiError),
}

pub(super) fn tap(args: &TapArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let client = Client::following(&args.server.admin, "--admin");
    let mut place = Place { log_id: None, after: None };
    let (mut left, mut told) = (args.count.unwrap_or(u64::MAX), false);
    loop {
        let begun = Instant::now();
        match follow(args, &client, &mut place, &mut left, console) {
            Ok(Ended::Done) => return Ok(Exit::Ok),
            Ok(Ended::Broken(error)) => {
                if !std::mem::replace(&mut told, begun.elapsed() < PAUSE) || begun.elapsed() >= PAUSE {
                    let from = place.after.map_or_else(String::new, |after| format!("; going on after LSN {after} when it answers"));
                    console.talk(&format!("{error}{from}"))?;
                    told = true;
                }
                std::thread::sleep(PAUSE);
            }
            Err(failure) => return Err(failure),
        }
    }
}

fn follow(args: &TapArgs, client: &Client, place: &mut Place, left: &mut u64, console: &mut Console<'_>) -> Result<Ended, Failure> {
    let events = args.events.split(',').map(encoded).collect::<Vec<_>>().join(",");
    let mut target = format!("/subscribe/{events}?");
    let mut add = |name: &str, value: &str| target.push_str(&format!("{name}={}&", encoded(value)));
    match (place.after, &args.from) {
        (Some(after), _) => add("after", &after.to_string()),
        (None, from) => add("from", from),
    }
    place.log_id.iter().for_each(|log| add("log", log));
    args.filter.iter().for_each(|filter| add("where", filter));
    args.fields.iter().for_each(|fields| add("fields", fields));
    let body = match client.stream(target.trim_end_matches(['&', '?'])) {
        Ok(body) => body,
        // Before anything was had, a server that is not there is a mistake to be told.
        Err(error) if place.log_id.is_some() && is_passing(error.code) => return Ok(Ended::Broken(error)),
        Err(error) => return Err(error.into()),
    };
    let mut lines = BufReader::new(body);
    let (mut line, mut name, mut id, mut data) = (String::new(), String::new(), None, String::new());
    let (mut parts, mut bytes): (Vec<Json>, usize) = (Vec::new(), 0);
    let broken = |reason: String| Ok(Ended::Broken(ApiError::new(Code::ServerUnreachable, reason)));
    loop {
        line.clear();
        match lines.read_line(&mut line) {
            Ok(0) => return broken("the server closed the connection".to_owned()),
            Ok(_) => {}
            Err(error) => return broken(format!("the connection broke: {error}")),
        }
        let text = line.trim_end_matches(['\n', '\r']);
        match text.split_once(": ") {
            Some(("event", value)) => value.clone_into(&mut name),
            Some(("id", value)) => id = value.parse::<u64>().ok(),
            Some(("data", value)) => value.clone_into(&mut data),
            _ => {}
        }
        if !text.is_empty() || data.is_empty() {
            continue;
        }
        let wrong = |error: &dyn std::fmt::Display| ApiError::new(Code::InternalError, format!("a message is no JSON: {error}"));
        let message: Json = serde_json::from_str(&data).map_err(|error| wrong(&error))?;
        match name.as_str() {
            "hello" => {
                place.log_id = message["log_id"].as_str().map(str::to_owned);
                // Where it begins is where it goes on, should nothing come.
                place.after = place.after.or_else(|| message["from"].as_u64()?.checked_sub(1));
            }
            "txn" => {
                bytes += data.len();
                parts.push(message);
                if bytes > WAITING_BYTES_MAX {
                    return Err(ApiError::new(Code::InternalError, "a transaction is larger than this command holds").into());
                }
                if let Some(lsn) = id {
                    let whole = print(&parts, left, console)?;
                    (parts, bytes) = (Vec::new(), 0);
                    place.after = Some(lsn);
                    if !whole || *left == 0 {
                        return Ok(Ended::Done);
                    }
                }
            }
            "position" => place.after = id.or(place.after),
            "close" => return closed(&message, place),
            _ => {}
        }
        (id, data) = (None, String::new());
        name.clear();
    }
}

fn closed(message: &Json, place: &mut Place) -> Result<Ended, Failure> {
    let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
    let code = Code::parse(&text("code")).unwrap_or(Code::InternalError);
    place.after = message["last_lsn"].as_u64().or(place.after);
    let error = ApiError::new(code, text("reason"));
    if code.retry() { Ok(Ended::Broken(error)) } else { Err(error.into()) }
}

/// Prints the rows of one transaction; false when enough were printed before its end.
fn print(parts: &[Json], left: &mut u64, console: &mut Console<'_>) -> Result<bool, Failure> {
    for part in parts {
        let of_event = |(event, of_event): (&'_ String, &'_ Json)| {
            let rows = of_event["rows"].as_array().cloned().unwrap_or_default();
            rows.into_iter().map(|row| (event.clone(), row)).collect::<Vec<_>>()
        };
        let mut rows: Vec<(String, Json)> = part["rows"].as_object().into_iter().flatten().flat_map(of_event).collect();
        // An event with a field of this name has the LSN behind underscores.
        rows.sort_by_key(|(_, row)| ["__lsn", "_lsn", "lsn"].iter().find_map(|name| row[name].as_u64()));
        for (event, row) in &rows {
            if *left == 0 {
                return Ok(false);
            }
            *left -= 1;
            let mut line = json!({"event": event});
            if let (Some(line), Some(row)) = (line.as_object_mut(), row.as_object()) {
                // A field named as the event is would hide it.
                line.extend(row.iter().filter(|(name, _)| *name != "event").map(|(name, value)| (name.clone(), value.clone())));
                if let Some(own) = row.get("event") {
                    line.insert("_event".into(), event.clone().into());
                    line.insert("event".into(), own.clone());
                }
            }
            console.document(&line)?;
        }
    }
    console.out.flush()?;
    Ok(true)
}

/// Whether a server that says so may answer later.
fn is_passing(code: Code) -> bool {
    code.retry() || matches!(code, Code::ServerUnreachable)
}
