//! What each route does with a complete request: one call to the engine, or an answer of its own.

use super::coding;
use super::head::Head;
use super::query::Query;
use super::route::{Route, Stray, route};
use super::write;
use crate::desk::Desk;
use crate::form::envelope::{self, RowMember};
use crate::form::json::{is_too_deep, skip_space};
use crate::form::push::{self, Batch};
use crate::form::read;
use crate::shape::{HttpReply, Kind, Shape};
use crate::tally::Template;
use std::borrow::Cow;
use streamgauge_api::port::{Encoding, KeyText, PushRow, Request, Wait};
use streamgauge_api::{ApiError, Code};

/// Answers one request, now or through the engine.
pub(crate) fn request(head: &Head<'_>, body: &[u8], desk: &mut Desk<'_>) {
    let config = &desk.shared.config;
    let http = HttpReply { close: head.close, bodiless: head.method == "HEAD", origin: config.cors.number_of(head.origin) };
    match route(head.method, head.path) {
        Ok(found) => {
            let kind = kind_of(&found);
            if let Err(error) = act(found, head, body, http, desk) {
                let registry_version = kind.shows_registry_version().then(|| match (kind, error.code) {
                    // The older protocol says version 0 here, whatever the registry holds.
                    (Kind::Register, Code::UnsupportedMediaType) => 0,
                    _ => desk.shared.registry_version.get(),
                });
                desk.shared.tally.borrow().answered(Template::of(kind), error.code.status());
                desk.answer(|out| write::error(out, &error, http, &config.cors, registry_version));
            }
        }
        Err(Stray::Options(allow)) => {
            desk.shared.tally.borrow().answered(Template::Unknown, 204);
            desk.answer(|out| write::options(out, allow, http, &config.cors));
        }
        Err(stray) => {
            let error = stray.error(head.method, head.path);
            let allow = if let Stray::Method(allow) = stray { Some(allow) } else { None };
            desk.shared.tally.borrow().answered(Template::Unknown, error.code.status());
            desk.answer(|out| write::stray(out, &error, allow, http, &config.cors));
        }
    }
}

fn kind_of(route: &Route<'_>) -> Kind {
    match route {
        Route::Push { .. } => Kind::Push,
        Route::PushBatch { .. } => Kind::PushBatch,
        Route::Get => Kind::Get,
        Route::GetFeature { .. } => Kind::Feature,
        Route::Table { .. } => Kind::KeyedGet,
        Route::BatchGet => Kind::Batch,
        Route::Member => Kind::Member,
        Route::Register => Kind::Register,
        Route::Ping | Route::Health | Route::Ready => Kind::Ping,
        Route::Reset => Kind::Reset,
    }
}

fn act(route: Route<'_>, head: &Head<'_>, body: &[u8], http: HttpReply, desk: &mut Desk<'_>) -> Result<(), ApiError> {
    let kind = kind_of(&route);
    if matches!(kind, Kind::Push | Kind::PushBatch | Kind::Register | Kind::Reset)
        && let Some(refused) = desk.shared.config.cors.refusal(head.origin, head.host)
    {
        return Err(refused);
    }
    let shape = Shape::http(kind, http);
    let (place, parameters) = route.parameters();
    let query = Query::parse(head.query, place, parameters)?;
    let plain;
    let body = match body {
        [] => body,
        body => {
            plain = coding::decoded(head.coding, body, desk.shared.config.body_max)?;
            &*plain
        }
    };
    match route {
        Route::Push { event, sync } => push_one(event, body, sync, shape, desk)?,
        Route::PushBatch { event } => push_batch(event, head.media_type, body, query.flag("sync")?, shape, desk)?,
        Route::Get => desk.call(shape, read::get(body, Encoding::Json, false)?),
        Route::GetFeature { name, key } => desk.call(shape, Request::GetFeature { name, key: key_of(key) }),
        Route::Table { table, parts } => desk.call(shape, read::keyed_get(table, parts, &query)?),
        Route::BatchGet => desk.call(shape, read::batch_get(body, Encoding::Json)?),
        Route::Member => desk.call(shape, read::member(body, Encoding::Json)?),
        Route::Register => desk.call(shape, Request::Register(register_text(head, body)?)),
        Route::Ping => desk.call(shape, Request::Ping),
        Route::Health => {
            desk.shared.tally.borrow().answered(Template::Health, 200);
            let shared = desk.shared;
            desk.answer(|out| write::json(out, 200, b"{\"status\":\"ok\"}", http, &shared.config.cors));
        }
        Route::Ready => {
            let shared = desk.shared;
            let (ready, body) = (shared.readiness)();
            let status = if ready { 200 } else { 503 };
            shared.tally.borrow().answered(Template::Ready, status);
            desk.answer(|out| write::json(out, status, body.as_bytes(), http, &shared.config.cors));
        }
        Route::Reset if !desk.shared.config.test_mode => return Err(reset_disabled()),
        Route::Reset => desk.call(shape, Request::Reset),
    }
    Ok(())
}

/// `reset` outside of test mode.
pub(crate) fn reset_disabled() -> ApiError {
    ApiError::new(Code::ResetDisabledInProduction, "this server does not run in test mode")
}

fn wait(sync: bool) -> Wait {
    if sync { Wait::Synced } else { Wait::Default }
}

fn push_one(event: Option<Cow<'_, str>>, body: &[u8], sync: bool, shape: Shape, desk: &mut Desk<'_>) -> Result<(), ApiError> {
    let named;
    let row = match &event {
        Some(event) => {
            if is_too_deep(body) {
                return Err(envelope::row_too_deep());
            }
            PushRow { event, body }
        }
        None => {
            named = envelope::cut(body, RowMember::Data)?;
            PushRow { event: &named.event, body: named.row }
        }
    };
    let tag = desk.tag(shape);
    desk.port.push(tag, Encoding::Json, row, wait(sync));
    Ok(())
}

fn push_batch(
    event: Option<Cow<'_, str>>,
    media_type: &str,
    body: &[u8],
    sync: bool,
    shape: Shape,
    desk: &mut Desk<'_>,
) -> Result<(), ApiError> {
    let is = |name: &str| media_type.eq_ignore_ascii_case(name);
    let first = body.get(skip_space(body, 0)).copied();
    let (encoding, batch) = match event.as_deref() {
        _ if is("application/x-ndjson") => (Encoding::Json, push::ndjson(body, event.as_deref())?),
        Some(event) if is("application/msgpack") => (Encoding::MsgPack, push::msgpack_rows(body, event)?),
        None if is("application/msgpack") => (Encoding::MsgPack, push::batch_object(body, Encoding::MsgPack, RowMember::Data)?),
        Some(event) if first == Some(b'[') => (Encoding::Json, push::json_rows(body, event)?),
        // One row is a push, as clients of the older protocol expect.
        Some(_) => return push_one(event, body, sync, Shape { kind: Kind::Push, ..shape }, desk),
        None => (Encoding::Json, push::batch_object(body, Encoding::Json, RowMember::Data)?),
    };
    put_batch(&batch, encoding, sync, shape, desk);
    Ok(())
}

/// Hands a batch to the engine.
pub(crate) fn put_batch(batch: &Batch<'_>, encoding: Encoding, sync: bool, shape: Shape, desk: &mut Desk<'_>) {
    let tag = desk.tag(shape);
    desk.port.push_batch(tag, encoding, &batch.push_rows(), wait(sync || batch.sync));
}

/// One segment is a key as text, which may itself be several parts joined; several segments are one part each.
fn key_of(mut segments: Vec<String>) -> KeyText {
    match segments.len() {
        1 => KeyText::Text(segments.remove(0)),
        _ => KeyText::Segments(segments),
    }
}

fn register_text(head: &Head<'_>, body: &[u8]) -> Result<String, ApiError> {
    if !head.media_type.eq_ignore_ascii_case("application/json") {
        // Clients of 0.0.6 look for the words "expected `application/json`".
        let reason = format!("expected `application/json` as Content-Type of /register, found \"{}\"", head.media_type);
        return Err(ApiError::new(Code::UnsupportedMediaType, reason).at(head.path));
    }
    register_payload(body)
}

/// Register JSON as text, within the nesting bound.
pub(crate) fn register_payload(body: &[u8]) -> Result<String, ApiError> {
    let invalid = |reason: &str| ApiError::new(Code::InvalidRegistration, reason).at("<body>");
    if is_too_deep(body) {
        return Err(invalid("the payload is nested too deep"));
    }
    String::from_utf8(body.to_vec()).map_err(|_| invalid("the payload is not UTF-8"))
}
