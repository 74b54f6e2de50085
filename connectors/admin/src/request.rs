//! The layer around every request: its id, what its query may hold, OPTIONS, the headers of every answer (with CORS), the
//! count of it, and the body of refusals.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{MatchedPath, Query, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use streamgauge_api::metrics::{Metrics, RouteSeries};
use streamgauge_api::{ApiError, Code, Cors, cors, unknown_member};

use crate::problem::{self, Problem};
use crate::routes::ROUTES;

/// What the layer keeps between requests.
pub(crate) struct Requests {
    routes: BTreeMap<&'static str, RouteSeries>,
    unknown: RouteSeries,
    cors: Cors,
    /// Start of this process in ms: ids of two runs differ.
    run: u128,
    next: AtomicU64,
}

impl Requests {
    pub(crate) fn new(metrics: &Metrics, cors: Cors) -> Self {
        Self {
            routes: ROUTES.iter().map(|route| (route.path, metrics.route_series(route.path))).collect(),
            unknown: metrics.route_series("unknown"),
            cors,
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
    let origin = request.headers().get(header::ORIGIN).and_then(|origin| origin.to_str().ok()).unwrap_or("").to_owned();
    let id = requests.id();
    let allow = matched.as_deref().map(allowed_methods);
    let refused = foreign_origin(&request, &requests.cors).or_else(|| unknown_parameter(&request, matched.as_deref()));
    let mut response = match (refused, &allow) {
        (_, Some(allow)) if request.method() == Method::OPTIONS => options(allow),
        (Some(refused), _) => refused.into_response(),
        (None, _) => next.run(request).await,
    };
    if response.extensions().get::<Problem>().is_none()
        && let Some(problem) = problem::of_status(response.status(), &method, &path)
    {
        response.extensions_mut().insert(problem);
    }
    problem::finish(&mut response, &path, &id);
    if response.status() == StatusCode::METHOD_NOT_ALLOWED
        && let Some(allow) = allow.and_then(|allow| HeaderValue::from_str(&allow).ok())
    {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    share(&mut response, &requests.cors, &origin, method == "OPTIONS");
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

/// The `Allow` header of a route. axum answers HEAD wherever there is a GET.
fn allowed_methods(route: &str) -> String {
    let methods = ROUTES.iter().filter(|spec| spec.path == route).map(|spec| match spec.method {
        "get" => "GET, HEAD",
        "post" => "POST",
        other => unreachable!("no route has the method {other}"),
    });
    methods.chain(std::iter::once("OPTIONS")).collect::<Vec<_>>().join(", ")
}

fn options(allow: &str) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().extend(HeaderValue::from_str(allow).ok().map(|allow| (header::ALLOW, allow)));
    response
}

/// A parameter that a route does not take, or that stands twice. What is ignored is a filter that is not there.
fn unknown_parameter(request: &Request, matched: Option<&str>) -> Option<Problem> {
    let route = ROUTES.iter().find(|route| Some(route.path) == matched)?;
    let known: Vec<&str> = route.parameters.iter().filter(|parameter| parameter.place == "query").map(|parameter| parameter.name).collect();
    let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(request.uri()) else {
        return Some(Problem(ApiError::new(Code::InvalidRequest, "the query is not percent-encoded UTF-8")));
    };
    for (index, (name, _)) in pairs.iter().enumerate() {
        if !known.contains(&name.as_str()) {
            return Some(Problem(unknown_member("query parameter", name, route.path, &known)));
        }
        if pairs.iter().take(index).any(|(given, _)| given == name) {
            return Some(Problem(ApiError::new(Code::InvalidRequest, format!("query parameter {name} stands twice")).at(name.as_str())));
        }
    }
    None
}

/// Says which page may read the answer, when the config names origins at all.
fn share(response: &mut Response, cors: &Cors, origin: &str, preflight: bool) {
    let allow = response.headers().get(header::ALLOW).cloned();
    let headers = response.headers_mut();
    if cors.is_off() {
        return;
    }
    if !cors.allows_all() {
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    }
    let Some(origin) = cors.allowed(cors.number_of(origin)).and_then(|origin| HeaderValue::from_str(origin).ok()) else { return };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(cors::EXPOSED_HEADERS));
    if let Some(allow) = allow.filter(|_| preflight) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, allow);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(cors::REQUEST_HEADERS));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(cors::MAX_AGE_SECONDS));
    }
}

/// The refusal of a request that a page of another site made a browser send.
fn foreign_origin(request: &Request, cors: &Cors) -> Option<Problem> {
    // A page of any site may open a socket and read from it; of other answers a browser shows it nothing.
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if reads && !request.headers().contains_key(header::UPGRADE) {
        return None;
    }
    let origin = request.headers().get(header::ORIGIN)?.to_str().unwrap_or("");
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    cors.refusal(origin, host).map(Problem)
}
