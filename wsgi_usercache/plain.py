"""How is a user kept that is no database row? As a deep copy nobody else holds."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from werkzeug.local import LocalProxy

from .storable import Unstorable, is_plain


def freeze(user: object) -> object:
    """A copy of *user*, to be copied again for each request.

    Raises `Unstorable` for what can not be copied (locks, connections) or must not be: a proxy
    means somebody else in the next request, a database row belongs to a session.
    """
    # deepcopy keeps every original it meets alive in a list under the memo's own id, as
    # documented for __deepcopy__ authors by copy.py itself; that list is what the user holds.
    memo: dict[int, Any] = {}
    copied = _copy(user, memo)
    if copied is user:
        raise Unstorable("not copyable")
    for kind in map(type, memo.get(id(memo), ())):
        if issubclass(kind, LocalProxy):
            raise Unstorable("holds a proxy")
        if hasattr(kind, "__mapper__"):
            raise Unstorable("holds a database row")
    return copied


def thaw(frozen: object) -> object:
    """A user of the request's own."""
    return _copy(frozen, {})


def _copy(value: object, memo: dict[int, Any]) -> object:
    try:
        return deepcopy(value, memo)
    except Exception as error:  # whatever the copied objects' own methods raise
        raise Unstorable("not copyable") from error


def same(one: object, other: object) -> bool:
    """Whether two users are alike through and through. Not sure means no."""
    try:
        return _same(one, other, {})
    except Exception:  # whatever the compared objects' own methods raise
        return False


_Met = dict[tuple[int, int], tuple[object, object]]  # keeps what it met, and so its ids, alive


def _same(one: Any, other: Any, met: _Met) -> bool:
    pair = id(one), id(other)
    if one is other or pair in met:
        return True
    if type(one) is not type(other):
        return False
    met[pair] = one, other
    if type(one) is dict:
        values = zip(one.values(), map(other.get, one), strict=True)
        return one.keys() == other.keys() and all(_same(*each, met) for each in values)
    if type(one) in (list, tuple):
        items = zip(one, other, strict=False)
        return len(one) == len(other) and all(_same(*each, met) for each in items)
    # Sets have no order to compare in; what copies itself in its own way compares so as well.
    if is_plain(one) or isinstance(one, (set, frozenset)) or hasattr(type(one), "__deepcopy__"):
        return is_plain(one) == is_plain(other) and bool(one == other)
    return _same(_parts(one), _parts(other), met)


def _parts(value: object) -> object:
    """What deepcopy makes a copy of *value* from."""
    reduced = value.__reduce_ex__(4)
    if isinstance(reduced, str):
        return reduced
    return [list(part) if isinstance(part, Iterator) else part for part in reduced]
