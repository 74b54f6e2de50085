//! Columns, numbers and durations as people read them. Pure: text in, text out.

/// Where a column's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// One column: its head, its side, and the least room it takes, gap to the left included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) head: &'static str,
    pub(super) side: Side,
    pub(super) room: usize,
}

/// One line of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// A cell per column.
    Cells(Vec<String>),
    /// Cells for the first columns, then a sentence over the rest.
    Sentence(Vec<String>, String),
}

/// Lays the lines out under their heads. Columns grow with their cells; sentences do not count.
pub(super) fn table(columns: &[Column], lines: &[Line]) -> Vec<String> {
    let rooms: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let cells = lines.iter().filter_map(|line| match line {
                Line::Cells(cells) | Line::Sentence(cells, _) => cells.get(index),
            });
            let widest = cells.map(|cell| width(cell)).max().unwrap_or(0).max(width(column.head));
            // The first column has no gap; the others keep one blank at least.
            column.room.max(widest + usize::from(index > 0))
        })
        .collect();
    let put = |text: &mut String, index: usize, cell: &str| {
        let (Some(column), Some(room)) = (columns.get(index), rooms.get(index)) else { return };
        let blanks = room.saturating_sub(width(cell));
        match column.side {
            // A left column's gap stands before it.
            Side::Left if index > 0 => text.push_str(&format!("  {cell}{}", " ".repeat(blanks.saturating_sub(2)))),
            Side::Left => text.push_str(&format!("{cell}{}", " ".repeat(blanks))),
            Side::Right => text.push_str(&format!("{}{cell}", " ".repeat(blanks))),
        }
    };
    let mut laid = Vec::with_capacity(lines.len() + 1);
    let mut heads = String::new();
    for (index, column) in columns.iter().enumerate() {
        put(&mut heads, index, column.head);
    }
    laid.push(heads.trim_end().to_owned());
    for line in lines {
        let mut text = String::new();
        let (Line::Cells(cells) | Line::Sentence(cells, _)) = line;
        for (index, cell) in cells.iter().enumerate() {
            put(&mut text, index, cell);
        }
        if let Line::Sentence(_, sentence) = line {
            text.push_str("   ");
            text.push_str(sentence);
        }
        laid.push(text.trim_end().to_owned());
    }
    laid
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// An integer in groups of three: `62 280`.
pub(super) fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if number < 0 {
        text.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A rate per second: whole from 10 on, one decimal below.
pub(super) fn rate(per_second: f64) -> String {
    if per_second.is_finite() && per_second > 0.0 && per_second < 9.95 {
        return format!("{per_second:.1}");
    }
    grouped(whole(per_second))
}

/// A duration in its two largest units: `0.2 s`, `45 s`, `1m 4s`, `2h 3m`, `3d 4h`.
pub(super) fn duration(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{:.1} s", seconds.max(0.0));
    }
    time_left(seconds)
}

/// A duration without fractions, rounded up: a promise that is kept.
pub(super) fn time_left(seconds: f64) -> String {
    let seconds = whole(seconds.ceil());
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A size in binary units with two or three digits: `12 KiB`, `1.2 GiB`.
pub(super) fn bytes(size: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if size < 1024 {
        return format!("{size} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "two or three digits are shown")]
    let mut value = size as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1023.5 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if value < 9.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

#[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate, which is what a display wants")]
fn whole(value: f64) -> i64 {
    value.round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1 000"),
            (62_280, "62 280"),
            (-1_234_567, "-1 234 567"),
            (i64::MIN, "-9 223 372 036 854 775 808"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn durations_are_short() {
        for (seconds, text) in [
            (0.0, "0.0 s"),
            (0.24, "0.2 s"),
            (9.94, "9.9 s"),
            (9.96, "10 s"),
            (59.2, "1m 0s"),
            (64.0, "1m 4s"),
            (7380.0, "2h 3m"),
            (273_600.0, "3d 4h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!(time_left(6.2), "7 s");
        assert!(duration(f64::NAN).ends_with(" s") && time_left(f64::INFINITY).ends_with('h'));
    }

    #[test]
    fn rates_and_sizes_are_short() {
        for (value, text) in [(0.0, "0"), (0.04, "0.0"), (1.25, "1.2"), (9.96, "10"), (1210.4, "1 210")] {
            assert_eq!(rate(value), text);
        }
        for (size, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (12_288, "12 KiB"),
            (1_048_575, "1.0 MiB"),
            (1_288_490_189, "1.2 GiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn columns_grow_and_sentences_do_not_count() {
        let columns = [Column { head: "A", side: Side::Left, room: 4 }, Column { head: "B", side: Side::Right, room: 4 }];
        let lines = [
            Line::Cells(vec!["longer".into(), "1".into()]),
            Line::Sentence(vec!["x".into()], "a sentence of any length".into()),
            Line::Cells(vec!["y".into(), "12345".into()]),
        ];
        assert_eq!(table(&columns, &lines), ["A          B", "longer     1", "x        a sentence of any length", "y      12345"]);
    }
}
