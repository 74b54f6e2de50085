//! A schema by id, with the schemas that it refers to.
//!
//! References are walked depth first, so dependencies come before their users; each (subject, version) once; depth and cycles are bounded.
//! A schema that is not whole, because a reference of it is gone, is as good as missing: it must not hold a partition for ever.

use super::http::{Http, REFERENCE_NOT_FOUND, RegistryError, SCHEMA_NOT_FOUND, SUBJECT_NOT_FOUND};
use serde_json::Value as Json;
use streamgauge_api::SchemaId;
use streamgauge_api::inlet::{FetchedSchema, SchemaReference};

const REFERENCE_DEPTH_MAX: usize = 16;

/// Fetches schema `id`.
pub fn schema(http: &Http, id: SchemaId) -> Result<FetchedSchema, RegistryError> {
    let path = match id {
        SchemaId::Number(number) => format!("/schemas/ids/{number}"),
        SchemaId::Guid(_) => format!("/schemas/guids/{id}"),
    };
    let answer = http.get(&path, SCHEMA_NOT_FOUND)?;
    let mut walk = Walk { http, open: Vec::new(), done: Vec::new(), found: Vec::new() };
    walk.references(&answer)?;
    Ok(FetchedSchema {
        registry: http.name(),
        id,
        kind: answer.get("schemaType").and_then(Json::as_str).unwrap_or("AVRO").to_owned(),
        text: text(&answer, || format!("schema id {id}"))?,
        references: walk.found,
    })
}

/// Fetches the newest schema of a subject; none when the registry has no such subject.
pub fn latest(http: &Http, subject: &str) -> Result<Option<FetchedSchema>, RegistryError> {
    let answer = match http.get(&format!("/subjects/{}/versions/latest", encoded(subject)), SUBJECT_NOT_FOUND) {
        Err(RegistryError::Missing(_)) => return Ok(None),
        answer => answer?,
    };
    let id = answer.get("id").and_then(Json::as_u64).and_then(|id| u32::try_from(id).ok());
    let Some(id) = id else { return Err(RegistryError::Down(format!("the newest version of {subject} has no id"))) };
    schema(http, SchemaId::Number(id)).map(Some)
}

struct Walk<'a> {
    http: &'a Http,
    /// References from the root to here.
    open: Vec<(String, i64)>,
    done: Vec<(String, i64)>,
    found: Vec<SchemaReference>,
}

impl Walk<'_> {
    fn references(&mut self, answer: &Json) -> Result<(), RegistryError> {
        let references = answer.get("references").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        for reference in references {
            let subject = reference.get("subject").and_then(Json::as_str);
            let version = reference.get("version").and_then(Json::as_i64);
            let (Some(subject), Some(version)) = (subject, version) else {
                return Err(RegistryError::Missing(format!("a reference without subject or version: {reference}")));
            };
            let name = reference.get("name").and_then(Json::as_str).unwrap_or(subject);
            self.reference(name, (subject.to_owned(), version))?;
        }
        Ok(())
    }

    fn reference(&mut self, name: &str, place: (String, i64)) -> Result<(), RegistryError> {
        if self.done.contains(&place) {
            return Ok(());
        }
        let (subject, version) = (&place.0, place.1);
        if self.open.contains(&place) {
            return Err(RegistryError::Missing(format!("references form a cycle through {subject} version {version}")));
        }
        if self.open.len() >= REFERENCE_DEPTH_MAX {
            return Err(RegistryError::Missing(format!("references go deeper than {REFERENCE_DEPTH_MAX} at {subject} version {version}")));
        }
        let path = format!("/subjects/{}/versions/{version}", encoded(subject));
        let answer = self.http.get(&path, REFERENCE_NOT_FOUND)?;
        let text = text(&answer, || format!("{subject} version {version}"))?;
        self.open.push(place.clone());
        self.references(&answer)?;
        self.open.pop();
        self.done.push(place);
        self.found.push(SchemaReference { name: name.to_owned(), text });
        Ok(())
    }
}

fn text(answer: &Json, what: impl Fn() -> String) -> Result<String, RegistryError> {
    let text = answer.get("schema").and_then(Json::as_str);
    text.map(str::to_owned).ok_or_else(|| RegistryError::Down(format!("{}: the answer has no schema", what())))
}

/// Percent-encodes a path segment.
fn encoded(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
