//! What a change means for descriptors that the payload does not name: those that stand on what it names.
//!
//! They are compiled again in the changed world. A table whose columns mean something else there begins anew;
//! what no longer compiles is *stranded*, as a whole or by single features. A register call is refused then, since
//! its sender can name or remove the others in the same payload. The config cannot: it has no word for what
//! clients registered, and while the server does not start nobody can remove it. So each loss of theirs is a
//! difference of its own there, which its name behind `--rebuild` allows; what is stranded goes. Pure, like the
//! rest of a change; called when its nodes are decided and before anybody asks what is lost.

use super::change::Change;
use super::definition::{Origin, TableDef};
use super::diff::{Difference, Subject};
use super::node::{DerivationSpec, GroupSpec};
use super::payload::Tree;
use super::problem::Problems;
use super::reads::Kept;
use super::register::RegisterError;
use super::registry::STORED;
use super::world::Identity;
use std::collections::BTreeSet;
use std::sync::Arc;
use streamgauge_api::Code;

impl Change<'_> {
    /// Compiles what the payload does not name again.
    pub(super) fn dependents(&mut self) {
        // They were accepted once; what they may do is not decided again.
        self.world.checks = STORED;
        let told = self.told_by_fields();
        let named = |name: &str| self.request.places.contains_key(name);
        let specs: Vec<Arc<DerivationSpec>> = self.world.derivations.values().filter(|spec| !named(&spec.name)).cloned().collect();
        for spec in specs {
            match (&spec.group, self.tables.get(spec.name.as_str()).cloned()) {
                (Some(group), Some(old)) => self.dependent_table(&spec, group, &old, &told),
                _ => {
                    let mut problems = Problems::default();
                    if self.world.check_derivation(&spec, &mut problems).is_none() {
                        self.strand("derivation", &spec.name, None, why(&problems));
                    }
                }
            }
        }
    }

    fn dependent_table(&mut self, spec: &DerivationSpec, group: &GroupSpec, old: &Arc<TableDef>, told: &BTreeSet<String>) {
        let mut problems = Problems::default();
        let compiled = self.world.compile_table(spec, group, Identity::of(old), &mut problems);
        let (mut table, group) = match compiled {
            Some(table) => (table, group.clone()),
            None => match self.without_stranded(spec, group, old) {
                Some(rest) => rest,
                None => return self.strand("table", &spec.name, None, why(&problems)),
            },
        };
        let mut reread = Vec::new();
        match self.kept(old, &table) {
            Kept::Nothing => {
                reread.push(None);
                table = self.rebuild(spec, &group, table);
            }
            Kept::Without(changed) if !changed.is_empty() => {
                reread.extend(changed.iter().cloned().map(Some));
                self.restarted.insert(spec.name.clone(), changed);
            }
            Kept::Without(_) => {}
        }
        for feature in reread.into_iter().filter(|_| self.options.origin == Origin::Config) {
            let full = feature.as_ref().map(|feature| format!("{}.{feature}", spec.name));
            if !told.contains(&spec.name) && !full.is_some_and(|full| told.contains(&full)) {
                self.diff.destructive.push(Difference::Reread { table: spec.name.clone(), feature });
            }
        }
        self.keep_or_replace(old, table);
    }

    /// The table without the features that no longer compile, each of which is stranded; none when it does not
    /// stand without them either.
    fn without_stranded(&mut self, spec: &DerivationSpec, group: &GroupSpec, old: &TableDef) -> Option<(TableDef, GroupSpec)> {
        let only = |features: Vec<(String, Tree)>| GroupSpec { features, ..group.clone() };
        let compile = |group: &GroupSpec, problems: &mut Problems| self.world.compile_table(spec, group, Identity::of(old), problems);
        let (mut sound, mut gone) = (Vec::new(), Vec::new());
        for feature in &group.features {
            let mut problems = Problems::default();
            match compile(&only(vec![feature.clone()]), &mut problems) {
                Some(_) => sound.push(feature.clone()),
                None => gone.push((feature.0.clone(), why(&problems))),
            }
        }
        if sound.is_empty() {
            return None;
        }
        let rest = only(sound);
        let table = compile(&rest, &mut Problems::default())?;
        for (feature, why) in gone {
            self.strand("table", &spec.name, Some(feature), why);
        }
        Some((table, rest))
    }

    fn strand(&mut self, kind: &'static str, name: &str, feature: Option<String>, why: String) {
        let full = feature.as_ref().map_or_else(|| name.to_owned(), |feature| format!("{name}.{feature}"));
        let whole = feature.is_none();
        let difference = Difference::Stranded { kind, name: name.to_owned(), feature, why };
        if self.options.origin == Origin::Config {
            self.diff.destructive.push(difference.clone());
            if whole {
                self.forget(name);
            }
        }
        let before = self.stranded.insert(full, difference);
        assert!(before.is_none(), "{name} is looked at once");
    }

    /// Refuses a register call that leaves others without what they stand on.
    pub(super) fn stranding(&self) -> Option<RegisterError> {
        if self.options.origin == Origin::Config {
            return None;
        }
        let Some(Difference::Stranded { name, why, .. }) = self.stranded.values().next() else { return None };
        let mut refused = self.refuse_change(Code::ForceRequired, format!("\"{name}\" depends on what would change: {why}"));
        refused.error = Box::new(refused.error.hint(format!("name \"{name}\" in the payload as well, or remove it")));
        Some(refused)
    }

    /// What differences of fields tell to begin anew.
    fn told_by_fields(&self) -> BTreeSet<String> {
        let fields = self.diff.destructive.iter().filter_map(|difference| match difference.subject() {
            Subject::Field(event, _, slot) => Some(self.readers(&event, slot)),
            _ => None,
        });
        let readers: Vec<(String, bool)> = fields.flatten().collect();
        let whole = |name: &String| {
            let table = self.now.table(name)?;
            Some(table.features.iter().map(|feature| format!("{}.{}", table.name, feature.name)).collect::<Vec<_>>())
        };
        let features: Vec<String> = readers.iter().filter_map(|(name, _)| whole(name)).flatten().collect();
        readers.into_iter().map(|(name, _)| name).chain(features).collect()
    }
}

/// Why something does not compile.
fn why(problems: &Problems) -> String {
    let Some(first) = problems.errors.first() else { unreachable!("what does not compile says why") };
    first.reason.clone()
}
