"""What does Flask answer with this version of a file? Written once by Werkzeug, kept as lists."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from zlib import adler32

from werkzeug.datastructures import Headers
from werkzeug.http import http_date
from werkzeug.utils import send_file
from werkzeug.wrappers import Response

Version = tuple[int, int, int, int, int]
Header = tuple[str, str]

_NO_ETAG = "\n"  # what no header can be equal to
_date = lru_cache(maxsize=256)(http_date)  # of whole seconds


def times(second: int, max_age: int | None) -> dict[str, str]:
    """Return the headers that tell the time of the answer, not of the file."""
    if max_age is None:
        return {"Date": _date(second)}
    return {"Date": _date(second), "Expires": _date(second + max_age)}


def dated(headers: Iterable[Header], second: int, max_age: int | None) -> list[Header]:
    """Return the headers of an answer that is given in that second."""
    now = times(second, max_age)
    return [(name, now.get(name, value)) for name, value in headers]


@dataclass(frozen=True, slots=True)
class Prepared:
    """One version of a file: its headers and, if it is small, its bytes."""

    version: Version
    headers: Headers  # as send_file makes them, before any condition is looked at
    etag: str  # as it is sent
    size: int  # bytes
    max_age: int | None
    coding: str | None  # the content coding of a sibling
    body: bytes | None  # None: opened for each request
    whole: tuple[Header, ...]  # of 200, as of some second
    unmodified: tuple[Header, ...]  # of 304


def prepare(
    path: str,
    name: str,
    status: os.stat_result,
    body: bytes | None,
    *,
    max_age: int | None,
    coding: str | None,
    varies: bool,
    is_whole: bool = True,
) -> Prepared:
    """Return the file at *path* as Flask would send it under *name*.

    *coding* is the content coding its bytes are in, *varies* says that there are others. What was
    read while somebody wrote is no version as a whole, and nobody may keep it.
    """
    size = status.st_size if body is None else len(body)
    headers = _headers(path, name, status.st_mtime, size, max_age)
    if coding is not None:
        headers["Content-Encoding"] = coding
    if varies:
        headers["Vary"] = "Accept-Encoding"
    if not is_whole:
        headers.remove("ETag")
        headers.remove("Last-Modified")
        headers["Cache-Control"] = "no-store"
    etag = headers.get("ETag", _NO_ETAG)
    environ = {"REQUEST_METHOD": "GET", "HTTP_IF_NONE_MATCH": etag}
    response = Response(headers=Headers(headers))
    response.make_conditional(environ, accept_ranges=True)
    return Prepared(
        version=version_of(status),
        headers=headers,
        etag=etag,
        size=size,
        max_age=max_age,
        coding=coding,
        body=body,
        whole=tuple(response.headers),
        unmodified=tuple(response.get_wsgi_headers(environ)),
    )


def version_of(status: os.stat_result) -> Version:
    """Return numbers that differ if the file does: ctime also tells a copied-back mtime."""
    return (
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_size,
        status.st_ino,
        status.st_dev,
    )


def _headers(path: str, name: str, mtime: float, size: int, max_age: int | None) -> Headers:
    """Return the headers Flask sends for this file.

    Werkzeug is handed an empty body, because it would look the path up again by itself and might
    then describe another version than the one that was opened.
    """
    response = send_file(
        io.BytesIO(),
        {},
        download_name=os.path.basename(name),
        conditional=False,
        etag=f"{mtime}-{size}-{adler32(path.encode()) & 0xFFFFFFFF}",
        last_modified=mtime,
        max_age=max_age,
    )
    response.content_length = size
    return response.headers
