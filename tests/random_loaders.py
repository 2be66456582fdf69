"""The ways in which applications look up their user."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from random_models import Models
from sqlalchemy.orm import (
    Session,
    joinedload,
    load_only,
    raiseload,
    selectinload,
    undefer,
    with_loader_criteria,
    with_polymorphic,
)

# Loaders whose query has options: what they ask for is not asked of a row the session holds.
WITH_OPTIONS = frozenset({"eager", "slim", "undefer", "criteria", "raising"})


def user_of(models: Models, user_id: str) -> Any:
    """The user who logs in with *user_id*, found as the feature `loader` has it."""
    style, session = models.features["loader"], models.db.session
    User = models["User"]
    by_name = models.features["login"] == "name"
    key = user_id if by_name else int(user_id)
    found = (User.name if by_name else User.id) == key
    if style == "get" and not by_name:
        return session.get(User, key)
    if style == "query":
        return session.query(User).filter(found).first()
    if style == "polymorphic":
        every = with_polymorphic(User, "*")
        found = (every.name if by_name else every.id) == key
        return session.scalars(sa.select(every).where(found)).unique().first()
    query = sa.select(User).where(found).options(*_options(models, style))
    if style == "through_team":
        query = query.join(models["Team"], User.team_id == models["Team"].id)
        query = query.where(models["Team"].name != "text1")
    if style == "detached":
        with Session(models.db.engine) as own:
            return own.scalars(query).unique().first()
    return _looked_at(session.scalars(query).unique().first(), style)


def _looked_at(user: Any, style: str) -> Any:
    if user is None or (style == "active" and not user.active):
        return None
    if style == "touch":
        user.team, [role.abilities for role in user.roles], user.prefs, user.blob
    return user


def _options(models: Models, style: str) -> list[Any]:
    User = models["User"]
    if style == "eager":
        return [
            selectinload(User.roles).selectinload(models["Role"].abilities),
            joinedload(User.team),
        ]
    if style == "slim":
        return [load_only(User.name, User.team_id, User.boss_id)]
    if style == "undefer":
        return [undefer(User.bio)]
    if style == "criteria":
        return [with_loader_criteria(models["Thing"], models["Thing"].title != "t2")]
    if style == "raising":
        return [raiseload(User.grants)]
    return []
