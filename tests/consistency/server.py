"""A server of the application, and the script beside it: processes that we start and end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

from .client import Client

TESTS = Path(__file__).resolve().parents[1]
PATIENCE = 20.0  # seconds for a process to answer first, and again to end


class Script:
    """The writer that serves nobody; it makes the tables first."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lock = Lock()
        self._answer()

    def change(self, aspect: str, user_id: int) -> dict[str, Any]:
        with self._lock:
            assert self._process.stdin is not None
            print(aspect, user_id, file=self._process.stdin, flush=True)
            told: dict[str, Any] = self._answer()
            return told

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the script ended")
        return json.loads(line)


class Server:
    """A running server; its workers are its children."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
        self._process = process
        self._folder = folder
        self.client = Client(port)

    def workers(self) -> list[int]:
        """The processes that are the server's children now."""
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def kill_worker(self, pid: int) -> None:
        """End one of them with SIGKILL, at whatever it is."""
        if pid in self.workers():
            os.kill(pid, signal.SIGKILL)

    def reload(self) -> None:
        self._process.send_signal(signal.SIGHUP)

    def log(self) -> str:
        """What server and application wrote."""
        return (self._folder / "server.log").read_text(errors="replace")


@contextmanager
def script(folder: Path, **config: Any) -> Iterator[Script]:
    with (
        (folder / "script.log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "consistency.script"],
            env=_environ(folder, config),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            yield Script(process)
        except BaseException:
            process.kill()
            raise
        finally:
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()  # ends it
            _end(process)


@contextmanager
def gunicorn(folder: Path, settings: dict[str, Any], **config: Any) -> Iterator[Server]:
    """*settings* are gunicorn's, *config* is the application's."""
    command = ["gunicorn", "--config", "python:consistency.gunicorn_conf", "--bind", "fd://{fd}"]
    config["settings"] = json.dumps(settings)
    with _serving([*command, "consistency.app:create_app()"], folder, config) as server:
        yield server


@contextmanager
def waitress(folder: Path, **config: Any) -> Iterator[Server]:
    command = ["consistency.waitress_server", "{fd}"]
    with _serving(command, folder, config) as server:
        yield server


@contextmanager
def _serving(command: list[str], folder: Path, config: dict[str, Any]) -> Iterator[Server]:
    with listening(command, folder, _environ(folder, config)) as (process, port):
        yield Server(process, port, folder)


@contextmanager
def listening(
    command: list[str], folder: Path, environ: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A Python module that serves on the descriptor `{fd}`, and its port. It writes `server.log`.

    Who asks before it serves waits in the socket's queue.
    """
    # The socket is bound here and inherited, so that nobody can take the port in between.
    with (
        socket.create_server(("127.0.0.1", 0), backlog=512) as listener,
        (folder / "server.log").open("wb") as log,
    ):
        port, fd = listener.getsockname()[1], listener.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", *(part.format(fd=fd) for part in command)],
            env=environ,
            pass_fds=(fd,),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process, port
    except Exception as error:
        error.add_note((folder / "server.log").read_text(errors="replace")[-10_000:])
        raise
    finally:
        _end(process)


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _environ(folder: Path, config: dict[str, Any]) -> dict[str, str]:
    settings = config.pop("settings", "{}")
    config = {
        "SQLALCHEMY_DATABASE_URI": f"sqlite:///{folder}/users.sqlite?timeout=30",
        "USERCACHE_STATE_FILE": f"{folder}/numbers.state",
        **config,
    }
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
        "GUNICORN_SETTINGS": settings,
        **{f"CONSISTENCY_{name}": json.dumps(value) for name, value in config.items()},
    }
