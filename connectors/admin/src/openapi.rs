//! `/openapi.json`: OpenAPI 3.1, made from the table of routes and the table of codes.
//!
//! Schemas name the members that clients may rely on; all of them allow further members. The golden file beside the crate shows each change of the interface
//! in a diff.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};
use streamgauge_api::Code;
use streamgauge_api::source::IncidentKind;

use crate::routes::{COMMON_CODES, ROUTES, RouteSpec};

/// The document.
pub(crate) fn document(version: &str) -> Json {
    let mut paths: BTreeMap<&str, Map<String, Json>> = BTreeMap::new();
    for route in ROUTES {
        paths.entry(route.path).or_default().insert(route.method.to_owned(), operation(route));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Streamgauge admin",
            "version": version,
            "description": "Health, readiness, metrics, registry, sources, tables and rejects of one Streamgauge server.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": schemas()},
    })
}

fn operation(route: &RouteSpec) -> Json {
    let mut responses = Map::new();
    let mut ok = Map::new();
    let schema = match route.schema {
        "Text" => json!({"type": "string"}),
        "Document" => json!({"type": "object"}),
        name => json!({"$ref": format!("#/components/schemas/{name}")}),
    };
    ok.insert(route.media_type.to_owned(), json!({"schema": schema}));
    responses.insert("200".into(), json!({"description": route.summary, "content": ok}));
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in route.codes.iter().chain(COMMON_CODES) {
        by_status.entry(code.status()).or_default().push(*code);
    }
    for (status, codes) in by_status {
        responses.insert(status.to_string(), refusal(route, status, &codes));
    }
    let parameters: Vec<Json> = route
        .parameters
        .iter()
        .map(|parameter| {
            json!({
                "name": parameter.name, "in": parameter.place, "required": parameter.place == "path",
                "description": parameter.summary, "schema": {"type": parameter.kind},
            })
        })
        .collect();
    let id = format!("{}{}", route.method, route.path.replace(['/', '{', '}', '.'], "_"));
    json!({"operationId": id, "summary": route.summary, "parameters": parameters, "responses": responses})
}

fn refusal(route: &RouteSpec, status: u16, codes: &[Code]) -> Json {
    let names: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
    let titles: Vec<String> = codes.iter().map(|code| format!("`{code}`: {}", code.title())).collect();
    let mut content = Map::new();
    content.insert(
        "application/problem+json".into(),
        json!({"schema": {"allOf": [{"$ref": "#/components/schemas/Problem"}, {"properties": {"code": {"enum": names}}}]}}),
    );
    // Probes answer 503 with their own body: a probe reads the status, a person the reasons.
    if status == 503 && matches!(route.schema, "Readiness" | "Health") {
        content.insert("application/json".into(), json!({"schema": {"$ref": format!("#/components/schemas/{}", route.schema)}}));
    }
    json!({"description": titles.join("; "), "content": content})
}

fn schemas() -> Json {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let kinds: Vec<&str> = IncidentKind::ALL.iter().map(|kind| kind.as_str()).collect();
    let nullable = |kind: &str| json!({"type": [kind, "null"]});
    let mut schemas = json!({
        "Problem": object(&["type", "title", "status", "code", "detail", "hint", "retry", "instance", "request_id"], json!({
            "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"}, "code": {"$ref": "#/components/schemas/Code"},
            "detail": {"type": "string"}, "hint": {"type": "string"}, "retry": {"enum": ["yes", "no"]}, "instance": {"type": "string"},
            "request_id": {"type": "string"}, "path": {"type": "string"},
        })),
        "Code": {"type": "string", "enum": codes},
        "Health": object(&["status"], json!({"status": {"enum": ["ok", "stalled"]}, "detail": {"type": "string"}})),
        "Readiness": object(&["status"], json!({
            "status": {"enum": ["starting", "recovering", "catching_up", "ready", "draining", "failed"]}, "ready": {"type": "boolean"},
            "reasons": {"type": "array", "items": {"type": "string"}},
            "warnings": {"type": "array", "items": {"type": "string"}}, "progress": {"type": "number", "minimum": 0, "maximum": 1},
            "eta_s": nullable("number"), "code": {"$ref": "#/components/schemas/Code"}, "hint": {"type": "string"},
        })),
        "Registry": object(&["node_count", "version", "events", "tables", "sources"], json!({
            "node_count": {"type": "integer"}, "version": {"type": "integer"},
        })),
        "Sources": object(&["sources", "partitions"], json!({
            "sources": {"type": "array", "items": {"$ref": "#/components/schemas/SourceNote"}},
            "partitions": {"type": "array", "items": {"$ref": "#/components/schemas/PartitionStatus"}},
        })),
        "SourceNote": object(&["source", "state", "detail"], json!({
            "source": {"type": "string"}, "state": {"enum": ["connecting", "reading", "waiting", "stopped"]}, "detail": {"type": "string"},
        })),
        "PartitionStatus": object(&["source", "event", "topic", "partition", "state", "position"], json!({
            "source": {"type": "string"}, "event": {"type": "string"}, "topic": {"type": "string"}, "partition": {"type": "integer"},
            "state": {"enum": ["reading", "at_end", "waiting", "stopped"]}, "position": {"type": "integer"}, "end": nullable("integer"),
            "stable_end": nullable("integer"), "log_start": nullable("integer"), "lag_records": nullable("integer"), "lag_seconds": nullable("number"),
            "in_per_second": {"type": "number"}, "applied_per_second": {"type": "number"}, "eta_s": nullable("number"),
            "incident": {"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Incident"}]},
        })),
        "Incident": object(&["kind", "cause", "opened_us", "lost", "holds", "evidence", "actions"], json!({
            "kind": {"enum": kinds}, "cause": {"type": "string"},
            "opened_us": {"type": "integer"}, "lost": {"type": "string"}, "holds": {"type": "string"}, "evidence": {"type": "string"},
            "actions": {"type": "array", "items": {"type": "string"}},
        })),
        "KeysPage": object(&["table", "keys", "next", "total"], json!({
            "table": {"type": "string"}, "keys": {"type": "array", "items": {}}, "next": nullable("string"), "total": {"type": "integer"},
        })),
        "Status": {"type": "object", "properties": {"retiring": {"$ref": "#/components/schemas/Retirement"}}},
        "Retirement": object(&["parts", "waits_for", "registrations_waiting"], json!({
            "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Retiring"}},
            "waits_for": {"enum": [null, "snapshot", "evacuation"]}, "registrations_waiting": {"type": "integer"},
        })),
        "Retiring": object(&["table", "features", "done", "of", "unit", "since_ms"], json!({
            "table": {"type": "string"}, "features": {"type": "array", "items": {"type": "string"}}, "done": {"type": "integer"},
            "of": {"type": "integer"}, "unit": {"enum": ["rows", "chunks"]}, "since_ms": {"type": "integer"},
        })),
        "Limits": {"type": ["object", "array"]},
        "RejectsPage": object(&["rejects", "next", "gone"], json!({
            "rejects": {"type": "array", "items": {"$ref": "#/components/schemas/Reject"}}, "next": nullable("string"),
            "gone": {"type": "integer"},
        })),
        "Reject": object(&["lsn", "at_us", "event", "source", "topic", "partition", "offset", "code", "reason", "value_len"], json!({
            "lsn": {"type": "integer"}, "at_us": {"type": "integer"}, "event": {"type": "string"}, "source": {"type": "string"},
            "topic": {"type": "string"}, "partition": {"type": "integer"}, "offset": {"type": "integer"},
            "code": {"$ref": "#/components/schemas/Code"}, "reason": {"type": "string"}, "schema_id": {"type": ["integer", "string", "null"]},
            "timestamp_ms": {"type": "integer"}, "key": nullable("string"), "value": nullable("string"), "value_len": {"type": "integer"},
        })),
        "LogPage": object(&["log_id", "earliest_lsn", "durable_lsn", "frames", "next_lsn"], json!({
            "log_id": {"type": "string"}, "earliest_lsn": {"type": "integer"}, "durable_lsn": {"type": "integer"},
            "frames": {"type": "array", "items": {"$ref": "#/components/schemas/LogFrame"}}, "next_lsn": {"type": "integer"},
        })),
        "LogFrame": object(&["first_lsn", "last_lsn", "kind", "at_us", "bytes", "rows", "positions"], json!({
            "first_lsn": {"type": "integer"}, "last_lsn": {"type": "integer"}, "kind": {"type": "string"}, "at_us": {"type": "integer"},
            "bytes": {"type": "integer"},
            "rows": {"type": "array", "items": object(&["event", "rows"], json!({"event": {"type": "string"}, "rows": nullable("integer")}))},
            "positions": {"type": "array", "items": object(&["event", "topic", "partition", "next_offset"], json!({
                "event": {"type": "string"}, "topic": {"type": "string"}, "partition": {"type": "integer"}, "next_offset": {"type": "integer"},
            }))},
        })),
        "Fingerprint": object(&["lsn", "fingerprint"], json!({"lsn": {"type": "integer"}, "fingerprint": {"type": "string"}})),
        "Incidents": {"type": "object", "required": ["incidents", "gaps"], "properties": {
            "incidents": {"type": "array", "items": {"$ref": "#/components/schemas/Incident"}},
            "gaps": {"type": "array", "items": {"type": "object", "properties": {
                "source": {"type": "string"}, "event": {"type": "string"}, "topic": {"type": "string"}, "partition": {"type": "integer"}, "incident": {"type": "string"},
                "lost": {"type": "string"}, "lsn": {"type": "integer"}, "since_us": {"type": "integer"},
            }}},
        }},
        "Decided": {"type": "object", "required": ["dry_run", "decision", "partitions"], "properties": {
            "dry_run": {"type": "boolean"}, "decision": {"type": "string"},
            "partitions": {"type": "array", "items": {"type": "object", "properties": {
                "id": {"type": "string"}, "incident": {"type": "string"}, "from_offset": nullable("integer"), "to_offset": nullable("integer"),
                "to_read": nullable("integer"), "lost": {"type": "string"}, "counted_again": {"type": "string"},
            }}},
        }},
        "Snapshot": {"type": "object"},
        "Backfill": {"type": "object", "required": ["id", "table", "state"], "properties": {
            "id": {"type": "integer"}, "table": {"type": "string"}, "from": {"type": "string"}, "state": {"type": "string"}, "cause": {"type": "string"},
            "records": {"type": "integer"}, "of": {"type": "integer"}, "rows": {"type": "integer"}, "rate": {"type": "integer"}, "eta_s": nullable("integer"),
        }},
        "Backfills": object(&["backfills"], json!({"backfills": {"type": "array", "items": {"$ref": "#/components/schemas/Backfill"}}})),
        "BackfillDone": object(&["lsn"], json!({"lsn": {"type": "integer"}})),
        "ClockAccepted": {
            "type": "object",
            "properties": {"was_us": {"type": "integer"}, "now_us": {"type": "integer"}, "moved_s": {"type": "integer"}, "lsn": {"type": "integer"}},
        },
    });
    schemas["Eventstore"] = object(
        &["declared"],
        json!({
            "declared": {"type": "boolean"}, "name": {"type": "string"}, "path": {"type": "string"},
            "keys": {"type": "array", "items": {"type": "object"}}, "archive": {"type": "object"},
        }),
    );
    schemas["Retried"] = object(
        &["dry_run", "chosen", "rows", "nothing", "stays"],
        json!({
            "dry_run": {"type": "boolean"}, "chosen": {"type": "integer"}, "rows": {"type": "integer"}, "nothing": {"type": "integer"},
            "stays": {"type": "object", "additionalProperties": {"type": "integer"}},
        }),
    );
    schemas
}

fn object(required: &[&str], properties: Json) -> Json {
    json!({"type": "object", "required": required, "properties": properties})
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_reference_has_its_schema() {
        let document = document("0");
        let text = document.to_string();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for reference in text.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
    }

    #[test]
    fn operation_ids_are_unique_and_path_parameters_are_declared() {
        let mut seen = std::collections::BTreeSet::new();
        for route in ROUTES {
            assert!(seen.insert(operation(route)["operationId"].clone().to_string()), "{}", route.path);
            for name in route.path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
                assert!(route.parameters.iter().any(|parameter| parameter.place == "path" && parameter.name == name), "{}", route.path);
            }
        }
    }
}
