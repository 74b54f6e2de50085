//! Streamgauge.
