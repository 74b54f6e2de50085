//! `wal skip`: leaves the rows of one frame out of every replay, for a stopped server whose start dies in that frame.
//!
//! Takes the lock of the data folder like a server, so that none is running, writes the decision into the log, and says what is
//! lost: rows by event, the tables that lack them, and the offsets that sources pass. With `--dry-run` it says the same and
//! writes nothing.

use super::plan::client_rules;
use super::run::{environment, refuse, variables};
use crate::cli::{Console, Exit, Failure, WalSkipArgs};
use crate::config::{Config, Flags, Outside};
use crate::recovery::{EventRows, LeftOut, Passed, moment, skip, would_skip};
use crate::storage::{DataFolder, Disk, RESERVE_BYTES, Reserve, Storage};
use serde_json::json;
use std::path::Path;
use streamgauge_api::{ApiError, Code};

/// See the module's head.
///
/// # Errors
/// What is wrong with the folder, its lock or its log; and `invalid_request` for an LSN that cannot be left out.
pub fn wal_skip(args: &WalSkipArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let data = match (&args.data_dir, &args.config) {
        (Some(data), _) => data.clone(),
        (None, Some(file)) => {
            let outside = Outside { env: &environment, names: &variables, client: client_rules() };
            match Config::load(Some(file), &Flags { offline: true, ..Flags::default() }, &outside) {
                Ok(config) => config.server.data_dir,
                Err(problems) => return refuse(&problems, console),
            }
        }
        (None, None) => unreachable!("the arguments ask for one of them"),
    };
    let left_out = leave_out(&data, args.lsn, args.dry_run)?;
    say(&left_out, console)
}

fn leave_out(data: &Path, lsn: u64, dry_run: bool) -> Result<LeftOut, ApiError> {
    // A folder that is not there must not be made by looking into it.
    if Disk.list(&data.join("wal"))?.is_empty() {
        return Err(
            ApiError::new(Code::InvalidRequest, format!("{} holds no log", data.display())).hint("give the folder of `run --data-dir`")
        );
    }
    // A running server is not disturbed by a look, but what it writes meanwhile may not be whole yet.
    let folder = DataFolder::open(data)?;
    let (wal, snapshots) = (folder.wal(), folder.snapshots());
    if dry_run {
        return Ok(would_skip(&Disk, &wal, &snapshots, lsn)?);
    }
    Ok(skip(&Disk, &wal, &snapshots, &Reserve::new(Disk, data, RESERVE_BYTES), lsn)?)
}

fn say(left_out: &LeftOut, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let LeftOut { lsns: (first, last), rows, at_us, events, positions, decided_lsn } = left_out;
    let dry_run = decided_lsn.is_none();
    if console.json {
        let moved = |Passed { key, from, to }: &Passed| json!({"event": key.event, "topic": key.topic, "partition": key.partition, "from_offset": from, "next_offset": to});
        let of_event = |EventRows { event, rows, tables }: &EventRows| json!({"event": event, "rows": rows, "tables": tables});
        console.document(&json!({
            "dry_run": dry_run, "first_lsn": first, "last_lsn": last, "rows": rows, "at_us": at_us, "decided_lsn": decided_lsn,
            "events": events.iter().map(of_event).collect::<Vec<_>>(),
            "positions": positions.iter().map(moved).collect::<Vec<_>>(),
        }))?;
        return Ok(Exit::Ok);
    }
    let written = moment(*at_us);
    console.line(&match decided_lsn {
        Some(decided) => {
            format!("LSN {first} to {last} is left out of every replay: {rows} rows, written {written} (decided at LSN {decided})")
        }
        None => format!("LSN {first} to {last} would be left out of every replay: {rows} rows, written {written}"),
    })?;
    for EventRows { event, rows, tables } in events {
        let count = rows.map_or_else(|| "rows that cannot be read".to_owned(), |rows| format!("{rows} rows"));
        let tables = if tables.is_empty() { "no table".to_owned() } else { tables.join(", ") };
        console.line(&format!("  {event}: {count}, missing in {tables}"))?;
    }
    for Passed { key, from, to } in positions {
        let goes = if dry_run { "would go on" } else { "goes on" };
        let passed = if from < to { format!("offsets {from} to {}", to - 1) } else { "no offset".to_owned() };
        console.line(&format!("  {} {}/{}: {passed} passed, {goes} at {to}", key.event, key.topic, key.partition))?;
    }
    console.talk(if dry_run {
        "nothing was changed; the same without --dry-run does it"
    } else {
        "start the server; `streamgauge status` names what is left out"
    })?;
    Ok(Exit::Ok)
}
