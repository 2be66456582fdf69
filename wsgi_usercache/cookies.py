"""What does this session cookie say, and is it genuine? Verified once, its age checked on every
use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from hashlib import blake2b
from time import time

from cachetools import LRUCache
from itsdangerous import BadSignature, URLSafeTimedSerializer


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a verified session cookie says.

    *payload* is the session as it was signed, to be decoded anew for each request; *signed_at* is
    in whole seconds since the epoch, by the signer's clock.
    """

    payload: bytes
    signed_at: int


class SessionCookies:
    """The tickets of at most *maxsize* cookies.

    Anybody can write one genuine cookie in many ways (padding, quotes, other last letters), so
    cookies are known by the digest of their spelling, only after they were verified, and the
    least recently used are dropped. Threads share it.
    """

    def __init__(self, maxsize: int, *, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: Hashable = None
        self._tickets: LRUCache[Hashable, Ticket] = LRUCache(maxsize)

    def __len__(self) -> int:
        return len(self._tickets)

    def clear(self) -> None:
        """Verify every cookie again."""
        with self._lock:
            self._tickets.clear()

    def is_younger(self, ticket: Ticket, seconds: float) -> bool:
        """Whether less than *seconds* went by since it was signed, fractions included."""
        return 0 <= self._clock() - ticket.signed_at < seconds

    def read(self, raw: str, serializer: URLSafeTimedSerializer, max_age: int) -> Ticket | None:
        """Return what *raw* says, or None if it is not genuine, too old (*max_age* seconds) or
        signed in the future.

        Once the serializer's keys, its salt or its way to sign change, no remembered ticket is
        found again.
        """
        keys = self._keys_of(serializer)
        digest = blake2b(raw.encode("utf-8", "surrogatepass"), digest_size=20).digest()
        with self._lock:
            ticket = self._tickets.get((keys, digest))
        if ticket is None:
            ticket = _verify(raw, serializer)
            if ticket is None:
                return None
            with self._lock:
                self._tickets[keys, digest] = ticket
        age = int(self._clock()) - ticket.signed_at  # as itsdangerous counts
        return ticket if 0 <= age <= max_age else None

    def _keys_of(self, serializer: URLSafeTimedSerializer) -> Hashable:
        """All that the verdict on a cookie depends on, asked of the very object that gives it."""
        keys = (
            tuple(serializer.secret_keys),
            serializer.salt,
            *serializer.signer_kwargs.values(),
        )
        last = self._keys
        if keys != last:
            last = self._keys = keys
        return last  # one object for all tickets


def _verify(raw: str, serializer: URLSafeTimedSerializer) -> Ticket | None:
    """The serializer's own `loads`, taken apart: first who signed what and when, then whether the
    payload can be read."""
    for signer in serializer.iter_unsigners():
        try:
            payload, signed = signer.unsign(raw, return_timestamp=True)
            serializer.load_payload(payload)
        except BadSignature:
            continue
        except (ValueError, OverflowError, OSError):  # no text, or signed in no year there is
            return None
        return Ticket(payload, int(signed.timestamp()))
    return None
