"""What is this app set up with, as far as its static files go, and has that changed?"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from datetime import timedelta
from operator import is_
from typing import Any

import flask

from .guards import answers_errors, guard_of, name_of, origin_of_code, overridden, places

_STOCK_VIEW = ("flask.app", "Flask.__init__.<locals>.<lambda>")
_STOCK_WAY = ("send_static_file", "get_send_file_max_age")


@dataclass(frozen=True, slots=True)
class Route:
    """A static endpoint: where its files are, and what forbids or hinders serving them."""

    view: object
    folder: str | None  # None: only the view knows what it answers
    own_errors: bool
    hindrance: str | None


@dataclass(frozen=True, slots=True)
class SetUp:
    """What an app is set up with at one moment, as far as static files go."""

    rules: tuple[object, ...]
    places: tuple[Sized, ...]  # what grows or shrinks when the set-up changes
    size: int  # of all of them
    by_host: bool  # whether the host has a say in which rule answers
    max_age: int | None
    prefixes: frozenset[str]  # of static rules: most requests need no more than that
    routes: Mapping[str, Route]  # by endpoint
    view_of: Callable[[str], object]

    def is_as(self, other: SetUp) -> bool:
        """Whether nothing has changed. Rules are compared as objects, not by their ``==``."""
        return (
            self.has_rules_of(other)
            and _are_same(self.places, other.places)
            and (self.size, self.max_age, self.routes) == (other.size, other.max_age, other.routes)
        )

    def stands(self, endpoint: str) -> bool:
        """Whether nothing was added, taken away or put around this view; costs 0.3 µs."""
        return (
            self.view_of(endpoint) is self.routes[endpoint].view
            and sum(map(len, self.places)) == self.size
        )

    def has_rules_of(self, other: SetUp) -> bool:
        """Whether a path has the same match in both."""
        return _are_same(self.rules, other.rules) and self.by_host == other.by_host


def set_up_of(app: flask.Flask, *, wrapped_wsgi_app: bool) -> SetUp:
    """Return the set-up as it is now. *wrapped_wsgi_app*: something is before Flask."""
    rules = tuple(app.url_map.iter_rules())
    static = [rule for rule in rules if is_static(rule.endpoint) and "filename" in rule.arguments]
    endpoints = {rule.endpoint for rule in static}
    watched = places(app, endpoints)
    return SetUp(
        rules=rules,
        places=watched,
        size=sum(map(len, watched)),  # counted first: what comes meanwhile counts as new
        by_host=(
            app.url_map.host_matching
            or app.subdomain_matching
            or app.config["TRUSTED_HOSTS"] is not None
        ),
        max_age=_max_age(app),
        prefixes=frozenset(rule.rule.partition("<")[0] for rule in static),
        view_of=app.view_functions.get,
        routes={each: _route(app, each, wrapped_wsgi_app) for each in endpoints},
    )


def is_static(endpoint: str) -> bool:
    return endpoint == "static" or endpoint.endswith(".static")


def _route(app: flask.Flask, endpoint: str, wrapped_wsgi_app: bool) -> Route:
    view = app.view_functions.get(endpoint)
    folder, hindrance = _folder(app, view)
    if hindrance is None and wrapped_wsgi_app:
        hindrance = "another WSGI middleware stands between the cache and Flask"
    hindrance = hindrance or guard_of(app, endpoint)
    return Route(view, folder, answers_errors(app, endpoint), hindrance)


def _folder(app: flask.Flask, view: object) -> tuple[str | None, str | None]:
    """Return the folder a stock view sends files from, else None and what is not stock."""
    owner: Any = None
    stock: type[flask.Flask | flask.Blueprint] = flask.Flask
    if inspect.ismethod(view):
        stock = flask.Flask if view.__self__ is app else flask.Blueprint
        owner = view.__self__ if view.__func__ is stock.send_static_file else None
    elif origin_of_code(view) == _STOCK_VIEW:
        owner = app
    if owner is None:
        return None, f"its view {name_of(view)} is not Flask's own"
    # For a blueprint without a maximum age Flask asks the app.
    changed = overridden(owner, stock, _STOCK_WAY) or overridden(app, flask.Flask, _STOCK_WAY[1:])
    if changed is not None:
        return None, changed
    folder = owner.static_folder
    if folder is None or not os.path.isabs(folder):
        return None, f"its static_folder is {folder!r}"
    return folder, None


def _max_age(app: flask.Flask) -> int | None:
    """Return what Flask's own ``get_send_file_max_age`` does, without its app context."""
    value: int | timedelta | None = app.config["SEND_FILE_MAX_AGE_DEFAULT"]
    return int(value.total_seconds()) if isinstance(value, timedelta) else value


def _are_same(these: tuple[object, ...], those: tuple[object, ...]) -> bool:
    return len(these) == len(those) and all(map(is_, these, those))
