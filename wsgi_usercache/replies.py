"""Which answer does this request get from a prepared file: all of it, a part, or "not modified"?

Conditional and range requests are parsed by Werkzeug, only when such a header is there.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

from werkzeug.datastructures import Headers
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.http import parse_range_header
from werkzeug.wrappers import Response
from werkzeug.wsgi import FileWrapper, wrap_file

from .at_hand import Reply
from .files import OpenFile
from .prepared import Prepared, dated, times

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# If-Unmodified-Since is not among them: Werkzeug, and so Flask, does not look at it.
_CONDITIONS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_MATCH")
_PARTS = ("HTTP_RANGE", "HTTP_IF_RANGE")


def reply_to(
    environ: WSGIEnvironment,
    prepared: Prepared,
    file: OpenFile | None,
    second: int,
    *,
    own_errors: bool,
) -> Reply | None:
    """Return the answer to a GET or HEAD; whoever sends it closes *file* with it.

    None, and *file* still open: the app itself answers a range that can not be had, because it
    has *own_errors*.
    """
    method = environ["REQUEST_METHOD"]
    conditions = _conditions(environ, prepared)
    if not conditions:
        headers = dated(prepared.whole, second, prepared.max_age)
        return "200 OK", headers, _whole(environ, prepared, file)
    kept = FileWrapper(io.BytesIO(prepared.body or b""))
    response = Response(
        kept if file is None else wrap_file(environ, file),
        headers=Headers(prepared.headers),
        direct_passthrough=True,
    )
    response.headers.update(times(second, prepared.max_age))
    conditions["REQUEST_METHOD"] = method
    try:
        response.make_conditional(conditions, accept_ranges=True, complete_length=prepared.size)
    except RequestedRangeNotSatisfiable as error:
        if own_errors:
            return None
        response.close()
        return _of(error.get_response(environ), environ)
    if file is not None and method == "GET" and response.status_code != 304:
        file.promised = response.content_range.stop or prepared.size
    return _of(response, environ)


def _whole(environ: WSGIEnvironment, prepared: Prepared, file: OpenFile | None) -> Iterable[bytes]:
    if environ["REQUEST_METHOD"] == "HEAD":
        if file is not None:
            file.close()
        return []
    if file is None:
        return [prepared.body or b""]
    file.promised = prepared.size
    return wrap_file(environ, file)


def _conditions(environ: WSGIEnvironment, prepared: Prepared) -> dict[str, str]:
    """Return the headers that may make this another answer than all of the file.

    A range is that of a GET (RFC 9110 §14.2), of one part, and of the file as it is.
    """
    conditions = {name: environ[name] for name in _CONDITIONS if name in environ}
    if "HTTP_RANGE" in environ and environ["REQUEST_METHOD"] == "GET" and prepared.coding is None:
        parts = parse_range_header(environ["HTTP_RANGE"])
        if parts is None or len(parts.ranges) == 1:
            conditions |= {name: environ[name] for name in _PARTS if name in environ}
    return conditions


def _of(response: Response, environ: WSGIEnvironment) -> Reply:
    body, status, headers = response.get_wsgi_response(environ)
    return status, headers, body
