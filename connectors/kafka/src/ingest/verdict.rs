//! Carrying out what the control thread found about partitions, and what the registry gave.

use super::Ingest;
use crate::examine::Verdict;
use crate::ext::{Assignment, ClientError, IdChange, TopicDescription};
use crate::incidents::{self, Cause};
use crate::registry::Outcome;
use crate::track::{Phase, Suspicion};
use std::sync::atomic::Ordering;
use std::time::Instant;
use streamgauge_api::source::{Incident, IncidentKind};
use streamgauge_api::{Position, TopicId};

/// False alarms in a row before the partition is shown as stalled.
const STRIKES_MAX: u32 = 3;

impl Ingest {
    /// Verdicts of one round; a partition that was asked about again meanwhile waits for the newer one.
    pub(super) fn examined(&mut self, round: u64, verdicts: Vec<(usize, Verdict)>) {
        let (mut assign, mut probe) = (Vec::new(), Vec::new());
        for (index, verdict) in verdicts {
            if self.tracks.get(index).is_none_or(|track| track.phase != (Phase::Asking { round })) {
                continue;
            }
            let said = self.tracks[index].suspicion.clone();
            let verdict = self.weigh(index, verdict);
            if let Some(low) = verdict.ends_early_from().filter(|_| self.may_probe(index)) {
                match said {
                    // A fence says nothing of epochs.
                    None | Some(Suspicion::Fenced { .. }) => {
                        probe.push((index, low));
                        continue;
                    }
                    // The log began elsewhere when the client asked: it asks there, so often at most.
                    Some(Suspicion::Unprobed { low: then }) if then != low && self.tracks[index].strikes < STRIKES_MAX => {
                        self.tracks[index].strikes += 1;
                        probe.push((index, low));
                        continue;
                    }
                    // Where it begins as it did, the brokers know nothing of epochs.
                    Some(_) => {}
                }
            }
            match verdict {
                // The questions know ids at best, and this is another cluster's topic.
                Verdict::Assign { .. } if self.answers_elsewhere(index) => {
                    let evidence = super::seen_at_start(&self.tracks[index].key.cluster, self.cluster.as_deref().unwrap_or_default());
                    self.recreated(index, TopicId::NONE, &evidence, true);
                }
                Verdict::Assign { offset, epoch, low, end } => {
                    self.show_ends(index, low, end, self.tracks[index].asked_us);
                    self.tracks[index].read_end = Some(end);
                    if let Some(gauge) = &self.tracks[index].gauge {
                        gauge.begins_before(end);
                    }
                    assign.push((index, offset, epoch));
                }
                other => self.decided(index, other),
            }
        }
        self.assign(&assign);
        self.probe(&probe);
    }

    /// Whether the brokers that answer are another cluster than the partition's.
    fn answers_elsewhere(&self, index: usize) -> bool {
        self.cluster.as_ref().is_some_and(|now| *now != self.tracks[index].key.cluster)
    }

    /// Combines the verdict with what the client had said: its text alone decides nothing, but it knows of epochs.
    fn weigh(&mut self, index: usize, verdict: Verdict) -> Verdict {
        let track = &mut self.tracks[index];
        let about_the_log = matches!(verdict, Verdict::Assign { .. } | Verdict::Regressed { .. } | Verdict::Truncated { .. });
        match track.suspicion.take() {
            Some(Suspicion::Cut { to, text }) if about_the_log => {
                track.last_error = Some(ClientError { code: crate::ext::code::AUTO_OFFSET_RESET, text });
                match verdict {
                    Verdict::Regressed { low, end, epoch, .. } => Verdict::Regressed { low, end, to: to.min(end), epoch },
                    Verdict::Truncated { low, from, .. } => Verdict::Truncated { low, from, to, epoch: -1 },
                    _ => Verdict::Truncated { low: 0, from: track.position.after, to, epoch: -1 },
                }
            }
            Some(Suspicion::Common { to }) => match verdict {
                Verdict::Regressed { low, end, epoch, .. } => Verdict::Regressed { low, end, to: to.min(end), epoch },
                Verdict::Truncated { low, from, epoch, .. } => Verdict::Truncated { low, from, to, epoch },
                other => other,
            },
            // The log is an older one of the same topic: what it has, up to its end, is what was read.
            Some(Suspicion::ForeignEpoch { text }) if verdict.ends_early_from().is_some() && track.key.topic_id.is_known() => {
                track.last_error = Some(ClientError { code: crate::ext::code::AUTO_OFFSET_RESET, text });
                verdict
            }
            Some(Suspicion::ForeignEpoch { text }) if about_the_log => {
                track.last_error = Some(ClientError { code: crate::ext::code::AUTO_OFFSET_RESET, text });
                Verdict::Recreated { now: track.key.topic_id }
            }
            Some(Suspicion::Fenced { to }) if about_the_log => {
                if track.key.topic_id.is_known() && track.client_id == Some(track.key.topic_id) {
                    return verdict;
                }
                // The brokers still say the old id, or have none: the client fetches from the new topic all the same.
                Verdict::Recreated { now: to }
            }
            Some(Suspicion::Fenced { .. }) => {
                let text = "seen by the client, whose records of this drain were discarded".to_owned();
                track.last_error = Some(ClientError { code: crate::ext::code::FAIL, text });
                verdict
            }
            _ => verdict,
        }
    }

    fn decided(&mut self, index: usize, verdict: Verdict) {
        let now_us = self.now_us();
        let before = self.read_before(index);
        let (track, before) = (&self.tracks[index], before.as_ref());
        let word = track.last_error.as_ref().map(|error| error.text.clone()).unwrap_or_default();
        match verdict {
            Verdict::Assign { .. } => {}
            Verdict::TopicMissing(text) => self.wait(index, Cause::TopicMissing, &text),
            Verdict::NoLeader(text) => self.wait_quietly(index, Cause::NoLeader, &text),
            Verdict::Forbidden(text) => self.wait(index, Cause::Auth, &text),
            Verdict::Unknown(text) => self.wait_quietly(index, Cause::Unknown, &text),
            Verdict::Recreated { now } => self.recreated(index, now, &word, false),
            Verdict::SourceGap { low, end } => {
                let incident = incidents::source_gap(track, before, low, end, now_us);
                self.show_ends(index, low, end, self.tracks[index].asked_us);
                self.stop_with(index, incident);
            }
            Verdict::Regressed { end, to, epoch, .. } => {
                let incident = incidents::regressed(track, before, (end, to), epoch, now_us);
                self.stop_with(index, incident);
            }
            Verdict::Truncated { from, to, epoch, .. } => {
                let evidence = match epoch >= 0 {
                    true => format!("the log that is there has offsets before {to} in common with it, and ends under leader epoch {epoch}"),
                    false => word,
                };
                let incident = incidents::truncated(track, before, from, to, &evidence, now_us);
                self.stop_with(index, incident);
            }
        }
    }

    /// Assigns partitions at their pairs.
    fn assign(&mut self, wanted: &[(usize, i64, i32)]) {
        if self.pressed {
            for (index, ..) in wanted {
                self.tracks[*index].phase = Phase::Held;
            }
            return;
        }
        let (struck, ready): (Vec<_>, Vec<_>) = wanted.iter().copied().partition(|(index, ..)| self.tracks[*index].strikes >= STRIKES_MAX);
        for (index, ..) in struck {
            let text = self.tracks[index].last_error.as_ref().map(|error| error.text.clone()).unwrap_or_default();
            self.tracks[index].strikes = 0;
            self.wait(index, Cause::Unknown, &format!("{STRIKES_MAX} false alarms in a row: {text}"));
        }
        if ready.is_empty() {
            return;
        }
        self.fit_client(ready.iter().map(|(index, ..)| *index));
        let list: Vec<Assignment<'_>> = ready
            .iter()
            .map(|(index, offset, epoch)| {
                let key = &self.tracks[*index].key;
                Assignment { topic: &key.topic, partition: key.partition, offset: *offset, epoch: *epoch }
            })
            .collect();
        let result = self.client.assign(&list);
        let now = Instant::now();
        for (index, ..) in ready {
            if let Err(error) = &result {
                self.wait(index, Cause::Unknown, &format!("assign: {error}"));
                continue;
            }
            self.read_as(index);
            let track = &mut self.tracks[index];
            track.phase = Phase::Reading;
            track.assigned = true;
            track.heard = false;
            track.fetching = None;
            track.next = track.position.offset;
            track.valid_from = self.drain + 1;
            track.moved = now;
            track.seen = track.position.offset;
            track.end_known = Some(now);
            if let Some(gauge) = &track.gauge {
                gauge.reading.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Whether the brokers can tell how much of what was read of a partition their log has still: only a leader epoch says.
    fn may_probe(&self, index: usize) -> bool {
        let Position { after, epoch, .. } = self.read_to(index);
        after > 0 && epoch >= 0
    }

    /// Has the client compare the last pairs that were read with the brokers' history of epochs, though these lie behind the
    /// log's end: what it answers ([`Ingest::event`]) is where both logs part. Beside each its log's start.
    fn probe(&mut self, probed: &[(usize, i64)]) {
        if self.pressed {
            // No answer of the client's is heard meanwhile.
            for (index, _) in probed {
                self.tracks[*index].phase = Phase::Held;
            }
            return;
        }
        if probed.is_empty() {
            return;
        }
        self.fit_client(probed.iter().map(|(index, _)| *index));
        let pairs: Vec<Position> = probed.iter().map(|(index, _)| self.read_to(*index)).collect();
        let starts: Vec<i64> = probed.iter().map(|(_, low)| *low).collect();
        let list: Vec<Assignment<'_>> = probed
            .iter()
            .zip(&pairs)
            .map(|((index, _), pair)| {
                let key = &self.tracks[*index].key;
                assert!(pair.after > 0 && pair.epoch >= 0, "{}/{} is asked about {pair:?}", key.topic, key.partition);
                Assignment { topic: &key.topic, partition: key.partition, offset: pair.after, epoch: pair.epoch }
            })
            .collect();
        let result = self.client.probe(&list, &starts);
        for ((index, low), pair) in probed.iter().zip(pairs) {
            if let Err(error) = &result {
                self.wait(*index, Cause::Unknown, &format!("assign: {error}"));
                continue;
            }
            self.read_as(*index);
            let track = &mut self.tracks[*index];
            (track.phase, track.assigned, track.heard) = (Phase::Probing { after: pair.after, low: *low }, true, false);
            (track.valid_from, track.moved) = (self.drain + 1, Instant::now());
        }
    }

    /// What a probe found, or that it found nothing: the questions are asked again with that in mind.
    pub(super) fn probed(&mut self, index: usize, found: Suspicion) {
        assert!(matches!(self.tracks[index].phase, Phase::Probing { .. }), "only a probe is answered");
        self.tracks[index].suspicion = Some(found);
        self.ask(&[index]);
    }

    /// Cannot go on now: says so and tries again later.
    pub(super) fn wait(&mut self, index: usize, cause: Cause, evidence: &str) {
        if cause == Cause::TopicMissing && !self.tracks[index].key.topic_id.is_known() {
            // What comes under this name may be another topic, and nothing but the client would know.
            self.distrust_client(index);
        }
        let now_us = self.now_us();
        let own = &self.tracks[index].key.cluster;
        let elsewhere = self.cluster.as_ref().filter(|now| cause == Cause::TopicMissing && *now != own);
        let evidence = elsewhere.map_or_else(|| evidence.to_owned(), |now| format!("{}; {evidence}", super::seen_at_start(own, now)));
        let mut incident = incidents::stalled(&self.tracks[index], cause, &evidence, now_us);
        if elsewhere.is_some() {
            incidents::missing_elsewhere(&mut incident);
        }
        self.open(index, incident, cause);
        self.wait_only(index);
    }

    /// The same for causes that a restarting broker brings about: said only when it lasts.
    fn wait_quietly(&mut self, index: usize, cause: Cause, evidence: &str) {
        let track = &mut self.tracks[index];
        track.last_error = Some(ClientError { code: crate::ext::code::FAIL, text: evidence.to_owned() });
        if track.moved.elapsed() > super::watch::STALLED_AFTER {
            self.wait(index, cause, evidence);
        } else {
            self.wait_only(index);
        }
    }

    fn wait_only(&mut self, index: usize) {
        let track = &mut self.tracks[index];
        let until = track.retry_at(Instant::now());
        track.phase = Phase::Waiting { until };
    }

    /// The log moved: stops the partition until an operator decides.
    fn stop_with(&mut self, index: usize, incident: Incident) {
        self.unassign(&[index]);
        self.tracks[index].phase = Phase::Stopped;
        self.open(index, incident, Cause::Unknown);
    }

    /// Records that the engine has applied are no longer in the log.
    pub(super) fn truncated(&mut self, index: usize, from: i64, to: i64, evidence: &str) {
        let before = self.read_before(index);
        let incident = incidents::truncated(&self.tracks[index], before.as_ref(), from, to, evidence, self.now_us());
        self.stop_with(index, incident);
    }

    /// The name belongs to another topic; `elsewhere`: in another cluster.
    pub(super) fn recreated(&mut self, index: usize, now: TopicId, evidence: &str, elsewhere: bool) {
        let track = &self.tracks[index];
        if track.stopped() {
            return;
        }
        // Nothing of the other topic can have been read, and it is known how to recognise its own.
        let is_clean = !self.has_read(&track.key.topic) || track.proved.is_some_and(|proved| proved >= track.position.offset);
        let is_told = elsewhere || (now.is_known() && track.key.topic_id.is_known() && now != track.key.topic_id);
        let before = self.read_before(index);
        let mut incident = incidents::recreated(&self.tracks[index], before.as_ref(), now, evidence, self.now_us());
        if is_clean && is_told {
            incidents::may_be_undone(&mut incident, self.tracks[index].position.offset);
        }
        self.stop_with(index, incident);
    }

    /// The client says that it follows another topic id. Its records from here on may be of the new topic.
    pub(super) fn fenced(&mut self, changes: &[IdChange]) {
        let mut ask = Vec::new();
        for change in changes {
            for (index, track) in self.tracks.iter_mut().enumerate().filter(|(_, track)| track.key.topic == change.topic) {
                track.client_id = Some(change.to);
                let ours = track.key.topic_id;
                let moved = if ours.is_known() { change.to != ours } else { change.from.is_known() };
                if moved && !track.stopped() {
                    track.suspicion = Some(Suspicion::Fenced { to: change.to });
                    // The drain that showed the fence may hold records of either topic: none of them counts.
                    track.valid_from = self.drain + 1;
                    ask.push(index);
                }
            }
        }
        self.ask(&ask);
    }

    /// The periodic second net behind the fence.
    pub(super) fn ids_checked(&mut self, round: u64, topics: Result<Vec<TopicDescription>, ClientError>) {
        self.timers.checking_ids = false;
        let Ok(topics) = topics else { return };
        let mut ask = Vec::new();
        for topic in topics {
            for index in 0..self.tracks.len() {
                let track = &mut self.tracks[index];
                if track.key.topic != topic.name || track.stopped() || !track.key.topic_id.is_known() {
                    continue;
                }
                match &topic.error {
                    // A broker that is starting may not know its topics yet; the questions decide.
                    Some(_) if track.phase == Phase::Reading => ask.push(index),
                    Some(_) => {}
                    None if topic.id == track.key.topic_id && self.timers.ids_round == round => track.proved = Some(track.proving),
                    None if topic.id == track.key.topic_id => {}
                    None if topic.id.is_known() => self.recreated(index, topic.id, "seen by the check of each second", false),
                    None => {}
                }
            }
        }
        self.ask(&ask);
    }

    /// Ends of logs of partitions that are not being read.
    pub(super) fn ends_known(&mut self, ends: &[(String, i32, i64, i64)]) {
        self.timers.asking_ends = false;
        for (topic, partition, low, end) in ends {
            if let Some(index) = self.index_of(topic, *partition)
                && self.tracks[index].phase != Phase::Reading
            {
                self.show_ends(index, *low, *end, self.timers.ends_asked_us);
            }
        }
    }

    /// What a question that was sent at this moment found.
    fn show_ends(&mut self, index: usize, low: i64, end: i64, asked_us: i64) {
        if let Some(gauge) = &self.tracks[index].gauge {
            gauge.start_offset.store(low, Ordering::Relaxed);
            gauge.saw_end(end, asked_us);
        }
    }

    /// Hears the registry thread.
    pub(super) fn hear_registry(&mut self) {
        while let Ok(reply) = self.replies.1.try_recv() {
            let waiting = self.indexes(|phase| phase == Phase::AwaitingSchema { id: reply.id });
            let mut ask = Vec::new();
            for index in waiting {
                let slot = self.tracks[index].slot;
                match &reply.outcome {
                    Outcome::Ready(schema) => match self.inlet.schema(slot, schema) {
                        Ok(()) => ask.push(index),
                        Err(error) => self.wait(index, Cause::Schema, &format!("schema id {}: {error}", reply.id)),
                    },
                    Outcome::Missing(text) => {
                        self.inlet.schema_missing(slot, reply.id, text);
                        ask.push(index);
                    }
                    Outcome::Down(text) => {
                        let incident = incidents::stalled(&self.tracks[index], Cause::Registry, text, self.now_us());
                        self.open(index, incident, Cause::Registry);
                    }
                }
            }
            self.ask(&ask);
        }
    }

    /// Whether the open incident is one that movement closes.
    pub(super) fn closes_by_moving(&self, index: usize) -> bool {
        matches!(self.tracks[index].incident, Some((IncidentKind::Stalled, _)))
    }
}
