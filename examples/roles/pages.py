"""What does a visitor see? Home, log-in and log-out, the profile, who holds which role."""

import time
from datetime import UTC, datetime

from flask import (
    Blueprint,
    abort,
    current_app,
    flash,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required, login_user, logout_user
from flask_principal import AnonymousIdentity, Identity, Permission, RoleNeed, identity_changed
from sqlalchemy import select
from sqlalchemy.orm import selectinload

from .extensions import db
from .models import Role, User

pages = Blueprint("pages", __name__)
admin_permission = Permission(RoleNeed("admin"))

# Which ability opens which room, and its picture in static/img.
ROOMS = (
    ("Library", "read", "Everything ever filed, on open shelves.", "library.svg"),
    ("Archive", "read", "What was filed before there were shelves.", "archive.svg"),
    ("Writing desk", "write", "Paper, ink and a window to the north.", "desk.svg"),
    ("Print shop", "publish", "What leaves this room is read by all.", "press.svg"),
    ("Observatory", "explore", "The dome opens an hour after sunset.", "dome.svg"),
    ("Map room", "explore", "Mind the blank areas.", "map.svg"),
    ("Engine room", "operate", "Warm in winter. Loud all year.", "engine.svg"),
    ("Control room", "manage", "All the other keys hang here.", "control.svg"),
)


@pages.before_request
def note_last_seen() -> None:
    """Write users.last_seen now and then; the session knows when, so that asking is free."""
    if not current_user.is_authenticated:
        return
    now = time.time()
    if now - session.get("last_seen_written", 0.0) < current_app.config["LAST_SEEN_EVERY"]:
        return
    current_user.last_seen = datetime.now(UTC).replace(tzinfo=None)
    db.session.commit()
    session["last_seen_written"] = now


@pages.get("/")
@login_required
def home() -> ResponseReturnValue:
    return render_template("home.html", rooms=ROOMS)


@pages.get("/login")
def login() -> ResponseReturnValue:
    return render_template("login.html")


@pages.post("/login")
def log_in() -> ResponseReturnValue:
    username = request.form.get("username", "")
    user = db.session.scalar(select(User).where(User.username == username))
    if user is None or not user.has_password(request.form.get("password", "")):
        flash("That is not a name and password we know.")
        return render_template("login.html"), 401
    login_user(user, remember="remember" in request.form)
    session.pop("last_seen_written", None)
    identity_changed.send(current_app._get_current_object(), identity=Identity(user.id))
    return redirect(url_for("pages.home"))


@pages.post("/logout")
@login_required
def log_out() -> ResponseReturnValue:
    logout_user()
    for key in ("identity.id", "identity.auth_type", "last_seen_written"):
        session.pop(key, None)
    identity_changed.send(current_app._get_current_object(), identity=AnonymousIdentity())
    return redirect(url_for("pages.login"))


@pages.get("/profile")
@login_required
def profile() -> ResponseReturnValue:
    return render_template("profile.html")


@pages.post("/profile")
@login_required
def edit_profile() -> ResponseReturnValue:
    name = request.form.get("name", "").strip()
    if not name:
        flash("A name is needed.")
        return render_template("profile.html"), 400
    current_user.name = name
    current_user.motto = request.form.get("motto", "").strip()
    db.session.commit()
    flash("Saved.")
    return redirect(url_for("pages.profile"))


@pages.get("/admin")
@login_required
@admin_permission.require(403)
def admin() -> ResponseReturnValue:
    users = db.session.scalars(
        select(User).order_by(User.username).options(selectinload(User.roles))
    ).all()
    roles = db.session.scalars(select(Role).order_by(Role.name)).all()
    return render_template("admin.html", users=users, roles=roles)


@pages.post("/admin/<username>/<role_name>/<any(grant, revoke):change>")
@login_required
@admin_permission.require(403)
def change_role(username: str, role_name: str, change: str) -> ResponseReturnValue:
    user = db.session.scalar(select(User).where(User.username == username))
    role = db.session.scalar(select(Role).where(Role.name == role_name))
    if user is None or role is None:
        abort(404)
    if change == "grant" and role not in user.roles:
        user.roles.append(role)
    elif change == "revoke" and role in user.roles:
        user.roles.remove(role)
    db.session.commit()
    return redirect(url_for("pages.admin"))


@pages.app_errorhandler(403)
def forbidden(error: Exception) -> ResponseReturnValue:
    return render_template("forbidden.html"), 403
