//! Refusals as `application/problem+json` (RFC 9457).
//!
//! Handlers return [`Problem`], which travels as a response extension; the request layer, which alone knows the path and the request id, writes the body.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value as Json};
use streamgauge_api::{ApiError, Code};

/// A refusal on its way out.
#[derive(Debug, Clone)]
pub(crate) struct Problem(pub(crate) ApiError);

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the body of a response that carries a [`Problem`]; leaves any other one alone.
pub(crate) fn finish(response: &mut Response, path: &str, request_id: &str) {
    let Some(Problem(error)) = response.extensions_mut().remove::<Problem>() else { return };
    if error.code.retry() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    *response.body_mut() = Body::from(document(&error, path, request_id).to_string());
}

fn document(error: &ApiError, path: &str, request_id: &str) -> Json {
    let mut members = error.more.clone();
    let mut set = |name: &str, value: Json| members.insert(name.to_owned(), value);
    set("type", format!("/errors/{}", error.code).into());
    set("title", capitalised(error.code.title()).into());
    set("status", error.code.status().into());
    set("code", error.code.as_str().into());
    set("detail", error.reason.clone().into());
    set("hint", error.hint.as_deref().unwrap_or(error.code.advice()).into());
    set("retry", if error.code.retry() { "yes" } else { "no" }.into());
    set("instance", path.into());
    set("request_id", request_id.into());
    if !error.path.is_empty() {
        set("path", error.path.clone().into());
    }
    Json::Object(members)
}

/// A problem for what the router itself answers with: no such route, wrong method.
pub(crate) fn of_status(status: StatusCode, method: &str, path: &str) -> Option<Problem> {
    let code = match status {
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
        _ => return None,
    };
    let mut more = Map::new();
    more.insert("method".into(), method.into());
    let reason = match code {
        Code::NotFound => format!("the admin port has no route {path}"),
        _ => format!("{path} does not answer to {method}"),
    };
    Some(Problem(ApiError { more, ..ApiError::new(code, reason).hint("GET / lists all routes") }))
}

fn capitalised(title: &str) -> String {
    let mut letters = title.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_every_member_and_keeps_the_errors_own() {
        let error = ApiError::new(Code::FeatureNotFound, "table 'card_stats' has no feature 'sum_24'")
            .hint("did you mean 'sum_24h'?")
            .with("table", "card_stats".into())
            .with("status", "shadowed by the problem's own".into());
        let expected = serde_json::json!({
            "type": "/errors/feature_not_found", "title": "The table has no such feature", "status": 404, "code": "feature_not_found",
            "detail": "table 'card_stats' has no feature 'sum_24'", "hint": "did you mean 'sum_24h'?", "retry": "no",
            "instance": "/tables/card_stats/keys", "request_id": "r1", "table": "card_stats",
        });
        assert_eq!(document(&error, "/tables/card_stats/keys", "r1"), expected);
    }
}
