"""A browser small enough to measure with: one kept-alive connection, a cookie jar, no cache."""

from dataclasses import dataclass
from html.parser import HTMLParser
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from time import perf_counter
from typing import Self
from urllib.parse import urlencode


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, and after how many seconds its last byte was here."""

    status: int
    body: bytes
    sets_cookie: bool
    seconds: float


class AssetFinder(HTMLParser):
    """Collects what a browser would fetch for a page, each once, in the page's order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, None] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        name = {"link": "href", "script": "src", "img": "src"}.get(tag)
        if name and (url := dict(attrs).get(name)):
            self.found[url] = None


def assets_of(page: bytes) -> list[str]:
    """Return the URLs of the style sheets, scripts and pictures *page* names."""
    finder = AssetFinder()
    finder.feed(page.decode())
    return list(finder.found)


class Browser:
    """Asks one server, as one person; used by one thread."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=20.0)
        self._cookies: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, path: str) -> Answer:
        return self._ask("GET", path, None)

    def post(self, path: str, **form: str) -> Answer:
        return self._ask("POST", path, urlencode(form))

    def log_in(self, username: str, password: str) -> None:
        answer = self.post("/login", username=username, password=password)
        if answer.status != 302:
            raise RuntimeError(f"log-in of {username} was answered with {answer.status}")

    def _ask(self, method: str, path: str, body: str | None) -> Answer:
        headers = {"Cookie": "; ".join(f"{k}={v}" for k, v in self._cookies.items())}
        if not self._cookies:
            headers = {}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        started = perf_counter()
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        content = response.read()
        seconds = perf_counter() - started
        set_cookies = response.headers.get_all("Set-Cookie", [])
        for line in set_cookies:
            for morsel in SimpleCookie(line).values():
                self._cookies[morsel.key] = morsel.coded_value
        return Answer(response.status, content, bool(set_cookies), seconds)
