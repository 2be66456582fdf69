"""Which way does this request go: answered here with a file, or on to Flask with its lane noted?

The lane stands in the environ before ``start_response`` is called, so access logs see it. What a
client or an outer application left under our names is removed first and never trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from .lanes import LANE, USER_ID, Lane, LaneRules
from .static import StaticFiles

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class Middleware:
    """The WSGI application in front of *wsgi_app*; it knows no Flask.

    *attach* is asked at each request whether the cache is on, *settle* told once that a request
    has passed through, *count* told the lane of each request.
    """

    def __init__(
        self,
        wsgi_app: WSGIApplication,
        rules: LaneRules,
        static: StaticFiles,
        *,
        attach: Callable[[], bool],
        settle: Callable[[], None],
        count: Callable[[Lane], None],
    ) -> None:
        self._wsgi_app = wsgi_app
        self._rules = rules
        self._static = static
        self._attach = attach
        self._settle = settle
        self._count = count
        self._settled = False

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ.pop(LANE, None)
        environ.pop(USER_ID, None)
        if not self._attach():
            return self._wsgi_app(environ, start_response)
        lane = self._rules.lane_for(environ)
        if lane is Lane.SERVE:
            environ[LANE] = lane
            answer = self._static.respond(environ, start_response)
            if answer is not None:
                self._count(lane)
                return answer
            lane = Lane.BYPASS
        environ[LANE] = lane
        self._count(lane)
        try:
            return self._wsgi_app(environ, start_response)
        finally:
            if not self._settled:
                self._settled = True
                self._settle()
