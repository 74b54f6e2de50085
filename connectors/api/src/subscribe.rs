//! Subscriptions: rows of events as they become durable, transaction by transaction.
//!
//! ```text
//! transport -- SubscribeRequest, SubscriberQueue --> engine's side       once
//! engine's side -- Message --> SubscriberQueue -- take --> transport     as they come
//! ```
//! A transport asks for a subscription and hands an [`SubscriberQueue`] in, a bounded queue that it empties in its own time; it
//! knows neither rows nor the log. Ids are LSNs, so that a client goes on where it was, over restarts of either side.
//! Nobody waits here: whoever does not take his messages is found out by his full queue.

use crate::port::Encoding;
use crate::{ApiError, Code, unknown_member};
use serde_json::Value as Json;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Subscriptions of a server at a time.
pub const SUBSCRIPTIONS_MAX: usize = 1_024;
/// Events of one subscription.
const EVENTS_MAX: usize = 64;
/// Messages that may wait for a client.
pub const QUEUE_MESSAGES_MAX: usize = 1_024;
/// Their bytes.
pub const QUEUE_BYTES_MAX: usize = 4 << 20;
/// Bytes that may wait for all clients together: beyond them whoever has messages waiting is as one with a full queue.
pub const QUEUES_BYTES_MAX: u64 = 256 << 20;
/// What a message takes besides its rows.
const MESSAGE_BYTES: usize = 64;
/// One that reads the log for itself goes on when no more than this waits.
const ROOM_BYTES: usize = QUEUE_BYTES_MAX / 4;

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With what becomes durable from now on.
    Live,
    /// With the first row that the log still has.
    Earliest,
    /// With this LSN.
    Lsn(u64),
    /// With the first frame at or after this time, microseconds since the Unix epoch.
    Time(i64),
}

/// What becomes of a live subscriber whose queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnSlow {
    /// It is told `slow_consumer`, with the LSN after which it may come back.
    #[default]
    Close,
    /// It reads the log at its own pace, and is live again when it has caught up.
    CatchUp,
}

/// What a client wants to see.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscribeRequest {
    /// Names of events; at least one.
    pub events: Vec<String>,
    /// Where it begins.
    pub from: From,
    /// The log that `from` is an LSN of, if the client knows.
    pub log_id: Option<String>,
    /// Which rows: an expression over the event's fields, as in a table's `where`.
    pub filter: Option<String>,
    /// Which fields of them; all when absent.
    pub fields: Option<Vec<String>>,
    /// What becomes of it when it is slow.
    pub on_slow: OnSlow,
    /// How rows are written.
    pub encoding: Encoding,
}

/// What a request may have.
const MEMBERS: &[&str] = &["events", "from", "after", "log", "where", "fields", "on_slow"];

impl SubscribeRequest {
    /// The request that an object says: `events` and `fields` are lists, or texts with commas; `from` is `live` (when
    /// absent), `earliest`, an LSN or `@` and a time of RFC 3339; `after` is the last LSN that was had.
    ///
    /// # Errors
    /// `unknown_member`; `invalid_request` with the member.
    pub fn of(object: &serde_json::Map<String, Json>, encoding: Encoding) -> Result<Self, ApiError> {
        if let Some(name) = object.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
            return Err(unknown_member("member", name, "a subscription", MEMBERS));
        }
        let text = |name: &'static str| match object.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(text)) => Ok(Some(text.as_str())),
            Some(other) => Err(invalid(name, format!("a text is wanted, not {other:.40}"))),
        };
        let mut events = list(object, "events")?.unwrap_or_default();
        events.dedup();
        if events.is_empty() || events.len() > EVENTS_MAX {
            return Err(invalid("events", format!("1 to {EVENTS_MAX} events, not {}", events.len())));
        }
        let from = match (object.get("from"), object.get("after")) {
            (Some(_), Some(_)) => return Err(invalid("after", "from and after contradict each other".to_owned())),
            (None, Some(after)) => From::Lsn(lsn("after", after)? + 1),
            (None, None) => From::Live,
            (Some(Json::String(text)), None) if text == "live" => From::Live,
            (Some(Json::String(text)), None) if text == "earliest" => From::Earliest,
            (Some(Json::String(text)), None) if text.starts_with('@') => From::Time(time(&text[1..])?),
            (Some(from), None) => From::Lsn(lsn("from", from)?.max(1)),
        };
        let on_slow = match text("on_slow")? {
            None | Some("close") => OnSlow::Close,
            Some("catch_up") => OnSlow::CatchUp,
            Some(other) => return Err(invalid("on_slow", format!("close or catch_up, not {other:?}"))),
        };
        let (log_id, filter) = (text("log")?.map(str::to_owned), text("where")?.map(str::to_owned));
        Ok(Self { events, from, log_id, filter, fields: list(object, "fields")?, on_slow, encoding })
    }
}

fn invalid(name: &'static str, reason: String) -> ApiError {
    ApiError::new(Code::InvalidRequest, reason).at(name)
}

fn list(object: &serde_json::Map<String, Json>, name: &'static str) -> Result<Option<Vec<String>>, ApiError> {
    let of = |texts: &mut dyn Iterator<Item = &str>| texts.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    match object.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) => Ok(Some(of(&mut text.split(',')))),
        Some(Json::Array(items)) if items.iter().all(Json::is_string) => Ok(Some(of(&mut items.iter().filter_map(Json::as_str)))),
        Some(_) => Err(invalid(name, "a list of names is wanted, or one text with commas".to_owned())),
    }
}

fn lsn(name: &'static str, value: &Json) -> Result<u64, ApiError> {
    let number = match value {
        Json::String(text) => text.parse().ok(),
        value => value.as_u64(),
    };
    number.filter(|lsn| *lsn < u64::MAX).ok_or_else(|| invalid(name, format!("{value:.40} is no LSN")))
}

/// RFC 3339 as microseconds since the Unix epoch.
fn time(text: &str) -> Result<i64, ApiError> {
    let time: Result<jiff::Timestamp, _> = text.parse();
    time.map(jiff::Timestamp::as_microsecond).map_err(|error| invalid("from", format!("\"{text}\" is no time: {error}")))
}

/// What a subscriber is told. Cheap to clone: subscribers of the same rows share them.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Rows of one transaction, or a part of them. The last part has the LSN of the transaction's last row.
    Rows {
        /// Its id; none for a part that others follow.
        lsn: Option<u64>,
        /// The rows, in the encoding that was asked for. JSON without a line end.
        body: Arc<[u8]>,
    },
    /// Everything up to here was looked at.
    Position(u64),
    /// Rows from here on are of another version of an event.
    Schema(Arc<Json>),
    /// The subscription is over, and why; `last_lsn` among its members says from where another one goes on. The last message.
    Closed(Arc<ApiError>),
}

impl Message {
    /// About how many bytes it takes while it waits.
    pub fn bytes(&self) -> usize {
        MESSAGE_BYTES
            + match self {
                Self::Rows { body, .. } => body.len(),
                Self::Schema(schema) => schema.to_string().len(),
                Self::Position(_) | Self::Closed(_) => 0,
            }
    }
}

/// What became of messages that were offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// They are in the queue.
    Taken,
    /// There was no room for them, and none of them is in the queue.
    Full,
    /// The client has gone.
    Gone,
}

/// Bytes that wait in all queues together.
#[derive(Debug, Default, Clone)]
pub struct Waiting(Arc<AtomicU64>);

impl Waiting {
    /// How many there are.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
struct Held {
    messages: VecDeque<Message>,
    bytes: usize,
    /// The last message is in it, or was.
    ended: bool,
    /// The client has gone.
    gone: bool,
    /// Somebody waits for room.
    room_wanted: bool,
}

/// Called when there is something to do, on any thread; it must not wait.
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// Messages that wait for one client to take them: many on the one side may put, one on the other takes.
pub struct SubscriberQueue {
    queue: Mutex<Held>,
    wake: Wake,
    room: OnceLock<Wake>,
    all: OnceLock<Waiting>,
}

impl std::fmt::Debug for SubscriberQueue {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("SubscriberQueue").field(&self.queue).finish()
    }
}

impl SubscriberQueue {
    /// An empty one. `wake` is called when messages are in it after there were none.
    pub fn new(wake: Wake) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::default(), wake, room: OnceLock::new(), all: OnceLock::new() })
    }

    fn queue(&self) -> MutexGuard<'_, Held> {
        // Nothing is left half done under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose room it is that is taken, and who is called when there is some again ([`SubscriberQueue::want_room`]) or the client
    /// has gone. Said once, before the first message.
    pub fn open(&self, all: &Waiting, room: Wake) {
        let fresh = self.all.set(all.clone()).is_ok() && self.room.set(room).is_ok();
        assert!(fresh, "a queue is opened once");
    }

    /// Puts these messages in, all or none of them.
    pub fn offer(&self, messages: &[Message]) -> Offer {
        let bytes: usize = messages.iter().map(Message::bytes).sum();
        let queue = self.queue();
        if queue.gone {
            return Offer::Gone;
        }
        if self.is_crowded(&queue) || queue.messages.len() + messages.len() > QUEUE_MESSAGES_MAX || queue.bytes + bytes > QUEUE_BYTES_MAX {
            return Offer::Full;
        }
        self.append(queue, messages.iter().cloned(), bytes);
        Offer::Taken
    }

    /// Puts one more in, whatever else is in there: for whoever asked for room before, and for the last message.
    pub fn put(&self, message: Message) {
        let (bytes, is_last) = (message.bytes(), matches!(message, Message::Closed(_)));
        let mut queue = self.queue();
        if !queue.gone && !queue.ended {
            queue.ended = is_last;
            self.append(queue, std::iter::once(message), bytes);
        }
    }

    fn append(&self, mut queue: MutexGuard<'_, Held>, messages: impl Iterator<Item = Message>, bytes: usize) {
        let was_empty = queue.messages.is_empty();
        queue.messages.extend(messages);
        queue.bytes += bytes;
        if let Some(Waiting(all)) = self.all.get() {
            all.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        let is_empty = queue.messages.is_empty();
        drop(queue);
        if was_empty && !is_empty {
            (self.wake)();
        }
    }

    /// Whether too much waits for all clients together, some of it here.
    fn is_crowded(&self, queue: &Held) -> bool {
        queue.bytes > 0 && self.all.get().is_some_and(|all| all.bytes() > QUEUES_BYTES_MAX)
    }

    /// Whether so little waits that more may be read for this client. When not, the room's owner is called once this
    /// client took enough; room that all share comes back without a word.
    pub fn want_room(&self) -> bool {
        let mut queue = self.queue();
        let has_room = queue.gone || queue.has_room() && !self.is_crowded(&queue);
        queue.room_wanted = !has_room;
        has_room
    }

    /// Whether the client has gone.
    pub fn is_gone(&self) -> bool {
        self.queue().gone
    }

    /// The next message, for the client.
    pub fn take(&self) -> Option<Message> {
        let mut queue = self.queue();
        let message = queue.messages.pop_front()?;
        self.give_back(&mut queue, message.bytes());
        let wanted = queue.has_room() && std::mem::take(&mut queue.room_wanted);
        drop(queue);
        if let Some(room) = self.room.get().filter(|_| wanted) {
            room();
        }
        Some(message)
    }

    /// The client has gone: what waits is thrown away, and nothing is put in any more.
    pub fn close(&self) {
        let mut queue = self.queue();
        queue.gone = true;
        queue.messages = VecDeque::new();
        let bytes = queue.bytes;
        self.give_back(&mut queue, bytes);
        drop(queue);
        if let Some(room) = self.room.get() {
            room();
        }
    }

    fn give_back(&self, queue: &mut Held, bytes: usize) {
        assert!(bytes <= queue.bytes, "bytes belong to messages");
        queue.bytes -= bytes;
        if let Some(Waiting(all)) = self.all.get() {
            all.fetch_sub(bytes as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for SubscriberQueue {
    fn drop(&mut self) {
        let (queue, all) = (self.queue.get_mut().unwrap_or_else(PoisonError::into_inner), self.all.get());
        if let Some(Waiting(all)) = all {
            all.fetch_sub(queue.bytes as u64, Ordering::Relaxed);
        }
    }
}

impl Held {
    fn has_room(&self) -> bool {
        self.bytes <= ROOM_BYTES && self.messages.len() < QUEUE_MESSAGES_MAX
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    fn rows(bytes: usize) -> Message {
        Message::Rows { lsn: Some(1), body: vec![0; bytes].into() }
    }

    #[test]
    fn where_a_subscription_begins_is_said_once_and_in_one_way() {
        let of = |members: Json| {
            let mut members = members.as_object().unwrap().clone();
            members.insert("events".into(), "payments, logins".into());
            SubscribeRequest::of(&members, Encoding::Json).map(|request| request.from).map_err(|error| error.path)
        };
        assert_eq!(of(json!({})), Ok(From::Live));
        assert_eq!(of(json!({"from": "live"})), Ok(From::Live));
        assert_eq!(of(json!({"from": "earliest"})), Ok(From::Earliest));
        assert_eq!(of(json!({"from": "0"})), Ok(From::Lsn(1)));
        assert_eq!(of(json!({"from": 918})), Ok(From::Lsn(918)));
        assert_eq!(of(json!({"after": "917"})), Ok(From::Lsn(918)));
        assert_eq!(of(json!({"from": "@1970-01-01T00:00:02Z"})), Ok(From::Time(2_000_000)));
        for (members, path) in [
            (json!({"from": "1", "after": "2"}), "after"),
            (json!({"from": "-1"}), "from"),
            (json!({"from": 1.5}), "from"),
            (json!({"after": "18446744073709551615"}), "after"),
            (json!({"from": "@yesterday"}), "from"),
            (json!({"on_slow": "wait"}), "on_slow"),
            (json!({"where": 7}), "where"),
            (json!({"fields": [7]}), "fields"),
            (json!({"form": "live"}), "form"),
        ] {
            assert_eq!(of(members.clone()), Err(path.into()), "{members}");
        }
        let none = SubscribeRequest::of(json!({"events": ","}).as_object().unwrap(), Encoding::Json);
        assert_eq!(none.unwrap_err().code, Code::InvalidRequest);
    }

    #[test]
    fn a_queue_takes_all_or_nothing_within_its_bounds_and_says_when_there_is_room() {
        let (woken, roomy) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let count = |counter: &Arc<AtomicU64>| {
            let counter = Arc::clone(counter);
            Box::new(move || {
                counter.fetch_add(1, Ordering::SeqCst);
            }) as Wake
        };
        let (queue, all) = (SubscriberQueue::new(count(&woken)), Waiting::default());
        queue.open(&all, count(&roomy));
        assert_eq!(queue.offer(&[rows(QUEUE_BYTES_MAX / 2), rows(QUEUE_BYTES_MAX / 2)]), Offer::Full);
        assert_eq!((queue.take(), all.bytes()), (None, 0), "none of them is in it");
        assert_eq!(queue.offer(&[rows(QUEUE_BYTES_MAX / 2), Message::Position(7)]), Offer::Taken);
        assert_eq!(queue.offer(&[rows(QUEUE_BYTES_MAX / 2)]), Offer::Full);
        assert!(!queue.want_room());
        queue.put(Message::Closed(Arc::new(ApiError::new(Code::ServerStopping, "x"))));
        queue.put(Message::Position(8));
        assert_eq!(woken.load(Ordering::SeqCst), 1, "once, for what came after nothing");
        assert!(matches!(queue.take(), Some(Message::Rows { .. })));
        assert_eq!(roomy.load(Ordering::SeqCst), 1);
        assert_eq!(queue.take(), Some(Message::Position(7)));
        assert!(matches!(queue.take(), Some(Message::Closed(_))));
        assert_eq!((queue.take(), all.bytes()), (None, 0), "nothing comes behind the last");
        for lsn in 0..QUEUE_MESSAGES_MAX as u64 {
            assert_eq!(queue.offer(&[Message::Position(lsn)]), Offer::Taken);
        }
        assert_eq!(queue.offer(&[Message::Position(0)]), Offer::Full);
        queue.close();
        assert_eq!((queue.offer(&[Message::Position(0)]), all.bytes(), roomy.load(Ordering::SeqCst)), (Offer::Gone, 0, 2));
        assert!(queue.is_gone() && queue.want_room(), "whoever waits for room is let go");
    }
}
