"""What did this run of loader and handlers read and leave behind in the request?

During a run `request`, `g` and the session are seen through views that note what is asked of
them. Only runs that load something pay for it. What stands in context variables, thread locals or
database session settings can not be observed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from flask.globals import app_ctx, request_ctx

from .views import AttributesView, Observable, Seen, SessionView, unobserved

_innermost: ContextVar[Seen | None] = ContextVar("wsgi_usercache.seen", default=None)


def pause() -> None:
    """Note nothing more in the innermost run, if one is on, until `g._login_user` is set."""
    seen = _innermost.get()
    if seen is not None:
        seen.pause()


@contextmanager
def recorded(session: Observable) -> Iterator[Seen]:
    """Record what the block reads and leaves behind. Runs nest; each notes only its own."""
    seen = Seen()
    ctx: Any = request_ctx._get_current_object()  # type: ignore[attr-defined]  # a LocalProxy's own API
    app: Any = app_ctx._get_current_object()  # type: ignore[attr-defined]  # the same
    before = ctx.request, app.g, session.view
    _refuse_overlap(session.view, seen)
    token = _innermost.set(seen)
    ctx.request = AttributesView(unobserved(ctx.request), "request", seen)
    app.g = AttributesView(unobserved(app.g), "g", seen)
    session.view = SessionView(session, seen)
    try:
        yield seen
    finally:
        ctx.request, app.g, session.view = before
        _innermost.reset(token)


def _refuse_overlap(view: Any, seen: Seen) -> None:
    """Two threads of one request (`copy_current_request_context`) share its session, so that
    neither run can be told what it read of it."""
    if view is not None and view.seen is not _innermost.get():
        view.seen.read("session")
        seen.read("session")
