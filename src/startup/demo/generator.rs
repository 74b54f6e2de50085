//! Card payments at a steady rate: Avro records with Confluent framing, produced into the demo's topic by a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use streamgauge_api::{ApiError, Code};
use streamgauge_kafka::Producer;

/// The writer schema.
pub(super) const SCHEMA: &str = include_str!("../../../schemas/payment.avsc");

const PER_SECOND: u64 = 20_000;
const SLICE: Duration = Duration::from_millis(5);
const CARDS: u64 = 50_000;
const MERCHANTS: u64 = 500;
const COUNTRIES: [&str; 6] = ["DE", "FR", "US", "JP", "BR", "IN"];

/// The running generator.
pub(super) struct Generator {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Generator {
    /// Starts producing.
    pub(super) fn start(bootstrap: &str, topic: &str, schema_id: u32) -> Result<Self, ApiError> {
        let refused =
            |error: &dyn std::fmt::Display| ApiError::new(Code::InternalError, format!("the demo's generator cannot start: {error}"));
        let mut producer = Producer::new(bootstrap, &[("linger.ms", "5"), ("compression.type", "lz4")]).map_err(|error| refused(&error))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopping, topic) = (Arc::clone(&stop), topic.to_owned());
        let thread = std::thread::Builder::new()
            .name("demo-generator".into())
            .spawn(move || {
                produce(&mut producer, &topic, schema_id, &stopping);
                // What is not delivered when the demo ends is not missed.
                let _delivered = producer.flush(Duration::from_millis(200)).is_ok();
            })
            .map_err(|error| refused(&error))?;
        Ok(Self { stop, thread })
    }

    /// Stops producing.
    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::Release);
        drop(self.thread.join());
    }
}

fn produce(producer: &mut Producer, topic: &str, schema_id: u32, stop: &AtomicBool) {
    let begun = Instant::now();
    let mut sent = 0u64;
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut record = Vec::new();
    let mut key = String::new();
    while !stop.load(Ordering::Acquire) {
        let due = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX) * PER_SECOND / 1000 + 1;
        while sent < due {
            payment(&mut dice, schema_id, &mut record, &mut key);
            if producer.send(topic, None, Some(key.as_bytes()), Some(&record), None, &[]).is_err() {
                return;
            }
            sent += 1;
        }
        producer.poll();
        std::thread::sleep(SLICE);
    }
}

/// A small generator of numbers: the demo needs variety, not chance.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn payment(dice: &mut Dice, schema_id: u32, record: &mut Vec<u8>, key: &mut String) {
    use std::fmt::Write;
    // The product of two draws prefers small numbers: few cards pay often, most rarely.
    let card = dice.below(CARDS) * dice.below(CARDS) / CARDS;
    let merchant = dice.below(MERCHANTS) * dice.below(MERCHANTS) / MERCHANTS;
    key.clear();
    // Writing into a String cannot fail.
    let _written = write!(key, "c-{card:05}").is_ok();
    #[expect(clippy::cast_precision_loss, reason = "cents below 2^53")]
    let amount = (dice.below(20_000) + 1) as f64 / 100.0;
    let country = COUNTRIES[usize::try_from(dice.below(COUNTRIES.len() as u64)).unwrap_or(0)];
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    record.clear();
    record.push(0);
    record.extend_from_slice(&schema_id.to_be_bytes());
    text(record, key);
    text(record, &format!("m-{merchant}"));
    text(record, country);
    record.extend_from_slice(&amount.to_le_bytes());
    long(record, now_ms);
}

/// Avro's zigzag varint.
fn long(record: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while rest >= 0x80 {
        record.push((rest & 0x7F) as u8 | 0x80);
        rest >>= 7;
    }
    record.push(rest as u8);
}

fn text(record: &mut Vec<u8>, text: &str) {
    long(record, i64::try_from(text.len()).unwrap_or(0));
    record.extend_from_slice(text.as_bytes());
}
