//! Nodes resolved against each other: upstreams followed to their event, chains composed, keys and features compiled.
//!
//! A register call builds the world as it would be after the change and compiles in it; reading a registry back does the same with the stored nodes, so both
//! come to the same definitions.

use super::chain::Scope;
use super::definition::{EventDef, FeatureDef, KeyColumn, KeyKind, Origin, TableDef};
use super::duration::format_duration;
use super::feature::{self, Checks, Operators};
use super::node::{DerivationSpec, GroupSpec};
use super::problem::{Problem, Problems};
use crate::operators::{ParamKind, RESOLUTION};
use crate::state::{OversizedRing, oversized_ring};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use streamgauge_api::{Code, did_you_mean};

/// Events and derivations by name, and what compiling needs to know.
#[derive(Clone)]
pub(super) struct World {
    pub(super) events: BTreeMap<Box<str>, Arc<EventDef>>,
    pub(super) derivations: BTreeMap<Box<str>, Arc<DerivationSpec>>,
    pub(super) operators: Operators,
    pub(super) checks: Checks,
}

/// What a table has besides its node.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) id: u32,
    pub(super) owner: Box<str>,
    pub(super) origin: Origin,
    /// Computed fields of its earlier compilations.
    pub(super) computed: Vec<Box<str>>,
}

impl Identity {
    /// That of a table that stays.
    pub(super) fn of(table: &TableDef) -> Self {
        Self { id: table.id, owner: table.owner.clone(), origin: table.origin, computed: table.computed.clone() }
    }
}

impl World {
    /// The event at the root of a derivation and what its names stand for before its own steps.
    pub(super) fn upstream_scope(&self, spec: &DerivationSpec, problems: &mut Problems) -> Option<(Arc<EventDef>, Scope)> {
        let path = format!("{}.upstreams[0]", spec.path);
        let mut lineage: Vec<&DerivationSpec> = Vec::new();
        let mut seen = BTreeSet::from([spec.name.as_str()]);
        let mut upstream = spec.upstream.as_str();
        let event = loop {
            if let Some(event) = self.events.get(upstream) {
                break event;
            }
            let Some(derivation) = self.derivations.get(upstream) else {
                let known = self.events.keys().chain(self.derivations.keys());
                let problem = Problem::new(Code::InvalidRegistration, path, format!("there is no event \"{upstream}\""));
                problems.errors.push(problem.hint(did_you_mean(upstream, known)));
                return None;
            };
            if derivation.table {
                let reason = format!("\"{upstream}\" is a table; a table cannot be aggregated");
                problems.error(Code::AggregationOnTableNotSupported, path, reason);
                return None;
            }
            if !seen.insert(upstream) {
                problems.error(Code::InvalidRegistration, path, format!("\"{upstream}\" feeds itself"));
                return None;
            }
            lineage.push(derivation);
            upstream = &derivation.upstream;
        };
        let mut scope = Scope::of_event(&event.schema);
        for derivation in lineage.iter().rev() {
            Self::run_ops(&mut scope, derivation, problems)?;
        }
        Some((event.clone(), scope))
    }

    fn run_ops(scope: &mut Scope, spec: &DerivationSpec, problems: &mut Problems) -> Option<()> {
        for (path, op) in &spec.ops {
            scope.apply(op, path, problems)?;
        }
        Some(())
    }

    /// Checks an event derivation; its event.
    pub(super) fn check_derivation(&self, spec: &DerivationSpec, problems: &mut Problems) -> Option<Arc<EventDef>> {
        let (event, mut scope) = self.upstream_scope(spec, problems)?;
        Self::run_ops(&mut scope, spec, problems)?;
        Some(event)
    }

    /// Compiles a table. What is wrong goes into `problems`, all features' problems at once.
    pub(super) fn compile_table(
        &self,
        spec: &DerivationSpec,
        group: &GroupSpec,
        identity: Identity,
        problems: &mut Problems,
    ) -> Option<TableDef> {
        let (event, mut scope) = self.upstream_scope(spec, problems)?;
        Self::run_ops(&mut scope, spec, problems)?;
        let chain_steps = scope.chain.steps.len();
        scope.keep_computed(&identity.computed);
        let keys = keys(group, &scope, problems);
        let mut features: Vec<Arc<FeatureDef>> = Vec::with_capacity(group.features.len());
        let mut sound = true;
        let mut sorted: Vec<&(String, super::payload::Tree)> = group.features.iter().collect();
        sorted.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        for (name, tree) in sorted {
            let path = format!("{}.agg.{name}", group.path);
            if group.keys.contains(name) {
                let reason = format!("feature \"{name}\" has the name of a key column");
                problems.error(Code::AggregationGroupKeyCollidesWithFeature, path, reason);
                sound = false;
                continue;
            }
            match feature::compile(name, tree, &path, &mut scope, self.operators, self.checks, problems) {
                Some(feature) => features.push(Arc::new(feature)),
                None => sound = false,
            }
        }
        if !sound {
            return None;
        }
        if let Some(ring) = oversized_ring(&features) {
            refuse_ring(&ring, &spec.name, group, &features, problems);
            return None;
        }
        let nodes: Vec<(String, Json)> = features.iter().map(|feature| (feature.name.to_string(), feature.declared())).collect();
        Some(TableDef {
            id: identity.id,
            name: spec.name.as_str().into(),
            event: event.schema.id,
            event_name: event.schema.name.clone(),
            chain: scope.chain,
            chain_steps,
            computed: scope.computed,
            keys: keys?,
            features,
            owner: identity.owner,
            origin: identity.origin,
            node: spec.canonical(&nodes),
        })
    }
}

/// A window that cannot be cut as finely as its features ask, told at the first of them.
fn refuse_ring(ring: &OversizedRing, table: &str, group: &GroupSpec, features: &[Arc<FeatureDef>], problems: &mut Problems) {
    let OversizedRing { window_us, resolution, bucket_words, resolution_fitting } = *ring;
    let inside = |feature: &&Arc<FeatureDef>| feature.window_us == Some(window_us) && feature.resolution as usize == resolution;
    let mut inside = features.iter().filter(inside);
    let Some(first) = inside.next() else { unreachable!("a ring holds at least one feature") };
    let count = 1 + inside.count();
    let param = if first.node["params"][RESOLUTION.name].is_null() { "window" } else { RESOLUTION.name };
    let path = format!("{}.agg.{}.params.{param}", group.path, first.name);
    let window = format_duration(window_us);
    let reason = format!(
        "table {table}: window {window} at resolution {resolution} is too large: {count} features take {} bytes in each bucket, \
         so that a ring has room for {resolution_fitting}",
        bucket_words * 8
    );
    let ParamKind::Int { min, .. } = RESOLUTION.kind else { unreachable!("a resolution is an integer") };
    let hint = if resolution_fitting as i64 >= min {
        format!("set resolution = {resolution_fitting} or less on every feature of this window, or split the table")
    } else {
        "split the features over several tables".to_owned()
    };
    problems.errors.push(Problem::new(RESOLUTION.code, path, reason).hint(Some(hint)));
}

fn keys(group: &GroupSpec, scope: &Scope, problems: &mut Problems) -> Option<Vec<KeyColumn>> {
    let mut keys: Vec<KeyColumn> = Vec::with_capacity(group.keys.len());
    let mut sound = true;
    for (index, name) in group.keys.iter().enumerate() {
        let path = format!("{}.keys[{index}]", group.path);
        let Some(resolved) = scope.resolve(name) else {
            let problem = Problem::new(Code::AggregationUnknownField, path, format!("there is no field \"{name}\" after the chain"));
            problems.errors.push(problem.hint(did_you_mean(name, scope.known())));
            sound = false;
            continue;
        };
        let kind = resolved.kind.and_then(KeyKind::of);
        let Some(kind) = kind.filter(|_| !keys.iter().any(|key| *key.name == **name)) else {
            let reason = match (kind, resolved.kind) {
                (Some(_), _) => format!("key column \"{name}\" stands twice"),
                (None, Some(kind)) => format!("key column \"{name}\" is {}; a key is str, i64, bool or datetime", kind.as_str()),
                (None, None) => format!("the type of key column \"{name}\" is not known; give it one with cast"),
            };
            problems.error(Code::InvalidRegistration, path, reason);
            sound = false;
            continue;
        };
        keys.push(KeyColumn { name: name.as_str().into(), column: resolved.column, kind });
    }
    sound.then_some(keys)
}
