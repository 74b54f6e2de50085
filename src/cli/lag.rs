//! `lag`: one line per partition, from `/sources`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::Deserialize;
use streamgauge_api::control::PartitionStatus;
use streamgauge_api::source::{Incident, IncidentKind, SourceNote};
use streamgauge_api::{ApiError, Code};

use super::args::LagArgs;
use super::client::Client;
use super::layout::{self, Column, Line, Side, duration, grouped, rate, time_left};
use super::{Console, Exit, Failure};

const COLUMNS: &[Column] = &[
    Column { head: "SOURCE", side: Side::Left, room: 8 },
    Column { head: "PARTITION", side: Side::Right, room: 11 },
    Column { head: "APPLIED", side: Side::Right, room: 10 },
    Column { head: "END", side: Side::Right, room: 9 },
    Column { head: "LAG", side: Side::Right, room: 7 },
    Column { head: "BEHIND", side: Side::Right, room: 9 },
    Column { head: "IN/s", side: Side::Right, room: 7 },
    Column { head: "APPLY/s", side: Side::Right, room: 10 },
    Column { head: "ETA", side: Side::Right, room: 7 },
];

/// The body of `/sources`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Sources {
    #[serde(default)]
    sources: Vec<SourceNote>,
    #[serde(default)]
    partitions: Vec<PartitionStatus>,
}

pub(super) fn run(args: &LagArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let answer = Client::new(&args.server.admin, "--admin").get("/sources")?.ok()?;
    if console.json {
        console.document(&answer.body)?;
        return Ok(Exit::Ok);
    }
    let sources: Sources = serde_json::from_value(answer.body)
        .map_err(|error| ApiError::new(Code::InternalError, format!("/sources has another shape: {error}")))?;
    if sources.partitions.is_empty() && sources.sources.is_empty() {
        console.talk("no sources are configured: rows come from pushes only")?;
        return Ok(Exit::Ok);
    }
    for line in render(&sources) {
        console.line(&line)?;
    }
    Ok(Exit::Ok)
}

/// The table. Partitions are named by number, and by topic too where a source reads several.
pub(super) fn render(sources: &Sources) -> Vec<String> {
    let mut topics: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for partition in &sources.partitions {
        topics.entry(&partition.source).or_default().insert(&partition.topic);
    }
    let mut lines: Vec<Line> = Vec::new();
    for partition in &sources.partitions {
        let several = topics.get(partition.source.as_str()).is_some_and(|topics| topics.len() > 1);
        let name = if several { format!("{}/{}", partition.topic, partition.partition) } else { partition.partition.to_string() };
        lines.extend(line(partition, name));
    }
    // A source that has no partition yet, or waits as a whole, says so itself.
    for note in &sources.sources {
        let silent = topics.contains_key(note.source.as_str()) && (note.detail.is_empty() || note.state == "reading");
        if !silent {
            let detail = if note.detail.is_empty() { "no partitions yet" } else { &note.detail };
            lines.push(Line::Sentence(vec![note.source.clone(), "-".into()], format!("{}: {detail}", note.state)));
        }
    }
    layout::table(COLUMNS, &lines)
}

/// The numbers of a partition, and behind them in words why it stands. The end of the log is told also
/// then: it is what an incident is decided by.
fn line(partition: &PartitionStatus, name: String) -> Vec<Line> {
    let lead = vec![partition.source.clone(), name];
    let number = |value: Option<i64>| value.map_or_else(|| "?".into(), grouped);
    // An end that is older than the position says only that the log goes at least that far; that of another log is told in
    // words, since it stands in no relation to the position.
    let moved = partition.incident.as_ref().is_some_and(|open| open.kind.moves_log());
    let end = partition.end.filter(|_| !moved).map(|end| end.max(partition.position));
    let cells = [
        grouped(partition.position),
        number(end),
        number(partition.lag_records.filter(|_| !moved)),
        partition.lag_seconds.map_or_else(|| "?".into(), duration),
        rate(partition.in_per_second),
        rate(partition.applied_per_second),
        partition.eta_s.map_or_else(|| "-".into(), time_left),
    ];
    let mut lines = vec![Line::Cells(lead.into_iter().chain(cells).collect())];
    let incident = partition.incident.as_ref().filter(|incident| incident.kind.stops());
    let words = match incident.filter(|_| !matches!(partition.state.as_str(), "reading" | "at_end")) {
        Some(incident) => {
            let way_out = incident.actions.first().map_or("streamgauge status", String::as_str);
            format!("{}: {}  ->  {way_out}", partition.state, what_happened(partition, incident))
        }
        None if partition.state == "stopped" => "stopped  ->  streamgauge status".to_owned(),
        None if partition.state == "waiting" => "waiting".to_owned(),
        None => return lines,
    };
    lines.push(Line::Sentence(vec![String::new(), String::new()], words));
    lines
}

fn what_happened(partition: &PartitionStatus, incident: &Incident) -> String {
    let wanted = grouped(partition.position);
    match (incident.kind, partition.log_start, partition.end) {
        (IncidentKind::SourceGap, Some(start), _) => format!("wanted {wanted}, Kafka starts at {}", grouped(start)),
        (IncidentKind::Regressed, _, Some(end)) => format!("wanted {wanted}, Kafka ends at {}", grouped(end)),
        (IncidentKind::Recreated, _, end) => format!("wanted {wanted}, but this is another topic of the same name{}", ends_at(end)),
        (IncidentKind::Truncated, _, end) => {
            format!("records before {wanted} that were applied are no longer in Kafka{}", ends_at(end))
        }
        (kind, _, _) if incident.cause.is_empty() => kind.as_str().to_owned(),
        (kind, _, _) => format!("{} ({})", kind.as_str(), incident.cause),
    }
}

fn ends_at(end: Option<i64>) -> String {
    end.map_or_else(String::new, |end| format!(", which ends at {}", grouped(end)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::{Value as Json, json};

    fn partition(source: &str, topic: &str, number: i32, members: Json) -> Json {
        let mut partition = json!({
            "source": source, "event": "E", "topic": topic, "partition": number, "state": "reading", "position": 0, "end": null, "stable_end": null,
            "log_start": null, "lag_records": null, "lag_seconds": null, "in_per_second": 0.0, "applied_per_second": 0.0, "eta_s": null, "incident": null,
        });
        for (name, value) in members.as_object().unwrap() {
            partition[name] = value.clone();
        }
        partition
    }

    fn incident(kind: &str, cause: &str, action: &str) -> Json {
        json!({"kind": kind, "cause": cause, "opened_us": 0, "lost": "2 299 records", "holds": "", "evidence": "", "actions": [action]})
    }

    #[track_caller]
    fn check(partitions: Vec<Json>, notes: Json, expected: &str) {
        let sources: Sources = serde_json::from_value(json!({"sources": notes, "partitions": partitions})).unwrap();
        assert_eq!(render(&sources).join("\n"), expected);
    }

    #[test]
    fn lag_looks_as_it_is_documented() {
        check(
            vec![
                partition(
                    "payments",
                    "payments",
                    0,
                    json!({"position": 812_401, "end": 812_455, "lag_records": 54, "lag_seconds": 0.18, "in_per_second": 1210.0, "applied_per_second": 1214.0}),
                ),
                partition(
                    "payments",
                    "payments",
                    1,
                    json!({"position": 799_020, "end": 861_300, "lag_records": 62_280, "lag_seconds": 64.0, "in_per_second": 1180.2, "applied_per_second": 9900.0, "eta_s": 7.0}),
                ),
                partition(
                    "clicks",
                    "clicks",
                    0,
                    json!({"state": "stopped", "position": 5001, "log_start": 7300, "end": 91_022, "incident": incident("SourceGap", "", "streamgauge incident clicks/0")}),
                ),
            ],
            json!([]),
            "\
SOURCE    PARTITION   APPLIED      END    LAG   BEHIND   IN/s   APPLY/s    ETA
payments          0   812 401  812 455     54    0.2 s  1 210     1 214      -
payments          1   799 020  861 300 62 280    1m 4s  1 180     9 900    7 s
clicks            0     5 001   91 022      ?        ?      0         0      -
                      stopped: wanted 5 001, Kafka starts at 7 300  ->  streamgauge incident clicks/0",
        );
    }

    /// An end in front of what is applied looked like a number that had wrapped.
    #[test]
    fn the_end_of_a_log_that_moved_is_told_in_words() {
        let stopped = |number, position, end, kind| {
            let incident = incident(kind, "", "streamgauge incident clicks");
            partition("clicks", "clicks", number, json!({"state": "stopped", "position": position, "end": end, "incident": incident}))
        };
        check(
            vec![
                stopped(0, 150, json!(100), "Truncated"),
                stopped(1, 99, json!(20), "Regressed"),
                stopped(2, 7, json!(3), "Recreated"),
                stopped(3, 7, Json::Null, "Truncated"),
            ],
            json!([]),
            "\
SOURCE    PARTITION   APPLIED      END    LAG   BEHIND   IN/s   APPLY/s    ETA
clicks            0       150        ?      ?        ?      0         0      -
                      stopped: records before 150 that were applied are no longer in Kafka, which ends at 100  ->  streamgauge incident clicks
clicks            1        99        ?      ?        ?      0         0      -
                      stopped: wanted 99, Kafka ends at 20  ->  streamgauge incident clicks
clicks            2         7        ?      ?        ?      0         0      -
                      stopped: wanted 7, but this is another topic of the same name, which ends at 3  ->  streamgauge incident clicks
clicks            3         7        ?      ?        ?      0         0      -
                      stopped: records before 7 that were applied are no longer in Kafka  ->  streamgauge incident clicks",
        );
    }

    #[test]
    fn what_is_not_known_or_waits_says_so() {
        check(
            vec![
                partition("clicks", "clicks", 0, json!({"position": 10})),
                partition(
                    "clicks",
                    "clicks-eu",
                    0,
                    json!({"state": "waiting", "incident": incident("Stalled", "registry", "check the registry")}),
                ),
                // The end was heard of before the last records came: it is no less than what was applied.
                partition("clicks", "clicks-us", 0, json!({"state": "stopped", "position": 70, "end": 60})),
            ],
            json!([
                {"source": "clicks", "state": "reading", "detail": ""},
                {"source": "orders", "state": "waiting", "detail": "no topic matches ^orders"},
                {"source": "users", "state": "connecting", "detail": ""},
            ]),
            "\
SOURCE     PARTITION   APPLIED      END    LAG   BEHIND   IN/s   APPLY/s    ETA
clicks      clicks/0        10        ?      ?        ?      0         0      -
clicks   clicks-eu/0         0        ?      ?        ?      0         0      -
                       waiting: Stalled (registry)  ->  check the registry
clicks   clicks-us/0        70       70      ?        ?      0         0      -
                       stopped  ->  streamgauge status
orders             -   waiting: no topic matches ^orders
users              -   connecting: no partitions yet",
        );
    }
}
