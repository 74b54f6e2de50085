//! `backfill`: how far tables are that are being filled from history, and an operator's word about one.
//!
//! It asks a running server. `status` exits with 1 while something is being filled, so that a script can wait for it;
//! `--watch` shows it again each second until nothing is left.

use super::args::{BackfillCommand, BackfillIdArgs, BackfillStatusArgs};
use super::client::Client;
use super::{Console, Exit, Failure};
use serde::Deserialize;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::time::Duration;
use streamgauge_api::{ApiError, Code};

/// Marks of a whole bar.
const BAR_MARKS: u64 = 20;
/// How often `--watch` looks.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// One table that is being filled.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Filling {
    id: u64,
    table: String,
    state: String,
    cause: String,
    records: u64,
    of: u64,
    rate: u64,
    eta_s: Option<u64>,
    bad: BTreeMap<String, u64>,
    warnings: Vec<String>,
}

impl Filling {
    fn lines(&self) -> Vec<String> {
        let done = (self.records * BAR_MARKS).checked_div(self.of).unwrap_or(0).min(BAR_MARKS);
        let bar: String = (0..BAR_MARKS).map(|mark| if mark < done { '█' } else { '░' }).collect();
        let percent = (self.records * 100).checked_div(self.of).unwrap_or(0);
        let eta = self.eta_s.map_or_else(String::new, |eta| format!("   eta {eta} s"));
        let Self { id, table, state, records, of, rate, .. } = self;
        let mut lines = vec![format!("{id}  {table}  {state}  {bar} {percent:>3} %   {records} of {of}   {rate}/s{eta}")];
        lines.extend((!self.cause.is_empty()).then(|| format!("   {}", self.cause)));
        lines.extend(self.warnings.iter().map(|warning| format!("   {warning}")));
        lines.extend(self.bad.iter().map(|(code, count)| format!("   {count} records were no rows: {code}")));
        lines
    }
}

pub(super) fn run(command: &BackfillCommand, console: &mut Console<'_>) -> Result<Exit, Failure> {
    match command {
        BackfillCommand::Status(args) => status(args, console),
        BackfillCommand::Pause(args) => act(args, "pause", console),
        BackfillCommand::Resume(args) => act(args, "resume", console),
        BackfillCommand::Cancel(args) => act(args, "cancel", console),
    }
}

fn status(args: &BackfillStatusArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let client = Client::new(&args.server.admin, "--admin");
    loop {
        let body = client.get("/backfills")?.ok()?.body;
        let wanted = |fill: &&Json| args.id.is_none_or(|id| fill["id"] == id);
        let open: Vec<Json> = body["backfills"].as_array().into_iter().flatten().filter(wanted).cloned().collect();
        let exit = if open.is_empty() { Exit::Ok } else { Exit::Finding };
        if console.json {
            console.document(&serde_json::json!({ "backfills": open }))?;
        } else {
            if open.is_empty() {
                console.line("no table is being filled")?;
            }
            for fill in open {
                let filling: Filling = serde_json::from_value(fill)
                    .map_err(|error| ApiError::new(Code::InternalError, format!("the server's answer has another shape: {error}")))?;
                for line in filling.lines() {
                    console.line(&line)?;
                }
            }
        }
        if !args.watch || matches!(exit, Exit::Ok) {
            return Ok(exit);
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

fn act(args: &BackfillIdArgs, action: &str, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let client = Client::new(&args.server.admin, "--admin");
    let body = client.post(&format!("/backfills/{}/{action}", args.id))?.ok()?.body;
    if console.json {
        console.document(&body)?;
        return Ok(Exit::Ok);
    }
    let what = match action {
        "pause" => "is held",
        "resume" => "goes on",
        _ => "is given up: its table begins empty now",
    };
    console.line(&format!("backfill {} {what} (LSN {})", args.id, body["lsn"]))?;
    Ok(Exit::Ok)
}
