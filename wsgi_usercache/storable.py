"""What may be remembered, and shared between requests?"""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import ipaddress
import pathlib
import uuid
from collections.abc import Mapping
from types import MappingProxyType

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


# What to do about a reason, as the log says it. Those that pass by themselves are not here.
ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "in a transaction": "the load ran in a transaction that was open before it and does not"
        " show what is committed now; use READ COMMITTED, or a loader with a session of its own",
        "reads uncommitted": "READ UNCOMMITTED shows what may be rolled back; use READ COMMITTED",
        "identity map": "the session held rows before the load, and they may be older than it;"
        " do not keep sessions from request to request, or expire what they hold",
        "writes": "the user loader writes or locks rows; do that in a view or a before_request",
        "textual SQL": "nobody can tell what textual SQL reads; use select()",
        "schema_translate_map": "which tables are read differs from connection to connection",
        "session.info": "what is in session.info may differ from request to request",
        "autobegin off": "users can not be attached to a session with autobegin=False",
        "foreign session": "users live in another session than the app's; name theirs in"
        " USERCACHE_SESSION, or have the loader expunge them",
        "sharded": "a user loaded from a shard can not be given back without it",
        "attributes": "the loader hangs something on users that is no plain, immutable data",
        "detached": "a detached user can not load what USERCACHE_VOLATILE and USERCACHE_EXCLUDE"
        " leave out, nor a collection too long to keep; name that in USERCACHE_LOAD",
        "column values": "a column holds a value that can not be copied",
        "load event": "a listener for `load` raises for users that come from memory",
        "another id": "get_id() answers another id than the one the user logged in with",
        "not copyable": "copy.deepcopy() does not copy the user",
        "holds a proxy": "the user holds a proxy, which is somebody else in the next request",
        "holds a database row": "the user is no database row but holds one",
        "identity has attributes of its own": "only id, auth_type, provides and user are kept",
        "identity.user is not the user": "set it to current_user",
        "handlers changed the identity": "g.identity is another one after identity_loaded",
        "handlers change the user": "a handler of identity_loaded changes the user",
        "needs are not plain": "a need holds something that is no plain, immutable data",
        "too many identities": "one user has more identities than are kept with him",
    }
)
