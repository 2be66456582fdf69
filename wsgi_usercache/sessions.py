"""When is the session opened, from what, and must its cookie be written again?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, Request, Response
from flask.sessions import SecureCookieSessionInterface
from werkzeug.local import LocalProxy

from .cookies import SessionCookies, Ticket
from .lanes import Lane
from .per_request import RequestState, RequestStates, SessionSlot

_READING = ("open_session", "save_session", "get_signing_serializer", "session_class")
# As they are now: what is put in their place in Flask's own class later is no longer stock.
_STOCK = {
    name: getattr(SecureCookieSessionInterface, name)
    for name in (*_READING, "get_expiration_time")
}


def is_stock(interface: object, names: Iterable[str] = _READING) -> bool:
    """Whether *interface* opens and saves sessions exactly as Flask's own cookie sessions do."""
    if not isinstance(interface, SecureCookieSessionInterface):
        return False
    kind, own = type(interface), vars(interface)
    return all(getattr(kind, name) is _STOCK[name] and name not in own for name in names)


class LazySession(LocalProxy[Any]):
    """The session of a request; the first use opens it."""

    # A name no session has of its own. The state lives as long as the session it is held by.
    __slots__ = ("_usercache_state",)

    def __init__(self, state: RequestState) -> None:
        super().__init__(state.session.shown)
        object.__setattr__(self, "_usercache_state", state)


def _slot_of(session: object) -> SessionSlot | None:
    if type(session) is not LazySession:
        return None
    state: RequestState = object.__getattribute__(session, "_usercache_state")
    return state.session


class LaneSessions:
    """The app's own session interface, asked as late and as seldom as the lane allows.

    On `bypass` nothing is opened, and so nothing saved, until something touches the session.
    Flask's own cookie sessions are read from the ticket; every other interface opens and saves by
    itself. It passes for the interface it wraps, whose attributes it shows and sets.
    """

    def __init__(
        self,
        interface: Any,
        states: RequestStates,
        cookies: Callable[[], SessionCookies],
        *,
        resign_interval: float,  # seconds an unchanged session's cookie is not written again
    ) -> None:
        self.__dict__.update(
            # One put back in its place after a while is not wrapped twice.
            wrapped=interface.wrapped if type(interface) is LaneSessions else interface,
            _states=states,
            _cookies=cookies,
            _resign_interval=resign_interval,
        )

    @property  # type: ignore[misc]  # as LocalProxy and Mock do: isinstance() sees the wrapped one
    def __class__(self) -> Any:
        return type(self.wrapped)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.wrapped, name, value)

    def open_session(self, app: Flask, request: Request) -> LazySession:
        """The session of *request*: on `bypass` one still to be opened."""
        slot = SessionSlot(lambda slot: self._open(app, request, slot))
        state = self._states.begin(request.environ, slot)
        if state.lane is not Lane.BYPASS:
            slot.opened()
        return LazySession(state)

    def is_null_session(self, session: object) -> bool:
        """Whether there is nothing to save: no key, or nobody touched it."""
        slot = _slot_of(session)
        if slot is None:
            return bool(self.wrapped.is_null_session(session))
        return slot.session is None or bool(self.wrapped.is_null_session(slot.session))

    def save_session(self, app: Flask, session: Any, response: Response) -> None:
        """Save as the wrapped interface does, but do not sign again what was just signed."""
        slot = _slot_of(session)
        if slot is None:
            self.wrapped.save_session(app, session, response)
        elif self._would_sign_the_same(app, slot):
            response.vary.add("Cookie")  # as if the cookie had been set
        else:
            self.wrapped.save_session(app, slot.opened(), response)

    def signed_lately(self, app: Flask, ticket: Ticket | None) -> bool:
        """Whether the cookie the request came with is too young to be written again unchanged."""
        if ticket is None or not is_stock(self.wrapped, _STOCK):
            return False
        tenth = app.permanent_session_lifetime.total_seconds() / 10
        limit = min(self._resign_interval, tenth)
        return bool(self._cookies().is_younger(ticket, limit))

    def _open(self, app: Flask, request: Request, slot: SessionSlot) -> Any:
        if is_stock(self.wrapped):  # asked anew: methods can be replaced any time
            session = self._open_from_ticket(app, request, slot)
        else:
            session = self.wrapped.open_session(app, request)
        return self.wrapped.make_null_session(app) if session is None else session

    def _open_from_ticket(self, app: Flask, request: Request, slot: SessionSlot) -> Any:
        interface = self.wrapped
        serializer = interface.get_signing_serializer(app)
        if serializer is None:
            return None
        raw = request.cookies.get(interface.get_cookie_name(app))
        if not raw:
            return interface.session_class()
        max_age = int(app.permanent_session_lifetime.total_seconds())
        slot.ticket = self._cookies().read(raw, serializer, max_age)
        if slot.ticket is None:
            return interface.session_class()
        return interface.session_class(serializer.load_payload(slot.ticket.payload))

    def _would_sign_the_same(self, app: Flask, slot: SessionSlot) -> bool:
        ticket, session = slot.ticket, slot.session
        if not session or not self.signed_lately(app, ticket):
            return False
        if not self.wrapped.should_set_cookie(app, session):
            return False
        serializer = self.wrapped.get_signing_serializer(app)
        try:  # what is compared is what would be written, nested changes included
            return bool(serializer and serializer.dump_payload(dict(session)) == ticket.payload)
        except (TypeError, ValueError):  # Flask will say that this session can not be written
            return False
