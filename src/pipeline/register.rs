//! The register call: payload and registry in, next registry and effects out.
//!
//! The order is the contract's: raw checks, shapes, semantics (in the world as it would be after the change), diff, `dry_run`, conflicts. What is not
//! named is left alone; what would lose or reinterpret state needs `force`; `force` rebuilds the least. Nothing is changed in place and nothing is done
//! here: the apply thread writes the outcome into the WAL and then carries the effects out.

use super::change::{Change, warnings_json};
use super::definition::{Origin, TableEffect};
use super::feature::Operators;
use super::history::Histories;
use super::loss::Loss;
use super::payload::Tree;
use super::problem::{Problem, Problems};
use super::projection::{Projections, Reread};
use super::registry::Registry;
use super::request::Request;
use crate::row::EventId;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use streamgauge_api::{ApiError, Code};

/// Who registers, and under which rules.
#[derive(Clone, Copy)]
pub struct RegisterOptions<'o> {
    /// Config file or register call.
    pub origin: Origin,
    /// The operators there are.
    pub operators: Operators,
    /// Refuse lifetime features whose state has no bound (`BEAVA_MEMORY_GOV_ENFORCE`).
    pub lifetime_bound: bool,
    /// Drop the windows of decay and velocity operators (`compat.velocity_window = "ignore"`).
    pub ignore_velocity_windows: bool,
    /// Tables (`T`), features (`T.f`), events (`E`) and fields (`E.f`) that the config file may rebuild or drop (`--rebuild`).
    pub rebuild: &'o [String],
    /// Events of which no row was ever applied: whatever changes about them loses nothing.
    pub unfed: &'o [EventId],
    /// Where the config file's sources take fields from; none when that is not said (register calls).
    pub projections: Option<&'o Projections>,
    /// Events that have a history to read.
    pub histories: &'o Histories,
}

/// No event has one.
static NO_HISTORIES: Histories = Histories::new();

impl Default for RegisterOptions<'_> {
    fn default() -> Self {
        Self {
            origin: Origin::Api,
            operators: crate::operators::OPERATORS,
            lifetime_bound: true,
            ignore_velocity_windows: false,
            rebuild: &[],
            unfed: &[],
            projections: None,
            histories: &NO_HISTORIES,
        }
    }
}

/// What a register call comes to.
#[derive(Debug, Clone)]
pub struct RegisterOutcome {
    /// The registry after the change; none when nothing changes (a repetition, or `dry_run`).
    pub next: Option<Arc<Registry>>,
    /// What the state has to do, in order.
    pub effects: Vec<TableEffect>,
    /// The reply's body.
    pub reply: Json,
    /// What changes in the definitions, one sentence each.
    pub told: Vec<String>,
    /// What sources are read by otherwise from their present positions on.
    pub reread: Vec<Reread>,
    /// What is accepted but probably not meant; also in the reply.
    pub warnings: Vec<Problem>,
}

impl RegisterOutcome {
    /// All that changes, one sentence each.
    pub fn all_told(&self) -> Vec<String> {
        self.told.iter().chain(self.reread.iter().map(|reread| &reread.what)).cloned().collect()
    }
}

/// Why a register call is refused. Nothing has changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{error}")]
pub struct RegisterError {
    /// The first error, with all of them in its member `errors`.
    pub error: Box<ApiError>,
    /// All errors.
    pub problems: Vec<Problem>,
    /// What would be lost, when that is why.
    pub losses: Vec<Loss>,
    /// Warnings found besides.
    pub warnings: Vec<Problem>,
    /// The version in force, which stands beside `error` in replies.
    pub registry_version: u64,
}

impl RegisterError {
    /// The reply's body.
    pub fn to_json(&self) -> Json {
        json!({ "error": self.error.to_json(), "registry_version": self.registry_version })
    }
}

impl From<RegisterError> for ApiError {
    fn from(refused: RegisterError) -> Self {
        *refused.error
    }
}

impl Registry {
    /// Validates a register payload and computes what it changes. Pure.
    ///
    /// # Errors
    /// All problems of an invalid payload; the diff of one that would lose state without `force`.
    pub fn apply_register(&self, payload: &str, options: &RegisterOptions<'_>) -> Result<RegisterOutcome, RegisterError> {
        let mut problems = Problems::default();
        let request = Request::parse(payload, options.operators, options.lifetime_bound, &mut problems);
        self.apply_request(&request, options, problems)
    }

    /// The same for a payload that is a tree already, as the config file makes one.
    ///
    /// # Errors
    /// As [`Registry::apply_register`].
    pub fn apply_tree(&self, payload: &Tree, options: &RegisterOptions<'_>) -> Result<RegisterOutcome, RegisterError> {
        let mut problems = Problems::default();
        let request = Request::decode(payload, options.operators, options.lifetime_bound, &mut problems);
        self.apply_request(&request, options, problems)
    }

    /// `POST /unregister {"names":[..],"dry_run"?}`: removal without nodes.
    ///
    /// # Errors
    /// As [`Registry::apply_register`].
    pub fn apply_unregister(&self, body: &str, options: &RegisterOptions<'_>) -> Result<RegisterOutcome, RegisterError> {
        let tree = Tree::parse(body).unwrap_or(Tree::Null);
        let Some(names) = tree.get("names").filter(|names| names.texts().is_some()) else {
            let problem = Problem::new(Code::InvalidRequest, "names", "an object with an array of names is wanted");
            return Err(self.refuse(vec![problem], Vec::new()));
        };
        let mut members = vec![("nodes".to_owned(), Tree::List(Vec::new())), ("remove".to_owned(), names.clone())];
        for member in ["dry_run", "owner"] {
            members.extend(tree.get(member).map(|value| (member.to_owned(), value.clone())));
        }
        self.apply_tree(&Tree::Map(members), options)
    }

    fn apply_request(
        &self,
        request: &Request,
        options: &RegisterOptions<'_>,
        problems: Problems,
    ) -> Result<RegisterOutcome, RegisterError> {
        let mut change = Change::new(self, request, options, problems);
        change.removals();
        change.renames();
        change.nodes();
        change.prune();
        if !change.problems.errors.is_empty() {
            let Problems { errors, warnings } = change.problems;
            return Err(self.refuse(errors, warnings));
        }
        change.dependents();
        change.settle();
        if request.dry_run {
            let reply =
                json!({ "diff": change.diff.to_json(), "would_apply": false, "warnings": warnings_json(&change.problems.warnings) });
            let (told, reread) = (change.told(), change.reread());
            return Ok(RegisterOutcome { next: None, effects: Vec::new(), reply, told, reread, warnings: change.problems.warnings });
        }
        if let Some(error) = change.conflict() {
            return Err(error);
        }
        if let Some(error) = change.stranding() {
            return Err(error);
        }
        Ok(change.finish())
    }

    fn refuse(&self, errors: Vec<Problem>, warnings: Vec<Problem>) -> RegisterError {
        let list: Vec<Json> =
            errors.iter().map(|problem| json!({ "code": problem.code.as_str(), "path": problem.path, "reason": problem.reason })).collect();
        let first =
            errors.first().map_or_else(|| ApiError::new(Code::InvalidRegistration, "the declaration is not valid"), Problem::to_error);
        let error = Box::new(first.with("errors", Json::Array(list)));
        RegisterError { error, problems: errors, losses: Vec::new(), warnings, registry_version: self.version }
    }
}
