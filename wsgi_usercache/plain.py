"""How is a user kept that is no database row? As a deep copy nobody else holds."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from werkzeug.local import LocalProxy

from .identities import Unstorable


def freeze(user: object) -> object:
    """A copy of *user*, to be copied again for each request.

    Raises `Unstorable` for what can not be copied (locks, connections) or must not be: a proxy
    means somebody else in the next request, a database row belongs to a session.
    """
    # deepcopy keeps every original it meets alive in a list under the memo's own id, as
    # documented for __deepcopy__ authors by copy.py itself; that list is what the user holds.
    memo: dict[int, Any] = {}
    try:
        copied = deepcopy(user, memo)
    except Unstorable:
        raise
    except Exception as error:
        raise Unstorable("not copyable") from error
    if copied is user:
        raise Unstorable("not copyable")
    for held in memo.get(id(memo), ()):
        if type(held) is LocalProxy:
            raise Unstorable("holds a proxy")
        if hasattr(type(held), "__mapper__") or hasattr(held, "_sa_instance_state"):
            raise Unstorable("holds a database row")
    return copied


def thaw(frozen: object) -> object:
    """A user of the request's own."""
    return deepcopy(frozen)
