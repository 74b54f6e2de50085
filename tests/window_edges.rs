//! A busy key's windows are made of buckets. What is read over HTTP says with `explain=1` between which bounds the
//! answer of all rows is; it is, at any time that is asked about, and `exact` is only said where they are equal.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss, clippy::cast_possible_wrap, reason = "tests")]

use serde_json::{Value as Json, json};
use std::time::SystemTime;
use streamgauge_testing::{Dice, Frame, Raw, Setup, Sidecar};

const BINARY: &str = env!("CARGO_BIN_EXE_streamgauge");

const CONFIG: &str = r#"config_version = 1
[events.Tx]
fields = { card = "str", amount = "f64", shop = "str", at = "datetime" }
time = { field = "at" }
[tables.cards]
from = "Tx"
key = ["card"]
[tables.cards.features]
count = { op = "count", window = "1h" }
fine = { op = "count", window = "1h", resolution = 1024 }
coarse = { op = "count", window = "1h", resolution = 16 }
sum = { op = "sum", field = "amount", window = "1h" }
mean = { op = "mean", field = "amount", window = "1h" }
min = { op = "min", field = "amount", window = "1h" }
max = { op = "max", field = "amount", window = "1h" }
var = { op = "var", field = "amount", window = "1h" }
std = { op = "std", field = "amount", window = "1h" }
share = { op = "ratio", where = "amount > 0", window = "1h" }
shops = { op = "n_unique", field = "shop", window = "1h" }
median = { op = "quantile", field = "amount", q = 0.5, window = "1h" }
top = { op = "top_k", field = "shop", k = 3, window = "1h" }
ever = { op = "count" }
"#;

const HOUR_MS: i64 = 3_600_000;

/// Time, amount, shop.
type Row = (i64, f64, u64);

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// The answer of all rows of the hour up to a time, plainly.
fn answer(rows: &[Row], feature: &str, as_of: i64) -> Json {
    let inside: Vec<&Row> = rows.iter().filter(|row| (0..HOUR_MS).contains(&(as_of - row.0))).collect();
    let mut amounts: Vec<f64> = inside.iter().map(|row| row.1).collect();
    amounts.sort_by(f64::total_cmp);
    let (count, sum) = (amounts.len() as f64, amounts.iter().sum::<f64>());
    let variance = || amounts.iter().map(|amount| (amount - sum / count).powi(2)).sum::<f64>() / (count - 1.0);
    let shop = |shop: u64| inside.iter().filter(|row| row.2 == shop).count();
    match feature {
        "count" | "fine" | "coarse" => json!(inside.len()),
        "ever" => json!(rows.len()),
        "shops" => json!((0..40).filter(|&number| shop(number) > 0).count()),
        "top" => (0..40).map(|number| (format!("s{number}"), json!(shop(number)))).collect(),
        _ if inside.is_empty() => Json::Null,
        "sum" => json!(sum),
        "mean" => json!(sum / count),
        "min" => json!(amounts[0]),
        "max" => json!(amounts[amounts.len() - 1]),
        "share" => json!(amounts.iter().filter(|&&amount| amount > 0.0).count() as f64 / count),
        "median" => json!((amounts[(amounts.len() - 1) / 2] + amounts[amounts.len() / 2]) / 2.0),
        _ if inside.len() < 2 => Json::Null,
        "var" => json!(variance()),
        "std" => json!(variance().sqrt()),
        other => panic!("no answer for {other}"),
    }
}

/// Whether `least <= number <= largest`, each within a rounding; an end that is null is open.
fn within(number: f64, least: &Json, largest: &Json) -> bool {
    let slack = 1e-9 * number.abs().max(1.0);
    least.as_f64().is_none_or(|least| number >= least - slack) && largest.as_f64().is_none_or(|largest| number <= largest + slack)
}

/// Checks what one feature says of itself against the answer; gives whether it said `exact`.
fn check(feature: &str, told: &Json, answer: &Json, value: &Json) -> bool {
    let at = format!("{feature}: {told} and the answer is {answer}");
    assert_eq!(&told["value"], value, "{at}");
    let exact = told["exact"].as_bool().unwrap_or_else(|| panic!("{at}"));
    let bound = if exact { json!([value, value]) } else { told["bound"].clone() };
    if feature == "top" {
        for (place, item) in value.as_array().unwrap().iter().enumerate() {
            let end = |end: usize| if exact { item["count"].clone() } else { bound[end][place].clone() };
            let count = answer[item["value"].as_str().unwrap()].as_f64().unwrap();
            assert!(within(count, &end(0), &end(1)), "{at}");
        }
        return exact;
    }
    for number in [value, answer] {
        match number.as_f64() {
            None => assert!(number.is_null() && (exact || told["nullable"] == true), "{at}"),
            Some(number) => assert!(within(number, &bound[0], &bound[1]), "{at}"),
        }
    }
    if exact {
        assert_eq!(value.is_null(), answer.is_null(), "{at}");
    } else if let Some(error) = told["error"].as_f64() {
        let (value, answer) = (value.as_f64().unwrap(), answer.as_f64().unwrap_or(0.0));
        assert!(answer.abs() < 1e-12 || (value - answer).abs() / answer.abs().max(1.0) <= error + 1e-9, "{at}");
    }
    exact
}

fn push(sidecar: &Sidecar, rows: &[Row]) {
    let data = |&(at, amount, shop): &Row| json!({ "card": "c", "at": at, "amount": amount, "shop": format!("s{shop}") });
    for rows in rows.chunks(500) {
        let events: Vec<Json> = rows.iter().map(|row| json!({ "event": "Tx", "data": data(row) })).collect();
        let pushed = sidecar.data_post("/push-batch", &json!({ "events": events })).unwrap();
        assert_eq!(pushed.status, 200, "{}", pushed.text);
    }
}

#[test]
fn a_busy_keys_bounds_hold_the_answer_at_any_time_that_is_asked_about() {
    let dice = &mut Dice::thrown();
    let setup = Setup::new(BINARY, CONFIG).unwrap();
    let sidecar = setup.start().unwrap();
    let start = now_ms() - 3 * HOUR_MS;
    let mut rows: Vec<Row> = Vec::new();
    for index in 0..3000 {
        // Five minutes without a row every half hour, and now and then a late one.
        let at = start + index * 2_500;
        let pause = (at - start) % (HOUR_MS / 2) < 300_000;
        let late = if dice.between(0, 20) == 0 { dice.between(0, 600_000) as i64 } else { 0 };
        if !pause {
            rows.push((at - late, (dice.between(0, 4000) as f64 - 1000.0) / 4.0, dice.between(0, 39)));
        }
    }
    push(&sidecar, &rows);
    let newest = rows.iter().map(|row| row.0).max().unwrap();
    let (mut exact, mut open) = (0, 0);
    for _ in 0..150 {
        let as_of = newest + dice.between(0, 2 * HOUR_MS as u64) as i64;
        let get = |more: &str| {
            let answer = sidecar.data_get(&format!("/tables/cards/c?as_of={as_of}{more}")).unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text);
            answer.body
        };
        let (plain, told) = (get(""), get("&explain=1"));
        for (feature, told) in told.as_object().unwrap() {
            let said = check(feature, told, &answer(&rows, feature, as_of), &plain[feature]);
            if feature == "ever" {
                assert!(said, "a lifetime has no edges: {told}");
            } else if said {
                exact += 1;
            } else {
                open += 1;
            }
        }
    }
    assert!(exact > 100 && open > 100, "{exact} values were exact, {open} were not");

    // Somewhat before the newest row too: the bucket of that time is cut as well. The framed protocol says the same.
    let mut tcp = Raw::connect(&sidecar.tcp).unwrap();
    for back in [1, 700, 9_000, 30_000] {
        let as_of = newest - back;
        let features = "count,coarse,sum,mean,min,max,shops,median,top";
        let read = sidecar.data_get(&format!("/tables/cards/c?as_of={as_of}&explain=1&features={features}")).unwrap();
        assert_eq!(read.status, 200, "{}", read.text);
        for (feature, told) in read.body.as_object().unwrap() {
            check(feature, told, &answer(&rows, feature, as_of), &told["value"]);
        }
        let features: Vec<&str> = features.split(',').collect();
        let request = json!({ "table": "cards", "key": "c", "as_of": as_of, "explain": true, "features": features });
        tcp.send(&Frame::json(0x0020, &request.to_string()).bytes()).unwrap();
        let frame = tcp.frame().unwrap();
        let body: Json = serde_json::from_slice(&frame.payload).unwrap();
        assert_eq!(body, read.body, "{frame:?}");
    }
}
