//! The expression language: text -> syntax tree -> flat program.
//!
//! Three-valued, total (no input panics), shared by `where`, chain steps and computed fields. Grammar and meaning are those of the wire contract; a bare
//! top-level comparison is accepted. docs/WHERE.md is its page for users. Pure: no schema or table knowledge beyond a name -> column lookup.

mod compile;
mod foreign;
mod lexer;
mod parser;
mod program;
mod syntax;
mod value;

pub(crate) use compile::cast_kind;
pub use compile::{Compiled, Resolved, TypeMismatch};
pub(crate) use parser::cast_target;
pub use parser::{DEPTH_MAX, EXPRESSION_BYTES_MAX};
pub use program::Program;
pub(crate) use program::{CastTo, Constant, Op};
use std::ops::Range;
pub use syntax::Expression;
pub use value::{Evaluated, ShortText};

/// Why text is no expression over these columns.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ExpressionError {
    /// What is wrong.
    pub reason: String,
    /// Where, in bytes of the text.
    pub span: Range<usize>,
    /// The name that stands for no column, when that is what is wrong.
    pub unknown_name: Option<Box<str>>,
    /// What to write instead, where another language's way is recognised.
    pub hint: Option<Box<str>>,
}

impl ExpressionError {
    fn syntax(reason: String, span: Range<usize>) -> Self {
        let reason = format!("{reason} (at byte {})", span.start);
        Self { reason, span, unknown_name: None, hint: None }
    }

    /// The same with what to write instead.
    fn hint(mut self, hint: Option<impl Into<Box<str>>>) -> Self {
        self.hint = hint.map(Into::into);
        self
    }

    fn unknown_name(name: &str, span: Range<usize>) -> Self {
        let reason = format!("there is no field \"{name}\" (at byte {})", span.start);
        Self { reason, span, unknown_name: Some(name.into()), hint: foreign::word(name).map(Into::into) }
    }
}

#[cfg(test)]
mod tests;
