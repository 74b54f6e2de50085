//! What is known about bytes that a crash cannot explain, and how it is told to the person who has to decide.

use std::fmt::Write as _;
use std::path::PathBuf;

/// In which way bytes are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamageKind {
    /// The segment's header is not readable.
    Header,
    /// A frame's or footer's checksum does not fit, or no frame begins where one must.
    Checksum,
    /// The file ends inside of a frame.
    Short,
    /// Zeroes where a frame must be.
    Hole,
    /// The log ends before rows that are known to have been synced.
    EndMissing,
}

impl DamageKind {
    /// One word for machines.
    pub fn as_str(self) -> &'static str {
        match self {
            DamageKind::Header => "header",
            DamageKind::Checksum => "checksum",
            DamageKind::Short => "short",
            DamageKind::Hole => "hole",
            DamageKind::EndMissing => "end_missing",
        }
    }

    fn cause(self) -> &'static str {
        match self {
            DamageKind::Header => "the segment's header does not fit its checksum: a disk or memory fault, not a crash",
            DamageKind::Checksum => "checksum mismatch at or below the durable LSN: a disk or memory fault, not a crash",
            DamageKind::Short => "the file ends inside of a frame that was synced: it was cut, not torn by a crash",
            DamageKind::Hole => "zeroes where a synced frame must be: a disk fault or a lost write, not a crash",
            DamageKind::EndMissing => "the log ends before rows that were synced: it was cut, or a disk lied about a sync",
        }
    }
}

/// Damage at or below the durable LSN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// In which way.
    pub kind: DamageKind,
    /// The segment.
    pub file: PathBuf,
    /// First damaged byte of the file, as far as frames tell.
    pub offset_bytes: u64,
    /// First LSN that cannot be read: the one after the last good row.
    pub first_lsn: u64,
    /// Last LSN that cannot be read, when a sound frame follows.
    pub last_lsn: Option<u64>,
    /// Time of the last sound frame before, microseconds since the Unix epoch.
    pub after_us: Option<i64>,
    /// Time of the first sound frame behind.
    pub before_us: Option<i64>,
    /// Highest LSN known to have been synced.
    pub durable_lsn: u64,
}

impl Damage {
    /// The lines under the headline: file, range, cause, and the ways out.
    pub fn report(&self) -> String {
        let mut text = String::new();
        let last_good = self.first_lsn.saturating_sub(1);
        let file = self.file.display();
        let mut line = |name: &str, value: std::fmt::Arguments<'_>| {
            // Writing to a string cannot fail.
            writeln!(text, "  {name:<8} {value}").unwrap_or_default();
        };
        line("file", format_args!("{file} at byte {} (LSN {})", grouped(self.offset_bytes), grouped(self.first_lsn)));
        match self.last_lsn {
            Some(last) => line(
                "damaged",
                format_args!(
                    "LSN {} to {} ({} rows{}); sound frames follow",
                    grouped(self.first_lsn),
                    grouped(last),
                    grouped(last.saturating_sub(last_good)),
                    self.times()
                ),
            ),
            None => line(
                "damaged",
                format_args!(
                    "from LSN {} on, at least up to the durable LSN {}{}",
                    grouped(self.first_lsn),
                    grouped(self.durable_lsn.max(self.first_lsn)),
                    self.times()
                ),
            ),
        }
        line("cause", format_args!("{}", self.kind.cause()));
        text + ways_out()
    }

    fn times(&self) -> String {
        match (self.after_us, self.before_us) {
            (Some(after), Some(before)) => format!(", {} to {}", moment(after), moment(before)),
            (Some(after), None) => format!(", after {}", moment(after)),
            _ => String::new(),
        }
    }
}

/// The ways out that stand under every refusal.
pub(super) fn ways_out() -> &'static str {
    "  options  1) put a sound copy of the data folder back; what Kafka has had since then is read again\n\
     \u{20}          2) move the data folder away and start with an empty one: every source is read again from its `start`; pushed events are not\n\
     \u{20}          Nothing was changed; the folder is as it was found.\n"
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A time in UTC to the second.
fn moment(us: i64) -> String {
    match jiff::Timestamp::from_microsecond(us) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("{us} us"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_file_byte_rows_times_and_ways_out() {
        let damage = Damage {
            kind: DamageKind::Checksum,
            file: "wal/000000000042.seg".into(),
            offset_bytes: 1_048_832,
            first_lsn: 918_220,
            last_lsn: Some(918_236),
            after_us: Some(1_795_146_062_000_000),
            before_us: Some(1_795_146_063_000_000),
            durable_lsn: 918_400,
        };
        let report = damage.report();
        for part in [
            "file     wal/000000000042.seg at byte 1 048 832 (LSN 918 220)",
            "damaged  LSN 918 220 to 918 236 (17 rows, 2026-11-20 03:41:02 to 2026-11-20 03:41:03); sound frames follow",
            "checksum mismatch at or below the durable LSN",
            "put a sound copy of the data folder back",
        ] {
            assert!(report.contains(part), "{part:?} is missing in\n{report}");
        }
    }
}
