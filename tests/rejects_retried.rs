//! Records that were bad under one config become rows under another one: each once, whatever ends the process when, and
//! nothing else changes. What is still bad stays in the list.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value as Json, json};
use std::time::Duration;
use streamgauge_testing::{Admin, Setup, Sidecar, broker, unique, wait_for};

const WITHIN: Duration = Duration::from_secs(60);

fn config(bootstrap: &str, topic: &str, amount: &str) -> String {
    format!(
        "config_version = 1\n[events.E]\nfields = {{ id = \"str\", amount = \"f64\", ts = \"datetime\" }}\ntime = {{ field = \"ts\" }}\n\
         [sources.s]\nevent = \"E\"\nfields = {{ {amount} }}\nkafka = {{ brokers = [{bootstrap:?}], topic = {topic:?} }}\n\
         [tables.T]\nfrom = \"E\"\nkey = [\"id\"]\n[tables.T.features]\nn = {{ op = \"count\" }}\nsum = {{ op = \"sum\", field = \"amount\" }}\n\
         first = {{ op = \"first_seen\" }}\n"
    )
}

fn produce(admin: &Admin, topic: &str, lines: impl Iterator<Item = String>) {
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let all: Vec<Json> = lines.map(|line| json!({ "value": hex(&line) })).collect();
    // Arguments of a process are bounded.
    all.chunks(500).for_each(|some| admin.raw(topic, &json!(some)).unwrap());
}

fn caught_up(sidecar: &Sidecar, admin: &Admin, topic: &str) {
    sidecar.wait_positions(topic, &admin.ends(topic).unwrap(), WITHIN).unwrap();
}

fn retry(setup: &Setup, sidecar: &Sidecar, more: &[&str]) -> Json {
    let mut command = setup.command("rejects");
    command.args(["retry", "--json", "--admin", &sidecar.admin]).args(more);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn kept(sidecar: &Sidecar) -> Json {
    sidecar.status().unwrap()["rejects"].clone()
}

fn fingerprint(sidecar: &Sidecar) -> Json {
    sidecar.admin_get("/fingerprint").unwrap().body
}

#[test]
fn rejects_become_rows_once_after_the_config_was_mended() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("retried"));
    let admin = Admin::of(bootstrap);
    admin.create(&topic, 1).unwrap();
    let at = |n: i64| 1_700_000_000_000 + n;
    let mut lines: Vec<String> = (0..50).map(|n| format!("{{\"id\":\"a\",\"amount\":\"{n}.5\",\"ts\":{}}}", at(n))).collect();
    lines.extend((50..60).map(|n| format!("{{\"id\":\"a\",\"amount\":{n}.5,\"ts\":{}}}", at(n))));
    lines.extend(["nonsense".to_owned(), "{\"id\":\"b\",\"amount\":true,\"ts\":1700000000000}".to_owned()]);
    produce(&admin, &topic, lines.into_iter());
    admin.raw(&topic, &json!([{ "value": null }])).unwrap();
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), &config(bootstrap, &topic, "")).unwrap();
    let sidecar = setup.start().unwrap();
    caught_up(&sidecar, &admin, &topic);
    assert_eq!(kept(&sidecar), json!({ "kept": 53, "gone": 0, "retried": 0 }));
    assert_eq!(sidecar.get("T", "a").unwrap().unwrap()["n"], 10);
    // Nothing was mended: all stay, and the state is as it was.
    let before = fingerprint(&sidecar);
    assert_eq!(
        retry(&setup, &sidecar, &[])["stays"],
        json!({ "decode_type_mismatch": 51, "decode_malformed": 1, "tombstone_unexpected": 1 })
    );
    assert_eq!(fingerprint(&sidecar), before);
    sidecar.kill9();

    setup
        .write_config(
            &config(bootstrap, &topic, "amount = { from = \"any\" }").replace("[sources.s]", "[sources.s]\ntombstone = \"ignore\""),
        )
        .unwrap();
    let sidecar = setup.start().unwrap();
    let dry = retry(&setup, &sidecar, &["--where", "code=decode_type_mismatch", "--dry-run"]);
    assert_eq!((&dry["chosen"], &dry["rows"], &dry["stays"]), (&json!(51), &json!(50), &json!({ "decode_type_mismatch": 1 })));
    assert_eq!(kept(&sidecar)["kept"], 53);
    assert_eq!(retry(&setup, &sidecar, &["--where", "source=s", "--where", "code=decode_malformed"])["rows"], 0);
    let done = retry(&setup, &sidecar, &["--where", "event=E"]);
    assert_eq!((&done["chosen"], &done["rows"], &done["nothing"]), (&json!(53), &json!(50), &json!(1)));
    let row = json!({ "n": 60, "sum": (0..60).map(|n| f64::from(n) + 0.5).sum::<f64>() });
    let holds = |sidecar: &Sidecar| {
        let got = sidecar.get("T", "a").unwrap().unwrap();
        assert_eq!((&got["n"], &got["sum"]), (&row["n"], &row["sum"]), "{got}");
        assert_eq!(sidecar.get("T", "b").unwrap(), None);
        assert_eq!(kept(sidecar), json!({ "kept": 2, "gone": 0, "retried": 51 }));
        assert_eq!(retry(&setup, sidecar, &[])["rows"], 0, "each is applied once");
        fingerprint(sidecar)
    };
    let live = holds(&sidecar);
    // By the log alone, and by a snapshot.
    sidecar.kill9();
    let sidecar = setup.start().unwrap();
    let replayed = holds(&sidecar);
    assert_eq!(replayed["fingerprint"], live["fingerprint"]);
    assert!(sidecar.terminate(WITHIN).unwrap().success());
    let sidecar = setup.start().unwrap();
    holds(&sidecar);
    caught_up(&sidecar, &admin, &topic);
}

#[test]
fn a_retry_that_kill_nine_cuts_goes_on_where_it_was() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("retried-cut"));
    let admin = Admin::of(bootstrap);
    admin.create(&topic, 1).unwrap();
    const RECORDS: u32 = 6_000;
    produce(
        &admin,
        &topic,
        (0..RECORDS).map(|n| format!("{{\"id\":\"k{}\",\"amount\":\"1\",\"ts\":{}}}", n % 7, 1_700_000_000_000_i64 + i64::from(n))),
    );
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), &config(bootstrap, &topic, "")).unwrap();
    let sidecar = setup.start().unwrap();
    caught_up(&sidecar, &admin, &topic);
    assert_eq!(kept(&sidecar)["kept"], RECORDS);
    sidecar.kill9();
    setup.write_config(&config(bootstrap, &topic, "amount = { from = \"any\" }")).unwrap();
    let total = |sidecar: &Sidecar| -> u64 {
        (0..7).filter_map(|key| sidecar.get("T", &format!("k{key}")).unwrap()).map(|row| row["n"].as_u64().unwrap()).sum()
    };
    for _ in 0..3 {
        let sidecar = setup.start().unwrap();
        let before = kept(&sidecar)["retried"].as_u64().unwrap();
        let mut command = setup.command("rejects");
        let mut running = command.args(["retry", "--admin", &sidecar.admin]).stderr(std::process::Stdio::null()).spawn().unwrap();
        wait_for("a first frame", WITHIN, || {
            let now = kept(&sidecar)["retried"].as_u64().unwrap();
            if now > before || now == u64::from(RECORDS) { Ok(()) } else { Err("nothing yet".to_owned()) }
        })
        .unwrap();
        sidecar.kill9();
        let _ended = running.wait().unwrap();
    }
    let sidecar = setup.start().unwrap();
    let state = kept(&sidecar);
    let (kept_now, retried) = (state["kept"].as_u64().unwrap(), state["retried"].as_u64().unwrap());
    assert_eq!(kept_now + retried, u64::from(RECORDS), "every reject is accounted for once");
    assert_eq!(total(&sidecar), retried, "a row for each that is done");
    assert_eq!(retry(&setup, &sidecar, &[])["rows"].as_u64(), Some(kept_now));
    assert_eq!((total(&sidecar), kept(&sidecar)["kept"].as_u64()), (u64::from(RECORDS), Some(0)));
}
