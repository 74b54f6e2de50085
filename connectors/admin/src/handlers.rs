//! One function per route: parameters in, one call into the engine, JSON out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Value, json};
use streamgauge_api::control::{Action, KeysPage, Readiness, Reject, Retried, RetryRequest};
use streamgauge_api::decision::{Decision, Place};
use streamgauge_api::{ApiError, Code};

use crate::calls::{Calls, Kind};
use crate::index;
use crate::openapi::document;
use crate::problem::Problem;

/// Media type of the Prometheus text format.
pub(crate) const METRICS_TYPE: &str = "text/plain; version=0.0.4";

const KEYS_PER_PAGE: usize = 100;
const KEYS_PER_PAGE_MAX: usize = 1000;
const REJECTS_PER_PAGE: usize = 50;
/// A reject shows up to 128 KiB of bytes in base64: 200 of them are about 35 MB.
const REJECTS_PER_PAGE_MAX: usize = 200;
const FRAMES_PER_PAGE: usize = 100;
const FRAMES_PER_PAGE_MAX: usize = 1000;
/// Longest wait for a frame of the log, milliseconds: below what proxies and clients wait for an answer.
const FRAME_WAIT_MAX_MS: u64 = 10_000;
/// Rejects of one frame: as many as a frame may have rows.
const REJECTS_PER_FRAME_MAX: usize = 65_536;
const BODY_BYTES_MAX: usize = 64 * 1024;
const BODY_LIMIT: Duration = Duration::from_secs(10);

/// What handlers share.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) calls: Calls,
    pub(crate) version: Arc<str>,
    /// Places for sockets of subscriptions: a connection that became one is none of the server's any more.
    pub(crate) sockets: Arc<tokio::sync::Semaphore>,
}

pub(crate) type Answer = Result<Response, Problem>;
pub(crate) type Parameters = Result<Query<BTreeMap<String, String>>, QueryRejection>;

pub(crate) async fn index(State(admin): State<Admin>) -> Response {
    let policy = (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'");
    ([policy], Html(index::page(&admin.version))).into_response()
}

pub(crate) async fn openapi(State(admin): State<Admin>) -> Json<Value> {
    Json(document(&admin.version))
}

/// Liveness. A call that does not return in time counts as a stalled engine: this route must answer when nothing else does.
pub(crate) async fn health(State(admin): State<Admin>) -> Response {
    match admin.calls.run(Kind::Probe, |control| control.alive()).await {
        Ok(true) => Json(json!({"status": "ok"})).into_response(),
        Ok(false) => stalled("the apply thread did not step and was not idle for 30 s"),
        Err(error) => stalled(&error.reason),
    }
}

fn stalled(detail: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "stalled", "detail": detail}))).into_response()
}

pub(crate) async fn ready(State(admin): State<Admin>, parameters: Parameters) -> Answer {
    let verbose = flag_of(&parameters_of(parameters)?, "verbose")?;
    let readiness = admin.calls.run(Kind::Probe, |control| control.readiness()).await?;
    if readiness.ready && !verbose {
        return Ok(Json(readiness.body(false)).into_response());
    }
    Ok(readiness_answer(&readiness, readiness.ready))
}

pub(crate) async fn started(State(admin): State<Admin>) -> Answer {
    let readiness = admin.calls.run(Kind::Probe, |control| control.readiness()).await?;
    let started = !matches!(readiness.phase.as_str(), "starting" | "recovering" | "failed");
    Ok(readiness_answer(&readiness, started))
}

fn readiness_answer(readiness: &Readiness, positive: bool) -> Response {
    let mut body = readiness.body(true);
    if positive {
        return Json(body).into_response();
    }
    let code = code_of_reason(readiness.reasons.first().map_or(readiness.phase.as_str(), String::as_str));
    body["code"] = code.as_str().into();
    body["hint"] = code.advice().into();
    let pause = readiness.eta_s.unwrap_or(1.0).clamp(1.0, 60.0).ceil();
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, pause.to_string())], Json(body)).into_response()
}

/// The stable code of a reason: reasons are finer words of the same things.
fn code_of_reason(reason: &str) -> Code {
    match reason {
        "wal_poisoned" => Code::WalUnavailable,
        "disk_full" => Code::StorageFull,
        "draining" => Code::Draining,
        "stale" => Code::Stale,
        "source_stopped" => Code::SourceStopped,
        "memory_limit" => Code::TableMemoryExceeded,
        other => Code::parse(other).unwrap_or(Code::Recovering),
    }
}

pub(crate) async fn metrics(State(admin): State<Admin>) -> Answer {
    let text = admin.calls.run(Kind::Query, |control| control.metrics()).await?;
    Ok(([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response())
}

pub(crate) async fn registry(State(admin): State<Admin>) -> Answer {
    Ok(Json(admin.calls.run(Kind::Query, |control| control.registry()).await?).into_response())
}

pub(crate) async fn status(State(admin): State<Admin>) -> Answer {
    Ok(Json(admin.calls.run(Kind::Query, |control| control.status()).await?).into_response())
}

pub(crate) async fn limits(State(admin): State<Admin>) -> Answer {
    Ok(Json(admin.calls.run(Kind::Query, |control| control.limits()).await?).into_response())
}

pub(crate) async fn sources(State(admin): State<Admin>) -> Answer {
    let (notes, partitions) = admin.calls.run(Kind::Query, |control| (control.source_notes(), control.sources())).await?;
    Ok(Json(json!({"sources": notes, "partitions": partitions})).into_response())
}

pub(crate) async fn keys(State(admin): State<Admin>, table: Result<Path<String>, PathRejection>, parameters: Parameters) -> Answer {
    let Path(table) = table.map_err(|rejection| ApiError::new(Code::InvalidRequest, rejection.body_text()))?;
    let parameters = parameters_of(parameters)?;
    let limit = limit_of(&parameters, KEYS_PER_PAGE, KEYS_PER_PAGE_MAX)?;
    let after = parameters.get("after").cloned();
    let page: KeysPage = admin.calls.run(Kind::Query, move |control| control.keys(&table, after.as_deref(), limit)).await??;
    Ok(Json(page).into_response())
}

pub(crate) async fn rejects(State(admin): State<Admin>, parameters: Parameters) -> Answer {
    let parameters = parameters_of(parameters)?;
    let limit = limit_of(&parameters, REJECTS_PER_PAGE, REJECTS_PER_PAGE_MAX)?;
    let cursor = parameters.get("after").map_or(Ok(Cursor::default()), |text| Cursor::parse(text))?;
    let ask = move |control: &dyn streamgauge_api::Control| {
        (cursor.page(limit, |after, limit| control.rejects(after, limit)), control.rejects_gone())
    };
    let ((rejects, next), gone) = admin.calls.run(Kind::Query, ask).await?;
    Ok(Json(json!({"rejects": rejects, "next": next, "gone": gone})).into_response())
}

pub(crate) async fn retry_rejects(State(admin): State<Admin>, parameters: Parameters, body: Body) -> Answer {
    refuse_body(body, "which rejects are query parameters: ?code=decode_type_mismatch&dry_run=1").await?;
    let parameters = parameters_of(parameters)?;
    let lsn = parameters.get("lsn").map(|text| text.parse());
    let lsn = lsn.transpose().map_err(|_| ApiError::new(Code::InvalidRequest, "lsn is no LSN").at("lsn"))?;
    let word = |name: &str| parameters.get(name).cloned();
    let request =
        RetryRequest { code: word("code"), source: word("source"), event: word("event"), lsn, dry_run: flag_of(&parameters, "dry_run")? };
    let dry_run = request.dry_run;
    let retried = admin.calls.run(Kind::Long, move |control| control.retry_rejects(&request)).await??;
    let Retried { chosen, rows, nothing, stays } = retried;
    Ok(Json(json!({"dry_run": dry_run, "chosen": chosen, "rows": rows, "nothing": nothing, "stays": stays})).into_response())
}

pub(crate) async fn log(State(admin): State<Admin>, parameters: Parameters) -> Answer {
    let parameters = parameters_of(parameters)?;
    let limit = limit_of(&parameters, FRAMES_PER_PAGE, FRAMES_PER_PAGE_MAX)?;
    let from_lsn = number_of(&parameters, "from", 1, u64::MAX)?;
    let wait = Duration::from_millis(number_of(&parameters, "wait_ms", 0, FRAME_WAIT_MAX_MS)?.unwrap_or(0));
    let page = admin.calls.run(Kind::Follow, move |control| control.log(from_lsn, limit, wait)).await??;
    Ok(Json(page).into_response())
}

pub(crate) async fn eventstore(State(admin): State<Admin>) -> Answer {
    Ok(Json(admin.calls.run(Kind::Query, |control| control.eventstore()).await??).into_response())
}

pub(crate) async fn archive_now(State(admin): State<Admin>, body: Body) -> Answer {
    refuse_body(body, "it takes nothing").await?;
    Ok(Json(admin.calls.run(Kind::Long, |control| control.act(Action::Archive)).await??).into_response())
}

pub(crate) async fn fingerprint(State(admin): State<Admin>) -> Answer {
    let (lsn, fingerprint) = admin.calls.run(Kind::Long, |control| control.fingerprint()).await??;
    Ok(Json(json!({"lsn": lsn, "fingerprint": fingerprint})).into_response())
}

pub(crate) async fn take_snapshot(State(admin): State<Admin>, body: Body) -> Answer {
    refuse_body(body, "it takes nothing").await?;
    Ok(Json(admin.calls.run(Kind::Long, |control| control.act(Action::Snapshot)).await??).into_response())
}

pub(crate) async fn incidents(State(admin): State<Admin>) -> Answer {
    Ok(Json(admin.calls.run(Kind::Query, |control| control.incidents()).await?).into_response())
}

pub(crate) async fn decide(
    State(admin): State<Admin>,
    path: Result<Path<(String, String)>, PathRejection>,
    parameters: Parameters,
    body: Body,
) -> Answer {
    refuse_body(body, "dry_run and at are query parameters: ?dry_run=1&at=latest").await?;
    let Path((id, decision)) = path.map_err(|rejection| ApiError::new(Code::InvalidRequest, rejection.body_text()))?;
    let parameters = parameters_of(parameters)?;
    // A misspelt dry_run never comes here: the layer refuses parameters that the route does not take.
    let dry_run = flag_of(&parameters, "dry_run")?;
    let place = Place::parse(&id)?;
    let decision = Decision::parse(&decision, parameters.get("at").map(String::as_str))?;
    let effects = admin.calls.run(Kind::Long, move |control| control.decide(place, decision, dry_run)).await??;
    Ok(Json(json!({"dry_run": dry_run, "decision": decision.as_str(), "partitions": effects})).into_response())
}

pub(crate) async fn backfills(State(admin): State<Admin>) -> Answer {
    let open = admin.calls.run(Kind::Query, |control| control.backfills()).await?;
    Ok(Json(json!({ "backfills": open })).into_response())
}

pub(crate) async fn backfill(State(admin): State<Admin>, path: Result<Path<String>, PathRejection>) -> Answer {
    let Path(id) = path.map_err(|rejection| ApiError::new(Code::InvalidRequest, rejection.body_text()))?;
    let id = backfill_id(&id)?;
    let open = admin.calls.run(Kind::Query, |control| control.backfills()).await?;
    let found = open.as_array().into_iter().flatten().find(|fill| fill["id"] == id).cloned();
    let found = found.ok_or_else(|| ApiError::new(Code::BackfillNotFound, format!("no backfill {id} is open")))?;
    Ok(Json(found).into_response())
}

pub(crate) async fn act_on_backfill(State(admin): State<Admin>, path: Result<Path<(String, String)>, PathRejection>, body: Body) -> Answer {
    refuse_body(body, "it takes nothing").await?;
    let Path((id, action)) = path.map_err(|rejection| ApiError::new(Code::InvalidRequest, rejection.body_text()))?;
    let id = backfill_id(&id)?;
    let action = match action.as_str() {
        "pause" => Action::PauseBackfill(id),
        "resume" => Action::ResumeBackfill(id),
        "cancel" => Action::CancelBackfill(id),
        other => return Err(ApiError::new(Code::InvalidRequest, format!("{other:?} is none of pause, resume and cancel")).into()),
    };
    Ok(Json(admin.calls.run(Kind::Long, move |control| control.act(action)).await??).into_response())
}

fn backfill_id(text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|_no_number| ApiError::new(Code::InvalidRequest, format!("{text:?} is no number of a backfill")))
}

pub(crate) async fn accept_clock(State(admin): State<Admin>, body: Body) -> Answer {
    refuse_body(body, "it takes nothing").await?;
    Ok(Json(admin.calls.run(Kind::Long, |control| control.act(Action::AcceptClock)).await??).into_response())
}

/// The route takes no body: what is sent is read within bounds, so that the connection stays usable. One that says something
/// is refused before anything is done, because who sent it meant something by it; `{}` says nothing.
async fn refuse_body(body: Body, hint: &str) -> Result<(), ApiError> {
    match tokio::time::timeout(BODY_LIMIT, axum::body::to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) if matches!(bytes.trim_ascii(), b"" | b"{}") => Ok(()),
        Ok(Ok(_)) => Err(ApiError::new(Code::InvalidRequest, "this route takes no body, and nothing was done").hint(hint)),
        Ok(Err(_)) => Err(ApiError::new(Code::PayloadTooLarge, format!("the body is larger than {BODY_BYTES_MAX} bytes, or ended early"))
            .hint("send no body")),
        Err(_) => Err(ApiError::new(Code::RequestTimeout, format!("the body did not arrive within {} s", BODY_LIMIT.as_secs()))),
    }
}

pub(crate) fn parameters_of(parameters: Parameters) -> Result<BTreeMap<String, String>, ApiError> {
    parameters.map(|Query(parameters)| parameters).map_err(|rejection| ApiError::new(Code::InvalidRequest, rejection.body_text()))
}

/// A parameter that is on or off; off when it is not given, on when it has no value.
fn flag_of(parameters: &BTreeMap<String, String>, name: &str) -> Result<bool, ApiError> {
    match parameters.get(name).map(String::as_str) {
        None | Some("0" | "false") => Ok(false),
        Some("" | "1" | "true") => Ok(true),
        Some(other) => {
            let reason = format!("query parameter {name}={other} is not valid: 1, true, 0 or false is wanted");
            Err(ApiError::new(Code::InvalidRequest, reason).at(name))
        }
    }
}

fn number_of(parameters: &BTreeMap<String, String>, name: &str, least: u64, most: u64) -> Result<Option<u64>, ApiError> {
    let Some(text) = parameters.get(name) else { return Ok(None) };
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
        _ => Err(ApiError::new(Code::InvalidRequest, format!("{name}={text:?} is not a number from {least} to {most}")).at(name)),
    }
}

fn limit_of(parameters: &BTreeMap<String, String>, default: usize, max: usize) -> Result<usize, ApiError> {
    let Some(text) = parameters.get("limit") else { return Ok(default) };
    match text.parse() {
        Ok(limit) if (1..=max).contains(&limit) => Ok(limit),
        _ => Err(ApiError::new(Code::InvalidRequest, format!("limit={text:?} is not a number from 1 to {max}")).at("limit")),
    }
}

/// Where a page of rejects starts. The engine pages by LSN, but one frame may hold more rejects than a page: `LSN.N` says that the first N of that frame
/// were shown; a plain LSN says that all of it were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cursor {
    lsn: u64,
    /// `None`: everything up to and with `lsn` was shown.
    shown: Option<usize>,
}

impl Cursor {
    fn parse(text: &str) -> Result<Self, ApiError> {
        let (lsn, shown) = match text.split_once('.') {
            Some((lsn, shown)) => (lsn, Some(shown.parse().ok().filter(|shown| *shown <= REJECTS_PER_FRAME_MAX))),
            None => (text, None),
        };
        match (lsn.parse(), shown) {
            (Ok(lsn), None) => Ok(Self { lsn, shown: None }),
            (Ok(lsn), Some(Some(shown))) => Ok(Self { lsn, shown: Some(shown) }),
            _ => Err(ApiError::new(Code::InvalidRequest, format!("after={text:?} is neither an LSN nor the `next` of a page")).at("after")),
        }
    }

    /// One page and where the next one starts; `None` at the end.
    fn page(self, limit: usize, rejects: impl FnOnce(u64, usize) -> Vec<Reject>) -> (Vec<Reject>, Option<String>) {
        let shown = self.shown.unwrap_or(0);
        let after = if self.shown.is_some() { self.lsn.saturating_sub(1) } else { self.lsn };
        // One more than a page tells whether there is a next one.
        let mut page = rejects(after, shown + limit + 1);
        let seen = page.iter().take(shown).take_while(|reject| reject.lsn == self.lsn).count();
        page.drain(..seen);
        let more = page.len() > limit;
        page.truncate(limit);
        let next = page.last().filter(|_| more).map(|last| {
            let of_last = page.iter().filter(|reject| reject.lsn == last.lsn).count();
            format!("{}.{}", last.lsn, if last.lsn == self.lsn { seen + of_last } else { of_last })
        });
        (page, next)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn reject(lsn: u64, offset: i64) -> Reject {
        Reject {
            lsn,
            at_us: 0,
            event: "Payment".into(),
            source: "payments".into(),
            topic: "payments".into(),
            partition: 0,
            offset,
            code: "decode_malformed".into(),
            reason: String::new(),
            schema_id: None,
            timestamp_ms: -1,
            key: None,
            value: None,
            value_len: 0,
        }
    }

    #[test]
    fn pages_of_rejects_show_each_once_whatever_their_size() {
        let lsns = [3, 3, 3, 3, 3, 7, 9, 9, 12];
        let log: Vec<Reject> = lsns.iter().zip(0..).map(|(lsn, offset)| reject(*lsn, offset)).collect();
        for limit in 1..=lsns.len() + 1 {
            let (mut seen, mut cursor) = (Vec::new(), Some(Cursor::default()));
            while let Some(at) = cursor {
                let (page, next) =
                    at.page(limit, |after, limit| log.iter().filter(|reject| reject.lsn > after).take(limit).cloned().collect());
                assert!(page.len() <= limit);
                seen.extend(page.iter().map(|reject| reject.offset));
                cursor = next.map(|text| Cursor::parse(&text).unwrap());
            }
            assert_eq!(seen, (0..9).collect::<Vec<i64>>(), "limit {limit}");
        }
    }

    #[test]
    fn cursors_that_no_page_gave_out_are_refused() {
        for text in ["", "x", "-1", "1.", ".1", "1.-1", "1.1.1", "1.65537", "18446744073709551616"] {
            assert_eq!(Cursor::parse(text).map_err(|error| error.code), Err(Code::InvalidRequest), "{text}");
        }
        assert_eq!(Cursor::parse("918220").unwrap(), Cursor { lsn: 918_220, shown: None });
    }

    #[test]
    fn every_reason_of_not_being_ready_has_a_503_code() {
        for (reason, code) in [
            ("recovering", Code::Recovering),
            ("catching_up", Code::Recovering),
            ("draining", Code::Draining),
            ("wal_poisoned", Code::WalUnavailable),
            ("disk_full", Code::StorageFull),
            ("stale", Code::Stale),
            ("source_stopped", Code::SourceStopped),
        ] {
            assert_eq!(code_of_reason(reason), code);
        }
    }
}
