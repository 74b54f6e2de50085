//! `check`: all that is wrong with a config before it is run, what its keys will cost, and what it changes in
//! the state that is there.
//!
//! Three things are looked at: the file itself, the outside world (brokers, registries, secrets; not with
//! `--offline`), and the definitions in the data folder, which are read beside a running server. What the next
//! start would refuse is a problem here, in the same words; what it would do is listed. Nothing is written.

use super::plan::{self, client_rules, look_outside};
use super::run::{environment, rebuild_name, refuse, tell, variables};
use crate::cli::{CheckArgs, Console, Exit, Failure};
use crate::config::{Config, Eventstore, Flags, Outside, PushLevel, TablePrice, config_change, unknown_rebuild};
use crate::recovery::{Definitions, definitions};
use crate::storage::Disk;
use serde_json::json;
use streamgauge_api::{ApiError, Code};

/// What the file changes in the stored definitions.
#[derive(Debug, Default)]
struct Changes {
    told: Vec<String>,
    refused: Option<ApiError>,
    /// Why they could not be looked at.
    unread: Option<ApiError>,
}

/// Compares the config with the definitions in its data folder, when there are any.
fn changes(config: &Config, rebuild: &[String]) -> Changes {
    if config.durability.push == PushLevel::Memory {
        return Changes::default();
    }
    let data = &config.server.data_dir;
    let Definitions { registry, unfed, positions } = match definitions(&Disk, &data.join("wal"), &data.join("snapshots")) {
        Ok(Some(stored)) => stored,
        Ok(None) => return Changes::default(),
        Err(error) => return Changes { unread: Some(error.into()), ..Changes::default() },
    };
    match config_change(&registry, &unfed, config, rebuild) {
        Ok(None) => Changes { refused: unknown_rebuild(&registry, config, rebuild), ..Changes::default() },
        // What a first start declares is no change.
        Ok(outcome) if registry.node_count() > 0 => {
            let told = outcome.map(|outcome| [plan::rereads(config, &outcome, &positions), outcome.told].concat());
            Changes { told: told.unwrap_or_default(), ..Changes::default() }
        }
        Ok(_) => Changes::default(),
        Err(refused) => Changes { refused: Some(refused.error), ..Changes::default() },
    }
}

/// All problems of a config at once, with those of the outside world unless `--offline`.
///
/// # Errors
/// When the output cannot be written.
pub fn check(args: &CheckArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let outside = Outside { env: &environment, names: &variables, client: client_rules() };
    let flags = Flags { offline: args.offline, data_dir: args.data_dir.clone(), eventstore: args.eventstore.clone(), ..Flags::default() };
    let config = match Config::load(Some(&args.config), &flags, &outside) {
        Ok(config) => config,
        Err(problems) if args.json => {
            console.document(&problems.to_json())?;
            return Ok(Exit::Finding);
        }
        Err(problems) => {
            refuse(&problems, console)?;
            return Ok(Exit::Finding);
        }
    };
    let rebuild: Vec<String> = args.rebuild.iter().map(rebuild_name).collect();
    let Changes { told, refused, unread } = changes(&config, &rebuild);
    let plan::Outside { problems: mut found, notes } = if args.offline { plan::Outside::default() } else { look_outside(&config)? };
    // What does not answer is told once.
    let sampled = match args.sample.filter(|_| found.is_empty()) {
        Some(count) => {
            let (lines, problems) = super::sample::of_config(&config, count as usize)?;
            found.extend(problems);
            lines
        }
        None => Vec::new(),
    };
    found.extend(refused);
    found.extend(unread);
    if args.runnable {
        found.extend(config.eventstore.iter().flat_map(Eventstore::missing));
    }
    let warned = !config.warnings.warnings.is_empty();
    // What `run` only warns of, because an environment is seldom one's own alone.
    let misspelt = config.warnings.warnings.iter().any(|warning| warning.code == Code::UnknownConfigKey);
    let prices = config.prices(crate::state::bytes_per_key);
    if args.json {
        let table = |price: &TablePrice| json!({"table": price.table, "bytes_per_key": price.small_bytes, "bytes_per_key_grown": price.grown_bytes});
        let tables: Vec<_> = prices.iter().map(table).collect();
        let problems: Vec<_> = found.iter().map(ApiError::to_json).collect();
        let warnings = config.warnings.to_json();
        console.document(
            &json!({"ok": found.is_empty() && !misspelt, "problems": problems, "warnings": warnings, "changes": told, "notes": notes, "sampled": sampled, "tables": tables}),
        )?;
    } else {
        if warned {
            tell(&config.warnings.render(false), false, console)?;
        }
        for problem in &found {
            console.refusal(problem)?;
        }
        for change in &told {
            console.line(&format!("the next start: {change}"))?;
        }
        for line in &sampled {
            console.line(line)?;
        }
        for note in &notes {
            console.line(&format!("note: {note}"))?;
        }
        for TablePrice { table, small_bytes, grown_bytes, .. } in &prices {
            console.line(&format!(
                "table {table}: about {small_bytes} bytes per key with one row, {grown_bytes} when all windows are full (sketches extra)"
            ))?;
        }
        if found.is_empty() && !misspelt {
            console.line("ok")?;
        }
    }
    let bad = !found.is_empty() || misspelt || (warned && args.deny_warnings);
    Ok(if bad { Exit::Finding } else { Exit::Ok })
}
