//! An operator's decision about partitions that an incident stopped: what it would do, and doing it.
//!
//! ```text
//! asked: which partitions, may they -> Locate on the control thread -> located: effects -> dry run: say them
//!                                                                                      -> else: Inlet::go_on, then read on
//! ```
//! The brokers are asked for every decision, so that an effect is of this moment and a position never
//! lies outside of the log that is read from there. Nothing is changed before the frame is written;
//! a partition whose frame was refused stays stopped, as it was. Called on the ingest thread.

use super::Ingest;
use crate::config::Start;
use crate::control::{Job, Located, LocatedAll, StartAt};
use crate::ext::ClientError;
use crate::incidents::read_to;
use crate::track::{Phase, Track};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use streamgauge_api::decision::{BeginAt, Decision, DecisionRequest, Effect, GoOn};
use streamgauge_api::inlet::ReadBefore;
use streamgauge_api::source::IncidentKind;
use streamgauge_api::{ApiError, Code, PartitionKey, Position};

/// Decisions that wait for the brokers' answers.
const ASKED_MAX: usize = 16;

/// A decision that waits for the brokers' answer.
pub(super) struct Asked {
    round: u64,
    request: DecisionRequest,
    tracks: Vec<usize>,
}

/// What becomes of one partition.
struct Planned {
    track: usize,
    go_on: GoOn,
    effect: Effect,
}

/// A partition that a topic has more than its namesake had: it begins where the decision says.
struct Further {
    key: PartitionKey,
    low: i64,
    start: i64,
    incident: IncidentKind,
    effect: Effect,
}

impl Ingest {
    /// Takes what operators decided.
    pub(super) fn hear_operator(&mut self) {
        for request in self.board.take_decisions(&self.source.name) {
            match self.chosen(&request) {
                Ok(tracks) => {
                    self.round += 1;
                    let places = tracks.iter().map(|index| place_of(&self.tracks[*index])).collect();
                    self.send(Job::Locate(self.round, places, start_of(request.decision)));
                    self.asked.push(Asked { round: self.round, request, tracks });
                }
                Err(error) => answer(&request, Err(error)),
            }
        }
    }

    /// The partitions that a decision is about: at least one, and each may be decided about so.
    fn chosen(&self, request: &DecisionRequest) -> Result<Vec<usize>, ApiError> {
        if self.asked.len() >= ASKED_MAX {
            return Err(ApiError::new(Code::Overloaded, format!("{ASKED_MAX} decisions wait for the brokers of {}", self.source.name)));
        }
        let place = &request.place;
        let meant = |track: &&Track| track.phase != Phase::Forgotten && place.selects(&track.key.topic, track.key.partition);
        if !self.tracks.iter().any(|track| meant(&track)) {
            let reason = format!("source \"{}\" reads no partition {place}", self.source.name);
            return Err(ApiError::new(Code::UnknownReference, reason).hint("`streamgauge lag` lists what is read"));
        }
        let topics: BTreeSet<&str> = self.tracks.iter().filter(meant).map(|track| track.key.topic.as_str()).collect();
        if let (true, Some(number)) = (topics.len() > 1, place.partition) {
            let ids: Vec<String> = topics.iter().map(|topic| format!("{}/{topic}/{number}", place.source)).collect();
            let reason = format!("{place} may be any of {}", ids.join(", "));
            return Err(ApiError::new(Code::UnknownReference, reason).hint("name the topic too: SOURCE/TOPIC/PARTITION"));
        }
        let mut refusal = None;
        let mut chosen = Vec::new();
        for (index, track) in self.tracks.iter().enumerate().filter(|(_, track)| meant(track)) {
            match may(track, request.decision) {
                Ok(()) => chosen.push(index),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        match refusal {
            // Of a whole source only those that stand still are meant.
            Some(error) if chosen.is_empty() || place.partition.is_some() => Err(error),
            _ => Ok(chosen),
        }
    }

    /// The brokers' answer to a decision.
    pub(super) fn located(&mut self, round: u64, found: Result<LocatedAll, ClientError>) {
        let Some(at) = self.asked.iter().position(|asked| asked.round == round) else { return };
        let Asked { request, tracks, .. } = self.asked.swap_remove(at);
        if request.deadline <= Instant::now() {
            return;
        }
        let result = match found {
            Ok(found) => self.decide(&request, &tracks, &found),
            Err(error) => {
                let reason = format!("the brokers of source \"{}\" do not answer what the decision needs: {error}", self.source.name);
                Err(ApiError::new(Code::BrokerUnreachable, reason))
            }
        };
        answer(&request, result);
    }

    fn decide(&mut self, request: &DecisionRequest, tracks: &[usize], found: &LocatedAll) -> Result<Vec<Effect>, ApiError> {
        let mut planned = Vec::new();
        for &index in tracks {
            let track = &self.tracks[index];
            // It may have been decided about, or have healed, while the brokers were asked.
            may(track, request.decision)?;
            let located = found.places.get(&place_of(track)).and_then(Option::as_ref);
            let key = &track.key;
            if request.decision == Decision::Forget && found.cluster != key.cluster && !self.is_taken_on(&key.topic, &found.cluster) {
                let (own, now) = (&key.cluster, &found.cluster);
                let reason = format!("{}/{} was read in cluster {own:?}, and {now:?} answers", key.topic, key.partition);
                let hint = "correct `brokers` and restart: reading goes on where it stood; if the topic has moved for good, begin its \
                            other partitions first";
                return Err(ApiError::new(Code::DecisionRefused, reason).hint(hint));
            }
            planned.push(self.plan(index, request.decision, &found.cluster, located)?);
        }
        let further = self.further(&planned, found)?;
        if !request.dry_run {
            // Nothing is begun of a decision that cannot be carried out now.
            for plan in &planned {
                self.inlet.may_go_on(self.tracks[plan.track].slot, &plan.go_on)?;
            }
            // What a discovery found meanwhile begins where the decision says, once.
            let is_new = |key: &PartitionKey| further.iter().any(|new| (&new.key.topic, new.key.partition) == (&key.topic, key.partition));
            self.beginning.retain(|begin| !is_new(&begin.key));
            // First those that are new: a restart in between finds them read, and the others stopped as they were.
            let mut begun = Vec::new();
            for new in &further {
                match self.take_on(new) {
                    Ok(index) => begun.push(index),
                    Err(mut error) => {
                        let (id, done, all) = (&new.effect.id, begun.len(), further.len());
                        error.reason.push_str(&format!(" ({id}; {done} of {all} new partitions have begun, none that stands was decided)"));
                        return Err(error);
                    }
                }
            }
            for (done, plan) in planned.iter().enumerate() {
                if let Err(mut error) = self.carry_out(plan) {
                    error.reason.push_str(&format!(" ({}; {done} of {} partitions were decided before)", plan.effect.id, planned.len()));
                    return Err(error);
                }
            }
            let moved = planned.iter().filter(|plan| plan.go_on.position.is_some()).map(|plan| plan.track);
            self.ask(&moved.chain(begun).collect::<Vec<_>>());
            self.tell();
        }
        Ok(planned.into_iter().map(|plan| plan.effect).chain(further.into_iter().map(|new| new.effect)).collect())
    }

    /// Begins a partition where a decision says; what it skips of the log is a gap like any other. One that the state knows
    /// stays where it stands.
    fn take_on(&mut self, new: &Further) -> Result<usize, ApiError> {
        let index = self.try_attach(&new.key, Position::start(new.start))?;
        if new.start > new.low && self.tracks[index].position == Position::start(new.start) {
            let go_on = GoOn {
                key: new.key.clone(),
                position: Some(Position::start(new.start)),
                reached: None,
                incident: new.incident,
                lost: Some(new.effect.lost.clone()),
            };
            self.carry_out(&Planned { track: index, go_on, effect: new.effect.clone() })?;
        }
        Ok(index)
    }

    /// Whether an operator has decided to read a topic in this cluster.
    fn is_taken_on(&self, topic: &str, cluster: &str) -> bool {
        let is_read = |track: &Track| track.phase != Phase::Forgotten && track.key.topic == topic && track.key.cluster == cluster;
        self.tracks.iter().any(is_read)
    }

    /// The partitions that topics have more than the ones that they replace: to take such a topic on is to take them on, and
    /// they begin where the decision says.
    fn further(&self, planned: &[Planned], found: &LocatedAll) -> Result<Vec<Further>, ApiError> {
        let mut further: BTreeMap<(&str, i32), Further> = BTreeMap::new();
        for plan in planned.iter().filter(|plan| plan.go_on.position.is_some() && plan.go_on.key != self.tracks[plan.track].key) {
            let key = &plan.go_on.key;
            for &number in found.partitions.get(&key.topic).into_iter().flatten() {
                let is_known = self.index_of(&key.topic, number).is_some();
                if is_known || further.contains_key(&(key.topic.as_str(), number)) {
                    continue;
                }
                let id = format!("{}/{}/{number}", self.source.name, key.topic);
                let Some(located) = found.places.get(&(key.topic.clone(), number)).and_then(Option::as_ref) else {
                    let reason = format!("the brokers do not say where {id} begins, which the topic has now");
                    return Err(ApiError::new(Code::BrokerUnreachable, reason));
                };
                let skipped = (located.start > located.low).then(|| count(located.low, located.start));
                let effect = Effect {
                    id,
                    incident: plan.effect.incident.clone(),
                    from_offset: None,
                    to_offset: Some(located.start),
                    to_read: Some((located.end - located.start).max(0)),
                    lost: skipped.unwrap_or_else(nothing),
                    counted_again: plan.effect.counted_again.clone(),
                };
                let new = PartitionKey { partition: number, ..key.clone() };
                let new = Further { key: new, low: located.low, start: located.start, incident: plan.go_on.incident, effect };
                further.insert((key.topic.as_str(), number), new);
            }
        }
        Ok(further.into_values().collect())
    }

    fn plan(&self, index: usize, decision: Decision, cluster: &str, located: Option<&Located>) -> Result<Planned, ApiError> {
        let track = &self.tracks[index];
        let Some((kind, _)) = track.incident else { unreachable!("what may be decided about has an incident") };
        let id = format!("{}/{}/{}", self.source.name, track.key.topic, track.key.partition);
        let before = self.read_before(index);
        let before = before.as_ref();
        let (key, position, reached, lost, counted_again) = match (decision, located) {
            (Decision::Forget, Some(_)) => {
                let reason = format!("{id} exists: a forgotten partition would be read from its start again");
                let hint = match kind {
                    IncidentKind::Stalled => "the incident's actions say what lets it go on",
                    _ => "to read on in it: begin --at earliest, latest or a time",
                };
                return Err(ApiError::new(Code::DecisionRefused, reason).hint(hint));
            }
            (Decision::Forget, None) => (track.key.clone(), None, None, Some(given_up(track, before)), None),
            (_, None) => {
                let reason = format!("{id} does not exist, so that nothing can be read from it");
                return Err(ApiError::new(Code::DecisionRefused, reason).hint("create the topic, or give the partition up: forget"));
            }
            (decision, Some(located)) => {
                let (ours, there) = (track.key.topic_id, located.topic_id);
                let another = (ours.is_known() && there.is_known() && ours != there) || cluster != track.key.cluster;
                if decision == Decision::AcceptGap && another {
                    let reason = format!(
                        "{id} is another topic now (id {}, in cluster {cluster}): no offset of it follows the last one read",
                        located.topic_id
                    );
                    let hint = "begin --at earliest, latest or a time; or correct `brokers`, if this is another cluster";
                    return Err(ApiError::new(Code::DecisionRefused, reason).hint(hint));
                }
                // Brokers that tell no id of a topic that had one: it is the same, as far as anybody knows.
                let topic_id = if another || located.topic_id.is_known() { located.topic_id } else { track.key.topic_id };
                let key = PartitionKey { cluster: cluster.to_owned(), topic_id, ..track.key.clone() };
                let to = match decision {
                    // Its own topic again: what waits is read again too.
                    Decision::AcceptGap if kind == IncidentKind::Recreated => track.position.offset.max(located.low),
                    Decision::AcceptGap => resume_offset(track).max(located.low).min(located.end.max(located.low)),
                    _ => located.start,
                };
                if decision == Decision::AcceptGap && !is_cut(track) && located.end < read_to(track, before) {
                    let (end, read) = (located.end, read_to(track, before));
                    let reason = format!("{id} ends at {end} by now, in front of offset {read}, up to which it was read");
                    return Err(ApiError::new(Code::DecisionRefused, reason).hint("begin --at earliest, latest or a time"));
                }
                let (lost, again) = told(track, before, decision, another, to, located);
                // The clock of another log says nothing of this one.
                let position = match another {
                    true => Position::start(to),
                    // Its own topic again: nothing has moved.
                    false if kind == IncidentKind::Recreated && to == track.position.offset && topic_id.is_known() => track.position,
                    false => Position { offset: to, after: -1, epoch: -1, ..track.position },
                };
                let (position, reached) = match before.filter(|_| decision == Decision::AcceptGap) {
                    Some(before) => read_again(track, before, position, located),
                    None => (position, None),
                };
                (key, Some(position), reached, lost, again)
            }
        };
        let effect = Effect {
            id,
            incident: kind.as_str().to_owned(),
            from_offset: Some(track.position.offset),
            to_offset: position.map(|position| position.offset),
            to_read: position.zip(located).map(|(position, located)| (located.end - position.offset).max(0)),
            lost: lost.clone().unwrap_or_else(nothing),
            counted_again: counted_again.unwrap_or_else(nothing),
        };
        Ok(Planned { track: index, go_on: GoOn { key, position, reached, incident: kind, lost }, effect })
    }

    fn carry_out(&mut self, plan: &Planned) -> Result<(), ApiError> {
        let (index, decided) = (plan.track, &plan.go_on);
        self.unassign(&[index]);
        let slot = self.tracks[index].slot;
        self.inlet.go_on(slot, decided)?;
        tracing::warn!(
            kind = "incident.decided", id = %plan.effect.id, incident = %plan.effect.incident, from_offset = plan.effect.from_offset,
            to_offset = plan.effect.to_offset, lost = %plan.effect.lost, "an operator decided how a partition goes on"
        );
        if matches!(decided.incident, IncidentKind::Recreated | IncidentKind::Regressed) || decided.position.is_none() {
            self.distrust_client(index);
        }
        let gone = self.tracks[index].key.clone();
        self.stored.retain(|stored| stored.key != gone);
        match decided.position {
            Some(position) => {
                let fresh = Track::new(decided.key.clone(), slot, self.board.get(slot.0), position, Instant::now());
                self.tracks[index] = fresh;
                let stored = streamgauge_api::StoredPosition { key: decided.key.clone(), position };
                self.stored.push(stored);
            }
            None => {
                let track = &mut self.tracks[index];
                track.phase = Phase::Forgotten;
                track.incident = None;
                if let Some(numbers) = self.places.get_mut(&gone.topic) {
                    numbers.remove(&gone.partition);
                    if numbers.is_empty() {
                        self.places.remove(&gone.topic);
                    }
                }
                // What has its place now is found at once, and begins as a partition that was never seen.
                self.timers.discover = Instant::now();
            }
        }
        Ok(())
    }
}

/// Whether this may be decided about a partition as it stands.
fn may(track: &Track, decision: Decision) -> Result<(), ApiError> {
    let id = format!("{}/{}", track.key.topic, track.key.partition);
    let refuse = |reason: String, hint: &str| Err(ApiError::new(Code::DecisionRefused, reason).hint(hint));
    let Some((kind, cause)) = track.incident.filter(|(kind, _)| kind.stops()) else {
        return refuse(
            format!("{id} has no incident: it is read at offset {}", track.position.offset),
            "`streamgauge lag` says how it stands",
        );
    };
    match (decision, kind) {
        (Decision::AcceptGap, IncidentKind::Recreated) if track.resumes_at().is_none() => {
            refuse(format!("{id} is another topic now: no offset of it follows the last one read"), "begin --at earliest, latest or a time")
        }
        (Decision::AcceptGap | Decision::Begin(_), IncidentKind::Stalled) => {
            refuse(format!("{id} stands still ({}), and nothing is lost", cause.as_str()), "the incident's actions say what lets it go on")
        }
        _ => Ok(()),
    }
}

/// Where a gap was accepted and records wait: what the log has of them is read again. Where reading goes on then, and how
/// far it had come of the log as it is now.
fn read_again(track: &Track, before: &ReadBefore, to: Position, located: &Located) -> (Position, Option<Position>) {
    let (from, reached) = match is_cut(track) {
        false => (to, before.reached),
        // Behind the cut nothing was read of this log.
        true => {
            let from = track.position.offset.max(located.low).min(to.offset);
            let from = if from == track.position.offset { track.position } else { Position { offset: from, ..to } };
            (from, Position { after: to.offset, ..to })
        }
    };
    match before.waiting(from.offset..reached.offset) {
        // All that the log still has of what was read before is in the tables.
        0 if !is_cut(track) && reached.offset > to.offset => (reached, None),
        0 => (to, None),
        _ => (from, Some(reached)),
    }
}

/// Whether the log ends in front of what was read of it.
fn is_cut(track: &Track) -> bool {
    track.incident.is_some_and(|(kind, _)| matches!(kind, IncidentKind::Truncated | IncidentKind::Regressed))
}

/// What no table will have, and what is counted again.
fn told(
    track: &Track,
    before: Option<&ReadBefore>,
    decision: Decision,
    another: bool,
    to: i64,
    located: &Located,
) -> (Option<String>, Option<String>) {
    let from = read_to(track, before);
    if another {
        let skipped = if to > located.low { format!("; of the new one {}", count(located.low, to)) } else { String::new() };
        let lost = format!("what was left in the old topic behind offset {from}{skipped}");
        let lost = std::iter::once(lost).chain(waited(track, before, i64::MAX..i64::MAX)).collect::<Vec<_>>().join("; ");
        return (Some(lost), Some("records of the old topic that the new one has too".into()));
    }
    // What was read behind a cut is gone from the log: other records have, or will have, these offsets.
    let read_to = if is_cut(track) { resume_offset(track).min(from).min(located.end) } else { from };
    let read_again = if decision == Decision::AcceptGap && is_cut(track) { located.low } else { to };
    let skipped = (to > read_to).then(|| count(read_to, to));
    let kept = (from > read_to).then(|| format!("{} stay in the tables though they are gone from the log", count(read_to, from)));
    let lost = match (skipped, kept) {
        (skipped, None) => skipped,
        (skipped, Some(kept)) => Some(format!("{}; {kept}", skipped.unwrap_or_else(nothing))),
    };
    let lost: Vec<String> = lost.into_iter().chain(waited(track, before, read_again..read_to)).collect();
    let again = (decision != Decision::AcceptGap && to < read_to).then(|| {
        let first = to.max(located.low);
        match before.map_or(0, |before| before.waiting(first.max(track.position.offset)..read_to)) {
            0 => count(first, read_to),
            waits => format!("{}, but for {waits} of them that wait for room", count(first, read_to)),
        }
    });
    ((!lost.is_empty()).then(|| lost.join("; ")), again)
}

/// What a forgotten partition had that no table has: as far as its end was seen.
fn given_up(track: &Track, before: Option<&ReadBefore>) -> String {
    let from = read_to(track, before);
    let unread = match track.read_end {
        Some(end) if end > from => format!("{}, and what was written behind them", count(from, end)),
        Some(_) => format!("what was written behind offset {from}, where the log ended when it was last seen"),
        None => format!("what was written behind offset {from}: how much that was is unknown"),
    };
    let again = "should it come back, it is read from its start and counted again".to_owned();
    std::iter::once(unread).chain(waited(track, before, i64::MAX..i64::MAX)).chain([again]).collect::<Vec<_>>().join("; ")
}

fn count(from: i64, to: i64) -> String {
    format!("offsets {from} to {} ({} offsets)", to - 1, to - from)
}

/// Records that wait for room and are not among these offsets, where they are read again.
fn waited(track: &Track, before: Option<&ReadBefore>, again: std::ops::Range<i64>) -> Option<String> {
    let (before, position) = (before?, track.position.offset);
    let waits = before.waiting(position..before.reached.offset) - before.waiting(again.start.max(position)..again.end);
    (waits > 0).then(|| format!("{waits} records that waited for room"))
}

/// The first record that was not read and still can be, as far as the incident knows it.
fn resume_offset(track: &Track) -> i64 {
    track.resumes_at().unwrap_or(track.position.offset)
}

fn nothing() -> String {
    "nothing".to_owned()
}

fn place_of(track: &Track) -> (String, i32) {
    (track.key.topic.clone(), track.key.partition)
}

fn start_of(decision: Decision) -> StartAt {
    match decision {
        Decision::Begin(BeginAt::Latest) => StartAt::Policy(Start::Latest),
        Decision::Begin(BeginAt::Timestamp { ms }) => StartAt::Policy(Start::Timestamp { ms }),
        Decision::Begin(BeginAt::Earliest) | Decision::AcceptGap | Decision::Forget => StartAt::LogStart,
    }
}

fn answer(request: &DecisionRequest, result: Result<Vec<Effect>, ApiError>) {
    // Who asked may be gone.
    let _gone = request.reply.try_send(result).is_err();
}
