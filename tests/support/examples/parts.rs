//! Starts a broker and a registry, prints their addresses as one JSON line, and keeps them until stdin ends. For work by hand and for `benches/run`.

use std::io::{Read, Write};

fn main() -> std::io::Result<()> {
    let parts = serde_json::json!({
        "kafka": streamgauge_testing::broker().bootstrap,
        "kafka_pid": streamgauge_testing::broker().pid(),
        "registry": streamgauge_testing::registry().url,
    });
    writeln!(std::io::stdout(), "{parts}")?;
    std::io::stdin().read_to_end(&mut Vec::new()).map(|_| ())
}
