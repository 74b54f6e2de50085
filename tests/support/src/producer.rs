//! stub
/// P.
pub struct Producer;
/// P.
pub struct Production;
