//! Who may use what: modules use those above them, packages are used at their doorway, files, clocks and the environment at the edge.

use crate::tree::{File, files, has_word, report, sources};

/// Modules of `src`, lower layers first. Modules of one line know each other: an operator is written in the words of the state it updates, a state reads through
/// the operators of its plan, and both take their meaning from the pipeline.
const LAYERS: &[&[&str]] = &[
    &["row"],
    &["decode"],
    &["operators", "pipeline", "state"],
    &["eventstore"],
    &["config"],
    &["storage"],
    &["wal"],
    &["snapshot"],
    &["read"],
    &["apply"],
    &["history"],
    &["recovery"],
    &["subscribe"],
    &["archive"],
    &["cli"],
    &["startup"],
];

/// `state/image.rs` writes the state's words into the sections of a snapshot: layout knowledge stays with the state, and it is the one file there that knows a file format.
const UPWARD: &[(&str, &[&str])] = &[("src/state/image.rs", &["snapshot", "storage"])];

/// Package as code spells it, and the places that may name it.
const DOORWAYS: &[(&str, &[&str])] = &[
    ("rdkafka", &["connectors/kafka/"]),
    ("rdkafka_sys", &["connectors/kafka/"]),
    ("mio", &["connectors/native/"]),
    ("httparse", &["connectors/native/"]),
    ("flate2", &["connectors/native/"]),
    ("zstd", &["connectors/native/"]),
    ("axum", &["connectors/admin/"]),
    ("tokio", &["connectors/admin/"]),
    ("hyper", &["connectors/admin/"]),
    ("prometheus", &["connectors/api/src/metrics"]),
    ("apache_avro", &["src/decode/avro/"]),
    ("prost_reflect", &["src/decode/protobuf/"]),
    ("protox", &["src/decode/protobuf/"]),
    ("parquet", &["connectors/parquet/"]),
    ("arrow_array", &["connectors/parquet/"]),
    ("arrow_schema", &["connectors/parquet/"]),
    ("sha2", &["src/archive/file.rs"]),
    ("hashbrown", &["src/state/index.rs"]),
    ("crc32fast", &["src/storage/checksum.rs"]),
    ("libm", &["src/operators/decay/half_life.rs", "src/operators/geo/place.rs"]),
    ("rustix", &["src/storage/", "connectors/api/src/clock.rs"]),
    ("toml", &["src/config/"]),
    ("miette", &["src/config/"]),
    ("clap", &["src/cli/"]),
    ("ureq", &["connectors/kafka/src/registry/http.rs", "src/cli/client.rs", "src/startup/demo"]),
    ("signal_hook", &["src/startup/"]),
    ("tracing_subscriber", &["src/startup/"]),
    ("mimalloc", &["src/main.rs"]),
];

/// Packages that belong to one member crate, and its manifest.
const MANIFESTS: &[(&str, &str)] = &[
    ("rdkafka", "connectors/kafka/Cargo.toml"),
    ("rdkafka-sys", "connectors/kafka/Cargo.toml"),
    ("mio", "connectors/native/Cargo.toml"),
    ("axum", "connectors/admin/Cargo.toml"),
    ("tokio", "connectors/admin/Cargo.toml"),
    ("prometheus", "connectors/api/Cargo.toml"),
    ("parquet", "connectors/parquet/Cargo.toml"),
    ("arrow-array", "connectors/parquet/Cargo.toml"),
    ("arrow-schema", "connectors/parquet/Cargo.toml"),
];

/// Where the file system is touched, beside the file layer: what is read once before anything runs, and the kernel's own numbers.
const FILE_USERS: &[&str] = &[
    "src/storage/",
    "src/config/check.rs",
    "connectors/kafka/src/registry/http.rs",
    "connectors/api/src/metrics/process.rs",
    "src/startup/demo",
];

/// Where the wall clock is read: the clock that everybody is given, the number that makes request ids of two runs differ, the demo's generator.
const CLOCK_USERS: &[&str] = &["connectors/api/src/clock.rs", "connectors/admin/src/request.rs", "src/startup/demo"];

/// Where the environment is read. Settings come from there once, through the config.
const ENVIRONMENT_USERS: &[&str] = &["src/main.rs", "src/startup/"];

/// Modules whose result depends on their arguments alone.
const PURE: &[&str] = &["src/row/", "src/decode/", "src/operators/", "src/pipeline/", "src/state/", "src/read/"];

fn product() -> Vec<File> {
    files(&["src", "connectors"], ".rs")
}

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The module of `src` that a file belongs to.
fn module(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("src/")?;
    Some(rest.split('/').next()?.trim_end_matches(".rs"))
}

/// Modules named behind `crate::` in a line, also in `crate::{a, b}`.
fn named(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, found_text) in line.match_indices("crate::") {
        let rest = &line[at + found_text.len()..];
        let list = rest.strip_prefix('{').and_then(|list| list.split('}').next());
        match list {
            Some(list) => found.extend(list.split(',').map(|part| part.trim().split("::").next().unwrap_or_default())),
            None => found.push(rest.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').next().unwrap_or_default()),
        }
    }
    found
}

#[test]
fn modules_use_only_what_is_above_them() {
    let mut findings = Vec::new();
    for file in product() {
        let Some(own) = module(&file.path).filter(|own| !matches!(*own, "lib" | "main")) else { continue };
        let Some(own_rank) = rank(own) else {
            findings.push(format!("{}: module {own} stands in no layer", file.path));
            continue;
        };
        let excused = UPWARD.iter().find(|(path, _)| *path == file.path).map_or(&[][..], |(_, modules)| modules);
        for (number, line) in file.code() {
            for used in named(line) {
                if rank(used).is_some_and(|used_rank| used_rank > own_rank) && !excused.contains(&used) {
                    findings.push(format!("{}:{number}: {own} uses {used}", file.path));
                }
            }
        }
    }
    report(&findings, "a module uses only the layers below it (tests/tidy/layers.rs, docs/ARCHITECTURE.md)");
}

#[test]
fn lib_declares_modules_in_the_order_of_the_layers() {
    let lib = files(&["src/lib.rs"], ".rs").remove(0);
    let declared: Vec<&str> = lib.text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let ranks: Vec<usize> = declared.iter().map(|module| rank(module).unwrap_or_else(|| panic!("{module} stands in no layer"))).collect();
    assert!(ranks.is_sorted(), "src/lib.rs: {declared:?}");
    assert_eq!(declared.len(), LAYERS.iter().map(|layer| layer.len()).sum::<usize>(), "src/lib.rs: {declared:?}");
}

#[test]
fn packages_are_used_at_their_doorway_only() {
    let mut findings = Vec::new();
    for file in product() {
        for (package, places) in DOORWAYS.iter().filter(|(_, places)| !places.iter().any(|place| file.path.starts_with(place))) {
            for (number, line) in file.code() {
                let path = format!("{package}::");
                if line.match_indices(&path).any(|(at, _)| has_word(&line[at.saturating_sub(1)..at + package.len()], package)) {
                    findings.push(format!("{}:{number}: {package} belongs to {}", file.path, places.join(", ")));
                }
            }
        }
    }
    report(&findings, "call the doorway instead (docs/ARCHITECTURE.md, Doorways)");
}

#[test]
fn manifests_name_outside_stacks_once() {
    let mut findings = Vec::new();
    for manifest in files(&["Cargo.toml", "connectors", "tests/support", "benches/load"], "Cargo.toml") {
        let members = manifest.text.split("\n[workspace.dependencies]\n").enumerate();
        let own: String =
            members.map(|(part, text)| if part == 0 { text } else { text.split_once("\n[").map_or("", |(_, rest)| rest) }).collect();
        for (package, home) in MANIFESTS.iter().filter(|(_, home)| *home != manifest.path) {
            let names = |line: &str| line.strip_prefix(package).is_some_and(|rest| rest.starts_with([' ', '.', '=']));
            if own.lines().any(names) {
                findings.push(format!("{}: {package} belongs to {home}", manifest.path));
            }
        }
    }
    report(&findings, "one outside stack, one crate");
}

#[test]
fn files_are_touched_by_the_file_layer_alone() {
    let findings = lines_with(&["std::fs", "fs::File", "File::open", "File::create", "OpenOptions"], FILE_USERS);
    report(&findings, "files belong to src/storage (tests/tidy/layers.rs lists the few others with their reason)");
}

/// Lines of the product that name one of `words`, outside of `places`.
fn lines_with(words: &[&str], places: &[&str]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in product().iter().filter(|file| !places.iter().any(|place| file.path.starts_with(place))) {
        for (number, line) in file.code() {
            if words.iter().any(|word| has_word(line, word)) {
                findings.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    findings
}

#[test]
fn the_wall_clock_is_read_through_the_clock() {
    report(&lines_with(&["SystemTime", "Timestamp::now", "Zoned::now"], CLOCK_USERS), "take a streamgauge_api::Clock");
}

#[test]
fn the_environment_is_read_at_start_up() {
    let words = ["std::env", "env::var", "env::var_os", "env::vars", "env::args", "env::current_dir", "env::temp_dir"];
    report(&lines_with(&words, ENVIRONMENT_USERS), "settings come through src/config");
}

#[test]
fn unsafe_stands_in_one_file() {
    report(
        &lines_with(&["unsafe"], &["connectors/kafka/src/ext.rs", "connectors/admin/src/handlers.rs"]),
        "no unsafe outside of the doorway to librdkafka",
    );
}

#[test]
fn pure_modules_know_no_clock_environment_thread_or_lock() {
    // What the apply thread takes away from whoever reads it: frozen states, and what tells the account of them.
    let shared = ["src/state/account.rs", "src/state/frozen.rs"];
    let mut findings = Vec::new();
    for file in product().iter().filter(|file| PURE.iter().any(|place| file.path.starts_with(place))) {
        for (number, line) in file.code() {
            let word = ["SystemTime", "Instant", "Mutex", "RwLock", "Condvar"].iter().find(|word| has_word(line, word));
            let path = ["std::env", "env::var", "std::thread", "thread::spawn", "std::net", "Timestamp::now"]
                .iter()
                .find(|path| line.contains(*path));
            let word = word.filter(|word| **word != "Mutex" || !shared.contains(&&*file.path));
            if let Some(what) = word.or(path) {
                findings.push(format!("{}:{number}: {what}", file.path));
            }
        }
    }
    report(&findings, "time, bytes and randomness come in as arguments");
}

#[test]
fn nothing_is_left_unfinished_or_ignored() {
    // Spelled in parts, so that this file does not find itself.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("#[ig", "nore"),
        concat!("dbg", "!("),
        concat!("to", "do!("),
        concat!("unimpl", "emented!("),
    ];
    let mut findings = Vec::new();
    for file in sources() {
        for (number, line) in (1..).zip(file.text.lines()) {
            if let Some(mark) = marks.iter().find(|mark| line.contains(*mark)) {
                findings.push(format!("{}:{number}: {mark}", file.path));
            }
        }
    }
    report(&findings, "finish it or leave it out");
}

#[test]
fn every_file_opens_with_what_it_is() {
    let findings: Vec<String> = sources().iter().filter(|file| !file.text.starts_with("//!")).map(|file| file.path.clone()).collect();
    report(&findings, "every source file opens with //!: what it is, its invariant, who calls it, what is absent");
}
