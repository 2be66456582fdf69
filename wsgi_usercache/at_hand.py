"""What was answered a moment ago, ready to be answered again: one look-up and no parsing.

An entry is good for less than a second, so the headers that tell the time stand in it as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: Status, headers and body of an answer; the headers are the caller's to change.
Reply = tuple[str, list[tuple[str, str]], Iterable[bytes]]

_MOST = 4096  # answers
_LONGEST = 1024  # characters of a path and of what it varies by


class Ready(Protocol):
    """What may be at hand for a path."""

    def reply_to(self, environ: WSGIEnvironment, now: float) -> Reply | None:
        """Return the answer, None if that takes more than is at hand."""


Table = dict[str | tuple[str | None, ...], Ready]


class ReadyFile:
    """The answers to a GET of one kept file, for a Host header that is among *hosts*.

    *stands*, if there is one, is asked each time.
    """

    __slots__ = ("_body", "_etag", "_good_until", "_hosts", "_stands", "_unmodified", "_whole")

    def __init__(
        self,
        body: bytes,
        etag: str,
        whole: list[tuple[str, str]],
        unmodified: list[tuple[str, str]],
        *,
        good_until: float,
        hosts: Container[str | None],
        stands: Callable[[], bool] | None,
    ) -> None:
        self._body = body
        self._etag = etag
        self._whole = whole
        self._unmodified = unmodified
        self._good_until = good_until
        self._hosts = hosts
        self._stands = stands

    def reply_to(self, environ: WSGIEnvironment, now: float) -> Reply | None:
        if (
            now >= self._good_until
            or environ["REQUEST_METHOD"] != "GET"
            or "HTTP_RANGE" in environ
            or "HTTP_IF_MATCH" in environ
            or "HTTP_UPGRADE" in environ  # another rule may answer a WebSocket
            or environ.get("HTTP_HOST") not in self._hosts
            or (self._stands is not None and not self._stands())
        ):
            return None
        # If-Modified-Since is not looked at beside it (RFC 9110 §13.1.3).
        if "HTTP_IF_NONE_MATCH" in environ:
            if environ["HTTP_IF_NONE_MATCH"] == self._etag:
                return "304 NOT MODIFIED", self._unmodified.copy(), ()
            return None
        if "HTTP_IF_MODIFIED_SINCE" in environ:
            return None
        return "200 OK", self._whole.copy(), (self._body,)


class Varying:
    """Says that there are several files for a path, told apart by what *names* are in the environ.

    They stand in the same *table*, so that its bound is theirs.
    """

    __slots__ = ("_table", "names")

    def __init__(self, table: Table, names: tuple[str, ...]) -> None:
        self._table = table
        self.names = names

    def key(self, environ: WSGIEnvironment) -> tuple[str | None, ...]:
        return environ["PATH_INFO"], *map(environ.get, self.names)

    def reply_to(self, environ: WSGIEnvironment, now: float) -> Reply | None:
        file = self._table.get(self.key(environ))
        return None if file is None else file.reply_to(environ, now)


class AtHand:
    """What is ready, by ``PATH_INFO``: a bounded table, and another one when anything changes.

    Who makes an answer ready writes into the table that was there before it was found out, so what
    a change has outdated is put where nobody looks. No lock is taken that a fork could leave held.
    """

    def __init__(self) -> None:
        #: The table as of now.
        self.table: Table = {}

    def clear(self) -> None:
        """Have everything found out anew: the files, the app or its listeners have changed."""
        self.table = {}


def put(
    table: Table, environ: WSGIEnvironment, file: ReadyFile, varies_by: tuple[str, ...]
) -> None:
    """Have *file* ready for this path and what its answer *varies_by*."""
    path: str = environ["PATH_INFO"]
    if len(table) >= _MOST:
        table.clear()
    if not varies_by:
        if len(path) <= _LONGEST:
            table[path] = file
        return
    varying = table.get(path)
    if not isinstance(varying, Varying):
        varying = Varying(table, varies_by)
    key = varying.key(environ)
    if sum(len(part or "") for part in key) <= _LONGEST:
        table[path] = varying
        table[key] = file
