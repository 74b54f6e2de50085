//! Reference pages are written from the tables in the code; these tests compare them, and write them anew with `STREAMGAUGE_WRITE_DOCS=1`.

use crate::tree::root;
use std::fmt::Write;
use std::fs;
use streamgauge_api::Code;
use streamgauge_api::metrics::{Metrics, Origin};

/// Compares a page with what it should be.
fn check(page: &str, expected: &str) {
    let path = root().join(page);
    if std::env::var_os("STREAMGAUGE_WRITE_DOCS").is_some() {
        fs::write(&path, expected).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == expected, "{page} is not current: run this test once with STREAMGAUGE_WRITE_DOCS=1");
}

/// Text inside of a table cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn errors() -> String {
    let mut page = String::from(
        "# Error codes

This page is generated from the table in `connectors/api/src/error.rs`; a test compares it with it. `streamgauge errors CODE` prints the same. A code is never renamed and never
used for something else.

An answer that refuses carries `{\"error\": {\"code\", \"reason\", \"hint\", \"retry\", ...}}`: `reason` is a sentence with names and numbers, `path` (where there is one) the place in the request,
`retry` whether the same request may succeed later. The admin port answers `application/problem+json` with the same code. Exit codes of the command line are in `streamgauge --help`.

| code | HTTP | retry | means | what to try |
|---|---|---|---|---|
",
    );
    for code in Code::ALL {
        let retry = if code.retry() { "yes" } else { "no" };
        writeln!(page, "| `{code}` | {} | {retry} | {} | {} |", code.status(), cell(code.title()), cell(code.advice())).unwrap();
    }
    page
}

fn metrics() -> String {
    let mut page = String::from(
        "# Metrics

This page is generated from the table in `connectors/api/src/metrics/table.rs`; a test compares it with it. `GET /metrics` on the admin port gives all of them in the Prometheus text
format. Names carry their unit; counters start at 0 when the process starts. Series whose labels are known stand at 0 from the beginning. Labels that come from the config
(tables, events, sources, partitions) are bounded; what is beyond the bound is counted under `other`.

| metric | kind | labels | meaning |
|---|---|---|---|
",
    );
    for spec in Metrics::table() {
        let labels = spec.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let origin = match spec.origin {
            Origin::Derived { family, only: None } => format!(" Same as `{family}`."),
            Origin::Derived { family, only: Some((label, value)) } => format!(" Same as `{family}{{{label}=\"{value}\"}}`."),
            Origin::Own | Origin::Process => String::new(),
        };
        let labels = if labels.is_empty() { "–".to_owned() } else { labels };
        writeln!(page, "| `{}` | {} | {labels} | {}{origin} |", spec.name, spec.kind.as_str(), cell(spec.help)).unwrap();
    }
    page
}

#[test]
fn the_errors_page_is_what_the_table_says() {
    check("docs/ERRORS.md", &errors());
}

#[test]
fn the_metrics_page_is_what_the_table_says() {
    check("docs/METRICS.md", &metrics());
}

#[test]
fn the_beava_error_shape_is_the_documented_one() {
    let json = streamgauge_api::ApiError::new(Code::KeyNotFound, "no").to_json();
    for member in ["code", "reason", "hint", "retry"] {
        assert!(json.get(member).is_some(), "{member}");
    }
}
