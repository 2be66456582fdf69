"""The application under gunicorn, as one worker with many threads: a process that we start, reach
and end."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from consistency.server import PATIENCE, TESTS, listening

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
    """*config* is the application's."""
    command = ["gunicorn", "--config", "python:consistency.gunicorn_conf", "--bind", "fd://{fd}"]
    environ = _environ(folder, config)
    with listening([*command, "pool.app:create_app()"], folder, environ) as (_, port):
        yield Server(port, folder)


def _environ(folder: Path, config: dict[str, Any]) -> dict[str, str]:
    config = {"USERCACHE_STATE_FILE": f"{folder}/numbers.state", **config}
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
        "GUNICORN_SETTINGS": json.dumps(SETTINGS),
        **{f"POOL_{name}": json.dumps(value) for name, value in config.items()},
    }
