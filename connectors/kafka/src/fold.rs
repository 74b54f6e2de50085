//! Folds lines that a client says again and again: the first is told, then one a minute with the count
//! of those between.
//!
//! A line is known by its facility and its reason, the part behind the last colon: a broker that is
//! away is told once and not once for each connection, try and count. Bounded: a client that finds
//! ever new words pushes the oldest out, and is then told again.
//!
//! Pure; one per client, asked in `ext::Inbox::log` on librdkafka's threads.

use std::time::{Duration, Instant};

/// How often a line that goes on is told.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Lines that are remembered.
const LINES_MAX: usize = 64;

#[derive(Debug)]
struct Line {
    facility: String,
    reason: String,
    told: Instant,
    /// Since then.
    more: u64,
}

/// The lines that were told lately.
#[derive(Debug, Default)]
pub struct Fold {
    lines: Vec<Line>,
}

impl Fold {
    /// Whether a line is to be told now, and how many like it were not since one was.
    pub fn tells(&mut self, facility: &str, line: &str, now: Instant) -> Option<u64> {
        let reason = reason(line);
        if let Some(known) = self.lines.iter_mut().find(|known| known.facility == facility && known.reason == reason) {
            if now.duration_since(known.told) < TELL_EVERY {
                known.more += 1;
                return None;
            }
            known.told = now;
            return Some(std::mem::take(&mut known.more));
        }
        if self.lines.len() == LINES_MAX {
            self.lines.remove(0);
        }
        self.lines.push(Line { facility: facility.to_owned(), reason: reason.to_owned(), told: now, more: 0 });
        assert!(self.lines.len() <= LINES_MAX, "what is remembered is bounded");
        Some(0)
    }
}

/// What a line is about, without connection, times and counts.
fn reason(line: &str) -> &str {
    let plain = line.split_once(" (after ").map_or(line, |(plain, _)| plain);
    plain.rsplit_once(": ").map_or(plain, |(_, reason)| reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(thread: &str, tries: u32) -> String {
        format!(
            "[thrd:{thread}]: {thread}: Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after {tries}ms in state CONNECT, {tries} identical error(s) suppressed)"
        )
    }

    /// Before, two sources whose broker was away wrote 5.7 lines a second.
    #[test]
    fn a_line_that_goes_on_is_told_once_a_minute_with_its_count() {
        let (mut fold, start) = (Fold::default(), Instant::now());
        let mut told = Vec::new();
        for second in 0..=120 {
            for thread in ["127.0.0.1:9092/bootstrap", "127.0.0.1:9092/1"] {
                told.extend(
                    fold.tells("FAIL", &refused(thread, second), start + Duration::from_secs(second.into())).map(|more| (second, more)),
                );
            }
        }
        assert_eq!(told, [(0, 0), (60, 119), (120, 119)]);
    }

    #[test]
    fn other_words_are_another_line() {
        let (mut fold, now) = (Fold::default(), Instant::now());
        for (facility, line) in [("FAIL", "a: refused"), ("ERROR", "a: refused"), ("FAIL", "a: SASL failed"), ("FAIL", "no colon")] {
            assert_eq!(fold.tells(facility, line, now), Some(0), "{line}");
            assert_eq!(fold.tells(facility, line, now), None, "{line}");
        }
        for number in 0..LINES_MAX {
            fold.tells("FAIL", &number.to_string(), now);
        }
        assert_eq!((fold.tells("FAIL", "a: refused", now), fold.lines.len()), (Some(0), LINES_MAX));
    }
}
