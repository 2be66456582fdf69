"""The ways in which a program changes a user and commits."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa


def change(way: str, session: Any, user_class: Any, user_id: int, name: str) -> None:
    """Give the user another name; COMMIT has returned when this returns."""
    WAYS[way](session, user_class, user_id, name)
    session.commit()


def by_orm(session: Any, user_class: Any, user_id: int, name: str) -> None:
    session.get(user_class, user_id).name = name


def in_bulk(session: Any, user_class: Any, user_id: int, name: str) -> None:
    bulk = sa.update(user_class).where(user_class.id == user_id)
    session.execute(bulk.values(name=name), execution_options={"synchronize_session": False})


def by_core(session: Any, user_class: Any, user_id: int, name: str) -> None:
    users = user_class.__table__
    with session.get_bind(sa.inspect(user_class)).begin() as connection:
        connection.execute(sa.update(users).where(users.c.id == user_id).values(name=name))


def by_text(session: Any, _user_class: Any, user_id: int, name: str) -> None:
    text = sa.text("UPDATE users SET name = :name WHERE id = :id")
    session.execute(text, {"name": name, "id": user_id})


WAYS = {"orm": by_orm, "bulk": in_bulk, "core": by_core, "text": by_text}
