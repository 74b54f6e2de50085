//! `GET /subscribe/{events}`: server-sent events (WHATWG HTML, 9.2), one message per transaction.
//!
//! A subscription is asked for like any call, and refused like any; then a task carries its messages from the queue that
//! the engine's side fills ([`SubscriberQueue`]) to the client, a piece at a time. A client that takes nothing is cut by
//! the connection's write limit, one that is slow is found out by its full queue. Nobody else waits for either.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use hyper::body::{Bytes, Frame};
use serde_json::json;
use streamgauge_api::port::Encoding;
use streamgauge_api::subscribe::{From, Message, SubscribeRequest, SubscriberQueue};
use streamgauge_api::{ApiError, Code};
use tokio::sync::{Notify, mpsc};

use crate::calls::Kind;
use crate::handlers::{Admin, Answer, Parameters, parameters_of};
use crate::problem::Problem;
use crate::websocket;

/// About as many bytes are handed to the connection at once.
const PIECE_BYTES: usize = 64 * 1024;
/// When a browser comes back, milliseconds.
const RETRY_MS: u32 = 1000;
/// A client that hears nothing for this long hears a comment, so that it, and whoever is in between, sees a connection.
const COMMENT_EVERY: Duration = Duration::from_secs(10);
/// What it is that is streamed.
const STREAM: &str = "text/event-stream";

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
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Answer {
    if let Ok(upgrade) = upgrade {
        let request = request_of(path, parameters, &headers)?;
        let taken = |_| ApiError::new(Code::TooManySubscribers, "there is no place for another socket");
        let place = Arc::clone(&admin.sockets).try_acquire_owned().map_err(taken)?;
        return Ok(websocket::upgrade(upgrade, admin.0.clone(), request, place));
    }
    // A browser never comes back to whoever refused it: what is worth another try is said in its own terms.
    let is_browser = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|accept| accept.contains(STREAM));
    match begin(admin, path, parameters, headers).await {
        Err(Problem(error)) if is_browser && error.code.retry() => {
            Ok((head(), format!("retry: {RETRY_MS}\n{}", String::from_utf8_lossy(&closed(&error)))).into_response())
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
    let request = request_of(path, parameters, &headers)?;
    let queue = Listening::default();
    let hello = queue.open(&admin, request).await?;
    let (messages, pieces) = mpsc::channel(1);
    tokio::spawn(follow(hello, queue, messages));
    Ok((head(), Body::new(Messages(pieces))).into_response())
}

/// What a request's line and head ask for.
fn request_of(
    path: Result<Path<String>, PathRejection>,
    parameters: Parameters,
    headers: &HeaderMap,
) -> Result<SubscribeRequest, ApiError> {
    let Path(events) = path.map_err(|rejection| ApiError::new(Code::InvalidRequest, rejection.body_text()))?;
    let parameters = parameters_of(parameters)?;
    let mut members: serde_json::Map<String, serde_json::Value> =
        parameters.into_iter().map(|(name, value)| (name, value.into())).collect();
    members.insert("events".into(), events.into());
    let mut request = SubscribeRequest::of(&members, Encoding::Json)?;
    // A browser that comes back says itself what it had, whatever its page's address says.
    if let Some(last) = headers.get("last-event-id") {
        let last = last.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok()).filter(|last| *last < u64::MAX);
        let last = last.ok_or_else(|| ApiError::new(Code::InvalidRequest, "Last-Event-ID is no LSN").at("Last-Event-ID"))?;
        request.from = From::Lsn(last + 1);
    }
    Ok(request)
}

/// A client's end of a queue: whoever drops it has gone.
pub(crate) struct Listening {
    pub(crate) queue: Arc<SubscriberQueue>,
    pub(crate) woken: Arc<Notify>,
}

impl Listening {
    /// One that wakes this one.
    pub(crate) fn new(woken: Arc<Notify>) -> Self {
        let wake = Arc::clone(&woken);
        Self { queue: SubscriberQueue::new(Box::new(move || wake.notify_one())), woken }
    }

    /// Begins a subscription; what the client is told first.
    pub(crate) async fn open(&self, admin: &Admin, request: SubscribeRequest) -> Result<serde_json::Value, ApiError> {
        let queue = Arc::clone(&self.queue);
        admin.calls.run(Kind::Subscribe, move |control| control.subscribe(&request, queue)).await?
    }
}

impl Default for Listening {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Hands messages over until the subscription ends, or the client is gone.
async fn follow(hello: serde_json::Value, queue: Listening, messages: mpsc::Sender<Bytes>) {
    let mut text = event("hello", None, hello.to_string().as_bytes());
    loop {
        // Whatever is there goes in one piece, up to a bound.
        let (mut is_over, mut is_empty) = (false, false);
        while text.len() < PIECE_BYTES && !is_empty {
            match queue.queue.take() {
                Some(message) => {
                    is_over = matches!(message, Message::Closed(_));
                    text.extend_from_slice(&written(&message));
                }
                None => is_empty = true,
            }
        }
        if !text.is_empty() && messages.send(Bytes::from(std::mem::take(&mut text))).await.is_err() || is_over {
            return;
        }
        // Whoever puts a message into a queue that is not empty wakes nobody.
        if !is_empty {
            continue;
        }
        tokio::select! {
            () = queue.woken.notified() => {}
            () = messages.closed() => return,
            () = tokio::time::sleep(COMMENT_EVERY) => text = b":\n\n".to_vec(),
        }
    }
}

fn written(message: &Message) -> Vec<u8> {
    match message {
        Message::Rows { lsn, body } => event("txn", *lsn, body),
        Message::Position(lsn) => event("position", Some(*lsn), json!({"lsn": lsn}).to_string().as_bytes()),
        Message::Schema(json) => event("schema", None, json.to_string().as_bytes()),
        Message::Closed(error) => closed(error),
    }
}

/// Why a subscription ends, as its last message says.
pub(crate) fn members_of(error: &ApiError) -> serde_json::Value {
    let mut members = error.more.clone();
    members.insert("code".into(), error.code.as_str().into());
    members.insert("reason".into(), error.reason.clone().into());
    members.insert("retry".into(), error.code.retry().into());
    serde_json::Value::Object(members)
}

fn closed(error: &ApiError) -> Vec<u8> {
    event("close", None, members_of(error).to_string().as_bytes())
}

/// One event. Whatever lines its data has, each is a line of data.
fn event(name: &str, id: Option<u64>, data: &[u8]) -> Vec<u8> {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    let mut text = format!("{id}event: {name}\n").into_bytes();
    for line in data.split(|byte| matches!(byte, b'\n' | b'\r')) {
        text.extend_from_slice(b"data: ");
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_part_that_others_follow_moves_no_id() {
        let text = |message: &Message| String::from_utf8(written(message)).unwrap();
        let rows = |lsn, body: &str| Message::Rows { lsn, body: body.as_bytes().into() };
        assert_eq!(text(&rows(None, "{}")), "event: txn\ndata: {}\n\n");
        let lines = rows(Some(1), "{\"a\":\r\n1}");
        assert_eq!(text(&lines), "id: 1\nevent: txn\ndata: {\"a\":\ndata: \ndata: 1}\n\n", "a line of its own ends nothing");
        assert_eq!(text(&Message::Position(7)), "id: 7\nevent: position\ndata: {\"lsn\":7}\n\n");
    }
}
