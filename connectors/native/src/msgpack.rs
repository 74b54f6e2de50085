//! MessagePack as clients send it: a bounded reader over untrusted bytes. Its writer is `streamgauge_api::msgpack`.
//!
//! The reader skips values with an explicit stack and never trusts a length before it has compared it with what is left. Trees are built
//! for small requests only, within a depth and a count of nodes.
//!
//! ```text
//! 00-7f fixint    80-8f fixmap   90-9f fixarray  a0-bf fixstr  c0 nil  c2 false  c3 true  c4-c6 bin 8/16/32  c7-c9 ext 8/16/32
//! ca f32  cb f64  cc-cf u8-u64   d0-d3 i8-i64    d4-d8 fixext 1-16     d9-db str 8/16/32  dc-dd array 16/32  de-df map 16/32  e0-ff -1..-32
//! ```

use crate::config::NESTING_MAX;
use serde_json::{Map, Value as Json};

/// Nodes of a tree built from one request.
const NODES_MAX: usize = 1_000_000;

/// Why bytes could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The bytes are not MessagePack, or end early.
    Malformed,
    /// Nested deeper than [`NESTING_MAX`].
    TooDeep,
    /// A map holds a key twice.
    DuplicateKey,
    /// Something that a request cannot hold: a key that is no text, binary, an extension, a number that is not finite, too many nodes.
    Unusable,
}

impl Fault {
    /// The fault as part of a sentence.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Fault::Malformed => "the payload is not valid MessagePack",
            Fault::TooDeep => "the payload is nested too deep",
            Fault::DuplicateKey => "a map holds a key twice",
            Fault::Unusable => "the payload holds a value that a request cannot have",
        }
    }
}

/// One token; containers announce their items.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Token<'a> {
    Nil,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Str(&'a [u8]),
    Bin,
    Ext,
    Array(usize),
    Map(usize),
}

/// A place in MessagePack bytes.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What is not read.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next token. A container is announced only when at least one byte per item is left.
    pub(crate) fn token(&mut self) -> Result<Token<'a>, Fault> {
        let marker = self.byte()?;
        Ok(match marker {
            0x00..=0x7f => Token::Int(i64::from(marker)),
            0x80..=0x8f => self.map(usize::from(marker & 0x0f))?,
            0x90..=0x9f => self.array(usize::from(marker & 0x0f))?,
            0xa0..=0xbf => Token::Str(self.take(usize::from(marker & 0x1f))?),
            0xc0 => Token::Nil,
            0xc1 => return Err(Fault::Malformed),
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            0xc4..=0xc6 => {
                let length = self.length(1 << (marker - 0xc4))?;
                self.take(length)?;
                Token::Bin
            }
            0xc7..=0xc9 => {
                let length = self.length(1 << (marker - 0xc7))?;
                self.take(length.checked_add(1).ok_or(Fault::Malformed)?)?;
                Token::Ext
            }
            0xca => Token::Float(f64::from(f32::from_be_bytes(self.array_of()?))),
            0xcb => Token::Float(f64::from_be_bytes(self.array_of()?)),
            0xcc => Token::Uint(u64::from(self.byte()?)),
            0xcd => Token::Uint(u64::from(u16::from_be_bytes(self.array_of()?))),
            0xce => Token::Uint(u64::from(u32::from_be_bytes(self.array_of()?))),
            0xcf => Token::Uint(u64::from_be_bytes(self.array_of()?)),
            0xd0 => Token::Int(i64::from(i8::from_be_bytes(self.array_of()?))),
            0xd1 => Token::Int(i64::from(i16::from_be_bytes(self.array_of()?))),
            0xd2 => Token::Int(i64::from(i32::from_be_bytes(self.array_of()?))),
            0xd3 => Token::Int(i64::from_be_bytes(self.array_of()?)),
            0xd4..=0xd8 => {
                self.take((1 << (marker - 0xd4)) + 1)?;
                Token::Ext
            }
            0xd9..=0xdb => {
                let length = self.length(1 << (marker - 0xd9))?;
                Token::Str(self.take(length)?)
            }
            0xdc | 0xdd => {
                let items = self.length(2 << (marker - 0xdc))?;
                self.array(items)?
            }
            0xde | 0xdf => {
                let items = self.length(2 << (marker - 0xde))?;
                self.map(items)?
            }
            0xe0..=0xff => Token::Int(i64::from(marker as i8)),
        })
    }

    /// A text as `&str`.
    pub(crate) fn text(&mut self) -> Result<&'a str, Fault> {
        match self.token()? {
            Token::Str(bytes) => std::str::from_utf8(bytes).map_err(|_| Fault::Malformed),
            _ => Err(Fault::Unusable),
        }
    }

    /// Skips one value and gives its bytes.
    pub(crate) fn value(&mut self) -> Result<&'a [u8], Fault> {
        let start = self.rest;
        let mut left_at = [0usize; NESTING_MAX];
        let mut depth = 0;
        loop {
            let items = match self.token()? {
                Token::Array(items) => items,
                // A map was announced with two bytes per entry at least, so this does not overflow.
                Token::Map(entries) => entries * 2,
                _ => 0,
            };
            if items > 0 {
                *left_at.get_mut(depth).ok_or(Fault::TooDeep)? = items;
                depth += 1;
                continue;
            }
            loop {
                let Some(left) = depth.checked_sub(1).and_then(|top| left_at.get_mut(top)) else {
                    let length = start.len() - self.rest.len();
                    return start.get(..length).ok_or(Fault::Malformed);
                };
                *left -= 1;
                if *left > 0 {
                    break;
                }
                depth -= 1;
            }
        }
    }

    /// Reads one value as a tree; refuses what JSON could not say.
    pub(crate) fn tree(&mut self) -> Result<Json, Fault> {
        let mut nodes = NODES_MAX;
        self.node(NESTING_MAX, &mut nodes)
    }

    fn node(&mut self, depth_left: usize, nodes_left: &mut usize) -> Result<Json, Fault> {
        *nodes_left = nodes_left.checked_sub(1).ok_or(Fault::Unusable)?;
        Ok(match self.token()? {
            Token::Nil => Json::Null,
            Token::Bool(flag) => Json::Bool(flag),
            Token::Int(number) => number.into(),
            Token::Uint(number) => number.into(),
            Token::Float(number) => Json::Number(serde_json::Number::from_f64(number).ok_or(Fault::Unusable)?),
            Token::Str(bytes) => Json::String(std::str::from_utf8(bytes).map_err(|_| Fault::Malformed)?.to_owned()),
            Token::Bin | Token::Ext => return Err(Fault::Unusable),
            Token::Array(items) => {
                let depth_left = depth_left.checked_sub(1).ok_or(Fault::TooDeep)?;
                let mut list = Vec::with_capacity(items.min(1024));
                for _ in 0..items {
                    list.push(self.node(depth_left, nodes_left)?);
                }
                Json::Array(list)
            }
            Token::Map(entries) => {
                let depth_left = depth_left.checked_sub(1).ok_or(Fault::TooDeep)?;
                let mut map = Map::new();
                for _ in 0..entries {
                    let name = self.text()?.to_owned();
                    if map.insert(name, self.node(depth_left, nodes_left)?).is_some() {
                        return Err(Fault::DuplicateKey);
                    }
                }
                Json::Object(map)
            }
        })
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let (first, rest) = self.rest.split_first().ok_or(Fault::Malformed)?;
        self.rest = rest;
        Ok(*first)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Fault::Malformed)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array_of<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], Fault> {
        let (bytes, rest) = self.rest.split_first_chunk::<LENGTH>().ok_or(Fault::Malformed)?;
        self.rest = rest;
        Ok(*bytes)
    }

    /// A big-endian length of `width` bytes (1, 2 or 4).
    fn length(&mut self, width: usize) -> Result<usize, Fault> {
        Ok(self.take(width)?.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte)))
    }

    fn array(&self, items: usize) -> Result<Token<'a>, Fault> {
        if items <= self.rest.len() { Ok(Token::Array(items)) } else { Err(Fault::Malformed) }
    }

    fn map(&self, entries: usize) -> Result<Token<'a>, Fault> {
        if entries <= self.rest.len() / 2 { Ok(Token::Map(entries)) } else { Err(Fault::Malformed) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;
    use streamgauge_api::Value;
    use streamgauge_api::msgpack::write_msgpack;
    use streamgauge_api::value::write_json;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::I64),
            any::<i64>().prop_map(Value::Datetime),
            any::<f64>().prop_map(Value::F64),
            ".{0,40}".prop_map(|text| Value::Str(text.into())),
            Just(Value::Json(r#"{"a":[1,-2.5,"x",null,18446744073709551615]}"#.into())),
        ];
        leaf.prop_recursive(4, 64, 20, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(Value::List),
                prop::collection::btree_map("[a-z]{1,40}", inner, 0..20)
                    .prop_map(|map| Value::Map(map.into_iter().map(|(name, value)| (name.into(), value)).collect())),
            ]
        })
    }

    proptest! {
        /// MessagePack and JSON of a value say the same.
        #[test]
        fn the_writers_are_twins(value in values()) {
            let (mut packed, mut text) = (Vec::new(), Vec::new());
            write_msgpack(&mut packed, &value);
            write_json(&mut text, &value);
            let mut reader = Reader::new(&packed);
            prop_assert_eq!(reader.value().unwrap(), &packed[..]);
            prop_assert!(reader.rest().is_empty());
            let read_back = Reader::new(&packed).tree().unwrap();
            // Texts are compared, since serde_json may read a float one bit off.
            prop_assert_eq!(serde_json::to_string(&read_back).unwrap(), String::from_utf8(text).unwrap());
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(value) = Reader::new(&bytes).value() {
                prop_assert!(bytes.starts_with(value));
            }
            let _any_answer = Reader::new(&bytes).tree().is_ok();
        }
    }

    #[test]
    fn faults_are_told_apart() {
        for (bytes, fault) in [
            (&[0xc1][..], Fault::Malformed),
            (&[][..], Fault::Malformed),
            (&[0xdd, 0xff, 0xff, 0xff, 0xff][..], Fault::Malformed),
            (&[0xdf, 0xff, 0xff, 0xff, 0xff][..], Fault::Malformed),
            (&[0xdb, 0xff, 0xff, 0xff, 0xff, 0x00][..], Fault::Malformed),
            (&[0xc9, 0xff, 0xff, 0xff, 0xff, 0x00][..], Fault::Malformed),
        ] {
            assert_eq!(Reader::new(bytes).value(), Err(fault), "{bytes:?}");
        }
        assert_eq!(Reader::new(&[0xc4, 1, 7]).tree(), Err(Fault::Unusable));
        assert_eq!(Reader::new(&[0x82, 0xa1, b'a', 1, 0xa1, b'a', 2]).tree(), Err(Fault::DuplicateKey));
        let mut nan = vec![0xcb];
        nan.extend_from_slice(&f64::NAN.to_be_bytes());
        assert_eq!(Reader::new(&nan).tree(), Err(Fault::Unusable));
    }

    #[test]
    fn nesting_has_a_limit() {
        let deep = |depth: usize| [vec![0x91; depth], vec![0x00]].concat();
        assert!(Reader::new(&deep(128)).value().is_ok() && Reader::new(&deep(128)).tree().is_ok());
        for depth in [129, 100_000] {
            assert_eq!(Reader::new(&deep(depth)).value(), Err(Fault::TooDeep));
            assert_eq!(Reader::new(&deep(depth)).tree(), Err(Fault::TooDeep));
        }
    }
}
