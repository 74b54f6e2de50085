//! Reads: a key as a client wrote it, looked up in a table, answered as values in alphabetical order of features.
//!
//! Runs on whichever thread holds the apply seat, between frames. Changes nothing.

mod key;
mod member;
mod row;

pub use key::{KeyRefused, key_to_json, parse_key};
pub use row::{Reader, UnknownFeature, find_table};
