//! What decoding costs per record, into rows, beside serde_json and apache-avro on the same bytes.
//!
//! `cargo bench --bench decode`. One iteration is one record of 12 fields (79 B Avro, about 200 B JSON); batches are packed every 4,096 rows, which is in the figure.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark stops at its first fault")]

use apache_avro::types::Value;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use streamgauge::decode::{Decoder, FieldSource, Format, Framing, KeyFormat, PushDecoder, SourceFormat, Tombstone};
use streamgauge::row::{EventId, EventSchema, Field, FieldIndex, FieldType, RowClock, RowsBuilder, Strictness, TimeSource};
use streamgauge_api::inlet::FetchedSchema;
use streamgauge_api::{RawRecord, Slot};

const AVSC: &str = r#"{"type":"record","name":"Payment","fields":[
  {"name":"id","type":"long"},{"name":"card","type":"string"},{"name":"amount","type":"double"},{"name":"currency","type":"string"},
  {"name":"country","type":["null","string"]},{"name":"merchant","type":"string"},{"name":"mcc","type":"long"},{"name":"ts","type":"long"},
  {"name":"fee","type":["null","double"]},{"name":"device","type":"string"},{"name":"score","type":"double"},{"name":"channel","type":"string"}]}"#;

const FIELDS: [(&str, FieldType); 12] = [
    ("id", FieldType::I64),
    ("card", FieldType::Str),
    ("amount", FieldType::F64),
    ("currency", FieldType::Str),
    ("country", FieldType::Str),
    ("merchant", FieldType::Str),
    ("mcc", FieldType::I64),
    ("ts", FieldType::I64),
    ("fee", FieldType::F64),
    ("device", FieldType::Str),
    ("score", FieldType::F64),
    ("channel", FieldType::Str),
];

fn event(names: &[&str]) -> Arc<EventSchema> {
    let fields = FIELDS
        .iter()
        .filter(|(name, _)| names.is_empty() || names.contains(name))
        .map(|&(name, kind)| Field { name: name.into(), kind, optional: true })
        .collect();
    Arc::new(EventSchema {
        id: EventId(1),
        version: 1,
        name: "Payment".into(),
        fields,
        time: TimeSource::Record,
        max_future_us: 3_600_000_000,
        cold_after_us: None,
        dedupe: None,
    })
}

fn json_records() -> Vec<Vec<u8>> {
    (0..512u64)
        .map(|n| {
            format!(
                r#"{{"id":{},"card":"card-{:08}","amount":{}.{:02},"currency":"EUR","country":"{}","merchant":"m{:05}","mcc":{},"ts":{},"fee":0.35,"device":"d-{}","score":0.{:06},"channel":"web"}}"#,
                1_000_000 + n, n * 7919 % 100_000, n % 900, n % 100, ["DE", "FR", "NL"][n as usize % 3], n * 31 % 1000, 5000 + n % 999,
                1_700_000_000_000u64 + n, n * 13 % 4000, n * 7907 % 1_000_000
            )
            .into_bytes()
        })
        .collect()
}

fn avro_records(schema: &apache_avro::Schema) -> Vec<Vec<u8>> {
    (0..512i64)
        .map(|n| {
            let text = |text: String| Value::String(text);
            let value = Value::Record(vec![
                ("id".into(), Value::Long(1_000_000 + n)),
                ("card".into(), text(format!("card-{:08}", n * 7919 % 100_000))),
                ("amount".into(), Value::Double(n as f64 * 1.25)),
                ("currency".into(), text("EUR".into())),
                ("country".into(), Value::Union(1, Box::new(text("DE".into())))),
                ("merchant".into(), text(format!("m{:05}", n * 31 % 1000))),
                ("mcc".into(), Value::Long(5000 + n % 999)),
                ("ts".into(), Value::Long(1_700_000_000_000 + n)),
                ("fee".into(), Value::Union(0, Box::new(Value::Null))),
                ("device".into(), text(format!("d-{}", n * 13 % 4000))),
                ("score".into(), Value::Double(0.5)),
                ("channel".into(), text("web".into())),
            ]);
            let mut framed = vec![0, 0, 0, 0, 7];
            framed.extend(
                apache_avro::writer::datum::GenericDatumWriter::builder(schema).build().unwrap().write_value_to_vec(value).unwrap(),
            );
            framed
        })
        .collect()
}

fn decoder(format: Format, names: &[&str], headers: bool) -> (Decoder, RowsBuilder) {
    let schema = event(names);
    let mut decoder = Decoder::new(
        Arc::clone(&schema),
        &SourceFormat {
            format,
            framing: if format == Format::Avro { Framing::Confluent } else { Framing::None },
            fields: if headers { vec![(names[0].into(), FieldSource::Key)] } else { Vec::new() },
            readings: Vec::new(),
            tombstone: Tombstone::Reject,
            key_format: KeyFormat::Raw,
            schema: None,
            message: None,
            csv: streamgauge::decode::CsvLines::default(),
            mode: streamgauge::decode::DebeziumMode::default(),
        },
    )
    .unwrap();
    let fetched = FetchedSchema { registry: "r".into(), id: 7.into(), kind: "AVRO".into(), text: AVSC.into(), references: Vec::new() };
    decoder.add_schema(7.into(), &fetched).unwrap();
    (decoder, RowsBuilder::new(schema, Strictness::Record))
}

fn run(criterion: &mut Criterion, name: &str, format: Format, names: &[&str], records: &[Vec<u8>]) {
    let (mut decoder, mut rows) = decoder(format, names, false);
    let mut at = 0usize;
    criterion.bench_function(name, |bencher| {
        bencher.iter(|| {
            let value = &records[at % records.len()];
            let record = RawRecord {
                slot: Slot(0),
                offset: at as i64,
                epoch: 0,
                timestamp_ms: 1_700_000_000_000,
                key: None,
                value: Some(value),
                headers: None,
            };
            at += 1;
            decoder.decode(&record, "payments", 3, RowClock::at(1_800_000_000_000_000), &mut rows, 0).unwrap();
            if rows.len() == 4096 {
                black_box(rows.finish());
            }
        });
    });
}

fn decode(criterion: &mut Criterion) {
    let json = json_records();
    let schema = apache_avro::Schema::parse_str(AVSC).unwrap();
    let avro = avro_records(&schema);
    eprintln!("json {} B, avro {} B", json[0].len(), avro[0].len());
    run(criterion, "json/2 of 12 fields", Format::Json, &["card", "amount"], &json);
    run(criterion, "json/12 of 12 fields", Format::Json, &[], &json);
    run(criterion, "avro/2 of 12 fields", Format::Avro, &["card", "amount"], &avro);
    run(criterion, "avro/12 of 12 fields", Format::Avro, &[], &avro);
    let (mut pushes, mut rows) = (PushDecoder::new(&event(&[]), true), RowsBuilder::new(event(&[]), Strictness::Push));
    let mut at = 0;
    criterion.bench_function("json/push of 12 fields", |bencher| {
        bencher.iter(|| {
            at += 1;
            pushes.push_json(&json[at % json.len()], &mut rows, 0).unwrap();
            if rows.len() == 4096 {
                black_box(rows.finish());
            }
        });
    });
    criterion.bench_function("peer/serde_json ignores the record", |bencher| {
        bencher.iter(|| {
            at += 1;
            serde_json::from_slice::<serde::de::IgnoredAny>(black_box(&json[at % json.len()])).unwrap()
        });
    });
    let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().unwrap();
    criterion.bench_function("peer/apache-avro value", |bencher| {
        bencher.iter(|| {
            at += 1;
            reader.read_value(&mut &avro[at % avro.len()][5..]).unwrap()
        });
    });
    let mut group = criterion.benchmark_group("rows");
    group.throughput(Throughput::Elements(1));
    let mut rows = RowsBuilder::new(event(&[]), Strictness::Record);
    group.bench_function("begin and commit of 12 fields", |bencher| {
        bencher.iter(|| {
            rows.begin();
            for field in 0..12 {
                rows.null(FieldIndex(field));
            }
            at += 1;
            rows.commit(0, Some((0, at as i64)), false).unwrap();
            if rows.len() == 4096 {
                black_box(rows.finish());
            }
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(std::time::Duration::from_millis(300)).measurement_time(std::time::Duration::from_secs(1)).sample_size(30);
    targets = decode
}
criterion_main!(benches);
