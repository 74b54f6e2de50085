"""The SDK's calls besides operators: replies, refusals, evolution of a registration, batches, ping, reset, restarts."""

import json
import os
import signal
import socket
import subprocess

import beava as bv
import httpx
import pytest

from conftest import binary, code_of, until


@bv.event
class Click:
    user: str
    page: str
    took: float


@bv.table(key="user")
def Users(click: Click):
    return click.group_by("user").agg(n=bv.count(), took=bv.sum("took"))


def event(name="Click", **fields):
    return {"kind": "event", "name": name, "schema": {"fields": fields or {"user": "str", "page": "str", "took": "f64"}, "optional_fields": []}}


def table(name="Users", upstream="Click", keys=("user",), **agg):
    return {"kind": "derivation", "name": name, "output_kind": "table", "upstreams": [upstream], "table_primary_key": list(keys),
            "ops": [{"op": "group_by", "keys": list(keys), "agg": agg}], "schema": {"fields": {}, "optional_fields": []}}


def count(**params):
    return {"op": "count", "params": params}


def click(user="a", page="p", took=1.0):
    return {"user": user, "page": page, "took": took}


def test_register_push_get_and_ping(app):
    reply = app.register(Click, Users)
    assert (reply["status"], sorted(reply["added"]), reply["already_present"]) == ("ok", ["Click", "Users"], [])
    again = app.register(Click, Users)
    assert (again["registry_version"], again["added"], again["already_present"]) == (reply["registry_version"], [], ["Click", "Users"])
    first, second = app.push("Click", click()), app.push("Click", click(took=2.5))
    assert first["idempotent_replay"] is False and second["ack_lsn"] > first["ack_lsn"]
    assert app.get("Users", "a") == {"n": 2, "took": 3.5}
    assert app.get("Users", "a", features=["took"]) == {"took": 3.5}
    assert app.ping()["registry_version"] == reply["registry_version"]


def test_batch_get_answers_in_order_and_per_entry(app):
    app.register(Click, Users)
    for user in ("a", "b", "b"):
        app.push("Click", click(user))
    found = app.batch_get([("Users", "b"), ("Users", "nobody"), ("Nowhere", "a"), ("Users", "a", ["n"])])
    assert found[0]["n"] == 2 and found[1] == {} and found[3] == {"n": 1}
    assert found[2]["error"]["code"] == "unknown_table"
    assert app.batch_get([]) == []
    assert [row["n"] for row in app.batch_get([("Users", "a")] * 10_000)] == [1] * 10_000


@pytest.mark.parametrize("row, code", [
    ({"user": "a", "page": "p"}, "invalid_event"),
    ({"user": None, "page": "p", "took": 1.0}, "invalid_event"),
    ({"user": 5, "page": "p", "took": 1.0}, "invalid_event"),
    ({"user": "a", "page": "p", "took": "1"}, "invalid_event"),
    ({"user": "a", "page": "p", "took": 1.0, "more": 1}, "unknown_field_v0"),
    ({"user": "a", "page": "p", "took": 1.0, "event_time": 1}, "unknown_field_event_time_v0"),
    ({"user": "a\n", "page": "p", "took": 1.0}, "control_character_in_string"),
])
def test_bad_rows_have_their_code_and_change_nothing(app, row, code):
    app.register(Click, Users)
    app.push("Click", click())
    assert code_of(app.push, "Click", row) == code
    assert app.get("Users", "a") == {"n": 1, "took": 1.0}


def test_unknown_names_have_their_codes(app):
    app.register(Click, Users)
    assert code_of(app.push, "Nowhere", {}) == "event_not_found"
    assert code_of(app.get, "Nowhere", "a") == "unknown_table"
    assert code_of(app.get, "Users", "a", features=["zz"]) == "internal_error"


@pytest.mark.parametrize("nodes, code", [
    ([event(), table(n=count(window="0s"))], "aggregation_invalid_window"),
    ([event(), table(n=count(window="soon"))], "aggregation_invalid_window"),
    ([event(), table(s={"op": "sum", "params": {"field": "zz"}})], "aggregation_unknown_field"),
    ([event(), table(q={"op": "quantile", "params": {"field": "took", "q": 1.5}})], "invalid_percentile_q"),
    ([event(), table(t={"op": "top_k", "params": {"field": "page", "k": 0}})], "invalid_top_k_k"),
    ([event(), table(n=count(where="(took >"))], "aggregation_invalid_where"),
    ([event(), table(user=count())], "aggregation_group_key_collides_with_feature"),
    ([event(), table(x={"op": "nonsense", "params": {"window": "1h"}})], "aggregation_unknown_op"),
    ([event(), table(f={"op": "first", "params": {"field": "page", "window": "1h"}})], "aggregation_invalid_window"),
    ([event(), table("B", "Users", n=count())], "invalid_registration"),
    ([{"kind": "table", "name": "T"}], "unsupported_node_kind"),
])
def test_bad_declarations_have_their_code_and_change_nothing(app, nodes, code):
    before = app.ping()["registry_version"]
    assert code_of(app.register, *nodes) == code
    assert app.ping()["registry_version"] == before


def test_dry_run_tells_and_does_nothing(app):
    app.register(Click)
    version = app.ping()["registry_version"]
    told = app.register(Click, Users, dry_run=True)
    assert told["would_apply"] is False
    assert [entry["kind"] for entry in told["diff"]["additive"]] == ["new_descriptor"]
    assert told["diff"]["destructive"] == []
    assert app.ping()["registry_version"] == version
    assert code_of(app.get, "Users", "a") == "unknown_table"


def test_a_changed_window_needs_force_and_force_restarts_the_feature(app):
    app.register(event(), table(n=count(window="1h")))
    app.push("Click", click())
    changed = [event(), table(n=count(window="2h"))]
    assert code_of(app.register, *changed) == "force_required"
    assert app.get("Users", "a") == {"n": 1}
    assert app.register(*changed, force=True)["status"] == "ok"
    app.push("Click", click())
    assert app.get("Users", "a") == {"n": 1}


@pytest.mark.gauge_only
def test_growth_is_additive(app):
    app.register(event(), table(n=count()))
    app.push("Click", click())
    # A second team, and a feature more on the first one's table: nothing is lost, nothing is ignored.
    app.register(event("Other", who="str"), table("Others", "Other", ("who",), n=count()))
    reply = app.register(event(), table(n=count(), took={"op": "sum", "params": {"field": "took"}}))
    assert reply["extended"] == ["Users"]
    app.push("Click", click(took=2.0))
    app.push("Other", {"who": "x"})
    assert app.get("Users", "a") == {"n": 2, "took": 2.0}
    assert app.get("Others", "x") == {"n": 1}


@pytest.mark.gauge_only
def test_a_changed_where_is_never_ignored(app):
    app.register(event(), table(n=count(where="(took > 1)")))
    # Without a row there is nothing to lose, so it is applied at once; with one it needs force.
    assert app.register(event(), table(n=count(where="(took > 1.5)")))["status"] == "ok"
    app.push("Click", click(took=1.2))
    assert app.get("Users", "a") == {"n": 0}
    assert code_of(app.register, event(), table(n=count(where="(took > 2)"))) == "force_required"


@pytest.mark.gauge_only
def test_a_renamed_table_keeps_its_state_while_it_runs(app):
    app.register(event(), table(n=count(), sharp=count(window="1h", resolution=128)))
    app.push("Click", click())
    people = [event(), {**table("People", n=count(), sharp=count(window="1h", resolution=128)), "renamed_from": "Users"}]
    assert app.register(*people)["renamed"] == [{"from": "Users", "to": "People"}]
    app.push("Click", click())
    assert app.get("People", "a") == {"n": 2, "sharp": 2}
    assert code_of(app.get, "Users", "a") == "unknown_table"
    # The word may stay: it means nothing once the new name exists.
    assert "renamed" not in app.register(*people)


@pytest.mark.gauge_only
def test_one_bad_entry_does_not_fail_a_batch(app):
    app.register(Click, Users)
    app.push("Click", click())
    found = app.batch_get([("Users", "a", ["zz"]), ("Users", "a")])
    assert found[0]["error"]["code"] == "feature_not_found"
    assert found[1] == {"n": 1, "took": 1.0}


def test_reset_empties_everything_in_test_mode(start):
    server = start(test_mode=True)
    for scheme in ("http", "tcp"):
        with bv.App(f"{scheme}://{getattr(server, scheme)}") as app:
            app.register(Click, Users)
            app.push("Click", click())
            version = app.ping()["registry_version"]
            app.reset()
            assert app.ping()["registry_version"] == version + 1
            assert code_of(app.get, "Users", "a") == "unknown_table"


def test_reset_is_refused_in_production(app):
    assert code_of(app.reset) == "reset_disabled_in_production"


def test_not_a_number_is_refused(start):
    server = start()
    with bv.App(f"http://{server.http}") as app:
        app.register(Click, Users)
        assert code_of(app.push, "Click", click(took=float("nan"))) in ("invalid_event", "invalid_json_body")
        assert app.get("Users", "a") == {}


@pytest.mark.gauge_only
def test_acknowledged_pushes_survive_kill_nine(start):
    server = start()
    with bv.App(f"tcp://{server.tcp}") as app:
        app.register(Click, Users)
        for _ in range(500):
            app.push("Click", click())
    server.kill9()
    server = start()
    with bv.App(f"http://{server.http}") as app:
        deadline_reads = 200
        while httpx.get(f"http://{server.http}/ready", timeout=5).status_code != 200 and deadline_reads:
            deadline_reads -= 1
        assert app.get("Users", "a") == {"n": 500, "took": 500.0}
        assert app.register(Click, Users)["added"] == []


@pytest.mark.gauge_only
def test_pushes_pipelined_by_another_client_are_answered_in_order(start):
    server = start()
    with bv.App(f"tcp://{server.tcp}") as app:
        app.register(Click, Users)
    host, port = server.tcp.rsplit(":", 1)
    body = b'{"event":"Click","body":{"user":"a","page":"p","took":1.0}}'
    frame = (len(body) + 3).to_bytes(4, "big") + b"\x00\x10\x01" + body
    with socket.create_connection((host, int(port)), timeout=30) as stream:
        stream.sendall(frame * 5000)
        replies = stream.makefile("rb")
        lsns = []
        for _ in range(5000):
            length = int.from_bytes(replies.read(4), "big")
            reply = replies.read(length)
            assert reply[:2] == b"\x00\x10", reply
            lsns.append(int(reply.split(b'"ack_lsn":', 1)[1].split(b",", 1)[0]))
    assert lsns == sorted(set(lsns))


@pytest.mark.gauge_only
def test_a_key_that_went_cold_is_not_there_and_begins_anew(start):
    """Beava drops a cold key at its next row only, shows it until then, and knows nothing of it after a restart."""
    server = start()
    with bv.App(f"http://{server.http}") as app:
        app.register({**event(), "cold_after_ms": 400}, table(n=count(), hour=count(window="1h")))
        app.push("Click", click())
        app.push("Click", click())
        assert app.get("Users", "a") == {"n": 2, "hour": 2}
        assert until({}, lambda: app.get("Users", "a")) == {}
        app.push("Click", click())
        assert app.get("Users", "a") == {"n": 1, "hour": 1}
        changed = app.register({**event(), "cold_after_ms": 60_000}, table(n=count(), hour=count(window="1h")))
        assert changed["extended"] == ["Click"]
        app.push("Click", click())
        kept = app.get("Users", "a")
        assert kept["n"] in (1, 2)
        # Whoever leaves the option out leaves it as it is.
        assert app.register(event(), table(n=count(), hour=count(window="1h")))["already_present"] == ["Click", "Users"]
    server.kill9()
    with bv.App(f"http://{start().http}") as app:
        assert app.get("Users", "a") == kept
        app.register({**event(), "cold_after_ms": 200}, table(n=count(), hour=count(window="1h")))
        assert until({}, lambda: app.get("Users", "a")) == {}
        app.register({**event(), "cold_after_ms": None}, table(n=count(), hour=count(window="1h")))
        assert app.get("Users", "a") == kept


@pytest.mark.gauge_only
def test_an_id_counts_once_within_its_window(start):
    """Beava forgets the ids with its process, keeps them for ever until then, and tells a replay in the header alone."""
    server = start()
    nodes = ({**event(id="str", user="str"), "dedupe_key": "id", "dedupe_window_ms": 600_000}, table(n=count()))
    push = lambda server, row: httpx.post(f"http://{server.http}/push", json={"event": "Click", "data": row}, timeout=10)
    row = {"id": "x", "user": "a"}
    with bv.App(f"http://{server.http}") as app:
        app.register(*nodes)
        first = app.push("Click", row)
        again = push(server, row)
        assert (first["idempotent_replay"], again.json()["idempotent_replay"]) == (False, True)
        assert again.json()["ack_lsn"] == first["ack_lsn"] and again.headers["X-Beava-Idempotent-Replay"] == "1"
        assert "X-Beava-Idempotent-Replay" not in push(server, {"id": "y", "user": "a"}).headers
        batch = httpx.post(f"http://{server.http}/push-batch/Click", json=[row, {"id": "z", "user": "a"}, {"id": "z", "user": "a"}], timeout=10).json()
        assert (batch["count"], batch["replayed"]) == (3, [0, 2])
        assert app.get("Users", "a") == {"n": 3}
    with bv.App(f"tcp://{server.tcp}") as app:
        assert app.push("Click", row) == {**first, "idempotent_replay": True}
    server.kill9()
    server = start()
    with bv.App(f"tcp://{server.tcp}") as app:
        assert app.push("Click", row)["ack_lsn"] == first["ack_lsn"]
        assert app.get("Users", "a") == {"n": 3}
        # A shorter window has passed; null takes the option back.
        app.register({**nodes[0], "dedupe_window_ms": 1}, nodes[1])
        assert until(False, lambda: app.push("Click", row)["idempotent_replay"]) is False
        app.register({**nodes[0], "dedupe_key": None}, nodes[1])
        assert [app.push("Click", row)["idempotent_replay"] for _ in range(2)] == [False, False]


@pytest.mark.gauge_only
def test_an_id_is_a_field_that_can_be_one(app):
    for key, code in (("nope", "invalid_registration"), ("took", "invalid_registration"), (7, "invalid_registration")):
        assert code_of(app.register, {**event(), "dedupe_key": key}, table(n=count())) == code
    app.register({**event(), "dedupe_key": "page"}, table(n=count()))
    assert code_of(app.register, event(user="str", took="f64"), table(n=count())) in ("force_required", "invalid_registration")


@pytest.mark.gauge_only
def test_lives_of_keys_have_bounds(app):
    for life in (0, -1, 3650 * 86_400_000 + 1, "1d"):
        assert code_of(app.register, {**event(), "cold_after_ms": life}, table(n=count())) == "invalid_registration", life
        assert code_of(app.register, event(), {**table(n=count()), "expire_after_ms": life}) == "invalid_registration", life
    app.register(event(), {**table(n=count()), "expire_after_ms": 86_400_000})


def test_a_registration_of_another_media_type_is_refused_in_words_that_clients_know(start):
    server = start()
    refused = httpx.post(f"http://{server.http}/register", content=b"{}", headers={"Content-Type": "text/plain"}, timeout=10)
    assert (refused.status_code, refused.json()["error"]["code"]) == (415, "unsupported_media_type")
    assert "expected `application/json`" in refused.json()["error"]["reason"] and refused.json()["registry_version"] == 0


def test_the_bare_binary_names_the_flags_of_the_server_and_goes_by_the_name_of_its_peer(tmp_path):
    peer = tmp_path / "beava"
    peer.symlink_to(binary())
    for name in (binary(), str(peer)):
        told = subprocess.run([name, "--help"], capture_output=True, text=True, timeout=30, check=True).stdout
        for flag in ("--config", "--http-addr", "--tcp-addr", "--data-dir", "--memory-only", "--test-mode"):
            assert flag in told, flag
    version = subprocess.run([str(peer), "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    assert version.startswith("beava 0.0.6")


def test_an_embedded_server_binds_any_port_says_where_and_ends_when_it_is_told(tmp_path):
    (tmp_path / "wal").mkdir()
    (tmp_path / "snapshots").mkdir()
    given = dict(os.environ, BEAVA_LISTEN_ADDR="127.0.0.1:0", BEAVA_TCP_PORT="0", BEAVA_ADMIN_ADDR="127.0.0.1:0", BEAVA_DEV_ENDPOINTS="1",
                 BEAVA_WAL_DIR=str(tmp_path / "wal"), BEAVA_SNAPSHOT_DIR=str(tmp_path / "snapshots"), BEAVA_TEST_MODE="1")
    server = subprocess.Popen([binary(), "--config", "/dev/null"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=given, text=True)
    try:
        bound = {}
        while len(bound) < 2:
            line = server.stdout.readline()
            assert line, "it ended before it was bound"
            record = json.loads(line) if line.startswith("{") else {}
            if record.get("kind") in ("server.http_bound", "server.tcp_bound"):
                bound[record["kind"]] = record["addr"]
        assert all(addr.startswith("127.0.0.1:") and not addr.endswith(":0") for addr in bound.values()), bound
        with bv.App(f"tcp://{bound['server.tcp_bound']}") as app:
            app.register(event(), table(n=count()))
            app.reset()
            assert app.register(event(), table(n=count()))["added"] == ["Click", "Users"]
        server.send_signal(signal.SIGTERM)
        # Whoever embeds it waits five seconds, then kills.
        server.communicate(timeout=5)
        assert server.returncode == 0
    finally:
        server.kill()
        server.wait()
