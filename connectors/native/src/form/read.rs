//! Reads: the bodies of get, batch_get, mget and get_multi, and the query of `GET /tables`, as engine requests.
//!
//! One form serves all; MessagePack becomes a small tree first. Keys stay as written: the table's key columns decide what they mean.

use super::json::is_too_deep;
use super::strict::{Bounded, Members, Object};
use super::time::{parse_duration_ms, parse_time_ms};
use crate::config::{CELLS_MAX, NESTING_MAX, WAIT_MS_MAX};
use crate::http::query::Query;
use crate::msgpack::Reader;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use streamgauge_api::port::{Encoding, KeyText, MEMBER_VALUES_MAX, MemberRead, Read, ReadOptions, Request};
use streamgauge_api::{ApiError, Code, Value};

/// Wait for `min_lsn` when the request names none, ms.
const WAIT_MS_DEFAULT: u64 = 1_000;

/// Members of a whole request that say how its reads are done.
const OPTIONS: [&str; 7] = ["as_of", "min_lsn", "wait_ms", "max_staleness", "approximate", "explain", "complete"];

const GET: &[&str] =
    &["table", "key", "entity_id", "features", OPTIONS[0], OPTIONS[1], OPTIONS[2], OPTIONS[3], OPTIONS[4], OPTIONS[5], OPTIONS[6]];
const BATCH_GET: &[&str] = &["requests", OPTIONS[0], OPTIONS[1], OPTIONS[2], OPTIONS[3], OPTIONS[4], OPTIONS[5], OPTIONS[6]];
const ENTRY: &[&str] = &["table", "key", "entity_id", "features", "as_of", "approximate", "explain", "complete"];
const GET_FEATURE: &[&str] = &["feature", "key"];
const MGET: &[&str] = &["feature", "keys"];
const GET_MULTI: &[&str] = &["features", "keys"];
const MEMBER: &[&str] = &["table", "key", "entity_id", "feature", "values"];

/// What the names of query parameters begin with that ask whether a feature has had a value.
pub(crate) const MEMBER_OF: &str = "member.";

/// Query parameters of `GET /tables/{table}/{key}`.
pub(crate) const KEYED_GET: &[&str] =
    &["features", OPTIONS[0], OPTIONS[1], OPTIONS[2], OPTIONS[3], OPTIONS[4], OPTIONS[5], OPTIONS[6], MEMBER_OF];

/// Any read, as written. Which of these a request may have is its own list.
#[derive(Debug, Deserialize)]
struct WrittenRead {
    table: Option<String>,
    key: Option<Json>,
    entity_id: Option<Json>,
    feature: Option<String>,
    features: Option<Bounded<String>>,
    keys: Option<Bounded<Json>>,
    values: Option<Bounded<Json>>,
    requests: Option<Bounded<Object<WrittenEntry>>>,
    as_of: Option<Json>,
    min_lsn: Option<u64>,
    wait_ms: Option<u64>,
    max_staleness: Option<Json>,
    approximate: Option<bool>,
    explain: Option<bool>,
    complete: Option<bool>,
}

impl Members for WrittenRead {
    const NAMES: &'static [&'static str] = &[
        "table",
        "key",
        "entity_id",
        "feature",
        "features",
        "keys",
        "values",
        "requests",
        OPTIONS[0],
        OPTIONS[1],
        OPTIONS[2],
        OPTIONS[3],
        OPTIONS[4],
        OPTIONS[5],
        OPTIONS[6],
    ];
}

/// One entry of a batch_get.
#[derive(Debug, Deserialize)]
struct WrittenEntry {
    table: Option<String>,
    key: Option<Json>,
    entity_id: Option<Json>,
    features: Option<Vec<String>>,
    as_of: Option<Json>,
    approximate: Option<bool>,
    explain: Option<bool>,
    complete: Option<bool>,
}

impl Members for WrittenEntry {
    const NAMES: &'static [&'static str] = ENTRY;
}

/// `get`: one row, or with `feature` in place of `table` one value where `single_feature` allows that.
pub(crate) fn get(payload: &[u8], encoding: Encoding, single_feature: bool) -> Result<Request, ApiError> {
    let written: Object<WrittenRead> = parse(payload, encoding)?;
    if written.table.is_none() && written.feature.is_some() {
        if !single_feature {
            return Err(unsupported("{\"feature\",\"key\"}"));
        }
        let written = written.only("a read of one feature", GET_FEATURE)?;
        let Some(name) = written.feature else { unreachable!("it was there") };
        return Ok(Request::GetFeature { name, key: key(written.key, None)? });
    }
    if written.table.is_none() && written.keys.is_some() {
        return Err(unsupported("{\"keys\",\"features\"}"));
    }
    let written = written.only("get", GET)?;
    let options = options(&written)?;
    let table = written.table.ok_or_else(|| invalid("the request has no member \"table\""))?;
    let features = written.features.map(Bounded::whole).transpose()?;
    Ok(Request::Get(Read { table, key: key(written.key, written.entity_id)?, options: ReadOptions { features, ..options } }))
}

/// `batch_get`: many rows in order.
pub(crate) fn batch_get(payload: &[u8], encoding: Encoding) -> Result<Request, ApiError> {
    let written: Object<WrittenRead> = parse(payload, encoding)?;
    let mut written = written.only("batch_get", BATCH_GET)?;
    let common = options(&written)?;
    let entries = written.requests.take().ok_or_else(|| invalid("the request has no member \"requests\""))?.whole()?;
    let reads = entries.into_iter().enumerate().map(|(index, entry)| {
        batch_entry(entry, &common).map_err(|error| {
            let inner = if error.path.is_empty() { String::new() } else { format!(".{}", error.path) };
            error.at(format!("requests[{index}]{inner}"))
        })
    });
    reads.collect::<Result<Vec<_>, _>>().map(Request::BatchGet)
}

/// `mget`: one feature of many keys.
pub(crate) fn mget(payload: &[u8], encoding: Encoding) -> Result<Request, ApiError> {
    let written: Object<WrittenRead> = parse(payload, encoding)?;
    let written = written.only("mget", MGET)?;
    let feature = written.feature.ok_or_else(|| invalid("the request has no member \"feature\""))?;
    matrix(vec![feature], written.keys)
}

/// `get_multi`: some features of many keys.
pub(crate) fn get_multi(payload: &[u8], encoding: Encoding) -> Result<Request, ApiError> {
    let written: Object<WrittenRead> = parse(payload, encoding)?;
    let written = written.only("get_multi", GET_MULTI)?;
    let features = written.features.ok_or_else(|| invalid("the request has no member \"features\""))?.whole()?;
    matrix(features, written.keys)
}

/// `member`: which of some values a feature has had.
pub(crate) fn member(payload: &[u8], encoding: Encoding) -> Result<Request, ApiError> {
    let written: Object<WrittenRead> = parse(payload, encoding)?;
    let written = written.only("member", MEMBER)?;
    let lacks = |name: &str| invalid(&format!("the request has no member \"{name}\""));
    let table = written.table.ok_or_else(|| lacks("table"))?;
    let feature = written.feature.ok_or_else(|| lacks("feature"))?;
    let values = written.values.ok_or_else(|| lacks("values"))?.whole()?;
    let values = values.into_iter().enumerate().map(|(at, written)| {
        let wrong = || invalid("a text, a number, a boolean or null is wanted").at(format!("values[{at}]"));
        value(written).ok_or_else(wrong)
    });
    let values = values.collect::<Result<_, _>>()?;
    member_read(MemberRead { table, key: key(written.key, written.entity_id)?, feature, values })
}

/// The same as the query of a keyed read: `?member.seen=a&member.seen=b`.
fn member_of(table: String, parts: Vec<String>, query: &Query) -> Result<Request, ApiError> {
    let (mut feature, mut values) = (None, Vec::new());
    for (name, value) in query.pairs() {
        let of = name.strip_prefix(MEMBER_OF);
        let (Some(of), true) = (of, feature.is_none() || of == feature) else {
            return Err(invalid("a request asks for the members of one feature, and for nothing else").at(name.clone()));
        };
        feature = Some(of);
        values.push(Value::Str(value.as_str().into()));
    }
    let feature = feature.unwrap_or_default().to_owned();
    let key = if parts.is_empty() { KeyText::None } else { KeyText::Segments(parts) };
    member_read(MemberRead { table, key, feature, values })
}

fn member_read(read: MemberRead) -> Result<Request, ApiError> {
    let count = read.values.len();
    if count > MEMBER_VALUES_MAX {
        let error = ApiError::new(Code::BatchTooLarge, format!("{count} values are asked for, at most {MEMBER_VALUES_MAX} at once"));
        return Err(error.at("values").hint("ask in several requests"));
    }
    Ok(Request::Member(read))
}

/// A value that a field may have.
fn value(written: Json) -> Option<Value> {
    Some(match written {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(truth),
        Json::String(text) => Value::Str(text.into()),
        Json::Number(number) => number.as_i64().map(Value::I64).or_else(|| number.as_f64().map(Value::F64))?,
        Json::Array(_) | Json::Object(_) => return None,
    })
}

/// `GET /tables/{table}/{part}..?query`: parameters are those of [`KEYED_GET`].
pub(crate) fn keyed_get(table: String, parts: Vec<String>, query: &Query) -> Result<Request, ApiError> {
    if query.pairs().iter().any(|(name, _)| name.starts_with(MEMBER_OF)) {
        return member_of(table, parts, query);
    }
    let mut options = ReadOptions::default();
    let (mut min_lsn, mut wait_ms) = (None, None);
    for (name, value) in query.pairs() {
        let wrong = || invalid(&format!("query parameter {name}={value} is not valid")).at(name.clone());
        match name.as_str() {
            // `features=a,b&features=c` asks for all three.
            "features" => {
                let names = value.split(',').filter(|name| !name.is_empty()).map(str::to_owned);
                options.features.get_or_insert_default().extend(names);
            }
            "as_of" => set_as_of(&mut options, &Json::String(value.clone()))?,
            "min_lsn" => min_lsn = Some(value.parse().map_err(|_| wrong())?),
            "wait_ms" => wait_ms = Some(value.parse().map_err(|_| wrong())?),
            "max_staleness" => options.max_staleness_ms = Some(parse_duration_ms(value).ok_or_else(wrong)?),
            "approximate" => options.approximate = query.flag(name)?,
            "explain" => options.explain = query.flag(name)?,
            "complete" => options.complete = query.flag(name)?,
            other => unreachable!("{other} is no parameter of this route"),
        }
    }
    set_wait(&mut options, min_lsn, wait_ms)?;
    let key = if parts.is_empty() { KeyText::None } else { KeyText::Segments(parts) };
    Ok(Request::Get(Read { table, key, options }))
}

fn parse<T: DeserializeOwned>(payload: &[u8], encoding: Encoding) -> Result<T, ApiError> {
    match encoding {
        Encoding::Json if is_too_deep(payload) => Err(invalid(&format!("the request is nested deeper than {NESTING_MAX}"))),
        Encoding::Json => serde_json::from_slice(payload).map_err(|error| invalid(&error.to_string())),
        Encoding::MsgPack => {
            let mut reader = Reader::new(payload);
            let tree = reader.tree().map_err(|fault| invalid(fault.as_str()))?;
            if !reader.rest().is_empty() {
                return Err(invalid(&format!("{} bytes follow the MessagePack value", reader.rest().len())));
            }
            serde_json::from_value(tree).map_err(|error| invalid(&error.to_string()))
        }
    }
}

fn matrix(features: Vec<String>, keys: Option<Bounded<Json>>) -> Result<Request, ApiError> {
    let keys = keys.ok_or_else(|| invalid("the request has no member \"keys\""))?.whole()?;
    let cells = keys.len().saturating_mul(features.len());
    if cells > CELLS_MAX {
        return Err(ApiError::new(Code::InternalError, format!("batch_too_large: cells={cells} cap={CELLS_MAX}")));
    }
    let keys = keys.into_iter().map(|written| key(Some(written), None)).collect::<Result<_, _>>()?;
    Ok(Request::GetMany { features, keys })
}

fn batch_entry(entry: Object<WrittenEntry>, common: &ReadOptions) -> Result<Read, ApiError> {
    let entry = entry.only("an entry of batch_get", ENTRY).map_err(|error| match OPTIONS.contains(&error.path.as_str()) {
        true => error.hint("it holds for the whole batch: write it beside `requests`"),
        false => error,
    })?;
    let table = entry.table.ok_or_else(|| invalid("the entry has no member \"table\""))?;
    let mut options = ReadOptions { features: entry.features, ..common.clone() };
    if let Some(as_of) = &entry.as_of {
        (options.as_of_ms, options.as_of_latest) = (None, false);
        set_as_of(&mut options, as_of)?;
    }
    options.approximate = entry.approximate.unwrap_or(common.approximate);
    options.explain = entry.explain.unwrap_or(common.explain);
    options.complete = entry.complete.unwrap_or(common.complete);
    Ok(Read { table, key: key(entry.key, entry.entity_id)?, options })
}

/// Everything but `features`.
fn options(written: &WrittenRead) -> Result<ReadOptions, ApiError> {
    let mut options = ReadOptions {
        approximate: written.approximate.unwrap_or(false),
        explain: written.explain.unwrap_or(false),
        complete: written.complete.unwrap_or(false),
        ..ReadOptions::default()
    };
    if let Some(as_of) = &written.as_of {
        set_as_of(&mut options, as_of)?;
    }
    options.max_staleness_ms = match &written.max_staleness {
        None => None,
        Some(Json::Number(ms)) if ms.as_i64().is_some_and(|ms| ms >= 0) => ms.as_i64(),
        Some(Json::String(text)) if parse_duration_ms(text).is_some() => parse_duration_ms(text),
        Some(_) => return Err(invalid("max_staleness is neither milliseconds nor a duration such as \"2s\"").at("max_staleness")),
    };
    set_wait(&mut options, written.min_lsn, written.wait_ms)?;
    Ok(options)
}

fn set_as_of(options: &mut ReadOptions, as_of: &Json) -> Result<(), ApiError> {
    match as_of {
        Json::String(text) if text == "latest" => options.as_of_latest = true,
        Json::Null => {}
        other => {
            let ms = other.as_i64().or_else(|| other.as_str().and_then(parse_time_ms));
            let wrong = || invalid("as_of is neither milliseconds, nor an RFC 3339 time, nor \"latest\"").at("as_of");
            options.as_of_ms = Some(ms.ok_or_else(wrong)?);
        }
    }
    Ok(())
}

fn set_wait(options: &mut ReadOptions, min_lsn: Option<u64>, wait_ms: Option<u64>) -> Result<(), ApiError> {
    if wait_ms.is_some_and(|ms| ms > WAIT_MS_MAX) {
        return Err(invalid(&format!("wait_ms is above {WAIT_MS_MAX}")).at("wait_ms"));
    }
    options.min_lsn = min_lsn;
    options.wait_ms = if min_lsn.is_some() { wait_ms.unwrap_or(WAIT_MS_DEFAULT) } else { 0 };
    Ok(())
}

fn key(key: Option<Json>, entity_id: Option<Json>) -> Result<KeyText, ApiError> {
    match (key, entity_id) {
        (Some(_), Some(_)) => Err(invalid("\"key\" and its deprecated alias \"entity_id\" are both given")),
        (Some(key), None) | (None, Some(key)) => match key {
            Json::Array(parts) => parts.into_iter().map(scalar).collect::<Result<_, _>>().map(KeyText::Parts),
            key => scalar(key),
        },
        (None, None) => Ok(KeyText::None),
    }
}

fn scalar(key: Json) -> Result<KeyText, ApiError> {
    Ok(match key {
        Json::Null => KeyText::None,
        Json::Bool(flag) => KeyText::Bool(flag),
        Json::String(text) => KeyText::Text(text),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), _, _) => KeyText::Int(number),
            // Beyond i64: its digits, which only a text column can hold.
            (None, Some(number), _) => KeyText::Text(number.to_string()),
            (None, None, number) => KeyText::Float(number.unwrap_or(f64::NAN)),
        },
        Json::Array(_) | Json::Object(_) => return Err(invalid("a key is a string, number, boolean, null, or an array of these").at("key")),
    })
}

fn invalid(reason: &str) -> ApiError {
    ApiError::new(Code::InvalidRequest, reason)
}

fn unsupported(shape: &str) -> ApiError {
    ApiError::new(Code::UnsupportedRequestShape, format!("the shape {shape} is not supported here"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::config::ENTRIES_MAX;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<(String, KeyText, ReadOptions), Code> {
        match get(text.as_bytes(), Encoding::Json, false) {
            Ok(Request::Get(read)) => Ok((read.table, read.key, read.options)),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.code),
        }
    }

    #[test]
    fn keys_stay_as_written() {
        let text = |text: &str| KeyText::Text(text.to_owned());
        for (written, expected) in [
            (r#""k""#, Ok(text("k"))),
            ("7", Ok(KeyText::Int(7))),
            ("18446744073709551615", Ok(text("18446744073709551615"))),
            ("1.5", Ok(KeyText::Float(1.5))),
            ("true", Ok(KeyText::Bool(true))),
            ("null", Ok(KeyText::None)),
            (r#"["a",1]"#, Ok(KeyText::Parts(vec![text("a"), KeyText::Int(1)]))),
            ("[]", Ok(KeyText::Parts(vec![]))),
            ("{}", Err(Code::InvalidRequest)),
            ("[[1]]", Err(Code::InvalidRequest)),
        ] {
            assert_eq!(read(&format!(r#"{{"table":"T","key":{written}}}"#)).map(|(_, key, _)| key), expected, "{written}");
        }
        assert_eq!(read(r#"{"table":"T"}"#).unwrap().1, KeyText::None);
    }

    #[test]
    fn wrong_shapes_have_their_codes() {
        let deep = format!(r#"{{"table":"T","key":{}}}"#, "[".repeat(100_000));
        for (text, code) in [
            (r#"{"keys":["a"],"features":["f"]}"#, Code::UnsupportedRequestShape),
            (r#"{"feature":"f","key":"a"}"#, Code::UnsupportedRequestShape),
            ("{}", Code::InvalidRequest),
            ("[]", Code::InvalidRequest),
            (r#"["T","k"]"#, Code::InvalidRequest),
            ("nope", Code::InvalidRequest),
            (r#"{"table":"T","table":"U"}"#, Code::InvalidRequest),
            (r#"{"table":"T","key":"a","entity_id":"a"}"#, Code::InvalidRequest),
            (r#"{"table":"T","features":[1]}"#, Code::InvalidRequest),
            (r#"{"table":"T","min_lsn":1,"wait_ms":30001}"#, Code::InvalidRequest),
            (r#"{"table":"T","as_of":"soon"}"#, Code::InvalidRequest),
            (r#"{"table":"T","max_stalenes":"2s"}"#, Code::UnknownMember),
            (r#"{"table":"T","max_staleness":"2s","X":1}"#, Code::UnknownMember),
            (r#"{"tabel":"T","key":"k"}"#, Code::UnknownMember),
            (r#"{"table":"T","requests":[]}"#, Code::UnknownMember),
            (r#"{"table":"T","feature":"n"}"#, Code::UnknownMember),
            (&deep, Code::InvalidRequest),
        ] {
            assert_eq!(read(text).map(|_| ()), Err(code), "{}", &text[..text.len().min(80)]);
        }
    }

    #[test]
    fn options_are_read_from_members_and_queries_alike() {
        let expected = ReadOptions {
            features: Some(vec!["b".into(), "a".into()]),
            as_of_ms: Some(1_500),
            as_of_latest: false,
            approximate: true,
            min_lsn: Some(9),
            wait_ms: 20,
            max_staleness_ms: Some(2_000),
            explain: true,
            complete: true,
        };
        let text = r#"{"table":"T","key":"k","features":["b","a"],"as_of":"1970-01-01T00:00:01.5Z","min_lsn":9,"wait_ms":20,"max_staleness":"2s","approximate":true,"explain":true,"complete":true}"#;
        assert_eq!(read(text).unwrap().2, expected);
        let text = "features=b&as_of=1500&min_lsn=9&wait_ms=20&max_staleness=2s&approximate=1&features=a&explain=1&complete=1";
        let query = Query::parse(text, "/tables", KEYED_GET).unwrap();
        assert_eq!(
            keyed_get("T".into(), vec!["k".into()], &query),
            Ok(Request::Get(Read { table: "T".into(), key: KeyText::Segments(vec!["k".into()]), options: expected }))
        );
        assert!(read(r#"{"table":"T","as_of":"latest"}"#).unwrap().2.as_of_latest);
    }

    #[test]
    fn batches_are_bounded_and_never_cut_short() {
        let batch = |count: usize| format!(r#"{{"requests":[{}]}}"#, vec![r#"{"table":"T","key":1}"#; count].join(","));
        for count in [0, 1, 10_000, ENTRIES_MAX] {
            match batch_get(batch(count).as_bytes(), Encoding::Json).unwrap() {
                Request::BatchGet(reads) => assert_eq!(reads.len(), count),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(batch_get(batch(ENTRIES_MAX + 1).as_bytes(), Encoding::Json).unwrap_err().code, Code::BatchTooLarge);
        assert_eq!(batch_get(br#"{"requests":[{"key":1}]}"#, Encoding::Json).unwrap_err().path, "requests[0]");
        assert_eq!(batch_get(b"{}", Encoding::Json).unwrap_err().code, Code::InvalidRequest);
        assert_eq!(batch_get(br#"{"requests":[["T",1]]}"#, Encoding::Json).unwrap_err().code, Code::InvalidRequest);
        let alias = batch_get(br#"{"requests":[{"table":"T","entity_id":"e","features":null}]}"#, Encoding::Json).unwrap();
        assert!(matches!(alias, Request::BatchGet(reads) if reads[0].key == KeyText::Text("e".into())));
    }

    /// A misspelt guard disarms nothing: it is refused, with the name that was meant.
    #[test]
    fn members_that_a_request_does_not_know_are_refused_with_the_nearest_name() {
        let hint = |result: Result<Request, ApiError>| {
            let error = result.unwrap_err();
            assert_eq!(error.code, Code::UnknownMember);
            (error.path, error.hint.unwrap())
        };
        let json = Encoding::Json;
        let meant = |name: &str| format!("did you mean `{name}`?");
        assert_eq!(hint(get(br#"{"table":"T","max_stalenes":"2s"}"#, json, false)), ("max_stalenes".into(), meant("max_staleness")));
        assert_eq!(hint(batch_get(br#"{"requests":[],"maxStaleness":1}"#, json)), ("maxStaleness".into(), meant("max_staleness")));
        assert_eq!(
            hint(batch_get(br#"{"requests":[{"table":"T"},{"table":"T","feature":["n"]}]}"#, json)),
            ("requests[1].feature".into(), meant("features"))
        );
        let (path, beside) = hint(batch_get(br#"{"requests":[{"table":"T","max_staleness":"2s"}]}"#, json));
        assert!(path == "requests[0].max_staleness" && beside.contains("beside `requests`"), "{path}: {beside}");
        let (_, known) = hint(mget(br#"{"feature":"n","keys":[],"max_staleness":"2s"}"#, json));
        assert_eq!(known, "known here: feature, keys");
        let packed = b"\x83\xa5table\xa1T\xa3key\xa1a\xa9max_stale\x01";
        assert_eq!(hint(get(packed, Encoding::MsgPack, true)).0, "max_stale");
    }

    #[test]
    fn matrix_reads_count_their_cells() {
        let keys = vec!["1"; 5_001].join(",");
        let error = get_multi(format!(r#"{{"features":["a","b"],"keys":[{keys}]}}"#).as_bytes(), Encoding::Json).unwrap_err();
        assert_eq!((error.code, error.reason.as_str()), (Code::InternalError, "batch_too_large: cells=10002 cap=10000"));
        assert!(mget(format!(r#"{{"feature":"a","keys":[{keys}]}}"#).as_bytes(), Encoding::Json).is_ok());
    }

    #[test]
    fn msgpack_reads_are_the_same_reads() {
        let packed = b"\x82\xa5table\xa1T\xa3key\x92\xa1a\x01";
        let text = br#"{"table":"T","key":["a",1]}"#;
        assert_eq!(get(packed, Encoding::MsgPack, true), get(text, Encoding::Json, true));
        assert_eq!(get(b"\x82\xa5table\xa1T\xa3key\x01\x00", Encoding::MsgPack, true).unwrap_err().code, Code::InvalidRequest);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for encoding in [Encoding::Json, Encoding::MsgPack] {
                let _any_answer = (get(&bytes, encoding, true).is_ok(), batch_get(&bytes, encoding).is_ok(), get_multi(&bytes, encoding).is_ok());
            }
        }
    }
}
