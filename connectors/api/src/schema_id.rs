//! What a record names its writer schema by: a registry's number, or the schema's own GUID.
//!
//! Numbers stand before a body or in a header and mean something in one registry only; GUIDs stand in headers
//! and mean the same everywhere. Both name one schema for ever, so what is cached by them never changes. In JSON,
//! which the log and its readers have, a number is a number and a GUID is text.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// The name of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SchemaId {
    /// A registry's number.
    Number(u32),
    /// A GUID, in the order in which it is written.
    Guid([u8; 16]),
}

impl SchemaId {
    /// A GUID from its hyphenated text.
    pub fn from_guid(text: &str) -> Option<Self> {
        let digits = text.bytes().enumerate().filter(|(at, _)| !matches!(at, 8 | 13 | 18 | 23));
        let hyphens = [8, 13, 18, 23].iter().all(|at| text.as_bytes().get(*at) == Some(&b'-'));
        if text.len() != 36 || !hyphens {
            return None;
        }
        let mut guid = [0; 16];
        for (index, (_, digit)) in digits.enumerate() {
            let nibble = u8::try_from(char::from(digit).to_digit(16)?).ok()?;
            let byte = guid.get_mut(index / 2)?;
            *byte = *byte << 4 | nibble;
        }
        Some(Self::Guid(guid))
    }
}

impl From<u32> for SchemaId {
    fn from(number: u32) -> Self {
        Self::Number(number)
    }
}

impl fmt::Display for SchemaId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(out, "{number}"),
            Self::Guid(guid) => {
                for (index, byte) in guid.iter().enumerate() {
                    if matches!(index, 4 | 6 | 8 | 10) {
                        out.write_str("-")?;
                    }
                    write!(out, "{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

impl Serialize for SchemaId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => to.serialize_u32(*number),
            Self::Guid(_) => to.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for SchemaId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = SchemaId;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a schema's number or GUID")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<SchemaId, E> {
                u32::try_from(number).map(SchemaId::Number).map_err(|_| E::custom("a number beyond 32 bits"))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<SchemaId, E> {
                SchemaId::from_guid(text).ok_or_else(|| E::custom("text that is no GUID"))
            }
        }
        from.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_id_reads_back_from_what_is_written() {
        let guid = SchemaId::from_guid("89791762-2336-4186-9674-299b90a802e2").unwrap();
        for (id, text) in [(SchemaId::Number(7), "7"), (guid, "\"89791762-2336-4186-9674-299b90a802e2\"")] {
            assert_eq!(serde_json::to_string(&id).unwrap(), text);
            assert_eq!(serde_json::from_str::<SchemaId>(text).unwrap(), id);
            assert_eq!(id.to_string(), text.trim_matches('"'));
        }
        for wrong in
            ["-1", "4294967296", "\"8979\"", "\"897917622336418696740299b90a802e2xyz\"", "\"89791762-2336-4186-9674-299b90a802g2\"", "null"]
        {
            assert!(serde_json::from_str::<SchemaId>(wrong).is_err(), "{wrong}");
        }
    }
}
