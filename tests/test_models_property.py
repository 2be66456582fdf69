"""Whatever the models and whatever is done to their rows, a user from the cache is as one from the
database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from postgres import database, postgres
from random_features import CHOICES, Features, features_of
from random_plans import plans
from random_site import Step
from random_twin import Sites, Twin
from sites import Clock

__all__ = ["database", "postgres"]

# What may differ, and how the runs are kept from showing it.
ALLOWED = {
    "a user from the cache has begun no transaction": (
        "connections are given back at once, so a roll-back before the first statement finds"
        " nothing to expire; `At.roll_back` has one to roll back"
    ),
    "what `load` names is loaded with the user": (
        "the loader of the other side reads it as well, and a session is told by `expire_all` of"
        " what was written past it"
    ),
    "what `volatile` and `exclude` name is loaded when it is read": (
        "a value set to what it was is then a change, so `At.value` makes up another; a user who"
        " is put out of the session could not load it"
    ),
    "a row that the session holds is used as it is": (
        "the loader's query would put its options on that row; users of such loaders are met first"
    ),
    "a user from the cache needs no database": (
        "nor does a transaction that has failed keep him away; `At.meet` asks for a connection"
    ),
    "on `bypass` the identity is made when it is asked for": (
        "what is asked for in the middle of a request meets what that did before: views there ask"
        " at once"
    ),
}

BOUNDED, SOAK = (16, 80), (48, 10_000)  # varieties of models, runs
soak = pytest.mark.soak


class Pair:
    """Sites with the cache, and their twins without."""

    def __init__(self, url: str, time_of_changes: Clock) -> None:
        self._sites = Sites(url, "c", cached=True)
        self._twin = Twin(url)
        self._time = time_of_changes
        self.counts: Counter[str] = Counter()

    def run(self, features: Features, plan: list[Step]) -> tuple[list[Any], list[Any]]:
        """What both see."""
        self._time.now += 60.0  # a COMMIT whose answer another run lost is settled
        self._twin.begin(features, plan)
        site = self._sites[features]
        before = site.cache.stats()
        seen = site.run(plan)
        after = site.cache.stats()
        self.counts["hits"] += after.hits - before.hits
        self.counts["asked"] += after.hits + after.misses - before.hits - before.misses
        event(f"hits: {min(after.hits - before.hits, 5)}")
        return seen, self._twin.seen()

    def close(self) -> None:
        self._sites.close()
        self._twin.close()


@pytest.fixture
def pair(tmp_path: Path, time_of_changes: Clock) -> Iterator[Pair]:
    pair = Pair(f"sqlite:///{tmp_path}/{{}}.db", time_of_changes)
    yield pair
    pair.close()


@pytest.fixture
def pair_on_postgres(database: sa.URL, time_of_changes: Clock) -> Iterator[Pair]:
    pair = Pair(database.render_as_string(hide_password=False), time_of_changes)
    yield pair
    pair.close()


def compare(pair: Pair, varieties: int, runs: int) -> None:
    """Run that many plans on both sides, and see the same."""

    @settings(max_examples=runs, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, varieties - 1), plans)
    def same(seed: int, plan: list[Step]) -> None:
        features = features_of(seed)
        seen, expected = pair.run(features, plan)
        for number, (one, other) in enumerate(zip_longest(seen, expected)):
            assert one == other, (number, _not_plain(features))

    same()
    assert pair.counts["hits"] > pair.counts["asked"] / 3, "the cache had little part in it"


def _not_plain(features: Features) -> Features:
    return {name: value for name, value in features.items() if value != CHOICES[name][0]}


@pytest.mark.parametrize(
    "size", [pytest.param(BOUNDED, id="bounded"), pytest.param(SOAK, id="soak", marks=soak)]
)
def test_users_from_the_cache_are_as_users_from_the_database(
    pair: Pair, size: tuple[int, int]
) -> None:
    compare(pair, *size)


@soak
def test_users_from_the_cache_are_as_users_from_postgresql(pair_on_postgres: Pair) -> None:
    compare(pair_on_postgres, BOUNDED[0], SOAK[1] // 2)
