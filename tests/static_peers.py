"""How do others answer the same requests? `python tests/static_peers.py` prints the table.

Compared are status, body and Content-Range only: in what form a peer writes its ETag or its
Cache-Control is a matter of taste. ETags in a request are the peer's own, and what we mean to
answer otherwise than Flask (`INTENDED`) is no deviation of a peer either.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flask
from servestatic import ServeStatic
from static_answers import Answer, Sites, behind, intended, without_range
from static_corpus import MALFORMED, PLACES, Request, build, requests
from whitenoise import WhiteNoise

Wrap = Callable[[flask.Flask], Any]


def peer(kind: Callable[..., Any]) -> Callable[[Path], Wrap]:
    """Return how *kind* is put before an app, as its documentation has it for Flask."""

    def before(root: Path) -> Wrap:
        def wrap(app: flask.Flask) -> Any:
            own = app.static_url_path or "/"
            app.wsgi_app = kind(app.wsgi_app, root=str(root / "app"), prefix=own.strip("/"))  # type: ignore[method-assign]
            for place in PLACES:
                if place.folder != "app":
                    app.wsgi_app.add_files(str(root / place.folder), prefix=place.prefix)  # type: ignore[attr-defined]
            return app.wsgi_app

        return wrap

    return before


OURS, WHITENOISE, SERVESTATIC = "this middleware", "WhiteNoise 6.12", "ServeStatic 4.4"
PEERS: dict[str, Callable[[Path], Wrap]] = {
    OURS: lambda _: behind,
    WHITENOISE: peer(WhiteNoise),
    SERVESTATIC: peer(ServeStatic),
}


def deviations(root: Path, asked: Sequence[Request]) -> dict[str, Counter[str]]:
    """Return how many requests each answers otherwise than Flask, by kind of deviation."""
    flask_alone = Sites(root)
    others = {name: Sites(root, make(root)) for name, make in PEERS.items()}
    counts: dict[str, Counter[str]] = {name: Counter() for name in PEERS}
    for request in asked:
        wanted = flask_alone.ask(request)
        meant = [seen(wanted)]
        if intended(request) is not None:
            meant.append(seen(flask_alone.ask(without_range(request))))
        for name, other in others.items():
            answer = _answer(other, request)
            if seen(answer) not in meant:
                counts[name][kind_of(Deviation(request, wanted.code, answer.code))] += 1
    return counts


def _answer(site: Sites, request: Request) -> Answer:
    try:
        return site.ask(request)
    except Exception as error:
        return Answer(f"500 {error!r}", (), b"")


def seen(answer: Answer) -> object:
    return answer.code, answer.body, answer.has("Content-Range")


@dataclass(frozen=True)
class Deviation:
    request: Request
    wanted: int  # what Flask answers
    got: int

    @property
    def range(self) -> str:
        return self.request.has("Range") or ""

    @property
    def is_for_bytes(self) -> bool:
        return self.range.partition("=")[0].strip().lower() == "bytes"

    @property
    def is_long_suffix(self) -> bool:
        last = self.range.removeprefix("bytes=-")
        return last.isdecimal() and last.strip("0") != ""


def kind_of(seen: Deviation) -> str:
    """Return what a deviation is, as it stands in the table."""
    for name, _, applies in KINDS:
        if applies(seen):
            return name
    return f"{seen.got} for {seen.wanted}"


#: What it is, with whom RFC 9110 sides, and how it is told. The first that applies.
KINDS: list[tuple[str, str, Callable[[Deviation], bool]]] = [
    ("an exception", "Flask", lambda d: d.got == 500),
    (
        "a file where Flask's routes have none",
        "",
        lambda d: d.wanted == 404 and d.got != 404,
    ),
    (
        "the app's own view for this path is not reached",
        "",
        lambda d: d.request.name == "viewed.css" or (d.request.method, d.wanted) == ("POST", 200),
    ),
    ("a WebSocket no route takes: the file, Flask: 400", "", lambda d: d.wanted == 400),
    ("OPTIONS: 405", "Flask, §9.3.7", lambda d: (d.wanted, d.got) == (200, 405)),
    ("405 without the app's error page", "neither", lambda d: d.wanted == d.got == 405),
    ("416 without the app's error page", "neither", lambda d: d.wanted == d.got == 416),
    (
        "`If-Match: *` holds, Flask: 412",
        "the peer, §13.1.1",
        lambda d: d.wanted == 412 and d.request.has("If-Match") == "*",
    ),
    ("If-Match is not looked at", "Flask, §13.1.1", lambda d: d.wanted == 412),
    (
        "If-None-Match that is malformed: 200, Flask: 304",
        "neither",
        lambda d: d.wanted == 304 and d.request.has("If-None-Match") in MALFORMED,
    ),
    (
        "If-None-Match with a list, `W/` or `*` is not understood",
        "Flask, §13.1.2",
        lambda d: d.wanted == 304,
    ),
    (
        "304 before a Range or after an If-Match that holds, Flask: 206, 416, 200",
        "the peer, §13.2.2",
        lambda d: d.got == 304,
    ),
    (
        "a range of an empty file: 416",
        "neither, §14.2",
        lambda d: d.request.name == "empty.txt" and d.got == 416,
    ),
    ("If-Range is not looked at", "Flask, §13.1.5", lambda d: d.wanted == 200),
    ("a range of one byte: 416", "Flask, §14.1.2", lambda d: (d.wanted, d.got) == (206, 416)),
    (
        "a unit in capitals, a space: the whole file",
        "neither, §14.2",
        lambda d: (d.wanted, d.got) == (206, 200),
    ),
    (
        "another unit than bytes: the whole file, Flask: 416",
        "the peer, §14.2",
        lambda d: (d.wanted, d.got) == (416, 200) and not d.is_for_bytes,
    ),
    (
        "a range that can not be read: the whole file, Flask: 416",
        "neither, §14.2",
        lambda d: (d.wanted, d.got) == (416, 200),
    ),
    (
        "more than all of the last bytes: all, Flask: 416",
        "the peer, §14.1.2",
        lambda d: (d.wanted, d.got) == (416, 206) and d.is_long_suffix,
    ),
    (
        "`1_0`, `+1`, `--1`, `-0` are numbers: 206",
        "Flask, §14.1.2",
        lambda d: (d.wanted, d.got) == (416, 206),
    ),
]


def table(root: Path) -> str:
    """Return the deviations of all as Markdown."""
    counts = deviations(root, requests())
    sides = {name: side for name, side, _ in KINDS}
    kinds = dict.fromkeys([*sides, *(k for each in counts.values() for k in each)])
    rows = [
        [kind, sides.get(kind, ""), *(str(each[kind]) for each in counts.values())]
        for kind in kinds
        if any(each[kind] for each in counts.values())
    ]
    rows.append(["all", "", *(str(each.total()) for each in counts.values())])
    head = [f"of {len(requests())} requests", "RFC 9110 sides with", *counts]
    lines = [head, ["---", "---"] + ["--:"] * len(counts), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        print(table(Path(folder)))
