//! Bodies of replies, the same for both framings.
//!
//! Called by an I/O thread with the engine's reply and the shape that the request left behind. Status lines, headers and frames are the
//! framings' own.

use crate::shape::{Kind, Shape};
use serde_json::Value as Json;
use std::borrow::Cow;
use streamgauge_api::msgpack::{write_map_head, write_msgpack, write_msgpack_str};
use streamgauge_api::port::{Encoding, Freshness, Reply, Row};
use streamgauge_api::value::{write_json, write_str};
use streamgauge_api::{ApiError, Code, Value};

/// How the engine words an unknown feature on `get`, under code `internal_error`; kept because clients read it.
const FEATURE_NOT_FOUND: &str = "feature_not_found:";

/// What was appended to the body, or why nothing was.
#[derive(Debug)]
pub(crate) enum Body<'a> {
    /// A success.
    Whole { encoding: Encoding, freshness: Option<&'a Freshness> },
    /// An error, of which nothing is appended yet. A read of an absent key still says how fresh that is.
    Error { error: Cow<'a, ApiError>, registry_version: Option<u64>, freshness: Option<&'a Freshness> },
}

/// Appends the body of `reply` to `out`, at most about `limit` bytes.
pub(crate) fn write_body<'a>(out: &mut Vec<u8>, shape: Shape, reply: &'a Reply, limit: usize) -> Body<'a> {
    let json = |freshness| Body::Whole { encoding: Encoding::Json, freshness };
    match reply {
        Reply::Pushed { .. } => {
            write_pushed(out, shape, reply);
            json(None)
        }
        Reply::Row(row, freshness) if !row.present && matches!(shape.kind, Kind::KeyedGet | Kind::Feature) => {
            let error = Cow::Owned(ApiError::new(Code::KeyNotFound, "the table has no such key"));
            Body::Error { error, registry_version: None, freshness: Some(freshness) }
        }
        Reply::Row(row, freshness) => {
            write_features(out, shape.encoding, features(row));
            within(out, limit, Body::Whole { encoding: shape.encoding, freshness: Some(freshness) })
        }
        Reply::Feature(value, freshness) => {
            write_features(out, shape.encoding, std::iter::once(("value", value)));
            within(out, limit, Body::Whole { encoding: shape.encoding, freshness: Some(freshness) })
        }
        Reply::Rows(rows, freshness) => {
            write_results(out, rows, limit);
            within(out, limit, json(Some(freshness)))
        }
        Reply::Many(keys) => {
            write_many(out, shape.encoding, keys);
            within(out, limit, Body::Whole { encoding: shape.encoding, freshness: None })
        }
        Reply::Members { found, false_positives, freshness } => {
            let results = Value::List(found.iter().copied().map(Value::Bool).collect());
            let members = [("results", &results), ("fpr", &Value::F64(*false_positives))];
            write_features(out, shape.encoding, members.into_iter());
            within(out, limit, Body::Whole { encoding: shape.encoding, freshness: Some(freshness) })
        }
        Reply::Registered(body) => {
            out.extend_from_slice(body.as_bytes());
            within(out, limit, json(None))
        }
        Reply::Pong { registry_version, .. } if shape.kind == Kind::Ping => {
            write_number(out, b"{\"pong\":true,\"registry_version\":", *registry_version);
            out.push(b'}');
            json(None)
        }
        Reply::Pong { registry_version, applied_lsn, durable_lsn } => {
            write_number(out, b"{\"registry_version\":", *registry_version);
            out.extend_from_slice(
                concat!(",\"server_version\":\"", env!("CARGO_PKG_VERSION"), "\",\"product\":\"streamgauge\"").as_bytes(),
            );
            write_number(out, b",\"applied_lsn\":", *applied_lsn);
            write_number(out, b",\"durable_lsn\":", *durable_lsn);
            out.push(b'}');
            json(None)
        }
        Reply::WasReset { registry_version } => {
            write_number(out, b"{\"registry_version\":", *registry_version);
            out.extend_from_slice(b",\"reset\":true}");
            json(None)
        }
        Reply::Refused(error, registry_version) => Body::Error {
            error: if shape.kind == Kind::KeyedGet { named(error) } else { Cow::Borrowed(error) },
            registry_version: shape.kind.shows_registry_version().then_some(*registry_version),
            freshness: None,
        },
    }
}

/// Appends `{"error":{..}}`, with the registry version beside it where clients expect that.
pub(crate) fn write_error(out: &mut Vec<u8>, error: &ApiError, registry_version: Option<u64>) {
    out.extend_from_slice(b"{\"error\":");
    // Writing into a Vec cannot fail.
    let _written = serde_json::to_writer(&mut *out, &error.to_json()).is_ok();
    if let Some(registry_version) = registry_version {
        write_number(out, b",\"registry_version\":", registry_version);
    }
    out.push(b'}');
}

/// The registry version that a reply tells.
pub(crate) fn registry_version(reply: &Reply) -> Option<u64> {
    match reply {
        Reply::Pushed { registry_version, .. }
        | Reply::Pong { registry_version, .. }
        | Reply::WasReset { registry_version }
        | Reply::Refused(_, registry_version) => Some(*registry_version),
        _ => None,
    }
}

/// A text, then a number.
pub(crate) fn write_number(out: &mut Vec<u8>, before: &[u8], number: u64) {
    out.extend_from_slice(before);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn write_pushed(out: &mut Vec<u8>, shape: Shape, reply: &Reply) {
    let Reply::Pushed { ack_lsn, first_lsn, count, replayed, durable_lsn, registry_version } = reply else { return };
    write_number(out, b"{\"ack_lsn\":", *ack_lsn);
    if shape.kind == Kind::PushBatch {
        write_number(out, b",\"first_lsn\":", *first_lsn);
        write_number(out, b",\"count\":", u64::from(*count));
        out.extend_from_slice(b",\"replayed\":[");
        for (place, index) in replayed.iter().enumerate() {
            write_number(out, if place > 0 { b"," } else { b"" }, u64::from(*index));
        }
        write_number(out, b"],\"registry_version\":", *registry_version);
    } else {
        out.extend_from_slice(if replayed.is_empty() { b",\"idempotent_replay\":false" } else { b",\"idempotent_replay\":true" });
        write_number(out, b",\"registry_version\":", *registry_version);
    }
    if let Some(durable_lsn) = durable_lsn {
        write_number(out, b",\"durable_lsn\":", *durable_lsn);
    }
    out.push(b'}');
}

/// Names and values of a row; none when the key is absent.
fn features(row: &Row) -> impl Iterator<Item = (&str, &Value)> {
    let name_at = |place: usize| {
        let index = row.selected.as_ref().map_or(Some(place), |selected| selected.get(place).map(|index| usize::from(*index)))?;
        row.names.get(index).map(|name| &**name)
    };
    let values = if row.present { row.values.as_slice() } else { &[] };
    values.iter().enumerate().filter_map(move |(place, value)| Some((name_at(place)?, value)))
}

/// A flat object of features.
fn write_features<'a>(out: &mut Vec<u8>, encoding: Encoding, features: impl Iterator<Item = (&'a str, &'a Value)>) {
    match encoding {
        Encoding::Json => {
            out.push(b'{');
            for (place, (name, value)) in features.enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                write_str(out, name);
                out.push(b':');
                write_json(out, value);
            }
            out.push(b'}');
        }
        Encoding::MsgPack => {
            let features: Vec<_> = features.collect();
            write_map_head(out, features.len());
            for (name, value) in features {
                write_msgpack_str(out, name);
                write_msgpack(out, value);
            }
        }
    }
}

/// Stops soon after `limit`, so that a reply that will be refused is not built in full.
fn write_results(out: &mut Vec<u8>, rows: &[Result<Row, ApiError>], limit: usize) {
    let start = out.len();
    out.extend_from_slice(b"{\"results\":[");
    for (place, row) in rows.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        match row {
            Ok(row) => write_features(out, Encoding::Json, features(row)),
            Err(error) => {
                let error = named(error);
                write_error(out, &error.clone().into_owned().with("message", Json::String(error.reason.clone())), None);
            }
        }
        if out.len() - start > limit {
            return;
        }
    }
    out.extend_from_slice(b"]}");
}

fn write_many(out: &mut Vec<u8>, encoding: Encoding, keys: &[(String, Vec<(String, Value)>)]) {
    match encoding {
        Encoding::Json => out.push(b'{'),
        Encoding::MsgPack => write_map_head(out, keys.len()),
    }
    for (place, (key, features)) in keys.iter().enumerate() {
        match encoding {
            Encoding::Json => {
                if place > 0 {
                    out.push(b',');
                }
                write_str(out, key);
                out.push(b':');
            }
            Encoding::MsgPack => write_msgpack_str(out, key),
        }
        write_features(out, encoding, features.iter().map(|(name, value)| (name.as_str(), value)));
    }
    if encoding == Encoding::Json {
        out.push(b'}');
    }
}

/// An unknown feature under its own code, for the routes that have one.
fn named(error: &ApiError) -> Cow<'_, ApiError> {
    if error.code == Code::InternalError && error.reason.starts_with(FEATURE_NOT_FOUND) {
        return Cow::Owned(ApiError { code: Code::FeatureNotFound, ..error.clone() });
    }
    Cow::Borrowed(error)
}

/// `body`, or `response_too_large` with nothing appended.
fn within<'a>(out: &mut Vec<u8>, limit: usize, body: Body<'a>) -> Body<'a> {
    if out.len() <= limit {
        return body;
    }
    out.clear();
    let error = ApiError::new(Code::ResponseTooLarge, format!("the reply is larger than {limit} bytes")).with("limit", limit.into());
    Body::Error { error: Cow::Owned(error), registry_version: None, freshness: None }
}
