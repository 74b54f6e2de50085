//! The command line: arguments in, one verb, an exit code out.
//!
//! `main` calls [`main`] with the handlers of the verbs that need the engine (`run`, `check`, `demo`); the others talk to a running server over HTTP and live here.
//! stdout carries data and nothing else, stderr carries talk. No line that we print holds a control byte, so no ESC either: what comes from records, keys and
//! servers is escaped at the one place that writes ([`Console`]). Nothing here knows the engine's types, reads its files, or starts threads.

mod args;
mod backfill;
mod client;
mod clock;
mod console;
mod errors;
mod eventstore;
mod exit;
mod get;
mod incident;
mod lag;
mod layout;
mod rejects;
mod status;
mod tap;
mod wal;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use streamgauge_api::{ApiError, Code};

pub use args::{
    AdminArgs, BackfillCommand, BackfillIdArgs, BackfillStatusArgs, CheckArgs, ClockAcceptArgs, ClockCommand, Command, DemoArgs,
    ErrorsArgs, EventstoreVerifyArgs, GetArgs, HttpArgs, IncidentArgs, LagArgs, LogFormat, Rebuild, RejectsListArgs, RunArgs, SampleArgs,
    StatusArgs, TapArgs, WalCommand, WalSkipArgs, WalTailArgs, parse,
};
pub use console::Console;
pub(crate) use console::plain;
pub use exit::Exit;

/// Why a verb could not finish.
#[derive(Debug)]
pub enum Failure {
    /// Refused, by the server or by ourselves.
    Refused(Box<ApiError>),
    /// stdout could not be written.
    Output(io::Error),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Refused(Box::new(error))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// The verbs that need the engine. Each prints what it has to say through the console, or by itself, and returns its exit code.
pub struct Handlers<'a> {
    /// `run`: the server, until it is told to stop.
    pub run: &'a dyn Fn(&RunArgs, &mut Console<'_>) -> Result<Exit, Failure>,
    /// `check`: all problems of the config at once.
    pub check: &'a dyn Fn(&CheckArgs, &mut Console<'_>) -> Result<Exit, Failure>,
    /// `sample`: the newest records of a topic beside what becomes of them.
    pub sample: &'a dyn Fn(&SampleArgs, &mut Console<'_>) -> Result<Exit, Failure>,
    /// `demo`: broker, registry, generator and server in one process.
    pub demo: &'a dyn Fn(&DemoArgs, &mut Console<'_>) -> Result<Exit, Failure>,
    /// `wal skip`: a decision in the log of a stopped server.
    pub wal_skip: &'a dyn Fn(&WalSkipArgs, &mut Console<'_>) -> Result<Exit, Failure>,
    /// `eventstore verify`: all files of an archive.
    pub verify: &'a dyn Fn(&EventstoreVerifyArgs, &mut Console<'_>) -> Result<Exit, Failure>,
}

/// Parses the arguments (`argv[0]` first), runs the verb, and turns its outcome into the process's exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>, handlers: &Handlers<'_>) -> ExitCode {
    let command = match parse(arguments) {
        Ok(command) => command,
        Err(error) => {
            // clap knows which stream help, version and usage errors belong to, and whether it may colour them.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Ok }.into();
        }
    };
    // Not locked: `run` and `demo` own other threads that may write.
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let mut console = Console::new(&mut out, &mut err, command.json());
    let outcome = dispatch(&command, handlers, &mut console);
    finish(outcome, &mut console).into()
}

fn dispatch(command: &Command, handlers: &Handlers<'_>, console: &mut Console<'_>) -> Result<Exit, Failure> {
    match command {
        Command::Run(args) => (handlers.run)(args, console),
        Command::Check(args) => (handlers.check)(args, console),
        Command::Sample(args) => (handlers.sample)(args, console),
        Command::Demo(args) => (handlers.demo)(args, console),
        Command::Get(args) => get::run(args, &mut io::stdin().lock(), console),
        Command::Tap(args) => tap::tap(args, console),
        Command::Lag(args) => lag::run(args, console),
        Command::Status(args) => status::run(args, console),
        Command::Errors(args) => errors::run(args, console),
        Command::Rejects(args::RejectsCommand::List(args)) => rejects::list(args, console),
        Command::Rejects(args::RejectsCommand::Retry(args)) => rejects::retry(args, console),
        Command::Incident(args) => incident::run(args, console),
        Command::Clock(args::ClockCommand::Accept(args)) => clock::accept(args, console),
        Command::Backfill(command) => backfill::run(command, console),
        Command::Wal(args::WalCommand::Tail(args)) => wal::tail(args, console),
        Command::Wal(args::WalCommand::Skip(args)) => (handlers.wal_skip)(args, console),
        Command::Eventstore(args::EventstoreCommand::Status(args)) => eventstore::status(args, console),
        Command::Eventstore(args::EventstoreCommand::Verify(args)) => (handlers.verify)(args, console),
        Command::Eventstore(args::EventstoreCommand::Now(args)) => eventstore::now(args, console),
    }
}

/// Tells a failure once and picks its exit code. A reader that went away (`| head`) is no failure.
fn finish(outcome: Result<Exit, Failure>, console: &mut Console<'_>) -> Exit {
    let outcome = outcome.and_then(|exit| console.out.flush().map(|()| exit).map_err(Failure::Output));
    match outcome {
        Ok(exit) => exit,
        Err(Failure::Refused(error)) => {
            // Nothing is left to do when the error itself cannot be told.
            let _ = console.refusal(&error);
            Exit::of(error.code)
        }
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(Failure::Output(error)) => {
            let _ = console.refusal(&ApiError::new(Code::IoFailed, format!("cannot write the output: {error}")));
            Exit::Io
        }
    }
}

#[cfg(test)]
mod tests;
