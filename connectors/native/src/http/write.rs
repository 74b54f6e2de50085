//! HTTP replies as bytes: status line, headers, body.
//!
//! ```text
//! HTTP/1.1 200 OK
//! Content-Type: application/json
//! X-Runtime: mio
//! Connection: keep-alive            (close on the last reply)
//! X-Streamgauge-As-Of / -Lag-Ms / -Lsn / -Incident     on reads
//! Retry-After: 1                    on 503 that may pass
//! Content-Length: N
//! ```

use crate::config::RESPONSE_BYTES_MAX;
use crate::form::time::write_time;
use crate::reply::{Body, write_body, write_error, write_number};
use crate::shape::Shape;
use streamgauge_api::port::{Freshness, Reply};
use streamgauge_api::{ApiError, Code};

/// Appends the engine's reply and returns its status. `scratch` is a buffer to build the body in.
pub(crate) fn reply(out: &mut Vec<u8>, scratch: &mut Vec<u8>, shape: Shape, reply: &Reply) -> u16 {
    scratch.clear();
    match write_body(scratch, shape, reply, RESPONSE_BYTES_MAX) {
        Body::Whole { freshness, .. } => {
            write_head(out, 200, shape.close);
            if let Some(freshness) = freshness {
                write_freshness(out, freshness);
            }
            write_rest(out, scratch);
            200
        }
        Body::Error { error, registry_version, freshness } => {
            write_error(scratch, &error, registry_version);
            write_head(out, error.code.status(), shape.close);
            if let Some(freshness) = freshness {
                write_freshness(out, freshness);
            }
            write_retry(out, &error);
            write_rest(out, scratch);
            error.code.status()
        }
    }
}

/// Appends an answer that needs no engine.
pub(crate) fn json(out: &mut Vec<u8>, status: u16, body: &[u8], close: bool) {
    write_head(out, status, close);
    write_rest(out, body);
}

/// Appends an error.
pub(crate) fn error(out: &mut Vec<u8>, error: &ApiError, close: bool, registry_version: Option<u64>) {
    let mut body = Vec::new();
    // The older protocol says version 0 here, whatever the registry holds.
    let registry_version = if error.code == Code::UnsupportedMediaType { Some(0) } else { registry_version };
    write_error(&mut body, error, registry_version);
    write_head(out, error.code.status(), close);
    write_retry(out, error);
    write_rest(out, &body);
}

/// Appends the error of a target that leads nowhere; without its body when the method is HEAD.
pub(crate) fn stray(out: &mut Vec<u8>, error: &ApiError, allow: Option<&str>, close: bool, bodiless: bool) {
    let mut body = Vec::new();
    write_error(&mut body, error, None);
    write_head(out, error.code.status(), close);
    if let Some(allow) = allow {
        out.extend_from_slice(b"Allow: ");
        out.extend_from_slice(allow.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    write_rest(out, &body);
    if bodiless {
        out.truncate(out.len() - body.len());
    }
}

/// Appends the answer to `Expect: 100-continue`.
pub(crate) fn go_on(out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
}

fn write_head(out: &mut Vec<u8>, status: u16, close: bool) {
    if status == 200 && !close {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Runtime: mio\r\nConnection: keep-alive\r\n");
        return;
    }
    out.extend_from_slice(status_line(status));
    out.extend_from_slice(b"Content-Type: application/json\r\nX-Runtime: mio\r\nConnection: ");
    out.extend_from_slice(if close { b"close\r\n" } else { b"keep-alive\r\n" });
}

fn write_rest(out: &mut Vec<u8>, body: &[u8]) {
    write_number(out, b"Content-Length: ", body.len() as u64);
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
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
        400 => b"HTTP/1.1 400 Bad Request\r\n",
        403 => b"HTTP/1.1 403 Forbidden\r\n",
        404 => b"HTTP/1.1 404 Not Found\r\n",
        405 => b"HTTP/1.1 405 Method Not Allowed\r\n",
        408 => b"HTTP/1.1 408 Request Timeout\r\n",
        409 => b"HTTP/1.1 409 Conflict\r\n",
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
