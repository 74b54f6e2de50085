//! Tables that a payload declares under another name: which of them take over the state of which.
//!
//! `renamed_from` is a standing word in a file, so it must mean the same at every start: once the new name
//! exists it means nothing, and where neither name exists the table begins anew. A name that another table
//! takes over in the same payload counts as not existing, so that a whole chain (`b` from `a`, `c` from `b`)
//! moves up by one at once and stays there at the next start. What cannot be told apart at the next start (a
//! swap, or any circle) or at this one (two heirs of one table) is refused by name. Pure; called first of all
//! when a change is computed.

use super::node::{DerivationSpec, NodeSpec};
use super::problem::{Problem, Problems};
use super::registry::Registry;
use super::request::Request;
use std::collections::{BTreeMap, BTreeSet};
use streamgauge_api::Code;

/// Old names of tables by their new ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Renames {
    old: BTreeMap<String, String>,
    vacated: BTreeSet<String>,
}

impl Renames {
    /// Decides, or tells why not.
    pub(super) fn of(now: &Registry, request: &Request, problems: &mut Problems) -> Self {
        let specs = request.nodes.iter().filter_map(|(_, node)| match node {
            NodeSpec::Derivation(spec) if spec.renamed_from.is_some() => Some(spec),
            _ => None,
        });
        let mut asked = Asked::default();
        for spec in specs {
            asked.take(spec, problems);
        }
        let circles = asked.circles();
        for (name, circle) in &circles {
            let reason = format!(
                "tables {} take over each other's names: a swap cannot be told from a swap back at the next start; \
                 rename one of them to a third name first",
                circle.join(", ")
            );
            asked.refuse(name, reason, problems);
        }
        // A chain has one end that nobody takes over; a circle has none.
        let heads = asked.old.keys().filter(|name| !asked.heir.contains_key(*name));
        let mut renames = Self::default();
        for head in heads {
            let mut name = head.as_str();
            let mut vacated = false;
            while let Some(old) = asked.old.get(name) {
                // Another kind of descriptor under the new name has no state that the table could go on with.
                let exists = now.table(name).is_some() && !vacated;
                vacated = !exists && now.ownership(old).is_some();
                if vacated && sound(now, request, &asked, (name, old), problems) {
                    renames.old.insert(name.to_owned(), old.clone());
                    renames.vacated.insert(old.clone());
                }
                name = old;
            }
        }
        renames
    }

    /// The name under which a table's state stands now.
    pub(super) fn before<'n>(&'n self, name: &'n str) -> &'n str {
        self.old.get(name).map_or(name, String::as_str)
    }

    /// Whether this name gives its state to another.
    pub(super) fn is_vacated(&self, name: &str) -> bool {
        self.vacated.contains(name)
    }

    /// New and old names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.old.iter().map(|(name, old)| (name.as_str(), old.as_str()))
    }
}

/// Whether an old name that exists can be given up.
fn sound(now: &Registry, request: &Request, asked: &Asked, (name, old): (&str, &str), problems: &mut Problems) -> bool {
    let reason = if now.table(old).is_none() {
        format!("\"{old}\" is no table, and only a table has a state that another name can keep")
    } else if request.remove.iter().any(|removed| removed == old) {
        format!("table \"{old}\" is removed, so \"{name}\" cannot take over its state")
    } else if request.places.contains_key(old) && !asked.old.contains_key(old) {
        format!("table \"{name}\" is renamed from \"{old}\", which is declared as well: leave one of the two out")
    } else {
        return true;
    };
    asked.refuse(name, reason, problems);
    false
}

/// What the payload asks for.
#[derive(Default)]
struct Asked {
    old: BTreeMap<String, String>,
    heir: BTreeMap<String, String>,
    paths: BTreeMap<String, String>,
}

impl Asked {
    fn take(&mut self, spec: &DerivationSpec, problems: &mut Problems) {
        let Some(old) = &spec.renamed_from else { return };
        self.paths.insert(spec.name.clone(), spec.path.clone());
        if *old == spec.name {
            self.refuse(&spec.name, format!("table \"{old}\" is renamed from itself"), problems);
        } else if let Some(other) = self.heir.get(old) {
            let reason = format!("tables \"{other}\" and \"{}\" are both renamed from \"{old}\": its state goes to one", spec.name);
            self.refuse(&spec.name, reason, problems);
        } else {
            self.heir.insert(old.clone(), spec.name.clone());
            self.old.insert(spec.name.clone(), old.clone());
        }
    }

    fn refuse(&self, name: &str, reason: String, problems: &mut Problems) {
        let path = self.paths.get(name).map_or_else(String::new, |path| format!("{path}.renamed_from"));
        problems.errors.push(Problem::new(Code::InvalidRegistration, path, reason));
    }

    /// Circles of names, each with one of its members.
    fn circles(&self) -> Vec<(String, Vec<String>)> {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut circles = Vec::new();
        for start in self.old.keys() {
            let mut walk: Vec<&str> = Vec::new();
            let mut name = start.as_str();
            // Every name is entered once over all walks, since each has one old name.
            while seen.insert(name) {
                walk.push(name);
                match self.old.get(name) {
                    Some(old) => name = old,
                    None => break,
                }
            }
            if let Some(at) = walk.iter().position(|&passed| passed == name).filter(|_| self.old.contains_key(name)) {
                circles.push((name.to_owned(), walk.into_iter().skip(at).map(str::to_owned).collect()));
            }
        }
        circles
    }
}
