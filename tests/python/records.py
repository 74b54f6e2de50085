#!/usr/bin/env python3
"""Writes given records into a topic with a client that is not ours: any bytes, any Kafka timestamp.

    records.py --bootstrap B --topic T < lines

One JSON object a line: {"value": text or null, "key": text?, "timestamp": ms?, "partition": number?}. stdout, when
everything is delivered: {"records": N}. Exit 1 when a record was not.
"""

import argparse
import json
import sys

from confluent_kafka import Producer

FLUSH_SECONDS_MAX = 60


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--bootstrap", required=True)
    arguments.add_argument("--topic", required=True)
    given = arguments.parse_args()
    failed = []
    producer = Producer({"bootstrap.servers": given.bootstrap, "linger.ms": 20, "enable.idempotence": True})
    count = 0
    for line in sys.stdin:
        record = json.loads(line)
        value = record["value"]
        message = {"value": None if value is None else value.encode(), "partition": record.get("partition", 0)}
        if "key" in record:
            message["key"] = record["key"].encode()
        if "timestamp" in record:
            message["timestamp"] = record["timestamp"]
        while True:
            try:
                producer.produce(given.topic, on_delivery=lambda error, _: error and failed.append(str(error)), **message)
                break
            except BufferError:
                producer.poll(0.05)
        count += 1
    left = producer.flush(FLUSH_SECONDS_MAX)
    if failed or left:
        sys.exit(f"{left} records are not delivered; {failed[:3]}")
    print(json.dumps({"records": count}))


main()
