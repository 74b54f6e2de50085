//! The binary: allocator, arguments, verbs.

use std::process::ExitCode;
use streamgauge::{cli, startup};

/// For librdkafka too (feature `override`), whose records are allocated on one thread and freed on another. Without transparent huge pages: they made the process a sixth
/// larger and nothing faster.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main(
        std::env::args_os(),
        &cli::Handlers {
            run: &startup::run,
            check: &startup::check,
            sample: &startup::sample,
            demo: &startup::demo,
            wal_skip: &startup::wal_skip,
            verify: &startup::verify_archive,
        },
    )
}
