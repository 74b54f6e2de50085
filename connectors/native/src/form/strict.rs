//! Three things that serde's derived forms leave open: an array in place of an object is refused, members that a form
//! does not know are noticed, and lists have a bound.
//!
//! Which members a form knows depends on the route: [`Object::only`] takes the route's names. Noticing costs one
//! comparison per member and allocates for an unknown one alone.

use crate::config::ENTRIES_MAX;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use streamgauge_api::{ApiError, Code, unknown_member};

/// A derived form, with the names of its members.
pub(crate) trait Members {
    /// Every member that the form has, at most 32.
    const NAMES: &'static [&'static str];
}

/// A form that is written as an object. A derived form alone would also take an array of its members in order, and say
/// nothing of members that it does not have.
#[derive(Debug)]
pub(crate) struct Object<T> {
    members: T,
    /// Bit n: member n of [`Members::NAMES`] is given.
    given: u32,
    /// The first member that the form does not have.
    unknown: Option<Box<str>>,
}

impl<T: Members> Object<T> {
    /// The members, when no others are given than `known`; `place` is where they stand.
    pub(crate) fn only(self, place: &str, known: &[&'static str]) -> Result<T, ApiError> {
        debug_assert!(known.iter().all(|name| T::NAMES.contains(name)), "{place} knows what the form has");
        let of_others = T::NAMES.iter().enumerate().find(|(bit, name)| self.given & 1 << bit != 0 && !known.contains(name));
        match self.unknown.as_deref().or(of_others.map(|(_, name)| *name)) {
            None => Ok(self.members),
            Some(name) => Err(unknown_member("member", name, place, known)),
        }
    }
}

impl<T> std::ops::Deref for Object<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.members
    }
}

impl<'de, T: Deserialize<'de> + Members> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Form<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Members> Visitor<'de> for Form<T> {
            type Value = Object<T>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                const { assert!(T::NAMES.len() <= 32, "a bit for each member") };
                let (mut given, mut unknown) = (0, None);
                let watched = Watched { map, names: T::NAMES, given: &mut given, unknown: &mut unknown };
                let members = T::deserialize(MapAccessDeserializer::new(watched))?;
                Ok(Object { members, given, unknown })
            }
        }
        from.deserialize_map(Form(PhantomData))
    }
}

/// The members of an object on their way to a form; those that it does not have go no further.
struct Watched<'w, A> {
    map: A,
    names: &'static [&'static str],
    given: &'w mut u32,
    unknown: &'w mut Option<Box<str>>,
}

/// A name that borrows from the request unless it has escapes.
#[derive(serde::Deserialize)]
pub(crate) struct Name<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Watched<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(Name(name)) = self.map.next_key::<Name<'de>>()? {
            if let Some((bit, known)) = self.names.iter().enumerate().find(|(_, known)| **known == name) {
                *self.given |= 1 << bit;
                return seed.deserialize(StrDeserializer::new(known)).map(Some);
            }
            self.unknown.get_or_insert_with(|| name.into());
            self.map.next_value::<IgnoredAny>()?;
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
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
