//! stub
/// P.
pub struct Setup;
/// P.
pub struct Sidecar;
