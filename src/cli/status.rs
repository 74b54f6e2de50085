//! `status`: what a running server does, in one screen; or only whether it is ready.
//!
//! The words come from `/ready?verbose` and `/status`. Every member of `/status` may be missing: an older or newer server is shown as far as it is understood,
//! and `--json` shows all of it.

use serde::Deserialize;
use streamgauge_api::control::{Readiness, Retirement, Retiring};
use streamgauge_api::{ApiError, Code};

use super::args::StatusArgs;
use super::client::Client;
use super::layout::{self, Column, Line, Side, bytes, grouped, time_left};
use super::{Console, Exit, Failure};

const TABLES: &[Column] = &[
    Column { head: "TABLE", side: Side::Left, room: 12 },
    Column { head: "KEYS", side: Side::Right, room: 9 },
    Column { head: "BYTES", side: Side::Right, room: 9 },
    Column { head: "RECEIVED", side: Side::Right, room: 11 },
    Column { head: "BAD", side: Side::Right, room: 6 },
    Column { head: "FILTERED", side: Side::Right, room: 10 },
    Column { head: "NULL KEY", side: Side::Right, room: 10 },
    Column { head: "LATE", side: Side::Right, room: 6 },
    Column { head: "APPLIED", side: Side::Right, room: 10 },
];

/// What is shown of `/status`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Report {
    version: Option<String>,
    uptime_s: Option<f64>,
    counting_since_ms: Option<i64>,
    durability: Option<String>,
    lsn: Lsns,
    memory: Memory,
    retiring: Retirement,
    snapshot: Option<Snapshot>,
    rejects: Rejects,
    tables: Vec<Table>,
    incidents: Vec<Incident>,
    bottleneck: Option<String>,
    fingerprint: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Lsns {
    written: Option<i64>,
    durable: Option<i64>,
    snapshot: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Memory {
    bytes: Option<u64>,
    limit_bytes: Option<u64>,
}

/// Rejected records: in the bounded log, and those that fell out of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rejects {
    kept: i64,
    gone: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Snapshot {
    age_s: Option<f64>,
    size_bytes: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Table {
    table: String,
    keys: u64,
    bytes: u64,
    funnel: Funnel,
    windows: Vec<Window>,
}

/// Rows that one window of a table did not take.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default)]
struct Window {
    window_ms: u64,
    resolution: u64,
    late: u64,
    ahead_refused: u64,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default)]
struct Funnel {
    received: u64,
    decoded: u64,
    bad: u64,
    filtered: u64,
    null_key: u64,
    late: u64,
    applied: u64,
    memory_refused: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Incident {
    kind: String,
    subject: String,
    cause: String,
    lost: String,
    holds: String,
    evidence: String,
    actions: Vec<String>,
}

pub(super) fn run(args: &StatusArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let client = Client::new(&args.server.admin, "--admin");
    let probe = client.get("/ready?verbose")?;
    let state = State::of(&probe.body, probe.status)?;
    let exit = if state.0.ready { Exit::Ok } else { Exit::Temporary };
    if args.ready {
        if console.json {
            console.document(&probe.body)?;
        } else {
            console.line(&state.words())?;
        }
        return Ok(exit);
    }
    let answer = client.get("/status")?.ok()?;
    if console.json {
        console.document(&answer.body)?;
        return Ok(Exit::Ok);
    }
    let report: Report = serde_json::from_value(answer.body).map_err(|error| {
        ApiError::new(Code::InternalError, format!("/status has another shape: {error}")).hint("streamgauge status --json")
    })?;
    for line in render(&report, &state) {
        console.line(&line)?;
    }
    Ok(Exit::Ok)
}

/// The answer of the readiness probe.
struct State(Readiness);

impl State {
    fn of(body: &serde_json::Value, status: u16) -> Result<Self, ApiError> {
        let text = |name: &str| body.get(name).and_then(serde_json::Value::as_str);
        let Some(phase) = text("status") else {
            let reason = text("detail").map_or_else(|| format!("/ready answered {status} without a state"), str::to_owned);
            return Err(ApiError::new(text("code").and_then(Code::parse).unwrap_or(Code::InternalError), reason));
        };
        let reasons = body.get("reasons").and_then(serde_json::Value::as_array).into_iter().flatten();
        Ok(Self(Readiness {
            ready: status == 200,
            phase: phase.to_owned(),
            reasons: reasons.filter_map(|reason| reason.as_str().map(str::to_owned)).collect(),
            warnings: Vec::new(),
            progress: body.get("progress").and_then(serde_json::Value::as_f64).unwrap_or(0.0),
            eta_s: body.get("eta_s").and_then(serde_json::Value::as_f64),
        }))
    }

    /// `ready`, `recovering 63 %, 8 s left`, `not ready: stale, disk_full`.
    fn words(&self) -> String {
        let state = &self.0;
        if state.ready {
            return "ready".into();
        }
        if matches!(state.phase.as_str(), "recovering" | "catching_up") {
            let left = state.eta_s.map(|eta| format!(", {} left", time_left(eta))).unwrap_or_default();
            return format!("{} {:.0} %{left}", state.phase.replace('_', " "), (state.progress * 100.0).floor());
        }
        let others: Vec<&str> = state.reasons.iter().map(String::as_str).filter(|reason| *reason != state.phase).collect();
        let phase = if state.phase == "not_ready" { "not ready" } else { &state.phase };
        if others.is_empty() { phase.to_owned() } else { format!("{phase}: {}", others.join(", ")) }
    }
}

fn render(report: &Report, state: &State) -> Vec<String> {
    let mut lines = Vec::new();
    let version = report.version.as_deref().unwrap_or("?");
    let up = report.uptime_s.map(|seconds| format!("   up {}", time_left(seconds))).unwrap_or_default();
    lines.push(format!("streamgauge {version}   {}{up}", state.words()));
    let number = |value: Option<i64>| value.map_or_else(|| "?".into(), grouped);
    let lsn = &report.lsn;
    let watermarks = format!("LSN written {}, durable {}, snapshot {}", number(lsn.written), number(lsn.durable), number(lsn.snapshot));
    lines.push(format!("durability  {}   {watermarks}", report.durability.as_deref().unwrap_or("?")));
    lines.extend(report.memory.bytes.map(|used| format!("memory      {}", memory(used, report.memory.limit_bytes))));
    lines.extend(retiring(&report.retiring));
    lines.extend(report.snapshot.as_ref().and_then(|snapshot| {
        let age = snapshot.age_s?;
        let size = snapshot.size_bytes.map(|size| format!(", {}", bytes(size))).unwrap_or_default();
        Some(format!("snapshot    {} old{size}", time_left(age)))
    }));
    if report.rejects.kept + report.rejects.gone > 0 {
        let (kept, gone) = (grouped(report.rejects.kept), grouped(report.rejects.gone));
        lines.push(format!("rejects     {kept} in `streamgauge rejects list`, {gone} older ones fell out of it"));
    }
    lines.extend(report.fingerprint.as_ref().map(|fingerprint| format!("fingerprint {fingerprint}")));
    lines.extend(report.bottleneck.as_ref().map(|bottleneck| format!("bottleneck  {bottleneck}")));
    for incident in &report.incidents {
        lines.push(String::new());
        lines.extend(of_incident(incident));
    }
    if !report.tables.is_empty() {
        lines.push(String::new());
        lines.extend(of_tables(&report.tables));
        // A restart begins anew; what a table holds goes on.
        lines.extend(report.counting_since_ms.and_then(|ms| {
            let since = jiff::Timestamp::from_millisecond(ms).ok()?;
            Some(format!("rows are counted since {since:.0}, keys and bytes are those of now"))
        }));
    }
    lines
}

fn memory(used: u64, limit: Option<u64>) -> String {
    match limit.filter(|limit| *limit > 0) {
        Some(limit) => {
            let percent = u128::from(used) * 100 / u128::from(limit);
            format!("{} of {} ({percent} %)", bytes(used), bytes(limit))
        }
        None => bytes(used),
    }
}

/// Why memory is not back yet.
fn retiring(retirement: &Retirement) -> Vec<String> {
    let count = |number: u64| grouped(i64::try_from(number).unwrap_or(i64::MAX));
    let part = |part: &Retiring| {
        let what = match &part.features[..] {
            [] => format!("table {}", part.table),
            [feature] => format!("feature {feature} of {}", part.table),
            features => format!("features {} of {}", features.join(", "), part.table),
        };
        let since = jiff::Timestamp::from_millisecond(part.since_ms).map_or_else(|_| String::new(), |at| format!(", since {at:.0}"));
        format!("{what}: {} of {} {} are given back{since}", count(part.done), count(part.of), part.unit)
    };
    let mut texts: Vec<String> = retirement.parts.iter().map(part).collect();
    texts.extend(retirement.waits_for.as_ref().map(|what| match what.as_str() {
        "snapshot" => "it goes on when the snapshot is written".to_owned(),
        "evacuation" => "there was no room for it: sparse chunks are emptied first".to_owned(),
        other => format!("it waits for: {other}"),
    }));
    if retirement.registrations_waiting > 0 {
        texts.push(format!("{} registrations wait for its end", count(retirement.registrations_waiting)));
    }
    let heads = std::iter::once("retiring").chain(std::iter::repeat(""));
    heads.zip(texts).map(|(head, text)| format!("{head:<12}{text}")).collect()
}

fn of_incident(incident: &Incident) -> Vec<String> {
    let cause = if incident.cause.is_empty() { String::new() } else { format!(" ({})", incident.cause) };
    let mut lines = vec![format!("INCIDENT[{}]{cause}: {}", incident.kind, incident.subject)];
    for (word, text) in [("seen   ", &incident.evidence), ("lost   ", &incident.lost), ("holds  ", &incident.holds)] {
        if !text.is_empty() {
            lines.push(format!("  {word} {text}"));
        }
    }
    lines.extend(incident.actions.iter().map(|action| format!("  try     {action}")));
    lines
}

fn of_tables(tables: &[Table]) -> Vec<String> {
    let count = |number: u64| grouped(i64::try_from(number).unwrap_or(i64::MAX));
    let cells = tables.iter().map(|table| {
        let funnel = table.funnel;
        let counts = [funnel.received, funnel.bad, funnel.filtered, funnel.null_key, funnel.late, funnel.applied];
        let lead = [table.table.clone(), count(table.keys), bytes(table.bytes)];
        Line::Cells(lead.into_iter().chain(counts.into_iter().map(count)).collect())
    });
    let mut lines = layout::table(TABLES, &cells.collect::<Vec<_>>());
    for table in tables.iter().filter(|table| table.keys == 0) {
        lines.push(format!("{} is empty: {}", table.table, why_empty(table.funnel)));
    }
    for table in tables.iter().filter(|table| table.funnel.memory_refused > 0) {
        let refused = count(table.funnel.memory_refused);
        lines.push(format!("{}: {refused} rows were refused at the memory limit since the start", table.table));
    }
    for table in tables {
        for window in table.windows.iter().filter(|window| window.late + window.ahead_refused > 0) {
            let (late, ahead) = (count(window.late), count(window.ahead_refused));
            #[expect(clippy::cast_precision_loss, reason = "a length for people")]
            let length = layout::duration(window.window_ms as f64 / 1000.0);
            let alike = table.windows.iter().filter(|other| other.window_ms == window.window_ms).count();
            let buckets = if alike > 1 { format!(" in {} buckets", window.resolution) } else { String::new() };
            lines.push(format!("{}: {late} rows are too old for its window of {length}{buckets}, {ahead} too far ahead", table.table));
        }
    }
    lines
}

/// The stage of the funnel where the rows went.
fn why_empty(funnel: Funnel) -> String {
    let count = |number: u64| grouped(i64::try_from(number).unwrap_or(i64::MAX));
    if funnel.received == 0 {
        return "no rows arrived; look at `streamgauge lag`".into();
    }
    let stages = [
        (funnel.bad, "could not be decoded; look at `streamgauge rejects list`"),
        (funnel.filtered, "were filtered by its `where`"),
        (funnel.null_key, "have no value in a key column"),
        (funnel.late, "are too old, or too far ahead, for one of its windows"),
    ];
    match stages.into_iter().max_by_key(|(rows, _)| *rows) {
        Some((rows, why)) if rows > 0 => format!("{} of {} rows {why}", count(rows), count(funnel.received)),
        _ if funnel.applied > 0 => "its keys have expired".into(),
        _ => format!("{} rows arrived, {} are decoded, none is applied yet", count(funnel.received), count(funnel.decoded)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::{Value as Json, json};

    fn ready() -> State {
        State::of(&json!({"status": "ready"}), 200).unwrap_or_else(|error| panic!("{error}"))
    }

    #[track_caller]
    fn check(report: Json, expected: &str) {
        assert_eq!(render(&serde_json::from_value(report).unwrap(), &ready()).join("\n"), expected);
    }

    #[test]
    fn the_state_is_said_in_words() {
        for (status, body, words) in [
            (200, json!({"status": "ready"}), "ready"),
            (503, json!({"status": "recovering", "progress": 0.637, "eta_s": 7.2, "reasons": ["recovering"]}), "recovering 63 %, 8 s left"),
            (503, json!({"status": "catching_up", "progress": 0.999, "reasons": ["catching_up"]}), "catching up 99 %"),
            (503, json!({"status": "not_ready", "reasons": ["stale", "disk_full"]}), "not ready: stale, disk_full"),
            (503, json!({"status": "draining", "reasons": ["draining"]}), "draining"),
            (503, json!({"status": "failed", "reasons": ["wal_poisoned"]}), "failed: wal_poisoned"),
        ] {
            assert_eq!(State::of(&body, status).unwrap().words(), words);
        }
        let overloaded = json!({"type": "/errors/overloaded", "status": 503, "code": "overloaded", "detail": "8 calls"});
        assert_eq!(State::of(&overloaded, 503).err().map(|error| error.code), Some(Code::Overloaded));
    }

    #[test]
    fn a_full_report_fits_on_one_screen() {
        check(
            json!({
                "version": "0.1.0", "uptime_s": 192.4, "counting_since_ms": 1_795_146_062_125i64, "durability": "written", "lsn": {"written": 918_221, "durable": 918_200, "snapshot": 900_000, "archived": 0},
                "memory": {"bytes": 1_288_490_189u64, "limit_bytes": 4_294_967_296u64}, "snapshot": {"lsn": 900_000, "age_s": 41, "size_bytes": 12_582_912},
                "bottleneck": "none: apply is idle 93 % of the time", "member": "of a newer server",
                "tables": [
                    {"table": "card_stats", "keys": 50_000, "bytes": 52_428_800, "funnel": {"received": 918_221, "decoded": 918_204, "bad": 17, "filtered": 4, "applied": 918_200},
                     "windows": [{"window_ms": 60_000, "late": 1200, "ahead_refused": 3}, {"window_ms": 3_600_000, "late": 0, "ahead_refused": 0}]},
                    {"table": "by_country", "keys": 0, "bytes": 0, "funnel": {"received": 1200, "decoded": 1200, "null_key": 1190, "filtered": 10}},
                ],
                "incidents": [{"kind": "SourceGap", "subject": "source clicks partition clicks/0", "evidence": "clicks/0 at offset 5001", "lost": "2 299 records", "holds": "tables are readable", "actions": ["streamgauge lag"]}, {"kind": "MemoryLimit", "cause": "pause", "subject": "table card_stats", "actions": ["raise limits.memory"]}],
            }),
            "\
streamgauge 0.1.0   ready   up 3m 13s
durability  written   LSN written 918 221, durable 918 200, snapshot 900 000
memory      1.2 GiB of 4.0 GiB (30 %)
snapshot    41 s old, 12 MiB
bottleneck  none: apply is idle 93 % of the time

INCIDENT[SourceGap]: source clicks partition clicks/0
  seen    clicks/0 at offset 5001
  lost    2 299 records
  holds   tables are readable
  try     streamgauge lag

INCIDENT[MemoryLimit] (pause): table card_stats
  try     raise limits.memory

TABLE            KEYS    BYTES   RECEIVED   BAD  FILTERED  NULL KEY  LATE   APPLIED
card_stats     50 000   50 MiB    918 221    17         4         0     0   918 200
by_country          0      0 B      1 200     0        10     1 190     0         0
by_country is empty: 1 190 of 1 200 rows have no value in a key column
card_stats: 1 200 rows are too old for its window of 1m 0s, 3 too far ahead
rows are counted since 2026-11-20T03:41:02Z, keys and bytes are those of now",
        );
    }

    #[test]
    fn why_memory_is_not_back_yet_is_said() {
        let part = |table: &str, features: &[&str], unit: &str| json!({"table": table, "features": features, "done": 1_200_000, "of": 5_000_000, "unit": unit, "since_ms": 1_795_146_062_125i64});
        let parts = [part("cards", &["total"], "rows"), part("visits", &[], "chunks"), part("cards", &["a", "b"], "chunks")];
        check(
            json!({"retiring": {"parts": parts, "waits_for": "snapshot", "registrations_waiting": 2}}),
            "\
streamgauge ?   ready
durability  ?   LSN written ?, durable ?, snapshot ?
retiring    feature total of cards: 1 200 000 of 5 000 000 rows are given back, since 2026-11-20T03:41:02Z
            table visits: 1 200 000 of 5 000 000 chunks are given back, since 2026-11-20T03:41:02Z
            features a, b of cards: 1 200 000 of 5 000 000 chunks are given back, since 2026-11-20T03:41:02Z
            it goes on when the snapshot is written
            2 registrations wait for its end",
        );
    }

    #[test]
    fn a_report_that_knows_nothing_is_shown_too() {
        check(json!({}), "streamgauge ?   ready\ndurability  ?   LSN written ?, durable ?, snapshot ?");
    }

    #[test]
    fn an_empty_table_names_the_stage_that_took_its_rows() {
        let funnel = |received, bad, filtered, late, applied| Funnel { received, bad, filtered, late, applied, ..Funnel::default() };
        for (funnel, why) in [
            (Funnel::default(), "no rows arrived; look at `streamgauge lag`"),
            (funnel(10, 9, 1, 0, 0), "9 of 10 rows could not be decoded; look at `streamgauge rejects list`"),
            (funnel(10, 1, 9, 0, 0), "9 of 10 rows were filtered by its `where`"),
            (funnel(10, 0, 0, 10, 0), "10 of 10 rows are too old, or too far ahead, for one of its windows"),
            (funnel(10, 0, 0, 0, 10), "its keys have expired"),
            (funnel(10, 0, 0, 0, 0), "10 rows arrived, 0 are decoded, none is applied yet"),
        ] {
            assert_eq!(why_empty(funnel), why);
        }
    }
}
