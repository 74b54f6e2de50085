//! Reading one table of the file: known keys, typed values, and problems that point at the place.

use super::document::{Item, Section, Value};
use super::report::Problem;
use crate::pipeline::duration::parse_duration;
use std::ops::Range;
use streamgauge_api::Code;

/// A table being read.
pub(super) struct Reader<'d> {
    /// As messages name it, e.g. `[sources.payments.kafka]`.
    pub(super) place: String,
    /// Where its name stands.
    pub(super) span: Range<usize>,
    pub(super) section: &'d Section,
}

impl<'d> Reader<'d> {
    /// Begins with a check of all keys. `later` are keys of parts that do not exist yet.
    pub(super) fn new(
        place: String,
        span: Range<usize>,
        section: &'d Section,
        known: &[&str],
        later: &[&str],
        problems: &mut Vec<Problem>,
    ) -> Self {
        for entry in &section.entries {
            if later.contains(&entry.key.as_str()) {
                problems.push(Problem::not_available(&entry.key, entry.key_span.clone()));
            } else if !known.contains(&entry.key.as_str()) {
                problems.push(Problem::unknown_key(&entry.key, entry.key_span.clone(), &place, known));
            }
        }
        Self { place, span, section }
    }

    pub(super) fn get(&self, key: &str) -> Option<&'d Item> {
        self.section.get(key)
    }

    /// A problem with a value.
    pub(super) fn wrong(&self, key: &str, item: &Item, wanted: &str, problems: &mut Vec<Problem>) {
        let message = format!("`{key}` of {}: {wanted} is wanted, found {}", self.place, found(item));
        problems.push(Problem::at(Code::InvalidConfigValue, item.span.clone(), message, format!("{wanted} is wanted")));
    }

    /// A required key.
    pub(super) fn required(&self, key: &str, problems: &mut Vec<Problem>) -> Option<&'d Item> {
        let item = self.get(key);
        if item.is_none() {
            let message = format!("{} needs `{key}`", self.place);
            problems.push(Problem::at(Code::MissingConfigKey, self.span.clone(), message, format!("`{key}` is missing")));
        }
        item
    }

    /// Text that is not empty.
    pub(super) fn text(&self, key: &str, problems: &mut Vec<Problem>) -> Option<&'d str> {
        let item = self.get(key)?;
        match item.as_str().filter(|text| !text.is_empty()) {
            Some(text) => Some(text),
            None => {
                self.wrong(key, item, "a string", problems);
                None
            }
        }
    }

    /// One text or a list of them; none of them empty.
    pub(super) fn texts(&self, key: &str, problems: &mut Vec<Problem>) -> Option<Vec<&'d str>> {
        let item = self.get(key)?;
        let texts: Option<Vec<&str>> = match &item.value {
            Value::Str(text) => Some(vec![text.as_str()]),
            Value::List(items) => items.iter().map(Item::as_str).collect(),
            _ => None,
        };
        let texts = texts.filter(|texts| !texts.is_empty() && texts.iter().all(|text| !text.is_empty()));
        if texts.is_none() {
            self.wrong(key, item, "a string or a list of strings", problems);
        }
        texts
    }

    /// One of these words; `default` when it is not given or wrong.
    pub(super) fn choice<T: Copy>(&self, key: &str, words: &[(&str, T)], default: T, problems: &mut Vec<Problem>) -> T {
        let Some(item) = self.get(key) else { return default };
        let chosen = item.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
        if let Some((_, value)) = chosen {
            return *value;
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let message = format!("`{key}` of {}: one of {} is wanted, found {}", self.place, names.join(", "), found(item));
        let problem = Problem::at(Code::InvalidConfigValue, item.span.clone(), message, "not one of them");
        let nearest = item.as_str().and_then(|text| crate::pipeline::nearest(text, names.iter()));
        problems.push(Problem { help: nearest.map(|name| format!("did you mean `{name}`?")), ..problem });
        default
    }

    /// A flag.
    pub(super) fn flag(&self, key: &str, default: bool, problems: &mut Vec<Problem>) -> bool {
        match self.get(key).map(|item| (&item.value, item)) {
            None => default,
            Some((Value::Bool(truth), _)) => *truth,
            Some((_, item)) => {
                self.wrong(key, item, "true or false", problems);
                default
            }
        }
    }

    /// A duration in microseconds.
    pub(super) fn duration_us(&self, key: &str, problems: &mut Vec<Problem>) -> Option<i64> {
        let item = self.get(key)?;
        let us = item.as_str().and_then(|text| parse_duration(text).ok());
        if us.is_none() {
            self.wrong(key, item, "a duration like \"5s\"", problems);
        }
        us
    }

    /// An inner table.
    pub(super) fn section(&self, key: &str, known: &[&str], later: &[&str], problems: &mut Vec<Problem>) -> Option<Reader<'d>> {
        let entry = self.section.entry(key)?;
        match entry.item.as_section() {
            Some(section) => {
                let place = format!("{}.{key}]", self.place.trim_end_matches(']'));
                Some(Reader::new(place, entry.key_span.clone(), section, known, later, problems))
            }
            None => {
                self.wrong(key, &entry.item, "a table", problems);
                None
            }
        }
    }
}

/// What stands there, for messages.
fn found(item: &Item) -> String {
    match item.as_str() {
        Some(text) if text.len() <= 60 => format!("{text:?}"),
        _ => item.kind().to_owned(),
    }
}
