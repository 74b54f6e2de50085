//! Where sources take the fields of their events from: what the config says, kept with the definitions so
//! that a later config can be compared with it.
//!
//! Rows know fields, not the places they came from. A field that is taken from another place has other
//! values from then on, while its features hold both; so such a change is found here and told. A source is
//! known by its name, or by its topics when it has another name now. So are its topics, and what else it
//! says of how records are read (format, mode, columns, what a tombstone means): another word on these
//! changes no table by itself, but what comes from then on. Written by the config alone; nothing here
//! decides what a difference does to the state.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What one source says about one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Projection {
    /// What it reads: topic names, or one pattern. The same under another name of the source.
    pub topics: Vec<String>,
    /// What it says of how records are read beside their fields' places: keys of the config and their
    /// values as JSON, defaults too. Empty where that was not kept.
    #[serde(default)]
    pub said: BTreeMap<Box<str>, String>,
    /// For each field, the places that hold its value, as the config writes them: one, or a path with its
    /// former paths.
    pub fields: BTreeMap<Box<str>, Vec<String>>,
}

impl Projection {
    /// The columns of its lines, in their order; none where records are no lines.
    fn columns(&self) -> Option<Vec<String>> {
        serde_json::from_str(self.said.get(COLUMNS)?).ok()
    }

    /// The places of a field as they are compared: of lines the numbers of their columns, as long as the
    /// other lines have as many. A line that has more or fewer is a bad record to either reading.
    fn places(&self, field: &str, other: &Self) -> Option<Vec<String>> {
        let places = self.fields.get(field)?;
        let (Some(columns), Some(others)) = (self.columns(), other.columns()) else { return Some(places.clone()) };
        if columns.len() != others.len() {
            return Some(places.clone());
        }
        let number = |place: &String| match columns.iter().position(|column| column == place) {
            Some(at) => format!("column {} of {}", at + 1, columns.len()),
            None => place.clone(),
        };
        Some(places.iter().map(number).collect())
    }
}

/// The key of [`Projection::said`] under which the columns of lines stand.
pub const COLUMNS: &str = "csv.columns";

/// What a source's records are read by otherwise than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reread {
    /// The event that it feeds.
    pub event: Box<str>,
    /// The source, under its present name.
    pub source: Box<str>,
    /// A sentence with both readings.
    pub what: String,
}

/// Of every event, by source.
pub type Projections = BTreeMap<Box<str>, BTreeMap<Box<str>, Projection>>;

/// A field that a source takes from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) source: String,
    pub(super) field: String,
    pub(super) from: Vec<String>,
    pub(super) to: Vec<String>,
}

impl Moved {
    /// Whether the declaration says that it is the same value: the places before and after have one in common.
    pub(super) fn is_the_same_value(&self) -> bool {
        self.from.iter().any(|place| self.to.contains(place))
    }

    /// Places as a person reads them.
    pub(super) fn text(places: &[String]) -> String {
        places.join(" or ")
    }

    /// The line that declares both places to hold the same value; only paths can stand in a list.
    pub(super) fn kept_by(&self) -> Option<String> {
        let is_path = |place: &String| {
            !place.starts_with("column ")
                && !["key", "topic", "partition", "offset", "timestamp"].contains(&place.as_str())
                && !place.starts_with("header:")
                && !place.ends_with(')')
        };
        let places: Vec<&String> = self.to.iter().chain(&self.from).collect();
        places.iter().all(|place| is_path(place)).then(|| {
            let list: Vec<String> = places.iter().map(|place| format!("{place:?}")).collect();
            format!("fields.{} = [{}] in [sources.{}] says that both hold the same value", self.field, list.join(", "), self.source)
        })
    }
}

/// The stored word on a source: by its name, else that of a source which is gone and had the same topics.
fn before<'s>(
    stored: &'s BTreeMap<Box<str>, Projection>,
    now: &BTreeMap<Box<str>, Projection>,
    name: &str,
    projection: &Projection,
) -> Option<(&'s str, &'s Projection)> {
    let gone_with_its_topics = || {
        let mut gone = stored.iter().filter(|(name, _)| !now.contains_key(*name));
        gone.find(|(_, known)| known.topics == projection.topics)
    };
    let (name, known) = stored.get_key_value(name).or_else(gone_with_its_topics)?;
    Some((name, known))
}

/// Fields of one event that its sources take from elsewhere than stored.
pub(super) fn moved(stored: &Projections, now: &Projections, event: &str) -> Vec<Moved> {
    let (Some(stored), Some(now)) = (stored.get(event), now.get(event)) else { return Vec::new() };
    let mut moved = Vec::new();
    for (source, projection) in now {
        let Some((_, known)) = before(stored, now, source, projection) else { continue };
        for field in projection.fields.keys() {
            let (Some(from), Some(to)) = (known.places(field, projection), projection.places(field, known)) else { continue };
            if from != to {
                moved.push(Moved { source: source.to_string(), field: field.to_string(), from, to });
            }
        }
    }
    moved
}

/// What sources say otherwise of how their records are read, as sentences with what that means.
pub(super) fn retold(stored: &Projections, now: &Projections) -> Vec<Reread> {
    let mut told = Vec::new();
    for (event, sources) in now {
        let Some(stored) = stored.get(event) else { continue };
        for (source, projection) in sources {
            let Some((_, known)) = before(stored, sources, source, projection) else { continue };
            let words = other_words(known, projection).into_iter().map(|what| format!("source {source} of {event} {what}"));
            let all = other_topics(event, source, known, projection).into_iter().chain(words);
            told.extend(all.map(|what| Reread { event: event.clone(), source: source.clone(), what }));
        }
    }
    told
}

/// Keys of the file that have another value than before, of what both know.
fn other_words(known: &Projection, now: &Projection) -> Vec<String> {
    if known.said.is_empty() {
        return Vec::new();
    }
    let keys: BTreeSet<&str> = known.said.keys().chain(now.said.keys()).map(|key| &**key).collect();
    let other_format = known.said.get("format") != now.said.get("format");
    let told = |key: &&str| {
        let (from, to) = (known.said.get(*key), now.said.get(*key));
        // What only one of two formats has is said with the format; of a field that is new, no row knows another reading.
        let is_new = of_field(key).is_some_and(|field| !known.fields.contains_key(field) || !now.fields.contains_key(field));
        from != to && !is_new && (!other_format || from.is_some() && to.is_some())
    };
    let sentence = |key: &str| {
        let what = match (known.said.get(key), now.said.get(key)) {
            (Some(from), Some(to)) => format!("has {key} = {to} instead of {from}"),
            (None, Some(to)) => format!("has {key} = {to}, which it had not before"),
            (Some(from), None) => format!("has no {key} any more, which was {from}"),
            (None, None) => unreachable!("{key} is of one of them"),
        };
        let means = now.said.get(key).map_or("records are read without it from now on", |to| means(key, to));
        format!("{what}: {means}; those before keep what they did")
    };
    keys.into_iter().filter(told).map(sentence).collect()
}

/// The field that a key is about, if it is about one.
fn of_field(key: &str) -> Option<&str> {
    key.strip_prefix("fields.")?.rsplit_once('.').map(|(field, _)| field)
}

fn other_topics(event: &str, source: &str, known: &Projection, now: &Projection) -> Option<String> {
    let beyond =
        |these: &[String], those: &[String]| -> Vec<String> { these.iter().filter(|topic| !those.contains(topic)).cloned().collect() };
    let (come, gone) = (beyond(&now.topics, &known.topics), beyond(&known.topics, &now.topics));
    let what = match (come.is_empty(), gone.is_empty()) {
        (true, true) => return None,
        (false, true) => format!("reads {} as well: its rows come on top of those that are applied", come.join(", ")),
        (true, false) => format!("reads {} no more: what it brought stays in the tables", gone.join(", ")),
        (false, false) => format!(
            "reads {} instead of {}: what that brought stays in the tables, and the rows of {} come on top",
            come.join(", "),
            gone.join(", "),
            come.join(", ")
        ),
    };
    Some(format!("source {source} of {event} {what}"))
}

/// What a value of a key means for records from now on.
fn means(key: &str, value: &str) -> &'static str {
    let last = key.rsplit_once('.').map_or(key, |(_, last)| last);
    match (last, value.trim_matches('"')) {
        ("tombstone", "ignore") => "from now on a record without a value means nothing",
        ("tombstone", "delete_key") => "from now on a record without a value deletes its key from the tables",
        ("tombstone", "row") => "from now on a record without a value is a row of nulls",
        ("tombstone", _) => "from now on a record without a value is a bad record",
        ("mode", "latest") => "from now on a delete forgets its key",
        ("mode", _) => "from now on each change is a row, a delete too",
        ("on_bad_record", "skip") => "from now on bad records are counted and not kept",
        ("on_bad_record", "stop") => "from now on a bad record stops its partition",
        ("on_bad_record", _) => "from now on bad records are kept in the reject log",
        ("on_bad_field", "null") => "from now on a value that cannot be read is null",
        ("on_bad_field", _) => "from now on a value that cannot be read makes its record bad",
        _ => "records are read so from now on",
    }
}

/// What is stored afterwards. A source that is gone is remembered, since it may come back, unless another
/// one has taken its place.
pub(super) fn merged(stored: &Projections, now: &Projections, has_event: impl Fn(&str) -> bool) -> Projections {
    let mut merged = stored.clone();
    for (event, sources) in now {
        let known = merged.entry(event.clone()).or_default();
        let before: Vec<Box<str>> =
            sources.iter().filter_map(|(name, projection)| Some(before(known, sources, name, projection)?.0.into())).collect();
        known.retain(|name, _| !before.contains(name));
        known.extend(sources.iter().map(|(name, projection)| (name.clone(), projection.clone())));
    }
    merged.retain(|event, sources| has_event(event) && !sources.is_empty());
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn projection(topics: &[&str], fields: &[(&str, &[&str])]) -> Projection {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Projection {
            topics: texts(topics),
            said: BTreeMap::from([("format".into(), r#""json""#.into()), ("tombstone".into(), r#""reject""#.into())]),
            fields: fields.iter().map(|(name, places)| ((*name).into(), texts(places))).collect(),
        }
    }

    /// Name, topics, and fields with their places.
    type Source<'s> = (&'s str, &'s [&'s str], &'s [(&'s str, &'s [&'s str])]);

    fn of(sources: &[Source<'_>]) -> Projections {
        let sources = sources.iter().map(|(name, topics, fields)| ((*name).into(), projection(topics, fields)));
        BTreeMap::from([("E".into(), sources.collect())])
    }

    #[test]
    fn a_field_that_comes_from_elsewhere_is_found_whatever_its_source_is_called() {
        let before = of(&[("s", &["t"], &[("a", &["a"]), ("b", &["x.b"])])]);
        for (now, found) in [
            (of(&[("s", &["t"], &[("a", &["a"]), ("b", &["x.b"])])]), vec![]),
            (of(&[("s", &["t"], &[("a", &["a"]), ("b", &["y.b"])])]), vec![("s", "b", false)]),
            // With its former path beside it, and then without.
            (of(&[("s", &["t"], &[("a", &["a"]), ("b", &["y.b", "x.b"])])]), vec![("s", "b", true)]),
            // Another name, the same topics.
            (of(&[("r", &["t"], &[("a", &["z"]), ("b", &["x.b"])])]), vec![("r", "a", false)]),
            // Another source beside it, and one in its place: their records are others.
            (of(&[("s", &["t"], &[("a", &["a"]), ("b", &["x.b"])]), ("r", &["u"], &[("a", &["z"])])]), vec![]),
            (of(&[("r", &["u"], &[("a", &["z"])])]), vec![]),
            // A field more, and one less.
            (of(&[("s", &["t"], &[("a", &["a"]), ("c", &["c"])])]), vec![]),
        ] {
            let moved = moved(&before, &now, "E");
            let told: Vec<(&str, &str, bool)> =
                moved.iter().map(|moved| (&*moved.source, &*moved.field, moved.is_the_same_value())).collect();
            assert_eq!(told, found, "{now:?}");
        }
    }

    #[test]
    fn other_topics_and_another_word_on_records_without_a_value_are_told() {
        let fields: &[(&str, &[&str])] = &[("a", &["a"])];
        let before = of(&[("s", &["t"], fields)]);
        for (topics, told) in [
            (&["t"][..], None),
            (&["u"], Some("source s of E reads u instead of t: ")),
            (&["t", "u"], Some("source s of E reads u as well: ")),
            (&["/t.*/"], Some("source s of E reads /t.*/ instead of t: ")),
        ] {
            let retold = retold(&before, &of(&[("s", topics, fields)]));
            assert_eq!(retold.len(), usize::from(told.is_some()), "{retold:?}");
            assert!(retold.iter().zip(told).all(|(line, told)| line.what.starts_with(told)), "{retold:?}");
        }
        let mut now = before.clone();
        let mut word = |key: &str, value: &str| {
            let said = now.values_mut().flat_map(BTreeMap::values_mut).map(|projection| &mut projection.said);
            said.for_each(|said| _ = said.insert(key.into(), format!("{value:?}")));
            retold(&before, &now).into_iter().map(|reread| reread.what).collect::<Vec<_>>()
        };
        assert_eq!(word("tombstone", "reject"), Vec::<String>::new());
        let told = word("tombstone", "delete_key");
        assert!(told.len() == 1 && told[0].contains("deletes its key from the tables"), "{told:?}");
        let told = word("fields.a.from", "text");
        assert!(
            told.len() == 2 && told[0].starts_with("source s of E has fields.a.from = \"text\", which it had not before: "),
            "{told:?}"
        );
        // Of a field that is new there is nothing to compare.
        assert_eq!(word("fields.b.from", "text").len(), 2);
        let told = word("format", "csv");
        assert!(told.iter().any(|line| line.contains("format = \"csv\" instead of \"json\": records are read so")), "{told:?}");
        // What was not kept then is not known, and a source that is new is no change.
        assert_eq!(super::retold(&now, &of(&[("r", &["x"], fields)])), Vec::new());
    }

    /// `a;b` read as `b;a` passed as the same places.
    #[test]
    fn a_column_is_known_by_its_number_while_lines_have_as_many() {
        let lines = |columns: &[&str], fields: &[(&str, &[&str])]| {
            let mut lines = of(&[("s", &["t"], fields)]);
            let said = lines.values_mut().flat_map(BTreeMap::values_mut).map(|projection| &mut projection.said);
            said.for_each(|said| _ = said.insert(COLUMNS.into(), format!("{columns:?}")));
            lines
        };
        let before = lines(&["a", "b"], &[("x", &["a"]), ("y", &["b"])]);
        let found = |now: &Projections| moved(&before, now, "E").into_iter().map(|moved| moved.field).collect::<Vec<_>>();
        assert_eq!(found(&before), Vec::<String>::new());
        // Other names of the same columns.
        assert_eq!(found(&lines(&["c", "d"], &[("x", &["c"]), ("y", &["d"])])), Vec::<String>::new());
        assert_eq!(found(&lines(&["b", "a"], &[("x", &["a"]), ("y", &["b"])])), ["x", "y"]);
        // Other lines: those of before are bad records now, and the other way round.
        assert_eq!(found(&lines(&["n", "a", "b"], &[("x", &["a"]), ("y", &["b"])])), Vec::<String>::new());
        assert_eq!(found(&lines(&["n", "a", "b"], &[("x", &["n"]), ("y", &["b"])])), ["x"]);
    }

    #[test]
    fn a_source_that_went_away_is_remembered_and_one_that_was_renamed_is_not_kept_twice() {
        let both = of(&[("r", &["u"], &[("a", &["a"])]), ("s", &["t"], &[("a", &["a"])])]);
        let one = of(&[("s", &["t"], &[("a", &["a"])])]);
        assert_eq!(merged(&both, &one, |_| true), both);
        let renamed = of(&[("q", &["u"], &[("a", &["a"])]), ("s", &["t"], &[("a", &["a"])])]);
        assert_eq!(merged(&both, &renamed, |_| true), renamed);
        assert_eq!(merged(&both, &Projections::new(), |_| false), Projections::new());
        assert_eq!(merged(&Projections::new(), &both, |_| true), both);
    }
}
