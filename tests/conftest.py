"""What tests of whole requests begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from sites import Clock, Site

from wsgi_usercache import UserCache
from wsgi_usercache.app_cache import Clocks
from wsgi_usercache.generations import reach
from wsgi_usercache.generations.host import HostGenerations
from wsgi_usercache.generations.process import ProcessGenerations

# How fast the machine is just now says nothing about what is tested.
settings.register_profile("bounded", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("soak", settings.get_profile("bounded"), max_examples=5_000)
settings.load_profile("bounded")


@pytest.fixture(autouse=True, scope="session")
def time_of_changes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clock]:
    """The clock of the numbers all apps of the process share, in a file no other run meets."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNTIME_DIRECTORY", str(tmp_path_factory.mktemp("runtime")))
        patch.setattr(reach, "ProcessGenerations", partial(ProcessGenerations, clock=clock.steady))
        patch.setattr(
            reach,
            "HostGenerations",
            partial(HostGenerations, clock_ns=lambda: int(clock.steady() * 1e9)),
        )
        yield clock


@pytest.fixture(autouse=True)
def _lost_changes_are_settled(time_of_changes: Clock) -> Iterator[None]:
    """A COMMIT whose answer one test loses keeps no marks standing for the tests after it."""
    yield
    time_of_changes.now += 60.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_cache(clock: Clock) -> Callable[..., UserCache]:
    """A user cache whose time is *clock*'s; keywords are its options."""

    class ClockedCache(UserCache):
        clocks = Clocks(steady=clock.steady)

    return ClockedCache


@pytest.fixture
def make_site(make_cache: Callable[..., UserCache]) -> Callable[..., Site]:
    """A site with the cache; keywords are options, `config` is for the app.

    `/file` and what is below it are excluded. *cached* False leaves the cache out.
    """

    def make(*, cached: bool = True, config: Any = None, **options: Any) -> Site:
        cache = make_cache(excluded_paths=["/file", "/file/*"], **options) if cached else None
        return Site(cache, **(config or {}))

    return make


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()
