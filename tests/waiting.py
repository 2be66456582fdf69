"""Waiting for what another process does."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Any

PATIENCE = 30.0  # seconds after which what is waited for will not come


def until(condition: Callable[[], Any], what: str) -> Any:
    """What *condition* returns as soon as that is true; AssertionError if it never is."""
    never, tries = Event(), int(PATIENCE / 0.005)
    for _ in range(tries):
        answer = condition()
        if answer:
            return answer
        never.wait(0.005)
    raise AssertionError(f"{PATIENCE:.0f} seconds have passed, and still not: {what}")
