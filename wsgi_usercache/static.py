"""Which file answers this URL? The very bytes and headers of Flask's own static route.

What was asked for a moment ago is at hand: one look-up answers. What is not plainly a regular file
inside its folder is declined, and Flask answers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from math import inf
from mimetypes import guess_type
from typing import TYPE_CHECKING, Protocol

from werkzeug.security import safe_join

from .at_hand import AtHand, ReadyFile, Reply
from .encodings import SUFFIXES, choose
from .files import Files, Source
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
    def good_until(self) -> float: ...

    @property
    def stands(self) -> Callable[[], bool] | None: ...


class StaticFiles:
    """Answers for the files that *locate* finds; small ones stay in memory.

    A file is looked at again after *check_interval*, so a change shows that late. *clock* measures
    the interval, *wall* dates the answers.
    """

    def __init__(
        self,
        locate: Callable[[WSGIEnvironment], File | None],
        *,
        at_hand: AtHand,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        max_bytes: int = 64 * 2**20,  # bytes; all kept files together
        check_interval: float = 1.0,  # seconds; 0: at each request
        precompressed: bool = False,  # answer with a.css.br, .zst, .gz to whom accepts that
        follow_symlinks: bool = False,  # out of the folder
    ) -> None:
        self._locate = locate
        self._at_hand = at_hand
        self._clock = clock
        self._wall = wall
        self._varies_by = ("HTTP_ACCEPT_ENCODING",) if precompressed else ()
        self._files = Files(
            clock=clock,
            wall=wall,
            max_bytes=max_bytes,
            check_interval=check_interval,
            follow_symlinks=follow_symlinks,
            dropped=at_hand.clear,
        )

    def reply(self, environ: WSGIEnvironment) -> Reply | None:
        """Return the answer to a GET or HEAD, or None: then Flask must answer."""
        version = self._at_hand.version
        located = self._locate(environ)
        chosen = None if located is None else self._choose(located, environ)
        if located is None or chosen is None:
            return None
        source, status, good_until = chosen
        found = self._files.find(source, status)
        if found is None:
            return None
        prepared, file, is_kept = found
        reply = None
        if file is None and environ["REQUEST_METHOD"] == "GET":
            ready = self._ready(prepared, min(good_until, located.good_until), located.stands)
            reply = ready.reply_to(environ, -inf)
            if is_kept:
                varies_by = (*located.varies_by, *self._varies_by)
                self._at_hand.put(environ, ready, varies_by=varies_by, version=version)
        try:
            if reply is None:
                second = int(self._wall())
                reply = reply_to(environ, prepared, file, second, own_errors=located.own_errors)
        finally:
            if reply is None and file is not None:
                file.close()
        return reply

    def _ready(
        self, prepared: Prepared, good_until: float, stands: Callable[[], bool] | None
    ) -> ReadyFile:
        """Return the answers to the next requests of this second."""
        wall = self._wall()
        second = int(wall)
        return ReadyFile(
            prepared.body or b"",
            prepared.etag,
            dated(prepared.whole, second, prepared.max_age),
            dated(prepared.unmodified, second, prepared.max_age),
            good_until=min(good_until, self._clock() + second + 1 - wall),
            stands=stands,
        )

    def _choose(
        self, located: File, environ: WSGIEnvironment
    ) -> tuple[Source, os.stat_result, float] | None:
        """Return the bytes to answer with, as last seen, and until when that choice stands."""
        path = safe_join(located.directory, located.filename)
        original = None if path is None else self._files.look(path)
        if path is None or original is None or original.status is None:
            return None
        source = Source(path, located.directory, path, located.max_age)
        if not self._varies_by or guess_type(path)[1] is not None:
            return source, original.status, original.good_until
        looks = {coding: self._files.look(path + end) for coding, end in SUFFIXES.items()}
        good_until = min(look.good_until for look in (original, *looks.values()))
        statuses = {
            coding: look.status
            for coding, look in looks.items()
            if look.status is not None and not _is_outdated(look.status, original.status)
        }
        if not statuses:
            return source, original.status, good_until
        accepted = environ.get("HTTP_ACCEPT_ENCODING", "")
        coding = choose(statuses, accepted, whole="HTTP_RANGE" not in environ)
        if coding is None:
            return source._replace(varies=True), original.status, good_until
        source = source._replace(path=path + SUFFIXES[coding], coding=coding, varies=True)
        return source, statuses[coding], good_until


def _is_outdated(sibling: os.stat_result, original: os.stat_result) -> bool:
    """Whether a compressed file is older than what it was made of."""
    return int(sibling.st_mtime) < int(original.st_mtime)
