//! Request bodies, the same for both framings: pushes, batches and reads, in JSON and MessagePack.
//!
//! Pure functions over bytes; row bodies are found and passed on verbatim, never parsed here. Depth and entry counts are bounded before anything
//! is built from input. Nothing here knows sockets or the engine.

pub(crate) mod envelope;
pub(crate) mod json;
pub(crate) mod push;
pub(crate) mod read;
pub(crate) mod strict;
pub(crate) mod time;
