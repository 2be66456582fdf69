"""A small site whose users are in PostgreSQL, here or in a process of its own, where it does what
it is told through a pipe: read, and change a name, but wait with the COMMIT until it may go."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import Flask
from flask_login import LoginManager, UserMixin, current_user, login_user
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from waiting import PATIENCE

from wsgi_usercache import UserCache

TTL = 3600.0  # seconds: whatever is seen here is not seen because of it


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)


class Member(UserMixin, db.Model):  # type: ignore[name-defined]
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Site:
    """The site. User 1 has logged in, and is remembered."""

    def __init__(self, url: str, state_file: Path, *, settle: float) -> None:
        self.loads = 0
        self.app = app = Flask("site")
        app.config.update(SECRET_KEY="k", SQLALCHEMY_DATABASE_URI=url, TESTING=True)
        db.init_app(app)
        LoginManager(app).user_loader(self._load)
        app.add_url_rule("/login", view_func=self._login)
        app.add_url_rule("/who", view_func=lambda: current_user.name)
        UserCache(app, backend="host", state_file=str(state_file), settle=settle, ttl=TTL)
        with app.app_context():
            self.engine = db.engine
        self._client = app.test_client()
        assert self._client.get("/login").text == "in"

    def read(self) -> tuple[str, int]:
        """The name a request sees, and how often it asked the database."""
        before = self.loads
        answer = self._client.get("/who")
        assert answer.status_code == 200
        return answer.text, self.loads - before

    def rename(self, name: str) -> str:
        """Change the name; say how the COMMIT ended."""
        with self.app.app_context():
            db.session.get_one(Member, 1).name = name
            db.session.flush()
            self.backend = db.session.scalar(sa.select(sa.func.pg_backend_pid()))
            try:
                db.session.commit()
            except sa.exc.OperationalError as error:
                return type(error).__name__
            return "done"

    def hold_commits(self, hold: Callable[[], None]) -> None:
        """Have *hold* called when a COMMIT is about to be sent, inside the fence."""

        def connected(driver: Any, _record: Any) -> None:
            commit = driver.commit

            def held_commit() -> None:
                hold()
                commit()

            driver.commit = held_commit

        sa.event.listen(self.engine, "connect", connected)
        self.engine.dispose()  # who is connected already would not be held

    def _load(self, user_id: str) -> Any:
        self.loads += 1
        return db.session.get(Member, int(user_id))

    def _login(self) -> str:
        login_user(db.session.get_one(Member, 1))
        return "in"


class Worker:
    """A site in a process of its own. *inside* is a command that runs what follows it."""

    def __init__(
        self, url: sa.URL, state_file: Path, *, settle: float, inside: Sequence[str] = ()
    ) -> None:
        program = [sys.executable, "-W", "error", __file__]
        arguments = [url.render_as_string(hide_password=False), str(state_file), str(settle)]
        path = os.pathsep.join(filter(None, sys.path))  # what can be imported here, can there
        self._process = subprocess.Popen(
            [*inside, *program, *arguments], bufsize=0, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        self._heard = b""
        self.pid = self._process.pid
        self.own_pid: int = self.hear()  # as it is called where it lives

    def ask(self, order: str, *arguments: Any) -> Any:
        """What it answers."""
        self.tell(order, *arguments)
        return self.hear()

    def read(self) -> tuple[str, int]:
        """As the site's own."""
        name, loads = self.ask("read")
        return name, loads

    def tell(self, order: str, *arguments: Any) -> None:
        """Let it do something."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([order, *arguments]).encode() + b"\n")

    def hear(self) -> Any:
        """What it says next."""
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._heard:
            assert select.select([pipe], [], [], PATIENCE)[0], "the worker hangs"
            said = os.read(pipe, 4096)
            assert said, "the worker has ended"
            self._heard += said
        line, _, self._heard = self._heard.partition(b"\n")
        return json.loads(line)

    def kill(self) -> None:
        """Kill it with SIGKILL, and reap it."""
        self._process.kill()
        self.await_end()

    def await_end(self) -> None:
        """Reap it once it is dead."""
        self._process.wait(PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def main() -> None:
    """Do what standard input says."""
    url, state_file, settle = sys.argv[1:]
    site = Site(url, Path(state_file), settle=float(settle))

    def hold() -> None:
        say(site.backend)
        (order,) = json.loads(sys.stdin.readline())
        if order == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        assert order == "go"

    site.hold_commits(hold)
    say(os.getpid())
    for line in iter(sys.stdin.readline, ""):
        order, *arguments = json.loads(line)
        say(getattr(site, order)(*arguments))
    site.engine.dispose()


def say(what: Any) -> None:
    """Tell the parent."""
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
