//! Paths that documents, configs and messages name exist.

use crate::tree::{File, files, report, root};

const FOLDERS: &[&str] = &["src/", "connectors/", "tests/", "benches/", "docs/", "schemas/", "config/"];

fn documents() -> Vec<File> {
    let mut documents = files(&["README.md", "THIRD-PARTY.md", "docs", "tests", "schemas"], ".md");
    documents.extend(files(&["src", "connectors"], ".rs"));
    documents
}

/// A path of this repository inside of a quoted token: braces are alternatives, a glob or a placeholder is none.
fn paths(token: &str) -> Vec<String> {
    let token = token.trim_end_matches(['.', ',', ';', ':', ')']);
    if !FOLDERS.iter().any(|folder| token.starts_with(folder)) || token.contains(['*', '<', '$', ' ', '(', '|', '"']) {
        return Vec::new();
    }
    match (token.find('{'), token.find('}')) {
        (Some(open), Some(close)) if open < close => {
            token[open + 1..close].split(',').map(|part| format!("{}{}{}", &token[..open], part, &token[close + 1..])).collect()
        }
        (None, None) => vec![token.split('#').next().unwrap_or_default().to_owned()],
        _ => Vec::new(),
    }
}

#[test]
fn paths_in_backquotes_exist() {
    let mut findings = Vec::new();
    for document in documents() {
        let only_prose = document.path.ends_with(".rs");
        for (number, line) in (1..).zip(document.text.lines()) {
            let text = line.trim_start();
            if only_prose && !text.starts_with("//") {
                continue;
            }
            for token in text.split('`').skip(1).step_by(2).flat_map(paths) {
                let beside = document.path.find("/src/").filter(|_| only_prose).map(|at| root().join(&document.path[..at]).join(&token));
                if !root().join(&token).exists() && !beside.is_some_and(|path| path.exists()) {
                    findings.push(format!("{}:{number}: {token}", document.path));
                }
            }
        }
    }
    report(&findings, "these paths do not exist");
}

#[test]
fn links_lead_to_files() {
    let mut findings = Vec::new();
    for document in documents().iter().filter(|document| document.path.ends_with(".md")) {
        let folder = root().join(&document.path).parent().unwrap().to_path_buf();
        for (number, line) in (1..).zip(document.text.lines()) {
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let file = target.split('#').next().unwrap_or_default();
                if !file.is_empty() && !file.contains("://") && !folder.join(file).exists() {
                    findings.push(format!("{}:{number}: {target}", document.path));
                }
            }
        }
    }
    report(&findings, "these links lead nowhere");
}

#[test]
fn pages_named_in_messages_exist() {
    let mut findings = Vec::new();
    for file in files(&["src", "connectors"], ".rs") {
        for (number, line) in file.code() {
            for rest in line.match_indices("docs/").map(|(at, _)| &line[at..]) {
                let page: String = rest.chars().take_while(|letter| letter.is_ascii_alphanumeric() || "/._-".contains(*letter)).collect();
                let page = page.trim_end_matches('.');
                if page.ends_with(".md") && !root().join(page).exists() {
                    findings.push(format!("{}:{number}: {page}", file.path));
                }
            }
        }
    }
    report(&findings, "these pages do not exist");
}
