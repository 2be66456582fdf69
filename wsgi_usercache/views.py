"""What is asked of the request, by which names? Views that note it and pass for what they view."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any, Protocol

from werkzeug.datastructures import Headers, MultiDict

# Flask-Login keeps the request's user here, Flask-Principal the identity, Flask-SQLAlchemy its log
# of statements, Flask-SQLAlchemy-Lite its sessions: none of them makes an answer differ.
_NO_DIFFERENCE = frozenset(
    {"g._login_user", "g.identity", "g._sqlalchemy_queries", "g._sqlalchemy_sessions"}
)


class Observable(Protocol):
    """The session of a request, which can be shown through a view."""

    view: Any  # shown instead of the session, None for the session itself

    def opened(self) -> Any:
        """The session itself."""


class Seen:
    """The names read (`request.host`, `session['stamp']`, `g.tenant`) and written in a run."""

    def __init__(self) -> None:
        self.reads: set[str] = set()
        self.writes: set[str] = set()
        self.asked_for_user = False  # of Flask-Login
        self.has_shown_views = False  # of mappings, for which not all code takes them
        self.paused = False  # a library is at work, not loader or handlers

    def read(self, name: str) -> None:
        """Note that *name* was read."""
        if name == "g._login_user":
            self.asked_for_user = True
        if not self.paused and name not in _NO_DIFFERENCE:
            self.reads.add(name)

    def wrote(self, name: str) -> None:
        """Note that *name* was written."""
        if name == "g._login_user":
            self.paused = False  # Flask-Login is through
        if not self.paused and name not in _NO_DIFFERENCE:
            self.writes.add(name)

    def pause(self) -> None:
        """Note nothing more until `g._login_user` is set."""
        if self.paused:  # that did not come to pass: somebody went on, unseen, after an error
            self.reads.add("request")
        self.paused = True

    def refusal(self, allowed: frozenset[str] = frozenset()) -> str | None:
        """Why the answer may differ for another request, or None. Reading *allowed* is fine."""
        unseen = {"request"} if self.paused else set()
        reads = sorted((self.reads | unseen) - allowed)
        parts = [f"reads {', '.join(reads)}"] if reads else []
        parts += [f"leaves behind {', '.join(sorted(self.writes))}"] if self.writes else []
        return " and ".join(parts) or None


def unobserved(value: Any) -> Any:
    """What *value* is a view of, or *value* itself."""
    return object.__getattribute__(value, "_value") if type(value) is AttributesView else value


class AttributesView:
    """Attributes of an object, each noted; the items of its mappings one by one."""

    __slots__ = ("_name", "_seen", "_value")

    def __init__(self, value: Any, name: str, seen: Seen) -> None:
        object.__setattr__(self, "_value", value)
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_seen", seen)

    def __getattribute__(self, attribute: str) -> Any:
        value, name, seen = _parts(self)
        if name == "g" and attribute in ("get", "pop", "setdefault"):
            return getattr(_GlobalsMethods(value, seen), attribute)
        found = getattr(value, attribute)
        if attribute == "__class__":
            return found
        if isinstance(found, (Headers, MultiDict)):
            seen.has_shown_views = True
            return MappingView(found, f"{name}.{attribute}", seen)
        seen.read(f"{name}.{attribute}")
        return found

    def __setattr__(self, attribute: str, new: Any) -> None:
        value, name, seen = _parts(self)
        setattr(value, attribute, new)
        seen.wrote(f"{name}.{attribute}")

    def __delattr__(self, attribute: str) -> None:
        value, name, seen = _parts(self)
        delattr(value, attribute)
        seen.wrote(f"{name}.{attribute}")

    def __contains__(self, key: str) -> bool:
        value, name, seen = _parts(self)
        seen.read(f"{name}.{key}")
        return key in value

    def __iter__(self) -> Iterator[Any]:
        value, name, seen = _parts(self)
        seen.read(name)
        return iter(value)

    def __repr__(self) -> str:
        value, name, seen = _parts(self)
        seen.read(name)
        return repr(value)


def _parts(view: AttributesView) -> tuple[Any, str, Seen]:
    get = object.__getattribute__
    return get(view, "_value"), get(view, "_name"), get(view, "_seen")


class _GlobalsMethods:
    """The dict-like methods of `g`, noted by the name they are asked for."""

    def __init__(self, value: Any, seen: Seen) -> None:
        self._value = value
        self._seen = seen

    def get(self, name: str, default: Any = None) -> Any:
        self._seen.read(f"g.{name}")
        return self._value.get(name, default)

    def pop(self, name: str, *default: Any) -> Any:
        self._seen.wrote(f"g.{name}")
        return self._value.pop(name, *default)

    def setdefault(self, name: str, default: Any = None) -> Any:
        self._seen.read(f"g.{name}")
        if name not in self._value:
            self._seen.wrote(f"g.{name}")
        return self._value.setdefault(name, default)


class MappingView:
    """Headers, cookies, arguments: single items noted by key, anything else as the whole."""

    def __init__(self, value: Any, name: str, seen: Seen) -> None:
        self._value = value
        self._name = name
        self._seen = seen

    @property  # type: ignore[misc]  # isinstance() is to see what is viewed
    def __class__(self) -> Any:
        return type(self._value)

    def __eq__(self, other: object) -> bool:
        self._seen.read(self._name)
        return bool(self._value == other)

    def __or__(self, other: Any) -> Any:
        self._seen.read(self._name)
        return self._value | other

    def __repr__(self) -> str:
        self._seen.read(self._name)
        return repr(self._value)

    def __str__(self) -> str:
        self._seen.read(self._name)
        return str(self._value)

    def __reduce_ex__(self, protocol: Any) -> Any:  # copies are copies of what is viewed
        self._seen.read(self._name)
        return self._value.__reduce_ex__(protocol)

    def __getitem__(self, key: Any) -> Any:
        self._seen.read(f"{self._name}[{key!r}]")
        return self._value[key]

    def get(self, key: Any, *args: Any, **kwargs: Any) -> Any:
        self._seen.read(f"{self._name}[{key!r}]")
        return self._value.get(key, *args, **kwargs)

    def __contains__(self, key: Any) -> bool:
        self._seen.read(f"{self._name}[{key!r}]")
        return key in self._value

    def __setitem__(self, key: Any, new: Any) -> None:
        self._seen.wrote(f"{self._name}[{key!r}]")
        self._value[key] = new

    def __iter__(self) -> Iterator[Any]:
        self._seen.read(self._name)
        return iter(self._value)

    def __len__(self) -> int:
        self._seen.read(self._name)
        return len(self._value)

    def __getattr__(self, attribute: str) -> Any:
        self._seen.read(self._name)
        return getattr(self._value, attribute)


class SessionView(MutableMapping[str, Any]):
    """The session, its items noted by key."""

    def __init__(self, session: Observable, seen: Seen) -> None:
        self.__dict__["_session"] = session
        self.__dict__["seen"] = seen

    @property  # type: ignore[misc]  # isinstance() is to see what is viewed
    def __class__(self) -> Any:
        return type(self._session.opened())

    def __repr__(self) -> str:
        self.seen.read("session")
        return repr(self._session.opened())

    def __or__(self, other: Any) -> Any:
        self.seen.read("session")
        return self._session.opened() | other

    def __ror__(self, other: Any) -> Any:
        self.seen.read("session")
        return other | self._session.opened()

    def __reduce_ex__(self, protocol: Any) -> Any:  # copies are copies of what is viewed
        self.seen.read("session")
        return self._session.opened().__reduce_ex__(protocol)

    def __getitem__(self, key: str) -> Any:
        self.seen.read(f"session[{key!r}]")
        return self._session.opened()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.seen.wrote(f"session[{key!r}]")
        self._session.opened()[key] = value

    def __delitem__(self, key: str) -> None:
        self.seen.wrote(f"session[{key!r}]")
        del self._session.opened()[key]

    def __iter__(self) -> Iterator[str]:
        self.seen.read("session")
        return iter(self._session.opened())

    def __len__(self) -> int:
        self.seen.read("session")
        return len(self._session.opened())

    def __getattr__(self, attribute: str) -> Any:
        self.seen.read(f"session.{attribute}")
        return getattr(self._session.opened(), attribute)

    def __setattr__(self, attribute: str, value: Any) -> None:
        if attribute != "accessed":  # set by Flask each time anybody says `session`
            self.seen.wrote(f"session.{attribute}")
        setattr(self._session.opened(), attribute, value)
