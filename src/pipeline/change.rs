//! A change of the registry being computed: the world as it would be, the diff, and what the state has to do.
//!
//! One value per register call, filled in the order of the contract: removals, renames, nodes, pruning, conflicts, dependents. It holds copies; the registry in force is
//! not touched. Not here: payload text, and what a change loses ([`loss`](super::loss)).
//!
//! A table is compared with what stands under its former name; numbers of tables, not names, are what the state follows.

use super::definition::{DerivationDef, EventDef, FeatureDef, Origin, TableDef, TableEffect};
use super::diff::{Diff, Difference, compare_features, compare_ops};
use super::event;
use super::feature::Checks;
use super::history::HistoryFrom;
use super::node::{DerivationSpec, EventSpec, GroupSpec, Life, NodeSpec};
use super::problem::{Problem, Problems};
use super::projection::{Moved, Projections, merged, moved};
use super::reads::{Kept, kept};
use super::register::{RegisterOptions, RegisterOutcome};
use super::registry::Registry;
use super::rename::Renames;
use super::request::Request;
use super::world::{Identity, World};
use crate::row::EventId;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use streamgauge_api::{Code, did_you_mean};

/// A change being computed.
pub(super) struct Change<'c> {
    pub(super) now: &'c Registry,
    pub(super) request: &'c Request,
    pub(super) options: &'c RegisterOptions<'c>,
    pub(super) problems: Problems,
    pub(super) diff: Diff,
    pub(super) renames: Renames,
    /// Descriptors whose declaration is replaced, whether that loses something or not.
    pub(super) overwritten: BTreeSet<String>,
    pub(super) world: World,
    pub(super) tables: BTreeMap<Box<str>, Arc<TableDef>>,
    derivations: BTreeMap<Box<str>, Arc<DerivationDef>>,
    next_event_id: u32,
    next_table_id: u32,
    /// Names of payload nodes that failed, so that what hangs from them is not blamed.
    broken: BTreeSet<String>,
    removed: BTreeSet<String>,
    pub(super) added: BTreeSet<String>,
    /// Payload nodes that grew in place.
    extended: BTreeSet<String>,
    /// Features whose state restarts, by table; these exist on both sides.
    pub(super) restarted: BTreeMap<String, BTreeSet<String>>,
    /// Events whose rows get their time elsewhere: windows of their tables would hold both.
    retimed: BTreeSet<String>,
    /// Tables that are built anew as a whole.
    rebuilt: BTreeSet<String>,
    /// Tables that are filled from history where they are created, by name.
    fills: BTreeMap<String, HistoryFrom>,
    /// What the payload does not name and what cannot be computed any more, by name; features as `T.f`.
    pub(super) stranded: BTreeMap<String, Difference>,
}

impl<'c> Change<'c> {
    pub(super) fn new(now: &'c Registry, request: &'c Request, options: &'c RegisterOptions<'c>, problems: Problems) -> Self {
        let checks = Checks { lifetime_bound: options.lifetime_bound, ignore_velocity_windows: options.ignore_velocity_windows };
        Self {
            now,
            request,
            options,
            problems,
            diff: Diff::default(),
            renames: Renames::default(),
            overwritten: BTreeSet::new(),
            world: now.world(options.operators, checks),
            tables: now.tables.clone(),
            derivations: now.derivations.clone(),
            next_event_id: now.next_event_id,
            next_table_id: now.next_table_id,
            broken: request.broken.clone(),
            removed: BTreeSet::new(),
            added: BTreeSet::new(),
            extended: BTreeSet::new(),
            restarted: BTreeMap::new(),
            retimed: BTreeSet::new(),
            rebuilt: BTreeSet::new(),
            fills: BTreeMap::new(),
            stranded: BTreeMap::new(),
        }
    }

    /// Explicit removals. They need no force: they are said in so many words.
    pub(super) fn removals(&mut self) {
        for (index, name) in self.request.remove.iter().enumerate() {
            let path = format!("remove[{index}]");
            let Some((owner, origin)) = self.now.ownership(name) else {
                let problem = Problem::new(Code::InvalidRegistration, path, format!("there is no \"{name}\" to remove"));
                self.problems.errors.push(problem.hint(did_you_mean(name, self.now.names())));
                continue;
            };
            if origin == Origin::Config && self.options.origin == Origin::Api {
                self.problems.error(Code::ConfigOwned, path, format!("\"{name}\" is declared in the config file"));
            } else if owner != self.request.owner {
                self.problems.error(Code::ForceRequired, path, format!("\"{name}\" belongs to owner \"{owner}\""));
            } else {
                self.forget(name);
            }
        }
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.world.events.remove(name);
        self.world.derivations.remove(name);
        self.derivations.remove(name);
        self.tables.remove(name);
        self.removed.insert(name.to_owned());
    }

    /// Tables that take over another name's state. What they give up is gone before the nodes are looked at.
    pub(super) fn renames(&mut self) {
        let renames = Renames::of(self.now, self.request, &mut self.problems);
        for (name, old) in renames.iter() {
            let Some((owner, origin)) = self.now.ownership(old) else { unreachable!("\"{old}\" exists") };
            let path = self.request.places.get(name).map_or_else(String::new, |place| format!("nodes[{place}].renamed_from"));
            if origin == Origin::Config && self.options.origin == Origin::Api {
                self.problems.error(Code::ConfigOwned, path, format!("\"{old}\" is declared in the config file"));
            } else if owner != self.request.owner && self.options.origin == Origin::Api {
                self.problems.error(Code::ForceRequired, path, format!("\"{old}\" belongs to owner \"{owner}\""));
            }
            self.tables.remove(old);
            self.world.derivations.remove(old);
            self.diff.additive.push(Difference::Rename { from: old.to_owned(), to: name.to_owned() });
        }
        self.renames = renames;
    }

    pub(super) fn nodes(&mut self) {
        for (index, node) in &self.request.nodes {
            let name = node.name();
            if let Some((from, to)) = self.kind_change(node) {
                if self.options.origin == Origin::Api {
                    let reason = format!("\"{name}\" is registered as another kind of descriptor");
                    self.problems.error(Code::KindChange, format!("{}.name", node.path()), reason);
                    self.broken.insert(name.to_owned());
                    continue;
                }
                self.diff.destructive.push(Difference::KindChange { name: name.to_owned(), from, to });
                self.forget(name);
            }
            let sound = match node {
                NodeSpec::Event(spec) => self.event(spec),
                NodeSpec::Derivation(spec) => self.derivation(*index, spec),
            };
            if sound.is_none() {
                self.broken.insert(name.to_owned());
            }
        }
    }

    /// What a name is and what the payload makes of it, where that is another kind of descriptor.
    fn kind_change(&self, node: &NodeSpec) -> Option<(&'static str, &'static str)> {
        let name = node.name();
        let to = match node {
            NodeSpec::Event(_) => "an event",
            NodeSpec::Derivation(spec) if spec.table => "a table",
            NodeSpec::Derivation(_) => "a derivation",
        };
        let kinds = [
            ("an event", self.world.events.contains_key(name)),
            ("a table", self.tables.contains_key(name)),
            ("a derivation", self.derivations.contains_key(name)),
        ];
        let (from, _) = kinds.into_iter().find(|(_, is_one)| *is_one)?;
        (from != to).then_some((from, to))
    }

    /// Whether a change to a registered name is refused because the config file declares it.
    fn config_owned(&mut self, name: &str, path: &str, origin: Origin) -> bool {
        let refused = origin == Origin::Config && self.options.origin == Origin::Api;
        if refused {
            let reason = format!("\"{name}\" is declared in the config file with another definition");
            self.problems.error(Code::ConfigOwned, path, reason);
        }
        refused
    }

    /// Entries that one node adds to the diff; true when there are any.
    fn take(&mut self, diff: Diff) -> bool {
        let any = !diff.additive.is_empty() || !diff.destructive.is_empty();
        self.diff.additive.extend(diff.additive);
        self.diff.destructive.extend(diff.destructive);
        any
    }

    fn event(&mut self, spec: &EventSpec) -> Option<()> {
        let Some(old) = self.world.events.get(spec.name.as_str()).cloned() else {
            let schema = event::declare(spec, EventId(self.next_event_id))?;
            self.next_event_id += 1;
            let node = event::canonical(&schema);
            let owner = self.request.owner.as_str().into();
            let event = EventDef { schema: Arc::new(schema), node, owner, origin: self.options.origin };
            self.world.events.insert(spec.name.as_str().into(), Arc::new(event));
            self.diff.additive.push(Difference::NewDescriptor { kind: "event", name: spec.name.clone() });
            self.added.insert(spec.name.clone());
            return Some(());
        };
        let mut diff = Diff::default();
        let renewed = self.moved_fields(&old, spec, &mut diff);
        let schema = event::merge(&old.schema, spec, &renewed, &mut diff, &mut self.problems)?;
        let is_time = |difference: &Difference| matches!(difference, Difference::OptionChange { .. });
        if diff.destructive.iter().any(is_time) && !self.options.unfed.contains(&old.schema.id) {
            self.retimed.insert(spec.name.clone());
        }
        if !self.take(diff) {
            self.diff.already_present.push(spec.name.clone());
            self.adopt_event(&old);
            return Some(());
        }
        if self.config_owned(&spec.name, &spec.path, old.origin) {
            return None;
        }
        self.extended.insert(spec.name.clone());
        let node = event::canonical(&schema);
        let (owner, origin) = self.ownership(Some((&old.owner, old.origin)));
        let event = EventDef { schema: Arc::new(schema), node, owner, origin };
        self.world.events.insert(spec.name.as_str().into(), Arc::new(event));
        Some(())
    }

    /// Fields of the event that a source takes from elsewhere than before. Those that need another slot, since features would hold both values, are returned.
    fn moved_fields(&self, old: &EventDef, spec: &EventSpec, diff: &mut Diff) -> BTreeSet<String> {
        let Some(projections) = self.options.projections else { return BTreeSet::new() };
        let mut renewed = BTreeSet::new();
        for moved in moved(&self.now.projections, projections, &spec.name) {
            let Some(slot) = old.schema.field(&moved.field) else { continue };
            let kind = old.schema.fields.get(usize::from(slot.0)).map(|field| field.kind);
            if spec.fields.iter().all(|field| *field.name != *moved.field || Some(field.kind) != kind) {
                // Its type changes as well, so that what reads it begins anew already.
                continue;
            }
            let unfed = self.options.unfed.contains(&old.schema.id);
            let mixes = !moved.is_the_same_value() && !unfed && !self.readers(&spec.name, slot).is_empty();
            let Moved { source, field, from, to } = moved;
            if mixes {
                renewed.insert(field.clone());
            }
            let list = if mixes { &mut diff.destructive } else { &mut diff.additive };
            list.push(Difference::PathChange { event: spec.name.clone(), field, slot, source, from, to });
        }
        renewed
    }

    /// The config file takes over what it declares identically.
    fn adopt_event(&mut self, old: &EventDef) {
        let (owner, origin) = self.ownership(Some((&old.owner, old.origin)));
        if (&owner, origin) != (&old.owner, old.origin) {
            self.world.events.insert(old.schema.name.clone(), Arc::new(EventDef { owner, origin, ..old.clone() }));
        }
    }

    fn derivation(&mut self, index: usize, spec: &DerivationSpec) -> Option<()> {
        let upstream = spec.upstream.as_str();
        if let Some(place) = self.request.places.get(upstream)
            && *place >= index
        {
            let reason = format!("upstream \"{upstream}\" must come before \"{}\" in the payload", spec.name);
            self.problems.error(Code::InvalidRegistration, format!("{}.upstreams[0]", spec.path), reason);
            return None;
        }
        if self.broken.contains(upstream) {
            return None;
        }
        let spec = &self.living(spec);
        let sound = match &spec.group {
            Some(group) => self.table(spec, group),
            None => self.event_derivation(spec),
        };
        self.world.derivations.insert(spec.name.as_str().into(), Arc::new(spec.clone()));
        sound
    }

    /// The same with the life of its keys that is in force when the node says nothing.
    fn living(&self, spec: &DerivationSpec) -> DerivationSpec {
        let before = self.now.table(self.renames.before(&spec.name)).and_then(|old| old.expire_after_us());
        let expire_after_us = spec.expire_after_us.over(before).map_or(Life::Endless, Life::Us);
        DerivationSpec { expire_after_us, ..spec.clone() }
    }

    fn event_derivation(&mut self, spec: &DerivationSpec) -> Option<()> {
        let event = self.world.check_derivation(spec, &mut self.problems)?;
        let node = spec.canonical(&[]);
        let old = self.derivations.get(spec.name.as_str()).cloned();
        let mut diff = Diff::default();
        match &old {
            None => {
                self.diff.additive.push(Difference::NewDescriptor { kind: "derivation", name: spec.name.clone() });
                self.added.insert(spec.name.clone());
            }
            Some(old) => {
                compare_nodes(&spec.name, &old.node, spec, &mut diff);
                if !self.take(diff) {
                    self.diff.already_present.push(spec.name.clone());
                } else if self.config_owned(&spec.name, &spec.path, old.origin) {
                    return None;
                } else {
                    self.rebuilt.insert(spec.name.clone());
                }
            }
        }
        let (owner, origin) = self.ownership(old.as_ref().map(|old| (&*old.owner, old.origin)));
        let derivation = DerivationDef { name: spec.name.as_str().into(), event: event.schema.id, node, owner, origin };
        self.derivations.insert(spec.name.as_str().into(), Arc::new(derivation));
        Some(())
    }

    /// Who has what the payload declares. What the config file declares is its own, whoever registered it
    /// before: else nobody could ever remove it.
    fn ownership(&self, old: Option<(&str, Origin)>) -> (Box<str>, Origin) {
        match old {
            Some((owner, origin)) if self.options.origin == Origin::Api => (owner.into(), origin),
            _ => (self.request.owner.as_str().into(), self.options.origin),
        }
    }

    fn table(&mut self, spec: &DerivationSpec, group: &GroupSpec) -> Option<()> {
        let old = self.now.table(self.renames.before(&spec.name)).cloned();
        // A name that another table takes over begins anew.
        let old = old.filter(|old| *old.name != *spec.name || !self.renames.is_vacated(&spec.name));
        let (owner, origin) = self.ownership(old.as_ref().map(|old| (&*old.owner, old.origin)));
        let computed = old.as_ref().map_or_else(Vec::new, |old| old.computed.clone());
        let identity = Identity { id: old.as_ref().map_or(self.next_table_id, |old| old.id), owner, origin, computed };
        let mut table = self.world.compile_table(spec, group, identity, &mut self.problems)?;
        let name = &spec.name;
        let fills = self.fills(spec, &table)?;
        let Some(old) = old else {
            self.next_table_id += 1;
            self.diff.additive.push(Difference::NewDescriptor { kind: "table", name: name.clone() });
            self.added.insert(name.clone());
            self.tables.insert(name.as_str().into(), Arc::new(table));
            return Some(());
        };
        let mut diff = Diff::default();
        let whole = compare_tables(&old, &table, spec, &mut diff);
        if old.expire_after_us() != table.expire_after_us() {
            let ms = |table: &TableDef| table.node["expire_after_ms"].clone();
            diff.additive.push(Difference::LifeChange { table: name.clone(), from: ms(&old), to: ms(&table) });
            self.extended.insert(name.clone());
        }
        let (whole, mut restarted) = match self.kept(&old, &table) {
            Kept::Without(changed) => (whole, changed),
            Kept::Nothing => (true, BTreeSet::new()),
        };
        for feature in &old.features {
            match table.feature(&feature.name) {
                None => {
                    diff.destructive.push(Difference::AggRemoval { table: name.clone(), feature: feature.name.to_string() });
                }
                Some(new) if compare_features(name, &feature.name, &feature.node, &new.node, &mut diff) => {
                    restarted.insert(feature.name.to_string());
                }
                Some(_) => {}
            }
        }
        for feature in table.features.iter().filter(|feature| old.feature(&feature.name).is_none()) {
            let (table, feature, source) = (name.clone(), feature.name.to_string(), spec.upstream.clone());
            diff.additive.push(Difference::NewAgg { table, feature, source });
        }
        let moved = *old.name != **name;
        if !self.take(diff) {
            if !moved {
                self.diff.already_present.push(name.clone());
            }
        } else if self.config_owned(name, &spec.path, old.origin) {
            return None;
        }
        let begins = |feature: &&Arc<FeatureDef>| old.feature(&feature.name).is_none() || restarted.contains(&*feature.name);
        if fills
            && !whole
            && let Some(feature) = table.features.iter().find(begins)
        {
            let reason = format!(
                "feature \"{}\" comes to table \"{name}\", which is there: this build fills whole new tables from history, no single feature",
                feature.name
            );
            let at = format!("{}.backfill", spec.path);
            let hint = "leave `backfill` out: the feature then begins empty now; or declare a table of its own with it".to_owned();
            self.problems.errors.push(Problem::new(Code::NotAvailable, at, reason).hint(Some(hint)));
            return None;
        }
        if whole {
            table = self.rebuild(spec, group, table);
        } else if !restarted.is_empty() {
            self.restarted.insert(name.clone(), restarted);
        } else if table.features.len() > old.features.len() {
            self.extended.insert(name.clone());
        }
        self.keep_or_replace(&old, table);
        Some(())
    }

    /// Whether the table is to be filled from history: not where every record is still to come, and refused where
    /// there is none to read.
    fn fills(&mut self, spec: &DerivationSpec, table: &TableDef) -> Option<bool> {
        let Some(from) = spec.backfill else { return Some(false) };
        let Some(&is_whole) = self.options.histories.get(&table.event_name) else {
            let reason = format!("no Kafka source feeds event \"{}\": what was pushed cannot be read again", table.event_name);
            self.problems.error(Code::BackfillNoHistory, format!("{}.backfill", spec.path), reason);
            return None;
        };
        let is_known = self.now.event(&table.event_name).is_some();
        if is_whole && (!is_known || self.options.unfed.contains(&table.event)) {
            return Some(false);
        }
        self.fills.insert(spec.name.clone(), from);
        Some(true)
    }

    /// What of a table's state still means the same.
    pub(super) fn kept(&self, old: &TableDef, new: &TableDef) -> Kept {
        if self.retimed.contains(&*old.event_name) { Kept::Nothing } else { kept(old, new) }
    }

    /// The same table under another number, without what its predecessor left behind.
    pub(super) fn rebuild(&mut self, spec: &DerivationSpec, group: &GroupSpec, table: TableDef) -> TableDef {
        let identity = Identity { id: self.next_table_id, computed: Vec::new(), ..Identity::of(&table) };
        self.next_table_id += 1;
        self.rebuilt.insert(table.name.to_string());
        // It has just compiled, so it compiles; its warnings are told already.
        self.world.compile_table(spec, group, identity, &mut Problems::default()).unwrap_or(table)
    }

    pub(super) fn keep_or_replace(&mut self, old: &Arc<TableDef>, table: TableDef) {
        if **old != table {
            self.tables.insert(table.name.clone(), Arc::new(table));
        }
    }

    /// Omitted descriptors that go with `force` (those on a named event, of this owner) or with `prune` (all of this owner).
    pub(super) fn prune(&mut self) {
        let named = |name: &str| self.request.places.contains_key(name);
        let everything = self.request.prune == Some(true) || self.options.origin == Origin::Config;
        let dependents = self.request.force && self.request.prune != Some(false);
        if !everything && !dependents {
            return;
        }
        let mut omitted: Vec<String> = Vec::new();
        for name in self.now.names() {
            let Some((owner, origin)) = self.now.ownership(&name) else { continue };
            if named(&name)
                || self.removed.contains(&name)
                || self.renames.is_vacated(&name)
                || origin != self.options.origin
                || (owner != self.request.owner && origin == Origin::Api)
            {
                continue;
            }
            let on_named_event = self.now.root_event(&name).is_some_and(|event| event != name && named(event));
            if everything || on_named_event {
                omitted.push(name);
            }
        }
        let guessed = if everything { self.guesses(&omitted) } else { BTreeMap::new() };
        for name in omitted {
            self.diff.destructive.push(match guessed.get(&name).cloned() {
                Some((to, true)) => Difference::Rename { from: name.clone(), to },
                found => Difference::Removal { name: name.clone(), alike: found.map(|(to, _)| to) },
            });
            self.forget(&name);
        }
    }

    /// For vanishing nodes, which new one each could be under another name, and whether it is the same in all
    /// else. No two of them are guessed to be the same one, since it can take over one state only; those that
    /// are the same come first.
    fn guesses(&self, gone: &[String]) -> BTreeMap<String, (String, bool)> {
        let mut guesses: BTreeMap<String, (String, bool)> = BTreeMap::new();
        for same in [true, false] {
            for name in gone {
                let free = |to: &str| guesses.values().all(|(taken, _)| taken != to);
                let to = match self.now.table(name) {
                    _ if guesses.contains_key(name) => None,
                    _ if same => self.same_but_its_name(name, free),
                    Some(table) => self.alike(table, free),
                    None => None,
                };
                if let Some(to) = to {
                    guesses.insert(name.clone(), (to, same));
                }
            }
        }
        guesses
    }

    fn same_but_its_name(&self, gone: &str, free: impl Fn(&str) -> bool) -> Option<String> {
        let nameless = |node: &Json| {
            let mut node = node.clone();
            node["name"] = Json::Null;
            node
        };
        let before = nameless(self.now.node(gone)?);
        let node_of = |name: &str| {
            let table = || self.tables.get(name).map(|table| &table.node);
            let event = || self.world.events.get(name).map(|event| &event.node);
            table().or_else(event).or_else(|| self.derivations.get(name).map(|derivation| &derivation.node))
        };
        let mut candidates = self.added.iter().filter(|name| free(name));
        candidates.find(|name| node_of(name).is_some_and(|node| nameless(node) == before)).cloned()
    }

    pub(super) fn finish(self) -> RegisterOutcome {
        let effects = self.effects();
        let rebuilt = self.rebuilt_features();
        let mut added = self.added.clone();
        let mut extended = self.extended.clone();
        if !self.overwritten.is_empty() {
            let again = |name: &&String| self.rebuilt.contains(*name) || self.restarted.contains_key(*name);
            added.extend(self.request.names.iter().filter(again).cloned());
            added.extend(self.overwritten.iter().filter(|name| self.request.places.contains_key(*name)).cloned());
        }
        extended.retain(|name| !added.contains(name));
        let changed = self.world.events != self.now.events || self.derivations != self.now.derivations || self.tables != self.now.tables;
        let projections = self.projections();
        let changed = changed || projections != self.now.projections;
        let (told, reread) = (self.told(), self.reread());
        let next = changed.then(|| {
            Arc::new(Registry {
                version: self.now.version + 1,
                events: self.world.events.clone(),
                derivations: self.derivations.clone(),
                tables: self.tables.clone(),
                projections,
                next_event_id: self.next_event_id,
                next_table_id: self.next_table_id,
            })
        });
        let mut already_present = self.diff.already_present.clone();
        already_present.retain(|name| !added.contains(name));
        already_present.sort_unstable();
        let mut reply = json!({
            "status": "ok",
            "registry_version": next.as_ref().map_or(self.now.version, |next| next.version),
            "registered_descriptors": self.request.names,
            "added": added,
            "already_present": already_present,
            "extended": extended,
            "rebuilt": rebuilt,
            "removed": self.removed,
            "warnings": warnings_json(&self.problems.warnings),
        });
        let filling: BTreeMap<&str, String> = effects
            .iter()
            .filter_map(|effect| match effect {
                TableEffect::Fill { table, history } => {
                    let def = self.tables.values().find(|def| def.id == *table)?;
                    Some((&*def.name, history.to_string()))
                }
                _ => None,
            })
            .collect();
        if !filling.is_empty() {
            reply["filling"] = json!(filling);
        }
        let renamed: Vec<Json> = self.renames.iter().map(|(to, from)| json!({ "from": from, "to": to })).collect();
        if !renamed.is_empty() {
            reply["renamed"] = renamed.into();
        }
        RegisterOutcome { next, effects, reply, told, reread, warnings: self.problems.warnings }
    }

    /// Where sources take fields from, after the change.
    fn projections(&self) -> Projections {
        let none = Projections::new();
        merged(&self.now.projections, self.options.projections.unwrap_or(&none), |event| self.world.events.contains_key(event))
    }

    fn rebuilt_features(&self) -> BTreeSet<String> {
        let pairs =
            self.rebuilt.iter().filter_map(|name| Some((self.now.table(self.renames.before(name))?, self.tables.get(name.as_str())?)));
        let whole = pairs.flat_map(|(old, after)| {
            let kept = old.features.iter().filter(|feature| after.feature(&feature.name).is_some());
            kept.map(|feature| format!("{}.{}", after.name, feature.name))
        });
        let single = self.restarted.iter().flat_map(|(table, features)| features.iter().map(move |feature| format!("{table}.{feature}")));
        whole.chain(single).collect()
    }

    /// Drops, then retirements, then creations, then extensions.
    fn effects(&self) -> Vec<TableEffect> {
        let mut drops = Vec::new();
        let mut retired = Vec::new();
        let mut extended = Vec::new();
        let after: BTreeMap<u32, &Arc<TableDef>> = self.tables.values().map(|table| (table.id, table)).collect();
        for old in self.now.tables.values() {
            // The number is what a table keeps under another name.
            let Some(new) = after.get(&old.id) else {
                drops.push(TableEffect::Drop { table: old.id });
                continue;
            };
            let restarted = |name: &str| self.restarted.get(&*new.name).is_some_and(|features| features.contains(name));
            let gone = old.features.iter().filter(|feature| new.feature(&feature.name).is_none() || restarted(&feature.name));
            let begun = new.features.iter().filter(|feature| old.feature(&feature.name).is_none() || restarted(&feature.name));
            let gone: Vec<String> = gone.map(|feature| feature.name.to_string()).collect();
            let begun: Vec<String> = begun.map(|feature| feature.name.to_string()).collect();
            if !gone.is_empty() {
                retired.push(TableEffect::Retire { table: old.id, features: gone });
            }
            if !begun.is_empty() {
                extended.push(TableEffect::Extend { table: old.id, features: begun });
            }
        }
        let known: BTreeSet<u32> = self.now.tables.values().map(|table| table.id).collect();
        let created = self.tables.values().filter(|table| !known.contains(&table.id)).map(|table| match self.fills.get(&*table.name) {
            Some(&history) => TableEffect::Fill { table: table.id, history },
            None => TableEffect::Create { table: table.id },
        });
        drops.into_iter().chain(retired).chain(created).chain(extended).collect()
    }
}

/// Compares upstream and chain steps of a derivation with its registered node.
fn compare_nodes(name: &str, old: &Json, spec: &DerivationSpec, diff: &mut Diff) {
    let upstream = &old["upstreams"][0];
    if upstream != spec.upstream.as_str() {
        let (table, op, to) = (name.to_owned(), "upstream".to_owned(), spec.upstream.as_str().into());
        diff.destructive.push(Difference::ChainChange { table, op, from: upstream.clone(), to });
    }
    let steps: Vec<Json> =
        old["ops"].as_array().map(|ops| ops.iter().filter(|op| op["op"] != "group_by").cloned().collect()).unwrap_or_default();
    compare_ops(name, &steps, &spec.canonical_ops(), diff);
}

/// Compares what a table is keyed by and fed with; true when it has to be built anew.
fn compare_tables(old: &TableDef, new: &TableDef, spec: &DerivationSpec, diff: &mut Diff) -> bool {
    let before = diff.destructive.len();
    compare_nodes(&new.name, &old.node, spec, diff);
    let names = |table: &TableDef| table.keys.iter().map(|key| key.name.to_string()).collect::<Vec<String>>();
    if names(old) != names(new) {
        diff.destructive.push(Difference::KeyColsChange { table: new.name.to_string(), from: names(old), to: names(new) });
    }
    diff.destructive.len() > before
}

/// Warnings as they stand in replies.
pub(super) fn warnings_json(warnings: &[Problem]) -> Json {
    let warnings = warnings.iter();
    warnings.map(|problem| json!({ "code": problem.code.as_str(), "path": problem.path, "reason": problem.reason })).collect()
}
