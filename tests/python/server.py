"""A server process behind its two bind lines: the gauge or its peer. Standard library only; shared by the conformance tests and `benches/run`.

Started as the SDK's embed mode starts its own (an empty config, everything else in the environment), or with arguments of the caller's. stdout is drained for
as long as it lives, stderr goes to `server.log` in its folder.
"""

import contextlib
import json
import os
import queue
import socket
import subprocess
import threading
import time

BOUND_SECONDS_MAX = 15
STOP_SECONDS_MAX = 60


def free_port():
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """`http`, `tcp` and `admin` are addresses; `pid` is the process."""

    def __init__(self, binary, folder, arguments=("--config", "/dev/null"), **environment):
        self.folder = folder
        for name in ("wal", "snapshots"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.admin = f"127.0.0.1:{free_port()}"
        given = dict(os.environ, BEAVA_LISTEN_ADDR="127.0.0.1:0", BEAVA_TCP_PORT="0", BEAVA_ADMIN_ADDR=self.admin,
                     BEAVA_WAL_DIR=str(folder / "wal"), BEAVA_SNAPSHOT_DIR=str(folder / "snapshots"), **environment)
        self.spawned = time.perf_counter()
        self.log = open(folder / "server.log", "ab")
        self.process = subprocess.Popen([str(binary), *arguments], stdout=subprocess.PIPE, stderr=self.log, env=given)
        self.pid = self.process.pid
        self.lines = queue.Queue()
        threading.Thread(target=self._drain, daemon=True).start()
        self.http, self.tcp = self._bound("server.http_bound"), self._bound("server.tcp_bound")

    def _drain(self):
        for line in self.process.stdout:
            self.lines.put(line)

    def _bound(self, kind):
        deadline = time.monotonic() + BOUND_SECONDS_MAX
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(queue.Empty, ValueError):
                record = json.loads(self.lines.get(timeout=0.2))
                if record.get("kind") == kind:
                    return record["addr"]
        self.kill9()
        raise RuntimeError(f"no {kind} line within {BOUND_SECONDS_MAX} s; see {self.folder}/server.log")

    def running(self):
        return self.process.poll() is None

    def stop(self):
        """SIGTERM and a clean end; SIGKILL when that takes too long."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS_MAX)
        self.kill9()

    def kill9(self):
        self.process.kill()
        self.process.wait()
        self.log.close()
