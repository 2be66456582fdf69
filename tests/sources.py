"""An identity cache in front of a source that counts its loads and can be held up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from wsgi_usercache.generations import slot_of
from wsgi_usercache.generations.process import ProcessGenerations
from wsgi_usercache.identities import Entry, IdentityCache, Loaded

TTL = 30.0
PATIENCE = 10.0  # seconds after which a test that hangs is given up


class Clock:
    """A clock that stands until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def name(user: str) -> str:
    return f"user:{user}"


class Source:
    """Where users come from. Loads are counted, and can be held up."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"1": "old"}
        self.calls = 0
        self.held: set[int] = set()  # which loads, in their order, wait for `let_go`
        self.running = threading.Event()  # one of those has read its value
        self.let_go = threading.Event()
        self._lock = threading.Lock()

    def load(self, user: str = "1") -> Any:
        with self._lock:
            self.calls += 1
            number = self.calls
        value = self.values.get(user)
        if number in self.held:
            self.running.set()
            assert self.let_go.wait(PATIENCE)
        return value


class Ours:
    """An identity cache in front of a source."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.generations = ProcessGenerations(clock=self.clock)
        self.source = Source()
        options = {"ttl": TTL, "maxsize": 100, "clock": self.clock, "wait": PATIENCE} | options
        self.cache = IdentityCache(self.generations, **options)

    def entry_of(
        self, user: str = "1", load: Callable[[], Loaded] | None = None, **how: Any
    ) -> tuple[Entry | None, Loaded | None]:
        return self.cache.get_or_load(user, name(user), load or (lambda: self.load(user)), **how)

    def load(self, user: str = "1") -> Loaded:
        value = self.source.load(user)
        return Loaded(value, value)

    def get(self, user: str = "1", **how: Any) -> Any:
        entry, loaded = self.entry_of(user, **how)
        if loaded is not None:
            return loaded.user
        assert entry is not None
        return entry.frozen

    def invalidate(self, user: str = "1") -> None:
        self.generations.bump((slot_of(name(user)),))
