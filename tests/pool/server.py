"""The application under gunicorn, as one worker with many threads: a process that we start, reach
and end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from consistency.server import PATIENCE, TESTS

SETTINGS = {
    "worker_class": "gthread",
    "workers": 1,
    "threads": 100,
    "keepalive": 60,  # seconds; a browser's connection outlives the pauses between its requests
    "preload_app": False,
}


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    port: int
    folder: Path

    def counts(self) -> dict[str, Any]:
        """What the application has counted since its start."""
        counts: dict[str, Any] = json.loads(self._ask("GET", "/counts"))
        return counts

    def answer_calls(self) -> None:
        """Nobody's call hangs any longer."""
        self._ask("POST", "/answer")

    def log(self) -> str:
        """What server and application wrote."""
        return (self.folder / "server.log").read_text(errors="replace")

    def _ask(self, method: str, path: str) -> bytes:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, headers={"Connection": "close"})
            return connection.getresponse().read()
        finally:
            connection.close()


@contextmanager
def gunicorn(folder: Path, **config: Any) -> Iterator[Server]:
    """*config* is the application's. Who asks before it serves waits in the socket's queue."""
    # The socket is bound here and inherited, so that nobody can take the port in between.
    with (
        socket.create_server(("127.0.0.1", 0), backlog=512) as listener,
        (folder / "server.log").open("wb") as log,
    ):
        server = Server(listener.getsockname()[1], folder)
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--config", "python:consistency.gunicorn_conf",
             "--bind", f"fd://{listener.fileno()}", "pool.app:create_app()"],
            env=_environ(folder, config),
            pass_fds=(listener.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )  # fmt: skip
    try:
        yield server
    except Exception as error:
        error.add_note(server.log()[-10_000:])
        raise
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _environ(folder: Path, config: dict[str, Any]) -> dict[str, str]:
    config = {"USERCACHE_STATE_FILE": f"{folder}/numbers.state", **config}
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
        "GUNICORN_SETTINGS": json.dumps(SETTINGS),
        **{f"POOL_{name}": json.dumps(value) for name, value in config.items()},
    }
