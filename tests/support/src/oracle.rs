//! stub
/// Oracle.
pub struct Oracle;
