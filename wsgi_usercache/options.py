"""What was asked for? Every option, its unit, its reason, and what makes it a wrong one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from .lanes import PathPatterns, compile_patterns

PREFIX = "USERCACHE_"

_STATIC = ("auto", "serve", "bypass", "off")
_BACKENDS = ("process",)

_NO_PATHS = PathPatterns(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one app, checked. A wrong one is a `ValueError` naming setting and value."""

    enabled: bool = True  # False: everything exists and does nothing
    ttl: float = 30.0  # seconds; the longest a change nobody told us of goes unseen
    maxsize: int = 10_000  # users kept per process
    excluded_paths: PathPatterns = _NO_PATHS  # resolved only if something touches the user
    fresh_paths: PathPatterns = _NO_PATHS  # always loaded
    static: str = "auto"  # auto, serve, bypass, off
    load: tuple[str, ...] = ()  # relationship paths kept with the user
    volatile: tuple[str, ...] = ()  # columns whose change alone does not count
    exclude: tuple[str, ...] = ()  # columns never kept in memory
    vary: Callable[[], str | None] | None = None  # what else tells one user id's answers apart
    session: Any = None  # a scoped_session, or what returns the session to thaw into
    user_class: type | None = None  # the mapped class, if it is not to be found by itself
    resign_interval: float = 60.0  # seconds an unchanged session's cookie is not signed again
    backend: str = "process"  # how far a change reaches

    def __post_init__(self) -> None:
        _check(isinstance(self.enabled, bool), self, "enabled", "must be True or False")
        _check(_is_seconds(self.ttl) and self.ttl > 0, self, "ttl", "must be > 0 seconds")
        is_whole = type(self.maxsize) is int
        _check(is_whole and self.maxsize >= 1, self, "maxsize", "must be >= 1 user")
        _check(self.static in _STATIC, self, "static", f"must be one of {_STATIC}")
        _check(self.backend in _BACKENDS, self, "backend", f"must be one of {_BACKENDS}")
        _check(self.vary is None or callable(self.vary), self, "vary", "must be callable or None")
        _check(
            self.session is None or callable(self.session),
            self, "session", "must be a scoped_session, a callable or None",
        )  # fmt: skip
        _check(
            self.user_class is None or isinstance(self.user_class, type),
            self, "user_class", "must be a class or None",
        )  # fmt: skip
        _check(
            _is_seconds(self.resign_interval),
            self, "resign_interval", "must be >= 0 seconds",
        )  # fmt: skip


def read(config: Mapping[str, Any], arguments: Mapping[str, Any]) -> Options:
    """The options given as *arguments*, else as `USERCACHE_…` in *config*, else the defaults."""
    names = {field.name for field in fields(Options)}
    settings = {
        key.removeprefix(PREFIX).lower(): value
        for key, value in config.items()
        if key.startswith(PREFIX)
    }
    unknown = [f"{PREFIX}{name.upper()} = {settings[name]!r}" for name in settings.keys() - names]
    unknown += [f"{name} = {arguments[name]!r}" for name in arguments.keys() - names]
    if unknown:
        raise ValueError(
            f"unknown option {', '.join(sorted(unknown))}; there are {', '.join(sorted(names))}"
        )
    given = {**settings, **arguments}
    for name in given.keys() & {"excluded_paths", "fresh_paths"}:
        _check_list(name, given[name], "patterns")
        given[name] = compile_patterns(given[name], setting=f"{PREFIX}{name.upper()}")
    for name in given.keys() & {"load", "volatile", "exclude"}:
        given[name] = _names(name, given[name])
    return Options(**given)


def _is_seconds(value: object) -> bool:
    """Whether *value* is a finite number of seconds, none among them."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 <= value <= sys.float_info.max  # type: ignore[operator]  # a number


def _check(right: bool, options: Options, name: str, rule: str) -> None:
    if not right:
        raise ValueError(f"{PREFIX}{name.upper()} {rule}, got {getattr(options, name)!r}")


def _names(name: str, given: Any) -> tuple[str, ...]:
    _check_list(name, given, "names")
    names = tuple(given)
    for each in names:
        if not isinstance(each, str) or not all(map(str.isidentifier, each.split("."))):
            raise ValueError(f"{PREFIX}{name.upper()} has {each!r}, which is no attribute name")
    return names


def _check_list(name: str, given: object, items: str) -> None:
    """An iterator is refused: options are read more than once."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Collection):
        raise ValueError(f"{PREFIX}{name.upper()} must be a list of {items}, got {given!r}")
