//! The JSON Schema of the config, for editors: made from the list of keys and the operators' signatures.

use super::key::{KEYS, Key};
use super::value::Form;
use crate::operators::{FieldRule, OPERATORS, Param, ParamKind, RESOLUTION, Signature, WindowRule};
use crate::row::{TimeUnit, Written};
use serde_json::{Map, Value as Json, json};

/// Pattern of durations.
const DURATION: &str = "^[0-9]+(ms|s|m|h|d)$";

/// Pattern of windows.
const WINDOW: &str = "^([0-9]+(ms|s|m|h|d)|forever)$";

/// Pattern of sizes.
const SIZE: &str = "^[0-9_]+ ?([kMGT]?B|[KMGT]iB)?$";

/// The schema, as `schemas/streamgauge.schema.json` holds it.
pub fn json_schema() -> Json {
    let mut root = section("", "Streamgauge's config.");
    if let Some(object) = root.as_object_mut() {
        object.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
        object.insert("title".into(), "streamgauge.toml".into());
        object.insert("$defs".into(), json!({ "env": env(), "secret": secret(), "feature": feature() }));
    }
    root
}

/// The table of keys of docs/CONFIG.md.
pub fn reference_table() -> String {
    let mut out = String::from("| key | value | default | meaning |\n|---|---|---|---|\n");
    for key in KEYS {
        let default = key.default.map_or_else(String::new, |default| format!("`{default}`"));
        out.push_str(&format!(
            "| `{}` | {} | {default} | {} |\n",
            key.path.replace('*', "NAME"),
            value_text(key.form),
            key.help.replace('|', "\\|")
        ));
    }
    out
}

fn section(path: &str, description: &str) -> Json {
    let mut properties = Map::new();
    let mut any = None;
    for key in KEYS {
        let rest = if path.is_empty() { Some(key.path) } else { key.path.strip_prefix(path).and_then(|rest| rest.strip_prefix('.')) };
        let Some(rest) = rest else { continue };
        let name = rest.split('.').next().unwrap_or_default();
        let inner = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let schema = if name == rest { leaf(key) } else { section(&inner, "") };
        if name == "*" {
            any = Some(schema);
        } else {
            properties.entry(name).or_insert(schema);
        }
    }
    let mut object = Map::new();
    object.insert("type".into(), "object".into());
    if !description.is_empty() {
        object.insert("description".into(), description.into());
    }
    if !properties.is_empty() {
        object.insert("properties".into(), Json::Object(properties));
    }
    object.insert("additionalProperties".into(), any.unwrap_or(Json::Bool(false)));
    let required = required(path);
    if !required.is_empty() {
        object.insert("required".into(), required.into());
    }
    Json::Object(object)
}

/// Keys without which a section is refused, whatever else it holds.
fn required(path: &str) -> &'static [&'static str] {
    match path {
        "events.*" => &["fields"],
        "sources.*" => &["event", "kafka"],
        "sources.*.kafka" => &["brokers"],
        "sources.*.kafka.sasl" => &["mechanism", "user", "password"],
        "sources.*.registry" => &["url"],
        "tables.*" => &["from", "key", "features"],
        _ => &[],
    }
}

fn leaf(key: &Key) -> Json {
    let mut schema = match key.form {
        Form::NotAvailable => return json!({ "not": {}, "description": format!("Not available: {}.", key.help) }),
        Form::Text | Form::Path | Form::Address | Form::AddressOrOff | Form::LogFilter | Form::Expression => {
            json!({ "type": "string", "minLength": 1 })
        }
        Form::Size { .. } => json!({ "oneOf": [{ "type": "string", "pattern": SIZE }, { "type": "integer", "minimum": 0 }] }),
        Form::Duration { .. } => json!({ "type": "string", "pattern": DURATION }),
        Form::Count { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Form::Flag => json!({ "type": "boolean" }),
        Form::Word(words) => json!({ "enum": words }),
        Form::Origins => json!({ "oneOf": [
            { "type": "string", "minLength": 1 }, { "type": "array", "items": { "type": "string", "minLength": 1 }, "minItems": 1 },
        ] }),
        Form::Place => json!({ "oneOf": [{ "type": "string", "minLength": 1 }, { "$ref": "#/$defs/env" }] }),
        Form::Places => json!({ "oneOf": [
            { "$ref": "#/$defs/env" },
            { "type": "array", "items": { "oneOf": [{ "type": "string", "minLength": 1 }, { "$ref": "#/$defs/env" }] } },
        ] }),
        Form::Texts => json!({ "type": "array", "items": { "type": "string", "minLength": 1 } }),
        Form::Secret => json!({ "$ref": "#/$defs/secret" }),
        Form::Time => json!({ "oneOf": [
            { "enum": ["arrival", "record"] },
            { "type": "object", "properties": { "field": { "type": "string" }, "unit": { "enum": TimeUnit::NAMES } }, "required": ["field"], "additionalProperties": false },
        ] }),
        Form::Fields => json!({
            "type": "object", "minProperties": 1,
            "additionalProperties": { "type": "string", "pattern": "^(str|f64|i64|bool|bytes|datetime|json)\\??$" },
        }),
        Form::FieldSources => {
            let place = json!([
                { "type": "string", "minLength": 1 }, { "type": "array", "items": { "type": "string", "minLength": 1 }, "minItems": 1 },
            ]);
            let said = json!({
                "path": { "oneOf": place }, "from": { "enum": Written::NAMES }, "unit": { "enum": TimeUnit::NAMES },
                "zone": { "type": "string" }, "scale": { "type": "integer", "minimum": -1000, "maximum": 1000 },
                "on_bad_field": { "enum": ["reject", "null"] }, "on_bad": { "enum": ["reject", "null"] },
            });
            json!({ "type": "object", "additionalProperties": { "oneOf": [
                place[0], place[1], { "type": "object", "properties": said, "additionalProperties": false },
            ] } })
        }
        Form::Features => json!({ "type": "object", "minProperties": 1, "additionalProperties": { "$ref": "#/$defs/feature" } }),
        Form::Client => json!({ "type": "object", "additionalProperties": { "oneOf": [
            { "type": ["string", "number", "boolean"] }, { "$ref": "#/$defs/secret" },
        ] } }),
        Form::History => json!({ "anyOf": [{ "type": "string" }, { "type": "integer", "minimum": 0 }] }),
        Form::Eventstore => json!({ "type": "object" }),
        Form::Start => {
            json!({ "anyOf": [{ "enum": ["earliest", "latest"] }, { "type": "integer", "minimum": 0 }, { "type": "string", "format": "date-time" }] })
        }
    };
    if let Some(object) = schema.as_object_mut() {
        object.insert("description".into(), key.help.into());
        if let Some(default) = key.default {
            let default = match key.form {
                Form::Flag => Json::Bool(default == "true"),
                Form::Count { .. } => default.replace('_', "").parse::<u64>().map_or(Json::Null, Json::from),
                _ => default.into(),
            };
            object.insert("default".into(), default);
        }
    }
    schema
}

fn env() -> Json {
    let name = json!({ "type": "string", "minLength": 1 });
    json!({
        "description": "The variable of the environment that holds it.",
        "type": "object", "properties": { "env": name }, "required": ["env"], "additionalProperties": false,
    })
}

fn secret() -> Json {
    let name = json!({ "type": "string", "minLength": 1 });
    json!({ "description": "Where a secret is: never in this file.", "oneOf": [
        { "type": "object", "properties": { "env": name }, "required": ["env"], "additionalProperties": false },
        { "type": "object", "properties": { "file": name }, "required": ["file"], "additionalProperties": false },
    ] })
}

fn feature() -> Json {
    let kinds: Vec<Json> = OPERATORS.iter().map(|operator| operator_schema(operator.signature())).collect();
    json!({ "type": "object", "required": ["op"], "oneOf": kinds })
}

fn operator_schema(signature: &Signature) -> Json {
    let names: Vec<&str> = std::iter::once(signature.name).chain(signature.aliases.iter().copied()).collect();
    let mut properties = Map::new();
    properties.insert("op".into(), json!({ "enum": names, "description": signature.help }));
    properties.insert("where".into(), json!({ "type": "string", "description": "Only rows for which this is true count." }));
    if signature.field != FieldRule::None {
        properties.insert("field".into(), json!({ "type": "string", "description": "The field that is aggregated." }));
        if signature.field != FieldRule::Condition {
            properties.insert("expr".into(), json!({ "type": "string", "description": "An expression instead of a field." }));
        }
    }
    if !matches!(signature.window, WindowRule::Refused(_)) {
        properties.insert("window".into(), json!({ "type": "string", "pattern": WINDOW }));
    }
    if signature.window == WindowRule::Allowed {
        properties.insert(RESOLUTION.name.into(), described_param(&RESOLUTION));
    }
    for param in signature.params {
        for name in std::iter::once(param.name).chain(param.aliases.iter().copied()) {
            properties.insert(name.into(), described_param(param));
        }
    }
    json!({ "type": "object", "properties": properties, "required": ["op"], "additionalProperties": false })
}

fn described_param(param: &Param) -> Json {
    let mut schema = param_schema(param.kind);
    schema["description"] = param.help.into();
    schema
}

fn param_schema(kind: ParamKind) -> Json {
    match kind {
        ParamKind::Int { min, max, .. } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        ParamKind::Float { .. } => json!({ "type": "number" }),
        ParamKind::Window => json!({ "type": "string", "pattern": WINDOW }),
        ParamKind::Duration { .. } => json!({ "type": "string", "pattern": DURATION }),
        ParamKind::Bool { .. } => json!({ "type": "boolean" }),
        ParamKind::Edges { max } => json!({ "type": "array", "items": { "type": "number" }, "maxItems": max }),
        ParamKind::Texts { max } => json!({ "type": "array", "items": { "type": "string" }, "maxItems": max }),
        ParamKind::FieldName { .. } => json!({ "type": "string" }),
    }
}

fn value_text(form: Form) -> String {
    match form {
        Form::Text | Form::Expression => "text".into(),
        Form::Path => "path".into(),
        Form::Address => "IP:PORT".into(),
        Form::AddressOrOff => "IP:PORT or off".into(),
        Form::Size { .. } => "size".into(),
        Form::Duration { .. } => "duration".into(),
        Form::Count { min, max } => format!("{min} to {max}"),
        Form::Flag => "true, false".into(),
        Form::Word(words) => words.join(", "),
        Form::LogFilter => "log filter".into(),
        Form::Origins => "origins".into(),
        Form::Place => "text or env".into(),
        Form::Places => "list of texts, or env".into(),
        Form::Texts => "list of texts".into(),
        Form::Secret => "secret".into(),
        Form::Time => "time source".into(),
        Form::Fields => "names and types".into(),
        Form::FieldSources => "fields and where they come from".into(),
        Form::Features => "features".into(),
        Form::Client => "librdkafka settings".into(),
        Form::Start => "earliest, latest, a time".into(),
        Form::History => "earliest, auto, a duration, a time".into(),
        Form::Eventstore => "declaration".into(),
        Form::NotAvailable => "not available".into(),
    }
}
