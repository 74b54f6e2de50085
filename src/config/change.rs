//! A changed file at restart: what it does to the definitions that the state was built with.
//!
//! Additions go through; what would lose state stops the start and shows the difference, unless it was allowed by name. What the file declared before and does
//! not declare any more counts as lost. Pure: startup writes the outcome into the WAL and lets the state carry it out.

use super::Config;
use crate::pipeline::{Origin, RegisterOptions, RegisterOutcome, Registry, Tree};
use serde_json::Value as Json;
use std::fmt;
use streamgauge_api::{ApiError, Code};

/// Why a changed file is refused. Nothing has changed.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigChangeRefused {
    /// `config_change_destructive`: its reason tells the losses, its member `diff` is the difference; another code when the file does not go together with what clients registered.
    pub error: ApiError,
    /// What would be lost, one sentence each.
    pub losses: Vec<String>,
    /// The flags that would allow it.
    pub allow: Vec<String>,
}

impl fmt::Display for ConfigChangeRefused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "error[{}]: {}", self.error.code, self.error.reason)?;
        let help = self.error.hint.as_deref().unwrap_or(self.error.code.advice());
        write!(out, "\n  help  {help}   (streamgauge errors {})", self.error.code)
    }
}

impl std::error::Error for ConfigChangeRefused {}

/// What the file changes in the stored definitions; none when they agree. `rebuild` names tables (`T`), features (`T.f`) and events whose state may go.
///
/// # Errors
/// A loss that nobody allowed, or definitions that do not go together with those of clients.
pub fn config_change(stored: &Registry, config: &Config, rebuild: &[String]) -> Result<Option<RegisterOutcome>, Box<ConfigChangeRefused>> {
    let options = RegisterOptions {
        origin: Origin::Config,
        lifetime_bound: config.compat.lifetime_bound,
        ignore_velocity_windows: config.compat.ignore_velocity_windows,
        rebuild,
        ..RegisterOptions::default()
    };
    match stored.apply_tree(&config.payload, &options) {
        Ok(outcome) => Ok(outcome.next.is_some().then_some(outcome)),
        Err(refused) => Err(Box::new(refusal(*refused.error, rebuild))),
    }
}

fn refusal(mut error: ApiError, rebuild: &[String]) -> ConfigChangeRefused {
    let destructive = error.more.get("diff").and_then(|diff| diff["destructive"].as_array()).cloned().unwrap_or_default();
    let mut losses = Vec::with_capacity(destructive.len());
    let mut allow: Vec<String> = rebuild.iter().map(|name| format!("--rebuild {name}")).collect();
    for entry in &destructive {
        let (sentence, name) = loss(entry);
        losses.push(sentence);
        let flag = format!("--rebuild {name}");
        if !allow.contains(&flag) {
            allow.push(flag);
        }
    }
    if error.code == Code::ConfigChangeDestructive {
        error.reason = format!("{}: {}", error.reason, losses.join("; "));
        error.hint = Some(format!("undo the change, or allow it: {}", allow.join(" ")));
    } else {
        allow.clear();
    }
    ConfigChangeRefused { error, losses, allow }
}

/// An entry of the difference as a sentence, and the name under which it can be allowed.
fn loss(entry: &Json) -> (String, String) {
    let text = |member: &str| match &entry[member] {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    let (from, to) = (text("from"), text("to"));
    match entry["kind"].as_str().unwrap_or_default() {
        "type_change" => {
            let field = text("field");
            let event = field.split('.').next().unwrap_or_default().to_owned();
            let sentence = if to == "<absent>" {
                format!("field {field} ({from}) is gone")
            } else {
                format!("field {field} changes from {from} to {to}")
            };
            (format!("{sentence}: tables that read it start again"), event)
        }
        "agg_removal" if text("agg").is_empty() => (format!("{} is no longer declared", text("table")), text("table")),
        "agg_removal" => {
            let feature = format!("{}.{}", text("table"), text("agg"));
            (format!("feature {feature} is no longer declared"), feature)
        }
        "op_removal" => (format!("table {} loses its step {}: all its keys start again", text("table"), text("agg")), text("table")),
        "window_change" => {
            let feature = text("agg");
            (format!("feature {feature}: its window changes from {from} to {to}; it starts again"), feature)
        }
        "param_change" => {
            let feature = text("agg");
            (format!("feature {feature}: {} changes from {from} to {to}; it starts again", text("param")), feature)
        }
        "key_cols_change" => {
            (format!("table {}: its key changes from {from} to {to}; all its keys start again", text("table")), text("table"))
        }
        _ => {
            let name = text("table");
            (format!("table {name}: {} changes from {from} to {to}; all its keys start again", text("op")), name)
        }
    }
}

/// A payload as JSON text, members in their order.
pub(super) fn payload_text(tree: &Tree) -> String {
    let list = |parts: Vec<String>, open: char, close: char| format!("{open}{}{close}", parts.join(","));
    match tree {
        Tree::List(items) => list(items.iter().map(payload_text).collect(), '[', ']'),
        Tree::Map(members) => {
            let member = |(name, value): &(String, Tree)| format!("{}:{}", Json::from(name.as_str()), payload_text(value));
            list(members.iter().map(member).collect(), '{', '}')
        }
        scalar => scalar.to_json().to_string(),
    }
}
