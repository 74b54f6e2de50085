//! `run` and `check`: from arguments to an exit code.

use super::logging;
use super::plan::{client_rules, outside_problems, server_options};
use super::server::{Bound, Server};
use crate::cli::{CheckArgs, Console, Exit, Failure, LogFormat, Rebuild, RunArgs};
use crate::config::{self, Config, ConfigProblems, Flags, Outside};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::IsTerminal;
use std::time::{Duration, Instant};
use streamgauge_api::{ApiError, Code};

/// Within this time a stop is done, also with a large last snapshot; a second signal ends it at once.
const STOP_GRACE: Duration = Duration::from_secs(60);
/// Progress is told after this long.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn log_format(format: Option<LogFormat>) -> Option<config::LogFormat> {
    format.map(|format| match format {
        LogFormat::Text => config::LogFormat::Text,
        LogFormat::Json => config::LogFormat::Json,
    })
}

fn flags(args: &RunArgs) -> Flags {
    Flags {
        http: args.http_addr,
        tcp: args.tcp_addr,
        admin: args.admin_addr,
        data_dir: args.data_dir.clone(),
        memory_only: args.memory_only,
        test_mode: args.test_mode,
        insecure_no_auth: args.insecure_no_auth,
        log_format: log_format(args.log_format),
        offline: false,
    }
}

/// `T` or `T.f`, as the pipeline names what may be rebuilt.
fn rebuild_name(rebuild: &Rebuild) -> String {
    match &rebuild.feature {
        Some(feature) => format!("{}.{feature}", rebuild.table),
        None => rebuild.table.clone(),
    }
}

/// Prints lines of talk. Drawings in colour go out as they are: their user text has been made harmless already, and the console would show their escapes.
fn tell(text: &str, colour: bool, console: &mut Console<'_>) -> Result<(), Failure> {
    if colour {
        console.err.write_all(text.as_bytes())?;
    } else {
        text.lines().try_for_each(|line| console.talk(line))?;
    }
    Ok(())
}

/// Prints config problems and gives the exit code of a bad config.
fn refuse(problems: &ConfigProblems, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tell(&problems.render(colour), colour, console)?;
    Ok(Exit::Config)
}

/// The server, until a signal or a failed log ends it.
///
/// # Errors
/// What start-up refuses.
pub fn run(args: &RunArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let outside = Outside { env: &environment, client: client_rules() };
    let config = match Config::load(args.config.as_deref(), &flags(args), &outside) {
        Ok(config) => config,
        Err(problems) => return refuse(&problems, console),
    };
    let format = match config.log.format {
        config::LogFormat::Auto => logging::Format::Auto,
        config::LogFormat::Text => logging::Format::Text,
        config::LogFormat::Json => logging::Format::Json,
    };
    logging::start(&config.log.level, format);
    tracing::info!(kind = "server.starting", version = env!("CARGO_PKG_VERSION"), settings = %config.origins, "starting");
    for warning in &config.warnings.warnings {
        tracing::warn!(code = %warning.code, place = ?warning.place, origin = warning.origin, "{}", warning.message);
    }
    let rebuild = args.rebuild.iter().map(rebuild_name).collect();
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(Failure::Output)?;
    let bound = Bound::bind(server_options(&config, rebuild)?)?;
    announce(&bound, console)?;
    let server = match start(bound) {
        Ok(server) => server,
        Err(error) => return told(&error, console),
    };
    tracing::info!(kind = "server.ready", http = ?server.http(), tcp = ?server.tcp(), admin = ?server.admin(), "serving");
    let failed = wait(&server, &mut signals);
    let begun = Instant::now();
    let second = std::thread::spawn(move || {
        // A second signal means now.
        if !failed && signals.forever().next().is_some() {
            std::process::exit(130);
        }
    });
    let stopped = server.stop(STOP_GRACE);
    drop(second);
    tracing::info!(kind = "server.stopped", seconds = begun.elapsed().as_secs_f64(), "stopped");
    match stopped {
        _ if failed => Ok(Exit::Io),
        Ok(()) => Ok(Exit::Ok),
        Err(error) => told(&error, console),
    }
}

/// Prints a refusal of start-up and picks its exit code.
fn told(error: &ApiError, console: &mut Console<'_>) -> Result<Exit, Failure> {
    console.refusal(error)?;
    Ok(Exit::of(error.code))
}

/// Recovery with progress on stderr.
fn start(bound: Bound) -> Result<Server, ApiError> {
    let control = bound.control();
    let (done, finished) = crossbeam_channel::bounded::<()>(1);
    let progress = std::thread::spawn(move || {
        while finished.recv_timeout(PROGRESS_EVERY).is_err_and(|error| error.is_timeout()) {
            let readiness = control.readiness();
            if readiness.phase == "recovering" {
                let percent = readiness.progress * 100.0;
                tracing::info!(kind = "recovery.progress", percent = percent.round(), eta_s = ?readiness.eta_s, "rebuilding the state");
            }
        }
    });
    let server = bound.start();
    drop(done);
    if progress.join().is_err() {
        tracing::error!("the progress thread panicked");
    }
    server
}

/// The two bind lines that clients wait for: all that `run` ever prints on stdout.
fn announce(bound: &Bound, console: &mut Console<'_>) -> Result<(), Failure> {
    for (kind, address) in [("server.http_bound", bound.http()), ("server.tcp_bound", bound.tcp())] {
        if let Some(address) = address {
            console.document(&serde_json::json!({"kind": kind, "addr": address.to_string()}))?;
        }
    }
    Ok(())
}

/// Waits for a signal; true when the log failed instead.
fn wait(server: &Server, signals: &mut Signals) -> bool {
    loop {
        if signals.pending().next().is_some() {
            return false;
        }
        if server.log_failed() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// All problems of a config at once, with those of the outside world unless `--offline`.
///
/// # Errors
/// When the output cannot be written.
pub fn check(args: &CheckArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let outside = Outside { env: &environment, client: client_rules() };
    let flags = Flags { offline: args.offline, ..Flags::default() };
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
    let found = if args.offline { Vec::new() } else { outside_problems(&config)? };
    let warned = !config.warnings.warnings.is_empty();
    let tables: Vec<serde_json::Value> = config
        .registry()
        .tables
        .values()
        .map(|table| {
            let (least, most) = crate::state::bytes_per_key(table);
            serde_json::json!({"table": table.name, "bytes_per_key": least, "bytes_per_key_grown": most})
        })
        .collect();
    if args.json {
        let problems: Vec<_> = found.iter().map(ApiError::to_json).collect();
        console.document(
            &serde_json::json!({"ok": found.is_empty(), "problems": problems, "warnings": config.warnings.to_json(), "tables": tables}),
        )?;
    } else {
        if warned {
            tell(&config.warnings.render(false), false, console)?;
        }
        for problem in &found {
            console.refusal(problem)?;
        }
        for table in config.registry().tables.values() {
            let (least, most) = crate::state::bytes_per_key(table);
            console.line(&format!(
                "table {}: about {least} bytes per key with one row, {most} when all windows are full (sketches extra)",
                table.name
            ))?;
        }
        if found.is_empty() {
            console.line("ok")?;
        }
    }
    let bad = !found.is_empty() || (warned && args.deny_warnings);
    Ok(if bad { Exit::Finding } else { Exit::Ok })
}

/// The code of a config that is refused, for handlers that need one.
pub(super) fn config_refused(problems: &ConfigProblems) -> ApiError {
    ApiError::new(Code::InvalidConfigValue, problems.render(false))
}
