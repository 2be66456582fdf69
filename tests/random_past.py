"""What requests change past the ORM's flush, and who they are."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from flask import abort
from flask_login import login_user, logout_user
from random_acts import At, act
from sqlalchemy.dialects import postgresql, sqlite

# SQL as people write it.
_FORMS = (
    "UPDATE {table} SET {column} = {value} WHERE id = {key}",
    'update "{table}" set {column} = {value}\nwhere id = {key}',
    "/* why */ WITH one AS (SELECT 1) UPDATE {table} SET {column} = {value} WHERE id = {key}",
    "DELETE FROM {table} WHERE id = {key}",
)


@act
def query_update(at: At, name: str, column: str, number: int, key: int, sync: Any) -> Any:
    mapped = at.models[name]
    found = at.session.query(mapped).filter(mapped.id >= key)
    return found.update({column: at.value(column, number)}, synchronize_session=sync)


@act
def query_delete(at: At, name: str, key: int, sync: Any) -> Any:
    found = at.session.query(at.models[name]).filter(at.models[name].id == key)
    return found.delete(synchronize_session=sync)


@act
def core_update(at: At, name: str, column: str, number: int, key: int, returning: bool) -> Any:
    table = at.models[name].__table__
    statement: Any = sa.update(table).where(table.c.id == key)
    statement = statement.values({column: at.value(column, number)})
    if returning:
        statement = statement.returning(table.c.id)
        return _past(at, at.session.scalars(statement).all())
    return _past(at, at.session.execute(statement).rowcount)


@act
def core_pairs(at: At, name: str, one: int, other: int, insert: bool) -> Any:
    table = at.models.db.metadata.tables[f"{at.models.prefix}_{name}"]
    columns = list(table.columns)[:2]
    statement: Any = sa.insert(table).values(dict(zip(columns, (one, other), strict=True)))
    if not insert:
        statement = sa.delete(table).where(columns[0] == one, columns[1] == other)
    return _past(at, at.session.execute(statement).rowcount)


@act
def upsert(at: At, name: str, key: int, number: int) -> Any:
    table = at.models[name].__table__
    dialect: Any = postgresql if at.models.db.engine.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).values(id=key, name=f"upserted{number}")
    statement = statement.on_conflict_do_update(
        index_elements=[table.c.id], set_={"name": f"upserted{number}"}
    )
    at.session.execute(statement)
    return _past(at, "upserted")


@act
def text_update(at: At, name: str, number: int, key: int, door: str) -> Any:
    column = {"Thing": "title"}.get(name, "name")
    table = at.models[name].__table__.name
    form = _FORMS[number % len(_FORMS)]
    sql = form.format(table=table, column=column, value=f"'text{number}'", key=key)
    if door == "session":
        done = at.session.execute(sa.text(sql)).rowcount
    elif door == "connection":
        done = at.session.connection().exec_driver_sql(sql).rowcount
    else:
        with at.models.db.engine.connect() as connection:
            done = connection.execute(sa.text(sql)).rowcount
            if door == "engine":
                connection.commit()
    return _past(at, done)


@act
def bulk(at: At, what: str, name: str, column: str, number: int, key: int) -> Any:
    """insert, update, mappings or many: of many rows at once, of which there are one or two."""
    mapped = at.models[name]
    title = "title" if name == "Thing" else "name"
    if what == "insert":
        at.session.execute(sa.insert(mapped), [{"id": key, title: f"bulk{number}"}])
    elif what == "update":
        at.session.execute(sa.update(mapped), [{"id": key, column: at.value(column, number)}])
    elif what == "many":
        table, value = mapped.__table__, at.value(column, number)
        statement = sa.update(table).where(table.c.id == sa.bindparam("key"))
        statement = statement.values({column: sa.bindparam("value", type_=table.c[column].type)})
        rows = [{"key": key, "value": value}, {"key": 3, "value": value}]
        at.session.connection().execute(statement, rows)
    else:
        at.session.bulk_update_mappings(mapped, [{"id": key, column: at.value(column, number)}])
    return _past(at, "done")


@act
def elsewhere(at: At, acts: list[Any]) -> Any:
    """Another session does these *acts* and commits, in the middle of what this one does."""
    return _past(at, at.site.elsewhere(acts))


@act
def login(at: At, key: int) -> Any:
    user = at.row(f"User:{key}")
    return "none" if user is None else login_user(user)


@act
def logout(at: At) -> Any:
    at.meet()
    return logout_user()


@act
def tell(at: At, what: str, key: int) -> Any:
    """clear, invalidate, changing."""
    if what == "clear":
        return at.site.cache.clear()
    if what == "invalidate":
        return at.site.cache.invalidate(key)
    with at.site.cache.changing(key):
        return None


@act
def fail(_at: At, how: str) -> Any:
    if how == "abort":
        abort(404)
    raise ValueError(how)


def _past(at: At, result: Any) -> Any:
    """Have the session know what was written past it, where it need not hold the same rows."""
    if at.models.left_out or at.models.features["load"]:
        at.session.expire_all()
    return result
