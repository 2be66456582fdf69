"""Which way does this request go: answered here with a file, or on to Flask with its lane noted?

The lane stands in the environ before ``start_response`` is called, so access logs see it. What a
client or an outer application left under our names is removed first and never trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from .at_hand import AtHand, Reply
from .lanes import LANE, USER_ID, Lane, LaneRules
from .static import StaticFiles
from .statistics import Tally

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


_SERVE = Lane.SERVE  # an enum's members are slow to reach


class Rooms(Protocol):
    """What stands behind the middleware in this process."""

    @property
    def rules(self) -> LaneRules: ...

    @property
    def static(self) -> StaticFiles: ...

    @property
    def at_hand(self) -> AtHand: ...

    @property
    def tallies(self) -> Mapping[Lane, Tally]: ...


class Middleware:
    """The WSGI application in front of *wsgi_app*; it knows no Flask.

    *enter* returns the rooms of this process, None if the cache is off; it is not asked for a
    file that is at hand. Right after a fork that may be the parent's, for a second at most.
    """

    def __init__(
        self,
        wsgi_app: WSGIApplication,
        enter: Callable[[WSGIEnvironment], Rooms | None],
        *,
        clock: Callable[[], float],
    ) -> None:
        self._wsgi_app = wsgi_app
        self._enter = enter
        self._clock = clock
        self._rooms: Rooms | None = None
        self._at_hand = AtHand()
        self._count_served: Callable[[], object] = Tally().add

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ.pop(USER_ID, None)
        ready = self._at_hand.table.get(environ.get("PATH_INFO", ""))
        reply = None if ready is None else ready.reply_to(environ, self._clock())
        if reply is None:
            return self._answer(environ, start_response)
        environ[LANE] = _SERVE
        self._count_served()
        start_response(reply[0], reply[1])
        return reply[2]

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ.pop(LANE, None)
        rooms = self._enter(environ)
        if rooms is None:
            return self._wsgi_app(environ, start_response)
        if rooms is not self._rooms:
            self._move_to(rooms)
        table = rooms.at_hand.table  # before anything is found out
        lane = rooms.rules.lane_for(environ)
        if lane is _SERVE:
            reply = rooms.static.reply(environ, table)
            if reply is not None:
                return self._serve(reply, environ, start_response)
            lane = Lane.BYPASS
        environ[LANE] = lane
        rooms.tallies[lane].add()
        return self._wsgi_app(environ, start_response)

    def _move_to(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._count_served = rooms.tallies[_SERVE].add
        self._at_hand = rooms.at_hand

    def _serve(
        self, reply: Reply, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        status, headers, body = reply
        environ[LANE] = _SERVE
        self._count_served()
        try:
            start_response(status, headers)
        except BaseException:
            close = getattr(body, "close", None)
            if close is not None:
                close()
            raise
        return body
