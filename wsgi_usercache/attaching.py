"""Is what is ours in front of Flask's session interface, user callback and hooks?

Extensions may come after us, and what was there may be replaced: it is looked at again at each
request, by identity.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import flask_login
from flask import Flask, got_request_exception

from .adapters.flask_login import Login
from .cookies import SessionCookies
from .per_request import RequestStates
from .recording import pause
from .sessions import LaneSessions
from .users import Users


class Attachment:
    """What is put in front of one app. *users* gives the look-ups of an app whose cache is on."""

    def __init__(
        self,
        app: Flask,
        states: RequestStates,
        *,
        users: Callable[[Flask], Users | None],
        cookies: Callable[[], SessionCookies],
        resign_interval: float,  # seconds
    ) -> None:
        self._app = app
        self._states = states
        self._users = users
        self._cookies = cookies
        self._resign_interval = resign_interval
        self._sessions: Any = None  # a LaneSessions
        self._login = Login(
            app,
            users=users,
            untouched=self._untouched,
            loading=pause,
            identified=self._identified,
            tell=self._tell,
        )

    def listen(self) -> None:
        """Hear of who logs in and out, and of what ends a request. The signal holds us weakly."""
        self._login.listen()
        got_request_exception.connect(self._failed, self._app)

    @property
    def is_in_place(self) -> bool:
        """Whether nothing was replaced since the last `put`."""
        return self._app.session_interface is self._sessions and self._login.attached

    def put(self) -> bool:
        """Put it in place; say whether the user callback is another one than before."""
        if self._app.session_interface is not self._sessions:
            self._sessions = LaneSessions(
                self._app.session_interface,
                self._states,
                self._cookies,
                resign_interval=self._resign_interval,
            )
            self._app.session_interface = self._sessions
        is_new = self._login.attach()
        if hasattr(self._app, "login_manager") and "flask_principal" in sys.modules:
            from .adapters import flask_principal  # it is optional

            flask_principal.attach(
                self._app,
                users=lambda: self._users(self._app),
                current_user=flask_login.current_user,
                untouched=self._untouched,
                signed_lately=self._signed_lately,
            )
        return is_new

    def user_id(self, user: Any) -> Any:
        """The id *user* logs in with."""
        return self._login.user_id(user)

    def _identified(self, user_id: str | None) -> None:
        users = self._users(self._app)
        if users is not None:
            users.identified(user_id)

    def _failed(self, _app: Flask, exception: BaseException) -> None:
        users = self._users(self._app)
        if users is not None:
            users.failed(exception)

    def _tell(self, message: str) -> None:
        users = self._users(self._app)
        if users is not None:
            users.say_once(message)

    def _untouched(self) -> bool:
        state = self._states.current()
        return state is not None and state.untouched

    def _signed_lately(self) -> bool:
        state = self._states.current()
        return (
            state is not None
            and self._sessions is not None
            and self._sessions.signed_lately(self._app, state.session.ticket)
        )
