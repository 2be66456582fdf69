"""Who is asking, and what do they provide? As Flask-Login and Flask-Principal document it."""

from flask import Flask
from flask_login import current_user
from flask_principal import Identity, RoleNeed, UserNeed, identity_loaded

from .counting import tally
from .extensions import db, login_manager, principals
from .models import AnonymousUser, User

login_manager.login_view = "pages.login"
login_manager.anonymous_user = AnonymousUser


@login_manager.user_loader
def load_user(user_id: str) -> User | None:
    tally.add("user_loads")
    return db.session.get(User, int(user_id))


def on_identity_loaded(sender: Flask, identity: Identity) -> None:
    # Set the identity user object
    identity.user = current_user

    # Add the UserNeed to the identity
    if hasattr(current_user, "id"):
        identity.provides.add(UserNeed(current_user.id))

    # Assuming the User model has a list of roles, update the
    # identity with the roles that the user provides
    if hasattr(current_user, "roles"):
        for role in current_user.roles:
            identity.provides.add(RoleNeed(role.name))


def init_app(app: Flask) -> None:
    login_manager.init_app(app)
    principals.init_app(app)
    identity_loaded.connect(on_identity_loaded, app)
