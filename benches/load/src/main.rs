//! `streamgauge-load`: what the benchmarks put on a server's wire, and what they read off it. Driven by `benches/run`.
//!
//! Knows nothing of the product but its wire protocol, so that the same bytes go to the gauge and to its peer. Every subcommand prints one JSON line. CPU is
//! the *server's*, read from `/proc` around the loaded stretch alone; the generator's own is never counted.

mod frames;
mod get;
mod latency;
mod push;
mod watch;

use clap::{Parser, Subcommand};
use serde_json::Value as Json;
use std::io::Write;
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Load generators of the benchmarks")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Prints the register JSON of a pipeline.
    Pipeline {
        /// Which one.
        #[arg(value_enum)]
        pipeline: frames::Pipeline,
    },
    /// Pushes with many in flight per connection, refilled as replies come.
    Push(push::Options),
    /// Reads at depth 1 and reports latencies.
    Get(get::Options),
    /// Polls one key and prints when each new value was first seen.
    Watch(watch::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Pipeline { pipeline } => Ok(pipeline.register()),
        Verb::Push(options) => push::run(&options),
        Verb::Get(options) => get::run(&options),
        Verb::Watch(options) => watch::run(&options),
    };
    let told = outcome.and_then(|answer: Json| writeln!(std::io::stdout(), "{answer}").map_err(|error| error.to_string()));
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("streamgauge-load: {reason}");
            ExitCode::FAILURE
        }
    }
}
