//! What happens by the clock: discovery, id checks, retries, liveness, statistics, group commits.
//!
//! Liveness is movement of the position against the log's end, not the absence of errors: connections break and heal all the time, and a partition that
//! moves is well whatever was said about it.

use super::Ingest;
use crate::control::{COMMIT_LIMIT, Job};
use crate::ext::{ClientError, GroupCommit, code};
use crate::incidents::Cause;
use crate::statistics;
use crate::track::Phase;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use streamgauge_api::counters::add;
use streamgauge_api::source::IncidentKind;
use streamgauge_api::{Position, Slot};

const SECOND: Duration = Duration::from_secs(1);
/// How often positions are committed for lag tools.
const COMMIT_EVERY: Duration = Duration::from_secs(5);
/// How often the ends of partitions that are not being read are asked for.
const ENDS_EVERY: Duration = Duration::from_secs(5);
/// Two intervals of ten seconds without movement while there is something to read. A broker that restarts after a crash is away for about as long.
pub(super) const STALLED_AFTER: Duration = Duration::from_secs(20);
/// How long the last stable offset may stand before the log end.
const LSO_STALLED_AFTER: Duration = Duration::from_secs(300);
/// How long an error of a connection explains a partition that stands still.
const ERROR_FRESH: Duration = Duration::from_secs(60);
/// How long the loop waits between "read no more" and "end" for the engine's last sync.
pub(super) const LAST_COMMIT_WAIT: Duration = Duration::from_secs(30);

/// When things are due, and which jobs are under way.
pub(super) struct Timers {
    pub(super) discover: Instant,
    pub(super) discovering: bool,
    pub(super) resolve: Instant,
    pub(super) resolving: bool,
    second: Instant,
    pub(super) checking_ids: bool,
    pub(super) ids_round: u64,
    ends: Instant,
    pub(super) asking_ends: bool,
    /// When the ends that are being asked for were asked for, microseconds since the Unix epoch.
    pub(super) ends_asked_us: i64,
    commit: Instant,
    committing: bool,
    committed: HashMap<Slot, Position>,
    in_commit: Vec<(Slot, Position)>,
}

impl Timers {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            discover: now,
            discovering: false,
            resolve: now,
            resolving: false,
            second: now + SECOND,
            checking_ids: false,
            ids_round: 0,
            ends: now + ENDS_EVERY,
            asking_ends: false,
            ends_asked_us: 0,
            commit: now + COMMIT_EVERY,
            committing: false,
            committed: HashMap::new(),
            in_commit: Vec::new(),
        }
    }
}

impl Ingest {
    /// Does what is due.
    pub(super) fn keep_time(&mut self) {
        let now = Instant::now();
        if now >= self.timers.discover && !self.timers.discovering {
            self.timers.discovering = true;
            self.send(Job::Discover);
        }
        if now >= self.timers.resolve {
            self.resolve_starts();
        }
        if now >= self.timers.second {
            self.timers.second = now + SECOND;
            self.counters.connects.store(self.connects(), Ordering::Relaxed);
            self.check_ids();
            self.check_life(now);
            self.retry(now);
            self.tell();
        }
        if now >= self.timers.ends && !self.timers.asking_ends {
            self.timers.ends = now + ENDS_EVERY;
            self.ask_ends();
        }
        if now >= self.timers.commit && !self.timers.committing {
            self.timers.commit = now + COMMIT_EVERY;
            self.commit();
        }
    }

    fn check_ids(&mut self) {
        if self.timers.checking_ids || !self.source.topic_ids {
            return;
        }
        let names: BTreeSet<String> = self
            .tracks
            .iter()
            .filter(|track| track.key.topic_id.is_known() && !track.stopped() && track.phase != Phase::Unseen)
            .map(|track| track.key.topic.clone())
            .collect();
        if names.is_empty() {
            return;
        }
        for track in &mut self.tracks {
            track.proving = track.position.offset;
        }
        self.timers.checking_ids = true;
        self.timers.ids_round += 1;
        self.send(Job::Ids(self.timers.ids_round, names.into_iter().collect()));
    }

    /// Partitions whose wait is over.
    fn retry(&mut self, now: Instant) {
        let due = self.indexes(|phase| matches!(phase, Phase::Waiting { until } if until <= now));
        self.ask(&due);
    }

    fn ask_ends(&mut self) {
        let places: Vec<(String, i32)> = self
            .tracks
            .iter()
            .filter(|track| matches!(track.phase, Phase::Stopped | Phase::Waiting { .. } | Phase::AwaitingSchema { .. } | Phase::Held))
            .map(|track| (track.key.topic.clone(), track.key.partition))
            .collect();
        if !places.is_empty() {
            self.timers.asking_ends = true;
            self.timers.ends_asked_us = self.now_us();
            self.send(Job::Ends(places));
        }
    }

    fn check_life(&mut self, now: Instant) {
        for index in 0..self.tracks.len() {
            let track = &mut self.tracks[index];
            if matches!(track.phase, Phase::Probing { .. }) && now.duration_since(track.moved) > STALLED_AFTER {
                let cause = self.connection_cause(now);
                let word = self.connection_word(now).map(|word| format!(": {word}")).unwrap_or_default();
                self.unassign(&[index]);
                self.wait(index, cause, &format!("the brokers do not say where the leader epoch of its last record ends{word}"));
                continue;
            }
            if track.phase != Phase::Reading {
                continue;
            }
            if track.position.offset != track.seen {
                track.alive(now);
                if self.closes_by_moving(index) {
                    self.close(index);
                }
                continue;
            }
            self.check_standing(index, now);
        }
    }

    /// A partition that is assigned and does not move.
    fn check_standing(&mut self, index: usize, now: Instant) {
        let (end, stable) = match &self.tracks[index].gauge {
            Some(gauge) => (gauge.end_offset.load(Ordering::Relaxed), gauge.stable_offset.load(Ordering::Relaxed)),
            None => return,
        };
        let track = &mut self.tracks[index];
        let position = track.position.offset;
        let end_is_known = track.end_known.is_some_and(|at| now.duration_since(at) < STALLED_AFTER);
        let held_back = end > stable && stable >= 0 && position >= stable;
        if held_back {
            let since = match track.lso_since {
                Some((since, at)) if at == stable => since,
                _ => now,
            };
            track.lso_since = Some((since, stable));
            if now.duration_since(since) >= LSO_STALLED_AFTER {
                let text = format!("an open transaction holds the last stable offset at {stable} while the log ends at {end}");
                self.open_stalled(index, Cause::Lso, &text);
            }
            return;
        }
        track.lso_since = None;
        if !end_is_known {
            let text = self.connection_word(now).unwrap_or_else(|| "no broker has told the log's end".to_owned());
            let cause = self.connection_cause(now);
            self.open_stalled(index, cause, &format!("nothing was heard for {STALLED_AFTER:?}: {text}"));
            // Where brokers answer, it is this assignment that brings nothing; a client reconnects by itself.
            let is_deaf = self.unanswered.is_none() && cause == Cause::Unknown;
            if is_deaf && now.duration_since(self.tracks[index].moved) > STALLED_AFTER {
                self.hear_again(index, now);
            }
            return;
        }
        if end <= position {
            // At the end, and the end is fresh: whatever was wrong is over.
            if self.tracks[index]
                .incident
                .is_some_and(|(kind, cause)| kind == IncidentKind::Stalled && matches!(cause, Cause::NoLeader | Cause::Auth | Cause::Lso))
            {
                self.close(index);
            }
            return;
        }
        // A slow inlet is no stall: records that wait in the client's queue are on their way. Only a queue that ran empty proves that none are.
        let standing = now.duration_since(track.moved) > STALLED_AFTER && self.empty_at > self.tracks[index].moved + STALLED_AFTER / 2;
        if standing {
            let text = match &self.tracks[index].last_error {
                Some(error) => error.text.clone(),
                None => self.connection_word(now).unwrap_or_else(|| "the client says nothing".to_owned()),
            };
            let cause = self.connection_cause(now);
            self.open_stalled(index, cause, &format!("no movement for {STALLED_AFTER:?} while the log ends at {end}: {text}"));
            match self.unanswered.is_none() && cause == Cause::Unknown {
                true => self.hear_again(index, now),
                // It is known why: no other reader would help.
                false => {
                    self.tracks[index].moved = now;
                    self.ask(&[index]);
                }
            }
        }
    }

    fn open_stalled(&mut self, index: usize, cause: Cause, evidence: &str) {
        if self.tracks[index].incident.is_some_and(|(kind, open)| kind == IncidentKind::Stalled && open == cause) {
            return;
        }
        let incident = crate::incidents::stalled(&self.tracks[index], cause, evidence, self.now_us());
        self.open(index, incident, cause);
    }

    /// Errors of connections. They decide nothing; they explain.
    pub(super) fn connection_errors(&mut self, errors: Vec<ClientError>) {
        add(&self.counters.client_errors, errors.len() as u64);
        let now = Instant::now();
        for error in errors {
            tracing::debug!(source = %self.source.name, code = error.code, "client: {}", error.text);
            // A refused login explains more than the broken connection that follows it.
            let refused = |error: &ClientError| matches!(error.code, code::AUTHENTICATION | code::SSL);
            let keep =
                self.connection_error.as_ref().is_some_and(|(at, old)| refused(old) && !refused(&error) && at.elapsed() < ERROR_FRESH);
            if !keep {
                self.connection_error = Some((now, error));
            }
        }
    }

    pub(super) fn connection_word(&self, now: Instant) -> Option<String> {
        self.connection_error.as_ref().filter(|(at, _)| now.duration_since(*at) < ERROR_FRESH).map(|(_, error)| error.text.clone())
    }

    pub(super) fn connection_cause(&self, now: Instant) -> Cause {
        match &self.connection_error {
            Some((at, error)) if now.duration_since(*at) < ERROR_FRESH => match error.code {
                code::AUTHENTICATION | code::SSL => Cause::Auth,
                _ => Cause::NoLeader,
            },
            _ => Cause::Unknown,
        }
    }

    /// Log ends of partitions that are being read.
    pub(super) fn statistics(&mut self, json: &str) {
        let statistics = statistics::parse(json, crate::ext::monotonic_us());
        self.counters.client_queue_bytes.store(statistics.queue_bytes, Ordering::Relaxed);
        let (now, now_us) = (Instant::now(), self.now_us());
        for ends in statistics.partitions {
            let Some(index) = self.index_of(&ends.topic, ends.partition) else { continue };
            let track = &mut self.tracks[index];
            let Some(age) = ends.age else { continue };
            if track.phase == Phase::Reading {
                track.fetches(ends.next, now);
            }
            if track.phase != Phase::Reading || !track.heard || ends.end < 0 || age > STALLED_AFTER {
                continue;
            }
            track.end_known = now.checked_sub(age).max(track.end_known);
            track.read_end = track.read_end.max(Some(ends.end));
            let Some(gauge) = &track.gauge else { continue };
            if ends.stable >= 0 {
                gauge.stable_offset.store(ends.stable, Ordering::Relaxed);
            }
            if ends.start >= 0 {
                gauge.start_offset.store(ends.start, Ordering::Relaxed);
            }
            let age_us = i64::try_from(age.as_micros()).unwrap_or(0);
            gauge.saw_end(ends.end.max(track.position.offset), now_us - age_us);
        }
    }

    /// Commits durable positions that changed since the last commit.
    fn commit(&mut self) {
        let changed = self.changed_positions();
        let commits = self.group_commits(&changed);
        if commits.is_empty() {
            return;
        }
        self.timers.in_commit = changed;
        self.timers.committing = true;
        self.send(Job::Commit(commits));
    }

    fn changed_positions(&self) -> Vec<(Slot, Position)> {
        let mut positions = self.inlet.durable_positions();
        positions.retain(|(slot, position)| self.timers.committed.get(slot).is_none_or(|known| known.offset != position.offset));
        positions
    }

    fn group_commits(&self, positions: &[(Slot, Position)]) -> Vec<GroupCommit> {
        positions
            .iter()
            .filter_map(|(slot, position)| {
                let track = &self.tracks[self.track_of(*slot)?];
                // Lag tools want the next offset of a partition that is read, not of one that an incident stopped.
                (!track.stopped()).then(|| GroupCommit {
                    topic: track.key.topic.clone(),
                    partition: track.key.partition,
                    offset: position.offset,
                    // The epoch belongs to the last record; an offset past markers has none.
                    epoch: if position.offset == position.after { position.epoch } else { -1 },
                    metadata: format!("streamgauge after={} epoch={} time={}", position.after, position.epoch, position.record_time_ms),
                })
            })
            .collect()
    }

    /// What came of a commit. A failure concerns lag tools only.
    pub(super) fn committed(&mut self, result: &Result<(), ClientError>) {
        self.timers.committing = false;
        let positions = std::mem::take(&mut self.timers.in_commit);
        match result {
            Ok(()) => {
                add(&self.counters.commits, 1);
                self.timers.committed.extend(positions);
            }
            Err(error) => {
                add(&self.counters.commit_failures, 1);
                tracing::debug!(source = %self.source.name, "group commit: {error}");
            }
        }
    }

    /// The commit on stop; waits for its answer, bounded.
    pub(super) fn commit_last(&mut self) {
        let changed = self.changed_positions();
        let commits = self.group_commits(&changed);
        if commits.is_empty() {
            return;
        }
        self.timers.in_commit = changed;
        self.send(Job::Commit(commits));
        let deadline = Instant::now() + COMMIT_LIMIT * 2;
        while let Ok(answer) = self.answers.recv_deadline(deadline) {
            if let crate::control::Answer::Committed(result) = answer {
                self.committed(&result);
                return;
            }
        }
    }
}
