//! A producer whose clock is fast hides nobody: live over HTTP, and when a topic of yesterday is read today. What is
//! asked about a time of which rows are gone is refused, with the time from which it can be told.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value as Json, json};
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, SystemTime};
use streamgauge_testing::{Admin, Setup, Sidecar, broker, fetch, unique};

const BINARY: &str = env!("CARGO_BIN_EXE_streamgauge");

const EVENT: &str = r#"config_version = 1
[events.Tx]
fields = { card = "str", at = "datetime" }
time = { field = "at" }
"#;
const TABLE: &str = r#"
[tables.cards]
from = "Tx"
key = ["card"]
[tables.cards.features]
n = { op = "count" }
n_1m = { op = "count", window = "1m" }
n_1h = { op = "count", window = "1h" }
"#;

const MINUTE_MS: i64 = 60_000;

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// The row of card `c`, read as of a time.
fn read(sidecar: &Sidecar, as_of: &str) -> Json {
    let answer = sidecar.data_get(&format!("/tables/cards/c?as_of={as_of}")).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body.clone()
}

fn counts(row: &Json) -> [i64; 3] {
    ["n", "n_1m", "n_1h"].map(|name| row[name].as_i64().unwrap_or_else(|| panic!("{name} in {row}")))
}

fn windows(sidecar: &Sidecar) -> Vec<(i64, i64)> {
    let status = sidecar.status().unwrap();
    let table = status["tables"].as_array().unwrap().iter().find(|table| table["table"] == "cards").unwrap();
    let number = |window: &Json, name: &str| window[name].as_i64().unwrap();
    let windows = table["windows"].as_array().unwrap();
    windows.iter().map(|window| (number(window, "late"), number(window, "ahead_refused"))).collect()
}

#[test]
fn a_push_fifty_minutes_ahead_hides_no_other_push() {
    for rows in [30, 1000] {
        let setup = Setup::new(BINARY, &format!("{EVENT}{TABLE}")).unwrap();
        let sidecar = setup.start().unwrap();
        let push = |at: i64| {
            let pushed = sidecar.data_post("/push/Tx", &json!({ "card": "c", "at": at })).unwrap();
            assert_eq!(pushed.status, 200, "{}", pushed.text);
        };
        let start = now_ms() - 20_000;
        (0..rows / 2).for_each(|index| push(start + index * 10_000 / rows));
        push(start + 20_000 + 50 * MINUTE_MS);
        (rows / 2..rows).for_each(|index| push(start + index * 10_000 / rows));
        assert_eq!(counts(&read(&sidecar, "latest"))[1..], [rows, rows], "{rows} rows");
        assert_eq!(counts(&read(&sidecar, &now_ms().to_string())), [rows + 1, rows, rows]);
        let (late, ahead): (Vec<i64>, Vec<i64>) = windows(&sidecar).into_iter().unzip();
        assert_eq!((late, ahead), (vec![0, 0], vec![i64::from(rows > 500), 0]), "{rows} rows");
        if rows > 500 {
            // Only then was a window without room for it, which is told.
            streamgauge_testing::wait_for("an incident of the table", Duration::from_secs(10), || {
                let status = sidecar.status()?;
                if status.to_string().contains("RowsAhead") { Ok(()) } else { Err(status["incidents"].to_string()) }
            })
            .unwrap();
        }
    }
}

#[test]
fn a_topic_of_yesterday_is_counted_as_it_was_yesterday() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("yesterday"));
    Admin::of(bootstrap).create(&topic, 1).unwrap();
    let start = now_ms() - 24 * 60 * MINUTE_MS;
    let record = |at: i64| json!({ "value": json!({ "card": "c", "at": at }).to_string(), "timestamp": at });
    let mut lines: Vec<Json> = (0..500).map(|index| record(start + index * 40)).collect();
    lines.push(record(start + 20_000 + 50 * MINUTE_MS));
    lines.extend((500..1000).map(|index| record(start + index * 40)));
    // Two rows that are too old for a minute, one of them for an hour too.
    lines.push(record(start - 5 * MINUTE_MS));
    lines.push(record(start - 90 * MINUTE_MS));
    let mut command = fetch::python("records.py").unwrap();
    command.args(["--bootstrap", bootstrap, "--topic", &topic]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut producer = command.spawn().unwrap();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    producer.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(producer.wait().unwrap().success());

    let source =
        format!("[sources.tx]\nevent = \"Tx\"\nformat = \"json\"\n[sources.tx.kafka]\nbrokers = [\"{bootstrap}\"]\ntopic = \"{topic}\"\n");
    let setup = Setup::new(BINARY, &format!("{EVENT}{source}{TABLE}")).unwrap();
    let sidecar = setup.start().unwrap();
    let ends = Admin::of(bootstrap).ends(&topic).unwrap();
    sidecar.wait_positions(&topic, &ends, Duration::from_secs(60)).unwrap();
    let row = read(&sidecar, "latest");
    let [all, minute, hour] = counts(&row);
    assert_eq!(all, 1003, "{row}");
    assert!((990..=1000).contains(&minute), "a minute at the newest row's time: {row}");
    assert!((1000..=1001).contains(&hour), "an hour at the newest row's time: {row}");
    assert_eq!(windows(&sidecar), [(2, 1), (1, 0)]);

    // A day ago is out of reach for a lifetime feature only; the far past for all.
    let refused = sidecar.data_get(&format!("/tables/cards/c?as_of={start}")).unwrap();
    assert_eq!((refused.status, refused.code()), (409, "as_of_out_of_reach"), "{}", refused.text);
    let earliest = refused.body["error"]["earliest_ms"].as_i64().unwrap();
    assert!(earliest > start && earliest <= start + 40_000, "{}", refused.text);
    read(&sidecar, &earliest.to_string());
    read(&sidecar, &format!("{start}&approximate=1"));

    // The same after kill -9: the clock stands with the position.
    sidecar.kill9();
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&topic, &ends, Duration::from_secs(60)).unwrap();
    assert_eq!(read(&sidecar, "latest"), row);
}
