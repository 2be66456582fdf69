"""What was answered a moment ago, ready to be answered again: one look-up and no parsing.

An entry is good for less than a second, so the headers that tell the time stand in it as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: Status, headers and body of an answer; the headers are the caller's to change.
Reply = tuple[str, list[tuple[str, str]], Iterable[bytes]]

_MOST = 4096  # paths
_MOST_VARIANTS = 16  # of one path
_LONGEST = 1024  # characters of a path or of what it varies by


class Ready(Protocol):
    """What may be at hand for a path."""

    def reply_to(self, environ: WSGIEnvironment, now: float) -> Reply | None:
        """Return the answer, None if that takes more than is at hand."""


class ReadyFile:
    """The answers to a GET of one kept file. *stands*, if there is one, is asked each time."""

    __slots__ = ("_body", "_etag", "_good_until", "_stands", "_unmodified", "_whole")

    def __init__(
        self,
        body: bytes,
        etag: str,
        whole: list[tuple[str, str]],
        unmodified: list[tuple[str, str]],
        *,
        good_until: float,
        stands: Callable[[], bool] | None,
    ) -> None:
        self._body = body
        self._etag = etag
        self._whole = whole
        self._unmodified = unmodified
        self._good_until = good_until
        self._stands = stands

    def reply_to(self, environ: WSGIEnvironment, now: float) -> Reply | None:
        if (
            now >= self._good_until
            or environ["REQUEST_METHOD"] != "GET"
            or "HTTP_RANGE" in environ
            or "HTTP_IF_MATCH" in environ
            or "HTTP_UPGRADE" in environ  # another rule may answer a WebSocket
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
    """Several files for one path, told apart by request headers."""

    __slots__ = ("_files", "_names")

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._files: dict[tuple[str | None, ...], ReadyFile] = {}

    def reply_to(self, environ: WSGIEnvironment, now: float) -> Reply | None:
        file = self._files.get(tuple(map(environ.get, self._names)))
        return None if file is None else file.reply_to(environ, now)

    def put(self, environ: WSGIEnvironment, file: ReadyFile) -> None:
        key = tuple(map(environ.get, self._names))
        if sum(len(part or "") for part in key) <= _LONGEST:
            if len(self._files) >= _MOST_VARIANTS:
                self._files.clear()
            self._files[key] = file


class AtHand:
    """The table of what is ready, by ``PATH_INFO``: bounded, and emptied when anything changes.

    No lock is taken, so nothing can be left locked by a fork.
    """

    def __init__(self) -> None:
        self._table: dict[str, Ready] = {}
        #: The look-up.
        self.get: Callable[[str], Ready | None] = self._table.get
        #: Another object after each change.
        self.version = object()

    def put(
        self,
        environ: WSGIEnvironment,
        file: ReadyFile,
        *,
        varies_by: tuple[str, ...],
        version: object,
    ) -> None:
        """Have *file* ready for this path, if nothing has changed since *version* was read."""
        table, path = self._table, environ["PATH_INFO"]
        if len(path) > _LONGEST:
            return
        if len(table) >= _MOST:
            table.clear()
        if varies_by:
            varying = table.get(path)
            if not isinstance(varying, Varying):
                varying = Varying(varies_by)
            varying.put(environ, file)
            table[path] = varying
        else:
            table[path] = file
        if (
            self.version is not version
        ):  # looked at last: whoever changes it empties the table next
            table.pop(path, None)

    def clear(self) -> None:
        """Have everything found out anew: the files, the app or its listeners have changed."""
        self.version = object()
        self._table.clear()
