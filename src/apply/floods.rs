//! Floods of bad records: a source of which most records, or very many, cannot become rows, is told while that lasts.
//!
//! A bad record alone is normal life: it is counted and kept in the reject log. A source that takes the wrong topic or has the wrong
//! format fills that log and leaves its tables empty, while everything else looks well. So the ingest threads say after each packet
//! how many records they took and which of them were bad ([`Tally`]), and here that is counted in blocks of at most [`BLOCK_US`]. A
//! block that is a flood opens one incident per source, for all its partitions and threads ([`IncidentKind::BadRecords`]), with the
//! first and the last bad record and how many there were by code; a block that is calm again closes it, and a log line says the sum.
//!
//! Cost: two additions per record on the ingest thread, one short lock per packet. Called by ingest threads and by the apply thread's
//! ticks, which end the blocks of sources that bring nothing more. Nothing here survives the process: a flood that goes on is seen anew.

use super::incidents::{IncidentText, Incidents, Subject};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use streamgauge_api::Code;
use streamgauge_api::source::IncidentKind;

/// Longest time that is looked at as one.
const BLOCK_US: i64 = 10_000_000;
/// So many bad records in a block are a flood whatever else came,
const MANY: u64 = 1_000;
/// and so is a half of so many records, at once,
const ENOUGH: u64 = 1_000;
/// or of so many when the block is over: fewer say nothing.
const FEW: u64 = 20;
/// A flood is over when no more than one record in so many is bad, or when none came for this long.
const CALM_SHARE: u64 = 10;
const CALM_US: i64 = 60_000_000;

/// What an ingest thread took of a source since it last told.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Records, the bad ones included.
    pub(super) records: u64,
    /// Bad ones, by the code of the reason.
    pub(super) bad: BTreeMap<&'static str, u64>,
    /// The first of them: slot, offset, code and reason.
    pub(super) first: Option<(u32, i64, Code, String)>,
    /// The last of them.
    pub(super) last: Option<(u32, i64, Code)>,
}

impl Tally {
    /// A bad record.
    #[cold]
    pub(super) fn take_bad(&mut self, slot: u32, offset: i64, code: Code, reason: &str) {
        *self.bad.entry(code.as_str()).or_default() += 1;
        self.first.get_or_insert_with(|| (slot, offset, code, reason.to_owned()));
        self.last = Some((slot, offset, code));
    }
}

/// The same in words, for whoever does not know the slots.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) records: u64,
    pub(super) bad: BTreeMap<&'static str, u64>,
    pub(super) first: String,
    pub(super) last: String,
    /// Bad records are kept in the reject log.
    pub(super) keeps: bool,
}

/// The wall clock, and the time that only passes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) wall_us: i64,
    pub(super) passed_us: i64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Block {
    records: u64,
    bad: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Flood,
    Calm,
    Open,
}

impl Block {
    /// What a block says, while it goes on or when it is `over`; `quiet_us` is how long no bad record came.
    fn verdict(self, over: bool, quiet_us: i64) -> Verdict {
        let Self { records, bad } = self;
        debug_assert!(bad <= records, "{bad} of {records} records are bad");
        let enough = if over { FEW } else { ENOUGH };
        if bad >= MANY || (records >= enough && bad.saturating_mul(2) >= records) {
            Verdict::Flood
        } else if (over && records >= FEW && bad.saturating_mul(CALM_SHARE) <= records) || quiet_us >= CALM_US {
            Verdict::Calm
        } else {
            Verdict::Open
        }
    }
}

/// What is known of a source since its flood began, or since the block did.
#[derive(Debug, Default)]
struct Source {
    block: Block,
    block_us: i64,
    flooded: bool,
    records: u64,
    bad: BTreeMap<&'static str, u64>,
    first: String,
    last: String,
    keeps: bool,
    last_bad_us: i64,
}

impl Source {
    fn bad_records(&self) -> u64 {
        self.bad.values().sum()
    }

    fn by_code(&self) -> String {
        self.bad.iter().map(|(code, bad)| format!("{code} {bad}")).collect::<Vec<_>>().join(", ")
    }

    fn text(&self, name: &str) -> IncidentText {
        let worst = self.bad.iter().max_by_key(|(_, bad)| **bad).map(|(code, _)| *code);
        let advice = worst.and_then(Code::parse).map(Code::advice);
        let holds = match self.keeps {
            true => "good records are applied, and positions move on; the newest bad ones stand in the reject log",
            false => "good records are applied, and positions move on; bad ones are counted and dropped (on_bad_record = \"skip\")",
        };
        let look = "streamgauge rejects list".to_owned();
        let mend = format!(
            "where the config is wrong: mend [sources.{name}]; a start with a new data folder reads the topic again from its `start`"
        );
        IncidentText {
            cause: worst.unwrap_or_default().to_owned(),
            lost: format!("{} of {} records could not become rows and are in no table", self.bad_records(), self.records),
            holds: holds.to_owned(),
            evidence: format!("first: {}; last: {}; {}", self.first, self.last, self.by_code()),
            actions: self.keeps.then_some(look).into_iter().chain(advice.map(str::to_owned)).chain([mend]).collect(),
        }
    }

    /// Looks at the block and says what is new.
    fn look(&mut self, name: &str, incidents: &Incidents, now: Now) {
        let over = now.passed_us.saturating_sub(self.block_us) >= BLOCK_US;
        let subject = Subject::source(name);
        let verdict = self.block.verdict(over, now.passed_us.saturating_sub(self.last_bad_us));
        self.flooded |= verdict == Verdict::Flood;
        if self.flooded && verdict == Verdict::Calm {
            incidents.close(IncidentKind::BadRecords, &subject);
            let (bad, records, codes) = (self.bad_records(), self.records, self.by_code());
            tracing::info!(kind = "source.flood_ended", source = name, bad, records, codes, last = self.last, "few records are bad again");
            self.flooded = false;
        } else if self.flooded {
            incidents.open(IncidentKind::BadRecords, &subject, now.wall_us, || self.text(name));
        }
        if over || verdict == Verdict::Flood {
            (self.block, self.block_us) = (Block::default(), now.passed_us);
            if !self.flooded {
                *self = Self { block_us: now.passed_us, last_bad_us: self.last_bad_us, ..Self::default() };
            }
        }
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct Floods(Mutex<BTreeMap<String, Source>>);

impl Floods {
    /// An ingest thread took records of a source.
    pub(super) fn add(&self, incidents: &Incidents, name: &str, told: Told, now: Now) {
        let mut sources = self.0.lock();
        if !sources.contains_key(name) {
            let begun = Source { block_us: now.passed_us, last_bad_us: now.passed_us, ..Source::default() };
            sources.insert(name.to_owned(), begun);
        }
        let Some(source) = sources.get_mut(name) else { unreachable!("it was put there") };
        let bad: u64 = told.bad.values().sum();
        assert!(bad <= told.records, "{bad} of {} records are bad", told.records);
        source.block.records += told.records;
        source.block.bad += bad;
        source.records += told.records;
        if bad > 0 {
            told.bad.iter().for_each(|(code, bad)| *source.bad.entry(code).or_default() += bad);
            source.last_bad_us = now.passed_us;
            source.keeps = told.keeps;
            source.last = told.last;
            if source.first.is_empty() {
                source.first = told.first;
            }
        }
        source.look(name, incidents, now);
    }

    /// Time passed: blocks end, also of sources that bring nothing.
    pub(super) fn look(&self, incidents: &Incidents, now: Now) {
        for (name, source) in self.0.lock().iter_mut() {
            source.look(name, incidents, now);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const SECOND_US: i64 = 1_000_000;

    fn told(records: u64, bad: u64) -> Told {
        let code = Code::DecodeMalformed.as_str();
        let bad = if bad > 0 { BTreeMap::from([(code, bad)]) } else { BTreeMap::new() };
        Told { records, bad, first: "t/0 offset 1".into(), last: "t/1 offset 9".into(), keeps: true }
    }

    fn at(seconds: i64) -> Now {
        Now { wall_us: 1_700_000_000 * SECOND_US + seconds * SECOND_US, passed_us: seconds * SECOND_US }
    }

    /// Whether the source is flooded after these: second, records, bad ones.
    fn flooded(parts: &[(i64, u64, u64)], looked_at: i64) -> bool {
        let (floods, incidents) = (Floods::default(), Incidents::default());
        for (second, records, bad) in parts {
            floods.add(&incidents, "s", told(*records, *bad), at(*second));
        }
        floods.look(&incidents, at(looked_at));
        incidents.is_open(IncidentKind::BadRecords, &Subject::source("s"))
    }

    #[test]
    fn most_of_the_last_records_or_very_many_bad_ones_are_a_flood() {
        for (parts, looked_at, expected) in [
            (&[(0, 1_000, 500)][..], 0, true),
            (&[(0, 1_000, 499)], 0, false),
            (&[(0, 999, 999)], 0, false),
            (&[(0, 999, 999)], 10, true),
            (&[(0, 50, 50)], 9, false),
            (&[(0, 50, 50)], 10, true),
            (&[(0, 19, 19)], 10, false),
            // Very many within ten seconds, though they are few among all; and the same over a longer time.
            (&[(0, 100_000, 600), (5, 100_000, 400)], 5, true),
            (&[(0, 100_000, 600), (10, 100_000, 300), (20, 100_000, 600)], 20, false),
            // From two partitions and threads.
            (&[(0, 500, 500), (0, 500, 500)], 0, true),
        ] {
            assert_eq!(flooded(parts, looked_at), expected, "{parts:?} at {looked_at} s");
        }
    }

    #[test]
    fn a_flood_ends_when_few_records_are_bad_or_none_come() {
        let flood = (0, 2_000, 2_000);
        for (parts, looked_at, expected) in [
            (vec![flood], 59, true),
            (vec![flood], 60, false),
            (vec![flood, (10, 100, 30), (20, 100, 30)], 30, true),
            (vec![flood, (10, 10, 0), (11, 100, 5)], 20, false),
            (vec![flood, (10, 100, 0), (11, 2_000, 1_900)], 20, true),
        ] {
            assert_eq!(flooded(&parts, looked_at), expected, "{parts:?} at {looked_at} s");
        }
    }

    #[test]
    fn one_incident_says_how_many_and_which() {
        let (floods, incidents) = (Floods::default(), Incidents::default());
        floods.add(&incidents, "s", told(1_000, 900), at(0));
        let Told { first: _, .. } = told(0, 0);
        let mut more = told(1_000, 900);
        more.bad = BTreeMap::from([(Code::TimeOutOfRange.as_str(), 900)]);
        more.last = "t/7 offset 77".into();
        floods.add(&incidents, "s", more, at(2));
        let [(subject, incident)] = incidents.list().try_into().unwrap();
        assert_eq!((subject, incident.kind), (Subject::source("s"), IncidentKind::BadRecords));
        assert_eq!(incident.lost, "1800 of 2000 records could not become rows and are in no table");
        assert_eq!(incident.evidence, "first: t/0 offset 1; last: t/7 offset 77; decode_malformed 900, time_out_of_range 900");
        assert!(incident.actions[0].starts_with("streamgauge rejects list"), "{:?}", incident.actions);
    }
}
