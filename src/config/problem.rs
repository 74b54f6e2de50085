//! What is wrong with a config: all of it at once, each with its place, its code and a way out.
//!
//! Shown to people with the lines concerned (miette draws them), to pipes as plain lines, to programs as JSON. Texts of the user are shown, secrets never are.

use super::document::line_and_column;
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report};
use serde_json::{Value as Json, json};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use streamgauge_api::{ApiError, Code};

/// A place in the file and a word on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Bytes of the file.
    pub span: Range<usize>,
    /// What is there; may be empty.
    pub text: String,
}

/// One thing wrong, or worth a warning.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigProblem {
    /// Stable code.
    pub code: Code,
    /// A sentence with names and values.
    pub message: String,
    /// Where in the file, first the place that is to be changed; empty when it is not in the file.
    pub labels: Vec<Label>,
    /// The environment variable or the flag that is wrong, when it is not the file.
    pub origin: Option<String>,
    /// What to do.
    pub help: Option<String>,
    /// Line and column of the first label, from 1.
    pub place: Option<(usize, usize)>,
}

impl ConfigProblem {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), labels: Vec::new(), origin: None, help: None, place: None }
    }

    pub(super) fn at(mut self, span: Range<usize>, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    pub(super) fn from(mut self, origin: impl Into<String>) -> Self {
        self.origin = Some(origin.into());
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    fn advice(&self) -> String {
        format!("{}   (streamgauge errors {})", self.help.as_deref().unwrap_or(self.code.advice()), self.code)
    }
}

/// Everything wrong with a config. Never empty of problems when it is an error.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigProblems {
    /// Name of the file as the user gave it; empty without a file.
    pub file: String,
    /// Its text.
    pub text: Arc<str>,
    /// What makes it invalid, in order of the file.
    pub problems: Vec<ConfigProblem>,
    /// What is accepted but probably not meant.
    pub warnings: Vec<ConfigProblem>,
}

impl ConfigProblems {
    pub(super) fn new(file: String, text: Arc<str>, mut problems: Vec<ConfigProblem>, mut warnings: Vec<ConfigProblem>) -> Self {
        for problem in problems.iter_mut().chain(&mut warnings) {
            for label in &mut problem.labels {
                label.span = first_line(&text, &label.span);
            }
            problem.place = problem.labels.first().map(|label| line_and_column(&text, label.span.start));
        }
        let order = |problem: &ConfigProblem| problem.labels.first().map_or(usize::MAX, |label| label.span.start);
        problems.sort_by_key(order);
        warnings.sort_by_key(order);
        Self { file, text, problems, warnings }
    }

    /// For people: with the lines concerned in colour, or as plain lines without any control byte but line feeds.
    pub fn render(&self, color: bool) -> String {
        if color { self.draw(GraphicalTheme::unicode()) } else { self.plain() }
    }

    /// The lines concerned, drawn without colours.
    pub fn render_graphical(&self) -> String {
        self.draw(GraphicalTheme::unicode_nocolor())
    }

    fn each(&self) -> impl Iterator<Item = (&'static str, &ConfigProblem)> {
        let errors = self.problems.iter().map(|problem| ("error", problem));
        errors.chain(self.warnings.iter().map(|problem| ("warn", problem)))
    }

    fn plain(&self) -> String {
        let mut out = String::new();
        for (word, problem) in self.each() {
            out.push_str(&format!("{word}[{}]: {}\n", problem.code, escaped(&problem.message)));
            match (problem.place, &problem.origin) {
                (Some((line, column)), _) => out.push_str(&format!("  at    {}:{line}:{column}\n", escaped(&self.file))),
                (None, Some(origin)) => out.push_str(&format!("  from  {}\n", escaped(origin))),
                (None, None) => {}
            }
            out.push_str(&format!("  help  {}\n", escaped(&problem.advice())));
        }
        out
    }

    fn draw(&self, theme: GraphicalTheme) -> String {
        let handler = GraphicalReportHandler::new_themed(theme).with_width(100).with_context_lines(1).with_links(false);
        self.each().map(|(word, problem)| self.draw_one(&handler, word, problem)).collect::<Vec<_>>().join("\n")
    }

    fn draw_one(&self, handler: &GraphicalReportHandler, word: &str, problem: &ConfigProblem) -> String {
        let mut out = format!("{word}[{}]: {}\n", problem.code, escaped(&problem.message));
        if let Some(origin) = problem.origin.as_ref().filter(|_| problem.labels.is_empty()) {
            out.push_str(&format!("  from  {}\n", escaped(origin)));
        }
        if problem.labels.is_empty() {
            out.push_str(&format!("  help  {}\n", escaped(&problem.advice())));
            return out;
        }
        let labels = problem.labels.iter().map(|label| {
            let text = Some(escaped(&label.text)).filter(|text| !text.is_empty());
            LabeledSpan::new(text, label.span.start, label.span.len().max(1))
        });
        let diagnostic = MietteDiagnostic::new(String::new()).with_labels(labels);
        let report = Report::new(diagnostic).with_source_code(NamedSource::new(&self.file, escaped(&self.text)));
        let mut drawn = String::new();
        if handler.render_report(&mut drawn, report.as_ref()).is_err() {
            return out;
        }
        // Of the drawing, the frame and the lines concerned are kept: the header is ours, so that a problem opens with its code in every rendering.
        let concerned = |line: &str| match row_number(line) {
            Some(number) => problem.labels.iter().any(|label| line_and_column(&self.text, label.span.start).0 == number),
            None => !line.trim().is_empty() && !line.contains("╰────"),
        };
        let frame: Vec<&str> = drawn.lines().skip_while(|line| !line.contains('╭')).filter(|line| concerned(line)).collect();
        let indent = frame.first().map_or(4, |line| line.chars().take_while(|letter| *letter == ' ').count());
        for line in frame {
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out.push_str(&format!("{}╰─ help: {}\n", " ".repeat(indent), escaped(&problem.advice())));
        out
    }

    /// For programs.
    pub fn to_json(&self) -> Json {
        let list = |problems: &[ConfigProblem]| problems.iter().map(|problem| self.problem_json(problem)).collect::<Vec<Json>>();
        json!({ "file": self.file, "problems": list(&self.problems), "warnings": list(&self.warnings) })
    }

    fn problem_json(&self, problem: &ConfigProblem) -> Json {
        let labels = problem.labels.iter().map(|label| {
            let (line, column) = line_and_column(&self.text, label.span.start);
            json!({ "line": line, "column": column, "bytes": [label.span.start, label.span.end], "text": label.text })
        });
        json!({
            "code": problem.code.as_str(), "message": problem.message, "origin": problem.origin,
            "line": problem.place.map(|place| place.0), "column": problem.place.map(|place| place.1),
            "help": problem.help.as_deref().unwrap_or(problem.code.advice()), "labels": labels.collect::<Vec<_>>(),
        })
    }

    /// As one refusal, for whoever can only tell one; all of them stand in its member `errors`.
    pub fn to_error(&self) -> ApiError {
        let Some(first) = self.problems.first() else { return ApiError::new(Code::InvalidConfigValue, "the config is not valid") };
        let path = match (first.place, &first.origin) {
            (Some((line, column)), _) => format!("{}:{line}:{column}", self.file),
            (None, origin) => origin.clone().unwrap_or_default(),
        };
        let error = ApiError::new(first.code, first.message.clone()).at(path);
        let error = if let Some(help) = &first.help { error.hint(help.clone()) } else { error };
        error.with("errors", self.to_json()["problems"].take())
    }
}

impl fmt::Display for ConfigProblems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.plain().trim_end())
    }
}

impl std::error::Error for ConfigProblems {}

/// A place is told by its first line.
fn first_line(text: &str, span: &Range<usize>) -> Range<usize> {
    let line = text.get(span.clone()).and_then(|part| part.split(['\r', '\n']).next());
    span.start..line.map_or(span.end, |line| span.start + line.len())
}

/// The line number that a row of the drawing shows, behind its colours.
fn row_number(row: &str) -> Option<usize> {
    let (before, _) = row.split_once('│')?;
    let mut number = String::new();
    let mut escape = false;
    for letter in before.chars() {
        match letter {
            '\u{1b}' => escape = true,
            'm' if escape => escape = false,
            _ if escape => {}
            digit if digit.is_ascii_digit() => number.push(digit),
            ' ' => {}
            _ => return None,
        }
    }
    number.parse().ok()
}

/// Text of the user without bytes that move a cursor; as long as before, so that places keep meaning the same.
fn escaped(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() && letter != '\n' && letter != '\t' { replacement(letter) } else { letter }).collect()
}

fn replacement(letter: char) -> char {
    // U+0080..U+009F take two bytes in UTF-8, and so does this.
    if letter.len_utf8() == 1 { '?' } else { '·' }
}
