//! The binary: allocator, arguments, verbs.

use std::process::ExitCode;
use streamgauge::{cli, startup};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main(std::env::args_os(), &cli::Handlers { run: &startup::run, check: &startup::check, demo: &startup::demo })
}
