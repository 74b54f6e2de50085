#!/usr/bin/env python3
"""Writes a mixture of good, bad, late, fast and deleted records into topics, and knows what every table must then say.

A client that is not ours, driven line by line: each line of stdin is one JSON command, each gets one JSON line on stdout.
Between commands it writes a stream into the topic `--stream` at `--rate` until `enough`. Started by tests/support.

    {"act": "fill",   "topic": T, "tag": X, "count": N}   one row for each of N cards that nobody else uses
    {"act": "erase",  "topic": T, "tag": X, "count": N}   a record without a value for each of them
    {"act": "flood",  "topic": T, "count": N}             N bad records in a row, then 100 good ones
    {"act": "ends"}                                       log ends of all topics, once everything is delivered
    {"act": "enough"}                                     the stream ends; log ends
    {"act": "oracle", "path": P}                          what tables must say as of a moment that it picks; bad records by place

The stream: a third of the rows are of one card, the others of a thousand. Of every hundred records 5 are bad, 5 come from clocks
30 s, 4 min or 50 min ahead, 5 from clocks up to 2 min slow, 5 are up to 23 h late, 1 is days late, and half of one forgets a card.
Timestamps are the records' own, each a millisecond that no other record has, so that `last` has one answer; amounts are
multiples of 0.25, exact in any order of addition.

The oracle keeps every row of every key and recomputes from them. A value is one number where it does not hang on when a
row was read; else `[low, high, recounted]`: windows of keys with more rows than a list holds, whose edges are buckets, and
which may refuse rows that are ahead by more than the window's length.
"""

import argparse
import json
import random
import sys
import threading
import time
from collections import Counter, deque

from confluent_kafka import IsolationLevel, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
WINDOWS = {"1m": MINUTE, "1h": HOUR, "24h": 24 * HOUR}
CARDS, MERCHANTS = 1000, 40
COUNTRIES = ["de", "fr", "es", "it", None]
FLUSH_SECONDS_MAX = 120
# A list holds at least this many rows, and every window of it is exact.
LIST_ROWS = 64
# An edge may be off by one bucket of 64; a second one where the bucket's borders are not known.
EDGE_SHARE = 2 / 64

WHERE = {
    "any": lambda row: True,
    "large": lambda row: row.amount > 500,
    "many": lambda row: row.items >= 5,
    "german": lambda row: row.country == "de",
}
KEYS = {
    "card": lambda row: (row.card,),
    "merchant": lambda row: (row.merchant,),
    "country": lambda row: (row.country,),
    "merchant_country": lambda row: (row.merchant, row.country),
    "all": lambda row: (),
}


class Row:
    __slots__ = ("ts", "ahead", "card", "merchant", "country", "amount", "items")

    def __init__(self, ts, ahead, card, merchant, country, amount, items):
        self.ts, self.ahead, self.card, self.merchant = ts, ahead, card, merchant
        self.country, self.amount, self.items = country, amount, items

    def body(self):
        return {"merchant": self.merchant, "country": self.country, "amount": self.amount, "items": self.items}


def encoded(body):
    return json.dumps(body, separators=(",", ":")).encode()


class Oracle:
    """Every row of every key of every table, in the order of each key's partition."""

    def __init__(self):
        self.tables = {f"{by}_{which}": {} for by in KEYS for which in WHERE}
        self.bad = []
        self.written = Counter()

    def add(self, row):
        self.written["good"] += 1
        for by, key_of in KEYS.items():
            key = key_of(row)
            if None in key:
                continue
            for which, passes in WHERE.items():
                if passes(row):
                    self.tables[f"{by}_{which}"].setdefault(key, []).append(row)

    def forget(self, card):
        self.written["deletes"] += 1
        for which in WHERE:
            self.tables[f"card_{which}"].pop((card,), None)

    def as_of(self):
        """Now, moved on until no row lies exactly on an edge of a window."""
        times = {row.ts for row in self.tables["all_any"].get((), [])}
        moment = int(time.time() * 1000)
        while any(moment - length in times for length in (0, *WINDOWS.values())):
            moment += 1
        return moment

    def features(self, rows, as_of):
        amounts = [row.amount for row in rows]
        found = {
            "n": len(rows), "total": sum(amounts), "low": min(amounts), "high": max(amounts),
            "big": sum(row.amount > 750 for row in rows), "last": max(rows, key=lambda row: row.ts).items,
        }
        for name, length in WINDOWS.items():
            for feature, value in window_features(rows, as_of, length).items():
                found[f"{feature}_{name}"] = value
        return found

    def to_json(self, as_of):
        tables = {
            name: [[list(key), self.features(rows, as_of)] for key, rows in keys.items()]
            for name, keys in self.tables.items()
        }
        return {"as_of": as_of, "tables": tables, "bad": self.bad}


def fold(rows):
    return {
        "n": len(rows), "total": sum(row.amount for row in rows), "big": sum(row.amount > 750 for row in rows),
        "high": max((row.amount for row in rows), default=0),
    }


def window_features(rows, as_of, length):
    exact = fold([row for row in rows if as_of - length < row.ts <= as_of])
    if not exact["n"]:
        # Nothing to add up and nothing to compare: null.
        exact = {**exact, "total": None, "high": None}
    if len(rows) <= LIST_ROWS:
        return exact
    edge = length * EDGE_SHARE
    surely = fold([row for row in rows if as_of - length + edge < row.ts <= as_of - edge and row.ahead <= 0.9 * length])
    perhaps = fold([row for row in rows if as_of - length - edge < row.ts <= as_of + edge])
    return {name: [surely[name], perhaps[name], exact[name]] for name in surely}


class Mixture:
    def __init__(self, given):
        self.given = given
        self.dice = random.Random(given.seed)
        self.oracle = Oracle()
        self.partitions = dict(topic.split(":") for topic in given.topics)
        self.used = set()
        self.failed = []
        self.producer = Producer({
            "bootstrap.servers": given.bootstrap, "compression.type": "lz4", "linger.ms": 5, "acks": "all", "enable.idempotence": True,
            "message.timeout.ms": 150000, "log_level": 0, "queue.buffering.max.messages": 500000, "reconnect.backoff.max.ms": 500,
        })

    # What a record may be.

    def moment(self, skew_ms):
        """A millisecond that no other record has, about this far from now."""
        ts = int(time.time() * 1000 + skew_ms)
        while ts in self.used:
            ts += 1 if skew_ms <= 0 else -1
        self.used.add(ts)
        return ts

    def skew(self):
        dice = self.dice.random() * 100
        if dice < 5:
            return self.dice.choice([30 * SECOND, 4 * MINUTE, 50 * MINUTE])
        if dice < 10:
            return -self.dice.randrange(1, 2 * MINUTE)
        if dice < 15:
            return -self.dice.randrange(2 * MINUTE, 23 * HOUR)
        if dice < 16:
            return -self.dice.randrange(2 * 24 * HOUR, 10 * 24 * HOUR)
        return 0

    def row(self, card=None, skew=None, country=...):
        skew = self.skew() if skew is None else skew
        dice = self.dice
        if card is None:
            card = "busy" if dice.random() < 1 / 3 else f"c{dice.randrange(CARDS)}"
        return Row(self.moment(skew), skew, card, f"m{dice.randrange(MERCHANTS)}",
                   dice.choice(COUNTRIES) if country is ... else country, dice.randrange(4000) / 4, dice.randrange(1, 10))

    def bad(self):
        """Key, value and time of a record that is no row, and the code that says why."""
        row = self.row(skew=-self.dice.randrange(1, MINUTE))
        body, key, ts = row.body(), row.card.encode(), row.ts
        kind = self.dice.randrange(10)
        if kind == 0:
            return key, b"{no json", ts, "decode_malformed"
        if kind == 1:
            return key, encoded(body)[:-3], ts, "decode_malformed"
        if kind == 2:
            return key, encoded({**body, "amount": "much"}), ts, "decode_type_mismatch"
        if kind == 3:
            del body["merchant"]
            return key, encoded(body), ts, "decode_missing_field"
        if kind == 4:
            return key, encoded({**body, "items": 2**70}), ts, "decode_out_of_range"
        if kind == 5:
            return key, encoded(body), int(time.time() * 1000) + 3 * HOUR, "time_out_of_range"
        if kind == 6:
            return b"k" * 5000, encoded(body), ts, "key_too_long"
        if kind == 7:
            return None, None, ts, "tombstone_unexpected"
        if kind == 8:
            return key, encoded(body) + b" {}", ts, "decode_trailing_bytes"
        return key, b'{"merchant":"\xff"}', ts, "decode_malformed"

    # Writing.

    def send(self, topic, partition, key, value, ts, code=None):
        def delivered(error, message):
            if error is not None:
                self.failed.append(str(error))
            elif code is not None:
                self.oracle.bad.append([topic, message.partition(), message.offset(), code])

        while True:
            try:
                self.producer.produce(topic, value, key, partition, delivered, timestamp=ts)
                return
            except BufferError:
                self.producer.poll(0.05)

    def partition_of(self, topic, card):
        return sum(card.encode()) % int(self.partitions[topic])

    def good(self, topic, row):
        self.oracle.add(row)
        self.send(topic, self.partition_of(topic, row.card), row.card.encode(), encoded(row.body()), row.ts)

    def delete(self, topic, card):
        self.oracle.forget(card)
        self.send(topic, self.partition_of(topic, card), card.encode(), None, int(time.time() * 1000))

    def reject(self, topic):
        key, value, ts, code = self.bad()
        self.oracle.written["bad"] += 1
        self.send(topic, self.dice.randrange(int(self.partitions[topic])), key, value, ts, code)

    def one(self, topic):
        dice = self.dice.random() * 100
        if dice < 5:
            self.reject(topic)
        elif dice < 5.5:
            self.delete(topic, f"c{self.dice.randrange(CARDS)}")
        else:
            self.good(topic, self.row())

    def flush(self):
        if self.producer.flush(FLUSH_SECONDS_MAX) or self.failed:
            sys.exit(f"mixture: {len(self.failed)} records failed {self.failed[:3]}, {len(self.producer)} are still queued")

    def ends(self):
        self.flush()
        admin = AdminClient({"bootstrap.servers": self.given.bootstrap, "log_level": 0})
        asked = {TopicPartition(t, p): OffsetSpec.latest() for t, count in self.partitions.items() for p in range(int(count))}
        ends = {topic: {} for topic in self.partitions}
        for tp, future in admin.list_offsets(asked, isolation_level=IsolationLevel.READ_UNCOMMITTED).items():
            ends[tp.topic][str(tp.partition)] = future.result(timeout=30).offset
        return {"ends": ends, "written": dict(self.oracle.written)}

    # Commands.

    def act(self, command):
        what, topic, count = command["act"], command.get("topic"), command.get("count", 0)
        if what == "fill":
            for n in range(count):
                # Spread over the last hour: thousands at once would have to borrow milliseconds of the future.
                self.good(topic, self.row(f"{command['tag']}-{n}", -self.dice.randrange(1, HOUR), None))
                self.producer.poll(0)
            return {"queued": count}
        if what == "erase":
            for n in range(count):
                self.delete(topic, f"{command['tag']}-{n}")
                self.producer.poll(0)
            return {"queued": count}
        if what == "flood":
            for _ in range(count):
                self.reject(topic)
                self.producer.poll(0)
            # Cards of their own: between topics nothing says whether a row or the record that forgets its card came first.
            for n in range(100):
                self.good(topic, self.row(f"flooded-{n}"))
            return {"queued": count + 100}
        if what == "oracle":
            answers = self.oracle.to_json(self.oracle.as_of())
            with open(command["path"], "w", encoding="utf-8") as out:
                json.dump(answers, out)
            return {"as_of": answers["as_of"]}
        if what in ("ends", "enough"):
            return self.ends()
        sys.exit(f"mixture: no act {what!r}")

    def run(self):
        commands, ended = deque(), threading.Event()

        def listen():
            for line in sys.stdin:
                commands.append(json.loads(line))
            ended.set()

        threading.Thread(target=listen, daemon=True).start()
        flowing, due = True, time.monotonic()
        while not ended.is_set() or commands:
            if commands:
                command = commands.popleft()
                flowing = flowing and command["act"] != "enough"
                print(json.dumps(self.act(command)), flush=True)
            if flowing and time.monotonic() >= due:
                for _ in range(20):
                    self.one(self.given.stream)
                # Never more than a second behind itself, or a slow command would be followed by a burst.
                due = max(due + 20 / self.given.rate, time.monotonic() - 1)
            self.producer.poll(0)
            time.sleep(max(0.0, min(due - time.monotonic(), 0.02)) if flowing else 0.005)


def main():
    parser = argparse.ArgumentParser(description="a mixture of records, and what tables over them must say")
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topics", nargs="+", required=True, help="TOPIC:PARTITIONS, all that commands name")
    parser.add_argument("--stream", required=True, help="the topic of the steady stream")
    parser.add_argument("--rate", type=float, default=500, help="records per second of the stream")
    parser.add_argument("--seed", type=int, default=1)
    Mixture(parser.parse_args()).run()


if __name__ == "__main__":
    main()
