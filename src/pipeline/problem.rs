//! What is wrong with a declaration, collected so that all of it can be told at once.

use super::expression::{ExpressionError, TypeMismatch};
use std::ops::Range;
use streamgauge_api::{ApiError, Code, did_you_mean};

/// One thing wrong, or worth a warning.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Stable code.
    pub code: Code,
    /// Where in the payload, e.g. `nodes[0].ops[1].agg.n.params.window`.
    pub path: String,
    /// A sentence with names and numbers.
    pub reason: String,
    /// What to try.
    pub hint: Option<String>,
    /// Places inside the expression at `path`, in bytes, each with a word on it.
    pub labels: Vec<(Range<usize>, String)>,
}

impl Problem {
    /// A problem at a place.
    pub fn new(code: Code, path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { code, path: path.into(), reason: reason.into(), hint: None, labels: Vec::new() }
    }

    /// The same with a hint, when there is one.
    #[must_use]
    pub fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// An expression that does not compile.
    pub(super) fn expression(code: Code, path: &str, error: &ExpressionError, known: impl Iterator<Item = String>) -> Self {
        let meant = error.unknown_name.as_deref().and_then(|name| did_you_mean(name, known));
        let hint = meant.or_else(|| error.hint.as_deref().map(str::to_owned));
        let mut problem = Self::new(code, path, error.reason.clone()).hint(hint);
        problem.labels = vec![(error.span.clone(), "here".to_owned())];
        problem
    }

    /// An expression whose types do not go together.
    pub(super) fn mismatch(path: &str, mismatch: TypeMismatch) -> Self {
        let mut problem = Self::new(Code::ExpressionTypeMismatch, path, mismatch.reason).hint(mismatch.hint);
        problem.labels = mismatch.labels;
        problem
    }

    /// As it stands in replies.
    pub fn to_error(&self) -> ApiError {
        let error = ApiError::new(self.code, self.reason.clone()).at(self.path.clone());
        match &self.hint {
            Some(hint) => error.hint(hint.clone()),
            None => error,
        }
    }
}

/// Errors and warnings so far.
#[derive(Debug, Default)]
pub struct Problems {
    /// What makes the declaration invalid, in order of discovery.
    pub errors: Vec<Problem>,
    /// What is accepted but probably not meant.
    pub warnings: Vec<Problem>,
}

impl Problems {
    /// Adds an error.
    pub(super) fn error(&mut self, code: Code, path: impl Into<String>, reason: impl Into<String>) {
        self.errors.push(Problem::new(code, path, reason));
    }

    /// Adds a warning.
    pub(super) fn warning(&mut self, code: Code, path: impl Into<String>, reason: impl Into<String>) {
        self.warnings.push(Problem::new(code, path, reason));
    }
}
