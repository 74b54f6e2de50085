//! Targets: method and path to what is asked, and which query parameters that takes. Segments are percent-decoded after splitting, so a key may contain any character, also `/`.

use crate::form::read;
use std::borrow::Cow;
use streamgauge_api::{ApiError, Code};

/// What is asked.
#[derive(Debug, PartialEq)]
pub(crate) enum Route<'a> {
    Push { event: Option<Cow<'a, str>>, sync: bool },
    PushBatch { event: Option<Cow<'a, str>> },
    Get,
    GetFeature { name: String, key: Vec<String> },
    BatchGet,
    Member,
    Table { table: String, parts: Vec<String> },
    Register,
    Ping,
    Health,
    Ready,
    Reset,
}

impl Route<'_> {
    /// What it is called in messages, and the query parameters that it takes.
    pub(crate) fn parameters(&self) -> (&'static str, &'static [&'static str]) {
        match self {
            Route::Push { .. } => ("/push", &[]),
            Route::PushBatch { .. } => ("/push-batch", &["sync"]),
            Route::Get => ("/get", &[]),
            Route::GetFeature { .. } => ("/get/{feature}/{key}", &[]),
            Route::BatchGet => ("/batch_get", &[]),
            Route::Member => ("/member", &[]),
            Route::Table { .. } => ("/tables/{table}/{key}", read::KEYED_GET),
            Route::Register => ("/register", &[]),
            Route::Ping => ("/ping", &[]),
            Route::Health => ("/health", &[]),
            Route::Ready => ("/ready", &[]),
            Route::Reset => ("/reset", &[]),
        }
    }
}

/// Why a target leads nowhere.
#[derive(Debug, PartialEq)]
pub(crate) enum Stray {
    /// No such path.
    NotFound,
    /// The path exists; the text is the `Allow` header.
    Method(&'static str),
    /// `OPTIONS` of a path that exists: no error. The text is the `Allow` header.
    Options(&'static str),
    /// A segment or query is not percent-encoded UTF-8.
    Encoding,
}

impl Stray {
    /// The error for this request.
    pub(crate) fn error(&self, method: &str, path: &str) -> ApiError {
        match self {
            Stray::NotFound => ApiError::new(Code::NotFound, format!("no route {path}")).at(path),
            Stray::Method(allow) => {
                ApiError::new(Code::MethodNotAllowed, format!("{path} takes {allow}, not {method}")).at(path).with("method", method.into())
            }
            Stray::Options(_) => unreachable!("OPTIONS is answered"),
            Stray::Encoding => ApiError::new(Code::InvalidRequest, "the target is not percent-encoded UTF-8").at(path),
        }
    }
}

const GET: &str = "GET, HEAD, OPTIONS";
const POST: &str = "POST, OPTIONS";

/// Finds the route. HEAD is a GET whose answer is written without its body.
pub(crate) fn route<'a>(method: &str, path: &'a str) -> Result<Route<'a>, Stray> {
    let trimmed = path.trim_end_matches('/').strip_prefix('/').unwrap_or_default();
    let (first, rest) = trimmed.split_once('/').map_or((trimmed, None), |(first, rest)| (first, Some(rest)));
    if method == "OPTIONS" && path == "*" {
        return Err(Stray::Options("GET, HEAD, POST, OPTIONS"));
    }
    let (allow, found) = match (first, rest) {
        ("push", None) => (POST, Route::Push { event: None, sync: false }),
        ("push", Some(event)) => (POST, Route::Push { event: Some(one_segment(event)?), sync: false }),
        ("push-sync", None) => (POST, Route::Push { event: None, sync: true }),
        ("push-sync", Some(event)) => (POST, Route::Push { event: Some(one_segment(event)?), sync: true }),
        ("push-batch", event) => (POST, Route::PushBatch { event: event.map(one_segment).transpose()? }),
        ("get", None) => (POST, Route::Get),
        ("get", Some(rest)) => {
            let (name, key) = rest.split_once('/').ok_or(Stray::NotFound)?;
            (GET, Route::GetFeature { name: decode(name)?.into_owned(), key: segments(key)? })
        }
        ("batch_get", None) => (POST, Route::BatchGet),
        ("member", None) => (POST, Route::Member),
        ("tables", Some(rest)) => {
            let (table, parts) = rest.split_once('/').map_or((rest, None), |(table, parts)| (table, Some(parts)));
            let parts = parts.map(segments).transpose()?.unwrap_or_default();
            (GET, Route::Table { table: decode(table)?.into_owned(), parts })
        }
        ("register", None) => (POST, Route::Register),
        ("ping", None) => ("POST, GET, HEAD, OPTIONS", Route::Ping),
        ("health", None) => (GET, Route::Health),
        ("ready", None) => (GET, Route::Ready),
        ("reset", None) => (POST, Route::Reset),
        _ => return Err(Stray::NotFound),
    };
    match method {
        "OPTIONS" => Err(Stray::Options(allow)),
        method if allow.split(", ").any(|allowed| allowed == method) => Ok(found),
        _ => Err(Stray::Method(allow)),
    }
}

fn one_segment(text: &str) -> Result<Cow<'_, str>, Stray> {
    if text.contains('/') { Err(Stray::NotFound) } else { decode(text) }
}

fn segments(text: &str) -> Result<Vec<String>, Stray> {
    text.split('/').map(|segment| decode(segment).map(Cow::into_owned)).collect()
}

fn decode(text: &str) -> Result<Cow<'_, str>, Stray> {
    percent_decoded(text).ok_or(Stray::Encoding)
}

/// The text with `%XX` decoded; none when that is not UTF-8.
pub(crate) fn percent_decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => break,
            [b'%', high, low, after @ ..] => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                bytes.push((digit(*high)? << 4 | digit(*low)?) as u8);
                after
            }
            [b'%', ..] => return None,
            [byte, after @ ..] => {
                bytes.push(*byte);
                after
            }
        };
    }
    String::from_utf8(bytes).map(Cow::Owned).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn targets_lead_to_their_routes() {
        let event = |name: &'static str| Some(Cow::Borrowed(name));
        let table = |parts: &[&str]| Route::Table { table: "T".into(), parts: parts.iter().map(|part| (*part).to_owned()).collect() };
        for (method, target, expected) in [
            ("POST", "/push", Ok(Route::Push { event: None, sync: false })),
            ("POST", "/push//", Ok(Route::Push { event: None, sync: false })),
            ("POST", "/push/Tx", Ok(Route::Push { event: event("Tx"), sync: false })),
            ("POST", "/push-sync/T%78", Ok(Route::Push { event: event("Tx"), sync: true })),
            ("POST", "/push-batch", Ok(Route::PushBatch { event: None })),
            ("GET", "/get/f/a%2Fb", Ok(Route::GetFeature { name: "f".into(), key: vec!["a/b".into()] })),
            ("GET", "/tables/T", Ok(table(&[]))),
            ("GET", "/tables/T/a%7Cb/c", Ok(table(&["a|b", "c"]))),
            ("GET", "/tables/T/%C3%A4", Ok(table(&["\u{e4}"]))),
            ("GET", "/tables/T//b", Ok(table(&["", "b"]))),
            ("GET", "/tables/T/%zz", Err(Stray::Encoding)),
            ("GET", "/tables/T/%ff", Err(Stray::Encoding)),
            ("GET", "/tables/T/%4", Err(Stray::Encoding)),
            ("POST", "/member/", Ok(Route::Member)),
            ("GET", "/member", Err(Stray::Method(POST))),
            ("GET", "/ping", Ok(Route::Ping)),
            ("POST", "/ping", Ok(Route::Ping)),
            ("GET", "/push", Err(Stray::Method(POST))),
            ("HEAD", "/push", Err(Stray::Method(POST))),
            ("PUT", "/tables/T/k", Err(Stray::Method(GET))),
            ("DELETE", "/ping", Err(Stray::Method("POST, GET, HEAD, OPTIONS"))),
            ("HEAD", "/health", Ok(Route::Health)),
            ("HEAD", "/tables/T", Ok(table(&[]))),
            ("OPTIONS", "/tables/T/k", Err(Stray::Options(GET))),
            ("OPTIONS", "/push", Err(Stray::Options(POST))),
            ("OPTIONS", "*", Err(Stray::Options("GET, HEAD, POST, OPTIONS"))),
            ("OPTIONS", "/nowhere", Err(Stray::NotFound)),
            ("GET", "/registry", Err(Stray::NotFound)),
            ("GET", "/", Err(Stray::NotFound)),
            ("GET", "/tables", Err(Stray::NotFound)),
            ("POST", "/push/a/b", Err(Stray::NotFound)),
            ("GET", "/get/f", Err(Stray::NotFound)),
        ] {
            assert_eq!(route(method, target), expected, "{method} {target}");
        }
    }

    proptest! {
        #[test]
        fn any_target_is_survived(path in "[/%a-z0-9é]{0,40}") {
            let _any_answer = route("GET", &path).is_ok();
        }
    }
}
