"""What is an answer made of, and who can make a user of it again?"""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from .identities import Entry


class Run(Protocol):
    """The database's side of one recorded run."""

    @property
    def refusal(self) -> str | None:
        """Why what was read can not be remembered, or None."""

    def names(self, user: object) -> frozenset[str]:
        """What the answer rests on: the names of what was read on behalf of *user*."""

    def close(self) -> None:
        """Close the transactions this run opened, and nothing else."""


class Rows(Protocol):
    """Users that are database rows, and the connections of the request."""

    def known(self) -> frozenset[str]: ...
    def run(self) -> AbstractContextManager[Run]: ...
    def load_named(self, user: Any) -> None: ...
    def owns(self, user: object) -> bool: ...
    def goes_by(self, user: object, name: str) -> bool: ...
    def freeze(self, user: Any, run: Any, known_frozen: Any) -> object: ...
    def thaw(self, data: Any) -> object: ...
    def are_outdated(self, error: BaseException) -> bool: ...
    def holds_connection(self) -> bool: ...
    def pending(self) -> frozenset[int]: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What the user callback answered in this request, and the entry it came from or filled.

    *allowed* is what `vary` read: handlers may read it too.
    """

    key: Hashable
    entry: Entry
    user: object
    allowed: frozenset[str]


@dataclass(frozen=True, slots=True)
class Frozen:
    """A user's data, and who can make a user of it again."""

    thaws: Any  # Rows, or the module for plain objects
    data: object
