"""Which file answers this URL? The very bytes and headers of Flask's own static route, prepared.

Werkzeug's ``send_file`` writes the headers once per version of a file; conditional and range
requests are parsed by Werkzeug, only when such a header is there. Whatever is not plainly a
regular file inside its folder is declined, and Flask answers.
"""

from __future__ import annotations

import io
import os
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from threading import Lock
from typing import IO, TYPE_CHECKING, Protocol
from zlib import adler32

from cachetools import LRUCache
from werkzeug.datastructures import Headers
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.http import http_date
from werkzeug.security import safe_join
from werkzeug.utils import send_file
from werkzeug.wrappers import Response
from werkzeug.wsgi import FileWrapper, wrap_file

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_CONDITIONS = (
    "HTTP_RANGE",
    "HTTP_IF_NONE_MATCH",
    "HTTP_IF_MODIFIED_SINCE",
    "HTTP_IF_MATCH",
    "HTTP_IF_UNMODIFIED_SINCE",
    "HTTP_IF_RANGE",
)
_ENTRY_SIZE = 2048  # bytes; what headers and keys of a prepared file weigh, roughly
_SAME_STAMP = 0.05  # seconds; a write this soon after another may leave the same file times


class File(Protocol):
    """Where a URL's file is said to be."""

    @property
    def directory(self) -> str: ...

    @property
    def filename(self) -> str: ...

    @property
    def max_age(self) -> int | None: ...


_Version = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """One version of a file: its headers and, if it is small, its bytes."""

    version: _Version
    headers: Headers  # as send_file makes them, before any condition is looked at
    plain: tuple[tuple[str, str], ...]  # the same for a request without conditions
    max_age: int | None
    body: bytes | None  # None: opened for each request
    good_until: float = 0.0


class StaticFiles:
    """Answers for the files that *locate* finds; small ones stay in memory.

    A file kept in memory is looked at again after *check_interval*, so a change shows that late.
    *clock* measures that interval, *wall* dates the answers.
    """

    def __init__(
        self,
        locate: Callable[[WSGIEnvironment], File | None],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        max_bytes: int = 64 * 2**20,  # bytes; all kept files together
        max_file_bytes: int = 256 * 2**10,  # bytes; larger files are streamed from disk
        check_interval: float = 1.0,  # seconds
    ) -> None:
        self._locate = locate
        self._clock = clock
        self._wall = wall
        self._max_bytes = max_bytes
        self._max_file_bytes = min(max_file_bytes, max_bytes - _ENTRY_SIZE)
        self._check_interval = check_interval
        self._lock = Lock()
        self._kept: LRUCache[tuple[str, int | None], _Prepared] = LRUCache(
            max(max_bytes, 0), getsizeof=_weight
        )

    def respond(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes] | None:
        """Return the answer, started; or None with nothing started: then Flask must answer."""
        located = self._locate(environ)
        if located is None:
            return None
        try:
            ready = self._ready(located)
        except (OSError, ValueError):  # ValueError: a NUL in the name
            return None
        if ready is None:
            return None
        prepared, file = ready
        answer = None
        try:
            if any(name in environ for name in _CONDITIONS):
                answer = self._conditional(prepared, file, environ, start_response)
            else:
                answer = self._plain(prepared, file, environ, start_response)
        finally:
            if answer is None and file is not None:
                file.close()
        return answer

    def _plain(
        self,
        prepared: _Prepared,
        file: IO[bytes] | None,
        environ: WSGIEnvironment,
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        times = self._times(prepared)
        start_response(
            "200 OK", [(name, times.get(name, value)) for name, value in prepared.plain]
        )
        if environ["REQUEST_METHOD"] == "HEAD":
            if file is not None:
                file.close()
            return []
        return [prepared.body or b""] if file is None else wrap_file(environ, file)

    def _conditional(
        self,
        prepared: _Prepared,
        file: IO[bytes] | None,
        environ: WSGIEnvironment,
        start_response: StartResponse,
    ) -> Iterable[bytes] | None:
        """Return Werkzeug's own answer, but None for 416: the app may have a handler for that."""
        memory = FileWrapper(io.BytesIO(prepared.body or b""))
        body = memory if file is None else wrap_file(environ, file)
        response = Response(body, headers=Headers(prepared.headers), direct_passthrough=True)
        response.headers.update(self._times(prepared))
        size = response.content_length
        try:
            response.make_conditional(environ, accept_ranges=True, complete_length=size)
        except RequestedRangeNotSatisfiable:
            return None
        return response(environ, start_response)

    def _times(self, prepared: _Prepared) -> dict[str, str]:
        """Return the headers that tell the time of the answer, not of the file."""
        now = self._wall()
        if prepared.max_age is None:
            return {"Date": http_date(now)}
        return {"Expires": http_date(int(now + prepared.max_age)), "Date": http_date(now)}

    def _ready(self, located: File) -> tuple[_Prepared, IO[bytes] | None] | None:
        """Return what is prepared for a file; a large one opened, for the answer to close."""
        path = safe_join(located.directory, located.filename)
        if path is None:
            return None
        key = (path, located.max_age)
        now = self._clock()
        with self._lock:
            known = self._kept.get(key)
        if known is not None and known.body is not None and now < known.good_until:
            return known, None
        status = os.stat(path)
        if known is None or known.body is None or _version(status) != known.version:
            # Opening a FIFO would wait for a writer.
            opened = self._open(path, located, known) if stat.S_ISREG(status.st_mode) else None
            if opened is None:
                return None
            known, file = opened
        else:
            file = None
        self._keep(key, replace(known, good_until=now + self._check_interval))
        return known, file

    def _open(
        self, path: str, located: File, known: _Prepared | None
    ) -> tuple[_Prepared, IO[bytes] | None] | None:
        file = open(path, "rb")  # noqa: SIM115  # the answer closes it
        prepared = None
        try:
            prepared = self._prepare(path, located, file, known)
        finally:
            if prepared is None or prepared.body is not None:
                file.close()
        if prepared is None:
            return None
        return prepared, None if prepared.body is not None else file

    def _prepare(
        self, path: str, located: File, file: IO[bytes], known: _Prepared | None
    ) -> _Prepared | None:
        status = os.fstat(file.fileno())
        version = _version(status)
        if known is not None and known.version == version:
            return known
        if not stat.S_ISREG(status.st_mode) or not _is_inside(path, located.directory):
            return None
        body = None
        if status.st_size <= self._max_file_bytes:
            body = file.read()
            if len(body) != status.st_size or _version(os.fstat(file.fileno())) != version:
                return None  # being written to
        headers = _headers(path, status, located.max_age)
        plain = Response(headers=Headers(headers))
        plain.make_conditional({"REQUEST_METHOD": "GET"}, accept_ranges=True)
        return _Prepared(version, headers, tuple(plain.headers), located.max_age, body)

    def _keep(self, key: tuple[str, int | None], prepared: _Prepared) -> None:
        changed = prepared.version[1] / 1e9
        if _weight(prepared) > self._max_bytes or abs(self._wall() - changed) < _SAME_STAMP:
            return
        with self._lock:
            self._kept[key] = prepared


def _weight(prepared: _Prepared) -> int:
    return _ENTRY_SIZE + len(prepared.body or b"")


def _version(status: os.stat_result) -> _Version:
    """Return numbers that differ if the file does: ctime also tells a copied-back mtime."""
    return (
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_size,
        status.st_ino,
        status.st_dev,
    )


def _is_inside(path: str, directory: str) -> bool:
    return os.path.realpath(path).startswith(os.path.join(os.path.realpath(directory), ""))


def _headers(path: str, status: os.stat_result, max_age: int | None) -> Headers:
    """Return the headers Flask sends for this file, written by Werkzeug.

    It is handed an empty body, because it would look the path up again by itself and might then
    describe another version than the one that was opened.
    """
    response = send_file(
        io.BytesIO(),
        {},
        download_name=os.path.basename(path),
        conditional=False,
        etag=f"{status.st_mtime}-{status.st_size}-{adler32(path.encode()) & 0xFFFFFFFF}",
        last_modified=status.st_mtime,
        max_age=max_age,
    )
    response.content_length = status.st_size
    return response.headers
