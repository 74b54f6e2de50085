//! The JSON Schema of the config file, from the list of settings; editors complete and check with it (`schemas/streamgauge.schema.json`).

use super::setting::{Kind, SETTINGS, Setting};
use serde_json::{Map, Value as Json, json};

/// The schema.
pub fn json_schema() -> Json {
    let mut root = Map::new();
    root.insert("config_version".into(), json!({ "const": 1, "description": "Version of the file's form." }));
    for setting in SETTINGS {
        insert(&mut root, setting.key, setting);
    }
    root.insert("events".into(), by_name(event()));
    root.insert("sources".into(), by_name(source()));
    root.insert("tables".into(), by_name(table()));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "streamgauge.toml",
        "type": "object",
        "additionalProperties": false,
        "properties": root,
    })
}

fn insert(properties: &mut Map<String, Json>, path: &str, setting: &Setting) {
    match path.split_once('.') {
        None => {
            properties.insert(path.to_owned(), scalar(setting));
        }
        Some((group, rest)) => {
            let group = properties.entry(group).or_insert_with(|| object(json!({})));
            if let Some(inner) = group["properties"].as_object_mut() {
                insert(inner, rest, setting);
            }
        }
    }
}

fn scalar(setting: &Setting) -> Json {
    let mut schema = match setting.kind {
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Count(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::Size(..) => json!({ "type": "string", "pattern": "^[0-9][0-9_]* ?(B|KiB|MiB|GiB|TiB)$" }),
        Kind::Duration(0, _) => json!({ "type": "string", "pattern": "^(0|[0-9]+(ms|s|m|h|d))$" }),
        Kind::Duration(..) => json!({ "type": "string", "pattern": DURATION }),
        Kind::Text | Kind::Path | Kind::Address => json!({ "type": "string" }),
    };
    schema["description"] = format!("{} ({})", setting.help, setting.kind.wanted()).into();
    if !setting.default.is_empty() {
        schema["default"] = match setting.kind {
            Kind::Flag => (setting.default == "true").into(),
            Kind::Count(..) => setting.default.replace('_', "").parse::<u64>().unwrap_or_default().into(),
            _ => setting.default.into(),
        };
    }
    schema
}

const DURATION: &str = "^[0-9]+(ms|s|m|h|d)$";

fn object(properties: Json) -> Json {
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn required(mut schema: Json, keys: &[&str]) -> Json {
    schema["required"] = json!(keys);
    schema
}

fn by_name(schema: Json) -> Json {
    json!({ "type": "object", "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,127}$" }, "additionalProperties": schema })
}

fn text(description: &str) -> Json {
    json!({ "type": "string", "minLength": 1, "description": description })
}

fn texts(description: &str) -> Json {
    json!({ "oneOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }], "description": description })
}

fn secret(description: &str) -> Json {
    json!({ "oneOf": [required(object(json!({ "env": text("Environment variable.") })), &["env"]),
        required(object(json!({ "file": text("File.") })), &["file"])], "description": description })
}

fn event() -> Json {
    let types = "^(str|f64|i64|bool|bytes|datetime|json)\\??$";
    let time = json!({ "oneOf": [{ "enum": ["arrival", "record"] }, required(object(json!({ "field": text("A datetime or i64 field.") })), &["field"])],
        "description": "Where row time comes from." });
    let event = object(json!({
        "fields": { "type": "object", "minProperties": 1, "additionalProperties": { "type": "string", "pattern": types },
            "description": "Field = type; ? = may be missing. Only these are decoded." },
        "time": time,
        "max_future": { "type": "string", "pattern": DURATION, "description": "A row further ahead of its arrival is a bad record." },
        "on_bad_record": { "enum": ["dlq", "skip", "stop"], "default": "dlq", "description": "What a source does with a record that cannot become a row." },
        "tombstone": { "enum": ["ignore", "reject", "delete_key", "row"], "default": "reject", "description": "What a record without a value means." },
    }));
    required(event, &["fields"])
}

fn source() -> Json {
    let tls = |more: Json| {
        let mut properties = json!({ "ca": text("CA bundle, PEM file."), "cert": text("Client certificate chain, PEM file."), "key": secret("Client key, PEM.") });
        if let (Some(properties), Some(more)) = (properties.as_object_mut(), more.as_object()) {
            properties.extend(more.clone());
        }
        object(properties)
    };
    let sasl = required(
        object(
            json!({ "mechanism": { "enum": ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] }, "user": text("User."), "password": secret("Password.") }),
        ),
        &["mechanism", "user", "password"],
    );
    let kafka = required(
        object(json!({
            "brokers": texts("Bootstrap addresses, host:port."),
            "topic": text("One topic."),
            "topics": texts("Several topics."),
            "topic_regex": text("All topics whose whole name matches, also later ones."),
            "start": { "description": "Used once, when no position is stored: earliest, latest or a time.", "default": "earliest" },
            "sasl": sasl,
            "tls": tls(json!({})),
            "client": { "type": "object", "description": "Client settings by librdkafka's names." },
            "group_id": text("Consumer group for lag tools."),
            "topic_ids": { "type": "boolean", "default": true, "description": "Whether brokers give topics ids." },
        })),
        &["brokers"],
    );
    let auth = object(json!({ "user": text("User."), "password": secret("Password."), "bearer": secret("Token.") }));
    let registry = required(
        tls(json!({ "url": texts("Base URLs, tried in order."), "auth": auth,
            "schema_missing_grace": { "type": "string", "pattern": DURATION, "default": "1m", "description": "How long an unknown schema id is asked for again." } })),
        &["url"],
    );
    let source = object(json!({
        "event": text("The event it feeds."),
        "format": { "enum": ["json", "avro"], "default": "json" },
        "framing": { "enum": ["none", "confluent", "apicurio8"], "description": "What stands in front of bodies; confluent is the default for avro." },
        "schema": text("Writer schema of avro bodies without framing, .avsc file."),
        "key_format": { "enum": ["raw", "integer"], "default": "raw" },
        "fields": { "type": "object", "description": "Event field = path in the record, header:NAME, key, topic, partition, offset or timestamp." },
        "kafka": kafka,
        "registry": registry,
    }));
    required(source, &["event", "kafka"])
}

fn table() -> Json {
    let feature = json!({ "type": "object", "required": ["op"], "properties": {
        "op": text("Operator."), "field": text("Field it aggregates."), "expr": text("Expression it aggregates instead of a field."),
        "where": text("Only rows for which this is true."), "window": { "type": "string", "pattern": "^([0-9]+(ms|s|m|h|d)|forever)$" } } });
    let table = object(json!({
        "from": text("The event whose rows it aggregates."),
        "key": texts("Group-by columns; none = one global row."),
        "where": text("Only rows for which this is true; runs after ops."),
        "ops": { "type": "array", "items": { "type": "object", "required": ["op"] }, "description": "Chain steps as in register JSON." },
        "features": { "type": "object", "additionalProperties": feature },
    }));
    required(table, &["from", "features"])
}
