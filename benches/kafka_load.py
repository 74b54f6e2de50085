#!/usr/bin/env python3
"""Fills a topic for the Kafka benchmarks, or sends probes at a steady rate. Driven by benches/run, in the venv of the tests.

    kafka_load.py fill  --bootstrap B --topic T [--registry URL] --events 8000000 --users 200000 --out FILE
    kafka_load.py probe --bootstrap B --topic T --events 20000 --rate 1000 --out FILE

fill: events of eight fields, users by a zipf law with exponent 0.99, lz4, two events in a hundred up to 5 s late, Avro where a registry is named, else JSON.
FILE gets {"events","bytes_per_event","counts":{user: n}}. probe: {"user":"probe","id":first + i}; FILE gets {"sent":[ns since the epoch of event i]}.
"""

import argparse
import io
import json
import multiprocessing
import random
import sys
import time
from collections import Counter
from itertools import accumulate

from confluent_kafka import Producer
from fastavro import parse_schema, schemaless_writer

SCHEMA = {
    "type": "record", "name": "Txn", "namespace": "bench",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "user", "type": "string"},
        {"name": "amount", "type": "double"},
        {"name": "merchant", "type": "string"},
        {"name": "country", "type": "string"},
        {"name": "device_id", "type": "string"},
        {"name": "sales_channel", "type": ["null", "string"]},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}
COUNTRIES = ["de", "fr", "es", "it", "pl", "nl", "at", "be", "pt", "se"]
EVENTS_PER_MS = 4
CHUNK = 10_000


def producer_to(given, **more):
    return Producer({"bootstrap.servers": given.bootstrap, "log_level": 0, "delivery.report.only.error": True, "message.timeout.ms": 120000,
                     "queue.buffering.max.messages": 500000, "reconnect.backoff.max.ms": 500, **more})


def flushed(producer):
    if producer.flush(180):
        sys.exit("kafka_load: records were not delivered within 180 s")


def fill_part(given, worker, workers, schema_id, base_ms):
    """Events worker, worker + workers, ... of the whole."""
    dice = random.Random(given.seed * 1000 + worker)
    weights = list(accumulate((rank + 1) ** -0.99 for rank in range(given.users)))
    users = [f"u{rank:06d}" for rank in range(given.users)]
    merchants = [f"merchant-{m:04d}" for m in range(2000)]
    devices = [f"device-fp-{d:05d}" for d in range(5000)]
    schema, framing = parse_schema(SCHEMA), b"\0" + schema_id.to_bytes(4, "big")
    producer = producer_to(given, **{"compression.type": "lz4", "linger.ms": 100, "batch.size": 524288})
    counts, size = Counter(), 0
    for begin in range(worker, given.events, workers * CHUNK):
        numbers = range(begin, min(begin + workers * CHUNK, given.events), workers)
        chosen = dice.choices(range(given.users), cum_weights=weights, k=len(numbers))
        counts.update(chosen)
        for i, user in zip(numbers, chosen):
            throw = dice.random()
            late_ms = int(throw * 250_000) if throw < 0.02 else 0
            event = {"id": i, "user": users[user], "amount": throw * 1000, "merchant": merchants[int(throw * 1e7) % 2000],
                     "country": COUNTRIES[i % 10], "device_id": devices[int(throw * 1e9) % 5000], "sales_channel": "web" if i & 1 else None,
                     "ts": base_ms + i // EVENTS_PER_MS - late_ms}
            if schema_id:
                out = io.BytesIO()
                out.write(framing)
                schemaless_writer(out, schema, event)
                value = out.getvalue()
            else:
                value = json.dumps(event, separators=(",", ":")).encode()
            size += len(value)
            while True:
                try:
                    producer.produce(given.topic, value, partition=i % given.partitions, timestamp=event["ts"])
                    break
                except BufferError:
                    producer.poll(0.05)
        producer.poll(0)
    flushed(producer)
    return counts, size


def fill(given):
    schema_id = 0
    if given.registry:
        # Imported here: it pulls in an HTTP stack that JSON runs do without.
        from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

        schema_id = SchemaRegistryClient({"url": given.registry}).register_schema(f"{given.topic}-value", Schema(json.dumps(SCHEMA), "AVRO"))
    workers = min(2, multiprocessing.cpu_count())
    base_ms = int(time.time() * 1000) - given.events // EVENTS_PER_MS - 10_000
    with multiprocessing.Pool(workers) as pool:
        parts = pool.starmap(fill_part, [(given, worker, workers, schema_id, base_ms) for worker in range(workers)])
    counts = sum((part[0] for part in parts), Counter())
    return {"events": given.events, "bytes_per_event": round(sum(part[1] for part in parts) / given.events, 1),
            "counts": {f"u{user:06d}": n for user, n in counts.items()}}


def probe(given):
    producer = producer_to(given, **{"linger.ms": 0})
    sent, begun = [], time.perf_counter()
    for i in range(given.events):
        due = begun + i / given.rate
        while (left := due - time.perf_counter()) > 0:
            time.sleep(min(left, 0.0005))
        sent.append(time.time_ns())
        producer.produce(given.topic, json.dumps({"user": "probe", "id": given.first + i}).encode(), partition=i % given.partitions)
        producer.poll(0)
    flushed(producer)
    return {"sent": sent}


def main():
    parser = argparse.ArgumentParser(description="fills a topic, or probes it")
    parser.add_argument("act", choices=["fill", "probe"])
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--registry", default="")
    parser.add_argument("--events", type=int, default=8_000_000)
    parser.add_argument("--first", type=int, default=0, help="id of the first probe")
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", required=True)
    given = parser.parse_args()
    answer = fill(given) if given.act == "fill" else probe(given)
    with open(given.out, "w", encoding="utf-8") as out:
        json.dump(answer, out)


if __name__ == "__main__":
    main()
