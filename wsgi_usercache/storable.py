"""What may be remembered, and shared between requests?"""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import ipaddress
import pathlib
import uuid

NEW_TABLE = "new table"  # its number was not read before the load: the next one will be kept

_PLAIN = (
    str, bytes, int, float, complex, bool, type(None), range, decimal.Decimal, fractions.Fraction,
    datetime.date, datetime.time, datetime.timedelta, datetime.timezone, uuid.UUID,
    ipaddress.IPv4Address, ipaddress.IPv6Address, pathlib.PurePath, tuple, frozenset,
)  # fmt: skip


def is_plain(value: object) -> bool:
    """Whether *value* is immutable through and through, so that requests may share it."""
    kind = type(value)  # isinstance() would take a proxy for what it stands for at this moment
    if issubclass(kind, enum.Enum):
        return True
    # An instance of a subclass may carry attributes of its own; those anybody could change.
    if not issubclass(kind, _PLAIN) or getattr(value, "__dict__", None):
        return False
    return not isinstance(value, (tuple, frozenset)) or all(map(is_plain, value))


class Unstorable(Exception):
    """This answer can not be remembered; `reason` is the key it is counted under."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
