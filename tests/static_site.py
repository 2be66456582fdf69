"""An application with static files, a blueprint with others, and a view that tells how many were
answered before Flask. STATIC_SITE in the environment says where they are, and with what options of
the user cache, or None for none at all."""

from __future__ import annotations

import json
import os

from flask import Blueprint, Flask

from wsgi_usercache import UserCacheMiddleware


def create_app() -> Flask:
    site = json.loads(os.environ["STATIC_SITE"])
    app = Flask(__name__, static_folder=site["folder"], static_url_path="/static")
    quick = Blueprint("quick", __name__, static_folder=site["quick"], static_url_path="/quick")
    app.register_blueprint(quick)

    @app.get("/served")
    def served() -> tuple[str, dict[str, str]]:
        files = middleware.cache.stats().served if middleware is not None else 0
        return "in the head", {"X-Served": str(files)}

    middleware = None
    if site["options"] is not None:
        middleware = UserCacheMiddleware(app.wsgi_app, app, backend="process", **site["options"])
        app.wsgi_app = middleware  # type: ignore[method-assign]
    return app
