//! Every code can come, every series is fed, and what a message advises exists: pages, anchors, flags, verbs and config keys.
//!
//! Whether a series moves when it should is shown by `tests/every_series_moves.rs`; here it is only held that somebody outside of the table names it.

use crate::tree::{File, files, has_word, report, root};
use std::collections::BTreeSet;
use std::fs;
use streamgauge_api::Code;
use streamgauge_api::metrics::{Metrics, Origin};

/// Where codes are listed or sorted, not raised.
const LISTS: &[&str] =
    &["connectors/api/src/error.rs", "connectors/api/src/metrics.rs", "connectors/admin/src/routes.rs", "src/cli/exit.rs"];

fn product() -> Vec<File> {
    files(&["src", "connectors"], ".rs")
}

/// Whether the code stands in this line as a value, not as a pattern or one side of a comparison.
fn raises(line: &str, name: &str) -> bool {
    let path = format!("Code::{name}");
    line.match_indices(&path).any(|(at, _)| {
        let (before, after) = (line[..at].trim_end(), line[at + path.len()..].trim_start());
        let whole = !after.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_');
        let compared = before.ends_with("==") || before.ends_with("!=") || after.starts_with("==") || after.starts_with("!=");
        let pattern = after.starts_with("=>") || after.starts_with('|') || (before.ends_with('|') && !before.ends_with("||"));
        // A closure's value follows a bar, too: `|| Code::X`, `|x| Code::X`.
        let closure = before.ends_with('|') && after.starts_with(['}', ',', ')']);
        // Between the parentheses of `matches!` it is a pattern.
        let matched =
            line[..at].rfind("matches!").is_some_and(|from| line[from..at].matches('(').count() > line[from..at].matches(')').count());
        whole && !compared && !matched && (!pattern || closure)
    })
}

#[test]
fn every_code_is_raised_somewhere() {
    let product = product();
    let places: Vec<&File> = product.iter().filter(|file| !LISTS.contains(&file.path.as_str())).collect();
    let raised = |code: &Code| {
        let name = format!("{code:?}");
        places.iter().any(|file| file.code().iter().any(|(_, line)| raises(line, &name)))
    };
    let never: Vec<String> = Code::ALL.iter().filter(|code| !raised(code)).map(ToString::to_string).collect();
    report(&never, "nothing raises these codes: raise them, or take them out of connectors/api/src/error.rs");
}

/// Names in `connectors/api/src/metrics` through which a family is counted or set: fields of handles, and functions that give them out.
fn handles(family: &str) -> BTreeSet<String> {
    let quoted = format!("\"{family}\"");
    let mut names = BTreeSet::new();
    for file in
        files(&["connectors/api/src"], ".rs").iter().filter(|file| file.path.contains("metrics") && !file.path.ends_with("table.rs"))
    {
        let mut function = String::new();
        for (_, line) in file.code() {
            if let Some(rest) = line.trim_start().strip_prefix("pub fn ") {
                function = rest.split('(').next().unwrap_or_default().to_owned();
            }
            if line.contains(&quoted) {
                let field = line.trim_start().split(':').next().unwrap_or_default();
                let is_field = !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                names.insert(if is_field && function != "new" { field.to_owned() } else { function.clone() });
                if is_field {
                    names.insert(field.to_owned());
                }
            }
        }
    }
    names.remove("new");
    names
}

#[test]
fn every_series_is_fed_somewhere() {
    let product = product();
    let places: Vec<&File> = product.iter().filter(|file| !file.path.starts_with("connectors/api/src/metrics")).collect();
    let constant = ["streamgauge_build_info", "beava_runtime_kind"];
    let mut findings = Vec::new();
    for spec in Metrics::table().iter().filter(|spec| spec.origin == Origin::Own && !constant.contains(&spec.name)) {
        let handles = handles(spec.name);
        let fed = |line: &str| handles.iter().any(|name| line.contains(&format!(".{name}")) && has_word(line, name));
        if !places.iter().any(|file| file.code().iter().any(|(_, line)| fed(line))) {
            findings.push(format!("{} (through {handles:?})", spec.name));
        }
    }
    report(&findings, "nobody feeds these series: feed them, or take them out of connectors/api/src/metrics/table.rs");
}

/// Flags that the command line knows.
fn flags() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("src/cli/args.rs")).unwrap();
    let mut flags: BTreeSet<String> = ["--help", "--version"].map(str::to_owned).into();
    let mut long = false;
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[arg(") {
            long = line.contains("long");
            // A flag whose name is no field's.
            if let Some(named) = line.split_once("long = \"").and_then(|(_, rest)| rest.split('"').next()) {
                flags.insert(format!("--{named}"));
            }
        } else if let Some(field) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(':')).filter(|_| long) {
            flags.insert(format!("--{}", field.0.replace('_', "-")));
            long = false;
        }
    }
    flags
}

/// Verbs that the command line knows, and their own verbs.
fn verbs() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("src/cli/args.rs")).unwrap();
    let kebab = |name: &str| {
        let mut text = String::new();
        for letter in name.chars() {
            if letter.is_ascii_uppercase() && !text.is_empty() {
                text.push('-');
            }
            text.push(letter.to_ascii_lowercase());
        }
        text
    };
    let mut verbs: BTreeSet<String> = ["help".to_owned()].into();
    for body in text.split("Subcommand)]\npub enum ").skip(1).filter_map(|rest| rest.split("\n}\n").next()) {
        let variants =
            body.lines().filter_map(|line| line.strip_prefix("    ")).filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
        verbs.extend(variants.filter_map(|line| line.split(['(', ',', ' ']).next()).map(kebab));
    }
    verbs
}

#[test]
fn flags_and_verbs_named_in_messages_exist() {
    let (flags, verbs) = (flags(), verbs());
    assert!(flags.contains("--data-dir") && verbs.contains("rejects") && verbs.contains("list"), "{flags:?} {verbs:?}");
    let mut findings = Vec::new();
    for file in product() {
        for (number, line) in file.code() {
            for text in line.split('"').skip(1).step_by(2) {
                for at in text
                    .match_indices("--")
                    .map(|(at, _)| at)
                    .filter(|at| !text[..*at].ends_with(|c: char| c == '-' || c.is_alphanumeric()))
                {
                    let flag: String = text[at..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
                    if flag.as_bytes().get(2).is_some_and(u8::is_ascii_lowercase) && !flags.contains(&flag) {
                        findings.push(format!("{}:{number}: {flag}", file.path));
                    }
                }
                for rest in text.split("`streamgauge ").skip(1) {
                    let verb: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
                    if !verb.is_empty() && !verb.starts_with('-') && !verbs.contains(&verb) {
                        findings.push(format!("{}:{number}: `streamgauge {verb}`", file.path));
                    }
                }
            }
        }
    }
    report(&findings, "the command line has no such flag or verb");
}

#[test]
fn config_keys_named_in_advice_exist() {
    let page = fs::read_to_string(root().join("docs/CONFIG.md")).unwrap();
    let sections = ["server", "limits", "durability", "push", "ready", "compat", "log"];
    let mut findings = Vec::new();
    for code in Code::ALL {
        let words = code.advice().split(|letter: char| !(letter.is_ascii_lowercase() || letter == '_' || letter == '.'));
        for word in words
            .map(|word| word.trim_matches('.'))
            .filter(|word| word.split_once('.').is_some_and(|(section, _)| sections.contains(&section)))
        {
            if !page.contains(&format!("| `{word}`")) {
                findings.push(format!("{code}: {word}"));
            }
        }
    }
    report(&findings, "docs/CONFIG.md has no such key");
}

/// The anchors that a page's headings give.
fn anchors(page: &str) -> BTreeSet<String> {
    let anchor = |heading: &str| {
        let kept = heading.trim().chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
        kept.map(|letter| if letter == ' ' { '-' } else { letter.to_ascii_lowercase() }).collect::<String>()
    };
    page.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn places_on_pages_named_in_messages_exist() {
    let mut findings = Vec::new();
    for file in product() {
        for (number, line) in file.code() {
            for rest in line.match_indices("docs/").map(|(at, _)| &line[at..]) {
                let named: String = rest.chars().take_while(|letter| letter.is_ascii_alphanumeric() || "/._-#".contains(*letter)).collect();
                let Some((page, anchor)) = named.split_once('#') else { continue };
                if !fs::read_to_string(root().join(page)).is_ok_and(|text| anchors(&text).contains(anchor.trim_end_matches('.'))) {
                    findings.push(format!("{}:{number}: {named}", file.path));
                }
            }
        }
    }
    report(&findings, "these pages have no such heading");
}
