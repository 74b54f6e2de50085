//! The environment variables of Beava 0.0.6, as settings of ours.
//!
//! An unchanged client starts its server with these. Each takes effect, or says in a warning that there is nothing here for it to act on.

use super::check::Check;
use super::problem::ConfigProblem;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use streamgauge_api::Code;

/// Variables whose value means the same here, with a unit that theirs leaves out.
const SAME: &[(&str, &str, &str)] = &[
    ("BEAVA_LISTEN_ADDR", "server.http", ""),
    ("BEAVA_ADMIN_ADDR", "server.admin", ""),
    ("BEAVA_TCP_MAX_FRAME_BYTES", "limits.frame", ""),
    ("BEAVA_IO_THREADS", "server.io_threads", ""),
    ("BEAVA_SNAPSHOT_INTERVAL_MS", "durability.snapshot.every", "ms"),
    ("BEAVA_SNAPSHOT_RETAIN_COUNT", "durability.snapshot.keep", ""),
    ("BEAVA_WAL_SEGMENT_BYTES", "durability.wal.segment", ""),
    ("BEAVA_WAL_FSYNC_BYTES", "durability.sync.bytes", ""),
    ("BEAVA_WAL_FSYNC_INTERVAL_MS", "durability.sync.every", "ms"),
    ("BEAVA_WAL_TICK_MS", "durability.sync.every", "ms"),
    ("BEAVA_LOG_LEVEL", "log.level", ""),
    ("RUST_LOG", "log.level", ""),
];

/// Variables that have nothing to act on here, and why.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("BEAVA_WAL_BUFFERS", "the WAL here has no ring of buffers"),
    ("BEAVA_WAL_BUFFER_SIZE_MB", "the WAL here has no ring of buffers"),
    ("BEAVA_SNAPSHOT_FORK", "snapshots here need no fork"),
    ("BEAVA_SNAPSHOT_FORK_WAIT_TIMEOUT_SECS", "snapshots here need no fork"),
    ("BEAVA_SNAPSHOT_MIN_EVENTS", "snapshots here go by time alone"),
    ("BEAVA_DEDUPE_SWEEP_SECS", "deduplication is not available"),
];

/// What the variables say: value and name of the variable, by key.
pub(super) fn values(check: &mut Check<'_>) -> BTreeMap<&'static str, (String, String)> {
    let mut values = BTreeMap::new();
    for (name, path, unit) in SAME {
        // 0 switches periodic work off there; the nearest here is that another bound decides.
        let value = check.variable(name).filter(|value| !(value == "0" && path.starts_with("durability.sync")));
        if let Some(value) = value {
            values.insert(*path, (format!("{value}{unit}"), (*name).to_owned()));
        }
    }
    for (name, path, words) in [
        ("BEAVA_TEST_MODE", "test_mode", &[("1", "true")][..]),
        ("BEAVA_MEMORY_GOV_ENFORCE", "compat.lifetime_bound", &[("0", "false")][..]),
        ("BEAVA_WAL_SYNC_MODE", "durability.push", &[("per-event", "synced"), ("per_event", "synced")][..]),
    ] {
        let value = check.variable(name);
        if let Some((_, meaning)) = value.and_then(|value| words.iter().find(|(word, _)| *word == value)) {
            values.insert(path, ((*meaning).to_owned(), name.to_owned()));
        }
    }
    tcp(check, &mut values);
    data_dir(check, &mut values);
    for (name, why) in WITHOUT_EFFECT {
        if check.variable(name).is_some() {
            let problem = ConfigProblem::new(Code::InvalidConfigValue, format!("{name} has no effect: {why}"));
            check.warnings.push(problem.from(format!("environment variable {name}")).help("unset it"));
        }
    }
    values
}

/// Host and port come apart there; the half that is not said is the default's.
fn tcp(check: &Check<'_>, values: &mut BTreeMap<&'static str, (String, String)>) {
    let (host, port) = (check.variable("BEAVA_TCP_HOST"), check.variable("BEAVA_TCP_PORT"));
    let name = if port.is_some() { "BEAVA_TCP_PORT" } else { "BEAVA_TCP_HOST" };
    if host.is_some() || port.is_some() {
        let host = host.unwrap_or_else(|| "127.0.0.1".to_owned());
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
        let port = port.unwrap_or_else(|| "8081".to_owned());
        values.insert("server.tcp", (format!("{host}:{port}"), name.to_owned()));
    }
    if check.variable("BEAVA_TCP_ENABLED").is_some_and(|value| ["0", "false"].contains(&value.to_lowercase().as_str())) {
        values.insert("server.tcp", ("off".to_owned(), "BEAVA_TCP_ENABLED".to_owned()));
    }
}

/// Two folders there, one here. `X/wal` beside `X/snapshots` (or `snapshot`, `snap`) are the halves of one data folder: `X`. Otherwise the WAL's folder is the
/// data folder, snapshots included: its neighbours, `/tmp` perhaps, belong to others. With the snapshot folder alone, that one is.
fn data_dir(check: &mut Check<'_>, values: &mut BTreeMap<&'static str, (String, String)>) {
    let folder = |name: &str| check.variable(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let (folder, name) = match (folder("BEAVA_WAL_DIR"), folder("BEAVA_SNAPSHOT_DIR")) {
        (None, None) => return,
        (Some(wal), None) => (wal, "BEAVA_WAL_DIR"),
        (None, Some(snapshots)) => (snapshots, "BEAVA_SNAPSHOT_DIR"),
        (Some(wal), Some(snapshots)) => match whole(&wal, &snapshots) {
            Some(whole) => (whole.to_path_buf(), "BEAVA_WAL_DIR"),
            None => {
                let message = format!("snapshots go into {} as well: one data folder holds both", wal.display());
                let problem = ConfigProblem::new(Code::InvalidConfigValue, message);
                check.warnings.push(problem.from("environment variable BEAVA_SNAPSHOT_DIR").help("set STREAMGAUGE_SERVER_DATA_DIR"));
                (wal, "BEAVA_WAL_DIR")
            }
        },
    };
    values.insert("server.data_dir", (folder.display().to_string(), name.to_owned()));
}

fn whole<'p>(wal: &'p Path, snapshots: &Path) -> Option<&'p Path> {
    let named = |path: &Path, names: &[&str]| path.file_name().is_some_and(|name| names.iter().any(|known| name == *known));
    let parent = wal.parent().filter(|parent| !parent.as_os_str().is_empty())?;
    let halves = named(wal, &["wal"]) && named(snapshots, &["snapshots", "snapshot", "snap"]);
    (halves && snapshots.parent() == Some(parent)).then_some(parent)
}
