//! The one place that writes: stdout for data, stderr for talk, never a control byte.

use std::borrow::Cow;
use std::io::{self, Write};

use serde_json::{Value as Json, json};
use streamgauge_api::ApiError;

/// Where a verb writes.
pub struct Console<'a> {
    /// Data.
    pub out: &'a mut dyn Write,
    /// Talk.
    pub err: &'a mut dyn Write,
    /// Whether data is written as JSON.
    pub json: bool,
}

impl<'a> Console<'a> {
    /// A console over two streams.
    pub fn new(out: &'a mut dyn Write, err: &'a mut dyn Write, json: bool) -> Self {
        Self { out, err, json }
    }

    /// Writes one line of data, control characters escaped, trailing blanks cut.
    ///
    /// # Errors
    /// The stream's.
    pub fn line(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{}", plain(line.trim_end()))
    }

    /// Writes one line of talk.
    ///
    /// # Errors
    /// The stream's.
    pub fn talk(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.err, "{}", plain(line.trim_end()))
    }

    /// Writes one JSON document on one line and flushes it, so that a reader of a pipe sees it at once.
    ///
    /// # Errors
    /// The stream's.
    pub fn document(&mut self, document: &Json) -> io::Result<()> {
        writeln!(self.out, "{}", plain_json(&document.to_string()))?;
        self.out.flush()
    }

    /// Tells a refusal: as JSON on stdout with `--json`, else in words on stderr.
    ///
    /// # Errors
    /// The stream's.
    pub fn refusal(&mut self, error: &ApiError) -> io::Result<()> {
        if self.json {
            return self.document(&json!({"error": error.to_json()}));
        }
        // A report of a damaged log has lines of its own.
        let mut lines = error.reason.lines();
        self.talk(&format!("error[{}]: {}", error.code, lines.next().unwrap_or_default()))?;
        lines.try_for_each(|line| self.talk(line))?;
        if !error.path.is_empty() {
            self.talk(&format!("  at    {}", error.path))?;
        }
        let mut hint = error.hint.as_deref().unwrap_or(error.code.advice()).lines();
        self.talk(&format!("  hint  {}   (streamgauge errors {})", hint.next().unwrap_or_default(), error.code))?;
        hint.try_for_each(|line| self.talk(&format!("        {line}")))
    }
}

/// Whether a terminal does something else with it than to show it: control characters, and those that turn the order of
/// letters, hide in a line or end one, so that a text reads as another one than it is.
fn acts(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The text without anything that moves a cursor, colours a terminal or turns the order of letters: shown as escapes.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    // A tab and a line's end have short escapes.
    escaped(text, |letter| letter.escape_default().to_string())
}

/// The same of a JSON document, which means what it meant: it has such characters in its strings alone.
fn plain_json(text: &str) -> Cow<'_, str> {
    let escape = |letter: char| format!("\\u{:04x}", u32::from(letter));
    escaped(text, escape)
}

fn escaped(text: &str, escape: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.chars().any(acts) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().fold(String::with_capacity(text.len() + 8), |mut shown, letter| {
        if acts(letter) {
            shown.push_str(&escape(letter));
        } else {
            shown.push(letter);
        }
        shown
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_never_reach_the_terminal() {
        for (text, shown) in [
            ("plain ü ✓", "plain ü ✓"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("a\tb\nc\u{9b}\u{7f}", "a\\tb\\nc\\u{9b}\\u{7f}"),
            // What turns the order of letters, or cannot be seen.
            ("user\u{202e}gpj.exe\u{2066}", "user\\u{202e}gpj.exe\\u{2066}"),
            ("a\u{200b}b\u{2028}c\u{feff}", "a\\u{200b}b\\u{2028}c\\u{feff}"),
        ] {
            assert_eq!(plain(text), shown);
        }
    }

    /// A document went out as it was: escapes of eight bits, which JSON allows in its strings, reached the terminal.
    #[test]
    fn a_document_acts_on_no_terminal_and_means_what_it_meant() {
        let document = json!({"key\u{9b}2J": ["\u{1b}]0;x\u{7}", "\u{85}\u{202e}\u{7f}", "ü ✓ 🎉"]});
        let (mut out, mut err) = (Vec::new(), Vec::new());
        Console::new(&mut out, &mut err, true).document(&document).expect("memory takes all");
        let text = String::from_utf8(out).expect("it is text");
        assert!(!text.trim_end().chars().any(acts), "{text:?}");
        assert!(text.contains("\\u009b2J") && text.contains("ü ✓ 🎉"), "{text}");
        assert_eq!(serde_json::from_str::<Json>(&text).expect("it is JSON"), document);
    }

    #[test]
    fn a_report_of_several_lines_is_told_line_by_line() {
        use streamgauge_api::Code;
        let report = ApiError::new(Code::WalDamaged, "segment 3 is damaged\n  cause    a \u{1b}byte\n  options  1) a copy\n");
        for (error, hint) in [
            (report.clone(), "put a copy of the damaged file back"),
            (report.hint("one\ntwo"), "one   (streamgauge errors wal_damaged)\n        two"),
        ] {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            Console::new(&mut out, &mut err, false).refusal(&error).expect("memory takes all");
            let told = String::from_utf8(err).expect("it is text");
            let head = "error[wal_damaged]: segment 3 is damaged\n  cause    a \\u{1b}byte\n  options  1) a copy\n  hint  ";
            assert!(told.starts_with(&format!("{head}{hint}")), "{told}");
            assert!(!told.contains("\\n"), "{told}");
        }
    }
}
