"""What goes over the wire: raw WSGI calls with cookies exactly as written, and small apps."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from time import time
from typing import Any

from flask import Flask
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface, TaggedJSONSerializer
from flask_login import LoginManager, UserMixin, current_user
from itsdangerous import TimestampSigner, URLSafeTimedSerializer

from wsgi_usercache import UserCache
from wsgi_usercache.app_cache import Clocks

KEY = "first key"


@dataclass
class Clock:
    """A clock that is moved by hand."""

    now: float = field(default_factory=time)

    def __call__(self) -> float:
        return self.now


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: list[tuple[str, str]]
    body: str

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def cookie(self) -> str | None:
        """The session cookie this answer sets."""
        for each in self.all("Set-Cookie"):
            if each.startswith("session="):
                return each.partition(";")[0].removeprefix("session=")
        return None


def call(app: Flask, path: str = "/", cookie: str | None = None) -> Answer:
    """GET *path* with *cookie* as the whole Cookie header, as a server would call the app."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "example.org",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_USER_AGENT": "tests",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
    }
    if cookie is not None:
        environ["HTTP_COOKIE"] = cookie
    began: list[tuple[str, list[tuple[str, str]]]] = []
    chunks = app.wsgi_app(environ, lambda status, headers, *_: began.append((status, headers)))
    body = b"".join(chunks).decode()
    if hasattr(chunks, "close"):
        chunks.close()
    status, headers = began[-1]
    return Answer(int(status[:3]), list(headers), body)


def serializer_at(
    clock: Callable[[], float], *, key: Any = KEY, salt: str = "cookie-session"
) -> URLSafeTimedSerializer:
    """Flask's own serializer of session cookies, but signing and checking by *clock*."""

    class Signer(TimestampSigner):
        def get_timestamp(self) -> int:
            return int(clock())

    return URLSafeTimedSerializer(
        key,
        salt=salt,
        serializer=TaggedJSONSerializer(),
        signer=Signer,
        signer_kwargs={"key_derivation": "hmac", "digest_method": SHA1},
    )


SHA1 = SecureCookieSessionInterface.digest_method


def signed(
    data: dict[str, Any], *, age: float = 0, key: str = KEY, salt: str | None = None
) -> str:
    """A genuine session cookie, *age* seconds old."""
    serializer = serializer_at(lambda: time() - age, key=key, salt=salt or "cookie-session")
    return str(serializer.dumps(dict(sorted(data.items()))))  # Flask sorts its JSON


class CountingInterface(SecureCookieSessionInterface):
    """Flask's own cookie sessions, signatures and decoded payloads counted."""

    def __init__(self) -> None:
        self.digests = 0
        self.decoded = 0
        self.serializer = self

    def digest_method(self, data: bytes = b"") -> Any:
        self.digests += 1
        return SHA1(data)

    def dumps(self, value: Any) -> str:
        return TaggedJSONSerializer().dumps(value)

    def loads(self, value: str) -> Any:
        self.decoded += 1
        return TaggedJSONSerializer().loads(value)


class Store(SecureCookieSessionInterface):
    """Sessions kept on the server, openings and savings counted."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self.opened = 0
        self.saved = 0
        self.colour = "green"

    def open_session(self, app: Flask, request: Any) -> SecureCookieSession:
        self.opened += 1
        return SecureCookieSession(self.kept.get(request.cookies.get("session", ""), {}))

    def save_session(self, app: Flask, session: Any, response: Any) -> None:
        self.saved += 1
        if session.accessed:
            response.vary.add("Cookie")
        if session.modified:
            self.kept["s1"] = dict(session)
            response.set_cookie("session", "s1")


class User(UserMixin):
    """A user with nothing but an id."""

    def __init__(self, user_id: str) -> None:
        self.id = user_id


def login_app(loads: list[str], *, session_protection: str | None = None) -> Flask:
    """An app whose front page tells who asks. *loads* collects the calls of the user loader."""
    app = Flask(__name__, static_folder=None)
    app.secret_key = KEY
    login = LoginManager(app)
    login.session_protection = session_protection

    @login.user_loader
    def load(user_id: str) -> User | None:
        loads.append(user_id)
        return User(user_id) if user_id in ("ann", "bob") else None

    @app.get("/")
    def front() -> str:
        return str(current_user.get_id())

    return app


def with_cache(app: Flask, *, wall: Callable[[], float] | None = None, **options: Any) -> Flask:
    """*app* behind the user cache, which tells the age of cookies by *wall*."""
    cache = UserCache(**options)
    if wall is not None:
        cache.clocks = Clocks(wall=wall)
    cache.init_app(app)
    return app
