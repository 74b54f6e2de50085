//! Reference pages are written from the tables in the code; these tests compare them, and write them anew with `STREAMGAUGE_WRITE_DOCS=1`.

use crate::tree::root;
use serde_json::Value as Json;
use std::collections::BTreeSet;
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

/// What each opcode of framed TCP does, by the constant that names it in the code.
const OPCODES: &[(&str, &str)] = &[
    ("PING", "Registry version and LSNs."),
    ("REGISTER", "Declares events and tables."),
    ("PUSH", "Pushes one row of an event: `{\"event\", \"body\"}`."),
    ("PUSH_SYNC", "The same, answered when it is on the disk."),
    ("PUSH_MANY", "Pushes rows as one transaction."),
    ("GET", "Features of a key."),
    ("MGET", "One feature of many keys."),
    ("GET_MULTI", "Some features of many keys."),
    ("GET_RESPONSE", "Only in answers: what a read found."),
    ("BATCH_GET", "Features of many keys, in order, each with its own error."),
    ("MEMBER", "Which of some values a feature of a key has had, for features that keep a set (`bloom_member`)."),
    ("RESET", "Forgets everything; in test mode only."),
];

/// The opcodes of the code, by name.
fn opcodes() -> Vec<(String, String)> {
    let source = fs::read_to_string(root().join("connectors/native/src/framed/handle.rs")).unwrap();
    let constants = source.lines().filter_map(|line| line.strip_prefix("const ")?.split_once(": u16 = "));
    constants.map(|(name, number)| (name.to_owned(), number.trim_end_matches(';').to_owned())).collect()
}

fn routes_of(document: &Json) -> String {
    let mut rows = String::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let does = operation["summary"].as_str().unwrap();
            writeln!(rows, "| {} | `{path}` | {} |", method.to_ascii_uppercase(), cell(does)).unwrap();
        }
    }
    rows
}

fn protocols() -> String {
    let data: Json = serde_json::from_str(&fs::read_to_string(root().join("schemas/openapi-data.json")).unwrap()).unwrap();
    let (data, admin) = (routes_of(&data), routes_of(&streamgauge_admin::openapi("0")));
    let does = |name: &str| OPCODES.iter().find(|(known, _)| *known == name).map(|(_, does)| *does);
    let mut rows = String::new();
    for (name, number) in opcodes() {
        let does = does(&name).unwrap_or_else(|| panic!("OPCODES does not say what {name} does"));
        writeln!(rows, "| `{number}` | {} | {does} |", name.to_ascii_lowercase()).unwrap();
    }
    format!(
        "# Protocols

This page is generated from the interfaces; a test compares it with them. Parameters, bodies and answers of the HTTP routes are in
[openapi-data.json](../schemas/openapi-data.json) (data plane) and at `GET /openapi.json` (admin port).

## Rules of requests

- A member of a body and a query parameter that its route does not know is refused with `unknown_member`, its path and
  the nearest name: what is ignored would be a guard that is not there. Parameters of operators are the one exception:
  unknown ones are warnings of `POST /register`, as clients of 0.0.6 expect.
- A query parameter stands once, but for `features`: `?features=a,b&features=c` asks for all three. A switch is `1`,
  `true` or empty, `0` or `false`.
- Every path with GET answers HEAD (the same head, no body), and every path answers OPTIONS with its `Allow`.
- A request body may come under `Content-Encoding: gzip` or `zstd`; `limits.body` holds for it before and after. Any
  other coding is 415.
- With `server.cors`, pages of the named origins may read answers of both ports, and act. A page of any other site may not:
  what changes something is `forbidden` with an `Origin` that is neither named nor the server's own.
- A number that is pushed into a field of `i64` is taken as it is written, as clients of 0.0.6 know it: 12.5 stays 12.5, and
  is no value of a key. From Kafka it is a bad record (`decode_out_of_range`).

## HTTP, data plane (`server.http`)

| method | path | does |
|---|---|---|
{data}
## HTTP, admin port (`server.admin`)

| method | path | does |
|---|---|---|
{admin}
## Framed TCP (`server.tcp`)

A frame is `[u32 length][u16 opcode][u8 content type][payload]`, big-endian; the length counts what follows it, so it is at least 3. Content type 1 is JSON, 2 is MessagePack.
Replies leave in the order of their requests; opcode `0xFFFF` carries an error.

| opcode | name | does |
|---|---|---|
{rows}"
    )
}

#[test]
fn the_protocols_page_is_what_the_interfaces_say() {
    assert_eq!(opcodes().len(), OPCODES.len(), "{:?}", opcodes());
    check("docs/PROTOCOLS.md", &protocols());
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
fn a_refusal_has_the_members_that_the_page_names() {
    let json = streamgauge_api::ApiError::new(Code::KeyNotFound, "no").at("key").to_json();
    let members: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    for member in ["code", "reason", "hint", "retry", "path"] {
        assert!(members.contains(&member), "{member} of {members:?}");
    }
}

/// First segments of the paths that the data plane routes: the strings that open the arms of its one match.
fn routed() -> BTreeSet<String> {
    let source = fs::read_to_string(root().join("connectors/native/src/http/route.rs")).unwrap();
    let arms = source.split("match (first, rest) {").nth(1).unwrap().split("_ =>").next().unwrap();
    arms.lines()
        .filter_map(|line| line.trim().strip_prefix("(\"")?.split('"').next())
        .filter(|name| name.bytes().all(|byte| !byte.is_ascii_uppercase()))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_data_plane_document_has_the_routes_that_are_served() {
    let document: Json = serde_json::from_str(&fs::read_to_string(root().join("schemas/openapi-data.json")).unwrap()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let documented: BTreeSet<String> = paths.keys().filter_map(|path| path.split('/').nth(1)).map(str::to_owned).collect();
    assert_eq!(documented, routed());
}

#[test]
fn references_inside_of_the_data_plane_document_lead_somewhere() {
    let text = fs::read_to_string(root().join("schemas/openapi-data.json")).unwrap();
    let document: Json = serde_json::from_str(&text).unwrap();
    for reference in text.split("\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document.pointer(reference).is_some(), "#{reference}");
    }
}
