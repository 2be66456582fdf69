"""How many connections does the application take from its pool, and who holds one?"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import sqlalchemy as sa


class Tally:
    """Named counts of one process, which all its threads add to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._mine = threading.local()  # a request stays in its thread

    def watch(self, engine: sa.Engine) -> None:
        """Count `checkouts`, the connections that are `out` now, and the `most_at_once`."""
        sa.event.listen(engine, "checkout", self._taken)
        sa.event.listen(engine, "checkin", self._given_back)

    def add(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    @property
    def holds_connection(self) -> bool:
        """Whether the request that asks has one."""
        return bool(getattr(self._mine, "held", 0))

    def read(self) -> Counter[str]:
        with self._lock:
            return self._counts.copy()

    def _taken(self, *_: Any) -> None:
        self._mine.held = getattr(self._mine, "held", 0) + 1
        with self._lock:
            self._counts["checkouts"] += 1
            self._counts["out"] += 1
            self._counts["most_at_once"] = max(self._counts["most_at_once"], self._counts["out"])

    def _given_back(self, *_: Any) -> None:
        self._mine.held -= 1
        with self._lock:
            self._counts["out"] -= 1
