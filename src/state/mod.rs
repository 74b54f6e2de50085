//! State: tables of plain words. Pure: no file, no clock, no lock, no randomness; only the apply thread changes it.

mod accumulator;
mod arena;
mod chunk;

pub use accumulator::{Accumulator, Input, Need, f64_of, hash_cell, load_bytes, store_bytes};
pub use arena::{Arena, Handle};
