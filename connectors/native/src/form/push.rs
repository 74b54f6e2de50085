//! Pushes: one MessagePack push, and batches in every form.
//!
//! ```text
//! POST /push-batch/{event}   [row,..]  |  row  |  NDJSON, one row per line           |  MessagePack [row,..] or row
//! POST /push-batch           {"events":[{"event","data"},..]}  |  NDJSON of {"event","data"}  |  MessagePack of the object
//! TCP push_many              {"event","rows":[row,..],"sync"?}  |  {"events":[{"event","body"},..],"sync"?}
//! ```
//! Rows are slices of the request, verbatim.

use super::envelope::{Envelope, RowMember, Written, checked, no_event, not_json, row_too_deep};
use super::json::is_too_deep;
use super::strict::{Bounded, Members, Name, Object};
use crate::config::ENTRIES_MAX;
use crate::msgpack::{Fault, Reader, Token};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use streamgauge_api::port::{Encoding, PushRow};
use streamgauge_api::{ApiError, Code, unknown_member};

/// An empty MessagePack map: the row of a push that sends none.
const EMPTY_MAP: &[u8] = &[0x80];

/// Rows of one transaction.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Batch<'a> {
    pub(crate) rows: Vec<Envelope<'a>>,
    /// Set by the member `sync`.
    pub(crate) sync: bool,
}

impl Batch<'_> {
    /// The rows as the engine takes them.
    pub(crate) fn push_rows(&self) -> Vec<PushRow<'_>> {
        self.rows.iter().map(|row| PushRow { event: &row.event, body: row.row }).collect()
    }
}

#[derive(Deserialize)]
struct WrittenBatch<'a> {
    #[serde(borrow)]
    event: Option<Name<'a>>,
    #[serde(borrow)]
    rows: Option<Bounded<&'a RawValue>>,
    #[serde(borrow)]
    events: Option<Bounded<Object<Written<'a>>>>,
    #[serde(default)]
    sync: Option<bool>,
}

/// What a batch as an object has.
const BATCH_MEMBERS: &[&str] = &["event", "rows", "events", "sync"];

impl Members for WrittenBatch<'_> {
    const NAMES: &'static [&'static str] = BATCH_MEMBERS;
}

/// One MessagePack push. The usual map of `event`, then the row, is cut without walking the row: what follows is the row, and the engine refuses
/// a row with bytes behind it.
pub(crate) fn cut_msgpack(payload: &[u8], member: RowMember) -> Result<Envelope<'_>, ApiError> {
    let mut reader = Reader::new(payload);
    if let (Ok(Token::Map(2)), Ok(Token::Str(b"event"))) = (reader.token(), reader.token())
        && let (Ok(event), Ok(Token::Str(name))) = (reader.text(), reader.token())
        && name == member.name().as_bytes()
    {
        return Ok(Envelope { event: Cow::Borrowed(event), row: reader.rest() });
    }
    let mut reader = Reader::new(payload);
    let envelope = msgpack_envelope(&mut reader, member)?;
    end_of(&reader)?;
    Ok(envelope)
}

/// A batch of `events`, or of `rows` of one event, as an object.
pub(crate) fn batch_object(payload: &[u8], encoding: Encoding, member: RowMember) -> Result<Batch<'_>, ApiError> {
    match encoding {
        Encoding::Json => json_batch(payload, member),
        Encoding::MsgPack => msgpack_batch(payload, member),
    }
}

/// A JSON array of rows of one event.
pub(crate) fn json_rows<'a>(text: &'a [u8], event: &'a str) -> Result<Batch<'a>, ApiError> {
    let rows: Bounded<&RawValue> = serde_json::from_slice(text).map_err(|error| not_json(&error))?;
    rows_of(Cow::Borrowed(event), rows.whole()?)
}

/// Lines of rows of `event`, or of whole envelopes.
pub(crate) fn ndjson<'a>(text: &'a [u8], event: Option<&'a str>) -> Result<Batch<'a>, ApiError> {
    let mut batch = Batch::default();
    for line in text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
        room(batch.rows.len() + 1)?;
        let index = batch.rows.len();
        batch.rows.push(match event {
            Some(_) if is_too_deep(line) => return Err(at_index(row_too_deep(), index)),
            Some(event) => Envelope { event: Cow::Borrowed(event), row: line },
            None => super::envelope::cut(line, RowMember::Data).map_err(|error| at_index(error, index))?,
        });
    }
    not_empty(batch)
}

/// MessagePack rows of one event: an array of maps.
pub(crate) fn msgpack_rows<'a>(payload: &'a [u8], event: &'a str) -> Result<Batch<'a>, ApiError> {
    let mut reader = Reader::new(payload);
    let mut batch = Batch::default();
    for row in msgpack_row_list(&mut reader)? {
        batch.rows.push(Envelope { event: Cow::Borrowed(event), row });
    }
    end_of(&reader)?;
    not_empty(batch)
}

fn json_batch(text: &[u8], member: RowMember) -> Result<Batch<'_>, ApiError> {
    let written: Object<WrittenBatch<'_>> = serde_json::from_slice(text).map_err(|error| not_json(&error))?;
    let written = written.only("a batch", BATCH_MEMBERS)?;
    let sync = written.sync.unwrap_or(false);
    let batch = match (written.rows, written.events) {
        (Some(rows), None) => {
            let Name(event) = written.event.ok_or_else(|| no_event("a batch of \"rows\" needs \"event\""))?;
            rows_of(event, rows.whole()?)?
        }
        (None, Some(events)) => {
            let rows = events.whole()?.into_iter().enumerate();
            let rows = rows.map(|(index, row)| checked(row, member).map_err(|error| at_index(error, index))).collect::<Result<_, _>>()?;
            Batch { rows, sync }
        }
        _ => return Err(ApiError::new(Code::InvalidRequest, "a batch has either \"events\", or \"event\" and \"rows\"")),
    };
    not_empty(Batch { sync, ..batch })
}

fn rows_of<'a>(event: Cow<'a, str>, rows: Vec<&'a RawValue>) -> Result<Batch<'a>, ApiError> {
    let mut batch = Batch::default();
    for (index, row) in rows.into_iter().enumerate() {
        let row = row.get().as_bytes();
        if is_too_deep(row) {
            return Err(at_index(row_too_deep(), index));
        }
        batch.rows.push(Envelope { event: event.clone(), row });
    }
    not_empty(batch)
}

fn msgpack_batch(payload: &[u8], member: RowMember) -> Result<Batch<'_>, ApiError> {
    let mut reader = Reader::new(payload);
    let (mut event, mut rows, mut events, mut sync) = (None, None, None, None);
    for _ in 0..map_head(&mut reader)? {
        match reader.text().map_err(invalid)? {
            "event" => set_once(&mut event, reader.text().map_err(invalid)?)?,
            "rows" => set_once(&mut rows, msgpack_row_list(&mut reader)?)?,
            "events" => {
                let count = array_head(&mut reader)?;
                let envelopes = (0..count).map(|index| msgpack_envelope(&mut reader, member).map_err(|error| at_index(error, index)));
                set_once(&mut events, envelopes.collect::<Result<Vec<_>, _>>()?)?;
            }
            "sync" => match reader.token() {
                Ok(Token::Bool(flag)) => set_once(&mut sync, flag)?,
                _ => return Err(ApiError::new(Code::InvalidRequest, "\"sync\" is not a boolean")),
            },
            name => return Err(unknown_member("member", name, "a batch", BATCH_MEMBERS)),
        }
    }
    end_of(&reader)?;
    let rows = match (rows, events) {
        (Some(rows), None) => {
            let event: &str = event.ok_or_else(|| no_event("a batch of \"rows\" needs \"event\""))?;
            rows.into_iter().map(|row| Envelope { event: Cow::Borrowed(event), row }).collect()
        }
        (None, Some(events)) => events,
        _ => return Err(ApiError::new(Code::InvalidRequest, "a batch has either \"events\", or \"event\" and \"rows\"")),
    };
    not_empty(Batch { rows, sync: sync.unwrap_or(false) })
}

fn msgpack_envelope<'a>(reader: &mut Reader<'a>, member: RowMember) -> Result<Envelope<'a>, ApiError> {
    let (mut event, mut row) = (None, None);
    for _ in 0..map_head(reader)? {
        let name = reader.text().map_err(invalid)?;
        if name == "event" {
            let text = reader.text().map_err(|fault| match fault {
                Fault::Unusable => no_event("member \"event\" is not a string"),
                fault => invalid(fault),
            })?;
            set_once(&mut event, text)?;
        } else if name == member.name() {
            set_once(&mut row, row_value(reader)?)?;
        } else {
            return Err(unknown_member("member", name, "a push", member.members()));
        }
    }
    let event = event.ok_or_else(|| no_event("the payload has no member \"event\""))?;
    Ok(Envelope { event: Cow::Borrowed(event), row: row.unwrap_or(EMPTY_MAP) })
}

fn msgpack_row_list<'a>(reader: &mut Reader<'a>) -> Result<Vec<&'a [u8]>, ApiError> {
    let count = array_head(reader)?;
    (0..count).map(|index| row_value(reader).map_err(|error| at_index(error, index))).collect()
}

fn row_value<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], ApiError> {
    reader.value().map_err(|fault| match fault {
        Fault::TooDeep => row_too_deep(),
        fault => invalid(fault),
    })
}

fn map_head(reader: &mut Reader<'_>) -> Result<usize, ApiError> {
    match reader.token().map_err(invalid)? {
        Token::Map(entries) => Ok(entries),
        _ => Err(ApiError::new(Code::InvalidRequest, "the payload is not a map")),
    }
}

fn array_head(reader: &mut Reader<'_>) -> Result<usize, ApiError> {
    match reader.token().map_err(invalid)? {
        Token::Array(items) => room(items).map(|()| items),
        _ => Err(ApiError::new(Code::InvalidRequest, "the rows are not an array")),
    }
}

fn end_of(reader: &Reader<'_>) -> Result<(), ApiError> {
    if reader.rest().is_empty() {
        return Ok(());
    }
    Err(ApiError::new(Code::InvalidRequest, format!("{} bytes follow the MessagePack value", reader.rest().len())))
}

fn set_once<T>(member: &mut Option<T>, value: T) -> Result<(), ApiError> {
    match member.replace(value) {
        None => Ok(()),
        Some(_) => Err(invalid(Fault::DuplicateKey)),
    }
}

fn invalid(fault: Fault) -> ApiError {
    ApiError::new(Code::InvalidRequest, fault.as_str())
}

fn at_index(error: ApiError, index: usize) -> ApiError {
    error.with("index", index.into())
}

fn room(entries: usize) -> Result<(), ApiError> {
    if entries <= ENTRIES_MAX {
        return Ok(());
    }
    Err(ApiError::new(Code::BatchTooLarge, format!("the batch has more than {ENTRIES_MAX} rows")).with("limit", ENTRIES_MAX.into()))
}

fn not_empty(batch: Batch<'_>) -> Result<Batch<'_>, ApiError> {
    if batch.rows.is_empty() { Err(ApiError::new(Code::InvalidRequest, "the batch has no rows")) } else { Ok(batch) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn texts(batch: Result<Batch<'_>, ApiError>) -> Result<Vec<(String, String)>, Code> {
        let rows = batch.map_err(|error| error.code)?.rows;
        Ok(rows.into_iter().map(|row| (row.event.into_owned(), String::from_utf8_lossy(row.row).into_owned())).collect())
    }

    fn rows(list: &[(&str, &str)]) -> Result<Vec<(String, String)>, Code> {
        Ok(list.iter().map(|(event, row)| ((*event).to_owned(), (*row).to_owned())).collect())
    }

    #[test]
    fn json_batches_keep_rows_verbatim() {
        assert_eq!(texts(json_rows(br#"[{"a": 1}, {"a":2}]"#, "E")), rows(&[("E", r#"{"a": 1}"#), ("E", r#"{"a":2}"#)]));
        assert_eq!(texts(ndjson(b"{\"a\":1}\r\n\n{\"a\":2}", Some("E"))), rows(&[("E", "{\"a\":1}"), ("E", "{\"a\":2}")]));
        assert_eq!(texts(ndjson(b"{\"event\":\"F\",\"data\":{\"a\":1}}\n", None)), rows(&[("F", "{\"a\":1}")]));
        for (text, expected) in [
            (r#"{"events":[{"event":"E","data":{"a":1}},{"event":"F"}]}"#, rows(&[("E", r#"{"a":1}"#), ("F", "{}")])),
            (r#"{"event":"E","rows":[{},{"a":1}],"sync":true}"#, rows(&[("E", "{}"), ("E", r#"{"a":1}"#)])),
            (r#"{"rows":[{}]}"#, Err(Code::MissingEventNameInBody)),
            (r#"{"events":[{"data":{}}]}"#, Err(Code::MissingEventNameInBody)),
            (r#"["E",[{}]]"#, Err(Code::InvalidJsonBody)),
            (r#"{"events":[["E",{}]]}"#, Err(Code::InvalidJsonBody)),
            (r#"{"events":[]}"#, Err(Code::InvalidRequest)),
            (r#"{}"#, Err(Code::InvalidRequest)),
            (r#"{"events":[{}"#, Err(Code::InvalidJsonBody)),
        ] {
            assert_eq!(texts(batch_object(text.as_bytes(), Encoding::Json, RowMember::Data)), expected, "{text}");
        }
        let many = format!("[{}{{}}]", "{},".repeat(ENTRIES_MAX));
        assert_eq!(texts(json_rows(many.as_bytes(), "E")), Err(Code::BatchTooLarge));
        let deep = format!("[{}{}]", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(texts(json_rows(deep.as_bytes(), "E")), Err(Code::InvalidEvent));
    }

    #[test]
    fn msgpack_pushes_are_cut() {
        let usual = b"\x82\xa5event\xa2Tx\xa4body\x81\xa1a\x01";
        let cut = cut_msgpack(usual, RowMember::Body).unwrap();
        assert_eq!((cut.event.as_ref(), cut.row), ("Tx", &b"\x81\xa1a\x01"[..]));
        let turned = b"\x82\xa4body\x81\xa1a\x01\xa5event\xa2Tx";
        let cut = cut_msgpack(turned, RowMember::Body).unwrap();
        assert_eq!((cut.event.as_ref(), cut.row), ("Tx", &b"\x81\xa1a\x01"[..]));
        for (payload, code) in [
            (&b"\xc1"[..], Code::InvalidRequest),
            (b"\x90", Code::InvalidRequest),
            (b"\x81\xa4body\x80", Code::MissingEventNameInBody),
            (b"\x82\xa4body\x80\xa5event\x01", Code::MissingEventNameInBody),
            (b"\x83\xa5event\xa1a\xa5event\xa1a\xa4body\x80", Code::InvalidRequest),
            (b"\x81\xa5event\xa1a\x00", Code::InvalidRequest),
            (b"\x83\xa4body\x81\xa1a\x01\xa1x\xc0\xa5event\xa2Tx", Code::UnknownMember),
            (b"\x82\xa5event\xa2Tx\xa4data\x80", Code::UnknownMember),
        ] {
            assert_eq!(cut_msgpack(payload, RowMember::Body).map_err(|error| error.code), Err(code), "{payload:?}");
        }
        let deep = [&b"\x82\xa4body"[..], &[0x91; 100_000], b"\x00\xa5event\xa1a"].concat();
        assert_eq!(cut_msgpack(&deep, RowMember::Body).map_err(|error| error.code), Err(Code::InvalidEvent));
    }

    #[test]
    fn msgpack_batches_are_cut() {
        let rows = b"\x83\xa5event\xa1E\xa4rows\x92\x80\x81\xa1a\x01\xa4sync\xc3";
        let batch = batch_object(rows, Encoding::MsgPack, RowMember::Body).unwrap();
        assert!(batch.sync);
        assert_eq!(batch.rows.iter().map(|row| row.row).collect::<Vec<_>>(), [&b"\x80"[..], b"\x81\xa1a\x01"]);
        let events = b"\x81\xa6events\x92\x81\xa5event\xa1E\x82\xa5event\xa1F\xa4body\x81\xa1a\x01";
        let batch = batch_object(events, Encoding::MsgPack, RowMember::Body).unwrap();
        assert_eq!(batch.rows.iter().map(|row| row.event.as_ref()).collect::<Vec<_>>(), ["E", "F"]);
        assert_eq!(msgpack_rows(b"\x92\x80\x80", "E").unwrap().rows.len(), 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for encoding in [Encoding::Json, Encoding::MsgPack] {
                let _any_answer = batch_object(&bytes, encoding, RowMember::Body).is_ok();
            }
            let _any_answer = (cut_msgpack(&bytes, RowMember::Body).is_ok(), ndjson(&bytes, None).is_ok(), msgpack_rows(&bytes, "E").is_ok());
        }
    }
}
