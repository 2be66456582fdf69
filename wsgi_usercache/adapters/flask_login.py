"""Flask-Login: only the user callback is wrapped, so that its own order and checks stay its own.

Session protection, freshness, the remember cookie, the request loader and the signals are never
touched. A login manager may serve several apps: the wrapper asks which one is current, and passes
through where there is no cache.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from inspect import iscoroutinefunction
from types import MethodType
from typing import Any, Protocol

import flask_login
from flask import Flask, Response, current_app, has_request_context
from flask_login import LoginManager, signals

__all__ = ["CachedCallback", "Login", "QuietHook"]


class Users(Protocol):
    """The look-ups of one app."""

    def answer(self, user_id: Any, load: Callable[[Any], Any]) -> Any: ...


class CachedCallback:
    """The user callback, asked only for users that are not remembered."""

    def __init__(self, load: Callable[[Any], Any], users: Callable[[Flask], Users | None]) -> None:
        update_wrapper(self, load)
        self.load = load
        self._users = users

    def __call__(self, user_id: Any) -> Any:
        if not has_request_context():
            return self.load(user_id)
        users = self._users(current_app)
        return self.load(user_id) if users is None else users.answer(user_id, self.load)


class QuietHook:
    """The hook that refreshes the remember cookie, left out while nothing touched the session."""

    def __init__(
        self, hook: Callable[[Response], Response], untouched: Callable[[], bool]
    ) -> None:
        self._hook = hook
        self._untouched = untouched

    def __call__(self, response: Response) -> Response:
        return response if self._untouched() else self._hook(response)


class Login:
    """Flask-Login on one app."""

    def __init__(
        self,
        app: Flask,
        *,
        users: Callable[[Flask], Users | None],
        untouched: Callable[[], bool],
        loading: Callable[[], None],  # Flask-Login begins to find out who this is
        identified: Callable[[str | None], None],  # the request's user is now this one
        tell: Callable[[str], None],
    ) -> None:
        self._app = app
        self._users = users
        self._untouched = untouched
        self._loading = loading
        self._identified = identified
        self._tell = tell
        self._wrapped: CachedCallback | None = None

    @property
    def attached(self) -> bool:
        """Whether the callback in place is the one wrapped last."""
        manager = getattr(self._app, "login_manager", None)
        return manager is None or manager.user_callback is self._wrapped

    def attach(self) -> bool:
        """Wrap the user callback, and quieten the hook; say whether the callback is a new one."""
        manager = getattr(self._app, "login_manager", None)
        if manager is None:
            return False
        self._quieten()
        callback = manager.user_callback
        if callback is self._wrapped:
            return False
        if isinstance(callback, CachedCallback):  # another app that shares the manager was first
            self._wrapped = callback
        elif callback is None or iscoroutinefunction(callback):
            if callback is not None:
                self._tell("the user loader is a coroutine function; its users are not cached")
            self._wrapped = callback
        else:
            self._wrapped = CachedCallback(callback, self._users)
            manager.user_loader(self._wrapped)
        return True

    def listen(self) -> None:
        """Hear of what changes the request's user. Flask-Login's signals hold us weakly."""
        signals.user_accessed.connect(self._accessed, self._app)
        signals.user_logged_in.connect(self._user_changed, self._app)
        signals.user_loaded_from_request.connect(self._user_changed, self._app)
        signals.user_logged_out.connect(self._left, self._app)

    def user(self) -> object:
        """Who the request's user is, found out now if it was not yet."""
        return flask_login.current_user._get_current_object()  # a LocalProxy's own API

    def user_id(self, user: Any) -> Any:
        """The id *user* logs in with."""
        manager = getattr(self._app, "login_manager", None)
        return getattr(user, getattr(manager, "id_attribute", "get_id"))()

    def _quieten(self) -> None:
        """Only Flask-Login's own hook: one that a subclass brings may be about something else."""
        hooks: list[Any] = self._app.after_request_funcs.get(None, [])
        for place, hook in enumerate(hooks):
            if type(hook) is MethodType and _is_own(hook):
                hooks[place] = QuietHook(hook, self._untouched)

    def _accessed(self, _app: Flask) -> None:
        self._loading()

    def _user_changed(self, _app: Flask, user: Any) -> None:
        try:
            user_id = self.user_id(user)
        except Exception:  # who comes by a key need not have an id to log in with
            user_id = None
        self._identified(None if user_id is None else str(user_id))

    def _left(self, _app: Flask, user: Any) -> None:
        self._identified(None)


def _is_own(hook: MethodType) -> bool:
    method = hook.__func__
    return (
        getattr(LoginManager, hook.__name__, None) is method
        and method.__code__.co_qualname == method.__qualname__  # or somebody has put his there
    )
