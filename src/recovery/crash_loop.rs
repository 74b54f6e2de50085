//! A frame that ends every start: what is known of it, and how to get past it.

use super::attempts::DEATHS_MAX;
use crate::apply::codec::{decode_skipped, events_of};
use crate::apply::panic::PanicNote;
use crate::state::{Content, State};
use crate::wal::{Frame, FrameKind};
use std::fmt;

/// What is known of the frame without applying it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrashLoop {
    /// First and last LSN.
    pub lsns: (u64, u64),
    /// Its kind in words.
    pub kind: &'static str,
    /// Whether `wal skip` can leave it out.
    pub rows: bool,
    /// When it was written, microseconds since the Unix epoch.
    pub at_us: i64,
    /// Names of the events of its rows.
    pub events: Vec<String>,
    /// `topic/partition offsets a to b`, for each partition that it moves.
    pub partitions: Vec<String>,
    /// How many starts died in it.
    pub deaths: u64,
    /// What the last of them said.
    pub said: Option<String>,
}

impl CrashLoop {
    /// Of a frame that comes next after what `state` holds.
    pub(super) fn of(frame: &Frame<'_>, state: &State, deaths: u64) -> Self {
        assert!(deaths >= DEATHS_MAX && frame.first_lsn == state.lsn() + 1, "frame {} after {}", frame.first_lsn, state.lsn());
        let registry = state.registry();
        let name = |event| registry.event_by_id(event).map_or_else(|| format!("event {}", event.0), |event| event.schema.name.to_string());
        let positions = match decode_skipped(frame) {
            Ok(Content::Skipped { positions, .. }) => positions,
            _ => Vec::new(),
        };
        let moved = |(slot, to): &(streamgauge_api::Slot, streamgauge_api::Position)| {
            let stored = state.partitions().get(slot.0 as usize)?;
            let (key, from) = (&stored.key, stored.position.offset);
            Some(format!("{}/{} offsets {from} to {}", key.topic, key.partition, to.offset.saturating_sub(1)))
        };
        Self {
            lsns: (frame.first_lsn, frame.last_lsn()),
            kind: frame.kind.name(),
            rows: frame.kind == FrameKind::ROWS,
            at_us: frame.now_us,
            events: events_of(frame).into_iter().map(name).collect(),
            partitions: positions.iter().filter_map(moved).collect(),
            deaths,
            said: None,
        }
    }

    /// Takes the words of the process that died last, if they are about this frame.
    pub fn heard(&mut self, note: Option<PanicNote>) {
        let about = note.filter(|note| note.lsns.is_some_and(|(first, _)| first == self.lsns.0));
        self.said = about.map(|note| format!("{} ({})", note.message, note.place));
    }

    /// The lines under the headline, with the ways out.
    pub fn report(&self) -> String {
        let mut text = format!("{self}\n");
        let mut line = |name: &str, value: &str| text.push_str(&format!("  {name:<8} {value}\n"));
        line("frame", &format!("LSN {} to {}, {}, written {}", self.lsns.0, self.lsns.1, self.kind, moment(self.at_us)));
        if !self.events.is_empty() {
            line("event", &self.events.join(", "));
        }
        for partition in &self.partitions {
            line("source", partition);
        }
        line("said", self.said.as_deref().unwrap_or("nothing: it was killed, or the kernel ended it"));
        text + &self.ways_out()
    }

    fn ways_out(&self) -> String {
        let first = if self.rows {
            format!(
                "  options  1) streamgauge wal skip {} --data-dir DIR: leaves the rows of this frame out of every table, for good\n",
                self.lsns.0
            )
        } else {
            format!("  options  1) run a program that can apply it. It cannot be skipped: what follows builds on the {}\n", self.kind)
        };
        first
            + "\x20          2) a program of another version tries again by itself; so does this one when DATA/replaying is removed\n\
               \x20          3) put a copy of the data folder from before it back; what Kafka has had since then is read again\n\
               \x20          Nothing was changed; the folder is as it was found.\n"
    }
}

impl fmt::Display for CrashLoop {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the frame at LSN {} ended the last {} starts while it was applied", self.lsns.0, self.deaths)
    }
}

/// A time in UTC to the second.
pub fn moment(us: i64) -> String {
    match jiff::Timestamp::from_microsecond(us) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => format!("{us} us"),
    }
}
