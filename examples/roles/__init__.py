"""A small Flask application with users, roles and abilities, and the user cache in front of it.

`flask --app examples.roles run` starts it, `python -m examples.roles.demo` measures it.
"""

from collections.abc import Mapping
from typing import Any

import click
from flask import Flask

from . import counting, demo_data, identity
from .extensions import db, user_cache
from .pages import pages

DEFAULTS = {
    "SECRET_KEY": "known to everybody: a real application keeps its own",
    "SESSION_COOKIE_SAMESITE": "Lax",  # no other site's form acts for somebody logged in here
    "SQLALCHEMY_DATABASE_URI": "sqlite:///roles.sqlite",
    "LAST_SEEN_EVERY": 60.0,  # seconds between two writes of users.last_seen
    "COUNTING": False,  # answer counting.COUNTS_PATH, to this machine only
    "USERCACHE_LOAD": ("roles", "roles.abilities"),
    "USERCACHE_VOLATILE": ("last_seen",),
    "USERCACHE_EXCLUDE": ("password_hash",),
    "USERCACHE_EXCLUDED_PATHS": ["/health"],
}


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Return the application, its database created and filled if it was empty.

    Settings come from DEFAULTS, then from ROLES_* in the environment, then from *config*.
    """
    app = Flask(__name__)
    app.config.from_mapping(DEFAULTS)
    app.config.from_prefixed_env("ROLES")
    app.config.from_mapping(config)

    db.init_app(app)
    identity.init_app(app)
    user_cache.init_app(app)
    app.register_blueprint(pages)
    app.add_url_rule("/health", "health", lambda: {"status": "up"})

    with app.app_context():
        if demo_data.seed():
            people = demo_data.log_ins()
            click.echo(f"New database. Log in with (name, password, roles):\n{people}")
    if app.config["COUNTING"]:
        counting.init_app(app)
    return app
