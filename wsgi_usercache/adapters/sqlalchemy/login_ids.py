"""Under which log-in id was a row known before a change, and under which is it after?"""

from __future__ import annotations

from typing import Any

from sqlalchemy import inspect

from .mapped import is_user


class _Unknown:
    """Stands where a value is not loaded; a log-in id made of it fails instead of being wrong."""

    def _fail(self, *_: object) -> Any:
        raise LookupError("not loaded")

    __bool__ = __eq__ = __format__ = __hash__ = __int__ = __iter__ = __len__ = __repr__ = _fail
    __str__ = _fail

    def __getattr__(self, name: str) -> Any:
        raise LookupError(name)


_UNKNOWN = _Unknown()


def login_names(row: Any, *, old: bool) -> frozenset[str | None]:
    """The name the user *row* goes by, *old*: went by before its pending changes.

    None in it says that nobody knows; empty: it is no user, or had no row before. No SQL is sent,
    so that it can be asked during a flush.
    """
    if not is_user(row):
        return frozenset()
    state = inspect(row)
    if old and state.key is None:
        return frozenset()
    twin = state.mapper.class_manager.new_instance()
    twin.__dict__.update(_values(row, state, old))
    try:
        login_id = twin.get_id()
    except Exception:  # the application's own code, on a row that is not all there
        return frozenset({None})
    if not isinstance(login_id, (str, int)):
        return frozenset({None})
    return frozenset({f"user:{login_id}"})


def _values(row: Any, state: Any, old: bool) -> dict[str, Any]:
    values = {key: value for key, value in vars(row).items() if key != "_sa_instance_state"}
    for attr in (*state.mapper.column_attrs, *state.mapper.relationships):
        values.setdefault(attr.key, _UNKNOWN)
        if old:
            history = state.attrs[attr.key].history
            if history.has_changes() and not getattr(attr, "uselist", False):
                values[attr.key] = history.deleted[0] if history.deleted else _UNKNOWN
    return values
