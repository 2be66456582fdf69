"""What does an application install? The middleware, or the same as a Flask extension."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from flask import Flask, current_app, has_app_context

from .app_cache import NAME, AppCache, Clocks
from .lanes import Explanation
from .middleware import Middleware
from .options import read
from .statistics import Stats

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class UserCache:
    """The user cache as a Flask extension. One object may serve several apps.

    Its methods act on the current app, else on the only one it was installed on; with neither
    they raise `RuntimeError`. Options are read in `init_app`: an argument there wins over one
    given to the constructor, which wins over `USERCACHE_<NAME>` in `app.config`.
    """

    clocks = Clocks()

    def __init__(self, app: Flask | None = None, **options: Any) -> None:
        self._options = options
        self._apps: WeakSet[Flask] = WeakSet()
        read({}, options)  # a wrong option is told where it is written
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, **options: Any) -> None:
        """Wrap `app.wsgi_app`. Nothing is opened, started or locked before the first use."""
        middleware = self._install(app, app.wsgi_app, options)
        app.wsgi_app = middleware  # type: ignore[method-assign]

    def invalidate(self, *users_or_ids: object) -> None:
        """Have these users loaded again by every request that starts from now on.

        Takes users and ids (`str(id)` is what counts); None and anonymous users are `ValueError`,
        an unknown id is fine. Before `commit()` is as good as after it.
        """
        self._cache().invalidate(*users_or_ids)

    def changing(self, *users_or_ids: object) -> AbstractContextManager[None]:
        """Fence a write that can not be seen (another driver, a stored procedure): while the
        block runs these users, or everybody if none is named, are loaded for each request."""
        return self._cache().changing(*users_or_ids)

    def clear(self) -> None:
        """Have everybody loaded again."""
        self._cache().clear()

    def stats(self) -> Stats:
        """The figures of this process."""
        return self._cache().stats()

    def explain(self, path: str, method: str = "GET", host: str | None = None) -> Explanation:
        """Which lane a request for *path* takes, and the rule that says so."""
        return self._cache().explain(path, method, host)

    def _install(
        self, app: Flask, wsgi_app: WSGIApplication, options: dict[str, Any]
    ) -> Middleware:
        if NAME in app.extensions:
            raise RuntimeError(f"a user cache is already installed on {app!r}")
        chosen = read(app.config, {**self._options, **options})
        cache = AppCache(app, chosen, wsgi_app, self.clocks)
        app.extensions[NAME] = cache
        self._apps.add(app)
        return cache.middleware

    def _cache(self) -> AppCache:
        apps = [app for app in self._apps if has_app_context() and app == current_app]
        apps = apps or list(self._apps)
        if len(apps) != 1:
            raise RuntimeError(
                f"which app is meant? This user cache serves {len(apps)}; push an app context."
            )
        cache: AppCache = apps[0].extensions[NAME]
        return cache


class UserCacheMiddleware:
    """The user cache as WSGI middleware.

        app.wsgi_app = UserCacheMiddleware(app.wsgi_app, app, excluded_paths=["/assets/*"])

    *options* are those of `UserCache`, which `cache` is.
    """

    def __init__(self, wsgi_app: WSGIApplication, app: Flask, **options: Any) -> None:
        self.cache = UserCache(**options)
        self._answer = self.cache._install(app, wsgi_app, {})

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self._answer(environ, start_response)
