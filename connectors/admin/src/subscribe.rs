//! `GET /subscribe/{events}`: server-sent events (WHATWG HTML, 9.2), one message per transaction.
//!
//! A subscription is asked for like any call, and refused like any; then it has a thread of its own, which waits for the
//! log and hands messages over, [`QUEUED_MAX`] at most ahead of the client. A client that takes nothing is cut by the
//! connection's write limit; until then its thread waits for it, and its reader of the log with it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use hyper::body::{Bytes, Frame};
use serde_json::json;
use streamgauge_api::subscribe::{From, Message, SubscribeRequest, Subscription};
use streamgauge_api::{ApiError, Code};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::calls::Kind;
use crate::handlers::{Admin, Answer, Parameters, parameters_of};
use crate::problem::Problem;

/// Subscribers at a time; each has a thread.
pub(crate) const SUBSCRIBERS_MAX: usize = 128;
const _: () = assert!(SUBSCRIBERS_MAX * 2 <= crate::server::CONNECTIONS_MAX, "probes and scrapes have places left");
/// Events of one subscription.
const EVENTS_MAX: usize = 64;
/// Messages of about a mebibyte at most that wait for a client to take them.
const QUEUED_MAX: usize = 2;
/// When a browser comes back, milliseconds.
const RETRY_MS: u32 = 1000;
/// A client that hears nothing for this long hears a comment, so that it, and whoever is in between, sees a connection.
const COMMENT_EVERY: Duration = Duration::from_secs(10);
/// How long one look at the log may take before the client's absence is noticed.
const STEP: Duration = Duration::from_secs(1);
/// What it is that is streamed.
const STREAM: &str = "text/event-stream";
/// Stack of a subscriber's thread.
const STACK_BYTES: usize = 512 * 1024;

/// Messages as they come.
struct Messages(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

pub(crate) async fn subscribe(
    admin: State<Admin>,
    path: Result<Path<String>, PathRejection>,
    parameters: Parameters,
    headers: HeaderMap,
) -> Answer {
    // A browser never comes back to whoever refused it: what is worth another try is said in its own terms.
    let is_browser = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|accept| accept.contains(STREAM));
    match begin(admin, path, parameters, headers).await {
        Err(Problem(error)) if is_browser && error.code.retry() => {
            Ok((head(), format!("retry: {RETRY_MS}\n{}", closed(&error))).into_response())
        }
        answer => answer,
    }
}

fn head() -> [(header::HeaderName, &'static str); 2] {
    [(header::CONTENT_TYPE, STREAM), (header::CACHE_CONTROL, "no-store")]
}

async fn begin(
    State(admin): State<Admin>,
    path: Result<Path<String>, PathRejection>,
    parameters: Parameters,
    headers: HeaderMap,
) -> Answer {
    let Path(events) = path.map_err(|rejection| ApiError::new(Code::InvalidRequest, rejection.body_text()))?;
    let mut request = request_of(&events, &parameters_of(parameters)?)?;
    // A browser that comes back says itself what it had, whatever its page's address says.
    if let Some(last) = headers.get("last-event-id") {
        let last = last.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok()).filter(|last| *last < u64::MAX);
        let last = last.ok_or_else(|| ApiError::new(Code::InvalidRequest, "Last-Event-ID is no LSN").at("Last-Event-ID"))?;
        request.from = From::Lsn(last + 1);
    }
    let Ok(place) = Arc::clone(&admin.subscribers).try_acquire_owned() else {
        return Err(ApiError::new(Code::TooManySubscribers, format!("{SUBSCRIBERS_MAX} subscribers are connected")).into());
    };
    let subscription = admin.calls.run(Kind::Subscribe, move |control| control.subscribe(&request)).await??;
    let (messages, queue) = mpsc::channel(QUEUED_MAX);
    let spawned = std::thread::Builder::new().name("subscriber".into()).stack_size(STACK_BYTES).spawn(move || {
        follow(subscription, &messages, place);
    });
    spawned.map_err(|error| ApiError::new(Code::Overloaded, format!("no thread for a subscriber: {error}")))?;
    Ok((head(), Body::new(Messages(queue))).into_response())
}

fn request_of(events: &str, parameters: &std::collections::BTreeMap<String, String>) -> Result<SubscribeRequest, ApiError> {
    let list = |text: &str| text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let invalid = |name: &'static str, reason: String| ApiError::new(Code::InvalidRequest, reason).at(name);
    let mut events = list(events);
    events.dedup();
    if events.is_empty() || events.len() > EVENTS_MAX {
        return Err(invalid("events", format!("1 to {EVENTS_MAX} events, not {}", events.len())));
    }
    let number = |name: &'static str, text: &str| {
        let number = text.parse::<u64>().ok().filter(|lsn| *lsn < u64::MAX);
        number.ok_or_else(|| invalid(name, format!("{text:?} is no LSN")))
    };
    let from = match (parameters.get("from").map(String::as_str), parameters.get("after")) {
        (Some(_), Some(_)) => return Err(invalid("after", "from and after contradict each other".to_owned())),
        (None, Some(after)) => From::Lsn(number("after", after)? + 1),
        (None | Some("live"), None) => From::Live,
        (Some("earliest"), None) => From::Earliest,
        (Some(text), None) => match text.strip_prefix('@') {
            Some(time) => From::Time(time_of(time)?),
            None => From::Lsn(number("from", text)?.max(1)),
        },
    };
    Ok(SubscribeRequest {
        events,
        from,
        log_id: parameters.get("log").cloned(),
        filter: parameters.get("where").cloned(),
        fields: parameters.get("fields").map(|text| list(text)),
    })
}

/// RFC 3339 as microseconds since the Unix epoch.
fn time_of(text: &str) -> Result<i64, ApiError> {
    let time: Result<jiff::Timestamp, _> = text.parse();
    time.map(jiff::Timestamp::as_microsecond)
        .map_err(|error| ApiError::new(Code::InvalidRequest, format!("\"{text}\" is no time: {error}")).at("from"))
}

/// Hands messages over until the subscription ends, or the client is gone.
fn follow(mut subscription: Box<dyn Subscription>, messages: &mpsc::Sender<Bytes>, _place: OwnedSemaphorePermit) {
    let mut text = event("hello", None, &subscription.hello());
    let mut quiet = Duration::ZERO;
    loop {
        if messages.blocking_send(Bytes::from(std::mem::take(&mut text))).is_err() {
            return;
        }
        text = loop {
            match subscription.next(STEP) {
                Ok(Some(message)) => {
                    quiet = Duration::ZERO;
                    break written(&message);
                }
                Ok(None) if messages.is_closed() => return,
                Ok(None) => {
                    quiet += STEP;
                    if quiet >= COMMENT_EVERY {
                        quiet = Duration::ZERO;
                        break ":\n\n".to_owned();
                    }
                }
                Err(error) => {
                    let _gone = messages.blocking_send(Bytes::from(closed(&error))).is_err();
                    return;
                }
            }
        };
    }
}

fn written(message: &Message) -> String {
    match message {
        Message::Rows { lsn, json } => event("txn", *lsn, json),
        Message::Position(lsn) => event("position", Some(*lsn), &json!({"lsn": lsn}).to_string()),
        Message::Schema(json) => event("schema", None, json),
    }
}

fn closed(error: &ApiError) -> String {
    let mut members = error.more.clone();
    members.insert("code".into(), error.code.as_str().into());
    members.insert("reason".into(), error.reason.clone().into());
    members.insert("retry".into(), error.code.retry().into());
    event("close", None, &serde_json::Value::Object(members).to_string())
}

/// One event. Whatever lines its data has, each is a line of data.
fn event(name: &str, id: Option<u64>, data: &str) -> String {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    let mut text = format!("{id}event: {name}\n");
    for line in data.split(['\n', '\r']) {
        text.push_str("data: ");
        text.push_str(line);
        text.push('\n');
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn where_a_subscription_begins_is_said_once_and_in_one_way() {
        let of = |pairs: &[(&str, &str)]| {
            let parameters: BTreeMap<String, String> = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            request_of("payments, logins", &parameters).map(|request| request.from).map_err(|error| error.path)
        };
        assert_eq!(of(&[]), Ok(From::Live));
        assert_eq!(of(&[("from", "live")]), Ok(From::Live));
        assert_eq!(of(&[("from", "earliest")]), Ok(From::Earliest));
        assert_eq!(of(&[("from", "0")]), Ok(From::Lsn(1)));
        assert_eq!(of(&[("from", "918")]), Ok(From::Lsn(918)));
        assert_eq!(of(&[("after", "917")]), Ok(From::Lsn(918)));
        assert_eq!(of(&[("from", "@1970-01-01T00:00:02Z")]), Ok(From::Time(2_000_000)));
        for (pairs, path) in [
            (&[("from", "1"), ("after", "2")][..], "after"),
            (&[("from", "-1")], "from"),
            (&[("after", "18446744073709551615")], "after"),
            (&[("from", "@yesterday")], "from"),
        ] {
            assert_eq!(of(pairs), Err(path.into()), "{pairs:?}");
        }
        assert_eq!(request_of(",", &BTreeMap::new()).unwrap_err().code, Code::InvalidRequest);
    }

    #[test]
    fn a_part_that_others_follow_moves_no_id() {
        let part = Message::Rows { lsn: None, json: "{}".into() };
        assert_eq!(written(&part), "event: txn\ndata: {}\n\n");
        let lines = Message::Rows { lsn: Some(1), json: "{\"a\":\r\n1}".into() };
        assert_eq!(written(&lines), "id: 1\nevent: txn\ndata: {\"a\":\ndata: \ndata: 1}\n\n", "a line of its own ends nothing");
        assert_eq!(written(&Message::Position(7)), "id: 7\nevent: position\ndata: {\"lsn\":7}\n\n");
    }
}
