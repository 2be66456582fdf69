"""What varies between applications, and the types of value their users have."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.mutable import MutableComposite

Features = dict[str, Any]

_LAZY = ("select", "selectin", "joined", "subquery")

# The plainest of each comes first.
CHOICES: dict[str, tuple[Any, ...]] = {
    "family": ("alone", "single", "joined", "party"),  # subclasses of the user, or above it
    "heirs": (1, 2),  # how many there are
    "polymorphic_load": (None, "inline", "selectin"),
    "login": ("id", "name"),  # what a user logs in with
    "loader": (
        "get", "select", "query", "eager", "slim", "undefer", "touch", "active", "through_team",
        "polymorphic", "criteria", "raising", "detached",
    ),
    "roles": ("one", "both", "apart", "seen"),  # which sides know of the other
    "friends": ("one", "both"),
    "things": ("list", "set", "keyed"),
    "thing_user": (False, True),
    "orphans": (False, True),
    "ondelete": (False, True),  # what the database does itself to rows that refer to others
    "team_members": (False, True),
    "staff": (False, True),
    "team_elsewhere": (False, False, True),  # in another database
    "lazy_roles": _LAZY,
    "lazy_abilities": _LAZY,
    "lazy_things": (*_LAZY, "immediate", "raise"),
    "lazy_team": _LAZY,
    "lazy_boss": _LAZY,
    "lazy_grants": _LAZY,
    "order": ("id", "name"),  # of the roles
    "spot": ("plain", "mutable"),
    "tags": ("json", "pickle"),
    "version": (False, True),
    "onupdate": (False, True),
    "deferred": (False, True),
    "properties": (False, True),
    "reconstructor": (False, True),
    "expire_on_commit": (True, False),
    "autoflush": (True, False),
    "handlers": (False, True),  # of Flask-Principal
    "maxsize": (10_000, 1),
    "load": (
        (), ("roles",), ("roles.abilities", "team"), ("things", "grants.role"), ("boss",),
        ("friends.roles",),
    ),
    "volatile": ((), ("born",), ("edits", "version", "born"), ("bio",), ("prefs",)),
    "exclude": ((), ("bio",), ("score", "settings"), ("Role.rank",), ("tags",)),
}  # fmt: skip

_RARE = 0.6  # of all applications do without each of these options
_OPTIONS = ("load", "volatile", "exclude", "maxsize")


def features_of(seed: int) -> Features:
    """The features that this seed stands for."""
    draw = random.Random(seed)
    features = {name: draw.choice(choices) for name, choices in CHOICES.items()}
    loaders = CHOICES["loader"]
    features["loader"] = loaders[seed % len(loaders)]  # each has its turn
    for option in _OPTIONS:
        if draw.random() < _RARE:
            features[option] = CHOICES[option][0]
    if "things" in features["load"] and (
        features["lazy_things"] == "raise" or features["loader"] == "raising"
    ):
        features["load"] = ()  # what may not be loaded lazily can not be kept
    if features["team_elsewhere"]:
        features["lazy_team"] = "select"  # no statement can join it
        if features["loader"] in ("through_team", "eager"):
            features["team_elsewhere"] = False
    return features


class Plan(enum.Enum):
    FREE = "free"
    PRO = "pro"


@dataclass(frozen=True)
class Point:
    x: int | None
    y: int | None


@dataclass
class MutablePoint(MutableComposite):
    x: int | None
    y: int | None

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        self.changed()
