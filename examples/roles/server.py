"""The demo's application under gunicorn: one process of ours that we start, reach and end."""

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from http.client import HTTPConnection
from pathlib import Path
from typing import Self

from .counting import COUNTS_PATH

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 20.0  # seconds for gunicorn to answer first, and again to end


class Server:
    """A gunicorn on a free loopback port, from entering the context to leaving it."""

    def __init__(self, folder: Path, *, enabled: bool) -> None:
        self.enabled = enabled
        self._database = folder / ("on.sqlite" if enabled else "off.sqlite")
        self._log_path = folder / ("on.log" if enabled else "off.log")

    def __enter__(self) -> Self:
        # The socket is bound here and inherited, so that nobody can take the port in between.
        with socket.create_server(("127.0.0.1", 0)) as listener, self._log_path.open("wb") as log:
            self.port = listener.getsockname()[1]
            self._process = subprocess.Popen(  # noqa: S603
                [
                    *(sys.executable, "-m", "gunicorn"),
                    *("--config", "python:examples.roles.gunicorn_conf"),
                    *("--bind", f"fd://{listener.fileno()}"),
                    "examples.roles:create_app()",
                ],
                cwd=ROOT,
                env=os.environ | self._settings(),
                pass_fds=(listener.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for the driver, which then ends this
            )
        try:
            self.counts()
        except BaseException as error:
            self._end()
            if isinstance(error, OSError):
                raise RuntimeError(f"gunicorn did not answer:\n{self.log()}") from error
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def counts(self) -> Counter[str]:
        """Return what the server has counted since its start."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", COUNTS_PATH, headers={"Connection": "close"})
            return Counter(json.load(connection.getresponse()))
        finally:
            connection.close()

    def log(self) -> str:
        """Return what gunicorn and the application wrote."""
        return self._log_path.read_text(errors="replace")

    def _settings(self) -> dict[str, str]:
        return {
            "ROLES_SQLALCHEMY_DATABASE_URI": f"sqlite:///{self._database}",
            "ROLES_USERCACHE_ENABLED": json.dumps(self.enabled),
            "ROLES_COUNTING": "true",
        }

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
