"""What was asked for? Every option, its unit, its reason, and what makes it a wrong one."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from .lanes import PathPatterns, compile_patterns

PREFIX = "USERCACHE_"

_STATIC = ("auto", "serve", "bypass", "off")
_BACKENDS = ("process", "host")

_NO_PATHS = PathPatterns(())


def _is_seconds(value: Any) -> bool:
    """Whether *value* is a finite number of seconds, none among them."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 <= value <= sys.float_info.max


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_namespace(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", value) is not None


def _is_mode(value: Any) -> bool:
    return type(value) is int and 0o600 <= value <= 0o666 and value & 0o600 == 0o600


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "enabled": (_is_bool, "True or False"),
    "ttl": (lambda value: _is_seconds(value) and value > 0, "> 0 seconds"),
    "maxsize": (lambda value: type(value) is int and value >= 1, ">= 1 user"),
    "static": (lambda value: value in _STATIC, f"one of {_STATIC}"),
    "static_bytes": (lambda value: type(value) is int and value >= 0, ">= 0 bytes"),
    "check_interval": (_is_seconds, ">= 0 seconds"),
    "precompressed": (_is_bool, "True or False"),
    "follow_symlinks": (_is_bool, "True or False"),
    "vary": (lambda value: value is None or callable(value), "callable or None"),
    "session": (
        lambda value: value is None or callable(value),
        "a scoped_session, a callable or None",
    ),
    "user_class": (lambda value: value is None or isinstance(value, type), "a class or None"),
    "resign_interval": (_is_seconds, ">= 0 seconds"),
    "backend": (lambda value: value in _BACKENDS, f"one of {_BACKENDS}"),
    "namespace": (_is_namespace, "1 to 64 letters, digits and _.-"),  # part of a file's name
    "state_file": (
        lambda value: value is None or os.path.isabs(value),
        "an absolute path or None",
    ),
    "state_mode": (_is_mode, "0o600 to 0o666, its owner reads and writes"),
    "settle": (_is_seconds, ">= 0 seconds"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one app, checked. A wrong one is a `ValueError` naming setting and value."""

    enabled: bool = True  # False: everything exists and does nothing
    ttl: float = 30.0  # seconds; the longest a change nobody told us of goes unseen
    maxsize: int = 10_000  # users kept per process
    excluded_paths: PathPatterns = _NO_PATHS  # resolved only if something touches the user
    fresh_paths: PathPatterns = _NO_PATHS  # always loaded
    static: str = "auto"  # auto, serve, bypass, off
    static_bytes: int = 64 * 2**20  # bytes of small files kept in memory, per process
    check_interval: float = 1.0  # seconds after which a file is looked at again; 0: each time
    precompressed: bool = False  # serve a.css.br, .zst or .gz to clients that accept it
    follow_symlinks: bool = False  # serve what a link in the folder finds outside of it
    load: tuple[str, ...] = ()  # relationship paths kept with the user
    volatile: tuple[str, ...] = ()  # columns whose change alone does not count
    exclude: tuple[str, ...] = ()  # columns never kept in memory
    vary: Callable[[], str | None] | None = None  # what else tells one user id's answers apart
    session: Any = None  # a scoped_session, or what returns the session to thaw into
    user_class: type | None = None  # the mapped class, if it is not to be found by itself
    resign_interval: float = 60.0  # seconds an unchanged session's cookie is not signed again
    backend: str = "host"  # how far a change reaches: process, host
    namespace: str = "default"  # apps of one user and namespace meet in one state file
    state_file: str | None = None  # where it is, if not where the system keeps such files
    state_mode: int = 0o600  # 0o660 shares it with a group, on purpose
    settle: float = 10.0  # seconds the database may still work on a COMMIT whose sender died

    def __post_init__(self) -> None:
        for name, (is_right, rule) in _RULES.items():
            value = getattr(self, name)
            if not is_right(value):
                raise ValueError(f"{PREFIX}{name.upper()} must be {rule}, got {value!r}")


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
