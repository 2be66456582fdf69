"""One gunicorn worker with static files: a process that we start, look into and end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from consistency.server import TESTS, listening
from waiting import until

SETTINGS = {
    "workers": 1,
    "keepalive": 60,  # seconds; longer than any pause of a client here
    "timeout": 120,  # seconds; a sync worker waits for its client and is not killed for it
    "max_requests": 0,  # it is the same worker to the end
    "graceful_timeout": 3,
    "preload_app": False,
}


@dataclass(frozen=True, slots=True)
class Server:
    """A running server of the files in two folders."""

    port: int
    folder: Path  # `/static/`
    quick: Path  # `/quick/`; in memory, where a write takes no longer than a request
    keeps_connections: bool
    _process: subprocess.Popen[bytes]

    def log(self) -> str:
        """What server and application wrote."""
        return (self.folder.parent / "server.log").read_text(errors="replace")

    def worker(self) -> int:
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        (pid,) = until(lambda: path.read_text().split(), "a worker")
        return int(pid)

    def descriptors_at_rest(self) -> int:
        """How many the worker has once all its clients' connections are closed."""
        proc = Path(f"/proc/{self.worker()}")

        def at_rest() -> int:
            opened = _opened(proc)
            return 0 if set(filter(_is_socket, opened)) - _lasting(proc) else len(opened)

        return int(until(at_rest, "all connections closed"))

    def open_files(self) -> list[str]:
        """The files of its folders that the worker has open, one as often as it has."""
        folders = tuple(f"{folder}{os.sep}" for folder in (self.folder, self.quick))
        opened = _opened(Path(f"/proc/{self.worker()}"))
        return [target for target in opened if target.startswith(folders)]


def put(path: Path, content: bytes) -> Path:
    """Have a file there with that content, from one moment to the next."""
    coming = path.with_name(f"{path.name}.coming")
    coming.write_bytes(content)
    return coming.replace(path)


def _is_socket(target: str) -> bool:
    return target.startswith("socket:")


def _opened(proc: Path) -> list[str]:
    """What each descriptor of a process stands for."""
    targets = []
    for descriptor in (proc / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            targets.append(str(descriptor.readlink()))
    return targets


def _lasting(proc: Path) -> set[str]:
    """The sockets that are nobody's connection: they listen, or lead to the machine itself."""
    rows = [line.split() for line in (proc / "net/tcp").read_text().splitlines()[1:]]
    inodes = [row[9] for row in rows if row[3] == "0A"]
    inodes += [line.split()[6] for line in (proc / "net/unix").read_text().splitlines()[1:]]
    return {f"socket:[{inode}]" for inode in inodes}


@contextmanager
def serving(folder: Path, worker_class: str, options: dict[str, Any] | None) -> Iterator[Server]:
    """*options* are the user cache's, None: without it.

    The files are gone afterwards: they are large, and pytest keeps its folders.
    """
    static = folder / "static"
    static.mkdir()
    command = ["gunicorn", "--config", "python:consistency.gunicorn_conf", "--bind", "fd://{fd}"]
    with TemporaryDirectory(dir="/dev/shm") as quick:
        site = {"folder": str(static), "quick": quick, "options": options}
        environ = _environ(worker_class, site)
        with listening([*command, "static_site:create_app()"], folder, environ) as (process, port):
            yield Server(port, static, Path(quick), worker_class != "sync", process)
    shutil.rmtree(static)


def _environ(worker_class: str, site: dict[str, Any]) -> dict[str, str]:
    threads = 8 if worker_class == "gthread" else 1  # a sync worker with threads is a gthread one
    settings = {**SETTINGS, "worker_class": worker_class, "threads": threads}
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
        "GUNICORN_SETTINGS": json.dumps(settings),
        "STATIC_SITE": json.dumps(site),
    }
