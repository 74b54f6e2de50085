//! One thing wrong with a declaration, and where.

use std::ops::Range;
use streamgauge_api::{ApiError, Code};

/// See the module's head.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Stable code.
    pub code: Code,
    /// A sentence with names and values.
    pub message: String,
    /// Bytes of the text that it is about.
    pub span: Range<usize>,
    /// What to do.
    pub help: Option<String>,
    /// The key that it is about; empty where it is none.
    pub key: String,
}

impl Problem {
    pub(super) fn new(code: Code, message: impl Into<String>, span: Range<usize>) -> Self {
        Self { code, message: message.into(), span, help: None, key: String::new() }
    }

    pub(super) fn of(mut self, key: &str) -> Self {
        key.clone_into(&mut self.key);
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The problem in a text of this name: file, line and column of it.
    pub fn told(&self, file: &str, text: &str) -> ApiError {
        let (line, column) = line_and_column(text, self.span.start);
        let error = ApiError::new(self.code, &self.message).at(format!("{file}:{line}:{column}"));
        let error = error.with("line", line.into()).with("column", column.into());
        let error = if self.key.is_empty() { error } else { error.with("key", self.key.clone().into()) };
        match &self.help {
            Some(help) => error.hint(help),
            None => error,
        }
    }
}

/// Line and column of a byte, both from 1; columns count characters.
pub(crate) fn line_and_column(text: &str, byte: usize) -> (usize, usize) {
    let mut end = byte.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = text.get(..end).unwrap_or_default();
    let last = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, last.chars().count() + 1)
}
