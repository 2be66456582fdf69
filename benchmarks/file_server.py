"""How many files a second does gunicorn send through the middleware, compared with a constant?

All servers are up at once and asked in turn by one client, which is another process than theirs:
raw sockets, several connections, each asking again as soon as it is answered.
"""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Self

from . import file_sites
from .racing import answer_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 20.0  # seconds for gunicorn to answer, and to end
CONNECTIONS = 4
ROUNDS = 200
REQUESTS = 200  # a round, over all connections
OPTIONS = (
    *("--worker-class", "gthread", "--workers", "1", "--threads", "4", "--keep-alive", "60"),
    *("--no-control-socket", "--log-level", "warning"),  # and no access log
)


def ours(folder: str) -> WSGIApplication:
    """What gunicorn serves: our middleware."""
    return file_sites.ours(Path(folder))


def ours_after_a_page(folder: str) -> WSGIApplication:
    """What gunicorn serves: our middleware, through which a page has gone."""
    app = file_sites.ours(Path(folder))
    answer_of(file_sites.asking(app, "/"))
    return app


def whitenoise(folder: str) -> WSGIApplication:
    """What gunicorn serves: WhiteNoise."""
    return file_sites.whitenoise(Path(folder))


def constant(folder: str) -> WSGIApplication:
    """What gunicorn serves: what our middleware answers, once and for all."""
    asked = file_sites.asking(file_sites.ours(Path(folder)), "/static/small.css")
    answer = answer_of(asked)
    return file_sites.constant(answer.status, answer.headers, answer.body)


class Server:
    """A gunicorn on a free loopback port and connections to it, while the context lasts."""

    def __init__(self, name: str, folder: Path, request: bytes) -> None:
        self._app = f"{__package__}.file_server:{name}({str(folder)!r})"
        self._request = request
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        # Bound here and inherited, so that nobody can take the port in between.
        with socket.create_server(("127.0.0.1", 0)) as listener:
            # gunicorn does the same, but not for those who connect before it is up.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            address = listener.getsockname()
            bind = ("--bind", f"fd://{listener.fileno()}")
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "gunicorn", *OPTIONS, *bind, self._app],
                cwd=ROOT,
                pass_fds=(listener.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C is for us, who then end this
            )
        try:
            for _ in range(CONNECTIONS):
                self._sockets.append(socket.create_connection(address, timeout=PATIENCE))
            self.head, self.body = self._first()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self._size = len(self.head) + len(self.body)
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        for each in self._sockets:
            each.close()
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def per_second(self, requests: int) -> float:
        """Return how many answers a second came, of *requests*."""
        with selectors.DefaultSelector() as selector:
            began = perf_counter()
            for each in self._sockets:
                selector.register(each, selectors.EVENT_READ)
                each.sendall(self._request)
            self._read(selector, requests - len(self._sockets))
            return requests / (perf_counter() - began)

    def cpu(self) -> float:
        """Return the microseconds the worker has worked, whoever else was at work meanwhile."""
        master = self._process.pid
        worker = Path(f"/proc/{master}/task/{master}/children").read_text().split()[0]
        fields = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") * 1e6

    def _read(self, selector: selectors.BaseSelector, left: int) -> None:
        """Read what was asked for, and ask *left* times more."""
        missing = dict.fromkeys(self._sockets, self._size)
        while missing:
            ready = selector.select(PATIENCE)
            if not ready:
                raise RuntimeError(f"{self._app} fell silent")
            for key, _ in ready:
                connection: socket.socket = key.fileobj  # type: ignore[assignment]  # ours are
                missing[connection] -= len(connection.recv(65536)) or self._size * 2
                if missing[connection] < 0:
                    raise RuntimeError(f"{self._app} answered something else")
                if missing[connection] == 0 and left:
                    left -= 1
                    missing[connection] = self._size
                    connection.sendall(self._request)
                elif missing[connection] == 0:
                    del missing[connection]

    def _first(self) -> tuple[bytes, bytes]:
        """Return head and body of a first answer."""
        self._sockets[0].sendall(self._request)
        with self._sockets[0].makefile("rb") as answer:
            head = b"".join(iter(answer.readline, b"\r\n")) + b"\r\n"
            lines = head.lower().split(b"\r\n")
            size = next(line[15:] for line in lines if line.startswith(b"content-length:"))
            return head, answer.read(int(size))


def compare(
    folder: Path, cookie: str, names: Sequence[str]
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return by application the answers a second, one figure a round, and what one costs: the
    microseconds its worker was at work."""
    headers = {"Host": "localhost", **file_sites.BROWSER, "Cookie": cookie}
    lines = ["GET /static/small.css HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    request = "\r\n".join([*lines, "", ""]).encode()
    rates: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        servers = {name: stack.enter_context(Server(name, folder, request)) for name in names}
        for name, server in servers.items():
            if server.body != (folder / "small.css").read_bytes():
                raise RuntimeError(f"{name} answers something else: {server.head!r}")
            server.per_second(REQUESTS)  # warm-up
        before = {name: server.cpu() for name, server in servers.items()}
        for turn in range(ROUNDS):
            for name in names if turn % 2 else reversed(names):
                rates[name].append(servers[name].per_second(REQUESTS))
        spent = {name: servers[name].cpu() - before[name] for name in names}
    return rates, {name: each / (ROUNDS * REQUESTS) for name, each in spent.items()}
