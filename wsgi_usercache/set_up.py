"""What is this app set up with, as far as its static files go, and has that changed?"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from datetime import timedelta
from operator import is_
from types import MethodType
from typing import Any

import flask
from werkzeug.routing import Map, Rule

from .guards import (
    answers_errors,
    changes_errors,
    guard_of,
    hook_of,
    name_of,
    origin_of_code,
    overridden,
    places,
)

_STOCK_VIEW = ("flask.app", "Flask.__init__.<locals>.<lambda>")
_STOCK_METHODS = (
    ("flask.app", "Flask.send_static_file"),
    ("flask.blueprints", "Blueprint.send_static_file"),
)
_STOCK_WAY = ("send_static_file", "get_send_file_max_age", "has_static_folder", "static_folder")
_CONVERTER = re.compile(r"<(\w+)[(:]")  # in a rule: <name:variable>, <name(argument):variable>


@dataclass(frozen=True, slots=True)
class Route:
    """A static endpoint: where its files are, and what forbids or hinders serving them."""

    view: object = field(compare=False)  # a proxy's own == may do anything
    folder: str | None  # None: only the view knows what it answers
    own_errors: bool
    hindrance: str | None


@dataclass(frozen=True, slots=True)
class SetUp:
    """What an app is set up with at one moment, as far as static files go."""

    rules: tuple[object, ...]
    places: tuple[Sized, ...]  # what grows or shrinks when the set-up changes
    size: int  # of all of them
    hosts: tuple[object, ...] | None  # what says which hosts get which rule; None: all the same
    is_lasting: bool  # whether a path always gets the same rule
    max_age: int | None
    prefixes: frozenset[str]  # of static rules: most requests need no more than that
    routes: Mapping[str, Route]  # by endpoint
    view_of: Callable[[str], object]

    def is_as(self, other: SetUp) -> bool:
        """Whether nothing has changed. Rules are compared as objects, not by their ``==``."""
        return (
            self.has_rules_of(other)
            and _are_same(self.places, other.places)
            and _are_same(self.views, other.views)
            and (self.size, self.max_age, self.routes) == (other.size, other.max_age, other.routes)
        )

    @property
    def views(self) -> tuple[object, ...]:
        return tuple(route.view for route in self.routes.values())

    def stands(self, endpoint: str) -> bool:
        """Whether nothing was added, taken away or put around this view; costs 0.3 µs."""
        return (
            self.view_of(endpoint) is self.routes[endpoint].view
            and sum(map(len, self.places)) == self.size
        )

    def has_rules_of(self, other: SetUp) -> bool:
        """Whether a path has the same match in both."""
        return _are_same(self.rules, other.rules) and self.hosts == other.hosts


#: Of an app that can not be looked at.
NOTHING = SetUp((), (), 0, None, False, None, frozenset(), {}, lambda _: None)


def set_up_of(app: flask.Flask, *, wrapped_wsgi_app: bool) -> SetUp:
    """Return the set-up as it is now. *wrapped_wsgi_app*: something is before Flask."""
    rules = tuple(app.url_map.iter_rules())
    static = [rule for rule in rules if is_static(rule.endpoint) and "filename" in rule.arguments]
    endpoints = sorted({rule.endpoint for rule in static})
    prefixes = frozenset(_prefix(rule) for rule in static)
    watched = places(app, endpoints)
    return SetUp(
        rules=rules,
        places=watched,
        size=sum(map(len, watched)),  # counted first: what comes meanwhile counts as new
        hosts=_hosts(app),
        is_lasting=type(app.url_map) is Map
        and all(_is_lasting(app, rule) for rule in rules if _meets(rule, prefixes)),
        max_age=_max_age(app),
        prefixes=prefixes,
        view_of=app.view_functions.get,
        routes=dict(_routes(app, endpoints, wrapped_wsgi_app)),
    )


def is_static(endpoint: object) -> bool:
    """Whether this is what Flask calls the endpoint of a static route; redirects have none."""
    return isinstance(endpoint, str) and (endpoint == "static" or endpoint.endswith(".static"))


def _prefix(rule: Rule) -> str:
    return rule.rule.partition("<")[0]


def _meets(rule: Rule, prefixes: Iterable[str]) -> bool:
    """Whether *rule* might match a path that static ones match."""
    own = _prefix(rule)
    return any(own.startswith(prefix) or prefix.startswith(own) for prefix in prefixes)


def _is_lasting(app: flask.Flask, rule: Rule) -> bool:
    """Whether *rule* matches what it matched: a converter of the app's own may change its mind."""
    converters = map(app.url_map.converters.get, _CONVERTER.findall(rule.rule))
    return type(rule) is Rule and all(
        each is not None and each.__module__.startswith("werkzeug.") for each in converters
    )


def _hosts(app: flask.Flask) -> tuple[object, ...] | None:
    trusted = app.config["TRUSTED_HOSTS"]
    by_rule = app.url_map.host_matching or app.subdomain_matching
    of_class = getattr(app.request_class, "trusted_hosts", None)
    if trusted is None and of_class is None and not by_rule:
        return None
    return by_rule, repr(trusted), repr(of_class), app.config["SERVER_NAME"]


def _routes(
    app: flask.Flask, endpoints: Iterable[str], wrapped_wsgi_app: bool
) -> Iterator[tuple[str, Route]]:
    guard = guard_of(app)
    if wrapped_wsgi_app:
        guard = "another WSGI middleware stands between the cache and Flask"
    own_errors = changes_errors(app)
    for endpoint in endpoints:
        view = app.view_functions.get(endpoint)
        folder, hindrance = _folder(app, view)
        hindrance = hindrance or guard or hook_of(app, endpoint)
        yield endpoint, Route(view, folder, own_errors or answers_errors(app, endpoint), hindrance)


def _folder(app: flask.Flask, view: Any) -> tuple[str | None, str | None]:
    """Return the folder a stock view sends files from, else None and what is not stock."""
    owner: Any = None
    code = origin_of_code(view)
    if code in _STOCK_METHODS and type(view) is MethodType:
        owner = view.__self__
        if isinstance(owner, flask.Flask) and owner is not app:
            owner = None
    elif code == _STOCK_VIEW and inspect.getclosurevars(view).nonlocals["self_ref"]() is app:
        owner = app
    if owner is None:
        return None, f"its view {name_of(view)} is not Flask's own"
    # For a blueprint without a maximum age Flask asks the app.
    changed = overridden(owner, _STOCK_WAY) or overridden(app, _STOCK_WAY[1:2])
    if changed is not None:
        return None, changed
    max_age = _max_age(app)
    if max_age is not None and not isinstance(max_age, int):
        return None, f"SEND_FILE_MAX_AGE_DEFAULT is {max_age!r}"
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
