#!/usr/bin/env python3
"""Writes card payments into a topic with a client that is not ours, and the answers a table over them must give.

The oracle is computed from the input while it is made, by plain loops that know nothing of the product. Runs as a child of tests/support, or by hand:

    produce.py --bootstrap B --registry URL --topic T --records 2000000 --oracle /tmp/oracle.json

Avro values carry Confluent's framing; two writer schemas are mixed half and half (reordered fields, a promoted integer, the other union order, one field
more, an array to skip). Amounts are multiples of 0.25 and so exact in any order of addition; times are distinct, and out of order within 512 ms.

stdout: one JSON line when everything is delivered: {"records","seconds","ends":{partition: log end}}. With --open a second one after "commit" or "abort" was
read from stdin. Exit 1 when a record was not delivered.

Record i: key k = card, partition i mod P. --transactions writes chunks of 100 to 1,000 records, three in ten aborted, the last one always; aborted records
are not in the oracle.
"""

import argparse
import io
import json
import random
import sys
import threading
import time

from confluent_kafka import IsolationLevel, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from fastavro import parse_schema, schemaless_writer

EARLIER = {
    "type": "record", "name": "Payment", "namespace": "bank",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "card", "type": "string"},
        {"name": "amount", "type": "double"},
        {"name": "items", "type": "int"},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "country", "type": ["null", "string"]},
    ],
}
LATER = {
    "type": "record", "name": "Payment", "namespace": "bank",
    "fields": [
        {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "amount", "type": "double"},
        {"name": "merchant", "type": "string", "default": ""},
        {"name": "country", "type": ["string", "null"]},
        {"name": "items", "type": "long"},
        {"name": "card", "type": "string"},
        {"name": "id", "type": "long"},
    ],
}
COUNTRIES = [None, "de", "fr", "es", "it", "pl", "nl", "at"]
LARGE_AMOUNT = 500.0
TAGS = ["a", "bb"]
REGIONS = 5
OPEN_RECORDS = 100
FLUSH_SECONDS_MAX = 180


class Oracle:
    """Per key: count, sum, min and max of amount, sum of items, how many were large, first country and last id by time."""

    def __init__(self):
        self.rows = {}
        self.regions = {}

    def add(self, record, region):
        row = self.rows.get(record["card"])
        amount, ts = record["amount"], record["ts"]
        if row is None:
            row = self.rows[record["card"]] = [0, 0.0, amount, amount, 0, 0, None, None, None, None]
        row[0] += 1
        row[1] += amount
        if amount < row[2]:
            row[2] = amount
        if amount > row[3]:
            row[3] = amount
        row[4] += record["items"]
        if amount > LARGE_AMOUNT:
            row[5] += 1
        country = record["country"]
        if country is not None and (row[6] is None or ts < row[6]):
            row[6], row[7] = ts, country
        if row[8] is None or ts > row[8]:
            row[8], row[9] = ts, record["id"]
        self.regions[region] = self.regions.get(region, 0) + 1

    def to_json(self):
        names = ("n", "total", "smallest", "largest", "items", "large", None, "first_country", None, "last_id")
        table = {key: {name: value for name, value in zip(names, row) if name} for key, row in self.rows.items()}
        return {"table": table, "regions": self.regions}


class Encoder:
    """Values as the topic carries them."""

    def __init__(self, given):
        self.given = given
        self.schemas = []
        if given.format == "avro":
            # Imported here: it pulls in an HTTP stack that JSON runs do without.
            from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

            client = SchemaRegistryClient({"url": given.registry})
            for schema in (EARLIER, LATER):
                number = client.register_schema(f"{given.topic}-value", Schema(json.dumps(schema), "AVRO"))
                self.schemas.append((b"\0" + number.to_bytes(4, "big"), parse_schema(schema)))

    def encode(self, record, i):
        if not self.schemas:
            return json.dumps(record, separators=(",", ":")).encode()
        framing, schema = self.schemas[(i >> 1) & 1]
        out = io.BytesIO()
        out.write(framing)
        schemaless_writer(out, schema, record)
        return out.getvalue()


class Payments:
    """Records by number; the dice are thrown in the same order for every format. Low keys are the frequent ones."""

    def __init__(self, given, seed):
        self.dice = random.Random(seed).random
        self.base_ms = given.base_ms
        self.cards = [f"k{k:06d}" for k in range(given.keys)]
        self.merchants = [f"m{m}" for m in range(1000)]

    def record(self, i):
        dice = self.dice
        return {
            "id": i,
            "card": self.cards[int(len(self.cards) * dice() ** 3)],
            "amount": int(dice() * 4000) / 4,
            "items": int(dice() * 9) + 1,
            "ts": self.base_ms + (i ^ 0x155),
            "country": COUNTRIES[int(dice() * len(COUNTRIES))],
            "merchant": self.merchants[i % 1000],
            "tags": TAGS if i & 8 else [],
        }


class Writer:
    """A producer that bounds its queue, counts what was not delivered and keeps a rate."""

    def __init__(self, given, settings):
        self.given = given
        self.failed = 0
        self.encoder = Encoder(given)
        self.producer = Producer({
            "bootstrap.servers": given.bootstrap, "compression.type": "lz4", "linger.ms": 5 if given.rate else 50, "batch.size": 262144,
            "acks": "all", "enable.idempotence": True, "message.timeout.ms": 150000, "delivery.report.only.error": True, "log_level": 0,
            "queue.buffering.max.messages": 200000, "queue.buffering.max.kbytes": 262144, "reconnect.backoff.max.ms": 500, **settings})
        self.started = time.monotonic()

    def on_delivery(self, error, _message):
        if error is not None:
            self.failed += 1
            print(f"produce: {error}", file=sys.stderr)

    def write(self, record, i):
        value = self.encoder.encode(record, i)
        headers = [("region", f"r{i % REGIONS}".encode())] if self.given.headers else []
        while True:
            try:
                self.producer.produce(self.given.topic, value, record["card"].encode(), i % self.given.partitions, self.on_delivery,
                                      timestamp=record["ts"], headers=headers)
                return
            except BufferError:
                self.producer.poll(0.05)

    def pace(self, written):
        self.producer.poll(0)
        # poll() comes back early whenever there is news, so it cannot be what waits.
        while self.given.rate and (ahead := written / self.given.rate - (time.monotonic() - self.started)) > 0:
            time.sleep(min(ahead, 0.05))

    def finish(self):
        if self.producer.flush(FLUSH_SECONDS_MAX) or self.failed:
            sys.exit(f"produce: {self.failed} records failed, {len(self.producer)} are still queued after {FLUSH_SECONDS_MAX} s")


def write_plain(given, oracle):
    payments = Payments(given, given.seed)
    writer = Writer(given, {})
    enough = threading.Event()
    if given.until_enough:
        threading.Thread(target=lambda: (sys.stdin.readline(), enough.set()), daemon=True).start()
    written = given.records
    for i in range(given.first, given.first + given.records):
        record = payments.record(i)
        writer.write(record, i)
        oracle.add(record, f"r{i % REGIONS}")
        if i & 0xFF == 0:
            writer.pace(i - given.first)
            if enough.is_set():
                written = i + 1 - given.first
                break
    writer.finish()
    given.records = written


def write_transactions(given, oracle):
    payments, coins = Payments(given, given.seed), random.Random(given.seed + 1)
    writer = Writer(given, {"transactional.id": f"{given.topic}-mixed", "transaction.timeout.ms": 600000})
    writer.producer.init_transactions(60)
    i, end = given.first, given.first + given.records
    while i < end:
        size = min(coins.randint(100, 1000), end - i)
        # The tail is aborted, so the log ends in records and a marker that nobody is given.
        aborted = i + size == end or coins.random() < 0.3
        writer.producer.begin_transaction()
        for n in range(i, i + size):
            record = payments.record(n)
            writer.write(record, n)
            if not aborted:
                oracle.add(record, f"r{n % REGIONS}")
        if aborted:
            writer.producer.flush(FLUSH_SECONDS_MAX)
            writer.producer.abort_transaction(60)
        else:
            writer.producer.commit_transaction(60)
        i += size
        writer.pace(i - given.first)


def open_transaction(given):
    """Leaves a transaction open with its records delivered; gives what closes it."""
    payments = Payments(given, given.seed + 2)
    writer = Writer(given, {"transactional.id": f"{given.topic}-open", "transaction.timeout.ms": 600000})
    writer.producer.init_transactions(60)
    writer.producer.begin_transaction()
    records = [payments.record(i) for i in range(given.first + given.records, given.first + given.records + OPEN_RECORDS)]
    for record in records:
        writer.write(record, record["id"])
    writer.finish()
    return writer, records


def ends_of(given):
    admin = AdminClient({"bootstrap.servers": given.bootstrap, "log_level": 0})
    asked = {TopicPartition(given.topic, p): OffsetSpec.latest() for p in range(given.partitions)}
    found = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_UNCOMMITTED)
    return {str(tp.partition): future.result(timeout=30).offset for tp, future in found.items()}


def report(given, oracle, since):
    if given.oracle:
        with open(given.oracle, "w", encoding="utf-8") as out:
            json.dump(oracle.to_json(), out)
    print(json.dumps({"records": given.records, "seconds": round(time.monotonic() - since, 3), "ends": ends_of(given)}), flush=True)


def arguments():
    parser = argparse.ArgumentParser(description="card payments into a topic, and the answers a table must give")
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--registry", default="")
    parser.add_argument("--format", choices=["avro", "json"], default="avro")
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first record")
    parser.add_argument("--keys", type=int, default=20000)
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--base-ms", type=int, default=0, help="time of record 0; default: such that the last one is a minute old")
    parser.add_argument("--rate", type=float, default=0.0, help="records per second; 0 = as fast as possible")
    parser.add_argument("--transactions", action="store_true")
    parser.add_argument("--open", action="store_true", help="leave a transaction open at the end, until stdin says commit or abort")
    parser.add_argument("--until-enough", action="store_true", help="end when stdin says a word; --records is then the most")
    parser.add_argument("--headers", action="store_true", help="a header region = r0..r4")
    parser.add_argument("--oracle", default="")
    given = parser.parse_args()
    given.base_ms = given.base_ms or int(time.time() * 1000) - given.first - given.records - 60000
    return given


def main():
    given, oracle, since = arguments(), Oracle(), time.monotonic()
    (write_transactions if given.transactions else write_plain)(given, oracle)
    pending = open_transaction(given) if given.open else None
    report(given, oracle, since)
    if pending:
        writer, records = pending
        if sys.stdin.readline().strip() == "commit":
            writer.producer.commit_transaction(60)
            for record in records:
                oracle.add(record, f"r{record['id'] % REGIONS}")
        else:
            writer.producer.abort_transaction(60)
        report(given, oracle, since)


if __name__ == "__main__":
    main()
