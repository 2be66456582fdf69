"""Which file answers this URL? The very bytes and headers of Flask's own static route.

What was asked for a moment ago is at hand: one look-up answers. What is not plainly a regular file
inside its folder is declined, and Flask answers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container, Iterator
from math import inf
from mimetypes import guess_type
from typing import TYPE_CHECKING, Protocol

from werkzeug.security import safe_join

from .at_hand import ReadyFile, Reply, Table, put
from .encodings import SUFFIXES, choose
from .files import Files, Found, Source
from .prepared import Prepared, dated
from .replies import reply_to

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class File(Protocol):
    """Where a URL's file is said to be."""

    @property
    def directory(self) -> str: ...

    @property
    def filename(self) -> str: ...

    @property
    def max_age(self) -> int | None: ...

    @property
    def own_errors(self) -> bool: ...

    @property
    def varies_by(self) -> tuple[str, ...]: ...

    @property
    def hosts(self) -> Container[str | None]: ...

    @property
    def good_until(self) -> float: ...

    @property
    def stands(self) -> Callable[[], bool] | None: ...


class StaticFiles:
    """Answers for the files that *locate* finds; small ones stay in memory.

    A file is looked at again after *check_interval*, so a change shows that late. *clock* measures
    the interval, *wall* dates the answers, *dropped* is called when what is at hand must not be
    used any more.
    """

    def __init__(
        self,
        locate: Callable[[WSGIEnvironment], File | None],
        *,
        dropped: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        max_bytes: int = 64 * 2**20,  # bytes; all kept files together
        check_interval: float = 1.0,  # seconds; 0: at each request
        precompressed: bool = False,  # answer with a.css.br, .zst, .gz to whom accepts that
        follow_symlinks: bool = False,  # out of the folder
    ) -> None:
        self._locate = locate
        self._clock = clock
        self._wall = wall
        self._varies_by = ("HTTP_ACCEPT_ENCODING",) if precompressed else ()
        self._files = Files(
            clock=clock,
            wall=wall,
            max_bytes=max_bytes,
            check_interval=check_interval,
            follow_symlinks=follow_symlinks,
            dropped=dropped,
        )

    def reply(self, environ: WSGIEnvironment, table: Table) -> Reply | None:
        """Return the answer to a GET or HEAD, or None: then Flask must answer.

        *table* is what was at hand when it was asked for; the answer is made ready there.
        """
        located = self._locate(environ)
        if located is None:
            return None
        for source, status, good_until in self._sources(located, environ):
            found = self._files.find(source, status)
            if found is not None:
                return self._answer(located, found, good_until, environ, table)
        return None

    def _answer(
        self,
        located: File,
        found: Found,
        good_until: float,
        environ: WSGIEnvironment,
        table: Table,
    ) -> Reply | None:
        prepared, file, is_kept = found
        reply = None
        if file is None and environ["REQUEST_METHOD"] == "GET" and "HTTP_RANGE" not in environ:
            ready = self._ready(located, prepared, good_until)
            reply = ready.reply_to(environ, -inf)
            if is_kept:
                put(table, environ, ready, (*located.varies_by, *self._varies_by))
        try:
            if reply is None:
                second = int(self._wall())
                reply = reply_to(environ, prepared, file, second, own_errors=located.own_errors)
        finally:
            if reply is None and file is not None:
                file.close()
        return reply

    def _ready(self, located: File, prepared: Prepared, good_until: float) -> ReadyFile:
        """Return the answers to the requests of this second."""
        wall = self._wall()
        second = int(wall)
        return ReadyFile(
            prepared.body or b"",
            prepared.etag,
            dated(prepared.whole, second, prepared.max_age),
            dated(prepared.unmodified, second, prepared.max_age),
            good_until=min(good_until, located.good_until, self._clock() + second + 1 - wall),
            hosts=located.hosts,
            stands=located.stands,
        )

    def _sources(
        self, located: File, environ: WSGIEnvironment
    ) -> Iterator[tuple[Source, os.stat_result, float]]:
        """Yield the bytes to answer with, best first, as last seen, and how long that is good."""
        path = safe_join(located.directory, located.filename)
        original = None if path is None else self._files.look(path)
        if path is None or original is None or original.status is None:
            return
        source = Source(path, located.directory, path, located.max_age)
        good_until = original.good_until
        if self._varies_by and guess_type(path)[1] is None:
            looks = {coding: self._files.look(path + end) for coding, end in SUFFIXES.items()}
            good_until = min(look.good_until for look in (original, *looks.values()))
            siblings = {
                coding: look.status
                for coding, look in looks.items()
                if look.status is not None and not _is_outdated(look.status, original.status)
            }
            source = source._replace(varies=bool(siblings))
            accepted = environ.get("HTTP_ACCEPT_ENCODING", "")
            coding = choose(siblings, accepted, whole="HTTP_RANGE" not in environ)
            if coding is not None:
                sibling = source._replace(path=path + SUFFIXES[coding], coding=coding)
                yield sibling, siblings[coding], good_until
        yield source, original.status, good_until


def _is_outdated(sibling: os.stat_result, original: os.stat_result) -> bool:
    """Whether a compressed file is older than what it was made of, as far as its time tells."""
    is_coarse = sibling.st_mtime_ns % 10**9 == 0  # as archives and copies have it
    return sibling.st_mtime_ns < original.st_mtime_ns - (10**9 - 1 if is_coarse else 0)
