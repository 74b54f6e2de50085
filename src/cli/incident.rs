//! `incident`: what is open, and an operator's decision about partitions that an incident stopped.
//!
//! Without a decision it lists; with one it asks the running server, which asks the brokers. `--dry-run` shows the same
//! effect and changes nothing. Exit codes: 1 when something is open (a list for scripts), 0 when nothing is or it is done.

use serde::Deserialize;
use serde_json::Value as Json;
use streamgauge_api::decision::{Decision, Effect, Gap, Place};
use streamgauge_api::source::SourceNote;
use streamgauge_api::{ApiError, Code};

use super::args::IncidentArgs;
use super::client::{Client, encoded};
use super::layout::grouped;
use super::{Console, Exit, Failure};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Report {
    incidents: Vec<Open>,
    gaps: Vec<Gap>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Open {
    kind: String,
    cause: String,
    subject: String,
    source: Option<String>,
    topic: Option<String>,
    partition: Option<i32>,
    lost: String,
    holds: String,
    evidence: String,
    actions: Vec<String>,
}

/// What `/sources` says of names.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Running {
    sources: Vec<SourceNote>,
    partitions: Vec<Shown>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Shown {
    source: String,
    topic: String,
    partition: i32,
}

#[derive(Debug, Deserialize)]
struct Decided {
    dry_run: bool,
    partitions: Vec<Effect>,
}

pub(super) fn run(args: &IncidentArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let client = Client::new(&args.server.admin, "--admin");
    match (&args.id, &args.decision) {
        (Some(id), Some(decision)) => {
            Place::parse(id)?;
            let decision = Decision::parse(decision, args.at.as_deref())?.as_str();
            let mut target = format!("/incidents/{}/{decision}?dry_run={}", encoded(id), args.dry_run);
            if let Some(at) = &args.at {
                target.push_str(&format!("&at={}", encoded(at)));
            }
            decided(client.post(&target)?.ok()?.body, console)
        }
        (id, _) => list(&client, id.as_deref(), console),
    }
}

fn list(client: &Client, id: Option<&str>, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let place = id.map(Place::parse).transpose()?;
    let mut report: Report = parsed(client.get("/incidents")?.ok()?.body)?;
    if let Some(place) = &place {
        report.keep(place);
        if report.incidents.is_empty() && report.gaps.is_empty() {
            is_read(place, &parsed(client.get("/sources")?.ok()?.body)?)?;
        }
    }
    let exit = if report.incidents.is_empty() { Exit::Ok } else { Exit::Finding };
    if console.json {
        let shown: Vec<Json> = report.incidents.iter().map(Open::json).collect();
        console.document(&serde_json::json!({"incidents": shown, "gaps": report.gaps}))?;
        return Ok(exit);
    }
    for line in report.incidents.iter().flat_map(Open::lines).chain(report.gaps.iter().map(gap_line)) {
        console.line(&line)?;
    }
    if report.incidents.is_empty() {
        console.talk("no open incidents")?;
    }
    Ok(exit)
}

impl Report {
    /// Keeps what concerns a place: a partition's own incidents and gaps, and of a whole source also the source's.
    fn keep(&mut self, place: &Place) {
        let is_whole = place.topic.is_none() && place.partition.is_none();
        self.incidents.retain(|open| match (&open.source, &open.topic, open.partition) {
            (Some(source), Some(topic), Some(partition)) => *source == place.source && place.selects(topic, partition),
            _ => is_whole && open.subject == format!("source {}", place.source),
        });
        self.gaps.retain(|gap| gap.source == place.source && place.selects(&gap.topic, gap.partition));
    }
}

/// Whether a source of this name runs and reads such a partition: nothing open of what is not there is no good news.
fn is_read(place: &Place, running: &Running) -> Result<(), ApiError> {
    let known: Vec<&str> = running.sources.iter().map(|note| note.source.as_str()).collect();
    if !known.contains(&place.source.as_str()) {
        let names = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let reason = format!("no source \"{}\" runs; running: {names}", place.source);
        return Err(ApiError::new(Code::UnknownReference, reason));
    }
    let is_whole = place.topic.is_none() && place.partition.is_none();
    let reads = |shown: &Shown| shown.source == place.source && place.selects(&shown.topic, shown.partition);
    if !is_whole && !running.partitions.iter().any(reads) {
        let reason = format!("source \"{}\" reads no partition {place}", place.source);
        return Err(ApiError::new(Code::UnknownReference, reason).hint("`streamgauge lag` lists what is read"));
    }
    Ok(())
}

impl Open {
    fn lines(&self) -> Vec<String> {
        let cause = if self.cause.is_empty() { String::new() } else { format!(" ({})", self.cause) };
        let mut lines = vec![format!("{}{cause}: {}", self.kind, self.subject)];
        lines.extend(
            [("lost", &self.lost), ("holds", &self.holds), ("seen", &self.evidence)].map(|(name, text)| format!("  {name:<6}{text}")),
        );
        lines.extend(self.actions.iter().map(|action| format!("  try   {action}")));
        lines
    }

    fn json(&self) -> Json {
        serde_json::json!({
            "kind": self.kind, "cause": self.cause, "subject": self.subject, "source": self.source, "topic": self.topic,
            "partition": self.partition, "lost": self.lost, "holds": self.holds, "evidence": self.evidence, "actions": self.actions,
        })
    }
}

fn gap_line(gap: &Gap) -> String {
    let since = jiff::Timestamp::from_microsecond(gap.since_us).map_or_else(|_| gap.since_us.to_string(), |at| format!("{at:.0}"));
    format!("gap since {since}, {} {}/{}: {} ({})", gap.event, gap.topic, gap.partition, gap.lost, gap.incident.as_str())
}

fn decided(body: Json, console: &mut Console<'_>) -> Result<Exit, Failure> {
    if console.json {
        console.document(&body)?;
        return Ok(Exit::Ok);
    }
    let decided: Decided = parsed(body)?;
    for effect in &decided.partitions {
        for line in effect_lines(effect) {
            console.line(&line)?;
        }
    }
    if decided.dry_run {
        console.talk("nothing was changed; the same without --dry-run does it")?;
    }
    Ok(Exit::Ok)
}

fn effect_lines(effect: &Effect) -> Vec<String> {
    let way = match (effect.to_offset, effect.to_read) {
        (Some(to), Some(read)) => match effect.from_offset {
            Some(from) => format!("goes on at {} instead of {}, {} records to read", grouped(to), grouped(from), grouped(read)),
            None => format!("is new in the topic and begins at {}, {} records to read", grouped(to), grouped(read)),
        },
        _ => format!("is forgotten; it stood at {}", effect.from_offset.map_or_else(|| "no offset".to_owned(), grouped)),
    };
    vec![
        format!("{} ({}): {way}", effect.id, effect.incident),
        format!("  lost          {}", effect.lost),
        format!("  counted again {}", effect.counted_again),
    ]
}

fn parsed<T: for<'de> Deserialize<'de>>(body: Json) -> Result<T, ApiError> {
    serde_json::from_value(body).map_err(|error| ApiError::new(Code::InternalError, format!("/incidents has another shape: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_place_shows_its_own_and_no_other_and_must_be_there() {
        let gap = |(source, partition): (&str, i32)| {
            serde_json::json!({
                "source": source, "event": "E", "topic": "a", "partition": partition,
                "incident": "SourceGap", "lost": "x", "lsn": 1, "since_us": 1,
            })
        };
        let gaps = [("clicks", 0), ("clicks", 1), ("other", 0)].map(gap);
        let report = || -> Report {
            parsed(serde_json::json!({
                "incidents": [
                    {"kind": "Stalled", "subject": "source clicks"},
                    {"kind": "SourceGap", "subject": "clicks a/0", "source": "clicks", "topic": "a", "partition": 0},
                    {"kind": "SourceGap", "subject": "other a/0", "source": "other", "topic": "a", "partition": 0},
                    {"kind": "MemoryLimit", "subject": "server"},
                ],
                "gaps": gaps,
            }))
            .unwrap()
        };
        let running: Running = parsed(serde_json::json!({
            "sources": [{"source": "clicks", "state": "reading", "detail": ""}],
            "partitions": [{"source": "clicks", "topic": "a", "partition": 0}],
        }))
        .unwrap();
        for (place, incidents, gaps, is_there) in
            [("clicks", 2, 2, true), ("clicks/0", 1, 1, true), ("clicks/a/1", 0, 1, false), ("other", 1, 1, false), ("nosuch", 0, 0, false)]
        {
            let place = Place::parse(place).unwrap();
            let mut kept = report();
            kept.keep(&place);
            assert_eq!((kept.incidents.len(), kept.gaps.len(), is_read(&place, &running).is_ok()), (incidents, gaps, is_there), "{place}");
        }
    }

    #[test]
    fn an_effect_says_where_it_goes_on_and_what_is_lost() {
        let effect = Effect {
            id: "clicks/clicks/0".into(),
            incident: "SourceGap".into(),
            from_offset: Some(5001),
            to_offset: Some(7300),
            to_read: Some(83_722),
            lost: "offsets 5001 to 7299 (2299 offsets)".into(),
            counted_again: "nothing".into(),
        };
        let said = "clicks/clicks/0 (SourceGap): goes on at 7 300 instead of 5 001, 83 722 records to read\n  \
                    lost          offsets 5001 to 7299 (2299 offsets)\n  counted again nothing";
        assert_eq!(effect_lines(&effect).join("\n"), said);
        let gone = Effect { to_offset: None, to_read: None, ..effect };
        assert_eq!(effect_lines(&gone)[0], "clicks/clicks/0 (SourceGap): is forgotten; it stood at 5 001");
    }
}
