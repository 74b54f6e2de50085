//! The request head: found without reading a byte twice, parsed by httparse, then judged by the rules that httparse leaves open.
//!
//! Refused, each with a reason, never repaired:
//! - a bare LF or CR, a folded header, an empty line before the request, any control byte
//! - a target with bytes outside of printable ASCII; a version other than 1.0 and 1.1; HTTP/0.9
//! - no Host or two, an absolute target that names another host
//! - `Content-Length` twice, or with sign, space, list, leading zero; together with `Transfer-Encoding`
//! - `Transfer-Encoding` other than `chunked` once, or in HTTP/1.0; `Expect` other than `100-continue`
//! - `Content-Encoding` or `Origin` twice
//! - more than 64 headers, or more than 8 KiB

use super::{broken, head_too_large};
use crate::config::{HEAD_BYTES_MAX, HEADERS_MAX};
use memchr::memchr2;
use std::mem::MaybeUninit;
use streamgauge_api::{ApiError, Code};

const LINE_END: &str = "a line does not end with CR LF";

/// Looks for the end of a head, resuming where the last look ended.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    seen: usize,
    lines: usize,
    line_start: usize,
}

impl Scan {
    /// Length of the head with its empty line, when it is complete.
    pub(crate) fn end_of_head(&mut self, bytes: &[u8]) -> Result<Option<usize>, ApiError> {
        let within = bytes.get(..HEAD_BYTES_MAX).unwrap_or(bytes);
        while let Some(skipped) = memchr2(b'\r', b'\n', within.get(self.seen..).unwrap_or_default()) {
            let at = self.seen + skipped;
            let Some(after) = within.get(at + 1) else {
                // The byte after a CR decides; a LF here stands alone.
                self.seen = at;
                if within.get(at) == Some(&b'\n') {
                    return Err(broken(LINE_END));
                }
                break;
            };
            if within.get(at) != Some(&b'\r') || *after != b'\n' {
                return Err(broken(LINE_END));
            }
            let line = within.get(self.line_start..at).unwrap_or_default();
            self.seen = at + 2;
            match (self.lines, line.is_empty()) {
                (0, true) => return Err(broken("an empty line stands before the request line")),
                (0, false) if !is_request_line(line) => return Err(broken("the first line is not METHOD SP TARGET SP HTTP/1.1")),
                (_, true) => return Ok(Some(self.seen)),
                _ => {}
            }
            self.lines += 1;
            self.line_start = self.seen;
        }
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(head_too_large());
        }
        Ok(None)
    }
}

/// Three parts with one space between them, the last one a version; stops HTTP/0.9 at its first line.
fn is_request_line(line: &[u8]) -> bool {
    let mut parts = line.split(|byte| *byte == b' ');
    let (method, target, version) = (parts.next(), parts.next(), parts.next());
    parts.next().is_none()
        && method.is_some_and(|method| !method.is_empty())
        && target.is_some_and(|target| !target.is_empty() && target.iter().all(u8::is_ascii_graphic))
        && version.is_some_and(|version| version == b"HTTP/1.1" || version == b"HTTP/1.0")
}

/// How a body comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// So many bytes; none without `Content-Length`.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// A head that passed every rule.
#[derive(Debug, PartialEq)]
pub(crate) struct Head<'a> {
    pub(crate) method: &'a str,
    /// Path with its leading slash, percent-encoded as it came.
    pub(crate) path: &'a str,
    /// What follows `?`.
    pub(crate) query: &'a str,
    pub(crate) body: Body,
    /// Media type without parameters, as written; empty when there is none.
    pub(crate) media_type: &'a str,
    /// `Content-Encoding` as written; empty when there is none.
    pub(crate) coding: &'a str,
    /// The site of the page that a browser asks for; empty when there is none.
    pub(crate) origin: &'a str,
    /// `Host` as written; empty when there is none.
    pub(crate) host: &'a str,
    /// The connection ends after this request.
    pub(crate) close: bool,
    pub(crate) expects_continue: bool,
}

impl<'a> Head<'a> {
    /// Parses a complete head.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, ApiError> {
        // Left unwritten: clearing 64 headers would cost more than parsing the usual four.
        let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(bytes, &mut headers) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            Ok(_) => return Err(broken("the head does not end where its empty line is")),
            Err(httparse::Error::TooManyHeaders) => return Err(head_too_large()),
            Err(error) => return Err(broken(error.to_string())),
        }
        let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
            return Err(broken("the request line is incomplete"));
        };
        let mut rules = Rules::default();
        for header in request.headers.iter() {
            rules.see(header.name, header.value)?;
        }
        rules.judge(method, target, version)
    }
}

/// What the headers said.
#[derive(Default)]
struct Rules<'a> {
    host: Option<&'a str>,
    length: Option<u64>,
    chunked: bool,
    media_type: &'a str,
    coding: Option<&'a str>,
    origin: Option<&'a str>,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl<'a> Rules<'a> {
    fn see(&mut self, name: &str, value: &'a [u8]) -> Result<(), ApiError> {
        // Only these headers mean something here; httparse has refused control bytes in all of them.
        let text = || std::str::from_utf8(value).map_err(|_| broken(format!("header {name} is not text")));
        if name.eq_ignore_ascii_case("host") {
            let host = text()?;
            if self.host.replace(host).is_some() {
                return Err(broken("two Host headers"));
            }
            if host.bytes().any(|byte| !byte.is_ascii_graphic() || matches!(byte, b',' | b'/' | b'@' | b'?' | b'#')) {
                return Err(broken("the Host header is not a host"));
            }
        } else if name.eq_ignore_ascii_case("content-length") {
            if self.length.replace(parse_length(value)?).is_some() {
                return Err(broken("two Content-Length headers"));
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(broken("Transfer-Encoding is not chunked, once"));
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case("content-type") {
            self.media_type = text()?.split(';').next().unwrap_or_default().trim();
        } else if name.eq_ignore_ascii_case("content-encoding") {
            if self.coding.replace(text()?.trim()).is_some() {
                return Err(broken("two Content-Encoding headers"));
            }
        } else if name.eq_ignore_ascii_case("origin") {
            if self.origin.replace(text()?.trim()).is_some() {
                return Err(broken("two Origin headers"));
            }
        } else if name.eq_ignore_ascii_case("connection") {
            for option in text()?.split(',').map(str::trim) {
                self.close |= option.eq_ignore_ascii_case("close");
                self.keep_alive |= option.eq_ignore_ascii_case("keep-alive");
            }
        } else if name.eq_ignore_ascii_case("expect") {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(broken("Expect is not 100-continue"));
            }
            self.expects_continue = true;
        }
        Ok(())
    }

    fn judge(self, method: &'a str, target: &'a str, version: u8) -> Result<Head<'a>, ApiError> {
        let modern = version == 1;
        if modern && self.host.is_none() {
            return Err(broken("no Host header"));
        }
        if self.chunked && (self.length.is_some() || !modern) {
            return Err(broken("Transfer-Encoding together with Content-Length, or in HTTP/1.0"));
        }
        let target = origin_form(target, self.host, method)?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Ok(Head {
            method,
            path,
            query,
            body: if self.chunked { Body::Chunked } else { Body::Length(self.length.unwrap_or(0)) },
            media_type: self.media_type,
            coding: self.coding.unwrap_or_default(),
            origin: self.origin.unwrap_or_default(),
            host: self.host.unwrap_or_default(),
            close: self.close || !modern && !self.keep_alive,
            expects_continue: self.expects_continue && modern,
        })
    }
}

/// The path and query of a target: itself, or what follows the host that an absolute target repeats.
fn origin_form<'a>(target: &'a str, host: Option<&str>, method: &str) -> Result<&'a str, ApiError> {
    if target.starts_with('/') || target == "*" && method == "OPTIONS" {
        return Ok(target);
    }
    let scheme = "http://";
    let (Some(start), Some(rest)) = (target.get(..scheme.len()), target.get(scheme.len()..)) else {
        return Err(broken("the target is not a path"));
    };
    if !start.eq_ignore_ascii_case(scheme) {
        return Err(broken("the target is not a path"));
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (named, path) = rest.split_at(end);
    if named.is_empty() || host.is_some_and(|host| !host.eq_ignore_ascii_case(named)) {
        return Err(broken("the target names another host than the Host header"));
    }
    match path {
        "" => Ok("/"),
        path if path.starts_with('/') => Ok(path),
        _ => Err(broken("the target has a query but no path")),
    }
}

/// Digits only, no leading zero. A number beyond 64 bits is larger than every bound.
fn parse_length(value: &[u8]) -> Result<u64, ApiError> {
    let text = std::str::from_utf8(value).unwrap_or_default();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || text.len() > 1 && text.starts_with('0') {
        return Err(broken("Content-Length is not a plain decimal number"));
    }
    text.parse().map_err(|_| ApiError::new(Code::PayloadTooLarge, "Content-Length is beyond 64 bits"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str) -> Result<Head<'_>, Code> {
        let end = Scan::default().end_of_head(text.as_bytes()).map_err(|error| error.code)?.expect("a complete head");
        Head::parse(&text.as_bytes()[..end]).map_err(|error| error.code)
    }

    /// The shapes behind request smuggling and their kin: each is refused.
    #[test]
    fn smuggling_shapes_are_refused() {
        let broken = Code::HttpProtocolError;
        for (text, code) in [
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", broken),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", broken),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", broken),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n", broken),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\n", broken),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 03\r\n\r\n", broken),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n", broken),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3 3\r\n\r\n", broken),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\n", broken),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", broken),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", Code::PayloadTooLarge),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", broken),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", broken),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", broken),
            ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", broken),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", broken),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\n", broken),
            ("GET / HTTP/1.1\nHost: a\n\n", broken),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", broken),
            ("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", broken),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n folded\r\n\r\n", broken),
            ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", broken),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", broken),
            ("GET / HTTP/1.1\r\nHost: a\r\nX\x01: b\r\n\r\n", broken),
            ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", broken),
            ("GET / HTTP/1.1\r\nHost: a\r\nnocolon\r\n\r\n", broken),
            ("GET /\r\n\r\n", broken),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", broken),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", broken),
            ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", broken),
            ("GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", broken),
            ("GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n", broken),
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", broken),
            ("GET / HTTP/1.1\r\n\r\n", broken),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", broken),
            ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", broken),
            ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", broken),
            ("GET http://b@a/ HTTP/1.1\r\nHost: a\r\n\r\n", broken),
            ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", broken),
            ("GET path HTTP/1.1\r\nHost: a\r\n\r\n", broken),
            ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", broken),
            ("POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", broken),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Encoding: gzip\r\n\r\n", broken),
            ("GET / HTTP/1.1\r\nHost: a\r\nOrigin: a\r\nOrigin: b\r\n\r\n", broken),
        ] {
            assert_eq!(check(text).map(|_| ()), Err(code), "{text:?}");
        }
    }

    #[test]
    fn sound_heads_are_read() {
        let head = check("POST /a/b%2Fc?d=e HTTP/1.1\r\nhOST: a:1\r\nContent-Type: Application/JSON; charset=utf-8\r\nExpect: 100-Continue\r\nContent-encoding: gzip \r\nOrigin: https://a.example\r\ncontent-length: 12\r\n\r\n").unwrap();
        let expected = Head {
            method: "POST",
            path: "/a/b%2Fc",
            query: "d=e",
            body: Body::Length(12),
            media_type: "Application/JSON",
            coding: "gzip",
            origin: "https://a.example",
            host: "a:1",
            close: false,
            expects_continue: true,
        };
        assert_eq!(head, expected);
        for (text, close) in [
            ("GET http://A/x HTTP/1.1\r\nHost: a\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n", true),
            ("GET / HTTP/1.0\r\n\r\n", true),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", false),
        ] {
            assert_eq!(check(text).map(|head| head.close), Ok(close), "{text:?}");
        }
    }

    #[test]
    fn heads_have_bounds() {
        let headers = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count));
        assert!(check(&headers(63)).is_ok());
        assert_eq!(check(&headers(64)).map(|_| ()), Err(Code::HeadersTooLarge));
        let long = |length: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(length));
        let around = HEAD_BYTES_MAX - long(0).len();
        assert!(check(&long(around)).is_ok());
        assert_eq!(check(&long(around + 1)).map(|_| ()), Err(Code::HeadersTooLarge));
    }

    proptest! {
        /// Any bytes, cut anywhere: never a panic, and the same answer as in one piece.
        #[test]
        fn the_scan_resumes_where_it_stopped(bytes in prop::collection::vec(prop::sample::select(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n:".to_vec()), 0..120), cut in 0usize..120) {
            let cut = cut.min(bytes.len());
            let whole = Scan::default().end_of_head(&bytes).map_err(|error| error.code);
            let mut scan = Scan::default();
            let pieces = match scan.end_of_head(&bytes[..cut]) {
                Ok(None) => scan.end_of_head(&bytes),
                answered => answered,
            };
            prop_assert_eq!(pieces.map_err(|error| error.code), whole);
            if let Ok(Some(end)) = whole {
                let _any_answer = Head::parse(&bytes[..end]).is_ok();
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _any_answer = (Scan::default().end_of_head(&bytes).is_ok(), Head::parse(&bytes).is_ok());
        }
    }
}
