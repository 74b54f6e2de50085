//! What a change loses, who may allow it, and what to say: the conflicts of a change that is computed.
//!
//! A difference that is destructive by kind loses nothing where no row was ever applied to its event, nor
//! where nothing reads the field; it then goes through like an addition. What is left
//! needs `force` in a register call, or its name behind `--rebuild`. A refusal names each loss: what changes,
//! what begins anew, what to type to allow it, and what to write to keep the state where there is a way.

use super::change::Change;
use super::definition::{Origin, TableDef};
use super::diff::{Difference, Subject, sorted};
use super::problem::Problem;
use super::projection::{Moved, Reread, retold};
use super::reads::{Readers, readers};
use super::register::RegisterError;
use crate::row::FieldIndex;
use streamgauge_api::{ApiError, Code};

/// Names of features and tables that a sentence lists.
const NAMES_MAX: usize = 8;

/// One thing that a refused change would lose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// What changes and what begins anew, as a sentence.
    pub what: String,
    /// The name that allows it: a table, `TABLE.FEATURE`, an event or `EVENT.FIELD`.
    pub allowed_as: String,
    /// What to write to keep the state, where there is a way.
    pub kept_by: Option<String>,
}

impl Change<'_> {
    /// Lets destructive differences that lose nothing go through.
    pub(super) fn settle(&mut self) {
        self.overwritten = self.diff.destructive.iter().map(|difference| difference.subject().descriptor().to_owned()).collect();
        let (lossy, free) = std::mem::take(&mut self.diff.destructive).into_iter().partition(|difference| self.loses(difference));
        self.diff.destructive = lossy;
        self.diff.additive.extend(free);
    }

    fn loses(&self, difference: &Difference) -> bool {
        let subject = difference.subject();
        let of_client = |name: &str| self.now.ownership(name).is_some_and(|(_, origin)| origin == Origin::Api);
        match difference {
            // Nothing else says how it was declared.
            Difference::Stranded { .. } => return true,
            Difference::KindChange { name, .. } if of_client(name) => return true,
            _ => {}
        }
        let event = self.now.root_event(self.renames.before(subject.descriptor())).and_then(|name| self.now.event(name));
        if event.is_some_and(|event| self.options.unfed.contains(&event.schema.id)) {
            return false;
        }
        match &subject {
            Subject::Field(event, _, slot) => !self.restarted_by(event, *slot).is_empty(),
            Subject::Event(event) => self.now.tables.values().any(|table| *table.event_name == **event),
            _ => true,
        }
    }

    /// What begins anew when a field changes: what reads it, without what the config lets go for good, which is
    /// told by itself.
    fn restarted_by(&self, event: &str, slot: FieldIndex) -> Vec<(String, bool)> {
        let table_goes = |name: &str| name.split_once('.').is_some_and(|(table, _)| self.stranded.contains_key(table));
        let goes = |name: &str| self.options.origin == Origin::Config && (self.stranded.contains_key(name) || table_goes(name));
        self.readers(event, slot).into_iter().filter(|(name, _)| !goes(name)).collect()
    }

    /// What reads a field: tables by name, and single features as `T.f`, with whether each is a whole table.
    pub(super) fn readers(&self, event: &str, slot: FieldIndex) -> Vec<(String, bool)> {
        let tables = self.now.tables.values().filter(|table| *table.event_name == *event);
        let of = |table: &std::sync::Arc<TableDef>| match readers(table, slot) {
            Readers::Table => vec![(table.name.to_string(), true)],
            Readers::Features(features) => features.into_iter().map(|feature| (format!("{}.{feature}", table.name), false)).collect(),
        };
        tables.flat_map(of).collect()
    }

    fn tables_of(&self, event: &str) -> impl Iterator<Item = String> {
        self.now.tables.values().filter(move |table| *table.event_name == *event).map(|table| table.name.to_string())
    }

    /// Conflicts that nobody allowed.
    pub(super) fn conflict(&self) -> Option<RegisterError> {
        if self.options.origin == Origin::Config {
            let refused = self.diff.destructive.iter().filter(|difference| !self.rebuild_allowed(&difference.subject())).count();
            let reason = format!("{} of the config file would lose state", changes(refused));
            return (refused > 0).then(|| self.refuse_change(Code::ConfigChangeDestructive, reason));
        }
        let foreign = self.overwritten.iter().find_map(|name| {
            let (owner, _) = self.now.ownership(self.renames.before(name))?;
            (owner != self.request.owner).then_some((name, owner))
        });
        if let Some((name, owner)) = foreign {
            let reason = format!("\"{name}\" belongs to owner \"{owner}\", who alone may change it");
            return Some(self.refuse_change(Code::ForceRequired, reason));
        }
        let count = self.diff.destructive.len();
        (count > 0 && !self.request.force).then(|| {
            let mut refused = self.refuse_change(Code::ForceRequired, String::new());
            let shown: Vec<&str> = refused.losses.iter().take(NAMES_MAX).map(|loss| loss.what.as_str()).collect();
            let more = if count > shown.len() { format!("; and {} more", count - shown.len()) } else { String::new() };
            refused.error.reason = format!("{} would lose or reinterpret state: {}{more}", changes(count), shown.join("; "));
            refused
        })
    }

    fn rebuild_allowed(&self, subject: &Subject) -> bool {
        let listed = |name: &str| self.options.rebuild.iter().any(|allowed| allowed == name);
        let feature_listed = |name: &str| listed(name) || name.split_once('.').is_some_and(|(table, _)| listed(table));
        match subject {
            Subject::Feature(table, feature) => feature_listed(&format!("{table}.{feature}")),
            Subject::Node(name) | Subject::Event(name) => listed(name),
            // A field has no state of its own: whoever may give up all that reads it may change it.
            Subject::Field(event, field, slot) => {
                let readers = self.readers(event, *slot);
                let all = !readers.is_empty() && readers.iter().all(|(name, _)| feature_listed(name));
                listed(event) || listed(&format!("{event}.{field}")) || all
            }
        }
    }

    pub(super) fn refuse_change(&self, code: Code, reason: String) -> RegisterError {
        let mut error = ApiError::new(code, reason).with("diff", self.diff.to_json());
        let losses: Vec<Loss> = sorted(&self.diff.destructive).into_iter().map(|difference| self.loss(difference)).collect();
        let kept_by: Vec<&str> = losses.iter().filter_map(|loss| loss.kept_by.as_deref()).collect();
        if self.options.origin == Origin::Api && !kept_by.is_empty() {
            error = error.hint(format!("{}; or say \"force\": true", kept_by.join("; ")));
        }
        let warnings: Vec<Problem> = self.problems.warnings.clone();
        RegisterError { error: Box::new(error), problems: Vec::new(), losses, warnings, registry_version: self.now.version }
    }

    /// What changes in the definitions, as sentences.
    pub(super) fn told(&self) -> Vec<String> {
        self.sentences().filter(|(reread, _)| reread.is_none()).map(|(_, what)| what).collect()
    }

    /// What sources are read by otherwise.
    pub(super) fn reread(&self) -> Vec<Reread> {
        let moved = self.sentences().filter_map(|(reread, what)| {
            let (event, source) = reread?;
            Some(Reread { event: event.into(), source: source.into(), what })
        });
        let sources = self.options.projections.map(|now| retold(&self.now.projections, now)).unwrap_or_default();
        moved.chain(sources).collect()
    }

    /// All differences, with event and source where they are about how its records are read.
    fn sentences(&self) -> impl Iterator<Item = (Option<(&str, &str)>, String)> {
        let additive = sorted(&self.diff.additive).into_iter().map(|difference| (difference, difference.sentence()));
        let destructive = sorted(&self.diff.destructive).into_iter().map(|difference| (difference, self.loss(difference).what));
        additive.chain(destructive).map(|(difference, what)| match difference {
            Difference::PathChange { event, source, .. } => (Some((event.as_str(), source.as_str())), what),
            _ => (None, what),
        })
    }

    fn loss(&self, difference: &Difference) -> Loss {
        let subject = difference.subject();
        let what = match (difference, &subject) {
            (Difference::Rename { from, to }, _) => {
                let keys = if self.now.table(from).is_some() { ": all its keys go" } else { "" };
                format!("{from} is no longer declared, and {to} is declared alike{keys}")
            }
            (Difference::Removal { name, alike }, _) => {
                let like = alike.as_ref().map_or_else(String::new, |to| format!(", and {to} is much like it"));
                let keys = if self.now.table(name).is_some() { ": all its keys go" } else { "" };
                format!("{name} is no longer declared{like}{keys}")
            }
            (_, Subject::Field(event, _, slot)) => {
                format!("{}: {}", difference.sentence(), begins_anew(&self.restarted_by(event, *slot)))
            }
            (Difference::AggRemoval { .. }, _) => difference.sentence(),
            (Difference::Stranded { kind: "table", feature: None, .. }, _) => {
                format!("{}: it goes with all its keys", difference.sentence())
            }
            (Difference::Stranded { .. }, _) => format!("{}: it goes", difference.sentence()),
            (Difference::KindChange { from: "a table", .. }, _) => format!("{}: all its keys go", difference.sentence()),
            (Difference::KindChange { .. }, _) => difference.sentence(),
            (_, Subject::Feature(..)) => format!("{}; it starts again", difference.sentence()),
            (_, Subject::Node(name)) if self.now.table(self.renames.before(name)).is_none() => {
                format!("{}: the tables behind it start again", difference.sentence())
            }
            (Difference::OptionChange { .. }, Subject::Event(event)) => {
                let tables: Vec<(String, bool)> = self.tables_of(event).map(|name| (name, true)).collect();
                format!("{}: {}", difference.sentence(), begins_anew(&tables))
            }
            (_, Subject::Node(_) | Subject::Event(_)) => format!("{}: all its keys start again", difference.sentence()),
        };
        let kept_by = match difference {
            Difference::Rename { from, to } | Difference::Removal { name: from, alike: Some(to) } => {
                self.now.table(from).map(|_| match self.options.origin {
                    Origin::Config => format!("renamed_from = \"{from}\" in [tables.{to}] keeps its state"),
                    Origin::Api => format!("\"renamed_from\": \"{from}\" in the node \"{to}\" keeps its state"),
                })
            }
            Difference::PathChange { field, source, from, to, .. } => {
                let moved = Moved { source: source.clone(), field: field.clone(), from: from.clone(), to: to.clone() };
                moved.kept_by()
            }
            _ => None,
        };
        Loss { what, allowed_as: subject.allowed_as(), kept_by }
    }

    /// The new table that a vanishing one could be under another name though it has changed besides: on the
    /// same event by the same key with at least half of its features.
    pub(super) fn alike(&self, gone: &TableDef, free: impl Fn(&str) -> bool) -> Option<String> {
        let candidates = self.added.iter().filter(|name| free(name)).filter_map(|name| self.tables.get(name.as_str()));
        let shared = |new: &TableDef| {
            let same = |feature: &&std::sync::Arc<super::FeatureDef>| {
                new.feature(&feature.name).is_some_and(|other| other.declared() == feature.declared())
            };
            gone.features.iter().filter(same).count()
        };
        let keys = |table: &TableDef| table.keys.iter().map(|key| key.name.clone()).collect::<Vec<_>>();
        let mut best: Option<(usize, &TableDef)> = None;
        for new in candidates.filter(|new| new.event == gone.event && keys(new) == keys(gone)) {
            let count = shared(new);
            if count * 2 >= gone.features.len().max(1) && best.is_none_or(|(most, _)| count > most) {
                best = Some((count, new));
            }
        }
        best.map(|(_, new)| new.name.to_string())
    }
}

fn changes(count: usize) -> String {
    if count == 1 { "1 change".to_owned() } else { format!("{count} changes") }
}

/// `features T.a, T.b start again`.
fn begins_anew(readers: &[(String, bool)]) -> String {
    if readers.is_empty() {
        return "nothing reads it".to_owned();
    }
    let list = |whole: bool, one: &str, many: &str| {
        let names: Vec<&str> = readers.iter().filter(|(_, table)| *table == whole).map(|(name, _)| name.as_str()).collect();
        let more = names.len().saturating_sub(NAMES_MAX);
        let shown = names.iter().take(NAMES_MAX).copied().collect::<Vec<_>>().join(", ");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        match names.len() {
            0 => None,
            1 => Some(format!("{one} {shown} starts again")),
            _ => Some(format!("{many} {shown}{more} start again")),
        }
    };
    let parts = [list(true, "table", "tables"), list(false, "feature", "features")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
