//! The benchmark pipelines and their events, encoded before the clock starts.
//!
//! Values as in the peer's own generator: keys `k%08d` by a zipf law (or each once), amounts uniform in `[0, 1000)`, a thousand merchants. A [`Belt`] holds
//! whole requests back to back, so that any run of them is one slice to write.

use clap::ValueEnum;
use serde_json::{Value as Json, json};
use streamgauge_testing::{Dice, Frame, Outcome};

const PUSH: u16 = 0x0010;
const MERCHANTS: u64 = 1000;

/// What is registered and pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Pipeline {
    /// One lifetime count per user.
    Small,
    /// Seven windowed features per user.
    Fraud6,
}

/// How a request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Framed TCP, MessagePack.
    Msgpack,
    /// Framed TCP, JSON.
    Json,
    /// HTTP/1.1 with a JSON body.
    Http,
}

impl Pipeline {
    /// Register JSON, as the SDK would send it.
    pub fn register(self) -> Json {
        let aggregates = match self {
            Self::Small => json!({ "cnt": { "op": "count", "params": {} } }),
            Self::Fraud6 => json!({
                "cnt_1m": { "op": "count", "params": { "window": "1m" } },
                "cnt_1h": { "op": "count", "params": { "window": "1h" } },
                "cnt_24h": { "op": "count", "params": { "window": "24h" } },
                "sum_1h": { "op": "sum", "params": { "field": "amount", "window": "1h" } },
                "max_24h": { "op": "max", "params": { "field": "amount", "window": "24h" } },
                "uniq_merch_24h": { "op": "n_unique", "params": { "field": "merchant_id", "window": "24h" } },
                "p95_1h": { "op": "quantile", "params": { "field": "amount", "q": 0.95, "window": "1h" } },
            }),
        };
        let mut fields = json!({ "event_time": "i64", "user_id": "str", "amount": "f64" });
        if self == Self::Fraud6 {
            fields["merchant_id"] = json!("str");
        }
        json!({ "nodes": [
            { "kind": "event", "name": "Txn", "schema": { "fields": fields, "optional_fields": [] } },
            { "kind": "derivation", "name": "TxnAgg", "output_kind": "table", "upstreams": ["Txn"], "table_primary_key": ["user_id"],
              "ops": [{ "op": "group_by", "keys": ["user_id"], "agg": aggregates }], "schema": { "fields": { "user_id": "str" }, "optional_fields": [] } },
        ] })
    }
}

/// Which key each event has.
#[derive(Debug)]
pub enum Keys {
    /// Zipf law with exponent 1 by its cumulative weights.
    Zipf(Vec<f64>),
    /// 0, 1, 2, ...: each key once.
    Each,
}

impl Keys {
    /// Zipf with exponent 1 over this many keys; the exponent of the standard load.
    pub fn zipf(keys: u64) -> Self {
        let mut sum = 0.0;
        #[expect(clippy::cast_precision_loss, reason = "far fewer keys than 2^53")]
        Self::Zipf(
            (1..=keys)
                .map(|rank| {
                    sum += 1.0 / rank as f64;
                    sum
                })
                .collect(),
        )
    }

    /// The key of event `number`.
    pub fn pick(&self, number: u64, dice: &mut Dice) -> u64 {
        match self {
            Self::Each => number,
            Self::Zipf(weights) => {
                let at = unit(dice) * weights.last().copied().unwrap_or_default();
                weights.partition_point(|weight| *weight <= at) as u64
            }
        }
    }
}

/// Uniform in `[0, 1)`.
pub fn unit(dice: &mut Dice) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "53 bits")]
    let fraction = (dice.bits() >> 11) as f64 / (1_u64 << 53) as f64;
    fraction
}

/// Requests back to back.
#[derive(Debug, Default)]
pub struct Belt {
    bytes: Vec<u8>,
    /// Where each request ends.
    ends: Vec<usize>,
}

impl Belt {
    /// Encodes `count` events from number `first` on.
    ///
    /// # Errors
    /// The MessagePack writer refused, which writing to memory never does.
    pub fn encode(pipeline: Pipeline, form: Form, keys: &Keys, first: u64, count: u64) -> Outcome<Self> {
        let mut dice = Dice::seeded(0xCAFE_BABE + first);
        let mut belt = Self::default();
        for number in first..first + count {
            let key = format!("k{:08}", keys.pick(number, &mut dice));
            let amount = unit(&mut dice) * 1000.0;
            let merchant = (pipeline == Pipeline::Fraud6).then(|| format!("s{}", dice.between(0, MERCHANTS)));
            let request = match form {
                Form::Msgpack => packed(number, &key, amount, merchant.as_deref()).map_err(|error| error.to_string())?,
                Form::Json => {
                    Frame::json(PUSH, &json!({ "event": "Txn", "body": row(number, &key, amount, merchant) }).to_string()).bytes()
                }
                Form::Http => {
                    let body = row(number, &key, amount, merchant).to_string();
                    format!("POST /push/Txn HTTP/1.1\r\nHost: bench\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
                }
            };
            belt.bytes.extend_from_slice(&request);
            belt.ends.push(belt.bytes.len());
        }
        Ok(belt)
    }

    /// Number of requests.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of requests `from..to`.
    pub fn slice(&self, from: usize, to: usize) -> &[u8] {
        let edge = |request: usize| request.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or_default();
        self.bytes.get(edge(from)..edge(to)).unwrap_or_default()
    }
}

fn row(number: u64, key: &str, amount: f64, merchant: Option<String>) -> Json {
    let mut row = json!({ "event_time": number, "user_id": key, "amount": amount });
    if let Some(merchant) = merchant {
        row["merchant_id"] = json!(merchant);
    }
    row
}

fn packed(number: u64, key: &str, amount: f64, merchant: Option<&str>) -> Result<Vec<u8>, rmp::encode::ValueWriteError> {
    use rmp::encode::{write_f64, write_map_len, write_str, write_uint};
    let mut payload = Vec::with_capacity(96);
    write_map_len(&mut payload, 2)?;
    write_str(&mut payload, "event")?;
    write_str(&mut payload, "Txn")?;
    write_str(&mut payload, "body")?;
    write_map_len(&mut payload, 3 + u32::from(merchant.is_some()))?;
    write_str(&mut payload, "event_time")?;
    write_uint(&mut payload, number)?;
    write_str(&mut payload, "user_id")?;
    write_str(&mut payload, key)?;
    write_str(&mut payload, "amount")?;
    write_f64(&mut payload, amount)?;
    if let Some(merchant) = merchant {
        write_str(&mut payload, "merchant_id")?;
        write_str(&mut payload, merchant)?;
    }
    Ok(Frame { op: PUSH, content_type: 2, payload }.bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_belt_cuts_at_request_edges() {
        for form in [Form::Msgpack, Form::Json, Form::Http] {
            let belt = Belt::encode(Pipeline::Fraud6, form, &Keys::Each, 0, 50).unwrap();
            let pieces: Vec<u8> = (0..50).flat_map(|i| belt.slice(i, i + 1).to_vec()).collect();
            assert_eq!(pieces, belt.slice(0, belt.len()));
            assert!(belt.slice(7, 8).windows(9).any(|window| window == b"k00000007"));
        }
    }

    #[test]
    fn zipf_keys_follow_their_law() {
        let (keys, mut dice) = (Keys::zipf(1000), Dice::seeded(1));
        let mut counts = vec![0_u32; 1000];
        for number in 0..200_000 {
            counts[usize::try_from(keys.pick(number, &mut dice)).unwrap()] += 1;
        }
        // Harmonic number of 1000 is 7.485: rank 1 holds 13.4 %, rank 10 a tenth of that.
        assert!((f64::from(counts[0]) / 200_000.0 - 0.1336).abs() < 0.005, "{}", counts[0]);
        assert!((f64::from(counts[9]) / 200_000.0 - 0.01336).abs() < 0.002, "{}", counts[9]);
    }
}
