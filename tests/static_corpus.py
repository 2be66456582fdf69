"""Files with every oddity we know, and thousands of requests for them: always the same ones.

A request is data. `{etag}` and `{bare}` (the same without quotes) in its headers stand for the
ETag of its file, which depends on the folder.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

BIG = bytes(range(256)) * 1200  # 300 KiB, more than is kept in memory
ODD_NAMES = [
    *("naïve ☃.txt", "nai\u0308ve.txt", "😀.js", "\ufffd.css", "a b%20+;c.css", "%2e%2e"),
    *("a%2fb", 'quo"te.css', "back\\slash.css", "C:a.css", ".hidden", "archive.tar.gz", "a.svg"),
    *("page.html", "index.html", "noextension", "dot.", "...", "space ", "new\nline.css"),
    *("folder.css/inside.css", "static/a.css", "a.css.bak", f"{'n' * 251}.css"),
]
FILES = {
    "a.css": b"body { color: red }\n",
    "deep/er/app.js": b"export default 1\n",
    "empty.txt": b"",
    "one.txt": b"1",
    "posted.css": b"as well as a view for POST",
    "viewed.css": b"never seen, there is a view",
    "big.bin": BIG,
    **{name: f"this is {name}".encode() for name in ODD_NAMES},
}
LINKS = {"inside.css": "a.css", "deep/up.css": "../a.css", "deep/way": "er"}
LEAVING = {"outside.css": "../beside/shared.css", "out": "../beside"}  # links out of the folder
IN_THE_FOLDER = [*FILES, "inside.css", "deep/up.css", "deep/way/app.js"]
OUT_OF_IT = ["outside.css", "out/shared.css"]
NOT_SEEN = ["new\nline.css", "viewed.css"]  # the path converter matches no newline; a view
SECRET = b"beside the folder, and for nobody"

MTIME = 1_600_000_000.25  # seconds; what MODIFIED says and a quarter of a second
MODIFIED = "Sun, 13 Sep 2020 12:26:40 GMT"
OLD_FORMS = ["Sunday, 13-Sep-20 12:26:40 GMT", "Sun Sep 13 12:26:40 2020"]
EARLIER, LATER = "Thu, 01 Jan 1970 00:00:01 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
DATES = [MODIFIED, *OLD_FORMS, EARLIER, LATER, "Sun, 13 Sep 2020 12:26:41 GMT", "yesterday", "0"]
MALFORMED = ["{bare}", "x{etag}", '"', "", "**"]  # the first is understood all the same
TAGS = ["{etag}", '"no", {etag}', '{etag},"no"', "W/{etag}", "*", '"no"', *MALFORMED]

CONDITIONS = [
    *(("If-None-Match", value) for value in [*TAGS, 'W/"no"', "garbage, , {etag}"]),
    *(("If-Match", value) for value in TAGS),
    *(("If-Modified-Since", value) for value in DATES),
    *(("If-Unmodified-Since", value) for value in DATES),
]
IF_RANGES = ["{etag}", "W/{etag}", '"no"', "{bare}", *DATES, "*", ""]
HUGE = "9" * 30
RANGES = [
    *("bytes=0-0", "bytes=-1", "bytes=0-", "bytes=1-", "bytes=5-9", "bytes=0-999999999"),
    *("bytes=-0", "bytes=-999999999", "bytes=999999-", "bytes=307199-", "bytes=307200-"),
    *("bytes=5-2", "bytes=", "bytes=-", "bytes", "", "lines=0-1", "BYTES=0-1", "bytes 0-1"),
    *("bytes = 0-1", " bytes=0-1", "bytes= 0-1 ", "bytes=0 - 1", "bytes=\t0-1", "bytes=0-1;x"),
    *(f"bytes={HUGE}-", f"bytes=0-{HUGE}", f"bytes=-{HUGE}", "bytes=a-b", "bytes=1_0-", "none"),
    *("bytes=+1-2", "bytes=--1", "bytes=0x1-", "bytes=1.5-", "bytes=\xb2-3", "bytes=0-1=2"),
    *(f"bytes={'1' * 5000}-", "bytes=19-19", "bytes=20-", "bytes=0-19", "bytes=-20", "bytes=-21"),
]
MULTIPLE = [
    *("bytes=0-1,3-4", "bytes=0-0, 2-", "bytes=0-1,-1", "bytes=0-,5-6", "bytes=3-4,0-1"),
    *("bytes=0-1,", "bytes=,0-1", "bytes=0-1,a", "lines=0-1,3-4", "bytes=999999-,9999999-"),
    "bytes=0-1,1-2",
    "bytes=" + ",".join(f"{2 * i}-{2 * i}" for i in range(9)),
]
INDIFFERENT = [
    *(("Accept-Encoding", value) for value in ("gzip, br;q=0.9", "*", "identity;q=0", "zstd")),
    *(("Host", value) for value in ("example.org:8080", "", "a b<>", "[::1]", "xn--nxa.example")),
    *(("Accept", "application/json"), ("Cookie", "session=x"), ("Cache-Control", "no-cache")),
    *(("Connection", "Upgrade"), ("Upgrade", "h2c"), ("X-HTTP-Method-Override", "DELETE")),
]
WEBSOCKET = (("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket"))  # Flask: 400
METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"]
EVERY_METHOD = ["a.css", "posted.css", "viewed.css"]  # files that each of them is tried on

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Place:
    """A static route: what its URLs begin with, the folder behind it, the app it is in."""

    prefix: str
    folder: str
    app: str = "usual"


STATIC, REPORTS, INNER, ROOT = PLACES = [
    Place("/static/", "app"),
    Place("/reports/files/", "reports"),
    Place("/outer/inner/files/", "inner"),
    Place("/", "app", "at the root"),
]


@dataclass(frozen=True)
class Request:
    """*name* is the file that is meant, *path* what PATH_INFO has: bytes dressed as latin-1."""

    place: Place
    name: str
    method: str
    path: str
    headers: Headers = ()
    mount: str = ""  # SCRIPT_NAME

    @property
    def is_for_a_file(self) -> bool:
        """Whether it gets a file that lies in the folder by its one proper name."""
        lies_there = self.name in IN_THE_FOLDER and self.name not in NOT_SEEN
        proper = self.path == canonical(self.place, self.name) and self.method in ("GET", "HEAD")
        return lies_there and proper and self.has("Upgrade") != "websocket"

    def has(self, header: str) -> str | None:
        return dict(self.headers).get(header)

    def without(self, *names: str) -> Request:
        return replace(self, headers=tuple(h for h in self.headers if h[0] not in names))


def canonical(place: Place, name: str) -> str:
    return dressed(place.prefix + name)


def dressed(text: str) -> str:
    return text.encode().decode("latin-1")


def build(root: Path) -> None:
    """Make the folders of all places below *root*, as if written in 2020."""
    (root / "secret").write_bytes(SECRET)
    (root / "beside").mkdir()
    (root / "beside" / "shared.css").write_bytes(b"linked to on purpose")
    for folder in {place.folder for place in PLACES}:
        for name, content in FILES.items():
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for name, target in {**LINKS, **LEAVING}.items():
            (root / folder / name).symlink_to(target)
    for path in root.rglob("*"):
        os.utime(path, (MTIME, MTIME))


def spellings(place: Place, name: str) -> list[str]:
    """Return other ways to write a file's path; Flask resolves some of them."""
    file, prefix = dressed(name), place.prefix
    whole = prefix + file
    below = [
        *(f"/{file}", f"./{file}", f"x/../{file}", f"../{place.folder}/{file}", f"x/{file}"),
        *(f"{file}/", f"{file}//", f"{file}/.", f"{file}/..", f"{file}/../{file}", f"{file}/x"),
        *(f"%2e/{file}", f"x/%2e%2e/{file}", f"%2f{file}", f"\\{file}", f".\\{file}"),
        *(f"{file}\0", f"{file[:1]}\0{file[1:]}", f"\0{file}", f"{file}\\", f"{file}."),
        *(f"{file} ", f" {file}", f"{file}\n", f"{file}%00", f"{file}?x", f"{file}#x"),
        *(f"{file};v=1", file.swapcase(), f"\xff{file}", f"{file}\xe2\x98", f"C:/{file}"),
        *(f"C:\\{file}", f"c:{file}", "x/" * 2000 + file, "n" * 300 + file, f"deep/../{file}"),
    ]
    whole_paths = [f"/{whole}", f"//{whole}", whole[1:], f"/.{whole}", f"/x/..{whole}"]
    return [prefix + path for path in below] + [*whole_paths, whole.replace("/", "//")]


NOWHERE = [
    *(
        "",
        "..",
        ".",
        "../secret",
        "../../secret",
        "..\\secret",
        "%2e%2e/secret",
        "%2e%2e%2fsecret",
    ),
    *("x/../../secret", "./../secret", "//secret", "/etc/passwd", "//etc/passwd", "C:\\boot.ini"),
    *("C:/boot.ini", "\\\\host\\share", "deep", "deep/", "folder.css", "folder.css/", "missing"),
    *("\xff\xfe", "\xc0\xae\xc0\xae/secret", "out/../secret", "out/../../secret", "out/", "NUL"),
    *("~root", "file:///etc/passwd", "back/slash.css", "%00", "\0", "../beside/shared.css"),
]


def requests() -> list[Request]:
    return [*_conditional(), *_spelled(), *_elsewhere(), *_at_random(random.Random(9110))]


def _conditional() -> Iterator[Request]:
    """Every condition and every range by itself; then those that tell on each other."""
    ranged = ["bytes=0-0", "bytes=5-2", MULTIPLE[0]]
    for name in ("a.css", "big.bin", "empty.txt"):
        headers = [
            *([condition] for condition in CONDITIONS),
            *([("Range", value)] for value in RANGES + MULTIPLE),
            *([("Range", r), ("If-Range", value)] for r, value in product(ranged, IF_RANGES)),
            *([("Range", ranged[0]), condition] for condition in CONDITIONS[::3]),
            *([other] for other in INDIFFERENT),
            WEBSOCKET,
        ]
        for method, each in product(("GET", "HEAD"), headers):
            yield Request(STATIC, name, method, canonical(STATIC, name), tuple(each))


def _spelled() -> Iterator[Request]:
    for place, name in product(PLACES, (*IN_THE_FOLDER, *OUT_OF_IT)):
        for method in METHODS if name in EVERY_METHOD else ("GET", "HEAD"):
            yield Request(place, name, method, canonical(place, name))
    for place, name in product(PLACES, ("a.css", "naïve ☃.txt")):
        for path in spellings(place, name):
            yield Request(place, name, "GET", path)


def _elsewhere() -> Iterator[Request]:
    for place, path in product(PLACES, NOWHERE):
        yield Request(place, "a.css", "GET", place.prefix + path)
        yield Request(place, "a.css", "GET", place.prefix.rstrip("/") + path)
    for path in ("", "/", "*", "/static", "/Static/a.css", "/staticky/a.css", "/reports/a.css"):
        yield from (Request(STATIC, "a.css", method, path) for method in METHODS)


def _at_random(dice: random.Random) -> Iterator[Request]:
    for _ in range(1000):
        place, name = dice.choice(PLACES), dice.choice([*IN_THE_FOLDER, *OUT_OF_IT])
        path = canonical(place, name)
        if dice.random() < 0.2:
            path = dice.choice(spellings(place, name))
        headers = dict(dice.sample([*CONDITIONS, *INDIFFERENT], dice.randrange(4)))
        if dice.random() < 0.6:
            headers["Range"] = dice.choice(RANGES + MULTIPLE)
        if dice.random() < 0.3:
            headers["If-Range"] = dice.choice(IF_RANGES)
        if dice.random() < 0.03:
            headers |= WEBSOCKET
        method = dice.choice(METHODS) if dice.random() < 0.2 else dice.choice(["GET", "HEAD"])
        mount = dice.choice(["", "", "/mounted", "/static", "/a b\xff"])
        yield Request(place, name, method, path, tuple(headers.items()), mount)
