//! A source that reads its records otherwise after a restart: `check` says so before, the start warns, each
//! with the offset that the new reading begins at, and what was read before keeps what it did.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value as Json, json};
use std::time::Duration;
use streamgauge_testing::{Admin, Setup, Sidecar, broker, unique};

fn config(bootstrap: &str, topic: &str, format: &str) -> String {
    format!(
        "config_version = 1\n[events.E]\nfields = {{ k = \"str\", v = \"f64?\" }}\n\
         [sources.s]\nevent = \"E\"\n{format}\nkafka = {{ brokers = [{bootstrap:?}], topic = {topic:?} }}\n\
         [tables.T]\nfrom = \"E\"\nkey = [\"k\"]\n[tables.T.features]\nn = {{ op = \"count\" }}\nv = {{ op = \"last\", field = \"v\" }}\n"
    )
}

fn lines(admin: &Admin, topic: &str, lines: &[&str]) {
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let records: Vec<Json> = lines.iter().map(|line| json!({ "value": hex(line) })).collect();
    admin.raw(topic, &json!(records)).unwrap();
}

fn caught_up(sidecar: &Sidecar, admin: &Admin, topic: &str) {
    sidecar.wait_positions(topic, &admin.ends(topic).unwrap(), Duration::from_secs(60)).unwrap();
}

/// Exit code, and what `check` says.
fn checked(setup: &Setup) -> (i32, String) {
    let mut command = setup.command("check");
    command.arg("--offline").arg("-c").arg(setup.config()).arg("--data-dir").arg(setup.data());
    let output = command.output().unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn another_reading_is_told_with_the_offset_that_it_begins_at() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("reading"));
    let admin = Admin::of(bootstrap);
    admin.create(&topic, 1).unwrap();
    lines(&admin, &topic, &["a,1", "a,2", "b,3"]);
    let csv = |more: &str, columns: &str| format!("format = \"csv\"\ncsv = {{ columns = [{columns}]{more} }}");
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), &config(bootstrap, &topic, &csv("", "\"k\", \"v\""))).unwrap();
    let sidecar = setup.start().unwrap();
    caught_up(&sidecar, &admin, &topic);
    assert_eq!(sidecar.get("T", "a").unwrap().unwrap(), json!({ "n": 2, "v": 2.0 }));
    assert_eq!(checked(&setup), (0, checked(&setup).1));
    assert!(!checked(&setup).1.contains("the next start"));
    sidecar.kill9();

    // The same lines would say something else: nothing starts.
    setup.write_config(&config(bootstrap, &topic, &csv("", "\"v\", \"k\""))).unwrap();
    let (code, told) = checked(&setup);
    assert!(code == 1 && told.contains("takes it from column 2 of 2, and took it from column 1 of 2 before"), "{code}: {told}");

    // Lines of another kind are told with where they begin, and what was read before stays.
    let delimiter = format!(
        "source s of E has csv.delimiter = \";\" instead of \",\": records are read so from now on; those before keep what they did; from offset 3 of {topic}/0 on"
    );
    setup.write_config(&config(bootstrap, &topic, &csv(", delimiter = \";\"", "\"k\", \"v\""))).unwrap();
    let (code, told) = checked(&setup);
    assert!(code == 0 && told.contains(&format!("the next start: {delimiter}\n")), "{code}: {told}");
    let sidecar = setup.start().unwrap();
    let log = sidecar.log().replace("\\\"", "\"");
    assert!(log.contains(&delimiter) && log.contains("source.reading_changed"), "{log}");
    lines(&admin, &topic, &["a;4", "a,5"]);
    caught_up(&sidecar, &admin, &topic);
    assert_eq!(sidecar.get("T", "a").unwrap().unwrap(), json!({ "n": 3, "v": 4.0 }));
    let (_, told) = checked(&setup);
    assert!(!told.contains("the next start"), "told once: {told}");
}
