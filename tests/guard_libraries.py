"""Real extensions whose hooks do nothing for a file, and hooks that only look like theirs."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flask
import flask_login
import flask_principal
import flask_session
import flask_sqlalchemy
import flask_sqlalchemy_lite
import flask_wtf
from flask_session.sqlalchemy import SqlAlchemySessionInterface
from guards import Change, Site

Hook = Callable[..., Any]


class Member(flask_login.UserMixin):  # type: ignore[misc]
    id = "1"


def with_enter(site: Site) -> None:
    """Have a page that logs in, as far as the app knows how to, and keeps a session."""

    def enter() -> str:
        flask.session.permanent = True
        flask.session["been"] = "here"
        if hasattr(site.app, "login_manager"):
            flask_login.login_user(Member(), remember=True)
        flask_principal.identity_changed.send(site.app, identity=flask_principal.Identity("1"))
        return "in"

    site.app.secret_key = "secret"
    site.app.add_url_rule("/enter", "enter", enter)


def login(site: Site, manager: type = flask_login.LoginManager) -> None:
    with_enter(site)
    manager(site.app).user_loader(lambda _: Member())


def remembering(site: Site) -> None:
    site.app.config["REMEMBER_COOKIE_REFRESH_EACH_REQUEST"] = True
    login(site)


def principal(site: Site, kind: type = flask_principal.Principal, **options: bool) -> None:
    if "enter" not in site.app.view_functions:
        with_enter(site)
    site.kept.append(kind(site.app, **options))


def wtf(site: Site, kind: type = flask_wtf.CSRFProtect) -> None:
    site.app.secret_key = "secret"
    kind(site.app)


def sqlalchemy(
    site: Site, kind: type = flask_sqlalchemy.SQLAlchemy
) -> flask_sqlalchemy.SQLAlchemy:
    site.app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    return kind(site.app)


def lite(site: Site) -> None:
    site.app.config["SQLALCHEMY_ENGINES"] = {"default": "sqlite://"}
    flask_sqlalchemy_lite.SQLAlchemy(site.app)


def sessions(site: Site) -> None:
    site.app.config.update(
        SESSION_TYPE="sqlalchemy",
        SESSION_SQLALCHEMY=sqlalchemy(site),
        SESSION_CLEANUP_N_REQUESTS=1,
    )
    flask_session.Session(site.app)
    if "enter" not in site.app.view_functions:
        with_enter(site)


def everything(site: Site) -> None:
    remembering(site)
    principal(site)
    wtf(site)
    sessions(site)


@dataclass(frozen=True)
class Library:
    """An extension, and the headers that Flask alone gives to files because of it."""

    change: Change
    adds: frozenset[str] = frozenset()


VARY, COOKIE = frozenset({"Vary"}), frozenset({"Set-Cookie"})

LIBRARIES: dict[str, Library] = {
    "Flask-Login": Library(login, VARY | COOKIE),
    "Flask-Login, remembering": Library(remembering, VARY | COOKIE),
    "Flask-Principal": Library(principal, VARY | COOKIE),
    "Flask-Principal without sessions": Library(
        lambda site: principal(site, use_sessions=False), COOKIE | VARY
    ),
    "Flask-Principal skipping files": Library(
        lambda site: principal(site, skip_static=True), COOKIE | VARY
    ),
    "Flask-Login and Flask-Principal": Library(
        lambda site: [login(site), principal(site)], VARY | COOKIE
    ),
    "Flask-WTF": Library(wtf),
    "Flask-SQLAlchemy": Library(sqlalchemy),
    "Flask-SQLAlchemy-Lite": Library(lite),
    "Flask-Session": Library(sessions, VARY | COOKIE),
    "all together": Library(everything, VARY | COOKIE),
}


#: Where the hook of each of them is.
HOOKS: dict[str, tuple[Change, str]] = {
    "Flask-Login": (login, "after_request_funcs"),
    "Flask-Principal": (principal, "before_request_funcs"),
    "Flask-Login and Flask-Principal": (
        lambda site: [login(site), principal(site)],
        "before_request_funcs",
    ),
    "Flask-WTF": (wtf, "before_request_funcs"),
    "Flask-SQLAlchemy": (sqlalchemy, "teardown_appcontext_funcs"),
    "Flask-SQLAlchemy-Lite": (lite, "teardown_appcontext_funcs"),
    "Flask-Session": (sessions, "before_request_funcs"),
}


def hooks_of(app: flask.Flask, table: str) -> list[Hook]:
    hooks = getattr(app, table)
    return hooks if isinstance(hooks, list) else hooks[None]


def wrapped(hook: Hook, saw: Hook) -> Hook:
    @functools.wraps(hook)
    def audited(*args: Any) -> Any:
        saw("wrapped")
        return hook(*args)

    return audited


def partial(hook: Hook, saw: Hook) -> Hook:
    def audited(*args: Any) -> Any:
        saw("partial")
        return hook(*args)

    return functools.partial(audited)


def named(hook: Hook, saw: Hook) -> Hook:
    def audited(*args: Any) -> Any:
        saw("named")
        return hook(*args)

    audited.__module__ = hook.__module__
    audited.__name__, audited.__qualname__ = hook.__name__, hook.__qualname__
    return audited


def named_in_its_code(hook: Hook, saw: Hook) -> Hook:
    def audited(*args: Any) -> Any:
        saw("named in its code")
        return hook(*args)

    name = {"co_name": hook.__name__, "co_qualname": hook.__qualname__}
    audited.__code__ = audited.__code__.replace(**name)
    return named(audited, saw)


def of_another(hook: Hook, saw: Hook) -> Hook:
    """Return a function of ours as a method of whose method it takes the place."""

    def audited(_: object, *args: Any) -> Any:
        saw("of another")
        return hook(*args)

    functools.update_wrapper(audited, getattr(hook, "__func__", hook))
    return types.MethodType(audited, getattr(hook, "__self__", None) or flask)


class PassingOn:
    """What wrapt and such make of a function: it answers for what it wraps."""

    def __init__(self, hook: Hook, saw: Hook) -> None:
        self._hook, self._saw = hook, saw

    def __call__(self, *args: Any) -> Any:
        self._saw("passing on")
        return self._hook(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hook, name)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self._hook.__class__


DISGUISES: dict[str, Callable[[Hook, Hook], Hook]] = {
    "wrapped": wrapped,
    "partial": partial,
    "named": named,
    "named in its code": named_in_its_code,
    "of another": of_another,
    "passing on": PassingOn,
}
#: What a subclass may have in its own way.
METHODS: dict[str, tuple[type, str, Callable[[Site, type], object]]] = {
    "Flask-Login": (flask_login.LoginManager, "_update_remember_cookie", login),
    "Flask-Principal": (flask_principal.Principal, "_on_before_request", principal),
    "Flask-Login and Flask-Principal": (
        flask_principal.Principal,
        "_on_before_request",
        lambda site, kind: [login(site), principal(site, kind)],
    ),
    "Flask-WTF": (flask_wtf.CSRFProtect, "protect", wtf),
    "Flask-SQLAlchemy": (flask_sqlalchemy.SQLAlchemy, "_teardown_session", sqlalchemy),
    "Flask-Session": (
        SqlAlchemySessionInterface,
        "_cleanup_n_requests",
        lambda site, kind: setattr(
            site.app,
            "session_interface",
            kind(site.app, sqlalchemy(site), cleanup_n_requests=1),
        ),
    ),
}
