//! `wal skip`: leaves the rows of one frame out of every replay, for a stopped server whose start dies in that frame.
//!
//! Takes the lock of the data folder like a server, so that none is running, writes the decision into the log, and says what is lost.

use super::plan::client_rules;
use super::run::{environment, refuse, variables};
use crate::cli::{Console, Exit, Failure, WalSkipArgs};
use crate::config::{Config, Flags, Outside};
use crate::recovery::{LeftOut, skip};
use crate::storage::{DataFolder, Disk, Storage};
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
    let left_out = leave_out(&data, args.lsn)?;
    say(&left_out, console)
}

fn leave_out(data: &Path, lsn: u64) -> Result<LeftOut, ApiError> {
    // A folder that is not there must not be made by looking into it.
    if Disk.list(&data.join("wal"))?.is_empty() {
        return Err(
            ApiError::new(Code::InvalidRequest, format!("{} holds no log", data.display())).hint("give the folder of `run --data-dir`")
        );
    }
    let folder = DataFolder::open(data)?;
    Ok(skip(&Disk, &folder.wal(), &folder.snapshots(), lsn)?)
}

fn say(left_out: &LeftOut, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let LeftOut { lsns: (first, last), rows, at_us, events, positions, decided_lsn } = left_out;
    if console.json {
        let moved = positions.iter().map(|(slot, position)| json!({"slot": slot.0, "next_offset": position.offset})).collect::<Vec<_>>();
        let events = events.iter().map(|event| event.0).collect::<Vec<_>>();
        console.document(&json!({
            "first_lsn": first, "last_lsn": last, "rows": rows, "at_us": at_us, "events": events, "positions": moved, "decided_lsn": decided_lsn,
        }))?;
        return Ok(Exit::Ok);
    }
    console.line(&format!(
        "LSN {first} to {last} is left out of every replay: {rows} rows, written {at_us} us after 1970 (decided at LSN {decided_lsn})"
    ))?;
    for (slot, position) in positions {
        console.line(&format!("partition slot {}: goes on at offset {}", slot.0, position.offset))?;
    }
    console.talk("start the server; `streamgauge status` names what is left out")?;
    Ok(Exit::Ok)
}
