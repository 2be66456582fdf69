"""A line to PostgreSQL that can be cut at a COMMIT."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Literal

import sqlalchemy as sa

COMMIT = b"COMMIT\0"

# What is lost of the next COMMIT: itself, what the server answers, or the line, as soon as the
# server has it.
Loss = Literal["commit", "answer", "line"]


class CommitProxy:
    """A place to connect to instead of the server, which is at *target*."""

    def __init__(self, target: sa.URL) -> None:
        self.loses: Loss | None = None
        self.sent = threading.Event()  # a COMMIT was handed to the server
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        host, port = self._listener.getsockname()
        plain = {"sslmode": "disable", "gssencmode": "disable"}  # so that it can be read here
        url = target.difference_update_query(["host", "port"]).update_query_dict(plain)
        self.url = url.set(host=host, port=port)
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        """Cut every line and take no more."""
        for each in self._open:
            _cut(each)
            each.close()

    def _listen(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, server = self._listener.accept()[0], self._dial()
                self._open += [client, server]
                line = _Line(self, client, server)
                for way in (line.up, line.down):
                    threading.Thread(target=way, daemon=True).start()

    def _dial(self) -> socket.socket:
        host = str(self._target.query.get("host") or self._target.host or "localhost")
        port = self._target.port or 5432
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server


class _Line:
    """One connection through the proxy; each way is a thread's."""

    def __init__(self, proxy: CommitProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._loses_answer = False

    def up(self) -> None:
        """What the client says."""
        with suppress(OSError):
            while said := self._client.recv(65536):
                loses = None
                if COMMIT in said:
                    loses, self._proxy.loses = self._proxy.loses, None
                if loses == "commit":
                    break
                self._loses_answer = loses is not None
                self._server.sendall(said)
                if COMMIT in said:
                    self._proxy.sent.set()
                if loses == "line":
                    break
        _cut(self._client)
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_WR)  # what it has, it may still execute

    def down(self) -> None:
        """What the server says."""
        with suppress(OSError):
            while said := self._server.recv(65536):
                if self._loses_answer:
                    break
                self._client.sendall(said)
        _cut(self._client)
        _cut(self._server)


def _cut(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
