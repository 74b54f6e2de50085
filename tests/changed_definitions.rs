//! A config that changes between two starts: what keeps its state, what starts again, and what a refused start says. Through `kill -9` (the log) and through a
//! clean stop (a snapshot) alike.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value as Json, json};
use std::process::Command;
use std::time::Duration;
use streamgauge_testing::{Setup, Sidecar, wait_for};

const EVENT: &str = r#"config_version = 1
[events.Payment]
fields = { card = "str", amount = "f64", note = "str?" }
"#;

const FEATURES: &str = r#"
n       = { op = "count" }
n_1h    = { op = "count", window = "1h", resolution = 120 }
total   = { op = "sum", field = "amount" }
last    = { op = "last", field = "note" }
noted   = { op = "count", where = "note == 'x'" }
"#;

fn table(name: &str, more: &str) -> String {
    format!("[tables.{name}]\nfrom = \"Payment\"\nkey = [\"card\"]\n{more}\n[tables.{name}.features]{FEATURES}")
}

fn setup(config: &str) -> Setup {
    Setup::new(env!("CARGO_BIN_EXE_streamgauge"), config).unwrap()
}

fn pay(sidecar: &Sidecar, card: &str, note: &Json) {
    let answer = sidecar.data_post("/push/Payment", &json!({ "card": card, "amount": 2.0, "note": note })).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
}

/// What a start that is refused says; its exit code is that of a bad config.
fn refused(setup: &Setup) -> String {
    let config = setup.config();
    let run = setup.command("run");
    let mut command = Command::new("timeout");
    command.arg("30").arg(run.get_program()).args(run.get_args());
    command.arg("-c").arg(config).arg("--data-dir").arg(setup.data());
    command.args(["--http-addr", "127.0.0.1:0", "--tcp-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]);
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{told}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(!told.contains("null"), "{told}");
    told
}

/// What `check` says of the config and the data folder: exit code, talk and lines.
fn checked(setup: &Setup, more: &[&str]) -> (i32, String, String) {
    let mut command = setup.command("check");
    command.arg("--offline").arg("-c").arg(setup.config()).arg("--data-dir").arg(setup.data()).args(more);
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stderr), text(&output.stdout))
}

/// Ends it one way or the other, so that what comes next is read from the log or from a snapshot.
fn again(sidecar: Sidecar, setup: &Setup, cleanly: bool) -> Sidecar {
    if cleanly {
        assert!(sidecar.terminate(Duration::from_secs(30)).unwrap().success());
    } else {
        sidecar.kill9();
    }
    setup.start().unwrap()
}

#[test]
fn a_renamed_table_keeps_its_state_and_is_known_by_its_new_name_everywhere() {
    let setup = setup(&format!("{EVENT}{}", table("card_stats", "")));
    let sidecar = setup.start().unwrap();
    for number in 0..70 {
        pay(&sidecar, "c1", &json!(format!("n{number}")));
    }
    let row = |n: u64| json!({ "n": n, "n_1h": n, "total": n as f64 * 2.0, "last": format!("n{}", n - 1), "noted": 0 });
    assert_eq!(sidecar.get("card_stats", "c1").unwrap(), Some(row(70)));
    sidecar.kill9();

    setup.write_config(&format!("{EVENT}{}", table("cards", ""))).unwrap();
    let told = refused(&setup);
    for part in [
        "card_stats is no longer declared, and cards is declared alike: all its keys go",
        "renamed_from = \"card_stats\" in [tables.cards] keeps its state",
        "--rebuild card_stats",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }

    // `check` finds it before the start does, also beside a running server.
    let (code, talk, _) = checked(&setup, &[]);
    assert!(code == 1 && talk.contains("cards is declared alike: all its keys go"), "{code}: {talk}");
    let (code, talk, lines) = checked(&setup, &["--rebuild", "card_stats"]);
    assert!(code == 0 && lines.contains("the next start: card_stats is no longer declared, and cards"), "{code}: {talk} {lines}");
    setup.write_config(&format!("{EVENT}{}", table("cards", "renamed_from = \"card_stats\""))).unwrap();
    let (code, talk, lines) = checked(&setup, &[]);
    assert!(code == 0 && lines.contains("the next start: card_stats is cards now\n"), "{code}: {talk} {lines}");
    let mut sidecar = setup.start().unwrap();
    assert!(sidecar.log().contains("card_stats is cards now"), "{}", sidecar.log());
    let mut n = 70;
    for cleanly in [false, true, false] {
        assert_eq!(sidecar.get("cards", "c1").unwrap(), Some(row(n)), "{cleanly}");
        assert_eq!(sidecar.data_get("/tables/card_stats/c1").unwrap().code(), "unknown_table");
        let status = sidecar.status().unwrap();
        assert_eq!((status["tables"].as_array().unwrap().len(), &status["tables"][0]["table"]), (1, &json!("cards")), "{status}");
        let metrics = sidecar.admin_get("/metrics").unwrap().text;
        assert!(metrics.contains("streamgauge_table_keys{table=\"cards\"} 1") && !metrics.contains("card_stats"), "{metrics}");
        pay(&sidecar, "c1", &json!(format!("n{n}")));
        n += 1;
        let (code, talk, lines) = checked(&setup, &["--json"]);
        let told: Json = serde_json::from_str(&lines).unwrap();
        assert_eq!((code, &told["changes"], &told["ok"]), (0, &json!([]), &json!(true)), "{talk}");
        sidecar = again(sidecar, &setup, cleanly);
    }
    // The word may go, and the next rename follows.
    setup.write_config(&format!("{EVENT}{}", table("cards", ""))).unwrap();
    let sidecar = again(sidecar, &setup, true);
    assert_eq!(sidecar.get("cards", "c1").unwrap(), Some(row(n)));
    setup.write_config(&format!("{EVENT}{}", table("card_facts", "renamed_from = \"cards\""))).unwrap();
    let sidecar = again(sidecar, &setup, false);
    assert_eq!(sidecar.get("card_facts", "c1").unwrap(), Some(row(n)));
}

#[test]
fn a_retyped_field_starts_again_what_reads_it_and_an_event_without_rows_changes_freely() {
    let tables =
        format!("{}[tables.all]\nfrom = \"Payment\"\nkey = []\nfeatures = {{ n = {{ op = \"count\" }} }}\n", table("card_stats", ""));
    let setup = setup(&format!("{}{tables}", EVENT.replace("card = \"str\"", "card = \"i64\"")));
    assert_eq!(checked(&setup, &[]).0, 0, "an empty folder has nothing to compare with");
    setup.start().unwrap().kill9();
    // The key was declared with a wrong type: no row came, so nothing is lost.
    setup.write_config(&format!("{EVENT}{tables}")).unwrap();
    let (code, talk, lines) = checked(&setup, &[]);
    assert!(code == 0 && lines.contains("the next start: field Payment.card changes from i64 to str\n"), "{code}: {talk} {lines}");
    let sidecar = setup.start().unwrap();
    for _ in 0..70 {
        pay(&sidecar, "c1", &json!("x"));
    }
    let before = json!({ "n": 70, "n_1h": 70, "total": 140.0, "last": "x", "noted": 70 });
    assert_eq!(sidecar.get("card_stats", "c1").unwrap(), Some(before));
    // Through a snapshot and a tail, its rows are counted.
    assert_eq!(sidecar.admin_post("/snapshots").unwrap().status, 200);
    pay(&sidecar, "c2", &json!("x"));
    sidecar.kill9();

    let retyped = format!("{}{tables}", EVENT.replace("note = \"str?\"", "note = \"i64?\"")).replace("note == 'x'", "note == 7");
    setup.write_config(&retyped).unwrap();
    let told = refused(&setup);
    for part in
        ["field Payment.note changes from str to i64: features card_stats.last, card_stats.noted start again", "--rebuild Payment.note"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    let (code, talk, _) = checked(&setup, &[]);
    assert!(code == 1 && talk.contains("field Payment.note changes from str to i64: features card_stats.last"), "{code}: {talk}");
    let allowed = Setup::with(setup, "--rebuild").with("Payment.note").with("--rebuild").with("card_stats.noted");
    let sidecar = allowed.start().unwrap();
    let kept = json!({ "n": 70, "n_1h": 70, "total": 140.0, "last": null, "noted": 0 });
    assert_eq!(sidecar.get("card_stats", "c1").unwrap(), Some(kept));
    let mut sidecar = sidecar;
    for (number, cleanly) in [(1, false), (2, true), (3, false)] {
        pay(&sidecar, "c1", &json!(7));
        sidecar = again(sidecar, &allowed, cleanly);
        let n = 70 + number;
        let row = json!({ "n": n, "n_1h": n, "total": f64::from(n) * 2.0, "last": 7, "noted": number });
        assert_eq!(sidecar.get("card_stats", "c1").unwrap(), Some(row), "{cleanly}");
        assert_eq!(sidecar.data_get("/tables/all").unwrap().body["n"], n + 1);
    }
}

/// The flags that a refused start says to type.
fn flags_of(told: &str) -> Vec<String> {
    let (_, flags) = told.split_once("allow it: ").unwrap_or_else(|| panic!("no way out in {told}"));
    let words = flags.split_whitespace().take_while(|word| !word.starts_with('(')).map(str::to_owned).collect::<Vec<_>>();
    assert!(words.chunks(2).all(|pair| pair.len() == 2 && pair[0] == "--rebuild"), "{told}");
    words
}

/// It was once refused with `--rebuild P.n`, and with that again, with a hint about a payload and exit code 1.
#[test]
fn a_file_that_takes_away_what_tables_of_clients_stand_on_can_be_obeyed() {
    let event =
        "config_version = 1\n[events.Payment]\nfields = { card = \"str\", n = \"i64?\" }\n[events.Click]\nfields = { card = \"str\" }\n";
    let table = "[tables.own]\nfrom = \"Payment\"\nkey = [\"card\"]\nfeatures = { c = { op = \"count\" } }\n";
    let setup = setup(&format!("{event}{table}"));
    let sidecar = setup.start().unwrap();
    let table_of = |name: &str, from: &str, key: &str, ops: Json, agg: Json| {
        let mut ops = ops.as_array().unwrap().clone();
        ops.push(json!({ "op": "group_by", "keys": [key], "agg": agg }));
        json!({ "kind": "derivation", "name": name, "output_kind": "table", "upstreams": [from], "table_primary_key": [key], "ops": ops })
    };
    let count = || json!({ "c": { "op": "count" } });
    let filter = json!([{ "op": "filter", "expr": "n > 0" }]);
    let nodes = json!([
        { "kind": "derivation", "name": "Large", "output_kind": "event", "upstreams": ["Payment"], "ops": filter },
        table_of("by_n", "Payment", "n", json!([]), count()),
        table_of("filtered", "Payment", "card", filter, count()),
        table_of("on_large", "Large", "card", json!([]), count()),
        table_of("sums", "Payment", "card", json!([]), json!({ "c": { "op": "count" }, "s": { "op": "sum", "params": { "field": "n" } } })),
        table_of("clicks", "Click", "card", json!([]), count()),
    ]);
    let answer = sidecar.data_post("/register", &json!({ "nodes": nodes })).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    let push = |sidecar: &Sidecar, event: &str, row: &Json| {
        let answer = sidecar.data_post(&format!("/push/{event}"), row).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
    };
    for _ in 0..3 {
        push(&sidecar, "Payment", &json!({ "card": "c1", "n": 2 }));
        push(&sidecar, "Click", &json!({ "card": "c1" }));
    }
    assert_eq!(sidecar.get("sums", "c1").unwrap(), Some(json!({ "c": 3, "s": 6.0 })));
    sidecar.kill9();

    setup.write_config(&format!("{}{table}", event.replace(", n = \"i64?\"", ""))).unwrap();
    let told = refused(&setup);
    for part in [
        "table by_n, which a client registered, cannot be computed any more (there is no field \"n\" after the chain): it goes with all its keys",
        "derivation Large, which a client registered, cannot be computed any more",
        "feature sums.s, which a client registered, cannot be computed any more",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let flags = flags_of(&told);
    // `check` says the same, and that the flags are enough.
    let (code, talk, _) = checked(&setup, &[]);
    assert!(code == 1 && flags_of(&talk) == flags, "{code}: {talk}");
    let (code, talk, _) = checked(&setup, &flags.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(code, 0, "{talk}");
    let obeying = flags.iter().fold(setup, |setup, flag| setup.with(flag));
    let mut sidecar = obeying.start().unwrap();
    for (n, cleanly) in [(3, false), (4, true), (5, false)] {
        for table in ["own", "sums", "clicks"] {
            assert_eq!(sidecar.get(table, "c1").unwrap(), Some(json!({ "c": n })), "{table}");
        }
        for table in ["by_n", "filtered", "on_large"] {
            assert_eq!(sidecar.data_get(&format!("/tables/{table}/c1")).unwrap().code(), "unknown_table");
        }
        push(&sidecar, "Payment", &json!({ "card": "c1" }));
        push(&sidecar, "Click", &json!({ "card": "c1" }));
        sidecar = again(sidecar, &obeying, cleanly);
    }
}

#[test]
fn a_field_that_a_source_takes_from_elsewhere_is_told_before_its_features_mix() {
    let source = |fields: &str| {
        format!(
            "[sources.pay]\nevent = \"Payment\"\nfields = {fields}\n[sources.pay.kafka]\nbrokers = [\"127.0.0.1:1\"]\ntopic = \"payments\"\n"
        )
    };
    let config = |fields: &str| format!("{EVENT}{}{}", table("card_stats", ""), source(fields));
    let setup = setup(&config("{ note = \"text.note\" }"));
    let push = |sidecar: &Sidecar| {
        wait_for("a push that is taken", Duration::from_secs(30), || {
            let answer = sidecar.data_post("/push/Payment", &json!({ "card": "c1", "amount": 2.0, "note": "x" }))?;
            if answer.status == 200 { Ok(()) } else { Err(answer.text) }
        })
        .unwrap();
    };
    let sidecar = setup.start_bound().unwrap();
    push(&sidecar);
    sidecar.kill9();
    setup.write_config(&config("{ note = \"text.remark\" }")).unwrap();
    let told = refused(&setup);
    for part in [
        "field Payment.note: source pay takes it from text.remark, and took it from text.note before: features card_stats.last, card_stats.noted start again",
        "fields.note = [\"text.remark\", \"text.note\"] in [sources.pay] says that both hold the same value",
        "--rebuild Payment.note",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // With its former place beside it nothing starts again, and the log says what changed.
    setup.write_config(&config("{ note = [\"text.remark\", \"text.note\"] }")).unwrap();
    let sidecar = setup.start_bound().unwrap();
    push(&sidecar);
    assert!(sidecar.log().contains("takes it from text.remark or text.note, and took it from text.note before"), "{}", sidecar.log());
    let row = sidecar.get("card_stats", "c1").unwrap().unwrap();
    assert_eq!((&row["noted"], &row["n"]), (&json!(2), &json!(2)));
}
