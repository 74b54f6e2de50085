//! The clock of this process: every thread's `now`, and what the engine does about a wall clock that jumps.
//!
//! One [`EngineClock`] stands behind every `Arc<dyn Clock>` that is handed out, so inlets, ports, reads and
//! frames speak of the same time, and none of them sees a jump that [`FrameClock`] holds. The engine looks
//! at it once a tick: that the wall clock is not believed is written to the log (a clock frame), so that a
//! restart does not believe it either, and is an incident until it is over. `clock accept` is the operator's
//! word that the wall clock is right: a clock frame that may set frame time back, too.
//!
//! Any thread reads it; a reading costs two clocks and one short lock. Only the seat writes clock frames.

use super::engine::Engine;
use super::frame_clock::{Disagreement, FrameClock, Reading};
use super::incidents::{IncidentText, Subject};
use crate::state::Content;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use streamgauge_api::source::IncidentKind;
use streamgauge_api::{ApiError, Clock};

/// See the module's head.
pub struct EngineClock {
    host: Arc<dyn Clock>,
    frame: Mutex<FrameClock>,
}

impl EngineClock {
    /// Over the host's clocks; there is no log yet.
    pub fn over(host: Arc<dyn Clock>) -> Arc<Self> {
        let frame = FrameClock::resume(0, false, reading_of(&*host));
        Arc::new(Self { host, frame: Mutex::new(frame) })
    }

    /// The time of a frame that is written now, and of a read.
    pub fn now_us(&self) -> i64 {
        let mut frame = self.frame.lock();
        frame.now(reading_of(&*self.host))
    }

    /// Goes on from the last frame of a log.
    pub fn resume(&self, frame_us: i64, held: bool) {
        let mut frame = self.frame.lock();
        *frame = FrameClock::resume(frame_us, held, reading_of(&*self.host));
    }

    /// Whether the wall clock is not believed now, and how it differs from the time of frames.
    pub(crate) fn look(&self) -> (bool, Option<Disagreement>) {
        let mut frame = self.frame.lock();
        let reading = reading_of(&*self.host);
        frame.now(reading);
        (frame.held(), frame.disagreement(reading))
    }

    /// The wall clock, believed or not.
    pub(crate) fn wall_us(&self) -> i64 {
        self.host.now_us()
    }

    fn accept(&self, now_us: i64) {
        self.frame.lock().accept(now_us, reading_of(&*self.host));
    }
}

/// The wall clock first: a thread that is held up between the two sees more elapsed time, never a step.
fn reading_of(host: &dyn Clock) -> Reading {
    let wall_us = host.now_us();
    Reading { wall_us, boot_us: host.boot_us() }
}

impl Clock for EngineClock {
    fn now_us(&self) -> i64 {
        Self::now_us(self)
    }

    fn boot_us(&self) -> i64 {
        self.host.boot_us()
    }
}

impl Engine {
    /// Compares the wall clock with the time of frames: what differs is an incident, and what is held is in the log.
    pub(super) fn watch_clock(&mut self, now_us: i64) {
        let (held, disagreement) = self.clock.look();
        match disagreement {
            Some(found) => {
                let wall_us = self.clock.wall_us();
                self.facts.incidents.open(IncidentKind::ClockJump, &Subject::Server, now_us, || text(found, wall_us));
            }
            None => {
                self.facts.incidents.close(IncidentKind::ClockJump, &Subject::Server);
            }
        }
        if held != self.state.clock_held() {
            let frame = Content::Clock { now_us, held };
            if let Err(error) = self.commit(&frame) {
                // The incident stands; the next tick tries again.
                tracing::debug!(%error, held, "the state of the clock could not be written to the log");
            }
        }
    }

    /// The operator's word that the wall clock is right. Frame time is set to it, back or ahead.
    ///
    /// # Errors
    /// As [`Engine::commit`]; nothing has changed then.
    pub(super) fn accept_clock(&mut self) -> Result<Json, ApiError> {
        let (was_us, wall_us) = (self.clock.now_us(), self.clock.wall_us());
        let frame = Content::Clock { now_us: wall_us, held: false };
        let lsn = self.commit(&frame)?;
        assert_eq!((self.state.frame_us(), self.state.clock_held()), (wall_us, false), "frame time is what was accepted");
        self.clock.accept(wall_us);
        // Incidents are told in frame time; timers go by boot time and need no care.
        self.facts.incidents.set_back(wall_us);
        self.facts.incidents.close(IncidentKind::ClockJump, &Subject::Server);
        tracing::warn!(kind = "clock.accepted", was_us, now_us = wall_us, lsn, "the time of frames was set to the wall clock");
        Ok(json!({"was_us": was_us, "now_us": wall_us, "moved_s": (wall_us.saturating_sub(was_us)) / 1_000_000, "lsn": lsn}))
    }
}

fn text(found: Disagreement, wall_us: i64) -> IncidentText {
    let accept = "if the wall clock is right: streamgauge clock accept".to_owned();
    let set = "if it is wrong: set the host's clock (NTP); the incident then closes by itself".to_owned();
    match found {
        Disagreement::Ahead { by_us } => IncidentText {
            cause: "ahead".into(),
            lost: "nothing".into(),
            holds: "the time of frames goes on with the time that has passed; windows, lateness and reads go by it".into(),
            evidence: format!("the wall clock says {}, {} more than has passed since the last frame", moment(wall_us), span(by_us)),
            actions: vec![set, accept],
        },
        Disagreement::Behind { by_us } => IncidentText {
            cause: "behind".into(),
            lost: format!("windows shorter than {} hold only rows of the time ahead: rows of now lie that far in their past", span(by_us)),
            holds: "lifetime features; nothing is dropped from the log. Frame time goes on at half the speed until both meet".into(),
            evidence: format!(
                "the last frame is {} beyond the wall clock, which says {}: it was set back, or frames were written while it was ahead",
                span(by_us),
                moment(wall_us)
            ),
            actions: vec![
                set,
                format!("{accept} (sets frame time back by {}; keys that had rows of the time ahead read them once it comes)", span(by_us)),
            ],
        },
    }
}

/// A time in UTC to the second.
fn moment(us: i64) -> String {
    match jiff::Timestamp::from_microsecond(us) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => format!("{us} us"),
    }
}

/// A length of time in its largest two units.
fn span(us: i64) -> String {
    let s = us.unsigned_abs() / 1_000_000;
    match s {
        0..120 => format!("{s} s"),
        120..7200 => format!("{} min {} s", s / 60, s % 60),
        7200..172_800 => format!("{} h {} min", s / 3600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3600 % 24),
    }
}
