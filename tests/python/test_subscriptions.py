"""Subscriptions through clients that are not ours: `websockets` in both subprotocols, and `curl -N`."""

import contextlib
import json
import socket
import struct
import subprocess
import urllib.parse

import beava as bv
import httpx
import msgpack
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

WITHIN = 20


@bv.event
class Click:
    user: str
    took: float


# The SDK knows no bytes.
LOGIN = {"kind": "event", "name": "Login", "schema": {"fields": {"user": "str", "raw": "bytes"}, "optional_fields": []}}


class Socket:
    """One socket of a client; messages are dictionaries in both encodings."""

    def __init__(self, server, target, encoding="json", **options):
        self.encoding = encoding
        self.socket = connect(f"ws://{server.admin}{target}", subprotocols=[f"streamgauge.v1.{encoding}"], max_size=None, **options)
        assert self.socket.subprotocol == f"streamgauge.v1.{encoding}"

    def say(self, **message):
        self.socket.send(json.dumps(message) if self.encoding == "json" else msgpack.packb(message))

    def next(self):
        message = self.socket.recv(timeout=WITHIN)
        return json.loads(message) if self.encoding == "json" else msgpack.unpackb(message)

    def named(self, kind, sub):
        """The next message of this kind for this subscription; how far was looked, and which versions, may be said at any time."""
        while True:
            message = self.next()
            if message["type"] in ("position", "schema") and kind != message["type"]:
                continue  # of any subscription, at any time
            assert (message["type"], message.get("sub")) == (kind, sub), message
            return message

    def rows(self, sub, event, count):
        rows, last = [], 0
        while len(rows) < count:
            message = self.named("txn", sub)
            assert message["id"] == message["data"]["lsn"][1] > last
            last = message["id"]
            rows += message["data"]["rows"][event]["rows"]
        return rows, last


pytestmark = pytest.mark.gauge_only


@pytest.fixture
def server(start):
    return start()


@pytest.fixture
def app(server):
    with bv.App(f"http://{server.http}") as remote:
        remote.register(Click)
        httpx.post(f"http://{server.http}/register", json={"nodes": [LOGIN]}).raise_for_status()
        yield remote


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_one_socket_carries_several_subscriptions(app, server, encoding):
    socket = Socket(server, "/subscribe/Click?" + urllib.parse.urlencode({"where": "took >= 1"}), encoding)
    hello = socket.named("hello", "Click")["data"]
    assert hello["events"] == {"Click": {"schema": 1}}
    socket.say(type="subscribe", sub="slim", events="Click", fields=["user"], **{"from": "earliest"})
    socket.named("hello", "slim")
    socket.say(type="unsubscribe", sub="Click")
    socket.named("unsubscribed", "Click")
    for number in range(4):
        app.push("Click", {"user": f"u{number}", "took": float(number)})
    rows, last = socket.rows("slim", "Click", 4)
    assert [row["user"] for row in rows] == ["u0", "u1", "u2", "u3"] and all("took" not in row for row in rows)
    assert [row["lsn"] for row in rows] == list(range(rows[0]["lsn"], rows[0]["lsn"] + 4))
    # Where another client was, with a filter of its own.
    socket.say(type="subscribe", sub="rest", events=["Click"], after=last - 2, where="took > 2")
    socket.named("hello", "rest")
    assert socket.rows("rest", "Click", 1)[0] == [{"lsn": last, "user": "u3", "took": 3.0}]


def test_messagepack_says_what_json_says_with_bytes_as_bytes(app, server):
    packed, text = (Socket(server, "/subscribe/Login", encoding) for encoding in ("msgpack", "json"))
    packed.named("hello", "Login"), text.named("hello", "Login")
    # [u32 length][u16 opcode push][u8 MessagePack][payload]: JSON has no bytes to push.
    payload = msgpack.packb({"event": "Login", "body": {"user": "ü \" \\", "raw": b"\x00\x01\xff"}})
    host, port = server.tcp.split(":")
    with socket.create_connection((host, int(port)), WITHIN) as wire:
        wire.sendall(struct.pack(">IHB", len(payload) + 3, 0x0010, 2) + payload)
        assert b"ack_lsn" in wire.recv(4096)
    (packed_rows, _), (text_rows, _) = packed.rows("Login", "Login", 1), text.rows("Login", "Login", 1)
    assert packed_rows == [{**text_rows[0], "raw": b"\x00\x01\xff"}] and text_rows[0]["raw"] == "AAH/"
    assert text_rows[0]["user"] == "ü \" \\"


def test_what_is_wrong_is_told_and_the_socket_stays(app, server):
    socket = Socket(server, "/subscribe/Click")
    socket.named("hello", "Click")
    socket.named("position", "Click")
    socket.socket.send("{")
    assert socket.named("error", None)["data"]["code"] == "invalid_request"
    for message, kind, code in [
        ({"type": "subscribe", "sub": "a", "events": "Klick"}, "close", "event_not_found"),
        ({"type": "subscribe", "sub": "a", "events": "*"}, "close", "subscribe_all_excludes_events"),
        ({"type": "subscribe", "sub": "a", "events": "Click", "form": "live"}, "close", "unknown_member"),
        ({"type": "subscribe", "sub": "a", "events": "Click", "from": 10**9}, "close", "position_ahead"),
        ({"type": "subscribe", "sub": "a", "events": "Click", "where": "took >"}, "close", "invalid_expression"),
        ({"type": "subscribe", "sub": "Click", "events": "Click"}, "error", "invalid_request"),
        ({"type": "unsubscribe", "sub": "a"}, "error", "invalid_request"),
        ({"type": "listen", "sub": "a"}, "error", "invalid_request"),
        ({"type": "subscribe", "sub": "x" * 300, "events": "Click"}, "error", "invalid_request"),
    ]:
        socket.say(**message)
        answer = socket.named(kind, message["sub"] if len(message["sub"]) < 300 else None)
        assert answer["data"]["code"] == code, (message, answer)
    app.push("Click", {"user": "u", "took": 1.0})
    assert socket.rows("Click", "Click", 1)[0][0]["user"] == "u"
    # A page of another site is kept out: browsers let it open sockets.
    with pytest.raises(InvalidStatus) as refused:
        Socket(server, "/subscribe/Click", additional_headers={"Origin": "https://evil.example"})
    assert refused.value.response.status_code == 403


def test_a_stopping_server_says_so_and_closes(app, server):
    socket = Socket(server, "/subscribe/Click")
    socket.named("hello", "Click")
    server.process.terminate()
    closed = socket.named("close", "Click")["data"]
    assert (closed["code"], closed["retry"]) == ("server_stopping", True)
    with contextlib.suppress(Exception):
        socket.socket.recv(timeout=WITHIN)
    assert server.process.wait(WITHIN) == 0


def test_curl_prints_the_stream(app, server):
    command = ["curl", "-sN", "--max-time", str(WITHIN), f"http://{server.admin}/subscribe/Click?from=earliest"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl:
        app.push("Click", {"user": "u", "took": 1.0})
        lines = iter(curl.stdout.readline, "")
        assert next(lines) == "event: hello\n"
        ids = [line for line in iter(lambda: next(lines), "event: txn\n") if line.startswith("id: ")]
        assert json.loads(next(lines).removeprefix("data: "))["rows"]["Click"]["rows"][0]["user"] == "u"
        assert len(ids) == 1
        curl.kill()
