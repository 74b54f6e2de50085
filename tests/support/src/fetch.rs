//! What the tests run against, fetched once into the cache folder by `tests/kafka/fetch`.
//!
//! The script holds the versions, the lock and the network bounds; this module only finds it, runs it, and remembers the folder for the process. Also here: the
//! commands that start `java` and the venv's `python`.

use crate::{Outcome, process};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// Longest fetch: three attempts of ten minutes and the wait for another process's fetch.
const FETCH_MAX: Duration = Duration::from_secs(4000);

/// Oldest Java that runs the broker.
const JAVA_MIN: u32 = 17;

/// The repository's `tests` folder.
pub fn tests_folder() -> PathBuf {
    let support = Path::new(env!("CARGO_MANIFEST_DIR"));
    support.parent().unwrap_or(support).to_path_buf()
}

fn fetched(what: &'static str, cell: &OnceLock<Outcome<PathBuf>>) -> Outcome<PathBuf> {
    cell.get_or_init(|| {
        let script = tests_folder().join("kafka/fetch");
        process::run("tests/kafka/fetch", Command::new(script).arg(what), FETCH_MAX).map(|folder| PathBuf::from(folder.trim_end()))
    })
    .clone()
}

/// Folder with Kafka's jars.
///
/// # Errors
/// What the fetch said.
pub fn kafka_jars() -> Outcome<PathBuf> {
    static CELL: OnceLock<Outcome<PathBuf>> = OnceLock::new();
    fetched("kafka", &CELL)
}

/// Folder with the unpacked registry.
///
/// # Errors
/// What the fetch said.
pub fn registry_folder() -> Outcome<PathBuf> {
    static CELL: OnceLock<Outcome<PathBuf>> = OnceLock::new();
    fetched("registry", &CELL)
}

/// A command that runs a script of `tests/python` in the venv of the independent clients.
///
/// # Errors
/// What the fetch said.
pub fn python(script: &str) -> Outcome<Command> {
    static CELL: OnceLock<Outcome<PathBuf>> = OnceLock::new();
    let mut command = Command::new(fetched("python", &CELL)?.join("bin/python"));
    command.arg(tests_folder().join("python").join(script));
    Ok(command)
}

/// A `java` command, once it is known to be recent enough.
///
/// # Errors
/// There is none, or it is too old.
pub fn java() -> Outcome<Command> {
    static CELL: OnceLock<Outcome<()>> = OnceLock::new();
    CELL.get_or_init(|| {
        let output = Command::new("java")
            .arg("-version")
            .output()
            .map_err(|error| format!("no java (apt-get install openjdk-17-jre-headless): {error}"))?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        match java_major(&text) {
            Some(major) if major >= JAVA_MIN => Ok(()),
            found => Err(format!("java {JAVA_MIN} or newer is needed, found {found:?}: {}", text.lines().next().unwrap_or_default())),
        }
    })
    .clone()?;
    Ok(Command::new("java"))
}

/// The major version in the output of `java -version`: `17.0.12` is 17, `1.8.0_402` is 1.
fn java_major(text: &str) -> Option<u32> {
    text.split('"').nth(1)?.split(['.', '-', '_']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_versions_are_read() {
        for (text, major) in [
            ("openjdk version \"17.0.12\" 2024-07-16", Some(17)),
            ("java version \"1.8.0_402\"", Some(1)),
            ("openjdk version \"25-ea\" 2026-03-17", Some(25)),
            ("command not found", None),
        ] {
            assert_eq!(java_major(text), major, "{text}");
        }
    }
}
