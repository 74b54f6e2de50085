//! Streamgauge.
fn main() {}
