#!/usr/bin/env python3
"""Does one thing to a Kafka cluster with a client that is not ours, and prints the outcome as one JSON line.

    kafka_admin.py BOOTSTRAP ready  [--within S]         metadata and one produce/consume round trip
    kafka_admin.py BOOTSTRAP create TOPIC PARTITIONS [--config K=V ...] [--replicas NODE,NODE]
    kafka_admin.py BOOTSTRAP grow   TOPIC PARTITIONS      to this many partitions
    kafka_admin.py BOOTSTRAP delete TOPIC
    kafka_admin.py BOOTSTRAP ends   TOPIC                 log ends per partition, read uncommitted
    kafka_admin.py BOOTSTRAP trim   TOPIC PARTITION OFFSET   deletes the records before an offset, as retention would
    kafka_admin.py BOOTSTRAP allow  TOPIC USER            lets a user read the topic
    kafka_admin.py BOOTSTRAP giant  TOPIC CODEC BYTES HEAD TAIL   one record of HEAD, so many letters, and TAIL
    kafka_admin.py BOOTSTRAP batch  TOPIC CODEC BYTES HEAD TAIL COUNT   COUNT such records in one batch

Every wait is bounded by --within (default 60 s); exit code 1 and the reason on stderr when it runs out. Called by tests/support.
"""

import argparse
import json
import sys
import time
import uuid

from confluent_kafka import Consumer, IsolationLevel, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (AclBinding, AclOperation, AclPermissionType, AdminClient, NewPartitions, NewTopic, OffsetSpec,
                                   ResourcePatternType, ResourceType)

QUIET = {"log_level": 0}


def left(deadline):
    return max(0.1, deadline - time.monotonic())


def done(futures, deadline):
    """Waits for every future of an admin call and raises the first failure."""
    for future in futures.values():
        future.result(timeout=left(deadline))


def until(deadline, what, attempt):
    """Repeats an attempt until it gives something; the last reason is told when time runs out."""
    reason = "nothing happened"
    while time.monotonic() < deadline:
        try:
            found = attempt()
            if found is not None:
                return found
        except KafkaException as error:
            reason = str(error)
        time.sleep(0.05)
    sys.exit(f"kafka_admin: {what} failed within the time limit: {reason}")


def partitions(admin, topic, deadline):
    """The partitions of a topic once each of them has a leader."""

    def attempt():
        found = admin.list_topics(topic, timeout=min(5, left(deadline))).topics.get(topic)
        if found is None or found.error or not found.partitions:
            return None
        return sorted(found.partitions) if all(p.leader >= 0 for p in found.partitions.values()) else None

    return until(deadline, f"metadata of {topic}", attempt)


def create(admin, topic, count, config, deadline, replicas=None):
    placed = {"replica_assignment": [replicas] * count} if replicas else {"replication_factor": 1}

    def attempt():
        done(admin.create_topics([NewTopic(topic, count, config=config, **placed)], operation_timeout=10), deadline)
        return True

    until(deadline, f"creating {topic}", attempt)
    return until(deadline, f"leaders of {topic}", lambda: (lambda p: p if len(p) == count else None)(partitions(admin, topic, deadline)))


def ready(bootstrap, admin, deadline):
    """A broker is ready when a record has gone in and come out again, not when its port is open."""
    topic = f"ready-{uuid.uuid4().hex}"
    until(deadline, "metadata", lambda: admin.list_topics(timeout=2).brokers or None)
    create(admin, topic, 1, {}, deadline)
    producer = Producer({"bootstrap.servers": bootstrap, "message.timeout.ms": 15000, **QUIET})
    producer.produce(topic, b"ready", partition=0)
    if producer.flush(left(deadline)):
        sys.exit("kafka_admin: the first record was not taken within the time limit")
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic, "enable.auto.commit": False, **QUIET})
    consumer.assign([TopicPartition(topic, 0, 0)])
    until(deadline, "the first record", lambda: (lambda m: m.value() if m is not None and m.error() is None else None)(consumer.poll(0.2)))
    consumer.close()
    done(admin.delete_topics([topic], operation_timeout=10), deadline)
    return {"ready": True}


def ends(admin, topic, deadline):
    asked = {TopicPartition(topic, p): OffsetSpec.latest() for p in partitions(admin, topic, deadline)}
    futures = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_UNCOMMITTED)
    return {str(tp.partition): future.result(timeout=left(deadline)).offset for tp, future in futures.items()}


def giant(bootstrap, topic, codec, letters, head, tail, deadline, count=1):
    """Records that are small on the wire and large when they are decompressed, all in one batch."""
    producer = Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 1_000_000_000, "compression.type": codec,
                         "batch.size": 1_000_000_000, "queue.buffering.max.kbytes": 2_000_000, "linger.ms": 0 if count == 1 else 5_000, **QUIET})
    failures = []
    for _ in range(count):
        producer.produce(topic, (head + "g" * letters + tail).encode(), partition=0, on_delivery=lambda error, _: error and failures.append(str(error)))
    if producer.flush(left(deadline)) or failures:
        sys.exit(f"kafka_admin: the records were not taken: {failures}")
    return {"bytes": count * (len(head) + letters + len(tail))}


def raw(bootstrap, topic, records, deadline):
    """Records as they are: partition 0, bytes in hexadecimal, `null` for none, headers as pairs."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0, **QUIET})
    failures = []
    text = lambda value: None if value is None else bytes.fromhex(value)
    for record in records:
        headers = [(name, text(value)) for name, value in record.get("headers", [])]
        producer.produce(topic, text(record.get("value")), text(record.get("key")), 0, headers=headers,
                         on_delivery=lambda error, _: error and failures.append(str(error)))
    if producer.flush(left(deadline)) or failures:
        sys.exit(f"kafka_admin: records were not taken: {failures}")
    return {"records": len(records)}


def main():
    parser = argparse.ArgumentParser(description="one administrative act on a Kafka cluster")
    parser.add_argument("bootstrap")
    parser.add_argument("act", choices=["ready", "create", "grow", "delete", "ends", "trim", "allow", "giant", "batch", "raw"])
    parser.add_argument("topic", nargs="?")
    parser.add_argument("more", nargs="*")
    parser.add_argument("--config", action="append", default=[])
    parser.add_argument("--replicas", type=lambda text: [int(node) for node in text.split(",")])
    parser.add_argument("--within", type=float, default=60.0)
    given = parser.parse_args()
    deadline = time.monotonic() + given.within
    count = int(given.more[0]) if given.act in ("create", "grow", "trim") else None
    admin = AdminClient({"bootstrap.servers": given.bootstrap, **QUIET})
    if given.act == "ready":
        answer = ready(given.bootstrap, admin, deadline)
    elif given.act == "create":
        config = dict(pair.split("=", 1) for pair in given.config)
        answer = {"partitions": create(admin, given.topic, count, config, deadline, given.replicas)}
    elif given.act == "grow":
        done(admin.create_partitions([NewPartitions(given.topic, count)], operation_timeout=10), deadline)
        answer = {"partitions": until(deadline, "growth", lambda: (lambda p: p if len(p) == count else None)(partitions(admin, given.topic, deadline)))}
    elif given.act == "raw":
        answer = raw(given.bootstrap, given.topic, json.loads(given.more[0]), deadline)
    elif given.act == "delete":
        done(admin.delete_topics([given.topic], operation_timeout=10), deadline)
        answer = {"deleted": given.topic}
    elif given.act == "trim":
        done(admin.delete_records([TopicPartition(given.topic, count, int(given.more[1]))]), deadline)
        answer = {"trimmed": given.topic}
    elif given.act == "allow":
        acls = [AclBinding(ResourceType.TOPIC, given.topic, ResourcePatternType.LITERAL, f"User:{given.more[0]}", "*", operation, AclPermissionType.ALLOW)
                for operation in (AclOperation.DESCRIBE, AclOperation.READ)]
        done(admin.create_acls(acls), deadline)
        answer = {"allowed": given.more[0]}
    elif given.act == "giant":
        codec, letters, head, tail = given.more
        answer = giant(given.bootstrap, given.topic, codec, int(letters), head, tail, deadline)
    elif given.act == "batch":
        codec, letters, head, tail, count = given.more
        answer = giant(given.bootstrap, given.topic, codec, int(letters), head, tail, deadline, int(count))
    else:
        answer = ends(admin, given.topic, deadline)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
