"""What has this request come to so far: its lane, its session, the answer it was given?

Found through the WSGI environ, under a key of the app's own: `g` belongs to the app context, which
tests share between requests, and an environ may pass through several apps. The environ holds it
weakly and the session for good: no circle outlives the request, nor does its user.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from weakref import ref

from flask import has_request_context
from flask.globals import request_ctx

from .lanes import LANE, Lane
from .views import unobserved


class SessionSlot:
    """The session of one request, opened at the latest when somebody uses it."""

    __slots__ = ("_open", "session", "ticket", "view")

    def __init__(self, open_session: Any) -> None:
        self._open = open_session
        self.session: Any = None
        self.ticket: Any = None  # what the cookie said, if the session came out of it
        self.view: Any = None  # shown to loader and handlers while they are recorded

    def opened(self) -> Any:
        """The session itself, opened now if it was not."""
        if self.session is None:
            self.session = self._open(self)
        return self.session

    def shown(self) -> Any:
        """What the application is to see as its session."""
        return self.view if self.view is not None else self.opened()


@dataclass(slots=True, weakref_slot=True, eq=False)
class RequestState:
    """One request. *answer* is what the user callback answered last, if from an entry; *thawed*
    are the names of the users that came from entries."""

    environ: dict[str, Any]
    lane: Lane
    session: SessionSlot
    answer: Any = None
    thawed: set[str] = field(default_factory=set)

    @property
    def untouched(self) -> bool:
        """Whether the lane is `bypass` and nothing has asked for the session yet."""
        return self.lane is Lane.BYPASS and self.session.session is None


class RequestStates:
    """Where one app keeps the state of its requests."""

    def __init__(self) -> None:
        self._key = f"wsgi_usercache.request.{id(self)}"

    def begin(self, environ: dict[str, Any], session: SessionSlot) -> RequestState:
        """A new state for the request in *environ*, which the middleware may have given a lane."""
        state = RequestState(environ, environ.get(LANE, Lane.CACHED), session)
        environ[self._key] = ref(state)
        return state

    def current(self) -> RequestState | None:
        """The state of the request being handled here; None outside a request, or if its session
        was opened before the app was wrapped."""
        if not has_request_context():
            return None
        held: ref[RequestState] | None = unobserved(request_ctx.request).environ.get(self._key)
        return None if held is None else held()
