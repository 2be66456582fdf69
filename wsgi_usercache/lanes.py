"""Which lane does this request take? First match wins.

The rules are compiled once; a request costs a set look-up and at most one regular expression, plus
one for each ``re.Pattern`` that was given.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: Where the environ says which lane the request took, for access logs and outer middleware.
LANE = "wsgi_usercache.lane"
#: Where the environ says whose request it was, once that is known.
USER_ID = "wsgi_usercache.user_id"

_GLOB_SIGNS = frozenset("*?[")


class Lane(StrEnum):
    """How a request is treated."""

    SERVE = "serve"
    BYPASS = "bypass"
    CACHED = "cached"
    FRESH = "fresh"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A lane, and in one sentence the rule that chose it."""

    lane: Lane
    reason: str


@dataclass(frozen=True, slots=True)
class Located:
    """The file a static URL stands for, as a folder and a name still to be checked."""

    directory: str
    filename: str
    max_age: int | None  # seconds a browser may keep it; None: it asks each time
    own_errors: bool  # the app itself answers a range that can not be had
    varies_by: tuple[str, ...]  # what else of the environ has a say in where it is
    hosts: Container[str | None]  # Host headers for which it was found
    good_until: float  # on the clock of whoever located it
    stands: Callable[[], bool] | None  # asked before each use, if there is one


class StaticLanes(Protocol):
    """What the application's URL map says of a path; None where it is no static one."""

    def lane_for(self, path: str, environ: WSGIEnvironment) -> Lane | None: ...

    def explain(self, path: str, environ: WSGIEnvironment) -> Explanation | None: ...


def path_of(environ: WSGIEnvironment) -> str:
    """Return the path as Flask's ``request.path`` has it."""
    path: str = environ.get("PATH_INFO", "")
    if not path.isascii():  # PEP 3333: bytes dressed as latin-1
        path = path.encode("latin-1", "replace").decode("utf-8", "replace")
    if path.startswith("/") and not path.startswith("//"):
        return path
    return "/" + path.lstrip("/")


class PathPatterns:
    """A compiled list of path patterns; ``path in patterns`` says whether any of them matches.

    A pattern is an exact path, a glob (``*`` also matches ``/``) or a compiled regular expression
    that must match the whole path.
    """

    def __init__(self, patterns: Iterable[str | re.Pattern[str]]) -> None:
        self._patterns = tuple(patterns)
        texts = [pattern for pattern in self._patterns if isinstance(pattern, str)]
        globs = [text for text in texts if not _GLOB_SIGNS.isdisjoint(text)]
        self._exact = frozenset(texts) - frozenset(globs)
        self._globs = re.compile("|".join(map(fnmatch.translate, globs))) if globs else None
        self._regexes = tuple(p for p in self._patterns if isinstance(p, re.Pattern))

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def __contains__(self, path: str) -> bool:
        if path in self._exact:
            return True
        if self._globs is not None and self._globs.match(path):
            return True
        return any(regex.fullmatch(path) for regex in self._regexes)

    def matching(self, path: str) -> str | None:
        """Return the text of the first pattern, in the given order, that matches *path*."""
        for pattern in self._patterns:
            if path in PathPatterns([pattern]):
                return pattern if isinstance(pattern, str) else pattern.pattern
        return None


def compile_patterns(
    patterns: Iterable[str | re.Pattern[str]], *, setting: str = "paths"
) -> PathPatterns:
    """Return *patterns* compiled; a bad one is a ``ValueError`` naming it and its *setting*."""
    if isinstance(patterns, str | bytes | re.Pattern):
        raise ValueError(f"{setting} must be a list of patterns, got {patterns!r}")
    patterns = tuple(patterns)
    for pattern in patterns:
        if isinstance(pattern, re.Pattern):
            if not isinstance(pattern.pattern, str):
                raise ValueError(f"{setting}: {pattern!r} must be a pattern for str, not bytes")
        elif not isinstance(pattern, str):
            raise ValueError(f"{setting}: {pattern!r} is neither a str nor a re.Pattern")
        elif not pattern.startswith(("/", *_GLOB_SIGNS)):
            raise ValueError(f"{setting}: {pattern!r} can match no path, it must start with '/'")
    return PathPatterns(patterns)


class LaneRules:
    """The rules of one application: fresh paths, static routes, excluded paths, else cached."""

    def __init__(self, fresh: PathPatterns, excluded: PathPatterns, static: StaticLanes) -> None:
        self._fresh = fresh
        self._excluded = excluded
        self._static = static

    def lane_for(self, environ: WSGIEnvironment) -> Lane:
        """Return the lane this request takes."""
        path = path_of(environ)
        if self._fresh and path in self._fresh:
            return Lane.FRESH
        lane = self._static.lane_for(path, environ)
        if lane is Lane.SERVE:
            return lane if _asks_for_a_file(environ) else Lane.BYPASS
        if lane is not None:
            return lane
        if self._excluded and path in self._excluded:
            return Lane.BYPASS
        return Lane.CACHED

    def explain(self, environ: WSGIEnvironment) -> Explanation:
        """Return the same lane as :meth:`lane_for`, with the rule that chose it."""
        path = path_of(environ)
        pattern = self._fresh.matching(path)
        if pattern is not None:
            return Explanation(Lane.FRESH, f"fresh_paths has {pattern!r}")
        static = self._static.explain(path, environ)
        if static is not None:
            if static.lane is Lane.SERVE and not _asks_for_a_file(environ):
                method = environ["REQUEST_METHOD"]
                return Explanation(
                    Lane.BYPASS, f"{static.reason}, left to Flask because the method is {method}"
                )
            return static
        pattern = self._excluded.matching(path)
        if pattern is not None:
            return Explanation(Lane.BYPASS, f"excluded_paths has {pattern!r}")
        return Explanation(Lane.CACHED, "no pattern and no static route matches")


def _asks_for_a_file(environ: WSGIEnvironment) -> bool:
    return environ["REQUEST_METHOD"] in ("GET", "HEAD")
