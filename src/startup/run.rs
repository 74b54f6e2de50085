//! `run`: from arguments to an exit code.

use super::logging;
use super::plan::{client_rules, server_options};
use super::server::{Bound, Server};
use crate::apply::end_process_on_panic;
use crate::cli::{Console, Exit, Failure, LogFormat, Rebuild, RunArgs};
use crate::config::{self, Config, ConfigProblems, Flags, Outside};
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use streamgauge_api::{ApiError, Code};

/// Within this time a stop is done, also with a large last snapshot; a second signal ends it at once.
const STOP_GRACE: Duration = Duration::from_secs(60);
/// Bind lines wait for a quick recovery this long; clients of 0.0.6 wait 5 s for them.
const ANNOUNCE_AFTER: Duration = Duration::from_secs(1);
/// Progress is told after this long.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Names of all variables that are text.
pub(super) fn variables() -> Vec<String> {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
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
        eventstore: args.eventstore.clone(),
        offline: false,
    }
}

/// `T` or `T.f`, as the pipeline names what may be rebuilt.
pub(super) fn rebuild_name(rebuild: &Rebuild) -> String {
    match &rebuild.feature {
        Some(feature) => format!("{}.{feature}", rebuild.table),
        None => rebuild.table.clone(),
    }
}

/// Prints lines of talk. Drawings in colour go out as they are: their user text has been made harmless already, and the console would show their escapes.
pub(super) fn tell(text: &str, colour: bool, console: &mut Console<'_>) -> Result<(), Failure> {
    if colour {
        console.err.write_all(text.as_bytes())?;
    } else {
        text.lines().try_for_each(|line| console.talk(line))?;
    }
    Ok(())
}

/// Prints config problems and gives the exit code of a bad config.
pub(super) fn refuse(problems: &ConfigProblems, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tell(&problems.render(colour), colour, console)?;
    Ok(Exit::Config)
}

/// The server, until a signal or a failed log ends it.
///
/// # Errors
/// What start-up refuses.
pub fn run(args: &RunArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    // A file size limit of the process is then met as a full disk; without a handler the first line of the log could end the process.
    signal_hook::flag::register(SIGXFSZ, std::sync::Arc::default()).map_err(Failure::Output)?;
    let outside = Outside { env: &environment, names: &variables, client: client_rules() };
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
        tracing::warn!(code = %warning.code, line = warning.place.map(|(line, _)| line), column = warning.place.map(|(_, column)| column), origin = warning.origin, "{}", warning.message);
    }
    let rebuild = args.rebuild.iter().map(rebuild_name).collect();
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(Failure::Output)?;
    let options = server_options(&config, rebuild)?;
    end_process_on_panic(options.data_dir.clone());
    let bound = Bound::bind(options)?;
    let server = match start(bound, console)? {
        Ok(server) => server,
        Err(error) => return told(&error, console),
    };
    let text = |address: Option<SocketAddr>| address.map(|address| address.to_string());
    tracing::info!(kind = "server.ready", http = text(server.http()), tcp = text(server.tcp()), admin = text(server.admin()), "serving");
    let failed = wait(&server, &mut signals);
    let late = server.late_failure().cloned();
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
        Ok(()) if let Some(error) = &late => told(error, console),
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

/// Recovery, with the bind lines on stdout as soon as it ends, or after [`ANNOUNCE_AFTER`] while it goes on: a client that reads them and speaks at once should
/// rarely hear `recovering`. Progress goes to the log.
fn start(bound: Bound, console: &mut Console<'_>) -> Result<Result<Server, ApiError>, Failure> {
    let addresses = [("server.http_bound", bound.http()), ("server.tcp_bound", bound.tcp())];
    let control = bound.control();
    let (sender, recovered) = crossbeam_channel::bounded(1);
    let thread = std::thread::Builder::new().name("recovery".into()).spawn(move || {
        // Nobody takes the server when the process is ending already.
        drop(sender.send(bound.start()));
    });
    let thread = thread.map_err(Failure::Output)?;
    let mut outcome = recovered.recv_timeout(ANNOUNCE_AFTER).ok();
    if !matches!(outcome, Some(Err(_))) {
        announce(&addresses, console)?;
    }
    while outcome.is_none() {
        match recovered.recv_timeout(PROGRESS_EVERY) {
            Ok(server) => outcome = Some(server),
            Err(error) if error.is_timeout() => {
                let readiness = control.readiness();
                let percent = (readiness.progress * 100.0).round();
                tracing::info!(kind = "recovery.progress", percent, eta_s = readiness.eta_s, "rebuilding the state");
            }
            Err(_) => break,
        }
    }
    if thread.join().is_err() {
        tracing::error!("recovery panicked");
    }
    Ok(outcome.unwrap_or_else(|| Err(ApiError::new(Code::InternalError, "recovery ended without an answer"))))
}

/// The two bind lines that clients wait for: all that `run` ever prints on stdout.
fn announce(addresses: &[(&str, Option<SocketAddr>)], console: &mut Console<'_>) -> Result<(), Failure> {
    for (kind, address) in addresses {
        if let Some(address) = address {
            console.document(&serde_json::json!({"kind": kind, "addr": address.to_string()}))?;
        }
    }
    Ok(())
}

/// Waits for a signal; true when the log failed instead, or what the start had to leave.
fn wait(server: &Server, signals: &mut Signals) -> bool {
    loop {
        if signals.pending().next().is_some() {
            return false;
        }
        if server.log_failed() || server.late_failure().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
