"""Sites by their features, and the same without the cache in another process."""

from __future__ import annotations

import traceback
import warnings
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from random_features import Features
from random_site import RandomSite, Step

from wsgi_usercache import UserCache


class Sites:
    """The sites of one process, each made when it is first asked for.

    *url* has a place for the name of a site; *side* is what its tables begin with.
    """

    def __init__(self, url: str, side: str, *, cached: bool) -> None:
        self._url = url
        self._side = side
        self._cached = cached
        self._sites: dict[str, RandomSite] = {}

    def __getitem__(self, features: Features) -> RandomSite:
        key = repr(sorted(features.items()))
        if key not in self._sites:
            self._sites[key] = self._made(features, f"{self._side}{len(self._sites)}")
        return self._sites[key]

    def _made(self, features: Features, name: str) -> RandomSite:
        options = {each: features[each] for each in ("load", "volatile", "exclude", "maxsize")}
        cache = UserCache(
            enabled=self._cached, backend="process", excluded_paths=["/file"],
            fresh_paths=["/fresh"], **options,
        )  # fmt: skip
        return RandomSite(features, name, self._url.format(name), cache, cached=self._cached)

    def close(self) -> None:
        for site in self._sites.values():
            site.close()


class Twin:
    """The same sites with the cache off, in a process of their own: else what is committed there
    would be told here, and changes that nobody told would go unnoticed."""

    def __init__(self, url: str) -> None:
        spawn = get_context("spawn")
        self._pipe, other = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(other, url), daemon=True)
        self._process.start()
        other.close()

    def begin(self, features: Features, plan: list[Step]) -> None:
        """Have it run *plan*."""
        self._pipe.send((features, plan))

    def seen(self) -> list[Any]:
        """What the run begun last saw."""
        seen, error = self._pipe.recv()
        assert error is None, error
        return seen  # type: ignore[no-any-return]

    def close(self) -> None:
        self._pipe.send(None)
        self._process.join(10)
        assert self._process.exitcode == 0


def _serve(pipe: Connection, url: str) -> None:
    warnings.simplefilter("ignore")
    sites = Sites(url, "t", cached=False)
    while (asked := pipe.recv()) is not None:
        features, plan = asked
        try:
            pipe.send((sites[features].run(plan), None))
        except Exception:
            pipe.send((None, traceback.format_exc()))
    sites.close()
