//! Subscriptions over a WebSocket (RFC 6455): several on one socket, each with its own place in the log.
//!
//! ```text
//! GET /subscribe/payments   Upgrade: websocket   Sec-WebSocket-Protocol: streamgauge.v1.json | streamgauge.v1.msgpack
//! client: {"type":"subscribe","sub":"a","events":"logins","from":918}   {"type":"unsubscribe","sub":"a"}
//! server: {"type":"hello","sub":"a","data":{..}}  {"type":"txn","sub":"a","id":920,"data":{..}}  position  schema  close
//! ```
//! What stands in the address is the first subscription, under the name that it has there. With `msgpack` messages of the
//! server are binary, and those of the client may be either. One task serves a socket: it sends what its queues hold, a
//! message of each in turn, and listens in between. A client that takes nothing is cut by the connection's write limit,
//! one that is gone by its silence.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{self, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use hyper::body::Bytes;
use serde_json::{Map, Value as Json, json};
use streamgauge_api::msgpack::{write_int, write_map_head, write_msgpack_str, write_tree};
use streamgauge_api::port::Encoding;
use streamgauge_api::subscribe::{Message, SubscribeRequest};
use streamgauge_api::{ApiError, Code};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;

use crate::handlers::Admin;
use crate::subscribe::{Listening, members_of};

/// Subprotocols; the first is taken when a client names none.
const PROTOCOLS: [(&str, Encoding); 2] = [("streamgauge.v1.json", Encoding::Json), ("streamgauge.v1.msgpack", Encoding::MsgPack)];
/// Subscriptions of one socket.
const SUBSCRIPTIONS_PER_SOCKET_MAX: usize = 64;
/// Bytes of one message of a client.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a subscription's name.
const NAME_BYTES_MAX: usize = 256;
/// How often a client is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(15);
/// A socket without a subscription is closed after this long.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// A client that says nothing for this long, not even that it is there, has gone.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// A socket and its subscriptions.
struct Socket {
    admin: Admin,
    encoding: Encoding,
    woken: Arc<Notify>,
    open: BTreeMap<String, Listening>,
    /// Since when there was none of them.
    idle_since: Instant,
    stopping: bool,
}

/// What is sent for one message.
enum Data<'a> {
    None,
    Tree(&'a Json),
    /// In the socket's encoding.
    Encoded(&'a [u8]),
}

/// Answers an upgrade. `first` is what the address asks for.
pub(crate) fn upgrade(upgrade: WebSocketUpgrade, admin: Admin, first: SubscribeRequest, place: OwnedSemaphorePermit) -> Response {
    let upgrade = upgrade.protocols(PROTOCOLS.map(|(name, _)| name)).max_message_size(REQUEST_BYTES_MAX).max_frame_size(REQUEST_BYTES_MAX);
    let chosen = upgrade.selected_protocol().and_then(|chosen| chosen.to_str().ok());
    let encoding = PROTOCOLS.iter().find(|(name, _)| Some(*name) == chosen).map_or(Encoding::Json, |(_, encoding)| *encoding);
    let answer = upgrade.on_upgrade(move |socket| async move {
        let mut served =
            Socket { admin, encoding, woken: Arc::default(), open: BTreeMap::new(), idle_since: Instant::now(), stopping: false };
        if let Err(error) = served.serve(socket, first).await {
            tracing::debug!(target: "admin", %error, "a socket of subscriptions ended");
        }
        drop(place);
    });
    answer.into_response()
}

impl Socket {
    async fn serve(&mut self, mut socket: WebSocket, first: SubscribeRequest) -> Result<(), axum::Error> {
        let name = first.events.join(",");
        self.subscribe(&mut socket, name, first).await?;
        let (mut heard, mut asked) = (Instant::now(), Instant::now());
        loop {
            let sent = self.send_round(&mut socket).await?;
            if !self.open.is_empty() {
                self.idle_since = Instant::now();
            } else if self.stopping {
                let (code, reason) = (ws::close_code::AWAY, Code::ServerStopping.as_str().into());
                return socket.send(ws::Message::Close(Some(ws::CloseFrame { code, reason }))).await;
            }
            // The client is heard between any two rounds, however much there is to send.
            tokio::select! {
                biased;
                received = socket.recv() => match received {
                    None => return Ok(()),
                    Some(message) => {
                        heard = Instant::now();
                        match message? {
                            ws::Message::Close(_) => return Ok(()),
                            ws::Message::Text(text) => self.hear(&mut socket, serde_json::from_str(&text).map_err(|error| error.to_string())).await?,
                            ws::Message::Binary(bytes) => self.hear(&mut socket, rmp_serde::from_slice(&bytes).map_err(|error| error.to_string())).await?,
                            ws::Message::Ping(_) | ws::Message::Pong(_) => {}
                        }
                    }
                },
                () = tokio::time::sleep_until(asked + PING_EVERY) => {
                    let asked_in_vain = asked > heard && heard.elapsed() >= SILENCE_MAX;
                    if asked_in_vain || self.idle_since.elapsed() >= IDLE_MAX {
                        return Ok(());
                    }
                    asked = Instant::now();
                    socket.send(ws::Message::Ping(Bytes::new())).await?;
                }
                () = self.woken.notified(), if !sent => {}
                () = std::future::ready(()), if sent => {}
            }
        }
    }

    /// Sends one message of each subscription; whether there was any.
    async fn send_round(&mut self, socket: &mut WebSocket) -> Result<bool, axum::Error> {
        let names: Vec<String> = self.open.keys().cloned().collect();
        let mut sent = false;
        for name in names {
            let Some(message) = self.open.get(&name).and_then(|listening| listening.queue.take()) else { continue };
            sent = true;
            match &message {
                Message::Rows { lsn, body } => self.send(socket, "txn", Some(&name), *lsn, Data::Encoded(body)).await?,
                Message::Position(lsn) => self.send(socket, "position", Some(&name), Some(*lsn), Data::None).await?,
                Message::Schema(schema) => self.send(socket, "schema", Some(&name), None, Data::Tree(schema)).await?,
                Message::Closed(error) => {
                    self.stopping |= error.code == Code::ServerStopping;
                    self.open.remove(&name);
                    self.send(socket, "close", Some(&name), None, Data::Tree(&members_of(error))).await?;
                }
            }
        }
        Ok(sent)
    }

    /// A message of the client.
    async fn hear(&mut self, socket: &mut WebSocket, message: Result<Json, String>) -> Result<(), axum::Error> {
        let invalid = |reason: &str| ApiError::new(Code::InvalidRequest, reason);
        let (kind, name, members) = match message.map_err(|error| invalid(&error)).and_then(parts_of) {
            Ok(parts) => parts,
            Err(error) => return self.refuse(socket, "error", None, &error).await,
        };
        match (&*kind, self.open.contains_key(&name)) {
            ("subscribe", true) => {
                let error = invalid("a subscription of this name is open on this socket").at("sub");
                self.refuse(socket, "error", Some(&name), &error).await
            }
            ("subscribe", false) if self.open.len() >= SUBSCRIPTIONS_PER_SOCKET_MAX => {
                let reason = format!("{SUBSCRIPTIONS_PER_SOCKET_MAX} subscriptions are open on this socket");
                self.refuse(socket, "close", Some(&name), &ApiError::new(Code::TooManySubscribers, reason)).await
            }
            ("subscribe", false) => match SubscribeRequest::of(&members, self.encoding) {
                Ok(request) => self.subscribe(socket, name, request).await,
                Err(error) => self.refuse(socket, "close", Some(&name), &error).await,
            },
            ("unsubscribe", true) => {
                self.open.remove(&name);
                self.send(socket, "unsubscribed", Some(&name), None, Data::None).await
            }
            ("unsubscribe", false) => {
                self.refuse(socket, "error", Some(&name), &invalid("no subscription of this name is open on this socket").at("sub")).await
            }
            (other, _) => {
                let error = invalid(&format!("subscribe or unsubscribe, not {other:?}")).at("type");
                self.refuse(socket, "error", Some(&name), &error).await
            }
        }
    }

    async fn subscribe(&mut self, socket: &mut WebSocket, name: String, request: SubscribeRequest) -> Result<(), axum::Error> {
        let listening = Listening::new(Arc::clone(&self.woken));
        match listening.open(&self.admin, SubscribeRequest { encoding: self.encoding, ..request }).await {
            Ok(hello) => {
                self.send(socket, "hello", Some(&name), None, Data::Tree(&hello)).await?;
                self.open.insert(name, listening);
                Ok(())
            }
            Err(error) => self.refuse(socket, "close", Some(&name), &error).await,
        }
    }

    async fn refuse(&self, socket: &mut WebSocket, kind: &str, name: Option<&str>, error: &ApiError) -> Result<(), axum::Error> {
        let mut members = members_of(error);
        if !error.path.is_empty() {
            members["path"] = error.path.clone().into();
        }
        if let Some(hint) = &error.hint {
            members["hint"] = hint.clone().into();
        }
        self.send(socket, kind, name, None, Data::Tree(&members)).await
    }

    async fn send(
        &self,
        socket: &mut WebSocket,
        kind: &str,
        name: Option<&str>,
        id: Option<u64>,
        data: Data<'_>,
    ) -> Result<(), axum::Error> {
        let message = match self.encoding {
            Encoding::Json => ws::Message::Text(json_of(kind, name, id, &data).into()),
            Encoding::MsgPack => ws::Message::Binary(msgpack_of(kind, name, id, &data).into()),
        };
        socket.send(message).await
    }
}

/// Type, name and the rest of a message.
fn parts_of(message: Json) -> Result<(String, String, Map<String, Json>), ApiError> {
    let invalid = |path: &str, reason: &str| ApiError::new(Code::InvalidRequest, reason).at(path);
    let Json::Object(mut members) = message else { return Err(invalid("", "an object is wanted")) };
    let mut text = |name: &str| match members.remove(name) {
        Some(Json::String(text)) if text.len() <= NAME_BYTES_MAX => Ok(text),
        _ => Err(invalid(name, "a text is wanted, of 256 bytes at most")),
    };
    let (kind, name) = (text("type")?, text("sub")?);
    Ok((kind, name, members))
}

fn json_of(kind: &str, name: Option<&str>, id: Option<u64>, data: &Data<'_>) -> String {
    let name = name.map(|name| format!(",\"sub\":{}", json!(name))).unwrap_or_default();
    let id = id.map(|id| format!(",\"id\":{id}")).unwrap_or_default();
    let data = match data {
        Data::None => String::new(),
        Data::Tree(tree) => format!(",\"data\":{tree}"),
        Data::Encoded(bytes) => format!(",\"data\":{}", String::from_utf8_lossy(bytes)),
    };
    format!("{{\"type\":\"{kind}\"{name}{id}{data}}}")
}

fn msgpack_of(kind: &str, name: Option<&str>, id: Option<u64>, data: &Data<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    write_map_head(&mut out, 1 + usize::from(name.is_some()) + usize::from(id.is_some()) + usize::from(!matches!(data, Data::None)));
    write_msgpack_str(&mut out, "type");
    write_msgpack_str(&mut out, kind);
    if let Some(name) = name {
        write_msgpack_str(&mut out, "sub");
        write_msgpack_str(&mut out, name);
    }
    if let Some(id) = id {
        write_msgpack_str(&mut out, "id");
        write_int(&mut out, i64::try_from(id).unwrap_or(i64::MAX));
    }
    match data {
        Data::None => {}
        Data::Tree(tree) => {
            write_msgpack_str(&mut out, "data");
            write_tree(&mut out, tree);
        }
        Data::Encoded(bytes) => {
            write_msgpack_str(&mut out, "data");
            out.extend_from_slice(bytes);
        }
    }
    out
}
