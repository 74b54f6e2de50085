//! `[eventstore]`: a declaration in TOML, or the file that has one.
//!
//! Quoted keys, bare dotted keys and tables come to the same flat keys. `durable.compression` is a
//! value and the beginning of `durable.compression.level`, which bare dotted keys cannot say; it may
//! be `{ codec = "zstd", level = 3 }`.

use super::check::{Check, read_file};
use super::document::{Member, Node, Value, line_and_column};
use super::problem::ConfigProblem;
use crate::eventstore::{Declaration, Literal, Pair, Problem, Store, parse};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use streamgauge_api::{ApiError, Code};

/// A valid declaration and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Eventstore {
    /// What is declared.
    pub declaration: Declaration,
    /// The file, for messages.
    pub file: String,
    /// Its text.
    pub text: Arc<str>,
}

impl Eventstore {
    /// What it comes to.
    ///
    /// # Errors
    /// `eventstore_feature_missing` with everything that this build would not do.
    pub fn store(&self) -> Result<Store, ApiError> {
        self.declaration.store().map_err(|problems| self.told(&problems))
    }

    /// Everything that this build would not do, one by one.
    pub fn missing(&self) -> Vec<ApiError> {
        let problems = self.declaration.store().err().unwrap_or_default();
        problems.iter().map(|problem| problem.told(&self.file, &self.text)).collect()
    }

    /// Where a span stands, as `file:line`.
    pub fn place(&self, span: &Range<usize>) -> String {
        format!("{}:{}", self.file, line_and_column(&self.text, span.start).0)
    }

    fn told(&self, problems: &[Problem]) -> ApiError {
        let Some(first) = problems.first() else { unreachable!("a refusal has a problem") };
        let mut error = first.told(&self.file, &self.text);
        if problems.len() > 1 {
            let all: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
            error.reason = all.join("; ");
            let errors: Vec<_> = problems.iter().map(|problem| problem.told(&self.file, &self.text).to_json()).collect();
            error = error.with("errors", errors.into());
        }
        error
    }
}

/// Reads the declaration that a flag or the file names, if there is one.
pub(super) fn read(check: &mut Check<'_>, flag: Option<&PathBuf>, file: &str) -> Option<Eventstore> {
    let root = check.root;
    let section = root.member("eventstore");
    if let (Some(_), Some(member)) = (flag, section) {
        let message = "the config has an event store, and --eventstore names another one";
        check.problems.push(ConfigProblem::new(Code::EventstoreMultiple, message).at(member.key_span.clone(), "declared here too"));
        return None;
    }
    if let Some(path) = flag {
        return statement(check, path, None);
    }
    let member = section?;
    let Some(members) = member.node.members() else {
        check.error(Code::EventstoreType, format!("`eventstore` is {}; a table is wanted", member.node.kind()), &member.node, "");
        return None;
    };
    if let Some(named) = members.iter().find(|member| member.key == "file") {
        return named_file(check, members, named);
    }
    let mut declaration = Declaration::default();
    for member in members {
        match (member.key.as_str(), member.node.text()) {
            ("name", Some(name)) => declaration.name = Some(name.to_owned()),
            ("name", None) => check.error(Code::EventstoreType, "`name`: a text is wanted", &member.node, ""),
            _ => flatten(check, "", member, &mut declaration.pairs),
        }
    }
    let found = Eventstore { declaration, file: file.to_owned(), text: check.text.into() };
    if let Err(problems) = found.declaration.check() {
        for problem in problems {
            let span = if problem.span.is_empty() { member.key_span.clone() } else { problem.span };
            check.problems.push(ConfigProblem::new(problem.code, problem.message).at(span, "").maybe_help(problem.help));
        }
    }
    Some(found)
}

fn named_file(check: &mut Check<'_>, members: &[Member], named: &Member) -> Option<Eventstore> {
    for other in members.iter().filter(|member| member.key != "file") {
        let message = format!("`{}` stands beside `file`, which has the whole declaration", other.key);
        check.problems.push(ConfigProblem::new(Code::EventstoreMultiple, message).at(other.key_span.clone(), ""));
    }
    match named.node.text() {
        Some(path) if !path.is_empty() => {
            let path = check.folder.join(path);
            statement(check, &path, Some(named.node.span.clone()))
        }
        _ => {
            check.error(Code::EventstoreType, "`file`: a path is wanted", &named.node, "");
            None
        }
    }
}

fn statement(check: &mut Check<'_>, path: &Path, span: Option<Range<usize>>) -> Option<Eventstore> {
    let file = path.display().to_string();
    let text: Arc<str> = match read_file(path) {
        Ok(text) => text.into(),
        Err(error) => {
            let problem = ConfigProblem::new(Code::InvalidConfigValue, format!("the declaration {file} cannot be read: {error}"));
            check.problems.push(match span {
                Some(span) => problem.at(span, ""),
                None => problem.from("--eventstore"),
            });
            return None;
        }
    };
    let declared = parse(&text).map_err(|problem| vec![problem]).and_then(|declaration| declaration.check().map(|()| declaration));
    match declared {
        Ok(declaration) => Some(Eventstore { declaration, file, text }),
        Err(problems) => {
            for problem in problems {
                let (line, column) = line_and_column(&text, problem.span.start);
                let told = ConfigProblem::new(problem.code, problem.message).from(format!("{file}:{line}:{column}"));
                check.problems.push(told.maybe_help(problem.help));
            }
            None
        }
    }
}

/// Adds the pairs below a member under their flat names.
fn flatten(check: &mut Check<'_>, prefix: &str, member: &Member, pairs: &mut Vec<Pair>) {
    let key = if prefix.is_empty() { member.key.clone() } else { format!("{prefix}.{}", member.key) };
    if let Some(members) = member.node.members() {
        for inner in members {
            let codec = key == "durable.compression" && inner.key == "codec";
            match literal(&inner.node) {
                Some(value) if codec => {
                    let (key_span, value_span) = (inner.key_span.clone(), inner.node.span.clone());
                    pairs.push(Pair { key: key.clone(), value, key_span, value_span });
                }
                _ => flatten(check, &key, inner, pairs),
            }
        }
        return;
    }
    match literal(&member.node) {
        Some(value) => {
            pairs.push(Pair { key, value, key_span: member.key_span.clone(), value_span: member.node.span.clone() });
        }
        None => check.error(Code::EventstoreType, format!("`{key}`: {} is no value of a key", member.node.kind()), &member.node, ""),
    }
}

fn literal(node: &Node) -> Option<Literal> {
    Some(match &node.value {
        Value::Text(text) => Literal::Text(text.clone()),
        Value::Integer(number) => Literal::Int(*number),
        Value::Float(number) => Literal::Float(*number),
        Value::Flag(flag) => Literal::Flag(*flag),
        Value::List(items) if !items.is_empty() => Literal::List(items.iter().map(literal).collect::<Option<_>>()?),
        Value::List(_) | Value::Huge(_) | Value::Time(_) | Value::Table(_) => return None,
    })
}
