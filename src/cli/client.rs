//! One connection to a running server: bounded in time and size, errors as stable codes.

use std::io::Read as _;
use std::time::Duration;

use serde_json::Value as Json;
use streamgauge_api::{ApiError, Code};

const CONNECT_LIMIT: Duration = Duration::from_secs(3);
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// A page of rejects is the largest answer: about 35 MB.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A server at one address.
pub(super) struct Client {
    agent: ureq::Agent,
    base: String,
    /// The flag that names the address, for hints.
    flag: &'static str,
}

/// An answer of the server: any status, a JSON body.
pub(super) struct Answer {
    /// HTTP status.
    pub(super) status: u16,
    headers: ureq::http::HeaderMap,
    /// The body; null when it was empty.
    pub(super) body: Json,
}

impl Answer {
    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body of a 2xx.
    ///
    /// # Errors
    /// What the server refused with.
    pub(super) fn ok(self) -> Result<Self, ApiError> {
        if (200..300).contains(&self.status) { Ok(self) } else { Err(refusal(self.status, &self.body)) }
    }
}

impl Client {
    /// A client of `address`, a URL or HOST:PORT; `flag` is how the user gave it.
    pub(super) fn new(address: &str, flag: &'static str) -> Self {
        Self::within(address, flag, Some(REQUEST_LIMIT))
    }

    /// With this limit of an answer's end, and the usual one of its beginning.
    fn within(address: &str, flag: &'static str, whole: Option<Duration>) -> Self {
        let base = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_LIMIT))
            .timeout_recv_response(Some(REQUEST_LIMIT))
            .timeout_global(whole)
            // The server is a sidecar: a proxy for the outside world has no business here.
            .proxy(None)
            .user_agent(concat!("streamgauge/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.new_agent(), base: base.trim_end_matches('/').to_owned(), flag }
    }

    /// The same for answers that end when either side wants.
    pub(super) fn following(address: &str, flag: &'static str) -> Self {
        Self::within(address, flag, None)
    }

    /// One GET whose answer is read as it comes.
    ///
    /// # Errors
    /// `server_unreachable` when no answer begins, and what the server refuses with.
    pub(super) fn stream(&self, target: &str) -> Result<impl std::io::Read + use<>, ApiError> {
        let response = self.agent.get(format!("{}{target}", self.base)).call().map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response.into_body().into_reader());
        }
        let status = response.status().as_u16();
        let mut text = String::new();
        response
            .into_body()
            .into_with_config()
            .limit(ANSWER_BYTES_MAX)
            .reader()
            .read_to_string(&mut text)
            .map_err(|error| self.unreachable(&error))?;
        Err(refusal(status, &serde_json::from_str(&text).unwrap_or(Json::Null)))
    }

    fn unreachable(&self, error: &dyn std::fmt::Display) -> ApiError {
        ApiError::new(Code::ServerUnreachable, format!("no server answers at {}: {error}", self.base))
            .hint(format!("start it with `streamgauge run`, or give {} URL", self.flag))
    }

    /// One GET; `target` is path and query.
    ///
    /// # Errors
    /// `server_unreachable` when no answer comes, `internal_error` when it is not JSON.
    pub(super) fn get(&self, target: &str) -> Result<Answer, ApiError> {
        self.answer(target, |url| self.agent.get(url).call())
    }

    /// One POST without a body.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(super) fn post(&self, target: &str) -> Result<Answer, ApiError> {
        self.answer(target, |url| self.agent.post(url).header("Content-Type", "application/json").send_empty())
    }

    fn answer(
        &self,
        target: &str,
        send: impl FnOnce(String) -> Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Answer, ApiError> {
        let response = send(format!("{}{target}", self.base)).map_err(|error| self.unreachable(&error))?;
        let (parts, body) = response.into_parts();
        let mut bytes = Vec::new();
        body.into_with_config().limit(ANSWER_BYTES_MAX).reader().read_to_end(&mut bytes).map_err(|error| self.unreachable(&error))?;
        let body = if bytes.is_empty() {
            Json::Null
        } else {
            serde_json::from_slice(&bytes).map_err(|_| {
                ApiError::new(
                    Code::InternalError,
                    format!("{}{target} answered {} with something that is not JSON", self.base, parts.status.as_u16()),
                )
                .hint(format!("is {} the right port?", self.flag))
            })?
        };
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }
}

/// The server's refusal, from problem+json (`code`, `detail`) or from the error envelope (`error.code`, `error.reason`).
fn refusal(status: u16, body: &Json) -> ApiError {
    let object = body.get("error").unwrap_or(body);
    let text = |names: &[&str]| names.iter().find_map(|name| object.get(name)?.as_str());
    let name = text(&["code"]).unwrap_or("");
    let code = Code::parse(name);
    let reason = text(&["detail", "reason", "message"]).map_or_else(|| format!("the server answered {status} {name}"), str::to_owned);
    let mut error = ApiError::new(code.unwrap_or(Code::InternalError), reason);
    if let Some(hint) = text(&["hint"]) {
        error = error.hint(hint);
    }
    if let Some(path) = text(&["path"]) {
        error = error.at(path);
    }
    error
}

/// Percent-encodes everything but unreserved characters, so that any key is one path segment.
pub(super) fn encoded(segment: &str) -> String {
    segment.bytes().fold(String::with_capacity(segment.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_error_shapes_become_one() {
        let problem =
            json!({"type": "/errors/unknown_table", "code": "unknown_table", "detail": "no table 'x'", "hint": "did you mean 'y'?"});
        let envelope = json!({"error": {"code": "unknown_table", "reason": "no table 'x'", "hint": "did you mean 'y'?", "retry": false}});
        for body in [problem, envelope] {
            let error = refusal(404, &body);
            assert_eq!(
                (error.code, error.reason.as_str(), error.hint.as_deref()),
                (Code::UnknownTable, "no table 'x'", Some("did you mean 'y'?"))
            );
        }
        let unknown = refusal(418, &json!({"code": "from_the_future"}));
        assert_eq!((unknown.code, unknown.reason.as_str()), (Code::InternalError, "the server answered 418 from_the_future"));
        assert_eq!(refusal(502, &Json::Null).code, Code::InternalError);
    }

    #[test]
    fn any_key_is_one_segment() {
        for (key, segment) in [("4711", "4711"), ("a/b c", "a%2Fb%20c"), ("ä", "%C3%A4"), ("..%", "..%25"), ("?#", "%3F%23")] {
            assert_eq!(encoded(key), segment);
        }
    }

    #[test]
    fn nobody_answering_is_a_typed_error() {
        // Port 1 of loopback: nothing listens there, and nothing of ours ever will.
        let error = Client::new("127.0.0.1:1", "--admin").get("/status").err();
        assert_eq!(error.map(|error| error.code), Some(Code::ServerUnreachable));
    }
}
