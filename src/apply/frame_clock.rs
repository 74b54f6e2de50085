//! The time of frames: the wall clock, as far as it can be believed.
//!
//! Frame time only grows, it stands in frames and snapshots, and windows are read at it. A wall clock that
//! jumps ahead by a year, even for a second, would empty every window for a year. So the wall clock is
//! compared with a clock that nobody can set (`CLOCK_BOOTTIME`, which counts a suspended machine too):
//!
//! | the wall clock says | frame time |
//! |---|---|
//! | up to [`STEP_MAX_US`] more than has passed | the wall clock |
//! | more than that | **held**: it goes on with boot time, until the jump is taken back or accepted |
//! | less than frame time (it was set back) | goes on at half the speed until the wall clock has caught up |
//!
//! At half speed rather than standing still: deadlines pass and windows move, and both still meet. Across
//! a restart nobody knows how much time has passed, so a wall clock ahead of the stored time is believed,
//! unless the log says that it was held before; one behind it is a finding ([`Disagreement::Behind`]).
//!
//! Pure: readings in, times out. Who asks the host is [`super::clock`].

/// The wall clock may be stepped this far ahead of elapsed time: NTP after a bad oscillator, a short pause of
/// a virtual machine.
pub const STEP_MAX_US: i64 = 5 * 60 * 1_000_000;

/// What the host's clocks say at one moment, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Since 1970-01-01T00:00:00Z; may be set by anybody.
    pub wall_us: i64,
    /// Since some moment in the past; never set.
    pub boot_us: i64,
}

/// How the wall clock and the time of frames differ, by more than a step may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disagreement {
    /// The wall clock is ahead by this much, and is not believed.
    Ahead {
        /// Microseconds.
        by_us: i64,
    },
    /// The wall clock is behind by this much: it was set back, or it was ahead when frames were written.
    Behind {
        /// Microseconds.
        by_us: i64,
    },
}

/// See the module's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameClock {
    /// The time given last.
    last_us: i64,
    /// Boot time that is accounted for in it.
    boot_us: i64,
    held: bool,
}

impl FrameClock {
    /// Goes on from the time of the last frame; 0 for a log without frames. `held` is what the log says.
    pub fn resume(frame_us: i64, held: bool, reading: Reading) -> Self {
        let held = held && reading.wall_us.saturating_sub(frame_us) > STEP_MAX_US;
        let last_us = if held { frame_us } else { frame_us.max(reading.wall_us) };
        assert!(last_us >= frame_us, "frame time goes on from {frame_us}, not from {last_us}");
        Self { last_us, boot_us: reading.boot_us, held }
    }

    /// The time of a frame that is written now. Never less than what was given before.
    pub fn now(&mut self, reading: Reading) -> i64 {
        let (before_us, accounted_us) = (self.last_us, self.boot_us);
        let elapsed_us = reading.boot_us.saturating_sub(self.boot_us).max(0);
        let expected_us = self.last_us.saturating_add(elapsed_us);
        self.held = reading.wall_us.saturating_sub(expected_us) > STEP_MAX_US;
        let half_us = self.last_us.saturating_add(elapsed_us / 2);
        if self.held {
            self.last_us = expected_us;
            self.boot_us += elapsed_us;
        } else if reading.wall_us >= half_us {
            self.last_us = reading.wall_us;
            self.boot_us += elapsed_us;
        } else {
            // An odd microsecond stays for the next time.
            self.last_us = half_us;
            self.boot_us += elapsed_us - elapsed_us % 2;
        }
        assert!(self.last_us >= before_us, "frame time grows: {before_us} to {}", self.last_us);
        assert!(self.boot_us <= accounted_us.max(reading.boot_us), "no time is accounted for before it has passed");
        self.last_us
    }

    /// Whether the wall clock is not believed.
    pub fn held(&self) -> bool {
        self.held
    }

    /// Whether wall clock and frame time differ by more than a step may, and how.
    pub fn disagreement(&self, reading: Reading) -> Option<Disagreement> {
        let ahead_us = reading.wall_us.saturating_sub(self.last_us);
        match ahead_us {
            by_us if self.held => Some(Disagreement::Ahead { by_us }),
            by_us if by_us < -STEP_MAX_US => Some(Disagreement::Behind { by_us: by_us.saturating_neg() }),
            _ => None,
        }
    }

    /// An operator says that this is the time. The one thing that may set frame time back.
    pub fn accept(&mut self, now_us: i64, reading: Reading) {
        *self = Self { last_us: now_us, boot_us: reading.boot_us, held: false };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;
    const H: i64 = 3600 * S;
    const T: i64 = 1_700_000_000 * S;
    const YEAR: i64 = 365 * 24 * H;

    /// Each step is (seconds that pass, what is added to the wall clock besides) and what frame time gains, in
    /// microseconds, and whether it is held then.
    fn check(name: &str, steps: &[(i64, i64, i64, bool)]) {
        let (mut reading, mut frame_us) = (Reading { wall_us: T, boot_us: 77 }, T);
        let mut clock = FrameClock::resume(T, false, reading);
        for (index, (passes_us, set_us, gains_us, held)) in steps.iter().copied().enumerate() {
            reading.wall_us += passes_us + set_us;
            reading.boot_us += passes_us;
            let now_us = clock.now(reading);
            assert_eq!((now_us - frame_us, clock.held()), (gains_us, held), "{name}, step {index}");
            assert_eq!(clock.now(reading), now_us, "{name}, step {index}: no time has passed");
            assert_eq!(matches!(clock.disagreement(reading), Some(Disagreement::Ahead { .. })), held, "{name}, step {index}");
            frame_us = now_us;
        }
    }

    #[test]
    fn frame_time_follows_the_wall_clock_as_far_as_that_can_be_believed() {
        check("both run", &[(S, 0, S, false), (H, 0, H, false), (0, 0, 0, false)]);
        check("a drift", &[(H, S, H + S, false), (H, -S, H - S, false)]);
        check("a small step ahead", &[(S, STEP_MAX_US, STEP_MAX_US + S, false), (S, 0, S, false)]);
        check("a large step ahead is held", &[(S, STEP_MAX_US + 1, S, true), (H, 0, H, true), (0, 0, 0, true)]);
        check("and ends by itself when it is taken back", &[(S, YEAR, S, true), (H, 0, H, true), (S, -YEAR, S, false), (S, 0, S, false)]);
        check("taken back in part", &[(S, YEAR, S, true), (S, -YEAR + STEP_MAX_US, STEP_MAX_US + S, false)]);
        check("two steps, the second on top", &[(S, YEAR, S, true), (S, YEAR, S, true), (S, -2 * YEAR, S, false)]);
        check("a suspended machine is no step", &[(10 * H, 0, 10 * H, false)]);
        check("set back: half speed until they meet", &[(0, -H, 0, false), (H, 0, H / 2, false), (H, 0, H / 2, false), (S, 0, S, false)]);
        check("set back and forth", &[(0, -H, 0, false), (S, H, S, false)]);
        check("set back by a moment", &[(S, -2, S - 2, false), (S, 0, S, false)]);
    }

    #[test]
    fn a_clock_that_was_set_back_loses_no_odd_microsecond() {
        let mut reading = Reading { wall_us: T - H, boot_us: 0 };
        let mut clock = FrameClock::resume(T, false, reading);
        for _ in 0..1000 {
            reading.boot_us += 1;
            clock.now(reading);
        }
        assert_eq!(clock.now(reading), T + 500);
    }

    #[test]
    fn across_a_restart_the_wall_clock_is_believed_unless_the_log_says_otherwise() {
        use Disagreement::{Ahead, Behind};
        // Stored time, held in the log, wall clock -> frame time at once, held, finding.
        for (frame_us, held, wall_us, now_us, still, finding) in [
            (0, false, T, T, false, None),
            (T, false, T + S, T + S, false, None),
            (T, false, T + YEAR, T + YEAR, false, None),
            (T, false, T - S, T, false, None),
            (T + YEAR, false, T, T + YEAR, false, Some(Behind { by_us: YEAR })),
            (T, true, T + S, T + S, false, None),
            (T, true, T + STEP_MAX_US, T + STEP_MAX_US, false, None),
            (T, true, T + YEAR, T, true, Some(Ahead { by_us: YEAR })),
            (T, true, T - H, T, false, Some(Behind { by_us: H })),
        ] {
            let reading = Reading { wall_us, boot_us: 5 };
            let mut clock = FrameClock::resume(frame_us, held, reading);
            assert_eq!((clock.now(reading), clock.held()), (now_us, still), "{frame_us} {held} {wall_us}");
            assert_eq!(clock.disagreement(reading), finding, "{frame_us} {held} {wall_us}");
        }
    }

    #[test]
    fn accepting_sets_frame_time_to_the_wall_clock_both_ways() {
        for wall_us in [T - YEAR, T, T + YEAR] {
            let mut reading = Reading { wall_us, boot_us: 5 };
            let mut clock = FrameClock::resume(T, true, reading);
            clock.now(reading);
            clock.accept(wall_us, reading);
            assert_eq!((clock.now(reading), clock.held(), clock.disagreement(reading)), (wall_us, false, None));
            (reading.wall_us, reading.boot_us) = (wall_us + S, 5 + S);
            assert_eq!(clock.now(reading), wall_us + S);
        }
    }
}
