"""The processes of the application, which we start and end, and browsers at its server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import HTTPCookieProcessor, ProxyHandler, build_opener

import sqlalchemy as sa
from celery import Celery
from waiting import PATIENCE, until

ANN, BOB = 1, 2
TTL = 3600  # seconds: whatever is seen here is not seen because of it


class Read(NamedTuple):
    """What a request saw."""

    name: str
    loads: int


class Browser:
    """Somebody who has logged in."""

    def __init__(self, port: int, user_id: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._opener = build_opener(HTTPCookieProcessor(), ProxyHandler({}))
        self._get(f"/login/{user_id}")

    def read(self) -> Read:
        return Read(**self._get("/me"))

    def warm(self) -> None:
        """Have the user remembered: the next request costs nothing."""
        self.read()
        assert self.read().loads == 0, "the entry is cold"

    def _get(self, path: str) -> Any:
        with self._opener.open(self._url + path, timeout=PATIENCE) as answer:
            return json.load(answer)


class Application:
    """One database with ann and bob in it; *settings* are those of every process."""

    def __init__(self, folder: Path, database: sa.URL, **settings: Any) -> None:
        self._folder = folder
        self._numbers = count()
        self._outbox, self._inbox = folder / "outbox", folder / "inbox"
        settings = {
            "SQLALCHEMY_DATABASE_URI": database.render_as_string(hide_password=False),
            "USERCACHE_TTL": TTL, "CELERY": self._celery(self._inbox), **settings,
        }  # fmt: skip
        self._environ = {
            **os.environ,
            "RUNTIME_DIRECTORY": str(folder),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "PYTHONUNBUFFERED": "1",
            **{f"ELSEWHERE_{name}": json.dumps(value) for name, value in settings.items()},
        }
        self._outbox.mkdir()
        self._inbox.mkdir()
        engine = sa.create_engine(database, poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
            connection.exec_driver_sql("INSERT INTO users VALUES (1, 'ann'), (2, 'bob')")

    def new_name(self) -> str:
        """A name nobody ever had."""
        return f"name {next(self._numbers)}"

    def run(self, module: str, *arguments: Any, ends: int = 0, **environ: str) -> None:
        """Run *module* to its end."""
        done = subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)], check=False, text=True,
            capture_output=True, env={**self._environ, **environ}, timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == ends, done.stderr

    @contextmanager
    def serving(self) -> Iterator[int]:
        """The port of a server; who asks before it serves waits in the socket's queue."""
        # The socket is bound here and inherited, so that nobody can take the port in between.
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port, fd = listener.getsockname()[1], listener.fileno()
            with self._running("elsewhere.server", fd, pass_fds=(fd,)):
                yield port

    @contextmanager
    def shell(self) -> Iterator[Shell]:
        """A `flask shell` that stays open."""
        command = "flask", "--app", "elsewhere.app", "shell"
        with self._running(*command, stdin=subprocess.PIPE) as process:
            yield Shell(process, self._log("flask"))

    @contextmanager
    def worker(self) -> Iterator[Tasks]:
        """A running Celery worker."""
        command = "celery", "--app", "elsewhere.tasks", "worker", "--pool", "prefork"
        celery = Celery()
        celery.config_from_object(self._celery(self._outbox))
        alone = "--without-gossip", "--without-mingle", "--without-heartbeat"
        how = {"start_new_session": True}
        with self._running(*command, *alone, "--concurrency", 2, **how) as process:
            try:
                yield Tasks(celery, self._outbox, self._inbox)
            finally:  # it takes six seconds to end if it is asked to
                os.killpg(process.pid, signal.SIGKILL)

    def _celery(self, control: Path) -> dict[str, Any]:
        """The settings of the worker, or of who sends to it: a broker that needs no server. Each
        of them has its *control* files apart, which the other would read half written."""
        return {
            "broker_url": "filesystem://",
            "broker_transport_options": {
                "data_folder_out": str(self._outbox), "data_folder_in": str(self._inbox),
                "control_folder": str(control), "polling_interval": 0.02,
            },
            "result_backend": self._folder.as_uri(),
            "worker_enable_remote_control": False,
        }  # fmt: skip

    @contextmanager
    def _running(
        self, module: str, *arguments: Any, **how: Any
    ) -> Iterator[subprocess.Popen[str]]:
        with self._log(module).open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, arguments)], text=True, stdout=log,
                stderr=log, env=self._environ, **how,
            )  # fmt: skip
        try:
            yield process
        except BaseException as error:
            error.add_note(self._log(module).read_text())
            raise
        finally:
            _end(process)

    def _log(self, module: str) -> Path:
        return self._folder / f"{module}.log"


class Shell:
    """An interactive interpreter, and what it wrote."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._input = process.stdin
        self._log = log
        self._asked = 0

    def do(self, line: str) -> None:
        """Type *line*, and wait until it is done."""
        assert self._input is not None
        self._asked += 1
        done = f"done {self._asked}"
        print(f"{line}\nprint({done!r})", file=self._input, flush=True)
        until(lambda: f"{done}\n" in self._log.read_text(), done)


class Tasks:
    """Sends tasks to a Celery worker."""

    def __init__(self, celery: Celery, outbox: Path, inbox: Path) -> None:
        self._celery = celery
        self._outbox = outbox
        self._inbox = inbox

    def do(self, task: str, *arguments: Any) -> None:
        """Send a task, and wait until its result says that it is done."""
        sent = self._celery.send_task(task, arguments)
        # The worker would also read what is not written to its end, were it in its folder.
        for message in self._outbox.glob("*.msg"):
            message.rename(self._inbox / message.name)
        sent.get(timeout=PATIENCE, interval=0.02)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
