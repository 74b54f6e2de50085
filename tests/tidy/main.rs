//! Facts kept true: layers point downwards, doorways are the only users of their packages, pages say what the tables say, paths in documents exist.
//!
//! Reads the sources as text; starts nothing, needs nothing but this folder. A rule here is a fact that somebody relies on, never a matter of taste.
//! What a crate boundary or a lint already enforces is not repeated here.

#![allow(clippy::unwrap_used, reason = "tests")]

mod dials;
mod layers;
mod pages;
mod paths;
mod tree;
