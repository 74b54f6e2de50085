//! The walk over the file: every key known, every value of the right kind, all problems collected.
//!
//! What depends on several keys (sources, definitions) is read elsewhere, from values this walk has looked at. Values that it finds wrong are left out there in
//! silence, so each problem is told once.

use super::Outside;
use super::document::{Member, Node, Value};
use super::key::{self, Found, Key};
use super::problem::ConfigProblem;
use super::secret::Secret;
use super::value::{Form, one_of};
use std::path::Path;
use streamgauge_api::{Code, did_you_mean, nearest};

/// Longest file that is read: configs and schemas are small, a device never ends.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Words that others have for what some of ours mean.
const MEANT: &[(&str, &[&str])] = &[
    ("skip", &["drop", "discard", "ignore", "count"]),
    ("ignore", &["drop", "discard", "skip"]),
    ("stop", &["fail", "halt", "abort", "error", "pause"]),
    ("dlq", &["keep", "reject", "log", "dead_letter", "dead-letter"]),
    ("reject", &["dlq", "fail", "error"]),
    ("delete_key", &["delete", "remove", "forget"]),
    ("row", &["null", "nulls"]),
    ("refuse_new", &["refuse", "reject", "drop"]),
    ("pause", &["wait", "block", "stop"]),
];

/// A file being checked.
pub(super) struct Check<'c> {
    pub(super) text: &'c str,
    pub(super) root: &'c Node,
    /// Folder of the file, where relative schema paths start.
    pub(super) folder: &'c Path,
    pub(super) outside: &'c Outside<'c>,
    /// Secrets stay empty.
    pub(super) offline: bool,
    pub(super) problems: Vec<ConfigProblem>,
    pub(super) warnings: Vec<ConfigProblem>,
}

impl<'c> Check<'c> {
    /// A variable of the environment; an empty one counts as unset.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.outside.env)(name).filter(|value| !value.is_empty())
    }

    pub(super) fn error(&mut self, code: Code, message: impl Into<String>, node: &Node, label: &str) {
        self.problems.push(ConfigProblem::new(code, message).at(node.span.clone(), label));
    }

    /// Checks all keys and values.
    pub(super) fn walk(&mut self) {
        let root = self.root;
        self.section(root, "", "the config");
        self.interpolations(root);
    }

    fn section(&mut self, table: &'c Node, pattern: &str, shown: &str) {
        for member in table.members().unwrap_or_default() {
            match key::find(pattern, &member.key) {
                None => self.unknown(member, pattern, shown),
                Some((_, Found::Leaf(key))) => self.leaf(key, member),
                Some((inner, Found::Section)) => {
                    let shown = if pattern.is_empty() {
                        format!("[{}]", member.key)
                    } else {
                        format!("{}.{}", shown.trim_end_matches(']'), member.key)
                    };
                    let shown = if shown.starts_with('[') && !shown.ends_with(']') { format!("{shown}]") } else { shown };
                    if member.node.members().is_some() {
                        self.section(&member.node, &inner, &shown);
                    } else {
                        let message = format!("`{}` is {}; a section is wanted", member.key, member.node.kind());
                        let names = key::names_in(&inner).join(", ");
                        let problem =
                            ConfigProblem::new(Code::InvalidConfigValue, message).at(member.node.span.clone(), "a table is wanted");
                        self.problems.push(if names.is_empty() { problem } else { problem.help(format!("it has the keys {names}")) });
                    }
                }
            }
        }
    }

    fn unknown(&mut self, member: &Member, pattern: &str, shown: &str) {
        let names = key::names_in(pattern);
        let place = if shown == "the config" { "no section of the config".to_owned() } else { format!("not a key of {shown}") };
        let problem =
            ConfigProblem::new(Code::UnknownConfigKey, format!("unknown key `{}`", member.key)).at(member.key_span.clone(), place);
        let help = did_you_mean(&member.key, names.iter()).unwrap_or_else(|| format!("known here: {}", names.join(", ")));
        self.problems.push(problem.help(help));
    }

    fn leaf(&mut self, key: &'static Key, member: &'c Member) {
        let node = &member.node;
        match key.form {
            Form::NotAvailable => {
                let message = format!("`{}` is known but not available: {}", member.key, key.help);
                self.problems.push(ConfigProblem::new(Code::NotAvailable, message).at(member.key_span.clone(), "not available"));
            }
            Form::Secret => self.secret_form(&member.key, node),
            Form::Place if node.members().is_some() => self.env_form(&member.key, node),
            Form::Places => self.places_form(&member.key, node),
            Form::Texts => {
                self.texts(&member.key, node);
            }
            // Read where they are understood.
            Form::Time
            | Form::Fields
            | Form::FieldSources
            | Form::Features
            | Form::Client
            | Form::Start
            | Form::History
            | Form::Eventstore => {}
            form => {
                if let Err(wanted) = self.setting_text(form, node) {
                    let problem = ConfigProblem::new(Code::InvalidConfigValue, format!("`{}`: {wanted}", member.key));
                    let meant = node.text().and_then(|text| meant(text, form.words())).map(|meant| format!("{meant} {}", key.help));
                    self.problems.push(problem.at(node.span.clone(), "").help(meant.unwrap_or_else(|| key.help.to_owned())));
                }
            }
        }
    }

    /// A scalar's text when it is of the right kind and in range, else what is wanted.
    pub(super) fn setting_text(&self, form: Form, node: &Node) -> Result<String, String> {
        let wanted = |word: &str| Err(format!("{word} is wanted, found {}", node.kind()));
        let text = match (form, &node.value) {
            (Form::Count { .. } | Form::Size { .. }, Value::Integer(number)) => number.to_string(),
            (Form::Count { .. }, _) => return wanted("a whole number"),
            (Form::Flag, Value::Flag(flag)) => flag.to_string(),
            (Form::Flag, _) => return wanted("true or false"),
            (Form::Origins, Value::List(items)) => match items.iter().map(Node::text).collect::<Option<Vec<&str>>>() {
                Some(origins) if !origins.is_empty() => origins.join(", "),
                _ => return wanted("an array of origins such as \"https://app.example\""),
            },
            (_, Value::Text(text)) => text.clone(),
            (Form::Size { .. }, _) => return wanted("a size such as \"64MiB\""),
            (Form::Duration { .. }, _) => return wanted("a duration such as \"5m\""),
            (Form::Word(words), _) => return Err(format!("{}, found {}", one_of(words), node.kind())),
            _ => return wanted("a string"),
        };
        form.parse(&text).map(|_| text)
    }

    /// An array of strings with something in each.
    pub(super) fn texts(&mut self, key: &str, node: &Node) -> Option<Vec<String>> {
        let Some(items) = node.items() else {
            self.error(Code::InvalidConfigValue, format!("`{key}`: an array of strings is wanted, found {}", node.kind()), node, "");
            return None;
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item.text() {
                Some(text) if !text.is_empty() => texts.push(text.to_owned()),
                Some(_) => self.error(Code::InvalidConfigValue, format!("`{key}`: an empty string"), item, ""),
                None => self.error(Code::InvalidConfigValue, format!("`{key}`: a string is wanted, found {}", item.kind()), item, ""),
            }
        }
        (texts.len() == items.len()).then_some(texts)
    }

    /// The shape of `{ env = "NAME" }`.
    fn env_form(&mut self, key: &str, node: &Node) {
        let advice = "write { env = \"NAME\" }, or the text itself";
        match node.members().unwrap_or_default() {
            [member] if member.key == "env" && member.node.text().is_some_and(|name| !name.is_empty()) => {}
            [member] if member.key == "env" => {
                let problem = ConfigProblem::new(Code::InvalidConfigValue, "`env`: the name of a variable is wanted");
                self.problems.push(problem.at(member.node.span.clone(), "").help(advice));
            }
            members => {
                let wrong = members.iter().find(|member| member.key != "env");
                let (span, word) = wrong.map_or((&node.span, ""), |member| (&member.key_span, "not known here"));
                let problem = ConfigProblem::new(Code::InvalidConfigValue, format!("`{key}` is a text, or {{ env = \"NAME\" }}"));
                self.problems.push(problem.at(span.clone(), word).help(advice));
            }
        }
    }

    /// The shape of a list whose items may stand in the environment.
    fn places_form(&mut self, key: &str, node: &Node) {
        match node.items() {
            None if node.members().is_some() => self.env_form(key, node),
            None => {
                let message = format!("`{key}`: an array of strings, or {{ env = \"NAME\" }}, is wanted, found {}", node.kind());
                self.error(Code::InvalidConfigValue, message, node, "");
            }
            Some(items) => {
                for item in items {
                    match item.text() {
                        Some("") => self.error(Code::InvalidConfigValue, format!("`{key}`: an empty string"), item, ""),
                        Some(_) => {}
                        None if item.members().is_some() => self.env_form(key, item),
                        None => {
                            let message = format!("`{key}`: a string is wanted, found {}", item.kind());
                            self.error(Code::InvalidConfigValue, message, item, "");
                        }
                    }
                }
            }
        }
    }

    /// A text that may stand in the environment; the walk has told what is wrong with its form. Offline the variable is
    /// not asked for, and its name stands for it.
    pub(super) fn place(&mut self, key: &str, node: &Node) -> Option<String> {
        if let Some(text) = node.text() {
            return (!text.is_empty()).then(|| text.to_owned());
        }
        let [member] = node.members()? else { return None };
        let name = member.node.text().filter(|name| member.key == "env" && !name.is_empty())?;
        if self.offline {
            return Some(format!("${name}"));
        }
        let found = self.variable(name);
        if found.is_none() {
            let message = format!("`{key}` is not there: environment variable {name} is not set");
            self.error(Code::SecretUnavailable, message, &member.node, "");
        }
        found
    }

    /// A list whose items may stand in the environment; a variable may hold several, with commas between them.
    pub(super) fn places(&mut self, key: &str, node: &Node) -> Option<Vec<String>> {
        let items = match node.items() {
            Some(items) => items,
            None => std::slice::from_ref(node),
        };
        let mut places = Vec::with_capacity(items.len());
        for item in items {
            let text = self.place(key, item)?;
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned);
            if item.text().is_some() { places.push(text.clone()) } else { places.extend(parts) }
        }
        Some(places)
    }

    /// Texts that hold `${NAME}`: nothing is ever put in their place.
    pub(super) fn interpolations(&mut self, node: &Node) {
        match &node.value {
            Value::Text(text) => {
                let name = text.split_once("${").and_then(|(_, rest)| rest.split_once('}')).map(|(name, _)| name);
                let Some(name) = name.filter(|name| !name.is_empty()) else { return };
                let name = name.split(':').next().unwrap_or(name);
                let message = format!("`${{{name}}}` is taken as it stands: nothing is put into texts of this file");
                let help = format!(
                    "brokers, topics, registries, users and secrets may be {{ env = {name:?} }}; a setting has a variable of its own, such as STREAMGAUGE_LIMITS_MEMORY"
                );
                self.problems.push(ConfigProblem::new(Code::InvalidConfigValue, message).at(node.span.clone(), "").help(help));
            }
            Value::List(items) => items.iter().for_each(|item| self.interpolations(item)),
            // An expression may compare with any text.
            Value::Table(members) => {
                members
                    .iter()
                    .filter(|member| !matches!(member.key.as_str(), "where" | "expr"))
                    .for_each(|member| self.interpolations(&member.node));
            }
            _ => {}
        }
    }

    /// The shape of a secret.
    pub(super) fn secret_form(&mut self, key: &str, node: &Node) {
        let advice = "write { env = \"NAME\" } or { file = \"/path\" }";
        let Some(members) = node.members() else {
            let (code, message) = match &node.value {
                Value::Text(_) => (Code::SecretInConfig, format!("the secret `{key}` stands in the file itself")),
                _ => (Code::InvalidConfigValue, format!("`{key}`: a reference to a secret is wanted, found {}", node.kind())),
            };
            self.problems.push(ConfigProblem::new(code, message).at(node.span.clone(), "").help(advice));
            return;
        };
        for member in members {
            match (member.key.as_str(), member.node.text()) {
                ("env" | "file", Some(text)) if !text.is_empty() => {}
                ("env" | "file", _) => {
                    let problem = ConfigProblem::new(Code::InvalidConfigValue, format!("`{}`: a name is wanted", member.key));
                    self.problems.push(problem.at(member.node.span.clone(), "").help(advice));
                }
                (other, _) => {
                    let problem = ConfigProblem::new(Code::UnknownConfigKey, format!("unknown key `{other}`"))
                        .at(member.key_span.clone(), "not part of a secret");
                    let help = did_you_mean(other, ["env", "file"].iter()).unwrap_or_else(|| advice.to_owned());
                    self.problems.push(problem.help(help));
                }
            }
        }
        let known = members.iter().filter(|member| ["env", "file"].contains(&member.key.as_str())).count();
        if known != 1 && members.len() == known {
            let message = format!("the secret `{key}` needs one of env and file, not {known}");
            self.problems.push(ConfigProblem::new(Code::InvalidConfigValue, message).at(node.span.clone(), "").help(advice));
        }
    }

    /// A secret's text; empty when it is not resolved. None when it is missing, or its form is wrong (which the walk has told).
    pub(super) fn secret(&mut self, key: &str, node: &Node) -> Option<Secret> {
        let [member] = node.members()? else { return None };
        let name = member.node.text().filter(|name| !name.is_empty())?;
        let found = match member.key.as_str() {
            _ if self.offline => Ok(String::new()),
            "env" => self.variable(name).ok_or_else(|| format!("environment variable {name} is not set")),
            "file" => read_file(&self.folder.join(name)).map_err(|error| format!("{name}: {error}")),
            _ => return None,
        };
        match found {
            Ok(text) => Some(Secret::new(text.trim_end_matches(['\r', '\n']))),
            Err(why) => {
                self.error(Code::SecretUnavailable, format!("the secret `{key}` is not there: {why}"), &member.node, "");
                None
            }
        }
    }

    /// A key that has to be there. Silent when an unknown key beside it was probably meant to be it.
    pub(super) fn required<'n>(&mut self, table: &'n Member, key: &str, what: &str) -> Option<&'n Node> {
        let found = table.node.get(key);
        if found.is_none() {
            let members = table.node.members().unwrap_or_default();
            let meant = members.iter().any(|member| {
                let known = self.problems.iter().any(|problem| {
                    problem.code == Code::UnknownConfigKey && problem.labels.iter().any(|label| label.span == member.key_span)
                });
                known && nearest(&member.key, std::iter::once(key)).is_some()
            });
            if !meant {
                let problem = ConfigProblem::new(Code::MissingConfigKey, format!("{what} has no `{key}`"));
                self.problems.push(problem.at(table.key_span.clone(), format!("`{key}` is missing")).help(format!("add `{key}`")));
            }
        }
        found
    }
}

/// The word that somebody meant who wrote another one: what it is elsewhere, or the nearest.
fn meant(text: &str, words: &[&str]) -> Option<String> {
    let lower = text.to_lowercase();
    let same = |word: &&str| MEANT.iter().any(|(ours, others)| ours == word && others.contains(&lower.as_str()));
    let same = words.iter().find(|word| same(word)).map(|word| format!("did you mean `{word}`?"));
    same.or_else(|| did_you_mean(text, words.iter()))
}

/// Reads a small file.
pub(super) fn read_file(path: &Path) -> Result<String, std::io::Error> {
    String::from_utf8(read_bytes(path)?)
        .map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidData, "stream did not contain valid UTF-8"))
}

/// A file's bytes, when it is no larger than a config may be.
pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>, std::io::Error> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}
