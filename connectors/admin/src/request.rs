//! The layer around every request: its id, the headers of every answer, the count of it, and the body of refusals.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use streamgauge_api::metrics::{Metrics, RouteSeries};
use streamgauge_api::{ApiError, Code};

use crate::problem::{self, Problem};
use crate::routes::ROUTES;

/// What the layer keeps between requests.
pub(crate) struct Requests {
    routes: BTreeMap<&'static str, RouteSeries>,
    unknown: RouteSeries,
    /// Start of this process in ms: ids of two runs differ.
    run: u128,
    next: AtomicU64,
}

impl Requests {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            routes: ROUTES.iter().map(|route| (route.path, metrics.route_series(route.path))).collect(),
            unknown: metrics.route_series("unknown"),
            run: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis()),
            next: AtomicU64::new(1),
        }
    }

    fn id(&self) -> String {
        format!("{:012x}{:08x}", self.run, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// Runs the request and finishes its answer.
pub(crate) async fn around(State(requests): State<Arc<Requests>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let method = request.method().as_str().to_owned();
    let matched = request.extensions().get::<MatchedPath>().map(|matched| matched.as_str().to_owned());
    let id = requests.id();
    let mut response = match foreign_origin(&request) {
        Some(refused) => refused.into_response(),
        None => next.run(request).await,
    };
    if response.extensions().get::<Problem>().is_none()
        && let Some(problem) = problem::of_status(response.status(), &method, &path)
    {
        response.extensions_mut().insert(problem);
    }
    problem::finish(&mut response, &path, &id);
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("x-runtime"), HeaderValue::from_static("tokio"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    let series = matched.and_then(|matched| requests.routes.get(matched.as_str())).unwrap_or(&requests.unknown);
    series.status(response.status().as_u16()).inc();
    response
}

/// A page of another site may make a browser send a POST to a loopback port; only our own pages may act.
fn foreign_origin(request: &Request) -> Option<Problem> {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return None;
    }
    let origin = request.headers().get(header::ORIGIN)?.to_str().unwrap_or("");
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let ours = origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host));
    (!ours).then(|| {
        Problem(
            ApiError::new(Code::Forbidden, format!("a page of {origin:?} may not act on this server")).hint("use curl or the command line"),
        )
    })
}
