//! Problems of a config file: what is wrong, where, and what to try; and how that looks on a screen.

use crate::pipeline::nearest;
use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents,
};
use std::fmt;
use std::ops::Range;
use streamgauge_api::Code;

/// A place and a word on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Bytes of the file.
    pub span: Range<usize>,
    /// The word; may be empty.
    pub text: String,
}

/// One problem, or one warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stable code.
    pub code: Code,
    /// What is wrong, naming keys and values.
    pub message: String,
    /// Where; empty when it is not in the file (environment, flags).
    pub labels: Vec<Label>,
    /// What to try.
    pub help: Option<String>,
}

impl Problem {
    /// A problem at a place.
    pub(super) fn at(code: Code, span: Range<usize>, message: impl Into<String>, label: impl Into<String>) -> Self {
        Self { code, message: message.into(), labels: vec![Label { span, text: label.into() }], help: None }
    }

    /// A problem that is not in the file.
    pub(super) fn outside(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), labels: Vec::new(), help: None }
    }

    /// The same, with what to try.
    #[must_use]
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// A key that is not known here.
    pub(super) fn unknown_key(key: &str, span: Range<usize>, place: &str, known: &[&str]) -> Self {
        let problem = Self::at(Code::UnknownConfigKey, span, format!("unknown key `{key}`"), format!("not a key of {place}"));
        match nearest(key, known.iter()) {
            Some(name) => problem.help(format!("did you mean `{name}`?")),
            None => problem.help(format!("known here: {}", known.join(", "))),
        }
    }

    /// A key of a part that does not exist.
    pub(super) fn not_available(key: &str, span: Range<usize>) -> Self {
        Self::at(Code::NotAvailable, span, format!("`{key}` is known but not available"), "this part does not exist yet")
            .help("leave it out; docs/CONFIG.md lists what works")
    }

    /// Line and column of the first label, from 1; columns count characters.
    pub fn line_column(&self, text: &str) -> Option<(usize, usize)> {
        let start = self.labels.first()?.span.start.min(text.len());
        let before = text.get(..start)?;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(line_start..)?.chars().count() + 1;
        Some((before.bytes().filter(|byte| *byte == b'\n').count() + 1, column))
    }

    /// As it is shown: with the lines it is about when `fancy`, else on one line.
    pub fn render(&self, file: &str, text: &str, severity: Severity, fancy: Fancy) -> String {
        let head = format!("{}[{}]: {}", severity.word(), self.code, self.message);
        if fancy != Fancy::Plain && !self.labels.is_empty() {
            return self.render_snippet(file, text, &head, fancy);
        }
        let place = self.line_column(text).map_or_else(String::new, |(line, column)| format!("{file}:{line}:{column}: "));
        let help = self.help.as_ref().map_or_else(String::new, |help| format!(" ({help})"));
        format!("{place}{head}{help}\n")
    }

    fn render_snippet(&self, file: &str, text: &str, head: &str, fancy: Fancy) -> String {
        let theme = if fancy == Fancy::Colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_context_lines(1).with_links(false);
        let report = Report { problem: self, file, text };
        let mut body = String::new();
        if handler.render_report(&mut body, &report).is_err() {
            return format!("{head}\n");
        }
        // The head is ours, in the form that logs and replies have; the picture of the place is miette's.
        let picture: String = body.lines().skip_while(|line| !line.contains("\u{256d}")).map(|line| format!("{line}\n")).collect();
        format!("{head}\n{picture}")
    }
}

/// How a problem is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fancy {
    /// One line each, for logs and pipes.
    Plain,
    /// With the lines it is about.
    Picture,
    /// The same in colour.
    Colour,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The config is not used.
    Error,
    /// The config is used.
    Warning,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

struct Report<'r> {
    problem: &'r Problem,
    file: &'r str,
    text: &'r str,
}

impl Report<'_> {
    /// The lines that a span touches.
    fn whole_lines(&self, span: &SourceSpan) -> SourceSpan {
        let start = self.text.get(..span.offset()).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
        let end = span.offset() + span.len().saturating_sub(1);
        let end = self.text.get(end..).and_then(|rest| rest.find('\n')).map_or(self.text.len(), |at| end + at);
        (start, end.saturating_sub(start)).into()
    }
}

impl fmt::Debug for Report<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(out)
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.problem.message)
    }
}

impl std::error::Error for Report<'_> {}

impl Diagnostic for Report<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let code = self.problem.code;
        let more = format!("(streamgauge errors {code})");
        Some(Box::new(match &self.problem.help {
            Some(help) => format!("{help}   {more}"),
            None => format!("{}   {more}", code.advice()),
        }))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let labels = self.problem.labels.iter().map(|label| {
            let text = (!label.text.is_empty()).then(|| label.text.clone());
            LabeledSpan::new(text, label.span.start, label.span.len().max(1))
        });
        Some(Box::new(labels))
    }
}

impl SourceCode for Report<'_> {
    fn read_span<'a>(&'a self, span: &SourceSpan, before: usize, after: usize) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        // The handler asks without context for the place in the head, and with context for the picture: whole lines, and only those.
        let lines = if before == 0 { *span } else { self.whole_lines(span) };
        let contents = self.text.read_span(&lines, 0, after.min(before).saturating_sub(1))?;
        Ok(Box::new(MietteSpanContents::new_named(
            self.file.to_owned(),
            contents.data(),
            *contents.span(),
            contents.line(),
            contents.column(),
            contents.line_count(),
        )))
    }
}
