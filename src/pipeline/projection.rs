//! Where sources take the fields of their events from: what the config says, kept with the definitions so
//! that a later config can be compared with it.
//!
//! Rows know fields, not the places they came from. A field that is taken from another place has other
//! values from then on, while its features hold both; so such a change is found here and told. A source is
//! known by its name, or by its topics when it has another name now. So are its topics, and what a record
//! without a value means: another word on either changes no table by itself, but what comes from then on.
//! Written by the config alone; nothing here decides what a difference does to the state.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What one source says about one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Projection {
    /// What it reads: topic names, or one pattern. The same under another name of the source.
    pub topics: Vec<String>,
    /// What a record without a value means, as the config writes it; empty where that was not kept.
    #[serde(default)]
    pub tombstone: String,
    /// For each field, the places that hold its value, as the config writes them: one, or a path with its
    /// former paths.
    pub fields: BTreeMap<Box<str>, Vec<String>>,
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
            !["key", "topic", "partition", "offset", "timestamp"].contains(&place.as_str())
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
        for (field, to) in &projection.fields {
            if let Some(from) = known.fields.get(field).filter(|from| *from != to) {
                let (source, field) = (source.to_string(), field.to_string());
                moved.push(Moved { source, field, from: from.clone(), to: to.clone() });
            }
        }
    }
    moved
}

/// What sources say otherwise of their records as a whole, as sentences with what that means.
pub(super) fn retold(stored: &Projections, now: &Projections) -> Vec<String> {
    let mut told = Vec::new();
    for (event, sources) in now {
        let Some(stored) = stored.get(event) else { continue };
        for (source, projection) in sources {
            let Some((_, known)) = before(stored, sources, source, projection) else { continue };
            told.extend(other_topics(event, source, known, projection));
            if !known.tombstone.is_empty() && known.tombstone != projection.tombstone {
                told.push(format!(
                    "source {source} of {event} has tombstone = {:?} instead of {:?}: from now on a record without a value {}; \
                     those before keep what they did",
                    projection.tombstone,
                    known.tombstone,
                    tombstone_means(&projection.tombstone)
                ));
            }
        }
    }
    told
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

fn tombstone_means(word: &str) -> &'static str {
    match word {
        "ignore" => "means nothing",
        "delete_key" => "deletes its key from the tables",
        "row" => "is a row of nulls",
        _ => "is a bad record",
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
            tombstone: "reject".into(),
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
            assert!(retold.iter().zip(told).all(|(line, told)| line.starts_with(told)), "{retold:?}");
        }
        let mut now = before.clone();
        let mut word = |tombstone: &str| {
            now.values_mut().flat_map(BTreeMap::values_mut).for_each(|projection| projection.tombstone = tombstone.to_owned());
            retold(&before, &now)
        };
        assert_eq!(word("reject"), Vec::<String>::new());
        let told = word("delete_key");
        assert!(told.len() == 1 && told[0].contains("deletes its key from the tables"), "{told:?}");
        // What was not kept then is not known, and a source that is new is no change.
        assert_eq!(super::retold(&now, &of(&[("r", &["x"], fields)])), Vec::<String>::new());
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
