//! Targets: method and path to what is asked. Segments are percent-decoded after splitting, so a key may contain any character, also `/`.

use std::borrow::Cow;
use streamgauge_api::{ApiError, Code};

/// What is asked.
#[derive(Debug, PartialEq)]
pub(crate) enum Route<'a> {
    Push { event: Option<Cow<'a, str>>, sync: bool },
    PushBatch { event: Option<Cow<'a, str>>, sync: bool },
    Get,
    GetFeature { name: String, key: Vec<String> },
    BatchGet,
    Table { table: String, parts: Vec<String>, query: Vec<(String, String)> },
    Register,
    Ping,
    Health,
    Ready,
    Reset,
}

/// Why a target leads nowhere.
#[derive(Debug, PartialEq)]
pub(crate) enum Stray {
    /// No such path.
    NotFound,
    /// The path exists; the text is the `Allow` header.
    Method(&'static str),
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
            Stray::Encoding => ApiError::new(Code::InvalidRequest, "the target is not percent-encoded UTF-8").at(path),
        }
    }
}

/// Finds the route.
pub(crate) fn route<'a>(method: &str, path: &'a str, query: &str) -> Result<Route<'a>, Stray> {
    let trimmed = path.trim_end_matches('/').strip_prefix('/').unwrap_or_default();
    let (first, rest) = trimmed.split_once('/').map_or((trimmed, None), |(first, rest)| (first, Some(rest)));
    let (allow, found) = match (first, rest) {
        ("push", None) => ("POST", Route::Push { event: None, sync: false }),
        ("push", Some(event)) => ("POST", Route::Push { event: Some(one_segment(event)?), sync: false }),
        ("push-sync", None) => ("POST", Route::Push { event: None, sync: true }),
        ("push-sync", Some(event)) => ("POST", Route::Push { event: Some(one_segment(event)?), sync: true }),
        ("push-batch", event) => {
            ("POST", Route::PushBatch { event: event.map(one_segment).transpose()?, sync: is_set(&pairs(query)?, "sync") })
        }
        ("get", None) => ("POST", Route::Get),
        ("get", Some(rest)) => {
            let (name, key) = rest.split_once('/').ok_or(Stray::NotFound)?;
            ("GET", Route::GetFeature { name: decode(name)?.into_owned(), key: segments(key)? })
        }
        ("batch_get", None) => ("POST", Route::BatchGet),
        ("tables", Some(rest)) => {
            let (table, parts) = rest.split_once('/').map_or((rest, None), |(table, parts)| (table, Some(parts)));
            let parts = parts.map(segments).transpose()?.unwrap_or_default();
            ("GET", Route::Table { table: decode(table)?.into_owned(), parts, query: pairs(query)? })
        }
        ("register", None) => ("POST", Route::Register),
        ("ping", None) => ("POST, GET", Route::Ping),
        ("health", None) => ("GET", Route::Health),
        ("ready", None) => ("GET", Route::Ready),
        ("reset", None) => ("POST", Route::Reset),
        // HEAD and OPTIONS are refused everywhere alike.
        _ if matches!(method, "HEAD" | "OPTIONS") => return Err(Stray::Method("GET, POST")),
        _ => return Err(Stray::NotFound),
    };
    if allow.split(", ").any(|allowed| allowed == method) { Ok(found) } else { Err(Stray::Method(allow)) }
}

fn one_segment(text: &str) -> Result<Cow<'_, str>, Stray> {
    if text.contains('/') { Err(Stray::NotFound) } else { decode(text) }
}

fn segments(text: &str) -> Result<Vec<String>, Stray> {
    text.split('/').map(|segment| decode(segment).map(Cow::into_owned)).collect()
}

/// Query parameters, decoded, in order; `+` is a space.
fn pairs(query: &str) -> Result<Vec<(String, String)>, Stray> {
    let decoded = |text: &str| decode(&text.replace('+', " ")).map(Cow::into_owned);
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(name, value)| Ok((decoded(name)?, decoded(value)?))).collect()
}

fn is_set(pairs: &[(String, String)], name: &str) -> bool {
    pairs.iter().any(|(found, value)| found == name && matches!(value.as_str(), "1" | "true"))
}

fn decode(text: &str) -> Result<Cow<'_, str>, Stray> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => break,
            [b'%', high, low, after @ ..] => {
                let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(Stray::Encoding);
                bytes.push((digit(*high)? << 4 | digit(*low)?) as u8);
                after
            }
            [b'%', ..] => return Err(Stray::Encoding),
            [byte, after @ ..] => {
                bytes.push(*byte);
                after
            }
        };
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| Stray::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn targets_lead_to_their_routes() {
        let event = |name: &'static str| Some(Cow::Borrowed(name));
        let table = |parts: &[&str]| Route::Table {
            table: "T".into(),
            parts: parts.iter().map(|part| (*part).to_owned()).collect(),
            query: vec![],
        };
        for (method, target, expected) in [
            ("POST", "/push", Ok(Route::Push { event: None, sync: false })),
            ("POST", "/push//", Ok(Route::Push { event: None, sync: false })),
            ("POST", "/push/Tx", Ok(Route::Push { event: event("Tx"), sync: false })),
            ("POST", "/push-sync/T%78", Ok(Route::Push { event: event("Tx"), sync: true })),
            ("POST", "/push-batch?sync=1", Ok(Route::PushBatch { event: None, sync: true })),
            ("GET", "/get/f/a%2Fb", Ok(Route::GetFeature { name: "f".into(), key: vec!["a/b".into()] })),
            ("GET", "/tables/T", Ok(table(&[]))),
            ("GET", "/tables/T/a%7Cb/c", Ok(table(&["a|b", "c"]))),
            ("GET", "/tables/T/%C3%A4", Ok(table(&["\u{e4}"]))),
            ("GET", "/tables/T//b", Ok(table(&["", "b"]))),
            ("GET", "/tables/T/%zz", Err(Stray::Encoding)),
            ("GET", "/tables/T/%ff", Err(Stray::Encoding)),
            ("GET", "/tables/T/%4", Err(Stray::Encoding)),
            ("GET", "/ping", Ok(Route::Ping)),
            ("POST", "/ping", Ok(Route::Ping)),
            ("GET", "/push", Err(Stray::Method("POST"))),
            ("PUT", "/tables/T/k", Err(Stray::Method("GET"))),
            ("DELETE", "/ping", Err(Stray::Method("POST, GET"))),
            ("HEAD", "/health", Err(Stray::Method("GET"))),
            ("OPTIONS", "*", Err(Stray::Method("GET, POST"))),
            ("GET", "/registry", Err(Stray::NotFound)),
            ("GET", "/", Err(Stray::NotFound)),
            ("GET", "/tables", Err(Stray::NotFound)),
            ("POST", "/push/a/b", Err(Stray::NotFound)),
            ("GET", "/get/f", Err(Stray::NotFound)),
        ] {
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            assert_eq!(route(method, path, query), expected, "{method} {target}");
        }
    }

    #[test]
    fn query_parameters_are_decoded() {
        let read = route("GET", "/tables/T", "features=a%2Cb,c&x&as_of=1+2&=");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let query = vec![pair("features", "a,b,c"), pair("x", ""), pair("as_of", "1 2"), pair("", "")];
        assert_eq!(read, Ok(Route::Table { table: "T".into(), parts: vec![], query }));
    }

    proptest! {
        #[test]
        fn any_target_is_survived(path in "[/%a-z0-9é]{0,40}", query in "[&=+%a-f0-9]{0,40}") {
            let _any_answer = route("GET", &path, &query).is_ok();
        }
    }
}
