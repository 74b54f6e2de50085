//! The source tree as text: which files there are, and what of them is code.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A text file of the workspace.
pub(crate) struct File {
    /// Relative to the workspace, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    /// Whether the whole file is there for tests only.
    fn is_test(&self) -> bool {
        let inside = |folder: &str| self.path.split('/').any(|part| part == folder);
        let stem = self.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        inside("tests") || inside("benches") || stem.ends_with("tests") || matches!(stem, "fixture" | "laws")
    }

    /// The lines that the product is built from, with their numbers: no comments, no test module.
    pub(crate) fn code(&self) -> Vec<(usize, &str)> {
        if self.is_test() {
            return Vec::new();
        }
        let lines: Vec<&str> = self.text.lines().collect();
        let inline_tests = |at: usize| {
            lines[at].trim() == "#[cfg(test)]" && lines.get(at + 1).is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'))
        };
        let end = (0..lines.len()).find(|&at| inline_tests(at)).unwrap_or(lines.len());
        (1..).zip(lines).take(end).filter(|(_, line)| !line.trim_start().starts_with("//")).collect()
    }
}

/// Files below these folders (or these files themselves) whose names end so, sorted by path. Build results and hidden folders are no sources.
pub(crate) fn files(places: &[&str], ending: &str) -> Vec<File> {
    let mut found = Vec::new();
    for place in places {
        walk(&root().join(place), ending, &mut found);
    }
    found.sort();
    let read = |path: PathBuf| File {
        text: fs::read_to_string(&path).unwrap(),
        path: path.strip_prefix(root()).unwrap().components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/"),
    };
    found.into_iter().map(read).collect()
}

fn walk(place: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    if place.is_file() {
        if place.to_string_lossy().ends_with(ending) {
            found.push(place.to_path_buf());
        }
        return;
    }
    let Ok(entries) = fs::read_dir(place) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with('.') && name != "target" && name != "__pycache__" {
            walk(&path, ending, found);
        }
    }
}

/// All Rust sources.
pub(crate) fn sources() -> Vec<File> {
    files(&["src", "connectors", "tests", "benches"], ".rs")
}

/// Whether `word` stands in `line` as a whole identifier.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let part_of_name = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let bytes = line.as_bytes();
    line.match_indices(word)
        .any(|(at, _)| !part_of_name(at.checked_sub(1).and_then(|before| bytes.get(before))) && !part_of_name(bytes.get(at + word.len())))
}

/// Fails with all findings at once.
pub(crate) fn report(findings: &[String], rule: &str) {
    assert!(findings.is_empty(), "{rule}\n  {}", findings.join("\n  "));
}
