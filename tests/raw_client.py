"""An HTTP client that shows what the server put on the wire, and where it does not add up.

It takes as a body what Content-Length says, neither more nor less, so on a kept connection a wrong
length shows as an answer that does not begin with a status line. Nothing it does takes for ever.
"""

from __future__ import annotations

import hashlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

PATIENCE = 30.0  # seconds that one answer may take in all
WINDOW = 2**18  # bytes the kernel takes in for a client that does not read; fixed, else it grows
_PIECE = 2**18  # bytes


@dataclass(frozen=True, slots=True)
class Body:
    """What is to be known of so many bytes that an assertion must not show them."""

    size: int
    digest: str

    @classmethod
    def of(cls, content: bytes) -> Body:
        return cls(len(content), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True, slots=True)
class Head:
    status: int
    headers: dict[str, str]  # names in lower case

    @property
    def length(self) -> int:
        return int(self.headers["content-length"])

    @property
    def is_last(self) -> bool:
        return self.headers["connection"].lower() == "close"


@dataclass(frozen=True, slots=True)
class Answer:
    head: Head
    body: Body

    @property
    def is_whole(self) -> bool:
        return self.body.size == self.head.length


class Connection:
    """One connection to a server on this machine."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(("127.0.0.1", port))
        self._held = b""  # received, and not yet taken

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def send(self, path: str, method: str = "GET", **headers: str) -> None:
        """Ask; several times before reading, if need be."""
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())

    def head(self) -> Head:
        deadline = monotonic() + PATIENCE
        while b"\r\n\r\n" not in self._held:
            piece = self._receive(deadline)
            assert piece, f"the connection ended before an answer; only {self._held[:200]!r} came"
            self._held += piece
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        assert first.startswith("HTTP/1.1 "), f"no answer begins like this: {head[:200]!r}"
        pairs = [line.split(": ", 1) for line in lines]
        headers = {name.lower(): value for name, value in pairs}
        assert len(headers) == len(pairs), f"a header is there twice: {pairs}"
        assert "transfer-encoding" not in headers
        return Head(int(first.split()[1]), headers)

    def body(self, length: int) -> Body:
        """So many bytes, or as many as come before the connection ends."""
        deadline = monotonic() + PATIENCE
        digest, missing = hashlib.sha256(), length
        while missing:
            self._held = self._held or self._receive(deadline)
            if not self._held:
                break
            piece, self._held = self._held[:missing], self._held[missing:]
            digest.update(piece)
            missing -= len(piece)
        return Body(length - missing, digest.hexdigest())

    def ends(self) -> bool:
        """Whether the server closes it now without another byte."""
        return not self._held and not self._receive(monotonic() + PATIENCE)

    def finish(self) -> None:
        """Say that nothing more is asked."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close it as a client does that died."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _receive(self, deadline: float) -> bytes:
        """What comes next; nothing if the server has closed the connection, in whatever way."""
        self._socket.settimeout(max(deadline - monotonic(), 0.001))
        try:
            return self._socket.recv(_PIECE)
        except ConnectionResetError:
            return b""


class Visitor:
    """Asks one thing after the other, over one connection for as long as the server keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: Connection | None = None
        self.connections = 0  # taken so far

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, kind: Any, *exception: object) -> None:
        if self._connection is not None:
            with self._connection as connection:
                if kind is None:
                    connection.finish()
                    assert connection.ends(), "something came that nobody asked for"

    def ask(
        self,
        path: str,
        method: str = "GET",
        meanwhile: Callable[[], object] = lambda: None,
        **headers: str,
    ) -> Answer:
        """The answer; *meanwhile* is done when its head was read, and nothing of its body yet."""
        if self._connection is None:
            self._connection = Connection(self._port)
            self.connections += 1
        self._connection.send(path, method, **headers)
        head = self._connection.head()
        meanwhile()
        has_body = method != "HEAD" and head.status not in (204, 304)
        body = self._connection.body(head.length if has_body else 0)
        if head.is_last:
            with self._connection as connection:
                assert connection.ends(), "something came after the last answer"
            self._connection = None
        return Answer(head, body)
