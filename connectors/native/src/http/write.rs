//! HTTP replies as bytes: status line, headers, body.
//!
//! ```text
//! HTTP/1.1 200 OK
//! Content-Type: application/json
//! X-Runtime: mio
//! Connection: keep-alive            (close on the last reply)
//! X-Streamgauge-As-Of / -Lag-Ms / -Lsn / -Incident     on reads
//! Retry-After: 1                    on 503 that may pass
//! Access-Control-*, Vary: Origin    with `server.cors` alone
//! Content-Length: N
//! ```

use super::coding;
use crate::config::RESPONSE_BYTES_MAX;
use crate::form::time::write_time;
use crate::reply::{Body, write_body, write_error, write_number};
use crate::shape::{HttpReply, Shape};
use streamgauge_api::port::{Freshness, Reply};
use streamgauge_api::{ApiError, Code, Cors, cors};

/// Appends the engine's reply and returns its status. `scratch` is a buffer to build the body in.
pub(crate) fn reply(out: &mut Vec<u8>, scratch: &mut Vec<u8>, shape: Shape, reply: &Reply, cors: &Cors) -> u16 {
    scratch.clear();
    match write_body(scratch, shape, reply, RESPONSE_BYTES_MAX) {
        Body::Whole { freshness, .. } => {
            write_head(out, 200, shape.http, cors);
            if let Some(freshness) = freshness {
                write_freshness(out, freshness);
            }
            if is_replay(reply) {
                write_header(out, "X-Beava-Idempotent-Replay", "1");
            }
            write_rest(out, scratch, shape.http);
            200
        }
        Body::Error { error, registry_version, freshness } => {
            write_error(scratch, &error, registry_version);
            write_head(out, error.code.status(), shape.http, cors);
            if let Some(freshness) = freshness {
                write_freshness(out, freshness);
            }
            write_retry(out, &error);
            write_rest(out, scratch, shape.http);
            error.code.status()
        }
    }
}

/// Whether every row of a push came before.
fn is_replay(reply: &Reply) -> bool {
    matches!(reply, Reply::Pushed { replayed, count, .. } if *count > 0 && replayed.len() == *count as usize)
}

/// Appends an answer that needs no engine.
pub(crate) fn json(out: &mut Vec<u8>, status: u16, body: &[u8], http: HttpReply, cors: &Cors) {
    write_head(out, status, http, cors);
    write_rest(out, body, http);
}

/// Appends an error.
pub(crate) fn error(out: &mut Vec<u8>, error: &ApiError, http: HttpReply, cors: &Cors, registry_version: Option<u64>) {
    let mut body = Vec::new();
    write_error(&mut body, error, registry_version);
    write_head(out, error.code.status(), http, cors);
    write_retry(out, error);
    if error.code == Code::UnsupportedMediaType {
        write_header(out, "Accept-Encoding", coding::ACCEPTED);
    }
    write_rest(out, &body, http);
}

/// Appends the error of a target that leads nowhere.
pub(crate) fn stray(out: &mut Vec<u8>, error: &ApiError, allow: Option<&str>, http: HttpReply, cors: &Cors) {
    let mut body = Vec::new();
    write_error(&mut body, error, None);
    write_head(out, error.code.status(), http, cors);
    if let Some(allow) = allow {
        write_header(out, "Allow", allow);
    }
    write_rest(out, &body, http);
}

/// Appends the answer to `OPTIONS`: what the path takes, and to a page that may ask, that it may.
pub(crate) fn options(out: &mut Vec<u8>, allow: &str, http: HttpReply, cors: &Cors) {
    write_head(out, 204, http, cors);
    write_header(out, "Allow", allow);
    if http.origin != 0 {
        write_header(out, "Access-Control-Allow-Methods", allow);
        write_header(out, "Access-Control-Allow-Headers", cors::REQUEST_HEADERS);
        write_number(out, b"Access-Control-Max-Age: ", u64::from(cors::MAX_AGE_SECONDS));
        out.extend_from_slice(b"\r\n");
    }
    // A reply of this status has no body and says no length.
    out.extend_from_slice(b"\r\n");
}

/// Appends the answer to `Expect: 100-continue`.
pub(crate) fn go_on(out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
}

fn write_head(out: &mut Vec<u8>, status: u16, http: HttpReply, cors: &Cors) {
    if status == 200 && !http.close {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Runtime: mio\r\nConnection: keep-alive\r\n");
    } else {
        out.extend_from_slice(status_line(status));
        out.extend_from_slice(b"Content-Type: application/json\r\nX-Runtime: mio\r\nConnection: ");
        out.extend_from_slice(if http.close { b"close\r\n" } else { b"keep-alive\r\n" });
    }
    if !cors.is_off() {
        write_cors(out, http, cors);
    }
}

/// Which page may read this. What is sent depends on the page unless all may, so no cache may give it to another.
fn write_cors(out: &mut Vec<u8>, http: HttpReply, cors: &Cors) {
    if !cors.allows_all() {
        write_header(out, "Vary", "Origin");
    }
    if let Some(origin) = cors.allowed(http.origin) {
        write_header(out, "Access-Control-Allow-Origin", origin);
        write_header(out, "Access-Control-Expose-Headers", cors::EXPOSED_HEADERS);
    }
}

fn write_header(out: &mut Vec<u8>, name: &str, value: &str) {
    debug_assert!(!value.bytes().any(|byte| byte.is_ascii_control()), "{name} holds no line end");
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn write_rest(out: &mut Vec<u8>, body: &[u8], http: HttpReply) {
    write_number(out, b"Content-Length: ", body.len() as u64);
    out.extend_from_slice(b"\r\n\r\n");
    if !http.bodiless {
        out.extend_from_slice(body);
    }
}

fn write_freshness(out: &mut Vec<u8>, freshness: &Freshness) {
    out.extend_from_slice(b"X-Streamgauge-As-Of: ");
    out.extend_from_slice(write_time(freshness.as_of_ms).as_bytes());
    if let Some(lag_ms) = freshness.lag_ms {
        out.extend_from_slice(b"\r\nX-Streamgauge-Lag-Ms: ");
        out.extend_from_slice(itoa::Buffer::new().format(lag_ms).as_bytes());
    }
    write_number(out, b"\r\nX-Streamgauge-Lsn: ", freshness.lsn);
    if let Some(incident) = &freshness.incident {
        out.extend_from_slice(b"\r\nX-Streamgauge-Incident: ");
        out.extend(incident.bytes().filter(u8::is_ascii_graphic));
    }
    if let Some(since_ms) = freshness.complete_since_ms {
        out.extend_from_slice(b"\r\nX-Streamgauge-Complete-Since: ");
        out.extend_from_slice(write_time(since_ms).as_bytes());
    }
    if let Some(since_ms) = freshness.gap_since_ms {
        out.extend_from_slice(b"\r\nX-Streamgauge-Gap-Since: ");
        out.extend_from_slice(write_time(since_ms).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn write_retry(out: &mut Vec<u8>, error: &ApiError) {
    if error.code.status() == 503 && error.code.retry() {
        out.extend_from_slice(b"Retry-After: 1\r\n");
    }
}

fn status_line(status: u16) -> &'static [u8] {
    match status {
        200 => b"HTTP/1.1 200 OK\r\n",
        204 => b"HTTP/1.1 204 No Content\r\n",
        400 => b"HTTP/1.1 400 Bad Request\r\n",
        403 => b"HTTP/1.1 403 Forbidden\r\n",
        404 => b"HTTP/1.1 404 Not Found\r\n",
        405 => b"HTTP/1.1 405 Method Not Allowed\r\n",
        408 => b"HTTP/1.1 408 Request Timeout\r\n",
        409 => b"HTTP/1.1 409 Conflict\r\n",
        410 => b"HTTP/1.1 410 Gone\r\n",
        413 => b"HTTP/1.1 413 Content Too Large\r\n",
        415 => b"HTTP/1.1 415 Unsupported Media Type\r\n",
        431 => b"HTTP/1.1 431 Request Header Fields Too Large\r\n",
        501 => b"HTTP/1.1 501 Not Implemented\r\n",
        503 => b"HTTP/1.1 503 Service Unavailable\r\n",
        507 => b"HTTP/1.1 507 Insufficient Storage\r\n",
        _ => b"HTTP/1.1 500 Internal Server Error\r\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_status_line() {
        for code in Code::ALL {
            let line = String::from_utf8_lossy(status_line(code.status()));
            assert!(line.starts_with(&format!("HTTP/1.1 {} ", code.status())), "{code}: {line}");
        }
    }
}
