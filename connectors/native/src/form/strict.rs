//! Two things that serde's derived forms leave open: an array in place of an object is refused, and lists have a bound.

use crate::config::ENTRIES_MAX;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;
use streamgauge_api::{ApiError, Code};

/// A form that is written as an object. A derived form alone would also take an array of its members in order.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        from.deserialize_map(Members(PhantomData))
    }
}

/// At most [`ENTRIES_MAX`] items; what is beyond is counted, not kept, so that a small body cannot become a large list.
#[derive(Debug)]
pub(crate) struct Bounded<T> {
    items: Vec<T>,
    beyond: usize,
}

impl<T> Bounded<T> {
    /// The items, or `batch_too_large`.
    pub(crate) fn whole(self) -> Result<Vec<T>, ApiError> {
        if self.beyond == 0 {
            return Ok(self.items);
        }
        let count = self.items.len() + self.beyond;
        Err(ApiError::new(Code::BatchTooLarge, format!("{count} entries; the limit is {ENTRIES_MAX}")).with("limit", ENTRIES_MAX.into()))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Bounded<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = Bounded<T>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut bounded = Bounded { items: Vec::new(), beyond: 0 };
                while bounded.items.len() < ENTRIES_MAX {
                    match list.next_element()? {
                        Some(item) => bounded.items.push(item),
                        None => return Ok(bounded),
                    }
                }
                while list.next_element::<IgnoredAny>()?.is_some() {
                    bounded.beyond += 1;
                }
                Ok(bounded)
            }
        }
        from.deserialize_seq(Items(PhantomData))
    }
}
