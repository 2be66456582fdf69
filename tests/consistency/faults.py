"""Where in the middle of a change does its process die?"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

POINTS = ("marked", "committed", "numbered")

_armed: ContextVar[str | None] = ContextVar("armed", default=None)


class FaultPoints:
    """Wraps the acts of *generations* that follow one another in a change: marks up, (COMMIT),
    new numbers, marks down."""

    def __init__(self, generations: Any) -> None:
        self._changing, self._bump = generations.changing, generations.bump
        generations.changing, generations.bump = self._mark, self._number

    @contextmanager
    def armed(self, point: str | None) -> Iterator[None]:
        """Let this process die at *point* of the next change made here, if one is given."""
        if point is not None and point not in POINTS:
            raise ValueError(f"no such point: {point}")
        token = _armed.set(point)
        try:
            yield
        finally:
            _armed.reset(token)

    def _mark(self, slots: Sequence[int]) -> Any:
        fence = self._changing(slots)
        _die_at("marked")
        return fence

    def _number(self, slots: Sequence[int]) -> None:
        _die_at("committed")  # a change that was marked is committed when its numbers are due
        self._bump(slots)
        _die_at("numbered")


def _die_at(point: str) -> None:
    if _armed.get() == point:
        os.kill(os.getpid(), signal.SIGKILL)
