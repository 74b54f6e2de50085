//! `demo`: an in-process Kafka broker and schema registry, a generator of card payments, and the server beside them. Nothing is needed and nothing is left behind.
//!
//! The server reads the demo's topic exactly as it would read a real one: Avro with Confluent framing, writer schema from the registry, exactly once into a WAL in a
//! temporary folder. A folder that a killed demo left is removed by the next one.

mod generator;
mod registry;
mod sweep;

use super::logging;
use super::plan::{client_rules, server_options};
use super::server::{Bound, Server};
use crate::apply::end_process_on_panic;
use crate::cli::{Console, DemoArgs, Exit, Failure};
use crate::config::{Config, Flags, Outside};
use generator::Generator;
use registry::DemoRegistry;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use streamgauge_api::port::{KeyText, Read, ReadOptions};
use streamgauge_api::{ApiError, Code, Control};
use streamgauge_kafka::MockKafka;

const TOPIC: &str = "payments";
const PARTITIONS: i32 = 4;
const CONFIG: &str = include_str!("../../config/demo.toml");
/// The first value is promised within 3 s; without one after this long the demo says what it knows and ends.
const FIRST_VALUE: Duration = Duration::from_secs(20);
/// A port that is taken is replaced by a free one.
const PORTS: [(&str, u16); 3] = [("http", 8080), ("tcp", 8081), ("admin", 8090)];

/// Runs until Ctrl-C, or until the first value with `--exit-after-first-read`.
///
/// # Errors
/// What the parts refuse.
pub fn demo(args: &DemoArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let begun = Instant::now();
    logging::start("warn", logging::Format::Auto);
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(Failure::Output)?;
    sweep::sweep();
    let folder = sweep::DemoFolder::create().map_err(Failure::Output)?;
    let kafka = MockKafka::start(&[(TOPIC, PARTITIONS)])?;
    let registry = DemoRegistry::start(generator::SCHEMA).map_err(Failure::Output)?;
    let generator = Generator::start(kafka.bootstrap(), TOPIC, registry.schema_id())?;
    end_process_on_panic(None);
    let server = serve(&folder, kafka.bootstrap(), &registry.url())?;
    let row = first_value(&server, begun)?;
    let took = begun.elapsed();
    tell(&server, &row, took, args.json, console)?;
    if !args.exit_after_first_read {
        while signals.pending().next().is_none() && !server.log_failed() {
            std::thread::sleep(Duration::from_millis(100));
        }
        console.talk("stopping")?;
    }
    generator.stop();
    server.stop(Duration::from_secs(5))?;
    drop((registry, kafka, folder));
    Ok(Exit::Ok)
}

fn serve(folder: &sweep::DemoFolder, bootstrap: &str, registry: &str) -> Result<Server, ApiError> {
    let text = CONFIG.replace("BROKERS", bootstrap).replace("http://REGISTRY", registry);
    let [http, tcp, admin] = PORTS.map(|(_, port)| free_address(port));
    let flags = Flags { http: Some(http), tcp: Some(tcp), admin: Some(admin), data_dir: Some(folder.data()), ..Flags::default() };
    let nothing = |_: &str| None;
    let outside = Outside { env: &nothing, names: &Vec::new, client: client_rules() };
    let config = Config::parse(&text, None, &flags, &outside).map_err(|problems| problems.to_error())?;
    Bound::bind(server_options(&config, Vec::new())?)?.start()
}

/// The usual port when it is free, else any.
fn free_address(port: u16) -> SocketAddr {
    let usual = SocketAddr::from(([127, 0, 0, 1], port));
    if std::net::TcpListener::bind(usual).is_ok() { usual } else { SocketAddr::from(([127, 0, 0, 1], 0)) }
}

/// Waits for the first card that has a row.
fn first_value(server: &Server, begun: Instant) -> Result<(String, String), ApiError> {
    let control = server.control();
    while begun.elapsed() < FIRST_VALUE {
        if let Some(found) = any_row(&*control) {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(ApiError::new(Code::Overloaded, "the demo saw no value in time; look at the log above"))
}

fn any_row(control: &dyn Control) -> Option<(String, String)> {
    let page = control.keys("card_stats", None, 1).ok()?;
    let key = page.keys.first()?.as_str()?.to_owned();
    let read = Read { table: "card_stats".to_owned(), key: KeyText::Text(key.clone()), options: ReadOptions::default() };
    let (row, _) = control.get(&read).ok()?;
    let values: Vec<String> = row.names.iter().zip(&row.values).map(|(name, value)| format!("{name:?}:{}", value.to_json())).collect();
    row.present.then(|| (key, format!("{{{}}}", values.join(","))))
}

fn tell(server: &Server, row: &(String, String), took: Duration, json: bool, console: &mut Console<'_>) -> Result<(), Failure> {
    let address = |address: Option<SocketAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    let (http, tcp, admin) = (address(server.http()), address(server.tcp()), address(server.admin()));
    let (key, value) = row;
    if json {
        let value: serde_json::Value = serde_json::from_str(value).unwrap_or_default();
        console.document(&serde_json::json!({
            "first_value_s": took.as_secs_f64(), "http": http, "tcp": tcp, "admin": admin, "table": "card_stats", "key": key, "row": value,
        }))?;
        return Ok(());
    }
    let lines = [
        format!("first value after {:.2} s: card_stats/{key} = {value}", took.as_secs_f64()),
        String::new(),
        "20,000 card payments per second go through an in-process Kafka topic (Avro, 4 partitions) into two tables. Try:".to_owned(),
        String::new(),
        format!("  curl http://{http}/tables/card_stats/{key}"),
        format!("  curl -i 'http://{http}/tables/card_stats/{key}?features=n_1m,sum_1h&max_staleness=2s'"),
        format!("  curl 'http://{admin}/tables/card_stats/keys?limit=5'"),
        format!("  curl http://{admin}/sources"),
        format!("  streamgauge lag --admin http://{admin}"),
        String::new(),
        format!("  python3 -c 'import urllib.request as u; print(u.urlopen(\"http://{http}/tables/merchant_stats/m-1\").read().decode())'"),
        format!(
            "  python3 -c 'import beava as bv; app = bv.App(\"tcp://{tcp}\"); print(app.get(\"card_stats\", \"{key}\"))'   # pip install beava==0.0.6"
        ),
        String::new(),
        "Ctrl-C stops it; nothing is left behind.".to_owned(),
    ];
    for line in &lines {
        console.line(line)?;
    }
    Ok(())
}
