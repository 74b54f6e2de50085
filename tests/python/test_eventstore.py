"""The event store as other engines see it: pyarrow, DuckDB and Polars read what was pushed, cell by cell, each row once."""

import datetime
import json
import math
import subprocess

import duckdb
import httpx
import polars
import pyarrow.dataset
import pyarrow.parquet
import pytest

from conftest import binary
from server import Server

pytestmark = pytest.mark.gauge_only

CONFIG = """
[push]
control_characters = "allow"
[events.Tx]
fields = { s = "str?", n = "i64?", x = "f64?", b = "bool?", y = "bytes?", t = "datetime?", j = "json?", lsn = "str?" }
[events.Login_2]
fields = { n = "i64" }
[eventstore]
name = "pay"
"durable.type" = "parquet"
"durable.path" = "%s"
durable.compression = { codec = "zstd", level = 5 }
partition.enforce = false
[eventstore.bloom]
columns = ["event_id"]
fpp = 0.02
"""

ROWS = [
    {"s": "", "n": 0, "x": 0.0, "b": False, "y": "", "t": 0, "j": {}},
    {"s": "a\u0000b\n\"'\\", "n": 2**63 - 1, "x": 1.7976931348623157e308, "b": True, "y": "AAEC/w==", "t": 1_700_000_000_123, "j": [1, None, "ü"]},
    {"s": "\U0001f600 日本 \u202e", "n": -(2**63), "x": 5e-324, "b": None, "y": None, "t": -62_135_596_800_000, "j": 7},
    {"s": None, "n": None, "x": -0.0, "t": 253_402_300_799_999, "j": "text"},
    {},
    {"lsn": "mine"},
]


class Store:
    """A server with a store below a folder."""

    def __init__(self, folder, config=CONFIG):
        self.folder, self.root = folder, folder / "archive"
        (folder / "streamgauge.toml").write_text(config % self.root if "%s" in config else config)
        self.server = None

    def start(self):
        self.server = Server(binary(), self.folder, ("--config", str(self.folder / "streamgauge.toml"), "--data-dir", str(self.folder / "data")))
        self.wait_ready()
        return self

    def wait_ready(self):
        for _ in range(600):
            try:
                if httpx.get(f"http://{self.server.http}/ready").status_code == 200:
                    return
            except httpx.TransportError:
                pass
        raise AssertionError("not ready")

    def push(self, event, rows):
        answer = httpx.post(f"http://{self.server.http}/push-batch/{event}", json=rows, timeout=30)
        assert answer.status_code == 200, answer.text

    def now(self):
        answer = httpx.post(f"http://{self.server.admin}/eventstore/now", timeout=120)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def files(self):
        """Files of the newest manifest, as their own reader would find them."""
        files = {}
        for path in sorted((self.root / "_manifests").glob("*.json")):
            if not path.name.endswith(".full.json"):
                manifest = json.loads(path.read_text())
                files.update({file["path"]: file for file in manifest["add"]})
                for gone in manifest["remove"]:
                    del files[gone]
        return files


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path).start()
    yield store
    if store.server.running():
        store.server.stop()


def expected(row, name):
    value = row.get(name)
    if value is None:
        return None
    if name == "j":
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return value


def test_every_cell_is_what_was_pushed(store):
    store.push("Tx", ROWS)
    store.push("Login_2", [{"n": 4}, {"n": 5}])
    answer = store.now()
    assert answer["archive"]["lag_lsn"] == 0 and answer["archive"]["state"] == "ok"
    files = store.files()
    tables = {path: pyarrow.parquet.ParquetFile(store.root / path) for path in files}
    rows = [row for path, file in tables.items() if files[path]["event"] == "Tx" for row in cells(file)]
    rows.sort(key=lambda row: row["lsn"])
    assert len(rows) == len(ROWS)
    for sent, row in zip(ROWS, rows):
        for name in ("s", "n", "b", "t", "j"):
            wanted = expected(sent, name)
            found = row[name]
            if name == "j" and found is not None:
                found, wanted = json.loads(found), json.loads(wanted)
            assert found == wanted, (name, sent, row)
        x = expected(sent, "x")
        assert row["x"] == x and (x is None or math.copysign(1, row["x"]) == math.copysign(1, x)), (sent, row)
        # A text that JSON brought into a field of bytes is a text: it stands beside the column, as it was sent.
        assert row["y"] is None and json.loads(row["data"] or "{}").get("y") == sent.get("y")
        assert row["field_lsn"] == sent.get("lsn")
        absent = [name for name in ("s", "n", "x", "b", "y", "t", "j", "lsn") if name not in sent]
        assert json.loads(row["_absent"] or "[]") == absent
        assert (row["stream_type"], row["event_type"], row["seq"], row["event_version"]) == ("Tx", "Tx", row["lsn"], 1)
        assert row["txn_lsn"] == rows[-1]["lsn"] and row["topic"] is None and row["offset"] is None and row["_delete"] is False
        assert row["event_id"][6] >> 4 == 7 and row["event_id"][8] >> 6 == 2
    assert len({bytes(row["event_id"]) for row in rows}) == len(rows)


def cells(file):
    """Rows with times as numbers: Python's own times end in the year 9999 and begin later."""
    table = file.read()
    for at, field in enumerate(table.schema):
        if pyarrow.types.is_timestamp(field.type):
            table = table.set_column(at, field.name, table.column(at).cast(pyarrow.int64()))
    column = table.schema.get_field_index("event_id")
    storage = [bytes(value.as_py().bytes) if hasattr(value.as_py(), "bytes") else value.as_py() for value in table.column(column)]
    rows = table.drop_columns(["event_id"]).to_pylist()
    return [dict(row, event_id=event_id) for row, event_id in zip(rows, storage)]


def test_the_files_say_what_was_declared(store):
    store.push("Tx", [{"n": n, "s": f"t{n % 7}"} for n in range(5_000)])
    store.now()
    (path,) = store.files()
    file = pyarrow.parquet.ParquetFile(store.root / path)
    group = file.metadata.row_group(0)
    columns = {group.column(at).path_in_schema: group.column(at) for at in range(group.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert "DELTA_BINARY_PACKED" in columns["lsn"].encodings and "RLE_DICTIONARY" not in columns["lsn"].encodings
    assert "RLE_DICTIONARY" in columns["s"].encodings
    assert columns["lsn"].statistics.min is not None and columns["occurred_at"].statistics.min is not None
    assert columns["s"].statistics is None
    names = [column.path for column in file.schema]
    assert [names[order.column_index] for order in group.sorting_columns] == ["stream_id", "seq", "lsn"]
    assert columns["lsn"].total_compressed_size < 200, "numbers that follow each other take next to nothing"
    said = file.metadata.metadata
    assert said[b"streamgauge.event"] == b"Tx" and int(said[b"streamgauge.last_lsn"]) - int(said[b"streamgauge.first_lsn"]) == 4_999
    with duckdb.connect() as db:
        probe = db.execute(f"select count(*) from parquet_metadata('{store.root / path}') where bloom_filter_offset is not null").fetchone()
        assert probe == (1,)
        kind = db.execute(f"select typeof(event_id) from read_parquet('{store.root / path}') limit 1").fetchone()
        assert kind == ("UUID",)


def test_three_engines_agree_over_days_and_events(store):
    store.push("Tx", [{"n": n} for n in range(3_000)])
    store.push("Login_2", [{"n": n} for n in range(500)])
    store.now()
    store.push("Tx", [{"n": n} for n in range(3_000, 4_000)])
    store.now()
    everything = f"{store.root}/**/*.parquet"
    with duckdb.connect() as db:
        query = f"select count(*), sum(n), count(distinct event_id), count(distinct lsn) from read_parquet('{everything}', hive_partitioning=true, union_by_name=true)"
        duck = db.execute(query).fetchone()
        events = db.execute(f"select distinct stream_type from read_parquet('{everything}', hive_partitioning=true, union_by_name=true) order by 1").fetchall()
    assert duck == (4_500, sum(range(4_000)) + sum(range(500)), 4_500, 4_500)
    assert events == [("Login_2",), ("Tx",)]
    arrow = pyarrow.dataset.dataset(store.root, format="parquet", partitioning="hive", exclude_invalid_files=True).to_table(columns=["n"])
    assert (arrow.num_rows, pyarrow.compute.sum(arrow["n"]).as_py()) == duck[:2]
    bear = polars.scan_parquet(everything, hive_partitioning=False, missing_columns="insert", extra_columns="ignore")
    assert bear.select(polars.len(), polars.col("n").sum()).collect().row(0) == duck[:2]
    today = datetime.datetime.now(datetime.timezone.utc).date()
    assert {path.split("/")[0] for path in store.files()} <= {f"dt={today - datetime.timedelta(days=back)}" for back in (0, 1)}


def test_a_process_that_is_killed_again_and_again_leaves_each_row_once(store):
    pushed = 0
    for kill in range(6):
        for _ in range(4):
            store.push("Tx", [{"n": n} for n in range(pushed, pushed + 500)])
            pushed += 500
        if kill % 2:
            store.now()
        store.server.kill9()
        store.start()
    store.now()
    files = store.files()
    numbers, lsns = [], []
    for path, listed in files.items():
        table = pyarrow.parquet.ParquetFile(store.root / path).read(["n", "lsn"])
        assert table.num_rows == listed["rows"]
        numbers += table["n"].to_pylist()
        lsns += table["lsn"].to_pylist()
    assert sorted(numbers) == list(range(pushed)) and len(set(lsns)) == pushed
    assert sorted(str(path.relative_to(store.root)) for path in store.root.rglob("*.parquet")) == sorted(files)


def test_status_says_what_each_key_comes_to(store):
    answer = httpx.get(f"http://{store.server.admin}/eventstore").json()
    keys = {key["key"]: key for key in answer["keys"]}
    assert len(keys) == len(answer["keys"]) == 84
    assert keys["durable.compression.level"]["effective"] == "5" and keys["durable.compression.level"]["origin"].startswith(str(store.folder))
    assert keys["partition.enforce"]["effective"] == "false"
    assert keys["bloom.fpp"]["value"] == "0.02"
    assert keys["inmemory.max_mb"]["served"] is False and keys["inmemory.max_mb"]["effective"] is None
    cursors = httpx.get(f"http://{store.server.admin}/status").json()["wal"]["kept_for"]
    assert any(cursor["reader"] == "archive" and not cursor["gives_way"] for cursor in cursors)


def run(*arguments):
    return subprocess.run([binary(), *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_verify_reads_everything_and_names_what_is_damaged(store):
    store.push("Tx", [{"n": n} for n in range(1_000)])
    store.now()
    sound = run("eventstore", "verify", str(store.root))
    assert sound.returncode == 0 and "1000 rows in 1 files" in sound.stdout, sound
    (path,) = store.files()
    file = store.root / path
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    found = run("eventstore", "verify", str(store.root), "--json")
    assert found.returncode == 1 and path in json.loads(found.stdout)["findings"][0], found
    assert run("eventstore", "verify", str(store.folder)).returncode != 0


def test_an_archive_that_cannot_be_written_stops_nothing_and_goes_on_by_itself(store):
    store.push("Tx", [{"n": n} for n in range(100)])
    store.now()
    aside = store.root.with_name("aside")
    store.root.rename(aside)
    store.root.write_text("no folder")
    store.push("Tx", [{"n": n} for n in range(100, 200)])
    refused = httpx.post(f"http://{store.server.admin}/eventstore/now", timeout=60)
    assert refused.status_code == 500 and refused.json()["code"] == "io_failed", refused.text
    assert any("ArchiveBlocked" in warning for warning in httpx.get(f"http://{store.server.admin}/ready").json()["warnings"])
    # Pushes and reads go on, and the log keeps what is not archived, over a kill as well.
    store.push("Tx", [{"n": n} for n in range(200, 300)])
    answer = httpx.get(f"http://{store.server.admin}/eventstore").json()["archive"]
    assert answer["state"] == "blocked" and answer["lag_lsn"] > 0, answer
    store.root.unlink()
    aside.rename(store.root)
    store.now()
    assert httpx.get(f"http://{store.server.admin}/ready").json() == {"status": "ready"}
    numbers = [number for path in store.files() for number in pyarrow.parquet.ParquetFile(store.root / path).read(["n"])["n"].to_pylist()]
    assert sorted(numbers) == list(range(300))


def test_declarations_that_change_in_the_middle_keep_each_row_under_its_version(store):
    store.push("Login_2", [{"n": 1}])
    store.server.stop()
    text = (store.folder / "streamgauge.toml").read_text()
    (store.folder / "streamgauge.toml").write_text(text.replace('fields = { n = "i64" }', 'fields = { n = "i64", device = "str?" }'))
    store.start()
    store.push("Login_2", [{"n": 2, "device": "phone"}])
    store.now()
    files = store.files()
    assert sorted(file["schema"] for file in files.values() if file["event"] == "Login_2") == [1, 2]
    with duckdb.connect() as db:
        rows = db.execute(f"select n, device from read_parquet('{store.root}/**/*.parquet', union_by_name=true) where stream_type = 'Login_2' order by lsn").fetchall()
    assert rows == [(1, None), (2, "phone")]


def test_a_start_refuses_by_name_what_it_would_not_do(tmp_path):
    declared = tmp_path / "x.eventstore"
    for pairs, code, key in [
        ("inmemory.max_mb = 9", "eventstore_feature_missing", "inmemory.max_mb"),
        ("partition.enforce = true", "eventstore_feature_missing", "partition.enforce"),
        ("wal.fsnyc = true", "eventstore_unknown_key", "wal.fsync"),
    ]:
        declared.write_text(f"CREATE EVENTSTORE x WITH (durable.type = 'parquet', durable.path = '{tmp_path}/a', {pairs})")
        arguments = ("--eventstore", str(declared), "--data-dir", str(tmp_path / "data"), "--http-addr", "127.0.0.1:0", "--tcp-addr", "127.0.0.1:0")
        refused = run("run", *arguments, "--admin-addr", "127.0.0.1:0")
        assert refused.returncode == 78 and code in refused.stderr and key in refused.stderr, refused
    (tmp_path / "empty.toml").write_text("")
    checked = lambda *more: run("check", "-c", str(tmp_path / "empty.toml"), "--offline", "--eventstore", str(declared), *more)
    declared.write_text("CREATE EVENTSTORE x WITH (durable.type = 'parquet', durable.path = 's3://x/y')")
    assert checked().returncode == 0
    lacking = checked("--runnable")
    assert lacking.returncode == 1 and "durable.path" in lacking.stderr, lacking
