"""Flask-Principal: needs are restored with the user they belong to, without the signal.

The hook does what Flask-Principal's own does: it asks the identity loaders, sets `g.identity`,
sends `identity_loaded` and runs the savers. Where the user of this request came out of an entry
that knows the needs of this very identity, they are put back instead of sending the signal.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MethodType
from typing import Any, Protocol

import flask_principal
from flask import Flask, current_app, g, request, session
from flask_principal import AnonymousIdentity, Identity, Principal
from werkzeug.local import LocalProxy

from wsgi_usercache.storable import Unstorable, is_plain

__all__ = ["IdentityHook", "attach"]

_ITS_OWN = frozenset(name for name in vars(Principal) if not name.startswith("__"))
_PROXY, _USER, _UNSET = "current_user", "the user", "unset"  # what a handler set as identity.user


class Run(Protocol):
    """A recorded run of identity handlers."""

    @property
    def user(self) -> object | None: ...
    @property
    def asked_for_user(self) -> bool: ...
    def keep(self, key: Hashable, needs: object) -> None: ...


class Users(Protocol):
    """What is remembered with the users of one app."""

    def handlers(self) -> AbstractContextManager[Run | None]: ...
    def remembered_needs(self, key: Hashable) -> tuple[Any, object] | None: ...
    def count_unstored(self, reason: str) -> None: ...


Key = tuple[Any, ...]  # an identity as the handlers find it; hashable


@dataclass(frozen=True, slots=True)
class Needs:
    """What the handlers made of an identity: its needs, and what they set as its `user`."""

    provides: frozenset[Any]
    user: str


class IdentityHook:
    """Flask-Principal's `before_request` hook, which restores needs where they are known."""

    def __init__(
        self,
        hook: Callable[[], None],
        *,
        users: Callable[[], Users | None],
        current_user: Any,  # Flask-Login's proxy
        untouched: Callable[[], bool],
        signed_lately: Callable[[], bool],
    ) -> None:
        self._hook = hook
        self._principal: Principal = hook.__self__  # type: ignore[attr-defined]  # a bound method
        self._users = users
        self._current_user = current_user
        self._untouched = untouched
        self._signed_lately = signed_lately
        self._handlers_ask_for_user = False  # seen on the last run

    def __call__(self) -> None:
        users = self._users()
        if users is None or not self._is_stock() or self._skips_static():
            self._hook()
        elif self._untouched():
            self._set_later(users)
        else:
            self._set(users)

    def _is_stock(self) -> bool:
        """A subclass that does anything in its own way is left to do so."""
        principal, kinds = self._principal, type(self._principal).__mro__
        subclasses = kinds[: kinds.index(Principal)]
        return all(_ITS_OWN.isdisjoint(vars(each)) for each in (principal, *subclasses))

    def _skips_static(self) -> bool:
        path = current_app.static_url_path
        return self._principal.skip_static and (path is None or request.path.startswith(path))

    def _set_later(self, users: Users) -> None:
        done = False

        def identity() -> Identity:
            nonlocal done
            if not done:
                done = True
                self._set(users)
            return g.identity

        g.identity = LocalProxy(identity)

    def _set(self, users: Users) -> None:
        g.identity = AnonymousIdentity()
        for loader in self._principal.identity_loaders:
            identity = loader()
            if identity is not None:
                g.identity = identity
                self._provide(identity, users)
                self._save(identity)
                return

    def _provide(self, identity: Identity, users: Users) -> None:
        key = _key(identity)
        if self._handlers_ask_for_user:
            self._is_current(None)
        remembered = None if key is None else users.remembered_needs(key)
        if remembered is not None and self._is_current(remembered[1]):
            self._restore(identity, *remembered)
            return
        with users.handlers() as run:
            flask_principal.identity_loaded.send(
                current_app._get_current_object(),  # type: ignore[attr-defined]  # a LocalProxy's own API
                identity=identity,
            )
            if run is not None:
                self._handlers_ask_for_user = run.asked_for_user
                self._remember(key, identity, run, users)

    def _remember(self, key: Key | None, identity: Identity, run: Run, users: Users) -> None:
        if run.user is None or not self._is_current(run.user):
            return
        try:
            run.keep(key, self._needs_of(key, identity, run.user))
        except Unstorable as error:
            users.count_unstored(error.reason)

    def _needs_of(self, key: Key | None, identity: Identity, user: object) -> Needs:
        attributes = vars(identity)
        if key is None or not attributes.keys() <= {"id", "auth_type", "provides", "user"}:
            raise Unstorable("identity has attributes of its own")
        if g.identity is not identity or _name(identity) != key[:-1]:
            raise Unstorable("handlers changed the identity")
        provides = frozenset(identity.provides)
        if not is_plain(provides):
            raise Unstorable("needs are not plain")
        if "user" not in attributes:
            return Needs(provides, _UNSET)
        if (
            attributes["user"] is self._current_user
        ):  # the proxy itself: it is another user's in the next
            return Needs(provides, _PROXY)
        if attributes["user"] is user:
            return Needs(provides, _USER)
        raise Unstorable("identity.user is not the user")

    def _restore(self, identity: Identity, needs: Needs, user: object) -> None:
        identity.provides = set(needs.provides)
        if needs.user == _USER:
            identity.user = user
        elif needs.user == _PROXY:
            identity.user = self._current_user

    def _is_current(self, user: object) -> bool:
        """Whether *user* is the request's user, who is found out now if he was not yet."""
        return self._current_user._get_current_object() is user  # a LocalProxy's own API

    def _save(self, identity: Identity) -> None:
        for saver in self._principal.identity_savers:
            if saver is flask_principal.session_identity_saver and self._is_saved(identity):
                continue
            saver(identity)

    def _is_saved(self, identity: Identity) -> bool:
        """Whether saving would only have the cookie signed once more."""
        return (
            self._signed_lately()
            and session.get("identity.id", _UNSET) == identity.id
            and session.get("identity.auth_type", _UNSET) == identity.auth_type
        )


def attach(app: Flask, **parts: Any) -> None:
    """Put an `IdentityHook` in the place of each of Flask-Principal's own on *app*."""
    hooks: list[Any] = app.before_request_funcs.get(None, [])
    for place, hook in enumerate(hooks):
        if type(hook) is MethodType and _is_own(hook):
            hooks[place] = IdentityHook(hook, **parts)


def _is_own(hook: MethodType) -> bool:
    method = hook.__func__
    return (
        getattr(Principal, hook.__name__, None) is method
        and method.__code__.co_qualname == method.__qualname__  # or somebody has put his there
    )


def _name(identity: Identity) -> Key:
    """What tells two identities of one user apart."""
    return type(identity), type(identity.id), identity.id, identity.auth_type


def _key(identity: Identity) -> Key | None:
    """What the handlers can know of *identity* before they run, or None if that is too much."""
    provides = frozenset(identity.provides)
    if not vars(identity).keys() <= {"id", "auth_type", "provides"}:
        return None
    if not (is_plain(identity.id) and is_plain(identity.auth_type) and is_plain(provides)):
        return None
    return *_name(identity), provides
