//! What a source says of itself: its note on the board, and its incident when the whole source cannot
//! go on.
//!
//! In this order, the first that is so: it has never reached a broker, or a topic is not there (an
//! incident of the source, because no partition is there to have one); partitions stand still, each
//! with an incident of its own; no broker is heard of. The last is said within seconds, long before
//! it is an incident: a broker that restarts is away for about [`STALLED_AFTER`].
//!
//! Asked once a second and after each discovery, on the ingest thread. Texts are stable while the
//! cause is the same, so that the log has one line per change and not one per second.

use super::watch::STALLED_AFTER;
use super::{AWAY_AFTER, Ingest};
use crate::control::Discovered;
use crate::ext::code;
use crate::incidents::{self, Cause};
use crate::track::{Phase, Track};
use std::time::Instant;
use streamgauge_api::source::SourceNote;

/// What the last discovery says of the source as a whole.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Why the source cannot go on, when it is not its partitions that say so.
    pub(super) trouble: Option<(Cause, String)>,
    /// A partition that the engine did not let us read.
    pub(super) refused: Option<String>,
}

impl Ingest {
    /// What was discovered, as far as no partition can say it.
    pub(super) fn found(&mut self, found: &Discovered) {
        let unseen = |name: &String| !self.places.contains_key(name);
        let missing: Vec<_> = found.missing.iter().filter(|(name, _)| unseen(name)).collect();
        let nothing = found.topics.is_empty() && self.known_partitions() == 0;
        self.found.trouble = match missing.first() {
            Some((_, error)) => {
                let cause = if error.code == code::TOPIC_AUTHORIZATION_FAILED { Cause::Auth } else { Cause::TopicMissing };
                let names: Vec<String> = missing.iter().map(|(name, error)| format!("{name} ({})", error.text)).collect();
                Some((cause, format!("these topics do not exist or may not be seen: {}", names.join(", "))))
            }
            None if nothing => Some((Cause::TopicMissing, format!("no topic matches {} yet", self.source.topics))),
            None => None,
        };
    }

    /// Says how it stands; see the module's head.
    pub(super) fn tell(&mut self) {
        let now = Instant::now();
        let trouble = self.trouble(now);
        match &trouble {
            Some((cause, evidence)) => {
                let incident = incidents::source_stalled(*cause, evidence, self.now_us());
                self.inlet.source_incident(&self.source.name, Some(incident));
            }
            None if self.in_trouble => self.inlet.source_incident(&self.source.name, None),
            None => {}
        }
        self.in_trouble = trouble.is_some();
        self.board.knows(&self.source.name, self.looked_before && trouble.is_none() && self.beginning.is_empty());
        if let Some((_, detail)) = trouble {
            let state = if self.found.refused.is_some() { "stopped" } else { "waiting" };
            return self.say(state, &detail);
        }
        if !self.looked_before {
            return;
        }
        match self.standing().or_else(|| self.away(now)) {
            Some(detail) => self.say("waiting", &detail),
            None => self.say("reading", ""),
        }
    }

    /// Why the whole source cannot go on.
    fn trouble(&self, now: Instant) -> Option<(Cause, String)> {
        if let Some(refused) = &self.found.refused {
            return Some((Cause::Unknown, refused.clone()));
        }
        // Without partitions nobody but the source can say that the brokers went away again.
        let alone = !self.looked_before || self.known_partitions() == 0;
        if alone && self.unanswered.is_some_and(|since| now.duration_since(since) > AWAY_AFTER) {
            let word = self.connection_word(now).map(|word| format!(": {}", plain(&word))).unwrap_or_default();
            let cause = if self.connection_cause(now) == Cause::Auth { Cause::Auth } else { Cause::BrokerUnreachable };
            return Some((cause, format!("no broker of {} answers{word}", self.source.brokers.join(","))));
        }
        self.found.trouble.clone()
    }

    /// Partitions with an incident of their own: a source that brings nothing is not reading.
    fn standing(&self) -> Option<String> {
        let stalled: Vec<&Track> = self.tracks.iter().filter(|track| track.stalled().is_some()).collect();
        let cause = stalled.first().and_then(|track| track.stalled())?;
        let (first, count, all) = (&stalled[0].key, stalled.len(), self.known_partitions());
        Some(format!("{count} of {all} partitions stand still, {}/{} for {}", first.topic, first.partition, cause.as_str()))
    }

    /// Partitions of which no broker was heard lately, while nothing of them waits to be taken.
    fn away(&self, now: Instant) -> Option<String> {
        let late = |since: Instant| now.duration_since(since.max(self.busy_at)) > AWAY_AFTER;
        let silent = |track: &&Track| match track.phase {
            Phase::Reading => late(track.end_known.unwrap_or(track.moved)),
            Phase::Asking { .. } => self.now_us() - track.asked_us > i64::try_from(AWAY_AFTER.as_micros()).unwrap_or(i64::MAX),
            Phase::Waiting { .. } => track.incident.is_none(),
            _ => false,
        };
        let count = self.tracks.iter().filter(silent).count();
        assert!(AWAY_AFTER < STALLED_AFTER, "a source says it before its partitions are stalled");
        let word = self.connection_word(now).map(|word| format!(": {}", plain(&word))).unwrap_or_default();
        (count > 0).then(|| format!("no broker is heard of for {count} of {} partitions{word}", self.known_partitions()))
    }

    /// Partitions that are not forgotten.
    fn known_partitions(&self) -> usize {
        self.tracks.iter().filter(|track| track.phase != Phase::Forgotten).count()
    }

    /// Replaces the source's note when it changed.
    pub(super) fn say(&mut self, state: &str, detail: &str) {
        if self.note.0 == state && self.note.1 == detail {
            return;
        }
        match (state, detail.is_empty()) {
            ("waiting" | "stopped", false) => tracing::warn!(source = %self.source.name, state, "source: {detail}"),
            (_, true) => tracing::info!(source = %self.source.name, state, "source"),
            (_, false) => tracing::info!(source = %self.source.name, state, "source: {detail}"),
        }
        self.note = (state.to_owned(), detail.to_owned());
        self.board.note(SourceNote { source: self.source.name.clone(), state: state.to_owned(), detail: detail.to_owned() });
    }
}

/// The client's text without its counts and times, which differ at each try.
fn plain(text: &str) -> &str {
    text.split_once(" (after ").map_or(text, |(plain, _)| plain)
}
