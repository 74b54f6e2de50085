//! `clock accept`: the operator's word that the wall clock of the server's host is right.
//!
//! It goes to a running server, which writes it into its log; see `docs/OPERATIONS.md` for when to say it.

use serde_json::Value as Json;

use super::args::ClockAcceptArgs;
use super::client::Client;
use super::{Console, Exit, Failure};

pub(super) fn accept(args: &ClockAcceptArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let body = Client::new(&args.server.admin, "--admin").post("/clock/accept")?.ok()?.body;
    if console.json {
        console.document(&body)?;
        return Ok(Exit::Ok);
    }
    let moved_s = body.get("moved_s").and_then(Json::as_i64).unwrap_or(0);
    let lsn = body.get("lsn").and_then(Json::as_u64).unwrap_or(0);
    let way = match moved_s {
        0 => "it stays where it was".to_owned(),
        1.. => format!("{moved_s} s ahead"),
        _ => format!("{} s back", moved_s.unsigned_abs()),
    };
    console.line(&format!("the time of frames is the wall clock again: {way} (LSN {lsn})"))?;
    Ok(Exit::Ok)
}
